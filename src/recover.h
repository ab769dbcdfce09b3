/* SPDX-License-Identifier: MIT */
/*
 * recover.h - from what is on disk to the state as it was: the root, and the log since.
 *
 * The log is read from the root's position on, group by group in order of sequence, until one is missing
 * or does not match its checksum. Only whole batches count. Groups up to the highest durable_sequence seen
 * were flushed before a later group was written: they are trusted. Behind that, at most one batch may
 * have been on its way when the world ended; its pages are checked as well, and if one is wrong the batch
 * never happened.
 *
 * The end of the log is told from damage so: if any valid group, further on, says that the missing one was
 * durable, then it has been lost, and the store is not opened for writing.
 */
#ifndef MOJO_RECOVER_H
#define MOJO_RECOVER_H

#include "state.h"

/*
 * mojo_recover_root - read both root slots and choose the valid one of the higher generation.
 * -ENOENT (no state file content), -EPROTONOSUPPORT, -EUCLEAN; an event says why.
 */
int mojo_recover_root(struct mojo_io *io, struct mojo_io_file *state_file, const struct mojo_config *config,
		      struct mojo_root *ret_root, unsigned *ret_slot);

/* mojo_recover_log - replay. The trees, the counts and the log's position are as they were at the last whole
 * batch. Called once, before any other thread knows the store; writes nothing. -EUCLEAN: damaged. */
int mojo_recover_log(struct mojo_store *store);

/* mojo_recover_follow - how far the log can be read from @root on, which may be another than the store's: the
 * sequence of the group that would be next. For checks. */
int mojo_recover_follow(struct mojo_store *store, const struct mojo_root *root, uint64_t *ret_sequence);

#endif
