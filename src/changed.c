/* SPDX-License-Identifier: MIT */
/*
 * changed.c - which files differ between a version and the one before it (mojo_changed() in mojo.h).
 *
 * The trees of both are compared, and what they share is passed over. The lock is taken for one step at a time: a step
 * begins where the last one ended, at a key.
 */
#include <errno.h>

#include "namespace.h"
#include "state.h"

struct walk {
	struct mojo_store *store;
	uint32_t version, before; /* before: 0 if there is none */
	uint8_t key[MOJO_KEY_BYTES_MAX];
	unsigned key_length;
};

/* Both trees as they are now. -ENOENT: dropped. */
static int get_trees(struct walk *w, struct mojo_tree *storage, struct mojo_tree **ret_tree,
		     struct mojo_tree **ret_before)
{
	struct mojo_store *store = w->store;
	int err = mojo_view(store, w->version, &storage[0], ret_tree);
	if (err || w->before)
		return err ? err : mojo_view(store, w->before, &storage[1], ret_before);
	storage[1] = (struct mojo_tree){ .blobs = &store->blobs, .kind = MOJO_TREE_MAIN };
	*ret_before = &storage[1];
	return 0;
}

static bool same_inode(const struct mojo_inode *a, const struct mojo_inode *b)
{
	uint8_t x[MOJO_INODE_BYTES_MAX], y[MOJO_INODE_BYTES_MAX];
	uint32_t length = mojo_inode_encode(x, a);
	return mojo_inode_encode(y, b) == length && memcmp(x, y, length) == 0;
}

/* Go on behind all keys that begin with these five bytes. */
static void skip(struct walk *w, uint8_t type, uint32_t bucket)
{
	w->key[0] = type;
	mojo_put_be32(w->key + 1, bucket);
	memset(w->key + 5, 0xff, sizeof(w->key) - 5);
	w->key_length = sizeof(w->key);
}

/* The next file that differs, or *ret_end. [the lock is held] */
static int step(struct walk *w, const struct mojo_tree *tree, const struct mojo_tree *before,
		struct mojo_attr *ret_attr, bool *ret_end)
{
	for (;;) {
		struct mojo_cell cell;
		struct mojo_inode inode, old;
		int err = mojo_tree_next_changed(tree, before, w->key, w->key_length, &cell);
		if (err && err != -ENOENT)
			return err;
		if (err || cell.key[0] == MOJO_KEY_ORPHAN) {
			*ret_end = true;
			return 0;
		}
		if (cell.key_length < 5)
			return -EUCLEAN;
		uint32_t bucket = mojo_get_be32(cell.key + 1);
		bool is_slot = cell.key[0] == MOJO_KEY_SLOT;
		if (cell.key[0] == MOJO_KEY_ENTRY) { /* the inode of its directory has changed as well */
			skip(w, MOJO_KEY_ENTRY, UINT32_MAX);
			continue;
		}
		skip(w, cell.key[0], bucket);
		err = mojo_inode_get(tree, bucket, &inode);
		if (err)
			return err == -ENOENT ? -EUCLEAN : err;
		err = is_slot ? mojo_inode_get(before, bucket, &old) : 0;
		if (err && err != -ENOENT)
			return err;
		if (is_slot && (err || !same_inode(&inode, &old)))
			continue; /* told of when its inode was met */
		*ret_attr = inode.attr;
		return 0;
	}
}

int mojo_changed(struct mojo_store *store, uint32_t version, mojo_changed_fn *fn, void *arg)
{
	struct walk w = { .store = store, .version = version, .key = { MOJO_KEY_INODE }, .key_length = 1 };
	struct mojo_cell cell;
	uint8_t key[4];
	pthread_mutex_lock(&store->mu);
	if (version == MOJO_ACTIVE)
		w.version = store->active;
	mojo_put_be32(key, w.version);
	int err = mojo_tree_before(&store->versions, key, sizeof(key), &cell);
	if (!err && cell.key_length == 4)
		w.before = mojo_get_be32(cell.key);
	if (err == -ENOENT)
		err = 0;
	pthread_mutex_unlock(&store->mu);
	while (!err) {
		struct mojo_tree storage[2], *tree, *before;
		struct mojo_attr attr;
		bool end = false;
		pthread_mutex_lock(&store->mu);
		err = get_trees(&w, storage, &tree, &before);
		if (!err)
			err = step(&w, tree, before, &attr, &end);
		pthread_mutex_unlock(&store->mu);
		if (end || (!err && !fn(arg, &attr)))
			return 0;
	}
	return err;
}
