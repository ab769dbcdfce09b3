/* SPDX-License-Identifier: MIT */
/*
 * locks.h - what the connections of one process share about one database: SQLite's file locks, and the shared memory
 * of a WAL with its locks.
 *
 * A store is open in one process at a time, so that this is all that SQLite needs to keep its connections apart. Rules
 * as in SQLite's file locking: any number of SHARED; one RESERVED beside them; PENDING lets no new SHARED in; EXCLUSIVE
 * is alone. Nothing here waits: what is held by another gives -EBUSY.
 *
 * All functions may be called from any thread; of one user, one call at a time.
 */
#ifndef SQLITE_LOCKS_H
#define SQLITE_LOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In rising order; the numbers are SQLite's (SQLITE_LOCK_NONE ... SQLITE_LOCK_EXCLUSIVE). */
enum locks_level { LOCKS_NONE, LOCKS_SHARED, LOCKS_RESERVED, LOCKS_PENDING, LOCKS_EXCLUSIVE };

enum { LOCKS_SHM_SLOTS = 8 }; /* locks of the shared memory: SQLite's SQLITE_SHM_NLOCK */

struct locks; /* opaque: of one database */

/* One open file's part in it. Zeroed before locks_join(); otherwise for locks.c only. */
struct locks_user {
	struct locks *locks; /* borrowed */
	enum locks_level level;
	unsigned shm_shared, shm_exclusive; /* bit n: slot n is held */
	bool is_mapped;
};

/* locks_new - nobody holds anything. locks_free() when no user is left; NULL is allowed. -ENOMEM. */
int locks_new(struct locks **ret_locks);
void locks_free(struct locks *locks);

/* locks_join - @user takes part. locks_leave gives up all that it holds. */
void locks_join(struct locks *locks, struct locks_user *user);
void locks_leave(struct locks_user *user);

/* locks_acquire - raise to SHARED, RESERVED or EXCLUSIVE; a lower or equal @level does nothing. -EBUSY: held by
 * another. An attempt at EXCLUSIVE that only readers stand in the way of leaves the user PENDING. */
int locks_acquire(struct locks_user *user, enum locks_level level);

/* locks_release - lower to SHARED or NONE. */
void locks_release(struct locks_user *user, enum locks_level level);

/* locks_is_reserved - does anybody, this user included, hold RESERVED or more? */
bool locks_is_reserved(const struct locks_user *user);

/* locks_map - region number @region, of @bytes (the same for all), of the shared memory; zeros at first. It stays where
 * it is until the last user unmaps. Without @extend one that nobody made yet gives NULL. -ENOMEM. */
int locks_map(struct locks_user *user, unsigned region, size_t bytes, bool extend, void **ret_memory);

/* locks_unmap - give up the shared memory and its locks; with the last user it is gone. */
void locks_unmap(struct locks_user *user);

/* locks_shm_acquire, locks_shm_release - slots @first .. @first + @count - 1, shared or exclusive. -EBUSY. */
int locks_shm_acquire(struct locks_user *user, unsigned first, unsigned count, bool exclusive);
void locks_shm_release(struct locks_user *user, unsigned first, unsigned count);

/* locks_barrier - what this thread wrote to shared memory before is seen by others before what it does next. */
void locks_barrier(struct locks_user *user);

#endif
