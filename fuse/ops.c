/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ops.h"

#define BUFFER_BYTES   (1u << 20)   /* the most that the kernel reads or writes at a time */
#define COPY_BYTES_MAX (2ull << 30) /* shared by one request; the answer has 32 bits for it */
#define MAX_BACKGROUND 64u          /* readahead under way at a time; the kernel's 12 leave a disk idle */

#define LET_GO_US    2000 /* how often, and how many times, to look whether a file is let go of */
#define LET_GO_LOOKS 10

/* fi->fh of a file of the active tree: a tree_file, whose lowest bit says that the handle can write. */
#define HANDLE_WRITABLE 1u

static struct ops *begin(fuse_req_t req, enum counter kind)
{
	struct ops *ops = fuse_req_userdata(req);

	counters_add(&ops->counters, kind);
	follow_request(&ops->follow, fuse_req_ctx(req)->pid, 0);
	return ops;
}

/* The same for one that moves @bytes. */
static struct ops *begin_transfer(fuse_req_t req, enum counter kind, size_t bytes)
{
	struct ops *ops = fuse_req_userdata(req);

	counters_add(&ops->counters, kind);
	follow_request(&ops->follow, fuse_req_ctx(req)->pid, bytes);
	return ops;
}

static void reply_error(fuse_req_t req, int error)
{
	fuse_reply_err(req, -error);
}

/* BUFFER_BYTES, this thread's own until it ends. */
static void *get_buffer(struct ops *ops)
{
	void *buffer = pthread_getspecific(ops->buffer);

	if (!buffer) {
		buffer = malloc(BUFFER_BYTES);
		if (buffer && pthread_setspecific(ops->buffer, buffer) != 0) {
			free(buffer);
			buffer = NULL;
		}
	}
	return buffer;
}

static int64_t to_ns(struct timespec time)
{
	return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return to_ns(now);
}

/*
 * Do set-id bits survive a write by this caller? They do if it is root, as CAP_FSETID has it elsewhere: the
 * kernel says which it is, but libfuse does not pass that on.
 */
static bool keeps_set_id(fuse_req_t req)
{
	return fuse_req_ctx(req)->uid == 0;
}

/* Tell the kernel that its idea of a file's attributes is old; takes no lock on the file. */
static void forget_attributes(struct ops *ops, fuse_ino_t ino)
{
	fuse_lowlevel_notify_inval_inode(mount_session(ops->mount), ino, -1, 0);
}

/* ---- beginning ------------------------------------------------------------------------------- */

static void do_init(void *userdata, struct fuse_conn_info *conn)
{
	const unsigned wanted = FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ATOMIC_O_TRUNC |
				FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_READDIRPLUS |
				FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_IOCTL_DIR;
	/*
	 * Nobody but the kernel changes a file, so no change of mtime makes its pages stale. For set-id bits
	 * see mount_open(). With READDIRPLUS_AUTO the kernel marks each inode that came from a listing, and
	 * open_cached() in flusher.c cannot open a marked one: a commit after "ls" would cost the open files
	 * their pages in the kernel. So a listing always brings the attributes along.
	 */
	const unsigned unwanted = FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_HANDLE_KILLPRIV | FUSE_CAP_SPLICE_READ |
				  FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_EXPORT_SUPPORT |
				  FUSE_CAP_POSIX_ACL | FUSE_CAP_READDIRPLUS_AUTO;
	struct ops *ops = userdata;

	counters_add(&ops->counters, COUNTER_INIT);
	conn->want = (conn->want & ~unwanted) | (wanted & conn->capable);
	conn->max_background = MAX_BACKGROUND;
	conn->congestion_threshold = MAX_BACKGROUND * 3 / 4;
	mount_init(ops->mount, conn);
	ops->ready(ops->ready_arg);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void do_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ops *ops = begin(req, COUNTER_LOOKUP);
	struct fuse_entry_param entry;
	int error = tree_lookup(ops->tree, tree_node(parent), name, &entry);

	if (error)
		reply_error(req, error);
	else
		fuse_reply_entry(req, &entry);
}

/* Inode numbers say everything, so there is nothing to forget. */
static void do_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	(void)ino;
	(void)count;
	begin(req, COUNTER_FORGET);
	fuse_reply_none(req);
}

static void do_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	(void)count;
	(void)forgets;
	begin(req, COUNTER_BATCH_FORGET);
	fuse_reply_none(req);
}

/*
 * Names of the active tree, and what belongs to directories, have changed. Called behind the change and before the
 * answer: whoever syncs a directory after it finds it counted.
 */
static void note_names(struct ops *ops)
{
	atomic_fetch_add(&ops->names_changed, 1);
}

/* All that was done so far is on disk. */
static int sync_all(struct ops *ops)
{
	unsigned long long changed = atomic_load(&ops->names_changed), before = atomic_load(&ops->names_synced);
	bool cut = atomic_exchange(&ops->cut_journal, false);
	int error = mojo_sync(tree_store(ops->tree));

	if (error && cut)
		atomic_store(&ops->cut_journal, true);

	while (!error && before < changed && !atomic_compare_exchange_weak(&ops->names_synced, &before, changed))
		;
	return error;
}

/* May something named @name be made in, or removed from, @dir? */
static int check_directory(struct ops *ops, struct tree_node dir, const char *name, bool makes)
{
	if (tree_is_frozen(dir) || tree_is_read_only(ops->tree))
		return -EROFS;
	if (makes)
		return tree_check_name(name);
	/* A version is no name of the active tree, though it is listed there. */
	return name[0] == '@' && (tree_version_name(name) || strcmp(name, TREE_LAST_GOOD_NAME) == 0) ? -EROFS : 0;
}

/* In a directory with the set-group-id bit what is made belongs to the directory's group. */
static int inherit(struct ops *ops, struct tree_node dir, mode_t *mode, gid_t *gid)
{
	struct mojo_attr attr;
	int error = mojo_getattr(tree_store(ops->tree), MOJO_ACTIVE, dir.bucket, &attr);

	if (error)
		return error;
	if (attr.mode & S_ISGID) {
		*gid = attr.gid;
		if (S_ISDIR(*mode))
			*mode |= S_ISGID;
	}
	return 0;
}

/* Make anything but a symbolic link. */
static int make(struct ops *ops, fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev,
		struct mojo_attr *ret_attr)
{
	struct tree_node dir = tree_node(parent);
	gid_t gid = fuse_req_ctx(req)->gid;
	uid_t uid = fuse_req_ctx(req)->uid;
	struct mojo_attr attr;
	int error = check_directory(ops, dir, name, true);

	if (!error)
		error = inherit(ops, dir, &mode, &gid);
	if (error)
		return error;
	if (shm_lookup(tree_shm(ops->tree), dir.bucket, name, &attr) == 0)
		return -EEXIST;
	if (S_ISREG(mode) && tree_is_shm_name(ops->tree, dir.bucket, name) &&
	    mojo_lookup(tree_store(ops->tree), MOJO_ACTIVE, dir.bucket, name, &attr) == -ENOENT)
		return shm_create(tree_shm(ops->tree), dir.bucket, name, mode, uid, gid, ret_attr);
	evidence_naming(tree_evidence(ops->tree), dir.bucket, name);
	error = mojo_mknod(tree_store(ops->tree), dir.bucket, name, mode, (uint32_t)rdev, uid, gid, ret_attr);
	/* Without a WAL SQLite cannot even read a database in WAL mode, and the last one to close it removes it. */
	if (error == -ENOSPC && S_ISREG(mode) && journal_is_wal_name(tree_store(ops->tree), dir.bucket, name))
		error = mojo_mknod_reserved(tree_store(ops->tree), dir.bucket, name, mode, uid, gid, ret_attr);
	evidence_named(tree_evidence(ops->tree), dir.bucket, name, error ? 0 : ret_attr->bucket);
	/* A journal is of use only together with what is done to its database later, and goes to disk before it. */
	if (!error && !(ops->ordered_journals && journal_is_name(tree_store(ops->tree), dir.bucket, name)))
		note_names(ops);
	return error;
}

static void reply_made(struct ops *ops, fuse_req_t req, int error, const struct mojo_attr *attr)
{
	struct fuse_entry_param entry;

	if (error) {
		reply_error(req, error);
		return;
	}
	tree_entry(ops->tree, attr, &entry);
	fuse_reply_entry(req, &entry);
}

static void do_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct ops *ops = begin(req, COUNTER_MKNOD);
	struct mojo_attr attr;
	int error = make(ops, req, parent, name, mode, rdev, &attr);

	reply_made(ops, req, error, &attr);
}

static void do_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct ops *ops = begin(req, COUNTER_MKDIR);
	struct mojo_attr attr;
	int error = make(ops, req, parent, name, S_IFDIR | mode, 0, &attr);

	reply_made(ops, req, error, &attr);
}

static void do_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct ops *ops = begin(req, COUNTER_SYMLINK);
	struct tree_node dir = tree_node(parent);
	gid_t gid = fuse_req_ctx(req)->gid;
	mode_t mode = S_IFLNK;
	struct mojo_attr attr;
	int error = check_directory(ops, dir, name, true);

	if (!error && strlen(target) > MOJO_SYMLINK_MAX)
		error = -ENAMETOOLONG;
	if (!error && shm_lookup(tree_shm(ops->tree), dir.bucket, name, &attr) == 0)
		error = -EEXIST;
	if (!error)
		error = inherit(ops, dir, &mode, &gid);
	if (!error)
		error = mojo_symlink(tree_store(ops->tree), dir.bucket, name, target, fuse_req_ctx(req)->uid, gid,
				     &attr);
	if (!error)
		note_names(ops);
	reply_made(ops, req, error, &attr);
}

static void do_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct ops *ops = begin(req, COUNTER_READLINK);
	struct tree_node node = tree_node(ino);
	char target[MOJO_SYMLINK_MAX + 1];
	int error = tree_readlink(ops->tree, node, target);

	if (error)
		reply_error(req, error);
	else
		fuse_reply_readlink(req, target);
}

static void do_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ops *ops = begin(req, COUNTER_UNLINK);
	struct mojo_store *store = tree_store(ops->tree);
	struct tree_node dir = tree_node(parent);
	int error = check_directory(ops, dir, name, false);

	if (!error && shm_unlink(tree_shm(ops->tree), dir.bucket, name) != 0) {
		/* In journal mode DELETE it is this that commits, and SQLite syncs no directory after it, unless with
		 * synchronous=EXTRA: without help the last transaction would be rolled back after a loss of power. */
		bool wait = ops->durable_unlink && journal_is_hot(store, dir.bucket, name);
		uint32_t journal = rollback_journal(tree_rollback(ops->tree), dir.bucket, name);

		error = mojo_unlink(store, dir.bucket, name);
		if (!error) {
			if (journal)
				rollback_ended(tree_rollback(ops->tree), journal);
			evidence_unnamed(tree_evidence(ops->tree), dir.bucket, name);
			note_names(ops);
		}
		if (!error && wait)
			error = sync_all(ops);
	}
	reply_error(req, error);
}

static void do_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ops *ops = begin(req, COUNTER_RMDIR);
	struct tree_node dir = tree_node(parent);
	char inside[MOJO_NAME_MAX + 1];
	struct mojo_attr attr;
	int error = check_directory(ops, dir, name, false);

	/* A file of shm.h in it is not the engine's to know. */
	if (!error && mojo_lookup(tree_store(ops->tree), MOJO_ACTIVE, dir.bucket, name, &attr) == 0 &&
	    shm_next(tree_shm(ops->tree), attr.bucket, 0, inside, &attr) == 0)
		error = -ENOTEMPTY;
	if (!error)
		error = mojo_rmdir(tree_store(ops->tree), dir.bucket, name);
	if (!error)
		note_names(ops);
	reply_error(req, error);
}

/* Would the rename move something between the engine and shm.h? Then it is a move between file systems. */
static bool crosses(struct ops *ops, struct tree_node from, const char *name, struct tree_node to, const char *new_name,
		    unsigned flags)
{
	struct shm *shm = tree_shm(ops->tree);
	struct mojo_attr attr;

	if (shm_lookup(shm, from.bucket, name, &attr) == 0 || shm_lookup(shm, to.bucket, new_name, &attr) == 0)
		return true;
	if (flags & MOJO_RENAME_EXCHANGE)
		return false;
	return tree_is_shm_name(ops->tree, to.bucket, new_name) &&
	       mojo_lookup(tree_store(ops->tree), MOJO_ACTIVE, from.bucket, name, &attr) == 0 && S_ISREG(attr.mode);
}

/* The evidence may not miss what is at a name now: told before that something will be, and after what it is. */
static void now_at(struct ops *ops, uint32_t dir, const char *name)
{
	struct mojo_attr attr;
	int error;

	if (!evidence_is_side_name(name))
		return;
	error = mojo_lookup(tree_store(ops->tree), MOJO_ACTIVE, dir, name, &attr);
	evidence_named(tree_evidence(ops->tree), dir, name, error ? 0 : attr.bucket);
}

static int rename_bucket(struct ops *ops, uint32_t dir, const char *name, uint32_t new_dir, const char *new_name,
			 unsigned flags)
{
	struct evidence *evidence = tree_evidence(ops->tree);
	bool exchange = flags & MOJO_RENAME_EXCHANGE;
	int error;

	evidence_naming(evidence, new_dir, new_name);
	if (exchange)
		evidence_naming(evidence, dir, name);
	error = mojo_rename(tree_store(ops->tree), dir, name, new_dir, new_name, flags);
	if (!error)
		evidence_renamed(evidence, dir, name, new_dir, new_name, exchange);
	if (!error)
		rollback_renamed(tree_rollback(ops->tree), new_dir, new_name);
	now_at(ops, new_dir, new_name);
	if (exchange)
		now_at(ops, dir, name);
	return error;
}

static void do_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
		      unsigned flags)
{
	struct ops *ops = begin(req, COUNTER_RENAME);
	struct tree_node from = tree_node(parent), to = tree_node(new_parent);
	int error = check_directory(ops, from, name, false);

	if (!error)
		error = check_directory(ops, to, new_name, true);
	if (!error && flags & ~(unsigned)(MOJO_RENAME_NOREPLACE | MOJO_RENAME_EXCHANGE))
		error = -EINVAL;
	if (!error && crosses(ops, from, name, to, new_name, flags))
		error = -EXDEV;
	if (!error)
		error = rename_bucket(ops, from.bucket, name, to.bucket, new_name, flags);
	if (!error)
		note_names(ops);
	reply_error(req, error);
}

static void do_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t new_parent, const char *new_name)
{
	(void)new_name;
	begin(req, COUNTER_LINK);
	/* What link(2) says where there are no hard links. */
	reply_error(req, tree_is_frozen(tree_node(new_parent)) || tree_is_frozen(tree_node(ino)) ? -EROFS : -EPERM);
}

/* ---- attributes ------------------------------------------------------------------------------ */

static void do_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ops *ops = begin(req, COUNTER_GETATTR);
	struct stat st;
	int error = tree_getattr(ops->tree, tree_node(ino), &st);

	(void)fi;
	if (error)
		reply_error(req, error);
	else
		fuse_reply_attr(req, &st, TREE_CACHE_SECONDS);
}

/* struct stat and FUSE_SET_ATTR_* to the engine's. */
static unsigned from_stat(const struct stat *st, int to_set, struct mojo_attr *ret_attr)
{
	struct mojo_attr attr = {
		.mode = st->st_mode, .uid = st->st_uid, .gid = st->st_gid, .size = (uint64_t)st->st_size
	};
	unsigned mask = 0;

	if (to_set & FUSE_SET_ATTR_MODE)
		mask |= MOJO_SET_MODE;
	if (to_set & FUSE_SET_ATTR_UID)
		mask |= MOJO_SET_UID;
	if (to_set & FUSE_SET_ATTR_GID)
		mask |= MOJO_SET_GID;
	if (to_set & FUSE_SET_ATTR_SIZE)
		mask |= MOJO_SET_SIZE;
	if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW)) {
		mask |= MOJO_SET_ATIME;
		attr.atime_ns = to_set & FUSE_SET_ATTR_ATIME_NOW ? now_ns() : to_ns(st->st_atim);
	}
	if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW)) {
		mask |= MOJO_SET_MTIME;
		attr.mtime_ns = to_set & FUSE_SET_ATTR_MTIME_NOW ? now_ns() : to_ns(st->st_mtim);
	}
	if (to_set & FUSE_SET_ATTR_CTIME) {
		mask |= MOJO_SET_CTIME;
		attr.ctime_ns = to_ns(st->st_ctim);
	}
	*ret_attr = attr;
	return mask;
}

/* Do set-id bits go with this change, which does not set the mode? */
static bool takes_set_id(fuse_req_t req, unsigned mask)
{
	if (mask & (MOJO_SET_UID | MOJO_SET_GID))
		return true;
	if (mask & MOJO_SET_SIZE)
		return !keeps_set_id(req);
	/* Nothing, or ctime alone: chown(2) to the owner and group -1. All else that sets ctime sets more. */
	return !(mask & ~(unsigned)MOJO_SET_CTIME);
}

/* Set attributes of a bucket of the active tree. */
static int set_attributes(struct ops *ops, fuse_req_t req, uint32_t bucket, unsigned mask, struct mojo_attr *attr)
{
	struct mojo_store *store = tree_store(ops->tree);
	struct tree_node node = { .kind = TREE_BUCKET, .version = MOJO_ACTIVE, .bucket = bucket };
	bool cuts = false;
	int error;

	if (mask & MOJO_SET_MODE) {
		tree_mode_changed(ops->tree, bucket, S_IFREG | attr->mode);
	} else if (takes_set_id(req, mask)) {
		struct mojo_attr old;

		error = mojo_getattr(store, MOJO_ACTIVE, bucket, &old);
		if (error)
			return error;
		attr->mode = tree_stripped_mode(old.mode);
		if (attr->mode != old.mode)
			mask |= MOJO_SET_MODE;
	}
	if (!mask)
		return 0;
	if (mask & MOJO_SET_SIZE) {
		evidence_truncating(tree_evidence(ops->tree), bucket, attr->size);
		cuts = attr->size == 0 && ops->ordered_journals && journal_is_hot_bucket(store, bucket);
	}
	error = mojo_setattr(store, bucket, mask, attr, attr);
	if (!error && mask & MOJO_SET_SIZE)
		distrust_cut(&ops->distrust, tree_ino(node), attr->size);
	if (!error && cuts)
		atomic_store(&ops->cut_journal, true);
	if (!error && mask & MOJO_SET_SIZE && attr->size == 0)
		rollback_ended(tree_rollback(ops->tree), bucket);
	return error;
}

static void do_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct ops *ops = begin(req, COUNTER_SETATTR);
	struct tree_node node = tree_node(ino);
	struct mojo_attr attr;
	unsigned mask = from_stat(st, to_set, &attr);
	struct stat new;
	int error = 0;

	(void)fi;
	if (tree_is_frozen(node) || tree_is_read_only(ops->tree))
		error = -EROFS;
	else if (tree_is_memory(node))
		error = shm_setattr(tree_shm(ops->tree), node.bucket, mask, &attr, &attr);
	else
		error = set_attributes(ops, req, node.bucket, mask, &attr);
	if (!error)
		error = tree_getattr(ops->tree, node, &new);
	if (!error && S_ISDIR(new.st_mode))
		note_names(ops);
	if (error == -ENOENT && mask && !(mask & ~(unsigned)(MOJO_SET_ATIME | MOJO_SET_MTIME | MOJO_SET_CTIME))) {
		/* The kernel writes back the times of a file just unlinked. An error would stay with the mount and
		 * come up at the next syncfs(2). */
		memset(&new, 0, sizeof(new));
		new.st_ino = ino;
		new.st_mode = S_IFREG;
		error = 0;
	}
	if (error)
		reply_error(req, error);
	else
		fuse_reply_attr(req, &new, TREE_CACHE_SECONDS);
}

static void do_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct ops *ops = begin(req, COUNTER_STATFS);
	struct mojo_space space;
	struct statvfs st;
	int error = mojo_space(tree_store(ops->tree), &space);

	(void)ino;
	if (error) {
		reply_error(req, error);
		return;
	}
	memset(&st, 0, sizeof(st));
	st.f_bsize = st.f_frsize = space.page_size;
	st.f_blocks = space.total / space.page_size;
	st.f_bfree = space.free / space.page_size;
	st.f_bavail = space.available / space.page_size;
	st.f_files = MOJO_BUCKET_MAX;
	st.f_ffree = st.f_favail = MOJO_BUCKET_MAX - (fsfilcnt_t)space.files;
	st.f_namemax = MOJO_NAME_MAX;
	fuse_reply_statfs(req, &st);
}

/* ---- open files ------------------------------------------------------------------------------ */

static struct tree_file *handle_file(const struct fuse_file_info *fi)
{
	return fi ? (struct tree_file *)(uintptr_t)(fi->fh & ~(uint64_t)HANDLE_WRITABLE) : NULL;
}

static int open_node(struct ops *ops, fuse_req_t req, struct tree_node node, struct fuse_file_info *fi)
{
	bool writable = (fi->flags & O_ACCMODE) != O_RDONLY;
	struct tree_file *file;
	int error;

	fi->fh = 0;
	fi->keep_cache = 1;
	if (tree_is_frozen(node) || tree_is_read_only(ops->tree)) {
		struct stat st;

		if (writable || fi->flags & O_TRUNC)
			return -EROFS;
		return tree_is_memory(node) ? -ENOENT : tree_getattr(ops->tree, node, &st);
	}
	if (tree_is_memory(node)) {
		struct mojo_attr attr = { .size = 0 };

		error = shm_open_file(tree_shm(ops->tree), node.bucket);
		if (!error && fi->flags & O_TRUNC)
			error = shm_setattr(tree_shm(ops->tree), node.bucket, MOJO_SET_SIZE, &attr, &attr);
		return error;
	}
	error = tree_open(ops->tree, node.bucket, writable, &file);
	if (error)
		return error;
	if (fi->flags & O_TRUNC) {
		struct mojo_attr attr = { .size = 0 };

		error = set_attributes(ops, req, node.bucket, MOJO_SET_SIZE, &attr);
		if (error) {
			tree_close(ops->tree, file, writable);
			return error;
		}
	}
	fi->fh = (uintptr_t)file | (writable ? HANDLE_WRITABLE : 0);
	return 0;
}

static void close_node(struct ops *ops, struct tree_node node, const struct fuse_file_info *fi)
{
	struct tree_file *file = handle_file(fi);

	if (tree_is_memory(node))
		shm_close_file(tree_shm(ops->tree), node.bucket);
	else if (file)
		tree_close(ops->tree, file, fi->fh & HANDLE_WRITABLE);
}

/* Nobody who wrote to it may rely any more on what was refused. A process that has just ended may not have been seen to
 * let go of it yet: that is waited for, but not long, for the writer may be another one. */
static void forget_refused(struct ops *ops, fuse_ino_t ino)
{
	for (int i = 0; i < LET_GO_LOOKS && tree_has_writers(ops->tree, tree_node(ino).bucket); i++)
		usleep(LET_GO_US);
	if (!tree_has_writers(ops->tree, tree_node(ino).bucket))
		distrust_forget(&ops->distrust, ops->mount, ino);
}

static void do_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ops *ops = begin(req, COUNTER_OPEN);
	int error;

	if (distrust_is_noted(&ops->distrust, ino))
		forget_refused(ops, ino);
	error = open_node(ops, req, tree_node(ino), fi);
	if (error)
		reply_error(req, error);
	else if (fuse_reply_open(req, fi) != 0)
		close_node(ops, tree_node(ino), fi); /* interrupted: nobody will release it */
}

static void do_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	struct ops *ops = begin(req, COUNTER_CREATE);
	struct fuse_entry_param entry;
	struct mojo_attr attr;
	int error = make(ops, req, parent, name, S_IFREG | (mode & 07777), 0, &attr);

	if (!error) {
		tree_entry(ops->tree, &attr, &entry);
		fi->flags &= ~O_TRUNC;
		error = open_node(ops, req, tree_node(entry.ino), fi);
	}
	if (error)
		reply_error(req, error);
	else if (fuse_reply_create(req, &entry, fi) != 0)
		close_node(ops, tree_node(entry.ino), fi);
}

static void do_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ops *ops = begin(req, COUNTER_RELEASE);

	close_node(ops, tree_node(ino), fi);
	fuse_reply_err(req, 0);
}

static void do_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct ops *ops = begin_transfer(req, COUNTER_READ, size);
	void *buffer = get_buffer(ops);
	size_t length = 0;
	int error;

	(void)fi;
	if (!buffer) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	if (size > BUFFER_BYTES)
		size = BUFFER_BYTES;
	distrust_read(&ops->distrust, ino, (uint64_t)offset, size);
	error = tree_read(ops->tree, tree_node(ino), (uint64_t)offset, buffer, size, &length);
	if (error)
		reply_error(req, error);
	else
		fuse_reply_buf(req, buffer, length);
}

static int write_bucket(struct ops *ops, uint32_t bucket, uint64_t offset, const char *buf, size_t size, bool writepage)
{
	struct mojo_store *store = tree_store(ops->tree);
	struct rollback *rollback = tree_rollback(ops->tree);
	bool ends = rollback_writing(rollback, bucket, offset, buf, size);
	int error = writepage ? mojo_write_back(store, bucket, offset, buf, size)
			      : mojo_write(store, bucket, offset, buf, size);

	if (!error)
		rollback_written(rollback, bucket, offset, size);
	else if (error == -ENOSPC)
		error = rollback_write(rollback, bucket, offset, buf, size, writepage);
	if (!error && ends)
		rollback_ended(rollback, bucket);
	return error;
}

static void do_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t offset,
		     struct fuse_file_info *fi)
{
	struct ops *ops = begin_transfer(req, COUNTER_WRITE, size);
	struct tree_node node = tree_node(ino);
	struct tree_file *file = handle_file(fi);
	bool is_noted;
	int error;

	if (tree_is_frozen(node))
		error = -EROFS;
	else if (tree_is_memory(node))
		error = shm_write(tree_shm(ops->tree), node.bucket, (uint64_t)offset, buf, size);
	else {
		if (file)
			evidence_writing(tree_evidence(ops->tree), tree_file_evidence(file), (uint64_t)offset, buf,
					 size);
		is_noted = distrust_begin_write(&ops->distrust, ino);
		error = write_bucket(ops, node.bucket, (uint64_t)offset, buf, size, fi->writepage);
		if (is_noted)
			distrust_end_write(&ops->distrust, ino, (uint64_t)offset, size, error);
	}
	/* While a file has such bits the kernel delays no write to it, so the caller is known. */
	if (!error && file && !fi->writepage && !keeps_set_id(req) && tree_written(ops->tree, file))
		forget_attributes(ops, ino);
	if (error && fi->writepage && size)
		distrust_note(&ops->distrust, ino, (uint64_t)offset, size);
	if (error)
		reply_error(req, error);
	else
		fuse_reply_write(req, size);
}

static void do_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
			 struct fuse_file_info *fi)
{
	struct ops *ops = begin(req, COUNTER_FALLOCATE);
	struct tree_node node = tree_node(ino);
	struct tree_file *file = handle_file(fi);
	int error;

	if (tree_is_frozen(node))
		error = -EROFS;
	else if (tree_is_memory(node))
		error = shm_fallocate(tree_shm(ops->tree), node.bucket, mode, (uint64_t)offset, (uint64_t)length);
	else {
		evidence_changing(tree_evidence(ops->tree), node.bucket, (uint64_t)offset);
		error = mojo_fallocate(tree_store(ops->tree), node.bucket, mode, (uint64_t)offset, (uint64_t)length);
	}
	if (!error && file && !keeps_set_id(req) && tree_written(ops->tree, file))
		forget_attributes(ops, ino);
	reply_error(req, error);
}

/*
 * Before it asks, the kernel writes back what it has of both ranges that is dirty; after it, it drops what it has of the
 * target's. Where shared memory is concerned it is left to copy by itself.
 */
static void do_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in,
			       fuse_ino_t ino_out, off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct ops *ops = begin_transfer(req, COUNTER_COPY_FILE_RANGE, FOLLOW_BULK);
	struct tree_node from = tree_node(ino_in), to = tree_node(ino_out);
	struct tree_file *file = handle_file(fi_out);
	uint64_t copied = 0;
	int error = 0;

	(void)fi_in;
	(void)flags;
	if (tree_is_frozen(to))
		error = -EROFS;
	else if (tree_is_memory(from) || tree_is_memory(to))
		error = -EOPNOTSUPP;
	else if (from.kind == TREE_BUCKET) { /* the others are empty */
		evidence_changing(tree_evidence(ops->tree), to.bucket, (uint64_t)off_out);
		error = mojo_copy(tree_store(ops->tree), from.version, from.bucket, (uint64_t)off_in, to.bucket,
				  (uint64_t)off_out, len < COPY_BYTES_MAX ? len : COPY_BYTES_MAX, &copied);
	}
	if (!error && file && !keeps_set_id(req) && tree_written(ops->tree, file))
		forget_attributes(ops, ino_out);
	if (error)
		reply_error(req, error);
	else
		fuse_reply_write(req, (size_t)copied);
}

static void do_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
	struct ops *ops = begin(req, COUNTER_LSEEK);
	struct tree_node node = tree_node(ino);
	bool data = whence == SEEK_DATA;
	uint64_t found = 0;
	int error;

	(void)fi;
	if ((whence != SEEK_DATA && whence != SEEK_HOLE) || offset < 0) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	if (node.kind != TREE_BUCKET) {
		error = -ENXIO; /* empty */
	} else if (tree_is_memory(node)) {
		error = shm_seek(tree_shm(ops->tree), node.bucket, (uint64_t)offset, data, &found);
	} else if (!tree_is_frozen(node) && tree_has_writers(ops->tree, node.bucket)) {
		/* The kernel may have data that we have not. To guess would make a copy of the file wrong. */
		commit_seek(ops->commit, req, node.bucket, (uint64_t)offset, data);
		return;
	} else {
		error = mojo_seek(tree_store(ops->tree), node.version, node.bucket, (uint64_t)offset, data, &found);
	}
	if (error)
		reply_error(req, error);
	else
		fuse_reply_lseek(req, (off_t)found);
}

/* Is it kept at all, and can it have changed? */
static bool is_synced(struct ops *ops, struct tree_node node)
{
	return !tree_is_frozen(node) && !tree_is_memory(node) && !tree_is_read_only(ops->tree);
}

/*
 * The log is one order of all that is done to the store, and what a loss of power leaves is a beginning of it. A
 * rollback journal is synced so that nothing of the database is on disk that is not in it: the order says that
 * already. And its database, so that nothing of it is missing when the journal is gone: the order says that, too. So
 * there is nothing to wait for until the journal ends, and that is waited for: the removal, or the sync of what was
 * cut or overwritten. Where SQLite does not sync what it has cut (synchronous=NORMAL), the next sync is waited for, as
 * elsewhere the next one of the journal would bring it to disk.
 */
static bool only_orders(struct ops *ops, uint32_t bucket)
{
	struct mojo_store *store = tree_store(ops->tree);

	if (!ops->ordered_journals || atomic_load(&ops->cut_journal))
		return false;
	return journal_only_orders(store, bucket) || (ops->durable_unlink && journal_takes_back(store, bucket));
}

static void sync_node(struct ops *ops, fuse_req_t req, struct tree_node node, struct tree_file *file, int error)
{
	if (!error && is_synced(ops, node))
		error = rollback_sync(tree_rollback(ops->tree), node.bucket);
	if (!error && file)
		evidence_synced(tree_evidence(ops->tree), tree_file_evidence(file));
	if (!error && is_synced(ops, node) && !only_orders(ops, node.bucket))
		error = sync_all(ops);
	reply_error(req, error);
}

/* An fsync of a file of which something that was refused is missing. The kernel waits for its answer, and keeps the
 * handle, and all others from cutting the file. */
struct late_sync {
	struct ops *ops;
	fuse_req_t req;
	fuse_ino_t ino;
	struct tree_file *file; /* borrowed; NULL: there is no handle */
};

static int write_late(void *arg, uint64_t offset, const void *bytes, size_t length)
{
	struct late_sync *late = arg;

	if (late->file)
		evidence_writing(tree_evidence(late->ops->tree), tree_file_evidence(late->file), offset, bytes, length);
	return write_bucket(late->ops, tree_node(late->ino).bucket, offset, bytes, length, true);
}

static void *sync_late(void *arg)
{
	struct late_sync *late = arg;
	struct ops *ops = late->ops;
	int error = distrust_bring(&ops->distrust, ops->mount, late->ino, write_late, late);

	sync_node(ops, late->req, tree_node(late->ino), late->file, error);
	free(late);
	distrust_bringing(&ops->distrust, false);
	return NULL;
}

/* By a thread of its own: the kernel's answer has to be taken by those that serve. */
static int begin_late_sync(struct ops *ops, fuse_req_t req, fuse_ino_t ino, struct tree_file *file)
{
	struct late_sync *late = malloc(sizeof(*late));
	pthread_t thread;
	int error = late ? 0 : -ENOMEM;

	if (!error) {
		*late = (struct late_sync){ ops, req, ino, file };
		distrust_bringing(&ops->distrust, true);
		error = -pthread_create(&thread, NULL, sync_late, late);
		if (!error)
			pthread_detach(thread);
		else
			distrust_bringing(&ops->distrust, false);
	}
	if (error)
		free(late);
	return error;
}

static void do_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct ops *ops = begin(req, COUNTER_FSYNC);
	struct tree_node node = tree_node(ino);
	int error = 0;

	(void)datasync;
	if (is_synced(ops, node) && distrust_lacks(&ops->distrust, ino)) {
		error = begin_late_sync(ops, req, ino, handle_file(fi));
		if (!error)
			return;
	}
	sync_node(ops, req, node, handle_file(fi), error);
}

static void do_retrieve_reply(fuse_req_t req, void *cookie, fuse_ino_t ino, off_t offset, struct fuse_bufvec *bufv)
{
	struct ops *ops = fuse_req_userdata(req);

	(void)ino;
	(void)offset;
	distrust_answer(&ops->distrust, cookie, bufv);
	fuse_reply_none(req);
}

static void do_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct ops *ops = begin(req, COUNTER_FSYNCDIR);
	int error = 0;

	(void)datasync;
	(void)fi;
	/* With each new journal SQLite syncs its directory. Others' data need not go to disk for that. */
	if (is_synced(ops, tree_node(ino)) && atomic_load(&ops->names_changed) > atomic_load(&ops->names_synced))
		error = sync_all(ops);
	reply_error(req, error);
}

/* ---- directories ----------------------------------------------------------------------------- */

static void do_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	begin(req, COUNTER_OPENDIR);
	/* The kernel does not ask again, and keeps listings. */
	fuse_reply_err(req, ENOSYS);
}

struct reply {
	fuse_req_t req;
	char *buffer;
	size_t size, used;
	bool plus;
};

static bool add_to_reply(void *arg, const char *name, const struct fuse_entry_param *entry, uint64_t place)
{
	struct reply *reply = arg;
	size_t room = reply->size - reply->used, needed;
	char *to = reply->buffer + reply->used;

	if (reply->plus)
		needed = fuse_add_direntry_plus(reply->req, to, room, name, entry, (off_t)place);
	else
		needed = fuse_add_direntry(reply->req, to, room, name, &entry->attr, (off_t)place);
	if (needed > room)
		return false;
	reply->used += needed;
	return true;
}

static void list(struct ops *ops, fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, bool plus)
{
	struct reply reply = { .req = req, .buffer = get_buffer(ops), .plus = plus };
	int error;

	if (!reply.buffer) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	reply.size = size < BUFFER_BYTES ? size : BUFFER_BYTES;
	error = tree_readdir(ops->tree, tree_node(ino), (uint64_t)offset, add_to_reply, &reply);
	if (error)
		reply_error(req, error);
	else
		fuse_reply_buf(req, reply.buffer, reply.used);
}

static void do_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)fi;
	list(begin(req, COUNTER_READDIR), req, ino, size, offset, false);
}

static void do_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	(void)fi;
	list(begin(req, COUNTER_READDIRPLUS), req, ino, size, offset, true);
}

/* ---- extended attributes --------------------------------------------------------------------- */

/* @size 0 asks how long @value is. Frees @value. */
static void reply_value(fuse_req_t req, char *value, size_t length, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, length);
	else if (length > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, value, length);
	free(value);
}

static void do_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct ops *ops = begin(req, COUNTER_GETXATTR);
	size_t length;
	char *value;
	int error = control_get(&ops->control, tree_node(ino), name, fuse_req_ctx(req)->pid, &value, &length);

	if (error)
		reply_error(req, error);
	else
		reply_value(req, value, length, size);
}

static void do_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct ops *ops = begin(req, COUNTER_LISTXATTR);
	size_t length;
	char *names;
	int error = control_list(&ops->control, tree_node(ino), &names, &length);

	if (error)
		reply_error(req, error);
	else
		reply_value(req, names, length, size);
}

static void do_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	/* Threads may be started for it, and would inherit where this one is kept. */
	struct ops *ops = begin_transfer(req, COUNTER_SETXATTR, FOLLOW_BULK);

	(void)flags; /* the one that can be set is always there to be replaced, and never kept */
	control_set(&ops->control, req, tree_node(ino), name, value, size);
}

static void do_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	begin(req, COUNTER_REMOVEXATTR);
	reply_error(req, tree_is_frozen(tree_node(ino)) ? -EROFS : control_remove(name));
}

static void do_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned command, void *arg, struct fuse_file_info *fi,
		     unsigned flags, const void *in, size_t in_length, size_t out_length)
{
	/* As a setxattr, it may start threads. */
	struct ops *ops = begin_transfer(req, COUNTER_IOCTL, FOLLOW_BULK);

	(void)arg;
	(void)fi;
	(void)flags;
	control_ioctl(&ops->control, req, tree_node(ino), command, in, in_length, out_length);
}

/* ---- the table ------------------------------------------------------------------------------- */

int ops_init(struct ops *ops)
{
	int error = -pthread_key_create(&ops->buffer, free);

	if (error)
		return error;
	error = follow_init(&ops->follow);
	if (error)
		pthread_key_delete(ops->buffer);
	else
		distrust_init(&ops->distrust);
	return error;
}

void ops_destroy(struct ops *ops)
{
	distrust_destroy(&ops->distrust);
	follow_destroy(&ops->follow);
	free(pthread_getspecific(ops->buffer));
	pthread_key_delete(ops->buffer);
}

const struct fuse_lowlevel_ops *ops_table(void)
{
	static const struct fuse_lowlevel_ops table = {
		.init = do_init,
		.lookup = do_lookup,
		.forget = do_forget,
		.forget_multi = do_forget_multi,
		.getattr = do_getattr,
		.setattr = do_setattr,
		.readlink = do_readlink,
		.mknod = do_mknod,
		.mkdir = do_mkdir,
		.symlink = do_symlink,
		.unlink = do_unlink,
		.rmdir = do_rmdir,
		.rename = do_rename,
		.link = do_link,
		.open = do_open,
		.create = do_create,
		.release = do_release,
		.read = do_read,
		.write = do_write,
		.fallocate = do_fallocate,
		.lseek = do_lseek,
		.copy_file_range = do_copy_file_range,
		.fsync = do_fsync,
		.fsyncdir = do_fsyncdir,
		.retrieve_reply = do_retrieve_reply,
		.opendir = do_opendir,
		.readdir = do_readdir,
		.readdirplus = do_readdirplus,
		.statfs = do_statfs,
		.setxattr = do_setxattr,
		.getxattr = do_getxattr,
		.listxattr = do_listxattr,
		.removexattr = do_removexattr,
		.ioctl = do_ioctl,
	};

	return &table;
}
