/* SPDX-License-Identifier: MIT */
/* What mojo.h promises at its edges: refusals, limits, damage, crashes, faults, space, threads. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "checksum.h"
#include "chunk.h"
#include "format.h"
#include "io_memory.h"
#include "mojo.h"

#define PAGE        4096u
#define CHUNK_BYTES (4u << 20)

struct fixture {
	struct mojo_io *io;
	struct mojo_store *store;
	pthread_mutex_t mutex; /* guards events */
	char events[16384];    /* one a line */
	struct mojo_geometry geometry;
	struct mojo_config config;
};

static void on_event(void *arg, enum mojo_severity severity, const char *text)
{
	struct fixture *f = arg;
	size_t used;

	(void)severity;
	pthread_mutex_lock(&f->mutex);
	used = strlen(f->events);
	snprintf(f->events + used, sizeof(f->events) - used, "%s\n", text);
	pthread_mutex_unlock(&f->mutex);
}

static int setup_empty(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	pthread_mutex_init(&f->mutex, NULL);
	f->geometry = (struct mojo_geometry){
		.page_size = PAGE,
		.pages_per_slot = 64,
		.chunk_bytes = CHUNK_BYTES,
		.root_uid = 1000,
		.root_gid = 1001,
		.root_mode = 0750,
	};
	f->config = (struct mojo_config){
		.cache_bytes = 4 << 20,
		.checkpoint_bytes = 1 << 20,
		.flush_ms = UINT32_MAX,
		.no_background = true,
		.owner = "the first opener",
		.event = on_event,
		.event_arg = f,
	};
	assert_int_equal(mojo_io_memory(&f->io), 0);
	*state = f;
	return 0;
}

static void open_store(struct fixture *f)
{
	assert_null(f->store);
	assert_int_equal(mojo_open(f->io, &f->config, &f->store), 0);
}

static void close_store(struct fixture *f)
{
	struct mojo_store *store = f->store;

	f->store = NULL;
	assert_int_equal(mojo_close(store), 0);
}

static void abandon_store(struct fixture *f)
{
	mojo_abandon(f->store);
	f->store = NULL;
}

/* Opens anew, with so large a limit that no checkpoint comes unasked. */
static void without_checkpoints(struct fixture *f)
{
	close_store(f);
	f->config.checkpoint_bytes = 1ull << 40;
	open_store(f);
}

static int setup(void **state)
{
	struct fixture *f;

	setup_empty(state);
	f = *state;
	assert_int_equal(mojo_create(f->io, &f->geometry, &f->config), 0);
	open_store(f);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->store)
		mojo_abandon(f->store);
	mojo_io_free(f->io);
	pthread_mutex_destroy(&f->mutex);
	free(f);
	return 0;
}

/* The io becomes @io, with which the fixture goes on. */
static void replace_io(struct fixture *f, struct mojo_io *io)
{
	assert_null(f->store);
	mojo_io_free(f->io);
	f->io = io;
}

static uint32_t make(struct fixture *f, uint32_t dir, const char *name, uint32_t mode)
{
	struct mojo_attr attr;

	assert_int_equal(mojo_mknod(f->store, dir, name, mode, 0, 1, 2, &attr), 0);
	return attr.bucket;
}

static uint32_t make_file(struct fixture *f, const char *name)
{
	return make(f, MOJO_ROOT_BUCKET, name, S_IFREG | 0644);
}

/* A pattern that is different for each tag and each 8 bytes. */
static void fill(void *buf, size_t length, uint64_t tag)
{
	unsigned char *to = buf;

	for (size_t i = 0; i < length; i++) {
		uint64_t word = (tag + 1) * 0x9e3779b97f4a7c15ull + (i / 8) * 0xc2b2ae3d27d4eb4full;

		word ^= word >> 29;
		to[i] = (unsigned char)(word >> i % 8 * 8);
	}
}

static void put(struct fixture *f, uint32_t bucket, uint64_t offset, size_t length, uint64_t tag)
{
	unsigned char *buf = malloc(length + 1);

	assert_non_null(buf);
	fill(buf, length, tag);
	assert_int_equal(mojo_write(f->store, bucket, offset, buf, length), 0);
	free(buf);
}

static void assert_put(struct fixture *f, uint32_t version, uint32_t bucket, uint64_t offset, size_t length,
		       uint64_t tag)
{
	unsigned char *wanted = malloc(length + 1);
	unsigned char *buf = malloc(length + 1);
	size_t got;

	assert_non_null(wanted);
	assert_non_null(buf);
	fill(wanted, length, tag);
	assert_int_equal(mojo_read(f->store, version, bucket, offset, buf, length, &got), 0);
	assert_int_equal(got, length);
	assert_memory_equal(buf, wanted, length);
	free(wanted);
	free(buf);
}

static void assert_zeros(struct fixture *f, uint32_t version, uint32_t bucket, uint64_t offset, size_t length)
{
	unsigned char *buf = malloc(length);
	size_t got;

	assert_non_null(buf);
	assert_int_equal(mojo_read(f->store, version, bucket, offset, buf, length, &got), 0);
	assert_int_equal(got, length);
	for (size_t i = 0; i < length; i++)
		assert_int_equal(buf[i], 0);
	free(buf);
}

static struct mojo_attr attr_of(struct fixture *f, uint32_t version, uint32_t bucket)
{
	struct mojo_attr attr;

	assert_int_equal(mojo_getattr(f->store, version, bucket, &attr), 0);
	return attr;
}

static struct mojo_info info_of(struct fixture *f)
{
	struct mojo_info info;

	assert_int_equal(mojo_info(f->store, &info), 0);
	return info;
}

static uint32_t lookup(struct fixture *f, uint32_t version, const char *path)
{
	struct mojo_attr attr;

	assert_int_equal(mojo_resolve(f->store, version, path, &attr), 0);
	return attr.bucket;
}

static uint32_t commit(struct fixture *f, const char *message)
{
	uint32_t version;

	assert_int_equal(mojo_commit(f->store, message, strlen(message), &version), 0);
	return version;
}

static int resize(struct fixture *f, uint32_t bucket, uint64_t size)
{
	struct mojo_attr attr = { .size = size };

	return mojo_setattr(f->store, bucket, MOJO_SET_SIZE, &attr, &attr);
}

/* ---- creation and opening ----------------------------------------------------------------- */

static int count_name(void *arg, const char *name)
{
	(void)name;
	(*(unsigned *)arg)++;
	return 0;
}

static unsigned names_in(struct mojo_io *io, const char *path)
{
	unsigned count = 0;

	assert_int_equal(io->ops->list(io, path, count_name, &count), 0);
	return count;
}

static void test_create_refuses_a_directory_in_use(void **state)
{
	struct fixture *f = *state;
	size_t length;
	void *data;

	assert_int_equal(mojo_io_memory_replace(f->io, "thesis.txt", "years of work", 13), 0);
	assert_int_equal(mojo_create(f->io, &f->geometry, &f->config), -ENOTEMPTY);
	assert_true(f->events[0]);
	assert_int_equal(names_in(f->io, ""), 1);
	assert_int_equal(mojo_io_memory_load(f->io, "thesis.txt", &data, &length), 0);
	assert_int_equal(length, 13);
	assert_memory_equal(data, "years of work", 13);
	free(data);
}

static void test_create_refuses_a_store(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");

	put(f, bucket, 0, 10000, 1);
	close_store(f);
	assert_int_equal(mojo_create(f->io, &f->geometry, &f->config), -EEXIST);
	open_store(f);
	assert_put(f, MOJO_ACTIVE, bucket, 0, 10000, 1);
	assert_int_equal(mojo_create(f->io, &f->geometry, &f->config), -EEXIST);
	put(f, bucket, 0, 10000, 2);
	assert_int_equal(mojo_sync(f->store), 0);
}

static void test_create_refuses_bad_geometry(void **state)
{
	static const struct mojo_geometry bad[] = {
		{ .page_size = 2048 },           { .page_size = 131072 },
		{ .page_size = 5000 },           { .page_size = 1 },
		{ .pages_per_slot = 32 },        { .pages_per_slot = 131072 },
		{ .pages_per_slot = 100 },       { .chunk_bytes = 2 << 20 },
		{ .chunk_bytes = 2ull << 30 },   { .chunk_bytes = (4 << 20) + 4096 },
		{ .root_mode = S_IFREG | 0644 },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		f->events[0] = 0;
		assert_int_equal(mojo_create(f->io, &bad[i], &f->config), -EINVAL);
		assert_true(f->events[0]);
		assert_int_equal(names_in(f->io, ""), 0);
	}
	assert_int_equal(mojo_io_memory_operations(f->io), 0);
}

static void test_create_with_defaults(void **state)
{
	struct fixture *f = *state;
	struct mojo_attr attr;
	struct mojo_info info;

	assert_int_equal(mojo_create(f->io, NULL, NULL), 0);
	assert_int_equal(mojo_open(f->io, NULL, &f->store), 0);
	info = info_of(f);
	assert_int_equal(info.format, MOJO_FORMAT_VERSION);
	assert_int_equal(info.page_size, 4096);
	assert_int_equal(info.pages_per_slot, 4096);
	assert_int_equal(info.chunk_bytes, 64 << 20);
	assert_int_equal(info.active_version, 1);
	assert_int_equal(info.oldest_version, 1);
	assert_int_equal(info.frozen_versions, 0);
	assert_int_equal(info.files, 0);
	assert_int_equal(info.directories, 1);
	assert_int_equal(strlen(info.store_id), 32);
	assert_int_equal(strspn(info.store_id, "0123456789abcdef"), 32);
	assert_false(info.read_only);
	assert_false(info.failed);
	attr = attr_of(f, MOJO_ACTIVE, MOJO_ROOT_BUCKET);
	assert_int_equal(attr.mode, S_IFDIR | 0755);
	assert_int_equal(attr.size, 0);
	close_store(f);
}

/* Fails creation at each of its steps in turn; a second attempt must always lead to a good store. */
static void test_create_goes_on_where_it_was_cut_short(void **state)
{
	struct fixture *f = *state;

	for (uint64_t step = 0;; step++) {
		struct mojo_io *io;
		int first, second;

		assert_int_equal(mojo_io_memory(&io), 0);
		replace_io(f, io);
		assert_int_equal(mojo_io_memory_track(f->io), 0);
		mojo_io_memory_fail(f->io, step, -EIO, true);
		first = mojo_create(f->io, &f->geometry, &f->config);
		mojo_io_memory_fail(f->io, 0, 0, false);
		if (step % 2) {
			assert_int_equal(mojo_io_memory_clone_durable(f->io, &io), 0);
			replace_io(f, io);
		}
		second = mojo_create(f->io, &f->geometry, &f->config);
		if (second != 0)
			assert_int_equal(second, -EEXIST);
		open_store(f);
		put(f, make_file(f, "a"), 0, 5000, 1);
		close_store(f);
		open_store(f);
		assert_put(f, MOJO_ACTIVE, lookup(f, MOJO_ACTIVE, "a"), 0, 5000, 1);
		close_store(f);
		if (first == 0)
			break;
		assert_int_equal(first, -EIO);
		assert_true(step < 100);
	}
}

static void test_open_wants_a_store(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(mojo_open(f->io, &f->config, &f->store), -ENOENT);
	assert_true(f->events[0]);
	assert_int_equal(names_in(f->io, ""), 0);
	assert_null(f->store);
	assert_int_equal(mojo_close(NULL), 0);
}

static void test_one_writer_or_many_readers(void **state)
{
	struct fixture *f = *state;
	struct mojo_store *other = NULL, *third;
	struct mojo_config config = f->config;

	config.owner = "the second opener";
	assert_int_equal(mojo_open(f->io, &config, &other), -EBUSY);
	assert_non_null(strstr(f->events, "the first opener"));
	f->events[0] = 0;
	config.read_only = true;
	assert_int_equal(mojo_open(f->io, &config, &other), -EBUSY);
	assert_non_null(strstr(f->events, "the first opener"));
	assert_null(other);
	close_store(f);

	assert_int_equal(mojo_open(f->io, &config, &other), 0);
	assert_int_equal(mojo_open(f->io, &config, &third), 0);
	assert_int_equal(mojo_open(f->io, &f->config, &f->store), -EBUSY);
	assert_int_equal(mojo_close(other), 0);
	assert_int_equal(mojo_open(f->io, &f->config, &f->store), -EBUSY);
	assert_int_equal(mojo_close(third), 0);
	open_store(f);
}

static void corrupt_state(struct fixture *f, unsigned slot, uint64_t offset)
{
	assert_int_equal(
		mojo_io_memory_flip(f->io, MOJO_STATE_FILE, (uint64_t)slot * MOJO_ROOT_SLOT_BYTES + offset, 0x40), 0);
}

static void test_a_newer_format_is_refused_untouched(void **state)
{
	struct fixture *f = *state;
	uint64_t operations;
	void *state_file;
	size_t length;

	put(f, make_file(f, "a"), 0, 5000, 1);
	close_store(f);
	/* The number alone is rot: of one slot it costs nothing. */
	corrupt_state(f, 0, 8);
	open_store(f);
	close_store(f);
	/* A program of a newer format writes a checksum, too. */
	assert_int_equal(mojo_io_memory_load(f->io, MOJO_STATE_FILE, &state_file, &length), 0);
	mojo_put32((uint8_t *)state_file + 8, MOJO_FORMAT_VERSION + 1);
	mojo_put64((uint8_t *)state_file + 4088, mojo_checksum64(state_file, 4088, 0));
	assert_int_equal(mojo_io_memory_replace(f->io, MOJO_STATE_FILE, state_file, length), 0);
	free(state_file);
	operations = mojo_io_memory_operations(f->io);
	f->events[0] = 0;
	assert_int_equal(mojo_open(f->io, &f->config, &f->store), -EPROTONOSUPPORT);
	assert_true(f->events[0]);
	assert_int_equal(mojo_io_memory_operations(f->io), operations);
	f->config.read_only = true;
	assert_int_equal(mojo_open(f->io, &f->config, &f->store), -EPROTONOSUPPORT);
	assert_int_equal(mojo_io_memory_operations(f->io), operations);
	assert_int_equal(mojo_create(f->io, &f->geometry, &f->config), -EEXIST);
}

static void test_two_damaged_roots_are_refused_untouched(void **state)
{
	static const size_t cut[] = { 0, 100, 4096 };
	struct fixture *f = *state;
	uint64_t operations;
	size_t length;
	void *data;

	close_store(f);
	assert_int_equal(mojo_io_memory_load(f->io, MOJO_STATE_FILE, &data, &length), 0);
	assert_int_equal(length, MOJO_ROOT_SLOTS * MOJO_ROOT_SLOT_BYTES);
	corrupt_state(f, 0, 100);
	corrupt_state(f, 1, 100);
	operations = mojo_io_memory_operations(f->io);
	f->events[0] = 0;
	assert_int_equal(mojo_open(f->io, &f->config, &f->store), -EUCLEAN);
	assert_true(f->events[0]);
	assert_int_equal(mojo_io_memory_operations(f->io), operations);
	for (size_t i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
		assert_int_equal(mojo_io_memory_replace(f->io, MOJO_STATE_FILE, data, cut[i]), 0);
		if (cut[i] > 200)
			corrupt_state(f, 0, 200);
		assert_int_equal(mojo_open(f->io, &f->config, &f->store), -EUCLEAN);
	}
	assert_int_equal(mojo_io_memory_replace(f->io, MOJO_STATE_FILE, data, length), 0);
	open_store(f);
	free(data);
}

/* Either slot may go bad, at any moment between checkpoints, and nothing is lost. */
static void test_one_damaged_root_costs_nothing(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	uint64_t tag = 0;

	for (unsigned round = 0; round < 12; round++) {
		struct mojo_io *copy;
		struct fixture g;

		for (unsigned i = 0; i < 3; i++) {
			put(f, bucket, 0, 700 * 1024, ++tag);
			assert_int_equal(mojo_sync(f->store), 0);
			if (i == round % 4)
				assert_int_equal(mojo_checkpoint(f->store), 0);
		}
		if (round % 5 == 0)
			commit(f, "round");
		for (unsigned slot = 0; slot < 2; slot++) {
			assert_int_equal(mojo_io_memory_clone(f->io, &copy), 0);
			g = *f;
			g.io = copy;
			g.store = NULL;
			g.config.event_arg = f;
			corrupt_state(&g, slot, 4000);
			f->events[0] = 0;
			open_store(&g);
			assert_true(f->events[0]);
			assert_put(&g, MOJO_ACTIVE, bucket, 0, 700 * 1024, tag);
			put(&g, bucket, 0, 100, 1);
			close_store(&g);
			open_store(&g);
			assert_put(&g, MOJO_ACTIVE, bucket, 0, 100, 1);
			close_store(&g);
			mojo_io_free(copy);
		}
	}
}

static void test_read_only_writes_nothing(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	uint32_t dir = make(f, MOJO_ROOT_BUCKET, "d", S_IFDIR | 0755);
	struct mojo_attr attr = { 0 };
	uint64_t operations;
	uint32_t version;

	put(f, bucket, 0, 10000, 1);
	commit(f, "one");
	put(f, bucket, 5000, 10000, 2);
	assert_int_equal(mojo_sync(f->store), 0);
	put(f, bucket, 0, 10000, 3); /* lost with the crash */
	abandon_store(f);

	operations = mojo_io_memory_operations(f->io);
	f->config.read_only = true;
	open_store(f);
	assert_true(info_of(f).read_only);
	assert_put(f, 1, bucket, 0, 10000, 1);
	assert_put(f, MOJO_ACTIVE, bucket, 5000, 10000, 2);
	assert_int_equal(mojo_write(f->store, bucket, 0, "x", 1), -EROFS);
	assert_int_equal(mojo_setattr(f->store, bucket, MOJO_SET_MODE, &attr, &attr), -EROFS);
	assert_int_equal(mojo_mknod(f->store, dir, "n", S_IFREG, 0, 0, 0, &attr), -EROFS);
	assert_int_equal(mojo_symlink(f->store, dir, "n", "t", 0, 0, &attr), -EROFS);
	assert_int_equal(mojo_unlink(f->store, MOJO_ROOT_BUCKET, "a"), -EROFS);
	assert_int_equal(mojo_rmdir(f->store, MOJO_ROOT_BUCKET, "d"), -EROFS);
	assert_int_equal(mojo_rename(f->store, MOJO_ROOT_BUCKET, "a", dir, "b", 0), -EROFS);
	assert_int_equal(mojo_fallocate(f->store, bucket, 0, 0, 100000), -EROFS);
	assert_int_equal(mojo_commit(f->store, "no", 2, &version), -EROFS);
	assert_int_equal(mojo_version_drop(f->store, 1), -EROFS);
	assert_int_equal(mojo_checkpoint(f->store), -EROFS);
	assert_int_equal(mojo_sync(f->store), 0);
	assert_int_equal(mojo_hold(f->store, bucket), 0);
	assert_int_equal(mojo_release(f->store, bucket), 0);
	close_store(f);
	assert_int_equal(mojo_io_memory_operations(f->io), operations);

	f->config.read_only = false;
	open_store(f);
	assert_put(f, MOJO_ACTIVE, bucket, 5000, 10000, 2);
}

static void test_every_page_size(void **state)
{
	struct fixture *f = *state;

	for (uint32_t page_size = 4096; page_size <= 65536; page_size *= 2) {
		struct mojo_io *io;
		uint32_t bucket;

		assert_int_equal(mojo_io_memory(&io), 0);
		replace_io(f, io);
		f->geometry.page_size = page_size;
		f->geometry.pages_per_slot = 64 * (page_size / 4096);
		assert_int_equal(mojo_create(f->io, &f->geometry, &f->config), 0);
		open_store(f);
		bucket = make_file(f, "a");
		put(f, bucket, 0, 3000000, 1);
		commit(f, "one");
		put(f, bucket, page_size - 10, 20, 2);
		put(f, bucket, 5 * page_size, page_size, 3);
		close_store(f);
		open_store(f);
		assert_put(f, 1, bucket, 0, 3000000, 1);
		assert_put(f, 2, bucket, page_size - 10, 20, 2);
		assert_put(f, 2, bucket, 5 * page_size, page_size, 3);
		assert_int_equal(info_of(f).page_size, page_size);
		close_store(f);
	}
}

/* ---- names -------------------------------------------------------------------------------- */

static void test_names_have_limits(void **state)
{
	static const char *const bad[] = { "", ".", "..", "a/b", "/" };
	struct fixture *f = *state;
	char longest[MOJO_NAME_MAX + 1], too_long[MOJO_NAME_MAX + 2];
	struct mojo_attr attr;

	memset(longest, 'n', MOJO_NAME_MAX);
	longest[MOJO_NAME_MAX] = 0;
	memset(too_long, 'n', MOJO_NAME_MAX + 1);
	too_long[MOJO_NAME_MAX + 1] = 0;
	make_file(f, longest);
	make_file(f, "@any \x01\xff\n name");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(mojo_mknod(f->store, 1, bad[i], S_IFREG, 0, 0, 0, &attr), -EINVAL);
		assert_int_equal(mojo_symlink(f->store, 1, bad[i], "t", 0, 0, &attr), -EINVAL);
		assert_int_equal(mojo_rename(f->store, 1, longest, 1, bad[i], 0), -EINVAL);
	}
	assert_int_equal(mojo_mknod(f->store, 1, too_long, S_IFREG, 0, 0, 0, &attr), -ENAMETOOLONG);
	assert_int_equal(mojo_symlink(f->store, 1, too_long, "t", 0, 0, &attr), -ENAMETOOLONG);
	assert_int_equal(mojo_rename(f->store, 1, longest, 1, too_long, 0), -ENAMETOOLONG);
	assert_int_equal(mojo_lookup(f->store, MOJO_ACTIVE, 1, too_long, &attr), -ENAMETOOLONG);
	close_store(f);
	open_store(f);
	assert_int_equal(mojo_lookup(f->store, MOJO_ACTIVE, 1, longest, &attr), 0);
	assert_int_equal(mojo_lookup(f->store, MOJO_ACTIVE, 1, "@any \x01\xff\n name", &attr), 0);
	assert_int_equal(info_of(f).files, 2);
}

static void test_symbolic_links_have_limits(void **state)
{
	struct fixture *f = *state;
	char target[MOJO_SYMLINK_MAX + 2], got[MOJO_SYMLINK_MAX + 1];
	struct mojo_attr attr;

	memset(target, 't', MOJO_SYMLINK_MAX + 1);
	target[MOJO_SYMLINK_MAX + 1] = 0;
	assert_int_equal(mojo_symlink(f->store, 1, "l", target, 5, 6, &attr), -ENAMETOOLONG);
	target[MOJO_SYMLINK_MAX] = 0;
	assert_int_equal(mojo_symlink(f->store, 1, "l", target, 5, 6, &attr), 0);
	assert_int_equal(attr.size, MOJO_SYMLINK_MAX);
	assert_int_equal(attr.mode, S_IFLNK | 0777);
	assert_int_equal(attr.uid, 5);
	assert_int_equal(attr.gid, 6);
	commit(f, "");
	assert_int_equal(mojo_unlink(f->store, 1, "l"), 0);
	close_store(f);
	open_store(f);
	assert_int_equal(mojo_readlink(f->store, 1, attr.bucket, got), 0);
	assert_string_equal(got, target);
	assert_int_equal(mojo_readlink(f->store, MOJO_ACTIVE, attr.bucket, got), -ENOENT);
	assert_int_equal(mojo_readlink(f->store, 1, MOJO_ROOT_BUCKET, got), -EINVAL);
}

static void test_wrong_kinds_are_refused(void **state)
{
	struct fixture *f = *state;
	uint32_t file = make_file(f, "file");
	uint32_t dir = make(f, 1, "dir", S_IFDIR | 0755);
	uint32_t fifo = make(f, 1, "fifo", S_IFIFO | 0644);
	struct mojo_attr attr = { 0 };
	char buf[8];
	size_t got;

	assert_int_equal(mojo_read(f->store, MOJO_ACTIVE, dir, 0, buf, 8, &got), -EISDIR);
	assert_int_equal(mojo_write(f->store, dir, 0, "x", 1), -EISDIR);
	assert_int_equal(resize(f, dir, 10), -EISDIR);
	assert_int_equal(mojo_fallocate(f->store, dir, 0, 0, 1), -EISDIR);
	assert_int_equal(mojo_write(f->store, fifo, 0, "x", 1), -EINVAL);
	assert_int_equal(mojo_write(f->store, 999, 0, "x", 1), -ENOENT);
	assert_int_equal(mojo_read(f->store, MOJO_ACTIVE, 999, 0, buf, 8, &got), -ENOENT);
	assert_int_equal(mojo_getattr(f->store, MOJO_ACTIVE, 999, &attr), -ENOENT);
	assert_int_equal(mojo_setattr(f->store, 999, MOJO_SET_MODE, &attr, &attr), -ENOENT);
	assert_int_equal(mojo_hold(f->store, 999), -ENOENT);
	assert_int_equal(mojo_mknod(f->store, file, "x", S_IFREG, 0, 0, 0, &attr), -ENOTDIR);
	assert_int_equal(mojo_mknod(f->store, 999, "x", S_IFREG, 0, 0, 0, &attr), -ENOENT);
	assert_int_equal(mojo_lookup(f->store, MOJO_ACTIVE, file, "x", &attr), -ENOTDIR);
	assert_int_equal(mojo_rename(f->store, 1, "file", file, "x", 0), -ENOTDIR);
	assert_int_equal(mojo_rename(f->store, 1, "file", 1, "other", 8), -EINVAL);
	assert_int_equal(mojo_resolve(f->store, MOJO_ACTIVE, "file/x", &attr), -ENOTDIR);
	assert_int_equal(mojo_resolve(f->store, MOJO_ACTIVE, "dir/x", &attr), -ENOENT);
	assert_int_equal(mojo_resolve(f->store, MOJO_ACTIVE, "", &attr), 0);
	assert_int_equal(attr.bucket, MOJO_ROOT_BUCKET);
	assert_int_equal(mojo_fallocate(f->store, file, MOJO_FALLOC_PUNCH_HOLE, 0, 1), -EOPNOTSUPP);
	assert_int_equal(mojo_fallocate(f->store, file, 8, 0, 1), -EOPNOTSUPP);
	assert_int_equal(mojo_fallocate(f->store, file, 0, 0, 0), -EINVAL);
	assert_int_equal(info_of(f).files, 2);
	assert_int_equal(info_of(f).directories, 2);
}

static void test_paths(void **state)
{
	struct fixture *f = *state;
	uint32_t a = make(f, 1, "a", S_IFDIR | 0755);
	uint32_t b = make(f, a, "b", S_IFDIR | 0755);
	uint32_t c = make(f, b, "c", S_IFREG | 0644);
	char path[32];

	assert_int_equal(mojo_path(f->store, c, path, sizeof(path)), 0);
	assert_string_equal(path, "a/b/c");
	assert_int_equal(mojo_path(f->store, c, path, 5), -ERANGE);
	assert_int_equal(mojo_path(f->store, c, path, 6), 0);
	assert_int_equal(mojo_path(f->store, 1, path, sizeof(path)), 0);
	assert_string_equal(path, "");
	assert_int_equal(mojo_rename(f->store, a, "b", 1, "bb", 0), 0);
	assert_int_equal(mojo_path(f->store, c, path, sizeof(path)), 0);
	assert_string_equal(path, "bb/c");
	assert_int_equal(mojo_hold(f->store, c), 0);
	assert_int_equal(mojo_unlink(f->store, b, "c"), 0);
	assert_int_equal(mojo_path(f->store, c, path, sizeof(path)), -ENOENT);
	assert_int_equal(mojo_release(f->store, c), 0);
	assert_int_equal(mojo_path(f->store, c, path, sizeof(path)), -ENOENT);
}

static void test_a_removed_directory_takes_no_names(void **state)
{
	struct fixture *f = *state;
	uint32_t dir = make(f, 1, "d", S_IFDIR | 0755);
	struct mojo_attr attr;

	make_file(f, "f");
	assert_int_equal(mojo_hold(f->store, dir), 0);
	assert_int_equal(mojo_rmdir(f->store, 1, "d"), 0);
	assert_int_equal(mojo_mknod(f->store, dir, "x", S_IFREG, 0, 0, 0, &attr), -ENOENT);
	assert_int_equal(mojo_symlink(f->store, dir, "x", "t", 0, 0, &attr), -ENOENT);
	assert_int_equal(mojo_rename(f->store, 1, "f", dir, "f", 0), -ENOENT);
	assert_int_equal(mojo_release(f->store, dir), 0);
	assert_int_equal(mojo_getattr(f->store, MOJO_ACTIVE, dir, &attr), -ENOENT);
	assert_int_equal(info_of(f).directories, 1);
	assert_int_equal(info_of(f).files, 1);
}

static void test_an_unlinked_file_lives_while_held(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	struct mojo_attr attr;

	put(f, bucket, 0, 20000, 1);
	assert_int_equal(mojo_hold(f->store, bucket), 0);
	assert_int_equal(mojo_hold(f->store, bucket), 0);
	assert_int_equal(mojo_unlink(f->store, 1, "a"), 0);
	assert_int_equal(info_of(f).files, 0);
	make_file(f, "a");
	put(f, bucket, 10000, 20000, 2);
	assert_int_equal(mojo_sync(f->store), 0);
	assert_int_equal(mojo_checkpoint(f->store), 0);
	commit(f, "while nameless");
	assert_put(f, MOJO_ACTIVE, bucket, 0, 10000, 1);
	assert_put(f, MOJO_ACTIVE, bucket, 10000, 20000, 2);
	attr = attr_of(f, MOJO_ACTIVE, bucket);
	assert_int_equal(attr.nlink, 0);
	assert_int_equal(attr.parent, 0);
	assert_int_equal(mojo_release(f->store, bucket), 0);
	assert_put(f, MOJO_ACTIVE, bucket, 0, 10000, 1);
	assert_int_equal(mojo_release(f->store, bucket), 0);
	assert_int_equal(mojo_getattr(f->store, MOJO_ACTIVE, bucket, &attr), -ENOENT);
}

/* Held and nameless at a crash: gone, with its space, at the next opening. */
static void test_a_crash_removes_the_nameless(void **state)
{
	struct fixture *f = *state;
	struct mojo_info info;

	for (unsigned round = 0; round < 10; round++) {
		uint32_t bucket = make_file(f, "a");
		struct mojo_attr attr;

		put(f, bucket, 0, 3 << 20, round);
		assert_int_equal(mojo_hold(f->store, bucket), 0);
		assert_int_equal(mojo_unlink(f->store, 1, "a"), 0);
		assert_int_equal(round % 2 ? mojo_sync(f->store) : mojo_checkpoint(f->store), 0);
		abandon_store(f);
		open_store(f);
		assert_int_equal(mojo_getattr(f->store, MOJO_ACTIVE, bucket, &attr), -ENOENT);
		assert_int_equal(info_of(f).files, 0);
	}
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(mojo_checkpoint(f->store), 0);
	info = info_of(f);
	assert_true(info.store_bytes <= 6 * CHUNK_BYTES);
}

/* ---- directories with many names ---------------------------------------------------------- */

#define MANY 10000u

struct seen {
	unsigned char count[MANY];
	unsigned total, room;
	uint64_t cookie;
	bool stopped;
};

static bool see(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct seen *seen = arg;
	unsigned number;

	if (!seen->room) {
		seen->stopped = true;
		return false;
	}
	seen->room--;
	seen->cookie = cookie;
	if (sscanf(name, "file-%u", &number) == 1 && number < MANY && attr->size == number % 7) {
		seen->count[number]++;
		seen->total++;
	}
	return true;
}

static void list_many(struct fixture *f, uint32_t version, struct seen *seen)
{
	memset(seen, 0, sizeof(*seen));
	do {
		seen->stopped = false;
		seen->room = 777;
		assert_int_equal(mojo_readdir(f->store, version, MOJO_ROOT_BUCKET, seen->cookie, see, seen), 0);
	} while (seen->stopped);
}

static void test_ten_thousand_files(void **state)
{
	struct fixture *f = *state;
	struct seen *seen = malloc(sizeof(*seen));
	char name[32];

	assert_non_null(seen);
	for (unsigned i = 0; i < MANY; i++) {
		uint32_t bucket;

		snprintf(name, sizeof(name), "file-%u", i);
		bucket = make_file(f, name);
		if (i % 7)
			put(f, bucket, 0, i % 7, i);
	}
	commit(f, "all");
	for (unsigned pass = 0; pass < 2; pass++) {
		list_many(f, MOJO_ACTIVE, seen);
		assert_int_equal(seen->total, MANY);
		for (unsigned i = 0; i < MANY; i++)
			assert_int_equal(seen->count[i], 1);
		assert_int_equal(info_of(f).files, MANY);
		assert_int_equal(attr_of(f, MOJO_ACTIVE, MOJO_ROOT_BUCKET).size, MANY);
		close_store(f);
		open_store(f);
	}

	/* Remove and add names while listing: what stays throughout is seen once. */
	memset(seen, 0, sizeof(*seen));
	for (unsigned i = 0; i < MANY; i += 2) {
		seen->stopped = false;
		seen->room = 3;
		assert_int_equal(mojo_readdir(f->store, MOJO_ACTIVE, MOJO_ROOT_BUCKET, seen->cookie, see, seen), 0);
		snprintf(name, sizeof(name), "file-%u", i);
		assert_int_equal(mojo_unlink(f->store, MOJO_ROOT_BUCKET, name), 0);
		snprintf(name, sizeof(name), "other-%u", i);
		make_file(f, name);
	}
	for (bool more = true; more; more = seen->stopped) {
		seen->stopped = false;
		seen->room = 1000;
		assert_int_equal(mojo_readdir(f->store, MOJO_ACTIVE, MOJO_ROOT_BUCKET, seen->cookie, see, seen), 0);
	}
	for (unsigned i = 1; i < MANY; i += 2)
		assert_int_equal(seen->count[i], 1);
	for (unsigned i = 0; i < MANY; i += 2)
		assert_true(seen->count[i] <= 1);

	list_many(f, 1, seen);
	assert_int_equal(seen->total, MANY);
	for (unsigned i = 0; i < MANY; i++) {
		struct mojo_attr attr;

		snprintf(name, sizeof(name), "file-%u", i);
		assert_int_equal(mojo_lookup(f->store, 1, MOJO_ROOT_BUCKET, name, &attr), 0);
		assert_int_equal(mojo_lookup(f->store, 2, MOJO_ROOT_BUCKET, name, &attr), i % 2 ? 0 : -ENOENT);
	}
	free(seen);
}

/* ---- bytes -------------------------------------------------------------------------------- */

static void test_holes(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	struct mojo_map_entry entries[8];
	uint64_t found = 0;
	size_t count;

	assert_int_equal(mojo_seek(f->store, MOJO_ACTIVE, bucket, 0, true, &found), -ENXIO);
	assert_int_equal(mojo_seek(f->store, MOJO_ACTIVE, bucket, 0, false, &found), -ENXIO);
	put(f, bucket, 10 * PAGE, PAGE, 1);
	put(f, bucket, 1000 * PAGE + 5, 10, 2);
	for (unsigned pass = 0; pass < 3; pass++) {
		assert_int_equal(attr_of(f, MOJO_ACTIVE, bucket).size, 1000 * PAGE + 15);
		assert_int_equal(attr_of(f, MOJO_ACTIVE, bucket).pages, 2);
		assert_int_equal(mojo_seek(f->store, MOJO_ACTIVE, bucket, 0, true, &found), 0);
		assert_int_equal(found, 10 * PAGE);
		assert_int_equal(mojo_seek(f->store, MOJO_ACTIVE, bucket, 10 * PAGE + 7, true, &found), 0);
		assert_int_equal(found, 10 * PAGE + 7);
		assert_int_equal(mojo_seek(f->store, MOJO_ACTIVE, bucket, 11 * PAGE, true, &found), 0);
		assert_int_equal(found, 1000 * PAGE);
		assert_int_equal(mojo_seek(f->store, MOJO_ACTIVE, bucket, 3, false, &found), 0);
		assert_int_equal(found, 3);
		assert_int_equal(mojo_seek(f->store, MOJO_ACTIVE, bucket, 10 * PAGE + 7, false, &found), 0);
		assert_int_equal(found, 11 * PAGE);
		assert_int_equal(mojo_seek(f->store, MOJO_ACTIVE, bucket, 1000 * PAGE, false, &found), 0);
		assert_int_equal(found, 1000 * PAGE + 15);
		assert_int_equal(mojo_seek(f->store, MOJO_ACTIVE, bucket, 1000 * PAGE + 15, false, &found), -ENXIO);
		assert_int_equal(mojo_seek(f->store, MOJO_ACTIVE, bucket, UINT64_MAX, true, &found), -ENXIO);
		assert_int_equal(mojo_map(f->store, MOJO_ACTIVE, bucket, 0, entries, 8, &count), 0);
		assert_int_equal(count, 2);
		assert_int_equal(entries[0].page, 10);
		assert_int_equal(entries[1].page, 1000);
		assert_int_equal(entries[0].version, pass ? 1 : 0);
		assert_int_equal(mojo_map(f->store, MOJO_ACTIVE, bucket, 11, entries, 1, &count), 0);
		assert_int_equal(count, 1);
		assert_int_equal(entries[0].page, 1000);
		assert_int_equal(mojo_map(f->store, MOJO_ACTIVE, bucket, 1001, entries, 8, &count), 0);
		assert_int_equal(count, 0);
		assert_int_equal(pass ? mojo_checkpoint(f->store) : mojo_sync(f->store), 0);
	}
	assert_zeros(f, MOJO_ACTIVE, bucket, 0, 10 * PAGE);
	assert_zeros(f, MOJO_ACTIVE, bucket, 1000 * PAGE, 5);

	assert_int_equal(mojo_fallocate(f->store, bucket, MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_KEEP_SIZE, 9 * PAGE + 1,
					2 * PAGE),
			 0);
	assert_int_equal(attr_of(f, MOJO_ACTIVE, bucket).pages, 1);
	assert_zeros(f, MOJO_ACTIVE, bucket, 0, 999 * PAGE);
	assert_int_equal(mojo_seek(f->store, MOJO_ACTIVE, bucket, 0, true, &found), 0);
	assert_int_equal(found, 1000 * PAGE);
}

static void test_a_grown_tail_reads_as_zeros(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");

	for (unsigned pass = 0; pass < 3; pass++) {
		put(f, bucket, 0, 20000, pass);
		if (pass)
			assert_int_equal(pass == 1 ? mojo_sync(f->store) : mojo_checkpoint(f->store), 0);
		assert_int_equal(resize(f, bucket, 5000), 0);
		assert_int_equal(attr_of(f, MOJO_ACTIVE, bucket).pages, 2);
		assert_int_equal(resize(f, bucket, 30000), 0);
		assert_put(f, MOJO_ACTIVE, bucket, 0, 5000, pass);
		assert_zeros(f, MOJO_ACTIVE, bucket, 5000, 25000);
		/* Writing behind the cut must not bring the old bytes back either. */
		assert_int_equal(resize(f, bucket, 5000), 0);
		assert_int_equal(mojo_write(f->store, bucket, 8000, "x", 1), 0);
		assert_zeros(f, MOJO_ACTIVE, bucket, 5000, 3000);
	}
	abandon_store(f);
	open_store(f);
}

static void test_the_largest_file(void **state)
{
	struct fixture *f = *state;
	const uint64_t limit = (uint64_t)PAGE << 32;
	uint32_t bucket = make_file(f, "a");
	struct mojo_map_entry entry;
	uint64_t found = 0;
	size_t count;
	char buf[16];

	put(f, bucket, limit - 10, 10, 1);
	assert_int_equal(attr_of(f, MOJO_ACTIVE, bucket).size, limit);
	assert_int_equal(mojo_write(f->store, bucket, limit, "x", 1), -EFBIG);
	assert_int_equal(mojo_write(f->store, bucket, limit - 1, "xy", 2), -EFBIG);
	assert_int_equal(mojo_write(f->store, bucket, UINT64_MAX, "xy", 2), -EFBIG);
	assert_int_equal(mojo_write(f->store, bucket, 1ull << 63, "xy", 2), -EFBIG);
	assert_int_equal(resize(f, bucket, limit + 1), -EFBIG);
	assert_int_equal(mojo_fallocate(f->store, bucket, 0, limit, 1), -EFBIG);
	assert_int_equal(mojo_fallocate(f->store, bucket, 0, UINT64_MAX, UINT64_MAX), -EFBIG);
	assert_int_equal(attr_of(f, MOJO_ACTIVE, bucket).size, limit);
	assert_put(f, MOJO_ACTIVE, bucket, limit - 10, 10, 1);
	close_store(f);
	open_store(f);
	assert_put(f, MOJO_ACTIVE, bucket, limit - 10, 10, 1);
	assert_int_equal(mojo_read(f->store, MOJO_ACTIVE, bucket, limit, buf, 16, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(mojo_read(f->store, MOJO_ACTIVE, bucket, UINT64_MAX - 3, buf, 16, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(mojo_seek(f->store, MOJO_ACTIVE, bucket, 0, true, &found), 0);
	assert_int_equal(found, limit - PAGE);
	assert_int_equal(mojo_map(f->store, MOJO_ACTIVE, bucket, 0, &entry, 1, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(entry.page, UINT32_MAX);
	assert_int_equal(mojo_map(f->store, MOJO_ACTIVE, bucket, 1ull << 32, &entry, 1, &count), 0);
	assert_int_equal(count, 0);
	/* From end to end it takes no time, since only what is there is visited. */
	assert_int_equal(mojo_fallocate(f->store, bucket, MOJO_FALLOC_ZERO_RANGE, 0, limit), 0);
	assert_int_equal(attr_of(f, MOJO_ACTIVE, bucket).pages, 0);
	put(f, bucket, limit - PAGE, PAGE, 3);
	assert_int_equal(resize(f, bucket, 0), 0);
	assert_int_equal(attr_of(f, MOJO_ACTIVE, bucket).pages, 0);
}

static void test_a_long_write_and_its_overwriting(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");

	/* Several batches' worth in one call. */
	put(f, bucket, 12345, 9 << 20, 1);
	assert_put(f, MOJO_ACTIVE, bucket, 12345, 9 << 20, 1);
	for (unsigned i = 0; i < 50; i++)
		put(f, bucket, 12345 + i, (1 << 20) + i * 100, i);
	assert_put(f, MOJO_ACTIVE, bucket, 12345 + 49, (1 << 20) + 4900, 49);
	assert_int_equal(mojo_sync(f->store), 0);
	abandon_store(f);
	open_store(f);
	assert_put(f, MOJO_ACTIVE, bucket, 12345 + 49, (1 << 20) + 4900, 49);
}

static void test_times(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	struct mojo_attr born = attr_of(f, MOJO_ACTIVE, bucket);
	struct mojo_attr attr, set = { .atime_ns = -5, .mtime_ns = 1234567890123456789, .mode = 0600 };

	assert_true(born.btime_ns > 1600000000ll * 1000000000);
	assert_int_equal(born.mtime_ns, born.btime_ns);
	assert_int_equal(mojo_setattr(f->store, bucket, MOJO_SET_ATIME | MOJO_SET_MTIME | MOJO_SET_MODE, &set, &attr),
			 0);
	assert_int_equal(attr.mode, S_IFREG | 0600);
	close_store(f);
	open_store(f);
	attr = attr_of(f, MOJO_ACTIVE, bucket);
	assert_int_equal(attr.atime_ns, -5);
	assert_int_equal(attr.mtime_ns, 1234567890123456789);
	assert_true(attr.ctime_ns >= born.ctime_ns);
	assert_int_equal(attr.btime_ns, born.btime_ns);
	put(f, bucket, 0, 10, 1);
	attr = attr_of(f, MOJO_ACTIVE, bucket);
	assert_true(attr.mtime_ns > 1234567890123456789);
	assert_true(attr.ctime_ns >= attr.mtime_ns);
}

/* ---- versions ----------------------------------------------------------------------------- */

static void test_commit_messages(void **state)
{
	struct fixture *f = *state;
	char message[MOJO_MESSAGE_MAX + 1];
	struct mojo_version_info info;
	uint32_t version;

	memset(message, 'm', sizeof(message));
	message[5] = '\n';
	message[6] = (char)0xff;
	assert_int_equal(mojo_commit(f->store, message, MOJO_MESSAGE_MAX + 1, &version), -E2BIG);
	assert_int_equal(info_of(f).active_version, 1);
	assert_int_equal(mojo_commit(f->store, "a\0b", 3, &version), -EINVAL);
	assert_int_equal(info_of(f).active_version, 1);
	assert_int_equal(mojo_commit(f->store, message, MOJO_MESSAGE_MAX, &version), 0);
	assert_int_equal(version, 1);
	assert_int_equal(mojo_commit(f->store, "", 0, &version), 0);
	assert_int_equal(version, 2);
	abandon_store(f);
	open_store(f);
	assert_int_equal(info_of(f).active_version, 3);
	assert_int_equal(info_of(f).frozen_versions, 2);
	assert_int_equal(mojo_version_next(f->store, 0, &info), 0);
	assert_int_equal(info.version, 1);
	assert_false(info.active);
	assert_int_equal(strlen(info.message), MOJO_MESSAGE_MAX);
	assert_memory_equal(info.message, message, MOJO_MESSAGE_MAX);
	assert_int_equal(mojo_version_next(f->store, 2, &info), 0);
	assert_string_equal(info.message, "");
	assert_true(info.time_ns > 0);
	assert_int_equal(mojo_version_next(f->store, 3, &info), 0);
	assert_true(info.active);
	assert_int_equal(info.time_ns, 0);
	assert_int_equal(mojo_version_next(f->store, 4, &info), -ENOENT);
	assert_int_equal(mojo_version_next(f->store, UINT32_MAX, &info), -ENOENT);
}

static void test_frozen_versions_never_change(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	enum { VERSIONS = 40, BYTES = 600000 };
	struct mojo_attr attr;

	for (uint32_t v = 1; v <= VERSIONS; v++) {
		char name[32];

		put(f, bucket, 0, BYTES, v);
		snprintf(name, sizeof(name), "name-%" PRIu32, v);
		assert_int_equal(mojo_rename(f->store, 1, v == 1 ? "a" : "now", 1, "now", 0), 0);
		make_file(f, name);
		assert_int_equal(commit(f, name), v);
		if (v % 7 == 0) {
			abandon_store(f);
			open_store(f);
		}
		if (v % 11 == 0)
			assert_int_equal(mojo_checkpoint(f->store), 0);
	}
	assert_int_equal(mojo_unlink(f->store, 1, "now"), 0);
	for (unsigned pass = 0; pass < 2; pass++) {
		for (uint32_t v = 1; v <= VERSIONS; v++) {
			assert_put(f, v, bucket, 0, BYTES, v);
			assert_int_equal(lookup(f, v, "now"), bucket);
			assert_int_equal(attr_of(f, v, MOJO_ROOT_BUCKET).size, v + 1);
		}
		close_store(f);
		open_store(f);
	}
	for (uint32_t v = 1; v <= VERSIONS; v += 2)
		assert_int_equal(mojo_version_drop(f->store, v), 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(mojo_checkpoint(f->store), 0);
	for (uint32_t v = 1; v <= VERSIONS; v++) {
		if (v % 2)
			assert_int_equal(mojo_getattr(f->store, v, bucket, &attr), -ENOENT);
		else
			assert_put(f, v, bucket, 0, BYTES, v);
	}
	assert_int_equal(mojo_getattr(f->store, VERSIONS + 2, MOJO_ROOT_BUCKET, &attr), -ENOENT);
	assert_int_equal(mojo_getattr(f->store, VERSIONS + 1, MOJO_ROOT_BUCKET, &attr), 0);
	assert_int_equal(mojo_version_drop(f->store, VERSIONS + 1), -EBUSY);
	assert_int_equal(mojo_version_drop(f->store, VERSIONS + 2), -ENOENT);
	assert_int_equal(mojo_version_drop(f->store, 0), -EBUSY);
	assert_int_equal(info_of(f).oldest_version, 2);
	assert_int_equal(info_of(f).frozen_versions, VERSIONS / 2);
}

/* A commit writes a record: its cost knows nothing of the size of the store. */
static void test_a_commit_is_cheap(void **state)
{
	struct fixture *f = *state;
	struct mojo_info before, after;

	put(f, make_file(f, "large"), 0, 20 << 20, 1);
	assert_int_equal(mojo_checkpoint(f->store), 0);
	before = info_of(f);
	for (unsigned i = 0; i < 10; i++)
		commit(f, "nothing changed");
	after = info_of(f);
	assert_int_equal(after.checkpoints, before.checkpoints);
	assert_int_equal(after.pages_written, before.pages_written);
	assert_true(after.groups - before.groups <= 10);
	assert_true(after.flushes - before.flushes <= 10);
	assert_true(after.log_bytes - before.log_bytes <= 10 * 2 * PAGE);
}

/* ---- damage ------------------------------------------------------------------------------- */

struct found_group {
	struct mojo_group group;
	char path[MOJO_CHUNK_PATH_BYTES];
	uint64_t offset; /* bytes within the chunk */
};

/* All groups in the chunks, by sequence number; the caller frees. */
static struct found_group *find_groups(struct fixture *f, size_t *ret_count)
{
	struct found_group *groups = NULL;
	struct mojo_root root;
	size_t count = 0, length;
	uint8_t *data;
	void *loaded;

	assert_int_equal(mojo_io_memory_load(f->io, MOJO_STATE_FILE, &loaded, &length), 0);
	data = loaded;
	if (mojo_root_decode(data, &root) != 0)
		assert_int_equal(mojo_root_decode(data + MOJO_ROOT_SLOT_BYTES, &root), 0);
	free(data);
	for (uint32_t number = 0; number < 64; number++) {
		char path[MOJO_CHUNK_PATH_BYTES];

		mojo_chunk_path(number, path);
		if (mojo_io_memory_load(f->io, path, &loaded, &length) != 0)
			continue;
		data = loaded;
		for (uint64_t offset = 0; offset + root.page_size <= length; offset += root.page_size) {
			uint64_t address = (uint64_t)number * root.chunk_blocks + offset / root.page_size;
			struct found_group found = { .offset = offset };
			size_t at;

			if (mojo_group_peek(data + offset, root.page_size, root.chunk_blocks, root.store_id, address,
					    &found.group) != 0 ||
			    mojo_group_verify(data + offset, root.page_size, &found.group) != 0)
				continue;
			memcpy(found.path, path, sizeof(path));
			groups = realloc(groups, (count + 1) * sizeof(*groups));
			assert_non_null(groups);
			for (at = count++; at > 0 && groups[at - 1].group.sequence > found.group.sequence; at--)
				groups[at] = groups[at - 1];
			groups[at] = found;
		}
		free(data);
	}
	*ret_count = count;
	return groups;
}

static void flip(struct fixture *f, const struct found_group *group, uint64_t offset)
{
	assert_int_equal(mojo_io_memory_flip(f->io, group->path, group->offset + offset, 0x10), 0);
}

/* Three synced writes and no checkpoint; then the store is left as a crash leaves it. */
static uint32_t three_batches(struct fixture *f)
{
	uint32_t bucket = make_file(f, "a");

	for (unsigned i = 0; i < 3; i++) {
		put(f, bucket, (uint64_t)i * 10 * PAGE, 10 * PAGE, i);
		assert_int_equal(mojo_sync(f->store), 0);
	}
	abandon_store(f);
	return bucket;
}

static void test_a_torn_tail_is_cut_off(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = three_batches(f);
	struct mojo_io *whole = f->io;
	struct found_group *groups;
	size_t count;
	uint64_t blocks;

	groups = find_groups(f, &count);
	assert_true(count >= 3);
	assert_true(groups[count - 1].group.flags & MOJO_GROUP_BATCH_END);
	assert_true(groups[count - 1].group.data_blocks >= 10);
	blocks = (uint64_t)groups[count - 1].group.header_blocks + groups[count - 1].group.data_blocks;
	/* In each of its blocks in turn, a byte that did not reach the disk. */
	for (uint64_t block = 0; block < blocks; block++) {
		assert_int_equal(mojo_io_memory_clone(whole, &f->io), 0);
		flip(f, &groups[count - 1], block * PAGE + 77);
		open_store(f);
		assert_int_equal(attr_of(f, MOJO_ACTIVE, bucket).size, 20 * PAGE);
		assert_put(f, MOJO_ACTIVE, bucket, 0, 10 * PAGE, 0);
		assert_put(f, MOJO_ACTIVE, bucket, 10 * PAGE, 10 * PAGE, 1);
		put(f, bucket, 20 * PAGE, 15 * PAGE, 4);
		assert_int_equal(mojo_sync(f->store), 0);
		abandon_store(f);
		open_store(f);
		assert_int_equal(attr_of(f, MOJO_ACTIVE, bucket).size, 35 * PAGE);
		assert_put(f, MOJO_ACTIVE, bucket, 10 * PAGE, 10 * PAGE, 1);
		assert_put(f, MOJO_ACTIVE, bucket, 20 * PAGE, 15 * PAGE, 4);
		close_store(f);
		mojo_io_free(f->io);
	}
	f->io = whole;
	open_store(f);
	assert_put(f, MOJO_ACTIVE, bucket, 20 * PAGE, 10 * PAGE, 2);
	free(groups);
}

/* Everything but the lock file, where whoever tries to open says who it is. */
static uint64_t content_of_the_store(struct fixture *f)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < 5; i++) {
		char path[MOJO_CHUNK_PATH_BYTES];
		size_t length;
		void *data;

		mojo_chunk_path(i, path);
		if (mojo_io_memory_load(f->io, i < 4 ? path : MOJO_STATE_FILE, &data, &length) != 0)
			continue;
		sum = mojo_checksum64(data, length, sum + i);
		free(data);
	}
	return sum + names_in(f->io, "") + names_in(f->io, MOJO_CHUNK_DIR);
}

static void test_damage_before_the_tail_is_refused_untouched(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = three_batches(f);
	struct found_group *groups;
	size_t count;

	groups = find_groups(f, &count);
	assert_true(count >= 3);
	for (size_t i = count - 3; i < count - 1; i++) {
		static const uint64_t places[] = { 0, 33, 90, 120 };

		for (size_t j = 0; j < sizeof(places) / sizeof(places[0]); j++) {
			uint64_t before;

			f->events[0] = 0;
			flip(f, &groups[i], places[j]);
			before = content_of_the_store(f);
			assert_int_equal(mojo_open(f->io, &f->config, &f->store), -EUCLEAN);
			assert_true(f->events[0]);
			assert_true(content_of_the_store(f) == before);
			flip(f, &groups[i], places[j]);
		}
	}
	open_store(f);
	assert_put(f, MOJO_ACTIVE, bucket, 20 * PAGE, 10 * PAGE, 2);
	free(groups);
}

/* A batch is several groups when it is large; its last one torn, none of it counts. */
static void test_a_batch_counts_whole_or_not_at_all(void **state)
{
	struct fixture *f = *state;
	struct found_group *groups;
	struct mojo_attr attr;
	uint32_t bucket;
	size_t count;

	without_checkpoints(f);
	bucket = make_file(f, "a");
	put(f, bucket, 0, 100 * PAGE, 1);
	assert_int_equal(mojo_sync(f->store), 0);
	make_file(f, "b");
	put(f, bucket, 0, 1000 * PAGE, 2);
	assert_int_equal(mojo_sync(f->store), 0);
	abandon_store(f);
	groups = find_groups(f, &count);
	assert_true(count >= 4);
	assert_false(groups[count - 2].group.flags & MOJO_GROUP_BATCH_END);
	flip(f, &groups[count - 1], 50);
	open_store(f);
	assert_int_equal(attr_of(f, MOJO_ACTIVE, bucket).size, 100 * PAGE);
	assert_put(f, MOJO_ACTIVE, bucket, 0, 100 * PAGE, 1);
	assert_int_equal(mojo_lookup(f->store, MOJO_ACTIVE, 1, "b", &attr), -ENOENT);
	free(groups);
}

static void locate(struct fixture *f, const struct mojo_map_entry *entry, char path[MOJO_CHUNK_PATH_BYTES],
		   uint64_t *ret_offset)
{
	uint64_t blocks = CHUNK_BYTES / PAGE;

	(void)f;
	mojo_chunk_path((uint32_t)(entry->address / blocks), path);
	*ret_offset = entry->address % blocks * PAGE;
}

static void test_a_wrong_byte_is_never_served(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	struct mojo_map_entry entries[16];
	char path[MOJO_CHUNK_PATH_BYTES], where[64];
	unsigned char *buf = malloc(16 * PAGE);
	uint64_t offset;
	size_t count, got;

	assert_non_null(buf);
	put(f, bucket, 0, 16 * PAGE, 1);
	commit(f, "one");
	close_store(f);
	open_store(f);
	assert_int_equal(mojo_map(f->store, 1, bucket, 0, entries, 16, &count), 0);
	assert_int_equal(count, 16);
	locate(f, &entries[7], path, &offset);
	assert_int_equal(mojo_io_memory_flip(f->io, path, offset + 1234, 1), 0);
	f->events[0] = 0;
	assert_int_equal(mojo_read(f->store, 1, bucket, 7 * PAGE + 5, buf, 10, &got), -EIO);
	snprintf(where, sizeof(where), "bucket %" PRIu32, bucket);
	assert_non_null(strstr(f->events, where));
	assert_non_null(strstr(f->events, "page 7"));
	assert_int_equal(mojo_read(f->store, MOJO_ACTIVE, bucket, 7 * PAGE + 5, buf, 10, &got), -EIO);
	assert_put(f, 1, bucket, 0, 7 * PAGE, 1);
	assert_int_equal(mojo_read(f->store, 1, bucket, 8 * PAGE, buf, 8 * PAGE, &got), 0);
	assert_int_equal(got, 8 * PAGE);
	/* What lies before the bad page may be given, or nothing; never the page. */
	if (mojo_read(f->store, 1, bucket, 6 * PAGE, buf, 4 * PAGE, &got) == 0)
		assert_true(got <= PAGE);
	/* A part cannot be put into a page that cannot be read; a whole page replaces it. */
	assert_int_equal(mojo_write(f->store, bucket, 7 * PAGE + 5, "x", 1), -EIO);
	put(f, bucket, 7 * PAGE, PAGE, 2);
	assert_put(f, MOJO_ACTIVE, bucket, 7 * PAGE, PAGE, 2);
	assert_int_equal(mojo_sync(f->store), 0);
	assert_put(f, MOJO_ACTIVE, bucket, 7 * PAGE, PAGE, 2);
	free(buf);
}

static void test_a_page_in_the_wrong_place_is_not_served(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	struct mojo_map_entry entries[2];
	char path[MOJO_CHUNK_PATH_BYTES];
	uint64_t from, to;
	uint8_t *data;
	void *loaded;
	size_t count, length;
	char buf[8];

	put(f, bucket, 0, 2 * PAGE, 1);
	close_store(f);
	open_store(f);
	assert_int_equal(mojo_map(f->store, MOJO_ACTIVE, bucket, 0, entries, 2, &count), 0);
	locate(f, &entries[0], path, &from);
	locate(f, &entries[1], path, &to);
	assert_int_equal(mojo_io_memory_load(f->io, path, &loaded, &length), 0);
	data = loaded;
	memmove(data + to, data + from, PAGE);
	assert_int_equal(mojo_io_memory_replace(f->io, path, data, length), 0);
	free(data);
	assert_int_equal(mojo_read(f->store, MOJO_ACTIVE, bucket, 0, buf, 8, &count), 0);
	assert_int_equal(mojo_read(f->store, MOJO_ACTIVE, bucket, PAGE, buf, 8, &count), -EIO);
}

static void test_a_missing_chunk_is_an_error(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	struct mojo_map_entry entry;
	char path[MOJO_CHUNK_PATH_BYTES];
	uint64_t offset;
	size_t count;
	char buf[8];
	int result;

	put(f, bucket, 0, 12 << 20, 1);
	assert_int_equal(mojo_checkpoint(f->store), 0);
	assert_int_equal(mojo_map(f->store, MOJO_ACTIVE, bucket, 0, &entry, 1, &count), 0);
	locate(f, &entry, path, &offset);
	close_store(f);
	assert_int_equal(f->io->ops->unlink(f->io, path), 0);
	result = mojo_open(f->io, &f->config, &f->store);
	/* If a part of the index was in it, more than the page is lost. */
	if (!result)
		result = mojo_read(f->store, MOJO_ACTIVE, bucket, 0, buf, 8, &count);
	assert_true(result == -EUCLEAN || (f->store && result == -EIO));
}

/* ---- crashes and faults ------------------------------------------------------------------- */

static void test_a_crash_keeps_what_was_synced(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	struct mojo_attr attr;

	put(f, bucket, 0, 50000, 1);
	assert_int_equal(mojo_sync(f->store), 0);
	put(f, bucket, 0, 50000, 2);
	make_file(f, "b");
	abandon_store(f);
	open_store(f);
	assert_put(f, MOJO_ACTIVE, bucket, 0, 50000, 1);
	assert_int_equal(mojo_lookup(f->store, MOJO_ACTIVE, 1, "b", &attr), -ENOENT);
}

/*
 * A script whose state can be told from a counter: step i writes i into "counter" and a pattern i into one of
 * some files. After a failure anywhere the store must be as after one of the steps, no earlier than the
 * last one acknowledged.
 */
#define SCRIPT_STEPS 60u

struct script {
	uint64_t acknowledged; /* steps known durable */
	uint64_t begun;
	uint32_t versions; /* known frozen */
};

static void run_script(struct fixture *f, struct script *script)
{
	struct mojo_attr attr;
	unsigned char buf[30000];
	uint64_t written = script->acknowledged;

	for (uint64_t step = script->acknowledged + 1; step <= SCRIPT_STEPS; step++) {
		uint32_t counter, bucket, version;
		char name[32];

		script->begun = step;
		snprintf(name, sizeof(name), "file-%" PRIu64, step % 5);
		if (mojo_lookup(f->store, MOJO_ACTIVE, 1, "counter", &attr) == -ENOENT &&
		    mojo_mknod(f->store, 1, "counter", S_IFREG | 0600, 0, 0, 0, &attr))
			return;
		counter = attr.bucket;
		if (step % 13 == 0 && mojo_unlink(f->store, 1, name))
			return;
		if (mojo_lookup(f->store, MOJO_ACTIVE, 1, name, &attr) != 0 &&
		    mojo_mknod(f->store, 1, name, S_IFREG | 0600, 0, 0, 0, &attr))
			return;
		bucket = attr.bucket;
		fill(buf, sizeof(buf), step);
		if (mojo_write(f->store, bucket, 0, buf, sizeof(buf)) ||
		    mojo_write(f->store, counter, 0, &step, sizeof(step)))
			return;
		written = step;
		if (step % 20 == 0) {
			if (mojo_commit(f->store, "step", 4, &version))
				return;
			script->versions++;
		} else if (step % 7 == 0 ? mojo_checkpoint(f->store) : step % 3 ? mojo_sync(f->store) : 0) {
			return;
		} else if (step % 7 != 0 && step % 3 == 0) {
			continue;
		}
		script->acknowledged = written;
	}
	if (mojo_sync(f->store) == 0)
		script->acknowledged = written;
}

/* Which step is the store as of? Everything in it must agree. */
static uint64_t check_script(struct fixture *f, uint32_t version)
{
	struct mojo_attr attr;
	uint64_t step = 0;
	size_t got;

	if (mojo_resolve(f->store, version, "counter", &attr) == -ENOENT)
		return 0;
	assert_int_equal(mojo_read(f->store, version, attr.bucket, 0, &step, sizeof(step), &got), 0);
	assert_int_equal(got, sizeof(step));
	/* The fifth file is the next step's, which may have begun: a call that is refused ends no batch. */
	for (uint64_t i = 0; i < 4 && i < step; i++) {
		char name[32];

		snprintf(name, sizeof(name), "file-%" PRIu64, (step - i) % 5);
		assert_int_equal(mojo_resolve(f->store, version, name, &attr), 0);
		assert_int_equal(attr.size, 30000);
		assert_put(f, version, attr.bucket, 0, 30000, step - i);
	}
	return step;
}

enum after_fault { GO_ON, POWER_CUT, POWER_CUT_TORN };

static void fail_everywhere(struct fixture *f, enum after_fault after_fault, bool sticky, int error)
{
	bool reached = true;

	for (uint64_t point = 0; reached; point++) {
		struct script script = { 0 };
		struct mojo_store *store;
		struct mojo_io *io;
		uint64_t operations;
		uint64_t step;

		assert_int_equal(mojo_io_memory(&io), 0);
		replace_io(f, io);
		f->events[0] = 0;
		assert_int_equal(mojo_create(f->io, &f->geometry, &f->config), 0);
		assert_int_equal(mojo_io_memory_track(f->io), 0);
		mojo_io_memory_fail(f->io, point, error, sticky);
		operations = mojo_io_memory_operations(f->io);
		if (mojo_open(f->io, &f->config, &f->store) == 0) {
			run_script(f, &script);
			store = f->store;
			f->store = NULL;
			mojo_close(store);
		}
		reached = mojo_io_memory_operations(f->io) - operations > point;
		if (!reached)
			assert_int_equal(script.acknowledged, SCRIPT_STEPS);
		mojo_io_memory_fail(f->io, 0, 0, false);
		if (after_fault == POWER_CUT) {
			assert_int_equal(mojo_io_memory_clone_durable(f->io, &io), 0);
			replace_io(f, io);
		} else if (after_fault == POWER_CUT_TORN) {
			assert_int_equal(mojo_io_memory_clone_torn(f->io, point, &io), 0);
			replace_io(f, io);
		}
		open_store(f);
		step = check_script(f, MOJO_ACTIVE);
		if (step < script.acknowledged || step > script.begun)
			fail_msg("fault at %" PRIu64 ": step %" PRIu64 " came back, %" PRIu64 " were acknowledged",
				 point, step, script.acknowledged);
		assert_true(info_of(f).frozen_versions >= script.versions);
		for (uint32_t v = 1; v <= info_of(f).frozen_versions; v++)
			assert_int_equal(check_script(f, v), v * 20);
		/* It works again, to the end. */
		script = (struct script){ .acknowledged = step };
		run_script(f, &script);
		assert_int_equal(script.acknowledged, SCRIPT_STEPS);
		close_store(f);
		open_store(f);
		assert_int_equal(check_script(f, MOJO_ACTIVE), SCRIPT_STEPS);
		close_store(f);
		assert_true(point < 5000);
	}
}

static void test_a_fault_anywhere_loses_nothing(void **state)
{
	fail_everywhere(*state, GO_ON, true, -EIO);
}

static void test_a_passing_fault_anywhere_loses_nothing(void **state)
{
	fail_everywhere(*state, GO_ON, false, -EIO);
}

static void test_a_power_cut_anywhere_loses_nothing(void **state)
{
	fail_everywhere(*state, POWER_CUT, true, -EIO);
}

static void test_a_power_cut_that_tears_loses_nothing(void **state)
{
	fail_everywhere(*state, POWER_CUT_TORN, true, -EIO);
}

static void test_a_full_disk_anywhere_loses_nothing(void **state)
{
	fail_everywhere(*state, GO_ON, true, -ENOSPC);
}

static void test_after_a_failed_flush_nothing_is_accepted(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	struct mojo_attr attr = { 0 };
	struct mojo_store *store;
	uint32_t version;

	put(f, bucket, 0, 10000, 1);
	assert_int_equal(mojo_sync(f->store), 0);
	put(f, bucket, 0, 10000, 2);
	mojo_io_memory_fail(f->io, 0, -EIO, true);
	assert_int_equal(mojo_sync(f->store), -EIO);
	mojo_io_memory_fail(f->io, 0, 0, false);
	assert_true(info_of(f).failed);
	assert_true(f->events[0]);
	assert_int_equal(mojo_sync(f->store), -EIO);
	assert_int_equal(mojo_write(f->store, bucket, 0, "x", 1), -EIO);
	assert_int_equal(mojo_mknod(f->store, 1, "b", S_IFREG, 0, 0, 0, &attr), -EIO);
	assert_int_equal(mojo_symlink(f->store, 1, "b", "t", 0, 0, &attr), -EIO);
	assert_int_equal(mojo_unlink(f->store, 1, "a"), -EIO);
	assert_int_equal(mojo_rename(f->store, 1, "a", 1, "b", 0), -EIO);
	assert_int_equal(mojo_setattr(f->store, bucket, MOJO_SET_MODE, &attr, &attr), -EIO);
	assert_int_equal(mojo_fallocate(f->store, bucket, 0, 0, 100), -EIO);
	assert_int_equal(mojo_commit(f->store, "", 0, &version), -EIO);
	assert_int_equal(mojo_checkpoint(f->store), -EIO);
	store = f->store;
	f->store = NULL;
	assert_int_equal(mojo_close(store), -EIO);
	open_store(f);
	assert_false(info_of(f).failed);
	/* The failed batch may or may not have reached the disk; half of it must not show. */
	attr = attr_of(f, MOJO_ACTIVE, bucket);
	assert_int_equal(attr.size, 10000);
	{
		unsigned char one[10000], two[10000], got[10000];
		size_t length;

		fill(one, sizeof(one), 1);
		fill(two, sizeof(two), 2);
		assert_int_equal(mojo_read(f->store, MOJO_ACTIVE, bucket, 0, got, sizeof(got), &length), 0);
		assert_true(!memcmp(got, one, sizeof(got)) || !memcmp(got, two, sizeof(got)));
	}
}

static void survive_a_full_disk(struct fixture *f)
{
	uint32_t keep = make_file(f, "keep");
	uint32_t bucket = make_file(f, "a");
	unsigned char *buf = malloc(PAGE * 16);
	uint64_t written = 0;
	int error = 0;

	assert_non_null(buf);
	fill(buf, PAGE * 16, 9);
	put(f, keep, 0, 100000, 1);
	assert_int_equal(mojo_sync(f->store), 0);
	mojo_io_memory_limit(f->io, 32 << 20);
	while (!error && written < 64 << 20) {
		error = mojo_write(f->store, bucket, written, buf, PAGE * 16);
		if (!error)
			written += PAGE * 16;
		if (!error && written % (1 << 20) == 0)
			error = mojo_sync(f->store);
	}
	assert_int_equal(error, -ENOSPC);
	assert_false(info_of(f).failed);
	/* What was taken can be made durable, is readable, and can be removed again. */
	assert_int_equal(mojo_sync(f->store), 0);
	assert_put(f, MOJO_ACTIVE, keep, 0, 100000, 1);
	assert_true(attr_of(f, MOJO_ACTIVE, bucket).size >= written);
	assert_int_equal(mojo_unlink(f->store, 1, "a"), 0);
	assert_int_equal(mojo_sync(f->store), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(mojo_checkpoint(f->store), 0);
	put(f, make_file(f, "b"), 0, 4 << 20, 3);
	assert_int_equal(mojo_sync(f->store), 0);
	close_store(f);
	open_store(f);
	assert_put(f, MOJO_ACTIVE, lookup(f, MOJO_ACTIVE, "b"), 0, 4 << 20, 3);
	assert_put(f, MOJO_ACTIVE, keep, 0, 100000, 1);
	free(buf);
}

/* The store is made anew, with pages of @bytes. */
static void with_pages_of(struct fixture *f, uint32_t bytes)
{
	struct mojo_io *io;

	if (f->store)
		close_store(f);
	assert_int_equal(mojo_io_memory(&io), 0);
	replace_io(f, io);
	f->geometry.page_size = bytes;
	assert_int_equal(mojo_create(f->io, &f->geometry, &f->config), 0);
	open_store(f);
}

static void test_a_full_disk_is_survived(void **state)
{
	for (uint32_t page = 4096; page <= 65536; page *= 4) {
		with_pages_of(*state, page);
		survive_a_full_disk(*state);
	}
}

/* Files, one page each, until no more fit; then all of them go one by one, each for itself on stable storage, though
 * nothing is free. None may be refused. */
static void remove_one_by_one(struct fixture *f)
{
	uint32_t page = f->geometry.page_size;
	unsigned char *buf = malloc(page);
	struct mojo_attr attr;
	unsigned files = 0;
	char name[16];
	int error;

	assert_non_null(buf);
	fill(buf, page, 3);
	mojo_io_memory_limit(f->io, info_of(f).store_bytes + (24 << 20));
	do {
		snprintf(name, sizeof(name), "%u", files);
		error = mojo_mknod(f->store, MOJO_ROOT_BUCKET, name, S_IFREG | 0600, 0, 0, 0, &attr);
		files += !error;
		if (!error)
			error = mojo_write(f->store, attr.bucket, 0, buf, page);
		if (files % 16 == 0)
			assert_int_equal(mojo_sync(f->store), 0);
	} while (!error);
	assert_int_equal(error, -ENOSPC);
	for (unsigned i = 0; i < files; i++) {
		snprintf(name, sizeof(name), "%u", i);
		error = mojo_unlink(f->store, MOJO_ROOT_BUCKET, name);
		if (error)
			fail_msg("pages of %u: file %u of %u cannot be removed: %s", page, i, files, strerror(-error));
		assert_int_equal(mojo_sync(f->store), 0);
	}
	assert_false(info_of(f).failed);
	free(buf);
}

static void test_files_are_removed_one_by_one_on_a_full_disk(void **state)
{
	for (uint32_t page = 4096; page <= 65536; page *= 4) {
		with_pages_of(*state, page);
		remove_one_by_one(*state);
	}
}

/* As much as ordinary writes get. */
static void fill_disk(struct fixture *f, uint32_t bucket)
{
	const size_t piece = 16 * PAGE;
	uint64_t at = attr_of(f, MOJO_ACTIVE, bucket).size;
	unsigned char *buf = malloc(piece);
	int error;

	assert_non_null(buf);
	fill(buf, piece, 5);
	for (; !(error = mojo_write(f->store, bucket, at, buf, piece)); at += piece) {
		if (at % (1 << 20) == 0)
			assert_int_equal(mojo_sync(f->store), 0);
		assert_true(at < 200 << 20);
	}
	assert_int_equal(error, -ENOSPC);
	free(buf);
}

/* Somebody else takes whatever is free, and what comes back, too. How many files can be removed, each for itself on
 * stable storage? */
static unsigned remove_what_can_be(struct fixture *f)
{
	enum { FILES = 2000 };
	uint32_t page = f->geometry.page_size;
	unsigned char *buf = malloc(page);
	struct mojo_attr attr;
	unsigned removed = 0;
	char name[16];
	int error = 0;

	assert_non_null(buf);
	fill(buf, page, 3);
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(mojo_mknod(f->store, MOJO_ROOT_BUCKET, name, S_IFREG | 0600, 0, 0, 0, &attr), 0);
		assert_int_equal(mojo_write(f->store, attr.bucket, 0, buf, page), 0);
	}
	mojo_io_memory_limit(f->io, info_of(f).store_bytes + (16 << 20));
	fill_disk(f, attr.bucket);
	mojo_io_memory_limit(f->io, 0);
	while (removed < FILES && !error) {
		snprintf(name, sizeof(name), "%u", removed);
		error = mojo_unlink(f->store, MOJO_ROOT_BUCKET, name);
		removed += !error;
		assert_int_equal(mojo_sync(f->store), 0);
	}
	assert_int_equal(error, -ENOSPC);
	assert_false(info_of(f).failed);
	free(buf);
	return removed;
}

static void test_removals_have_room_of_their_own_whatever_the_pages(void **state)
{
	for (uint32_t page = 4096; page <= 65536; page *= 4) {
		unsigned removed;

		((struct fixture *)*state)->geometry.chunk_bytes = 256 * page > CHUNK_BYTES ? 256 * page : CHUNK_BYTES;
		with_pages_of(*state, page);
		removed = remove_what_can_be(*state);
		if (removed < 64)
			fail_msg("pages of %u: only %u files could be removed", page, removed);
	}
}

static uint64_t asked_for(void *arg)
{
	return *(uint64_t *)arg;
}

/* Time and again, and also when a crash came before it was needed. */
static void use_what_is_reserved(struct fixture *f)
{
	enum { DATABASE_BYTES = 6 << 20, PIECE = 16 * PAGE, ROUNDS = 24 };
	uint32_t bucket = make_file(f, "db"), filler = make_file(f, "filler");
	unsigned char *buf = malloc(PIECE);
	uint64_t kept = DATABASE_BYTES;
	struct mojo_attr attr;

	assert_non_null(buf);
	put(f, bucket, 0, DATABASE_BYTES, 0);
	mojo_reserve(f->store, asked_for, &kept);
	mojo_io_memory_limit(f->io, 44 << 20);
	for (unsigned round = 1; round <= ROUNDS; round++) {
		fill_disk(f, filler);
		if (round % 3 == 0) {
			assert_int_equal(mojo_sync(f->store), 0);
			abandon_store(f);
			open_store(f);
			mojo_reserve(f->store, asked_for, &kept);
		}
		for (uint64_t n = 0; n < DATABASE_BYTES / PIECE; n++) {
			uint64_t at = n * 37 % (DATABASE_BYTES / PIECE) * PIECE;

			fill(buf, PIECE, round << 16 | at / PIECE);
			assert_int_equal(mojo_write_reserved(f->store, bucket, at, buf, PIECE), 0);
			if (n % 8 == round % 8)
				assert_int_equal(mojo_sync(f->store), 0);
		}
		assert_int_equal(mojo_mknod_reserved(f->store, 1, "db-wal", 0644, 0, 0, &attr), 0);
		assert_int_equal(mojo_unlink(f->store, 1, "db-wal"), 0);
		assert_int_equal(mojo_sync(f->store), 0);
		assert_false(info_of(f).failed);
		assert_int_equal(resize(f, filler, 0), 0);
	}
	abandon_store(f);
	open_store(f);
	for (uint64_t at = 0; at < DATABASE_BYTES; at += PIECE)
		assert_put(f, MOJO_ACTIVE, bucket, at, PIECE, ROUNDS << 16 | at / PIECE);
	free(buf);
}

static void test_what_is_reserved_is_there_on_a_full_disk(void **state)
{
	use_what_is_reserved(*state);
}

/* A block is then as much as sixteen, and 2 MiB are only 32 of them. */
static void test_what_is_reserved_is_there_with_large_pages(void **state)
{
	with_pages_of(*state, 65536);
	use_what_is_reserved(*state);
}

/* It cannot be allocated ahead, for no chunk has room for it; but it has to be free. */
static void test_more_than_a_chunk_can_be_reserved(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	uint64_t kept = 0;

	assert_int_equal(mojo_sync(f->store), 0);
	mojo_reserve(f->store, asked_for, &kept);
	put(f, bucket, 0, PAGE, 1);
	mojo_io_memory_limit(f->io, info_of(f).store_bytes + 32 * CHUNK_BYTES);
	put(f, bucket, 0, PAGE, 2);
	assert_int_equal(mojo_sync(f->store), 0); /* the host is asked once for each group */
	kept = 8 * CHUNK_BYTES; /* and a quarter, and as much again for what is left unused where such chunks end */
	put(f, bucket, 0, PAGE, 3);
	kept = 24 * CHUNK_BYTES;
	assert_int_equal(mojo_write(f->store, bucket, 0, "x", 1), -ENOSPC);
	assert_int_equal(mojo_write_reserved(f->store, bucket, 0, "x", 1), 0);
	assert_int_equal(resize(f, bucket, 0), 0);
	mojo_reserve(f->store, NULL, NULL);
	put(f, bucket, 0, PAGE, 4);
}

/* ---- space -------------------------------------------------------------------------------- */

static void test_overwriting_does_not_grow_the_store(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	struct mojo_info info;

	for (unsigned round = 0; round < 120; round++) {
		put(f, bucket, 0, 2 << 20, round);
		assert_int_equal(mojo_sync(f->store), 0);
		assert_int_equal(mojo_checkpoint(f->store), 0);
		info = info_of(f);
		assert_true(info.store_bytes <= 10 * CHUNK_BYTES);
		assert_true(info.chunks <= 10);
		if (round % 40 == 39) {
			abandon_store(f);
			open_store(f);
		}
	}
	assert_put(f, MOJO_ACTIVE, bucket, 0, 2 << 20, 119);
}

/* The same without anybody asking for a checkpoint: maintenance sees to it. */
static void test_maintenance_keeps_the_store_small(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket;
	struct mojo_info info;

	close_store(f);
	f->config.no_background = false;
	f->config.flush_ms = 20;
	open_store(f);
	bucket = make_file(f, "a");
	for (unsigned round = 0; round < 200; round++) {
		put(f, bucket, 0, 1 << 20, round);
		assert_int_equal(mojo_sync(f->store), 0);
	}
	info = info_of(f);
	assert_true(info.checkpoints > 0);
	assert_true(info.store_bytes <= 24 * CHUNK_BYTES);
	assert_put(f, MOJO_ACTIVE, bucket, 0, 1 << 20, 199);
	close_store(f);
	open_store(f);
	assert_put(f, MOJO_ACTIVE, bucket, 0, 1 << 20, 199);
}

static void test_a_scattered_overwrite_is_punched(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	struct mojo_info before, after;

	put(f, bucket, 0, 16 << 20, 1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(mojo_checkpoint(f->store), 0);
	before = info_of(f);
	for (unsigned page = 0; page < 4096; page += 2)
		put(f, bucket, (uint64_t)page * PAGE, PAGE, 2);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(mojo_checkpoint(f->store), 0);
	after = info_of(f);
	/* 8 MiB were written anew and 8 MiB died. */
	assert_true(after.store_bytes <= before.store_bytes + 2 * CHUNK_BYTES);
}

static void test_a_dropped_version_gives_its_space_back(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	struct mojo_info info;

	for (uint32_t v = 1; v <= 6; v++) {
		put(f, bucket, 0, 8 << 20, v);
		commit(f, "eight more");
	}
	info = info_of(f);
	assert_true(info.store_bytes >= 48 << 20);
	for (uint32_t v = 1; v <= 5; v++) {
		assert_int_equal(mojo_version_drop(f->store, v), 0);
		if (v == 3) {
			abandon_store(f);
			open_store(f);
		}
	}
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(mojo_checkpoint(f->store), 0);
	close_store(f);
	open_store(f);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(mojo_checkpoint(f->store), 0);
	info = info_of(f);
	assert_true(info.store_bytes <= (8 << 20) + 5 * CHUNK_BYTES);
	assert_put(f, 6, bucket, 0, 8 << 20, 6);
	assert_put(f, MOJO_ACTIVE, bucket, 0, 8 << 20, 6);
}

/* Pages that the active version shared with a version that is gone now die like its own. */
static void test_what_a_dropped_version_shared_dies_when_overwritten(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket = make_file(f, "a");
	struct mojo_info info;

	for (unsigned round = 0; round < 8; round++) {
		put(f, bucket, 0, 8 << 20, round);
		assert_int_equal(mojo_version_drop(f->store, commit(f, "soon gone")), 0);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(mojo_checkpoint(f->store), 0);
	}
	info = info_of(f);
	assert_true(info.store_bytes <= (16 << 20) + 5 * CHUNK_BYTES);
	assert_put(f, MOJO_ACTIVE, bucket, 0, 8 << 20, 7);
}

static void test_space_is_told(void **state)
{
	struct fixture *f = *state;
	struct mojo_space space;

	mojo_io_memory_limit(f->io, 100 << 20);
	assert_int_equal(mojo_space(f->store, &space), 0);
	assert_true(space.total > 0 && space.total <= 100 << 20);
	assert_true(space.free <= space.total);
	assert_true(space.available <= space.free);
}

/* ---- flushing ----------------------------------------------------------------------------- */

static void test_a_sync_of_nothing_costs_nothing(void **state)
{
	struct fixture *f = *state;
	struct mojo_info before, after;

	put(f, make_file(f, "a"), 0, 5000, 1);
	assert_int_equal(mojo_sync(f->store), 0);
	before = info_of(f);
	for (unsigned i = 0; i < 10; i++)
		assert_int_equal(mojo_sync(f->store), 0);
	after = info_of(f);
	assert_int_equal(after.flushes, before.flushes);
	assert_int_equal(after.groups, before.groups);
}

static void test_a_sync_is_one_group_and_one_flush(void **state)
{
	struct fixture *f = *state;
	struct mojo_info before, after;
	uint32_t bucket;

	without_checkpoints(f);
	bucket = make_file(f, "a");
	put(f, bucket, 0, 1 << 20, 1);
	assert_int_equal(mojo_sync(f->store), 0);
	before = info_of(f);
	for (unsigned i = 0; i < 20; i++) {
		put(f, bucket, (uint64_t)i * 3 * PAGE, 100, i);
		put(f, bucket, (uint64_t)i * 3 * PAGE, 200, i);
		assert_int_equal(mojo_sync(f->store), 0);
	}
	after = info_of(f);
	assert_int_equal(after.flushes - before.flushes, 20);
	assert_int_equal(after.groups - before.groups, 20);
	assert_int_equal(after.pages_written - before.pages_written, 20);
}

static bool reaches(struct fixture *f, bool (*reached)(const struct mojo_info *, uint64_t), uint64_t value)
{
	/* Polls, for at most 20 s: only a broken engine makes it wait that long. */
	for (unsigned i = 0; i < 2000; i++) {
		struct mojo_info info = info_of(f);

		if (reached(&info, value))
			return true;
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	return false;
}

static bool flushed_more(const struct mojo_info *info, uint64_t flushes)
{
	return info->flushes > flushes;
}

static void test_a_batch_closes_by_itself(void **state)
{
	struct fixture *f = *state;
	uint32_t bucket;
	struct mojo_info info;

	close_store(f);
	f->config.no_background = false;
	f->config.flush_ms = 30;
	open_store(f);
	bucket = make_file(f, "a");
	info = info_of(f);
	put(f, bucket, 0, 10000, 1);
	assert_true(reaches(f, flushed_more, info.flushes));
	abandon_store(f);
	open_store(f);
	assert_int_equal(lookup(f, MOJO_ACTIVE, "a"), bucket);
}

/* An io whose first prepare() is followed by a change, as another thread may make one: the lock is free meanwhile. */
static struct {
	const struct mojo_io_ops *inner;
	struct fixture *f;
	uint32_t bucket;
	atomic_bool changed;
} meanwhile;

static int prepare_and_change(struct mojo_io_file *file, uint64_t offset, uint64_t length)
{
	int error = meanwhile.inner->prepare(file, offset, length);

	if (!atomic_load(&meanwhile.changed)) {
		put(meanwhile.f, meanwhile.bucket, 0, PAGE, 2);
		atomic_store(&meanwhile.changed, true);
	}
	return error;
}

static void test_a_batch_begun_beside_maintenance_stays_open(void **state)
{
	struct fixture *f = *state;
	const struct mojo_io_ops *inner = f->io->ops;
	struct mojo_io_ops ops = *inner;
	uint64_t flushes;

	close_store(f);
	f->config.no_background = false;
	f->config.flush_ms = 3600000;
	open_store(f);
	meanwhile.inner = inner;
	meanwhile.f = f;
	meanwhile.bucket = make_file(f, "a");
	atomic_store(&meanwhile.changed, false);
	ops.prepare = prepare_and_change;
	f->io->ops = &ops;
	put(f, meanwhile.bucket, 0, PAGE, 1);
	assert_int_equal(mojo_sync(f->store), 0);
	flushes = info_of(f).flushes;
	for (unsigned i = 0; i < 2000 && !atomic_load(&meanwhile.changed); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	assert_true(atomic_load(&meanwhile.changed));
	/* What is not to happen has a moment in which it would. */
	for (unsigned i = 0; i < 20; i++)
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	assert_int_equal(info_of(f).flushes, flushes);
	close_store(f);
	f->io->ops = inner;
	open_store(f);
	assert_put(f, MOJO_ACTIVE, meanwhile.bucket, 0, PAGE, 2);
}

/* ---- threads ------------------------------------------------------------------------------ */

#define THREADS 4u
#define ROUNDS  150u

struct worker {
	struct fixture *f;
	unsigned index;
	uint32_t bucket;
	const char *problem;
};

static void *write_and_sync(void *arg)
{
	struct worker *worker = arg;
	struct mojo_store *store = worker->f->store;
	unsigned char wanted[9000], got[9000];
	size_t length;

	for (unsigned round = 0; round < ROUNDS; round++) {
		uint64_t offset = (uint64_t)(round % 10) * sizeof(wanted);

		fill(wanted, sizeof(wanted), worker->index * 1000 + round);
		if (mojo_write(store, worker->bucket, offset, wanted, sizeof(wanted)))
			worker->problem = "write failed";
		if (mojo_sync(store))
			worker->problem = "sync failed";
		if (mojo_read(store, MOJO_ACTIVE, worker->bucket, offset, got, sizeof(got), &length) ||
		    length != sizeof(got) || memcmp(got, wanted, sizeof(got)) != 0)
			worker->problem = "read back something else";
	}
	return NULL;
}

static void *churn_names(void *arg)
{
	struct worker *worker = arg;
	struct mojo_store *store = worker->f->store;

	for (unsigned round = 0; round < ROUNDS; round++) {
		struct mojo_attr attr;
		char name[32], other[32];

		snprintf(name, sizeof(name), "churn-%u-%u", worker->index, round);
		snprintf(other, sizeof(other), "churn-%u", worker->index);
		if (mojo_mknod(store, 1, name, S_IFREG | 0600, 0, 0, 0, &attr) || mojo_hold(store, attr.bucket) ||
		    mojo_write(store, attr.bucket, 0, name, sizeof(name)) || mojo_rename(store, 1, name, 1, other, 0) ||
		    mojo_write(store, attr.bucket, 5000, name, sizeof(name)) || mojo_release(store, attr.bucket))
			worker->problem = "an operation on names failed";
	}
	return NULL;
}

static void *commit_and_check(void *arg)
{
	struct worker *worker = arg;
	struct mojo_store *store = worker->f->store;
	unsigned char wanted[9000], got[9000];
	size_t length;

	fill(wanted, sizeof(wanted), 77);
	for (unsigned round = 0; round < 30; round++) {
		uint32_t version;

		if (mojo_commit(store, "m", 1, &version))
			worker->problem = "commit failed";
		else if (mojo_read(store, version, worker->bucket, 0, got, sizeof(got), &length) ||
			 length != sizeof(got) || memcmp(got, wanted, sizeof(got)) != 0)
			worker->problem = "a frozen file reads otherwise";
		else if (round % 5 == 4 && mojo_version_drop(store, version))
			worker->problem = "drop failed";
		if (round % 10 == 9 && mojo_checkpoint(store))
			worker->problem = "checkpoint failed";
	}
	return NULL;
}

static void threads_at_once(struct fixture *f)
{
	struct worker workers[THREADS + 3] = { 0 };
	pthread_t threads[THREADS + 3];
	char name[32];

	for (unsigned i = 0; i < THREADS + 3; i++) {
		snprintf(name, sizeof(name), "worker-%u", i);
		workers[i] = (struct worker){ .f = f, .index = i, .bucket = make_file(f, name) };
	}
	put(f, workers[THREADS + 2].bucket, 0, 9000, 77);
	for (unsigned i = 0; i < THREADS + 3; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
						i < THREADS       ? write_and_sync
						: i < THREADS + 2 ? churn_names
								  : commit_and_check,
						&workers[i]),
				 0);
	for (unsigned i = 0; i < THREADS + 3; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	for (unsigned i = 0; i < THREADS + 3; i++) {
		if (workers[i].problem)
			fail_msg("thread %u: %s (%s)", i, workers[i].problem, f->events);
	}
	assert_int_equal(mojo_sync(f->store), 0);
	abandon_store(f);
	open_store(f);
	for (unsigned i = 0; i < THREADS; i++) {
		for (unsigned round = ROUNDS - 10; round < ROUNDS; round++)
			assert_put(f, MOJO_ACTIVE, workers[i].bucket, (uint64_t)(round % 10) * 9000, 9000,
				   i * 1000 + round);
	}
	assert_int_equal(info_of(f).files, THREADS + 3 + 2);
	assert_int_equal(info_of(f).frozen_versions, 24);
}

static void test_threads_at_once(void **state)
{
	threads_at_once(*state);
}

static void test_threads_at_once_with_maintenance(void **state)
{
	struct fixture *f = *state;

	close_store(f);
	f->config.no_background = false;
	f->config.flush_ms = 5;
	open_store(f);
	threads_at_once(f);
}

#define WITH_STORE(test)    cmocka_unit_test_setup_teardown(test, setup, teardown)
#define WITHOUT_STORE(test) cmocka_unit_test_setup_teardown(test, setup_empty, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		WITHOUT_STORE(test_create_refuses_a_directory_in_use),
		WITH_STORE(test_create_refuses_a_store),
		WITHOUT_STORE(test_create_refuses_bad_geometry),
		WITHOUT_STORE(test_create_with_defaults),
		WITHOUT_STORE(test_create_goes_on_where_it_was_cut_short),
		WITHOUT_STORE(test_open_wants_a_store),
		WITH_STORE(test_one_writer_or_many_readers),
		WITH_STORE(test_a_newer_format_is_refused_untouched),
		WITH_STORE(test_two_damaged_roots_are_refused_untouched),
		WITH_STORE(test_one_damaged_root_costs_nothing),
		WITH_STORE(test_read_only_writes_nothing),
		WITHOUT_STORE(test_every_page_size),
		WITH_STORE(test_names_have_limits),
		WITH_STORE(test_symbolic_links_have_limits),
		WITH_STORE(test_wrong_kinds_are_refused),
		WITH_STORE(test_paths),
		WITH_STORE(test_a_removed_directory_takes_no_names),
		WITH_STORE(test_an_unlinked_file_lives_while_held),
		WITH_STORE(test_a_crash_removes_the_nameless),
		WITH_STORE(test_ten_thousand_files),
		WITH_STORE(test_holes),
		WITH_STORE(test_a_grown_tail_reads_as_zeros),
		WITH_STORE(test_the_largest_file),
		WITH_STORE(test_a_long_write_and_its_overwriting),
		WITH_STORE(test_times),
		WITH_STORE(test_commit_messages),
		WITH_STORE(test_frozen_versions_never_change),
		WITH_STORE(test_a_commit_is_cheap),
		WITH_STORE(test_a_torn_tail_is_cut_off),
		WITH_STORE(test_damage_before_the_tail_is_refused_untouched),
		WITH_STORE(test_a_batch_counts_whole_or_not_at_all),
		WITH_STORE(test_a_wrong_byte_is_never_served),
		WITH_STORE(test_a_page_in_the_wrong_place_is_not_served),
		WITH_STORE(test_a_missing_chunk_is_an_error),
		WITH_STORE(test_a_crash_keeps_what_was_synced),
		WITHOUT_STORE(test_a_fault_anywhere_loses_nothing),
		WITHOUT_STORE(test_a_passing_fault_anywhere_loses_nothing),
		WITHOUT_STORE(test_a_power_cut_anywhere_loses_nothing),
		WITHOUT_STORE(test_a_power_cut_that_tears_loses_nothing),
		WITHOUT_STORE(test_a_full_disk_anywhere_loses_nothing),
		WITH_STORE(test_after_a_failed_flush_nothing_is_accepted),
		WITHOUT_STORE(test_a_full_disk_is_survived),
		WITHOUT_STORE(test_files_are_removed_one_by_one_on_a_full_disk),
		WITHOUT_STORE(test_removals_have_room_of_their_own_whatever_the_pages),
		WITH_STORE(test_what_is_reserved_is_there_on_a_full_disk),
		WITHOUT_STORE(test_what_is_reserved_is_there_with_large_pages),
		WITH_STORE(test_more_than_a_chunk_can_be_reserved),
		WITH_STORE(test_overwriting_does_not_grow_the_store),
		WITH_STORE(test_maintenance_keeps_the_store_small),
		WITH_STORE(test_a_scattered_overwrite_is_punched),
		WITH_STORE(test_a_dropped_version_gives_its_space_back),
		WITH_STORE(test_what_a_dropped_version_shared_dies_when_overwritten),
		WITH_STORE(test_space_is_told),
		WITH_STORE(test_a_sync_of_nothing_costs_nothing),
		WITH_STORE(test_a_sync_is_one_group_and_one_flush),
		WITH_STORE(test_a_batch_closes_by_itself),
		WITH_STORE(test_a_batch_begun_beside_maintenance_stays_open),
		WITH_STORE(test_threads_at_once),
		WITH_STORE(test_threads_at_once_with_maintenance),
	};

	/* A pattern such as '*torn*' runs only what it matches. */
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
