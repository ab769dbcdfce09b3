/* SPDX-License-Identifier: MIT */
/*
 * clone.h - pages that files share: mojo_copy() of mojo.h, as entries where that is possible, else as bytes.
 *
 * A clone is an entry of the index that is there twice. It can be made where the checksum allows, which is seeded with
 * bucket and page number: at the same page of a file that takes the source's seed for its own (struct mojo_inode), which
 * it can while it has no content of another seed.
 *
 * Labels tell which *versions* hold a block, for one place. That another place holds it, too, each of the two files
 * says by an address (`shared` of its inode): what lies below it, and only that, may be another file's as well, for the
 * log only ever appends. So:
 *
 *   C1  if a block is held at a bucket of a tree that can change, and at another bucket of any kept tree, then
 *       `shared` of the first bucket's inode is above the block's address
 *
 * and what a file lets go of below that address is not called dead, but left to marking (slotmap.h).
 */
#ifndef MOJO_CLONE_H
#define MOJO_CLONE_H

#include "state.h"

/* mojo_apply_clone - [the pages of both files that wait have entries] carry the record out. @limit: an address above
 * all that has entries: the end of the group in which the record stands. -EUCLEAN: the record does not fit. */
int mojo_apply_clone(struct mojo_store *store, const struct mojo_record_clone *clone, uint64_t limit);

#endif
