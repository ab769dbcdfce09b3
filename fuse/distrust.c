/* SPDX-License-Identifier: MIT */
#include "distrust.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RANGES         64u /* noted of a file; more are taken together */
#define ANSWER_SECONDS 10  /* the kernel answers at once, or not at all */

struct range {
	uint64_t from, to; /* bytes; from < to */
	bool is_lost;      /* the kernel has not got all of it any more */
};

struct distrust_file {
	struct distrust_file *next;
	fuse_ino_t ino;
	bool wanted; /* somebody waits until the kernel has forgotten it */
	size_t count;
	struct range missing[RANGES]; /* in no order */
};

void distrust_init(struct distrust *distrust)
{
	pthread_condattr_t attr;

	atomic_init(&distrust->count, 0);
	pthread_mutex_init(&distrust->writing, NULL);
	pthread_mutex_init(&distrust->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&distrust->done, &attr);
	pthread_condattr_destroy(&attr);
}

void distrust_drain(struct distrust *distrust)
{
	pthread_mutex_lock(&distrust->mutex);
	while (distrust->running || distrust->bringing)
		pthread_cond_wait(&distrust->done, &distrust->mutex);
	pthread_mutex_unlock(&distrust->mutex);
}

void distrust_destroy(struct distrust *distrust)
{
	for (struct distrust_file *file = distrust->first, *next; file; file = next) {
		next = file->next;
		free(file);
	}
	pthread_cond_destroy(&distrust->done);
	pthread_mutex_destroy(&distrust->mutex);
	pthread_mutex_destroy(&distrust->writing);
}

/* The callers of these hold the mutex. */
static struct distrust_file **find(struct distrust *distrust, fuse_ino_t ino)
{
	struct distrust_file **link = &distrust->first;

	while (*link && (*link)->ino != ino)
		link = &(*link)->next;
	return link;
}

static struct distrust_file *next_wanted(const struct distrust *distrust)
{
	struct distrust_file *file = distrust->first;

	while (file && !file->wanted)
		file = file->next;
	return file;
}

static void *work(void *arg)
{
	struct distrust *distrust = arg;
	struct distrust_file *file, **link;

	pthread_mutex_lock(&distrust->mutex);
	while ((file = next_wanted(distrust)) != NULL) {
		fuse_ino_t ino = file->ino;

		pthread_mutex_unlock(&distrust->mutex);
		/* A failure says that the kernel does not know the file any more. */
		fuse_lowlevel_notify_inval_inode(mount_session(distrust->mount), ino, 0, 0);
		pthread_mutex_lock(&distrust->mutex);
		link = find(distrust, ino);
		*link = file->next;
		free(file);
		atomic_fetch_sub(&distrust->count, 1);
		pthread_cond_broadcast(&distrust->done);
	}
	distrust->running = false;
	pthread_cond_broadcast(&distrust->done);
	pthread_mutex_unlock(&distrust->mutex);
	return NULL;
}

static void add_range(struct distrust_file *file, uint64_t from, uint64_t to)
{
	struct range *range = file->missing;

	while (range < file->missing + file->count && (from > range->to || to < range->from))
		range++;
	if (range == file->missing + RANGES)
		range--; /* takes in what is between, too */
	if (range == file->missing + file->count) {
		*range = (struct range){ from, to, false };
		file->count++;
		return;
	}
	/* What is refused now the kernel has, whatever became of its neighbours. */
	if (from < range->from)
		range->from = from;
	if (to > range->to)
		range->to = to;
	for (size_t i = 0; i < file->count;) { /* none overlaps another */
		struct range *other = &file->missing[i];

		if (other == range || other->from > range->to || other->to < range->from) {
			i++;
			continue;
		}
		range->from = other->from < range->from ? other->from : range->from;
		range->to = other->to > range->to ? other->to : range->to;
		range->is_lost |= other->is_lost;
		*other = file->missing[--file->count];
		if (range == file->missing + file->count)
			range = other;
		i = 0;
	}
}

static void take_range(struct distrust_file *file, uint64_t from, uint64_t to)
{
	for (size_t i = 0; i < file->count;) {
		struct range *range = &file->missing[i];

		if (to <= range->from || from >= range->to) {
			i++;
		} else if (from <= range->from && to >= range->to) {
			*range = file->missing[--file->count];
		} else if (from > range->from && to < range->to) {
			if (file->count < RANGES) { /* or all of it goes on being missing */
				file->missing[file->count++] = (struct range){ to, range->to, range->is_lost };
				range->to = from;
			}
			i++;
		} else {
			if (from <= range->from)
				range->from = to;
			else
				range->to = from;
			i++;
		}
	}
}

void distrust_note(struct distrust *distrust, fuse_ino_t ino, uint64_t offset, size_t length)
{
	struct distrust_file **link;

	pthread_mutex_lock(&distrust->mutex);
	link = find(distrust, ino);
	if (!*link) {
		*link = calloc(1, sizeof(**link));
		if (*link) {
			(*link)->ino = ino;
			atomic_fetch_add(&distrust->count, 1);
		}
	}
	if (*link)
		add_range(*link, offset, offset + length);
	pthread_mutex_unlock(&distrust->mutex);
}

bool distrust_is_noted(struct distrust *distrust, fuse_ino_t ino)
{
	bool is_noted;

	if (atomic_load(&distrust->count) == 0)
		return false;
	pthread_mutex_lock(&distrust->mutex);
	is_noted = *find(distrust, ino) != NULL;
	pthread_mutex_unlock(&distrust->mutex);
	return is_noted;
}

bool distrust_begin_write(struct distrust *distrust, fuse_ino_t ino)
{
	if (!distrust_is_noted(distrust, ino))
		return false;
	pthread_mutex_lock(&distrust->writing);
	return true;
}

static void take(struct distrust *distrust, fuse_ino_t ino, uint64_t from, uint64_t to)
{
	struct distrust_file *file;

	pthread_mutex_lock(&distrust->mutex);
	file = *find(distrust, ino);
	if (file)
		take_range(file, from, to);
	pthread_mutex_unlock(&distrust->mutex);
}

void distrust_end_write(struct distrust *distrust, fuse_ino_t ino, uint64_t offset, size_t length, int error)
{
	if (!error)
		take(distrust, ino, offset, offset + length);
	pthread_mutex_unlock(&distrust->writing);
}

void distrust_cut(struct distrust *distrust, fuse_ino_t ino, uint64_t size)
{
	if (atomic_load(&distrust->count) != 0)
		take(distrust, ino, size, UINT64_MAX);
}

void distrust_read(struct distrust *distrust, fuse_ino_t ino, uint64_t offset, size_t length)
{
	struct distrust_file *file;

	if (atomic_load(&distrust->count) == 0)
		return;
	pthread_mutex_lock(&distrust->mutex);
	file = *find(distrust, ino);
	for (size_t i = 0; file && i < file->count; i++) {
		struct range *range = &file->missing[i];

		if (offset < range->to && offset + length > range->from)
			range->is_lost = true;
	}
	pthread_mutex_unlock(&distrust->mutex);
}

/* The next range that is missing, from @from up to @to; false if there is none. */
static bool next_missing(struct distrust *distrust, fuse_ino_t ino, uint64_t from, uint64_t to, struct range *ret_range)
{
	struct distrust_file *file;
	bool is_found = false;

	pthread_mutex_lock(&distrust->mutex);
	file = *find(distrust, ino);
	for (size_t i = 0; file && i < file->count && !is_found; i++) {
		*ret_range = file->missing[i];
		is_found = from < ret_range->to && to > ret_range->from;
	}
	pthread_mutex_unlock(&distrust->mutex);
	if (is_found && ret_range->from < from)
		ret_range->from = from;
	if (is_found && ret_range->to > to)
		ret_range->to = to;
	return is_found;
}

bool distrust_lacks(struct distrust *distrust, fuse_ino_t ino)
{
	struct range range;

	return atomic_load(&distrust->count) != 0 && next_missing(distrust, ino, 0, UINT64_MAX, &range);
}

/* What the kernel has of @ino from @offset on. */
static int ask(struct distrust *distrust, fuse_ino_t ino, uint64_t offset, char *buffer, size_t *ret_length)
{
	struct fuse_session *session = mount_session(distrust->mount);
	struct timespec until;
	uint64_t question;
	int error;

	pthread_mutex_lock(&distrust->mutex);
	while (distrust->asking)
		pthread_cond_wait(&distrust->done, &distrust->mutex);
	distrust->asking = true;
	distrust->has_answered = false;
	distrust->answer = buffer;
	question = ++distrust->question;
	pthread_mutex_unlock(&distrust->mutex);
	error = fuse_lowlevel_notify_retrieve(session, ino, DISTRUST_PIECE_BYTES, (off_t)offset,
					      (void *)(uintptr_t)question);
	pthread_mutex_lock(&distrust->mutex);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ANSWER_SECONDS;
	while (!error && !distrust->has_answered)
		error = -pthread_cond_timedwait(&distrust->done, &distrust->mutex, &until);
	*ret_length = distrust->answer_length;
	distrust->question++; /* later than this is too late */
	distrust->asking = false;
	pthread_cond_broadcast(&distrust->done);
	pthread_mutex_unlock(&distrust->mutex);
	return error ? -EIO : 0;
}

void distrust_answer(struct distrust *distrust, const void *cookie, struct fuse_bufvec *bufv)
{
	struct fuse_bufvec to = FUSE_BUFVEC_INIT(DISTRUST_PIECE_BYTES);

	pthread_mutex_lock(&distrust->mutex);
	if (distrust->asking && !distrust->has_answered && (uintptr_t)cookie == distrust->question) {
		ssize_t length;

		to.buf[0].mem = distrust->answer;
		length = fuse_buf_copy(&to, bufv, 0);
		distrust->answer_length = length > 0 ? (size_t)length : 0;
		distrust->has_answered = true;
		pthread_cond_broadcast(&distrust->done);
	}
	pthread_mutex_unlock(&distrust->mutex);
}

/* Of the @length bytes from @offset on only what is missing still is written: the kernel may have brought some of it
 * anew, with other content, since it was asked. */
static int write_missing(struct distrust *distrust, fuse_ino_t ino, uint64_t offset, const char *bytes, size_t length,
			 distrust_write_fn *write, void *arg)
{
	struct range range;
	int error = 0;

	pthread_mutex_lock(&distrust->writing);
	for (size_t i = 0; i <= RANGES && !error && next_missing(distrust, ino, offset, offset + length, &range); i++) {
		error = range.is_lost ? -ENOSPC
				      : write(arg, range.from, bytes + (range.from - offset), range.to - range.from);
		if (!error)
			take(distrust, ino, range.from, range.to);
	}
	pthread_mutex_unlock(&distrust->writing);
	return error;
}

int distrust_bring(struct distrust *distrust, struct mount *mount, fuse_ino_t ino, distrust_write_fn *write, void *arg)
{
	char *buffer = malloc(DISTRUST_PIECE_BYTES);
	int error = buffer ? 0 : -ENOMEM;
	struct range range;

	pthread_mutex_lock(&distrust->mutex);
	distrust->mount = mount;
	pthread_mutex_unlock(&distrust->mutex);
	while (!error && next_missing(distrust, ino, 0, UINT64_MAX, &range)) {
		size_t length = 0;

		error = range.is_lost ? -ENOSPC : ask(distrust, ino, range.from, buffer, &length);
		if (!error && !length)
			error = -ENOSPC;
		if (!error)
			error = write_missing(distrust, ino, range.from, buffer, length, write, arg);
	}
	free(buffer);
	return error;
}

void distrust_bringing(struct distrust *distrust, bool begins)
{
	pthread_mutex_lock(&distrust->mutex);
	distrust->bringing += begins ? 1 : -1u;
	pthread_cond_broadcast(&distrust->done);
	pthread_mutex_unlock(&distrust->mutex);
}

void distrust_forget(struct distrust *distrust, struct mount *mount, fuse_ino_t ino)
{
	struct distrust_file *file;
	pthread_t thread;

	pthread_mutex_lock(&distrust->mutex);
	file = *find(distrust, ino);
	if (file) {
		file->wanted = true;
		distrust->mount = mount;
		if (!distrust->running && pthread_create(&thread, NULL, work, distrust) == 0) {
			pthread_detach(thread);
			distrust->running = true;
		}
	}
	while (distrust->running && *find(distrust, ino))
		pthread_cond_wait(&distrust->done, &distrust->mutex);
	pthread_mutex_unlock(&distrust->mutex);
}
