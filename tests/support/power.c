/* SPDX-License-Identifier: MIT */
/*
 * power.c - what is durable is kept in a vault, an io in memory that holds each file under a number of its own;
 * what is not yet, in lists of events. A state is a clone of the vault to which some of the events are applied,
 * after which the files get their names.
 */
#include "power.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io_memory.h"
#include "io_record.h"

#define SECTOR        512u
#define NAME_BYTES    64u
#define PENDING_MAX   48u /* operations of one file that wait for a flush; then the oldest become durable */
#define PENDING_LEAST 32u
#define LOCK_FILE     "mojo.lock" /* what it holds makes no difference */

struct entry {
	char name[NAME_BYTES];
	int inode; /* -1: a directory */
};

struct entries {
	struct entry *list;
	size_t count, capacity;
};

/* A change of a directory's names that is not flushed yet. */
struct change {
	size_t begin; /* event */
	enum { ADD, REMOVE, MOVE } kind;
	char name[NAME_BYTES];     /* of REMOVE and MOVE: that goes */
	char new_name[NAME_BYTES]; /* of ADD and MOVE: that comes */
	int inode;
};

struct dir {
	char path[NAME_BYTES];
	struct entries durable, present;
	struct change *changes;
	size_t count, capacity;
};

struct inode {
	size_t *pending; /* events */
	size_t count, capacity;
	uint64_t size; /* now, with all that is pending */
	bool gone;     /* no name leads to it any more, or ever will */
	bool dull;     /* its content makes no difference */
};

struct event {
	struct mojo_io_event e;
	size_t other; /* of a begin its END, or the SESSION that followed instead; of an END its begin; SIZE_MAX: none */
	size_t place; /* in the recording */
};

struct power {
	struct event *events;
	size_t count, next, length;
	struct mojo_io *vault;
	struct inode *inodes;
	size_t inode_count, inode_capacity;
	struct dir *dirs; /* the first is "" */
	size_t dir_count, dir_capacity;
	int *files; /* inode by number of the open file; of this session */
	size_t file_capacity;
	bool changed; /* since the last moment */
	uint64_t moment;
	power_mark_fn *mark;
	void *arg;
};

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "power: %s\n", what);
	abort();
}

static void check(bool condition, const char *what)
{
	if (!condition)
		die(what);
}

/* Room for one more. */
static void *grow(void *list, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity)
		return list;
	*capacity = *capacity ? *capacity * 2 : 16;
	list = realloc(list, *capacity * size);
	check(list, "out of memory");
	return list;
}

/* ---- names ----------------------------------------------------------------------------------- */

static struct entry *find(const struct entries *entries, const char *name)
{
	for (size_t i = 0; i < entries->count; i++)
		if (!strcmp(entries->list[i].name, name))
			return &entries->list[i];
	return NULL;
}

static void drop(struct entries *entries, const char *name)
{
	struct entry *entry = find(entries, name);
	if (entry)
		*entry = entries->list[--entries->count];
}

static void set(struct entries *entries, const char *name, int inode)
{
	drop(entries, name);
	entries->list = grow(entries->list, entries->count, &entries->capacity, sizeof(*entries->list));
	struct entry *entry = &entries->list[entries->count++];
	strcpy(entry->name, name);
	entry->inode = inode;
}

static void copy_entries(struct entries *to, const struct entries *from)
{
	*to = (struct entries){ .count = from->count, .capacity = from->count + 1 };
	to->list = malloc(to->capacity * sizeof(*to->list));
	check(to->list, "out of memory");
	if (from->count)
		memcpy(to->list, from->list, from->count * sizeof(*to->list));
}

static void apply_change(struct entries *entries, const struct change *change)
{
	if (change->kind == MOVE) { /* in whatever order: a file has one name */
		for (size_t i = 0; i < entries->count; i++) {
			if (entries->list[i].inode == change->inode) {
				entries->list[i] = entries->list[--entries->count];
				break;
			}
		}
	} else if (change->kind == REMOVE) {
		drop(entries, change->name);
	}
	if (change->kind != REMOVE)
		set(entries, change->new_name, change->inode);
}

static struct dir *find_dir(struct power *power, const char *path, size_t length)
{
	for (size_t i = 0; i < power->dir_count; i++)
		if (strlen(power->dirs[i].path) == length && !memcmp(power->dirs[i].path, path, length))
			return &power->dirs[i];
	die("a directory that was never made");
}

/* Splits a path into its directory and the name in it. */
static struct dir *parent(struct power *power, const char *path, size_t length, char *ret_name)
{
	size_t slash = length;
	while (slash > 0 && path[slash - 1] != '/')
		slash--;
	check(length - slash < NAME_BYTES, "a name is too long");
	memcpy(ret_name, path + slash, length - slash);
	ret_name[length - slash] = '\0';
	return find_dir(power, path, slash ? slash - 1 : 0);
}

static void add_dir(struct power *power, const char *path, size_t length)
{
	check(length < NAME_BYTES, "a path is too long");
	power->dirs = grow(power->dirs, power->dir_count, &power->dir_capacity, sizeof(*power->dirs));
	struct dir *dir = &power->dirs[power->dir_count++];
	memset(dir, 0, sizeof(*dir));
	memcpy(dir->path, path, length);
}

static void add_change(struct dir *dir, const struct change *change)
{
	dir->changes = grow(dir->changes, dir->count, &dir->capacity, sizeof(*dir->changes));
	dir->changes[dir->count++] = *change;
	apply_change(&dir->present, change);
}

static bool is_named(const struct power *power, int inode)
{
	for (size_t d = 0; d < power->dir_count; d++) {
		const struct dir *dir = &power->dirs[d];
		for (size_t i = 0; i < dir->durable.count; i++)
			if (dir->durable.list[i].inode == inode)
				return true;
		for (size_t i = 0; i < dir->present.count; i++)
			if (dir->present.list[i].inode == inode)
				return true;
		for (size_t i = 0; i < dir->count; i++)
			if (dir->changes[i].inode == inode)
				return true;
	}
	return false;
}

/* ---- content --------------------------------------------------------------------------------- */

static void vault_name(int inode, char *ret_name)
{
	snprintf(ret_name, 24, ".%d", inode);
}

static struct mojo_io_file *open_inode(struct mojo_io *io, int inode, int flags)
{
	char name[24];
	struct mojo_io_file *file;
	vault_name(inode, name);
	check(io->ops->open(io, name, MOJO_IO_WRITE | flags, &file) == 0, "a file of the vault cannot be opened");
	return file;
}

static int add_inode(struct power *power, const char *name)
{
	power->inodes = grow(power->inodes, power->inode_count, &power->inode_capacity, sizeof(*power->inodes));
	power->inodes[power->inode_count] = (struct inode){ .dull = !strcmp(name, LOCK_FILE) };
	return (int)power->inode_count++;
}

/* Which sectors of a write are there. */
struct tear {
	enum { WHOLE, RANGE, ALL_BUT_RANGE, SOME, SOME_BLOCKS } kind;
	uint64_t first, end; /* sectors of the write */
	uint64_t seed;
};

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static bool has_sector(const struct tear *tear, uint64_t sector)
{
	bool within = sector >= tear->first && sector < tear->end;
	switch (tear->kind) {
	case WHOLE:
		return true;
	case RANGE:
		return within;
	case ALL_BUT_RANGE:
		return !within;
	case SOME:
		return mix(tear->seed ^ sector) & 1;
	case SOME_BLOCKS:
		return mix(tear->seed ^ sector / 8) & 1;
	}
	return false;
}

static uint64_t sectors_of(const struct mojo_io_event *e)
{
	return e->length ? (e->offset % SECTOR + e->length + SECTOR - 1) / SECTOR : 0;
}

static void apply_write(struct mojo_io_file *file, const struct mojo_io_ops *ops, const struct mojo_io_event *e,
			const struct tear *tear)
{
	uint64_t sectors = sectors_of(e), base = e->offset - e->offset % SECTOR;
	for (uint64_t i = 0; i < sectors;) {
		uint64_t from = i;
		if (!has_sector(tear, i)) {
			i++;
			continue;
		}
		while (i < sectors && has_sector(tear, i))
			i++;
		uint64_t start = base + from * SECTOR, end = base + i * SECTOR;
		if (start < e->offset)
			start = e->offset;
		if (end > e->offset + e->length)
			end = e->offset + e->length;
		struct iovec vector = { (char *)(uintptr_t)e->data + (start - e->offset), (size_t)(end - start) };
		check(ops->write(file, &vector, 1, start) == 0, "writing to a state");
	}
}

static void apply(struct mojo_io_file *file, const struct mojo_io_ops *ops, const struct mojo_io_event *e,
		  const struct tear *tear)
{
	int err = 0;
	if (e->kind == MOJO_IO_EVENT_WRITE)
		apply_write(file, ops, e, tear);
	else if (e->kind == MOJO_IO_EVENT_ALLOCATE)
		err = ops->allocate(file, e->offset, e->length);
	else if (e->kind == MOJO_IO_EVENT_PUNCH)
		err = ops->punch(file, e->offset, e->length);
	else if (e->kind == MOJO_IO_EVENT_TRUNCATE)
		err = ops->truncate(file, e->offset);
	check(!err, "applying an operation to a state");
}

static uint64_t size_after(uint64_t size, const struct mojo_io_event *e)
{
	if (e->kind == MOJO_IO_EVENT_TRUNCATE)
		return e->offset;
	if ((e->kind == MOJO_IO_EVENT_WRITE || e->kind == MOJO_IO_EVENT_ALLOCATE) && e->length &&
	    e->offset + e->length > size)
		return e->offset + e->length;
	return size;
}

static bool failed(const struct power *power, const struct event *event)
{
	return event->other < power->count && power->events[event->other].e.result != 0;
}

/* Is it a write that has gone through to the disk? */
static bool is_through(const struct power *power, const struct event *event)
{
	return event->e.kind == MOJO_IO_EVENT_WRITE && event->e.flags & MOJO_IO_EVENT_THROUGH &&
	       event->other < power->next && power->events[event->other].e.kind == MOJO_IO_EVENT_END &&
	       !failed(power, event);
}

static bool overlap(const struct mojo_io_event *a, const struct mojo_io_event *b)
{
	/* Behind the length that a file was cut to. */
	uint64_t a_length = a->kind == MOJO_IO_EVENT_TRUNCATE ? UINT64_MAX - a->offset : a->length;
	uint64_t b_length = b->kind == MOJO_IO_EVENT_TRUNCATE ? UINT64_MAX - b->offset : b->length;
	return a->offset < b->offset + b_length && b->offset < a->offset + a_length;
}

/*
 * The write at event @at went through. It becomes durable, unless something that it overlaps is waiting for a flush: then
 * it has to wait, too, for its turn, and is there in every state.
 */
static void settle_through(struct power *power, int number, size_t at)
{
	struct inode *inode = &power->inodes[number];
	struct tear whole = { .kind = WHOLE };
	size_t place = 0;
	while (place < inode->count && inode->pending[place] != at)
		if (overlap(&power->events[inode->pending[place++]].e, &power->events[at].e))
			return;
	if (place == inode->count)
		return; /* old already */
	struct mojo_io_file *file = open_inode(power->vault, number, 0);
	apply(file, power->vault->ops, &power->events[at].e, &whole);
	power->vault->ops->close(file);
	inode->count--;
	memmove(inode->pending + place, inode->pending + place + 1, (inode->count - place) * sizeof(*inode->pending));
}

/* The operations of a file whose END came before event @before become durable, @most of them at most. */
static void settle(struct power *power, int number, size_t before, size_t most)
{
	struct inode *inode = &power->inodes[number];
	struct tear whole = { .kind = WHOLE };
	struct mojo_io_file *file = NULL;
	size_t kept = 0;
	for (size_t i = 0; i < inode->count; i++) {
		const struct event *event = &power->events[inode->pending[i]];
		if (most && event->other < before && !failed(power, event)) {
			if (!file)
				file = open_inode(power->vault, number, 0);
			apply(file, power->vault->ops, &event->e, &whole);
			power->changed = true;
			most--;
		} else {
			inode->pending[kept++] = inode->pending[i];
		}
	}
	inode->count = kept;
	if (file)
		power->vault->ops->close(file);
}

/* ---- events ---------------------------------------------------------------------------------- */

static bool modifies(const struct event *event)
{
	switch (event->e.kind) {
	case MOJO_IO_EVENT_OPEN:
		return event->e.flags & MOJO_IO_CREATE;
	case MOJO_IO_EVENT_WRITE:
	case MOJO_IO_EVENT_ALLOCATE:
	case MOJO_IO_EVENT_PUNCH:
	case MOJO_IO_EVENT_TRUNCATE:
	case MOJO_IO_EVENT_MKDIR:
	case MOJO_IO_EVENT_RENAME:
	case MOJO_IO_EVENT_UNLINK:
		return true;
	default:
		return false;
	}
}

static void take_open(struct power *power, const struct event *event, size_t at)
{
	const struct mojo_io_event *e = &event->e;
	char name[NAME_BYTES];
	if (failed(power, event))
		return;
	struct dir *dir = parent(power, e->name, e->name_length, name);
	struct entry *entry = find(&dir->present, name);
	int inode = entry ? entry->inode : -1;
	if (!entry) {
		if (!(e->flags & MOJO_IO_CREATE))
			return; /* cut off in the middle of failing */
		inode = add_inode(power, name);
		power->vault->ops->close(open_inode(power->vault, inode, MOJO_IO_CREATE));
		struct change change = { .begin = at, .kind = ADD, .inode = inode };
		strcpy(change.new_name, name);
		add_change(dir, &change);
		power->changed = true;
	}
	while (e->file >= power->file_capacity) {
		size_t old = power->file_capacity;
		power->file_capacity = old ? old * 2 : 64;
		power->files = realloc(power->files, power->file_capacity * sizeof(*power->files));
		check(power->files, "out of memory");
		for (size_t i = old; i < power->file_capacity; i++)
			power->files[i] = -1;
	}
	power->files[e->file] = inode;
}

static int inode_of(const struct power *power, const struct mojo_io_event *e)
{
	check(e->file < power->file_capacity && power->files[e->file] >= 0, "a file that was never opened");
	return power->files[e->file];
}

static void take_change(struct power *power, const struct event *event, size_t at)
{
	const struct mojo_io_event *e = &event->e;
	struct change change = { .begin = at };
	if (failed(power, event))
		return;
	struct dir *dir = parent(power, e->name, e->name_length, change.name);
	struct entry *entry = find(&dir->present, change.name);
	if (e->kind == MOJO_IO_EVENT_MKDIR) {
		if (entry)
			return;
		change.kind = ADD;
		change.inode = -1;
		strcpy(change.new_name, change.name);
		add_change(dir, &change);
		add_dir(power, e->name, e->name_length); /* moves the others */
		power->changed = true;
		return;
	}
	if (!entry)
		return;
	change.inode = entry->inode;
	change.kind = REMOVE;
	if (e->kind == MOJO_IO_EVENT_RENAME) {
		change.kind = MOVE;
		check(parent(power, e->new_name, e->new_name_length, change.new_name) == dir,
		      "a rename from one directory into another");
	}
	add_change(dir, &change);
	power->changed = true;
}

static void take_flush_dir(struct power *power, const struct mojo_io_event *e, size_t begin)
{
	if (e->name_length == 2 && !memcmp(e->name, "..", 2))
		return; /* that the store's own directory has its name is taken for granted */
	struct dir *dir = find_dir(power, e->name, e->name_length);
	size_t kept = 0;
	for (size_t i = 0; i < dir->count; i++) {
		size_t end = power->events[dir->changes[i].begin].other;
		if (end < begin) {
			apply_change(&dir->durable, &dir->changes[i]);
			power->changed = true;
		} else {
			dir->changes[kept++] = dir->changes[i];
		}
	}
	dir->count = kept;
	for (size_t i = 0; i < power->inode_count; i++) {
		struct inode *inode = &power->inodes[i];
		char name[24];
		if (inode->gone || is_named(power, (int)i))
			continue;
		vault_name((int)i, name);
		check(power->vault->ops->unlink(power->vault, name) == 0, "removing from the vault");
		inode->gone = true;
		inode->count = 0;
	}
}

static void take(struct power *power, size_t at)
{
	struct event *event = &power->events[at];
	const struct mojo_io_event *e = &event->e;
	switch (e->kind) {
	case MOJO_IO_EVENT_SESSION:
		for (size_t i = 0; i < power->file_capacity; i++)
			power->files[i] = -1;
		break;
	case MOJO_IO_EVENT_MARK:
		power->changed = true;
		if (power->mark)
			power->mark(power->arg, e->offset);
		break;
	case MOJO_IO_EVENT_OPEN:
		take_open(power, event, at);
		break;
	case MOJO_IO_EVENT_MKDIR:
	case MOJO_IO_EVENT_RENAME:
	case MOJO_IO_EVENT_UNLINK:
		take_change(power, event, at);
		break;
	case MOJO_IO_EVENT_WRITE:
	case MOJO_IO_EVENT_ALLOCATE:
	case MOJO_IO_EVENT_PUNCH:
	case MOJO_IO_EVENT_TRUNCATE: {
		int number = inode_of(power, e);
		struct inode *inode = &power->inodes[number];
		if (inode->gone || (failed(power, event) && e->kind != MOJO_IO_EVENT_WRITE))
			break;
		inode->pending = grow(inode->pending, inode->count, &inode->capacity, sizeof(*inode->pending));
		inode->pending[inode->count++] = at;
		inode->size = size_after(inode->size, e);
		power->changed = true;
		if (inode->count > PENDING_MAX)
			settle(power, number, at, inode->count - PENDING_LEAST);
		break;
	}
	case MOJO_IO_EVENT_END: {
		const struct event *begun = &power->events[event->other];
		if (e->result)
			break;
		if (is_through(power, begun)) {
			settle_through(power, inode_of(power, &begun->e), event->other);
			power->changed = true;
		}
		if (begun->e.kind == MOJO_IO_EVENT_FLUSH)
			settle(power, inode_of(power, &begun->e), event->other, SIZE_MAX);
		else if (begun->e.kind == MOJO_IO_EVENT_FLUSH_DIR)
			take_flush_dir(power, &begun->e, event->other);
		break;
	}
	default: /* what matters is where a flush ends */
		break;
	}
}

static bool is_moment(const struct power *power, const struct event *event)
{
	if (event->e.kind == MOJO_IO_EVENT_END) {
		const struct mojo_io_event *e = &power->events[event->other].e;
		return e->kind == MOJO_IO_EVENT_FLUSH || e->kind == MOJO_IO_EVENT_FLUSH_DIR ||
		       (e->kind == MOJO_IO_EVENT_WRITE && e->flags & MOJO_IO_EVENT_THROUGH);
	}
	return modifies(event);
}

bool power_next(struct power *power)
{
	power->changed = false;
	while (power->next < power->count && !(power->changed && is_moment(power, &power->events[power->next])))
		take(power, power->next++);
	power->moment += power->changed;
	return power->changed;
}

size_t power_offset(const struct power *power)
{
	return power->next < power->count ? power->events[power->next].place : power->length;
}

uint64_t power_moment(const struct power *power)
{
	return power->moment;
}

/* ---- life ------------------------------------------------------------------------------------ */

static void parse(struct power *power, const void *bytes, size_t length)
{
	struct mojo_io_event e;
	size_t offset = 0, place = 0, capacity = 0, *begun = NULL, begun_capacity = 0;
	int err;
	while (!(err = mojo_io_event_next(bytes, length, &offset, &e))) {
		power->events = grow(power->events, power->count, &capacity, sizeof(*power->events));
		struct event *event = &power->events[power->count];
		*event = (struct event){ .e = e, .other = SIZE_MAX, .place = place };
		place = offset;
		if (e.kind == MOJO_IO_EVENT_SESSION && begun) {
			/* The process that was in the middle of them is gone, and with it the last that was done of them: what
			 * is flushed from now on covers it. */
			for (size_t i = 0; i < begun_capacity; i++)
				if (begun[i] != SIZE_MAX && power->events[begun[i]].other == SIZE_MAX)
					power->events[begun[i]].other = power->count;
			memset(begun, 0xff, begun_capacity * sizeof(*begun));
		} else if (e.kind == MOJO_IO_EVENT_END) {
			check(e.operation < begun_capacity && begun[e.operation] != SIZE_MAX,
			      "an end without a beginning");
			event->other = begun[e.operation];
			power->events[event->other].other = power->count;
		} else if (e.operation) {
			while (e.operation >= begun_capacity) {
				size_t old = begun_capacity;
				begun_capacity = old ? old * 2 : 256;
				begun = realloc(begun, begun_capacity * sizeof(*begun));
				check(begun, "out of memory");
				memset(begun + old, 0xff, (begun_capacity - old) * sizeof(*begun));
			}
			begun[e.operation] = power->count;
		}
		power->count++;
	}
	check(err == -ENOENT, "this is no recording");
	power->length = place;
	free(begun);
}

struct listing {
	struct power *power;
	struct dir *dir;
};

/* A name of the base: files go into the vault. */
static int take_base(void *arg, const char *name)
{
	struct listing *listing = arg;
	set(&listing->dir->durable, name, 0);
	return 0;
}

static void take_base_dir(struct power *power, size_t number)
{
	struct mojo_io *vault = power->vault;
	struct listing listing = { power, &power->dirs[number] };
	check(vault->ops->list(vault, power->dirs[number].path, take_base, &listing) == 0, "listing the base");
	for (size_t i = 0; i < power->dirs[number].durable.count; i++) {
		struct dir *dir = &power->dirs[number];
		struct entry *entry = &dir->durable.list[i];
		char path[2 * NAME_BYTES + 2], inside[24];
		struct mojo_io_file *file;
		snprintf(path, sizeof(path), "%s%s%s", dir->path, dir->path[0] ? "/" : "", entry->name);
		int err = vault->ops->open(vault, path, 0, &file);
		if (err == -EISDIR) {
			entry->inode = -1;
			add_dir(power, path, strlen(path));
			continue;
		}
		check(!err, "opening a file of the base");
		uint64_t disk;
		entry->inode = add_inode(power, entry->name);
		check(vault->ops->size(file, &power->inodes[entry->inode].size, &disk) == 0,
		      "size of a file of the base");
		vault->ops->close(file);
		vault_name(entry->inode, inside);
		check(vault->ops->rename(vault, path, inside) == 0, "moving a file of the base");
	}
	copy_entries(&power->dirs[number].present, &power->dirs[number].durable);
}

struct power *power_new(const void *bytes, size_t length, struct mojo_io *base, power_mark_fn *mark, void *arg)
{
	struct power *power = calloc(1, sizeof(*power));
	check(power, "out of memory");
	power->mark = mark;
	power->arg = arg;
	parse(power, bytes, length);
	check((base ? mojo_io_memory_clone(base, &power->vault) : mojo_io_memory(&power->vault)) == 0, "out of memory");
	add_dir(power, "", 0);
	for (size_t i = 0; base && i < power->dir_count; i++)
		take_base_dir(power, i);
	return power;
}

void power_free(struct power *power)
{
	if (!power)
		return;
	for (size_t i = 0; i < power->inode_count; i++)
		free(power->inodes[i].pending);
	for (size_t i = 0; i < power->dir_count; i++) {
		free(power->dirs[i].durable.list);
		free(power->dirs[i].present.list);
		free(power->dirs[i].changes);
	}
	mojo_io_free(power->vault);
	free(power->inodes);
	free(power->dirs);
	free(power->files);
	free(power->events);
	free(power);
}

/* ---- states ---------------------------------------------------------------------------------- */

/* How a state is chosen. */
struct chooser {
	enum { COUNT, CHOICE, RANDOM, EVERYTHING, NOTHING } how;
	uint64_t count; /* of all choices */
	uint64_t left;  /* of the number of the choice, or the dice */
	unsigned keep;  /* of RANDOM: how many of 8 operations are there */
	size_t cut;     /* of RANDOM: events behind it are not there; SIZE_MAX: no such cut */
};

static uint64_t dice(struct chooser *c, uint64_t sides)
{
	c->left += 0x9e3779b97f4a7c15ull;
	return mix(c->left) % sides;
}

static uint64_t digit(struct chooser *c, uint64_t radix)
{
	uint64_t value = 0;
	if (c->how == COUNT) {
		c->count = c->count > UINT64_MAX / radix ? UINT64_MAX : c->count * radix;
	} else {
		value = c->left % radix;
		c->left /= radix;
	}
	return value;
}

/* Is the operation there, and which of it? */
static bool choose_tear(struct chooser *c, const struct mojo_io_event *e, struct tear *ret_tear)
{
	uint64_t sectors = sectors_of(e), way;
	struct tear tear = { .kind = WHOLE };
	if (e->kind != MOJO_IO_EVENT_WRITE) {
		*ret_tear = tear;
		return digit(c, 2);
	}
	way = digit(c, sectors < 2 ? 2 : sectors < 3 ? 4 : 6);
	if (way == 2) {
		tear = (struct tear){ .kind = RANGE, .end = 1 };
	} else if (way == 3) {
		tear = (struct tear){ .kind = ALL_BUT_RANGE, .end = 1 };
	} else if (way == 4) {
		tear = (struct tear){ .kind = RANGE, .end = sectors / 2 };
	} else if (way == 5) {
		tear = (struct tear){ .kind = RANGE, .end = sectors - 1 };
	}
	*ret_tear = tear;
	return way;
}

static bool roll_tear(struct chooser *c, const struct mojo_io_event *e, struct tear *ret_tear)
{
	uint64_t sectors = sectors_of(e);
	struct tear tear = { .kind = WHOLE };
	bool there = dice(c, 8) < c->keep;
	if (e->kind == MOJO_IO_EVENT_WRITE && sectors > 1 && dice(c, 3) == 0) {
		there = true;
		tear.kind = RANGE + (int)dice(c, 4);
		tear.seed = dice(c, UINT64_MAX);
		tear.first = dice(c, 2) ? 0 : dice(c, sectors);
		tear.end = dice(c, 3) ? tear.first + 1 + dice(c, sectors - tear.first) : tear.first + 1;
	}
	*ret_tear = tear;
	return there;
}

static void build_content(const struct power *power, int number, struct chooser *c, struct mojo_io *io)
{
	const struct inode *inode = &power->inodes[number];
	struct mojo_io_file *file = NULL;
	uint64_t size = 0, first, least = 0, implied, disk;
	bool grows = false;
	if (!inode->count)
		return;
	if (c->how != COUNT)
		file = open_inode(io, number, 0);
	else
		file = open_inode(power->vault, number, 0);
	check(io->ops->size(file, &first, &disk) == 0, "size of a file");
	size = first;
	for (size_t i = 0; i < inode->count; i++) {
		const struct event *event = &power->events[inode->pending[i]];
		const struct mojo_io_event *e = &event->e;
		struct tear tear = { .kind = WHOLE };
		bool there;
		size = size_after(size, e);
		grows |= size != first;
		if (is_through(power, event) && least < e->offset + e->length)
			least = e->offset + e->length;
		if (inode->dull || c->how == EVERYTHING || is_through(power, event))
			there = true;
		else if (c->how == NOTHING)
			there = false;
		else if (c->how == RANDOM)
			there = inode->pending[i] < c->cut && roll_tear(c, e, &tear);
		else
			there = choose_tear(c, e, &tear);
		if (there && c->how != COUNT)
			apply(file, io->ops, e, &tear);
	}
	if (grows && !inode->dull && c->how != EVERYTHING && c->how != NOTHING) {
		uint64_t way = c->how == RANDOM ? dice(c, 6) : digit(c, 3);
		implied = way == 1 ? size : first > least ? first : least;
		if (c->how != COUNT && (way == 1 || way == 2))
			check(io->ops->truncate(file, implied) == 0, "setting a size");
	}
	io->ops->close(file);
}

static void build_names(const struct dir *dir, struct chooser *c, struct entries *ret_entries)
{
	uint64_t subset = 0; /* a bit for each of up to 64 */
	size_t n = dir->count, prefix = 0;
	if (c->how == EVERYTHING) {
		prefix = n;
	} else if (c->how == RANDOM) {
		for (prefix = 0; prefix < n && dir->changes[prefix].begin < c->cut; prefix++)
			;
		uint64_t way = dice(c, 4);
		if (way == 1)
			prefix = dice(c, prefix + 1);
		if (way == 2 && n <= 64) {
			subset = mix(c->left);
			prefix = 0;
		}
	} else if (c->how != NOTHING && n <= 4) {
		subset = digit(c, 1ull << n);
	} else if (c->how != NOTHING) {
		prefix = digit(c, n + 1);
	}
	if (c->how == COUNT)
		return;
	copy_entries(ret_entries, &dir->durable);
	for (size_t i = 0; i < n; i++)
		if (i < prefix || (i < 64 && subset >> i & 1))
			apply_change(ret_entries, &dir->changes[i]);
}

static struct mojo_io *build(const struct power *power, struct chooser *c)
{
	struct mojo_io *io = power->vault;
	if (c->how != COUNT)
		check(mojo_io_memory_clone(power->vault, &io) == 0, "out of memory");
	for (size_t i = 0; i < power->inode_count; i++)
		if (!power->inodes[i].gone)
			build_content(power, (int)i, c, io);
	bool *named = calloc(power->inode_count + 1, sizeof(*named));
	bool *there = calloc(power->dir_count, sizeof(*there));
	check(named && there, "out of memory");
	there[0] = true;
	for (size_t d = 0; d < power->dir_count; d++) { /* those above come first */
		const struct dir *dir = &power->dirs[d];
		struct entries entries = { 0 };
		build_names(dir, c, &entries);
		for (size_t i = 0; i < entries.count && there[d]; i++) {
			char path[2 * NAME_BYTES + 2], inside[24];
			snprintf(path, sizeof(path), "%s%s%s", dir->path, dir->path[0] ? "/" : "",
				 entries.list[i].name);
			if (entries.list[i].inode < 0) {
				int err = io->ops->mkdir(io, path);
				check(!err || err == -EEXIST, "making a directory of a state");
				for (size_t k = d + 1; k < power->dir_count; k++)
					there[k] |= !strcmp(power->dirs[k].path, path);
				continue;
			}
			vault_name(entries.list[i].inode, inside);
			check(io->ops->rename(io, inside, path) == 0, "naming a file of a state");
			named[entries.list[i].inode] = true;
		}
		free(entries.list);
	}
	for (size_t i = 0; i < power->inode_count && c->how != COUNT; i++) {
		char inside[24];
		vault_name((int)i, inside);
		if (!named[i] && !power->inodes[i].gone)
			check(io->ops->unlink(io, inside) == 0, "removing from a state");
	}
	free(named);
	free(there);
	return io;
}

uint64_t power_choices(const struct power *power)
{
	struct chooser c = { .how = COUNT, .count = 1 };
	build(power, &c);
	return c.count;
}

struct mojo_io *power_build_choice(const struct power *power, uint64_t choice)
{
	struct chooser c = { .how = CHOICE, .left = choice };
	return build(power, &c);
}

struct mojo_io *power_build_random(const struct power *power, uint64_t seed)
{
	struct chooser c = { .how = RANDOM, .left = mix(seed), .cut = SIZE_MAX };
	if (seed == 0)
		c.how = EVERYTHING;
	else if (seed == 1)
		c.how = NOTHING;
	c.keep = 1 + 2 * (unsigned)dice(&c, 4);
	if (dice(&c, 3) == 0) { /* the first of what is pending are there, of whatever file */
		size_t lowest = power->next;
		for (size_t i = 0; i < power->inode_count; i++)
			if (power->inodes[i].count && power->inodes[i].pending[0] < lowest)
				lowest = power->inodes[i].pending[0];
		for (size_t d = 0; d < power->dir_count; d++)
			if (power->dirs[d].count && power->dirs[d].changes[0].begin < lowest)
				lowest = power->dirs[d].changes[0].begin;
		c.cut = lowest + dice(&c, power->next - lowest + 1);
		c.keep = 8;
	}
	return build(power, &c);
}

uint64_t power_moments(const struct power *power)
{
	uint64_t count = 0;
	for (size_t i = 0; i < power->count; i++)
		count += is_moment(power, &power->events[i]);
	return count + 1;
}

void power_describe(const struct power *power, char *ret_text, size_t size)
{
	static const char *const kinds[] = {
		"",         "session", "end",      "mark",  "open",   "write",  "flush",
		"allocate", "punch",   "truncate", "mkdir", "rename", "unlink", "flush_dir"
	};
	size_t used =
		(size_t)snprintf(ret_text, size, "moment %" PRIu64 ", event %zu of %zu; not flushed:", power->moment,
				 power->next, power->count);
	for (size_t i = 0; i < power->inode_count; i++) {
		for (size_t k = 0; k < power->inodes[i].count && used + 80 < size; k++) {
			const struct mojo_io_event *e = &power->events[power->inodes[i].pending[k]].e;
			used += (size_t)snprintf(ret_text + used, size - used, " %s .%zu %" PRIu64 "+%" PRIu64 ",",
						 kinds[e->kind], i, e->offset, e->length);
		}
	}
	for (size_t d = 0; d < power->dir_count; d++)
		for (size_t k = 0; k < power->dirs[d].count && used + 160 < size; k++)
			used += (size_t)snprintf(ret_text + used, size - used, " name %s -> %s,",
						 power->dirs[d].changes[k].name, power->dirs[d].changes[k].new_name);
}
