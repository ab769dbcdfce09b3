/* SPDX-License-Identifier: MIT */
/*
 * settle.h - bring a frozen, unpublished version to where SQLite would take it.
 *
 * A version frozen under running writers holds what a loss of power would have left: databases with a hot rollback
 * journal, or with a WAL whose frames are not in the database yet. Settling lets SQLite itself recover each of them,
 * in that version alone and through the engine: what was in mid transaction is rolled back, what was committed
 * is folded in, the side files are gone afterwards, and the journal mode in the database's header stays as its owner
 * chose it. The active version, and those who write to it, are not touched.
 *
 * Transactions over several databases. Their journals name a super-journal by the path that its application saw. Such
 * a path is looked for in the version by leaving out leading components until the rest is found:
 * "/mnt/db/x/a.db-mj1234" may be x/a.db-mj1234. The names carry random digits, so that a match is no accident. So are
 * the names of the journals that a super-journal lists.
 *
 * What is not SQLite's, encrypted or damaged is left as it is, and reported by an event.
 *
 * Nothing here syncs: the engine's log keeps what is done in order, and mojo_publish() makes it durable. A settling
 * that was cut short, by a crash or on request, can be begun again at any time: so can SQLite's own recovery.
 *
 * These functions print nothing. Several may run at once, on different versions or stores.
 */
#ifndef SQLITE_SETTLE_H
#define SQLITE_SETTLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../src/mojo.h"

/* How it is done. A field that is 0 or NULL takes its default. Borrowed during the call. */
struct settle_options {
	/* What a user should know about a database: one line, called from the calling thread, without locks. */
	mojo_event_fn *event;
	void *event_arg;
	/* Is there a super-journal at this absolute path, outside of the store? Asked only for what is not found
	 * within, when one database of a transaction lies elsewhere. Default: no. It must not wait for the store's own
	 * mount. */
	bool (*exists_outside)(void *arg, const char *path);
	void *exists_arg;
	/* Set by another thread to give up: looked at between databases, and at every access to one. */
	const atomic_bool *cancel;
};

/* A side file: `name` ends in "-journal" or "-wal". */
struct settle_file {
	uint32_t dir;     /* bucket of its directory in the version */
	const char *name; /* borrowed */
};

struct settle_result {
	size_t side_files;   /* looked at */
	size_t rolled_back;  /* databases whose hot journal was rolled back */
	size_t checkpointed; /* databases whose WAL was folded in */
	size_t left;         /* databases that could not be settled and were left as they are; an event names each */
};

/* settle_is_side_file - does @name end like the name of a rollback journal or WAL, with something before it? */
bool settle_is_side_file(const char *name);

/*
 * settle_version - settle the databases that have one of @files beside them.
 * @version: the unpublished one (mojo_unpublished())
 * @files: @count side files of that version; those that are not there (any more) are passed over.
 *         NULL: the whole tree is searched for them
 * @options: may be NULL
 * @ret_result: may be NULL; filled on failure, too, with what was done until then
 * Returns 0 although a database was left as it is. Errors, after which the version may be partly settled and must not
 * be published: -ECANCELED, -ENOMEM, -ENOSPC, and what else kept a change from being made. A page that cannot be read
 * is no error: its database is left as it is.
 */
int settle_version(struct mojo_store *store, uint32_t version, const struct settle_file *files, size_t count,
		   const struct settle_options *options, struct settle_result *ret_result);

#define SETTLE_TEXT_SIZE 201u /* of a verdict: 200 bytes and NUL */

enum settle_verdict {
	SETTLE_OTHER, /* no SQLite database, or encrypted: nothing to say */
	SETTLE_GOOD,  /* quick_check found nothing */
	SETTLE_BAD,   /* it found something */
};

/*
 * settle_quick_check - SQLite's quick_check of one file of a frozen version, read only.
 * @dir, @name: where it is in the version; @name may not be a side file
 * @options: as above; `exists_outside` is not asked
 * @ret_text: SETTLE_TEXT_SIZE bytes; the first thing found, NUL-terminated; "" unless the verdict is SETTLE_BAD
 * Errors: -ENOENT, -ECANCELED, -ENOMEM, errors of the engine that say nothing of the file. A page that cannot be read
 * is a bad verdict.
 */
int settle_quick_check(struct mojo_store *store, uint32_t version, uint32_t dir, const char *name,
		       const struct settle_options *options, enum settle_verdict *ret_verdict, char *ret_text);

#endif
