/* SPDX-License-Identifier: MIT */
/*
 * stores.h - the stores that this process has open through the VFS "mojo": which store a path leads to, one engine for
 * all connections to it, opened with the first and closed with the last.
 *
 * A path is STORE/NAME, where STORE is the directory that holds mojo.state, found by going up; NAME may be in a
 * subdirectory, and @vN/NAME is a frozen version (SQLite's "ver=N" comes to the same). A path that is itself a store,
 * or leads to nothing in an existing directory that is none, means the database STORES_DATABASE in that store, which is
 * made if it is absent. The name does not depend on the store's, which may be renamed.
 *
 * A store that is wanted for reading only is opened so, and others may read it, too. When somebody in this process
 * wants to write, it is opened anew for that, below the files that are open in it.
 */
#ifndef SQLITE_STORES_H
#define SQLITE_STORES_H

#include <stddef.h>

#include "vfs.h"

#define STORES_DATABASE "main.db"

struct stores; /* opaque: those of a process */

/* For vfs_new(), with a struct stores as its argument. */
extern const struct vfs_paths stores_paths;

/* stores_new - none open. -ENOMEM. stores_free() when no connection is left; NULL is allowed. */
int stores_new(struct stores **ret_stores);
void stores_free(struct stores *stores);

/* stores_last_error - the last reason given to a human, in any thread; "" if there was none. Cut to @size. */
void stores_last_error(struct stores *stores, char *ret_text, size_t size);

/*
 * stores_commit - freeze what all databases of the volume's store hold, settled, as a version.
 * @volume: of one of its open files (vfs_database())
 * @ret_reason: STORES_REASON_SIZE bytes; what was wrong, for a human
 * Errors: -EBUSY (a database in mid transaction without a journal), -EROFS, -E2BIG, those of the engine.
 */
#define STORES_REASON_SIZE 600
int stores_commit(struct stores *stores, struct volume *volume, const char *message, size_t length,
		  uint32_t *ret_version, char *ret_reason);

#endif
