/* SPDX-License-Identifier: MIT */
/*
 * scrub.h - reads every page of the mounted store once, when asked to, and says what it found.
 *
 * One at a time, in a thread of its own, throttled, so that whoever works on the mount hardly notices.
 * All functions may be called from any thread, but scrub_free().
 */
#ifndef FUSE_SCRUB_H
#define FUSE_SCRUB_H

#include <stddef.h>

#include "../src/mojo.h"

struct scrub; /* opaque */

/* scrub_new - nothing runs yet. @store: borrowed until scrub_free(). -ENOMEM. */
int scrub_new(struct mojo_store *store, struct scrub **ret_scrub);

/* scrub_free - stop what runs, wait for it, free. NULL is allowed. */
void scrub_free(struct scrub *scrub);

/*
 * scrub_command - "start", "start RATE" (bytes a second; otherwise the engine's default) or "stop".
 * Errors: -EINVAL (another command), -EBUSY (one runs already), -EAGAIN (no thread could be started).
 */
int scrub_command(struct scrub *scrub, const char *text, size_t length);

/* scrub_report - how far it is and what it found, as report_scrub_to_json(); free(). @limit: bytes. */
int scrub_report(struct scrub *scrub, size_t limit, char **ret_text);

#endif
