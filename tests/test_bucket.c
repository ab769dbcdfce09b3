/* SPDX-License-Identifier: MIT */
/*
 * bucket.h: a file is a plain array of bytes, at every edge: of pages, of pieces, of slots, of the largest file;
 * while its pages are in memory, on their way to the disk, or there; in the active version and in frozen ones.
 */
#include "support/support.h"

#include "bucket.h"

#define FILE_MAX (64u * BENCH_PAGE)

/* ---- an array beside the file --------------------------------------------------------------- */

struct array {
	struct bench *bench;
	uint32_t bucket;
	uint64_t size;
	uint8_t bytes[FILE_MAX];          /* zeros behind the size */
	bool page[FILE_MAX / BENCH_PAGE]; /* has content, as far as is known from outside */
};

static struct array *array_new(struct bench *bench, const char *name)
{
	struct array *array = calloc(1, sizeof(*array));
	assert_non_null(array);
	array->bench = bench;
	array->bucket = bench_file(bench, name);
	return array;
}

static void array_write(struct array *array, uint64_t offset, size_t length, uint64_t tag)
{
	assert_true(offset + length <= FILE_MAX);
	bench_fill(array->bytes + offset, length, tag);
	assert_ok(mojo_write(array->bench->store, array->bucket, offset, array->bytes + offset, length));
	for (uint64_t p = offset / BENCH_PAGE; length && p <= (offset + length - 1) / BENCH_PAGE; p++)
		array->page[p] = true;
	if (length && offset + length > array->size)
		array->size = offset + length;
}

static void array_resize(struct array *array, uint64_t size)
{
	assert_ok(bench_resize(array->bench, array->bucket, size));
	if (size < array->size) {
		memset(array->bytes + size, 0, FILE_MAX - size);
		for (uint64_t p = (size + BENCH_PAGE - 1) / BENCH_PAGE; p < FILE_MAX / BENCH_PAGE; p++)
			array->page[p] = false;
	}
	array->size = size;
}

static void array_fallocate(struct array *array, int mode, uint64_t offset, uint64_t length)
{
	assert_ok(mojo_fallocate(array->bench->store, array->bucket, mode, offset, length));
	uint64_t end = offset + length;
	if (mode & (MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_ZERO_RANGE)) {
		for (uint64_t i = offset; i < end && i < FILE_MAX; i++)
			array->bytes[i] = 0;
		/* Pages that are covered whole, as far as the file goes, take no space any more. */
		for (uint64_t p = 0; p < FILE_MAX / BENCH_PAGE; p++)
			if (p * BENCH_PAGE >= offset && ((p + 1) * BENCH_PAGE <= end || end >= array->size))
				array->page[p] = array->page[p] && p * BENCH_PAGE >= end;
	}
	if (!(mode & MOJO_FALLOC_KEEP_SIZE) && end > array->size)
		array->size = end;
}

/* Everything that can be asked about the file, in the version @version. */
static void array_assert(const struct array *array, uint32_t version)
{
	struct mojo_store *store = array->bench->store;
	struct mojo_attr attr = bench_attr(array->bench, version, array->bucket);
	uint8_t *buf = malloc(FILE_MAX + 100);
	uint64_t pages = 0, at;
	size_t got;
	assert_non_null(buf);
	assert_int_equal(attr.size, array->size);
	assert_ok(mojo_read(store, version, array->bucket, 0, buf, FILE_MAX + 100, &got));
	assert_int_equal(got, array->size);
	assert_memory_equal(buf, array->bytes, got);
	free(buf);
	for (uint64_t p = 0; p < FILE_MAX / BENCH_PAGE; p++)
		pages += array->page[p];
	assert_int_equal(attr.pages, pages);

	struct mojo_map_entry entries[FILE_MAX / BENCH_PAGE + 1];
	size_t count, next = 0;
	assert_ok(mojo_map(store, version, array->bucket, 0, entries, FILE_MAX / BENCH_PAGE + 1, &count));
	assert_int_equal(count, pages);
	for (uint64_t p = 0; p < FILE_MAX / BENCH_PAGE; p++)
		if (array->page[p])
			assert_int_equal(entries[next++].page, p);

	/* Data and holes, from every page on. */
	for (uint64_t p = 0; p * BENCH_PAGE < array->size; p++) {
		uint64_t from = p * BENCH_PAGE + p * 61 % BENCH_PAGE, data = p, hole = p;
		if (from >= array->size)
			from = p * BENCH_PAGE;
		while (data * BENCH_PAGE < array->size && !array->page[data])
			data++;
		while (hole * BENCH_PAGE < array->size && array->page[hole])
			hole++;
		int err = mojo_seek(store, version, array->bucket, from, true, &at);
		assert_int_equal(err, data * BENCH_PAGE < array->size ? 0 : -ENXIO);
		if (!err)
			assert_int_equal(at, data == p ? from : data * BENCH_PAGE);
		assert_ok(mojo_seek(store, version, array->bucket, from, false, &at));
		uint64_t wanted = hole == p ? from : hole * BENCH_PAGE;
		assert_int_equal(at, wanted < array->size ? wanted : array->size);
	}
	assert_errno(mojo_seek(store, version, array->bucket, array->size, true, &at), ENXIO);
	assert_errno(mojo_seek(store, version, array->bucket, array->size, false, &at), ENXIO);
	assert_errno(mojo_seek(store, version, array->bucket, UINT64_MAX, true, &at), ENXIO);
}

/* ---- against the array ---------------------------------------------------------------------- */

static void test_a_file_is_an_array_of_bytes(void **state)
{
	enum { FROZEN = 6 };
	struct bench *bench = *state;
	struct dice dice = dice_new("bytes");
	struct array *array = array_new(bench, "f"), *frozen[FROZEN] = { NULL };
	uint32_t versions[FROZEN];
	for (int round = 0; round < 6000; round++) {
		uint64_t offset = dice_below(&dice, FILE_MAX), length = dice_below(&dice, 1u << dice_below(&dice, 17));
		switch (dice_below(&dice, 4)) { /* edges are more likely than their share */
		case 0:
			offset -= offset % BENCH_PAGE;
			break;
		case 1:
			length -= length % BENCH_PAGE;
			break;
		case 2:
			length = length + BENCH_PAGE - (offset + length) % BENCH_PAGE;
			break;
		}
		if (length > FILE_MAX - offset)
			length = FILE_MAX - offset;
		switch (dice_below(&dice, 12)) {
		case 0:
			array_resize(array, offset);
			break;
		case 1:
			array_resize(array, array->size + dice_below(&dice, (uint32_t)(FILE_MAX - array->size + 1)));
			break;
		case 2:
			if (length)
				array_fallocate(array, MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_KEEP_SIZE, offset, length);
			break;
		case 3:
			if (length)
				array_fallocate(array,
						MOJO_FALLOC_ZERO_RANGE |
							(dice_below(&dice, 2) ? MOJO_FALLOC_KEEP_SIZE : 0),
						offset, length);
			break;
		case 4:
			if (length)
				array_fallocate(array, dice_below(&dice, 2) ? MOJO_FALLOC_KEEP_SIZE : 0, offset,
						length);
			break;
		case 5:
			if (dice_below(&dice, 3) == 0)
				bench_sync(bench);
			break;
		default:
			array_write(array, offset, length, dice_next(&dice));
		}
		if (round % 20 == 0)
			array_assert(array, MOJO_ACTIVE);
		if (dice_below(&dice, 60) == 0) {
			unsigned i = dice_below(&dice, FROZEN);
			if (!frozen[i])
				frozen[i] = malloc(sizeof(*array));
			assert_non_null(frozen[i]);
			memcpy(frozen[i], array, sizeof(*array));
			versions[i] = bench_commit(bench, "");
		}
		if (dice_below(&dice, 100) == 0) {
			if (dice_below(&dice, 2))
				bench_checkpoint(bench);
			bench_sync(bench);
			bench_crash(bench);
			bench_open(bench);
		}
		if (dice_below(&dice, 100) == 0)
			for (unsigned i = 0; i < FROZEN; i++)
				if (frozen[i])
					array_assert(frozen[i], versions[i]);
	}
	array_assert(array, MOJO_ACTIVE);
	bench_checkpoint(bench);
	bench_assert_accounts(bench, false);
	for (unsigned i = 0; i < FROZEN; i++)
		free(frozen[i]);
	free(array);
}

/* ---- ranges --------------------------------------------------------------------------------- */

static void test_reads_at_every_edge(void **state)
{
	struct bench *bench = *state;
	static const uint64_t edges[] = { 0,         1,    511,  4095,  4096,  4097,  8191,
					  8192,      8193, 9999, 10000, 10001, 12288, UINT64_MAX - 4096,
					  UINT64_MAX };
	struct array *array = array_new(bench, "f");
	array_write(array, 0, 10000, 1);
	for (int where = 0; where < 3; where++) { /* in the batch, in a chunk, in a frozen version */
		uint32_t version = where == 2 ? bench_commit(bench, "") : MOJO_ACTIVE;
		if (where == 1)
			bench_sync(bench);
		for (size_t i = 0; i < sizeof(edges) / sizeof(edges[0]); i++) {
			for (size_t k = 0; k < 13; k++) {
				uint8_t buf[20000];
				uint64_t offset = edges[i], length = edges[k],
					 left = offset < 10000 ? 10000 - offset : 0;
				size_t got = 99;
				memset(buf, 0xee, sizeof(buf));
				assert_ok(mojo_read(bench->store, version, array->bucket, offset, buf, length, &got));
				assert_int_equal(got, length < left ? length : left);
				assert_memory_equal(buf, array->bytes + (got ? offset : 0), got);
				assert_int_equal(buf[got], 0xee); /* and not a byte more */
			}
		}
	}
	free(array);
}

static void test_a_long_transfer_in_one_call(void **state)
{
	enum { LENGTH = (5 << 20) + 12345 };
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	bench_put(bench, file, 777, LENGTH, 1);
	bench_assert(bench, MOJO_ACTIVE, file, 777, LENGTH, 1);
	bench_sync(bench);
	bench_assert(bench, MOJO_ACTIVE, file, 777, LENGTH, 1);
	bench_assert_zeros(bench, MOJO_ACTIVE, file, 0, 777);
	bench_reopen(bench);
	bench_assert(bench, MOJO_ACTIVE, file, 777, LENGTH, 1);
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).pages, (777 + LENGTH + BENCH_PAGE - 1) / BENCH_PAGE);
}

static void test_writes_that_cannot_be(void **state)
{
	struct bench *bench = *state;
	struct mojo_store *store = bench->store;
	struct mojo_attr attr;
	uint8_t buf[BENCH_PAGE] = { 1 };
	size_t got;
	uint64_t max = BENCH_PAGE * (1ull << 32);
	uint32_t file = bench_file(bench, "f"), fifo = bench_make(bench, MOJO_ROOT_BUCKET, "p", S_IFIFO | 0600);
	assert_errno(mojo_write(store, file, max, buf, 1), EFBIG);
	assert_errno(mojo_write(store, file, max - 1, buf, 2), EFBIG);
	assert_errno(mojo_write(store, file, UINT64_MAX, buf, 1), EFBIG);
	assert_errno(bench_resize(bench, file, max + 1), EFBIG);
	assert_errno(mojo_fallocate(store, file, 0, max, 1), EFBIG);
	assert_errno(mojo_fallocate(store, file, 0, 1, UINT64_MAX), EFBIG);
	assert_errno(mojo_fallocate(store, file, 0, 0, 0), EINVAL);
	assert_errno(mojo_fallocate(store, file, MOJO_FALLOC_PUNCH_HOLE, 0, 1), EOPNOTSUPP);
	assert_errno(mojo_fallocate(store, file, MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_ZERO_RANGE | 1, 0, 1),
		     EOPNOTSUPP);
	assert_errno(mojo_fallocate(store, file, 8, 0, 1), EOPNOTSUPP);
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).size, 0);
	assert_errno(mojo_write(store, 999, 0, buf, 1), ENOENT);
	assert_errno(mojo_read(store, MOJO_ACTIVE, 999, 0, buf, 1, &got), ENOENT);
	assert_errno(mojo_write(store, MOJO_ROOT_BUCKET, 0, buf, 1), EISDIR);
	assert_errno(mojo_read(store, MOJO_ACTIVE, MOJO_ROOT_BUCKET, 0, buf, 1, &got), EISDIR);
	assert_errno(mojo_write(store, fifo, 0, buf, 1), EINVAL);
	assert_errno(bench_resize(bench, fifo, 5), EINVAL);
	assert_errno(bench_resize(bench, MOJO_ROOT_BUCKET, 5), EISDIR);
	assert_errno(mojo_fallocate(store, fifo, 0, 0, 1), ENODEV);
	assert_errno(mojo_fallocate(store, MOJO_ROOT_BUCKET, 0, 0, 1), EISDIR);
	/* A refused size changes nothing else either. */
	attr = (struct mojo_attr){ .size = max + 1, .mode = 0111 };
	assert_errno(mojo_setattr(store, file, MOJO_SET_SIZE | MOJO_SET_MODE, &attr, &attr), EFBIG);
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).mode & 07777, 0644);
	assert_false(bench_info(bench).failed);
}

static void test_the_last_byte_there_can_be(void **state)
{
	struct bench *bench = *state;
	uint64_t max = BENCH_PAGE * (1ull << 32), at;
	uint32_t file = bench_file(bench, "f");
	uint8_t buf[10];
	size_t got;
	bench_put(bench, file, max - 5, 5, 1);
	bench_put(bench, file, 3, 5, 2);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).size, max);
		assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).pages, 2);
		bench_assert(bench, MOJO_ACTIVE, file, max - 5, 5, 1);
		assert_ok(mojo_read(bench->store, MOJO_ACTIVE, file, max - 5, buf, 10, &got));
		assert_int_equal(got, 5);
		assert_ok(mojo_seek(bench->store, MOJO_ACTIVE, file, 5000, true, &at));
		assert_int_equal(at, max - BENCH_PAGE);
		assert_ok(mojo_seek(bench->store, MOJO_ACTIVE, file, max - 1, false, &at));
		assert_int_equal(at, max);
		bench_reopen(bench);
	}
	assert_ok(bench_resize(bench, file, 4));
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).pages, 1);
	assert_ok(bench_resize(bench, file, max));
	bench_assert_zeros(bench, MOJO_ACTIVE, file, 4, 10000);
	bench_assert_zeros(bench, MOJO_ACTIVE, file, max - 10000, 10000);
}

/* ---- holes and ends ------------------------------------------------------------------------- */

static void test_the_tail_of_a_shrunken_file_is_zeros_when_it_grows(void **state)
{
	struct bench *bench = *state;
	static const uint64_t cuts[] = { 0, 1, 100, 4095, 4096, 4097, 8000, 8192 };
	for (int where = 0; where < 3; where++) {
		for (size_t i = 0; i < sizeof(cuts) / sizeof(cuts[0]); i++) {
			char name[32];
			snprintf(name, sizeof(name), "f %d %zu", where, i);
			uint32_t file = bench_file(bench, name);
			bench_put(bench, file, 0, 10000, 1);
			if (where > 0)
				bench_sync(bench);
			assert_ok(bench_resize(bench, file, cuts[i]));
			if (where > 1)
				bench_sync(bench);
			assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).pages, (cuts[i] + 4095) / 4096);
			assert_ok(bench_resize(bench, file, 10000));
			bench_assert(bench, MOJO_ACTIVE, file, 0, cuts[i], 1);
			bench_assert_zeros(bench, MOJO_ACTIVE, file, cuts[i], 10000 - cuts[i]);
			/* Also where a write behind the end makes it grow. */
			assert_ok(bench_resize(bench, file, cuts[i]));
			bench_put(bench, file, 9990, 10, 2);
			bench_assert_zeros(bench, MOJO_ACTIVE, file, cuts[i], 9990 - cuts[i]);
		}
	}
	uint64_t sum = bench_fingerprint(bench, MOJO_ACTIVE);
	bench_sync(bench);
	bench_crash(bench);
	bench_open(bench);
	assert_true(bench_fingerprint(bench, MOJO_ACTIVE) == sum);
}

static void test_fallocate_takes_no_space_and_punching_gives_it_back(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	assert_ok(mojo_fallocate(bench->store, file, 0, 0, 1ull << 40));
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).size, 1ull << 40);
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).pages, 0);
	assert_ok(mojo_fallocate(bench->store, file, MOJO_FALLOC_KEEP_SIZE, 1ull << 41, 4096));
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).size, 1ull << 40);
	bench_put(bench, file, 0, 1000 * BENCH_PAGE, 1);
	bench_sync(bench);
	uint64_t before = bench_info(bench).store_bytes;
	assert_ok(mojo_fallocate(bench->store, file, MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_KEEP_SIZE, 100,
				 900 * BENCH_PAGE));
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).pages, 101);
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).size, 1ull << 40);
	for (int i = 0; i < 3; i++)
		bench_checkpoint(bench);
	assert_true(bench_info(bench).store_bytes + 800 * BENCH_PAGE <= before + BENCH_CHUNK / 4);
	bench_assert_zeros(bench, MOJO_ACTIVE, file, 100, 900 * BENCH_PAGE);
	bench_assert_accounts(bench, false);
}

static void test_a_hole_up_to_the_end_takes_the_last_page_along(void **state)
{
	struct bench *bench = *state;
	struct array *array = array_new(bench, "f");
	array_write(array, 0, 3 * BENCH_PAGE + 100, 1);
	array_fallocate(array, MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_KEEP_SIZE, 2 * BENCH_PAGE, BENCH_PAGE + 100);
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, array->bucket).pages, 2);
	array_assert(array, MOJO_ACTIVE);
	free(array);
}

/* ---- where pages are ------------------------------------------------------------------------ */

static void test_a_wrong_page_is_an_error_for_it_alone(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	uint8_t buf[3 * BENCH_PAGE];
	size_t got;
	bench_put(bench, file, 0, 10 * BENCH_PAGE, 1);
	uint32_t version = bench_commit(bench, "");
	uint64_t address = bench_address(bench, file, 5);
	bench_flip_block(bench, address, 4000);
	assert_errno(mojo_read(bench->store, MOJO_ACTIVE, file, 5 * BENCH_PAGE, buf, 1, &got), EIO);
	assert_errno(mojo_read(bench->store, version, file, 4 * BENCH_PAGE, buf, sizeof(buf), &got), EIO);
	assert_true(bench_was_told(bench, "bucket 2, page 5"));
	assert_ok(mojo_read(bench->store, MOJO_ACTIVE, file, 6 * BENCH_PAGE, buf, sizeof(buf), &got));
	/* What would have to keep a part of it is refused; what replaces it is not. */
	assert_errno(mojo_write(bench->store, file, 5 * BENCH_PAGE + 1, buf, 10), EIO);
	assert_errno(bench_resize(bench, file, 5 * BENCH_PAGE + 1), EIO);
	assert_errno(mojo_fallocate(bench->store, file, MOJO_FALLOC_ZERO_RANGE, 5 * BENCH_PAGE + 1, 100), EIO);
	assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).size, 10 * BENCH_PAGE);
	assert_false(bench_info(bench).failed);
	bench_put(bench, file, 5 * BENCH_PAGE, BENCH_PAGE, 2);
	bench_assert(bench, MOJO_ACTIVE, file, 5 * BENCH_PAGE, BENCH_PAGE, 2);
	bench_flip_block(bench, address, 4000);
	bench_assert(bench, version, file, 0, 10 * BENCH_PAGE, 1);
}

static void test_pages_in_memory_are_mapped_as_such(void **state)
{
	struct bench *bench = *state;
	uint32_t file = bench_file(bench, "f");
	struct mojo_map_entry entries[10];
	size_t count;
	bench_put(bench, file, 3 * BENCH_PAGE, 2 * BENCH_PAGE, 1);
	bench_sync(bench);
	uint32_t version = bench_commit(bench, "");
	bench_put(bench, file, 4 * BENCH_PAGE, 2 * BENCH_PAGE, 2);
	assert_ok(mojo_map(bench->store, MOJO_ACTIVE, file, 0, entries, 10, &count));
	assert_int_equal(count, 3);
	assert_int_equal(entries[0].page, 3);
	assert_int_equal(entries[0].version, 1);
	assert_int_not_equal(entries[0].address, 0);
	assert_int_equal(entries[1].page, 4);
	assert_int_equal(entries[1].version | entries[1].address | entries[1].checksum, 0);
	assert_int_equal(entries[2].page, 5);
	assert_ok(mojo_map(bench->store, version, file, 4, entries, 10, &count));
	assert_int_equal(count, 1);
	assert_int_equal(entries[0].page, 4);
	assert_int_equal(entries[0].version, 1);
	assert_ok(mojo_map(bench->store, MOJO_ACTIVE, file, 0, entries, 2, &count));
	assert_int_equal(count, 2);
	assert_ok(mojo_map(bench->store, MOJO_ACTIVE, file, 6, entries, 2, &count));
	assert_int_equal(count, 0);
}

static void test_every_page_size(void **state)
{
	struct bench *bench = *state;
	bench_crash(bench);
	for (uint32_t page = MOJO_PAGE_SIZE_MIN; page <= MOJO_PAGE_SIZE_MAX; page *= 2) {
		struct mojo_io *io;
		assert_ok(mojo_io_memory(&io));
		bench_replace_io(bench, io);
		bench->geometry.page_size = page;
		assert_ok(mojo_create(bench->io, &bench->geometry, &bench->config));
		bench_open(bench);
		uint32_t file = bench_file(bench, "f");
		for (uint64_t i = 0; i < 100; i++) /* over pages and slots */
			bench_put(bench, file, i * page * 7 / 3, page / 2 + i, i);
		bench_sync(bench);
		uint32_t version = bench_commit(bench, "");
		assert_ok(bench_resize(bench, file, 10));
		bench_sync(bench);
		bench_crash(bench);
		bench_open(bench);
		for (uint64_t i = 0; i < 100; i++)
			bench_assert(bench, version, file, i * page * 7 / 3, page / 2 + i, i);
		assert_int_equal(bench_attr(bench, MOJO_ACTIVE, file).size, 10);
		bench_checkpoint(bench);
		bench_assert_accounts(bench, false);
		bench_crash(bench);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_a_file_is_an_array_of_bytes),
		BENCH_TEST(test_reads_at_every_edge),
		BENCH_TEST(test_a_long_transfer_in_one_call),
		BENCH_TEST(test_writes_that_cannot_be),
		BENCH_TEST(test_the_last_byte_there_can_be),
		BENCH_TEST(test_the_tail_of_a_shrunken_file_is_zeros_when_it_grows),
		BENCH_TEST(test_fallocate_takes_no_space_and_punching_gives_it_back),
		BENCH_TEST(test_a_hole_up_to_the_end_takes_the_last_page_along),
		BENCH_TEST(test_a_wrong_page_is_an_error_for_it_alone),
		BENCH_TEST(test_pages_in_memory_are_mapped_as_such),
		BENCH_TEST(test_every_page_size),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
