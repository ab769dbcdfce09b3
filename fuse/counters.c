/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "counters.h"

/* As the kernel's protocol calls them, FUSE_ left out. */
static const char *const names[COUNTER_COUNT] = {
	[COUNTER_INIT] = "INIT",           [COUNTER_LOOKUP] = "LOOKUP",
	[COUNTER_FORGET] = "FORGET",       [COUNTER_BATCH_FORGET] = "BATCH_FORGET",
	[COUNTER_GETATTR] = "GETATTR",     [COUNTER_SETATTR] = "SETATTR",
	[COUNTER_READLINK] = "READLINK",   [COUNTER_SYMLINK] = "SYMLINK",
	[COUNTER_MKNOD] = "MKNOD",         [COUNTER_MKDIR] = "MKDIR",
	[COUNTER_UNLINK] = "UNLINK",       [COUNTER_RMDIR] = "RMDIR",
	[COUNTER_RENAME] = "RENAME",       [COUNTER_LINK] = "LINK",
	[COUNTER_OPEN] = "OPEN",           [COUNTER_CREATE] = "CREATE",
	[COUNTER_READ] = "READ",           [COUNTER_WRITE] = "WRITE",
	[COUNTER_RELEASE] = "RELEASE",     [COUNTER_FSYNC] = "FSYNC",
	[COUNTER_FSYNCDIR] = "FSYNCDIR",   [COUNTER_OPENDIR] = "OPENDIR",
	[COUNTER_READDIR] = "READDIR",     [COUNTER_READDIRPLUS] = "READDIRPLUS",
	[COUNTER_STATFS] = "STATFS",       [COUNTER_FALLOCATE] = "FALLOCATE",
	[COUNTER_LSEEK] = "LSEEK",         [COUNTER_COPY_FILE_RANGE] = "COPY_FILE_RANGE",
	[COUNTER_SETXATTR] = "SETXATTR",   [COUNTER_GETXATTR] = "GETXATTR",
	[COUNTER_LISTXATTR] = "LISTXATTR", [COUNTER_REMOVEXATTR] = "REMOVEXATTR",
	[COUNTER_IOCTL] = "IOCTL",
};

void counters_add(struct counters *counters, enum counter kind)
{
	atomic_fetch_add_explicit(&counters->counts[kind], 1, memory_order_relaxed);
}

void counters_get(struct counters *counters, struct report_counter *ret_counters)
{
	for (size_t i = 0; i < COUNTER_COUNT; i++) {
		snprintf(ret_counters[i].name, sizeof(ret_counters[i].name), "%s", names[i]);
		ret_counters[i].count = atomic_load_explicit(&counters->counts[i], memory_order_relaxed);
	}
}
