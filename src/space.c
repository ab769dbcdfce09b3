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

static void free_returning(struct mojo_space_map *space)
{
	free(space->returning);
	free(space->leaving);
	space->returning = NULL;
	space->leaving = NULL;
	space->returning_count = space->leaving_count = 0;
}

void mojo_space_map_free(struct mojo_space_map *space)
{
	mojo_block_set_free(&space->fresh);
	mojo_block_set_free(&space->settled);
	mojo_block_set_free(&space->waiting);
	free_returning(space);
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
	return mojo_block_set_count(&space->fresh) + mojo_block_set_count(&space->settled) +
	       mojo_block_set_count(&space->waiting);
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

int mojo_space_settle(struct mojo_space_map *space)
{
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
				err = get_group(&space->settled, g->group, &kept);
			for (size_t b = 0; b < MOJO_SPACE_BITMAP_BYTES && !err; b++)
				kept->bits[b] |= g->bits[b];
		}
		mojo_block_set_free(&work);
	}
	return err;
}

/* ---- giving back ---------------------------------------------------------------------------- */

/* All cells of a chunk go; its file becomes a spare, or is to go, too. */
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
	space->leaving[space->leaving_count++] = chunk;
	return 0;
}

static int compare_groups(const void *a, const void *b)
{
	uint64_t x = ((const struct mojo_block_group *)a)->group, y = ((const struct mojo_block_group *)b)->group;
	return x < y ? -1 : x > y;
}

/* Of the blocks of @g those stay that are dead and not punched yet. Returns how many. */
static int keep_unpunched(const struct mojo_space_map *space, struct mojo_block_group *g, uint32_t *ret_count)
{
	struct group_value value;
	int err = get_group_value(space, g->group, &value);
	uint32_t count = 0;
	for (size_t b = 0; b < MOJO_SPACE_BITMAP_BYTES && !err; b++) {
		g->bits[b] &= value.dead[b] & (uint8_t)~value.punched[b];
		count += (unsigned)__builtin_popcount(g->bits[b]);
	}
	*ret_count = count;
	return err;
}

/* The @count groups at @g are all that wait in one chunk. *ret_whole: with them it would be dead altogether. */
static int choose(struct mojo_space_map *space, struct mojo_block_group *g, size_t count, bool *ret_whole)
{
	uint32_t chunk = chunk_of_group(space, g->group), sum = 0;
	int err = 0;
	for (size_t i = 0; i < count && !err; i++) {
		uint32_t blocks;
		err = keep_unpunched(space, &g[i], &blocks);
		sum += blocks;
	}
	struct chunk_value summary;
	if (!err)
		err = get_chunk_value(space, chunk, &summary);
	if (err)
		return err;
	uint32_t all = space->chunks->chunk_blocks;
	*ret_whole = summary.dead >= all && summary.punched + sum >= all;
	return *ret_whole ? retire_chunk(space, chunk) : 0;
}

int mojo_space_reclaim_begin(struct mojo_space_map *space)
{
	struct mojo_block_group *groups = space->waiting.groups;
	size_t count = 0;
	assert(!space->returning && !space->leaving);
	space->reclaim_count++;
	for (size_t i = 0; i < space->waiting.capacity; i++)
		if (groups[i].used)
			groups[count++] = groups[i];
	if (count)
		qsort(groups, count, sizeof(*groups), compare_groups);
	space->returning = groups;
	space->waiting = space->settled;
	space->settled = (struct mojo_block_set){ 0 };
	space->leaving = calloc(count + 1, sizeof(*space->leaving));
	int err = space->leaving ? 0 : -ENOMEM;
	for (size_t i = 0, n; i < count && !err; i += n) {
		bool whole = false;
		for (n = 1; i + n < count; n++)
			if (chunk_of_group(space, groups[i + n].group) != chunk_of_group(space, groups[i].group))
				break;
		err = choose(space, &groups[i], n, &whole);
		for (size_t k = i; k < i + n && !whole; k++)
			groups[space->returning_count++] = groups[k];
	}
	return err;
}

/* Of @g those bits stay that could be punched. */
static void punch_group(struct mojo_space_map *space, struct mojo_block_group *g)
{
	uint64_t base = g->group * space->group_blocks;
	for (uint32_t i = 0, end; i < space->group_blocks; i = end + 1) {
		for (end = i; end < space->group_blocks && bit(g->bits, end);)
			end++;
		int err = end > i ? mojo_chunks_punch(space->chunks, base + i, end - i) : 0;
		for (uint32_t k = i; k < end && err && err != -ENOENT && err != -EOPNOTSUPP; k++)
			g->bits[k / 8] &= (uint8_t) ~(1u << (k % 8)); /* stays pending */
	}
}

void mojo_space_reclaim_punch(struct mojo_space_map *space)
{
	for (size_t i = 0; i < space->leaving_count; i++)
		mojo_chunks_remove(space->chunks, space->leaving[i]);
	for (size_t i = 0; i < space->returning_count; i++)
		punch_group(space, &space->returning[i]);
}

static int account(struct mojo_space_map *space, const struct mojo_block_group *g)
{
	struct group_value value;
	uint32_t punched = 0;
	bool left = false;
	int err = get_group_value(space, g->group, &value);
	if (err)
		return err;
	for (size_t b = 0; b < MOJO_SPACE_BITMAP_BYTES; b++) {
		punched += (unsigned)__builtin_popcount(g->bits[b]);
		value.punched[b] |= g->bits[b];
		left |= value.dead[b] != value.punched[b];
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

int mojo_space_reclaim_end(struct mojo_space_map *space)
{
	int err = 0;
	for (size_t i = 0; i < space->returning_count && !err; i++)
		err = account(space, &space->returning[i]);
	free_returning(space);
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

void mojo_space_return_spare(struct mojo_space_map *space, uint32_t chunk)
{
	assert(space->taken_count && space->taken[space->taken_count - 1] == chunk);
	space->taken_count--;
	space->spares[space->spare_count++] = chunk;
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
