/* SPDX-License-Identifier: MIT */
/*
 * slotmap.h - page -> entry, for the buckets of one version.
 *
 * Pages are mapped by slots of pages_per_slot entries. The main tree holds a value for each slot that is
 * not empty: a reference to a blob with all entries (or none), and up to MOJO_SLOT_DELTAS entries that
 * differ from it. So a small file has no blob at all, and a version in which one page of a large file
 * changed costs some 14 bytes, not a slot. When the deltas are full the slot is made whole in memory,
 * and the next checkpoint writes it as a new blob.
 *
 * Measured need for the deltas: a whole slot of 4096 entries with random checksums packs to about 20 KiB,
 * and a one-row change touches two slots; "store bytes per version" would start at 40 KiB.
 *
 * Thread safety: none; the store's lock is held.
 */
#ifndef MOJO_SLOTMAP_H
#define MOJO_SLOTMAP_H

#include "btree.h"

#define MOJO_SLOT_DELTAS            48u
#define MOJO_DELTA_BYTES            (2u + MOJO_ENTRY_BYTES) /* index in the slot, entry */
#define MOJO_SLOT_VALUE_FIXED_BYTES (MOJO_REF_BYTES + 2u)

/* Told of each page that no frozen version can hold and that is no longer referred to. */
typedef void mojo_page_killed_fn(void *arg, uint64_t address);

struct mojo_slotmap {
	struct mojo_tree *tree; /* borrowed: a main tree */
	uint32_t pages_per_slot;
	mojo_page_killed_fn *killed; /* may be NULL for a tree that is only read */
	void *arg;
	/* `shared` of the inode of the bucket that is changed. What lies at a lower address may be another bucket's as
	 * well, of which nothing here tells: it is not killed when it is let go of, but doubted (mojo_blobs.doubted). */
	uint64_t shared;
};

/* mojo_slotmap_get - @count entries from page @first on; absent pages give an entry of version 0.
 * Pages at or past 2^32 are absent. */
int mojo_slotmap_get(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint32_t count,
		     struct mojo_entry *ret_entries);

/* mojo_slotmap_set - entries for @count pages from @first on (@first + @count <= 2^32), at consecutive
 * addresses from @address on, written by the tree's version. *ret_added: pages that were absent before. */
int mojo_slotmap_set(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint32_t count, uint64_t address,
		     const uint32_t *checksums, uint32_t *ret_added);

/* mojo_slotmap_share - the same with @count entries, packed, that older versions have: whoever has them keeps them. */
int mojo_slotmap_share(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint32_t count,
		       const uint8_t *entries, uint32_t *ret_added);

/* mojo_slotmap_lean_on - a slot that the tree alone has, made whole in memory, and that differs in few entries from the
 * blob which @other's slot refers to, refers to that blob as well, with deltas. For economy only: what cannot be
 * done is left. @other is a frozen version below the tree's own that is kept. */
void mojo_slotmap_lean_on(const struct mojo_slotmap *map, const struct mojo_tree *other);

/* mojo_slotmap_clear - pages from @first on, @count of them (UINT64_MAX: all), become absent.
 * *ret_removed: pages that were present. On failure some may be cleared already. */
int mojo_slotmap_clear(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint64_t count,
		       uint64_t *ret_removed);

/* mojo_slotmap_clone - pages from @first on, @count of them, become those of @from in @source, entry by entry, whole
 * slots at a time where the range covers them. None is there now, and @from is another bucket, or of another tree.
 * *ret_added: pages that came. On failure some may have come already. */
int mojo_slotmap_clone(const struct mojo_slotmap *map, uint32_t bucket, const struct mojo_slotmap *source,
		       uint32_t from, uint64_t first, uint64_t count, uint64_t *ret_added);

/* mojo_slotmap_count - pages that are present from @first on, @count of them. Reads each slot in the range. */
int mojo_slotmap_count(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint64_t count,
		       uint64_t *ret_present);

/* mojo_slotmap_next - the first present page at or behind @first; -ENOENT if there is none. */
int mojo_slotmap_next(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint64_t *ret_page,
		      struct mojo_entry *ret_entry);
/* mojo_slotmap_hole - the first absent page at or behind @first. */
int mojo_slotmap_hole(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint64_t *ret_page);

#endif
