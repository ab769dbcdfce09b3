/* SPDX-License-Identifier: MIT */
/*
 * check.h - a store that nobody uses, looked at as a whole: its roots, its log, its trees, its chunks.
 *
 * A look opens the store as far as that is possible (mojo_open_mending()), in memory, and writes nothing.
 */
#ifndef MOJO_CHECK_H
#define MOJO_CHECK_H

#include "finding.h"

enum mojo_root_state {
	MOJO_ROOT_GOOD,
	MOJO_ROOT_MENDED, /* one wrong byte was found and put right, in memory */
	MOJO_ROOT_BAD,
};

struct mojo_roots {
	struct mojo_root root[MOJO_ROOT_SLOTS];
	enum mojo_root_state state[MOJO_ROOT_SLOTS];
	int newest; /* slot of the one that counts; -1: none can be read */
};

/* What a look saw that a repair must know. */
struct mojo_look {
	uint64_t lost_sequence, lost_address; /* as in struct mojo_store */
	bool lost_index_only;
	uint64_t skipped_records;
	bool mark_pending;
};

/*
 * mojo_roots_read - both slots of the state file. Where none is valid, those with a single wrong byte are mended.
 * @sink: is told of what is wrong; NULL: nobody is
 * Errors: -ENOENT (no store), -EPROTONOSUPPORT; an event says so.
 */
int mojo_roots_read(struct mojo_io *io, const struct mojo_config *config, struct mojo_sink *sink,
		    struct mojo_roots *ret_roots);

/* mojo_look - everything from the root in @slot on. The caller has the store locked. */
int mojo_look(struct mojo_io *io, const struct mojo_roots *roots, unsigned slot, bool scrub, struct mojo_sink *sink,
	      struct mojo_look *ret_look);

#endif
