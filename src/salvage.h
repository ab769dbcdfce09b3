/* SPDX-License-Identifier: MIT */
/*
 * salvage.h - take out of the trees of a store what cannot be read, and remember what may have been in it.
 *
 * Works on a store opened by mojo_open_mending() for writing, in memory. See repair.h for what becomes of what.
 */
#ifndef MOJO_SALVAGE_H
#define MOJO_SALVAGE_H

#include "state.h"

/* Keys of a main tree that may be lost: low <= key < high; a length of 0 in `high`: no bound. */
struct mojo_lost_keys {
	uint32_t version;
	uint8_t low[MOJO_KEY_BYTES_MAX], high[MOJO_KEY_BYTES_MAX];
	unsigned low_length, high_length;
};

struct mojo_salvage {
	struct mojo_store *store; /* borrowed */
	/* Told of each piece that is taken out, with its blocks, before it is; may be NULL. */
	void (*aside)(void *arg, uint64_t address, uint32_t blocks);
	/* Told in words of what else is lost or done; may be NULL. */
	void (*tell)(void *arg, const char *text);
	void *arg;

	struct mojo_block_set whole; /* pieces that can be read, with all below them */
	struct mojo_lost_keys *lost; /* owned */
	size_t lost_count, lost_capacity;
	uint64_t pieces;             /* taken out */
	bool active_replaced;        /* the active version is a copy of a frozen one now: the log does not fit it */
	struct mojo_blob *lost_slot; /* one whole slot of lost pages, shared; owned */
};

/* mojo_salvage_trees - before the log is replayed: the versions tree, and every version's. */
int mojo_salvage_trees(struct mojo_salvage *s);

/* mojo_salvage_pages - after it: pages that may have been in what was taken out become lost, where the version
 * has none at their place. */
int mojo_salvage_pages(struct mojo_salvage *s);

void mojo_salvage_free(struct mojo_salvage *s);

/* mojo_each_version - call @fn with the tree of each kept version, the active one last. What it changed is kept. */
typedef int mojo_version_fn(void *arg, struct mojo_tree *tree, uint32_t version);
int mojo_each_version(struct mojo_store *store, mojo_version_fn *fn, void *arg);

#endif
