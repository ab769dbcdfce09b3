/* SPDX-License-Identifier: MIT */
/*
 * verify.h - checks the databases of versions, one version after the other, in a thread of its own.
 *
 * It reads the store as any other reader does, not through the mount. What came of it is kept with the version; a bad
 * one is told of by an event, too. What is still waiting when the mount ends is not looked at.
 * All functions may be called from any thread, but verify_free().
 */
#ifndef FUSE_VERIFY_H
#define FUSE_VERIFY_H

#include "tree.h"

struct verify; /* opaque */

/* verify_new - nothing runs yet. @tree and @arg: borrowed until verify_free(). -ENOMEM, -EAGAIN. */
int verify_new(struct tree *tree, mojo_event_fn *event, void *arg, struct verify **ret_verify);

/* verify_free - give up what runs, wait for it, free. NULL is allowed. */
void verify_free(struct verify *verify);

/* verify_version - to be looked at, when its turn comes. -ENOENT: not kept, or not frozen; -EROFS: nothing can be kept
 * with it; -ENOMEM. */
int verify_version(struct verify *verify, uint32_t version);

#endif
