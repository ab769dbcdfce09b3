/* SPDX-License-Identifier: MIT */
/*
 * load_writers - one writer of the load test, against stock SQLite. load.py says what it is for, starts it, and checks.
 *
 *	load_writers [option...] CHANNEL INDEX DATABASE [DATABASE2]
 *
 *	-m MODE    journal mode (DELETE)         -s SYNC    synchronous (FULL)
 *	-t MS      busy timeout (0)              -c PAGES   cache_size, and so spills (-2000: SQLite's own)
 *	-a COUNT   accounts in a database (200)  -k COUNT   moves of money in a transaction (3); 0: all accounts
 *	-w NUMBER  which writer of this database (0)        -p US      up to this long between transactions (2000)
 *	-r         opens and closes for every transaction
 *	-q         a child does the work and ends without a word, in the middle of a transaction; then the next one
 *	-v         VACUUM now and then           -A         auto_vacuum, and so truncation in every transaction
 *	-e         locking_mode=EXCLUSIVE        -j         another journal mode now and then
 *	-P SIZE    page_size (SQLite's own)      -x         make the database and end
 *	-R         reads, in transactions that are held for a while, and sees that they stay what they were
 *	-M MOUNT   a mark in the recording of MOUNT for each acknowledged transaction: INDEX * 1000000 + number
 *	-n COUNT   end after so many transactions (none: until told)         -S SEED
 *
 * Each transaction moves money between accounts (of both databases, where there are two, so that only the sum over
 * both stays), writes a line of history, and counts up in every database. When COMMIT has returned, the number goes
 * into CHANNEL, a file that is not on what is tested: an array of struct channel in shared memory; INDEX is ours.
 *
 * Exit status: 0 when told to stop; 1 when SQLite answered with an error, which standard error names.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define START_BALANCE 1000
#define HISTORY       64 /* lines that are kept */
#define MARK_CLASS    1000000u

/* What a writer tells. load.py knows this layout. */
struct channel {
	_Atomic uint64_t begun;        /* number of the transaction whose COMMIT was called last */
	_Atomic uint64_t acknowledged; /* of the last whose COMMIT returned */
	_Atomic uint64_t transactions; /* in all */
	_Atomic uint64_t longest_us;   /* the longest from BEGIN to the end of COMMIT */
	_Atomic uint64_t stop;         /* set by load.py: end, please */
	uint64_t unused[3];
};
static_assert(sizeof(struct channel) == 64, "load.py reads it");

struct writer {
	const char *mode, *sync, *mount;
	const char *paths[2]; /* the second NULL if there is but one */
	int busy_ms, cache_pages, page_size, accounts, moves, who, pace_us;
	bool reopen, quit, vacuum, auto_vacuum, exclusive, change_mode, read;
	uint64_t count;
	unsigned index;
	uint64_t dice;
	struct channel *channel; /* ours */
	sqlite3 *db;             /* NULL: closed */
};

static uint64_t roll(struct writer *w)
{
	uint64_t x = w->dice += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void give_up(struct writer *w, const char *what)
{
	fprintf(stderr, "load_writers: %s: %s: %s (%d)\n", w->paths[0], what, sqlite3_errmsg(w->db),
		sqlite3_extended_errcode(w->db));
	_exit(1);
}

/* Any number of statements; what they answer is the first column of the last row, as a number. */
static int64_t run(struct writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static int64_t run(struct writer *w, const char *format, ...)
{
	char text[2000];
	const char *rest = text;
	int64_t answer = 0;
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	while (*rest) {
		sqlite3_stmt *statement;
		int result;

		if (sqlite3_prepare_v2(w->db, rest, -1, &statement, &rest) != SQLITE_OK)
			give_up(w, text);
		if (!statement)
			break;
		while ((result = sqlite3_step(statement)) == SQLITE_ROW)
			answer = sqlite3_column_int64(statement, 0);
		if (result != SQLITE_DONE || sqlite3_finalize(statement) != SQLITE_OK)
			give_up(w, text);
	}
	return answer;
}

static const char *schema(int i)
{
	return i == 0 ? "main" : "other";
}

static void open_database(struct writer *w)
{
	if (sqlite3_open(w->paths[0], &w->db) != SQLITE_OK)
		give_up(w, "open");
	sqlite3_busy_timeout(w->db, w->busy_ms);
	if (w->paths[1])
		run(w, "ATTACH '%s' AS other", w->paths[1]);
	for (int i = 0; i < 2 && w->paths[i]; i++) {
		char *error = NULL;
		char text[200];

		if (w->exclusive)
			run(w, "PRAGMA %s.locking_mode=EXCLUSIVE", schema(i));
		/* The mode of a WAL database stands in it: nothing to set, and so no lock to ask for. */
		if (strcasecmp(w->mode, "WAL") != 0) {
			snprintf(text, sizeof(text), "PRAGMA %s.journal_mode=%s", schema(i), w->mode);
			if (sqlite3_exec(w->db, text, NULL, NULL, &error) != SQLITE_OK)
				give_up(w, text);
		}
		run(w, "PRAGMA %s.synchronous=%s; PRAGMA %s.cache_size=%d;", schema(i), w->sync, schema(i),
		    w->cache_pages);
	}
	run(w, "PRAGMA wal_autocheckpoint=50");
}

static void close_database(struct writer *w)
{
	if (sqlite3_close(w->db) != SQLITE_OK)
		give_up(w, "close");
	w->db = NULL;
}

/* New databases, with what all writers of them need. */
static void create(struct writer *w)
{
	if (sqlite3_open(w->paths[0], &w->db) != SQLITE_OK)
		give_up(w, "open");
	if (w->paths[1])
		run(w, "ATTACH '%s' AS other", w->paths[1]);
	for (int i = 0; i < 2 && w->paths[i]; i++) {
		const char *s = schema(i);

		if (w->page_size)
			run(w, "PRAGMA %s.page_size=%d", s, w->page_size);
		run(w, "PRAGMA %s.auto_vacuum=%s; PRAGMA %s.journal_mode=%s;", s, w->auto_vacuum ? "FULL" : "NONE", s,
		    w->mode);
		run(w,
		    "BEGIN;"
		    "CREATE TABLE %s.account(id INTEGER PRIMARY KEY, balance INTEGER, touched INTEGER, pad BLOB);"
		    "CREATE INDEX %s.by_balance ON account(balance, id);"
		    "CREATE TABLE %s.counter(who INTEGER PRIMARY KEY, n INTEGER);"
		    "CREATE TABLE %s.history(who INTEGER, n INTEGER, pad BLOB, PRIMARY KEY(who, n)) WITHOUT ROWID;",
		    s, s, s, s);
		run(w,
		    "WITH RECURSIVE r(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM r WHERE i < %d)"
		    "INSERT INTO %s.account SELECT i, %d, 0, zeroblob(200) FROM r;"
		    "INSERT INTO %s.counter SELECT value, 0 FROM json_each('[0,1,2,3]'); COMMIT;",
		    w->accounts - 1, s, START_BALANCE, s);
	}
	close_database(w);
}

static void change(struct writer *w, uint64_t n)
{
	int last = w->paths[1] ? 1 : 0;
	unsigned accounts = (unsigned)w->accounts;

	if (w->moves == 0) {
		/* Each even account gives, its odd neighbour takes. */
		int amount = (int)(roll(w) % 19) - 9;

		for (int i = 0; i <= last; i++)
			run(w,
			    "UPDATE %s.account SET balance = balance + CASE id %% 2 WHEN 0 THEN %d ELSE %d END,"
			    "touched = %" PRIu64 ", pad = randomblob(150 + %" PRIu64 ");",
			    schema(i), -amount, amount, n, roll(w) % 100);
	}
	for (int k = 0; k < w->moves; k++) {
		unsigned from = (unsigned)(roll(w) % accounts), to = (unsigned)(roll(w) % accounts);
		unsigned amount = (unsigned)(roll(w) % 50);

		run(w, "UPDATE main.account SET balance = balance - %u, touched = %" PRIu64 " WHERE id = %u", amount, n,
		    from);
		run(w,
		    "UPDATE %s.account SET balance = balance + %u, touched = %" PRIu64 ", pad = randomblob(%" PRIu64
		    ") WHERE id = %u",
		    schema(last), amount, n, 10 + roll(w) % 400, to);
	}
	for (int i = 0; i <= last; i++)
		run(w,
		    "INSERT INTO %s.history VALUES(%d, %" PRIu64 ", zeroblob(%" PRIu64 "));"
		    "DELETE FROM %s.history WHERE who = %d AND n <= %" PRId64 ";"
		    "UPDATE %s.counter SET n = %" PRIu64 " WHERE who = %d;",
		    schema(i), w->who, n, roll(w) % (w->auto_vacuum ? 12000 : 300), schema(i), w->who,
		    (int64_t)n - HISTORY, schema(i), n, w->who);
}

static void transact(struct writer *w)
{
	struct channel *channel = w->channel;
	uint64_t n, start = now_us(), took;

	run(w, "BEGIN IMMEDIATE");
	n = (uint64_t)run(w, "SELECT n FROM main.counter WHERE who = %d", w->who) + 1;
	change(w, n);
	/* Without a journal there is no way back. */
	if (roll(w) % 10 == 0 && strcasecmp(w->mode, "OFF") != 0) {
		run(w, "ROLLBACK");
		return;
	}
	atomic_store(&channel->begun, n);
	run(w, "COMMIT");
	atomic_store(&channel->acknowledged, n);
	atomic_fetch_add(&channel->transactions, 1);
	took = now_us() - start;
	if (took > atomic_load(&channel->longest_us))
		atomic_store(&channel->longest_us, took);
	if (w->mount) {
		char text[32];
		int length = snprintf(text, sizeof(text), "%" PRIu64, w->index * (uint64_t)MARK_CLASS + n);

		if (setxattr(w->mount, "user.mojofs.mark", text, (size_t)length, 0) != 0) {
			fprintf(stderr, "load_writers: the mark %s: %s\n", text, strerror(errno));
			_exit(1);
		}
	}
}

/* What a transaction reads stays what it was, whatever others write meanwhile. */
static void read_a_while(struct writer *w)
{
	int64_t money, again;

	run(w, "BEGIN");
	money = run(w, "SELECT sum(balance) FROM account");
	if (w->pace_us > 0)
		usleep((useconds_t)(roll(w) % (uint64_t)w->pace_us) * 20);
	again = run(w, "SELECT sum(balance) FROM account");
	run(w, "COMMIT");
	if (money != (int64_t)w->accounts * START_BALANCE || again != money) {
		fprintf(stderr, "load_writers: %s: the sum of money is read as %" PRId64 ", then %" PRId64 "\n",
			w->paths[0], money, again);
		_exit(1);
	}
	atomic_fetch_add(&w->channel->transactions, 1);
}

static bool told_to_stop(struct writer *w)
{
	return atomic_load(&w->channel->stop) || (w->count && atomic_load(&w->channel->transactions) >= w->count);
}

static void pause_a_little(struct writer *w)
{
	if (w->pace_us > 0)
		usleep((useconds_t)(roll(w) % (uint64_t)w->pace_us));
}

/* @transactions: as many, or until told (0) */
static void work(struct writer *w, uint64_t transactions)
{
	for (uint64_t i = 0; !told_to_stop(w) && (transactions == 0 || i < transactions); i++) {
		if (!w->db)
			open_database(w);
		if (w->read)
			read_a_while(w);
		else
			transact(w);
		if (w->change_mode && roll(w) % 20 == 0) {
			static const char *const modes[] = { "DELETE", "TRUNCATE", "PERSIST", "WAL" };

			run(w, "PRAGMA journal_mode=%s", modes[roll(w) % 4]);
		}
		if (w->vacuum && roll(w) % 60 == 0)
			run(w, "VACUUM");
		if (w->reopen)
			close_database(w);
		pause_a_little(w);
	}
}

/* A child works, and dies in mid transaction: what it leaves, no lock speaks of. */
static int work_and_quit(struct writer *w)
{
	while (!told_to_stop(w)) {
		uint64_t transactions = 1 + roll(w) % 8;
		int status;
		pid_t pid;

		roll(w);
		pid = fork();
		if (pid < 0) {
			fprintf(stderr, "load_writers: fork: %s\n", strerror(errno));
			return 1;
		}
		if (pid == 0) {
			open_database(w);
			work(w, transactions);
			run(w, "BEGIN IMMEDIATE");
			change(w, (uint64_t)run(w, "SELECT n FROM main.counter WHERE who = %d", w->who) + 1);
			_exit(0);
		}
		while (waitpid(pid, &status, 0) < 0)
			;
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
			return 1;
		pause_a_little(w);
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct writer w = { .mode = "DELETE",
			    .sync = "FULL",
			    .cache_pages = -2000,
			    .accounts = 200,
			    .moves = 3,
			    .pace_us = 2000,
			    .dice = 1 };
	bool only_create = false;
	struct stat st;
	uint64_t counted;
	int option, fd;
	void *shared;

	while ((option = getopt(argc, argv, "m:s:t:c:a:k:w:p:P:rqvAejRxM:n:S:")) != -1) {
		switch (option) {
		case 'm':
			w.mode = optarg;
			break;
		case 's':
			w.sync = optarg;
			break;
		case 't':
			w.busy_ms = atoi(optarg);
			break;
		case 'c':
			w.cache_pages = atoi(optarg);
			break;
		case 'a':
			w.accounts = atoi(optarg);
			break;
		case 'k':
			w.moves = atoi(optarg);
			break;
		case 'w':
			w.who = atoi(optarg);
			break;
		case 'p':
			w.pace_us = atoi(optarg);
			break;
		case 'r':
			w.reopen = true;
			break;
		case 'q':
			w.quit = true;
			break;
		case 'v':
			w.vacuum = true;
			break;
		case 'A':
			w.auto_vacuum = true;
			break;
		case 'e':
			w.exclusive = true;
			break;
		case 'j':
			w.change_mode = true;
			break;
		case 'R':
			w.read = true;
			break;
		case 'P':
			w.page_size = atoi(optarg);
			break;
		case 'x':
			only_create = true;
			break;
		case 'M':
			w.mount = optarg;
			break;
		case 'n':
			w.count = strtoull(optarg, NULL, 10);
			break;
		case 'S':
			w.dice = strtoull(optarg, NULL, 10);
			break;
		default:
			return 2;
		}
	}
	if (argc - optind < 3 || argc - optind > 4) {
		fprintf(stderr, "usage: load_writers [option...] CHANNEL INDEX DATABASE [DATABASE2]\n");
		return 2;
	}
	w.index = (unsigned)atoi(argv[optind + 1]);
	w.paths[0] = argv[optind + 2];
	w.paths[1] = argv[optind + 3];
	fd = open(argv[optind], O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0 || (uint64_t)st.st_size < (w.index + 1) * sizeof(struct channel)) {
		fprintf(stderr, "load_writers: %s is no channel for writer %u\n", argv[optind], w.index);
		return 2;
	}
	shared = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED) {
		fprintf(stderr, "load_writers: %s: %s\n", argv[optind], strerror(errno));
		return 2;
	}
	w.channel = (struct channel *)shared + w.index;
	if (only_create) {
		create(&w);
		return 0;
	}

	/* Where the database is now: after a crash that may be behind what the channel says. */
	open_database(&w);
	counted = (uint64_t)run(&w, "SELECT n FROM main.counter WHERE who = %d", w.who);
	atomic_store(&w.channel->begun, counted);
	atomic_store(&w.channel->acknowledged, counted);
	if (w.quit) {
		close_database(&w);
		return work_and_quit(&w);
	}
	work(&w, 0);
	if (w.db)
		close_database(&w);
	return 0;
}
