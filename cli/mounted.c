/* SPDX-License-Identifier: MIT */
/*
 * A store that a daemon has mounted, asked through its mount: extended attributes for what only the engine
 * knows, ordinary calls for the rest. Files are reached component by component and no symbolic link is
 * followed, so that a path within the store means the same as it does offline.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "output.h"
#include "target_ops.h"

#ifndef FUSE_SUPER_MAGIC
#define FUSE_SUPER_MAGIC 0x65735546
#endif

#define PREFIX        "user.mojofs."
#define ATTRIBUTE_MAX 65536 /* the kernel's limit for a value */

struct mounted {
	struct target base;
	int root; /* owned; O_PATH descriptor of the mount's root */
};

static struct mounted *mounted_of(struct target *target)
{
	return (struct mounted *)target;
}

static int out_of_memory(void)
{
	complain("out of memory");
	return -ENOMEM;
}

int mounted_complain(const char *path, int error)
{
	char why[OUTPUT_REASON_SIZE];

	if (error == -ENOTCONN)
		complain("%s: the daemon of the mount there has ended; remove the dead mount (fusermount3 -u %s, or as "
			 "root umount), then mount the store again",
			 path, path);
	else if (error == -EACCES)
		complain(
			"%s: permission denied, be it by the mode of the mount's root, or because another user mounted it "
			"without -o allow_other (that shuts root out, too)",
			path);
	else if (error == -EBADMSG)
		complain(
			"%s: the daemon of the mount there gave an answer that this program does not understand; it may "
			"be of another version",
			path);
	else
		complain("%s: %s", path, reason(error, why));
	return error;
}

/* @what: the file, or NULL for the mount. */
static int fail(const struct target *target, const char *what, int error)
{
	char why[OUTPUT_REASON_SIZE];

	if (!what || !*what || error == -ENOTCONN || error == -EBADMSG)
		return mounted_complain(target->mount ? target->mount : target->path, error);
	complain("%s: %s: %s", target->mount, what, reason(error, why));
	return error;
}

/* ---- attributes ----------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The value as text; free(). -EBADMSG if there is a NUL in it. */
static int get_attribute(const char *path, const char *name, char **ret_text)
{
	char *text = malloc(ATTRIBUTE_MAX + 1);
	ssize_t length;
	int error = 0;

	if (!text)
		return -ENOMEM;
	length = getxattr(path, name, text, ATTRIBUTE_MAX);
	if (length < 0)
		error = -errno;
	else if (memchr(text, '\0', (size_t)length))
		error = -EBADMSG;
	if (error) {
		free(text);
		return error;
	}
	text[length] = '\0';
	*ret_text = text;
	return 0;
}

/* A descriptor as a path: attributes of an O_PATH descriptor can be had in no other way. */
static const char *path_of(int fd, char buf[64])
{
	snprintf(buf, 64, "/proc/self/fd/%d", fd);
	return buf;
}

static int get_attribute_of(int fd, const char *name, char **ret_text)
{
	char path[64];

	return get_attribute(path_of(fd, path), name, ret_text);
}

static int get_number(int fd, const char *name, unsigned long max, unsigned long *ret_number)
{
	unsigned long number;
	char *text, *end;
	int error;

	error = get_attribute_of(fd, name, &text);
	if (error)
		return error;
	errno = 0;
	number = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || number > max)
		error = -EBADMSG;
	free(text);
	if (!error)
		*ret_number = number;
	return error;
}

int mounted_root(const char *path)
{
	struct statfs fs;
	char *text;
	int error;

	if (statfs(path, &fs) != 0)
		return errno == ENOTCONN || errno == EACCES ? -errno : 0;
	if (fs.f_type != FUSE_SUPER_MAGIC)
		return 0;
	error = get_attribute(path, PREFIX "format", &text);
	if (error)
		return error == -ENOTCONN || error == -EACCES ? error : 0;
	free(text);
	return 1;
}

char *mounted_store(const char *path)
{
	char *text;

	if (mounted_root(path) <= 0 || get_attribute(path, PREFIX "store", &text) != 0)
		return NULL;
	return text;
}

static int read_info(struct mounted *mounted, struct mojo_info *ret_info, struct report_counter **ret_counters,
		     size_t *ret_count)
{
	struct report_counter *counters = NULL;
	struct mojo_info info;
	size_t count = 0;
	char *text;
	int error;

	error = get_attribute_of(mounted->root, PREFIX "state", &text);
	if (error)
		return error;
	error = report_state_from_json(text, &info, NULL, 0, &count);
	if (!error && count > 0) {
		counters = calloc(count, sizeof(*counters));
		error = counters ? report_state_from_json(text, &info, counters, count, &count) : -ENOMEM;
	}
	free(text);
	/* What is divided by. */
	if (!error && (info.page_size == 0 || info.chunk_bytes < info.page_size))
		error = -EBADMSG;
	if (error) {
		free(counters);
		return error;
	}
	*ret_info = info;
	*ret_counters = counters;
	*ret_count = count;
	return 0;
}

static int mounted_info(struct target *target, struct mojo_info *ret_info, struct report_counter **ret_counters,
			size_t *ret_count)
{
	int error = read_info(mounted_of(target), ret_info, ret_counters, ret_count);

	return error ? fail(target, NULL, error) : 0;
}

static int mounted_versions(struct target *target, uint32_t from, struct mojo_version_info **ret_infos,
			    size_t *ret_count)
{
	char name[64], *text;
	int error;

	snprintf(name, sizeof(name), PREFIX "versions.%u", from);
	error = get_attribute_of(mounted_of(target)->root, name, &text);
	if (error == -ENODATA) {
		*ret_infos = NULL;
		*ret_count = 0;
		return 0;
	}
	if (error)
		return fail(target, NULL, error);
	error = report_versions_from_json(text, ret_infos, ret_count);
	free(text);
	return error ? fail(target, NULL, error) : 0;
}

/* By ioctl, which nobody has to wait for. -ENOTTY: it is none that the daemon takes, or not from us. */
static int commit_by_ioctl(int root, const char *message, size_t length, uint32_t *ret_version)
{
	struct report_commit commit = { .length = (uint32_t)length };
	int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), error = 0;

	if (fd < 0)
		return -ENOTTY;
	memcpy(commit.message, message, length);
	if (ioctl(fd, REPORT_COMMIT, &commit) != 0)
		error = errno == ENOSYS ? -ENOTTY : -errno;
	close(fd);
	if (!error)
		*ret_version = commit.version;
	return error;
}

/* By attribute: the kernel says whether we may. */
static int commit_by_attribute(int root, const char *message, size_t length)
{
	char path[64];

	return setxattr(path_of(root, path), PREFIX "commit", message, length, 0) == 0 ? 0 : -errno;
}

/* The daemon tries for some milliseconds only, since others may be waiting meanwhile. *ret_version: 0 if it was not
 * told. */
static int try_commit(int root, const char *message, size_t length, unsigned wait_seconds, uint32_t *ret_version)
{
	int64_t give_up_ms = now_ms() + (int64_t)wait_seconds * 1000;
	unsigned pause_ms = 20;

	*ret_version = 0;
	for (;;) {
		int error = commit_by_ioctl(root, message, length, ret_version);
		int64_t left_ms;

		if (error == -ENOTTY)
			error = commit_by_attribute(root, message, length);
		left_ms = give_up_ms - now_ms();
		if (error != -EBUSY || left_ms <= 0)
			return error;
		usleep(1000 * (unsigned)(left_ms < pause_ms ? left_ms : pause_ms));
		if (pause_ms < 500)
			pause_ms *= 2;
	}
}

static int mounted_commit(struct target *target, const char *message, size_t length, unsigned wait_seconds,
			  uint32_t *ret_version)
{
	int error = try_commit(mounted_of(target)->root, message, length, wait_seconds, ret_version);

	if (error) {
		switch (error) {
		case -EROFS:
			complain("%s: is mounted read-only: nothing can be committed", target->mount);
			return error;
		case -EPERM:
		case -EACCES:
			complain("%s: permission denied; to commit, one must be allowed to write to this directory",
				 target->mount);
			return error;
		case -EBUSY:
			complain(
				"%s: a program is in the middle of a transaction of which no journal tells (the daemon's "
				"log names the database); nothing was committed: try again when it is done, or with "
				"--wait=SECONDS",
				target->mount);
			return error;
		default:
			return fail(target, "the commit failed", error);
		}
	}
	if (*ret_version == 0) {
		unsigned long version;

		error = get_number(mounted_of(target)->root, PREFIX "commit", MOJO_VERSION_MAX, &version);
		if (error)
			return fail(target, "committed, but the version's number could not be had", error);
		*ret_version = (uint32_t)version;
	}
	return 0;
}

static int mounted_verify(struct target *target, uint32_t version)
{
	char path[64], text[24];
	int length = snprintf(text, sizeof(text), "%u", version);

	if (setxattr(path_of(mounted_of(target)->root, path), PREFIX "verify", text, (size_t)length, 0) == 0)
		return 0;
	return fail(target, "the version cannot be verified", -errno);
}

/* ---- files ---------------------------------------------------------------------------------- */

/* One step down from @dir. Another file system that is mounted there is not the store's. */
static int step(int dir, const char *name, int *ret_fd)
{
	struct stat above, below;
	int fd, error = 0;

	fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(dir, &above) != 0 || fstat(fd, &below) != 0)
		error = -errno;
	else if (above.st_dev != below.st_dev)
		error = -EXDEV;
	if (error) {
		close(fd);
		return error;
	}
	*ret_fd = fd;
	return 0;
}

/* An O_PATH descriptor of @file; close(). */
static int open_path(struct mounted *mounted, const struct target_file *file, int *ret_fd)
{
	char version[24], *path = NULL, *save = NULL;
	int error = 0, fd;

	version[0] = '\0';
	if (!file->active)
		snprintf(version, sizeof(version), "@v%u", file->version);
	if (asprintf(&path, "%s/%s", version, file->path) < 0)
		return -ENOMEM;
	fd = fcntl(mounted->root, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		error = -errno;
	for (char *name = strtok_r(path, "/", &save); name && !error; name = strtok_r(NULL, "/", &save)) {
		int next = -1;

		error = step(fd, name, &next);
		if (!error) {
			close(fd);
			fd = next;
		}
	}
	free(path);
	if (error) {
		if (fd >= 0)
			close(fd);
		return error;
	}
	*ret_fd = fd;
	return 0;
}

/* For reading what the O_PATH descriptor @path_fd stands for. */
static int open_again(int path_fd, int flags, int *ret_fd)
{
	char path[64];
	int fd = open(path_of(path_fd, path), flags | O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

static int64_t ns_of(const struct timespec *time)
{
	return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

static void attr_of(const struct target *target, const struct stat *st, struct mojo_attr *ret_attr)
{
	*ret_attr = (struct mojo_attr){
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.rdev = (uint32_t)st->st_rdev,
		.size = (uint64_t)st->st_size,
		.pages = (uint64_t)st->st_blocks * 512 / target->info.page_size,
		.atime_ns = ns_of(&st->st_atim),
		.mtime_ns = ns_of(&st->st_mtim),
		.ctime_ns = ns_of(&st->st_ctim),
	};
}

/* The kernel keeps user.* attributes to files and directories, and from who may not read the file; and not every
 * file of a mount is a bucket's. */
static int read_bucket(const char *path, uint32_t mode, uint32_t *ret_bucket, bool *ret_has)
{
	unsigned long bucket;
	char *text, *end;
	int error;

	*ret_has = false;
	if (!S_ISREG(mode) && !S_ISDIR(mode))
		return 0;
	error = get_attribute(path, PREFIX "bucket", &text);
	if (error == -ENODATA || error == -EOPNOTSUPP || error == -EACCES)
		return 0;
	if (error)
		return error;
	bucket = strtoul(text, &end, 10);
	if (end == text || *end || bucket > UINT32_MAX)
		error = -EBADMSG;
	free(text);
	if (error)
		return error;
	*ret_bucket = (uint32_t)bucket;
	*ret_has = true;
	return 0;
}

static int mounted_find(struct target *target, struct target_file *file)
{
	char path[64];
	struct stat st;
	int error, fd;

	error = open_path(mounted_of(target), file, &fd);
	if (error == -ENOENT) {
		complain("%s: version %u has no file \"%s\"", target->path, file->version, file->path);
		return error;
	}
	if (error == -EXDEV) {
		complain("%s: %s: another file system is mounted there", target->path, file->path);
		return error;
	}
	if (error)
		return fail(target, file->path, error);
	if (fstat(fd, &st) != 0)
		error = -errno;
	if (!error) {
		attr_of(target, &st, &file->attr);
		error = read_bucket(path_of(fd, path), st.st_mode, &file->attr.bucket, &file->has_bucket);
	}
	close(fd);
	return error ? fail(target, file->path, error) : 0;
}

/* One name of the directory that @stream reads; one that is gone meanwhile is left out. */
static int add_name(const struct target *target, DIR *stream, const char *name, struct target_entry **entries,
		    size_t *count, size_t *capacity)
{
	char path[64 + NAME_MAX + 2];
	struct mojo_attr attr;
	bool has_bucket;
	struct stat st;
	int error;

	if (fstatat(dirfd(stream), name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0 : -errno;
	attr_of(target, &st, &attr);
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dirfd(stream), name);
	error = read_bucket(path, st.st_mode, &attr.bucket, &has_bucket);
	if (error)
		return error == -ENOENT ? 0 : error;
	return target_list_add(entries, count, capacity, name, &attr, has_bucket);
}

/* @is_top: the root of the active tree, where the frozen versions appear; they are not in it. */
static int list_stream(const struct target *target, DIR *stream, bool is_top, struct target_entry **entries,
		       size_t *count)
{
	size_t capacity = 0;
	int error = 0;

	while (!error) {
		struct dirent *entry;

		errno = 0;
		entry = readdir(stream);
		if (!entry)
			return -errno;
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    (is_top && entry->d_name[0] == '@'))
			continue;
		error = add_name(target, stream, entry->d_name, entries, count, &capacity);
	}
	return error;
}

static int mounted_list(struct target *target, const struct target_file *dir, struct target_entry **ret_entries,
			size_t *ret_count)
{
	struct target_entry *entries = NULL;
	int error, path_fd = -1, fd = -1;
	DIR *stream = NULL;
	size_t count = 0;

	error = open_path(mounted_of(target), dir, &path_fd);
	if (!error)
		error = open_again(path_fd, O_DIRECTORY, &fd);
	if (!error) {
		stream = fdopendir(fd);
		if (!stream)
			error = -errno;
	}
	if (!error)
		error = list_stream(target, stream, dir->active && dir->path[0] == '\0', &entries, &count);
	if (stream)
		closedir(stream);
	else if (fd >= 0)
		close(fd);
	if (path_fd >= 0)
		close(path_fd);
	if (error) {
		target_list_free(entries, count);
		return fail(target, dir->path, error);
	}
	*ret_entries = entries;
	*ret_count = count;
	return 0;
}

static int mounted_readlink(struct target *target, const struct target_file *file, char **ret_text)
{
	char *text = malloc(PATH_MAX + 1);
	ssize_t length = 0;
	int error, fd;

	if (!text)
		return out_of_memory();
	error = open_path(mounted_of(target), file, &fd);
	if (!error) {
		length = readlinkat(fd, "", text, PATH_MAX);
		if (length < 0)
			error = -errno;
		close(fd);
	}
	if (error) {
		free(text);
		return fail(target, file->path, error);
	}
	text[length] = '\0';
	*ret_text = text;
	return 0;
}

static int mounted_map(struct target *target, const struct target_file *file, uint64_t first,
		       struct mojo_map_entry **ret_entries, size_t *ret_count)
{
	char name[64], *text = NULL;
	int error, fd;

	snprintf(name, sizeof(name), PREFIX "map.%llu", (unsigned long long)first);
	error = open_path(mounted_of(target), file, &fd);
	if (error)
		return fail(target, file->path, error);
	error = get_attribute_of(fd, name, &text);
	close(fd);
	if (error == -ENODATA) { /* not a bucket: it has no pages */
		*ret_entries = NULL;
		*ret_count = 0;
		return 0;
	}
	if (!error)
		error = report_map_from_json(text, ret_entries, ret_count);
	free(text);
	return error ? fail(target, file->path, error) : 0;
}

static int mounted_read(struct target *target, const struct target_file *file, uint64_t offset, void *buf,
			size_t length, size_t *ret_length)
{
	int error, path_fd, fd = -1;
	size_t done = 0;

	error = open_path(mounted_of(target), file, &path_fd);
	if (error)
		return fail(target, file->path, error);
	error = open_again(path_fd, 0, &fd);
	close(path_fd);
	while (!error && done < length) {
		ssize_t n = pread(fd, (char *)buf + done, length - done, (off_t)(offset + done));

		if (n == 0)
			break;
		if (n > 0)
			done += (size_t)n;
		else if (errno != EINTR)
			error = -errno;
	}
	if (fd >= 0)
		close(fd);
	if (error)
		return fail(target, file->path, error);
	*ret_length = done;
	return 0;
}

static int mounted_close(struct target *target)
{
	close(mounted_of(target)->root);
	free(target);
	return 0;
}

static const struct target_ops mounted_ops = {
	.info = mounted_info,
	.versions = mounted_versions,
	.commit = mounted_commit,
	.verify = mounted_verify,
	.find = mounted_find,
	.list = mounted_list,
	.readlink = mounted_readlink,
	.map = mounted_map,
	.read = mounted_read,
	.close = mounted_close,
};

int mounted_open(const char *mount, struct target **ret_target)
{
	struct mounted *mounted = calloc(1, sizeof(*mounted));
	struct report_counter *counters = NULL;
	unsigned long pid;
	size_t count;
	int error = 0;

	if (!mounted)
		return out_of_memory();
	mounted->base.ops = &mounted_ops;
	mounted->root = open(mount, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (mounted->root < 0)
		error = -errno;
	if (!error)
		error = read_info(mounted, &mounted->base.info, &counters, &count);
	free(counters);
	if (!error)
		error = get_number(mounted->root, PREFIX "pid", LONG_MAX, &pid);
	if (!error)
		error = get_attribute_of(mounted->root, PREFIX "store", &mounted->base.store);
	if (error) {
		if (mounted->root >= 0)
			close(mounted->root);
		free(mounted);
		return mounted_complain(mount, error);
	}
	mounted->base.pid = (long)pid;
	*ret_target = &mounted->base;
	return 0;
}
