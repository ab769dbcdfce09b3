/* SPDX-License-Identifier: MIT */
/*
 * clone.h: a copy shares the pages of what it was copied from, and nothing that is done to one of them later is seen in
 * the other, whichever goes first, in whatever version; and no block is called dead that one of them still has.
 */
#include "support/support.h"

#include "checksum.h"
#include "clone.h"
#include "namespace.h"

#define PAGES    200u /* of the usual file: three slots of 64, and some */
#define SIZE     (PAGES * BENCH_PAGE - 100)
#define ALL      UINT64_MAX
#define SLOT     (64ull * BENCH_PAGE)
#define MAP_SIZE 400u

static uint64_t copy(struct bench *bench, uint32_t version, uint32_t from, uint64_t in, uint32_t to, uint64_t out,
		     uint64_t length)
{
	uint64_t copied = UINT64_MAX;
	assert_ok(mojo_copy(bench->store, version, from, in, to, out, length, &copied));
	return copied;
}

/* A file with pages of its own, and the copy of all of it. */
static uint32_t file_of(struct bench *bench, const char *name, uint64_t tag)
{
	uint32_t file = bench_file(bench, name);
	for (uint32_t page = 0; page < PAGES - 1; page++)
		bench_put(bench, file, (uint64_t)page * BENCH_PAGE, BENCH_PAGE, tag + page);
	bench_put(bench, file, (PAGES - 1) * BENCH_PAGE, SIZE % BENCH_PAGE, tag + PAGES - 1);
	return file;
}

static void assert_file(struct bench *bench, uint32_t version, uint32_t file, uint64_t tag)
{
	for (uint32_t page = 0; page < PAGES - 1; page++)
		bench_assert(bench, version, file, (uint64_t)page * BENCH_PAGE, BENCH_PAGE, tag + page);
	bench_assert(bench, version, file, (PAGES - 1) * BENCH_PAGE, SIZE % BENCH_PAGE, tag + PAGES - 1);
	assert_int_equal(bench_attr(bench, version, file).size, SIZE);
	assert_int_equal(bench_attr(bench, version, file).pages, PAGES);
}

static uint32_t clone_of(struct bench *bench, uint32_t version, uint32_t from, const char *name)
{
	uint32_t to = bench_file(bench, name);
	assert_int_equal(copy(bench, version, from, 0, to, 0, ALL), SIZE);
	assert_int_equal(copy(bench, version, from, SIZE, to, SIZE, ALL), 0);
	return to;
}

/* How many pages of both lie in the same blocks. */
static unsigned shared_pages(struct bench *bench, uint32_t version, uint32_t a, uint32_t b)
{
	struct mojo_map_entry x[MAP_SIZE], y[MAP_SIZE];
	size_t x_count, y_count;
	unsigned shared = 0;
	bench_sync(bench);
	assert_ok(mojo_map(bench->store, version, a, 0, x, MAP_SIZE, &x_count));
	assert_ok(mojo_map(bench->store, MOJO_ACTIVE, b, 0, y, MAP_SIZE, &y_count));
	for (size_t i = 0, k = 0; i < x_count; i++) {
		while (k < y_count && y[k].page < x[i].page)
			k++;
		shared += k < y_count && y[k].page == x[i].page && y[k].address == x[i].address;
	}
	return shared;
}

static void on_finding(void *arg, const struct mojo_finding *f)
{
	(void)arg;
	if (f->severity == MOJO_INFO)
		return;
	print_error("%s: %s (bucket %" PRIu32 ", page %" PRIu64 ", address %" PRIu64 ")\n", mojo_finding_name(f->kind),
		    f->text, f->bucket, f->first_page, f->address);
	fail();
}

/* What a crash would leave now is sound, with every page that can be read. */
static void assert_sound(struct bench *bench)
{
	struct mojo_check_options options = { .scrub = true, .finding = on_finding };
	struct mojo_check_result result;
	struct mojo_io *io;
	bench_sync(bench);
	assert_ok(mojo_io_memory_clone(bench->io, &io));
	assert_ok(mojo_check(io, &options, &result));
	mojo_io_free(io);
}

/* After everything that may be dead was looked for, nothing is lost track of. */
static void assert_nothing_leaks(struct bench *bench)
{
	bench_sync(bench);
	bench_checkpoint(bench);
	assert_false(bench->store->mark_pending);
	bench_assert_accounts(bench, false);
	assert_sound(bench);
}

static void crash_and_open(struct bench *bench)
{
	bench_sync(bench);
	bench_crash(bench);
	bench_open(bench);
}

/* ---- sharing -------------------------------------------------------------------------------- */

static void test_a_copy_takes_no_space(void **state)
{
	struct bench *bench = *state;
	uint32_t a = file_of(bench, "a", 0);
	bench_checkpoint(bench);
	uint64_t written = bench_info(bench).pages_written, tail = bench->store->log.tail;
	uint32_t b = clone_of(bench, MOJO_ACTIVE, a, "b");
	assert_int_equal(shared_pages(bench, MOJO_ACTIVE, a, b), PAGES);
	assert_int_equal(bench_info(bench).pages_written, written);
	assert_true(bench->store->log.tail <= tail + 4);
	assert_file(bench, MOJO_ACTIVE, b, 0);
	bench_checkpoint(bench);
	assert_true(bench->store->log.tail <= tail + 12); /* the slots' blobs are shared as well */
	assert_file(bench, MOJO_ACTIVE, b, 0);
	assert_nothing_leaks(bench);
}

/* Pages that wait in the open batch, or are only in memory with their slots, are there to be shared as well. */
static void test_what_is_in_memory_only_is_shared(void **state)
{
	struct bench *bench = *state;
	uint32_t a = file_of(bench, "a", 0), b = clone_of(bench, MOJO_ACTIVE, a, "b");
	assert_file(bench, MOJO_ACTIVE, b, 0);
	assert_int_equal(shared_pages(bench, MOJO_ACTIVE, a, b), PAGES);
	bench_put(bench, a, 0, BENCH_PAGE, 1000);
	uint32_t c = clone_of(bench, MOJO_ACTIVE, b, "c");
	assert_file(bench, MOJO_ACTIVE, c, 0);
	crash_and_open(bench);
	assert_file(bench, MOJO_ACTIVE, b, 0);
	assert_file(bench, MOJO_ACTIVE, c, 0);
	assert_int_equal(shared_pages(bench, MOJO_ACTIVE, a, c), PAGES - 1);
	assert_nothing_leaks(bench);
}

/* Slots that are in memory only when they are copied come to lie behind the address up to which things are shared. */
static void test_slots_in_memory_are_not_shared(void **state)
{
	struct bench *bench = *state;
	uint32_t a = file_of(bench, "a", 0), b = clone_of(bench, MOJO_ACTIVE, a, "b");
	bench_checkpoint(bench);
	bench_put(bench, a, 0, 60 * BENCH_PAGE, 3000); /* a new blob for its slot */
	assert_sound(bench);
	assert_ok(bench_resize(bench, a, 0));
	assert_sound(bench);
	bench_checkpoint(bench);
	bench_checkpoint(bench);
	bench_reopen(bench);
	assert_file(bench, MOJO_ACTIVE, b, 0);
	assert_nothing_leaks(bench);
}

static void test_what_is_written_to_one_is_not_in_the_other(void **state)
{
	struct bench *bench = *state;
	uint32_t a = file_of(bench, "a", 0), b = clone_of(bench, MOJO_ACTIVE, a, "b");
	for (unsigned round = 0; round < 4; round++) {
		uint32_t file = round % 2 ? b : a;
		bench_put(bench, file, 7 * BENCH_PAGE + 5, 10, 500 + round); /* what is kept of the page is checked */
		bench_put(bench, file, SIZE, 10, 600);
		assert_ok(bench_resize(bench, file, SIZE));
		bench_assert_zeros(bench, MOJO_ACTIVE, file == a ? b : a, SIZE, 0);
		crash_and_open(bench);
		bench_assert(bench, MOJO_ACTIVE, file, 7 * BENCH_PAGE + 5, 10, 500 + round);
		assert_sound(bench);
		bench_put(bench, file, 7 * BENCH_PAGE, BENCH_PAGE, 7);
		bench_put(bench, file, (PAGES - 1) * BENCH_PAGE, SIZE % BENCH_PAGE, PAGES - 1);
		assert_file(bench, MOJO_ACTIVE, a, 0);
		assert_file(bench, MOJO_ACTIVE, b, 0);
		if (round == 1)
			bench_checkpoint(bench);
		assert_sound(bench);
	}
	assert_int_equal(shared_pages(bench, MOJO_ACTIVE, a, b), PAGES - 2);
	assert_ok(bench_resize(bench, a, SLOT));
	bench_assert(bench, MOJO_ACTIVE, b, SLOT, BENCH_PAGE, 64);
	assert_ok(mojo_fallocate(bench->store, b, MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_KEEP_SIZE, 0, SLOT));
	for (uint32_t page = 0; page < 64; page++)
		bench_assert(bench, MOJO_ACTIVE, a, (uint64_t)page * BENCH_PAGE, BENCH_PAGE, page);
	assert_sound(bench);
	assert_nothing_leaks(bench);
}

/* The file grows: behind the end of what was copied there are zeros, in both. */
static void test_the_last_page_is_shared_with_its_zeros(void **state)
{
	struct bench *bench = *state;
	uint32_t a = file_of(bench, "a", 0), b = clone_of(bench, MOJO_ACTIVE, a, "b");
	assert_ok(bench_resize(bench, b, SIZE + 3 * BENCH_PAGE));
	bench_assert_zeros(bench, MOJO_ACTIVE, b, SIZE, 3 * BENCH_PAGE);
	/* The end of a longer file stays: the last page is not shared then, all others are. */
	uint32_t c = bench_file(bench, "c");
	bench_put(bench, c, SIZE, 50, 900);
	assert_int_equal(copy(bench, MOJO_ACTIVE, a, 0, c, 0, ALL), SIZE);
	bench_assert(bench, MOJO_ACTIVE, c, SIZE, 50, 900);
	assert_int_equal(shared_pages(bench, MOJO_ACTIVE, a, c), 0); /* it had a page of its own */
	assert_ok(bench_resize(bench, c, 0));
	assert_ok(bench_resize(bench, c, SIZE + 50));
	assert_int_equal(copy(bench, MOJO_ACTIVE, a, 0, c, 0, ALL), SIZE);
	assert_int_equal(shared_pages(bench, MOJO_ACTIVE, a, c), PAGES - 1);
	bench_assert_zeros(bench, MOJO_ACTIVE, c, SIZE, 50);
	assert_nothing_leaks(bench);
}

static void test_a_copy_out_of_a_frozen_version(void **state)
{
	struct bench *bench = *state;
	uint32_t a = file_of(bench, "a", 0), gone = file_of(bench, "gone", 2000);
	uint32_t one = bench_commit(bench, "one");
	for (uint32_t page = 0; page < PAGES; page += 3)
		bench_put(bench, a, (uint64_t)page * BENCH_PAGE, 100, 7000);
	assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "gone"));
	uint32_t two = bench_commit(bench, "two");
	bench_checkpoint(bench);
	uint32_t b = clone_of(bench, one, a, "b"), c = clone_of(bench, one, gone, "c");
	uint64_t two_is = bench_fingerprint(bench, two), now = bench_fingerprint(bench, MOJO_ACTIVE);
	assert_int_equal(shared_pages(bench, one, a, b), PAGES);
	assert_int_equal(shared_pages(bench, one, gone, c), PAGES);
	/* The versions go; what the copies have of them does not. */
	assert_ok(mojo_version_drop(bench->store, one));
	assert_nothing_leaks(bench);
	assert_file(bench, MOJO_ACTIVE, b, 0);
	assert_file(bench, MOJO_ACTIVE, c, 2000);
	assert_true(bench_fingerprint(bench, two) == two_is);
	assert_ok(mojo_version_drop(bench->store, two));
	assert_nothing_leaks(bench);
	crash_and_open(bench);
	assert_true(bench_fingerprint(bench, MOJO_ACTIVE) == now);
	/* Of the file that both came from the rest may go as well, and then the copy. */
	assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "a"));
	assert_sound(bench);
	assert_nothing_leaks(bench);
	assert_file(bench, MOJO_ACTIVE, b, 0);
	assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "b"));
	assert_nothing_leaks(bench);
	assert_file(bench, MOJO_ACTIVE, c, 2000);
}

/* A version is put back: the file of today gets the content that it had in a version. */
static void test_a_file_becomes_what_it_was(void **state)
{
	struct bench *bench = *state;
	uint32_t a = file_of(bench, "a", 0), one = bench_commit(bench, "one");
	for (uint32_t page = 0; page < PAGES; page++)
		bench_put(bench, a, (uint64_t)page * BENCH_PAGE, BENCH_PAGE, 3000 + page);
	bench_commit(bench, "two");
	bench_put(bench, a, 0, 10 * BENCH_PAGE, 4000);
	assert_ok(bench_resize(bench, a, PAGES * BENCH_PAGE + 5));
	assert_int_equal(copy(bench, one, a, 0, a, 0, ALL), SIZE); /* over what is there: it has the same seed */
	assert_int_equal(shared_pages(bench, one, a, a), PAGES - 1);
	assert_ok(bench_resize(bench, a, SIZE));
	assert_file(bench, MOJO_ACTIVE, a, 0);
	assert_sound(bench);
	crash_and_open(bench);
	assert_file(bench, MOJO_ACTIVE, a, 0);
	assert_nothing_leaks(bench);
}

/* A copy of a copy of a copy, which go in any order. */
static void test_copies_of_copies_go_in_any_order(void **state)
{
	struct bench *bench = *state;
	static const char *const names[] = { "a", "b", "c", "d" };
	for (unsigned order = 0; order < 24; order++) {
		uint32_t files[4] = { file_of(bench, "a", 0) };
		unsigned left[4] = { 0, 1, 2, 3 }, rest = order;
		for (unsigned i = 1; i < 4; i++) {
			files[i] = clone_of(bench, MOJO_ACTIVE, files[i - 1], names[i]);
			bench_put(bench, files[i - 1], 30 * BENCH_PAGE, 5 * BENCH_PAGE, 8000); /* no two are the same */
			bench_put(bench, files[i - 1], 30 * BENCH_PAGE, BENCH_PAGE, 30);
			for (uint32_t page = 31; page < 35; page++)
				bench_put(bench, files[i - 1], (uint64_t)page * BENCH_PAGE, BENCH_PAGE, page);
			if (order % 3 == 0)
				bench_checkpoint(bench);
		}
		for (unsigned count = 4; count; count--) {
			unsigned which = rest % count, name = left[which];
			rest /= count;
			left[which] = left[count - 1];
			assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, names[name]));
			assert_sound(bench);
			if (order % 4 == 0)
				bench_checkpoint(bench);
			if (order % 5 == 0)
				crash_and_open(bench);
			for (unsigned i = 0; i + 1 < count; i++)
				assert_file(bench, MOJO_ACTIVE, files[left[i]], 0);
		}
	}
	for (unsigned i = 0; i < 3; i++)
		bench_checkpoint(bench);
	assert_nothing_leaks(bench);
	assert_true(bench_info(bench).store_bytes <= 5 * BENCH_CHUNK);
}

/* The number of the source is given to another file while the copy is still there, and has its seed. */
static void test_a_number_that_is_used_again(void **state)
{
	struct bench *bench = *state;
	uint32_t a = file_of(bench, "a", 0), b = clone_of(bench, MOJO_ACTIVE, a, "b");
	assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "a"));
	bench->store->next_bucket = a;
	assert_int_equal(file_of(bench, "new", 5000), a);
	assert_sound(bench);
	assert_file(bench, MOJO_ACTIVE, b, 0);
	/* Both have one seed now, and different content: they can be copied over each other. */
	assert_int_equal(copy(bench, MOJO_ACTIVE, a, 0, b, 0, 100 * BENCH_PAGE), 100 * BENCH_PAGE);
	assert_int_equal(shared_pages(bench, MOJO_ACTIVE, a, b), 100);
	bench_assert(bench, MOJO_ACTIVE, b, 99 * BENCH_PAGE, BENCH_PAGE, 5099);
	bench_assert(bench, MOJO_ACTIVE, b, 100 * BENCH_PAGE, BENCH_PAGE, 100);
	assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "new"));
	assert_sound(bench);
	bench_assert(bench, MOJO_ACTIVE, b, 99 * BENCH_PAGE, BENCH_PAGE, 5099);
	assert_nothing_leaks(bench);
}

/* While a version is settled, files are copied, and what was shared is let go of on both sides of the freeze. */
static void test_copies_while_a_version_is_settled(void **state)
{
	struct bench *bench = *state;
	for (unsigned when = 0; when < 2; when++) {
		uint32_t a = file_of(bench, "a", 0), frozen, b = 0;
		if (when == 0)
			b = clone_of(bench, MOJO_ACTIVE, a, "b");
		assert_ok(mojo_freeze(bench->store, "", 0, NULL, NULL, &frozen));
		if (when == 1)
			b = clone_of(bench, MOJO_ACTIVE, a, "b");
		uint32_t c = clone_of(bench, frozen, a, "c");
		/* Only the settled version and the copies have these pages then. */
		bench_put(bench, a, 0, 100 * BENCH_PAGE, 9000);
		bench_sync(bench);
		uint8_t page[BENCH_PAGE];
		bench_fill(page, sizeof(page), 9100);
		for (uint32_t i = 0; i < 50; i++)
			assert_ok(mojo_settle_write(bench->store, frozen, a, (uint64_t)i * BENCH_PAGE, page,
						    sizeof(page)));
		assert_sound(bench);
		assert_ok(mojo_settle_unlink(bench->store, frozen, MOJO_ROOT_BUCKET, "a"));
		assert_sound(bench);
		assert_file(bench, MOJO_ACTIVE, b, 0);
		assert_file(bench, MOJO_ACTIVE, c, 0);
		assert_ok(mojo_publish(bench->store, frozen));
		crash_and_open(bench);
		assert_file(bench, MOJO_ACTIVE, b, 0);
		assert_file(bench, MOJO_ACTIVE, c, 0);
		assert_nothing_leaks(bench);
		assert_ok(mojo_version_drop(bench->store, frozen));
		assert_nothing_leaks(bench);
		assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "a"));
		assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "b"));
		assert_nothing_leaks(bench);
		assert_file(bench, MOJO_ACTIVE, c, 0);
		assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "c"));
	}
}

/* ---- copying -------------------------------------------------------------------------------- */

static void test_what_cannot_be_shared_is_copied(void **state)
{
	struct bench *bench = *state;
	static const struct {
		uint64_t in, out, length;
		unsigned shared;
	} cases[] = {
		{ 0, BENCH_PAGE, 9 * BENCH_PAGE, 0 },              /* another page number */
		{ 100, 100, 9 * BENCH_PAGE, 0 },                   /* not from the beginning of a page */
		{ 3, 9, 5, 0 },                                    /* a few bytes */
		{ BENCH_PAGE, BENCH_PAGE, 9 * BENCH_PAGE + 1, 9 }, /* the last byte alone */
		{ 70 * BENCH_PAGE, 70 * BENCH_PAGE, 5 * BENCH_PAGE, 5 },
		{ 10 * BENCH_PAGE, 10 * BENCH_PAGE, 150 * BENCH_PAGE, 150 }, /* over parts of slots, and a whole one */
	};
	uint32_t a = file_of(bench, "a", 0);
	uint8_t *content = malloc(SIZE), *got = malloc(SIZE + SLOT);
	size_t length;
	assert_ok(mojo_read(bench->store, MOJO_ACTIVE, a, 0, content, SIZE, &length));
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t b = bench_file(bench, "b");
		assert_int_equal(copy(bench, MOJO_ACTIVE, a, cases[i].in, b, cases[i].out, cases[i].length),
				 cases[i].length);
		assert_int_equal(bench_attr(bench, MOJO_ACTIVE, b).size, cases[i].out + cases[i].length);
		assert_ok(mojo_read(bench->store, MOJO_ACTIVE, b, cases[i].out, got, SIZE, &length));
		assert_int_equal(length, cases[i].length);
		assert_memory_equal(got, content + cases[i].in, length);
		bench_assert_zeros(bench, MOJO_ACTIVE, b, 0, cases[i].out);
		assert_int_equal(shared_pages(bench, MOJO_ACTIVE, a, b), cases[i].shared);
		assert_sound(bench);
		assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "b"));
	}
	/* Within one file. */
	assert_int_equal(copy(bench, MOJO_ACTIVE, a, 0, a, SLOT, SLOT), SLOT);
	bench_assert(bench, MOJO_ACTIVE, a, SLOT + 5 * BENCH_PAGE, BENCH_PAGE, 5);
	assert_int_equal(copy(bench, MOJO_ACTIVE, a, SIZE - 500, a, SIZE, ALL), 500); /* and not what comes by it */
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, a).size, SIZE + 500);
	/* Holes are copied as well. */
	uint32_t c = bench_file(bench, "c"), d = file_of(bench, "d", 100);
	bench_put(bench, c, 5 * BENCH_PAGE, BENCH_PAGE, 1);
	assert_ok(bench_resize(bench, c, SIZE));
	assert_int_equal(copy(bench, MOJO_ACTIVE, c, 0, d, 0, ALL), SIZE);
	bench_assert_zeros(bench, MOJO_ACTIVE, d, 0, 5 * BENCH_PAGE);
	bench_assert(bench, MOJO_ACTIVE, d, 5 * BENCH_PAGE, BENCH_PAGE, 1);
	bench_assert_zeros(bench, MOJO_ACTIVE, d, 6 * BENCH_PAGE, SIZE - 6 * BENCH_PAGE);
	free(content);
	free(got);
	assert_nothing_leaks(bench);
}

static void test_a_long_copy_of_bytes_is_cut_short(void **state)
{
	struct bench *bench = *state;
	uint32_t a = bench_file(bench, "a"), b = bench_file(bench, "b");
	assert_ok(bench_resize(bench, a, 20 << 20));
	bench_put(bench, a, (20 << 20) - 10, 10, 1);
	assert_int_equal(copy(bench, MOJO_ACTIVE, a, 0, b, 1, ALL), 16 << 20);
	assert_int_equal(copy(bench, MOJO_ACTIVE, a, 16 << 20, b, (16 << 20) + 1, ALL), 4 << 20);
	bench_assert(bench, MOJO_ACTIVE, b, (20 << 20) - 9, 10, 1);
}

static void test_what_cannot_be_copied_is_refused(void **state)
{
	struct bench *bench = *state;
	struct mojo_store *store = bench->store;
	uint32_t a = file_of(bench, "a", 0), dir = bench_make(bench, MOJO_ROOT_BUCKET, "dir", S_IFDIR | 0755),
		 fifo = bench_make(bench, MOJO_ROOT_BUCKET, "fifo", S_IFIFO | 0644);
	uint64_t none = 12345, most = (1ull << 32) * BENCH_PAGE, sum;
	uint32_t one = bench_commit(bench, "one"), b = bench_file(bench, "b");
	sum = bench_fingerprint_all(bench);
	assert_errno(mojo_copy(store, MOJO_ACTIVE, a, 0, a, 10, 11, &none), EINVAL);
	assert_errno(mojo_copy(store, MOJO_ACTIVE, a, 10, a, 0, 11, &none), EINVAL);
	assert_errno(mojo_copy(store, MOJO_ACTIVE, a, 0, a, 0, 1, &none), EINVAL);
	assert_errno(mojo_copy(store, mojo_active_version(store), a, 0, a, 0, 1, &none), EINVAL);
	assert_errno(mojo_copy(store, MOJO_ACTIVE, a, 0, dir, 0, 1, &none), EISDIR);
	assert_errno(mojo_copy(store, MOJO_ACTIVE, dir, 0, b, 0, 1, &none), EISDIR);
	assert_errno(mojo_copy(store, MOJO_ACTIVE, fifo, 0, b, 0, 1, &none), EINVAL);
	assert_errno(mojo_copy(store, MOJO_ACTIVE, a, 0, fifo, 0, 1, &none), EINVAL);
	assert_errno(mojo_copy(store, MOJO_ACTIVE, 999, 0, b, 0, 1, &none), ENOENT);
	assert_errno(mojo_copy(store, MOJO_ACTIVE, a, 0, 999, 0, 1, &none), ENOENT);
	assert_errno(mojo_copy(store, one, b, 0, b, 0, 1, &none), ENOENT); /* not there yet then */
	assert_errno(mojo_copy(store, 77, a, 0, b, 0, 1, &none), ENOENT);
	assert_errno(mojo_copy(store, MOJO_ACTIVE, a, 0, b, most + 1, 1, &none), EFBIG);
	assert_int_equal(none, 12345);
	assert_int_equal(copy(bench, MOJO_ACTIVE, a, SIZE, b, 0, 1), 0);
	assert_int_equal(copy(bench, MOJO_ACTIVE, a, 0, b, 0, 0), 0);
	assert_int_equal(copy(bench, MOJO_ACTIVE, a, 0, b, most, 10), 0); /* there is no room behind the end */
	assert_true(bench_fingerprint_all(bench) == sum);
	bench_close(bench);
	bench->config.read_only = true;
	bench_open(bench);
	assert_errno(mojo_copy(bench->store, one, a, 0, b, 0, 1, &none), EROFS);
}

static void test_a_slot_that_cannot_be_read_changes_nothing(void **state)
{
	struct bench *bench = *state;
	uint32_t a = file_of(bench, "a", 0), b = bench_file(bench, "b");
	struct mojo_cell cell;
	uint8_t key[9] = { MOJO_KEY_SLOT };
	uint64_t none;
	bench_checkpoint(bench);
	mojo_put_be32(key + 1, a);
	mojo_put_be32(key + 5, 1);
	assert_ok(mojo_tree_get(&bench->store->main, key, sizeof(key), &cell));
	bench_flip_block(bench, mojo_ref_decode(cell.value).address, 0);
	bench_crash(bench);
	bench_open(bench);
	assert_errno(mojo_copy(bench->store, MOJO_ACTIVE, a, 0, b, 0, ALL, &none), EUCLEAN);
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, b).size, 0);
	bench_put(bench, b, 0, 10, 1); /* the store goes on */
	bench_sync(bench);
	bench_assert(bench, MOJO_ACTIVE, b, 0, 10, 1);
}

/* ---- what is kept of it --------------------------------------------------------------------- */

/* A wrong block is an error for all who share it, and for nobody else. */
static void test_a_wrong_block_is_wrong_in_both(void **state)
{
	struct bench *bench = *state;
	uint32_t a = file_of(bench, "a", 0), b = clone_of(bench, MOJO_ACTIVE, a, "b");
	uint8_t page[BENCH_PAGE];
	size_t got;
	bench_checkpoint(bench);
	bench_flip_block(bench, bench_address(bench, a, 9), 77);
	assert_errno(mojo_read(bench->store, MOJO_ACTIVE, a, 9 * BENCH_PAGE, page, sizeof(page), &got), EIO);
	assert_errno(mojo_read(bench->store, MOJO_ACTIVE, b, 9 * BENCH_PAGE, page, sizeof(page), &got), EIO);
	bench_put(bench, b, 9 * BENCH_PAGE, BENCH_PAGE, 9);
	assert_file(bench, MOJO_ACTIVE, b, 0);
}

/* Blocks that may be dead make marking due; what is written to the files later does not, but dies as anything does. */
static void test_only_what_was_shared_is_in_doubt(void **state)
{
	struct bench *bench = *state;
	uint32_t a = file_of(bench, "a", 0), b = clone_of(bench, MOJO_ACTIVE, a, "b");
	assert_false(bench->store->mark_pending);
	bench_put(bench, b, 0, 20 * BENCH_PAGE, 1);
	bench_sync(bench);
	assert_true(bench->store->mark_pending);
	assert_int_equal(bench->store->doubts, 20);
	assert_nothing_leaks(bench);
	assert_int_equal(bench->store->doubts, 0);
	bench_put(bench, b, 0, 20 * BENCH_PAGE, 2);
	bench_put(bench, b, PAGES * BENCH_PAGE, 20 * BENCH_PAGE, 2);
	bench_sync(bench);
	assert_false(bench->store->mark_pending);
	/* What a version has is no matter of doubt either. */
	bench_commit(bench, "");
	bench_put(bench, a, 0, 30 * BENCH_PAGE, 3);
	bench_put(bench, b, 0, 30 * BENCH_PAGE, 4);
	bench_sync(bench);
	assert_false(bench->store->mark_pending);
	assert_nothing_leaks(bench);
	assert_ok(mojo_version_drop(bench->store, 1));
	assert_int_equal(bench->store->doubts, 0); /* marking is due for more than that */
	bench_put(bench, a, 30 * BENCH_PAGE, BENCH_PAGE, 3);
	bench_sync(bench);
	assert_int_equal(bench->store->doubts, 0);
	assert_nothing_leaks(bench);
}

static void lose_inode(struct bench *bench, uint32_t bucket)
{
	struct mojo_check_result result;
	uint8_t key[5] = { MOJO_KEY_INODE };
	bench_checkpoint(bench);
	mojo_put_be32(key + 1, bucket);
	pthread_mutex_lock(&bench->store->mu);
	assert_ok(mojo_tree_delete(&bench->store->main, key, sizeof(key)));
	pthread_mutex_unlock(&bench->store->mu);
	for (unsigned i = 0; i < 2; i++) { /* neither root knows of it any more */
		bench_put(bench, bench_file(bench, i ? "x" : "y"), 0, 1, 1);
		bench_checkpoint(bench);
	}
	bench_crash(bench);
	assert_ok(mojo_repair(bench->io, NULL, &result));
	assert_int_equal(result.errors_left, 0);
	bench_open(bench);
}

/* With an inode it is lost what was shared. A repair that finds the pages again takes all of them for shared. */
static void test_what_a_repair_finds_again_may_be_shared(void **state)
{
	struct bench *bench = *state;
	uint32_t a = file_of(bench, "a", 0), b = clone_of(bench, MOJO_ACTIVE, a, "b");
	char name[40];
	snprintf(name, sizeof(name), "#%" PRIu32, a);
	lose_inode(bench, a);
	uint32_t lost = bench_lookup(bench, MOJO_ACTIVE, "lost+found");
	bench_assert(bench, MOJO_ACTIVE, a, 0, BENCH_PAGE, 0);
	assert_ok(mojo_unlink(bench->store, lost, name));
	assert_sound(bench);
	assert_nothing_leaks(bench);
	assert_file(bench, MOJO_ACTIVE, b, 0);
}

static void test_a_record_that_does_not_fit_is_refused(void **state)
{
	struct bench *bench = *state;
	struct mojo_store *store = bench->store;
	uint32_t a = file_of(bench, "a", 0), own = file_of(bench, "own", 900);
	uint64_t limit = store->log.tail;
	bench_sync(bench);
	pthread_mutex_lock(&store->mu);
	struct mojo_record_clone clone = { .source = a, .target = own, .count = 5, .size = 5 };
	assert_errno(mojo_apply_clone(store, &clone, limit), EUCLEAN); /* it has content of its own */
	clone.target = a;
	assert_errno(mojo_apply_clone(store, &clone, limit), EUCLEAN);
	clone.target = MOJO_ROOT_BUCKET;
	assert_errno(mojo_apply_clone(store, &clone, limit), EUCLEAN);
	clone.target = 999;
	assert_errno(mojo_apply_clone(store, &clone, limit), ENOENT);
	clone = (struct mojo_record_clone){ .version = 5, .source = a, .target = own, .count = 5 };
	assert_errno(mojo_apply_clone(store, &clone, limit), ENOENT);
	pthread_mutex_unlock(&store->mu);
	assert_file(bench, MOJO_ACTIVE, own, 900);
	assert_nothing_leaks(bench);
}

/* A batch that has nothing but a copy in it is closed by time like any other. */
static void test_a_copy_waits_to_be_flushed(void **state)
{
	struct bench *bench = *state;
	uint32_t a = file_of(bench, "a", 0);
	bench_checkpoint(bench);
	assert_ok(mojo_io_memory_track(bench->io));
	uint32_t b = bench_file(bench, "b");
	bench_sync(bench);
	assert_int_equal(bench->store->log.opened_ns, 0);
	assert_int_equal(copy(bench, MOJO_ACTIVE, a, 0, b, 0, ALL), SIZE);
	assert_true(bench->store->log.opened_ns != 0);
	struct mojo_io *lost;
	assert_ok(mojo_io_memory_clone_durable(bench->io, &lost));
	bench_sync(bench);
	bench_power_cut(bench);
	bench_open(bench);
	assert_file(bench, MOJO_ACTIVE, b, 0);
	bench_crash(bench);
	bench_replace_io(bench, lost);
	bench_open(bench);
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, b).size, 0);
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, b).pages, 0);
}

/* Slots of every size there can be, with steps of many slots or one, and copies through a long log of checkpoints. */
static void test_large_slots_and_many_steps(void **state)
{
	struct bench *bench = *state;
	static const uint32_t pps[] = { 64, 4096, 65536 };
	for (unsigned i = 0; i < 3; i++) {
		struct mojo_io *io;
		bench_crash(bench);
		assert_ok(mojo_io_memory(&io));
		bench_replace_io(bench, io);
		bench->geometry.pages_per_slot = pps[i];
		assert_ok(mojo_create(bench->io, &bench->geometry, &bench->config));
		bench_open(bench);
		uint32_t a = bench_file(bench, "a"), b = bench_file(bench, "b");
		uint64_t step = (1u << 20) / (pps[i] * MOJO_ENTRY_BYTES) * (uint64_t)pps[i] * BENCH_PAGE;
		for (uint64_t k = 0; k < 200; k++) /* many in each slot, and pages beside the ends of steps */
			bench_put(bench, a, (k % 3 + k % 2) * step + k * BENCH_PAGE - (k % 2 ? 50 * BENCH_PAGE : 0),
				  BENCH_PAGE, k);
		uint64_t size = bench_attr(bench, MOJO_ACTIVE, a).size;
		assert_int_equal(copy(bench, MOJO_ACTIVE, a, 0, b, 0, ALL), size);
		assert_int_equal(bench_attr(bench, MOJO_ACTIVE, b).pages, bench_attr(bench, MOJO_ACTIVE, a).pages);
		for (unsigned round = 0; round < 2; round++) {
			for (uint64_t k = 0; k < 200; k++)
				bench_assert(bench, MOJO_ACTIVE, b,
					     (k % 3 + k % 2) * step + k * BENCH_PAGE - (k % 2 ? 50 * BENCH_PAGE : 0),
					     BENCH_PAGE, k);
			crash_and_open(bench);
		}
		assert_int_equal(shared_pages(bench, MOJO_ACTIVE, a, b), bench_attr(bench, MOJO_ACTIVE, a).pages);
		bench_put(bench, a, 0, BENCH_PAGE, 1);
		bench_put(bench, b, BENCH_PAGE, BENCH_PAGE, 1);
		assert_nothing_leaks(bench);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_a_copy_takes_no_space),
		BENCH_TEST(test_what_is_in_memory_only_is_shared),
		BENCH_TEST(test_slots_in_memory_are_not_shared),
		BENCH_TEST(test_what_is_written_to_one_is_not_in_the_other),
		BENCH_TEST(test_the_last_page_is_shared_with_its_zeros),
		BENCH_TEST(test_a_copy_out_of_a_frozen_version),
		BENCH_TEST(test_a_file_becomes_what_it_was),
		BENCH_TEST(test_copies_of_copies_go_in_any_order),
		BENCH_TEST(test_a_number_that_is_used_again),
		BENCH_TEST(test_copies_while_a_version_is_settled),
		BENCH_TEST(test_what_cannot_be_shared_is_copied),
		BENCH_TEST(test_a_long_copy_of_bytes_is_cut_short),
		BENCH_TEST(test_what_cannot_be_copied_is_refused),
		BENCH_TEST(test_a_slot_that_cannot_be_read_changes_nothing),
		BENCH_TEST(test_a_wrong_block_is_wrong_in_both),
		BENCH_TEST(test_only_what_was_shared_is_in_doubt),
		BENCH_TEST(test_what_a_repair_finds_again_may_be_shared),
		BENCH_TEST(test_a_record_that_does_not_fit_is_refused),
		BENCH_TEST(test_a_copy_waits_to_be_flushed),
		BENCH_TEST(test_large_slots_and_many_steps),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
