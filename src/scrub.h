/* SPDX-License-Identifier: MIT */
/*
 * scrub.h - every live page read and held against its checksum, each address once.
 *
 * Versions are gone through in rising order, leaf by leaf of their trees; leaves that versions share, and pages, are
 * told by their addresses, which are never used again. The store's lock is held to look pages up, not to
 * read them.
 */
#ifndef MOJO_SCRUB_H
#define MOJO_SCRUB_H

#include "finding.h"

/* mojo_scrub_into - as mojo_scrub(). @total: pages there may be, for the progress. @index: tell also what of the index
 * cannot be read. */
int mojo_scrub_into(struct mojo_store *store, struct mojo_sink *sink, uint64_t bytes_per_second, uint64_t total,
		    bool index);

#endif
