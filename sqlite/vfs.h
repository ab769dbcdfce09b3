/* SPDX-License-Identifier: MIT */
/*
 * vfs.h - a sqlite3_vfs whose databases, journals and WALs are files of a volume.
 *
 * Which volume a path leads to is asked of a struct vfs_paths: stores.h for applications, settle.c for recovery.
 * Temporary files, time, sleep and random numbers are the default VFS's business.
 *
 * What is told to SQLite of the "device", and why it is true (docs/DESIGN.md, invariants 1 and 2):
 *   - SEQUENTIAL: what comes back after a loss of power is a prefix of what was written, over all files. So SQLite need
 *     not sync the journal before it changes the database, and a transaction waits for the disk twice, not four times.
 *   - POWERSAFE_OVERWRITE: a write changes nothing but its own bytes.
 *   - IMMUTABLE, for a database of a published version with no journal and no WAL beside it: no locks are needed.
 *   - not ATOMIC: a write of several pages may be there by halves. Not SAFE_APPEND, though it would be true: the
 *     journal's header would then no longer tell whether its writer synced, which others who look at the store rely on.
 */
#ifndef SQLITE_VFS_H
#define SQLITE_VFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

#include "volume.h"

#define VFS_PATH_MAX 4096 /* bytes of a full path, NUL included */

/* Where a path leads to. */
struct vfs_place {
	struct volume *volume;   /* a reference: vfs_paths.release gives it back */
	uint32_t version;        /* MOJO_ACTIVE, or a frozen one */
	uint32_t dir;            /* a directory of it */
	char path[VFS_PATH_MAX]; /* below that */
};

/* What xOpen of a database asks for. */
struct vfs_request {
	bool writable; /* not only read */
	bool create;
	uint32_t page_size, pages_per_slot; /* of a store that is to be made; 0: default */
};

/* From any thread. `place` and `full` return 0 or -errno and say themselves why they fail. */
struct vfs_paths {
	/* The full form of @name, from which SQLite makes those of journals by adding to it. @version: what "ver="
	 * said; 0: nothing. @ret_path: VFS_PATH_MAX bytes. */
	int (*full)(void *arg, const char *name, uint32_t version, char *ret_path);
	/* @request: of a database that is being opened; NULL: only look where the path is now, quietly. */
	int (*place)(void *arg, const char *path, const struct vfs_request *request, struct vfs_place *ret_place);
	void (*release)(void *arg, struct volume *volume);
	/* Is there such a file although `place` knows none? May be NULL. */
	bool (*exists_elsewhere)(void *arg, const char *path);
	/* The reason of an error, for a human. @code: SQLite's. */
	void (*say)(void *arg, int code, const char *text);
};

struct vfs; /* opaque */

/*
 * vfs_new - make a VFS and register it.
 * @name: "mojo"; copied. One of that name that is registered already is replaced.
 * @paths, @arg: borrowed
 * -ENOMEM. vfs_free() unregisters it; no connection may use it then. NULL is allowed.
 */
int vfs_new(const char *name, const struct vfs_paths *paths, void *arg, struct vfs **ret_vfs);
void vfs_free(struct vfs *vfs);

/* vfs_arg - @arg of the VFS of that name, if it is one of ours; else NULL. */
void *vfs_arg(const char *name, const struct vfs_paths *paths);

/* vfs_database - where a connection's database is, if it is one of ours: the volume, borrowed while it is open, and its
 * version. @schema: "main", or as it was attached. -ENOENT: no such schema, -EXDEV: not ours. */
int vfs_database(sqlite3 *db, const char *schema, struct volume **ret_volume, uint32_t *ret_version);

#endif
