/* SPDX-License-Identifier: MIT */
#include "io_record.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format.h"

#ifndef IOV_MAX
#define IOV_MAX 1024
#endif

#define EVENT_MAGIC 0x6365524du

struct recorder {
	struct mojo_io base;
	struct mojo_io *inner; /* borrowed */
	int fd;                /* borrowed; -1: in memory */
	pthread_mutex_t mutex; /* guards all below; held while an event is written, never during an operation */
	int status;
	uint64_t operations;
	uint64_t files;
	uint8_t *bytes; /* owned */
	size_t length, capacity;
};

struct recorded_file {
	struct recorder *recorder;  /* borrowed */
	struct mojo_io_file *inner; /* owned */
	uint64_t number;
};

static struct recorder *recorder_of(struct mojo_io *io)
{
	return (struct recorder *)io;
}

static struct recorded_file *file_of(struct mojo_io_file *file)
{
	return (struct recorded_file *)file;
}

/* ---- writing events -------------------------------------------------------------------------- */

static int write_all(int fd, const struct iovec *vector, int count)
{
	size_t skip = 0; /* bytes of the first buffer that are out */
	while (count > 0) {
		if (skip == vector->iov_len) {
			skip = 0;
			vector++;
			count--;
			continue;
		}
		ssize_t n;
		if (skip)
			n = write(fd, (const uint8_t *)vector->iov_base + skip, vector->iov_len - skip);
		else
			n = writev(fd, vector, count < IOV_MAX ? count : IOV_MAX);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		size_t done = (size_t)n + skip;
		for (; count > 0 && done >= vector->iov_len; vector++, count--)
			done -= vector->iov_len;
		skip = done;
	}
	return 0;
}

static int keep_all(struct recorder *r, const struct iovec *vector, int count)
{
	size_t more = 0;
	for (int i = 0; i < count; i++)
		more += vector[i].iov_len;
	if (more > r->capacity - r->length) {
		size_t capacity = (r->length + more) * 2;
		uint8_t *grown = realloc(r->bytes, capacity);
		if (!grown)
			return -ENOMEM;
		r->bytes = grown;
		r->capacity = capacity;
	}
	for (int i = 0; i < count; i++) {
		if (vector[i].iov_len)
			memcpy(r->bytes + r->length, vector[i].iov_base, vector[i].iov_len);
		r->length += vector[i].iov_len;
	}
	return 0;
}

/* Writes the event; @data of @count buffers is what WRITE writes. If it begins an operation (@ret_operation), it gets
 * its number here, so that numbers ascend in the recording. */
static void put_event(struct recorder *r, const struct mojo_io_event *event, const struct iovec *data, int count,
		      uint64_t *ret_operation)
{
	uint8_t header[MOJO_IO_EVENT_BYTES];
	struct iovec few[4], *vector = few;
	size_t names = event->name_length + (event->new_name ? 1 + event->new_name_length : 0);
	int used = 0;
	pthread_mutex_lock(&r->mutex);
	if (ret_operation)
		*ret_operation = ++r->operations;
	mojo_put32(header, EVENT_MAGIC);
	mojo_put16(header + 4, (uint16_t)event->kind);
	mojo_put16(header + 6, (uint16_t)event->flags);
	mojo_put64(header + 8, ret_operation ? *ret_operation : event->operation);
	mojo_put64(header + 16, event->file);
	mojo_put64(header + 24, event->offset);
	mojo_put64(header + 32, event->length);
	mojo_put32(header + 40, (uint32_t)event->result);
	mojo_put32(header + 44, (uint32_t)names);
	if (!r->status && count) {
		vector = malloc(((size_t)count + 1) * sizeof(*vector));
		r->status = vector ? 0 : -ENOMEM;
	}
	if (!r->status) {
		vector[used++] = (struct iovec){ header, sizeof(header) };
		if (event->name_length)
			vector[used++] = (struct iovec){ (void *)(uintptr_t)event->name, event->name_length };
		if (event->new_name) {
			vector[used++] = (struct iovec){ (void *)(uintptr_t) "", 1 };
			vector[used++] = (struct iovec){ (void *)(uintptr_t)event->new_name, event->new_name_length };
		}
		for (int i = 0; i < count; i++)
			vector[used++] = data[i];
		r->status = r->fd < 0 ? keep_all(r, vector, used) : write_all(r->fd, vector, used);
	}
	pthread_mutex_unlock(&r->mutex);
	if (vector != few)
		free(vector);
}

static uint64_t begin(struct recorder *r, const struct mojo_io_event *event)
{
	uint64_t operation;
	put_event(r, event, NULL, 0, &operation);
	return operation;
}

static int end(struct recorder *r, uint64_t operation, int result)
{
	struct mojo_io_event event = { .kind = MOJO_IO_EVENT_END, .operation = operation, .result = result };
	put_event(r, &event, NULL, 0, NULL);
	return result;
}

/* ---- operations on files --------------------------------------------------------------------- */

static int record_open(struct mojo_io *io, const char *path, int flags, struct mojo_io_file **ret_file)
{
	struct recorder *r = recorder_of(io);
	struct recorded_file *file = malloc(sizeof(*file));
	if (!file)
		return -ENOMEM;
	file->recorder = r;
	pthread_mutex_lock(&r->mutex);
	file->number = ++r->files;
	pthread_mutex_unlock(&r->mutex);
	struct mojo_io_event event = {
		.kind = MOJO_IO_EVENT_OPEN,
		.flags = (unsigned)flags,
		.file = file->number,
		.name = path,
		.name_length = strlen(path),
	};
	uint64_t operation = begin(r, &event);
	int err = end(r, operation, r->inner->ops->open(r->inner, path, flags, &file->inner));
	if (err)
		free(file);
	else
		*ret_file = (struct mojo_io_file *)file;
	return err;
}

static void record_close(struct mojo_io_file *file)
{
	if (!file)
		return;
	struct recorded_file *f = file_of(file);
	f->recorder->inner->ops->close(f->inner);
	free(f);
}

static int record_read(struct mojo_io_file *file, void *buf, size_t length, uint64_t offset, size_t *ret_length)
{
	struct recorded_file *f = file_of(file);
	return f->recorder->inner->ops->read(f->inner, buf, length, offset, ret_length);
}

static uint64_t begin_write(struct recorded_file *f, unsigned flags, const struct iovec *vector, int count,
			    uint64_t offset)
{
	struct mojo_io_event event = {
		.kind = MOJO_IO_EVENT_WRITE, .flags = flags, .file = f->number, .offset = offset
	};
	for (int i = 0; i < count; i++)
		event.length += vector[i].iov_len;
	uint64_t operation;
	put_event(f->recorder, &event, vector, count, &operation);
	return operation;
}

static int record_write(struct mojo_io_file *file, const struct iovec *vector, int count, uint64_t offset)
{
	struct recorded_file *f = file_of(file);
	uint64_t operation = begin_write(f, 0, vector, count, offset);
	return end(f->recorder, operation, f->recorder->inner->ops->write(f->inner, vector, count, offset));
}

static int record_write_through(struct mojo_io_file *file, const struct iovec *vector, int count, uint64_t offset)
{
	struct recorded_file *f = file_of(file);
	uint64_t operation = begin_write(f, MOJO_IO_EVENT_THROUGH, vector, count, offset);
	return end(f->recorder, operation, f->recorder->inner->ops->write_through(f->inner, vector, count, offset));
}

static uint64_t begin_on_file(struct recorded_file *f, enum mojo_io_event_kind kind, uint64_t offset, uint64_t length)
{
	struct mojo_io_event event = { .kind = kind, .file = f->number, .offset = offset, .length = length };
	return begin(f->recorder, &event);
}

static int record_flush(struct mojo_io_file *file)
{
	struct recorded_file *f = file_of(file);
	uint64_t operation = begin_on_file(f, MOJO_IO_EVENT_FLUSH, 0, 0);
	return end(f->recorder, operation, f->recorder->inner->ops->flush(f->inner));
}

static void record_prefetch(struct mojo_io_file *file, uint64_t offset, uint64_t length)
{
	struct recorded_file *f = file_of(file);
	f->recorder->inner->ops->prefetch(f->inner, offset, length);
}

static int record_allocate(struct mojo_io_file *file, uint64_t offset, uint64_t length)
{
	struct recorded_file *f = file_of(file);
	uint64_t operation = begin_on_file(f, MOJO_IO_EVENT_ALLOCATE, offset, length);
	return end(f->recorder, operation, f->recorder->inner->ops->allocate(f->inner, offset, length));
}

/* What a disk may hold after it is what it may hold after a hole was punched. */
static int record_prepare(struct mojo_io_file *file, uint64_t offset, uint64_t length)
{
	struct recorded_file *f = file_of(file);
	uint64_t operation = begin_on_file(f, MOJO_IO_EVENT_PUNCH, offset, length);
	return end(f->recorder, operation, f->recorder->inner->ops->prepare(f->inner, offset, length));
}

static int record_punch(struct mojo_io_file *file, uint64_t offset, uint64_t length)
{
	struct recorded_file *f = file_of(file);
	uint64_t operation = begin_on_file(f, MOJO_IO_EVENT_PUNCH, offset, length);
	return end(f->recorder, operation, f->recorder->inner->ops->punch(f->inner, offset, length));
}

static int record_truncate(struct mojo_io_file *file, uint64_t length)
{
	struct recorded_file *f = file_of(file);
	uint64_t operation = begin_on_file(f, MOJO_IO_EVENT_TRUNCATE, length, 0);
	return end(f->recorder, operation, f->recorder->inner->ops->truncate(f->inner, length));
}

static int record_size(struct mojo_io_file *file, uint64_t *ret_bytes, uint64_t *ret_disk_bytes)
{
	struct recorded_file *f = file_of(file);
	return f->recorder->inner->ops->size(f->inner, ret_bytes, ret_disk_bytes);
}

static int record_lock(struct mojo_io_file *file, bool exclusive)
{
	struct recorded_file *f = file_of(file);
	return f->recorder->inner->ops->lock(f->inner, exclusive);
}

/* ---- operations on names --------------------------------------------------------------------- */

static uint64_t begin_on_name(struct recorder *r, enum mojo_io_event_kind kind, const char *path)
{
	struct mojo_io_event event = { .kind = kind, .name = path, .name_length = strlen(path) };
	return begin(r, &event);
}

static int record_mkdir(struct mojo_io *io, const char *path)
{
	struct recorder *r = recorder_of(io);
	uint64_t operation = begin_on_name(r, MOJO_IO_EVENT_MKDIR, path);
	return end(r, operation, r->inner->ops->mkdir(r->inner, path));
}

static int record_rename(struct mojo_io *io, const char *from, const char *to)
{
	struct recorder *r = recorder_of(io);
	struct mojo_io_event event = {
		.kind = MOJO_IO_EVENT_RENAME,
		.name = from,
		.name_length = strlen(from),
		.new_name = to,
		.new_name_length = strlen(to),
	};
	uint64_t operation = begin(r, &event);
	return end(r, operation, r->inner->ops->rename(r->inner, from, to));
}

static int record_unlink(struct mojo_io *io, const char *path)
{
	struct recorder *r = recorder_of(io);
	uint64_t operation = begin_on_name(r, MOJO_IO_EVENT_UNLINK, path);
	return end(r, operation, r->inner->ops->unlink(r->inner, path));
}

static int record_flush_dir(struct mojo_io *io, const char *path)
{
	struct recorder *r = recorder_of(io);
	uint64_t operation = begin_on_name(r, MOJO_IO_EVENT_FLUSH_DIR, path);
	return end(r, operation, r->inner->ops->flush_dir(r->inner, path));
}

static int record_list(struct mojo_io *io, const char *path, mojo_io_list_fn *fn, void *arg)
{
	struct mojo_io *inner = recorder_of(io)->inner;
	return inner->ops->list(inner, path, fn, arg);
}

static int record_space(struct mojo_io *io, struct mojo_io_space *ret_space)
{
	struct mojo_io *inner = recorder_of(io)->inner;
	return inner->ops->space(inner, ret_space);
}

static int64_t record_now_ns(struct mojo_io *io)
{
	struct mojo_io *inner = recorder_of(io)->inner;
	return inner->ops->now_ns(inner);
}

static int record_random(struct mojo_io *io, void *buf, size_t length)
{
	struct mojo_io *inner = recorder_of(io)->inner;
	return inner->ops->random(inner, buf, length);
}

static void record_free(struct mojo_io *io)
{
	struct recorder *r = recorder_of(io);
	pthread_mutex_destroy(&r->mutex);
	free(r->bytes);
	free(r);
}

static const struct mojo_io_ops record_ops = {
	.open = record_open,
	.close = record_close,
	.read = record_read,
	.write = record_write,
	.write_through = record_write_through,
	.flush = record_flush,
	.prefetch = record_prefetch,
	.allocate = record_allocate,
	.prepare = record_prepare,
	.punch = record_punch,
	.truncate = record_truncate,
	.size = record_size,
	.lock = record_lock,
	.mkdir = record_mkdir,
	.rename = record_rename,
	.unlink = record_unlink,
	.flush_dir = record_flush_dir,
	.list = record_list,
	.space = record_space,
	.now_ns = record_now_ns,
	.random = record_random,
	.free = record_free,
};

/* ---- the public face ------------------------------------------------------------------------- */

int mojo_io_record(struct mojo_io *inner, int fd, struct mojo_io **ret_io)
{
	struct recorder *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	r->base.ops = &record_ops;
	r->inner = inner;
	r->fd = fd;
	pthread_mutex_init(&r->mutex, NULL);
	struct mojo_io_event event = { .kind = MOJO_IO_EVENT_SESSION };
	put_event(r, &event, NULL, 0, NULL);
	if (r->status) {
		int err = r->status;
		record_free(&r->base);
		return err;
	}
	*ret_io = &r->base;
	return 0;
}

int mojo_io_record_mark(struct mojo_io *io, uint64_t mark)
{
	struct mojo_io_event event = { .kind = MOJO_IO_EVENT_MARK, .offset = mark };
	put_event(recorder_of(io), &event, NULL, 0, NULL);
	return mojo_io_record_status(io);
}

int mojo_io_record_status(struct mojo_io *io)
{
	struct recorder *r = recorder_of(io);
	pthread_mutex_lock(&r->mutex);
	int status = r->status;
	pthread_mutex_unlock(&r->mutex);
	return status;
}

void mojo_io_record_bytes(struct mojo_io *io, const void **ret_bytes, size_t *ret_length)
{
	struct recorder *r = recorder_of(io);
	*ret_bytes = r->bytes;
	*ret_length = r->length;
}

int mojo_io_record_trim(int fd)
{
	struct stat st;
	uint64_t whole = 0, size;
	if (fstat(fd, &st) != 0)
		return -errno;
	for (size = (uint64_t)st.st_size; size - whole >= MOJO_IO_EVENT_BYTES;) {
		uint8_t p[MOJO_IO_EVENT_BYTES];
		ssize_t got = pread(fd, p, sizeof(p), (off_t)whole);
		if (got != sizeof(p))
			return got < 0 ? -errno : -EIO;
		if (mojo_get32(p) != EVENT_MAGIC)
			return -EUCLEAN;
		uint64_t left = size - whole - sizeof(p), names = mojo_get32(p + 44);
		uint64_t data = mojo_get16(p + 4) == MOJO_IO_EVENT_WRITE ? mojo_get64(p + 32) : 0;
		if (names > left || data > left - names)
			break;
		whole += sizeof(p) + names + data;
	}
	return whole < size && ftruncate(fd, (off_t)whole) != 0 ? -errno : 0;
}

int mojo_io_event_next(const void *bytes, size_t length, size_t *offset, struct mojo_io_event *ret_event)
{
	const uint8_t *p = (const uint8_t *)bytes + *offset;
	size_t left = length - *offset;
	if (left < MOJO_IO_EVENT_BYTES)
		return -ENOENT;
	if (mojo_get32(p) != EVENT_MAGIC)
		return -EUCLEAN;
	struct mojo_io_event event = {
		.kind = mojo_get16(p + 4),
		.flags = mojo_get16(p + 6),
		.operation = mojo_get64(p + 8),
		.file = mojo_get64(p + 16),
		.offset = mojo_get64(p + 24),
		.length = mojo_get64(p + 32),
		.result = (int)mojo_get32(p + 40),
	};
	size_t names = mojo_get32(p + 44);
	uint64_t data = event.kind == MOJO_IO_EVENT_WRITE ? event.length : 0;
	if (event.kind < MOJO_IO_EVENT_SESSION || event.kind > MOJO_IO_EVENT_FLUSH_DIR)
		return -EUCLEAN;
	left -= MOJO_IO_EVENT_BYTES;
	if (names > left || data > left - names)
		return -ENOENT;
	p += MOJO_IO_EVENT_BYTES;
	event.name = (const char *)p;
	event.name_length = names;
	if (event.kind == MOJO_IO_EVENT_RENAME) {
		const uint8_t *nul = names ? memchr(p, '\0', names) : NULL;
		if (!nul)
			return -EUCLEAN;
		event.name_length = (size_t)(nul - p);
		event.new_name = (const char *)nul + 1;
		event.new_name_length = names - event.name_length - 1;
	}
	if (event.kind == MOJO_IO_EVENT_WRITE)
		event.data = p + names;
	*offset += MOJO_IO_EVENT_BYTES + names + (size_t)data;
	*ret_event = event;
	return 0;
}
