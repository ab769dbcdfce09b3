/* SPDX-License-Identifier: MIT */
#include "repair.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "agree.h"
#include "checkpoint.h"
#include "namespace.h"
#include "recover.h"
#include "salvage.h"
#include "version.h"

#define CACHE_BYTES (64u << 20)
#define COPY_BYTES  (1u << 20)
#define REPORT_FILE "report.txt"
#define PATH_BYTES  128u

struct repair {
	struct mojo_io *io;                       /* borrowed */
	const struct mojo_check_options *options; /* borrowed: the caller's */
	struct mojo_check_options told;           /* the same with callbacks of ours, which also write the report */
	struct mojo_config config;
	struct mojo_roots roots;
	unsigned slot;  /* of the root from which all is rebuilt */
	bool doing;     /* steps are done now, and not only planned */
	char aside[64]; /* directory for what is taken away; "": not made yet */
	int aside_err;
	char *report; /* owned */
	size_t report_length, report_capacity;
	struct mojo_store *store; /* owned, while one is open */
};

/* ---- what is told ---------------------------------------------------------------------------- */

/* The report is a help and no more: for want of memory it is cut short. */
static void write_report(struct repair *r, const char *text)
{
	size_t length = strlen(text), need = r->report_length + length + 2;
	if (need > r->report_capacity) {
		size_t capacity = r->report_capacity ? r->report_capacity * 2 : 4096;
		while (capacity < need)
			capacity *= 2;
		char *grown = realloc(r->report, capacity);
		if (!grown)
			return;
		r->report = grown;
		r->report_capacity = capacity;
	}
	memcpy(r->report + r->report_length, text, length);
	r->report[r->report_length + length] = '\n';
	r->report_length += length + 1;
}

static void on_finding(void *arg, const struct mojo_finding *f)
{
	struct repair *r = arg;
	char line[2048];
	int n = snprintf(line, sizeof(line), "%s: %s", mojo_finding_name(f->kind), f->text);
	if (f->version && n > 0 && (size_t)n < sizeof(line))
		n += snprintf(line + n, sizeof(line) - (size_t)n, "; versions %" PRIu32 " to %" PRIu32, f->version,
			      f->last_version);
	if (f->bucket && n > 0 && (size_t)n < sizeof(line))
		n += snprintf(line + n, sizeof(line) - (size_t)n, ", file %" PRIu32 " %s", f->bucket,
			      f->path ? f->path : "");
	if (f->pages && n > 0 && (size_t)n < sizeof(line))
		snprintf(line + n, sizeof(line) - (size_t)n, ", pages %" PRIu64 " to %" PRIu64, f->first_page,
			 f->first_page + f->pages - 1);
	write_report(r, line);
	if (r->options->finding)
		r->options->finding(r->options->arg, f);
}

static bool on_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct repair *r = arg;
	return !r->options->progress || r->options->progress(r->options->arg, what, done, total);
}

static void __attribute__((format(printf, 2, 3))) step(struct repair *r, const char *format, ...)
{
	char text[512];
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (r->doing)
		write_report(r, text);
	if (r->options->step)
		r->options->step(r->options->arg, r->doing, text);
}

/* ---- putting aside --------------------------------------------------------------------------- */

static int write_file(struct mojo_io_file *file, struct mojo_io *io, const void *data, size_t length, uint64_t offset)
{
	struct iovec vector = { (void *)(uintptr_t)data, length };
	return length ? io->ops->write(file, &vector, 1, offset) : 0;
}

/* Creates STORE/lost+found-TIME. */
static int make_aside(struct repair *r)
{
	time_t now = (time_t)(r->io->ops->now_ns(r->io) / 1000000000);
	struct tm tm;
	char stamp[32];
	if (r->aside[0])
		return 0;
	if (!gmtime_r(&now, &tm) || !strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%SZ", &tm))
		snprintf(stamp, sizeof(stamp), "repair");
	for (unsigned n = 0; n < 1000; n++) {
		char name[sizeof(r->aside)];
		if (n)
			snprintf(name, sizeof(name), "lost+found-%s.%u", stamp, n);
		else
			snprintf(name, sizeof(name), "lost+found-%s", stamp);
		int err = r->io->ops->mkdir(r->io, name);
		if (!err)
			memcpy(r->aside, name, sizeof(name));
		if (err != -EEXIST)
			return err;
	}
	return -EEXIST;
}

/* A new file in the directory; to be flushed and closed. */
static int open_aside(struct repair *r, const char *name, struct mojo_io_file **ret_file)
{
	char path[PATH_BYTES];
	snprintf(path, sizeof(path), "%s/%s", r->aside, name);
	return r->io->ops->open(r->io, path, MOJO_IO_WRITE | MOJO_IO_CREATE, ret_file);
}

static bool is_zero(const uint8_t *p, size_t length)
{
	return length == 0 || (p[0] == 0 && memcmp(p, p + 1, length - 1) == 0);
}

/* Copies a file of the store, zeros as holes. What the host cannot read is left out. */
static int copy_aside(struct repair *r, const char *from, const char *name)
{
	struct mojo_io *io = r->io;
	struct mojo_io_file *in, *out;
	uint8_t *buf = malloc(COPY_BYTES);
	uint64_t bytes = 0, disk_bytes;
	if (!buf)
		return -ENOMEM;
	int err = io->ops->open(io, from, 0, &in);
	if (err) {
		free(buf);
		return err == -ENOENT ? 0 : err;
	}
	err = open_aside(r, name, &out);
	if (err)
		goto close_in;
	err = io->ops->size(in, &bytes, &disk_bytes);
	for (uint64_t at = 0; at < bytes && !err; at += COPY_BYTES) {
		size_t want = bytes - at < COPY_BYTES ? (size_t)(bytes - at) : COPY_BYTES, got;
		if (io->ops->read(in, buf, want, at, &got) == 0 && !is_zero(buf, got))
			err = write_file(out, io, buf, got, at);
	}
	if (!err)
		err = io->ops->truncate(out, bytes);
	if (!err)
		err = io->ops->flush(out);
	io->ops->close(out);
close_in:
	io->ops->close(in);
	free(buf);
	return err;
}

/* A piece of the index that is taken out, as it lies there. */
static void piece_aside(void *arg, uint64_t address, uint32_t blocks)
{
	struct repair *r = arg;
	size_t bytes = (size_t)blocks * mojo_page_size(r->store), got = 0;
	uint8_t *buf = malloc(bytes);
	struct mojo_io_file *file;
	char name[40];
	int err = buf ? 0 : -ENOMEM;
	if (!err && mojo_chunks_read_some(&r->store->chunks, address, buf, bytes, &got) == 0 && got) {
		snprintf(name, sizeof(name), "index-%" PRIu64, address);
		err = open_aside(r, name, &file);
		if (!err) {
			err = write_file(file, r->io, buf, got, 0);
			if (!err)
				err = r->io->ops->flush(file);
			r->io->ops->close(file);
		}
	}
	free(buf);
	if (err && !r->aside_err)
		r->aside_err = err;
}

struct chunk_list {
	struct repair *r;
	uint32_t from; /* this one and those behind it are copied */
	int64_t last;  /* highest number there is; -1: none */
	bool copy;
	uint64_t copied;
};

static int each_chunk(void *arg, const char *name)
{
	struct chunk_list *list = arg;
	int64_t number = mojo_chunk_number(name);
	char path[MOJO_CHUNK_PATH_BYTES];
	if (number < 0)
		return 0;
	if (number > list->last)
		list->last = number;
	if (!list->copy || number < list->from)
		return 0;
	mojo_chunk_path((uint32_t)number, path);
	list->copied++;
	return copy_aside(list->r, path, name);
}

/* The log from @address on, in whole chunk files. */
static int log_aside(struct repair *r, uint64_t address)
{
	struct chunk_list list = {
		.r = r,
		.from = (uint32_t)(address / r->roots.root[r->slot].chunk_blocks),
		.last = -1,
		.copy = true,
	};
	int err = r->io->ops->list(r->io, MOJO_CHUNK_DIR, each_chunk, &list);
	if (!err)
		step(r, "%s: %" PRIu64 " chunk files with the log behind the damage were copied there", r->aside,
		     list.copied);
	return err;
}

static int save_report(struct repair *r)
{
	struct mojo_io_file *file;
	int err = open_aside(r, REPORT_FILE, &file);
	if (err)
		return err;
	err = write_file(file, r->io, r->report, r->report_length, 0);
	if (!err)
		err = r->io->ops->flush(file);
	r->io->ops->close(file);
	return err ? err : r->io->ops->flush_dir(r->io, r->aside);
}

/* ---- roots alone ----------------------------------------------------------------------------- */

static int write_roots(struct repair *r)
{
	struct mojo_io_file *file;
	uint8_t bytes[MOJO_ROOT_SLOT_BYTES];
	mojo_root_encode(bytes, &r->roots.root[r->slot]);
	int err = r->io->ops->open(r->io, MOJO_STATE_FILE, MOJO_IO_WRITE, &file);
	if (err)
		return err;
	for (unsigned i = 0; i < MOJO_ROOT_SLOTS && !err; i++) {
		if (r->roots.state[i] == MOJO_ROOT_GOOD)
			continue;
		err = write_file(file, r->io, bytes, sizeof(bytes), (uint64_t)i * MOJO_ROOT_SLOT_BYTES);
		if (!err)
			err = r->io->ops->flush(file);
		if (!err)
			step(r, "the %s root was written anew", i ? "second" : "first");
	}
	r->io->ops->close(file);
	return err;
}

/* ---- everything else ------------------------------------------------------------------------- */

static void on_salvage(void *arg, const char *text)
{
	step(arg, "%s", text);
}

struct agreeing {
	struct repair *r;
	struct mojo_sink *sink;
	uint64_t versions;
};

static int agree_version(void *arg, struct mojo_tree *tree, uint32_t version)
{
	struct agreeing *a = arg;
	bool changed;
	int err = mojo_agree(a->r->store, tree, version, true, a->sink, &changed);
	mojo_sink_next(a->sink, 0);
	a->versions += !err && changed;
	return err ? err : mojo_sink_progress(a->sink, "names", version, a->r->store->active);
}

/* What the root counts of the active version. */
static int count_files(struct mojo_store *store)
{
	uint8_t key[MOJO_KEY_BYTES_MAX] = { MOJO_KEY_INODE };
	unsigned length = 1;
	struct mojo_cell cell;
	int err;
	store->files = store->directories = store->frozen = 0;
	for (bool behind = false; !(err = mojo_tree_next(&store->main, key, length, behind, &cell)); behind = true) {
		struct mojo_inode inode;
		if (cell.key[0] != MOJO_KEY_INODE)
			break;
		memcpy(key, cell.key, cell.key_length);
		length = cell.key_length;
		if (mojo_inode_decode(cell.value, cell.value_length, mojo_get_be32(key + 1), &inode) == 0 &&
		    inode.attr.nlink)
			++*(S_ISDIR(inode.attr.mode) ? &store->directories : &store->files);
	}
	if (err && err != -ENOENT)
		return err;
	length = 0;
	for (bool behind = false; !(err = mojo_tree_next(&store->versions, key, length, behind, &cell));
	     behind = true) {
		memcpy(key, cell.key, cell.key_length);
		length = cell.key_length;
		store->frozen++;
	}
	return err == -ENOENT ? 0 : err;
}

/* All that follows is written behind everything that was ever there. */
static int start_afresh(struct repair *r)
{
	struct mojo_store *store = r->store;
	struct mojo_log *log = &store->log;
	struct chunk_list list = { .r = r, .last = -1 };
	int err = r->io->ops->list(r->io, MOJO_CHUNK_DIR, each_chunk, &list);
	if (err == -ENOENT)
		err = r->io->ops->mkdir(r->io, MOJO_CHUNK_DIR);
	uint64_t number = (uint64_t)(list.last + 1);
	if (!err && (number + 1) * store->root.chunk_blocks - 1 > MOJO_ADDRESS_MAX)
		err = -ENOSPC;
	if (!err)
		err = mojo_chunks_create(&store->chunks, (uint32_t)number, -1);
	if (err)
		return err;
	log->chunk = (uint32_t)number;
	log->tail = log->allocated = number * store->root.chunk_blocks;
	log->next_chunk = -1;
	log->version = store->active;
	/* What is dead is found by marking; until then nothing is. */
	mojo_block_set_free(&store->space.fresh);
	mojo_block_set_free(&store->space.waiting);
	store->space.spare_count = store->space.taken_count = 0;
	mojo_tree_release(&store->dead);
	return 0;
}

static int write_out(struct repair *r)
{
	struct mojo_store *store = r->store;
	for (unsigned i = 0; i < MOJO_ROOT_SLOTS; i++)
		if (r->roots.state[i] != MOJO_ROOT_BAD && r->roots.root[i].generation > store->root.generation)
			store->root.generation = r->roots.root[i].generation;
	store->mending = false;
	pthread_mutex_lock(&store->mu);
	int err = mojo_find_held(store);
	if (!err)
		err = mojo_mark_locked(store);
	if (!err && store->mark_failed)
		err = -EUCLEAN;
	if (!err)
		err = mojo_checkpoint_locked(store);
	pthread_mutex_unlock(&store->mu);
	return err;
}

/* The log, on top of what was salvaged. */
static int replay(struct repair *r, struct mojo_salvage *s)
{
	struct mojo_store *store = r->store;
	if (!s->active_replaced) {
		int err = mojo_find_held(store); /* which version is unpublished: records may speak of it */
		if (!err)
			err = mojo_recover_log(store);
		/* From here on nothing dies, until marking: what follows changes frozen versions, too. */
		store->settled.count = 0;
		store->settled.cut = false;
		store->main.held = UINT32_MAX;
		return err;
	}
	/* It tells of changes to another tree than the one that is there now. */
	uint64_t reached;
	int err = mojo_recover_follow(store, &store->root, &reached);
	if (err)
		return err;
	if (reached <= store->root.durable_sequence)
		reached = store->root.durable_sequence + 1;
	store->log.sequence = reached;
	store->log.durable_sequence = reached - 1;
	store->log.previous_epoch = store->root.epoch;
	step(r, "what was written since the last checkpoint is lost with it");
	return log_aside(r, store->root.log_address);
}

static int rebuild(struct repair *r, struct mojo_sink *sink, const struct mojo_look *look)
{
	struct mojo_config config = {
		.cache_bytes = r->options->cache_bytes ? r->options->cache_bytes : CACHE_BYTES,
		.flush_ms = UINT32_MAX,
		.no_background = true,
		.event = r->options->event,
		.event_arg = r->options->arg,
	};
	int err = mojo_open_mending(r->io, &config, &r->roots.root[r->slot], r->slot, &r->store);
	if (err)
		return err;
	struct mojo_salvage s = {
		.store = r->store,
		.aside = piece_aside,
		.tell = on_salvage,
		.arg = r,
	};
	struct agreeing agreeing = { .r = r, .sink = sink };
	void (*damaged)(void *, const char *, uint64_t) = r->store->blobs.damaged;
	r->store->blobs.damaged = NULL; /* what cannot be read was told of */
	memset(r->store->dead.root, 0, MOJO_REF_BYTES);
	err = mojo_salvage_trees(&s);
	if (!err)
		err = r->aside_err;
	if (!err)
		err = replay(r, &s);
	if (!err && look->lost_sequence && !look->lost_index_only)
		err = log_aside(r, r->store->lost_address);
	if (!err)
		err = mojo_salvage_pages(&s);
	if (!err)
		err = mojo_each_version(r->store, agree_version, &agreeing);
	if (!err && agreeing.versions)
		step(r, "names, files and counts were made to agree in %" PRIu64 " versions", agreeing.versions);
	if (!err)
		err = count_files(r->store);
	r->store->blobs.damaged = damaged;
	if (!err)
		err = start_afresh(r);
	if (!err)
		err = write_out(r);
	if (!err)
		step(r, "the index, the account of dead blocks and both roots were written anew");
	mojo_salvage_free(&s);
	mojo_abandon(r->store);
	r->store = NULL;
	return err;
}

/* ---- what is to be done ----------------------------------------------------------------------- */

/* How bad it is, to choose a root. */
static uint64_t badness(const struct mojo_sink *sink, const struct mojo_look *look)
{
	uint64_t n = sink->kinds[MOJO_FOUND_INDEX] + sink->kinds[MOJO_FOUND_CHUNK] + sink->kinds[MOJO_FOUND_NAME] +
		     sink->kinds[MOJO_FOUND_COUNT];
	return n * 2 + (look->lost_sequence && !look->lost_index_only ? 3 : 0) + (look->skipped_records ? 3 : 0);
}

/* Would the other root do better? Nothing that it or the log from it on refers to was ever given back. */
static int choose_root(struct repair *r, const struct mojo_sink *found, struct mojo_look *look)
{
	unsigned other = r->slot ^ 1;
	uint64_t bad = badness(found, look);
	if (!bad || r->roots.state[other] == MOJO_ROOT_BAD)
		return 0;
	struct mojo_sink sink = { .options = &r->told, .quiet = true };
	struct mojo_look second;
	int err = mojo_look(r->io, &r->roots, other, false, &sink, &second);
	if (!err && badness(&sink, &second) < bad) {
		r->slot = other;
		*look = second;
		step(r,
		     "go back to the older root (generation %" PRIu64
		     "): more can be read from there, and the log tells what came after it",
		     r->roots.root[other].generation);
	}
	mojo_sink_free(&sink);
	return err;
}

static bool needs_rebuild(const struct mojo_sink *sink)
{
	static const enum mojo_finding_kind kinds[] = { MOJO_FOUND_LOG,     MOJO_FOUND_INDEX, MOJO_FOUND_NAME,
							MOJO_FOUND_COUNT,   MOJO_FOUND_DEAD,  MOJO_FOUND_LEAK,
							MOJO_FOUND_ADDRESS, MOJO_FOUND_SPACE };
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (sink->kinds[kinds[i]])
			return true;
	return false;
}

static void plan(struct repair *r, const struct mojo_sink *sink, const struct mojo_look *look, bool all)
{
	step(r, "keep a copy of %s, and of whatever is taken out, in a new directory lost+found-TIME in the store",
	     MOJO_STATE_FILE);
	if (!all) {
		step(r, "write the damaged root anew");
		return;
	}
	if (look->lost_sequence && look->lost_index_only)
		step(r, "step over the damaged group of the log: nothing was lost with it");
	else if (look->lost_sequence)
		step(r,
		     "end the log at address %" PRIu64
		     ", where it is damaged: what was written before stays, what came "
		     "after is put aside and lost",
		     look->lost_address);
	if (sink->kinds[MOJO_FOUND_INDEX])
		step(r,
		     "take the pieces out of the index that cannot be read: pages that were in them read as errors from "
		     "then on, files without a name go to lost+found, versions of which nothing is left are dropped");
	if (sink->kinds[MOJO_FOUND_NAME] || sink->kinds[MOJO_FOUND_COUNT])
		step(r, "make names, files and counts agree");
	if (sink->kinds[MOJO_FOUND_DEAD] || sink->kinds[MOJO_FOUND_LEAK] || sink->kinds[MOJO_FOUND_SPACE])
		step(r, "find out anew which blocks are dead");
	step(r, "write what changed behind everything else, and both roots");
}

/* Pages whose content is not there any more. The chunk files will be looked at again after the repair. */
static void plan_pages(struct repair *r, const struct mojo_sink *sink)
{
	if (sink->kinds[MOJO_FOUND_PAGE] || sink->kinds[MOJO_FOUND_CHUNK] || sink->kinds[MOJO_FOUND_SHARED])
		step(r, "leave damaged and missing pages as they are: reading them is an error; write them anew from a "
			"backup or another version, or delete the files and drop the versions that have them");
}

static int carry_out(struct repair *r, struct mojo_sink *sink, const struct mojo_look *look, bool all)
{
	r->doing = true;
	int err = make_aside(r);
	if (!err)
		err = copy_aside(r, MOJO_STATE_FILE, MOJO_STATE_FILE);
	if (err)
		return err;
	struct mojo_sink mending = { .options = &r->told, .quiet = true };
	err = all ? rebuild(r, &mending, look) : write_roots(r);
	mojo_sink_free(&mending);
	int saved = save_report(r);
	if (!err && saved)
		mojo_event(&r->config, MOJO_WARNING, "the report of the repair could not be written: %s",
			   strerror(-saved));
	r->io->ops->flush_dir(r->io, "");
	if (err)
		return err;
	/* A second look, without a word, tells what is left. */
	struct mojo_sink after = { .options = &r->told, .quiet = true };
	struct mojo_look unused;
	err = mojo_roots_read(r->io, &r->config, &after, &r->roots);
	if (!err && r->roots.newest >= 0)
		err = mojo_look(r->io, &r->roots, (unsigned)r->roots.newest, false, &after, &unused);
	sink->result.repaired = true;
	sink->result.errors_left = after.result.errors + sink->kinds[MOJO_FOUND_PAGE]; /* not read again */
	mojo_sink_free(&after);
	return err;
}

int mojo_repair(struct mojo_io *io, const struct mojo_check_options *options, struct mojo_check_result *ret_result)
{
	static const struct mojo_check_options none;
	struct repair r = { .io = io, .options = options ? options : &none };
	r.told = *r.options;
	r.told.finding = on_finding;
	r.told.progress = on_progress;
	r.told.arg = &r;
	r.config = (struct mojo_config){
		.read_only = r.options->dry_run,
		.owner = r.options->owner,
		.event = r.options->event,
		.event_arg = r.options->arg,
	};
	struct mojo_sink sink = { .options = &r.told };
	struct mojo_io_file *lock = NULL;
	struct mojo_look look = { 0 };
	int err = mojo_roots_read(io, &r.config, NULL, &r.roots); /* before the lock: a newer store is left untouched */
	if (!err)
		err = mojo_lock(io, &r.config, &lock);
	if (!err)
		err = mojo_roots_read(io, &r.config, &sink, &r.roots);
	bool can = !err && r.roots.newest >= 0;
	if (can) {
		r.slot = (unsigned)r.roots.newest;
		err = mojo_look(io, &r.roots, r.slot, r.options->scrub, &sink, &look);
	}
	sink.result.errors_left = sink.result.errors;
	bool all = needs_rebuild(&sink);
	if (can && !err && (all || sink.kinds[MOJO_FOUND_ROOT])) {
		/* An older root that would not serve is written anew, with all the rest. */
		all |= r.roots.state[0] == MOJO_ROOT_GOOD && r.roots.state[1] == MOJO_ROOT_GOOD;
		if (all)
			err = choose_root(&r, &sink, &look);
		if (!err)
			plan(&r, &sink, &look, all);
		plan_pages(&r, &sink);
		if (!err && !r.options->dry_run)
			err = carry_out(&r, &sink, &look, all);
	} else if (can && !err) {
		plan_pages(&r, &sink);
	}
	memcpy(sink.result.aside, r.aside, sizeof(sink.result.aside));
	if (lock) {
		if (!r.config.read_only)
			io->ops->truncate(lock, 0); /* the name in it was ours */
		io->ops->close(lock);
	}
	mojo_sink_free(&sink);
	free(r.report);
	*ret_result = sink.result;
	return err;
}
