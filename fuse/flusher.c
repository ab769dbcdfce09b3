/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "flusher.h"

#define DEATH_SIGNAL SIGUSR1 /* what the process gets when the daemon's first thread has died */

/* Far more than any flush takes; behind it there is a disk that has stopped, or somebody has stopped the process. */
#define ANSWER_MS 120000

struct flusher {
	struct mount *mount; /* borrowed */
	int socket;          /* owned; -1: the process is gone */
	pid_t pid;
};

/* A message to the process; one without a path: rest. */
struct errand {
	uint64_t ino;
	uint64_t device;
	char path[PATH_MAX];
};

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
static int open_path(int root, char *path)
{
	int directory = root, descriptor = -ENOENT;
	char *save = NULL;

	for (char *name = strtok_r(path, "/", &save); name;) {
		char *next = strtok_r(NULL, "/", &save);
		struct stat st;

		descriptor =
			fstat(directory, &st) != 0
				? -errno
				: open_cached(directory, name, next ? O_PATH | O_DIRECTORY : O_RDONLY | O_NONBLOCK);
		if (directory != root)
			close(directory);
		if (descriptor < 0 || !next)
			return descriptor;
		directory = descriptor;
		name = next;
	}
	return descriptor;
}

static int flush_file(int root, struct errand *errand)
{
	int descriptor = open_path(root, errand->path), error = 0;
	struct stat st;

	if (descriptor < 0)
		return -EAGAIN;
	if (fstat(descriptor, &st) != 0 || st.st_ino != errand->ino)
		error = -EAGAIN; /* renamed meanwhile */
	else if (sync_file_range(descriptor, 0, 0,
				 SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) != 0)
		error = errno == EAGAIN ? -EIO : -errno;
	close(descriptor);
	return error;
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
	struct errand errand;
	int root = -1, answer;
	ssize_t length;

	while (next_errand(mount, socket, death, &errand, &length)) {
		mount_learn(mount, (dev_t)errand.device);
		if (length <= (ssize_t)offsetof(struct errand, path)) {
			if (root >= 0)
				close(root);
			root = -1;
			continue;
		}
		errand.path[sizeof(errand.path) - 1] = '\0';
		if (root < 0 && mount_find(mount, &root) != 0)
			root = -1;
		answer = root < 0 ? -EAGAIN : flush_file(root, &errand);
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

/* Send @length bytes of @errand. -EAGAIN: there is no flusher any more. */
static int send_errand(struct flusher *flusher, const struct errand *errand, size_t length)
{
	if (flusher->socket < 0)
		return -EAGAIN;
	if (send(flusher->socket, errand, length, MSG_NOSIGNAL) == (ssize_t)length)
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

int flusher_flush(struct flusher *flusher, const char *path, uint64_t ino)
{
	struct errand errand = { .ino = ino, .device = mount_device(flusher->mount) };
	size_t length = strlen(path);
	int error;

	if (length == 0 || length >= sizeof(errand.path))
		return -EAGAIN;
	memcpy(errand.path, path, length + 1);
	error = send_errand(flusher, &errand, offsetof(struct errand, path) + length + 1);
	return error ? error : get_answer(flusher);
}

void flusher_rest(struct flusher *flusher)
{
	struct errand rest = { .device = mount_device(flusher->mount) };

	send_errand(flusher, &rest, offsetof(struct errand, path)); /* one that is gone holds nothing */
}
