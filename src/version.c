/* SPDX-License-Identifier: MIT */
#include "version.h"

#include <assert.h>
#include <errno.h>

static_assert(MOJO_VERSION_BYTES_MAX <= MOJO_VALUE_BYTES_MAX, "a version's value fits in a cell");

/* @ret_value points into @cell. */
static int get_version(struct mojo_store *store, uint32_t version, struct mojo_cell *cell,
		       struct mojo_version_value *ret_value)
{
	uint8_t key[4];
	mojo_put_be32(key, version);
	int err = mojo_tree_get(&store->versions, key, sizeof(key), cell);
	return err ? err : mojo_version_decode(cell->value, cell->value_length, ret_value);
}

/* A reference in the value moves with it: the tree has the same count as before. */
static int put_version(struct mojo_store *store, uint32_t version, const struct mojo_version_value *value)
{
	uint8_t key[4], bytes[MOJO_VERSION_BYTES_MAX];
	mojo_put_be32(key, version);
	return mojo_tree_put(&store->versions, key, sizeof(key), bytes, mojo_version_encode(bytes, value));
}

static struct mojo_tree tree_of(struct mojo_store *store, uint32_t version, const uint8_t *root)
{
	struct mojo_tree tree = { .blobs = &store->blobs, .kind = MOJO_TREE_MAIN, .version = version };
	memcpy(tree.root, root, MOJO_REF_BYTES);
	return tree;
}

int mojo_view(struct mojo_store *store, uint32_t version, struct mojo_tree *frozen, struct mojo_tree **ret_tree)
{
	if (version == MOJO_ACTIVE || version == store->active) {
		*ret_tree = &store->main;
		return 0;
	}
	if (version == store->unpublished) {
		*ret_tree = &store->settling;
		return 0;
	}
	struct mojo_cell cell;
	struct mojo_version_value value;
	int err = get_version(store, version, &cell, &value);
	if (err)
		return err;
	*frozen = tree_of(store, version, value.root);
	*ret_tree = frozen;
	return 0;
}

int mojo_version_below(struct mojo_store *store, uint32_t version, struct mojo_tree *ret_tree)
{
	uint8_t key[4];
	struct mojo_cell cell;
	struct mojo_version_value value;
	mojo_put_be32(key, version);
	int err = mojo_tree_before(&store->versions, key, sizeof(key), &cell);
	if (!err && cell.key_length != 4)
		err = -EUCLEAN;
	if (!err)
		err = mojo_version_decode(cell.value, cell.value_length, &value);
	if (!err)
		*ret_tree = tree_of(store, mojo_get_be32(cell.key), value.root);
	return err;
}

int mojo_find_held(struct mojo_store *store)
{
	struct mojo_settled *settled = &store->settled;
	uint32_t from = store->active;
	settled->count = 0;
	settled->cut = false;
	store->unpublished = 0;
	settled->base = (struct mojo_tree){ 0 };
	store->main.held = UINT32_MAX; /* if it cannot be told: nothing dies */
	for (;;) {
		uint8_t key[4];
		struct mojo_cell cell;
		struct mojo_version_value value;
		mojo_put_be32(key, from);
		int err = mojo_tree_before(&store->versions, key, sizeof(key), &cell);
		if (!err && cell.key_length != 4)
			err = -EUCLEAN;
		if (!err)
			err = mojo_version_decode(cell.value, cell.value_length, &value);
		if (err && err != -ENOENT)
			return err;
		uint32_t version = err ? 0 : mojo_get_be32(cell.key);
		if (!err && value.unpublished && version == store->active - 1) {
			store->unpublished = version;
			store->settling = tree_of(store, version, value.root);
			store->settling.held = UINT32_MAX;
			store->settling.above = &store->main;
			store->settling.settled = settled;
		}
		settled->cut = !err && value.settled && settled->count == MOJO_SETTLED_MAX;
		if (err || !value.settled || settled->cut) {
			store->main.held = version;
			if (version)
				settled->base = tree_of(store, version, value.root);
			break;
		}
		settled->trees[settled->count++] = tree_of(store, version, value.root);
		from = version;
	}
	store->settling.held = store->main.held;
	return 0;
}

/* ---- freezing and publishing ---------------------------------------------------------------- */

int mojo_apply_commit(struct mojo_store *store, const struct mojo_record_commit *commit, bool unpublished)
{
	if (commit->version != store->active || store->unpublished)
		return -EUCLEAN;
	struct mojo_version_value value = {
		.time_ns = commit->time_ns,
		.unpublished = unpublished,
		.message = commit->message,
		.message_length = commit->message_length,
	};
	memcpy(value.root, store->main.root, MOJO_REF_BYTES);
	int err = put_version(store, commit->version, &value);
	if (err)
		return err;
	mojo_ref_retain(store->main.root);
	store->active++;
	store->frozen++;
	store->main.version = store->active;
	store->log.version = store->active;
	return mojo_find_held(store);
}

struct freeze {
	struct mojo_store *store;
	struct mojo_record_commit commit;
	bool unpublished;
};

static int freeze(void *arg)
{
	struct freeze *f = arg;
	return mojo_apply_commit(f->store, &f->commit, f->unpublished);
}

int mojo_begin_closing(struct mojo_store *store, enum mojo_claim claim)
{
	int err;
	do {
		err = mojo_begin(store, 0, claim);
		if (!err)
			mojo_log_wait(&store->log);
	} while (!err && store->quiet);
	return err;
}

/* As mojo_freeze(), or, unless @unpublished, as mojo_commit(). */
static int freeze_active(struct mojo_store *store, const char *message, size_t length, mojo_freeze_fn *check, void *arg,
			 bool unpublished, uint32_t *ret_version)
{
	if (length > MOJO_MESSAGE_MAX)
		return -E2BIG;
	if (length && memchr(message, '\0', length))
		return -EINVAL;
	uint8_t payload[MOJO_COMMIT_FIXED_BYTES + MOJO_MESSAGE_MAX];
	pthread_mutex_lock(&store->mu);
	int err = mojo_begin_closing(store, MOJO_CLAIM_NEW);
	if (!err && store->unpublished)
		err = -EAGAIN;
	if (!err && store->active >= MOJO_VERSION_MAX - 1)
		err = -EOVERFLOW;
	if (!err && check)
		err = check(arg);
	struct freeze f = {
		.store = store,
		.commit = { .version = store->active,
			    .time_ns = mojo_now(store),
			    .message = (const uint8_t *)message,
			    .message_length = (uint32_t)length },
		.unpublished = unpublished,
	};
	if (!err) {
		mojo_put32(payload, f.commit.version);
		mojo_put32(payload + 4, f.commit.message_length);
		mojo_put64(payload + 8, (uint64_t)f.commit.time_ns);
		if (length)
			memcpy(payload + MOJO_COMMIT_FIXED_BYTES, message, length);
		struct mojo_log_closing closing = {
			.type = MOJO_RECORD_COMMIT,
			.flags = unpublished ? MOJO_RECORD_UNPUBLISHED : 0,
			.payload = payload,
			.length = MOJO_COMMIT_FIXED_BYTES + (uint32_t)length,
			.apply = freeze,
			.arg = &f,
		};
		err = mojo_log_close(&store->log, !unpublished, &closing);
	}
	pthread_mutex_unlock(&store->mu);
	if (!err)
		*ret_version = f.commit.version;
	return err;
}

int mojo_commit(struct mojo_store *store, const char *message, size_t length, uint32_t *ret_version)
{
	return freeze_active(store, message, length, NULL, NULL, false, ret_version);
}

int mojo_freeze(struct mojo_store *store, const char *message, size_t length, mojo_freeze_fn *check, void *arg,
		uint32_t *ret_version)
{
	return freeze_active(store, message, length, check, arg, true, ret_version);
}

uint32_t mojo_unpublished(struct mojo_store *store)
{
	pthread_mutex_lock(&store->mu);
	uint32_t version = store->unpublished;
	pthread_mutex_unlock(&store->mu);
	return version;
}

/* What was settled is nearly what the version below was settled to, and not what the active one has: slots that were
 * made whole to tell the difference to the latter are told by the difference to the former. */
static int lean_on_below(struct mojo_store *store, uint32_t version)
{
	struct mojo_tree below, *tree;
	if (mojo_version_below(store, version, &below) != 0)
		return 0;
	int err = mojo_settle_begin(store, version, &tree);
	if (err)
		return err;
	struct mojo_slotmap map = mojo_map_of(store, tree);
	mojo_slotmap_lean_on(&map, &below);
	return mojo_settle_end(store, tree);
}

int mojo_apply_publish(struct mojo_store *store, uint32_t version)
{
	struct mojo_cell cell;
	struct mojo_version_value value;
	if (!version || version != store->unpublished)
		return -EUCLEAN;
	int err = get_version(store, version, &cell, &value);
	if (!err && value.settled) {
		err = lean_on_below(store, version);
		if (!err)
			err = get_version(store, version, &cell, &value);
	}
	if (err)
		return err;
	value.unpublished = false;
	err = put_version(store, version, &value);
	return err ? err : mojo_find_held(store);
}

struct publish {
	struct mojo_store *store;
	uint32_t version;
};

static int publish(void *arg)
{
	struct publish *p = arg;
	return mojo_apply_publish(p->store, p->version);
}

int mojo_publish(struct mojo_store *store, uint32_t version)
{
	uint8_t payload[4];
	pthread_mutex_lock(&store->mu);
	int err = mojo_begin_closing(store, MOJO_CLAIM_REMOVAL);
	if (!err && (!version || version != store->unpublished))
		err = -ENOENT;
	if (!err) {
		struct publish p = { store, version };
		struct mojo_log_closing closing = {
			.type = MOJO_RECORD_PUBLISH,
			.payload = payload,
			.length = sizeof(payload),
			.apply = publish,
			.arg = &p,
		};
		mojo_put32(payload, version);
		err = mojo_log_close(&store->log, true, &closing);
	}
	pthread_mutex_unlock(&store->mu);
	return err;
}

/* ---- settling ------------------------------------------------------------------------------- */

int mojo_settle_begin(struct mojo_store *store, uint32_t version, struct mojo_tree **ret_tree)
{
	if (version == MOJO_ACTIVE) {
		*ret_tree = &store->main;
		return 0;
	}
	if (version != store->unpublished)
		return -ENOENT;
	/* The way to the cell becomes the versions tree's own: what mojo_settle_end() does can then not fail. */
	uint8_t key[4], bytes[MOJO_VERSION_BYTES_MAX], *at;
	unsigned length;
	mojo_put_be32(key, version);
	int err = mojo_tree_touch(&store->versions, key, sizeof(key), &at, &length);
	if (err)
		return err;
	struct mojo_version_value value;
	err = mojo_version_decode(at, length, &value);
	if (err)
		return err;
	if (!value.settled) {
		value.settled = true;
		mojo_version_encode(bytes, &value);
		memcpy(at, bytes, length);
		err = mojo_find_held(store);
		if (err)
			return err;
	}
	*ret_tree = &store->settling;
	return 0;
}

int mojo_settle_end(struct mojo_store *store, const struct mojo_tree *tree)
{
	uint8_t key[4], *at;
	unsigned length;
	if (tree == &store->main)
		return 0;
	mojo_put_be32(key, store->unpublished);
	int err = mojo_tree_touch(&store->versions, key, sizeof(key), &at, &length);
	if (err)
		return mojo_poison(store, err, "settling a version");
	memcpy(at, store->settling.root, MOJO_REF_BYTES);
	assert(store->settled.count && store->settled.trees[0].version == store->unpublished);
	memcpy(store->settled.trees[0].root, store->settling.root, MOJO_REF_BYTES);
	return 0;
}

/* ---- listing -------------------------------------------------------------------------------- */

static void fill_info(uint32_t version, const struct mojo_version_value *value, struct mojo_version_info *ret_info)
{
	struct mojo_version_info info = {
		.version = version,
		.time_ns = value->time_ns,
		.unpublished = value->unpublished,
		.settled = value->settled,
		.verdict = value->verdict,
	};
	memcpy(info.message, value->message, value->message_length);
	memcpy(info.verdict_text, value->text, value->text_length);
	*ret_info = info;
}

static int next_version(struct mojo_store *store, uint32_t from, bool with_unpublished,
			struct mojo_version_info *ret_info)
{
	uint8_t key[4];
	struct mojo_cell cell;
	struct mojo_version_value value;
	mojo_put_be32(key, from);
	pthread_mutex_lock(&store->mu);
	uint32_t active = store->active;
	int err = mojo_tree_next(&store->versions, key, sizeof(key), false, &cell);
	if (!err && !with_unpublished && cell.key_length == 4 && mojo_get_be32(cell.key) == store->unpublished)
		err = mojo_tree_next(&store->versions, cell.key, sizeof(key), true, &cell);
	pthread_mutex_unlock(&store->mu);
	if (err == -ENOENT) {
		if (from > active)
			return -ENOENT;
		*ret_info = (struct mojo_version_info){ .version = active, .active = true };
		return 0;
	}
	if (!err && cell.key_length != 4)
		err = -EUCLEAN;
	if (!err)
		err = mojo_version_decode(cell.value, cell.value_length, &value);
	if (!err)
		fill_info(mojo_get_be32(cell.key), &value, ret_info);
	return err;
}

int mojo_version_next(struct mojo_store *store, uint32_t from, struct mojo_version_info *ret_info)
{
	return next_version(store, from, false, ret_info);
}

int mojo_version_next_kept(struct mojo_store *store, uint32_t from, struct mojo_version_info *ret_info)
{
	return next_version(store, from, true, ret_info);
}

int mojo_version_find(struct mojo_store *store, uint32_t version, struct mojo_version_info *ret_info)
{
	struct mojo_cell cell;
	struct mojo_version_value value;
	pthread_mutex_lock(&store->mu);
	uint32_t active = store->active;
	bool is_active = version == MOJO_ACTIVE || version == active;
	int err = is_active ? 0 : get_version(store, version, &cell, &value);
	pthread_mutex_unlock(&store->mu);
	if (is_active)
		*ret_info = (struct mojo_version_info){ .version = active, .active = true };
	else if (!err)
		fill_info(version, &value, ret_info);
	return err;
}

/* ---- forgetting ----------------------------------------------------------------------------- */

int mojo_apply_drop(struct mojo_store *store, uint32_t version)
{
	uint8_t key[4];
	struct mojo_cell cell;
	struct mojo_version_value value;
	int err = get_version(store, version, &cell, &value);
	if (err)
		return err;
	mojo_put_be32(key, version);
	err = mojo_tree_delete(&store->versions, key, sizeof(key));
	if (err)
		return err;
	if (version == store->unpublished)
		mojo_log_forget_version(&store->log, version);
	mojo_ref_release(&store->blobs, value.root);
	store->frozen--;
	if (!store->mark_pending)
		store->mark_since_ns = mojo_now(store);
	store->mark_pending = true;
	store->doubts = 0;
	return mojo_find_held(store);
}

int mojo_version_drop(struct mojo_store *store, uint32_t version)
{
	uint8_t payload[4];
	struct mojo_cell cell;
	struct mojo_version_value value;
	pthread_mutex_lock(&store->mu);
	int err = mojo_begin(store, 0, MOJO_CLAIM_REMOVAL);
	if (!err && (version == store->active || version == MOJO_ACTIVE))
		err = -EBUSY;
	if (!err)
		err = get_version(store, version, &cell, &value);
	if (!err) {
		err = mojo_apply_drop(store, version);
		if (err)
			mojo_poison(store, err, "dropping a version");
	}
	if (!err) {
		mojo_put32(payload, version);
		mojo_log_record(&store->log, store->active, MOJO_RECORD_DROP, payload, sizeof(payload), NULL, 0);
		err = mojo_log_sync(&store->log);
	}
	pthread_mutex_unlock(&store->mu);
	return err;
}

/* ---- verdicts ------------------------------------------------------------------------------- */

int mojo_apply_verdict(struct mojo_store *store, const struct mojo_record_verdict *verdict)
{
	struct mojo_cell cell;
	struct mojo_version_value value;
	int err = get_version(store, verdict->version, &cell, &value);
	if (err)
		return err;
	value.verdict = verdict->verdict;
	value.text = verdict->text;
	value.text_length = verdict->text_length;
	return put_version(store, verdict->version, &value);
}

int mojo_version_verdict(struct mojo_store *store, uint32_t version, enum mojo_verdict verdict, const char *text,
			 size_t length)
{
	uint8_t fixed[MOJO_VERDICT_FIXED_BYTES];
	struct mojo_record_verdict record = {
		.version = version,
		.verdict = verdict,
		.text = (const uint8_t *)text,
		.text_length = (uint32_t)length,
	};
	if (length > MOJO_VERDICT_MAX)
		return -E2BIG;
	if ((unsigned)verdict > MOJO_VERDICT_BAD || (length && memchr(text, '\0', length)))
		return -EINVAL;
	pthread_mutex_lock(&store->mu);
	int err = mojo_begin(store, 0, MOJO_CLAIM_REMOVAL);
	if (!err && (version == store->active || version == MOJO_ACTIVE))
		err = -EBUSY;
	if (!err)
		err = mojo_apply_verdict(store, &record);
	if (!err) {
		mojo_put32(fixed, version);
		mojo_put32(fixed + 4, (uint32_t)verdict);
		mojo_log_record(&store->log, store->active, MOJO_RECORD_VERDICT, fixed, sizeof(fixed), text,
				record.text_length);
	}
	pthread_mutex_unlock(&store->mu);
	return err;
}
