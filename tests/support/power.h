/* SPDX-License-Identifier: MIT */
/*
 * power.h - from a recording (io_record.h), what a disk may hold after the power failed.
 *
 * What is promised of a disk and a file system, and no more than that:
 *   - what was done to a file before the beginning of a flush of it that ended well is there;
 *   - what was written through to the disk is there when that has ended well, and nothing else for it;
 *   - of what was done to it since, each operation is there or not, whatever came before or after; a write may be
 *     there in part, in sectors of 512 bytes; two that overlap are there in their order; the file's size is what the
 *     operations that are there make it, or still as of the flush, or already as it was last;
 *   - a directory's names are there as of its last flush; of the creations, renames and removals since, the first
 *     few are there (as with a journal), or any of them. A rename has happened or not.
 * An operation that was cut off by the end of its process counts as done when the next session begins.
 * Old operations on a file of which many are not flushed become durable, as a kernel writes them out after a while.
 *
 * A power walks through a recording from one moment to cut the power at to the next. At each, it can build any
 * number of states; the same choice gives the same state. Programming errors and lack of memory abort.
 */
#ifndef POWER_H
#define POWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io.h"

struct power; /* opaque */

/* Told of each mark when the power comes past it. */
typedef void power_mark_fn(void *arg, uint64_t mark);

/*
 * power_new - at the beginning of a recording.
 * @bytes: borrowed until power_free()
 * @base: what was on the disk then, all of it durable, an io of io_memory.h; NULL: nothing. Not needed afterwards.
 */
struct power *power_new(const void *bytes, size_t length, struct mojo_io *base, power_mark_fn *mark, void *arg);
void power_free(struct power *power);

/* power_next - go on to the next moment at which cutting the power can leave something else than before, and past the
 * marks up to there. False at the end of the recording, which was such a moment, too. */
bool power_next(struct power *power);

/* power_moment - how many times power_next() returned true; power_moments - how often it will at the most, in all. */
uint64_t power_moment(const struct power *power);
uint64_t power_moments(const struct power *power);

/* power_offset - how many bytes of the recording have happened. They are a recording too, to which one of what was
 * done afterwards to the disk as it then was (power_build_random() with seed 0) can be appended. */
size_t power_offset(const struct power *power);

/* power_choices - how many states power_build_choice() knows for this moment: whole and torn operations, sizes and
 * names in all combinations. UINT64_MAX: too many to number them. */
uint64_t power_choices(const struct power *power);

/* power_build_choice - the state number @choice of power_choices(). @ret_io: mojo_io_free(). */
struct mojo_io *power_build_choice(const struct power *power, uint64_t choice);

/* power_build_random - some state, by @seed. Seed 0: everything is there (no more than the process died); seed 1:
 * nothing is there that need not be. */
struct mojo_io *power_build_random(const struct power *power, uint64_t seed);

/* power_describe - where the power is in its recording, for messages. */
void power_describe(const struct power *power, char *ret_text, size_t size);

#endif
