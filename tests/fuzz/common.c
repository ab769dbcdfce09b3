/* SPDX-License-Identifier: MIT */
#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "chunk.h"
#include "recover.h"
#include "state.h"

static const struct mojo_config quiet = {
	.no_background = true,
	.flush_ms = UINT32_MAX,
	.checkpoint_bytes = 1ull << 40,
};

static void must(int err)
{
	if (err)
		abort();
}

static void fill(struct mojo_store *store, uint32_t bucket, uint64_t offset, size_t length, unsigned tag)
{
	uint8_t *bytes = malloc(length);
	if (!bytes)
		abort();
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)(i * 31 + tag + i / 251);
	must(mojo_write(store, bucket, offset, bytes, length));
	free(bytes);
}

/* What the version before has, in @version as well: for a record of shared pages. */
static void settle_as_it_was(struct mojo_store *store, uint32_t version, uint32_t bucket)
{
	uint8_t page[FUZZ_PAGE];
	size_t length;
	for (uint64_t at = 24 * FUZZ_PAGE; at < 40 * FUZZ_PAGE; at += 3 * FUZZ_PAGE) {
		must(mojo_read(store, version - 1, bucket, at, page, sizeof(page), &length));
		must(mojo_settle_write(store, version, bucket, at, page, length));
	}
}

static struct mojo_store *make(struct mojo_io *io)
{
	struct mojo_geometry geometry = { .page_size = FUZZ_PAGE, .pages_per_slot = 64, .chunk_bytes = FUZZ_CHUNK };
	struct mojo_store *store;
	struct mojo_attr d, a, b, c, e, f;
	uint32_t version;
	uint64_t copied;
	must(mojo_create(io, &geometry, &quiet));
	must(mojo_open(io, &quiet, &store));
	must(mojo_mknod(store, MOJO_ROOT_BUCKET, "d", S_IFDIR | 0755, 0, 1, 2, &d));
	must(mojo_mknod(store, MOJO_ROOT_BUCKET, "a", S_IFREG | 0644, 0, 1, 2, &a));
	must(mojo_mknod(store, d.bucket, "b", S_IFREG | 0600, 0, 1, 2, &b));
	must(mojo_symlink(store, d.bucket, "link", "../a", 1, 2, &c));
	fill(store, a.bucket, 0, 10000, 1);
	for (unsigned i = 0; i < 20; i++)
		fill(store, b.bucket, i * 3ull * FUZZ_PAGE, 100, i);
	must(mojo_commit(store, "first", 5, &version));
	must(mojo_checkpoint(store));
	fill(store, a.bucket, 5000, 100, 2);
	must(mojo_unlink(store, d.bucket, "link"));
	must(mojo_commit(store, "second", 6, &version));
	must(mojo_checkpoint(store));
	must(mojo_mknod(store, MOJO_ROOT_BUCKET, "c", S_IFREG | 0644, 0, 1, 2, &c));
	fill(store, c.bucket, 70 * FUZZ_PAGE, 5000, 3);
	must(mojo_sync(store));
	must(mojo_rename(store, MOJO_ROOT_BUCKET, "c", d.bucket, "c2", 0));
	must(mojo_fallocate(store, b.bucket, MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_KEEP_SIZE, 0, 5 * FUZZ_PAGE));
	must(mojo_commit(store, "third", 5, &version));
	must(mojo_version_drop(store, 1));
	must(mojo_unlink(store, MOJO_ROOT_BUCKET, "a"));
	must(mojo_version_verdict(store, version, MOJO_VERDICT_BAD, "page 7", 6));
	fill(store, b.bucket, 24ull * FUZZ_PAGE, 16 * FUZZ_PAGE, 39);
	/* One that is not published: some of what was changed in it is in the index, some in the log. */
	must(mojo_mknod(store, MOJO_ROOT_BUCKET, "e", S_IFREG | 0644, 0, 1, 2, &e));
	must(mojo_mknod(store, d.bucket, "f", S_IFREG | 0644, 0, 1, 2, &f));
	must(mojo_copy(store, MOJO_ACTIVE, b.bucket, 0, e.bucket, 0, UINT64_MAX, &copied));
	must(mojo_freeze(store, "fourth", 6, NULL, NULL, &version));
	must(mojo_settle_write(store, version, b.bucket, 6 * FUZZ_PAGE, "settled", 7));
	fill(store, b.bucket, 7ull * FUZZ_PAGE, 100, 40);
	must(mojo_checkpoint(store));
	settle_as_it_was(store, version, b.bucket);
	must(mojo_sync(store));
	must(mojo_settle_setattr(store, version, b.bucket, MOJO_SET_SIZE, &(struct mojo_attr){ .size = 40000 }, &b));
	must(mojo_settle_unlink(store, version, d.bucket, "c2"));
	fill(store, b.bucket, 9ull * FUZZ_PAGE, 100, 41);
	must(mojo_version_verdict(store, 2, MOJO_VERDICT_GOOD, NULL, 0));
	must(mojo_copy(store, 2, a.bucket, 0, f.bucket, 0, UINT64_MAX, &copied));
	fill(store, e.bucket, 0, FUZZ_PAGE, 42);
	must(mojo_sync(store));
	return store;
}

static struct {
	struct mojo_io *io;
	struct fuzz_tail tail;
} base;

struct mojo_io *fuzz_store(void)
{
	if (base.io)
		return base.io;
	must(mojo_io_memory(&base.io));
	struct mojo_store *store = make(base.io);
	base.tail = (struct fuzz_tail){
		.root = store->root,
		.slot = store->root_slot,
		.address = store->log.tail,
		.sequence = store->log.sequence,
		.epoch = store->log.epoch,
	};
	mojo_abandon(store);
	return base.io;
}

const struct fuzz_tail *fuzz_tail(void)
{
	fuzz_store();
	return &base.tail;
}

void fuzz_put(struct mojo_io *io, const char *path, uint64_t offset, const void *data, size_t length)
{
	struct mojo_io_file *file;
	struct iovec vector = { (void *)(uintptr_t)data, length };
	must(io->ops->open(io, path, MOJO_IO_WRITE, &file));
	must(io->ops->write(file, &vector, 1, offset));
	io->ops->close(file);
}

/* ---- looking ----------------------------------------------------------------------------------- */

struct walk {
	struct mojo_store *store;
	uint32_t version;
	uint32_t buckets[64];
	size_t count;
};

static bool note(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct walk *walk = arg;
	(void)cookie;
	(void)name;
	if (walk->count < sizeof(walk->buckets) / sizeof(*walk->buckets))
		walk->buckets[walk->count++] = attr->bucket;
	return walk->count < sizeof(walk->buckets) / sizeof(*walk->buckets);
}

static void look(struct walk *walk, uint32_t bucket)
{
	static uint8_t buf[20000];
	char target[MOJO_SYMLINK_MAX + 1], path[4096];
	struct mojo_map_entry entries[32];
	struct mojo_attr attr;
	uint64_t found;
	size_t count;
	mojo_readlink(walk->store, walk->version, bucket, target);
	mojo_read(walk->store, walk->version, bucket, 0, buf, sizeof(buf), &count);
	mojo_read(walk->store, walk->version, bucket, 69 * FUZZ_PAGE + 3, buf, sizeof(buf), &count);
	mojo_map(walk->store, walk->version, bucket, 0, entries, 32, &count);
	mojo_seek(walk->store, walk->version, bucket, 0, true, &found);
	mojo_seek(walk->store, walk->version, bucket, 0, false, &found);
	mojo_getattr(walk->store, walk->version, bucket, &attr);
	mojo_path(walk->store, bucket, path, sizeof(path));
}

static bool count_changed(void *arg, const struct mojo_attr *attr)
{
	return attr->bucket != 0 && ++*(unsigned *)arg < 1000;
}

void fuzz_use(struct mojo_io *io)
{
	struct mojo_store *store;
	struct mojo_version_info info;
	struct mojo_info all;
	struct mojo_attr attr;
	uint32_t version;
	uint64_t copied;
	unsigned seen = 0, seen_changed = 0;
	if (mojo_open(io, &quiet, &store) != 0)
		return;
	mojo_info(store, &all);
	for (uint32_t from = 0; seen < 16 && mojo_version_next(store, from, &info) == 0;
	     from = info.version + 1, seen++) {
		struct walk walk = {
			.store = store, .version = info.version, .count = 1, .buckets = { MOJO_ROOT_BUCKET }
		};
		for (size_t i = 0; i < walk.count; i++) {
			look(&walk, walk.buckets[i]);
			mojo_readdir(store, info.version, walk.buckets[i], 0, note, &walk);
		}
		mojo_changed(store, info.version, count_changed, &seen_changed);
	}
	for (uint32_t bucket = 1; bucket < 8; bucket++) {
		mojo_write(store, bucket, 4000, "some bytes over the edge of a page", 34);
		mojo_setattr(store, bucket, MOJO_SET_SIZE, &(struct mojo_attr){ .size = 5000 * bucket }, &attr);
	}
	for (uint32_t bucket = 2; bucket < 8; bucket++) {
		mojo_copy(store, bucket % 3, bucket, 0, bucket + 1, 0, UINT64_MAX, &copied);
		mojo_copy(store, MOJO_ACTIVE, bucket, 100, bucket ^ 1, 5000, 5000, &copied);
	}
	mojo_mknod(store, MOJO_ROOT_BUCKET, "new", S_IFREG | 0600, 0, 0, 0, &attr);
	mojo_rename(store, MOJO_ROOT_BUCKET, "d", MOJO_ROOT_BUCKET, "e", 0);
	mojo_unlink(store, MOJO_ROOT_BUCKET, "a");
	version = mojo_unpublished(store);
	if (version) {
		mojo_settle_write(store, version, 4, 5000, "some more", 9);
		mojo_settle_setattr(store, version, 4, MOJO_SET_SIZE, &(struct mojo_attr){ .size = 123 }, &attr);
		mojo_settle_unlink(store, version, 2, "b");
		if (all.files % 2)
			mojo_publish(store, version);
		else
			mojo_version_drop(store, version);
	}
	mojo_version_verdict(store, 3, MOJO_VERDICT_GOOD, "fine", 4);
	mojo_commit(store, "fuzz", 4, &version);
	mojo_version_drop(store, 2);
	mojo_checkpoint(store);
	mojo_close(store);
}
