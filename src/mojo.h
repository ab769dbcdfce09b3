/* SPDX-License-Identifier: MIT */
/*
 * mojo.h - the engine's public face.
 *
 * A store holds buckets (files and directories) whose bytes live in fixed-size pages. All buckets
 * are versioned together: one version is active and writable, every lower one is frozen for ever.
 *
 * Promises (docs/DESIGN.md, "Invariants"): what mojo_sync() answered 0 for survives any crash; what
 * comes back after a crash is a prefix of what was done; a frozen version never changes; a byte that
 * differs from what was written is an error and is never served.
 *
 * Conventions
 *   - Functions return 0 or a negative errno. -EUCLEAN means one thing only: the store is damaged.
 *   - Outputs come last, are named ret_x, and are untouched on failure unless stated otherwise.
 *   - Every function on a store may be called from any thread at any time between mojo_open() and
 *     mojo_close(), unless stated otherwise.
 *   - The engine neither prints nor exits. What a user should know goes to the event callback.
 */
#ifndef MOJO_H
#define MOJO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io.h"

#ifdef __cplusplus
extern "C" {
#endif

#define MOJO_FORMAT_VERSION 1u /* highest on-disk format this engine reads and writes */

#define MOJO_ACTIVE      0u        /* as a version argument: the active version, whatever its number */
#define MOJO_ROOT_BUCKET 1u        /* the root directory of every version */
#define MOJO_VERSION_MAX 0xffffffu /* 2^24 - 1 */
#define MOJO_NAME_MAX    255u      /* bytes in one name */
#define MOJO_SYMLINK_MAX 4095u     /* bytes in a symbolic link's target */
#define MOJO_MESSAGE_MAX 1000u     /* bytes in a commit message */
/* Highest bucket id the engine hands out. Ids above it are free for a caller's own objects. */
#define MOJO_BUCKET_MAX 0xefffffffu

#define MOJO_PAGE_SIZE_MIN   4096u
#define MOJO_PAGE_SIZE_MAX   65536u
#define MOJO_PPS_MIN         64u
#define MOJO_PPS_MAX         65536u
#define MOJO_CHUNK_BYTES_MIN (4ull << 20)
#define MOJO_CHUNK_BYTES_MAX (1ull << 30)

struct mojo_store; /* opaque */

/* What is fixed when a store is made. A field that is 0 takes its default. */
struct mojo_geometry {
	uint32_t page_size;      /* bytes, a power of two, 4096..65536; default 4096 */
	uint32_t pages_per_slot; /* a power of two, 64..65536; default 4096 */
	uint64_t chunk_bytes;    /* bytes, a power of two, 4 MiB..1 GiB; default 64 MiB */
	uint32_t root_uid;       /* owner of the root directory */
	uint32_t root_gid;
	uint32_t root_mode; /* permission bits of the root directory; default 0755 */
};

enum mojo_severity { MOJO_INFO, MOJO_WARNING, MOJO_ERROR };

/* Receives one line (no newline) for a human. Called from any thread, sometimes with engine locks
 * held: it must not call back into the engine. */
typedef void mojo_event_fn(void *arg, enum mojo_severity severity, const char *text);

/* How a store is run. A field that is 0 or NULL takes its default. The struct is copied; `owner` and
 * `event_arg` are borrowed until mojo_close(). */
struct mojo_config {
	bool read_only;            /* replay in memory, write nothing; several readers may share a store */
	size_t cache_bytes;        /* clean and dirty index in memory; default 32 MiB, at least 4 MiB */
	size_t batch_bytes;        /* open batch goes out, unflushed, at this size; default 1 MiB, 64 KiB..1 MiB */
	uint64_t checkpoint_bytes; /* log between two checkpoints; default 128 MiB, at least 1 MiB */
	uint32_t flush_ms;         /* a batch closes by itself after this; default 5000; UINT32_MAX = never */
	bool no_background;        /* no maintenance thread: the caller drives flushes and checkpoints (tests) */
	const char *owner;         /* shown to whoever finds the store locked, e.g. "mojofs-fuse on /mnt/db" */
	mojo_event_fn *event;
	void *event_arg;
};

/*
 * mojo_create - lay out a new, empty store.
 * @io: bound to the store's directory, which must be empty or hold only what an earlier creation that
 *      was cut short left behind; borrowed
 * @geometry: NULL for all defaults
 * @config: only event and event_arg are used; may be NULL
 * Errors: -EINVAL (geometry out of range), -EEXIST (is a store already), -ENOTEMPTY, host errors.
 */
int mojo_create(struct mojo_io *io, const struct mojo_geometry *geometry, const struct mojo_config *config);

/*
 * mojo_open - open a store, recovering it if needed.
 * @io: bound to the store's directory; borrowed until mojo_close()
 * Errors: -ENOENT (no store there), -EBUSY (open elsewhere; the event names by whom),
 *   -EPROTONOSUPPORT (format newer than this program), -EUCLEAN (damaged: nothing was touched).
 * An event with the reason precedes every failure.
 */
int mojo_open(struct mojo_io *io, const struct mojo_config *config, struct mojo_store **ret_store);

/*
 * mojo_close - make everything durable, take a checkpoint, unlock and free. NULL is allowed.
 * No other call on the store may be running or follow. The store is freed on failure too; the first
 * error met is returned.
 */
int mojo_close(struct mojo_store *store);

/* mojo_abandon - free everything and unlock without writing anything: what a crash leaves behind.
 * For tests, and for a daemon that must not touch its store again. */
void mojo_abandon(struct mojo_store *store);

/* ---- files and directories ---------------------------------------------------------------- */

struct mojo_attr {
	uint32_t bucket;
	uint32_t mode; /* type and permission bits, as in stat(2) */
	uint32_t nlink;
	uint32_t uid, gid;
	uint32_t rdev;
	uint32_t parent;                                /* directory that holds it; 0 for an unlinked one */
	uint64_t size;                                  /* bytes; for a directory the number of its entries */
	uint64_t pages;                                 /* pages that have content */
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns; /* since 1970-01-01 UTC */
};

/* Bits for mojo_setattr(). Without CTIME, ctime becomes the current time. */
enum {
	MOJO_SET_MODE = 1 << 0,
	MOJO_SET_UID = 1 << 1,
	MOJO_SET_GID = 1 << 2,
	MOJO_SET_SIZE = 1 << 3,
	MOJO_SET_ATIME = 1 << 4,
	MOJO_SET_MTIME = 1 << 5,
	MOJO_SET_CTIME = 1 << 6,
};

/* Names are bytes without '/' and NUL, 1..MOJO_NAME_MAX long, NUL-terminated, not "." or "..". Whether
 * a name may begin with '@' is the caller's affair. Functions without a version argument work on the
 * active version, and return -EROFS on a read-only store. A `version` that does not exist: -ENOENT. */

int mojo_lookup(struct mojo_store *store, uint32_t version, uint32_t dir, const char *name, struct mojo_attr *ret_attr);
int mojo_getattr(struct mojo_store *store, uint32_t version, uint32_t bucket, struct mojo_attr *ret_attr);
int mojo_setattr(struct mojo_store *store, uint32_t bucket, unsigned mask, const struct mojo_attr *attr,
		 struct mojo_attr *ret_attr);

/* One entry of a directory. `cookie` is what to pass to go on behind this entry. Return false to stop
 * (the entry is then not consumed). Called with the engine's lock held: must not call the engine. */
typedef bool mojo_dirent_fn(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie);

/*
 * mojo_readdir - list entries (without "." and "..") behind @cookie; 0 starts. Cookies are below 2^63,
 * above 1000, and stay valid while the directory changes: an entry that exists throughout is seen once.
 */
int mojo_readdir(struct mojo_store *store, uint32_t version, uint32_t dir, uint64_t cookie, mojo_dirent_fn *fn,
		 void *arg);

/* mojo_mknod - make a file, directory (S_IFDIR in mode), fifo, socket or device. -EEXIST if the name exists. */
int mojo_mknod(struct mojo_store *store, uint32_t dir, const char *name, uint32_t mode, uint32_t rdev, uint32_t uid,
	       uint32_t gid, struct mojo_attr *ret_attr);
int mojo_symlink(struct mojo_store *store, uint32_t dir, const char *name, const char *target, uint32_t uid,
		 uint32_t gid, struct mojo_attr *ret_attr);
/* mojo_readlink - @buf of MOJO_SYMLINK_MAX + 1 bytes receives the target, NUL-terminated. */
int mojo_readlink(struct mojo_store *store, uint32_t version, uint32_t bucket, char *buf);

/* mojo_unlink - remove a name that is not a directory. A bucket that is held lives on, nameless, until
 * its last mojo_release(). mojo_rmdir: -ENOTDIR, -ENOTEMPTY. */
int mojo_unlink(struct mojo_store *store, uint32_t dir, const char *name);
int mojo_rmdir(struct mojo_store *store, uint32_t dir, const char *name);

/* mojo_rename - as renameat2(2); @flags is 0, MOJO_RENAME_NOREPLACE or MOJO_RENAME_EXCHANGE. */
enum { MOJO_RENAME_NOREPLACE = 1, MOJO_RENAME_EXCHANGE = 2 };
int mojo_rename(struct mojo_store *store, uint32_t dir, const char *name, uint32_t new_dir, const char *new_name,
		unsigned flags);

/* mojo_hold / mojo_release - keep a bucket of the active version alive while it is open, linked or not.
 * Each hold wants one release. mojo_hold: -ENOENT if there is no such bucket. */
int mojo_hold(struct mojo_store *store, uint32_t bucket);
int mojo_release(struct mojo_store *store, uint32_t bucket);

/* mojo_path - path of a linked bucket of the active version, relative to the root, without a leading
 * slash ("" for the root itself). -ENOENT for an unlinked one, -ERANGE if @size is too small. */
int mojo_path(struct mojo_store *store, uint32_t bucket, char *buf, size_t size);

/* ---- bytes -------------------------------------------------------------------------------- */

/* mojo_read - up to @length bytes at @offset; fewer only at the end of the file. Holes read as zeros.
 * -EIO if a page does not match its checksum (an event names it), -EISDIR for a directory. */
int mojo_read(struct mojo_store *store, uint32_t version, uint32_t bucket, uint64_t offset, void *buf, size_t length,
	      size_t *ret_length);

/* mojo_write - write all of @length bytes at @offset, growing the file as needed. In memory until the
 * batch goes out; durable after mojo_sync(). -EFBIG past 2^32 pages, -ENOSPC before anything changed
 * in the piece that did not fit (earlier pieces of a long write may stand). */
int mojo_write(struct mojo_store *store, uint32_t bucket, uint64_t offset, const void *buf, size_t length);

/* mojo_write_back - the same for bytes that come out of a cache above, which keeps the times of its files itself and
 * brings them with mojo_setattr(): those of the file stay as they are. */
int mojo_write_back(struct mojo_store *store, uint32_t bucket, uint64_t offset, const void *buf, size_t length);

/*
 * mojo_copy - copy_file_range(2): @length bytes from @offset_in on of bucket @from of @version become those from
 * @offset_out on of bucket @to of the active version, up to the end of the source. Where both offsets are the same and a
 * multiple of the page size, and @to is new or was copied from the same file before, nothing is copied but where the
 * content is: both share it until one of them is written to. Anything else is copied as bytes, 16 MiB at most.
 * @ret_copied: how many bytes, which may be fewer than @length; 0 at the end of the source
 * -ENOENT, -EISDIR, -EINVAL (no files; ranges of one file that overlap), -EFBIG, -ENOSPC. An error that comes up when
 * some bytes were copied is left to the next call.
 */
int mojo_copy(struct mojo_store *store, uint32_t version, uint32_t from, uint64_t offset_in, uint32_t to,
	      uint64_t offset_out, uint64_t length, uint64_t *ret_copied);

/* mojo_fallocate - @mode as fallocate(2): 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE[|KEEP_SIZE]
 * (MOJO_FALLOC_*). Space is not reserved: content takes space when it is written. Others: -EOPNOTSUPP. */
enum { MOJO_FALLOC_KEEP_SIZE = 1, MOJO_FALLOC_PUNCH_HOLE = 2, MOJO_FALLOC_ZERO_RANGE = 16 };
int mojo_fallocate(struct mojo_store *store, uint32_t bucket, int mode, uint64_t offset, uint64_t length);

/* mojo_seek - first data (@data) or hole (!@data) at or behind @offset, in pages' granularity; the end
 * of the file counts as a hole. -ENXIO as lseek(2). */
int mojo_seek(struct mojo_store *store, uint32_t version, uint32_t bucket, uint64_t offset, bool data,
	      uint64_t *ret_offset);

/* mojo_sync - all that was done before the call, in any bucket, is durable when this returns 0.
 * Concurrent callers share one flush. After a flush that failed, every modifying call fails (-EIO). */
int mojo_sync(struct mojo_store *store);

/*
 * A disk that is full. The engine writes to the end of a log, so to put back what was there before takes room as well.
 * Whoever may have to do that, after an ordinary write has failed with -ENOSPC, has room kept for it in good time.
 * mojo_write_reserved() and mojo_mknod_reserved() may use that room, and besides a little that is always kept; for
 * removals, smaller sizes and attributes there is some more. What is then taken away comes back as room by and by.
 */

/* How many bytes are to be kept now. Called with the engine's lock held, for every change: must be quick, and must not
 * call the engine. */
typedef uint64_t mojo_reserve_fn(void *arg);

/* mojo_reserve - from now on ask @fn (NULL: nobody) how much is to be kept. @arg is borrowed until mojo_close().
 * An ordinary change that would leave less than that fails with -ENOSPC. What is kept is allocated on the host, but for
 * what exceeds a whole chunk, of which it is only seen to that it is free. */
void mojo_reserve(struct mojo_store *store, mojo_reserve_fn *fn, void *arg);

/* mojo_write_reserved - as mojo_write_back(). */
int mojo_write_reserved(struct mojo_store *store, uint32_t bucket, uint64_t offset, const void *buf, size_t length);
/* mojo_mknod_reserved - as mojo_mknod(). */
int mojo_mknod_reserved(struct mojo_store *store, uint32_t dir, const char *name, uint32_t mode, uint32_t uid,
			uint32_t gid, struct mojo_attr *ret_attr);

/* ---- versions ----------------------------------------------------------------------------- */

#define MOJO_VERDICT_MAX 200u /* bytes in the text of a verdict */

enum mojo_verdict {
	MOJO_VERDICT_UNKNOWN, /* nobody looked */
	MOJO_VERDICT_GOOD,
	MOJO_VERDICT_BAD,
};

struct mojo_version_info {
	uint32_t version;
	int64_t time_ns; /* when it was committed; for the active version 0 */
	bool active;
	bool unpublished;                   /* frozen, and still being settled: see mojo_freeze() */
	bool settled;                       /* changed between freezing and publishing */
	char message[MOJO_MESSAGE_MAX + 1]; /* NUL-terminated; may hold any byte but NUL */
	enum mojo_verdict verdict;
	char verdict_text[MOJO_VERDICT_MAX + 1]; /* NUL-terminated; why it is bad, as a rule */
};

/* mojo_commit - freeze the active version and open the next; durable when this returns 0. The same as
 * mojo_freeze() and mojo_publish() in one.
 * @message: @length bytes (0..MOJO_MESSAGE_MAX, no NUL within); longer: -E2BIG.
 * -EAGAIN: another version is unpublished still; nothing happened. */
int mojo_commit(struct mojo_store *store, const char *message, size_t length, uint32_t *ret_version);

/* mojo_version_next - the lowest kept version >= @from, the active one included; -ENOENT behind it. An unpublished
 * one is passed over. */
int mojo_version_next(struct mojo_store *store, uint32_t from, struct mojo_version_info *ret_info);

/* mojo_version_find - what is known of one kept version (MOJO_ACTIVE: the active one), unpublished or not. -ENOENT. */
int mojo_version_find(struct mojo_store *store, uint32_t version, struct mojo_version_info *ret_info);

/* mojo_version_drop - forget a frozen version; its space comes back as soon as it is safe. An unpublished one may be
 * dropped, too: that gives its commit up.
 * -EBUSY for the active one, -ENOENT if it is not kept. Durable when this returns 0. */
int mojo_version_drop(struct mojo_store *store, uint32_t version);

/* mojo_version_verdict - keep with a frozen version what a look at its content gave; replaces an earlier verdict.
 * @text: @length bytes (0..MOJO_VERDICT_MAX, no NUL within); longer: -E2BIG.
 * -EBUSY for the active version, -ENOENT if it is not kept. Durable after mojo_sync(). */
int mojo_version_verdict(struct mojo_store *store, uint32_t version, enum mojo_verdict verdict, const char *text,
			 size_t length);

/* Told of a file or directory that changed. Called without locks: may call the engine. Return false to stop. */
typedef bool mojo_changed_fn(void *arg, const struct mojo_attr *attr);

/*
 * mojo_changed - the files and directories of @version (frozen, MOJO_ACTIVE or unpublished) whose attributes or content
 * are not those of the newest kept version below it; all of them if there is none. Each once, in no order. What was
 * removed is not among them. The cost follows what changed.
 * -ENOENT: not kept, or dropped meanwhile.
 */
int mojo_changed(struct mojo_store *store, uint32_t version, mojo_changed_fn *fn, void *arg);

/*
 * Committing in two steps. mojo_freeze() freezes the active version N without publishing it: writers go on in N + 1
 * at once, and nobody is told of N. Whoever froze it may then *settle* it, change it and it alone, and publishes it;
 * from then on it never changes. One version at a time is unpublished.
 *
 * All reading functions take the number of an unpublished version. What settling does is logged in order with
 * everything else: after a crash the version is as it was frozen, with the first few of the changes made to it, and
 * unpublished still (mojo_unpublished()). It can then be settled again and published, or dropped.
 */

/* Last look before a freeze, with the engine's lock held: must not call the engine. 0, or -errno to refuse. */
typedef int mojo_freeze_fn(void *arg);

/*
 * mojo_freeze - freeze the active version and open the next, but do not publish it. Does not flush: durable when a
 * later mojo_sync() or mojo_publish() returns 0, and not before.
 * @message: as mojo_commit()
 * @check: NULL, or called once right before the freeze, when nothing can come in between any more; if it does not
 *         return 0, nothing happened, and that is what mojo_freeze() returns
 * -EAGAIN: another version is unpublished still; nothing happened.
 */
int mojo_freeze(struct mojo_store *store, const char *message, size_t length, mojo_freeze_fn *check, void *arg,
		uint32_t *ret_version);

/* mojo_unpublished - the number of the unpublished version; 0: there is none. Cheap. */
uint32_t mojo_unpublished(struct mojo_store *store);

/* mojo_settle_write, mojo_settle_setattr, mojo_settle_unlink - as mojo_write(), mojo_setattr() and mojo_unlink(), in
 * the unpublished @version instead of the active one. Holds do not count there: what loses its name is gone.
 * -ENOENT if @version is not the unpublished one (any more). */
int mojo_settle_write(struct mojo_store *store, uint32_t version, uint32_t bucket, uint64_t offset, const void *buf,
		      size_t length);
int mojo_settle_setattr(struct mojo_store *store, uint32_t version, uint32_t bucket, unsigned mask,
			const struct mojo_attr *attr, struct mojo_attr *ret_attr);
int mojo_settle_unlink(struct mojo_store *store, uint32_t version, uint32_t dir, const char *name);

/* mojo_publish - the unpublished @version, as it is now, becomes an ordinary frozen one. When this returns 0 it is
 * durable, and so is all that was done before, in any version. -ENOENT if it is not the unpublished one. */
int mojo_publish(struct mojo_store *store, uint32_t version);

/* ---- looking inside ----------------------------------------------------------------------- */

struct mojo_info {
	uint32_t format;
	char store_id[33]; /* 32 lower-case hexadecimal digits */
	uint32_t page_size;
	uint32_t pages_per_slot;
	uint64_t chunk_bytes;
	uint32_t active_version;
	uint32_t oldest_version;      /* lowest kept; the active one if none is frozen */
	uint64_t frozen_versions;     /* how many are kept; an unpublished one does not count */
	uint32_t unpublished_version; /* 0: none */
	uint64_t files;               /* entries of the active version that are not directories */
	uint64_t directories;         /* of the active version, the root included */
	uint64_t chunks;              /* data files, spares included */
	uint64_t store_bytes;         /* disk space the chunks occupy */
	uint64_t dead_bytes;          /* known dead, not yet given back */
	uint64_t log_bytes;           /* since the last checkpoint */
	uint64_t generation;          /* of the root */
	uint64_t sequence;            /* of the last group */
	uint64_t cache_bytes;         /* index in memory now */
	uint64_t flushes;             /* since the store was opened */
	uint64_t groups;
	uint64_t checkpoints;
	uint64_t pages_written;
	uint64_t pages_read;
	bool read_only;
	bool failed; /* a write or flush failed: read-only until reopened */
	int64_t created_ns;
};
/* Looks at every chunk's file: not for every request. */
int mojo_info(struct mojo_store *store, struct mojo_info *ret_info);
/* mojo_active_version - the number of the active version; cheap. */
uint32_t mojo_active_version(struct mojo_store *store);

struct mojo_space { /* for statfs(2), bytes */
	uint64_t total, free, available;
	uint64_t files; /* of the active version, directories included */
	uint32_t page_size;
};
int mojo_space(struct mojo_store *store, struct mojo_space *ret_space);

struct mojo_map_entry {
	uint64_t page;
	uint64_t address;  /* block number in the store: chunk = address / (chunk_bytes / page_size) */
	uint32_t version;  /* that wrote it; 0 with address 0: still in memory only */
	uint32_t checksum; /* 0 when in memory only */
};
/* mojo_map - pages with content at or behind @first, in order. @ret_count entries at most @capacity are
 * filled; fewer than @capacity means that there are no more. */
int mojo_map(struct mojo_store *store, uint32_t version, uint32_t bucket, uint64_t first,
	     struct mojo_map_entry *entries, size_t capacity, size_t *ret_count);

/* mojo_resolve - follow @path ("a/b/c", no symbolic links) from the root; "" is the root. */
int mojo_resolve(struct mojo_store *store, uint32_t version, const char *path, struct mojo_attr *ret_attr);

/* mojo_checkpoint - write the index out and turn the root now; after versions were dropped, find first what
 * they alone held. What died before the last but one checkpoint is given back. */
int mojo_checkpoint(struct mojo_store *store);

/* ---- checking and repairing ---------------------------------------------------------------- */

enum mojo_finding_kind {
	MOJO_FOUND_ROOT,    /* a root slot cannot be read, or leads to what cannot be */
	MOJO_FOUND_LOG,     /* groups that were on stable storage are gone, or do not fit the index */
	MOJO_FOUND_CHUNK,   /* a chunk's file is missing or too short, or a file is none of ours */
	MOJO_FOUND_INDEX,   /* a node or slot cannot be read, or is not what it should be */
	MOJO_FOUND_NAME,    /* names and files do not agree */
	MOJO_FOUND_COUNT,   /* a count of pages, entries, links, files or versions is wrong */
	MOJO_FOUND_ADDRESS, /* a page or piece of the index is said to lie where nothing was written yet */
	MOJO_FOUND_SHARED,  /* one block is referred to as two different things */
	MOJO_FOUND_DEAD,    /* a block in use is called dead: it would be given back */
	MOJO_FOUND_LEAK,    /* blocks are neither in use nor known dead: their space never comes back */
	MOJO_FOUND_SPACE,   /* the account of dead blocks contradicts itself */
	MOJO_FOUND_PAGE,    /* a page's block does not hold what was written: reading it gives an error */
	MOJO_FOUND_LOST,    /* pages that an earlier repair had to mark as lost: reading them gives an error */
	MOJO_FOUND_KINDS
};

struct mojo_finding {
	enum mojo_finding_kind kind;
	enum mojo_severity severity; /* MOJO_ERROR: something is wrong; a warning costs space or safety, but no data */
	uint32_t version;            /* the first one concerned; 0: none in particular */
	uint32_t last_version; /* the last one concerned; the kept ones between are, too (settled ones as a rule) */
	uint32_t bucket;       /* 0: none in particular */
	const char *path;      /* in `version`, relative to the root; NULL: unknown */
	uint64_t first_page;
	uint64_t pages;   /* 0: not about pages */
	uint64_t address; /* of the first block */
	uint64_t blocks;  /* 0: not about blocks */
	const char *text; /* one line for a human, complete in itself but for path, versions and pages */
};

/* mojo_finding_name - "root", "log", ...: for programs. Static text. */
const char *mojo_finding_name(enum mojo_finding_kind kind);

/* Receives one finding; everything in it is valid during the call only. */
typedef void mojo_finding_fn(void *arg, const struct mojo_finding *finding);
/* One step of a repair, for a human: that it is going to be done, or (@done) that it was. */
typedef void mojo_step_fn(void *arg, bool done, const char *text);
/* How far it is: @done of about @total (0: unknown) in the part called @what (static text). Called often.
 * Return false to stop: the call then ends with -ECANCELED. */
typedef bool mojo_progress_fn(void *arg, const char *what, uint64_t done, uint64_t total);

/* The struct and all in it are borrowed during the call; all callbacks may be NULL. They are called from the
 * calling thread, without engine locks, and must not call the engine. */
struct mojo_check_options {
	bool scrub;                /* read every live page and verify its checksum, too */
	bool dry_run;              /* of mojo_repair(): say what would be done, and change nothing */
	size_t cache_bytes;        /* index in memory; default 64 MiB */
	uint64_t bytes_per_second; /* of mojo_scrub(): read no faster; default (0) 32 MiB/s, UINT64_MAX: no limit */
	const char *owner;         /* shown to whoever finds the store locked */
	mojo_event_fn *event;      /* why a call failed */
	mojo_finding_fn *finding;
	mojo_step_fn *step;
	mojo_progress_fn *progress;
	void *arg; /* for all of them */
};

struct mojo_check_result {
	uint64_t errors, warnings; /* findings, before a repair */
	uint64_t errors_left;      /* after a repair, by a second look; else the same as errors */
	bool repaired;             /* something was changed */
	uint64_t versions;         /* looked at, the active one included */
	uint64_t blobs;            /* pieces of the index read */
	uint64_t pages;            /* different ones in use */
	uint64_t pages_read;       /* by the scrub */
	char aside[64];            /* directory within the store's with what a repair took away; "" if there is none */
};

/*
 * mojo_check - is everything in a store as it should be? Changes nothing.
 * @io: bound to the directory of a store that nobody has open for writing
 * Memory: cache_bytes, two bytes for each block in use and two bits for each other one, 40 bytes for each node of a
 * tree, and what opening the store takes.
 * Returns 0 if it could look, whatever it found. Errors: -ENOENT (no store), -EBUSY (open for writing elsewhere; the
 * event names by whom), -EPROTONOSUPPORT, -ECANCELED, host errors. A store that is too damaged to look further is
 * a finding.
 */
int mojo_check(struct mojo_io *io, const struct mojo_check_options *options, struct mojo_check_result *ret_result);

/*
 * mojo_repair - check, say what is to be done, do it unless dry_run, and check again.
 * What it takes away is kept in a new directory beside the store's files; what is still whole stays; pages of
 * which it is known that they are lost read as errors afterwards, never as zeros. Nothing is overwritten or given
 * back before what replaces it is on stable storage. Errors as mojo_check(): nothing was lost then, and it can
 * be called again.
 */
int mojo_repair(struct mojo_io *io, const struct mojo_check_options *options, struct mojo_check_result *ret_result);

/*
 * mojo_scrub - on an open store, in use or not: read every page of every version once and verify its checksum,
 * throttled; findings are of kind MOJO_FOUND_PAGE and MOJO_FOUND_INDEX. What is written while it runs may be left out.
 * One bit of memory for each block in use. Callbacks are called from this thread, without locks.
 * Errors: -ECANCELED, -ENOMEM.
 */
int mojo_scrub(struct mojo_store *store, const struct mojo_check_options *options,
	       struct mojo_check_result *ret_result);

#ifdef __cplusplus
}
#endif
#endif
