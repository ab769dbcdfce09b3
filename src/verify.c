/* SPDX-License-Identifier: MIT */
#include "verify.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "agree.h"
#include "checksum.h"
#include "namespace.h"
#include "recover.h"

#define LEVEL_ANY      UINT32_MAX
#define PROGRESS_BLOBS 64u

/*
 * What a block is used for, as far as 16 bits can say:
 *   0            nothing
 *   below 32768  a page: a fingerprint of seed, page, version and checksum, which clones have in common
 *   else         a piece of the index: a fingerprint of the reference, and of which block of it this is
 */
#define MARK_INDEX 0x8000u

struct chunk {
	uint32_t number;
	uint64_t blocks; /* that the file is long */
	bool is_spare;
	uint16_t *marks;                   /* owned; NULL: nothing in it is in use */
	uint8_t *dead;                     /* owned; a bit for each block that the space tree calls dead, NULL: none */
	uint8_t *returned;                 /* owned; of these, which it says were punched */
	uint32_t dead_said, returned_said; /* by the cell of the chunk */
};

/* What is known of a piece of the index that was visited. */
struct sum {
	uint64_t key; /* address; of one in memory the pointer, with the highest bit set; 0: free place */
	uint64_t balance;
	uint64_t graph; /* which directory is in which: a sum of hashes */
	uint32_t files, directories;
	bool damaged; /* something below cannot be read */
	bool suspect; /* something below is not as it should be by itself: look closer */
};

/* Pages in a row with one fault. */
struct run {
	struct mojo_finding finding;
	const char *text;
};

struct verify {
	struct mojo_store *store;
	struct mojo_sink *sink;
	uint64_t end;         /* address behind all that was written; UINT64_MAX: not known */
	struct chunk *chunks; /* owned; by number */
	size_t chunk_count, chunk_capacity, last;
	struct sum *sums; /* owned; open addressing */
	size_t sum_count, sum_capacity;
	uint32_t version; /* that is being walked; 0: a tree without versions */
	const struct mojo_tree *tree;
	uint64_t graph; /* of the version before, whose directories were seen to hang together */
	bool graph_known;
	bool space_damaged;
	struct mojo_block_set whole; /* where a node or slot begins that can be read, with all below it */
	const char *why;             /* what was wrong with the blob read last */
	struct run run;
	uint64_t versions_done;
	int err; /* of what a listing calls */
};

/* ---- chunks --------------------------------------------------------------------------------- */

static int compare_chunks(const void *a, const void *b)
{
	const struct chunk *x = a, *y = b;
	return x->number < y->number ? -1 : x->number > y->number;
}

static int list_chunk(void *arg, const char *name)
{
	struct verify *v = arg;
	struct mojo_io *io = v->store->io;
	int64_t number = mojo_chunk_number(name);
	struct mojo_io_file *file;
	char path[MOJO_CHUNK_PATH_BYTES];
	uint64_t bytes = 0, disk_bytes;
	if (number < 0) {
		mojo_found(v->sink, &(struct mojo_finding){ .kind = MOJO_FOUND_CHUNK, .severity = MOJO_WARNING },
			   "%s/%s is no file of this store", MOJO_CHUNK_DIR, name);
		return 0;
	}
	mojo_chunk_path((uint32_t)number, path);
	int err = io->ops->open(io, path, 0, &file);
	if (!err) {
		err = io->ops->size(file, &bytes, &disk_bytes);
		io->ops->close(file);
	}
	if (err) {
		mojo_found(v->sink,
			   &(struct mojo_finding){
				   .kind = MOJO_FOUND_CHUNK,
				   .severity = MOJO_ERROR,
				   .address = (uint64_t)number * v->store->root.chunk_blocks,
			   },
			   "%s cannot be opened: %s", path, strerror(-err));
		return 0;
	}
	if (v->chunk_count == v->chunk_capacity) {
		size_t capacity = v->chunk_capacity ? v->chunk_capacity * 2 : 64;
		struct chunk *grown = realloc(v->chunks, capacity * sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		v->chunks = grown;
		v->chunk_capacity = capacity;
	}
	v->chunks[v->chunk_count++] = (struct chunk){
		.number = (uint32_t)number,
		.blocks = bytes / v->store->root.page_size,
	};
	return 0;
}

static int list_chunks(struct verify *v)
{
	int err = v->store->io->ops->list(v->store->io, MOJO_CHUNK_DIR, list_chunk, v);
	if (err == -ENOENT) {
		mojo_found(v->sink, &(struct mojo_finding){ .kind = MOJO_FOUND_CHUNK, .severity = MOJO_ERROR },
			   "the directory %s is missing", MOJO_CHUNK_DIR);
		return 0;
	}
	if (v->chunk_count)
		qsort(v->chunks, v->chunk_count, sizeof(*v->chunks), compare_chunks);
	return err;
}

static struct chunk *find_chunk(struct verify *v, uint64_t address)
{
	uint64_t number = address / v->store->root.chunk_blocks;
	if (v->last < v->chunk_count && v->chunks[v->last].number == number)
		return &v->chunks[v->last];
	size_t low = 0, high = v->chunk_count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (v->chunks[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == v->chunk_count || v->chunks[low].number != number)
		return NULL;
	v->last = low;
	return &v->chunks[low];
}

static bool bit(const uint8_t *bits, uint64_t i)
{
	return bits && bits[i / 8] >> (i % 8) & 1;
}

static bool is_dead(struct verify *v, const struct chunk *chunk, uint64_t address)
{
	return chunk->is_spare || bit(chunk->dead, address % v->store->root.chunk_blocks) ||
	       mojo_block_set_has(&v->store->space.fresh, v->store->space.group_blocks, address);
}

/* ---- findings ------------------------------------------------------------------------------- */

static void end_run(struct verify *v)
{
	char path[PATH_MAX];
	struct mojo_finding *f = &v->run.finding;
	if (!f->pages)
		return;
	f->path = v->tree ? mojo_path_in(v->tree, f->bucket, path, sizeof(path)) : NULL;
	mojo_found(v->sink, f, "%s", v->run.text);
	f->pages = 0;
}

static void found_page(struct verify *v, enum mojo_finding_kind kind, uint32_t bucket, uint64_t page, uint64_t address,
		       const char *text)
{
	struct mojo_finding *f = &v->run.finding;
	if (f->pages && f->kind == kind && f->bucket == bucket && f->first_page + f->pages == page &&
	    v->run.text == text && f->version == v->version) {
		f->pages++;
		f->blocks += kind != MOJO_FOUND_LOST;
		return;
	}
	end_run(v);
	*f = (struct mojo_finding){
		.kind = kind,
		.severity = kind == MOJO_FOUND_LOST ? MOJO_WARNING : MOJO_ERROR,
		.version = v->version,
		.bucket = bucket,
		.first_page = page,
		.pages = 1,
		.address = address,
		.blocks = kind != MOJO_FOUND_LOST,
	};
	v->run.text = text;
}

/* ---- sums ----------------------------------------------------------------------------------- */

static size_t sum_place(const struct sum *sums, size_t capacity, uint64_t key)
{
	size_t at = (size_t)(key * 0x9e3779b97f4a7c15ull >> 17) & (capacity - 1);
	while (sums[at].key && sums[at].key != key)
		at = (at + 1) & (capacity - 1);
	return at;
}

static struct sum *find_sum(struct verify *v, uint64_t key)
{
	if (!v->sum_capacity)
		return NULL;
	struct sum *sum = &v->sums[sum_place(v->sums, v->sum_capacity, key)];
	return sum->key ? sum : NULL;
}

static int put_sum(struct verify *v, const struct sum *sum)
{
	if (v->sum_count * 2 >= v->sum_capacity) {
		size_t capacity = v->sum_capacity ? v->sum_capacity * 2 : 1024;
		struct sum *grown = calloc(capacity, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		for (size_t i = 0; i < v->sum_capacity; i++)
			if (v->sums[i].key)
				grown[sum_place(grown, capacity, v->sums[i].key)] = v->sums[i];
		free(v->sums);
		v->sums = grown;
		v->sum_capacity = capacity;
	}
	struct sum *place = &v->sums[sum_place(v->sums, v->sum_capacity, sum->key)];
	v->sum_count += !place->key;
	*place = *sum;
	return 0;
}

static void add_sum(struct sum *to, const struct sum *from)
{
	to->balance += from->balance;
	to->graph += from->graph;
	to->files += from->files;
	to->directories += from->directories;
	to->damaged |= from->damaged;
	to->suspect |= from->suspect;
}

static uint64_t sum_key(const uint8_t *ref)
{
	if (mojo_ref_in_memory(ref))
		return (uint64_t)(uintptr_t)mojo_ref_blob(ref) | 1ull << 63;
	return mojo_ref_decode(ref).address;
}

enum term { TERM_NAME = 1, TERM_ENTRIES, TERM_SUBDIRECTORIES, TERM_ORPHAN, TERM_PAGES, TERM_GRAPH };

static uint64_t hash(enum term term, uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t words[3] = { a, b, c };
	return mojo_checksum64(words, sizeof(words), (uint64_t)term << 32);
}

/* ---- blocks in use -------------------------------------------------------------------------- */

/* The place for the mark of the block at @address, or NULL with *ret_text: why it cannot be in use. */
static uint16_t *mark_of(struct verify *v, uint64_t address, struct chunk **ret_chunk, enum mojo_finding_kind *ret_kind,
			 const char **ret_text)
{
	uint64_t index = address % v->store->root.chunk_blocks;
	struct chunk *chunk = find_chunk(v, address);
	*ret_kind = MOJO_FOUND_CHUNK;
	if (!chunk) {
		*ret_text = "the chunk file with it is missing";
		return NULL;
	}
	if (index >= chunk->blocks) {
		*ret_text = "the chunk file ends before it";
		return NULL;
	}
	if (address >= v->end) {
		*ret_kind = MOJO_FOUND_ADDRESS;
		*ret_text = "it is said to lie where nothing was written yet";
		return NULL;
	}
	if (!chunk->marks) {
		chunk->marks = calloc(v->store->root.chunk_blocks, sizeof(*chunk->marks));
		if (!chunk->marks) {
			v->err = -ENOMEM;
			*ret_text = "out of memory";
			return NULL;
		}
	}
	*ret_chunk = chunk;
	return &chunk->marks[index];
}

static void mark_page(struct verify *v, uint32_t bucket, uint32_t seed, uint64_t page, const struct mojo_entry *entry)
{
	enum mojo_finding_kind kind;
	struct chunk *chunk;
	const char *text;
	if (!entry->address) {
		found_page(v, MOJO_FOUND_LOST, bucket, page, 0,
			   "the content was lost before, as a repair noted; reading it gives an error");
		return;
	}
	uint16_t *mark = mark_of(v, entry->address, &chunk, &kind, &text);
	if (v->err)
		return;
	if (!mark) {
		found_page(v, kind, bucket, page, entry->address, text);
		return;
	}
	uint64_t h = hash(TERM_PAGES, entry->address, (uint64_t)seed << 32 | page,
			  (uint64_t)entry->version << 32 | entry->checksum);
	uint16_t want = (uint16_t)(h % (MARK_INDEX - 1) + 1);
	if (*mark == want)
		return;
	if (*mark) {
		found_page(v, MOJO_FOUND_SHARED, bucket, page, entry->address,
			   *mark & MARK_INDEX ? "its block is a piece of the index, too"
					      : "its block is another page, too");
		return;
	}
	*mark = want;
	v->sink->result.pages++;
	if (is_dead(v, chunk, entry->address))
		found_page(v, MOJO_FOUND_DEAD, bucket, page, entry->address,
			   "its block is in use, but called dead: it would be given back");
	else if (entry->version > v->version)
		found_page(v, MOJO_FOUND_INDEX, bucket, page, entry->address,
			   "it is said to be written by a later version than this one");
}

/* Marks the blocks of a blob on disk. *ret_seen: that was done before. */
static int mark_blob(struct verify *v, const uint8_t *raw, bool *ret_seen)
{
	struct mojo_ref ref = mojo_ref_decode(raw);
	uint32_t blocks = mojo_blob_blocks(ref.bytes, v->store->root.page_size);
	uint64_t base = mojo_checksum64(raw, MOJO_REF_BYTES, 0);
	*ret_seen = false;
	for (uint32_t i = 0; i < blocks; i++) {
		enum mojo_finding_kind kind;
		struct chunk *chunk;
		const char *text;
		uint16_t *mark = mark_of(v, ref.address + i, &chunk, &kind, &text);
		struct mojo_finding f = {
			.kind = kind,
			.severity = MOJO_ERROR,
			.version = v->version,
			.address = ref.address + i,
			.blocks = 1,
		};
		if (v->err)
			return v->err;
		if (!mark) {
			if (kind == MOJO_FOUND_ADDRESS) /* if it is missing, reading it will tell */
				mojo_found(v->sink, &f, "a piece of the index: %s", text);
			continue;
		}
		uint16_t want = (uint16_t)(MARK_INDEX | ((base >> 15) + i));
		if (*mark == want) {
			*ret_seen |= i == 0;
			continue;
		}
		if (*mark) {
			f.kind = MOJO_FOUND_SHARED;
			mojo_found(v->sink, &f, "a piece of the index lies where %s lies, too",
				   *mark & MARK_INDEX ? "another one" : "a page");
			continue;
		}
		*mark = want;
		if (is_dead(v, chunk, ref.address + i)) {
			f.kind = MOJO_FOUND_DEAD;
			mojo_found(v->sink, &f,
				   "a block of the index is in use, but called dead: it would be given back");
		}
	}
	return 0;
}

static void on_damage(void *arg, const char *what, uint64_t address)
{
	struct verify *v = arg;
	(void)address;
	v->why = what;
}

/* The blob behind @ref. -EUCLEAN: it cannot be had, and v->why says why. */
static int get_blob(struct verify *v, const uint8_t *ref, enum mojo_blob_type type, struct mojo_blob **ret_blob)
{
	v->why = "it is not what it should be";
	int err = mojo_blob_get(&v->store->blobs, ref, type, ret_blob);
	if (err && err != -ENOMEM && err != -EUCLEAN) {
		v->why = "the host reports an error when it is read";
		err = -EUCLEAN;
	}
	if (!err && ++v->sink->result.blobs % PROGRESS_BLOBS == 0) {
		err = mojo_sink_progress(v->sink, "index", v->versions_done, v->store->frozen + 1);
		if (err)
			mojo_blob_put(&v->store->blobs, *ret_blob);
	}
	return err;
}

/* ---- slots ---------------------------------------------------------------------------------- */

static void found_slot(struct verify *v, uint32_t bucket, uint32_t number, uint64_t address, const char *why)
{
	char path[PATH_MAX];
	end_run(v);
	struct mojo_finding f = {
		.kind = MOJO_FOUND_INDEX,
		.severity = MOJO_ERROR,
		.version = v->version,
		.bucket = bucket,
		.path = mojo_path_in(v->tree, bucket, path, sizeof(path)),
		.first_page = (uint64_t)number * v->store->root.pages_per_slot,
		.pages = v->store->root.pages_per_slot,
		.address = address,
	};
	mojo_found_in(v->sink, &f, "where these pages are cannot be told: %s", why);
}

/* The entries of a slot as this version has them. @again: only to find what is damaged. */
static int walk_slot(struct verify *v, const uint8_t *key, const uint8_t *value, unsigned length, bool again,
		     struct sum *sum)
{
	uint32_t bucket = mojo_get_be32(key + 1), number = mojo_get_be32(key + 5), pps = v->store->root.pages_per_slot;
	unsigned deltas = length >= MOJO_SLOT_VALUE_FIXED_BYTES ? mojo_get16(value + MOJO_REF_BYTES) : UINT16_MAX;
	bool valid = deltas <= MOJO_SLOT_DELTAS && length == MOJO_SLOT_VALUE_FIXED_BYTES + deltas * MOJO_DELTA_BYTES;
	const uint8_t *delta = value + MOJO_SLOT_VALUE_FIXED_BYTES;
	for (unsigned i = 0; i < deltas && valid; i++)
		valid = mojo_get16(delta + i * MOJO_DELTA_BYTES) < pps &&
			(i == 0 ||
			 mojo_get16(delta + (i - 1) * MOJO_DELTA_BYTES) < mojo_get16(delta + i * MOJO_DELTA_BYTES));
	if (!valid) {
		sum->damaged = true;
		found_slot(v, bucket, number, 0, "the slot's value is not of a form that is possible");
		return 0;
	}
	struct mojo_blob *base = NULL;
	bool has_base = !mojo_ref_is_null(value), on_disk = has_base && !mojo_ref_in_memory(value), seen = false;
	int err = 0;
	if (on_disk && !again)
		err = mark_blob(v, value, &seen);
	if (err)
		return err;
	struct sum *known = has_base && !deltas ? find_sum(v, sum_key(value)) : NULL;
	struct mojo_inode inode = { .attr.bucket = bucket };
	bool has_inode = mojo_inode_get(v->tree, bucket, &inode) == 0;
	uint32_t seed = mojo_inode_seed(&inode);
	uint64_t owner = (uint64_t)seed << 32 | number; /* clones have the same */
	if (known && known->graph != owner && known->files) {
		end_run(v);
		mojo_found(v->sink,
			   &(struct mojo_finding){
				   .kind = MOJO_FOUND_SHARED,
				   .severity = MOJO_ERROR,
				   .version = v->version,
				   .bucket = bucket,
				   .address = on_disk ? mojo_ref_decode(value).address : 0,
			   },
			   "slot %" PRIu32 " of this file is slot %" PRIu32 " of file %" PRIu32 ", too", number,
			   (uint32_t)known->graph, (uint32_t)(known->graph >> 32));
	}
	if (known) {
		sum->balance += hash(TERM_PAGES, bucket, 0, 0) * known->balance;
		return 0;
	}
	if (has_base)
		err = get_blob(v, value, MOJO_BLOB_SLOT, &base);
	if (err == -EUCLEAN) {
		sum->damaged = true;
		found_slot(v, bucket, number, mojo_ref_decode(value).address, v->why);
		return 0;
	}
	if (err || again) {
		mojo_blob_put(&v->store->blobs, base);
		return err;
	}
	uint64_t present = 0, real = 0, first = (uint64_t)number * pps, limit = UINT64_MAX;
	if (has_inode)
		limit = (inode.attr.size + v->store->root.page_size - 1) / v->store->root.page_size;
	unsigned at = 0;
	for (uint32_t i = 0; i < pps; i++) {
		const uint8_t *raw = base ? base->data + (size_t)i * MOJO_ENTRY_BYTES : NULL;
		if (at < deltas && mojo_get16(delta + at * MOJO_DELTA_BYTES) == i)
			raw = delta + at++ * MOJO_DELTA_BYTES + 2;
		if (!raw || mojo_get64(raw) == 0)
			continue;
		struct mojo_entry entry = mojo_entry_decode(raw);
		present++;
		real += entry.address != 0;
		sum->suspect |= first + i >= limit;
		if (entry.version)
			mark_page(v, bucket, seed, first + i, &entry);
		else
			found_page(v, MOJO_FOUND_INDEX, bucket, first + i, entry.address,
				   "it is said to be written by no version");
	}
	end_run(v);
	mojo_blob_put(&v->store->blobs, base);
	sum->balance += hash(TERM_PAGES, bucket, 0, 0) * present;
	if (has_base && !deltas && !v->err)
		err = put_sum(v, &(struct sum){ .key = sum_key(value),
						.balance = present,
						.graph = owner,
						.files = (uint32_t)real });
	if (on_disk && !err)
		err = mojo_block_set_add(&v->whole, v->store->space.group_blocks, mojo_ref_decode(value).address, 1);
	return err ? err : v->err;
}

/* ---- cells of the main tree ----------------------------------------------------------------- */

static void walk_inode(struct verify *v, uint32_t bucket, const struct mojo_inode *inode, struct sum *sum)
{
	const struct mojo_attr *a = &inode->attr;
	bool is_dir = S_ISDIR(a->mode), is_root = bucket == MOJO_ROOT_BUCKET;
	if (a->nlink == 0)
		sum->balance += hash(TERM_ORPHAN, bucket, 0, 0);
	else if (!is_root)
		sum->balance += hash(TERM_NAME, bucket, (uint64_t)a->parent << 32 | (a->mode & S_IFMT), inode->cookie);
	if (is_root)
		sum->suspect |= !is_dir || a->nlink < 2 || a->parent != MOJO_ROOT_BUCKET;
	else if (a->nlink)
		sum->suspect |= is_dir ? a->nlink < 2 : a->nlink != 1;
	if (a->nlink)
		*(is_dir ? &sum->directories : &sum->files) += 1;
	if (is_dir) {
		uint64_t subdirectories = a->nlink ? a->nlink - 2 : 0;
		sum->balance += hash(TERM_ENTRIES, bucket, 0, 0) * a->size +
				hash(TERM_SUBDIRECTORIES, bucket, 0, 0) * subdirectories;
		sum->graph += hash(TERM_GRAPH, bucket, a->parent, 0);
		sum->suspect |= a->pages != 0;
	} else {
		struct mojo_slotmap map = { .tree = (struct mojo_tree *)(uintptr_t)v->tree,
					    .pages_per_slot = v->store->root.pages_per_slot };
		uint64_t limit = (a->size + v->store->root.page_size - 1) / v->store->root.page_size, page;
		struct mojo_entry entry;
		sum->balance -= hash(TERM_PAGES, bucket, 0, 0) * a->pages;
		sum->suspect |= mojo_slotmap_next(&map, bucket, limit, &page, &entry) == 0;
	}
}

static void walk_entry(uint32_t dir, uint64_t cookie, const uint8_t *value, unsigned length, struct sum *sum)
{
	uint32_t child = length >= 8 ? mojo_get32(value) : 0, mode = length >= 8 ? mojo_get32(value + 4) : 0;
	const char *name = (const char *)value + 8;
	if (length < 8 || mojo_name_check(name, length - 8) != 0 || cookie < mojo_name_cookie(name, length - 8) ||
	    cookie > mojo_name_cookie(name, length - 8) + 127)
		sum->suspect = true;
	sum->balance -= hash(TERM_NAME, child, (uint64_t)dir << 32 | (mode & S_IFMT), cookie);
	sum->balance -= hash(TERM_ENTRIES, dir, 0, 0);
	if (S_ISDIR(mode))
		sum->balance -= hash(TERM_SUBDIRECTORIES, dir, 0, 0);
}

static int walk_cell(struct verify *v, const uint8_t *key, unsigned key_length, const uint8_t *value, unsigned length,
		     bool again, struct sum *sum)
{
	struct mojo_inode inode;
	unsigned type = key_length ? key[0] : 0;
	if (again && type != MOJO_KEY_SLOT)
		return 0;
	if (type == MOJO_KEY_SLOT && key_length == 9)
		return walk_slot(v, key, value, length, again, sum);
	if (type == MOJO_KEY_INODE && key_length == 5 &&
	    mojo_inode_decode(value, length, mojo_get_be32(key + 1), &inode) == 0)
		walk_inode(v, mojo_get_be32(key + 1), &inode, sum);
	else if (type == MOJO_KEY_ENTRY && key_length == 13)
		walk_entry(mojo_get_be32(key + 1), mojo_get_be64(key + 5), value, length, sum);
	else if (type == MOJO_KEY_ORPHAN && key_length == 5 && length == 0)
		sum->balance -= hash(TERM_ORPHAN, mojo_get_be32(key + 1), 0, 0);
	else
		sum->suspect = true;
	return 0;
}

/* ---- nodes ---------------------------------------------------------------------------------- */

struct bounds { /* of the keys in a subtree: low <= key < high; NULL: no bound */
	const uint8_t *low, *high;
	unsigned low_length, high_length;
};

static int compare_keys(const uint8_t *a, unsigned a_length, const uint8_t *b, unsigned b_length)
{
	int order = memcmp(a, b, a_length < b_length ? a_length : b_length);
	return order ? order : (int)a_length - (int)b_length;
}

static bool within(const struct bounds *bounds, const uint8_t *key, unsigned length)
{
	return (!bounds->low || compare_keys(key, length, bounds->low, bounds->low_length) >= 0) &&
	       (!bounds->high || compare_keys(key, length, bounds->high, bounds->high_length) < 0);
}

/* What a node held whose keys begin at the lower bound, in words. */
static void describe(const struct bounds *bounds, enum mojo_tree_kind kind, char *buf, size_t size)
{
	const uint8_t *low = bounds->low_length >= 5 ? bounds->low : NULL;
	if (kind == MOJO_TREE_SPACE)
		snprintf(buf, size, "which blocks are dead");
	else if (kind == MOJO_TREE_VERSIONS)
		snprintf(buf, size, "versions from %" PRIu32 " on",
			 bounds->low_length == 4 ? mojo_get_be32(bounds->low) : 1);
	else if (!bounds->low || !bounds->low_length || bounds->low[0] == MOJO_KEY_INODE)
		snprintf(buf, size, "files from number %" PRIu32 " on", low ? mojo_get_be32(low + 1) : 1);
	else if (bounds->low[0] == MOJO_KEY_ENTRY)
		snprintf(buf, size, "names in directories from number %" PRIu32 " on",
			 low ? mojo_get_be32(low + 1) : 1);
	else if (bounds->low[0] == MOJO_KEY_SLOT)
		snprintf(buf, size, "where pages are, of files from number %" PRIu32 " on",
			 low ? mojo_get_be32(low + 1) : 1);
	else
		snprintf(buf, size, "files without a name");
}

static void found_node(struct verify *v, enum mojo_tree_kind kind, const uint8_t *ref, const struct bounds *bounds,
		       const char *why)
{
	char what[128];
	struct mojo_finding f = {
		.kind = MOJO_FOUND_INDEX,
		.severity = MOJO_ERROR,
		.version = v->version,
		.address = mojo_ref_in_memory(ref) ? 0 : mojo_ref_decode(ref).address,
	};
	describe(bounds, kind, what, sizeof(what));
	end_run(v);
	if (v->version)
		mojo_found_in(v->sink, &f, "a node of the index (%s) cannot be used: %s", what, why);
	else
		mojo_found(v->sink, &f, "a node of the index (%s) cannot be used: %s", what, why);
}

static int walk_version(struct verify *v, uint32_t version, const uint8_t *ref);

/* A frozen version's cell. */
static int walk_version_cell(struct verify *v, const uint8_t *key, unsigned key_length, const uint8_t *value,
			     unsigned length)
{
	uint32_t version = key_length == 4 ? mojo_get_be32(key) : 0;
	struct mojo_version_value decoded;
	if (!version || version >= v->store->active || mojo_version_decode(value, length, &decoded) != 0) {
		mojo_found(
			v->sink,
			&(struct mojo_finding){ .kind = MOJO_FOUND_INDEX, .severity = MOJO_ERROR, .version = version },
			"what is noted of a version is not of a form that is possible");
		return 0;
	}
	if (decoded.unpublished && version != v->store->active - 1)
		mojo_found(
			v->sink,
			&(struct mojo_finding){ .kind = MOJO_FOUND_INDEX, .severity = MOJO_ERROR, .version = version },
			"the version is noted as not published, though later ones are frozen");
	int err = walk_version(v, version, value);
	v->version = 0;
	v->tree = NULL;
	return err;
}

static int walk_node(struct verify *v, const uint8_t *ref, enum mojo_tree_kind kind, unsigned level,
		     const struct bounds *bounds, struct sum *ret_sum)
{
	struct sum sum = { .key = sum_key(ref) };
	const struct sum *known = find_sum(v, sum.key);
	bool again = known, seen;
	if (known && !known->damaged) {
		*ret_sum = *known;
		return 0;
	}
	int err = 0;
	if (!again && !mojo_ref_in_memory(ref))
		err = mark_blob(v, ref, &seen);
	struct mojo_blob *blob;
	if (!err)
		err = get_blob(v, ref, MOJO_BLOB_NODE, &blob);
	if (err == -EUCLEAN) {
		found_node(v, kind, ref, bounds, v->why);
		*ret_sum = (struct sum){ .damaged = true };
		return 0;
	}
	if (err)
		return err;
	unsigned count = mojo_node_count(blob->data), length, key_length;
	if (mojo_node_kind(blob->data) != (unsigned)kind ||
	    (level != LEVEL_ANY && mojo_node_level(blob->data) != level)) {
		found_node(v, kind, ref, bounds, "it belongs to another place");
		*ret_sum = (struct sum){ .damaged = true };
		mojo_blob_put(&v->store->blobs, blob);
		return 0;
	}
	level = mojo_node_level(blob->data);
	bool ordered = true;
	for (unsigned i = level ? 1 : 0; i < count; i++) {
		const uint8_t *key = mojo_node_key(blob->data, i, &key_length);
		ordered &= within(bounds, key, key_length);
	}
	if (!ordered) {
		found_node(v, kind, ref, bounds, "its keys are those of another place");
		sum.damaged = true;
	}
	for (unsigned i = 0; i < count && !err; i++) {
		const uint8_t *key = mojo_node_key(blob->data, i, &key_length);
		const uint8_t *value = mojo_node_value(blob->data, i, &length);
		if (level) {
			struct bounds below = *bounds;
			struct sum part = { 0 };
			if (i > 0) {
				below.low = key;
				below.low_length = key_length;
			}
			if (i + 1 < count)
				below.high = mojo_node_key(blob->data, i + 1, &below.high_length);
			err = walk_node(v, value, kind, level - 1, &below, &part);
			add_sum(&sum, &part);
		} else if (kind == MOJO_TREE_MAIN) {
			err = walk_cell(v, key, key_length, value, length, again, &sum);
		} else if (kind == MOJO_TREE_VERSIONS && !again) {
			err = walk_version_cell(v, key, key_length, value, length);
		}
	}
	mojo_blob_put(&v->store->blobs, blob);
	if (!err && !v->err)
		err = put_sum(v, &sum);
	if (!err && !sum.damaged && !mojo_ref_in_memory(ref))
		err = mojo_block_set_add(&v->whole, v->store->space.group_blocks, sum.key, 1);
	*ret_sum = sum;
	return err ? err : v->err;
}

/* ---- versions ------------------------------------------------------------------------------- */

static int walk_version(struct verify *v, uint32_t version, const uint8_t *ref)
{
	struct mojo_tree tree = {
		.blobs = &v->store->blobs,
		.kind = MOJO_TREE_MAIN,
		.version = version,
		.held = UINT32_MAX,
	};
	memcpy(tree.root, ref, MOJO_REF_BYTES);
	v->version = version;
	v->tree = &tree;
	v->sink->result.versions++;
	struct sum sum = { .suspect = true };
	int err = 0;
	if (!mojo_ref_is_null(ref))
		err = walk_node(v, ref, MOJO_TREE_MAIN, LEVEL_ANY, &(struct bounds){ 0 }, &sum);
	end_run(v);
	bool active = version == v->store->active;
	struct mojo_inode root;
	if (!err && !sum.damaged && mojo_inode_get(&tree, MOJO_ROOT_BUCKET, &root) != 0)
		sum.suspect = true;
	/* With parts of it missing, what does not agree says nothing new. */
	if (!err && !sum.damaged) {
		uint64_t before = v->sink->pending_count + v->sink->result.errors;
		bool agreed = !sum.suspect && sum.balance == 0;
		if (!agreed)
			err = mojo_agree(v->store, &tree, version, false, v->sink, NULL);
		else if (!v->graph_known || v->graph != sum.graph)
			err = mojo_agree_circles(v->store, &tree, version, v->sink);
		if (!err && !agreed && v->sink->pending_count + v->sink->result.errors == before)
			mojo_found_in(v->sink,
				      &(struct mojo_finding){
					      .kind = MOJO_FOUND_COUNT, .severity = MOJO_ERROR, .version = version },
				      "names, files and pages do not agree");
		v->graph_known = agreed;
		v->graph = sum.graph;
	}
	if (!err && active && !sum.damaged &&
	    (sum.files != v->store->files || sum.directories != v->store->directories))
		mojo_found(
			v->sink,
			&(struct mojo_finding){ .kind = MOJO_FOUND_COUNT, .severity = MOJO_ERROR, .version = version },
			"the root counts %" PRIu64 " files and %" PRIu64 " directories; there are %" PRIu32
			" and %" PRIu32,
			v->store->files, v->store->directories, sum.files, sum.directories);
	mojo_sink_next(v->sink, version);
	v->versions_done++;
	return err ? err : mojo_sink_progress(v->sink, "index", v->versions_done, v->store->frozen + 1);
}

/* ---- the account of dead blocks ------------------------------------------------------------- */

static void found_space(struct verify *v, uint32_t chunk, const char *text)
{
	struct mojo_finding f = {
		.kind = MOJO_FOUND_SPACE,
		.severity = MOJO_ERROR,
		.address = (uint64_t)chunk * v->store->root.chunk_blocks,
	};
	mojo_found(v->sink, &f, "chunk %08" PRIx32 ": %s", chunk, text);
}

static int load_group(struct verify *v, uint64_t group, const uint8_t *bits)
{
	uint32_t group_blocks = v->store->space.group_blocks, chunk_blocks = v->store->root.chunk_blocks;
	uint64_t base = group * group_blocks;
	struct chunk *chunk = find_chunk(v, base);
	if (!chunk) /* it was removed or recycled since, and the root does not know yet */
		return 0;
	if (!chunk->dead) {
		chunk->dead = calloc(1, chunk_blocks / 8);
		chunk->returned = calloc(1, chunk_blocks / 8);
		if (!chunk->dead || !chunk->returned)
			return -ENOMEM;
	}
	memcpy(chunk->dead + base % chunk_blocks / 8, bits, group_blocks / 8);
	memcpy(chunk->returned + base % chunk_blocks / 8, bits + MOJO_SPACE_BITMAP_BYTES, group_blocks / 8);
	for (uint32_t i = 0; i < group_blocks / 8; i++) {
		if (bits[MOJO_SPACE_BITMAP_BYTES + i] & ~bits[i]) {
			found_space(v, chunk->number, "blocks were given back that are not dead");
			break;
		}
	}
	return 0;
}

/* A group with dead blocks that were not given back is pending, any other is not. */
static int check_pending(struct verify *v, uint64_t group, const uint8_t *bits, bool *ret_right)
{
	uint8_t key[9];
	struct mojo_cell cell;
	bool waits = false;
	for (uint32_t i = 0; i < v->store->space.group_blocks / 8; i++)
		waits |= (bits[i] & ~bits[MOJO_SPACE_BITMAP_BYTES + i]) != 0;
	key[0] = MOJO_SPACE_PENDING;
	mojo_put_be64(key + 1, group);
	int err = mojo_tree_get(&v->store->dead, key, sizeof(key), &cell);
	if (err && err != -ENOENT)
		return err;
	*ret_right = waits == !err;
	return 0;
}

static int load_space_cell(struct verify *v, const struct mojo_cell *cell)
{
	const uint8_t *key = cell->key;
	unsigned type = cell->key_length ? key[0] : 0;
	bool by_group = type == MOJO_SPACE_GROUP || type == MOJO_SPACE_PENDING, right = true;
	uint64_t group = by_group && cell->key_length == 9 ? mojo_get_be64(key + 1) : 0;
	uint64_t groups = ((MOJO_ADDRESS_MAX + 1) / v->store->space.group_blocks);
	static const unsigned lengths[] = { [MOJO_SPACE_GROUP] = 2 * MOJO_SPACE_BITMAP_BYTES,
					    [MOJO_SPACE_PENDING] = 0,
					    [MOJO_SPACE_CHUNK] = 8,
					    [MOJO_SPACE_SPARE] = 0 };
	if (type < MOJO_SPACE_GROUP || type > MOJO_SPACE_SPARE || cell->key_length != (by_group ? 9 : 5) ||
	    cell->value_length != lengths[type] || group >= groups) {
		mojo_found(v->sink, &(struct mojo_finding){ .kind = MOJO_FOUND_SPACE, .severity = MOJO_ERROR },
			   "the account of dead blocks holds what cannot be");
		return 0;
	}
	int err = 0;
	struct chunk *chunk = find_chunk(v, by_group ? group * v->store->space.group_blocks
						     : (uint64_t)mojo_get_be32(key + 1) * v->store->root.chunk_blocks);
	if (type == MOJO_SPACE_GROUP) {
		err = load_group(v, group, cell->value);
		if (!err)
			err = check_pending(v, group, cell->value, &right);
		if (!err && !right && chunk)
			found_space(v, chunk->number,
				    "dead blocks are not noted as waiting to be given back, or are in vain");
	} else if (type == MOJO_SPACE_PENDING) {
		uint8_t other[9];
		struct mojo_cell there;
		memcpy(other, key, sizeof(other));
		other[0] = MOJO_SPACE_GROUP;
		err = mojo_tree_get(&v->store->dead, other, sizeof(other), &there);
		if (err == -ENOENT) {
			err = 0;
			if (chunk)
				found_space(v, chunk->number, "blocks wait to be given back that are not dead");
		}
	} else if (type == MOJO_SPACE_CHUNK && chunk) {
		chunk->dead_said = mojo_get32(cell->value);
		chunk->returned_said = mojo_get32(cell->value + 4);
	} else if (type == MOJO_SPACE_SPARE && chunk) {
		chunk->is_spare = true;
	}
	return err;
}

static int load_space(struct verify *v)
{
	uint8_t key[MOJO_KEY_BYTES_MAX] = { 0 };
	unsigned length = 0;
	struct mojo_cell cell;
	int err;
	for (bool behind = false; !(err = mojo_tree_next(&v->store->dead, key, length, behind, &cell)); behind = true) {
		err = load_space_cell(v, &cell);
		if (err)
			break;
		memcpy(key, cell.key, cell.key_length);
		length = cell.key_length;
	}
	if (err == -ENOENT)
		return 0;
	if (err == -EUCLEAN || err == -EIO) {
		v->space_damaged = true; /* walking the tree tells where */
		return 0;
	}
	return err;
}

static uint32_t count_bits(const uint8_t *bits, uint32_t bytes)
{
	uint32_t count = 0;
	for (uint32_t i = 0; bits && i < bytes; i++)
		count += (unsigned)__builtin_popcount(bits[i]);
	return count;
}

/* Blocks of one chunk that are neither in use nor known dead, and the sums. */
static void settle_chunk(struct verify *v, struct chunk *chunk)
{
	uint32_t chunk_blocks = v->store->root.chunk_blocks;
	uint64_t base = (uint64_t)chunk->number * chunk_blocks, leaks = 0, first = 0;
	if (!chunk->is_spare && !v->space_damaged &&
	    (count_bits(chunk->dead, chunk_blocks / 8) != chunk->dead_said ||
	     count_bits(chunk->returned, chunk_blocks / 8) != chunk->returned_said))
		found_space(v, chunk->number, "the number of its dead blocks is wrong");
	/* Where the log is damaged, or the account is, nobody knows what the rest is. */
	if (v->space_damaged || v->end == UINT64_MAX || v->sink->kinds[MOJO_FOUND_INDEX])
		return;
	for (uint64_t i = 0; i < chunk_blocks && base + i < v->end; i++) {
		if ((chunk->marks && chunk->marks[i]) || is_dead(v, chunk, base + i))
			continue;
		first = leaks++ ? first : base + i;
	}
	if (leaks)
		mojo_found(v->sink,
			   &(struct mojo_finding){
				   .kind = MOJO_FOUND_LEAK,
				   .severity = v->store->mark_pending ? MOJO_INFO : MOJO_WARNING,
				   .address = first,
				   .blocks = leaks,
			   },
			   "chunk %08" PRIx32 ": %" PRIu64 " blocks are neither in use nor known dead%s", chunk->number,
			   leaks,
			   v->store->mark_pending
				   ? "; a version was dropped, and what it alone held is still to be found"
				   : "; their space does not come back by itself");
}

/* ---- can it be read at all? ----------------------------------------------------------------- */

static int whole_below(struct mojo_store *store, const uint8_t *ref, enum mojo_tree_kind kind, unsigned level,
		       const struct bounds *bounds, struct mojo_block_set *known)
{
	uint32_t group_blocks = store->space.group_blocks;
	uint64_t address = mojo_ref_in_memory(ref) ? 0 : mojo_ref_decode(ref).address;
	if (address && mojo_block_set_has(known, group_blocks, address))
		return 0;
	struct mojo_blob *blob;
	int err = mojo_blob_get(&store->blobs, ref, MOJO_BLOB_NODE, &blob);
	if (err)
		return err == -ENOMEM ? err : -EUCLEAN;
	unsigned count = mojo_node_count(blob->data), length, key_length;
	if (mojo_node_kind(blob->data) != (unsigned)kind ||
	    (level != LEVEL_ANY && mojo_node_level(blob->data) != level))
		err = -EUCLEAN;
	level = mojo_node_level(blob->data);
	for (unsigned i = 0; i < count && !err; i++) {
		const uint8_t *key = mojo_node_key(blob->data, i, &key_length);
		const uint8_t *value = mojo_node_value(blob->data, i, &length);
		if ((!level || i) && !within(bounds, key, key_length)) {
			err = -EUCLEAN;
		} else if (level) {
			struct bounds below = *bounds;
			if (i > 0) {
				below.low = key;
				below.low_length = key_length;
			}
			if (i + 1 < count)
				below.high = mojo_node_key(blob->data, i + 1, &below.high_length);
			err = whole_below(store, value, kind, level - 1, &below, known);
		} else if (kind == MOJO_TREE_VERSIONS) {
			err = length < MOJO_REF_BYTES || mojo_ref_is_null(value)
				      ? -EUCLEAN
				      : whole_below(store, value, MOJO_TREE_MAIN, LEVEL_ANY, &(struct bounds){ 0 },
						    known);
		} else if (kind == MOJO_TREE_MAIN && mojo_leaf_ref_offset(kind, key, key_length) == 0 &&
			   !mojo_ref_is_null(value)) {
			uint64_t slot = mojo_ref_in_memory(value) ? 0 : mojo_ref_decode(value).address;
			struct mojo_blob *base;
			if (!slot || mojo_block_set_has(known, group_blocks, slot))
				continue;
			err = mojo_blob_get(&store->blobs, value, MOJO_BLOB_SLOT, &base);
			if (!err) {
				mojo_blob_put(&store->blobs, base);
				err = mojo_block_set_add(known, group_blocks, slot, 1);
			} else if (err != -ENOMEM) {
				err = -EUCLEAN;
			}
		}
	}
	mojo_blob_put(&store->blobs, blob);
	if (!err && address)
		err = mojo_block_set_add(known, group_blocks, address, 1);
	return err;
}

int mojo_tree_whole(struct mojo_store *store, const uint8_t *ref, enum mojo_tree_kind kind,
		    struct mojo_block_set *known)
{
	return mojo_ref_is_null(ref) ? 0 : whole_below(store, ref, kind, LEVEL_ANY, &(struct bounds){ 0 }, known);
}

/* Can the older root be fallen back upon? */
static int verify_other(struct verify *v, const struct mojo_root *root)
{
	struct mojo_store *store = v->store;
	uint64_t reached = 0;
	int err = mojo_tree_whole(store, root->main_ref, MOJO_TREE_MAIN, &v->whole);
	if (!err)
		err = mojo_tree_whole(store, root->versions_ref, MOJO_TREE_VERSIONS, &v->whole);
	if (!err)
		err = mojo_tree_whole(store, root->space_ref, MOJO_TREE_SPACE, &v->whole);
	if (!err)
		err = mojo_recover_follow(store, root, &reached);
	bool short_log = !err && reached < store->root.log_sequence;
	if (err == -EUCLEAN || short_log)
		mojo_found(v->sink, &(struct mojo_finding){ .kind = MOJO_FOUND_ROOT, .severity = MOJO_WARNING },
			   "the older root (generation %" PRIu64
			   ") leads to %s that cannot be read: should the newer one go bad, it would not serve",
			   root->generation, short_log ? "a log" : "pieces of the index");
	return err == -EUCLEAN ? 0 : err;
}

/* ---- all of it ------------------------------------------------------------------------------ */

int mojo_verify(struct mojo_store *store, const struct mojo_root *other, struct mojo_sink *sink)
{
	struct verify v = {
		.store = store,
		.sink = sink,
		.end = store->lost_sequence ? UINT64_MAX : store->log.tail,
	};
	struct sum sum;
	void (*damaged)(void *, const char *, uint64_t) = store->blobs.damaged;
	void *arg = store->blobs.arg;
	store->blobs.damaged = on_damage;
	store->blobs.arg = &v;
	int err = list_chunks(&v);
	if (!err)
		err = load_space(&v);
	if (!err && !mojo_ref_is_null(store->versions.root))
		err = walk_node(&v, store->versions.root, MOJO_TREE_VERSIONS, LEVEL_ANY, &(struct bounds){ 0 }, &sum);
	uint64_t frozen = sink->result.versions;
	if (!err && frozen != store->frozen && !sink->kinds[MOJO_FOUND_INDEX])
		mojo_found(sink, &(struct mojo_finding){ .kind = MOJO_FOUND_COUNT, .severity = MOJO_ERROR },
			   "the root counts %" PRIu64 " frozen versions; there are %" PRIu64, store->frozen, frozen);
	if (!err)
		err = walk_version(&v, store->active, store->main.root);
	v.version = 0;
	v.tree = NULL;
	if (!err && !mojo_ref_is_null(store->dead.root))
		err = walk_node(&v, store->dead.root, MOJO_TREE_SPACE, LEVEL_ANY, &(struct bounds){ 0 }, &sum);
	mojo_sink_next(sink, 0);
	if (!err && other && !sink->kinds[MOJO_FOUND_INDEX]) /* else they share it, or a repair looks */
		err = verify_other(&v, other);
	for (size_t i = 0; i < v.chunk_count && !err; i++)
		settle_chunk(&v, &v.chunks[i]);
	store->blobs.damaged = damaged;
	store->blobs.arg = arg;
	for (size_t i = 0; i < v.chunk_count; i++) {
		free(v.chunks[i].marks);
		free(v.chunks[i].dead);
		free(v.chunks[i].returned);
	}
	mojo_block_set_free(&v.whole);
	free(v.chunks);
	free(v.sums);
	return err;
}
