/* SPDX-License-Identifier: MIT */
/*
 * distrust.h - what the kernel could not bring is taken out of its cache.
 *
 * The kernel answers a write when it has the bytes, and brings them later. If they are refused then, for want of room as
 * a rule, whoever syncs the file is told; but the kernel goes on showing them to everybody, as if they had been written,
 * until it needs the memory. Who wrote them may rely on that: SQLite rolls a transaction back with the journal that it
 * could not sync. But the next one who opens the file must not: he would find a transaction in a WAL whose commit failed,
 * take it for committed, and bring into the database, page by page, what a loss of power in the middle takes away again.
 * So when a file of which something was refused is opened, and nobody has it open for writing any more, the kernel is told
 * to forget it first. By a thread of our own, made when there is something to do: what is dirty in it by then is brought
 * before, and somebody must be there to take it.
 *
 * All functions may be called from any thread.
 */
#ifndef FUSE_DISTRUST_H
#define FUSE_DISTRUST_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "mount.h"

struct distrust_file;

struct distrust {
	atomic_uint count;     /* files of which something was refused */
	pthread_mutex_t mutex; /* guards the rest */
	pthread_cond_t done;
	struct distrust_file *first; /* owned */
	bool running;                /* the thread is there */
	struct mount *mount;         /* borrowed; of the last call */
};

/* distrust_init - a zeroed @distrust. distrust_destroy() undoes it, after distrust_drain(). */
void distrust_init(struct distrust *distrust);
void distrust_destroy(struct distrust *distrust);

/* distrust_drain - wait for the thread. Nobody calls distrust_forget() any more; the kernel has let go of the mount. */
void distrust_drain(struct distrust *distrust);

/* distrust_note - something of @ino is being refused: to be told before that is answered. If there is no memory for the
 * note, the kernel goes on showing it. */
void distrust_note(struct distrust *distrust, fuse_ino_t ino);

/* distrust_is_noted - cheap where nothing is. */
bool distrust_is_noted(struct distrust *distrust, fuse_ino_t ino);

/* distrust_forget - the kernel forgets all of @ino, if something of it was refused, before this returns. @mount: borrowed
 * until distrust_drain() returns. */
void distrust_forget(struct distrust *distrust, struct mount *mount, fuse_ino_t ino);

#endif
