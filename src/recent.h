/* SPDX-License-Identifier: MIT */
/*
 * recent.h - blocks that were written past the host's cache, kept for a while.
 *
 * Whoever reads such a block would wait for the disk. Most are read, if at all, soon after they were written (a commit
 * that settles what a WAL holds, a page that is changed again), so the last few MiB of them stay here: a block
 * replaces the one that was in its place, which its address determines.
 *
 * What is here is what was written. Whoever writes to a block in another way, or gives it back, drops it first.
 *
 * Thread safety: every function may be called from any thread, but for mojo_recent_init() and mojo_recent_free().
 */
#ifndef MOJO_RECENT_H
#define MOJO_RECENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define MOJO_RECENT_BYTES (4u << 20) /* kept at the most */

struct mojo_recent {
	uint32_t block_bytes;
	uint32_t count; /* places */
	atomic_uint used;
	pthread_mutex_t mu; /* guards the place of each block */
	struct mojo_recent_block {
		uint64_t address;
		uint8_t *data; /* owned; NULL: this place was never used */
		bool is_valid;
	} * blocks; /* owned; NULL until something is kept */
};

void mojo_recent_init(struct mojo_recent *recent, uint32_t block_bytes);
void mojo_recent_free(struct mojo_recent *recent);

/* mojo_recent_put - keep what was written from block @address on: whole blocks in all, copied out of @vector. Where memory
 * lacks a block is not kept. */
void mojo_recent_put(struct mojo_recent *recent, uint64_t address, const struct iovec *vector, int count);

/* mojo_recent_get - @bytes from block @address on into @buf, if all of them are here. */
bool mojo_recent_get(struct mojo_recent *recent, uint64_t address, void *buf, size_t bytes);

/* mojo_recent_drop - blocks [address, address + count) are not, or no longer, as they are here. */
void mojo_recent_drop(struct mojo_recent *recent, uint64_t address, uint64_t count);

#endif
