/* SPDX-License-Identifier: MIT */
/*
 * mojofs.so under load: threads that write in every journal mode, each moving money between accounts and counting what
 * was acknowledged, while versions are frozen by mojofs_commit(). Every database of every version is whole, the sum of
 * money is right, and nothing that was acknowledged before is missing. Only journal_mode=MEMORY may put a commit off.
 */
#include <stdatomic.h>
#include <unistd.h>

#include "support/support.h"

#include "support/sql.h"

enum { ACCOUNTS = 20, MONEY = 1000, WAIT_MS = 60000 };

struct writer {
	const char *name;     /* of the database */
	const char *journal;  /* mode */
	const char *settings; /* further PRAGMAs */
	unsigned threads;
	bool is_large; /* transactions that spill the cache */
	bool reopens;  /* for every transaction */
	bool is_cross; /* in "NAME2", too */
};

static const struct writer writers[] = {
	{ "delete.db", "DELETE", "PRAGMA synchronous=FULL;", 2, false, false, false },
	{ "truncate.db", "TRUNCATE", "PRAGMA synchronous=FULL;", 1, false, false, false },
	{ "persist.db", "PERSIST", "PRAGMA synchronous=NORMAL;", 1, true, false, false },
	{ "wal.db", "WAL", "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=20;", 2, false, false, false },
	{ "large.db", "WAL", "PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=50;", 1, true, false, false },
	{ "reopened.db", "DELETE", "PRAGMA synchronous=OFF;", 1, false, true, false },
	{ "cross.db", "DELETE", "PRAGMA synchronous=NORMAL;", 1, true, false, true },
	{ "alone.db", "TRUNCATE", "PRAGMA locking_mode=EXCLUSIVE;", 1, true, false, false },
	{ "memory.db", "MEMORY", "PRAGMA synchronous=OFF;", 1, false, false, false },
};

enum { WRITERS = sizeof(writers) / sizeof(*writers) };

struct load {
	char directory[64]; /* which is the store, too */
	atomic_bool is_over;
	atomic_llong acknowledged[WRITERS]; /* transactions */
};

struct thread {
	pthread_t id;
	struct load *load;
	size_t writer;
	unsigned number;
};

static sqlite3 *open_uri(const char *uri)
{
	sqlite3 *db;

	if (sqlite3_open_v2(uri, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_URI, NULL) != SQLITE_OK)
		fail_msg("%s: %s", uri, sqlite3_errmsg(db));
	sqlite3_busy_timeout(db, WAIT_MS);
	return db;
}

static sqlite3 *open_writer(const struct load *load, const struct writer *writer)
{
	char text[300];
	sqlite3 *db;

	snprintf(text, sizeof(text), "file:%s/%s?vfs=mojo", load->directory, writer->name);
	db = open_uri(text);
	sql_run(db, writer->settings);
	if (writer->is_large)
		sql_run(db, "PRAGMA cache_size=5; PRAGMA cache_spill=5;");
	snprintf(text, sizeof(text), "PRAGMA journal_mode=%s", writer->journal);
	sql_run(db, text);
	if (writer->is_cross) {
		snprintf(text, sizeof(text), "ATTACH 'file:%s/%s2?vfs=mojo' AS two", load->directory, writer->name);
		sql_run(db, text);
	}
	return db;
}

static void make_tables(sqlite3 *db, const char *schema)
{
	char sql[500];

	snprintf(sql, sizeof(sql),
		 "BEGIN; CREATE TABLE %1$s.account(id INTEGER PRIMARY KEY, money INTEGER);"
		 "CREATE TABLE %1$s.counter(number INTEGER); INSERT INTO %1$s.counter VALUES(0);"
		 "CREATE TABLE %1$s.big(id INTEGER PRIMARY KEY, data BLOB);"
		 "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %2$d)"
		 "INSERT INTO %1$s.account SELECT i, %3$d FROM n; COMMIT;",
		 schema, ACCOUNTS, MONEY / ACCOUNTS);
	sql_run(db, sql);
}

static void transact(sqlite3 *db, const struct writer *writer, unsigned salt)
{
	char sql[600];

	sql_run(db, "BEGIN IMMEDIATE");
	for (unsigned i = 0; i < (writer->is_cross ? 2u : 1u); i++) {
		const char *schema = i == 0 ? "main" : "two";

		snprintf(sql, sizeof(sql),
			 "UPDATE %1$s.account SET money = money - 3 WHERE id = %2$u;"
			 "DELETE FROM %1$s.big WHERE id %% 2 = %3$u;"
			 "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %4$d)"
			 "INSERT INTO %1$s.big SELECT NULL, randomblob(3000) FROM n;"
			 "UPDATE %1$s.counter SET number = number + 1;"
			 "UPDATE %1$s.account SET money = money + 3 WHERE id = %5$u;",
			 schema, 1 + salt % ACCOUNTS, salt % 2, writer->is_large ? 40 : 2, 1 + salt / 7 % ACCOUNTS);
		sql_run(db, sql);
	}
	sql_run(db, "COMMIT");
}

static void *write_on(void *arg)
{
	struct thread *thread = arg;
	struct load *load = thread->load;
	const struct writer *writer = &writers[thread->writer];
	sqlite3 *db = writer->reopens ? NULL : open_writer(load, writer);

	for (unsigned i = 0; !atomic_load(&load->is_over); i++) {
		if (writer->reopens)
			db = open_writer(load, writer);
		transact(db, writer, i * 31 + thread->number);
		atomic_fetch_add(&load->acknowledged[thread->writer], 1);
		if (writer->reopens)
			sql_close(db);
	}
	if (!writer->reopens)
		sql_close(db);
	return NULL;
}

static long long check_database(const struct load *load, const char *name, long long version)
{
	char uri[300];
	sqlite3 *db;
	long long number;

	snprintf(uri, sizeof(uri), "file:%s/%s?vfs=mojo&ver=%lld&mode=ro", load->directory, name, version);
	db = open_uri(uri);
	assert_int_equal(sql_query(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
	assert_int_equal(sql_query(db, "SELECT sum(money) FROM account"), MONEY);
	number = sql_query(db, "SELECT number FROM counter");
	sql_close(db);
	return number;
}

/* A commit, put off for as long as journal_mode=MEMORY is in mid transaction. */
static long long commit(sqlite3 *db, unsigned *refusals)
{
	sqlite3_stmt *statement;
	long long version = 0;
	int code;

	assert_int_equal(sqlite3_prepare_v2(db, "SELECT mojofs_commit('under load')", -1, &statement, NULL), SQLITE_OK);
	while ((code = sqlite3_step(statement)) != SQLITE_ROW) {
		if (code != SQLITE_BUSY || !strstr(sqlite3_errmsg(db), "memory.db"))
			fail_msg("commit: %s", sqlite3_errmsg(db));
		++*refusals;
		sqlite3_reset(statement);
		sqlite3_sleep(1);
	}
	version = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	return version;
}

static void test_every_version_is_whole(void **state)
{
	const char *module = getenv("MOJOFS_MODULE");
	long long before[WRITERS], version = 0, checked = 0;
	unsigned count = 0, refusals = 0, commits = test_is_long() ? 1000 : 24;
	struct mojo_check_result result;
	struct thread threads[32];
	struct load load = { 0 };
	char uri[300], *error = NULL;
	struct mojo_io *io;
	sqlite3 *db;

	(void)state;
	strcpy(load.directory, "/tmp/mojofs-vfs_load.XXXXXX");
	assert_non_null(mkdtemp(load.directory));
	assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
	sqlite3_enable_load_extension(db, 1);
	if (sqlite3_load_extension(db, module ? module : "sqlite/mojofs", NULL, &error) != SQLITE_OK)
		fail_msg("%s", error);
	sqlite3_close(db);

	/* Keeps the store open, and commits. The directory is empty: it becomes the store. */
	snprintf(uri, sizeof(uri), "file:%s?vfs=mojo", load.directory);
	db = open_uri(uri);
	sql_run(db, "CREATE TABLE t(x)");
	for (size_t i = 0; i < WRITERS; i++) {
		sqlite3 *made = open_writer(&load, &writers[i]);

		make_tables(made, "main");
		if (writers[i].is_cross)
			make_tables(made, "two");
		sql_close(made);
	}
	for (size_t i = 0; i < WRITERS; i++) {
		for (unsigned n = 0; n < writers[i].threads; n++) {
			threads[count] = (struct thread){ .load = &load, .writer = i, .number = n };
			assert_ok(pthread_create(&threads[count].id, NULL, write_on, &threads[count]));
			count++;
		}
	}
	for (unsigned n = 0; n < commits; n++) {
		/* Nobody stands still between two versions. */
		for (size_t i = 0; i < WRITERS; i++) {
			long long seen = atomic_load(&load.acknowledged[i]);

			while (n > 0 && n % 8 == 0 && atomic_load(&load.acknowledged[i]) == seen)
				sqlite3_sleep(1);
		}
		for (size_t i = 0; i < WRITERS; i++)
			before[i] = atomic_load(&load.acknowledged[i]);
		version = commit(db, &refusals);
		assert_int_equal(version, n + 1);
		for (size_t i = 0; i < WRITERS; i++) {
			long long number = check_database(&load, writers[i].name, version);

			assert_true(number >= before[i]);
			if (writers[i].is_cross) {
				char second[40];

				snprintf(second, sizeof(second), "%s2", writers[i].name);
				assert_int_equal(check_database(&load, second, version), number);
			}
			checked++;
		}
	}
	atomic_store(&load.is_over, true);
	for (unsigned i = 0; i < count; i++)
		pthread_join(threads[i].id, NULL);
	assert_int_equal(sql_query(db, "SELECT count(*) FROM mojofs_versions"), commits + 1);
	sql_close(db);
	for (size_t i = 0; i < WRITERS; i++)
		print_message("%s (%s): %lld transactions\n", writers[i].name, writers[i].journal,
			      (long long)atomic_load(&load.acknowledged[i]));
	print_message("%lld databases of %lld versions; %u times put off by journal_mode=MEMORY\n", checked, version,
		      refusals);

	assert_ok(mojo_io_host(load.directory, &io));
	assert_ok(mojo_check(io, &(struct mojo_check_options){ .scrub = true }, &result));
	mojo_io_free(io);
	assert_int_equal(result.errors, 0);
	snprintf(uri, sizeof(uri), "rm -r %s", load.directory);
	assert_int_equal(system(uri), 0);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_every_version_is_whole),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
