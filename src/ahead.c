/* SPDX-License-Identifier: MIT */
#include "ahead.h"

/* Who reads there; or, with last_use 0, the place for a new one. */
static struct mojo_ahead_reader *find(struct mojo_ahead *ahead, uint32_t version, uint32_t bucket, uint64_t first,
				      uint64_t window)
{
	struct mojo_ahead_reader *oldest = &ahead->readers[0];
	for (uint32_t i = 0; i < MOJO_AHEAD_READERS; i++) {
		struct mojo_ahead_reader *r = &ahead->readers[i];
		if (r->last_use && r->version == version && r->bucket == bucket && first + 2 * window >= r->next &&
		    first <= r->next + 2 * window)
			return r;
		if (r->last_use < oldest->last_use)
			oldest = r;
	}
	oldest->last_use = 0;
	return oldest;
}

uint32_t mojo_ahead_read(struct mojo_ahead *ahead, uint32_t version, uint32_t bucket, uint64_t first, uint32_t count,
			 uint32_t page_bytes, uint64_t *ret_first, bool *ret_asked)
{
	uint64_t window = MOJO_AHEAD_BYTES / page_bytes, end = first + count;
	*ret_asked = false;
	if ((uint64_t)count * page_bytes < MOJO_AHEAD_LEAST)
		return 0;
	struct mojo_ahead_reader *r = find(ahead, version, bucket, first, window);
	bool seen = r->last_use != 0;
	if (!seen)
		*r = (struct mojo_ahead_reader){ .version = version, .bucket = bucket };
	r->last_use = ++ahead->clock;
	*ret_asked = seen && end <= r->asked;
	if (end > r->next)
		r->next = end;
	if (r->asked < r->next)
		r->asked = r->next;
	/* Half of it at least, so that the host gets much to do at a time. */
	if (!seen || r->asked > r->next + window / 2)
		return 0;
	*ret_first = r->asked;
	r->asked = r->next + window;
	return (uint32_t)(r->asked - *ret_first);
}
