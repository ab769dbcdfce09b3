/* SPDX-License-Identifier: MIT */
/*
 * follow.h - the serving threads on the processor of who asks.
 *
 * Who waits for an answer leaves its processor idle meanwhile. But the kernel wakes the thread that is to answer
 * on another processor, if one is idle, and the answer is then woken for on the first one again: twice an idle
 * processor comes out of its sleep, which costs several times what is done in between. So while one thread alone
 * asks for little things, one after another, all serving threads are put on the processor where it runs; and are
 * let go as soon as somebody else asks, or much is to be moved, which is better done on two processors at once.
 *
 *                              same asker FOLLOW_AFTER times
 *               anywhere  ------------------------------------->  on the asker's processor
 *                         <-------------------------------------
 *                           another asker, or a bulky request
 */
#ifndef FUSE_FOLLOW_H
#define FUSE_FOLLOW_H

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#define FOLLOW_AFTER   32u        /* requests of one asker in a row */
#define FOLLOW_AGAIN   512u       /* requests after which we look where it runs now */
#define FOLLOW_BULK    (64 << 10) /* bytes of a request for which it is better to be let go */
#define FOLLOW_THREADS 64u        /* more than libfuse is told to start */

struct follow {
	atomic_int asker;              /* thread that asked last */
	atomic_uint count;             /* how many requests it made in a row */
	atomic_int processor;          /* where the serving threads are; -1: anywhere */
	pthread_key_t key;             /* each serving thread's place among threads[] */
	cpu_set_t allowed;             /* where they may be at all; constant */
	bool enabled;                  /* there is more than one such processor */
	pthread_mutex_t mutex;         /* guards what follows */
	pid_t threads[FOLLOW_THREADS]; /* 0: a free place */
};

/* follow_init - a zeroed @follow; the processors that the caller may run on are the ones to choose from. -EAGAIN,
 * -ENOMEM. follow_destroy() undoes it: no serving thread is there any more. */
int follow_init(struct follow *follow);
void follow_destroy(struct follow *follow);

/*
 * follow_request - called by a serving thread at the beginning of each request.
 * @asker: thread id of who waits for the answer; 0: nobody does, or it is none that we can see
 * @bytes: that are to be moved, about
 */
void follow_request(struct follow *follow, pid_t asker, size_t bytes);

#endif
