/* SPDX-License-Identifier: MIT */
/*
 * store.c - the store's life: create, open, lock, maintain, close.
 *
 * Lock order: store->mu, then chunks.mu (see state.h). The maintenance thread takes the same lock for what
 * it does: closing batches that grew old, checkpoints, giving back space.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bucket.h"
#include "checkpoint.h"
#include "namespace.h"
#include "recover.h"
#include "state.h"
#include "version.h"

/* Dead space that is worth a checkpoint of its own once the store has been idle for a moment. */
#define IDLE_DEAD_BYTES  (16u << 20)
#define IDLE_NS          5000000000ll
#define MARK_NS          60000000000ll
#define MARK_SHARE       50           /* marking takes no more than one part in so many of the time */
#define KEPT_BYTES       (2u << 20)   /* of the log that only removals may use when the disk is full; then again as */
#define KEPT_BLOCKS      48u          /* much for what mojo_reserve() is for. At least so many blocks, however large */
#define RETRY_DEAD_BYTES (256u << 10) /* dead space for which a full disk is worth two checkpoints */
#define CLOSE_DEAD_BYTES (1u << 20)   /* dead space for which closing takes a second checkpoint */

void mojo_event(const struct mojo_config *config, enum mojo_severity severity, const char *format, ...)
{
	if (!config || !config->event)
		return;
	char text[1024];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	config->event(config->event_arg, severity, text);
}

void mojo_io_free(struct mojo_io *io)
{
	if (io)
		io->ops->free(io);
}

/* ---- what the rooms below ask for ----------------------------------------------------------- */

static void page_killed(void *arg, uint64_t address)
{
	mojo_space_kill(arg, address, 1);
}

static void blob_killed(void *arg, uint64_t address, uint32_t blocks)
{
	struct mojo_store *store = arg;
	mojo_space_kill(&store->space, address, blocks);
}

static void blob_damaged(void *arg, const char *what, uint64_t address)
{
	struct mojo_store *store = arg;
	mojo_event(&store->config, MOJO_ERROR, "%s (address %" PRIu64 ")", what, address);
}

struct mojo_slotmap mojo_map_of(struct mojo_store *store, struct mojo_tree *tree)
{
	bool changes = tree == &store->main || tree == &store->settling;
	return (struct mojo_slotmap){
		.tree = tree,
		.pages_per_slot = store->root.pages_per_slot,
		.killed = changes ? page_killed : NULL,
		.arg = &store->space,
	};
}

static void blob_doubted(void *arg)
{
	struct mojo_store *store = arg;
	if (!store->mark_pending)
		store->mark_since_ns = mojo_now(store);
	store->doubts += !store->mark_pending || store->doubts;
	store->mark_pending = true; /* it finds what was leaked */
}

/* Is it time to look for blocks that nobody saw die? That reads the whole index under the lock: better when nobody
 * waits, but not never; and not for a few that are only in doubt. */
static bool is_mark_due(const struct mojo_store *store, bool idle, int64_t now)
{
	int64_t patience = store->mark_took_ns * MARK_SHARE > MARK_NS ? store->mark_took_ns * MARK_SHARE : MARK_NS;
	if (!store->mark_pending || store->mark_failed ||
	    (store->doubts && store->doubts * mojo_page_size(store) < IDLE_DEAD_BYTES))
		return false;
	return idle || now - store->mark_since_ns >= patience;
}

/* The version's tree, for what waits in the open batch. */
static struct mojo_tree *open_tree(struct mojo_store *store, uint32_t version)
{
	if (version == store->active)
		return &store->main;
	return version == store->unpublished ? &store->settling : NULL;
}

static int open_inode(struct mojo_store *store, uint32_t version, uint32_t bucket, struct mojo_inode *ret_inode)
{
	struct mojo_tree *tree = open_tree(store, version);
	return tree ? mojo_inode_get(tree, bucket, ret_inode) : -ENOENT;
}

static int hook_inode(void *arg, uint32_t version, uint32_t bucket, uint8_t *ret_bytes, uint32_t *ret_length)
{
	struct mojo_inode inode;
	int err = open_inode(arg, version, bucket, &inode);
	if (!err)
		*ret_length = mojo_inode_encode(ret_bytes, &inode);
	return err;
}

static int hook_file(void *arg, uint32_t version, uint32_t bucket, struct mojo_log_file *ret_file)
{
	struct mojo_inode inode;
	int err = open_inode(arg, version, bucket, &inode);
	if (!err)
		*ret_file = (struct mojo_log_file){ .seed = mojo_inode_seed(&inode), .shared = inode.shared };
	return err;
}

static int hook_pages(void *arg, uint32_t version, uint32_t bucket, const struct mojo_log_file *file, uint64_t first,
		      uint32_t count, uint64_t address, const uint32_t *checksums)
{
	struct mojo_store *store = arg;
	struct mojo_tree *tree;
	int err = mojo_settle_begin(store, version == store->active ? MOJO_ACTIVE : version, &tree);
	if (err)
		return err;
	struct mojo_slotmap map = mojo_map_of(store, tree);
	map.shared = file->shared;
	uint32_t added; /* counted already, when the pages came into the batch */
	err = mojo_slotmap_set(&map, bucket, first, count, address, checksums, &added);
	int kept = mojo_settle_end(store, tree);
	return err ? err : kept;
}

static void hook_hold(void *arg, struct mojo_log_page **pages, uint32_t count)
{
	mojo_bucket_hold(arg, pages, count);
}

static int hook_share(void *arg, uint32_t version, uint32_t bucket, const struct mojo_log_file *file, uint64_t first,
		      uint32_t count, const uint8_t *entries)
{
	struct mojo_store *store = arg;
	struct mojo_tree *tree;
	int err = mojo_settle_begin(store, version, &tree);
	if (err)
		return err;
	struct mojo_slotmap map = mojo_map_of(store, tree);
	map.shared = file->shared;
	uint32_t added; /* counted already */
	err = mojo_slotmap_share(&map, bucket, first, count, entries, &added);
	int kept = mojo_settle_end(store, tree);
	return err ? err : kept;
}

static void hook_dead(void *arg, uint64_t address, uint64_t count)
{
	struct mojo_store *store = arg;
	mojo_space_kill(&store->space, address, count);
}

static int64_t hook_spare(void *arg)
{
	struct mojo_store *store = arg;
	return mojo_space_take_spare(&store->space);
}

static void hook_unused(void *arg, uint32_t chunk)
{
	struct mojo_store *store = arg;
	mojo_space_return_spare(&store->space, chunk);
}

static void hook_scarce(void *arg)
{
	struct mojo_store *store = arg;
	pthread_cond_signal(&store->wake);
}

static void hook_failed(void *arg, int error, const char *what)
{
	struct mojo_store *store = arg;
	mojo_event(&store->config, MOJO_ERROR,
		   "%s failed (%s); the store takes no more changes. Unmount it, mend the cause, and mount again: "
		   "all that was acknowledged is kept",
		   what, strerror(-error));
}

int mojo_poison(struct mojo_store *store, int error, const char *what)
{
	return mojo_log_fail(&store->log, error, what);
}

/* Disk space to be left over: without it neither a checkpoint nor a removal of files can succeed on a full
 * disk. Removals come before everything else and have something of their own. What mojo_reserve() asks for is content;
 * headers of groups, and what changes in the index, come on top: a quarter, beside what is always kept. */
static uint64_t reserved_blocks(const struct mojo_store *store, enum mojo_claim claim)
{
	uint64_t blocks = mojo_checkpoint_blocks(store), kept = KEPT_BYTES / mojo_page_size(store);
	if (kept < KEPT_BLOCKS)
		kept = KEPT_BLOCKS;
	if (claim != MOJO_CLAIM_REMOVAL)
		blocks += kept;
	if (claim == MOJO_CLAIM_NEW) {
		uint64_t bytes = store->reserve ? store->reserve(store->reserve_arg) : 0;
		blocks += kept + (bytes + bytes / 4) / mojo_page_size(store);
	}
	return blocks;
}

int mojo_begin(struct mojo_store *store, uint32_t pages, enum mojo_claim claim)
{
	if (store->config.read_only)
		return -EROFS;
	for (int tries = 0;;) {
		if (store->log.failed)
			return -EIO;
		if (store->quiet) {
			pthread_cond_wait(&store->calm, &store->mu);
			continue;
		}
		/* The maintenance thread takes checkpoints in good time; if it cannot keep up, who writes helps. */
		bool late = mojo_checkpoint_due(store, store->config.no_background ? 1 : 2);
		if (!late) {
			if (mojo_checkpoint_due(store, 1))
				pthread_cond_signal(&store->wake);
			int err = mojo_log_room(&store->log, pages, store->config.batch_bytes,
						reserved_blocks(store, claim));
			if (store->log.failed)
				return -EIO;
			if (!err && !store->quiet)
				return 0;
			if (err && err != -ENOSPC)
				return err;
			/* The disk is full. What is dead comes back after two checkpoints. */
			bool hope = (store->mark_pending && !store->mark_failed) ||
				    mojo_space_unreturned(&store->space) * mojo_page_size(store) >= RETRY_DEAD_BYTES;
			if (err && !store->taking && (!hope || tries++ == 3))
				return err;
			late = err;
		}
		if (late && store->taking) { /* who is at it already may be all that is needed */
			pthread_cond_wait(&store->calm, &store->mu);
			continue;
		}
		if (late) {
			int err = tries && store->mark_pending && !store->mark_failed ? mojo_mark_locked(store)
										      : mojo_checkpoint_locked(store);
			if (err)
				return err;
		}
	}
}

/* ---- maintenance ---------------------------------------------------------------------------- */

static void wait_ms(struct mojo_store *store, uint32_t ms)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_cond_timedwait(&store->wake, &store->mu, &until);
}

static void *maintain(void *arg)
{
	struct mojo_store *store = arg;
	struct mojo_log *log = &store->log;
	const struct mojo_config *config = &store->config;
	uint32_t tick_ms = config->flush_ms < 2000 ? config->flush_ms / 2 + 1 : 1000;
	pthread_mutex_lock(&store->mu);
	while (!store->stop) {
		wait_ms(store, tick_ms);
		if (store->stop || log->failed)
			continue;
		if (mojo_checkpoint_due(store, 1)) {
			mojo_checkpoint_locked(store);
			continue;
		}
		mojo_log_prepare(log);
		int64_t now = mojo_now(store); /* behind what lets the lock go: a batch may have begun meanwhile */
		if (config->flush_ms != UINT32_MAX && log->opened_ns &&
		    (now - log->opened_ns >= config->flush_ms * 1000000ll || now < log->opened_ns))
			mojo_log_sync(log);
		bool idle = now - store->checkpoint_ns >= IDLE_NS && mojo_log_is_empty(log);
		if (is_mark_due(store, idle, now)) {
			mojo_mark_locked(store);
		} else if (idle && mojo_space_unreturned(&store->space) * mojo_page_size(store) >= IDLE_DEAD_BYTES) {
			mojo_checkpoint_locked(store);
		}
	}
	pthread_mutex_unlock(&store->mu);
	return NULL;
}

/* ---- the lock ------------------------------------------------------------------------------- */

int mojo_lock(struct mojo_io *io, const struct mojo_config *config, struct mojo_io_file **ret_file)
{
	struct mojo_io_file *file;
	int flags = config->read_only ? 0 : MOJO_IO_WRITE | MOJO_IO_CREATE;
	int err = io->ops->open(io, MOJO_LOCK_FILE, flags, &file);
	if (err == -ENOENT && config->read_only)
		return 0; /* nobody ever opened it for writing, or it is a copy: nothing to keep out */
	if (err) {
		mojo_event(config, MOJO_ERROR, "cannot open %s: %s", MOJO_LOCK_FILE, strerror(-err));
		return err;
	}
	char text[256] = "";
	size_t length = 0;
	err = io->ops->lock(file, !config->read_only);
	if (err == -EWOULDBLOCK) {
		/* Readers leave no name: the one that is there is of the last writer, who may be long gone. */
		bool only_readers = !config->read_only && io->ops->lock(file, false) == 0;
		if (only_readers || io->ops->read(file, text, sizeof(text) - 1, 0, &length) != 0)
			length = 0;
		text[length] = '\0';
		text[strcspn(text, "\n")] = '\0';
		mojo_event(config, MOJO_ERROR, "the store is in use by %s",
			   text[0] ? text : "a process that only reads it");
		err = -EBUSY;
	}
	if (!err && !config->read_only) {
		int n = snprintf(text, sizeof(text), "process %ld (%s)\n", (long)getpid(),
				 config->owner ? config->owner : "unnamed");
		struct iovec vector = { text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1 };
		/* The text is for people; a disk too full for it must not keep out who comes to make room. */
		if (io->ops->truncate(file, 0) == 0)
			io->ops->write(file, &vector, 1, 0);
	}
	if (err)
		io->ops->close(file);
	else
		*ret_file = file;
	return err;
}

/* ---- opening and closing -------------------------------------------------------------------- */

static void complete_config(struct mojo_config *config)
{
	if (!config->cache_bytes)
		config->cache_bytes = 32u << 20;
	if (config->cache_bytes < 4u << 20)
		config->cache_bytes = 4u << 20;
	if (!config->batch_bytes || config->batch_bytes > 1u << 20)
		config->batch_bytes = 1u << 20;
	if (config->batch_bytes < 64u << 10)
		config->batch_bytes = 64u << 10;
	if (!config->checkpoint_bytes)
		config->checkpoint_bytes = 128ull << 20;
	if (config->checkpoint_bytes < 1u << 20)
		config->checkpoint_bytes = 1u << 20;
	if (!config->flush_ms)
		config->flush_ms = 5000;
}

/* Frees whatever is there of a store; writes nothing. */
static void free_store(struct mojo_store *store)
{
	if (store->thread_running) {
		pthread_mutex_lock(&store->mu);
		store->stop = true;
		pthread_cond_signal(&store->wake);
		pthread_mutex_unlock(&store->mu);
		pthread_join(store->thread, NULL);
	}
	if (store->blobs.buckets) {
		mojo_tree_release(&store->main);
		mojo_tree_release(&store->versions);
		mojo_tree_release(&store->dead);
		mojo_blobs_free(&store->blobs);
	}
	mojo_space_map_free(&store->space);
	if (store->log.mu)
		mojo_log_free(&store->log);
	if (store->chunks.io)
		mojo_chunks_close(&store->chunks);
	if (store->state_file)
		store->io->ops->close(store->state_file);
	if (store->lock_file)
		store->io->ops->close(store->lock_file);
	mojo_holds_clear(&store->holds);
	pthread_cond_destroy(&store->wake);
	pthread_cond_destroy(&store->calm);
	pthread_mutex_destroy(&store->mu);
	free(store);
}

static int alloc_store(struct mojo_io *io, const struct mojo_config *config, struct mojo_store **ret_store)
{
	struct mojo_store *store = calloc(1, sizeof(*store));
	if (!store)
		return -ENOMEM;
	store->io = io;
	if (config)
		store->config = *config;
	complete_config(&store->config);
	pthread_mutex_init(&store->mu, NULL);
	pthread_cond_init(&store->calm, NULL);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&store->wake, &attr);
	pthread_condattr_destroy(&attr);
	*ret_store = store;
	return 0;
}

/* Everything in memory that the root tells of. */
static int init_rooms(struct mojo_store *store)
{
	const struct mojo_root *root = &store->root;
	mojo_chunks_init(&store->chunks, store->io, root->page_size, root->chunk_blocks, store->config.read_only);
	int err = mojo_blobs_init(&store->blobs, &store->chunks, root->pages_per_slot, store->config.cache_bytes);
	if (err)
		return err;
	store->blobs.killed = blob_killed;
	store->blobs.damaged = blob_damaged;
	store->blobs.doubted = blob_doubted;
	store->blobs.arg = store;
	store->active = root->active_version;
	store->next_bucket = root->next_bucket;
	store->files = root->files;
	store->directories = root->directories;
	store->frozen = root->frozen_versions;
	store->mark_pending = root->flags & MOJO_ROOT_MARK_PENDING;
	store->main = (struct mojo_tree){
		.blobs = &store->blobs, .kind = MOJO_TREE_MAIN, .version = store->active, .settled = &store->settled
	};
	store->versions = (struct mojo_tree){ .blobs = &store->blobs, .kind = MOJO_TREE_VERSIONS, .version = 1 };
	store->dead = (struct mojo_tree){ .blobs = &store->blobs, .kind = MOJO_TREE_SPACE, .version = 1 };
	memcpy(store->main.root, root->main_ref, MOJO_REF_BYTES);
	memcpy(store->versions.root, root->versions_ref, MOJO_REF_BYTES);
	memcpy(store->dead.root, root->space_ref, MOJO_REF_BYTES);
	mojo_space_map_init(&store->space, &store->dead, &store->chunks);
	struct mojo_log_hooks hooks = {
		.inode = hook_inode,
		.file = hook_file,
		.pages = hook_pages,
		.hold = hook_hold,
		.share = hook_share,
		.dead = hook_dead,
		.spare = hook_spare,
		.unused = hook_unused,
		.scarce = hook_scarce,
		.failed = hook_failed,
		.arg = store,
	};
	return mojo_log_init(&store->log, &store->mu, &store->chunks, &hooks, root->store_id);
}

static int new_epoch(struct mojo_store *store)
{
	struct mojo_log *log = &store->log;
	do {
		int err = store->io->ops->random(store->io, &log->epoch, sizeof(log->epoch));
		if (err)
			return err;
	} while (log->epoch == log->previous_epoch);
	log->announce = true;
	return 0;
}

static int start_thread(struct mojo_store *store)
{
	if (store->config.no_background || store->config.read_only)
		return 0;
	int err = pthread_create(&store->thread, NULL, maintain, store);
	store->thread_running = !err;
	return -err;
}

/* @state_name: the finished state file, or the one of a store in the making, for which the caller has the lock. */
static int open_named(struct mojo_io *io, const struct mojo_config *config, const char *state_name, bool locked,
		      struct mojo_store **ret_store)
{
	struct mojo_store *store;
	int err = alloc_store(io, config, &store);
	if (err) {
		mojo_event(config, MOJO_ERROR, "cannot open the store: %s", strerror(-err));
		return err;
	}
	config = &store->config;
	err = io->ops->open(io, state_name, config->read_only ? 0 : MOJO_IO_WRITE, &store->state_file);
	if (err) {
		if (err == -ENOENT)
			mojo_event(config, MOJO_ERROR, "this is no mojofs store: there is no %s in it", state_name);
		else
			mojo_event(config, MOJO_ERROR, "cannot open %s: %s", state_name, strerror(-err));
		goto fail;
	}
	/* Look before locking: a newer store is left untouched. Look again behind the lock. */
	err = mojo_recover_root(io, store->state_file, config, &store->root, &store->root_slot);
	if (!err && !locked)
		err = mojo_lock(io, config, &store->lock_file);
	if (!err)
		err = mojo_recover_root(io, store->state_file, NULL, &store->root, &store->root_slot);
	if (!err)
		err = init_rooms(store);
	if (!err && !config->read_only) /* who only reads has no use for it, and is not to fail for it */
		err = mojo_space_load(&store->space);
	if (!err)
		err = mojo_find_held(store);
	if (!err)
		err = mojo_recover_log(store);
	if (!err && !config->read_only)
		err = new_epoch(store);
	if (!err && !config->read_only) {
		pthread_mutex_lock(&store->mu);
		err = mojo_remove_orphans(store);
		if (err == -ENOSPC)
			err = 0; /* they wait for the next opening; without it nobody could make room */
		pthread_mutex_unlock(&store->mu);
	}
	if (!err)
		err = start_thread(store);
	if (err) {
		if (err == -EUCLEAN)
			mojo_event(config, MOJO_ERROR,
				   "the store is damaged and was not opened; mojofs check says more");
		else if (err != -EBUSY && err != -EPROTONOSUPPORT)
			mojo_event(config, MOJO_ERROR, "cannot open the store: %s", strerror(-err));
		goto fail;
	}
	*ret_store = store;
	return 0;
fail:
	free_store(store);
	return err;
}

int mojo_open(struct mojo_io *io, const struct mojo_config *config, struct mojo_store **ret_store)
{
	return open_named(io, config, MOJO_STATE_FILE, false, ret_store);
}

int mojo_open_mending(struct mojo_io *io, const struct mojo_config *config, const struct mojo_root *root, unsigned slot,
		      struct mojo_store **ret_store)
{
	struct mojo_store *store;
	int err = alloc_store(io, config, &store);
	if (err)
		return err;
	store->mending = true;
	store->config.no_background = true;
	store->root = *root;
	store->root_slot = slot;
	err = io->ops->open(io, MOJO_STATE_FILE, store->config.read_only ? 0 : MOJO_IO_WRITE, &store->state_file);
	if (!err)
		err = init_rooms(store);
	if (!err && !store->config.read_only)
		err = new_epoch(store);
	if (err)
		free_store(store);
	else
		*ret_store = store;
	return err;
}

int mojo_close(struct mojo_store *store)
{
	if (!store)
		return 0;
	int err = 0;
	if (!store->config.read_only) {
		pthread_mutex_lock(&store->mu);
		mojo_holds_clear(&store->holds);                             /* nothing is open any more */
		err = store->log.failed ? -EIO : mojo_log_sync(&store->log); /* first what was asked for */
		if (!err)
			err = mojo_remove_orphans(store);
		bool marked = !err && store->mark_pending && !store->mark_failed;
		if (marked)
			err = mojo_mark_locked(store);
		/* What marking found is in memory only, and the root still asks for it. */
		bool due = !err && (marked || store->log.bytes_since_root || !mojo_log_is_empty(&store->log));
		if (due)
			err = mojo_checkpoint_locked(store);
		/* What died since the one before comes back with the next: it may be long until there is one. */
		if (due && !err && mojo_space_unreturned(&store->space) * mojo_page_size(store) >= CLOSE_DEAD_BYTES)
			err = mojo_checkpoint_locked(store);
		mojo_checkpoint_wait(store);
		if (!err && store->log.failed)
			err = -EIO;
		if (due && !err)
			mojo_log_trim(&store->log);
		pthread_mutex_unlock(&store->mu);
		if (store->lock_file)
			store->io->ops->truncate(store->lock_file, 0); /* the name in it was ours */
	}
	free_store(store);
	return err;
}

void mojo_abandon(struct mojo_store *store)
{
	if (store)
		free_store(store);
}

/* ---- creating ------------------------------------------------------------------------------- */

/* What a directory may hold for a store to be made in it. */
static int check_name(void *arg, const char *name)
{
	bool *is_store = arg;
	if (strcmp(name, MOJO_STATE_FILE) == 0)
		*is_store = true;
	else if (strcmp(name, MOJO_STATE_NEW_FILE) != 0 && strcmp(name, MOJO_LOCK_FILE) != 0 &&
		 strcmp(name, MOJO_CHUNK_DIR) != 0 && strcmp(name, "lost+found") != 0)
		return -ENOTEMPTY;
	return 0;
}

static int check_chunk_name(void *arg, const char *name)
{
	(void)arg;
	return mojo_chunk_number(name) < 0 ? -ENOTEMPTY : 0;
}

static int check_empty(struct mojo_io *io, const struct mojo_config *config)
{
	bool is_store = false;
	int err = io->ops->list(io, "", check_name, &is_store);
	if (is_store) {
		mojo_event(config, MOJO_ERROR, "the directory holds a mojofs store already");
		return -EEXIST;
	}
	if (!err) {
		struct mojo_io_file *file;
		err = io->ops->open(io, MOJO_STATE_NEW_FILE, 0, &file);
		bool unfinished = !err;
		if (unfinished)
			io->ops->close(file);
		err = io->ops->list(io, MOJO_CHUNK_DIR, check_chunk_name, NULL);
		if (err == -ENOENT)
			err = 0;
		else if (!err && !unfinished)
			/* Data files without any state: a store that lost its root is not to be built over. */
			err = io->ops->list(io, MOJO_CHUNK_DIR, check_name, &is_store);
	}
	if (err == -ENOTEMPTY)
		mojo_event(config, MOJO_ERROR, "the directory is not empty and holds no mojofs store");
	return err;
}

static int write_first_root(struct mojo_io *io, const struct mojo_geometry *geometry)
{
	struct mojo_io_file *file;
	uint8_t slots[MOJO_ROOT_SLOTS * MOJO_ROOT_SLOT_BYTES];
	struct mojo_root root = {
		.generation = 1,
		.page_size = geometry->page_size,
		.pages_per_slot = geometry->pages_per_slot,
		.chunk_blocks = (uint32_t)(geometry->chunk_bytes / geometry->page_size),
		.log_sequence = 1,
		.active_version = 1,
		.next_bucket = MOJO_ROOT_BUCKET + 1,
	};
	root.created_ns = root.written_ns = io->ops->now_ns(io);
	int err = io->ops->random(io, root.store_id, sizeof(root.store_id));
	if (!err)
		err = io->ops->random(io, &root.epoch, sizeof(root.epoch));
	if (!err)
		err = io->ops->open(io, MOJO_STATE_NEW_FILE, MOJO_IO_WRITE | MOJO_IO_CREATE, &file);
	if (err)
		return err;
	for (unsigned i = 0; i < MOJO_ROOT_SLOTS; i++, root.generation++)
		mojo_root_encode(slots + (size_t)i * MOJO_ROOT_SLOT_BYTES, &root);
	struct iovec vector = { slots, sizeof(slots) };
	err = io->ops->truncate(file, 0);
	if (!err)
		err = io->ops->write(file, &vector, 1, 0);
	if (!err)
		err = io->ops->flush(file);
	io->ops->close(file);
	return err;
}

/* The first chunk, emptied of what an earlier attempt may have left. */
static int make_first_chunk(struct mojo_io *io)
{
	char path[MOJO_CHUNK_PATH_BYTES];
	struct mojo_io_file *file;
	mojo_chunk_path(0, path);
	int err = io->ops->mkdir(io, MOJO_CHUNK_DIR);
	if (err && err != -EEXIST)
		return err;
	/* The unfinished state file must be found wherever a data file is, which alone looks like a store that lost its
	 * root; and this directory wherever the finished one is. */
	err = io->ops->flush_dir(io, "");
	if (err)
		return err;
	err = io->ops->open(io, path, MOJO_IO_WRITE | MOJO_IO_CREATE, &file);
	if (err)
		return err;
	err = io->ops->truncate(file, 0);
	io->ops->close(file);
	return err ? err : io->ops->flush_dir(io, MOJO_CHUNK_DIR);
}

int mojo_create(struct mojo_io *io, const struct mojo_geometry *geometry, const struct mojo_config *config)
{
	struct mojo_geometry g = geometry ? *geometry : (struct mojo_geometry){ 0 };
	const char *reason;
	if (mojo_geometry_complete(&g, &reason) != 0) {
		mojo_event(config, MOJO_ERROR, "%s", reason);
		return -EINVAL;
	}
	int err = check_empty(io, config);
	if (err)
		return err;
	/* The state file gets its name last: until then this is no store, and may be made again. */
	struct mojo_config quiet = { .no_background = true, .flush_ms = UINT32_MAX, .owner = "creating the store" };
	if (config) {
		quiet.event = config->event;
		quiet.event_arg = config->event_arg;
	}
	struct mojo_store *store;
	struct mojo_io_file *lock;
	err = mojo_lock(io, &quiet, &lock);
	if (err)
		return err;
	err = check_empty(io, config); /* somebody may have been quicker */
	if (!err)
		err = write_first_root(io, &g);
	if (!err)
		err = make_first_chunk(io);
	if (!err)
		err = open_named(io, &quiet, MOJO_STATE_NEW_FILE, true, &store);
	if (!err) {
		err = mojo_make_root(store, &g);
		int closed = mojo_close(store);
		if (!err)
			err = closed;
	}
	if (!err)
		err = io->ops->rename(io, MOJO_STATE_NEW_FILE, MOJO_STATE_FILE);
	if (!err)
		err = io->ops->flush_dir(io, "");
	if (!err)
		io->ops->flush_dir(io, ".."); /* the store's own name, if we may */
	io->ops->truncate(lock, 0);
	io->ops->close(lock);
	return err;
}

/* ---- the rest of the public face ------------------------------------------------------------ */

int mojo_sync(struct mojo_store *store)
{
	if (store->config.read_only)
		return 0;
	pthread_mutex_lock(&store->mu);
	int err = store->log.failed ? -EIO : mojo_log_sync(&store->log);
	pthread_mutex_unlock(&store->mu);
	return err;
}

uint32_t mojo_active_version(struct mojo_store *store)
{
	pthread_mutex_lock(&store->mu);
	uint32_t active = store->active;
	pthread_mutex_unlock(&store->mu);
	return active;
}

int mojo_info(struct mojo_store *store, struct mojo_info *ret_info)
{
	uint64_t chunks = 0, disk_bytes = 0;
	int err = mojo_chunks_usage(&store->chunks, &chunks, &disk_bytes);
	if (err)
		return err;
	struct mojo_version_info oldest;
	err = mojo_version_next(store, 0, &oldest);
	if (err)
		return err;
	pthread_mutex_lock(&store->mu);
	struct mojo_info info = {
		.format = MOJO_FORMAT_VERSION,
		.page_size = store->root.page_size,
		.pages_per_slot = store->root.pages_per_slot,
		.chunk_bytes = (uint64_t)store->root.chunk_blocks * store->root.page_size,
		.active_version = store->active,
		.oldest_version = oldest.version,
		.frozen_versions = store->frozen - (store->unpublished != 0),
		.unpublished_version = store->unpublished,
		.files = store->files,
		.directories = store->directories,
		.chunks = chunks,
		.store_bytes = disk_bytes,
		.dead_bytes = mojo_space_unreturned(&store->space) * store->root.page_size,
		.log_bytes = store->log.bytes_since_root,
		.generation = store->root.generation,
		.sequence = store->log.sequence - 1,
		.cache_bytes = store->blobs.clean_bytes + store->blobs.dirty_bytes,
		.flushes = store->log.flushes,
		.groups = store->log.groups,
		.checkpoints = store->checkpoints,
		.pages_written = store->log.pages_written,
		.pages_read = store->pages_read,
		.read_only = store->config.read_only,
		.failed = store->log.failed != 0,
		.created_ns = store->root.created_ns,
	};
	for (unsigned i = 0; i < MOJO_STORE_ID_BYTES; i++)
		snprintf(info.store_id + 2 * i, 3, "%02x", store->root.store_id[i]);
	pthread_mutex_unlock(&store->mu);
	*ret_info = info;
	return 0;
}

void mojo_reserve(struct mojo_store *store, mojo_reserve_fn *fn, void *arg)
{
	pthread_mutex_lock(&store->mu);
	store->reserve = fn;
	store->reserve_arg = arg;
	pthread_mutex_unlock(&store->mu);
}

int mojo_space(struct mojo_store *store, struct mojo_space *ret_space)
{
	struct mojo_io_space host;
	int err = store->io->ops->space(store->io, &host);
	if (err)
		return err;
	pthread_mutex_lock(&store->mu);
	uint64_t files = store->files + store->directories;
	pthread_mutex_unlock(&store->mu);
	*ret_space = (struct mojo_space){
		.total = host.total,
		.free = host.free,
		.available = host.available,
		.files = files,
		.page_size = mojo_page_size(store),
	};
	return 0;
}
