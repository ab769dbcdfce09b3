/* SPDX-License-Identifier: MIT */
/*
 * hold.h - how often each bucket is held open: a table of counts, for as long as the store is open.
 *
 * Thread safety: none; the store's lock is held.
 */
#ifndef MOJO_HOLD_H
#define MOJO_HOLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mojo_hold {
	uint32_t bucket; /* 0: free */
	uint32_t count;
};

struct mojo_holds {
	struct mojo_hold *places; /* open addressing; owned */
	size_t count, capacity;   /* capacity: a power of two, or 0 */
};

/* mojo_holds_add - one hold more. -ENOMEM. */
int mojo_holds_add(struct mojo_holds *holds, uint32_t bucket);
/* mojo_holds_drop - one hold fewer; *ret_last: it was the last one. -EINVAL if there is none. */
int mojo_holds_drop(struct mojo_holds *holds, uint32_t bucket, bool *ret_last);
bool mojo_holds_has(const struct mojo_holds *holds, uint32_t bucket);
/* mojo_holds_clear - all holds go; the table may be used again. */
void mojo_holds_clear(struct mojo_holds *holds);

#endif
