/* SPDX-License-Identifier: MIT */
#include "chunk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"

void mojo_chunks_init(struct mojo_chunks *chunks, struct mojo_io *io, uint32_t block_bytes, uint32_t chunk_blocks,
		      bool read_only)
{
	memset(chunks, 0, sizeof(*chunks));
	chunks->io = io;
	chunks->block_bytes = block_bytes;
	chunks->chunk_blocks = chunk_blocks;
	chunks->read_only = read_only;
	pthread_mutex_init(&chunks->mu, NULL);
	mojo_recent_init(&chunks->recent, block_bytes);
}

void mojo_chunks_close(struct mojo_chunks *chunks)
{
	for (size_t i = 0; i < MOJO_CHUNK_FILES; i++)
		if (chunks->files[i].file)
			chunks->io->ops->close(chunks->files[i].file);
	mojo_recent_free(&chunks->recent);
	pthread_mutex_destroy(&chunks->mu);
}

void mojo_chunk_path(uint32_t number, char *buf)
{
	snprintf(buf, MOJO_CHUNK_PATH_BYTES, MOJO_CHUNK_DIR "/%08" PRIx32 ".chunk", number);
}

int64_t mojo_chunk_number(const char *name)
{
	if (strlen(name) != 14 || strcmp(name + 8, ".chunk") != 0)
		return -1;
	int64_t number = 0;
	for (int i = 0; i < 8; i++) {
		const char *digits = "0123456789abcdef";
		const char *at = strchr(digits, name[i]);
		if (!at)
			return -1;
		number = number * 16 + (at - digits);
	}
	return number;
}

/* ---- open files ----------------------------------------------------------------------------- */

static struct mojo_chunk_file *find(struct mojo_chunks *chunks, uint32_t number)
{
	for (size_t i = 0; i < MOJO_CHUNK_FILES; i++) {
		struct mojo_chunk_file *f = &chunks->files[i];
		if (f->file && f->number == number && !f->forget)
			return f;
	}
	return NULL;
}

/* An empty place, made by closing the least recently used idle file if need be. Caller holds mu. */
static struct mojo_chunk_file *place(struct mojo_chunks *chunks)
{
	struct mojo_chunk_file *oldest = NULL;
	for (size_t i = 0; i < MOJO_CHUNK_FILES; i++) {
		struct mojo_chunk_file *f = &chunks->files[i];
		if (!f->file)
			return f;
		if (f->users == 0 && (!oldest || f->last_use < oldest->last_use))
			oldest = f;
	}
	if (oldest) {
		chunks->io->ops->close(oldest->file);
		oldest->file = NULL;
	}
	return oldest;
}

static int acquire(struct mojo_chunks *chunks, uint32_t number, struct mojo_chunk_file **ret_file)
{
	int err = 0;
	pthread_mutex_lock(&chunks->mu);
	struct mojo_chunk_file *f = find(chunks, number);
	if (!f) {
		f = place(chunks);
		if (!f) {
			err = -EMFILE; /* more transfers at once than files: far more threads than anyone starts */
			goto out;
		}
		char path[MOJO_CHUNK_PATH_BYTES];
		mojo_chunk_path(number, path);
		struct mojo_io_file *file;
		err = chunks->io->ops->open(chunks->io, path, chunks->read_only ? 0 : MOJO_IO_WRITE, &file);
		if (err)
			goto out;
		*f = (struct mojo_chunk_file){ .number = number, .file = file };
	}
	f->users++;
	f->last_use = ++chunks->clock;
	*ret_file = f;
out:
	pthread_mutex_unlock(&chunks->mu);
	return err;
}

static void leave(struct mojo_chunks *chunks, struct mojo_chunk_file *f)
{
	pthread_mutex_lock(&chunks->mu);
	f->users--;
	if (f->forget && f->users == 0) {
		chunks->io->ops->close(f->file);
		f->file = NULL;
		f->forget = false;
	}
	pthread_mutex_unlock(&chunks->mu);
}

/* The chunk's file goes, or gets another name: nothing is known of it any more. */
static void forget(struct mojo_chunks *chunks, uint32_t number)
{
	mojo_recent_drop(&chunks->recent, (uint64_t)number * chunks->chunk_blocks, chunks->chunk_blocks);
	pthread_mutex_lock(&chunks->mu);
	struct mojo_chunk_file *f = find(chunks, number);
	if (f && f->users) {
		f->forget = true;
	} else if (f) {
		chunks->io->ops->close(f->file);
		f->file = NULL;
	}
	pthread_mutex_unlock(&chunks->mu);
}

/* ---- transfers ------------------------------------------------------------------------------ */

static bool in_one_chunk(const struct mojo_chunks *chunks, uint64_t address, uint64_t bytes)
{
	uint64_t room = (chunks->chunk_blocks - address % chunks->chunk_blocks) * (uint64_t)chunks->block_bytes;
	return address <= MOJO_ADDRESS_MAX && bytes <= room;
}

static uint32_t number_of(const struct mojo_chunks *chunks, uint64_t address)
{
	return (uint32_t)(address / chunks->chunk_blocks);
}

static uint64_t offset_of(const struct mojo_chunks *chunks, uint64_t address)
{
	return address % chunks->chunk_blocks * chunks->block_bytes;
}

/* From the file, whatever is kept in memory; of one chunk. */
static int read_file(struct mojo_chunks *chunks, uint64_t address, void *buf, size_t bytes, size_t *ret_bytes)
{
	struct mojo_chunk_file *f;
	int err = acquire(chunks, number_of(chunks, address), &f);
	if (err == -ENOENT) {
		*ret_bytes = 0;
		return 0;
	}
	if (err)
		return err;
	err = chunks->io->ops->read(f->file, buf, bytes, offset_of(chunks, address), ret_bytes);
	leave(chunks, f);
	return err;
}

int mojo_chunks_read_some(struct mojo_chunks *chunks, uint64_t address, void *buf, size_t bytes, size_t *ret_bytes)
{
	if (!in_one_chunk(chunks, address, bytes))
		return -EUCLEAN;
	if (!mojo_recent_get(&chunks->recent, address, buf, bytes))
		return read_file(chunks, address, buf, bytes, ret_bytes);
	*ret_bytes = bytes;
	return 0;
}

int mojo_chunks_read_file(struct mojo_chunks *chunks, uint64_t address, void *buf, size_t bytes)
{
	if (!in_one_chunk(chunks, address, bytes))
		return -EUCLEAN;
	size_t got;
	int err = read_file(chunks, address, buf, bytes, &got);
	return !err && got != bytes ? -EIO : err;
}

int mojo_chunks_read(struct mojo_chunks *chunks, uint64_t address, void *buf, size_t bytes)
{
	size_t got;
	int err = mojo_chunks_read_some(chunks, address, buf, bytes, &got);
	return !err && got != bytes ? -EIO : err;
}

void mojo_chunks_prefetch(struct mojo_chunks *chunks, uint64_t address, size_t bytes)
{
	struct mojo_chunk_file *f;
	if (!in_one_chunk(chunks, address, bytes) || acquire(chunks, number_of(chunks, address), &f) != 0)
		return;
	chunks->io->ops->prefetch(f->file, offset_of(chunks, address), bytes);
	leave(chunks, f);
}

static uint64_t blocks_of(const struct mojo_chunks *chunks, const struct iovec *vector, int count)
{
	uint64_t bytes = 0;
	for (int i = 0; i < count; i++)
		bytes += vector[i].iov_len;
	return (bytes + chunks->block_bytes - 1) / chunks->block_bytes;
}

int mojo_chunks_write(struct mojo_chunks *chunks, uint64_t address, const struct iovec *vector, int count)
{
	struct mojo_chunk_file *f;
	int err = acquire(chunks, number_of(chunks, address), &f);
	if (err)
		return err;
	mojo_recent_drop(&chunks->recent, address, blocks_of(chunks, vector, count));
	err = chunks->io->ops->write(f->file, vector, count, offset_of(chunks, address));
	leave(chunks, f);
	return err;
}

int mojo_chunks_write_through(struct mojo_chunks *chunks, uint64_t address, const struct iovec *vector, int count)
{
	struct mojo_chunk_file *f;
	int err = acquire(chunks, number_of(chunks, address), &f);
	if (err)
		return err;
	mojo_recent_drop(&chunks->recent, address, blocks_of(chunks, vector, count));
	err = chunks->io->ops->write_through(f->file, vector, count, offset_of(chunks, address));
	leave(chunks, f);
	if (!err)
		mojo_recent_put(&chunks->recent, address, vector, count);
	return err;
}

int mojo_chunks_flush(struct mojo_chunks *chunks, uint32_t number)
{
	struct mojo_chunk_file *f;
	int err = acquire(chunks, number, &f);
	if (err)
		return err;
	err = chunks->io->ops->flush(f->file);
	leave(chunks, f);
	return err;
}

int mojo_chunks_allocate(struct mojo_chunks *chunks, uint64_t address, uint32_t blocks)
{
	struct mojo_chunk_file *f;
	int err = acquire(chunks, number_of(chunks, address), &f);
	if (err)
		return err;
	err = chunks->io->ops->allocate(f->file, offset_of(chunks, address), (uint64_t)blocks * chunks->block_bytes);
	leave(chunks, f);
	return err;
}

int mojo_chunks_prepare(struct mojo_chunks *chunks, uint64_t address, uint32_t blocks)
{
	struct mojo_chunk_file *f;
	int err = acquire(chunks, number_of(chunks, address), &f);
	if (err)
		return err;
	mojo_recent_drop(&chunks->recent, address, blocks);
	err = chunks->io->ops->prepare(f->file, offset_of(chunks, address), (uint64_t)blocks * chunks->block_bytes);
	leave(chunks, f);
	return err;
}

int mojo_chunks_punch(struct mojo_chunks *chunks, uint64_t address, uint32_t blocks)
{
	struct mojo_chunk_file *f;
	int err = acquire(chunks, number_of(chunks, address), &f);
	if (err)
		return err;
	mojo_recent_drop(&chunks->recent, address, blocks);
	err = chunks->io->ops->punch(f->file, offset_of(chunks, address), (uint64_t)blocks * chunks->block_bytes);
	leave(chunks, f);
	return err;
}

/* ---- files coming and going ----------------------------------------------------------------- */

/* What others remove, or flush, meanwhile is their affair. */
static int flush_names(struct mojo_chunks *chunks)
{
	pthread_mutex_lock(&chunks->mu);
	uint64_t removals = chunks->removals;
	pthread_mutex_unlock(&chunks->mu);
	int err = chunks->io->ops->flush_dir(chunks->io, MOJO_CHUNK_DIR);
	if (!err) {
		pthread_mutex_lock(&chunks->mu);
		if (removals > chunks->removals_kept)
			chunks->removals_kept = removals;
		pthread_mutex_unlock(&chunks->mu);
	}
	return err;
}

int mojo_chunks_create(struct mojo_chunks *chunks, uint32_t number, int64_t recycled)
{
	struct mojo_io *io = chunks->io;
	char path[MOJO_CHUNK_PATH_BYTES];
	mojo_chunk_path(number, path);
	int err = 0;
	forget(chunks, number);
	if (recycled >= 0) {
		char old[MOJO_CHUNK_PATH_BYTES];
		mojo_chunk_path((uint32_t)recycled, old);
		forget(chunks, (uint32_t)recycled);
		err = io->ops->rename(io, old, path);
	}
	if (recycled < 0 || err == -ENOENT) {
		/* A file may be there already: a crash came between its making and the first group in it. */
		struct mojo_io_file *file;
		err = io->ops->open(io, path, MOJO_IO_WRITE | MOJO_IO_CREATE, &file);
		if (err)
			return err;
		io->ops->close(file);
	}
	return err ? err : flush_names(chunks);
}

int mojo_chunks_remove(struct mojo_chunks *chunks, uint32_t number)
{
	char path[MOJO_CHUNK_PATH_BYTES];
	mojo_chunk_path(number, path);
	forget(chunks, number);
	int err = chunks->io->ops->unlink(chunks->io, path);
	if (!err) {
		pthread_mutex_lock(&chunks->mu);
		chunks->removals++;
		pthread_mutex_unlock(&chunks->mu);
	}
	return err == -ENOENT ? 0 : err;
}

int mojo_chunks_settle_names(struct mojo_chunks *chunks)
{
	pthread_mutex_lock(&chunks->mu);
	bool kept = chunks->removals_kept == chunks->removals;
	pthread_mutex_unlock(&chunks->mu);
	return kept ? 0 : flush_names(chunks);
}

int mojo_chunks_exists(struct mojo_chunks *chunks, uint32_t number)
{
	struct mojo_chunk_file *f;
	int err = acquire(chunks, number, &f);
	if (err)
		return err == -ENOENT ? 0 : err;
	leave(chunks, f);
	return 1;
}

struct usage {
	struct mojo_chunks *chunks;
	uint64_t count, disk_bytes;
};

static int add_usage(void *arg, const char *name)
{
	struct usage *usage = arg;
	int64_t number = mojo_chunk_number(name);
	if (number < 0)
		return 0;
	char path[MOJO_CHUNK_PATH_BYTES];
	mojo_chunk_path((uint32_t)number, path);
	struct mojo_io *io = usage->chunks->io;
	struct mojo_io_file *file;
	int err = io->ops->open(io, path, 0, &file);
	if (err)
		return err == -ENOENT ? 0 : err; /* recycled between listing and opening */
	uint64_t bytes, disk_bytes;
	err = io->ops->size(file, &bytes, &disk_bytes);
	io->ops->close(file);
	if (err)
		return err;
	usage->count++;
	usage->disk_bytes += disk_bytes;
	return 0;
}

int mojo_chunks_usage(struct mojo_chunks *chunks, uint64_t *ret_count, uint64_t *ret_disk_bytes)
{
	struct usage usage = { .chunks = chunks };
	int err = chunks->io->ops->list(chunks->io, MOJO_CHUNK_DIR, add_usage, &usage);
	if (err)
		return err;
	*ret_count = usage.count;
	*ret_disk_bytes = usage.disk_bytes;
	return 0;
}
