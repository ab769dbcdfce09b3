/* SPDX-License-Identifier: MIT */
/*
 * rollback.h - SQLite's rollbacks on a disk that is full.
 *
 * A transaction that fails half-way is taken back: what its journal holds is written into the database again, by the
 * same process or by the next one that wants to read. Elsewhere that overwrites blocks in place; the engine needs new
 * ones for it. So that there are some,
 *
 *   - room is kept (mojo_reserve()) for as many pages as are in a journal, while they come into it;
 *   - a write for which there is no room is looked at again, page by page. What is in the file already need not be
 *     written. What the journal holds of that page is being taken back, and gets of the room that was kept. So does
 *     the zeroing of a journal's head, which ends it. All else fails.
 *
 * A write that fails when the kernel writes back leaves an error with the file that the next fsync gets, whoever asks
 * for it: somebody, that is, who has rolled the transaction back. So where a synced journal can take it all back, what
 * is not written is noted, and answered as if it were; the fsync, without which nobody commits, fails. Until it was
 * written in another attempt, or the transaction is rolled back: then each page that the journal holds was written
 * since, and is in the database as the journal has it, which is as long as it was.
 *
 * What the kernel writes back says nothing of whose transaction it belongs to: only the content tells, and it is
 * looked at only if there is no room. Until then a write costs a look at a counter, and one to a journal an addition.
 *
 *     journal:   unknown --- its head is written, or found ---> known, room is kept ---+
 *                   ^                                                                  |
 *                   +------- zeros, cut to nothing, removed, renamed ------------------+
 *
 * A journal of a transaction with synchronous=OFF may be in the kernel still while the database is written; of such a
 * one a rollback can fail for want of room.
 *
 * All functions may be called from any thread, and call the engine unless said otherwise.
 */
#ifndef FUSE_ROLLBACK_H
#define FUSE_ROLLBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/mojo.h"

struct rollback; /* opaque */

/* rollback_new - from now on room is kept. @store: borrowed until rollback_free(); @page_size: the store's, in bytes.
 * -ENOMEM. */
int rollback_new(struct mojo_store *store, uint32_t page_size, struct rollback **ret_rollback);
void rollback_free(struct rollback *rollback);

/*
 * rollback_writing - to be told before the engine is: @length bytes at @offset of @bucket become those in @buf.
 * True: that ends a journal, and rollback_ended() is to be called when it is done.
 */
bool rollback_writing(struct rollback *rollback, uint32_t bucket, uint64_t offset, const void *buf, size_t length);

/* rollback_ended - @bucket, if it is a journal, was zeroed, cut to nothing, or removed. Does not call the engine. */
void rollback_ended(struct rollback *rollback, uint32_t bucket);

/* rollback_journal - the bucket of @name in @dir if it is a journal for which room is kept; else 0. */
uint32_t rollback_journal(struct rollback *rollback, uint32_t dir, const char *name);

/* rollback_learn - @bucket has a journal's name; whether it is one is for its content to say. */
void rollback_learn(struct rollback *rollback, uint32_t bucket);

/* rollback_renamed - some name has become another one, @new_name in @new_dir. */
void rollback_renamed(struct rollback *rollback, uint32_t new_dir, const char *new_name);

/*
 * rollback_write - a write to @bucket has failed with -ENOSPC: do what must be possible nevertheless.
 * @cached: the kernel writes back what it answered for long ago
 * Returns 0 if all of it is as it should be, or rollback_sync() will tell; -ENOSPC if some of it is not, or another
 * error of the engine.
 */
int rollback_write(struct rollback *rollback, uint32_t bucket, uint64_t offset, const void *buf, size_t length,
		   bool cached);

/* rollback_written - these bytes of @bucket were written as they should be, without rollback_write(). */
void rollback_written(struct rollback *rollback, uint32_t bucket, uint64_t offset, size_t length);

/* rollback_sync - before @bucket is synced: 0, or -ENOSPC if it is a database of which something was not written. */
int rollback_sync(struct rollback *rollback, uint32_t bucket);

#endif
