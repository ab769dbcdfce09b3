/* SPDX-License-Identifier: MIT */
/*
 * tree.h - what the mount shows: the active tree, and every frozen one below `@vN` in its root.
 *
 * An inode number says where a file is, so there is no table of inodes to keep:
 *
 *     bits  0..31  bucket; above MOJO_BUCKET_MAX a file of shm.h
 *     bits 32..55  version, 0 for the active tree
 *     bits 56..57  kind: 0 the bucket itself, 1 an empty `x-wal` and 2 an empty `x-shm` beside it,
 *                  3 the symbolic link @last-good to that version
 *
 * The root of the mount is 1, as FUSE wants it: bucket 1 of the active tree.
 *
 * The empty ones stand in frozen trees only, beside a database in WAL mode that lacks its own: stock
 * sqlite3 opens a WAL database read-only when both are there.
 *
 * Places in a directory (what readdir goes on behind):
 *
 *     1, 2                  behind "." and ".."
 *     above 1000, < 2^62    the engine's
 *     2^62 + n              made-up entries: in the active tree shm.h's, n their id; in a frozen one the
 *                           empty files, n how many came before and with this one
 *     2^62 + 2^61 + n       `@vn`, in the root
 *
 * All functions may be called from any thread.
 */
#ifndef FUSE_TREE_H
#define FUSE_TREE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <fuse_lowlevel.h>

#include "../src/mojo.h"
#include "evidence.h"
#include "rollback.h"
#include "shm.h"

/* Seconds that the kernel may trust a name or attributes: nobody but the kernel changes the tree. */
#define TREE_CACHE_SECONDS 1e9

enum tree_kind { TREE_BUCKET, TREE_EMPTY_WAL, TREE_EMPTY_SHM, TREE_LAST_GOOD };

/* In the root, not in its listing: a symbolic link to the newest version whose databases were found to be good. */
#define TREE_LAST_GOOD_NAME "@last-good"

struct tree_node {
	enum tree_kind kind;
	uint32_t version; /* MOJO_ACTIVE, or a frozen one */
	uint32_t bucket;
};

struct tree; /* opaque */

/* A bucket of the active tree that is open. Belongs to the tree. */
struct tree_file;

/*
 * tree_new - for an open store.
 * @store: borrowed until tree_free()
 * @list_versions: `@vN` are in listings of the root
 */
int tree_new(struct mojo_store *store, bool list_versions, struct tree **ret_tree);
void tree_free(struct tree *tree);

struct mojo_store *tree_store(struct tree *tree);
struct shm *tree_shm(struct tree *tree);
struct evidence *tree_evidence(struct tree *tree);
struct rollback *tree_rollback(struct tree *tree);
bool tree_is_read_only(const struct tree *tree);

fuse_ino_t tree_ino(struct tree_node node);
/* tree_node - any number is accepted; one that was never handed out is found nowhere later. */
struct tree_node tree_node(fuse_ino_t ino);

/* tree_is_frozen - is nothing of it ever written? tree_is_memory - is it one of shm.h? */
bool tree_is_frozen(struct tree_node node);
bool tree_is_memory(struct tree_node node);

/* tree_version_name - the number in "@v12"; 0 if @name is not of that form. */
uint32_t tree_version_name(const char *name);

/* tree_version - what is known of a frozen version; -ENOENT if it is not kept or not frozen. */
int tree_version(struct tree *tree, uint32_t version, struct mojo_version_info *ret_info);

/* tree_committed - @info was just frozen; the root has one more entry. */
void tree_committed(struct tree *tree, const struct mojo_version_info *info);

/* tree_verified - @version was found to be good; it may be the newest that was. */
void tree_verified(struct tree *tree, uint32_t version);

/* tree_readlink - the target of a symbolic link, MOJO_SYMLINK_MAX + 1 bytes. */
int tree_readlink(struct tree *tree, struct tree_node node, char *ret_target);

/* tree_check_name - may @name be made in the active tree? 0, -EINVAL or -ENAMETOOLONG. */
int tree_check_name(const char *name);

/* tree_is_shm_name - is @name in directory @dir of the active tree shared memory of a database there? */
bool tree_is_shm_name(struct tree *tree, uint32_t dir, const char *name);

/* tree_getattr - -ENOENT. */
int tree_getattr(struct tree *tree, struct tree_node node, struct stat *ret_stat);

/* tree_entry - what to tell the kernel of a bucket of the active tree, or a file of shm.h. */
void tree_entry(struct tree *tree, const struct mojo_attr *attr, struct fuse_entry_param *ret_entry);

/*
 * tree_lookup - a name in a directory. An absent name is no error: ino is 0 then, and entry_timeout says
 * for how long the kernel may remember that. Errors: -ENAMETOOLONG, and what the engine says.
 */
int tree_lookup(struct tree *tree, struct tree_node dir, const char *name, struct fuse_entry_param *ret_entry);

/* One entry; @entry's ino is 0 where only attr.st_ino and the type in attr.st_mode are known. Return
 * false to stop (the entry is then not consumed). May be called with the engine's lock held. */
typedef bool tree_entry_fn(void *arg, const char *name, const struct fuse_entry_param *entry, uint64_t place);

/* tree_readdir - entries of @dir behind @place (0: all), "." and ".." first. */
int tree_readdir(struct tree *tree, struct tree_node dir, uint64_t place, tree_entry_fn *fn, void *arg);

/* tree_read - as mojo_read(), for any node. */
int tree_read(struct tree *tree, struct tree_node node, uint64_t offset, void *buf, size_t length, size_t *ret_length);

/* ---- files that are open, in the active tree, in the engine ----------------------------------- */

/*
 * tree_open - hold the bucket. @writable: the handle can write, so the kernel may have unwritten data
 * from now until tree_close(). -ENOENT.
 */
int tree_open(struct tree *tree, uint32_t bucket, bool writable, struct tree_file **ret_file);
void tree_close(struct tree *tree, struct tree_file *file, bool writable);
/* tree_file_evidence - what is known of an open file; borrowed until tree_close(). */
struct evidence_file *tree_file_evidence(struct tree_file *file);

/* tree_writers - the buckets that have writable handles now. @ret_buckets: free(). -ENOMEM. */
int tree_writers(struct tree *tree, uint32_t **ret_buckets, size_t *ret_count);
bool tree_has_writers(struct tree *tree, uint32_t bucket);

/*
 * Set-user-id and set-group-id go when somebody but root writes to the file. tree_mode_changed() is told of
 * every new mode, tree_written() of such writes through @file; the latter returns true if it took the bits away.
 */
void tree_mode_changed(struct tree *tree, uint32_t bucket, uint32_t mode);
bool tree_written(struct tree *tree, struct tree_file *file);

/* tree_stripped_mode - @mode without what a write or a change of owner takes from it. */
uint32_t tree_stripped_mode(uint32_t mode);

#endif
