/* SPDX-License-Identifier: MIT */
/*
 * io.h - the host's file system, as a table of operations.
 *
 * The engine reaches the disk only through this table, so that tests can keep a store in memory, fail
 * or tear an operation, or count them. A mojo_io is bound to one directory, the store's; every `path`
 * is relative to it and is one of the engine's own plain names ("mojo.state", "chunks/0000002a.chunk"):
 * no "..", no leading slash.
 *
 * All operations are safe to call from several threads at once. They return 0 (or what is stated) or a
 * negative errno, and retry EINTR themselves.
 */
#ifndef MOJO_IO_H
#define MOJO_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct mojo_io;
struct mojo_io_file; /* an open file; belongs to the implementation */

enum {
	MOJO_IO_WRITE = 1,     /* open for writing, too */
	MOJO_IO_CREATE = 2,    /* make it if absent (mode 0600) */
	MOJO_IO_EXCLUSIVE = 4, /* with CREATE: -EEXIST if it exists */
};

struct mojo_io_space {
	uint64_t total, free, available; /* bytes; available: to an ordinary user */
	uint64_t files;                  /* inodes free */
};

/* Called once per name in a directory ("." and ".." left out); return non-zero to stop with that value. */
typedef int mojo_io_list_fn(void *arg, const char *name);

struct mojo_io_ops {
	int (*open)(struct mojo_io *io, const char *path, int flags, struct mojo_io_file **ret_file);
	void (*close)(struct mojo_io_file *file);

	/* Reads until @length bytes are there or the file ends; *ret_length says how many. */
	int (*read)(struct mojo_io_file *file, void *buf, size_t length, uint64_t offset, size_t *ret_length);
	/* Writes everything or fails; on failure any part may have been written. @vector is not changed.
	 * Any count is accepted (split at IOV_MAX inside). */
	int (*write)(struct mojo_io_file *file, const struct iovec *vector, int count, uint64_t offset);
	/*
	 * Writes everything, and it is on stable storage, with what is needed to read it back: what flush() would make
	 * of this write, and of no other one. It may go past the host's cache, so that who reads it waits for the disk.
	 * @offset and every length are multiples of 4096. -EOPNOTSUPP if the host cannot: nothing was written then; on
	 * other failures any part may have been. -ENOSPC also where space was allocated and write() would have it.
	 */
	int (*write_through)(struct mojo_io_file *file, const struct iovec *vector, int count, uint64_t offset);
	/* The data, and what is needed to read it back (size), are on stable storage. An error of any write since the
	 * last flush is told, whenever the host came upon it. */
	int (*flush)(struct mojo_io_file *file);
	/* Start reading this range in the background; a hint that cannot fail. */
	void (*prefetch)(struct mojo_io_file *file, uint64_t offset, uint64_t length);
	/* Reserve disk space for the range and make the file at least that long. -EOPNOTSUPP if the host cannot. */
	int (*allocate)(struct mojo_io_file *file, uint64_t offset, uint64_t length);
	/*
	 * Write zeros over the range, which allocate() has reserved, so that writing there later changes nothing but
	 * data: a host that keeps account of what was never written has to flush that account, too, with the first
	 * flush after. Goes past the host's cache and its other flushes; the range is in whole multiples of 4096.
	 * Nothing is lost if it fails. -EOPNOTSUPP if the host cannot.
	 */
	int (*prepare)(struct mojo_io_file *file, uint64_t offset, uint64_t length);
	/* Give the range's space back; it reads as zeros; the size stays. -EOPNOTSUPP if the host cannot. */
	int (*punch)(struct mojo_io_file *file, uint64_t offset, uint64_t length);
	int (*truncate)(struct mojo_io_file *file, uint64_t length);
	/* Size in bytes and disk space taken in bytes. */
	int (*size)(struct mojo_io_file *file, uint64_t *ret_bytes, uint64_t *ret_disk_bytes);
	/* Take an advisory lock on the file, exclusive or shared, without waiting: -EWOULDBLOCK if it is
	 * held elsewhere. Freed by close, and by the death of the process. */
	int (*lock)(struct mojo_io_file *file, bool exclusive);

	int (*mkdir)(struct mojo_io *io, const char *path);
	int (*rename)(struct mojo_io *io, const char *from, const char *to); /* replaces @to */
	int (*unlink)(struct mojo_io *io, const char *path);
	/* Names made, renamed or removed in the directory are on stable storage. "" is the store's own, ".." the one
	 * that holds it: of all paths this alone leads out, and no name there is touched. */
	int (*flush_dir)(struct mojo_io *io, const char *path);
	int (*list)(struct mojo_io *io, const char *path, mojo_io_list_fn *fn, void *arg);
	int (*space)(struct mojo_io *io, struct mojo_io_space *ret_space);

	int64_t (*now_ns)(struct mojo_io *io); /* CLOCK_REALTIME, or _COARSE */
	int (*random)(struct mojo_io *io, void *buf, size_t length);

	void (*free)(struct mojo_io *io);
};

/* Every implementation embeds this as its first member. */
struct mojo_io {
	const struct mojo_io_ops *ops;
};

/*
 * mojo_io_host - the real file system.
 * @directory: an existing directory; it is kept open, so that later renames above it do no harm
 * Returns 0, or -errno of open(2). mojo_io_free() frees.
 */
int mojo_io_host(const char *directory, struct mojo_io **ret_io);

/* mojo_io_memory - an empty store directory in memory, gone when freed. Locks are per open file, as flock(2). */
int mojo_io_memory(struct mojo_io **ret_io);

/* mojo_io_free - free an io of any kind; no file of it may be open. NULL is allowed. */
void mojo_io_free(struct mojo_io *io);

#endif
