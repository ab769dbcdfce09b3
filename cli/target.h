/* SPDX-License-Identifier: MIT */
/*
 * target.h - the store that a PATH on the command line means, wherever it is.
 *
 * PATH may be the directory of a store, or a mount point, or anything inside a mount. A store that some
 * process has open is reached through its mount if there is one: the same questions are then asked of the
 * daemon, as extended attributes, and the same structs come back. Callers need not know which it is.
 *
 * Functions return 0 or -errno. They have said on stderr what went wrong, and what to do, before they
 * return an error; the caller only ends. Not for use by several threads.
 */
#ifndef CLI_TARGET_H
#define CLI_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/mojo.h"
#include "../src/report.h"

struct target; /* opaque */

/*
 * target_open - find and open what @path means.
 * @writable: the caller wants to commit; else a store that is not mounted is opened read-only
 * @ret_target: to be closed by target_close()
 */
int target_open(const char *path, bool writable, struct target **ret_target);

/* target_close - let go. The error is one of mojo_close(): something may not have reached the disk.
 * NULL is allowed. */
int target_close(struct target *target);

/* Where the store is, canonical; where it is mounted (NULL: it is not); the daemon's process (0: none).
 * Borrowed from the target. */
const char *target_store(const struct target *target);
const char *target_mount(const struct target *target);
long target_pid(const struct target *target);

uint32_t target_page_size(const struct target *target);
uint64_t target_blocks_per_chunk(const struct target *target);

/*
 * target_info - the state of the store.
 * @ret_counters: the daemon's requests, @ret_count of them; owned by the caller: free(); NULL if not mounted
 */
int target_info(struct target *target, struct mojo_info *ret_info, struct report_counter **ret_counters,
		size_t *ret_count);

/* target_versions - some of the kept versions >= @from, in order; count 0 behind the last. @ret_infos: free(). */
int target_versions(struct target *target, uint32_t from, struct mojo_version_info **ret_infos, size_t *ret_count);

/*
 * target_commit - commit; @ret_version is the number of the version that is now frozen.
 * @wait_seconds: how long to try again while a database is in the middle of a transaction of which no journal tells
 */
int target_commit(struct target *target, const char *message, size_t length, unsigned wait_seconds,
		  uint32_t *ret_version);

/* target_verify - check the databases of a version, and keep what came of it with the version. Of a mounted store the
 * daemon is asked to do that: it goes on in the background. -EBADMSG: done here, and something is wrong. */
int target_verify(struct target *target, uint32_t version);

struct target_file {
	uint32_t version; /* its number, the active one's too */
	bool active;
	bool has_bucket;       /* attr.bucket is known; not all files of a mount have one, or tell it */
	char *path;            /* owned; within the version, "" for the root */
	struct mojo_attr attr; /* through a mount: parent and btime_ns are 0 */
};

/*
 * target_find - look a file or directory up.
 * @version: 0 if none is asked for: then what the path says ("@v3/a.db"), else the active one
 * @name: below what was opened, or with a slash in front below the store's root; NULL for what was opened
 * @ret_file: target_file_free()
 */
int target_find(struct target *target, uint32_t version, const char *name, struct target_file *ret_file);
void target_file_free(struct target_file *file);

struct target_entry {
	char *name; /* owned by the list */
	bool has_bucket;
	struct mojo_attr attr;
};

/* target_list - all entries of a directory, sorted by name as bytes. @ret_entries: target_list_free(). */
int target_list(struct target *target, const struct target_file *dir, struct target_entry **ret_entries,
		size_t *ret_count);
void target_list_free(struct target_entry *entries, size_t count);

/* target_readlink - where the symbolic link @file points. @ret_text: free(). */
int target_readlink(struct target *target, const struct target_file *file, char **ret_text);

/* target_map - some pages with content at or behind page @first, in order; count 0 behind the last.
 * @ret_entries: free(). */
int target_map(struct target *target, const struct target_file *file, uint64_t first,
	       struct mojo_map_entry **ret_entries, size_t *ret_count);

/* target_read - bytes of a file, fewer than @length only at its end. */
int target_read(struct target *target, const struct target_file *file, uint64_t offset, void *buf, size_t length,
		size_t *ret_length);

/* target_in_mount - does @path, which need not exist, lie in a mojofs mount? 1, 0, or -errno, said. */
int target_in_mount(const char *path);

#endif
