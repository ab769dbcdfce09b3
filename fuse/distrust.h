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
 * An fsync is refused only once by the kernel: for the next one there is nothing dirty any more. SQLite syncs a WAL before
 * it brings pages from it into the database (with synchronous=NORMAL only then), and would do so at the second try, from
 * pages that the kernel alone has: a crash in the middle would leave parts of transactions in the database, and nothing
 * in the WAL to complete them. So it is noted which bytes were refused. As long as some of them are missing, an fsync
 * asks the kernel for them (it still has them, unless it needed the memory) and writes them, or is refused.
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
	atomic_uint count;       /* files of which something was refused */
	pthread_mutex_t writing; /* held while a file with a note is written to; taken before `mutex` */
	pthread_mutex_t mutex;   /* guards the rest */
	pthread_cond_t done;
	struct distrust_file *first; /* owned */
	bool running;                /* the thread is there */
	unsigned bringing;           /* calls of distrust_bring() */
	struct mount *mount;         /* borrowed; of the last call */

	/* What the kernel was asked for, by one at a time. */
	bool asking, has_answered;
	uint64_t question; /* its number: an answer that comes too late is none */
	char *answer;      /* borrowed from who asks; DISTRUST_PIECE_BYTES */
	size_t answer_length;
};

#define DISTRUST_PIECE_BYTES (128u << 10) /* asked for at a time; a kernel gives no less */

/* distrust_init - a zeroed @distrust. distrust_destroy() undoes it, after distrust_drain(). */
void distrust_init(struct distrust *distrust);
void distrust_destroy(struct distrust *distrust);

/* distrust_drain - wait for all threads. Nobody begins anything new; the kernel has let go of the mount. */
void distrust_drain(struct distrust *distrust);

/* distrust_note - @length bytes (more than 0) of @ino are being refused: to be told before that is answered. If there is
 * no memory for the note, the kernel goes on showing them. */
void distrust_note(struct distrust *distrust, fuse_ino_t ino, uint64_t offset, size_t length);

/* distrust_is_noted - cheap where nothing is. */
bool distrust_is_noted(struct distrust *distrust, fuse_ino_t ino);

/*
 * distrust_begin_write - the store is about to be written to, in a file with a note: one at a time. Returns whether
 * distrust_end_write() must follow. @error: of the write; if 0, what was written is not missing any more.
 */
bool distrust_begin_write(struct distrust *distrust, fuse_ino_t ino);
void distrust_end_write(struct distrust *distrust, fuse_ino_t ino, uint64_t offset, size_t length, int error);

/* distrust_cut - @ino has no more than @size bytes now: what is missing behind that is not. */
void distrust_cut(struct distrust *distrust, fuse_ino_t ino, uint64_t size);

/* distrust_read - the kernel asks for this range, so it has not got it any more: what is missing of it is gone. */
void distrust_read(struct distrust *distrust, fuse_ino_t ino, uint64_t offset, size_t length);

/* distrust_lacks - is something of @ino missing? */
bool distrust_lacks(struct distrust *distrust, fuse_ino_t ino);

/* Writes to the file that distrust_bring() was called for; 0 or -errno. */
typedef int distrust_write_fn(void *arg, uint64_t offset, const void *bytes, size_t length);

/*
 * distrust_bring - what is missing of @ino is got from the kernel and written. Waits for
 * an answer that another thread must take: no thread that serves may call it.
 * @mount: borrowed until distrust_drain() returns
 * Returns 0 if nothing is missing any more, -ENOSPC if something is that the kernel has not got either, what @write
 * returned, -ENOMEM, or -EIO if the mount is gone.
 */
int distrust_bring(struct distrust *distrust, struct mount *mount, fuse_ino_t ino, distrust_write_fn *write, void *arg);

/* distrust_bringing - of a thread for distrust_bring(): true before it is made, false as its last act (or if it cannot be
 * made). distrust_drain() waits for it. */
void distrust_bringing(struct distrust *distrust, bool begins);

/* distrust_answer - the kernel's answer to question @cookie. @bufv: borrowed. */
void distrust_answer(struct distrust *distrust, const void *cookie, struct fuse_bufvec *bufv);

/* distrust_forget - the kernel forgets all of @ino, if something of it was refused, before this returns. @mount: borrowed
 * until distrust_drain() returns. */
void distrust_forget(struct distrust *distrust, struct mount *mount, fuse_ino_t ino);

#endif
