/* SPDX-License-Identifier: MIT */
#include "bucket.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "checksum.h"
#include "namespace.h"
#include "version.h"

#define READ_PAGES 256u /* looked up together */
static_assert(MOJO_AHEAD_BYTES / MOJO_PAGE_SIZE_MIN <= READ_PAGES, "what is looked up in advance has a place");

static uint64_t size_max(const struct mojo_store *store)
{
	return (1ull << 32) * mojo_page_size(store);
}

static int wrong_page(struct mojo_store *store, uint32_t bucket, uint64_t page, uint64_t address)
{
	if (!address)
		mojo_event(&store->config, MOJO_ERROR,
			   "bucket %" PRIu32 ", page %" PRIu64
			   ": lost, as a repair of the store noted; reading it gives an error",
			   bucket, page);
	else
		mojo_event(&store->config, MOJO_ERROR,
			   "bucket %" PRIu32 ", page %" PRIu64 ": the block at address %" PRIu64
			   " does not hold what was written; reading it gives an error",
			   bucket, page, address);
	return -EIO;
}

/* ---- reading -------------------------------------------------------------------------------- */

static int read_block(struct mojo_store *store, const struct mojo_inode *inode, uint64_t page,
		      const struct mojo_entry *entry, uint8_t *buf)
{
	uint32_t page_size = mojo_page_size(store);
	int err = entry->address ? mojo_chunks_read(&store->chunks, entry->address, buf, page_size) : -EUCLEAN;
	if (err == -EUCLEAN ||
	    (!err && mojo_checksum_page(buf, page_size, mojo_inode_seed(inode), page) != entry->checksum))
		return wrong_page(store, inode->attr.bucket, page, entry->address);
	return err;
}

/* Can pages of this tree wait in the open batch? */
static bool is_open(const struct mojo_store *store, const struct mojo_tree *tree)
{
	return tree == &store->main || tree == &store->settling;
}

/* The whole page as it now is in a tree that may change, under the lock; zeros where there is none. */
static int load_page(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket, uint64_t page, uint8_t *buf)
{
	const uint8_t *have = mojo_log_find(&store->log, tree->version, bucket, page);
	struct mojo_entry entry = { 0 };
	struct mojo_inode inode;
	if (!have) {
		struct mojo_slotmap map = mojo_map_of(store, tree);
		int err = mojo_slotmap_get(&map, bucket, page, 1, &entry);
		if (err)
			return err;
		if (entry.version)
			have = mojo_log_flight(&store->log, entry.address);
	}
	if (!have && entry.version) {
		int err = mojo_inode_get(tree, bucket, &inode);
		return err ? err : read_block(store, &inode, page, &entry, buf);
	}
	if (have)
		memcpy(buf, have, mojo_page_size(store));
	else
		memset(buf, 0, mojo_page_size(store));
	return 0;
}

/* Pages of one request that must come from the disk. */
struct fetch {
	struct mojo_entry entry;
	uint32_t index; /* of the page within the request */
};

/* Blocks one behind the other in one chunk, that will be wanted soon. */
struct run {
	uint64_t address;
	uint32_t blocks;
};

struct request {
	uint32_t bucket;
	uint32_t seed;
	uint64_t first; /* page */
	uint32_t pages;
	uint32_t skip; /* bytes of the first page before the range */
	size_t length; /* bytes */
	uint8_t *buf;
	uint32_t fetch_count;
	struct fetch fetch[READ_PAGES];
	bool asked; /* the disk has been asked for all of it */
	uint32_t ahead_count;
	struct run ahead[READ_PAGES];
};

/* Where the bytes of page @index of the request begin in the page and in the buffer, and how many they are. */
static size_t page_part(const struct request *r, uint32_t page_size, uint32_t index, size_t *ret_in_page,
			size_t *ret_at)
{
	size_t in_page = index == 0 ? r->skip : 0;
	size_t at = index == 0 ? 0 : (size_t)index * page_size - r->skip;
	size_t part = page_size - in_page;
	if (part > r->length - at)
		part = r->length - at;
	*ret_in_page = in_page;
	*ret_at = at;
	return part;
}

/* Under the lock: copy what is in memory, list what is not. */
static int plan(struct mojo_store *store, struct mojo_tree *tree, struct request *r)
{
	uint32_t page_size = mojo_page_size(store);
	struct mojo_entry entries[READ_PAGES];
	struct mojo_slotmap map = mojo_map_of(store, tree);
	int err = mojo_slotmap_get(&map, r->bucket, r->first, r->pages, entries);
	if (err)
		return err;
	r->fetch_count = 0;
	for (uint32_t i = 0; i < r->pages; i++) {
		size_t in_page, at, part = page_part(r, page_size, i, &in_page, &at);
		const uint8_t *have = NULL;
		if (is_open(store, tree))
			have = mojo_log_find(&store->log, tree->version, r->bucket, r->first + i);
		if (!have && entries[i].version)
			have = mojo_log_flight(&store->log, entries[i].address);
		if (have)
			memcpy(r->buf + at, have + in_page, part);
		else if (entries[i].version)
			r->fetch[r->fetch_count++] = (struct fetch){ entries[i], i };
		else
			memset(r->buf + at, 0, part);
	}
	return 0;
}

/* Under the lock: list what the disk should be asked for because it will be read next, if the reader goes on so. */
static void plan_ahead(struct mojo_store *store, struct mojo_tree *tree, uint32_t version, uint64_t size,
		       struct request *r)
{
	uint32_t page_size = mojo_page_size(store);
	uint64_t first, pages = (size + page_size - 1) / page_size;
	struct mojo_entry entries[READ_PAGES];
	struct mojo_slotmap map = mojo_map_of(store, tree);
	uint32_t count =
		mojo_ahead_read(&store->ahead, version, r->bucket, r->first, r->pages, page_size, &first, &r->asked);
	if (!count || first >= pages)
		return;
	if (count > pages - first)
		count = (uint32_t)(pages - first);
	/* What is wrong with the index there is for whoever reads it to be told. */
	if (mojo_slotmap_get(&map, r->bucket, first, count, entries) != 0)
		return;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t address = entries[i].address;
		struct run *last = r->ahead_count ? &r->ahead[r->ahead_count - 1] : NULL;
		if (!entries[i].version || !address || mojo_log_flight(&store->log, address))
			continue;
		if (last && address == last->address + last->blocks && address % store->chunks.chunk_blocks)
			last->blocks++;
		else
			r->ahead[r->ahead_count++] = (struct run){ address, 1 };
	}
}

/* How many of the fetches from @i on lie one behind the other, on disk and in the file, as whole pages within one chunk. */
static uint32_t fetch_run(const struct mojo_store *store, const struct request *r, uint32_t i)
{
	uint32_t n = 1, page_size = mojo_page_size(store);
	size_t in_page, at;
	if (page_part(r, page_size, r->fetch[i].index, &in_page, &at) != page_size)
		return 1;
	while (i + n < r->fetch_count) {
		const struct fetch *f = &r->fetch[i + n];
		if (f->index != r->fetch[i].index + n || f->entry.address != r->fetch[i].entry.address + n ||
		    f->entry.address % store->chunks.chunk_blocks == 0 ||
		    page_part(r, page_size, f->index, &in_page, &at) != page_size)
			break;
		n++;
	}
	return n;
}

/* Without the lock. -EAGAIN: a block is not what it should be. */
static int fetch(struct mojo_store *store, struct request *r, uint32_t *ret_bad)
{
	uint32_t page_size = mojo_page_size(store);
	uint8_t *page = NULL;
	int err = 0;
	if (r->fetch_count > 1 && !r->asked)
		for (uint32_t i = 0, n; i < r->fetch_count; i += n) {
			n = fetch_run(store, r, i);
			mojo_chunks_prefetch(&store->chunks, r->fetch[i].entry.address, (size_t)n * page_size);
		}
	for (uint32_t i = 0; i < r->ahead_count; i++)
		mojo_chunks_prefetch(&store->chunks, r->ahead[i].address, (size_t)r->ahead[i].blocks * page_size);
	for (uint32_t i = 0, n; i < r->fetch_count && !err; i += n) {
		n = fetch_run(store, r, i);
		size_t in_page, at, part = page_part(r, page_size, r->fetch[i].index, &in_page, &at);
		uint8_t *to = r->buf + at;
		if (part < page_size) {
			if (!page)
				page = malloc(page_size);
			to = page;
		}
		if (!to) {
			err = -ENOMEM;
			break;
		}
		/* Nothing lies at address 0 but the first group: a page said to be there is known to be lost. */
		err = r->fetch[i].entry.address
			      ? mojo_chunks_read(&store->chunks, r->fetch[i].entry.address, to, (size_t)n * page_size)
			      : -EUCLEAN;
		if (err == -EIO || err == -EUCLEAN) {
			*ret_bad = i;
			err = -EAGAIN;
		}
		for (uint32_t k = 0; k < n && !err; k++) {
			const struct fetch *f = &r->fetch[i + k];
			if (mojo_checksum_page(to + (size_t)k * page_size, page_size, r->seed, r->first + f->index) !=
			    f->entry.checksum) {
				*ret_bad = i + k;
				err = -EAGAIN;
			}
		}
		if (!err && part < page_size)
			memcpy(r->buf + at, page + in_page, part);
	}
	free(page);
	store->pages_read += r->fetch_count;
	return err;
}

/* At most READ_PAGES pages. */
static int read_piece(struct mojo_store *store, uint32_t version, uint32_t bucket, uint64_t offset, uint8_t *buf,
		      size_t length, size_t *ret_length)
{
	uint32_t page_size = mojo_page_size(store);
	struct request r = { .bucket = bucket, .buf = buf };
	for (;;) {
		struct mojo_tree frozen, *tree;
		struct mojo_inode inode;
		pthread_mutex_lock(&store->mu);
		uint64_t reclaims = store->space.reclaim_count;
		int err = mojo_view(store, version, &frozen, &tree);
		if (!err)
			err = mojo_inode_get(tree, bucket, &inode);
		if (!err && S_ISDIR(inode.attr.mode))
			err = -EISDIR;
		if (!err) {
			uint64_t left = offset < inode.attr.size ? inode.attr.size - offset : 0;
			r.seed = mojo_inode_seed(&inode);
			r.length = length < left ? length : (size_t)left;
			r.first = offset / page_size;
			r.skip = (uint32_t)(offset % page_size);
			r.pages = (uint32_t)((r.skip + r.length + page_size - 1) / page_size);
			r.fetch_count = r.ahead_count = 0;
			r.asked = false;
			if (r.length)
				err = plan(store, tree, &r);
			if (!err && r.fetch_count)
				plan_ahead(store, tree, version, inode.attr.size, &r);
		}
		pthread_mutex_unlock(&store->mu);
		if (err)
			return err;
		uint32_t bad = 0;
		err = fetch(store, &r, &bad);
		/* Blocks of pages that were overwritten since, or of a version that was dropped, may have been given
		 * back while we read: look again. */
		if (r.fetch_count && store->space.reclaim_count != reclaims)
			continue;
		if (err == -EAGAIN)
			return wrong_page(store, bucket, r.first + r.fetch[bad].index, r.fetch[bad].entry.address);
		if (!err)
			*ret_length = r.length;
		return err;
	}
}

int mojo_read(struct mojo_store *store, uint32_t version, uint32_t bucket, uint64_t offset, void *buf, size_t length,
	      size_t *ret_length)
{
	uint32_t page_size = mojo_page_size(store);
	size_t done = 0;
	do {
		uint64_t at = offset + done;
		size_t most = (size_t)READ_PAGES * page_size - at % page_size, piece = length - done, got = 0;
		if (piece > most)
			piece = most;
		if (at < offset)
			break;
		int err = read_piece(store, version, bucket, at, (uint8_t *)buf + done, piece, &got);
		if (err)
			return err;
		done += got;
		if (got < piece)
			break;
	} while (done < length);
	*ret_length = done;
	return 0;
}

/* ---- writing -------------------------------------------------------------------------------- */

/* The open batch's buffer for a page, made if need be. *added: the file has one page more. */
static int open_page(struct mojo_store *store, uint32_t version, uint32_t bucket, uint64_t page, bool has_entry,
		     uint8_t **ret_data, uint32_t *added)
{
	*ret_data = mojo_log_find(&store->log, version, bucket, page);
	if (*ret_data)
		return 0;
	int err = mojo_log_add(&store->log, version, bucket, (uint32_t)page, ret_data);
	if (!err)
		*added += !has_entry;
	return err;
}

int mojo_bucket_put(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket, uint64_t offset, const void *buf,
		    size_t length, bool set_times)
{
	uint32_t page_size = mojo_page_size(store);
	uint64_t first = offset / page_size, last = (offset + length - 1) / page_size;
	uint32_t pages = (uint32_t)(last - first + 1), added = 0;
	struct mojo_inode inode;
	struct mojo_entry *entries = malloc(pages * sizeof(*entries));
	uint8_t *edges = malloc(2 * (size_t)page_size); /* old content of the first and the last page */
	struct mojo_slotmap map = mojo_map_of(store, tree);
	size_t done = 0;
	int err = entries && edges ? mojo_inode_get(tree, bucket, &inode) : -ENOMEM;
	if (!err)
		err = mojo_slotmap_get(&map, bucket, first, pages, entries);
	/* All that can fail for what the disk holds comes before anything changes. */
	bool cut_first = offset % page_size != 0, cut_last = (offset + length) % page_size != 0;
	if (!err) {
		/* Behind the end of the file there are zeros: nothing of such a page needs to be read. */
		bool keep_last = cut_last && offset + length < inode.attr.size;
		memset(edges, 0, 2 * (size_t)page_size);
		if (cut_first || (keep_last && first == last))
			err = load_page(store, tree, bucket, first, edges);
		if (!err && keep_last && first != last)
			err = load_page(store, tree, bucket, last, edges + page_size);
	}
	if (err)
		goto out;

	while (done < length) {
		uint64_t page = (offset + done) / page_size;
		size_t in_page = (size_t)((offset + done) % page_size), part = page_size - in_page;
		if (part > length - done)
			part = length - done;
		uint8_t *data;
		err = open_page(store, tree->version, bucket, page, entries[page - first].version != 0, &data, &added);
		if (err)
			break; /* no memory; what was written so far stands */
		if (part < page_size)
			memcpy(data, page == first ? edges : edges + page_size, page_size);
		memcpy(data + in_page, (const uint8_t *)buf + done, part);
		done += part;
	}
	bool grows = offset + done > inode.attr.size;
	/* Pages written over leave the inode as it is: there is nothing to be said of it in the log. */
	if (done && (added || grows || set_times)) {
		inode.attr.pages += added;
		if (grows)
			inode.attr.size = offset + done;
		if (set_times)
			inode.attr.mtime_ns = inode.attr.ctime_ns = mojo_now(store);
		int failed = mojo_inode_update(store, tree, &inode);
		if (failed)
			err = mojo_poison(store, failed, "writing to a file");
	}
out:
	free(entries);
	free(edges);
	return err;
}

/* @version: the unpublished one, or MOJO_ACTIVE. */
static int write_to(struct mojo_store *store, uint32_t version, uint32_t bucket, uint64_t offset, const void *buf,
		    size_t length, bool set_times, enum mojo_claim claim)
{
	uint32_t page_size = mojo_page_size(store);
	if (offset > size_max(store) || length > size_max(store) - offset)
		return -EFBIG;
	int err = 0;
	pthread_mutex_lock(&store->mu);
	for (size_t done = 0; done < length && !err;) {
		uint64_t at = offset + done;
		size_t most = store->config.batch_bytes - at % page_size, piece = length - done;
		if (piece > most)
			piece = most;
		struct mojo_inode inode;
		struct mojo_tree *tree;
		err = mojo_begin(store, (uint32_t)((at % page_size + piece + page_size - 1) / page_size), claim);
		if (!err)
			err = mojo_settle_begin(store, version, &tree);
		if (err)
			break;
		err = mojo_inode_get(tree, bucket, &inode);
		if (!err && !S_ISREG(inode.attr.mode))
			err = S_ISDIR(inode.attr.mode) ? -EISDIR : -EINVAL;
		if (!err)
			err = mojo_bucket_put(store, tree, bucket, at, (const uint8_t *)buf + done, piece, set_times);
		mojo_settle_end(store, tree);
		done += piece;
	}
	pthread_mutex_unlock(&store->mu);
	return err;
}

int mojo_write(struct mojo_store *store, uint32_t bucket, uint64_t offset, const void *buf, size_t length)
{
	return write_to(store, MOJO_ACTIVE, bucket, offset, buf, length, true, MOJO_CLAIM_NEW);
}

int mojo_write_back(struct mojo_store *store, uint32_t bucket, uint64_t offset, const void *buf, size_t length)
{
	return write_to(store, MOJO_ACTIVE, bucket, offset, buf, length, false, MOJO_CLAIM_NEW);
}

int mojo_write_reserved(struct mojo_store *store, uint32_t bucket, uint64_t offset, const void *buf, size_t length)
{
	return write_to(store, MOJO_ACTIVE, bucket, offset, buf, length, false, MOJO_CLAIM_RESERVED);
}

int mojo_settle_write(struct mojo_store *store, uint32_t version, uint32_t bucket, uint64_t offset, const void *buf,
		      size_t length)
{
	if (version == MOJO_ACTIVE)
		return -ENOENT;
	return write_to(store, version, bucket, offset, buf, length, true, MOJO_CLAIM_NEW);
}

/* ---- what is there already ------------------------------------------------------------------ */

static bool may_be_in(const struct mojo_entry *entry, const struct mojo_log_page *page)
{
	return entry->version && entry->address && entry->checksum == page->checksum;
}

/* At most READ_PAGES pages; @buf: for one. */
static void hold_piece(struct mojo_store *store, const struct mojo_tree *tree, bool own, struct mojo_log_page **pages,
		       uint32_t count, uint8_t *buf)
{
	uint32_t page_size = mojo_page_size(store);
	struct mojo_entry entries[READ_PAGES];
	const struct mojo_slotmap map = { .tree = (struct mojo_tree *)(uintptr_t)tree,
					  .pages_per_slot = store->root.pages_per_slot };
	if (mojo_slotmap_get(&map, pages[0]->bucket, pages[0]->page, count, entries) != 0)
		return;
	for (uint32_t i = 0; i < count && count > 1; i++)
		if (!pages[i]->held && may_be_in(&entries[i], pages[i]))
			mojo_chunks_prefetch(&store->chunks, entries[i].address, page_size);
	for (uint32_t i = 0; i < count; i++) {
		if (pages[i]->held || !may_be_in(&entries[i], pages[i]) ||
		    mojo_chunks_read(&store->chunks, entries[i].address, buf, page_size) != 0 ||
		    memcmp(buf, pages[i]->data, page_size) != 0)
			continue;
		pages[i]->held = true;
		if (!own)
			pages[i]->entry = entries[i];
	}
}

void mojo_bucket_hold(struct mojo_store *store, struct mojo_log_page **pages, uint32_t count)
{
	struct mojo_tree below;
	uint8_t *buf = malloc(mojo_page_size(store));
	bool has_below = buf && mojo_version_below(store, pages[0]->version, &below) == 0;
	for (uint32_t i = 0, n; buf && i < count; i += n) {
		n = count - i < READ_PAGES ? count - i : READ_PAGES;
		/* What it has itself it also shares with the versions above. */
		hold_piece(store, &store->settling, true, pages + i, n, buf);
		if (has_below)
			hold_piece(store, &below, false, pages + i, n, buf);
	}
	free(buf);
}

/* ---- taking away ---------------------------------------------------------------------------- */

int mojo_apply_clear(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket, uint64_t first, uint64_t count)
{
	struct mojo_inode inode;
	struct mojo_slotmap map = mojo_map_of(store, tree);
	uint64_t removed = 0;
	int err = mojo_inode_get(tree, bucket, &inode);
	map.shared = err ? 0 : inode.shared;
	if (!err)
		err = mojo_slotmap_clear(&map, bucket, first, count, &removed);
	if (err || !removed)
		return err;
	inode.attr.pages -= removed < inode.attr.pages ? removed : inode.attr.pages;
	return mojo_inode_put(store, tree, &inode);
}

/* Pages [first, first + count) become absent, in the batch and in the index, and a record says so. */
static int clear_pages(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket, uint64_t first,
		       uint64_t count)
{
	struct mojo_slotmap map = mojo_map_of(store, tree);
	uint64_t waiting = 0, end = first + count;
	int err = 0;
	for (uint64_t page = first; !err; page++) {
		struct mojo_entry entry;
		page = mojo_log_waiting(&store->log, tree->version, bucket, page);
		if (page >= end || page == UINT64_MAX)
			break;
		err = mojo_slotmap_get(&map, bucket, page, 1, &entry);
		waiting += !err && !entry.version;
	}
	if (err)
		return err;
	mojo_log_forget(&store->log, tree->version, bucket, first, count);
	err = mojo_apply_clear(store, tree, bucket, first, count);
	if (!err && waiting) {
		struct mojo_inode inode;
		err = mojo_inode_get(tree, bucket, &inode);
		if (!err) {
			inode.attr.pages -= waiting < inode.attr.pages ? waiting : inode.attr.pages;
			err = mojo_inode_put(store, tree, &inode);
		}
	}
	if (err)
		return mojo_poison(store, err, "removing pages of a file");
	uint8_t payload[20];
	mojo_put32(payload, bucket);
	mojo_put64(payload + 4, first);
	mojo_put64(payload + 12, count);
	mojo_log_record(&store->log, tree->version, MOJO_RECORD_CLEAR, payload, sizeof(payload), NULL, 0);
	return 0;
}

/* Bytes [from, to) of one page become zeros, where the page has content. */
static int zero_part(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket, uint64_t page, uint32_t from,
		     uint32_t to)
{
	struct mojo_slotmap map = mojo_map_of(store, tree);
	struct mojo_entry entry;
	uint8_t *data = mojo_log_find(&store->log, tree->version, bucket, page);
	if (!data) {
		int err = mojo_slotmap_get(&map, bucket, page, 1, &entry);
		if (err || !entry.version)
			return err;
		uint8_t *old = malloc(mojo_page_size(store));
		err = old ? load_page(store, tree, bucket, page, old) : -ENOMEM;
		if (!err)
			err = mojo_log_add(&store->log, tree->version, bucket, (uint32_t)page, &data);
		if (!err)
			memcpy(data, old, mojo_page_size(store));
		free(old);
		if (err)
			return err;
	}
	memset(data + from, 0, to - from);
	return 0;
}

int mojo_bucket_resize(struct mojo_store *store, struct mojo_tree *tree, struct mojo_inode *inode, uint64_t size)
{
	uint32_t page_size = mojo_page_size(store), bucket = inode->attr.bucket;
	if (S_ISDIR(inode->attr.mode))
		return -EISDIR;
	if (!S_ISREG(inode->attr.mode))
		return -EINVAL;
	if (size > size_max(store))
		return -EFBIG;
	if (size < inode->attr.size) {
		uint64_t whole = (size + page_size - 1) / page_size;
		if (size % page_size) {
			int err = zero_part(store, tree, bucket, size / page_size, (uint32_t)(size % page_size),
					    page_size);
			if (err)
				return err;
		}
		if (inode->attr.pages && (inode->attr.size + page_size - 1) / page_size > whole) {
			int err = clear_pages(store, tree, bucket, whole, (1ull << 32) - whole);
			if (!err)
				err = mojo_inode_get(tree, bucket, inode);
			if (err)
				return err;
		}
	}
	inode->attr.size = size;
	inode->attr.mtime_ns = inode->attr.ctime_ns = mojo_now(store);
	int err = mojo_inode_update(store, tree, inode);
	return err ? mojo_poison(store, err, "changing a file's size") : 0;
}

static int punch(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket, uint64_t from, uint64_t to)
{
	uint32_t page_size = mojo_page_size(store);
	uint64_t first = (from + page_size - 1) / page_size, last = to / page_size; /* whole pages: [first, last) */
	int err = 0;
	if (from / page_size == to / page_size)
		return zero_part(store, tree, bucket, from / page_size, (uint32_t)(from % page_size),
				 (uint32_t)(to % page_size));
	if (from % page_size)
		err = zero_part(store, tree, bucket, from / page_size, (uint32_t)(from % page_size), page_size);
	if (!err && to % page_size)
		err = zero_part(store, tree, bucket, last, 0, (uint32_t)(to % page_size));
	if (!err && last > first)
		err = clear_pages(store, tree, bucket, first, last - first);
	return err;
}

int mojo_fallocate(struct mojo_store *store, uint32_t bucket, int mode, uint64_t offset, uint64_t length)
{
	bool keep = mode & MOJO_FALLOC_KEEP_SIZE, hole = mode & MOJO_FALLOC_PUNCH_HOLE,
	     zero = mode & MOJO_FALLOC_ZERO_RANGE;
	if (mode & ~(MOJO_FALLOC_KEEP_SIZE | MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_ZERO_RANGE) ||
	    (hole && (zero || !keep)))
		return -EOPNOTSUPP;
	if (length == 0)
		return -EINVAL;
	if (offset > size_max(store) || length > size_max(store) - offset)
		return -EFBIG;
	struct mojo_inode inode;
	struct mojo_tree *tree = &store->main;
	pthread_mutex_lock(&store->mu);
	int err = mojo_begin(store, 2, hole ? MOJO_CLAIM_REMOVAL : MOJO_CLAIM_NEW);
	if (!err)
		err = mojo_inode_get(tree, bucket, &inode);
	if (!err && !S_ISREG(inode.attr.mode))
		err = S_ISDIR(inode.attr.mode) ? -EISDIR : -ENODEV;
	if (!err && (hole || zero)) {
		uint64_t end = offset + length < inode.attr.size ? offset + length : inode.attr.size;
		/* Pages behind the end do not exist, so the last page of the range may go as a whole. */
		if (end == inode.attr.size && end % mojo_page_size(store))
			end += mojo_page_size(store) - end % mojo_page_size(store);
		if (offset < end)
			err = punch(store, tree, bucket, offset, end);
		if (!err)
			err = mojo_inode_get(tree, bucket, &inode);
	}
	if (!err) {
		if (!keep && offset + length > inode.attr.size)
			inode.attr.size = offset + length;
		inode.attr.ctime_ns = mojo_now(store);
		if (!keep || hole || zero)
			inode.attr.mtime_ns = inode.attr.ctime_ns;
		err = mojo_inode_update(store, tree, &inode);
		if (err)
			mojo_poison(store, err, "allocating or punching a file");
	}
	pthread_mutex_unlock(&store->mu);
	return err;
}

/* ---- looking for content -------------------------------------------------------------------- */

/* The first page with content at or behind @first, in memory or not. entry.version 0: in memory only. */
static int next_page(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket, uint64_t first,
		     uint64_t *ret_page, struct mojo_entry *ret_entry)
{
	struct mojo_slotmap map = mojo_map_of(store, tree);
	uint64_t waiting = UINT64_MAX;
	if (is_open(store, tree))
		waiting = mojo_log_waiting(&store->log, tree->version, bucket, first);
	int err = mojo_slotmap_next(&map, bucket, first, ret_page, ret_entry);
	if (err && err != -ENOENT)
		return err;
	if (waiting != UINT64_MAX && (err || waiting <= *ret_page)) {
		*ret_page = waiting;
		*ret_entry = (struct mojo_entry){ 0 };
		return 0;
	}
	return err;
}

int mojo_seek(struct mojo_store *store, uint32_t version, uint32_t bucket, uint64_t offset, bool data,
	      uint64_t *ret_offset)
{
	uint32_t page_size = mojo_page_size(store);
	struct mojo_tree frozen, *tree;
	struct mojo_inode inode;
	struct mojo_entry entry;
	uint64_t page = offset / page_size;
	pthread_mutex_lock(&store->mu);
	int err = mojo_view(store, version, &frozen, &tree);
	if (!err)
		err = mojo_inode_get(tree, bucket, &inode);
	if (!err && S_ISDIR(inode.attr.mode))
		err = -EISDIR;
	if (!err && offset >= inode.attr.size)
		err = -ENXIO;
	if (!err && data) {
		err = next_page(store, tree, bucket, page, &page, &entry);
		if (err == -ENOENT || (!err && page * page_size >= inode.attr.size))
			err = -ENXIO;
	} else if (!err) {
		struct mojo_slotmap map = mojo_map_of(store, tree);
		for (;;) {
			err = mojo_slotmap_hole(&map, bucket, page, &page);
			if (err || !is_open(store, tree) || !mojo_log_find(&store->log, tree->version, bucket, page))
				break;
			page++;
		}
	}
	pthread_mutex_unlock(&store->mu);
	if (err)
		return err;
	uint64_t at = page * page_size;
	if (at < offset)
		at = offset;
	*ret_offset = !data && at > inode.attr.size ? inode.attr.size : at;
	return 0;
}

int mojo_map(struct mojo_store *store, uint32_t version, uint32_t bucket, uint64_t first,
	     struct mojo_map_entry *entries, size_t capacity, size_t *ret_count)
{
	struct mojo_tree frozen, *tree;
	struct mojo_inode inode;
	size_t count = 0;
	pthread_mutex_lock(&store->mu);
	int err = mojo_view(store, version, &frozen, &tree);
	if (!err)
		err = mojo_inode_get(tree, bucket, &inode);
	while (!err && count < capacity) {
		struct mojo_entry entry;
		uint64_t page;
		int last = next_page(store, tree, bucket, first, &page, &entry);
		if (last == -ENOENT)
			break;
		if (last) {
			err = last;
			break;
		}
		entries[count++] = (struct mojo_map_entry){
			.page = page,
			.address = entry.address,
			.version = entry.version,
			.checksum = entry.checksum,
		};
		first = page + 1;
	}
	pthread_mutex_unlock(&store->mu);
	if (!err)
		*ret_count = count;
	return err;
}
