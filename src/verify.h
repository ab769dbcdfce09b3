/* SPDX-License-Identifier: MIT */
/*
 * verify.h - every tree of every version, looked at once, and every block held against the account of dead ones.
 *
 * Pieces of the index that versions share are visited once. What must hold for a version as a whole (each entry
 * has its inode, each directory as many entries as it says, each file as many pages) is worked out without
 * visiting them again: each cell adds to, or takes from, a balance, a sum of hashes modulo 2^64, kept per node. In a
 * version whose names and counts agree, the root's balance is zero. Where it is not, agree.h looks at that
 * version cell by cell and says what is wrong. (A wrong version escapes with a probability of 2^-64.)
 *
 * Memory: for each chunk file with a block in use, two bytes a block; for each block that the space tree knows, two
 * bits; 48 bytes for each node and slot.
 */
#ifndef MOJO_VERIFY_H
#define MOJO_VERIFY_H

#include "finding.h"

/*
 * mojo_verify - check the trees of @store, replayed, and the chunk files. Nobody else uses the store.
 * @other: the root in the other slot, which is to be good enough to be fallen back upon; NULL: there is none
 * Returns 0 whatever was found; -ECANCELED, -ENOMEM, host errors.
 */
int mojo_verify(struct mojo_store *store, const struct mojo_root *other, struct mojo_sink *sink);

/* mojo_tree_whole - can every node and slot below @ref be read? @known remembers those that can, by address.
 * -EUCLEAN: no. */
int mojo_tree_whole(struct mojo_store *store, const uint8_t *ref, enum mojo_tree_kind kind,
		    struct mojo_block_set *known);

#endif
