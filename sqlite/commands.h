/* SPDX-License-Identifier: MIT */
/*
 * commands.h - what SQL can ask of a store.
 *
 *     mojofs_commit(message [, schema])   freeze everything in the store of that database; the version's number
 *     mojofs_version([schema])            the version that a database is of: the active one's number, or the frozen
 *     one's mojofs_last_error()                 why something could not be opened, NULL if all could
 *     mojofs_versions [(schema)]          a table of the versions: version, time, message, active, verified, finding
 *
 * A schema is "main", which is meant where none is given, or the name that a database was attached by.
 */
#ifndef SQLITE_COMMANDS_H
#define SQLITE_COMMANDS_H

#include "stores.h"

/* commands_register - in one connection. @stores: borrowed for as long as the process lives. SQLite's code. */
int commands_register(sqlite3 *db, struct stores *stores);

#endif
