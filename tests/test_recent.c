/* SPDX-License-Identifier: MIT */
/* What recent.h promises, against a table of what was put. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "recent.h"
#include "support.h"

#define BLOCK  65536u
#define PLACES (MOJO_RECENT_BYTES / BLOCK)
#define BLOCKS (PLACES * 3) /* of the disk */

static void expect(struct mojo_recent *recent, uint64_t address, uint64_t tag, size_t bytes)
{
	uint8_t *wanted = malloc(BLOCK), *got = malloc(BLOCK);
	assert_true(wanted && got);
	bench_fill(wanted, BLOCK, tag);
	assert_true(mojo_recent_get(recent, address, got, bytes));
	assert_memory_equal(got, wanted, bytes);
	free(wanted);
	free(got);
}

/* In pieces of @piece bytes, blocks with tags from @tag on. */
static void put(struct mojo_recent *recent, uint64_t address, unsigned blocks, size_t piece, uint64_t tag)
{
	size_t length = (size_t)blocks * BLOCK, count = 0;
	uint8_t *bytes = malloc(length);
	struct iovec *vector = calloc(length / piece + 1, sizeof(*vector));
	assert_true(bytes && vector);
	for (unsigned i = 0; i < blocks; i++)
		bench_fill(bytes + (size_t)i * BLOCK, BLOCK, tag + i);
	for (size_t at = 0; at < length; at += piece)
		vector[count++] = (struct iovec){ bytes + at, length - at < piece ? length - at : piece };
	mojo_recent_put(recent, address, vector, (int)count);
	free(vector);
	free(bytes);
}

static void nothing_is_there_at_first(void **state)
{
	struct mojo_recent recent;
	uint8_t byte;
	(void)state;
	mojo_recent_init(&recent, BLOCK);
	assert_false(mojo_recent_get(&recent, 0, &byte, 1));
	mojo_recent_drop(&recent, 0, UINT64_MAX);
	mojo_recent_free(&recent);
}

static void what_was_put_is_got_whatever_its_pieces(void **state)
{
	static const size_t pieces[] = { BLOCK, BLOCK * 3, 4096, 1000, BLOCK + 4096 };
	struct mojo_recent recent;
	uint8_t *got = malloc((size_t)BLOCK * 4);
	(void)state;
	assert_non_null(got);
	mojo_recent_init(&recent, BLOCK);
	for (unsigned i = 0; i < 5; i++) {
		put(&recent, i * 10, 3, pieces[i], i * 100);
		for (unsigned block = 0; block < 3; block++) {
			expect(&recent, i * 10 + block, i * 100 + block, BLOCK);
			expect(&recent, i * 10 + block, i * 100 + block, 5);
		}
		assert_true(mojo_recent_get(&recent, i * 10, got, BLOCK * 3));
		assert_true(mojo_recent_get(&recent, i * 10 + 1, got, BLOCK + 1));
		assert_false(mojo_recent_get(&recent, i * 10, got, BLOCK * 3 + 1));
		assert_false(mojo_recent_get(&recent, i * 10 + 3, got, 1));
	}
	free(got);
	mojo_recent_free(&recent);
}

static void the_latest_of_a_block_is_there_or_nothing(void **state)
{
	struct mojo_recent recent;
	uint64_t tags[BLOCKS] = { 0 }, next = 1; /* 0: dropped */
	uint8_t *got = malloc(BLOCK), *wanted = malloc(BLOCK);
	unsigned hits = 0, misses = 0;
	(void)state;
	assert_true(got && wanted);
	srand(20261127);
	mojo_recent_init(&recent, BLOCK);
	for (unsigned i = 0; i < 1500; i++) {
		unsigned blocks = 1 + (unsigned)rand() % 4, address = (unsigned)rand() % (BLOCKS - blocks);
		if (rand() % 3) {
			put(&recent, address, blocks, BLOCK, next);
			for (unsigned k = 0; k < blocks; k++)
				tags[address + k] = next++;
		} else {
			unsigned count = rand() % 20 ? blocks : BLOCKS - address; /* more than there are places */
			mojo_recent_drop(&recent, address, count);
			memset(tags + address, 0, count * sizeof(*tags));
		}
		address = (unsigned)rand() % BLOCKS;
		if (!mojo_recent_get(&recent, address, got, BLOCK)) {
			misses++;
			continue;
		}
		hits++;
		assert_true(tags[address] != 0);
		bench_fill(wanted, BLOCK, tags[address]);
		assert_memory_equal(got, wanted, BLOCK);
	}
	assert_true(hits > 100 && misses > 100);
	free(got);
	free(wanted);
	mojo_recent_free(&recent);
}

static void as_many_stay_as_there_are_places(void **state)
{
	struct mojo_recent recent;
	uint8_t byte;
	(void)state;
	mojo_recent_init(&recent, BLOCK);
	put(&recent, 1000, PLACES, BLOCK, 1);
	for (unsigned i = 0; i < PLACES; i++)
		expect(&recent, 1000 + i, 1 + i, BLOCK);
	put(&recent, 1000 + PLACES, 1, BLOCK, 999);
	expect(&recent, 1000 + PLACES, 999, BLOCK);
	assert_false(mojo_recent_get(&recent, 1000, &byte, 1));
	mojo_recent_free(&recent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_there_at_first),
		cmocka_unit_test(what_was_put_is_got_whatever_its_pieces),
		cmocka_unit_test(the_latest_of_a_block_is_there_or_nothing),
		cmocka_unit_test(as_many_stay_as_there_are_places),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
