/* SPDX-License-Identifier: MIT */
/* The promises of io.h, kept alike by the host's file system, by the one in memory, and by one that is recorded. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#include "io.h"
#include "io_memory.h"
#include "io_record.h"

#ifdef SYS_cachestat
#define CACHESTAT SYS_cachestat
#else
#define CACHESTAT 451L /* newer than Debian 12's headers; the same everywhere */
#endif

struct fixture {
	struct mojo_io *io;
	char *directory;       /* of the host; NULL in memory */
	struct mojo_io *inner; /* what is recorded; NULL: nothing is */
};

static int setup_memory(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(mojo_io_memory(&f->io), 0);
	*state = f;
	return 0;
}

static int setup_recorded(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_int_equal(mojo_io_memory(&f->inner), 0);
	assert_int_equal(mojo_io_record(f->inner, -1, &f->io), 0);
	*state = f;
	return 0;
}

static int setup_host(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	const char *tmp = getenv("TMPDIR");
	char path[PATH_MAX];

	assert_non_null(f);
	snprintf(path, sizeof(path), "%s/mojo-test-io.XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
	assert_non_null(mkdtemp(path));
	f->directory = strdup(path);
	assert_non_null(f->directory);
	assert_int_equal(mojo_io_host(path, &f->io), 0);
	*state = f;
	return 0;
}

static int remove_name(void *arg, const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/%s", (const char *)arg, name);
	return remove(path) < 0 ? -errno : 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->directory) {
		char sub[PATH_MAX];

		snprintf(sub, sizeof(sub), "%s/chunks", f->directory);
		f->io->ops->list(f->io, "chunks", remove_name, sub);
		f->io->ops->list(f->io, "", remove_name, f->directory);
		rmdir(f->directory);
	}
	mojo_io_free(f->io);
	mojo_io_free(f->inner);
	free(f->directory);
	free(f);
	return 0;
}

static struct mojo_io_file *open_file(struct mojo_io *io, const char *path, int flags)
{
	struct mojo_io_file *file;

	assert_int_equal(io->ops->open(io, path, flags, &file), 0);
	return file;
}

static struct mojo_io_file *make_file(struct mojo_io *io, const char *path)
{
	return open_file(io, path, MOJO_IO_WRITE | MOJO_IO_CREATE | MOJO_IO_EXCLUSIVE);
}

static int write_at(struct mojo_io *io, struct mojo_io_file *file, const void *data, size_t length, uint64_t offset)
{
	struct iovec vector = { .iov_base = (void *)data, .iov_len = length };

	return io->ops->write(file, &vector, 1, offset);
}

static void assert_content(struct mojo_io *io, struct mojo_io_file *file, uint64_t offset, const void *data,
			   size_t length)
{
	unsigned char *buf = malloc(length + 1);
	size_t got;

	assert_non_null(buf);
	assert_int_equal(io->ops->read(file, buf, length, offset, &got), 0);
	assert_int_equal(got, length);
	assert_memory_equal(buf, data, length);
	free(buf);
}

static void assert_bytes(struct mojo_io *io, struct mojo_io_file *file, uint64_t bytes)
{
	uint64_t got;
	uint64_t disk;

	assert_int_equal(io->ops->size(file, &got, &disk), 0);
	assert_int_equal(got, bytes);
}

static uint64_t disk_bytes(struct mojo_io *io, struct mojo_io_file *file)
{
	uint64_t bytes;
	uint64_t disk;

	assert_int_equal(io->ops->size(file, &bytes, &disk), 0);
	return disk;
}

static void test_open_flags(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file;

	assert_int_equal(io->ops->open(io, "a", 0, &file), -ENOENT);
	assert_int_equal(io->ops->open(io, "a", MOJO_IO_WRITE, &file), -ENOENT);
	file = open_file(io, "a", MOJO_IO_WRITE | MOJO_IO_CREATE);
	assert_int_equal(write_at(io, file, "hello", 5, 0), 0);
	io->ops->close(file);
	assert_int_equal(io->ops->open(io, "a", MOJO_IO_WRITE | MOJO_IO_CREATE | MOJO_IO_EXCLUSIVE, &file), -EEXIST);
	file = open_file(io, "a", MOJO_IO_WRITE | MOJO_IO_CREATE);
	assert_content(io, file, 0, "hello", 5);
	io->ops->close(file);
	file = open_file(io, "a", 0);
	assert_content(io, file, 0, "hello", 5);
	assert_int_equal(write_at(io, file, "x", 1, 0), -EBADF);
	assert_int_equal(io->ops->truncate(file, 1), -EINVAL);
	assert_int_equal(io->ops->punch(file, 0, 1), -EBADF);
	assert_int_equal(io->ops->prepare(file, 0, 4096), -EBADF);
	assert_bytes(io, file, 5);
	io->ops->close(file);
	io->ops->close(NULL);
}

static void test_only_regular_files_are_opened(void **state)
{
	struct fixture *f = *state;
	struct mojo_io *io = f->io;
	struct mojo_io_file *file;

	assert_int_equal(io->ops->mkdir(io, "chunks"), 0);
	assert_int_equal(io->ops->open(io, "chunks", 0, &file), -EISDIR);
	assert_int_equal(io->ops->open(io, "chunks", MOJO_IO_WRITE, &file), -EISDIR);
	if (f->directory) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/pipe", f->directory);
		assert_int_equal(mkfifo(path, 0600), 0);
		assert_int_equal(io->ops->open(io, "pipe", 0, &file), -EINVAL);
		assert_int_equal(io->ops->open(io, "pipe", MOJO_IO_WRITE, &file), -EINVAL);
		snprintf(path, sizeof(path), "%s/link", f->directory);
		assert_int_equal(symlink("/etc/hostname", path), 0);
		assert_int_equal(io->ops->open(io, "link", 0, &file), -ELOOP);
		assert_int_equal(io->ops->open(io, "link", MOJO_IO_WRITE | MOJO_IO_CREATE, &file), -ELOOP);
	}
}

static void test_read_stops_at_the_end(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file = make_file(io, "a");
	char buf[16];
	size_t got;

	assert_int_equal(io->ops->read(file, buf, sizeof(buf), 0, &got), 0);
	assert_int_equal(got, 0);
	assert_int_equal(write_at(io, file, "0123456789", 10, 0), 0);
	assert_int_equal(io->ops->read(file, buf, sizeof(buf), 4, &got), 0);
	assert_int_equal(got, 6);
	assert_memory_equal(buf, "456789", 6);
	assert_int_equal(io->ops->read(file, buf, sizeof(buf), 10, &got), 0);
	assert_int_equal(got, 0);
	assert_int_equal(io->ops->read(file, buf, sizeof(buf), 1ull << 40, &got), 0);
	assert_int_equal(got, 0);
	assert_int_equal(io->ops->read(file, buf, 0, 0, &got), 0);
	assert_int_equal(got, 0);
	io->ops->close(file);
}

static void test_write_behind_the_end_leaves_zeros(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file = make_file(io, "a");
	char *zeros = calloc(1, 300000);

	assert_non_null(zeros);
	assert_int_equal(write_at(io, file, "end", 3, 300000), 0);
	assert_bytes(io, file, 300003);
	assert_content(io, file, 0, zeros, 300000);
	assert_content(io, file, 300000, "end", 3);
	free(zeros);
	io->ops->close(file);
}

/* More buffers than one system call takes, of every odd length, 0 included. */
static void test_write_takes_any_number_of_buffers(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file = make_file(io, "a");
	enum { COUNT = 3 * 1024 + 7 };
	struct iovec *vector = calloc(COUNT, sizeof(*vector));
	struct iovec *before = calloc(COUNT, sizeof(*vector));
	unsigned char *data = malloc((size_t)COUNT * 200);
	size_t total = 0;

	assert_non_null(vector);
	assert_non_null(before);
	assert_non_null(data);
	for (size_t i = 0; i < (size_t)COUNT * 200; i++)
		data[i] = (unsigned char)(i * 7 + i / 251);
	for (int i = 0; i < COUNT; i++) {
		vector[i] = (struct iovec){ .iov_base = data + total, .iov_len = (size_t)i * 37 % 200 };
		total += vector[i].iov_len;
	}
	memcpy(before, vector, COUNT * sizeof(*vector));
	assert_int_equal(io->ops->write(file, vector, COUNT, 12345), 0);
	assert_memory_equal(vector, before, COUNT * sizeof(*vector));
	assert_bytes(io, file, 12345 + total);
	assert_content(io, file, 12345, data, total);
	assert_int_equal(io->ops->write(file, vector, 0, 0), 0);
	free(vector);
	free(before);
	free(data);
	io->ops->close(file);
}

static void test_truncate_cuts_and_grows_with_zeros(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file = make_file(io, "a");
	unsigned char *data = malloc(200000);

	assert_non_null(data);
	memset(data, 0xaa, 200000);
	assert_int_equal(write_at(io, file, data, 200000, 0), 0);
	assert_int_equal(io->ops->truncate(file, 70001), 0);
	assert_bytes(io, file, 70001);
	assert_int_equal(io->ops->truncate(file, 150000), 0);
	assert_bytes(io, file, 150000);
	memset(data + 70001, 0, 150000 - 70001);
	assert_content(io, file, 0, data, 150000);
	assert_int_equal(io->ops->truncate(file, 0), 0);
	assert_bytes(io, file, 0);
	assert_int_equal(disk_bytes(io, file), 0);
	free(data);
	io->ops->close(file);
}

static void test_what_is_prepared_reads_as_zeros_and_keeps_its_space(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file = make_file(io, "a");
	const size_t bytes = 4 << 20;
	unsigned char *data = malloc(bytes);
	uint64_t full;
	int result;

	assert_non_null(data);
	memset(data, 0x5a, bytes);
	result = io->ops->allocate(file, 0, bytes);
	if (!result) {
		assert_int_equal(write_at(io, file, data, bytes, 0), 0);
		assert_int_equal(io->ops->flush(file), 0);
		full = disk_bytes(io, file);
		assert_int_equal(io->ops->prepare(file, 0, 0), 0);
		result = io->ops->prepare(file, 4096, (2 << 20) + 8192);
	}
	if (result == -EOPNOTSUPP) {
		free(data);
		io->ops->close(file);
		print_message("the file system of TMPDIR cannot allocate, or cannot go past its cache: skipped\n");
		skip();
	}
	assert_int_equal(result, 0);
	memset(data + 4096, 0, (2 << 20) + 8192);
	assert_content(io, file, 0, data, bytes);
	assert_bytes(io, file, bytes);
	assert_int_equal(disk_bytes(io, file), full);
	/* What is written there afterwards is there, though the preparing went past the cache. */
	memset(data + 8192, 0xa5, 4096);
	assert_int_equal(write_at(io, file, data + 8192, 4096, 8192), 0);
	assert_content(io, file, 0, data, bytes);
	free(data);
	io->ops->close(file);
}

static void test_what_is_written_through_is_there(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file = make_file(io, "a"), *reader = open_file(io, "a", 0);
	const size_t bytes = 64 << 10;
	unsigned char *data = malloc(bytes);
	struct iovec vector[3];
	int result;

	assert_non_null(data);
	memset(data, 0x5a, bytes);
	assert_int_equal(write_at(io, file, data, bytes, 0), 0);
	assert_content(io, reader, 0, data, bytes);
	memset(data + 8192, 1, 4096);
	memset(data + 12288, 2, 8192);
	memset(data + 20480, 3, 4096);
	vector[0] = (struct iovec){ data + 8192, 4096 };
	vector[1] = (struct iovec){ data + 12288, 8192 };
	vector[2] = (struct iovec){ data + 20480, 4096 };
	result = io->ops->write_through(file, vector, 3, 8192);
	if (result == -EOPNOTSUPP) {
		free(data);
		io->ops->close(reader);
		io->ops->close(file);
		print_message("the file system of TMPDIR cannot go past its cache: skipped\n");
		skip();
	}
	assert_int_equal(result, 0);
	/* Also where the cache had something else, which was not even on the disk. */
	assert_content(io, reader, 0, data, bytes);
	assert_content(io, file, 0, data, bytes);
	/* And what is written there afterwards, in the ordinary way. */
	memset(data + 12288, 4, 4096);
	assert_int_equal(write_at(io, file, data + 12288, 4096, 12288), 0);
	assert_content(io, reader, 0, data, bytes);
	/* Behind the end of the file. */
	assert_int_equal(io->ops->write_through(file, vector, 1, bytes + 4096), 0);
	assert_bytes(io, file, bytes + 8192);
	assert_content(io, reader, bytes + 4096, data + 8192, 4096);
	assert_int_equal(io->ops->write_through(reader, vector, 1, 0), -EBADF);
	assert_content(io, reader, 0, data, bytes);
	free(data);
	io->ops->close(reader);
	io->ops->close(file);
}

static void test_allocate_takes_space_and_punch_gives_it_back(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file = make_file(io, "a");
	const size_t bytes = 4 << 20;
	unsigned char *data = malloc(bytes);
	uint64_t full;
	int result;

	assert_non_null(data);
	memset(data, 0x5a, bytes);
	result = io->ops->allocate(file, 0, bytes);
	if (result == -EOPNOTSUPP) {
		free(data);
		io->ops->close(file);
		print_message("the file system of TMPDIR cannot allocate: skipped\n");
		skip();
	}
	assert_int_equal(result, 0);
	assert_bytes(io, file, bytes);
	assert_true(disk_bytes(io, file) >= bytes);
	assert_int_equal(write_at(io, file, data, bytes, 0), 0);
	assert_int_equal(io->ops->flush(file), 0);
	full = disk_bytes(io, file);

	assert_int_equal(io->ops->punch(file, 1 << 20, 1 << 20), 0);
	memset(data + (1 << 20), 0, 1 << 20);
	assert_int_equal(io->ops->punch(file, 4096 * 3, 4096), 0);
	memset(data + 4096 * 3, 0, 4096);
	assert_int_equal(io->ops->punch(file, 100000, 100), 0);
	memset(data + 100000, 0, 100);
	assert_int_equal(io->ops->punch(file, 0, 0), 0);
	assert_content(io, file, 0, data, bytes);
	assert_bytes(io, file, bytes);
	assert_int_equal(full - disk_bytes(io, file), (1 << 20) + 4096);

	/* Behind the end: no harm, and no growth. */
	assert_int_equal(io->ops->punch(file, bytes, 1 << 20), 0);
	assert_bytes(io, file, bytes);
	/* What was punched can be written again. */
	assert_int_equal(write_at(io, file, "again", 5, (1 << 20) + 5000), 0);
	memcpy(data + (1 << 20) + 5000, "again", 5);
	assert_content(io, file, 0, data, bytes);
	assert_int_equal(io->ops->allocate(file, bytes - 10, 20), 0);
	assert_bytes(io, file, bytes + 10);
	io->ops->prefetch(file, 0, bytes);
	io->ops->prefetch(file, bytes * 100, bytes);
	free(data);
	io->ops->close(file);
}

static void test_locks_are_per_open_file(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *a = make_file(io, "lock");
	struct mojo_io_file *b = open_file(io, "lock", MOJO_IO_WRITE);
	struct mojo_io_file *c = open_file(io, "lock", 0);

	assert_int_equal(io->ops->lock(a, true), 0);
	assert_int_equal(io->ops->lock(a, true), 0);
	assert_int_equal(io->ops->lock(b, true), -EWOULDBLOCK);
	assert_int_equal(io->ops->lock(c, false), -EWOULDBLOCK);
	io->ops->close(a);
	assert_int_equal(io->ops->lock(c, false), 0);
	assert_int_equal(io->ops->lock(b, false), 0);
	assert_int_equal(io->ops->lock(b, true), -EWOULDBLOCK);
	/* The refused change cost b its shared lock, as with flock(2). */
	assert_int_equal(io->ops->lock(c, true), 0);
	assert_int_equal(io->ops->lock(b, false), -EWOULDBLOCK);
	assert_int_equal(io->ops->lock(c, false), 0);
	assert_int_equal(io->ops->lock(b, false), 0);
	io->ops->close(c);
	assert_int_equal(io->ops->lock(b, true), 0);
	io->ops->close(b);
}

static void test_names(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file;

	assert_int_equal(io->ops->open(io, "chunks/x", MOJO_IO_WRITE | MOJO_IO_CREATE, &file), -ENOENT);
	assert_int_equal(io->ops->mkdir(io, "chunks"), 0);
	assert_int_equal(io->ops->mkdir(io, "chunks"), -EEXIST);
	file = make_file(io, "chunks/x");
	assert_int_equal(write_at(io, file, "xx", 2, 0), 0);
	io->ops->close(file);
	assert_int_equal(io->ops->flush_dir(io, "chunks"), 0);
	assert_int_equal(io->ops->flush_dir(io, ""), 0);
	assert_int_equal(io->ops->flush_dir(io, "nowhere"), -ENOENT);
	assert_int_equal(io->ops->flush_dir(io, "chunks/x"), -ENOTDIR);

	file = make_file(io, "chunks/y");
	assert_int_equal(write_at(io, file, "y", 1, 0), 0);
	assert_int_equal(io->ops->rename(io, "chunks/x", "chunks/y"), 0);
	assert_content(io, file, 0, "y", 1); /* open, though no name leads to it */
	io->ops->close(file);
	assert_int_equal(io->ops->open(io, "chunks/x", 0, &file), -ENOENT);
	file = open_file(io, "chunks/y", 0);
	assert_content(io, file, 0, "xx", 2);
	assert_int_equal(io->ops->rename(io, "chunks/y", "chunks/y"), 0);
	assert_int_equal(io->ops->rename(io, "chunks/y", "z"), 0);
	assert_int_equal(io->ops->rename(io, "chunks/y", "z"), -ENOENT);
	assert_int_equal(io->ops->rename(io, "z", "chunks"), -EISDIR);
	assert_int_equal(io->ops->rename(io, "chunks", "z"), -ENOTDIR);
	assert_int_equal(io->ops->rename(io, "chunks", "chunks/in"), -EINVAL);
	assert_int_equal(io->ops->unlink(io, "chunks"), -EISDIR);
	assert_int_equal(io->ops->unlink(io, "z"), 0);
	assert_int_equal(io->ops->unlink(io, "z"), -ENOENT);
	assert_content(io, file, 0, "xx", 2);
	io->ops->close(file);
}

struct listing {
	unsigned seen;
	unsigned calls;
	int stop;
};

static int list_letter(void *arg, const char *name)
{
	struct listing *listing = arg;

	assert_int_equal(strlen(name), 1);
	assert_in_range(name[0], 'a', 'e');
	listing->seen |= 1u << (name[0] - 'a');
	listing->calls++;
	return listing->stop;
}

static void test_list(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct listing listing = { 0 };
	char name[] = "chunks/a";

	assert_int_equal(io->ops->list(io, "", list_letter, &listing), 0);
	assert_int_equal(listing.calls, 0);
	assert_int_equal(io->ops->list(io, "chunks", list_letter, &listing), -ENOENT);
	assert_int_equal(io->ops->mkdir(io, "chunks"), 0);
	for (int i = 0; i < 5; i++) {
		name[7] = (char)('a' + i);
		io->ops->close(make_file(io, name));
	}
	assert_int_equal(io->ops->list(io, "chunks", list_letter, &listing), 0);
	assert_int_equal(listing.calls, 5);
	assert_int_equal(listing.seen, 31);
	listing = (struct listing){ .stop = -77 };
	assert_int_equal(io->ops->list(io, "chunks", list_letter, &listing), -77);
	assert_int_equal(listing.calls, 1);
	assert_int_equal(io->ops->list(io, "chunks/a", list_letter, &listing), -ENOTDIR);
}

static void test_space_clock_and_random(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	unsigned char a[64] = { 0 }, b[64] = { 0 };
	struct mojo_io_space space;
	int64_t before = io->ops->now_ns(io);

	assert_int_equal(io->ops->space(io, &space), 0);
	assert_true(space.total >= space.free);
	assert_true(space.free >= space.available);
	assert_true(space.total > 0);
	assert_true(before > 1600000000ll * 1000000000);
	assert_true(io->ops->now_ns(io) >= before);
	assert_int_equal(io->ops->random(io, a, sizeof(a)), 0);
	assert_int_equal(io->ops->random(io, b, sizeof(b)), 0);
	assert_memory_not_equal(a, b, sizeof(a));
}

struct writer {
	struct mojo_io *io;
	struct mojo_io_file *file;
	unsigned index;
	const char *problem; /* NULL if all went well */
};

static void *write_stripes(void *arg)
{
	struct writer *writer = arg;
	unsigned char block[1000];

	memset(block, (int)(writer->index + 1), sizeof(block));
	for (unsigned i = 0; i < 200; i++) {
		uint64_t offset = (uint64_t)(i * 4 + writer->index) * sizeof(block);
		unsigned char back[sizeof(block)];
		size_t got;

		if (write_at(writer->io, writer->file, block, sizeof(block), offset))
			writer->problem = "write failed";
		if (writer->io->ops->read(writer->file, back, sizeof(back), offset, &got) || got != sizeof(back) ||
		    memcmp(back, block, sizeof(back)) != 0)
			writer->problem = "read back something else";
		if (i % 50 == 0 && writer->io->ops->flush(writer->file))
			writer->problem = "flush failed";
	}
	return NULL;
}

static void test_threads_share_a_file(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file = make_file(io, "a");
	struct writer writers[4];
	pthread_t threads[4];

	for (unsigned i = 0; i < 4; i++) {
		writers[i] = (struct writer){ .io = io, .file = file, .index = i };
		assert_int_equal(pthread_create(&threads[i], NULL, write_stripes, &writers[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		assert_null(writers[i].problem);
	}
	assert_bytes(io, file, 800 * 1000);
	for (unsigned i = 0; i < 800; i++) {
		unsigned char block[1000];

		memset(block, (int)(i % 4 + 1), sizeof(block));
		assert_content(io, file, (uint64_t)i * 1000, block, sizeof(block));
	}
	io->ops->close(file);
}

/* ---- the host alone ----------------------------------------------------------------------- */

static void test_host_wants_a_directory(void **state)
{
	struct mojo_io *io = NULL;

	(void)state;
	assert_int_equal(mojo_io_host("/nonexistent/mojo", &io), -ENOENT);
	assert_int_equal(mojo_io_host("/dev/null", &io), -ENOTDIR);
	assert_null(io);
	mojo_io_free(NULL);
}

/* The file can grow to 10,000 bytes: the host writes a part, and then refuses. */
static void test_host_does_not_take_a_part_for_the_whole(void **state)
{
	struct fixture *f = *state;
	struct mojo_io_file *file = make_file(f->io, "a");
	char first[8000], second[8000];
	struct iovec vector[] = { { first, sizeof(first) }, { second, sizeof(second) } };
	struct rlimit before, limit;
	struct sigaction ignore = { .sa_handler = SIG_IGN }, action;

	memset(first, 1, sizeof(first));
	memset(second, 2, sizeof(second));
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	limit.rlim_cur = 10000;
	assert_int_equal(sigaction(SIGXFSZ, &ignore, &action), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	int error = f->io->ops->write(file, vector, 2, 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(sigaction(SIGXFSZ, &action, NULL), 0);
	assert_int_equal(error, -EFBIG);
	assert_int_equal(f->io->ops->write(file, vector, 2, 0), 0);
	assert_content(f->io, file, 8000, second, sizeof(second));
	f->io->ops->close(file);
}

static void test_host_survives_a_rename_above(void **state)
{
	struct fixture *f = *state;
	struct mojo_io_file *file = make_file(f->io, "a");
	char moved[PATH_MAX];

	snprintf(moved, sizeof(moved), "%s.moved", f->directory);
	assert_int_equal(rename(f->directory, moved), 0);
	assert_int_equal(write_at(f->io, file, "a", 1, 0), 0);
	f->io->ops->close(file);
	f->io->ops->close(make_file(f->io, "b"));
	assert_int_equal(rename(moved, f->directory), 0);
	f->io->ops->close(open_file(f->io, "b", 0));
}

/* Dirty pages of the file in the host's cache, those on their way to the disk not counted; -1: cannot be told. */
static int64_t waiting_pages(const struct fixture *f, const char *name)
{
	struct {
		uint64_t offset, length;
	} range = { 0 };
	struct {
		uint64_t cached, dirty, under_way, evicted, recently_evicted;
	} found;
	char path[PATH_MAX];
	int fd;
	long result;

	snprintf(path, sizeof(path), "%s/%s", f->directory, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	result = syscall(CACHESTAT, fd, &range, &found, 0u);
	close(fd);
	return result == 0 ? (int64_t)found.dirty : -1;
}

static void test_host_begins_to_write_out_what_is_much(void **state)
{
	enum { BYTES = 1 << 20 };
	struct fixture *f = *state;
	struct mojo_io_file *file = make_file(f->io, "a");
	char *data = calloc(1, BYTES);

	assert_non_null(data);
	assert_int_equal(write_at(f->io, file, data, 4096, 0), 0);
	bool can_be_told = waiting_pages(f, "a") > 0;
	if (can_be_told) {
		assert_int_equal(write_at(f->io, file, data, BYTES, 4096), 0);
		assert_true(waiting_pages(f, "a") <= 1);
	}
	free(data);
	f->io->ops->close(file);
	if (!can_be_told)
		skip(); /* Linux before 6.5; or a file system that has no disk */
}

/* ---- memory alone ------------------------------------------------------------------------- */

static void test_memory_preallocation_is_cheap(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file = make_file(io, "a");

	/* 64 GiB: would not fit if it took memory. */
	assert_int_equal(io->ops->allocate(file, 0, 64ull << 30), 0);
	assert_bytes(io, file, 64ull << 30);
	assert_int_equal(disk_bytes(io, file), 64ull << 30);
	assert_int_equal(write_at(io, file, "x", 1, 63ull << 30), 0);
	assert_content(io, file, 63ull << 30, "x", 1);
	io->ops->close(file);
}

static void test_memory_clone_is_independent(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file, *other;
	struct mojo_io *copy;

	assert_int_equal(io->ops->mkdir(io, "chunks"), 0);
	file = make_file(io, "chunks/a");
	assert_int_equal(write_at(io, file, "first", 5, 100000), 0);
	assert_int_equal(io->ops->lock(file, true), 0);
	io->ops->close(make_file(io, "gone"));
	assert_int_equal(mojo_io_memory_clone(io, &copy), 0);
	assert_int_equal(io->ops->unlink(io, "gone"), 0);
	assert_int_equal(write_at(io, file, "other", 5, 100000), 0);

	other = open_file(copy, "chunks/a", MOJO_IO_WRITE);
	assert_int_equal(copy->ops->lock(other, true), 0);
	assert_bytes(copy, other, 100005);
	assert_content(copy, other, 100000, "first", 5);
	assert_int_equal(write_at(copy, other, "third", 5, 100000), 0);
	assert_content(io, file, 100000, "other", 5);
	assert_content(copy, other, 100000, "third", 5);
	copy->ops->close(other);
	copy->ops->close(open_file(copy, "gone", 0));
	mojo_io_free(copy);
	assert_content(io, file, 100000, "other", 5);
	io->ops->close(file);
}

static void test_memory_what_is_written_through_is_durable_alone(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file = make_file(io, "a"), *other;
	unsigned char data[3 * 4096], wanted[3 * 4096] = { 0 };
	struct iovec vector = { data + 4096, 4096 };
	struct mojo_io *copy;

	memset(data, 7, sizeof(data));
	assert_int_equal(mojo_io_memory_track(io), 0);
	assert_int_equal(write_at(io, file, data, sizeof(data), 0), 0);
	memset(data + 4096, 8, 4096);
	assert_int_equal(io->ops->write_through(file, &vector, 1, 4096), 0);
	assert_content(io, file, 0, data, sizeof(data));
	assert_int_equal(mojo_io_memory_clone_durable(io, &copy), 0);
	other = open_file(copy, "a", 0);
	memset(wanted + 4096, 8, 4096);
	assert_content(copy, other, 0, wanted, 8192);
	assert_bytes(copy, other, 8192);
	copy->ops->close(other);
	mojo_io_free(copy);

	/* It fails like a write, and is then not durable. */
	memset(data + 4096, 9, 4096);
	mojo_io_memory_fail(io, 0, -EIO, false);
	assert_int_equal(io->ops->write_through(file, &vector, 1, 4096), -EIO);
	assert_int_equal(mojo_io_memory_clone_durable(io, &copy), 0);
	other = open_file(copy, "a", 0);
	assert_content(copy, other, 0, wanted, 8192);
	copy->ops->close(other);
	mojo_io_free(copy);
	io->ops->close(file);
}

static void test_memory_durable_clone_is_what_was_flushed(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file, *other;
	struct mojo_io *copy;
	char buf[8];
	size_t got;

	assert_int_equal(mojo_io_memory_clone_durable(io, &copy), -EOPNOTSUPP);
	file = make_file(io, "old");
	assert_int_equal(write_at(io, file, "old", 3, 0), 0);
	assert_int_equal(mojo_io_memory_track(io), 0);
	assert_int_equal(write_at(io, file, "new", 3, 0), 0);
	assert_int_equal(io->ops->flush(file), 0);
	assert_int_equal(write_at(io, file, "xyz", 3, 0), 0);
	io->ops->close(file);
	file = make_file(io, "unnamed");
	assert_int_equal(write_at(io, file, "data", 4, 0), 0);
	assert_int_equal(io->ops->flush(file), 0);

	assert_int_equal(mojo_io_memory_clone_durable(io, &copy), 0);
	other = open_file(copy, "old", 0);
	assert_content(copy, other, 0, "new", 3);
	copy->ops->close(other);
	assert_int_equal(copy->ops->open(copy, "unnamed", 0, &other), -ENOENT);
	mojo_io_free(copy);

	assert_int_equal(io->ops->rename(io, "unnamed", "named"), 0);
	io->ops->close(make_file(io, "empty"));
	assert_int_equal(io->ops->flush_dir(io, ""), 0);
	assert_int_equal(io->ops->unlink(io, "old"), 0);
	assert_int_equal(mojo_io_memory_clone_durable(io, &copy), 0);
	other = open_file(copy, "named", 0);
	assert_content(copy, other, 0, "data", 4);
	copy->ops->close(other);
	copy->ops->close(open_file(copy, "old", 0)); /* the unlink was not flushed */
	other = open_file(copy, "empty", 0);
	assert_int_equal(copy->ops->read(other, buf, sizeof(buf), 0, &got), 0);
	assert_int_equal(got, 0);
	copy->ops->close(other);
	mojo_io_free(copy);
	io->ops->close(file);
}

/* Of blocks that were not flushed some are new, some old, some torn; all that was flushed is there. */
static void test_memory_torn_clone_mixes(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file = make_file(io, "a");
	enum { BLOCKS = 64, BYTES = BLOCKS * 4096 };
	unsigned char *data = malloc(BYTES);
	unsigned counts[3] = { 0 };

	assert_non_null(data);
	memset(data, 1, BYTES);
	assert_int_equal(write_at(io, file, data, BYTES, 0), 0);
	assert_int_equal(mojo_io_memory_track(io), 0);
	memset(data, 2, BYTES);
	assert_int_equal(write_at(io, file, data, BYTES / 2, 0), 0);
	for (uint64_t seed = 0; seed < 4; seed++) {
		struct mojo_io_file *other;
		struct mojo_io *copy;
		size_t got;

		assert_int_equal(mojo_io_memory_clone_torn(io, seed, &copy), 0);
		other = open_file(copy, "a", 0);
		assert_int_equal(copy->ops->read(other, data, BYTES, 0, &got), 0);
		assert_int_equal(got, BYTES);
		for (size_t i = 0; i < BYTES; i++)
			assert_true(data[i] == 1 || (data[i] == 2 && i < BYTES / 2));
		for (size_t i = 0; i < BYTES / 2; i += 4096)
			counts[data[i] == 1 ? 0 : data[i + 4095] == 1 ? 1 : 2]++;
		copy->ops->close(other);
		mojo_io_free(copy);
	}
	assert_true(counts[0] && counts[1] && counts[2]);
	free(data);
	io->ops->close(file);
}

static void test_memory_load_replace_flip(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file = make_file(io, "a");
	size_t length;
	void *data;

	assert_int_equal(mojo_io_memory_load(io, "b", &data, &length), -ENOENT);
	assert_int_equal(mojo_io_memory_load(io, "", &data, &length), -EISDIR);
	assert_int_equal(mojo_io_memory_load(io, "a", &data, &length), 0);
	assert_int_equal(length, 0);
	free(data);
	assert_int_equal(mojo_io_memory_replace(io, "a", "abc", 3), 0);
	assert_content(io, file, 0, "abc", 3);
	assert_int_equal(mojo_io_memory_flip(io, "a", 1, 0x20), 0);
	assert_content(io, file, 0, "aBc", 3);
	assert_int_equal(mojo_io_memory_flip(io, "a", 3, 1), -ERANGE);
	assert_int_equal(mojo_io_memory_replace(io, "b", "x", 1), 0);
	assert_int_equal(mojo_io_memory_load(io, "b", &data, &length), 0);
	assert_int_equal(length, 1);
	assert_memory_equal(data, "x", 1);
	free(data);
	io->ops->close(file);
}

static void test_memory_faults(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file = make_file(io, "a");
	struct mojo_io_file *none;
	uint64_t operations = mojo_io_memory_operations(io);

	assert_int_equal(write_at(io, file, "00000000", 8, 0), 0);
	mojo_io_memory_fail(io, 2, -EIO, false);
	assert_int_equal(io->ops->flush(file), 0);
	assert_int_equal(io->ops->mkdir(io, "chunks"), 0);
	assert_int_equal(write_at(io, file, "11111111", 8, 0), -EIO);
	assert_content(io, file, 0, "11110000", 8);
	assert_int_equal(write_at(io, file, "22222222", 8, 0), 0);
	assert_int_equal(mojo_io_memory_operations(io) - operations, 5);

	mojo_io_memory_fail(io, 0, -ENOSPC, true);
	assert_int_equal(io->ops->flush(file), -ENOSPC);
	assert_int_equal(write_at(io, file, "33333333", 8, 0), -ENOSPC);
	assert_content(io, file, 0, "22222222", 8);
	assert_int_equal(io->ops->truncate(file, 0), -ENOSPC);
	assert_int_equal(io->ops->punch(file, 0, 4), -ENOSPC);
	assert_int_equal(io->ops->allocate(file, 0, 4), -ENOSPC);
	assert_int_equal(io->ops->rename(io, "a", "b"), -ENOSPC);
	assert_int_equal(io->ops->unlink(io, "a"), -ENOSPC);
	assert_int_equal(io->ops->mkdir(io, "d"), -ENOSPC);
	assert_int_equal(io->ops->flush_dir(io, ""), -ENOSPC);
	assert_int_equal(io->ops->open(io, "b", MOJO_IO_CREATE | MOJO_IO_WRITE, &none), -ENOSPC);
	io->ops->close(open_file(io, "a", MOJO_IO_CREATE | MOJO_IO_WRITE));
	assert_content(io, file, 0, "22222222", 8);
	mojo_io_memory_fail(io, 0, 0, false);
	assert_int_equal(io->ops->flush(file), 0);
	io->ops->close(file);
}

static void test_memory_limit(void **state)
{
	struct mojo_io *io = ((struct fixture *)*state)->io;
	struct mojo_io_file *file = make_file(io, "a");
	unsigned char block[4096] = { 1 };
	struct mojo_io_space space;

	mojo_io_memory_limit(io, 8192);
	assert_int_equal(write_at(io, file, block, 4096, 0), 0);
	assert_int_equal(write_at(io, file, block, 4096, 4096), 0);
	assert_int_equal(write_at(io, file, block, 4096, 8192), -ENOSPC);
	assert_int_equal(write_at(io, file, block, 4096, 0), 0);
	assert_int_equal(io->ops->allocate(file, 0, 12288), -ENOSPC);
	assert_int_equal(io->ops->space(io, &space), 0);
	assert_int_equal(space.total, 8192);
	assert_int_equal(space.available, 0);
	assert_int_equal(io->ops->punch(file, 0, 4096), 0);
	assert_int_equal(write_at(io, file, block, 4096, 8192), 0);
	io->ops->close(file);
	assert_int_equal(io->ops->unlink(io, "a"), 0);
	assert_int_equal(io->ops->space(io, &space), 0);
	assert_int_equal(space.available, 8192);
}

/* A process that is killed may leave any part of the event that it was writing; the next session goes on behind the
 * events that are whole. */
static void test_a_recording_is_cut_behind_its_last_whole_event(void **state)
{
	char path[] = "/tmp/mojofs-test-io-XXXXXX";
	int fd = mkstemp(path);
	struct mojo_io *inner, *io;
	unsigned char block[4096] = { 1 };
	struct mojo_io_event event;
	size_t at = 0, last = 0;
	struct stat st;

	(void)state;
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(mojo_io_memory(&inner), 0);
	assert_int_equal(mojo_io_record(inner, fd, &io), 0);
	struct mojo_io_file *file = make_file(io, "a");
	assert_int_equal(write_at(io, file, block, sizeof(block), 0), 0);
	io->ops->close(file);
	mojo_io_free(io);

	assert_int_equal(fstat(fd, &st), 0);
	size_t size = (size_t)st.st_size;
	unsigned char *bytes = malloc(size);
	assert_non_null(bytes);
	assert_int_equal(pread(fd, bytes, size, 0), size);
	for (size_t cut = size; cut > 0; cut--) {
		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, bytes, cut, 0), cut);
		assert_int_equal(mojo_io_record_trim(fd), 0);
		for (at = last = 0; mojo_io_event_next(bytes, cut, &at, &event) == 0;)
			last = at;
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_size, last);
	}
	assert_int_equal(pwrite(fd, "something else, and long enough for an event's head", 51, 0), 51);
	assert_int_equal(mojo_io_record_trim(fd), -EUCLEAN);
	free(bytes);
	mojo_io_free(inner);
	close(fd);
}

#define ON_EACH(test)                                                     \
	{ "host: " #test, test, setup_host, teardown, NULL },             \
		{ "memory: " #test, test, setup_memory, teardown, NULL }, \
	{                                                                 \
		"recorded: " #test, test, setup_recorded, teardown, NULL  \
	}
#define ON_MEMORY(test) cmocka_unit_test_setup_teardown(test, setup_memory, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_EACH(test_open_flags),
		ON_EACH(test_only_regular_files_are_opened),
		ON_EACH(test_read_stops_at_the_end),
		ON_EACH(test_write_behind_the_end_leaves_zeros),
		ON_EACH(test_write_takes_any_number_of_buffers),
		ON_EACH(test_truncate_cuts_and_grows_with_zeros),
		ON_EACH(test_what_is_prepared_reads_as_zeros_and_keeps_its_space),
		ON_EACH(test_what_is_written_through_is_there),
		ON_EACH(test_allocate_takes_space_and_punch_gives_it_back),
		ON_EACH(test_locks_are_per_open_file),
		ON_EACH(test_names),
		ON_EACH(test_list),
		ON_EACH(test_space_clock_and_random),
		ON_EACH(test_threads_share_a_file),
		cmocka_unit_test(test_host_wants_a_directory),
		cmocka_unit_test_setup_teardown(test_host_does_not_take_a_part_for_the_whole, setup_host, teardown),
		cmocka_unit_test_setup_teardown(test_host_survives_a_rename_above, setup_host, teardown),
		cmocka_unit_test_setup_teardown(test_host_begins_to_write_out_what_is_much, setup_host, teardown),
		ON_MEMORY(test_memory_preallocation_is_cheap),
		ON_MEMORY(test_memory_clone_is_independent),
		ON_MEMORY(test_memory_what_is_written_through_is_durable_alone),
		ON_MEMORY(test_memory_durable_clone_is_what_was_flushed),
		ON_MEMORY(test_memory_torn_clone_mixes),
		ON_MEMORY(test_memory_load_replace_flip),
		ON_MEMORY(test_memory_faults),
		ON_MEMORY(test_memory_limit),
		cmocka_unit_test(test_a_recording_is_cut_behind_its_last_whole_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
