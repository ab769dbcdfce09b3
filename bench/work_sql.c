/* SPDX-License-Identifier: MIT */
/* work_sql.c - workloads that are plain SQLite: they run on any file system. */
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROW_BYTES        1000u /* of big.db */
#define ROWS_A_MEGABYTE  1000u /* with what a row costs besides, near enough */
#define ROWS_TRANSACTION 100u  /* of random updates */
#define WRITERS_MAX      64u
#define UNMEASURED       20u /* transactions of a writer before the clock is looked at */

/* ---- durable transactions ------------------------------------------------------------------------------------- */

/* What the processes of one run share. */
struct field {
	pthread_barrier_t start;
	struct {
		uint64_t transactions;
		uint64_t ns;
		double p50_ns, p99_ns, max_ns;
	} of[WRITERS_MAX];
};

static void write_transactions(const struct work *work, unsigned writer, uint64_t duration_ns, struct field *field)
{
	char name[32], path[WORK_PATH_BYTES];
	snprintf(name, sizeof(name), "t%u.db", writer);
	work_path(work, name, path);
	sqlite3 *db = db_open(path, work_text(work, "journal", "delete"), work_text(work, "sync", "full"));
	db_exec(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
	sqlite3_stmt *insert = db_prepare(db, "INSERT INTO t(body) VALUES(?)");
	struct dice dice = { writer };
	char body[100];
	struct samples samples = { 0 };
	for (unsigned i = 0; i < UNMEASURED;
	     i++) { /* so that everybody knows the names and has the locks and maps they need */
		dice_fill(&dice, body, sizeof(body));
		sqlite3_bind_blob(insert, 1, body, sizeof(body), SQLITE_STATIC);
		db_run(insert);
	}
	pthread_barrier_wait(&field->start);
	uint64_t began = work_now_ns(), now = began;
	while (now - began < duration_ns) {
		dice_fill(&dice, body, sizeof(body));
		sqlite3_bind_blob(insert, 1, body, sizeof(body), SQLITE_STATIC);
		db_run(insert);
		uint64_t then = now;
		now = work_now_ns();
		samples_add(&samples, now - then);
	}
	field->of[writer].transactions = samples.count;
	field->of[writer].ns = now - began;
	samples_sort(&samples);
	field->of[writer].p50_ns = samples_at(&samples, 0.5);
	field->of[writer].p99_ns = samples_at(&samples, 0.99);
	field->of[writer].max_ns = samples_at(&samples, 1);
	samples_free(&samples);
	sqlite3_finalize(insert);
	if (db_number(db, "SELECT count(*) FROM t") != (int64_t)field->of[writer].transactions + UNMEASURED)
		work_fail("%s has not the rows that were written", path);
	db_close(db);
}

void work_transactions(struct work *work)
{
	uint64_t duration_ns = work_number(work, "ms", 1000) * 1000000;
	unsigned writers = (unsigned)work_number(work, "writers", 1);
	if (writers < 1 || writers > WRITERS_MAX)
		work_fail("writers must be from 1 to %u", WRITERS_MAX);
	struct field *field = mmap(NULL, sizeof(*field), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (field == MAP_FAILED)
		work_fail_errno("mmap");
	pthread_barrierattr_t shared;
	pthread_barrierattr_init(&shared);
	pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&field->start, &shared, writers);
	fflush(stdout);
	pid_t pids[WRITERS_MAX];
	for (unsigned i = 0; i < writers; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			work_fail_errno("fork");
		if (pids[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			write_transactions(work, i, duration_ns, field);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < writers; i++) {
		int status;
		if (wait(&status) >= 0 && status == 0)
			continue;
		for (unsigned k = 0; k < writers; k++) /* they may wait at the barrier for one that is gone */
			kill(pids[k], SIGKILL);
		work_fail("a writer failed");
	}
	double rate = 0, p50 = 0, p99 = 0, max = 0;
	for (unsigned i = 0; i < writers; i++) {
		rate += (double)field->of[i].transactions / ((double)field->of[i].ns / 1e9);
		p50 = field->of[i].p50_ns > p50 ? field->of[i].p50_ns : p50;
		p99 = field->of[i].p99_ns > p99 ? field->of[i].p99_ns : p99;
		max = field->of[i].max_ns > max ? field->of[i].max_ns : max;
	}
	uint64_t transactions = 0;
	for (unsigned i = 0; i < writers; i++)
		transactions += field->of[i].transactions;
	work_figure(work, "per_second", rate);
	work_figure(work, "written", (double)(transactions + (uint64_t)writers * UNMEASURED));
	work_figure(work, "median_us", p50 / 1000);
	work_figure(work, "p99_us", p99 / 1000);
	work_figure(work, "longest_us", max / 1000);
	munmap(field, sizeof(*field));
}

/* ---- the ancestor's four --------------------------------------------------------------------------------------- */

/* Seconds since @then, which becomes now. */
static double lap(uint64_t *then)
{
	uint64_t now = work_now_ns();
	double seconds = (double)(now - *then) / 1e9;
	*then = now;
	return seconds;
}

void work_ancestor(struct work *work)
{
	uint64_t rows = work_number(work, "rows", 10000000);
	char path[WORK_PATH_BYTES];
	work_path(work, "ancestor.db", path);
	sqlite3 *db = db_open(path, NULL, NULL);
	uint64_t then = work_now_ns();
	db_exec(db, "CREATE TABLE t(s TEXT PRIMARY KEY)");
	db_exec(db,
		"WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < %lld) "
		"INSERT INTO t SELECT 'row number ' || i FROM n",
		(long long)rows);
	work_figure(work, "insert_s", lap(&then));
	db_exec(db, "UPDATE t SET s = s || ' changed' WHERE rowid %% 10 = 0");
	work_figure(work, "update_s", lap(&then));
	sqlite3_stmt *select = db_prepare(db, "SELECT s FROM t");
	if (db_run(select) != rows)
		work_fail("not all rows are there");
	work_figure(work, "select_s", lap(&then));
	if (db_number(db, "SELECT count(*) FROM t WHERE s LIKE '%changed'") != (int64_t)(rows / 10))
		work_fail("not all changes are there");
	work_figure(work, "count_s", lap(&then));
	sqlite3_finalize(select);
	db_close(db);
}

/* ---- reads ------------------------------------------------------------------------------------------------------ */

/* Random rows until the time is over; returns how many a second. */
static double read_points(sqlite3_stmt *select, uint64_t rows, uint64_t duration_ns)
{
	struct dice dice = { 7 };
	uint64_t began = work_now_ns(), now = began, count = 0;
	while (now - began < duration_ns) {
		for (int i = 0; i < 16; i++, count++) {
			sqlite3_bind_int64(select, 1, (int64_t)(dice_next(&dice) % rows) + 1);
			if (db_run(select) != 1)
				work_fail("a row is missing");
		}
		now = work_now_ns();
	}
	return (double)count / ((double)(now - began) / 1e9);
}

void work_reads(struct work *work)
{
	uint64_t rows = work_number(work, "rows", 100000), duration_ns = work_number(work, "ms", 1000) * 1000000;
	char path[WORK_PATH_BYTES];
	work_path(work, "reads.db", path);
	sqlite3 *db = db_open(path, NULL, NULL);
	db_exec(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, body BLOB)");
	db_exec(db,
		"WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n WHERE i < %lld) "
		"INSERT INTO t SELECT i, randomblob(100) FROM n",
		(long long)rows);
	db_number(db, "SELECT sum(length(body)) FROM t");
	sqlite3_stmt *select = db_prepare(db, "SELECT body FROM t WHERE id = ?");
	read_points(select, rows, duration_ns / 10);
	work_figure(work, "transactions_per_second", read_points(select, rows, duration_ns));
	db_exec(db, "BEGIN");
	work_figure(work, "points_per_second", read_points(select, rows, duration_ns));
	db_exec(db, "COMMIT");
	sqlite3_finalize(select);
	db_close(db);
}

/* ---- a big database --------------------------------------------------------------------------------------------- */

void work_build(struct work *work)
{
	uint64_t rows = work_number(work, "megabytes", 1000) * ROWS_A_MEGABYTE;
	char path[WORK_PATH_BYTES];
	work_path(work, "big.db", path);
	sqlite3 *db = db_open(path, "off", "off");
	db_exec(db, "CREATE TABLE b(id INTEGER PRIMARY KEY, body BLOB)");
	sqlite3_stmt *insert = db_prepare(db, "INSERT INTO b(body) VALUES(?)");
	struct dice dice = { 3 };
	uint8_t body[ROW_BYTES];
	uint64_t then = work_now_ns();
	db_exec(db, "BEGIN");
	for (uint64_t i = 0; i < rows; i++) {
		dice_fill(&dice, body, sizeof(body));
		sqlite3_bind_blob(insert, 1, body, sizeof(body), SQLITE_STATIC);
		db_run(insert);
	}
	db_exec(db, "COMMIT");
	sqlite3_finalize(insert);
	db_close(db);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fsync(fd) != 0)
		work_fail_errno("%s cannot be flushed", path);
	close(fd);
	work_figure(work, "seconds", lap(&then));
}

void work_updates(struct work *work)
{
	uint64_t count = work_number(work, "count", 100000);
	char path[WORK_PATH_BYTES];
	work_path(work, "big.db", path);
	sqlite3 *db = db_open(path, work_text(work, "journal", "wal"), work_text(work, "sync", "normal"));
	int64_t rows = db_number(db, "SELECT max(id) FROM b");
	if (rows < 1)
		work_fail("%s is empty", path);
	sqlite3_stmt *update = db_prepare(db, "UPDATE b SET body = ? WHERE id = ?");
	struct dice dice = { 11 };
	uint8_t body[ROW_BYTES];
	uint64_t then = work_now_ns();
	for (uint64_t done = 0; done < count;) {
		db_exec(db, "BEGIN IMMEDIATE");
		for (unsigned i = 0; i < ROWS_TRANSACTION && done < count; i++, done++) {
			dice_fill(&dice, body, sizeof(body));
			sqlite3_bind_blob(update, 1, body, sizeof(body), SQLITE_STATIC);
			sqlite3_bind_int64(update, 2, (int64_t)(dice_next(&dice) % (uint64_t)rows) + 1);
			db_run(update);
		}
		db_exec(db, "COMMIT");
	}
	sqlite3_finalize(update);
	/* What a log still holds has to go into the database some time: that belongs to the price. */
	db_exec(db, "PRAGMA wal_checkpoint(TRUNCATE)");
	db_close(db);
	double seconds = lap(&then);
	work_figure(work, "rows_per_second", (double)count / seconds);
	work_figure(work, "seconds", seconds);
}

void work_scan(struct work *work)
{
	char path[WORK_PATH_BYTES];
	work_path(work, work_text(work, "file", "big.db"), path);
	uint64_t then = work_now_ns();
	sqlite3 *db = db_open(path, NULL, NULL);
	int64_t bytes = db_number(db, "SELECT sum(length(body)) FROM b");
	db_close(db);
	double seconds = lap(&then);
	if (bytes < (int64_t)ROW_BYTES)
		work_fail("%s is empty", path);
	work_figure(work, "seconds", seconds);
	work_figure(work, "megabytes_per_second", (double)bytes / 1e6 / seconds);
}

/* ---- statements of every kind ----------------------------------------------------------------------------------- */

/* One statement, or some that belong together. The table size has one row, with the number of rows asked for. */
static const char *const statements[] = {
	"CREATE TABLE a(id INTEGER PRIMARY KEY, k INTEGER, s TEXT)",
	"WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n, size WHERE i < rows) "
	"INSERT INTO a SELECT i, i * 7919 % 100003, printf('name %08d of many', i * 7919 % 100003) FROM n",
	"CREATE TABLE c(k INTEGER, s TEXT, UNIQUE(k, s))",
	"INSERT INTO c SELECT k, s || id FROM a",
	"CREATE INDEX a_k ON a(k)",
	"CREATE INDEX a_s ON a(s)",
	"SELECT count(*), avg(k) FROM a WHERE k BETWEEN 1000 AND 50000",
	"SELECT count(*) FROM a WHERE s LIKE '%777%'",
	"SELECT sum(length(s)) FROM a ORDER BY s DESC",
	"SELECT id FROM a ORDER BY s LIMIT 100",
	"UPDATE a SET s = s || '!' WHERE id % 20 = 0",
	"UPDATE a SET k = k + 1 WHERE k % 50 = 0",
	"BEGIN; DELETE FROM a WHERE id % 11 = 0; ROLLBACK",
	"DELETE FROM a WHERE id % 11 = 1",
	"INSERT INTO a(k, s) SELECT k, 'again ' || s FROM a WHERE id % 13 = 0",
	"INSERT INTO c SELECT k, s || id FROM a WHERE id % 3 = 0 ON CONFLICT DO UPDATE SET s = excluded.s || '?'",
	"REPLACE INTO a SELECT id, k, 'replaced ' || s FROM a WHERE id % 17 = 0",
	"SELECT count(*) FROM a JOIN c ON a.k = c.k WHERE a.id % 5 = 0",
	"SELECT count(*) FROM a WHERE k IN (SELECT k FROM c WHERE k % 3 = 0)",
	"SELECT k % 100, count(*), min(s), max(s) FROM a GROUP BY 1 HAVING count(*) > 1",
	"SELECT sum(r) FROM (SELECT row_number() OVER (PARTITION BY k % 10 ORDER BY s) AS r FROM a)",
	"BEGIN; SAVEPOINT p; UPDATE c SET s = s || '.' WHERE k % 9 = 0; ROLLBACK TO p; RELEASE p; COMMIT",
	"CREATE TEMP TABLE w AS SELECT * FROM a ORDER BY k; SELECT count(*) FROM w; DROP TABLE w",
	"CREATE TRIGGER g AFTER INSERT ON a BEGIN UPDATE c SET s = s || ' seen' || new.id WHERE k = new.k; END; "
	"INSERT INTO a(k, s) SELECT k, s FROM c LIMIT 1000; DROP TRIGGER g",
	"ALTER TABLE a ADD COLUMN more BLOB DEFAULT x'00'",
	"UPDATE a SET more = randomblob(2000) WHERE id % 40 = 0",
	"ANALYZE",
	"DROP INDEX a_s",
	"PRAGMA integrity_check",
	"VACUUM",
};

#define STATEMENTS (sizeof(statements) / sizeof(statements[0]))

void work_mixed(struct work *work)
{
	long long rows = (long long)(work_number(work, "percent", 100) * 2000);
	char path[WORK_PATH_BYTES];
	work_path(work, "mixed.db", path);
	sqlite3 *db = db_open(path, NULL, NULL);
	db_exec(db, "CREATE TEMP TABLE size AS SELECT %lld AS rows", rows);
	uint64_t began = work_now_ns();
	for (size_t i = 0; i < STATEMENTS; i++) {
		char *why = NULL;
		uint64_t then = work_now_ns();
		if (sqlite3_exec(db, statements[i], NULL, NULL, &why) != SQLITE_OK)
			work_fail("%s: %s", statements[i], why);
		char name[16];
		snprintf(name, sizeof(name), "s%02zu_ms", i + 1);
		work_figure(work, name, lap(&then) * 1000);
	}
	db_close(db);
	work_figure(work, "seconds", lap(&began));
}
