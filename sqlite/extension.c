/* SPDX-License-Identifier: MIT */
/*
 * mojofs.so, the loadable extension: mojofs-vfs(7). It registers the VFS "mojo" for the process, for good, and its
 * functions in the connection that loads it.
 *
 * The stores of the process are kept by the VFS, which is found by its name: several connections may load the
 * extension, one after the other or at once. The one variable here is how SQLite hands itself to extensions.
 */
#include <errno.h>

#include <sqlite3ext.h>

#include "commands.h"

SQLITE_EXTENSION_INIT1

#define VFS_NAME "mojo"
#define EXPORT   __attribute__((visibility("default")))

EXPORT int sqlite3_mojofs_init(sqlite3 *db, char **ret_error, const sqlite3_api_routines *api);
EXPORT int sqlite3_extension_init(sqlite3 *db, char **ret_error, const sqlite3_api_routines *api);

/* The stores of the process; the first to ask makes them. SQLite's code. */
static int find_stores(struct stores **ret_stores)
{
	sqlite3_mutex *mutex = sqlite3_mutex_alloc(SQLITE_MUTEX_STATIC_APP1);
	struct stores *stores;
	struct vfs *vfs;
	int error = 0;

	sqlite3_mutex_enter(mutex);
	stores = vfs_arg(VFS_NAME, &stores_paths);
	if (!stores) {
		error = stores_new(&stores);
		if (!error) {
			error = vfs_new(VFS_NAME, &stores_paths, stores, &vfs);
			if (error)
				stores_free(stores);
		}
	}
	sqlite3_mutex_leave(mutex);
	if (error)
		return error == -ENOMEM ? SQLITE_NOMEM : SQLITE_ERROR;
	*ret_stores = stores;
	return SQLITE_OK;
}

/* Called for every connection that is opened from now on: after .load the shell is told to .open, which makes one. */
static int init_connection(sqlite3 *db, char **ret_error, const sqlite3_api_routines *api)
{
	struct stores *stores = vfs_arg(VFS_NAME, &stores_paths);

	(void)ret_error;
	(void)api;
	return stores ? commands_register(db, stores) : SQLITE_OK;
}

int sqlite3_mojofs_init(sqlite3 *db, char **ret_error, const sqlite3_api_routines *api)
{
	struct stores *stores;
	int code;

	SQLITE_EXTENSION_INIT2(api);
	/* Calls that older ones do not have are used. */
	if (sqlite3_libversion_number() < 3034000) {
		*ret_error = sqlite3_mprintf("mojofs needs SQLite 3.34 or newer, and this is %s", sqlite3_libversion());
		return SQLITE_ERROR;
	}
	if (!sqlite3_threadsafe()) {
		*ret_error = sqlite3_mprintf("mojofs needs a SQLite that was built with threads");
		return SQLITE_ERROR;
	}
	code = find_stores(&stores);
	if (!code)
		code = commands_register(db, stores);
	if (!code)
		code = sqlite3_auto_extension((void (*)(void))init_connection);
	/* The VFS stays when the connection that loaded it is closed. */
	return code ? code : SQLITE_OK_LOAD_PERMANENTLY;
}

int sqlite3_extension_init(sqlite3 *db, char **ret_error, const sqlite3_api_routines *api)
{
	return sqlite3_mojofs_init(db, ret_error, api);
}
