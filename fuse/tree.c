/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tree.h"

#define KIND_SHIFT    56
#define VERSION_SHIFT 32

#define PLACE_DOT     1u
#define PLACE_DOT_DOT 2u
#define PLACE_EXTRA   (1ull << 62)
#define PLACE_VERSION (PLACE_EXTRA | 1ull << 61)

#define WAL_SUFFIX         "-wal"
#define SHM_SUFFIX         "-shm"
#define DATABASE_BYTES_MIN 512u /* the smallest page of SQLite, hence its smallest database */

#define CHAINS 1024u

struct tree_file {
	struct tree_file *next; /* in its chain */
	uint32_t bucket;
	unsigned handles; /* handles and writers are guarded by the tree's lock */
	unsigned writers;
	struct evidence_file *evidence; /* the same for all handles */
	atomic_bool privileged;         /* may have set-id bits that a write must clear */
};

struct tree {
	struct mojo_store *store;  /* borrowed */
	struct shm *shm;           /* owned */
	struct evidence *evidence; /* owned */
	struct rollback *rollback; /* owned */
	bool read_only, list_versions;
	uint32_t page_size;
	atomic_ullong frozen;   /* how many versions are */
	atomic_llong newest_ns; /* when the last of them was committed */
	atomic_uint last_good;  /* no version above it was found to be good; UINT_MAX: not looked yet */

	pthread_mutex_t lock; /* guards chains; the engine is never called with it held */
	struct tree_file *chains[CHAINS];
};

/* ---- numbers and attributes ------------------------------------------------------------------ */

fuse_ino_t tree_ino(struct tree_node node)
{
	return (uint64_t)node.kind << KIND_SHIFT | (uint64_t)node.version << VERSION_SHIFT | node.bucket;
}

struct tree_node tree_node(fuse_ino_t ino)
{
	return (struct tree_node){
		.kind = ino >> KIND_SHIFT & 3,
		.version = ino >> VERSION_SHIFT & MOJO_VERSION_MAX,
		.bucket = (uint32_t)ino,
	};
}

bool tree_is_frozen(struct tree_node node)
{
	return node.version != MOJO_ACTIVE;
}

bool tree_is_memory(struct tree_node node)
{
	return node.version == MOJO_ACTIVE && node.bucket >= SHM_ID_MIN;
}

static struct timespec to_timespec(int64_t ns)
{
	int64_t seconds = ns / 1000000000, rest = ns % 1000000000;

	if (rest < 0) {
		rest += 1000000000;
		seconds--;
	}
	return (struct timespec){ .tv_sec = seconds, .tv_nsec = rest };
}

static bool is_made_up(struct tree_node node)
{
	return node.kind != TREE_BUCKET;
}

static void to_stat(struct tree *tree, struct tree_node node, const struct mojo_attr *attr, struct stat *ret_stat)
{
	uint64_t page_size = tree_is_memory(node) ? SHM_BLOCK_BYTES : tree->page_size;

	memset(ret_stat, 0, sizeof(*ret_stat));
	ret_stat->st_ino = tree_ino(node);
	ret_stat->st_mode = attr->mode;
	ret_stat->st_nlink = attr->nlink;
	ret_stat->st_uid = attr->uid;
	ret_stat->st_gid = attr->gid;
	ret_stat->st_rdev = attr->rdev;
	ret_stat->st_size = (off_t)attr->size;
	ret_stat->st_blksize = tree->page_size;
	ret_stat->st_blocks = (blkcnt_t)(attr->pages * (page_size / 512));
	ret_stat->st_atim = to_timespec(attr->atime_ns);
	ret_stat->st_mtim = to_timespec(attr->mtime_ns);
	ret_stat->st_ctim = to_timespec(attr->ctime_ns);
	if (is_made_up(node)) {
		ret_stat->st_size = 0;
		ret_stat->st_blocks = 0;
	}
	if (node.bucket == MOJO_ROOT_BUCKET && node.version == MOJO_ACTIVE && tree->list_versions) {
		/* Each @vN is a directory in the root, and changed it when it came. */
		int64_t newest_ns = atomic_load(&tree->newest_ns);

		ret_stat->st_nlink += atomic_load(&tree->frozen);
		if (newest_ns > attr->mtime_ns)
			ret_stat->st_mtim = to_timespec(newest_ns);
		if (newest_ns > attr->ctime_ns)
			ret_stat->st_ctim = to_timespec(newest_ns);
	}
}

/* A bucket's id may be used again; its time of birth tells the kernel that it is another file. */
static uint64_t generation(const struct mojo_attr *attr)
{
	uint64_t birth = (uint64_t)attr->btime_ns;

	return (birth ^ birth >> 32) & 0x7fffffff;
}

static void to_entry(struct tree *tree, struct tree_node node, const struct mojo_attr *attr,
		     struct fuse_entry_param *ret_entry)
{
	memset(ret_entry, 0, sizeof(*ret_entry));
	to_stat(tree, node, attr, &ret_entry->attr);
	ret_entry->ino = tree_ino(node);
	ret_entry->generation = generation(attr);
	ret_entry->attr_timeout = TREE_CACHE_SECONDS;
	ret_entry->entry_timeout = TREE_CACHE_SECONDS;
}

static void to_absent(struct fuse_entry_param *ret_entry, double seconds)
{
	memset(ret_entry, 0, sizeof(*ret_entry));
	ret_entry->entry_timeout = seconds;
}

void tree_entry(struct tree *tree, const struct mojo_attr *attr, struct fuse_entry_param *ret_entry)
{
	to_entry(tree, (struct tree_node){ .bucket = attr->bucket }, attr, ret_entry);
}

/* The root of a frozen tree was last changed, for whoever looks at it, by its commit. */
static void to_version_root(struct tree *tree, const struct mojo_version_info *info, struct mojo_attr *attr,
			    struct fuse_entry_param *ret_entry)
{
	attr->mtime_ns = attr->ctime_ns = info->time_ns;
	to_entry(tree, (struct tree_node){ .version = info->version, .bucket = MOJO_ROOT_BUCKET }, attr, ret_entry);
}

/* ---- making and freeing ---------------------------------------------------------------------- */

int tree_new(struct mojo_store *store, bool list_versions, struct tree **ret_tree)
{
	struct mojo_version_info *newest = NULL;
	struct tree *tree = calloc(1, sizeof(*tree));
	struct mojo_info info;
	int error = -ENOMEM;

	if (!tree)
		return -ENOMEM;
	newest = malloc(sizeof(*newest));
	if (!newest)
		goto fail;
	error = shm_new(&tree->shm);
	if (!error)
		error = evidence_new(&tree->evidence);
	if (!error)
		error = mojo_info(store, &info);
	if (!error)
		error = rollback_new(store, info.page_size, &tree->rollback);
	if (error)
		goto fail;
	tree->store = store;
	tree->list_versions = list_versions;
	tree->read_only = info.read_only;
	tree->page_size = info.page_size;
	atomic_init(&tree->frozen, info.frozen_versions);
	atomic_init(&tree->newest_ns, INT64_MIN);
	atomic_init(&tree->last_good, UINT_MAX);
	if (info.active_version > 1 && tree_version(tree, info.active_version - 1, newest) == 0)
		atomic_store(&tree->newest_ns, newest->time_ns);
	pthread_mutex_init(&tree->lock, NULL);
	free(newest);
	*ret_tree = tree;
	return 0;
fail:
	free(newest);
	evidence_free(tree->evidence);
	shm_free(tree->shm);
	free(tree);
	return error;
}

void tree_free(struct tree *tree)
{
	if (!tree)
		return;
	for (size_t i = 0; i < CHAINS; i++) {
		while (tree->chains[i]) {
			struct tree_file *file = tree->chains[i];

			tree->chains[i] = file->next;
			/* The mount went while the file was open: nobody is left to release it. */
			for (unsigned n = 0; n < file->handles; n++)
				mojo_release(tree->store, file->bucket);
			free(file);
		}
	}
	rollback_free(tree->rollback);
	evidence_free(tree->evidence);
	shm_free(tree->shm);
	pthread_mutex_destroy(&tree->lock);
	free(tree);
}

struct mojo_store *tree_store(struct tree *tree)
{
	return tree->store;
}

struct shm *tree_shm(struct tree *tree)
{
	return tree->shm;
}

struct evidence *tree_evidence(struct tree *tree)
{
	return tree->evidence;
}

struct rollback *tree_rollback(struct tree *tree)
{
	return tree->rollback;
}

struct evidence_file *tree_file_evidence(struct tree_file *file)
{
	return file->evidence;
}

bool tree_is_read_only(const struct tree *tree)
{
	return tree->read_only;
}

/* ---- names ----------------------------------------------------------------------------------- */

uint32_t tree_version_name(const char *name)
{
	uint32_t version = 0;

	if (name[0] != '@' || name[1] != 'v' || name[2] < '1' || name[2] > '9')
		return 0;
	for (const char *digit = name + 2; *digit; digit++) {
		if (*digit < '0' || *digit > '9')
			return 0;
		version = version * 10 + (uint32_t)(*digit - '0');
		if (version > MOJO_VERSION_MAX)
			return 0;
	}
	return version;
}

int tree_version(struct tree *tree, uint32_t version, struct mojo_version_info *ret_info)
{
	int error = mojo_version_next(tree->store, version, ret_info);

	if (error)
		return error;
	return ret_info->version == version && !ret_info->active ? 0 : -ENOENT;
}

void tree_committed(struct tree *tree, const struct mojo_version_info *info)
{
	atomic_fetch_add(&tree->frozen, 1);
	atomic_store(&tree->newest_ns, info->time_ns);
}

void tree_verified(struct tree *tree, uint32_t version)
{
	unsigned known = atomic_load(&tree->last_good);

	while (known < version && !atomic_compare_exchange_weak(&tree->last_good, &known, version))
		;
}

/* The newest version that was found to be good; -ENOENT. */
static int find_last_good(struct tree *tree, struct mojo_version_info *ret_info)
{
	unsigned known = atomic_load(&tree->last_good), from = known;

	if (from == UINT_MAX)
		from = mojo_active_version(tree->store) - 1;
	/* It may have been dropped, or found to be bad since. */
	for (uint32_t version = from; version > 0; version--) {
		int error = tree_version(tree, version, ret_info);

		if (error && error != -ENOENT)
			return error;
		if (error || ret_info->verdict != MOJO_VERDICT_GOOD)
			continue;
		atomic_compare_exchange_strong(&tree->last_good, &known, version);
		return 0;
	}
	atomic_compare_exchange_strong(&tree->last_good, &known, 0);
	return -ENOENT;
}

int tree_check_name(const char *name)
{
	if (name[0] == '@')
		return -EINVAL;
	return strlen(name) > MOJO_NAME_MAX ? -ENAMETOOLONG : 0;
}

bool tree_is_shm_name(struct tree *tree, uint32_t dir, const char *name)
{
	char database[MOJO_NAME_MAX + 1];
	struct mojo_attr attr;
	size_t base;

	if (!shm_is_name(name, &base) || base > MOJO_NAME_MAX)
		return false;
	memcpy(database, name, base);
	database[base] = '\0';
	return mojo_lookup(tree->store, MOJO_ACTIVE, dir, database, &attr) == 0 && S_ISREG(attr.mode);
}

/* Is this a database in WAL mode? Its header says so in bytes 18 and 19. */
static bool is_wal_database(struct tree *tree, uint32_t version, const struct mojo_attr *attr)
{
	static const char magic[16] = "SQLite format 3";
	unsigned char header[20];
	size_t length;

	return S_ISREG(attr->mode) && attr->size >= DATABASE_BYTES_MIN &&
	       mojo_read(tree->store, version, attr->bucket, 0, header, sizeof(header), &length) == 0 &&
	       length == sizeof(header) && memcmp(header, magic, sizeof(magic)) == 0 && header[18] == 2 &&
	       header[19] == 2;
}

/* @name is not in the frozen directory @dir: is it one of those that are made up? -ENOENT if not. */
static int lookup_empty(struct tree *tree, struct tree_node dir, const char *name, struct fuse_entry_param *ret_entry)
{
	struct tree_node node = { .version = dir.version };
	char database[MOJO_NAME_MAX + 1];
	size_t length = strlen(name), suffix = strlen(WAL_SUFFIX);
	struct mojo_attr attr;
	int error;

	if (length <= suffix)
		return -ENOENT;
	if (strcmp(name + length - suffix, WAL_SUFFIX) == 0)
		node.kind = TREE_EMPTY_WAL;
	else if (strcmp(name + length - suffix, SHM_SUFFIX) == 0)
		node.kind = TREE_EMPTY_SHM;
	else
		return -ENOENT;
	memcpy(database, name, length - suffix);
	database[length - suffix] = '\0';
	error = mojo_lookup(tree->store, dir.version, dir.bucket, database, &attr);
	if (error)
		return error;
	if (!is_wal_database(tree, dir.version, &attr))
		return -ENOENT;
	node.bucket = attr.bucket;
	to_entry(tree, node, &attr, ret_entry);
	return 0;
}

static int lookup_version(struct tree *tree, const char *name, struct fuse_entry_param *ret_entry)
{
	uint32_t version = tree_version_name(name);
	struct mojo_version_info info;
	struct mojo_attr attr;
	int error;

	error = version ? tree_version(tree, version, &info) : -ENOENT;
	if (!error)
		error = mojo_getattr(tree->store, version, MOJO_ROOT_BUCKET, &attr);
	if (!error)
		to_version_root(tree, &info, &attr, ret_entry);
	return error;
}

static void last_good_name(uint32_t version, char *ret_target)
{
	sprintf(ret_target, "@v%u", version);
}

static void to_last_good(struct tree *tree, uint32_t version, struct mojo_attr *attr, struct stat *ret_stat)
{
	struct tree_node node = { TREE_LAST_GOOD, version, MOJO_ROOT_BUCKET };
	char target[16];

	last_good_name(version, target);
	attr->mode = S_IFLNK | 0777;
	attr->nlink = 1;
	to_stat(tree, node, attr, ret_stat);
	ret_stat->st_size = (off_t)strlen(target);
}

static int lookup_last_good(struct tree *tree, struct fuse_entry_param *ret_entry)
{
	struct mojo_version_info info;
	struct mojo_attr attr;
	int error = find_last_good(tree, &info);

	if (!error)
		error = mojo_getattr(tree->store, info.version, MOJO_ROOT_BUCKET, &attr);
	if (error)
		return error;
	to_entry(tree, (struct tree_node){ TREE_LAST_GOOD, info.version, MOJO_ROOT_BUCKET }, &attr, ret_entry);
	to_last_good(tree, info.version, &attr, &ret_entry->attr);
	ret_entry->entry_timeout = 0; /* it moves */
	return 0;
}

int tree_readlink(struct tree *tree, struct tree_node node, char *ret_target)
{
	if (node.kind != TREE_LAST_GOOD)
		return mojo_readlink(tree->store, node.version, node.bucket, ret_target);
	last_good_name(node.version, ret_target);
	return 0;
}

int tree_lookup(struct tree *tree, struct tree_node dir, const char *name, struct fuse_entry_param *ret_entry)
{
	struct tree_node node = { .version = dir.version };
	struct mojo_attr attr;
	double seconds = TREE_CACHE_SECONDS;
	size_t base;
	int error;

	if (strlen(name) > MOJO_NAME_MAX)
		return -ENAMETOOLONG;
	if (is_made_up(dir))
		return -ENOTDIR;
	if (name[0] == '@' && dir.bucket == MOJO_ROOT_BUCKET && !tree_is_frozen(dir)) {
		/* Versions come by themselves: that one is not there yet says nothing of later. */
		error = strcmp(name, TREE_LAST_GOOD_NAME) == 0 ? lookup_last_good(tree, ret_entry)
							       : lookup_version(tree, name, ret_entry);
		seconds = 0;
		goto out;
	}
	if (!tree_is_frozen(dir) && shm_is_name(name, &base) && shm_lookup(tree->shm, dir.bucket, name, &attr) == 0) {
		node.bucket = attr.bucket;
		to_entry(tree, node, &attr, ret_entry);
		return 0;
	}
	error = mojo_lookup(tree->store, dir.version, dir.bucket, name, &attr);
	if (!error) {
		node.bucket = attr.bucket;
		to_entry(tree, node, &attr, ret_entry);
	} else if (error == -ENOENT && tree_is_frozen(dir)) {
		error = lookup_empty(tree, dir, name, ret_entry);
	}
out:
	if (error != -ENOENT)
		return error;
	to_absent(ret_entry, seconds);
	return 0;
}

int tree_getattr(struct tree *tree, struct tree_node node, struct stat *ret_stat)
{
	struct mojo_attr attr;
	int error;

	if (tree_is_memory(node))
		error = shm_getattr(tree->shm, node.bucket, &attr);
	else
		error = mojo_getattr(tree->store, node.version, node.bucket, &attr);
	if (error)
		return error;
	if (tree_is_frozen(node) && node.bucket == MOJO_ROOT_BUCKET && !is_made_up(node)) {
		struct mojo_version_info info;
		struct fuse_entry_param entry;

		error = tree_version(tree, node.version, &info);
		if (error)
			return error;
		to_version_root(tree, &info, &attr, &entry);
		*ret_stat = entry.attr;
		return 0;
	}
	if (node.kind == TREE_LAST_GOOD) {
		to_last_good(tree, node.version, &attr, ret_stat);
		return 0;
	}
	to_stat(tree, node, &attr, ret_stat);
	return 0;
}

int tree_read(struct tree *tree, struct tree_node node, uint64_t offset, void *buf, size_t length, size_t *ret_length)
{
	if (is_made_up(node)) {
		*ret_length = 0;
		return 0;
	}
	if (tree_is_memory(node))
		return shm_read(tree->shm, node.bucket, offset, buf, length, ret_length);
	return mojo_read(tree->store, node.version, node.bucket, offset, buf, length, ret_length);
}

/* ---- listings -------------------------------------------------------------------------------- */

struct listing {
	struct tree *tree;
	struct tree_node dir;
	tree_entry_fn *fn;
	void *arg;
	bool stopped; /* fn took no more */
};

static bool emit(struct listing *listing, const char *name, const struct fuse_entry_param *entry, uint64_t place)
{
	if (!listing->stopped && !listing->fn(listing->arg, name, entry, place))
		listing->stopped = true;
	return !listing->stopped;
}

static bool emit_bucket(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct listing *listing = arg;
	struct tree_node node = { .version = listing->dir.version, .bucket = attr->bucket };
	struct fuse_entry_param entry;

	to_entry(listing->tree, node, attr, &entry);
	return emit(listing, name, &entry, cookie);
}

static void emit_directory(struct listing *listing, const char *name, struct tree_node node, uint64_t place)
{
	struct fuse_entry_param entry;

	to_absent(&entry, 0);
	entry.attr.st_ino = tree_ino(node);
	entry.attr.st_mode = S_IFDIR;
	emit(listing, name, &entry, place);
}

static int emit_dots(struct listing *listing, uint64_t place)
{
	struct tree_node parent = listing->dir;
	struct mojo_attr attr;
	int error = mojo_getattr(listing->tree->store, listing->dir.version, listing->dir.bucket, &attr);

	if (error)
		return error;
	if (!S_ISDIR(attr.mode))
		return -ENOTDIR;
	if (listing->dir.bucket == MOJO_ROOT_BUCKET)
		parent.version = MOJO_ACTIVE;
	else if (attr.parent)
		parent.bucket = attr.parent;
	if (place < PLACE_DOT)
		emit_directory(listing, ".", listing->dir, PLACE_DOT);
	if (place < PLACE_DOT_DOT)
		emit_directory(listing, "..", parent, PLACE_DOT_DOT);
	return 0;
}

static void emit_memory(struct listing *listing, uint32_t after)
{
	struct fuse_entry_param entry;
	struct mojo_attr attr;
	char name[MOJO_NAME_MAX + 1];

	while (!listing->stopped && shm_next(listing->tree->shm, listing->dir.bucket, after, name, &attr) == 0) {
		tree_entry(listing->tree, &attr, &entry);
		after = attr.bucket;
		emit(listing, name, &entry, PLACE_EXTRA | after);
	}
}

/* Some entries of a directory, kept because the engine cannot be asked while it lists. */
struct page {
	struct entry {
		char name[MOJO_NAME_MAX + 1];
		struct mojo_attr attr;
	} entries[64];
	size_t count;
	uint64_t cookie;
	bool more;
};

static bool collect(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct page *page = arg;

	if (page->count == sizeof(page->entries) / sizeof(page->entries[0])) {
		page->more = true;
		return false;
	}
	page->cookie = cookie;
	if (S_ISREG(attr->mode) && attr->size >= DATABASE_BYTES_MIN &&
	    strlen(name) + strlen(WAL_SUFFIX) <= MOJO_NAME_MAX) {
		strcpy(page->entries[page->count].name, name);
		page->entries[page->count++].attr = *attr;
	}
	return true;
}

/* The made-up files of one database; those up to the @skip-th of the directory were listed before. */
static void emit_empty(struct listing *listing, const struct entry *database, uint64_t skip, uint64_t *place)
{
	static const struct {
		const char *suffix;
		enum tree_kind kind;
	} kinds[] = { { WAL_SUFFIX, TREE_EMPTY_WAL }, { SHM_SUFFIX, TREE_EMPTY_SHM } };
	struct tree_node dir = listing->dir;

	for (size_t i = 0; i < 2 && !listing->stopped; i++) {
		struct tree_node node = { kinds[i].kind, dir.version, database->attr.bucket };
		char name[2 * MOJO_NAME_MAX];
		struct fuse_entry_param entry;
		struct mojo_attr attr;

		snprintf(name, sizeof(name), "%s%s", database->name, kinds[i].suffix);
		if (mojo_lookup(listing->tree->store, dir.version, dir.bucket, name, &attr) != -ENOENT)
			continue;
		if (++*place <= skip)
			continue;
		to_entry(listing->tree, node, &database->attr, &entry);
		emit(listing, name, &entry, PLACE_EXTRA | *place);
	}
}

/* A frozen directory never changes, so counting its made-up entries from the start is always the same. */
static int emit_empties(struct listing *listing, uint64_t skip)
{
	struct page *page = malloc(sizeof(*page));
	uint64_t place = 0;
	int error = 0;

	if (!page)
		return -ENOMEM;
	page->cookie = 0;
	do {
		page->count = 0;
		page->more = false;
		error = mojo_readdir(listing->tree->store, listing->dir.version, listing->dir.bucket, page->cookie,
				     collect, page);
		for (size_t i = 0; !error && i < page->count && !listing->stopped; i++) {
			if (is_wal_database(listing->tree, listing->dir.version, &page->entries[i].attr))
				emit_empty(listing, &page->entries[i], skip, &place);
		}
	} while (!error && page->more && !listing->stopped);
	free(page);
	return error;
}

static int emit_versions(struct listing *listing, uint32_t after)
{
	struct mojo_version_info info;
	int error = 0;

	while (!listing->stopped && after < MOJO_VERSION_MAX) {
		struct tree_node node = { .bucket = MOJO_ROOT_BUCKET };
		char name[16];

		error = mojo_version_next(listing->tree->store, after + 1, &info);
		if (error || info.active)
			break;
		node.version = after = info.version;
		snprintf(name, sizeof(name), "@v%u", info.version);
		/* Without attributes: they are on disk, one read each, and few who list want them. */
		emit_directory(listing, name, node, PLACE_VERSION | info.version);
	}
	return error == -ENOENT ? 0 : error;
}

int tree_readdir(struct tree *tree, struct tree_node dir, uint64_t place, tree_entry_fn *fn, void *arg)
{
	struct listing listing = { .tree = tree, .dir = dir, .fn = fn, .arg = arg };
	int error = 0;

	if (is_made_up(dir) || tree_is_memory(dir))
		return -ENOTDIR;
	if (place < PLACE_DOT_DOT)
		error = emit_dots(&listing, place);
	if (!error && !listing.stopped && place < PLACE_EXTRA)
		error = mojo_readdir(tree->store, dir.version, dir.bucket, place <= PLACE_DOT_DOT ? 0 : place,
				     emit_bucket, &listing);
	if (!error && !listing.stopped && place < PLACE_VERSION) {
		uint64_t extra = place < PLACE_EXTRA ? 0 : place - PLACE_EXTRA;

		if (tree_is_frozen(dir))
			error = emit_empties(&listing, extra);
		else
			emit_memory(&listing, (uint32_t)extra);
	}
	if (!error && !listing.stopped && !tree_is_frozen(dir) && dir.bucket == MOJO_ROOT_BUCKET && tree->list_versions)
		error = emit_versions(&listing, place < PLACE_VERSION ? 0 : (uint32_t)(place - PLACE_VERSION));
	return error;
}

/* ---- open files ------------------------------------------------------------------------------ */

uint32_t tree_stripped_mode(uint32_t mode)
{
	if (S_ISDIR(mode))
		return mode;
	mode &= ~(uint32_t)S_ISUID;
	/* Without the group's execute bit, set-group-id has meant mandatory locking, and stays. */
	if (mode & S_IXGRP)
		mode &= ~(uint32_t)S_ISGID;
	return mode;
}

/* Caller holds the lock. */
static struct tree_file **find(struct tree *tree, uint32_t bucket)
{
	struct tree_file **link = &tree->chains[bucket % CHAINS];

	while (*link && (*link)->bucket != bucket)
		link = &(*link)->next;
	return link;
}

int tree_open(struct tree *tree, uint32_t bucket, bool writable, struct tree_file **ret_file)
{
	struct tree_file *file, **link, *fresh = calloc(1, sizeof(*fresh));
	struct evidence_file *evidence;
	struct mojo_attr attr;
	int error;

	if (!fresh)
		return -ENOMEM;
	error = mojo_hold(tree->store, bucket);
	if (!error) {
		error = evidence_open(tree->evidence, bucket, writable, &evidence);
		if (error)
			mojo_release(tree->store, bucket);
	}
	if (error) {
		free(fresh);
		return error;
	}
	pthread_mutex_lock(&tree->lock);
	link = find(tree, bucket);
	file = *link;
	if (!file) {
		file = *link = fresh;
		fresh = NULL;
		file->bucket = bucket;
		file->evidence = evidence;
		atomic_init(&file->privileged, false);
	}
	file->handles++;
	file->writers += writable;
	pthread_mutex_unlock(&tree->lock);
	free(fresh);

	/* Asked only now: a change of mode after this finds the file in the table. */
	if (writable && mojo_getattr(tree->store, MOJO_ACTIVE, bucket, &attr) == 0 &&
	    tree_stripped_mode(attr.mode) != attr.mode)
		atomic_store(&file->privileged, true);
	*ret_file = file;
	return 0;
}

void tree_close(struct tree *tree, struct tree_file *file, bool writable)
{
	struct evidence_file *evidence = file->evidence;
	uint32_t bucket = file->bucket;
	bool last;

	pthread_mutex_lock(&tree->lock);
	file->writers -= writable;
	last = --file->handles == 0;
	if (last)
		*find(tree, bucket) = file->next;
	pthread_mutex_unlock(&tree->lock);
	if (last)
		free(file);
	evidence_close(tree->evidence, evidence, writable);
	mojo_release(tree->store, bucket);
}

int tree_writers(struct tree *tree, uint32_t **ret_buckets, size_t *ret_count)
{
	uint32_t *buckets = NULL;
	size_t count = 0, capacity = 0;
	int error = 0;

	pthread_mutex_lock(&tree->lock);
	for (size_t i = 0; i < CHAINS && !error; i++) {
		for (struct tree_file *file = tree->chains[i]; file; file = file->next) {
			if (!file->writers)
				continue;
			if (count == capacity) {
				size_t wanted = capacity ? 2 * capacity : 64;
				uint32_t *more = realloc(buckets, wanted * sizeof(*more));

				if (!more) {
					error = -ENOMEM;
					break;
				}
				buckets = more;
				capacity = wanted;
			}
			buckets[count++] = file->bucket;
		}
	}
	pthread_mutex_unlock(&tree->lock);
	if (error) {
		free(buckets);
		return error;
	}
	*ret_buckets = buckets;
	*ret_count = count;
	return 0;
}

bool tree_has_writers(struct tree *tree, uint32_t bucket)
{
	struct tree_file *file;
	bool answer;

	pthread_mutex_lock(&tree->lock);
	file = *find(tree, bucket);
	answer = file && file->writers > 0;
	pthread_mutex_unlock(&tree->lock);
	return answer;
}

void tree_mode_changed(struct tree *tree, uint32_t bucket, uint32_t mode)
{
	struct tree_file *file;

	if (tree_stripped_mode(mode) == mode)
		return;
	pthread_mutex_lock(&tree->lock);
	file = *find(tree, bucket);
	if (file)
		atomic_store(&file->privileged, true);
	pthread_mutex_unlock(&tree->lock);
}

static bool strip(struct tree *tree, uint32_t bucket)
{
	struct mojo_attr attr;
	uint32_t mode;

	if (mojo_getattr(tree->store, MOJO_ACTIVE, bucket, &attr) != 0)
		return false;
	mode = tree_stripped_mode(attr.mode);
	if (mode == attr.mode)
		return false;
	attr.mode = mode;
	return mojo_setattr(tree->store, bucket, MOJO_SET_MODE, &attr, &attr) == 0;
}

bool tree_written(struct tree *tree, struct tree_file *file)
{
	/* Cleared before it is acted on: a mode set meanwhile sets it again. */
	if (!atomic_load_explicit(&file->privileged, memory_order_relaxed) ||
	    !atomic_exchange(&file->privileged, false))
		return false;
	return strip(tree, file->bucket);
}
