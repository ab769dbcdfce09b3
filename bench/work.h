/* SPDX-License-Identifier: MIT */
/*
 * work.h - what the workloads of the benchmark share: parameters, figures, clocks, SQLite without the fuss.
 *
 * bench/work runs one workload in one directory and prints what it measured; bench/run starts it, on the host's file
 * system and on a mount in turn. Whatever goes wrong ends the program with a message: a figure from a workload that
 * only half worked is worth nothing.
 */
#ifndef WORK_H
#define WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sqlite3.h>

#define WORK_PATH_BYTES 4096

/* One run of one workload. */
struct work {
	const char *directory; /* in which all its files are */
	const char **names;    /* of the parameters given; @count of them, as many values */
	const char **values;
	int count;
	bool printed; /* a figure, already */
};

/* work_number, work_text - a parameter, or @otherwise if it was not given. */
uint64_t work_number(const struct work *work, const char *name, uint64_t otherwise);
const char *work_text(const struct work *work, const char *name, const char *otherwise);

/* work_path - @name in the workload's directory, into @ret_path of WORK_PATH_BYTES. */
void work_path(const struct work *work, const char *name, char *ret_path);

/* work_figure - print one figure. Names are distinct within a run. */
void work_figure(struct work *work, const char *name, double value);

/* work_fail - print a message and end the program; work_fail_errno adds what errno says. */
void work_fail(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));
void work_fail_errno(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* work_now_ns - a clock that only goes forward. */
uint64_t work_now_ns(void);

/* ---- dice: always the same ones, so that both sides do the same ---- */

struct dice {
	uint64_t state;
};

uint64_t dice_next(struct dice *dice);
/* Bytes that do not compress. */
void dice_fill(struct dice *dice, void *buf, size_t length);

/* ---- durations, to tell the median and the rare ones ---- */

struct samples {
	uint64_t *ns; /* owned */
	size_t count, capacity;
};

void samples_add(struct samples *samples, uint64_t ns);
/* samples_sort - before the next two. */
void samples_sort(struct samples *samples);
/* samples_at - the duration that @share of them (0..1) do not exceed, in ns; 0 if there are none. */
double samples_at(const struct samples *samples, double share);
void samples_free(struct samples *samples);

/* ---- SQLite ---- */

/* db_open - open or make a database. @journal, @sync: as in the PRAGMAs; NULL: SQLite's default. */
sqlite3 *db_open(const char *path, const char *journal, const char *sync);
void db_close(sqlite3 *db);
void db_exec(sqlite3 *db, const char *format, ...) __attribute__((format(printf, 2, 3)));
sqlite3_stmt *db_prepare(sqlite3 *db, const char *sql);
/* db_run - step through all rows of a prepared statement, reset it; returns how many rows. */
uint64_t db_run(sqlite3_stmt *statement);
/* db_number - the first column of the only row. */
int64_t db_number(sqlite3 *db, const char *sql);

/* ---- the workloads; each says in work.c which parameters it takes ---- */

void work_transactions(struct work *work);
void work_ancestor(struct work *work);
void work_reads(struct work *work);
void work_build(struct work *work);
void work_updates(struct work *work);
void work_scan(struct work *work);
void work_mixed(struct work *work);
void work_files(struct work *work);
void work_pages(struct work *work);
void work_commits(struct work *work);
void work_load(struct work *work);

#endif
