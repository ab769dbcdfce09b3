/* SPDX-License-Identifier: MIT */
/*
 * version.h - freezing the active version, settling and publishing it; finding frozen ones, forgetting them.
 *
 * The versions tree maps a number (be32) to what is kept of that version (mojo_version_encode() in format.h): the root
 * of its main tree, time, message, verdict. To freeze is to put the active tree's root there, once more retained,
 * and to give what follows a new label. Nothing is copied.
 *
 *     active N --- mojo_commit() -------------------------------------+---> frozen N
 *        |                                                            |
 *        +------- mojo_freeze() ---> unpublished N --- mojo_publish() +
 *                                     |        ^  |
 *                                     +--------+  +-- mojo_version_drop() ---> gone
 *                                      settled by mojo_settle_*()
 *
 * At most one version is unpublished, and it is the one below the active one. Its tree is `store->settling`. The root in
 * its cell of the versions tree is the one that counts: who changes the tree begins with mojo_settle_begin(), and
 * puts the root back with mojo_settle_end(). So checkpoints, marking and checks need not know of it.
 *
 * A version that was changed while it was unpublished is marked as settled for good: what it has cannot be told by
 * labels alone (btree.h, "What dies").
 */
#ifndef MOJO_VERSION_H
#define MOJO_VERSION_H

#include "state.h"

/* What the records do. -EUCLEAN: it does not fit what is there. */
int mojo_apply_commit(struct mojo_store *store, const struct mojo_record_commit *commit, bool unpublished);
int mojo_apply_publish(struct mojo_store *store, uint32_t version);
int mojo_apply_drop(struct mojo_store *store, uint32_t version);                             /* -ENOENT */
int mojo_apply_verdict(struct mojo_store *store, const struct mojo_record_verdict *verdict); /* -ENOENT */

/*
 * mojo_settle_begin - the tree in which to change @version: MOJO_ACTIVE, or the unpublished one. -ENOENT for any other.
 * mojo_settle_end - ends the change, whether it came to be or not. The lock is not let go of in between. Fails only
 * if the index is not what it was a moment ago; the store is poisoned then.
 */
int mojo_settle_begin(struct mojo_store *store, uint32_t version, struct mojo_tree **ret_tree);
int mojo_settle_end(struct mojo_store *store, const struct mojo_tree *tree);

/* mojo_version_below - the tree of the newest kept version below @version, for reading under the lock held now. -ENOENT.
 */
int mojo_version_below(struct mojo_store *store, uint32_t version, struct mojo_tree *ret_tree);

/* mojo_begin_closing - [unlocks] mojo_begin() for a group with a closing record: nothing is in flight, no checkpoint wants
 * quiet, and from here to the record the lock stays the caller's. Errors as mojo_begin(). */
int mojo_begin_closing(struct mojo_store *store, enum mojo_claim claim);

/* mojo_version_next_kept - [takes the lock] as mojo_version_next(), but an unpublished version is not passed over. */
int mojo_version_next_kept(struct mojo_store *store, uint32_t from, struct mojo_version_info *ret_info);

/*
 * mojo_find_held - from the versions tree: which version is unpublished, and what the trees that may change share with
 * frozen ones and must not let die. To be called when the versions tree changed, and when it was written out, for
 * roots have other places then. Sets `unpublished`, `settling`, `settled`, and `held` of the main tree.
 */
int mojo_find_held(struct mojo_store *store);

#endif
