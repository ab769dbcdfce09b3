/* SPDX-License-Identifier: MIT */
#include "btree.h"

#include <assert.h>
#include <errno.h>

#define LEVEL_ANY UINT32_MAX

/* A node that splits hands its new right neighbour to its parent. */
struct split {
	struct mojo_blob *right; /* owned; NULL: no split */
	uint8_t key[MOJO_KEY_BYTES_MAX];
	unsigned key_length;
};

/* Retains. @level: which the parent expects, so that a circle in a damaged tree ends. */
static int get_node(const struct mojo_tree *tree, const uint8_t *ref, unsigned level, struct mojo_blob **ret_blob)
{
	struct mojo_blob *blob;
	int err = mojo_blob_get(tree->blobs, ref, MOJO_BLOB_NODE, &blob);
	if (err)
		return err;
	if (mojo_node_kind(blob->data) != tree->kind || (level != LEVEL_ANY && mojo_node_level(blob->data) != level)) {
		mojo_blob_put(tree->blobs, blob);
		return -EUCLEAN;
	}
	*ret_blob = blob;
	return 0;
}

/* ---- what dies ------------------------------------------------------------------------------ */

bool mojo_tree_others(const struct mojo_tree *tree)
{
	return tree->above || (tree->settled && tree->settled->count);
}

static void doubt(const struct mojo_tree *tree)
{
	if (tree->blobs->doubted)
		tree->blobs->doubted(tree->blobs->arg);
}

bool mojo_tree_alone(const struct mojo_tree *tree, uint32_t label, mojo_refers_fn *fn, const void *what)
{
	bool refers = false, cut = tree->settled && tree->settled->cut;
	if (label <= tree->held && !cut)
		return false;
	int err = tree->above ? fn(tree->above, what, &refers) : 0;
	for (unsigned i = 0; tree->settled && i < tree->settled->count && !err && !refers; i++) {
		const struct mojo_tree *other = &tree->settled->trees[i];
		if (other->version < label)
			break;
		if (other->version != tree->version)
			err = fn(other, what, &refers);
	}
	if (err || (!refers && label <= tree->held))
		doubt(tree);
	return !err && !refers && label > tree->held;
}

static bool same_blob(const uint8_t *ref, const uint8_t *other)
{
	if (mojo_ref_in_memory(ref) || mojo_ref_in_memory(other))
		return memcmp(ref, other, MOJO_REF_BYTES) == 0;
	return mojo_ref_decode(ref).address == mojo_ref_decode(other).address;
}

/* A node on disk, and a key that leads to it wherever it is part of a tree: one of its own does, for what is copied on
 * write to go on below it would have changed it. The last one: the first of an inner node may be empty. */
struct wanted {
	const uint8_t *ref, *key;
	unsigned key_length, level;
};

static int refers_to_node(const struct mojo_tree *other, const void *what, bool *ret_refers)
{
	const struct wanted *wanted = what;
	uint8_t ref[MOJO_REF_BYTES];
	unsigned level = LEVEL_ANY;
	memcpy(ref, other->root, MOJO_REF_BYTES);
	*ret_refers = false;
	if (mojo_ref_is_null(ref))
		return 0;
	for (;;) {
		*ret_refers = same_blob(wanted->ref, ref);
		if (*ret_refers || level == wanted->level)
			return 0;
		struct mojo_blob *blob;
		int err = get_node(other, ref, level, &blob);
		if (err)
			return err;
		level = mojo_node_level(blob->data);
		bool above = level > wanted->level;
		if (above) {
			unsigned length, child = mojo_node_child(blob->data, wanted->key, wanted->key_length);
			memcpy(ref, mojo_node_value(blob->data, child, &length), MOJO_REF_BYTES);
		}
		mojo_blob_put(other->blobs, blob);
		if (!above)
			return 0;
		level--;
	}
}

/* Which label the tree is to compare with when it lets go of @ref, which leads to @node: `held`, or, if another tree
 * holds it, one that nothing is above. */
static uint32_t held_for(const struct mojo_tree *tree, const uint8_t *ref, const struct mojo_blob *node)
{
	if (!mojo_tree_others(tree) || mojo_ref_in_memory(ref) || mojo_node_count(node->data) == 0)
		return tree->held;
	struct wanted wanted = { .ref = ref, .level = mojo_node_level(node->data) };
	wanted.key = mojo_node_key(node->data, mojo_node_count(node->data) - 1, &wanted.key_length);
	return mojo_tree_alone(tree, node->version, refers_to_node, &wanted) ? tree->held : UINT32_MAX;
}

static int own_node(struct mojo_tree *tree, uint8_t *ref, unsigned level, struct mojo_blob **ret_blob)
{
	struct mojo_blob *blob;
	int err = get_node(tree, ref, level, &blob); /* checks before anything is copied */
	if (err)
		return err;
	uint32_t held = held_for(tree, ref, blob);
	mojo_blob_put(tree->blobs, blob);
	return mojo_blob_writable(tree->blobs, ref, MOJO_BLOB_NODE, tree->version, held, ret_blob);
}

/* ---- reading -------------------------------------------------------------------------------- */

int mojo_tree_get(const struct mojo_tree *tree, const uint8_t *key, unsigned key_length, struct mojo_cell *ret_cell)
{
	uint8_t ref[MOJO_REF_BYTES];
	unsigned level = LEVEL_ANY;
	memcpy(ref, tree->root, MOJO_REF_BYTES);
	if (mojo_ref_is_null(ref))
		return -ENOENT;
	for (;;) {
		struct mojo_blob *blob;
		int err = get_node(tree, ref, level, &blob);
		if (err)
			return err;
		unsigned length;
		level = mojo_node_level(blob->data);
		if (level == 0) {
			bool exact;
			unsigned index = mojo_node_find(blob->data, key, key_length, &exact);
			if (exact) {
				const uint8_t *value = mojo_node_value(blob->data, index, &length);
				memcpy(ret_cell->value, value, length);
				ret_cell->value_length = length;
			}
			mojo_blob_put(tree->blobs, blob);
			return exact ? 0 : -ENOENT;
		}
		unsigned child = mojo_node_child(blob->data, key, key_length);
		memcpy(ref, mojo_node_value(blob->data, child, &length), MOJO_REF_BYTES);
		mojo_blob_put(tree->blobs, blob);
		level--;
	}
}

static void copy_cell(struct mojo_blob *leaf, unsigned index, struct mojo_cell *ret_cell)
{
	const uint8_t *key = mojo_node_key(leaf->data, index, &ret_cell->key_length);
	memcpy(ret_cell->key, key, ret_cell->key_length);
	const uint8_t *value = mojo_node_value(leaf->data, index, &ret_cell->value_length);
	memcpy(ret_cell->value, value, ret_cell->value_length);
}

static int next_below(const struct mojo_tree *tree, const uint8_t *ref, unsigned level, const uint8_t *key,
		      unsigned key_length, bool behind, struct mojo_cell *ret_cell)
{
	struct mojo_blob *blob;
	int err = get_node(tree, ref, level, &blob);
	if (err)
		return err;
	unsigned count = mojo_node_count(blob->data), length;
	level = mojo_node_level(blob->data);
	if (level == 0) {
		bool exact;
		unsigned index = mojo_node_find(blob->data, key, key_length, &exact);
		if (exact && behind)
			index++;
		err = -ENOENT;
		if (index < count) {
			copy_cell(blob, index, ret_cell);
			err = 0;
		}
	} else {
		err = -ENOENT;
		for (unsigned i = mojo_node_child(blob->data, key, key_length); i < count && err == -ENOENT; i++)
			err = next_below(tree, mojo_node_value(blob->data, i, &length), level - 1, key, key_length,
					 behind, ret_cell);
	}
	mojo_blob_put(tree->blobs, blob);
	return err;
}

int mojo_tree_next(const struct mojo_tree *tree, const uint8_t *key, unsigned key_length, bool behind,
		   struct mojo_cell *ret_cell)
{
	if (mojo_ref_is_null(tree->root))
		return -ENOENT;
	return next_below(tree, tree->root, LEVEL_ANY, key, key_length, behind, ret_cell);
}

static int before_below(const struct mojo_tree *tree, const uint8_t *ref, unsigned level, const uint8_t *key,
			unsigned key_length, struct mojo_cell *ret_cell)
{
	struct mojo_blob *blob;
	int err = get_node(tree, ref, level, &blob);
	if (err)
		return err;
	unsigned length;
	bool exact;
	level = mojo_node_level(blob->data);
	unsigned index = mojo_node_find(blob->data, key, key_length, &exact);
	err = -ENOENT;
	if (level == 0 && index > 0) {
		copy_cell(blob, index - 1, ret_cell);
		err = 0;
	} else if (level > 0) {
		for (unsigned i = mojo_node_child(blob->data, key, key_length) + 1; i > 0 && err == -ENOENT; i--)
			err = before_below(tree, mojo_node_value(blob->data, i - 1, &length), level - 1, key,
					   key_length, ret_cell);
	}
	mojo_blob_put(tree->blobs, blob);
	return err;
}

int mojo_tree_before(const struct mojo_tree *tree, const uint8_t *key, unsigned key_length, struct mojo_cell *ret_cell)
{
	if (mojo_ref_is_null(tree->root))
		return -ENOENT;
	return before_below(tree, tree->root, LEVEL_ANY, key, key_length, ret_cell);
}

/* ---- comparing ------------------------------------------------------------------------------ */

struct comparison {
	const struct mojo_tree *tree, *other;
	const uint8_t *key; /* look behind it */
	unsigned key_length;
	struct mojo_cell *cell;
};

static int next_changed_in(const struct comparison *c, struct mojo_blob *leaf)
{
	bool exact;
	unsigned count = mojo_node_count(leaf->data), i = mojo_node_find(leaf->data, c->key, c->key_length, &exact);
	struct mojo_cell theirs;
	for (i += exact; i < count; i++) {
		copy_cell(leaf, i, c->cell);
		int err = mojo_tree_get(c->other, c->cell->key, c->cell->key_length, &theirs);
		if (err && err != -ENOENT)
			return err;
		if (err || theirs.value_length != c->cell->value_length ||
		    memcmp(theirs.value, c->cell->value, theirs.value_length) != 0)
			return 0;
	}
	return -ENOENT;
}

/* @low leads to the node in c->tree. In c->other it may lead past it: then cells are compared that are the same. */
static int next_changed_below(const struct comparison *c, const uint8_t *ref, unsigned level, const uint8_t *low,
			      unsigned low_length)
{
	struct wanted wanted = { .ref = ref, .key = low, .key_length = low_length, .level = level };
	bool shared;
	int err = refers_to_node(c->other, &wanted, &shared);
	if (err || shared)
		return err ? err : -ENOENT;
	struct mojo_blob *blob;
	err = get_node(c->tree, ref, level, &blob);
	if (err)
		return err;
	level = mojo_node_level(blob->data);
	err = -ENOENT;
	if (level == 0) {
		err = next_changed_in(c, blob);
	} else {
		unsigned count = mojo_node_count(blob->data), length;
		for (unsigned i = mojo_node_child(blob->data, c->key, c->key_length); i < count && err == -ENOENT;
		     i++) {
			if (i)
				low = mojo_node_key(blob->data, i, &low_length);
			err = next_changed_below(c, mojo_node_value(blob->data, i, &length), level - 1, low,
						 low_length);
		}
	}
	mojo_blob_put(c->tree->blobs, blob);
	return err;
}

int mojo_tree_next_changed(const struct mojo_tree *tree, const struct mojo_tree *other, const uint8_t *key,
			   unsigned key_length, struct mojo_cell *ret_cell)
{
	struct comparison c = { tree, other, key, key_length, ret_cell };
	if (mojo_ref_is_null(tree->root))
		return -ENOENT;
	return next_changed_below(&c, tree->root, LEVEL_ANY, key, 0); /* the empty key is lower than all */
}

/* ---- changing ------------------------------------------------------------------------------- */

/* Puts a cell into a node that is ours, splitting it if it is full. */
static int insert_cell(struct mojo_tree *tree, struct mojo_blob *node, unsigned index, const uint8_t *key,
		       unsigned key_length, const uint8_t *value, unsigned value_length, struct split *ret_split)
{
	uint32_t bytes = tree->blobs->node_bytes;
	if (mojo_node_insert(node->data, bytes, index, key, key_length, value, value_length))
		return 0;

	struct mojo_blob *right;
	int err = mojo_blob_new(tree->blobs, MOJO_BLOB_NODE, tree->version, &right);
	if (err)
		return err;
	unsigned count = mojo_node_count(node->data), at = count;
	bool goes_left = false;
	if (index < count) { /* else: keys in rising order; leave the full node full */
		/* Halve the bytes, the new cell's counted in: then either half has room, since no cell is larger than a
		 * third of a node. */
		uint32_t cell = MOJO_CELL_FIXED_BYTES + 2 + key_length + value_length, left = 0;
		uint32_t half = (mojo_node_used(node->data, bytes) + cell) / 2;
		unsigned have_key, have_value;
		for (at = 0;; at++) {
			if (at == index && left < half) {
				goes_left = true;
				left += cell;
			}
			if (at + 1 == count || left >= half)
				break;
			mojo_node_key(node->data, at, &have_key);
			mojo_node_value(node->data, at, &have_value);
			left += MOJO_CELL_FIXED_BYTES + 2 + have_key + have_value;
		}
	}
	mojo_node_split(node->data, right->data, bytes, at);
	bool fits;
	if (goes_left)
		fits = mojo_node_insert(node->data, bytes, index, key, key_length, value, value_length);
	else
		fits = mojo_node_insert(right->data, bytes, index - at, key, key_length, value, value_length);
	assert(fits); /* node.c asserts that three cells always fit */
	(void)fits;
	const uint8_t *first = mojo_node_key(right->data, 0, &ret_split->key_length);
	memcpy(ret_split->key, first, ret_split->key_length);
	ret_split->right = right;
	return 0;
}

static int put_below(struct mojo_tree *tree, uint8_t *ref, unsigned level, const uint8_t *key, unsigned key_length,
		     const uint8_t *value, unsigned value_length, struct split *ret_split)
{
	struct mojo_blob *node;
	int err = own_node(tree, ref, level, &node);
	if (err)
		return err;
	unsigned length;
	level = mojo_node_level(node->data);
	if (level == 0) {
		bool exact;
		unsigned index = mojo_node_find(node->data, key, key_length, &exact);
		if (exact) {
			uint8_t *have = mojo_node_value(node->data, index, &length);
			if (length == value_length) {
				memcpy(have, value, value_length);
				return 0;
			}
			/* Keep the old cell until the new one is sure to fit. */
			struct mojo_cell old = { .value_length = length };
			memcpy(old.value, have, length);
			mojo_node_remove(node->data, index);
			err = insert_cell(tree, node, index, key, key_length, value, value_length, ret_split);
			if (err)
				mojo_node_insert(node->data, tree->blobs->node_bytes, index, key, key_length, old.value,
						 old.value_length);
			return err;
		}
		return insert_cell(tree, node, index, key, key_length, value, value_length, ret_split);
	}
	unsigned child = mojo_node_child(node->data, key, key_length);
	struct split split = { 0 };
	err = put_below(tree, mojo_node_value(node->data, child, &length), level - 1, key, key_length, value,
			value_length, &split);
	if (err || !split.right)
		return err;
	uint8_t right_ref[MOJO_REF_BYTES];
	mojo_blob_ref(split.right, right_ref);
	return insert_cell(tree, node, child + 1, split.key, split.key_length, right_ref, MOJO_REF_BYTES, ret_split);
}

int mojo_tree_put(struct mojo_tree *tree, const uint8_t *key, unsigned key_length, const uint8_t *value,
		  unsigned value_length)
{
	struct mojo_blob *node;
	int err = mojo_blobs_reserve(tree->blobs);
	if (err)
		return err;
	if (mojo_ref_is_null(tree->root)) {
		err = mojo_blob_new(tree->blobs, MOJO_BLOB_NODE, tree->version, &node);
		if (err)
			return err;
		mojo_node_init(node->data, tree->blobs->node_bytes, 0, tree->kind);
		mojo_blob_ref(node, tree->root);
	}
	struct split split = { 0 };
	err = put_below(tree, tree->root, LEVEL_ANY, key, key_length, value, value_length, &split);
	if (err || !split.right)
		return err;
	err = mojo_blob_new(tree->blobs, MOJO_BLOB_NODE, tree->version, &node);
	if (err)
		return err;
	uint32_t bytes = tree->blobs->node_bytes;
	mojo_node_init(node->data, bytes, mojo_node_level(split.right->data) + 1, tree->kind);
	uint8_t right_ref[MOJO_REF_BYTES];
	mojo_blob_ref(split.right, right_ref);
	mojo_node_insert(node->data, bytes, 0, NULL, 0, tree->root, MOJO_REF_BYTES);
	mojo_node_insert(node->data, bytes, 1, split.key, split.key_length, right_ref, MOJO_REF_BYTES);
	mojo_blob_ref(node, tree->root);
	return 0;
}

/* Child @index of @node, ours, has become small: join it with a neighbour if both fit in three quarters. */
static void join(struct mojo_tree *tree, struct mojo_blob *node, unsigned index)
{
	unsigned count = mojo_node_count(node->data), length, level = mojo_node_level(node->data);
	uint32_t bytes = tree->blobs->node_bytes;
	if (count < 2)
		return;
	unsigned left_index = index > 0 ? index - 1 : 0;
	uint8_t *left_ref = mojo_node_value(node->data, left_index, &length);
	uint8_t *right_ref = mojo_node_value(node->data, left_index + 1, &length);
	struct mojo_blob *left, *right;
	if (get_node(tree, left_ref, level - 1, &left) != 0)
		return; /* joining is only for economy */
	if (get_node(tree, right_ref, level - 1, &right) != 0) {
		mojo_blob_put(tree->blobs, left);
		return;
	}
	bool fit = mojo_node_used(left->data, bytes) + mojo_node_used(right->data, bytes) + MOJO_KEY_BYTES_MAX <
		   bytes / 4 * 3;
	uint32_t left_held = fit ? held_for(tree, left_ref, left) : 0;
	mojo_blob_put(tree->blobs, left);
	if (fit && mojo_blob_writable(tree->blobs, left_ref, MOJO_BLOB_NODE, tree->version, left_held, &left) == 0) {
		unsigned at = mojo_node_count(left->data), right_count = mojo_node_count(right->data);
		for (unsigned i = 0; i < right_count; i++) {
			unsigned key_length, value_length;
			const uint8_t *key = mojo_node_key(right->data, i, &key_length);
			uint8_t *value = mojo_node_value(right->data, i, &value_length);
			if (i == 0 && level > 1) /* the first key of an inner node counts as lowest: name it */
				key = mojo_node_key(node->data, left_index + 1, &key_length);
			mojo_node_insert(left->data, bytes, at + i, key, key_length, value, value_length);
			int offset = level > 1 ? 0 : mojo_leaf_ref_offset(tree->kind, key, key_length);
			if (offset >= 0)
				mojo_ref_retain(value + offset);
		}
		uint32_t right_held = held_for(tree, right_ref, right);
		mojo_blob_put(tree->blobs, right);
		mojo_ref_kill(tree->blobs, right_ref, right_held);
		mojo_node_remove(node->data, left_index + 1);
		return;
	}
	mojo_blob_put(tree->blobs, right);
}

static int delete_below(struct mojo_tree *tree, uint8_t *ref, unsigned level, const uint8_t *key, unsigned key_length)
{
	struct mojo_blob *node;
	int err = own_node(tree, ref, level, &node);
	if (err)
		return err;
	unsigned length;
	level = mojo_node_level(node->data);
	if (level == 0) {
		bool exact;
		unsigned index = mojo_node_find(node->data, key, key_length, &exact);
		if (!exact)
			return -ENOENT;
		/* The reference that the cell may hold is the caller's from here on. */
		mojo_node_remove(node->data, index);
		return 0;
	}
	unsigned child = mojo_node_child(node->data, key, key_length);
	uint8_t *child_ref = mojo_node_value(node->data, child, &length);
	err = delete_below(tree, child_ref, level - 1, key, key_length);
	if (err)
		return err;
	struct mojo_blob *below = mojo_ref_blob(child_ref);
	if (mojo_node_count(below->data) == 0) {
		mojo_ref_kill(tree->blobs, child_ref, tree->held);
		if (child == 0 && mojo_node_count(node->data) > 1) {
			/* Keys from the first one on still come here: its place goes to the neighbour, with the key, or a
			 * split of that one would put a key before the first. */
			memcpy(child_ref, mojo_node_value(node->data, 1, &length), MOJO_REF_BYTES);
			child = 1;
		}
		mojo_node_remove(node->data, child);
	} else if (mojo_node_used(below->data, tree->blobs->node_bytes) < tree->blobs->node_bytes / 4) {
		join(tree, node, child);
	}
	return 0;
}

int mojo_tree_delete(struct mojo_tree *tree, const uint8_t *key, unsigned key_length)
{
	struct mojo_cell *unused = &(struct mojo_cell){ 0 };
	int err = mojo_tree_get(tree, key, key_length, unused); /* copy nothing for an absent key */
	if (err)
		return err;
	err = delete_below(tree, tree->root, LEVEL_ANY, key, key_length);
	if (err)
		return err;
	for (;;) {
		struct mojo_blob *root = mojo_ref_blob(tree->root);
		unsigned count = mojo_node_count(root->data), length;
		if (count == 0) {
			mojo_ref_kill(tree->blobs, tree->root, tree->held);
			memset(tree->root, 0, MOJO_REF_BYTES);
			return 0;
		}
		if (count > 1 || mojo_node_level(root->data) == 0)
			return 0;
		uint8_t child[MOJO_REF_BYTES];
		memcpy(child, mojo_node_value(root->data, 0, &length), MOJO_REF_BYTES);
		mojo_ref_retain(child);
		mojo_ref_kill(tree->blobs, tree->root, tree->held);
		memcpy(tree->root, child, MOJO_REF_BYTES);
		if (!mojo_ref_in_memory(child))
			return 0;
	}
}

bool mojo_tree_owns(const struct mojo_tree *tree, const uint8_t *key, unsigned key_length)
{
	const uint8_t *ref = tree->root;
	while (mojo_ref_in_memory(ref)) {
		const struct mojo_blob *node = mojo_ref_blob(ref);
		if (!node->dirty || node->refs > 1)
			return false;
		if (mojo_node_level(node->data) == 0)
			return true;
		unsigned length;
		ref = mojo_node_value((uint8_t *)(uintptr_t)node->data, mojo_node_child(node->data, key, key_length),
				      &length);
	}
	return false;
}

int mojo_tree_touch(struct mojo_tree *tree, const uint8_t *key, unsigned key_length, uint8_t **ret_value,
		    unsigned *ret_value_length)
{
	struct mojo_cell *unused = &(struct mojo_cell){ 0 };
	int err = mojo_tree_get(tree, key, key_length, unused);
	if (err)
		return err;
	uint8_t *ref = tree->root;
	unsigned level = LEVEL_ANY;
	for (;;) {
		struct mojo_blob *node;
		err = own_node(tree, ref, level, &node);
		if (err)
			return err;
		level = mojo_node_level(node->data);
		if (level == 0) {
			bool exact;
			unsigned index = mojo_node_find(node->data, key, key_length, &exact);
			assert(exact);
			*ret_value = mojo_node_value(node->data, index, ret_value_length);
			return 0;
		}
		unsigned length;
		ref = mojo_node_value(node->data, mojo_node_child(node->data, key, key_length), &length);
		level--;
	}
}

void mojo_tree_release(struct mojo_tree *tree)
{
	mojo_ref_release(tree->blobs, tree->root);
	memset(tree->root, 0, MOJO_REF_BYTES);
}
