/* SPDX-License-Identifier: MIT */
/*
 * state.h - what the rooms of the engine share: the store in memory.
 *
 * Lock order: `mu`, then chunks.mu. Nothing else is locked. `mu` guards every field unless it says
 * otherwise. Functions declared in the rooms' own headers want it held; those of mojo.h take it.
 */
#ifndef MOJO_STATE_H
#define MOJO_STATE_H

#include <pthread.h>

#include "ahead.h"
#include "hold.h"
#include "log.h"
#include "mojo.h"
#include "slotmap.h"
#include "space.h"

struct mojo_store {
	struct mojo_io *io;              /* borrowed */
	struct mojo_config config;       /* defaults filled in; constant */
	struct mojo_io_file *lock_file;  /* owned */
	struct mojo_io_file *state_file; /* owned */

	pthread_mutex_t mu;
	struct mojo_root root;     /* the last one on disk; the geometry and store id in it are constant */
	unsigned root_slot;        /* where it lies */
	bool root_secured;         /* it is on stable storage for sure: this process has put it there */
	struct mojo_chunks chunks; /* has a lock of its own */
	struct mojo_blobs blobs;
	struct mojo_tree main;     /* of the active version */
	struct mojo_tree versions; /* frozen ones */
	struct mojo_tree dead;     /* dead blocks */
	struct mojo_tree settling; /* of the unpublished version, if there is one; the root is borrowed from its cell */
	struct mojo_settled settled; /* kept versions that labels do not tell enough of */
	struct mojo_log log;
	struct mojo_space_map space;
	uint32_t active;      /* version */
	uint32_t unpublished; /* version, or 0; if there is one it is active - 1 */
	uint32_t next_bucket; /* where the search for a free id begins */
	uint64_t files, directories, frozen;
	bool mark_pending; /* a dropped version's blocks are still to be found */
	int64_t mark_since_ns, mark_took_ns;
	uint64_t doubts;  /* blocks that may be dead, if nothing else makes marking pending */
	bool mark_failed; /* until the store is opened anew */
	bool taking;      /* a checkpoint is being taken; one at a time */
	bool quiet;       /* while it has the state to itself: changes wait for calm */
	pthread_cond_t calm;
	int64_t checkpoint_ns; /* when the last one was taken */

	struct mojo_holds holds; /* open buckets */
	struct mojo_ahead ahead; /* who reads from front to back */

	mojo_reserve_fn *reserve; /* NULL: nothing beside what is always kept */
	void *reserve_arg;        /* borrowed */

	uint64_t checkpoints;
	_Atomic uint64_t pages_read;

	/* What replay found wrong. Only a store that is opened to be mended (mojo_open_mending()) steps over it. */
	bool mending;
	uint64_t lost_sequence, lost_address; /* a group that was durable and is not there; 0: none */
	bool lost_index_only;                 /* it was of the root's own blobs: no change is lost with it */
	uint64_t skipped_records;             /* that do not fit the index */

	pthread_t thread; /* maintenance */
	bool thread_running;
	bool stop;
	pthread_cond_t wake;
};

static inline uint32_t mojo_page_size(const struct mojo_store *store)
{
	return store->chunks.block_bytes;
}

static inline int64_t mojo_now(const struct mojo_store *store)
{
	return store->io->ops->now_ns(store->io);
}

/* mojo_event - tell the user; printf-like. Any thread, lock held or not. */
void mojo_event(const struct mojo_config *config, enum mojo_severity severity, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* What a change is for says how much of the disk must be left over behind it: each kind may use what is kept from those
 * above. */
enum mojo_claim {
	MOJO_CLAIM_NEW,      /* new content */
	MOJO_CLAIM_RESERVED, /* content for which room was kept: mojo_reserve() */
	MOJO_CLAIM_REMOVAL,  /* it takes away, or changes nothing but attributes */
};

/*
 * mojo_begin - [unlocks] first step of every change: is the store writable, and is there room for an
 * operation with @pages pages? -EROFS, -EIO (failed), -ENOSPC. After 0 the lock is not let go of until
 * the operation is complete in memory.
 */
int mojo_begin(struct mojo_store *store, uint32_t pages, enum mojo_claim claim);

/* mojo_poison - a change failed half-way, in memory: nothing is written any more. Returns @error. */
int mojo_poison(struct mojo_store *store, int error, const char *what);

/* The slot map of a main tree: of one that may change (deaths are noted), or a frozen one's. */
struct mojo_slotmap mojo_map_of(struct mojo_store *store, struct mojo_tree *tree);

/* mojo_lock - lock the store in @io, shared if the config says read_only, and leave the owner's name in the lock
 * file. *ret_file stays NULL for a reader where there is no lock file. An event says why not. -EBUSY. */
int mojo_lock(struct mojo_io *io, const struct mojo_config *config, struct mojo_io_file **ret_file);

/* mojo_open_mending - a store as far as its root alone tells of it: the log is not replayed, no thread runs, and
 * nothing is known of dead space. The caller has it locked, and frees it with mojo_abandon(). */
int mojo_open_mending(struct mojo_io *io, const struct mojo_config *config, const struct mojo_root *root, unsigned slot,
		      struct mojo_store **ret_store);

/* mojo_view - the tree of @version (MOJO_ACTIVE: the active one), for reading under the lock held now.
 * @frozen is storage for a frozen one. -ENOENT. */
int mojo_view(struct mojo_store *store, uint32_t version, struct mojo_tree *frozen, struct mojo_tree **ret_tree);

#endif
