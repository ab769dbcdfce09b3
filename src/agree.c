/* SPDX-License-Identifier: MIT */
#include "agree.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "namespace.h"

#define ENTRY_FIXED_BYTES 8u
#define ENTRY_KEY_BYTES   13u
#define COOKIE_SAME       128u
#define SET_BLOCKS        1024u /* of the sets of bucket numbers */
#define DEPTH_MAX         100000u
#define LOST_NAME         "lost+found"

struct agree {
	struct mojo_store *store;
	struct mojo_tree *tree;
	uint32_t version;
	bool mend, changed;
	struct mojo_sink *sink;
	uint32_t lost_dir;              /* 0: not looked for yet */
	struct mojo_block_set anchored; /* directories that hang below the root, by number */
};

static void __attribute__((format(printf, 5, 6)))
say(struct agree *a, enum mojo_finding_kind kind, uint32_t bucket, const char *path, const char *format, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	struct mojo_finding f = {
		.kind = kind,
		.severity = MOJO_ERROR,
		.version = a->version,
		.bucket = bucket,
		.path = path,
	};
	mojo_found_in(a->sink, &f, "%s", text);
}

/* ---- cells ---------------------------------------------------------------------------------- */

static unsigned bucket_key(uint8_t *key, enum mojo_key_type type, uint32_t bucket)
{
	key[0] = type;
	mojo_put_be32(key + 1, bucket);
	return 5;
}

static unsigned entry_key(uint8_t *key, uint32_t dir, uint64_t cookie)
{
	key[0] = MOJO_KEY_ENTRY;
	mojo_put_be32(key + 1, dir);
	mojo_put_be64(key + 5, cookie);
	return ENTRY_KEY_BYTES;
}

/* The inode; -ENOENT also where what is there is no inode. */
static int get_inode(const struct agree *a, uint32_t bucket, struct mojo_inode *ret_inode)
{
	int err = mojo_inode_get(a->tree, bucket, ret_inode);
	struct mojo_cell cell;
	uint8_t key[MOJO_KEY_BYTES_MAX];
	if (err == -EUCLEAN && mojo_tree_get(a->tree, key, bucket_key(key, MOJO_KEY_INODE, bucket), &cell) == 0)
		err = -ENOENT; /* the cell can be read, but not what is in it */
	return err;
}

static int put(struct agree *a, const uint8_t *key, unsigned key_length, const void *value, unsigned length)
{
	a->changed = true;
	return mojo_tree_put(a->tree, key, key_length, value, length);
}

static int drop(struct agree *a, const uint8_t *key, unsigned length)
{
	a->changed = true;
	int err = mojo_tree_delete(a->tree, key, length);
	return err == -ENOENT ? 0 : err;
}

static int put_inode(struct agree *a, const struct mojo_inode *inode)
{
	uint8_t key[MOJO_KEY_BYTES_MAX], bytes[MOJO_INODE_BYTES_MAX];
	uint32_t length = mojo_inode_encode(bytes, inode);
	return put(a, key, bucket_key(key, MOJO_KEY_INODE, inode->attr.bucket), bytes, length);
}

struct entry {
	uint32_t child, mode;
	const char *name; /* in the cell */
	unsigned length;
};

static bool decode_entry(const struct mojo_cell *cell, uint64_t cookie, struct entry *ret)
{
	if (cell->value_length < ENTRY_FIXED_BYTES)
		return false;
	*ret = (struct entry){
		.child = mojo_get32(cell->value),
		.mode = mojo_get32(cell->value + 4),
		.name = (const char *)cell->value + ENTRY_FIXED_BYTES,
		.length = cell->value_length - ENTRY_FIXED_BYTES,
	};
	if (mojo_name_check(ret->name, ret->length) != 0)
		return false;
	uint64_t first = mojo_name_cookie(ret->name, ret->length);
	return cookie >= first && cookie < first + COOKIE_SAME;
}

/* Does the entry at (dir, cookie) lead to @bucket? */
static int leads_to(struct agree *a, uint32_t dir, uint64_t cookie, uint32_t bucket, bool *ret_leads)
{
	uint8_t key[MOJO_KEY_BYTES_MAX];
	struct mojo_cell cell;
	struct entry entry;
	int err = mojo_tree_get(a->tree, key, entry_key(key, dir, cookie), &cell);
	if (err && err != -ENOENT)
		return err;
	*ret_leads = !err && decode_entry(&cell, cookie, &entry) && entry.child == bucket;
	return 0;
}

/* All cells of one type, in order; the tree may be changed on the way. */
typedef int cell_fn(struct agree *a, const struct mojo_cell *cell);

static int each(struct agree *a, enum mojo_key_type type, cell_fn *fn)
{
	uint8_t key[MOJO_KEY_BYTES_MAX] = { type };
	unsigned length = 1;
	struct mojo_cell cell;
	int err;
	while (!(err = mojo_tree_next(a->tree, key, length, length > 1, &cell))) {
		if (cell.key_length == 0 || cell.key[0] != type)
			return 0;
		memcpy(key, cell.key, cell.key_length);
		length = cell.key_length;
		err = fn(a, &cell);
		if (err)
			return err;
		if (length == 1) /* nothing but the type: go on behind it all the same */
			key[length++] = 0;
	}
	return err == -ENOENT ? 0 : err;
}

/* ---- lost+found ----------------------------------------------------------------------------- */

static int free_number(struct agree *a, uint32_t *ret_bucket)
{
	struct mojo_cell cell;
	uint8_t key[MOJO_KEY_BYTES_MAX] = { MOJO_KEY_ENTRY };
	uint32_t last = MOJO_ROOT_BUCKET;
	struct mojo_inode inode;
	int err = mojo_tree_before(a->tree, key, 1, &cell);
	if (!err && cell.key[0] == MOJO_KEY_INODE && cell.key_length == 5)
		last = mojo_get_be32(cell.key + 1);
	key[0] = MOJO_KEY_ORPHAN; /* pages may be there whose file is not */
	err = mojo_tree_before(a->tree, key, 1, &cell);
	if (!err && cell.key[0] == MOJO_KEY_SLOT && cell.key_length == 9 && mojo_get_be32(cell.key + 1) > last)
		last = mojo_get_be32(cell.key + 1);
	if (last < MOJO_BUCKET_MAX) {
		*ret_bucket = last + 1;
		return 0;
	}
	for (uint32_t bucket = MOJO_ROOT_BUCKET + 1; bucket < MOJO_BUCKET_MAX; bucket++) {
		struct mojo_slotmap map = { .tree = a->tree, .pages_per_slot = a->store->root.pages_per_slot };
		struct mojo_entry entry;
		uint64_t page;
		if (mojo_inode_get(a->tree, bucket, &inode) == -ENOENT &&
		    mojo_slotmap_next(&map, bucket, 0, &page, &entry) == -ENOENT) {
			*ret_bucket = bucket;
			return 0;
		}
	}
	return -ENOSPC;
}

/* Links the bucket of @inode into @dir, under @name, or if that is taken with a number behind it. The directory's
 * counts are put right later. */
static int link_as(struct agree *a, uint32_t dir, const char *wanted, struct mojo_inode *inode)
{
	for (unsigned n = 0; n < 1000; n++) {
		char name[64];
		uint8_t key[MOJO_KEY_BYTES_MAX], value[ENTRY_FIXED_BYTES + sizeof(name)];
		struct mojo_cell cell;
		int length = n ? snprintf(name, sizeof(name), "%s.%u", wanted, n)
			       : snprintf(name, sizeof(name), "%s", wanted);
		uint64_t first = mojo_name_cookie(name, (size_t)length), cookie = first;
		bool taken = false;
		int err = 0;
		for (; cookie < first + COOKIE_SAME; cookie++) {
			err = mojo_tree_get(a->tree, key, entry_key(key, dir, cookie), &cell);
			if (err)
				break;
			taken |= cell.value_length == ENTRY_FIXED_BYTES + (unsigned)length &&
				 memcmp(cell.value + ENTRY_FIXED_BYTES, name, (size_t)length) == 0;
		}
		if (cookie == first + COOKIE_SAME || taken)
			continue;
		if (err != -ENOENT)
			return err;
		mojo_put32(value, inode->attr.bucket);
		mojo_put32(value + 4, inode->attr.mode);
		memcpy(value + ENTRY_FIXED_BYTES, name, (size_t)length);
		inode->attr.parent = dir;
		inode->cookie = cookie;
		inode->attr.nlink = S_ISDIR(inode->attr.mode) ? 2 : 1;
		err = put_inode(a, inode);
		return err ? err : put(a, key, ENTRY_KEY_BYTES, value, ENTRY_FIXED_BYTES + (unsigned)length);
	}
	return -EEXIST;
}

static int find_lost_dir(struct agree *a)
{
	uint64_t first = mojo_name_cookie(LOST_NAME, strlen(LOST_NAME));
	int64_t now = mojo_now(a->store);
	for (uint64_t cookie = first; cookie < first + COOKIE_SAME; cookie++) {
		uint8_t key[MOJO_KEY_BYTES_MAX];
		struct mojo_cell cell;
		struct entry entry;
		struct mojo_inode inode;
		int err = mojo_tree_get(a->tree, key, entry_key(key, MOJO_ROOT_BUCKET, cookie), &cell);
		if (err == -ENOENT)
			break;
		if (err)
			return err;
		if (decode_entry(&cell, cookie, &entry) && entry.length == strlen(LOST_NAME) &&
		    memcmp(entry.name, LOST_NAME, entry.length) == 0 && get_inode(a, entry.child, &inode) == 0 &&
		    S_ISDIR(inode.attr.mode)) {
			a->lost_dir = entry.child;
			return 0;
		}
	}
	struct mojo_inode dir = { .attr = { .mode = S_IFDIR | 0700, .nlink = 2 } };
	dir.attr.atime_ns = dir.attr.mtime_ns = dir.attr.ctime_ns = dir.attr.btime_ns = now;
	int err = free_number(a, &dir.attr.bucket);
	if (!err)
		err = link_as(a, MOJO_ROOT_BUCKET, LOST_NAME, &dir);
	if (!err)
		a->lost_dir = dir.attr.bucket;
	return err;
}

static int link_lost(struct agree *a, struct mojo_inode *inode)
{
	char name[16];
	int err = a->lost_dir ? 0 : find_lost_dir(a);
	snprintf(name, sizeof(name), "#%" PRIu32, inode->attr.bucket);
	return err ? err : link_as(a, a->lost_dir, name, inode);
}

/* ---- the root directory --------------------------------------------------------------------- */

static int agree_root(struct agree *a)
{
	struct mojo_inode root;
	int err = get_inode(a, MOJO_ROOT_BUCKET, &root);
	bool there = !err;
	if (err && err != -ENOENT)
		return err;
	if (there && S_ISDIR(root.attr.mode) && root.attr.nlink >= 2 && root.attr.parent == MOJO_ROOT_BUCKET)
		return 0;
	say(a, MOJO_FOUND_NAME, MOJO_ROOT_BUCKET, "", "the root directory is %s",
	    there ? "not as it should be" : "missing");
	if (!a->mend)
		return 0;
	if (!there || !S_ISDIR(root.attr.mode)) {
		int64_t now = mojo_now(a->store);
		root = (struct mojo_inode){ .attr = { .bucket = MOJO_ROOT_BUCKET, .mode = S_IFDIR | 0755 } };
		root.attr.atime_ns = root.attr.mtime_ns = root.attr.ctime_ns = root.attr.btime_ns = now;
	}
	root.attr.nlink = root.attr.nlink < 2 ? 2 : root.attr.nlink;
	root.attr.parent = MOJO_ROOT_BUCKET;
	return put_inode(a, &root);
}

/* ---- entries -------------------------------------------------------------------------------- */

/* Was the same name there before, with a lower cookie? */
static int is_double(struct agree *a, uint32_t dir, uint64_t cookie, const struct entry *entry, bool *ret_double)
{
	*ret_double = false;
	for (uint64_t at = mojo_name_cookie(entry->name, entry->length); at < cookie && !*ret_double; at++) {
		uint8_t key[MOJO_KEY_BYTES_MAX];
		struct mojo_cell cell;
		int err = mojo_tree_get(a->tree, key, entry_key(key, dir, at), &cell);
		if (err && err != -ENOENT)
			return err;
		*ret_double = !err && cell.value_length == ENTRY_FIXED_BYTES + entry->length &&
			      memcmp(cell.value + ENTRY_FIXED_BYTES, entry->name, entry->length) == 0;
	}
	return 0;
}

/* Makes the child's inode lead to this entry, its only one. */
static int adopt(struct agree *a, struct mojo_inode *child, uint32_t dir, uint64_t cookie)
{
	uint8_t key[MOJO_KEY_BYTES_MAX];
	int err = 0;
	if (child->attr.nlink == 0) {
		err = drop(a, key, bucket_key(key, MOJO_KEY_ORPHAN, child->attr.bucket));
		child->attr.nlink = S_ISDIR(child->attr.mode) ? 2 : 1;
	}
	child->attr.parent = dir;
	child->cookie = cookie;
	return err ? err : put_inode(a, child);
}

static int agree_entry(struct agree *a, const struct mojo_cell *cell)
{
	if (cell->key_length != ENTRY_KEY_BYTES) {
		say(a, MOJO_FOUND_NAME, 0, NULL, "an entry of a directory is not of a form that is possible");
		return a->mend ? drop(a, cell->key, cell->key_length) : 0;
	}
	uint32_t dir = mojo_get_be32(cell->key + 1);
	uint64_t cookie = mojo_get_be64(cell->key + 5);
	struct mojo_inode parent, child;
	struct entry entry;
	char path[PATH_MAX];
	if (!decode_entry(cell, cookie, &entry)) {
		say(a, MOJO_FOUND_NAME, dir, mojo_path_in(a->tree, dir, path, sizeof(path)),
		    "an entry of this directory has a name that it cannot have there");
		return a->mend ? drop(a, cell->key, cell->key_length) : 0;
	}
	const char *wrong = NULL;
	bool doubled = false, other = false;
	int err = get_inode(a, dir, &parent);
	if (err && err != -ENOENT)
		return err;
	if (err || !S_ISDIR(parent.attr.mode))
		wrong = "is in a directory that does not exist";
	err = get_inode(a, entry.child, &child);
	if (err && err != -ENOENT)
		return err;
	if (!wrong && (err || entry.child == MOJO_ROOT_BUCKET))
		wrong = "leads to a file that does not exist";
	if (!wrong) {
		err = is_double(a, dir, cookie, &entry, &doubled);
		if (err)
			return err;
		if (doubled)
			wrong = "is there twice";
	}
	bool at_home = !wrong && child.attr.nlink && child.attr.parent == dir && child.cookie == cookie;
	if (!wrong && !at_home) {
		if (child.attr.nlink) {
			err = leads_to(a, child.attr.parent, child.cookie, entry.child, &other);
			if (err)
				return err;
		}
		if (other)
			wrong = "is a second name of its file";
	}
	if (wrong || !at_home) {
		say(a, MOJO_FOUND_NAME, wrong ? dir : entry.child,
		    mojo_path_in(a->tree, wrong ? dir : entry.child, path, sizeof(path)), "the entry \"%.*s\" %s",
		    (int)entry.length, entry.name, wrong ? wrong : "and its file do not lead to each other");
		if (!a->mend)
			return 0;
		if (wrong)
			return drop(a, cell->key, cell->key_length);
		err = adopt(a, &child, dir, cookie);
		if (err)
			return err;
	}
	if ((entry.mode & S_IFMT) == (child.attr.mode & S_IFMT))
		return 0;
	say(a, MOJO_FOUND_NAME, entry.child, mojo_path_in(a->tree, entry.child, path, sizeof(path)),
	    "its entry is of another type of file");
	if (!a->mend)
		return 0;
	struct mojo_cell mended = *cell;
	mojo_put32(mended.value + 4, child.attr.mode);
	return put(a, mended.key, mended.key_length, mended.value, mended.value_length);
}

/* ---- slots ---------------------------------------------------------------------------------- */

static int agree_slot(struct agree *a, const struct mojo_cell *cell)
{
	if (cell->key_length != 9) {
		say(a, MOJO_FOUND_INDEX, 0, NULL, "a slot is not of a form that is possible");
		if (a->mend && cell->value_length >= MOJO_REF_BYTES)
			mojo_ref_release(a->tree->blobs, cell->value);
		return a->mend ? drop(a, cell->key, cell->key_length) : 0;
	}
	uint32_t bucket = mojo_get_be32(cell->key + 1), page_size = a->store->root.page_size;
	struct mojo_inode inode;
	int err = get_inode(a, bucket, &inode);
	if (!err && !S_ISDIR(inode.attr.mode))
		return 0;
	if (err && err != -ENOENT)
		return err;
	/* Several slots of one file: only the first one tells. */
	struct mojo_slotmap map = { .tree = a->tree, .pages_per_slot = a->store->root.pages_per_slot };
	uint64_t page, last = 0;
	struct mojo_entry entry;
	uint32_t slot = mojo_get_be32(cell->key + 5);
	if (!err) {
		say(a, MOJO_FOUND_NAME, bucket, NULL, "a directory has pages");
		uint64_t removed;
		a->changed |= a->mend;
		return a->mend ? mojo_slotmap_clear(&map, bucket, 0, UINT64_MAX, &removed) : 0;
	}
	uint8_t key[MOJO_KEY_BYTES_MAX];
	struct mojo_cell before;
	memcpy(key, cell->key, 9);
	mojo_put_be32(key + 5, 0);
	if (slot && mojo_tree_next(a->tree, key, 9, false, &before) == 0 && memcmp(before.key, cell->key, 9) != 0)
		return 0;
	say(a, MOJO_FOUND_NAME, bucket, NULL, "there are pages of a file that does not exist");
	if (!a->mend)
		return 0;
	for (uint64_t from = 0; mojo_slotmap_next(&map, bucket, from, &page, &entry) == 0; from = page + 1)
		last = page + 1;
	int64_t now = mojo_now(a->store);
	inode = (struct mojo_inode){ .attr = { .bucket = bucket, .mode = S_IFREG | 0600, .size = last * page_size } };
	inode.attr.atime_ns = inode.attr.mtime_ns = inode.attr.ctime_ns = inode.attr.btime_ns = now;
	/* Whether it was a clone, or was cloned, is lost with the inode: all that was written by now may be shared. */
	inode.shared = a->store->log.tail ? a->store->log.tail : MOJO_ADDRESS_MAX + 1;
	return link_lost(a, &inode);
}

/* ---- inodes --------------------------------------------------------------------------------- */

/* Does directory @bucket hang below the root? */
static int is_anchored(struct agree *a, uint32_t bucket, bool *ret_anchored)
{
	uint32_t at = bucket;
	*ret_anchored = false;
	for (unsigned depth = 0; depth < DEPTH_MAX; depth++) {
		struct mojo_inode inode;
		if (at == MOJO_ROOT_BUCKET || mojo_block_set_has(&a->anchored, SET_BLOCKS, at)) {
			*ret_anchored = true;
			break;
		}
		int err = get_inode(a, at, &inode);
		if (err == -ENOENT || (!err && (!inode.attr.nlink || !S_ISDIR(inode.attr.mode))))
			return 0; /* something else tells of that */
		if (err)
			return err;
		at = inode.attr.parent;
	}
	/* The whole way is known now. */
	for (at = bucket;
	     *ret_anchored && at != MOJO_ROOT_BUCKET && !mojo_block_set_has(&a->anchored, SET_BLOCKS, at);) {
		struct mojo_inode inode;
		int err = mojo_block_set_add(&a->anchored, SET_BLOCKS, at, 1);
		if (!err)
			err = get_inode(a, at, &inode);
		if (err)
			return err;
		at = inode.attr.parent;
	}
	return 0;
}

static int agree_circle(struct agree *a, const struct mojo_cell *cell)
{
	struct mojo_inode inode;
	uint32_t bucket = cell->key_length == 5 ? mojo_get_be32(cell->key + 1) : 0;
	bool anchored;
	if (!bucket || bucket == MOJO_ROOT_BUCKET ||
	    mojo_inode_decode(cell->value, cell->value_length, bucket, &inode) != 0 || !S_ISDIR(inode.attr.mode) ||
	    !inode.attr.nlink)
		return 0;
	int err = is_anchored(a, bucket, &anchored);
	if (err || anchored)
		return err;
	say(a, MOJO_FOUND_NAME, bucket, NULL, "this directory cannot be reached from the root directory");
	if (!a->mend)
		return 0;
	uint8_t key[MOJO_KEY_BYTES_MAX];
	err = drop(a, key, entry_key(key, inode.attr.parent, inode.cookie));
	return err ? err : link_lost(a, &inode);
}

/* Inodes by themselves, and that each has its name or its orphan mark. */
static int agree_inode(struct agree *a, const struct mojo_cell *cell)
{
	struct mojo_inode inode;
	uint32_t bucket = cell->key_length == 5 ? mojo_get_be32(cell->key + 1) : 0;
	char path[PATH_MAX];
	if (!bucket || bucket > MOJO_BUCKET_MAX ||
	    mojo_inode_decode(cell->value, cell->value_length, bucket, &inode) != 0) {
		say(a, MOJO_FOUND_NAME, bucket, NULL, "what is noted of a file is not of a form that is possible");
		return a->mend ? drop(a, cell->key, cell->key_length) : 0;
	}
	if (bucket == MOJO_ROOT_BUCKET)
		return 0;
	bool is_dir = S_ISDIR(inode.attr.mode), named = false;
	int err = 0;
	if (inode.attr.nlink == 0) {
		uint8_t key[MOJO_KEY_BYTES_MAX];
		struct mojo_cell mark;
		err = mojo_tree_get(a->tree, key, bucket_key(key, MOJO_KEY_ORPHAN, bucket), &mark);
		if (err != -ENOENT)
			return err;
		say(a, MOJO_FOUND_NAME, bucket, NULL, "this file has no name, and is not marked as one to be removed");
		return a->mend ? put(a, key, 5, "", 0) : 0;
	}
	err = leads_to(a, inode.attr.parent, inode.cookie, bucket, &named);
	if (err)
		return err;
	if (!named) {
		say(a, MOJO_FOUND_NAME, bucket, NULL, "this %s has no name", is_dir ? "directory" : "file");
		return a->mend ? link_lost(a, &inode) : 0;
	}
	if (!is_dir && inode.attr.nlink != 1) {
		say(a, MOJO_FOUND_COUNT, bucket, mojo_path_in(a->tree, bucket, path, sizeof(path)),
		    "it has one name, and counts %" PRIu32, inode.attr.nlink);
		inode.attr.nlink = 1;
		return a->mend ? put_inode(a, &inode) : 0;
	}
	return 0;
}

static int agree_orphan(struct agree *a, const struct mojo_cell *cell)
{
	struct mojo_inode inode;
	uint32_t bucket = cell->key_length == 5 ? mojo_get_be32(cell->key + 1) : 0;
	int err = bucket && cell->value_length == 0 ? get_inode(a, bucket, &inode) : -ENOENT;
	if ((err && err != -ENOENT) || (!err && inode.attr.nlink == 0))
		return err;
	say(a, MOJO_FOUND_NAME, bucket, NULL, "a file is marked as one without a name that %s",
	    err ? "does not exist" : "has one");
	return a->mend ? drop(a, cell->key, cell->key_length) : 0;
}

/* ---- counts --------------------------------------------------------------------------------- */

static int count_entries(struct agree *a, uint32_t dir, uint64_t *ret_entries, uint32_t *ret_directories)
{
	uint8_t key[MOJO_KEY_BYTES_MAX];
	unsigned length = entry_key(key, dir, 0);
	struct mojo_cell cell;
	int err;
	*ret_entries = *ret_directories = 0;
	for (bool behind = false; !(err = mojo_tree_next(a->tree, key, length, behind, &cell)); behind = true) {
		if (cell.key_length != ENTRY_KEY_BYTES || memcmp(cell.key, key, 5) != 0)
			return 0;
		++*ret_entries;
		*ret_directories += cell.value_length >= ENTRY_FIXED_BYTES && S_ISDIR(mojo_get32(cell.value + 4));
		memcpy(key, cell.key, length);
	}
	return err == -ENOENT ? 0 : err;
}

static int agree_directory(struct agree *a, struct mojo_inode *inode)
{
	uint64_t entries;
	uint32_t directories, bucket = inode->attr.bucket;
	char path[PATH_MAX];
	int err = count_entries(a, bucket, &entries, &directories);
	if (err || (inode->attr.size == entries && (!inode->attr.nlink || inode->attr.nlink == directories + 2)))
		return err;
	say(a, MOJO_FOUND_COUNT, bucket, mojo_path_in(a->tree, bucket, path, sizeof(path)),
	    "it counts %" PRIu64 " entries and %" PRId64 " directories among them; there are %" PRIu64 " and %" PRIu32,
	    inode->attr.size, (int64_t)inode->attr.nlink - 2, entries, directories);
	inode->attr.size = entries;
	if (inode->attr.nlink)
		inode->attr.nlink = directories + 2;
	return a->mend ? put_inode(a, inode) : 0;
}

static int agree_pages(struct agree *a, struct mojo_inode *inode)
{
	enum { PIECE = 64 };
	struct mojo_slotmap map = { .tree = a->tree, .pages_per_slot = a->store->root.pages_per_slot };
	uint32_t bucket = inode->attr.bucket, page_size = a->store->root.page_size;
	uint64_t limit = (inode->attr.size + page_size - 1) / page_size, page, pages = 0, removed;
	struct mojo_entry entry, entries[PIECE];
	char path[PATH_MAX];
	int err = mojo_slotmap_next(&map, bucket, limit, &page, &entry);
	if (err && err != -ENOENT)
		return err;
	if (!err) {
		say(a, MOJO_FOUND_COUNT, bucket, mojo_path_in(a->tree, bucket, path, sizeof(path)),
		    "it has pages behind its end, page %" PRIu64 " for one", page);
		if (a->mend) {
			a->changed = true;
			err = mojo_slotmap_clear(&map, bucket, limit, UINT64_MAX, &removed);
			if (err)
				return err;
		}
	}
	/* Whole pieces at a time; the holes between are stepped over. */
	for (uint64_t from = 0; !(err = mojo_slotmap_next(&map, bucket, from, &page, &entry)); from = page + PIECE) {
		page -= page % PIECE;
		err = mojo_slotmap_get(&map, bucket, page, PIECE, entries);
		if (err)
			return err;
		for (unsigned i = 0; i < PIECE; i++)
			pages += entries[i].version != 0;
	}
	if (err != -ENOENT || pages == inode->attr.pages)
		return err == -ENOENT ? 0 : err;
	say(a, MOJO_FOUND_COUNT, bucket, mojo_path_in(a->tree, bucket, path, sizeof(path)),
	    "it counts %" PRIu64 " pages with content; there are %" PRIu64, inode->attr.pages, pages);
	inode->attr.pages = pages;
	return a->mend ? put_inode(a, inode) : 0;
}

static int agree_counts(struct agree *a, const struct mojo_cell *cell)
{
	struct mojo_inode inode;
	uint32_t bucket = cell->key_length == 5 ? mojo_get_be32(cell->key + 1) : 0;
	if (!bucket || mojo_inode_decode(cell->value, cell->value_length, bucket, &inode) != 0)
		return 0;
	return S_ISDIR(inode.attr.mode) ? agree_directory(a, &inode) : agree_pages(a, &inode);
}

static int agree_unknown(struct agree *a)
{
	uint8_t key[MOJO_KEY_BYTES_MAX] = { 0 };
	struct mojo_cell cell;
	for (;;) {
		/* Below the first type, or above the last. */
		int err = mojo_tree_next(a->tree, key, key[0] ? 1 : 0, false, &cell);
		if (err == -ENOENT)
			return 0;
		if (err)
			return err;
		bool known = cell.key_length && cell.key[0] >= MOJO_KEY_INODE && cell.key[0] <= MOJO_KEY_ORPHAN;
		if (!known) {
			say(a, MOJO_FOUND_INDEX, 0, NULL, "the index holds something of an unknown kind");
			if (!a->mend)
				return 0;
			err = drop(a, cell.key, cell.key_length);
			if (err)
				return err;
		} else {
			key[0] = MOJO_KEY_ORPHAN + 1;
		}
	}
}

/* ---- all of it ------------------------------------------------------------------------------ */

int mojo_agree(struct mojo_store *store, struct mojo_tree *tree, uint32_t version, bool mend, struct mojo_sink *sink,
	       bool *ret_changed)
{
	struct agree a = { .store = store, .tree = tree, .version = version, .mend = mend, .sink = sink };
	int err = agree_unknown(&a);
	if (!err)
		err = agree_root(&a);
	if (!err)
		err = each(&a, MOJO_KEY_ENTRY, agree_entry);
	if (!err)
		err = each(&a, MOJO_KEY_SLOT, agree_slot);
	if (!err)
		err = each(&a, MOJO_KEY_INODE, agree_inode);
	if (!err)
		err = each(&a, MOJO_KEY_INODE, agree_circle);
	if (!err)
		err = each(&a, MOJO_KEY_ORPHAN, agree_orphan);
	if (!err) /* last: what came before moves names about */
		err = each(&a, MOJO_KEY_INODE, agree_counts);
	mojo_block_set_free(&a.anchored);
	if (ret_changed)
		*ret_changed = a.changed;
	return err;
}

int mojo_agree_circles(struct mojo_store *store, struct mojo_tree *tree, uint32_t version, struct mojo_sink *sink)
{
	struct agree a = { .store = store, .tree = tree, .version = version, .sink = sink };
	int err = each(&a, MOJO_KEY_INODE, agree_circle);
	mojo_block_set_free(&a.anchored);
	return err;
}
