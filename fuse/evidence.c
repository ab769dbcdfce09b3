/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "evidence.h"

#define CHAINS 1024u

#define JOURNAL_SUFFIX "-journal"
#define WAL_SUFFIX     "-wal"

/* What a file's first bytes say. */
enum head {
	HEAD_UNKNOWN,
	HEAD_BLANK, /* nothing, or zeros: a database to be, or a journal that is over */
	HEAD_OTHER, /* among them a journal without a count of its records: written with synchronous=OFF, or not synced */
	HEAD_DELETE,  /* a database, in one of the modes with a rollback journal */
	HEAD_WAL,     /* a database in WAL mode */
	HEAD_JOURNAL, /* a rollback journal that says how much is to be taken back */
};

struct evidence_file {
	struct evidence_file *next; /* in its chain */
	uint32_t bucket;
	unsigned handles, writers;

	/* Counted from when it was opened: so 0 is what has not changed since. */
	uint64_t changes;
	uint64_t synced;  /* `changes` when the last fsync came in */
	uint64_t arrived; /* `changes` when all of it was known to be at a boundary; UINT64_MAX: never */
	uint64_t head_at; /* `changes` when the first bytes last changed */
	uint64_t covered; /* of a WAL: the highest head_at after which its database was flushed */
	bool was_synced;  /* at all */
	enum head head;

	bool has_place; /* the next three are known */
	uint32_t dir;   /* 0: it has no name any more */
	uint32_t hash;  /* of dir and name */
	char *name;     /* owned */
};

struct side {
	struct side *next; /* in its chain */
	uint32_t dir, hash;
	uint32_t bucket; /* 0: about to be made */
	char name[];
};

struct evidence {
	pthread_mutex_t lock; /* guards the rest; nothing else is taken with it held */
	struct evidence_file *files[CHAINS];
	struct side *sides[CHAINS];
	size_t side_count;
	uint64_t renames;
	bool out_of_memory; /* a side file is missing in the set */
};

int evidence_new(struct evidence **ret_evidence)
{
	struct evidence *evidence = calloc(1, sizeof(*evidence));

	if (!evidence)
		return -ENOMEM;
	pthread_mutex_init(&evidence->lock, NULL);
	*ret_evidence = evidence;
	return 0;
}

void evidence_free(struct evidence *evidence)
{
	if (!evidence)
		return;
	for (size_t i = 0; i < CHAINS; i++) {
		for (struct side *side = evidence->sides[i], *next; side; side = next) {
			next = side->next;
			free(side);
		}
		for (struct evidence_file *file = evidence->files[i], *next; file; file = next) {
			next = file->next;
			free(file->name);
			free(file);
		}
	}
	pthread_mutex_destroy(&evidence->lock);
	free(evidence);
}

/* ---- files ------------------------------------------------------------------------------------- */

/* Caller holds the lock, of this and all static functions below. */
static struct evidence_file **find(struct evidence *evidence, uint32_t bucket)
{
	struct evidence_file **link = &evidence->files[bucket % CHAINS];

	while (*link && (*link)->bucket != bucket)
		link = &(*link)->next;
	return link;
}

int evidence_open(struct evidence *evidence, uint32_t bucket, bool writable, struct evidence_file **ret_file)
{
	struct evidence_file *fresh = calloc(1, sizeof(*fresh)), *file, **link;

	if (!fresh)
		return -ENOMEM;
	pthread_mutex_lock(&evidence->lock);
	link = find(evidence, bucket);
	file = *link;
	if (!file) {
		file = *link = fresh;
		fresh = NULL;
		file->bucket = bucket;
		file->arrived = UINT64_MAX;
	}
	file->handles++;
	file->writers += writable;
	pthread_mutex_unlock(&evidence->lock);
	free(fresh);
	*ret_file = file;
	return 0;
}

void evidence_close(struct evidence *evidence, struct evidence_file *file, bool writable)
{
	bool last;

	pthread_mutex_lock(&evidence->lock);
	file->writers -= writable;
	last = --file->handles == 0;
	if (last)
		*find(evidence, file->bucket) = file->next;
	pthread_mutex_unlock(&evidence->lock);
	if (last) {
		free(file->name);
		free(file);
	}
}

static uint32_t number_at(const unsigned char *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/*
 * SQLite begins a rollback journal with 8 bytes and the count of its records, which is all ones with synchronous=OFF
 * and zero until what it counts is synced. Zero is right where there is nothing to take back: the database was empty,
 * which is 8 bytes further on.
 */
static enum head head_of(const unsigned char *bytes, size_t length)
{
	static const unsigned char journal[8] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };
	static const unsigned char blank[16];
	static const char database[16] = "SQLite format 3";

	if (length < sizeof(blank) || memcmp(bytes, blank, sizeof(blank)) == 0)
		return HEAD_BLANK;
	if (length < EVIDENCE_HEAD_BYTES)
		return HEAD_OTHER;
	if (memcmp(bytes, database, sizeof(database)) == 0)
		return bytes[18] == 2 && bytes[19] == 2 ? HEAD_WAL : HEAD_DELETE;
	if (memcmp(bytes, journal, sizeof(journal)) == 0) {
		uint32_t records = number_at(bytes + 8), pages = number_at(bytes + 16);

		return records != UINT32_MAX && (records > 0 || pages == 0) ? HEAD_JOURNAL : HEAD_OTHER;
	}
	return HEAD_OTHER;
}

static void change(struct evidence_file *file, bool is_head, enum head head)
{
	file->changes++;
	if (is_head) {
		file->head_at = file->changes;
		file->head = head;
	}
}

void evidence_writing(struct evidence *evidence, struct evidence_file *file, uint64_t offset, const void *buf,
		      size_t length)
{
	enum head head = offset == 0 && length >= EVIDENCE_HEAD_BYTES ? head_of(buf, length) : HEAD_UNKNOWN;

	pthread_mutex_lock(&evidence->lock);
	change(file, offset < EVIDENCE_HEAD_BYTES, head);
	pthread_mutex_unlock(&evidence->lock);
}

void evidence_truncating(struct evidence *evidence, uint32_t bucket, uint64_t size)
{
	struct evidence_file *file;

	pthread_mutex_lock(&evidence->lock);
	file = *find(evidence, bucket);
	if (file) {
		bool is_synced = file->was_synced && file->changes == file->synced;

		change(file, size < EVIDENCE_HEAD_BYTES, size == 0 ? HEAD_BLANK : HEAD_UNKNOWN);
		/*
		 * SQLite cuts off what auto_vacuum or VACUUM freed after the end of the transaction, without an
		 * fsync. In mid transaction it has written to the file before. But whoever never syncs has written
		 * what the kernel may keep still, while this comes at once.
		 */
		if (size >= EVIDENCE_HEAD_BYTES && is_synced)
			file->synced = file->changes;
	}
	pthread_mutex_unlock(&evidence->lock);
}

void evidence_changing(struct evidence *evidence, uint32_t bucket, uint64_t offset)
{
	struct evidence_file *file;

	pthread_mutex_lock(&evidence->lock);
	file = *find(evidence, bucket);
	if (file)
		change(file, offset < EVIDENCE_HEAD_BYTES, HEAD_UNKNOWN);
	pthread_mutex_unlock(&evidence->lock);
}

void evidence_synced(struct evidence *evidence, struct evidence_file *file)
{
	pthread_mutex_lock(&evidence->lock);
	file->synced = file->changes;
	file->was_synced = true;
	pthread_mutex_unlock(&evidence->lock);
}

/* ---- names ------------------------------------------------------------------------------------- */

static uint32_t hash_of(uint32_t dir, const char *name, size_t length)
{
	uint32_t hash = 2166136261u ^ dir;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ (unsigned char)name[i]) * 16777619u;
	return hash;
}

static bool ends_with(const char *name, size_t length, const char *suffix)
{
	size_t tail = strlen(suffix);

	return length > tail && memcmp(name + length - tail, suffix, tail) == 0;
}

bool evidence_is_side_name(const char *name)
{
	size_t length = strlen(name);

	return ends_with(name, length, JOURNAL_SUFFIX) || ends_with(name, length, WAL_SUFFIX);
}

static struct side **find_side(struct evidence *evidence, uint32_t dir, const char *name, uint32_t hash)
{
	struct side **link = &evidence->sides[hash % CHAINS];

	while (*link && !((*link)->hash == hash && (*link)->dir == dir && strcmp((*link)->name, name) == 0))
		link = &(*link)->next;
	return link;
}

static void add_side(struct evidence *evidence, uint32_t dir, const char *name, uint32_t bucket)
{
	size_t length = strlen(name);
	uint32_t hash = hash_of(dir, name, length);
	struct side **link = find_side(evidence, dir, name, hash), *side = *link;

	if (!side) {
		side = malloc(sizeof(*side) + length + 1);
		if (!side) {
			evidence->out_of_memory = true;
			return;
		}
		*side = (struct side){ .next = NULL, .dir = dir, .hash = hash };
		memcpy(side->name, name, length + 1);
		*link = side;
		evidence->side_count++;
	}
	if (bucket)
		side->bucket = bucket;
}

/* @only_new: leave it if it is there already */
static void remove_side(struct evidence *evidence, uint32_t dir, const char *name, bool only_new)
{
	struct side **link = find_side(evidence, dir, name, hash_of(dir, name, strlen(name))), *side = *link;

	if (!side || (only_new && side->bucket))
		return;
	*link = side->next;
	evidence->side_count--;
	free(side);
}

void evidence_naming(struct evidence *evidence, uint32_t dir, const char *name)
{
	if (!evidence_is_side_name(name))
		return;
	pthread_mutex_lock(&evidence->lock);
	add_side(evidence, dir, name, 0);
	pthread_mutex_unlock(&evidence->lock);
}

void evidence_named(struct evidence *evidence, uint32_t dir, const char *name, uint32_t bucket)
{
	if (!evidence_is_side_name(name))
		return;
	pthread_mutex_lock(&evidence->lock);
	if (bucket)
		add_side(evidence, dir, name, bucket);
	else
		remove_side(evidence, dir, name, true);
	pthread_mutex_unlock(&evidence->lock);
}

/* Files known to be @name in @dir are @new_name in @new_dir from now on; NULL: nowhere. */
static void move_files(struct evidence *evidence, uint32_t dir, const char *name, uint32_t new_dir,
		       const char *new_name)
{
	uint32_t hash = hash_of(dir, name, strlen(name));

	for (size_t i = 0; i < CHAINS; i++) {
		for (struct evidence_file *file = evidence->files[i]; file; file = file->next) {
			if (!file->has_place || file->hash != hash || file->dir != dir || strcmp(file->name, name) != 0)
				continue;
			free(file->name);
			file->name = new_name ? strdup(new_name) : NULL;
			file->has_place = !new_name || file->name; /* without memory it is asked for again */
			file->dir = new_name ? new_dir : 0;
			file->hash = new_name ? hash_of(new_dir, new_name, strlen(new_name)) : 0;
		}
	}
}

void evidence_unnamed(struct evidence *evidence, uint32_t dir, const char *name)
{
	pthread_mutex_lock(&evidence->lock);
	if (evidence_is_side_name(name))
		remove_side(evidence, dir, name, false);
	move_files(evidence, dir, name, 0, NULL);
	pthread_mutex_unlock(&evidence->lock);
}

void evidence_renamed(struct evidence *evidence, uint32_t dir, const char *name, uint32_t new_dir, const char *new_name,
		      bool exchange)
{
	pthread_mutex_lock(&evidence->lock);
	evidence->renames++;
	if (exchange) {
		/* Rare enough to ask again. */
		for (size_t i = 0; i < CHAINS; i++) {
			for (struct evidence_file *file = evidence->files[i]; file; file = file->next)
				file->has_place = file->has_place && !file->dir;
		}
	} else {
		move_files(evidence, new_dir, new_name, 0, NULL);
		move_files(evidence, dir, name, new_dir, new_name);
		if (evidence_is_side_name(name))
			remove_side(evidence, dir, name, false);
	}
	pthread_mutex_unlock(&evidence->lock);
}

/* ---- a commit ---------------------------------------------------------------------------------- */

/* One that is no database by its content needs no name. */
static bool is_no_database(const struct evidence_file *file)
{
	return file->head == HEAD_OTHER || file->head == HEAD_JOURNAL;
}

static bool is_in_question(const struct evidence_file *file)
{
	if (file->writers == 0 || is_no_database(file))
		return false;
	return !file->has_place || (file->head == HEAD_UNKNOWN && file->dir);
}

/* Room for one more of @size bytes in an array that doubles; it may move. */
static bool grow(void **array, size_t count, size_t size)
{
	void *more;

	if (count & (count - 1))
		return true; /* it has room up to the next power of two */
	more = realloc(*array, (count ? 2 * count : 1) * size);
	if (!more)
		return false;
	*array = more;
	return true;
}

int evidence_questions(struct evidence *evidence, struct evidence_question **ret_list, size_t *ret_count)
{
	void *list = NULL;
	size_t count = 0;
	int error = 0;

	pthread_mutex_lock(&evidence->lock);
	for (size_t i = 0; i < CHAINS && !error; i++) {
		for (struct evidence_file *file = evidence->files[i]; file && !error; file = file->next) {
			if (!is_in_question(file))
				continue;
			if (grow(&list, count, sizeof(struct evidence_question)))
				((struct evidence_question *)list)[count++] = (struct evidence_question){
					file->bucket,
					file->head_at,
					evidence->renames,
				};
			else
				error = -ENOMEM;
		}
	}
	pthread_mutex_unlock(&evidence->lock);
	if (error) {
		free(list);
		return error;
	}
	*ret_list = list;
	*ret_count = count;
	return 0;
}

void evidence_learn(struct evidence *evidence, const struct evidence_question *question, uint32_t dir, const char *name,
		    const void *head, size_t length)
{
	struct evidence_file *file;

	pthread_mutex_lock(&evidence->lock);
	file = *find(evidence, question->bucket);
	if (file && !file->has_place && evidence->renames == question->names) {
		free(file->name);
		file->name = dir ? strdup(name) : NULL;
		file->has_place = !dir || file->name;
		file->dir = dir;
		file->hash = dir ? hash_of(dir, name, strlen(name)) : 0;
	}
	if (file && file->head == HEAD_UNKNOWN && file->head_at == question->head)
		file->head = head_of(head, length);
	pthread_mutex_unlock(&evidence->lock);
}

/* The bucket of the file called as @file with @suffix, 0 if there is none; and what is known of it, or NULL. */
static uint32_t side_of(struct evidence *evidence, const struct evidence_file *file, const char *suffix,
			struct evidence_file **ret_file)
{
	char name[512];
	size_t length = strlen(file->name), tail = strlen(suffix);
	struct side *side;

	*ret_file = NULL;
	if (length + tail >= sizeof(name))
		return 0;
	memcpy(name, file->name, length);
	memcpy(name + length, suffix, tail + 1);
	side = *find_side(evidence, file->dir, name, hash_of(file->dir, name, length + tail));
	if (!side)
		return 0;
	*ret_file = side->bucket ? *find(evidence, side->bucket) : NULL;
	return side->bucket;
}

/* Was the file synced since its head was last changed? */
static bool is_head_synced(const struct evidence_file *file)
{
	return file->was_synced && file->synced >= file->head_at;
}

static bool is_trusted(struct evidence *evidence, const struct evidence_file *file,
		       struct evidence_suspect *ret_suspect)
{
	struct evidence_file *journal, *wal;
	bool is_clean = file->changes == file->synced || file->changes == file->arrived, is_unflushed;

	*ret_suspect = (struct evidence_suspect){ .bucket = file->bucket, .is_asked = is_in_question(file) };
	if (is_no_database(file))
		return true;
	/* Opened since the last questions were asked. What was there before is whole: nobody had it open. */
	if (ret_suspect->is_asked)
		return file->changes == 0;
	if (!file->dir || evidence_is_side_name(file->name))
		return true;
	ret_suspect->journal = side_of(evidence, file, JOURNAL_SUFFIX, &journal);
	ret_suspect->wal = side_of(evidence, file, WAL_SUFFIX, &wal);
	ret_suspect->wal_mode = file->head == HEAD_WAL;
	ret_suspect->is_blank = file->head == HEAD_BLANK;
	is_unflushed = file->head == HEAD_WAL && wal && wal->head != HEAD_BLANK && wal->head_at > wal->covered &&
		       !is_head_synced(wal);
	if (is_clean && is_unflushed) {
		ret_suspect->is_unflushed = true;
		ret_suspect->wal_head = wal->head_at;
		return false;
	}
	if (is_clean)
		return true;
	if (journal && journal->head == HEAD_JOURNAL && is_head_synced(journal))
		return true;
	return file->head == HEAD_WAL && wal && wal->head != HEAD_BLANK && is_head_synced(wal);
}

int evidence_suspects(struct evidence *evidence, const struct evidence_suspect *excused, size_t excused_count,
		      struct evidence_suspect **ret_list, size_t *ret_count)
{
	void *list = NULL;
	size_t count = 0;
	int error = 0;

	pthread_mutex_lock(&evidence->lock);
	for (size_t i = 0; i < CHAINS && !error; i++) {
		for (struct evidence_file *file = evidence->files[i]; file && !error; file = file->next) {
			struct evidence_suspect suspect;
			bool is_excused = file->writers == 0;

			for (size_t j = 0; j < excused_count && !is_excused; j++)
				is_excused = excused[j].bucket == file->bucket;
			if (is_excused || is_trusted(evidence, file, &suspect))
				continue;
			if (grow(&list, count, sizeof(suspect)))
				((struct evidence_suspect *)list)[count++] = suspect;
			else
				error = -ENOMEM;
		}
	}
	pthread_mutex_unlock(&evidence->lock);
	if (error) {
		free(list);
		return error;
	}
	*ret_list = list;
	*ret_count = count;
	return 0;
}

static void arrived(struct evidence *evidence, uint32_t bucket)
{
	struct evidence_file *file = bucket ? *find(evidence, bucket) : NULL;

	if (file)
		file->arrived = file->covered = file->changes;
}

bool evidence_arrived(struct evidence *evidence, const struct evidence_suspect *suspect)
{
	struct evidence_file *file;
	bool is_right;

	pthread_mutex_lock(&evidence->lock);
	file = *find(evidence, suspect->bucket);
	is_right = !file || (file->head == HEAD_WAL) == suspect->wal_mode;
	if (is_right) {
		arrived(evidence, suspect->bucket);
		arrived(evidence, suspect->wal);
	}
	pthread_mutex_unlock(&evidence->lock);
	return is_right;
}

void evidence_flushed(struct evidence *evidence, const struct evidence_suspect *suspect)
{
	struct evidence_file *wal;

	pthread_mutex_lock(&evidence->lock);
	wal = *find(evidence, suspect->wal);
	if (wal && suspect->wal_head > wal->covered)
		wal->covered = suspect->wal_head;
	pthread_mutex_unlock(&evidence->lock);
}

void evidence_side_files_free(struct evidence_side_file *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(list[i].name);
	free(list);
}

int evidence_side_files(struct evidence *evidence, struct evidence_side_file **ret_list, size_t *ret_count)
{
	struct evidence_side_file *list = NULL;
	size_t count = 0;
	int error;

	pthread_mutex_lock(&evidence->lock);
	error = evidence->out_of_memory ? -ENOMEM : 0;
	if (!error && evidence->side_count > 0) {
		list = calloc(evidence->side_count, sizeof(*list));
		error = list ? 0 : -ENOMEM;
	}
	for (size_t i = 0; i < CHAINS && !error; i++) {
		for (struct side *side = evidence->sides[i]; side && !error; side = side->next) {
			list[count].dir = side->dir;
			list[count].name = strdup(side->name);
			error = list[count].name ? 0 : -ENOMEM;
			count += !error;
		}
	}
	pthread_mutex_unlock(&evidence->lock);
	if (error) {
		evidence_side_files_free(list, count);
		return error;
	}
	*ret_list = list;
	*ret_count = count;
	return 0;
}
