/* SPDX-License-Identifier: MIT */
/*
 * posix_ops - the same random file operations on two directories, compared step by step.
 *
 *	posix_ops run A B SEED COUNT [EVERY]   A: on the mount, B: on the host; both empty, or alike
 *	posix_ops compare A B                  are the two trees alike?
 *
 * Every operation is done on A, then on B; return value, errno and bytes read must agree at each step,
 * and all names, types, modes, owners, link targets, sizes and bytes of the trees after every EVERY steps
 * (1000 unless given; 1 finds the step that went wrong).
 *
 * Times: what utimensat() sets is years in the past, everything else happens now. So a time below
 * OLD_TIMES was set and must agree to the nanosecond; any other must be above it on both sides. A file
 * written through a shared mapping is left out: when a dirty page dirties the time again depends on
 * writeback. At the end of a run such files get a set time, so that later comparisons may be strict.
 *
 * Exit status: 0 alike, 1 different (the last operations are printed), 2 wrong use or the host failed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <linux/falloc.h>

#define OLD_TIMES  1300000000 /* seconds; set times are below, current ones above */
#define FILE_LIMIT (6u << 20)
#define IO_LIMIT   (192u << 10)

enum { SIDES = 2, SLOTS = 12, MAPS = 6, HISTORY = 64, NAMES = 5, MAPPED_INODES = 4096, FALLOC_MODES = 5 };

struct slot { /* one file open on both sides */
	int fd[SIDES];
	bool open;
};

struct map { /* one range mapped on both sides; the descriptor is kept to ask for the size */
	unsigned char *address[SIDES];
	int fd[SIDES];
	size_t length;
	off_t offset;
	bool shared;
	bool writable;
};

struct world {
	const char *path[SIDES];
	int dir[SIDES];
	uint64_t random;
	unsigned long step;
	struct slot slots[SLOTS];
	struct map maps[MAPS];
	unsigned char *buf[SIDES];   /* IO_LIMIT bytes each */
	ino_t mapped[MAPPED_INODES]; /* inodes of B written through a shared mapping */
	size_t mapped_count;
	int modes[FALLOC_MODES]; /* of fallocate() that the host's file system knows */
	unsigned mode_count;
	bool idle; /* the operation drawn last found nothing to work on */
	char history[HISTORY][256];
};

struct outcome {
	long value[SIDES];
	int error[SIDES];
};

static const char *const directories[] = { ".", "d0", "d1", "d2", "d0/s", "d1/s", "d2/s" };
enum { DIRECTORIES = sizeof(directories) / sizeof(directories[0]) };

static uint64_t next_random(struct world *w)
{
	uint64_t z = (w->random += 0x9e3779b97f4a7c15u); /* splitmix64 */

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static unsigned below(struct world *w, unsigned limit)
{
	return (unsigned)(next_random(w) % limit);
}

static __attribute__((format(printf, 2, 3))) void record(struct world *w, const char *format, ...)
{
	va_list args;

	w->idle = false;
	va_start(args, format);
	vsnprintf(w->history[w->step % HISTORY], sizeof(w->history[0]), format, args);
	va_end(args);
}

static _Noreturn __attribute__((format(printf, 2, 3))) void differ(struct world *w, const char *format, ...)
{
	va_list args;
	unsigned long first = w->step >= HISTORY ? w->step - HISTORY + 1 : 0;

	for (unsigned long i = first; w->step > 0 && i <= w->step; i++)
		fprintf(stderr, "%6lu %s\n", i, w->history[i % HISTORY]);
	fprintf(stderr, "different: ");
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(1);
}

static _Noreturn void broken(const char *what)
{
	perror(what);
	exit(2);
}

static void agree(struct world *w, const struct outcome *o)
{
	if (o->value[0] == o->value[1] && (o->value[0] >= 0 || o->error[0] == o->error[1]))
		return;
	differ(w, "step %lu: the mount answered %ld (%s), the host %ld (%s)", w->step, o->value[0],
	       o->value[0] < 0 ? strerror(o->error[0]) : "success", o->value[1],
	       o->value[1] < 0 ? strerror(o->error[1]) : "success");
}

/* Do one call on both sides: `side` is the index within it. */
#define BOTH(o, call)                                      \
	do {                                               \
		for (int side = 0; side < SIDES; side++) { \
			errno = 0;                         \
			(o)->value[side] = (long)(call);   \
			(o)->error[side] = errno;          \
		}                                          \
	} while (0)

static void pick_path(struct world *w, char *buf, size_t size)
{
	unsigned d = below(w, DIRECTORIES + 2);

	if (d >= DIRECTORIES || below(w, 12) == 0)
		snprintf(buf, size, "%s", directories[1 + below(w, DIRECTORIES - 1)]);
	else
		snprintf(buf, size, "%s/f%u", directories[d], below(w, NAMES));
}

static void pick_file(struct world *w, char *buf, size_t size)
{
	snprintf(buf, size, "%s/f%u", directories[below(w, DIRECTORIES)], below(w, NAMES));
}

static struct slot *pick_slot(struct world *w)
{
	unsigned start = below(w, SLOTS);

	for (unsigned i = 0; i < SLOTS; i++) {
		struct slot *s = &w->slots[(start + i) % SLOTS];

		if (s->open)
			return s;
	}
	return NULL;
}

/* Offsets and lengths that like the edges of pages, and small files. */
static off_t pick_offset(struct world *w)
{
	switch (below(w, 4)) {
	case 0:
		return below(w, 16384);
	case 1:
		return (off_t)below(w, FILE_LIMIT / 4096) * 4096;
	case 2:
		return (off_t)below(w, FILE_LIMIT / 65536) * 65536 + below(w, 3);
	default:
		return below(w, FILE_LIMIT);
	}
}

static size_t pick_length(struct world *w)
{
	switch (below(w, 5)) {
	case 0:
		return below(w, 100);
	case 1:
		return 4096u * (1 + below(w, 8));
	case 2:
		return below(w, IO_LIMIT) + 1;
	default:
		return below(w, 9000) + 1;
	}
}

static void fill(struct world *w, size_t length)
{
	uint64_t word = 0;

	for (size_t i = 0; i < length; i++) {
		if (i % 8 == 0)
			word = next_random(w);
		w->buf[0][i] = (unsigned char)(word >> (i % 8 * 8));
	}
	memcpy(w->buf[1], w->buf[0], length);
}

/* ---- comparing ------------------------------------------------------------------------------ */

static bool was_mapped(const struct world *w, ino_t inode)
{
	for (size_t i = 0; i < w->mapped_count; i++) {
		if (w->mapped[i] == inode)
			return true;
	}
	return false;
}

static void compare_time(struct world *w, const char *path, const struct timespec t[SIDES])
{
	if (t[1].tv_sec >= OLD_TIMES ? t[0].tv_sec >= OLD_TIMES
				     : t[0].tv_sec == t[1].tv_sec && t[0].tv_nsec == t[1].tv_nsec)
		return;
	differ(w, "%s: time of modification %lld.%09ld on the mount, %lld.%09ld on the host", path,
	       (long long)t[0].tv_sec, t[0].tv_nsec, (long long)t[1].tv_sec, t[1].tv_nsec);
}

static void compare_stat(struct world *w, const char *path, const struct stat st[SIDES])
{
	const struct timespec modified[SIDES] = { st[0].st_mtim, st[1].st_mtim };

	if (st[0].st_mode != st[1].st_mode)
		differ(w, "%s: mode %o on the mount, %o on the host", path, st[0].st_mode, st[1].st_mode);
	if (st[0].st_uid != st[1].st_uid || st[0].st_gid != st[1].st_gid)
		differ(w, "%s: owner %u:%u on the mount, %u:%u on the host", path, st[0].st_uid, st[0].st_gid,
		       st[1].st_uid, st[1].st_gid);
	if (!S_ISDIR(st[0].st_mode) && (st[0].st_size != st[1].st_size || st[0].st_nlink != st[1].st_nlink))
		differ(w, "%s: %lld bytes, %lu links on the mount, %lld bytes, %lu links on the host", path,
		       (long long)st[0].st_size, (unsigned long)st[0].st_nlink, (long long)st[1].st_size,
		       (unsigned long)st[1].st_nlink);
	if (!was_mapped(w, st[1].st_ino))
		compare_time(w, path, modified);
}

/* Outside of what the mount calls data, there must be zeros; and the walk must come to the end. */
static void check_holes(struct world *w, const char *path, int fd, off_t size)
{
	off_t at = 0;

	while (at < size) {
		off_t data = lseek(fd, at, SEEK_DATA);
		off_t end_of_hole = data < 0 ? size : data;

		if (data < 0 && errno != ENXIO)
			differ(w, "%s: SEEK_DATA from %lld: %s", path, (long long)at, strerror(errno));
		if (end_of_hole < at || end_of_hole > size)
			differ(w, "%s: SEEK_DATA from %lld gave %lld of %lld", path, (long long)at, (long long)data,
			       (long long)size);
		for (off_t o = at; o < end_of_hole;) {
			ssize_t n = pread(fd, w->buf[0],
					  end_of_hole - o < (off_t)IO_LIMIT ? (size_t)(end_of_hole - o) : IO_LIMIT, o);

			if (n <= 0)
				differ(w, "%s: a hole at %lld cannot be read", path, (long long)o);
			for (ssize_t i = 0; i < n; i++) {
				if (w->buf[0][i])
					differ(w, "%s: byte %lld is said to be in a hole, and is not zero", path,
					       (long long)(o + i));
			}
			o += n;
		}
		if (data < 0)
			return;
		at = lseek(fd, data, SEEK_HOLE);
		if (at <= data || at > size)
			differ(w, "%s: SEEK_HOLE from %lld gave %lld of %lld", path, (long long)data, (long long)at,
			       (long long)size);
	}
}

static void compare_bytes(struct world *w, const char *path, const int fd[SIDES], off_t size)
{
	struct outcome o;

	for (off_t at = 0; at < size;) {
		BOTH(&o, pread(fd[side], w->buf[side], IO_LIMIT, at));
		agree(w, &o);
		if (o.value[0] <= 0)
			differ(w, "%s: nothing to read at %lld of %lld", path, (long long)at, (long long)size);
		if (memcmp(w->buf[0], w->buf[1], (size_t)o.value[0]) != 0) {
			long i = 0;

			while (w->buf[0][i] == w->buf[1][i])
				i++;
			differ(w, "%s: byte %lld is %02x on the mount, %02x on the host", path, (long long)at + i,
			       w->buf[0][i], w->buf[1][i]);
		}
		at += o.value[0];
	}
}

static void compare_open(struct world *w, const char *path, const int fd[SIDES])
{
	struct stat st[SIDES];
	struct outcome o;

	BOTH(&o, fstat(fd[side], &st[side]));
	agree(w, &o);
	compare_stat(w, path, st);
	compare_bytes(w, path, fd, st[1].st_size);
	check_holes(w, path, fd[0], st[0].st_size);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names in a directory, sorted; ended by NULL; free each and the array. Only the root of a mount has names that
 * begin with '@', the versions: left out. */
static char **list(int at, const char *path)
{
	int fd = openat(at, path, O_RDONLY | O_DIRECTORY);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	size_t count = 0, capacity = 64;
	char **names = malloc(capacity * sizeof(*names));
	struct dirent *entry;

	if (!dir || !names)
		broken(path);
	while ((entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..") || entry->d_name[0] == '@')
			continue;
		if (count + 2 > capacity) {
			capacity *= 2;
			names = realloc(names, capacity * sizeof(*names));
			if (!names)
				broken("realloc");
		}
		names[count++] = strdup(entry->d_name);
	}
	closedir(dir);
	qsort(names, count, sizeof(*names), by_name);
	names[count] = NULL;
	return names;
}

static void free_list(char **names)
{
	for (size_t i = 0; names[i]; i++)
		free(names[i]);
	free(names);
}

static void compare_tree(struct world *w, const char *path);

static void compare_entry(struct world *w, const char *path)
{
	struct stat st[SIDES];
	struct outcome o;
	int fd[SIDES];

	BOTH(&o, fstatat(w->dir[side], path, &st[side], AT_SYMLINK_NOFOLLOW));
	agree(w, &o);
	if (o.value[0] < 0)
		differ(w, "%s: listed, but %s", path, strerror(o.error[0]));
	compare_stat(w, path, st);
	if (S_ISLNK(st[0].st_mode)) {
		char target[SIDES][PATH_MAX];

		BOTH(&o, readlinkat(w->dir[side], path, target[side], sizeof(target[side])));
		agree(w, &o);
		if (memcmp(target[0], target[1], (size_t)o.value[0]) != 0)
			differ(w, "%s: the link's target differs", path);
	} else if (S_ISREG(st[0].st_mode)) {
		BOTH(&o, fd[side] = openat(w->dir[side], path, O_RDONLY));
		if (fd[0] < 0 || fd[1] < 0)
			differ(w, "%s: cannot be opened: %s", path, strerror(fd[0] < 0 ? o.error[0] : o.error[1]));
		compare_bytes(w, path, fd, st[1].st_size);
		check_holes(w, path, fd[0], st[0].st_size);
		close(fd[0]);
		close(fd[1]);
	} else if (S_ISDIR(st[0].st_mode)) {
		compare_tree(w, path);
	}
}

static void compare_tree(struct world *w, const char *path)
{
	char **names[SIDES];

	for (int side = 0; side < SIDES; side++)
		names[side] = list(w->dir[side], path);
	for (size_t i = 0; names[0][i] || names[1][i]; i++) {
		char below_path[PATH_MAX];

		if (!names[0][i] || !names[1][i] || strcmp(names[0][i], names[1][i]) != 0)
			differ(w, "%s: the mount lists '%s' where the host lists '%s'", path,
			       names[0][i] ? names[0][i] : "(nothing)", names[1][i] ? names[1][i] : "(nothing)");
		snprintf(below_path, sizeof(below_path), "%s/%s", path, names[0][i]);
		compare_entry(w, below_path);
	}
	for (int side = 0; side < SIDES; side++)
		free_list(names[side]);
}

/* ---- operations ----------------------------------------------------------------------------- */

static void close_slot(struct world *w, struct slot *s)
{
	struct outcome o;

	if (!s->open)
		return;
	s->open = false;
	BOTH(&o, close(s->fd[side]));
	agree(w, &o);
}

static void op_open(struct world *w)
{
	static const int accesses[] = { O_RDWR, O_RDWR, O_RDWR, O_RDONLY, O_WRONLY };
	struct slot *s = &w->slots[below(w, SLOTS)];
	int flags = accesses[below(w, 5)] | O_NONBLOCK | O_CLOEXEC;
	mode_t mode = (mode_t)below(w, 512);
	char path[PATH_MAX];
	struct outcome o;
	struct stat st;

	close_slot(w, s);
	pick_path(w, path, sizeof(path));
	if (below(w, 4) != 0)
		flags |= O_CREAT;
	if (below(w, 10) == 0)
		flags |= O_EXCL;
	if (below(w, 8) == 0)
		flags |= O_TRUNC;
	if (below(w, 6) == 0)
		flags |= O_APPEND;
	/* O_RDONLY | O_TRUNC is left to the file system by POSIX; O_EXCL wants O_CREAT. */
	if ((flags & O_ACCMODE) == O_RDONLY)
		flags &= ~O_TRUNC;
	if (!(flags & O_CREAT))
		flags &= ~O_EXCL;
	record(w, "open %s flags %#o mode %o -> slot %zd", path, flags, mode, s - w->slots);
	BOTH(&o, (s->fd[side] = openat(w->dir[side], path, flags, mode)) < 0 ? -1 : 0);
	agree(w, &o);
	if (o.value[0] < 0)
		return;
	/* A fifo or a directory is of no use for reading and writing. */
	if (fstat(s->fd[1], &st) < 0)
		broken("fstat");
	s->open = true;
	if (!S_ISREG(st.st_mode))
		close_slot(w, s);
}

static void op_close(struct world *w)
{
	struct slot *s = pick_slot(w);

	if (!s)
		return;
	record(w, "close slot %zd", s - w->slots);
	close_slot(w, s);
}

static void op_read(struct world *w)
{
	struct slot *s = pick_slot(w);
	off_t offset = pick_offset(w);
	size_t length = pick_length(w);
	bool positioned = below(w, 4) != 0;
	struct outcome o;

	if (!s)
		return;
	record(w, "%s slot %zd %zu bytes at %lld", positioned ? "pread" : "read", s - w->slots, length,
	       (long long)offset);
	if (positioned)
		BOTH(&o, pread(s->fd[side], w->buf[side], length, offset));
	else
		BOTH(&o, read(s->fd[side], w->buf[side], length));
	agree(w, &o);
	if (o.value[0] > 0 && memcmp(w->buf[0], w->buf[1], (size_t)o.value[0]) != 0)
		differ(w, "step %lu: what was read differs", w->step);
}

static void op_write(struct world *w)
{
	struct slot *s = pick_slot(w);
	off_t offset = pick_offset(w);
	size_t length = pick_length(w);
	bool positioned = below(w, 4) != 0;
	struct outcome o;

	if (!s)
		return;
	fill(w, length);
	record(w, "%s slot %zd %zu bytes at %lld", positioned ? "pwrite" : "write", s - w->slots, length,
	       (long long)offset);
	if (positioned)
		BOTH(&o, pwrite(s->fd[side], w->buf[side], length, offset));
	else
		BOTH(&o, write(s->fd[side], w->buf[side], length));
	agree(w, &o);
	BOTH(&o, lseek(s->fd[side], 0, SEEK_CUR));
	agree(w, &o);
	if (o.value[0] > (long)FILE_LIMIT) { /* keep the files, and so the run, small */
		BOTH(&o, lseek(s->fd[side], 0, SEEK_SET));
		agree(w, &o);
	}
}

static void op_truncate(struct world *w)
{
	off_t size = pick_offset(w);
	struct slot *s = pick_slot(w);
	char path[PATH_MAX];
	struct outcome o;

	if (s && below(w, 3) != 0) {
		record(w, "ftruncate slot %zd to %lld", s - w->slots, (long long)size);
		BOTH(&o, ftruncate(s->fd[side], size));
	} else {
		char full[SIDES][2 * PATH_MAX];

		pick_path(w, path, sizeof(path));
		record(w, "truncate %s to %lld", path, (long long)size);
		for (int side = 0; side < SIDES; side++)
			snprintf(full[side], sizeof(full[side]), "%s/%s", w->path[side], path);
		BOTH(&o, truncate(full[side], size));
	}
	agree(w, &o);
}

static void op_fallocate(struct world *w)
{
	struct slot *s = pick_slot(w);
	int mode = w->mode_count ? w->modes[below(w, w->mode_count)] : 0;
	off_t offset = pick_offset(w);
	off_t length = (off_t)pick_length(w) + 1;
	struct outcome o;

	if (!s || !w->mode_count)
		return;
	record(w, "fallocate slot %zd mode %d %lld bytes at %lld", s - w->slots, mode, (long long)length,
	       (long long)offset);
	BOTH(&o, fallocate(s->fd[side], mode, offset, length));
	agree(w, &o);
}

static void op_seek(struct world *w)
{
	struct slot *s = pick_slot(w);
	off_t offset = pick_offset(w);
	struct outcome o;
	struct stat st;

	if (!s)
		return;
	record(w, "seek slot %zd from %lld", s - w->slots, (long long)offset);
	/* Where holes are is the file system's affair, but not whether there is a place to find. */
	BOTH(&o, lseek(s->fd[side], offset, SEEK_HOLE) < 0 ? -1 : 0);
	agree(w, &o);
	if (fstat(s->fd[0], &st) < 0)
		differ(w, "step %lu: fstat: %s", w->step, strerror(errno));
	if (o.value[0] == 0) {
		off_t hole = lseek(s->fd[0], offset, SEEK_HOLE);

		if (hole < offset || hole > st.st_size)
			differ(w, "step %lu: SEEK_HOLE from %lld gave %lld of %lld", w->step, (long long)offset,
			       (long long)hole, (long long)st.st_size);
	}
	offset = below(w, 2) ? (off_t)below(w, FILE_LIMIT) : 0;
	BOTH(&o, lseek(s->fd[side], offset, SEEK_SET));
	agree(w, &o);
}

static void op_check_open(struct world *w)
{
	struct slot *s = pick_slot(w);
	off_t position[SIDES];
	struct outcome o;

	if (!s)
		return;
	if ((fcntl(s->fd[1], F_GETFL) & O_ACCMODE) == O_WRONLY)
		return;
	record(w, "compare slot %zd", s - w->slots);
	BOTH(&o, position[side] = lseek(s->fd[side], 0, SEEK_CUR));
	agree(w, &o);
	compare_open(w, "an open file", s->fd);
	BOTH(&o, lseek(s->fd[side], position[side], SEEK_SET));
	agree(w, &o);
}

static void op_sync(struct world *w)
{
	struct slot *s = pick_slot(w);
	struct outcome o;

	if (!s)
		return;
	record(w, "fsync slot %zd", s - w->slots);
	if (below(w, 2))
		BOTH(&o, fsync(s->fd[side]));
	else
		BOTH(&o, fdatasync(s->fd[side]));
	agree(w, &o);
}

static void op_copy_range(struct world *w)
{
	struct slot *from = pick_slot(w), *to = pick_slot(w);
	off_t from_offset = pick_offset(w), to_offset = pick_offset(w);
	size_t length = pick_length(w);
	struct outcome o;

	if (!from || from == to)
		return;
	record(w, "copy_file_range slot %zd at %lld to slot %zd at %lld, %zu bytes", from - w->slots,
	       (long long)from_offset, to - w->slots, (long long)to_offset, length);
	for (int side = 0; side < SIDES; side++) {
		off_t in = from_offset, out = to_offset;
		size_t done = 0;
		ssize_t n;

		do { /* a short copy is allowed: go on until it ends */
			errno = 0;
			n = copy_file_range(from->fd[side], &in, to->fd[side], &out, length - done, 0);
			done += n > 0 ? (size_t)n : 0;
		} while (n > 0 && done < length);
		o.value[side] = n < 0 ? -1 : (long)done;
		o.error[side] = errno;
	}
	agree(w, &o);
}

static void op_unlink(struct world *w)
{
	char path[PATH_MAX];
	struct outcome o;

	pick_path(w, path, sizeof(path));
	record(w, "unlink %s", path);
	BOTH(&o, unlinkat(w->dir[side], path, 0));
	agree(w, &o);
}

static void op_rename(struct world *w)
{
	static const unsigned all_flags[] = { 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE };
	unsigned flags = all_flags[below(w, 6)];
	char from[PATH_MAX], to[PATH_MAX];
	struct outcome o;

	pick_path(w, from, sizeof(from));
	pick_path(w, to, sizeof(to));
	record(w, "rename %s to %s flags %u", from, to, flags);
	BOTH(&o, renameat2(w->dir[side], from, w->dir[side], to, flags));
	agree(w, &o);
}

static void op_mkdir(struct world *w)
{
	const char *path = directories[1 + below(w, DIRECTORIES - 1)];
	mode_t mode = 0700 | (mode_t)below(w, 512);
	struct outcome o;

	record(w, "mkdir %s mode %o", path, mode);
	BOTH(&o, mkdirat(w->dir[side], path, mode));
	agree(w, &o);
}

static void op_rmdir(struct world *w)
{
	char path[PATH_MAX];
	struct outcome o;

	pick_path(w, path, sizeof(path));
	record(w, "rmdir %s", path);
	BOTH(&o, unlinkat(w->dir[side], path, AT_REMOVEDIR));
	agree(w, &o);
}

static void op_symlink(struct world *w)
{
	char path[PATH_MAX], target[PATH_MAX];
	struct outcome o;

	pick_file(w, path, sizeof(path));
	/* Relative to the link, and inside of the tree wherever the link is moved. */
	snprintf(target, sizeof(target), "f%u", below(w, NAMES));
	record(w, "symlink %s -> %s", path, target);
	BOTH(&o, symlinkat(target, w->dir[side], path));
	agree(w, &o);
}

static void op_readlink(struct world *w)
{
	char path[PATH_MAX], target[SIDES][PATH_MAX];
	struct outcome o;

	pick_file(w, path, sizeof(path));
	record(w, "readlink %s", path);
	BOTH(&o, readlinkat(w->dir[side], path, target[side], sizeof(target[side])));
	agree(w, &o);
	if (o.value[0] > 0 && memcmp(target[0], target[1], (size_t)o.value[0]) != 0)
		differ(w, "step %lu: the targets differ", w->step);
}

static void op_mknod(struct world *w)
{
	mode_t mode = (below(w, 3) ? S_IFREG : S_IFIFO) | (mode_t)below(w, 512);
	char path[PATH_MAX];
	struct outcome o;

	pick_file(w, path, sizeof(path));
	record(w, "mknod %s mode %o", path, mode);
	BOTH(&o, mknodat(w->dir[side], path, mode, 0));
	agree(w, &o);
}

static void op_chmod(struct world *w)
{
	mode_t mode = (mode_t)below(w, 4096);
	struct slot *s = pick_slot(w);
	char path[PATH_MAX];
	struct outcome o;

	if (s && below(w, 3) == 0) {
		record(w, "fchmod slot %zd to %o", s - w->slots, mode);
		BOTH(&o, fchmod(s->fd[side], mode));
	} else {
		pick_path(w, path, sizeof(path));
		record(w, "chmod %s to %o", path, mode);
		BOTH(&o, fchmodat(w->dir[side], path, mode, 0));
	}
	agree(w, &o);
}

static void op_chown(struct world *w)
{
	uid_t uid = below(w, 3) ? below(w, 70000) : (uid_t)-1;
	gid_t gid = below(w, 3) ? below(w, 70000) : (gid_t)-1;
	char path[PATH_MAX];
	struct outcome o;

	/* Of a change to nobody and no group, which takes set-id bits away, a FUSE file system hears nothing. */
	if (geteuid() != 0 || (uid == (uid_t)-1 && gid == (gid_t)-1))
		return;
	pick_path(w, path, sizeof(path));
	record(w, "chown %s to %d:%d", path, (int)uid, (int)gid);
	BOTH(&o, fchownat(w->dir[side], path, uid, gid, AT_SYMLINK_NOFOLLOW));
	agree(w, &o);
}

static void op_utimens(struct world *w)
{
	struct timespec times[2];
	struct slot *s = pick_slot(w);
	char path[PATH_MAX];
	struct outcome o;

	for (int i = 0; i < 2; i++) {
		times[i].tv_sec = 1000000000 + below(w, 200000000);
		times[i].tv_nsec = below(w, 1000000000);
	}
	if (below(w, 6) == 0)
		times[1].tv_nsec = UTIME_OMIT;
	else if (below(w, 6) == 0)
		times[1].tv_nsec = UTIME_NOW;
	if (s && below(w, 3) == 0) {
		record(w, "futimens slot %zd to %lld.%09ld", s - w->slots, (long long)times[1].tv_sec,
		       times[1].tv_nsec);
		BOTH(&o, futimens(s->fd[side], times));
	} else {
		pick_path(w, path, sizeof(path));
		record(w, "utimensat %s to %lld.%09ld", path, (long long)times[1].tv_sec, times[1].tv_nsec);
		BOTH(&o, utimensat(w->dir[side], path, times, AT_SYMLINK_NOFOLLOW));
	}
	agree(w, &o);
}

static void op_stat(struct world *w)
{
	int flags = below(w, 2) ? AT_SYMLINK_NOFOLLOW : 0;
	struct stat st[SIDES];
	char path[PATH_MAX];
	struct outcome o;

	pick_path(w, path, sizeof(path));
	record(w, "stat %s", path);
	BOTH(&o, fstatat(w->dir[side], path, &st[side], flags));
	agree(w, &o);
	if (o.value[0] == 0)
		compare_stat(w, path, st);
}

static void unmap(struct world *w, struct map *m)
{
	struct outcome o;

	if (!m->length)
		return;
	BOTH(&o, munmap(m->address[side], m->length));
	agree(w, &o);
	BOTH(&o, close(m->fd[side]));
	agree(w, &o);
	memset(m, 0, sizeof(*m));
}

static void op_mmap(struct world *w)
{
	struct map *m = &w->maps[below(w, MAPS)];
	struct slot *s = pick_slot(w);
	struct map made = { .offset = pick_offset(w) & ~(off_t)4095, .length = 4096u * (1 + below(w, 64)) };
	struct outcome o;
	struct stat st;
	int access, flags;

	if (!s)
		return;
	unmap(w, m);
	made.shared = below(w, 3) != 0;
	access = fcntl(s->fd[1], F_GETFL) & O_ACCMODE;
	made.writable = !made.shared || access == O_RDWR;
	flags = made.shared ? MAP_SHARED : MAP_PRIVATE;
	record(w, "mmap slot %zd %s %zu bytes at %lld -> map %zd", s - w->slots, made.shared ? "shared" : "private",
	       made.length, (long long)made.offset, m - w->maps);
	BOTH(&o, (made.address[side] = mmap(NULL, made.length, PROT_READ | (made.writable ? PROT_WRITE : 0), flags,
					    s->fd[side], made.offset)) == MAP_FAILED
			 ? -1
			 : 0);
	agree(w, &o);
	if (o.value[0] < 0)
		return;
	BOTH(&o, (made.fd[side] = dup(s->fd[side])) < 0 ? -1 : 0);
	agree(w, &o);
	if (fstat(s->fd[1], &st) < 0)
		broken("fstat");
	if (made.shared && made.writable && !was_mapped(w, st.st_ino) && w->mapped_count < MAPPED_INODES)
		w->mapped[w->mapped_count++] = st.st_ino;
	*m = made;
}

/* Read or write through a mapping. A private one is only written, and shows nothing on the file: what it
 * shows after the file was truncated or punched is nobody's promise. op_private_map() compares fresh ones. */
static void op_touch_map(struct world *w)
{
	struct map *m = &w->maps[below(w, MAPS)];
	struct stat st;
	size_t inside, at, length;

	if (!m->length)
		return;
	/* Behind the end of the file is SIGBUS. Sizes agree, or a comparison has failed already. */
	if (fstat(m->fd[1], &st) < 0)
		broken("fstat");
	if (st.st_size <= m->offset)
		return;
	inside = (uint64_t)(st.st_size - m->offset) < m->length ? (size_t)(st.st_size - m->offset) : m->length;
	at = below(w, (unsigned)inside);
	length = below(w, 8192) + 1;
	if (length > inside - at)
		length = inside - at;
	if (m->writable && below(w, 2)) {
		record(w, "write map %zd %zu bytes at %zu", m - w->maps, length, at);
		fill(w, length);
		for (int side = 0; side < SIDES; side++)
			memcpy(m->address[side] + at, w->buf[side], length);
		if (m->shared && below(w, 4) == 0) {
			struct outcome o;

			BOTH(&o, msync(m->address[side], m->length, MS_SYNC));
			agree(w, &o);
		}
		return;
	}
	record(w, "read map %zd %zu bytes at %zu", m - w->maps, length, at);
	if (m->shared && memcmp(m->address[0] + at, m->address[1] + at, length) != 0)
		differ(w, "step %lu: the mapped bytes differ", w->step);
}

/* Write into a private mapping and look that it shows, that the rest of the page is the file's, and that
 * the file does not change. */
static void op_private_map(struct world *w)
{
	struct slot *s = pick_slot(w);
	unsigned char *address[SIDES];
	struct outcome o;
	struct stat st;
	size_t length;

	if (!s || fstat(s->fd[1], &st) < 0 || st.st_size == 0)
		return;
	length = st.st_size < 65536 ? (size_t)st.st_size : 65536;
	record(w, "private map of slot %zd, %zu bytes", s - w->slots, length);
	BOTH(&o, (address[side] = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, s->fd[side], 0)) == MAP_FAILED
			 ? -1
			 : 0);
	agree(w, &o);
	if (o.value[0] < 0)
		return;
	if (memcmp(address[0], address[1], length) != 0)
		differ(w, "step %lu: the privately mapped bytes differ", w->step);
	for (size_t i = below(w, 4096); i < length; i += 1 + below(w, 4096)) {
		address[0][i] ^= 0x5a;
		address[1][i] ^= 0x5a;
	}
	if (memcmp(address[0], address[1], length) != 0)
		differ(w, "step %lu: the privately changed bytes differ", w->step);
	BOTH(&o, munmap(address[side], length));
	agree(w, &o);
}

static void op_sync_dir(struct world *w)
{
	const char *path = directories[below(w, DIRECTORIES)];
	int fd[SIDES];
	struct outcome o;

	record(w, "fsync of directory %s", path);
	BOTH(&o, (fd[side] = openat(w->dir[side], path, O_RDONLY | O_DIRECTORY)) < 0 ? -1 : 0);
	agree(w, &o);
	if (o.value[0] < 0)
		return;
	BOTH(&o, fsync(fd[side]));
	agree(w, &o);
	close(fd[0]);
	close(fd[1]);
}

static const struct {
	void (*run)(struct world *w);
	unsigned weight;
} operations[] = {
	{ op_open, 14 },     { op_close, 3 },  { op_read, 14 },      { op_write, 22 },      { op_truncate, 5 },
	{ op_fallocate, 7 }, { op_seek, 3 },   { op_check_open, 2 }, { op_sync, 2 },        { op_copy_range, 2 },
	{ op_unlink, 3 },    { op_rename, 6 }, { op_mkdir, 4 },      { op_rmdir, 2 },       { op_symlink, 2 },
	{ op_readlink, 2 },  { op_mknod, 2 },  { op_chmod, 3 },      { op_chown, 2 },       { op_utimens, 4 },
	{ op_stat, 6 },      { op_mmap, 3 },   { op_touch_map, 10 }, { op_private_map, 2 }, { op_sync_dir, 1 },
};

static void one_operation(struct world *w)
{
	unsigned total = 0, drawn;
	size_t i = 0;

	for (size_t k = 0; k < sizeof(operations) / sizeof(operations[0]); k++)
		total += operations[k].weight;
	drawn = below(w, total);
	while (drawn >= operations[i].weight)
		drawn -= operations[i++].weight;
	operations[i].run(w);
}

/* Give every file that was written through a shared mapping a set time. */
static void settle_times(struct world *w, const char *path)
{
	static const struct timespec times[2] = { { .tv_sec = 1111111111 }, { .tv_sec = 1222222222 } };
	char **names = list(w->dir[1], path);

	for (size_t i = 0; names[i]; i++) {
		char below_path[PATH_MAX];
		struct stat st;
		struct outcome o;

		snprintf(below_path, sizeof(below_path), "%s/%s", path, names[i]);
		if (fstatat(w->dir[1], below_path, &st, AT_SYMLINK_NOFOLLOW) < 0)
			broken(below_path);
		if (S_ISDIR(st.st_mode)) {
			settle_times(w, below_path);
		} else if (was_mapped(w, st.st_ino)) {
			BOTH(&o, utimensat(w->dir[side], below_path, times, AT_SYMLINK_NOFOLLOW));
			agree(w, &o);
		}
	}
	free_list(names);
}

/* Which modes of fallocate() can be compared: tmpfs, for one, knows no FALLOC_FL_ZERO_RANGE. */
static void learn_modes(struct world *w)
{
	static const int all[FALLOC_MODES] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					       FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };
	int fd = openat(w->dir[1], "modes", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		broken("modes");
	for (int i = 0; i < FALLOC_MODES; i++) {
		if (fallocate(fd, all[i], 0, 4096) == 0)
			w->modes[w->mode_count++] = all[i];
		else
			printf("the host knows no fallocate() with mode %d: not compared\n", all[i]);
	}
	close(fd);
	unlinkat(w->dir[1], "modes", 0);
}

static void run(struct world *w, unsigned long count, unsigned long every)
{
	struct outcome o;

	umask(0);
	learn_modes(w);
	for (int i = 1; i < DIRECTORIES; i++) {
		record(w, "mkdir %s", directories[i]);
		BOTH(&o, mkdirat(w->dir[side], directories[i], 0755));
		agree(w, &o);
	}
	for (w->step = 1; w->step <= count; w->step++) {
		do {
			w->idle = true;
			one_operation(w);
		} while (w->idle);
		if (w->step % every == 0)
			compare_tree(w, ".");
	}
	w->step--;
	for (size_t i = 0; i < SLOTS; i++)
		close_slot(w, &w->slots[i]);
	for (size_t i = 0; i < MAPS; i++)
		unmap(w, &w->maps[i]);
	settle_times(w, ".");
	w->mapped_count = 0;
	compare_tree(w, ".");
}

int main(int argc, char **argv)
{
	bool running = (argc == 6 || argc == 7) && strcmp(argv[1], "run") == 0;
	struct world *w;

	if (!running && !(argc == 4 && strcmp(argv[1], "compare") == 0)) {
		fprintf(stderr, "usage: posix_ops run A B SEED COUNT [EVERY]\n       posix_ops compare A B\n");
		return 2;
	}
	w = calloc(1, sizeof(*w));
	if (!w)
		broken("calloc");
	for (int side = 0; side < SIDES; side++) {
		w->path[side] = argv[2 + side];
		w->dir[side] = open(w->path[side], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		w->buf[side] = malloc(IO_LIMIT);
		if (w->dir[side] < 0 || !w->buf[side])
			broken(w->path[side]);
	}
	if (running) {
		w->random = strtoull(argv[4], NULL, 0);
		run(w, strtoul(argv[5], NULL, 0), argc == 7 ? strtoul(argv[6], NULL, 0) : 1000);
	} else {
		compare_tree(w, ".");
	}
	for (int side = 0; side < SIDES; side++) {
		close(w->dir[side]);
		free(w->buf[side]);
	}
	free(w);
	return 0;
}
