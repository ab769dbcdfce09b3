/* SPDX-License-Identifier: MIT */
/*
 * finish.h - the second half of a commit: settle the frozen version and publish it, or give it up.
 *
 *     mojo_freeze()  -->  unpublished  --settle_finish()-->  published
 *                              |                       \-->  dropped, if it cannot be settled
 *                              | crash
 *                              v
 *                         unpublished, at the next opening  --settle_leftover()-->  the same
 *
 * Not for two threads on one store at once: one version is unpublished at a time.
 */
#ifndef SQLITE_FINISH_H
#define SQLITE_FINISH_H

#include "settle.h"

/*
 * settle_finish - settle and publish; when this returns 0 the version is durable. On failure it is given up, with an
 * event: dropped, or, if that fails, too, left for settle_leftover().
 * @files, @count, @options: as settle_version(); the event of @options may not be NULL
 * Errors: as settle_version() and mojo_publish().
 */
int settle_finish(struct mojo_store *store, uint32_t version, const struct settle_file *files, size_t count,
		  const struct settle_options *options);

/*
 * settle_leftover - finish the commit that a crash cut short, if there is one.
 * Returns 0 also if the version had to be dropped, of which an event tells. Errors: it is unpublished still.
 */
int settle_leftover(struct mojo_store *store, const struct settle_options *options);

/*
 * settle_commit - a whole commit of a store that nobody writes to meanwhile: leftover, freeze, finish.
 * @message: @length bytes, as mojo_commit()
 */
int settle_commit(struct mojo_store *store, const char *message, size_t length, const struct settle_options *options,
		  uint32_t *ret_version);

#endif
