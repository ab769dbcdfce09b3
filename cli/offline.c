/* SPDX-License-Identifier: MIT */
/*
 * A store that nobody has open: the engine opens it here, read-only unless something is to be committed.
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../sqlite/finish.h"
#include "../sqlite/judge.h"
#include "output.h"
#include "target_ops.h"

enum { VERSION_BATCH = 64, MAP_BATCH = 4096 }; /* entries asked for at a time */

struct offline {
	struct target base;
	struct mojo_io *io;       /* owned */
	struct mojo_store *store; /* owned */

	pthread_mutex_t lock; /* guards what follows: events come from any thread */
	bool is_open;         /* events are printed as they come; before that the errors are kept back */
	char *refusal;        /* owned; the errors while opening */
};

static struct offline *offline_of(struct target *target)
{
	return (struct offline *)target;
}

static void on_event(void *arg, enum mojo_severity severity, const char *text)
{
	struct offline *offline = arg;

	if (severity == MOJO_INFO)
		return;
	pthread_mutex_lock(&offline->lock);
	if (severity == MOJO_ERROR && !offline->is_open) {
		char *before = offline->refusal;

		if (asprintf(&offline->refusal, "%s%s%s", before ? before : "", before ? "; " : "", text) < 0)
			offline->refusal = NULL;
		free(before);
	} else {
		complain("%s", text);
	}
	pthread_mutex_unlock(&offline->lock);
}

static int out_of_memory(void)
{
	complain("out of memory");
	return -ENOMEM;
}

/* @what: the file, or NULL for the store. */
static int fail(const struct target *target, const char *what, int error)
{
	char why[OUTPUT_REASON_SIZE];

	if (error == -EUCLEAN)
		snprintf(why, sizeof(why), "the store is damaged");
	else
		reason(error, why);
	if (what && *what)
		complain("%s: %s: %s", target->path, what, why);
	else
		complain("%s: %s", target->path, why);
	return error;
}

static int offline_info(struct target *target, struct mojo_info *ret_info, struct report_counter **ret_counters,
			size_t *ret_count)
{
	int error = mojo_info(offline_of(target)->store, ret_info);

	if (error)
		return fail(target, NULL, error);
	*ret_counters = NULL;
	*ret_count = 0;
	return 0;
}

static int offline_versions(struct target *target, uint32_t from, struct mojo_version_info **ret_infos,
			    size_t *ret_count)
{
	struct mojo_version_info *infos = calloc(VERSION_BATCH, sizeof(*infos));
	size_t count;
	int error = 0;

	if (!infos)
		return out_of_memory();
	for (count = 0; count < VERSION_BATCH; count++) {
		error = mojo_version_next(offline_of(target)->store, from, &infos[count]);
		if (error)
			break;
		from = infos[count].version + 1;
	}
	if (error && error != -ENOENT) {
		free(infos);
		return fail(target, NULL, error);
	}
	*ret_infos = infos;
	*ret_count = count;
	return 0;
}

/* A super-journal may lie beside a database that is not in the store. */
static bool exists(void *arg, const char *path)
{
	struct stat st;

	(void)arg;
	return lstat(path, &st) == 0;
}

static int offline_commit(struct target *target, const char *message, size_t length, unsigned wait_seconds,
			  uint32_t *ret_version)
{
	struct settle_options options = { .event = on_event,
					  .event_arg = offline_of(target),
					  .exists_outside = exists };
	int error = settle_commit(offline_of(target)->store, message, length, &options, ret_version);

	(void)wait_seconds; /* nobody else has the store open */
	return error ? fail(target, "the commit failed", error) : 0;
}

static int offline_verify(struct target *target, uint32_t version)
{
	struct settle_options options = { .event = on_event, .event_arg = offline_of(target) };
	enum mojo_verdict verdict;
	int error = judge_version(offline_of(target)->store, version, &options, &verdict);

	if (error)
		return fail(target, "the version could not be verified", error);
	return verdict == MOJO_VERDICT_GOOD ? 0 : -EBADMSG; /* it was said what was found */
}

static int offline_find(struct target *target, struct target_file *file)
{
	int error = mojo_resolve(offline_of(target)->store, file->version, file->path, &file->attr);

	if (error == -ENOENT)
		complain("%s: version %u has no file \"%s\"", target->path, file->version, file->path);
	else if (error)
		fail(target, file->path, error);
	file->has_bucket = true;
	return error;
}

struct listing {
	struct target_entry *entries;
	size_t count;
	size_t capacity;
	int error;
};

static bool add_entry(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct listing *listing = arg;

	(void)cookie; /* the whole directory comes in one go */
	listing->error = target_list_add(&listing->entries, &listing->count, &listing->capacity, name, attr, true);
	return listing->error == 0;
}

static int offline_list(struct target *target, const struct target_file *dir, struct target_entry **ret_entries,
			size_t *ret_count)
{
	struct listing listing = { 0 };
	int error = mojo_readdir(offline_of(target)->store, dir->version, dir->attr.bucket, 0, add_entry, &listing);

	if (listing.error)
		error = out_of_memory();
	else if (error)
		fail(target, dir->path, error);
	if (error) {
		target_list_free(listing.entries, listing.count);
		return error;
	}
	*ret_entries = listing.entries;
	*ret_count = listing.count;
	return 0;
}

static int offline_readlink(struct target *target, const struct target_file *file, char **ret_text)
{
	char *text = malloc(MOJO_SYMLINK_MAX + 1);
	int error;

	if (!text)
		return out_of_memory();
	error = mojo_readlink(offline_of(target)->store, file->version, file->attr.bucket, text);
	if (error) {
		free(text);
		return fail(target, file->path, error);
	}
	*ret_text = text;
	return 0;
}

static int offline_map(struct target *target, const struct target_file *file, uint64_t first,
		       struct mojo_map_entry **ret_entries, size_t *ret_count)
{
	struct mojo_map_entry *entries = calloc(MAP_BATCH, sizeof(*entries));
	int error;

	if (!entries)
		return out_of_memory();
	error = mojo_map(offline_of(target)->store, file->version, file->attr.bucket, first, entries, MAP_BATCH,
			 ret_count);
	if (error) {
		free(entries);
		return fail(target, file->path, error);
	}
	*ret_entries = entries;
	return 0;
}

static int offline_read(struct target *target, const struct target_file *file, uint64_t offset, void *buf,
			size_t length, size_t *ret_length)
{
	int error =
		mojo_read(offline_of(target)->store, file->version, file->attr.bucket, offset, buf, length, ret_length);

	return error ? fail(target, file->path, error) : 0;
}

static void offline_free(struct offline *offline)
{
	mojo_io_free(offline->io);
	pthread_mutex_destroy(&offline->lock);
	free(offline->refusal);
	free(offline);
}

static int offline_close(struct target *target)
{
	struct offline *offline = offline_of(target);
	int error = mojo_close(offline->store);

	if (error)
		fail(target, "the store could not be closed cleanly", error);
	offline_free(offline);
	return error;
}

static const struct target_ops offline_ops = {
	.info = offline_info,
	.versions = offline_versions,
	.commit = offline_commit,
	.verify = offline_verify,
	.find = offline_find,
	.list = offline_list,
	.readlink = offline_readlink,
	.map = offline_map,
	.read = offline_read,
	.close = offline_close,
};

static void say_refusal(const char *path, const char *refusal, int error)
{
	char why[OUTPUT_REASON_SIZE];

	if (error == -ENOENT)
		complain("%s: is no store, and no mojofs is mounted there; a new store is made by: mojofs create STORE",
			 path);
	else
		complain("%s: %s", path, refusal ? refusal : reason(error, why));
}

int offline_open(const char *path, const char *store, bool writable, struct target **ret_target, char **ret_refusal)
{
	struct offline *offline = calloc(1, sizeof(*offline));
	struct mojo_config config = {
		.read_only = !writable,
		.no_background = true,
		.owner = writable ? "mojofs commit" : "mojofs",
		.event = on_event,
		.event_arg = offline,
	};
	int error;

	if (!offline)
		return out_of_memory();
	offline->base.ops = &offline_ops;
	pthread_mutex_init(&offline->lock, NULL);

	error = mojo_io_host(store, &offline->io);
	if (!error)
		error = mojo_open(offline->io, &config, &offline->store);
	if (!error) {
		error = mojo_info(offline->store, &offline->base.info);
		if (error)
			mojo_close(offline->store);
	}
	if (error) {
		if (error == -EBUSY || error == -EACCES) {
			*ret_refusal = offline->refusal;
			offline->refusal = NULL;
		} else {
			say_refusal(path, offline->refusal, error);
		}
		offline_free(offline);
		return error;
	}
	pthread_mutex_lock(&offline->lock);
	offline->is_open = true;
	pthread_mutex_unlock(&offline->lock);
	*ret_target = &offline->base;
	return 0;
}
