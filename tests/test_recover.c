/* SPDX-License-Identifier: MIT */
/*
 * recover.h: what comes back is what was done up to the end of a batch; a torn end is cut off, damage before it
 * is refused; neither a lost root nor a chunk's end nor what an earlier opening left behind leads it astray.
 */
#include "support/support.h"

#include "checksum.h"
#include "log.h"

/* ---- helpers -------------------------------------------------------------------------------- */

static uint64_t tail(struct bench *bench)
{
	return bench->store->log.tail;
}

/* One page in a group of its own, durable. Returns the address of the group. */
static uint64_t put_synced(struct bench *bench, uint32_t bucket, uint64_t page, uint64_t tag)
{
	bench_sync(bench);
	uint64_t address = tail(bench);
	bench_put(bench, bucket, page * BENCH_PAGE, BENCH_PAGE, tag);
	bench_sync(bench);
	return address;
}

static int list_one(void *arg, const char *name)
{
	uint64_t *sum = arg;
	*sum += mojo_checksum64(name, strlen(name), 5);
	return 0;
}

/* A checksum over every byte of the store's directory but the lock file. */
static uint64_t bytes_of(struct bench *bench)
{
	uint64_t sum = 0;
	void *data;
	size_t length;
	assert_ok(bench->io->ops->list(bench->io, "", list_one, &sum));
	assert_ok(bench->io->ops->list(bench->io, MOJO_CHUNK_DIR, list_one, &sum));
	assert_ok(mojo_io_memory_load(bench->io, MOJO_STATE_FILE, &data, &length));
	sum = mojo_checksum64(data, length, sum);
	free(data);
	for (uint32_t chunk = 0; chunk < 40; chunk++) {
		char path[MOJO_CHUNK_PATH_BYTES];
		mojo_chunk_path(chunk, path);
		if (mojo_io_memory_load(bench->io, path, &data, &length) != 0)
			continue;
		sum = mojo_checksum64(data, length, sum + chunk);
		free(data);
	}
	return sum;
}

static void assert_refused_untouched(struct bench *bench, const char *told)
{
	uint64_t before = bytes_of(bench);
	bench->events[0] = '\0';
	int err = mojo_open(bench->io, &bench->config, &bench->store);
	if (!err)
		print_error("this should have been refused as \"%s\"\n", told);
	assert_errno(err, EUCLEAN);
	if (!bench_was_told(bench, told))
		fail_msg("not told of \"%s\" but: %s", told, bench->events);
	assert_true(bytes_of(bench) == before);
}

static void crash_and_open(struct bench *bench)
{
	bench_crash(bench);
	bench_open(bench);
}

/* ---- what comes back ------------------------------------------------------------------------ */

static void test_all_that_was_synced_comes_back(void **state)
{
	struct bench *bench = *state;
	struct dice dice = dice_new("replay");
	for (int i = 0; i < 12; i++) {
		bench_stir(bench, &dice, 60, true);
		bench_sync(bench);
		uint64_t sum = bench_fingerprint_all(bench);
		struct mojo_info before = bench_info(bench);
		uint32_t next_bucket = bench->store->next_bucket;
		crash_and_open(bench);
		struct mojo_info after = bench_info(bench);
		assert_true(bench_fingerprint_all(bench) == sum);
		assert_int_equal(after.files, before.files);
		assert_int_equal(after.directories, before.directories);
		assert_int_equal(after.frozen_versions, before.frozen_versions);
		assert_int_equal(after.active_version, before.active_version);
		assert_int_equal(after.sequence, before.sequence);
		assert_true(bench->store->next_bucket <= next_bucket);
		if (i % 3 == 0)
			bench_checkpoint(bench);
	}
}

static void test_what_came_and_went_in_one_batch_leaves_nothing(void **state)
{
	struct bench *bench = *state;
	struct mojo_attr attr;
	uint32_t file = bench_file(bench, "brief"), kept = bench_file(bench, "kept");
	bench_put(bench, file, 0, 5 * BENCH_PAGE, 1);
	assert_ok(bench_resize(bench, file, BENCH_PAGE));
	assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "brief"));
	bench_put(bench, kept, 0, 5 * BENCH_PAGE, 2);
	assert_ok(bench_resize(bench, kept, BENCH_PAGE + 1));
	uint32_t dir = bench_make(bench, MOJO_ROOT_BUCKET, "dir", S_IFDIR | 0700);
	bench_make(bench, dir, "in it", S_IFREG | 0600);
	assert_ok(mojo_rename(bench->store, dir, "in it", MOJO_ROOT_BUCKET, "out of it", 0));
	assert_ok(mojo_rmdir(bench->store, MOJO_ROOT_BUCKET, "dir"));
	assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "out of it"));
	bench_sync(bench);
	uint64_t sum = bench_fingerprint_all(bench);
	crash_and_open(bench);
	assert_true(bench_fingerprint_all(bench) == sum);
	assert_int_equal(bench_info(bench).files, 1);
	assert_int_equal(bench_info(bench).directories, 1);
	assert_errno(mojo_lookup(bench->store, MOJO_ACTIVE, MOJO_ROOT_BUCKET, "brief", &attr), ENOENT);
	bench_assert(bench, MOJO_ACTIVE, kept, 0, BENCH_PAGE + 1, 2);
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, kept).pages, 2);
}

static void test_an_unfinished_batch_never_happened(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	put_synced(bench, file, 0, 1);
	uint64_t sum = bench_fingerprint_all(bench), end = tail(bench);
	/* Over a megabyte of it is in the chunk, in whole groups, but its end is not. */
	bench_file(bench, "new");
	bench_put(bench, file, 0, 600 * BENCH_PAGE, 2);
	assert_true(tail(bench) > end + 256);
	crash_and_open(bench);
	assert_true(bench_fingerprint_all(bench) == sum);
	assert_int_equal(tail(bench), end); /* its place is used again */
	assert_false(bench_was_told(bench, "damaged"));
	bench_put(bench, file, 0, 600 * BENCH_PAGE, 3);
	bench_sync(bench);
	crash_and_open(bench);
	bench_assert(bench, MOJO_ACTIVE, file, 0, 600 * BENCH_PAGE, 3);
}

static void test_opening_again_and_again_changes_nothing(void **state)
{
	struct bench *bench = *state;
	struct dice dice = dice_new("again");
	bench_stir(bench, &dice, 100, true);
	bench_sync(bench);
	uint64_t sum = bench_fingerprint_all(bench), end = tail(bench);
	bench_crash(bench);
	uint64_t bytes = bytes_of(bench);
	for (int i = 0; i < 5; i++) {
		bench_open(bench);
		assert_true(bench_fingerprint_all(bench) == sum);
		assert_int_equal(tail(bench), end);
		bench_crash(bench);
	}
	assert_true(bytes_of(bench) == bytes);
	bench->config.read_only = true;
	bench_open(bench);
	assert_true(bench_fingerprint_all(bench) == sum);
}

/* ---- the end of the log --------------------------------------------------------------------- */

static void test_a_torn_last_group_is_cut_off_in_silence(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	put_synced(bench, file, 0, 1);
	uint64_t sum = bench_fingerprint_all(bench);
	uint64_t last = put_synced(bench, file, 0, 2);
	for (uint32_t offset = 0; offset < 2 * BENCH_PAGE; offset += 511) {
		/* Any byte of its header or its page. */
		struct mojo_io *copy, *kept = bench->io;
		assert_ok(mojo_io_memory_clone(bench->io, &copy));
		bench_crash(bench);
		bench->io = copy;
		bench_flip_block(bench, last + offset / BENCH_PAGE, offset % BENCH_PAGE);
		bench->events[0] = '\0';
		bench_open(bench);
		assert_true(bench_fingerprint_all(bench) == sum);
		assert_string_equal(bench->events, "");
		assert_int_equal(tail(bench), last);
		bench_crash(bench);
		bench_replace_io(bench, kept);
		bench_open(bench);
		bench_assert(bench, MOJO_ACTIVE, file, 0, BENCH_PAGE, 2);
	}
}

static void test_a_file_that_ends_too_early_is_a_torn_end(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	put_synced(bench, file, 0, 1);
	uint64_t sum = bench_fingerprint_all(bench);
	uint64_t last = put_synced(bench, file, 0, 2);
	char path[MOJO_CHUNK_PATH_BYTES];
	void *data;
	size_t length;
	bench_crash(bench);
	mojo_chunk_path((uint32_t)(last / BENCH_PER_CHUNK), path);
	assert_ok(mojo_io_memory_load(bench->io, path, &data, &length));
	for (uint32_t cut = 0; cut < 2 * BENCH_PAGE; cut += 1000) {
		size_t keep = (size_t)(last % BENCH_PER_CHUNK) * BENCH_PAGE + cut;
		assert_ok(mojo_io_memory_replace(bench->io, path, data, keep));
		bench_open(bench);
		assert_true(bench_fingerprint_all(bench) == sum);
		bench_crash(bench);
	}
	assert_ok(mojo_io_memory_replace(bench->io, path, data, length));
	free(data);
	bench_open(bench);
	bench_assert(bench, MOJO_ACTIVE, file, 0, BENCH_PAGE, 2);
}

/* The batch of several groups whose flush was cut short: whole, or not at all. */
static void test_a_batch_cut_short_by_the_power_is_whole_or_not_at_all(void **state)
{
	struct bench *bench = *state;
	struct dice dice = dice_new("torn batches");
	unsigned whole = 0, none = 0;
	bench_close(bench);
	bench->config.batch_bytes = 8 << 10;
	bench_open(bench);
	bench_stir(bench, &dice, 80, true);
	bench_sync(bench);
	assert_ok(mojo_io_memory_track(bench->io));
	uint64_t before = bench_fingerprint_all(bench);
	while (!bench->store->log.unflushed)
		bench_stir(bench, &dice, 1, false);
	bench_stir(bench, &dice, 1, false);
	assert_true(bench->store->log.unflushed && bench->store->log.page_count);
	mojo_io_memory_fail(bench->io, 1, -EIO, true); /* its last write succeeds, the flush does not */
	assert_errno(mojo_sync(bench->store), EIO);
	mojo_io_memory_fail(bench->io, 0, 0, false);
	uint64_t after = bench_fingerprint_all(bench);
	assert_true(before != after);
	struct mojo_io *stopped = bench->io;
	for (uint64_t seed = 0; seed < 60; seed++) {
		struct mojo_io *torn;
		assert_ok(mojo_io_memory_clone_torn(stopped, seed, &torn));
		mojo_abandon(bench->store);
		bench->store = NULL;
		bench->io = torn;
		bench->events[0] = '\0';
		bench_open(bench);
		uint64_t sum = bench_fingerprint_all(bench);
		assert_true(sum == before || sum == after);
		assert_false(bench_was_told(bench, "damaged"));
		whole += sum == after;
		none += sum == before;
		/* It goes on from there as if the rest had never been. */
		bench_stir(bench, &dice, 5, true);
		bench_sync(bench);
		sum = bench_fingerprint_all(bench);
		crash_and_open(bench);
		assert_true(bench_fingerprint_all(bench) == sum);
		bench_crash(bench);
		mojo_io_free(torn);
	}
	bench->io = stopped;
	assert_true(none > 0);
	print_message("of 60 torn batches %u were whole, %u gone\n", whole, none);
}

/* ---- damage --------------------------------------------------------------------------------- */

static void test_a_bad_group_before_the_end_is_damage(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	put_synced(bench, file, 0, 1);
	uint64_t sum = bench_fingerprint_all(bench);
	uint64_t bad = put_synced(bench, file, 1, 2);
	put_synced(bench, file, 2, 3);
	put_synced(bench, file, 3, 4);
	bench_crash(bench);
	bench_flip_block(bench, bad, 60);
	assert_refused_untouched(bench, "damaged");
	assert_refused_untouched(bench, "the log is damaged at address");
	/* What came before it can be looked at. */
	bench->config.read_only = true;
	bench_open(bench);
	assert_true(bench_fingerprint_all(bench) == sum);
	bench_crash(bench);
	bench->config.read_only = false;
	/* It was only ever this one byte. */
	bench_flip_block(bench, bad, 60);
	bench_open(bench);
	bench_assert(bench, MOJO_ACTIVE, file, 3 * BENCH_PAGE, BENCH_PAGE, 4);
}

static void test_damage_far_before_the_end_is_found(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	uint64_t bad = put_synced(bench, file, 1, 2);
	/* Megabytes behind it, and two chunks on, there is one group that knows better. */
	bench_put(bench, file, 0, 9 << 20, 5);
	bench_sync(bench);
	put_synced(bench, file, 0, 1);
	assert_true(bench->store->log.chunk >= 2);
	bench_crash(bench);
	bench_flip_block(bench, bad, 0);
	assert_refused_untouched(bench, "the log is damaged");
}

static void test_lost_chunks_are_damage(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	for (uint64_t i = 0; i < 20; i++) {
		bench_put(bench, file, i << 20, 1 << 20, i);
		bench_sync(bench);
	}
	assert_true(bench->store->log.chunk >= 4);
	bench_crash(bench);
	/* One, or several in a row: the search goes on where files are. */
	for (uint32_t lost = 1; lost <= 3; lost++) {
		void *data[3];
		size_t length[3];
		char path[MOJO_CHUNK_PATH_BYTES];
		for (uint32_t i = 0; i < lost; i++) {
			mojo_chunk_path(1 + i, path);
			assert_ok(mojo_io_memory_load(bench->io, path, &data[i], &length[i]));
			assert_ok(bench->io->ops->unlink(bench->io, path));
		}
		assert_refused_untouched(bench, "the log is damaged");
		for (uint32_t i = 0; i < lost; i++) {
			mojo_chunk_path(1 + i, path);
			assert_ok(mojo_io_memory_replace(bench->io, path, data[i], length[i]));
			free(data[i]);
		}
	}
	bench_open(bench);
	bench_assert(bench, MOJO_ACTIVE, file, 5 << 20, 1 << 20, 5);
}

/* A page of a batch that is known to have been durable is no matter of the log's: who reads it is told. */
static void test_a_bad_page_before_the_end_is_an_error_for_its_readers(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	uint8_t buf[BENCH_PAGE];
	size_t got;
	uint64_t group = put_synced(bench, file, 0, 1);
	put_synced(bench, file, 1, 2);
	put_synced(bench, file, 2, 3);
	bench_crash(bench);
	bench_flip_block(bench, group + 1, 5);
	bench_open(bench);
	assert_errno(mojo_read(bench->store, MOJO_ACTIVE, file, 0, buf, BENCH_PAGE, &got), EIO);
	assert_true(bench_was_told(bench, "does not hold what was written"));
	bench_assert(bench, MOJO_ACTIVE, file, BENCH_PAGE, BENCH_PAGE, 2);
	bench_assert(bench, MOJO_ACTIVE, file, 2 * BENCH_PAGE, BENCH_PAGE, 3);
}

static void test_a_bad_index_is_refused(void **state)
{
	struct bench *bench = *state;
	for (int i = 0; i < 300; i++) {
		char name[100];
		snprintf(name, sizeof(name), "%080d", i);
		bench_file(bench, name);
	}
	bench_reopen(bench);
	uint64_t space = mojo_ref_decode(bench->store->root.space_ref).address;
	bench_crash(bench);
	bench_flip_block(bench, space, 100);
	assert_refused_untouched(bench, "a piece of the index does not match its checksum");
}

/* ---- groups that should not be -------------------------------------------------------------- */

/* A sound group with one record at the tail, as if the log had written it. */
static void append_group(struct bench *bench, uint16_t type, const void *payload, uint32_t length, uint32_t data_blocks)
{
	struct mojo_log *log = &bench->store->log;
	uint8_t *header = calloc(1 + data_blocks, BENCH_PAGE);
	assert_non_null(header);
	struct mojo_group group = {
		.epoch = log->announce ? log->previous_epoch : log->epoch,
		.sequence = log->sequence,
		.durable_sequence = log->durable_sequence,
		.address = log->tail,
		.header_blocks = 1,
		.data_blocks = data_blocks,
		.record_count = 1,
		.record_bytes = MOJO_RECORD_HEADER_BYTES + length,
		.flags = MOJO_GROUP_BATCH_END,
	};
	mojo_put16(header + MOJO_GROUP_HEADER_BYTES, type);
	mojo_put32(header + MOJO_GROUP_HEADER_BYTES + 4, length);
	memcpy(header + MOJO_GROUP_HEADER_BYTES + MOJO_RECORD_HEADER_BYTES, payload, length);
	mojo_group_seal(header, BENCH_PAGE, log->store_id, &group);
	struct iovec vector = { header, (size_t)(1 + data_blocks) * BENCH_PAGE };
	assert_ok(mojo_chunks_write(log->chunks, log->tail, &vector, 1));
	free(header);
}

static void test_a_record_that_makes_no_sense_is_refused(void **state)
{
	struct bench *bench = *state;
	uint8_t p[64];
	uint32_t file = bench_file(bench, "f");
	put_synced(bench, file, 0, 1);
	uint64_t sum = bench_fingerprint_all(bench);
	struct mojo_io *start;
	assert_ok(mojo_io_memory_clone(bench->io, &start));

	struct {
		uint16_t type;
		uint32_t length, data_blocks;
		uint8_t payload[64];
	} cases[] = {
		{ .type = 99, .length = 4 },                  /* of the future */
		{ .type = MOJO_RECORD_PUBLISH, .length = 4 }, /* kept for what is to come */
		{ .type = MOJO_RECORD_EPOCH, .length = 7 },
		{ .type = MOJO_RECORD_INODE, .length = 3 },
		{ .type = MOJO_RECORD_INODE, .length = 4 + MOJO_INODE_BYTES }, /* bucket 0 */
		{ .type = MOJO_RECORD_LINK, .length = 5 },
		{ .type = MOJO_RECORD_UNLINK, .length = 11 },
		{ .type = MOJO_RECORD_UNLINK, .length = 12, .payload = { 1 } }, /* no such entry */
		{ .type = MOJO_RECORD_REMOVE, .length = 3 },
		{ .type = MOJO_RECORD_CLEAR, .length = 19 },
		{ .type = MOJO_RECORD_COMMIT, .length = 15 },
		{ .type = MOJO_RECORD_COMMIT, .length = 16, .payload = { 7 } }, /* another version is active */
		{ .type = MOJO_RECORD_CLONE, .length = MOJO_CLONE_BYTES - 1 },
		{ .type = MOJO_RECORD_CLONE,
		  .length = MOJO_CLONE_BYTES,
		  .payload = { 0, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 } }, /* no such file */
		{ .type = MOJO_RECORD_DROP, .length = 4, .payload = { 7 } },                      /* no such version */
		{ .type = MOJO_RECORD_BLOBS, .length = 11 },
		{ .type = MOJO_RECORD_BLOBS,
		  .length = 12,
		  .payload = { 0, 0, 0, 0, 0, 0, 0, 0, 3 } },                                    /* blocks it lacks */
		{ .type = MOJO_RECORD_REMOVE, .length = 4, .data_blocks = 2, .payload = { 9 } }, /* blocks of nobody */
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mojo_io *io;
		append_group(bench, cases[i].type, cases[i].payload, cases[i].length, cases[i].data_blocks);
		bench_crash(bench);
		assert_refused_untouched(bench, "does not fit");
		assert_ok(mojo_io_memory_clone(start, &io));
		bench_replace_io(bench, io);
		bench_open(bench);
		assert_true(bench_fingerprint_all(bench) == sum);
	}
	/* Pages of another version, or of a bucket that is not there. */
	for (uint32_t i = 0; i < 2; i++) {
		struct mojo_io *io;
		uint8_t zeros[BENCH_PAGE] = { 0 };
		uint32_t bucket = i ? file : 77;
		mojo_put32(p, i ? 2 : 1);
		mojo_put32(p + 4, bucket);
		mojo_put32(p + 8, 0);
		mojo_put32(p + 12, 1);
		mojo_put32(p + 16, mojo_checksum_page(zeros, BENCH_PAGE, bucket, 0));
		append_group(bench, MOJO_RECORD_PAGES, p, 20, 1);
		bench_crash(bench);
		assert_refused_untouched(bench, "does not fit");
		assert_ok(mojo_io_memory_clone(start, &io));
		bench_replace_io(bench, io);
		bench_open(bench);
	}
	/* Shared pages of a bucket that is not there; from no older version; and from behind the log's end. */
	for (uint32_t i = 0; i < 3; i++) {
		struct mojo_io *io;
		struct mojo_entry entry = { .address = i == 2 ? bench->store->log.tail + 1 : 1,
					    .version = i == 1 ? bench->store->active : 1 };
		mojo_put32(p, i ? file : 77);
		mojo_put32(p + 4, 0);
		mojo_put32(p + 8, 1);
		mojo_entry_encode(p + MOJO_SHARE_FIXED_BYTES, &entry);
		append_group(bench, MOJO_RECORD_SHARE, p, MOJO_SHARE_FIXED_BYTES + MOJO_ENTRY_BYTES, 0);
		bench_crash(bench);
		assert_refused_untouched(bench, "does not fit");
		assert_ok(mojo_io_memory_clone(start, &io));
		bench_replace_io(bench, io);
		bench_open(bench);
	}
	mojo_io_free(start);
}

/* What a dropped batch of an earlier opening left in the chunk is never taken up again, even where it fits on
 * to the byte. */
static void test_leftovers_of_an_earlier_epoch_are_not_taken_up(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	bench_close(bench);
	bench->config.batch_bytes = 64 << 10;
	bench_open(bench);
	put_synced(bench, file, 0, 1);
	uint64_t end = tail(bench), sequence = bench->store->log.sequence;
	/* Groups of equal length, the last of them ending its batch; then the first of them is lost. */
	for (uint64_t i = 0; i < 5; i++)
		bench_put(bench, file, i * 17 * BENCH_PAGE, 16 * BENCH_PAGE, 100 + i);
	bench_sync(bench);
	uint64_t last = tail(bench);
	uint64_t group_blocks = (last - end) / 5;
	assert_int_equal(group_blocks * 5, last - end);
	bench_crash(bench);
	bench_flip_block(bench, end + 1, 9); /* a page of the first: the batch goes as a whole */
	bench_open(bench);
	assert_int_equal(tail(bench), end);
	assert_int_equal(bench->store->log.sequence, sequence);
	bench_assert(bench, MOJO_ACTIVE, file, 0, BENCH_PAGE, 1);
	/* One group of the same length comes to lie over the first. */
	bench_put(bench, file, 0, 16 * BENCH_PAGE, 200);
	bench_sync(bench);
	assert_int_equal(tail(bench), end + group_blocks);
	uint64_t sum = bench_fingerprint_all(bench);
	crash_and_open(bench);
	assert_int_equal(tail(bench), end + group_blocks);
	assert_true(bench_fingerprint_all(bench) == sum);
	bench_assert(bench, MOJO_ACTIVE, file, 0, 16 * BENCH_PAGE, 200);
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).size, 16 * BENCH_PAGE);
	/* And so on, over openings that write and openings that do not. */
	for (int i = 0; i < 3; i++) {
		crash_and_open(bench);
		put_synced(bench, file, 0, 300 + (uint64_t)i);
		sum = bench_fingerprint_all(bench);
		crash_and_open(bench);
		crash_and_open(bench);
		assert_true(bench_fingerprint_all(bench) == sum);
	}
}

/* What a crash cut off stands at the log's end with the sequence and the epoch that a recovery expects there. The
 * first group of the next opening does not fit behind the end, and does not overwrite it. */
static void test_a_leftover_where_the_next_group_does_not_fit(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	for (int round = 0; round < 3; round++) {
		bench_close(bench);
		bench->config.batch_bytes = 64 << 10;
		bench_open(bench);
		put_synced(bench, file, 0, 1);
		while (BENCH_PER_CHUNK - tail(bench) % BENCH_PER_CHUNK > 20)
			put_synced(bench, file, 0, 2);
		uint64_t end = tail(bench), sequence = bench->store->log.sequence;
		/* A whole group; its batch has more than that, and no end. */
		bench_put(bench, file, 0, 16 * BENCH_PAGE, 3);
		bench_put(bench, file, 16 * BENCH_PAGE, BENCH_PAGE, 4);
		assert_int_equal(tail(bench), end + 17);
		bench_crash(bench);
		bench->config.batch_bytes = 128 << 10;
		bench_open(bench);
		assert_int_equal(tail(bench), end);
		assert_int_equal(bench->store->log.sequence, sequence);
		bench_assert(bench, MOJO_ACTIVE, file, 0, BENCH_PAGE, 2);
		if (round == 0) { /* too large a group of pages */
			bench_put(bench, file, 0, 30 * BENCH_PAGE, 5);
			bench_sync(bench);
			put_synced(bench, file, 40, 6);
		} else if (round == 1) { /* or of pieces of the index */
			for (int i = 0; i < 300; i++) {
				char name[100];
				snprintf(name, sizeof(name), "%080d", i);
				bench_file(bench, name);
			}
			bench_checkpoint(bench);
		} else { /* power is lost when the block is blank and the group is not there yet: nothing is lost */
			assert_ok(mojo_io_memory_track(bench->io));
			bench_put(bench, file, 0, 32 * BENCH_PAGE, 5);
			bench_put(bench, file, 32 * BENCH_PAGE, BENCH_PAGE, 5);
			assert_true(tail(bench) > end + 20);
			bench_power_cut(bench);
			bench_open(bench);
			assert_int_equal(tail(bench), end);
			put_synced(bench, file, 40, 6);
		}
		assert_true(tail(bench) > end);
		uint64_t sum = bench_fingerprint_all(bench), reached = tail(bench);
		crash_and_open(bench);
		assert_int_equal(tail(bench), reached);
		assert_true(bench_fingerprint_all(bench) == sum);
		/* Nor is the older root of less use. */
		struct mojo_check_result result;
		bench_crash(bench);
		assert_ok(mojo_check(bench->io, NULL, &result));
		assert_int_equal(result.errors + result.warnings, 0);
		bench_open(bench);
	}
}

/* ---- roots ---------------------------------------------------------------------------------- */

static void test_a_lost_root_costs_nothing_but_a_longer_replay(void **state)
{
	struct bench *bench = *state;
	struct dice dice = dice_new("one root");
	for (int i = 0; i < 20; i++) {
		bench_stir(bench, &dice, 60, true);
		if (dice_below(&dice, 2))
			bench_checkpoint(bench);
		bench_stir(bench, &dice, 20, true);
		bench_sync(bench);
		uint64_t sum = bench_fingerprint_all(bench), generation = bench->store->root.generation;
		unsigned newest = bench->store->root_slot;
		struct mojo_info info = bench_info(bench);
		bench_crash(bench);
		/* Now the newest, now the older one. */
		unsigned lost = i % 3 ? newest : newest ^ 1;
		assert_ok(mojo_io_memory_flip(bench->io, MOJO_STATE_FILE,
					      lost * MOJO_ROOT_SLOT_BYTES + dice_below(&dice, 200), 8));
		bench->events[0] = '\0';
		bench_open(bench);
		assert_true(bench_was_told(bench, "one of the two roots"));
		assert_int_equal(bench->store->root.generation, lost == newest ? generation - 1 : generation);
		assert_true(bench_fingerprint_all(bench) == sum);
		assert_int_equal(bench_info(bench).files, info.files);
		assert_int_equal(bench_info(bench).frozen_versions, info.frozen_versions);
		/* The next checkpoint writes it anew. */
		bench_checkpoint(bench);
		bench_crash(bench);
		bench->events[0] = '\0';
		bench_open(bench);
		assert_false(bench_was_told(bench, "one of the two roots"));
		assert_true(bench_fingerprint_all(bench) == sum);
		if (i % 5 == 4) {
			bench->store->mark_pending = true;
			bench_checkpoint(bench);
			bench_assert_accounts(bench, false);
		}
	}
}

static void test_a_newer_root_in_either_place_is_refused(void **state)
{
	struct bench *bench = *state;
	void *data;
	size_t length;
	bench_close(bench);
	for (unsigned slot = 0; slot < MOJO_ROOT_SLOTS; slot++) {
		assert_ok(mojo_io_memory_load(bench->io, MOJO_STATE_FILE, &data, &length));
		uint8_t *root = (uint8_t *)data + slot * MOJO_ROOT_SLOT_BYTES;
		mojo_put32(root + 8, MOJO_FORMAT_VERSION + 1);
		mojo_put64(root + MOJO_ROOT_SLOT_BYTES - 8, mojo_checksum64(root, MOJO_ROOT_SLOT_BYTES - 8, 0));
		assert_ok(mojo_io_memory_replace(bench->io, MOJO_STATE_FILE, data, length));
		uint64_t before = bytes_of(bench);
		assert_errno(mojo_open(bench->io, &bench->config, &bench->store), EPROTONOSUPPORT);
		bench->store = NULL;
		assert_true(bench_was_told(bench, "newer format"));
		assert_true(bytes_of(bench) == before);
		mojo_put32(root + 8, MOJO_FORMAT_VERSION);
		mojo_put64(root + MOJO_ROOT_SLOT_BYTES - 8, mojo_checksum64(root, MOJO_ROOT_SLOT_BYTES - 8, 0));
		assert_ok(mojo_io_memory_replace(bench->io, MOJO_STATE_FILE, data, length));
		free(data);
	}
	bench_open(bench);
}

/* ---- chunks --------------------------------------------------------------------------------- */

static void test_the_log_is_followed_from_chunk_to_chunk(void **state)
{
	struct bench *bench = *state;
	struct dice dice = dice_new("chunks");
	uint32_t file = bench_file(bench, "f");
	uint64_t tags[64] = { 0 }, size = 0;
	for (int i = 0; i < 60; i++) { /* the end of a chunk is left unused now and then */
		uint32_t at = dice_below(&dice, 12), pages = 100 + dice_below(&dice, 100);
		tags[at] = dice_next(&dice) | 1;
		bench_put(bench, file, (uint64_t)at << 20, (size_t)pages * BENCH_PAGE, tags[at]);
		bench_sync(bench);
		if (((uint64_t)at << 20) + pages * BENCH_PAGE > size)
			size = ((uint64_t)at << 20) + pages * BENCH_PAGE;
	}
	assert_true(bench->store->log.chunk >= 6);
	uint64_t sum = bench_fingerprint_all(bench);
	crash_and_open(bench);
	assert_true(bench_fingerprint_all(bench) == sum);
	for (uint32_t at = 0; at < 12; at++)
		if (tags[at])
			bench_assert(bench, MOJO_ACTIVE, file, (uint64_t)at << 20, 100 * BENCH_PAGE, tags[at]);
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false); /* replay noted every death: ends of chunks and headers, too */
}

static void test_the_log_may_end_where_a_chunk_ends(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	for (int round = 0; round < 3; round++) {
		bench_sync(bench);
		/* A group at a time, until the chunk is full to the last block. */
		for (;;) {
			uint64_t left = BENCH_PER_CHUNK - tail(bench) % BENCH_PER_CHUNK;
			uint64_t pages = left > 200 ? 100 : left - 1;
			bench_put(bench, file, 0, pages * BENCH_PAGE, left);
			bench_sync(bench);
			if (tail(bench) % BENCH_PER_CHUNK == 0)
				break;
		}
		uint64_t sum = bench_fingerprint_all(bench), end = tail(bench);
		if (round == 1) {
			bench_checkpoint(bench);
			sum = bench_fingerprint_all(bench);
		}
		crash_and_open(bench);
		assert_true(bench_fingerprint_all(bench) == sum);
		if (round != 1)
			assert_int_equal(tail(bench), end);
		put_synced(bench, file, 5, 777);
		assert_true(tail(bench) > end);
		crash_and_open(bench);
		bench_assert(bench, MOJO_ACTIVE, file, 5 * BENCH_PAGE, BENCH_PAGE, 777);
	}
}

static void test_a_batch_over_two_chunks_comes_back(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	bench_sync(bench);
	bench_put(bench, file, 0, 6 << 20, 9); /* one batch of six groups */
	bench_sync(bench);
	assert_int_equal(bench->store->log.chunk, 1);
	uint64_t sum = bench_fingerprint_all(bench);
	assert_ok(mojo_io_memory_track(bench->io));
	crash_and_open(bench);
	assert_true(bench_fingerprint_all(bench) == sum);
	bench_assert(bench, MOJO_ACTIVE, file, 0, 6 << 20, 9);
}

/* ---- versions ------------------------------------------------------------------------------- */

static void test_commits_and_drops_are_replayed(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	for (uint64_t i = 1; i <= 10; i++) {
		bench_put(bench, file, 0, BENCH_PAGE, i);
		assert_int_equal(bench_commit(bench, i % 2 ? "odd" : ""), i);
	}
	assert_ok(mojo_version_drop(bench->store, 3));
	assert_ok(mojo_version_drop(bench->store, 10));
	uint64_t sum = bench_fingerprint_all(bench);
	crash_and_open(bench);
	assert_true(bench_fingerprint_all(bench) == sum);
	assert_int_equal(bench->store->active, 11);
	assert_int_equal(bench->store->main.held, 9);
	assert_int_equal(bench_info(bench).frozen_versions, 8);
	for (uint32_t i = 1; i <= 9; i++)
		if (i != 3)
			bench_assert(bench, i, file, 0, BENCH_PAGE, i);
	bench_assert(bench, MOJO_ACTIVE, file, 0, BENCH_PAGE, 10);
	assert_true(bench->store->mark_pending);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_all_that_was_synced_comes_back),
		BENCH_TEST(test_what_came_and_went_in_one_batch_leaves_nothing),
		BENCH_TEST(test_an_unfinished_batch_never_happened),
		BENCH_TEST(test_opening_again_and_again_changes_nothing),
		BENCH_TEST(test_a_torn_last_group_is_cut_off_in_silence),
		BENCH_TEST(test_a_file_that_ends_too_early_is_a_torn_end),
		BENCH_TEST(test_a_batch_cut_short_by_the_power_is_whole_or_not_at_all),
		BENCH_TEST(test_a_bad_group_before_the_end_is_damage),
		BENCH_TEST(test_damage_far_before_the_end_is_found),
		BENCH_TEST(test_lost_chunks_are_damage),
		BENCH_TEST(test_a_bad_page_before_the_end_is_an_error_for_its_readers),
		BENCH_TEST(test_a_bad_index_is_refused),
		BENCH_TEST(test_a_record_that_makes_no_sense_is_refused),
		BENCH_TEST(test_leftovers_of_an_earlier_epoch_are_not_taken_up),
		BENCH_TEST(test_a_leftover_where_the_next_group_does_not_fit),
		BENCH_TEST(test_a_lost_root_costs_nothing_but_a_longer_replay),
		BENCH_TEST(test_a_newer_root_in_either_place_is_refused),
		BENCH_TEST(test_the_log_is_followed_from_chunk_to_chunk),
		BENCH_TEST(test_the_log_may_end_where_a_chunk_ends),
		BENCH_TEST(test_a_batch_over_two_chunks_comes_back),
		BENCH_TEST(test_commits_and_drops_are_replayed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
