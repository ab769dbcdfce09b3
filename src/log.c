/* SPDX-License-Identifier: MIT */
#include "log.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "checksum.h"

#define GATHER_LEAST_NS 100000 /* what a client takes to come again */
#define GATHER_MOST_NS  1000000
#define VAIN_MOST       6u

int mojo_log_init(struct mojo_log *log, pthread_mutex_t *mu, struct mojo_chunks *chunks,
		  const struct mojo_log_hooks *hooks, const uint8_t *store_id)
{
	memset(log, 0, sizeof(*log));
	log->mu = mu;
	log->chunks = chunks;
	log->hooks = *hooks;
	memcpy(log->store_id, store_id, MOJO_STORE_ID_BYTES);
	log->block_bytes = chunks->block_bytes;
	log->chunk_blocks = chunks->chunk_blocks;
	log->next_chunk = -1;
	log->batch = 1;
	log->gather_least_ns = GATHER_LEAST_NS;
	log->gather_most_ns = GATHER_MOST_NS;
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&log->idle, &attr);
	pthread_condattr_destroy(&attr);
	log->record_capacity = MOJO_LOG_RECORD_BYTES_MAX + MOJO_LOG_OPERATION_BYTES;
	log->records = malloc(log->record_capacity);
	return log->records ? 0 : -ENOMEM;
}

void mojo_log_free(struct mojo_log *log)
{
	for (uint32_t i = 0; i < log->page_count; i++)
		free(log->pages[i]);
	for (uint32_t i = 0; i < log->flight_count; i++)
		free(log->flight[i]);
	free(log->pages);
	free(log->flight);
	free(log->records);
	free(log->inodes);
	pthread_cond_destroy(&log->idle);
	memset(log, 0, sizeof(*log));
}

int mojo_log_fail(struct mojo_log *log, int error, const char *what)
{
	if (!log->failed) {
		log->failed = error;
		log->hooks.failed(log->hooks.arg, error, what);
	}
	return error;
}

/* ---- the open batch ------------------------------------------------------------------------- */

static uint32_t hash_of(uint32_t version, uint32_t bucket, uint64_t page)
{
	uint64_t h = (((uint64_t)bucket << 32 | (uint32_t)page) + version) * 0x9e3779b97f4a7c15ull;
	return (uint32_t)(h >> 40) % MOJO_LOG_HASH;
}

static void note_change(struct mojo_log *log)
{
	if (!log->opened_ns)
		log->opened_ns = log->chunks->io->ops->now_ns(log->chunks->io);
}

/* A version that is not the active one can only be the unpublished one. */
static uint16_t flags_of(const struct mojo_log *log, uint32_t version)
{
	return version == log->version ? 0 : MOJO_RECORD_UNPUBLISHED;
}

void mojo_log_record(struct mojo_log *log, uint32_t version, enum mojo_record_type type, const void *a,
		     uint32_t a_length, const void *b, uint32_t b_length)
{
	uint32_t bytes = MOJO_RECORD_HEADER_BYTES + a_length + b_length;
	assert(bytes <= log->record_capacity - log->record_bytes);
	uint8_t *p = log->records + log->record_bytes;
	mojo_put16(p, type);
	mojo_put16(p + 2, flags_of(log, version));
	mojo_put32(p + 4, a_length + b_length);
	memcpy(p + MOJO_RECORD_HEADER_BYTES, a, a_length);
	if (b_length)
		memcpy(p + MOJO_RECORD_HEADER_BYTES + a_length, b, b_length);
	log->record_bytes += bytes;
	log->record_count++;
	note_change(log);
}

static uint32_t inode_place(const uint64_t *set, uint32_t capacity, uint64_t item)
{
	uint32_t at = ((uint32_t)item + (uint32_t)(item >> 32)) * 0x9e3779b1u & (capacity - 1);
	while (set[at] && set[at] != item)
		at = (at + 1) & (capacity - 1);
	return at;
}

int mojo_log_inode(struct mojo_log *log, uint32_t version, uint32_t bucket)
{
	uint64_t item = (uint64_t)version << 32 | bucket;
	if (log->inode_count * 2 >= log->inode_capacity) {
		uint32_t capacity = log->inode_capacity ? log->inode_capacity * 2 : 64;
		uint64_t *set = calloc(capacity, sizeof(*set));
		if (!set)
			return -ENOMEM;
		for (uint32_t i = 0; i < log->inode_capacity; i++)
			if (log->inodes[i])
				set[inode_place(set, capacity, log->inodes[i])] = log->inodes[i];
		free(log->inodes);
		log->inodes = set;
		log->inode_capacity = capacity;
	}
	uint64_t *at = &log->inodes[inode_place(log->inodes, log->inode_capacity, item)];
	if (!*at) {
		*at = item;
		log->inode_count++;
	}
	note_change(log);
	return 0;
}

uint8_t *mojo_log_find(const struct mojo_log *log, uint32_t version, uint32_t bucket, uint64_t page)
{
	struct mojo_log_page *p = log->hash[hash_of(version, bucket, page)];
	while (p && (p->bucket != bucket || p->page != page || p->version != version))
		p = p->hash_next;
	return p ? p->data : NULL;
}

int mojo_log_add(struct mojo_log *log, uint32_t version, uint32_t bucket, uint32_t page, uint8_t **ret_data)
{
	if (log->page_count == log->page_capacity) {
		uint32_t capacity = log->page_capacity ? log->page_capacity * 2 : 64;
		struct mojo_log_page **grown = realloc(log->pages, capacity * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		log->pages = grown;
		log->page_capacity = capacity;
	}
	struct mojo_log_page *p = malloc(sizeof(*p) + log->block_bytes);
	if (!p)
		return -ENOMEM;
	p->version = version;
	p->bucket = bucket;
	p->page = page;
	p->held = false;
	p->entry = (struct mojo_entry){ 0 };
	struct mojo_log_page **at = &log->hash[hash_of(version, bucket, page)];
	p->hash_next = *at;
	*at = p;
	log->pages[log->page_count++] = p;
	note_change(log);
	*ret_data = p->data;
	return 0;
}

const uint8_t *mojo_log_flight(const struct mojo_log *log, uint64_t address)
{
	if (address < log->flight_address || address - log->flight_address >= log->flight_count)
		return NULL;
	return log->flight[address - log->flight_address]->data;
}

static void unhash(struct mojo_log *log, struct mojo_log_page *p)
{
	struct mojo_log_page **at = &log->hash[hash_of(p->version, p->bucket, p->page)];
	while (*at != p)
		at = &(*at)->hash_next;
	*at = p->hash_next;
}

/* Pages leave: those of @version, and of @bucket unless it is 0, in [first, first + count). */
static void forget(struct mojo_log *log, uint32_t version, uint32_t bucket, uint64_t first, uint64_t count)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < log->page_count; i++) {
		struct mojo_log_page *p = log->pages[i];
		if (p->version == version && (!bucket || p->bucket == bucket) && p->page >= first &&
		    p->page - first < count) {
			unhash(log, p);
			free(p);
		} else {
			log->pages[kept++] = p;
		}
	}
	log->page_count = kept;
}

void mojo_log_forget(struct mojo_log *log, uint32_t version, uint32_t bucket, uint64_t first, uint64_t count)
{
	forget(log, version, bucket, first, count);
}

void mojo_log_forget_version(struct mojo_log *log, uint32_t version)
{
	forget(log, version, 0, 0, UINT64_MAX);
}

uint64_t mojo_log_waiting(const struct mojo_log *log, uint32_t version, uint32_t bucket, uint64_t first)
{
	uint64_t lowest = UINT64_MAX;
	for (uint32_t i = 0; i < log->page_count; i++) {
		const struct mojo_log_page *p = log->pages[i];
		if (p->version == version && p->bucket == bucket && p->page >= first && p->page < lowest)
			lowest = p->page;
	}
	return lowest;
}

bool mojo_log_is_empty(const struct mojo_log *log)
{
	return !log->page_count && !log->record_count && !log->inode_count && !log->unflushed;
}

/* ---- space at the tail ---------------------------------------------------------------------- */

static uint64_t chunk_end(const struct mojo_log *log)
{
	return ((uint64_t)log->chunk + 1) * log->chunk_blocks;
}

/* More blocks than any group has. */
static uint32_t group_blocks_max(const struct mojo_log *log)
{
	return (2u << 20) / log->block_bytes;
}

/* Disk space is taken in steps of an eighth of a chunk, so that a small store stays small. */
static uint32_t step_blocks(const struct mojo_log *log)
{
	uint32_t step = log->chunk_blocks / 8, least = group_blocks_max(log);
	return step > least ? step : least;
}

static int allocate(struct mojo_log *log, uint64_t from, uint64_t to)
{
	int err = mojo_chunks_allocate(log->chunks, from, (uint32_t)(to - from));
	return err == -EOPNOTSUPP ? 0 : err;
}

/* Takes disk space from *allocated on, up to @want at least and @end at most. */
static int allocate_up_to(struct mojo_log *log, uint64_t *allocated, uint64_t want, uint64_t end)
{
	while (*allocated < want && *allocated < end) {
		uint64_t to = *allocated + step_blocks(log);
		if (to > end)
			to = end;
		int err = allocate(log, *allocated, to);
		if (err == -ENOSPC && to > want) { /* what there is may do, or be ours from before a crash */
			to = want;
			err = allocate(log, *allocated, to);
		}
		if (err)
			return err;
		*allocated = to;
	}
	return 0;
}

static int make_next_chunk(struct mojo_log *log)
{
	uint32_t number = log->chunk + 1;
	uint64_t first = (uint64_t)number * log->chunk_blocks;
	if (first + log->chunk_blocks - 1 > MOJO_ADDRESS_MAX)
		return -ENOSPC; /* the store has used up its addresses */
	int64_t spare = log->hooks.spare(log->hooks.arg);
	int err = mojo_chunks_create(log->chunks, number, spare);
	if (err && spare >= 0)
		log->hooks.unused(log->hooks.arg, (uint32_t)spare);
	if (err)
		return err;
	log->next_chunk = number;
	log->next_allocated = first;
	return 0;
}

/* Are @blocks free on the host, beside what is allocated? Asked once for each place of the tail. */
static int look_for_free(struct mojo_log *log, uint64_t blocks)
{
	struct mojo_io *io = log->chunks->io;
	struct mojo_io_space space;
	if (log->free_tail == log->tail && log->free_blocks >= blocks)
		return 0;
	int err = io->ops->space(io, &space);
	if (err)
		return err;
	log->free_tail = log->tail;
	log->free_blocks = space.available / log->block_bytes;
	return log->free_blocks >= blocks ? 0 : -ENOSPC;
}

/*
 * Makes sure that @blocks at the tail have disk space. Where a chunk ends, less than a group is left unused: one does
 * not fit, and comes to lie in the next. So what was secured once is enough for less, later, wherever the tail is then.
 */
int mojo_log_secure(struct mojo_log *log, uint64_t blocks)
{
	uint64_t end = chunk_end(log), unused = group_blocks_max(log), here = end - log->tail;
	int err = allocate_up_to(log, &log->allocated, log->tail + blocks, end);
	if (err || blocks <= here)
		return err;
	blocks -= here < unused ? 0 : here - unused; /* in the next one, and behind it */
	if (log->next_chunk < 0)
		err = make_next_chunk(log);
	if (!err)
		err = allocate_up_to(log, &log->next_allocated, end + blocks, end + log->chunk_blocks);
	if (err || blocks <= log->chunk_blocks)
		return err;
	blocks -= log->chunk_blocks - unused;
	return look_for_free(log, blocks + blocks / (log->chunk_blocks - unused) * unused);
}

/*
 * The first group of this opening does not fit behind the log's end. A group that a crash cut off may lie there
 * still, whole, with the very sequence and epoch that a recovery expects next: it would be taken for the
 * continuation, and what follows in the next chunk for lost. So that place is blanked. (No later roll needs it:
 * nothing that is left over there has this opening's epoch.)
 */
static int blank_tail(struct mojo_log *log)
{
	uint8_t *zeros = calloc(1, log->block_bytes);
	if (!zeros)
		return -ENOMEM;
	struct iovec vector = { zeros, log->block_bytes };
	int err = mojo_chunks_write(log->chunks, log->tail, &vector, 1);
	free(zeros);
	return err;
}

/* The tail moves to the next chunk; what is left of this one is dead. */
static int roll(struct mojo_log *log)
{
	uint64_t end = chunk_end(log);
	bool blank = log->announce && log->tail < end;
	int err = 0;
	if (log->next_chunk < 0)
		err = make_next_chunk(log);
	if (!err && blank)
		err = blank_tail(log);
	if (!err && (log->unflushed || blank))
		err = mojo_chunks_flush(log->chunks, log->chunk);
	if (err)
		return err;
	if (log->tail < end)
		log->hooks.dead(log->hooks.arg, log->tail, end - log->tail);
	log->chunk = (uint32_t)log->next_chunk;
	log->tail = (uint64_t)log->chunk * log->chunk_blocks;
	log->allocated = log->next_allocated;
	log->next_chunk = -1;
	return 0;
}

int mojo_log_reserve(struct mojo_log *log, uint32_t blocks, uint64_t *ret_address)
{
	assert(!log->busy && blocks <= log->chunk_blocks);
	int err = 0;
	if (chunk_end(log) - log->tail < blocks)
		err = roll(log);
	if (!err)
		err = mojo_log_secure(log, blocks);
	if (err)
		return err;
	assert(!log->preparing || log->preparing / log->chunk_blocks != log->chunk ||
	       log->tail + blocks <= log->preparing);
	*ret_address = log->tail;
	log->tail += blocks;
	return 0;
}

/* ---- writing ahead of the tail -------------------------------------------------------------- */

#define SMALL_BYTES   (64u << 10)  /* a group for which the host's bookkeeping is worth saving */
#define AHEAD_BYTES   (1u << 20)   /* prepared, as far as it goes */
#define PREPARE_BYTES (128u << 10) /* at a time: a flush that comes meanwhile has to wait for it */
#define GAP_BYTES     (256u << 10) /* left to the groups that are written meanwhile */

/* Blocks [*ret_from, *ret_to) of the current chunk are to be prepared next; none if both are the same. */
static void scarce_range(const struct mojo_log *log, uint64_t *ret_from, uint64_t *ret_to)
{
	uint64_t step = PREPARE_BYTES / log->block_bytes, gap = GAP_BYTES / log->block_bytes;
	uint64_t ahead = AHEAD_BYTES / log->block_bytes - step;
	uint64_t from = log->prepared > log->tail + gap ? log->prepared : log->tail + gap;
	*ret_from = *ret_to = from;
	if (!log->small || log->cannot_prepare || log->preparing || log->failed || from - log->tail > ahead)
		return;
	*ret_to = from + step < log->allocated ? from + step : log->allocated;
	if (*ret_to < from)
		*ret_to = from;
}

static bool is_scarce(const struct mojo_log *log)
{
	uint64_t from, to;
	scarce_range(log, &from, &to);
	return from < to;
}

void mojo_log_prepare(struct mojo_log *log)
{
	uint64_t from, to;
	scarce_range(log, &from, &to);
	if (from == to)
		return;
	log->preparing = from;
	pthread_mutex_unlock(log->mu);
	int err = mojo_chunks_prepare(log->chunks, from, (uint32_t)(to - from));
	pthread_mutex_lock(log->mu);
	log->preparing = 0;
	/* It is for speed only: what is wrong with the disk, whoever writes there will be told. */
	if (err)
		log->cannot_prepare = true;
	else
		log->prepared = to;
	pthread_cond_broadcast(&log->idle);
}

/* The most that is recorded of one page. */
#define PAGE_RECORD_BYTES (MOJO_RECORD_HEADER_BYTES + MOJO_SHARE_FIXED_BYTES + MOJO_ENTRY_BYTES)
static_assert(PAGE_RECORD_BYTES >= MOJO_RECORD_HEADER_BYTES + MOJO_PAGES_FIXED_BYTES + 4 + 4, "of one that is written");

/* Would the open batch, as a group, reach what is being prepared? */
static bool is_in_the_way(const struct mojo_log *log)
{
	if (!log->preparing)
		return false;
	uint64_t header = MOJO_GROUP_HEADER_BYTES + log->record_bytes + MOJO_RECORD_HEADER_BYTES + 8 +
			  (uint64_t)log->inode_count * (MOJO_RECORD_HEADER_BYTES + 4 + MOJO_INODE_BYTES_MAX) +
			  (uint64_t)log->page_count * PAGE_RECORD_BYTES;
	return log->tail + header / log->block_bytes + 1 + log->page_count > log->preparing;
}

void mojo_log_trim(struct mojo_log *log)
{
	mojo_log_wait(log);
	if (log->allocated > log->tail)
		mojo_chunks_punch(log->chunks, log->tail, (uint32_t)(log->allocated - log->tail));
	log->allocated = log->prepared = log->tail;
	if (log->next_chunk < 0)
		return;
	uint64_t next = (uint64_t)log->next_chunk * log->chunk_blocks;
	if (log->next_allocated > next)
		mojo_chunks_punch(log->chunks, next, (uint32_t)(log->next_allocated - next));
	log->next_allocated = next;
}

/* ---- groups --------------------------------------------------------------------------------- */

static int compare_pages(const void *a, const void *b)
{
	const struct mojo_log_page *x = *(struct mojo_log_page *const *)a, *y = *(struct mojo_log_page *const *)b;
	if (x->version != y->version)
		return x->version < y->version ? -1 : 1;
	if (x->bucket != y->bucket)
		return x->bucket < y->bucket ? -1 : 1;
	return x->page < y->page ? -1 : x->page > y->page;
}

/* How many pages, from the first one of @pages on, one record tells of. */
static uint32_t run_length(struct mojo_log_page **pages, uint32_t count)
{
	const struct mojo_log_page *first = pages[0];
	uint32_t n = 1;
	while (n < count && pages[n]->version == first->version && pages[n]->bucket == first->bucket &&
	       pages[n]->page == first->page + n && pages[n]->held == first->held &&
	       !pages[n]->entry.version == !first->entry.version)
		n++;
	return n;
}

/* The file of page @i, unless it is that of the page before. */
static int find_file(const struct mojo_log *log, uint32_t i, struct mojo_log_file *file)
{
	const struct mojo_log_page *page = log->pages[i];
	if (file->bucket == page->bucket && file->version == page->version)
		return 0;
	int err = log->hooks.file(log->hooks.arg, page->version, page->bucket, file);
	file->version = page->version;
	file->bucket = err ? 0 : page->bucket;
	return err;
}

/* Checksums of all pages, and which of them need not be written. *ret_written: how many are. */
static int look_at_pages(struct mojo_log *log, uint32_t *ret_written)
{
	uint32_t count = log->page_count, written = 0;
	struct mojo_log_file file = { 0 };
	for (uint32_t i = 0; i < count; i++) {
		struct mojo_log_page *p = log->pages[i];
		int err = find_file(log, i, &file);
		if (err)
			return err;
		p->checksum = mojo_checksum_page(p->data, log->block_bytes, file.seed, p->page);
	}
	for (uint32_t i = 0, n; i < count && log->pages[i]->version != log->version; i += n) {
		n = run_length(log->pages + i, count - i);
		log->hooks.hold(log->hooks.arg, log->pages + i, n);
	}
	for (uint32_t i = 0; i < count; i++)
		written += !log->pages[i]->held;
	*ret_written = written;
	return 0;
}

static uint8_t *put_record(uint8_t *p, enum mojo_record_type type, uint16_t flags, uint32_t length)
{
	mojo_put16(p, type);
	mojo_put16(p + 2, flags);
	mojo_put32(p + 4, length);
	return p + MOJO_RECORD_HEADER_BYTES;
}

/* A run of pages that are written; *sums: their checksums, which are seeded with @seed. */
static uint8_t *put_pages(uint8_t *p, struct mojo_log_page **pages, uint32_t count, uint32_t seed, uint32_t *sums)
{
	bool seeded = seed != pages[0]->bucket;
	p = put_record(p, MOJO_RECORD_PAGES, seeded ? MOJO_RECORD_SEEDED : 0,
		       MOJO_PAGES_FIXED_BYTES + (seeded ? 4 : 0) + 4 * count);
	mojo_put32(p, pages[0]->version);
	mojo_put32(p + 4, pages[0]->bucket);
	mojo_put32(p + 8, pages[0]->page);
	mojo_put32(p + 12, count);
	p += MOJO_PAGES_FIXED_BYTES;
	if (seeded) {
		mojo_put32(p, seed);
		p += 4;
	}
	for (uint32_t i = 0; i < count; i++, p += 4) {
		sums[i] = pages[i]->checksum;
		mojo_put32(p, sums[i]);
	}
	return p;
}

/* A run of pages that are not: the record ends with their entries. */
static uint8_t *put_share(uint8_t *p, struct mojo_log_page **pages, uint32_t count, uint16_t flags)
{
	p = put_record(p, MOJO_RECORD_SHARE, flags, MOJO_SHARE_FIXED_BYTES + MOJO_ENTRY_BYTES * count);
	mojo_put32(p, pages[0]->bucket);
	mojo_put32(p + 4, pages[0]->page);
	mojo_put32(p + 8, count);
	p += MOJO_SHARE_FIXED_BYTES;
	for (uint32_t i = 0; i < count; i++, p += MOJO_ENTRY_BYTES)
		mojo_entry_encode(p, &pages[i]->entry);
	return p;
}

/* What is not written leaves the batch. */
static void free_held(struct mojo_log *log)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < log->page_count; i++) {
		if (log->pages[i]->held)
			free(log->pages[i]);
		else
			log->pages[kept++] = log->pages[i];
	}
	log->page_count = kept;
}

/* Turns the open batch into a group in memory: header blocks in *ret_header (owned by the caller), pages in
 * log->flight. The index is told. */
static int seal(struct mojo_log *log, bool end, const struct mojo_log_closing *closing, uint8_t **ret_header,
		struct mojo_group *ret_group)
{
	uint32_t count = log->page_count;
	uint32_t *sums = malloc((count + 1) * sizeof(*sums));
	if (!sums)
		return -ENOMEM;
	if (count)
		qsort(log->pages, count, sizeof(*log->pages), compare_pages);
	struct mojo_log_file file = { 0 };
	uint32_t written = 0;
	uint8_t *header = NULL;
	int err = look_at_pages(log, &written);
	if (err)
		goto fail;

	/* The most the records can take, to find out how many header blocks there are. */
	uint64_t most = MOJO_GROUP_HEADER_BYTES + log->record_bytes + MOJO_RECORD_HEADER_BYTES + 8 +
			(uint64_t)log->inode_count * (MOJO_RECORD_HEADER_BYTES + 4 + MOJO_INODE_BYTES_MAX) +
			(closing ? MOJO_RECORD_HEADER_BYTES + closing->length : 0);
	for (uint32_t i = 0, n; i < count; i += n) {
		n = run_length(log->pages + i, count - i);
		most += MOJO_RECORD_HEADER_BYTES + (log->pages[i]->held ? MOJO_SHARE_FIXED_BYTES + n * MOJO_ENTRY_BYTES
									: MOJO_PAGES_FIXED_BYTES + 4 + n * 4);
	}
	uint32_t header_blocks = (uint32_t)((most + log->block_bytes - 1) / log->block_bytes);
	header = calloc(header_blocks, log->block_bytes);
	uint64_t address;
	err = header ? mojo_log_reserve(log, header_blocks + written, &address) : -ENOMEM;
	if (err)
		goto fail;

	struct mojo_group group = {
		.epoch = log->epoch,
		.sequence = log->sequence,
		.durable_sequence = log->durable_sequence,
		.address = address,
		.header_blocks = header_blocks,
		.data_blocks = written,
		.flags = end ? MOJO_GROUP_BATCH_END : 0,
	};
	uint8_t *p = header + MOJO_GROUP_HEADER_BYTES;
	if (log->announce) {
		p = put_record(p, MOJO_RECORD_EPOCH, 0, 8);
		mojo_put64(p, log->previous_epoch);
		p += 8;
		group.record_count++;
	}
	memcpy(p, log->records, log->record_bytes);
	p += log->record_bytes;
	group.record_count += log->record_count;
	for (uint32_t i = 0; i < log->inode_capacity; i++) {
		if (!log->inodes[i])
			continue;
		uint8_t *payload = p + MOJO_RECORD_HEADER_BYTES;
		uint32_t version = (uint32_t)(log->inodes[i] >> 32), bucket = (uint32_t)log->inodes[i], length;
		err = log->hooks.inode(log->hooks.arg, version, bucket, payload + 4, &length);
		if (err == -ENOENT) {
			err = 0;
			continue;
		}
		if (err)
			goto fail;
		put_record(p, MOJO_RECORD_INODE, flags_of(log, version), 4 + length);
		mojo_put32(payload, bucket);
		p = payload + 4 + length;
		group.record_count++;
	}
	uint64_t place = address + header_blocks;
	for (uint32_t i = 0, n; i < count; i += n) {
		const struct mojo_log_page *first = log->pages[i];
		n = run_length(log->pages + i, count - i);
		if (first->held && !first->entry.version)
			continue;
		err = find_file(log, i, &file);
		if (err)
			goto fail;
		if (first->held) {
			p = put_share(p, log->pages + i, n, flags_of(log, first->version));
			err = log->hooks.share(log->hooks.arg, first->version, first->bucket, &file, first->page, n,
					       p - (size_t)n * MOJO_ENTRY_BYTES);
		} else {
			p = put_pages(p, log->pages + i, n, file.seed, sums);
			err = log->hooks.pages(log->hooks.arg, first->version, first->bucket, &file, first->page, n,
					       place, sums);
			place += n;
		}
		if (err)
			goto fail;
		group.record_count++;
	}
	if (closing) {
		p = put_record(p, closing->type, closing->flags, closing->length);
		memcpy(p, closing->payload, closing->length);
		p += closing->length;
		group.record_count++;
		err = closing->apply(closing->arg);
		if (err)
			goto fail;
	}
	group.record_bytes = (uint32_t)(p - header - MOJO_GROUP_HEADER_BYTES);
	mojo_group_seal(header, log->block_bytes, log->store_id, &group);
	free(sums);

	log->hooks.dead(log->hooks.arg, address, header_blocks);
	log->sequence++;
	log->groups++;
	log->pages_written += written;
	log->bytes_since_root += ((uint64_t)header_blocks + written) * log->block_bytes;
	log->announce = false;
	free_held(log);
	log->flight = log->pages;
	log->flight_count = log->page_count;
	log->flight_address = address + header_blocks;
	log->pages = NULL;
	log->page_count = log->page_capacity = 0;
	memset(log->hash, 0, sizeof(log->hash));
	log->record_bytes = log->record_count = 0;
	if (log->inode_count)
		memset(log->inodes, 0, log->inode_capacity * sizeof(*log->inodes));
	log->inode_count = 0;
	log->opened_ns = 0;
	*ret_header = header;
	*ret_group = group;
	return 0;
fail:
	free(header);
	free(sums);
	return err;
}

static int64_t monotonic_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/* [unlocks] Writes out what the open batch holds; ends and flushes the batch if @end. */
static int emit(struct mojo_log *log, bool end, const struct mojo_log_closing *closing)
{
	assert(!log->busy);
	if (log->failed)
		return log->failed;
	uint8_t *header;
	struct mojo_group group;
	int err = seal(log, end, closing, &header, &group);
	if (err)
		return mojo_log_fail(log, err, "preparing a group for the log");

	size_t bytes = ((size_t)group.header_blocks + group.data_blocks) * log->block_bytes;
	bool through = end && !log->unflushed && bytes <= SMALL_BYTES && !log->cannot_write_through;
	uint64_t batch = log->batch;
	int64_t began = monotonic_ns();
	log->gather_ns = 0;
	log->busy = true;
	log->unflushed = !end;
	if (end)
		log->batch++;
	pthread_mutex_unlock(log->mu);

	struct iovec *vector = malloc((log->flight_count + 1) * sizeof(*vector));
	int count = (int)log->flight_count + 1;
	err = vector ? 0 : -ENOMEM;
	if (vector) {
		vector[0] = (struct iovec){ header, (size_t)group.header_blocks * log->block_bytes };
		for (uint32_t i = 0; i < log->flight_count; i++)
			vector[1 + i] = (struct iovec){ log->flight[i]->data, log->block_bytes };
		if (through) {
			err = mojo_chunks_write_through(log->chunks, group.address, vector, count);
			log->cannot_write_through = err == -EOPNOTSUPP;
			/* Past its cache a host may want room for its accounts, of places that were allocated and never written,
			 * which it keeps ready otherwise. What part of the group is there is written once more. */
			through = err != -EOPNOTSUPP && err != -ENOSPC;
		}
		if (!through)
			err = mojo_chunks_write(log->chunks, group.address, vector, count);
	}
	const char *what = "writing to the log";
	if (!err && end && !through) {
		err = mojo_chunks_flush(log->chunks, (uint32_t)(group.address / log->chunk_blocks));
		what = "flushing the log";
	}
	free(vector);
	free(header);

	pthread_mutex_lock(log->mu);
	log->busy = false;
	if (err) {
		/* The pages stay in flight: what was written is still read as it was, until the store is closed. */
		mojo_log_fail(log, err, what);
	} else {
		for (uint32_t i = 0; i < log->flight_count; i++)
			free(log->flight[i]);
		free(log->flight);
		log->flight = NULL;
		log->flight_count = 0;
		if (end) {
			log->durable_batch = batch;
			log->expected = log->syncing;
			log->flush_ns += (monotonic_ns() - began - log->flush_ns) / 8;
			log->durable_sequence = group.sequence;
			log->flushes++;
			log->small = bytes <= SMALL_BYTES;
			if (is_scarce(log))
				log->hooks.scarce(log->hooks.arg);
		}
	}
	pthread_cond_broadcast(&log->idle);
	return err;
}

int mojo_log_flush(struct mojo_log *log)
{
	uint64_t sequence = log->sequence - 1;
	uint32_t chunk = log->chunk;
	assert(!log->busy);
	log->busy = true;
	log->unflushed = false;
	pthread_mutex_unlock(log->mu);
	int err = mojo_chunks_flush(log->chunks, chunk);
	pthread_mutex_lock(log->mu);
	log->busy = false;
	if (err) {
		mojo_log_fail(log, err, "flushing the log");
	} else {
		log->durable_sequence = sequence;
		log->flushes++;
	}
	pthread_cond_broadcast(&log->idle);
	return err;
}

void mojo_log_wait(struct mojo_log *log)
{
	while (log->busy || log->preparing)
		pthread_cond_wait(&log->idle, log->mu);
}

int mojo_log_room(struct mojo_log *log, uint32_t pages, size_t batch_bytes, uint64_t reserve)
{
	for (;;) {
		if (log->failed)
			return log->failed;
		uint64_t bytes = ((uint64_t)log->page_count + pages) * log->block_bytes;
		bool full = (bytes > batch_bytes && log->page_count) ||
			    log->record_bytes + (uint64_t)log->inode_count * (MOJO_INODE_BYTES_MAX + 16) >
				    MOJO_LOG_RECORD_BYTES_MAX;
		if (!full)
			break;
		if (log->busy || is_in_the_way(log)) {
			pthread_cond_wait(&log->idle, log->mu);
			continue;
		}
		int err = emit(log, false, NULL);
		if (err)
			return err;
	}
	if (log->page_count + pages > log->page_capacity) { /* so that adding only ever lacks a page's memory */
		uint32_t capacity = log->page_count + pages + 64;
		struct mojo_log_page **grown = realloc(log->pages, capacity * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		log->pages = grown;
		log->page_capacity = capacity;
	}
	/* Records and inodes, pages, headers. */
	uint64_t blocks = ((uint64_t)MOJO_LOG_RECORD_BYTES_MAX * 2) / log->block_bytes + log->page_count + pages + 4;
	return mojo_log_secure(log, blocks + reserve);
}

/*
 * Writers that sync again and again would settle into two parties that take turns: while one is flushed the other one
 * waits, and each flush serves half of them. When a flush ends, all of them are here, flushed or waiting. So the next
 * batch waits until as many are here again, as long as a flush takes at most. Whoever makes them complete writes the
 * batch.
 */
static bool is_early(struct mojo_log *log)
{
	if (log->syncing >= log->expected) {
		if (log->gather_ns)
			log->vain = 0;
		return false;
	}
	if (!log->gather_ns && log->resign) {
		log->resign--;
		log->expected = 0; /* for this batch */
		return false;
	}
	int64_t now = monotonic_ns();
	if (!log->gather_ns) {
		int64_t wait = log->flush_ns > log->gather_least_ns ? log->flush_ns : log->gather_least_ns;
		log->gather_ns = now + (wait < log->gather_most_ns ? wait : log->gather_most_ns);
	}
	if (now < log->gather_ns)
		return true;
	log->vain += log->vain < VAIN_MOST;
	log->resign = 1u << log->vain;
	return false;
}

static void wait_for_others(struct mojo_log *log)
{
	struct timespec until = { log->gather_ns / 1000000000, log->gather_ns % 1000000000 };
	pthread_cond_timedwait(&log->idle, log->mu, &until);
}

int mojo_log_sync(struct mojo_log *log)
{
	uint64_t want = mojo_log_is_empty(log) ? log->batch - 1 : log->batch;
	int err = 0;
	log->syncing++;
	while (!err && log->durable_batch < want) {
		if (log->failed)
			err = log->failed;
		else if (log->busy || is_in_the_way(log))
			pthread_cond_wait(&log->idle, log->mu);
		else if (is_early(log))
			wait_for_others(log);
		else
			err = emit(log, true, NULL);
	}
	log->syncing--;
	return err;
}

int mojo_log_close(struct mojo_log *log, bool end, const struct mojo_log_closing *closing)
{
	mojo_log_wait(log);
	int err = emit(log, end, closing);
	/* The batch has begun, whatever comes next: it is not to stay open for longer than any other. */
	if (!err && log->unflushed)
		note_change(log);
	return err;
}
