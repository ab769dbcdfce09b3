/* SPDX-License-Identifier: MIT */
/*
 * namespace.h: names and attributes behave as POSIX wants, whatever their hashes; a listing survives changes to
 * what it lists; the nameless live while they are held.
 */
#include "support/support.h"

#include "checksum.h"
#include "namespace.h"

/* ---- is everything in order? ---------------------------------------------------------------- */

enum { LISTED = 700 };

struct listing {
	struct mojo_attr attrs[LISTED];
	char names[LISTED][MOJO_NAME_MAX + 1];
	uint64_t cookies[LISTED];
	size_t count, limit;
};

static bool take(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct listing *listing = arg;
	if (listing->count == listing->limit)
		return false;
	assert_in_range(cookie, 1001, INT64_MAX);
	listing->attrs[listing->count] = *attr;
	listing->cookies[listing->count] = cookie;
	snprintf(listing->names[listing->count++], MOJO_NAME_MAX + 1, "%s", name);
	return true;
}

static struct listing *list(struct bench *bench, uint32_t version, uint32_t dir)
{
	struct listing *listing = calloc(1, sizeof(*listing));
	assert_non_null(listing);
	listing->limit = LISTED;
	assert_ok(mojo_readdir(bench->store, version, dir, 0, take, listing));
	return listing;
}

struct census {
	uint64_t files, directories;
};

static void visit(struct bench *bench, uint32_t dir, struct census *census)
{
	struct listing *listing = list(bench, MOJO_ACTIVE, dir);
	struct mojo_attr attr = bench_attr(bench, MOJO_ACTIVE, dir), child;
	uint32_t subdirs = 0;
	census->directories++;
	assert_int_equal(attr.size, listing->count);
	for (size_t i = 0; i < listing->count; i++) {
		char path[8192];
		assert_ok(mojo_lookup(bench->store, MOJO_ACTIVE, dir, listing->names[i], &child));
		assert_int_equal(child.bucket, listing->attrs[i].bucket);
		assert_int_equal(child.parent, dir);
		assert_true(i == 0 || listing->cookies[i] > listing->cookies[i - 1]);
		assert_ok(mojo_path(bench->store, child.bucket, path, sizeof(path)));
		assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, path), child.bucket);
		if (S_ISDIR(child.mode)) {
			subdirs++;
			visit(bench, child.bucket, census);
		} else {
			assert_int_equal(child.nlink, 1);
			census->files++;
		}
	}
	assert_int_equal(attr.nlink, 2 + subdirs);
	free(listing);
}

static void assert_in_order(struct bench *bench)
{
	struct census census = { 0 };
	struct mojo_info info = bench_info(bench);
	visit(bench, MOJO_ROOT_BUCKET, &census);
	assert_int_equal(census.files, info.files);
	assert_int_equal(census.directories, info.directories);
}

static bool exists(struct bench *bench, uint32_t dir, const char *name)
{
	struct mojo_attr attr;
	int err = mojo_lookup(bench->store, MOJO_ACTIVE, dir, name, &attr);
	assert_true(err == 0 || err == -ENOENT);
	return !err;
}

static void crash_and_open(struct bench *bench)
{
	bench_sync(bench);
	bench_crash(bench);
	bench_open(bench);
}

/* ---- names with one hash -------------------------------------------------------------------- */

/* Found by search: the upper 54 bits of their XXH3-64 are equal. */
static const char *const pairs[][2] = {
	{ "az4Nw-hUH", "EJJOgvM_s" },
	{ "9VDsZBtq3", "nshU7BnuZ" },
	{ "VYYfMiGSb", "vgDo7XW50" },
};
enum { PAIRS = 3 };

static uint64_t hash_of(const char *name)
{
	return mojo_checksum64(name, strlen(name), 0) >> 10;
}

static uint64_t cookie_of(struct bench *bench, uint32_t dir, const char *name)
{
	struct listing *listing = list(bench, MOJO_ACTIVE, dir);
	uint64_t cookie = 0;
	for (size_t i = 0; i < listing->count; i++)
		if (strcmp(listing->names[i], name) == 0)
			cookie = listing->cookies[i];
	free(listing);
	assert_int_not_equal(cookie, 0);
	return cookie;
}

static void test_names_with_one_hash_live_side_by_side(void **state)
{
	struct bench *bench = *state;
	struct mojo_attr attr;
	for (int i = 0; i < PAIRS; i++)
		assert_true(hash_of(pairs[i][0]) == hash_of(pairs[i][1]));
	for (int first = 0; first < 2; first++) {
		uint32_t buckets[PAIRS][2];
		for (int i = 0; i < PAIRS; i++) {
			buckets[i][first] = bench_file(bench, pairs[i][first]);
			assert_false(exists(bench, MOJO_ROOT_BUCKET, pairs[i][!first]));
			buckets[i][!first] = bench_file(bench, pairs[i][!first]);
			assert_errno(mojo_mknod(bench->store, MOJO_ROOT_BUCKET, pairs[i][!first], 0, 0, 0, 0, &attr),
				     EEXIST);
			uint64_t a = cookie_of(bench, MOJO_ROOT_BUCKET, pairs[i][first]);
			assert_int_equal(cookie_of(bench, MOJO_ROOT_BUCKET, pairs[i][!first]), a + 1);
		}
		crash_and_open(bench);
		for (int i = 0; i < PAIRS; i++)
			for (int k = 0; k < 2; k++)
				assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, pairs[i][k]), buckets[i][k]);
		assert_in_order(bench);
		uint32_t version = bench_commit(bench, "");
		/* The first goes: the second is still found behind the gap, and the gap is filled again. */
		for (int i = 0; i < PAIRS; i++) {
			uint64_t gap = cookie_of(bench, MOJO_ROOT_BUCKET, pairs[i][first]);
			assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, pairs[i][first]));
			assert_false(exists(bench, MOJO_ROOT_BUCKET, pairs[i][first]));
			assert_true(exists(bench, MOJO_ROOT_BUCKET, pairs[i][!first]));
			bench_file(bench, pairs[i][first]);
			assert_int_equal(cookie_of(bench, MOJO_ROOT_BUCKET, pairs[i][first]), gap);
			/* One takes the other's place, by name. */
			assert_ok(mojo_rename(bench->store, MOJO_ROOT_BUCKET, pairs[i][first], MOJO_ROOT_BUCKET,
					      pairs[i][!first], MOJO_RENAME_EXCHANGE));
			assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, pairs[i][first]), buckets[i][!first]);
			assert_ok(mojo_rename(bench->store, MOJO_ROOT_BUCKET, pairs[i][first], MOJO_ROOT_BUCKET,
					      pairs[i][!first], 0));
			assert_false(exists(bench, MOJO_ROOT_BUCKET, pairs[i][first]));
			assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, pairs[i][!first]), buckets[i][!first]);
			assert_ok(mojo_rename(bench->store, MOJO_ROOT_BUCKET, pairs[i][!first], MOJO_ROOT_BUCKET,
					      pairs[i][first], 0));
			assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, pairs[i][first]), buckets[i][!first]);
			assert_in_order(bench);
		}
		crash_and_open(bench);
		assert_in_order(bench);
		for (int i = 0; i < PAIRS; i++) {
			for (int k = 0; k < 2; k++)
				assert_int_equal(bench_lookup(bench, version, pairs[i][k]), buckets[i][k]);
			assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, pairs[i][first]));
		}
	}
}

/* As if @count names had the hash of @name; they lead to @child. */
static void plant(struct bench *bench, const char *name, uint32_t child, unsigned count)
{
	struct mojo_store *store = bench->store;
	for (unsigned n = 0; n < count; n++) {
		char other[32];
		struct mojo_record_link link = {
			.dir = MOJO_ROOT_BUCKET,
			.child = child,
			.mode = S_IFREG,
			.cookie = 1ull << 61 | hash_of(name) << 7 | n,
			.name = other,
			.name_length = (uint32_t)snprintf(other, sizeof(other), "planted %u", n),
		};
		assert_ok(mojo_apply_link(store, &link));
	}
}

static void test_more_names_with_one_hash_than_fit_are_refused(void **state)
{
	struct bench *bench = *state;
	struct mojo_attr attr;
	uint32_t child = bench_file(bench, "child");
	bench_file(bench, "other");
	plant(bench, "full", child, 127);
	bench_file(bench, "full"); /* the last place */
	assert_true(exists(bench, MOJO_ROOT_BUCKET, "full"));
	assert_int_equal(cookie_of(bench, MOJO_ROOT_BUCKET, "full") & 127, 127);
	assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "full"));
	plant(bench, "full", child, 128);
	assert_false(exists(bench, MOJO_ROOT_BUCKET, "full"));
	struct mojo_info before = bench_info(bench);
	assert_errno(mojo_mknod(bench->store, MOJO_ROOT_BUCKET, "full", S_IFREG, 0, 0, 0, &attr), ENOSPC);
	assert_errno(mojo_symlink(bench->store, MOJO_ROOT_BUCKET, "full", "target", 0, 0, &attr), ENOSPC);
	assert_errno(mojo_rename(bench->store, MOJO_ROOT_BUCKET, "other", MOJO_ROOT_BUCKET, "full", 0), ENOSPC);
	assert_true(exists(bench, MOJO_ROOT_BUCKET, "other"));
	assert_int_equal(bench_info(bench).files, before.files);
	assert_false(bench_info(bench).failed);
	/* One goes: there is room for one, in its place. */
	assert_ok(mojo_apply_unlink(&bench->store->main, MOJO_ROOT_BUCKET, 1ull << 61 | hash_of("full") << 7 | 64));
	bench_file(bench, "full");
	assert_int_equal(cookie_of(bench, MOJO_ROOT_BUCKET, "full") & 127, 64);
	assert_true(exists(bench, MOJO_ROOT_BUCKET, "full"));
}

/* ---- listing -------------------------------------------------------------------------------- */

static void test_a_listing_goes_on_where_it_stopped(void **state)
{
	struct bench *bench = *state;
	struct listing *all, *part = calloc(1, sizeof(*part));
	assert_non_null(part);
	for (int i = 0; i < 500; i++) {
		char name[32];
		snprintf(name, sizeof(name), "file %d", i);
		bench_file(bench, name);
	}
	all = list(bench, MOJO_ACTIVE, MOJO_ROOT_BUCKET);
	assert_int_equal(all->count, 500);
	/* In pieces of any length, the entry at which it stops not consumed. */
	for (size_t piece = 1; piece < 120; piece += 17) {
		uint64_t cookie = 0;
		for (size_t at = 0; at < 500; at += part->count) {
			part->count = 0;
			part->limit = piece;
			assert_ok(mojo_readdir(bench->store, MOJO_ACTIVE, MOJO_ROOT_BUCKET, cookie, take, part));
			assert_int_equal(part->count, piece < 500 - at ? piece : 500 - at);
			for (size_t i = 0; i < part->count; i++)
				assert_string_equal(part->names[i], all->names[at + i]);
			cookie = part->cookies[part->count - 1];
		}
	}
	/* Behind the end there is nothing. */
	part->count = 0;
	assert_ok(mojo_readdir(bench->store, MOJO_ACTIVE, MOJO_ROOT_BUCKET, all->cookies[499], take, part));
	assert_int_equal(part->count, 0);
	free(all);
	free(part);
}

static void test_what_stays_is_listed_once_while_all_else_changes(void **state)
{
	enum { STAY = 200, COME = 400 };
	struct bench *bench = *state;
	struct dice dice = dice_new("listing");
	struct listing *part = calloc(1, sizeof(*part));
	bool there[COME] = { false };
	assert_non_null(part);
	char name[32];
	for (int i = 0; i < STAY; i++) {
		snprintf(name, sizeof(name), "stays %d", i);
		bench_file(bench, name);
	}
	for (int round = 0; round < 10; round++) {
		unsigned seen[STAY] = { 0 };
		uint64_t cookie = 0;
		do {
			part->count = 0;
			part->limit = 1 + dice_below(&dice, 10);
			assert_ok(mojo_readdir(bench->store, MOJO_ACTIVE, MOJO_ROOT_BUCKET, cookie, take, part));
			for (size_t i = 0; i < part->count; i++) {
				unsigned n;
				if (sscanf(part->names[i], "stays %u", &n) == 1)
					seen[n]++;
				cookie = part->cookies[i];
			}
			for (int i = 0; i < 12; i++) {
				uint32_t n = dice_below(&dice, COME);
				snprintf(name, sizeof(name), "comes %u", n);
				if (there[n])
					assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, name));
				else
					bench_file(bench, name);
				there[n] = !there[n];
			}
			if (dice_below(&dice, 30) == 0)
				bench_checkpoint(bench);
		} while (part->count);
		for (int i = 0; i < STAY; i++)
			assert_int_equal(seen[i], 1);
	}
	free(part);
}

static void test_a_frozen_listing_stays(void **state)
{
	struct bench *bench = *state;
	bench_file(bench, "a");
	bench_make(bench, MOJO_ROOT_BUCKET, "b", S_IFDIR | 0755);
	uint32_t version = bench_commit(bench, "");
	uint64_t sum = bench_fingerprint(bench, version);
	assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "a"));
	assert_ok(mojo_rmdir(bench->store, MOJO_ROOT_BUCKET, "b"));
	bench_file(bench, "c");
	assert_true(bench_fingerprint(bench, version) == sum);
	struct listing *listing = list(bench, version, MOJO_ROOT_BUCKET);
	assert_int_equal(listing->count, 2);
	free(listing);
	uint32_t file = bench_lookup(bench, version, "a");
	assert_errno(mojo_readdir(bench->store, version, file, 0, take, NULL), ENOTDIR);
	assert_errno(mojo_readdir(bench->store, 99, MOJO_ROOT_BUCKET, 0, take, NULL), ENOENT);
	assert_errno(mojo_readdir(bench->store, MOJO_ACTIVE, 12345, 0, take, NULL), ENOENT);
}

/* ---- renaming ------------------------------------------------------------------------------- */

enum kind { ABSENT, FILE_, LINK, EMPTY, FULL, KINDS };

static uint32_t make_kind(struct bench *bench, uint32_t dir, const char *name, enum kind kind)
{
	struct mojo_attr attr = { 0 };
	if (kind == FILE_) {
		attr.bucket = bench_make(bench, dir, name, S_IFREG | 0600);
		bench_put(bench, attr.bucket, 0, 5000, attr.bucket);
	} else if (kind == LINK) {
		assert_ok(mojo_symlink(bench->store, dir, name, "somewhere", 1, 1, &attr));
	} else if (kind == EMPTY || kind == FULL) {
		attr.bucket = bench_make(bench, dir, name, S_IFDIR | 0700);
		if (kind == FULL)
			bench_make(bench, attr.bucket, "in it", S_IFREG | 0600);
	}
	return attr.bucket;
}

static int expected(enum kind from, enum kind to, unsigned flags)
{
	bool from_dir = from == EMPTY || from == FULL, to_dir = to == EMPTY || to == FULL;
	if (from == ABSENT || (to == ABSENT && flags == MOJO_RENAME_EXCHANGE))
		return -ENOENT;
	if (to == ABSENT || flags == MOJO_RENAME_EXCHANGE)
		return 0;
	if (flags == MOJO_RENAME_NOREPLACE)
		return -EEXIST;
	if (from_dir && !to_dir)
		return -ENOTDIR;
	if (!from_dir && to_dir)
		return -EISDIR;
	return to == FULL ? -ENOTEMPTY : 0;
}

static void test_every_way_to_rename(void **state)
{
	static const unsigned flags[] = { 0, MOJO_RENAME_NOREPLACE, MOJO_RENAME_EXCHANGE };
	struct bench *bench = *state;
	unsigned number = 0;
	for (unsigned place = 0; place < 3; place++) { /* within a directory, into another one, and out of it */
		for (unsigned f = 0; f < 3; f++) {
			for (enum kind from = ABSENT; from < KINDS; from++) {
				for (enum kind to = ABSENT; to < KINDS; to++) {
					char dir_name[32];
					snprintf(dir_name, sizeof(dir_name), "dir %u", number++);
					uint32_t top = bench_make(bench, MOJO_ROOT_BUCKET, dir_name, S_IFDIR | 0700);
					uint32_t sub = bench_make(bench, top, "sub", S_IFDIR | 0700);
					uint32_t a = place == 2 ? sub : top, b = place == 1 ? sub : top;
					uint32_t one = make_kind(bench, a, "one", from);
					uint32_t two = make_kind(bench, b, "two", to);
					uint64_t before = bench_fingerprint(bench, MOJO_ACTIVE);
					int err = mojo_rename(bench->store, a, "one", b, "two", flags[f]);
					int wanted = expected(from, to, flags[f]);
					if (err != wanted)
						fail_msg("place %u, flags %u, kind %u to %u: %d, not %d", place,
							 flags[f], from, to, err, wanted);
					assert_in_order(bench);
					if (err) {
						assert_true(bench_fingerprint(bench, MOJO_ACTIVE) == before);
						continue;
					}
					struct mojo_attr attr;
					assert_ok(mojo_lookup(bench->store, MOJO_ACTIVE, b, "two", &attr));
					assert_int_equal(attr.bucket, one);
					if (flags[f] == MOJO_RENAME_EXCHANGE) {
						assert_ok(mojo_lookup(bench->store, MOJO_ACTIVE, a, "one", &attr));
						assert_int_equal(attr.bucket, two);
					} else {
						assert_false(exists(bench, a, "one"));
						if (two)
							assert_errno(
								mojo_getattr(bench->store, MOJO_ACTIVE, two, &attr),
								ENOENT);
					}
					if (from == FILE_)
						bench_assert(bench, MOJO_ACTIVE, one, 0, 5000, one);
				}
			}
		}
	}
	uint64_t sum = bench_fingerprint(bench, MOJO_ACTIVE);
	crash_and_open(bench);
	assert_true(bench_fingerprint(bench, MOJO_ACTIVE) == sum);
	assert_in_order(bench);
}

static void test_renames_that_make_no_sense(void **state)
{
	struct bench *bench = *state;
	struct mojo_store *store = bench->store;
	uint32_t a = bench_make(bench, MOJO_ROOT_BUCKET, "a", S_IFDIR | 0700);
	uint32_t b = bench_make(bench, a, "b", S_IFDIR | 0700);
	uint32_t c = bench_make(bench, b, "c", S_IFDIR | 0700), file = bench_file(bench, "file");
	uint64_t sum = bench_fingerprint(bench, MOJO_ACTIVE);
	char longer[MOJO_NAME_MAX + 2];
	memset(longer, 'n', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	/* Onto itself nothing happens. */
	assert_ok(mojo_rename(store, MOJO_ROOT_BUCKET, "file", MOJO_ROOT_BUCKET, "file", 0));
	assert_ok(mojo_rename(store, MOJO_ROOT_BUCKET, "a", MOJO_ROOT_BUCKET, "a", MOJO_RENAME_EXCHANGE));
	assert_errno(mojo_rename(store, MOJO_ROOT_BUCKET, "file", MOJO_ROOT_BUCKET, "file", MOJO_RENAME_NOREPLACE),
		     EEXIST);
	/* No directory into itself or below, in either direction of an exchange. */
	assert_errno(mojo_rename(store, MOJO_ROOT_BUCKET, "a", a, "x", 0), EINVAL);
	assert_errno(mojo_rename(store, MOJO_ROOT_BUCKET, "a", c, "x", 0), EINVAL);
	assert_errno(mojo_rename(store, MOJO_ROOT_BUCKET, "a", b, "c", MOJO_RENAME_EXCHANGE), EINVAL);
	assert_errno(mojo_rename(store, b, "c", MOJO_ROOT_BUCKET, "a", MOJO_RENAME_EXCHANGE), EINVAL);
	/* An ancestor in the way is not empty. */
	assert_errno(mojo_rename(store, b, "c", MOJO_ROOT_BUCKET, "a", 0), ENOTEMPTY);
	assert_errno(mojo_rename(store, MOJO_ROOT_BUCKET, "file", MOJO_ROOT_BUCKET, longer, 0), ENAMETOOLONG);
	assert_errno(mojo_rename(store, MOJO_ROOT_BUCKET, "file", MOJO_ROOT_BUCKET, "", 0), EINVAL);
	assert_errno(mojo_rename(store, MOJO_ROOT_BUCKET, "file", MOJO_ROOT_BUCKET, "..", 0), EINVAL);
	assert_errno(mojo_rename(store, MOJO_ROOT_BUCKET, ".", MOJO_ROOT_BUCKET, "x", 0), EINVAL);
	assert_errno(mojo_rename(store, MOJO_ROOT_BUCKET, "file", MOJO_ROOT_BUCKET, "x/y", 0), EINVAL);
	assert_errno(mojo_rename(store, MOJO_ROOT_BUCKET, "file", file, "x", 0), ENOTDIR);
	assert_errno(mojo_rename(store, file, "x", MOJO_ROOT_BUCKET, "y", 0), ENOTDIR);
	assert_errno(mojo_rename(store, MOJO_ROOT_BUCKET, "file", 12345, "x", 0), ENOENT);
	assert_errno(mojo_rename(store, MOJO_ROOT_BUCKET, "file", a, "x", 4), EINVAL);
	assert_errno(mojo_rename(store, MOJO_ROOT_BUCKET, "file", a, "x", 3), EINVAL);
	assert_true(bench_fingerprint(bench, MOJO_ACTIVE) == sum);
	assert_in_order(bench);
	/* A directory takes its whole tree along. */
	assert_ok(mojo_rename(store, a, "b", MOJO_ROOT_BUCKET, "moved", 0));
	assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, "moved/c"), c);
	assert_in_order(bench);
}

/* ---- the nameless --------------------------------------------------------------------------- */

static unsigned orphans(struct bench *bench)
{
	uint8_t key[MOJO_KEY_BYTES_MAX] = { MOJO_KEY_ORPHAN };
	unsigned length = 1, count = 0;
	struct mojo_cell cell;
	while (mojo_tree_next(&bench->store->main, key, length, true, &cell) == 0 && cell.key[0] == MOJO_KEY_ORPHAN) {
		memcpy(key, cell.key, cell.key_length);
		length = cell.key_length;
		count++;
	}
	return count;
}

static void test_a_held_bucket_outlives_its_name(void **state)
{
	struct bench *bench = *state;
	struct mojo_store *store = bench->store;
	struct mojo_attr attr;
	char path[64];
	uint32_t file = bench_file(bench, "f"), replaced = bench_file(bench, "g");
	bench_put(bench, file, 0, 3 * BENCH_PAGE, 1);
	assert_ok(mojo_hold(store, file));
	assert_ok(mojo_hold(store, file));
	assert_ok(mojo_hold(store, replaced));
	assert_ok(mojo_unlink(store, MOJO_ROOT_BUCKET, "f"));
	bench_file(bench, "h");
	assert_ok(mojo_rename(store, MOJO_ROOT_BUCKET, "h", MOJO_ROOT_BUCKET, "g", 0));
	assert_int_equal(orphans(bench), 2);
	assert_int_equal(bench_info(bench).files, 1);
	attr = bench_attr(bench, MOJO_ACTIVE, file);
	assert_int_equal(attr.nlink, 0);
	assert_int_equal(attr.parent, 0);
	assert_errno(mojo_path(store, file, path, sizeof(path)), ENOENT);
	/* It can be read, written, changed. */
	bench_assert(bench, MOJO_ACTIVE, file, 0, 3 * BENCH_PAGE, 1);
	bench_put(bench, file, BENCH_PAGE, BENCH_PAGE, 2);
	bench_sync(bench);
	bench_checkpoint(bench);
	bench_assert(bench, MOJO_ACTIVE, file, BENCH_PAGE, BENCH_PAGE, 2);
	assert_ok(bench_resize(bench, file, 100));
	assert_ok(mojo_release(store, file));
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).size, 100);
	assert_ok(mojo_release(store, file));
	assert_errno(mojo_getattr(store, MOJO_ACTIVE, file, &attr), ENOENT);
	assert_errno(mojo_release(store, file), EINVAL);
	assert_int_equal(orphans(bench), 1);
	assert_ok(mojo_release(store, replaced));
	assert_int_equal(orphans(bench), 0);
	assert_errno(mojo_hold(store, file), ENOENT);
	assert_in_order(bench);
	/* A name is no obstacle to a release. */
	file = bench_lookup(bench, MOJO_ACTIVE, "g");
	assert_ok(mojo_hold(store, file));
	assert_ok(mojo_release(store, file));
	bench_attr(bench, MOJO_ACTIVE, file);
}

static void test_the_nameless_do_not_survive_their_process(void **state)
{
	struct bench *bench = *state;
	struct mojo_attr attr;
	uint32_t files[20];
	for (int crash = 0; crash < 2; crash++) {
		for (int i = 0; i < 20; i++) {
			char name[32];
			snprintf(name, sizeof(name), "f%d", i);
			files[i] = bench_file(bench, name);
			bench_put(bench, files[i], 0, 3 * BENCH_PAGE, 1);
			assert_ok(mojo_hold(bench->store, files[i]));
			assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, name));
		}
		uint32_t version = bench_commit(bench, "with orphans");
		assert_int_equal(orphans(bench), 20);
		if (crash) {
			bench_crash(bench);
			bench_open(bench);
		} else {
			bench_reopen(bench);
		}
		assert_int_equal(orphans(bench), 0);
		for (int i = 0; i < 20; i++)
			assert_errno(mojo_getattr(bench->store, MOJO_ACTIVE, files[i], &attr), ENOENT);
		assert_in_order(bench);
		/* The version that was frozen with them is not changed by that. */
		struct listing *listing = list(bench, version, MOJO_ROOT_BUCKET);
		assert_int_equal(listing->count, 0);
		free(listing);
		bench_assert(bench, version, files[7], 0, 3 * BENCH_PAGE, 1);
	}
	bench->store->mark_pending = true;
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
}

static void test_a_removed_directory_takes_no_names(void **state)
{
	struct bench *bench = *state;
	struct mojo_attr attr;
	uint32_t dir = bench_make(bench, MOJO_ROOT_BUCKET, "d", S_IFDIR | 0700);
	bench_file(bench, "f");
	assert_ok(mojo_hold(bench->store, dir));
	assert_ok(mojo_rmdir(bench->store, MOJO_ROOT_BUCKET, "d"));
	assert_errno(mojo_mknod(bench->store, dir, "x", S_IFREG, 0, 0, 0, &attr), ENOENT);
	assert_errno(mojo_rename(bench->store, MOJO_ROOT_BUCKET, "f", dir, "x", 0), ENOENT);
	assert_errno(mojo_lookup(bench->store, MOJO_ACTIVE, dir, "x", &attr), ENOENT);
	assert_int_equal(bench_info(bench).directories, 1);
	assert_ok(mojo_release(bench->store, dir));
	assert_errno(mojo_getattr(bench->store, MOJO_ACTIVE, dir, &attr), ENOENT);
	assert_in_order(bench);
}

static void test_many_holds_at_once(void **state)
{
	enum { FILES = 300 };
	struct bench *bench = *state;
	struct dice dice = dice_new("holds");
	uint32_t files[FILES];
	unsigned holds[FILES] = { 0 };
	bool linked[FILES];
	char name[32];
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		files[i] = bench_file(bench, name);
		linked[i] = true;
	}
	for (int round = 0; round < 6000; round++) {
		unsigned i = dice_below(&dice, FILES);
		struct mojo_attr attr;
		bool alive = linked[i] || holds[i];
		snprintf(name, sizeof(name), "f%u", i);
		switch (dice_below(&dice, 5)) {
		case 0:
		case 1:
			assert_int_equal(mojo_hold(bench->store, files[i]), alive ? 0 : -ENOENT);
			holds[i] += alive;
			break;
		case 2:
		case 3:
			assert_int_equal(mojo_release(bench->store, files[i]), holds[i] ? 0 : -EINVAL);
			holds[i] -= holds[i] > 0;
			break;
		default:
			if (linked[i] && dice_below(&dice, 8) == 0) {
				assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, name));
				linked[i] = false;
			}
		}
		assert_int_equal(mojo_getattr(bench->store, MOJO_ACTIVE, files[i], &attr),
				 linked[i] || holds[i] ? 0 : -ENOENT);
	}
	unsigned nameless = 0;
	for (unsigned i = 0; i < FILES; i++)
		nameless += !linked[i] && holds[i];
	assert_int_equal(orphans(bench), nameless);
	assert_in_order(bench);
}

/* ---- paths ---------------------------------------------------------------------------------- */

static void test_a_path_is_told_if_it_fits(void **state)
{
	struct bench *bench = *state;
	char path[8192], wanted[8192] = "", component[64];
	uint32_t dir = MOJO_ROOT_BUCKET;
	assert_ok(mojo_path(bench->store, MOJO_ROOT_BUCKET, path, 1));
	assert_string_equal(path, "");
	assert_errno(mojo_path(bench->store, MOJO_ROOT_BUCKET, path, 0), ERANGE);
	assert_errno(mojo_path(bench->store, 12345, path, sizeof(path)), ENOENT);
	for (unsigned depth = 0; depth < 120; depth++) {
		snprintf(component, sizeof(component), "level-%u-%.*s", depth, (int)(depth % 20),
			 "xxxxxxxxxxxxxxxxxxxx");
		dir = bench_make(bench, dir, component, S_IFDIR | 0700);
		if (depth)
			strcat(wanted, "/");
		strcat(wanted, component);
		assert_ok(mojo_path(bench->store, dir, path, sizeof(path)));
		assert_string_equal(path, wanted);
		size_t length = strlen(wanted);
		memset(path, 'z', sizeof(path));
		assert_ok(mojo_path(bench->store, dir, path, length + 1));
		assert_string_equal(path, wanted);
		path[length] = 'z';
		assert_errno(mojo_path(bench->store, dir, path, length), ERANGE);
		assert_int_equal(path[length], 'z');
		assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, wanted), dir);
	}
	assert_in_order(bench);
}

static void test_a_path_is_followed(void **state)
{
	struct bench *bench = *state;
	struct mojo_attr attr;
	uint32_t a = bench_make(bench, MOJO_ROOT_BUCKET, "a", S_IFDIR | 0700), f = bench_make(bench, a, "f", S_IFREG);
	char longer[MOJO_NAME_MAX + 10];
	memset(longer, 'n', sizeof(longer));
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, ""), MOJO_ROOT_BUCKET);
	assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, "/"), MOJO_ROOT_BUCKET);
	assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, "a/f"), f);
	assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, "//a///f//"), f);
	assert_errno(mojo_resolve(bench->store, MOJO_ACTIVE, "a/g", &attr), ENOENT);
	assert_errno(mojo_resolve(bench->store, MOJO_ACTIVE, "b/f", &attr), ENOENT);
	assert_errno(mojo_resolve(bench->store, MOJO_ACTIVE, "a/f/g", &attr), ENOTDIR);
	assert_errno(mojo_resolve(bench->store, MOJO_ACTIVE, longer, &attr), ENAMETOOLONG);
	assert_errno(mojo_resolve(bench->store, 7, "a", &attr), ENOENT);
}

/* ---- making --------------------------------------------------------------------------------- */

static void test_every_type_is_made_as_asked(void **state)
{
	static const uint32_t types[] = { 0, S_IFREG, S_IFDIR, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK };
	struct bench *bench = *state;
	struct mojo_attr attr;
	for (unsigned i = 0; i < 7; i++) {
		char name[32];
		snprintf(name, sizeof(name), "n%u", i);
		assert_ok(mojo_mknod(bench->store, MOJO_ROOT_BUCKET, name, types[i] | 06751, 0x0105, 7, 8, &attr));
		assert_int_equal(attr.mode, (types[i] ? types[i] : S_IFREG) | 06751);
		assert_int_equal(attr.uid, 7);
		assert_int_equal(attr.gid, 8);
		assert_int_equal(attr.rdev, 0x0105);
		assert_int_equal(attr.nlink, types[i] == S_IFDIR ? 2 : 1);
		assert_int_equal(attr.size, 0);
		assert_int_equal(attr.parent, MOJO_ROOT_BUCKET);
		assert_true(attr.btime_ns > 0 && attr.atime_ns == attr.btime_ns && attr.mtime_ns == attr.btime_ns);
		assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, name), attr.bucket);
	}
	assert_errno(mojo_mknod(bench->store, MOJO_ROOT_BUCKET, "l", S_IFLNK | 0777, 0, 0, 0, &attr), EINVAL);
	assert_errno(mojo_mknod(bench->store, MOJO_ROOT_BUCKET, "l", 0070000, 0, 0, 0, &attr), EINVAL);
	assert_errno(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "n2"), EISDIR);
	assert_errno(mojo_rmdir(bench->store, MOJO_ROOT_BUCKET, "n1"), ENOTDIR);
	assert_errno(mojo_rmdir(bench->store, MOJO_ROOT_BUCKET, "none"), ENOENT);
	crash_and_open(bench);
	assert_in_order(bench);
	attr = bench_attr(bench, MOJO_ACTIVE, bench_lookup(bench, MOJO_ACTIVE, "n6"));
	assert_int_equal(attr.rdev, 0x0105);
}

static void test_bucket_numbers_are_used_again_when_they_run_out(void **state)
{
	struct bench *bench = *state;
	uint32_t two = bench_file(bench, "two"), three = bench_file(bench, "three");
	assert_int_equal(two, 2);
	assert_int_equal(three, 3);
	assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "two"));
	bench->store->next_bucket = MOJO_BUCKET_MAX;
	assert_int_equal(bench_file(bench, "last"), MOJO_BUCKET_MAX);
	assert_int_equal(bench_file(bench, "first again"), 2);
	assert_int_equal(bench_file(bench, "not three"), 4);
	crash_and_open(bench);
	assert_int_equal(bench_file(bench, "after a crash"), 5);
	assert_in_order(bench);
}

static void test_a_directory_has_a_limit_of_directories(void **state)
{
	struct bench *bench = *state;
	struct mojo_inode root;
	struct mojo_attr attr;
	assert_ok(mojo_inode_get(&bench->store->main, MOJO_ROOT_BUCKET, &root));
	root.attr.nlink = INT32_MAX;
	assert_ok(mojo_inode_put(bench->store, &bench->store->main, &root));
	assert_errno(mojo_mknod(bench->store, MOJO_ROOT_BUCKET, "d", S_IFDIR, 0, 0, 0, &attr), EMLINK);
	bench_file(bench, "a file");
}

static void test_attributes_change_as_asked_and_no_others(void **state)
{
	struct bench *bench = *state;
	struct mojo_attr want = {
		.mode = S_IFDIR | 0123, .uid = 11, .gid = 22, .atime_ns = 33, .mtime_ns = -44, .ctime_ns = 55
	};
	uint32_t file = bench_file(bench, "f");
	for (unsigned mask = 0; mask < 128; mask++) {
		if (mask & MOJO_SET_SIZE)
			continue;
		struct mojo_attr reset = { .mode = 0644,
					   .uid = 1,
					   .gid = 2,
					   .atime_ns = 3,
					   .mtime_ns = 4,
					   .ctime_ns = 5 },
				 got;
		unsigned all =
			MOJO_SET_MODE | MOJO_SET_UID | MOJO_SET_GID | MOJO_SET_ATIME | MOJO_SET_MTIME | MOJO_SET_CTIME;
		assert_ok(mojo_setattr(bench->store, file, all, &reset, &got));
		assert_ok(mojo_setattr(bench->store, file, mask, &want, &got));
		assert_int_equal(got.mode, S_IFREG | (mask & MOJO_SET_MODE ? 0123 : 0644)); /* never the type */
		assert_int_equal(got.uid, mask & MOJO_SET_UID ? 11 : 1);
		assert_int_equal(got.gid, mask & MOJO_SET_GID ? 22 : 2);
		assert_true(got.atime_ns == (mask & MOJO_SET_ATIME ? 33 : 3));
		assert_true(got.mtime_ns == (mask & MOJO_SET_MTIME ? -44 : 4));
		assert_true(mask & MOJO_SET_CTIME ? got.ctime_ns == 55 : got.ctime_ns > 1000);
		struct mojo_attr kept = bench_attr(bench, MOJO_ACTIVE, file);
		assert_int_equal(kept.mode, got.mode);
		assert_true(kept.ctime_ns == got.ctime_ns);
	}
	assert_errno(mojo_setattr(bench->store, 999, MOJO_SET_MODE, &want, &want), ENOENT);
}

/* ---- against a model ------------------------------------------------------------------------ */

enum { DIRS = 12, NAMES = 10 };

static void test_random_names_are_as_a_table_says(void **state)
{
	struct bench *bench = *state;
	struct dice dice = dice_new("names");
	/* table[d][n]: what directory d has under name n: 0 nothing, 1 a file, 2 + k: directory k */
	static unsigned table[DIRS][NAMES];
	uint32_t buckets[DIRS] = { MOJO_ROOT_BUCKET };
	memset(table, 0, sizeof(table));
	for (int round = 0; round < 6000; round++) {
		unsigned d = dice_below(&dice, DIRS), e = dice_below(&dice, DIRS);
		unsigned n = dice_below(&dice, NAMES), m = dice_below(&dice, NAMES);
		char name[32], other[32];
		snprintf(name, sizeof(name), "n%u", n);
		snprintf(other, sizeof(other), "n%u", m);
		if (!buckets[d] || !buckets[e])
			continue;
		unsigned *from = &table[d][n], *to = &table[e][m];
		switch (dice_below(&dice, 6)) {
		case 0:
			if (!*from) {
				bench_make(bench, buckets[d], name, S_IFREG | 0600);
				*from = 1;
			}
			break;
		case 1:
			for (unsigned k = 1; k < DIRS && !*from; k++) {
				if (!buckets[k]) {
					buckets[k] = bench_make(bench, buckets[d], name, S_IFDIR | 0700);
					*from = 2 + k;
				}
			}
			break;
		case 2:
			if (*from == 1) {
				assert_ok(mojo_unlink(bench->store, buckets[d], name));
				*from = 0;
			} else if (*from) {
				bool empty = true;
				for (unsigned i = 0; i < NAMES; i++)
					empty &= !table[*from - 2][i];
				assert_int_equal(mojo_rmdir(bench->store, buckets[d], name), empty ? 0 : -ENOTEMPTY);
				if (empty) {
					buckets[*from - 2] = 0;
					*from = 0;
				}
			}
			break;
		case 3:
		case 4: {
			bool exchange = dice_below(&dice, 2);
			int err = mojo_rename(bench->store, buckets[d], name, buckets[e], other,
					      exchange ? MOJO_RENAME_EXCHANGE : 0);
			if (err || from == to)
				break;
			assert_true(*from);
			if (exchange) {
				unsigned swap = *from;
				*from = *to;
				*to = swap;
			} else {
				if (*to >= 2)
					buckets[*to - 2] = 0;
				*to = *from;
				*from = 0;
			}
			break;
		}
		default:
			assert_int_equal(exists(bench, buckets[d], name), *from != 0);
		}
		if (dice_below(&dice, 300) == 0) {
			assert_in_order(bench);
			if (dice_below(&dice, 2))
				crash_and_open(bench);
			else
				bench_commit(bench, "");
			for (d = 0; d < DIRS; d++)
				for (n = 0; buckets[d] && n < NAMES; n++) {
					snprintf(name, sizeof(name), "n%u", n);
					assert_int_equal(exists(bench, buckets[d], name), table[d][n] != 0);
				}
		}
	}
	assert_in_order(bench);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_names_with_one_hash_live_side_by_side),
		BENCH_TEST(test_more_names_with_one_hash_than_fit_are_refused),
		BENCH_TEST(test_a_listing_goes_on_where_it_stopped),
		BENCH_TEST(test_what_stays_is_listed_once_while_all_else_changes),
		BENCH_TEST(test_a_frozen_listing_stays),
		BENCH_TEST(test_every_way_to_rename),
		BENCH_TEST(test_renames_that_make_no_sense),
		BENCH_TEST(test_a_held_bucket_outlives_its_name),
		BENCH_TEST(test_the_nameless_do_not_survive_their_process),
		BENCH_TEST(test_a_removed_directory_takes_no_names),
		BENCH_TEST(test_many_holds_at_once),
		BENCH_TEST(test_a_path_is_told_if_it_fits),
		BENCH_TEST(test_a_path_is_followed),
		BENCH_TEST(test_every_type_is_made_as_asked),
		BENCH_TEST(test_bucket_numbers_are_used_again_when_they_run_out),
		BENCH_TEST(test_a_directory_has_a_limit_of_directories),
		BENCH_TEST(test_attributes_change_as_asked_and_no_others),
		BENCH_TEST(test_random_names_are_as_a_table_says),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
