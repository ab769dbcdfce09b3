/* SPDX-License-Identifier: MIT */
/*
 * rollback.h: on a full disk what a journal holds can be put back, whatever the sizes of pages, and nothing else; room is
 * kept for just as long as there is a journal; an fsync tells what was not written.
 */
#include "support/support.h"

#include "../fuse/rollback.h"

#define ROOM   (32u << 20) /* the disk's, beside what is there */
#define SECTOR 512u
#define PIECE  (128u << 10) /* the most that is written at a time */

/* A database of @pages, each filled from its number and a generation. */
struct world {
	struct bench *bench;
	struct rollback *rollback;
	uint32_t page_bytes;
	uint32_t pages;
	uint32_t database, journal;
	uint64_t journal_end;
	uint8_t *bytes; /* as large as the database; what a generation is */
};

static const uint8_t magic[8] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };

static void put_number(uint8_t *to, uint32_t number)
{
	for (int i = 0; i < 4; i++)
		to[i] = (uint8_t)(number >> (24 - 8 * i));
}

static uint64_t room_of(const struct world *w)
{
	struct mojo_store *store = w->bench->store;
	return store->reserve(store->reserve_arg);
}

/* As the kernel brings it, with room. */
static void write_through(struct world *w, uint32_t bucket, uint64_t offset, const void *bytes, size_t length)
{
	bool ends = rollback_writing(w->rollback, bucket, offset, bytes, length);
	assert_ok(mojo_write(w->bench->store, bucket, offset, bytes, length));
	rollback_written(w->rollback, bucket, offset, length);
	if (ends)
		rollback_ended(w->rollback, bucket);
}

static void fill_generation(struct world *w, uint64_t generation)
{
	for (uint32_t i = 0; i < w->pages; i++)
		bench_fill(w->bytes + (size_t)i * w->page_bytes, w->page_bytes, generation << 32 | i);
}

static void write_generation(struct world *w, uint64_t generation)
{
	size_t length = (size_t)w->pages * w->page_bytes;
	fill_generation(w, generation);
	for (size_t at = 0; at < length; at += PIECE)
		write_through(w, w->database, at, w->bytes + at, length - at < PIECE ? length - at : PIECE);
	bench_sync(w->bench);
}

static void begin_journal(struct world *w, const char *name)
{
	w->journal = bench_file(w->bench, name);
	w->journal_end = 0;
}

static void write_head(struct world *w, uint64_t at, bool counted, uint32_t records)
{
	uint8_t head[SECTOR] = { 0 };
	if (counted) {
		memcpy(head, magic, sizeof(magic));
		put_number(head + 8, records);
	}
	put_number(head + 12, 77);
	put_number(head + 16, w->pages);
	put_number(head + 20, SECTOR);
	put_number(head + 24, w->page_bytes);
	write_through(w, w->journal, at, head, sizeof(head));
}

/* Pages [first, first + count), as generation 0 has them, in reverse, become a part of the journal. */
static void write_part(struct world *w, uint32_t first, uint32_t count, uint32_t said)
{
	uint8_t *record = malloc(w->page_bytes + 8);
	uint64_t at = (w->journal_end + SECTOR - 1) / SECTOR * SECTOR;
	assert_non_null(record);
	write_head(w, at, false, 0);
	w->journal_end = at + SECTOR;
	for (uint32_t i = first + count; i-- > first; w->journal_end += w->page_bytes + 8) {
		put_number(record, i + 1);
		bench_fill(record + 4, w->page_bytes, i);
		put_number(record + 4 + w->page_bytes, 0);
		write_through(w, w->journal, w->journal_end, record, w->page_bytes + 8);
	}
	write_head(w, at, true, said);
	free(record);
}

/* All that an ordinary write gets. */
static void fill_disk(struct world *w)
{
	uint32_t bucket = bench_lookup(w->bench, MOJO_ACTIVE, "filler");
	uint8_t *piece = malloc(PIECE);
	uint64_t at = bench_attr(w->bench, MOJO_ACTIVE, bucket).size;
	int err;
	assert_non_null(piece);
	memset(piece, 0x5a, PIECE);
	for (; !(err = mojo_write(w->bench->store, bucket, at, piece, PIECE)); at += PIECE)
		if (at % (1 << 20) == 0)
			bench_sync(w->bench);
	assert_int_equal(err, -ENOSPC);
	free(piece);
}

static void limit_disk(struct world *w)
{
	assert_ok(mojo_checkpoint(w->bench->store));
	mojo_io_memory_limit(w->bench->io, bench_info(w->bench).store_bytes + ROOM);
}

static void world_open(struct world *w, struct bench *bench, uint32_t page_bytes, uint32_t database_bytes)
{
	*w = (struct world){ .bench = bench, .page_bytes = page_bytes, .pages = database_bytes / page_bytes };
	w->bytes = malloc(database_bytes);
	assert_non_null(w->bytes);
	assert_ok(rollback_new(bench->store, bench->geometry.page_size, &w->rollback));
	w->database = bench_file(bench, "db");
	bench_file(bench, "filler");
	write_generation(w, 0);
}

static void world_close(struct world *w)
{
	rollback_free(w->rollback);
	free(w->bytes);
}

/* What the kernel would bring of the present w->bytes, an ordinary write of which has failed. */
static int try_write(struct world *w, uint64_t offset, size_t length, bool cached)
{
	rollback_writing(w->rollback, w->database, offset, w->bytes + offset, length);
	return rollback_write(w->rollback, w->database, offset, w->bytes + offset, length, cached);
}

static void assert_generation_0(struct world *w)
{
	for (uint32_t i = 0; i < w->pages; i++)
		bench_assert(w->bench, MOJO_ACTIVE, w->database, (uint64_t)i * w->page_bytes, w->page_bytes, i);
}

static void use_page_size(struct bench *bench, uint32_t page_size)
{
	struct mojo_io *io;
	bench_crash(bench);
	assert_ok(mojo_io_memory(&io));
	bench_replace_io(bench, io);
	bench->geometry.page_size = page_size;
	assert_ok(mojo_create(bench->io, &bench->geometry, &bench->config));
	bench_open(bench);
}

/* ---- taking back -------------------------------------------------------------------------------- */

static void test_what_a_journal_holds_is_put_back_on_a_full_disk(void **state)
{
	static const struct {
		uint32_t store, database;
	} sizes[] = {
		{ 4096, 4096 }, { 4096, 512 }, { 4096, 1024 }, { 4096, 65536 }, { 65536, 4096 }, { 16384, 65536 }
	};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct bench *bench = *state;
		struct world w;
		use_page_size(bench, sizes[i].store);
		world_open(&w, bench, sizes[i].database, 2 << 20);
		begin_journal(&w, "db-journal");
		limit_disk(&w);
		/* Again and again: what is kept is there each time. */
		for (uint64_t round = 1; round <= 6; round++) {
			w.journal_end = 0;
			write_part(&w, 0, w.pages / 2, w.pages / 2);
			write_part(&w, w.pages / 2, w.pages - w.pages / 2, w.pages - w.pages / 2);
			assert_true(room_of(&w) >= 2 << 20);
			write_generation(&w, round);
			fill_disk(&w);

			/* Not what nobody had. */
			fill_generation(&w, 1000);
			assert_errno(try_write(&w, 0, PIECE, false), ENOSPC);
			/* Backwards, in pieces that are no multiples of anything but the kernel's pages. */
			fill_generation(&w, 0);
			for (uint64_t end = 2 << 20, piece = 0; end > 0; end -= piece) {
				piece = end < 28672 ? end : 28672;
				assert_ok(try_write(&w, end - piece, piece, false));
				if (end % 3 == 0)
					bench_sync(bench);
			}
			bench_sync(bench);
			assert_generation_0(&w);
			/* The end, as in PERSIST mode. */
			uint8_t zeros[SECTOR] = { 0 };
			assert_true(rollback_writing(w.rollback, w.journal, 0, zeros, sizeof(zeros)));
			assert_ok(rollback_write(w.rollback, w.journal, 0, zeros, sizeof(zeros), true));
			rollback_ended(w.rollback, w.journal);
			assert_int_equal(room_of(&w), 0);
			bench_sync(bench);
			assert_false(bench_info(bench).failed);
			assert_ok(bench_resize(bench, bench_lookup(bench, MOJO_ACTIVE, "filler"), 0));
		}
		world_close(&w);
	}
}

static void test_what_is_there_already_takes_no_room(void **state)
{
	struct bench *bench = *state;
	struct world w;
	world_open(&w, bench, 4096, 1 << 20);
	limit_disk(&w);
	fill_disk(&w);
	bench_sync(bench);
	uint64_t written = bench_info(bench).pages_written;
	fill_generation(&w, 0);
	for (unsigned i = 0; i < 100; i++)
		assert_ok(try_write(&w, 0, PIECE, true));
	bench_sync(bench);
	assert_int_equal(bench_info(bench).pages_written, written);
	/* One byte is different: there is no journal that says so. */
	w.bytes[5000] ^= 1;
	assert_errno(try_write(&w, 0, PIECE, true), ENOSPC);
	world_close(&w);
}

/* What stands behind the end of a part, where the count ends, is of an older transaction. */
static void test_only_what_is_counted_is_put_back(void **state)
{
	struct bench *bench = *state;
	struct world w;
	world_open(&w, bench, 4096, 1 << 20);
	begin_journal(&w, "db-journal");
	write_part(&w, 0, 100, 60); /* in reverse: 40 to 99 */
	write_generation(&w, 1);
	limit_disk(&w);
	fill_disk(&w);
	fill_generation(&w, 0);
	assert_ok(try_write(&w, 40 * 4096, 32 * 4096, false));
	assert_errno(try_write(&w, 39 * 4096, 4096, false), ENOSPC);
	/* What can be put back is, beside what cannot. */
	assert_errno(try_write(&w, 72 * 4096, 31 * 4096, false), ENOSPC);
	bench_assert(bench, MOJO_ACTIVE, w.database, 99 * 4096, 4096, 99);
	bench_assert(bench, MOJO_ACTIVE, w.database, 100 * 4096, 4096, 1ull << 32 | 100);
	world_close(&w);
}

static void test_a_journal_without_a_count_goes_to_its_end(void **state)
{
	struct bench *bench = *state;
	struct world w;
	world_open(&w, bench, 4096, 1 << 20);
	begin_journal(&w, "db-journal");
	write_part(&w, 0, 256, UINT32_MAX);
	write_generation(&w, 1);
	limit_disk(&w);
	fill_disk(&w);
	fill_generation(&w, 0);
	for (uint64_t at = 0; at < 1 << 20; at += PIECE)
		assert_ok(try_write(&w, at, PIECE, false));
	assert_generation_0(&w);
	/* Its writer never syncs: an error must not wait for that. */
	fill_generation(&w, 2);
	assert_errno(try_write(&w, 0, PIECE, true), ENOSPC);
	world_close(&w);
}

/* ---- fsync -------------------------------------------------------------------------------------- */

static void test_what_was_not_written_is_told_by_fsync_until_it_is_taken_back(void **state)
{
	struct bench *bench = *state;
	struct world w;
	world_open(&w, bench, 4096, 1 << 20);
	begin_journal(&w, "db-journal");
	write_part(&w, 0, 256, 256);
	write_generation(&w, 1);
	limit_disk(&w);
	fill_disk(&w);
	assert_ok(rollback_sync(w.rollback, w.database));
	fill_generation(&w, 2);
	assert_errno(try_write(&w, PIECE, PIECE, false), ENOSPC); /* who waits for it is told at once */
	assert_ok(rollback_sync(w.rollback, w.database));
	assert_ok(try_write(&w, PIECE, PIECE, true));
	for (unsigned i = 0; i < 3; i++)
		assert_errno(rollback_sync(w.rollback, w.database), ENOSPC);
	assert_ok(rollback_sync(w.rollback, w.journal));
	fill_generation(&w, 0);
	for (uint64_t at = 0; at < 1 << 20; at += PIECE) {
		assert_int_equal(rollback_sync(w.rollback, w.database), at <= PIECE ? -ENOSPC : 0);
		assert_ok(try_write(&w, at, PIECE, true));
	}
	assert_ok(rollback_sync(w.rollback, w.database));
	assert_generation_0(&w);

	/* What is lost behind the end has to be cut off. */
	fill_generation(&w, 3);
	assert_ok(bench_resize(bench, w.database, 2 << 20));
	assert_ok(rollback_write(w.rollback, w.database, 1 << 20, w.bytes, PIECE, true));
	assert_errno(rollback_sync(w.rollback, w.database), ENOSPC);
	assert_ok(bench_resize(bench, w.database, 1 << 20));
	assert_ok(rollback_sync(w.rollback, w.database));

	/* Nothing of a transaction was written: what is there is what its journal holds, and yet it may not be committed. */
	fill_generation(&w, 3);
	for (uint64_t at = 0; at < 1 << 20; at += PIECE) {
		assert_ok(try_write(&w, at, PIECE, true));
		assert_errno(rollback_sync(w.rollback, w.database), ENOSPC);
	}
	assert_generation_0(&w);
	/* Its writer tries again, and there is room; what was written behind the end, too, cannot be known then. */
	mojo_io_memory_limit(bench->io, 1ull << 40);
	write_generation(&w, 3);
	assert_ok(rollback_sync(w.rollback, w.database));
	fill_generation(&w, 4);
	assert_ok(rollback_write(w.rollback, w.database, 1 << 20, w.bytes, PIECE, true));
	write_generation(&w, 4);
	assert_errno(rollback_sync(w.rollback, w.database), ENOSPC);
	write_generation(&w, 0);
	assert_ok(rollback_sync(w.rollback, w.database));

	/* A page that was free is in no journal. What is lost of it is no harm once the transaction is rolled back. */
	assert_ok(bench_resize(bench, w.journal, 0));
	rollback_ended(w.rollback, w.journal);
	w.journal_end = 0;
	write_part(&w, 0, 100, 100);
	fill_generation(&w, 5);
	assert_ok(try_write(&w, 0, 200 * 4096, true));
	fill_generation(&w, 0);
	assert_ok(try_write(&w, 0, 99 * 4096, true));
	assert_errno(rollback_sync(w.rollback, w.database), ENOSPC);
	assert_ok(try_write(&w, 99 * 4096, 4096, true));
	assert_ok(rollback_sync(w.rollback, w.database));

	/* Or the journal goes, and nobody can say any more. */
	fill_generation(&w, 4);
	assert_ok(try_write(&w, 0, PIECE, true));
	assert_errno(rollback_sync(w.rollback, w.database), ENOSPC);
	assert_ok(mojo_unlink(bench->store, MOJO_ROOT_BUCKET, "db-journal"));
	rollback_ended(w.rollback, w.journal);
	assert_ok(rollback_sync(w.rollback, w.database));
	assert_errno(try_write(&w, 0, PIECE, true), ENOSPC);
	world_close(&w);
}

/* ---- room --------------------------------------------------------------------------------------- */

static void test_room_is_kept_while_there_is_a_journal(void **state)
{
	struct bench *bench = *state;
	struct mojo_store *store = bench->store;
	struct world w;
	uint8_t zeros[SECTOR] = { 0 };
	world_open(&w, bench, 4096, 1 << 20);
	assert_int_equal(room_of(&w), 0);

	/* As it grows, never more than the database has. */
	begin_journal(&w, "db-journal");
	write_head(&w, 0, false, 0);
	uint64_t before = room_of(&w);
	assert_true(before <= 4096);
	for (uint32_t i = 1; i <= 300; i++) {
		write_through(&w, w.journal, SECTOR + (uint64_t)(i - 1) * 4104, w.bytes, 4104);
		uint64_t room = room_of(&w);
		assert_in_range(room, (i < 256 ? i : 256) * 4096ull, (i < 255 ? i + 1 : 256) * 4096ull);
	}
	/* Zeros, and begun anew: what is left of the old one does not count. */
	write_through(&w, w.journal, 0, zeros, sizeof(zeros));
	assert_int_equal(room_of(&w), 0);
	write_head(&w, 0, false, 0);
	assert_true(room_of(&w) <= 4096);
	/* Cut to nothing. */
	write_through(&w, w.journal, SECTOR, w.bytes, 41040);
	assert_true(room_of(&w) >= 10 * 4096);
	rollback_ended(w.rollback, w.journal);
	assert_int_equal(room_of(&w), 0);

	/* Another file is none, whatever it holds: without the name, or without the database. */
	uint32_t journal = w.journal;
	begin_journal(&w, "other");
	write_part(&w, 0, 10, 10);
	begin_journal(&w, "lonely-journal");
	write_part(&w, 0, 10, 10);
	assert_int_equal(room_of(&w), 0);
	assert_int_equal(rollback_journal(w.rollback, MOJO_ROOT_BUCKET, "lonely-journal"), 0);

	/* Names change. */
	w.journal = journal;
	w.journal_end = 0;
	write_part(&w, 0, 10, 10);
	assert_true(room_of(&w) >= 10 * 4096);
	assert_int_equal(rollback_journal(w.rollback, MOJO_ROOT_BUCKET, "db-journal"), journal);
	assert_int_equal(rollback_journal(w.rollback, MOJO_ROOT_BUCKET, "db"), 0);
	assert_ok(mojo_rename(store, MOJO_ROOT_BUCKET, "db-journal", MOJO_ROOT_BUCKET, "aside", 0));
	rollback_renamed(w.rollback, MOJO_ROOT_BUCKET, "aside");
	assert_int_equal(room_of(&w), 0);
	assert_ok(mojo_rename(store, MOJO_ROOT_BUCKET, "aside", MOJO_ROOT_BUCKET, "db-journal", 0));
	rollback_renamed(w.rollback, MOJO_ROOT_BUCKET, "db-journal");
	assert_true(room_of(&w) >= 10 * 4096);
	assert_ok(mojo_rename(store, MOJO_ROOT_BUCKET, "db", MOJO_ROOT_BUCKET, "db2", 0));
	rollback_renamed(w.rollback, MOJO_ROOT_BUCKET, "db2");
	assert_int_equal(room_of(&w), 0);
	world_close(&w);
}

/* The process ends; the next one finds the journal, by looking for it or when it is asked. */
static void test_a_journal_from_before_is_found(void **state)
{
	struct bench *bench = *state;
	struct world w;
	world_open(&w, bench, 4096, 1 << 20);
	begin_journal(&w, "db-journal");
	write_part(&w, 0, 256, 256);
	write_generation(&w, 1);
	limit_disk(&w);
	fill_disk(&w);
	bench_sync(bench);
	rollback_free(w.rollback);
	bench_crash(bench);
	bench_open(bench);
	assert_ok(rollback_new(bench->store, 4096, &w.rollback));
	assert_int_equal(room_of(&w), 0);
	rollback_learn(w.rollback, w.journal);
	assert_int_equal(room_of(&w), 1 << 20);
	fill_disk(&w); /* gets nothing of it */
	fill_generation(&w, 0);
	for (uint64_t at = 0; at < 1 << 20; at += PIECE)
		assert_ok(try_write(&w, at, PIECE, true));
	assert_generation_0(&w);

	rollback_free(w.rollback);
	assert_ok(rollback_new(bench->store, 4096, &w.rollback));
	fill_generation(&w, 5);
	assert_ok(try_write(&w, 0, PIECE, true));
	assert_errno(rollback_sync(w.rollback, w.database), ENOSPC);
	assert_int_equal(room_of(&w), 1 << 20);
	rollback_learn(w.rollback, bench_lookup(bench, MOJO_ACTIVE, "filler")); /* is none */
	assert_int_equal(room_of(&w), 1 << 20);
	world_close(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BENCH_TEST(test_what_a_journal_holds_is_put_back_on_a_full_disk),
		BENCH_TEST(test_what_is_there_already_takes_no_room),
		BENCH_TEST(test_only_what_is_counted_is_put_back),
		BENCH_TEST(test_a_journal_without_a_count_goes_to_its_end),
		BENCH_TEST(test_what_was_not_written_is_told_by_fsync_until_it_is_taken_back),
		BENCH_TEST(test_room_is_kept_while_there_is_a_journal),
		BENCH_TEST(test_a_journal_from_before_is_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
