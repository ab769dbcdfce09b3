/* SPDX-License-Identifier: MIT */
/*
 * control.h - the extended attributes user.mojofs.*, by which one talks to the daemon.
 *
 *   on the root of the mount
 *     commit        set: commit with this message; get: the version made by the caller's last commit,
 *                   else the newest frozen one (ENODATA if there is none)
 *     version, oldest_version, page_size, pages_per_slot, format, pid, store, session
 *     state         JSON: what report_state_to_json() says, the requests counted included
 *     requests      JSON: the requests counted
 *     scrub         set: "start", "start BYTES-PER-SECOND" or "stop"; get: JSON, how far it is and what it found
 *     verify        set: the number of a version whose databases are to be checked in the background; what came of it
 *                   is kept with the version
 *     versions.N    JSON: versions from N on, as many as fit
 *     mark          set, while the store is recorded (--record): put this number into the recording
 *   on a file or directory, active or frozen
 *     bucket, version
 *     map.P         JSON: pages with content from P on, as many as fit (files only)
 *   on @vN
 *     version, bucket, time, message
 *
 * Those with a number are not listed, nor are session, scrub and verify. Those of files are not either: programs that copy
 * all attributes that are listed could not set them on the copy.
 */
#ifndef FUSE_CONTROL_H
#define FUSE_CONTROL_H

#include <stddef.h>
#include <sys/types.h>

#include "commit.h"
#include "counters.h"
#include "mount.h"
#include "scrub.h"
#include "tree.h"
#include "verify.h"

#define CONTROL_TEXT_MAX 60000u /* bytes in a JSON array; an attribute has at most 65536 */

struct control { /* everything borrowed */
	struct tree *tree;
	struct commit *commit;
	struct mount *mount;
	struct counters *counters;
	struct scrub *scrub;
	struct verify *verify;
	const char *store;        /* canonical path */
	struct mojo_io *recorder; /* NULL: nothing is recorded */
};

/*
 * control_get - the value of attribute @name.
 * @pid: of the process that asks
 * @ret_value: *ret_length bytes, not terminated; free()
 * Errors: -ENODATA (no such one here), -EOPNOTSUPP (not of ours), and what the engine says. Any thread.
 */
int control_get(const struct control *control, struct tree_node node, const char *name, pid_t pid, char **ret_value,
		size_t *ret_length);

/* control_list - names, each with a NUL behind it; free() *ret_list, which is NULL if there are none. */
int control_list(const struct control *control, struct tree_node node, char **ret_list, size_t *ret_length);

/* control_set - replies to @req, a setxattr, now or later. */
void control_set(const struct control *control, fuse_req_t req, struct tree_node node, const char *name,
		 const char *value, size_t length);

/*
 * control_ioctl - replies to @req, an ioctl, now or later: REPORT_COMMIT of the root (report.h), else ENOTTY.
 * @in: @in_length bytes; @out_length: bytes that may be answered
 */
void control_ioctl(const struct control *control, fuse_req_t req, struct tree_node node, unsigned command,
		   const void *in, size_t in_length, size_t out_length);

/* control_remove - the answer to a removexattr: a negative errno, always. */
int control_remove(const char *name);

#endif
