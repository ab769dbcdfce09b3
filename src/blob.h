/* SPDX-License-Identifier: MIT */
/*
 * blob.h - pieces of the index in memory: tree nodes and slots, shared between versions.
 *
 * A blob is *clean* (on disk, immutable, found again by address, evicted when memory is short) or
 * *dirty* (newer than the disk, reached only by pointer, kept until it is written). A reference of
 * MOJO_REF_BYTES inside a node, a slot's value or a version's value is either of the disk's form or
 * holds the pointer of a dirty blob. Several parents, of several versions, may hold the same dirty blob:
 * `refs` counts them.
 *
 * Invariants
 *   B1  a clean blob holds no pointer: all its references are of the disk's form
 *   B2  a dirty blob with refs == 1 that is reached through parents with refs == 1 belongs to one tree
 *       alone and may be changed in place; any other blob is copied before a change (copy on write)
 *   B3  memory: clean bytes are at most what the limit leaves beside the dirty bytes, unless in use
 *
 * Thread safety: none; the store's lock is held around every call. Blobs in use may be read without it
 * only by a caller that holds a reference and knows that nobody changes them.
 */
#ifndef MOJO_BLOB_H
#define MOJO_BLOB_H

#include "chunk.h"
#include "format.h"

enum mojo_blob_type {
	MOJO_BLOB_NODE = 1, /* of a tree, see btree.h; node_bytes long */
	MOJO_BLOB_SLOT = 2, /* entries of one slot; pages_per_slot * MOJO_ENTRY_BYTES long */
};

struct mojo_blob {
	uint32_t refs; /* dirty: parents and users; clean: users */
	uint32_t version;
	enum mojo_blob_type type;
	bool dirty;
	uint32_t data_bytes;
	uint64_t address;                      /* clean: where it is on disk */
	uint8_t disk[MOJO_REF_BYTES];          /* clean: the reference to it */
	struct mojo_blob *hash_next;           /* clean */
	struct mojo_blob *lru_prev, *lru_next; /* clean and unused */
	uint8_t data[];
};

#define MOJO_BLOB_SPARES 20u /* more than the height of any tree: 16 levels are refused */

struct mojo_blobs {
	struct mojo_chunks *chunks; /* borrowed */
	uint32_t node_bytes;
	uint32_t slot_bytes;
	size_t limit_bytes;
	size_t clean_bytes, dirty_bytes; /* data and overhead */
	uint64_t dirty_blocks;           /* disk space that writing the dirty ones may take */

	/* Set by the owner before use. */
	void (*killed)(void *arg, uint64_t address, uint32_t blocks); /* a blob on disk lost its last reference */
	void (*damaged)(void *arg, const char *what, uint64_t address);
	void (*doubted)(void *arg); /* something may have died, and it could not be told; may be NULL */
	void *arg;

	struct mojo_blob **buckets;
	size_t bucket_count; /* a power of two */
	size_t clean_count;
	struct mojo_blob *lru_first, *lru_last; /* first: least recently used */
	/* Nodes set aside, so that a split half-way up a tree never lacks memory. */
	struct mojo_blob *spares[MOJO_BLOB_SPARES];
	unsigned spare_count;
	uint8_t *scratch; /* slot_bytes or node_bytes, whichever is more: stored form */
	uint32_t scratch_bytes;
};

int mojo_blobs_init(struct mojo_blobs *blobs, struct mojo_chunks *chunks, uint32_t pages_per_slot, size_t limit_bytes);
/* Frees all clean blobs; dirty ones must have been released by their trees. */
void mojo_blobs_free(struct mojo_blobs *blobs);

static inline uint32_t mojo_blob_blocks(uint32_t bytes, uint32_t block_bytes)
{
	return (uint32_t)(((uint64_t)bytes + block_bytes - 1) / block_bytes);
}

/*
 * mojo_blob_get - the blob behind a non-null reference of either form, retained.
 * -EUCLEAN (damaged, told through `damaged`), -EIO, -ENOMEM. Pair with mojo_blob_put().
 */
int mojo_blob_get(struct mojo_blobs *blobs, const uint8_t *ref, enum mojo_blob_type type, struct mojo_blob **ret_blob);
void mojo_blob_put(struct mojo_blobs *blobs, struct mojo_blob *blob);

/* mojo_blobs_reserve - after 0, the next MOJO_BLOB_SPARES nodes come without fail. -ENOMEM. */
int mojo_blobs_reserve(struct mojo_blobs *blobs);

/* mojo_blob_new - a dirty blob of zeros with one reference, the caller's. */
int mojo_blob_new(struct mojo_blobs *blobs, enum mojo_blob_type type, uint32_t version, struct mojo_blob **ret_blob);

/* mojo_blob_ref - write the pointer form; the caller's reference to @blob goes into @ref. */
void mojo_blob_ref(struct mojo_blob *blob, uint8_t *ref);

/* The dirty blob that a reference of pointer form holds, not retained. */
struct mojo_blob *mojo_ref_blob(const uint8_t *ref);

/* mojo_ref_retain / mojo_ref_release - one more, one fewer holder of what @ref points at. Nothing happens
 * for null and disk forms. */
void mojo_ref_retain(const uint8_t *ref);
void mojo_ref_release(struct mojo_blobs *blobs, const uint8_t *ref);

/* mojo_ref_kill - the holder lets go of @ref for good: release it, or, where it is of the disk's form and
 * younger than @held, so that no frozen version can hold it, tell `killed`. Does not change @ref. */
void mojo_ref_kill(struct mojo_blobs *blobs, const uint8_t *ref, uint32_t held);

/*
 * mojo_blob_writable - make what @ref refers to a dirty blob that @ref alone holds (B2: the caller saw to
 * the parents). @ref is updated. A copy takes @version as its label; the original is killed if it is
 * younger than @held.
 */
int mojo_blob_writable(struct mojo_blobs *blobs, uint8_t *ref, enum mojo_blob_type type, uint32_t version,
		       uint32_t held, struct mojo_blob **ret_blob);

/* Places one stored blob: chooses its address. Returns 0 or -errno. @data is only valid during the call. */
typedef int mojo_blob_place_fn(void *arg, const uint8_t *data, uint32_t bytes, uint64_t *ret_address);

/* mojo_blob_write_out - every dirty blob reachable from @ref is placed, children first, becomes clean, and
 * all references on the way, @ref included, take the disk's form. */
int mojo_blob_write_out(struct mojo_blobs *blobs, uint8_t *ref, mojo_blob_place_fn *place, void *arg);

#endif
