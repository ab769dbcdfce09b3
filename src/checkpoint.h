/* SPDX-License-Identifier: MIT */
/*
 * checkpoint.h - the index written out and the root turned; dead space found and given back.
 *
 *     with the lock, changes wait (quiet)   close and flush the open batch; note the log's position P; write fresh
 *                                           deaths into the space tree; write all dirty blobs as groups of their own,
 *                                           behind P, into the host's memory
 *     without it, and with changes          flush (no other group is written until it is done); write the older root
 *                                           slot anew, with P in it; flush
 *     without it                            give back what the rule in space.h allows
 *
 * What changes after P is in the log behind those groups; it copies what the checkpoint has written, and what dies of it
 * is the next one's. A crash before the root is flushed leaves the old root, from which the log is replayed over the
 * abandoned groups.
 */
#ifndef MOJO_CHECKPOINT_H
#define MOJO_CHECKPOINT_H

#include "state.h"

/* mojo_checkpoint_locked - [unlocks] what was done before the call is in the root on return of 0. Waits for one that
 * another thread takes, and takes its own. -ENOSPC, and nothing has happened, if the disk has no room for it; after any
 * other failure the store takes no more changes. */
int mojo_checkpoint_locked(struct mojo_store *store);

/* mojo_checkpoint_wait - [unlocks] until no checkpoint is being taken. */
void mojo_checkpoint_wait(struct mojo_store *store);

/* mojo_checkpoint_due - has the log, or the index in memory, grown past @factor times its limit? */
bool mojo_checkpoint_due(const struct mojo_store *store, unsigned factor);

/* mojo_checkpoint_blocks - disk space to be left over for checkpoints, so that one is possible now, and those behind it
 * that give back what is dead. The space tree changes while deaths are noted: a leaf for each group of them, at most. */
uint64_t mojo_checkpoint_blocks(const struct mojo_store *store);

/* mojo_root_write - encode @root and put it into slot @slot of the state file, on stable storage. */
int mojo_root_write(struct mojo_store *store, const struct mojo_root *root, unsigned slot);

/* mojo_mark_locked - [unlocks, at the beginning] find and note every block that no kept version refers to. Takes a
 * checkpoint, all through which changes wait. */
int mojo_mark_locked(struct mojo_store *store);

#endif
