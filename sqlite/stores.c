/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <sqlite3ext.h>

#include "settle.h"
#include "stores.h"

SQLITE_EXTENSION_INIT3

struct open_store {
	struct open_store *next; /* owned by stores */
	struct stores *stores;   /* borrowed */
	char *path;              /* owned; absolute, no symbolic links */
	dev_t device;            /* of its directory */
	ino_t inode;
	struct mojo_io *io;       /* owned */
	struct mojo_store *store; /* owned; NULL when it was lost in an exchange */
	struct volume *volume;    /* owned */
	unsigned references;
	bool read_only;
};

struct stores {
	pthread_mutex_t lock; /* guards the list and what is in it; held while a store is opened or closed */
	struct open_store *list;

	pthread_mutex_t error_lock; /* taken last */
	char error[VFS_PATH_MAX + 200];
};

int stores_new(struct stores **ret_stores)
{
	struct stores *stores = calloc(1, sizeof(*stores));

	if (!stores)
		return -ENOMEM;
	pthread_mutex_init(&stores->lock, NULL);
	pthread_mutex_init(&stores->error_lock, NULL);
	*ret_stores = stores;
	return 0;
}

void stores_free(struct stores *stores)
{
	if (!stores)
		return;
	pthread_mutex_destroy(&stores->lock);
	pthread_mutex_destroy(&stores->error_lock);
	free(stores);
}

/* ---- telling why ----------------------------------------------------------------------------------- */

static void stores_say(void *arg, int code, const char *text)
{
	struct stores *stores = arg;

	pthread_mutex_lock(&stores->error_lock);
	snprintf(stores->error, sizeof(stores->error), "%s", text);
	pthread_mutex_unlock(&stores->error_lock);
	sqlite3_log(code, "mojofs: %s", text);
}

/* Say it, and return @error. */
__attribute__((format(printf, 3, 4))) static int refuse(struct stores *stores, int error, const char *format, ...)
{
	char text[VFS_PATH_MAX + 200];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	stores_say(stores, error == -EBUSY ? SQLITE_BUSY : SQLITE_CANTOPEN, text);
	return error;
}

void stores_last_error(struct stores *stores, char *ret_text, size_t size)
{
	pthread_mutex_lock(&stores->error_lock);
	snprintf(ret_text, size, "%s", stores->error);
	pthread_mutex_unlock(&stores->error_lock);
}

static void on_event(void *arg, enum mojo_severity severity, const char *text)
{
	struct open_store *open = arg;

	if (severity == MOJO_INFO)
		sqlite3_log(SQLITE_NOTICE, "mojofs: %s", text);
	else if (severity == MOJO_WARNING)
		sqlite3_log(SQLITE_WARNING, "mojofs: %s: %s", open->path, text);
	else
		refuse(open->stores, -EIO, "%s: %s", open->path, text);
}

/* ---- paths ------------------------------------------------------------------------------------------ */

/* Is there a store's state file in the directory? */
static bool is_store(const char *directory)
{
	char path[VFS_PATH_MAX + sizeof("/mojo.state")];
	struct stat st;

	snprintf(path, sizeof(path), "%s/mojo.state", strcmp(directory, "/") == 0 ? "" : directory);
	return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* Cut the last component off; false when there is none. */
static bool go_up(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash || strcmp(path, "/") == 0)
		return false;
	while (slash > path && slash[-1] == '/')
		slash--;
	slash[slash == path ? 1 : 0] = '\0';
	return true;
}

/* The store that @path, absolute, is or lies in; @path is cut to it. */
static bool find_store(char *path)
{
	do {
		if (is_store(path))
			return true;
	} while (go_up(path));
	return false;
}

/* Is the directory in a mount of mojofs? A store does not belong there. */
static bool is_in_mount(const char *directory)
{
	char path[VFS_PATH_MAX];
	struct statfs fs;

	if (statfs(directory, &fs) != 0 || fs.f_type != FUSE_SUPER_MAGIC)
		return false;
	strcpy(path, directory);
	do {
		if (getxattr(path, "user.mojofs.format", NULL, 0) >= 0)
			return true;
	} while (go_up(path));
	return false;
}

/* @rest, below a store, without "." and empty components, behind @at in @path. */
static int append_rest(struct stores *stores, char *path, const char *rest)
{
	size_t length = strlen(path);

	while (*rest) {
		size_t part = strcspn(rest, "/");

		if (part == 2 && memcmp(rest, "..", 2) == 0)
			return refuse(stores, -EINVAL, "%s: \"..\" is not possible behind a store's directory", rest);
		if (part > 0 && !(part == 1 && *rest == '.')) {
			if (length + 1 + part >= VFS_PATH_MAX)
				return refuse(stores, -ENAMETOOLONG, "the path of the database is too long");
			path[length++] = '/';
			memcpy(path + length, rest, part);
			length += part;
			path[length] = '\0';
		}
		rest += part + (rest[part] == '/');
	}
	return 0;
}

static int stores_full(void *arg, const char *name, uint32_t version, char *ret_path)
{
	struct stores *stores = arg;
	char path[VFS_PATH_MAX], store[VFS_PATH_MAX], rest[VFS_PATH_MAX] = "", *real;
	size_t length;
	int error;

	if (name[0] == '/') {
		length = strlen(name);
	} else {
		if (!getcwd(path, sizeof(path)))
			return refuse(stores, -errno, "the current directory is not known: %s", strerror(errno));
		length = strlen(path) + 1 + strlen(name);
	}
	if (length >= sizeof(path))
		return refuse(stores, -ENAMETOOLONG, "the path of the database is too long");
	if (name[0] == '/') {
		strcpy(path, name);
	} else {
		strcat(path, "/");
		strcat(path, name);
	}
	while (length > 1 && path[length - 1] == '/')
		path[--length] = '\0';

	strcpy(store, path);
	if (find_store(store)) {
		strcpy(rest, path + strlen(store));
		real = realpath(store, NULL);
		if (!real)
			return refuse(stores, -errno, "%s: %s", store, strerror(errno));
		strcpy(store, real);
		free(real);
	} else {
		/* What is to become a store lies in a directory that exists. */
		const char *base = strrchr(path, '/') + 1;

		strcpy(store, path);
		if (!go_up(store) || strcmp(base, ".") == 0 || strcmp(base, "..") == 0)
			return refuse(stores, -ENOENT, "%s: is no store", path);
		real = realpath(store, NULL);
		if (!real)
			return refuse(
				stores, -errno,
				"%s: %s; a new store is made in a directory that exists, or by: mojofs create STORE",
				store, strerror(errno));
		strcpy(store, strcmp(real, "/") == 0 ? "" : real);
		free(real);
		error = append_rest(stores, store, base);
		if (error)
			return error;
	}
	strcpy(ret_path, store);
	if (version) {
		if (strstr(rest, "/@v") == rest)
			return refuse(stores, -EINVAL, "%s: names a version already; \"ver=\" is one too many", path);
		snprintf(path, sizeof(path), "@v%u", version);
		error = append_rest(stores, ret_path, path);
		if (error)
			return error;
	}
	length = strlen(ret_path);
	error = append_rest(stores, ret_path, rest);
	if (!error && strlen(ret_path) == length)
		error = append_rest(stores, ret_path, STORES_DATABASE);
	return error;
}

/* Split what is behind the store's directory into version and path. */
static void split_version(const char *inside, struct vfs_place *place)
{
	unsigned version;
	int end = 0;

	place->version = MOJO_ACTIVE;
	place->dir = MOJO_ROOT_BUCKET;
	if (sscanf(inside, "@v%8u%n", &version, &end) == 1 && end > 0 && inside[end] == '/' && inside[2] != '+' &&
	    version != 0 && version <= MOJO_VERSION_MAX) {
		place->version = version;
		inside += end + 1;
	}
	strcpy(place->path, inside);
}

/* ---- opening and closing ------------------------------------------------------------------------------ */

static int make_store(struct stores *stores, const char *directory, const struct vfs_request *request)
{
	struct open_store quoted = { .stores = stores, .path = (char *)directory };
	struct mojo_config config = { .event = on_event, .event_arg = &quoted };
	struct mojo_geometry geometry = { .page_size = request->page_size,
					  .pages_per_slot = request->pages_per_slot,
					  .root_uid = geteuid(),
					  .root_gid = getegid() };
	struct mojo_io *io = NULL;
	char parent[VFS_PATH_MAX];
	bool is_made;
	int error;

	strcpy(parent, directory);
	go_up(parent);
	if (is_in_mount(parent))
		return refuse(stores, -EINVAL,
			      "%s: lies in a mojofs mount; open the database there without \"vfs=mojo\"", directory);
	is_made = mkdir(directory, 0777) == 0;
	if (!is_made && errno != EEXIST)
		return refuse(stores, -errno, "%s: the directory could not be made: %s", directory, strerror(errno));
	error = mojo_io_host(directory, &io);
	if (!error)
		error = mojo_create(io, &geometry, &config);
	mojo_io_free(io);
	if (error && error != -EEXIST && is_made)
		rmdir(directory);
	if (error == -ENOTDIR)
		return refuse(stores, error, "%s: is a file, and no store; open it without \"vfs=mojo\"", directory);
	if (error == -ENOTEMPTY)
		return refuse(stores, error, "%s: is a directory, and neither a store nor empty", directory);
	if (error == -EINVAL)
		return refuse(stores, error,
			      "%s: pagesz=%u, pps=%u is not possible: powers of two, from %u to %u and from %u to %u",
			      directory, request->page_size, request->pages_per_slot, MOJO_PAGE_SIZE_MIN,
			      MOJO_PAGE_SIZE_MAX, MOJO_PPS_MIN, MOJO_PPS_MAX);
	if (error && error != -EEXIST)
		return refuse(stores, error, "%s: the store could not be made: %s", directory, strerror(-error));
	return 0;
}

/* Settle and publish what an earlier process froze and did not finish. */
static int finish_commit(struct open_store *open)
{
	struct settle_options options = { .event = on_event, .event_arg = open };
	uint32_t version = mojo_unpublished(open->store);
	int error;

	if (!version)
		return 0;
	error = settle_version(open->store, version, NULL, 0, &options, NULL);
	if (!error)
		return mojo_publish(open->store, version);
	refuse(open->stores, error,
	       "%s: version %u, whose commit was cut short, could not be settled and is dropped: %s", open->path,
	       version, strerror(-error));
	return mojo_version_drop(open->store, version);
}

/* Open the engine. Why not, is said by an event. */
static int open_engine(struct open_store *open, bool read_only)
{
	struct mojo_config config = {
		.read_only = read_only,
		.owner = "SQLite (vfs=mojo)",
		.event = on_event,
		.event_arg = open,
	};
	int error = mojo_open(open->io, &config, &open->store);

	if (error)
		return error;
	open->read_only = read_only;
	if (!read_only)
		error = finish_commit(open);
	if (error) {
		mojo_close(open->store);
		open->store = NULL;
	}
	return error;
}

static void close_store(struct open_store *open)
{
	int error = 0;

	if (open->volume && volume_is_forked(open->volume)) {
		/* The engine is the other process's; only this copy of the memory is given up. */
		open->store = NULL;
		open->io = NULL;
	}
	volume_free(open->volume);
	if (open->store)
		error = mojo_close(open->store);
	if (error)
		refuse(open->stores, error, "%s: the store could not be closed cleanly: %s", open->path,
		       strerror(-error));
	mojo_io_free(open->io);
	free(open->path);
	free(open);
}

static int open_store(struct stores *stores, const char *directory, const struct stat *st, bool read_only,
		      struct open_store **ret_open)
{
	struct open_store *open = calloc(1, sizeof(*open));
	struct volume_config config = { 0 };
	int error;

	if (open)
		open->path = strdup(directory);
	if (!open || !open->path) {
		free(open);
		return -ENOMEM;
	}
	open->stores = stores;
	open->device = st->st_dev;
	open->inode = st->st_ino;
	error = mojo_io_host(directory, &open->io);
	if (error)
		refuse(stores, error, "%s: %s", directory, strerror(-error));
	else
		error = open_engine(open, read_only);
	if (!error) {
		config.store = open->store;
		config.read_only = read_only;
		error = volume_new(&config, &open->volume);
	}
	if (error) {
		close_store(open);
		return error;
	}
	open->next = stores->list;
	stores->list = open;
	*ret_open = open;
	return 0;
}

/* Called by volume_exchange(). */
static int reopen(void *arg, struct mojo_store *old, bool *ret_read_only, struct mojo_store **ret_store)
{
	struct open_store *open = arg;
	int error;

	mojo_close(old);
	open->store = NULL;
	error = open_engine(open, false);
	if (error)
		open_engine(open, true);
	*ret_read_only = open->read_only;
	*ret_store = open->store;
	return error;
}

/* ---- places ------------------------------------------------------------------------------------------- */

/* The open store that @path is in, and what is behind it. The lock is held. */
static struct open_store *find_open(struct stores *stores, const char *path, const char **ret_inside)
{
	for (struct open_store *open = stores->list; open; open = open->next) {
		size_t length = strlen(open->path);

		if (volume_is_forked(open->volume) || strncmp(path, open->path, length) != 0 || path[length] != '/')
			continue;
		*ret_inside = path + length + 1;
		return open;
	}
	return NULL;
}

/*
 * Names in journals are the paths that the application saw, perhaps in a mount, or before the store was moved. If
 * SQLite asks for a file that is in no open store, it is looked for in those that are open by leaving out leading
 * components: only names with the random digits of a super-journal, and journals that such a one lists, come here.
 */
static struct open_store *find_moved(struct stores *stores, const char *path, struct vfs_place *place)
{
	struct volume_name name;

	for (struct open_store *open = stores->list; open; open = open->next) {
		const char *rest = path;

		if (volume_is_forked(open->volume))
			continue;
		while (*(rest += strspn(rest, "/"))) {
			split_version(rest, place);
			if (volume_find(open->volume, place->version, place->dir, place->path, &name) == 0)
				return open;
			rest += strcspn(rest, "/");
		}
	}
	return NULL;
}

/* Open, or make, the store that @path is in. The lock is held. */
static int open_for(struct stores *stores, const char *path, const struct vfs_request *request,
		    struct open_store **ret_open, const char **ret_inside)
{
	char directory[VFS_PATH_MAX];
	struct vfs_place place;
	struct stat st;
	int error;

	strcpy(directory, path);
	if (!find_store(directory)) {
		/* As stores_full() made it: the database that is named when a store is. */
		strcpy(directory, path);
		go_up(directory);
		if (!request->create || strcmp(path + strlen(directory), "/" STORES_DATABASE) != 0)
			return refuse(stores, -ENOENT, "%s: is no store", directory);
		error = make_store(stores, directory, request);
		if (error)
			return error;
	}
	if (stat(directory, &st) != 0)
		return refuse(stores, -errno, "%s: %s", directory, strerror(errno));
	*ret_inside = path + strlen(directory) + 1;
	for (struct open_store *open = stores->list; open; open = open->next) {
		if (open->device == st.st_dev && open->inode == st.st_ino && !volume_is_forked(open->volume)) {
			*ret_open = open;
			return 0;
		}
	}
	split_version(*ret_inside, &place);
	return open_store(stores, directory, &st, !request->writable || place.version != MOJO_ACTIVE, ret_open);
}

/* Is the frozen version there? */
static int check_version(struct open_store *open, uint32_t version)
{
	struct mojo_version_info info;
	int error;

	if (!open->store)
		return -EIO;
	error = mojo_version_next(open->store, version, &info);
	if (!error && info.version == version && !info.active)
		return 0;
	if (error && error != -ENOENT)
		return refuse(open->stores, error, "%s: %s", open->path, strerror(-error));
	return refuse(open->stores, -ENOENT, "%s: there is no frozen version %u", open->path, version);
}

static void drop(struct open_store *open)
{
	struct open_store **link;

	if (--open->references > 0)
		return;
	for (link = &open->stores->list; *link != open; link = &(*link)->next)
		;
	*link = open->next;
	close_store(open);
}

static int stores_place(void *arg, const char *path, const struct vfs_request *request, struct vfs_place *ret_place)
{
	struct stores *stores = arg;
	struct open_store *open;
	const char *inside;
	int error = 0;

	pthread_mutex_lock(&stores->lock);
	open = find_open(stores, path, &inside);
	if (!open && request)
		error = open_for(stores, path, request, &open, &inside);
	if (!error && open) {
		split_version(inside, ret_place);
		open->references++;
		if (request && ret_place->version != MOJO_ACTIVE)
			error = check_version(open, ret_place->version);
		if (!error && request && request->writable && open->read_only && ret_place->version == MOJO_ACTIVE)
			error = volume_exchange(open->volume, reopen, open);
		if (error)
			drop(open);
	} else if (!error) {
		open = find_moved(stores, path, ret_place);
		if (open)
			open->references++;
		else
			error = -ENOENT;
	}
	if (!error)
		ret_place->volume = open->volume;
	pthread_mutex_unlock(&stores->lock);
	return error;
}

static void stores_release(void *arg, struct volume *volume)
{
	struct stores *stores = arg;
	struct open_store *open;

	pthread_mutex_lock(&stores->lock);
	for (open = stores->list; open && open->volume != volume; open = open->next)
		;
	if (open)
		drop(open);
	pthread_mutex_unlock(&stores->lock);
}

static bool stores_exists_elsewhere(void *arg, const char *path)
{
	(void)arg;
	return access(path, F_OK) == 0;
}

const struct vfs_paths stores_paths = {
	.full = stores_full,
	.place = stores_place,
	.release = stores_release,
	.exists_elsewhere = stores_exists_elsewhere,
	.say = stores_say,
};

/* ---- commits ------------------------------------------------------------------------------------------- */

static int settle(void *arg, uint32_t version)
{
	struct open_store *open = arg;
	struct settle_options options = { .event = on_event, .event_arg = open };

	return settle_version(open->store, version, NULL, 0, &options, NULL);
}

int stores_commit(struct stores *stores, struct volume *volume, const char *message, size_t length,
		  uint32_t *ret_version, char *ret_reason)
{
	char busy[MOJO_NAME_MAX + 1] = "";
	struct open_store *open;
	int error;

	pthread_mutex_lock(&stores->lock);
	for (open = stores->list; open && open->volume != volume; open = open->next)
		;
	pthread_mutex_unlock(&stores->lock);
	/* The caller's open file keeps it open. */
	error = open ? volume_commit(volume, message, length, settle, open, ret_version, busy) : -ENOENT;
	switch (error) {
	case 0:
		break;
	case -EBUSY:
		snprintf(ret_reason, STORES_REASON_SIZE,
			 "%s is in the middle of a transaction with journal_mode OFF or MEMORY: try again after it",
			 busy);
		break;
	case -EROFS:
		snprintf(ret_reason, STORES_REASON_SIZE, "the store is open for reading only");
		break;
	case -E2BIG:
		snprintf(ret_reason, STORES_REASON_SIZE, "the message is longer than %u bytes", MOJO_MESSAGE_MAX);
		break;
	case -EAGAIN:
		snprintf(ret_reason, STORES_REASON_SIZE, "another commit is under way");
		break;
	case -ECHILD:
		snprintf(ret_reason, STORES_REASON_SIZE, "the process was forked after it opened the store");
		break;
	default:
		snprintf(ret_reason, STORES_REASON_SIZE, "the commit failed: %s", strerror(-error));
	}
	return error;
}
