/* SPDX-License-Identifier: MIT */
/*
 * file.h - an open file, as SQLite calls it (sqlite3_io_methods) over a volume.
 */
#ifndef SQLITE_FILE_H
#define SQLITE_FILE_H

#include "vfs.h"

/* file_bytes - what SQLite is to allocate for an open file. */
int file_bytes(void);

/*
 * file_open - open @name, found in @place, in memory of file_bytes().
 * @flags: as xOpen
 * @name: of the file, which exists; NULL: a WAL that is not there in a version that cannot be changed. It is empty
 * On success the volume's reference belongs to the file, and @paths->release gives it back when it is closed.
 * Returns one of SQLite's codes.
 */
int file_open(sqlite3_file *file, const struct vfs_paths *paths, void *arg, const struct vfs_place *place,
	      const struct volume_name *name, int flags, int *ret_flags);

/* file_volume - the volume and version of a file; NULL for one that is not ours. */
struct volume *file_volume(sqlite3_file *file, uint32_t *ret_version);

/* file_code - SQLite's code for @error, a negative errno; @code: of the family SQLITE_IOERR_..., where none is better.
 * */
int file_code(int error, int code);

#endif
