/* SPDX-License-Identifier: MIT */
/*
 * settle.h: whatever moment a version is frozen at, SQLite finds each database of it at a transaction boundary.
 *
 * SQLite writes through a VFS of this test that behaves as the kernel does in front of the mount: names and sizes are
 * changed at once, what is written stays in dirty pages until the file is synced, and some of them, any of them, go to
 * the engine earlier. At random calls a version is frozen, with some more pages gone out; it is settled at once, in the
 * middle of the writer's call, or while the writer has gone on. Then: every database of the version is whole, its
 * journal mode as it was, no transaction is there by halves, none that was acknowledged is missing, also if it spans
 * two databases; no side files are left; and the active version is as if nothing had been.
 */
#include "support/support.h"

#include "../sqlite/settle.h"
#include "support/sql.h"

enum {
	PAGE = 4096,
	FILES = 16,
	ACCOUNTS = 20,
	MONEY = 1000, /* in all accounts of a database */
	NAME = 64,
};

#define PREFIX "/mnt/db/"

/* ---- the kernel -------------------------------------------------------------------------------- */

struct kernel_file {
	char path[NAME]; /* below PREFIX; "": this place is free */
	uint32_t bucket;
	uint8_t *data; /* owned */
	size_t size, capacity;
	uint8_t *dirty; /* owned; one for each page of the capacity */
};

struct kernel {
	sqlite3_vfs vfs; /* first */
	struct bench *bench;
	struct dice *dice;
	struct kernel_file files[FILES];
	void (*tick)(void *arg); /* called at every change */
	void *arg;
};

struct open_file {
	sqlite3_file base; /* first */
	struct kernel *kernel;
	struct kernel_file *file;
};

static struct kernel_file *kernel_find(struct kernel *kernel, const char *path)
{
	assert_int_equal(strncmp(path, PREFIX, strlen(PREFIX)), 0);
	for (size_t i = 0; i < FILES; i++)
		if (kernel->files[i].path[0] && strcmp(kernel->files[i].path, path + strlen(PREFIX)) == 0)
			return &kernel->files[i];
	return NULL;
}

/* The directory and the name of a path below PREFIX. */
static uint32_t split(struct kernel *kernel, const char *path, const char **ret_name)
{
	const char *slash = strchr(path, '/');

	*ret_name = slash ? slash + 1 : path;
	return slash ? bench_lookup(kernel->bench, MOJO_ACTIVE, "sub") : MOJO_ROOT_BUCKET;
}

static void grow(struct kernel_file *file, size_t size)
{
	size_t capacity = file->capacity ? file->capacity : 16 * PAGE;

	while (capacity < size)
		capacity *= 2;
	if (capacity > file->capacity) {
		file->data = realloc(file->data, capacity);
		file->dirty = realloc(file->dirty, capacity / PAGE);
		assert_non_null(file->data);
		assert_non_null(file->dirty);
		memset(file->data + file->capacity, 0, capacity - file->capacity);
		memset(file->dirty + file->capacity / PAGE, 0, (capacity - file->capacity) / PAGE);
		file->capacity = capacity;
	}
}

static void write_back(struct kernel *kernel, struct kernel_file *file, size_t page)
{
	size_t offset = page * PAGE, length = file->size - offset;

	if (!file->dirty[page])
		return;
	file->dirty[page] = 0;
	assert_ok(mojo_write(kernel->bench->store, file->bucket, offset, file->data + offset,
			     length < PAGE ? length : PAGE));
}

/* Each dirty page goes out, or, one time in @sides, stays. With 0 all go out. */
static void write_back_some(struct kernel *kernel, unsigned sides)
{
	for (size_t i = 0; i < FILES; i++) {
		struct kernel_file *file = &kernel->files[i];

		for (size_t page = 0; file->path[0] && page * PAGE < file->size; page++)
			if (sides == 0 || dice_below(kernel->dice, sides) > 0)
				write_back(kernel, file, page);
	}
}

static void changed(struct kernel *kernel)
{
	struct kernel_file *file = &kernel->files[dice_below(kernel->dice, FILES)];

	/* The kernel writes back when it likes. */
	if (file->path[0] && file->size > 0 && dice_below(kernel->dice, 4) == 0)
		write_back(kernel, file, dice_below(kernel->dice, (uint32_t)((file->size + PAGE - 1) / PAGE)));
	kernel->tick(kernel->arg);
}

static int file_close(sqlite3_file *base)
{
	(void)base;
	return SQLITE_OK;
}

static int file_read(sqlite3_file *base, void *buf, int length, sqlite3_int64 offset)
{
	struct kernel_file *file = ((struct open_file *)base)->file;
	size_t got = 0;

	if ((size_t)offset < file->size)
		got = file->size - (size_t)offset < (size_t)length ? file->size - (size_t)offset : (size_t)length;
	memcpy(buf, file->data + offset, got);
	memset((char *)buf + got, 0, (size_t)length - got);
	return got == (size_t)length ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int file_write(sqlite3_file *base, const void *buf, int length, sqlite3_int64 offset)
{
	struct open_file *open = (struct open_file *)base;
	struct kernel_file *file = open->file;
	size_t end = (size_t)offset + (size_t)length;

	grow(file, end);
	memcpy(file->data + offset, buf, (size_t)length);
	if (end > file->size)
		file->size = end;
	for (size_t page = (size_t)offset / PAGE; page * PAGE < end; page++)
		file->dirty[page] = 1;
	changed(open->kernel);
	return SQLITE_OK;
}

static int file_truncate(sqlite3_file *base, sqlite3_int64 size)
{
	struct open_file *open = (struct open_file *)base;
	struct kernel_file *file = open->file;
	struct mojo_attr attr = { .size = (uint64_t)size }, result;

	assert_true((size_t)size <= file->size);
	memset(file->data + size, 0, file->size - (size_t)size);
	for (size_t page = ((size_t)size + PAGE - 1) / PAGE; page * PAGE < file->size; page++)
		file->dirty[page] = 0;
	file->size = (size_t)size;
	assert_ok(mojo_setattr(open->kernel->bench->store, file->bucket, MOJO_SET_SIZE, &attr, &result));
	changed(open->kernel);
	return SQLITE_OK;
}

static int file_sync(sqlite3_file *base, int flags)
{
	struct open_file *open = (struct open_file *)base;

	(void)flags;
	for (size_t page = 0; page * PAGE < open->file->size; page++)
		write_back(open->kernel, open->file, page);
	assert_ok(mojo_sync(open->kernel->bench->store));
	changed(open->kernel);
	return SQLITE_OK;
}

static int file_size(sqlite3_file *base, sqlite3_int64 *ret_size)
{
	*ret_size = (sqlite3_int64)((struct open_file *)base)->file->size;
	return SQLITE_OK;
}

/* There is one connection. */
static int file_lock(sqlite3_file *base, int level)
{
	(void)base;
	(void)level;
	return SQLITE_OK;
}

static int file_check_reserved_lock(sqlite3_file *base, int *ret_is_reserved)
{
	(void)base;
	*ret_is_reserved = 0;
	return SQLITE_OK;
}

static int file_control(sqlite3_file *base, int operation, void *arg)
{
	(void)base;
	(void)operation;
	(void)arg;
	return SQLITE_NOTFOUND;
}

static int file_sector_size(sqlite3_file *base)
{
	(void)base;
	return PAGE;
}

static int file_device_characteristics(sqlite3_file *base)
{
	(void)base;
	return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods kernel_methods = {
	.iVersion = 1,
	.xClose = file_close,
	.xRead = file_read,
	.xWrite = file_write,
	.xTruncate = file_truncate,
	.xSync = file_sync,
	.xFileSize = file_size,
	.xLock = file_lock,
	.xUnlock = file_lock,
	.xCheckReservedLock = file_check_reserved_lock,
	.xFileControl = file_control,
	.xSectorSize = file_sector_size,
	.xDeviceCharacteristics = file_device_characteristics,
};

static int kernel_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *base, int flags, int *ret_flags)
{
	struct kernel *kernel = (struct kernel *)vfs;
	struct open_file *open = (struct open_file *)base;
	struct kernel_file *file;
	struct mojo_attr attr;
	const char *name;
	uint32_t dir;

	base->pMethods = NULL;
	assert_non_null(path); /* temp_store is memory */
	file = kernel_find(kernel, path);
	if (!file && !(flags & SQLITE_OPEN_CREATE))
		return SQLITE_CANTOPEN;
	if (!file) {
		for (file = kernel->files; file->path[0]; file++)
			assert_true(file < kernel->files + FILES - 1);
		dir = split(kernel, path + strlen(PREFIX), &name);
		assert_ok(mojo_mknod(kernel->bench->store, dir, name, S_IFREG | 0644, 0, 0, 0, &attr));
		snprintf(file->path, sizeof(file->path), "%s", path + strlen(PREFIX));
		file->bucket = attr.bucket;
		grow(file, 1);
	}
	open->kernel = kernel;
	open->file = file;
	base->pMethods = &kernel_methods;
	if (ret_flags)
		*ret_flags = flags;
	return SQLITE_OK;
}

static void forget(struct kernel_file *file)
{
	free(file->data);
	free(file->dirty);
	memset(file, 0, sizeof(*file));
}

static int kernel_delete(sqlite3_vfs *vfs, const char *path, int sync_dir)
{
	struct kernel *kernel = (struct kernel *)vfs;
	struct kernel_file *file = kernel_find(kernel, path);
	const char *name;
	uint32_t dir;

	(void)sync_dir;
	if (!file)
		return SQLITE_IOERR_DELETE_NOENT;
	dir = split(kernel, file->path, &name);
	assert_ok(mojo_unlink(kernel->bench->store, dir, name));
	forget(file);
	/* As the mount does with a rollback journal. */
	assert_ok(mojo_sync(kernel->bench->store));
	changed(kernel);
	return SQLITE_OK;
}

static int kernel_access(sqlite3_vfs *vfs, const char *path, int flags, int *ret_result)
{
	struct kernel_file *file = kernel_find((struct kernel *)vfs, path);

	*ret_result = file && (flags != SQLITE_ACCESS_EXISTS || file->size > 0);
	return SQLITE_OK;
}

static int kernel_full_pathname(sqlite3_vfs *vfs, const char *name, int size, char *ret_path)
{
	(void)vfs;
	snprintf(ret_path, (size_t)size, "%s", name);
	return SQLITE_OK;
}

static void kernel_init(struct kernel *kernel, struct bench *bench, struct dice *dice)
{
	sqlite3_vfs *host = sqlite3_vfs_find(NULL);

	memset(kernel, 0, sizeof(*kernel));
	kernel->vfs = *host; /* for time, sleep and random numbers */
	kernel->vfs.zName = "kernel";
	kernel->vfs.szOsFile = sizeof(struct open_file);
	kernel->vfs.mxPathname = 256;
	kernel->vfs.pNext = NULL;
	kernel->vfs.xOpen = kernel_open;
	kernel->vfs.xDelete = kernel_delete;
	kernel->vfs.xAccess = kernel_access;
	kernel->vfs.xFullPathname = kernel_full_pathname;
	kernel->bench = bench;
	kernel->dice = dice;
	assert_int_equal(sqlite3_vfs_register(&kernel->vfs, 0), SQLITE_OK);
}

static void kernel_free(struct kernel *kernel)
{
	sqlite3_vfs_unregister(&kernel->vfs);
	for (size_t i = 0; i < FILES; i++)
		forget(&kernel->files[i]);
}

/* ---- a writer, and versions of it ---------------------------------------------------------------------- */

struct mode {
	const char *journal, *synchronous;
	bool is_cross; /* every transaction is in both databases */
};

struct trial {
	struct bench *bench;
	struct dice *dice;
	struct kernel kernel;
	struct mode mode;
	int64_t begun, acknowledged; /* numbers of transactions */
	unsigned until;              /* changes to the next freeze; 0: none */
	uint32_t pending;            /* frozen and not settled; 0: none */
	int64_t pending_acknowledged, pending_begun;
	/* what the versions held, to know that it was worth looking */
	unsigned versions, rolled_back, checkpointed, super_journals;
};

static void on_event(void *arg, enum mojo_severity severity, const char *text)
{
	(void)arg;
	(void)severity;
	fprintf(stderr, "%s\n", text);
}

struct names {
	unsigned count, super_journals;
	struct {
		uint32_t dir;
		char name[NAME];
	} side[FILES];
	uint32_t dir;
};

static bool on_name(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct names *names = arg;

	(void)attr;
	(void)cookie;
	names->super_journals += strstr(name, "-mj") != NULL;
	if (settle_is_side_file(name)) {
		assert_true(names->count < FILES);
		names->side[names->count].dir = names->dir;
		snprintf(names->side[names->count++].name, NAME, "%s", name);
	}
	return true;
}

static void list_names(struct trial *trial, uint32_t version, struct names *ret_names)
{
	memset(ret_names, 0, sizeof(*ret_names));
	ret_names->dir = MOJO_ROOT_BUCKET;
	assert_ok(mojo_readdir(trial->bench->store, version, ret_names->dir, 0, on_name, ret_names));
	ret_names->dir = bench_lookup(trial->bench, version, "sub");
	assert_ok(mojo_readdir(trial->bench->store, version, ret_names->dir, 0, on_name, ret_names));
}

/* No WAL is left, and of a journal at most one that says it is done with. */
static void assert_no_side_files(struct trial *trial, uint32_t version)
{
	struct names names;

	list_names(trial, version, &names);
	for (unsigned i = 0; i < names.count; i++) {
		struct mojo_attr attr;
		char first = 0;
		size_t length;

		if (strstr(names.side[i].name, "-wal"))
			fail_msg("%s is left in version %u", names.side[i].name, version);
		assert_ok(mojo_lookup(trial->bench->store, version, names.side[i].dir, names.side[i].name, &attr));
		assert_ok(mojo_read(trial->bench->store, version, attr.bucket, 0, &first, 1, &length));
		assert_int_equal(first, 0);
	}
	/* The last database of a transaction takes its super-journal with it; one of which no journal speaks is
	 * nothing. */
}

static int64_t check_database(struct trial *trial, struct sql_view *view, uint32_t version, const char *path)
{
	uint32_t bucket = bench_lookup(trial->bench, version, path + 1);
	unsigned char header[100];
	size_t length;
	sqlite3 *db;
	int64_t number;

	assert_ok(mojo_read(trial->bench->store, version, bucket, 0, header, sizeof(header), &length));
	assert_int_equal(length, sizeof(header));
	assert_int_equal(header[18], strcmp(trial->mode.journal, "WAL") == 0 ? 2 : 1);
	db = sql_view_open(view, path);
	assert_int_equal(sql_query(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
	assert_int_equal(sql_query(db, "SELECT sum(money) FROM account"), MONEY);
	number = sql_query(db, "SELECT number FROM counter");
	/* What a transaction writes at its end fits what it wrote first. */
	assert_int_equal(sql_query(db, "SELECT count(*) FROM big WHERE number <> (SELECT number FROM counter)"), 0);
	sql_close(db);
	return number;
}

static void check_version(struct trial *trial, uint32_t version, int64_t acknowledged, int64_t begun)
{
	struct sql_view *view = sql_view_new(trial->bench->store, version);
	bool is_wal = strcmp(trial->mode.journal, "WAL") == 0;
	enum settle_verdict verdict;
	char text[SETTLE_TEXT_SIZE];
	int64_t a, b;

	assert_no_side_files(trial, version);
	a = check_database(trial, view, version, "/a.db");
	b = check_database(trial, view, version, "/sub/b.db");
	sql_view_free(view);
	assert_ok(settle_quick_check(trial->bench->store, version, MOJO_ROOT_BUCKET, "a.db", NULL, &verdict, text));
	assert_int_equal(verdict, SETTLE_GOOD);

	assert_in_range(a, 0, begun);
	assert_in_range(b, 0, begun);
	/* A WAL is not synced at each transaction with NORMAL, and one transaction is two in two of them. */
	if (!is_wal || strcmp(trial->mode.synchronous, "FULL") == 0) {
		assert_true(a >= acknowledged);
		if (trial->mode.is_cross)
			assert_true(b >= acknowledged);
	}
	if (trial->mode.is_cross && !is_wal)
		assert_int_equal(a, b);
}

static void settle_pending(struct trial *trial)
{
	struct settle_options options = { .event = on_event };
	struct settle_file files[FILES];
	struct settle_result result;
	struct names names;

	list_names(trial, trial->pending, &names);
	for (unsigned i = 0; i < names.count; i++)
		files[i] = (struct settle_file){ names.side[i].dir, names.side[i].name };
	trial->super_journals += names.super_journals > 0;
	/* With a list, or by its own search. */
	if (dice_below(trial->dice, 2))
		assert_ok(settle_version(trial->bench->store, trial->pending, files, names.count, &options, &result));
	else
		assert_ok(settle_version(trial->bench->store, trial->pending, NULL, 0, &options, &result));
	assert_int_equal(result.left, 0);
	assert_int_equal(result.side_files, names.count);
	trial->rolled_back += (unsigned)result.rolled_back;
	trial->checkpointed += (unsigned)result.checkpointed;
	assert_ok(mojo_publish(trial->bench->store, trial->pending));
	check_version(trial, trial->pending, trial->pending_acknowledged, trial->pending_begun);
	assert_ok(mojo_version_drop(trial->bench->store, trial->pending));
	trial->pending = 0;
	trial->versions++;
}

static void freeze(struct trial *trial)
{
	static const unsigned sides[] = { 0, 1, 2, 4 };

	write_back_some(&trial->kernel, sides[dice_below(trial->dice, 4)]);
	assert_ok(mojo_freeze(trial->bench->store, "x", 1, NULL, NULL, &trial->pending));
	trial->pending_acknowledged = trial->acknowledged;
	trial->pending_begun = trial->begun;
}

/* At every change that the writer makes. */
static void on_tick(void *arg)
{
	struct trial *trial = arg;

	if (trial->until == 0 || --trial->until > 0)
		return;
	trial->until = 1 + dice_below(trial->dice, 60);
	if (trial->pending) {
		settle_pending(trial);
		return;
	}
	freeze(trial);
	if (dice_below(trial->dice, 2))
		settle_pending(trial);
}

static sqlite3 *open_writer(struct trial *trial)
{
	char sql[400];
	sqlite3 *db;

	assert_int_equal(sqlite3_open_v2(PREFIX "a.db", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "kernel"),
			 SQLITE_OK);
	snprintf(sql, sizeof(sql),
		 "PRAGMA temp_store=memory; ATTACH '" PREFIX "sub/b.db' AS b;"
		 "PRAGMA main.cache_size=3; PRAGMA b.cache_size=3; PRAGMA main.cache_spill=3; PRAGMA b.cache_spill=3;"
		 "%s"
		 "PRAGMA main.journal_mode=%s; PRAGMA b.journal_mode=%s;"
		 "PRAGMA main.synchronous=%s; PRAGMA b.synchronous=%s;",
		 strcmp(trial->mode.journal, "WAL") == 0 ? "PRAGMA locking_mode=EXCLUSIVE;" : "", trial->mode.journal,
		 trial->mode.journal, trial->mode.synchronous, trial->mode.synchronous);
	sql_run(db, sql);
	sqlite3_wal_autocheckpoint(db, 20);
	return db;
}

static void make_tables(sqlite3 *db)
{
	static const char *const schemas[] = { "main", "b" };
	char sql[600];

	for (size_t i = 0; i < 2; i++) {
		snprintf(sql, sizeof(sql),
			 "BEGIN;"
			 "CREATE TABLE %1$s.account(id INTEGER PRIMARY KEY, money INTEGER);"
			 "CREATE TABLE %1$s.counter(number INTEGER); INSERT INTO %1$s.counter VALUES(0);"
			 "CREATE TABLE %1$s.big(id INTEGER PRIMARY KEY, number INTEGER, data BLOB);"
			 "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %2$d)"
			 "INSERT INTO %1$s.account SELECT i, %3$d FROM n;"
			 "COMMIT;",
			 schemas[i], ACCOUNTS, MONEY / ACCOUNTS);
		sql_run(db, sql);
	}
}

/* One transaction in one database, or in both. */
static void transact(struct trial *trial, sqlite3 *db)
{
	bool is_large = dice_below(trial->dice, 4) == 0, is_kept = dice_below(trial->dice, 8) > 0;
	int64_t number = ++trial->begun;
	char sql[1000];

	sql_run(db, "BEGIN");
	for (unsigned i = 0; i < (trial->mode.is_cross ? 2u : 1u); i++) {
		const char *schema = i == 0 ? "main" : "b";

		snprintf(sql, sizeof(sql),
			 "UPDATE %1$s.account SET money = money - 7 WHERE id = %2$u;"
			 "DELETE FROM %1$s.big WHERE id %% 3 = %3$u;"
			 "UPDATE %1$s.big SET number = %4$" PRId64 ";"
			 "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %5$d)"
			 "INSERT INTO %1$s.big SELECT NULL, %4$" PRId64 ", randomblob(2500) FROM n;"
			 "UPDATE %1$s.counter SET number = %4$" PRId64 ";"
			 "UPDATE %1$s.account SET money = money + 7 WHERE id = %6$u;",
			 schema, 1 + dice_below(trial->dice, ACCOUNTS), dice_below(trial->dice, 3), number,
			 is_large ? 12 : 2, 1 + dice_below(trial->dice, ACCOUNTS));
		sql_run(db, sql);
	}
	sql_run(db, is_kept ? "COMMIT" : "ROLLBACK");
	if (is_kept)
		trial->acknowledged = number;
	if (!trial->mode.is_cross && is_kept && dice_below(trial->dice, 16) == 0) {
		sql_run(db, "DELETE FROM big");
		sql_run(db, "VACUUM");
	}
}

/* What the engine has is what the kernel has, once that has written back. */
static void assert_active(struct trial *trial)
{
	write_back_some(&trial->kernel, 0);
	for (size_t i = 0; i < FILES; i++) {
		struct kernel_file *file = &trial->kernel.files[i];
		uint8_t *data;
		size_t length;

		if (!file->path[0])
			continue;
		assert_int_equal(bench_lookup(trial->bench, MOJO_ACTIVE, file->path), file->bucket);
		assert_int_equal(bench_attr(trial->bench, MOJO_ACTIVE, file->bucket).size, file->size);
		data = malloc(file->size + 1);
		assert_ok(mojo_read(trial->bench->store, MOJO_ACTIVE, file->bucket, 0, data, file->size + 1, &length));
		assert_int_equal(length, file->size);
		assert_memory_equal(data, file->data, length);
		free(data);
	}
}

static void run_trial(struct bench *bench, struct dice *dice, struct mode mode, unsigned versions, struct trial *trial)
{
	sqlite3 *db;

	memset(trial, 0, sizeof(*trial));
	trial->bench = bench;
	trial->dice = dice;
	trial->mode = mode;
	kernel_init(&trial->kernel, bench, dice);
	trial->kernel.tick = on_tick;
	trial->kernel.arg = trial;
	bench_make(bench, MOJO_ROOT_BUCKET, "sub", S_IFDIR | 0755);
	db = open_writer(trial);
	make_tables(db);
	write_back_some(&trial->kernel, 0);
	trial->until = 1;
	while (trial->versions < versions)
		transact(trial, db);
	if (trial->pending)
		settle_pending(trial);
	trial->until = 0;
	assert_active(trial);
	sql_close(db);
	kernel_free(&trial->kernel);
}

static void test_any_moment_is_a_transaction_boundary(void **state)
{
	static const char *const journals[] = { "DELETE", "TRUNCATE", "PERSIST", "WAL" };
	static const char *const levels[] = { "FULL", "NORMAL" };
	struct dice dice = dice_new("moments");
	unsigned versions = test_is_long() ? 4000 : 60, super_journals = 0;

	(void)state;
	for (unsigned i = 0; i < 16; i++) {
		struct mode mode = { journals[i / 4], levels[i / 2 % 2], i % 2 };
		struct trial trial;
		void *bench;

		assert_int_equal(bench_setup(&bench), 0);
		run_trial(bench, &dice, mode, versions, &trial);
		print_message("%s, %s, %s: %u versions, %u rolled back, %u folded in, %u with a super-journal\n",
			      mode.journal, mode.synchronous, mode.is_cross ? "two databases" : "one database",
			      trial.versions, trial.rolled_back, trial.checkpointed, trial.super_journals);
		/* There was something to settle. */
		if (strcmp(mode.journal, "WAL") == 0)
			assert_true(trial.checkpointed > versions / 2);
		else
			assert_true(trial.rolled_back > versions / 8);
		super_journals += trial.super_journals;
		bench_teardown(&bench);
	}
	assert_true(super_journals > 0);
}

/* ---- crashes while it is settled, and what is left alone ------------------------------------------------- */

static void assert_recovered(struct bench *bench, uint32_t version, const char *name, int64_t rows)
{
	struct sql_view *view = sql_view_new(bench->store, version);
	char path[NAME];
	sqlite3 *db;

	for (unsigned i = 0; i < 2; i++) {
		struct mojo_attr attr;

		snprintf(path, sizeof(path), "%s%s", name, i ? "-wal" : "-journal");
		assert_errno(mojo_lookup(bench->store, version, MOJO_ROOT_BUCKET, path, &attr), ENOENT);
	}
	snprintf(path, sizeof(path), "/%s", name);
	db = sql_view_open(view, path);
	assert_int_equal(sql_query(db, "SELECT integrity_check = 'ok' FROM pragma_integrity_check"), 1);
	assert_int_equal(sql_query(db, "SELECT sum(length(x)) / 2000 FROM t"), rows);
	sql_close(db);
	sql_view_free(view);
}

/* One database is settled, all that was done is flushed or not, and the power fails. The next one begins again. */
static void test_a_crash_in_the_middle_is_made_good(void **state)
{
	struct bench *bench = *state;
	static const char *const names[] = { "a.db", "b.db", "c.db" };

	for (unsigned i = 0; i < 12; i++) {
		unsigned settled = i % 3, flush = i / 3 % 2;
		struct settle_file files[2];
		struct settle_result result;
		uint32_t version;

		assert_ok(mojo_io_memory_track(bench->io));
		for (unsigned n = 0; n < 3; n++)
			sql_make_dead(bench->store, names[n], n == 1, 40);
		assert_ok(mojo_freeze(bench->store, "x", 1, NULL, NULL, &version));
		bench_sync(bench);
		files[0] = (struct settle_file){ MOJO_ROOT_BUCKET, "a.db-journal" };
		files[1] = (struct settle_file){ MOJO_ROOT_BUCKET, "b.db-wal" };
		assert_ok(settle_version(bench->store, version, files, settled, NULL, &result));
		assert_int_equal(result.rolled_back + result.checkpointed, settled);
		if (flush)
			bench_sync(bench);
		if (i < 6)
			bench_power_cut(bench);
		else
			bench_crash(bench);
		bench_open(bench);
		assert_ok(mojo_io_memory_track(bench->io));
		assert_int_equal(mojo_unpublished(bench->store), version);
		assert_ok(settle_version(bench->store, version, NULL, 0, NULL, &result));
		assert_int_equal(result.left, 0);
		if (flush)
			assert_int_equal(result.rolled_back + result.checkpointed, 3 - settled);
		assert_ok(mojo_publish(bench->store, version));
		if (i < 6)
			bench_power_cut(bench);
		else
			bench_crash(bench);
		bench_open(bench);
		assert_int_equal(mojo_unpublished(bench->store), 0);
		for (unsigned n = 0; n < 3; n++)
			assert_recovered(bench, version, names[n], 40);
		for (unsigned n = 0; n < 3; n++) {
			static const char *const endings[] = { "", "-wal", "-journal" };

			for (unsigned k = 0; k < 3; k++) {
				char name[NAME];
				int error;

				snprintf(name, sizeof(name), "%s%s", names[n], endings[k]);
				error = mojo_unlink(bench->store, MOJO_ROOT_BUCKET, name);
				assert_true(error == 0 || error == -ENOENT);
			}
		}
	}
}

static void keep_event(void *arg, enum mojo_severity severity, const char *text)
{
	(void)severity;
	snprintf(arg, 1000, "%s", text);
}

/* Put @length bytes of @data into a new file. */
static uint32_t put(struct bench *bench, const char *name, const void *data, size_t length)
{
	uint32_t bucket = bench_file(bench, name);

	assert_ok(mojo_write(bench->store, bucket, 0, data, length));
	return bucket;
}

static void test_what_is_not_sqlite_is_left_alone(void **state)
{
	static const unsigned char hot[512] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7, 0, 0, 0, 1 };
	struct bench *bench = *state;
	char event[1000] = "", noise[5000];
	struct settle_options options = { .event = keep_event, .event_arg = event };
	struct settle_result result;
	struct mojo_attr attr;
	uint32_t version;

	bench_fill(noise, sizeof(noise), 1);
	put(bench, "noise", noise, sizeof(noise));
	put(bench, "noise-journal", hot, sizeof(hot));
	put(bench, "alone-journal", hot, sizeof(hot));
	put(bench, "empty-wal", hot, 0);
	put(bench, "text", "SQLite format 3", 16);
	put(bench, "text-wal", noise, 100);
	bench_make(bench, MOJO_ROOT_BUCKET, "directory", S_IFDIR | 0755);
	put(bench, "directory-wal", noise, 100);
	put(bench, "-journal", hot, sizeof(hot));
	assert_ok(mojo_freeze(bench->store, "x", 1, NULL, NULL, &version));
	assert_ok(settle_version(bench->store, version, NULL, 0, &options, &result));
	assert_int_equal(result.left, 3);
	assert_int_equal(result.rolled_back + result.checkpointed, 0);
	assert_non_null(strstr(event, "left as it was frozen"));
	assert_ok(mojo_publish(bench->store, version));
	for (unsigned i = 0; i < 2; i++) {
		uint32_t where = i ? version : MOJO_ACTIVE;

		bench_assert(bench, where, bench_lookup(bench, where, "noise"), 0, sizeof(noise), 1);
		assert_ok(mojo_lookup(bench->store, where, MOJO_ROOT_BUCKET, "noise-journal", &attr));
		assert_ok(mojo_lookup(bench->store, where, MOJO_ROOT_BUCKET, "alone-journal", &attr));
		assert_ok(mojo_lookup(bench->store, where, MOJO_ROOT_BUCKET, "empty-wal", &attr));
		assert_ok(mojo_lookup(bench->store, where, MOJO_ROOT_BUCKET, "text-wal", &attr));
		assert_ok(mojo_lookup(bench->store, where, MOJO_ROOT_BUCKET, "-journal", &attr));
	}
	assert_false(settle_is_side_file("-journal"));
	assert_false(settle_is_side_file("a.db-journal2"));
	assert_true(settle_is_side_file("a-wal"));
}

static void test_giving_up_leaves_it_to_the_next(void **state)
{
	struct bench *bench = *state;
	atomic_bool cancel = true;
	struct settle_options options = { .cancel = &cancel };
	struct settle_result result;
	uint32_t version;

	sql_make_dead(bench->store, "a.db", false, 10);
	assert_ok(mojo_freeze(bench->store, "x", 1, NULL, NULL, &version));
	assert_errno(settle_version(bench->store, version, NULL, 0, &options, &result), ECANCELED);
	assert_int_equal(result.rolled_back, 0);
	atomic_store(&cancel, false);
	assert_ok(settle_version(bench->store, version, NULL, 0, &options, &result));
	assert_int_equal(result.rolled_back, 1);
	assert_ok(mojo_publish(bench->store, version));
	assert_recovered(bench, version, "a.db", 10);
}

/* A disk that is full, or fails: never a version that is only half settled. */
static void test_a_change_that_fails_is_told(void **state)
{
	struct bench *bench = *state;
	struct settle_result result;
	uint32_t version;

	sql_make_dead(bench->store, "a.db", true, 600);
	assert_ok(mojo_freeze(bench->store, "x", 1, NULL, NULL, &version));
	bench_sync(bench);
	mojo_io_memory_fail(bench->io, 0, EIO, true);
	assert_int_not_equal(settle_version(bench->store, version, NULL, 0, NULL, &result), 0);
	mojo_io_memory_fail(bench->io, UINT64_MAX, 0, false);
	bench_crash(bench);
	bench_open(bench);
	assert_int_equal(mojo_unpublished(bench->store), version);
	assert_ok(settle_version(bench->store, version, NULL, 0, NULL, &result));
	assert_ok(mojo_publish(bench->store, version));
	assert_recovered(bench, version, "a.db", 600);
}

static void test_verdicts(void **state)
{
	struct bench *bench = *state;
	enum settle_verdict verdict;
	char text[SETTLE_TEXT_SIZE], noise[9000];
	struct sql_view *view = sql_view_new(bench->store, MOJO_ACTIVE);
	sqlite3 *db = sql_view_open(view, "/good.db");
	struct mojo_attr attr;
	uint32_t version, bucket;
	char *copy;
	size_t length;

	sql_run(db,
		"CREATE TABLE t(x PRIMARY KEY); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)"
		"INSERT INTO t SELECT hex(randomblob(100)) FROM n;");
	sql_close(db);
	sql_view_free(view);
	assert_ok(mojo_lookup(bench->store, MOJO_ACTIVE, MOJO_ROOT_BUCKET, "good.db", &attr));
	copy = malloc(attr.size);
	assert_ok(mojo_read(bench->store, MOJO_ACTIVE, attr.bucket, 0, copy, attr.size, &length));
	/* A page in its middle becomes another one. */
	memcpy(copy + 5 * BENCH_PAGE, copy + 9 * BENCH_PAGE, BENCH_PAGE);
	bucket = put(bench, "bad.db", copy, length);
	free(copy);
	assert_int_not_equal(bucket, attr.bucket);
	bench_fill(noise, sizeof(noise), 7);
	put(bench, "noise.db", noise, sizeof(noise));
	bench_file(bench, "empty.db");
	version = bench_commit(bench, "x");

	assert_ok(settle_quick_check(bench->store, version, MOJO_ROOT_BUCKET, "good.db", NULL, &verdict, text));
	assert_int_equal(verdict, SETTLE_GOOD);
	assert_string_equal(text, "");
	assert_ok(settle_quick_check(bench->store, version, MOJO_ROOT_BUCKET, "bad.db", NULL, &verdict, text));
	assert_int_equal(verdict, SETTLE_BAD);
	assert_true(strlen(text) > 10);
	assert_ok(settle_quick_check(bench->store, version, MOJO_ROOT_BUCKET, "noise.db", NULL, &verdict, text));
	assert_int_equal(verdict, SETTLE_OTHER);
	assert_ok(settle_quick_check(bench->store, version, MOJO_ROOT_BUCKET, "empty.db", NULL, &verdict, text));
	assert_int_equal(verdict, SETTLE_OTHER);
	assert_errno(settle_quick_check(bench->store, version, MOJO_ROOT_BUCKET, "none.db", NULL, &verdict, text),
		     ENOENT);
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(test_any_moment_is_a_transaction_boundary),
	BENCH_TEST(test_a_crash_in_the_middle_is_made_good),
	BENCH_TEST(test_what_is_not_sqlite_is_left_alone),
	BENCH_TEST(test_giving_up_leaves_it_to_the_next),
	BENCH_TEST(test_a_change_that_fails_is_told),
	BENCH_TEST(test_verdicts),
};

int main(void)
{
	return cmocka_run_group_tests(tests, NULL, NULL);
}
