/* SPDX-License-Identifier: MIT */
/*
 * slotmap.h: a map does what an array of entries does, in the active version and in frozen ones; every page
 * that is overwritten or cleared is killed once, and only if no frozen version can hold it.
 */
#include "support/support.h"

#include "slotmap.h"

enum { BUCKETS = 3, LOW_PAGES = 1400, HIGH_PAGES = 200, PAGES = LOW_PAGES + HIGH_PAGES, FROZEN_MAX = 10 };
#define FIRST_HIGH ((1ull << 32) - HIGH_PAGES)
#define TINY_CACHE (40u << 10)

/* The pages of a bucket that are used: the first ones, and the last ones there can be. */
static uint64_t page_of(unsigned i)
{
	return i < LOW_PAGES ? i : FIRST_HIGH + (i - LOW_PAGES);
}

struct model {
	struct mojo_entry entries[BUCKETS][PAGES];
};

struct frozen {
	struct mojo_tree tree;
	struct model *model; /* owned */
};

struct world {
	struct shelf shelf;
	struct dice dice;
	uint32_t pages_per_slot;
	struct mojo_tree tree;
	struct mojo_slotmap map;
	struct model model;
	struct frozen frozen[FROZEN_MAX];
	unsigned frozen_count;
	uint64_t next_address;
	struct tally killed;   /* pages, as told */
	struct tally expected; /* as they should be */
};

static void on_killed(void *arg, uint64_t address)
{
	struct world *world = arg;
	tally_add(&world->killed, address, 1);
	assert_int_equal(tally_of(&world->killed, address), 1);
}

static struct world *world_new(const char *name, uint32_t page_size, uint32_t pages_per_slot)
{
	struct world *world = calloc(1, sizeof(*world));
	assert_non_null(world);
	world->dice = dice_new(name);
	world->pages_per_slot = pages_per_slot;
	shelf_init(&world->shelf, page_size, pages_per_slot, TINY_CACHE);
	world->tree = (struct mojo_tree){ .blobs = &world->shelf.blobs, .kind = MOJO_TREE_MAIN, .version = 1 };
	world->map = (struct mojo_slotmap){ &world->tree, pages_per_slot, on_killed, world, 0 };
	world->next_address = 1;
	return world;
}

static void find_held(struct world *world)
{
	world->tree.held = 0;
	for (unsigned i = 0; i < world->frozen_count; i++)
		if (world->frozen[i].tree.version > world->tree.held)
			world->tree.held = world->frozen[i].tree.version;
}

static void freeze(struct world *world)
{
	if (world->frozen_count == FROZEN_MAX)
		return;
	struct frozen *frozen = &world->frozen[world->frozen_count++];
	frozen->tree = world->tree;
	mojo_ref_retain(frozen->tree.root);
	frozen->model = malloc(sizeof(*frozen->model));
	assert_non_null(frozen->model);
	*frozen->model = world->model;
	world->tree.version++;
	find_held(world);
}

static void drop(struct world *world, unsigned i)
{
	mojo_tree_release(&world->frozen[i].tree);
	free(world->frozen[i].model);
	world->frozen[i] = world->frozen[--world->frozen_count];
	find_held(world);
}

static void write_out(struct world *world)
{
	shelf_write_out(&world->shelf, world->tree.root);
	for (unsigned i = 0; i < world->frozen_count; i++)
		shelf_write_out(&world->shelf, world->frozen[i].tree.root);
	assert_int_equal(world->shelf.blobs.dirty_bytes, 0);
}

static void world_free(struct world *world)
{
	while (world->frozen_count)
		drop(world, 0);
	mojo_tree_release(&world->tree);
	assert_int_equal(world->shelf.blobs.dirty_bytes, 0);
	shelf_free(&world->shelf);
	tally_free(&world->killed);
	tally_free(&world->expected);
	free(world);
}

/* ---- comparing ------------------------------------------------------------------------------ */

static void assert_entry(const struct mojo_entry *have, const struct mojo_entry *wanted)
{
	assert_int_equal(have->address, wanted->address);
	assert_int_equal(have->version, wanted->version);
	assert_int_equal(have->checksum, wanted->checksum);
}

static void assert_map(struct world *world, struct mojo_tree *tree, const struct model *model)
{
	struct mojo_slotmap map = { tree, world->pages_per_slot, NULL, NULL, 0 };
	for (uint32_t b = 0; b < BUCKETS; b++) {
		struct mojo_entry entries[LOW_PAGES];
		assert_ok(mojo_slotmap_get(&map, b + 1, 0, LOW_PAGES, entries));
		for (unsigned i = 0; i < LOW_PAGES; i++)
			assert_entry(&entries[i], &model->entries[b][i]);
		assert_ok(mojo_slotmap_get(&map, b + 1, FIRST_HIGH, HIGH_PAGES, entries));
		for (unsigned i = 0; i < HIGH_PAGES; i++)
			assert_entry(&entries[i], &model->entries[b][LOW_PAGES + i]);
		/* By steps over what is present. */
		uint64_t page = 0;
		struct mojo_entry entry;
		for (unsigned i = 0; i < PAGES; i++) {
			if (!model->entries[b][i].version)
				continue;
			assert_ok(mojo_slotmap_next(&map, b + 1, page, &page, &entry));
			assert_int_equal(page, page_of(i));
			assert_entry(&entry, &model->entries[b][i]);
			page++;
		}
		assert_errno(mojo_slotmap_next(&map, b + 1, page, &page, &entry), ENOENT);
	}
}

static void assert_kills(struct world *world)
{
	assert_int_equal(world->killed.total, world->expected.total);
	for (uint64_t address = 1; address < world->next_address; address++)
		assert_int_equal(tally_of(&world->killed, address), tally_of(&world->expected, address));
}

/* Every page ever written is in the active version, in a frozen one, or was killed; never both. */
static void assert_page_accounts(struct world *world, bool leaks)
{
	struct tally live = { 0 };
	for (unsigned f = 0; f <= world->frozen_count; f++) {
		const struct model *model = f ? world->frozen[f - 1].model : &world->model;
		for (uint32_t b = 0; b < BUCKETS; b++)
			for (unsigned i = 0; i < PAGES; i++)
				if (model->entries[b][i].version && !tally_of(&live, model->entries[b][i].address))
					tally_add(&live, model->entries[b][i].address, 1);
	}
	for (uint64_t address = 1; address < world->next_address; address++) {
		unsigned uses = tally_of(&live, address), kills = tally_of(&world->killed, address);
		if (uses + kills > 1 || (!leaks && !uses && !kills))
			fail_msg("page at %" PRIu64 ": in use %u, killed %u", address, uses, kills);
	}
	tally_free(&live);
}

/* ---- changing ------------------------------------------------------------------------------- */

static void goes(struct world *world, const struct mojo_entry *entry)
{
	if (entry->version > world->tree.held)
		tally_add(&world->expected, entry->address, 1);
}

/* A range of pages that all are used. */
static void random_range(struct world *world, unsigned *ret_first, unsigned *ret_count)
{
	unsigned first = dice_below(&world->dice, PAGES), end = first < LOW_PAGES ? LOW_PAGES : PAGES;
	static const unsigned lengths[] = { 1, 1, 1, 2, 3, 50, 64, 100, 700 };
	unsigned count = 1 + dice_below(&world->dice, lengths[dice_below(&world->dice, 9)]);
	if (dice_below(&world->dice, 8) == 0) { /* whole slots */
		first -= first < LOW_PAGES ? first % 64 : 0;
		count = 64 * (1 + dice_below(&world->dice, 4));
	}
	*ret_first = first;
	*ret_count = count < end - first ? count : end - first;
}

static void set(struct world *world, uint32_t b, unsigned first, unsigned count)
{
	uint32_t sums[PAGES], added, wanted = 0;
	for (unsigned i = 0; i < count; i++)
		sums[i] = (uint32_t)dice_next(&world->dice);
	for (unsigned i = 0; i < count; i++) {
		struct mojo_entry *entry = &world->model.entries[b][first + i];
		wanted += !entry->version;
		if (entry->version)
			goes(world, entry);
		*entry = (struct mojo_entry){ world->next_address + i, world->tree.version, sums[i] };
	}
	assert_ok(mojo_slotmap_set(&world->map, b + 1, page_of(first), count, world->next_address, sums, &added));
	assert_int_equal(added, wanted);
	world->next_address += count;
}

static void clear(struct world *world, uint32_t b, unsigned first, unsigned count)
{
	uint64_t pages = count, removed, wanted = 0;
	if (dice_below(&world->dice, 30) == 0) { /* from there to the end, however it is said */
		count = PAGES - first;
		pages = dice_below(&world->dice, 2) ? UINT64_MAX : (1ull << 32) - page_of(first);
	}
	for (unsigned i = first; i < first + count; i++) {
		struct mojo_entry *entry = &world->model.entries[b][i];
		if (entry->version) {
			goes(world, entry);
			wanted++;
		}
		*entry = (struct mojo_entry){ 0 };
	}
	assert_ok(mojo_slotmap_clear(&world->map, b + 1, page_of(first), pages, &removed));
	assert_int_equal(removed, wanted);
}

static void look(struct world *world, uint32_t b, unsigned first, unsigned count)
{
	struct mojo_entry entries[PAGES], entry;
	uint64_t page;
	assert_ok(mojo_slotmap_get(&world->map, b + 1, page_of(first), count, entries));
	for (unsigned i = 0; i < count; i++)
		assert_entry(&entries[i], &world->model.entries[b][first + i]);
	unsigned i = first;
	while (i < PAGES && !world->model.entries[b][i].version)
		i++;
	int err = mojo_slotmap_next(&world->map, b + 1, page_of(first), &page, &entry);
	assert_int_equal(err, i < PAGES ? 0 : -ENOENT);
	if (!err) {
		assert_int_equal(page, page_of(i));
		assert_entry(&entry, &world->model.entries[b][i]);
	}
	for (i = first; i < (first < LOW_PAGES ? LOW_PAGES : PAGES) && world->model.entries[b][i].version; i++)
		;
	assert_ok(mojo_slotmap_hole(&world->map, b + 1, page_of(first), &page));
	assert_int_equal(page, i == LOW_PAGES && first < LOW_PAGES ? LOW_PAGES : i == PAGES ? 1ull << 32 : page_of(i));
}

static void run(struct world *world, int rounds, bool drops)
{
	for (int round = 0; round < rounds; round++) {
		uint32_t b = dice_below(&world->dice, BUCKETS);
		unsigned first, count;
		random_range(world, &first, &count);
		switch (dice_below(&world->dice, 8)) {
		case 0:
		case 1:
			look(world, b, first, count);
			break;
		case 2:
		case 3:
			clear(world, b, first, count);
			break;
		default:
			set(world, b, first, count);
		}
		assert_int_equal(world->killed.total, world->expected.total);
		if (dice_below(&world->dice, 60) == 0)
			freeze(world);
		if (drops && world->frozen_count && dice_below(&world->dice, 80) == 0)
			drop(world, dice_below(&world->dice, world->frozen_count));
		if (dice_below(&world->dice, 40) == 0)
			write_out(world);
		if (dice_below(&world->dice, 200) == 0) {
			assert_map(world, &world->tree, &world->model);
			assert_kills(world);
			for (unsigned f = 0; f < world->frozen_count; f++)
				assert_map(world, &world->frozen[f].tree, world->frozen[f].model);
		}
	}
	write_out(world);
	shelf_forget(&world->shelf, world->pages_per_slot, TINY_CACHE);
	assert_map(world, &world->tree, &world->model);
	struct tally live = { 0 };
	shelf_mark(&world->shelf, world->tree.root, MOJO_BLOB_NODE, &live);
	for (unsigned f = 0; f < world->frozen_count; f++) {
		assert_map(world, &world->frozen[f].tree, world->frozen[f].model);
		shelf_mark(&world->shelf, world->frozen[f].tree.root, MOJO_BLOB_NODE, &live);
	}
	assert_kills(world);
	assert_page_accounts(world, drops);
	shelf_assert_accounts(&world->shelf, &live, drops);
	tally_free(&live);
	assert_int_equal(world->shelf.damaged, 0);
}

static void test_a_map_is_an_array_of_entries(void **state)
{
	(void)state;
	for (uint32_t pages_per_slot = 64; pages_per_slot <= 4096; pages_per_slot *= 4) {
		struct world *world = world_new("map", 4096, pages_per_slot);
		run(world, pages_per_slot > 1000 ? 300 : 1500, false);
		world_free(world);
	}
}

static void test_dropped_versions_take_nothing_with_them(void **state)
{
	(void)state;
	for (uint32_t pages_per_slot = 64; pages_per_slot <= 1024; pages_per_slot *= 4) {
		struct world *world = world_new("map with drops", 4096, pages_per_slot);
		run(world, pages_per_slot > 1000 ? 400 : 1500, true);
		world_free(world);
	}
}

static void test_large_pages_and_slots(void **state)
{
	struct world *world = world_new("large map", 65536, 65536);
	(void)state;
	run(world, 100, true);
	world_free(world);
}

/* ---- cases ---------------------------------------------------------------------------------- */

static void test_nothing_is_there_to_begin_with(void **state)
{
	struct world *world = world_new(NULL, 4096, 64);
	struct mojo_entry entries[3];
	uint64_t page, removed;
	(void)state;
	memset(entries, 0xff, sizeof(entries));
	assert_ok(mojo_slotmap_get(&world->map, 1, 62, 3, entries));
	for (int i = 0; i < 3; i++)
		assert_int_equal(entries[i].version, 0);
	assert_errno(mojo_slotmap_next(&world->map, 1, 0, &page, entries), ENOENT);
	assert_ok(mojo_slotmap_hole(&world->map, 1, 5, &page));
	assert_int_equal(page, 5);
	assert_ok(mojo_slotmap_clear(&world->map, 1, 0, UINT64_MAX, &removed));
	assert_int_equal(removed, 0);
	assert_int_equal(world->shelf.blobs.dirty_bytes, 0);
	/* Behind the last page there can be, nothing is. */
	assert_ok(mojo_slotmap_get(&world->map, 1, 1ull << 32, 3, entries));
	assert_int_equal(entries[0].version, 0);
	assert_errno(mojo_slotmap_next(&world->map, 1, 1ull << 40, &page, entries), ENOENT);
	world_free(world);
}

static void test_a_small_file_has_no_slot_blob(void **state)
{
	struct world *world = world_new(NULL, 4096, 64);
	(void)state;
	set(world, 0, 0, MOJO_SLOT_DELTAS);
	write_out(world);
	assert_int_equal(world->shelf.blobs_placed, 1); /* a leaf */
	set(world, 0, MOJO_SLOT_DELTAS, 1);             /* one more than fits beside the key */
	write_out(world);
	assert_int_equal(world->shelf.blobs_placed, 3); /* the leaf anew, and a slot */
	assert_map(world, &world->tree, &world->model);
	/* When the last entry goes, so does the slot. */
	uint64_t removed;
	assert_ok(mojo_slotmap_clear(&world->map, 1, 0, 64, &removed));
	assert_int_equal(removed, MOJO_SLOT_DELTAS + 1);
	assert_true(mojo_ref_is_null(world->tree.root));
	assert_int_equal(world->shelf.killed.total, 3);
	assert_int_equal(world->killed.total, MOJO_SLOT_DELTAS + 1);
	world_free(world);
}

static void test_clearing_the_last_of_few_entries_removes_their_slot(void **state)
{
	struct world *world = world_new(NULL, 4096, 64);
	uint64_t removed;
	(void)state;
	set(world, 0, 3, 2);
	assert_ok(mojo_slotmap_clear(&world->map, 1, 0, 4, &removed)); /* not the whole slot */
	assert_int_equal(removed, 1);
	assert_ok(mojo_slotmap_clear(&world->map, 1, 4, 3, &removed));
	assert_int_equal(removed, 1);
	assert_true(mojo_ref_is_null(world->tree.root));
	world_free(world);
}

/* What a version costs follows what changed in it: a page of a large file is a delta, not a slot. */
static void test_one_changed_page_of_a_large_file_costs_a_leaf(void **state)
{
	struct world *world = world_new(NULL, 4096, 1024);
	(void)state;
	set(world, 0, 0, LOW_PAGES);
	write_out(world);
	uint64_t placed = world->shelf.blobs_placed, blocks = world->shelf.next;
	freeze(world);
	set(world, 0, 700, 1);
	write_out(world);
	assert_int_equal(world->shelf.blobs_placed - placed, 1);
	assert_int_equal(world->shelf.next - blocks, 1);
	assert_int_equal(world->killed.total, 0);
	/* Both versions read through the same slot. */
	assert_map(world, &world->tree, &world->model);
	assert_map(world, &world->frozen[0].tree, world->frozen[0].model);
	/* Many changes make it whole; the frozen version keeps the old one. */
	for (unsigned i = 0; i < 60; i++)
		set(world, 0, i * 17, 1);
	placed = world->shelf.blobs_placed;
	write_out(world);
	assert_int_equal(world->shelf.blobs_placed - placed, 2);
	assert_map(world, &world->tree, &world->model);
	assert_map(world, &world->frozen[0].tree, world->frozen[0].model);
	assert_kills(world);
	world_free(world);
}

/* A slot that was made whole and is not written yet is shared like one that is: versions keep deltas beside it. */
static void test_versions_share_a_slot_that_is_still_in_memory(void **state)
{
	struct world *world = world_new(NULL, 4096, 1024);
	(void)state;
	set(world, 0, 0, LOW_PAGES);
	write_out(world);
	for (unsigned i = 0; i < 60; i++)
		set(world, 0, i * 17, 1); /* more than there are deltas */
	uint64_t placed = world->shelf.blobs_placed;
	for (unsigned i = 0; i < 5; i++) {
		freeze(world);
		set(world, 0, 900 + i, 2);
		clear(world, 0, 3 * i, 1);
	}
	/* Held by this tree alone again: the deltas go back into it. */
	while (world->frozen_count > 2)
		drop(world, 0);
	write_out(world);
	assert_int_equal(world->shelf.blobs_placed - placed, 3 + 1); /* a leaf for each version, and the slot */
	assert_map(world, &world->tree, &world->model);
	for (unsigned i = 0; i < world->frozen_count; i++)
		assert_map(world, &world->frozen[i].tree, world->frozen[i].model);
	assert_kills(world);
	world_free(world);
}

/* When the last version that shared it is gone, the slot in memory is changed in place again, deltas and all. */
static void test_deltas_beside_a_slot_in_memory_go_into_it(void **state)
{
	struct world *world = world_new(NULL, 4096, 1024);
	(void)state;
	set(world, 0, 0, LOW_PAGES);
	freeze(world);
	for (unsigned i = 0; i < 30; i++)
		set(world, 0, i * 17, 1);
	drop(world, 0);
	size_t dirty = world->shelf.blobs.dirty_bytes;
	for (unsigned i = 0; i < 60; i++)
		set(world, 0, 500 + i * 7, 1);
	assert_int_equal(world->shelf.blobs.dirty_bytes, dirty);
	assert_map(world, &world->tree, &world->model);
	struct mojo_cell cell;
	uint8_t key[9] = { MOJO_KEY_SLOT };
	mojo_put_be32(key + 1, 1);
	assert_ok(mojo_tree_get(&world->tree, key, sizeof(key), &cell));
	assert_int_equal(cell.value_length, MOJO_SLOT_VALUE_FIXED_BYTES);
	assert_kills(world);
	world_free(world);
}

static void test_a_damaged_slot_is_an_error_and_kills_nothing(void **state)
{
	struct world *world = world_new(NULL, 4096, 64);
	char path[MOJO_CHUNK_PATH_BYTES];
	struct mojo_entry entries[64];
	uint32_t sums[64] = { 0 }, added;
	uint64_t page, removed;
	(void)state;
	set(world, 0, 0, 64);
	set(world, 0, 128, 64);
	write_out(world);
	shelf_forget(&world->shelf, 64, TINY_CACHE);
	uint64_t killed = world->killed.total;
	mojo_chunk_path(0, path);
	assert_ok(mojo_io_memory_flip(world->shelf.io, path, 4096 + 100, 1)); /* the first blob placed */
	assert_errno(mojo_slotmap_get(&world->map, 1, 5, 1, entries), EUCLEAN);
	assert_errno(mojo_slotmap_set(&world->map, 1, 5, 1, 5000, sums, &added), EUCLEAN);
	assert_errno(mojo_slotmap_set(&world->map, 1, 0, 64, 5000, sums, &added), EUCLEAN);
	assert_errno(mojo_slotmap_clear(&world->map, 1, 5, 1, &removed), EUCLEAN);
	assert_errno(mojo_slotmap_clear(&world->map, 1, 0, 64, &removed), EUCLEAN);
	assert_errno(mojo_slotmap_next(&world->map, 1, 0, &page, entries), EUCLEAN);
	assert_errno(mojo_slotmap_hole(&world->map, 1, 0, &page), EUCLEAN);
	assert_int_equal(world->killed.total, killed);
	assert_ok(mojo_slotmap_get(&world->map, 1, 128, 64, entries)); /* the other one is well */
	assert_ok(mojo_io_memory_flip(world->shelf.io, path, 4096 + 100, 1));
	assert_map(world, &world->tree, &world->model);
	world_free(world);
}

static void assert_value_refused(const uint8_t *value, unsigned length)
{
	struct world *world = world_new(NULL, 4096, 64);
	uint8_t key[9] = { MOJO_KEY_SLOT };
	struct mojo_entry entry;
	uint32_t sum = 0, added;
	uint64_t page;
	mojo_put_be32(key + 1, 1);
	assert_ok(mojo_tree_put(&world->tree, key, sizeof(key), value, length));
	assert_errno(mojo_slotmap_get(&world->map, 1, 0, 1, &entry), EUCLEAN);
	assert_errno(mojo_slotmap_set(&world->map, 1, 0, 1, 9, &sum, &added), EUCLEAN);
	assert_errno(mojo_slotmap_next(&world->map, 1, 0, &page, &entry), EUCLEAN);
	world_free(world);
}

static void test_a_value_that_cannot_be_is_refused(void **state)
{
	uint8_t value[MOJO_VALUE_BYTES_MAX] = { 0 };
	(void)state;
	/* Two deltas, sound but for one thing at a time. */
	assert_value_refused(value, MOJO_REF_BYTES); /* no count */
	mojo_put16(value + 24, 2);
	mojo_put16(value + 26, 3);
	mojo_put16(value + 40, 4);
	assert_value_refused(value, MOJO_SLOT_VALUE_FIXED_BYTES + MOJO_DELTA_BYTES);
	assert_value_refused(value, MOJO_SLOT_VALUE_FIXED_BYTES + 2 * MOJO_DELTA_BYTES + 1);
	mojo_put16(value + 40, 3); /* the same index twice */
	assert_value_refused(value, MOJO_SLOT_VALUE_FIXED_BYTES + 2 * MOJO_DELTA_BYTES);
	mojo_put16(value + 40, 64); /* no such index in a slot */
	assert_value_refused(value, MOJO_SLOT_VALUE_FIXED_BYTES + 2 * MOJO_DELTA_BYTES);
	mojo_put16(value + 24, MOJO_SLOT_DELTAS + 1);
	for (unsigned i = 0; i <= MOJO_SLOT_DELTAS; i++)
		mojo_put16(value + 26 + i * MOJO_DELTA_BYTES, (uint16_t)i);
	assert_value_refused(value, MOJO_SLOT_VALUE_FIXED_BYTES + (MOJO_SLOT_DELTAS + 1) * MOJO_DELTA_BYTES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_there_to_begin_with),
		cmocka_unit_test(test_a_map_is_an_array_of_entries),
		cmocka_unit_test(test_dropped_versions_take_nothing_with_them),
		cmocka_unit_test(test_large_pages_and_slots),
		cmocka_unit_test(test_a_small_file_has_no_slot_blob),
		cmocka_unit_test(test_clearing_the_last_of_few_entries_removes_their_slot),
		cmocka_unit_test(test_one_changed_page_of_a_large_file_costs_a_leaf),
		cmocka_unit_test(test_versions_share_a_slot_that_is_still_in_memory),
		cmocka_unit_test(test_deltas_beside_a_slot_in_memory_go_into_it),
		cmocka_unit_test(test_a_damaged_slot_is_an_error_and_kills_nothing),
		cmocka_unit_test(test_a_value_that_cannot_be_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
