/* SPDX-License-Identifier: MIT */
/*
 * io_host.c - the real file system behind io.h.
 *
 * Everything goes through a descriptor of the store's directory, so that a store keeps working when a
 * directory above it is renamed. No final component is followed if it is a symbolic link, and only
 * regular files are opened: a store that was tampered with must not lead the daemon elsewhere, nor make
 * it hang on a fifo.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "io.h"

#ifndef IOV_MAX
#define IOV_MAX 1024
#endif

#define EARLY_BYTES  (256u << 10) /* from here on a write is on its way to the disk before anybody flushes */
#define DIRECT_BYTES 4096u        /* what past the cache is a multiple of */
#define ZEROS_BYTES  (256u << 10)

struct host_io {
	struct mojo_io base;
	int dirfd; /* owned */
};

#define NO_DESCRIPTOR (-1) /* not opened yet */
#define CANNOT        (-2) /* be opened */

struct host_file {
	int fd;            /* owned */
	atomic_int direct; /* owned; the same file, past the host's cache; or as above */
};

static struct host_io *host_of(struct mojo_io *io)
{
	return (struct host_io *)io;
}

static struct host_file *file_of(struct mojo_io_file *file)
{
	return (struct host_file *)file;
}

static int fd_of(struct mojo_io_file *file)
{
	return file_of(file)->fd;
}

/* The store's own directory is named "" in io.h, and "." in system calls. */
static const char *dir_name(const char *path)
{
	return path[0] ? path : ".";
}

/* -errno, where a host that lacks the operation altogether looks like one that lacks it for this file. */
static int unsupported_errno(void)
{
	return errno == ENOSYS || errno == EOPNOTSUPP ? -EOPNOTSUPP : -errno;
}

static int host_open(struct mojo_io *io, const char *path, int flags, struct mojo_io_file **ret_file)
{
	/* O_NONBLOCK is for the open itself, should the name be a fifo; regular files ignore it. */
	int how = O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK;
	struct host_file *file;
	struct stat st;
	int error;
	int fd;

	how |= flags & MOJO_IO_WRITE ? O_RDWR : O_RDONLY;
	if (flags & MOJO_IO_CREATE)
		how |= flags & MOJO_IO_EXCLUSIVE ? O_CREAT | O_EXCL : O_CREAT;
	do
		fd = openat(host_of(io)->dirfd, path, how, 0600);
	while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0) {
		error = -errno;
		goto fail;
	}
	if (!S_ISREG(st.st_mode)) {
		error = S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
		goto fail;
	}
	file = malloc(sizeof(*file));
	if (!file) {
		error = -ENOMEM;
		goto fail;
	}
	file->fd = fd;
	atomic_init(&file->direct, NO_DESCRIPTOR);
	*ret_file = (struct mojo_io_file *)file;
	return 0;

fail:
	close(fd);
	return error;
}

static void host_close(struct mojo_io_file *file)
{
	if (!file)
		return;
	/* Linux releases the descriptor whatever close() says, and flush() has reported what matters. */
	close(fd_of(file));
	if (file_of(file)->direct >= 0)
		close(file_of(file)->direct);
	free(file);
}

static int host_read(struct mojo_io_file *file, void *buf, size_t length, uint64_t offset, size_t *ret_length)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = pread(fd_of(file), (char *)buf + done, length - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	*ret_length = done;
	return 0;
}

/* Write the whole of one buffer; @offset is moved on. @flags: as of pwritev2(2) */
static int write_rest(int fd, const char *buf, size_t length, uint64_t *offset, int flags)
{
	while (length) {
		struct iovec vector = { (void *)(uintptr_t)buf, length };
		ssize_t n = pwritev2(fd, &vector, 1, (off_t)*offset, flags);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		buf += n;
		length -= (size_t)n;
		*offset += (uint64_t)n;
	}
	return 0;
}

static int host_write(struct mojo_io_file *file, const struct iovec *vector, int count, uint64_t offset)
{
	uint64_t first = offset;
	int fd = fd_of(file);

	while (count > 0) {
		int some = count < IOV_MAX ? count : IOV_MAX;
		ssize_t n = pwritev(fd, vector, some, (off_t)offset);
		size_t written;
		int error;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		written = (size_t)n;
		offset += written;
		while (some > 0 && written >= vector->iov_len) {
			written -= vector->iov_len;
			vector++;
			count--;
			some--;
		}
		if (some == 0)
			continue;
		/* A short write: end the buffer that it broke off in, so that the vector need not change. */
		error = write_rest(fd, (const char *)vector->iov_base + written, vector->iov_len - written, &offset, 0);
		if (error)
			return error;
		vector++;
		count--;
	}
	/* What is much is not written over again, but flushed sooner or later: the disk may as well begin. What goes
	 * wrong with that, the flush will tell. */
	if (offset - first >= EARLY_BYTES)
		(void)sync_file_range(fd, (off_t)first, (off_t)(offset - first), SYNC_FILE_RANGE_WRITE);
	return 0;
}

/* The file, opened anew with the first need of it, past the host's cache: that is a property of the open file, and the other
 * one is in use. Returns the descriptor, or -errno. */
static int direct_fd(struct mojo_io_file *io_file)
{
	struct host_file *file = file_of(io_file);
	int fd = atomic_load(&file->direct), none = NO_DESCRIPTOR;
	char path[32];

	if (fd == NO_DESCRIPTOR) {
		if ((fcntl(file->fd, F_GETFL) & O_ACCMODE) == O_RDONLY)
			return -EBADF;
		snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
		do
			fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC);
		while (fd < 0 && errno == EINTR);
		if (fd < 0)
			fd = CANNOT;
		if (!atomic_compare_exchange_strong(&file->direct, &none, fd)) {
			if (fd >= 0)
				close(fd);
			fd = none;
		}
	}
	return fd == CANNOT ? -EOPNOTSUPP : fd;
}

static int host_write_through(struct mojo_io_file *file, const struct iovec *vector, int count, uint64_t offset)
{
	int fd = direct_fd(file);
	size_t length = 0, done = 0;
	char *buf;
	int error;

	if (fd < 0)
		return fd;
	for (int i = 0; i < count; i++)
		length += vector[i].iov_len;
	/* Past the cache a transfer is from aligned memory, and one piece is less work than several. */
	if (posix_memalign((void **)&buf, DIRECT_BYTES, length))
		return -ENOMEM;
	for (int i = 0; i < count; i++) {
		memcpy(buf + done, vector[i].iov_base, vector[i].iov_len);
		done += vector[i].iov_len;
	}
	error = write_rest(fd, buf, length, &offset, RWF_DSYNC);
	free(buf);
	return error == -EINVAL ? -EOPNOTSUPP : error;
}

static int host_flush(struct mojo_io_file *file)
{
	int result;

	do
		result = fdatasync(fd_of(file));
	while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : 0;
}

static void host_prefetch(struct mojo_io_file *file, uint64_t offset, uint64_t length)
{
	(void)posix_fadvise(fd_of(file), (off_t)offset, (off_t)length, POSIX_FADV_WILLNEED);
}

static int host_fallocate(struct mojo_io_file *file, int mode, uint64_t offset, uint64_t length)
{
	int result;

	/* The system call refuses an empty range; nothing to do is done. */
	if (!length)
		return 0;
	do
		result = fallocate(fd_of(file), mode, (off_t)offset, (off_t)length);
	while (result < 0 && errno == EINTR);
	return result < 0 ? unsupported_errno() : 0;
}

static int host_allocate(struct mojo_io_file *file, uint64_t offset, uint64_t length)
{
	return host_fallocate(file, 0, offset, length);
}

static int host_prepare(struct mojo_io_file *file, uint64_t offset, uint64_t length)
{
	static _Alignas(DIRECT_BYTES) char zeros[ZEROS_BYTES]; /* never written to: it is all one page of zeros */
	uint64_t end = offset + length;
	int error = 0;
	int fd;

	if (!length)
		return 0;
	fd = direct_fd(file);
	if (fd < 0)
		return fd;
	while (offset < end && !error)
		error = write_rest(fd, zeros, end - offset < ZEROS_BYTES ? (size_t)(end - offset) : ZEROS_BYTES,
				   &offset, 0);
	return error == -EINVAL ? -EOPNOTSUPP : error;
}

static int host_punch(struct mojo_io_file *file, uint64_t offset, uint64_t length)
{
	return host_fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

static int host_truncate(struct mojo_io_file *file, uint64_t length)
{
	int result;

	do
		result = ftruncate(fd_of(file), (off_t)length);
	while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : 0;
}

static int host_size(struct mojo_io_file *file, uint64_t *ret_bytes, uint64_t *ret_disk_bytes)
{
	struct stat st;

	if (fstat(fd_of(file), &st) < 0)
		return -errno;
	*ret_bytes = (uint64_t)st.st_size;
	*ret_disk_bytes = (uint64_t)st.st_blocks * 512;
	return 0;
}

static int host_lock(struct mojo_io_file *file, bool exclusive)
{
	int result;

	do
		result = flock(fd_of(file), (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB);
	while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : 0;
}

static int host_mkdir(struct mojo_io *io, const char *path)
{
	return mkdirat(host_of(io)->dirfd, path, 0700) < 0 ? -errno : 0;
}

static int host_rename(struct mojo_io *io, const char *from, const char *to)
{
	int dirfd = host_of(io)->dirfd;

	return renameat(dirfd, from, dirfd, to) < 0 ? -errno : 0;
}

static int host_unlink(struct mojo_io *io, const char *path)
{
	return unlinkat(host_of(io)->dirfd, path, 0) < 0 ? -errno : 0;
}

static int open_dir(struct host_io *host, const char *path)
{
	int fd;

	do
		fd = openat(host->dirfd, dir_name(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

static int host_flush_dir(struct mojo_io *io, const char *path)
{
	int fd = open_dir(host_of(io), path);
	int error = 0;
	int result;

	if (fd < 0)
		return fd;
	do
		result = fsync(fd);
	while (result < 0 && errno == EINTR);
	if (result < 0)
		error = -errno;
	close(fd);
	return error;
}

static int host_list(struct mojo_io *io, const char *path, mojo_io_list_fn *fn, void *arg)
{
	/* A descriptor of its own: reading a directory moves its offset, which other threads must not share. */
	int fd = open_dir(host_of(io), path);
	int result = 0;
	DIR *dir;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (!dir) {
		result = -errno;
		close(fd);
		return result;
	}
	for (;;) {
		struct dirent *entry;

		errno = 0;
		entry = readdir(dir);
		if (!entry) {
			result = -errno;
			break;
		}
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		result = fn(arg, entry->d_name);
		if (result)
			break;
	}
	closedir(dir);
	return result;
}

static int host_space(struct mojo_io *io, struct mojo_io_space *ret_space)
{
	struct statvfs st;
	int result;

	do
		result = fstatvfs(host_of(io)->dirfd, &st);
	while (result < 0 && errno == EINTR);
	if (result < 0)
		return -errno;
	*ret_space = (struct mojo_io_space){
		.total = (uint64_t)st.f_blocks * st.f_frsize,
		.free = (uint64_t)st.f_bfree * st.f_frsize,
		.available = (uint64_t)st.f_bavail * st.f_frsize,
		.files = st.f_favail,
	};
	return 0;
}

static int64_t host_now_ns(struct mojo_io *io)
{
	struct timespec now;

	(void)io;
	/* The clock by which the kernel sets the times of files: where both would say something else for one and the
	 * same moment, the kernel would have to tell us of each new file's times once more. */
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int host_random(struct mojo_io *io, void *buf, size_t length)
{
	size_t done = 0;

	(void)io;
	while (done < length) {
		ssize_t n = getrandom((char *)buf + done, length - done, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

static void host_free(struct mojo_io *io)
{
	close(host_of(io)->dirfd);
	free(io);
}

static const struct mojo_io_ops host_ops = {
	.open = host_open,
	.close = host_close,
	.read = host_read,
	.write = host_write,
	.write_through = host_write_through,
	.flush = host_flush,
	.prefetch = host_prefetch,
	.allocate = host_allocate,
	.prepare = host_prepare,
	.punch = host_punch,
	.truncate = host_truncate,
	.size = host_size,
	.lock = host_lock,
	.mkdir = host_mkdir,
	.rename = host_rename,
	.unlink = host_unlink,
	.flush_dir = host_flush_dir,
	.list = host_list,
	.space = host_space,
	.now_ns = host_now_ns,
	.random = host_random,
	.free = host_free,
};

int mojo_io_host(const char *directory, struct mojo_io **ret_io)
{
	struct host_io *host = malloc(sizeof(*host));
	int error;

	if (!host)
		return -ENOMEM;
	host->base.ops = &host_ops;
	do
		host->dirfd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (host->dirfd < 0 && errno == EINTR);
	if (host->dirfd < 0) {
		error = -errno;
		free(host);
		return error;
	}
	*ret_io = &host->base;
	return 0;
}
