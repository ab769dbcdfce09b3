/* SPDX-License-Identifier: MIT */
#include "salvage.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "namespace.h"
#include "verify.h"
#include "version.h"

#define LEVEL_ANY      UINT32_MAX
#define SLOT_KEY_BYTES 9u

static void __attribute__((format(printf, 2, 3))) tell(struct mojo_salvage *s, const char *format, ...)
{
	char text[256];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (s->tell)
		s->tell(s->arg, text);
}

static void put_aside(struct mojo_salvage *s, const uint8_t *ref)
{
	s->pieces++;
	if (!s->aside || mojo_ref_in_memory(ref) || mojo_ref_is_null(ref))
		return;
	struct mojo_ref r = mojo_ref_decode(ref);
	s->aside(s->arg, r.address, mojo_blob_blocks(r.bytes, mojo_page_size(s->store)));
}

/* What the host cannot read is damaged like what does not match its checksum; only a lack of memory is not. */
static bool is_damage(int err)
{
	return err && err != -ENOMEM;
}

static int compare_keys(const uint8_t *a, unsigned a_length, const uint8_t *b, unsigned b_length)
{
	int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
	return order ? order : (int)a_length - (int)b_length;
}

/* ---- nodes ---------------------------------------------------------------------------------- */

struct bounds {
	uint8_t low[MOJO_KEY_BYTES_MAX], high[MOJO_KEY_BYTES_MAX];
	unsigned low_length, high_length; /* of high, 0: no bound */
};

static void set_key(uint8_t *to, unsigned *to_length, const uint8_t *key, unsigned length)
{
	memcpy(to, key, length);
	*to_length = length;
}

static int note_lost(struct mojo_salvage *s, const struct bounds *bounds, uint32_t version)
{
	if (s->lost_count == s->lost_capacity) {
		size_t capacity = s->lost_capacity ? s->lost_capacity * 2 : 16;
		struct mojo_lost_keys *grown = realloc(s->lost, capacity * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		s->lost = grown;
		s->lost_capacity = capacity;
	}
	struct mojo_lost_keys *lost = &s->lost[s->lost_count++];
	*lost = (struct mojo_lost_keys){ .version = version };
	set_key(lost->low, &lost->low_length, bounds->low, bounds->low_length);
	set_key(lost->high, &lost->high_length, bounds->high, bounds->high_length);
	return 0;
}

static bool has_its_place(const struct mojo_blob *node, enum mojo_tree_kind kind, unsigned level,
			  const struct bounds *bounds)
{
	if (mojo_node_kind(node->data) != (unsigned)kind ||
	    (level != LEVEL_ANY && mojo_node_level(node->data) != level))
		return false;
	for (unsigned i = mojo_node_level(node->data) ? 1 : 0; i < mojo_node_count(node->data); i++) {
		unsigned length;
		const uint8_t *key = mojo_node_key(node->data, i, &length);
		if (compare_keys(key, length, bounds->low, bounds->low_length) < 0 ||
		    (bounds->high_length && compare_keys(key, length, bounds->high, bounds->high_length) >= 0))
			return false;
	}
	return true;
}

/* Takes the nodes that cannot be used out of the tree below @ref, which is changed. *ret_gone: all of it is. */
static int excise(struct mojo_salvage *s, uint8_t *ref, enum mojo_tree_kind kind, uint32_t version, unsigned level,
		  const struct bounds *bounds, bool *ret_gone)
{
	struct mojo_blobs *blobs = &s->store->blobs;
	struct mojo_blob *node;
	*ret_gone = false;
	int err = mojo_blob_get(blobs, ref, MOJO_BLOB_NODE, &node);
	if (!err && !has_its_place(node, kind, level, bounds)) {
		mojo_blob_put(blobs, node);
		err = -EUCLEAN;
	}
	if (is_damage(err)) {
		put_aside(s, ref);
		mojo_ref_release(blobs, ref);
		*ret_gone = true;
		return kind == MOJO_TREE_MAIN ? note_lost(s, bounds, version) : 0;
	}
	if (err)
		return err;
	level = mojo_node_level(node->data);
	mojo_blob_put(blobs, node);
	if (level == 0)
		return 0;
	err = mojo_tree_whole(s->store, ref, kind, &s->whole);
	if (!is_damage(err))
		return err;
	err = mojo_blob_writable(blobs, ref, MOJO_BLOB_NODE, version, UINT32_MAX, &node);
	for (unsigned i = err ? 0 : mojo_node_count(node->data); i-- > 0 && !err;) {
		struct bounds below = *bounds;
		unsigned length, key_length, count = mojo_node_count(node->data);
		const uint8_t *key = mojo_node_key(node->data, i, &key_length);
		uint8_t *child = mojo_node_value(node->data, i, &length);
		bool gone;
		if (i > 0)
			set_key(below.low, &below.low_length, key, key_length);
		if (i + 1 < count) {
			key = mojo_node_key(node->data, i + 1, &key_length);
			set_key(below.high, &below.high_length, key, key_length);
		}
		err = excise(s, child, kind, version, level - 1, &below, &gone);
		if (err || !gone)
			continue;
		/* Keys from the first one on still come to the first child: its place goes to its neighbour, with the key. */
		if (i == 0 && count > 1) {
			memcpy(child, mojo_node_value(node->data, 1, &length), MOJO_REF_BYTES);
			mojo_node_remove(node->data, 1);
		} else {
			mojo_node_remove(node->data, i);
		}
	}
	if (!err && mojo_node_count(node->data) == 0) {
		mojo_ref_release(blobs, ref);
		*ret_gone = true;
	}
	return err;
}

/* ---- slots ---------------------------------------------------------------------------------- */

static struct mojo_entry lost_entry(uint32_t version)
{
	return (struct mojo_entry){ .version = version };
}

/* Pages of @bucket there can be. */
static uint64_t page_limit(const struct mojo_salvage *s, const struct mojo_tree *tree, uint32_t bucket)
{
	struct mojo_inode inode;
	if (mojo_inode_get(tree, bucket, &inode) != 0 || S_ISDIR(inode.attr.mode))
		return 1ull << 32;
	return (inode.attr.size + mojo_page_size(s->store) - 1) / mojo_page_size(s->store);
}

/* A slot of lost pages only, as far as @limit goes; a full one is shared. @ret_ref holds it. */
static int lost_slot(struct mojo_salvage *s, uint32_t version, uint32_t number, uint64_t limit, uint8_t *ret_ref)
{
	uint32_t pps = s->store->root.pages_per_slot;
	uint64_t first = (uint64_t)number * pps;
	uint32_t count = limit - first < pps ? (uint32_t)(limit - first) : pps;
	struct mojo_blob *blob;
	if (count == pps && s->lost_slot && s->lost_slot->dirty && s->lost_slot->version == version) {
		s->lost_slot->refs++;
		mojo_blob_ref(s->lost_slot, ret_ref);
		return 0;
	}
	int err = mojo_blob_new(&s->store->blobs, MOJO_BLOB_SLOT, version, &blob);
	if (err)
		return err;
	struct mojo_entry entry = lost_entry(version);
	for (uint32_t i = 0; i < count; i++)
		mojo_entry_encode(blob->data + (size_t)i * MOJO_ENTRY_BYTES, &entry);
	if (count == pps) {
		mojo_blob_put(&s->store->blobs, s->lost_slot);
		s->lost_slot = blob;
		blob->refs++;
	}
	mojo_blob_ref(blob, ret_ref);
	return 0;
}

/* A slot whose blob, or value, cannot be read: everything in it is lost but what its deltas say. */
static int replace_slot(struct mojo_salvage *s, struct mojo_tree *tree, uint32_t version, const struct mojo_cell *cell)
{
	uint32_t bucket = mojo_get_be32(cell->key + 1), number = mojo_get_be32(cell->key + 5);
	uint32_t pps = s->store->root.pages_per_slot;
	unsigned deltas =
		cell->value_length >= MOJO_SLOT_VALUE_FIXED_BYTES ? mojo_get16(cell->value + MOJO_REF_BYTES) : 0;
	uint64_t limit = page_limit(s, tree, bucket), first = (uint64_t)number * pps;
	uint8_t value[MOJO_SLOT_VALUE_FIXED_BYTES] = { 0 };
	if (limit <= first)
		return mojo_tree_delete(tree, cell->key, cell->key_length);
	struct mojo_blob *blob;
	int err = mojo_blob_new(&s->store->blobs, MOJO_BLOB_SLOT, version, &blob);
	if (err)
		return err;
	struct mojo_entry entry = lost_entry(version);
	for (uint32_t i = 0; i < pps && first + i < limit; i++)
		mojo_entry_encode(blob->data + (size_t)i * MOJO_ENTRY_BYTES, &entry);
	if (deltas <= MOJO_SLOT_DELTAS &&
	    cell->value_length == MOJO_SLOT_VALUE_FIXED_BYTES + deltas * MOJO_DELTA_BYTES) {
		for (unsigned i = 0; i < deltas; i++) {
			const uint8_t *delta = cell->value + MOJO_SLOT_VALUE_FIXED_BYTES + i * MOJO_DELTA_BYTES;
			if (mojo_get16(delta) < pps)
				memcpy(blob->data + (size_t)mojo_get16(delta) * MOJO_ENTRY_BYTES, delta + 2,
				       MOJO_ENTRY_BYTES);
		}
	}
	mojo_blob_ref(blob, value);
	tell(s,
	     "version %" PRIu32 ", file %" PRIu32 ": what pages %" PRIu64 " to %" PRIu64
	     " hold is lost, but for what is newer than the damaged piece; they read as errors",
	     version, bucket, first, (limit < first + pps ? limit : first + pps) - 1);
	return mojo_tree_put(tree, cell->key, cell->key_length, value, sizeof(value));
}

static bool is_usable(struct mojo_salvage *s, const struct mojo_cell *cell, int *err)
{
	uint32_t group_blocks = s->store->space.group_blocks;
	unsigned length = cell->value_length;
	unsigned deltas = length >= MOJO_SLOT_VALUE_FIXED_BYTES ? mojo_get16(cell->value + MOJO_REF_BYTES) : UINT16_MAX;
	if (deltas > MOJO_SLOT_DELTAS || length != MOJO_SLOT_VALUE_FIXED_BYTES + deltas * MOJO_DELTA_BYTES)
		return false;
	for (unsigned i = 0; i < deltas; i++) {
		const uint8_t *delta = cell->value + MOJO_SLOT_VALUE_FIXED_BYTES + i * MOJO_DELTA_BYTES;
		if (mojo_get16(delta) >= s->store->root.pages_per_slot ||
		    (i && mojo_get16(delta - MOJO_DELTA_BYTES) >= mojo_get16(delta)))
			return false;
	}
	struct mojo_blob *blob;
	if (mojo_ref_is_null(cell->value) || mojo_ref_in_memory(cell->value) ||
	    mojo_block_set_has(&s->whole, group_blocks, mojo_ref_decode(cell->value).address))
		return true;
	int got = mojo_blob_get(&s->store->blobs, cell->value, MOJO_BLOB_SLOT, &blob);
	if (is_damage(got))
		return false;
	if (!got) {
		mojo_blob_put(&s->store->blobs, blob);
		got = mojo_block_set_add(&s->whole, group_blocks, mojo_ref_decode(cell->value).address, 1);
	}
	*err = got;
	return true;
}

static int salvage_slots(struct mojo_salvage *s, struct mojo_tree *tree, uint32_t version)
{
	uint8_t key[MOJO_KEY_BYTES_MAX] = { MOJO_KEY_SLOT };
	unsigned length = 1;
	struct mojo_cell cell;
	int err;
	for (bool behind = false; !(err = mojo_tree_next(tree, key, length, behind, &cell)); behind = true) {
		if (!cell.key_length || cell.key[0] != MOJO_KEY_SLOT)
			return 0;
		memcpy(key, cell.key, cell.key_length);
		length = cell.key_length;
		if (length != SLOT_KEY_BYTES || is_usable(s, &cell, &err)) {
			if (err)
				return err;
			continue;
		}
		put_aside(s, cell.value);
		err = replace_slot(s, tree, version, &cell);
		if (err)
			return err;
	}
	return err == -ENOENT ? 0 : err;
}

/* ---- versions ------------------------------------------------------------------------------- */

/* *ret_gone: nothing of the tree is left. */
static int salvage_tree(struct mojo_salvage *s, struct mojo_tree *tree, uint32_t version, bool *ret_gone)
{
	int err = mojo_tree_whole(s->store, tree->root, MOJO_TREE_MAIN, &s->whole);
	*ret_gone = mojo_ref_is_null(tree->root);
	if (!is_damage(err))
		return err;
	uint64_t before = s->pieces;
	err = excise(s, tree->root, MOJO_TREE_MAIN, version, LEVEL_ANY, &(struct bounds){ 0 }, ret_gone);
	if (!err && *ret_gone)
		memset(tree->root, 0, MOJO_REF_BYTES);
	if (!err && !*ret_gone && s->pieces != before)
		tell(s, "version %" PRIu32 ": pieces of its index are lost; what can be read of it stays", version);
	return err || *ret_gone ? err : salvage_slots(s, tree, version);
}

/* The tree of a frozen version, in its cell. */
static void tree_of(struct mojo_store *store, const struct mojo_cell *cell, struct mojo_tree *ret_tree)
{
	*ret_tree = (struct mojo_tree){
		.blobs = &store->blobs,
		.kind = MOJO_TREE_MAIN,
		.version = mojo_get_be32(cell->key),
		.held = UINT32_MAX, /* nothing dies here: marking tells what is dead, later */
	};
	memcpy(ret_tree->root, cell->value, MOJO_REF_BYTES);
}

static int next_version(struct mojo_store *store, uint32_t from, struct mojo_cell *ret_cell)
{
	uint8_t key[4];
	mojo_put_be32(key, from);
	return mojo_tree_next(&store->versions, key, sizeof(key), false, ret_cell);
}

static bool is_version_cell(const struct mojo_store *store, const struct mojo_cell *cell)
{
	struct mojo_version_value value;
	return cell->key_length == 4 && mojo_get_be32(cell->key) && mojo_get_be32(cell->key) < store->active &&
	       mojo_version_decode(cell->value, cell->value_length, &value) == 0;
}

int mojo_each_version(struct mojo_store *store, mojo_version_fn *fn, void *arg)
{
	struct mojo_cell cell;
	int err = 0;
	for (uint32_t from = 0; !err && !(err = next_version(store, from, &cell)); from = mojo_get_be32(cell.key) + 1) {
		struct mojo_tree tree;
		tree_of(store, &cell, &tree);
		err = fn(arg, &tree, tree.version);
		if (!err && memcmp(tree.root, cell.value, MOJO_REF_BYTES) != 0) {
			memcpy(cell.value, tree.root, MOJO_REF_BYTES);
			err = mojo_tree_put(&store->versions, cell.key, cell.key_length, cell.value, cell.value_length);
		}
	}
	if (err && err != -ENOENT)
		return err;
	return fn(arg, &store->main, store->active);
}

/* Only the newest frozen version can be unpublished. *ret_changed: @cell was mended. */
static void salvage_state(struct mojo_salvage *s, struct mojo_cell *cell, bool *ret_changed)
{
	struct mojo_version_value value;
	uint32_t version = mojo_get_be32(cell->key);
	*ret_changed = false;
	if (version == s->store->active - 1 || mojo_version_decode(cell->value, cell->value_length, &value) != 0 ||
	    !value.unpublished)
		return;
	uint8_t bytes[MOJO_VERSION_BYTES_MAX];
	value.unpublished = false;
	mojo_version_encode(bytes, &value);
	memcpy(cell->value, bytes, cell->value_length);
	*ret_changed = true;
	tell(s, "version %" PRIu32 " was noted as not published, though later ones are frozen: it counts as published",
	     version);
}

static int salvage_versions(struct mojo_salvage *s)
{
	struct mojo_store *store = s->store;
	uint8_t key[MOJO_KEY_BYTES_MAX] = { 0 };
	unsigned length = 0;
	struct mojo_cell cell;
	int err;
	for (bool behind = false; !(err = mojo_tree_next(&store->versions, key, length, behind, &cell));
	     behind = true) {
		bool gone = true, changed = false;
		struct mojo_tree tree;
		memcpy(key, cell.key, cell.key_length);
		length = cell.key_length;
		if (is_version_cell(store, &cell)) {
			tree_of(store, &cell, &tree);
			err = salvage_tree(s, &tree, tree.version, &gone);
			if (!err && !gone)
				salvage_state(s, &cell, &changed);
		}
		if (err)
			return err;
		if (gone) {
			tell(s, "version %" PRIu32 " is lost: nothing of its index can be read",
			     length == 4 ? mojo_get_be32(key) : 0);
			err = mojo_tree_delete(&store->versions, key, length);
		} else if (changed || memcmp(tree.root, cell.value, MOJO_REF_BYTES) != 0) {
			memcpy(cell.value, tree.root, MOJO_REF_BYTES);
			err = mojo_tree_put(&store->versions, key, length, cell.value, cell.value_length);
		}
		if (err)
			return err;
	}
	return err == -ENOENT ? 0 : err;
}

static int salvage_active(struct mojo_salvage *s)
{
	struct mojo_store *store = s->store;
	uint8_t key[4];
	struct mojo_cell cell;
	bool was_null = mojo_ref_is_null(store->main.root), gone;
	int err = salvage_tree(s, &store->main, store->active, &gone);
	if (err || !gone || was_null)
		return err;
	s->active_replaced = true;
	size_t kept = 0;
	for (size_t i = 0; i < s->lost_count; i++) /* nothing is missing from what it will be */
		if (s->lost[i].version != store->active)
			s->lost[kept++] = s->lost[i];
	s->lost_count = kept;
	mojo_put_be32(key, store->active);
	err = mojo_tree_before(&store->versions, key, sizeof(key), &cell);
	if (err == -ENOENT) {
		tell(s,
		     "nothing of the active version's index can be read, and there is no other version: it begins empty");
		return 0;
	}
	if (err)
		return err;
	memcpy(store->main.root, cell.value, MOJO_REF_BYTES);
	mojo_ref_retain(store->main.root);
	tell(s, "nothing of the active version's index can be read: it begins anew as a copy of version %" PRIu32,
	     mojo_get_be32(cell.key));
	return 0;
}

int mojo_salvage_trees(struct mojo_salvage *s)
{
	struct mojo_store *store = s->store;
	int err = 0;
	bool gone = false;
	store->main.held = UINT32_MAX;
	if (!mojo_ref_is_null(store->versions.root)) {
		uint64_t before = s->pieces;
		/* Its nodes alone; what its cells refer to comes next. */
		err = excise(s, store->versions.root, MOJO_TREE_VERSIONS, 1, LEVEL_ANY, &(struct bounds){ 0 }, &gone);
		if (!err && gone)
			memset(store->versions.root, 0, MOJO_REF_BYTES);
		if (!err && s->pieces != before)
			tell(s, "%s frozen versions are lost: the piece of the index that lists them cannot be read",
			     gone ? "all" : "some");
	}
	if (!err)
		err = salvage_versions(s);
	return err ? err : salvage_active(s);
}

/* ---- pages that may be lost ----------------------------------------------------------------- */

/* Is @key of @version in what was taken out? A version that was frozen while the log was replayed began as what was
 * active before. */
static bool is_lost(const struct mojo_salvage *s, uint32_t version, const uint8_t *key, unsigned length)
{
	uint32_t active = s->store->root.active_version;
	for (size_t i = 0; i < s->lost_count; i++) {
		const struct mojo_lost_keys *lost = &s->lost[i];
		bool applies = lost->version == version || (lost->version == active && version > active);
		if (applies && compare_keys(key, length, lost->low, lost->low_length) >= 0 &&
		    (!lost->high_length || compare_keys(key, length, lost->high, lost->high_length) < 0))
			return true;
	}
	return false;
}

static bool has_lost(const struct mojo_salvage *s, uint32_t version)
{
	uint32_t active = s->store->root.active_version;
	for (size_t i = 0; i < s->lost_count; i++)
		if (s->lost[i].version == version || (s->lost[i].version == active && version > active))
			return true;
	return false;
}

static int count_present(struct mojo_salvage *s, const struct mojo_slotmap *map, uint32_t bucket, uint64_t *ret_count)
{
	enum { PIECE = 64 }; /* a slot is a multiple of it */
	struct mojo_entry entry, entries[PIECE];
	uint64_t count = 0, page;
	int err;
	(void)s;
	for (uint64_t from = 0; !(err = mojo_slotmap_next(map, bucket, from, &page, &entry)); from = page + PIECE) {
		page -= page % PIECE;
		err = mojo_slotmap_get(map, bucket, page, PIECE, entries);
		if (err)
			return err;
		for (unsigned i = 0; i < PIECE; i++)
			count += entries[i].version != 0;
	}
	*ret_count = count;
	return err == -ENOENT ? 0 : err;
}

/* One slot that was taken out: what has no entry now becomes lost. */
static int fill_slot(struct mojo_salvage *s, struct mojo_tree *tree, uint32_t version, uint32_t bucket, uint32_t number,
		     uint64_t limit)
{
	uint32_t pps = s->store->root.pages_per_slot;
	uint64_t first = (uint64_t)number * pps;
	uint8_t key[SLOT_KEY_BYTES] = { MOJO_KEY_SLOT }, value[MOJO_SLOT_VALUE_FIXED_BYTES] = { 0 };
	struct mojo_cell cell;
	struct mojo_blob *blob;
	mojo_put_be32(key + 1, bucket);
	mojo_put_be32(key + 5, number);
	int err = mojo_tree_get(tree, key, sizeof(key), &cell);
	if (err && err != -ENOENT)
		return err;
	if (err) {
		err = lost_slot(s, version, number, limit, value);
		return err ? err : mojo_tree_put(tree, key, sizeof(key), value, sizeof(value));
	}
	struct mojo_slotmap map = { .tree = tree, .pages_per_slot = pps };
	struct mojo_entry *entries = malloc(pps * sizeof(*entries));
	err = entries ? mojo_slotmap_get(&map, bucket, first, pps, entries) : -ENOMEM;
	if (!err)
		err = mojo_blob_new(&s->store->blobs, MOJO_BLOB_SLOT, version, &blob);
	for (uint32_t i = 0; i < pps && !err; i++) {
		if (!entries[i].version && first + i < limit)
			entries[i] = lost_entry(version);
		if (entries[i].version)
			mojo_entry_encode(blob->data + (size_t)i * MOJO_ENTRY_BYTES, &entries[i]);
	}
	free(entries);
	if (err)
		return err;
	mojo_blob_ref(blob, value);
	err = mojo_tree_put(tree, key, sizeof(key), value, sizeof(value));
	if (!err)
		mojo_ref_release(&s->store->blobs, cell.value);
	return err;
}

static int fill_file(struct mojo_salvage *s, struct mojo_tree *tree, uint32_t version, uint32_t bucket,
		     const struct mojo_inode *inode)
{
	struct mojo_slotmap map = { .tree = tree, .pages_per_slot = s->store->root.pages_per_slot };
	uint32_t pps = s->store->root.pages_per_slot;
	uint64_t limit = page_limit(s, tree, bucket), present, slots = (limit + pps - 1) / pps, filled = 0;
	uint8_t key[SLOT_KEY_BYTES] = { MOJO_KEY_INODE };
	mojo_put_be32(key + 1, bucket);
	int err = count_present(s, &map, bucket, &present);
	/* A file that counts as many pages as there are has lost none, if its count was not lost itself. */
	if (err || (present == inode->attr.pages && !is_lost(s, version, key, 5)))
		return err;
	key[0] = MOJO_KEY_SLOT;
	for (uint64_t number = 0; number < slots && !err; number++) {
		mojo_put_be32(key + 5, (uint32_t)number);
		if (!is_lost(s, version, key, sizeof(key)))
			continue;
		err = fill_slot(s, tree, version, bucket, (uint32_t)number, limit);
		filled++;
	}
	if (!err && filled)
		tell(s,
		     "version %" PRIu32 ", file %" PRIu32 ": where its pages were is not known, %" PRIu64
		     " pages at most; they read as errors",
		     version, bucket, filled * pps < limit ? filled * pps : limit);
	return err;
}

static int fill_version(void *arg, struct mojo_tree *tree, uint32_t version)
{
	struct mojo_salvage *s = arg;
	uint8_t key[MOJO_KEY_BYTES_MAX] = { MOJO_KEY_INODE };
	unsigned length = 1;
	struct mojo_cell cell;
	int err;
	if (!has_lost(s, version) || mojo_ref_is_null(tree->root))
		return 0;
	for (bool behind = false; !(err = mojo_tree_next(tree, key, length, behind, &cell)); behind = true) {
		struct mojo_inode inode;
		if (!cell.key_length || cell.key[0] != MOJO_KEY_INODE)
			return 0;
		memcpy(key, cell.key, cell.key_length);
		length = cell.key_length;
		uint32_t bucket = length == 5 ? mojo_get_be32(key + 1) : 0;
		if (!bucket || mojo_inode_decode(cell.value, cell.value_length, bucket, &inode) != 0 ||
		    S_ISDIR(inode.attr.mode))
			continue;
		err = fill_file(s, tree, version, bucket, &inode);
		if (err)
			return err;
	}
	return err == -ENOENT ? 0 : err;
}

int mojo_salvage_pages(struct mojo_salvage *s)
{
	return mojo_each_version(s->store, fill_version, s);
}

void mojo_salvage_free(struct mojo_salvage *s)
{
	mojo_blob_put(&s->store->blobs, s->lost_slot);
	s->lost_slot = NULL;
	mojo_block_set_free(&s->whole);
	free(s->lost);
	s->lost = NULL;
	s->lost_count = s->lost_capacity = 0;
}
