/* SPDX-License-Identifier: MIT */
#include "history.h"

/* ---- taking ---------------------------------------------------------------------------------- */

static void *grown(void *list, size_t count, size_t bytes)
{
	list = realloc(list, (count + 1) * bytes);
	assert_non_null(list);
	return list;
}

struct names {
	char (*list)[MOJO_NAME_MAX + 1]; /* owned */
	size_t count;
};

static bool note_name(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct names *names = arg;
	(void)attr;
	(void)cookie;
	names->list = grown(names->list, names->count, sizeof(*names->list));
	snprintf(names->list[names->count++], sizeof(*names->list), "%s", name);
	return true;
}

static void take_thing(struct picture *picture, struct mojo_store *store, uint32_t version, const char *path)
{
	struct thing thing = { .path = strdup(path) };
	struct names names = { 0 };
	assert_non_null(thing.path);
	assert_ok(mojo_resolve(store, version, path, &thing.attr));
	if (S_ISREG(thing.attr.mode)) {
		thing.data = malloc(thing.attr.size + 1);
		assert_non_null(thing.data);
		assert_ok(mojo_read(store, version, thing.attr.bucket, 0, thing.data, thing.attr.size + 1,
				    &thing.length));
		assert_int_equal(thing.length, thing.attr.size);
	} else if (S_ISLNK(thing.attr.mode)) {
		thing.data = malloc(MOJO_SYMLINK_MAX + 1);
		assert_non_null(thing.data);
		assert_ok(mojo_readlink(store, version, thing.attr.bucket, (char *)thing.data));
		thing.length = strlen((char *)thing.data);
	} else if (S_ISDIR(thing.attr.mode)) {
		assert_ok(mojo_readdir(store, version, thing.attr.bucket, 0, note_name, &names));
	}
	picture->things = grown(picture->things, picture->count, sizeof(thing));
	picture->things[picture->count++] = thing;
	for (size_t i = 0; i < names.count; i++) {
		char below[4096];
		snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", names.list[i]);
		take_thing(picture, store, version, below);
	}
	free(names.list);
}

/* Can it still change? */
static bool is_open(const struct mojo_version_info *info)
{
	return info->active || info->unpublished;
}

static const struct picture *find_picture(const struct history *history, uint32_t version)
{
	for (size_t m = 0; m < history->count; m++)
		for (size_t i = 0; i < history->moments[m].count; i++)
			if (!is_open(&history->moments[m].versions[i].info) &&
			    history->moments[m].versions[i].info.version == version)
				return history->moments[m].versions[i].picture;
	return NULL;
}

static void note_version(struct history *history, struct moment *moment, struct mojo_store *store,
			 const struct mojo_version_info *info)
{
	const struct picture *picture = is_open(info) ? NULL : find_picture(history, info->version);
	if (!picture) {
		struct picture *taken = calloc(1, sizeof(*taken));
		assert_non_null(taken);
		take_thing(taken, store, info->version, "");
		history->pictures = grown(history->pictures, history->picture_count, sizeof(taken));
		history->pictures[history->picture_count++] = taken;
		picture = taken;
	}
	moment->versions = grown(moment->versions, moment->count, sizeof(*moment->versions));
	moment->versions[moment->count++] = (struct kept_version){ *info, picture };
}

void history_note(struct history *history, struct mojo_store *store)
{
	struct moment moment = { .tail = store->log.tail };
	struct mojo_version_info info, unpublished;
	int err;
	for (uint32_t from = 0; !(err = mojo_version_next(store, from, &info)); from = info.version + 1) {
		if (info.active && mojo_unpublished(store)) {
			assert_ok(mojo_version_find(store, mojo_unpublished(store), &unpublished));
			note_version(history, &moment, store, &unpublished);
		}
		note_version(history, &moment, store, &info);
	}
	assert_int_equal(err, -ENOENT);
	history->moments = grown(history->moments, history->count, sizeof(moment));
	history->moments[history->count++] = moment;
}

void history_free(struct history *history)
{
	for (size_t i = 0; i < history->picture_count; i++) {
		for (size_t k = 0; k < history->pictures[i]->count; k++) {
			free(history->pictures[i]->things[k].path);
			free(history->pictures[i]->things[k].data);
		}
		free(history->pictures[i]->things);
		free(history->pictures[i]);
	}
	for (size_t i = 0; i < history->count; i++)
		free(history->moments[i].versions);
	free(history->pictures);
	free(history->moments);
	*history = (struct history){ 0 };
}

/* ---- comparing ------------------------------------------------------------------------------- */

struct comparison {
	struct mojo_store *store;
	const char *const *except; /* HISTORY_EXCEPT of them */
	unsigned errors;
	bool differs;
	char *why;
	size_t why_bytes;
};

static void differs(struct comparison *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void differs(struct comparison *c, const char *format, ...)
{
	va_list list;
	if (c->differs)
		return;
	c->differs = true;
	va_start(list, format);
	vsnprintf(c->why, c->why_bytes, format, list);
	va_end(list);
}

/* Did the call give an answer that is to be looked at? An error that may not be is a difference. */
static bool answered(struct comparison *c, int err, const char *what, uint32_t version, const char *path)
{
	if (!err)
		return true;
	if (err == -EIO || err == -EUCLEAN || err == -ENOMEM)
		c->errors++;
	else
		differs(c, "%s of \"%s\" in version %" PRIu32 " says %s", what, path, version, strerror(-err));
	return false;
}

static bool same_attr(const struct mojo_attr *a, const struct mojo_attr *b)
{
	return a->bucket == b->bucket && a->mode == b->mode && a->nlink == b->nlink && a->uid == b->uid &&
	       a->gid == b->gid && a->rdev == b->rdev && a->parent == b->parent && a->size == b->size &&
	       a->pages == b->pages && a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns &&
	       a->btime_ns == b->btime_ns;
}

/* Whole, and if that fails page by page, so that each gets its chance to be wrong. */
static void compare_bytes(struct comparison *c, uint32_t version, const struct thing *thing)
{
	size_t got = 0;
	uint8_t *buf = malloc(thing->length + 1);
	assert_non_null(buf);
	int err = mojo_read(c->store, version, thing->attr.bucket, 0, buf, thing->length + 1, &got);
	if (answered(c, err, "reading", version, thing->path)) {
		if (got != thing->length || memcmp(buf, thing->data, got) != 0)
			differs(c, "the bytes of \"%s\" in version %" PRIu32 " are not what was written", thing->path,
				version);
	} else {
		for (size_t at = 0; at < thing->length; at += BENCH_PAGE) {
			size_t part = thing->length - at < BENCH_PAGE ? thing->length - at : BENCH_PAGE;
			err = mojo_read(c->store, version, thing->attr.bucket, at, buf, part, &got);
			if (answered(c, err, "reading", version, thing->path) &&
			    (got != part || memcmp(buf, thing->data + at, part) != 0))
				differs(c,
					"the bytes of \"%s\" in version %" PRIu32
					", from %zu on, are not what was written",
					thing->path, version, at);
		}
	}
	free(buf);
}

static void compare_map(struct comparison *c, uint32_t version, const struct thing *thing)
{
	struct mojo_map_entry entries[64];
	uint64_t pages = 0, at = 0;
	for (;;) {
		size_t count;
		int err = mojo_map(c->store, version, thing->attr.bucket, at, entries, 64, &count);
		if (!answered(c, err, "the map", version, thing->path))
			return;
		pages += count;
		if (count < 64)
			break;
		at = entries[count - 1].page + 1;
	}
	if (pages != thing->attr.pages)
		differs(c, "the map of \"%s\" in version %" PRIu32 " has %" PRIu64 " pages", thing->path, version,
			pages);
}

struct listing {
	const struct picture *picture;
	const struct thing *dir;
	size_t known, strange;
};

static bool compare_name(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct listing *listing = arg;
	char path[4096];
	(void)cookie;
	snprintf(path, sizeof(path), "%s%s%s", listing->dir->path, *listing->dir->path ? "/" : "", name);
	for (size_t i = 0; i < listing->picture->count; i++) {
		if (strcmp(listing->picture->things[i].path, path) == 0) {
			if (listing->picture->things[i].attr.bucket == attr->bucket)
				listing->known++;
			else
				listing->strange++;
			return true;
		}
	}
	listing->strange++;
	return true;
}

static void compare_names(struct comparison *c, uint32_t version, const struct picture *picture,
			  const struct thing *dir)
{
	struct listing listing = { .picture = picture, .dir = dir };
	int err = mojo_readdir(c->store, version, dir->attr.bucket, 0, compare_name, &listing);
	if (listing.strange)
		differs(c, "directory \"%s\" in version %" PRIu32 " lists a name that is not in it", dir->path,
			version);
	if (answered(c, err, "listing", version, dir->path) && listing.known != dir->attr.size)
		differs(c, "directory \"%s\" in version %" PRIu32 " lists %zu names of %" PRIu64, dir->path, version,
			listing.known, dir->attr.size);
}

static bool is_excepted(const struct comparison *c, const char *path)
{
	for (size_t i = 0; c->except && i < HISTORY_EXCEPT; i++)
		if (c->except[i] && strcmp(path, c->except[i]) == 0)
			return true;
	return false;
}

static void compare_picture(struct comparison *c, uint32_t version, const struct picture *picture)
{
	for (size_t i = 0; i < picture->count && !c->differs; i++) {
		const struct thing *thing = &picture->things[i];
		struct mojo_attr attr;
		char target[MOJO_SYMLINK_MAX + 1];
		if (is_excepted(c, thing->path))
			continue;
		int err = mojo_resolve(c->store, version, thing->path, &attr);
		if (answered(c, err, "looking up", version, thing->path) && !same_attr(&attr, &thing->attr))
			differs(c, "the attributes of \"%s\" in version %" PRIu32 " are wrong", thing->path, version);
		err = mojo_getattr(c->store, version, thing->attr.bucket, &attr);
		if (answered(c, err, "the attributes", version, thing->path) && !same_attr(&attr, &thing->attr))
			differs(c, "the attributes of bucket %" PRIu32 " in version %" PRIu32 " are wrong",
				thing->attr.bucket, version);
		if (S_ISREG(thing->attr.mode)) {
			compare_bytes(c, version, thing);
			compare_map(c, version, thing);
		} else if (S_ISLNK(thing->attr.mode)) {
			err = mojo_readlink(c->store, version, thing->attr.bucket, target);
			if (answered(c, err, "the target", version, thing->path) &&
			    (strlen(target) != thing->length || memcmp(target, thing->data, thing->length) != 0))
				differs(c, "the target of \"%s\" in version %" PRIu32 " is wrong", thing->path,
					version);
		} else if (S_ISDIR(thing->attr.mode)) {
			compare_names(c, version, picture, thing);
		}
	}
}

static bool same_info(const struct mojo_version_info *a, const struct mojo_version_info *b)
{
	return a->version == b->version && a->active == b->active && a->unpublished == b->unpublished &&
	       a->time_ns == b->time_ns && strcmp(a->message, b->message) == 0;
}

/* The one that is in no list. */
static void compare_unpublished(struct comparison *c, const struct moment *moment)
{
	const struct mojo_version_info *wanted = NULL;
	struct mojo_version_info info;
	uint32_t version = mojo_unpublished(c->store);
	for (size_t i = 0; i < moment->count; i++)
		if (moment->versions[i].info.unpublished)
			wanted = &moment->versions[i].info;
	if (version != (wanted ? wanted->version : 0))
		differs(c, "version %" PRIu32 " is unpublished, and %" PRIu32 " should be", version,
			wanted ? wanted->version : 0);
	if (c->differs || !version)
		return;
	int err = mojo_version_find(c->store, version, &info);
	if (answered(c, err, "what is known", version, "") && !same_info(&info, wanted))
		differs(c, "unpublished version %" PRIu32 " has a wrong message or time", version);
}

static void compare_moment(struct comparison *c, const struct moment *moment)
{
	struct mojo_version_info info;
	size_t seen = 0;
	uint32_t from = 0;
	for (;;) {
		int err = mojo_version_next(c->store, from, &info);
		if (err == -ENOENT)
			break;
		if (!answered(c, err, "the list of versions", from, ""))
			break;
		while (seen < moment->count && moment->versions[seen].info.version < info.version &&
		       (c->errors || moment->versions[seen].info.unpublished))
			seen++;
		if (seen == moment->count || !same_info(&info, &moment->versions[seen].info)) {
			differs(c, "version %" PRIu32 " is listed and should not be, or with a wrong message or time",
				info.version);
			return;
		}
		seen++;
		from = info.version + 1;
	}
	if (seen != moment->count && !c->errors)
		differs(c, "%zu versions are listed of %zu", seen, moment->count);
	compare_unpublished(c, moment);
	const char *const *except = c->except;
	for (size_t i = 0; i < moment->count && !c->differs; i++) {
		c->except = is_open(&moment->versions[i].info) ? except : NULL;
		compare_picture(c, moment->versions[i].info.version, moment->versions[i].picture);
	}
}

long history_compare(const struct history *history, struct mojo_store *store, size_t first, size_t last,
		     unsigned *ret_errors, char *why, size_t why_bytes)
{
	char other[512];
	for (size_t m = last + 1; m-- > first;) {
		struct comparison c = {
			.store = store,
			.except = history->except,
			.why = m == last ? why : other,
			.why_bytes = m == last ? why_bytes : sizeof(other),
		};
		compare_moment(&c, &history->moments[m]);
		if (!c.differs) {
			*ret_errors = c.errors;
			return (long)m;
		}
	}
	return -1;
}

bool history_compare_version(const struct picture *picture, struct mojo_store *store, uint32_t version,
			     unsigned *ret_errors, char *why, size_t why_bytes)
{
	struct comparison c = { .store = store, .why = why, .why_bytes = why_bytes };
	compare_picture(&c, version, picture);
	*ret_errors = c.errors;
	return !c.differs;
}
