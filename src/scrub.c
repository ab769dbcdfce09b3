/* SPDX-License-Identifier: MIT */
#include "scrub.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <time.h>

#include "checksum.h"
#include "namespace.h"
#include "version.h"

#define LEVEL_ANY    UINT32_MAX
#define READ_BYTES   (256u << 10) /* with one call, at most */
#define RATE_DEFAULT (32ull << 20)
#define NAP_NS       50000000ll
#define PATH_BYTES   65536u /* a path of the store, which may be deeper than the host takes */

struct damaged_node { /* told once the lock is away */
	uint64_t address;
	const char *why;
};

struct scrub {
	struct mojo_store *store;
	struct mojo_sink *sink;
	uint64_t rate, total;
	uint32_t pps; /* pages per slot; the root itself is only looked at under the lock */
	bool index;
	struct timespec begun;
	struct mojo_block_set seen;   /* pages */
	struct mojo_block_set leaves; /* of main trees: done, or cannot be read */
	uint32_t version;
	struct mojo_entry *entries; /* owned; of one slot */
	uint8_t *leaf;              /* owned; copy */
	uint8_t *buf;               /* owned; READ_BYTES */
	char *path;                 /* owned; PATH_BYTES */
	uint64_t bad[8];            /* nodes that cannot be used; told once the lock is away */
	unsigned bad_count;
	struct mojo_finding run; /* pages 0: none */
};

/* ---- findings ------------------------------------------------------------------------------- */

static void end_run(struct scrub *s)
{
	struct mojo_finding *f = &s->run;
	struct mojo_tree frozen, *tree;
	if (!f->pages)
		return;
	pthread_mutex_lock(&s->store->mu);
	f->path = mojo_view(s->store, f->version, &frozen, &tree) == 0
			  ? mojo_path_in(tree, f->bucket, s->path, PATH_BYTES)
			  : NULL;
	pthread_mutex_unlock(&s->store->mu);
	mojo_found(s->sink, f, "the block%s hold%s not what was written; reading gives an error",
		   f->pages > 1 ? "s" : "", f->pages > 1 ? "" : "s");
	f->pages = 0;
}

static void tell_bad(struct scrub *s)
{
	for (unsigned i = 0; i < s->bad_count && s->index; i++)
		mojo_found(s->sink,
			   &(struct mojo_finding){
				   .kind = MOJO_FOUND_INDEX,
				   .severity = MOJO_ERROR,
				   .version = s->version,
				   .address = s->bad[i],
			   },
			   "a piece of the index cannot be used; what it leads to was not read");
	s->bad_count = 0;
}

/* Is @address still, or also, where @page of @bucket is in @version? */
static bool is_there(struct scrub *s, uint32_t version, uint32_t bucket, uint64_t page, uint64_t address)
{
	struct mojo_tree frozen, *tree;
	struct mojo_entry entry = { 0 };
	pthread_mutex_lock(&s->store->mu);
	int err = mojo_view(s->store, version, &frozen, &tree);
	if (!err) {
		struct mojo_slotmap map = { .tree = tree, .pages_per_slot = s->store->root.pages_per_slot };
		err = mojo_slotmap_get(&map, bucket, page, 1, &entry);
	}
	pthread_mutex_unlock(&s->store->mu);
	return !err && entry.version && entry.address == address;
}

/* The last version that has the page at @address: versions that share a page follow each other, but for settled ones,
 * which may have let go of it. */
static uint32_t last_holder(struct scrub *s, uint32_t bucket, uint64_t page, uint64_t address)
{
	pthread_mutex_lock(&s->store->mu);
	uint32_t low = s->version, high = s->store->active;
	pthread_mutex_unlock(&s->store->mu);
	while (low < high) {
		uint32_t middle = low + (high - low + 1) / 2;
		struct mojo_version_info info;
		int err = mojo_version_next_kept(s->store, middle, &info);
		while (!err && info.settled && info.version < high)
			err = mojo_version_next_kept(s->store, info.version + 1, &info);
		if (!err && info.version <= high && is_there(s, info.version, bucket, page, address))
			low = info.version;
		else
			high = middle - 1;
	}
	struct mojo_version_info info;
	while (mojo_version_next_kept(s->store, low + 1, &info) == 0 && info.settled &&
	       is_there(s, info.version, bucket, page, address))
		low = info.version;
	return low;
}

static void bad_page(struct scrub *s, uint32_t bucket, uint64_t page, uint64_t address)
{
	struct mojo_finding *f = &s->run;
	if (!is_there(s, s->version, bucket, page, address))
		return; /* it was overwritten, or its version dropped, and the block given back */
	uint32_t last = last_holder(s, bucket, page, address);
	if (f->pages && f->bucket == bucket && f->first_page + f->pages == page && f->version == s->version &&
	    f->last_version == last) {
		f->pages++;
		f->blocks++;
		return;
	}
	end_run(s);
	*f = (struct mojo_finding){
		.kind = MOJO_FOUND_PAGE,
		.severity = MOJO_ERROR,
		.version = s->version,
		.last_version = last,
		.bucket = bucket,
		.first_page = page,
		.pages = 1,
		.address = address,
		.blocks = 1,
	};
}

/* ---- reading -------------------------------------------------------------------------------- */

/* Waits until no more was read than the rate allows. */
static int throttle(struct scrub *s)
{
	uint64_t pages = s->sink->result.pages_read;
	for (;;) {
		int err = mojo_sink_progress(s->sink, "pages", pages, s->total > pages ? s->total : pages);
		if (err || s->rate == UINT64_MAX)
			return err;
		struct timespec now;
		clock_gettime(CLOCK_MONOTONIC, &now);
		double passed = (double)(now.tv_sec - s->begun.tv_sec) + (double)(now.tv_nsec - s->begun.tv_nsec) / 1e9;
		double due = (double)pages * mojo_page_size(s->store) / (double)s->rate;
		int64_t early_ns = (int64_t)((due - passed) * 1e9);
		if (early_ns <= 0)
			return 0;
		struct timespec nap = { .tv_nsec = early_ns < NAP_NS ? early_ns : NAP_NS };
		nanosleep(&nap, NULL);
	}
}

/* @count pages in a row, in the file and on disk. */
static int read_run(struct scrub *s, uint32_t bucket, uint32_t seed, uint64_t page, const struct mojo_entry *entries,
		    uint32_t count)
{
	uint32_t page_size = mojo_page_size(s->store);
	int err = mojo_chunks_read_file(&s->store->chunks, entries[0].address, s->buf, (size_t)count * page_size);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t *at = s->buf + (size_t)i * page_size;
		int bad = err;
		if (err && count > 1) /* which one is it? */
			bad = mojo_chunks_read_file(&s->store->chunks, entries[i].address, at, page_size);
		if (bad || mojo_checksum_page(at, page_size, seed, page + i) != entries[i].checksum)
			bad_page(s, bucket, page + i, entries[i].address);
	}
	s->sink->result.pages_read += count;
	return throttle(s);
}

static int read_slot(struct scrub *s, uint32_t bucket, uint32_t number)
{
	struct mojo_store *store = s->store;
	uint32_t pps = s->pps, group_blocks = store->space.group_blocks;
	uint32_t most = READ_BYTES / mojo_page_size(store);
	uint64_t first = (uint64_t)number * pps;
	struct mojo_tree frozen, *tree;
	struct mojo_slotmap map = { .pages_per_slot = pps };
	struct mojo_inode inode = { .attr.bucket = bucket };
	pthread_mutex_lock(&store->mu);
	int err = mojo_view(store, s->version, &frozen, &tree);
	map.tree = tree;
	if (!err) {
		err = mojo_inode_get(tree, bucket, &inode);
		err = err == -ENOENT ? 0 : err; /* a fault that others tell of; the pages may be right all the same */
	}
	if (!err)
		err = mojo_slotmap_get(&map, bucket, first, pps, s->entries);
	for (uint32_t i = 0; i < pps && !err; i++) {
		struct mojo_entry *e = &s->entries[i];
		if (!e->version || !e->address || mojo_block_set_has(&s->seen, group_blocks, e->address) ||
		    mojo_log_flight(&store->log, e->address))
			e->version = 0; /* not there, or lost; read before; on its way to the disk */
		else
			err = mojo_block_set_add(&s->seen, group_blocks, e->address, 1);
	}
	pthread_mutex_unlock(&store->mu);
	if (err == -EUCLEAN || err == -EIO) {
		if (s->index) {
			end_run(s);
			struct mojo_finding f = {
				.kind = MOJO_FOUND_INDEX,
				.severity = MOJO_ERROR,
				.version = s->version,
				.bucket = bucket,
				.first_page = first,
				.pages = pps,
			};
			pthread_mutex_lock(&store->mu);
			if (mojo_view(store, s->version, &frozen, &tree) == 0)
				f.path = mojo_path_in(tree, bucket, s->path, PATH_BYTES);
			pthread_mutex_unlock(&store->mu);
			mojo_found_in(s->sink, &f,
				      "where these pages are cannot be told: a piece of the index cannot be used");
		}
		return 0;
	}
	if (err)
		return err == -ENOENT ? 0 : err;
	for (uint32_t i = 0; i < pps && !err;) {
		uint32_t n = 1;
		if (!s->entries[i].version) {
			i++;
			continue;
		}
		while (n < most && i + n < pps && s->entries[i + n].version &&
		       s->entries[i + n].address == s->entries[i].address + n &&
		       s->entries[i + n].address % store->chunks.chunk_blocks)
			n++;
		err = read_run(s, bucket, mojo_inode_seed(&inode), first + i, &s->entries[i], n);
		i += n;
	}
	return err;
}

/* ---- leaves --------------------------------------------------------------------------------- */

/* The first leaf that was not gone through yet and has slots from @key on, copied; *ret_address 0: one in memory. */
static int next_leaf(struct scrub *s, const uint8_t *ref, unsigned level, const uint8_t *key, unsigned key_length,
		     bool behind, uint64_t *ret_address, unsigned *ret_index)
{
	struct mojo_blobs *blobs = &s->store->blobs;
	uint32_t group_blocks = s->store->space.group_blocks;
	uint64_t address = mojo_ref_in_memory(ref) ? 0 : mojo_ref_decode(ref).address;
	struct mojo_blob *blob;
	if (address && mojo_block_set_has(&s->leaves, group_blocks, address))
		return -ENOENT;
	int err = mojo_blob_get(blobs, ref, MOJO_BLOB_NODE, &blob);
	if (!err && (mojo_node_kind(blob->data) != MOJO_TREE_MAIN ||
		     (level != LEVEL_ANY && mojo_node_level(blob->data) != level))) {
		mojo_blob_put(blobs, blob);
		err = -EUCLEAN;
	}
	if (err == -ENOMEM)
		return err;
	if (err) {
		if (s->bad_count < sizeof(s->bad) / sizeof(s->bad[0]))
			s->bad[s->bad_count++] = address;
		if (!address)
			return -ENOENT;
		err = mojo_block_set_add(&s->leaves, group_blocks, address, 1);
		return err ? err : -ENOENT;
	}
	unsigned count = mojo_node_count(blob->data), length;
	level = mojo_node_level(blob->data);
	err = -ENOENT;
	if (level == 0) {
		bool exact;
		unsigned index = mojo_node_find(blob->data, key, key_length, &exact);
		index += exact && behind;
		const uint8_t *found = index < count ? mojo_node_key(blob->data, index, &length) : NULL;
		if (found && length && found[0] == MOJO_KEY_SLOT) {
			memcpy(s->leaf, blob->data, blob->data_bytes);
			*ret_address = address;
			*ret_index = index;
			err = 0;
		}
	} else {
		for (unsigned i = mojo_node_child(blob->data, key, key_length); i < count && err == -ENOENT; i++)
			err = next_leaf(s, mojo_node_value(blob->data, i, &length), level - 1, key, key_length, behind,
					ret_address, ret_index);
	}
	mojo_blob_put(blobs, blob);
	return err;
}

static int scrub_version(struct scrub *s)
{
	struct mojo_store *store = s->store;
	uint8_t key[MOJO_KEY_BYTES_MAX] = { MOJO_KEY_SLOT };
	unsigned key_length = 1;
	int err = 0;
	for (bool behind = false; !err; behind = true) {
		struct mojo_tree frozen, *tree;
		uint64_t address = 0;
		unsigned index = 0;
		pthread_mutex_lock(&store->mu);
		err = mojo_view(store, s->version, &frozen, &tree);
		if (!err)
			err = mojo_ref_is_null(tree->root)
				      ? -ENOENT
				      : next_leaf(s, tree->root, LEVEL_ANY, key, key_length, behind, &address, &index);
		pthread_mutex_unlock(&store->mu);
		tell_bad(s);
		for (unsigned count = mojo_node_count(s->leaf); index < count && !err; index++) {
			const uint8_t *at = mojo_node_key(s->leaf, index, &key_length);
			memcpy(key, at, key_length);
			if (key_length == 9 && key[0] == MOJO_KEY_SLOT)
				err = read_slot(s, mojo_get_be32(key + 1), mojo_get_be32(key + 5));
		}
		if (!err && address)
			err = mojo_block_set_add(&s->leaves, store->space.group_blocks, address, 1);
	}
	end_run(s);
	return err == -ENOENT ? 0 : err;
}

/* ---- all of it ------------------------------------------------------------------------------ */

int mojo_scrub_into(struct mojo_store *store, struct mojo_sink *sink, uint64_t bytes_per_second, uint64_t total,
		    bool index)
{
	struct scrub s = {
		.store = store,
		.sink = sink,
		.rate = bytes_per_second ? bytes_per_second : RATE_DEFAULT,
		.total = total,
		.index = index,
	};
	clock_gettime(CLOCK_MONOTONIC, &s.begun);
	pthread_mutex_lock(&store->mu);
	s.pps = store->root.pages_per_slot;
	pthread_mutex_unlock(&store->mu);
	s.entries = malloc(s.pps * sizeof(*s.entries));
	s.leaf = calloc(1, store->blobs.node_bytes);
	s.buf = malloc(READ_BYTES);
	s.path = malloc(PATH_BYTES);
	int err = s.entries && s.leaf && s.buf && s.path ? 0 : -ENOMEM;
	struct mojo_version_info info = { 0 };
	for (uint32_t from = 0; !err && from <= MOJO_VERSION_MAX; from = info.version + 1) {
		err = mojo_version_next_kept(store, from, &info);
		if (err == -EUCLEAN && index)
			mojo_found(sink, &(struct mojo_finding){ .kind = MOJO_FOUND_INDEX, .severity = MOJO_ERROR },
				   "the list of versions cannot be read from version %" PRIu32 " on", from);
		if (err == -EUCLEAN) {
			/* What cannot be listed cannot be read; the active version is known without. */
			pthread_mutex_lock(&store->mu);
			uint32_t active = store->active;
			pthread_mutex_unlock(&store->mu);
			if (from < active) {
				info = (struct mojo_version_info){ .version = active, .active = true };
				err = 0;
			}
		}
		if (err)
			break;
		s.version = info.version;
		err = scrub_version(&s);
		mojo_sink_next(sink, s.version);
	}
	mojo_sink_next(sink, 0);
	if (err == -ENOENT || err == -EUCLEAN)
		err = 0;
	free(s.entries);
	free(s.leaf);
	free(s.buf);
	free(s.path);
	mojo_block_set_free(&s.seen);
	mojo_block_set_free(&s.leaves);
	return err;
}

int mojo_scrub(struct mojo_store *store, const struct mojo_check_options *options, struct mojo_check_result *ret_result)
{
	static const struct mojo_check_options none;
	struct mojo_sink sink = { .options = options ? options : &none };
	uint64_t chunks, bytes = 0;
	int err = mojo_chunks_usage(&store->chunks, &chunks, &bytes);
	if (!err)
		err = mojo_scrub_into(store, &sink, sink.options->bytes_per_second, bytes / mojo_page_size(store),
				      true);
	sink.result.errors_left = sink.result.errors;
	mojo_sink_free(&sink);
	*ret_result = sink.result;
	return err;
}
