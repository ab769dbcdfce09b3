/* SPDX-License-Identifier: MIT */
/*
 * history.h - what a store held at each moment of its life, to hold against what it gives back after harm.
 *
 * A picture is all that one version holds: every path with its attributes and bytes. A moment is the list of
 * versions that were kept at some time, and a picture of each. Pictures are taken through the engine while all is
 * well, and compared later, when some reads may fail: an error is allowed, a difference never.
 */
#ifndef HISTORY_H
#define HISTORY_H

#include "support.h"

struct thing {
	char *path; /* owned; "" is the root */
	struct mojo_attr attr;
	uint8_t *data; /* owned; content of a file, target of a link */
	size_t length;
};

struct picture {
	struct thing *things; /* owned; a directory before what is in it */
	size_t count;
};

struct kept_version {
	struct mojo_version_info info;
	const struct picture *picture; /* owned by the history */
};

struct moment {
	struct kept_version *versions; /* owned; the last one is active, the one before it may be unpublished */
	size_t count;
	uint64_t tail; /* address at which the log ended */
};

#define HISTORY_EXCEPT 4

struct history {
	struct moment *moments; /* owned */
	size_t count;
	struct picture **pictures; /* owned */
	size_t picture_count;
	const char *except
		[HISTORY_EXCEPT]; /* paths that may hold anything just now, in the active version and an unpublished one; or NULL */
};

/* history_note - remember what @store holds now, in memory or on the disk. */
void history_note(struct history *history, struct mojo_store *store);
void history_free(struct history *history);

/*
 * history_compare - is the store as it was at one of the moments @first to @last?
 * Reads every byte of every version. Reads that fail with -EIO, -EUCLEAN or -ENOMEM are counted and prove nothing.
 * @ret_errors: how many reads failed
 * @why: of @why_bytes, receives the difference
 * Returns the moment (the last one that fits), or -1 if something differs from all of them.
 */
long history_compare(const struct history *history, struct mojo_store *store, size_t first, size_t last,
		     unsigned *ret_errors, char *why, size_t why_bytes);

/* history_compare_version - the same for one version and a picture of it. Returns whether all answers fit. */
bool history_compare_version(const struct picture *picture, struct mojo_store *store, uint32_t version,
			     unsigned *ret_errors, char *why, size_t why_bytes);

#endif
