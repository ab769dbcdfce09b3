/* SPDX-License-Identifier: MIT */
/*
 * What a disk that lies can make of a store: every byte flipped, one at a time; blocks zeroed, swapped, copied over
 * others, or as they were at an earlier time (a write that was lost); files cut, removed, or as they were at an
 * earlier time. After each such harm a store either refuses to open and says why, or every read of every
 * version gives what was written, or an error that is named by an event.
 *
 * What no store can tell, since it looks like a loss of power at the right moment, and is allowed here: harm to the
 * batch that was written last, or the loss of everything from some address on, gives the store as it was
 * before. Both are possible only until the next checkpoint.
 *
 * MOJO_TEST_LONG=1 takes all that the short form samples.
 */
#include "support/history.h"

#include <signal.h>
#include <unistd.h>

#include "format.h"

#define FILES_MAX 32

struct stored_file {
	char path[MOJO_CHUNK_PATH_BYTES];
	long chunk;    /* number; -1: none */
	uint8_t *data; /* owned */
	size_t length;
	size_t *blocks; /* owned; offsets of those that hold anything */
	size_t block_count;
};

/* A store that was brought about, with what it held from moment to moment. */
struct stage {
	struct mojo_geometry geometry;
	struct history history;
	struct mojo_io *io;    /* as it is found, whole */
	struct mojo_io **past; /* owned; the directory at each moment */
	struct stored_file files[FILES_MAX];
	size_t file_count;
	size_t before_last;          /* moment before the last batch */
	uint64_t last_from, last_to; /* addresses of the last batch; empty if a checkpoint followed it */

	uint64_t trials, refused, erring, rolled_back;
};

/* ---- bringing about -------------------------------------------------------------------------- */

struct maker {
	struct stage *stage;
	struct bench *bench;
};

static void note(struct maker *m)
{
	struct stage *stage = m->stage;
	history_note(&stage->history, m->bench->store);
	stage->past = realloc(stage->past, stage->history.count * sizeof(*stage->past));
	assert_non_null(stage->past);
	assert_ok(mojo_io_memory_clone(m->bench->io, &stage->past[stage->history.count - 1]));
}

static void sync_and_note(struct maker *m)
{
	bench_sync(m->bench);
	note(m);
}

/* A version that is changed after it was frozen. @bytes of pattern @tag go to page @page of @bucket in it. */
static uint32_t freeze_and_settle(struct maker *m, uint32_t bucket, uint64_t page, size_t bytes, uint64_t tag)
{
	struct mojo_store *store = m->bench->store;
	uint8_t *buf = malloc(bytes);
	uint32_t version;
	assert_non_null(buf);
	bench_fill(buf, bytes, tag);
	assert_ok(mojo_freeze(store, "to be settled", 13, NULL, NULL, &version));
	assert_ok(mojo_settle_write(store, version, bucket, page * BENCH_PAGE, buf, bytes));
	free(buf);
	return version;
}

static void commit_and_note(struct maker *m, const char *message)
{
	bench_commit(m->bench, message);
	note(m);
}

static void checkpoint_and_note(struct maker *m)
{
	bench_checkpoint(m->bench);
	note(m);
}

/* Versions that are kept, one of them settled, one dropped, one not published yet; several checkpoints, and a log
 * behind the last of them. */
static void make_small(struct maker *m)
{
	struct bench *b = m->bench;
	struct mojo_attr attr;
	uint32_t d = bench_make(b, MOJO_ROOT_BUCKET, "d", S_IFDIR | 0755);
	uint32_t a = bench_file(b, "a"), c = bench_make(b, d, "c", S_IFREG | 0600);
	assert_ok(mojo_symlink(b->store, MOJO_ROOT_BUCKET, "s", "d/c", 7, 8, &attr));
	bench_put(b, a, 0, 3 * BENCH_PAGE + 100, 1);
	bench_put(b, bench_file(b, "b"), 0, 10, 2);
	bench_put(b, c, 0, 100, 3);
	bench_put(b, c, 65 * BENCH_PAGE, 5000, 4); /* a slot further on */
	sync_and_note(m);
	commit_and_note(m, "one");
	bench_put(b, a, BENCH_PAGE + 7, 50, 5);
	assert_ok(mojo_unlink(b->store, MOJO_ROOT_BUCKET, "b"));
	assert_ok(mojo_rename(b->store, d, "c", MOJO_ROOT_BUCKET, "e", 0));
	sync_and_note(m);
	commit_and_note(m, "two");
	checkpoint_and_note(m);
	/* Settled over a checkpoint, while the active one goes on. */
	uint32_t version = freeze_and_settle(m, a, 1, 2 * BENCH_PAGE, 50);
	bench_put(b, a, 60, 70, 51);
	sync_and_note(m);
	checkpoint_and_note(m);
	attr.size = 66 * BENCH_PAGE;
	assert_ok(mojo_settle_setattr(b->store, version, c, MOJO_SET_SIZE, &attr, &attr));
	assert_ok(mojo_settle_unlink(b->store, version, MOJO_ROOT_BUCKET, "s"));
	assert_ok(mojo_publish(b->store, version));
	note(m);
	uint32_t f = bench_make(b, d, "f", S_IFREG | 0644);
	for (unsigned i = 0; i < 24; i++) /* more than a cell holds: a slot of its own */
		bench_put(b, f, i * 2 * BENCH_PAGE, BENCH_PAGE, 10 + i);
	sync_and_note(m);
	checkpoint_and_note(m);
	bench_put(b, a, 0, 20, 6);
	assert_ok(bench_resize(b, c, 66 * BENCH_PAGE));
	commit_and_note(m, "three");
	assert_ok(mojo_version_drop(b->store, 2));
	note(m);
	checkpoint_and_note(m);
	bench_put(b, f, 2 * BENCH_PAGE, 3 * BENCH_PAGE, 7);
	bench_put(b, bench_file(b, "g"), 0, 2 * BENCH_PAGE, 8);
	sync_and_note(m);
	uint64_t copied; /* pages and a slot that two files share, one of which is then written to */
	uint32_t h = bench_file(b, "h");
	assert_ok(mojo_copy(b->store, 1, a, 0, h, 0, UINT64_MAX, &copied));
	assert_ok(mojo_copy(b->store, MOJO_ACTIVE, f, 0, bench_file(b, "i"), 0, UINT64_MAX, &copied));
	sync_and_note(m);
	bench_put(b, h, BENCH_PAGE, BENCH_PAGE, 11);
	sync_and_note(m);
	commit_and_note(m, "four");
	bench_put(b, a, 2 * BENCH_PAGE, 30, 9);
	sync_and_note(m);
	assert_ok(mojo_unlink(b->store, d, "f"));
	bench_put(b, a, 100, 30, 10);
	sync_and_note(m);
	/* And one that is left unpublished, settled in the last batch and in the one before. */
	version = freeze_and_settle(m, a, 0, BENCH_PAGE + 10, 60);
	sync_and_note(m);
	assert_ok(mojo_settle_unlink(b->store, version, MOJO_ROOT_BUCKET, "g"));
	assert_ok(mojo_settle_write(b->store, version, a, 5, "settled", 7));
	bench_put(b, a, 200, 30, 11);
	sync_and_note(m);
}

/* Many chunks: what is overwritten dies, chunks are recycled and removed, versions come and go. */
static void make_recycled(struct maker *m)
{
	struct bench *b = m->bench;
	uint32_t big = bench_file(b, "big"), keep = bench_file(b, "keep");
	bench_put(b, keep, 0, 9 * BENCH_PAGE, 1);
	sync_and_note(m);
	commit_and_note(m, "first");
	for (unsigned round = 0; round < 20; round++) {
		/* Parts of several chunks stay in use, so that some are punched and some go. */
		bench_put(b, big, 0, 2 << 20, 100 + round);
		bench_put(b, keep, round * BENCH_PAGE, BENCH_PAGE, 200 + round);
		sync_and_note(m);
		if (round % 4 == 1)
			commit_and_note(m, "round");
		if (round == 8) {
			assert_ok(mojo_version_drop(b->store, 2));
			note(m);
		}
		if (round < 12) /* behind that the log goes through several chunks */
			checkpoint_and_note(m);
	}
	bench_put(b, keep, 5, 50, 3);
	sync_and_note(m);
}

static long chunk_of(const char *name)
{
	return strncmp(name, MOJO_CHUNK_DIR "/", 7) == 0 ? (long)mojo_chunk_number(name + 7) : -1;
}

struct lister {
	struct stage *stage;
	const char *dir;
};

static int add_file(void *arg, const char *name)
{
	struct lister *lister = arg;
	struct stage *stage = lister->stage;
	if (strcmp(name, MOJO_CHUNK_DIR) == 0)
		return 0;
	struct stored_file *file = &stage->files[stage->file_count++];
	assert_true(stage->file_count <= FILES_MAX);
	snprintf(file->path, sizeof(file->path), "%s%s%s", lister->dir, *lister->dir ? "/" : "", name);
	file->chunk = chunk_of(file->path);
	return 0;
}

static bool holds_anything(const uint8_t *p, size_t length)
{
	for (size_t i = 0; i < length; i++)
		if (p[i])
			return true;
	return false;
}

static void look_at_files(struct stage *stage)
{
	struct lister top = { stage, "" }, chunks = { stage, MOJO_CHUNK_DIR };
	assert_ok(stage->io->ops->list(stage->io, "", add_file, &top));
	assert_ok(stage->io->ops->list(stage->io, MOJO_CHUNK_DIR, add_file, &chunks));
	for (size_t i = 0; i < stage->file_count; i++) {
		struct stored_file *file = &stage->files[i];
		void *data;
		assert_ok(mojo_io_memory_load(stage->io, file->path, &data, &file->length));
		file->data = data;
		file->blocks = calloc(file->length / BENCH_PAGE + 1, sizeof(*file->blocks));
		assert_non_null(file->blocks);
		for (size_t at = 0; at < file->length; at += BENCH_PAGE) {
			size_t part = file->length - at < BENCH_PAGE ? file->length - at : BENCH_PAGE;
			if (holds_anything(file->data + at, part))
				file->blocks[file->block_count++] = at;
		}
	}
}

enum ending { CRASHED, CLOSED };

static struct stage *stage_new(void (*make)(struct maker *m), enum ending ending)
{
	struct stage *stage = calloc(1, sizeof(*stage));
	void *state;
	assert_non_null(stage);
	bench_setup(&state);
	struct maker m = { .stage = stage, .bench = state };
	make(&m);
	stage->geometry = m.bench->geometry;
	if (ending == CLOSED) {
		bench_close(m.bench);
		bench_open(m.bench);
		checkpoint_and_note(&m);
	} else {
		stage->last_from = stage->history.moments[stage->history.count - 2].tail;
		stage->last_to = stage->history.moments[stage->history.count - 1].tail;
	}
	stage->before_last = stage->history.count - 2;
	bench_crash(m.bench);
	assert_ok(mojo_io_memory_clone(m.bench->io, &stage->io));
	bench_teardown(&state);
	look_at_files(stage);
	return stage;
}

static void stage_free(struct stage *stage)
{
	for (size_t i = 0; i < stage->history.count; i++)
		mojo_io_free(stage->past[i]);
	for (size_t i = 0; i < stage->file_count; i++) {
		free(stage->files[i].data);
		free(stage->files[i].blocks);
	}
	free(stage->past);
	history_free(&stage->history);
	mojo_io_free(stage->io);
	free(stage);
}

/* ---- looking --------------------------------------------------------------------------------- */

struct told {
	unsigned count;
	unsigned naming; /* of them, those that say more than that there is damage */
	char text[1024]; /* the last ones */
};

static void on_event(void *arg, enum mojo_severity severity, const char *text)
{
	struct told *told = arg;
	size_t used = strlen(told->text);
	(void)severity;
	told->count++;
	told->naming += strncmp(text, "the store is damaged and was not opened", 39) != 0;
	if (used + strlen(text) + 2 < sizeof(told->text))
		snprintf(told->text + used, sizeof(told->text) - used, "%s\n", text);
}

/* What an endless loop would be known by: a trial takes a few milliseconds. */
static char trial_name[256];

static void on_alarm(int signal)
{
	static const char text[] = "a trial does not end: ";
	(void)signal;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0 ||
	    write(STDERR_FILENO, trial_name, strlen(trial_name)) < 0)
		_exit(3);
	abort();
}

static void may_refuse(int err, const struct told *told)
{
	if (err != -EUCLEAN && err != -EIO && err != -ENOENT)
		fail_msg("%s: the store does not open, and says %s", trial_name, strerror(-err));
	if (!told->naming)
		fail_msg("%s: the store does not open, and nothing says why", trial_name);
}

/*
 * Open the store in @io, as a writer and, if that is refused, as a reader, and hold all of it against the moments
 * @first to the last one. A reader of a store that a writer would refuse may see any earlier moment.
 */
static void look(struct stage *stage, struct mojo_io *io, size_t first)
{
	struct mojo_config config = {
		.cache_bytes = 64u << 20,
		.checkpoint_bytes = 1ull << 40,
		.flush_ms = UINT32_MAX,
		.no_background = true,
		.event = on_event,
	};
	size_t last = stage->history.count - 1;
	alarm(60);
	stage->trials++;
	for (int as_reader = 0; as_reader < 2; as_reader++) {
		struct told told = { 0 };
		struct mojo_store *store;
		char why[512] = "";
		unsigned errors;
		config.read_only = as_reader;
		config.event_arg = &told;
		int err = mojo_open(io, &config, &store);
		if (err) {
			may_refuse(err, &told);
			stage->refused += !as_reader;
			continue;
		}
		bool damage_named = told.count > 0;
		long found =
			history_compare(&stage->history, store, as_reader ? 0 : first, last, &errors, why, sizeof(why));
		if (found < 0)
			fail_msg("%s: %s; it said: %s", trial_name, why, told.text);
		if (errors && !told.count)
			fail_msg("%s: %u reads gave an error, and nothing says why", trial_name, errors);
		if (as_reader && (size_t)found < first && !damage_named)
			fail_msg("%s: an older state is shown, and nothing says so", trial_name);
		stage->erring += errors > 0;
		stage->rolled_back += (size_t)found < last && !as_reader;
		mojo_abandon(store);
		break;
	}
	alarm(0);
}

/* ---- going on: what the engine makes of it when it is used, too ------------------------------ */

/* Write, commit and checkpoint on the harmed store; whatever fails, what was frozen before stays what it was. */
static void use(struct stage *stage, struct mojo_io *io, size_t first)
{
	struct told told = { 0 };
	struct mojo_config config = {
		.checkpoint_bytes = 1ull << 40,
		.flush_ms = UINT32_MAX,
		.no_background = true,
		.event = on_event,
		.event_arg = &told,
	};
	struct mojo_store *store;
	struct mojo_attr attr;
	uint8_t mine[5000], got[5000];
	size_t length;
	uint32_t version;
	bool committed = false;
	char why[512] = "";
	unsigned errors;
	alarm(60);
	if (mojo_open(io, &config, &store) != 0) {
		alarm(0);
		return;
	}
	long found =
		history_compare(&stage->history, store, first, stage->history.count - 1, &errors, why, sizeof(why));
	assert_true(found >= 0);
	const struct moment *moment = &stage->history.moments[found];
	bench_fill(mine, sizeof(mine), 99);
	int err = mojo_mknod(store, MOJO_ROOT_BUCKET, "mine", S_IFREG | 0644, 0, 0, 0, &attr);
	if (!err)
		err = mojo_write(store, attr.bucket, 3, mine, sizeof(mine));
	if (!err && mojo_resolve(store, MOJO_ACTIVE, "a", &attr) == 0)
		mojo_write(store, attr.bucket, 4090, mine, 20); /* in pages that may be harmed */
	if (!err)
		mojo_unlink(store, MOJO_ROOT_BUCKET, "e");
	if (mojo_unpublished(store))
		mojo_publish(store, mojo_unpublished(store));
	if (!err)
		committed = mojo_commit(store, "mine", 4, &version) == 0;
	mojo_version_drop(store, 1);
	mojo_checkpoint(store);
	mojo_checkpoint(store);
	mojo_close(store);
	if (mojo_open(io, &config, &store) == 0) {
		for (size_t i = 0; i + 1 < moment->count; i++) {
			const struct kept_version *kept = &moment->versions[i];
			if (kept->info.version != 1 &&
			    !history_compare_version(kept->picture, store, kept->info.version, &errors, why,
						     sizeof(why)))
				fail_msg("%s, and the store was used: %s", trial_name, why);
		}
		if (committed && mojo_resolve(store, version, "mine", &attr) == 0 &&
		    mojo_read(store, version, attr.bucket, 3, got, sizeof(got), &length) == 0)
			assert_true(length == sizeof(got) && memcmp(got, mine, sizeof(got)) == 0);
		mojo_abandon(store);
	}
	alarm(0);
}

/* ---- harm ------------------------------------------------------------------------------------ */

static void name_trial(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void name_trial(const char *format, ...)
{
	va_list list;
	va_start(list, format);
	vsnprintf(trial_name, sizeof(trial_name), format, list);
	va_end(list);
}

static struct mojo_io *copy(const struct stage *stage)
{
	struct mojo_io *io;
	assert_ok(mojo_io_memory_clone(stage->io, &io));
	return io;
}

/* Look, then, now and then, go on with it; @io is used up. */
static void judge(struct stage *stage, struct mojo_io *io, size_t first)
{
	look(stage, io, first);
	if (stage->trials % (test_is_long() ? 4 : 16) == 0)
		use(stage, io, first);
	mojo_io_free(io);
}

static bool in_last_batch(const struct stage *stage, const struct stored_file *file, size_t offset)
{
	uint64_t address = (uint64_t)file->chunk * BENCH_PER_CHUNK + offset / BENCH_PAGE;
	return file->chunk >= 0 && address >= stage->last_from && address < stage->last_to;
}

/* The earliest moment that harm at @offset of @file may take the store back to. */
static size_t earliest(const struct stage *stage, const struct stored_file *file, size_t offset)
{
	return in_last_batch(stage, file, offset) ? stage->before_last : stage->history.count - 1;
}

/* The same if everything from @address on is lost: as of any batch that ended before. */
static size_t earliest_cut(const struct stage *stage, uint64_t address)
{
	size_t m = stage->history.count - 1;
	while (m > 0 && stage->history.moments[m].tail > address)
		m--;
	return m;
}

/* The same if two blocks are harmed. With the last batch gone there is nothing that vouches for the one before. */
static size_t earliest_both(const struct stage *stage, const struct stored_file *one, size_t from,
			    const struct stored_file *two, size_t to)
{
	bool first = in_last_batch(stage, one, from), second = in_last_batch(stage, two, to);
	if (!first && !second)
		return stage->history.count - 1;
	const struct stored_file *other = first ? two : one;
	uint64_t address = (uint64_t)other->chunk * BENCH_PER_CHUNK + (first ? to : from) / BENCH_PAGE;
	size_t m = other->chunk < 0 ? stage->before_last : earliest_cut(stage, address);
	return m < stage->before_last ? m : stage->before_last;
}

static void put_block(struct mojo_io *io, const char *path, size_t offset, const void *data, size_t length)
{
	struct mojo_io_file *file;
	struct iovec vector = { (void *)(uintptr_t)data, length };
	assert_ok(io->ops->open(io, path, MOJO_IO_WRITE, &file));
	assert_ok(io->ops->write(file, &vector, 1, offset));
	io->ops->close(file);
}

static size_t block_length(const struct stored_file *file, size_t offset)
{
	return file->length - offset < BENCH_PAGE ? file->length - offset : BENCH_PAGE;
}

/* Is the block a page of some file? Then all its bytes are alike, and the short form takes some of them. */
static bool is_content(const struct stored_file *file, size_t offset)
{
	const uint8_t *p = file->data + offset;
	return file->chunk >= 0 && memcmp(p, "MOJOGRUP", 8) != 0 && memcmp(p, "MNOD", 4) != 0 &&
	       mojo_get32(p) != 0xfd2fb528u;
}

static void flip_bytes(struct stage *stage, size_t step, size_t content_step)
{
	for (size_t f = 0; f < stage->file_count; f++) {
		struct stored_file *file = &stage->files[f];
		for (size_t b = 0; b < file->block_count; b++) {
			size_t from = file->blocks[b], to = from + block_length(file, from);
			size_t by = is_content(file, from) ? content_step : step;
			/* Zeros that fill a block up are alike, too. */
			while (!test_is_long() && to > from + 64 && !holds_anything(file->data + to - 32, 32))
				to -= 32;
			for (size_t at = from; at < to; at += by) {
				struct mojo_io *io = copy(stage);
				name_trial("%s, byte %zu flipped", file->path, at);
				assert_ok(mojo_io_memory_flip(io, file->path, at, (unsigned char)(1u << at % 8)));
				judge(stage, io, earliest(stage, file, at));
			}
		}
	}
}

static void harm_blocks(struct stage *stage, size_t step)
{
	static const uint8_t zeros[BENCH_PAGE];
	uint8_t noise[BENCH_PAGE];
	bench_fill(noise, sizeof(noise), 4711);
	for (size_t f = 0; f < stage->file_count; f++) {
		struct stored_file *file = &stage->files[f];
		for (size_t b = 0; b < file->block_count; b += step) {
			size_t at = file->blocks[b], length = block_length(file, at);
			struct mojo_io *io = copy(stage);
			name_trial("%s, block at %zu zeroed", file->path, at);
			put_block(io, file->path, at, zeros, length);
			judge(stage, io, earliest(stage, file, at));
			io = copy(stage);
			name_trial("%s, block at %zu overwritten with noise", file->path, at);
			put_block(io, file->path, at, noise, length);
			judge(stage, io, earliest(stage, file, at));
			io = copy(stage);
			name_trial("%s, block at %zu half written", file->path, at);
			put_block(io, file->path, at + length / 2 / 512 * 512, zeros, length - length / 2 / 512 * 512);
			judge(stage, io, earliest(stage, file, at));
		}
	}
}

/* Blocks of one file change places, or one lands in the place of another; within a file and between files. */
static void misplace_blocks(struct stage *stage, size_t step)
{
	size_t turn = 0;
	for (size_t f = 0; f < stage->file_count; f++) {
		for (size_t g = 0; g < stage->file_count; g++) {
			struct stored_file *one = &stage->files[f], *two = &stage->files[g];
			for (size_t i = 0; i < one->block_count; i++) {
				for (size_t k = 0; k < two->block_count; k++) {
					size_t from = one->blocks[i], to = two->blocks[k];
					if ((f == g && i == k) || turn++ % step)
						continue;
					size_t length = block_length(one, from), there = block_length(two, to);
					struct mojo_io *io = copy(stage);
					name_trial("%s, block at %zu written to %s at %zu", one->path, from, two->path,
						   to);
					put_block(io, two->path, to, one->data + from, length);
					judge(stage, io, earliest(stage, two, to));
					if (f > g || (f == g && i > k))
						continue;
					io = copy(stage);
					name_trial("%s, block at %zu swapped with %s at %zu", one->path, from,
						   two->path, to);
					put_block(io, two->path, to, one->data + from, length);
					put_block(io, one->path, from, two->data + to, there);
					judge(stage, io, earliest_both(stage, one, from, two, to));
				}
			}
		}
	}
}

/* Each block as it was at an earlier moment: a write that the disk acknowledged and lost. */
static void stale_blocks(struct stage *stage, size_t step)
{
	size_t turn = 0;
	for (size_t f = 0; f < stage->file_count; f++) {
		struct stored_file *file = &stage->files[f];
		for (size_t m = 0; m + 1 < stage->history.count; m++) {
			void *loaded;
			size_t length;
			if (mojo_io_memory_load(stage->past[m], file->path, &loaded, &length) != 0)
				continue;
			uint8_t *old = calloc(1, length > file->length ? length : file->length + 1);
			assert_non_null(old);
			memcpy(old, loaded, length);
			free(loaded);
			for (size_t b = 0; b < file->block_count; b++) {
				size_t at = file->blocks[b], part = block_length(file, at);
				if (memcmp(old + at, file->data + at, part) == 0 || turn++ % step)
					continue;
				struct mojo_io *io = copy(stage);
				name_trial("%s, block at %zu as it was at moment %zu", file->path, at, m);
				put_block(io, file->path, at, old + at, part);
				judge(stage, io, earliest(stage, file, at));
			}
			free(old);
		}
	}
}

/* Is there content in chunks behind @chunk? Then what is lost before them is missed. */
static bool is_last_chunk(const struct stage *stage, long chunk)
{
	for (size_t f = 0; f < stage->file_count; f++)
		if (stage->files[f].chunk > chunk && stage->files[f].block_count)
			return false;
	return true;
}

static size_t earliest_from(const struct stage *stage, const struct stored_file *file, size_t offset)
{
	if (file->chunk < 0 || !is_last_chunk(stage, file->chunk))
		return file->chunk < 0 ? stage->history.count - 1 : earliest(stage, file, offset);
	return earliest_cut(stage, (uint64_t)file->chunk * BENCH_PER_CHUNK + offset / BENCH_PAGE);
}

static void cut_files(struct stage *stage, size_t step)
{
	for (size_t f = 0; f < stage->file_count; f++) {
		struct stored_file *file = &stage->files[f];
		for (size_t b = 0; b < file->block_count; b += step) {
			static const size_t within[] = { 0, 1, 512, 4095 };
			for (size_t w = 0; w < sizeof(within) / sizeof(*within); w++) {
				size_t at = file->blocks[b] + within[w];
				if (at >= file->length)
					continue;
				struct mojo_io *io = copy(stage);
				name_trial("%s cut at %zu", file->path, at);
				assert_ok(mojo_io_memory_replace(io, file->path, file->data, at));
				judge(stage, io, earliest_from(stage, file, at));
			}
		}
		struct mojo_io *io = copy(stage);
		name_trial("%s removed", file->path);
		assert_ok(io->ops->unlink(io, file->path));
		judge(stage, io, earliest_from(stage, file, 0));
	}
}

/* Each file as it was at an earlier moment, among the others as they are. */
static void old_files(struct stage *stage)
{
	for (size_t f = 0; f < stage->file_count; f++) {
		struct stored_file *file = &stage->files[f];
		for (size_t m = 0; m + 1 < stage->history.count; m++) {
			void *loaded;
			size_t length, first = stage->history.count - 1;
			if (mojo_io_memory_load(stage->past[m], file->path, &loaded, &length) != 0)
				continue;
			struct mojo_io *io = copy(stage);
			name_trial("%s as it was at moment %zu", file->path, m);
			assert_ok(mojo_io_memory_replace(io, file->path, loaded, length));
			free(loaded);
			if (file->chunk >= 0 && is_last_chunk(stage, file->chunk))
				first = m;
			else if (stage->last_from / BENCH_PER_CHUNK == (uint64_t)file->chunk)
				first = stage->before_last;
			judge(stage, io, first);
		}
	}
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void say(const struct stage *stage, const char *what)
{
	print_message("%s: %" PRIu64 " trials: %" PRIu64 " refused, %" PRIu64 " with errors, %" PRIu64
		      " without the last batches, the others whole; %zu moments, %zu files\n",
		      what, stage->trials, stage->refused, stage->erring, stage->rolled_back, stage->history.count,
		      stage->file_count);
}

static void run(void (*make)(struct maker *m), enum ending ending, const char *what, size_t bytes, size_t content_bytes,
		size_t blocks, size_t pairs, size_t stale)
{
	struct stage *stage = stage_new(make, ending);
	name_trial("unharmed");
	judge(stage, copy(stage), stage->history.count - 1);
	assert_int_equal(stage->refused + stage->erring, 0);
	flip_bytes(stage, bytes, content_bytes);
	harm_blocks(stage, blocks);
	misplace_blocks(stage, pairs);
	stale_blocks(stage, stale);
	cut_files(stage, blocks);
	old_files(stage);
	say(stage, what);
	stage_free(stage);
}

static void test_a_crashed_store(void **state)
{
	(void)state;
	if (test_is_long())
		run(make_small, CRASHED, "crashed", 1, 1, 1, 1, 1);
	else
		run(make_small, CRASHED, "crashed", 2 * TEST_SLOWNESS, 251, 1 * TEST_SLOWNESS, 29, 1);
}

static void test_a_closed_store(void **state)
{
	(void)state;
	if (test_is_long())
		run(make_small, CLOSED, "closed", 1, 1, 1, 1, 1);
	else
		run(make_small, CLOSED, "closed", 7 * TEST_SLOWNESS, 509, 1 * TEST_SLOWNESS, 101, 3);
}

static void test_a_store_with_recycled_chunks(void **state)
{
	(void)state;
	if (test_is_long())
		run(make_recycled, CRASHED, "recycled", 7, 1009, 3, 5003, 3);
	else
		run(make_recycled, CRASHED, "recycled", 1511 * TEST_SLOWNESS, 40009, 127 * TEST_SLOWNESS, 300007, 401);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_crashed_store),
		cmocka_unit_test(test_a_closed_store),
		cmocka_unit_test(test_a_store_with_recycled_chunks),
	};
	signal(SIGALRM, on_alarm);
	return cmocka_run_group_tests_name("lies of the disk", tests, NULL, NULL);
}
