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

/* For the whole process. */
static void load_module(void)
{
	const char *module = getenv("MOJOFS_MODULE");
	char *error = NULL;
	sqlite3 *db;

	assert_int_equal(sqlite3_open(":memory:", &db), SQLITE_OK);
	sqlite3_enable_load_extension(db, 1);
	if (sqlite3_load_extension(db, module ? module : "sqlite/mojofs", NULL, &error) != SQLITE_OK)
		fail_msg("%s", error);
	sql_close(db);
}

static void remove_directory(const char *directory)
{
	char command[100];

	snprintf(command, sizeof(command), "rm -r '%s'", directory);
	assert_int_equal(system(command), 0);
}

static void test_every_version_is_whole(void **state)
{
	long long before[WRITERS], version = 0, checked = 0;
	unsigned count = 0, refusals = 0, commits = test_is_long() ? 1000 : 24;
	struct mojo_check_result result;
	struct thread threads[32];
	struct load load = { 0 };
	char uri[300];
	struct mojo_io *io;
	sqlite3 *db;

	(void)state;
	strcpy(load.directory, "/tmp/mojofs-vfs_load.XXXXXX");
	assert_non_null(mkdtemp(load.directory));
	load_module();

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
	remove_directory(load.directory);
}

/* ---- what an earlier process left --------------------------------------------------------------------------- */

struct left {
	char directory[64];
	struct mojo_io *io;
	struct mojo_store *store;
};

static void left_begin(struct left *left)
{
	struct mojo_config config = { .no_background = true };

	strcpy(left->directory, "/tmp/mojofs-vfs_left.XXXXXX");
	assert_non_null(mkdtemp(left->directory));
	assert_ok(mojo_io_host(left->directory, &left->io));
	assert_ok(mojo_create(left->io, NULL, NULL));
	assert_ok(mojo_open(left->io, &config, &left->store));
}

static void left_end(struct left *left)
{
	assert_ok(mojo_sync(left->store));
	mojo_abandon(left->store);
	mojo_io_free(left->io);
}

static sqlite3 *left_open(const struct left *left, const char *name, const char *parameters)
{
	char uri[300];

	snprintf(uri, sizeof(uri), "file:%s/%s?vfs=mojo%s", left->directory, name, parameters);
	return open_uri(uri);
}

static void test_a_commit_that_was_cut_short_is_finished(void **state)
{
	struct left left;
	uint32_t version;
	sqlite3 *db;

	(void)state;
	load_module();
	left_begin(&left);
	sql_make_dead(left.store, "a.db", false, 30);
	sql_make_dead(left.store, "b.db", true, 30);
	assert_ok(mojo_freeze(left.store, "cut short", 9, NULL, NULL, &version));
	left_end(&left);

	/* Whoever only reads does not see it, and leaves it. */
	db = left_open(&left, "b.db", "&mode=ro");
	assert_int_equal(sql_query(db, "SELECT count(*) FROM mojofs_versions"), 1);
	sql_close(db);
	db = left_open(&left, "a.db", "");
	assert_int_equal(sql_query(db, "SELECT count(*) FROM mojofs_versions WHERE message = 'cut short'"), 1);
	assert_int_equal(sql_query(db, "SELECT sum(length(x)) FROM t"), 60000);
	for (unsigned i = 0; i < 2; i++) {
		sqlite3 *old = left_open(&left, i ? "b.db" : "a.db", "&ver=1");

		assert_int_equal(sql_query(old, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
		assert_int_equal(sql_query(old, "SELECT sum(length(x)) FROM t"), 60000);
		sql_close(old);
	}
	sql_close(db);
	remove_directory(left.directory);
}

/* Write a super-journal's name at the end of a hot journal, as SQLite does. */
static void name_super(struct left *left, const char *journal, const char *super)
{
	static const unsigned char magic[8] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };
	uint32_t length = (uint32_t)strlen(super), sum = 0, page = (1u << 30) / 4096 + 1;
	unsigned char record[300];
	struct mojo_attr attr;
	size_t at = 0;

	for (uint32_t i = 0; i < length; i++)
		sum += (unsigned char)super[i];
	for (int shift = 24; shift >= 0; shift -= 8)
		record[at++] = (unsigned char)(page >> shift);
	memcpy(record + at, super, length);
	at += length;
	for (int shift = 24; shift >= 0; shift -= 8)
		record[at++] = (unsigned char)(length >> shift);
	for (int shift = 24; shift >= 0; shift -= 8)
		record[at++] = (unsigned char)(sum >> shift);
	memcpy(record + at, magic, sizeof(magic));
	at += sizeof(magic);
	assert_ok(mojo_resolve(left->store, MOJO_ACTIVE, journal, &attr));
	assert_ok(mojo_write(left->store, attr.bucket, attr.size, record, at));
}

/*
 * A transaction over two databases that was made in a mount, at a path that is no more. With its super-journal it is
 * rolled back in both; without, it had been committed, and is in both.
 */
static void test_a_super_journal_is_found_wherever_the_store_is_now(void **state)
{
	static const char super[] = "/mnt/gone/a.db-mj12345678",
			  children[] = "/mnt/gone/a.db-journal\0/mnt/gone/b.db-journal";

	(void)state;
	load_module();
	for (unsigned with = 0; with < 2; with++) {
		struct mojo_attr attr;
		struct left left;
		sqlite3 *db;

		left_begin(&left);
		for (unsigned i = 0; i < 2; i++) {
			sql_make_dead(left.store, i ? "b.db" : "a.db", false, 30);
			name_super(&left, i ? "b.db-journal" : "a.db-journal", super);
		}
		if (with) {
			assert_ok(mojo_mknod(left.store, MOJO_ROOT_BUCKET, strrchr(super, '/') + 1, S_IFREG | 0644, 0,
					     0, 0, &attr));
			assert_ok(mojo_write(left.store, attr.bucket, 0, children, sizeof(children)));
		}
		left_end(&left);
		for (unsigned i = 0; i < 2; i++) {
			db = left_open(&left, i ? "b.db" : "a.db", "");
			if (with) {
				assert_int_equal(
					sql_query(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
				assert_int_equal(sql_query(db, "SELECT sum(length(x)) FROM t"), 60000);
			} else {
				/* What sql_make_dead() leaves is in mid transaction: only that it was not played back. */
				assert_int_equal(sql_query(db, "PRAGMA schema_version") > 0, 1);
			}
			sql_close(db);
		}
		assert_ok(mojo_io_host(left.directory, &left.io));
		assert_ok(mojo_open(left.io, &(struct mojo_config){ .read_only = true, .no_background = true },
				    &left.store));
		assert_errno(mojo_resolve(left.store, MOJO_ACTIVE, "a.db-journal", &attr), ENOENT);
		assert_errno(mojo_resolve(left.store, MOJO_ACTIVE, "b.db-journal", &attr), ENOENT);
		assert_errno(mojo_resolve(left.store, MOJO_ACTIVE, "a.db-mj12345678", &attr), ENOENT);
		mojo_abandon(left.store);
		mojo_io_free(left.io);
		remove_directory(left.directory);
	}
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_every_version_is_whole),
	cmocka_unit_test(test_a_commit_that_was_cut_short_is_finished),
	cmocka_unit_test(test_a_super_journal_is_found_wherever_the_store_is_now),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
