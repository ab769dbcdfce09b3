/* SPDX-License-Identifier: MIT */
/*
 * space.h: what died is given back after the second checkpoint that follows, never after the first; what is
 * in use is never touched; chunks that are dead altogether are kept as spares or removed.
 */
#include "support/support.h"

#include "space.h"

enum { PAGE = 4096, PER_CHUNK = BENCH_CHUNK / PAGE, CHUNKS = 8, BLOCKS = CHUNKS * PER_CHUNK, OWN_CHUNK = 64 };
#define ROOMY (64u << 20)

/* A space map over chunks that are full of ones; its tree is kept in chunks behind them. */
struct world {
	struct shelf shelf;
	struct mojo_tree tree;
	struct mojo_space_map space;
	uint8_t root[MOJO_REF_BYTES]; /* as of the last checkpoint */
	unsigned checkpoints;
	unsigned died[BLOCKS]; /* 1 + checkpoints that there had been; 0: in use */
	uint8_t retired[CHUNKS];
};

static void on_blob_killed(void *arg, uint64_t address, uint32_t blocks)
{
	struct world *world = arg;
	mojo_space_kill(&world->space, address, blocks);
}

static void start(struct world *world)
{
	world->shelf.blobs.killed = on_blob_killed;
	world->shelf.blobs.damaged = NULL;
	world->shelf.blobs.arg = world;
	world->tree = (struct mojo_tree){ .blobs = &world->shelf.blobs, .kind = MOJO_TREE_SPACE, .version = 1 };
	memcpy(world->tree.root, world->root, MOJO_REF_BYTES);
	mojo_space_map_init(&world->space, &world->tree, &world->shelf.chunks);
	assert_ok(mojo_space_load(&world->space));
}

static struct world *world_new(void)
{
	struct world *world = calloc(1, sizeof(*world));
	uint8_t *ones = malloc(BENCH_CHUNK);
	assert_non_null(world);
	assert_non_null(ones);
	memset(ones, 0xff, BENCH_CHUNK);
	shelf_init(&world->shelf, PAGE, MOJO_PPS_MIN, ROOMY);
	for (uint32_t c = 0; c < CHUNKS; c++) {
		struct iovec vector = { ones, BENCH_CHUNK };
		assert_ok(mojo_chunks_create(&world->shelf.chunks, c, -1));
		assert_ok(mojo_chunks_write(&world->shelf.chunks, (uint64_t)c * PER_CHUNK, &vector, 1));
	}
	free(ones);
	world->shelf.next = OWN_CHUNK * PER_CHUNK;
	start(world);
	return world;
}

static void stop(struct world *world)
{
	mojo_space_map_free(&world->space);
	mojo_tree_release(&world->tree);
	assert_int_equal(world->shelf.blobs.dirty_bytes, 0);
}

static void world_free(struct world *world)
{
	stop(world);
	shelf_free(&world->shelf);
	free(world);
}

static void kill_blocks(struct world *world, uint32_t address, uint32_t count)
{
	mojo_space_kill(&world->space, address, count);
	for (uint32_t i = address; i < address + count; i++)
		if (!world->died[i])
			world->died[i] = 1 + world->checkpoints;
}

static int reclaim(struct mojo_space_map *space)
{
	int err = mojo_space_reclaim_begin(space);
	if (!err)
		mojo_space_reclaim_punch(space);
	return err ? err : mojo_space_reclaim_end(space);
}

/* The three steps of a checkpoint that concern space. */
static void checkpoint(struct world *world)
{
	assert_ok(mojo_space_settle(&world->space));
	assert_int_equal(world->space.fresh.count, 0);
	shelf_write_out(&world->shelf, world->tree.root);
	memcpy(world->root, world->tree.root, MOJO_REF_BYTES);
	world->checkpoints++;
	assert_ok(reclaim(&world->space));
}

/* The process dies. What died since the last checkpoint is told again by the log. */
static void reopen(struct world *world)
{
	stop(world);
	shelf_forget(&world->shelf, MOJO_PPS_MIN, ROOMY);
	start(world);
	for (uint32_t i = 0; i < BLOCKS; i++)
		if (world->died[i] == 1 + world->checkpoints)
			mojo_space_kill(&world->space, i, 1);
}

enum look { ONES, ZEROS, GONE };

static enum look look(struct world *world, uint32_t block)
{
	uint8_t page[PAGE];
	size_t got;
	assert_ok(mojo_chunks_read_some(&world->shelf.chunks, block, page, PAGE, &got));
	if (!got)
		return GONE;
	assert_int_equal(got, PAGE);
	assert_true(page[0] == page[PAGE - 1]);
	return page[0] ? ONES : ZEROS;
}

static bool whole_chunk_died_by(struct world *world, uint32_t chunk, unsigned checkpoints)
{
	for (uint32_t i = chunk * PER_CHUNK; i < (chunk + 1) * PER_CHUNK; i++)
		if (!world->died[i] || world->died[i] > checkpoints)
			return false;
	return true;
}

/* What has been dead for two checkpoints is given back; nothing else is. */
static void assert_given_back(struct world *world)
{
	for (uint32_t i = 0; i < BLOCKS; i++) {
		bool dead;
		if (whole_chunk_died_by(world, i / PER_CHUNK, world->checkpoints - 1))
			continue; /* told apart below */
		assert_ok(mojo_space_is_dead(&world->space, i, &dead));
		assert_int_equal(dead, world->died[i] != 0);
		enum look wanted = world->died[i] && world->died[i] < world->checkpoints ? ZEROS : ONES;
		if (look(world, i) != wanted)
			fail_msg("block %u died before checkpoint %u of %u: it is %s", i, world->died[i],
				 world->checkpoints, wanted == ZEROS ? "still there" : "gone");
	}
}

static void test_nothing_is_punched_before_the_second_checkpoint(void **state)
{
	struct world *world = world_new();
	(void)state;
	kill_blocks(world, 10, 5);
	kill_blocks(world, PER_CHUNK - 3, 6); /* over the end of a chunk */
	kill_blocks(world, 5 * PER_CHUNK, 1);
	for (uint32_t i = 0; i < BLOCKS; i++)
		assert_int_equal(look(world, i), ONES);
	checkpoint(world);
	for (uint32_t i = 0; i < BLOCKS; i++)
		assert_int_equal(look(world, i), ONES);
	kill_blocks(world, 15, 2);
	checkpoint(world);
	assert_int_equal(look(world, 10), ZEROS);
	assert_int_equal(look(world, 14), ZEROS);
	assert_int_equal(look(world, 15), ONES);
	assert_given_back(world);
	checkpoint(world);
	assert_int_equal(look(world, 15), ZEROS);
	assert_given_back(world);
	world_free(world);
}

static void test_the_rule_holds_over_openings(void **state)
{
	struct dice dice = dice_new("space");
	struct world *world = world_new();
	(void)state;
	for (int round = 0; round < 60; round++) {
		for (uint32_t n = dice_below(&dice, 12); n > 0; n--) {
			uint32_t at = dice_below(&dice, BLOCKS), count = 1 + dice_below(&dice, 40);
			kill_blocks(world, at, at + count <= BLOCKS ? count : BLOCKS - at);
		}
		if (dice_below(&dice, 3) == 0)
			reopen(world);
		checkpoint(world);
		if (round % 4 == 0)
			assert_given_back(world);
		if (dice_below(&dice, 4) == 0)
			reopen(world);
	}
	assert_given_back(world);
	/* Of its own tree nothing that it needs was given back: it reads well from the disk. */
	reopen(world);
	assert_given_back(world);
	world_free(world);
}

static void test_a_block_that_is_told_twice_dies_once(void **state)
{
	struct world *world = world_new();
	(void)state;
	kill_blocks(world, 100, 10);
	kill_blocks(world, 105, 10);
	assert_int_equal(mojo_space_unreturned(&world->space), 15);
	checkpoint(world);
	kill_blocks(world, 100, 3); /* after a crash the log may tell of it again */
	checkpoint(world);
	assert_given_back(world);
	checkpoint(world);
	assert_given_back(world);
	/* Nor does it count twice towards a whole chunk. */
	kill_blocks(world, 0, 500);
	checkpoint(world);
	kill_blocks(world, 0, 600);
	checkpoint(world);
	checkpoint(world);
	checkpoint(world);
	assert_int_equal(world->space.spare_count, 0);
	assert_int_equal(look(world, 700), ONES);
	world_free(world);
}

static void test_whole_chunks_become_spares_and_then_are_removed(void **state)
{
	struct world *world = world_new();
	(void)state;
	kill_blocks(world, PER_CHUNK, 2 * PER_CHUNK); /* chunks 1 and 2 at once */
	kill_blocks(world, 5 * PER_CHUNK, 1000);      /* 5 in two steps */
	checkpoint(world);
	assert_int_equal(world->space.spare_count, 0);
	kill_blocks(world, 5 * PER_CHUNK + 1000, 24);
	checkpoint(world);
	assert_int_equal(world->space.spare_count, 2);
	assert_int_equal(look(world, PER_CHUNK), ONES); /* its disk space is kept for the next chunk */
	assert_int_equal(look(world, 2 * PER_CHUNK), ONES);
	assert_int_equal(look(world, 5 * PER_CHUNK), ZEROS);
	assert_int_equal(look(world, 5 * PER_CHUNK + 1000), ONES);
	checkpoint(world);
	assert_int_equal(look(world, 5 * PER_CHUNK + 1000), GONE); /* the third: removed */
	assert_int_equal(look(world, 4 * PER_CHUNK), ONES);
	/* The next opening knows them, too. */
	checkpoint(world);
	reopen(world);
	assert_int_equal(world->space.spare_count, 2);
	uint8_t root[MOJO_REF_BYTES];
	memcpy(root, world->tree.root, MOJO_REF_BYTES);
	int64_t one = mojo_space_take_spare(&world->space), two = mojo_space_take_spare(&world->space);
	assert_memory_equal(root, world->tree.root, MOJO_REF_BYTES); /* it may be on its way to the disk */
	assert_int_equal(world->shelf.blobs.dirty_bytes, 0);
	assert_true((one == 1 && two == 2) || (one == 2 && two == 1));
	assert_int_equal(mojo_space_take_spare(&world->space), -1);
	/* What was taken is not offered again. */
	checkpoint(world);
	reopen(world);
	assert_int_equal(mojo_space_take_spare(&world->space), -1);
	world_free(world);
}

static void test_a_chunk_that_died_bit_by_bit_goes_as_well(void **state)
{
	struct dice dice = dice_new("bit by bit");
	struct world *world = world_new();
	uint32_t left = PER_CHUNK;
	(void)state;
	while (left) {
		for (int i = 0; i < 100 && left; i++) {
			uint32_t block = 3 * PER_CHUNK + dice_below(&dice, PER_CHUNK);
			while (world->died[block])
				block = 3 * PER_CHUNK + (block + 1) % PER_CHUNK;
			kill_blocks(world, block, 1);
			left--;
		}
		checkpoint(world);
	}
	checkpoint(world);
	assert_int_equal(world->space.spare_count, 1);
	assert_int_equal(world->space.spares[0], 3);
	checkpoint(world);
	/* Nothing in the tree speaks of it any more but its being spare. */
	struct mojo_cell cell;
	uint8_t key[9] = { MOJO_SPACE_GROUP };
	mojo_put_be64(key + 1, 3 * PER_CHUNK / MOJO_SPACE_GROUP_BLOCKS);
	assert_errno(mojo_tree_get(&world->tree, key, sizeof(key), &cell), ENOENT);
	world_free(world);
}

static void test_what_cannot_be_punched_waits_for_the_next_opening(void **state)
{
	struct world *world = world_new();
	(void)state;
	kill_blocks(world, 10, 5);
	checkpoint(world);
	assert_ok(mojo_space_settle(&world->space));
	shelf_write_out(&world->shelf, world->tree.root);
	memcpy(world->root, world->tree.root, MOJO_REF_BYTES);
	world->checkpoints++;
	mojo_io_memory_fail(world->shelf.io, 0, -EIO, true);
	assert_ok(reclaim(&world->space)); /* no reason to stop working */
	mojo_io_memory_fail(world->shelf.io, 0, 0, false);
	assert_int_equal(look(world, 10), ONES);
	checkpoint(world);
	reopen(world);
	assert_true(mojo_space_unreturned(&world->space) >= 5);
	checkpoint(world);
	assert_int_equal(look(world, 10), ZEROS);
	assert_given_back(world);
	world_free(world);
}

static void test_readers_learn_that_something_was_given_back(void **state)
{
	struct world *world = world_new();
	uint64_t before = world->space.reclaim_count;
	(void)state;
	kill_blocks(world, 10, 5);
	checkpoint(world);
	checkpoint(world);
	assert_true(world->space.reclaim_count > before);
	world_free(world);
}

static void test_a_chunk_smaller_than_a_group_of_blocks(void **state)
{
	struct shelf shelf;
	(void)state;
	/* 4 MiB chunks of 64 KiB pages: 64 blocks each. */
	shelf_init(&shelf, 65536, MOJO_PPS_MIN, ROOMY);
	struct mojo_tree tree = { .blobs = &shelf.blobs, .kind = MOJO_TREE_SPACE, .version = 1 };
	struct mojo_space_map space;
	mojo_space_map_init(&space, &tree, &shelf.chunks);
	assert_int_equal(space.group_blocks, 64);
	mojo_space_kill(&space, 64, 64);
	mojo_space_kill(&space, 130, 1);
	assert_ok(mojo_space_settle(&space));
	assert_ok(reclaim(&space));
	assert_ok(mojo_space_settle(&space));
	assert_ok(reclaim(&space));
	assert_int_equal(mojo_space_take_spare(&space), 1);
	assert_int_equal(mojo_space_take_spare(&space), -1);
	mojo_space_map_free(&space);
	mojo_tree_release(&tree);
	shelf_free(&shelf);
}

static void test_sets_hold_what_was_added(void **state)
{
	struct dice dice = dice_new("sets");
	struct mojo_block_set set = { 0 };
	struct tally model = { 0 };
	(void)state;
	assert_false(mojo_block_set_has(&set, 1024, 5));
	assert_int_equal(mojo_block_set_count(&set), 0);
	for (int i = 0; i < 2000; i++) {
		uint32_t at = dice_below(&dice, 300000), count = dice_below(&dice, 30);
		assert_ok(mojo_block_set_add(&set, 1024, at, count));
		tally_add(&model, at, count);
	}
	uint64_t present = 0;
	for (uint32_t i = 0; i < 301000; i++) {
		assert_int_equal(mojo_block_set_has(&set, 1024, i), tally_of(&model, i) > 0);
		present += tally_of(&model, i) > 0;
	}
	assert_int_equal(mojo_block_set_count(&set), present);
	mojo_block_set_free(&set);
	tally_free(&model);
}

static void test_a_tree_that_is_no_space_tree_is_refused(void **state)
{
	static const struct {
		uint8_t key[9];
		unsigned key_length, value_length;
	} cases[] = {
		{ { MOJO_SPACE_PENDING, 1 }, 2, 0 },
		{ { MOJO_SPACE_SPARE, 1 }, 2, 0 },
	};
	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct world *world = world_new();
		uint8_t value[256] = { 0 };
		assert_ok(mojo_tree_put(&world->tree, cases[i].key, cases[i].key_length, value, cases[i].value_length));
		assert_errno(mojo_space_load(&world->space), EUCLEAN);
		world_free(world);
	}
	/* A group whose bitmaps are too short. */
	struct world *world = world_new();
	uint8_t key[9] = { MOJO_SPACE_GROUP };
	bool dead;
	assert_ok(mojo_tree_put(&world->tree, key, sizeof(key), key, 5));
	assert_errno(mojo_space_is_dead(&world->space, 0, &dead), EUCLEAN);
	world_free(world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_punched_before_the_second_checkpoint),
		cmocka_unit_test(test_the_rule_holds_over_openings),
		cmocka_unit_test(test_a_block_that_is_told_twice_dies_once),
		cmocka_unit_test(test_whole_chunks_become_spares_and_then_are_removed),
		cmocka_unit_test(test_a_chunk_that_died_bit_by_bit_goes_as_well),
		cmocka_unit_test(test_what_cannot_be_punched_waits_for_the_next_opening),
		cmocka_unit_test(test_readers_learn_that_something_was_given_back),
		cmocka_unit_test(test_a_chunk_smaller_than_a_group_of_blocks),
		cmocka_unit_test(test_sets_hold_what_was_added),
		cmocka_unit_test(test_a_tree_that_is_no_space_tree_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
