/* SPDX-License-Identifier: MIT */
/*
 * judge.h - the verdict on a version: SQLite's quick_check of the databases in it.
 *
 * Where the version before passed, only those that differ from it are looked at; else all of them. What came of it is
 * kept with the version (mojo_version_verdict()): good, or bad with the first thing that was found, as
 * "shop/a.db: ...". A version without a database is good.
 */
#ifndef SQLITE_JUDGE_H
#define SQLITE_JUDGE_H

#include "settle.h"

/*
 * judge_version - look, and keep the verdict. Takes as long as it takes to read the databases.
 * @version: frozen and published
 * @options: event and cancel are used; the event tells of a bad verdict
 * @ret_verdict: good or bad
 * Errors, after which there is no new verdict: -ENOENT (not kept, or dropped meanwhile), -EBUSY (the active one),
 * -ECANCELED, -ENOMEM, -EROFS, errors of the engine.
 */
int judge_version(struct mojo_store *store, uint32_t version, const struct settle_options *options,
		  enum mojo_verdict *ret_verdict);

#endif
