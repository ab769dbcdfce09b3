/* SPDX-License-Identifier: MIT */
/*
 * evidence.h - what the requests tell about SQLite's transactions: is a database now what its recovery makes whole?
 *
 * A version frozen at any moment holds what a loss of power would have left: all that was synced, and any part of the
 * rest. SQLite recovers from that if it syncs its journal before the database, which it does with synchronous FULL,
 * NORMAL and EXTRA. Whether it did is to be seen here, for each database that is open for writing:
 *
 *     in the database nothing arrived since its last fsync                      it is at a boundary of transactions
 *     something did, and a rollback journal was synced with its count           the journal takes it back
 *     in WAL mode: the WAL was synced since its header was written              the WAL has what the database gets
 *     else                                                                      a *suspect*: journal_mode MEMORY or OFF,
 *                                                                               synchronous=OFF, a copy under way
 *
 * In WAL mode a header that was not synced makes a suspect by itself: with synchronous=OFF a new WAL can arrive before
 * what the old one brought into the database. To flush the database again is enough then. Only locks can tell whether a suspect is in mid transaction (commit.h). When
 * all of it arrived while the locks were held, it is at a boundary until something arrives again.
 *
 * A database that one writer opens with synchronous=OFF and another with FULL, at the same time, is told apart from
 * one that both sync only where their transactions do not follow each other within one commit's few microseconds
 * between looking and freezing.
 *
 * Beside that, the names of all journals and WALs in the active tree are kept (side files): those that a commit has to
 * settle, without a walk through the tree.
 *
 * Everything is in memory; the engine is never called. All functions may be called from any thread, with or without
 * the engine's lock.
 */
#ifndef FUSE_EVIDENCE_H
#define FUSE_EVIDENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evidence;      /* opaque: all of a mount's */
struct evidence_file; /* opaque: of one file that is open */

#define EVIDENCE_HEAD_BYTES 20u /* of a file's beginning, from which its kind is told */

/* evidence_new - -ENOMEM. evidence_free - with all that is still open. NULL is allowed. */
int evidence_new(struct evidence **ret_evidence);
void evidence_free(struct evidence *evidence);

/* ---- what happens to files that are open ------------------------------------------------------ */

/* evidence_open, evidence_close - in pairs; @writable: the handle can write. -ENOMEM. */
int evidence_open(struct evidence *evidence, uint32_t bucket, bool writable, struct evidence_file **ret_file);
void evidence_close(struct evidence *evidence, struct evidence_file *file, bool writable);

/* evidence_writing - to be told before the engine is: @length bytes at @offset become those in @buf. */
void evidence_writing(struct evidence *evidence, struct evidence_file *file, uint64_t offset, const void *buf,
		      size_t length);

/* evidence_truncating, evidence_changing - the same: it gets @size bytes; something from @offset on changes otherwise.
 * For any bucket, open or not. */
void evidence_truncating(struct evidence *evidence, uint32_t bucket, uint64_t size);
void evidence_changing(struct evidence *evidence, uint32_t bucket, uint64_t offset);

/* evidence_synced - an fsync has come in. All that was written before it has arrived by then, which is what counts
 * here: whether it is on stable storage already does not matter to a freeze. */
void evidence_synced(struct evidence *evidence, struct evidence_file *file);

/* ---- names ------------------------------------------------------------------------------------- */

/* evidence_is_side_name - is it one of those that are kept? */
bool evidence_is_side_name(const char *name);

/*
 * evidence_naming - to be told before the engine is: @name in @dir is about to be a new or another file.
 * evidence_named - and then: it is @bucket; or 0: it did not come to that.
 * evidence_unnamed - to be told after the engine: there is no @name in @dir any more.
 * evidence_renamed - to be told after the engine: @name in @dir is now @new_name in @new_dir. With evidence_naming()
 *                    before, for the new name (for both, if they are exchanged).
 */
void evidence_naming(struct evidence *evidence, uint32_t dir, const char *name);
void evidence_named(struct evidence *evidence, uint32_t dir, const char *name, uint32_t bucket);
void evidence_unnamed(struct evidence *evidence, uint32_t dir, const char *name);
void evidence_renamed(struct evidence *evidence, uint32_t dir, const char *name, uint32_t new_dir, const char *new_name,
		      bool exchange);

/* ---- what a commit asks ------------------------------------------------------------------------ */

/* What is not known of a file, for want of a request that told it. */
struct evidence_question {
	uint32_t bucket;
	uint64_t head, names; /* how often they had changed: for evidence_learn() */
};

/* evidence_questions - the files open for writing of which something must be learned first. @ret_list: free(). */
int evidence_questions(struct evidence *evidence, struct evidence_question **ret_list, size_t *ret_count);

/*
 * evidence_learn - the answer.
 * @dir, @name: where it is; dir 0: it has no name any more
 * @head: its first bytes, @length of them, EVIDENCE_HEAD_BYTES if there are as many
 * Nothing is learned if the file has changed since it was asked for: it is then asked for again.
 */
void evidence_learn(struct evidence *evidence, const struct evidence_question *question, uint32_t dir, const char *name,
		    const void *head, size_t length);

/* A database that may be in mid transaction. Of its files: 0 if there is none. */
struct evidence_suspect {
	uint32_t bucket, journal, wal;
	bool wal_mode;
	bool is_blank; /* nothing says that it is one: its first bytes are zeros */
	bool is_asked; /* something is not known of it: evidence_questions() */
	/* To flush the database, and say so (evidence_flushed()), is all that is needed. */
	bool is_unflushed;
	uint64_t wal_head;
};

/*
 * evidence_suspects - the databases of which it cannot be told; those of which something is not known among them.
 * @excused: @excused_count databases that are locked by us, hence none
 * @ret_list: free(); NULL if there are none, as at most times
 */
int evidence_suspects(struct evidence *evidence, const struct evidence_suspect *excused, size_t excused_count,
		      struct evidence_suspect **ret_list, size_t *ret_count);

/*
 * evidence_arrived - with the locks of @suspect held, all that the kernel had of it has arrived. False: then it is
 * not in the journal mode for which the locks were.
 */
bool evidence_arrived(struct evidence *evidence, const struct evidence_suspect *suspect);

/* evidence_flushed - the database of @suspect was flushed after evidence_suspects() had told of it. */
void evidence_flushed(struct evidence *evidence, const struct evidence_suspect *suspect);

struct evidence_side_file {
	uint32_t dir;
	char *name; /* owned by the list */
};

/*
 * evidence_side_files - those that are there now; some may be gone, or empty.
 * @ret_list: evidence_side_files_free()
 */
int evidence_side_files(struct evidence *evidence, struct evidence_side_file **ret_list, size_t *ret_count);
void evidence_side_files_free(struct evidence_side_file *list, size_t count);

#endif
