/* SPDX-License-Identifier: MIT */
/*
 * commit.h - commits, and whatever else must see what the kernel has not written back yet.
 *
 * With the writeback cache the newest bytes of a file may be in the kernel only. Neither sync(2) nor
 * syncfs(2) brings them here: each file must be flushed by itself, through the mount. Only files with a
 * writable handle can have any, since closing one flushes it.
 *
 * That is the work of one thread of its own, because it may wait, and whoever serves requests may not: what
 * it waits for are requests. What goes through the mount for it is a process of its own (flusher.h), since a
 * thread of a daemon that is killed could not end. Meanwhile no lock of ours or the engine's is held; and
 * nobody waits for a lock on a directory, for a setxattr(2) that asked for the commit holds the root's.
 *
 * A commit goes on only in a moment in which each database, as it has arrived here, is what SQLite's own recovery makes
 * whole. Nearly always the requests alone tell so (evidence.h), no lock is taken, and nobody is stopped. Databases of
 * which they do not tell are locked, for the moment of freezing, if that is possible at once; else, after some 20 ms
 * of trying, the commit fails with EBUSY, and the log names the database.
 *
 *     flush all  ->  learn  ->  mojo_freeze(last look)  ->  unlock  ->  settle  ->  publish  ->  reply
 *                      ^          | suspects                 (writers go on in the next version)
 *                      +-- lock --+
 *
 * All functions may be called from any thread.
 */
#ifndef FUSE_COMMIT_H
#define FUSE_COMMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "flusher.h"
#include "mount.h"
#include "tree.h"
#include "verify.h"

struct commit; /* opaque: the thread and its queue */

struct commit_options {
	bool settles;          /* else what is there is frozen as it is */
	mojo_event_fn *event;  /* what a user should know */
	void *event_arg;       /* borrowed until commit_free() */
	struct verify *verify; /* gets each new version; NULL: none does. Borrowed */
};

/* commit_new - start the thread. @tree, @mount and @flusher are borrowed until commit_free(). -ENOMEM, -EAGAIN. */
int commit_new(struct tree *tree, struct mount *mount, struct flusher *flusher, const struct commit_options *options,
	       struct commit **ret_commit);

/*
 * commit_finish - settle and publish the version whose commit a crash cut short, if there is one; drop it, with an
 * event, if that cannot be. Before the store is served.
 * Errors: it could not be dropped either.
 */
int commit_finish(struct mojo_store *store, struct flusher *flusher, mojo_event_fn *event, void *arg);

/* commit_free - do what is queued, end the thread, free. NULL is allowed. */
void commit_free(struct commit *commit);

/*
 * commit_request - flush, freeze, settle, publish, and reply to @req when the version is durable. Replies in every
 * case, now or later. EBUSY: see above.
 * @by_ioctl: it is a REPORT_COMMIT (report.h), else a setxattr
 * @message: @length bytes; copied
 */
void commit_request(struct commit *commit, fuse_req_t req, bool by_ioctl, const char *message, size_t length);

/* commit_seek - flush one file of the active tree, then reply to @req, an lseek for data or a hole. */
void commit_seek(struct commit *commit, fuse_req_t req, uint32_t bucket, uint64_t offset, bool data);

/* commit_last - the version made by the last commit of process @pid; else the newest frozen one; 0 if none. */
uint32_t commit_last(struct commit *commit, pid_t pid);

/* commit_flush - bring all that the kernel holds of files open for writing to the disk. First error met.
 * Not from a thread that serves requests. */
int commit_flush(struct commit *commit);

#endif
