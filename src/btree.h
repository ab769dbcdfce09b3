/* SPDX-License-Identifier: MIT */
/*
 * btree.h - ordered maps from short keys to short values, copied on write, shared between versions.
 *
 * A tree is a reference to its root node and a version label. Copying the reference (and retaining it)
 * freezes the tree as it is at that moment: later changes copy the nodes on their way. Cost of a look-up
 * or change: the height; of a freeze: nothing.
 *
 * Values may hold a reference to a blob at the place that mojo_leaf_ref_offset() names. The tree retains
 * such references when it copies a leaf. It moves bytes and no more when a value is put, replaced or
 * deleted: whoever puts one in gives its count to the tree, whoever replaces or deletes one takes the
 * count back.
 *
 * Thread safety: none; the store's lock is held. Errors: -EUCLEAN, -EIO, -ENOMEM from reading nodes. A
 * change that fails leaves the content as it was.
 */
#ifndef MOJO_BTREE_H
#define MOJO_BTREE_H

#include "blob.h"
#include "node.h"

struct mojo_settled;

struct mojo_tree {
	struct mojo_blobs *blobs; /* borrowed */
	enum mojo_tree_kind kind;
	uint32_t version; /* label of what is written; 1 in trees without versions */
	uint32_t held;    /* what is labelled with this version, or a lower one, is held by a frozen version */
	uint8_t root[MOJO_REF_BYTES];
	const struct mojo_tree *above;      /* borrowed; a later version that shares with this one. NULL: none */
	const struct mojo_settled *settled; /* borrowed; NULL: none */
};

/*
 * What dies. What a tree lets go of, labelled L, may be held by the kept versions from L up to the tree's own. As a
 * rule one look at L tells: what the tree has, and was there when a version froze, that version has, too. So if a
 * version is kept that is L or above, it holds it.
 *
 * That is not so for versions that were changed after they froze (settled, see version.h): such a one may have let go
 * of what those below and above it still share. So `held` is the newest kept version that was *not* settled; the
 * settled ones above it are listed here, and are asked one by one whether they refer to the thing at hand. A version
 * that is being settled also asks the active one (`above`). What nobody refers to any more is dead, and whoever
 * lets go of it last finds that out: nothing is leaked, and nothing shared is called dead.
 */
#define MOJO_SETTLED_MAX 64u /* asked; behind so many, one rather takes what is doubtful for held */

struct mojo_settled {
	unsigned count;
	bool cut;                                 /* there are more, from `held` of the trees on down */
	struct mojo_tree trees[MOJO_SETTLED_MAX]; /* newest first; roots are borrowed */
	/* The version `held` of the trees. What clones share is asked for there as well: labels do not tell of that. */
	struct mojo_tree base; /* version 0: there is none; the root is borrowed */
};

/* Does @other refer to @what? */
typedef int mojo_refers_fn(const struct mojo_tree *other, const void *what, bool *ret_refers);

/* mojo_tree_alone - is nobody but this tree a holder of what is labelled @label? @fn answers for one other tree; its
 * errors count as yes, and as doubt. */
bool mojo_tree_alone(const struct mojo_tree *tree, uint32_t label, mojo_refers_fn *fn, const void *what);
/* mojo_tree_others - are there trees to be asked at all? If not, what is above `held` is alone. */
bool mojo_tree_others(const struct mojo_tree *tree);

struct mojo_cell {
	uint8_t key[MOJO_KEY_BYTES_MAX];
	unsigned key_length;
	uint8_t value[MOJO_VALUE_BYTES_MAX];
	unsigned value_length;
};

/* mojo_tree_get - -ENOENT if the key is absent. Fills value and value_length of @ret_cell. */
int mojo_tree_get(const struct mojo_tree *tree, const uint8_t *key, unsigned key_length, struct mojo_cell *ret_cell);
/* mojo_tree_next - the first cell with a key >= @key (> @key if @behind); -ENOENT if there is none. */
int mojo_tree_next(const struct mojo_tree *tree, const uint8_t *key, unsigned key_length, bool behind,
		   struct mojo_cell *ret_cell);
/* mojo_tree_before - the last cell with a key < @key; -ENOENT if there is none. */
int mojo_tree_before(const struct mojo_tree *tree, const uint8_t *key, unsigned key_length, struct mojo_cell *ret_cell);
/* mojo_tree_next_changed - the first cell with a key > @key that @other does not have, or has with another value;
 * -ENOENT if there is none. Nodes that both share are passed over. */
int mojo_tree_next_changed(const struct mojo_tree *tree, const struct mojo_tree *other, const uint8_t *key,
			   unsigned key_length, struct mojo_cell *ret_cell);
int mojo_tree_put(struct mojo_tree *tree, const uint8_t *key, unsigned key_length, const uint8_t *value,
		  unsigned value_length);
/* mojo_tree_delete - -ENOENT if absent. */
int mojo_tree_delete(struct mojo_tree *tree, const uint8_t *key, unsigned key_length);
/* mojo_tree_owns - is the leaf for @key this tree's own, so that a change in it copies nothing? */
bool mojo_tree_owns(const struct mojo_tree *tree, const uint8_t *key, unsigned key_length);
/* mojo_tree_touch - make the leaf with @key this tree's own and return where the value stands in it; the
 * bytes may be changed in place until the next call on any tree. */
int mojo_tree_touch(struct mojo_tree *tree, const uint8_t *key, unsigned key_length, uint8_t **ret_value,
		    unsigned *ret_value_length);
/* mojo_tree_release - let go of the root, without killing anything on disk. */
void mojo_tree_release(struct mojo_tree *tree);

#endif
