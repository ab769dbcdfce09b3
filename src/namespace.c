/* SPDX-License-Identifier: MIT */
#include "namespace.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "bucket.h"
#include "checksum.h"
#include "version.h"

#define ENTRY_KEY_BYTES   13u
#define ENTRY_FIXED_BYTES 8u /* child, mode; then the name */
#define COOKIE_BASE       (1ull << 61)
#define COOKIE_SAME       128u /* names with one hash */

/* ---- inodes --------------------------------------------------------------------------------- */

static unsigned bucket_key(uint8_t *key, enum mojo_key_type type, uint32_t bucket)
{
	key[0] = type;
	mojo_put_be32(key + 1, bucket);
	return 5;
}

int mojo_inode_get(const struct mojo_tree *tree, uint32_t bucket, struct mojo_inode *ret_inode)
{
	uint8_t key[MOJO_KEY_BYTES_MAX];
	struct mojo_cell cell;
	int err = mojo_tree_get(tree, key, bucket_key(key, MOJO_KEY_INODE, bucket), &cell);
	if (err)
		return err;
	return mojo_inode_decode(cell.value, cell.value_length, bucket, ret_inode);
}

int mojo_inode_put(struct mojo_store *store, struct mojo_tree *tree, const struct mojo_inode *inode)
{
	uint8_t key[MOJO_KEY_BYTES_MAX], bytes[MOJO_INODE_BYTES_MAX];
	uint32_t bucket = inode->attr.bucket;
	struct mojo_inode old;
	int err = mojo_inode_get(tree, bucket, &old);
	bool is_new = err == -ENOENT;
	if (err && !is_new)
		return err;
	uint32_t length = mojo_inode_encode(bytes, inode);
	err = mojo_tree_put(tree, key, bucket_key(key, MOJO_KEY_INODE, bucket), bytes, length);
	if (err)
		return err;
	bool orphan = inode->attr.nlink == 0, was_orphan = !is_new && old.attr.nlink == 0;
	/* What is counted has a name. */
	bool counts = !orphan, counted = !is_new && !was_orphan;
	if (tree == &store->main && counts != counted)
		*(S_ISDIR(inode->attr.mode) ? &store->directories : &store->files) += counts ? 1 : UINT64_MAX;
	if (orphan && !was_orphan)
		err = mojo_tree_put(tree, key, bucket_key(key, MOJO_KEY_ORPHAN, bucket), bytes, 0);
	else if (!orphan && was_orphan)
		err = mojo_tree_delete(tree, key, bucket_key(key, MOJO_KEY_ORPHAN, bucket));
	return err;
}

int mojo_inode_update(struct mojo_store *store, struct mojo_tree *tree, const struct mojo_inode *inode)
{
	int err = mojo_log_inode(&store->log, tree->version, inode->attr.bucket);
	return err ? err : mojo_inode_put(store, tree, inode);
}

int mojo_apply_inode(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket, const uint8_t *bytes,
		     size_t length)
{
	struct mojo_inode inode, old;
	int err = mojo_inode_decode(bytes, length, bucket, &inode);
	if (err)
		return err;
	/* How many pages there are follows from the records of pages, not from what was so when this was written. */
	err = mojo_inode_get(tree, bucket, &old);
	if (err && err != -ENOENT)
		return err;
	inode.attr.pages = err ? 0 : old.attr.pages;
	if (tree == &store->main && bucket >= store->next_bucket)
		store->next_bucket = bucket < MOJO_BUCKET_MAX ? bucket + 1 : MOJO_ROOT_BUCKET + 1;
	return mojo_inode_put(store, tree, &inode);
}

int mojo_apply_remove(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket)
{
	uint8_t key[MOJO_KEY_BYTES_MAX];
	struct mojo_inode inode;
	int err = mojo_inode_get(tree, bucket, &inode);
	if (err)
		return err;
	struct mojo_slotmap map = mojo_map_of(store, tree);
	map.shared = inode.shared;
	uint64_t removed;
	err = mojo_slotmap_clear(&map, bucket, 0, UINT64_MAX, &removed);
	if (!err)
		err = mojo_tree_delete(tree, key, bucket_key(key, MOJO_KEY_INODE, bucket));
	if (!err && inode.attr.nlink == 0)
		err = mojo_tree_delete(tree, key, bucket_key(key, MOJO_KEY_ORPHAN, bucket));
	if (err)
		return err;
	if (inode.attr.nlink && tree == &store->main)
		--*(S_ISDIR(inode.attr.mode) ? &store->directories : &store->files);
	return 0;
}

int mojo_remove_bucket(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket)
{
	uint8_t payload[4];
	mojo_log_forget(&store->log, tree->version, bucket, 0, UINT64_MAX);
	int err = mojo_apply_remove(store, tree, bucket);
	if (err)
		return mojo_poison(store, err, "removing a file");
	mojo_put32(payload, bucket);
	mojo_log_record(&store->log, tree->version, MOJO_RECORD_REMOVE, payload, sizeof(payload), NULL, 0);
	return 0;
}

/* The orphan of the lowest id. -ENOENT: there is none. */
static int first_orphan(struct mojo_store *store, uint32_t *ret_bucket)
{
	uint8_t key[MOJO_KEY_BYTES_MAX];
	struct mojo_cell cell;
	int err = mojo_tree_next(&store->main, key, bucket_key(key, MOJO_KEY_ORPHAN, 0), false, &cell);
	if (err)
		return err;
	if (cell.key[0] != MOJO_KEY_ORPHAN)
		return -ENOENT;
	if (cell.key_length != 5)
		return -EUCLEAN;
	*ret_bucket = mojo_get_be32(cell.key + 1);
	return 0;
}

int mojo_remove_orphans(struct mojo_store *store)
{
	for (;;) {
		/* Room is asked for only if there is something to do: a store on a full disk opens. */
		uint32_t bucket;
		int err = first_orphan(store, &bucket);
		if (!err)
			err = mojo_begin(store, 0, MOJO_CLAIM_REMOVAL);
		if (!err)
			err = first_orphan(store, &bucket); /* the lock was let go of */
		if (!err)
			err = mojo_remove_bucket(store, &store->main, bucket);
		if (err)
			return err == -ENOENT ? 0 : err;
	}
}

/* ---- entries -------------------------------------------------------------------------------- */

static void entry_key(uint8_t *key, uint32_t dir, uint64_t cookie)
{
	key[0] = MOJO_KEY_ENTRY;
	mojo_put_be32(key + 1, dir);
	mojo_put_be64(key + 5, cookie);
}

uint64_t mojo_name_cookie(const char *name, size_t length)
{
	uint64_t hash = mojo_checksum64(name, length, 0) >> 10;
	return COOKIE_BASE | hash << 7;
}

struct entry {
	uint64_t cookie;
	uint32_t child, mode;
	const char *name; /* within the cell */
	unsigned name_length;
};

/* The entry in a cell of directory @dir; -ENOENT if the cell is something else. */
static int entry_decode(const struct mojo_cell *cell, uint32_t dir, struct entry *ret)
{
	if (cell->key_length != ENTRY_KEY_BYTES || cell->key[0] != MOJO_KEY_ENTRY ||
	    mojo_get_be32(cell->key + 1) != dir)
		return -ENOENT;
	if (cell->value_length < ENTRY_FIXED_BYTES)
		return -EUCLEAN;
	*ret = (struct entry){
		.cookie = mojo_get_be64(cell->key + 5),
		.child = mojo_get32(cell->value),
		.mode = mojo_get32(cell->value + 4),
		.name = (const char *)cell->value + ENTRY_FIXED_BYTES,
		.name_length = cell->value_length - ENTRY_FIXED_BYTES,
	};
	return mojo_name_check(ret->name, ret->name_length) ? -EUCLEAN : 0;
}

/* Looks a name up. *ret_free: the cookie it would get (0: none is free). -ENOENT if it is not there. */
static int find_entry(const struct mojo_tree *tree, uint32_t dir, const char *name, size_t length,
		      struct mojo_cell *cell, struct entry *ret_entry, uint64_t *ret_free)
{
	uint8_t key[ENTRY_KEY_BYTES];
	uint64_t first = mojo_name_cookie(name, length), expected = first, vacant = 0;
	bool behind = false;
	entry_key(key, dir, first);
	for (;;) {
		int err = mojo_tree_next(tree, key, sizeof(key), behind, cell);
		struct entry entry;
		if (!err)
			err = entry_decode(cell, dir, &entry);
		if (!err && entry.cookie >= first + COOKIE_SAME)
			err = -ENOENT;
		if (err == -ENOENT) {
			if (!vacant && expected < first + COOKIE_SAME)
				vacant = expected;
			if (ret_free)
				*ret_free = vacant;
			return -ENOENT;
		}
		if (err)
			return err;
		if (!vacant && entry.cookie > expected)
			vacant = expected;
		expected = entry.cookie + 1;
		if (entry.name_length == length && memcmp(entry.name, name, length) == 0) {
			*ret_entry = entry;
			return 0;
		}
		entry_key(key, dir, entry.cookie);
		behind = true;
	}
}

int mojo_apply_link(struct mojo_store *store, const struct mojo_record_link *link)
{
	uint8_t key[ENTRY_KEY_BYTES], value[ENTRY_FIXED_BYTES + MOJO_NAME_MAX];
	entry_key(key, link->dir, link->cookie);
	mojo_put32(value, link->child);
	mojo_put32(value + 4, link->mode);
	memcpy(value + ENTRY_FIXED_BYTES, link->name, link->name_length);
	return mojo_tree_put(&store->main, key, sizeof(key), value, ENTRY_FIXED_BYTES + link->name_length);
}

int mojo_apply_unlink(struct mojo_tree *tree, uint32_t dir, uint64_t cookie)
{
	uint8_t key[ENTRY_KEY_BYTES];
	entry_key(key, dir, cookie);
	return mojo_tree_delete(tree, key, sizeof(key));
}

static int link_entry(struct mojo_store *store, uint32_t dir, uint64_t cookie, uint32_t child, uint32_t mode,
		      const char *name)
{
	struct mojo_record_link link = {
		.dir = dir,
		.child = child,
		.mode = mode,
		.cookie = cookie,
		.name = name,
		.name_length = (uint32_t)strlen(name),
	};
	int err = mojo_apply_link(store, &link);
	if (err)
		return err;
	uint8_t fixed[MOJO_LINK_FIXED_BYTES];
	mojo_put32(fixed, dir);
	mojo_put32(fixed + 4, child);
	mojo_put64(fixed + 8, cookie);
	mojo_put32(fixed + 16, mode);
	mojo_put32(fixed + 20, link.name_length);
	mojo_log_record(&store->log, store->active, MOJO_RECORD_LINK, fixed, sizeof(fixed), name, link.name_length);
	return 0;
}

static int unlink_entry(struct mojo_store *store, struct mojo_tree *tree, uint32_t dir, uint64_t cookie)
{
	uint8_t payload[12];
	int err = mojo_apply_unlink(tree, dir, cookie);
	if (err)
		return err;
	mojo_put32(payload, dir);
	mojo_put64(payload + 4, cookie);
	mojo_log_record(&store->log, tree->version, MOJO_RECORD_UNLINK, payload, sizeof(payload), NULL, 0);
	return 0;
}

/* A directory to look into or change. */
static int get_dir(const struct mojo_tree *tree, uint32_t dir, struct mojo_inode *ret_inode)
{
	int err = mojo_inode_get(tree, dir, ret_inode);
	if (!err && !S_ISDIR(ret_inode->attr.mode))
		err = -ENOTDIR;
	return err;
}

/* ---- looking -------------------------------------------------------------------------------- */

static int lookup(struct mojo_tree *tree, uint32_t dir, const char *name, struct mojo_attr *ret_attr)
{
	struct mojo_inode inode;
	struct mojo_cell cell;
	struct entry entry;
	size_t length = strlen(name);
	int err = mojo_name_check(name, length);
	if (!err)
		err = get_dir(tree, dir, &inode);
	if (!err)
		err = find_entry(tree, dir, name, length, &cell, &entry, NULL);
	if (err)
		return err;
	err = mojo_inode_get(tree, entry.child, &inode);
	if (err)
		return err == -ENOENT ? -EUCLEAN : err;
	*ret_attr = inode.attr;
	return 0;
}

int mojo_lookup(struct mojo_store *store, uint32_t version, uint32_t dir, const char *name, struct mojo_attr *ret_attr)
{
	struct mojo_tree frozen, *tree;
	pthread_mutex_lock(&store->mu);
	int err = mojo_view(store, version, &frozen, &tree);
	if (!err)
		err = lookup(tree, dir, name, ret_attr);
	pthread_mutex_unlock(&store->mu);
	return err;
}

int mojo_resolve(struct mojo_store *store, uint32_t version, const char *path, struct mojo_attr *ret_attr)
{
	struct mojo_tree frozen, *tree;
	struct mojo_inode root;
	pthread_mutex_lock(&store->mu);
	int err = mojo_view(store, version, &frozen, &tree);
	if (!err)
		err = mojo_inode_get(tree, MOJO_ROOT_BUCKET, &root);
	struct mojo_attr attr = root.attr;
	while (!err) {
		path += strspn(path, "/");
		size_t length = strcspn(path, "/");
		if (!length)
			break;
		char name[MOJO_NAME_MAX + 1];
		if (length > MOJO_NAME_MAX) {
			err = -ENAMETOOLONG;
			break;
		}
		memcpy(name, path, length);
		name[length] = '\0';
		path += length;
		err = lookup(tree, attr.bucket, name, &attr);
	}
	pthread_mutex_unlock(&store->mu);
	if (!err)
		*ret_attr = attr;
	return err;
}

int mojo_getattr(struct mojo_store *store, uint32_t version, uint32_t bucket, struct mojo_attr *ret_attr)
{
	struct mojo_tree frozen, *tree;
	struct mojo_inode inode;
	pthread_mutex_lock(&store->mu);
	int err = mojo_view(store, version, &frozen, &tree);
	if (!err)
		err = mojo_inode_get(tree, bucket, &inode);
	pthread_mutex_unlock(&store->mu);
	if (!err)
		*ret_attr = inode.attr;
	return err;
}

int mojo_readdir(struct mojo_store *store, uint32_t version, uint32_t dir, uint64_t cookie, mojo_dirent_fn *fn,
		 void *arg)
{
	struct mojo_tree frozen, *tree;
	struct mojo_inode inode;
	pthread_mutex_lock(&store->mu);
	int err = mojo_view(store, version, &frozen, &tree);
	if (!err)
		err = get_dir(tree, dir, &inode);
	while (!err) {
		uint8_t key[ENTRY_KEY_BYTES];
		struct mojo_cell cell;
		struct entry entry;
		entry_key(key, dir, cookie);
		err = mojo_tree_next(tree, key, sizeof(key), true, &cell);
		if (!err)
			err = entry_decode(&cell, dir, &entry);
		if (!err) {
			err = mojo_inode_get(tree, entry.child, &inode);
			if (err == -ENOENT)
				err = -EUCLEAN;
		} else if (err == -ENOENT) {
			err = 0;
			break;
		}
		if (err)
			break;
		char name[MOJO_NAME_MAX + 1];
		memcpy(name, entry.name, entry.name_length);
		name[entry.name_length] = '\0';
		if (!fn(arg, name, &inode.attr, entry.cookie))
			break;
		cookie = entry.cookie;
	}
	pthread_mutex_unlock(&store->mu);
	return err;
}

int mojo_path(struct mojo_store *store, uint32_t bucket, char *buf, size_t size)
{
	int err = size ? 0 : -ERANGE;
	size_t at = size ? size - 1 : 0; /* the path grows from the end of the buffer */
	if (!err)
		buf[at] = '\0';
	pthread_mutex_lock(&store->mu);
	for (unsigned depth = 0; bucket != MOJO_ROOT_BUCKET && !err; depth++) {
		struct mojo_inode inode;
		struct mojo_cell cell;
		struct entry entry;
		uint8_t key[ENTRY_KEY_BYTES];
		err = mojo_inode_get(&store->main, bucket, &inode);
		if (!err && !inode.attr.parent)
			err = -ENOENT;
		if (!err && depth > 100000)
			err = -EUCLEAN; /* a circle */
		if (err)
			break;
		entry_key(key, inode.attr.parent, inode.cookie);
		err = mojo_tree_get(&store->main, key, sizeof(key), &cell);
		if (err)
			break;
		memcpy(cell.key, key, sizeof(key));
		cell.key_length = sizeof(key);
		err = entry_decode(&cell, inode.attr.parent, &entry);
		bool slash = buf[at] != '\0';
		if (!err && at < entry.name_length + slash)
			err = -ERANGE;
		if (err)
			break;
		if (slash)
			buf[--at] = '/';
		at -= entry.name_length;
		memcpy(buf + at, entry.name, entry.name_length);
		bucket = inode.attr.parent;
	}
	pthread_mutex_unlock(&store->mu);
	if (!err)
		memmove(buf, buf + at, size - at);
	return err;
}

/* ---- holds ---------------------------------------------------------------------------------- */

int mojo_hold(struct mojo_store *store, uint32_t bucket)
{
	struct mojo_inode inode;
	pthread_mutex_lock(&store->mu);
	int err = mojo_inode_get(&store->main, bucket, &inode);
	if (!err)
		err = mojo_holds_add(&store->holds, bucket);
	pthread_mutex_unlock(&store->mu);
	return err;
}

int mojo_release(struct mojo_store *store, uint32_t bucket)
{
	struct mojo_inode inode;
	bool last;
	pthread_mutex_lock(&store->mu);
	int err = mojo_holds_drop(&store->holds, bucket, &last);
	if (!err && last) {
		err = mojo_inode_get(&store->main, bucket, &inode);
		if (!err && inode.attr.nlink == 0 && !store->config.read_only) {
			err = mojo_begin(store, 0, MOJO_CLAIM_REMOVAL);
			/* Somebody may have been quicker while the lock was away. */
			if (!err && !mojo_holds_has(&store->holds, bucket) &&
			    mojo_inode_get(&store->main, bucket, &inode) == 0 && inode.attr.nlink == 0)
				err = mojo_remove_bucket(store, &store->main, bucket);
		}
	}
	pthread_mutex_unlock(&store->mu);
	return err;
}

/* ---- changing ------------------------------------------------------------------------------- */

static int free_bucket(struct mojo_store *store, uint32_t *ret_bucket)
{
	for (uint32_t tries = 0; tries < MOJO_BUCKET_MAX; tries++) {
		uint32_t bucket = store->next_bucket;
		struct mojo_inode inode;
		store->next_bucket = bucket < MOJO_BUCKET_MAX ? bucket + 1 : MOJO_ROOT_BUCKET + 1;
		int err = mojo_inode_get(&store->main, bucket, &inode);
		if (err == -ENOENT) {
			*ret_bucket = bucket;
			return 0;
		}
		if (err)
			return err;
	}
	return -ENOSPC;
}

static void touch_dir(struct mojo_inode *dir, int64_t now, int entries, int subdirs)
{
	dir->attr.size += (uint64_t)(int64_t)entries;
	dir->attr.nlink += (uint32_t)subdirs;
	dir->attr.mtime_ns = dir->attr.ctime_ns = now;
}

/* The new inode and its entry. [begin was called] */
static int make(struct mojo_store *store, uint32_t dir, const char *name, const struct mojo_attr *given,
		const char *target, struct mojo_attr *ret_attr)
{
	struct mojo_inode parent, inode = { .attr = *given };
	struct mojo_cell cell;
	struct entry entry;
	size_t length = strlen(name);
	int err = mojo_name_check(name, length);
	if (!err)
		err = get_dir(&store->main, dir, &parent);
	if (!err && parent.attr.nlink == 0)
		err = -ENOENT; /* a directory that was removed while somebody stood in it */
	if (err)
		return err;
	err = find_entry(&store->main, dir, name, length, &cell, &entry, &inode.cookie);
	if (!err)
		return -EEXIST;
	if (err != -ENOENT)
		return err;
	if (!inode.cookie)
		return -ENOSPC; /* 128 names with one hash */
	if (S_ISDIR(given->mode) && parent.attr.nlink >= INT32_MAX)
		return -EMLINK;
	err = free_bucket(store, &inode.attr.bucket);
	if (err)
		return err;
	int64_t now = mojo_now(store);
	bool is_dir = S_ISDIR(given->mode);
	inode.attr.nlink = is_dir ? 2 : 1;
	inode.attr.parent = dir;
	inode.attr.atime_ns = inode.attr.mtime_ns = inode.attr.ctime_ns = inode.attr.btime_ns = now;
	touch_dir(&parent, now, 1, is_dir);
	err = mojo_inode_update(store, &store->main, &inode);
	if (!err)
		err = link_entry(store, dir, inode.cookie, inode.attr.bucket, given->mode, name);
	if (!err)
		err = mojo_inode_update(store, &store->main, &parent);
	if (!err && target)
		err = mojo_bucket_put(store, &store->main, inode.attr.bucket, 0, target, strlen(target), true);
	if (!err)
		err = mojo_inode_get(&store->main, inode.attr.bucket, &inode);
	if (err)
		return mojo_poison(store, err, "creating a file");
	*ret_attr = inode.attr;
	return 0;
}

static int make_node(struct mojo_store *store, uint32_t dir, const char *name, struct mojo_attr attr,
		     enum mojo_claim claim, struct mojo_attr *ret_attr)
{
	switch (attr.mode & S_IFMT) {
	case 0:
		attr.mode |= S_IFREG;
		break;
	case S_IFREG:
	case S_IFDIR:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		break;
	default:
		return -EINVAL;
	}
	pthread_mutex_lock(&store->mu);
	int err = mojo_begin(store, 0, claim);
	if (!err)
		err = make(store, dir, name, &attr, NULL, ret_attr);
	pthread_mutex_unlock(&store->mu);
	return err;
}

int mojo_mknod(struct mojo_store *store, uint32_t dir, const char *name, uint32_t mode, uint32_t rdev, uint32_t uid,
	       uint32_t gid, struct mojo_attr *ret_attr)
{
	struct mojo_attr attr = { .mode = mode, .rdev = rdev, .uid = uid, .gid = gid };
	return make_node(store, dir, name, attr, MOJO_CLAIM_NEW, ret_attr);
}

int mojo_mknod_reserved(struct mojo_store *store, uint32_t dir, const char *name, uint32_t mode, uint32_t uid,
			uint32_t gid, struct mojo_attr *ret_attr)
{
	struct mojo_attr attr = { .mode = mode, .uid = uid, .gid = gid };
	return make_node(store, dir, name, attr, MOJO_CLAIM_RESERVED, ret_attr);
}

int mojo_symlink(struct mojo_store *store, uint32_t dir, const char *name, const char *target, uint32_t uid,
		 uint32_t gid, struct mojo_attr *ret_attr)
{
	struct mojo_attr attr = { .mode = S_IFLNK | 0777, .uid = uid, .gid = gid };
	size_t length = strlen(target);
	if (length == 0)
		return -ENOENT;
	if (length > MOJO_SYMLINK_MAX)
		return -ENAMETOOLONG;
	pthread_mutex_lock(&store->mu);
	int err = mojo_begin(store, 1, MOJO_CLAIM_NEW);
	if (!err)
		err = make(store, dir, name, &attr, target, ret_attr);
	pthread_mutex_unlock(&store->mu);
	return err;
}

int mojo_readlink(struct mojo_store *store, uint32_t version, uint32_t bucket, char *buf)
{
	struct mojo_attr attr;
	int err = mojo_getattr(store, version, bucket, &attr);
	if (err)
		return err;
	if (!S_ISLNK(attr.mode))
		return -EINVAL;
	size_t length;
	err = mojo_read(store, version, bucket, 0, buf, MOJO_SYMLINK_MAX, &length);
	if (err)
		return err;
	buf[length] = '\0';
	return 0;
}

/* The bucket loses its name. [begin was called] */
static int drop_name(struct mojo_store *store, struct mojo_tree *tree, struct mojo_inode *inode, int64_t now)
{
	inode->attr.nlink = 0;
	inode->attr.parent = 0;
	inode->cookie = 0;
	inode->attr.ctime_ns = now;
	if (tree == &store->main && mojo_holds_has(&store->holds, inode->attr.bucket))
		return mojo_inode_update(store, tree, inode);
	return mojo_remove_bucket(store, tree, inode->attr.bucket);
}

static int remove_name(struct mojo_store *store, struct mojo_tree *tree, uint32_t dir, const char *name, bool want_dir)
{
	struct mojo_inode parent, inode;
	struct mojo_cell cell;
	struct entry entry;
	size_t length = strlen(name);
	int err = mojo_name_check(name, length);
	if (!err)
		err = get_dir(tree, dir, &parent);
	if (!err)
		err = find_entry(tree, dir, name, length, &cell, &entry, NULL);
	if (!err)
		err = mojo_inode_get(tree, entry.child, &inode);
	if (err)
		return err;
	bool is_dir = S_ISDIR(inode.attr.mode);
	if (want_dir && !is_dir)
		return -ENOTDIR;
	if (!want_dir && is_dir)
		return -EISDIR;
	if (is_dir && inode.attr.size > 0)
		return -ENOTEMPTY;
	int64_t now = mojo_now(store);
	touch_dir(&parent, now, -1, is_dir ? -1 : 0);
	err = unlink_entry(store, tree, dir, entry.cookie);
	if (!err)
		err = mojo_inode_update(store, tree, &parent);
	if (!err)
		err = drop_name(store, tree, &inode, now);
	return err ? mojo_poison(store, err, "removing a name") : 0;
}

static int unlink_in(struct mojo_store *store, uint32_t version, uint32_t dir, const char *name)
{
	struct mojo_tree *tree;
	pthread_mutex_lock(&store->mu);
	int err = mojo_begin(store, 0, MOJO_CLAIM_REMOVAL);
	if (!err)
		err = mojo_settle_begin(store, version, &tree);
	if (!err) {
		err = remove_name(store, tree, dir, name, false);
		mojo_settle_end(store, tree);
	}
	pthread_mutex_unlock(&store->mu);
	return err;
}

int mojo_unlink(struct mojo_store *store, uint32_t dir, const char *name)
{
	return unlink_in(store, MOJO_ACTIVE, dir, name);
}

int mojo_settle_unlink(struct mojo_store *store, uint32_t version, uint32_t dir, const char *name)
{
	return version == MOJO_ACTIVE ? -ENOENT : unlink_in(store, version, dir, name);
}

int mojo_rmdir(struct mojo_store *store, uint32_t dir, const char *name)
{
	pthread_mutex_lock(&store->mu);
	int err = mojo_begin(store, 0, MOJO_CLAIM_REMOVAL);
	if (!err)
		err = remove_name(store, &store->main, dir, name, true);
	pthread_mutex_unlock(&store->mu);
	return err;
}

/* Is @dir the bucket @above, or somewhere below it? */
static int is_below(struct mojo_store *store, uint32_t dir, uint32_t above, bool *ret_below)
{
	for (unsigned depth = 0; depth < 100000; depth++) {
		if (dir == above || dir == MOJO_ROOT_BUCKET || dir == 0) {
			*ret_below = dir == above;
			return 0;
		}
		struct mojo_inode inode;
		int err = mojo_inode_get(&store->main, dir, &inode);
		if (err)
			return err;
		dir = inode.attr.parent;
	}
	return -EUCLEAN;
}

/* One side of a renaming. */
struct side {
	uint32_t dir;
	const char *name;
	size_t length;
	bool exists;
	uint64_t cookie; /* the entry's, or a free one */
	struct mojo_inode inode;
};

static int find_side(struct mojo_store *store, struct side *side)
{
	struct mojo_inode dir;
	struct mojo_cell cell;
	struct entry entry;
	side->length = strlen(side->name);
	int err = mojo_name_check(side->name, side->length);
	if (!err)
		err = get_dir(&store->main, side->dir, &dir);
	if (!err && dir.attr.nlink == 0)
		err = -ENOENT;
	if (err)
		return err;
	err = find_entry(&store->main, side->dir, side->name, side->length, &cell, &entry, &side->cookie);
	if (err == -ENOENT)
		return 0;
	if (err)
		return err;
	side->exists = true;
	side->cookie = entry.cookie;
	return mojo_inode_get(&store->main, entry.child, &side->inode);
}

/* Adds to a directory's counts; reads it anew, for both sides may be one directory. */
static int adjust_dir(struct mojo_store *store, uint32_t bucket, int64_t now, int entries, int subdirs)
{
	struct mojo_inode dir;
	int err = mojo_inode_get(&store->main, bucket, &dir);
	if (err)
		return err;
	touch_dir(&dir, now, entries, subdirs);
	return mojo_inode_update(store, &store->main, &dir);
}

/* The bucket of @inode takes the place (dir, cookie, name) of @side, whose entry is not there now. */
static int move_in(struct mojo_store *store, struct mojo_inode *inode, const struct side *side, int64_t now)
{
	inode->attr.parent = side->dir;
	inode->cookie = side->cookie;
	inode->attr.ctime_ns = now;
	int err = link_entry(store, side->dir, side->cookie, inode->attr.bucket, inode->attr.mode, side->name);
	return err ? err : mojo_inode_update(store, &store->main, inode);
}

static int rename_checked(struct mojo_store *store, struct side *from, struct side *to, bool exchange)
{
	int64_t now = mojo_now(store);
	int from_dir = S_ISDIR(from->inode.attr.mode) ? 1 : 0;
	int to_dir = to->exists && S_ISDIR(to->inode.attr.mode) ? 1 : 0;
	int err = unlink_entry(store, &store->main, from->dir, from->cookie);
	if (!err && to->exists)
		err = unlink_entry(store, &store->main, to->dir, to->cookie);
	if (!err)
		err = move_in(store, &from->inode, to, now);
	if (exchange) {
		if (!err)
			err = move_in(store, &to->inode, from, now);
		if (!err)
			err = adjust_dir(store, from->dir, now, 0, to_dir - from_dir);
		if (!err)
			err = adjust_dir(store, to->dir, now, 0, from_dir - to_dir);
		return err;
	}
	if (!err)
		err = adjust_dir(store, from->dir, now, -1, -from_dir);
	if (!err)
		err = adjust_dir(store, to->dir, now, to->exists ? 0 : 1, from_dir - to_dir);
	if (!err && to->exists)
		err = drop_name(store, &store->main, &to->inode, now);
	return err;
}

static int rename_locked(struct mojo_store *store, struct side *from, struct side *to, unsigned flags)
{
	bool exchange = flags & MOJO_RENAME_EXCHANGE, below = false;
	int err = find_side(store, from);
	if (!err)
		err = find_side(store, to);
	if (err)
		return err;
	if (!from->exists || (exchange && !to->exists))
		return -ENOENT;
	if (to->exists && (flags & MOJO_RENAME_NOREPLACE))
		return -EEXIST;
	if (!to->exists && !to->cookie)
		return -ENOSPC;
	if (to->exists && from->inode.attr.bucket == to->inode.attr.bucket)
		return 0;
	bool from_dir = S_ISDIR(from->inode.attr.mode), to_dir = to->exists && S_ISDIR(to->inode.attr.mode);
	if (to->exists && !exchange) {
		if (from_dir && !to_dir)
			return -ENOTDIR;
		if (!from_dir && to_dir)
			return -EISDIR;
		if (to_dir && to->inode.attr.size > 0)
			return -ENOTEMPTY;
	}
	if (from_dir) {
		err = is_below(store, to->dir, from->inode.attr.bucket, &below);
		if (!err && below)
			err = -EINVAL;
	}
	if (!err && exchange && to_dir) {
		err = is_below(store, from->dir, to->inode.attr.bucket, &below);
		if (!err && below)
			err = -EINVAL;
	}
	if (err)
		return err;
	err = rename_checked(store, from, to, exchange);
	return err ? mojo_poison(store, err, "renaming") : 0;
}

int mojo_rename(struct mojo_store *store, uint32_t dir, const char *name, uint32_t new_dir, const char *new_name,
		unsigned flags)
{
	if (flags & ~(unsigned)(MOJO_RENAME_NOREPLACE | MOJO_RENAME_EXCHANGE) ||
	    flags == (MOJO_RENAME_NOREPLACE | MOJO_RENAME_EXCHANGE))
		return -EINVAL;
	struct side from = { .dir = dir, .name = name }, to = { .dir = new_dir, .name = new_name };
	pthread_mutex_lock(&store->mu);
	int err = mojo_begin(store, 0, MOJO_CLAIM_REMOVAL);
	if (!err)
		err = rename_locked(store, &from, &to, flags);
	pthread_mutex_unlock(&store->mu);
	return err;
}

static void take_attr(struct mojo_store *store, struct mojo_attr *a, unsigned mask, const struct mojo_attr *attr)
{
	if (mask & MOJO_SET_MODE)
		a->mode = (a->mode & S_IFMT) | (attr->mode & 07777);
	if (mask & MOJO_SET_UID)
		a->uid = attr->uid;
	if (mask & MOJO_SET_GID)
		a->gid = attr->gid;
	if (mask & MOJO_SET_ATIME)
		a->atime_ns = attr->atime_ns;
	if (mask & MOJO_SET_MTIME)
		a->mtime_ns = attr->mtime_ns;
	a->ctime_ns = mask & MOJO_SET_CTIME ? attr->ctime_ns : mojo_now(store);
}

static int setattr_in(struct mojo_store *store, uint32_t version, uint32_t bucket, unsigned mask,
		      const struct mojo_attr *attr, struct mojo_attr *ret_attr)
{
	struct mojo_inode inode;
	struct mojo_tree *tree;
	pthread_mutex_lock(&store->mu);
	int err = mojo_begin(store, 1, MOJO_CLAIM_REMOVAL);
	if (!err)
		err = mojo_settle_begin(store, version, &tree);
	if (!err) {
		err = mojo_inode_get(tree, bucket, &inode);
		if (!err && (mask & MOJO_SET_SIZE)) {
			err = mojo_bucket_resize(store, tree, &inode, attr->size);
			if (!err)
				err = mojo_inode_get(tree, bucket, &inode);
		}
		if (!err) {
			take_attr(store, &inode.attr, mask, attr);
			err = mojo_inode_update(store, tree, &inode);
			if (err)
				mojo_poison(store, err, "changing attributes");
		}
		mojo_settle_end(store, tree);
	}
	pthread_mutex_unlock(&store->mu);
	if (!err)
		*ret_attr = inode.attr;
	return err;
}

int mojo_setattr(struct mojo_store *store, uint32_t bucket, unsigned mask, const struct mojo_attr *attr,
		 struct mojo_attr *ret_attr)
{
	return setattr_in(store, MOJO_ACTIVE, bucket, mask, attr, ret_attr);
}

int mojo_settle_setattr(struct mojo_store *store, uint32_t version, uint32_t bucket, unsigned mask,
			const struct mojo_attr *attr, struct mojo_attr *ret_attr)
{
	return version == MOJO_ACTIVE ? -ENOENT : setattr_in(store, version, bucket, mask, attr, ret_attr);
}

int mojo_make_root(struct mojo_store *store, const struct mojo_geometry *geometry)
{
	int64_t now = mojo_now(store);
	struct mojo_inode root = { .attr = {
					   .bucket = MOJO_ROOT_BUCKET,
					   .mode = S_IFDIR | geometry->root_mode,
					   .nlink = 2,
					   .uid = geometry->root_uid,
					   .gid = geometry->root_gid,
					   .parent = MOJO_ROOT_BUCKET,
					   .atime_ns = now,
					   .mtime_ns = now,
					   .ctime_ns = now,
					   .btime_ns = now,
				   } };
	pthread_mutex_lock(&store->mu);
	int err = mojo_begin(store, 0, MOJO_CLAIM_NEW);
	if (!err)
		err = mojo_inode_update(store, &store->main, &root);
	pthread_mutex_unlock(&store->mu);
	return err;
}
