/* SPDX-License-Identifier: MIT */
/*
 * shm.h - files that live in the daemon's memory only: SQLite's shared memory.
 *
 * What SQLite keeps in `x-shm` beside a database `x` in WAL mode means something only to the processes
 * that have it open now. Such a file is never given to the engine, so it costs no log, is in no version,
 * and is gone after unmount, which SQLite takes for the first opening after a crash.
 *
 * A file here has an id above MOJO_BUCKET_MAX, a directory (a bucket of the active version) and a name.
 * It stays until it is unlinked, whatever becomes of the database; unlinked while open, until it is
 * closed for the last time. Memory is taken as it is written, at most SHM_FILE_BYTES_MAX a file and
 * SHM_TOTAL_BYTES_MAX in all.
 *
 * All functions may be called from any thread; they never call the engine.
 */
#ifndef FUSE_SHM_H
#define FUSE_SHM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/mojo.h"

#define SHM_ID_MIN      (MOJO_BUCKET_MAX + 1u)
#define SHM_BLOCK_BYTES 32768u /* unit of memory, and of `pages` in a file's attributes; what SQLite maps at a time */

/* SQLite's index of a WAL takes 8 bytes a page: this serves a WAL of some 32 GiB of 4 KiB pages. */
#define SHM_FILE_BYTES_MAX  (64ull << 20)
#define SHM_TOTAL_BYTES_MAX (512ull << 20)

struct shm; /* opaque: all of a mount's */

/* shm_new - an empty table; shm_free() frees it with all files. -ENOMEM. */
int shm_new(struct shm **ret_shm);
void shm_free(struct shm *shm);

/* shm_is_name - could @name be a shared memory file? @ret_base: length of the database's name in it. */
bool shm_is_name(const char *name, size_t *ret_base);

/* shm_create - -EEXIST, -ENOMEM, -ENOSPC (ids used up). @mode: permission bits. */
int shm_create(struct shm *shm, uint32_t dir, const char *name, uint32_t mode, uint32_t uid, uint32_t gid,
	       struct mojo_attr *ret_attr);

/* shm_lookup, shm_getattr, shm_unlink - -ENOENT. */
int shm_lookup(struct shm *shm, uint32_t dir, const char *name, struct mojo_attr *ret_attr);
int shm_getattr(struct shm *shm, uint32_t id, struct mojo_attr *ret_attr);
int shm_unlink(struct shm *shm, uint32_t dir, const char *name);

/* shm_next - the linked file in @dir with the lowest id above @after; -ENOENT behind the last.
 * @ret_name: MOJO_NAME_MAX + 1 bytes. */
int shm_next(struct shm *shm, uint32_t dir, uint32_t after, char *ret_name, struct mojo_attr *ret_attr);

/* shm_open_file, shm_close_file - in pairs; an open file outlives its name. -ENOENT. */
int shm_open_file(struct shm *shm, uint32_t id);
void shm_close_file(struct shm *shm, uint32_t id);

/* shm_setattr - @mask of MOJO_SET_*. -ENOENT, -EFBIG. */
int shm_setattr(struct shm *shm, uint32_t id, unsigned mask, const struct mojo_attr *attr, struct mojo_attr *ret_attr);

/* shm_read, shm_write, shm_fallocate, shm_seek - as their namesakes in mojo.h. -ENOENT, -EFBIG, -ENOSPC. */
int shm_read(struct shm *shm, uint32_t id, uint64_t offset, void *buf, size_t length, size_t *ret_length);
int shm_write(struct shm *shm, uint32_t id, uint64_t offset, const void *buf, size_t length);
int shm_fallocate(struct shm *shm, uint32_t id, int mode, uint64_t offset, uint64_t length);
int shm_seek(struct shm *shm, uint32_t id, uint64_t offset, bool data, uint64_t *ret_offset);

#endif
