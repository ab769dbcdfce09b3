/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "mount.h"

#define THREADS_MAX      32
#define IDLE_THREADS_MAX 16

#define READ_AHEAD_KIB 4096u /* four requests of the most that the kernel asks for at a time */

/* How long after unmounting the kernel is given to let go: some other name space may have the mount too. */
#define LET_GO_MS 2000

#ifndef STATX_MNT_ID_UNIQUE /* newer than Debian 12's headers */
#define STATX_MNT_ID_UNIQUE 0x4000u
#endif

/* The kernel's FUSE_INIT flags of which libfuse 3.14 knows nothing. */
#ifndef FUSE_HANDLE_KILLPRIV_V2
#define FUSE_HANDLE_KILLPRIV_V2 (1 << 28)
#endif

extern char **environ;

struct mount {
	struct fuse_session *session;
	struct mount_greeting *greeting; /* borrowed */
	const char *store;               /* borrowed */
	mojo_event_fn *event;
	void *event_arg; /* borrowed */
	char *point;     /* owned; NULL until mounted */
	bool by_descriptor;
	char key[33];
	dev_t device; /* of the mount; 0 when the kernel does not tell */
	/* How mount_abort() knows the mount, once mount_learn() was called: a device's number is given to the next
	 * mount as soon as this one is gone. */
	int control;       /* owned: the connection's file "abort", which leads to no other one; -1: none */
	uint64_t identity; /* of the mount, never given again; 0: not known */

	mount_flush_fn *flush; /* of mount_run() */
	void *flush_arg;
	pthread_t main_thread;
	atomic_bool finished;         /* the loop has ended */
	atomic_bool cut_off;          /* it was told to, with the mount still there */
	atomic_bool leave_to_libfuse; /* then: fuse_session_unmount() takes the mount away */
};

static void say(struct mount *mount, enum mojo_severity severity, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void say(struct mount *mount, enum mojo_severity severity, const char *format, ...)
{
	char text[PATH_MAX + 256];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	mount->event(mount->event_arg, severity, text);
}

/* ---- checks before --------------------------------------------------------------------------- */

static int descriptor_of(const char *point)
{
	static const char prefix[] = "/dev/fd/";
	const char *digits = point + sizeof(prefix) - 1;

	if (strncmp(point, prefix, sizeof(prefix) - 1) != 0 || !*digits || strlen(digits) > 6 ||
	    strspn(digits, "0123456789") != strlen(digits))
		return -1;
	return atoi(digits);
}

bool mount_is_descriptor(const char *point)
{
	return descriptor_of(point) >= 0;
}

/* Is @path the directory @wanted, or somewhere below it? @path is canonical, its last parts may be missing. */
static bool is_within(const char *path, const struct stat *wanted)
{
	char here[PATH_MAX];
	struct stat st;

	if (strlen(path) >= sizeof(here))
		return false;
	strcpy(here, path);
	for (;;) {
		char *slash = strrchr(here, '/');

		if (stat(here[0] ? here : "/", &st) == 0 && st.st_dev == wanted->st_dev && st.st_ino == wanted->st_ino)
			return true;
		if (!slash)
			return false;
		*slash = '\0';
	}
}

/* 1 if it is, 0 if not, or -errno. */
static int is_empty(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	int answer = 1;

	if (!directory)
		return -errno;
	errno = 0;
	while ((entry = readdir(directory)) != NULL) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
			answer = 0;
			break;
		}
	}
	if (answer && errno)
		answer = -errno;
	closedir(directory);
	return answer;
}

static int check_place(const char *point, const char *canonical, const char *store, char *ret_why)
{
	struct stat point_stat, store_stat;
	bool store_exists = stat(store, &store_stat) == 0;
	int empty;

	if (stat(canonical, &point_stat) != 0)
		return -errno;
	if (store_exists && is_within(canonical, &store_stat)) {
		bool same = point_stat.st_dev == store_stat.st_dev && point_stat.st_ino == store_stat.st_ino;

		snprintf(ret_why, MOUNT_WHY_SIZE, "%s: the mount point %s the store; choose a directory outside of it",
			 point, same ? "is" : "is inside");
		return -EINVAL;
	}
	if (is_within(store, &point_stat)) {
		snprintf(ret_why, MOUNT_WHY_SIZE,
			 "%s: the store %s is inside the mount point, which would hide it; choose another directory",
			 point, store);
		return -EINVAL;
	}
	empty = is_empty(canonical);
	if (empty == 0) {
		snprintf(ret_why, MOUNT_WHY_SIZE, "%s: the mount point is not empty; choose an empty directory", point);
		return -ENOTEMPTY;
	}
	return empty < 0 ? empty : 0;
}

int mount_check(const char *point, const char *store, char **ret_point, char *ret_why)
{
	int descriptor = descriptor_of(point), error;
	char *canonical = NULL;
	struct stat st;

	if (descriptor >= 0) {
		if (fcntl(descriptor, F_GETFD) < 0) {
			error = -errno;
			snprintf(ret_why, MOUNT_WHY_SIZE,
				 "%s: no such descriptor is open; only mount.fuse3 gives mount points of this form",
				 point);
			return error;
		}
		canonical = strdup(point);
	} else {
		error = stat(point, &st) == 0 ? 0 : -errno;
		if (!error && !S_ISDIR(st.st_mode))
			error = -ENOTDIR;
		if (!error) {
			canonical = realpath(point, NULL);
			error = canonical ? check_place(point, canonical, store, ret_why) : -errno;
			if (error == -EINVAL || error == -ENOTEMPTY)
				goto fail; /* it has been said why */
		}
		if (error)
			goto explain;
	}
	if (!canonical) {
		snprintf(ret_why, MOUNT_WHY_SIZE, "out of memory");
		return -ENOMEM;
	}
	*ret_point = canonical;
	return 0;
explain:
	switch (error) {
	case -ENOENT:
		snprintf(ret_why, MOUNT_WHY_SIZE, "%s: the mount point does not exist; make it first: mkdir %s", point,
			 point);
		break;
	case -ENOTDIR:
		snprintf(ret_why, MOUNT_WHY_SIZE, "%s: the mount point is not a directory", point);
		break;
	case -ENOTCONN:
		snprintf(ret_why, MOUNT_WHY_SIZE,
			 "%s: there is a stale mount whose daemon is gone; take it away first: fusermount3 -uz %s",
			 point, point);
		break;
	default:
		snprintf(ret_why, MOUNT_WHY_SIZE, "%s: the mount point cannot be used: %s", point, strerror(-error));
	}
fail:
	free(canonical);
	return error;
}

/* ---- /proc/self/mountinfo -------------------------------------------------------------------- */

/* One line of it; the strings point into the line that was parsed. */
struct mount_line {
	dev_t device;
	char *root, *point, *type, *source, *options;
};

/* In place: the kernel writes blanks and backslashes as three octal digits. */
static char *unescape(char *text)
{
	char *to = text;

	for (const char *from = text; *from; to++) {
		if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && isdigit((unsigned char)from[2]) &&
		    isdigit((unsigned char)from[3])) {
			*to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
			from += 4;
		} else {
			*to = *from++;
		}
	}
	*to = '\0';
	return text;
}

/* "id parent major:minor root point options [optional ...] - type source super-options" */
static bool parse_line(char *line, struct mount_line *ret_line)
{
	char *tail = strstr(line, " - "), *save = NULL, *fields[5];
	unsigned major_number, minor_number;

	if (!tail)
		return false;
	*tail = '\0';
	for (size_t i = 0; i < 5; i++) {
		fields[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!fields[i])
			return false;
	}
	if (sscanf(fields[2], "%u:%u", &major_number, &minor_number) != 2)
		return false;
	ret_line->device = makedev(major_number, minor_number);
	ret_line->root = unescape(fields[3]);
	ret_line->point = unescape(fields[4]);
	ret_line->type = strtok_r(tail + 3, " \n", &save);
	ret_line->source = strtok_r(NULL, " \n", &save);
	ret_line->options = strtok_r(NULL, " \n", &save);
	if (!ret_line->type || !ret_line->source || !ret_line->options)
		return false;
	unescape(ret_line->source);
	return true;
}

/* Call @fn for each line that is the whole of a file system, not a part of it; until it returns false. */
static int for_each_line(bool (*fn)(void *arg, const struct mount_line *line), void *arg)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	struct mount_line parsed;
	char *line = NULL;
	size_t size = 0;
	bool more = true;

	if (!file)
		return -errno;
	while (more && getline(&line, &size, file) > 0) {
		if (parse_line(line, &parsed) && strcmp(parsed.root, "/") == 0)
			more = fn(arg, &parsed);
	}
	free(line);
	fclose(file);
	return 0;
}

static bool is_mounted_line(void *arg, const struct mount_line *line)
{
	const char **store = arg;

	if (strcmp(line->type, MOUNT_TYPE) != 0 || strcmp(line->source, *store) != 0)
		return true;
	*store = NULL;
	return false;
}

bool mount_is_mounted(const char *store)
{
	const char *wanted = store;

	for_each_line(is_mounted_line, &wanted);
	return !wanted;
}

/* The device of the mount that @descriptor of /dev/fuse serves: Linux 6 and later say it there. */
static dev_t device_of(int descriptor)
{
	unsigned long connection = 0;
	char path[64], *line = NULL;
	size_t size = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", descriptor);
	file = fopen(path, "re");
	if (!file)
		return 0;
	while (getline(&line, &size, file) > 0) {
		if (sscanf(line, "fuse_connection: %lu", &connection) == 1)
			break;
	}
	free(line);
	fclose(file);
	/* A device without a driver: its major number is 0, and the kernel prints the minor one. */
	return connection ? makedev(0, connection) : 0;
}

/* Mounts that are ours, by path. */
struct own {
	struct mount *mount;
	char **paths; /* owned */
	size_t count;
	bool checks_permissions; /* default_permissions is among the options of one */
	bool any;
};

static bool is_own(struct mount *mount, const struct mount_line *line)
{
	char key[sizeof(mount->key)];
	ssize_t length;

	if (mount->device)
		return line->device == mount->device;
	if (strcmp(line->type, MOUNT_TYPE) != 0 && strcmp(line->source, mount->store) != 0)
		return false;
	/* A question to whichever daemon serves it: hence only where the device is not known. */
	length = getxattr(line->point, MOUNT_SESSION_NAME, key, sizeof(key));
	return length == (ssize_t)strlen(mount->key) && memcmp(key, mount->key, (size_t)length) == 0;
}

static bool add_own(void *arg, const struct mount_line *line)
{
	struct own *own = arg;
	char **more;

	if (!is_own(own->mount, line))
		return true;
	own->any = true;
	if (strstr(line->options, "default_permissions"))
		own->checks_permissions = true;
	more = realloc(own->paths, (own->count + 1) * sizeof(*more));
	if (!more)
		return false;
	own->paths = more;
	own->paths[own->count] = strdup(line->point);
	if (own->paths[own->count])
		own->count++;
	return true;
}

static void own_free(struct own *own)
{
	for (size_t i = 0; i < own->count; i++)
		free(own->paths[i]);
	free(own->paths);
}

dev_t mount_device(const struct mount *mount)
{
	return mount->device;
}

/* The number of the mount that @root is in, never used for another one; 0: the kernel has none (before 6.8). No
 * question to the daemon. */
static uint64_t identity_of(int root)
{
	struct statx found;

	if (statx(root, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_MNT_ID_UNIQUE, &found) != 0 ||
	    !(found.stx_mask & STATX_MNT_ID_UNIQUE))
		return 0;
	return found.stx_mnt_id;
}

void mount_learn(struct mount *mount, dev_t device)
{
	struct own own = { .mount = mount };
	char path[64];

	if (!device || mount->device)
		return;
	mount->device = device;
	snprintf(path, sizeof(path), "/sys/fs/fuse/connections/%u/abort", minor(device));
	mount->control = open(path, O_WRONLY | O_CLOEXEC);
	for_each_line(add_own, &own);
	if (own.count > 0) {
		int root = open(own.paths[own.count - 1], O_PATH | O_DIRECTORY | O_CLOEXEC);

		if (root >= 0) {
			mount->identity = identity_of(root);
			close(root);
		}
	}
	own_free(&own);
}

int mount_find(struct mount *mount, int *ret_directory)
{
	struct own own = { .mount = mount };
	int found = -1;

	for_each_line(add_own, &own);
	/* From the last one on: an earlier one may have been mounted over. */
	for (size_t i = own.count; i-- > 0 && found < 0;) {
		struct stat st;

		found = open(own.paths[i], O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (found < 0)
			continue;
		if (fstat(found, &st) != 0 || st.st_ino != FUSE_ROOT_ID ||
		    (mount->device && st.st_dev != mount->device)) {
			close(found);
			found = -1;
		}
	}
	own_free(&own);
	if (found < 0)
		return -ENOENT;
	*ret_directory = found;
	return 0;
}

bool mount_holds(struct mount *mount, const char *path)
{
	struct own own = { .mount = mount };
	bool holds = false;

	if (!mount->device)
		return false;
	for_each_line(add_own, &own);
	for (size_t i = 0; i < own.count && !holds; i++) {
		size_t length = strlen(own.paths[i]);

		holds = strncmp(path, own.paths[i], length) == 0 && (path[length] == '/' || path[length] == '\0');
	}
	own_free(&own);
	return holds;
}

/* The mount's root is kept open, so that to force it off ends the connection and no more: it is busy. */
static int force(const struct mount *mount, const char *path)
{
	int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), error;
	char link[32];

	if (root < 0)
		return -errno;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", root);
	if (!mount->identity || identity_of(root) != mount->identity)
		error = -ENOENT;
	else
		error = umount2(link, MNT_FORCE) == 0 || errno == EBUSY ? 0 : -errno;
	close(root);
	return error;
}

int mount_abort(struct mount *mount)
{
	struct own own = { .mount = mount };
	int error = -ENOENT;

	if (!mount->device)
		return -ENOENT;
	if (mount->control >= 0)
		error = write(mount->control, "1", 1) == 1 ? 0 : -errno;
	if (error)
		for_each_line(add_own, &own);
	for (size_t i = own.count; i-- > 0 && error;)
		error = force(mount, own.paths[i]);
	own_free(&own);
	return error;
}

/* ---- the session ----------------------------------------------------------------------------- */

/* Add "-o name=value", commas in @value protected. */
static int add_option(struct fuse_args *args, const char *name, const char *value)
{
	char *text = malloc(strlen(name) + 2 * strlen(value) + 4), *to;
	int error;

	if (!text)
		return -ENOMEM;
	to = text + sprintf(text, "-o%s=", name);
	for (; *value; value++) {
		if (*value == ',' || *value == '\\')
			*to++ = '\\';
		*to++ = *value;
	}
	*to = '\0';
	error = fuse_opt_add_arg(args, text) == 0 ? 0 : -ENOMEM;
	free(text);
	return error;
}

/* Is option @name= among @args already? */
static bool has_option(const struct fuse_args *args, const char *name)
{
	size_t length = strlen(name);

	for (int i = 1; i < args->argc; i++) {
		for (const char *found = args->argv[i]; (found = strstr(found, name)) != NULL; found += length) {
			bool starts = found == args->argv[i] || found[-1] == ',' ||
				      (found == args->argv[i] + 2 && strncmp(args->argv[i], "-o", 2) == 0);

			if (starts && found[length] == '=')
				return true;
		}
	}
	return false;
}

int mount_new(struct fuse_args *args, const struct fuse_lowlevel_ops *ops, void *userdata, const char *store,
	      mojo_event_fn *event, void *arg, struct mount **ret_mount)
{
	struct mount *mount = calloc(1, sizeof(*mount));
	unsigned char random[16];
	int error = -ENOMEM;

	if (!mount)
		return -ENOMEM;
	mount->control = -1;
	if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
		error = -EIO;
		goto fail;
	}
	for (size_t i = 0; i < sizeof(random); i++)
		sprintf(mount->key + 2 * i, "%02x", random[i]);
	mount->store = store;
	mount->event = event;
	mount->event_arg = arg;
	mount->main_thread = pthread_self();
	mount->greeting = userdata;
	if ((!has_option(args, "fsname") && add_option(args, "fsname", store)) ||
	    (!has_option(args, "subtype") && add_option(args, "subtype", MOUNT_SUBTYPE)) ||
	    fuse_opt_add_arg(args, "-odefault_permissions") != 0)
		goto fail;
	mount->session = fuse_session_new(args, ops, sizeof(*ops), userdata);
	if (!mount->session) {
		error = -EINVAL;
		goto fail;
	}
	*ret_mount = mount;
	return 0;
fail:
	free(mount);
	return error;
}

static ssize_t session_read(int fd, void *buf, size_t length, void *userdata)
{
	(void)userdata;
	return read(fd, buf, length);
}

/*
 * The kernel reads a FUSE mount ahead by 128 KiB at most, whatever INIT is answered: many little requests, one or two of
 * them under way. Root may change that for a mount; it is for files that are opened from then on.
 */
static void read_further_ahead(dev_t device)
{
	char path[64];
	unsigned kib = 0;
	FILE *file;

	if (!device)
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(device), minor(device));
	file = fopen(path, "r+e");
	if (!file)
		return;
	if (fscanf(file, "%u", &kib) == 1 && kib < READ_AHEAD_KIB) {
		rewind(file);
		fprintf(file, "%u", READ_AHEAD_KIB);
	}
	fclose(file);
}

/*
 * The reply to INIT is the one place where the kernel can be told of FUSE_HANDLE_KILLPRIV_V2, which libfuse
 * 3.14 cannot say. Without it the kernel asks for the attribute security.capability before every write(2)
 * that it would otherwise keep to itself. With it, taking set-id bits away is for us (tree_written()).
 * It is the first reply: the kernel sends nothing else before it has that one.
 */
static ssize_t session_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct mount_greeting *greeting = userdata;

	ssize_t written;

	if (atomic_load_explicit(&greeting->done, memory_order_relaxed) || atomic_exchange(&greeting->done, true))
		return writev(fd, iov, count);
	if (count == 2 && iov[1].iov_len == sizeof(struct fuse_init_out) &&
	    ((const struct fuse_out_header *)iov[0].iov_base)->error == 0)
		((struct fuse_init_out *)iov[1].iov_base)->flags |= FUSE_HANDLE_KILLPRIV_V2;
	written = writev(fd, iov, count);
	/* That reply is what the kernel takes its own figure from. */
	if (written > 0)
		read_further_ahead(greeting->device);
	return written;
}

int mount_open(struct mount *mount, const char *point)
{
	static const struct fuse_custom_io io = { .read = session_read, .writev = session_writev };

	mount->point = strdup(point);
	if (!mount->point)
		return -ENOMEM;
	mount->by_descriptor = mount_is_descriptor(point);
	if (fuse_session_mount(mount->session, point) != 0) {
		free(mount->point);
		mount->point = NULL;
		return -EIO;
	}
	if (fuse_session_custom_io(mount->session, &io, fuse_session_fd(mount->session)) != 0)
		return -EIO;
	mount->device = device_of(fuse_session_fd(mount->session));
	mount->greeting->device = mount->device;
	return 0;
}

void mount_init(struct mount *mount, struct fuse_conn_info *conn)
{
	struct own own = { .mount = mount };

	/* Who made the mount for us may have left default_permissions out. The kernel turns it on by itself
	 * for a file system that says it has ACLs; the answer to whoever asks for one is that it has none. */
	if (!mount->by_descriptor)
		return;
	if (mount->device)
		for_each_line(add_own, &own);
	if (!own.checks_permissions)
		conn->want |= conn->capable & FUSE_CAP_POSIX_ACL;
	own_free(&own);
}

struct fuse_session *mount_session(struct mount *mount)
{
	return mount->session;
}

const char *mount_key(const struct mount *mount)
{
	return mount->key;
}

/* ---- the end --------------------------------------------------------------------------------- */

/* SIGUSR1 ends the thread that waits for signals, SIGUSR2 shakes the main thread out of libfuse's loop. */
static void end_signals(sigset_t *ret_set)
{
	sigemptyset(ret_set);
	sigaddset(ret_set, SIGTERM);
	sigaddset(ret_set, SIGINT);
	sigaddset(ret_set, SIGHUP);
	sigaddset(ret_set, SIGUSR1);
}

void mount_block_signals(void)
{
	sigset_t set;

	end_signals(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void wake_up(int number)
{
	(void)number;
}

static int run_fusermount(const char *path, bool lazily)
{
	const char *argv[] = { "fusermount3", "-u", "-q", lazily ? "-z" : "--", path, NULL, NULL };
	posix_spawnattr_t attributes;
	sigset_t none;
	pid_t pid;
	int status, error;

	if (lazily) {
		argv[4] = "--";
		argv[5] = path;
	}
	/* The signals that we keep from our threads are not for it to miss. */
	sigemptyset(&none);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
	error = posix_spawnp(&pid, argv[0], NULL, &attributes, (char *const *)argv, environ);
	posix_spawnattr_destroy(&attributes);
	if (error)
		return -error;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EBUSY;
}

static int unmount(const char *path, bool lazily)
{
	if (umount2(path, UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0)) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	return run_fusermount(path, lazily);
}

static bool wait_finished(struct mount *mount, unsigned wait_ms)
{
	for (unsigned waited = 0; waited < wait_ms && !atomic_load(&mount->finished); waited += 10)
		usleep(10000);
	return atomic_load(&mount->finished);
}

/* Is what one finds at @path this mount, and not another that was mounted over it? */
static bool is_on_top(struct mount *mount, const char *path)
{
	struct stat st;

	return !mount->device || (stat(path, &st) == 0 && st.st_dev == mount->device);
}

/* Unmount all of it while it is served. True if nothing is in the way of the kernel's letting go. */
static bool unmount_all(struct mount *mount, bool lazily)
{
	struct own own = { .mount = mount };
	bool done = true;

	for_each_line(add_own, &own);
	for (size_t i = own.count; i-- > 0;) {
		bool on_top = is_on_top(mount, own.paths[i]);

		/* That one is left to libfuse, which cuts the connection first: nothing can come in between. */
		if (lazily && on_top && !mount->by_descriptor && strcmp(own.paths[i], mount->point) == 0) {
			atomic_store(&mount->leave_to_libfuse, true);
			continue;
		}
		if (on_top && unmount(own.paths[i], lazily) == 0)
			continue;
		done = false;
		if (lazily)
			say(mount, MOJO_WARNING, "%s: cannot be unmounted from here; take it away with: umount %s",
			    own.paths[i], own.paths[i]);
	}
	own_free(&own);
	return done;
}

static void end_session(struct mount *mount)
{
	if (unmount_all(mount, false) && wait_finished(mount, LET_GO_MS))
		return;
	say(mount, MOJO_WARNING, "%s: still in use; what was written is saved, but who has files open there loses them",
	    mount->point);
	mount->flush(mount->flush_arg);
	unmount_all(mount, true);
	atomic_store(&mount->cut_off, true);
	fuse_session_exit(mount->session);
	/* libfuse looks for that mark, then sleeps; a signal that comes between the two is lost. */
	while (!atomic_load(&mount->finished)) {
		pthread_kill(mount->main_thread, SIGUSR2);
		usleep(10000);
	}
}

static void *wait_for_signals(void *arg)
{
	struct mount *mount = arg;
	bool ending = false;
	sigset_t set;
	int number;

	end_signals(&set);
	while (!atomic_load(&mount->finished)) {
		if (sigwait(&set, &number) != 0 || number == SIGUSR1 || ending)
			continue;
		ending = true;
		say(mount, MOJO_INFO, "%s: unmounting on signal %s", mount->point, sigabbrev_np(number));
		end_session(mount);
	}
	return NULL;
}

/* Nobody serves any more: let the kernel know, before some thread of ours waits for an answer. The
 * descriptor stays a valid one, on /dev/null, for replies that come too late. */
static void cut(struct mount *mount)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return;
	dup3(null, fuse_session_fd(mount->session), O_CLOEXEC);
	close(null);
}

int mount_run(struct mount *mount, mount_flush_fn *flush, void *arg)
{
	struct sigaction action = { .sa_handler = wake_up };
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	pthread_t waiter;
	int result;

	if (!config)
		return -ENOMEM;
	mount->flush = flush;
	mount->flush_arg = arg;
	sigemptyset(&action.sa_mask);
	sigaction(SIGUSR2, &action, NULL);
	result = pthread_create(&waiter, NULL, wait_for_signals, mount);
	if (result) {
		fuse_loop_cfg_destroy(config);
		return -result;
	}
	fuse_loop_cfg_set_max_threads(config, THREADS_MAX);
	fuse_loop_cfg_set_idle_threads(config, IDLE_THREADS_MAX);
	result = fuse_session_loop_mt(mount->session, config);
	fuse_loop_cfg_destroy(config);

	atomic_store(&mount->finished, true);
	pthread_kill(waiter, SIGUSR1);
	pthread_join(waiter, NULL);
	if (atomic_load(&mount->cut_off))
		cut(mount);
	return result < 0 && !atomic_load(&mount->cut_off) ? result : 0;
}

void mount_free(struct mount *mount)
{
	if (!mount)
		return;
	/* It unmounts whatever is at the mount point, be it ours or not. */
	if (mount->point && (!atomic_load(&mount->cut_off) || atomic_load(&mount->leave_to_libfuse)))
		fuse_session_unmount(mount->session);
	if (mount->session)
		fuse_session_destroy(mount->session);
	if (mount->control >= 0)
		close(mount->control);
	free(mount->point);
	free(mount);
}
