/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3ext.h>

#include "file.h"
#include "vfs.h"

SQLITE_EXTENSION_INIT3

struct vfs {
	sqlite3_vfs base;  /* first: SQLite's view of it */
	sqlite3_vfs *host; /* borrowed: the VFS for temporary files, and all that is no file */
	const struct vfs_paths *paths;
	void *arg;
	char name[]; /* of base.zName */
};

/* What the volume knows nothing of. */
enum {
	TEMPORARY = SQLITE_OPEN_TEMP_DB | SQLITE_OPEN_TEMP_JOURNAL | SQLITE_OPEN_TRANSIENT_DB | SQLITE_OPEN_SUBJOURNAL,
};

static struct vfs *vfs_of(sqlite3_vfs *base)
{
	return (struct vfs *)base;
}

static int say(struct vfs *vfs, int code, const char *path, const char *text)
{
	char line[VFS_PATH_MAX + 200];

	snprintf(line, sizeof(line), "%s: %s", path, text);
	vfs->paths->say(vfs->arg, code, line);
	return code;
}

/* Decimal digits only. */
static bool parse_number(const char *text, uint64_t max, uint32_t *ret_number)
{
	char *end;
	unsigned long long number;

	if (!isdigit((unsigned char)text[0]))
		return false;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno || *end || number > max)
		return false;
	*ret_number = (uint32_t)number;
	return true;
}

/*
 * "ver=" goes into the path here, as "@v3/": SQLite makes the names of journals from the full path, and asks for them
 * in xAccess, where parameters cannot be asked for. Here they can: the name comes from where SQLite took the URI apart.
 */
static int vfs_full_pathname(sqlite3_vfs *base, const char *name, int size, char *ret_path)
{
	const char *text = sqlite3_uri_parameter(name, "ver");
	struct vfs *vfs = vfs_of(base);
	char path[VFS_PATH_MAX];
	uint32_t version = 0;

	if (text && (!parse_number(text, MOJO_VERSION_MAX, &version) || version == 0))
		return say(vfs, SQLITE_CANTOPEN, name, "\"ver=\" is followed by the number of a version");
	if (vfs->paths->full(vfs->arg, name, version, path) != 0 || strlen(path) >= (size_t)size)
		return SQLITE_CANTOPEN;
	strcpy(ret_path, path);
	return SQLITE_OK;
}

/* The number that @name's parameter has. An error is said. */
static int read_parameter(struct vfs *vfs, const char *name, const char *key, uint32_t *ret_value)
{
	const char *text = sqlite3_uri_parameter(name, key);
	char reason[100];

	*ret_value = 0;
	if (!text || parse_number(text, UINT32_MAX, ret_value))
		return SQLITE_OK;
	snprintf(reason, sizeof(reason), "\"%s=\" is followed by a number", key);
	return say(vfs, SQLITE_CANTOPEN, name, reason);
}

/* The mode and owner of a new file: of a side file those of its database, so that whoever may open the one may open the
 * other when the store is mounted. */
static void owner_of(struct volume *volume, const struct vfs_place *place, int flags, struct mojo_attr *ret_attr)
{
	char path[VFS_PATH_MAX];
	struct volume_name name;
	char *dash;

	*ret_attr = (struct mojo_attr){ .mode = 0644, .uid = geteuid(), .gid = getegid() };
	if (!(flags & (SQLITE_OPEN_MAIN_JOURNAL | SQLITE_OPEN_WAL | SQLITE_OPEN_SUPER_JOURNAL)))
		return;
	strcpy(path, place->path);
	dash = strrchr(path, '-');
	if (!dash)
		return;
	*dash = '\0';
	if (volume_find(volume, place->version, place->dir, path, &name) == 0 && S_ISREG(name.attr.mode))
		*ret_attr = name.attr;
}

/* Find the file, or make it. SQLite's code; @ret_exists: false for a WAL that stands for an empty one. */
static int find_or_create(struct vfs *vfs, const struct vfs_place *place, int flags, struct volume_name *name,
			  bool *ret_exists)
{
	struct mojo_attr owner;
	int error;

	*ret_exists = true;
	error = volume_find(place->volume, place->version, place->dir, place->path, name);
	if (!error && flags & SQLITE_OPEN_EXCLUSIVE && flags & SQLITE_OPEN_CREATE)
		return SQLITE_CANTOPEN;
	if (!error && S_ISLNK(name->attr.mode))
		return say(vfs, SQLITE_CANTOPEN_SYMLINK, place->path,
			   "is a symbolic link; name the database that it leads to");
	if (!error && S_ISDIR(name->attr.mode))
		return say(vfs, SQLITE_CANTOPEN_ISDIR, place->path, "is a directory");
	if (!error && !S_ISREG(name->attr.mode))
		return say(vfs, SQLITE_CANTOPEN, place->path, "is not a regular file");
	if (!error)
		return SQLITE_OK;
	if (error == -ENOENT && name->dir != 0) {
		bool is_writable = volume_is_writable(place->volume, place->version);

		/* SQLite wants a WAL beside a database in WAL mode. */
		if (flags & SQLITE_OPEN_WAL && (!is_writable || place->version != MOJO_ACTIVE)) {
			*ret_exists = false;
			return SQLITE_OK;
		}
		if (flags & SQLITE_OPEN_CREATE && is_writable) {
			owner_of(place->volume, place, flags, &owner);
			error = volume_create(place->volume, name, owner.mode & 0777, owner.uid, owner.gid);
			if (error == -EINVAL)
				return say(vfs, SQLITE_CANTOPEN, place->path,
					   "a name that begins with @ belongs to the versions");
			if (error == -EEXIST)
				error = volume_find(place->volume, place->version, place->dir, place->path, name);
		}
	}
	if (!error)
		return SQLITE_OK;
	if (error == -ENOENT && flags & SQLITE_OPEN_MAIN_DB)
		return say(vfs, SQLITE_CANTOPEN, place->path,
			   place->version == MOJO_ACTIVE ? "is not in the store"
							 : "is not in that version of the store");
	if (error != -ENOENT)
		say(vfs, SQLITE_CANTOPEN, place->path, strerror(-error));
	return file_code(error, SQLITE_CANTOPEN);
}

static int vfs_open(sqlite3_vfs *base, const char *path, sqlite3_file *file, int flags, int *ret_flags)
{
	struct vfs_request request = { 0 };
	struct vfs *vfs = vfs_of(base);
	struct volume_name name;
	struct vfs_place place;
	bool exists;
	int code, error;

	file->pMethods = NULL;
	if (!path || flags & TEMPORARY)
		return vfs->host->xOpen(vfs->host, path, file, flags, ret_flags);
	if (flags & SQLITE_OPEN_MAIN_DB) {
		request.writable = flags & SQLITE_OPEN_READWRITE;
		request.create = flags & SQLITE_OPEN_CREATE;
		code = read_parameter(vfs, path, "pagesz", &request.page_size);
		if (!code)
			code = read_parameter(vfs, path, "pps", &request.pages_per_slot);
		if (code)
			return code;
	}
	error = vfs->paths->place(vfs->arg, path, flags & SQLITE_OPEN_MAIN_DB ? &request : NULL, &place);
	if (error)
		return file_code(error, SQLITE_CANTOPEN);
	code = find_or_create(vfs, &place, flags, &name, &exists);
	if (!code)
		code = file_open(file, vfs->paths, vfs->arg, &place, exists ? &name : NULL, flags, ret_flags);
	if (code)
		vfs->paths->release(vfs->arg, place.volume);
	return code;
}

static int vfs_delete(sqlite3_vfs *base, const char *path, int sync_dir)
{
	struct vfs *vfs = vfs_of(base);
	struct volume_name name;
	struct vfs_place place;
	bool durable;
	int error;

	error = vfs->paths->place(vfs->arg, path, NULL, &place);
	if (error)
		return error == -ENOENT ? SQLITE_IOERR_DELETE_NOENT : file_code(error, SQLITE_IOERR_DELETE);
	error = volume_find(place.volume, place.version, place.dir, place.path, &name);
	if (!error) {
		/* In journal mode DELETE this is what commits, and SQLite asks for no sync of the directory. */
		durable = place.version == MOJO_ACTIVE && volume_take_synced(place.volume, &name);
		error = volume_unlink(place.volume, place.version, &name, durable || sync_dir);
	}
	vfs->paths->release(vfs->arg, place.volume);
	if (error && error != -ENOENT && error != -ECANCELED)
		say(vfs, SQLITE_IOERR_DELETE, path, strerror(-error));
	return error == -ENOENT ? SQLITE_IOERR_DELETE_NOENT : file_code(error, SQLITE_IOERR_DELETE);
}

static int vfs_access(sqlite3_vfs *base, const char *path, int flags, int *ret_result)
{
	struct vfs *vfs = vfs_of(base);
	struct volume_name name;
	struct vfs_place place;
	int error;

	*ret_result = 0;
	error = vfs->paths->place(vfs->arg, path, NULL, &place);
	if (!error) {
		error = volume_find(place.volume, place.version, place.dir, place.path, &name);
		/* An empty journal or WAL counts as none, as in SQLite's own VFS. */
		if (!error && flags == SQLITE_ACCESS_EXISTS)
			*ret_result = !S_ISREG(name.attr.mode) || name.attr.size > 0;
		else if (!error)
			*ret_result = flags == SQLITE_ACCESS_READ || volume_is_writable(place.volume, place.version);
		vfs->paths->release(vfs->arg, place.volume);
	}
	if (error == -ENOENT && flags == SQLITE_ACCESS_EXISTS && vfs->paths->exists_elsewhere)
		*ret_result = vfs->paths->exists_elsewhere(vfs->arg, path);
	if (error && error != -ENOENT)
		return file_code(error, SQLITE_IOERR_ACCESS);
	return SQLITE_OK;
}

/* ---- what is no file ---------------------------------------------------------------------------------- */

static void *vfs_dl_open(sqlite3_vfs *base, const char *path)
{
	return vfs_of(base)->host->xDlOpen(vfs_of(base)->host, path);
}

static void vfs_dl_error(sqlite3_vfs *base, int size, char *ret_text)
{
	vfs_of(base)->host->xDlError(vfs_of(base)->host, size, ret_text);
}

static void (*vfs_dl_sym(sqlite3_vfs *base, void *library, const char *symbol))(void)
{
	return vfs_of(base)->host->xDlSym(vfs_of(base)->host, library, symbol);
}

static void vfs_dl_close(sqlite3_vfs *base, void *library)
{
	vfs_of(base)->host->xDlClose(vfs_of(base)->host, library);
}

static int vfs_randomness(sqlite3_vfs *base, int size, char *ret_bytes)
{
	return vfs_of(base)->host->xRandomness(vfs_of(base)->host, size, ret_bytes);
}

static int vfs_sleep(sqlite3_vfs *base, int microseconds)
{
	return vfs_of(base)->host->xSleep(vfs_of(base)->host, microseconds);
}

static int vfs_current_time(sqlite3_vfs *base, double *ret_day)
{
	return vfs_of(base)->host->xCurrentTime(vfs_of(base)->host, ret_day);
}

static int vfs_current_time_int64(sqlite3_vfs *base, sqlite3_int64 *ret_ms)
{
	return vfs_of(base)->host->xCurrentTimeInt64(vfs_of(base)->host, ret_ms);
}

static int vfs_get_last_error(sqlite3_vfs *base, int size, char *ret_text)
{
	return vfs_of(base)->host->xGetLastError(vfs_of(base)->host, size, ret_text);
}

/* ---- registering ---------------------------------------------------------------------------------------- */

int vfs_new(const char *name, const struct vfs_paths *paths, void *arg, struct vfs **ret_vfs)
{
	sqlite3_vfs *host = sqlite3_vfs_find(NULL);
	struct vfs *vfs;

	if (!host)
		return -ENOENT;
	vfs = calloc(1, sizeof(*vfs) + strlen(name) + 1);
	if (!vfs)
		return -ENOMEM;
	strcpy(vfs->name, name);
	vfs->host = host;
	vfs->paths = paths;
	vfs->arg = arg;
	vfs->base = (sqlite3_vfs){
		.iVersion = host->iVersion >= 2 ? 2 : 1,
		.szOsFile = host->szOsFile > file_bytes() ? host->szOsFile : file_bytes(),
		.mxPathname = VFS_PATH_MAX,
		.zName = vfs->name,
		.xOpen = vfs_open,
		.xDelete = vfs_delete,
		.xAccess = vfs_access,
		.xFullPathname = vfs_full_pathname,
		.xDlOpen = vfs_dl_open,
		.xDlError = vfs_dl_error,
		.xDlSym = vfs_dl_sym,
		.xDlClose = vfs_dl_close,
		.xRandomness = vfs_randomness,
		.xSleep = vfs_sleep,
		.xCurrentTime = vfs_current_time,
		.xGetLastError = vfs_get_last_error,
		.xCurrentTimeInt64 = host->iVersion >= 2 ? vfs_current_time_int64 : NULL,
	};
	if (sqlite3_vfs_register(&vfs->base, 0) != SQLITE_OK) {
		free(vfs);
		return -ENOMEM;
	}
	*ret_vfs = vfs;
	return 0;
}

void vfs_free(struct vfs *vfs)
{
	if (!vfs)
		return;
	sqlite3_vfs_unregister(&vfs->base);
	free(vfs);
}

void *vfs_arg(const char *name, const struct vfs_paths *paths)
{
	sqlite3_vfs *base = sqlite3_vfs_find(name);

	if (!base || base->xOpen != vfs_open || vfs_of(base)->paths != paths)
		return NULL;
	return vfs_of(base)->arg;
}

int vfs_database(sqlite3 *db, const char *schema, struct volume **ret_volume, uint32_t *ret_version)
{
	sqlite3_file *file = NULL;
	struct volume *volume;
	uint32_t version;

	if (sqlite3_file_control(db, schema, SQLITE_FCNTL_FILE_POINTER, &file) != SQLITE_OK)
		return -ENOENT;
	volume = file_volume(file, &version);
	if (!volume)
		return -EXDEV;
	*ret_volume = volume;
	*ret_version = version;
	return 0;
}
