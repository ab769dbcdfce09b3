/* SPDX-License-Identifier: MIT */
#include "blob.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "codec.h"
#include "node.h"

static_assert(sizeof(void *) == 8, "a reference holds a pointer in its first 8 bytes");

int mojo_blobs_init(struct mojo_blobs *blobs, struct mojo_chunks *chunks, uint32_t pages_per_slot, size_t limit_bytes)
{
	memset(blobs, 0, sizeof(*blobs));
	blobs->chunks = chunks;
	blobs->node_bytes = chunks->block_bytes < MOJO_NODE_BYTES_MAX ? chunks->block_bytes : MOJO_NODE_BYTES_MAX;
	blobs->slot_bytes = pages_per_slot * MOJO_ENTRY_BYTES;
	blobs->limit_bytes = limit_bytes;
	blobs->bucket_count = 1024;
	blobs->buckets = calloc(blobs->bucket_count, sizeof(struct mojo_blob *));
	uint32_t most = blobs->slot_bytes > blobs->node_bytes ? blobs->slot_bytes : blobs->node_bytes;
	blobs->scratch_bytes = mojo_blob_blocks(most, chunks->block_bytes) * chunks->block_bytes;
	blobs->scratch = malloc(blobs->scratch_bytes);
	if (!blobs->buckets || !blobs->scratch) {
		free(blobs->buckets);
		free(blobs->scratch);
		blobs->buckets = NULL;
		blobs->scratch = NULL;
		return -ENOMEM;
	}
	return 0;
}

static size_t cost(const struct mojo_blob *blob)
{
	return sizeof(*blob) + blob->data_bytes + 16;
}

static uint32_t blocks_of(const struct mojo_blobs *blobs, const struct mojo_blob *blob)
{
	return mojo_blob_blocks(blob->data_bytes, blobs->chunks->block_bytes);
}

/* ---- clean blobs: hash by address, least recently used ------------------------------------- */

static size_t bucket_of(const struct mojo_blobs *blobs, uint64_t address)
{
	return (size_t)(address * 0x9e3779b97f4a7c15ull >> 20) & (blobs->bucket_count - 1);
}

static void hash_insert(struct mojo_blobs *blobs, struct mojo_blob *blob)
{
	if (blobs->clean_count >= blobs->bucket_count * 2) {
		size_t count = blobs->bucket_count * 4;
		struct mojo_blob **old = blobs->buckets, **grown = calloc(count, sizeof(*grown));
		if (grown) { /* else: longer chains, still right */
			size_t old_count = blobs->bucket_count;
			blobs->buckets = grown;
			blobs->bucket_count = count;
			for (size_t i = 0; i < old_count; i++) {
				for (struct mojo_blob *b = old[i], *next; b; b = next) {
					next = b->hash_next;
					struct mojo_blob **to = &grown[bucket_of(blobs, b->address)];
					b->hash_next = *to;
					*to = b;
				}
			}
			free(old);
		}
	}
	struct mojo_blob **to = &blobs->buckets[bucket_of(blobs, blob->address)];
	blob->hash_next = *to;
	*to = blob;
	blobs->clean_count++;
	blobs->clean_bytes += cost(blob);
}

static void hash_remove(struct mojo_blobs *blobs, struct mojo_blob *blob)
{
	struct mojo_blob **at = &blobs->buckets[bucket_of(blobs, blob->address)];
	while (*at != blob)
		at = &(*at)->hash_next;
	*at = blob->hash_next;
	blobs->clean_count--;
	blobs->clean_bytes -= cost(blob);
}

static struct mojo_blob *hash_find(const struct mojo_blobs *blobs, uint64_t address)
{
	struct mojo_blob *blob = blobs->buckets[bucket_of(blobs, address)];
	while (blob && blob->address != address)
		blob = blob->hash_next;
	return blob;
}

static void lru_add(struct mojo_blobs *blobs, struct mojo_blob *blob)
{
	blob->lru_next = NULL;
	blob->lru_prev = blobs->lru_last;
	if (blobs->lru_last)
		blobs->lru_last->lru_next = blob;
	else
		blobs->lru_first = blob;
	blobs->lru_last = blob;
}

static void lru_remove(struct mojo_blobs *blobs, struct mojo_blob *blob)
{
	if (blob->lru_prev)
		blob->lru_prev->lru_next = blob->lru_next;
	else
		blobs->lru_first = blob->lru_next;
	if (blob->lru_next)
		blob->lru_next->lru_prev = blob->lru_prev;
	else
		blobs->lru_last = blob->lru_prev;
	blob->lru_prev = blob->lru_next = NULL;
}

/* B3. A quarter of the limit is left to clean blobs even while dirty ones take more than their share. */
static void shrink(struct mojo_blobs *blobs)
{
	size_t quarter = blobs->limit_bytes / 4;
	size_t room = blobs->limit_bytes > blobs->dirty_bytes ? blobs->limit_bytes - blobs->dirty_bytes : 0;
	if (room < quarter)
		room = quarter;
	while (blobs->clean_bytes > room && blobs->lru_first) {
		struct mojo_blob *blob = blobs->lru_first;
		lru_remove(blobs, blob);
		hash_remove(blobs, blob);
		free(blob);
	}
}

void mojo_blobs_free(struct mojo_blobs *blobs)
{
	for (size_t i = 0; blobs->buckets && i < blobs->bucket_count; i++) {
		for (struct mojo_blob *b = blobs->buckets[i], *next; b; b = next) {
			next = b->hash_next;
			free(b);
		}
	}
	while (blobs->spare_count)
		free(blobs->spares[--blobs->spare_count]);
	free(blobs->buckets);
	free(blobs->scratch);
	memset(blobs, 0, sizeof(*blobs));
}

/* ---- loading -------------------------------------------------------------------------------- */

static int alloc_blob(struct mojo_blobs *blobs, enum mojo_blob_type type, struct mojo_blob **ret_blob)
{
	uint32_t bytes = type == MOJO_BLOB_NODE ? blobs->node_bytes : blobs->slot_bytes;
	struct mojo_blob *blob = calloc(1, sizeof(*blob) + bytes);
	if (!blob && type == MOJO_BLOB_NODE && blobs->spare_count)
		blob = blobs->spares[--blobs->spare_count];
	if (!blob)
		return -ENOMEM;
	blob->type = type;
	blob->data_bytes = bytes;
	blob->refs = 1;
	*ret_blob = blob;
	return 0;
}

int mojo_blobs_reserve(struct mojo_blobs *blobs)
{
	while (blobs->spare_count < MOJO_BLOB_SPARES) {
		struct mojo_blob *blob = calloc(1, sizeof(*blob) + blobs->node_bytes);
		if (!blob)
			return -ENOMEM;
		blobs->spares[blobs->spare_count++] = blob;
	}
	return 0;
}

static int damaged(struct mojo_blobs *blobs, const char *what, uint64_t address)
{
	if (blobs->damaged)
		blobs->damaged(blobs->arg, what, address);
	return -EUCLEAN;
}

static int load(struct mojo_blobs *blobs, const uint8_t *raw, enum mojo_blob_type type, struct mojo_blob **ret_blob)
{
	struct mojo_ref ref = mojo_ref_decode(raw);
	struct mojo_blob *blob;
	if (!mojo_ref_valid(raw, blobs->scratch_bytes) || ref.bytes == 0)
		return damaged(blobs, "a reference in the index is impossible", ref.address);
	int err = alloc_blob(blobs, type, &blob);
	if (err)
		return err;
	err = mojo_chunks_read(blobs->chunks, ref.address, blobs->scratch, ref.bytes);
	if (err == -EIO) /* absent or cut short: the store lacks what its index says is there */
		err = damaged(blobs, "a piece of the index cannot be read", ref.address);
	if (err)
		goto fail;
	if (mojo_checksum64(blobs->scratch, ref.bytes, type) != ref.checksum) {
		err = damaged(blobs, "a piece of the index does not match its checksum", ref.address);
		goto fail;
	}
	size_t length = ref.bytes;
	if (ref.flags & MOJO_REF_ZSTD) {
		err = mojo_codec_decompress(blobs->scratch, ref.bytes, blob->data, blob->data_bytes, &length);
		if (err == -EUCLEAN)
			err = damaged(blobs, "a piece of the index cannot be decompressed", ref.address);
		if (err)
			goto fail;
	} else if (length <= blob->data_bytes) {
		memcpy(blob->data, blobs->scratch, length);
	}
	bool valid = type == MOJO_BLOB_NODE
			     ? length == blob->data_bytes && mojo_node_valid(blob->data, blob->data_bytes)
			     : length <= blob->data_bytes && length % MOJO_ENTRY_BYTES == 0;
	if (!valid) {
		err = damaged(blobs, "a piece of the index is not what it should be", ref.address);
		goto fail;
	}
	blob->version = ref.version;
	blob->address = ref.address;
	memcpy(blob->disk, raw, MOJO_REF_BYTES);
	*ret_blob = blob;
	return 0;
fail:
	free(blob);
	return err;
}

int mojo_blob_get(struct mojo_blobs *blobs, const uint8_t *ref, enum mojo_blob_type type, struct mojo_blob **ret_blob)
{
	if (mojo_ref_in_memory(ref)) {
		struct mojo_blob *blob = mojo_ref_blob(ref);
		assert(blob->type == type);
		blob->refs++;
		*ret_blob = blob;
		return 0;
	}
	struct mojo_blob *blob = hash_find(blobs, mojo_ref_decode(ref).address);
	if (blob && (blob->type != type || memcmp(blob->disk, ref, MOJO_REF_BYTES) != 0))
		return damaged(blobs, "two references to one piece of the index disagree", blob->address);
	if (blob) {
		if (blob->refs++ == 0)
			lru_remove(blobs, blob);
		*ret_blob = blob;
		return 0;
	}
	int err = load(blobs, ref, type, &blob);
	if (err)
		return err;
	hash_insert(blobs, blob);
	shrink(blobs);
	*ret_blob = blob;
	return 0;
}

static void release_child(void *arg, uint8_t *ref)
{
	mojo_ref_release(arg, ref);
}

void mojo_blob_put(struct mojo_blobs *blobs, struct mojo_blob *blob)
{
	if (!blob)
		return;
	assert(blob->refs > 0);
	if (--blob->refs)
		return;
	if (blob->dirty) {
		blobs->dirty_bytes -= cost(blob);
		blobs->dirty_blocks -= blocks_of(blobs, blob);
		if (blob->type == MOJO_BLOB_NODE)
			mojo_node_each_ref(blob->data, release_child, blobs);
		free(blob);
		return;
	}
	lru_add(blobs, blob);
	shrink(blobs);
}

int mojo_blob_new(struct mojo_blobs *blobs, enum mojo_blob_type type, uint32_t version, struct mojo_blob **ret_blob)
{
	struct mojo_blob *blob;
	int err = alloc_blob(blobs, type, &blob);
	if (err)
		return err;
	blob->dirty = true;
	blob->version = version;
	blobs->dirty_bytes += cost(blob);
	blobs->dirty_blocks += blocks_of(blobs, blob);
	shrink(blobs);
	*ret_blob = blob;
	return 0;
}

/* ---- references ----------------------------------------------------------------------------- */

void mojo_blob_ref(struct mojo_blob *blob, uint8_t *ref)
{
	memset(ref, 0, MOJO_REF_BYTES);
	memcpy(ref, &blob, sizeof(blob));
	mojo_put32(ref + 12, MOJO_REF_IN_MEMORY);
}

struct mojo_blob *mojo_ref_blob(const uint8_t *ref)
{
	struct mojo_blob *blob;
	assert(mojo_ref_in_memory(ref));
	memcpy(&blob, ref, sizeof(blob));
	return blob;
}

void mojo_ref_retain(const uint8_t *ref)
{
	if (mojo_ref_in_memory(ref))
		mojo_ref_blob(ref)->refs++;
}

void mojo_ref_release(struct mojo_blobs *blobs, const uint8_t *ref)
{
	if (mojo_ref_in_memory(ref))
		mojo_blob_put(blobs, mojo_ref_blob(ref));
}

void mojo_ref_kill(struct mojo_blobs *blobs, const uint8_t *ref, uint32_t held)
{
	if (mojo_ref_in_memory(ref)) {
		mojo_blob_put(blobs, mojo_ref_blob(ref));
	} else if (!mojo_ref_is_null(ref)) {
		struct mojo_ref decoded = mojo_ref_decode(ref);
		if (decoded.version > held)
			blobs->killed(blobs->arg, decoded.address,
				      mojo_blob_blocks(decoded.bytes, blobs->chunks->block_bytes));
	}
}

static void retain_child(void *arg, uint8_t *ref)
{
	(void)arg;
	mojo_ref_retain(ref);
}

int mojo_blob_writable(struct mojo_blobs *blobs, uint8_t *ref, enum mojo_blob_type type, uint32_t version,
		       uint32_t held, struct mojo_blob **ret_blob)
{
	if (mojo_ref_in_memory(ref) && mojo_ref_blob(ref)->refs == 1) {
		struct mojo_blob *own = mojo_ref_blob(ref);
		assert(own->type == type && own->dirty);
		own->version = version;
		*ret_blob = own;
		return 0;
	}
	struct mojo_blob *from, *copy;
	int err = mojo_blob_get(blobs, ref, type, &from);
	if (err)
		return err;
	err = mojo_blob_new(blobs, type, version, &copy);
	if (err) {
		mojo_blob_put(blobs, from);
		return err;
	}
	memcpy(copy->data, from->data, from->data_bytes);
	if (type == MOJO_BLOB_NODE)
		mojo_node_each_ref(copy->data, retain_child, NULL);
	mojo_blob_put(blobs, from);
	mojo_ref_kill(blobs, ref, held);
	mojo_blob_ref(copy, ref);
	*ret_blob = copy;
	return 0;
}

/* ---- writing out ---------------------------------------------------------------------------- */

struct write_out {
	struct mojo_blobs *blobs;
	mojo_blob_place_fn *place;
	void *arg;
	int err;
};

static void write_child(void *arg, uint8_t *ref)
{
	struct write_out *w = arg;
	if (!w->err)
		w->err = mojo_blob_write_out(w->blobs, ref, w->place, w->arg);
}

/* The stored form of a blob, in scratch or in place. */
static const uint8_t *stored_form(struct mojo_blobs *blobs, const struct mojo_blob *blob, struct mojo_ref *ref)
{
	ref->flags = 0;
	ref->bytes = blob->data_bytes;
	if (blob->type == MOJO_BLOB_NODE)
		return blob->data; /* one block, whatever its size: packing gains nothing */
	while (ref->bytes > MOJO_ENTRY_BYTES && mojo_get64(blob->data + ref->bytes - MOJO_ENTRY_BYTES) == 0)
		ref->bytes -= MOJO_ENTRY_BYTES;
	uint32_t block = blobs->chunks->block_bytes;
	uint32_t blocks = mojo_blob_blocks(ref->bytes, block);
	size_t packed;
	if (blocks > 1 &&
	    mojo_codec_compress(blob->data, ref->bytes, blobs->scratch, (size_t)(blocks - 1) * block, &packed) == 0) {
		ref->bytes = (uint32_t)packed;
		ref->flags = MOJO_REF_ZSTD;
		return blobs->scratch;
	}
	return blob->data;
}

int mojo_blob_write_out(struct mojo_blobs *blobs, uint8_t *ref, mojo_blob_place_fn *place, void *arg)
{
	if (!mojo_ref_in_memory(ref))
		return 0;
	struct mojo_blob *blob = mojo_ref_blob(ref);
	if (blob->dirty) {
		if (blob->type == MOJO_BLOB_NODE) {
			struct write_out w = { .blobs = blobs, .place = place, .arg = arg };
			mojo_node_each_ref(blob->data, write_child, &w);
			if (w.err)
				return w.err;
		}
		struct mojo_ref disk = { .version = blob->version };
		const uint8_t *data = stored_form(blobs, blob, &disk);
		disk.checksum = mojo_checksum64(data, disk.bytes, blob->type);
		int err = place(arg, data, disk.bytes, &disk.address);
		if (err)
			return err;
		mojo_ref_encode(blob->disk, &disk);
		blob->address = disk.address;
		blob->dirty = false;
		blobs->dirty_bytes -= cost(blob);
		blobs->dirty_blocks -= blocks_of(blobs, blob);
		hash_insert(blobs, blob);
	}
	memcpy(ref, blob->disk, MOJO_REF_BYTES);
	mojo_blob_put(blobs, blob);
	return 0;
}
