/* SPDX-License-Identifier: MIT */
#include "node.h"

#include <assert.h>

static const char node_magic[4] = { 'M', 'N', 'O', 'D' };

enum { N_MAGIC = 0, N_LEVEL = 4, N_KIND = 5, N_COUNT = 6, N_HEAP = 8, N_LOST = 10, N_CELLS = MOJO_NODE_FIXED_BYTES };

static_assert(MOJO_NODE_BYTES_MAX <= UINT16_MAX, "offsets in a node are 16 bits");
static_assert((MOJO_CELL_FIXED_BYTES + 2 + MOJO_KEY_BYTES_MAX + MOJO_VALUE_BYTES_MAX) * 3 <=
		      MOJO_PAGE_SIZE_MIN - MOJO_NODE_FIXED_BYTES,
	      "three cells fit in the smallest node, so that a split always makes room");

static unsigned cell_at(const uint8_t *node, unsigned index)
{
	return mojo_get16(node + N_CELLS + 2 * index);
}

static unsigned cell_bytes(const uint8_t *node, unsigned at)
{
	return MOJO_CELL_FIXED_BYTES + mojo_get16(node + at) + mojo_get16(node + at + 2);
}

void mojo_node_init(uint8_t *node, uint32_t node_bytes, unsigned level, unsigned kind)
{
	memset(node, 0, node_bytes);
	memcpy(node + N_MAGIC, node_magic, sizeof(node_magic));
	node[N_LEVEL] = (uint8_t)level;
	node[N_KIND] = (uint8_t)kind;
	mojo_put16(node + N_HEAP, (uint16_t)node_bytes);
}

static int compare(const uint8_t *a, unsigned a_length, const uint8_t *b, unsigned b_length)
{
	unsigned least = a_length < b_length ? a_length : b_length;
	int order = memcmp(a, b, least);
	if (order)
		return order;
	return a_length < b_length ? -1 : a_length > b_length;
}

const uint8_t *mojo_node_key(const uint8_t *node, unsigned index, unsigned *ret_length)
{
	unsigned at = cell_at(node, index);
	*ret_length = mojo_get16(node + at);
	return node + at + MOJO_CELL_FIXED_BYTES;
}

uint8_t *mojo_node_value(uint8_t *node, unsigned index, unsigned *ret_length)
{
	unsigned at = cell_at(node, index);
	*ret_length = mojo_get16(node + at + 2);
	return node + at + MOJO_CELL_FIXED_BYTES + mojo_get16(node + at);
}

unsigned mojo_node_find(const uint8_t *node, const uint8_t *key, unsigned length, bool *ret_exact)
{
	unsigned low = 0, high = mojo_node_count(node);
	*ret_exact = false;
	while (low < high) {
		unsigned middle = (low + high) / 2, have_length;
		const uint8_t *have = mojo_node_key(node, middle, &have_length);
		int order = compare(have, have_length, key, length);
		if (order < 0) {
			low = middle + 1;
		} else {
			if (order == 0)
				*ret_exact = true;
			high = middle;
		}
	}
	return low;
}

unsigned mojo_node_child(const uint8_t *node, const uint8_t *key, unsigned length)
{
	bool exact;
	unsigned index = mojo_node_find(node, key, length, &exact);
	return exact || index == 0 ? index : index - 1;
}

int mojo_leaf_ref_offset(unsigned kind, const uint8_t *key, unsigned length)
{
	if (kind == MOJO_TREE_VERSIONS)
		return 0;
	if (kind == MOJO_TREE_MAIN && length > 0 && key[0] == MOJO_KEY_SLOT)
		return 0;
	return -1;
}

void mojo_node_each_ref(uint8_t *node, void (*fn)(void *arg, uint8_t *ref), void *arg)
{
	unsigned count = mojo_node_count(node), level = mojo_node_level(node), kind = mojo_node_kind(node);
	for (unsigned i = 0; i < count; i++) {
		unsigned key_length, value_length;
		const uint8_t *key = mojo_node_key(node, i, &key_length);
		uint8_t *value = mojo_node_value(node, i, &value_length);
		int offset = level ? 0 : mojo_leaf_ref_offset(kind, key, key_length);
		if (offset >= 0 && !mojo_ref_is_null(value + offset))
			fn(arg, value + offset);
	}
}

bool mojo_node_valid(const uint8_t *node, uint32_t node_bytes)
{
	unsigned count = mojo_node_count(node), level = mojo_node_level(node), kind = mojo_node_kind(node);
	unsigned heap = mojo_get16(node + N_HEAP), lost = mojo_get16(node + N_LOST);
	if (memcmp(node + N_MAGIC, node_magic, sizeof(node_magic)) != 0 || level > 16 || kind < MOJO_TREE_MAIN ||
	    kind > MOJO_TREE_SPACE || count == 0 || mojo_get32(node + 12) != 0)
		return false;
	if (heap > node_bytes || N_CELLS + 2 * count > heap)
		return false;
	unsigned total = 0;
	for (unsigned i = 0; i < count; i++) {
		unsigned at = cell_at(node, i);
		if (at < heap || at > node_bytes - MOJO_CELL_FIXED_BYTES)
			return false;
		unsigned key_length = mojo_get16(node + at), value_length = mojo_get16(node + at + 2);
		if (key_length > MOJO_KEY_BYTES_MAX || value_length > MOJO_VALUE_BYTES_MAX ||
		    cell_bytes(node, at) > node_bytes - at)
			return false;
		total += cell_bytes(node, at);
		const uint8_t *key = node + at + MOJO_CELL_FIXED_BYTES;
		if (i > 0) {
			unsigned before_length;
			const uint8_t *before = mojo_node_key(node, i - 1, &before_length);
			if (compare(before, before_length, key, key_length) >= 0)
				return false;
		}
		int offset = level ? 0 : mojo_leaf_ref_offset(kind, key, key_length);
		if (offset >= 0 && (value_length < offset + MOJO_REF_BYTES ||
				    !mojo_ref_valid(key + key_length + offset, MOJO_PPS_MAX * MOJO_ENTRY_BYTES)))
			return false;
		if (level && (value_length != MOJO_REF_BYTES || mojo_ref_is_null(key + key_length)))
			return false;
	}
	return total + lost == node_bytes - heap; /* no two cells can share bytes */
}

uint32_t mojo_node_used(const uint8_t *node, uint32_t node_bytes)
{
	return node_bytes - mojo_get16(node + N_HEAP) - mojo_get16(node + N_LOST) + 2 * mojo_node_count(node);
}

/* Closes the holes that removed cells left. */
static void pack(uint8_t *node, uint32_t node_bytes)
{
	uint8_t old[MOJO_NODE_BYTES_MAX];
	memcpy(old, node, node_bytes);
	unsigned heap = node_bytes, count = mojo_node_count(node);
	for (unsigned i = 0; i < count; i++) {
		unsigned at = cell_at(old, i), bytes = cell_bytes(old, at);
		heap -= bytes;
		memcpy(node + heap, old + at, bytes);
		mojo_put16(node + N_CELLS + 2 * i, (uint16_t)heap);
	}
	memset(node + N_CELLS + 2 * count, 0, heap - (N_CELLS + 2 * count));
	mojo_put16(node + N_HEAP, (uint16_t)heap);
	mojo_put16(node + N_LOST, 0);
}

bool mojo_node_insert(uint8_t *node, uint32_t node_bytes, unsigned index, const uint8_t *key, unsigned key_length,
		      const uint8_t *value, unsigned value_length)
{
	assert(key_length <= MOJO_KEY_BYTES_MAX && value_length <= MOJO_VALUE_BYTES_MAX);
	unsigned count = mojo_node_count(node), bytes = MOJO_CELL_FIXED_BYTES + key_length + value_length;
	if (MOJO_NODE_FIXED_BYTES + mojo_node_used(node, node_bytes) + bytes + 2 > node_bytes)
		return false;
	if (N_CELLS + 2 * (count + 1) + bytes > mojo_get16(node + N_HEAP))
		pack(node, node_bytes);
	unsigned heap = mojo_get16(node + N_HEAP) - bytes;
	mojo_put16(node + heap, (uint16_t)key_length);
	mojo_put16(node + heap + 2, (uint16_t)value_length);
	if (key_length) /* the lowest key of a level has none, and may come as NULL */
		memcpy(node + heap + MOJO_CELL_FIXED_BYTES, key, key_length);
	if (value_length)
		memcpy(node + heap + MOJO_CELL_FIXED_BYTES + key_length, value, value_length);
	uint8_t *offsets = node + N_CELLS;
	memmove(offsets + 2 * (index + 1), offsets + 2 * index, 2 * (count - index));
	mojo_put16(offsets + 2 * index, (uint16_t)heap);
	mojo_put16(node + N_HEAP, (uint16_t)heap);
	mojo_put16(node + N_COUNT, (uint16_t)(count + 1));
	return true;
}

void mojo_node_remove(uint8_t *node, unsigned index)
{
	unsigned count = mojo_node_count(node), at = cell_at(node, index), bytes = cell_bytes(node, at);
	if (at == mojo_get16(node + N_HEAP))
		mojo_put16(node + N_HEAP, (uint16_t)(at + bytes));
	else
		mojo_put16(node + N_LOST, (uint16_t)(mojo_get16(node + N_LOST) + bytes));
	uint8_t *offsets = node + N_CELLS;
	memmove(offsets + 2 * index, offsets + 2 * (index + 1), 2 * (count - index - 1));
	mojo_put16(node + N_COUNT, (uint16_t)(count - 1));
}

void mojo_node_split(uint8_t *node, uint8_t *to, uint32_t node_bytes, unsigned index)
{
	unsigned count = mojo_node_count(node);
	mojo_node_init(to, node_bytes, mojo_node_level(node), mojo_node_kind(node));
	for (unsigned i = index; i < count; i++) {
		unsigned key_length, value_length;
		const uint8_t *key = mojo_node_key(node, i, &key_length);
		const uint8_t *value = mojo_node_value(node, i, &value_length);
		mojo_node_insert(to, node_bytes, i - index, key, key_length, value, value_length);
	}
	mojo_put16(node + N_COUNT, (uint16_t)index);
	pack(node, node_bytes);
}
