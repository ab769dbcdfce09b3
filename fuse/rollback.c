/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "journal.h"
#include "rollback.h"

#define CHAINS       256u
#define INDEX_PAGES  65536u       /* of the database, whose places in the journal are known at a time */
#define READ_BYTES   (256u << 10) /* of the journal, at a time */
#define KERNEL_PAGE  4096u
#define UNITS_MOST   (1u << 26) /* that can be noted as missing: a bit for each */
#define RECORD_EXTRA 8u         /* a number before the page and a checksum behind it, in the journal */

/*
 * What was not written of a database, in units of a page of it, or of the kernel's if that is smaller: what the kernel
 * brings never has a part of one.
 */
struct missing {
	uint32_t unit;  /* bytes */
	uint64_t units; /* of the database, before the transaction */
	uint64_t count; /* of those that are missing */
	bool behind;    /* something behind them is, too */
	uint8_t bits[];
};

/* One for whose pages room is kept. */
struct known {
	struct known *next; /* in its chain */
	uint32_t bucket;
	uint32_t database; /* 0: not known yet */
	uint32_t page_bytes;
	uint64_t pages;   /* of the database, before the transaction */
	uint64_t extent;  /* bytes of the journal, from its beginning, that were written since it began */
	uint64_t changed; /* a number that no other state of any journal has had */
	uint64_t room;    /* bytes, a part of rollback.room */
	bool is_synced;   /* its head says how much is in it: it can take back all that was done to the database */
	struct missing *missing; /* owned; NULL: all of the database was written */
};

/* Where pages [first, first + INDEX_PAGES) of a database are in its journal. */
struct index {
	uint32_t journal;
	uint64_t changed;
	uint64_t first;
	uint64_t *places; /* offset of the page's content; 0: it is not there. Owned; NULL: nothing is known */
};

struct rollback {
	struct mojo_store *store; /* borrowed */
	uint32_t block;           /* bytes */
	atomic_uint count;        /* of all that is known */
	atomic_uint short_count;  /* of those of which something was not written */
	_Atomic uint64_t room;    /* for all of them, bytes */

	pthread_mutex_t lock; /* guards the next two; nothing else is taken with it held */
	struct known *chains[CHAINS];
	uint64_t changes;

	pthread_mutex_t looking; /* held by the one write that is looked at; taken before `lock`; guards the index */
	struct index index;
};

/* Called with the engine's lock held. */
static uint64_t room_kept(void *arg)
{
	struct rollback *rollback = arg;

	return atomic_load(&rollback->room);
}

int rollback_new(struct mojo_store *store, uint32_t page_size, struct rollback **ret_rollback)
{
	struct rollback *rollback = calloc(1, sizeof(*rollback));

	if (!rollback)
		return -ENOMEM;
	rollback->store = store;
	rollback->block = page_size;
	atomic_init(&rollback->count, 0);
	atomic_init(&rollback->short_count, 0);
	atomic_init(&rollback->room, 0);
	pthread_mutex_init(&rollback->lock, NULL);
	pthread_mutex_init(&rollback->looking, NULL);
	mojo_reserve(store, room_kept, rollback);
	*ret_rollback = rollback;
	return 0;
}

void rollback_free(struct rollback *rollback)
{
	if (!rollback)
		return;
	mojo_reserve(rollback->store, NULL, NULL);
	for (size_t i = 0; i < CHAINS; i++) {
		for (struct known *known = rollback->chains[i], *next; known; known = next) {
			next = known->next;
			free(known->missing);
			free(known);
		}
	}
	free(rollback->index.places);
	pthread_mutex_destroy(&rollback->lock);
	pthread_mutex_destroy(&rollback->looking);
	free(rollback);
}

/* ---- how much room is kept --------------------------------------------------------------------- */

/* Caller holds the lock, of all functions up to forget(). */
static struct known **find(struct rollback *rollback, uint32_t bucket)
{
	struct known **link = &rollback->chains[bucket % CHAINS];

	while (*link && (*link)->bucket != bucket)
		link = &(*link)->next;
	return link;
}

/* Pages of the journal, none twice, each in blocks of its own: as large a part of the database as that can be. */
static void count_room(struct rollback *rollback, struct known *known)
{
	uint64_t block = rollback->block, blocks = 0;

	if (known->database) {
		uint64_t records =
			(known->extent + known->page_bytes + RECORD_EXTRA - 1) / (known->page_bytes + RECORD_EXTRA);
		uint64_t most = (known->pages * known->page_bytes + block - 1) / block;

		blocks = records * (known->page_bytes > block ? known->page_bytes / block : 1);
		if (blocks > most)
			blocks = most;
	}
	atomic_fetch_add(&rollback->room, blocks * block - known->room);
	known->room = blocks * block;
}

static void grow(struct rollback *rollback, struct known *known, uint64_t extent)
{
	known->changed = ++rollback->changes;
	if (extent > known->extent)
		known->extent = extent;
	count_room(rollback, known);
}

static void forget_missing(struct rollback *rollback, struct known *known)
{
	atomic_fetch_sub(&rollback->short_count, known->missing != NULL);
	free(known->missing);
	known->missing = NULL;
}

static void forget(struct rollback *rollback, struct known **link)
{
	struct known *known = *link;

	*link = known->next;
	forget_missing(rollback, known);
	atomic_fetch_sub(&rollback->room, known->room);
	atomic_fetch_sub(&rollback->count, 1);
	free(known);
}

void rollback_ended(struct rollback *rollback, uint32_t bucket)
{
	struct known **link;

	if (atomic_load(&rollback->count) == 0)
		return;
	pthread_mutex_lock(&rollback->lock);
	link = find(rollback, bucket);
	if (*link)
		forget(rollback, link);
	pthread_mutex_unlock(&rollback->lock);
}

/* Without memory for it the room is not kept. It is there first and looked at then: if it ends meanwhile, whoever
 * ends it finds it. */
static void add(struct rollback *rollback, uint32_t bucket)
{
	struct known *fresh = calloc(1, sizeof(*fresh)), **link;

	if (!fresh)
		return;
	fresh->bucket = bucket;
	pthread_mutex_lock(&rollback->lock);
	link = find(rollback, bucket);
	if (!*link) {
		*link = fresh;
		fresh = NULL;
		atomic_fetch_add(&rollback->count, 1);
	}
	pthread_mutex_unlock(&rollback->lock);
	free(fresh);
}

/* @bucket begins with @head. Is it a journal by its name, too? */
static void begin(struct rollback *rollback, uint32_t bucket, const struct journal_head *head, uint64_t extent)
{
	struct known **link;
	uint32_t database = 0;
	bool is_known;

	pthread_mutex_lock(&rollback->lock);
	link = find(rollback, bucket);
	if (*link)
		database = (*link)->database;
	pthread_mutex_unlock(&rollback->lock);
	if (!database) {
		add(rollback, bucket);
		is_known = journal_database(rollback->store, bucket, &database) == 0;
	} else {
		is_known = true;
	}
	pthread_mutex_lock(&rollback->lock);
	link = find(rollback, bucket);
	if (*link && is_known) {
		(*link)->database = database;
		(*link)->page_bytes = head->page_bytes;
		(*link)->pages = head->pages;
		(*link)->is_synced = head->is_counted && head->records != UINT32_MAX;
		grow(rollback, *link, extent);
	} else if (*link) {
		forget(rollback, link);
	}
	pthread_mutex_unlock(&rollback->lock);
}

bool rollback_writing(struct rollback *rollback, uint32_t bucket, uint64_t offset, const void *buf, size_t length)
{
	bool is_head = offset == 0 && length >= JOURNAL_HEAD_BYTES;
	struct journal_head head;
	struct known *known;

	if (is_head && journal_head(buf, &head)) {
		begin(rollback, bucket, &head, length);
		return false;
	}
	if (atomic_load(&rollback->count) == 0)
		return false;
	pthread_mutex_lock(&rollback->lock);
	known = *find(rollback, bucket);
	if (known)
		grow(rollback, known, offset + length);
	pthread_mutex_unlock(&rollback->lock);
	return known && is_head && journal_is_over(buf);
}

uint32_t rollback_journal(struct rollback *rollback, uint32_t dir, const char *name)
{
	struct mojo_attr attr;
	bool is_known;

	if (atomic_load(&rollback->count) == 0 || !journal_has_suffix(name) ||
	    mojo_lookup(rollback->store, MOJO_ACTIVE, dir, name, &attr) != 0)
		return 0;
	pthread_mutex_lock(&rollback->lock);
	is_known = *find(rollback, attr.bucket);
	pthread_mutex_unlock(&rollback->lock);
	return is_known ? attr.bucket : 0;
}

void rollback_learn(struct rollback *rollback, uint32_t bucket)
{
	unsigned char bytes[JOURNAL_HEAD_BYTES];
	struct journal_head head;
	struct mojo_attr attr;
	size_t length;

	add(rollback, bucket);
	if (mojo_read(rollback->store, MOJO_ACTIVE, bucket, 0, bytes, sizeof(bytes), &length) == 0 &&
	    length == sizeof(bytes) && journal_head(bytes, &head) &&
	    mojo_getattr(rollback->store, MOJO_ACTIVE, bucket, &attr) == 0)
		begin(rollback, bucket, &head, attr.size);
	else
		rollback_ended(rollback, bucket);
}

void rollback_renamed(struct rollback *rollback, uint32_t new_dir, const char *new_name)
{
	struct mojo_attr attr;
	uint32_t *buckets;
	size_t count = 0, capacity;

	if (journal_has_suffix(new_name) && mojo_lookup(rollback->store, MOJO_ACTIVE, new_dir, new_name, &attr) == 0 &&
	    S_ISREG(attr.mode))
		rollback_learn(rollback, attr.bucket);
	if (atomic_load(&rollback->count) == 0)
		return;
	/* Journals, or their databases, may have other names now. */
	pthread_mutex_lock(&rollback->lock);
	capacity = atomic_load(&rollback->count);
	buckets = malloc(capacity * sizeof(*buckets));
	for (size_t i = 0; i < CHAINS && buckets; i++) {
		for (struct known *known = rollback->chains[i]; known && count < capacity; known = known->next)
			buckets[count++] = known->bucket;
	}
	pthread_mutex_unlock(&rollback->lock);
	for (size_t i = 0; i < count; i++) {
		uint32_t database;
		struct known *known;

		if (journal_database(rollback->store, buckets[i], &database) != 0) {
			rollback_ended(rollback, buckets[i]);
			continue;
		}
		pthread_mutex_lock(&rollback->lock);
		known = *find(rollback, buckets[i]);
		if (known && known->database)
			known->database = database;
		pthread_mutex_unlock(&rollback->lock);
	}
	free(buckets);
}

/* ---- what a journal holds ---------------------------------------------------------------------- */

/* A journal, read from its beginning on. */
struct reader {
	struct mojo_store *store;
	uint32_t journal;
	unsigned char *buffer; /* READ_BYTES, of which `length` are those from `at` on */
	uint64_t at;
	size_t length;
};

/* @count bytes, READ_BYTES at most. NULL: they are not there, or cannot be read. */
static const unsigned char *look(struct reader *reader, uint64_t at, size_t count)
{
	if (at < reader->at || at + count > reader->at + reader->length) {
		reader->at = at;
		if (mojo_read(reader->store, MOJO_ACTIVE, reader->journal, at, reader->buffer, READ_BYTES,
			      &reader->length) != 0)
			reader->length = 0;
	}
	return at + count <= reader->at + reader->length ? reader->buffer + (at - reader->at) : NULL;
}

static uint32_t number_at(const unsigned char *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Told of page @page, from 0, whose content is at @place in the journal. Return false to stop. */
typedef bool page_fn(void *arg, uint64_t page, uint64_t place);

/*
 * A journal is a row of parts: a head, that has a sector for itself; records as many as it says, or, with all ones, up
 * to the end; and the next head at the next sector. What was not synced has no count, and the database was not
 * written for it. Stops where it cannot be read.
 */
static void read_journal(struct reader *reader, page_fn *fn, void *arg)
{
	struct journal_head first, head;
	const unsigned char *bytes = look(reader, 0, JOURNAL_HEAD_BYTES);
	uint64_t at = 0;

	if (!bytes || !journal_head(bytes, &first))
		return;
	while ((bytes = look(reader, at, JOURNAL_HEAD_BYTES)) && journal_head(bytes, &head) && head.is_counted) {
		at += first.sector_bytes;
		for (uint32_t i = 0; i < head.records; i++, at += first.page_bytes + RECORD_EXTRA) {
			uint32_t page;

			bytes = look(reader, at, 4);
			if (!bytes)
				return;
			page = number_at(bytes);
			if (page >= 1 && !fn(arg, page - 1, at + 4))
				return;
		}
		at = (at + first.sector_bytes - 1) / first.sector_bytes * first.sector_bytes;
	}
}

static bool put_index(void *arg, uint64_t page, uint64_t place)
{
	struct index *index = arg;

	if (page >= index->first && page - index->first < INDEX_PAGES)
		index->places[page - index->first] = place;
	return true;
}

/* Where page @page (from 0) of the database is in the journal; 0: it is not there, or that cannot be said. */
static uint64_t place_of(struct rollback *rollback, const struct known *journal, uint64_t page)
{
	struct index *index = &rollback->index;
	struct reader reader = { .store = rollback->store, .journal = journal->bucket };
	uint64_t first = page - page % INDEX_PAGES;

	if (!index->places || index->journal != journal->bucket || index->changed != journal->changed ||
	    index->first != first) {
		reader.buffer = malloc(READ_BYTES);
		if (!index->places)
			index->places = malloc(INDEX_PAGES * sizeof(*index->places));
		if (!reader.buffer || !index->places) {
			free(reader.buffer);
			return 0;
		}
		memset(index->places, 0, INDEX_PAGES * sizeof(*index->places));
		index->journal = journal->bucket;
		index->changed = journal->changed;
		index->first = first;
		read_journal(&reader, put_index, index);
		free(reader.buffer);
	}
	return index->places[page - first];
}

/* Does the journal hold @bytes as those from @offset on in the database, all of one page? */
static bool is_in_journal(struct rollback *rollback, const struct known *journal, uint64_t offset, const void *bytes,
			  size_t count)
{
	unsigned char held[JOURNAL_PAGE_MOST];
	uint64_t place = place_of(rollback, journal, offset / journal->page_bytes);
	size_t length;

	return place &&
	       mojo_read(rollback->store, MOJO_ACTIVE, journal->bucket, place + offset % journal->page_bytes, held,
			 count, &length) == 0 &&
	       length == count && memcmp(held, bytes, count) == 0;
}

/* ---- writing in spite of a full disk ------------------------------------------------------------ */

/* Caller holds the lock. The journal of database @bucket, or NULL. */
static struct known *find_of(struct rollback *rollback, uint32_t bucket)
{
	for (size_t i = 0; i < CHAINS; i++) {
		for (struct known *known = rollback->chains[i]; known; known = known->next) {
			if (known->database == bucket)
				return known;
		}
	}
	return NULL;
}

/* The journal of @bucket as it is known now; ret_journal->missing only says whether something is. */
static bool find_journal(struct rollback *rollback, uint32_t bucket, struct known *ret_journal)
{
	struct known *known;

	pthread_mutex_lock(&rollback->lock);
	known = find_of(rollback, bucket);
	if (known)
		*ret_journal = *known;
	pthread_mutex_unlock(&rollback->lock);
	return known;
}

/* Of units behind those that can be noted nothing good is known. */
static bool is_bit(const struct missing *missing, uint64_t unit)
{
	return unit >= missing->units || missing->bits[unit / 8] >> (unit % 8) & 1;
}

/* Caller holds the lock. All units of which a part is in the range. */
static void set_missing(struct missing *missing, uint64_t offset, size_t length)
{
	uint64_t last = (offset + length - 1) / missing->unit;

	for (uint64_t unit = offset / missing->unit; unit <= last && unit < missing->units; unit++) {
		missing->count += !is_bit(missing, unit);
		missing->bits[unit / 8] |= (uint8_t)(1u << unit % 8);
	}
	if (last >= missing->units)
		missing->behind = true;
}

/* Caller holds the lock. All units that are in the range as a whole. */
static void clear_missing(struct missing *missing, uint64_t offset, size_t length)
{
	uint64_t end = (offset + length) / missing->unit;

	for (uint64_t unit = (offset + missing->unit - 1) / missing->unit; unit < end && unit < missing->units;
	     unit++) {
		missing->count -= is_bit(missing, unit);
		missing->bits[unit / 8] &= (uint8_t) ~(1u << unit % 8);
	}
}

/* Caller holds the lock. NULL: it cannot be noted what is missing. */
static struct missing *missing_of(struct rollback *rollback, struct known *known)
{
	uint32_t unit = known->page_bytes < KERNEL_PAGE ? known->page_bytes : KERNEL_PAGE;
	uint64_t units = known->pages * (known->page_bytes / unit);

	if (!known->missing && known->is_synced && units <= UNITS_MOST) {
		known->missing = calloc(1, sizeof(*known->missing) + units / 8 + 1);
		if (known->missing) {
			known->missing->unit = unit;
			known->missing->units = units;
			atomic_fetch_add(&rollback->short_count, 1);
		}
	}
	return known->missing;
}

/* What is in the range is, or is not, as it should be. -ENOSPC: that cannot be noted. */
static int note(struct rollback *rollback, uint32_t database, uint64_t offset, size_t length, bool is_written)
{
	struct known *known;
	int error = 0;

	if (is_written && atomic_load(&rollback->short_count) == 0)
		return 0;
	pthread_mutex_lock(&rollback->lock);
	known = find_of(rollback, database);
	if (is_written) {
		if (known && known->missing)
			clear_missing(known->missing, offset, length);
	} else if (known && missing_of(rollback, known)) {
		set_missing(known->missing, offset, length);
	} else {
		error = -ENOSPC;
	}
	pthread_mutex_unlock(&rollback->lock);
	return error;
}

void rollback_written(struct rollback *rollback, uint32_t bucket, uint64_t offset, size_t length)
{
	note(rollback, bucket, offset, length, true);
}

struct work {
	uint32_t bucket;
	uint64_t offset;
	const unsigned char *bytes;
	size_t length;
	unsigned char *present; /* what is there now: @present_length bytes, fewer at the end of the file */
	size_t present_length;
};

static bool is_present(const struct work *work, size_t at, size_t count)
{
	return at + count <= work->present_length && memcmp(work->present + at, work->bytes + at, count) == 0;
}

static int write_piece(struct rollback *rollback, const struct work *work, size_t at, size_t count)
{
	return count ? mojo_write_reserved(rollback->store, work->bucket, work->offset + at, work->bytes + at, count)
		     : 0;
}

/* Its head is zeroed; what else the kernel brings with it is of no use any more. */
static int end_journal(struct rollback *rollback, const struct work *work)
{
	size_t head = work->length < rollback->block ? work->length : rollback->block;
	int error = is_present(work, 0, head) ? 0 : write_piece(rollback, work, 0, head);

	return error || is_present(work, head, work->length - head) ? error : -ENOSPC;
}

/* What is @at in the work cannot be put there. */
static int leave_out(struct rollback *rollback, const struct work *work, size_t at, size_t count, bool cached)
{
	return cached ? note(rollback, work->bucket, work->offset + at, count, false) : -ENOSPC;
}

static int take_back(struct rollback *rollback, const struct work *work, const struct known *journal, bool cached)
{
	int error = 0;

	for (size_t at = 0, part; at < work->length; at += part) {
		uint64_t offset = work->offset + at;
		int failed = 0;

		part = journal->page_bytes - offset % journal->page_bytes;
		if (part > work->length - at)
			part = work->length - at;
		if (!is_present(work, at, part))
			failed = is_in_journal(rollback, journal, offset, work->bytes + at, part)
					 ? write_piece(rollback, work, at, part)
					 : -ENOSPC;
		if (!failed)
			note(rollback, work->bucket, offset, part, true);
		else if (failed == -ENOSPC)
			failed = leave_out(rollback, work, at, part, cached);
		if (!error)
			error = failed;
	}
	return error;
}

static int look_and_write(struct rollback *rollback, struct work *work, bool cached)
{
	struct known journal;
	uint32_t bucket;
	int error = mojo_read(rollback->store, MOJO_ACTIVE, work->bucket, work->offset, work->present, work->length,
			      &work->present_length);

	if (error)
		return -ENOSPC; /* that is what is to be told */
	if (is_present(work, 0, work->length)) {
		note(rollback, work->bucket, work->offset, work->length, true);
		return 0;
	}
	if (work->offset == 0 && work->length >= JOURNAL_HEAD_BYTES && journal_is_over(work->bytes) &&
	    journal_database(rollback->store, work->bucket, &bucket) == 0)
		return end_journal(rollback, work);
	if (!find_journal(rollback, work->bucket, &journal)) {
		/* One that a crash left, of which nobody has told yet? */
		if (journal_of(rollback->store, work->bucket, &bucket) != 0)
			return -ENOSPC;
		rollback_learn(rollback, bucket);
		if (!find_journal(rollback, work->bucket, &journal))
			return -ENOSPC;
	}
	return take_back(rollback, work, &journal, cached);
}

int rollback_write(struct rollback *rollback, uint32_t bucket, uint64_t offset, const void *buf, size_t length,
		   bool cached)
{
	struct work work = { .bucket = bucket, .offset = offset, .bytes = buf, .length = length };
	int error;

	work.present = malloc(length);
	if (!work.present)
		return -ENOSPC;
	pthread_mutex_lock(&rollback->looking);
	error = look_and_write(rollback, &work, cached);
	pthread_mutex_unlock(&rollback->looking);
	free(work.present);
	return error;
}

/* ---- an fsync ---------------------------------------------------------------------------------- */

struct comparison {
	struct rollback *rollback;
	const struct known *journal;
	unsigned char *present; /* a page of the database */
	bool is_same;
};

/* Has it been written since, and is it what the journal holds? */
static bool compare_page(void *arg, uint64_t page, uint64_t place)
{
	struct comparison *c = arg;
	uint32_t page_bytes = c->journal->page_bytes;
	unsigned char held[JOURNAL_PAGE_MOST];
	size_t length, held_length;
	struct known *known;

	if (page >= c->journal->pages)
		return true; /* behind the end, where nothing is put back */
	pthread_mutex_lock(&c->rollback->lock);
	known = *find(c->rollback, c->journal->bucket);
	c->is_same = known && known->missing;
	for (uint32_t at = 0; at < page_bytes && c->is_same; at += known->missing->unit)
		c->is_same = !is_bit(known->missing, (page * page_bytes + at) / known->missing->unit);
	pthread_mutex_unlock(&c->rollback->lock);
	c->is_same = c->is_same &&
		     mojo_read(c->rollback->store, MOJO_ACTIVE, c->journal->database, page * page_bytes, c->present,
			       page_bytes, &length) == 0 &&
		     mojo_read(c->rollback->store, MOJO_ACTIVE, c->journal->bucket, place, held, page_bytes,
			       &held_length) == 0 &&
		     length == page_bytes && held_length == page_bytes && memcmp(c->present, held, page_bytes) == 0;
	return c->is_same;
}

/* Is the database what its journal makes of it? */
static bool is_taken_back(struct rollback *rollback, const struct known *journal)
{
	struct reader reader = { .store = rollback->store, .journal = journal->bucket };
	struct comparison c = { .rollback = rollback, .journal = journal };
	struct mojo_attr attr;

	if (mojo_getattr(rollback->store, MOJO_ACTIVE, journal->database, &attr) != 0 ||
	    attr.size != journal->pages * journal->page_bytes)
		return false;
	reader.buffer = malloc(READ_BYTES);
	c.present = malloc(JOURNAL_PAGE_MOST);
	if (reader.buffer && c.present) {
		c.is_same = true;
		read_journal(&reader, compare_page, &c);
	}
	free(reader.buffer);
	free(c.present);
	return c.is_same;
}

int rollback_sync(struct rollback *rollback, uint32_t bucket)
{
	struct known journal, *known;
	bool is_whole, is_back = false;

	if (atomic_load(&rollback->short_count) == 0)
		return 0;
	pthread_mutex_lock(&rollback->looking);
	pthread_mutex_lock(&rollback->lock);
	known = find_of(rollback, bucket);
	is_whole = !known || !known->missing || (known->missing->count == 0 && !known->missing->behind);
	if (known)
		journal = *known;
	pthread_mutex_unlock(&rollback->lock);
	if (!is_whole)
		is_back = is_taken_back(rollback, &journal);
	if (is_back) {
		pthread_mutex_lock(&rollback->lock);
		known = *find(rollback, journal.bucket);
		if (known)
			forget_missing(rollback, known);
		pthread_mutex_unlock(&rollback->lock);
	}
	pthread_mutex_unlock(&rollback->looking);
	return is_whole || is_back ? 0 : -ENOSPC;
}
