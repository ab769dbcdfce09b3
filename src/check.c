/* SPDX-License-Identifier: MIT */
#include "check.h"

#include <errno.h>
#include <inttypes.h>

#include "recover.h"
#include "scrub.h"
#include "verify.h"
#include "version.h"

#define CACHE_BYTES (64u << 20)

/* ---- roots ---------------------------------------------------------------------------------- */

/*
 * A root slot has 64 bits of checksum over 4 KiB: of the million slots that differ from this one in a single
 * byte, no wrong one matches it. (Half a second; only where neither slot is valid.)
 */
static bool mend_slot(uint8_t *slot, struct mojo_root *ret_root)
{
	for (size_t i = 0; i < MOJO_ROOT_SLOT_BYTES; i++) {
		uint8_t was = slot[i];
		for (unsigned change = 1; change < 256; change++) {
			slot[i] = (uint8_t)(was ^ change);
			if (mojo_root_decode(slot, ret_root) == 0)
				return true;
		}
		slot[i] = was;
	}
	return false;
}

/* A format that is too new, or only looks so because its number was damaged? A slot of ours is right once the number
 * is. */
static bool is_newer(const uint8_t *slot)
{
	uint8_t copy[MOJO_ROOT_SLOT_BYTES];
	struct mojo_root root;
	memcpy(copy, slot, sizeof(copy));
	mojo_put32(copy + 8, MOJO_FORMAT_VERSION);
	return mojo_root_decode(slot, &root) == -EPROTONOSUPPORT && mojo_root_decode(copy, &root) != 0;
}

/*
 * What a loss of power in the middle of writing a root may leave is no error: some of the old root's sectors, some of
 * the new one's. It still says that it is a root of this store, the one before the good one or the one behind it.
 */
static bool is_torn(const uint8_t *slot, const struct mojo_root *good)
{
	uint8_t whole[MOJO_ROOT_SLOT_BYTES];
	uint64_t generation = mojo_get64(slot + 32);
	mojo_root_encode(whole, good);
	return memcmp(slot, whole, 12) == 0 && memcmp(slot + 16, whole + 16, 16) == 0 &&
	       (generation == good->generation + 1 || generation + 1 == good->generation);
}

static void tell_root(struct mojo_sink *sink, const struct mojo_roots *roots, unsigned slot, const uint8_t *bytes)
{
	static const char *const names[] = { "first", "second" };
	struct mojo_finding f = { .kind = MOJO_FOUND_ROOT, .severity = MOJO_ERROR };
	if (!sink || roots->state[slot] == MOJO_ROOT_GOOD)
		return;
	if (roots->state[slot] == MOJO_ROOT_MENDED) {
		mojo_found(sink, &f, "the %s root in %s has one wrong byte; which one is known", names[slot],
			   MOJO_STATE_FILE);
	} else if (roots->newest < 0) {
		mojo_found(
			sink, &f,
			"the %s root in %s is damaged, and so is the other one: nothing leads to the data any more, and a "
			"root cannot be made up. Restore %s from a backup of this store of the same time; the chunk "
			"files are as they were",
			names[slot], MOJO_STATE_FILE, MOJO_STATE_FILE);
	} else if (is_torn(bytes, &roots->root[roots->newest])) {
		f.severity = MOJO_WARNING;
		mojo_found(
			sink, &f,
			"the %s root in %s is not whole, as after a loss of power while it was written; the other one "
			"serves, nothing is lost",
			names[slot], MOJO_STATE_FILE);
	} else {
		mojo_found(sink, &f, "the %s root in %s is damaged; the other one serves, nothing is lost", names[slot],
			   MOJO_STATE_FILE);
	}
}

int mojo_roots_read(struct mojo_io *io, const struct mojo_config *config, struct mojo_sink *sink,
		    struct mojo_roots *ret_roots)
{
	uint8_t bytes[MOJO_ROOT_SLOTS * MOJO_ROOT_SLOT_BYTES] = { 0 };
	struct mojo_roots roots = { .newest = -1 };
	struct mojo_io_file *file;
	size_t got = 0;
	int err = io->ops->open(io, MOJO_STATE_FILE, 0, &file);
	if (err) {
		if (err == -ENOENT)
			mojo_event(config, MOJO_ERROR, "this is no mojofs store: there is no %s in it",
				   MOJO_STATE_FILE);
		else
			mojo_event(config, MOJO_ERROR, "cannot open %s: %s", MOJO_STATE_FILE, strerror(-err));
		return err;
	}
	for (unsigned i = 0; i < MOJO_ROOT_SLOTS; i++)
		io->ops->read(file, bytes + (size_t)i * MOJO_ROOT_SLOT_BYTES, MOJO_ROOT_SLOT_BYTES,
			      (uint64_t)i * MOJO_ROOT_SLOT_BYTES, &got); /* what cannot be read is zeros, and no root */
	io->ops->close(file);
	for (unsigned i = 0; i < MOJO_ROOT_SLOTS; i++) {
		uint8_t *slot = bytes + (size_t)i * MOJO_ROOT_SLOT_BYTES;
		if (is_newer(slot)) {
			mojo_event(config, MOJO_ERROR, "the store has a newer format than this program knows (%u)",
				   MOJO_FORMAT_VERSION);
			return -EPROTONOSUPPORT;
		}
		roots.state[i] = mojo_root_decode(slot, &roots.root[i]) == 0 ? MOJO_ROOT_GOOD : MOJO_ROOT_BAD;
	}
	if (roots.state[0] == MOJO_ROOT_BAD && roots.state[1] == MOJO_ROOT_BAD)
		for (unsigned i = 0; i < MOJO_ROOT_SLOTS; i++)
			if (mend_slot(bytes + (size_t)i * MOJO_ROOT_SLOT_BYTES, &roots.root[i]))
				roots.state[i] = MOJO_ROOT_MENDED;
	for (int i = 0; i < (int)MOJO_ROOT_SLOTS; i++)
		if (roots.state[i] != MOJO_ROOT_BAD &&
		    (roots.newest < 0 || roots.root[i].generation > roots.root[roots.newest].generation))
			roots.newest = i;
	for (unsigned i = 0; i < MOJO_ROOT_SLOTS; i++)
		tell_root(sink, &roots, i, bytes + (size_t)i * MOJO_ROOT_SLOT_BYTES);
	*ret_roots = roots;
	return 0;
}

/* ---- looking -------------------------------------------------------------------------------- */

static void tell_log(struct mojo_sink *sink, const struct mojo_store *store)
{
	struct mojo_finding f = {
		.kind = MOJO_FOUND_LOG,
		.severity = MOJO_ERROR,
		.address = store->lost_address,
	};
	if (store->lost_sequence && store->lost_index_only)
		mojo_found(sink, &f,
			   "the log cannot be read at address %" PRIu64 " (group %" PRIu64
			   "); there is only a piece of the index, to which the root leads as well: no change is lost",
			   store->lost_address, store->lost_sequence);
	else if (store->lost_sequence)
		mojo_found(sink, &f,
			   "the log is damaged at address %" PRIu64 ": group %" PRIu64
			   " was on stable storage and cannot be read; what was written from there on is lost",
			   store->lost_address, store->lost_sequence);
	f.address = 0;
	if (store->skipped_records)
		mojo_found(sink, &f, "%" PRIu64 " records of the log do not fit the index that is there",
			   store->skipped_records);
}

int mojo_look(struct mojo_io *io, const struct mojo_roots *roots, unsigned slot, bool scrub, struct mojo_sink *sink,
	      struct mojo_look *ret_look)
{
	struct mojo_config config = {
		.read_only = true,
		.cache_bytes = sink->options->cache_bytes ? sink->options->cache_bytes : CACHE_BYTES,
		.no_background = true,
	};
	const struct mojo_root *other = roots->state[slot ^ 1] == MOJO_ROOT_BAD ? NULL : &roots->root[slot ^ 1];
	struct mojo_store *store;
	int err = mojo_sink_progress(sink, "log", 0, 0);
	if (err)
		return err;
	err = mojo_open_mending(io, &config, &roots->root[slot], slot, &store);
	if (err)
		return err;
	if (mojo_find_held(store) != 0)
		store->main.held = UINT32_MAX; /* a damaged tree, told of below: let nothing die on replay */
	err = mojo_recover_log(store);
	if (!err) {
		tell_log(sink, store);
		err = mojo_verify(store, other, sink);
	}
	if (!err && scrub)
		err = mojo_scrub_into(store, sink, UINT64_MAX, sink->result.pages, false);
	struct mojo_look look = {
		.lost_sequence = store->lost_sequence,
		.lost_address = store->lost_address,
		.lost_index_only = store->lost_index_only,
		.skipped_records = store->skipped_records,
		.mark_pending = store->mark_pending,
	};
	mojo_abandon(store);
	if (!err)
		*ret_look = look;
	return err;
}

int mojo_check(struct mojo_io *io, const struct mojo_check_options *options, struct mojo_check_result *ret_result)
{
	static const struct mojo_check_options none;
	struct mojo_sink sink = { .options = options ? options : &none };
	struct mojo_config config = {
		.read_only = true,
		.owner = sink.options->owner,
		.event = sink.options->event,
		.event_arg = sink.options->arg,
	};
	struct mojo_io_file *lock = NULL;
	struct mojo_roots roots;
	struct mojo_look look;
	int err = mojo_roots_read(io, &config, NULL, &roots); /* before the lock: a newer store is left untouched */
	if (!err)
		err = mojo_lock(io, &config, &lock);
	if (!err)
		err = mojo_roots_read(io, &config, &sink, &roots);
	if (!err && roots.newest >= 0)
		err = mojo_look(io, &roots, (unsigned)roots.newest, sink.options->scrub, &sink, &look);
	if (lock)
		io->ops->close(lock);
	sink.result.errors_left = sink.result.errors;
	mojo_sink_free(&sink);
	*ret_result = sink.result;
	return err;
}
