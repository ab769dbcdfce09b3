/* SPDX-License-Identifier: MIT */
/*
 * Every call that can fail, failing: the k-th modifying operation of the disk, the k-th other one, the k-th request
 * for disk space, the k-th allocation of memory; once and for good; for k = 0, 1, 2, ... until none is left.
 *
 * A script of small steps runs first without faults, on a clock of its own, and what the store holds is noted after
 * each step. Then it runs again from the same beginning, a store that crashed and must replay its log, once for
 * each k. Whatever failed:
 *
 *   - the step that met it says so, and the store holds what it held before the step (or, if the store refuses
 *     changes from then on, what it held before or after);
 *   - reads go on and are never wrong;
 *   - if the store goes on, so does the script, and ends where it ended without faults;
 *   - after a crash, or a loss of power, the store is as after one of the steps, none earlier than the last that was
 *     made durable.
 *
 * MOJO_TEST_LONG=1 tries every k where the short form skips some, with several scripts.
 */
#include "support/history.h"

#include "format.h"

#define STEPS_MAX 128

/* ---- allocations that fail: the linker leads malloc() and its like of the engine here ---------- */

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);

/* One counter of chances to fail. Tests are single-threaded while it is armed. */
struct fault {
	bool armed;     /* the engine is at work, and may meet it */
	bool lasting;   /* all later ones fail, too */
	uint64_t after; /* so many succeed first; UINT64_MAX: all */
	uint64_t seen;
	bool struck;
};

static struct fault memory_fault; /* the functions below have no other way to know */

static bool strikes(struct fault *fault)
{
	if (!fault->armed)
		return false;
	uint64_t turn = fault->seen++;
	bool now = turn == fault->after || (turn > fault->after && fault->lasting);
	fault->struck |= now;
	return now;
}

void *__wrap_malloc(size_t bytes)
{
	return strikes(&memory_fault) ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return strikes(&memory_fault) ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
	return strikes(&memory_fault) ? NULL : __real_realloc(old, bytes);
}

/* ---- a disk with a clock of its own ----------------------------------------------------------- */

enum fault_kind {
	NO_FAULT,
	CHANGING, /* write, flush, rename, ...: the k-th fails, a write half done */
	LOOKING,  /* read, open, list, size */
	SPACE,    /* the disk is full at the k-th request for space */
	MEMORY,
};

/* Bound to the one io that is in use: the table of operations has no room for more. */
static struct disk {
	const struct mojo_io_ops *under; /* of the in-memory io */
	struct mojo_io_ops ops;
	int64_t now_ns;
	struct fault looking, space;
} disk;

static int64_t disk_now(struct mojo_io *io)
{
	(void)io;
	return disk.now_ns;
}

static int disk_read(struct mojo_io_file *file, void *buf, size_t length, uint64_t offset, size_t *ret_length)
{
	return strikes(&disk.looking) ? -EIO : disk.under->read(file, buf, length, offset, ret_length);
}

static int disk_open(struct mojo_io *io, const char *path, int flags, struct mojo_io_file **ret_file)
{
	return !(flags & MOJO_IO_CREATE) && strikes(&disk.looking) ? -EIO : disk.under->open(io, path, flags, ret_file);
}

static int disk_size(struct mojo_io_file *file, uint64_t *ret_bytes, uint64_t *ret_disk_bytes)
{
	return strikes(&disk.looking) ? -EIO : disk.under->size(file, ret_bytes, ret_disk_bytes);
}

static int disk_list(struct mojo_io *io, const char *path, mojo_io_list_fn *fn, void *arg)
{
	return strikes(&disk.looking) ? -EIO : disk.under->list(io, path, fn, arg);
}

static int disk_allocate(struct mojo_io_file *file, uint64_t offset, uint64_t length)
{
	return strikes(&disk.space) ? -ENOSPC : disk.under->allocate(file, offset, length);
}

/* Not random: the same ids and epochs in every run. */
static int disk_random(struct mojo_io *io, void *buf, size_t length)
{
	static uint64_t turn;
	(void)io;
	bench_fill(buf, length, ++turn);
	return 0;
}

static void use_disk(struct mojo_io *io)
{
	if (!disk.under) {
		disk.under = io->ops;
		disk.ops = *io->ops;
		disk.ops.now_ns = disk_now;
		disk.ops.read = disk_read;
		disk.ops.open = disk_open;
		disk.ops.size = disk_size;
		disk.ops.list = disk_list;
		disk.ops.allocate = disk_allocate;
		disk.ops.random = disk_random;
	}
	io->ops = &disk.ops;
}

/* ---- the script ------------------------------------------------------------------------------- */

enum step_kind {
	MAKE,
	MAKE_DIR,
	LINK,
	WRITE,
	WRITE_MANY,
	RESIZE,
	PUNCH,
	REMOVE,
	REMOVE_DIR,
	RENAME,
	CHMOD,
	FREEZE,
	SETTLE_WRITE, /* in the unpublished version, as the next two */
	SETTLE_RESIZE,
	SETTLE_REMOVE, /* not durable by themselves, up to here */
	SYNC,
	PUBLISH,
	COMMIT,
	DROP,
	CHECKPOINT,
};

struct step {
	enum step_kind kind;
	char path[16], to[16];
	uint64_t offset;
	size_t length;
	uint64_t number;
	int expected; /* what it returns without faults */
};

struct script {
	struct step steps[STEPS_MAX];
	size_t count;
	size_t settling; /* of those under faults that changed an unpublished version */
	size_t from;     /* of the first one that runs under faults; what came before is in the beginning */
};

static bool is_settling(enum step_kind kind)
{
	return kind >= SETTLE_WRITE && kind <= SETTLE_REMOVE;
}

static void script_make(struct script *script, struct dice *dice, size_t count, size_t from)
{
	static const enum step_kind often[] = {
		MAKE,          MAKE,          MAKE_DIR, LINK,    WRITE,        WRITE,        WRITE,        WRITE,
		WRITE_MANY,    WRITE_MANY,    RESIZE,   PUNCH,   REMOVE,       REMOVE,       REMOVE_DIR,   RENAME,
		RENAME,        CHMOD,         SYNC,     SYNC,    SYNC,         COMMIT,       COMMIT,       DROP,
		CHECKPOINT,    FREEZE,        FREEZE,   FREEZE,  SETTLE_WRITE, SETTLE_WRITE, SETTLE_WRITE, SETTLE_WRITE,
		SETTLE_RESIZE, SETTLE_REMOVE, PUBLISH,  PUBLISH,
	};
	bool frozen = false;
	*script = (struct script){ .count = count, .from = from };
	for (size_t i = 0; i < count; i++) {
		struct step *step = &script->steps[i];
		step->kind = i < 6 ? MAKE : often[dice_below(dice, sizeof(often) / sizeof(*often))];
		/* Most of the settling is to find something to settle. */
		if (is_settling(step->kind) || step->kind == PUBLISH)
			step->kind = frozen ? step->kind : FREEZE;
		else if (step->kind == FREEZE && frozen)
			step->kind = SETTLE_WRITE;
		if (step->kind == FREEZE || step->kind == PUBLISH)
			frozen = step->kind == FREEZE;
		const char *dir = i >= 6 && dice_below(dice, 3) == 0 ? "d/" : "";
		snprintf(step->path, sizeof(step->path), "%s%c", dir, 'e' + (int)dice_below(dice, 6));
		snprintf(step->to, sizeof(step->to), "%s%c", dice_below(dice, 3) ? "" : "d/",
			 'e' + (int)dice_below(dice, 6));
		if (step->kind == MAKE_DIR || step->kind == REMOVE_DIR)
			snprintf(step->path, sizeof(step->path), "d");
		step->offset = (dice_below(dice, 3) ? dice_below(dice, 12) : 60 + dice_below(dice, 20)) *
				       (uint64_t)BENCH_PAGE +
			       dice_below(dice, 2000);
		step->length = 1 + dice_below(dice, 2000);
		if (step->kind == WRITE_MANY)
			step->length += dice_below(dice, 30) * BENCH_PAGE;
		step->number = i;
	}
}

/* The directory and the last name of a path; both in the active version. */
static int parent_of(struct mojo_store *store, const char *path, uint32_t *ret_dir, const char **ret_name)
{
	const char *slash = strchr(path, '/');
	char dir[16] = "";
	struct mojo_attr attr;
	if (slash)
		snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	int err = mojo_resolve(store, MOJO_ACTIVE, dir, &attr);
	*ret_dir = attr.bucket;
	*ret_name = slash ? slash + 1 : path;
	return err;
}

/* A step in the unpublished version is on a file that is there, if any is. */
static void choose_file(struct mojo_store *store, struct step *step)
{
	uint32_t version = mojo_unpublished(store);
	struct mojo_attr attr;
	if (!version || !is_settling(step->kind))
		return;
	for (char c = 'e'; mojo_resolve(store, version, step->path, &attr) == -ENOENT && c < 'e' + 6; c++)
		snprintf(step->path, sizeof(step->path), "%c", c);
}

/* A step in the unpublished version; -ENOENT if there is none. */
static int settle(struct mojo_store *store, const struct step *step)
{
	static uint8_t buf[2 * BENCH_PAGE];
	struct mojo_attr attr, change = { .size = step->offset + step->length };
	uint32_t version = mojo_unpublished(store);
	const char *slash = strchr(step->path, '/');
	int err = version ? mojo_resolve(store, version, step->path, &attr) : -ENOENT;
	if (err)
		return err;
	switch (step->kind) {
	case SETTLE_WRITE:
		bench_fill(buf, step->length, step->number);
		return mojo_settle_write(store, version, attr.bucket, step->offset, buf, step->length);
	case SETTLE_RESIZE:
		return mojo_settle_setattr(store, version, attr.bucket, MOJO_SET_SIZE, &change, &attr);
	default:
		return mojo_settle_unlink(store, version, attr.parent, slash ? slash + 1 : step->path);
	}
}

static int run_step(struct mojo_store *store, const struct step *step)
{
	static uint8_t buf[32 * BENCH_PAGE];
	struct mojo_attr attr, change = { .size = step->offset + step->length, .mode = 0600 + step->number % 0100 };
	uint32_t dir = 0, to_dir = 0, version;
	const char *name, *to_name;
	disk.now_ns = (int64_t)(step->number + 1) * 1000000000;
	int err = parent_of(store, step->path, &dir, &name);
	switch (step->kind) {
	case MAKE:
		return err ? err : mojo_mknod(store, dir, name, S_IFREG | 0644, 0, 1, 2, &attr);
	case MAKE_DIR:
		return err ? err : mojo_mknod(store, dir, name, S_IFDIR | 0755, 0, 1, 2, &attr);
	case LINK:
		return err ? err : mojo_symlink(store, dir, name, "where/it/leads", 3, 4, &attr);
	case REMOVE:
		return err ? err : mojo_unlink(store, dir, name);
	case REMOVE_DIR:
		return err ? err : mojo_rmdir(store, dir, name);
	case RENAME:
		if (!err)
			err = parent_of(store, step->to, &to_dir, &to_name);
		return err ? err
			   : mojo_rename(store, dir, name, to_dir, to_name,
					 step->number % 5 ? 0 : MOJO_RENAME_EXCHANGE);
	case FREEZE:
		return mojo_freeze(store, "to be settled", 13, NULL, NULL, &version);
	case SETTLE_WRITE:
	case SETTLE_RESIZE:
	case SETTLE_REMOVE:
		return settle(store, step);
	case PUBLISH:
		return mojo_publish(store, mojo_unpublished(store));
	case SYNC:
		return mojo_sync(store);
	case COMMIT:
		return mojo_commit(store, "a version", 9, &version);
	case DROP:
		return mojo_version_drop(store, (uint32_t)(1 + step->offset % 5));
	case CHECKPOINT:
		return mojo_checkpoint(store);
	default:
		break;
	}
	if (!err)
		err = mojo_lookup(store, MOJO_ACTIVE, dir, name, &attr);
	if (err)
		return err;
	switch (step->kind) {
	case WRITE:
	case WRITE_MANY:
		bench_fill(buf, step->length, step->number);
		return mojo_write(store, attr.bucket, step->offset, buf, step->length);
	case RESIZE:
		return mojo_setattr(store, attr.bucket, MOJO_SET_SIZE, &change, &attr);
	case CHMOD:
		return mojo_setattr(store, attr.bucket, MOJO_SET_MODE, &change, &attr);
	case PUNCH:
		return mojo_fallocate(store, attr.bucket, MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_KEEP_SIZE, step->offset,
				      step->length * 8);
	default:
		abort();
	}
}

static bool is_durable(const struct step *step)
{
	return step->kind >= SYNC;
}

/* ---- the run without faults -------------------------------------------------------------------- */

struct told {
	unsigned count;
	char last[512];
};

static void on_event(void *arg, enum mojo_severity severity, const char *text)
{
	struct told *told = arg;
	(void)severity;
	told->count++;
	snprintf(told->last, sizeof(told->last), "%s", text);
}

struct stage {
	struct script script;
	struct history history; /* moment i: before step i of those under faults; the last one: after all of them */
	struct mojo_io *beginning;
	struct mojo_config config;
	struct told told;
	uint64_t chances; /* to fail, in a run without faults */
	uint64_t runs, refused, poisoned, overcome;
	char name[200]; /* of the run */
};

static int open_stage(struct stage *stage, struct mojo_io *io, struct mojo_store **ret_store)
{
	disk.now_ns = 1;
	stage->told = (struct told){ 0 };
	return mojo_open(io, &stage->config, ret_store);
}

static struct stage *stage_new(const char *what, size_t count, size_t from)
{
	struct stage *stage = calloc(1, sizeof(*stage));
	struct dice dice = dice_new(what);
	struct mojo_geometry geometry = { .page_size = BENCH_PAGE, .pages_per_slot = 64, .chunk_bytes = BENCH_CHUNK };
	struct mojo_store *store;
	struct mojo_io *io;
	assert_non_null(stage);
	script_make(&stage->script, &dice, count, from);
	stage->config = (struct mojo_config){
		.checkpoint_bytes = 1ull << 40,
		.batch_bytes = 64 << 10,
		.flush_ms = UINT32_MAX,
		.no_background = true,
		.event = on_event,
		.event_arg = &stage->told,
	};
	assert_ok(mojo_io_memory(&io));
	use_disk(io);
	assert_ok(mojo_create(io, &geometry, &stage->config));
	assert_ok(open_stage(stage, io, &store));
	for (size_t i = 0; i < from; i++) {
		choose_file(store, &stage->script.steps[i]);
		stage->script.steps[i].expected = run_step(store, &stage->script.steps[i]);
	}
	assert_ok(mojo_sync(store));
	mojo_abandon(store);
	assert_ok(mojo_io_memory_clone(io, &stage->beginning));
	assert_ok(open_stage(stage, io, &store));
	history_note(&stage->history, store);
	for (size_t i = from; i < count; i++) {
		struct step *step = &stage->script.steps[i];
		choose_file(store, step);
		step->expected = run_step(store, step);
		stage->script.settling += !step->expected && is_settling(step->kind);
		history_note(&stage->history, store);
	}
	assert_ok(mojo_close(store));
	mojo_io_free(io);
	return stage;
}

static void stage_free(struct stage *stage)
{
	history_free(&stage->history);
	mojo_io_free(stage->beginning);
	free(stage);
}

/* ---- a run with a fault -------------------------------------------------------------------------- */

struct plan {
	enum fault_kind kind;
	int error;
	bool lasting;
	uint64_t after;
};

static void arm(struct mojo_io *io, const struct plan *plan)
{
	struct fault fault = { .armed = true, .lasting = plan->lasting, .after = plan->after };
	memory_fault = plan->kind == MEMORY ? fault : (struct fault){ 0 };
	disk.looking = plan->kind == LOOKING ? fault : (struct fault){ 0 };
	disk.space = plan->kind == SPACE ? fault : (struct fault){ 0 };
	if (plan->kind == CHANGING)
		mojo_io_memory_fail(io, plan->after, plan->error, plan->lasting);
}

static void lift(struct mojo_io *io)
{
	memory_fault.armed = disk.looking.armed = disk.space.armed = false;
	mojo_io_memory_fail(io, 0, 0, false);
}

/* While the test itself looks around, what is to fail once does not, and what lasts does. */
static void pause_faults(bool pause)
{
	static bool memory, looking, space;
	if (pause) {
		memory = memory_fault.armed;
		looking = disk.looking.armed;
		space = disk.space.armed;
	}
	memory_fault.armed = pause ? false : memory;
	disk.looking.armed = pause ? false : looking;
	disk.space.armed = pause ? false : space;
}

static void expect(struct stage *stage, struct mojo_store *store, size_t first, size_t last, const char *when)
{
	char why[512] = "";
	unsigned errors = 0;
	if (history_compare(&stage->history, store, first, last, &errors, why, sizeof(why)) < 0)
		fail_msg("%s: %s: %s; it said last: %s", stage->name, when, why, stage->told.last);
	if (errors)
		fail_msg("%s: %s: %u reads failed; it said last: %s", stage->name, when, errors, stage->told.last);
}

static bool is_failed(struct mojo_store *store)
{
	return store->log.failed != 0;
}

/* A store that refuses changes refuses all of them, and says so. */
static void expect_refusal(struct stage *stage, struct mojo_store *store)
{
	struct mojo_attr attr;
	uint32_t version;
	if (!stage->told.count)
		fail_msg("%s: the store refuses changes, and no event says why", stage->name);
	assert_errno(mojo_mknod(store, MOJO_ROOT_BUCKET, "refused", S_IFREG, 0, 0, 0, &attr), EIO);
	assert_errno(mojo_write(store, 2, 0, "x", 1), EIO);
	assert_errno(mojo_unlink(store, MOJO_ROOT_BUCKET, "e"), EIO);
	assert_errno(mojo_sync(store), EIO);
	assert_errno(mojo_commit(store, "", 0, &version), EIO);
	assert_errno(mojo_freeze(store, "", 0, NULL, NULL, &version), EIO);
	assert_errno(mojo_settle_write(store, 1, 2, 0, "x", 1), EIO);
	assert_errno(mojo_settle_unlink(store, 1, MOJO_ROOT_BUCKET, "e"), EIO);
	assert_errno(mojo_publish(store, 1), EIO);
	assert_errno(mojo_version_drop(store, 1), EIO);
	assert_true(mojo_checkpoint(store) != 0);
}

enum ending { KILLED, POWER_CUT, POWER_CUT_TORN, ENDINGS };

/* If the disk is full, it is so when the store is opened again, and a moment later is not. */
static void after_the_end(struct stage *stage, struct mojo_io *io, size_t acknowledged, size_t begun, uint64_t seed)
{
	struct fault memory = memory_fault, looking = disk.looking, space = disk.space;
	memory_fault.armed = disk.looking.armed = false;
	for (int ending = KILLED; ending < ENDINGS; ending++) {
		struct mojo_io *left;
		struct mojo_store *store;
		if (ending == KILLED)
			assert_ok(mojo_io_memory_clone(io, &left));
		else if (ending == POWER_CUT)
			assert_ok(mojo_io_memory_clone_durable(io, &left));
		else
			assert_ok(mojo_io_memory_clone_torn(io, seed, &left));
		use_disk(left);
		int err = open_stage(stage, left, &store);
		if (err)
			fail_msg("%s: the store does not open afterwards (%s): %s", stage->name, strerror(-err),
				 stage->told.last);
		expect(stage, store, acknowledged, begun, ending == KILLED ? "after a crash" : "after a loss of power");
		/* And it works. */
		uint32_t version;
		disk.space.armed = false;
		if (mojo_unpublished(store))
			assert_ok(mojo_publish(store, mojo_unpublished(store)));
		assert_ok(mojo_commit(store, "afterwards", 10, &version));
		assert_ok(mojo_close(store));
		mojo_io_free(left);
		disk.space = space;
	}
	memory_fault = memory;
	disk.looking = looking;
}

/* Returns whether the fault was met. */
static bool run(struct stage *stage, const struct plan *plan)
{
	const struct script *script = &stage->script;
	struct mojo_store *store = NULL;
	struct mojo_io *io;
	size_t acknowledged = 0, done = 0; /* moments */
	bool met = false;
	assert_ok(mojo_io_memory_clone(stage->beginning, &io));
	assert_ok(mojo_io_memory_track(io));
	use_disk(io);
	stage->runs++;
	uint64_t operations = mojo_io_memory_operations(io);
	arm(io, plan);
	int err = open_stage(stage, io, &store);
	if (err) {
		met = true;
		stage->refused++;
		if (!stage->told.count)
			fail_msg("%s: the store does not open (%s), and nothing says why", stage->name, strerror(-err));
		lift(io);
		after_the_end(stage, io, 0, 0, plan->after);
		err = open_stage(stage, io, &store);
		if (err)
			fail_msg("%s: the store does not open after the fault has passed (%s)", stage->name,
				 strerror(-err));
	}
	while (script->from + done < script->count) {
		const struct step *step = &script->steps[script->from + done];
		err = run_step(store, step);
		if (err == step->expected && !is_failed(store)) {
			done++;
			if (is_durable(step) && !err)
				acknowledged = done;
			continue;
		}
		/* Something failed: this is the fault, and it has been said. */
		met = true;
		/* A long write, or a long removal, may be there in part. */
		stage->history.except[0] = step->kind == WRITE_MANY || step->kind == PUNCH ? step->path : NULL;
		if (err == step->expected && err == 0 && is_durable(step))
			acknowledged = done + 1; /* it was done, and the store failed behind it */
		if (err != step->expected && err != -EIO && err != -ENOSPC && err != -ENOMEM && err != -EUCLEAN)
			fail_msg("%s: step %zu says %s", stage->name, done, strerror(-err));
		pause_faults(true);
		if (is_failed(store)) {
			if (plan->kind == SPACE)
				fail_msg("%s: a full disk makes the store refuse all changes: %s", stage->name,
					 stage->told.last);
			/* A step that lacked memory half-way is there in part, until the store is opened again. */
			if (plan->kind == MEMORY && !is_durable(step)) {
				stage->history.except[0] = step->path;
				stage->history.except[1] = step->to;
				stage->history.except[2] = "";
				stage->history.except[3] = "d";
			}
			expect(stage, store, done, done + 1, "after the failure");
			expect_refusal(stage, store);
			expect(stage, store, done, done + 1, "after refusals");
			pause_faults(false);
			stage->poisoned++;
			if (step->kind != WRITE_MANY && step->kind != PUNCH)
				memset(stage->history.except, 0, sizeof(stage->history.except));
			lift(io);
			after_the_end(stage, io, acknowledged, done + 1, plan->after);
			memset(stage->history.except, 0, sizeof(stage->history.except));
			mojo_close(store);
			store = NULL;
			break;
		}
		/* It goes on: nothing of the step is there. */
		expect(stage, store, done, is_durable(step) ? done + 1 : done, "after a step that failed");
		pause_faults(false);
		after_the_end(stage, io, acknowledged, done + 1, plan->after);
		stage->history.except[0] = NULL;
		if (plan->kind == SPACE) { /* a full disk does not keep what was taken from being made durable */
			err = mojo_sync(store);
			if (err)
				fail_msg("%s: on a full disk what was taken cannot be made durable (%s)", stage->name,
					 strerror(-err));
			acknowledged = done;
		}
		lift(io);
		stage->overcome++;
		/* A commit, a drop or a checkpoint that failed in the middle was done or was not. */
		err = run_step(store, step);
		if (err != step->expected)
			fail_msg("%s: step %zu fails again after the fault has passed (%s)", stage->name, done,
				 strerror(-err));
		done++;
	}
	if (store) {
		err = mojo_close(store);
		met |= err != 0;
		lift(io);
		if (!err)
			acknowledged = done;
		after_the_end(stage, io, acknowledged, done, plan->after);
	}
	lift(io);
	met |= memory_fault.struck || disk.looking.struck || disk.space.struck;
	if (plan->kind == CHANGING)
		met |= mojo_io_memory_operations(io) - operations > plan->after;
	memory_fault.struck = disk.looking.struck = disk.space.struck = false;
	mojo_io_free(io);
	return met;
}

static void sweep(struct stage *stage, const char *what, struct plan plan, uint64_t step)
{
	uint64_t runs = stage->runs, poisoned = stage->poisoned, overcome = stage->overcome, refused = stage->refused;
	bool met = true;
	for (plan.after = 0; met; plan.after += step) {
		snprintf(stage->name, sizeof(stage->name), "%s, %s, k = %" PRIu64, what,
			 plan.lasting ? "for good" : "once", plan.after);
		met = run(stage, &plan);
	}
	print_message("%s, %s: %" PRIu64 " runs: %" PRIu64 " not opened at first, %" PRIu64 " went on, %" PRIu64
		      " refused changes from then on\n",
		      what, plan.lasting ? "for good" : "once", stage->runs - runs, stage->refused - refused,
		      stage->overcome - overcome, stage->poisoned - poisoned);
}

/* Every fault of a kind, on some scripts, each of which settles something. */
static void both(const char *what, enum fault_kind kind, int error, uint64_t step)
{
	for (unsigned turn = 0; turn < (test_is_long() ? 40 : TEST_SLOWNESS > 1 ? 1 : 4); turn++) {
		char name[64];
		snprintf(name, sizeof(name), "%s %u", what, turn);
		memory_fault = disk.looking = disk.space = (struct fault){ 0 };
		struct stage *stage = stage_new(name, STEPS_MAX, STEPS_MAX / 2);
		assert_true(stage->script.settling > 0);
		sweep(stage, what, (struct plan){ .kind = kind, .error = error }, test_is_long() ? 1 : step);
		sweep(stage, what, (struct plan){ .kind = kind, .error = error, .lasting = true },
		      test_is_long() ? 1 : step);
		stage_free(stage);
	}
}

/* ---- tests ------------------------------------------------------------------------------------------ */

static void test_an_error_of_the_disk_anywhere(void **state)
{
	(void)state;
	both("the disk fails (EIO)", CHANGING, -EIO, 1);
}

static void test_no_space_anywhere(void **state)
{
	(void)state;
	both("the disk fails (ENOSPC)", CHANGING, -ENOSPC, 1);
}

static void test_a_read_error_anywhere(void **state)
{
	(void)state;
	both("the disk cannot be read", LOOKING, -EIO, 1);
}

static void test_a_full_disk_anywhere(void **state)
{
	(void)state;
	both("the disk is full", SPACE, -ENOSPC, 1);
}

static void test_no_memory_anywhere(void **state)
{
	(void)state;
	both("memory runs out", MEMORY, -ENOMEM, 1);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_error_of_the_disk_anywhere),
		cmocka_unit_test(test_no_space_anywhere),
		cmocka_unit_test(test_a_read_error_anywhere),
		cmocka_unit_test(test_a_full_disk_anywhere),
		cmocka_unit_test(test_no_memory_anywhere),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("faults", tests, NULL, NULL);
}
