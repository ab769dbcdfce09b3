/* SPDX-License-Identifier: MIT */
/*
 * journal.h - telling SQLite's rollback journals from other files, and what one is waiting for.
 *
 * A rollback journal is beside its database X, as X-journal, and begins so (SQLite's file format, section 3):
 *
 *      0  8  d9 d5 05 f9 20 a1 63 d7
 *      8  4  how many pages are in it; all ones: it was written with synchronous=OFF
 *     12  4  a number for its checksums
 *     16  4  pages of the database
 *     20  4  sector size
 *     24  4  page size
 *
 * The first twelve bytes are zeros until SQLite has synced the rest. A journal that is no longer needed is removed,
 * cut to nothing, or has zeros in all of these bytes.
 *
 *     absent, empty, zeros  --- writing, sync --->  being written  --- its head, sync --->  hot
 *              ^                                                                            |
 *              +--------- removal, truncation or zeros: the transaction is committed -------+
 *
 * Between the last two syncs of that kind the database itself is written, and synced. Behind all else in a journal stands,
 * if the transaction is of several databases, the name of their super-journal, and behind that the first eight bytes once
 * more: what commits then is the removal of the super-journal, which may be on another file system.
 */
#ifndef FUSE_JOURNAL_H
#define FUSE_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "../src/mojo.h"

#define JOURNAL_HEAD_BYTES 28u
#define JOURNAL_PAGE_MOST  65536u /* bytes of a page of a database */

struct journal_head {
	bool is_counted;  /* it has been synced, or never will be; else there is nothing to be taken back yet */
	uint32_t records; /* all ones: as many as there are */
	uint64_t pages;   /* of the database, before the transaction */
	uint32_t sector_bytes, page_bytes;
};

/* journal_head - do JOURNAL_HEAD_BYTES @bytes say that a journal begins here, being written or hot? */
bool journal_head(const void *bytes, struct journal_head *ret_head);

/* journal_is_over - are JOURNAL_HEAD_BYTES @bytes zeros, as at the end of a transaction in PERSIST mode? */
bool journal_is_over(const void *bytes);

/* journal_has_suffix - may @name be the name of a journal? */
bool journal_has_suffix(const char *name);

/* journal_database - the file for which @bucket would be the journal, by its name. -ENOENT: there is none. */
int journal_database(struct mojo_store *store, uint32_t bucket, uint32_t *ret_database);

/* journal_of - what is called as the journal of @database is. -ENOENT: nothing. */
int journal_of(struct mojo_store *store, uint32_t database, uint32_t *ret_journal);

/*
 * journal_is_hot - would a removal of the file named @name in @dir, of the active tree, commit a transaction that
 * somebody waits for? Its content tells. One that cannot be read may be one.
 */
bool journal_is_hot(struct mojo_store *store, uint32_t dir, const char *name);

/* journal_is_hot_bucket - the same of a regular file, @bucket. */
bool journal_is_hot_bucket(struct mojo_store *store, uint32_t bucket);

/*
 * journal_takes_back - is @bucket a database beside which a hot journal is, with no super-journal to it? As long as that
 * is there a loss of power takes back whatever is in the database: to sync it has only to come before the end of the
 * journal. False if anything is in doubt.
 */
bool journal_takes_back(struct mojo_store *store, uint32_t bucket);

/*
 * journal_only_orders - is @bucket a journal whose sync has only to come before what is written after it? So it is
 * while it is being written, or hot: it is of use only together with changes of its database that come later. Not
 * where its sync commits: there it is empty, or zeros. Name and content must tell, and the database must be there.
 */
bool journal_only_orders(struct mojo_store *store, uint32_t bucket);

/* journal_is_wal_name - is @name in @dir what the WAL of a database there is called? */
bool journal_is_wal_name(struct mojo_store *store, uint32_t dir, const char *name);

/* journal_is_name - is @name in @dir what the journal of a database there is called? */
bool journal_is_name(struct mojo_store *store, uint32_t dir, const char *name);

#endif
