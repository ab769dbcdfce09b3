/* SPDX-License-Identifier: MIT */
#include "distrust.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct distrust_range {
	struct distrust_range *next;
	fuse_ino_t ino;
	uint64_t offset, length;
};

void distrust_init(struct distrust *distrust)
{
	atomic_init(&distrust->count, 0);
	pthread_mutex_init(&distrust->mutex, NULL);
	pthread_cond_init(&distrust->done, NULL);
	distrust->last = &distrust->first;
}

void distrust_drain(struct distrust *distrust)
{
	pthread_mutex_lock(&distrust->mutex);
	while (distrust->running)
		pthread_cond_wait(&distrust->done, &distrust->mutex);
	pthread_mutex_unlock(&distrust->mutex);
}

void distrust_destroy(struct distrust *distrust)
{
	pthread_cond_destroy(&distrust->done);
	pthread_mutex_destroy(&distrust->mutex);
}

static void *work(void *arg)
{
	struct distrust *distrust = arg;
	struct distrust_range *range;

	pthread_mutex_lock(&distrust->mutex);
	while ((range = distrust->first) != NULL) {
		pthread_mutex_unlock(&distrust->mutex);
		/* It waits until what is refused has been answered. A failure says that the kernel does not know the file any more, or that what is dirty in it cannot be
		 * brought either: then it comes back here. */
		fuse_lowlevel_notify_inval_inode(mount_session(distrust->mount), range->ino, (off_t)range->offset,
						 (off_t)range->length);
		pthread_mutex_lock(&distrust->mutex);
		distrust->first = range->next;
		if (!distrust->first)
			distrust->last = &distrust->first;
		free(range);
		atomic_fetch_sub(&distrust->count, 1);
		pthread_cond_broadcast(&distrust->done);
	}
	distrust->running = false;
	pthread_cond_broadcast(&distrust->done);
	pthread_mutex_unlock(&distrust->mutex);
	return NULL;
}

/* The caller holds the mutex. */
static int start(struct distrust *distrust)
{
	pthread_attr_t attributes;
	pthread_t thread;
	int error;

	if (distrust->running)
		return 0;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	error = -pthread_create(&thread, &attributes, work, distrust);
	pthread_attr_destroy(&attributes);
	distrust->running = !error;
	return error;
}

int distrust_range(struct distrust *distrust, struct mount *mount, fuse_ino_t ino, uint64_t offset, uint64_t length)
{
	struct distrust_range *range = malloc(sizeof(*range));
	int error;

	if (!range)
		return -ENOMEM;
	*range = (struct distrust_range){ .ino = ino, .offset = offset, .length = length };
	pthread_mutex_lock(&distrust->mutex);
	distrust->mount = mount;
	error = start(distrust);
	if (error) {
		free(range);
	} else {
		atomic_fetch_add(&distrust->count, 1);
		*distrust->last = range;
		distrust->last = &range->next;
	}
	pthread_mutex_unlock(&distrust->mutex);
	return error;
}

static bool is_waiting(const struct distrust *distrust, fuse_ino_t ino)
{
	const struct distrust_range *range = distrust->first;

	while (range && range->ino != ino)
		range = range->next;
	return range != NULL;
}

void distrust_wait(struct distrust *distrust, fuse_ino_t ino)
{
	if (atomic_load(&distrust->count) == 0)
		return;
	pthread_mutex_lock(&distrust->mutex);
	while (is_waiting(distrust, ino))
		pthread_cond_wait(&distrust->done, &distrust->mutex);
	pthread_mutex_unlock(&distrust->mutex);
}
