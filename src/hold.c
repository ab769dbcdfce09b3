/* SPDX-License-Identifier: MIT */
#include "hold.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t home_of(const struct mojo_holds *holds, uint32_t bucket)
{
	return bucket * 0x9e3779b1u & (holds->capacity - 1);
}

/* Where @bucket is, or would go. */
static struct mojo_hold *place_of(const struct mojo_holds *holds, uint32_t bucket)
{
	size_t at = home_of(holds, bucket);
	while (holds->places[at].bucket && holds->places[at].bucket != bucket)
		at = (at + 1) & (holds->capacity - 1);
	return &holds->places[at];
}

static int grow(struct mojo_holds *holds)
{
	struct mojo_holds larger = { .count = holds->count, .capacity = holds->capacity ? holds->capacity * 2 : 64 };
	larger.places = calloc(larger.capacity, sizeof(*larger.places));
	if (!larger.places)
		return -ENOMEM;
	for (size_t i = 0; i < holds->capacity; i++)
		if (holds->places[i].bucket)
			*place_of(&larger, holds->places[i].bucket) = holds->places[i];
	free(holds->places);
	*holds = larger;
	return 0;
}

int mojo_holds_add(struct mojo_holds *holds, uint32_t bucket)
{
	if (holds->count * 2 >= holds->capacity) {
		int err = grow(holds);
		if (err)
			return err;
	}
	struct mojo_hold *hold = place_of(holds, bucket);
	if (!hold->bucket) {
		hold->bucket = bucket;
		holds->count++;
	}
	hold->count++;
	return 0;
}

/* Takes a place out of the open addressing and closes the gap. */
static void vacate(struct mojo_holds *holds, struct mojo_hold *hold)
{
	size_t mask = holds->capacity - 1, gap = (size_t)(hold - holds->places);
	for (size_t at = (gap + 1) & mask; holds->places[at].bucket; at = (at + 1) & mask) {
		size_t home = home_of(holds, holds->places[at].bucket);
		if (((at - home) & mask) >= ((at - gap) & mask)) {
			holds->places[gap] = holds->places[at];
			gap = at;
		}
	}
	holds->places[gap] = (struct mojo_hold){ 0 };
	holds->count--;
}

int mojo_holds_drop(struct mojo_holds *holds, uint32_t bucket, bool *ret_last)
{
	struct mojo_hold *hold = holds->capacity ? place_of(holds, bucket) : NULL;
	if (!hold || !hold->bucket)
		return -EINVAL;
	*ret_last = --hold->count == 0;
	if (*ret_last)
		vacate(holds, hold);
	return 0;
}

bool mojo_holds_has(const struct mojo_holds *holds, uint32_t bucket)
{
	return holds->capacity && place_of(holds, bucket)->bucket;
}

void mojo_holds_clear(struct mojo_holds *holds)
{
	free(holds->places);
	memset(holds, 0, sizeof(*holds));
}
