/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "volume.h"

static const unsigned char journal_magic[8] = { 0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7 };

/* Of volume_file.bare: what the first change of a transaction found. */
enum { BARE_UNKNOWN, BARE_NO, BARE_YES };

/* What the open files of one database share. */
struct volume_entry {
	struct volume_entry *next; /* owned by the volume */
	uint32_t version, bucket;
	unsigned users;
	unsigned bare; /* files that change it with neither journal nor WAL */
	unsigned synced;
	struct volume_name name;
	struct locks *locks; /* owned */
};

struct volume {
	struct volume_config config; /* store and read_only: guarded by `exchange` */
	pid_t pid;

	pthread_rwlock_t exchange; /* held for reading by whoever uses the store */
	pthread_mutex_t commit;    /* one commit at a time; taken before all others */
	pthread_mutex_t lock;      /* guards what follows, and `bare` of every file; held at the moment of a freeze */
	struct volume_entry *entries;
	int failure;
};

int volume_new(const struct volume_config *config, struct volume **ret_volume)
{
	struct volume *volume = calloc(1, sizeof(*volume));

	if (!volume)
		return -ENOMEM;
	volume->config = *config;
	volume->pid = getpid();
	pthread_rwlock_init(&volume->exchange, NULL);
	pthread_mutex_init(&volume->commit, NULL);
	pthread_mutex_init(&volume->lock, NULL);
	*ret_volume = volume;
	return 0;
}

void volume_free(struct volume *volume)
{
	if (!volume)
		return;
	pthread_rwlock_destroy(&volume->exchange);
	pthread_mutex_destroy(&volume->commit);
	pthread_mutex_destroy(&volume->lock);
	free(volume);
}

bool volume_is_forked(const struct volume *volume)
{
	return getpid() != volume->pid;
}

/* May the store be used? If 0, leave() is to follow. */
static int enter(struct volume *volume)
{
	if (volume_is_forked(volume))
		return -ECHILD;
	if (volume->config.cancel && atomic_load(volume->config.cancel))
		return -ECANCELED;
	pthread_rwlock_rdlock(&volume->exchange);
	if (!volume->config.store) {
		pthread_rwlock_unlock(&volume->exchange);
		return -EIO;
	}
	return 0;
}

static void leave(struct volume *volume)
{
	pthread_rwlock_unlock(&volume->exchange);
}

/* `exchange` is held. */
static bool is_writable(const struct volume *volume, uint32_t version)
{
	if (volume->config.settling)
		return version == volume->config.settling;
	return version == MOJO_ACTIVE && !volume->config.read_only;
}

bool volume_is_writable(struct volume *volume, uint32_t version)
{
	bool yes;

	if (enter(volume) != 0)
		return false;
	yes = is_writable(volume, version);
	leave(volume);
	return yes;
}

int volume_failure(struct volume *volume)
{
	int failure;

	pthread_mutex_lock(&volume->lock);
	failure = volume->failure;
	pthread_mutex_unlock(&volume->lock);
	return failure;
}

/* A change ended with @error, which is returned. */
static int changed(struct volume *volume, int error)
{
	if (error && error != -ENOENT && error != -EEXIST && error != -EROFS) {
		pthread_mutex_lock(&volume->lock);
		if (!volume->failure)
			volume->failure = error;
		pthread_mutex_unlock(&volume->lock);
	}
	return error;
}

/* ---- names ------------------------------------------------------------------------------------- */

/* `exchange` is held. */
static int find(struct volume *volume, uint32_t version, uint32_t dir, const char *path, struct volume_name *name)
{
	const char *slash;
	size_t length;
	int error;

	name->dir = 0;
	for (; (slash = strchr(path, '/')); path = slash + 1) {
		length = (size_t)(slash - path);
		if (length == 0 || length > MOJO_NAME_MAX)
			return length == 0 ? -EINVAL : -ENAMETOOLONG;
		memcpy(name->name, path, length);
		name->name[length] = '\0';
		error = mojo_lookup(volume->config.store, version, dir, name->name, &name->attr);
		if (error)
			return error;
		if (!S_ISDIR(name->attr.mode))
			return -ENOENT;
		dir = name->attr.bucket;
	}
	length = strlen(path);
	if (length > MOJO_NAME_MAX)
		return -ENAMETOOLONG;
	if (length == 0 || strcmp(path, ".") == 0 || strcmp(path, "..") == 0)
		return -EINVAL;
	name->dir = dir;
	memcpy(name->name, path, length + 1);
	return mojo_lookup(volume->config.store, version, dir, path, &name->attr);
}

int volume_find(struct volume *volume, uint32_t version, uint32_t dir, const char *path, struct volume_name *ret_name)
{
	int error = enter(volume);

	if (error)
		return error;
	error = find(volume, version, dir, path, ret_name);
	leave(volume);
	return error;
}

int volume_create(struct volume *volume, struct volume_name *name, uint32_t mode, uint32_t uid, uint32_t gid)
{
	int error = enter(volume);

	if (error)
		return error;
	/* As on a mount: there such names belong to the versions. */
	if (name->dir == MOJO_ROOT_BUCKET && name->name[0] == '@')
		error = -EINVAL;
	else if (volume->config.settling)
		error = -EROFS;
	else
		error = changed(volume, mojo_mknod(volume->config.store, name->dir, name->name, S_IFREG | mode, 0, uid,
						   gid, &name->attr));
	leave(volume);
	return error;
}

int volume_unlink(struct volume *volume, uint32_t version, const struct volume_name *name, bool durable)
{
	int error = enter(volume);

	if (error)
		return error;
	if (!is_writable(volume, version))
		error = -EROFS;
	else if (version == MOJO_ACTIVE)
		error = mojo_unlink(volume->config.store, name->dir, name->name);
	else
		error = mojo_settle_unlink(volume->config.store, version, name->dir, name->name);
	if (!error && durable && version == MOJO_ACTIVE)
		error = mojo_sync(volume->config.store);
	error = changed(volume, error);
	leave(volume);
	return error;
}

/* ---- open files -------------------------------------------------------------------------------- */

/* `lock` is held. */
static int join_entry(struct volume *volume, struct volume_file *file)
{
	struct volume_entry *entry;
	int error;

	for (entry = volume->entries; entry; entry = entry->next)
		if (entry->version == file->version && entry->bucket == file->bucket)
			break;
	if (!entry) {
		entry = calloc(1, sizeof(*entry));
		error = entry ? locks_new(&entry->locks) : -ENOMEM;
		if (error) {
			free(entry);
			return error;
		}
		entry->version = file->version;
		entry->bucket = file->bucket;
		entry->next = volume->entries;
		volume->entries = entry;
	}
	entry->name = file->name; /* the newest, should it have been renamed */
	entry->users++;
	file->entry = entry;
	locks_join(entry->locks, &file->user);
	return 0;
}

int volume_open(struct volume *volume, struct volume_file *file)
{
	int error = enter(volume);

	if (error)
		return error;
	/* Where nothing is changed, nothing needs to be held. */
	if (is_writable(volume, MOJO_ACTIVE) && file->version == MOJO_ACTIVE) {
		error = mojo_hold(volume->config.store, file->bucket);
		file->is_held = !error;
	}
	if (!error && file->is_database) {
		pthread_mutex_lock(&volume->lock);
		error = join_entry(volume, file);
		pthread_mutex_unlock(&volume->lock);
		if (error && file->is_held)
			mojo_release(volume->config.store, file->bucket);
	}
	leave(volume);
	return error;
}

void volume_close(struct volume *volume, struct volume_file *file)
{
	if (file->entry) {
		struct volume_entry *entry = file->entry, **link;

		volume_boundary(volume, file);
		locks_leave(&file->user);
		pthread_mutex_lock(&volume->lock);
		if (--entry->users == 0) {
			for (link = &volume->entries; *link != entry; link = &(*link)->next)
				;
			*link = entry->next;
			locks_free(entry->locks);
			free(entry);
		}
		pthread_mutex_unlock(&volume->lock);
		file->entry = NULL;
	}
	if (file->is_held && !volume_is_forked(volume)) {
		pthread_rwlock_rdlock(&volume->exchange);
		if (volume->config.store)
			mojo_release(volume->config.store, file->bucket);
		pthread_rwlock_unlock(&volume->exchange);
	}
}

int volume_read(struct volume *volume, struct volume_file *file, uint64_t offset, void *buf, size_t length,
		size_t *ret_length)
{
	int error = enter(volume);

	if (error)
		return error;
	error = mojo_read(volume->config.store, file->version, file->bucket, offset, buf, length, ret_length);
	leave(volume);
	return error;
}

/*
 * Could the database be recovered if what it holds now were all there is? With a rollback journal whose header is
 * written, or a WAL, yes: the engine keeps the order in which things were written. `exchange` is held.
 */
static bool has_journal(struct volume *volume, const struct volume_file *file)
{
	static const char *const endings[] = { "-journal", "-wal" };
	char name[MOJO_NAME_MAX + sizeof("-journal")];
	unsigned char head[sizeof(journal_magic)];
	struct mojo_store *store = volume->config.store;
	struct mojo_attr attr;
	size_t length;

	for (size_t i = 0; i < sizeof(endings) / sizeof(*endings); i++) {
		strcpy(name, file->name.name);
		strcat(name, endings[i]);
		if (strlen(name) > MOJO_NAME_MAX || mojo_lookup(store, file->version, file->name.dir, name, &attr) != 0)
			continue;
		if (mojo_read(store, file->version, attr.bucket, 0, head, sizeof(head), &length) != 0 ||
		    length < sizeof(head))
			continue;
		/* Of a WAL there is nothing to look at: the database is changed only by copying from it. */
		if (i == 1 || memcmp(head, journal_magic, sizeof(head)) == 0)
			return true;
	}
	return false;
}

/* The database is about to be changed. `exchange` is held. */
static void note_change(struct volume *volume, struct volume_file *file)
{
	if (!file->entry || file->bare != BARE_UNKNOWN || file->version != MOJO_ACTIVE)
		return;
	file->bare = has_journal(volume, file) ? BARE_NO : BARE_YES;
	if (file->bare == BARE_YES) {
		pthread_mutex_lock(&volume->lock);
		file->entry->bare++;
		pthread_mutex_unlock(&volume->lock);
	}
}

void volume_boundary(struct volume *volume, struct volume_file *file)
{
	if (file->bare == BARE_YES) {
		pthread_mutex_lock(&volume->lock);
		file->entry->bare--;
		pthread_mutex_unlock(&volume->lock);
	}
	file->bare = BARE_UNKNOWN;
}

int volume_write(struct volume *volume, struct volume_file *file, uint64_t offset, const void *buf, size_t length)
{
	struct mojo_store *store;
	int error = enter(volume);

	if (error)
		return error;
	store = volume->config.store;
	note_change(volume, file);
	if (!is_writable(volume, file->version))
		error = -EROFS;
	else if (file->version == MOJO_ACTIVE)
		error = mojo_write(store, file->bucket, offset, buf, length);
	else
		error = mojo_settle_write(store, file->version, file->bucket, offset, buf, length);
	error = changed(volume, error);
	leave(volume);
	return error;
}

int volume_truncate(struct volume *volume, struct volume_file *file, uint64_t size)
{
	struct mojo_attr attr = { .size = size }, result;
	struct mojo_store *store;
	int error = enter(volume);

	if (error)
		return error;
	store = volume->config.store;
	note_change(volume, file);
	if (!is_writable(volume, file->version))
		error = -EROFS;
	else if (file->version == MOJO_ACTIVE)
		error = mojo_setattr(store, file->bucket, MOJO_SET_SIZE, &attr, &result);
	else
		error = mojo_settle_setattr(store, file->version, file->bucket, MOJO_SET_SIZE, &attr, &result);
	error = changed(volume, error);
	leave(volume);
	return error;
}

int volume_size(struct volume *volume, struct volume_file *file, uint64_t *ret_size)
{
	struct mojo_attr attr;
	int error = enter(volume);

	if (error)
		return error;
	error = mojo_getattr(volume->config.store, file->version, file->bucket, &attr);
	leave(volume);
	if (!error)
		*ret_size = attr.size;
	return error;
}

int volume_sync(struct volume *volume, struct volume_file *file)
{
	int error = enter(volume);

	if (error)
		return error;
	if (file->entry) {
		pthread_mutex_lock(&volume->lock);
		file->entry->synced = 1;
		pthread_mutex_unlock(&volume->lock);
	}
	/* A version that is settled becomes durable when it is published. */
	if (file->version == MOJO_ACTIVE && !volume->config.read_only)
		error = changed(volume, mojo_sync(volume->config.store));
	leave(volume);
	return error;
}

bool volume_take_synced(struct volume *volume, const struct volume_name *journal)
{
	static const char ending[] = "-journal";
	size_t length = strlen(journal->name);
	bool is_synced = false;

	if (length < sizeof(ending) || strcmp(journal->name + length - (sizeof(ending) - 1), ending) != 0)
		return false;
	length -= sizeof(ending) - 1;
	pthread_mutex_lock(&volume->lock);
	for (struct volume_entry *entry = volume->entries; entry; entry = entry->next) {
		if (entry->version != MOJO_ACTIVE || entry->name.dir != journal->dir ||
		    strncmp(entry->name.name, journal->name, length) != 0 || entry->name.name[length] != '\0')
			continue;
		is_synced |= entry->synced;
		entry->synced = 0;
	}
	pthread_mutex_unlock(&volume->lock);
	return is_synced;
}

bool volume_is_moved(struct volume *volume, struct volume_file *file)
{
	struct mojo_attr attr;
	bool is_moved;

	if (enter(volume) != 0)
		return false;
	is_moved = mojo_lookup(volume->config.store, file->version, file->name.dir, file->name.name, &attr) != 0 ||
		   attr.bucket != file->bucket;
	leave(volume);
	return is_moved;
}

/* ---- versions -------------------------------------------------------------------------------------- */

uint32_t volume_active_version(struct volume *volume)
{
	uint32_t version;

	if (enter(volume) != 0)
		return 0;
	version = mojo_active_version(volume->config.store);
	leave(volume);
	return version;
}

int volume_version_next(struct volume *volume, uint32_t from, struct mojo_version_info *ret_info)
{
	int error = enter(volume);

	if (error)
		return error;
	error = mojo_version_next(volume->config.store, from, ret_info);
	leave(volume);
	return error;
}

/* ---- commits ------------------------------------------------------------------------------------- */

/*
 * Nothing needs to be locked and nobody is waited for. What the engine holds at any moment is what was written until
 * then, in order: as good as what a process that dies leaves behind, from which SQLite recovers. What it cannot
 * recover, a database that is changed in place with no journal, is counted in `bare` before the change is made.
 */
static int freeze(struct volume *volume, const char *message, size_t length, bool settle, uint32_t *ret_version,
		  char *ret_busy)
{
	int error = 0;

	pthread_mutex_lock(&volume->lock);
	for (struct volume_entry *entry = volume->entries; entry && !error; entry = entry->next) {
		if (entry->bare == 0)
			continue;
		strcpy(ret_busy, entry->name.name);
		error = -EBUSY;
	}
	if (!error && settle)
		error = mojo_freeze(volume->config.store, message, length, NULL, NULL, ret_version);
	else if (!error)
		error = mojo_commit(volume->config.store, message, length, ret_version);
	pthread_mutex_unlock(&volume->lock);
	return error;
}

int volume_commit(struct volume *volume, const char *message, size_t length, int (*settle)(void *arg, uint32_t version),
		  void *arg, uint32_t *ret_version, char *ret_busy)
{
	uint32_t version;
	int error = enter(volume);

	if (error)
		return error;
	if (!is_writable(volume, MOJO_ACTIVE)) {
		leave(volume);
		return -EROFS;
	}
	pthread_mutex_lock(&volume->commit);
	error = freeze(volume, message, length, settle != NULL, &version, ret_busy);
	if (!error && settle) {
		error = settle(arg, version);
		if (!error)
			error = mojo_publish(volume->config.store, version);
		/* Half settled it is of no use to anybody. */
		if (error)
			mojo_version_drop(volume->config.store, version);
	}
	pthread_mutex_unlock(&volume->commit);
	leave(volume);
	if (!error)
		*ret_version = version;
	return error;
}

int volume_exchange(struct volume *volume,
		    int (*reopen)(void *arg, struct mojo_store *old, bool *ret_read_only,
				  struct mojo_store **ret_store),
		    void *arg)
{
	struct mojo_store *store = NULL;
	bool read_only = true;
	int error;

	if (volume_is_forked(volume))
		return -ECHILD;
	pthread_rwlock_wrlock(&volume->exchange);
	error = reopen(arg, volume->config.store, &read_only, &store);
	volume->config.store = store;
	volume->config.read_only = read_only;
	pthread_rwlock_unlock(&volume->exchange);
	return error;
}
