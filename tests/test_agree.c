/* SPDX-License-Identifier: MIT */
/*
 * agree: what an index can say that is whole by its checksums, and wrong in itself, is told in words, and mended
 * without losing a page. No broken disk makes such an index, only a bug does, or somebody: here the tree is changed by
 * hand.
 */
#include "support.h"

#include "checkpoint.h"
#include "namespace.h"
#include "version.h"

#define ABSENT 4001u /* a bucket that there is not */

struct scene {
	uint32_t first, second, dir;
	char texts[4096]; /* of all errors found, a line each */
};

static void on_finding(void *arg, const struct mojo_finding *f)
{
	struct scene *scene = arg;
	size_t used = strlen(scene->texts);
	if (f->severity == MOJO_ERROR)
		snprintf(scene->texts + used, sizeof(scene->texts) - used, "%s\n", f->text);
}

static struct mojo_check_result look(struct bench *bench, struct scene *scene, bool mend)
{
	struct mojo_check_options options = {
		.scrub = true, .owner = "test_agree", .finding = on_finding, .arg = scene
	};
	struct mojo_check_result result;
	scene->texts[0] = 0;
	assert_ok(mend ? mojo_repair(bench->io, &options, &result) : mojo_check(bench->io, &options, &result));
	return result;
}

/* "first" and "dir/second", and a frozen version with them. */
static struct scene make_scene(struct bench *bench)
{
	struct scene scene = { .first = bench_file(bench, "first") };
	bench_put(bench, scene.first, 0, 3 * BENCH_PAGE, 1);
	scene.dir = bench_make(bench, MOJO_ROOT_BUCKET, "dir", S_IFDIR | 0755);
	scene.second = bench_make(bench, scene.dir, "second", S_IFREG | 0600);
	bench_put(bench, scene.second, 0, 100, 2);
	bench_commit(bench, "before the harm");
	bench_checkpoint(bench);
	return scene;
}

/* What was done by hand goes to disk; the process ends; @wanted is among what a check tells. */
static void assert_found(struct bench *bench, struct scene *scene, const char *wanted)
{
	bench_checkpoint(bench);
	bench_checkpoint(bench);
	bench_crash(bench);
	struct mojo_check_result result = look(bench, scene, false);
	if (!result.errors || !strstr(scene->texts, wanted))
		fail_msg("\"%s\" was not found, but:\n%s", wanted, scene->texts);
}

/* The same; and a repair mends it, and loses nothing. Leaves the store open. */
static void assert_mended(struct bench *bench, struct scene *scene, const char *wanted)
{
	assert_found(bench, scene, wanted);
	struct mojo_check_result result = look(bench, scene, true);
	if (result.errors_left || !result.repaired)
		fail_msg("%" PRIu64 " errors are left after the repair; found were:\n%s", result.errors_left,
			 scene->texts);
	assert_int_equal(look(bench, scene, false).errors, 0);
	bench_open(bench);
	bench_assert(bench, MOJO_ACTIVE, scene->first, 0, 3 * BENCH_PAGE, 1);
	bench_assert(bench, MOJO_ACTIVE, scene->second, 0, 100, 2);
	assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, "dir/second"), scene->second);
}

/* ---- changes by hand --------------------------------------------------------------------------- */

static void put_cell(struct bench *bench, const uint8_t *key, unsigned key_length, const void *value, unsigned length)
{
	assert_ok(mojo_tree_put(&bench->store->main, key, key_length, value, length));
}

static struct mojo_inode get_inode(struct bench *bench, uint32_t bucket)
{
	struct mojo_inode inode;
	assert_ok(mojo_inode_get(&bench->store->main, bucket, &inode));
	return inode;
}

static unsigned bucket_key(uint8_t *key, enum mojo_key_type type, uint32_t bucket)
{
	key[0] = (uint8_t)type;
	mojo_put_be32(key + 1, bucket);
	return 5;
}

static void put_inode(struct bench *bench, const struct mojo_inode *inode)
{
	uint8_t key[5], bytes[MOJO_INODE_BYTES];
	mojo_inode_encode(bytes, inode);
	put_cell(bench, key, bucket_key(key, MOJO_KEY_INODE, inode->attr.bucket), bytes, sizeof(bytes));
}

/* An entry @name of @dir at @cookie, that leads to @child; the directory counts it. */
static void put_entry(struct bench *bench, uint32_t dir, uint64_t cookie, const char *name, uint32_t child,
		      uint32_t mode)
{
	uint8_t key[13] = { MOJO_KEY_ENTRY }, value[8 + 255];
	unsigned length = (unsigned)strlen(name);
	mojo_put_be32(key + 1, dir);
	mojo_put_be64(key + 5, cookie);
	mojo_put32(value, child);
	mojo_put32(value + 4, mode);
	memcpy(value + 8, name, length);
	put_cell(bench, key, sizeof(key), value, 8 + length);
	struct mojo_inode inode;
	if (mojo_inode_get(&bench->store->main, dir, &inode) == 0) {
		inode.attr.size++;
		put_inode(bench, &inode);
	}
}

static uint64_t cookie_of(const char *name)
{
	return mojo_name_cookie(name, strlen(name));
}

static void assert_absent(struct bench *bench, const char *path)
{
	struct mojo_attr attr;
	assert_errno(mojo_resolve(bench->store, MOJO_ACTIVE, path, &attr), ENOENT);
}

/* ---- entries -------------------------------------------------------------------------------------- */

static void test_a_second_name_of_a_file_goes(void **state)
{
	struct scene scene = make_scene(*state);
	put_entry(*state, MOJO_ROOT_BUCKET, cookie_of("again"), "again", scene.first, S_IFREG | 0644);
	assert_mended(*state, &scene, "the entry \"again\" is a second name of its file");
	assert_absent(*state, "again");
	assert_int_equal(bench_lookup(*state, MOJO_ACTIVE, "first"), scene.first);
}

static void test_a_name_of_nothing_goes(void **state)
{
	struct scene scene = make_scene(*state);
	put_entry(*state, scene.dir, cookie_of("nothing"), "nothing", ABSENT, S_IFREG | 0644);
	assert_mended(*state, &scene, "the entry \"nothing\" leads to a file that does not exist");
	assert_absent(*state, "dir/nothing");
}

static void test_a_name_in_no_directory_goes(void **state)
{
	struct scene scene = make_scene(*state);
	put_entry(*state, ABSENT, cookie_of("astray"), "astray", scene.first, S_IFREG | 0644);
	assert_mended(*state, &scene, "the entry \"astray\" is in a directory that does not exist");
}

static void test_of_two_equal_names_the_second_goes(void **state)
{
	struct bench *bench = *state;
	struct scene scene = make_scene(bench);
	uint32_t other = bench_file(bench, "other");
	bench_put(bench, other, 0, 100, 3);
	bench_sync(bench);
	put_entry(bench, MOJO_ROOT_BUCKET, cookie_of("first") + 5, "first", other, S_IFREG | 0644);
	assert_mended(bench, &scene, "the entry \"first\" is there twice");
	assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, "first"), scene.first);
	bench_assert(bench, MOJO_ACTIVE, bench_lookup(bench, MOJO_ACTIVE, "other"), 0, 100, 3);
}

static void test_a_name_where_it_would_not_be_looked_for_goes(void **state)
{
	struct scene scene = make_scene(*state);
	put_entry(*state, MOJO_ROOT_BUCKET, cookie_of("hidden") ^ (1ull << 40), "hidden", scene.first, S_IFREG | 0644);
	assert_mended(*state, &scene, "an entry of this directory has a name that it cannot have there");
}

static void test_an_impossible_name_goes(void **state)
{
	struct scene scene = make_scene(*state);
	put_entry(*state, MOJO_ROOT_BUCKET, cookie_of("a/b"), "a/b", scene.first, S_IFREG | 0644);
	assert_mended(*state, &scene, "an entry of this directory has a name that it cannot have there");
}

static void test_an_entry_that_is_too_short_goes(void **state)
{
	struct bench *bench = *state;
	struct scene scene = make_scene(bench);
	uint8_t key[7] = { MOJO_KEY_ENTRY, 0, 0, 0, MOJO_ROOT_BUCKET };
	put_cell(bench, key, sizeof(key), "x", 1);
	assert_mended(bench, &scene, "an entry of a directory is not of a form that is possible");
}

static void test_an_entry_of_the_wrong_type_is_corrected(void **state)
{
	struct bench *bench = *state;
	struct scene scene = make_scene(bench);
	struct mojo_inode root = get_inode(bench, MOJO_ROOT_BUCKET);
	put_entry(bench, MOJO_ROOT_BUCKET, cookie_of("first"), "first", scene.first, S_IFLNK | 0777);
	put_inode(bench, &root); /* it was there before */
	assert_mended(bench, &scene, "its entry is of another type of file");
	assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, "first"), scene.first);
}

static void test_a_file_that_claims_to_have_no_name_is_adopted(void **state)
{
	struct bench *bench = *state;
	struct scene scene = make_scene(bench);
	struct mojo_inode inode = get_inode(bench, scene.first);
	inode.attr.nlink = 0;
	put_inode(bench, &inode);
	assert_mended(bench, &scene, "the entry \"first\" and its file do not lead to each other");
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, scene.first).nlink, 1);
}

/* ---- files ------------------------------------------------------------------------------------------ */

static void test_a_file_with_many_links_has_one(void **state)
{
	struct bench *bench = *state;
	struct scene scene = make_scene(bench);
	struct mojo_inode inode = get_inode(bench, scene.first);
	inode.attr.nlink = 3;
	put_inode(bench, &inode);
	assert_mended(bench, &scene, "it has one name, and counts 3");
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, scene.first).nlink, 1);
}

static void test_a_nameless_file_is_marked_and_then_removed(void **state)
{
	struct bench *bench = *state;
	struct scene scene = make_scene(bench);
	struct mojo_inode inode = { .attr = { .bucket = ABSENT, .mode = S_IFREG | 0600 } };
	put_inode(bench, &inode);
	bench->store->files++;
	assert_mended(bench, &scene, "this file has no name, and is not marked as one to be removed");
	struct mojo_attr attr;
	assert_errno(mojo_getattr(bench->store, MOJO_ACTIVE, ABSENT, &attr),
		     ENOENT); /* opening removes what is marked */
}

static void test_a_mark_of_nothing_goes(void **state)
{
	struct bench *bench = *state;
	struct scene scene = make_scene(bench);
	uint8_t key[5];
	put_cell(bench, key, bucket_key(key, MOJO_KEY_ORPHAN, ABSENT), "", 0);
	assert_mended(bench, &scene, "a file is marked as one without a name that does not exist");
}

static void test_an_impossible_inode_goes(void **state)
{
	struct bench *bench = *state;
	struct scene scene = make_scene(bench);
	uint8_t key[5];
	put_cell(bench, key, bucket_key(key, MOJO_KEY_INODE, ABSENT), "short", 5);
	assert_mended(bench, &scene, "what is noted of a file is not of a form that is possible");
}

static void test_what_a_lost_name_leaves_goes_into_a_lost_and_found_that_is_there(void **state)
{
	struct bench *bench = *state;
	struct scene scene = make_scene(bench);
	uint32_t lost = bench_make(bench, MOJO_ROOT_BUCKET, "lost+found", S_IFDIR | 0700),
		 stray = bench_file(bench, "stray");
	char name[32], path[64];
	bench_put(bench, stray, 0, 5000, 7);
	snprintf(name, sizeof(name), "#%" PRIu32, stray);
	uint32_t taken = bench_make(bench, lost, name, S_IFREG | 0600);
	bench_sync(bench);
	uint8_t key[13] = { MOJO_KEY_ENTRY };
	mojo_put_be32(key + 1, MOJO_ROOT_BUCKET);
	mojo_put_be64(key + 5, get_inode(bench, stray).cookie);
	assert_ok(mojo_tree_delete(&bench->store->main, key, sizeof(key)));
	struct mojo_inode root = get_inode(bench, MOJO_ROOT_BUCKET);
	root.attr.size--;
	put_inode(bench, &root);
	assert_mended(bench, &scene, "this file has no name");
	snprintf(path, sizeof(path), "lost+found/%s", name);
	assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, path), taken);
	snprintf(path, sizeof(path), "lost+found/%s.1", name);
	assert_int_equal(bench_lookup(bench, MOJO_ACTIVE, path), stray);
	bench_assert(bench, MOJO_ACTIVE, stray, 0, 5000, 7);
}

/* ---- slots and the rest ------------------------------------------------------------------------------ */

static void test_a_slot_with_an_impossible_key_goes(void **state)
{
	struct bench *bench = *state;
	struct scene scene = make_scene(bench);
	uint8_t key[7] = { MOJO_KEY_SLOT, 0, 0, 0, 9, 1, 1 }, value[MOJO_REF_BYTES] = { 0 };
	put_cell(bench, key, sizeof(key), value, sizeof(value));
	assert_mended(bench, &scene, "a slot is not of a form that is possible");
}

static void test_pages_of_a_directory_go(void **state)
{
	struct bench *bench = *state;
	struct scene scene = make_scene(bench);
	/* A file turns into a directory: its entry and inode agree about that, and its pages are still there. */
	uint32_t was = bench_file(bench, "was");
	bench_put(bench, was, 0, 100, 9);
	bench_sync(bench);
	struct mojo_inode inode = get_inode(bench, was), root = get_inode(bench, MOJO_ROOT_BUCKET);
	put_entry(bench, MOJO_ROOT_BUCKET, inode.cookie, "was", was, S_IFDIR | 0755);
	inode.attr.mode = S_IFDIR | 0755;
	inode.attr.nlink = 2;
	inode.attr.size = inode.attr.pages = 0;
	put_inode(bench, &inode);
	root.attr.nlink++;
	put_inode(bench, &root);
	bench->store->files--;
	bench->store->directories++;
	assert_mended(bench, &scene, "a directory has pages");
	assert_true(S_ISDIR(bench_attr(bench, MOJO_ACTIVE, was).mode));
}

static void test_what_is_of_no_known_kind_goes(void **state)
{
	struct bench *bench = *state;
	struct scene scene = make_scene(bench);
	uint8_t above[3] = { MOJO_KEY_ORPHAN + 7, 1, 2 }, below[2] = { 0, 3 };
	put_cell(bench, above, sizeof(above), "x", 1);
	put_cell(bench, below, sizeof(below), "y", 1);
	assert_mended(bench, &scene, "the index holds something of an unknown kind");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_a_second_name_of_a_file_goes),
		BENCH_TEST(test_a_name_of_nothing_goes),
		BENCH_TEST(test_a_name_in_no_directory_goes),
		BENCH_TEST(test_of_two_equal_names_the_second_goes),
		BENCH_TEST(test_a_name_where_it_would_not_be_looked_for_goes),
		BENCH_TEST(test_an_impossible_name_goes),
		BENCH_TEST(test_an_entry_that_is_too_short_goes),
		BENCH_TEST(test_an_entry_of_the_wrong_type_is_corrected),
		BENCH_TEST(test_a_file_that_claims_to_have_no_name_is_adopted),
		BENCH_TEST(test_a_file_with_many_links_has_one),
		BENCH_TEST(test_a_nameless_file_is_marked_and_then_removed),
		BENCH_TEST(test_a_mark_of_nothing_goes),
		BENCH_TEST(test_an_impossible_inode_goes),
		BENCH_TEST(test_what_a_lost_name_leaves_goes_into_a_lost_and_found_that_is_there),
		BENCH_TEST(test_a_slot_with_an_impossible_key_goes),
		BENCH_TEST(test_pages_of_a_directory_go),
		BENCH_TEST(test_what_is_of_no_known_kind_goes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
