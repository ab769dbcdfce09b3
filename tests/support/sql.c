/* SPDX-License-Identifier: MIT */
#include "support.h"

#include "../../sqlite/vfs.h"
#include "sql.h"

struct sql_view {
	struct volume *volume; /* owned */
	struct vfs *vfs;       /* owned */
	uint32_t version;
	char name[40];
};

void sql_run(sqlite3 *db, const char *sql)
{
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
}

int64_t sql_query(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *statement;
	int64_t value;

	if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK || sqlite3_step(statement) != SQLITE_ROW)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	value = sqlite3_column_int64(statement, 0);
	assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
	return value;
}

void sql_close(sqlite3 *db)
{
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static int view_full(void *arg, const char *name, uint32_t version, char *ret_path)
{
	(void)arg;
	assert_int_equal(version, 0);
	strcpy(ret_path, name);
	return 0;
}

static int view_place(void *arg, const char *path, const struct vfs_request *request, struct vfs_place *ret_place)
{
	struct sql_view *view = arg;

	(void)request;
	assert_int_equal(path[0], '/');
	ret_place->volume = view->volume;
	ret_place->version = view->version;
	ret_place->dir = MOJO_ROOT_BUCKET;
	strcpy(ret_place->path, path + 1);
	return 0;
}

static void view_release(void *arg, struct volume *volume)
{
	(void)arg; /* it lives as long as the view */
	(void)volume;
}

static void view_say(void *arg, int code, const char *text)
{
	(void)arg;
	fprintf(stderr, "SQLite %d: %s\n", code, text);
}

static const struct vfs_paths view_paths = {
	.full = view_full,
	.place = view_place,
	.release = view_release,
	.say = view_say,
};

struct sql_view *sql_view_new(struct mojo_store *store, uint32_t version)
{
	struct volume_config config = { .store = store, .read_only = version != MOJO_ACTIVE };
	struct sql_view *view = calloc(1, sizeof(*view));

	assert_non_null(view);
	view->version = version;
	snprintf(view->name, sizeof(view->name), "view-%p", (void *)view);
	assert_ok(volume_new(&config, &view->volume));
	assert_ok(vfs_new(view->name, &view_paths, view, &view->vfs));
	return view;
}

void sql_view_free(struct sql_view *view)
{
	vfs_free(view->vfs);
	volume_free(view->volume);
	free(view);
}

const char *sql_view_name(const struct sql_view *view)
{
	return view->name;
}

sqlite3 *sql_view_open(struct sql_view *view, const char *path)
{
	int flags = view->version == MOJO_ACTIVE ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
	sqlite3 *db;

	if (sqlite3_open_v2(path, &db, flags, view->name) != SQLITE_OK)
		fail_msg("%s: %s", path, sqlite3_errmsg(db));
	return db;
}

void sql_make_dead(struct mojo_store *store, const char *name, bool is_wal, unsigned rows)
{
	static const char *const endings[] = { "", "-wal", "-journal" };
	struct sql_view *view = sql_view_new(store, MOJO_ACTIVE);
	char path[64], sql[300];
	void *copies[3] = { NULL };
	size_t lengths[3] = { 0 };
	struct mojo_attr attr;
	sqlite3 *db;

	snprintf(path, sizeof(path), "/%s", name);
	db = sql_view_open(view, path);
	snprintf(sql, sizeof(sql),
		 "PRAGMA temp_store=memory; PRAGMA cache_size=3; PRAGMA cache_spill=3; CREATE TABLE t(x);"
		 "PRAGMA journal_mode=%s; PRAGMA wal_autocheckpoint=0;"
		 "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %u)"
		 "INSERT INTO t SELECT randomblob(2000) FROM n;",
		 is_wal ? "WAL" : "DELETE", rows);
	sql_run(db, sql);
	sql_run(db, "BEGIN; UPDATE t SET x = randomblob(2100); DELETE FROM t WHERE rowid > 2;");
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s%s", name, endings[i]);
		if (mojo_lookup(store, MOJO_ACTIVE, MOJO_ROOT_BUCKET, path, &attr) != 0)
			continue;
		copies[i] = malloc(attr.size + 1);
		assert_ok(mojo_read(store, MOJO_ACTIVE, attr.bucket, 0, copies[i], attr.size, &lengths[i]));
	}
	sql_run(db, "ROLLBACK");
	sql_close(db);
	sql_view_free(view);
	/* As it was in mid transaction. */
	for (size_t i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s%s", name, endings[i]);
		if (!copies[i])
			continue;
		if (mojo_lookup(store, MOJO_ACTIVE, MOJO_ROOT_BUCKET, path, &attr) != 0)
			assert_ok(mojo_mknod(store, MOJO_ROOT_BUCKET, path, S_IFREG | 0644, 0, 0, 0, &attr));
		assert_ok(mojo_write(store, attr.bucket, 0, copies[i], lengths[i]));
		free(copies[i]);
	}
	assert_non_null(copies[is_wal ? 1 : 2]);
}
