/* SPDX-License-Identifier: MIT */
/*
 * checkpoint.h: its cost follows what changed; a crash at any of its steps loses nothing; every block is in use
 * or known to be dead afterwards; marking finds exactly what dropped versions leave behind.
 */
#include "support/support.h"

#include "checkpoint.h"
#include "io_record.h"

/* How many blocks of log a checkpoint takes. */
static uint64_t cost_of_checkpoint(struct bench *bench)
{
	uint64_t before = bench->store->log.tail, chunk = bench->store->log.chunk;
	bench_checkpoint(bench);
	if (bench->store->log.chunk != chunk) /* it began a new one */
		return bench->store->log.tail - bench->store->log.chunk * (uint64_t)BENCH_PER_CHUNK;
	return bench->store->log.tail - before;
}

static void test_the_cost_follows_what_changed(void **state)
{
	struct bench *bench = *state;
	uint32_t small = bench_file(bench, "small"), large = bench_file(bench, "large");
	bench_put(bench, small, 0, 10 * BENCH_PAGE, 1);
	bench_put(bench, large, 0, 6000 * BENCH_PAGE, 2);
	for (int i = 0; i < 3; i++)
		bench_checkpoint(bench);
	uint64_t nothing = cost_of_checkpoint(bench);
	bench_put(bench, small, 0, 1, 3);
	bench_sync(bench);
	uint64_t one_of_small = cost_of_checkpoint(bench);
	bench_put(bench, large, 3000 * BENCH_PAGE, 1, 3);
	bench_sync(bench);
	uint64_t one_of_large = cost_of_checkpoint(bench);
	/* The space tree's leaf in a group; a leaf, and what is above it; not the file's 94 slots. */
	assert_in_range(nothing, 0, 4);
	assert_in_range(one_of_small, 1, 8);
	assert_in_range(one_of_large, 1, 8);
	/* Versions do not add to it. */
	for (int i = 0; i < 100; i++)
		bench_commit(bench, "one of many");
	for (int i = 0; i < 3; i++)
		bench_checkpoint(bench);
	bench_put(bench, large, 1000 * BENCH_PAGE, 1, 3);
	bench_sync(bench);
	assert_in_range(cost_of_checkpoint(bench), 1, 8);
	/* Neither does it grow while nothing happens. */
	for (int i = 0; i < 20; i++)
		assert_in_range(cost_of_checkpoint(bench), 0, 4);
	bench_assert_accounts(bench, false);
}

static void test_a_commit_takes_none(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	bench_put(bench, file, 0, 100 * BENCH_PAGE, 1);
	bench_checkpoint(bench);
	uint64_t checkpoints = bench_info(bench).checkpoints;
	bench_commit(bench, "");
	assert_int_equal(bench_info(bench).checkpoints, checkpoints);
}

static void test_one_is_taken_when_the_log_or_the_index_has_grown(void **state)
{
	struct bench *bench = *state;
	bench_close(bench);
	bench->config.checkpoint_bytes = 1 << 20;
	bench_open(bench);
	uint32_t file = bench_file(bench, "f");
	uint64_t before = bench_info(bench).checkpoints;
	for (int i = 0; i < 8; i++) {
		bench_put(bench, file, 0, 1 << 20, (uint64_t)i);
		bench_sync(bench);
	}
	assert_in_range(bench_info(bench).checkpoints - before, 5, 9);
	assert_true(bench_info(bench).log_bytes <= 3 << 20);
	/* The index alone: many names, few bytes of log. */
	bench_close(bench);
	bench->config.checkpoint_bytes = 1ull << 40;
	bench->config.cache_bytes = 4 << 20;
	bench_open(bench);
	before = bench_info(bench).checkpoints;
	for (int i = 0; i < 10000; i++) {
		char name[200];
		snprintf(name, sizeof(name), "%0150d", i);
		bench_file(bench, name);
	}
	assert_true(bench_info(bench).checkpoints > before);
	assert_true(bench->store->blobs.dirty_bytes <= 3 << 20); /* half the cache, and a little */
	bench_assert(bench, MOJO_ACTIVE, file, 0, 1 << 20, 7);
}

/* Neither what died since the last checkpoint nor the space taken ahead for the log, in this chunk and the next one,
 * waits for the next session. */
static void test_closing_gives_space_back(void **state)
{
	struct bench *bench = *state;
	enum { TURNS = 3, BYTES = 512 << 10 };
	uint32_t file = bench_file(bench, "f");
	for (int turn = 0; turn < 2; turn++) {
		for (uint64_t i = 0; i < TURNS; i++) {
			bench_put(bench, file, 0, BYTES, i);
			bench_sync(bench);
		}
		assert_true(bench_info(bench).store_bytes >= TURNS * BYTES && bench->store->log.next_chunk >= 0);
		bench_reopen(bench);
		assert_in_range(bench_info(bench).store_bytes, BYTES, BYTES + (100 << 10));
		bench_assert(bench, MOJO_ACTIVE, file, 0, BYTES, TURNS - 1);
	}
	/* A session that changes nothing takes none. */
	uint64_t generation = bench->store->root.generation;
	bench_reopen(bench);
	assert_int_equal(bench->store->root.generation, generation);
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
}

static void test_it_is_refused_where_nothing_may_be_written(void **state)
{
	struct bench *bench = *state;
	bench_close(bench);
	bench->config.read_only = true;
	bench_open(bench);
	assert_errno(mojo_checkpoint(bench->store), EROFS);
}

/* ---- accounts ------------------------------------------------------------------------------- */

static void test_every_block_is_in_use_or_known_dead(void **state)
{
	struct bench *bench = *state;
	struct dice dice = dice_new("accounts");
	for (int i = 0; i < 25; i++) {
		bench_stir(bench, &dice, 120, false);
		if (dice_below(&dice, 2))
			bench_commit(bench, "kept");
		if (dice_below(&dice, 4) == 0) {
			bench_reopen(bench);
		} else {
			bench_checkpoint(bench);
		}
		bench_assert_accounts(bench, false);
	}
	assert_true(bench->store->log.chunk >= 3); /* chunks were left behind on the way */
}

static void test_marking_finds_what_dropped_versions_held(void **state)
{
	struct bench *bench = *state;
	struct dice dice = dice_new("marking");
	for (int i = 0; i < 25; i++) {
		bench_stir(bench, &dice, 80, true);
		bench_checkpoint(bench); /* marks, if a version was dropped */
		assert_false(bench->store->mark_pending);
		bench_assert_accounts(bench, false);
		if (dice_below(&dice, 4) == 0)
			bench_reopen(bench);
	}
	/* What only they held comes back: no version but the active one keeps anything. */
	struct mojo_version_info version;
	while (mojo_version_next(bench->store, 0, &version) == 0 && !version.active)
		assert_ok(mojo_version_drop(bench->store, version.version));
	uint64_t sum = bench_fingerprint_all(bench);
	for (int i = 0; i < 4; i++)
		bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
	struct mojo_info info = bench_info(bench);
	uint64_t pages = 0;
	for (uint32_t bucket = 1; bucket < bench->store->next_bucket; bucket++) {
		struct mojo_attr attr;
		if (mojo_getattr(bench->store, MOJO_ACTIVE, bucket, &attr) == 0)
			pages += attr.pages;
	}
	/* Content, index, the spare chunks, and what is allocated ahead. */
	assert_true(info.store_bytes <= (pages + 200) * BENCH_PAGE + 4ull * BENCH_CHUNK);
	bench_reopen(bench);
	assert_true(bench_fingerprint_all(bench) == sum);
}

static void test_marking_is_made_up_for_after_a_crash(void **state)
{
	struct bench *bench = *state;
	struct dice dice = dice_new("interrupted marking");
	bench_stir(bench, &dice, 200, false);
	bench_commit(bench, "to be dropped");
	bench_stir(bench, &dice, 200, false);
	bench_checkpoint(bench);
	assert_ok(mojo_version_drop(bench->store, 1));
	bench_crash(bench);
	bench_open(bench);
	assert_true(bench->store->mark_pending);
	pthread_mutex_lock(&bench->store->mu);
	assert_ok(mojo_checkpoint_locked(bench->store)); /* without marking */
	pthread_mutex_unlock(&bench->store->mu);
	bench_crash(bench);
	bench_open(bench);
	assert_true(bench->store->mark_pending); /* the root says so */
	bench_reopen(bench);
	assert_false(bench->store->mark_pending);
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
}

/* ---- crashes -------------------------------------------------------------------------------- */

/* The operations of one checkpoint fail from the k-th on, for each k; then the power goes. */
static void crash_at_each_step(struct bench *bench, bool durable_only)
{
	struct dice dice = dice_new("crash in a checkpoint");
	for (int i = 0; i < 4; i++) {
		bench_stir(bench, &dice, 50, true);
		bench_checkpoint(bench);
	}
	bench_stir(bench, &dice, 40, true);
	bench_sync(bench);
	uint64_t sum = bench_fingerprint_all(bench);
	bench_crash(bench);
	struct mojo_io *start, *io;
	assert_ok(mojo_io_memory_clone(bench->io, &start));
	bool done = false;
	for (uint64_t after = 0; !done; after++) {
		assert_ok(mojo_io_memory_clone(start, &io));
		assert_ok(mojo_io_memory_track(io));
		bench_replace_io(bench, io);
		bench_open(bench);
		mojo_io_memory_fail(bench->io, after, -EIO, true);
		int err = mojo_checkpoint(bench->store);
		done = err == 0;
		if (!done) { /* nothing is taken any more, and what is there is still served */
			struct mojo_attr attr;
			assert_errno(mojo_checkpoint(bench->store), EIO);
			assert_errno(mojo_mknod(bench->store, MOJO_ROOT_BUCKET, "no", S_IFREG, 0, 0, 0, &attr), EIO);
			assert_true(bench_was_told(bench, "takes no more changes"));
			assert_true(bench_info(bench).failed);
			assert_true(bench_fingerprint_all(bench) == sum);
		}
		mojo_io_memory_fail(bench->io, 0, 0, false);
		if (durable_only)
			bench_power_cut(bench);
		else
			bench_crash(bench);
		bench_open(bench);
		assert_true(bench_fingerprint_all(bench) == sum);
		bench_stir(bench, &(struct dice){ .state = after }, 30, true);
		uint64_t later = bench_fingerprint_all(bench);
		bench->store->mark_pending = true;
		for (int i = 0; i < 3; i++)
			bench_checkpoint(bench);
		bench_assert_accounts(bench, false);
		bench_reopen(bench);
		assert_true(bench_fingerprint_all(bench) == later);
		bench_crash(bench);
	}
	mojo_io_free(start);
}

static void test_a_crash_at_any_step_loses_nothing(void **state)
{
	crash_at_each_step(*state, false);
}

static void test_a_power_cut_at_any_step_loses_nothing(void **state)
{
	crash_at_each_step(*state, true);
}

static void test_blobs_without_a_root_are_dead(void **state)
{
	struct bench *bench = *state;
	struct dice dice = dice_new("abandoned");
	bench_stir(bench, &dice, 300, false);
	bench_checkpoint(bench);
	bench_stir(bench, &dice, 100, false);
	bench_sync(bench);
	uint64_t sum = bench_fingerprint_all(bench);
	void *state_file;
	size_t length;
	assert_ok(mojo_io_memory_load(bench->io, MOJO_STATE_FILE, &state_file, &length));
	bench_checkpoint(bench);
	bench_crash(bench);
	/* The root never came to be: the log is replayed over the blobs. */
	assert_ok(mojo_io_memory_replace(bench->io, MOJO_STATE_FILE, state_file, length));
	free(state_file);
	bench_open(bench);
	assert_true(bench_fingerprint_all(bench) == sum);
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false); /* without any marking */
	bench_reopen(bench);
	assert_true(bench_fingerprint_all(bench) == sum);
}

/* ---- large ones ----------------------------------------------------------------------------- */

static void test_one_larger_than_a_chunk_is_whole(void **state)
{
	struct bench *bench = *state;
	char name[256];
	for (int i = 0; i < 20000; i++) {
		snprintf(name, sizeof(name), "%0240d", i);
		bench_file(bench, name);
	}
	uint32_t chunk = bench->store->log.chunk;
	assert_true(bench->store->blobs.dirty_bytes > BENCH_CHUNK);
	bench_checkpoint(bench);
	assert_int_equal(bench->store->blobs.dirty_bytes > 5 * BENCH_PAGE, false);
	assert_true(bench->store->log.chunk > chunk);
	bench_assert_accounts(bench, false);
	bench_crash(bench);
	bench_open(bench);
	for (int i = 0; i < 20000; i += 7) {
		snprintf(name, sizeof(name), "%0240d", i);
		bench_lookup(bench, MOJO_ACTIVE, name);
	}
	assert_int_equal(bench_info(bench).files, 20000);
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
}

/* All spare chunks that there may be. The last that is written to the first MiB of @file has tag 11. */
static void make_spares(struct bench *bench, uint32_t file)
{
	for (uint64_t i = 0; i < 12; i++) {
		bench_put(bench, file, 0, 1 << 20, i);
		bench_sync(bench);
	}
	for (int i = 0; i < 3; i++)
		bench_checkpoint(bench);
	assert_int_equal(bench->store->space.spare_count, MOJO_SPACE_SPARES);
}

/* The chunk is full in the middle of a checkpoint, and a spare takes its place: the tree that knows of spares may
 * be on its way to the disk just then. */
static void test_a_spare_may_be_taken_while_the_index_is_written(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	make_spares(bench, file);
	for (int i = 0; bench->store->space.spare_count == MOJO_SPACE_SPARES; i++) {
		assert_in_range(i, 0, 3000);
		bench_checkpoint(bench);
	}
	bench_crash(bench);
	bench_open(bench);
	bench_assert(bench, MOJO_ACTIVE, file, 0, 1 << 20, 11);
	for (int i = 0; i < 3; i++)
		bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
	bench_reopen(bench);
	bench_assert(bench, MOJO_ACTIVE, file, 0, 1 << 20, 11);
}

static int no_rename(struct mojo_io *io, const char *from, const char *to)
{
	(void)io;
	(void)from;
	(void)to;
	return -ENOSPC;
}

/* The host has no room for a name: the chunk is not forgotten for that, with all the space that it has. */
static void test_a_spare_that_cannot_be_renamed_stays_one(void **state)
{
	struct bench *bench = *state;
	const struct mojo_io_ops *real = bench->io->ops;
	struct mojo_io_ops ops = *real;
	uint32_t file = bench_file(bench, "f");
	uint8_t page[BENCH_PAGE] = { 1 };
	make_spares(bench, file);
	ops.rename = no_rename;
	bench->io->ops = &ops;
	int err = 0;
	for (uint64_t i = 0; !err; i++) {
		assert_in_range(i, 0, 3000);
		err = mojo_write(bench->store, file, i % 256 * BENCH_PAGE, page, BENCH_PAGE);
	}
	assert_int_equal(err, -ENOSPC);
	bench->io->ops = real;
	assert_int_equal(bench->store->space.spare_count, MOJO_SPACE_SPARES);
	bench_put(bench, file, 0, 1 << 20, 77);
	bench_sync(bench);
	for (int i = 0; i < 3; i++)
		bench_checkpoint(bench);
	assert_false(bench_info(bench).failed);
	bench_assert_accounts(bench, false);
	bench_reopen(bench);
	bench_assert(bench, MOJO_ACTIVE, file, 0, 1 << 20, 77);
}

/* As in a store of some TiB whose pages are overwritten all over it: nearly each group with dead blocks is in a leaf of
 * its own. @chunks: the groups are in those, of which there is no file, behind all that is in use. */
static void kill_all_over(struct bench *bench, unsigned chunks, unsigned step, unsigned block)
{
	for (unsigned i = 0; i < chunks; i += step)
		mojo_space_kill(&bench->store->space, (uint64_t)(1000 + i) * BENCH_PER_CHUNK + block, 1);
}

static void test_dead_blocks_all_over_the_store_on_a_full_disk(void **state)
{
	struct bench *bench = *state;
	struct mojo_io_space space;
	uint32_t file = bench_file(bench, "f");
	unsigned refused = 0, block = 1;
	uint8_t page[BENCH_PAGE] = { 1 };
	int err = -ENOSPC;
	bench_put(bench, file, 0, 1 << 20, 1);
	kill_all_over(bench, 4000, 1, 0);
	for (int i = 0; i < 3; i++)
		bench_checkpoint(bench);
	/* Not possible, or possible; but not begun and given up in the middle. */
	for (uint64_t room = 0; err; room += 64 << 10) {
		assert_in_range(room, 0, 64 << 20);
		kill_all_over(bench, 4000, 10, block++);
		pthread_mutex_lock(&bench->store->mu);
		mojo_log_trim(&bench->store->log); /* nothing is allocated ahead */
		pthread_mutex_unlock(&bench->store->mu);
		assert_ok(bench->io->ops->space(bench->io, &space));
		mojo_io_memory_limit(bench->io, space.total - space.free + room);
		err = mojo_checkpoint(bench->store);
		if (err)
			assert_int_equal(err, -ENOSPC);
		refused += err != 0;
		assert_false(bench_info(bench).failed);
		mojo_io_memory_limit(bench->io, 1ull << 40);
	}
	assert_true(refused > 0);
	/* And while writes are accepted it is possible. */
	for (unsigned i = 0; i < 6; i++) {
		kill_all_over(bench, 4000, 10, block++);
		assert_ok(mojo_write(bench->store, file, i * BENCH_PAGE, page, BENCH_PAGE));
		assert_ok(bench->io->ops->space(bench->io, &space));
		mojo_io_memory_limit(bench->io, space.total - space.free);
		bench_checkpoint(bench);
		mojo_io_memory_limit(bench->io, 1ull << 40);
	}
}

/* A data file that is removed is in no account from the next root on: it must not come back. */
static void test_a_removed_chunk_stays_removed_when_the_power_fails(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	assert_ok(mojo_io_memory_track(bench->io));
	for (uint64_t i = 0; i < 30; i++) { /* more chunks die than are kept as spares */
		bench_put(bench, file, 0, 1 << 20, i);
		bench_sync(bench);
	}
	for (int i = 0; i < 3; i++)
		bench_checkpoint(bench);
	assert_in_range(bench_info(bench).chunks, 1, 5);
	for (int i = 0; i < 2; i++) {
		bench_power_cut(bench);
		struct mojo_check_result result;
		assert_ok(mojo_check(bench->io, NULL, &result));
		assert_int_equal(result.errors + result.warnings, 0);
		bench_open(bench);
		assert_in_range(bench_info(bench).chunks, 1, 5);
		bench_assert(bench, MOJO_ACTIVE, file, 0, 1 << 20, 29);
		assert_ok(mojo_io_memory_track(bench->io));
		bench_checkpoint(bench);
		bench_assert_accounts(bench, false);
	}
}

/* What the process before left of the newest root may be in the host's memory only. */
static void test_two_roots_are_never_on_their_way_at_once(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	bench_put(bench, file, 0, 100, 1);
	bench_checkpoint(bench);
	unsigned on_their_way = 1u << bench->store->root_slot, most = 0;
	bench_crash(bench);

	struct mojo_io *recording;
	struct mojo_store *store;
	assert_ok(mojo_io_record(bench->io, -1, &recording));
	assert_ok(mojo_open(recording, &bench->config, &store));
	for (int i = 0; i < 3; i++)
		assert_ok(mojo_checkpoint(store));
	mojo_abandon(store);

	const void *bytes;
	size_t length, offset = 0;
	struct mojo_io_event event;
	uint64_t file_number = 0, flush = 0;
	unsigned written = 0;
	mojo_io_record_bytes(recording, &bytes, &length);
	while (mojo_io_event_next(bytes, length, &offset, &event) == 0) {
		if (event.kind == MOJO_IO_EVENT_OPEN && event.name_length == strlen(MOJO_STATE_FILE) &&
		    memcmp(event.name, MOJO_STATE_FILE, event.name_length) == 0)
			file_number = event.file;
		if (event.kind == MOJO_IO_EVENT_WRITE && event.file == file_number) {
			on_their_way |= 1u << (event.offset / MOJO_ROOT_SLOT_BYTES);
			written++;
		}
		if (event.kind == MOJO_IO_EVENT_FLUSH && event.file == file_number)
			flush = event.operation;
		if (event.kind == MOJO_IO_EVENT_END && flush && event.operation == flush)
			on_their_way = 0;
		if (on_their_way == 3)
			most = 2;
	}
	mojo_io_free(recording);
	assert_true(written >= 3);
	assert_int_equal(most, 0);
	bench_open(bench);
	bench_assert(bench, MOJO_ACTIVE, file, 0, 100, 1);
}

/* ---- what goes on meanwhile ------------------------------------------------------------------ */

/* Where a checkpoint has the disk do something, this makes changes, in the same thread: it could not if the lock were
 * held. */
static struct {
	const struct mojo_io_ops *ops; /* of the bench's io */
	struct bench *bench;
	struct mojo_store *store;
	uint32_t file;
	uint64_t pages;  /* written to it so far */
	uint64_t synced; /* as many are on stable storage */
	bool inside;
	unsigned flushes, roots, punches, removals; /* during which changes were made */
	unsigned shut;                              /* times that the lock was held, or changes had to wait */
	struct dice dice;
} meanwhile;

static void change_meanwhile(unsigned *ret_count)
{
	struct bench *bench = meanwhile.bench;
	if (meanwhile.inside || (*ret_count > 4 && dice_below(&meanwhile.dice, 16)))
		return;
	if (pthread_mutex_trylock(&meanwhile.store->mu) != 0) {
		meanwhile.shut++;
		return;
	}
	bool quiet = meanwhile.store->quiet, busy = meanwhile.store->log.busy;
	pthread_mutex_unlock(&meanwhile.store->mu);
	if (quiet || !meanwhile.store->taking) {
		meanwhile.shut += quiet;
		return;
	}
	meanwhile.inside = true;
	(*ret_count)++;
	for (int i = 0; i < 3; i++, meanwhile.pages++)
		bench_put(bench, meanwhile.file, meanwhile.pages * BENCH_PAGE, BENCH_PAGE, meanwhile.pages);
	if (!busy) { /* else the checkpoint's own flush would have to end first, and it waits for us */
		struct mojo_io *torn;
		bench_put(bench, bench_lookup(bench, MOJO_ACTIVE, "f"), 0, 1 << 20, meanwhile.pages);
		bench_sync(bench);
		meanwhile.synced = meanwhile.pages;
		bench_put(bench, meanwhile.file, meanwhile.pages * BENCH_PAGE, BENCH_PAGE, meanwhile.pages);
		meanwhile.pages++;
		if (meanwhile.pages % 3 == 0)
			bench_commit(bench, "meanwhile");
		/* The power fails right now. */
		assert_ok(mojo_io_memory_clone_torn(bench->io, dice_next(&meanwhile.dice), &torn));
		struct mojo_store *store;
		struct mojo_attr attr;
		uint8_t page[BENCH_PAGE], wanted[BENCH_PAGE];
		torn->ops = meanwhile.ops;
		assert_ok(mojo_open(torn, &bench->config, &store));
		assert_ok(mojo_resolve(store, MOJO_ACTIVE, "meanwhile", &attr));
		assert_true(attr.size >= meanwhile.synced * BENCH_PAGE);
		for (uint64_t i = 0; i < attr.size / BENCH_PAGE; i++) {
			size_t got;
			assert_ok(mojo_read(store, MOJO_ACTIVE, attr.bucket, i * BENCH_PAGE, page, BENCH_PAGE, &got));
			bench_fill(wanted, BENCH_PAGE, i);
			assert_memory_equal(page, wanted, BENCH_PAGE);
		}
		struct mojo_check_result result;
		assert_ok(mojo_close(store));
		assert_ok(mojo_check(torn, NULL, &result));
		assert_int_equal(result.errors + result.warnings, 0);
		mojo_io_free(torn);
	}
	meanwhile.inside = false;
}

static int flush_meanwhile(struct mojo_io_file *file)
{
	change_meanwhile(file == meanwhile.store->state_file ? &meanwhile.roots : &meanwhile.flushes);
	return meanwhile.ops->flush(file);
}

static int punch_meanwhile(struct mojo_io_file *file, uint64_t offset, uint64_t length)
{
	change_meanwhile(&meanwhile.punches);
	return meanwhile.ops->punch(file, offset, length);
}

static int unlink_meanwhile(struct mojo_io *io, const char *path)
{
	change_meanwhile(&meanwhile.removals);
	return meanwhile.ops->unlink(io, path);
}

static void test_changes_go_on_while_it_flushes_and_gives_back(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	memset(&meanwhile, 0, sizeof(meanwhile));
	meanwhile.ops = bench->io->ops;
	meanwhile.bench = bench;
	meanwhile.file = bench_file(bench, "meanwhile");
	meanwhile.store = bench->store;
	meanwhile.dice = dice_new("meanwhile");
	assert_ok(mojo_io_memory_track(bench->io));
	bench_sync(bench);
	struct mojo_io_ops ops = *bench->io->ops;
	ops.flush = flush_meanwhile;
	ops.punch = punch_meanwhile;
	ops.unlink = unlink_meanwhile;
	for (uint64_t i = 0; i < 12; i++) {
		for (uint64_t k = 0; k < 8; k++) {
			bench_put(bench, file, 0, 1 << 20, i);
			bench_sync(bench);
		}
		bench->io->ops = &ops;
		bench_checkpoint(bench);
		bench->io->ops = meanwhile.ops;
	}
	assert_true(meanwhile.flushes && meanwhile.roots && meanwhile.punches && meanwhile.removals);
	assert_int_equal(meanwhile.shut, 0);
	for (uint64_t i = 0; i < meanwhile.pages; i++)
		bench_assert(bench, MOJO_ACTIVE, meanwhile.file, i * BENCH_PAGE, BENCH_PAGE, i);
	for (int i = 0; i < 3; i++)
		bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
	bench_crash(bench);
	bench_open(bench);
	for (uint64_t i = 0; i < meanwhile.pages; i++)
		bench_assert(bench, MOJO_ACTIVE, meanwhile.file, i * BENCH_PAGE, BENCH_PAGE, i);
}

/* Marking wants an index of which all is on disk: nothing may come in between. */
static void test_changes_wait_for_the_one_before_marking(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	memset(&meanwhile, 0, sizeof(meanwhile));
	meanwhile.ops = bench->io->ops;
	meanwhile.bench = bench;
	meanwhile.store = bench->store;
	bench_put(bench, file, 0, 1 << 20, 1);
	assert_ok(mojo_version_drop(bench->store, bench_commit(bench, "")));
	struct mojo_io_ops ops = *bench->io->ops;
	ops.flush = flush_meanwhile;
	bench->io->ops = &ops;
	pthread_mutex_lock(&bench->store->mu);
	assert_ok(mojo_mark_locked(bench->store));
	pthread_mutex_unlock(&bench->store->mu);
	bench->io->ops = meanwhile.ops;
	assert_int_equal(meanwhile.flushes + meanwhile.roots, 0);
	assert_true(meanwhile.shut > 0);
	assert_false(bench->store->mark_pending);
}

/* What is committed, or comes into the log, between the index and its root is not in the root, and not forgotten. */
static void test_the_log_since_the_root_counts_what_came_meanwhile(void **state)
{
	struct bench *bench = *state;
	bench_file(bench, "f");
	memset(&meanwhile, 0, sizeof(meanwhile));
	meanwhile.ops = bench->io->ops;
	meanwhile.bench = bench;
	meanwhile.file = bench_file(bench, "meanwhile");
	meanwhile.store = bench->store;
	meanwhile.dice = dice_new("meanwhile");
	assert_ok(mojo_io_memory_track(bench->io));
	bench_checkpoint(bench);
	assert_int_equal(bench_info(bench).log_bytes, 0);
	bench_put(bench, meanwhile.file, 0, BENCH_PAGE, 0);
	struct mojo_io_ops ops = *bench->io->ops;
	ops.flush = flush_meanwhile;
	bench->io->ops = &ops;
	meanwhile.pages = 1;
	bench_checkpoint(bench);
	bench->io->ops = meanwhile.ops;
	bench_sync(bench);
	assert_true(meanwhile.roots > 0);
	uint64_t log_bytes = bench_info(bench).log_bytes;
	assert_true(log_bytes > (1 << 20));
	bench_crash(bench);
	bench_open(bench);
	assert_int_equal(bench_info(bench).log_bytes, log_bytes); /* which is what a replay goes through */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_the_cost_follows_what_changed),
		BENCH_TEST(test_a_commit_takes_none),
		BENCH_TEST(test_one_is_taken_when_the_log_or_the_index_has_grown),
		BENCH_TEST(test_closing_gives_space_back),
		BENCH_TEST(test_it_is_refused_where_nothing_may_be_written),
		BENCH_TEST(test_every_block_is_in_use_or_known_dead),
		BENCH_TEST(test_marking_finds_what_dropped_versions_held),
		BENCH_TEST(test_marking_is_made_up_for_after_a_crash),
		BENCH_TEST(test_a_crash_at_any_step_loses_nothing),
		BENCH_TEST(test_a_power_cut_at_any_step_loses_nothing),
		BENCH_TEST(test_blobs_without_a_root_are_dead),
		BENCH_TEST(test_one_larger_than_a_chunk_is_whole),
		BENCH_TEST(test_a_spare_may_be_taken_while_the_index_is_written),
		BENCH_TEST(test_a_spare_that_cannot_be_renamed_stays_one),
		BENCH_TEST(test_dead_blocks_all_over_the_store_on_a_full_disk),
		BENCH_TEST(test_a_removed_chunk_stays_removed_when_the_power_fails),
		BENCH_TEST(test_two_roots_are_never_on_their_way_at_once),
		BENCH_TEST(test_changes_go_on_while_it_flushes_and_gives_back),
		BENCH_TEST(test_changes_wait_for_the_one_before_marking),
		BENCH_TEST(test_the_log_since_the_root_counts_what_came_meanwhile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
