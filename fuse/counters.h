/* SPDX-License-Identifier: MIT */
/*
 * counters.h - how many requests of each type the kernel has sent.
 *
 * They exist so that a test, or a curious administrator, can see what the kernel's caches save. It
 * promises: counting never blocks, and no request that was begun is missed.
 */
#ifndef FUSE_COUNTERS_H
#define FUSE_COUNTERS_H

#include <stdatomic.h>
#include <stddef.h>

#include "../src/report.h"

enum counter {
	COUNTER_INIT,
	COUNTER_LOOKUP,
	COUNTER_FORGET,
	COUNTER_BATCH_FORGET,
	COUNTER_GETATTR,
	COUNTER_SETATTR,
	COUNTER_READLINK,
	COUNTER_SYMLINK,
	COUNTER_MKNOD,
	COUNTER_MKDIR,
	COUNTER_UNLINK,
	COUNTER_RMDIR,
	COUNTER_RENAME,
	COUNTER_LINK,
	COUNTER_OPEN,
	COUNTER_CREATE,
	COUNTER_READ,
	COUNTER_WRITE,
	COUNTER_RELEASE,
	COUNTER_FSYNC,
	COUNTER_FSYNCDIR,
	COUNTER_OPENDIR,
	COUNTER_READDIR,
	COUNTER_READDIRPLUS,
	COUNTER_STATFS,
	COUNTER_FALLOCATE,
	COUNTER_LSEEK,
	COUNTER_COPY_FILE_RANGE,
	COUNTER_SETXATTR,
	COUNTER_GETXATTR,
	COUNTER_LISTXATTR,
	COUNTER_REMOVEXATTR,
	COUNTER_IOCTL,
	COUNTER_COUNT
};

struct counters { /* zeroed is ready for use */
	atomic_ullong counts[COUNTER_COUNT];
};

/* counters_add - one more request of @kind. Any thread. */
void counters_add(struct counters *counters, enum counter kind);

/* counters_get - fill @ret_counters, COUNTER_COUNT of them, in the order above. Any thread. */
void counters_get(struct counters *counters, struct report_counter *ret_counters);

#endif
