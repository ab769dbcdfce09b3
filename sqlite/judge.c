/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "judge.h"

#define ENTRIES_AT_A_TIME 256u /* of a directory: between them others have the engine */

/* A file that is to be looked at, and where. */
struct place {
	uint32_t dir, bucket;
};

struct judge {
	struct mojo_store *store;
	uint32_t version;
	const struct settle_options *options;
	bool all;             /* each file; else those in places */
	struct place *places; /* owned, sorted; those that changed */
	size_t place_count;
	uint32_t *dirs; /* owned; still to be looked into */
	size_t dir_count;
	bool is_bad;
	char text[MOJO_VERDICT_MAX + 1];
	int error;
};

/* Some entries of one directory, kept because the engine cannot be asked while it lists. */
struct listing {
	struct judge *judge;
	uint32_t dir;
	uint64_t cookie;
	bool more;
	size_t taken, count;
	char names[ENTRIES_AT_A_TIME][MOJO_NAME_MAX + 1];
};

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

static int compare(const void *one, const void *other)
{
	const struct place *a = one, *b = other;

	if (a->dir != b->dir)
		return a->dir < b->dir ? -1 : 1;
	return (a->bucket > b->bucket) - (a->bucket < b->bucket);
}

static bool note_changed(void *arg, const struct mojo_attr *attr)
{
	struct judge *judge = arg;
	void *places = judge->places;

	if (!S_ISREG(attr->mode) || !attr->parent)
		return true;
	if (!grow(&places, judge->place_count, sizeof(*judge->places))) {
		judge->error = -ENOMEM;
		return false;
	}
	judge->places = places;
	judge->places[judge->place_count++] = (struct place){ attr->parent, attr->bucket };
	return true;
}

static bool note_entry(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct listing *listing = arg;
	struct judge *judge = listing->judge;
	struct place place = { listing->dir, attr->bucket };
	void *dirs = judge->dirs;

	if (listing->taken == ENTRIES_AT_A_TIME) {
		listing->more = true;
		return false;
	}
	listing->taken++;
	listing->cookie = cookie;
	if (S_ISDIR(attr->mode) && judge->all) {
		if (!grow(&dirs, judge->dir_count, sizeof(*judge->dirs))) {
			judge->error = -ENOMEM;
			return false;
		}
		judge->dirs = dirs;
		judge->dirs[judge->dir_count++] = attr->bucket;
	} else if (S_ISREG(attr->mode) && attr->size > 0 &&
		   (judge->all || bsearch(&place, judge->places, judge->place_count, sizeof(place), compare))) {
		strcpy(listing->names[listing->count++], name);
	}
	return true;
}

struct search {
	uint32_t bucket;
	char name[MOJO_NAME_MAX + 1];
};

static bool is_it(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct search *search = arg;

	(void)cookie;
	if (attr->bucket == search->bucket)
		strcpy(search->name, name);
	return attr->bucket != search->bucket;
}

/* The path of a directory in the version with a slash behind it, its first parts left out if it does not fit. */
static void path_of(struct judge *judge, uint32_t dir, char *ret_path, size_t size)
{
	char *at = ret_path + size - 1;
	struct mojo_attr attr;

	*at = '\0';
	while (dir != MOJO_ROOT_BUCKET && mojo_getattr(judge->store, judge->version, dir, &attr) == 0) {
		struct search search = { .bucket = dir, .name = "" };
		size_t length;

		if (mojo_readdir(judge->store, judge->version, attr.parent, 0, is_it, &search) != 0)
			break;
		length = strlen(search.name);
		if (length == 0 || length + 1 > (size_t)(at - ret_path))
			break;
		*--at = '/';
		at -= length;
		memcpy(at, search.name, length);
		dir = attr.parent;
	}
	memmove(ret_path, at, strlen(at) + 1);
}

static void found(struct judge *judge, uint32_t dir, const char *name, const char *what)
{
	char path[2048], text[4096];

	if (judge->is_bad)
		return;
	judge->is_bad = true;
	path_of(judge, dir, path, sizeof(path));
	snprintf(text, sizeof(text), "%s%s: %s", path, name, what);
	snprintf(judge->text, sizeof(judge->text), "%.*s", (int)MOJO_VERDICT_MAX, text);
	if (judge->options && judge->options->event) {
		char message[sizeof(text) + 64];

		snprintf(message, sizeof(message), "version %u: %s", judge->version, text);
		judge->options->event(judge->options->event_arg, MOJO_ERROR, message);
	}
}

/* One file; for a side file that has changed, its database. */
static int check_file(struct judge *judge, uint32_t dir, const char *name)
{
	enum settle_verdict verdict;
	char text[SETTLE_TEXT_SIZE], database[MOJO_NAME_MAX + 1];
	int error;

	strcpy(database, name);
	if (settle_is_side_file(name)) {
		if (judge->all)
			return 0;
		*strrchr(database, '-') = '\0';
	}
	error = settle_quick_check(judge->store, judge->version, dir, database, judge->options, &verdict, text);
	if (!error && verdict == SETTLE_BAD)
		found(judge, dir, database, text);
	/* A side file without its database says nothing. */
	return error == -ENOENT && settle_is_side_file(name) ? 0 : error;
}

static int check_directory(struct judge *judge, uint32_t dir)
{
	struct listing *listing = malloc(sizeof(*listing));
	int error = 0;

	if (!listing)
		return -ENOMEM;
	listing->judge = judge;
	listing->dir = dir;
	listing->cookie = 0;
	do {
		listing->more = false;
		listing->taken = listing->count = 0;
		error = mojo_readdir(judge->store, judge->version, dir, listing->cookie, note_entry, listing);
		if (!error)
			error = judge->error;
		for (size_t i = 0; i < listing->count && !error; i++)
			error = check_file(judge, dir, listing->names[i]);
	} while (!error && listing->more);
	free(listing);
	return error;
}

static int check_all(struct judge *judge)
{
	int error = check_directory(judge, MOJO_ROOT_BUCKET);

	while (!error && judge->dir_count > 0)
		error = check_directory(judge, judge->dirs[--judge->dir_count]);
	return error;
}

static int check_changed(struct judge *judge)
{
	int error = mojo_changed(judge->store, judge->version, note_changed, judge);

	if (!error)
		error = judge->error;
	if (error || judge->place_count == 0)
		return error;
	qsort(judge->places, judge->place_count, sizeof(*judge->places), compare);
	for (size_t i = 0; i < judge->place_count && !error; i++) {
		if (i == 0 || judge->places[i].dir != judge->places[i - 1].dir)
			error = check_directory(judge, judge->places[i].dir);
	}
	return error;
}

/* Did the newest kept version below pass? */
static bool is_below_good(struct mojo_store *store, uint32_t version)
{
	struct mojo_version_info *info = malloc(sizeof(*info));
	bool is_good = false;

	while (info && --version > 0) {
		int error = mojo_version_find(store, version, info);

		if (error == -ENOENT)
			continue; /* dropped */
		is_good = !error && info->verdict == MOJO_VERDICT_GOOD;
		break;
	}
	free(info);
	return is_good;
}

int judge_version(struct mojo_store *store, uint32_t version, const struct settle_options *options,
		  enum mojo_verdict *ret_verdict)
{
	struct judge judge = { .store = store, .version = version, .options = options };
	enum mojo_verdict verdict;
	int error;

	judge.all = !is_below_good(store, version);
	error = judge.all ? check_all(&judge) : check_changed(&judge);
	free(judge.places);
	free(judge.dirs);
	if (error)
		return error;
	verdict = judge.is_bad ? MOJO_VERDICT_BAD : MOJO_VERDICT_GOOD;
	error = mojo_version_verdict(store, version, verdict, judge.text, strlen(judge.text));
	if (!error)
		*ret_verdict = verdict;
	return error;
}
