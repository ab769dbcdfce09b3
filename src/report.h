/* SPDX-License-Identifier: MIT */
/*
 * report.h - what the engine knows, as JSON text and back.
 *
 * The daemon hands these texts out as extended attributes, and the command line tool reads and prints
 * them, so both speak one form. It promises: text is compact UTF-8 on one line, without NUL; what was
 * written comes back as it was, byte for byte; text from elsewhere is checked before anything of it is
 * used, and members that are not known are skipped, so that a newer program may add some.
 *
 * Members are named like the fields of the structs, with two exceptions:
 *   - A time is a string, RFC 3339 in UTC with nanoseconds: "created" for created_ns, "time" for time_ns.
 *     The active version, which has no time yet, has no "time".
 *   - JSON strings are Unicode, but a commit message or a file name may be any bytes. One that is valid
 *     UTF-8 is a member under its plain name, "message"; one that is not is under that name with "_hex"
 *     behind it instead, "message_hex", two lower-case hexadecimal digits a byte. Never both.
 *
 * Functions return 0, -ENOMEM, -EOVERFLOW (to_json: a count above 2^63-1, which JSON readers do not
 * take; no real store has one), or -EBADMSG (from_json: text not of the expected form), and what is
 * stated. Outputs are untouched on failure. Returned texts and arrays belong to the caller: free().
 * No function keeps state; any thread may call any.
 */
#ifndef REPORT_H
#define REPORT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

#include "mojo.h"

#define REPORT_TIME_SIZE 40 /* bytes that hold any time as text, the NUL included */

/* A limit, in bytes, at or above which every single version or map entry fits into its array. */
#define REPORT_LIMIT_MIN 8192u

/*
 * REPORT_COMMIT - ioctl(2) of a descriptor of a mount's root: commit. Does what setting user.mojofs.commit does, but
 * the kernel has the directory locked for as long as a setxattr(2) takes, so that whoever makes, removes or syncs
 * something in it has to wait. Of an ioctl nobody's rights are looked at on the way: the daemon takes it from root and from
 * the directory's owner, if he may write to it. For all others it fails with ENOTTY, as it does where there is no such thing,
 * and they set the attribute, of which the kernel judges.
 * Other errors: EROFS, E2BIG (length), EINVAL (a NUL in the message), EBUSY as of the attribute.
 */
struct report_commit {
	uint32_t length;  /* of the message */
	uint32_t version; /* out: the one that was frozen */
	char message[MOJO_MESSAGE_MAX];
};
#define REPORT_COMMIT _IOWR('m', 0x6a, struct report_commit)

struct report_counter { /* one kind of request, and how many were answered */
	char name[24];  /* UTF-8, NUL-terminated, not empty */
	uint64_t count;
};

/*
 * report_state_to_json - the state of a store, as an object.
 * @counters: @count of them, names distinct; they become the member "requests", an object name -> count.
 *            NULL (with count 0): no such member.
 * Errors: -EINVAL for a name that is not UTF-8, or twice there.
 */
int report_state_to_json(const struct mojo_info *info, const struct report_counter *counters, size_t count,
			 char **ret_text);

/*
 * report_state_from_json - read report_state_to_json()'s text.
 * @counters: receives at most @capacity of them, in the order of the text; may be NULL with capacity 0
 * @ret_count: how many the text has, which may be more than @capacity; 0 without "requests"
 */
int report_state_from_json(const char *text, struct mojo_info *ret_info, struct report_counter *counters,
			   size_t capacity, size_t *ret_count);

/* report_counters_to_json - an object name -> count; @counters and errors as in report_state_to_json(). */
int report_counters_to_json(const struct report_counter *counters, size_t count, char **ret_text);

/*
 * report_versions_to_json - an array of versions, an object each.
 * @limit: bytes that the text may have without its NUL, at least 2; SIZE_MAX for no limit
 * @ret_used: how many of @infos, from the first on, are in the text: as many as fit
 */
int report_versions_to_json(const struct mojo_version_info *infos, size_t count, size_t limit, size_t *ret_used,
			    char **ret_text);

/* report_versions_from_json - @ret_infos is NULL if the array is empty. */
int report_versions_from_json(const char *text, struct mojo_version_info **ret_infos, size_t *ret_count);

/* report_map_to_json - an array of map entries, an object each; @limit and @ret_used as above. */
int report_map_to_json(const struct mojo_map_entry *entries, size_t count, size_t limit, size_t *ret_used,
		       char **ret_text);

/* report_map_from_json - @ret_entries is NULL if the array is empty. */
int report_map_from_json(const char *text, struct mojo_map_entry **ret_entries, size_t *ret_count);

/* ---- findings of a check --------------------------------------------------------------------- */

/*
 * report_finding_to_json - one finding, as an object. "kind" is mojo_finding_name()'s, "severity" is "info",
 * "warning" or "error"; what says nothing (version, bucket, pages, blocks of 0, an unknown path) is left out.
 */
int report_finding_to_json(const struct mojo_finding *finding, char **ret_text);

enum report_scrub_state {
	REPORT_SCRUB_NEVER,
	REPORT_SCRUB_RUNNING,
	REPORT_SCRUB_DONE,
	REPORT_SCRUB_STOPPED,
	REPORT_SCRUB_FAILED
};

/* A scrub that a daemon does: the value of user.mojofs.scrub. */
struct report_scrub {
	enum report_scrub_state state; /* "never", "running", "done", "stopped", "failed" */
	uint64_t pages_read;
	uint64_t pages_total;          /* about; 0: not known */
	uint64_t errors;               /* findings, those that are not listed included */
	int64_t started_ns;            /* 0: never */
	int64_t ended_ns;              /* 0: not yet */
	struct mojo_finding *findings; /* the first ones; owned, as are the strings in them, if from_json made it */
	size_t count;
};

/* report_scrub_to_json - an object; of the findings as many as fit into @limit bytes. */
int report_scrub_to_json(const struct report_scrub *scrub, size_t limit, char **ret_text);
/* report_scrub_from_json - @ret_scrub: report_scrub_free(). */
int report_scrub_from_json(const char *text, struct report_scrub *ret_scrub);
void report_scrub_free(struct report_scrub *scrub);

/*
 * report_member_to_json - one member of an object, "name":"...", or "name_hex":"..." if @bytes are not
 * UTF-8, for programs that put an object together.
 * @name: plain ASCII that needs no escaping
 * @bytes: @length of them, none of them NUL
 */
int report_member_to_json(const char *name, const char *bytes, size_t length, char **ret_text);

/* report_time_to_text - a time in ns since 1970-01-01 UTC as "2024-05-06T07:08:09.012345678Z". */
void report_time_to_text(int64_t time_ns, char ret_text[REPORT_TIME_SIZE]);

/*
 * report_utf8_length - length in bytes (1..4) of the character at the start of @bytes if it is well-formed
 * UTF-8 (no surrogates, no overlong forms, at most U+10FFFF), else 0. @length: bytes there, at least 1.
 */
size_t report_utf8_length(const char *bytes, size_t length);

#endif
