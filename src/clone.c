/* SPDX-License-Identifier: MIT */
#include "clone.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "namespace.h"
#include "version.h"

#define CLONE_BYTES (1u << 20)   /* of slots that a step copies in memory, at most */
#define PIECE_BYTES (256u << 10) /* read and written at a time where nothing can be shared */
#define PLAIN_BYTES (16u << 20)  /* copied so by one call, at most */

/* ---- the record ----------------------------------------------------------------------------- */

/* Can the target take pages of the source as they are? */
static bool can_share(const struct mojo_inode *source, const struct mojo_inode *target)
{
	return S_ISREG(source->attr.mode) && S_ISREG(target->attr.mode) &&
	       (target->attr.pages == 0 || mojo_inode_seed(source) == mojo_inode_seed(target));
}

/* What the bucket has in @tree, if it is there, may be another one's as well. */
static int note_shared(struct mojo_store *store, struct mojo_tree *tree, uint32_t bucket, uint64_t limit)
{
	struct mojo_inode inode;
	int err = mojo_inode_get(tree, bucket, &inode);
	if (err)
		return err == -ENOENT ? 0 : err;
	inode.shared = limit;
	return mojo_inode_put(store, tree, &inode);
}

/* C1: the source as it is now, and as it is in the version that is being settled, which may let go of it, too. */
static int note_source(struct mojo_store *store, uint32_t source, uint64_t limit)
{
	struct mojo_tree *tree;
	int err = note_shared(store, &store->main, source, limit);
	if (err || !store->unpublished)
		return err;
	err = mojo_settle_begin(store, store->unpublished, &tree);
	if (err)
		return err;
	err = note_shared(store, tree, source, limit);
	int kept = mojo_settle_end(store, tree);
	return err ? err : kept;
}

int mojo_apply_clone(struct mojo_store *store, const struct mojo_record_clone *clone, uint64_t limit)
{
	struct mojo_tree frozen, *tree;
	struct mojo_inode source, target;
	uint64_t removed, added;
	int err = mojo_view(store, clone->version, &frozen, &tree);
	if (!err)
		err = mojo_inode_get(tree, clone->source, &source);
	if (!err)
		err = mojo_inode_get(&store->main, clone->target, &target);
	if (!err && (!can_share(&source, &target) || (tree == &store->main && clone->source == clone->target)))
		err = -EUCLEAN;
	if (err)
		return err;
	struct mojo_slotmap map = mojo_map_of(store, &store->main), from = mojo_map_of(store, tree);
	map.shared = target.shared;
	err = mojo_slotmap_clear(&map, clone->target, clone->first, clone->count, &removed);
	if (!err)
		err = mojo_slotmap_clone(&map, clone->target, &from, clone->source, clone->first, clone->count, &added);
	if (err)
		return err;
	uint32_t seed = mojo_inode_seed(&source);
	target.seed = seed == clone->target ? 0 : seed;
	if (added)
		target.shared = limit;
	target.attr.pages -= removed < target.attr.pages ? removed : target.attr.pages;
	target.attr.pages += added;
	if (target.attr.size < clone->size)
		target.attr.size = clone->size;
	target.attr.mtime_ns = target.attr.ctime_ns = clone->time_ns;
	err = mojo_inode_put(store, &store->main, &target);
	return err || !added ? err : note_source(store, clone->source, limit);
}

/* ---- a step of a copy ----------------------------------------------------------------------- */

struct copy {
	struct mojo_store *store;
	uint32_t version, from, to;
	uint64_t offset_in, offset_out, length; /* of what is left, bytes */
};

struct step {
	struct mojo_store *store;
	struct mojo_record_clone clone;
};

/* All pages have entries now, and the log's tail is behind the group in which they lie. */
static int apply_step(void *arg)
{
	struct step *s = arg;
	return mojo_apply_clone(s->store, &s->clone, s->store->log.tail);
}

/* Which pages the next step shares. *ret_bytes 0: none. */
static void plan_step(const struct copy *c, const struct mojo_inode *source, const struct mojo_inode *target,
		      struct mojo_record_clone *ret_clone, uint64_t *ret_bytes)
{
	uint32_t page_size = mojo_page_size(c->store), pps = c->store->root.pages_per_slot; /* the lock is held */
	uint32_t slots = CLONE_BYTES / (pps * MOJO_ENTRY_BYTES);
	uint64_t left = source->attr.size - c->offset_in, end = c->offset_in + (c->length < left ? c->length : left);
	uint64_t first = c->offset_in / page_size, last = end / page_size;
	*ret_bytes = 0;
	if (!can_share(source, target))
		return;
	/* Behind the ends of both files nothing is: the rest of the last page may go along, and of the last slot. */
	if (end == source->attr.size && target->attr.size <= end)
		last = (end + (uint64_t)pps * page_size - 1) / ((uint64_t)pps * page_size) * pps;
	uint64_t most = (first / pps + (slots ? slots : 1)) * pps;
	if (last > most)
		last = most;
	if (last > 1ull << 32)
		last = 1ull << 32;
	if (last <= first)
		return;
	if (last * page_size < end)
		end = last * page_size;
	*ret_bytes = end - c->offset_in;
	ret_clone->first = first;
	ret_clone->count = last - first;
	ret_clone->size = end;
}

/* Shares what comes next, if that is possible; *ret_bytes 0: it is not. [the lock is held, and let go of] */
static int share(const struct copy *c, uint64_t *ret_bytes)
{
	struct mojo_store *store = c->store;
	struct mojo_tree frozen, *tree;
	struct mojo_inode source, target;
	struct step step = { .store = store, .clone = { .version = c->version, .source = c->from, .target = c->to } };
	uint8_t payload[MOJO_CLONE_BYTES];
	uint64_t bytes, present;
	int err = mojo_begin_closing(store, MOJO_CLAIM_NEW);
	if (err)
		return err;
	err = mojo_view(store, c->version, &frozen, &tree);
	if (!err)
		err = mojo_inode_get(tree, c->from, &source);
	if (!err)
		err = mojo_inode_get(&store->main, c->to, &target);
	if (err)
		return err;
	*ret_bytes = 0;
	if (c->offset_in >= source.attr.size)
		return 0;
	plan_step(c, &source, &target, &step.clone, &bytes);
	if (!bytes)
		return 0;
	/* What cannot be read is found out before anything changes. */
	struct mojo_slotmap map = mojo_map_of(store, &store->main), from = mojo_map_of(store, tree);
	err = mojo_slotmap_count(&from, c->from, step.clone.first, step.clone.count, &present);
	if (!err)
		err = mojo_slotmap_count(&map, c->to, step.clone.first, step.clone.count, &present);
	if (err)
		return err;
	if (tree == &store->main)
		step.clone.version = MOJO_ACTIVE;
	step.clone.time_ns = mojo_now(store);
	mojo_record_clone_encode(payload, &step.clone);
	struct mojo_log_closing closing = {
		.type = MOJO_RECORD_CLONE,
		.payload = payload,
		.length = sizeof(payload),
		.apply = apply_step,
		.arg = &step,
	};
	err = mojo_log_close(&store->log, false, &closing);
	if (!err)
		*ret_bytes = bytes;
	return err;
}

/* Copies a piece as bytes. *ret_bytes 0: the source ends. */
static int copy_piece(const struct copy *c, uint8_t *buf, size_t *ret_bytes)
{
	size_t length = c->length < PIECE_BYTES ? (size_t)c->length : PIECE_BYTES;
	int err = mojo_read(c->store, c->version, c->from, c->offset_in, buf, length, ret_bytes);
	if (err || !*ret_bytes)
		return err;
	return mojo_write(c->store, c->to, c->offset_out, buf, *ret_bytes);
}

/* Both are there, and files; a bucket can be copied within itself where the ranges do not overlap. The copy ends where
 * the source ends now, even if it is to grow by it. */
static int check_files(struct copy *c)
{
	struct mojo_attr source = { 0 }, target;
	uint64_t apart = c->offset_in < c->offset_out ? c->offset_out - c->offset_in : c->offset_in - c->offset_out;
	int err = mojo_getattr(c->store, c->version, c->from, &source);
	if (!err)
		err = mojo_getattr(c->store, MOJO_ACTIVE, c->to, &target);
	if (err)
		return err;
	if (S_ISDIR(source.mode) || S_ISDIR(target.mode))
		return -EISDIR;
	if (!S_ISREG(source.mode) || !S_ISREG(target.mode))
		return -EINVAL;
	uint64_t left = source.size > c->offset_in ? source.size - c->offset_in : 0;
	if (c->length > left)
		c->length = left;
	bool is_active = c->version == MOJO_ACTIVE || c->version == mojo_active_version(c->store);
	return is_active && c->from == c->to && apart < c->length ? -EINVAL : 0;
}

int mojo_copy(struct mojo_store *store, uint32_t version, uint32_t from, uint64_t offset_in, uint32_t to,
	      uint64_t offset_out, uint64_t length, uint64_t *ret_copied)
{
	uint64_t size_max = (1ull << 32) * mojo_page_size(store), copied = 0, plain = 0;
	if (store->config.read_only)
		return -EROFS;
	if (offset_out > size_max || offset_in > size_max)
		return -EFBIG;
	if (length > size_max - offset_out)
		length = size_max - offset_out;
	struct copy c = { store, version, from, to, offset_in, offset_out, length };
	uint8_t *buf = NULL;
	int err = check_files(&c);
	while (!err && c.length && plain < PLAIN_BYTES) {
		uint64_t bytes = 0;
		if (c.offset_in == c.offset_out && c.offset_in % mojo_page_size(store) == 0) {
			pthread_mutex_lock(&store->mu);
			err = share(&c, &bytes);
			pthread_mutex_unlock(&store->mu);
		}
		if (!err && !bytes) {
			size_t got = 0;
			if (!buf)
				buf = malloc(PIECE_BYTES);
			err = buf ? copy_piece(&c, buf, &got) : -ENOMEM;
			if (!err && !got)
				break;
			bytes = got;
			plain += got;
		}
		if (err)
			break;
		copied += bytes;
		c.offset_in += bytes;
		c.offset_out += bytes;
		c.length -= bytes;
	}
	free(buf);
	if (err && !copied)
		return err;
	*ret_copied = copied;
	return 0;
}
