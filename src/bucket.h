/* SPDX-License-Identifier: MIT */
/*
 * bucket.h - the bytes of one file: ranges of any offset and length over fixed-size pages.
 *
 * Invariant: bytes of a page behind the file's end are zero, so that a file that grows reads zeros there.
 * A page's content is, in this order: in the open batch, in the group being written, in its block.
 *
 * Two trees can be written to: the active version's (store->main) and, while it is being settled, the unpublished
 * one's (store->settling, between mojo_settle_begin() and mojo_settle_end()).
 */
#ifndef MOJO_BUCKET_H
#define MOJO_BUCKET_H

#include "state.h"

/* mojo_bucket_put - [begin was called with the pages in the range] write a piece and update the inode, its times only
 * if @set_times. */
int mojo_bucket_put(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket, uint64_t offset, const void *buf,
		    size_t length, bool set_times);

/* mojo_bucket_resize - [begin was called with one page] as truncate(2). @inode is stored anew. */
int mojo_bucket_resize(struct mojo_store *store, struct mojo_tree *tree, struct mojo_inode *inode, uint64_t size);

/* mojo_bucket_hold - which of @count pages, one behind the other in one bucket of the unpublished version, are what a
 * block holds that this version, or the one before it, has for them? Sets `held` and `entry`. The blocks are read and
 * compared; what cannot be read is no match. */
void mojo_bucket_hold(struct mojo_store *store, struct mojo_log_page **pages, uint32_t count);

#endif
