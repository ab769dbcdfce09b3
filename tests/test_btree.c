/* SPDX-License-Identifier: MIT */
/*
 * btree.h: a tree does what a sorted array does; a frozen tree stays as it was; what is written out comes
 * back through a cache that is far too small; every node on disk is in use or told to be dead, never both.
 */
#include "support/support.h"

#include "btree.h"

enum { KEYS = 2500, FROZEN_MAX = 12, PPS = 64 };
#define TINY_CACHE (24u << 10) /* a handful of nodes */

/* The keys there may be, in order. */
struct keys {
	uint8_t bytes[KEYS][MOJO_KEY_BYTES_MAX];
	unsigned length[KEYS];
};

/* Which of them are there, and with what. */
struct model {
	bool present[KEYS];
	uint32_t seed[KEYS];
	uint16_t length[KEYS];
};

struct frozen {
	struct mojo_tree tree;
	struct model *model; /* owned */
};

struct world {
	struct shelf shelf;
	struct dice dice;
	struct keys keys;
	struct mojo_tree tree;
	struct model model;
	struct frozen frozen[FROZEN_MAX];
	unsigned frozen_count;
	unsigned value_max;
	bool with_slots; /* the values refer to blobs */
};

static int compare_keys(const void *a, const void *b)
{
	return memcmp(a, b, MOJO_KEY_BYTES_MAX);
}

/* Keys that share long beginnings, and of all lengths; unused bytes are zero and no key ends in one. */
static void make_keys(struct world *world, uint8_t first)
{
	struct keys *keys = &world->keys;
	memset(keys, 0, sizeof(*keys));
	for (unsigned i = 0; i < KEYS; i++) {
		uint8_t *key = keys->bytes[i];
		key[0] = first;
		mojo_put_be32(key + 1, 0x01000001u + dice_below(&world->dice, 4) * 0x01010101u);
		mojo_put_be32(key + 5, 0x01010101u + (i << 1 & 0xfe) + (i << 9 & 0xfe0000));
		for (unsigned k = 9, end = dice_below(&world->dice, 8) + 9; k < end; k++)
			key[k] = (uint8_t)(1 + dice_below(&world->dice, 255));
	}
	qsort(keys->bytes, KEYS, MOJO_KEY_BYTES_MAX, compare_keys);
	for (unsigned i = 0; i < KEYS; i++) {
		if (i > 0 && memcmp(keys->bytes[i], keys->bytes[i - 1], MOJO_KEY_BYTES_MAX) <= 0)
			memset(keys->bytes[i], 0, MOJO_KEY_BYTES_MAX); /* a double: left out below */
		keys->length[i] = MOJO_KEY_BYTES_MAX;
		while (keys->length[i] && !keys->bytes[i][keys->length[i] - 1])
			keys->length[i]--;
	}
}

static void make_value(const struct world *world, uint32_t seed, unsigned length, uint8_t *value)
{
	(void)world;
	for (unsigned i = 0; i < length; i++)
		value[i] = (uint8_t)((seed + i) * 0x9e3779b1u >> 24);
}

/* The world of slots: each value begins with a reference to a blob of its own, which holds the seed. */
static void make_slot(struct world *world, uint32_t seed, uint8_t *value)
{
	struct mojo_blob *blob;
	assert_ok(mojo_blob_new(&world->shelf.blobs, MOJO_BLOB_SLOT, world->tree.version, &blob));
	mojo_put64(blob->data, seed | 1ull << 40);
	mojo_blob_ref(blob, value);
}

static void assert_value(struct world *world, const struct mojo_cell *cell, uint32_t seed, unsigned length)
{
	uint8_t wanted[MOJO_VALUE_BYTES_MAX];
	unsigned skip = world->with_slots ? MOJO_REF_BYTES : 0;
	assert_int_equal(cell->value_length, length);
	make_value(world, seed, length, wanted);
	assert_memory_equal(cell->value + skip, wanted + skip, length - skip);
	if (skip) {
		struct mojo_blob *blob;
		assert_ok(mojo_blob_get(&world->shelf.blobs, cell->value, MOJO_BLOB_SLOT, &blob));
		assert_int_equal(mojo_get64(blob->data), seed | 1ull << 40);
		mojo_blob_put(&world->shelf.blobs, blob);
	}
}

static void assert_tree(struct world *world, const struct mojo_tree *tree, const struct model *model)
{
	struct mojo_cell cell = { 0 };
	bool behind = false;
	for (unsigned i = 0; i < KEYS; i++) {
		if (!model->present[i])
			continue;
		assert_ok(mojo_tree_next(tree, cell.key, cell.key_length, behind, &cell));
		behind = true;
		assert_int_equal(cell.key_length, world->keys.length[i]);
		assert_memory_equal(cell.key, world->keys.bytes[i], cell.key_length);
		assert_value(world, &cell, model->seed[i], model->length[i]);
	}
	assert_errno(mojo_tree_next(tree, cell.key, cell.key_length, behind, &cell), ENOENT);
}

static void put(struct world *world, unsigned i)
{
	struct model *model = &world->model;
	uint8_t value[MOJO_VALUE_BYTES_MAX];
	uint32_t seed = (uint32_t)dice_next(&world->dice);
	unsigned least = world->with_slots ? MOJO_REF_BYTES : 0;
	unsigned length = least + dice_below(&world->dice, world->value_max - least + 1);
	if (model->present[i] && dice_below(&world->dice, 2))
		length = model->length[i]; /* in place */
	struct mojo_cell old = { 0 };
	if (model->present[i] && world->with_slots)
		assert_ok(mojo_tree_get(&world->tree, world->keys.bytes[i], world->keys.length[i], &old));
	make_value(world, seed, length, value);
	if (world->with_slots)
		make_slot(world, seed, value);
	assert_ok(mojo_tree_put(&world->tree, world->keys.bytes[i], world->keys.length[i], value, length));
	if (old.value_length)
		mojo_ref_kill(&world->shelf.blobs, old.value, world->tree.held);
	model->present[i] = true;
	model->seed[i] = seed;
	model->length[i] = (uint16_t)length;
}

static void take_out(struct world *world, unsigned i)
{
	struct mojo_cell old = { 0 };
	int err = mojo_tree_get(&world->tree, world->keys.bytes[i], world->keys.length[i], &old);
	assert_int_equal(err, world->model.present[i] ? 0 : -ENOENT);
	err = mojo_tree_delete(&world->tree, world->keys.bytes[i], world->keys.length[i]);
	assert_int_equal(err, world->model.present[i] ? 0 : -ENOENT);
	if (!err && world->with_slots)
		mojo_ref_kill(&world->shelf.blobs, old.value, world->tree.held);
	world->model.present[i] = false;
}

static void touch(struct world *world, unsigned i)
{
	uint8_t *value;
	unsigned length;
	bool owns = mojo_tree_owns(&world->tree, world->keys.bytes[i], world->keys.length[i]);
	size_t dirty = world->shelf.blobs.dirty_bytes;
	int err = mojo_tree_touch(&world->tree, world->keys.bytes[i], world->keys.length[i], &value, &length);
	assert_int_equal(err, world->model.present[i] ? 0 : -ENOENT);
	if (!err)
		assert_true(owns == (world->shelf.blobs.dirty_bytes == dirty));
	if (err || world->with_slots)
		return;
	assert_int_equal(length, world->model.length[i]);
	world->model.seed[i]++;
	make_value(world, world->model.seed[i], length, value);
}

static void look(struct world *world, unsigned i)
{
	struct mojo_cell cell;
	const uint8_t *key = world->keys.bytes[i];
	int err = mojo_tree_get(&world->tree, key, world->keys.length[i], &cell);
	assert_int_equal(err, world->model.present[i] ? 0 : -ENOENT);
	if (!err)
		assert_value(world, &cell, world->model.seed[i], world->model.length[i]);
	bool behind = dice_below(&world->dice, 2);
	unsigned next = i + (behind && world->model.present[i]);
	while (next < KEYS && !world->model.present[next])
		next++;
	err = mojo_tree_next(&world->tree, key, world->keys.length[i], behind, &cell);
	assert_int_equal(err, next < KEYS ? 0 : -ENOENT);
	if (!err) {
		assert_int_equal(cell.key_length, world->keys.length[next]);
		assert_memory_equal(cell.key, world->keys.bytes[next], cell.key_length);
		assert_value(world, &cell, world->model.seed[next], world->model.length[next]);
	}
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
	world->tree.held = world->tree.version++;
}

static void thaw(struct world *world, unsigned i)
{
	mojo_tree_release(&world->frozen[i].tree);
	free(world->frozen[i].model);
	world->frozen[i] = world->frozen[--world->frozen_count];
	world->tree.held = 0;
	for (unsigned k = 0; k < world->frozen_count; k++)
		if (world->frozen[k].tree.version > world->tree.held)
			world->tree.held = world->frozen[k].tree.version;
}

static void write_out(struct world *world)
{
	shelf_write_out(&world->shelf, world->tree.root);
	for (unsigned i = 0; i < world->frozen_count; i++)
		shelf_write_out(&world->shelf, world->frozen[i].tree.root);
	assert_int_equal(world->shelf.blobs.dirty_bytes, 0);
}

/* Each block that was ever placed is reachable or was killed once. */
static void assert_accounts(struct world *world, bool leaks)
{
	struct tally live = { 0 };
	write_out(world);
	shelf_mark(&world->shelf, world->tree.root, MOJO_BLOB_NODE, &live);
	for (unsigned i = 0; i < world->frozen_count; i++)
		shelf_mark(&world->shelf, world->frozen[i].tree.root, MOJO_BLOB_NODE, &live);
	shelf_assert_accounts(&world->shelf, &live, leaks);
	tally_free(&live);
}

/* ---- running -------------------------------------------------------------------------------- */

static struct world *world_new(const char *name, enum mojo_tree_kind kind, uint32_t version, uint32_t page_size,
			       unsigned value_max)
{
	struct world *world = calloc(1, sizeof(*world));
	assert_non_null(world);
	world->dice = dice_new(name);
	shelf_init(&world->shelf, page_size, PPS, TINY_CACHE);
	make_keys(world, kind == MOJO_TREE_MAIN ? MOJO_KEY_SLOT : 0x40);
	world->with_slots = kind == MOJO_TREE_MAIN;
	world->tree = (struct mojo_tree){ .blobs = &world->shelf.blobs, .kind = kind, .version = version };
	world->value_max = value_max;
	return world;
}

/* Lets go of everything: not one dirty byte stays, and the cache has nothing in use. */
static void world_free(struct world *world)
{
	while (world->frozen_count)
		thaw(world, world->frozen_count - 1);
	mojo_tree_release(&world->tree);
	assert_int_equal(world->shelf.blobs.dirty_bytes, 0);
	size_t unused = 0;
	for (struct mojo_blob *blob = world->shelf.blobs.lru_first; blob; blob = blob->lru_next)
		unused++;
	assert_int_equal(unused, world->shelf.blobs.clean_count);
	shelf_free(&world->shelf);
	free(world);
}

static void run(struct world *world, int rounds, bool versions, bool drops)
{
	/* First it grows, then it shrinks to nothing, and so on: nodes split and join at all levels. */
	bool grow = true;
	for (int round = 0; round < rounds; round++) {
		unsigned i = dice_below(&world->dice, KEYS);
		if (!world->keys.length[i])
			continue;
		if (round % 4000 == 3999)
			grow = !grow;
		switch (dice_below(&world->dice, 10)) {
		case 0:
		case 1:
			look(world, i);
			break;
		case 2:
			touch(world, i);
			break;
		case 3:
			if (grow)
				put(world, i);
			else
				take_out(world, i);
			break;
		case 4:
			if (grow)
				take_out(world, i);
			else
				put(world, i);
			break;
		default:
			/* In runs, so that neighbours empty together. */
			for (unsigned k = i; k < i + 3 && k < KEYS; k++) {
				if (world->keys.length[k] && grow)
					put(world, k);
				else if (world->keys.length[k])
					take_out(world, k);
			}
		}
		if (versions && dice_below(&world->dice, 400) == 0)
			freeze(world);
		if (drops && world->frozen_count && dice_below(&world->dice, 600) == 0)
			thaw(world, dice_below(&world->dice, world->frozen_count));
		if (dice_below(&world->dice, 500) == 0)
			write_out(world);
		if (dice_below(&world->dice, 1500) == 0)
			assert_tree(world, &world->tree, &world->model);
		if (world->frozen_count && dice_below(&world->dice, 1500) == 0) {
			struct frozen *frozen = &world->frozen[dice_below(&world->dice, world->frozen_count)];
			assert_tree(world, &frozen->tree, frozen->model);
		}
		/* B3: what is clean keeps to its part. */
		assert_true(world->shelf.blobs.clean_bytes <= TINY_CACHE);
	}
	assert_tree(world, &world->tree, &world->model);
	for (unsigned i = 0; i < world->frozen_count; i++)
		assert_tree(world, &world->frozen[i].tree, world->frozen[i].model);
	assert_accounts(world, drops);
	/* From the disk, every byte of it. */
	shelf_forget(&world->shelf, PPS, TINY_CACHE);
	assert_tree(world, &world->tree, &world->model);
	for (unsigned i = 0; i < world->frozen_count; i++)
		assert_tree(world, &world->frozen[i].tree, world->frozen[i].model);
	assert_int_equal(world->shelf.damaged, 0);
}

static void test_a_tree_is_a_sorted_array(void **state)
{
	struct world *world = world_new("tree", MOJO_TREE_SPACE, 1, 4096, 60);
	(void)state;
	run(world, 20000, false, false);
	world_free(world);
}

static void test_a_tree_holds_values_of_any_length(void **state)
{
	struct world *world = world_new("long values", MOJO_TREE_SPACE, 1, 4096, MOJO_VALUE_BYTES_MAX);
	(void)state;
	run(world, 20000, false, false);
	world_free(world);
}

static void test_frozen_trees_stay_as_they_were(void **state)
{
	struct world *world = world_new("frozen", MOJO_TREE_SPACE, 1, 4096, 100);
	(void)state;
	run(world, 20000, true, false);
	world_free(world);
}

static void test_frozen_trees_may_be_let_go_in_any_order(void **state)
{
	struct world *world = world_new("dropped", MOJO_TREE_SPACE, 1, 4096, 300);
	(void)state;
	run(world, 20000, true, true);
	world_free(world);
}

static void test_references_in_values_are_counted(void **state)
{
	struct world *world = world_new("slots", MOJO_TREE_MAIN, 1, 4096, 80);
	(void)state;
	run(world, 12000, true, false);
	world_free(world);
	world = world_new("slots, dropped", MOJO_TREE_MAIN, 1, 4096, 80);
	run(world, 12000, true, true);
	world_free(world);
}

static void test_large_pages_hold_nodes_of_16_kib(void **state)
{
	struct world *world = world_new("large pages", MOJO_TREE_SPACE, 1, 65536, MOJO_VALUE_BYTES_MAX);
	(void)state;
	assert_int_equal(world->shelf.blobs.node_bytes, MOJO_NODE_BYTES_MAX);
	run(world, 12000, true, false);
	world_free(world);
}

/* ---- cases ---------------------------------------------------------------------------------- */

static void test_an_empty_tree_has_nothing(void **state)
{
	struct shelf shelf;
	struct mojo_cell cell;
	uint8_t *value;
	unsigned length;
	(void)state;
	shelf_init(&shelf, 4096, PPS, TINY_CACHE);
	struct mojo_tree tree = { .blobs = &shelf.blobs, .kind = MOJO_TREE_SPACE, .version = 1 };
	assert_errno(mojo_tree_get(&tree, (const uint8_t *)"k", 1, &cell), ENOENT);
	assert_errno(mojo_tree_next(&tree, (const uint8_t *)"", 0, false, &cell), ENOENT);
	assert_errno(mojo_tree_delete(&tree, (const uint8_t *)"k", 1), ENOENT);
	assert_errno(mojo_tree_touch(&tree, (const uint8_t *)"k", 1, &value, &length), ENOENT);
	assert_ok(mojo_tree_put(&tree, (const uint8_t *)"k", 1, NULL, 0));
	assert_ok(mojo_tree_get(&tree, (const uint8_t *)"k", 1, &cell));
	assert_int_equal(cell.value_length, 0);
	assert_ok(mojo_tree_delete(&tree, (const uint8_t *)"k", 1));
	assert_true(mojo_ref_is_null(tree.root));
	assert_int_equal(shelf.blobs.dirty_bytes, 0);
	shelf_free(&shelf);
}

/* A cell as large as may be, wherever it comes between small ones, finds room after a split. */
static void test_a_split_always_makes_room(void **state)
{
	(void)state;
	for (unsigned large = 0; large < 6; large++) {
		for (unsigned small = 10; small < 120; small += 3) {
			struct shelf shelf;
			uint8_t key[MOJO_KEY_BYTES_MAX] = { 0 }, value[MOJO_VALUE_BYTES_MAX] = { 0 };
			shelf_init(&shelf, 4096, PPS, TINY_CACHE);
			struct mojo_tree tree = { .blobs = &shelf.blobs, .kind = MOJO_TREE_SPACE, .version = 1 };
			unsigned count = 0;
			/* Small cells, a large one at one of some places, and then another before it. */
			for (unsigned used = 0; used < 2900; used += small + 22, count++) {
				mojo_put_be32(key, count * 10);
				assert_ok(mojo_tree_put(&tree, key, sizeof(key), value, small));
			}
			unsigned place = count * large / 5 * 10;
			mojo_put_be32(key, place + 5);
			assert_ok(mojo_tree_put(&tree, key, sizeof(key), value, MOJO_VALUE_BYTES_MAX));
			mojo_put_be32(key, place + 4);
			assert_ok(mojo_tree_put(&tree, key, sizeof(key), value, MOJO_VALUE_BYTES_MAX));
			mojo_put_be32(key, place + 6);
			assert_ok(mojo_tree_put(&tree, key, sizeof(key), value, MOJO_VALUE_BYTES_MAX));
			mojo_tree_release(&tree);
			shelf_free(&shelf);
		}
	}
}

static void test_a_freeze_copies_nothing_and_a_change_only_its_path(void **state)
{
	struct world *world = world_new(NULL, MOJO_TREE_SPACE, 1, 4096, 60);
	(void)state;
	world->shelf.blobs.limit_bytes = 64u << 20;
	for (unsigned i = 0; i < KEYS; i++)
		if (world->keys.length[i])
			put(world, i);
	size_t before = world->shelf.blobs.dirty_bytes;
	freeze(world);
	assert_int_equal(world->shelf.blobs.dirty_bytes, before);
	put(world, KEYS / 2);
	put(world, KEYS / 2);
	size_t more = world->shelf.blobs.dirty_bytes - before;
	assert_true(more > 2 * 4096 && more < 5 * 4096); /* a leaf and what is above it */
	/* So does writing: the second time only that path goes out. */
	write_out(world);
	uint64_t placed = world->shelf.blobs_placed;
	write_out(world);
	assert_int_equal(world->shelf.blobs_placed, placed);
	put(world, KEYS / 2);
	write_out(world);
	assert_in_range(world->shelf.blobs_placed - placed, 2, 4);
	world_free(world);
}

static void test_keys_in_rising_order_fill_their_nodes(void **state)
{
	struct shelf shelf;
	(void)state;
	shelf_init(&shelf, 4096, PPS, 64u << 20);
	struct mojo_tree tree = { .blobs = &shelf.blobs, .kind = MOJO_TREE_SPACE, .version = 1 };
	for (uint32_t i = 0; i < 20000; i++) {
		uint8_t key[4], value[42] = { 0 };
		mojo_put_be32(key, i);
		assert_ok(mojo_tree_put(&tree, key, 4, value, sizeof(value)));
	}
	shelf_write_out(&shelf, tree.root);
	/* 52 bytes each, 78 in a leaf. */
	assert_in_range(shelf.blobs_placed, 20000 / 78, 20000 / 78 * 102 / 100 + 3);
	shelf_free(&shelf);
}

static void test_a_damaged_node_is_an_error_and_changes_nothing(void **state)
{
	struct world *world = world_new(NULL, MOJO_TREE_SPACE, 1, 4096, 60);
	unsigned errors = 0;
	(void)state;
	for (unsigned i = 0; i < KEYS; i++)
		if (world->keys.length[i])
			put(world, i);
	write_out(world);
	shelf_forget(&world->shelf, PPS, TINY_CACHE);
	uint64_t victim = world->shelf.next / 3; /* children come first: a leaf */
	char path[MOJO_CHUNK_PATH_BYTES];
	mojo_chunk_path(0, path);
	assert_ok(mojo_io_memory_flip(world->shelf.io, path, victim * 4096 + 2000, 1));
	for (unsigned i = 0; i < KEYS; i++) {
		struct mojo_cell cell;
		uint8_t *value;
		unsigned length;
		const uint8_t *key = world->keys.bytes[i];
		if (!world->keys.length[i])
			continue;
		int err = mojo_tree_get(&world->tree, key, world->keys.length[i], &cell);
		if (!err)
			continue;
		errors++;
		assert_int_equal(err, -EUCLEAN);
		assert_errno(mojo_tree_put(&world->tree, key, world->keys.length[i], key, 1), EUCLEAN);
		assert_errno(mojo_tree_delete(&world->tree, key, world->keys.length[i]), EUCLEAN);
		assert_errno(mojo_tree_touch(&world->tree, key, world->keys.length[i], &value, &length), EUCLEAN);
		assert_errno(mojo_tree_next(&world->tree, key, world->keys.length[i], false, &cell), EUCLEAN);
	}
	assert_in_range(errors, 1, 100);
	assert_true(world->shelf.damaged >= errors);
	assert_ok(mojo_io_memory_flip(world->shelf.io, path, victim * 4096 + 2000, 1));
	assert_tree(world, &world->tree, &world->model);
	world_free(world);
}

static void place_node(struct shelf *shelf, unsigned level, unsigned kind, const uint8_t *child, uint8_t *ret_ref)
{
	struct mojo_blob *blob;
	assert_ok(mojo_blob_new(&shelf->blobs, MOJO_BLOB_NODE, 0, &blob));
	mojo_node_init(blob->data, 4096, level, kind);
	const uint8_t key[1] = { 5 };
	unsigned length = level || kind == MOJO_TREE_VERSIONS ? MOJO_REF_BYTES : 1;
	assert_true(mojo_node_insert(blob->data, 4096, 0, key, 1, child, length));
	mojo_blob_ref(blob, ret_ref);
	shelf_write_out(shelf, ret_ref);
}

/* Sound nodes put together wrongly: no search goes round for ever, none mistakes one tree for another. */
static void test_nodes_of_the_wrong_level_or_kind_are_refused(void **state)
{
	struct shelf shelf;
	struct mojo_cell cell;
	const uint8_t key[1] = { 5 };
	uint8_t leaf[MOJO_REF_BYTES], inner[MOJO_REF_BYTES];
	(void)state;
	shelf_init(&shelf, 4096, PPS, TINY_CACHE);
	struct mojo_tree tree = { .blobs = &shelf.blobs, .kind = MOJO_TREE_SPACE, .version = 1 };
	place_node(&shelf, 0, MOJO_TREE_SPACE, key, leaf);
	place_node(&shelf, 1, MOJO_TREE_SPACE, leaf, inner);
	memcpy(tree.root, inner, MOJO_REF_BYTES);
	assert_ok(mojo_tree_get(&tree, key, 1, &cell));

	place_node(&shelf, 1, MOJO_TREE_SPACE, inner, tree.root); /* level 1 below level 1 */
	assert_errno(mojo_tree_get(&tree, key, 1, &cell), EUCLEAN);
	assert_errno(mojo_tree_next(&tree, key, 1, false, &cell), EUCLEAN);
	assert_errno(mojo_tree_put(&tree, key, 1, key, 1), EUCLEAN);
	mojo_tree_release(&tree);
	place_node(&shelf, 2, MOJO_TREE_SPACE, leaf, tree.root); /* a level is missing */
	assert_errno(mojo_tree_get(&tree, key, 1, &cell), EUCLEAN);
	mojo_tree_release(&tree);

	place_node(&shelf, 0, MOJO_TREE_VERSIONS, (uint8_t[MOJO_REF_BYTES]){ 0 }, leaf);
	memcpy(tree.root, leaf, MOJO_REF_BYTES);
	assert_errno(mojo_tree_get(&tree, key, 1, &cell), EUCLEAN);
	assert_int_equal(shelf.blobs.dirty_bytes, 0);
	shelf_free(&shelf);
}

static void test_writing_out_goes_on_after_a_failure(void **state)
{
	struct world *world = world_new(NULL, MOJO_TREE_SPACE, 1, 4096, 60);
	(void)state;
	for (unsigned i = 0; i < KEYS; i++)
		if (world->keys.length[i])
			put(world, i);
	freeze(world);
	for (unsigned i = 0; i < KEYS; i += 5)
		if (world->keys.length[i])
			put(world, i);
	for (unsigned after = 1;; after += 7) {
		world->shelf.fail_after = after;
		int err = mojo_blob_write_out(&world->shelf.blobs, world->tree.root, shelf_place, &world->shelf);
		assert_tree(world, &world->tree, &world->model); /* half in memory, half on disk */
		assert_tree(world, &world->frozen[0].tree, world->frozen[0].model);
		if (!err)
			break;
		assert_errno(err, ENOSPC);
	}
	world->shelf.fail_after = 0;
	write_out(world);
	assert_accounts(world, false);
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_empty_tree_has_nothing),
		cmocka_unit_test(test_a_tree_is_a_sorted_array),
		cmocka_unit_test(test_a_tree_holds_values_of_any_length),
		cmocka_unit_test(test_a_split_always_makes_room),
		cmocka_unit_test(test_frozen_trees_stay_as_they_were),
		cmocka_unit_test(test_frozen_trees_may_be_let_go_in_any_order),
		cmocka_unit_test(test_references_in_values_are_counted),
		cmocka_unit_test(test_large_pages_hold_nodes_of_16_kib),
		cmocka_unit_test(test_a_freeze_copies_nothing_and_a_change_only_its_path),
		cmocka_unit_test(test_keys_in_rising_order_fill_their_nodes),
		cmocka_unit_test(test_a_damaged_node_is_an_error_and_changes_nothing),
		cmocka_unit_test(test_nodes_of_the_wrong_level_or_kind_are_refused),
		cmocka_unit_test(test_writing_out_goes_on_after_a_failure),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
