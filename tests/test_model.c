/* SPDX-License-Identifier: MIT */
/*
 * The model test: random operations on the engine and, side by side, on a plain model of what they mean (a
 * list of nodes with names, and sparse byte arrays). Whatever the engine answers must be what the model says,
 * now, after reopening, after a crash, and in every frozen version.
 *
 * The engine runs without its background thread and never flushes unasked, so that a batch ends only with a
 * call that says so (sync, commit, publish, drop, checkpoint). After a crash the store must be exactly the model as of
 * the last such call: the active version, the frozen ones, and the one that is frozen and not published, which is
 * changed at random (settled) while the active one changes as well.
 *
 *   test_model [SEED [OPERATIONS]]
 *   MOJO_TEST_SEED, MOJO_TEST_OPS   the same; the seed "random" is one from the clock
 *   MOJO_TEST_IO=host               on the host's file system (under TMPDIR) and not in memory
 *   MOJO_TEST_TRACE=1               print every operation
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "io_memory.h"
#include "mojo.h"
#include "support/support.h"

#define PIECE            4096u
#define NODES_MAX        160u
#define VERSIONS_MAX     10u
#define IO_BYTES_MAX     (256u << 10)
#define SMALL_FILE_BYTES (2u << 20)
#define READ_WHOLE_BYTES (8u << 20)

/* ---- sparse bytes, shared between snapshots ----------------------------------------------- */

struct piece {
	unsigned refs;
	unsigned char data[PIECE];
};

struct content {
	unsigned refs;
	size_t count, capacity;
	struct place {
		uint64_t number; /* ascending; absent ones are zeros */
		struct piece *piece;
	} * places;
};

static void *checked(void *pointer)
{
	if (!pointer) {
		fputs("test_model: out of memory\n", stderr);
		abort();
	}
	return pointer;
}

static void content_put(struct content *content)
{
	if (!content || --content->refs)
		return;
	for (size_t i = 0; i < content->count; i++) {
		if (!--content->places[i].piece->refs)
			free(content->places[i].piece);
	}
	free(content->places);
	free(content);
}

static struct content *content_new(void)
{
	struct content *content = checked(calloc(1, sizeof(*content)));

	content->refs = 1;
	return content;
}

/* Makes *content the caller's alone. */
static struct content *content_own(struct content **content)
{
	struct content *old = *content;
	struct content *copy;

	if (old->refs == 1)
		return old;
	copy = content_new();
	copy->count = copy->capacity = old->count;
	copy->places = checked(malloc((old->count + 1) * sizeof(*copy->places)));
	for (size_t i = 0; i < old->count; i++) {
		copy->places[i] = old->places[i];
		copy->places[i].piece->refs++;
	}
	content_put(old);
	*content = copy;
	return copy;
}

/* Index of the first place at or behind @number. */
static size_t content_find(const struct content *content, uint64_t number)
{
	size_t low = 0;
	size_t high = content->count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (content->places[middle].number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static unsigned char *content_piece_for_write(struct content *content, uint64_t number)
{
	size_t i = content_find(content, number);
	struct piece *piece;

	if (i == content->count || content->places[i].number != number) {
		if (content->count == content->capacity) {
			content->capacity = content->capacity ? content->capacity * 2 : 16;
			content->places =
				checked(realloc(content->places, content->capacity * sizeof(*content->places)));
		}
		memmove(&content->places[i + 1], &content->places[i], (content->count - i) * sizeof(*content->places));
		content->count++;
		piece = checked(calloc(1, sizeof(*piece)));
		piece->refs = 1;
		content->places[i] = (struct place){ .number = number, .piece = piece };
	} else if (content->places[i].piece->refs > 1) {
		piece = checked(malloc(sizeof(*piece)));
		memcpy(piece, content->places[i].piece, sizeof(*piece));
		piece->refs = 1;
		content->places[i].piece->refs--;
		content->places[i].piece = piece;
	}
	return content->places[i].piece->data;
}

static void content_write(struct content **shared, uint64_t offset, const unsigned char *data, size_t length)
{
	struct content *content = content_own(shared);

	while (length) {
		size_t start = (size_t)(offset % PIECE);
		size_t part = PIECE - start < length ? PIECE - start : length;

		memcpy(content_piece_for_write(content, offset / PIECE) + start, data, part);
		data += part;
		offset += part;
		length -= part;
	}
}

/* Zeros in [@offset, @end). */
static void content_zero(struct content **shared, uint64_t offset, uint64_t end)
{
	struct content *content = content_own(shared);
	size_t keep;
	size_t i = content_find(content, offset / PIECE);

	for (keep = i; i < content->count; i++) {
		uint64_t first = content->places[i].number * PIECE;

		if (first >= end || (first >= offset && end - first >= PIECE)) {
			if (first < end) {
				if (!--content->places[i].piece->refs)
					free(content->places[i].piece);
				continue;
			}
		} else {
			size_t from = offset > first ? (size_t)(offset - first) : 0;
			size_t to = end - first < PIECE ? (size_t)(end - first) : PIECE;

			memset(content_piece_for_write(content, content->places[i].number) + from, 0, to - from);
		}
		content->places[keep++] = content->places[i];
	}
	content->count = keep;
}

/* The @length bytes of @from at @offset_in become those of *shared at @offset_out. */
static void content_copy(struct content **shared, const struct content *from, uint64_t offset_in, uint64_t offset_out,
			 uint64_t length)
{
	content_zero(shared, offset_out, offset_out + length);
	for (size_t i = content_find(from, offset_in / PIECE); i < from->count; i++) {
		uint64_t first = from->places[i].number * PIECE;
		uint64_t begin = first > offset_in ? first : offset_in;
		uint64_t end = first + PIECE < offset_in + length ? first + PIECE : offset_in + length;

		if (first >= offset_in + length)
			break;
		content_write(shared, begin - offset_in + offset_out, from->places[i].piece->data + (begin - first),
			      (size_t)(end - begin));
	}
}

static void content_read(const struct content *content, uint64_t offset, unsigned char *buf, size_t length)
{
	size_t i = content_find(content, offset / PIECE);

	memset(buf, 0, length);
	for (; i < content->count; i++) {
		uint64_t first = content->places[i].number * PIECE;
		uint64_t from = first > offset ? first : offset;
		uint64_t to = first + PIECE < offset + length ? first + PIECE : offset + length;

		if (first >= offset + length)
			break;
		memcpy(buf + (from - offset), content->places[i].piece->data + (from - first), (size_t)(to - from));
	}
}

/* ---- the model ---------------------------------------------------------------------------- */

struct node {
	bool alive;
	bool linked; /* a name leads to it */
	unsigned held;
	bool sparse; /* writes go to offsets of many GiB */
	uint32_t bucket;
	uint32_t mode, uid, gid, rdev;
	unsigned parent; /* index of its directory */
	char name[MOJO_NAME_MAX + 1];
	char *target;            /* of a symbolic link, owned */
	struct content *content; /* of a regular file, counted */
	uint64_t size;
	/* As the engine had them when the snapshot was taken. */
	bool times_known;
	int64_t atime_ns, mtime_ns, ctime_ns, btime_ns;
};

/* Node 0 is the root. */
struct tree {
	struct node nodes[NODES_MAX];
};

struct frozen {
	uint32_t version; /* 0: none */
	bool settled;
	enum mojo_verdict verdict;
	char verdict_text[MOJO_VERDICT_MAX + 1];
	int64_t time_ns;
	size_t message_length;
	char message[MOJO_MESSAGE_MAX + 1];
	struct tree *tree;
};

struct run {
	uint32_t page_size;
	bool host;
	uint64_t seed;
	uint64_t random;
	unsigned long operations, operation;
	bool trace;

	char directory[PATH_MAX]; /* of the host, if on it */
	struct mojo_io *io;
	struct mojo_store *store;
	char event[600]; /* the last one */

	struct tree *now;
	struct tree *durable; /* what a crash must come back to */
	struct frozen draft;  /* frozen, not published */
	struct frozen durable_draft;
	uint32_t durable_active;
	struct frozen frozen[VERSIONS_MAX];
	unsigned frozen_count;
	uint32_t active;
	uint64_t checkpoints; /* since the store was opened, as far as we know of them */

	unsigned char *buf, *buf2; /* IO_BYTES_MAX each */
	unsigned long reopened, crashed, power_cuts, committed, dropped, surprises, verified;
	unsigned long copied;
	unsigned long settled, published, given_up, refrozen; /* steps, versions, versions; crashes with one */
	unsigned long restored;                               /* steps that wrote what was there before */
};

static void __attribute__((format(printf, 2, 3), noreturn)) die(struct run *r, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "test_model: page size %" PRIu32 ", seed %" PRIu64 ", operation %lu: ", r->page_size, r->seed,
		r->operation);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	if (r->event[0])
		fprintf(stderr, " [last event: %s]", r->event);
	fputc('\n', stderr);
	if (getenv("MOJO_TEST_ABORT"))
		abort();
	fail();
	abort();
}

static void __attribute__((format(printf, 2, 3))) trace(struct run *r, const char *format, ...)
{
	va_list args;

	if (!r->trace)
		return;
	fprintf(stderr, "%lu: ", r->operation);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
}

static void expect(struct run *r, int got, int wanted, const char *what)
{
	if (got != wanted)
		die(r, "%s answered %d (%s), not %d (%s)", what, got, strerror(-got), wanted, strerror(-wanted));
}

static uint64_t random64(struct run *r)
{
	r->random ^= r->random >> 12;
	r->random ^= r->random << 25;
	r->random ^= r->random >> 27;
	return r->random * 0x2545f4914f6cdd1dull;
}

static uint64_t below(struct run *r, uint64_t limit)
{
	return (random64(r) >> 11) % limit;
}

static bool chance(struct run *r, unsigned one_in)
{
	return below(r, one_in) == 0;
}

static void node_clear(struct node *node)
{
	content_put(node->content);
	free(node->target);
	*node = (struct node){ 0 };
}

static void tree_free(struct tree *tree)
{
	if (!tree)
		return;
	for (unsigned i = 0; i < NODES_MAX; i++)
		node_clear(&tree->nodes[i]);
	free(tree);
}

/* What is left of @tree when nobody holds anything: nameless nodes are gone. */
static struct tree *tree_copy(const struct tree *tree)
{
	struct tree *copy = checked(calloc(1, sizeof(*copy)));

	for (unsigned i = 0; i < NODES_MAX; i++) {
		const struct node *from = &tree->nodes[i];
		struct node *to = &copy->nodes[i];

		if (!from->alive || !from->linked)
			continue;
		*to = *from;
		to->held = 0;
		if (to->content)
			to->content->refs++;
		if (to->target)
			to->target = checked(strdup(to->target));
	}
	return copy;
}

static unsigned children_of(const struct tree *tree, unsigned dir, unsigned *ret_dirs)
{
	unsigned count = 0;

	*ret_dirs = 0;
	for (unsigned i = 1; i < NODES_MAX; i++) {
		const struct node *node = &tree->nodes[i];

		if (node->alive && node->linked && node->parent == dir) {
			count++;
			*ret_dirs += S_ISDIR(node->mode);
		}
	}
	return count;
}

static struct node *tree_lookup(struct tree *tree, unsigned dir, const char *name)
{
	for (unsigned i = 1; i < NODES_MAX; i++) {
		struct node *node = &tree->nodes[i];

		if (node->alive && node->linked && node->parent == dir && !strcmp(node->name, name))
			return node;
	}
	return NULL;
}

static unsigned index_of(const struct tree *tree, const struct node *node)
{
	return (unsigned)(node - tree->nodes);
}

/* Is @dir the node @inner, or above it? */
static bool is_within(const struct tree *tree, unsigned inner, unsigned dir)
{
	while (inner != dir) {
		if (inner == 0)
			return false;
		inner = tree->nodes[inner].parent;
	}
	return true;
}

static struct node *pick(struct run *r, bool (*wanted)(const struct node *))
{
	unsigned start = (unsigned)below(r, NODES_MAX);

	for (unsigned i = 0; i < NODES_MAX; i++) {
		struct node *node = &r->now->nodes[(start + i) % NODES_MAX];

		if (node->alive && wanted(node))
			return node;
	}
	return NULL;
}

static bool is_file(const struct node *node)
{
	return S_ISREG(node->mode);
}

static bool is_linked_dir(const struct node *node)
{
	return S_ISDIR(node->mode) && node->linked;
}

static bool is_held(const struct node *node)
{
	return node->held > 0;
}

static bool is_linked_file(const struct node *node)
{
	return S_ISREG(node->mode) && node->linked;
}

static bool is_any(const struct node *node)
{
	(void)node;
	return true;
}

/* ---- verification ------------------------------------------------------------------------- */

struct item {
	char name[MOJO_NAME_MAX + 1];
	struct mojo_attr attr;
	uint64_t cookie;
};

struct listing {
	struct item *items;
	size_t count, capacity;
	size_t room; /* entries to take before saying stop */
	bool stopped;
};

static bool collect(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct listing *listing = arg;
	struct item *item;

	if (!listing->room) {
		listing->stopped = true;
		return false;
	}
	listing->room--;
	if (listing->count == listing->capacity) {
		listing->capacity = listing->capacity ? listing->capacity * 2 : 32;
		listing->items = checked(realloc(listing->items, listing->capacity * sizeof(*listing->items)));
	}
	item = &listing->items[listing->count++];
	snprintf(item->name, sizeof(item->name), "%s", name);
	item->attr = *attr;
	item->cookie = cookie;
	return true;
}

static void check_attr(struct run *r, uint32_t version, const struct tree *tree, const struct node *node,
		       const struct mojo_attr *attr, const char *how)
{
	unsigned dirs = 0;
	uint64_t size = node->size;
	uint32_t nlink = node->linked ? 1 : 0;
	uint32_t parent = node->linked ? tree->nodes[node->parent].bucket : 0;

	if (S_ISDIR(node->mode)) {
		size = children_of(tree, index_of(tree, node), &dirs);
		nlink = 2 + dirs;
	}
	if (node == &tree->nodes[0])
		parent = attr->parent; /* the root's is not specified */
	if (attr->bucket != node->bucket || attr->mode != node->mode || attr->uid != node->uid ||
	    attr->gid != node->gid || attr->rdev != node->rdev || attr->size != size || attr->nlink != nlink ||
	    attr->parent != parent)
		die(r,
		    "%s of '%.40s' in version %" PRIu32 ": bucket %" PRIu32 "/%" PRIu32 " mode %o/%o uid %" PRIu32
		    "/%" PRIu32 " gid %" PRIu32 "/%" PRIu32 " rdev %" PRIu32 "/%" PRIu32 " size %" PRIu64 "/%" PRIu64
		    " nlink %" PRIu32 "/%" PRIu32 " parent %" PRIu32 "/%" PRIu32 " (engine/model)",
		    how, node->name, version, attr->bucket, node->bucket, attr->mode, node->mode, attr->uid, node->uid,
		    attr->gid, node->gid, attr->rdev, node->rdev, attr->size, size, attr->nlink, nlink, attr->parent,
		    parent);
	if (node->times_known && (attr->atime_ns != node->atime_ns || attr->mtime_ns != node->mtime_ns ||
				  attr->ctime_ns != node->ctime_ns || attr->btime_ns != node->btime_ns))
		die(r, "%s of '%.40s' in version %" PRIu32 ": times differ from when it was made durable", how,
		    node->name, version);
}

static void check_range(struct run *r, uint32_t version, const struct node *node, uint64_t offset, size_t length)
{
	size_t wanted = offset >= node->size           ? 0
			: node->size - offset < length ? (size_t)(node->size - offset)
						       : length;
	size_t got = 0;

	memset(r->buf, 0xcd, length);
	expect(r, mojo_read(r->store, version, node->bucket, offset, r->buf, length, &got), 0, "mojo_read");
	if (got != wanted)
		die(r,
		    "read of %zu at %" PRIu64 " of '%.40s' (bucket %" PRIu32 ", version %" PRIu32
		    ") gave %zu bytes, not %zu",
		    length, offset, node->name, node->bucket, version, got, wanted);
	content_read(node->content, offset, r->buf2, wanted);
	if (!memcmp(r->buf, r->buf2, wanted))
		return;
	for (size_t i = 0; i < wanted; i++) {
		if (r->buf[i] == r->buf2[i])
			continue;
		die(r,
		    "byte %" PRIu64 " of '%.40s' (bucket %" PRIu32 ", size %" PRIu64 ", version %" PRIu32
		    ") is %02x, not %02x",
		    offset + i, node->name, node->bucket, node->size, version, r->buf[i], r->buf2[i]);
	}
}

/* All map entries of all versions, to see that no two contents share an address. */
struct owned_address {
	uint64_t address, page;
	uint32_t bucket, version, checksum;
};

struct addresses {
	struct owned_address *list;
	size_t count, capacity;
};

/* Walks the map of a file; what it lists is compared, too, if @compare. */
static void check_map(struct run *r, uint32_t version, const struct node *node, bool compare, struct addresses *all)
{
	struct mojo_map_entry entries[64];
	struct mojo_attr attr;
	uint64_t first = 0;
	uint64_t pages = 0;
	size_t count;

	do {
		expect(r, mojo_map(r->store, version, node->bucket, first, entries, 64, &count), 0, "mojo_map");
		for (size_t i = 0; i < count; i++) {
			if (entries[i].page < first || entries[i].page * r->page_size >= node->size)
				die(r,
				    "map of bucket %" PRIu32 " lists page %" PRIu64 " behind its end or out of order",
				    node->bucket, entries[i].page);
			if (entries[i].version > (version ? version : r->active))
				die(r,
				    "map of bucket %" PRIu32 " in version %" PRIu32 " has a page of version %" PRIu32,
				    node->bucket, version, entries[i].version);
			first = entries[i].page + 1;
			pages++;
			if (compare)
				check_range(r, version, node, entries[i].page * r->page_size, r->page_size);
			if (!all || !entries[i].version)
				continue;
			if (all->count == all->capacity) {
				all->capacity = all->capacity ? all->capacity * 2 : 4096;
				all->list = checked(realloc(all->list, all->capacity * sizeof(*all->list)));
			}
			all->list[all->count++] = (struct owned_address){
				.address = entries[i].address,
				.page = entries[i].page,
				.bucket = node->bucket,
				.version = entries[i].version,
				.checksum = entries[i].checksum,
			};
		}
	} while (count == 64);
	expect(r, mojo_getattr(r->store, version, node->bucket, &attr), 0, "mojo_getattr");
	if (attr.pages != pages)
		die(r, "bucket %" PRIu32 " of version %" PRIu32 " claims %" PRIu64 " pages, and its map has %" PRIu64,
		    node->bucket, version, attr.pages, pages);
}

static void check_content(struct run *r, uint32_t version, const struct node *node, struct addresses *all)
{
	bool whole = node->size <= READ_WHOLE_BYTES;

	if (whole) {
		for (uint64_t offset = 0; offset < node->size; offset += IO_BYTES_MAX)
			check_range(r, version, node, offset, IO_BYTES_MAX);
	} else {
		for (size_t i = 0; i < node->content->count; i++) {
			uint64_t offset = node->content->places[i].number * PIECE;

			if (offset < node->size)
				check_range(r, version, node, offset, PIECE);
		}
		check_range(r, version, node, node->size - 10, 20);
	}
	check_map(r, version, node, !whole, all);
}

static void check_directory(struct run *r, uint32_t version, struct tree *tree, unsigned dir)
{
	struct listing listing = { 0 };
	unsigned wanted, dirs;
	uint64_t cookie = 0;

	do {
		listing.stopped = false;
		listing.room = chance(r, 2) ? SIZE_MAX : 1 + (size_t)below(r, 20);
		expect(r, mojo_readdir(r->store, version, tree->nodes[dir].bucket, cookie, collect, &listing), 0,
		       "mojo_readdir");
		if (listing.count)
			cookie = listing.items[listing.count - 1].cookie;
	} while (listing.stopped);
	wanted = children_of(tree, dir, &dirs);
	for (size_t i = 0; i < listing.count; i++) {
		struct item *item = &listing.items[i];
		struct node *node = tree_lookup(tree, dir, item->name);

		if (!node)
			die(r, "directory %" PRIu32 " of version %" PRIu32 " lists '%.40s', which should not be there",
			    tree->nodes[dir].bucket, version, item->name);
		check_attr(r, version, tree, node, &item->attr, "readdir");
		if (item->cookie <= 1000 || item->cookie >> 63)
			die(r, "cookie %" PRIu64 " is out of range", item->cookie);
		for (size_t j = 0; j < i; j++) {
			if (listing.items[j].cookie == item->cookie || !strcmp(listing.items[j].name, item->name))
				die(r, "'%.40s' is listed twice, or shares its cookie", item->name);
		}
	}
	if (listing.count != wanted)
		die(r, "directory %" PRIu32 " of version %" PRIu32 " lists %zu names, not %u", tree->nodes[dir].bucket,
		    version, listing.count, wanted);
	free(listing.items);
}

static void tree_path(const struct tree *tree, unsigned index, char *path, size_t size)
{
	char rest[8192] = "";
	char part[8192];

	for (; index; index = tree->nodes[index].parent) {
		int length = snprintf(part, sizeof(part), "%s%s%s", tree->nodes[index].name, rest[0] ? "/" : "", rest);

		assert_true(length > 0 && (size_t)length < sizeof(part));
		strcpy(rest, part);
	}
	snprintf(path, size, "%s", rest);
}

static void check_tree(struct run *r, uint32_t version, struct tree *tree, struct addresses *all)
{
	for (unsigned i = 0; i < NODES_MAX; i++) {
		struct node *node = &tree->nodes[i];
		struct mojo_attr attr;
		char path[8192];

		if (!node->alive)
			continue;
		expect(r, mojo_getattr(r->store, version, node->bucket, &attr), 0, "mojo_getattr");
		check_attr(r, version, tree, node, &attr, "getattr");
		if (node->linked) {
			tree_path(tree, i, path, sizeof(path));
			expect(r, mojo_resolve(r->store, version, path, &attr), 0, "mojo_resolve");
			check_attr(r, version, tree, node, &attr, "resolve");
		}
		if (node->linked && i) {
			expect(r, mojo_lookup(r->store, version, tree->nodes[node->parent].bucket, node->name, &attr),
			       0, "mojo_lookup");
			check_attr(r, version, tree, node, &attr, "lookup");
		}
		if (version == MOJO_ACTIVE && node->linked) {
			char engine_path[8192];

			expect(r, mojo_path(r->store, node->bucket, engine_path, sizeof(engine_path)), 0, "mojo_path");
			if (strcmp(path, engine_path) != 0)
				die(r, "mojo_path of bucket %" PRIu32 " is not its path", node->bucket);
		}
		if (S_ISDIR(node->mode)) {
			check_directory(r, version, tree, i);
		} else if (S_ISLNK(node->mode)) {
			char target[MOJO_SYMLINK_MAX + 1];

			expect(r, mojo_readlink(r->store, version, node->bucket, target), 0, "mojo_readlink");
			if (strcmp(target, node->target) != 0)
				die(r, "symbolic link '%.40s' leads elsewhere", node->name);
		} else if (S_ISREG(node->mode)) {
			check_content(r, version, node, all);
		}
	}
}

static void check_version_info(struct run *r, const struct frozen *frozen, const struct mojo_version_info *info,
			       bool unpublished)
{
	if (info->version != frozen->version || info->active || info->time_ns != frozen->time_ns ||
	    strlen(info->message) != frozen->message_length ||
	    memcmp(info->message, frozen->message, frozen->message_length) != 0)
		die(r, "version %" PRIu32 " is listed as %" PRIu32 ", or with another time or message", frozen->version,
		    info->version);
	/* A step of the settling that did nothing, or was lost, marks it all the same, or does not. */
	if (info->unpublished != unpublished || (frozen->settled && !info->settled) ||
	    info->verdict != frozen->verdict || strcmp(info->verdict_text, frozen->verdict_text) != 0)
		die(r, "version %" PRIu32 ": unpublished %d settled %d verdict %d '%s'", frozen->version,
		    info->unpublished, info->settled, (int)info->verdict, info->verdict_text);
}

static void check_versions(struct run *r)
{
	struct mojo_version_info info;
	uint32_t from = 1;

	for (unsigned i = 0; i < r->frozen_count; i++) {
		const struct frozen *frozen = &r->frozen[i];

		expect(r, mojo_version_next(r->store, from, &info), 0, "mojo_version_next");
		check_version_info(r, frozen, &info, false);
		from = info.version + 1;
	}
	if (mojo_unpublished(r->store) != r->draft.version)
		die(r, "the unpublished version is %" PRIu32 ", not %" PRIu32, mojo_unpublished(r->store),
		    r->draft.version);
	if (r->draft.version) {
		expect(r, mojo_version_find(r->store, r->draft.version, &info), 0, "mojo_version_find");
		check_version_info(r, &r->draft, &info, true);
	}
	expect(r, mojo_version_next(r->store, from, &info), 0, "mojo_version_next (active)");
	if (!info.active || info.version != r->active)
		die(r, "the active version is listed as %" PRIu32 ", not %" PRIu32, info.version, r->active);
	expect(r, mojo_version_next(r->store, info.version + 1, &info), -ENOENT,
	       "mojo_version_next (behind the active)");
}

static void check_info(struct run *r)
{
	uint64_t files = 0;
	uint64_t dirs = 0;
	struct mojo_info info;

	for (unsigned i = 0; i < NODES_MAX; i++) {
		const struct node *node = &r->now->nodes[i];

		if (node->alive && node->linked)
			*(S_ISDIR(node->mode) ? &dirs : &files) += 1;
	}
	expect(r, mojo_info(r->store, &info), 0, "mojo_info");
	if (info.active_version != r->active || info.frozen_versions != r->frozen_count ||
	    info.unpublished_version != r->draft.version || info.files != files || info.directories != dirs ||
	    info.failed || info.read_only || info.page_size != r->page_size ||
	    info.oldest_version != (r->frozen_count ? r->frozen[0].version : r->active))
		die(r,
		    "info: active %" PRIu32 "/%" PRIu32 " frozen %" PRIu64 "/%u files %" PRIu64 "/%" PRIu64
		    " directories %" PRIu64 "/%" PRIu64 " oldest %" PRIu32 " failed %d (engine/model)",
		    info.active_version, r->active, info.frozen_versions, r->frozen_count, info.files, files,
		    info.directories, dirs, info.oldest_version, info.failed);
}

static int compare_addresses(const void *a, const void *b)
{
	const struct owned_address *x = a, *y = b;

	return x->address < y->address ? -1 : x->address > y->address;
}

static void check_everything(struct run *r)
{
	struct addresses all = { 0 };

	trace(r, "check everything");
	check_info(r);
	check_versions(r);
	check_tree(r, MOJO_ACTIVE, r->now, &all);
	for (unsigned i = 0; i < r->frozen_count; i++)
		check_tree(r, r->frozen[i].version, r->frozen[i].tree, &all);
	if (r->draft.version)
		check_tree(r, r->draft.version, r->draft.tree, &all);
	if (all.count)
		qsort(all.list, all.count, sizeof(*all.list), compare_addresses);
	for (size_t i = 1; i < all.count; i++) {
		const struct owned_address *a = &all.list[i - 1], *b = &all.list[i];

		/* The bucket may be another one: a copy shares its pages, at the same places. */
		if (a->address == b->address &&
		    (a->page != b->page || a->version != b->version || a->checksum != b->checksum))
			die(r,
			    "block %" PRIu64 " is page %" PRIu64 " of bucket %" PRIu32 " (version %" PRIu32
			    ") and page %" PRIu64 " of bucket %" PRIu32 " (version %" PRIu32 ") at once",
			    a->address, a->page, a->bucket, a->version, b->page, b->bucket, b->version);
	}
	free(all.list);
	r->verified++;
}

/* ---- the store's life --------------------------------------------------------------------- */

static void on_event(void *arg, enum mojo_severity severity, const char *text)
{
	struct run *r = arg;

	snprintf(r->event, sizeof(r->event), "%s", text);
	if (r->trace)
		fprintf(stderr, "event %d: %s\n", (int)severity, text);
}

static void open_store(struct run *r)
{
	const struct mojo_config config = {
		.cache_bytes = 4 << 20,
		.batch_bytes = 256 << 10,
		.checkpoint_bytes = 1 << 20,
		.flush_ms = UINT32_MAX,
		.no_background = true,
		.owner = "test_model",
		.event = on_event,
		.event_arg = r,
	};

	expect(r, mojo_open(r->io, &config, &r->store), 0, "mojo_open");
	r->checkpoints = 0;
}

/* The times of all nodes as the engine has them now, so that they can be held against it later. */
static void learn_times(struct run *r, uint32_t version, struct tree *tree)
{
	for (unsigned i = 0; i < NODES_MAX; i++) {
		struct node *node = &tree->nodes[i];
		struct mojo_attr attr;

		if (!node->alive)
			continue;
		expect(r, mojo_getattr(r->store, version, node->bucket, &attr), 0, "mojo_getattr");
		node->times_known = true;
		node->atime_ns = attr.atime_ns;
		node->mtime_ns = attr.mtime_ns;
		node->ctime_ns = attr.ctime_ns;
		node->btime_ns = attr.btime_ns;
	}
}

static void forget_times(struct tree *tree)
{
	for (unsigned i = 0; i < NODES_MAX; i++)
		tree->nodes[i].times_known = false;
}

static void frozen_free(struct frozen *frozen)
{
	tree_free(frozen->tree);
	*frozen = (struct frozen){ 0 };
}

/* The state of the unpublished version, or that there is none, becomes that of @from. */
static void draft_copy(struct frozen *to, const struct frozen *from)
{
	struct tree *tree = from->tree ? tree_copy(from->tree) : NULL;

	frozen_free(to);
	*to = *from;
	to->tree = tree;
}

/* A batch has ended: a crash comes back to this. */
static void now_durable(struct run *r)
{
	struct mojo_info info;

	tree_free(r->durable);
	r->durable = tree_copy(r->now);
	draft_copy(&r->durable_draft, &r->draft);
	r->durable_active = r->active;
	learn_times(r, MOJO_ACTIVE, r->durable);
	expect(r, mojo_info(r->store, &info), 0, "mojo_info");
	r->checkpoints = info.checkpoints;
}

static void go_back_to(struct run *r, const struct tree *tree)
{
	struct tree *copy = tree_copy(tree);

	tree_free(r->now);
	r->now = copy;
}

static void go_back_to_durable(struct run *r)
{
	go_back_to(r, r->durable);
	draft_copy(&r->draft, &r->durable_draft);
	r->active = r->durable_active;
	r->refrozen += r->draft.version != 0;
}

static void on_finding(void *arg, const struct mojo_finding *f)
{
	struct run *r = arg;

	if (f->severity == MOJO_INFO)
		return;
	die(r,
	    "mojo_check finds (%s): %s; version %" PRIu32 ", bucket %" PRIu32 ", page %" PRIu64 ", address %" PRIu64
	    ", blocks %" PRIu64,
	    mojo_finding_name(f->kind), f->text, f->version, f->bucket, f->first_page, f->address, f->blocks);
}

/* The store is not open: everything in it must be sound, whatever came before. */
static void check_store(struct run *r)
{
	struct mojo_check_options options = { .finding = on_finding, .arg = r };
	struct mojo_check_result result;

	options.scrub = chance(r, 4);
	expect(r, mojo_check(r->io, &options, &result), 0, "mojo_check");
}

static void do_sync(struct run *r)
{
	trace(r, "sync");
	expect(r, mojo_sync(r->store), 0, "mojo_sync");
	now_durable(r);
}

static void after_reopen(struct run *r)
{
	check_store(r);
	open_store(r);
	if (chance(r, 4))
		check_everything(r);
	else
		check_tree(r, MOJO_ACTIVE, r->now, NULL);
	forget_times(r->now);
	now_durable(r);
}

static void do_close(struct run *r)
{
	trace(r, "close and reopen");
	go_back_to(r, r->now);
	learn_times(r, MOJO_ACTIVE, r->now);
	expect(r, mojo_close(r->store), 0, "mojo_close");
	r->store = NULL;
	r->reopened++;
	after_reopen(r);
}

/* Dirty index may have forced the engine to a checkpoint of its own: make certain again where we stand. */
static void before_crash(struct run *r)
{
	struct mojo_info info;

	expect(r, mojo_info(r->store, &info), 0, "mojo_info");
	if (info.checkpoints != r->checkpoints)
		r->surprises++;
	if (info.checkpoints != r->checkpoints || chance(r, 3))
		do_sync(r);
}

static void do_crash(struct run *r)
{
	before_crash(r);
	trace(r, "abandon and reopen");
	go_back_to_durable(r);
	mojo_abandon(r->store);
	r->store = NULL;
	r->crashed++;
	after_reopen(r);
}

/* The power fails: what was written and not flushed is gone, or some of it is. */
static void do_power_cut(struct run *r)
{
	struct mojo_io *copy;

	if (r->host)
		return;
	before_crash(r);
	trace(r, "power cut");
	go_back_to_durable(r);
	if (chance(r, 2))
		expect(r, mojo_io_memory_clone_durable(r->io, &copy), 0, "mojo_io_memory_clone_durable");
	else
		expect(r, mojo_io_memory_clone_torn(r->io, random64(r), &copy), 0, "mojo_io_memory_clone_torn");
	expect(r, mojo_io_memory_track(copy), 0, "mojo_io_memory_track");
	mojo_abandon(r->store);
	r->store = NULL;
	mojo_io_free(r->io);
	r->io = copy;
	r->power_cuts++;
	after_reopen(r);
}

static void do_checkpoint(struct run *r)
{
	trace(r, "checkpoint");
	expect(r, mojo_checkpoint(r->store), 0, "mojo_checkpoint");
	now_durable(r);
}

static void do_drop(struct run *r)
{
	unsigned which;

	if (!r->frozen_count) {
		expect(r, mojo_version_drop(r->store, r->active), -EBUSY, "drop of the active version");
		return;
	}
	which = (unsigned)below(r, r->frozen_count);
	trace(r, "drop version %" PRIu32, r->frozen[which].version);
	expect(r, mojo_version_drop(r->store, r->frozen[which].version), 0, "mojo_version_drop");
	expect(r, mojo_version_drop(r->store, r->frozen[which].version), -ENOENT, "drop of a dropped version");
	frozen_free(&r->frozen[which]);
	memmove(&r->frozen[which], &r->frozen[which + 1], (r->frozen_count - which - 1) * sizeof(r->frozen[0]));
	r->frozen_count--;
	r->dropped++;
	now_durable(r);
}

static int refuse(void *arg)
{
	(void)arg;
	return -EDEADLK;
}

static int count_calls(void *arg)
{
	++*(unsigned *)arg;
	return 0;
}

static void draw_message(struct run *r, struct frozen *frozen)
{
	frozen->message_length = chance(r, 3) ? 0 : (size_t)below(r, chance(r, 10) ? MOJO_MESSAGE_MAX + 1 : 40);
	for (size_t i = 0; i < frozen->message_length; i++)
		frozen->message[i] = (char)(1 + below(r, 255));
}

/* The active version freezes. */
static void freeze(struct run *r, struct frozen *frozen, bool publish)
{
	struct mojo_version_info info;
	uint32_t version = 0;
	unsigned calls = 0;

	*frozen = (struct frozen){ .version = r->active };
	draw_message(r, frozen);
	frozen->tree = tree_copy(r->now);
	learn_times(r, MOJO_ACTIVE, frozen->tree);
	trace(r, "%s version %" PRIu32, publish ? "commit" : "freeze", r->active);
	if (publish) {
		expect(r, mojo_commit(r->store, frozen->message, frozen->message_length, &version), 0, "mojo_commit");
	} else {
		expect(r, mojo_freeze(r->store, "", 0, refuse, r, &version), -EDEADLK, "mojo_freeze, refused");
		expect(r, mojo_freeze(r->store, frozen->message, frozen->message_length, count_calls, &calls, &version),
		       0, "mojo_freeze");
		if (calls != 1)
			die(r, "mojo_freeze asked %u times", calls);
	}
	if (version != r->active)
		die(r, "version %" PRIu32 " was frozen, not %" PRIu32, version, r->active);
	expect(r, mojo_version_find(r->store, version, &info), 0, "mojo_version_find");
	frozen->time_ns = info.time_ns;
	if (info.version != version || info.time_ns <= 0 || info.unpublished == publish)
		die(r, "version %" PRIu32 " is not known as what it is after it was frozen", version);
	r->active++;
}

static void do_commit(struct run *r)
{
	uint32_t version;

	if (r->draft.version) {
		expect(r, mojo_commit(r->store, "", 0, &version), -EAGAIN, "mojo_commit beside an unpublished version");
		return;
	}
	if (r->frozen_count == VERSIONS_MAX)
		do_drop(r);
	freeze(r, &r->frozen[r->frozen_count++], true);
	r->committed++;
	now_durable(r);
}

static void do_freeze(struct run *r)
{
	uint32_t version;

	if (r->draft.version)
		expect(r, mojo_freeze(r->store, "", 0, NULL, NULL, &version), -EAGAIN,
		       "mojo_freeze beside an unpublished version");
	else
		freeze(r, &r->draft, false);
}

static void do_publish(struct run *r)
{
	if (!r->draft.version) {
		expect(r, mojo_publish(r->store, r->active), -ENOENT, "publication of the active version");
		return;
	}
	if (r->frozen_count == VERSIONS_MAX)
		do_drop(r);
	trace(r, "publish version %" PRIu32, r->draft.version);
	learn_times(r, r->draft.version, r->draft.tree);
	expect(r, mojo_publish(r->store, r->draft.version), 0, "mojo_publish");
	expect(r, mojo_publish(r->store, r->draft.version), -ENOENT, "publication of a published version");
	r->frozen[r->frozen_count++] = r->draft;
	r->draft = (struct frozen){ 0 };
	r->published++;
	now_durable(r);
}

static void do_give_up(struct run *r)
{
	if (!r->draft.version)
		return;
	trace(r, "give version %" PRIu32 " up", r->draft.version);
	expect(r, mojo_version_drop(r->store, r->draft.version), 0, "drop of an unpublished version");
	frozen_free(&r->draft);
	r->given_up++;
	now_durable(r);
}

static void do_verdict(struct run *r)
{
	unsigned which = (unsigned)below(r, VERSIONS_MAX + 1);
	struct frozen *frozen = which < r->frozen_count ? &r->frozen[which] : &r->draft;
	size_t length = (size_t)below(r, MOJO_VERDICT_MAX + 1);

	if (!frozen->version) {
		expect(r, mojo_version_verdict(r->store, r->active, MOJO_VERDICT_GOOD, "", 0), -EBUSY,
		       "verdict on the active version");
		return;
	}
	frozen->verdict = (enum mojo_verdict)below(r, MOJO_VERDICT_BAD + 1);
	for (size_t i = 0; i < length; i++)
		frozen->verdict_text[i] = (char)(1 + below(r, 255));
	frozen->verdict_text[length] = '\0';
	trace(r, "verdict %d on version %" PRIu32, (int)frozen->verdict, frozen->version);
	expect(r, mojo_version_verdict(r->store, frozen->version, frozen->verdict, frozen->verdict_text, length), 0,
	       "mojo_version_verdict");
	do_sync(r); /* the frozen ones are as they are after a crash, too */
}

/* ---- operations on files and names -------------------------------------------------------- */

static uint64_t pick_offset(struct run *r, const struct node *node)
{
	if (node->sparse && chance(r, 2))
		return below(r, 64ull << 30);
	switch (below(r, 8)) {
	case 0:
		return 0;
	case 1:
		return node->size < SMALL_FILE_BYTES || node->sparse ? node->size : 0;
	case 2:
		return below(r, SMALL_FILE_BYTES);
	case 3:
		return below(r, SMALL_FILE_BYTES / r->page_size) * r->page_size;
	case 4:
		return below(r, 100) * 4096;
	default:
		return below(r, node->size && node->size < SMALL_FILE_BYTES ? node->size : 300000);
	}
}

static size_t pick_length(struct run *r)
{
	switch (below(r, 16)) {
	case 0:
		return (size_t)below(r, IO_BYTES_MAX + 1);
	case 1:
		return 0;
	case 2:
	case 3:
		return r->page_size;
	case 4:
		return (size_t)below(r, 64 << 10);
	case 5:
	case 6:
	case 7:
		return (size_t)(1 + below(r, 3)) * 4096;
	default:
		return 1 + (size_t)below(r, 6000);
	}
}

static void do_write(struct run *r)
{
	struct node *node = pick(r, is_file);
	uint64_t offset;
	size_t length;

	if (!node)
		return;
	offset = pick_offset(r, node);
	length = pick_length(r);
	if (chance(r, 16)) {
		memset(r->buf, chance(r, 2) ? 0 : 0xff, length);
	} else {
		for (size_t i = 0; i < length; i += sizeof(uint64_t)) {
			uint64_t bits = random64(r);

			memcpy(r->buf + i, &bits, length - i < sizeof(bits) ? length - i : sizeof(bits));
		}
	}
	trace(r, "write bucket %" PRIu32 " offset %" PRIu64 " length %zu", node->bucket, offset, length);
	expect(r, mojo_write(r->store, node->bucket, offset, r->buf, length), 0, "mojo_write");
	content_write(&node->content, offset, r->buf, length);
	if (length && node->size < offset + length)
		node->size = offset + length;
}

static void do_read(struct run *r)
{
	uint32_t version = MOJO_ACTIVE;
	struct node *node = pick(r, is_file);

	if (r->frozen_count && chance(r, 4)) {
		struct frozen *frozen = &r->frozen[below(r, r->frozen_count)];

		version = frozen->version;
		node = &frozen->tree->nodes[below(r, NODES_MAX)];
		if (!node->alive || !is_file(node))
			return;
	}
	if (node)
		check_range(r, version, node, pick_offset(r, node), pick_length(r));
}

static void set_size(struct node *node, uint64_t size)
{
	if (size < node->size)
		content_zero(&node->content, size, UINT64_MAX);
	node->size = size;
}

static void do_truncate(struct run *r)
{
	struct node *node = pick(r, is_file);
	struct mojo_attr attr = { 0 };

	if (!node)
		return;
	attr.size = chance(r, 8) ? 0 : pick_offset(r, node);
	if (chance(r, 3) && node->size)
		attr.size = below(r, node->size);
	trace(r, "truncate bucket %" PRIu32 " from %" PRIu64 " to %" PRIu64, node->bucket, node->size, attr.size);
	set_size(node, attr.size);
	expect(r, mojo_setattr(r->store, node->bucket, MOJO_SET_SIZE, &attr, &attr), 0, "mojo_setattr (size)");
	check_attr(r, MOJO_ACTIVE, r->now, node, &attr, "setattr (size)");
}

/* A file of any version, and which one. */
static struct node *pick_source(struct run *r, uint32_t *ret_version)
{
	struct tree *tree = r->now;
	unsigned start = (unsigned)below(r, NODES_MAX);

	*ret_version = MOJO_ACTIVE;
	if (r->draft.version && chance(r, 5)) {
		*ret_version = r->draft.version;
		tree = r->draft.tree;
	} else if (r->frozen_count && chance(r, 2)) {
		struct frozen *frozen = &r->frozen[below(r, r->frozen_count)];

		*ret_version = frozen->version;
		tree = frozen->tree;
	}
	for (unsigned i = 0; i < NODES_MAX; i++) {
		struct node *node = &tree->nodes[(start + i) % NODES_MAX];

		if (node->alive && is_file(node))
			return node;
	}
	return NULL;
}

static void copy_range(struct run *r, uint32_t version, struct node *source, uint64_t offset_in, struct node *target,
		       uint64_t offset_out, uint64_t length)
{
	uint64_t apart = offset_in < offset_out ? offset_out - offset_in : offset_in - offset_out;
	uint64_t until_end = offset_in < source->size ? source->size - offset_in : 0;
	bool within = version == MOJO_ACTIVE && source == target;

	trace(r,
	      "copy bucket %" PRIu32 " of version %" PRIu32 " offset %" PRIu64 " to bucket %" PRIu32 " offset %" PRIu64
	      " length %" PRIu64,
	      source->bucket, version, offset_in, target->bucket, offset_out, length);
	if (within && apart < (length < until_end ? length : until_end)) {
		uint64_t none;

		expect(r,
		       mojo_copy(r->store, version, source->bucket, offset_in, target->bucket, offset_out, length,
				 &none),
		       -EINVAL, "mojo_copy of ranges that overlap");
		return;
	}
	for (;;) {
		uint64_t left = offset_in < source->size ? source->size - offset_in : 0, copied = UINT64_MAX;

		left = left < length ? left : length;
		expect(r,
		       mojo_copy(r->store, version, source->bucket, offset_in, target->bucket, offset_out, length,
				 &copied),
		       0, "mojo_copy");
		if (copied > left || (left && !copied))
			die(r, "%" PRIu64 " bytes were copied of %" PRIu64, copied, left);
		if (!copied)
			break;
		struct content *from = source->content;

		from->refs++; /* the target may be the same */
		content_copy(&target->content, from, offset_in, offset_out, copied);
		content_put(from);
		if (target->size < offset_out + copied)
			target->size = offset_out + copied;
		offset_in += copied;
		offset_out += copied;
		length -= copied;
		if (within && copied == left) /* its end has moved on with it */
			break;
	}
	r->copied++;
}

static void do_copy(struct run *r)
{
	uint32_t version;
	struct node *source = pick_source(r, &version), *target = pick(r, is_file);
	struct mojo_attr attr = { 0 };
	uint64_t at;

	if (!source || !target)
		return;
	switch (below(r, 8)) {
	case 0: /* as bytes, from anywhere to anywhere */
		copy_range(r, version, source, pick_offset(r, source), target, pick_offset(r, target), pick_length(r));
		break;
	case 1: /* what is there already may get in the way */
	case 2:
		at = pick_offset(r, source) / r->page_size * r->page_size;
		copy_range(r, version, source, at, target, at,
			   chance(r, 2) || source->sparse ? pick_length(r) : SMALL_FILE_BYTES);
		break;
	default: /* as cp(1) does */
		if (version == MOJO_ACTIVE && source == target)
			return;
		set_size(target, 0);
		expect(r, mojo_setattr(r->store, target->bucket, MOJO_SET_SIZE, &attr, &attr), 0,
		       "mojo_setattr (size)");
		target->sparse |= source->sparse;
		at = chance(r, 4) ? pick_offset(r, source) / r->page_size * r->page_size : 0;
		copy_range(r, version, source, at, target, at, UINT64_MAX);
	}
}

static void do_fallocate(struct run *r)
{
	static const int modes[] = {
		0,
		MOJO_FALLOC_KEEP_SIZE,
		MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_KEEP_SIZE,
		MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_KEEP_SIZE,
		MOJO_FALLOC_ZERO_RANGE,
		MOJO_FALLOC_ZERO_RANGE | MOJO_FALLOC_KEEP_SIZE,
	};
	struct node *node = pick(r, is_file);
	uint64_t offset, length, end;
	int mode;

	if (!node)
		return;
	mode = modes[below(r, sizeof(modes) / sizeof(modes[0]))];
	offset = pick_offset(r, node);
	length = 1 + (chance(r, 8) ? below(r, SMALL_FILE_BYTES) : pick_length(r));
	end = offset + length;
	trace(r, "fallocate bucket %" PRIu32 " mode %d offset %" PRIu64 " length %" PRIu64, node->bucket, mode, offset,
	      length);
	expect(r, mojo_fallocate(r->store, node->bucket, mode, offset, length), 0, "mojo_fallocate");
	if (mode & (MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_ZERO_RANGE))
		content_zero(&node->content, offset, end);
	if (!(mode & MOJO_FALLOC_KEEP_SIZE) && node->size < end)
		node->size = end;
}

static void pick_name(struct run *r, char name[MOJO_NAME_MAX + 1])
{
	unsigned number = (unsigned)below(r, 24);

	if (number < 20) {
		snprintf(name, MOJO_NAME_MAX + 1, "name-%02u", number);
		return;
	}
	/* As long as can be, differing only at the end; every byte but '/' and NUL. */
	for (unsigned i = 0; i < MOJO_NAME_MAX; i++)
		name[i] = (char)(i % 255 + 1 == '/' ? '.' : i % 255 + 1);
	name[MOJO_NAME_MAX - 1] = (char)('a' + number);
	name[MOJO_NAME_MAX] = 0;
}

static struct node *free_node(struct run *r)
{
	for (unsigned i = 1; i < NODES_MAX; i++) {
		if (!r->now->nodes[i].alive)
			return &r->now->nodes[i];
	}
	return NULL;
}

static unsigned depth_of(const struct tree *tree, unsigned index)
{
	unsigned depth = 0;

	for (; index; index = tree->nodes[index].parent)
		depth++;
	return depth;
}

static void do_create(struct run *r)
{
	static const uint32_t types[] = { S_IFREG, S_IFREG, S_IFREG, S_IFREG, S_IFREG,  S_IFREG,
					  S_IFDIR, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR };
	struct node *dir = pick(r, is_linked_dir);
	struct node *node = free_node(r);
	unsigned in = index_of(r->now, dir);
	struct node new = { .alive = true, .linked = true, .parent = in };
	struct mojo_attr attr;
	int error;

	new.mode = types[below(r, sizeof(types) / sizeof(types[0]))];
	if (!node || (S_ISDIR(new.mode) && depth_of(r->now, in) >= 5))
		return;
	new.mode |= S_ISLNK(new.mode) ? 0777 : (uint32_t)below(r, 010000);
	new.uid = (uint32_t)below(r, 70000);
	new.gid = (uint32_t)below(r, 70000);
	if (S_ISCHR(new.mode))
		new.rdev = (uint32_t)random64(r);
	pick_name(r, new.name);
	trace(r, "create '%.20s' mode %o in bucket %" PRIu32, new.name, new.mode, dir->bucket);
	if (S_ISLNK(new.mode)) {
		size_t length = 1 + (size_t)below(r, chance(r, 10) ? MOJO_SYMLINK_MAX : 60);

		new.target = checked(malloc(length + 1));
		for (size_t i = 0; i < length; i++)
			new.target[i] = (char)(1 + below(r, 255));
		new.target[length] = 0;
		new.size = length;
		error = mojo_symlink(r->store, dir->bucket, new.name, new.target, new.uid, new.gid, &attr);
	} else {
		error = mojo_mknod(r->store, dir->bucket, new.name, new.mode, new.rdev, new.uid, new.gid, &attr);
	}
	if (tree_lookup(r->now, in, new.name)) {
		expect(r, error, -EEXIST, "creation of a name that exists");
		free(new.target);
		return;
	}
	expect(r, error, 0, S_ISLNK(new.mode) ? "mojo_symlink" : "mojo_mknod");
	new.bucket = attr.bucket;
	if (S_ISREG(new.mode)) {
		new.content = content_new();
		new.sparse = chance(r, 10);
	}
	for (unsigned i = 0; i < NODES_MAX; i++) {
		if (r->now->nodes[i].alive && r->now->nodes[i].bucket == new.bucket)
			die(r, "a new file got bucket %" PRIu32 ", which is in use", new.bucket);
	}
	*node = new;
	check_attr(r, MOJO_ACTIVE, r->now, node, &attr, "creation");
}

/* A name is gone: the node, too, unless it is held. */
static void unlinked(struct run *r, struct node *node)
{
	struct mojo_attr attr;

	node->linked = false;
	if (node->held) {
		expect(r, mojo_getattr(r->store, MOJO_ACTIVE, node->bucket, &attr), 0, "getattr of a held bucket");
		check_attr(r, MOJO_ACTIVE, r->now, node, &attr, "getattr of an unlinked one");
		return;
	}
	expect(r, mojo_getattr(r->store, MOJO_ACTIVE, node->bucket, &attr), -ENOENT, "getattr of a removed bucket");
	node_clear(node);
}

static void do_remove(struct run *r)
{
	struct node *dir = pick(r, is_linked_dir);
	struct node *node;
	char name[MOJO_NAME_MAX + 1];
	bool as_dir = chance(r, 3);
	unsigned children, dirs;
	int error;

	pick_name(r, name);
	node = tree_lookup(r->now, index_of(r->now, dir), name);
	if (node && chance(r, 2))
		as_dir = S_ISDIR(node->mode);
	trace(r, "%s '%.20s' in bucket %" PRIu32, as_dir ? "rmdir" : "unlink", name, dir->bucket);
	error = (as_dir ? mojo_rmdir : mojo_unlink)(r->store, dir->bucket, name);
	if (!node) {
		expect(r, error, -ENOENT, "removal of no name");
	} else if (as_dir && !S_ISDIR(node->mode)) {
		expect(r, error, -ENOTDIR, "rmdir of no directory");
	} else if (!as_dir && S_ISDIR(node->mode)) {
		expect(r, error, -EISDIR, "unlink of a directory");
	} else {
		children = as_dir ? children_of(r->now, index_of(r->now, node), &dirs) : 0;
		expect(r, error, children ? -ENOTEMPTY : 0, as_dir ? "mojo_rmdir" : "mojo_unlink");
		if (!children)
			unlinked(r, node);
	}
}

/* What renameat2(2) answers, for a source and a target that may not exist. */
static int rename_answer(struct run *r, const struct node *source, const struct node *target, unsigned new_dir,
			 unsigned flags)
{
	struct tree *tree = r->now;
	unsigned dirs;

	if (flags == (MOJO_RENAME_NOREPLACE | MOJO_RENAME_EXCHANGE))
		return -EINVAL;
	if (!source)
		return -ENOENT;
	if (flags & MOJO_RENAME_NOREPLACE && target)
		return -EEXIST;
	if (flags & MOJO_RENAME_EXCHANGE && !target)
		return -ENOENT;
	if (S_ISDIR(source->mode) && is_within(tree, new_dir, index_of(tree, source)))
		return -EINVAL;
	if (target && S_ISDIR(target->mode) && is_within(tree, source->parent, index_of(tree, target)))
		return flags & MOJO_RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	if (!target || flags & MOJO_RENAME_EXCHANGE || source == target)
		return 0;
	if (S_ISDIR(target->mode) && !S_ISDIR(source->mode))
		return -EISDIR;
	if (!S_ISDIR(target->mode) && S_ISDIR(source->mode))
		return -ENOTDIR;
	if (S_ISDIR(target->mode) && children_of(tree, index_of(tree, target), &dirs))
		return -ENOTEMPTY;
	return 0;
}

/* An engine may find another reason to refuse first; that both refuse is what matters then. */
static bool same_answer(int a, int b)
{
	if (a == b)
		return true;
	return (a == -EINVAL || a == -ENOTEMPTY || a == -EISDIR || a == -ENOTDIR) &&
	       (b == -EINVAL || b == -ENOTEMPTY || b == -EISDIR || b == -ENOTDIR);
}

/* Would the tree grow deeper than our path buffers like if @node moved into @dir? */
static bool too_deep(const struct tree *tree, const struct node *node, unsigned dir)
{
	unsigned top, deepest;

	if (!node || !S_ISDIR(node->mode))
		return false;
	top = deepest = depth_of(tree, index_of(tree, node));
	for (unsigned i = 1; i < NODES_MAX; i++) {
		const struct node *inner = &tree->nodes[i];
		unsigned depth;

		if (!inner->alive || !inner->linked || !is_within(tree, i, index_of(tree, node)))
			continue;
		depth = depth_of(tree, i);
		if (depth > deepest)
			deepest = depth;
	}
	return depth_of(tree, dir) + 1 + deepest - top > 10;
}

static void do_rename(struct run *r)
{
	struct node *from_dir = pick(r, is_linked_dir);
	struct node *to_dir = chance(r, 2) ? from_dir : pick(r, is_linked_dir);
	unsigned from = index_of(r->now, from_dir);
	unsigned to = index_of(r->now, to_dir);
	unsigned flags = chance(r, 2) ? 0 : (unsigned)below(r, 4);
	char from_name[MOJO_NAME_MAX + 1], to_name[MOJO_NAME_MAX + 1];
	struct node *source, *target;
	int wanted, error;

	pick_name(r, from_name);
	pick_name(r, to_name);
	source = tree_lookup(r->now, from, from_name);
	target = tree_lookup(r->now, to, to_name);
	if (too_deep(r->now, source, to) || too_deep(r->now, target, from))
		return;
	wanted = rename_answer(r, source, target, to, flags);
	trace(r, "rename '%.20s' in %" PRIu32 " to '%.20s' in %" PRIu32 " flags %u", from_name, from_dir->bucket,
	      to_name, to_dir->bucket, flags);
	error = mojo_rename(r->store, from_dir->bucket, from_name, to_dir->bucket, to_name, flags);
	if (!same_answer(error, wanted))
		expect(r, error, wanted, "mojo_rename");
	if (error || source == target)
		return;
	if (flags & MOJO_RENAME_EXCHANGE) {
		target->parent = from;
		strcpy(target->name, from_name);
	} else if (target) {
		unlinked(r, target);
	}
	source->parent = to;
	strcpy(source->name, to_name);
}

static void do_setattr(struct run *r)
{
	struct node *node = pick(r, is_any);
	unsigned mask = (unsigned)below(r, 128);
	struct mojo_attr attr = { 0 }, got;

	if (!S_ISREG(node->mode))
		mask &= ~(unsigned)MOJO_SET_SIZE;
	if (S_ISLNK(node->mode))
		mask &= ~(unsigned)MOJO_SET_MODE;
	attr.mode = (node->mode & S_IFMT) | (uint32_t)below(r, 010000);
	attr.uid = (uint32_t)random64(r);
	attr.gid = (uint32_t)random64(r);
	attr.size = pick_offset(r, node);
	attr.atime_ns = (int64_t)below(r, 4000000000000000000ull) - 1000000000000000000ll;
	attr.mtime_ns = (int64_t)below(r, 4000000000000000000ull) - 1000000000000000000ll;
	attr.ctime_ns = (int64_t)below(r, 4000000000000000000ull);
	trace(r, "setattr bucket %" PRIu32 " mask %x size %" PRIu64, node->bucket, mask, attr.size);
	expect(r, mojo_setattr(r->store, node->bucket, mask, &attr, &got), 0, "mojo_setattr");
	if (mask & MOJO_SET_MODE)
		node->mode = attr.mode;
	if (mask & MOJO_SET_UID)
		node->uid = attr.uid;
	if (mask & MOJO_SET_GID)
		node->gid = attr.gid;
	if (mask & MOJO_SET_SIZE)
		set_size(node, attr.size);
	check_attr(r, MOJO_ACTIVE, r->now, node, &got, "setattr");
	if ((mask & MOJO_SET_ATIME && got.atime_ns != attr.atime_ns) ||
	    (mask & MOJO_SET_MTIME && got.mtime_ns != attr.mtime_ns) ||
	    (mask & MOJO_SET_CTIME && got.ctime_ns != attr.ctime_ns))
		die(r, "setattr of bucket %" PRIu32 " with mask %x answered other times", node->bucket, mask);
}

static void do_hold(struct run *r)
{
	struct node *node = pick(r, is_linked_file);

	if (!node)
		return;
	trace(r, "hold bucket %" PRIu32, node->bucket);
	expect(r, mojo_hold(r->store, node->bucket), 0, "mojo_hold");
	node->held++;
}

static void do_release(struct run *r)
{
	struct node *node = pick(r, is_held);
	struct mojo_attr attr;

	if (!node)
		return;
	trace(r, "release bucket %" PRIu32, node->bucket);
	expect(r, mojo_release(r->store, node->bucket), 0, "mojo_release");
	node->held--;
	if (node->held || node->linked)
		return;
	expect(r, mojo_getattr(r->store, MOJO_ACTIVE, node->bucket, &attr), -ENOENT, "getattr of a released bucket");
	node_clear(node);
}

static void do_list(struct run *r)
{
	check_directory(r, MOJO_ACTIVE, r->now, index_of(r->now, pick(r, is_linked_dir)));
}

static void do_lookup(struct run *r)
{
	struct node *dir = pick(r, is_linked_dir);
	char name[MOJO_NAME_MAX + 1];
	struct mojo_attr attr;
	struct node *node;

	pick_name(r, name);
	node = tree_lookup(r->now, index_of(r->now, dir), name);
	expect(r, mojo_lookup(r->store, MOJO_ACTIVE, dir->bucket, name, &attr), node ? 0 : -ENOENT, "mojo_lookup");
	if (node)
		check_attr(r, MOJO_ACTIVE, r->now, node, &attr, "lookup");
}

static bool all_zero(const struct content *content, uint64_t from, uint64_t to)
{
	for (size_t i = content_find(content, from / PIECE); i < content->count; i++) {
		uint64_t first = content->places[i].number * PIECE;

		for (unsigned j = 0; j < PIECE; j++) {
			if (first + j >= to)
				return true;
			if (first + j >= from && content->places[i].piece->data[j])
				return false;
		}
	}
	return true;
}

/* Data may be announced where zeros are, a hole never where anything else is. */
static void do_seek(struct run *r)
{
	struct node *node = pick(r, is_file);
	uint64_t offset, found = UINT64_MAX;
	int error;

	if (!node)
		return;
	offset = pick_offset(r, node);
	error = mojo_seek(r->store, MOJO_ACTIVE, node->bucket, offset, true, &found);
	if (offset >= node->size) {
		expect(r, error, -ENXIO, "seek for data behind the end");
		expect(r, mojo_seek(r->store, MOJO_ACTIVE, node->bucket, offset, false, &found), -ENXIO,
		       "seek for a hole behind the end");
		return;
	}
	if (error) {
		expect(r, error, -ENXIO, "seek for data");
		found = node->size;
	}
	if (found < offset || found > node->size || !all_zero(node->content, offset, found))
		die(r, "seek for data in bucket %" PRIu32 " at %" PRIu64 " passed data by: %" PRIu64, node->bucket,
		    offset, found);
	expect(r, mojo_seek(r->store, MOJO_ACTIVE, node->bucket, offset, false, &found), 0, "seek for a hole");
	if (found < offset || found > node->size)
		die(r, "seek for a hole in bucket %" PRIu32 " at %" PRIu64 " found %" PRIu64, node->bucket, offset,
		    found);
	if (found < node->size) {
		uint64_t end = (found / r->page_size + 1) * r->page_size;

		if (!all_zero(node->content, found, end))
			die(r, "a hole in bucket %" PRIu32 " at %" PRIu64 " holds data", node->bucket, found);
	}
}

/* ---- settling ----------------------------------------------------------------------------- */

static struct node *pick_in_draft(struct run *r)
{
	unsigned start = (unsigned)below(r, NODES_MAX);

	for (unsigned i = 0; i < NODES_MAX; i++) {
		struct node *node = &r->draft.tree->nodes[(start + i) % NODES_MAX];

		if (node->alive && is_linked_file(node))
			return node;
	}
	return NULL;
}

/* What the version before has, whole pages of it as a rule, or what the active one or this one has. */
static bool settle_as_it_was(struct run *r, const struct node *node, uint64_t *ret_offset, size_t *ret_length)
{
	const struct node *from = node;
	struct tree *tree = r->now;
	uint64_t pages;

	if (r->frozen_count && !chance(r, 4))
		tree = r->frozen[r->frozen_count - 1].tree;
	for (unsigned i = 0; i < NODES_MAX && !chance(r, 200); i++)
		if (tree->nodes[i].alive && is_file(&tree->nodes[i]) && tree->nodes[i].bucket == node->bucket)
			from = &tree->nodes[i];
	if (!from->size || from->sparse)
		return false;
	pages = (from->size + r->page_size - 1) / r->page_size;
	*ret_offset = below(r, pages) * r->page_size;
	*ret_length = (1 + (size_t)below(r, IO_BYTES_MAX / r->page_size)) * r->page_size;
	if (chance(r, 8)) {
		*ret_offset += below(r, r->page_size);
		*ret_length = 1 + (size_t)below(r, *ret_length);
	}
	content_read(from->content, *ret_offset, r->buf, *ret_length);
	if (chance(r, 4)) /* but for one byte */
		r->buf[below(r, *ret_length)] ^= 1;
	return true;
}

static void settle_write(struct run *r, struct node *node)
{
	uint64_t offset = pick_offset(r, node);
	size_t length = pick_length(r);
	bool older = chance(r, 2) && settle_as_it_was(r, node, &offset, &length);

	for (size_t i = 0; i < length && !older; i += sizeof(uint64_t)) {
		uint64_t bits = random64(r);

		memcpy(r->buf + i, &bits, length - i < sizeof(bits) ? length - i : sizeof(bits));
	}
	r->restored += older;
	trace(r, "settle: write bucket %" PRIu32 " offset %" PRIu64 " length %zu", node->bucket, offset, length);
	expect(r, mojo_settle_write(r->store, r->draft.version, node->bucket, offset, r->buf, length), 0,
	       "mojo_settle_write");
	content_write(&node->content, offset, r->buf, length);
	if (length && node->size < offset + length)
		node->size = offset + length;
	r->draft.settled |= length > 0;
}

static void settle_truncate(struct run *r, struct node *node)
{
	struct mojo_attr attr = { .size = chance(r, 3) ? 0 : pick_offset(r, node) };

	trace(r, "settle: truncate bucket %" PRIu32 " from %" PRIu64 " to %" PRIu64, node->bucket, node->size,
	      attr.size);
	set_size(node, attr.size);
	expect(r, mojo_settle_setattr(r->store, r->draft.version, node->bucket, MOJO_SET_SIZE, &attr, &attr), 0,
	       "mojo_settle_setattr (size)");
	r->draft.settled = true;
	node->times_known = false;
	check_attr(r, r->draft.version, r->draft.tree, node, &attr, "settle_setattr (size)");
}

static void settle_unlink(struct run *r, struct node *node)
{
	struct node *dir = &r->draft.tree->nodes[node->parent];
	struct mojo_attr attr;

	trace(r, "settle: unlink bucket %" PRIu32, node->bucket);
	expect(r, mojo_settle_unlink(r->store, r->draft.version, dir->bucket, node->name), 0, "mojo_settle_unlink");
	expect(r, mojo_getattr(r->store, r->draft.version, node->bucket, &attr), -ENOENT,
	       "getattr of what was removed");
	expect(r, mojo_settle_unlink(r->store, r->draft.version, dir->bucket, node->name), -ENOENT,
	       "mojo_settle_unlink of no name");
	r->draft.settled = true;
	dir->times_known = false;
	node_clear(node);
}

/* Some steps in a row, as they come when a database is recovered; the active version goes on in between. */
static void do_settle(struct run *r)
{
	struct node *node;

	if (!r->draft.version || !(node = pick_in_draft(r))) {
		expect(r, mojo_settle_write(r->store, r->active, MOJO_ROOT_BUCKET, 0, "", 1), -ENOENT,
		       "mojo_settle_write to the active version");
		return;
	}
	switch (below(r, 10)) {
	case 0:
		settle_unlink(r, node);
		break;
	case 1:
	case 2:
		settle_truncate(r, node);
		break;
	case 3:
		check_range(r, r->draft.version, node, pick_offset(r, node), pick_length(r));
		return;
	default:
		settle_write(r, node);
		node->times_known = false;
	}
	r->settled++;
}

struct operation {
	void (*run)(struct run *r);
	unsigned weight;
};

static const struct operation operations[] = {
	{ do_write, 3400 }, { do_read, 2000 },    { do_truncate, 400 }, { do_fallocate, 400 }, { do_create, 700 },
	{ do_remove, 900 }, { do_rename, 500 },   { do_setattr, 200 },  { do_hold, 150 },      { do_release, 150 },
	{ do_list, 100 },   { do_lookup, 300 },   { do_seek, 200 },     { do_sync, 300 },      { do_commit, 12 },
	{ do_drop, 8 },     { do_checkpoint, 8 }, { do_close, 4 },      { do_crash, 8 },       { do_power_cut, 8 },
	{ do_settle, 900 }, { do_freeze, 24 },    { do_publish, 14 },   { do_give_up, 4 },     { do_verdict, 6 },
	{ do_copy, 300 },
};

static void one_operation(struct run *r)
{
	unsigned total = 0;
	uint64_t dice;

	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
		total += operations[i].weight;
	dice = below(r, total);
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		if (dice < operations[i].weight) {
			operations[i].run(r);
			return;
		}
		dice -= operations[i].weight;
	}
}

/* With everything removed and dropped, little may stay of the store. */
static void check_space_comes_back(struct run *r)
{
	struct mojo_info info;

	do_give_up(r);
	while (r->frozen_count)
		do_drop(r);
	for (unsigned i = 1; i < NODES_MAX; i++) {
		struct node *node = &r->now->nodes[i];

		while (node->alive && node->held) {
			expect(r, mojo_release(r->store, node->bucket), 0, "mojo_release");
			node->held--;
		}
		if (node->alive && !node->linked)
			node_clear(node);
	}
	for (bool more = true; more;) {
		more = false;
		for (unsigned i = 1; i < NODES_MAX; i++) {
			struct node *node = &r->now->nodes[i];
			uint32_t parent;
			unsigned dirs;

			if (!node->alive)
				continue;
			more = true;
			parent = r->now->nodes[node->parent].bucket;
			if (S_ISDIR(node->mode) && children_of(r->now, i, &dirs))
				continue;
			expect(r, (S_ISDIR(node->mode) ? mojo_rmdir : mojo_unlink)(r->store, parent, node->name), 0,
			       "removal of everything");
			node_clear(node);
		}
	}
	/* What the dropped versions alone held is found when the store is closed, and given back in two turns. */
	do_close(r);
	for (int i = 0; i < 3; i++)
		do_checkpoint(r);
	check_everything(r);
	expect(r, mojo_info(r->store, &info), 0, "mojo_info");
	if (info.store_bytes > 6 * info.chunk_bytes)
		die(r, "an empty store still takes %" PRIu64 " bytes in %" PRIu64 " chunks", info.store_bytes,
		    info.chunks);
}

static void remove_tree(const char *path)
{
	DIR *dir = opendir(path);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		char name[PATH_MAX];

		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
		if (unlink(name) < 0)
			remove_tree(name);
	}
	if (dir)
		closedir(dir);
	rmdir(path);
}

static void start(struct run *r)
{
	const struct mojo_geometry geometry = {
		.page_size = r->page_size,
		.pages_per_slot = 64,
		.chunk_bytes = 4 << 20,
		.root_uid = 12,
		.root_gid = 34,
		.root_mode = 0751,
	};

	r->random = r->seed * 2 + 1;
	r->buf = checked(malloc(IO_BYTES_MAX + sizeof(uint64_t)));
	r->buf2 = checked(malloc(IO_BYTES_MAX + sizeof(uint64_t)));
	if (r->host) {
		const char *tmp = getenv("TMPDIR");

		snprintf(r->directory, sizeof(r->directory), "%s/mojo-test-model.XXXXXX", tmp && tmp[0] ? tmp : "/tmp");
		assert_non_null(mkdtemp(r->directory));
		assert_int_equal(mojo_io_host(r->directory, &r->io), 0);
	} else {
		assert_int_equal(mojo_io_memory(&r->io), 0);
		assert_int_equal(mojo_io_memory_track(r->io), 0);
	}
	expect(r, mojo_create(r->io, &geometry, NULL), 0, "mojo_create");
	open_store(r);
	r->active = 1;
	r->now = checked(calloc(1, sizeof(*r->now)));
	r->now->nodes[0] = (struct node){
		.alive = true,
		.linked = true,
		.bucket = MOJO_ROOT_BUCKET,
		.mode = S_IFDIR | 0751,
		.uid = 12,
		.gid = 34,
	};
	now_durable(r);
}

static void finish(struct run *r)
{
	if (r->store)
		mojo_abandon(r->store);
	mojo_io_free(r->io);
	tree_free(r->now);
	tree_free(r->durable);
	frozen_free(&r->draft);
	frozen_free(&r->durable_draft);
	for (unsigned i = 0; i < r->frozen_count; i++)
		frozen_free(&r->frozen[i]);
	if (r->host && r->directory[0])
		remove_tree(r->directory);
	free(r->buf);
	free(r->buf2);
}

static void test_engine_does_what_the_model_does(void **state)
{
	struct run *r = *state;
	struct timespec begin, end;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	print_message("page size %" PRIu32 ", %s, seed %" PRIu64 ", %lu operations\n", r->page_size,
		      r->host ? "host" : "memory", r->seed, r->operations);
	start(r);
	for (r->operation = 1; r->operation <= r->operations; r->operation++) {
		one_operation(r);
		if (r->operation % 1000 == 0) {
			check_info(r);
			check_tree(r, MOJO_ACTIVE, r->now, NULL);
		}
		if (r->operation % 10000 == 0)
			check_everything(r);
	}
	do_close(r);
	check_everything(r);
	check_space_comes_back(r);
	clock_gettime(CLOCK_MONOTONIC, &end);
	print_message("%.1f s: %lu commits, %lu drops, %lu reopened, %lu crashes, %lu power cuts (%lu of both after "
		      "a checkpoint of the engine's own), %lu full verifications\n",
		      (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9, r->committed,
		      r->dropped, r->reopened, r->crashed, r->power_cuts, r->surprises, r->verified);
	print_message("%lu copies\n", r->copied);
	print_message(
		"settling: %lu steps, %lu of older content, %lu versions published, %lu given up, %lu openings in "
		"the middle\n",
		r->settled, r->restored, r->published, r->given_up, r->refrozen);
	expect(r, mojo_close(r->store), 0, "mojo_close");
	r->store = NULL;
}

static int teardown(void **state)
{
	finish(*state);
	return 0;
}

static uint64_t setting(const char *argument, const char *variable, uint64_t otherwise)
{
	const char *text = argument ? argument : getenv(variable);

	return text && text[0] ? strtoull(text, NULL, 0) : otherwise;
}

int main(int argc, char **argv)
{
	const char *io = getenv("MOJO_TEST_IO");
	struct run runs[2] = { { .page_size = 4096 }, { .page_size = 65536 } };
	const struct CMUnitTest tests[] = {
		{ "4 KiB pages", test_engine_does_what_the_model_does, NULL, teardown, &runs[0] },
		{ "64 KiB pages", test_engine_does_what_the_model_does, NULL, teardown, &runs[1] },
	};

	for (unsigned i = 0; i < 2; i++) {
		runs[i].seed = argc > 1 ? strtoull(argv[1], NULL, 0) : test_seed(1795181235);
		runs[i].operations =
			(unsigned long)setting(argc > 2 ? argv[2] : NULL, "MOJO_TEST_OPS", 100000 / TEST_SLOWNESS);
		runs[i].host = io && !strcmp(io, "host");
		runs[i].trace = getenv("MOJO_TEST_TRACE") != NULL;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
