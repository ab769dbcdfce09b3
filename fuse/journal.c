/* SPDX-License-Identifier: MIT */
#include "journal.h"

#include <limits.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#define SUFFIX "-journal"

enum {
	OFFSET_COUNT = 8,
	OFFSET_SECTOR = 20,
	OFFSET_PAGE = 24,
	HEAD_BYTES = 28,
	SIZE_LEAST = 512, /* of sectors and of pages */
	SIZE_MOST = 65536,
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

static bool is_size(const unsigned char *p)
{
	uint32_t size = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];

	return size >= SIZE_LEAST && size <= SIZE_MOST && (size & (size - 1)) == 0;
}

/* Being written, or hot? */
static bool is_head(const unsigned char *head)
{
	static const unsigned char zeros[OFFSET_COUNT];

	return (memcmp(head, magic, sizeof(magic)) == 0 || memcmp(head, zeros, sizeof(zeros)) == 0) &&
	       is_size(head + OFFSET_SECTOR) && is_size(head + OFFSET_PAGE);
}

/* Cuts @name to that of the database. False if it is no journal's. */
static bool cut_suffix(char *name)
{
	size_t length = strlen(name), suffix = strlen(SUFFIX);

	if (length <= suffix || strcmp(name + length - suffix, SUFFIX) != 0 || name[length - suffix - 1] == '/')
		return false;
	name[length - suffix] = '\0';
	return true;
}

bool journal_only_orders(struct mojo_store *store, uint32_t bucket)
{
	unsigned char head[HEAD_BYTES];
	char path[PATH_MAX];
	struct mojo_attr attr;
	size_t length;

	return mojo_read(store, MOJO_ACTIVE, bucket, 0, head, sizeof(head), &length) == 0 && length == sizeof(head) &&
	       is_head(head) && mojo_path(store, bucket, path, sizeof(path)) == 0 && cut_suffix(path) &&
	       mojo_resolve(store, MOJO_ACTIVE, path, &attr) == 0 && S_ISREG(attr.mode);
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
	static const unsigned char none[sizeof(uncounted)];
	unsigned char head[HEAD_BYTES];
	char path[PATH_MAX];
	struct mojo_attr attr;
	size_t length;

	if (mojo_path(store, bucket, path, sizeof(path) - strlen(SUFFIX)) != 0)
		return false;
	strcat(path, SUFFIX);
	return mojo_resolve(store, MOJO_ACTIVE, path, &attr) == 0 && S_ISREG(attr.mode) &&
	       mojo_read(store, MOJO_ACTIVE, attr.bucket, 0, head, sizeof(head), &length) == 0 &&
	       length == sizeof(head) && is_hot(head) && is_head(head) &&
	       memcmp(head + OFFSET_COUNT, none, sizeof(none)) != 0 && !has_super(store, attr.bucket, attr.size);
}

bool journal_is_name(struct mojo_store *store, uint32_t dir, const char *name)
{
	char base[MOJO_NAME_MAX + 1];
	struct mojo_attr attr;

	if (strlen(name) >= sizeof(base))
		return false;
	strcpy(base, name);
	return cut_suffix(base) && mojo_lookup(store, MOJO_ACTIVE, dir, base, &attr) == 0 && S_ISREG(attr.mode);
}
