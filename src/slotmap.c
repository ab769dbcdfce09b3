/* SPDX-License-Identifier: MIT */
#include "slotmap.h"

#include <assert.h>
#include <errno.h>

#define SLOT_KEY_BYTES 9u

static_assert(MOJO_SLOT_VALUE_FIXED_BYTES + MOJO_SLOT_DELTAS * MOJO_DELTA_BYTES <= MOJO_VALUE_BYTES_MAX,
	      "a slot's value fits in a cell");

/*
 * A slot as it is worked on:
 *   value  the cell's bytes: reference, count, deltas sorted by index
 *   base   the blob behind the reference, retained, or NULL
 * Entry i is its delta if there is one, else the base's entry, else absent. In a dirty base that no other tree holds
 * entries are changed in place, and no deltas are kept beside it; of one that is shared nothing is known that would not
 * be true of a clean one.
 */
struct slot {
	struct mojo_cell value;
	struct mojo_blob *base;
};

static void slot_key(uint8_t *key, uint32_t bucket, uint32_t slot)
{
	key[0] = MOJO_KEY_SLOT;
	mojo_put_be32(key + 1, bucket);
	mojo_put_be32(key + 5, slot);
}

static unsigned delta_count(const struct slot *slot)
{
	return mojo_get16(slot->value.value + MOJO_REF_BYTES);
}

static uint8_t *delta_at(struct slot *slot, unsigned i)
{
	return slot->value.value + MOJO_SLOT_VALUE_FIXED_BYTES + i * MOJO_DELTA_BYTES;
}

static void set_delta_count(struct slot *slot, unsigned count)
{
	mojo_put16(slot->value.value + MOJO_REF_BYTES, (uint16_t)count);
	slot->value.value_length = MOJO_SLOT_VALUE_FIXED_BYTES + count * MOJO_DELTA_BYTES;
}

static void slot_close(const struct mojo_slotmap *map, struct slot *slot)
{
	mojo_blob_put(map->tree->blobs, slot->base);
	slot->base = NULL;
}

/* Checks a value that came from disk and loads its base. */
static int slot_ready(const struct mojo_slotmap *map, struct slot *slot)
{
	slot->base = NULL;
	if (slot->value.value_length < MOJO_SLOT_VALUE_FIXED_BYTES)
		return -EUCLEAN;
	unsigned count = delta_count(slot);
	if (count > MOJO_SLOT_DELTAS ||
	    slot->value.value_length != MOJO_SLOT_VALUE_FIXED_BYTES + count * MOJO_DELTA_BYTES)
		return -EUCLEAN;
	for (unsigned i = 0; i < count; i++) {
		unsigned index = mojo_get16(delta_at(slot, i));
		if (index >= map->pages_per_slot || (i > 0 && mojo_get16(delta_at(slot, i - 1)) >= index))
			return -EUCLEAN;
	}
	if (mojo_ref_is_null(slot->value.value))
		return 0;
	return mojo_blob_get(map->tree->blobs, slot->value.value, MOJO_BLOB_SLOT, &slot->base);
}

static int slot_open(const struct mojo_slotmap *map, uint32_t bucket, uint32_t number, struct slot *slot)
{
	uint8_t key[SLOT_KEY_BYTES];
	slot_key(key, bucket, number);
	int err = mojo_tree_get(map->tree, key, sizeof(key), &slot->value);
	if (err)
		return err;
	return slot_ready(map, slot);
}

/* Position of the delta for @index, or where it would go. */
static unsigned find_delta(struct slot *slot, uint32_t index, bool *ret_exact)
{
	unsigned low = 0, high = delta_count(slot);
	*ret_exact = false;
	while (low < high) {
		unsigned middle = (low + high) / 2, have = mojo_get16(delta_at(slot, middle));
		if (have < index)
			low = middle + 1;
		else
			high = middle;
		if (have == index)
			*ret_exact = true;
	}
	return low;
}

static const uint8_t *entry_at(struct slot *slot, uint32_t index)
{
	static const uint8_t absent[MOJO_ENTRY_BYTES];
	bool exact;
	unsigned at = find_delta(slot, index, &exact);
	if (exact)
		return delta_at(slot, at) + 2;
	if (slot->base)
		return slot->base->data + (size_t)index * MOJO_ENTRY_BYTES;
	return absent;
}

int mojo_slotmap_get(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint32_t count,
		     struct mojo_entry *ret_entries)
{
	uint64_t end = first + count;
	for (uint64_t page = first; page < end;) {
		uint64_t number = page / map->pages_per_slot;
		uint64_t slot_end = (number + 1) * map->pages_per_slot;
		uint64_t stop = slot_end < end ? slot_end : end;
		struct slot slot;
		int err = number > UINT32_MAX ? -ENOENT : slot_open(map, bucket, (uint32_t)number, &slot);
		if (err && err != -ENOENT)
			return err;
		for (; page < stop; page++)
			ret_entries[page - first] =
				err ? (struct mojo_entry){ 0 }
				    : mojo_entry_decode(entry_at(&slot, (uint32_t)(page % map->pages_per_slot)));
		if (!err)
			slot_close(map, &slot);
	}
	return 0;
}

/* ---- changing ------------------------------------------------------------------------------- */

static bool is_present(const uint8_t *entry)
{
	return mojo_get64(entry) != 0;
}

/*
 * Pages of one bucket that a tree let go of: which of them does nobody else hold? Other trees are asked for PIECE pages
 * at a time, for one look-up more or fewer per page is what overwriting a file after a settled version costs.
 */
enum { PIECE = 256 };

struct gone {
	uint32_t bucket;
	uint64_t first;
	uint32_t count;
	uint32_t lowest;                  /* label among those still asked for */
	struct mojo_entry entries[PIECE]; /* address 0: not asked for */
};

static void ask(const struct mojo_slotmap *map, const struct mojo_tree *other, struct gone *gone)
{
	const struct mojo_slotmap there = { .tree = (struct mojo_tree *)(uintptr_t)other,
					    .pages_per_slot = map->pages_per_slot };
	struct mojo_entry theirs[PIECE];
	int err = mojo_slotmap_get(&there, gone->bucket, gone->first, gone->count, theirs);
	if (err && map->tree->blobs->doubted)
		map->tree->blobs->doubted(map->tree->blobs->arg);
	gone->lowest = UINT32_MAX;
	for (uint32_t i = 0; i < gone->count; i++) {
		struct mojo_entry *entry = &gone->entries[i];
		if (err || (theirs[i].version && theirs[i].address == entry->address))
			entry->address = 0;
		if (entry->address && entry->version < gone->lowest)
			gone->lowest = entry->version;
	}
}

/* Is there a frozen version that was not settled? */
static bool has_base(const struct mojo_tree *tree)
{
	return tree->settled && tree->settled->base.version;
}

/* @count pages, PIECE at most, from @first on; @entries: as they were, packed. */
static void pages_gone(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint32_t count,
		       const uint8_t *entries)
{
	const struct mojo_tree *tree = map->tree;
	if (!map->killed)
		return;
	bool others = mojo_tree_others(tree), cut = others && tree->settled && tree->settled->cut, shared = false;
	struct gone gone = { .bucket = bucket, .first = first, .count = count, .lowest = UINT32_MAX };
	for (uint32_t i = 0; i < count; i++) {
		struct mojo_entry *entry = &gone.entries[i];
		*entry = mojo_entry_decode(entries + (size_t)i * MOJO_ENTRY_BYTES);
		bool is_shared = entry->version && entry->address < map->shared;
		if (!entry->version || (entry->version <= tree->held && !cut && !is_shared))
			entry->address = 0;
		if (entry->address && entry->version < gone.lowest)
			gone.lowest = entry->version;
		shared |= is_shared;
	}
	if (others && tree->above && gone.lowest != UINT32_MAX)
		ask(map, tree->above, &gone);
	for (unsigned i = 0; others && tree->settled && i < tree->settled->count; i++) {
		const struct mojo_tree *other = &tree->settled->trees[i];
		if (gone.lowest == UINT32_MAX || other->version < gone.lowest)
			break;
		if (other->version != tree->version)
			ask(map, other, &gone);
	}
	if (shared && has_base(tree) && gone.lowest <= tree->settled->base.version)
		ask(map, &tree->settled->base, &gone);
	for (uint32_t i = 0; i < count; i++) {
		if (!gone.entries[i].address)
			continue;
		if (gone.entries[i].version > tree->held && gone.entries[i].address >= map->shared)
			map->killed(map->arg, gone.entries[i].address);
		else if (tree->blobs->doubted)
			tree->blobs->doubted(tree->blobs->arg);
	}
}

/* A slot on disk that a tree lets go of. */
struct wanted_slot {
	const uint8_t *key, *ref;
};

static int refers_to_slot(const struct mojo_tree *other, const void *what, bool *ret_refers)
{
	const struct wanted_slot *wanted = what;
	struct mojo_cell cell;
	int err = mojo_tree_get(other, wanted->key, SLOT_KEY_BYTES, &cell);
	*ret_refers = !err && cell.value_length >= MOJO_REF_BYTES && !mojo_ref_in_memory(cell.value) &&
		      mojo_ref_decode(cell.value).address == mojo_ref_decode(wanted->ref).address;
	return err == -ENOENT ? 0 : err;
}

/* The same of one that clones may share: if no other version has it at this key, nobody knows. */
static void shared_slot_gone(const struct mojo_tree *tree, const struct wanted_slot *wanted)
{
	uint32_t label = mojo_ref_decode(wanted->ref).version;
	bool refers = false;
	int err = tree->above ? refers_to_slot(tree->above, wanted, &refers) : 0;
	for (unsigned i = 0; tree->settled && i < tree->settled->count && !err && !refers; i++) {
		const struct mojo_tree *other = &tree->settled->trees[i];
		if (other->version >= label && other->version != tree->version)
			err = refers_to_slot(other, wanted, &refers);
	}
	if (!err && !refers && has_base(tree) && tree->settled->base.version >= label)
		err = refers_to_slot(&tree->settled->base, wanted, &refers);
	if ((err || !refers) && tree->blobs->doubted)
		tree->blobs->doubted(tree->blobs->arg);
}

/* The tree lets go of the slot's blob at @ref. */
static void slot_gone(const struct mojo_slotmap *map, const uint8_t *key, const uint8_t *ref)
{
	const struct mojo_tree *tree = map->tree;
	uint32_t held = tree->held;
	bool on_disk = !mojo_ref_is_null(ref) && !mojo_ref_in_memory(ref);
	struct wanted_slot wanted = { key, ref };
	if (on_disk && mojo_ref_decode(ref).address < map->shared) {
		shared_slot_gone(tree, &wanted);
		held = UINT32_MAX;
	} else if (on_disk && mojo_tree_others(tree)) {
		if (!mojo_tree_alone(tree, mojo_ref_decode(ref).version, refers_to_slot, &wanted))
			held = UINT32_MAX;
	}
	mojo_ref_kill(tree->blobs, ref, held);
}

/*
 * One change: entries [index, index + count) of a slot become @entries (packed), or absent if it is NULL.
 * Works out what dies and how many pages come and go, then stores the slot's new value.
 */
struct change {
	uint32_t bucket, number, index, count;
	const uint8_t *entries;
	uint32_t added, removed;
};

static const uint8_t *new_entry(const struct change *change, uint32_t i)
{
	static const uint8_t absent[MOJO_ENTRY_BYTES];
	return change->entries ? change->entries + (size_t)i * MOJO_ENTRY_BYTES : absent;
}

/* Entries [from, from + count) of the change replaced @old, packed: PIECE at most. */
static void account(const struct mojo_slotmap *map, struct change *change, uint32_t from, uint32_t count,
		    const uint8_t *old)
{
	for (uint32_t i = 0; i < count; i++) {
		bool was = is_present(old + (size_t)i * MOJO_ENTRY_BYTES), is = is_present(new_entry(change, from + i));
		change->removed += was && !is;
		change->added += !was && is;
	}
	uint64_t page = (uint64_t)change->number * map->pages_per_slot + change->index + from;
	pages_gone(map, change->bucket, page, count, old);
}

/* The deltas go into the base, which is this tree's alone. What they hide in it was accounted for when it was hidden. */
static int fold_deltas(struct mojo_tree *tree, const uint8_t *key, const struct slot *slot, struct mojo_blob *base)
{
	struct slot folded = { .value = slot->value };
	for (unsigned i = 0; i < delta_count(&folded); i++) {
		const uint8_t *delta = delta_at(&folded, i);
		memcpy(base->data + (size_t)mojo_get16(delta) * MOJO_ENTRY_BYTES, delta + 2, MOJO_ENTRY_BYTES);
	}
	set_delta_count(&folded, 0);
	return mojo_tree_put(tree, key, SLOT_KEY_BYTES, folded.value.value, folded.value.value_length);
}

/*
 * The slot has a dirty base. If this tree alone holds it, change it in place; *ret_done says so. Else nothing happens: a
 * copy for every version in which an entry changes would be a slot for each of them at the next checkpoint.
 */
static int change_base(const struct mojo_slotmap *map, struct change *change, const uint8_t *key,
		       const struct slot *slot, bool *ret_done)
{
	struct mojo_tree *tree = map->tree;
	uint8_t *value;
	unsigned length;
	int err = mojo_tree_touch(tree, key, SLOT_KEY_BYTES, &value, &length);
	*ret_done = false;
	if (err || mojo_ref_blob(value)->refs > 1)
		return err;
	struct mojo_blob *base;
	err = mojo_blob_writable(tree->blobs, value, MOJO_BLOB_SLOT, tree->version, tree->held, &base);
	if (!err && length > MOJO_SLOT_VALUE_FIXED_BYTES)
		err = fold_deltas(tree, key, slot, base);
	if (err)
		return err;
	for (uint32_t from = 0, piece; from < change->count; from += piece) {
		uint8_t old[PIECE * MOJO_ENTRY_BYTES];
		uint8_t *at = base->data + (size_t)(change->index + from) * MOJO_ENTRY_BYTES;
		piece = change->count - from < PIECE ? change->count - from : PIECE;
		memcpy(old, at, (size_t)piece * MOJO_ENTRY_BYTES);
		for (uint32_t i = 0; i < piece; i++)
			memcpy(at + (size_t)i * MOJO_ENTRY_BYTES, new_entry(change, from + i), MOJO_ENTRY_BYTES);
		account(map, change, from, piece, old);
	}
	*ret_done = true;
	return 0;
}

/* How many deltas the slot will have: those it has, and one for each changed entry without. */
static unsigned deltas_after(struct slot *slot, const struct change *change)
{
	unsigned count = delta_count(slot), inside = 0;
	for (unsigned i = 0; i < count; i++) {
		unsigned index = mojo_get16(delta_at(slot, i));
		inside += index >= change->index && index < change->index + change->count;
	}
	return count - inside + change->count;
}

static void put_delta(struct slot *slot, uint32_t index, const uint8_t *entry)
{
	bool exact;
	unsigned at = find_delta(slot, index, &exact), count = delta_count(slot);
	uint8_t *delta = delta_at(slot, at);
	if (!exact) {
		memmove(delta + MOJO_DELTA_BYTES, delta, (size_t)(count - at) * MOJO_DELTA_BYTES);
		mojo_put16(delta, (uint16_t)index);
		set_delta_count(slot, count + 1);
	}
	memcpy(delta + 2, entry, MOJO_ENTRY_BYTES);
}

static void drop_delta(struct slot *slot, uint32_t index)
{
	bool exact;
	unsigned at = find_delta(slot, index, &exact), count = delta_count(slot);
	if (!exact)
		return;
	uint8_t *delta = delta_at(slot, at);
	memmove(delta, delta + MOJO_DELTA_BYTES, (size_t)(count - at - 1) * MOJO_DELTA_BYTES);
	set_delta_count(slot, count - 1);
}

static int change_slot(const struct mojo_slotmap *map, struct change *change)
{
	struct mojo_tree *tree = map->tree;
	uint8_t key[SLOT_KEY_BYTES];
	slot_key(key, change->bucket, change->number);
	struct slot slot = { 0 };
	int err = mojo_tree_get(tree, key, sizeof(key), &slot.value);
	if (err == -ENOENT) {
		if (!change->entries)
			return 0;
		memset(slot.value.value, 0, MOJO_REF_BYTES);
		set_delta_count(&slot, 0);
		err = 0;
	}
	if (err)
		return err;
	if (mojo_ref_in_memory(slot.value.value) && mojo_ref_blob(slot.value.value)->dirty) {
		bool done;
		err = change_base(map, change, key, &slot, &done);
		if (err || done)
			return err;
	}
	err = slot_ready(map, &slot);
	if (err)
		return err;

	struct mojo_blob *whole = NULL;
	bool forget = !change->entries && !slot.base; /* absent already below the deltas: none is needed to say so */
	if (!forget && deltas_after(&slot, change) > MOJO_SLOT_DELTAS) {
		err = mojo_blob_new(tree->blobs, MOJO_BLOB_SLOT, tree->version, &whole);
		if (err)
			goto out;
		if (slot.base)
			memcpy(whole->data, slot.base->data, whole->data_bytes);
		for (unsigned i = 0; i < delta_count(&slot); i++)
			memcpy(whole->data + (size_t)mojo_get16(delta_at(&slot, i)) * MOJO_ENTRY_BYTES,
			       delta_at(&slot, i) + 2, MOJO_ENTRY_BYTES);
	}

	/* The new value first, and only when it is stored what it kills: a failure changes nothing. */
	struct slot after = { .value = slot.value };
	if (whole) {
		mojo_blob_ref(whole, after.value.value);
		set_delta_count(&after, 0);
	}
	for (uint32_t i = 0; i < change->count; i++) {
		if (whole)
			memcpy(whole->data + (size_t)(change->index + i) * MOJO_ENTRY_BYTES, new_entry(change, i),
			       MOJO_ENTRY_BYTES);
		else if (forget)
			drop_delta(&after, change->index + i);
		else
			put_delta(&after, change->index + i, new_entry(change, i));
	}
	if (forget && delta_count(&after) == 0)
		err = mojo_tree_delete(tree, key, sizeof(key));
	else
		err = mojo_tree_put(tree, key, sizeof(key), after.value.value, after.value.value_length);
	if (err) {
		mojo_blob_put(tree->blobs, whole);
		goto out;
	}
	for (uint32_t from = 0, piece; from < change->count; from += piece) {
		uint8_t old[PIECE * MOJO_ENTRY_BYTES];
		piece = change->count - from < PIECE ? change->count - from : PIECE;
		for (uint32_t i = 0; i < piece; i++)
			memcpy(old + (size_t)i * MOJO_ENTRY_BYTES, entry_at(&slot, change->index + from + i),
			       MOJO_ENTRY_BYTES);
		account(map, change, from, piece, old);
	}
	if (whole)
		slot_gone(map, key, slot.value.value);
out:
	slot_close(map, &slot);
	return err;
}

int mojo_slotmap_share(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint32_t count,
		       const uint8_t *entries, uint32_t *ret_added)
{
	uint32_t added = 0;
	for (uint32_t done = 0; done < count;) {
		uint64_t page = first + done;
		uint32_t index = (uint32_t)(page % map->pages_per_slot), piece = map->pages_per_slot - index;
		if (piece > count - done)
			piece = count - done;
		struct change change = {
			.bucket = bucket,
			.number = (uint32_t)(page / map->pages_per_slot),
			.index = index,
			.count = piece,
			.entries = entries + (size_t)done * MOJO_ENTRY_BYTES,
		};
		int err = change_slot(map, &change);
		if (err)
			return err;
		added += change.added;
		done += piece;
	}
	*ret_added = added;
	return 0;
}

int mojo_slotmap_set(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint32_t count, uint64_t address,
		     const uint32_t *checksums, uint32_t *ret_added)
{
	uint8_t entries[PIECE * MOJO_ENTRY_BYTES];
	uint32_t all = 0;
	for (uint32_t done = 0, piece; done < count; done += piece) {
		piece = count - done < PIECE ? count - done : PIECE;
		for (uint32_t i = 0; i < piece; i++) {
			struct mojo_entry entry = {
				.address = address + done + i,
				.version = map->tree->version,
				.checksum = checksums[done + i],
			};
			mojo_entry_encode(entries + (size_t)i * MOJO_ENTRY_BYTES, &entry);
		}
		uint32_t added;
		int err = mojo_slotmap_share(map, bucket, first + done, piece, entries, &added);
		if (err)
			return err;
		all += added;
	}
	*ret_added = all;
	return 0;
}

/* Where entries can be present: [*ret_low, *ret_high). A small file, as a journal is, has few and no blob. */
static void occupied(const struct mojo_slotmap *map, struct slot *slot, uint32_t *ret_low, uint32_t *ret_high)
{
	unsigned count = delta_count(slot);
	*ret_low = 0;
	*ret_high = map->pages_per_slot;
	if (slot->base)
		return;
	*ret_low = count ? mojo_get16(delta_at(slot, 0)) : 0;
	*ret_high = count ? mojo_get16(delta_at(slot, count - 1)) + 1u : 0;
}

/* The slot goes altogether. */
static int remove_slot(const struct mojo_slotmap *map, uint32_t bucket, uint32_t number, uint64_t *removed)
{
	struct mojo_tree *tree = map->tree;
	struct slot slot;
	uint8_t key[SLOT_KEY_BYTES];
	slot_key(key, bucket, number);
	int err = slot_open(map, bucket, number, &slot);
	if (err)
		return err;
	err = mojo_tree_delete(tree, key, sizeof(key));
	uint32_t low, high;
	occupied(map, &slot, &low, &high);
	for (uint32_t from = low, piece; from < high && !err; from += piece) {
		uint8_t old[PIECE * MOJO_ENTRY_BYTES];
		piece = high - from < PIECE ? high - from : PIECE;
		for (uint32_t i = 0; i < piece; i++) {
			const uint8_t *entry = entry_at(&slot, from + i);
			memcpy(old + (size_t)i * MOJO_ENTRY_BYTES, entry, MOJO_ENTRY_BYTES);
			*removed += is_present(entry);
		}
		pages_gone(map, bucket, (uint64_t)number * map->pages_per_slot + from, piece, old);
	}
	slot_close(map, &slot);
	if (!err)
		slot_gone(map, key, slot.value.value);
	return err;
}

/* The lowest slot of @bucket that has a value, from @from on. */
static int next_slot(const struct mojo_slotmap *map, uint32_t bucket, uint64_t from, uint32_t *ret_number,
		     struct mojo_cell *cell)
{
	uint8_t key[SLOT_KEY_BYTES];
	if (from > UINT32_MAX)
		return -ENOENT;
	slot_key(key, bucket, (uint32_t)from);
	int err = mojo_tree_next(map->tree, key, sizeof(key), false, cell);
	if (err)
		return err;
	if (cell->key_length != SLOT_KEY_BYTES || memcmp(cell->key, key, 5) != 0)
		return -ENOENT;
	*ret_number = mojo_get_be32(cell->key + 5);
	return 0;
}

int mojo_slotmap_clear(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint64_t count,
		       uint64_t *ret_removed)
{
	uint64_t end = count > UINT64_MAX - first ? UINT64_MAX : first + count, removed = 0;
	uint64_t from = first / map->pages_per_slot;
	for (;;) {
		struct mojo_cell cell;
		uint32_t number;
		int err = next_slot(map, bucket, from, &number, &cell);
		uint64_t start = (uint64_t)number * map->pages_per_slot;
		if (err == -ENOENT || (!err && start >= end))
			break;
		if (err)
			return err;
		uint64_t low = start > first ? start : first;
		uint64_t high = start + map->pages_per_slot < end ? start + map->pages_per_slot : end;
		if (high - low == map->pages_per_slot) {
			err = remove_slot(map, bucket, number, &removed);
		} else {
			struct change change = {
				.bucket = bucket,
				.number = number,
				.index = (uint32_t)(low - start),
				.count = (uint32_t)(high - low),
			};
			err = change_slot(map, &change);
			removed += change.removed;
		}
		if (err)
			return err;
		from = (uint64_t)number + 1;
	}
	*ret_removed = removed;
	return 0;
}

/* ---- leaning on another version's slots ----------------------------------------------------- */

/* @lean: the slot's value in the other tree; becomes what @whole is, told by deltas beside that one's blob. */
static bool tell_by_deltas(const struct mojo_slotmap *map, const struct mojo_blob *whole, struct slot *lean)
{
	set_delta_count(lean, 0);
	for (uint32_t i = 0; i < map->pages_per_slot; i++) {
		const uint8_t *entry = whole->data + (size_t)i * MOJO_ENTRY_BYTES;
		if (memcmp(entry, lean->base->data + (size_t)i * MOJO_ENTRY_BYTES, MOJO_ENTRY_BYTES) == 0)
			continue;
		if (delta_count(lean) == MOJO_SLOT_DELTAS)
			return false;
		put_delta(lean, i, entry);
	}
	return true;
}

/* @cell: the slot's in the tree itself. */
static void lean_slot(const struct mojo_slotmap *map, const struct mojo_tree *other, const struct mojo_cell *cell)
{
	struct slot lean = { 0 };
	if (!mojo_ref_in_memory(cell->value) || cell->value_length != MOJO_SLOT_VALUE_FIXED_BYTES ||
	    !mojo_tree_owns(map->tree, cell->key, cell->key_length))
		return;
	struct mojo_blob *whole = mojo_ref_blob(cell->value);
	if (!whole->dirty || whole->refs > 1 || mojo_tree_get(other, cell->key, cell->key_length, &lean.value) != 0 ||
	    slot_ready(map, &lean) != 0)
		return;
	if (lean.base && tell_by_deltas(map, whole, &lean) &&
	    mojo_tree_put(map->tree, cell->key, cell->key_length, lean.value.value, lean.value.value_length) == 0) {
		mojo_ref_retain(lean.value.value);
		mojo_blob_put(map->tree->blobs, whole);
	}
	slot_close(map, &lean);
}

void mojo_slotmap_lean_on(const struct mojo_slotmap *map, const struct mojo_tree *other)
{
	uint8_t key[MOJO_KEY_BYTES_MAX] = { MOJO_KEY_SLOT };
	unsigned length = 1; /* lower than the key of any slot, higher than what is no slot's */
	struct mojo_cell cell;
	while (mojo_tree_next_changed(map->tree, other, key, length, &cell) == 0 && cell.key[0] == MOJO_KEY_SLOT) {
		if (cell.key_length != SLOT_KEY_BYTES)
			return;
		lean_slot(map, other, &cell);
		memcpy(key, cell.key, cell.key_length);
		length = cell.key_length;
	}
}

/* ---- sharing with another bucket ------------------------------------------------------------ */

/* The slot as it is, for a bucket that has none at this place. What is on disk is shared; what is in memory is copied,
 * for once on disk it would be where addresses do not tell that it is shared. */
static int clone_slot(const struct mojo_slotmap *map, uint32_t bucket, uint32_t number, struct slot *slot)
{
	struct mojo_tree *tree = map->tree;
	uint8_t key[SLOT_KEY_BYTES];
	struct mojo_blob *copy = NULL;
	slot_key(key, bucket, number);
	if (mojo_ref_in_memory(slot->value.value)) {
		int err = mojo_blob_new(tree->blobs, MOJO_BLOB_SLOT, tree->version, &copy);
		if (err)
			return err;
		memcpy(copy->data, slot->base->data, copy->data_bytes);
		mojo_blob_ref(copy, slot->value.value);
	}
	int err = mojo_tree_put(tree, key, sizeof(key), slot->value.value, slot->value.value_length);
	if (err)
		mojo_blob_put(tree->blobs, copy);
	return err;
}

/* Entries [index, end) of the slot, where there are any. */
static int clone_entries(const struct mojo_slotmap *map, uint32_t bucket, uint32_t number, struct slot *slot,
			 uint32_t index, uint32_t end)
{
	int err = 0;
	while (index < end && !err) {
		uint8_t entries[PIECE * MOJO_ENTRY_BYTES];
		uint32_t n = 0;
		for (; n < PIECE && index + n < end && is_present(entry_at(slot, index + n)); n++)
			memcpy(entries + (size_t)n * MOJO_ENTRY_BYTES, entry_at(slot, index + n), MOJO_ENTRY_BYTES);
		struct change change = {
			.bucket = bucket, .number = number, .index = index, .count = n, .entries = entries
		};
		if (n)
			err = change_slot(map, &change);
		index += n ? n : 1;
	}
	return err;
}

/* What to do with the part [low, high) of a slot that has pages there. */
typedef int part_fn(void *arg, uint32_t number, struct slot *slot, uint32_t low, uint32_t high);

static int each_part(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint64_t count, part_fn *fn,
		     void *arg, uint64_t *ret_present)
{
	uint64_t end = first + count, total = 0;
	uint32_t number, pps = map->pages_per_slot;
	int err = 0;
	for (uint64_t from = first / pps; !err; from = (uint64_t)number + 1) {
		struct slot slot;
		err = next_slot(map, bucket, from, &number, &slot.value);
		uint64_t start = (uint64_t)number * pps;
		if (err == -ENOENT || (!err && start >= end))
			break;
		if (!err)
			err = slot_ready(map, &slot);
		if (err)
			return err;
		uint32_t low = first > start ? (uint32_t)(first - start) : 0;
		uint32_t high = end - start < pps ? (uint32_t)(end - start) : pps;
		uint64_t present = 0;
		for (uint32_t i = low; i < high; i++)
			present += is_present(entry_at(&slot, i));
		if (fn && present)
			err = fn(arg, number, &slot, low, high);
		total += present;
		slot_close(map, &slot);
	}
	if (!err || err == -ENOENT)
		*ret_present = total;
	return err == -ENOENT ? 0 : err;
}

int mojo_slotmap_count(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint64_t count,
		       uint64_t *ret_present)
{
	return each_part(map, bucket, first, count, NULL, NULL, ret_present);
}

struct cloning {
	const struct mojo_slotmap *map;
	uint32_t bucket;
};

static int clone_part(void *arg, uint32_t number, struct slot *slot, uint32_t low, uint32_t high)
{
	const struct cloning *c = arg;
	if (low == 0 && high == c->map->pages_per_slot)
		return clone_slot(c->map, c->bucket, number, slot);
	return clone_entries(c->map, c->bucket, number, slot, low, high);
}

int mojo_slotmap_clone(const struct mojo_slotmap *map, uint32_t bucket, const struct mojo_slotmap *source,
		       uint32_t from, uint64_t first, uint64_t count, uint64_t *ret_added)
{
	struct cloning c = { map, bucket };
	return each_part(source, from, first, count, clone_part, &c, ret_added);
}

/* ---- looking ahead -------------------------------------------------------------------------- */

int mojo_slotmap_next(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint64_t *ret_page,
		      struct mojo_entry *ret_entry)
{
	for (uint64_t from = first / map->pages_per_slot;;) {
		struct slot slot;
		uint32_t number;
		int err = next_slot(map, bucket, from, &number, &slot.value);
		if (!err)
			err = slot_ready(map, &slot);
		if (err)
			return err;
		uint64_t start = (uint64_t)number * map->pages_per_slot;
		for (uint32_t i = first > start ? (uint32_t)(first - start) : 0; i < map->pages_per_slot; i++) {
			const uint8_t *entry = entry_at(&slot, i);
			if (is_present(entry)) {
				*ret_page = start + i;
				*ret_entry = mojo_entry_decode(entry);
				slot_close(map, &slot);
				return 0;
			}
		}
		slot_close(map, &slot);
		from = (uint64_t)number + 1;
	}
}

int mojo_slotmap_hole(const struct mojo_slotmap *map, uint32_t bucket, uint64_t first, uint64_t *ret_page)
{
	for (uint64_t page = first;;) {
		uint64_t number = page / map->pages_per_slot;
		struct slot slot;
		int err = number > UINT32_MAX ? -ENOENT : slot_open(map, bucket, (uint32_t)number, &slot);
		if (err == -ENOENT) {
			*ret_page = page;
			return 0;
		}
		if (err)
			return err;
		uint64_t end = (number + 1) * map->pages_per_slot;
		while (page < end && is_present(entry_at(&slot, (uint32_t)(page % map->pages_per_slot))))
			page++;
		slot_close(map, &slot);
		if (page < end) {
			*ret_page = page;
			return 0;
		}
	}
}
