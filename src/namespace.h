/* SPDX-License-Identifier: MIT */
/*
 * namespace.h - inodes, names and attributes; the operations on directories.
 *
 * In a main tree: an inode per bucket, an entry per name, keyed by directory and *cookie*. The cookie is
 * a hash of the name with room for collisions below it: it finds a name in one look-up, and lets a
 * listing go on where it stopped however the directory changes meanwhile.
 *
 *   cookie = 1 << 61 | (54 bits of XXH3-64 of the name) << 7 | n,   n = 0..127 among equal hashes
 *
 * An unlinked bucket that is held has nlink 0 and an orphan key; it goes when the last hold does, or at
 * the next opening.
 */
#ifndef MOJO_NAMESPACE_H
#define MOJO_NAMESPACE_H

#include "state.h"

/* Reading. -ENOENT if there is no such bucket. */
int mojo_inode_get(const struct mojo_tree *tree, uint32_t bucket, struct mojo_inode *ret_inode);

/* @tree, here and below: of the active version, or of the unpublished one between mojo_settle_begin() and
 * mojo_settle_end(). */

/* mojo_inode_put - store an inode: keeps the orphan list, and counts the files of the active version. Not logged. */
int mojo_inode_put(struct mojo_store *store, struct mojo_tree *tree, const struct mojo_inode *inode);
/* mojo_inode_update - the same, and the inode goes out with the next group. */
int mojo_inode_update(struct mojo_store *store, struct mojo_tree *tree, const struct mojo_inode *inode);

/* What records do to a tree; the live operations go through the same functions. */
int mojo_apply_inode(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket, const uint8_t *bytes,
		     size_t length);
int mojo_apply_link(struct mojo_store *store, const struct mojo_record_link *link);
int mojo_apply_unlink(struct mojo_tree *tree, uint32_t dir, uint64_t cookie);
int mojo_apply_remove(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket);
int mojo_apply_clear(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket, uint64_t first, uint64_t count);

/* mojo_name_cookie - the first of the 128 cookies that an entry with this name may have. */
uint64_t mojo_name_cookie(const char *name, size_t length);

/* mojo_remove_bucket - [begin was called] a bucket without a name goes, content and all. */
int mojo_remove_bucket(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket);
/* mojo_remove_orphans - [unlocks] at opening: what was unlinked while it was open. */
int mojo_remove_orphans(struct mojo_store *store);

/* mojo_make_root - the root directory of a new store. */
int mojo_make_root(struct mojo_store *store, const struct mojo_geometry *geometry);

#endif
