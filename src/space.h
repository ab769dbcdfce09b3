/* SPDX-License-Identifier: MIT */
/*
 * space.h - which blocks are dead, and when their space may be given back.
 *
 * A block dies when nothing refers to it any more. It may be punched only when neither root slot, nor the
 * log since the older of them, can refer to it (invariant 5). With roots k and k + 1 on disk, that is so
 * for what died before root k was taken. Hence three generations:
 *
 *      died since the last root        `fresh`    in memory; the log tells of it again after a crash
 *      died before it                  `waiting`  written into the space tree with that root
 *      died before the root before it  punched after the next root is on stable storage
 *
 * A checkpoint moves them on: fresh -> `settled` -> waiting -> `returning` -> punched. Settled is what its own root is
 * the first to call dead; returning is what is being punched just now.
 *
 * Blocks in use are not recorded anywhere: what the space tree does not call dead is in use, or is not
 * written yet. A chunk whose blocks are all dead is not punched but kept as a spare, to become the next
 * chunk under a new number, or removed.
 *
 * Leaks are possible (a crash between two steps, a dropped version) and harmless: marking, from the kept
 * versions, finds them (see mark in version.h).
 *
 * Thread safety: none; the store's lock is held, but for mojo_space_reclaim_punch().
 */
#ifndef MOJO_SPACE_H
#define MOJO_SPACE_H

#include "btree.h"

#define MOJO_SPACE_GROUP_BLOCKS 1024u /* blocks in one cell of the space tree; fewer if a chunk is smaller */
#define MOJO_SPACE_BITMAP_BYTES (MOJO_SPACE_GROUP_BLOCKS / 8)
#define MOJO_SPACE_SPARES       2u /* wholly dead chunks kept for recycling */

/* A set of blocks, by groups. */
struct mojo_block_group {
	uint64_t group;
	bool used;
	uint8_t bits[MOJO_SPACE_BITMAP_BYTES];
};
struct mojo_block_set {
	struct mojo_block_group *groups; /* open addressing; owned */
	size_t capacity;                 /* a power of two, or 0 */
	size_t count;
};

struct mojo_space_map {
	struct mojo_tree *tree;     /* borrowed: the space tree */
	struct mojo_chunks *chunks; /* borrowed */
	uint32_t group_blocks;
	struct mojo_block_set fresh, settled, waiting;
	/* From mojo_space_reclaim_begin() to _end() its caller's alone, whoever has the lock. */
	struct mojo_block_group *returning; /* owned; in order; of each group what is to be punched, then what was */
	size_t returning_count;
	uint32_t *leaving; /* owned; chunks to be removed */
	size_t leaving_count;
	uint32_t spares[MOJO_SPACE_SPARES];
	unsigned spare_count;
	uint32_t taken[2 * MOJO_SPACE_SPARES]; /* spares that became chunks again; the tree still calls them spare */
	unsigned taken_count;
	_Atomic uint64_t
		reclaim_count; /* rises before anything is punched or removed: readers without the lock compare */
	bool out_of_memory;    /* a death could not be noted: space leaks until the next marking */
};

void mojo_space_map_init(struct mojo_space_map *space, struct mojo_tree *tree, struct mojo_chunks *chunks);
void mojo_space_map_free(struct mojo_space_map *space);

/* mojo_space_load - after the root was read: what waits, and which chunks are spare. */
int mojo_space_load(struct mojo_space_map *space);

/* mojo_space_kill - @count blocks from @address on are dead. */
void mojo_space_kill(struct mojo_space_map *space, uint64_t address, uint64_t count);

/* mojo_space_settle - before a root is taken: write all fresh deaths into the space tree, those that this
 * itself causes included. They are settled then. */
int mojo_space_settle(struct mojo_space_map *space);

/*
 * After that root is on stable storage, in three steps, of which the second takes long and needs no lock:
 * _begin - choose what is punched and which chunks are spare or go, of what waited; what was settled waits now.
 * _punch - do it. Any thread, but one at a time. The host's errors are not fatal: such blocks wait for the next opening.
 * _end - tell the space tree. Nothing may have been settled since _begin.
 */
int mojo_space_reclaim_begin(struct mojo_space_map *space);
void mojo_space_reclaim_punch(struct mojo_space_map *space);
int mojo_space_reclaim_end(struct mojo_space_map *space);

/* mojo_space_take_spare - number of a chunk to recycle, or -1. The caller renames it. Does not touch the tree,
 * which may be on its way to the disk. */
int64_t mojo_space_take_spare(struct mojo_space_map *space);
/* mojo_space_return_spare - @chunk, that was just taken, could not be renamed: nothing has happened. */
void mojo_space_return_spare(struct mojo_space_map *space, uint32_t chunk);

/* mojo_space_is_dead - is the block known dead (in any generation)? For checks. */
int mojo_space_is_dead(struct mojo_space_map *space, uint64_t address, bool *ret_dead);

/* mojo_space_unreturned - blocks that the next two checkpoints will give back. */
uint64_t mojo_space_unreturned(const struct mojo_space_map *space);

/* Sets of blocks. add: -ENOMEM. */
int mojo_block_set_add(struct mojo_block_set *set, uint32_t group_blocks, uint64_t address, uint64_t count);
uint64_t mojo_block_set_count(const struct mojo_block_set *set);
bool mojo_block_set_has(const struct mojo_block_set *set, uint32_t group_blocks, uint64_t address);
void mojo_block_set_free(struct mojo_block_set *set);

#endif
