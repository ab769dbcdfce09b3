/* SPDX-License-Identifier: MIT */
/*
 * ops.h - the requests of the kernel, each turned into a call of the engine or of a room below.
 *
 * Not here, on purpose: getlk, setlk and flock (locks are the kernel's, local and fast); flush, and opendir
 * but for the ENOSYS that turns it off (each would cost a request per open or close). Writes are not
 * spliced: their bytes have to come into memory anyway.
 */
#ifndef FUSE_OPS_H
#define FUSE_OPS_H

#include <pthread.h>

#include "commit.h"
#include "control.h"
#include "counters.h"
#include "distrust.h"
#include "follow.h"
#include "journal.h"
#include "mount.h"
#include "tree.h"

/* What the handlers work with: the session's userdata. Everything pointed to is borrowed. */
struct ops {
	struct mount_greeting greeting; /* first, as mount_new() wants it */
	struct tree *tree;
	struct commit *commit;
	struct mount *mount;
	struct control control;
	struct counters counters;
	struct follow follow;
	struct distrust distrust;
	pthread_key_t buffer; /* each serving thread's own, for replies */
	bool durable_unlink;  /* the removal of a rollback journal is on disk when it is answered */
	bool ordered_journals; /* a sync that commits nothing, of a rollback journal or its database, is not waited for */
	atomic_bool cut_journal; /* one was hot and was cut to nothing, which commits, and that is not on disk yet */
	atomic_ullong names_changed; /* how often names, or directories, have changed */
	atomic_ullong names_synced;  /* of these changes so many are on disk for certain */
	void (*ready)(void *arg);    /* the kernel has made contact */
	void *ready_arg;
};

/* ops_init - a zeroed @ops, before any request; ops_destroy() undoes it. -ENOMEM, -EAGAIN. */
int ops_init(struct ops *ops);
void ops_destroy(struct ops *ops);

/* ops_table - the handlers. */
const struct fuse_lowlevel_ops *ops_table(void);

#endif
