/* SPDX-License-Identifier: MIT */
/*
 * finding.h - where the findings of a check go: counted, and told to the caller once each.
 *
 * What is wrong in one version is wrong in all that share it. Findings of versions are therefore kept back
 * until a version comes that does not have them, and told as one, from the first version to the last.
 *
 * Thread safety: none; one check, one sink.
 */
#ifndef MOJO_FINDING_H
#define MOJO_FINDING_H

#include "state.h"

struct mojo_pending; /* a finding that is kept back */

struct mojo_sink {
	const struct mojo_check_options *options; /* borrowed */
	struct mojo_check_result result;
	uint64_t kinds[MOJO_FOUND_KINDS]; /* how many of each, other than notes */
	bool quiet;                       /* count only: tell nobody */
	struct mojo_pending *pending;     /* owned */
	size_t pending_count, pending_capacity;
};

/* mojo_found - tell of something wrong, at once. @format makes finding->text, and is what is wrong. */
void mojo_found(struct mojo_sink *sink, const struct mojo_finding *finding, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* mojo_found_in - the same, of finding->version, while versions are looked at in rising order: told once for all
 * versions in a row that have it. For want of memory it is told for each. */
void mojo_found_in(struct mojo_sink *sink, const struct mojo_finding *finding, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* mojo_sink_next - @version is done: what it no longer had is told now. 0: all that is kept back. */
void mojo_sink_next(struct mojo_sink *sink, uint32_t version);

/* mojo_sink_progress - 0, or -ECANCELED when the caller wants no more. */
int mojo_sink_progress(struct mojo_sink *sink, const char *what, uint64_t done, uint64_t total);

void mojo_sink_free(struct mojo_sink *sink);

/* mojo_path_in - path of a linked bucket in a version's tree, relative to the root; a PATH_MAX buffer does. Returns
 * @buf, or NULL if it cannot be told. */
const char *mojo_path_in(const struct mojo_tree *tree, uint32_t bucket, char *buf, size_t size);

#endif
