/* SPDX-License-Identifier: MIT */
/*
 * sql.h - SQLite in the unit tests: everything asserts; and a VFS over one version of a store, for tests that make the
 * engine themselves.
 */
#ifndef SQL_H
#define SQL_H

#include <stdbool.h>
#include <stdint.h>

#include <sqlite3.h>

#include "mojo.h"

/* sql_run - all of @sql. sql_query - the first column of the first row. */
void sql_run(sqlite3 *db, const char *sql);
int64_t sql_query(sqlite3 *db, const char *sql);
void sql_close(sqlite3 *db);

struct sql_view; /* opaque: a registered VFS over a version */

/* sql_view_new - paths below it begin with "/". @version: MOJO_ACTIVE is written, others are read. sql_view_free() when
 * nothing is open in it. @store: borrowed. */
struct sql_view *sql_view_new(struct mojo_store *store, uint32_t version);
void sql_view_free(struct sql_view *view);
sqlite3 *sql_view_open(struct sql_view *view, const char *path);
const char *sql_view_name(const struct sql_view *view);

/* sql_make_dead - the database @name in the root as a process leaves it that dies in mid transaction: with a hot
 * journal, or frames of its WAL. Recovered, it has a table t(x) of @rows times 2000 bytes. */
void sql_make_dead(struct mojo_store *store, const char *name, bool is_wal, unsigned rows);

#endif
