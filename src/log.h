/* SPDX-License-Identifier: MIT */
/*
 * log.h - batches of changes on their way to the chunks, and the flush that makes them durable.
 *
 *              records, pages, inodes                      +---------------- failed <---+
 *                       |                                  |    (no way back)           | write or flush fails
 *                       v                                  |                            |
 *     +---> open batch --- emit ---> in flight --- written, unflushed --- fsync ---> durable
 *     |                    |          (one group at a time, without the lock)
 *     +--------------------+  goes on filling meanwhile
 *
 * The open batch collects in memory. emit() turns what it holds into one group: addresses are given out
 * in order, the index is told, and the group is written in one call without the store's lock. A batch
 * ends with a group that says so, followed by one flush; it counts whole or not at all. Whoever needs
 * durability while another is flushing waits and shares the next flush.
 *
 * Pages and inodes are of the active version, or of the unpublished one below it, which is being settled; the same
 * bucket and page may wait for both.
 *
 * What is settled is mostly what an older version has: pages of the unpublished version of which a block is there
 * already are not written, but a record says where that block is.
 *
 * Order within a group: records, then inodes, then pages, then the closing record (a commit). Records of
 * one operation are never divided between batches, because only mojo_log_room(), mojo_log_sync() and
 * mojo_log_close() let go of the store's lock.
 *
 * Thread safety: all functions want the store's lock (log->mu) held. Those marked [unlocks] let go of it
 * while they wait for the disk.
 */
#ifndef MOJO_LOG_H
#define MOJO_LOG_H

#include <pthread.h>

#include "chunk.h"
#include "format.h"

#define MOJO_LOG_HASH             1024u
#define MOJO_LOG_RECORD_BYTES_MAX (256u << 10) /* of records in one group, before inodes and pages */
#define MOJO_LOG_OPERATION_BYTES  8192u        /* of records that one operation writes, at most */

struct mojo_log_page {
	uint32_t version;
	uint32_t bucket;
	uint32_t page;
	/* Set when the batch becomes a group. */
	uint32_t checksum;
	bool held;               /* an older block holds just this, and the page is not written */
	struct mojo_entry entry; /* of that block; version 0: it is the page's own already */
	struct mojo_log_page *hash_next;
	uint8_t data[]; /* block_bytes */
};

/* What must be known of a file whose pages are written. */
struct mojo_log_file {
	uint32_t version, bucket; /* which one: the log's own note */
	uint32_t seed;            /* of its pages' checksums */
	uint64_t shared;          /* see struct mojo_inode */
};

/* What the log asks of the layers above it. All are called with the lock held. */
struct mojo_log_hooks {
	/* The inode of @bucket as it now is in @version, encoded, MOJO_INODE_BYTES_MAX at most; -ENOENT if it, or the
	 * version, is gone. */
	int (*inode)(void *arg, uint32_t version, uint32_t bucket, uint8_t *ret_bytes, uint32_t *ret_length);
	/* Asked before pages of @bucket in @version are told of. */
	int (*file)(void *arg, uint32_t version, uint32_t bucket, struct mojo_log_file *ret_file);
	/* @count pages from @first on lie at @address and so on: the index of @version is to say so. @file: the answer
	 * for the same bucket. */
	int (*pages)(void *arg, uint32_t version, uint32_t bucket, const struct mojo_log_file *file, uint64_t first,
		     uint32_t count, uint64_t address, const uint32_t *checksums);
	/* @count pages of the unpublished version, one behind the other in one bucket, are about to be written, their
	 * checksums known: `held` and `entry` of those that need not be. */
	void (*hold)(void *arg, struct mojo_log_page **pages, uint32_t count);
	/* @count pages from @first on are what the older blocks hold that @entries (packed) lead to. @file: as of pages. */
	int (*share)(void *arg, uint32_t version, uint32_t bucket, const struct mojo_log_file *file, uint64_t first,
		     uint32_t count, const uint8_t *entries);
	/* Blocks that no index refers to: headers, and the end of a chunk that is left unused. */
	void (*dead)(void *arg, uint64_t address, uint64_t count);
	/* Number of a chunk to recycle, or -1. */
	int64_t (*spare)(void *arg);
	/* The one that was got last could not be made use of, and is spare still. */
	void (*unused)(void *arg, uint32_t chunk);
	/* The place for the next groups is running out where flushing them is cheap: mojo_log_prepare() is of use. */
	void (*scarce)(void *arg);
	/* Something went wrong for good. */
	void (*failed)(void *arg, int error, const char *what);
	void *arg;
};

struct mojo_log {
	pthread_mutex_t *mu; /* borrowed: the store's lock */
	pthread_cond_t idle; /* busy became false */
	struct mojo_chunks *chunks;
	struct mojo_log_hooks hooks;
	uint8_t store_id[MOJO_STORE_ID_BYTES];
	uint32_t block_bytes, chunk_blocks;

	uint32_t chunk;          /* being written */
	uint64_t tail;           /* block where the next group begins; the chunk's end if it is full */
	uint64_t allocated;      /* blocks of the chunk below this have disk space */
	int64_t next_chunk;      /* made ahead; -1: not yet */
	uint64_t next_allocated; /* blocks of it below this have disk space */
	/* Flushing a small group is cheaper where something was written before: a host's file system then has no
	 * account to change of what was never written. Blocks below `prepared` are so, but for a gap behind the tail
	 * at the beginning of a chunk. */
	uint64_t prepared;
	uint64_t preparing; /* first block of what is being prepared now, without the lock; 0: nothing is */
	bool small;         /* the last batch was: it is worth it */
	bool cannot_prepare;
	bool cannot_write_through; /* whoever has the group in flight may set it without the lock */
	uint64_t free_tail,
		free_blocks; /* with the tail there, the host had so many blocks free beyond the next chunk */
	uint64_t sequence;   /* of the next group */
	uint64_t durable_sequence;
	uint64_t epoch;
	uint64_t previous_epoch; /* announced with the first group of this opening */
	bool announce;
	uint32_t version; /* active */

	uint64_t batch; /* number of the open one */
	uint64_t durable_batch;
	bool unflushed;    /* the open batch has groups that were written and not flushed */
	int64_t opened_ns; /* when the first change came into it; 0: none yet */
	struct mojo_log_page *hash[MOJO_LOG_HASH];
	struct mojo_log_page **pages; /* in order of arrival */
	uint32_t page_count, page_capacity;
	uint8_t *records;
	uint32_t record_bytes, record_capacity, record_count;
	uint64_t *inodes; /* set of version << 32 | bucket, open addressing, 0 = free */
	uint32_t inode_count, inode_capacity;

	bool busy;               /* a group is in flight */
	uint64_t flight_address; /* of its first data block */
	struct mojo_log_page **flight;
	uint32_t flight_count;

	/* Who waits for durability in turns shares flushes better for waiting a little for the others: see is_early(). */
	uint32_t syncing;  /* threads in mojo_log_sync() */
	uint32_t expected; /* as many were when the last batch became durable */
	int64_t gather_ns; /* until when the open batch waits for them; CLOCK_MONOTONIC; 0: it does not */
	int64_t gather_least_ns, gather_most_ns; /* how long it waits; constant */
	int64_t flush_ns;                        /* how long writing and flushing a batch takes, on average of late */
	uint32_t vain;                           /* waits in a row that were for nothing, up to a limit */
	uint32_t resign;                         /* batches still to come that do not wait, for that */

	int failed; /* 0, or the error after which nothing is written any more */
	uint64_t bytes_since_root;
	uint64_t flushes, groups, pages_written;
};

int mojo_log_init(struct mojo_log *log, pthread_mutex_t *mu, struct mojo_chunks *chunks,
		  const struct mojo_log_hooks *hooks, const uint8_t *store_id);
void mojo_log_free(struct mojo_log *log);

/* mojo_log_room - [unlocks] wait or write until the open batch has room for one more operation with
 * @pages pages, and disk space for all of it is there. -ENOSPC, or the error the log failed with.
 * @batch_bytes: size at which the batch goes out. @reserve: blocks that must be left over for a checkpoint. */
int mojo_log_room(struct mojo_log *log, uint32_t pages, size_t batch_bytes, uint64_t reserve);

/* mojo_log_record - append a record about @version (which says whether it is flagged; of records that cannot be, give
 * the active one); @a and @b are parts of its payload. Cannot fail after room. */
void mojo_log_record(struct mojo_log *log, uint32_t version, enum mojo_record_type type, const void *a,
		     uint32_t a_length, const void *b, uint32_t b_length);
/* mojo_log_inode - the inode of @bucket changed in @version: it goes out with the next group. -ENOMEM. */
int mojo_log_inode(struct mojo_log *log, uint32_t version, uint32_t bucket);

/* mojo_log_find - content of a page of @version that waits in the open batch, or NULL. */
uint8_t *mojo_log_find(const struct mojo_log *log, uint32_t version, uint32_t bucket, uint64_t page);
/* mojo_log_add - a place for the content of a page that is not in the open batch, uninitialised. -ENOMEM. */
int mojo_log_add(struct mojo_log *log, uint32_t version, uint32_t bucket, uint32_t page, uint8_t **ret_data);
/* mojo_log_flight - content of the block at @address if it is being written just now, or NULL. */
const uint8_t *mojo_log_flight(const struct mojo_log *log, uint64_t address);
/* mojo_log_forget - pages [first, first + count) of @bucket in @version leave the open batch. */
void mojo_log_forget(struct mojo_log *log, uint32_t version, uint32_t bucket, uint64_t first, uint64_t count);
/* mojo_log_forget_version - all pages of @version leave the open batch: it is going to be dropped. */
void mojo_log_forget_version(struct mojo_log *log, uint32_t version);
/* mojo_log_waiting - lowest page of @bucket in @version >= @first in the open batch, or UINT64_MAX. */
uint64_t mojo_log_waiting(const struct mojo_log *log, uint32_t version, uint32_t bucket, uint64_t first);

bool mojo_log_is_empty(const struct mojo_log *log);

/* mojo_log_sync - [unlocks] all that was recorded before the call is durable on return of 0. */
int mojo_log_sync(struct mojo_log *log);

/* A record with which a group closes. @apply is called under the lock, after the pages of the group were given addresses
 * and before anything else can change. */
struct mojo_log_closing {
	enum mojo_record_type type;
	uint16_t flags;
	const void *payload; /* borrowed */
	uint32_t length;
	int (*apply)(void *arg);
	void *arg;
};

/* mojo_log_close - [unlocks] write the open batch out with a closing record. @end: the batch ends with it, and it is
 * durable on return; otherwise the batch goes on behind it. */
int mojo_log_close(struct mojo_log *log, bool end, const struct mojo_log_closing *closing);

/* mojo_log_prepare - [unlocks] write zeros where groups will come to lie, if that is of use now. Cheap if not. */
void mojo_log_prepare(struct mojo_log *log);

/* mojo_log_trim - disk space that was taken ahead goes back to the host: for who writes no more. With nothing in flight
 * and nothing in the open batch. */
void mojo_log_trim(struct mojo_log *log);

/* mojo_log_wait - [unlocks] until nothing is in flight, and nothing is being prepared. */
void mojo_log_wait(struct mojo_log *log);

/*
 * mojo_log_reserve - with nothing in flight: @blocks at the tail become the caller's, contiguous. Rolls to
 * the next chunk if need be. Used by checkpoints, which write their groups themselves and hold the lock.
 */
int mojo_log_reserve(struct mojo_log *log, uint32_t blocks, uint64_t *ret_address);
/* mojo_log_flush - [unlocks] with nothing in flight: groups that the caller wrote, the last of which ends a batch, are
 * durable on return of 0. Nothing else is written meanwhile; the open batch may fill. */
int mojo_log_flush(struct mojo_log *log);
/* mojo_log_secure - disk space for @blocks at the tail is there, however they are divided into groups. -ENOSPC. */
int mojo_log_secure(struct mojo_log *log, uint64_t blocks);
/* mojo_log_fail - refuse everything from now on. Returns @error. */
int mojo_log_fail(struct mojo_log *log, int error, const char *what);

#endif
