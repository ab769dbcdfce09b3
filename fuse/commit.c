/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../sqlite/finish.h"
#include "../src/report.h"
#include "commit.h"
#include "journal.h"

#define REMEMBERED 256 /* processes whose last commit is known */
#define TRIES      8   /* to open a file while others change the directories above it */

/*
 * How long a commit looks for a moment in which no database is in mid transaction without a journal. Whoever could end
 * his transaction may be waiting for the root directory, which the setxattr holds: so it may not be long.
 */
#define PATIENCE_MS    20
#define PATIENCE_LOOKS 5 /* at least, however slow the machine is */
#define PAUSE_US       1000
#define NAMED_MS       10000
#define SCARCE         8   /* a mount on a disk of which not a part of so many is free looks through the tree at once */
#define LOOKS_MAX      200 /* where only something must be learned of files that were opened just now */

enum job_kind { JOB_COMMIT, JOB_SEEK };

struct job {
	struct job *next;
	enum job_kind kind;
	fuse_req_t req;
	/* commit */
	bool by_ioctl;
	pid_t pid;
	size_t length;
	/* seek */
	uint32_t bucket;
	uint64_t offset;
	bool data;
	char message[]; /* @length bytes */
};

struct commit {
	struct tree *tree; /* borrowed */
	bool settles;
	mojo_event_fn *event;
	void *event_arg;       /* borrowed */
	struct verify *verify; /* borrowed; may be NULL */
	uint32_t named_bucket; /* the last one that the log named as the reason for EBUSY; and when */
	int64_t named_ms;
	bool told_of_flusher;     /* that it is gone */
	bool knows_side_files;    /* the thread has looked through the tree */
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

/* All files that are open for writing. The flusher is the caller's. */
static int flush_all(struct commit *commit)
{
	uint32_t *buckets = NULL;
	size_t count;
	int error;

	error = tree_writers(commit->tree, &buckets, &count);
	if (error)
		return error;
	for (size_t i = 0; i < count; i++) {
		int failed = flush_one(commit, buckets[i], false);

		if (!error)
			error = failed;
	}
	free(buckets);
	return error;
}

int commit_flush(struct commit *commit)
{
	int error;

	pthread_mutex_lock(&commit->flushing);
	error = flush_all(commit);
	flusher_rest(commit->flusher);
	pthread_mutex_unlock(&commit->flushing);
	return error;
}

/* ---- settling -------------------------------------------------------------------------------- */

static void say(mojo_event_fn *event, void *arg, enum mojo_severity severity, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

static void say(mojo_event_fn *event, void *arg, enum mojo_severity severity, const char *format, ...)
{
	char text[PATH_MAX + 256];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	event(arg, severity, text);
}

static bool exists_outside(void *arg, const char *path)
{
	struct flusher *flusher = arg;

	/* If it cannot be told, the transaction is rolled back: it is then absent, but not in pieces. */
	return flusher_exists(flusher, path) != -ENOENT;
}

int commit_finish(struct mojo_store *store, struct flusher *flusher, mojo_event_fn *event, void *arg)
{
	struct settle_options options = {
		.event = event,
		.event_arg = arg,
		.exists_outside = exists_outside,
		.exists_arg = flusher,
	};

	return settle_leftover(store, &options);
}

/* ---- the right moment ------------------------------------------------------------------------ */

/* One try to freeze. */
struct attempt {
	struct commit *commit;
	struct evidence_suspect *locked; /* owned; databases whose locks we hold */
	size_t locked_count;
	/* what the last look gave */
	struct evidence_suspect *suspects; /* owned */
	size_t suspect_count;
	struct evidence_side_file *side_files; /* owned */
	size_t side_count;
	bool search; /* the set of side files is not complete */
};

/* Where a bucket of the active tree is: its directory, and PATH_MAX bytes of path. @ret_name points into it. */
static int place_of(struct mojo_store *store, uint32_t bucket, uint32_t *ret_dir, char *ret_path, const char **ret_name)
{
	struct mojo_attr attr;
	const char *slash;
	int error = mojo_path(store, bucket, ret_path, PATH_MAX);

	if (!error)
		error = mojo_getattr(store, MOJO_ACTIVE, bucket, &attr);
	if (error)
		return error;
	slash = strrchr(ret_path, '/');
	*ret_name = slash ? slash + 1 : ret_path;
	*ret_dir = attr.parent;
	return 0;
}

/* Find out what no request has told of the files that are open for writing. */
static int learn(struct commit *commit)
{
	struct mojo_store *store = tree_store(commit->tree);
	struct evidence *evidence = tree_evidence(commit->tree);
	struct evidence_question *questions;
	size_t count;
	int error = evidence_questions(evidence, &questions, &count);

	for (size_t i = 0; i < count && !error; i++) {
		uint32_t bucket = questions[i].bucket, dir = 0;
		char head[EVIDENCE_HEAD_BYTES], path[PATH_MAX];
		const char *name = "";
		size_t length = 0;

		error = place_of(store, bucket, &dir, path, &name);
		if (error == -ENOENT)
			dir = 0;
		else if (error)
			break;
		error = dir ? mojo_read(store, MOJO_ACTIVE, bucket, 0, head, sizeof(head), &length) : 0;
		if (error == -EIO) {
			error = 0; /* damaged: nobody's transaction is in it */
			memset(head, 0xff, sizeof(head));
			length = sizeof(head);
		} else if (error == -ENOENT) {
			error = 0;
		}
		if (!error)
			evidence_learn(evidence, &questions[i], dir, name, head, length);
	}
	if (count > 0)
		free(questions);
	return error;
}

/* mojo_freeze() asks, with the engine's lock held: nothing arrives any more. */
static int last_look(void *arg)
{
	struct attempt *attempt = arg;
	struct evidence *evidence = tree_evidence(attempt->commit->tree);
	int error = evidence_suspects(evidence, attempt->locked, attempt->locked_count, &attempt->suspects,
				      &attempt->suspect_count);

	if (error || attempt->suspect_count > 0)
		return error ? error : -EBUSY;
	/* Only now: a journal that is in the version may be gone in a moment. */
	error = evidence_side_files(evidence, &attempt->side_files, &attempt->side_count);
	attempt->search = error;
	return 0;
}

static void forget_suspects(struct attempt *attempt)
{
	free(attempt->suspects);
	attempt->suspects = NULL;
	attempt->suspect_count = 0;
}

static void unlock_all(struct attempt *attempt)
{
	flusher_unlock(attempt->commit->flusher);
	attempt->locked_count = 0;
}

/* Lock one suspect, and fetch all that the kernel has of it. -EBUSY, -EAGAIN as flusher_lock(). */
static int lock_one(struct attempt *attempt, const struct evidence_suspect *suspect)
{
	struct commit *commit = attempt->commit;
	const uint32_t files[] = { suspect->bucket, suspect->journal, suspect->wal };
	char path[PATH_MAX];
	bool is_locked;
	int error = mojo_path(tree_store(commit->tree), suspect->bucket, path, sizeof(path));

	if (!error)
		error = flusher_lock(commit->flusher, path, tree_ino((struct tree_node){ .bucket = suspect->bucket }),
				     suspect->wal_mode);
	is_locked = !error;
	if (error == -EAGAIN && suspect->is_blank)
		return 0; /* most likely no database at all, and nobody's that could be locked */
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]) && !error; i++) {
		if (files[i])
			error = flush_one(commit, files[i], false);
	}
	if (!error && evidence_arrived(tree_evidence(commit->tree), suspect))
		return 0;
	/* Its locks are held, but not such as count: they would keep us out the next time. */
	if (is_locked)
		unlock_all(attempt);
	return !error || error == -ENOENT ? -EAGAIN : error;
}

/*
 * Lock those suspects of the last look that can be, beside what is locked already. 0: look again. -EBUSY, and one that
 * could not be locked in @ret_culprit; other errors mean the end.
 */
static int lock_suspects(struct attempt *attempt, uint32_t *ret_culprit)
{
	struct commit *commit = attempt->commit;
	struct evidence_suspect *more =
		realloc(attempt->locked, (attempt->locked_count + attempt->suspect_count) * sizeof(*more));
	bool is_locked_out = false;

	if (!more)
		return -ENOMEM;
	attempt->locked = more;
	for (size_t i = 0; i < attempt->suspect_count; i++) {
		const struct evidence_suspect *suspect = &attempt->suspects[i];
		int error = 0;

		if (suspect->is_unflushed) {
			error = flush_one(commit, suspect->bucket, false);
			if (!error)
				evidence_flushed(tree_evidence(commit->tree), suspect);
		} else if (!suspect->is_asked) {
			error = lock_one(attempt, suspect);
			if (!error)
				more[attempt->locked_count++] = *suspect;
		}
		if (error == -EBUSY || error == -EAGAIN) {
			*ret_culprit = suspect->bucket;
			is_locked_out = true;
		} else if (error) {
			return error;
		}
	}
	return is_locked_out ? -EBUSY : 0;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Once in a while for the same one: it may be tried again many times a second. */
static void name_culprit(struct commit *commit, uint32_t bucket)
{
	int64_t now = now_ms();
	char path[PATH_MAX];

	if (commit->named_bucket == bucket && commit->named_ms && now - commit->named_ms < NAMED_MS)
		return;
	commit->named_bucket = bucket;
	commit->named_ms = now;
	if (!bucket || mojo_path(tree_store(commit->tree), bucket, path, sizeof(path)) != 0)
		strcpy(path, "a database");
	say(commit->event, commit->event_arg, MOJO_WARNING,
	    "%s: in the middle of a transaction of which no journal tells (journal_mode MEMORY or OFF, or "
	    "synchronous=OFF); nothing was committed: try again, as mojofs commit --wait does",
	    path);
}

/* Freeze in a moment in which each database is what its recovery makes whole. The flusher is the caller's. */
static int freeze(struct attempt *attempt, const struct job *job, uint32_t *ret_version)
{
	struct commit *commit = attempt->commit;
	int64_t give_up_ms = now_ms() + PATIENCE_MS;
	uint32_t culprit = 0;
	int error;

	for (unsigned looks = 1;; looks++) {
		bool is_locked_out = false;

		error = learn(commit);
		if (!error)
			error = mojo_freeze(tree_store(commit->tree), job->message, job->length, last_look, attempt,
					    ret_version);
		if (attempt->suspect_count == 0)
			break;
		if (error == -EBUSY) {
			if (!attempt->suspects[0].is_asked)
				culprit = attempt->suspects[0].bucket;
			error = lock_suspects(attempt, &culprit);
			forget_suspects(attempt);
			is_locked_out = error == -EBUSY;
			if (is_locked_out)
				usleep(PAUSE_US);
			else if (!error)
				error = -EBUSY;
		}
		if (error != -EBUSY || looks >= LOOKS_MAX)
			break;
		if (is_locked_out && looks >= PATIENCE_LOOKS && now_ms() >= give_up_ms)
			break;
	}
	if (attempt->locked) {
		unlock_all(attempt);
		free(attempt->locked);
	}
	if (error == -EBUSY)
		name_culprit(commit, culprit);
	return error;
}

static int settle_attempt(struct attempt *attempt, uint32_t version)
{
	struct commit *commit = attempt->commit;
	struct settle_options options = {
		.event = commit->event,
		.event_arg = commit->event_arg,
		.exists_outside = exists_outside,
		.exists_arg = commit->flusher,
	};
	struct settle_file *files = calloc(attempt->side_count + 1, sizeof(*files));
	int error;

	for (size_t i = 0; i < attempt->side_count && files; i++)
		files[i] = (struct settle_file){ attempt->side_files[i].dir, attempt->side_files[i].name };
	error = settle_finish(tree_store(commit->tree), version, attempt->search ? NULL : files, attempt->side_count,
			      &options);
	free(files);
	return error;
}

/* The commit itself. */
static int make_version(struct commit *commit, const struct job *job, uint32_t *ret_version)
{
	struct mojo_store *store = tree_store(commit->tree);
	struct attempt attempt = { .commit = commit };
	int error;

	pthread_mutex_lock(&commit->flushing);
	if (flusher_is_gone(commit->flusher) && !commit->told_of_flusher) {
		commit->told_of_flusher = true;
		say(commit->event, commit->event_arg, MOJO_WARNING,
		    "the process mojofs-flusher has ended: until the store is mounted again, commits cost open files their "
		    "cache, and fail while a database without a synced journal is being written to");
	}
	error = flush_all(commit);
	if (!error && !commit->settles)
		error = mojo_commit(store, job->message, job->length, ret_version);
	if (!error && commit->settles) {
		error = commit_finish(store, commit->flusher, commit->event, commit->event_arg);
		if (!error)
			error = freeze(&attempt, job, ret_version);
		if (!error)
			error = settle_attempt(&attempt, *ret_version);
	}
	flusher_rest(commit->flusher);
	pthread_mutex_unlock(&commit->flushing);
	evidence_side_files_free(attempt.side_files, attempt.side_count);
	return error;
}

/* ---- side files ------------------------------------------------------------------------------ */

#define LOOKED_AT 256 /* names, with the engine's lock held */

/* Directories still to be looked into. */
struct walk {
	uint32_t *dirs; /* owned */
	size_t count, capacity;
	struct evidence *evidence;
	uint32_t dir;
	uint64_t cookie;
	bool more;
	unsigned taken;
	uint32_t journals[LOOKED_AT]; /* among those taken */
	unsigned journal_count;
	int error;
};

static bool look_at(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct walk *walk = arg;

	if (walk->taken == LOOKED_AT) { /* let others have the engine's lock */
		walk->more = true;
		return false;
	}
	walk->taken++;
	walk->cookie = cookie;
	if (S_ISREG(attr->mode)) {
		/* The engine is locked: what is removed is still here, and will be heard of after this. */
		if (evidence_is_side_name(name))
			evidence_named(walk->evidence, walk->dir, name, attr->bucket);
		if (journal_has_suffix(name) && attr->size > 0)
			walk->journals[walk->journal_count++] = attr->bucket;
	} else if (S_ISDIR(attr->mode)) {
		if (walk->count == walk->capacity) {
			size_t wanted = walk->capacity ? 2 * walk->capacity : 64;
			uint32_t *more = realloc(walk->dirs, wanted * sizeof(*more));

			if (!more) {
				walk->error = -ENOMEM;
				return false;
			}
			walk->dirs = more;
			walk->capacity = wanted;
		}
		walk->dirs[walk->count++] = attr->bucket;
	}
	return true;
}

/* Once, at the first commit or before: from then on each change of a name is told. */
static int find_side_files(struct commit *commit)
{
	struct walk walk = { .evidence = tree_evidence(commit->tree) };
	int error = 0;

	walk.dir = MOJO_ROOT_BUCKET;
	for (;;) {
		walk.cookie = 0;
		do {
			walk.more = false;
			walk.taken = walk.journal_count = 0;
			error = mojo_readdir(tree_store(commit->tree), MOJO_ACTIVE, walk.dir, walk.cookie, look_at,
					     &walk);
			if (error == -ENOENT)
				error = 0; /* removed meanwhile */
			if (!error)
				error = walk.error;
			for (unsigned i = 0; i < walk.journal_count; i++)
				rollback_learn(tree_rollback(commit->tree), walk.journals[i]);
		} while (!error && walk.more);
		if (error || walk.count == 0)
			break;
		walk.dir = walk.dirs[--walk.count];
	}
	free(walk.dirs);
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

static int look(struct commit *commit)
{
	int error = commit->knows_side_files ? 0 : find_side_files(commit);

	commit->knows_side_files = !error;
	return error;
}

static void do_commit(struct commit *commit, struct job *job)
{
	struct mojo_version_info info;
	uint32_t version;
	int error = 0;

	if (commit->settles)
		error = look(commit);
	if (!error)
		error = make_version(commit, job, &version);
	if (!error) {
		remember(commit, job->pid, version);
		if (tree_version(commit->tree, version, &info) == 0)
			tree_committed(commit->tree, &info);
		if (commit->verify && verify_version(commit->verify, version) != 0)
			say(commit->event, commit->event_arg, MOJO_WARNING,
			    "version %u is not going to be verified: out of memory", version);
		/* The root has an entry more. The kernel keeps listings; this takes no lock on the inode. */
		fuse_lowlevel_notify_inval_inode(mount_session(commit->mount), FUSE_ROOT_ID, 0, 0);
	}
	if (!error && job->by_ioctl) {
		struct report_commit answer = { .version = version };

		fuse_reply_ioctl(job->req, 0, &answer, sizeof(answer));
	} else {
		fuse_reply_err(job->req, -error);
	}
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

/* Does it matter from the first write on for which journals, left by a crash, room must be kept? */
static bool is_scarce(struct tree *tree)
{
	struct mojo_space space;

	return !tree_is_read_only(tree) && mojo_space(tree_store(tree), &space) == 0 &&
	       space.available < space.total / SCARCE;
}

int commit_new(struct tree *tree, struct mount *mount, struct flusher *flusher, const struct commit_options *options,
	       struct commit **ret_commit)
{
	struct commit *commit = calloc(1, sizeof(*commit));
	int error;

	if (!commit)
		return -ENOMEM;
	commit->tree = tree;
	commit->mount = mount;
	commit->flusher = flusher;
	commit->settles = options->settles;
	commit->event = options->event;
	commit->event_arg = options->event_arg;
	commit->verify = options->verify;
	commit->last = &commit->first;
	pthread_mutex_init(&commit->lock, NULL);
	pthread_mutex_init(&commit->flushing, NULL);
	pthread_cond_init(&commit->wanted, NULL);
	if (is_scarce(tree))
		look(commit); /* at what cannot be read a commit looks again */
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

void commit_request(struct commit *commit, fuse_req_t req, bool by_ioctl, const char *message, size_t length)
{
	struct job *job = calloc(1, sizeof(*job) + length);

	if (!job) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	job->kind = JOB_COMMIT;
	job->by_ioctl = by_ioctl;
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
