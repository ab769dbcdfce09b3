/* SPDX-License-Identifier: MIT */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <sqlite3ext.h>

#include "file.h"

SQLITE_EXTENSION_INIT3

struct file {
	sqlite3_file base; /* first: SQLite's view of it */
	const struct vfs_paths *paths;
	void *arg;
	struct volume *volume; /* a reference */
	struct volume_file file;
	bool is_empty; /* there is no such file, and none is made */
	bool is_read_only;
	bool is_immutable;
	bool delete_on_close;
	bool persist_wal;
	int last_errno;
};

static_assert(LOCKS_NONE == SQLITE_LOCK_NONE && LOCKS_SHARED == SQLITE_LOCK_SHARED &&
		      LOCKS_RESERVED == SQLITE_LOCK_RESERVED && LOCKS_PENDING == SQLITE_LOCK_PENDING &&
		      LOCKS_EXCLUSIVE == SQLITE_LOCK_EXCLUSIVE && LOCKS_SHM_SLOTS == SQLITE_SHM_NLOCK,
	      "locks.h has SQLite's numbers");

static struct file *file_of(sqlite3_file *base)
{
	return (struct file *)base;
}

int file_bytes(void)
{
	return (int)sizeof(struct file);
}

int file_code(int error, int code)
{
	switch (error) {
	case 0:
		return SQLITE_OK;
	case -ENOMEM:
		return SQLITE_IOERR_NOMEM;
	case -ENOSPC:
	case -EDQUOT:
	case -EFBIG:
		return SQLITE_FULL;
	case -EROFS:
		return SQLITE_READONLY;
	case -EBUSY:
		return SQLITE_BUSY;
	case -EUCLEAN:
		return SQLITE_IOERR_CORRUPTFS;
	default:
		return code;
	}
}

/* @error, met in a file: its code, and a line for whoever reads SQLite's log. */
static int fail(struct file *file, const char *what, int error, int code)
{
	char text[MOJO_NAME_MAX + 200];

	code = file_code(error, code);
	file->last_errno = -error;
	if (code != SQLITE_BUSY && error != -ECANCELED) {
		snprintf(text, sizeof(text), "%s: %s: %s", file->file.name.name, what,
			 error == -ECHILD    ? "the process was forked after it opened the store; open it anew"
			 : error == -EUCLEAN ? "the store is damaged: mojofs check tells more"
					     : strerror(-error));
		file->paths->say(file->arg, code, text);
	}
	return code;
}

/* ---- bytes ------------------------------------------------------------------------------------- */

static int file_close(sqlite3_file *base)
{
	struct file *file = file_of(base);

	if (!file->is_empty) {
		volume_close(file->volume, &file->file);
		if (file->delete_on_close)
			volume_unlink(file->volume, file->file.version, &file->file.name, false);
	}
	file->paths->release(file->arg, file->volume);
	file->volume = NULL;
	base->pMethods = NULL;
	return SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *buf, int length, sqlite3_int64 offset)
{
	struct file *file = file_of(base);
	size_t got = 0;
	int error = 0;

	if (!file->is_empty)
		error = volume_read(file->volume, &file->file, (uint64_t)offset, buf, (size_t)length, &got);
	if (error)
		return fail(file, "reading failed", error, SQLITE_IOERR_READ);
	if (got == (size_t)length)
		return SQLITE_OK;
	memset((char *)buf + got, 0, (size_t)length - got);
	return SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *base, const void *buf, int length, sqlite3_int64 offset)
{
	struct file *file = file_of(base);
	int error = -EROFS;

	if (!file->is_read_only)
		error = volume_write(file->volume, &file->file, (uint64_t)offset, buf, (size_t)length);
	return error ? fail(file, "writing failed", error, SQLITE_IOERR_WRITE) : SQLITE_OK;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
	struct file *file = file_of(base);
	int error = -EROFS;

	if (!file->is_read_only)
		error = volume_truncate(file->volume, &file->file, (uint64_t)size);
	return error ? fail(file, "changing the size failed", error, SQLITE_IOERR_TRUNCATE) : SQLITE_OK;
}

static int file_sync(sqlite3_file *base, int flags)
{
	struct file *file = file_of(base);
	int error = 0;

	(void)flags; /* there is one kind of sync: everything, in order */
	if (!file->is_read_only)
		error = volume_sync(file->volume, &file->file);
	return error ? fail(file, "flushing failed", error, SQLITE_IOERR_FSYNC) : SQLITE_OK;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *ret_size)
{
	struct file *file = file_of(base);
	uint64_t size = 0;
	int error = 0;

	if (!file->is_empty)
		error = volume_size(file->volume, &file->file, &size);
	if (error)
		return fail(file, "asking for the size failed", error, SQLITE_IOERR_FSTAT);
	*ret_size = (sqlite3_int64)size;
	return SQLITE_OK;
}

/* ---- locks --------------------------------------------------------------------------------------- */

static int file_lock(sqlite3_file *base, int level)
{
	struct file *file = file_of(base);

	if (!file->file.entry)
		return SQLITE_OK;
	if (volume_is_forked(file->volume))
		return fail(file, "locking failed", -ECHILD, SQLITE_IOERR_LOCK);
	return locks_acquire(&file->file.user, (enum locks_level)level) == 0 ? SQLITE_OK : SQLITE_BUSY;
}

static int file_unlock(sqlite3_file *base, int level)
{
	struct file *file = file_of(base);

	if (!file->file.entry || volume_is_forked(file->volume))
		return SQLITE_OK;
	if (file->file.user.level >= LOCKS_RESERVED)
		volume_boundary(file->volume, &file->file);
	locks_release(&file->file.user, (enum locks_level)level);
	return SQLITE_OK;
}

static int file_check_reserved_lock(sqlite3_file *base, int *ret_is_reserved)
{
	struct file *file = file_of(base);

	*ret_is_reserved = file->file.entry && locks_is_reserved(&file->file.user);
	return SQLITE_OK;
}

static int file_control(sqlite3_file *base, int operation, void *arg)
{
	struct file *file = file_of(base);

	switch (operation) {
	case SQLITE_FCNTL_LOCKSTATE:
		*(int *)arg = file->file.user.level;
		return SQLITE_OK;
	case SQLITE_FCNTL_LAST_ERRNO:
		*(int *)arg = file->last_errno;
		return SQLITE_OK;
	case SQLITE_FCNTL_VFSNAME:
		*(char **)arg = sqlite3_mprintf("mojo");
		return SQLITE_OK;
	case SQLITE_FCNTL_HAS_MOVED:
		*(int *)arg = !file->is_empty && volume_is_moved(file->volume, &file->file);
		return SQLITE_OK;
	case SQLITE_FCNTL_POWERSAFE_OVERWRITE:
		*(int *)arg = 1;
		return SQLITE_OK;
	case SQLITE_FCNTL_PERSIST_WAL:
		if (*(int *)arg >= 0)
			file->persist_wal = *(int *)arg != 0;
		*(int *)arg = file->persist_wal;
		return SQLITE_OK;
	case SQLITE_FCNTL_COMMIT_PHASETWO:
		/* With locking_mode=EXCLUSIVE no lock is given up at the end of a transaction: this tells. */
		volume_boundary(file->volume, &file->file);
		return SQLITE_OK;
	default:
		return SQLITE_NOTFOUND;
	}
}

static int file_sector_size(sqlite3_file *base)
{
	(void)base;
	return MOJO_PAGE_SIZE_MIN;
}

static int file_device_characteristics(sqlite3_file *base)
{
	int flags = SQLITE_IOCAP_SEQUENTIAL | SQLITE_IOCAP_POWERSAFE_OVERWRITE;

#ifdef SQLITE_IOCAP_SUBPAGE_READ
	flags |= SQLITE_IOCAP_SUBPAGE_READ;
#endif
	if (file_of(base)->is_immutable)
		flags |= SQLITE_IOCAP_IMMUTABLE;
	return flags;
}

/* ---- shared memory of a WAL ---------------------------------------------------------------------------- */

static int file_shm_map(sqlite3_file *base, int region, int bytes, int extend, void volatile **ret_memory)
{
	struct file *file = file_of(base);
	void *memory = NULL;
	int error;

	assert(file->file.entry);
	if (volume_is_forked(file->volume))
		return fail(file, "sharing memory failed", -ECHILD, SQLITE_IOERR_SHMMAP);
	error = locks_map(&file->file.user, (unsigned)region, (size_t)bytes, extend != 0, &memory);
	*ret_memory = memory;
	return file_code(error, SQLITE_IOERR_SHMMAP);
}

static int file_shm_lock(sqlite3_file *base, int first, int count, int flags)
{
	struct file *file = file_of(base);
	int error;

	if (volume_is_forked(file->volume))
		return fail(file, "locking failed", -ECHILD, SQLITE_IOERR_SHMLOCK);
	if (flags & SQLITE_SHM_UNLOCK) {
		locks_shm_release(&file->file.user, (unsigned)first, (unsigned)count);
		return SQLITE_OK;
	}
	error = locks_shm_acquire(&file->file.user, (unsigned)first, (unsigned)count, flags & SQLITE_SHM_EXCLUSIVE);
	return error ? SQLITE_BUSY : SQLITE_OK;
}

static void file_shm_barrier(sqlite3_file *base)
{
	locks_barrier(&file_of(base)->file.user);
}

static int file_shm_unmap(sqlite3_file *base, int delete)
{
	(void)delete; /* it is gone with its last user in any case */
	if (!volume_is_forked(file_of(base)->volume))
		locks_unmap(&file_of(base)->file.user);
	return SQLITE_OK;
}

static const sqlite3_io_methods file_methods = {
	.iVersion = 2,
	.xClose = file_close,
	.xRead = file_read,
	.xWrite = file_write,
	.xTruncate = file_truncate,
	.xSync = file_sync,
	.xFileSize = file_size,
	.xLock = file_lock,
	.xUnlock = file_unlock,
	.xCheckReservedLock = file_check_reserved_lock,
	.xFileControl = file_control,
	.xSectorSize = file_sector_size,
	.xDeviceCharacteristics = file_device_characteristics,
	.xShmMap = file_shm_map,
	.xShmLock = file_shm_lock,
	.xShmBarrier = file_shm_barrier,
	.xShmUnmap = file_shm_unmap,
};

/* ---- opening ----------------------------------------------------------------------------------------- */

/* Is a file beside the database, named with @ending, that has content? */
static bool has_beside(struct volume *volume, const struct vfs_place *place, const char *ending)
{
	char path[VFS_PATH_MAX + sizeof("-journal")];
	struct volume_name name;
	int error;

	snprintf(path, sizeof(path), "%s%s", place->path, ending);
	error = volume_find(volume, place->version, place->dir, path, &name);
	/* One that cannot be looked at may be there. */
	return error ? error != -ENOENT : name.attr.size > 0;
}

int file_open(sqlite3_file *base, const struct vfs_paths *paths, void *arg, const struct vfs_place *place,
	      const struct volume_name *name, int flags, int *ret_flags)
{
	struct file *file = file_of(base);
	bool is_writable = volume_is_writable(place->volume, place->version);
	int error;

	memset(file, 0, sizeof(*file));
	file->paths = paths;
	file->arg = arg;
	file->volume = place->volume;
	file->is_empty = !name;
	file->is_read_only = file->is_empty || !is_writable || !(flags & SQLITE_OPEN_READWRITE);
	file->delete_on_close = flags & SQLITE_OPEN_DELETEONCLOSE && !file->is_read_only;
	if (name) {
		file->file.version = place->version;
		file->file.bucket = name->attr.bucket;
		file->file.name = *name;
		file->file.is_database = flags & SQLITE_OPEN_MAIN_DB;
		error = volume_open(place->volume, &file->file);
		if (error)
			return error == -ENOENT ? SQLITE_CANTOPEN : file_code(error, SQLITE_CANTOPEN);
	}
	file->is_immutable = flags & SQLITE_OPEN_MAIN_DB && place->version != MOJO_ACTIVE && !is_writable &&
			     !has_beside(place->volume, place, "-journal") && !has_beside(place->volume, place, "-wal");
	if (ret_flags) {
		*ret_flags = flags;
		if (file->is_read_only)
			*ret_flags = (flags & ~(SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE)) | SQLITE_OPEN_READONLY;
	}
	base->pMethods = &file_methods;
	return SQLITE_OK;
}

struct volume *file_volume(sqlite3_file *base, uint32_t *ret_version)
{
	if (!base || base->pMethods != &file_methods)
		return NULL;
	*ret_version = file_of(base)->file.version;
	return file_of(base)->volume;
}
