/* SPDX-License-Identifier: MIT */
/* work.c - runs one workload of the benchmark; what they share. See work.h. */
#include "work.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct kind {
	const char *name;
	void (*run)(struct work *work);
	const char *parameters; /* names, each between spaces */
	const char *help;
};

static const struct kind kinds[] = {
	{ "transactions", work_transactions, " journal sync writers ms ",
	  "durable transactions of one 100-byte row each; each writer has a database of its own" },
	{ "ancestor", work_ancestor, " rows ",
	  "insert, update of a tenth, select, count with LIKE; t(s text primary key)" },
	{ "reads", work_reads, " rows ms ", "warm: small read transactions, and points read in one" },
	{ "build", work_build, " megabytes ", "make big.db, of rows of 1000 bytes, for those below" },
	{ "updates", work_updates, " count journal sync ", "random rows of big.db, 100 a transaction" },
	{ "scan", work_scan, " file ", "read every row of big.db, or of another such database" },
	{ "mixed", work_mixed, " percent ", "30 statements of every kind" },
	{ "files", work_files, " count ", "make and remove small files" },
	{ "pages", work_pages, " megabytes writes sync_every ", "pages of a file, in random places" },
	{ "commits", work_commits, " count first journal ", "on a mount: change one row of big.db, commit a version" },
	{ "load", work_load, " ms interval_ms pause_ms ",
	  "on a mount: writers in every journal mode; a commit every interval_ms (0: none)" },
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

void work_fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("work: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

void work_fail_errno(const char *format, ...)
{
	int error = errno;
	va_list args;
	va_start(args, format);
	fputs("work: ", stderr);
	vfprintf(stderr, format, args);
	fprintf(stderr, ": %s\n", strerror(error));
	va_end(args);
	exit(1);
}

const char *work_text(const struct work *work, const char *name, const char *otherwise)
{
	for (int i = 0; i < work->count; i++)
		if (strcmp(work->names[i], name) == 0)
			return work->values[i];
	return otherwise;
}

uint64_t work_number(const struct work *work, const char *name, uint64_t otherwise)
{
	const char *text = work_text(work, name, NULL);
	if (!text)
		return otherwise;
	char *end;
	errno = 0;
	unsigned long long number = strtoull(text, &end, 10);
	if (errno || *end || !isdigit((unsigned char)*text))
		work_fail("%s is not a number: '%s'", name, text);
	return number;
}

void work_path(const struct work *work, const char *name, char *ret_path)
{
	if (snprintf(ret_path, WORK_PATH_BYTES, "%s/%s", work->directory, name) >= WORK_PATH_BYTES)
		work_fail("the path %s/%s is too long", work->directory, name);
}

void work_figure(struct work *work, const char *name, double value)
{
	printf("%s\"%s\": %.6g", work->printed ? ", " : "{", name, value);
	work->printed = true;
}

uint64_t work_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t dice_next(struct dice *dice)
{
	uint64_t z = dice->state += 0x9e3779b97f4a7c15u; /* splitmix64 */
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

void dice_fill(struct dice *dice, void *buf, size_t length)
{
	for (size_t done = 0; done < length; done += 8) {
		uint64_t bytes = dice_next(dice);
		memcpy((char *)buf + done, &bytes, length - done < 8 ? length - done : 8);
	}
}

void samples_add(struct samples *samples, uint64_t ns)
{
	if (samples->count == samples->capacity) {
		samples->capacity = samples->capacity ? samples->capacity * 2 : 1024;
		samples->ns = realloc(samples->ns, samples->capacity * sizeof(*samples->ns));
		if (!samples->ns)
			work_fail("out of memory");
	}
	samples->ns[samples->count++] = ns;
}

static int compare_ns(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
	return (left > right) - (left < right);
}

void samples_sort(struct samples *samples)
{
	if (samples->count)
		qsort(samples->ns, samples->count, sizeof(*samples->ns), compare_ns);
}

double samples_at(const struct samples *samples, double share)
{
	return samples->count ? (double)samples->ns[(size_t)(share * (double)(samples->count - 1) + 0.5)] : 0;
}

void samples_free(struct samples *samples)
{
	free(samples->ns);
	*samples = (struct samples){ 0 };
}

sqlite3 *db_open(const char *path, const char *journal, const char *sync)
{
	sqlite3 *db;
	if (sqlite3_open(path, &db) != SQLITE_OK)
		work_fail("%s cannot be opened: %s", path, sqlite3_errmsg(db));
	sqlite3_busy_timeout(db, 60000);
	if (journal) {
		char sql[64];
		snprintf(sql, sizeof(sql), "PRAGMA journal_mode=%s", journal);
		sqlite3_stmt *statement = db_prepare(db, sql);
		if (sqlite3_step(statement) != SQLITE_ROW ||
		    sqlite3_stricmp((const char *)sqlite3_column_text(statement, 0), journal) != 0)
			work_fail("%s: journal mode %s was refused", path, journal);
		sqlite3_finalize(statement);
	}
	if (sync)
		db_exec(db, "PRAGMA synchronous=%s", sync);
	return db;
}

void db_close(sqlite3 *db)
{
	if (sqlite3_close(db) != SQLITE_OK)
		work_fail("a database cannot be closed: %s", sqlite3_errmsg(db));
}

void db_exec(sqlite3 *db, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	char *sql = sqlite3_vmprintf(format, args);
	va_end(args);
	char *why = NULL;
	if (!sql || sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
		work_fail("%s: %s", sql ? sql : format, why ? why : "out of memory");
	sqlite3_free(sql);
}

sqlite3_stmt *db_prepare(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *statement;
	if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
		work_fail("%s: %s", sql, sqlite3_errmsg(db));
	return statement;
}

uint64_t db_run(sqlite3_stmt *statement)
{
	uint64_t rows = 0;
	int result;
	while ((result = sqlite3_step(statement)) == SQLITE_ROW)
		rows++;
	if (result != SQLITE_DONE)
		work_fail("%s: %s", sqlite3_sql(statement), sqlite3_errmsg(sqlite3_db_handle(statement)));
	sqlite3_reset(statement);
	return rows;
}

int64_t db_number(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *statement = db_prepare(db, sql);
	if (sqlite3_step(statement) != SQLITE_ROW)
		work_fail("%s: %s", sql, sqlite3_errmsg(db));
	int64_t number = sqlite3_column_int64(statement, 0);
	sqlite3_finalize(statement);
	return number;
}

static void usage(FILE *to)
{
	fputs("Usage: work WORKLOAD DIRECTORY [NAME=VALUE]...\n"
	      "Run one workload of the benchmark in DIRECTORY and print what was measured, as JSON.\n\n",
	      to);
	for (size_t i = 0; i < KINDS; i++)
		fprintf(to, "  %-13s %s\n  %13s%s\n", kinds[i].name, kinds[i].help, "", kinds[i].parameters);
}

/* Parameters as NAME=VALUE, each of those that the workload takes. */
static void take_parameters(struct work *work, const struct kind *kind, int argc, char **argv)
{
	work->names = calloc((size_t)argc + 1, sizeof(*work->names));
	work->values = calloc((size_t)argc + 1, sizeof(*work->values));
	if (!work->names || !work->values)
		work_fail("out of memory");
	for (int i = 0; i < argc; i++) {
		char *equals = strchr(argv[i], '=');
		if (!equals)
			work_fail("'%s' is not of the form NAME=VALUE", argv[i]);
		*equals = 0;
		char padded[64];
		snprintf(padded, sizeof(padded), " %s ", argv[i]);
		if (!strstr(kind->parameters, padded))
			work_fail("%s has no parameter '%s', but:%s", kind->name, argv[i], kind->parameters);
		work->names[work->count] = argv[i];
		work->values[work->count++] = equals + 1;
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		usage(stdout);
		return 0;
	}
	if (argc < 3) {
		usage(stderr);
		return 2;
	}
	for (size_t i = 0; i < KINDS; i++) {
		if (strcmp(argv[1], kinds[i].name) != 0)
			continue;
		struct work work = { .directory = argv[2] };
		take_parameters(&work, &kinds[i], argc - 3, argv + 3);
		kinds[i].run(&work);
		puts(work.printed ? "}" : "{}");
		free(work.names);
		free(work.values);
		return fflush(stdout) == 0 ? 0 : 1;
	}
	work_fail("there is no workload '%s'; work --help lists them", argv[1]);
}
