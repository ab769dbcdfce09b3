/* SPDX-License-Identifier: MIT */
/*
 * check, scrub and repair: a sound store has no finding, each kind of damage has its own, and after a repair the
 * store is sound again and shows all that was still whole.
 */
#include "support.h"

#include "checkpoint.h"
#include "checksum.h"
#include "namespace.h"
#include "version.h"

#define PAGES 200u /* of the files that the damage is done to: four slots, three of them whole */

/* ---- what is found --------------------------------------------------------------------------- */

struct seen {
	unsigned kinds[MOJO_FOUND_KINDS]; /* errors and warnings */
	unsigned infos;
	struct mojo_finding last; /* error or warning; the strings are below */
	char path[300], text[600];
	unsigned steps, done;
	char steps_text[8192];
	uint64_t progress;
	uint64_t cancel_at; /* 0: never */
	char event[300];
};

static void on_finding(void *arg, const struct mojo_finding *f)
{
	struct seen *seen = arg;
	assert_non_null(f->text);
	assert_true(f->last_version >= f->version);
	if (f->severity == MOJO_INFO) {
		seen->infos++;
		return;
	}
	seen->kinds[f->kind]++;
	seen->last = *f;
	snprintf(seen->path, sizeof(seen->path), "%s", f->path ? f->path : "?");
	snprintf(seen->text, sizeof(seen->text), "%s", f->text);
}

static void on_step(void *arg, bool done, const char *text)
{
	struct seen *seen = arg;
	size_t used = strlen(seen->steps_text);
	seen->steps++;
	seen->done += done;
	snprintf(seen->steps_text + used, sizeof(seen->steps_text) - used, "%s\n", text);
}

static bool on_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct seen *seen = arg;
	(void)what;
	assert_true(total == 0 || done <= total);
	return ++seen->progress != seen->cancel_at;
}

static void on_event(void *arg, enum mojo_severity severity, const char *text)
{
	struct seen *seen = arg;
	(void)severity;
	snprintf(seen->event, sizeof(seen->event), "%s", text);
}

static struct mojo_check_options options_for(struct seen *seen)
{
	return (struct mojo_check_options){
		.bytes_per_second = UINT64_MAX,
		.owner = "test_check",
		.finding = on_finding,
		.step = on_step,
		.progress = on_progress,
		.event = on_event,
		.arg = seen,
	};
}

static struct mojo_check_result look(struct bench *bench, struct seen *seen, bool scrub)
{
	struct mojo_check_options options = options_for(seen);
	struct mojo_check_result result;
	memset(seen, 0, sizeof(*seen));
	options.scrub = scrub;
	assert_ok(mojo_check(bench->io, &options, &result));
	assert_int_equal(result.errors, result.errors_left);
	assert_false(result.repaired);
	return result;
}

/* Nothing at all is wrong. */
static void assert_sound(struct bench *bench, bool lost)
{
	struct seen seen;
	struct mojo_check_result result = look(bench, &seen, true);
	for (int i = 0; i < MOJO_FOUND_KINDS; i++)
		if (seen.kinds[i] && !(lost && i == MOJO_FOUND_LOST))
			fail_msg("%u times %s: %s (path %s, version %u, pages %" PRIu64 "+%" PRIu64 ", address %" PRIu64
				 ")",
				 seen.kinds[i], mojo_finding_name((enum mojo_finding_kind)i), seen.text, seen.path,
				 seen.last.version, seen.last.first_page, seen.last.pages, seen.last.address);
	assert_int_equal(result.errors, 0);
	assert_int_equal(result.pages, result.pages_read);
}

/* Exactly one kind is found, @count times. */
static void assert_only(const struct seen *seen, enum mojo_finding_kind kind, unsigned count)
{
	for (unsigned i = 0; i < MOJO_FOUND_KINDS; i++)
		if (seen->kinds[i] != (i == (unsigned)kind ? count : 0))
			fail_msg("%s was found %u times, last: %s", mojo_finding_name((enum mojo_finding_kind)i),
				 seen->kinds[i], seen->text);
}

static struct mojo_check_result repair(struct bench *bench, struct seen *seen)
{
	struct mojo_check_options options = options_for(seen);
	struct mojo_check_result result;
	memset(seen, 0, sizeof(*seen));
	assert_ok(mojo_repair(bench->io, &options, &result));
	return result;
}

/* Repairs, and all is well. */
static void mend(struct bench *bench, bool lost)
{
	struct seen seen;
	struct mojo_check_result result = repair(bench, &seen);
	if (result.errors_left)
		fail_msg("%" PRIu64 " errors are left; steps:\n%s", result.errors_left, seen.steps_text);
	assert_true(result.repaired);
	assert_true(seen.done > 0);
	assert_non_null(strstr(result.aside, "lost+found-"));
	assert_sound(bench, lost);
}

/* ---- all files of a directory of the host ----------------------------------------------------- */

struct sum {
	struct mojo_io *io;
	const char *prefix;
	uint64_t value;
	char found[300]; /* a name that begins with lost+found */
};

static int sum_name(void *arg, const char *name)
{
	struct sum *sum = arg;
	char path[400];
	void *data;
	size_t length;
	snprintf(path, sizeof(path), "%s%s%s", sum->prefix, sum->prefix[0] ? "/" : "", name);
	if (strncmp(name, "lost+found", 10) == 0)
		snprintf(sum->found, sizeof(sum->found), "%s", name);
	if (mojo_io_memory_load(sum->io, path, &data, &length) == 0) {
		sum->value += mojo_checksum64(data, length, mojo_checksum64(path, strlen(path), 1));
		free(data);
	}
	return 0;
}

static uint64_t sum_files(struct mojo_io *io, char *ret_aside)
{
	struct sum sum = { .io = io, .prefix = "" };
	assert_ok(io->ops->list(io, "", sum_name, &sum));
	if (ret_aside)
		strcpy(ret_aside, sum.found);
	sum.prefix = MOJO_CHUNK_DIR;
	assert_ok(io->ops->list(io, MOJO_CHUNK_DIR, sum_name, &sum));
	return sum.value;
}

static bool has_aside(struct bench *bench, const char *aside, const char *name)
{
	char path[700];
	void *data;
	size_t length;
	snprintf(path, sizeof(path), "%s/%s", aside, name);
	if (mojo_io_memory_load(bench->io, path, &data, &length) != 0)
		return false;
	free(data);
	return true;
}

/* ---- places in a store ------------------------------------------------------------------------ */

/* Where the blob lies that holds @bucket's slot @number in a version. */
static uint64_t slot_address(struct bench *bench, uint32_t version, uint32_t bucket, uint32_t number)
{
	struct mojo_tree frozen, *tree;
	uint8_t key[9] = { MOJO_KEY_SLOT };
	struct mojo_cell cell;
	mojo_put_be32(key + 1, bucket);
	mojo_put_be32(key + 5, number);
	assert_ok(mojo_view(bench->store, version, &frozen, &tree));
	assert_ok(mojo_tree_get(tree, key, sizeof(key), &cell));
	assert_false(mojo_ref_is_null(cell.value));
	assert_false(mojo_ref_in_memory(cell.value));
	return mojo_ref_decode(cell.value).address;
}

/* The leaf of a tree in which @key is, or the root. */
static uint64_t node_address(struct bench *bench, const uint8_t *root, const uint8_t *key, unsigned length, bool leaf)
{
	uint8_t ref[MOJO_REF_BYTES];
	memcpy(ref, root, sizeof(ref));
	for (;;) {
		struct mojo_blob *blob;
		unsigned value_length;
		uint64_t address = mojo_ref_decode(ref).address;
		assert_false(mojo_ref_in_memory(ref));
		assert_ok(mojo_blob_get(&bench->store->blobs, ref, MOJO_BLOB_NODE, &blob));
		bool here = !leaf || mojo_node_level(blob->data) == 0;
		if (!here)
			memcpy(ref,
			       mojo_node_value(blob->data, mojo_node_child(blob->data, key, length), &value_length),
			       sizeof(ref));
		mojo_blob_put(&bench->store->blobs, blob);
		if (here)
			return address;
	}
}

static void put_inode(struct bench *bench, const struct mojo_inode *inode)
{
	uint8_t key[5] = { MOJO_KEY_INODE }, bytes[MOJO_INODE_BYTES];
	mojo_put_be32(key + 1, inode->attr.bucket);
	mojo_inode_encode(bytes, inode);
	assert_ok(mojo_tree_put(&bench->store->main, key, sizeof(key), bytes, sizeof(bytes)));
}

static struct mojo_inode get_inode(struct bench *bench, uint32_t bucket)
{
	struct mojo_inode inode;
	assert_ok(mojo_inode_get(&bench->store->main, bucket, &inode));
	return inode;
}

static void delete_key(struct bench *bench, enum mojo_key_type type, uint32_t a, uint64_t b)
{
	uint8_t key[13] = { type };
	mojo_put_be32(key + 1, a);
	mojo_put_be64(key + 5, b);
	assert_ok(mojo_tree_delete(&bench->store->main, key, type == MOJO_KEY_ENTRY ? 13 : 5));
}

/* ---- a store with some history ----------------------------------------------------------------- */

struct history {
	uint32_t big, small, dir, inner, other;
	uint32_t first, second; /* versions */
};

/* "big" of PAGES pages, changed in each version; some more. Closed cleanly. */
static struct history make_history(struct bench *bench)
{
	struct history h;
	h.big = bench_file(bench, "big");
	bench_put(bench, h.big, 0, PAGES * BENCH_PAGE, 1);
	h.small = bench_file(bench, "small");
	bench_put(bench, h.small, 0, 100, 2);
	h.dir = bench_make(bench, MOJO_ROOT_BUCKET, "dir", S_IFDIR | 0755);
	h.inner = bench_make(bench, h.dir, "inner", S_IFREG | 0600);
	bench_put(bench, h.inner, 5000, 9000, 3);
	h.first = bench_commit(bench, "one");
	bench_checkpoint(bench);
	bench_put(bench, h.big, 3 * BENCH_PAGE, BENCH_PAGE, 4);
	h.other = bench_file(bench, "other");
	bench_put(bench, h.other, 0, 70 * BENCH_PAGE, 5);
	h.second = bench_commit(bench, "two");
	bench_checkpoint(bench);
	bench_put(bench, h.big, 70 * BENCH_PAGE, 3 * BENCH_PAGE, 6);
	bench_checkpoint(bench);
	return h;
}

static void assert_history(struct bench *bench, const struct history *h)
{
	bench_assert(bench, h->first, h->small, 0, 100, 2);
	bench_assert(bench, h->first, h->inner, 5000, 9000, 3);
	bench_assert(bench, h->second, h->other, 0, 70 * BENCH_PAGE, 5);
	bench_assert(bench, h->second, h->big, 3 * BENCH_PAGE, BENCH_PAGE, 4);
	bench_assert(bench, MOJO_ACTIVE, h->big, 70 * BENCH_PAGE, 3 * BENCH_PAGE, 6);
}

static int read_page(struct bench *bench, uint32_t version, uint32_t bucket, uint64_t page)
{
	uint8_t buf[BENCH_PAGE];
	size_t got;
	return mojo_read(bench->store, version, bucket, page * BENCH_PAGE, buf, sizeof(buf), &got);
}

/* ---- nothing wrong ----------------------------------------------------------------------------- */

static void test_a_sound_store_has_no_finding(void **state)
{
	struct bench *bench = *state;
	struct dice dice = dice_new("sound");
	for (unsigned turn = 0; turn < 12; turn++) {
		bench_stir(bench, &dice, 150, true);
		if (turn % 3 == 0)
			bench_checkpoint(bench);
		if (turn % 2) {
			bench_close(bench);
		} else {
			bench_sync(bench);
			bench_crash(bench);
		}
		uint64_t before = sum_files(bench->io, NULL);
		assert_sound(bench, false);
		assert_int_equal(sum_files(bench->io, NULL), before);
		bench_open(bench);
	}
}

static void test_a_new_store_has_no_finding(void **state)
{
	struct bench *bench = *state;
	bench_close(bench);
	assert_sound(bench, false);
}

/* One change after the other, whatever comes of it. */
static void try_changes(struct bench *bench, struct dice *dice, unsigned count)
{
	uint8_t *buf = calloc(1, 20 * BENCH_PAGE);
	assert_non_null(buf);
	for (unsigned i = 0; i < count; i++) {
		char name[16], other[16];
		struct mojo_attr attr;
		uint32_t version;
		snprintf(name, sizeof(name), "f%u", dice_below(dice, 8));
		snprintf(other, sizeof(other), "f%u", dice_below(dice, 8));
		switch (dice_below(dice, 12)) {
		case 0:
			mojo_unlink(bench->store, MOJO_ROOT_BUCKET, name);
			break;
		case 1:
			mojo_rename(bench->store, MOJO_ROOT_BUCKET, name, MOJO_ROOT_BUCKET, other, 0);
			break;
		case 2:
			if (bench_info(bench).frozen_versions < 8)
				mojo_commit(bench->store, "v", 1, &version);
			break;
		case 3:
			mojo_sync(bench->store);
			break;
		case 4:
			mojo_checkpoint(bench->store);
			break;
		case 5: {
			struct mojo_version_info info;
			if (mojo_version_next(bench->store, 0, &info) == 0 && dice_below(dice, 2))
				mojo_version_drop(bench->store, info.version);
			break;
		}
		case 6:
			if (mojo_resolve(bench->store, MOJO_ACTIVE, name, &attr) == 0) {
				attr.size = dice_below(dice, 400000);
				mojo_setattr(bench->store, attr.bucket, MOJO_SET_SIZE, &attr, &attr);
			}
			break;
		default:
			if (mojo_resolve(bench->store, MOJO_ACTIVE, name, &attr) != 0 &&
			    mojo_mknod(bench->store, MOJO_ROOT_BUCKET, name, S_IFREG | 0600, 0, 0, 0, &attr) != 0)
				break;
			bench_fill(buf, 20 * BENCH_PAGE, i);
			mojo_write(bench->store, attr.bucket, dice_below(dice, 400000), buf,
				   1 + dice_below(dice, 20 * BENCH_PAGE));
		}
	}
	free(buf);
}

static void test_a_failing_disk_leaves_nothing_to_find(void **state)
{
	struct bench *bench = *state;
	struct dice dice = dice_new("failing disk");
	unsigned rounds = test_is_long() ? 2000 : 120;
	for (unsigned round = 0; round < rounds; round++) {
		static const int errors[] = { -EIO, -ENOSPC };
		mojo_io_memory_fail(bench->io, dice_below(&dice, 300), errors[dice_below(&dice, 2)],
				    dice_below(&dice, 2));
		try_changes(bench, &dice, 100);
		if (dice_below(&dice, 2)) {
			struct mojo_store *store = bench->store;
			bench->store = NULL;
			mojo_close(store);
		} else {
			bench_crash(bench);
		}
		mojo_io_memory_fail(bench->io, 0, 0, false);
		struct seen seen;
		struct mojo_check_result result = look(bench, &seen, true);
		if (result.errors || seen.kinds[MOJO_FOUND_ROOT] < result.warnings)
			fail_msg("round %u: %s", round, seen.text);
		bench_open(bench);
	}
}

static void test_a_repair_of_a_sound_store_does_nothing(void **state)
{
	struct bench *bench = *state;
	struct seen seen;
	make_history(bench);
	bench_close(bench);
	uint64_t before = sum_files(bench->io, NULL);
	struct mojo_check_result result = repair(bench, &seen);
	assert_false(result.repaired);
	assert_int_equal(result.aside[0], 0);
	assert_int_equal(seen.steps, 0);
	assert_int_equal(sum_files(bench->io, NULL), before);
}

static void test_what_is_no_store_or_in_use_is_refused(void **state)
{
	struct bench *bench = *state;
	struct mojo_check_result result;
	struct seen seen = { 0 };
	struct mojo_check_options options = options_for(&seen);
	assert_errno(mojo_check(bench->io, &options, &result), EBUSY);
	assert_non_null(strstr(seen.event, "in use by"));
	assert_errno(mojo_repair(bench->io, &options, &result), EBUSY);
	bench_close(bench);
	struct mojo_io *empty;
	assert_ok(mojo_io_memory(&empty));
	assert_errno(mojo_check(empty, &options, &result), ENOENT);
	assert_errno(mojo_repair(empty, &options, &result), ENOENT);
	mojo_io_free(empty);
	/* While one reads, another may check, but not repair. */
	bench->config.read_only = true;
	bench_open(bench);
	assert_ok(mojo_check(bench->io, &options, &result));
	assert_errno(mojo_repair(bench->io, &options, &result), EBUSY);
	options.dry_run = true;
	assert_ok(mojo_repair(bench->io, &options, &result));
}

static void test_a_newer_format_is_left_untouched(void **state)
{
	struct bench *bench = *state;
	struct seen seen = { 0 };
	struct mojo_check_options options = options_for(&seen);
	struct mojo_check_result result;
	uint8_t *bytes;
	size_t length;
	bench_close(bench);
	assert_ok(mojo_io_memory_load(bench->io, MOJO_STATE_FILE, (void **)&bytes, &length));
	mojo_put32(bytes + 8, 2);
	mojo_put64(bytes + 4088, mojo_checksum64(bytes, 4088, 0));
	assert_ok(mojo_io_memory_replace(bench->io, MOJO_STATE_FILE, bytes, length));
	free(bytes);
	uint64_t before = sum_files(bench->io, NULL);
	assert_errno(mojo_check(bench->io, &options, &result), EPROTONOSUPPORT);
	assert_errno(mojo_repair(bench->io, &options, &result), EPROTONOSUPPORT);
	assert_int_equal(sum_files(bench->io, NULL), before);
}

static void test_the_caller_can_stop(void **state)
{
	struct bench *bench = *state;
	struct mojo_check_result result;
	make_history(bench);
	bench_close(bench);
	for (uint64_t at = 1; at < 6; at++) {
		struct seen seen = { .cancel_at = at };
		struct mojo_check_options options = options_for(&seen);
		options.scrub = true;
		assert_errno(mojo_check(bench->io, &options, &result), ECANCELED);
	}
}

/* ---- pages --------------------------------------------------------------------------------------- */

static void test_a_damaged_page_is_told_by_file_versions_and_pages(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct seen seen;
	/* Pages 100..102 were written once, and all versions share them. */
	for (unsigned i = 0; i < 3; i++)
		bench_flip_block(bench, bench_address(bench, h.big, 100 + i), 77);
	bench_close(bench);
	look(bench, &seen, false);
	assert_only(&seen, MOJO_FOUND_PAGE, 0);
	struct mojo_check_result result = look(bench, &seen, true);
	assert_only(&seen, MOJO_FOUND_PAGE, 1);
	assert_int_equal(result.errors, 1);
	assert_int_equal(seen.last.version, h.first);
	assert_int_equal(seen.last.last_version, h.second + 1);
	assert_int_equal(seen.last.first_page, 100);
	assert_int_equal(seen.last.pages, 3);
	assert_int_equal(seen.last.bucket, h.big);
	assert_string_equal(seen.path, "big");
	/* What is lost no repair brings back; it says so, and changes nothing. */
	struct mojo_check_options options = options_for(&seen);
	options.scrub = true;
	assert_ok(mojo_repair(bench->io, &options, &result));
	assert_int_equal(result.errors_left, 1);
	assert_false(result.repaired);
	bench_open(bench);
	assert_errno(read_page(bench, h.first, h.big, 100), EIO);
	bench_put(bench, h.big, 100 * BENCH_PAGE, 3 * BENCH_PAGE, 9);
	bench_close(bench);
	look(bench, &seen, true);
	assert_only(&seen, MOJO_FOUND_PAGE, 1);
	assert_int_equal(seen.last.last_version, h.second);
}

static void test_a_page_of_one_version_is_told_of_that_one(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct mojo_map_entry entry;
	struct seen seen;
	size_t count;
	assert_ok(mojo_map(bench->store, h.first, h.big, 3, &entry, 1, &count));
	bench_flip_block(bench, entry.address, 0);
	bench_close(bench);
	look(bench, &seen, true);
	assert_only(&seen, MOJO_FOUND_PAGE, 1);
	assert_int_equal(seen.last.version, h.first);
	assert_int_equal(seen.last.last_version, h.first);
	assert_int_equal(seen.last.first_page, 3);
	assert_int_equal(seen.last.pages, 1);
}

static void test_an_open_store_can_be_scrubbed(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct seen seen = { 0 };
	struct mojo_check_options options = options_for(&seen);
	struct mojo_check_result result;
	assert_ok(mojo_scrub(bench->store, &options, &result));
	assert_int_equal(result.errors, 0);
	assert_true(result.pages_read > PAGES);
	bench_flip_block(bench, bench_address(bench, h.inner, 2), 1);
	bench_flip_block(bench, bench_address(bench, h.big, 150), 1);
	uint64_t gone = bench_address(bench, h.big, 71); /* of the active version only */
	bench_flip_block(bench, gone, 1);
	bench_put(bench, h.big, 71 * BENCH_PAGE, BENCH_PAGE, 8); /* not on disk yet */
	assert_ok(mojo_scrub(bench->store, &options, &result));
	assert_int_equal(result.errors, 3); /* the batch is open: what it replaces still counts */
	bench_checkpoint(bench);
	memset(&seen, 0, sizeof(seen));
	assert_ok(mojo_scrub(bench->store, &options, &result));
	assert_only(&seen, MOJO_FOUND_PAGE, 2);
	struct seen stopped = { .cancel_at = 3 };
	options.arg = &stopped;
	assert_errno(mojo_scrub(bench->store, &options, &result), ECANCELED);
}

static void *write_and_drop(void *arg)
{
	struct bench *bench = arg;
	struct dice dice = dice_new(NULL);
	for (unsigned i = 0; i < 30; i++) {
		bench_stir(bench, &dice, 20, true);
		bench_checkpoint(bench);
	}
	return NULL;
}

static void test_a_scrub_beside_writers_finds_nothing_in_a_sound_store(void **state)
{
	struct bench *bench = *state;
	struct seen seen = { 0 };
	struct mojo_check_options options = options_for(&seen);
	struct mojo_check_result result;
	pthread_t thread;
	make_history(bench);
	assert_int_equal(pthread_create(&thread, NULL, write_and_drop, bench), 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_ok(mojo_scrub(bench->store, &options, &result));
		assert_int_equal(result.errors, 0);
	}
	pthread_join(thread, NULL);
}

static void test_a_scrub_is_throttled(void **state)
{
	struct bench *bench = *state;
	struct seen seen = { 0 };
	struct mojo_check_options options = options_for(&seen);
	struct mojo_check_result result;
	struct timespec begin, end;
	make_history(bench);
	options.bytes_per_second = 4u << 20; /* there is more than 1 MiB */
	clock_gettime(CLOCK_MONOTONIC, &begin);
	assert_ok(mojo_scrub(bench->store, &options, &result));
	clock_gettime(CLOCK_MONOTONIC, &end);
	double seconds = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
	assert_true(seconds >= 0.9 * (double)(result.pages_read * BENCH_PAGE) / (4u << 20));
}

/* ---- roots --------------------------------------------------------------------------------------- */

static void test_a_damaged_root_is_written_anew(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct seen seen;
	uint64_t before = bench_fingerprint_all(bench);
	bench_close(bench);
	for (unsigned slot = 0; slot < 2; slot++) {
		assert_ok(mojo_io_memory_flip(bench->io, MOJO_STATE_FILE, slot * 4096 + 30, 0x10));
		struct mojo_check_result result = look(bench, &seen, false);
		assert_only(&seen, MOJO_FOUND_ROOT, 1);
		assert_int_equal(result.errors, 1);
		struct mojo_check_options options = options_for(&seen);
		uint64_t files = sum_files(bench->io, NULL);
		memset(&seen, 0, sizeof(seen));
		options.dry_run = true;
		assert_ok(mojo_repair(bench->io, &options, &result));
		assert_true(seen.steps > 0);
		assert_int_equal(seen.done, 0);
		assert_int_equal(sum_files(bench->io, NULL), files);
		mend(bench, false);
		bench_open(bench);
		assert_int_equal(bench_fingerprint_all(bench), before);
		assert_history(bench, &h);
		bench_close(bench);
		assert_sound(bench, false);
	}
}

static void test_a_root_that_was_half_written_is_no_error(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct seen seen;
	bench_put(bench, h.small, 0, 100, 2); /* as it was */
	bench_sync(bench);
	for (unsigned after = 0;; after++) { /* which of the writes is the root's? */
		mojo_io_memory_fail(bench->io, after, -EIO, true);
		int err = mojo_checkpoint(bench->store);
		bench_crash(bench);
		mojo_io_memory_fail(bench->io, 0, 0, false);
		struct mojo_check_result result = look(bench, &seen, true);
		assert_int_equal(result.errors, 0);
		if (!err || seen.kinds[MOJO_FOUND_ROOT])
			break;
		bench_open(bench);
	}
	assert_only(&seen, MOJO_FOUND_ROOT, 1);
	mend(bench, false);
	bench_open(bench);
	assert_history(bench, &h);
}

static void test_two_roots_with_a_wrong_byte_each_are_mended(void **state)
{
	struct bench *bench = *state;
	struct seen seen;
	make_history(bench);
	uint64_t before = bench_fingerprint_all(bench);
	bench_close(bench);
	assert_ok(mojo_io_memory_flip(bench->io, MOJO_STATE_FILE, 100, 0x81));
	assert_ok(mojo_io_memory_flip(bench->io, MOJO_STATE_FILE, 4096 + 2000, 0x01));
	look(bench, &seen, false);
	assert_only(&seen, MOJO_FOUND_ROOT, 2);
	mend(bench, false);
	bench_open(bench);
	assert_int_equal(bench_fingerprint_all(bench), before);
}

static void test_two_roots_that_are_gone_are_beyond_repair(void **state)
{
	struct bench *bench = *state;
	struct seen seen;
	make_history(bench);
	bench_close(bench);
	for (unsigned slot = 0; slot < 2; slot++)
		for (unsigned i = 0; i < 3; i++)
			assert_ok(mojo_io_memory_flip(bench->io, MOJO_STATE_FILE, slot * 4096 + 100 + 9 * i, 0x20));
	uint64_t before = sum_files(bench->io, NULL);
	look(bench, &seen, false);
	assert_only(&seen, MOJO_FOUND_ROOT, 2);
	struct mojo_check_result result = repair(bench, &seen);
	assert_int_equal(result.errors_left, 2);
	assert_false(result.repaired);
	assert_int_equal(sum_files(bench->io, NULL), before);
}

/* ---- the log ------------------------------------------------------------------------------------- */

static void test_a_damaged_log_is_cut_and_its_rest_put_aside(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct seen seen;
	uint64_t at[6], prints[6];
	for (unsigned i = 0; i < 6; i++) {
		at[i] = bench->store->log.tail;
		bench_put(bench, h.small, i * 500, 500, 20 + i);
		bench_sync(bench);
		prints[i] = bench_fingerprint_all(bench);
	}
	uint32_t chunk = bench->store->log.chunk;
	bench_flip_block(bench, at[3], 40);
	bench_crash(bench);
	assert_errno(mojo_open(bench->io, &bench->config, &bench->store), EUCLEAN);
	look(bench, &seen, true);
	assert_only(&seen, MOJO_FOUND_LOG, 1);
	assert_int_equal(seen.last.address, at[3]);
	mend(bench, false);
	char aside[300], path[MOJO_CHUNK_PATH_BYTES];
	sum_files(bench->io, aside);
	assert_true(has_aside(bench, aside, MOJO_STATE_FILE));
	assert_true(has_aside(bench, aside, "report.txt"));
	mojo_chunk_path(chunk, path);
	char nested[200];
	snprintf(nested, sizeof(nested), "%s", strchr(path, '/') + 1);
	assert_true(has_aside(bench, aside, nested));
	bench_open(bench);
	assert_int_equal(bench_fingerprint_all(bench), prints[2]);
	bench_put(bench, h.small, 1500, 500, 99);
	bench_reopen(bench);
	bench_assert(bench, MOJO_ACTIVE, h.small, 1500, 500, 99);
	for (unsigned i = 0; i < 3; i++)
		bench_checkpoint(bench); /* the space of what was put aside comes back, and nothing else goes */
	assert_history(bench, &h);
	bench_close(bench);
	assert_sound(bench, false);
}

static void test_a_damaged_header_of_the_index_costs_nothing(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct seen seen;
	/* A clean end: behind the root there are its own groups, and nothing else. */
	bench_put(bench, h.small, 0, 100, 7);
	bench_checkpoint(bench);
	uint64_t before = bench_fingerprint_all(bench), address = bench->store->root.log_address;
	bench_flip_block(bench, address, 60);
	bench_close(bench);
	look(bench, &seen, true);
	assert_only(&seen, MOJO_FOUND_LOG, 1);
	assert_int_equal(seen.last.address, address);
	mend(bench, false);
	bench_open(bench);
	assert_int_equal(bench_fingerprint_all(bench), before);
}

static void test_what_follows_a_damaged_header_of_the_index_is_kept(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct seen seen;
	uint64_t address = bench->store->root.log_address;
	for (unsigned i = 0; i < 4; i++) {
		bench_put(bench, h.small, i * 500, 500, 20 + i);
		bench_sync(bench);
	}
	uint64_t before = bench_fingerprint_all(bench);
	bench_crash(bench);
	bench_flip_block(bench, address, 60);
	look(bench, &seen, true);
	assert_only(&seen, MOJO_FOUND_LOG, 1);
	mend(bench, false);
	bench_open(bench);
	assert_int_equal(bench_fingerprint_all(bench), before);
}

/* ---- the index ------------------------------------------------------------------------------------- */

static void test_pages_of_a_damaged_slot_read_as_errors(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct seen seen;
	bench_checkpoint(bench); /* both roots share the slot */
	uint64_t address = slot_address(bench, MOJO_ACTIVE, h.big, 1);
	assert_int_equal(address, slot_address(bench, h.first, h.big, 1));
	bench_flip_block(bench, address, 9);
	bench_close(bench);
	look(bench, &seen, true);
	assert_only(&seen, MOJO_FOUND_INDEX, 1);
	assert_int_equal(seen.last.version, h.first);
	assert_int_equal(seen.last.last_version, h.second + 1);
	assert_int_equal(seen.last.first_page, 64);
	assert_int_equal(seen.last.pages, 64);
	assert_string_equal(seen.path, "big");
	mend(bench, true);
	char aside[300], name[60];
	sum_files(bench->io, aside);
	snprintf(name, sizeof(name), "index-%" PRIu64, address);
	assert_true(has_aside(bench, aside, name));
	bench_open(bench);
	assert_history(bench, &h); /* pages 70..72 are newer than the damaged piece */
	for (uint64_t page = 0; page < PAGES; page++) {
		bool in_slot = page / 64 == 1;
		assert_int_equal(read_page(bench, h.first, h.big, page), in_slot ? -EIO : 0);
		assert_int_equal(read_page(bench, MOJO_ACTIVE, h.big, page),
				 in_slot && (page < 70 || page > 72) ? -EIO : 0);
	}
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, h.big).pages, PAGES);
	/* What is lost can be written anew, as a whole. */
	uint8_t byte = 1;
	assert_errno(mojo_write(bench->store, h.big, 64 * BENCH_PAGE + 5, &byte, 1), EIO);
	bench_put(bench, h.big, 64 * BENCH_PAGE, 64 * BENCH_PAGE, 40);
	bench_reopen(bench);
	bench_assert(bench, MOJO_ACTIVE, h.big, 64 * BENCH_PAGE, 64 * BENCH_PAGE, 40);
	assert_ok(mojo_version_drop(bench->store, h.first));
	assert_ok(mojo_version_drop(bench->store, h.second));
	bench_close(bench);
	assert_sound(bench, false);
}

static void test_an_older_root_makes_up_for_a_damaged_index(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct seen seen;
	bench_checkpoint(bench);
	bench_put(bench, h.small, 0, 100, 50);
	bench_checkpoint(bench);
	bench_put(bench, h.small, 100, 100, 51);
	bench_sync(bench);
	uint64_t before = bench_fingerprint_all(bench);
	/* The active tree's root, written by the last checkpoint alone. */
	uint64_t address = mojo_ref_decode(bench->store->root.main_ref).address;
	bench_crash(bench);
	bench_flip_block(bench, address, 9);
	look(bench, &seen, true);
	assert_int_equal(seen.kinds[MOJO_FOUND_INDEX], 1);
	struct mojo_check_result result = repair(bench, &seen);
	assert_int_equal(result.errors_left, 0);
	assert_non_null(strstr(seen.steps_text, "older root"));
	assert_sound(bench, false);
	bench_open(bench);
	assert_int_equal(bench_fingerprint_all(bench), before);
}

static void test_a_version_without_a_root_is_dropped_and_the_others_stay(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct mojo_tree frozen, *tree;
	struct seen seen;
	bench_checkpoint(bench);
	uint64_t first = bench_fingerprint(bench, h.first), active = bench_fingerprint(bench, MOJO_ACTIVE);
	assert_ok(mojo_view(bench->store, h.second, &frozen, &tree));
	uint64_t address = mojo_ref_decode(tree->root).address;
	bench_close(bench);
	bench_flip_block(bench, address, 100);
	look(bench, &seen, true);
	assert_only(&seen, MOJO_FOUND_INDEX, 1);
	assert_int_equal(seen.last.version, h.second);
	mend(bench, false);
	bench_open(bench);
	struct mojo_version_info info;
	assert_ok(mojo_version_next(bench->store, h.second, &info));
	assert_true(info.active);
	assert_int_equal(bench_fingerprint(bench, h.first), first);
	assert_int_equal(bench_fingerprint(bench, MOJO_ACTIVE), active);
}

static void test_an_active_version_without_an_index_becomes_the_newest_frozen_one(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	bench_checkpoint(bench);
	bench_checkpoint(bench); /* both roots share everything */
	uint64_t second = bench_fingerprint(bench, h.second);
	uint64_t address = mojo_ref_decode(bench->store->root.main_ref).address;
	bench_close(bench);
	bench_flip_block(bench, address, 100);
	mend(bench, false);
	bench_open(bench);
	assert_int_equal(bench_fingerprint(bench, h.second), second);
	assert_int_equal(bench_fingerprint(bench, MOJO_ACTIVE), second);
	bench_put(bench, h.small, 0, 10, 1);
	bench_close(bench);
	assert_sound(bench, false);
}

static void test_without_the_list_of_versions_the_active_one_stays(void **state)
{
	struct bench *bench = *state;
	make_history(bench);
	struct seen seen;
	bench_checkpoint(bench);
	uint64_t active = bench_fingerprint(bench, MOJO_ACTIVE);
	uint64_t address = mojo_ref_decode(bench->store->root.versions_ref).address;
	bench_close(bench);
	bench_flip_block(bench, address, 100);
	look(bench, &seen, true);
	assert_only(&seen, MOJO_FOUND_INDEX, 1);
	mend(bench, false);
	bench_open(bench);
	assert_int_equal(bench_info(bench).frozen_versions, 0);
	assert_int_equal(bench_fingerprint(bench, MOJO_ACTIVE), active);
}

/* Leaves of a larger tree, one after the other: whatever is lost, the rest is as it was, and nothing reads as zeros. */
static void test_what_a_damaged_leaf_leaves_is_kept(void **state)
{
	struct bench *bench = *state;
	enum { FILES = 300 };
	uint32_t files[FILES];
	for (unsigned i = 0; i < FILES; i++) {
		char name[20];
		snprintf(name, sizeof(name), "file%u", i);
		files[i] = bench_file(bench, name);
		bench_put(bench, files[i], 0, (i % 3 + 1) * BENCH_PAGE, i);
	}
	uint32_t version = bench_commit(bench, "v");
	bench_put(bench, files[7], 0, BENCH_PAGE, 1007);
	bench_checkpoint(bench);
	bench_checkpoint(bench);
	struct {
		uint8_t key[13];
		unsigned length;
	} keys[] = {
		{ { MOJO_KEY_INODE }, 5 },
		{ { MOJO_KEY_ENTRY }, 13 },
		{ { MOJO_KEY_SLOT }, 9 },
		{ { MOJO_KEY_SLOT }, 9 },
	};
	mojo_put_be32(keys[0].key + 1, files[50]);
	mojo_put_be32(keys[1].key + 1, MOJO_ROOT_BUCKET);
	mojo_put_be64(keys[1].key + 5, mojo_name_cookie("file100", 7));
	mojo_put_be32(keys[2].key + 1, files[200]);
	mojo_put_be32(keys[3].key + 1, files[5]);
	for (size_t k = 0; k < sizeof(keys) / sizeof(keys[0]); k++) {
		struct mojo_io *copy;
		struct bench *other;
		assert_ok(mojo_io_memory_clone(bench->io, &copy));
		bench_setup_empty((void **)&other);
		bench_replace_io(other, copy);
		uint64_t address = node_address(bench, bench->store->main.root, keys[k].key, keys[k].length, true);
		bench_flip_block(other, address, 99);
		mend(other, true);
		bench_open(other);
		unsigned whole = 0, errors = 0;
		for (unsigned v = 0; v < 2; v++) {
			for (unsigned i = 0; i < FILES; i++) {
				uint32_t in = v ? MOJO_ACTIVE : version;
				uint8_t buf[BENCH_PAGE], wanted[BENCH_PAGE];
				size_t got, length = (i % 3 + 1) * BENCH_PAGE;
				uint8_t *all = malloc(length);
				for (uint64_t page = 0; page * BENCH_PAGE < length; page++) {
					int err = mojo_read(other->store, in, files[i], page * BENCH_PAGE, buf,
							    BENCH_PAGE, &got);
					if (err) {
						assert_true(err == -EIO || err == -ENOENT);
						errors++;
						continue;
					}
					assert_int_equal(got, BENCH_PAGE);
					bench_fill(all, length, i);
					memcpy(wanted, all + page * BENCH_PAGE, BENCH_PAGE);
					if (v && i == 7 && page == 0)
						bench_fill(wanted, BENCH_PAGE, 1007);
					assert_memory_equal(buf, wanted, BENCH_PAGE);
					whole++;
				}
				free(all);
			}
		}
		print_message("leaf %zu: %u pages whole, %u errors\n", k, whole, errors);
		assert_true(whole > FILES * 2);
		/* Files whose name, or inode, was lost have one in lost+found. */
		if (keys[k].key[0] != MOJO_KEY_SLOT)
			bench_lookup(other, MOJO_ACTIVE, "lost+found");
		if (keys[k].key[0] != MOJO_KEY_SLOT)
			assert_int_equal(errors, 0);
		else
			assert_true(errors > 0);
		bench_close(other);
		void *done = other;
		bench_teardown(&done);
	}
}

/* ---- dead blocks ------------------------------------------------------------------------------------- */

static void test_a_damaged_account_of_dead_blocks_is_made_anew(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct seen seen;
	bench_checkpoint(bench);
	uint64_t before = bench_fingerprint_all(bench);
	uint64_t address = mojo_ref_decode(bench->store->root.space_ref).address;
	bench_close(bench);
	bench_flip_block(bench, address, 100);
	look(bench, &seen, true);
	assert_only(&seen, MOJO_FOUND_INDEX, 1);
	mend(bench, false);
	bench_open(bench);
	for (unsigned i = 0; i < 3; i++)
		bench_checkpoint(bench);
	assert_int_equal(bench_fingerprint_all(bench), before);
	assert_history(bench, &h);
	bench_close(bench);
	assert_sound(bench, false);
}

static void test_a_block_in_use_that_is_called_dead_is_saved(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct seen seen;
	uint64_t before = bench_fingerprint_all(bench);
	mojo_space_kill(&bench->store->space, bench_address(bench, h.big, 20), 2);
	bench_checkpoint(bench);
	bench_crash(bench);
	look(bench, &seen, true);
	assert_only(&seen, MOJO_FOUND_DEAD, 1);
	assert_int_equal(seen.last.first_page, 20);
	assert_int_equal(seen.last.pages, 2);
	assert_string_equal(seen.path, "big");
	mend(bench, false);
	bench_open(bench);
	for (unsigned i = 0; i < 4; i++)
		bench_checkpoint(bench);
	assert_int_equal(bench_fingerprint_all(bench), before);
}

static void test_leaked_blocks_come_back(void **state)
{
	struct bench *bench = *state;
	struct seen seen;
	uint64_t address;
	make_history(bench);
	assert_ok(mojo_log_reserve(&bench->store->log, 7, &address));
	bench_checkpoint(bench);
	bench_close(bench);
	struct mojo_check_result result = look(bench, &seen, true);
	assert_only(&seen, MOJO_FOUND_LEAK, 1);
	assert_int_equal(result.errors, 0);
	assert_int_equal(seen.last.address, address);
	assert_int_equal(seen.last.blocks, 7);
	mend(bench, false);
}

static void test_wrong_sums_of_dead_blocks_are_found(void **state)
{
	struct bench *bench = *state;
	struct seen seen;
	uint8_t key[5] = { MOJO_SPACE_CHUNK }, value[8] = { 0 };
	make_history(bench);
	bench_checkpoint(bench);
	mojo_put32(value, 5);
	assert_ok(mojo_tree_put(&bench->store->dead, key, sizeof(key), value, sizeof(value)));
	bench_put(bench, 2, 0, 1, 1);
	pthread_mutex_lock(&bench->store->mu);
	assert_ok(mojo_checkpoint_locked(bench->store));
	pthread_mutex_unlock(&bench->store->mu);
	bench_crash(bench);
	look(bench, &seen, false);
	assert_true(seen.kinds[MOJO_FOUND_SPACE] >= 1);
	mend(bench, false);
}

/* ---- names, files, counts -------------------------------------------------------------------------------- */

/* Does @break_it to a store with some history; @kind is found, and a repair mends it. Returns with the store open. */
typedef void break_fn(struct bench *bench, const struct history *h);

static struct history broken(struct bench *bench, break_fn *break_it, enum mojo_finding_kind kind)
{
	struct history h = make_history(bench);
	struct seen seen;
	break_it(bench, &h);
	bench_checkpoint(bench);
	bench_checkpoint(bench);
	bench_crash(bench);
	struct mojo_check_result result = look(bench, &seen, true);
	if (!seen.kinds[kind] || !result.errors)
		fail_msg("%s was not found; last: %s", mojo_finding_name(kind), seen.text);
	for (unsigned i = 0; i < MOJO_FOUND_KINDS; i++)
		if (i != MOJO_FOUND_NAME && i != MOJO_FOUND_COUNT && i != (unsigned)kind && seen.kinds[i])
			fail_msg("%s was found, too: %s", mojo_finding_name((enum mojo_finding_kind)i), seen.text);
	if (kind != MOJO_FOUND_SHARED) {
		mend(bench, false);
		bench_open(bench);
		assert_history(bench, &h);
	}
	return h;
}

static void break_pages(struct bench *bench, const struct history *h)
{
	struct mojo_inode inode = get_inode(bench, h->big);
	inode.attr.pages += 3;
	put_inode(bench, &inode);
}

static void test_a_wrong_count_of_pages(void **state)
{
	struct history h = broken(*state, break_pages, MOJO_FOUND_COUNT);
	assert_int_equal(bench_attr(*state, MOJO_ACTIVE, h.big).pages, PAGES);
}

static void break_directory(struct bench *bench, const struct history *h)
{
	struct mojo_inode inode = get_inode(bench, MOJO_ROOT_BUCKET);
	inode.attr.size++;
	inode.attr.nlink++;
	put_inode(bench, &inode);
	(void)h;
}

static void test_a_wrong_count_of_entries(void **state)
{
	broken(*state, break_directory, MOJO_FOUND_COUNT);
	assert_int_equal(bench_attr(*state, MOJO_ACTIVE, MOJO_ROOT_BUCKET).size, 4);
	assert_int_equal(bench_attr(*state, MOJO_ACTIVE, MOJO_ROOT_BUCKET).nlink, 3);
}

static void break_entry(struct bench *bench, const struct history *h)
{
	struct mojo_inode inode = get_inode(bench, h->inner);
	delete_key(bench, MOJO_KEY_ENTRY, inode.attr.parent, inode.cookie);
}

static void test_a_file_without_a_name_gets_one(void **state)
{
	struct history h = broken(*state, break_entry, MOJO_FOUND_NAME);
	char path[40];
	snprintf(path, sizeof(path), "lost+found/#%" PRIu32, h.inner);
	assert_int_equal(bench_lookup(*state, MOJO_ACTIVE, path), h.inner);
	bench_assert(*state, MOJO_ACTIVE, h.inner, 5000, 9000, 3);
}

static void break_inode(struct bench *bench, const struct history *h)
{
	delete_key(bench, MOJO_KEY_INODE, h->other, 0);
}

static void test_pages_without_a_file_get_one(void **state)
{
	struct history h = broken(*state, break_inode, MOJO_FOUND_NAME);
	struct mojo_attr attr;
	char path[40];
	assert_errno(mojo_resolve(((struct bench *)*state)->store, MOJO_ACTIVE, "other", &attr), ENOENT);
	snprintf(path, sizeof(path), "lost+found/#%" PRIu32, h.other);
	assert_int_equal(bench_lookup(*state, MOJO_ACTIVE, path), h.other);
	bench_assert(*state, MOJO_ACTIVE, h.other, 0, 70 * BENCH_PAGE, 5);
}

static void break_cookie(struct bench *bench, const struct history *h)
{
	struct mojo_inode inode = get_inode(bench, h->small);
	inode.cookie++;
	put_inode(bench, &inode);
}

static void test_a_file_that_does_not_know_its_name(void **state)
{
	struct history h = broken(*state, break_cookie, MOJO_FOUND_NAME);
	assert_int_equal(bench_lookup(*state, MOJO_ACTIVE, "small"), h.small);
}

static void break_orphan(struct bench *bench, const struct history *h)
{
	uint8_t key[5] = { MOJO_KEY_ORPHAN };
	mojo_put_be32(key + 1, h->small);
	assert_ok(mojo_tree_put(&bench->store->main, key, sizeof(key), key, 0));
}

static void test_a_file_that_is_marked_for_removal_by_mistake(void **state)
{
	struct history h = broken(*state, break_orphan, MOJO_FOUND_NAME);
	assert_int_equal(bench_lookup(*state, MOJO_ACTIVE, "small"), h.small);
}

static void break_circle(struct bench *bench, const struct history *h)
{
	/* "dir" comes to lie in its own child. */
	struct mojo_inode dir = get_inode(bench, h->dir), root = get_inode(bench, MOJO_ROOT_BUCKET);
	uint32_t child = bench_make(bench, h->dir, "child", S_IFDIR | 0755);
	struct mojo_record_link link = {
		.dir = child, .child = h->dir, .mode = dir.attr.mode, .name = "dir", .name_length = 3
	};
	link.cookie = mojo_name_cookie("dir", 3);
	delete_key(bench, MOJO_KEY_ENTRY, MOJO_ROOT_BUCKET, dir.cookie);
	assert_ok(mojo_apply_link(bench->store, &link));
	dir = get_inode(bench, h->dir);
	dir.attr.parent = child;
	dir.cookie = link.cookie;
	put_inode(bench, &dir);
	struct mojo_inode inner = get_inode(bench, child);
	inner.attr.size++;
	inner.attr.nlink++;
	put_inode(bench, &inner);
	root = get_inode(bench, MOJO_ROOT_BUCKET);
	root.attr.size--;
	root.attr.nlink--;
	put_inode(bench, &root);
}

static void test_a_directory_within_itself(void **state)
{
	struct history h = broken(*state, break_circle, MOJO_FOUND_NAME);
	char path[60];
	struct mojo_attr attr;
	/* The circle is cut at one of the two. */
	snprintf(path, sizeof(path), "lost+found/#%" PRIu32, h.dir);
	if (mojo_resolve(((struct bench *)*state)->store, MOJO_ACTIVE, path, &attr) != 0)
		fail_msg("%s is not there", path);
	bench_assert(*state, MOJO_ACTIVE, h.inner, 5000, 9000, 3);
}

static void break_end(struct bench *bench, const struct history *h)
{
	struct mojo_inode inode = get_inode(bench, h->other);
	inode.attr.size = 10 * BENCH_PAGE;
	put_inode(bench, &inode);
}

static void test_pages_behind_the_end(void **state)
{
	struct history h = broken(*state, break_end, MOJO_FOUND_COUNT);
	assert_int_equal(bench_attr(*state, MOJO_ACTIVE, h.other).pages, 10);
}

static void break_root(struct bench *bench, const struct history *h)
{
	(void)h;
	delete_key(bench, MOJO_KEY_INODE, MOJO_ROOT_BUCKET, 0);
}

static void test_a_missing_root_directory(void **state)
{
	struct history h = broken(*state, break_root, MOJO_FOUND_NAME);
	assert_true(S_ISDIR(bench_attr(*state, MOJO_ACTIVE, MOJO_ROOT_BUCKET).mode));
	assert_int_equal(bench_attr(*state, h.first, MOJO_ROOT_BUCKET).size, 3);
}

static void break_files(struct bench *bench, const struct history *h)
{
	(void)h;
	bench->store->files += 5;
}

static void test_a_wrong_count_of_files(void **state)
{
	broken(*state, break_files, MOJO_FOUND_COUNT);
	assert_int_equal(bench_info(*state).files, 4);
}

static void break_shared(struct bench *bench, const struct history *h)
{
	struct mojo_slotmap map = mojo_map_of(bench->store, &bench->store->main);
	uint64_t address = bench_address(bench, h->big, 10);
	uint32_t sum = 1, added;
	map.killed = NULL;
	assert_ok(mojo_slotmap_set(&map, h->small, 0, 1, address, &sum, &added));
}

static void test_a_block_that_is_two_pages(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct seen seen;
	bench_commit(bench, "kept"); /* nothing dies */
	break_shared(bench, &h);
	bench_checkpoint(bench);
	bench_checkpoint(bench);
	bench_crash(bench);
	look(bench, &seen, false);
	assert_only(&seen, MOJO_FOUND_SHARED, 1);
}

/* One block is said to hold a page of @bucket, and a slot of another file: told once, of whichever comes later. */
static void assert_index_shared(struct bench *bench, uint32_t bucket, uint64_t address, const char *wanted)
{
	struct mojo_slotmap map = mojo_map_of(bench->store, &bench->store->main);
	struct seen seen;
	uint32_t sum = 1, added;
	map.killed = NULL;
	assert_ok(mojo_slotmap_set(&map, bucket, 0, 1, address, &sum, &added));
	bench_checkpoint(bench);
	bench_checkpoint(bench);
	bench_crash(bench);
	look(bench, &seen, false);
	assert_only(&seen, MOJO_FOUND_SHARED, 1);
	if (!strstr(seen.text, wanted))
		fail_msg("\"%s\" was not found, but \"%s\"", wanted, seen.text);
}

static void test_a_page_where_a_piece_of_the_index_lies(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	bench_commit(bench, "kept");
	assert_index_shared(bench, h.small, slot_address(bench, MOJO_ACTIVE, h.big, 0), "the index");
}

static void test_a_piece_of_the_index_where_a_page_lies(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	bench_commit(bench, "kept");
	bench_put(bench, h.other, 0, 70 * BENCH_PAGE, 8); /* a slot that only the active version has */
	bench_checkpoint(bench);
	assert_index_shared(bench, h.small, slot_address(bench, MOJO_ACTIVE, h.other, 0),
			    "a piece of the index lies where a page lies, too");
}

static void test_a_page_where_nothing_was_written(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct seen seen;
	struct mojo_slotmap map = mojo_map_of(bench->store, &bench->store->main);
	uint32_t sum = 1, added;
	bench_commit(bench, "kept");
	assert_ok(mojo_slotmap_set(&map, h.small, 0, 1, bench->store->log.tail + 100, &sum, &added));
	bench_checkpoint(bench);
	bench_checkpoint(bench);
	bench_crash(bench);
	look(bench, &seen, false);
	assert_only(&seen, MOJO_FOUND_ADDRESS, 1);
	assert_string_equal(seen.path, "small");
}

/* ---- chunks ------------------------------------------------------------------------------------------------ */

static void test_missing_short_and_foreign_chunk_files(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct seen seen;
	uint32_t more = bench_file(bench, "more");
	bench_put(bench, more, 0, 3u << 20, 11);
	bench_sync(bench);
	bench_put(bench, more, 3u << 20, 3u << 20, 12);
	bench_checkpoint(bench);
	bench_put(bench, h.small, 0, 1, 1);
	bench_checkpoint(bench);
	assert_true(bench->store->log.chunk >= 1);
	bench_close(bench);
	assert_ok(mojo_io_memory_replace(bench->io, "chunks/notes.txt", "x", 1));
	struct mojo_check_result result = look(bench, &seen, false);
	assert_only(&seen, MOJO_FOUND_CHUNK, 1);
	assert_int_equal(result.errors, 0);
	assert_ok(bench->io->ops->unlink(bench->io, "chunks/notes.txt"));
	void *data;
	size_t length;
	assert_ok(mojo_io_memory_load(bench->io, "chunks/00000000.chunk", &data, &length));
	assert_ok(mojo_io_memory_replace(bench->io, "chunks/00000000.chunk", data, BENCH_CHUNK / 2));
	free(data);
	look(bench, &seen, false);
	assert_true(seen.kinds[MOJO_FOUND_CHUNK] >= 1);
	struct mojo_check_options options = options_for(&seen);
	options.scrub = true;
	assert_ok(mojo_repair(bench->io, &options, &result));
	bench_open(bench); /* writable again, whatever is lost */
	bench_put(bench, more, 0, 3u << 20, 13);
	bench_reopen(bench);
	bench_assert(bench, MOJO_ACTIVE, more, 0, 3u << 20, 13);
}

/* ---- interrupted repairs ------------------------------------------------------------------------------------ */

static void test_an_interrupted_repair_can_be_repeated(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	bench_checkpoint(bench);
	bench_checkpoint(bench);
	uint64_t address = slot_address(bench, MOJO_ACTIVE, h.big, 1);
	bench_close(bench);
	bench_flip_block(bench, address, 9);
	struct seen seen;
	for (uint64_t k = 0;; k++) {
		struct mojo_io *copy, *left;
		struct bench *other;
		assert_ok(mojo_io_memory_clone(bench->io, &copy));
		assert_ok(mojo_io_memory_track(copy));
		bench_setup_empty((void **)&other);
		bench_replace_io(other, copy);
		struct mojo_check_options options = options_for(&seen);
		struct mojo_check_result result;
		memset(&seen, 0, sizeof(seen));
		mojo_io_memory_fail(copy, k, -EIO, true);
		int err = mojo_repair(copy, &options, &result);
		/* The power fails at that moment, too. */
		if (k % 2)
			assert_ok(mojo_io_memory_clone_torn(copy, k, &left));
		else
			assert_ok(mojo_io_memory_clone_durable(copy, &left));
		bench_replace_io(other, left);
		memset(&seen, 0, sizeof(seen));
		assert_ok(mojo_repair(left, &options, &result));
		assert_int_equal(result.errors_left, 0);
		assert_sound(other, true);
		bench_open(other);
		assert_history(other, &h);
		assert_errno(read_page(other, h.first, h.big, 64), EIO);
		void *done = other;
		bench_teardown(&done);
		if (!err) {
			print_message("%" PRIu64 " steps\n", k);
			break;
		}
	}
}

/* ---- what is unpublished ----------------------------------------------------------------------------------------- */

static void test_an_older_version_that_is_noted_as_unpublished(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct mojo_version_value value;
	struct mojo_version_info info;
	uint8_t key[4], bytes[MOJO_VERSION_BYTES_MAX], *at;
	unsigned length;
	mojo_put_be32(key, h.first);
	assert_ok(mojo_tree_touch(&bench->store->versions, key, sizeof(key), &at, &length));
	assert_ok(mojo_version_decode(at, length, &value));
	value.unpublished = true;
	assert_int_equal(mojo_version_encode(bytes, &value), length);
	memcpy(at, bytes, length);
	bench_checkpoint(bench);
	bench_close(bench);
	struct seen seen = { 0 };
	look(bench, &seen, false);
	assert_int_equal(seen.kinds[MOJO_FOUND_INDEX], 1);
	assert_int_equal(seen.last.version, h.first);
	mend(bench, false);
	bench_open(bench);
	assert_history(bench, &h);
	assert_ok(mojo_version_find(bench->store, h.first, &info));
	assert_false(info.unpublished);
	assert_int_equal(mojo_unpublished(bench->store), 0);
}

/* A damaged page of the unpublished version is told; a repair leaves it unpublished, and it is settled on. */
static void test_an_unpublished_version_is_checked_and_repaired(void **state)
{
	struct bench *bench = *state;
	struct history h = make_history(bench);
	struct mojo_map_entry entry;
	struct mojo_version_info info;
	uint32_t version;
	size_t count;
	assert_ok(mojo_freeze(bench->store, "half", 4, NULL, NULL, &version));
	char bytes[BENCH_PAGE];
	memset(bytes, 'x', sizeof(bytes));
	assert_ok(mojo_settle_write(bench->store, version, h.big, 0, bytes, sizeof(bytes)));
	bench_checkpoint(bench);
	assert_ok(mojo_map(bench->store, version, h.big, 0, &entry, 1, &count));
	bench_close(bench);
	assert_sound(bench, false);
	bench_flip_block(bench, entry.address, 5);
	struct seen seen = { 0 };
	look(bench, &seen, true);
	assert_int_equal(seen.kinds[MOJO_FOUND_PAGE], 1);
	assert_int_equal(seen.last.version, version);
	struct mojo_check_options options = options_for(&seen);
	struct mojo_check_result result;
	options.scrub = true;
	assert_ok(mojo_repair(bench->io, &options, &result));
	bench_open(bench);
	assert_history(bench, &h);
	assert_int_equal(mojo_unpublished(bench->store), version);
	assert_errno(read_page(bench, version, h.big, 0), EIO);
	assert_ok(mojo_settle_write(bench->store, version, h.big, 0, bytes, sizeof(bytes)));
	assert_ok(mojo_publish(bench->store, version));
	assert_ok(read_page(bench, version, h.big, 0));
	assert_ok(mojo_version_find(bench->store, version, &info));
	assert_true(info.settled);
	bench_close(bench);
	assert_sound(bench, false);
}

/* ---- anything ------------------------------------------------------------------------------------------------ */

struct known { /* one page of a frozen version, as it was */
	uint32_t version, bucket;
	uint64_t page;
	uint64_t sum;
};

struct knowledge {
	struct known *list; /* owned */
	size_t count, capacity;
};

static void learn(struct bench *bench, struct knowledge *k, uint32_t version)
{
	for (uint32_t bucket = 2; bucket < 400; bucket++) {
		struct mojo_attr attr;
		if (mojo_getattr(bench->store, version, bucket, &attr) != 0 || !S_ISREG(attr.mode))
			continue;
		for (uint64_t page = 0; page * BENCH_PAGE < attr.size && page < 300; page++) {
			uint8_t buf[BENCH_PAGE] = { 0 };
			size_t got;
			assert_ok(mojo_read(bench->store, version, bucket, page * BENCH_PAGE, buf, BENCH_PAGE, &got));
			if (k->count == k->capacity) {
				k->capacity = k->capacity ? k->capacity * 2 : 1024;
				k->list = realloc(k->list, k->capacity * sizeof(*k->list));
				assert_non_null(k->list);
			}
			k->list[k->count++] = (struct known){ version, bucket, page, mojo_checksum64(buf, got, got) };
		}
	}
}

/* How many of the pages are still there; none is wrong. */
static size_t recall(struct bench *bench, const struct knowledge *k)
{
	size_t whole = 0;
	for (size_t i = 0; i < k->count; i++) {
		const struct known *known = &k->list[i];
		uint8_t buf[BENCH_PAGE] = { 0 };
		size_t got;
		struct mojo_version_info info;
		if (mojo_version_next(bench->store, known->version, &info) != 0 || info.version != known->version ||
		    info.active)
			continue; /* it was dropped, or its commit was in the part of the log that is lost */
		int err = mojo_read(bench->store, known->version, known->bucket, known->page * BENCH_PAGE, buf,
				    BENCH_PAGE, &got);
		if (err)
			continue;
		/* A file whose inode was lost ends at its last page, and holes behind are gone with its size. */
		if (got == 0)
			continue;
		uint64_t sum = mojo_checksum64(buf, got, got);
		bool longer = false; /* the same file, with its size rounded up to a page */
		for (size_t length = 1; length < got && sum != known->sum && !longer; length++)
			longer = mojo_checksum64(buf, length, length) == known->sum;
		if (sum != known->sum && !longer)
			fail_msg("version %" PRIu32 ", file %" PRIu32 ", page %" PRIu64
				 " reads wrong after a repair (%zu bytes, first %d)",
				 known->version, known->bucket, known->page, got, buf[0]);
		whole++;
	}
	return whole;
}

static void damage(struct bench *bench, struct dice *dice, unsigned pieces)
{
	for (unsigned i = 0; i < pieces; i++) {
		char path[MOJO_CHUNK_PATH_BYTES];
		uint8_t *data;
		size_t length;
		mojo_chunk_path(dice_below(dice, 2), path);
		if (dice_below(dice, 20) == 0)
			strcpy(path, MOJO_STATE_FILE);
		if (mojo_io_memory_load(bench->io, path, (void **)&data, &length) != 0)
			continue;
		if (length) {
			size_t at = (size_t)(dice_next(dice) % length) / BENCH_PAGE * BENCH_PAGE;
			/* Nodes are few among the pages: rather often the next one. */
			for (size_t n = dice_below(dice, 3) ? at : length; n + BENCH_PAGE <= length; n += BENCH_PAGE) {
				if (memcmp(data + n, "MNOD", 4) == 0) {
					at = n;
					break;
				}
			}
			size_t bytes = length - at < BENCH_PAGE ? length - at : BENCH_PAGE;
			if (strcmp(path, MOJO_STATE_FILE) == 0 || dice_below(dice, 2))
				data[at + dice_below(dice, (uint32_t)bytes)] ^= (uint8_t)(1u << dice_below(dice, 8));
			else if (dice_below(dice, 2))
				memset(data + at, 0, bytes);
			else /* a block of another place */
				memmove(data + at,
					data + (size_t)(dice_next(dice) % (length - bytes + 1)) / BENCH_PAGE *
							BENCH_PAGE,
					bytes);
			assert_ok(mojo_io_memory_replace(bench->io, path, data, length));
		}
		free(data);
	}
}

/* Some of the files of the unpublished version change in it alone. */
static void settle(struct bench *bench, struct dice *dice)
{
	uint32_t version = mojo_unpublished(bench->store);
	for (int i = 0; i < 40; i++) {
		struct mojo_attr attr;
		char name[20], bytes[5000];
		snprintf(name, sizeof(name), "small%u", dice_below(dice, 250));
		if (mojo_lookup(bench->store, version, MOJO_ROOT_BUCKET, name, &attr) != 0)
			continue;
		memset(bytes, 'a' + i % 26, sizeof(bytes));
		int err = 0;
		if (i % 8 == 0)
			assert_ok(mojo_settle_unlink(bench->store, version, MOJO_ROOT_BUCKET, name));
		else
			err = mojo_settle_write(bench->store, version, attr.bucket, dice_below(dice, 3000), bytes,
						1 + dice_below(dice, sizeof(bytes)));
		assert_true(!err || err == -EIO); /* a page that is changed in part and was lost */
	}
}

static void test_any_damage_is_survived_and_nothing_reads_wrong(void **state)
{
	struct bench *bench = *state;
	struct dice dice = dice_new("any damage");
	struct knowledge known = { 0 };
	unsigned rounds = test_is_long() ? 5000 : 150, beyond = 0, kept = 0;
	uint32_t versions[3];
	size_t whole = 0;
	for (unsigned i = 0; i < 250; i++) { /* trees of several levels */
		char name[20];
		snprintf(name, sizeof(name), "small%u", i);
		bench_put(bench, bench_file(bench, name), 0, 100 + i * 10, i);
	}
	for (unsigned v = 0; v < 3; v++) {
		bench_stir(bench, &dice, 60, false);
		if (v != 1) {
			versions[v] = bench_commit(bench, "v");
		} else {
			assert_ok(mojo_freeze(bench->store, "v", 1, NULL, NULL, &versions[v]));
			settle(bench, &dice);
			assert_ok(mojo_publish(bench->store, versions[v]));
		}
		if (v % 2)
			bench_checkpoint(bench);
		learn(bench, &known, versions[v]);
	}
	uint32_t unpublished;
	bench_stir(bench, &dice, 30, false);
	assert_ok(mojo_freeze(bench->store, "half", 4, NULL, NULL, &unpublished));
	settle(bench, &dice);
	bench_stir(bench, &dice, 30, false);
	bench_sync(bench);
	bench_crash(bench);
	for (unsigned round = 0; round < rounds; round++) {
		struct mojo_io *copy;
		struct bench *other;
		struct seen seen = { 0 };
		struct mojo_check_options options = options_for(&seen);
		struct mojo_check_result result;
		assert_ok(mojo_io_memory_clone(bench->io, &copy));
		bench_setup_empty((void **)&other);
		bench_replace_io(other, copy);
		damage(other, &dice, 1 + dice_below(&dice, 12));
		options.scrub = true;
		assert_ok(mojo_repair(copy, &options, &result));
		uint64_t pages = seen.kinds[MOJO_FOUND_PAGE];
		struct mojo_check_result again = look(other, &seen, false);
		if (seen.kinds[MOJO_FOUND_ROOT] == 2) {
			beyond++; /* both roots were hit */
		} else {
			for (int i = 0; i < MOJO_FOUND_KINDS; i++)
				if (seen.kinds[i] && i != MOJO_FOUND_LOST)
					fail_msg("round %u: after the repair %s: %s (version %u, path %s)", round,
						 mojo_finding_name((enum mojo_finding_kind)i), seen.text,
						 seen.last.version, seen.path);
			assert_int_equal(again.errors, 0);
			assert_int_equal(result.errors_left, pages);
			snprintf(other->events, sizeof(other->events), "%s", seen.steps_text);
			bench_open(other);
			whole += recall(other, &known);
			bench_put(other, bench_file(other, "new"), 0, 10000, 1);
			if (mojo_unpublished(other->store)) { /* its settling goes on, or is given up */
				kept++;
				settle(other, &dice);
				if (round % 2)
					assert_ok(mojo_publish(other->store, mojo_unpublished(other->store)));
				else
					assert_ok(mojo_version_drop(other->store, mojo_unpublished(other->store)));
			}
			bench_close(other);
			look(other, &seen, false);
			assert_int_equal(seen.kinds[MOJO_FOUND_DEAD] + seen.kinds[MOJO_FOUND_INDEX] +
						 seen.kinds[MOJO_FOUND_NAME] + seen.kinds[MOJO_FOUND_COUNT],
					 0);
		}
		void *done = other;
		bench_teardown(&done);
	}
	print_message("%u rounds, %u with both roots gone; %zu of %zu pages whole in each, on average\n", rounds,
		      beyond, whole / (rounds - beyond + !(rounds - beyond)), known.count);
	print_message("the unpublished version was there after %u repairs\n", kept);
	assert_int_not_equal(kept, 0);
	free(known.list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_a_sound_store_has_no_finding),
		BENCH_TEST(test_a_new_store_has_no_finding),
		BENCH_TEST(test_a_failing_disk_leaves_nothing_to_find),
		BENCH_TEST(test_a_repair_of_a_sound_store_does_nothing),
		BENCH_TEST(test_what_is_no_store_or_in_use_is_refused),
		BENCH_TEST(test_a_newer_format_is_left_untouched),
		BENCH_TEST(test_the_caller_can_stop),
		BENCH_TEST(test_a_damaged_page_is_told_by_file_versions_and_pages),
		BENCH_TEST(test_a_page_of_one_version_is_told_of_that_one),
		BENCH_TEST(test_an_open_store_can_be_scrubbed),
		BENCH_TEST(test_a_scrub_beside_writers_finds_nothing_in_a_sound_store),
		BENCH_TEST(test_a_scrub_is_throttled),
		BENCH_TEST(test_a_damaged_root_is_written_anew),
		BENCH_TEST(test_a_root_that_was_half_written_is_no_error),
		BENCH_TEST(test_two_roots_with_a_wrong_byte_each_are_mended),
		BENCH_TEST(test_two_roots_that_are_gone_are_beyond_repair),
		BENCH_TEST(test_a_damaged_log_is_cut_and_its_rest_put_aside),
		BENCH_TEST(test_a_damaged_header_of_the_index_costs_nothing),
		BENCH_TEST(test_what_follows_a_damaged_header_of_the_index_is_kept),
		BENCH_TEST(test_pages_of_a_damaged_slot_read_as_errors),
		BENCH_TEST(test_an_older_root_makes_up_for_a_damaged_index),
		BENCH_TEST(test_a_version_without_a_root_is_dropped_and_the_others_stay),
		BENCH_TEST(test_an_active_version_without_an_index_becomes_the_newest_frozen_one),
		BENCH_TEST(test_without_the_list_of_versions_the_active_one_stays),
		BENCH_TEST(test_what_a_damaged_leaf_leaves_is_kept),
		BENCH_TEST(test_a_damaged_account_of_dead_blocks_is_made_anew),
		BENCH_TEST(test_a_block_in_use_that_is_called_dead_is_saved),
		BENCH_TEST(test_leaked_blocks_come_back),
		BENCH_TEST(test_wrong_sums_of_dead_blocks_are_found),
		BENCH_TEST(test_a_wrong_count_of_pages),
		BENCH_TEST(test_a_wrong_count_of_entries),
		BENCH_TEST(test_a_file_without_a_name_gets_one),
		BENCH_TEST(test_pages_without_a_file_get_one),
		BENCH_TEST(test_a_file_that_does_not_know_its_name),
		BENCH_TEST(test_a_file_that_is_marked_for_removal_by_mistake),
		BENCH_TEST(test_a_directory_within_itself),
		BENCH_TEST(test_pages_behind_the_end),
		BENCH_TEST(test_a_missing_root_directory),
		BENCH_TEST(test_a_wrong_count_of_files),
		BENCH_TEST(test_a_block_that_is_two_pages),
		BENCH_TEST(test_a_page_where_a_piece_of_the_index_lies),
		BENCH_TEST(test_a_piece_of_the_index_where_a_page_lies),
		BENCH_TEST(test_a_page_where_nothing_was_written),
		BENCH_TEST(test_missing_short_and_foreign_chunk_files),
		BENCH_TEST(test_an_interrupted_repair_can_be_repeated),
		BENCH_TEST(test_an_older_version_that_is_noted_as_unpublished),
		BENCH_TEST(test_an_unpublished_version_is_checked_and_repaired),
		BENCH_TEST(test_any_damage_is_survived_and_nothing_reads_wrong),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
