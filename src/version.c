/* SPDX-License-Identifier: MIT */
#include "version.h"

#include <assert.h>
#include <errno.h>

#define VERSION_FIXED_BYTES (MOJO_REF_BYTES + 16u)

static_assert(VERSION_FIXED_BYTES + MOJO_MESSAGE_MAX <= MOJO_VALUE_BYTES_MAX, "a version's value fits in a cell");

static int get_version(struct mojo_store *store, uint32_t version, struct mojo_cell *cell)
{
	uint8_t key[4];
	mojo_put_be32(key, version);
	int err = mojo_tree_get(&store->versions, key, sizeof(key), cell);
	if (!err && (cell->value_length < VERSION_FIXED_BYTES || mojo_ref_is_null(cell->value) ||
		     cell->value_length - VERSION_FIXED_BYTES != mojo_get32(cell->value + MOJO_REF_BYTES + 12)))
		err = -EUCLEAN;
	return err;
}

int mojo_view(struct mojo_store *store, uint32_t version, struct mojo_tree *frozen, struct mojo_tree **ret_tree)
{
	if (version == MOJO_ACTIVE || version == store->active) {
		*ret_tree = &store->main;
		return 0;
	}
	struct mojo_cell cell;
	int err = get_version(store, version, &cell);
	if (err)
		return err;
	*frozen = (struct mojo_tree){ .blobs = &store->blobs, .kind = MOJO_TREE_MAIN, .version = version };
	memcpy(frozen->root, cell.value, MOJO_REF_BYTES);
	*ret_tree = frozen;
	return 0;
}

/* ---- freezing ------------------------------------------------------------------------------- */

int mojo_apply_commit(struct mojo_store *store, const struct mojo_record_commit *commit)
{
	uint8_t key[4], value[VERSION_FIXED_BYTES + MOJO_MESSAGE_MAX];
	if (commit->version != store->active)
		return -EUCLEAN;
	mojo_put_be32(key, commit->version);
	memcpy(value, store->main.root, MOJO_REF_BYTES);
	mojo_put64(value + MOJO_REF_BYTES, (uint64_t)commit->time_ns);
	mojo_put32(value + MOJO_REF_BYTES + 8, 0);
	mojo_put32(value + MOJO_REF_BYTES + 12, commit->message_length);
	if (commit->message_length)
		memcpy(value + VERSION_FIXED_BYTES, commit->message, commit->message_length);
	int err =
		mojo_tree_put(&store->versions, key, sizeof(key), value, VERSION_FIXED_BYTES + commit->message_length);
	if (err)
		return err;
	mojo_ref_retain(store->main.root);
	store->active++;
	store->frozen++;
	store->main.held = commit->version;
	store->main.version = store->active;
	store->log.version = store->active;
	return 0;
}

struct freeze {
	struct mojo_store *store;
	struct mojo_record_commit commit;
};

static int freeze(void *arg)
{
	struct freeze *f = arg;
	return mojo_apply_commit(f->store, &f->commit);
}

int mojo_commit(struct mojo_store *store, const char *message, size_t length, uint32_t *ret_version)
{
	if (length > MOJO_MESSAGE_MAX)
		return -E2BIG;
	if (length && memchr(message, '\0', length))
		return -EINVAL;
	uint8_t payload[MOJO_COMMIT_FIXED_BYTES + MOJO_MESSAGE_MAX];
	pthread_mutex_lock(&store->mu);
	int err = mojo_begin(store, 0, false);
	if (!err)
		mojo_log_wait(&store->log); /* from here to the freeze the lock stays ours */
	if (!err && store->active >= MOJO_VERSION_MAX - 1)
		err = -EOVERFLOW;
	struct freeze f = {
		.store = store,
		.commit = { .version = store->active,
			    .time_ns = mojo_now(store),
			    .message = (const uint8_t *)message,
			    .message_length = (uint32_t)length },
	};
	if (!err) {
		mojo_put32(payload, f.commit.version);
		mojo_put32(payload + 4, f.commit.message_length);
		mojo_put64(payload + 8, (uint64_t)f.commit.time_ns);
		if (length)
			memcpy(payload + MOJO_COMMIT_FIXED_BYTES, message, length);
		err = mojo_log_close(&store->log, MOJO_RECORD_COMMIT, payload,
				     MOJO_COMMIT_FIXED_BYTES + (uint32_t)length, freeze, &f);
	}
	pthread_mutex_unlock(&store->mu);
	if (!err)
		*ret_version = f.commit.version;
	return err;
}

/* ---- listing and forgetting ----------------------------------------------------------------- */

int mojo_version_next(struct mojo_store *store, uint32_t from, struct mojo_version_info *ret_info)
{
	uint8_t key[4];
	struct mojo_cell cell;
	mojo_put_be32(key, from);
	pthread_mutex_lock(&store->mu);
	uint32_t active = store->active;
	int err = mojo_tree_next(&store->versions, key, sizeof(key), false, &cell);
	pthread_mutex_unlock(&store->mu);
	struct mojo_version_info info = { 0 };
	if (err == -ENOENT) {
		if (from > active)
			return -ENOENT;
		info.version = active;
		info.active = true;
		*ret_info = info;
		return 0;
	}
	if (!err && (cell.key_length != 4 || cell.value_length < VERSION_FIXED_BYTES ||
		     cell.value_length > VERSION_FIXED_BYTES + MOJO_MESSAGE_MAX))
		err = -EUCLEAN;
	if (err)
		return err;
	info.version = mojo_get_be32(cell.key);
	info.time_ns = (int64_t)mojo_get64(cell.value + MOJO_REF_BYTES);
	memcpy(info.message, cell.value + VERSION_FIXED_BYTES, cell.value_length - VERSION_FIXED_BYTES);
	*ret_info = info;
	return 0;
}

int mojo_apply_drop(struct mojo_store *store, uint32_t version)
{
	uint8_t key[4];
	struct mojo_cell cell;
	int err = get_version(store, version, &cell);
	if (err)
		return err;
	mojo_put_be32(key, version);
	err = mojo_tree_delete(&store->versions, key, sizeof(key));
	if (err)
		return err;
	mojo_ref_release(&store->blobs, cell.value);
	store->frozen--;
	if (!store->mark_pending)
		store->mark_since_ns = mojo_now(store);
	store->mark_pending = true;
	return mojo_find_held(store);
}

int mojo_find_held(struct mojo_store *store)
{
	uint8_t key[4];
	struct mojo_cell cell;
	mojo_put_be32(key, store->active);
	int err = mojo_tree_before(&store->versions, key, sizeof(key), &cell);
	if (!err && cell.key_length != 4)
		err = -EUCLEAN;
	if (err && err != -ENOENT)
		return err;
	store->main.held = err ? 0 : mojo_get_be32(cell.key);
	return 0;
}

int mojo_version_drop(struct mojo_store *store, uint32_t version)
{
	uint8_t payload[4];
	struct mojo_cell cell;
	pthread_mutex_lock(&store->mu);
	int err = mojo_begin(store, 0, true);
	if (!err && (version == store->active || version == MOJO_ACTIVE))
		err = -EBUSY;
	if (!err)
		err = get_version(store, version, &cell);
	if (!err) {
		err = mojo_apply_drop(store, version);
		if (err)
			mojo_poison(store, err, "dropping a version");
	}
	if (!err) {
		mojo_put32(payload, version);
		mojo_log_record(&store->log, MOJO_RECORD_DROP, payload, sizeof(payload), NULL, 0);
		err = mojo_log_sync(&store->log);
	}
	pthread_mutex_unlock(&store->mu);
	return err;
}
