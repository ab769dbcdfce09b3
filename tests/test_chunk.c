/* SPDX-License-Identifier: MIT */
/* chunk.h: blocks are found by address, files are opened when needed and few at a time, and come and go safely. */
#include "support/support.h"

#include "chunk.h"

enum { PAGE = 4096, PER_CHUNK = 1024 };

struct world {
	struct mojo_io *io;
	struct mojo_chunks chunks;
};

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	assert_non_null(world);
	assert_ok(mojo_io_memory(&world->io));
	assert_ok(world->io->ops->mkdir(world->io, MOJO_CHUNK_DIR));
	mojo_chunks_init(&world->chunks, world->io, PAGE, PER_CHUNK, false);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;
	mojo_chunks_close(&world->chunks);
	mojo_io_free(world->io);
	free(world);
	return 0;
}

static void put(struct world *world, uint64_t address, uint32_t blocks, uint64_t tag)
{
	uint8_t *buf = malloc((size_t)blocks * PAGE);
	assert_non_null(buf);
	bench_fill(buf, (size_t)blocks * PAGE, tag);
	/* In two parts, to see that they go out as one. */
	struct iovec vector[] = { { buf, 100 }, { buf + 100, (size_t)blocks * PAGE - 100 } };
	assert_ok(mojo_chunks_write(&world->chunks, address, vector, 2));
	free(buf);
}

static void assert_block(struct world *world, uint64_t address, uint32_t blocks, uint64_t tag)
{
	uint8_t *buf = malloc((size_t)blocks * PAGE), *wanted = malloc((size_t)blocks * PAGE);
	assert_non_null(buf);
	assert_non_null(wanted);
	bench_fill(wanted, (size_t)blocks * PAGE, tag);
	assert_ok(mojo_chunks_read(&world->chunks, address, buf, (size_t)blocks * PAGE));
	assert_memory_equal(buf, wanted, (size_t)blocks * PAGE);
	free(buf);
	free(wanted);
}

static void assert_file_block(struct world *world, uint64_t address, uint64_t tag)
{
	uint8_t buf[PAGE], wanted[PAGE];
	bench_fill(wanted, PAGE, tag);
	assert_ok(mojo_chunks_read_file(&world->chunks, address, buf, PAGE));
	assert_memory_equal(buf, wanted, PAGE);
}

static void put_through(struct world *world, uint64_t address, uint64_t tag)
{
	uint8_t buf[PAGE];
	bench_fill(buf, PAGE, tag);
	struct iovec vector[] = { { buf, 4000 }, { buf + 4000, PAGE - 4000 } };
	assert_ok(mojo_chunks_write_through(&world->chunks, address, vector, 2));
}

static unsigned open_files(const struct world *world)
{
	unsigned count = 0;
	for (unsigned i = 0; i < MOJO_CHUNK_FILES; i++)
		count += world->chunks.files[i].file != NULL;
	return count;
}

static void test_names_and_numbers_belong_together(void **state)
{
	static const uint32_t numbers[] = { 0, 1, 42, 0xabcdef, UINT32_MAX };
	static const char *const others[] = { "",
					      "0000002a",
					      "0000002a.chunk.",
					      "0000002A.chunk",
					      "000002a.chunk",
					      "00000002a.chunk",
					      "0000002g.chunk",
					      "-000002a.chunk",
					      "0000002a.chunks",
					      " 000002a.chunk" };
	(void)state;
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		char path[MOJO_CHUNK_PATH_BYTES];
		mojo_chunk_path(numbers[i], path);
		assert_memory_equal(path, MOJO_CHUNK_DIR "/", strlen(MOJO_CHUNK_DIR) + 1);
		assert_int_equal(mojo_chunk_number(path + strlen(MOJO_CHUNK_DIR) + 1), numbers[i]);
	}
	char path[MOJO_CHUNK_PATH_BYTES];
	mojo_chunk_path(42, path);
	assert_string_equal(path, "chunks/0000002a.chunk");
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(mojo_chunk_number(others[i]), -1);
}

static void test_a_block_is_where_its_address_says(void **state)
{
	struct world *world = *state;
	for (uint32_t c = 0; c < 3; c++)
		assert_ok(mojo_chunks_create(&world->chunks, c, -1));
	put(world, 5, 3, 1);
	put(world, PER_CHUNK - 1, 1, 2);
	put(world, PER_CHUNK, 1, 3);
	put(world, 2 * PER_CHUNK, PER_CHUNK, 4);
	assert_block(world, 5, 3, 1);
	assert_block(world, PER_CHUNK - 1, 1, 2);
	assert_block(world, PER_CHUNK, 1, 3);
	assert_block(world, 2 * PER_CHUNK, PER_CHUNK, 4);
	void *data;
	size_t length;
	assert_ok(mojo_io_memory_load(world->io, "chunks/00000001.chunk", &data, &length));
	assert_int_equal(length, PAGE);
	free(data);
	assert_ok(mojo_io_memory_load(world->io, "chunks/00000000.chunk", &data, &length));
	uint8_t wanted[8];
	bench_fill(wanted, sizeof(wanted), 1);
	assert_memory_equal((uint8_t *)data + (size_t)5 * PAGE, wanted, sizeof(wanted));
	free(data);
}

static void test_a_transfer_never_crosses_into_the_next_chunk(void **state)
{
	struct world *world = *state;
	uint8_t buf[2 * PAGE];
	size_t got;
	assert_ok(mojo_chunks_create(&world->chunks, 0, -1));
	assert_ok(mojo_chunks_create(&world->chunks, 1, -1));
	assert_errno(mojo_chunks_read(&world->chunks, PER_CHUNK - 1, buf, sizeof(buf)), EUCLEAN);
	assert_errno(mojo_chunks_read_some(&world->chunks, PER_CHUNK - 1, buf, PAGE + 1, &got), EUCLEAN);
	assert_errno(mojo_chunks_read_some(&world->chunks, MOJO_ADDRESS_MAX + 1, buf, PAGE, &got), EUCLEAN);
	assert_errno(mojo_chunks_read_file(&world->chunks, PER_CHUNK - 1, buf, sizeof(buf)), EUCLEAN);
	/* Nor where both sides are kept in memory. */
	put_through(world, PER_CHUNK - 1, 1);
	put_through(world, PER_CHUNK, 2);
	assert_errno(mojo_chunks_read(&world->chunks, PER_CHUNK - 1, buf, sizeof(buf)), EUCLEAN);
	assert_errno(mojo_chunks_read_some(&world->chunks, PER_CHUNK - 1, buf, PAGE + 1, &got), EUCLEAN);
	mojo_chunks_prefetch(&world->chunks, PER_CHUNK - 1, sizeof(buf)); /* no harm */
}

static void test_what_is_absent_is_told(void **state)
{
	struct world *world = *state;
	uint8_t buf[4 * PAGE];
	size_t got = 99;
	assert_errno(mojo_chunks_read(&world->chunks, 5, buf, PAGE), EIO);
	assert_ok(mojo_chunks_read_some(&world->chunks, 5, buf, PAGE, &got));
	assert_int_equal(got, 0);
	assert_int_equal(mojo_chunks_exists(&world->chunks, 0), 0);
	assert_ok(mojo_chunks_create(&world->chunks, 0, -1));
	assert_int_equal(mojo_chunks_exists(&world->chunks, 0), 1);
	put(world, 0, 3, 1);
	assert_ok(mojo_chunks_read_some(&world->chunks, 1, buf, 4 * PAGE, &got));
	assert_int_equal(got, 2 * PAGE);
	assert_errno(mojo_chunks_read(&world->chunks, 1, buf, 4 * PAGE), EIO);
	struct iovec vector = { buf, PAGE };
	assert_errno(mojo_chunks_write(&world->chunks, PER_CHUNK, &vector, 1), ENOENT);
	assert_errno(mojo_chunks_flush(&world->chunks, 1), ENOENT);
	assert_errno(mojo_chunks_punch(&world->chunks, PER_CHUNK, 1), ENOENT);
	assert_errno(mojo_chunks_allocate(&world->chunks, PER_CHUNK, 1), ENOENT);
	mojo_chunks_prefetch(&world->chunks, PER_CHUNK, PAGE);
	assert_ok(mojo_chunks_remove(&world->chunks, 7)); /* gone already */
}

static void test_few_files_are_open_at_once(void **state)
{
	enum { COUNT = MOJO_CHUNK_FILES * 2 + 10 };
	struct world *world = *state;
	for (uint32_t c = 0; c < COUNT; c++) {
		assert_ok(mojo_chunks_create(&world->chunks, c, -1));
		put(world, (uint64_t)c * PER_CHUNK, 1, c);
		assert_true(open_files(world) <= MOJO_CHUNK_FILES);
	}
	for (uint32_t c = 0; c < COUNT; c++) {
		assert_block(world, (uint64_t)c * PER_CHUNK, 1, c);
		assert_block(world, 0, 1, 0); /* used all the time: stays open */
		assert_true(open_files(world) <= MOJO_CHUNK_FILES);
	}
	bool found = false;
	for (unsigned i = 0; i < MOJO_CHUNK_FILES; i++) {
		assert_int_equal(world->chunks.files[i].users, 0);
		found |= world->chunks.files[i].file && world->chunks.files[i].number == 0;
	}
	assert_true(found);
}

static void test_a_spare_becomes_the_next_chunk(void **state)
{
	struct world *world = *state;
	assert_ok(mojo_chunks_create(&world->chunks, 3, -1));
	put(world, 3 * PER_CHUNK, 2, 33);
	assert_ok(mojo_chunks_create(&world->chunks, 9, 3));
	assert_int_equal(mojo_chunks_exists(&world->chunks, 3), 0);
	assert_int_equal(mojo_chunks_exists(&world->chunks, 9), 1);
	assert_block(world, 9 * PER_CHUNK, 2, 33); /* what was in it: told by sequence, not by content */
	put(world, 9 * PER_CHUNK, 1, 99);
	assert_block(world, 9 * PER_CHUNK, 1, 99);
	/* A spare that is not there after all is no obstacle, nor is a file that is there already. */
	assert_ok(mojo_chunks_create(&world->chunks, 10, 3));
	assert_int_equal(mojo_chunks_exists(&world->chunks, 10), 1);
	put(world, 10 * PER_CHUNK, 1, 1010);
	assert_ok(mojo_chunks_create(&world->chunks, 10, -1));
	assert_block(world, 10 * PER_CHUNK, 1, 1010);
	assert_ok(mojo_chunks_create(&world->chunks, 10, 9)); /* replaces it, and its open file */
	assert_block(world, 10 * PER_CHUNK, 1, 99);
}

static void test_a_name_is_durable_when_creation_returns(void **state)
{
	struct world *world = *state;
	struct mojo_io *left;
	void *data;
	size_t length;
	assert_ok(mojo_io_memory_track(world->io));
	assert_ok(mojo_chunks_create(&world->chunks, 3, -1));
	put(world, 3 * PER_CHUNK, 1, 33);
	assert_ok(mojo_chunks_flush(&world->chunks, 3));
	assert_ok(mojo_chunks_create(&world->chunks, 9, 3));
	assert_ok(mojo_io_memory_clone_durable(world->io, &left));
	assert_errno(mojo_io_memory_load(left, "chunks/00000003.chunk", &data, &length), ENOENT);
	assert_ok(mojo_io_memory_load(left, "chunks/00000009.chunk", &data, &length));
	assert_int_equal(length, PAGE);
	free(data);
	mojo_io_free(left);
}

static void test_a_removed_chunk_is_gone_and_may_come_again(void **state)
{
	struct world *world = *state;
	uint8_t buf[PAGE];
	assert_ok(mojo_chunks_create(&world->chunks, 1, -1));
	put(world, PER_CHUNK, 1, 1);
	assert_ok(mojo_chunks_remove(&world->chunks, 1));
	assert_errno(mojo_chunks_read(&world->chunks, PER_CHUNK, buf, PAGE), EIO);
	assert_int_equal(open_files(world), 0);
	assert_ok(mojo_chunks_create(&world->chunks, 1, -1));
	assert_errno(mojo_chunks_read(&world->chunks, PER_CHUNK, buf, PAGE), EIO); /* empty */
}

static void test_space_is_allocated_punched_and_counted(void **state)
{
	struct world *world = *state;
	uint64_t count, disk;
	assert_ok(mojo_chunks_create(&world->chunks, 0, -1));
	assert_ok(mojo_chunks_create(&world->chunks, 1, -1));
	assert_ok(mojo_chunks_allocate(&world->chunks, 8, 16));
	assert_ok(mojo_chunks_usage(&world->chunks, &count, &disk));
	assert_int_equal(count, 2);
	assert_int_equal(disk, 16 * PAGE);
	put(world, 8, 4, 8);
	put(world, PER_CHUNK, 4, 9);
	assert_ok(mojo_chunks_punch(&world->chunks, PER_CHUNK + 1, 2));
	assert_ok(mojo_chunks_usage(&world->chunks, &count, &disk));
	assert_int_equal(disk, 18 * PAGE);
	uint8_t buf[PAGE];
	assert_ok(mojo_chunks_read(&world->chunks, PER_CHUNK + 1, buf, PAGE));
	assert_int_equal(buf[0] | buf[PAGE - 1], 0);
	/* What is no chunk is not counted. */
	assert_ok(mojo_io_memory_replace(world->io, "chunks/notes", "x", 1));
	assert_ok(mojo_chunks_usage(&world->chunks, &count, &disk));
	assert_int_equal(count, 2);
}

static void test_a_read_only_store_is_not_written(void **state)
{
	struct world *world = *state;
	assert_ok(mojo_chunks_create(&world->chunks, 0, -1));
	put(world, 0, 1, 5);
	mojo_chunks_close(&world->chunks);
	mojo_chunks_init(&world->chunks, world->io, PAGE, PER_CHUNK, true);
	assert_block(world, 0, 1, 5);
	uint8_t buf[PAGE] = { 0 };
	struct iovec vector = { buf, PAGE };
	assert_int_not_equal(mojo_chunks_write(&world->chunks, 0, &vector, 1), 0);
	assert_block(world, 0, 1, 5);
}

/* Reads go on while files are opened, closed, renamed and removed beside them. */
struct reader {
	struct world *world;
	uint32_t first;
	unsigned wrong;
};

static void *read_many(void *arg)
{
	struct reader *reader = arg;
	struct dice dice = { .state = reader->first };
	uint8_t buf[PAGE], wanted[PAGE];
	for (int i = 0; i < 3000; i++) {
		uint32_t c = dice_below(&dice, 200);
		bench_fill(wanted, PAGE, c);
		if (mojo_chunks_read(&reader->world->chunks, (uint64_t)c * PER_CHUNK, buf, PAGE) != 0 ||
		    memcmp(buf, wanted, PAGE) != 0)
			reader->wrong++;
	}
	return NULL;
}

static void test_threads_share_the_files(void **state)
{
	struct world *world = *state;
	struct reader readers[4];
	pthread_t threads[4];
	for (uint32_t c = 0; c < 200; c++) {
		assert_ok(mojo_chunks_create(&world->chunks, c, -1));
		put(world, (uint64_t)c * PER_CHUNK, 1, c);
	}
	for (uint32_t i = 0; i < 4; i++) {
		readers[i] = (struct reader){ world, i, 0 };
		assert_ok(pthread_create(&threads[i], NULL, read_many, &readers[i]));
	}
	for (uint32_t c = 300; c < 500; c++) {
		assert_ok(mojo_chunks_create(&world->chunks, c, c > 300 ? (int64_t)c - 1 : -1));
		put(world, (uint64_t)c * PER_CHUNK, 1, c);
		if (c % 50 == 0)
			assert_ok(mojo_chunks_remove(&world->chunks, c));
	}
	for (uint32_t i = 0; i < 4; i++) {
		assert_ok(pthread_join(threads[i], NULL));
		assert_int_equal(readers[i].wrong, 0);
	}
}

#define WITH_CHUNKS(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

/* What was written through is read from memory, unless something else came to its place since, in whatever way. */
static void test_what_went_through_is_read_from_memory_until_it_is_replaced(void **state)
{
	struct world *world = *state;
	uint8_t buf[PAGE], zeros[PAGE] = { 0 };
	char path[MOJO_CHUNK_PATH_BYTES];
	assert_ok(mojo_chunks_create(&world->chunks, 0, -1));
	assert_ok(mojo_chunks_create(&world->chunks, 1, -1));
	assert_ok(mojo_chunks_allocate(&world->chunks, 0, 100));
	for (uint64_t address = 0; address < 10; address++)
		put_through(world, address, 1 + address);
	mojo_chunk_path(0, path);
	for (uint64_t address = 0; address < 10; address++) {
		assert_ok(mojo_io_memory_flip(world->io, path, address * PAGE + 7, 1));
		assert_block(world, address, 1, 1 + address);
		bench_fill(buf, PAGE, 1 + address);
		uint8_t flipped = buf[7] ^ 1;
		assert_ok(mojo_chunks_read_file(&world->chunks, address, buf, PAGE));
		assert_int_equal(buf[7], flipped);
	}
	put(world, 2, 2, 100);
	assert_block(world, 2, 2, 100);
	put_through(world, 4, 200);
	assert_block(world, 4, 1, 200);
	assert_file_block(world, 4, 200);
	assert_ok(mojo_chunks_punch(&world->chunks, 5, 1));
	assert_ok(mojo_chunks_prepare(&world->chunks, 6, 1));
	for (uint64_t address = 5; address < 7; address++) {
		assert_ok(mojo_chunks_read(&world->chunks, address, buf, PAGE));
		assert_memory_equal(buf, zeros, PAGE);
	}
	/* A write that failed may have left anything. */
	bench_fill(buf, PAGE, 300);
	struct iovec vector = { buf, PAGE };
	mojo_io_memory_fail(world->io, 0, -EIO, false);
	assert_errno(mojo_chunks_write_through(&world->chunks, 7, &vector, 1), EIO);
	assert_ok(mojo_chunks_read(&world->chunks, 7, buf, PAGE));
	bench_fill(zeros, PAGE, 300);
	assert_memory_equal(buf, zeros, PAGE / 2);
	/* Another file takes the chunk's name, and it another one's; and it goes. */
	put_through(world, PER_CHUNK + 8, 400);
	assert_ok(mojo_chunks_create(&world->chunks, 0, 1));
	assert_block(world, 8, 1, 400);
	size_t got = 1;
	assert_ok(mojo_chunks_read_some(&world->chunks, PER_CHUNK + 8, buf, PAGE, &got));
	assert_int_equal(got, 0);
	put_through(world, 9, 500);
	assert_ok(mojo_chunks_remove(&world->chunks, 0));
	assert_ok(mojo_chunks_read_some(&world->chunks, 9, buf, PAGE, &got));
	assert_int_equal(got, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_and_numbers_belong_together),
		WITH_CHUNKS(test_a_block_is_where_its_address_says),
		WITH_CHUNKS(test_a_transfer_never_crosses_into_the_next_chunk),
		WITH_CHUNKS(test_what_is_absent_is_told),
		WITH_CHUNKS(test_few_files_are_open_at_once),
		WITH_CHUNKS(test_a_spare_becomes_the_next_chunk),
		WITH_CHUNKS(test_a_name_is_durable_when_creation_returns),
		WITH_CHUNKS(test_a_removed_chunk_is_gone_and_may_come_again),
		WITH_CHUNKS(test_space_is_allocated_punched_and_counted),
		WITH_CHUNKS(test_what_went_through_is_read_from_memory_until_it_is_replaced),
		WITH_CHUNKS(test_a_read_only_store_is_not_written),
		WITH_CHUNKS(test_threads_share_the_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
