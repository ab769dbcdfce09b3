/* SPDX-License-Identifier: MIT */
/* Which databases can be told to be whole by the requests alone: as SQLite makes them, in each journal mode. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

#include "../fuse/evidence.h"

enum { DIR = 7, DATABASE = 10, JOURNAL = 11, WAL = 12, OTHER = 13 };

struct table {
	struct evidence *evidence;
	struct evidence_file *database, *journal, *wal;
};

static void answer_all(struct table *table, unsigned char journal_mode)
{
	struct evidence_question *questions = NULL;
	size_t count = 0;

	assert_int_equal(evidence_questions(table->evidence, &questions, &count), 0);
	for (size_t i = 0; i < count; i++) {
		unsigned char head[EVIDENCE_HEAD_BYTES] = "SQLite format 3";
		const char *name = questions[i].bucket == DATABASE  ? "a.db"
				   : questions[i].bucket == JOURNAL ? "a.db-journal"
				   : questions[i].bucket == WAL     ? "a.db-wal"
								    : "other";

		head[18] = head[19] = journal_mode;
		if (questions[i].bucket != DATABASE)
			memset(head, 'x', sizeof(head));
		evidence_learn(table->evidence, &questions[i], DIR, name, head, sizeof(head));
	}
	free(questions);
}

static int setup_mode(void **state, unsigned char journal_mode)
{
	struct table *table = calloc(1, sizeof(*table));

	assert_non_null(table);
	assert_int_equal(evidence_new(&table->evidence), 0);
	assert_int_equal(evidence_open(table->evidence, DATABASE, true, &table->database), 0);
	answer_all(table, journal_mode);
	*state = table;
	return 0;
}

static int setup_delete(void **state)
{
	return setup_mode(state, 1);
}

static int setup_wal(void **state)
{
	struct table *table;

	setup_mode(state, 2);
	table = *state;
	evidence_naming(table->evidence, DIR, "a.db-wal");
	evidence_named(table->evidence, DIR, "a.db-wal", WAL);
	assert_int_equal(evidence_open(table->evidence, WAL, true, &table->wal), 0);
	return 0;
}

static int teardown(void **state)
{
	struct table *table = *state;

	evidence_free(table->evidence);
	free(table);
	return 0;
}

/* Is the database a suspect? If so, what is told of it. */
static bool is_suspect(struct table *table, struct evidence_suspect *ret_suspect)
{
	struct evidence_suspect *list = NULL;
	size_t count = 0;

	assert_int_equal(evidence_suspects(table->evidence, NULL, 0, &list, &count), 0);
	assert_true(count <= 1);
	if (count && ret_suspect)
		*ret_suspect = list[0];
	if (count)
		assert_int_equal(list[0].bucket, DATABASE);
	free(list);
	return count > 0;
}

static void write_page(struct table *table, struct evidence_file *file)
{
	static const unsigned char page[4096];

	evidence_writing(table->evidence, file, 4096, page, sizeof(page));
}

static void begin_journal(struct table *table)
{
	evidence_naming(table->evidence, DIR, "a.db-journal");
	evidence_named(table->evidence, DIR, "a.db-journal", JOURNAL);
	assert_int_equal(evidence_open(table->evidence, JOURNAL, true, &table->journal), 0);
}

/* @records: as in the header, @pages of the database before */
static void write_journal(struct table *table, uint32_t records, unsigned char pages)
{
	unsigned char head[512] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };

	for (int i = 0; i < 4; i++)
		head[8 + i] = (unsigned char)(records >> (24 - 8 * i));
	head[19] = pages;
	evidence_writing(table->evidence, table->journal, 0, head, sizeof(head));
}

static void end_journal(struct table *table)
{
	evidence_unnamed(table->evidence, DIR, "a.db-journal");
	evidence_close(table->evidence, table->journal, true);
}

static void write_wal_head(struct table *table)
{
	static const unsigned char head[32] = { 0x37, 0x7f, 0x06, 0x82 };

	evidence_writing(table->evidence, table->wal, 0, head, sizeof(head));
}

/* ---- rollback journals ------------------------------------------------------------------------ */

static void test_with_a_synced_journal_at_no_moment(void **state)
{
	struct table *table = *state;

	for (int turn = 0; turn < 3; turn++) {
		begin_journal(table);
		write_journal(table, 0, 5);
		assert_false(is_suspect(table, NULL));
		evidence_synced(table->evidence, table->journal);
		write_journal(table, 3, 5);
		evidence_synced(table->evidence, table->journal);
		write_page(table, table->database);
		assert_false(is_suspect(table, NULL));
		evidence_synced(table->evidence, table->database);
		end_journal(table);
		assert_false(is_suspect(table, NULL));
	}
}

static void test_a_count_that_was_not_synced_is_none(void **state)
{
	struct table *table = *state;

	begin_journal(table);
	write_journal(table, 3, 5);
	write_page(table, table->database);
	assert_true(is_suspect(table, NULL));
	evidence_synced(table->evidence, table->journal);
	assert_false(is_suspect(table, NULL));
	/* A count of zero is right only for a database that was empty. */
	write_journal(table, 0, 5);
	evidence_synced(table->evidence, table->journal);
	assert_true(is_suspect(table, NULL));
	write_journal(table, 0, 0);
	evidence_synced(table->evidence, table->journal);
	assert_false(is_suspect(table, NULL));
}

static void test_synchronous_off_until_it_arrived_under_locks(void **state)
{
	struct table *table = *state;
	struct evidence_suspect suspect;

	begin_journal(table);
	write_journal(table, UINT32_MAX, 5);
	assert_false(is_suspect(table, NULL));
	write_page(table, table->database);
	assert_true(is_suspect(table, &suspect));
	assert_int_equal(suspect.journal, JOURNAL);
	assert_false(suspect.wal_mode);
	end_journal(table);
	assert_true(is_suspect(table, &suspect));
	assert_true(evidence_arrived(table->evidence, &suspect));
	assert_false(is_suspect(table, NULL));
	write_page(table, table->database);
	assert_true(is_suspect(table, NULL));
}

static void test_no_journal_at_all_until_the_fsync(void **state)
{
	struct table *table = *state;

	write_page(table, table->database);
	assert_true(is_suspect(table, NULL));
	evidence_synced(table->evidence, table->database);
	assert_false(is_suspect(table, NULL));
	evidence_changing(table->evidence, DATABASE, 4096);
	assert_true(is_suspect(table, NULL));
}

static void test_cut_off_after_the_fsync(void **state)
{
	struct table *table = *state;
	struct evidence_suspect suspect;

	evidence_truncating(table->evidence, DATABASE, 8192); /* by one that never syncs: the rest may be to come */
	assert_true(is_suspect(table, &suspect));
	assert_true(evidence_arrived(table->evidence, &suspect));
	evidence_truncating(table->evidence, DATABASE, 4096);
	assert_true(is_suspect(table, NULL));
	evidence_synced(table->evidence, table->database);
	evidence_truncating(table->evidence, DATABASE, 2048); /* auto_vacuum, at the end of the transaction */
	assert_false(is_suspect(table, NULL));
	write_page(table, table->database);
	evidence_truncating(table->evidence, DATABASE, 1024);
	assert_true(is_suspect(table, NULL));
}

static void test_persist_and_truncate_take_the_journal_back(void **state)
{
	static const unsigned char zeros[28];
	struct table *table = *state;

	begin_journal(table);
	for (int turn = 0; turn < 2; turn++) {
		write_journal(table, 3, 5);
		evidence_synced(table->evidence, table->journal);
		write_page(table, table->database);
		evidence_synced(table->evidence, table->database);
		if (turn)
			evidence_writing(table->evidence, table->journal, 0, zeros, sizeof(zeros));
		else
			evidence_truncating(table->evidence, JOURNAL, 0);
		answer_all(table, 1);
		assert_false(is_suspect(table, NULL));
		/* What is written without it now has no journal. */
		write_page(table, table->database);
		assert_true(is_suspect(table, NULL));
		evidence_synced(table->evidence, table->database);
	}
}

/* ---- WAL -------------------------------------------------------------------------------------- */

static void test_a_wal_that_is_synced_at_no_moment(void **state)
{
	struct table *table = *state;

	for (int turn = 0; turn < 3; turn++) {
		write_wal_head(table);
		evidence_synced(table->evidence, table->wal);
		write_page(table, table->wal);
		assert_false(is_suspect(table, NULL));
		evidence_synced(table->evidence, table->wal); /* a checkpoint begins */
		write_page(table, table->database);
		write_page(table, table->wal);
		assert_false(is_suspect(table, NULL));
		evidence_synced(table->evidence, table->database);
		assert_false(is_suspect(table, NULL));
	}
	evidence_truncating(table->evidence, WAL, 0);
	answer_all(table, 2);
	assert_false(is_suspect(table, NULL));
}

static void test_a_new_wal_wants_the_database_flushed(void **state)
{
	struct table *table = *state;
	struct evidence_suspect suspect, old;

	write_wal_head(table);
	assert_true(is_suspect(table, &suspect));
	assert_true(suspect.is_unflushed);
	evidence_flushed(table->evidence, &suspect);
	assert_false(is_suspect(table, NULL));
	old = suspect;
	write_wal_head(table);
	assert_true(is_suspect(table, &suspect));
	evidence_flushed(table->evidence, &old); /* that was before */
	assert_true(is_suspect(table, NULL));
	/* If the flush shows that a checkpoint was made without a sync, only locks help. */
	write_page(table, table->database);
	evidence_flushed(table->evidence, &suspect);
	assert_true(is_suspect(table, &suspect));
	assert_false(suspect.is_unflushed);
	assert_true(suspect.wal_mode);
	assert_true(evidence_arrived(table->evidence, &suspect));
	assert_false(is_suspect(table, NULL));
}

static void test_locks_of_another_mode_do_not_count(void **state)
{
	struct table *table = *state;
	struct evidence_suspect suspect;
	unsigned char head[100] = "SQLite format 3";

	write_page(table, table->database);
	assert_true(is_suspect(table, &suspect));
	head[18] = head[19] = 1;
	evidence_writing(table->evidence, table->database, 0, head, sizeof(head));
	assert_false(evidence_arrived(table->evidence, &suspect));
	assert_true(is_suspect(table, NULL));
}

/* ---- what is no database, and names ------------------------------------------------------------- */

static void test_other_files_never(void **state)
{
	struct table *table = *state;
	struct evidence_file *other;

	assert_int_equal(evidence_open(table->evidence, OTHER, true, &other), 0);
	evidence_writing(table->evidence, other, 0, "an ordinary text, of some length", 32);
	assert_false(is_suspect(table, NULL));
	evidence_close(table->evidence, other, true);
}

static void test_without_writers_never(void **state)
{
	struct table *table = *state;
	struct evidence_file *reader;

	assert_int_equal(evidence_open(table->evidence, DATABASE, false, &reader), 0);
	write_page(table, table->database);
	assert_true(is_suspect(table, NULL));
	evidence_close(table->evidence, table->database, true);
	assert_false(is_suspect(table, NULL));
}

static void test_what_is_not_known_is_asked_for(void **state)
{
	struct table *table = *state;
	struct evidence_question *questions = NULL;
	struct evidence_suspect suspect;
	struct evidence_file *again;
	size_t count = 0;

	evidence_close(table->evidence, table->database, true);
	assert_int_equal(evidence_open(table->evidence, DATABASE, true, &again), 0);
	assert_false(is_suspect(table, NULL)); /* nothing has arrived since it was opened */
	write_page(table, again);
	assert_true(is_suspect(table, &suspect));
	assert_true(suspect.is_asked);
	/* An answer that a change has overtaken is none. */
	assert_int_equal(evidence_questions(table->evidence, &questions, &count), 0);
	assert_int_equal(count, 1);
	evidence_renamed(table->evidence, DIR, "b", DIR, "c", false);
	evidence_changing(table->evidence, DATABASE, 0);
	evidence_learn(table->evidence, &questions[0], DIR, "a.db", "no database at all, this", EVIDENCE_HEAD_BYTES);
	free(questions);
	assert_true(is_suspect(table, &suspect));
	assert_true(suspect.is_asked);
	answer_all(table, 1);
	assert_true(is_suspect(table, &suspect));
	assert_false(suspect.is_asked);
	/* Removed, it is in no version. */
	evidence_unnamed(table->evidence, DIR, "a.db");
	assert_false(is_suspect(table, NULL));
}

static void test_a_renamed_database_has_another_journal(void **state)
{
	struct table *table = *state;

	begin_journal(table);
	write_journal(table, 3, 5);
	evidence_synced(table->evidence, table->journal);
	write_page(table, table->database);
	assert_false(is_suspect(table, NULL));
	evidence_naming(table->evidence, DIR, "b.db");
	evidence_renamed(table->evidence, DIR, "a.db", DIR, "b.db", false);
	assert_true(is_suspect(table, NULL));
	evidence_naming(table->evidence, DIR, "b.db-journal");
	evidence_renamed(table->evidence, DIR, "a.db-journal", DIR, "b.db-journal", false);
	evidence_named(table->evidence, DIR, "b.db-journal", JOURNAL);
	assert_false(is_suspect(table, NULL));
}

static size_t side_count(struct table *table)
{
	struct evidence_side_file *list = NULL;
	size_t count = 0;

	assert_int_equal(evidence_side_files(table->evidence, &list, &count), 0);
	evidence_side_files_free(list, count);
	return count;
}

static void test_side_files_are_never_too_few(void **state)
{
	struct table *table = *state;

	assert_int_equal(side_count(table), 0);
	evidence_naming(table->evidence, DIR, "x-wal");
	assert_int_equal(side_count(table), 1); /* before it is there */
	evidence_named(table->evidence, DIR, "x-wal", 0);
	assert_int_equal(side_count(table), 0); /* it did not come to that */
	evidence_naming(table->evidence, DIR, "x-wal");
	evidence_named(table->evidence, DIR, "x-wal", 20);
	evidence_naming(table->evidence, DIR, "x-wal");
	evidence_named(table->evidence, DIR, "x-wal", 0); /* EEXIST, say: it stays */
	assert_int_equal(side_count(table), 1);
	evidence_naming(table->evidence, DIR, "plain");
	evidence_named(table->evidence, DIR, "plain", 21);
	evidence_naming(table->evidence, DIR + 1, "x-wal");
	evidence_named(table->evidence, DIR + 1, "x-wal", 22);
	assert_int_equal(side_count(table), 2);
	evidence_unnamed(table->evidence, DIR, "x-wal");
	evidence_renamed(table->evidence, DIR + 1, "x-wal", DIR, "gone", false);
	assert_int_equal(side_count(table), 0);
	assert_true(evidence_is_side_name("a-journal"));
	assert_false(evidence_is_side_name("-journal"));
	assert_false(evidence_is_side_name("a-journal2"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_with_a_synced_journal_at_no_moment, setup_delete, teardown),
		cmocka_unit_test_setup_teardown(test_a_count_that_was_not_synced_is_none, setup_delete, teardown),
		cmocka_unit_test_setup_teardown(test_synchronous_off_until_it_arrived_under_locks, setup_delete,
						teardown),
		cmocka_unit_test_setup_teardown(test_no_journal_at_all_until_the_fsync, setup_delete, teardown),
		cmocka_unit_test_setup_teardown(test_cut_off_after_the_fsync, setup_delete, teardown),
		cmocka_unit_test_setup_teardown(test_persist_and_truncate_take_the_journal_back, setup_delete,
						teardown),
		cmocka_unit_test_setup_teardown(test_a_wal_that_is_synced_at_no_moment, setup_wal, teardown),
		cmocka_unit_test_setup_teardown(test_a_new_wal_wants_the_database_flushed, setup_wal, teardown),
		cmocka_unit_test_setup_teardown(test_locks_of_another_mode_do_not_count, setup_wal, teardown),
		cmocka_unit_test_setup_teardown(test_other_files_never, setup_delete, teardown),
		cmocka_unit_test_setup_teardown(test_without_writers_never, setup_delete, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_not_known_is_asked_for, setup_delete, teardown),
		cmocka_unit_test_setup_teardown(test_a_renamed_database_has_another_journal, setup_delete, teardown),
		cmocka_unit_test_setup_teardown(test_side_files_are_never_too_few, setup_delete, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
