/* SPDX-License-Identifier: MIT */
#include "recent.h"

#include <stdlib.h>
#include <string.h>

void mojo_recent_init(struct mojo_recent *recent, uint32_t block_bytes)
{
	memset(recent, 0, sizeof(*recent));
	recent->block_bytes = block_bytes;
	recent->count = MOJO_RECENT_BYTES / block_bytes;
	pthread_mutex_init(&recent->mu, NULL);
}

void mojo_recent_free(struct mojo_recent *recent)
{
	for (uint32_t i = 0; recent->blocks && i < recent->count; i++)
		free(recent->blocks[i].data);
	free(recent->blocks);
	pthread_mutex_destroy(&recent->mu);
}

static struct mojo_recent_block *place_of(const struct mojo_recent *recent, uint64_t address)
{
	return &recent->blocks[address % recent->count];
}

/* Caller holds mu. */
static void invalidate(struct mojo_recent *recent, struct mojo_recent_block *block)
{
	if (block->is_valid)
		atomic_fetch_sub(&recent->used, 1);
	block->is_valid = false;
}

/* An empty place for the block, or NULL. Caller holds mu. */
static struct mojo_recent_block *make_place(struct mojo_recent *recent, uint64_t address)
{
	if (!recent->blocks)
		recent->blocks = calloc(recent->count, sizeof(*recent->blocks));
	if (!recent->blocks)
		return NULL;
	struct mojo_recent_block *block = place_of(recent, address);
	invalidate(recent, block);
	if (!block->data)
		block->data = malloc(recent->block_bytes);
	return block->data ? block : NULL;
}

void mojo_recent_put(struct mojo_recent *recent, uint64_t address, const struct iovec *vector, int count)
{
	size_t skip = 0; /* bytes of the first buffer that are kept already */
	pthread_mutex_lock(&recent->mu);
	while (count > 0) {
		struct mojo_recent_block *block = make_place(recent, address);
		for (size_t done = 0; count > 0 && done < recent->block_bytes;) {
			size_t part = vector->iov_len - skip, room = recent->block_bytes - done;
			if (part > room)
				part = room;
			if (block)
				memcpy(block->data + done, (const uint8_t *)vector->iov_base + skip, part);
			done += part;
			skip += part;
			if (skip == vector->iov_len) {
				skip = 0;
				vector++;
				count--;
			}
		}
		if (block) {
			block->address = address;
			block->is_valid = true;
			atomic_fetch_add(&recent->used, 1);
		}
		address++;
	}
	pthread_mutex_unlock(&recent->mu);
}

bool mojo_recent_get(struct mojo_recent *recent, uint64_t address, void *buf, size_t bytes)
{
	size_t done = 0;
	if (atomic_load(&recent->used) == 0)
		return false;
	pthread_mutex_lock(&recent->mu);
	for (; done < bytes; address++) {
		const struct mojo_recent_block *block = place_of(recent, address);
		size_t part = bytes - done < recent->block_bytes ? bytes - done : recent->block_bytes;
		if (!block->is_valid || block->address != address)
			break;
		memcpy((uint8_t *)buf + done, block->data, part);
		done += part;
	}
	pthread_mutex_unlock(&recent->mu);
	return done == bytes;
}

void mojo_recent_drop(struct mojo_recent *recent, uint64_t address, uint64_t count)
{
	if (atomic_load(&recent->used) == 0)
		return;
	pthread_mutex_lock(&recent->mu);
	for (uint64_t i = 0; i < count && i < recent->count; i++) {
		struct mojo_recent_block *block = place_of(recent, address + i);
		if (block->is_valid && block->address - address < count)
			invalidate(recent, block);
	}
	pthread_mutex_unlock(&recent->mu);
}
