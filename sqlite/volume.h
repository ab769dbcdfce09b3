/* SPDX-License-Identifier: MIT */
/*
 * volume.h - an open store as SQLite's files see it: paths, bytes, locks, and the moment of a commit.
 *
 * Two kinds use it: the store of an application, whose active version is written (stores.h), and one unpublished
 * version that is being settled (settle.h). What may be written is decided here: the active version, or the one that is
 * settled, nothing else.
 *
 * Functions return 0 or -errno and may be called from any thread. In a process that was forked after the volume was
 * made they do nothing and return -ECHILD: the engine's threads are not there, and two processes must not write one
 * log.
 *
 * Lock order: `exchange` (volume.c), `lock` (volume.c), the engine's, those of locks.h.
 */
#ifndef SQLITE_VOLUME_H
#define SQLITE_VOLUME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/mojo.h"
#include "locks.h"

struct volume; /* opaque */

struct volume_config {
	struct mojo_store *store;  /* borrowed */
	bool read_only;            /* the store was opened so */
	uint32_t settling;         /* the version that may be written instead of the active one; 0: none */
	const atomic_bool *cancel; /* NULL, or when it becomes true every call returns -ECANCELED; borrowed */
};

/* volume_new - -ENOMEM. volume_free() when nothing is open in it; NULL is allowed. The store is left open. */
int volume_new(const struct volume_config *config, struct volume **ret_volume);
void volume_free(struct volume *volume);

/* volume_is_writable - may files of @version be changed? */
bool volume_is_writable(struct volume *volume, uint32_t version);

/* volume_is_forked - is this another process than the one that made it? */
bool volume_is_forked(const struct volume *volume);

/* volume_failure - the first error with which a change failed for another reason than the file's own; 0: none. */
int volume_failure(struct volume *volume);

/* ---- names: @path is "a/b/c", below the directory @dir of the version ------------------------------------ */

struct volume_name {
	uint32_t dir; /* its directory */
	char name[MOJO_NAME_MAX + 1];
	struct mojo_attr attr; /* its own; not filled when it does not exist */
};

/* volume_find - -ENOENT also if a directory of the path does not exist; @ret_name->dir is 0 then, else filled. */
int volume_find(struct volume *volume, uint32_t version, uint32_t dir, const char *path, struct volume_name *ret_name);

/* volume_create - an empty regular file in the active version. -EEXIST, -EINVAL (a name the root may not hold). */
int volume_create(struct volume *volume, struct volume_name *name, uint32_t mode, uint32_t uid, uint32_t gid);

/* volume_unlink - @durable: on stable storage when this returns. -ENOENT. */
int volume_unlink(struct volume *volume, uint32_t version, const struct volume_name *name, bool durable);

/* ---- open files ------------------------------------------------------------------------------------------ */

struct volume_file {
	uint32_t version; /* MOJO_ACTIVE, or its number */
	uint32_t bucket;
	bool is_database; /* has locks */
	struct volume_name name;
	struct locks_user user;
	struct volume_entry *entry; /* of a database: what its open files share; volume.c's */
	unsigned bare;              /* volume.c's: see volume_write() */
	bool is_held;               /* volume.c's */
};

/* volume_open - @file->version, bucket, is_database and name are filled; the rest is zero. -ENOENT: gone meanwhile.
 * volume_close() undoes it. */
int volume_open(struct volume *volume, struct volume_file *file);
void volume_close(struct volume *volume, struct volume_file *file);

int volume_read(struct volume *volume, struct volume_file *file, uint64_t offset, void *buf, size_t length,
		size_t *ret_length);

/* volume_write, volume_truncate - a database that is changed without a journal or WAL beside it (journal_mode OFF or
 * MEMORY) counts as being in mid transaction until volume_boundary(). */
int volume_write(struct volume *volume, struct volume_file *file, uint64_t offset, const void *buf, size_t length);
int volume_truncate(struct volume *volume, struct volume_file *file, uint64_t size);
void volume_boundary(struct volume *volume, struct volume_file *file);

int volume_size(struct volume *volume, struct volume_file *file, uint64_t *ret_size);
int volume_sync(struct volume *volume, struct volume_file *file);

/* volume_take_synced - was the database @journal belongs to synced by any of its open files since the last call? So
 * tells synchronous=OFF, which wants nothing waited for, from the rest. @journal: the name of a rollback journal. */
bool volume_take_synced(struct volume *volume, const struct volume_name *journal);

/* volume_is_moved - has the open file lost the name it was opened by? */
bool volume_is_moved(struct volume *volume, struct volume_file *file);

/* ---- versions ----------------------------------------------------------------------------------------------- */

/* volume_active_version, volume_version_next - as mojo_...; the first is 0 when the store cannot be used. */
uint32_t volume_active_version(struct volume *volume);
int volume_version_next(struct volume *volume, uint32_t from, struct mojo_version_info *ret_info);

/* ---- commits --------------------------------------------------------------------------------------------- */

/*
 * volume_commit - freeze, settle and publish what all files of the volume hold now, at a transaction boundary of each
 * database: a connection in mid transaction is rolled back in the version if it has a journal or a WAL.
 * @settle: called with the frozen version between the two; NULL: publish it as it is. Its error gives the commit up
 * @ret_busy: MOJO_NAME_MAX + 1 bytes; with -EBUSY the database that is in mid transaction without either
 */
int volume_commit(struct volume *volume, const char *message, size_t length, int (*settle)(void *arg, uint32_t version),
		  void *arg, uint32_t *ret_version, char *ret_busy);

/* volume_exchange - close the store, which is open read-only, and open it for writing; every open file goes on.
 * @reopen: closes @old and gives what is open now (if not writable: with the error why)
 */
int volume_exchange(struct volume *volume,
		    int (*reopen)(void *arg, struct mojo_store *old, bool *ret_read_only,
				  struct mojo_store **ret_store),
		    void *arg);

#endif
