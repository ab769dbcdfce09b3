/* SPDX-License-Identifier: MIT */
/* ahead.h: who reads from front to back is told from who does not, and what it will want is asked for once. */
#include "support/support.h"

#include "ahead.h"

enum {
	WINDOW = MOJO_AHEAD_BYTES / BENCH_PAGE,
	LEAST = MOJO_AHEAD_LEAST / BENCH_PAGE,
};

/* A read; returns how many pages are asked for in advance, which begin at *ret_first. */
static uint32_t note(struct mojo_ahead *ahead, uint32_t bucket, uint64_t first, uint32_t count, uint64_t *ret_first)
{
	bool asked;
	return mojo_ahead_read(ahead, 1, bucket, first, count, BENCH_PAGE, ret_first, &asked);
}

static void test_one_read_asks_for_nothing_and_the_next_for_a_window(void **state)
{
	(void)state;
	struct mojo_ahead ahead = { 0 };
	uint64_t first;
	assert_int_equal(note(&ahead, 7, 0, LEAST, &first), 0);
	assert_int_equal(note(&ahead, 7, LEAST, LEAST, &first), WINDOW);
	assert_int_equal(first, 2 * LEAST);
}

/* Nothing twice, nothing left out, never more than a window before the reader. */
static void test_what_a_reader_will_want_is_asked_for_once(void **state)
{
	(void)state;
	struct mojo_ahead ahead = { 0 };
	uint64_t asked = 0, first, pages = 10 * WINDOW;
	for (uint64_t at = 0; at < pages; at += LEAST) {
		bool covered;
		uint32_t count = mojo_ahead_read(&ahead, 1, 7, at, LEAST, BENCH_PAGE, &first, &covered);
		assert_int_equal(covered, at + LEAST <= asked);
		if (!count)
			continue;
		if (asked)
			assert_int_equal(first, asked);
		asked = first + count;
		assert_true(asked <= at + LEAST + WINDOW);
	}
	assert_true(asked >= pages);
}

static void test_order_within_two_windows_does_not_matter(void **state)
{
	(void)state;
	struct mojo_ahead ahead = { 0 };
	uint64_t first;
	assert_int_equal(note(&ahead, 7, WINDOW, WINDOW, &first), 0);
	assert_int_equal(note(&ahead, 7, 0, WINDOW, &first), WINDOW);
	assert_int_equal(first, 2 * WINDOW);
}

static void test_little_reads_and_leaps_ask_for_nothing(void **state)
{
	(void)state;
	struct mojo_ahead ahead = { 0 };
	struct dice dice = dice_new(NULL);
	uint64_t first;
	for (uint64_t at = 0; at < 10 * WINDOW; at++)
		assert_int_equal(note(&ahead, 7, at, LEAST - 1, &first), 0);
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(note(&ahead, 7, (i * 64 + dice_below(&dice, 32)) * 2 * WINDOW, LEAST, &first), 0);
}

/* Of other files, of other versions of this one, and of the same at other places. */
static void test_readers_do_not_disturb_each_other(void **state)
{
	(void)state;
	struct mojo_ahead ahead = { 0 };
	uint64_t asked[MOJO_AHEAD_READERS] = { 0 }, first;
	for (uint64_t at = 0; at < 4 * WINDOW; at += LEAST)
		for (uint32_t i = 0; i < MOJO_AHEAD_READERS; i++) {
			bool covered;
			uint64_t base = i % 2 * 100 * WINDOW;
			asked[i] += mojo_ahead_read(&ahead, 1 + i / 4, i / 2 % 2, base + at, LEAST, BENCH_PAGE, &first,
						    &covered);
		}
	for (uint32_t i = 0; i < MOJO_AHEAD_READERS; i++)
		assert_true(asked[i] >= 4 * WINDOW - 2 * LEAST);
}

/* ---- in the engine -------------------------------------------------------------------------- */

/* What the disk is asked for; bound to the one io in use, as the table of operations has no room for more. */
static struct {
	struct mojo_io_ops ops;
	uint64_t bytes;
} seen;

static void see_prefetch(struct mojo_io_file *file, uint64_t offset, uint64_t length)
{
	(void)file;
	(void)offset;
	seen.bytes += length;
}

static void test_blocks_are_asked_for_where_they_lie(void **state)
{
	struct bench *bench = *state;
	enum { PIECE = LEAST * BENCH_PAGE, BYTES = 4 * MOJO_AHEAD_BYTES };
	uint32_t bucket = bench_file(bench, "f");
	uint8_t *buf = malloc(PIECE);
	size_t got;
	assert_non_null(buf);
	bench_put(bench, bucket, 0, BYTES, 1);
	/* Every other page lies elsewhere. */
	for (uint64_t at = 0; at < BYTES; at += 2 * BENCH_PAGE)
		bench_put(bench, bucket, at, BENCH_PAGE, 1);
	bench_sync(bench);
	seen.ops = *bench->io->ops;
	seen.ops.prefetch = see_prefetch;
	bench->io->ops = &seen.ops;
	seen.bytes = 0;
	for (uint64_t at = 0; at < BYTES; at += PIECE) {
		uint64_t before = seen.bytes;
		assert_ok(mojo_read(bench->store, MOJO_ACTIVE, bucket, at, buf, PIECE, &got));
		assert_int_equal(got, PIECE);
		assert_true(seen.bytes - before <= MOJO_AHEAD_BYTES + PIECE);
		if (at == PIECE)
			assert_int_equal(seen.bytes, 2 * PIECE + MOJO_AHEAD_BYTES);
	}
	assert_int_equal(seen.bytes, BYTES); /* each page once, and nothing behind the end */
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_read_asks_for_nothing_and_the_next_for_a_window),
		cmocka_unit_test(test_what_a_reader_will_want_is_asked_for_once),
		cmocka_unit_test(test_order_within_two_windows_does_not_matter),
		cmocka_unit_test(test_little_reads_and_leaps_ask_for_nothing),
		cmocka_unit_test(test_readers_do_not_disturb_each_other),
		BENCH_TEST(test_blocks_are_asked_for_where_they_lie),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
