/* SPDX-License-Identifier: MIT */
/*
 * format.h - every byte of a store, encoded, decoded and validated. No I/O, no state, any thread.
 *
 * Promise: a decoder accepts any bytes whatever and returns either a value whose every field is within
 * its stated range, or an error; it never reads outside the length it was given. docs/FORMAT.md is the
 * specification and is kept in step with this file.
 *
 * All integers are little-endian, except inside tree keys, which are big-endian so that memcmp() orders
 * them.
 */
#ifndef MOJO_FORMAT_H
#define MOJO_FORMAT_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "mojo.h"

/* ---- integers ------------------------------------------------------------------------------ */

static inline uint16_t mojo_get16(const uint8_t *p)
{
	uint16_t v;
	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static inline uint32_t mojo_get32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline uint64_t mojo_get64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static inline void mojo_put16(uint8_t *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void mojo_put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void mojo_put64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

static inline uint32_t mojo_get_be32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static inline uint64_t mojo_get_be64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return be64toh(v);
}

static inline void mojo_put_be32(uint8_t *p, uint32_t v)
{
	v = htobe32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void mojo_put_be64(uint8_t *p, uint64_t v)
{
	v = htobe64(v);
	memcpy(p, &v, sizeof(v));
}

/* ---- entries of a slot map ------------------------------------------------------------------ */

#define MOJO_ENTRY_BYTES 12u
#define MOJO_ADDRESS_MAX ((1ull << 40) - 1)

struct mojo_entry {        /* version 0: no page */
	uint64_t address;  /* block, 40 bits; 0: there was a page, and it is lost */
	uint32_t version;  /* that wrote it, 24 bits */
	uint32_t checksum; /* of the page, seeded with the bucket's seed and the page number */
};

void mojo_entry_encode(uint8_t *p, const struct mojo_entry *entry);
struct mojo_entry mojo_entry_decode(const uint8_t *p);

/* ---- references to blobs -------------------------------------------------------------------- */

/*
 * A reference of 24 bytes: address 40 bits and version 24 bits, stored length in bytes, flags, XXH3-64
 * of the stored bytes. All zero: nothing is referred to. In memory a reference may hold a pointer
 * instead (MOJO_REF_IN_MEMORY, see blob.h); decoding one from disk refuses that flag.
 */
#define MOJO_REF_BYTES     24u
#define MOJO_REF_ZSTD      1u
#define MOJO_REF_IN_MEMORY 0x80000000u

struct mojo_ref {
	uint64_t address; /* first block */
	uint32_t version; /* that was active when the content was last changed; 1 in unversioned trees */
	uint32_t bytes;   /* stored */
	uint32_t flags;
	uint64_t checksum;
};

void mojo_ref_encode(uint8_t *p, const struct mojo_ref *ref);
struct mojo_ref mojo_ref_decode(const uint8_t *p);
static inline bool mojo_ref_is_null(const uint8_t *p)
{
	return mojo_get32(p + 8) == 0 && mojo_get32(p + 12) == 0;
}
static inline bool mojo_ref_in_memory(const uint8_t *p)
{
	return mojo_get32(p + 12) & MOJO_REF_IN_MEMORY;
}
/* Is this, read from disk, null or a possible reference to a blob of at most @max_bytes? */
bool mojo_ref_valid(const uint8_t *p, size_t max_bytes);

/* ---- the root ------------------------------------------------------------------------------- */

#define MOJO_STATE_FILE      "mojo.state"
#define MOJO_STATE_NEW_FILE  "mojo.state.new"
#define MOJO_LOCK_FILE       "mojo.lock"
#define MOJO_CHUNK_DIR       "chunks"
#define MOJO_ROOT_SLOT_BYTES 4096u /* the state file is two of these */
#define MOJO_ROOT_SLOTS      2u
#define MOJO_STORE_ID_BYTES  16u

#define MOJO_ROOT_MARK_PENDING 1u /* flags: dead space left by a dropped version is still to be found */

struct mojo_root {
	uint8_t store_id[MOJO_STORE_ID_BYTES];
	uint64_t generation; /* of two valid slots the higher one counts */
	uint32_t page_size;
	uint32_t pages_per_slot;
	uint32_t chunk_blocks;
	uint32_t flags;
	uint64_t epoch;            /* of the log at log_address */
	uint64_t log_sequence;     /* of the first group to replay */
	uint64_t log_address;      /* block where that group begins, or will */
	uint64_t durable_sequence; /* the checkpoint's own groups end here: the log must reach at least this far */
	uint32_t active_version;
	uint32_t next_bucket;
	uint8_t main_ref[MOJO_REF_BYTES];     /* tree of the active version */
	uint8_t versions_ref[MOJO_REF_BYTES]; /* tree of frozen versions */
	uint8_t space_ref[MOJO_REF_BYTES];    /* tree of dead blocks */
	int64_t created_ns;
	int64_t written_ns;
	uint64_t files;       /* of the active version */
	uint64_t directories; /* of the active version, the root included */
	uint64_t frozen_versions;
};

void mojo_root_encode(uint8_t *slot, const struct mojo_root *root);
/* 0; -EPROTONOSUPPORT: a newer format, whatever else is in it; -EUCLEAN: damaged or no root at all. */
int mojo_root_decode(const uint8_t *slot, struct mojo_root *ret_root);
/* 0, or -EINVAL with what is wrong in *ret_reason (static text). Fills in defaults. */
int mojo_geometry_complete(struct mojo_geometry *geometry, const char **ret_reason);

/* ---- groups --------------------------------------------------------------------------------- */

#define MOJO_GROUP_HEADER_BYTES     96u /* before the first record */
#define MOJO_GROUP_BATCH_END        1u
#define MOJO_GROUP_HEADER_BYTES_MAX (1u << 20) /* header blocks together */

struct mojo_group {
	uint64_t epoch;
	uint64_t sequence;
	uint64_t durable_sequence; /* all groups up to this one were on stable storage when this was written */
	uint64_t address;          /* own first block: tells a moved or copied group */
	uint32_t header_blocks;
	uint32_t data_blocks;
	uint32_t record_count;
	uint32_t record_bytes;
	uint32_t flags;
};

/* mojo_group_seal - fill in the fixed header of @header_blocks * @page_size bytes at @p, whose records
 * are already in place, and the checksum over all of it. */
void mojo_group_seal(uint8_t *p, uint32_t page_size, const uint8_t *store_id, const struct mojo_group *group);

/* mojo_group_peek - decode the fixed header alone, to learn how many header blocks there are.
 * -EUCLEAN if it cannot be a group of this store that lies at @address. */
int mojo_group_peek(const uint8_t *p, uint32_t page_size, uint32_t chunk_blocks, const uint8_t *store_id,
		    uint64_t address, struct mojo_group *ret_group);
/* mojo_group_verify - the checksum over all header blocks (@p holds group->header_blocks of them). */
int mojo_group_verify(const uint8_t *p, uint32_t page_size, const struct mojo_group *group);

/* ---- records -------------------------------------------------------------------------------- */

enum mojo_record_type {
	MOJO_RECORD_EPOCH = 1,    /* previous epoch: the log goes on in a new one after an opening */
	MOJO_RECORD_PAGES = 2,    /* version, bucket, first page, count, a checksum each; data blocks follow in order */
	MOJO_RECORD_INODE = 3,    /* bucket, attributes: makes it if absent */
	MOJO_RECORD_LINK = 4,     /* directory, cookie, child, mode, name */
	MOJO_RECORD_UNLINK = 5,   /* directory, cookie */
	MOJO_RECORD_REMOVE = 6,   /* bucket: inode and pages are gone */
	MOJO_RECORD_CLEAR = 7,    /* bucket, first page, count: those pages are gone */
	MOJO_RECORD_COMMIT = 8,   /* version frozen, time, message */
	MOJO_RECORD_DROP = 9,     /* version forgotten */
	MOJO_RECORD_BLOBS = 10,   /* generation, blocks: data blocks belong to a checkpoint */
	MOJO_RECORD_PUBLISH = 11, /* the unpublished version becomes an ordinary frozen one */
	/* Numbers kept for what is to come: name, restore. */
	MOJO_RECORD_NAME = 12,
	MOJO_RECORD_RESTORE = 13,
	MOJO_RECORD_CLONE = 14,   /* pages of one bucket become those of another, or of a frozen version's */
	MOJO_RECORD_VERDICT = 15, /* version, verdict, text: what a look at its content gave */
	MOJO_RECORD_SHARE = 16, /* bucket, first page, count, an entry each: older blocks hold just what was written */
};

#define MOJO_RECORD_HEADER_BYTES 8u /* type 16, flags 16, payload length 32 */

/* Flags of a record. On INODE, UNLINK, REMOVE, CLEAR, SHARE: of the unpublished version, not the active one. On COMMIT: the
 * version stays unpublished. On PAGES: the checksums' seed is not the bucket, and told. Elsewhere they mean nothing and
 * are refused. */
#define MOJO_RECORD_UNPUBLISHED 1u
#define MOJO_RECORD_SEEDED      2u

struct mojo_record {
	uint16_t type;
	uint16_t flags;
	uint32_t length;
	const uint8_t *payload;
};

/* mojo_record_next - the record at *offset of @length bytes at @p; moves *offset behind it.
 * -ENOENT at the end, -EUCLEAN for a record that does not fit. */
int mojo_record_next(const uint8_t *p, size_t length, size_t *offset, struct mojo_record *ret_record);

#define MOJO_PAGES_FIXED_BYTES 16u /* version, bucket, first, count; if SEEDED the seed; then 4 bytes each */
struct mojo_record_pages {
	uint32_t version, bucket, first, count, seed;
	const uint8_t *checksums; /* 4 bytes each */
};
int mojo_record_pages_decode(const struct mojo_record *record, struct mojo_record_pages *ret);

#define MOJO_SHARE_FIXED_BYTES 12u /* bucket, first, count; then MOJO_ENTRY_BYTES each */
struct mojo_record_share {
	uint32_t bucket, first, count;
	const uint8_t *entries; /* packed; none is absent or lost */
};
int mojo_record_share_decode(const struct mojo_record *record, struct mojo_record_share *ret);

#define MOJO_LINK_FIXED_BYTES 24u /* directory, child, cookie 64, mode, name length; then the name */
struct mojo_record_link {
	uint32_t dir, child, mode;
	uint64_t cookie;
	const char *name; /* not terminated */
	uint32_t name_length;
};
int mojo_record_link_decode(const struct mojo_record *record, struct mojo_record_link *ret);

#define MOJO_COMMIT_FIXED_BYTES 16u /* version, message length, time 64; then the message */
struct mojo_record_commit {
	uint32_t version;
	int64_t time_ns;
	const uint8_t *message;
	uint32_t message_length;
};
int mojo_record_commit_decode(const struct mojo_record *record, struct mojo_record_commit *ret);

#define MOJO_VERDICT_FIXED_BYTES 8u /* version, verdict; then the text */
struct mojo_record_verdict {
	uint32_t version;
	enum mojo_verdict verdict;
	const uint8_t *text;
	uint32_t text_length;
};
int mojo_record_verdict_decode(const struct mojo_record *record, struct mojo_record_verdict *ret);

#define MOJO_CLONE_BYTES 44u /* version, source, target (32 each), first, count, size, time (64 each) */
struct mojo_record_clone {
	uint32_t version;        /* of the source; MOJO_ACTIVE, or a frozen one */
	uint32_t source, target; /* buckets; the target is of the active version */
	uint64_t first, count;   /* pages; first + count is at most 2^32 */
	uint64_t size;           /* bytes that the target has at least from here on */
	int64_t time_ns;         /* mtime and ctime of the target */
};
void mojo_record_clone_encode(uint8_t *p, const struct mojo_record_clone *clone);
int mojo_record_clone_decode(const struct mojo_record *record, struct mojo_record_clone *ret);

/* ---- values of the versions tree ------------------------------------------------------------ */

/*
 * reference (24), time (64), flags (32), message length (32), message, text of the verdict
 * Flags: bit 0 unpublished, bit 1 settled, bits 2..3 verdict, bits 8..15 length of its text.
 */
#define MOJO_VERSION_FIXED_BYTES 40u
#define MOJO_VERSION_BYTES_MAX   (MOJO_VERSION_FIXED_BYTES + MOJO_MESSAGE_MAX + MOJO_VERDICT_MAX)

struct mojo_version_value {
	uint8_t root[MOJO_REF_BYTES]; /* of the main tree; not null */
	int64_t time_ns;
	bool unpublished; /* frozen, and not published yet */
	bool settled;     /* changed after it was frozen: it may lack what versions below and above it share */
	enum mojo_verdict verdict;
	const uint8_t *message; /* borrowed from the bytes it was decoded from */
	uint32_t message_length;
	const uint8_t *text; /* of the verdict; borrowed */
	uint32_t text_length;
};
/* @p: room for MOJO_VERSION_BYTES_MAX. Returns the length. */
uint32_t mojo_version_encode(uint8_t *p, const struct mojo_version_value *value);
int mojo_version_decode(const uint8_t *p, size_t length, struct mojo_version_value *ret);

/* ---- inodes --------------------------------------------------------------------------------- */

/*
 * mode nlink uid gid rdev parent (32 each), size pages atime mtime ctime btime (64 each), cookie 64; and of what had to
 * do with a clone, shared 64 and seed 32.
 */
#define MOJO_INODE_BYTES     80u
#define MOJO_INODE_BYTES_MAX 92u

struct mojo_inode {
	struct mojo_attr attr;
	uint64_t cookie; /* of its entry in attr.parent: leads from an inode to its name */
	uint64_t shared; /* what lies at a lower address than this may be another bucket's as well; 0: nothing is */
	uint32_t seed;   /* bucket with which the checksums of its pages are seeded; 0: its own */
};

static inline uint32_t mojo_inode_seed(const struct mojo_inode *inode)
{
	return inode->seed ? inode->seed : inode->attr.bucket;
}

/* @p: room for MOJO_INODE_BYTES_MAX. Returns the length. */
uint32_t mojo_inode_encode(uint8_t *p, const struct mojo_inode *inode);
/* -EUCLEAN for values that cannot be: unknown type, size past 2^32 pages of 64 KiB. */
int mojo_inode_decode(const uint8_t *p, size_t length, uint32_t bucket, struct mojo_inode *ret_inode);

/* 0, -EINVAL (empty, ".", "..", a slash or NUL within), -ENAMETOOLONG */
int mojo_name_check(const char *name, size_t length);

#endif
