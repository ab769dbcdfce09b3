/* SPDX-License-Identifier: MIT */
#include "checkpoint.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "version.h"

/* ---- groups of blobs ------------------------------------------------------------------------ */

#define GROUP_BYTES (1u << 20) /* of blobs in one group; more than the largest blob */

/* Of what is kept for a checkpoint these are for all those that follow before anything is given back: what is dead now
 * comes back with the second, or, if its groups were not settled, the third. Each takes some nodes and a header. */
#define CHECKPOINT_BLOCKS 64

static_assert(GROUP_BYTES > MOJO_PPS_MAX * MOJO_ENTRY_BYTES, "a group holds the largest slot");

struct placer {
	struct mojo_store *store;
	uint64_t generation;
	uint8_t *buf;        /* one header block, then blobs */
	uint32_t blocks_max; /* of blobs in any group */
	uint32_t room;       /* blocks of blobs reserved for this one */
	uint32_t used;       /* blocks of blobs */
	uint64_t address;    /* of the header block, once the group has begun */
	bool begun;
	uint64_t groups;
};

/* Writes the group that was begun. */
static int finish_group(struct placer *p, bool end)
{
	struct mojo_log *log = &p->store->log;
	uint32_t block = log->block_bytes;
	struct mojo_group group = {
		.epoch = log->epoch,
		.sequence = log->sequence,
		.durable_sequence = log->durable_sequence,
		.address = p->address,
		.header_blocks = 1,
		.data_blocks = p->used,
		.flags = end ? MOJO_GROUP_BATCH_END : 0,
	};
	uint8_t *at = p->buf + MOJO_GROUP_HEADER_BYTES;
	memset(p->buf, 0, block);
	if (log->announce) {
		mojo_put16(at, MOJO_RECORD_EPOCH);
		mojo_put32(at + 4, 8);
		mojo_put64(at + MOJO_RECORD_HEADER_BYTES, log->previous_epoch);
		at += MOJO_RECORD_HEADER_BYTES + 8;
		group.record_count++;
	}
	mojo_put16(at, MOJO_RECORD_BLOBS);
	mojo_put32(at + 4, 12);
	mojo_put64(at + MOJO_RECORD_HEADER_BYTES, p->generation);
	mojo_put32(at + MOJO_RECORD_HEADER_BYTES + 8, p->used);
	at += MOJO_RECORD_HEADER_BYTES + 12;
	group.record_count++;
	group.record_bytes = (uint32_t)(at - p->buf - MOJO_GROUP_HEADER_BYTES);
	mojo_group_seal(p->buf, block, log->store_id, &group);

	struct iovec vector = { p->buf, ((size_t)p->used + 1) * block };
	int err = mojo_chunks_write(log->chunks, p->address, &vector, 1);
	if (err)
		return err;
	log->tail = p->address + 1 + p->used; /* the rest of the reservation goes back */
	log->announce = false;
	log->unflushed = true;
	log->sequence++;
	log->groups++;
	log->hooks.dead(log->hooks.arg, p->address, 1);
	p->begun = false;
	p->used = 0;
	p->groups++;
	return 0;
}

/* The dirty blobs, the one to be placed first among them, say how much is still to come at most. */
static int begin_group(struct placer *p)
{
	uint64_t left = p->store->blobs.dirty_blocks;
	p->room = left < p->blocks_max ? (uint32_t)left : p->blocks_max;
	int err = mojo_log_reserve(&p->store->log, 1 + p->room, &p->address);
	p->begun = !err;
	return err;
}

static int place(void *arg, const uint8_t *data, uint32_t bytes, uint64_t *ret_address)
{
	struct placer *p = arg;
	uint32_t block = p->store->log.block_bytes, blocks = mojo_blob_blocks(bytes, block);
	int err = 0;
	if (p->begun && p->used + blocks > p->room)
		err = finish_group(p, false);
	if (!err && !p->begun)
		err = begin_group(p);
	if (err)
		return err;
	uint8_t *to = p->buf + ((size_t)p->used + 1) * block;
	memcpy(to, data, bytes);
	memset(to + bytes, 0, (size_t)blocks * block - bytes);
	*ret_address = p->address + 1 + p->used;
	p->used += blocks;
	return 0;
}

/* Nothing is flushed yet. *ret_groups: how many were written. */
static int write_trees(struct mojo_store *store, uint64_t generation, uint64_t *ret_groups)
{
	struct mojo_log *log = &store->log;
	struct placer p = {
		.store = store,
		.generation = generation,
		.blocks_max = GROUP_BYTES / log->block_bytes,
	};
	p.buf = malloc(((size_t)p.blocks_max + 1) * log->block_bytes);
	if (!p.buf)
		return -ENOMEM;
	int err = mojo_blob_write_out(&store->blobs, store->main.root, place, &p);
	if (!err)
		err = mojo_blob_write_out(&store->blobs, store->versions.root, place, &p);
	if (!err)
		err = mojo_blob_write_out(&store->blobs, store->dead.root, place, &p);
	if (!err && p.begun)
		err = finish_group(&p, true);
	free(p.buf);
	*ret_groups = p.groups;
	return err;
}

/* ---- the root ------------------------------------------------------------------------------- */

int mojo_root_write(struct mojo_store *store, const struct mojo_root *root, unsigned slot)
{
	uint8_t bytes[MOJO_ROOT_SLOT_BYTES];
	struct iovec vector = { bytes, sizeof(bytes) };
	mojo_root_encode(bytes, root);
	int err = store->io->ops->write(store->state_file, &vector, 1, (uint64_t)slot * MOJO_ROOT_SLOT_BYTES);
	return err ? err : store->io->ops->flush(store->state_file);
}

/* Step 1, with the lock: the log is empty and ends at *ret_root's position; what the root will tell of is as it is
 * now, on its way to the disk, and is not changed again: whoever changes it makes a copy. */
static int write_index(struct mojo_store *store, struct mojo_root *ret_root, uint64_t *ret_groups)
{
	struct mojo_log *log = &store->log;
	struct mojo_root root = store->root;
	root.generation++;
	root.log_address = log->tail;
	root.log_sequence = log->sequence;
	root.epoch = log->announce ? log->previous_epoch : log->epoch;
	int err = write_trees(store, root.generation, ret_groups);
	if (!err)
		err = mojo_find_held(store); /* where the trees of settled versions are now */
	if (err)
		return err;
	root.durable_sequence = log->sequence - 1; /* once it is written */
	root.flags = store->mark_pending ? MOJO_ROOT_MARK_PENDING : 0;
	root.active_version = store->active;
	root.next_bucket = store->next_bucket;
	memcpy(root.main_ref, store->main.root, MOJO_REF_BYTES);
	memcpy(root.versions_ref, store->versions.root, MOJO_REF_BYTES);
	memcpy(root.space_ref, store->dead.root, MOJO_REF_BYTES);
	root.written_ns = mojo_now(store);
	root.files = store->files;
	root.directories = store->directories;
	root.frozen_versions = store->frozen;
	*ret_root = root;
	return 0;
}

/* [unlocks] Step 2: the index is on stable storage, and then the root that leads to it. */
static int turn_root(struct mojo_store *store, const struct mojo_root *root, uint64_t groups)
{
	int err = groups ? mojo_log_flush(&store->log) : 0;
	if (err)
		return err;
	pthread_mutex_unlock(&store->mu);
	/* The space tree forgets chunks that were removed: a file that came back would be in no account. */
	err = mojo_chunks_settle_names(&store->chunks);
	/* A process that ended in the middle of a checkpoint may have left the newest root in the host's memory
	 * only, or its flush may have failed. Two roots on their way to the disk at once could both be lost. */
	if (!err && !store->root_secured)
		err = mojo_root_write(store, &store->root, store->root_slot);
	store->root_secured = !err;
	if (!err)
		err = mojo_root_write(store, root, store->root_slot ^ 1);
	pthread_mutex_lock(&store->mu);
	if (!err)
		err = store->log.failed;
	if (err)
		return err;
	store->root = *root;
	store->root_slot ^= 1;
	return 0;
}

/* [unlocks] Step 3. */
static int give_back(struct mojo_store *store)
{
	int err = mojo_space_reclaim_begin(&store->space);
	if (err)
		return err;
	pthread_mutex_unlock(&store->mu);
	mojo_space_reclaim_punch(&store->space);
	pthread_mutex_lock(&store->mu);
	return mojo_space_reclaim_end(&store->space);
}

uint64_t mojo_checkpoint_blocks(const struct mojo_store *store)
{
	uint64_t dirty = store->blobs.dirty_blocks;
	return dirty + dirty / 4 + store->space.fresh.count + CHECKPOINT_BLOCKS;
}

/* What the index takes that is dirty now, at most: a group that is not the last has 16 blocks of blobs and more. */
static uint64_t index_blocks(const struct mojo_store *store)
{
	uint64_t dirty = store->blobs.dirty_blocks;
	static_assert(GROUP_BYTES / MOJO_PAGE_SIZE_MAX >= 16, "in a group");
	return dirty + dirty / 16 + 1;
}

bool mojo_checkpoint_due(const struct mojo_store *store, unsigned factor)
{
	return store->log.bytes_since_root >= store->config.checkpoint_bytes * factor ||
	       store->blobs.dirty_bytes >= store->config.cache_bytes / 2 * factor;
}

static void calm_down(struct mojo_store *store)
{
	store->quiet = false;
	pthread_cond_broadcast(&store->calm);
}

/* [unlocks] @hold: no change comes in until the caller lets go of the lock. */
static int take(struct mojo_store *store, bool hold)
{
	struct mojo_log *log = &store->log;
	if (store->config.read_only)
		return -EROFS;
	mojo_checkpoint_wait(store);
	store->taking = store->quiet = true;
	int err;
	do {
		err = mojo_log_sync(log);
		mojo_log_wait(log);
	} while (!err && !mojo_log_is_empty(log));
	if (!err)
		err = log->failed;
	if (!err) {
		err = mojo_space_settle(&store->space);
		if (err)
			mojo_poison(store, err, "noting dead space for a checkpoint");
	}
	/* Now it is known how much will be written. In the middle there is no way back. */
	if (!err) {
		err = mojo_log_secure(log, index_blocks(store));
		if (err && err != -ENOSPC)
			mojo_poison(store, err, "making room for a checkpoint");
	}
	if (!err) {
		struct mojo_root root;
		uint64_t bytes = log->bytes_since_root, groups = 0;
		err = write_index(store, &root, &groups);
		if (!hold)
			calm_down(store);
		if (!err)
			err = turn_root(store, &root, groups);
		if (!err) {
			log->bytes_since_root -= bytes;
			store->checkpoints++;
			store->checkpoint_ns = mojo_now(store);
			pthread_cond_broadcast(&store->calm); /* who thought the log too long may go on */
			err = give_back(store);
		}
		if (err)
			mojo_poison(store, err, "taking a checkpoint");
	}
	store->taking = false;
	calm_down(store);
	return err;
}

void mojo_checkpoint_wait(struct mojo_store *store)
{
	while (store->taking)
		pthread_cond_wait(&store->calm, &store->mu);
}

int mojo_checkpoint_locked(struct mojo_store *store)
{
	return take(store, false);
}

int mojo_checkpoint(struct mojo_store *store)
{
	pthread_mutex_lock(&store->mu);
	int err = 0;
	if (store->mark_pending && !store->mark_failed && !store->config.read_only)
		err = mojo_mark_locked(store);
	if (!err)
		err = mojo_checkpoint_locked(store);
	pthread_mutex_unlock(&store->mu);
	return err;
}

/* ---- marking -------------------------------------------------------------------------------- */

struct mark {
	struct mojo_store *store;
	struct mojo_block_set live;
	struct mojo_block_set whole; /* slot blobs of which every page is marked */
	int err;
};

static int mark_entry(struct mark *m, const uint8_t *raw)
{
	struct mojo_entry entry = mojo_entry_decode(raw);
	if (!entry.version || !entry.address)
		return 0;
	return mojo_block_set_add(&m->live, m->store->space.group_blocks, entry.address, 1);
}

/* The pages of a slot as one version has them. What its deltas replace in a blob it shares may be dead. */
static int mark_slot(struct mark *m, const uint8_t *value, unsigned length)
{
	struct mojo_blobs *blobs = &m->store->blobs;
	uint32_t group_blocks = m->store->space.group_blocks;
	const uint8_t *delta = value + MOJO_SLOT_VALUE_FIXED_BYTES, *end = value + length;
	struct mojo_ref ref = mojo_ref_decode(value);
	struct mojo_blob *base = NULL;
	int err = 0;
	if (delta > end || (end - delta) % MOJO_DELTA_BYTES)
		return -EUCLEAN;
	bool alone = delta == end, on_disk = ref.bytes && !mojo_ref_in_memory(value);
	if (on_disk && alone && mojo_block_set_has(&m->whole, group_blocks, ref.address))
		return 0;
	if (!mojo_ref_is_null(value))
		err = mojo_blob_get(blobs, value, MOJO_BLOB_SLOT, &base);
	if (!err && on_disk)
		err = mojo_block_set_add(&m->live, group_blocks, ref.address,
					 mojo_blob_blocks(ref.bytes, blobs->chunks->block_bytes));
	if (!err && on_disk && alone)
		err = mojo_block_set_add(&m->whole, group_blocks, ref.address, 1);
	for (uint32_t i = 0; base && i < base->data_bytes / MOJO_ENTRY_BYTES && !err; i++) {
		if (delta < end && mojo_get16(delta) == i)
			delta += MOJO_DELTA_BYTES;
		else
			err = mark_entry(m, base->data + (size_t)i * MOJO_ENTRY_BYTES);
	}
	for (delta = value + MOJO_SLOT_VALUE_FIXED_BYTES; delta < end && !err; delta += MOJO_DELTA_BYTES)
		err = mark_entry(m, delta + 2);
	mojo_blob_put(blobs, base);
	return err;
}

static int mark_node(struct mark *m, const uint8_t *ref)
{
	struct mojo_blobs *blobs = &m->store->blobs;
	uint32_t group_blocks = m->store->space.group_blocks;
	bool on_disk = !mojo_ref_in_memory(ref); /* reclaiming has touched the space tree again */
	struct mojo_ref r = on_disk ? mojo_ref_decode(ref) : (struct mojo_ref){ 0 };
	if (on_disk && mojo_block_set_has(&m->live, group_blocks, r.address))
		return 0; /* shared, and seen already */
	struct mojo_blob *blob;
	int err = mojo_blob_get(blobs, ref, MOJO_BLOB_NODE, &blob);
	if (err)
		return err;
	if (on_disk)
		err = mojo_block_set_add(&m->live, group_blocks, r.address,
					 mojo_blob_blocks(r.bytes, blobs->chunks->block_bytes));
	unsigned count = mojo_node_count(blob->data), kind = mojo_node_kind(blob->data);
	bool inner = mojo_node_level(blob->data) > 0;
	for (unsigned i = 0; i < count && !err; i++) {
		unsigned key_length, length;
		const uint8_t *key = mojo_node_key(blob->data, i, &key_length);
		uint8_t *value = mojo_node_value(blob->data, i, &length);
		if (!inner && mojo_leaf_ref_offset(kind, key, key_length) < 0)
			continue;
		if (!inner && kind == MOJO_TREE_MAIN)
			err = mark_slot(m, value, length);
		else if (!mojo_ref_is_null(value))
			err = mark_node(m, value);
	}
	mojo_blob_put(blobs, blob);
	return err;
}

/* Everything in one chunk that is neither live nor known dead dies. */
static int mark_chunk(void *arg, const char *name)
{
	struct mark *m = arg;
	struct mojo_store *store = m->store;
	int64_t number = mojo_chunk_number(name);
	if (number < 0 || (uint64_t)number > store->log.chunk)
		return 0;
	for (unsigned i = 0; i < store->space.spare_count; i++)
		if (store->space.spares[i] == number)
			return 0;
	uint64_t from = (uint64_t)number * store->root.chunk_blocks, to = from + store->root.chunk_blocks;
	if (to > store->log.tail)
		to = store->log.tail;
	for (uint64_t address = from; address < to; address++) {
		bool dead;
		if (mojo_block_set_has(&m->live, store->space.group_blocks, address))
			continue;
		int err = mojo_space_is_dead(&store->space, address, &dead);
		if (err)
			return err;
		if (!dead)
			mojo_space_kill(&store->space, address, 1);
	}
	return 0;
}

int mojo_mark_locked(struct mojo_store *store)
{
	int err = take(store, true); /* no dirty blob is left, and the lock stays ours from here */
	int64_t begun = mojo_now(store);
	struct mark m = { .store = store };
	if (!err)
		err = mojo_log_is_empty(&store->log) && !store->log.busy ? 0 : -EAGAIN;
	const uint8_t *roots[] = { store->main.root, store->versions.root, store->dead.root };
	for (size_t i = 0; i < 3 && !err; i++)
		if (!mojo_ref_is_null(roots[i]))
			err = mark_node(&m, roots[i]);
	if (!err)
		err = store->io->ops->list(store->io, MOJO_CHUNK_DIR, mark_chunk, &m);
	if (!err) {
		store->mark_pending = store->space.out_of_memory = false;
		store->doubts = 0;
		store->mark_took_ns = mojo_now(store) - begun;
	}
	mojo_block_set_free(&m.live);
	mojo_block_set_free(&m.whole);
	if (err && err != -EAGAIN && !store->log.failed) {
		/* Part of the index cannot be read. Trying again would not help; space stays taken, nothing else. */
		store->mark_failed = true;
		mojo_event(&store->config, MOJO_WARNING,
			   "the space of dropped versions cannot be found and given back (%s): run mojofs check",
			   strerror(-err));
		err = 0;
	}
	return err;
}
