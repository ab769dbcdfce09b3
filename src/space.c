/* SPDX-License-Identifier: MIT */
#include "space.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* ---- sets of blocks ------------------------------------------------------------------------- */

static size_t place_of(const struct mojo_block_set *set, uint64_t group)
{
	size_t at = (size_t)(group * 0x9e3779b97f4a7c15ull >> 17) & (set->capacity - 1);
	while (set->groups[at].used && set->groups[at].group != group)
		at = (at + 1) & (set->capacity - 1);
	return at;
}

static int grow(struct mojo_block_set *set)
{
	struct mojo_block_set larger = { .capacity = set->capacity ? set->capacity * 2 : 16 };
	larger.groups = calloc(larger.capacity, sizeof(*larger.groups));
	if (!larger.groups)
		return -ENOMEM;
	for (size_t i = 0; i < set->capacity; i++)
		if (set->groups[i].used)
			larger.groups[place_of(&larger, set->groups[i].group)] = set->groups[i];
	larger.count = set->count;
	free(set->groups);
	*set = larger;
	return 0;
}

static int get_group(struct mojo_block_set *set, uint64_t group, struct mojo_block_group **ret_group)
{
	if (set->count * 2 >= set->capacity) {
		int err = grow(set);
		if (err)
			return err;
	}
	struct mojo_block_group *g = &set->groups[place_of(set, group)];
	if (!g->used) {
		g->used = true;
		g->group = group;
		set->count++;
	}
	*ret_group = g;
	return 0;
}

static bool bit(const uint8_t *bits, uint32_t i)
{
	return bits[i / 8] >> (i % 8) & 1;
}

static void set_bit(uint8_t *bits, uint32_t i)
{
	bits[i / 8] |= (uint8_t)(1u << (i % 8));
}

int mojo_block_set_add(struct mojo_block_set *set, uint32_t group_blocks, uint64_t address, uint64_t count)
{
	while (count) {
		struct mojo_block_group *g;
		int err = get_group(set, address / group_blocks, &g);
		if (err)
			return err;
		uint32_t i = (uint32_t)(address % group_blocks);
		for (; i < group_blocks && count; i++, address++, count--)
			set_bit(g->bits, i);
	}
	return 0;
}

bool mojo_block_set_has(const struct mojo_block_set *set, uint32_t group_blocks, uint64_t address)
{
	if (!set->capacity)
		return false;
	const struct mojo_block_group *g = &set->groups[place_of(set, address / group_blocks)];
	return g->used && bit(g->bits, (uint32_t)(address % group_blocks));
}

uint64_t mojo_block_set_count(const struct mojo_block_set *set)
{
	uint64_t count = 0;
	for (size_t i = 0; i < set->capacity; i++)
		for (size_t b = 0; set->groups[i].used && b < MOJO_SPACE_BITMAP_BYTES; b++)
			count += (unsigned)__builtin_popcount(set->groups[i].bits[b]);
	return count;
}

void mojo_block_set_free(struct mojo_block_set *set)
{
	free(set->groups);
	memset(set, 0, sizeof(*set));
}

/* ---- cells of the space tree ---------------------------------------------------------------- */

#define GROUP_VALUE_BYTES (2 * MOJO_SPACE_BITMAP_BYTES) /* dead bits, punched bits */

struct group_value {
	uint8_t dead[MOJO_SPACE_BITMAP_BYTES];
	uint8_t punched[MOJO_SPACE_BITMAP_BYTES];
};
static_assert(sizeof(struct group_value) == GROUP_VALUE_BYTES, "two bitmaps");

static unsigned group_key(uint8_t *key, enum mojo_space_key_type type, uint64_t group)
{
	key[0] = type;
	mojo_put_be64(key + 1, group);
	return 9;
}

static unsigned chunk_key(uint8_t *key, enum mojo_space_key_type type, uint32_t chunk)
{
	key[0] = type;
	mojo_put_be32(key + 1, chunk);
	return 5;
}

static int get_group_value(const struct mojo_space_map *space, uint64_t group, struct group_value *value)
{
	uint8_t key[MOJO_KEY_BYTES_MAX];
	struct mojo_cell cell;
	memset(value, 0, sizeof(*value));
	int err = mojo_tree_get(space->tree, key, group_key(key, MOJO_SPACE_GROUP, group), &cell);
	if (err)
		return err == -ENOENT ? 0 : err;
	if (cell.value_length != GROUP_VALUE_BYTES)
		return -EUCLEAN;
	memcpy(value, cell.value, GROUP_VALUE_BYTES);
	return 0;
}

static int put_group_value(struct mojo_space_map *space, uint64_t group, const struct group_value *value)
{
	uint8_t key[MOJO_KEY_BYTES_MAX];
	return mojo_tree_put(space->tree, key, group_key(key, MOJO_SPACE_GROUP, group), value->dead, GROUP_VALUE_BYTES);
}

struct chunk_value {
	uint32_t dead, punched; /* blocks */
};

static int get_chunk_value(const struct mojo_space_map *space, uint32_t chunk, struct chunk_value *value)
{
	uint8_t key[MOJO_KEY_BYTES_MAX];
	struct mojo_cell cell;
	*value = (struct chunk_value){ 0 };
	int err = mojo_tree_get(space->tree, key, chunk_key(key, MOJO_SPACE_CHUNK, chunk), &cell);
	if (err)
		return err == -ENOENT ? 0 : err;
	if (cell.value_length != 8)
		return -EUCLEAN;
	value->dead = mojo_get32(cell.value);
	value->punched = mojo_get32(cell.value + 4);
	return 0;
}

static int put_chunk_value(struct mojo_space_map *space, uint32_t chunk, const struct chunk_value *value)
{
	uint8_t key[MOJO_KEY_BYTES_MAX], bytes[8];
	mojo_put32(bytes, value->dead);
	mojo_put32(bytes + 4, value->punched);
	return mojo_tree_put(space->tree, key, chunk_key(key, MOJO_SPACE_CHUNK, chunk), bytes, sizeof(bytes));
}

static int delete_key(struct mojo_space_map *space, const uint8_t *key, unsigned length)
{
	int err = mojo_tree_delete(space->tree, key, length);
	return err == -ENOENT ? 0 : err;
}

static uint32_t chunk_of_group(const struct mojo_space_map *space, uint64_t group)
{
	return (uint32_t)(group * space->group_blocks / space->chunks->chunk_blocks);
}

/* ---- life ----------------------------------------------------------------------------------- */

void mojo_space_map_init(struct mojo_space_map *space, struct mojo_tree *tree, struct mojo_chunks *chunks)
{
	memset(space, 0, sizeof(*space));
	space->tree = tree;
	space->chunks = chunks;
	space->group_blocks =
		chunks->chunk_blocks < MOJO_SPACE_GROUP_BLOCKS ? chunks->chunk_blocks : MOJO_SPACE_GROUP_BLOCKS;
}

void mojo_space_map_free(struct mojo_space_map *space)
{
	mojo_block_set_free(&space->fresh);
	mojo_block_set_free(&space->waiting);
}

int mojo_space_load(struct mojo_space_map *space)
{
	uint8_t key[MOJO_KEY_BYTES_MAX];
	unsigned length = group_key(key, MOJO_SPACE_PENDING, 0);
	struct mojo_cell cell;
	int err;
	for (bool behind = false; !(err = mojo_tree_next(space->tree, key, length, behind, &cell)); behind = true) {
		if (cell.key[0] != MOJO_SPACE_PENDING)
			break;
		if (cell.key_length != 9)
			return -EUCLEAN;
		memcpy(key, cell.key, cell.key_length);
		length = cell.key_length;
		uint64_t group = mojo_get_be64(cell.key + 1);
		struct group_value value;
		err = get_group_value(space, group, &value);
		for (uint32_t i = 0; i < space->group_blocks && !err; i++)
			if (bit(value.dead, i) && !bit(value.punched, i))
				err = mojo_block_set_add(&space->waiting, space->group_blocks,
							 group * space->group_blocks + i, 1);
		if (err)
			return err;
	}
	if (err && err != -ENOENT)
		return err;
	length = chunk_key(key, MOJO_SPACE_SPARE, 0);
	for (bool behind = false; !(err = mojo_tree_next(space->tree, key, length, behind, &cell)); behind = true) {
		if (cell.key[0] != MOJO_SPACE_SPARE)
			break;
		if (cell.key_length != 5)
			return -EUCLEAN;
		memcpy(key, cell.key, cell.key_length);
		length = cell.key_length;
		if (space->spare_count < MOJO_SPACE_SPARES)
			space->spares[space->spare_count++] = mojo_get_be32(cell.key + 1);
	}
	return err && err != -ENOENT ? err : 0;
}

void mojo_space_kill(struct mojo_space_map *space, uint64_t address, uint64_t count)
{
	if (mojo_block_set_add(&space->fresh, space->group_blocks, address, count) != 0)
		space->out_of_memory = true;
}

uint64_t mojo_space_unreturned(const struct mojo_space_map *space)
{
	return mojo_block_set_count(&space->fresh) + mojo_block_set_count(&space->waiting);
}

/* One group of fresh deaths goes into the tree. */
static int settle_group(struct mojo_space_map *space, const struct mojo_block_group *g)
{
	struct group_value value;
	int err = get_group_value(space, g->group, &value);
	if (err)
		return err;
	uint32_t died = 0;
	for (uint32_t i = 0; i < space->group_blocks; i++) {
		if (bit(g->bits, i) && !bit(value.dead, i)) {
			set_bit(value.dead, i);
			died++;
		}
	}
	if (!died)
		return 0;
	err = put_group_value(space, g->group, &value);
	uint8_t key[MOJO_KEY_BYTES_MAX];
	if (!err)
		err = mojo_tree_put(space->tree, key, group_key(key, MOJO_SPACE_PENDING, g->group), key, 0);
	uint32_t chunk = chunk_of_group(space, g->group);
	struct chunk_value summary;
	if (!err)
		err = get_chunk_value(space, chunk, &summary);
	if (!err) {
		summary.dead += died;
		err = put_chunk_value(space, chunk, &summary);
	}
	return err;
}

int mojo_space_settle(struct mojo_space_map *space, struct mojo_block_set *ret_settled)
{
	struct mojo_block_set settled = { 0 };
	uint8_t key[MOJO_KEY_BYTES_MAX];
	int err = 0;
	for (; space->taken_count && !err; space->taken_count -= !err)
		err = delete_key(space, key, chunk_key(key, MOJO_SPACE_SPARE, space->taken[space->taken_count - 1]));
	/* Changing the tree kills nodes of it. Each old node dies once, so this ends. */
	while (!err && space->fresh.count) {
		struct mojo_block_set work = space->fresh;
		space->fresh = (struct mojo_block_set){ 0 };
		for (size_t i = 0; i < work.capacity && !err; i++) {
			const struct mojo_block_group *g = &work.groups[i];
			if (!g->used)
				continue;
			err = settle_group(space, g);
			struct mojo_block_group *kept;
			if (!err)
				err = get_group(&settled, g->group, &kept);
			for (size_t b = 0; b < MOJO_SPACE_BITMAP_BYTES && !err; b++)
				kept->bits[b] |= g->bits[b];
		}
		mojo_block_set_free(&work);
	}
	if (err) {
		mojo_block_set_free(&settled);
		return err;
	}
	*ret_settled = settled;
	return 0;
}

/* ---- giving back ---------------------------------------------------------------------------- */

/* All cells of a chunk go; its file becomes a spare or goes, too. */
static int retire_chunk(struct mojo_space_map *space, uint32_t chunk)
{
	uint8_t key[MOJO_KEY_BYTES_MAX];
	uint64_t first = (uint64_t)chunk * space->chunks->chunk_blocks / space->group_blocks;
	uint64_t groups = space->chunks->chunk_blocks / space->group_blocks;
	int err = 0;
	for (uint64_t g = first; g < first + groups && !err; g++) {
		err = delete_key(space, key, group_key(key, MOJO_SPACE_GROUP, g));
		if (!err)
			err = delete_key(space, key, group_key(key, MOJO_SPACE_PENDING, g));
	}
	if (!err)
		err = delete_key(space, key, chunk_key(key, MOJO_SPACE_CHUNK, chunk));
	if (err)
		return err;
	if (space->spare_count < MOJO_SPACE_SPARES) {
		space->spares[space->spare_count++] = chunk;
		return mojo_tree_put(space->tree, key, chunk_key(key, MOJO_SPACE_SPARE, chunk), key, 0);
	}
	mojo_chunks_remove(space->chunks, chunk);
	return 0;
}

/* Punches the blocks of @g that are dead and not punched yet. */
static int punch_group(struct mojo_space_map *space, const struct mojo_block_group *g)
{
	struct group_value value;
	int err = get_group_value(space, g->group, &value);
	if (err)
		return err;
	uint64_t base = g->group * space->group_blocks;
	uint32_t punched = 0;
	bool left = false;
	for (uint32_t i = 0; i < space->group_blocks;) {
		uint32_t end = i;
		while (end < space->group_blocks && bit(g->bits, end) && bit(value.dead, end) &&
		       !bit(value.punched, end))
			end++;
		if (end == i) {
			left |= bit(value.dead, i) && !bit(value.punched, i);
			i++;
			continue;
		}
		int failed = mojo_chunks_punch(space->chunks, base + i, end - i);
		if (failed && failed != -ENOENT && failed != -EOPNOTSUPP) {
			left = true; /* stays pending: tried again after the next opening */
		} else {
			for (uint32_t k = i; k < end; k++)
				set_bit(value.punched, k);
			punched += end - i;
		}
		i = end;
	}
	if (!punched)
		return 0;
	err = put_group_value(space, g->group, &value);
	uint8_t key[MOJO_KEY_BYTES_MAX];
	if (!err && !left)
		err = delete_key(space, key, group_key(key, MOJO_SPACE_PENDING, g->group));
	uint32_t chunk = chunk_of_group(space, g->group);
	struct chunk_value summary;
	if (!err)
		err = get_chunk_value(space, chunk, &summary);
	if (!err) {
		summary.punched += punched;
		err = put_chunk_value(space, chunk, &summary);
	}
	return err;
}

static int compare_numbers(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* Would chunk @chunk be dead altogether once what waits in it is given back? */
static int wholly_dead(struct mojo_space_map *space, uint32_t chunk, bool *ret_whole)
{
	struct chunk_value summary;
	int err = get_chunk_value(space, chunk, &summary);
	if (err)
		return err;
	*ret_whole = false;
	if (summary.dead < space->chunks->chunk_blocks)
		return 0;
	uint64_t first = (uint64_t)chunk * space->chunks->chunk_blocks, waiting = 0;
	for (uint32_t i = 0; i < space->chunks->chunk_blocks; i++)
		waiting += mojo_block_set_has(&space->waiting, space->group_blocks, first + i);
	*ret_whole = summary.punched + waiting >= space->chunks->chunk_blocks;
	return 0;
}

int mojo_space_reclaim(struct mojo_space_map *space, struct mojo_block_set *settled)
{
	space->reclaim_count++;
	size_t count = 0;
	int err = 0;
	uint64_t *order = calloc(space->waiting.count + 1, sizeof(*order));
	if (!order) {
		err = -ENOMEM;
		goto out;
	}
	for (size_t i = 0; i < space->waiting.capacity; i++)
		if (space->waiting.groups[i].used)
			order[count++] = space->waiting.groups[i].group;
	qsort(order, count, sizeof(*order), compare_numbers);

	for (size_t i = 0; i < count && !err;) {
		uint32_t chunk = chunk_of_group(space, order[i]);
		bool whole = false;
		err = wholly_dead(space, chunk, &whole);
		if (!err && whole)
			err = retire_chunk(space, chunk);
		for (; i < count && chunk_of_group(space, order[i]) == chunk; i++)
			if (!err && !whole)
				err = punch_group(space, &space->waiting.groups[place_of(&space->waiting, order[i])]);
	}
out:
	free(order);
	mojo_block_set_free(&space->waiting);
	space->waiting = *settled;
	*settled = (struct mojo_block_set){ 0 };
	return err;
}

int64_t mojo_space_take_spare(struct mojo_space_map *space)
{
	if (!space->spare_count)
		return -1;
	uint32_t chunk = space->spares[--space->spare_count];
	/* The tree is told when deaths are settled next: just now it may be on its way to the disk. If it never comes
	 * to that, the chunk is merely called spare once more, and not found. */
	assert(space->taken_count < 2 * MOJO_SPACE_SPARES);
	space->taken[space->taken_count++] = chunk;
	return chunk;
}

int mojo_space_is_dead(struct mojo_space_map *space, uint64_t address, bool *ret_dead)
{
	struct group_value value;
	int err = get_group_value(space, address / space->group_blocks, &value);
	if (err)
		return err;
	*ret_dead = bit(value.dead, (uint32_t)(address % space->group_blocks)) ||
		    mojo_block_set_has(&space->fresh, space->group_blocks, address);
	return 0;
}
