/* SPDX-License-Identifier: MIT */
/*
 * io_memory.c - a directory tree in memory behind io.h, with faults on request.
 *
 * A file is a table of 64 KiB pieces, absent where nothing was written; which of its 4 KiB blocks take
 * disk space is kept apart, so that preallocating costs no memory and punching single blocks shows.
 * Pieces are counted and copied when written to while shared: a clone, or remembering the durable content
 * at each flush, costs a table and not the bytes.
 *
 * One mutex guards everything of an io. Only the pieces' counts are shared between an io and its clones,
 * and they are atomic: a piece whose count is 1 belongs to the io that looks at it.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "io_memory.h"

#define PIECE_BYTES         65536u
#define BLOCK_BYTES         4096u
#define PIECE_BLOCKS        (PIECE_BYTES / BLOCK_BYTES)
#define DEFAULT_LIMIT_BYTES (1ull << 40)
#define FILE_BYTES_MAX      (1ull << 44)

struct piece {
	atomic_uint refs;
	unsigned char data[PIECE_BYTES];
};

struct piece_slot {
	struct piece *piece; /* counted; NULL reads as zeros */
	uint16_t blocks;     /* bit per block that takes disk space */
};

/* Bytes of the pieces at and behind @length are zeros. */
struct content {
	struct piece_slot *slots; /* owned */
	size_t count;
	uint64_t length;
};

struct node;

struct entry {
	char *name;        /* owned */
	struct node *node; /* counted */
};

struct entries {
	struct entry *list; /* owned */
	size_t count;
};

struct node {
	unsigned refs; /* entries, durable entries and open files */
	bool directory;
	struct content content; /* of a file */
	struct content durable; /* as of its last flush, when tracking */
	struct entries entries; /* of a directory */
	struct entries durable_entries;
	unsigned shared_locks;
	bool exclusive_lock;
};

struct memory {
	struct mojo_io base;
	pthread_mutex_t mutex; /* guards all below, nodes and open files included */
	struct node *root;
	uint64_t used_bytes; /* disk space of all files */
	uint64_t limit_bytes;
	bool track;
	uint64_t operations;
	uint64_t fault_after;
	int fault_error; /* 0: no fault is armed */
	bool fault_sticky;
	bool fault_hit; /* a sticky fault has struck already */
};

enum held_lock { LOCK_NONE, LOCK_SHARED, LOCK_EXCLUSIVE };

struct memory_file {
	struct memory *memory; /* borrowed */
	struct node *node;     /* counted */
	bool writable;
	enum held_lock lock;
};

static struct memory *memory_of(struct mojo_io *io)
{
	return (struct memory *)io;
}

static struct memory_file *file_of(struct mojo_io_file *file)
{
	return (struct memory_file *)file;
}

/* ---- content ------------------------------------------------------------------------------ */

static void piece_put(struct piece *piece)
{
	if (piece && atomic_fetch_sub_explicit(&piece->refs, 1, memory_order_acq_rel) == 1)
		free(piece);
}

static void content_clear(struct content *content)
{
	for (size_t i = 0; i < content->count; i++)
		piece_put(content->slots[i].piece);
	free(content->slots);
	*content = (struct content){ 0 };
}

static uint64_t content_disk_bytes(const struct content *content)
{
	uint64_t blocks = 0;

	for (size_t i = 0; i < content->count; i++)
		blocks += (uint64_t)__builtin_popcount(content->slots[i].blocks);
	return blocks * BLOCK_BYTES;
}

/* @target becomes what @source is; the pieces are shared. */
static int content_share(struct content *target, const struct content *source)
{
	struct piece_slot *slots = NULL;

	if (source->count) {
		slots = malloc(source->count * sizeof(*slots));
		if (!slots)
			return -ENOMEM;
		memcpy(slots, source->slots, source->count * sizeof(*slots));
		for (size_t i = 0; i < source->count; i++) {
			if (slots[i].piece)
				atomic_fetch_add_explicit(&slots[i].piece->refs, 1, memory_order_relaxed);
		}
	}
	content_clear(target);
	*target = (struct content){ .slots = slots, .count = source->count, .length = source->length };
	return 0;
}

static int content_grow_table(struct content *content, size_t count)
{
	struct piece_slot *slots;
	size_t grown;

	if (count <= content->count)
		return 0;
	grown = content->count * 2 > count ? content->count * 2 : count;
	slots = realloc(content->slots, grown * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	memset(slots + content->count, 0, (grown - content->count) * sizeof(*slots));
	content->slots = slots;
	content->count = grown;
	return 0;
}

/* The slot's piece, present and nobody else's. */
static int slot_own_piece(struct piece_slot *slot, struct piece **ret_piece)
{
	struct piece *piece = slot->piece;

	if (piece && atomic_load_explicit(&piece->refs, memory_order_acquire) == 1) {
		*ret_piece = piece;
		return 0;
	}
	piece = malloc(sizeof(*piece));
	if (!piece)
		return -ENOMEM;
	atomic_init(&piece->refs, 1);
	if (slot->piece)
		memcpy(piece->data, slot->piece->data, PIECE_BYTES);
	else
		memset(piece->data, 0, PIECE_BYTES);
	piece_put(slot->piece);
	slot->piece = piece;
	*ret_piece = piece;
	return 0;
}

/* The part of [@offset, @offset + @length) that lies in one piece. */
static size_t part_of_piece(uint64_t offset, uint64_t length)
{
	uint64_t room = PIECE_BYTES - offset % PIECE_BYTES;

	return (size_t)(length < room ? length : room);
}

/* Bits of the blocks that the range touches, or only of those that it covers whole. */
static uint16_t touched_blocks(size_t start, size_t length)
{
	unsigned first = (unsigned)(start / BLOCK_BYTES);
	unsigned last = (unsigned)((start + length - 1) / BLOCK_BYTES);

	return (uint16_t)(((1u << (last - first + 1)) - 1) << first);
}

static uint16_t covered_blocks(size_t start, size_t length)
{
	unsigned first = (unsigned)((start + BLOCK_BYTES - 1) / BLOCK_BYTES);
	unsigned end = (unsigned)((start + length) / BLOCK_BYTES);

	return first < end ? (uint16_t)(((1u << (end - first)) - 1) << first) : 0;
}

/* Mark blocks of a slot as taking disk space, if there is any left. @memory: NULL if what is taken is not counted. */
static int take_blocks(struct memory *memory, struct piece_slot *slot, uint16_t blocks)
{
	if (!memory) {
		slot->blocks |= blocks;
		return 0;
	}
	uint64_t more = (uint64_t)__builtin_popcount(blocks & ~slot->blocks & 0xffffu) * BLOCK_BYTES;

	if (more && (memory->used_bytes > memory->limit_bytes || more > memory->limit_bytes - memory->used_bytes))
		return -ENOSPC;
	memory->used_bytes += more;
	slot->blocks |= blocks;
	return 0;
}

/* @memory: as above. */
static int content_write(struct memory *memory, struct content *content, const void *data, size_t length,
			 uint64_t offset)
{
	const unsigned char *from = data;
	int error;

	if (!length)
		return 0;
	if (offset >= FILE_BYTES_MAX || length > FILE_BYTES_MAX - offset)
		return -EFBIG;
	error = content_grow_table(content, (size_t)((offset + length - 1) / PIECE_BYTES + 1));
	while (!error && length) {
		struct piece_slot *slot = &content->slots[offset / PIECE_BYTES];
		size_t start = offset % PIECE_BYTES;
		size_t part = part_of_piece(offset, length);
		struct piece *piece;

		error = slot_own_piece(slot, &piece);
		if (!error)
			error = take_blocks(memory, slot, touched_blocks(start, part));
		if (error)
			break;
		memcpy(piece->data + start, from, part);
		from += part;
		offset += part;
		length -= part;
		if (content->length < offset)
			content->length = offset;
	}
	return error;
}

static void content_read(const struct content *content, void *buf, size_t length, uint64_t offset)
{
	unsigned char *to = buf;

	while (length) {
		size_t part = part_of_piece(offset, length);
		size_t index = (size_t)(offset / PIECE_BYTES);

		if (index < content->count && content->slots[index].piece)
			memcpy(to, content->slots[index].piece->data + offset % PIECE_BYTES, part);
		else
			memset(to, 0, part);
		to += part;
		offset += part;
		length -= part;
	}
}

/* Zeros from @offset on; blocks that are covered whole take no space any more, which *used_bytes is told. */
static int content_punch(struct content *content, uint64_t offset, uint64_t length, uint64_t *used_bytes)
{
	uint64_t table_bytes = (uint64_t)content->count * PIECE_BYTES;

	if (offset >= table_bytes)
		return 0;
	if (length > table_bytes - offset)
		length = table_bytes - offset;
	while (length) {
		struct piece_slot *slot = &content->slots[offset / PIECE_BYTES];
		size_t start = offset % PIECE_BYTES;
		size_t part = part_of_piece(offset, length);
		uint16_t given_back = slot->blocks & covered_blocks(start, part);
		struct piece *piece;

		if (slot->piece && part == PIECE_BYTES) {
			piece_put(slot->piece);
			slot->piece = NULL;
		} else if (slot->piece) {
			int error = slot_own_piece(slot, &piece);

			if (error)
				return error;
			memset(piece->data + start, 0, part);
		}
		*used_bytes -= (uint64_t)__builtin_popcount(given_back) * BLOCK_BYTES;
		slot->blocks &= (uint16_t)~given_back;
		offset += part;
		length -= part;
	}
	return 0;
}

static int content_truncate(struct memory *memory, struct content *content, uint64_t length)
{
	int error;

	if (length > FILE_BYTES_MAX)
		return -EFBIG;
	error = content_punch(content, length, UINT64_MAX, &memory->used_bytes);
	if (!error)
		content->length = length;
	return error;
}

static int content_allocate(struct memory *memory, struct content *content, uint64_t offset, uint64_t length)
{
	uint64_t end = offset + length;
	int error;

	if (!length)
		return 0;
	if (offset >= FILE_BYTES_MAX || length > FILE_BYTES_MAX - offset)
		return -EFBIG;
	error = content_grow_table(content, (size_t)((end - 1) / PIECE_BYTES + 1));
	while (!error && length) {
		size_t part = part_of_piece(offset, length);

		error = take_blocks(memory, &content->slots[offset / PIECE_BYTES],
				    touched_blocks(offset % PIECE_BYTES, part));
		offset += part;
		length -= part;
	}
	if (!error && content->length < end)
		content->length = end;
	return error;
}

/* ---- nodes and names ---------------------------------------------------------------------- */

static struct node *node_new(bool directory)
{
	struct node *node = calloc(1, sizeof(*node));

	if (node) {
		node->refs = 1;
		node->directory = directory;
	}
	return node;
}

static void entries_clear(struct memory *memory, struct entries *entries);

static void node_put(struct memory *memory, struct node *node)
{
	if (!node || --node->refs)
		return;
	memory->used_bytes -= content_disk_bytes(&node->content);
	content_clear(&node->content);
	content_clear(&node->durable);
	entries_clear(memory, &node->entries);
	entries_clear(memory, &node->durable_entries);
	free(node);
}

static void entries_clear(struct memory *memory, struct entries *entries)
{
	for (size_t i = 0; i < entries->count; i++) {
		free(entries->list[i].name);
		node_put(memory, entries->list[i].node);
	}
	free(entries->list);
	*entries = (struct entries){ 0 };
}

static struct entry *entries_find(const struct entries *entries, const char *name)
{
	for (size_t i = 0; i < entries->count; i++) {
		if (!strcmp(entries->list[i].name, name))
			return &entries->list[i];
	}
	return NULL;
}

/* Adds a name that is not there yet, with a count of its own on @node. */
static int entries_add(struct entries *entries, const char *name, struct node *node)
{
	struct entry *list = realloc(entries->list, (entries->count + 1) * sizeof(*list));
	char *copy;

	if (!list)
		return -ENOMEM;
	entries->list = list;
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;
	node->refs++;
	list[entries->count++] = (struct entry){ .name = copy, .node = node };
	return 0;
}

static void entries_remove(struct memory *memory, struct entries *entries, struct entry *entry)
{
	struct entry gone = *entry;

	*entry = entries->list[--entries->count];
	free(gone.name);
	node_put(memory, gone.node);
}

/* @target lists what @source does, the same nodes. */
static int entries_share(struct memory *memory, struct entries *target, const struct entries *source)
{
	struct entries copy = { 0 };

	for (size_t i = 0; i < source->count; i++) {
		int error = entries_add(&copy, source->list[i].name, source->list[i].node);

		if (error) {
			entries_clear(memory, &copy);
			return error;
		}
	}
	entries_clear(memory, target);
	*target = copy;
	return 0;
}

/* The directory that @path's last component is in, and that component. */
static int find_parent(struct memory *memory, const char *path, struct node **ret_dir, const char **ret_name)
{
	struct node *dir = memory->root;
	const char *slash;

	while ((slash = strchr(path, '/'))) {
		struct entry *found = NULL;

		for (size_t i = 0; i < dir->entries.count && !found; i++) {
			struct entry *entry = &dir->entries.list[i];

			if (strlen(entry->name) == (size_t)(slash - path) &&
			    !memcmp(entry->name, path, (size_t)(slash - path)))
				found = entry;
		}
		if (!found)
			return -ENOENT;
		if (!found->node->directory)
			return -ENOTDIR;
		dir = found->node;
		path = slash + 1;
	}
	if (!path[0])
		return -ENOENT;
	*ret_dir = dir;
	*ret_name = path;
	return 0;
}

/* The node at @path, "" being the root; not counted. */
static int find_node(struct memory *memory, const char *path, struct node **ret_node)
{
	struct entry *entry;
	struct node *dir;
	const char *name;
	int error;

	if (!path[0]) {
		*ret_node = memory->root;
		return 0;
	}
	error = find_parent(memory, path, &dir, &name);
	if (error)
		return error;
	entry = entries_find(&dir->entries, name);
	if (!entry)
		return -ENOENT;
	*ret_node = entry->node;
	return 0;
}

static int find_file(struct memory *memory, const char *path, struct node **ret_node)
{
	int error = find_node(memory, path, ret_node);

	if (!error && (*ret_node)->directory)
		error = -EISDIR;
	return error;
}

static int make_node(struct memory *memory, struct node *dir, const char *name, bool directory, struct node **ret_node)
{
	struct node *node = node_new(directory);
	int error;

	if (!node)
		return -ENOMEM;
	error = entries_add(&dir->entries, name, node);
	if (!error)
		*ret_node = node;
	node_put(memory, node); /* the entry has its own count */
	return error;
}

/* ---- faults ------------------------------------------------------------------------------- */

/* To be called once for each modifying operation, before it does anything. */
static int fault(struct memory *memory, bool *ret_first)
{
	int error = memory->fault_error;

	memory->operations++;
	if (!error)
		return 0;
	if (memory->fault_after) {
		memory->fault_after--;
		return 0;
	}
	if (ret_first)
		*ret_first = !memory->fault_hit;
	memory->fault_hit = true;
	if (!memory->fault_sticky)
		memory->fault_error = 0;
	return error;
}

/* ---- operations --------------------------------------------------------------------------- */

static int memory_open_locked(struct memory *memory, const char *path, int flags, struct memory_file *file)
{
	struct entry *entry;
	struct node *node;
	struct node *dir;
	const char *name;
	int error;

	error = find_parent(memory, path, &dir, &name);
	if (error)
		return error;
	entry = entries_find(&dir->entries, name);
	if (entry) {
		node = entry->node;
		if (flags & MOJO_IO_CREATE && flags & MOJO_IO_EXCLUSIVE)
			return -EEXIST;
		if (node->directory)
			return -EISDIR;
	} else {
		if (!(flags & MOJO_IO_CREATE))
			return -ENOENT;
		error = fault(memory, NULL);
		if (!error)
			error = make_node(memory, dir, name, false, &node);
		if (error)
			return error;
	}
	node->refs++;
	*file = (struct memory_file){ .memory = memory, .node = node, .writable = flags & MOJO_IO_WRITE };
	return 0;
}

static int memory_open(struct mojo_io *io, const char *path, int flags, struct mojo_io_file **ret_file)
{
	struct memory *memory = memory_of(io);
	struct memory_file *file = malloc(sizeof(*file));
	int error;

	if (!file)
		return -ENOMEM;
	pthread_mutex_lock(&memory->mutex);
	error = memory_open_locked(memory, path, flags, file);
	pthread_mutex_unlock(&memory->mutex);
	if (error) {
		free(file);
		return error;
	}
	*ret_file = (struct mojo_io_file *)file;
	return 0;
}

static void drop_lock(struct memory_file *file)
{
	if (file->lock == LOCK_SHARED)
		file->node->shared_locks--;
	else if (file->lock == LOCK_EXCLUSIVE)
		file->node->exclusive_lock = false;
	file->lock = LOCK_NONE;
}

static void memory_close(struct mojo_io_file *io_file)
{
	struct memory_file *file = file_of(io_file);
	struct memory *memory;

	if (!file)
		return;
	memory = file->memory;
	pthread_mutex_lock(&memory->mutex);
	drop_lock(file);
	node_put(memory, file->node);
	pthread_mutex_unlock(&memory->mutex);
	free(file);
}

static int memory_read(struct mojo_io_file *io_file, void *buf, size_t length, uint64_t offset, size_t *ret_length)
{
	struct memory_file *file = file_of(io_file);
	struct content *content = &file->node->content;

	pthread_mutex_lock(&file->memory->mutex);
	if (offset >= content->length)
		length = 0;
	else if (length > content->length - offset)
		length = (size_t)(content->length - offset);
	content_read(content, buf, length, offset);
	pthread_mutex_unlock(&file->memory->mutex);
	*ret_length = length;
	return 0;
}

/* Writes to the content, and if it is to go @through, to what is durable. */
static int write_vector(struct memory_file *file, const struct iovec *vector, int count, uint64_t offset, bool through)
{
	struct memory *memory = file->memory;
	struct content *durable = through && memory->track ? &file->node->durable : NULL;
	bool torn = false;
	size_t total = 0;
	int failure;
	int error = 0;

	if (!file->writable)
		return -EBADF;
	for (int i = 0; i < count; i++)
		total += vector[i].iov_len;
	pthread_mutex_lock(&memory->mutex);
	failure = fault(memory, &torn);
	if (failure)
		total = torn ? total / 2 : 0;
	for (int i = 0; i < count && total && !error; i++) {
		size_t part = vector[i].iov_len < total ? vector[i].iov_len : total;

		error = content_write(memory, &file->node->content, vector[i].iov_base, part, offset);
		if (!error && durable && !failure)
			error = content_write(NULL, durable, vector[i].iov_base, part, offset);
		offset += part;
		total -= part;
	}
	pthread_mutex_unlock(&memory->mutex);
	return failure ? failure : error;
}

static int memory_write(struct mojo_io_file *io_file, const struct iovec *vector, int count, uint64_t offset)
{
	return write_vector(file_of(io_file), vector, count, offset, false);
}

static int memory_write_through(struct mojo_io_file *io_file, const struct iovec *vector, int count, uint64_t offset)
{
	return write_vector(file_of(io_file), vector, count, offset, true);
}

static int memory_flush(struct mojo_io_file *io_file)
{
	struct memory_file *file = file_of(io_file);
	struct memory *memory = file->memory;
	int error;

	pthread_mutex_lock(&memory->mutex);
	error = fault(memory, NULL);
	if (!error && memory->track)
		error = content_share(&file->node->durable, &file->node->content);
	pthread_mutex_unlock(&memory->mutex);
	return error;
}

static void memory_prefetch(struct mojo_io_file *file, uint64_t offset, uint64_t length)
{
	(void)file;
	(void)offset;
	(void)length;
}

static int memory_allocate(struct mojo_io_file *io_file, uint64_t offset, uint64_t length)
{
	struct memory_file *file = file_of(io_file);
	struct memory *memory = file->memory;
	int error;

	if (!file->writable)
		return -EBADF;
	pthread_mutex_lock(&memory->mutex);
	error = fault(memory, NULL);
	if (!error)
		error = content_allocate(memory, &file->node->content, offset, length);
	pthread_mutex_unlock(&memory->mutex);
	return error;
}

static int memory_prepare(struct mojo_io_file *io_file, uint64_t offset, uint64_t length)
{
	static const unsigned char zeros[BLOCK_BYTES];
	struct memory_file *file = file_of(io_file);
	struct memory *memory = file->memory;
	int error;

	if (!file->writable)
		return -EBADF;
	pthread_mutex_lock(&memory->mutex);
	error = fault(memory, NULL);
	while (!error && length) {
		size_t part = length < sizeof(zeros) ? (size_t)length : sizeof(zeros);

		error = content_write(memory, &file->node->content, zeros, part, offset);
		offset += part;
		length -= part;
	}
	pthread_mutex_unlock(&memory->mutex);
	return error;
}

static int memory_punch(struct mojo_io_file *io_file, uint64_t offset, uint64_t length)
{
	struct memory_file *file = file_of(io_file);
	struct memory *memory = file->memory;
	uint64_t durable_bytes = 0; /* not counted */
	int error;

	if (!file->writable)
		return -EBADF;
	pthread_mutex_lock(&memory->mutex);
	error = fault(memory, NULL);
	if (!error)
		error = content_punch(&file->node->content, offset, length, &memory->used_bytes);
	/* The host may carry it out for good at any moment. For the content this is the harsher case; that it
	 * came to nothing would only cost space. */
	if (!error && memory->track)
		error = content_punch(&file->node->durable, offset, length, &durable_bytes);
	pthread_mutex_unlock(&memory->mutex);
	return error;
}

static int memory_truncate(struct mojo_io_file *io_file, uint64_t length)
{
	struct memory_file *file = file_of(io_file);
	struct memory *memory = file->memory;
	int error;

	if (!file->writable)
		return -EINVAL; /* as ftruncate(2) */
	pthread_mutex_lock(&memory->mutex);
	error = fault(memory, NULL);
	if (!error)
		error = content_truncate(memory, &file->node->content, length);
	pthread_mutex_unlock(&memory->mutex);
	return error;
}

static int memory_size(struct mojo_io_file *io_file, uint64_t *ret_bytes, uint64_t *ret_disk_bytes)
{
	struct memory_file *file = file_of(io_file);

	pthread_mutex_lock(&file->memory->mutex);
	*ret_bytes = file->node->content.length;
	*ret_disk_bytes = content_disk_bytes(&file->node->content);
	pthread_mutex_unlock(&file->memory->mutex);
	return 0;
}

static int memory_lock(struct mojo_io_file *io_file, bool exclusive)
{
	struct memory_file *file = file_of(io_file);
	struct node *node = file->node;
	int error = 0;

	pthread_mutex_lock(&file->memory->mutex);
	/* As flock(2): changing the kind gives the old lock up first, and a refusal leaves none. */
	drop_lock(file);
	if (node->exclusive_lock || (exclusive && node->shared_locks)) {
		error = -EWOULDBLOCK;
	} else if (exclusive) {
		node->exclusive_lock = true;
		file->lock = LOCK_EXCLUSIVE;
	} else {
		node->shared_locks++;
		file->lock = LOCK_SHARED;
	}
	pthread_mutex_unlock(&file->memory->mutex);
	return error;
}

static int memory_mkdir(struct mojo_io *io, const char *path)
{
	struct memory *memory = memory_of(io);
	struct node *node;
	struct node *dir;
	const char *name;
	int error;

	pthread_mutex_lock(&memory->mutex);
	error = fault(memory, NULL);
	if (!error)
		error = find_parent(memory, path, &dir, &name);
	if (!error && entries_find(&dir->entries, name))
		error = -EEXIST;
	if (!error)
		error = make_node(memory, dir, name, true, &node);
	pthread_mutex_unlock(&memory->mutex);
	return error;
}

/* May @node take the place of what @target names? */
static int check_replace(const struct node *node, const struct entry *target)
{
	if (!target)
		return 0;
	if (!target->node->directory)
		return node->directory ? -ENOTDIR : 0;
	if (!node->directory)
		return -EISDIR;
	return target->node->entries.count ? -ENOTEMPTY : 0;
}

static int memory_rename_locked(struct memory *memory, const char *from, const char *to)
{
	struct node *from_dir, *to_dir, *node;
	const char *from_name, *to_name;
	struct entry *target;
	struct entry *source;
	int error;

	error = find_parent(memory, from, &from_dir, &from_name);
	if (!error)
		error = find_parent(memory, to, &to_dir, &to_name);
	if (error)
		return error;
	source = entries_find(&from_dir->entries, from_name);
	if (!source)
		return -ENOENT;
	node = source->node;
	if (node->directory && !strncmp(to, from, strlen(from)) && to[strlen(from)] == '/')
		return -EINVAL;
	target = entries_find(&to_dir->entries, to_name);
	if (target && target->node == node)
		return 0;
	error = check_replace(node, target);
	if (error)
		return error;
	if (target) {
		node->refs++;
		node_put(memory, target->node);
		target->node = node;
	} else {
		error = entries_add(&to_dir->entries, to_name, node);
		if (error)
			return error;
		/* The list may have moved. */
		source = entries_find(&from_dir->entries, from_name);
	}
	entries_remove(memory, &from_dir->entries, source);
	return 0;
}

static int memory_rename(struct mojo_io *io, const char *from, const char *to)
{
	struct memory *memory = memory_of(io);
	int error;

	pthread_mutex_lock(&memory->mutex);
	error = fault(memory, NULL);
	if (!error)
		error = memory_rename_locked(memory, from, to);
	pthread_mutex_unlock(&memory->mutex);
	return error;
}

static int memory_unlink(struct mojo_io *io, const char *path)
{
	struct memory *memory = memory_of(io);
	struct entry *entry = NULL;
	struct node *dir;
	const char *name;
	int error;

	pthread_mutex_lock(&memory->mutex);
	error = fault(memory, NULL);
	if (!error)
		error = find_parent(memory, path, &dir, &name);
	if (!error) {
		entry = entries_find(&dir->entries, name);
		if (!entry)
			error = -ENOENT;
		else if (entry->node->directory)
			error = -EISDIR;
		else
			entries_remove(memory, &dir->entries, entry);
	}
	pthread_mutex_unlock(&memory->mutex);
	return error;
}

static int memory_flush_dir(struct mojo_io *io, const char *path)
{
	struct memory *memory = memory_of(io);
	struct node *node;
	int error;

	if (strcmp(path, "..") == 0)
		return 0; /* nothing holds us */
	pthread_mutex_lock(&memory->mutex);
	error = fault(memory, NULL);
	if (!error)
		error = find_node(memory, path, &node);
	if (!error && !node->directory)
		error = -ENOTDIR;
	if (!error && memory->track)
		error = entries_share(memory, &node->durable_entries, &node->entries);
	pthread_mutex_unlock(&memory->mutex);
	return error;
}

static int memory_list(struct mojo_io *io, const char *path, mojo_io_list_fn *fn, void *arg)
{
	struct memory *memory = memory_of(io);
	struct entries names = { 0 };
	struct node *node;
	int error;

	/* From a copy, without the mutex: the function may well use the io. */
	pthread_mutex_lock(&memory->mutex);
	error = find_node(memory, path, &node);
	if (!error && !node->directory)
		error = -ENOTDIR;
	if (!error)
		error = entries_share(memory, &names, &node->entries);
	pthread_mutex_unlock(&memory->mutex);
	for (size_t i = 0; i < names.count && !error; i++)
		error = fn(arg, names.list[i].name);
	pthread_mutex_lock(&memory->mutex);
	entries_clear(memory, &names);
	pthread_mutex_unlock(&memory->mutex);
	return error;
}

static int memory_space(struct mojo_io *io, struct mojo_io_space *ret_space)
{
	struct memory *memory = memory_of(io);
	uint64_t free_bytes = 0;

	pthread_mutex_lock(&memory->mutex);
	if (memory->limit_bytes > memory->used_bytes)
		free_bytes = memory->limit_bytes - memory->used_bytes;
	*ret_space = (struct mojo_io_space){
		.total = memory->limit_bytes,
		.free = free_bytes,
		.available = free_bytes,
		.files = 1u << 20,
	};
	pthread_mutex_unlock(&memory->mutex);
	return 0;
}

static int64_t memory_now_ns(struct mojo_io *io)
{
	struct timespec now;

	(void)io;
	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int memory_random(struct mojo_io *io, void *buf, size_t length)
{
	size_t done = 0;

	(void)io;
	while (done < length) {
		ssize_t n = getrandom((char *)buf + done, length - done, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
	}
	return 0;
}

static void memory_free(struct mojo_io *io)
{
	struct memory *memory = memory_of(io);

	node_put(memory, memory->root);
	pthread_mutex_destroy(&memory->mutex);
	free(memory);
}

static const struct mojo_io_ops memory_ops = {
	.open = memory_open,
	.close = memory_close,
	.read = memory_read,
	.write = memory_write,
	.write_through = memory_write_through,
	.flush = memory_flush,
	.prefetch = memory_prefetch,
	.allocate = memory_allocate,
	.prepare = memory_prepare,
	.punch = memory_punch,
	.truncate = memory_truncate,
	.size = memory_size,
	.lock = memory_lock,
	.mkdir = memory_mkdir,
	.rename = memory_rename,
	.unlink = memory_unlink,
	.flush_dir = memory_flush_dir,
	.list = memory_list,
	.space = memory_space,
	.now_ns = memory_now_ns,
	.random = memory_random,
	.free = memory_free,
};

/* ---- for tests ---------------------------------------------------------------------------- */

int mojo_io_memory(struct mojo_io **ret_io)
{
	struct memory *memory = calloc(1, sizeof(*memory));

	if (!memory)
		return -ENOMEM;
	memory->base.ops = &memory_ops;
	memory->limit_bytes = DEFAULT_LIMIT_BYTES;
	memory->root = node_new(true);
	if (!memory->root) {
		free(memory);
		return -ENOMEM;
	}
	pthread_mutex_init(&memory->mutex, NULL);
	*ret_io = &memory->base;
	return 0;
}

enum clone_kind { CLONE_PRESENT, CLONE_DURABLE, CLONE_TORN };

struct cloning {
	struct memory *copy;
	enum clone_kind kind;
	uint64_t random;
};

static uint64_t next_random(struct cloning *cloning)
{
	cloning->random ^= cloning->random >> 12;
	cloning->random ^= cloning->random << 25;
	cloning->random ^= cloning->random >> 27;
	return (cloning->random * 0x2545f4914f6cdd1dull) >> 33;
}

/* @target, a copy of the durable content, gets some of what came since. */
static int tear_content(struct cloning *cloning, struct content *target, const struct content *present)
{
	uint64_t length = present->length > target->length ? present->length : target->length;
	unsigned char old[BLOCK_BYTES], new[BLOCK_BYTES];
	int error;

	error = content_grow_table(target, present->count);
	for (uint64_t offset = 0; offset < length && !error; offset += BLOCK_BYTES) {
		size_t taken = BLOCK_BYTES;

		if (offset % PIECE_BYTES == 0 && offset / PIECE_BYTES < target->count) {
			size_t i = (size_t)(offset / PIECE_BYTES);

			if (i >= present->count ? !target->slots[i].piece
						: target->slots[i].piece == present->slots[i].piece) {
				offset += PIECE_BYTES - BLOCK_BYTES;
				continue;
			}
		}
		content_read(target, old, sizeof(old), offset);
		content_read(present, new, sizeof(new), offset);
		if (!memcmp(old, new, sizeof(new)))
			continue;
		switch (next_random(cloning) % 4) {
		case 0:
			continue;
		case 1:
			taken = (size_t)(next_random(cloning) % 8) * 512;
			break;
		}
		error = content_write(cloning->copy, target, new, taken, offset);
	}
	if (!error && next_random(cloning) % 2)
		error = content_truncate(cloning->copy, target, present->length);
	return error;
}

static int clone_content(struct cloning *cloning, struct node *node, const struct node *from)
{
	int error;

	error = content_share(&node->content, cloning->kind == CLONE_PRESENT ? &from->content : &from->durable);
	if (error)
		return error;
	cloning->copy->used_bytes += content_disk_bytes(&node->content);
	return cloning->kind == CLONE_TORN ? tear_content(cloning, &node->content, &from->content) : 0;
}

/* Fill the directory @target of the copy with copies of what @source holds. */
static int clone_tree(struct cloning *cloning, struct node *target, const struct node *source)
{
	bool present = cloning->kind == CLONE_PRESENT || (cloning->kind == CLONE_TORN && next_random(cloning) % 2);
	const struct entries *entries = present ? &source->entries : &source->durable_entries;

	for (size_t i = 0; i < entries->count; i++) {
		const struct node *from = entries->list[i].node;
		struct node *node;
		int error;

		error = make_node(cloning->copy, target, entries->list[i].name, from->directory, &node);
		if (!error)
			error = from->directory ? clone_tree(cloning, node, from) : clone_content(cloning, node, from);
		if (error)
			return error;
	}
	return 0;
}

static int clone_io(struct mojo_io *io, enum clone_kind kind, uint64_t seed, struct mojo_io **ret_copy)
{
	struct memory *memory = memory_of(io);
	struct cloning cloning = { .kind = kind, .random = seed * 2 + 1 };
	struct mojo_io *copy;
	int error;

	error = mojo_io_memory(&copy);
	if (error)
		return error;
	cloning.copy = memory_of(copy);
	pthread_mutex_lock(&memory->mutex);
	if (kind != CLONE_PRESENT && !memory->track)
		error = -EOPNOTSUPP;
	if (!error)
		error = clone_tree(&cloning, cloning.copy->root, memory->root);
	pthread_mutex_unlock(&memory->mutex);
	if (error) {
		mojo_io_free(copy);
		return error;
	}
	*ret_copy = copy;
	return 0;
}

int mojo_io_memory_clone(struct mojo_io *io, struct mojo_io **ret_copy)
{
	return clone_io(io, CLONE_PRESENT, 0, ret_copy);
}

int mojo_io_memory_clone_durable(struct mojo_io *io, struct mojo_io **ret_copy)
{
	return clone_io(io, CLONE_DURABLE, 0, ret_copy);
}

int mojo_io_memory_clone_torn(struct mojo_io *io, uint64_t seed, struct mojo_io **ret_copy)
{
	return clone_io(io, CLONE_TORN, seed, ret_copy);
}

static int make_durable(struct memory *memory, struct node *node)
{
	int error;

	if (!node->directory)
		return content_share(&node->durable, &node->content);
	error = entries_share(memory, &node->durable_entries, &node->entries);
	for (size_t i = 0; i < node->entries.count && !error; i++)
		error = make_durable(memory, node->entries.list[i].node);
	return error;
}

int mojo_io_memory_track(struct mojo_io *io)
{
	struct memory *memory = memory_of(io);
	int error;

	pthread_mutex_lock(&memory->mutex);
	error = make_durable(memory, memory->root);
	if (!error)
		memory->track = true;
	pthread_mutex_unlock(&memory->mutex);
	return error;
}

int mojo_io_memory_load(struct mojo_io *io, const char *path, void **ret_data, size_t *ret_length)
{
	struct memory *memory = memory_of(io);
	struct node *node;
	void *data = NULL;
	size_t length = 0;
	int error;

	pthread_mutex_lock(&memory->mutex);
	error = find_file(memory, path, &node);
	if (!error) {
		length = (size_t)node->content.length;
		data = malloc(length ? length : 1);
		if (data)
			content_read(&node->content, data, length, 0);
		else
			error = -ENOMEM;
	}
	pthread_mutex_unlock(&memory->mutex);
	if (error)
		return error;
	*ret_data = data;
	*ret_length = length;
	return 0;
}

int mojo_io_memory_replace(struct mojo_io *io, const char *path, const void *data, size_t length)
{
	struct memory *memory = memory_of(io);
	struct node *node;
	struct node *dir;
	const char *name;
	int error;

	pthread_mutex_lock(&memory->mutex);
	error = find_file(memory, path, &node);
	if (error == -ENOENT) {
		error = find_parent(memory, path, &dir, &name);
		if (!error)
			error = make_node(memory, dir, name, false, &node);
	}
	if (!error)
		error = content_truncate(memory, &node->content, 0);
	if (!error)
		error = content_write(memory, &node->content, data, length, 0);
	pthread_mutex_unlock(&memory->mutex);
	return error;
}

int mojo_io_memory_flip(struct mojo_io *io, const char *path, uint64_t offset, unsigned char mask)
{
	struct memory *memory = memory_of(io);
	unsigned char byte;
	struct node *node;
	int error;

	pthread_mutex_lock(&memory->mutex);
	error = find_file(memory, path, &node);
	if (!error && offset >= node->content.length)
		error = -ERANGE;
	if (!error) {
		content_read(&node->content, &byte, 1, offset);
		byte ^= mask;
		error = content_write(memory, &node->content, &byte, 1, offset);
	}
	pthread_mutex_unlock(&memory->mutex);
	return error;
}

void mojo_io_memory_fail(struct mojo_io *io, uint64_t after, int error, bool sticky)
{
	struct memory *memory = memory_of(io);

	pthread_mutex_lock(&memory->mutex);
	memory->fault_after = after;
	memory->fault_error = error;
	memory->fault_sticky = sticky;
	memory->fault_hit = false;
	pthread_mutex_unlock(&memory->mutex);
}

uint64_t mojo_io_memory_operations(struct mojo_io *io)
{
	struct memory *memory = memory_of(io);
	uint64_t operations;

	pthread_mutex_lock(&memory->mutex);
	operations = memory->operations;
	pthread_mutex_unlock(&memory->mutex);
	return operations;
}

void mojo_io_memory_limit(struct mojo_io *io, uint64_t bytes)
{
	struct memory *memory = memory_of(io);

	pthread_mutex_lock(&memory->mutex);
	memory->limit_bytes = bytes;
	pthread_mutex_unlock(&memory->mutex);
}
