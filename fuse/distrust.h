/* SPDX-License-Identifier: MIT */
/*
 * distrust.h - what the kernel could not bring is taken out of its cache.
 *
 * The kernel answers a write when it has the bytes, and brings them later. If they are refused then, for want of room as
 * a rule, whoever syncs the file is told; but the kernel goes on showing them to everybody, as if they had been written,
 * until it needs the memory. SQLite is not prepared for that: it would find a transaction in a WAL whose commit failed,
 * take it for committed, and bring into the database, page by page, what a loss of power in the middle takes away again.
 * So the kernel is told to forget them. It may not be by the thread that refuses them, for the kernel keeps the pages
 * locked until that is answered, and what is dirty in them by then is brought first, for which somebody must serve.
 *
 * A thread of our own does it, made when there is something to do. Who opens the file waits until it is done.
 * All functions may be called from any thread.
 */
#ifndef FUSE_DISTRUST_H
#define FUSE_DISTRUST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "mount.h"

struct distrust_range;

struct distrust {
	atomic_uint count;     /* ranges that are waiting or at work */
	pthread_mutex_t mutex; /* guards the rest */
	pthread_cond_t done;
	struct distrust_range *first, **last; /* owned; the first one is at work if running */
	bool running;
	struct mount *mount; /* borrowed; of the last call */
};

/* distrust_init - a zeroed @distrust. distrust_destroy() undoes it, after distrust_drain(). */
void distrust_init(struct distrust *distrust);
void distrust_destroy(struct distrust *distrust);

/* distrust_drain - wait for the thread. Nobody calls distrust_range() any more; the kernel has let go of the mount. */
void distrust_drain(struct distrust *distrust);

/* distrust_range - @length bytes at @offset of @ino are being refused: to be told before that is answered, so that whoever
 * opens the file after it waits. @mount: borrowed until distrust_drain() returns.
 * Returns 0; -ENOMEM or -EAGAIN: the kernel goes on showing them, for now. */
int distrust_range(struct distrust *distrust, struct mount *mount, fuse_ino_t ino, uint64_t offset, uint64_t length);

/* distrust_wait - until nothing of @ino is waiting or at work. Not from a thread on which that could depend. */
void distrust_wait(struct distrust *distrust, fuse_ino_t ino);

#endif
