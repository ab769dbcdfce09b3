/* SPDX-License-Identifier: MIT */
#include "journal.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#define SUFFIX     "-journal"
#define WAL_SUFFIX "-wal"

enum {
	OFFSET_COUNT = 8,
	OFFSET_PAGES = 16,
	OFFSET_SECTOR = 20,
	OFFSET_PAGE = 24,
	SIZE_LEAST = 512, /* of sectors and of pages */
};

static const unsigned char magic[OFFSET_COUNT] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };
static const unsigned char uncounted[4] = { 0xff, 0xff, 0xff, 0xff };

/* Would the end of the journal that begins so commit a transaction that somebody waits for? */
static bool is_hot(const unsigned char *head)
{
	return memcmp(head, magic, sizeof(magic)) == 0 &&
	       memcmp(head + OFFSET_COUNT, uncounted, sizeof(uncounted)) != 0;
}

bool journal_is_hot_bucket(struct mojo_store *store, uint32_t bucket)
{
	unsigned char head[OFFSET_COUNT + sizeof(uncounted)];
	size_t length;

	if (mojo_read(store, MOJO_ACTIVE, bucket, 0, head, sizeof(head), &length) != 0)
		return true;
	return length == sizeof(head) && is_hot(head);
}

bool journal_is_hot(struct mojo_store *store, uint32_t dir, const char *name)
{
	struct mojo_attr attr;

	return mojo_lookup(store, MOJO_ACTIVE, dir, name, &attr) == 0 && S_ISREG(attr.mode) &&
	       journal_is_hot_bucket(store, attr.bucket);
}

static uint32_t number_at(const unsigned char *bytes)
{
	return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

static bool is_size(uint32_t size)
{
	return size >= SIZE_LEAST && size <= JOURNAL_PAGE_MOST && (size & (size - 1)) == 0;
}

bool journal_head(const void *bytes, struct journal_head *ret_head)
{
	static const unsigned char zeros[OFFSET_COUNT];
	const unsigned char *head = bytes;
	bool is_counted = memcmp(head, magic, sizeof(magic)) == 0;
	uint32_t sector = number_at(head + OFFSET_SECTOR), page = number_at(head + OFFSET_PAGE);

	if ((!is_counted && memcmp(head, zeros, sizeof(zeros)) != 0) || !is_size(sector) || !is_size(page))
		return false;
	*ret_head = (struct journal_head){
		.is_counted = is_counted,
		.records = number_at(head + OFFSET_COUNT),
		.pages = number_at(head + OFFSET_PAGES),
		.sector_bytes = sector,
		.page_bytes = page,
	};
	return true;
}

bool journal_is_over(const void *bytes)
{
	static const unsigned char zeros[JOURNAL_HEAD_BYTES];

	return memcmp(bytes, zeros, sizeof(zeros)) == 0;
}

static bool ends_with(const char *name, const char *suffix)
{
	size_t length = strlen(name), tail = strlen(suffix);

	return length > tail && strcmp(name + length - tail, suffix) == 0 && name[length - tail - 1] != '/';
}

bool journal_has_suffix(const char *name)
{
	return ends_with(name, SUFFIX);
}

int journal_database(struct mojo_store *store, uint32_t bucket, uint32_t *ret_database)
{
	char path[PATH_MAX];
	struct mojo_attr attr;
	int error = mojo_path(store, bucket, path, sizeof(path));

	if (!error && !journal_has_suffix(path))
		error = -ENOENT;
	if (error)
		return error;
	path[strlen(path) - strlen(SUFFIX)] = '\0';
	error = mojo_resolve(store, MOJO_ACTIVE, path, &attr);
	if (!error && !S_ISREG(attr.mode))
		error = -ENOENT;
	if (!error)
		*ret_database = attr.bucket;
	return error;
}

int journal_of(struct mojo_store *store, uint32_t database, uint32_t *ret_journal)
{
	char path[PATH_MAX];
	struct mojo_attr attr;
	int error = mojo_path(store, database, path, sizeof(path) - strlen(SUFFIX));

	if (!error) {
		strcat(path, SUFFIX);
		error = mojo_resolve(store, MOJO_ACTIVE, path, &attr);
	}
	if (!error && !S_ISREG(attr.mode))
		error = -ENOENT;
	if (!error)
		*ret_journal = attr.bucket;
	return error;
}

bool journal_only_orders(struct mojo_store *store, uint32_t bucket)
{
	unsigned char bytes[JOURNAL_HEAD_BYTES];
	struct journal_head head;
	uint32_t database;
	size_t length;

	return mojo_read(store, MOJO_ACTIVE, bucket, 0, bytes, sizeof(bytes), &length) == 0 &&
	       length == sizeof(bytes) && journal_head(bytes, &head) && journal_database(store, bucket, &database) == 0;
}

/* Does the journal, of @size bytes, end with the name of a super-journal? */
static bool has_super(struct mojo_store *store, uint32_t bucket, uint64_t size)
{
	unsigned char tail[sizeof(magic)];
	size_t length;

	return size < sizeof(tail) ||
	       mojo_read(store, MOJO_ACTIVE, bucket, size - sizeof(tail), tail, sizeof(tail), &length) != 0 ||
	       length != sizeof(tail) || memcmp(tail, magic, sizeof(tail)) == 0;
}

bool journal_takes_back(struct mojo_store *store, uint32_t bucket)
{
	unsigned char bytes[JOURNAL_HEAD_BYTES];
	struct journal_head head;
	struct mojo_attr attr;
	uint32_t journal;
	size_t length;

	return journal_of(store, bucket, &journal) == 0 && mojo_getattr(store, MOJO_ACTIVE, journal, &attr) == 0 &&
	       mojo_read(store, MOJO_ACTIVE, journal, 0, bytes, sizeof(bytes), &length) == 0 &&
	       length == sizeof(bytes) && journal_head(bytes, &head) && is_hot(bytes) && head.records != 0 &&
	       !has_super(store, journal, attr.size);
}

/* Is there a regular file whose name, with @suffix behind it, is @name? */
static bool is_beside(struct mojo_store *store, uint32_t dir, const char *name, const char *suffix)
{
	char base[MOJO_NAME_MAX + 1];
	struct mojo_attr attr;

	if (strlen(name) >= sizeof(base) || !ends_with(name, suffix))
		return false;
	strcpy(base, name);
	base[strlen(base) - strlen(suffix)] = '\0';
	return mojo_lookup(store, MOJO_ACTIVE, dir, base, &attr) == 0 && S_ISREG(attr.mode);
}

bool journal_is_name(struct mojo_store *store, uint32_t dir, const char *name)
{
	return is_beside(store, dir, name, SUFFIX);
}

bool journal_is_wal_name(struct mojo_store *store, uint32_t dir, const char *name)
{
	return is_beside(store, dir, name, WAL_SUFFIX);
}
