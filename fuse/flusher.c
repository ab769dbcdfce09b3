/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "flusher.h"

#define DEATH_SIGNAL SIGUSR1 /* what the process gets when the daemon's first thread has died */

/* Far more than any flush takes; behind it there is a disk that has stopped, or somebody has stopped the process. */
#define ANSWER_MS 120000

#define LOCK_US 3000 /* how long the locks of one database are tried for */

struct flusher {
	struct mount *mount; /* borrowed */
	int socket;          /* owned; -1: the process is gone */
	pid_t pid;
};

enum errand_kind {
	ERRAND_FLUSH,
	ERRAND_LOCK,
	ERRAND_LOCK_WAL,
	ERRAND_UNLOCK,
	ERRAND_EXISTS,
	ERRAND_REST,
	ERRAND_LEARN
};

/* A message to the process. All but the one to learn where the mount is are answered. */
struct errand {
	uint64_t ino;
	uint64_t device;
	uint32_t kind;
	char path[PATH_MAX];
};

/* What SQLite locks in a database, and in its shared memory: docs of its file format, and of the WAL's index. */
#define RESERVED_BYTE 0x40000001
#define SHARED_FIRST  0x40000002
#define SHARED_BYTES  510
#define WAL_WRITE     120 /* and behind it the one of a checkpoint */

/* ---- the process ----------------------------------------------------------------------------- */

/*
 * Open one name below @directory from what the kernel has in memory: -EAGAIN where it would have to ask, for
 * which it takes the directory's lock. A file that is open is in memory by its name.
 */
static int open_cached(int directory, const char *name, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_NOFOLLOW | O_CLOEXEC),
		.resolve = RESOLVE_CACHED | RESOLVE_NO_SYMLINKS,
	};
	int descriptor = (int)syscall(SYS_openat2, directory, name, &how, sizeof(how));

	return descriptor < 0 ? -errno : descriptor;
}

/*
 * Open @path below the root of the mount. Before each step the directory's attributes are asked for: stale
 * ones would need a question in the middle of the next.
 */
static int open_path(int root, char *path, int flags)
{
	int directory = root, descriptor = -ENOENT;
	char *save = NULL;

	for (char *name = strtok_r(path, "/", &save); name;) {
		char *next = strtok_r(NULL, "/", &save);
		struct stat st;

		descriptor = fstat(directory, &st) != 0
				     ? -errno
				     : open_cached(directory, name, next ? O_PATH | O_DIRECTORY : flags | O_NONBLOCK);
		if (directory != root)
			close(directory);
		if (descriptor < 0 || !next)
			return descriptor;
		directory = descriptor;
		name = next;
	}
	return descriptor;
}

/* Open @path, if what is there is @ino: -EAGAIN. */
static int open_file(int root, char *path, uint64_t ino, int flags)
{
	int descriptor = open_path(root, path, flags);
	struct stat st;

	if (descriptor < 0)
		return -EAGAIN;
	if (fstat(descriptor, &st) == 0 && st.st_ino == ino)
		return descriptor;
	close(descriptor);
	return -EAGAIN; /* renamed meanwhile */
}

static int flush_file(int root, struct errand *errand)
{
	int descriptor = open_file(root, errand->path, errand->ino, O_RDONLY), error = 0;

	if (descriptor < 0)
		return descriptor;
	if (sync_file_range(descriptor, 0, 0,
			    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) != 0)
		error = errno == EAGAIN ? -EIO : -errno;
	close(descriptor);
	return error;
}

/* What is held open for its locks. They are the open files', not the process's, and go when these are closed. */
struct locks {
	int *descriptors;
	size_t count;
};

/* All but the first @count of them. */
static void unlock_behind(struct locks *locks, size_t count)
{
	while (locks->count > count)
		close(locks->descriptors[--locks->count]);
}

/* Takes @descriptor over. */
static int keep(struct locks *locks, int descriptor)
{
	int *more = realloc(locks->descriptors, (locks->count + 1) * sizeof(*more));

	if (!more) {
		close(descriptor);
		return -ENOMEM;
	}
	locks->descriptors = more;
	more[locks->count++] = descriptor;
	return 0;
}

static int lock_range(int descriptor, short type, off_t start, off_t length)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };

	if (fcntl(descriptor, F_OFD_SETLK, &lock) == 0)
		return 0;
	return errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
}

/* @memory: of the x-shm; -1: lock the database itself against writers */
static int lock_both(int database, int memory)
{
	/* In WAL mode whoever has the database open for himself alone has locked this, and needs no x-shm. */
	int error = lock_range(database, F_RDLCK, SHARED_FIRST, SHARED_BYTES);

	if (error)
		return error;
	error = memory >= 0 ? lock_range(memory, F_WRLCK, WAL_WRITE, 2)
			    : lock_range(database, F_WRLCK, RESERVED_BYTE, 1);
	/* One alone would only be in a writer's way. */
	if (error)
		lock_range(database, F_UNLCK, SHARED_FIRST, SHARED_BYTES);
	return error;
}

static int64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* A writer that does one transaction after another lets go for some microseconds only between two. */
static int lock_file(int root, const struct errand *errand, struct locks *locks)
{
	int64_t give_up_us = now_us() + LOCK_US;
	size_t before = locks->count;
	int database, memory = -1, error;
	char path[PATH_MAX + 8];

	strcpy(path, errand->path); /* opening takes it apart */
	database = open_file(root, path, errand->ino, O_RDWR);
	if (database < 0)
		return database;
	error = keep(locks, database);
	if (!error && errand->kind == ERRAND_LOCK_WAL) {
		snprintf(path, sizeof(path), "%s-shm", errand->path);
		memory = open_path(root, path, O_RDWR);
		if (memory >= 0)
			error = keep(locks, memory);
	}
	if (!error) {
		while ((error = lock_both(database, memory)) == -EBUSY && now_us() < give_up_us)
			sched_yield();
	}
	if (error)
		unlock_behind(locks, before);
	return error;
}

static int look_for(struct mount *mount, const char *path)
{
	struct open_how how = { .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS };
	int descriptor;

	/* To look a name up there may have to wait for whoever waits for this. */
	if (mount_holds(mount, path))
		return -ENOENT;
	descriptor = (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how));
	if (descriptor < 0)
		return errno == ENOTDIR ? -ENOENT : -errno;
	close(descriptor);
	return 0;
}

/* Wait for the next errand. False: the daemon has ended, or is about to. */
static bool next_errand(struct mount *mount, int socket, int death, struct errand *ret_errand, ssize_t *ret_length)
{
	struct pollfd waits[] = { { .fd = socket, .events = POLLIN }, { .fd = death, .events = POLLIN } };

	do {
		if (poll(waits, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return false;
		}
		if (waits[1].revents) {
			/* Killed, and some thread of it may be waiting for what only the others could answer. */
			mount_abort(mount);
			return false;
		}
	} while (!waits[0].revents);
	*ret_length = read(socket, ret_errand, sizeof(*ret_errand));
	return *ret_length > 0;
}

static void run_errands(struct mount *mount, int socket, int death)
{
	struct locks locks = { NULL, 0 };
	struct errand errand;
	int root = -1, answer;
	ssize_t length;

	while (next_errand(mount, socket, death, &errand, &length)) {
		mount_learn(mount, (dev_t)errand.device);
		if (errand.kind == ERRAND_REST || errand.kind == ERRAND_UNLOCK)
			unlock_behind(&locks, 0);
		if (errand.kind == ERRAND_REST) {
			if (root >= 0)
				close(root);
			root = -1;
		}
		if (errand.kind == ERRAND_LEARN)
			continue;
		errand.path[sizeof(errand.path) - 1] = '\0';
		if (root < 0 && errand.kind != ERRAND_EXISTS && errand.kind != ERRAND_REST &&
		    mount_find(mount, &root) != 0)
			root = -1;
		if (errand.kind == ERRAND_UNLOCK || errand.kind == ERRAND_REST)
			answer = 0;
		else if (errand.kind == ERRAND_EXISTS)
			answer = look_for(mount, errand.path);
		else if (root < 0)
			answer = -EAGAIN;
		else if (errand.kind == ERRAND_FLUSH)
			answer = flush_file(root, &errand);
		else
			answer = lock_file(root, &errand, &locks);
		if (send(socket, &answer, sizeof(answer), MSG_NOSIGNAL) != sizeof(answer))
			return;
	}
}

/*
 * Let go of all that the daemon has open, but @socket, which is 3 afterwards: a lock, the pipe to whoever waits for the
 * mount, the terminal.
 */
static int close_all(int socket)
{
	int null;

	if (dup2(socket, STDERR_FILENO + 1) < 0)
		return -errno;
	close_range(STDERR_FILENO + 2, ~0u, 0);
	close_range(STDIN_FILENO, STDERR_FILENO, 0);
	null = open("/dev/null", O_RDWR); /* the lowest number that is free: 0 */
	if (null != STDIN_FILENO || dup2(null, STDOUT_FILENO) < 0 || dup2(null, STDERR_FILENO) < 0)
		return -EBADF;
	return STDERR_FILENO + 1;
}

/* It is not for this process to be ended from a terminal: the daemon ends it. */
static void become_flusher(struct mount *mount, int socket, pid_t daemon)
{
	static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	sigset_t set;
	int death;

	socket = close_all(socket);
	for (size_t i = 0; i < sizeof(ignored) / sizeof(*ignored); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, DEATH_SIGNAL);
	sigprocmask(SIG_BLOCK, &set, NULL);
	death = signalfd(-1, &set, SFD_CLOEXEC);
	prctl(PR_SET_NAME, "mojofs-flusher");
	prctl(PR_SET_PDEATHSIG, DEATH_SIGNAL);
	setsid();
	if (socket >= 0 && death >= 0 && chdir("/") == 0 && getppid() == daemon)
		run_errands(mount, socket, death);
	_exit(0);
}

/* ---- the daemon's side ----------------------------------------------------------------------- */

int flusher_start(struct mount *mount, struct flusher **ret_flusher)
{
	struct flusher *flusher = calloc(1, sizeof(*flusher));
	pid_t daemon = getpid();
	int ends[2], error;

	if (!flusher)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
		error = -errno;
		goto fail;
	}
	flusher->mount = mount;
	flusher->socket = ends[0];
	flusher->pid = fork();
	if (flusher->pid < 0) {
		error = -errno;
		close(ends[0]);
		close(ends[1]);
		goto fail;
	}
	if (flusher->pid == 0)
		become_flusher(mount, ends[1], daemon);
	close(ends[1]);
	*ret_flusher = flusher;
	return 0;
fail:
	free(flusher);
	return error;
}

void flusher_end(struct flusher *flusher)
{
	if (!flusher)
		return;
	if (flusher->socket >= 0)
		close(flusher->socket);
	while (waitpid(flusher->pid, NULL, 0) < 0 && errno == EINTR)
		;
	free(flusher);
}

/* Somebody has killed it, or it does not answer. What it did is done otherwise from now on. */
static void give_up(struct flusher *flusher)
{
	kill(flusher->pid, SIGKILL);
	close(flusher->socket);
	flusher->socket = -1;
}

/* Send @errand, with @path if that is not NULL. -EAGAIN: there is no flusher any more; or it is too long. */
static int send_errand(struct flusher *flusher, enum errand_kind kind, const char *path, uint64_t ino)
{
	struct errand errand = { .kind = kind, .ino = ino, .device = mount_device(flusher->mount) };
	size_t length = path ? strlen(path) : 0;

	if (flusher->socket < 0 || length >= sizeof(errand.path) || (path && !length))
		return -EAGAIN;
	if (path)
		memcpy(errand.path, path, length + 1);
	length += offsetof(struct errand, path) + 1;
	if (send(flusher->socket, &errand, length, MSG_NOSIGNAL) == (ssize_t)length)
		return 0;
	give_up(flusher);
	return -EAGAIN;
}

/* Wait for the answer, but not for ever: whoever asked for a commit keeps others from the root directory meanwhile. */
static int get_answer(struct flusher *flusher)
{
	struct pollfd wait = { .fd = flusher->socket, .events = POLLIN };
	int answer, ready;

	do {
		ready = poll(&wait, 1, ANSWER_MS);
	} while (ready < 0 && errno == EINTR);
	if (ready > 0 && recv(flusher->socket, &answer, sizeof(answer), 0) == sizeof(answer))
		return answer;
	give_up(flusher);
	return ready == 0 ? -ETIMEDOUT : -EAGAIN;
}

bool flusher_is_gone(const struct flusher *flusher)
{
	return flusher->socket < 0;
}

int flusher_flush(struct flusher *flusher, const char *path, uint64_t ino)
{
	int error = send_errand(flusher, ERRAND_FLUSH, path, ino);

	return error ? error : get_answer(flusher);
}

int flusher_lock(struct flusher *flusher, const char *path, uint64_t ino, bool wal_mode)
{
	int error = send_errand(flusher, wal_mode ? ERRAND_LOCK_WAL : ERRAND_LOCK, path, ino);

	return error ? error : get_answer(flusher);
}

int flusher_exists(struct flusher *flusher, const char *path)
{
	int error = send_errand(flusher, ERRAND_EXISTS, path, 0);

	return error ? error : get_answer(flusher);
}

void flusher_unlock(struct flusher *flusher)
{
	if (send_errand(flusher, ERRAND_UNLOCK, NULL, 0) == 0)
		get_answer(flusher); /* without one the process is gone, and its locks with it */
}

void flusher_rest(struct flusher *flusher)
{
	if (send_errand(flusher, ERRAND_REST, NULL, 0) == 0)
		get_answer(flusher); /* without one the process is gone, and holds nothing */
}

void flusher_learn(struct flusher *flusher)
{
	send_errand(flusher, ERRAND_LEARN, NULL, 0);
}
