/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "shm.h"

#define SUFFIX "-shm"
#define CHAINS 1024u

struct file {
	struct file *next; /* in its chain, by id */
	struct mojo_attr attr;
	char *name; /* owned; NULL once unlinked */
	uint32_t dir;
	unsigned opens;
	uint8_t **blocks; /* owned, each too; NULL is a hole; bytes behind the file's end are zero */
	size_t block_count;
};

struct shm {
	pthread_mutex_t lock; /* guards everything */
	struct file *chains[CHAINS];
	uint32_t next_id;
	uint64_t block_total; /* blocks in memory */
};

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

bool shm_is_name(const char *name, size_t *ret_base)
{
	size_t length = strlen(name), suffix = strlen(SUFFIX);

	if (length <= suffix || strcmp(name + length - suffix, SUFFIX) != 0)
		return false;
	*ret_base = length - suffix;
	return true;
}

int shm_new(struct shm **ret_shm)
{
	struct shm *shm = calloc(1, sizeof(*shm));

	if (!shm)
		return -ENOMEM;
	pthread_mutex_init(&shm->lock, NULL);
	shm->next_id = SHM_ID_MIN;
	*ret_shm = shm;
	return 0;
}

/* Drop the blocks from index @first on. */
static void drop_blocks(struct shm *shm, struct file *file, size_t first)
{
	for (size_t i = first; i < file->block_count; i++) {
		if (!file->blocks[i])
			continue;
		free(file->blocks[i]);
		file->blocks[i] = NULL;
		shm->block_total--;
		file->attr.pages--;
	}
}

static void free_file(struct shm *shm, struct file *file)
{
	drop_blocks(shm, file, 0);
	free(file->blocks);
	free(file->name);
	free(file);
}

void shm_free(struct shm *shm)
{
	if (!shm)
		return;
	for (size_t i = 0; i < CHAINS; i++) {
		while (shm->chains[i]) {
			struct file *file = shm->chains[i];

			shm->chains[i] = file->next;
			free_file(shm, file);
		}
	}
	pthread_mutex_destroy(&shm->lock);
	free(shm);
}

/* ---- caller holds the lock ------------------------------------------------------------------- */

static struct file *find(struct shm *shm, uint32_t id)
{
	struct file *file = shm->chains[id % CHAINS];

	while (file && file->attr.bucket != id)
		file = file->next;
	return file;
}

/* By name; there are never so many that a walk over all of them would cost. */
static struct file *find_name(struct shm *shm, uint32_t dir, const char *name)
{
	for (size_t i = 0; i < CHAINS; i++) {
		for (struct file *file = shm->chains[i]; file; file = file->next) {
			if (file->name && file->dir == dir && strcmp(file->name, name) == 0)
				return file;
		}
	}
	return NULL;
}

static void remove_file(struct shm *shm, struct file *file)
{
	struct file **link = &shm->chains[file->attr.bucket % CHAINS];

	while (*link != file)
		link = &(*link)->next;
	*link = file->next;
	free_file(shm, file);
}

/* An id that no file has, used ones last: the kernel may remember a file for a while. */
static uint32_t new_id(struct shm *shm)
{
	for (uint32_t tries = UINT32_MAX - SHM_ID_MIN; tries > 0; tries--) {
		uint32_t id = shm->next_id;

		shm->next_id = id == UINT32_MAX ? SHM_ID_MIN : id + 1;
		if (!find(shm, id))
			return id;
	}
	return 0;
}

/* Make room for @count block pointers. */
static int reserve(struct file *file, size_t count)
{
	uint8_t **blocks;

	if (count <= file->block_count)
		return 0;
	blocks = realloc(file->blocks, count * sizeof(*blocks));
	if (!blocks)
		return -ENOMEM;
	memset(blocks + file->block_count, 0, (count - file->block_count) * sizeof(*blocks));
	file->blocks = blocks;
	file->block_count = count;
	return 0;
}

static void zero(struct file *file, uint64_t from, uint64_t to)
{
	while (from < to) {
		size_t index = from / SHM_BLOCK_BYTES, start = from % SHM_BLOCK_BYTES;
		size_t length = SHM_BLOCK_BYTES - start < to - from ? SHM_BLOCK_BYTES - start : to - from;

		if (index >= file->block_count)
			return;
		if (file->blocks[index])
			memset(file->blocks[index] + start, 0, length);
		from += length;
	}
}

static int resize(struct shm *shm, struct file *file, uint64_t size)
{
	if (size > SHM_FILE_BYTES_MAX)
		return -EFBIG;
	if (size < file->attr.size) {
		uint64_t kept = (size + SHM_BLOCK_BYTES - 1) / SHM_BLOCK_BYTES;

		drop_blocks(shm, file, kept);
		zero(file, size, kept * SHM_BLOCK_BYTES);
	}
	file->attr.size = size;
	return 0;
}

static void touch(struct file *file)
{
	file->attr.mtime_ns = file->attr.ctime_ns = now_ns();
}

/* ---- public ---------------------------------------------------------------------------------- */

int shm_create(struct shm *shm, uint32_t dir, const char *name, uint32_t mode, uint32_t uid, uint32_t gid,
	       struct mojo_attr *ret_attr)
{
	struct file *file = calloc(1, sizeof(*file));
	int error = 0;

	if (!file)
		return -ENOMEM;
	file->name = strdup(name);
	if (!file->name) {
		free(file);
		return -ENOMEM;
	}
	file->dir = dir;
	file->attr.mode = S_IFREG | (mode & 07777);
	file->attr.nlink = 1;
	file->attr.uid = uid;
	file->attr.gid = gid;
	file->attr.parent = dir;
	touch(file);
	file->attr.atime_ns = file->attr.btime_ns = file->attr.mtime_ns;

	pthread_mutex_lock(&shm->lock);
	if (find_name(shm, dir, name)) {
		error = -EEXIST;
	} else {
		file->attr.bucket = new_id(shm);
		if (!file->attr.bucket)
			error = -ENOSPC;
	}
	if (!error) {
		struct file **chain = &shm->chains[file->attr.bucket % CHAINS];

		file->next = *chain;
		*chain = file;
		*ret_attr = file->attr;
	}
	pthread_mutex_unlock(&shm->lock);
	if (error)
		free_file(shm, file);
	return error;
}

int shm_lookup(struct shm *shm, uint32_t dir, const char *name, struct mojo_attr *ret_attr)
{
	struct file *file;

	pthread_mutex_lock(&shm->lock);
	file = find_name(shm, dir, name);
	if (file)
		*ret_attr = file->attr;
	pthread_mutex_unlock(&shm->lock);
	return file ? 0 : -ENOENT;
}

int shm_getattr(struct shm *shm, uint32_t id, struct mojo_attr *ret_attr)
{
	struct file *file;

	pthread_mutex_lock(&shm->lock);
	file = find(shm, id);
	if (file)
		*ret_attr = file->attr;
	pthread_mutex_unlock(&shm->lock);
	return file ? 0 : -ENOENT;
}

int shm_unlink(struct shm *shm, uint32_t dir, const char *name)
{
	struct file *file;

	pthread_mutex_lock(&shm->lock);
	file = find_name(shm, dir, name);
	if (file) {
		free(file->name);
		file->name = NULL;
		file->attr.nlink = 0;
		file->attr.parent = 0;
		file->attr.ctime_ns = now_ns();
		if (!file->opens)
			remove_file(shm, file);
	}
	pthread_mutex_unlock(&shm->lock);
	return file ? 0 : -ENOENT;
}

int shm_next(struct shm *shm, uint32_t dir, uint32_t after, char *ret_name, struct mojo_attr *ret_attr)
{
	struct file *best = NULL;

	pthread_mutex_lock(&shm->lock);
	for (size_t i = 0; i < CHAINS; i++) {
		for (struct file *file = shm->chains[i]; file; file = file->next) {
			if (file->name && file->dir == dir && file->attr.bucket > after &&
			    (!best || file->attr.bucket < best->attr.bucket))
				best = file;
		}
	}
	if (best) {
		strcpy(ret_name, best->name);
		*ret_attr = best->attr;
	}
	pthread_mutex_unlock(&shm->lock);
	return best ? 0 : -ENOENT;
}

int shm_open_file(struct shm *shm, uint32_t id)
{
	struct file *file;

	pthread_mutex_lock(&shm->lock);
	file = find(shm, id);
	if (file)
		file->opens++;
	pthread_mutex_unlock(&shm->lock);
	return file ? 0 : -ENOENT;
}

void shm_close_file(struct shm *shm, uint32_t id)
{
	struct file *file;

	pthread_mutex_lock(&shm->lock);
	file = find(shm, id);
	if (file && --file->opens == 0 && !file->name)
		remove_file(shm, file);
	pthread_mutex_unlock(&shm->lock);
}

int shm_setattr(struct shm *shm, uint32_t id, unsigned mask, const struct mojo_attr *attr, struct mojo_attr *ret_attr)
{
	struct file *file;
	int error = 0;

	pthread_mutex_lock(&shm->lock);
	file = find(shm, id);
	if (!file)
		error = -ENOENT;
	else if (mask & MOJO_SET_SIZE)
		error = resize(shm, file, attr->size);
	if (!error) {
		int64_t now = now_ns();

		if (mask & MOJO_SET_MODE)
			file->attr.mode = (file->attr.mode & S_IFMT) | (attr->mode & 07777);
		if (mask & MOJO_SET_UID)
			file->attr.uid = attr->uid;
		if (mask & MOJO_SET_GID)
			file->attr.gid = attr->gid;
		if (mask & MOJO_SET_ATIME)
			file->attr.atime_ns = attr->atime_ns;
		if (mask & MOJO_SET_MTIME)
			file->attr.mtime_ns = attr->mtime_ns;
		else if (mask & MOJO_SET_SIZE)
			file->attr.mtime_ns = now;
		file->attr.ctime_ns = mask & MOJO_SET_CTIME ? attr->ctime_ns : now;
		*ret_attr = file->attr;
	}
	pthread_mutex_unlock(&shm->lock);
	return error;
}

int shm_read(struct shm *shm, uint32_t id, uint64_t offset, void *buf, size_t length, size_t *ret_length)
{
	uint8_t *to = buf;
	struct file *file;
	size_t done = 0;

	pthread_mutex_lock(&shm->lock);
	file = find(shm, id);
	if (file && offset < file->attr.size) {
		if (length > file->attr.size - offset)
			length = file->attr.size - offset;
		while (done < length) {
			size_t index = (offset + done) / SHM_BLOCK_BYTES, start = (offset + done) % SHM_BLOCK_BYTES;
			size_t part = SHM_BLOCK_BYTES - start < length - done ? SHM_BLOCK_BYTES - start : length - done;

			if (index < file->block_count && file->blocks[index])
				memcpy(to + done, file->blocks[index] + start, part);
			else
				memset(to + done, 0, part);
			done += part;
		}
	}
	pthread_mutex_unlock(&shm->lock);
	if (!file)
		return -ENOENT;
	*ret_length = done;
	return 0;
}

/* Caller holds the lock. Blocks for the range, or an error and nothing changed but spare memory. */
static int fill_holes(struct shm *shm, struct file *file, uint64_t offset, size_t length)
{
	size_t last = (offset + length - 1) / SHM_BLOCK_BYTES;
	int error = reserve(file, last + 1);

	if (error)
		return error;
	for (size_t i = offset / SHM_BLOCK_BYTES; i <= last; i++) {
		if (file->blocks[i])
			continue;
		if (shm->block_total >= SHM_TOTAL_BYTES_MAX / SHM_BLOCK_BYTES)
			return -ENOSPC;
		file->blocks[i] = calloc(1, SHM_BLOCK_BYTES);
		if (!file->blocks[i])
			return -ENOMEM;
		shm->block_total++;
		file->attr.pages++;
	}
	return 0;
}

int shm_write(struct shm *shm, uint32_t id, uint64_t offset, const void *buf, size_t length)
{
	const uint8_t *from = buf;
	struct file *file;
	int error = 0;

	if (offset > SHM_FILE_BYTES_MAX || length > SHM_FILE_BYTES_MAX - offset)
		return -EFBIG;
	pthread_mutex_lock(&shm->lock);
	file = find(shm, id);
	if (!file)
		error = -ENOENT;
	else if (length > 0)
		error = fill_holes(shm, file, offset, length);
	if (!error && length > 0) {
		for (size_t done = 0; done < length;) {
			size_t index = (offset + done) / SHM_BLOCK_BYTES, start = (offset + done) % SHM_BLOCK_BYTES;
			size_t part = SHM_BLOCK_BYTES - start < length - done ? SHM_BLOCK_BYTES - start : length - done;

			memcpy(file->blocks[index] + start, from + done, part);
			done += part;
		}
		if (offset + length > file->attr.size)
			file->attr.size = offset + length;
		touch(file);
	}
	pthread_mutex_unlock(&shm->lock);
	return error;
}

int shm_fallocate(struct shm *shm, uint32_t id, int mode, uint64_t offset, uint64_t length)
{
	bool keep_size = mode & MOJO_FALLOC_KEEP_SIZE, zeroes = false;
	struct file *file;
	int error = 0;

	switch (mode & ~MOJO_FALLOC_KEEP_SIZE) {
	case 0:
		break;
	case MOJO_FALLOC_PUNCH_HOLE:
		if (!keep_size)
			return -EOPNOTSUPP;
		zeroes = true;
		break;
	case MOJO_FALLOC_ZERO_RANGE:
		zeroes = true;
		break;
	default:
		return -EOPNOTSUPP;
	}
	if (offset > SHM_FILE_BYTES_MAX || length > SHM_FILE_BYTES_MAX - offset)
		return -EFBIG;
	pthread_mutex_lock(&shm->lock);
	file = find(shm, id);
	if (!file) {
		error = -ENOENT;
	} else {
		if (zeroes)
			zero(file, offset, offset + length);
		if (!keep_size && offset + length > file->attr.size)
			file->attr.size = offset + length;
		touch(file);
	}
	pthread_mutex_unlock(&shm->lock);
	return error;
}

int shm_seek(struct shm *shm, uint32_t id, uint64_t offset, bool data, uint64_t *ret_offset)
{
	struct mojo_attr attr;
	int error = shm_getattr(shm, id, &attr);

	if (error)
		return error;
	if (offset >= attr.size)
		return -ENXIO;
	/* All of it counts as data: what the kernel has not written back yet would look like a hole. */
	*ret_offset = data ? offset : attr.size;
	return 0;
}
