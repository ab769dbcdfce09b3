/* SPDX-License-Identifier: MIT */
#include "recover.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "checksum.h"
#include "clone.h"
#include "namespace.h"
#include "version.h"

/* ---- the root ------------------------------------------------------------------------------- */

int mojo_recover_root(struct mojo_io *io, struct mojo_io_file *state_file, const struct mojo_config *config,
		      struct mojo_root *ret_root, unsigned *ret_slot)
{
	uint8_t bytes[MOJO_ROOT_SLOTS * MOJO_ROOT_SLOT_BYTES] = { 0 };
	size_t got;
	int err = io->ops->read(state_file, bytes, sizeof(bytes), 0, &got);
	if (err)
		return err;
	struct mojo_root roots[MOJO_ROOT_SLOTS];
	int errs[MOJO_ROOT_SLOTS], best = -1;
	for (unsigned i = 0; i < MOJO_ROOT_SLOTS; i++) {
		errs[i] = mojo_root_decode(bytes + (size_t)i * MOJO_ROOT_SLOT_BYTES, &roots[i]);
		if (errs[i] == -EPROTONOSUPPORT) {
			mojo_event(config, MOJO_ERROR, "the store has a newer format than this program knows (%u)",
				   MOJO_FORMAT_VERSION);
			return errs[i];
		}
		if (!errs[i] && (best < 0 || roots[i].generation > roots[best].generation))
			best = (int)i;
	}
	if (best < 0) {
		mojo_event(config, MOJO_ERROR, "%s holds no valid root: both copies are damaged, or this is no store",
			   MOJO_STATE_FILE);
		return -EUCLEAN;
	}
	if (errs[best ^ 1])
		mojo_event(config, MOJO_WARNING,
			   "one of the two roots in %s is damaged; the other one serves, nothing is lost",
			   MOJO_STATE_FILE);
	*ret_root = roots[best];
	*ret_slot = (unsigned)best;
	return 0;
}

/* ---- reading groups ------------------------------------------------------------------------- */

struct scanned {
	struct mojo_group group;
	uint64_t epoch; /* that was expected when it was read */
};

struct scan {
	struct mojo_store *store;
	const struct mojo_root *root; /* borrowed: where it begins */
	struct scanned *groups;       /* owned */
	size_t count, capacity;
	uint64_t durable; /* highest sequence known to be on stable storage */
	uint8_t *header;  /* owned; header blocks of the group read last */
	size_t header_bytes;
};

/* mojo_chunks_read_some(). Whoever mends a store takes what the host cannot read for zeros. */
static int read_some(struct mojo_store *store, uint64_t address, void *buf, size_t bytes, size_t *ret_bytes)
{
	int err = mojo_chunks_read_some(&store->chunks, address, buf, bytes, ret_bytes);
	if (err == -EIO && store->mending) {
		memset(buf, 0, bytes);
		*ret_bytes = bytes;
		err = 0;
	}
	return err;
}

/* Reads and verifies the header of the group at @address into scan->header. -EUCLEAN: there is none. */
static int read_group(struct scan *scan, uint64_t address, struct mojo_group *ret_group)
{
	struct mojo_store *store = scan->store;
	uint32_t block = mojo_page_size(store);
	size_t got;
	if (address > MOJO_ADDRESS_MAX)
		return -EUCLEAN;
	if (!scan->header) {
		scan->header = malloc(block);
		if (!scan->header)
			return -ENOMEM;
		scan->header_bytes = block;
	}
	int err = read_some(store, address, scan->header, block, &got);
	if (err)
		return err;
	if (got < block)
		return -EUCLEAN;
	struct mojo_group group;
	err = mojo_group_peek(scan->header, block, store->root.chunk_blocks, store->root.store_id, address, &group);
	if (err)
		return err;
	size_t bytes = (size_t)group.header_blocks * block;
	if (bytes > scan->header_bytes) {
		uint8_t *grown = realloc(scan->header, bytes);
		if (!grown)
			return -ENOMEM;
		scan->header = grown;
		scan->header_bytes = bytes;
	}
	if (bytes > block) {
		err = read_some(store, address, scan->header, bytes, &got);
		if (err)
			return err;
		if (got < bytes)
			return -EUCLEAN;
	}
	err = mojo_group_verify(scan->header, block, &group);
	if (!err)
		*ret_group = group;
	return err;
}

/* Does the group just read go on where epoch @epoch left off? */
static bool continues(const struct scan *scan, const struct mojo_group *group, uint64_t epoch)
{
	struct mojo_record record;
	size_t offset = 0;
	if (group->epoch == epoch)
		return true;
	return mojo_record_next(scan->header + MOJO_GROUP_HEADER_BYTES, group->record_bytes, &offset, &record) == 0 &&
	       record.type == MOJO_RECORD_EPOCH && record.length == 8 && mojo_get64(record.payload) == epoch;
}

/* The group with @sequence at @address, or at the beginning of the next chunk. -EUCLEAN: the log ends here. */
static int read_next(struct scan *scan, uint64_t address, uint64_t sequence, uint64_t epoch,
		     struct mojo_group *ret_group)
{
	uint32_t chunk_blocks = scan->store->root.chunk_blocks;
	for (int turn = 0; turn < 2; turn++) {
		struct mojo_group group;
		int err = read_group(scan, address, &group);
		if (!err && group.sequence == sequence && continues(scan, &group, epoch)) {
			*ret_group = group;
			return 0;
		}
		if (err && err != -EUCLEAN)
			return err;
		if (address % chunk_blocks == 0)
			break;
		address += chunk_blocks - address % chunk_blocks;
	}
	return -EUCLEAN;
}

static uint64_t group_end(const struct mojo_group *group)
{
	return group->address + group->header_blocks + group->data_blocks;
}

static int search(struct scan *scan, uint64_t address, uint64_t sequence, bool exact, bool *ret_found,
		  struct mojo_group *ret_group);

/* One of the groups with the root's own blobs cannot be read. The root leads to the blobs all the same, and
 * nothing else was in those groups: look for the group that follows them. 0, -EUCLEAN: there is none. */
static int step_over(struct scan *scan, uint64_t address, uint64_t sequence, struct mojo_group *ret_group)
{
	struct mojo_store *store = scan->store;
	uint64_t durable = scan->root->durable_sequence;
	bool found;
	if (!store->mending || sequence > durable || store->lost_sequence)
		return -EUCLEAN;
	store->lost_sequence = sequence;
	store->lost_address = address;
	store->lost_index_only = true;
	int err = search(scan, address, durable + 1, true, &found, ret_group);
	return err ? err : found ? 0 : -EUCLEAN;
}

static int scan_log(struct scan *scan)
{
	const struct mojo_root *root = scan->root;
	uint64_t address = root->log_address, sequence = root->log_sequence, epoch = root->epoch;
	scan->durable = root->durable_sequence;
	for (;;) {
		struct mojo_group group;
		int err = read_next(scan, address, sequence, epoch, &group);
		if (err == -EUCLEAN) {
			err = step_over(scan, address, sequence, &group);
			if (!err)
				sequence = group.sequence;
		}
		if (err)
			return err == -EUCLEAN ? 0 : err;
		if (scan->count == scan->capacity) {
			size_t capacity = scan->capacity ? scan->capacity * 2 : 256;
			struct scanned *grown = realloc(scan->groups, capacity * sizeof(*grown));
			if (!grown)
				return -ENOMEM;
			scan->groups = grown;
			scan->capacity = capacity;
		}
		scan->groups[scan->count++] = (struct scanned){ group, epoch };
		if (group.durable_sequence > scan->durable)
			scan->durable = group.durable_sequence;
		address = group_end(&group);
		sequence++;
		epoch = group.epoch;
	}
}

/* ---- how much of it counts ------------------------------------------------------------------ */

/* Are all pages that the group speaks of what it says? 0, -EUCLEAN if not. */
static int check_pages(struct scan *scan, const struct scanned *s)
{
	struct mojo_store *store = scan->store;
	uint32_t block = mojo_page_size(store);
	struct mojo_group group;
	int err = read_group(scan, s->group.address, &group);
	if (err)
		return err;
	uint8_t *page = malloc(block);
	if (!page)
		return -ENOMEM;
	uint64_t address = group.address + group.header_blocks;
	struct mojo_record record;
	size_t offset = 0;
	while (!(
		err = mojo_record_next(scan->header + MOJO_GROUP_HEADER_BYTES, group.record_bytes, &offset, &record))) {
		struct mojo_record_pages pages;
		if (record.type != MOJO_RECORD_PAGES)
			continue;
		err = mojo_record_pages_decode(&record, &pages);
		for (uint32_t i = 0; i < pages.count && !err; i++, address++) {
			size_t got;
			if (address >= group_end(&group)) {
				err = -EUCLEAN;
				break;
			}
			err = read_some(store, address, page, block, &got);
			if (!err && (got < block || mojo_checksum_page(page, block, pages.seed, pages.first + i) !=
							    mojo_get32(pages.checksums + 4 * (size_t)i)))
				err = -EUCLEAN;
		}
		if (err)
			break;
	}
	free(page);
	return err == -ENOENT ? 0 : err;
}

/* How many groups belong to whole batches that are there with all their pages. */
static int whole_batches(struct scan *scan, size_t *ret_count)
{
	size_t whole = 0;
	for (size_t i = 0; i < scan->count; i++) {
		if (!(scan->groups[i].group.flags & MOJO_GROUP_BATCH_END))
			continue;
		if (scan->groups[i].group.sequence > scan->durable) {
			int err = 0;
			for (size_t k = whole; k <= i && !err; k++)
				err = check_pages(scan, &scan->groups[k]);
			if (err == -EUCLEAN)
				break;
			if (err)
				return err;
		}
		whole = i + 1;
	}
	*ret_count = whole;
	return 0;
}

struct lowest {
	uint64_t from;
	int64_t number; /* -1: none yet */
};

static int look_at_name(void *arg, const char *name)
{
	struct lowest *lowest = arg;
	int64_t number = mojo_chunk_number(name);
	if (number >= 0 && (uint64_t)number >= lowest->from && (lowest->number < 0 || number < lowest->number))
		lowest->number = number;
	return 0;
}

/* The lowest number from @from on of a chunk that has a file, or -1. Several files in a row may be lost. */
static int next_chunk(struct mojo_store *store, uint64_t from, int64_t *ret_number)
{
	struct lowest lowest = { .from = from, .number = -1 };
	int err = store->io->ops->list(store->io, MOJO_CHUNK_DIR, look_at_name, &lowest);
	if (!err && lowest.number >= 0 && (uint64_t)lowest.number > MOJO_ADDRESS_MAX / store->root.chunk_blocks)
		lowest.number = -1; /* of no store of this geometry */
	if (!err)
		*ret_number = lowest.number;
	return err;
}

/*
 * Is there, at or behind @address, a group that says that @sequence was durable? Or, if @exact, the group with that
 * sequence, written when what came before it was durable?
 */
static int search(struct scan *scan, uint64_t address, uint64_t sequence, bool exact, bool *ret_found,
		  struct mojo_group *ret_group)
{
	struct mojo_store *store = scan->store;
	uint32_t block = mojo_page_size(store), chunk_blocks = store->root.chunk_blocks;
	enum { PIECE_BYTES = 128 << 10 }; /* most of it is empty: no more than stays in a processor's cache */
	uint8_t *piece = malloc(PIECE_BYTES);
	if (!piece)
		return -ENOMEM;
	int err = 0;
	bool found = false;
	while (!err && !found) {
		uint64_t room = (chunk_blocks - address % chunk_blocks) * (uint64_t)block;
		size_t want = room < PIECE_BYTES ? (size_t)room : PIECE_BYTES, got;
		err = read_some(store, address, piece, want, &got);
		if (err)
			break;
		for (size_t at = 0; at + block <= got && !found; at += block) {
			struct mojo_group group;
			if (mojo_group_peek(piece + at, block, chunk_blocks, store->root.store_id, address + at / block,
					    &group) != 0 ||
			    (exact ? group.sequence != sequence || group.durable_sequence != sequence - 1
				   : group.durable_sequence < sequence))
				continue;
			found = read_group(scan, group.address, &group) == 0;
			if (found)
				*ret_group = group;
		}
		address += want / block;
		if (got < want) { /* the file ends, or is not there: on to the next one that is */
			int64_t next;
			err = next_chunk(store, (address + chunk_blocks - 1) / chunk_blocks, &next);
			if (err || next < 0)
				break;
			address = (uint64_t)next * chunk_blocks;
		}
	}
	free(piece);
	*ret_found = found;
	return err;
}

/* ---- applying ------------------------------------------------------------------------------- */

static int apply_pages(struct mojo_store *store, const struct mojo_record *record, uint64_t *address, uint64_t end)
{
	struct mojo_record_pages pages;
	struct mojo_inode inode;
	struct mojo_tree *tree;
	int err = mojo_record_pages_decode(record, &pages);
	if (err)
		return err;
	if (pages.count > end - *address)
		return -EUCLEAN;
	err = mojo_settle_begin(store, pages.version == store->active ? MOJO_ACTIVE : pages.version, &tree);
	if (!err)
		err = mojo_inode_get(tree, pages.bucket, &inode);
	if (err)
		return err == -ENOENT ? -EUCLEAN : err;
	uint32_t *sums = malloc((size_t)pages.count * sizeof(*sums)), added;
	if (!sums)
		return -ENOMEM;
	for (uint32_t i = 0; i < pages.count; i++)
		sums[i] = mojo_get32(pages.checksums + 4 * (size_t)i);
	struct mojo_slotmap map = mojo_map_of(store, tree);
	map.shared = inode.shared;
	err = mojo_slotmap_set(&map, pages.bucket, pages.first, pages.count, *address, sums, &added);
	free(sums);
	*address += pages.count;
	if (!err && added) {
		inode.attr.pages += added;
		err = mojo_inode_put(store, tree, &inode);
	}
	int kept = mojo_settle_end(store, tree);
	return err ? err : kept;
}

static int apply_blobs(struct mojo_store *store, const struct mojo_record *record, uint64_t *address, uint64_t end)
{
	if (record->length != 12)
		return -EUCLEAN;
	uint64_t generation = mojo_get64(record->payload);
	uint32_t blocks = mojo_get32(record->payload + 8);
	if (blocks > end - *address)
		return -EUCLEAN;
	if (generation != store->root.generation) /* of a checkpoint that never came to be, or is lost */
		mojo_space_kill(&store->space, *address, blocks);
	*address += blocks;
	return 0;
}

/* Inodes follow the records of their group: a bucket that was made and emptied, or made and removed, within one
 * group is not there yet when the record comes, and has nothing to lose. */
static int is_known(const struct mojo_tree *tree, uint32_t bucket, bool *ret_known)
{
	struct mojo_inode inode;
	int err = mojo_inode_get(tree, bucket, &inode);
	if (err && err != -ENOENT)
		return err;
	*ret_known = !err;
	return 0;
}

/* @end: blocks from there on are none that could be shared. */
static int apply_share(struct mojo_store *store, struct mojo_tree *tree, const struct mojo_record *record, uint64_t end)
{
	struct mojo_record_share share;
	struct mojo_inode inode;
	uint32_t added;
	int err = mojo_record_share_decode(record, &share);
	for (uint32_t i = 0; !err && i < share.count; i++) {
		struct mojo_entry entry = mojo_entry_decode(share.entries + (size_t)i * MOJO_ENTRY_BYTES);
		if (entry.version >= tree->version || entry.address >= end)
			err = -EUCLEAN;
	}
	if (!err)
		err = mojo_inode_get(tree, share.bucket, &inode);
	if (err)
		return err;
	struct mojo_slotmap map = mojo_map_of(store, tree);
	map.shared = inode.shared;
	err = mojo_slotmap_share(&map, share.bucket, share.first, share.count, share.entries, &added);
	if (err || !added)
		return err;
	inode.attr.pages += added;
	return mojo_inode_put(store, tree, &inode);
}

/* A record that may be of either tree. @end: where its group's data blocks begin, or a later one of them. */
static int apply_change(struct mojo_store *store, struct mojo_tree *tree, const struct mojo_record *record,
			uint64_t end)
{
	const uint8_t *p = record->payload;
	bool known;
	int err;
	switch (record->type) {
	case MOJO_RECORD_INODE:
		if (record->length < 4 || mojo_get32(p) == 0 || mojo_get32(p) > MOJO_BUCKET_MAX)
			return -EUCLEAN;
		return mojo_apply_inode(store, tree, mojo_get32(p), p + 4, record->length - 4);
	case MOJO_RECORD_UNLINK:
		return record->length == 12 ? mojo_apply_unlink(tree, mojo_get32(p), mojo_get64(p + 4)) : -EUCLEAN;
	case MOJO_RECORD_REMOVE:
		if (record->length != 4)
			return -EUCLEAN;
		err = is_known(tree, mojo_get32(p), &known);
		return err || !known ? err : mojo_apply_remove(store, tree, mojo_get32(p));
	case MOJO_RECORD_CLEAR:
		if (record->length != 20)
			return -EUCLEAN;
		err = is_known(tree, mojo_get32(p), &known);
		return err || !known
			       ? err
			       : mojo_apply_clear(store, tree, mojo_get32(p), mojo_get64(p + 4), mojo_get64(p + 12));
	case MOJO_RECORD_SHARE:
		return apply_share(store, tree, record, end);
	default:
		return -EUCLEAN;
	}
}

static int apply_record(struct mojo_store *store, const struct mojo_record *record, uint64_t *address, uint64_t end)
{
	const uint8_t *p = record->payload;
	bool unpublished = record->flags & MOJO_RECORD_UNPUBLISHED;
	struct mojo_record_link link;
	struct mojo_record_commit commit;
	struct mojo_record_verdict verdict;
	struct mojo_record_clone clone;
	struct mojo_tree *tree;
	int err, kept;
	switch (record->type) {
	case MOJO_RECORD_EPOCH:
		return record->length == 8 ? 0 : -EUCLEAN;
	case MOJO_RECORD_PAGES:
		return apply_pages(store, record, address, end);
	case MOJO_RECORD_BLOBS:
		return apply_blobs(store, record, address, end);
	case MOJO_RECORD_INODE:
	case MOJO_RECORD_UNLINK:
	case MOJO_RECORD_REMOVE:
	case MOJO_RECORD_CLEAR:
	case MOJO_RECORD_SHARE:
		if (unpublished && !store->unpublished)
			return -EUCLEAN;
		err = mojo_settle_begin(store, unpublished ? store->unpublished : MOJO_ACTIVE, &tree);
		if (err)
			return err;
		err = apply_change(store, tree, record, *address);
		kept = mojo_settle_end(store, tree);
		return err ? err : kept;
	case MOJO_RECORD_LINK:
		err = mojo_record_link_decode(record, &link);
		return err ? err : mojo_apply_link(store, &link);
	case MOJO_RECORD_COMMIT:
		err = mojo_record_commit_decode(record, &commit);
		return err ? err : mojo_apply_commit(store, &commit, unpublished);
	case MOJO_RECORD_PUBLISH:
		return record->length == 4 ? mojo_apply_publish(store, mojo_get32(p)) : -EUCLEAN;
	case MOJO_RECORD_DROP:
		return record->length == 4 ? mojo_apply_drop(store, mojo_get32(p)) : -EUCLEAN;
	case MOJO_RECORD_CLONE:
		err = mojo_record_clone_decode(record, &clone);
		return err ? err : mojo_apply_clone(store, &clone, end);
	case MOJO_RECORD_VERDICT:
		err = mojo_record_verdict_decode(record, &verdict);
		return err ? err : mojo_apply_verdict(store, &verdict);
	default:
		return -EUCLEAN; /* of a format that we do not know, and cannot step over */
	}
}

/* How many of the @most data blocks that are left belong to @record. */
static uint64_t data_blocks(const struct mojo_record *record, uint64_t most)
{
	struct mojo_record_pages pages;
	uint64_t blocks = 0;
	if (record->type == MOJO_RECORD_PAGES && mojo_record_pages_decode(record, &pages) == 0)
		blocks = pages.count;
	else if (record->type == MOJO_RECORD_BLOBS && record->length == 12)
		blocks = mojo_get32(record->payload + 8);
	return blocks < most ? blocks : most;
}

static int apply_group(struct scan *scan, const struct scanned *s)
{
	struct mojo_store *store = scan->store;
	struct mojo_group group;
	int err = read_group(scan, s->group.address, &group);
	if (err)
		return err;
	if (group.sequence != s->group.sequence)
		return -EUCLEAN;
	mojo_space_kill(&store->space, group.address, group.header_blocks);
	uint64_t address = group.address + group.header_blocks, end = group_end(&group);
	struct mojo_record record;
	size_t offset = 0;
	uint32_t count = 0;
	while (!(
		err = mojo_record_next(scan->header + MOJO_GROUP_HEADER_BYTES, group.record_bytes, &offset, &record))) {
		uint64_t behind = address + data_blocks(&record, end - address);
		err = apply_record(store, &record, &address, end);
		if (store->mending && (err == -ENOENT || err == -EUCLEAN)) {
			store->skipped_records++;
			address = behind;
			err = 0;
		}
		if (err)
			return err == -ENOENT ? -EUCLEAN : err; /* it speaks of what is not there */
		count++;
	}
	if (err != -ENOENT)
		return err;
	return count == group.record_count && address == end ? 0 : -EUCLEAN;
}

/* The chunk in which the log goes on at @address, which may be the end of one. */
static int set_tail(struct mojo_store *store, uint64_t address)
{
	struct mojo_log *log = &store->log;
	uint32_t chunk = (uint32_t)(address / log->chunk_blocks);
	if (address % log->chunk_blocks == 0 && address > 0) {
		int exists = mojo_chunks_exists(&store->chunks, chunk);
		if (exists < 0)
			return exists;
		if (!exists)
			chunk--;
	}
	log->chunk = chunk;
	log->tail = log->allocated = address;
	return 0;
}

static int damaged(struct mojo_store *store, uint64_t sequence, uint64_t address)
{
	store->lost_sequence = sequence;
	store->lost_address = address;
	store->lost_index_only = false;
	if (store->mending)
		return 0;
	mojo_event(
		&store->config, MOJO_ERROR,
		"the log is damaged at address %" PRIu64 ": group %" PRIu64
		" was on stable storage and cannot be read; nothing was changed. Mount read-only to see what came before; "
		"mojofs check --repair --dry-run says what can be saved",
		address, sequence);
	return -EUCLEAN;
}

int mojo_recover_log(struct mojo_store *store)
{
	struct scan scan = { .store = store, .root = &store->root };
	struct mojo_group later;
	struct mojo_log *log = &store->log;
	size_t whole = 0;
	int err = scan_log(&scan);
	if (!err)
		err = whole_batches(&scan, &whole);
	if (err)
		goto out;

	uint64_t address = store->root.log_address, sequence = store->root.log_sequence, epoch = store->root.epoch;
	if (whole) {
		const struct mojo_group *last = &scan.groups[whole - 1].group;
		address = group_end(last);
		sequence = last->sequence + 1;
		epoch = last->epoch;
	}
	if (store->lost_index_only && sequence <= store->root.durable_sequence)
		sequence = store->root.durable_sequence + 1; /* what is missing needs no replay */
	bool lost = sequence <= scan.durable;
	if (!lost)
		err = search(&scan, address, sequence, false, &lost, &later);
	if (err)
		goto out;
	if (lost) {
		err = damaged(store, sequence, address);
		/* The root's own groups hold its index: without them there is nothing to show. */
		if (err && (!store->config.read_only || sequence <= store->root.durable_sequence))
			goto out;
		err = 0;
	}

	uint64_t end = store->root.log_address;
	for (size_t i = 0; i < whole && !err; i++) {
		const struct mojo_group *group = &scan.groups[i].group;
		if (group->address != end &&
		    (i ? scan.groups[i - 1].group.sequence : store->root.log_sequence - 1) + 1 ==
			    group->sequence) /* the end of a chunk that was left unused */
			mojo_space_kill(&store->space, end, group->address - end);
		err = apply_group(&scan, &scan.groups[i]);
		end = group_end(group);
		if (group->sequence > store->root.durable_sequence) /* else: the root's own */
			log->bytes_since_root += (end - group->address) * mojo_page_size(store);
	}
	if (err == -EUCLEAN)
		mojo_event(&store->config, MOJO_ERROR,
			   "the log holds a record that does not fit the index; nothing was changed");
	if (!err)
		err = set_tail(store, address);
	log->sequence = sequence;
	log->durable_sequence = sequence - 1;
	log->previous_epoch = epoch;
	log->version = store->active;

	/* What was replayed beyond proof may still be in the host's memory alone: see to it before later groups
	 * claim that it is durable. */
	uint32_t flushed = UINT32_MAX;
	for (size_t i = 0; i < whole && !err && !store->config.read_only; i++) {
		uint32_t chunk = (uint32_t)(scan.groups[i].group.address / store->root.chunk_blocks);
		if (scan.groups[i].group.sequence > scan.durable && chunk != flushed) {
			err = mojo_chunks_flush(&store->chunks, chunk);
			flushed = chunk;
		}
	}
out:
	free(scan.groups);
	free(scan.header);
	return err;
}

int mojo_recover_follow(struct mojo_store *store, const struct mojo_root *root, uint64_t *ret_sequence)
{
	struct scan scan = { .store = store, .root = root };
	bool mending = store->mending;
	store->mending = false; /* no stepping over */
	int err = scan_log(&scan);
	store->mending = mending;
	if (!err)
		*ret_sequence = scan.count ? scan.groups[scan.count - 1].group.sequence + 1 : root->log_sequence;
	free(scan.groups);
	free(scan.header);
	return err;
}
