/* SPDX-License-Identifier: MIT */
/* work_files.c - workloads that are files, and those that need a mount: versions. */
#include "work.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../src/report.h"

#define PAGE_BYTES 4096u

/* ---- files ------------------------------------------------------------------------------------------------------ */

void work_files(struct work *work)
{
	uint64_t count = work_number(work, "count", 10000);
	char path[WORK_PATH_BYTES], body[100];
	struct dice dice = { 5 };
	work_path(work, "files", path);
	if (mkdir(path, 0777) != 0)
		work_fail_errno("%s", path);
	size_t length = strlen(path);
	uint64_t began = work_now_ns();
	for (uint64_t i = 0; i < count; i++) {
		snprintf(path + length, sizeof(path) - length, "/file-%06llu", (unsigned long long)i);
		int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
		dice_fill(&dice, body, sizeof(body));
		if (fd < 0 || write(fd, body, sizeof(body)) != (ssize_t)sizeof(body) || close(fd) != 0)
			work_fail_errno("%s", path);
	}
	uint64_t made = work_now_ns();
	for (uint64_t i = 0; i < count; i++) {
		snprintf(path + length, sizeof(path) - length, "/file-%06llu", (unsigned long long)i);
		if (unlink(path) != 0)
			work_fail_errno("%s", path);
	}
	uint64_t removed = work_now_ns();
	work_figure(work, "creates_per_second", (double)count / ((double)(made - began) / 1e9));
	work_figure(work, "unlinks_per_second", (double)count / ((double)(removed - made) / 1e9));
}

void work_pages(struct work *work)
{
	uint64_t pages = work_number(work, "megabytes", 1000) * (1000000 / PAGE_BYTES);
	uint64_t writes = work_number(work, "writes", pages), sync_every = work_number(work, "sync_every", 1000);
	char path[WORK_PATH_BYTES];
	uint8_t page[PAGE_BYTES];
	struct dice dice = { 13 };
	work_path(work, "pages", path);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0 || !pages || !sync_every)
		work_fail_errno("%s", path);
	uint64_t began = work_now_ns();
	for (uint64_t i = 0; i < writes; i++) {
		off_t offset = (off_t)(dice_next(&dice) % pages * PAGE_BYTES);
		dice_fill(&dice, page, sizeof(page));
		if (pwrite(fd, page, sizeof(page), offset) != (ssize_t)sizeof(page))
			work_fail_errno("%s", path);
		if (i % sync_every == sync_every - 1 && fdatasync(fd) != 0)
			work_fail_errno("%s", path);
	}
	if (fsync(fd) != 0 || close(fd) != 0)
		work_fail_errno("%s", path);
	work_figure(work, "pages_per_second", (double)writes / ((double)(work_now_ns() - began) / 1e9));
}

/* ---- commits ---------------------------------------------------------------------------------------------------- */

#define VERSION_XATTR "user.mojofs.version"

/* As mojofs commit does it. Returns whether it was done; else SQLite's writers were in the way. */
static bool commit(const char *mount)
{
	struct report_commit asked = { .length = 5, .message = "bench" };
	int root = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC), result;
	if (root < 0)
		work_fail_errno("opening %s", mount);
	result = ioctl(root, REPORT_COMMIT, &asked);
	if (result != 0 && errno != EBUSY)
		work_fail_errno("committing on %s", mount);
	close(root);
	return result == 0;
}

static uint64_t active_version(const char *mount)
{
	char text[32];
	ssize_t length = getxattr(mount, VERSION_XATTR, text, sizeof(text) - 1);
	if (length < 1)
		work_fail_errno("%s of %s", VERSION_XATTR, mount);
	text[length] = 0;
	return strtoull(text, NULL, 10);
}

void work_commits(struct work *work)
{
	uint64_t count = work_number(work, "count", 100), first = work_number(work, "first", 0);
	char path[WORK_PATH_BYTES];
	work_path(work, "big.db", path);
	sqlite3 *db = db_open(path, work_text(work, "journal", "wal"), "full");
	int64_t rows = db_number(db, "SELECT max(id) FROM b");
	sqlite3_stmt *update = db_prepare(db, "UPDATE b SET body = randomblob(1000) WHERE id = ?");
	struct dice dice = { 17 };
	struct samples samples = { 0 };
	uint64_t busy = 0, version = active_version(work->directory);
	uint64_t unmeasured = version < first ? first - version : 0;
	for (uint64_t done = 0; done < unmeasured + count; done++) {
		sqlite3_bind_int64(update, 1, (int64_t)(dice_next(&dice) % (uint64_t)rows) + 1);
		db_run(update);
		uint64_t then = work_now_ns();
		if (!commit(work->directory))
			busy++;
		if (done >= unmeasured)
			samples_add(&samples, work_now_ns() - then);
	}
	sqlite3_finalize(update);
	db_close(db);
	samples_sort(&samples);
	work_figure(work, "median_ms", samples_at(&samples, 0.5) / 1e6);
	work_figure(work, "p99_ms", samples_at(&samples, 0.99) / 1e6);
	work_figure(work, "longest_ms", samples_at(&samples, 1) / 1e6);
	work_figure(work, "busy", (double)busy);
	work_figure(work, "version", (double)active_version(work->directory));
	samples_free(&samples);
}

/* ---- load ------------------------------------------------------------------------------------------------------- */

struct writer_kind {
	const char *name, *journal, *sync;
	unsigned rows; /* a transaction */
	bool attached; /* every transaction over two databases */
	bool reopens;  /* opens and closes for every transaction */
};

static const struct writer_kind writer_kinds[] = {
	{ "delete", "delete", "full", 4, false, false },
	{ "truncate", "truncate", "full", 4, false, false },
	{ "persist", "persist", "full", 4, false, false },
	{ "wal-full", "wal", "full", 4, false, false },
	{ "wal-normal", "wal", "normal", 4, false, false },
	{ "two-files", "delete", "full", 4, true, false },
	{ "reopens", "delete", "full", 4, false, true },
	{ "huge", "delete", "full", 4000, false,
	  false }, /* spills its cache; its transactions are no measure of a stall */
};

#define WRITER_KINDS (sizeof(writer_kinds) / sizeof(writer_kinds[0]))
#define HUGE_WRITER  (WRITER_KINDS - 1)

/* What the processes of a load share. */
struct load {
	pthread_barrier_t start;
	atomic_bool stop;
	struct {
		uint64_t transactions;
		double p99_ns, longest_ns; /* of one transaction */
	} of[WRITER_KINDS];
};

static sqlite3 *open_for(const struct work *work, const struct writer_kind *kind)
{
	char name[64], path[WORK_PATH_BYTES];
	snprintf(name, sizeof(name), "%s.db", kind->name);
	work_path(work, name, path);
	sqlite3 *db = db_open(path, kind->journal, kind->sync);
	db_exec(db, "PRAGMA cache_size=100");
	if (kind->attached) {
		snprintf(name, sizeof(name), "%s-other.db", kind->name);
		work_path(work, name, path);
		sqlite3_stmt *attach = db_prepare(db, "ATTACH ? AS other");
		sqlite3_bind_text(attach, 1, path, -1, SQLITE_STATIC);
		db_run(attach);
		sqlite3_finalize(attach);
		db_exec(db, "PRAGMA other.synchronous=%s", kind->sync);
	}
	return db;
}

static void one_transaction(sqlite3 *db, const struct writer_kind *kind, struct dice *dice)
{
	db_exec(db, "BEGIN IMMEDIATE");
	for (unsigned i = 0; i < kind->rows; i++) {
		unsigned id = (unsigned)(dice_next(dice) % 10000);
		db_exec(db, "REPLACE INTO main.t VALUES(%u, randomblob(300))", id);
		if (kind->attached)
			db_exec(db, "REPLACE INTO other.t VALUES(%u, randomblob(300))", id);
	}
	db_exec(db, "COMMIT");
}

static void write_load(const struct work *work, size_t index, uint64_t pause_ms, struct load *load)
{
	const struct writer_kind *kind = &writer_kinds[index];
	struct dice dice = { index };
	sqlite3 *db = open_for(work, kind);
	db_exec(db, "CREATE TABLE main.t(id INTEGER PRIMARY KEY, body BLOB)");
	if (kind->attached)
		db_exec(db, "CREATE TABLE other.t(id INTEGER PRIMARY KEY, body BLOB)");
	one_transaction(db, kind, &dice);
	pthread_barrier_wait(&load->start);
	struct samples samples = { 0 };
	while (!atomic_load(&load->stop)) {
		uint64_t then = work_now_ns();
		if (kind->reopens) {
			db_close(db);
			db = open_for(work, kind);
		}
		one_transaction(db, kind, &dice);
		samples_add(&samples, work_now_ns() - then);
		if (pause_ms)
			poll(NULL, 0, (int)pause_ms);
	}
	db_close(db);
	samples_sort(&samples);
	load->of[index].transactions = samples.count;
	load->of[index].p99_ns = samples_at(&samples, 0.99);
	load->of[index].longest_ns = samples_at(&samples, 1);
	samples_free(&samples);
}

void work_load(struct work *work)
{
	uint64_t duration_ns = work_number(work, "ms", 3000) * 1000000, pause_ms = work_number(work, "pause_ms", 0);
	uint64_t interval_ms = work_number(work, "interval_ms", 100);
	struct load *load = mmap(NULL, sizeof(*load), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (load == MAP_FAILED)
		work_fail_errno("mmap");
	pthread_barrierattr_t shared;
	pthread_barrierattr_init(&shared);
	pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&load->start, &shared, WRITER_KINDS + 1);
	fflush(stdout);
	pid_t pids[WRITER_KINDS];
	for (size_t i = 0; i < WRITER_KINDS; i++) {
		pids[i] = fork();
		if (pids[i] < 0)
			work_fail_errno("fork");
		if (pids[i] == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			write_load(work, i, pause_ms, load);
			_exit(0);
		}
	}
	pthread_barrier_wait(&load->start);
	uint64_t began = work_now_ns(), now = began, busy = 0;
	struct samples commits = { 0 };
	while (now - began < duration_ns) {
		poll(NULL, 0, interval_ms ? (int)interval_ms : 50);
		now = work_now_ns();
		if (interval_ms) {
			if (!commit(work->directory))
				busy++;
			samples_add(&commits, work_now_ns() - now);
		}
	}
	atomic_store(&load->stop, true);
	bool failed = false;
	for (size_t i = 0; i < WRITER_KINDS; i++) {
		int status;
		failed |= waitpid(pids[i], &status, 0) < 0 || status != 0;
	}
	if (failed)
		work_fail("a writer failed");
	double longest = 0, p99 = 0, transactions = 0;
	for (size_t i = 0; i < WRITER_KINDS; i++) {
		char name[64];
		snprintf(name, sizeof(name), "%s_longest_ms", writer_kinds[i].name);
		work_figure(work, name, load->of[i].longest_ns / 1e6);
		transactions += (double)load->of[i].transactions;
		if (i == HUGE_WRITER)
			continue;
		longest = load->of[i].longest_ns > longest ? load->of[i].longest_ns : longest;
		p99 = load->of[i].p99_ns > p99 ? load->of[i].p99_ns : p99;
	}
	work_figure(work, "transactions_per_second", transactions / ((double)(now - began) / 1e9));
	work_figure(work, "stall_ms", longest / 1e6);
	work_figure(work, "worst_p99_ms", p99 / 1e6);
	if (interval_ms) {
		samples_sort(&commits);
		work_figure(work, "commits", (double)commits.count);
		work_figure(work, "busy", (double)busy);
		work_figure(work, "median_ms", samples_at(&commits, 0.5) / 1e6);
		work_figure(work, "p99_ms", samples_at(&commits, 0.99) / 1e6);
		work_figure(work, "longest_ms", samples_at(&commits, 1) / 1e6);
	}
	samples_free(&commits);
	munmap(load, sizeof(*load));
}
