/* SPDX-License-Identifier: MIT */
/*
 * version.h: to freeze is cheap and final, to drop touches no other version, thousands of them are no burden.
 */
#include "support/support.h"

#include "version.h"

static struct mojo_version_info info_of(struct bench *bench, uint32_t version)
{
	struct mojo_version_info info;
	assert_ok(mojo_version_next(bench->store, version, &info));
	assert_int_equal(info.version, version);
	return info;
}

/* ---- freezing ------------------------------------------------------------------------------- */

static void test_numbers_rise_by_one_and_stay(void **state)
{
	struct bench *bench = *state;
	struct mojo_version_info info;
	assert_int_equal(bench_info(bench).active_version, 1);
	assert_int_equal(bench_info(bench).oldest_version, 1);
	for (uint32_t i = 1; i <= 5; i++) {
		assert_int_equal(bench_commit(bench, "x"), i);
		assert_int_equal(bench_info(bench).active_version, i + 1);
		assert_int_equal(bench_info(bench).frozen_versions, i);
		if (i == 3)
			bench_reopen(bench);
	}
	info = info_of(bench, 6);
	assert_true(info.active);
	assert_int_equal(info.time_ns, 0);
	assert_string_equal(info.message, "");
	assert_errno(mojo_version_next(bench->store, 7, &info), ENOENT);
	assert_ok(mojo_version_drop(bench->store, 5)); /* its number is not used again */
	assert_int_equal(bench_commit(bench, "y"), 6);
	bench_reopen(bench);
	assert_int_equal(bench_commit(bench, "z"), 7);
}

static void test_a_message_is_kept_to_the_byte(void **state)
{
	struct bench *bench = *state;
	char message[MOJO_MESSAGE_MAX + 2];
	uint32_t version;
	for (size_t i = 0; i < sizeof(message); i++)
		message[i] = (char)(1 + i % 255);
	static const size_t lengths[] = { 0, 1, 2, 100, MOJO_MESSAGE_MAX - 1, MOJO_MESSAGE_MAX };
	for (size_t i = 0; i < 6; i++)
		assert_ok(mojo_commit(bench->store, message, lengths[i], &version));
	assert_ok(mojo_commit(bench->store, NULL, 0, &version));
	assert_errno(mojo_commit(bench->store, message, MOJO_MESSAGE_MAX + 1, &version), E2BIG);
	assert_errno(mojo_commit(bench->store, "a\0b", 3, &version), EINVAL);
	for (int k = 0; k < 3; k++) {
		int64_t before = 1;
		for (uint32_t i = 0; i < 6; i++) {
			struct mojo_version_info info = info_of(bench, i + 1);
			assert_false(info.active);
			assert_int_equal(strlen(info.message), lengths[i]);
			assert_memory_equal(info.message, message, lengths[i]);
			assert_true(info.time_ns >= before);
			before = info.time_ns;
		}
		if (k == 0) { /* once from the log, once from the index */
			bench_crash(bench);
			bench_open(bench);
		} else {
			bench_reopen(bench);
		}
	}
	assert_int_equal(bench_info(bench).active_version, 8);
}

static void test_what_is_frozen_never_changes(void **state)
{
	enum { VERSIONS = 30 };
	struct bench *bench = *state;
	struct dice dice = dice_new("frozen");
	uint64_t sums[VERSIONS + 1];
	for (uint32_t i = 1; i <= VERSIONS; i++) {
		bench_stir(bench, &dice, 40, false);
		uint64_t sum = bench_fingerprint(bench, MOJO_ACTIVE);
		assert_int_equal(bench_commit(bench, "x"), i);
		sums[i] = bench_fingerprint(bench, i);
		assert_true(sums[i] == sum); /* what was, is frozen; what goes on begins with it */
		assert_true(bench_fingerprint(bench, MOJO_ACTIVE) == sum);
		switch (dice_below(&dice, 6)) {
		case 0:
			bench_reopen(bench);
			break;
		case 1:
			bench_checkpoint(bench);
			break;
		case 2:
			bench_crash(bench);
			bench_open(bench);
			break;
		}
		for (uint32_t k = 1; k <= i; k += 1 + dice_below(&dice, 4))
			assert_true(bench_fingerprint(bench, k) == sums[k]);
	}
	/* Each can be asked for by number only as long as it is there. */
	struct mojo_attr attr;
	assert_errno(mojo_getattr(bench->store, VERSIONS + 2, MOJO_ROOT_BUCKET, &attr), ENOENT);
	assert_ok(mojo_getattr(bench->store, VERSIONS + 1, MOJO_ROOT_BUCKET, &attr)); /* the active one */
	assert_true(bench_fingerprint(bench, VERSIONS + 1) == bench_fingerprint(bench, MOJO_ACTIVE));
}

static void test_a_commit_is_durable_when_it_returns(void **state)
{
	struct bench *bench = *state;
	assert_ok(mojo_io_memory_track(bench->io));
	uint32_t file = bench_file(bench, "f");
	bench_put(bench, file, 0, 100000, 1);
	uint64_t flushes = bench_info(bench).flushes;
	uint32_t version = bench_commit(bench, "there");
	assert_int_equal(bench_info(bench).flushes, flushes + 1); /* content and record share it */
	bench_put(bench, file, 0, 100000, 2);
	bench_power_cut(bench);
	bench_open(bench);
	assert_string_equal(info_of(bench, version).message, "there");
	bench_assert(bench, version, file, 0, 100000, 1);
	bench_assert(bench, MOJO_ACTIVE, file, 0, 100000, 1);
	assert_int_equal(bench_info(bench).active_version, version + 1);
}

static void test_a_commit_costs_a_block_whatever_there_is(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	for (int i = 0; i < 1000; i++) {
		char name[32];
		snprintf(name, sizeof(name), "file %d", i);
		bench_file(bench, name);
	}
	bench_put(bench, file, 0, 8 << 20, 1);
	bench_commit(bench, "first");
	for (int i = 0; i < 10; i++) {
		size_t dirty = bench->store->blobs.dirty_bytes;
		uint64_t tail = bench->store->log.tail;
		bench_commit(bench, "again");
		assert_int_equal(bench->store->log.tail - tail, 1);
		/* A cell in the versions' tree; nothing is copied. */
		assert_true(bench->store->blobs.dirty_bytes <= dirty + 5000);
	}
}

static void test_a_commit_that_cannot_be_written_did_not_happen(void **state)
{
	struct bench *bench = *state;
	uint32_t version = 77;
	uint32_t file = bench_file(bench, "f");
	bench_put(bench, file, 0, 5000, 1);
	bench_commit(bench, "one");
	bench_put(bench, file, 0, 5000, 2);
	mojo_io_memory_fail(bench->io, 0, -EIO, true);
	assert_int_not_equal(mojo_commit(bench->store, "two", 3, &version), 0);
	assert_int_equal(version, 77);
	mojo_io_memory_fail(bench->io, 0, 0, false);
	assert_errno(mojo_commit(bench->store, "three", 5, &version), EIO);
	bench_crash(bench);
	bench_open(bench);
	assert_int_equal(bench_info(bench).active_version, 2);
	bench_assert(bench, MOJO_ACTIVE, file, 0, 5000, 1);
	assert_int_equal(bench_commit(bench, "two"), 2);
}

static void test_the_last_number_is_told(void **state)
{
	struct bench *bench = *state;
	uint32_t version;
	pthread_mutex_lock(&bench->store->mu);
	bench->store->active = MOJO_VERSION_MAX - 2;
	bench->store->main.version = bench->store->log.version = bench->store->active;
	pthread_mutex_unlock(&bench->store->mu);
	uint32_t file = bench_file(bench, "f");
	bench_put(bench, file, 0, 5000, 1);
	assert_int_equal(bench_commit(bench, "the last one"), MOJO_VERSION_MAX - 2);
	assert_errno(mojo_commit(bench->store, "one more", 8, &version), EOVERFLOW);
	assert_false(bench_info(bench).failed);
	bench_put(bench, file, 0, 5000, 2);
	bench_reopen(bench);
	bench_assert(bench, MOJO_ACTIVE, file, 0, 5000, 2);
	bench_assert(bench, MOJO_VERSION_MAX - 2, file, 0, 5000, 1);
}

static void test_nothing_is_committed_where_nothing_may_be_written(void **state)
{
	struct bench *bench = *state;
	uint32_t version;
	bench_commit(bench, "x");
	bench_close(bench);
	bench->config.read_only = true;
	bench_open(bench);
	assert_errno(mojo_commit(bench->store, "y", 1, &version), EROFS);
	assert_errno(mojo_version_drop(bench->store, 1), EROFS);
	assert_string_equal(info_of(bench, 1).message, "x");
}

/* ---- listing and dropping ------------------------------------------------------------------- */

static void test_kept_versions_are_listed_in_order(void **state)
{
	struct bench *bench = *state;
	struct mojo_version_info info = { 0 };
	static const uint32_t dropped[] = { 1, 2, 7, 10, 13 };
	for (int i = 0; i < 13; i++)
		bench_commit(bench, "x");
	for (size_t i = 0; i < 5; i++)
		assert_ok(mojo_version_drop(bench->store, dropped[i]));
	static const uint32_t wanted[] = { 3, 4, 5, 6, 8, 9, 11, 12, 14 };
	for (int k = 0; k < 2; k++) {
		info.version = 0;
		for (size_t i = 0; i < 9; i++) {
			assert_ok(mojo_version_next(bench->store, info.version + 1, &info));
			assert_int_equal(info.version, wanted[i]);
			assert_int_equal(info.active, i == 8);
		}
		assert_int_equal(bench_info(bench).oldest_version, 3);
		assert_int_equal(bench_info(bench).frozen_versions, 8);
		assert_int_equal(bench->store->main.held, 12);
		bench_reopen(bench);
	}
}

static void test_what_is_not_there_cannot_be_dropped(void **state)
{
	struct bench *bench = *state;
	bench_commit(bench, "x");
	assert_errno(mojo_version_drop(bench->store, MOJO_ACTIVE), EBUSY);
	assert_errno(mojo_version_drop(bench->store, 2), EBUSY);
	assert_errno(mojo_version_drop(bench->store, 3), ENOENT);
	assert_ok(mojo_version_drop(bench->store, 1));
	assert_errno(mojo_version_drop(bench->store, 1), ENOENT);
	struct mojo_attr attr;
	assert_errno(mojo_getattr(bench->store, 1, MOJO_ROOT_BUCKET, &attr), ENOENT);
	assert_int_equal(bench_info(bench).oldest_version, 2);
}

static void test_a_drop_is_durable_when_it_returns(void **state)
{
	struct bench *bench = *state;
	assert_ok(mojo_io_memory_track(bench->io));
	bench_commit(bench, "one");
	bench_commit(bench, "two");
	assert_ok(mojo_version_drop(bench->store, 1));
	bench_power_cut(bench);
	bench_open(bench);
	assert_int_equal(bench_info(bench).oldest_version, 2);
	assert_int_equal(bench_info(bench).frozen_versions, 1);
}

/* Whichever goes, in whatever order, wherever its index is: the others stay as they are, and in the end nothing of it
 * is left. */
static void test_a_drop_touches_no_other_version(void **state)
{
	enum { VERSIONS = 24 };
	struct bench *bench = *state;
	struct dice dice = dice_new("drops");
	for (int turn = 0; turn < 3; turn++) {
		uint64_t sums[3 * (VERSIONS + 1)] = { 0 };
		uint32_t first = bench_info(bench).active_version, left = VERSIONS;
		for (uint32_t i = 0; i < VERSIONS; i++) {
			bench_stir(bench, &dice, 30, false);
			uint32_t version = bench_commit(bench, "x");
			sums[version - first] = bench_fingerprint(bench, version);
			if (dice_below(&dice, 4) == 0)
				bench_checkpoint(bench);
		}
		while (left) {
			uint32_t i = dice_below(&dice, VERSIONS);
			if (!sums[i])
				continue;
			assert_ok(mojo_version_drop(bench->store, first + i));
			sums[i] = 0;
			left--;
			if (dice_below(&dice, 2))
				bench_stir(bench, &dice, 10, false);
			switch (dice_below(&dice, 8)) {
			case 0:
				bench_checkpoint(bench);
				bench_assert_accounts(bench, false);
				break;
			case 1:
				bench_reopen(bench);
				break;
			case 2:
				bench_sync(bench);
				bench_crash(bench);
				bench_open(bench);
				break;
			}
			for (uint32_t k = 0; k < VERSIONS; k++)
				if (sums[k])
					assert_true(bench_fingerprint(bench, first + k) == sums[k]);
		}
		assert_int_equal(bench_info(bench).frozen_versions, 0);
		assert_int_equal(bench->store->main.held, 0);
		bench_checkpoint(bench);
		bench_assert_accounts(bench, false);
	}
}

/* ---- many ----------------------------------------------------------------------------------- */

static void test_five_thousand_versions_are_no_burden(void **state)
{
	enum { VERSIONS = 5000 };
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	bench_put(bench, file, 0, 2000 * BENCH_PAGE, 0);
	bench_checkpoint(bench);
	uint64_t before = bench_info(bench).store_bytes;
	for (uint64_t i = 1; i <= VERSIONS; i++) {
		char message[32];
		snprintf(message, sizeof(message), "version %" PRIu64, i);
		bench_put(bench, file, i % 2000 * BENCH_PAGE, BENCH_PAGE, i);
		assert_int_equal(bench_commit(bench, message), i);
		if (i % 500 == 0) /* memory is bounded by the cache, not by how many there are */
			bench_checkpoint(bench);
	}
	/* A page and a block of log for each, and a path of the index for each that a checkpoint saw. */
	assert_true(bench_info(bench).store_bytes - before < (VERSIONS * 3ull + 3000) * BENCH_PAGE);
	bench_reopen(bench);
	assert_int_equal(bench_info(bench).frozen_versions, VERSIONS);
	for (uint64_t i = 1; i <= VERSIONS; i += 37) {
		char message[32];
		snprintf(message, sizeof(message), "version %" PRIu64, i);
		assert_string_equal(info_of(bench, (uint32_t)i).message, message);
		bench_assert(bench, (uint32_t)i, file, i % 2000 * BENCH_PAGE, BENCH_PAGE, i);
		/* The page that the next version writes is still the one before. */
		uint8_t old[BENCH_PAGE], wanted[BENCH_PAGE];
		size_t got;
		uint64_t next = (i + 1) % 2000;
		assert_ok(mojo_read(bench->store, (uint32_t)i, file, next * BENCH_PAGE, old, BENCH_PAGE, &got));
		if (i + 1 > 2000) {
			bench_fill(wanted, BENCH_PAGE, i + 1 - 2000);
			assert_memory_equal(old, wanted, BENCH_PAGE);
		}
	}
	uint32_t count = 0;
	struct mojo_version_info info = { 0 };
	while (mojo_version_next(bench->store, info.version + 1, &info) == 0)
		count++;
	assert_int_equal(count, VERSIONS + 1);
	/* All but every tenth go; the rest is whole, and the space comes back. */
	for (uint32_t i = 1; i <= VERSIONS; i++)
		if (i % 10)
			assert_ok(mojo_version_drop(bench->store, i));
	for (int i = 0; i < 4; i++)
		bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
	for (uint64_t i = 10; i <= VERSIONS; i += 110)
		bench_assert(bench, (uint32_t)i, file, i % 2000 * BENCH_PAGE, BENCH_PAGE, i);
	assert_int_equal(bench_info(bench).frozen_versions, VERSIONS / 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_numbers_rise_by_one_and_stay),
		BENCH_TEST(test_a_message_is_kept_to_the_byte),
		BENCH_TEST(test_what_is_frozen_never_changes),
		BENCH_TEST(test_a_commit_is_durable_when_it_returns),
		BENCH_TEST(test_a_commit_costs_a_block_whatever_there_is),
		BENCH_TEST(test_a_commit_that_cannot_be_written_did_not_happen),
		BENCH_TEST(test_the_last_number_is_told),
		BENCH_TEST(test_nothing_is_committed_where_nothing_may_be_written),
		BENCH_TEST(test_kept_versions_are_listed_in_order),
		BENCH_TEST(test_what_is_not_there_cannot_be_dropped),
		BENCH_TEST(test_a_drop_is_durable_when_it_returns),
		BENCH_TEST(test_a_drop_touches_no_other_version),
		BENCH_TEST(test_five_thousand_versions_are_no_burden),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
