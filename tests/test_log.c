/* SPDX-License-Identifier: MIT */
/*
 * log.h: what is recorded goes out in order, in groups that a reader finds whole; a batch is durable after one
 * flush, which all who wait for it share; a failure is for good, and a full disk is told before anything changes.
 */
#include "support/support.h"

#include <sched.h>

#include "checksum.h"
#include "log.h"

enum { PAGE = 4096, PER_CHUNK = 1024, PAGES_MAX = 4096 };
#define BATCH_BYTES (1u << 20)

static const uint8_t store_id[MOJO_STORE_ID_BYTES] = "the log under te";

/* ---- a gate before the disk ----------------------------------------------------------------- */

/* Writes and flushes of every io pass here. The operations' table has no room for a context, so this one
 * belongs to the program. */
static struct {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	const struct mojo_io_ops *real;
	struct mojo_io_ops ops;
	bool closed; /* whoever comes to write or flush waits */
	bool held;   /* whoever comes to prepare waits */
	unsigned prepares;
	unsigned waiting; /* at the gate now */
	unsigned writes, flushes, throughs, refused;
	bool no_through; /* the host cannot do that */
} gate = { .mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

static void pass_gate(unsigned *count)
{
	pthread_mutex_lock(&gate.mutex);
	gate.waiting++;
	pthread_cond_broadcast(&gate.cond);
	while (gate.closed)
		pthread_cond_wait(&gate.cond, &gate.mutex);
	gate.waiting--;
	++*count;
	pthread_mutex_unlock(&gate.mutex);
}

static int gated_write(struct mojo_io_file *file, const struct iovec *vector, int count, uint64_t offset)
{
	pass_gate(&gate.writes);
	return gate.real->write(file, vector, count, offset);
}

/* A write and a flush. */
static int gated_write_through(struct mojo_io_file *file, const struct iovec *vector, int count, uint64_t offset)
{
	if (gate.no_through) {
		gate.refused++;
		return -EOPNOTSUPP;
	}
	pass_gate(&gate.writes);
	gate.flushes++;
	gate.throughs++;
	return gate.real->write_through(file, vector, count, offset);
}

static int gated_flush(struct mojo_io_file *file)
{
	pass_gate(&gate.flushes);
	return gate.real->flush(file);
}

static int gated_prepare(struct mojo_io_file *file, uint64_t offset, uint64_t length)
{
	pthread_mutex_lock(&gate.mutex);
	gate.prepares++;
	pthread_cond_broadcast(&gate.cond);
	while (gate.held)
		pthread_cond_wait(&gate.cond, &gate.mutex);
	pthread_mutex_unlock(&gate.mutex);
	return gate.real->prepare(file, offset, length);
}

static void close_gate(void)
{
	pthread_mutex_lock(&gate.mutex);
	gate.closed = true;
	pthread_mutex_unlock(&gate.mutex);
}

static void open_gate(void)
{
	pthread_mutex_lock(&gate.mutex);
	gate.closed = false;
	pthread_cond_broadcast(&gate.cond);
	pthread_mutex_unlock(&gate.mutex);
}

static void wait_for_one_at_the_gate(void)
{
	pthread_mutex_lock(&gate.mutex);
	while (!gate.waiting)
		pthread_cond_wait(&gate.cond, &gate.mutex);
	pthread_mutex_unlock(&gate.mutex);
}

/* ---- a log by itself ------------------------------------------------------------------------ */

/* What the index was told of a page. */
struct told {
	uint32_t version, bucket, checksum;
	uint64_t page, address;
};

struct world {
	struct mojo_io *io;
	struct mojo_chunks chunks;
	pthread_mutex_t mu;
	struct mojo_log log;
	struct tally dead;
	struct told told[PAGES_MAX];
	unsigned told_count;
	int64_t spare;
	int failed; /* as told */
	unsigned failures;
	unsigned scarce;      /* how often it was said that there is something to prepare */
	uint32_t gone_bucket; /* has no inode any more */
	int pages_error;
	uint64_t held, own;    /* pages of which a block is there: bits */
	uint32_t seeded, seed; /* a bucket whose pages have the seed of another */
};

static int on_inode(void *arg, uint32_t version, uint32_t bucket, uint8_t *ret_bytes, uint32_t *ret_length)
{
	struct world *world = arg;
	(void)version;
	if (bucket == world->gone_bucket)
		return -ENOENT;
	struct mojo_inode inode = { .attr = { .mode = S_IFREG | 0644, .size = bucket * 10 } };
	*ret_length = mojo_inode_encode(ret_bytes, &inode);
	return 0;
}

static int on_file(void *arg, uint32_t version, uint32_t bucket, struct mojo_log_file *ret_file)
{
	struct world *world = arg;
	(void)version;
	*ret_file = (struct mojo_log_file){ .seed = bucket == world->seeded ? world->seed : bucket, .shared = bucket };
	return 0;
}

static int on_pages(void *arg, uint32_t version, uint32_t bucket, const struct mojo_log_file *file, uint64_t first,
		    uint32_t count, uint64_t address, const uint32_t *checksums)
{
	struct world *world = arg;
	assert_int_equal(file->shared, bucket);
	for (uint32_t i = 0; i < count && !world->pages_error; i++) {
		assert_true(world->told_count < PAGES_MAX);
		world->told[world->told_count++] =
			(struct told){ version, bucket, checksums[i], first + i, address + i };
	}
	return world->pages_error;
}

/* As on_pages(); which pages an older block holds, the test says: at 500 and so on, or 0 for the page's own place. */
static void on_hold(void *arg, struct mojo_log_page **pages, uint32_t count)
{
	struct world *world = arg;
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(pages[i]->checksum,
				 mojo_checksum_page(pages[i]->data, PAGE, pages[i]->bucket, pages[i]->page));
		assert_int_equal(pages[i]->page, pages[0]->page + i);
		uint64_t bit = 1ull << pages[i]->page % 64;
		pages[i]->held = world->held & bit;
		if (pages[i]->held && !(world->own & bit))
			pages[i]->entry = (struct mojo_entry){ 500 + pages[i]->page, 1, pages[i]->checksum };
	}
}

static int on_share(void *arg, uint32_t version, uint32_t bucket, const struct mojo_log_file *file, uint64_t first,
		    uint32_t count, const uint8_t *entries)
{
	struct world *world = arg;
	assert_int_equal(file->shared, bucket);
	for (uint32_t i = 0; i < count && !world->pages_error; i++) {
		struct mojo_entry entry = mojo_entry_decode(entries + i * MOJO_ENTRY_BYTES);
		world->told[world->told_count++] =
			(struct told){ version, bucket, entry.checksum, first + i, entry.address };
	}
	return world->pages_error;
}

static void on_dead(void *arg, uint64_t address, uint64_t count)
{
	struct world *world = arg;
	tally_add(&world->dead, address, count);
}

static int64_t on_spare(void *arg)
{
	struct world *world = arg;
	int64_t spare = world->spare;
	world->spare = -1;
	return spare;
}

static void on_unused(void *arg, uint32_t chunk)
{
	struct world *world = arg;
	assert_int_equal(world->spare, -1);
	world->spare = chunk;
}

static void on_scarce(void *arg)
{
	struct world *world = arg;
	world->scarce++;
}

static void on_failed(void *arg, int error, const char *what)
{
	struct world *world = arg;
	assert_non_null(what);
	world->failed = error;
	world->failures++;
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	assert_non_null(world);
	assert_ok(mojo_io_memory(&world->io));
	gate.real = world->io->ops;
	gate.ops = *gate.real;
	gate.ops.write = gated_write;
	gate.ops.write_through = gated_write_through;
	gate.ops.flush = gated_flush;
	gate.ops.prepare = gated_prepare;
	gate.closed = gate.held = false;
	gate.prepares = 0;
	gate.waiting = gate.writes = gate.flushes = gate.throughs = gate.refused = 0;
	gate.no_through = false;
	world->io->ops = &gate.ops;
	assert_ok(mojo_io_memory_track(world->io));
	assert_ok(world->io->ops->mkdir(world->io, MOJO_CHUNK_DIR));
	assert_ok(world->io->ops->flush_dir(world->io, ""));
	mojo_chunks_init(&world->chunks, world->io, PAGE, PER_CHUNK, false);
	assert_ok(mojo_chunks_create(&world->chunks, 0, -1));
	pthread_mutex_init(&world->mu, NULL);
	struct mojo_log_hooks hooks = { on_inode, on_file,   on_pages,  on_hold,   on_share, on_dead,
					on_spare, on_unused, on_scarce, on_failed, world };
	assert_ok(mojo_log_init(&world->log, &world->mu, &world->chunks, &hooks, store_id));
	world->spare = -1;
	world->log.sequence = 1;
	world->log.epoch = 77;
	world->log.version = 3;
	pthread_mutex_lock(&world->mu);
	*state = world;
	return 0;
}

static int teardown(void **state)
{
	struct world *world = *state;
	pthread_mutex_unlock(&world->mu);
	mojo_log_free(&world->log);
	mojo_chunks_close(&world->chunks);
	mojo_io_free(world->io);
	pthread_mutex_destroy(&world->mu);
	tally_free(&world->dead);
	free(world);
	return 0;
}

static int room(struct world *world, uint32_t pages)
{
	return mojo_log_room(&world->log, pages, BATCH_BYTES, 0);
}

static void add_page(struct world *world, uint32_t bucket, uint32_t page, uint64_t tag)
{
	uint8_t *data;
	assert_ok(mojo_log_add(&world->log, world->log.version, bucket, page, &data));
	bench_fill(data, PAGE, tag);
}

static void add_record(struct world *world, uint32_t number)
{
	uint8_t payload[4];
	mojo_put32(payload, number);
	mojo_log_record(&world->log, world->log.version, MOJO_RECORD_REMOVE, payload, sizeof(payload), NULL, 0);
}

/* ---- reading what was written --------------------------------------------------------------- */

struct found {
	struct mojo_group group;
	uint8_t *header; /* owned */
	struct mojo_record records[PAGES_MAX];
	unsigned count;
};

/* The group at @address, checked in every way, or NULL. */
static struct found *read_group(struct mojo_io *io, uint64_t address)
{
	struct mojo_chunks chunks;
	struct found *found = calloc(1, sizeof(*found));
	uint8_t first[PAGE];
	size_t got;
	assert_non_null(found);
	mojo_chunks_init(&chunks, io, PAGE, PER_CHUNK, true);
	assert_ok(mojo_chunks_read_some(&chunks, address, first, PAGE, &got));
	if (got < PAGE || mojo_group_peek(first, PAGE, PER_CHUNK, store_id, address, &found->group) != 0) {
		mojo_chunks_close(&chunks);
		free(found);
		return NULL;
	}
	size_t bytes = (size_t)found->group.header_blocks * PAGE;
	found->header = malloc(bytes);
	assert_non_null(found->header);
	assert_ok(mojo_chunks_read(&chunks, address, found->header, bytes));
	assert_ok(mojo_group_verify(found->header, PAGE, &found->group));
	size_t offset = 0;
	uint64_t block = address + found->group.header_blocks;
	struct mojo_record *record = found->records;
	int err;
	while (!(err = mojo_record_next(found->header + MOJO_GROUP_HEADER_BYTES, found->group.record_bytes, &offset,
					record))) {
		struct mojo_record_pages pages;
		if (record->type == MOJO_RECORD_PAGES) {
			assert_ok(mojo_record_pages_decode(record, &pages));
			for (uint32_t i = 0; i < pages.count; i++, block++) {
				uint8_t data[PAGE];
				assert_ok(mojo_chunks_read(&chunks, block, data, PAGE));
				assert_int_equal(mojo_checksum_page(data, PAGE, pages.seed, pages.first + i),
						 mojo_get32(pages.checksums + 4ull * i));
			}
		}
		record++;
		found->count++;
		assert_true(found->count < PAGES_MAX);
	}
	assert_int_equal(err, -ENOENT);
	assert_int_equal(found->count, found->group.record_count);
	assert_int_equal(block, address + found->group.header_blocks + found->group.data_blocks);
	mojo_chunks_close(&chunks);
	return found;
}

static void found_free(struct found *found)
{
	if (found)
		free(found->header);
	free(found);
}

static uint64_t end_of(const struct found *found)
{
	return found->group.address + found->group.header_blocks + found->group.data_blocks;
}

/* ---- order and content ---------------------------------------------------------------------- */

static void test_a_group_is_records_inodes_pages_and_the_closing_record(void **state)
{
	struct world *world = *state;
	struct mojo_record_pages pages;
	assert_ok(room(world, 5));
	add_page(world, 9, 4, 1);
	add_record(world, 100);
	assert_ok(mojo_log_inode(&world->log, world->log.version, 9));
	add_page(world, 7, 1, 2);
	add_record(world, 101);
	add_page(world, 9, 5, 3);
	assert_ok(mojo_log_inode(&world->log, world->log.version, 9)); /* twice is once */
	add_page(world, 9, 7, 4);
	add_page(world, 9, 3, 5);
	mojo_log_record(&world->log, world->log.version, MOJO_RECORD_UNLINK, "abcd", 4, "efghijkl", 8);
	uint64_t opened = (uint64_t)world->log.opened_ns;
	assert_true(opened > 0);
	assert_ok(mojo_log_sync(&world->log));
	assert_int_equal(world->log.opened_ns, 0);

	struct found *found = read_group(world->io, 0);
	assert_non_null(found);
	assert_int_equal(found->group.sequence, 1);
	assert_int_equal(found->group.durable_sequence, 0);
	assert_int_equal(found->group.epoch, 77);
	assert_int_equal(found->group.flags, MOJO_GROUP_BATCH_END);
	assert_int_equal(found->group.data_blocks, 5);
	assert_int_equal(found->count, 3 + 1 + 3);
	assert_int_equal(mojo_get32(found->records[0].payload), 100);
	assert_int_equal(mojo_get32(found->records[1].payload), 101);
	assert_int_equal(found->records[2].type, MOJO_RECORD_UNLINK);
	assert_int_equal(found->records[2].length, 12);
	assert_memory_equal(found->records[2].payload, "abcdefghijkl", 12);
	assert_int_equal(found->records[3].type, MOJO_RECORD_INODE);
	assert_int_equal(mojo_get32(found->records[3].payload), 9);
	assert_int_equal(found->records[3].length, 4 + MOJO_INODE_BYTES);
	/* Pages by bucket and number, neighbours in one record. */
	static const uint32_t wanted[][3] = { { 7, 1, 1 }, { 9, 3, 3 }, { 9, 7, 1 } };
	for (unsigned i = 0; i < 3; i++) {
		assert_ok(mojo_record_pages_decode(&found->records[4 + i], &pages));
		assert_int_equal(pages.version, 3);
		assert_int_equal(pages.bucket, wanted[i][0]);
		assert_int_equal(pages.first, wanted[i][1]);
		assert_int_equal(pages.count, wanted[i][2]);
	}
	/* The index heard the same. */
	static const uint32_t order[][2] = { { 7, 1 }, { 9, 3 }, { 9, 4 }, { 9, 5 }, { 9, 7 } };
	static const uint64_t tags[] = { 2, 5, 1, 3, 4 };
	assert_int_equal(world->told_count, 5);
	for (unsigned i = 0; i < 5; i++) {
		uint8_t data[PAGE], want[PAGE];
		assert_int_equal(world->told[i].bucket, order[i][0]);
		assert_int_equal(world->told[i].page, order[i][1]);
		assert_int_equal(world->told[i].address, found->group.header_blocks + i);
		assert_ok(mojo_chunks_read(&world->chunks, world->told[i].address, data, PAGE));
		bench_fill(want, PAGE, tags[i]);
		assert_memory_equal(data, want, PAGE);
		assert_int_equal(world->told[i].checksum, mojo_checksum_page(data, PAGE, order[i][0], order[i][1]));
	}
	assert_int_equal(world->dead.total, found->group.header_blocks);
	assert_int_equal(world->log.tail, end_of(found));
	assert_int_equal(gate.writes, 1); /* all of it in one call */
	assert_int_equal(gate.flushes, 1);
	found_free(found);
}

struct apply {
	struct world *world;
	unsigned told_count;
	int error;
};

static int apply(void *arg)
{
	struct apply *a = arg;
	a->told_count = a->world->told_count;
	return a->error;
}

static int close_with(struct world *world, const char *payload, uint32_t length, struct apply *a)
{
	struct mojo_log_closing closing = {
		.type = MOJO_RECORD_COMMIT, .payload = payload, .length = length, .apply = apply, .arg = a
	};
	return mojo_log_close(&world->log, true, &closing);
}

static void test_a_closing_record_is_the_last_and_is_applied_behind_the_pages(void **state)
{
	struct world *world = *state;
	struct apply a = { .world = world };
	assert_ok(room(world, 1));
	add_record(world, 1);
	add_page(world, 5, 5, 5);
	assert_ok(close_with(world, "closing payload", 15, &a));
	assert_int_equal(a.told_count, 1);
	struct found *found = read_group(world->io, 0);
	assert_non_null(found);
	assert_int_equal(found->records[found->count - 1].type, MOJO_RECORD_COMMIT);
	assert_memory_equal(found->records[found->count - 1].payload, "closing payload", 15);
	assert_int_equal(found->group.flags, MOJO_GROUP_BATCH_END);
	assert_int_equal(world->log.durable_sequence, 1);
	found_free(found);
	/* Without anything else in the batch, too. */
	assert_ok(close_with(world, "x", 1, &a));
	assert_int_equal(world->log.durable_sequence, 2);
	/* If it cannot be applied nothing is written, and that is for good. */
	uint64_t tail = world->log.tail;
	unsigned writes = gate.writes;
	a.error = -EUCLEAN;
	assert_errno(close_with(world, "x", 1, &a), EUCLEAN);
	assert_int_equal(gate.writes, writes);
	assert_int_equal(world->failed, -EUCLEAN);
	found = read_group(world->io, tail);
	assert_null(found);
}

/* Of the version that is being settled: what a block holds already is not written, and a record says where it is. */
static void test_pages_that_a_block_holds_are_not_written(void **state)
{
	struct world *world = *state;
	struct mojo_record_pages pages;
	struct mojo_record_share share;
	uint32_t active = world->log.version;
	/* Pages 0..7, of which 1, 2 and 4 are elsewhere, and 3 and 7 just where they should be. */
	assert_ok(room(world, 10));
	world->held = 0x9e;
	world->own = 0x88;
	add_page(world, 9, 0, 10); /* of the active version: nobody asks */
	world->log.version = active - 1;
	for (uint32_t i = 0; i < 8; i++)
		add_page(world, 9, i, i);
	world->log.version = active;
	add_page(world, 9, 1, 11);
	assert_ok(mojo_log_sync(&world->log));

	struct found *found = read_group(world->io, 0);
	assert_non_null(found);
	assert_int_equal(found->group.data_blocks, 3 + 2);
	static const uint32_t wanted[][3] = { { 0, 1, 0 }, { 1, 2, 1 }, { 4, 1, 1 }, { 5, 2, 0 }, { 0, 2, 2 } };
	assert_int_equal(found->count, 5);
	for (unsigned i = 0; i < 5; i++) {
		const struct mojo_record *record = &found->records[i];
		if (wanted[i][2] == 1) {
			assert_int_equal(record->type, MOJO_RECORD_SHARE);
			assert_int_equal(record->flags, MOJO_RECORD_UNPUBLISHED);
			assert_ok(mojo_record_share_decode(record, &share));
			assert_int_equal(share.bucket, 9);
			assert_int_equal(share.first, wanted[i][0]);
			assert_int_equal(share.count, wanted[i][1]);
			assert_int_equal(mojo_entry_decode(share.entries).address, 500 + wanted[i][0]);
			assert_int_equal(mojo_entry_decode(share.entries).version, 1);
		} else {
			assert_ok(mojo_record_pages_decode(record, &pages));
			assert_int_equal(pages.version, wanted[i][2] ? active : active - 1);
			assert_int_equal(pages.first, wanted[i][0]);
			assert_int_equal(pages.count, wanted[i][1]);
		}
	}
	/* The index heard of all but those that stay where they are; what was written lies in one row. */
	static const uint32_t told[][2] = { { 0, 0 }, { 1, 501 }, { 2, 502 }, { 4, 504 },
					    { 5, 1 }, { 6, 2 },   { 0, 3 },   { 1, 4 } };
	static const uint64_t tags[] = { 0, 5, 6, 10, 11 };
	assert_int_equal(world->told_count, 8);
	for (unsigned i = 0; i < 8; i++) {
		uint64_t place = told[i][1] >= 500 ? told[i][1] : found->group.header_blocks + told[i][1];
		assert_int_equal(world->told[i].page, told[i][0]);
		assert_int_equal(world->told[i].address, place);
	}
	for (unsigned i = 0; i < 5; i++) {
		uint8_t data[PAGE], want[PAGE];
		assert_ok(mojo_chunks_read(&world->chunks, found->group.header_blocks + i, data, PAGE));
		bench_fill(want, PAGE, tags[i]);
		assert_memory_equal(data, want, PAGE);
	}
	found_free(found);
}

/* A bucket whose pages have another one's seed: the record tells, for recovery has no index to ask. */
static void test_pages_tell_a_seed_that_is_not_their_bucket(void **state)
{
	struct world *world = *state;
	struct mojo_record_pages pages;
	world->seeded = 9;
	world->seed = 3;
	add_page(world, 8, 1, 1);
	add_page(world, 9, 1, 2);
	add_page(world, 9, 2, 3);
	assert_ok(mojo_log_sync(&world->log));
	struct found *found = read_group(world->io, 0);
	assert_non_null(found);
	assert_int_equal(found->records[found->count - 2].flags, 0);
	assert_ok(mojo_record_pages_decode(&found->records[found->count - 1], &pages));
	assert_int_equal(found->records[found->count - 1].flags, MOJO_RECORD_SEEDED);
	assert_int_equal(pages.bucket, 9);
	assert_int_equal(pages.seed, 3);
	assert_int_equal(pages.count, 2);
	for (unsigned i = 0; i < world->told_count; i++)
		assert_int_equal(
			world->told[i].checksum,
			mojo_get32(i ? pages.checksums + 4 * (i - 1) : found->records[found->count - 2].payload + 16));
	found_free(found);
}

static void test_a_page_written_twice_is_one_page(void **state)
{
	struct world *world = *state;
	assert_ok(room(world, 2));
	assert_null(mojo_log_find(&world->log, world->log.version, 5, 1));
	add_page(world, 5, 1, 1);
	uint8_t *data = mojo_log_find(&world->log, world->log.version, 5, 1);
	assert_non_null(data);
	bench_fill(data, PAGE, 2);
	assert_null(mojo_log_find(&world->log, world->log.version, 5, 2));
	assert_null(mojo_log_find(&world->log, world->log.version, 6, 1));
	assert_null(mojo_log_find(&world->log, world->log.version, 5, 1 + (1ull << 32)));
	assert_ok(mojo_log_sync(&world->log));
	assert_int_equal(world->told_count, 1);
	assert_null(mojo_log_find(&world->log, world->log.version, 5, 1));
}

static void test_an_inode_that_is_gone_is_left_out(void **state)
{
	struct world *world = *state;
	assert_ok(room(world, 0));
	world->gone_bucket = 6;
	for (uint32_t bucket = 5; bucket < 8; bucket++)
		assert_ok(mojo_log_inode(&world->log, world->log.version, bucket));
	assert_ok(mojo_log_sync(&world->log));
	struct found *found = read_group(world->io, 0);
	assert_non_null(found);
	assert_int_equal(found->count, 2);
	found_free(found);
}

static void test_thousands_of_inodes_take_several_header_blocks(void **state)
{
	struct world *world = *state;
	bool seen[2001] = { false };
	for (uint32_t bucket = 1; bucket <= 2000; bucket++) {
		assert_ok(room(world, 0));
		assert_ok(mojo_log_inode(&world->log, world->log.version, bucket));
	}
	assert_ok(mojo_log_sync(&world->log));
	struct found *found = read_group(world->io, 0);
	assert_non_null(found);
	assert_true(found->group.header_blocks > 40);
	assert_int_equal(found->count, 2000);
	for (unsigned i = 0; i < 2000; i++)
		seen[mojo_get32(found->records[i].payload)] = true;
	for (unsigned i = 1; i <= 2000; i++)
		assert_true(seen[i]);
	assert_int_equal(world->dead.total, found->group.header_blocks);
	found_free(found);
}

static void test_the_first_group_of_an_opening_names_the_epoch_before(void **state)
{
	struct world *world = *state;
	world->log.announce = true;
	world->log.previous_epoch = 0x1234567890ull;
	for (int i = 0; i < 2; i++) {
		uint64_t at = world->log.tail;
		assert_ok(room(world, 0));
		add_record(world, 1);
		assert_ok(mojo_log_sync(&world->log));
		struct found *found = read_group(world->io, at);
		assert_non_null(found);
		assert_int_equal(found->count, i ? 1 : 2);
		assert_int_equal(found->records[0].type, i ? MOJO_RECORD_REMOVE : MOJO_RECORD_EPOCH);
		if (!i)
			assert_int_equal(mojo_get64(found->records[0].payload), 0x1234567890ull);
		found_free(found);
	}
}

/* ---- batches -------------------------------------------------------------------------------- */

static void test_a_full_batch_goes_out_without_a_flush(void **state)
{
	struct world *world = *state;
	for (uint32_t i = 0; i < 600; i++) { /* 256 pages are a megabyte */
		assert_ok(room(world, 1));
		add_page(world, 5, i * 2, i);
		assert_true(world->log.page_count <= 256);
	}
	assert_int_equal(gate.writes, 2);
	assert_int_equal(gate.flushes, 0);
	assert_int_equal(world->log.durable_sequence, 0);
	assert_false(mojo_log_is_empty(&world->log));
	assert_ok(mojo_log_sync(&world->log));
	assert_int_equal(gate.writes, 3);
	assert_int_equal(gate.flushes, 1);
	assert_int_equal(world->log.durable_sequence, 3);
	assert_int_equal(world->log.flushes, 1);
	assert_int_equal(world->log.groups, 3);
	assert_int_equal(world->log.pages_written, 600);
	assert_int_equal(world->told_count, 600);
	uint64_t at = 0;
	for (unsigned i = 0; i < 3; i++) {
		struct found *found = read_group(world->io, at);
		assert_non_null(found);
		assert_int_equal(found->group.sequence, i + 1);
		assert_int_equal(found->group.durable_sequence, 0);
		assert_int_equal(found->group.flags, i == 2 ? MOJO_GROUP_BATCH_END : 0);
		at = end_of(found);
		found_free(found);
	}
	/* The next one knows what is durable. */
	assert_ok(room(world, 0));
	add_record(world, 1);
	assert_ok(mojo_log_sync(&world->log));
	struct found *found = read_group(world->io, at);
	assert_non_null(found);
	assert_int_equal(found->group.durable_sequence, 3);
	found_free(found);
	assert_int_equal(world->log.bytes_since_root, (at + 1) * PAGE);
}

static void test_a_sync_ends_a_batch_that_is_out_already(void **state)
{
	struct world *world = *state;
	for (uint32_t i = 0; i < 256; i++) {
		assert_ok(room(world, 1));
		add_page(world, 5, i, i);
	}
	assert_ok(room(world, 200)); /* sends it out, and leaves nothing open */
	assert_int_equal(world->log.page_count, 0);
	assert_false(mojo_log_is_empty(&world->log));
	assert_ok(mojo_log_sync(&world->log));
	assert_true(mojo_log_is_empty(&world->log));
	assert_int_equal(world->log.durable_sequence, 2);
	/* Nothing to do: nothing is done. */
	assert_ok(mojo_log_sync(&world->log));
	assert_int_equal(world->log.durable_sequence, 2);
	assert_int_equal(gate.flushes, 1);
}

/* How many groups a loss of power leaves. */
static unsigned durable_groups(struct world *world)
{
	struct mojo_io *left;
	unsigned groups = 0;
	uint64_t address = 0;
	assert_ok(mojo_io_memory_clone_durable(world->io, &left));
	for (struct found *found; (found = read_group(left, address)); groups++) {
		address = end_of(found);
		found_free(found);
	}
	mojo_io_free(left);
	return groups;
}

static void sync_pages(struct world *world, uint32_t count, uint64_t tag)
{
	for (uint32_t i = 0; i < count; i++) {
		assert_ok(room(world, 1));
		add_page(world, 5, i, tag + i);
	}
	assert_ok(mojo_log_sync(&world->log));
}

static void test_a_small_batch_is_written_through(void **state)
{
	struct world *world = *state;
	for (unsigned i = 1; i <= 3; i++) {
		sync_pages(world, i, i);
		assert_int_equal(gate.throughs, i);
		assert_int_equal(durable_groups(world), i);
	}
	sync_pages(world, 200, 7);
	assert_int_equal(gate.throughs, 3); /* a large one is written and flushed */
	assert_int_equal(gate.flushes, 4);
	assert_int_equal(world->log.flushes, 4);
	assert_int_equal(durable_groups(world), 4);
}

/* To write through makes nothing else durable: where more of the batch is out, all of it is flushed. */
static void test_what_is_out_already_is_flushed_with_the_rest(void **state)
{
	struct world *world = *state;
	for (uint32_t i = 0; i < 256; i++) {
		assert_ok(room(world, 1));
		add_page(world, 5, i, i);
	}
	assert_ok(room(world, 200));
	assert_int_equal(gate.writes, 1);
	sync_pages(world, 1, 1000);
	assert_int_equal(gate.throughs, 0);
	assert_int_equal(gate.flushes, 1);
	assert_int_equal(durable_groups(world), 2);
	sync_pages(world, 1, 2000);
	assert_int_equal(gate.throughs, 1);
	assert_int_equal(durable_groups(world), 3);
}

static void test_a_host_that_cannot_write_through_is_asked_once(void **state)
{
	struct world *world = *state;
	gate.no_through = true;
	for (unsigned i = 1; i <= 3; i++) {
		sync_pages(world, 1, i);
		assert_int_equal(gate.flushes, i);
		assert_int_equal(durable_groups(world), i);
	}
	assert_int_equal(gate.refused, 1);
	assert_int_equal(world->failures, 0);
}

/* Where nothing is free a host may not be able to, though the place was allocated. */
static void test_what_finds_no_room_past_the_cache_is_flushed(void **state)
{
	struct world *world = *state;
	sync_pages(world, 1, 1);
	mojo_io_memory_fail(world->io, 0, -ENOSPC, false);
	sync_pages(world, 2, 2);
	assert_int_equal(gate.throughs, 2);
	assert_int_equal(gate.flushes, 3);
	assert_int_equal(durable_groups(world), 2);
	assert_int_equal(world->failures, 0);
	sync_pages(world, 1, 3);
	assert_int_equal(gate.throughs, 3);
	assert_int_equal(durable_groups(world), 3);
}

static void test_records_go_out_before_they_pass_their_limit(void **state)
{
	struct world *world = *state;
	uint8_t payload[1000] = { 0 };
	for (int i = 0; i < 3000; i++) {
		assert_ok(room(world, 0));
		for (int k = 0; k < 8; k++) /* the most that one operation writes */
			mojo_log_record(&world->log, world->log.version, MOJO_RECORD_REMOVE, payload, sizeof(payload),
					NULL, 0);
		assert_true(world->log.record_bytes <= MOJO_LOG_RECORD_BYTES_MAX + MOJO_LOG_OPERATION_BYTES);
	}
	assert_in_range(world->log.groups, 80, 110);
	assert_ok(mojo_log_sync(&world->log));
}

static void test_what_is_forgotten_is_not_written(void **state)
{
	struct world *world = *state;
	struct dice dice = dice_new("log pages");
	static bool present[4][300];
	memset(present, 0, sizeof(present));
	for (int round = 0; round < 3000; round++) {
		uint32_t bucket = dice_below(&dice, 4), page = dice_below(&dice, 300);
		if (dice_below(&dice, 10) == 0) {
			uint64_t count = dice_below(&dice, 5) ? dice_below(&dice, 30) : UINT64_MAX;
			mojo_log_forget(&world->log, world->log.version, bucket + 1, page, count);
			for (uint32_t i = page; i < 300 && i - page < count; i++)
				present[bucket][i] = false;
		} else if (!present[bucket][page]) {
			add_page(world, bucket + 1, page, bucket * 1000 + page);
			present[bucket][page] = true;
		}
		uint64_t next = UINT64_MAX;
		for (uint32_t i = 300; i-- > page;)
			next = present[bucket][i] ? i : next;
		assert_true(mojo_log_waiting(&world->log, world->log.version, bucket + 1, page) == next);
		assert_int_equal(mojo_log_find(&world->log, world->log.version, bucket + 1, page) != NULL,
				 present[bucket][page]);
	}
	unsigned count = 0;
	for (uint32_t b = 0; b < 4; b++) {
		for (uint32_t i = 0; i < 300; i++) {
			uint8_t *data = mojo_log_find(&world->log, world->log.version, b + 1, i), want[PAGE];
			assert_int_equal(data != NULL, present[b][i]);
			bench_fill(want, PAGE, b * 1000 + i);
			if (data)
				assert_memory_equal(data, want, PAGE);
			count += present[b][i];
		}
	}
	assert_int_equal(world->log.page_count, count);
	mojo_log_forget(&world->log, world->log.version, 1, 0, UINT64_MAX);
	mojo_log_forget(&world->log, world->log.version, 2, 0, UINT64_MAX);
	mojo_log_forget(&world->log, world->log.version, 3, 0, UINT64_MAX);
	mojo_log_forget(&world->log, world->log.version, 4, 0, UINT64_MAX);
	assert_int_equal(world->log.page_count, 0);
	assert_true(mojo_log_waiting(&world->log, world->log.version, 1, 0) == UINT64_MAX);
}

/* ---- several at once ------------------------------------------------------------------------ */

struct syncer {
	pthread_t thread;
	struct world *world;
	uint32_t number;
	int result;
	uint64_t durable; /* sequence, on return */
};

static void *sync_one(void *arg)
{
	struct syncer *s = arg;
	pthread_mutex_lock(&s->world->mu);
	s->result = room(s->world, 1);
	add_record(s->world, s->number);
	add_page(s->world, 5, s->number, s->number);
	if (!s->result)
		s->result = mojo_log_sync(&s->world->log);
	s->durable = s->world->log.durable_sequence;
	pthread_mutex_unlock(&s->world->mu);
	return NULL;
}

static void start_syncer(struct syncer *s, struct world *world, uint32_t number)
{
	*s = (struct syncer){ .world = world, .number = number };
	assert_ok(pthread_create(&s->thread, NULL, sync_one, s));
}

/* The lock is taken when @count records wait in the open batch: whoever wrote them waits, too. */
static void lock_when_waiting(struct world *world, uint32_t count)
{
	for (;;) {
		pthread_mutex_lock(&world->mu);
		if (world->log.record_count == count)
			return;
		pthread_mutex_unlock(&world->mu);
		sched_yield();
	}
}

static void test_all_who_wait_share_one_flush(void **state)
{
	enum { COUNT = 12 };
	struct world *world = *state;
	struct syncer first, others[COUNT];
	close_gate();
	pthread_mutex_unlock(&world->mu);
	start_syncer(&first, world, 1);
	wait_for_one_at_the_gate();
	for (uint32_t i = 0; i < COUNT; i++)
		start_syncer(&others[i], world, 100 + i);
	lock_when_waiting(world, COUNT);
	pthread_mutex_unlock(&world->mu);
	open_gate();
	assert_ok(pthread_join(first.thread, NULL));
	assert_ok(first.result);
	for (uint32_t i = 0; i < COUNT; i++) {
		assert_ok(pthread_join(others[i].thread, NULL));
		assert_ok(others[i].result);
		assert_int_equal(others[i].durable, 2);
	}
	pthread_mutex_lock(&world->mu);
	assert_int_equal(world->log.flushes, 2);
	assert_int_equal(gate.flushes, 2);
	assert_int_equal(gate.writes, 2);
	assert_true(mojo_log_is_empty(&world->log));
}

#define FOR_EVER_NS 600000000000ll

/* Two that sync in turns go out together. */
static void test_a_batch_waits_for_who_is_expected(void **state)
{
	struct world *world = *state;
	struct syncer first, second;
	world->log.gather_least_ns = world->log.gather_most_ns = FOR_EVER_NS;
	close_gate();
	pthread_mutex_unlock(&world->mu);
	start_syncer(&first, world, 1);
	wait_for_one_at_the_gate();
	start_syncer(&second, world, 2);
	lock_when_waiting(world, 1);
	pthread_mutex_unlock(&world->mu);
	open_gate();
	assert_ok(pthread_join(first.thread, NULL));
	pthread_mutex_lock(&world->mu);
	assert_int_equal(world->log.expected, 2); /* one was flushed, one waited: the next flush is for two */
	assert_int_equal(world->log.flushes, 1);
	pthread_mutex_unlock(&world->mu);
	start_syncer(&first, world, 3);
	assert_ok(pthread_join(first.thread, NULL));
	assert_ok(pthread_join(second.thread, NULL));
	pthread_mutex_lock(&world->mu);
	assert_ok(first.result);
	assert_ok(second.result);
	assert_int_equal(world->log.flushes, 2);
	assert_int_equal(gate.flushes, 2);
	assert_int_equal(world->log.vain, 0);
}

static void test_who_waited_in_vain_waits_less_often(void **state)
{
	struct world *world = *state;
	uint32_t page = 0;
	for (uint32_t vain = 1; vain <= 3; vain++) {
		world->log.gather_least_ns = world->log.gather_most_ns = 1;
		world->log.expected = 2; /* and nobody comes */
		add_page(world, 1, page++, 1);
		assert_ok(mojo_log_sync(&world->log));
		assert_int_equal(world->log.vain, vain);
		assert_int_equal(world->log.resign, 1u << vain);
		assert_int_equal(world->log.expected, 1);
		world->log.gather_least_ns = world->log.gather_most_ns = FOR_EVER_NS;
		for (uint32_t i = 0; i < 1u << vain; i++) {
			world->log.expected = 2;
			add_page(world, 1, page++, 1);
			assert_ok(mojo_log_sync(&world->log)); /* does not wait */
		}
		assert_int_equal(world->log.resign, 0);
	}
	assert_int_equal(world->log.flushes, page);
}

static void test_a_page_in_flight_is_found_by_its_address(void **state)
{
	struct world *world = *state;
	struct syncer s;
	uint8_t want[PAGE];
	close_gate();
	pthread_mutex_unlock(&world->mu);
	start_syncer(&s, world, 8);
	wait_for_one_at_the_gate();
	pthread_mutex_lock(&world->mu);
	assert_true(world->log.busy);
	assert_int_equal(world->told_count, 1); /* the index points at a block that is not there yet */
	uint64_t address = world->told[0].address;
	const uint8_t *data = mojo_log_flight(&world->log, address);
	assert_non_null(data);
	bench_fill(want, PAGE, 8);
	assert_memory_equal(data, want, PAGE);
	assert_null(mojo_log_flight(&world->log, address - 1));
	assert_null(mojo_log_flight(&world->log, address + 1));
	assert_null(mojo_log_find(&world->log, world->log.version, 5, 8));
	/* The batch that is open now is another one: the page may be written anew. */
	add_page(world, 5, 8, 9);
	bench_fill(want, PAGE, 9);
	assert_memory_equal(mojo_log_find(&world->log, world->log.version, 5, 8), want, PAGE);
	bench_fill(want, PAGE, 8);
	assert_memory_equal(mojo_log_flight(&world->log, address), want, PAGE);
	assert_false(mojo_log_is_empty(&world->log));
	pthread_mutex_unlock(&world->mu);
	open_gate();
	assert_ok(pthread_join(s.thread, NULL));
	pthread_mutex_lock(&world->mu);
	mojo_log_wait(&world->log);
	assert_null(mojo_log_flight(&world->log, address));
	assert_int_equal(world->log.page_count, 1);
	assert_ok(mojo_log_sync(&world->log));
}

static void test_a_sync_waits_for_what_is_in_flight(void **state)
{
	struct world *world = *state;
	struct syncer s;
	close_gate();
	pthread_mutex_unlock(&world->mu);
	start_syncer(&s, world, 8);
	wait_for_one_at_the_gate();
	/* Nothing is open, but what was recorded before is not durable yet. */
	pthread_mutex_lock(&world->mu);
	assert_true(mojo_log_is_empty(&world->log));
	assert_int_equal(world->log.durable_sequence, 0);
	open_gate();
	assert_ok(mojo_log_sync(&world->log)); /* waits, with the lock let go of */
	assert_int_equal(world->log.durable_sequence, 1);
	assert_int_equal(gate.flushes, 1);
	pthread_mutex_unlock(&world->mu);
	assert_ok(pthread_join(s.thread, NULL));
	pthread_mutex_lock(&world->mu);
}

/* ---- chunks --------------------------------------------------------------------------------- */

static void test_the_log_rolls_into_the_next_chunk(void **state)
{
	struct world *world = *state;
	struct dice dice = dice_new("rolling");
	uint64_t at = 0, sequence = 0;
	for (int i = 0; i < 60; i++) {
		uint32_t pages = 1 + dice_below(&dice, 200);
		assert_ok(room(world, pages));
		for (uint32_t k = 0; k < pages; k++)
			add_page(world, 1, k * 2, dice_next(&dice));
		world->told_count = 0;
		if (dice_below(&dice, 2))
			assert_ok(mojo_log_sync(&world->log));
		assert_true(world->log.tail <= world->log.allocated);
	}
	assert_ok(mojo_log_sync(&world->log));
	assert_true(world->log.chunk >= 3);
	/* Group follows group; what is left at the end of a chunk is dead. */
	while (at < world->log.tail) {
		struct found *found = read_group(world->io, at);
		if (!found) {
			assert_int_not_equal(at % PER_CHUNK, 0);
			uint64_t next = (at / PER_CHUNK + 1) * PER_CHUNK;
			for (; at < next; at++)
				assert_int_equal(tally_of(&world->dead, at), 1);
			continue;
		}
		assert_int_equal(found->group.sequence, ++sequence);
		assert_int_equal(at / PER_CHUNK, (end_of(found) - 1) / PER_CHUNK);
		for (uint32_t i = 0; i < found->group.header_blocks; i++)
			assert_int_equal(tally_of(&world->dead, at + i), 1);
		for (uint32_t i = 0; i < found->group.data_blocks; i++)
			assert_int_equal(tally_of(&world->dead, at + found->group.header_blocks + i), 0);
		at = end_of(found);
		found_free(found);
	}
	assert_int_equal(sequence, world->log.sequence - 1);
}

static void test_a_batch_over_two_chunks_is_durable_in_both(void **state)
{
	struct world *world = *state;
	struct mojo_io *left;
	uint64_t seen = 0;
	for (uint32_t i = 0; i < 1300; i++) {
		assert_ok(room(world, 1));
		add_page(world, 1, i * 2, i);
	}
	assert_ok(mojo_log_sync(&world->log));
	assert_int_equal(world->log.chunk, 1);
	assert_ok(mojo_io_memory_clone_durable(world->io, &left));
	left->ops = gate.real;
	for (uint64_t at = 0; at < world->log.tail;) {
		struct found *found = read_group(left, at); /* all pages checked */
		seen += found != NULL;
		at = found ? end_of(found) : (at / PER_CHUNK + 1) * PER_CHUNK;
		found_free(found);
	}
	assert_int_equal(seen, world->log.sequence - 1);
	mojo_io_free(left);
}

static void test_a_spare_chunk_is_used_again(void **state)
{
	struct world *world = *state;
	assert_ok(mojo_chunks_create(&world->chunks, 500, -1));
	world->spare = 500;
	for (uint32_t i = 0; i < 1300; i++) {
		assert_ok(room(world, 1));
		add_page(world, 1, i * 2, i);
	}
	assert_ok(mojo_log_sync(&world->log));
	assert_int_equal(world->spare, -1);
	assert_int_equal(mojo_chunks_exists(&world->chunks, 500), 0);
	assert_int_equal(mojo_chunks_exists(&world->chunks, 1), 1);
}

static int no_rename(struct mojo_io *io, const char *from, const char *to)
{
	(void)io;
	(void)from;
	(void)to;
	return -ENOSPC;
}

static void test_a_spare_chunk_that_cannot_be_renamed_is_there_for_the_next(void **state)
{
	struct world *world = *state;
	assert_ok(mojo_chunks_create(&world->chunks, 500, -1));
	world->spare = 500;
	gate.ops.rename = no_rename;
	for (int i = 0; i < 10; i++)
		assert_errno(mojo_log_secure(&world->log, PER_CHUNK + 1), ENOSPC);
	assert_int_equal(world->spare, 500);
	gate.ops.rename = gate.real->rename;
	assert_ok(mojo_log_secure(&world->log, PER_CHUNK + 1));
	assert_int_equal(world->spare, -1);
	assert_int_equal(mojo_chunks_exists(&world->chunks, 500), 0);
	assert_int_equal(mojo_chunks_exists(&world->chunks, 1), 1);
	assert_int_equal(world->failures, 0);
}

static void test_a_reservation_is_contiguous(void **state)
{
	struct world *world = *state;
	uint64_t address;
	assert_ok(mojo_log_reserve(&world->log, 100, &address));
	assert_int_equal(address, 0);
	assert_ok(mojo_log_reserve(&world->log, 900, &address));
	assert_int_equal(address, 100);
	assert_int_equal(world->dead.total, 0);
	assert_ok(mojo_log_reserve(&world->log, 25, &address)); /* 24 are left */
	assert_int_equal(address, PER_CHUNK);
	assert_int_equal(world->dead.total, 24);
	assert_int_equal(tally_of(&world->dead, 1000), 1);
	assert_ok(mojo_log_reserve(&world->log, PER_CHUNK, &address)); /* a chunk of its own */
	assert_int_equal(address, 2 * PER_CHUNK);
	assert_ok(mojo_log_reserve(&world->log, 1, &address));
	assert_int_equal(address, 3 * PER_CHUNK);
	assert_true(world->log.allocated >= world->log.tail);
}

/* ---- failures ------------------------------------------------------------------------------- */

static void test_a_full_disk_is_told_before_anything_changes(void **state)
{
	struct world *world = *state;
	uint64_t count, disk;
	unsigned accepted = 0;
	int err;
	mojo_io_memory_limit(world->io, 6u << 20);
	while (!(err = room(world, 8))) {
		for (uint32_t i = 0; i < 8; i++)
			add_page(world, 1, accepted++, 1);
		world->told_count = 0;
	}
	assert_int_equal(err, -ENOSPC);
	assert_in_range(accepted, 256, 1536);
	assert_int_equal(world->failures, 0);
	uint32_t pages = world->log.page_count;
	uint64_t tail = world->log.tail, sequence = world->log.sequence;
	for (int i = 0; i < 5; i++)
		assert_errno(room(world, 8), ENOSPC);
	assert_int_equal(world->log.page_count, pages);
	assert_int_equal(world->log.tail, tail);
	assert_int_equal(world->log.sequence, sequence);
	/* What was accepted has its space. */
	assert_ok(mojo_log_sync(&world->log));
	assert_int_equal(world->failures, 0);
	assert_ok(mojo_chunks_usage(&world->chunks, &count, &disk));
	assert_true(disk <= 6u << 20);
	/* And it goes on when there is space again. */
	mojo_io_memory_limit(world->io, 1ull << 40);
	assert_ok(room(world, 8));
	add_page(world, 2, 1, 1);
	assert_ok(mojo_log_sync(&world->log));
}

static void test_space_is_kept_for_a_checkpoint(void **state)
{
	struct world *world = *state;
	mojo_io_memory_limit(world->io, 4u << 20);
	assert_errno(mojo_log_room(&world->log, 1, BATCH_BYTES, 1100), ENOSPC);
	assert_ok(mojo_log_room(&world->log, 1, BATCH_BYTES, 0));
	assert_int_equal(world->failures, 0);
}

/* A whole step of space is not there, but what is needed is. */
static void test_the_last_of_a_disk_is_used(void **state)
{
	struct world *world = *state;
	mojo_io_memory_limit(world->io, 1u << 20);
	assert_ok(room(world, 8));
	add_page(world, 1, 1, 1);
	assert_ok(mojo_log_sync(&world->log));
	assert_int_equal(world->failures, 0);
	assert_errno(mojo_log_room(&world->log, 1, BATCH_BYTES, 256), ENOSPC);
}

static void assert_failed_for_good(struct world *world, int error)
{
	struct apply a = { .world = world };
	unsigned writes = gate.writes, flushes = gate.flushes;
	uint64_t durable = world->log.durable_sequence;
	assert_int_equal(world->failed, error);
	assert_int_equal(world->failures, 1);
	assert_int_equal(room(world, 1), error);
	add_record(world, 5);
	assert_int_equal(mojo_log_sync(&world->log), error);
	assert_int_equal(close_with(world, "x", 1, &a), error);
	assert_int_equal(mojo_log_fail(&world->log, -ENOMEM, "something else"), -ENOMEM);
	assert_int_equal(world->failures, 1); /* the first one counts */
	assert_int_equal(world->log.failed, error);
	assert_int_equal(gate.writes, writes);
	assert_int_equal(gate.flushes, flushes);
	assert_int_equal(world->log.durable_sequence, durable);
}

/* @after operations of the host succeed, the next fails, the later ones would succeed again. */
static void fail_a_sync(struct world *world, uint64_t after)
{
	uint8_t want[PAGE];
	assert_ok(room(world, 1));
	add_page(world, 5, 1, 1);
	assert_ok(mojo_log_sync(&world->log));
	assert_ok(room(world, 1));
	add_page(world, 5, 2, 2);
	mojo_io_memory_fail(world->io, after, -EIO, false);
	assert_errno(mojo_log_sync(&world->log), EIO);
	assert_int_equal(world->log.durable_sequence, 1);
	/* The page is served as it was written, from memory: the block may be anything. */
	const uint8_t *data = mojo_log_flight(&world->log, world->told[1].address);
	assert_non_null(data);
	bench_fill(want, PAGE, 2);
	assert_memory_equal(data, want, PAGE);
	assert_failed_for_good(world, -EIO);
}

static void test_a_failed_write_is_for_good(void **state)
{
	gate.no_through = true;
	fail_a_sync(*state, 0);
}

static void test_a_failed_flush_is_for_good(void **state)
{
	gate.no_through = true;
	fail_a_sync(*state, 1);
}

static void test_a_failed_write_through_is_for_good(void **state)
{
	fail_a_sync(*state, 0);
	assert_int_equal(gate.throughs, 2);
}

static void test_a_failed_chunk_is_for_good(void **state)
{
	struct world *world = *state;
	uint64_t address;
	assert_ok(mojo_log_reserve(&world->log, 1000, &address));
	world->log.next_chunk = -1;
	assert_ok(mojo_log_add(&world->log, world->log.version, 5, 1, &(uint8_t *){ NULL }));
	memset(mojo_log_find(&world->log, world->log.version, 5, 1), 0, PAGE);
	for (uint32_t i = 2; i < 100; i++)
		add_page(world, 5, i, i);
	mojo_io_memory_fail(world->io, 0, -EIO, true);
	assert_errno(mojo_log_sync(&world->log), EIO);
	mojo_io_memory_fail(world->io, 0, 0, false);
	assert_failed_for_good(world, -EIO);
}

static void test_an_index_that_fails_is_for_good(void **state)
{
	struct world *world = *state;
	assert_ok(room(world, 1));
	add_page(world, 5, 1, 1);
	world->pages_error = -EUCLEAN;
	assert_errno(mojo_log_sync(&world->log), EUCLEAN);
	assert_int_equal(gate.writes, 0);
	world->pages_error = 0;
	assert_failed_for_good(world, -EUCLEAN);
}

static void test_who_waits_for_a_flush_that_fails_is_told(void **state)
{
	enum { COUNT = 5 };
	struct world *world = *state;
	struct syncer first, others[COUNT];
	close_gate();
	pthread_mutex_unlock(&world->mu);
	start_syncer(&first, world, 1);
	wait_for_one_at_the_gate();
	for (uint32_t i = 0; i < COUNT; i++)
		start_syncer(&others[i], world, 100 + i);
	lock_when_waiting(world, COUNT);
	pthread_mutex_unlock(&world->mu);
	mojo_io_memory_fail(world->io, 0, -EIO, false); /* what makes the first batch durable */
	open_gate();
	assert_ok(pthread_join(first.thread, NULL));
	assert_errno(first.result, EIO);
	for (uint32_t i = 0; i < COUNT; i++) {
		assert_ok(pthread_join(others[i].thread, NULL));
		assert_errno(others[i].result, EIO);
	}
	pthread_mutex_lock(&world->mu);
	assert_int_equal(world->failures, 1);
	assert_int_equal(world->log.durable_sequence, 0);
}

/* ---- writing ahead -------------------------------------------------------------------------- */

static void *prepare_some(void *arg)
{
	struct world *world = arg;
	pthread_mutex_lock(&world->mu);
	mojo_log_prepare(&world->log);
	pthread_mutex_unlock(&world->mu);
	return NULL;
}

static void sync_small(struct world *world, uint32_t number)
{
	assert_ok(room(world, 1));
	add_page(world, 5, number, number);
	assert_ok(mojo_log_sync(&world->log));
}

static void test_what_is_prepared_lies_ahead_and_is_then_written_over(void **state)
{
	struct world *world = *state;
	mojo_log_prepare(&world->log); /* nobody has flushed anything small yet: nothing is done */
	assert_int_equal(gate.prepares, 0);
	uint32_t number = 0;
	/* Through all of the first chunk, and into the second. */
	while (world->log.chunk == 0) {
		unsigned said = world->scarce, before = gate.prepares;
		sync_small(world, ++number);
		mojo_log_prepare(&world->log);
		assert_true(gate.prepares - before <= 1);
		/* Only where it was asked for, and then it was done. */
		assert_int_equal(gate.prepares - before, world->scarce - said);
		assert_true(world->log.chunk || world->log.prepared > world->log.tail + 1 ||
			    world->log.prepared == PER_CHUNK);
	}
	assert_true(gate.prepares >= 4);
	uint64_t address = 0;
	uint32_t groups = 0;
	for (struct found *found; address < PER_CHUNK && (found = read_group(world->io, address)); groups++) {
		address = end_of(found);
		found_free(found);
	}
	assert_int_equal(groups, PER_CHUNK / 2);
	assert_int_equal(number, groups + 1);
}

static void test_a_group_waits_for_what_is_being_prepared(void **state)
{
	struct world *world = *state;
	struct syncer s;
	pthread_t thread;
	sync_small(world, 1);
	assert_int_equal(world->scarce, 1);
	gate.held = true;
	pthread_mutex_unlock(&world->mu);
	assert_ok(pthread_create(&thread, NULL, prepare_some, world));
	pthread_mutex_lock(&gate.mutex);
	while (!gate.prepares)
		pthread_cond_wait(&gate.cond, &gate.mutex);
	pthread_mutex_unlock(&gate.mutex);
	pthread_mutex_lock(&world->mu);
	/* There is room before it. */
	uint64_t from = world->log.preparing;
	assert_true(from > 20);
	uint32_t number = 1;
	while (world->log.tail + 2 <= from) /* a group takes two blocks */
		sync_small(world, ++number);
	assert_int_equal(gate.prepares, 1);
	uint64_t tail = world->log.tail;
	pthread_mutex_unlock(&world->mu);
	start_syncer(&s, world, ++number);
	lock_when_waiting(world, 1);
	/* The group was not begun. */
	assert_false(world->log.busy);
	assert_int_equal(world->log.tail, tail);
	assert_true(world->log.preparing == from);
	pthread_mutex_unlock(&world->mu);
	pthread_mutex_lock(&gate.mutex);
	gate.held = false;
	pthread_cond_broadcast(&gate.cond);
	pthread_mutex_unlock(&gate.mutex);
	assert_ok(pthread_join(thread, NULL));
	assert_ok(pthread_join(s.thread, NULL));
	assert_ok(s.result);
	pthread_mutex_lock(&world->mu);
	while (world->log.tail < from + 10)
		sync_small(world, ++number);
	uint64_t address = 0;
	for (uint32_t i = 0; i < number; i++) {
		struct found *found = read_group(world->io, address);
		assert_non_null(found);
		address = end_of(found);
		found_free(found);
	}
	assert_int_equal(address, world->log.tail);
}

static void test_what_cannot_be_prepared_is_not_tried_again(void **state)
{
	struct world *world = *state;
	sync_small(world, 1);
	mojo_io_memory_fail(world->io, 0, -EIO, false);
	mojo_log_prepare(&world->log);
	assert_int_equal(gate.prepares, 1);
	assert_int_equal(world->failures, 0);
	for (uint32_t i = 2; i < 400; i++) {
		sync_small(world, i);
		mojo_log_prepare(&world->log);
	}
	assert_int_equal(gate.prepares, 1);
}

#define WITH_LOG(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_LOG(test_a_group_is_records_inodes_pages_and_the_closing_record),
		WITH_LOG(test_a_closing_record_is_the_last_and_is_applied_behind_the_pages),
		WITH_LOG(test_pages_that_a_block_holds_are_not_written),
		WITH_LOG(test_pages_tell_a_seed_that_is_not_their_bucket),
		WITH_LOG(test_a_page_written_twice_is_one_page),
		WITH_LOG(test_an_inode_that_is_gone_is_left_out),
		WITH_LOG(test_thousands_of_inodes_take_several_header_blocks),
		WITH_LOG(test_the_first_group_of_an_opening_names_the_epoch_before),
		WITH_LOG(test_a_full_batch_goes_out_without_a_flush),
		WITH_LOG(test_a_sync_ends_a_batch_that_is_out_already),
		WITH_LOG(test_records_go_out_before_they_pass_their_limit),
		WITH_LOG(test_what_is_forgotten_is_not_written),
		WITH_LOG(test_all_who_wait_share_one_flush),
		WITH_LOG(test_a_batch_waits_for_who_is_expected),
		WITH_LOG(test_who_waited_in_vain_waits_less_often),
		WITH_LOG(test_a_page_in_flight_is_found_by_its_address),
		WITH_LOG(test_a_sync_waits_for_what_is_in_flight),
		WITH_LOG(test_the_log_rolls_into_the_next_chunk),
		WITH_LOG(test_a_batch_over_two_chunks_is_durable_in_both),
		WITH_LOG(test_a_spare_chunk_is_used_again),
		WITH_LOG(test_a_spare_chunk_that_cannot_be_renamed_is_there_for_the_next),
		WITH_LOG(test_a_reservation_is_contiguous),
		WITH_LOG(test_a_full_disk_is_told_before_anything_changes),
		WITH_LOG(test_the_last_of_a_disk_is_used),
		WITH_LOG(test_space_is_kept_for_a_checkpoint),
		WITH_LOG(test_a_failed_write_is_for_good),
		WITH_LOG(test_a_failed_flush_is_for_good),
		WITH_LOG(test_a_failed_write_through_is_for_good),
		WITH_LOG(test_a_small_batch_is_written_through),
		WITH_LOG(test_what_is_out_already_is_flushed_with_the_rest),
		WITH_LOG(test_a_host_that_cannot_write_through_is_asked_once),
		WITH_LOG(test_what_finds_no_room_past_the_cache_is_flushed),
		WITH_LOG(test_a_failed_chunk_is_for_good),
		WITH_LOG(test_an_index_that_fails_is_for_good),
		WITH_LOG(test_who_waits_for_a_flush_that_fails_is_told),
		WITH_LOG(test_what_is_prepared_lies_ahead_and_is_then_written_over),
		WITH_LOG(test_a_group_waits_for_what_is_being_prepared),
		WITH_LOG(test_what_cannot_be_prepared_is_not_tried_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
