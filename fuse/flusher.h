/* SPDX-License-Identifier: MIT */
/*
 * flusher.h - a process of its own that goes through the mount, so that the daemon need not.
 *
 * What the kernel has not written back yet is brought to the daemon by opening the file through the mount and
 * asking for it (commit.h). A thread of the daemon that does so waits for the daemon: and if the daemon is killed
 * just then, that thread can never end, for the kernel lets nobody out of a request that was taken. /dev/fuse and the
 * store's lock stay open with it, the connection is never given up, and everybody who uses the mount waits for
 * ever. This process holds neither; when the daemon dies, the connection does, and with it whatever is waited for.
 * Where the daemon itself has to wait for the kernel (files that have no path any more, unmounting), and is killed
 * then, this process learns of it and ends the connection by force.
 *
 *	daemon                            flusher (started before there is a store, a mount, or a thread)
 *	  path, inode, device  -------->    find the mount, open the path, sync_file_range; or lock it as SQLite does
 *	                       <--------    0 or -errno
 */
#ifndef FUSE_FLUSHER_H
#define FUSE_FLUSHER_H

#include <stdbool.h>
#include <stdint.h>

#include "mount.h"

struct flusher; /* opaque */

/*
 * flusher_start - fork. To be called while there is but one thread, with nothing open that the other process must
 * not keep from being closed: it closes all it has, but that is a moment later.
 * @mount: not mounted yet; the other process uses its copy
 * Errors: of socketpair(2) and fork(2), -ENOMEM.
 */
int flusher_start(struct mount *mount, struct flusher **ret_flusher);

/* flusher_end - the process ends, and is waited for. NULL is allowed. */
void flusher_end(struct flusher *flusher);

/*
 * flusher_flush - bring what the kernel holds of one file to the daemon. From one thread only.
 * @path: below the root of the mount
 * @ino: what must be found there
 * Errors: -EAGAIN: it was not there, or cannot be opened without waiting for locks, or there is no flusher any more;
 * -ETIMEDOUT: no answer for two minutes; others as sync_file_range(2).
 */
int flusher_flush(struct flusher *flusher, const char *path, uint64_t ino);

/*
 * flusher_lock - keep SQLite from writing to a database, if nobody is, within some milliseconds: with a shared lock on it, and
 * on RESERVED; in WAL mode (@wal_mode) instead of the latter those of a writer and of a checkpoint in its x-shm, if there
 * is one. Held until flusher_unlock() or flusher_rest(), or until the process ends, which is with the daemon.
 * @path, @ino: as above
 * Errors: -EBUSY: somebody holds a lock that is in the way; -EAGAIN as above, and where the daemon may not write to
 * the file; -ETIMEDOUT.
 */
int flusher_lock(struct flusher *flusher, const char *path, uint64_t ino, bool wal_mode);

/*
 * flusher_exists - is there anything at this absolute path of the host? 0, or -ENOENT: no; what lies in the mount itself
 * is not looked at, and not there. Others if it cannot be told; symbolic links are not followed (-ELOOP).
 */
int flusher_exists(struct flusher *flusher, const char *path);

/* flusher_unlock - all of them, at once; when it returns they are gone. */
void flusher_unlock(struct flusher *flusher);

/* flusher_is_gone - has it been found to be killed, or not to answer? */
bool flusher_is_gone(const struct flusher *flusher);

/* flusher_rest - let go of the mount until it is needed again: what is open keeps it from being unmounted, and is not any
 * more when this returns. */
void flusher_rest(struct flusher *flusher);

/* flusher_learn - it is mounted now. Does not wait. */
void flusher_learn(struct flusher *flusher);

#endif
