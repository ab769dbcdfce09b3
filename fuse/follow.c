/* SPDX-License-Identifier: MIT */
#include "follow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A serving thread ends. */
static void leave(void *place)
{
	pid_t *thread = place;

	/* Another thread may be about to move this one; its number is not given to anyone else before it has ended. */
	__atomic_store_n(thread, 0, __ATOMIC_RELAXED);
}

int follow_init(struct follow *follow)
{
	int error = -pthread_key_create(&follow->key, leave);

	if (error)
		return error;
	pthread_mutex_init(&follow->mutex, NULL);
	atomic_store(&follow->processor, -1);
	follow->enabled =
		sched_getaffinity(0, sizeof(follow->allowed), &follow->allowed) == 0 && CPU_COUNT(&follow->allowed) > 1;
	return 0;
}

void follow_destroy(struct follow *follow)
{
	pthread_key_delete(follow->key);
	pthread_mutex_destroy(&follow->mutex);
}

/* Where the threads are to be. */
static void fill(const struct follow *follow, int processor, cpu_set_t *ret_set)
{
	if (processor < 0) {
		*ret_set = follow->allowed;
	} else {
		CPU_ZERO(ret_set);
		CPU_SET(processor, ret_set);
	}
}

static void enter(struct follow *follow)
{
	cpu_set_t set;

	pthread_mutex_lock(&follow->mutex);
	for (size_t i = 0; i < FOLLOW_THREADS; i++) {
		if (__atomic_load_n(&follow->threads[i], __ATOMIC_RELAXED) == 0) {
			if (pthread_setspecific(follow->key, &follow->threads[i]) == 0)
				__atomic_store_n(&follow->threads[i], gettid(), __ATOMIC_RELAXED);
			break;
		}
	}
	/* It was started by one that may be on some processor; what is right now is another thing. */
	fill(follow, atomic_load(&follow->processor), &set);
	sched_setaffinity(0, sizeof(set), &set);
	pthread_mutex_unlock(&follow->mutex);
}

static void move_all(struct follow *follow, int processor)
{
	cpu_set_t set;

	pthread_mutex_lock(&follow->mutex);
	if (atomic_load(&follow->processor) != processor) {
		atomic_store(&follow->processor, processor);
		fill(follow, processor, &set);
		for (size_t i = 0; i < FOLLOW_THREADS; i++) {
			pid_t thread = __atomic_load_n(&follow->threads[i], __ATOMIC_RELAXED);

			if (thread)
				sched_setaffinity(thread, sizeof(set), &set);
		}
	}
	pthread_mutex_unlock(&follow->mutex);
}

/* The processor on which @thread ran last; -1 if that cannot be said. */
static int processor_of(pid_t thread)
{
	char path[32], text[1024], *at;
	long processor;
	ssize_t length;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)thread);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	length = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (length <= 0)
		return -1;
	text[length] = '\0';
	/* The second field is the name, in parentheses, with whatever it may hold; the processor is the 39th. */
	at = strrchr(text, ')');
	for (int field = 2; at && field < 39; field++)
		at = strchr(at + 1, ' ');
	if (!at)
		return -1;
	processor = strtol(at, NULL, 10);
	return processor >= 0 && processor < CPU_SETSIZE ? (int)processor : -1;
}

void follow_request(struct follow *follow, pid_t asker, size_t bytes)
{
	unsigned count;

	if (!follow->enabled)
		return;
	if (!pthread_getspecific(follow->key))
		enter(follow);
	if (asker != 0 && bytes < FOLLOW_BULK && asker == atomic_load_explicit(&follow->asker, memory_order_relaxed)) {
		count = atomic_fetch_add_explicit(&follow->count, 1, memory_order_relaxed) + 1;
		if (count == FOLLOW_AFTER || count % FOLLOW_AGAIN == 0) {
			int processor = processor_of(asker);

			if (processor >= 0 && CPU_ISSET(processor, &follow->allowed))
				move_all(follow, processor);
		}
		return;
	}
	/* What nobody waits for, as the kernel's own writing back, says nothing as long as it is little. */
	if (asker == 0 && bytes < FOLLOW_BULK)
		return;
	atomic_store_explicit(&follow->asker, asker, memory_order_relaxed);
	atomic_store_explicit(&follow->count, 0, memory_order_relaxed);
	if (atomic_load_explicit(&follow->processor, memory_order_relaxed) >= 0)
		move_all(follow, -1);
}
