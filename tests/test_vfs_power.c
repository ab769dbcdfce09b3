/* SPDX-License-Identifier: MIT */
/*
 * vfs.h tells SQLite that writes come back in order, so that it syncs half as often. Here the power fails, at any
 * moment, under SQLite on a store whose disk keeps no more than it must (support/power.h): whatever was acknowledged
 * with synchronous=FULL is there, nothing is there by halves, and every database is whole, in every journal mode.
 * With NORMAL the same, but that a WAL may lose its last transactions; with OFF nothing is lost but the last ones
 * either, and the databases are whole all the same, for it is a prefix.
 */
#include "support/support.h"

#include "io_record.h"
#include "support/power.h"
#include "support/sql.h"

enum { ACCOUNTS = 10, MONEY = 1000 };

struct kind {
	const char *journal, *synchronous;
	bool is_cross;    /* over two databases */
	bool loses;       /* acknowledged transactions may be missing */
	bool comes_apart; /* the two databases are written one after the other */
};

static const struct kind kinds[] = {
	{ "DELETE", "FULL", false, false, false },    { "TRUNCATE", "FULL", false, false, false },
	{ "PERSIST", "FULL", false, false, false },   { "WAL", "FULL", false, false, false },
	{ "DELETE", "NORMAL", false, false, false },  { "PERSIST", "NORMAL", false, false, false },
	{ "WAL", "NORMAL", false, true, false },      { "DELETE", "OFF", false, true, false },
	{ "TRUNCATE", "NORMAL", false, true, false }, { "DELETE", "FULL", true, false, false },
	{ "TRUNCATE", "NORMAL", true, false, false }, { "PERSIST", "FULL", true, false, false },
	{ "WAL", "FULL", true, false, true },
};

struct work {
	struct dice *dice;
	const struct kind *kind;
	uint64_t acknowledged; /* 1 + the highest number before this moment; 0: the tables are not there */
	unsigned lost;         /* states in which an acknowledged transaction is missing */
};

static struct mojo_config quiet(void)
{
	return (struct mojo_config){ .no_background = true, .flush_ms = UINT32_MAX };
}

static sqlite3 *open_databases(struct sql_view *view, const struct kind *kind)
{
	sqlite3 *db = sql_view_open(view, "/a.db");
	char sql[300];

	/* A name that only the same VFS understands: attached databases take the one of the first. */
	sql_run(db, "PRAGMA temp_store=memory; ATTACH '/b.db' AS b;"
		    "PRAGMA main.cache_size=4; PRAGMA b.cache_size=4; PRAGMA cache_spill=4;");
	snprintf(sql, sizeof(sql),
		 "PRAGMA main.journal_mode=%s; PRAGMA b.journal_mode=%s;"
		 "PRAGMA main.synchronous=%s; PRAGMA b.synchronous=%s",
		 kind->journal, kind->journal, kind->synchronous, kind->synchronous);
	sql_run(db, sql);
	sqlite3_wal_autocheckpoint(db, 15);
	return db;
}

static void make_tables(sqlite3 *db)
{
	static const char *const schemas[] = { "main", "b" };
	char sql[500];

	for (size_t i = 0; i < 2; i++) {
		snprintf(sql, sizeof(sql),
			 "BEGIN; CREATE TABLE %1$s.account(id INTEGER PRIMARY KEY, money INTEGER);"
			 "CREATE TABLE %1$s.counter(number INTEGER); INSERT INTO %1$s.counter VALUES(0);"
			 "CREATE TABLE %1$s.big(id INTEGER PRIMARY KEY, data BLOB);"
			 "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %2$d)"
			 "INSERT INTO %1$s.account SELECT i, %3$d FROM n; COMMIT;",
			 schemas[i], ACCOUNTS, MONEY / ACCOUNTS);
		sql_run(db, sql);
	}
}

static void transact(struct work *work, sqlite3 *db, uint64_t number)
{
	char sql[600];

	sql_run(db, "BEGIN");
	for (unsigned i = 0; i < (work->kind->is_cross ? 2u : 1u); i++) {
		snprintf(sql, sizeof(sql),
			 "UPDATE %1$s.account SET money = money - 5 WHERE id = %2$u;"
			 "DELETE FROM %1$s.big WHERE id %% 2 = %3$u;"
			 "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %4$u)"
			 "INSERT INTO %1$s.big SELECT NULL, randomblob(3000) FROM n;"
			 "UPDATE %1$s.counter SET number = %5$" PRIu64 ";"
			 "UPDATE %1$s.account SET money = money + 5 WHERE id = %6$u;",
			 i == 0 ? "main" : "b", 1 + dice_below(work->dice, ACCOUNTS), dice_below(work->dice, 2),
			 dice_below(work->dice, 4) == 0 ? 15 : 2, number, 1 + dice_below(work->dice, ACCOUNTS));
		sql_run(db, sql);
	}
	sql_run(db, "COMMIT");
}

static uint64_t check_schema(sqlite3 *db, const char *schema)
{
	char sql[200];

	snprintf(sql, sizeof(sql), "SELECT sum(money) FROM %s.account", schema);
	assert_int_equal(sql_query(db, sql), MONEY);
	snprintf(sql, sizeof(sql), "SELECT number FROM %s.counter", schema);
	return (uint64_t)sql_query(db, sql);
}

/* What SQLite finds on a disk in this state. */
static void check_state(struct work *work, struct mojo_io *io)
{
	struct mojo_config config = quiet();
	struct mojo_store *store;
	struct sql_view *view;
	uint64_t a, b;
	sqlite3 *db;

	assert_ok(mojo_open(io, &config, &store));
	view = sql_view_new(store, MOJO_ACTIVE);
	db = open_databases(view, work->kind);
	/* Of all that is attached. */
	assert_int_equal(sql_query(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
	a = check_schema(db, "main");
	b = check_schema(db, "b");
	if (work->kind->is_cross && !work->kind->comes_apart)
		assert_int_equal(a, b);
	if (work->acknowledged > 0 &&
	    (a + 1 < work->acknowledged || (work->kind->is_cross && b + 1 < work->acknowledged))) {
		work->lost++;
		if (!work->kind->loses)
			fail_msg("%s, %s: %" PRIu64 " was acknowledged, %" PRIu64 " and %" PRIu64 " are there",
				 work->kind->journal, work->kind->synchronous, work->acknowledged - 1, a, b);
	}
	/* It goes on. */
	transact(work, db, a + 1);
	sql_close(db);
	sql_view_free(view);
	mojo_abandon(store);
}

static void on_mark(void *arg, uint64_t mark)
{
	((struct work *)arg)->acknowledged = mark;
}

static unsigned cut_the_power(struct work *work, unsigned transactions, unsigned wanted)
{
	struct mojo_geometry geometry = { .chunk_bytes = 4 << 20 };
	struct mojo_config config = quiet();
	struct mojo_io *disk, *io;
	struct mojo_store *store;
	struct sql_view *view;
	struct power *power;
	unsigned states = 0, moment = 0, moments = 0;
	const void *bytes;
	size_t length;
	sqlite3 *db;

	assert_ok(mojo_io_memory(&disk));
	assert_ok(mojo_io_record(disk, -1, &io));
	assert_ok(mojo_create(io, &geometry, NULL));
	assert_ok(mojo_open(io, &config, &store));
	view = sql_view_new(store, MOJO_ACTIVE);
	db = open_databases(view, work->kind);
	make_tables(db);
	assert_ok(mojo_sync(store));
	assert_ok(mojo_io_record_mark(io, 1));
	for (unsigned i = 1; i <= transactions; i++) {
		transact(work, db, i);
		assert_ok(mojo_io_record_mark(io, i + 1));
		/* Groups go out that nobody has asked to flush. */
		if (dice_below(work->dice, 12) == 0)
			assert_ok(mojo_checkpoint(store));
	}
	sql_close(db);
	sql_view_free(view);
	mojo_abandon(store);
	assert_ok(mojo_io_record_status(io));
	mojo_io_record_bytes(io, &bytes, &length);

	work->acknowledged = 0;
	power = power_new(bytes, length, NULL, NULL, NULL);
	while (power_next(power))
		moments++;
	power_free(power);
	power = power_new(bytes, length, NULL, on_mark, work);
	while (power_next(power)) {
		for (moment++; work->acknowledged > 0 && states < (uint64_t)moment * wanted / moments; states++) {
			struct mojo_io *state = power_build_random(power, dice_next(work->dice));

			check_state(work, state);
			mojo_io_free(state);
		}
	}
	power_free(power);
	mojo_io_free(io);
	mojo_io_free(disk);
	return states;
}

static void test_nothing_acknowledged_is_lost(void **state)
{
	struct dice dice = dice_new("power");
	unsigned wanted = test_is_long() ? 5000 : 80, losses = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		struct work work = { .dice = &dice, .kind = &kinds[i] };
		unsigned states = cut_the_power(&work, test_is_long() ? 120 : 25, wanted);

		print_message("%s, %s, %s: %u states, acknowledged ones missing in %u\n", kinds[i].journal,
			      kinds[i].synchronous, kinds[i].is_cross ? "two databases" : "one database", states,
			      work.lost);
		losses += work.lost;
	}
	/* Where nothing is synced something is lost: the disk of this test does forget. */
	assert_true(losses > 0);
}

/* ---- disks that are full, or fail ---------------------------------------------------------------------------- */

static const char insert[] = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
			     "INSERT INTO t SELECT randomblob(4000) FROM n";

static void test_a_full_disk_is_full_to_sqlite(void **state)
{
	static const char *const journals[] = { "DELETE", "WAL" };
	struct bench *bench = *state;
	struct sql_view *view = sql_view_new(bench->store, MOJO_ACTIVE);

	for (size_t i = 0; i < 2; i++) {
		char sql[100];
		int64_t rows = 0;
		sqlite3 *db;
		int code;

		db = sql_view_open(view, i ? "/b.db" : "/a.db");
		snprintf(sql, sizeof(sql), "PRAGMA journal_mode=%s; CREATE TABLE t(x); PRAGMA cache_size=10",
			 journals[i]);
		sql_run(db, sql);
		mojo_io_memory_limit(bench->io, 48u << 20);
		while ((code = sqlite3_exec(db, insert, NULL, NULL, NULL)) == SQLITE_OK)
			rows += 500;
		assert_int_equal(code, SQLITE_FULL);
		assert_int_equal(sqlite3_get_autocommit(db), 1);
		/* A WAL can be read as it is; what a journal has to restore takes room, too. */
		if (i == 1)
			assert_int_equal(sql_query(db, "SELECT count(*) FROM t"), rows);
		/* With more room it goes on, as if nothing had been. */
		mojo_io_memory_limit(bench->io, 1u << 30);
		assert_int_equal(sql_query(db, "SELECT count(*) FROM t"), rows);
		sql_run(db, insert);
		assert_int_equal(sql_query(db, "SELECT count(*) FROM t"), rows + 500);
		assert_int_equal(sql_query(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
		sql_run(db, "DELETE FROM t; VACUUM");
		sql_close(db);
	}
	sql_view_free(view);
}

static void test_a_disk_that_fails_is_an_error_to_sqlite(void **state)
{
	struct bench *bench = *state;
	struct sql_view *view = sql_view_new(bench->store, MOJO_ACTIVE);
	sqlite3 *db = sql_view_open(view, "/a.db");

	sql_run(db, "CREATE TABLE t(x)");
	sql_run(db, insert);
	mojo_io_memory_fail(bench->io, 0, EIO, true);
	assert_int_equal(sqlite3_exec(db, insert, NULL, NULL, NULL), SQLITE_IOERR);
	assert_int_equal(sqlite3_extended_errcode(db) & 0xff, SQLITE_IOERR);
	mojo_io_memory_fail(bench->io, UINT64_MAX, 0, false);
	/* The store takes no more changes until it is opened anew; then all is as it was acknowledged. */
	assert_int_equal(sqlite3_exec(db, insert, NULL, NULL, NULL), SQLITE_IOERR);
	sqlite3_close(db);
	sql_view_free(view);
	bench_crash(bench);
	bench_open(bench);
	view = sql_view_new(bench->store, MOJO_ACTIVE);
	db = sql_view_open(view, "/a.db");
	assert_int_equal(sql_query(db, "SELECT count(*) FROM t"), 500);
	assert_int_equal(sql_query(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
	sql_close(db);
	sql_view_free(view);
}

/* A byte on the disk is another one. */
static void test_rot_is_an_error_to_sqlite_and_never_data(void **state)
{
	struct bench *bench = *state;
	struct sql_view *view = sql_view_new(bench->store, MOJO_ACTIVE);
	sqlite3 *db = sql_view_open(view, "/a.db");
	struct mojo_map_entry entry;
	uint64_t per_chunk = BENCH_PER_CHUNK;
	sqlite3_stmt *statement;
	char chunk[40];
	size_t count;
	int code;

	sql_run(db, "CREATE TABLE t(x)");
	sql_run(db, insert);
	sql_close(db);
	bench_sync(bench);
	assert_ok(
		mojo_map(bench->store, MOJO_ACTIVE, bench_lookup(bench, MOJO_ACTIVE, "a.db"), 100, &entry, 1, &count));
	assert_int_equal(count, 1);
	snprintf(chunk, sizeof(chunk), "chunks/%08x.chunk", (unsigned)(entry.address / per_chunk));
	assert_ok(mojo_io_memory_flip(bench->io, chunk, entry.address % per_chunk * BENCH_PAGE + 17, 4));
	db = sql_view_open(view, "/a.db");
	assert_int_equal(sqlite3_prepare_v2(db, "SELECT x FROM t", -1, &statement, NULL), SQLITE_OK);
	while ((code = sqlite3_step(statement)) == SQLITE_ROW)
		;
	assert_int_equal(code, SQLITE_IOERR);
	assert_int_equal(sqlite3_extended_errcode(db), SQLITE_IOERR_READ);
	sqlite3_finalize(statement);
	sql_close(db);
	sql_view_free(view);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_nothing_acknowledged_is_lost),
	BENCH_TEST(test_a_full_disk_is_full_to_sqlite),
	BENCH_TEST(test_a_disk_that_fails_is_an_error_to_sqlite),
	BENCH_TEST(test_rot_is_an_error_to_sqlite_and_never_data),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
