/* SPDX-License-Identifier: MIT */
/*
 * version.h, committing in two steps: what is frozen and not published is nobody's business, is changed alone, and
 * survives as far as the log does; what dies by it is found, all of it and nothing else.
 */
#include "support/support.h"

#include "version.h"

static uint32_t freeze(struct bench *bench)
{
	uint32_t version = 0;
	assert_ok(mojo_freeze(bench->store, "half", 4, NULL, NULL, &version));
	assert_int_equal(mojo_unpublished(bench->store), version);
	return version;
}

static void settle_put(struct bench *bench, uint32_t bucket, uint64_t offset, size_t length, uint64_t tag)
{
	uint8_t *buf = malloc(length);
	assert_non_null(buf);
	bench_fill(buf, length, tag);
	assert_ok(mojo_settle_write(bench->store, mojo_unpublished(bench->store), bucket, offset, buf, length));
	free(buf);
}

static void settle_resize(struct bench *bench, uint32_t bucket, uint64_t size)
{
	struct mojo_attr attr = { .size = size };
	assert_ok(
		mojo_settle_setattr(bench->store, mojo_unpublished(bench->store), bucket, MOJO_SET_SIZE, &attr, &attr));
	assert_int_equal(attr.size, size);
}

static void settle_unlink(struct bench *bench, const char *name)
{
	assert_ok(mojo_settle_unlink(bench->store, mojo_unpublished(bench->store), MOJO_ROOT_BUCKET, name));
}

static void publish(struct bench *bench)
{
	assert_ok(mojo_publish(bench->store, mojo_unpublished(bench->store)));
	assert_int_equal(mojo_unpublished(bench->store), 0);
}

static struct mojo_version_info info_of(struct bench *bench, uint32_t version)
{
	struct mojo_version_info info;
	assert_ok(mojo_version_find(bench->store, version, &info));
	assert_int_equal(info.version, version);
	return info;
}

/* A page whose content follows from how old it is. */
static uint64_t tag_of(unsigned page, unsigned age)
{
	return page * 1000ull + age;
}

static void put_page(struct bench *bench, uint32_t file, unsigned page, unsigned age)
{
	bench_put(bench, file, (uint64_t)page * BENCH_PAGE, BENCH_PAGE, tag_of(page, age));
}

static void settle_page(struct bench *bench, uint32_t file, unsigned page, unsigned age)
{
	settle_put(bench, file, (uint64_t)page * BENCH_PAGE, BENCH_PAGE, tag_of(page, age));
}

/* ---- two steps ------------------------------------------------------------------------------ */

static void test_an_unpublished_version_is_passed_over(void **state)
{
	struct bench *bench = *state;
	struct mojo_version_info info;
	uint32_t unused = 77;
	bench_commit(bench, "one");
	assert_int_equal(freeze(bench), 2);
	for (int turn = 0; turn < 3; turn++) {
		assert_ok(mojo_version_next(bench->store, 2, &info));
		assert_int_equal(info.version, 3);
		assert_true(info.active);
		assert_int_equal(bench_info(bench).frozen_versions, 1);
		assert_int_equal(bench_info(bench).unpublished_version, 2);
		assert_int_equal(bench_info(bench).oldest_version, 1);
		info = info_of(bench, 2);
		assert_true(info.unpublished);
		assert_false(info.settled);
		assert_string_equal(info.message, "half");
		/* One at a time. */
		assert_errno(mojo_commit(bench->store, "", 0, &unused), EAGAIN);
		assert_errno(mojo_freeze(bench->store, "", 0, NULL, NULL, &unused), EAGAIN);
		assert_int_equal(unused, 77);
		if (turn == 0) {
			bench_sync(bench);
			bench_crash(bench);
			bench_open(bench);
		} else {
			bench_reopen(bench);
		}
		assert_int_equal(mojo_unpublished(bench->store), 2);
	}
	publish(bench);
	assert_ok(mojo_version_next(bench->store, 2, &info));
	assert_int_equal(info.version, 2);
	assert_false(info.unpublished);
	assert_string_equal(info.message, "half");
	assert_int_equal(bench_info(bench).frozen_versions, 2);
	assert_int_equal(bench_commit(bench, "three"), 3);
}

static void test_only_the_unpublished_version_is_settled(void **state)
{
	struct bench *bench = *state;
	struct mojo_attr attr = { 0 };
	uint32_t file = bench_file(bench, "f");
	static const uint32_t others[] = { MOJO_ACTIVE, 1, 2, 3, MOJO_VERSION_MAX };
	bench_commit(bench, "one");
	for (int turn = 0; turn < 2; turn++) { /* without an unpublished version, and with version 2 as one */
		for (size_t i = 0; i < 5; i++) {
			if (others[i] == mojo_unpublished(bench->store) && others[i])
				continue;
			assert_errno(mojo_settle_write(bench->store, others[i], file, 0, "x", 1), ENOENT);
			assert_errno(mojo_settle_setattr(bench->store, others[i], file, MOJO_SET_SIZE, &attr, &attr),
				     ENOENT);
			assert_errno(mojo_settle_unlink(bench->store, others[i], MOJO_ROOT_BUCKET, "f"), ENOENT);
			assert_errno(mojo_publish(bench->store, others[i]), ENOENT);
		}
		if (turn == 0)
			assert_int_equal(freeze(bench), 2);
	}
	assert_false(info_of(bench, 2).settled);
	assert_errno(mojo_settle_write(bench->store, 2, file + 1, 0, "x", 1), ENOENT);
	assert_errno(mojo_settle_write(bench->store, 2, MOJO_ROOT_BUCKET, 0, "x", 1), EISDIR);
	assert_errno(mojo_settle_unlink(bench->store, 2, MOJO_ROOT_BUCKET, "g"), ENOENT);
}

static int look(void *arg)
{
	int *calls = arg;
	++*calls;
	return *calls < 3 ? -EBUSY : 0;
}

static void test_the_last_look_may_refuse(void **state)
{
	struct bench *bench = *state;
	uint32_t version = 77, file = bench_file(bench, "f");
	int calls = 0;
	bench_put(bench, file, 0, 100, 1);
	assert_errno(mojo_freeze(bench->store, "", 0, look, &calls, &version), EBUSY);
	assert_errno(mojo_freeze(bench->store, "", 0, look, &calls, &version), EBUSY);
	assert_int_equal(version, 77);
	assert_int_equal(bench_info(bench).active_version, 1);
	assert_int_equal(mojo_unpublished(bench->store), 0);
	assert_ok(mojo_freeze(bench->store, "", 0, look, &calls, &version));
	assert_int_equal(version, 1);
	assert_int_equal(calls, 3);
	bench_assert(bench, 1, file, 0, 100, 1);
}

static void test_settling_changes_that_version_alone(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f"), gone = bench_file(bench, "gone");
	bench_put(bench, file, 0, 20 * BENCH_PAGE, 1);
	bench_put(bench, gone, 0, 3 * BENCH_PAGE, 2);
	bench_commit(bench, "one");
	bench_put(bench, file, 5 * BENCH_PAGE, BENCH_PAGE, 3);
	uint64_t one = bench_fingerprint(bench, 1);
	assert_int_equal(freeze(bench), 2);
	uint64_t active = bench_fingerprint(bench, MOJO_ACTIVE);
	assert_true(bench_fingerprint(bench, 2) == active);
	settle_put(bench, file, 7 * BENCH_PAGE, BENCH_PAGE, 4);
	settle_put(bench, file, 100, 50, 5);
	settle_resize(bench, file, 12 * BENCH_PAGE + 7);
	settle_unlink(bench, "gone");
	/* The same pages, in the same open batch. */
	bench_put(bench, file, 7 * BENCH_PAGE, BENCH_PAGE, 6);
	active = bench_fingerprint(bench, MOJO_ACTIVE);
	uint64_t two = bench_fingerprint(bench, 2);
	for (int turn = 0; turn < 4; turn++) {
		struct mojo_attr attr;
		bench_assert(bench, 2, file, 7 * BENCH_PAGE, BENCH_PAGE, 4);
		bench_assert(bench, 2, file, 100, 50, 5);
		bench_assert(bench, 2, file, 5 * BENCH_PAGE, BENCH_PAGE, 3);
		assert_int_equal(bench_attr(bench, 2, file).size, 12 * BENCH_PAGE + 7);
		assert_int_equal(bench_attr(bench, 2, file).pages, 13);
		assert_errno(mojo_lookup(bench->store, 2, MOJO_ROOT_BUCKET, "gone", &attr), ENOENT);
		assert_errno(mojo_getattr(bench->store, 2, gone, &attr), ENOENT);
		bench_assert(bench, MOJO_ACTIVE, file, 7 * BENCH_PAGE, BENCH_PAGE, 6);
		assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).size, 20 * BENCH_PAGE);
		bench_assert(bench, MOJO_ACTIVE, gone, 0, 3 * BENCH_PAGE, 2);
		assert_true(bench_fingerprint(bench, 1) == one);
		assert_true(bench_fingerprint(bench, 2) == two);
		assert_true(bench_fingerprint(bench, MOJO_ACTIVE) == active);
		assert_int_equal(bench_info(bench).files, 2);
		assert_true(info_of(bench, 2).settled);
		if (turn == 0)
			bench_sync(bench);
		else if (turn == 1)
			bench_crash(bench), bench_open(bench);
		else if (turn == 2)
			bench_checkpoint(bench);
	}
	publish(bench);
	bench_reopen(bench);
	assert_true(bench_fingerprint(bench, 2) == two);
	assert_true(info_of(bench, 2).settled);
	/* And as a whole it goes like any other. */
	assert_ok(mojo_version_drop(bench->store, 2));
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
	assert_true(bench_fingerprint(bench, MOJO_ACTIVE) == active);
}

static void test_a_held_file_may_go_from_the_version_being_settled(void **state)
{
	struct bench *bench = *state;
	struct mojo_attr attr;
	uint32_t file = bench_file(bench, "f");
	bench_put(bench, file, 0, 100, 1);
	assert_ok(mojo_hold(bench->store, file));
	uint32_t version = freeze(bench);
	settle_unlink(bench, "f");
	assert_errno(mojo_getattr(bench->store, version, file, &attr), ENOENT);
	bench_assert(bench, MOJO_ACTIVE, file, 0, 100, 1);
	publish(bench);
	assert_ok(mojo_release(bench->store, file));
	bench_assert(bench, MOJO_ACTIVE, file, 0, 100, 1);
}

static void cut_power(struct bench *bench)
{
	bench_power_cut(bench);
	assert_ok(mojo_io_memory_track(bench->io));
	bench_open(bench);
}

static void test_a_freeze_is_durable_by_what_follows(void **state)
{
	struct bench *bench = *state;
	assert_ok(mojo_io_memory_track(bench->io));
	uint32_t file = bench_file(bench, "f");
	bench_put(bench, file, 0, 100, 1);
	bench_sync(bench);
	uint64_t flushes = bench_info(bench).flushes;
	freeze(bench);
	assert_int_equal(bench_info(bench).flushes, flushes);
	cut_power(bench); /* it never was */
	assert_int_equal(mojo_unpublished(bench->store), 0);
	assert_int_equal(bench_info(bench).active_version, 1);

	freeze(bench);
	settle_put(bench, file, 0, 10, 2);
	bench_sync(bench);
	settle_put(bench, file, 10, 10, 3); /* lost with the power */
	cut_power(bench);
	assert_int_equal(mojo_unpublished(bench->store), 1);
	bench_assert(bench, 1, file, 0, 10, 2);
	bench_assert(bench, MOJO_ACTIVE, file, 0, 100, 1);
	uint8_t was[100], is[100];
	size_t got;
	bench_fill(was, sizeof(was), 1);
	assert_ok(mojo_read(bench->store, 1, file, 0, is, sizeof(is), &got));
	assert_memory_equal(is + 10, was + 10, 90);

	settle_put(bench, file, 10, 10, 3);
	bench_put(bench, file, 50, 10, 4);
	flushes = bench_info(bench).flushes;
	publish(bench); /* the one flush, for both */
	assert_int_equal(bench_info(bench).flushes, flushes + 1);
	cut_power(bench);
	assert_int_equal(mojo_unpublished(bench->store), 0);
	assert_false(info_of(bench, 1).unpublished);
	bench_assert(bench, 1, file, 10, 10, 3);
	bench_assert(bench, MOJO_ACTIVE, file, 50, 10, 4);
}

static void test_a_commit_that_is_given_up_leaves_nothing(void **state)
{
	struct bench *bench = *state;
	struct mojo_attr attr;
	uint32_t file = bench_file(bench, "f");
	bench_put(bench, file, 0, 10 * BENCH_PAGE, 1);
	bench_checkpoint(bench);
	for (int turn = 0; turn < 3; turn++) {
		uint32_t version = freeze(bench);
		settle_put(bench, file, 0, 10 * BENCH_PAGE, 2);
		if (turn == 1)
			bench_sync(bench);
		if (turn == 2)
			bench_checkpoint(bench);
		settle_put(bench, file, 3 * BENCH_PAGE, 10 * BENCH_PAGE, 3); /* waits in the open batch */
		settle_resize(bench, file, 5);
		assert_ok(mojo_version_drop(bench->store, version));
		assert_int_equal(mojo_unpublished(bench->store), 0);
		assert_errno(mojo_getattr(bench->store, version, file, &attr), ENOENT);
		bench_crash(bench);
		bench_open(bench);
		assert_int_equal(mojo_unpublished(bench->store), 0);
		bench_assert(bench, MOJO_ACTIVE, file, 0, 10 * BENCH_PAGE, 1);
		bench_checkpoint(bench);
		bench_assert_accounts(bench, false);
	}
	assert_int_equal(bench_info(bench).frozen_versions, 0);
}

/* ---- what dies ------------------------------------------------------------------------------ */

static bool is_dead(struct bench *bench, uint64_t address)
{
	bool dead;
	assert_ok(mojo_space_is_dead(&bench->store->space, address, &dead));
	return dead;
}

/* A page that both have: it dies when the second of them lets go, and not before. */
static void test_who_lets_go_last_finds_the_death(void **state)
{
	struct bench *bench = *state;
	enum { PAGES = 4 };
	uint32_t file = bench_file(bench, "f");
	uint64_t address[PAGES];
	bench_put(bench, file, 0, PAGES * BENCH_PAGE, 1);
	bench_sync(bench);
	for (uint64_t i = 0; i < PAGES; i++)
		address[i] = bench_address(bench, file, i);
	freeze(bench);
	settle_put(bench, file, 0, BENCH_PAGE, 2);
	bench_sync(bench);
	assert_false(is_dead(bench, address[0]));
	bench_put(bench, file, 0, BENCH_PAGE, 3); /* the active one after it, in another group */
	bench_sync(bench);
	assert_true(is_dead(bench, address[0]));

	bench_put(bench, file, BENCH_PAGE, BENCH_PAGE, 3);
	bench_sync(bench);
	assert_false(is_dead(bench, address[1]));
	settle_resize(bench, file, BENCH_PAGE); /* the settled one after it; page 3 by the way */
	assert_true(is_dead(bench, address[1]));
	assert_false(is_dead(bench, address[3]));

	bench_put(bench, file, 2 * BENCH_PAGE, BENCH_PAGE, 3);
	bench_sync(bench);
	assert_true(is_dead(bench, address[2]));
	publish(bench); /* published makes no difference */
	assert_ok(bench_resize(bench, file, 3 * BENCH_PAGE));
	assert_true(is_dead(bench, address[3]));
	/* What settling itself wrote and replaced has had no other holder. */
	freeze(bench);
	settle_put(bench, file, 0, BENCH_PAGE, 4);
	bench_sync(bench);
	struct mojo_map_entry entry;
	size_t count;
	assert_ok(mojo_map(bench->store, mojo_unpublished(bench->store), file, 0, &entry, 1, &count));
	settle_put(bench, file, 0, BENCH_PAGE, 5);
	bench_sync(bench);
	assert_true(is_dead(bench, entry.address));
}

/* Kept versions before it: those that were not settled hold all that was there; the settled ones are asked. */
static void test_older_versions_hold_what_they_have(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	bench_put(bench, file, 0, 3 * BENCH_PAGE, 1);
	bench_commit(bench, "holds page 0");
	bench_put(bench, file, BENCH_PAGE, 2 * BENCH_PAGE, 2);
	bench_sync(bench);
	uint64_t held = bench_address(bench, file, 0), passed = bench_address(bench, file, 1),
		 kept = bench_address(bench, file, 2);
	for (int i = 0; i < 3; i++) { /* three in a row that all have let go of page 1 */
		freeze(bench);
		settle_put(bench, file, 0, 2 * BENCH_PAGE, 3);
		publish(bench);
		assert_false(is_dead(bench, held));
		assert_false(is_dead(bench, passed));
	}
	for (int turn = 0; turn < 2; turn++) {
		assert_int_equal(bench->store->main.held, 1);
		assert_int_equal(bench->store->settled.count, 3);
		bench_reopen(bench);
	}
	bench_put(bench, file, 0, 3 * BENCH_PAGE, 4);
	bench_sync(bench);
	assert_true(is_dead(bench, passed));
	assert_false(is_dead(bench, held));
	assert_false(is_dead(bench, kept));
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
}

/* Without a drop nothing is ever marked: what is not found at once is leaked for good, and seen here. */
static void test_no_death_is_missed(void **state)
{
	enum { ROUNDS = 40 };
	struct bench *bench = *state;
	struct dice dice = dice_new("deaths");
	uint32_t files[4];
	for (unsigned i = 0; i < 4; i++) {
		char name[8];
		snprintf(name, sizeof(name), "f%u", i);
		files[i] = bench_file(bench, name);
		bench_put(bench, files[i], 0, 300 * BENCH_PAGE, i);
	}
	for (int round = 0; round < ROUNDS; round++) {
		bool frozen = mojo_unpublished(bench->store) != 0;
		for (int i = 0; i < 30; i++) {
			uint32_t file = files[dice_below(&dice, 4)];
			uint64_t page = dice_below(&dice, 300);
			unsigned pages = 1 + dice_below(&dice, 60);
			size_t length = pages * (size_t)BENCH_PAGE;
			switch (dice_below(&dice, 12)) {
			case 0:
				assert_ok(bench_resize(bench, file, page * BENCH_PAGE));
				break;
			case 1:
				if (frozen)
					settle_resize(bench, file, page * BENCH_PAGE);
				break;
			case 2:
				bench_stir(bench, &dice, 3, false);
				break;
			case 3:
			case 4: /* something that is there, or was */
				for (unsigned k = 0; k < pages && frozen; k++)
					settle_page(bench, file, (unsigned)page + k, i % 3u);
				break;
			case 5:
				for (unsigned k = 0; k < pages; k++)
					put_page(bench, file, (unsigned)page + k, i % 3u);
				break;
			case 6:
				if (frozen)
					settle_put(bench, file, page * BENCH_PAGE, length, dice_next(&dice));
				break;
			default:
				bench_put(bench, file, page * BENCH_PAGE, length, dice_next(&dice));
			}
		}
		uint64_t all = bench_fingerprint_all(bench);
		switch (dice_below(&dice, 4)) {
		case 0:
			bench_sync(bench);
			bench_crash(bench);
			bench_open(bench);
			break;
		case 1:
			bench_reopen(bench);
			break;
		}
		bench_checkpoint(bench);
		bench_assert_accounts(bench, false);
		assert_false(bench->store->mark_pending);
		assert_true(bench_fingerprint_all(bench) == all);
		if (mojo_unpublished(bench->store))
			publish(bench);
		else if (dice_below(&dice, 4) == 0)
			bench_commit(bench, "whole");
		else
			freeze(bench);
	}
}

/* ---- what versions share -------------------------------------------------------------------- */

static struct mojo_map_entry entry_in(struct bench *bench, uint32_t version, uint32_t file, uint64_t page)
{
	struct mojo_map_entry entry;
	size_t count;
	assert_ok(mojo_map(bench->store, version, file, page, &entry, 1, &count));
	assert_int_equal(count, 1);
	assert_int_equal(entry.page, page);
	return entry;
}

/* How many blobs of slots the index of all versions has. */
static unsigned slots_on_disk(struct bench *bench, uint32_t file, uint32_t number)
{
	struct tally seen = { 0 };
	uint8_t key[9] = { MOJO_KEY_SLOT };
	mojo_put_be32(key + 1, file);
	mojo_put_be32(key + 5, number);
	unsigned count = 0;
	for (uint32_t version = 1; version <= bench->store->active; version++) {
		struct mojo_tree storage, *tree;
		struct mojo_cell cell;
		if (mojo_view(bench->store, version, &storage, &tree) != 0 ||
		    mojo_tree_get(tree, key, sizeof(key), &cell) != 0 || mojo_ref_is_null(cell.value))
			continue;
		assert_false(mojo_ref_in_memory(cell.value));
		uint64_t address = mojo_ref_decode(cell.value).address;
		count += !tally_of(&seen, address);
		tally_add(&seen, address, 1);
	}
	tally_free(&seen);
	return count;
}

/*
 * A database whose WAL is not brought back: in each version all that is in the WAL is folded in anew, and that is what
 * the version before has, but for one page. So a version costs that page, whatever the WAL's length.
 */
static void test_a_version_costs_what_differs_from_the_one_before(void **state)
{
	struct bench *bench = *state;
	enum { PAGES = 130, VERSIONS = 150 };
	unsigned age[PAGES] = { 0 };
	uint32_t file = bench_file(bench, "db"), wal = bench_file(bench, "db-wal");
	for (unsigned i = 0; i < PAGES; i++)
		put_page(bench, file, i, 0);
	for (unsigned i = 1; i <= VERSIONS; i++) {
		unsigned changed = i * 7 % PAGES;
		age[changed] = i;
		put_page(bench, wal, i, i);
		bench_sync(bench);
		uint32_t version = freeze(bench);
		uint64_t before = bench->store->log.pages_written;
		for (unsigned page = 0; page < PAGES; page++)
			if (age[page])
				settle_page(bench, file, page, age[page]);
		if (i % 10 == 0)
			bench_sync(bench);
		if (i % 20 == 0) { /* what is replayed is the same */
			uint64_t all = bench_fingerprint_all(bench);
			bench_crash(bench);
			bench_open(bench);
			assert_true(bench_fingerprint_all(bench) == all);
			before = bench->store->log.pages_written - 1;
		}
		settle_unlink(bench, "db-wal");
		publish(bench);
		assert_int_equal(bench->store->log.pages_written - before, 1);
		assert_int_equal(entry_in(bench, version, file, changed).version, version);
		for (unsigned page = 0; page < PAGES && i > 1; page++)
			if (page != changed)
				assert_int_equal(entry_in(bench, version, file, page).address,
						 entry_in(bench, version - 1, file, page).address);
		if (i % 16 == 0) {
			bench_checkpoint(bench);
			bench_assert_accounts(bench, false);
		}
		if (i % 30 == 0)
			bench_reopen(bench);
		if (i % 15 == 7) {
			uint64_t all = bench_fingerprint_all(bench);
			bench_crash(bench);
			bench_open(bench);
			assert_true(bench_fingerprint_all(bench) == all);
		}
	}
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
	assert_false(bench->store->mark_pending);
	for (uint32_t number = 0; number <= (PAGES - 1) / bench->store->root.pages_per_slot; number++)
		assert_in_range(slots_on_disk(bench, file, number), 0, 3);
	/* Bringing it back: the active version has what the versions have, and lets go of what they do not. */
	for (unsigned page = 0; page < PAGES; page++)
		if (age[page])
			put_page(bench, file, page, age[page]);
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
	/* Whatever goes first takes nothing from the others. */
	for (uint32_t version = 1; version <= VERSIONS; version += version < 90 ? 3 : 1)
		assert_ok(mojo_version_drop(bench->store, version));
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
	for (uint32_t version = 2; version < 90; version += version % 3 == 0 ? 2 : 1)
		for (unsigned page = 0; page < PAGES; page++) {
			unsigned wanted = 0;
			for (unsigned i = 1; i <= version; i++)
				wanted = i * 7 % PAGES == page ? i : wanted;
			bench_assert(bench, version, file, (uint64_t)page * BENCH_PAGE, BENCH_PAGE,
				     tag_of(page, wanted));
		}
}

/* A page that comes in pieces, or twice, counts as what it is in the end. */
static void test_pages_that_come_in_pieces_are_shared(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	uint8_t page[BENCH_PAGE];
	for (unsigned i = 0; i < 4; i++)
		put_page(bench, file, i, 0);
	uint32_t first = freeze(bench);
	settle_page(bench, file, 1, 1);
	publish(bench);
	uint32_t second = freeze(bench);
	bench_fill(page, BENCH_PAGE, tag_of(1, 1));
	for (unsigned i = 0; i < BENCH_PAGE; i += 512)
		assert_ok(mojo_settle_write(bench->store, second, file, BENCH_PAGE + i, page + i, 512));
	settle_page(bench, file, 2, 7);
	settle_page(bench, file, 2, 0); /* as it is */
	uint64_t before = bench->store->log.pages_written;
	publish(bench);
	assert_int_equal(bench->store->log.pages_written, before);
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(entry_in(bench, second, file, i).address, entry_in(bench, first, file, i).address);
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
}

/* What its version does not need to share: a block that is damaged, and one of a version that was dropped meanwhile. */
static void test_only_what_is_sound_and_kept_is_shared(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	for (unsigned i = 0; i < 4; i++)
		put_page(bench, file, i, 0);
	uint32_t first = freeze(bench);
	for (unsigned i = 0; i < 4; i++)
		settle_page(bench, file, i, 1);
	publish(bench);
	struct mojo_map_entry damaged = entry_in(bench, first, file, 2);
	bench_flip_block(bench, damaged.address, 99);
	uint32_t second = freeze(bench);
	for (unsigned i = 0; i < 4; i++)
		settle_page(bench, file, i, 1);
	publish(bench);
	for (unsigned i = 0; i < 4; i++) {
		bool same = entry_in(bench, second, file, i).address == entry_in(bench, first, file, i).address;
		assert_int_equal(same, i != 2);
		bench_assert(bench, second, file, i * BENCH_PAGE, BENCH_PAGE, tag_of(i, 1));
	}
	bench_flip_block(bench, damaged.address, 99);

	uint32_t third = freeze(bench);
	for (unsigned i = 0; i < 4; i++)
		settle_page(bench, file, i, 1);
	assert_ok(mojo_version_drop(bench->store,
				    second)); /* writes the batch out: it is the first one's that are left */
	assert_int_equal(entry_in(bench, third, file, 2).address, damaged.address);
	assert_ok(mojo_version_drop(bench->store, first));
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
	settle_page(bench, file, 0, 5); /* it held this page alone by now */
	uint64_t alone = entry_in(bench, third, file, 0).address;
	bench_sync(bench);
	assert_true(is_dead(bench, alone));
	publish(bench);
	bench_crash(bench);
	bench_open(bench);
	for (unsigned i = 0; i < 4; i++)
		bench_assert(bench, third, file, i * BENCH_PAGE, BENCH_PAGE, tag_of(i, i ? 1 : 5));
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
	uint32_t fourth = freeze(bench);
	for (unsigned i = 0; i < 4; i++)
		settle_page(bench, file, i, 1);
	bench_sync(bench);
	assert_ok(mojo_version_drop(bench->store, fourth)); /* given up */
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
	for (unsigned i = 0; i < 4; i++)
		bench_assert(bench, third, file, i * BENCH_PAGE, BENCH_PAGE, tag_of(i, i ? 1 : 5));
}

/* Behind many settled versions in a row the engine no longer asks: it marks. */
static void test_very_many_settled_versions(void **state)
{
	struct bench *bench = *state;
	enum { VERSIONS = MOJO_SETTLED_MAX + 5 };
	uint32_t file = bench_file(bench, "f");
	bench_put(bench, file, 0, BENCH_PAGE, 1);
	bench_put(bench, file, BENCH_PAGE, BENCH_PAGE, 500);
	bench_sync(bench);
	uint64_t passed = bench_address(bench, file, 0), kept = bench_address(bench, file, 1);
	for (uint32_t i = 1; i <= VERSIONS; i++) {
		freeze(bench);
		settle_put(bench, file, 0, BENCH_PAGE, i + 1);
		publish(bench);
	}
	for (int turn = 0; turn < 2; turn++) {
		assert_int_equal(bench->store->settled.count, MOJO_SETTLED_MAX);
		assert_true(bench->store->settled.cut);
		bench_reopen(bench);
	}
	bench_put(bench, file, BENCH_PAGE, BENCH_PAGE, 99);
	bench_sync(bench);
	assert_false(is_dead(bench, kept)); /* they have it */
	bench_put(bench, file, 0, BENCH_PAGE, 98);
	bench_sync(bench);
	assert_false(is_dead(bench, passed));
	assert_true(bench->store->mark_pending);
	bench_checkpoint(bench);
	assert_true(is_dead(bench, passed));
	assert_false(is_dead(bench, kept));
	bench_assert_accounts(bench, false);
	for (uint32_t i = 1; i <= VERSIONS; i++) {
		bench_assert(bench, i, file, 0, BENCH_PAGE, i + 1);
		bench_assert(bench, i, file, BENCH_PAGE, BENCH_PAGE, 500);
	}
}

/* A WAL of many times the cache is folded in by batches like any other, with checkpoints in between. */
static void test_a_large_settlement_takes_little_memory(void **state)
{
	struct bench *bench = *state;
	enum { MEGABYTES = 96 };
	bench_close(bench);
	bench->config.checkpoint_bytes = 8u << 20;
	bench->config.cache_bytes = 4u << 20;
	bench_open(bench);
	uint32_t file = bench_file(bench, "f");
	for (uint64_t i = 0; i < MEGABYTES; i++)
		bench_put(bench, file, i << 20, 1 << 20, i << 20);
	uint32_t version = freeze(bench);
	uint64_t checkpoints = bench_info(bench).checkpoints, most = 0;
	for (uint64_t i = 0; i < MEGABYTES; i++) {
		settle_put(bench, file, i << 20, 1 << 20, (i << 20) + 1);
		if (bench_info(bench).cache_bytes > most)
			most = bench_info(bench).cache_bytes;
	}
	assert_true(bench_info(bench).checkpoints > checkpoints);
	assert_true(most <= bench->store->config.cache_bytes + (2u << 20));
	publish(bench);
	bench_reopen(bench);
	for (uint64_t i = 0; i < MEGABYTES; i += 7) {
		bench_assert(bench, version, file, i << 20, 1 << 20, (i << 20) + 1);
		bench_assert(bench, MOJO_ACTIVE, file, i << 20, 1 << 20, i << 20);
	}
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
}

/* ---- verdicts ------------------------------------------------------------------------------- */

static void test_verdicts_are_kept(void **state)
{
	struct bench *bench = *state;
	char text[MOJO_VERDICT_MAX + 1], message[MOJO_MESSAGE_MAX];
	memset(text, 'v', sizeof(text));
	memset(message, 'm', sizeof(message));
	uint32_t version;
	bench_commit(bench, "");
	assert_ok(mojo_commit(bench->store, message, sizeof(message), &version));
	assert_errno(mojo_version_verdict(bench->store, 1, MOJO_VERDICT_BAD, text, MOJO_VERDICT_MAX + 1), E2BIG);
	assert_errno(mojo_version_verdict(bench->store, 1, MOJO_VERDICT_BAD, "a\0b", 3), EINVAL);
	assert_errno(mojo_version_verdict(bench->store, 1, (enum mojo_verdict)3, "", 0), EINVAL);
	assert_errno(mojo_version_verdict(bench->store, 3, MOJO_VERDICT_GOOD, "", 0), EBUSY);
	assert_errno(mojo_version_verdict(bench->store, MOJO_ACTIVE, MOJO_VERDICT_GOOD, "", 0), EBUSY);
	assert_errno(mojo_version_verdict(bench->store, 4, MOJO_VERDICT_GOOD, "", 0), ENOENT);
	assert_int_equal(info_of(bench, 1).verdict, MOJO_VERDICT_UNKNOWN);
	assert_ok(mojo_version_verdict(bench->store, 1, MOJO_VERDICT_BAD, "first", 5));
	assert_ok(mojo_version_verdict(bench->store, 1, MOJO_VERDICT_GOOD, NULL, 0)); /* the last one counts */
	assert_ok(mojo_version_verdict(bench->store, 2, MOJO_VERDICT_BAD, text, MOJO_VERDICT_MAX));
	for (int turn = 0; turn < 3; turn++) {
		struct mojo_version_info info = info_of(bench, 1);
		assert_int_equal(info.verdict, MOJO_VERDICT_GOOD);
		assert_string_equal(info.verdict_text, "");
		info = info_of(bench, 2);
		assert_int_equal(info.verdict, MOJO_VERDICT_BAD);
		assert_memory_equal(info.verdict_text, text, MOJO_VERDICT_MAX);
		assert_int_equal(strlen(info.verdict_text), MOJO_VERDICT_MAX);
		assert_memory_equal(info.message, message, sizeof(message));
		bench_sync(bench);
		if (turn == 0) {
			bench_crash(bench);
			bench_open(bench);
		} else {
			bench_reopen(bench);
		}
	}
	/* On an unpublished one as well; settling and publishing keep it. */
	uint32_t file = bench_file(bench, "f");
	freeze(bench);
	assert_ok(mojo_version_verdict(bench->store, 3, MOJO_VERDICT_GOOD, "early", 5));
	settle_put(bench, file, 0, 10, 1);
	publish(bench);
	assert_int_equal(info_of(bench, 3).verdict, MOJO_VERDICT_GOOD);
	assert_string_equal(info_of(bench, 3).verdict_text, "early");
	bench_assert(bench, 3, file, 0, 10, 1);
}

/* ---- what changed --------------------------------------------------------------------------- */

struct changes {
	uint32_t buckets[64];
	unsigned count, stop_at;
	struct bench *bench;
	uint32_t drop; /* a version to drop at the first call */
};

static bool collect(void *arg, const struct mojo_attr *attr)
{
	struct changes *changes = arg;
	assert_true(changes->count < 64);
	for (unsigned i = 0; i < changes->count; i++)
		assert_int_not_equal(changes->buckets[i], attr->bucket);
	changes->buckets[changes->count++] = attr->bucket;
	if (changes->drop)
		assert_ok(mojo_version_drop(changes->bench->store, changes->drop));
	changes->drop = 0;
	return changes->count != changes->stop_at;
}

static bool has(const struct changes *changes, uint32_t bucket)
{
	for (unsigned i = 0; i < changes->count; i++)
		if (changes->buckets[i] == bucket)
			return true;
	return false;
}

static struct changes changes_of(struct bench *bench, uint32_t version)
{
	struct changes changes = { 0 };
	assert_ok(mojo_changed(bench->store, version, collect, &changes));
	return changes;
}

static void test_what_changed_is_told(void **state)
{
	struct bench *bench = *state;
	enum { FILES = 40 };
	uint32_t files[FILES];
	for (unsigned i = 0; i < FILES; i++) {
		char name[16];
		snprintf(name, sizeof(name), "f%u", i);
		files[i] = bench_file(bench, name);
		bench_put(bench, files[i], 0, 1000 + i * 20000, i);
	}
	assert_int_equal(changes_of(bench, MOJO_ACTIVE).count, FILES + 1);
	bench_commit(bench, "one");
	assert_int_equal(changes_of(bench, 1).count, FILES + 1); /* there is none before it */
	assert_int_equal(changes_of(bench, MOJO_ACTIVE).count, 0);
	bench_put(bench, files[3], 0, 10, 1);
	bench_put(bench, files[39], 700000, 10, 1);
	struct mojo_attr attr = { .mode = 0600 };
	assert_ok(mojo_setattr(bench->store, files[20], MOJO_SET_MODE, &attr, &attr));
	assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "f7"));
	for (int turn = 0; turn < 3; turn++) {
		struct changes changes = changes_of(bench, turn < 2 ? MOJO_ACTIVE : 2);
		assert_int_equal(changes.count, 4);
		assert_true(has(&changes, files[3]) && has(&changes, files[39]) && has(&changes, files[20]) &&
			    has(&changes, MOJO_ROOT_BUCKET));
		if (turn == 0)
			bench_reopen(bench);
		if (turn == 1)
			freeze(bench);
	}
	/* Against a version that was settled, labels alone would not tell. */
	settle_put(bench, files[11], 0, 10, 2);
	struct changes changes = changes_of(bench, 2);
	assert_int_equal(changes.count, 5);
	assert_true(has(&changes, files[11]));
	changes = changes_of(bench, MOJO_ACTIVE);
	assert_int_equal(changes.count, 1);
	assert_true(has(&changes, files[11]));
	publish(bench);
	bench_checkpoint(bench);
	assert_int_equal(changes_of(bench, 3).count, 1);
	/* Stopping, and versions that are not there. */
	changes = (struct changes){ .stop_at = 2 };
	assert_ok(mojo_changed(bench->store, 1, collect, &changes));
	assert_int_equal(changes.count, 2);
	assert_errno(mojo_changed(bench->store, 9, collect, &changes), ENOENT);
	changes = (struct changes){ .bench = bench, .drop = 2 };
	assert_errno(mojo_changed(bench->store, 2, collect, &changes), ENOENT);
	assert_int_equal(changes.count, 1);
}

/* Attributes that were set to what they had been hide nothing: content that differs is found by itself. */
static void test_content_that_changed_is_told_by_itself(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	bench_put(bench, file, 0, 10 * BENCH_PAGE, 1);
	bench_commit(bench, "one");
	struct mojo_attr before = bench_attr(bench, 1, file), attr = before;
	bench_put(bench, file, 0, BENCH_PAGE, 2);
	assert_ok(mojo_setattr(bench->store, file, MOJO_SET_MTIME | MOJO_SET_CTIME, &attr, &attr));
	attr = bench_attr(bench, MOJO_ACTIVE, file);
	assert_true(attr.mtime_ns == before.mtime_ns && attr.ctime_ns == before.ctime_ns);
	bench_sync(bench);
	struct changes changes = changes_of(bench, MOJO_ACTIVE);
	assert_int_equal(changes.count, 1);
	assert_int_equal(changes.buckets[0], file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_an_unpublished_version_is_passed_over),
		BENCH_TEST(test_only_the_unpublished_version_is_settled),
		BENCH_TEST(test_the_last_look_may_refuse),
		BENCH_TEST(test_settling_changes_that_version_alone),
		BENCH_TEST(test_a_held_file_may_go_from_the_version_being_settled),
		BENCH_TEST(test_a_freeze_is_durable_by_what_follows),
		BENCH_TEST(test_a_commit_that_is_given_up_leaves_nothing),
		BENCH_TEST(test_who_lets_go_last_finds_the_death),
		BENCH_TEST(test_older_versions_hold_what_they_have),
		BENCH_TEST(test_no_death_is_missed),
		BENCH_TEST(test_a_version_costs_what_differs_from_the_one_before),
		BENCH_TEST(test_pages_that_come_in_pieces_are_shared),
		BENCH_TEST(test_only_what_is_sound_and_kept_is_shared),
		BENCH_TEST(test_very_many_settled_versions),
		BENCH_TEST(test_a_large_settlement_takes_little_memory),
		BENCH_TEST(test_verdicts_are_kept),
		BENCH_TEST(test_what_changed_is_told),
		BENCH_TEST(test_content_that_changed_is_told_by_itself),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
