/* SPDX-License-Identifier: MIT */
#include "distrust.h"

#include <pthread.h>
#include <stdlib.h>

struct distrust_file {
	struct distrust_file *next;
	fuse_ino_t ino;
	bool wanted; /* somebody waits until the kernel has forgotten it */
};

void distrust_init(struct distrust *distrust)
{
	atomic_init(&distrust->count, 0);
	pthread_mutex_init(&distrust->mutex, NULL);
	pthread_cond_init(&distrust->done, NULL);
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
	for (struct distrust_file *file = distrust->first, *next; file; file = next) {
		next = file->next;
		free(file);
	}
	pthread_cond_destroy(&distrust->done);
	pthread_mutex_destroy(&distrust->mutex);
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

void distrust_note(struct distrust *distrust, fuse_ino_t ino)
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
