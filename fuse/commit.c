/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commit.h"

#define REMEMBERED 256 /* processes whose last commit is known */
#define TRIES      8   /* to open a file while others change the directories above it */

enum job_kind { JOB_COMMIT, JOB_SEEK };

struct job {
	struct job *next;
	enum job_kind kind;
	fuse_req_t req;
	/* commit */
	pid_t pid;
	size_t length;
	/* seek */
	uint32_t bucket;
	uint64_t offset;
	bool data;
	char message[]; /* @length bytes */
};

struct commit {
	struct tree *tree;        /* borrowed */
	struct mount *mount;      /* borrowed */
	struct flusher *flusher;  /* borrowed */
	pthread_mutex_t flushing; /* held while the flusher is in use; taken before no other */
	pthread_t thread;

	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t wanted;
	struct job *first, **last;
	bool ending;
	struct {
		pid_t pid;
		uint32_t version;
	} made[REMEMBERED]; /* a ring; next is the oldest */
	size_t next;
};

/* ---- flushing -------------------------------------------------------------------------------- */

/* Flush through the mount. -EAGAIN: it cannot be opened, for whatever reason; -ENOENT: unlinked. */
static int flush_by_path(struct commit *commit, uint32_t bucket)
{
	char path[PATH_MAX];
	int error = -EAGAIN;

	for (int i = 0; i < TRIES && error == -EAGAIN; i++) {
		error = mojo_path(tree_store(commit->tree), bucket, path, sizeof(path));
		if (error)
			return error == -ENOENT ? error : -EAGAIN;
		error = flusher_flush(commit->flusher, path, tree_ino((struct tree_node){ .bucket = bucket }));
	}
	return error;
}

/* @unlinked: flush it even if it has no name any more, and will be in no version */
static int flush_one(struct commit *commit, uint32_t bucket, bool unlinked)
{
	int error = flush_by_path(commit, bucket);

	if (error == -ENOENT && !unlinked)
		return 0;
	if (error != -EAGAIN && error != -ENOENT)
		return error;
	/* The kernel writes back what is dirty before it drops a file's pages. It costs the file its cache. */
	error = fuse_lowlevel_notify_inval_inode(mount_session(commit->mount),
						 tree_ino((struct tree_node){ .bucket = bucket }), 0, 0);
	return error == -ENOENT ? 0 : error; /* not known to the kernel: nothing to write back */
}

int commit_flush(struct commit *commit)
{
	uint32_t *buckets = NULL;
	size_t count;
	int error;

	error = tree_writers(commit->tree, &buckets, &count);
	if (error)
		return error;
	pthread_mutex_lock(&commit->flushing);
	for (size_t i = 0; i < count; i++) {
		int failed = flush_one(commit, buckets[i], false);

		if (!error)
			error = failed;
	}
	flusher_rest(commit->flusher);
	pthread_mutex_unlock(&commit->flushing);
	free(buckets);
	return error;
}

/* ---- the thread ------------------------------------------------------------------------------ */

static void remember(struct commit *commit, pid_t pid, uint32_t version)
{
	pthread_mutex_lock(&commit->lock);
	for (size_t i = 0; i < REMEMBERED; i++) {
		if (commit->made[i].pid == pid) {
			commit->made[i].version = version;
			pid = 0;
			break;
		}
	}
	if (pid) {
		commit->made[commit->next].pid = pid;
		commit->made[commit->next].version = version;
		commit->next = (commit->next + 1) % REMEMBERED;
	}
	pthread_mutex_unlock(&commit->lock);
}

static void do_commit(struct commit *commit, struct job *job)
{
	struct mojo_store *store = tree_store(commit->tree);
	struct mojo_version_info info;
	uint32_t version;
	int error;

	error = commit_flush(commit);
	if (!error)
		error = mojo_commit(store, job->message, job->length, &version);
	if (!error) {
		remember(commit, job->pid, version);
		if (tree_version(commit->tree, version, &info) == 0)
			tree_committed(commit->tree, &info);
		/* The root has an entry more. The kernel keeps listings; this takes no lock on the inode. */
		fuse_lowlevel_notify_inval_inode(mount_session(commit->mount), FUSE_ROOT_ID, 0, 0);
	}
	fuse_reply_err(job->req, -error);
}

static void do_seek(struct commit *commit, struct job *job)
{
	struct mojo_store *store = tree_store(commit->tree);
	uint64_t found;
	int error;

	pthread_mutex_lock(&commit->flushing);
	error = flush_one(commit, job->bucket, true);
	flusher_rest(commit->flusher);
	pthread_mutex_unlock(&commit->flushing);
	if (!error)
		error = mojo_seek(store, MOJO_ACTIVE, job->bucket, job->offset, job->data, &found);
	if (error)
		fuse_reply_err(job->req, -error);
	else
		fuse_reply_lseek(job->req, (off_t)found);
}

static void *work(void *arg)
{
	struct commit *commit = arg;

	pthread_mutex_lock(&commit->lock);
	for (;;) {
		struct job *job = commit->first;

		if (!job) {
			if (commit->ending)
				break;
			pthread_cond_wait(&commit->wanted, &commit->lock);
			continue;
		}
		commit->first = job->next;
		if (!commit->first)
			commit->last = &commit->first;
		pthread_mutex_unlock(&commit->lock);
		if (job->kind == JOB_COMMIT)
			do_commit(commit, job);
		else
			do_seek(commit, job);
		free(job);
		pthread_mutex_lock(&commit->lock);
	}
	pthread_mutex_unlock(&commit->lock);
	return NULL;
}

int commit_new(struct tree *tree, struct mount *mount, struct flusher *flusher, struct commit **ret_commit)
{
	struct commit *commit = calloc(1, sizeof(*commit));
	int error;

	if (!commit)
		return -ENOMEM;
	commit->tree = tree;
	commit->mount = mount;
	commit->flusher = flusher;
	commit->last = &commit->first;
	pthread_mutex_init(&commit->lock, NULL);
	pthread_mutex_init(&commit->flushing, NULL);
	pthread_cond_init(&commit->wanted, NULL);
	error = pthread_create(&commit->thread, NULL, work, commit);
	if (error) {
		pthread_cond_destroy(&commit->wanted);
		pthread_mutex_destroy(&commit->lock);
		pthread_mutex_destroy(&commit->flushing);
		free(commit);
		return -error;
	}
	*ret_commit = commit;
	return 0;
}

void commit_free(struct commit *commit)
{
	if (!commit)
		return;
	pthread_mutex_lock(&commit->lock);
	commit->ending = true;
	pthread_cond_signal(&commit->wanted);
	pthread_mutex_unlock(&commit->lock);
	pthread_join(commit->thread, NULL);
	pthread_cond_destroy(&commit->wanted);
	pthread_mutex_destroy(&commit->lock);
	pthread_mutex_destroy(&commit->flushing);
	free(commit);
}

static void enqueue(struct commit *commit, struct job *job)
{
	pthread_mutex_lock(&commit->lock);
	*commit->last = job;
	commit->last = &job->next;
	pthread_cond_signal(&commit->wanted);
	pthread_mutex_unlock(&commit->lock);
}

void commit_request(struct commit *commit, fuse_req_t req, const char *message, size_t length)
{
	struct job *job = calloc(1, sizeof(*job) + length);

	if (!job) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	job->kind = JOB_COMMIT;
	job->req = req;
	job->pid = fuse_req_ctx(req)->pid;
	job->length = length;
	if (length > 0)
		memcpy(job->message, message, length);
	enqueue(commit, job);
}

void commit_seek(struct commit *commit, fuse_req_t req, uint32_t bucket, uint64_t offset, bool data)
{
	struct job *job = calloc(1, sizeof(*job));

	if (!job) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	job->kind = JOB_SEEK;
	job->req = req;
	job->bucket = bucket;
	job->offset = offset;
	job->data = data;
	enqueue(commit, job);
}

uint32_t commit_last(struct commit *commit, pid_t pid)
{
	struct mojo_version_info version;
	uint32_t active;
	uint32_t last = 0;

	pthread_mutex_lock(&commit->lock);
	for (size_t i = 0; i < REMEMBERED && pid; i++) {
		if (commit->made[i].pid == pid)
			last = commit->made[i].version;
	}
	pthread_mutex_unlock(&commit->lock);
	if (last)
		return last;
	active = mojo_active_version(tree_store(commit->tree));

	/* The newest frozen one is nearly always the one before the active; versions may have been dropped. */
	if (active > 1 && tree_version(commit->tree, active - 1, &version) == 0)
		return version.version;
	for (uint32_t from = 1; mojo_version_next(tree_store(commit->tree), from, &version) == 0 && !version.active;
	     from = version.version + 1)
		last = version.version;
	return last;
}
