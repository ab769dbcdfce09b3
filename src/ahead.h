/* SPDX-License-Identifier: MIT */
/*
 * ahead.h - who reads a file from front to back, and up to where the disk has been asked for it already.
 *
 * Pages that were overwritten lie where they were written, so the host, which sees reads here and there in several
 * chunks, cannot guess what comes next. From the file it is plain. Whoever reads much of a file at a time, each piece
 * behind the one before, has MOJO_AHEAD_BYTES of it on their way.
 *
 * It costs no memory but the host's cache. Thread safety: none; the store's lock is held.
 */
#ifndef MOJO_AHEAD_H
#define MOJO_AHEAD_H

#include <stdbool.h>
#include <stdint.h>

#define MOJO_AHEAD_READERS 8u          /* told apart; one more takes the place of who was last seen longest ago */
#define MOJO_AHEAD_BYTES   (1u << 20)  /* asked for in advance of one reader, at most */
#define MOJO_AHEAD_LEAST   (64u << 10) /* bytes of a read below which it tells nothing */

struct mojo_ahead_reader {
	uint32_t version, bucket;
	uint64_t next;     /* page behind the furthest one read */
	uint64_t asked;    /* pages below this were asked for, or read */
	uint64_t last_use; /* 0: nobody */
};

/* All zeros to begin with. */
struct mojo_ahead {
	struct mojo_ahead_reader readers[MOJO_AHEAD_READERS];
	uint64_t clock;
};

/*
 * mojo_ahead_read - pages [@first, @first + @count) are about to be read; what should the disk be asked for as well?
 * Reads of one reader may come in any order within twice MOJO_AHEAD_BYTES, as a kernel's do that reads ahead itself.
 * @ret_first: where that begins. Returns how many pages it is: 0, or up to MOJO_AHEAD_BYTES
 * @ret_asked: everything that is about to be read was asked for before
 */
uint32_t mojo_ahead_read(struct mojo_ahead *ahead, uint32_t version, uint32_t bucket, uint64_t first, uint32_t count,
			 uint32_t page_bytes, uint64_t *ret_first, bool *ret_asked);

#endif
