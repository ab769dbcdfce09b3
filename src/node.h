/* SPDX-License-Identifier: MIT */
/*
 * node.h - one node of a tree: sorted cells in a fixed block of bytes. No I/O, no pointers followed.
 *
 *   0  magic "MNOD"      4  level (0: leaf)    5  kind (enum mojo_tree_kind)    6  cells (16 bits)
 *   8  first byte of cell content (16)        10  bytes lost to holes in it (16)   12  zero (32)
 *  16  offset of each cell (16 bits each), in key order; then free space; then cells: key length (16),
 *      value length (16), key, value
 *
 * In a node of level > 0 the values are references to children, and child i holds the keys from key i up
 * to, but not including, key i + 1; the first key counts as lower than all.
 *
 * Thread safety: pure functions on the caller's bytes.
 */
#ifndef MOJO_NODE_H
#define MOJO_NODE_H

#include "format.h"

#define MOJO_NODE_BYTES_MAX   16384u /* a larger page holds one node all the same */
#define MOJO_NODE_FIXED_BYTES 16u
#define MOJO_CELL_FIXED_BYTES 4u
#define MOJO_KEY_BYTES_MAX    16u
#define MOJO_VALUE_BYTES_MAX  1240u /* with its key a cell is below a third of the smallest node */

enum mojo_tree_kind {
	MOJO_TREE_MAIN = 1,     /* inodes, entries of directories, slots: one tree per version */
	MOJO_TREE_VERSIONS = 2, /* frozen versions */
	MOJO_TREE_SPACE = 3,    /* dead blocks */
};

/* First byte of a key in the main tree. */
enum mojo_key_type {
	MOJO_KEY_INODE = 1,  /* bucket (be32) -> inode */
	MOJO_KEY_ENTRY = 2,  /* directory (be32), cookie (be64) -> child (32), mode (32), name */
	MOJO_KEY_SLOT = 3,   /* bucket (be32), slot (be32) -> reference, count of deltas (16), deltas */
	MOJO_KEY_ORPHAN = 4, /* bucket (be32) -> nothing: unlinked while it was open */
};

/* First byte of a key in the space tree. */
enum mojo_space_key_type {
	MOJO_SPACE_GROUP = 1,   /* group of blocks (be64) -> dead bits, punched bits */
	MOJO_SPACE_PENDING = 2, /* group of blocks (be64) -> nothing: has dead blocks not yet punched */
	MOJO_SPACE_CHUNK = 3,   /* chunk (be32) -> dead blocks (32), punched blocks (32) */
	MOJO_SPACE_SPARE = 4,   /* chunk (be32) -> nothing: wholly dead, kept to be recycled */
};

static inline unsigned mojo_node_level(const uint8_t *node)
{
	return node[4];
}
static inline unsigned mojo_node_kind(const uint8_t *node)
{
	return node[5];
}
static inline unsigned mojo_node_count(const uint8_t *node)
{
	return mojo_get16(node + 6);
}

void mojo_node_init(uint8_t *node, uint32_t node_bytes, unsigned level, unsigned kind);
/* Is this, read from disk, a node whose every cell lies within it, in strict order, with possible references? */
bool mojo_node_valid(const uint8_t *node, uint32_t node_bytes);

const uint8_t *mojo_node_key(const uint8_t *node, unsigned index, unsigned *ret_length);
uint8_t *mojo_node_value(uint8_t *node, unsigned index, unsigned *ret_length);

/* Index of the first cell whose key is >= @key (count if there is none); *ret_exact: is it equal? */
unsigned mojo_node_find(const uint8_t *node, const uint8_t *key, unsigned length, bool *ret_exact);
/* Index of the child that holds @key. */
unsigned mojo_node_child(const uint8_t *node, const uint8_t *key, unsigned length);

/* Bytes of the cells with their offsets: what the node would need if it were packed. */
uint32_t mojo_node_used(const uint8_t *node, uint32_t node_bytes);
/* Puts a cell in at @index; false if there is no room for it. */
bool mojo_node_insert(uint8_t *node, uint32_t node_bytes, unsigned index, const uint8_t *key, unsigned key_length,
		      const uint8_t *value, unsigned value_length);
void mojo_node_remove(uint8_t *node, unsigned index);
/* Moves the cells from @index on to the empty node @to. */
void mojo_node_split(uint8_t *node, uint8_t *to, uint32_t node_bytes, unsigned index);

/* Where in the value of a leaf of @kind with @key stands a reference? Its offset, or -1. */
int mojo_leaf_ref_offset(unsigned kind, const uint8_t *key, unsigned length);
/* Calls @fn on each non-null reference in the node. */
void mojo_node_each_ref(uint8_t *node, void (*fn)(void *arg, uint8_t *ref), void *arg);

#endif
