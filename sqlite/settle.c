/* SPDX-License-Identifier: MIT */
/*
 * A VFS of its own is registered for the time of a call, over a volume whose writable version is the one to be settled.
 * Its paths begin with "//" and the number of a directory: "//1/a.db" is a.db in the root. No application's path looks
 * like that, so that those are told apart which stand in journals and are to be looked for (settle.h).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <sqlite3ext.h>

#include "settle.h"
#include "vfs.h"

SQLITE_EXTENSION_INIT3

enum {
	WAL_HEADER_BYTES = 32,
	DATABASE_HEADER_BYTES = 100,
};

struct settling {
	struct mojo_store *store; /* borrowed */
	uint32_t version;
	const struct settle_options *options;
	struct volume *volume; /* owned */
	struct vfs *vfs;       /* owned */
	char vfs_name[48];
	struct settle_result result;
};

static void tell(const struct settling *settling, enum mojo_severity severity, const char *text)
{
	if (settling->options->event)
		settling->options->event(settling->options->event_arg, severity, text);
}

/* ---- the VFS --------------------------------------------------------------------------------- */

static int settling_full(void *arg, const char *name, uint32_t version, char *ret_path)
{
	(void)arg;
	if (version || strlen(name) >= VFS_PATH_MAX)
		return -EINVAL;
	strcpy(ret_path, name);
	return 0;
}

static int settling_place(void *arg, const char *path, const struct vfs_request *request, struct vfs_place *ret_place)
{
	struct settling *settling = arg;
	struct volume_name name;
	unsigned dir;
	int end = 0;

	(void)request; /* what is opened is there */
	ret_place->volume = settling->volume;
	ret_place->version = settling->version;
	if (strlen(path) >= VFS_PATH_MAX)
		return -ENAMETOOLONG;
	if (sscanf(path, "//%u/%n", &dir, &end) == 1 && end > 0) {
		ret_place->dir = dir;
		strcpy(ret_place->path, path + end);
		return 0;
	}
	ret_place->dir = MOJO_ROOT_BUCKET;
	while (*(path += strspn(path, "/"))) {
		int error = volume_find(settling->volume, settling->version, MOJO_ROOT_BUCKET, path, &name);

		if (!error) {
			strcpy(ret_place->path, path);
			return 0;
		}
		/* A component that cannot be a name is no match either. */
		if (error != -ENOENT && error != -EINVAL && error != -ENAMETOOLONG)
			return error;
		path += strcspn(path, "/");
	}
	return -ENOENT;
}

static void settling_release(void *arg, struct volume *volume)
{
	(void)arg; /* it lives as long as the call */
	(void)volume;
}

static bool settling_exists_elsewhere(void *arg, const char *path)
{
	const struct settle_options *options = ((struct settling *)arg)->options;

	return strncmp(path, "//", 2) != 0 && options->exists_outside &&
	       options->exists_outside(options->exists_arg, path);
}

static void settling_say(void *arg, int code, const char *text)
{
	(void)code;
	tell(arg, MOJO_WARNING, text);
}

static const struct vfs_paths settling_paths = {
	.full = settling_full,
	.place = settling_place,
	.release = settling_release,
	.exists_elsewhere = settling_exists_elsewhere,
	.say = settling_say,
};

static void end(struct settling *settling)
{
	vfs_free(settling->vfs);
	volume_free(settling->volume);
}

static int begin(struct settling *settling, struct mojo_store *store, uint32_t version, bool writable,
		 const struct settle_options *options)
{
	static const struct settle_options none;
	struct volume_config config = { .store = store, .read_only = true };
	int error;

	memset(settling, 0, sizeof(*settling));
	settling->store = store;
	settling->version = version;
	settling->options = options ? options : &none;
	config.settling = writable ? version : 0;
	config.cancel = settling->options->cancel;
	error = volume_new(&config, &settling->volume);
	if (error)
		return error;
	/* Of those that live at the same time each has its own address. */
	snprintf(settling->vfs_name, sizeof(settling->vfs_name), "mojofs-settle-%p", (void *)settling);
	error = vfs_new(settling->vfs_name, &settling_paths, settling, &settling->vfs);
	if (error)
		end(settling);
	return error;
}

static bool is_cancelled(const struct settling *settling)
{
	return settling->options->cancel && atomic_load(settling->options->cancel);
}

/* ---- one database ------------------------------------------------------------------------------ */

/* The beginning of a file of @dir; -ENOENT also if it is none that SQLite could use, or is shorter. */
static int read_head(struct settling *settling, uint32_t dir, const char *name, const char *ending, void *buf,
		     size_t length, struct mojo_attr *ret_attr)
{
	char full[MOJO_NAME_MAX + sizeof("-journal")];
	struct mojo_attr attr;
	size_t got;
	int error;

	snprintf(full, sizeof(full), "%s%s", name, ending);
	if (strlen(full) > MOJO_NAME_MAX)
		return -ENOENT;
	error = mojo_lookup(settling->store, settling->version, dir, full, &attr);
	if (!error && !S_ISREG(attr.mode))
		error = -ENOENT;
	if (!error)
		error = mojo_read(settling->store, settling->version, attr.bucket, 0, buf, length, &got);
	if (error)
		return error;
	if (ret_attr)
		*ret_attr = attr;
	return got == length ? 0 : -ENOENT;
}

/* Is there a journal with a header? One whose header is zeros is of no transaction that is under way. */
static bool has_hot_journal(struct settling *settling, uint32_t dir, const char *name)
{
	static const unsigned char magic[8] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };
	unsigned char head[28];
	int error = read_head(settling, dir, name, "-journal", head, sizeof(head), NULL);

	/* One that cannot be read may be one: SQLite shall find out. */
	return error ? error != -ENOENT : memcmp(head, magic, sizeof(magic)) == 0;
}

enum wal { WAL_NONE, WAL_EMPTY, WAL_FRAMES };

static enum wal find_wal(struct settling *settling, uint32_t dir, const char *name)
{
	unsigned char head[WAL_HEADER_BYTES];
	char side[MOJO_NAME_MAX + sizeof("-wal") + 1];
	struct mojo_attr attr;

	snprintf(side, sizeof(side), "%s-wal", name);
	if (strlen(side) > MOJO_NAME_MAX || mojo_lookup(settling->store, settling->version, dir, side, &attr) != 0 ||
	    !S_ISREG(attr.mode))
		return WAL_NONE;
	if (read_head(settling, dir, name, "-wal", head, sizeof(head), NULL) == -ENOENT)
		return WAL_EMPTY;
	return WAL_FRAMES;
}

enum kind { KIND_OTHER, KIND_SQLITE, KIND_SQLITE_WAL };

/* By its first bytes. Zeros are the database of a first transaction that did not end. */
static int find_kind(struct settling *settling, uint32_t dir, const char *name, enum kind *ret_kind)
{
	static const unsigned char zeros[16];
	unsigned char head[DATABASE_HEADER_BYTES];
	struct mojo_attr attr;
	int error;

	error = mojo_lookup(settling->store, settling->version, dir, name, &attr);
	if (error)
		return error;
	*ret_kind = KIND_OTHER;
	if (!S_ISREG(attr.mode))
		return 0;
	if (attr.size == 0) {
		*ret_kind = KIND_SQLITE;
		return 0;
	}
	error = read_head(settling, dir, name, "", head, sizeof(head), NULL);
	if (error)
		return error == -ENOENT ? 0 : error;
	if (memcmp(head, "SQLite format 3", 16) == 0)
		*ret_kind = head[18] == 2 || head[19] == 2 ? KIND_SQLITE_WAL : KIND_SQLITE;
	else if (memcmp(head, zeros, sizeof(zeros)) == 0)
		*ret_kind = KIND_SQLITE;
	return 0;
}

/* A database stays as it is, or is as it was found. */
static void leave_it(struct settling *settling, uint32_t dir, const char *name, const char *why)
{
	char path[VFS_PATH_MAX] = "", text[VFS_PATH_MAX + MOJO_NAME_MAX + 400];

	/* Its directory as it is called in the active version, if it is there. */
	if (dir != MOJO_ROOT_BUCKET && mojo_path(settling->store, dir, path, sizeof(path)) != 0)
		path[0] = '\0';
	snprintf(text, sizeof(text), "%s%s%s in version %u is left as it was frozen, with what lies beside it: %s",
		 path, path[0] ? "/" : "", name, settling->version, why);
	tell(settling, MOJO_WARNING, text);
	settling->result.left++;
}

static int open_database(struct settling *settling, uint32_t dir, const char *name, int flags, sqlite3 **ret_db)
{
	char path[MOJO_NAME_MAX + 32];
	int code;

	snprintf(path, sizeof(path), "//%u/%s", dir, name);
	code = sqlite3_open_v2(path, ret_db, flags | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_NOMUTEX,
			       settling->vfs_name);
	if (code != SQLITE_OK)
		return code;
	/* What is in the schema is nobody's we know. */
	sqlite3_db_config(*ret_db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(*ret_db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	return SQLITE_OK;
}

/* What a call of SQLite that ended with @code means for the whole: 0 if it concerns this database alone. */
static int fatal(struct settling *settling, int code)
{
	int error;

	if (is_cancelled(settling))
		return -ECANCELED;
	error = volume_failure(settling->volume);
	if (error)
		return error;
	return (code & 0xff) == SQLITE_NOMEM || code == SQLITE_IOERR_NOMEM ? -ENOMEM : 0;
}

/* SQLite recovers it by opening and reading it. The mode of locking is the usual one: in the exclusive one it would
 * keep the journal, with zeros in its header. */
static int recover(struct settling *settling, uint32_t dir, const char *name, bool hot, enum wal wal)
{
	sqlite3 *db = NULL;
	char why[300] = "";
	int code, error;

	code = open_database(settling, dir, name, SQLITE_OPEN_READWRITE, &db);
	if (!code)
		code = sqlite3_exec(db, "PRAGMA schema_version", NULL, NULL, NULL);
	if (!code)
		code = sqlite3_wal_checkpoint_v2(db, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
	if (code)
		snprintf(why, sizeof(why), "%s", db ? sqlite3_errmsg(db) : sqlite3_errstr(code));
	/* This removes the WAL. */
	sqlite3_close(db);
	error = fatal(settling, code);
	if (error)
		return error;
	if (code)
		leave_it(settling, dir, name, why);
	else if (has_hot_journal(settling, dir, name))
		leave_it(settling, dir, name, "its rollback journal could not be played back");
	else if (find_wal(settling, dir, name) == WAL_FRAMES)
		leave_it(settling, dir, name, "its WAL could not be folded in");
	else {
		settling->result.rolled_back += hot;
		settling->result.checkpointed += wal == WAL_FRAMES;
	}
	return 0;
}

static int settle_database(struct settling *settling, uint32_t dir, const char *name)
{
	bool hot = has_hot_journal(settling, dir, name);
	enum wal wal = find_wal(settling, dir, name);
	enum kind kind;
	int error;

	if (!hot && wal == WAL_NONE)
		return 0;
	error = find_kind(settling, dir, name, &kind);
	if (error == -ENOENT)
		return 0; /* side files of nothing */
	if (error == -ENOMEM || error == -ECANCELED)
		return error;
	if (error) {
		leave_it(settling, dir, name, strerror(-error));
		return 0;
	}
	/* An empty WAL beside a database in another mode is nothing that SQLite would look at. */
	if (!hot && wal == WAL_EMPTY && kind != KIND_SQLITE_WAL)
		return 0;
	if (kind == KIND_OTHER) {
		leave_it(settling, dir, name, "it is no SQLite database, or encrypted");
		return 0;
	}
	return recover(settling, dir, name, hot, wal);
}

/* ---- which ones ----------------------------------------------------------------------------------- */

struct found {
	uint32_t dir;
	char *base; /* owned: the database's name */
};

struct list {
	struct found *found; /* owned */
	size_t count, capacity;
	uint32_t *dirs; /* owned: still to be searched */
	size_t dir_count, dir_capacity;
	uint32_t dir; /* that is searched */
	int error;
};

/* Length of the database's name in that of a side file; 0: it is none. */
static size_t base_length(const char *name)
{
	static const char *const endings[] = { "-journal", "-wal" };
	size_t length = strlen(name);

	for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++) {
		size_t ending = strlen(endings[i]);

		if (length > ending && strcmp(name + length - ending, endings[i]) == 0)
			return length - ending;
	}
	return 0;
}

bool settle_is_side_file(const char *name)
{
	return base_length(name) > 0;
}

static void list_free(struct list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->found[i].base);
	free(list->found);
	free(list->dirs);
}

/* Make room for one more of @size bytes. */
static int grow(void **array, size_t count, size_t *capacity, size_t size)
{
	size_t larger = *capacity ? *capacity * 2 : 16;
	void *moved;

	if (count < *capacity)
		return 0;
	moved = realloc(*array, larger * size);
	if (!moved)
		return -ENOMEM;
	*array = moved;
	*capacity = larger;
	return 0;
}

static int list_add(struct list *list, uint32_t dir, const char *name)
{
	void *array = list->found;
	char *base;
	int error = grow(&array, list->count, &list->capacity, sizeof(*list->found));

	list->found = array;
	if (error)
		return error;
	base = strndup(name, base_length(name));
	if (!base)
		return -ENOMEM;
	list->found[list->count++] = (struct found){ .dir = dir, .base = base };
	return 0;
}

/* Called with the engine's lock held. */
static bool on_entry(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct list *list = arg;
	void *array = list->dirs;

	(void)cookie;
	if (S_ISDIR(attr->mode)) {
		list->error = grow(&array, list->dir_count, &list->dir_capacity, sizeof(*list->dirs));
		list->dirs = array;
		if (!list->error)
			list->dirs[list->dir_count++] = attr->bucket;
	} else if (S_ISREG(attr->mode) && settle_is_side_file(name)) {
		list->error = list_add(list, list->dir, name);
	}
	return !list->error;
}

static int search_tree(struct settling *settling, struct list *list)
{
	int error = 0;

	list->dir = MOJO_ROOT_BUCKET;
	for (;;) {
		if (is_cancelled(settling))
			return -ECANCELED;
		error = mojo_readdir(settling->store, settling->version, list->dir, 0, on_entry, list);
		if (list->error)
			return list->error;
		if (error)
			return error;
		if (list->dir_count == 0)
			return 0;
		list->dir = list->dirs[--list->dir_count];
	}
}

static int compare_found(const void *a, const void *b)
{
	const struct found *left = a, *right = b;

	if (left->dir != right->dir)
		return left->dir < right->dir ? -1 : 1;
	return strcmp(left->base, right->base);
}

int settle_version(struct mojo_store *store, uint32_t version, const struct settle_file *files, size_t count,
		   const struct settle_options *options, struct settle_result *ret_result)
{
	struct settling settling;
	struct list list = { 0 };
	int error;

	error = begin(&settling, store, version, true, options);
	if (error) {
		if (ret_result)
			memset(ret_result, 0, sizeof(*ret_result));
		return error;
	}
	if (!files)
		error = search_tree(&settling, &list);
	for (size_t i = 0; files && !error && i < count; i++)
		if (settle_is_side_file(files[i].name))
			error = list_add(&list, files[i].dir, files[i].name);
	/* A database with both kinds of side files is listed twice. */
	if (list.count > 0)
		qsort(list.found, list.count, sizeof(*list.found), compare_found);
	settling.result.side_files = list.count;
	for (size_t i = 0; !error && i < list.count; i++) {
		if (is_cancelled(&settling))
			error = -ECANCELED;
		else if (i == 0 || compare_found(&list.found[i - 1], &list.found[i]) != 0)
			error = settle_database(&settling, list.found[i].dir, list.found[i].base);
	}
	list_free(&list);
	end(&settling);
	if (ret_result)
		*ret_result = settling.result;
	return error;
}

/* ---- quick_check --------------------------------------------------------------------------------------- */

static int on_progress(void *arg)
{
	return is_cancelled(arg);
}

static int on_row(void *arg, int count, char **values, char **names)
{
	char *text = arg;

	(void)names;
	/* The first row: "ok", or what is wrong. */
	if (count > 0 && values[0] && text[0] == '\0')
		snprintf(text, SETTLE_TEXT_SIZE, "%s", values[0]);
	return 0;
}

/* quick_check compares nothing by collations, but wants them to be there. */
static int compare_bytes(void *arg, int left_length, const void *left, int right_length, const void *right)
{
	int order = memcmp(left, right, (size_t)(left_length < right_length ? left_length : right_length));

	(void)arg;
	return order ? order : left_length - right_length;
}

static void on_collation(void *arg, sqlite3 *db, int encoding, const char *name)
{
	(void)arg;
	sqlite3_create_collation(db, name, encoding, NULL, compare_bytes);
}

int settle_quick_check(struct mojo_store *store, uint32_t version, uint32_t dir, const char *name,
		       const struct settle_options *options, enum settle_verdict *ret_verdict, char *ret_text)
{
	char text[SETTLE_TEXT_SIZE] = "";
	struct settling settling;
	sqlite3 *db = NULL;
	struct mojo_attr attr;
	enum kind kind;
	int code, error;

	error = begin(&settling, store, version, false, options);
	if (error)
		return error;
	ret_text[0] = '\0';
	error = mojo_lookup(store, version, dir, name, &attr);
	if (!error)
		error = find_kind(&settling, dir, name, &kind);
	if (error == -EIO) {
		*ret_verdict = SETTLE_BAD;
		snprintf(ret_text, SETTLE_TEXT_SIZE, "its first page cannot be read");
		error = 0;
		goto out;
	}
	if (error)
		goto out;
	if (kind == KIND_OTHER || attr.size == 0) {
		*ret_verdict = SETTLE_OTHER;
		goto out;
	}
	code = open_database(&settling, dir, name, SQLITE_OPEN_READONLY, &db);
	if (!code) {
		sqlite3_progress_handler(db, 10000, on_progress, &settling);
		sqlite3_collation_needed(db, NULL, on_collation);
		code = sqlite3_exec(db, "PRAGMA quick_check(1)", on_row, text, NULL);
	}
	error = code ? fatal(&settling, code) : 0;
	if (error)
		goto out;
	if (code == SQLITE_ERROR) {
		/* A function of its application's that is not here, as a rule: nothing is known against it. */
		char line[MOJO_NAME_MAX + 300];

		snprintf(line, sizeof(line), "%s in version %u could not be checked: %s", name, version,
			 sqlite3_errmsg(db));
		tell(&settling, MOJO_WARNING, line);
		*ret_verdict = SETTLE_OTHER;
	} else if (code) {
		*ret_verdict = SETTLE_BAD;
		snprintf(ret_text, SETTLE_TEXT_SIZE, "%s", db ? sqlite3_errmsg(db) : sqlite3_errstr(code));
	} else if (strcmp(text, "ok") == 0) {
		*ret_verdict = SETTLE_GOOD;
	} else {
		*ret_verdict = SETTLE_BAD;
		strcpy(ret_text, text);
	}
out:
	sqlite3_close(db);
	end(&settling);
	return error;
}
