/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sqlite3ext.h>

#include "commands.h"

SQLITE_EXTENSION_INIT3

/* Where the database of that name is; an error's reason goes to @ret_reason, of STORES_REASON_SIZE bytes. */
static int find_database(sqlite3 *db, const char *schema, struct volume **ret_volume, uint32_t *ret_version,
			 char *ret_reason)
{
	int error = vfs_database(db, schema, ret_volume, ret_version);

	if (error == -ENOENT)
		snprintf(ret_reason, STORES_REASON_SIZE, "there is no database \"%s\"", schema);
	else if (error)
		snprintf(ret_reason, STORES_REASON_SIZE,
			 "the database \"%s\" is in no mojofs store; open it by: file:STORE/NAME?vfs=mojo", schema);
	return error;
}

static const char *schema_of(int count, sqlite3_value **values, int index)
{
	const char *schema = index < count ? (const char *)sqlite3_value_text(values[index]) : NULL;

	return schema ? schema : "main";
}

/* ---- functions ------------------------------------------------------------------------------------ */

static void function_commit(sqlite3_context *context, int count, sqlite3_value **values)
{
	struct stores *stores = sqlite3_user_data(context);
	sqlite3 *db = sqlite3_context_db_handle(context);
	char reason[STORES_REASON_SIZE];
	const char *message = (const char *)sqlite3_value_text(values[0]);
	size_t length = message ? (size_t)sqlite3_value_bytes(values[0]) : 0;
	uint32_t version;
	struct volume *volume;
	int error;

	/* What this connection has not committed would not be in the version, which is not what its user expects. */
	if (!sqlite3_get_autocommit(db) || sqlite3_txn_state(db, NULL) == SQLITE_TXN_WRITE) {
		sqlite3_result_error(context, "mojofs_commit: this connection is in a transaction: end it first", -1);
		return;
	}
	if (memchr(message ? message : "", '\0', length)) {
		sqlite3_result_error(context, "mojofs_commit: the message contains a NUL", -1);
		return;
	}
	error = find_database(db, schema_of(count, values, 1), &volume, &version, reason);
	if (!error)
		error = stores_commit(stores, volume, message ? message : "", length, &version, reason);
	if (error) {
		char *text = sqlite3_mprintf("mojofs_commit: %s", reason);

		sqlite3_result_error(context, text ? text : "mojofs_commit: out of memory", -1);
		sqlite3_free(text);
		if (error == -EBUSY || error == -EAGAIN)
			sqlite3_result_error_code(context, SQLITE_BUSY);
		return;
	}
	sqlite3_result_int64(context, version);
}

static void function_version(sqlite3_context *context, int count, sqlite3_value **values)
{
	char reason[STORES_REASON_SIZE];
	struct volume *volume;
	uint32_t version;

	if (find_database(sqlite3_context_db_handle(context), schema_of(count, values, 0), &volume, &version, reason) !=
	    0) {
		sqlite3_result_error(context, reason, -1);
		return;
	}
	if (version == MOJO_ACTIVE)
		version = volume_active_version(volume);
	sqlite3_result_int64(context, version);
}

static void function_last_error(sqlite3_context *context, int count, sqlite3_value **values)
{
	char text[VFS_PATH_MAX + 200];

	(void)count;
	(void)values;
	stores_last_error(sqlite3_user_data(context), text, sizeof(text));
	if (text[0])
		sqlite3_result_text(context, text, -1, SQLITE_TRANSIENT);
}

/* ---- the table -------------------------------------------------------------------------------------- */

enum column {
	COLUMN_VERSION,
	COLUMN_TIME,
	COLUMN_MESSAGE,
	COLUMN_ACTIVE,
	COLUMN_VERIFIED,
	COLUMN_FINDING,
	COLUMN_SCHEMA
};

static const char table_text[] = "CREATE TABLE x(version INTEGER PRIMARY KEY, time TEXT, message TEXT, active INTEGER, "
				 "verified TEXT, finding TEXT, schema TEXT HIDDEN)";

struct table {
	sqlite3_vtab base; /* first */
	sqlite3 *db;       /* borrowed */
};

struct cursor {
	sqlite3_vtab_cursor base; /* first */
	struct volume *volume;    /* borrowed: of an open file of the connection */
	struct mojo_version_info info;
	bool is_at_end;
};

static int table_connect(sqlite3 *db, void *arg, int count, const char *const *words, sqlite3_vtab **ret_table,
			 char **ret_error)
{
	struct table *table;
	int code = sqlite3_declare_vtab(db, table_text);

	(void)arg;
	(void)count;
	(void)words;
	(void)ret_error;
	if (code)
		return code;
	table = sqlite3_malloc(sizeof(*table));
	if (!table)
		return SQLITE_NOMEM;
	memset(table, 0, sizeof(*table));
	table->db = db;
	*ret_table = &table->base;
	return SQLITE_OK;
}

static int table_disconnect(sqlite3_vtab *table)
{
	sqlite3_free(table);
	return SQLITE_OK;
}

/* Of constraints only the hidden column's matters: which store. */
static int table_best_index(sqlite3_vtab *table, sqlite3_index_info *info)
{
	(void)table;
	for (int i = 0; i < info->nConstraint; i++) {
		if (info->aConstraint[i].iColumn != COLUMN_SCHEMA ||
		    info->aConstraint[i].op != SQLITE_INDEX_CONSTRAINT_EQ)
			continue;
		if (!info->aConstraint[i].usable)
			return SQLITE_CONSTRAINT;
		info->aConstraintUsage[i].argvIndex = 1;
		info->aConstraintUsage[i].omit = 1;
		break;
	}
	if (info->nOrderBy == 1 && info->aOrderBy[0].iColumn <= COLUMN_VERSION && !info->aOrderBy[0].desc)
		info->orderByConsumed = 1;
	info->estimatedCost = 100;
	info->estimatedRows = 100;
	return SQLITE_OK;
}

static int cursor_open(sqlite3_vtab *table, sqlite3_vtab_cursor **ret_cursor)
{
	struct cursor *cursor = sqlite3_malloc(sizeof(*cursor));

	(void)table;
	if (!cursor)
		return SQLITE_NOMEM;
	memset(cursor, 0, sizeof(*cursor));
	*ret_cursor = &cursor->base;
	return SQLITE_OK;
}

static int cursor_close(sqlite3_vtab_cursor *cursor)
{
	sqlite3_free(cursor);
	return SQLITE_OK;
}

static int cursor_seek(struct cursor *cursor, uint32_t from)
{
	int error = volume_version_next(cursor->volume, from, &cursor->info);

	cursor->is_at_end = error == -ENOENT;
	if (error && error != -ENOENT) {
		sqlite3_free(cursor->base.pVtab->zErrMsg);
		cursor->base.pVtab->zErrMsg = sqlite3_mprintf("mojofs_versions: %s", strerror(-error));
		return SQLITE_ERROR;
	}
	return SQLITE_OK;
}

static int cursor_filter(sqlite3_vtab_cursor *base, int index, const char *text, int count, sqlite3_value **values)
{
	struct cursor *cursor = (struct cursor *)base;
	struct table *table = (struct table *)base->pVtab;
	char reason[STORES_REASON_SIZE];
	uint32_t version;

	(void)index;
	(void)text;
	if (find_database(table->db, schema_of(count, values, 0), &cursor->volume, &version, reason) != 0) {
		sqlite3_free(base->pVtab->zErrMsg);
		base->pVtab->zErrMsg = sqlite3_mprintf("mojofs_versions: %s", reason);
		return SQLITE_ERROR;
	}
	return cursor_seek(cursor, 1);
}

static int cursor_next(sqlite3_vtab_cursor *base)
{
	struct cursor *cursor = (struct cursor *)base;

	return cursor_seek(cursor, cursor->info.version + 1);
}

static int cursor_eof(sqlite3_vtab_cursor *base)
{
	return ((struct cursor *)base)->is_at_end;
}

/* As SQLite's own functions of date and time write it, in UTC. */
static void result_time(sqlite3_context *context, int64_t time_ns)
{
	time_t seconds = (time_t)(time_ns / 1000000000);
	char text[40];
	struct tm tm;
	size_t length;

	if (!gmtime_r(&seconds, &tm))
		return;
	length = strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(text + length, sizeof(text) - length, ".%03d", (int)(time_ns / 1000000 % 1000));
	sqlite3_result_text(context, text, -1, SQLITE_TRANSIENT);
}

static int cursor_column(sqlite3_vtab_cursor *base, sqlite3_context *context, int column)
{
	const struct mojo_version_info *info = &((struct cursor *)base)->info;

	switch ((enum column)column) {
	case COLUMN_VERSION:
		sqlite3_result_int64(context, info->version);
		break;
	case COLUMN_TIME:
		if (!info->active)
			result_time(context, info->time_ns);
		break;
	case COLUMN_MESSAGE:
		if (!info->active)
			sqlite3_result_text(context, info->message, -1, SQLITE_TRANSIENT);
		break;
	case COLUMN_ACTIVE:
		sqlite3_result_int(context, info->active);
		break;
	case COLUMN_VERIFIED:
		if (info->verdict != MOJO_VERDICT_UNKNOWN)
			sqlite3_result_text(context, info->verdict == MOJO_VERDICT_GOOD ? "good" : "bad", -1,
					    SQLITE_STATIC);
		break;
	case COLUMN_FINDING:
		if (info->verdict_text[0])
			sqlite3_result_text(context, info->verdict_text, -1, SQLITE_TRANSIENT);
		break;
	case COLUMN_SCHEMA:
		break;
	}
	return SQLITE_OK;
}

static int cursor_rowid(sqlite3_vtab_cursor *base, sqlite3_int64 *ret_rowid)
{
	*ret_rowid = ((struct cursor *)base)->info.version;
	return SQLITE_OK;
}

/* Without xCreate: it is there by its name, in every schema, and cannot be made. */
static const sqlite3_module versions_module = {
	.xConnect = table_connect,
	.xBestIndex = table_best_index,
	.xDisconnect = table_disconnect,
	.xOpen = cursor_open,
	.xClose = cursor_close,
	.xFilter = cursor_filter,
	.xNext = cursor_next,
	.xEof = cursor_eof,
	.xColumn = cursor_column,
	.xRowid = cursor_rowid,
};

/* ---- registering -------------------------------------------------------------------------------------- */

int commands_register(sqlite3 *db, struct stores *stores)
{
	/* A commit is not for triggers and views of a database that somebody else wrote. */
	static const int direct = SQLITE_UTF8 | SQLITE_DIRECTONLY, plain = SQLITE_UTF8 | SQLITE_INNOCUOUS;
	int code;

	code = sqlite3_create_function_v2(db, "mojofs_commit", 1, direct, stores, function_commit, NULL, NULL, NULL);
	if (!code)
		code = sqlite3_create_function_v2(db, "mojofs_commit", 2, direct, stores, function_commit, NULL, NULL,
						  NULL);
	if (!code)
		code = sqlite3_create_function_v2(db, "mojofs_version", 0, plain, stores, function_version, NULL, NULL,
						  NULL);
	if (!code)
		code = sqlite3_create_function_v2(db, "mojofs_version", 1, plain, stores, function_version, NULL, NULL,
						  NULL);
	if (!code)
		code = sqlite3_create_function_v2(db, "mojofs_last_error", 0, plain, stores, function_last_error, NULL,
						  NULL, NULL);
	if (!code)
		code = sqlite3_create_module_v2(db, "mojofs_versions", &versions_module, NULL, NULL);
	return code;
}
