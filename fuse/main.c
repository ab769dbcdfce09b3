/* SPDX-License-Identifier: MIT */
/*
 * mojofs-fuse - mount a store.
 *
 * In the background there are two processes from the start: the child opens the store, mounts and serves;
 * the parent waits until the mount answers, and ends with the child's word. So the store's lock is the
 * child's from the first moment, and what goes wrong is said on the terminal of whoever asked.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "../src/io.h"
#include "../src/io_record.h"
#include "../src/mojo.h"
#include "commit.h"
#include "config.h"
#include "mount.h"
#include "ops.h"
#include "tree.h"
#include "verify.h"

#ifndef PACKAGE_VERSION
#define PACKAGE_VERSION "(unknown version)"
#endif

#define PROGRAM "mojofs-fuse"

#define EXIT_REFUSED 1
#define EXIT_USAGE   2

/* A store that nobody has mounted but somebody has open is about to be closed, after an unmount: wait for it. */
#define BUSY_WAIT_MS 10000
#define BUSY_STEP_MS 50

#define HELD_MAX 16

struct program {
	/* what was asked for */
	struct config config;
	struct fuse_args args; /* for libfuse; owned */
	char *config_file;     /* owned; NULL: CONFIG_FILE */
	char *record_file;     /* owned; NULL: nothing is recorded */
	const char *store_given, *point_given;
	bool foreground, debug, read_only, no_create;

	/* what came of it */
	char *store_path;     /* owned, canonical; the directory may not exist yet */
	char *point;          /* owned, canonical */
	char *owner;          /* owned; who has the store, for others */
	struct mojo_io *host; /* the host's file system */
	struct mojo_io *io;   /* what the store is on: that, or what records it */
	int record_fd;        /* -1: nothing is recorded */
	struct mojo_store *store;
	struct tree *tree;
	struct mount *mount;
	struct commit *commit;
	struct flusher *flusher;
	struct scrub *scrub;
	struct verify *verify;
	struct ops ops;
	bool has_ops; /* ops_init() has succeeded */

	/* messages */
	atomic_bool detached; /* they go to syslog */
	int ready_pipe;       /* to the parent; -1 in the foreground */
	bool holding;         /* events are kept back: only while no other thread is there */
	char *held[HELD_MAX]; /* owned */
	size_t held_count;
};

/* ---- messages -------------------------------------------------------------------------------- */

static void on_event(void *arg, enum mojo_severity severity, const char *text)
{
	static const int levels[] = { [MOJO_INFO] = LOG_INFO, [MOJO_WARNING] = LOG_WARNING, [MOJO_ERROR] = LOG_ERR };
	struct program *program = arg;

	if (program->holding) {
		if (program->held_count < HELD_MAX && severity != MOJO_INFO)
			program->held[program->held_count++] = strdup(text);
	} else if (atomic_load(&program->detached)) {
		syslog(levels[severity], "%s", text);
	} else if (severity != MOJO_INFO || program->foreground) {
		fprintf(stderr, PROGRAM ": %s\n", text);
	}
}

static void say(struct program *program, enum mojo_severity severity, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void say(struct program *program, enum mojo_severity severity, const char *format, ...)
{
	char text[2 * PATH_MAX + 256];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	on_event(program, severity, text);
}

static void hold_events(struct program *program)
{
	program->holding = true;
}

/* Let the events that were held be seen, or not. */
static void end_hold(struct program *program, bool show)
{
	program->holding = false;
	for (size_t i = 0; i < program->held_count; i++) {
		if (show && program->held[i])
			on_event(program, MOJO_ERROR, program->held[i]);
		free(program->held[i]);
	}
	program->held_count = 0;
}

/* ---- the command line ------------------------------------------------------------------------ */

static void print_help(void)
{
	printf("Usage: " PROGRAM " [OPTION]... STORE MOUNTPOINT\n"
	       "Mount the mojofs store in the directory STORE on the directory MOUNTPOINT.\n"
	       "A STORE that is absent or empty is made. To unmount: fusermount3 -u MOUNTPOINT\n"
	       "\n"
	       "For a store that is made:\n"
	       "      --page-size=SIZE        4K to 64K, a power of two; default 4K\n"
	       "      --pages-per-slot=N      64 to 64K, a power of two; default 4096\n"
	       "      --chunk-size=SIZE       4M to 1G, a power of two; default 64M\n"
	       "      --no-create             refuse to make one\n"
	       "\n"
	       "For the time of the mount:\n"
	       "      --cache-size=SIZE       memory for the index, at least 4M; default 32M\n"
	       "      --checkpoint-size=SIZE  log between two checkpoints, at least 1M; default 128M\n"
	       "      --commit-interval=N     seconds after which what was written goes to disk\n"
	       "                              though nobody asked; default 5\n"
	       "      --list-versions         show @v1, @v2 ... in listings of the root; default\n"
	       "      --no-list-versions      do not; they are there all the same\n"
	       "      --durable-unlink        a rollback journal of SQLite is gone for good when its\n"
	       "                              removal is answered; default\n"
	       "      --no-durable-unlink     it may come back after a loss of power, as on ext4\n"
	       "      --settle                databases in a version are at the end of a transaction,\n"
	       "                              whatever their writers are doing; default\n"
	       "      --no-settle             a commit freezes what is there\n"
	       "      --ordered-journals      to sync a rollback journal of SQLite, or its database,\n"
	       "                              orders it, and waits for nothing; what commits is\n"
	       "                              waited for; default\n"
	       "      --no-ordered-journals   every sync waits for the disk\n"
	       "      --verify                check the databases of each version in the background\n"
	       "      --no-verify             only of those that are asked for; default\n"
	       "  -r, --read-only             the same as -o ro\n"
	       "  -o OPTION[,OPTION]...       mount options: ro, allow_other, allow_root, noatime ...\n"
	       "                              and those above: -o cache-size=64M\n"
	       "\n"
	       "      --config=FILE           settings; default " CONFIG_FILE ", if it exists\n"
	       "  -f, --foreground            stay in the foreground; messages go to stderr\n"
	       "  -d, --debug                 the same, and show every request\n"
	       "      --record=FILE           for testing: append to FILE all that is written to the store\n"
	       "  -h, --help                  show this help\n"
	       "  -V, --version               show the version\n"
	       "\n"
	       "SIZE is in bytes, or with K, M or G. See " PROGRAM "(1) and mojofs.conf(5).\n");
}

/* Options that are libfuse's or the kernel's to understand. */
static bool is_mount_option(const char *option)
{
	static const char *const plain[] = {
		"ro",
		"rw",
		"suid",
		"nosuid",
		"dev",
		"nodev",
		"exec",
		"noexec",
		"async",
		"sync",
		"dirsync",
		"atime",
		"noatime",
		"diratime",
		"nodiratime",
		"lazytime",
		"nolazytime",
		"relatime",
		"norelatime",
		"strictatime",
		"nostrictatime",
		"allow_other",
		"allow_root",
		"auto_unmount",
		"default_permissions",
	};
	static const char *const valued[] = {
		"fsname=", "subtype=", "max_read=", "context=", "fscontext=", "defcontext=", "rootcontext=",
	};

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		if (strcmp(option, plain[i]) == 0)
			return true;
	}
	for (size_t i = 0; i < sizeof(valued) / sizeof(valued[0]); i++) {
		if (strncmp(option, valued[i], strlen(valued[i])) == 0)
			return true;
	}
	return false;
}

/* Options that are mount(8)'s own, and say nothing to a file system. */
static bool is_fstab_option(const char *option)
{
	static const char *const plain[] = {
		"defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev",
	};
	static const char *const begins[] = { "x-", "X-", "comment=", "user=" };

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		if (strcmp(option, plain[i]) == 0)
			return true;
	}
	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++) {
		if (strncmp(option, begins[i], strlen(begins[i])) == 0)
			return true;
	}
	return false;
}

static int usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int usage_error(const char *format, ...)
{
	va_list list;

	fprintf(stderr, PROGRAM ": ");
	va_start(list, format);
	vfprintf(stderr, format, list);
	va_end(list);
	fprintf(stderr, "\nTry '" PROGRAM " --help' for more information.\n");
	return -EINVAL;
}

static int set(struct program *program, enum config_key key, const char *value)
{
	char why[CONFIG_WHY_SIZE];

	return config_set(&program->config, key, value, why) ? usage_error("%s", why) : 0;
}

static int set_file(char **file, const char *path)
{
	free(*file);
	*file = strdup(path);
	return *file ? 0 : -ENOMEM;
}

/* The switch whose name follows the "no-" of @option; CONFIG_KEYS if there is none. */
static enum config_key find_negated(const char *option)
{
	enum config_key key = CONFIG_KEYS;

	if (strncmp(option, "no-", 3) == 0 || strncmp(option, "no_", 3) == 0)
		key = config_find(option + 3, strlen(option + 3));
	return key != CONFIG_KEYS && config_is_switch(key) ? key : CONFIG_KEYS;
}

/* One of the options in -o: fuse_opt_parse()'s callback. 1 keeps it for libfuse, 0 does not. */
static int take_option(void *data, const char *option, int opt_key, struct fuse_args *args)
{
	struct program *program = data;
	size_t length = strcspn(option, "=");
	const char *value = option[length] ? option + length + 1 : NULL;
	enum config_key key = config_find(option, length);

	(void)args;
	if (opt_key != FUSE_OPT_KEY_OPT)
		return 1; /* the program's name */
	if (key != CONFIG_KEYS)
		return set(program, key, value) ? -1 : 0;
	key = find_negated(option);
	if (key != CONFIG_KEYS)
		return set(program, key, "no") ? -1 : 0;
	if (strcmp(option, "nosettle") == 0) /* as the kernel's own are spelt */
		return set(program, CONFIG_SETTLE, "no") ? -1 : 0;
	if (strcmp(option, "no-create") == 0 || strcmp(option, "no_create") == 0) {
		program->no_create = true;
		return 0;
	}
	if (length == strlen("config") && strncmp(option, "config", length) == 0 && value && *value)
		return set_file(&program->config_file, value) ? -1 : 0;
	if (length == strlen("record") && strncmp(option, "record", length) == 0 && value && *value)
		return set_file(&program->record_file, value) ? -1 : 0;
	if (strcmp(option, "debug") == 0) {
		program->debug = program->foreground = true;
		return 1;
	}
	if (strcmp(option, "ro") == 0)
		program->read_only = true;
	else if (strcmp(option, "rw") == 0)
		program->read_only = false;
	if (is_mount_option(option))
		return 1;
	if (is_fstab_option(option))
		return 0;
	if (strncmp(option, "setuid=", 7) == 0 || strcmp(option, "drop_privileges") == 0)
		usage_error("option '%s' is for mount -t " MOUNT_TYPE " only", option);
	else
		usage_error("unknown option '%s'", option);
	return -1;
}

enum {
	OPTION_NO_CREATE = 256,
	OPTION_NO_LIST_VERSIONS,
	OPTION_NO_DURABLE_UNLINK,
	OPTION_NO_SETTLE,
	OPTION_NO_ORDERED_JOURNALS,
	OPTION_NO_VERIFY,
	OPTION_CONFIG,
	OPTION_RECORD,
	OPTION_SETTING
};

/* 0, 1 when all is said and done, or -EINVAL. */
static int parse_arguments(struct program *program, int argc, char **argv)
{
	enum { PLAIN = 14 };
	struct option options[PLAIN + CONFIG_KEYS + 1] = {
		{ "no-create", no_argument, NULL, OPTION_NO_CREATE },
		{ "no-list-versions", no_argument, NULL, OPTION_NO_LIST_VERSIONS },
		{ "no-durable-unlink", no_argument, NULL, OPTION_NO_DURABLE_UNLINK },
		{ "no-settle", no_argument, NULL, OPTION_NO_SETTLE },
		{ "no-ordered-journals", no_argument, NULL, OPTION_NO_ORDERED_JOURNALS },
		{ "no-verify", no_argument, NULL, OPTION_NO_VERIFY },
		{ "config", required_argument, NULL, OPTION_CONFIG },
		{ "record", required_argument, NULL, OPTION_RECORD },
		{ "foreground", no_argument, NULL, 'f' },
		{ "debug", no_argument, NULL, 'd' },
		{ "read-only", no_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ "options", required_argument, NULL, 'o' },
	};
	int option;

	for (enum config_key key = 0; key < CONFIG_KEYS; key++)
		options[PLAIN + key] = (struct option){
			.name = config_name(key),
			.has_arg = config_is_switch(key) ? optional_argument : required_argument,
			.val = OPTION_SETTING + (int)key,
		};
	if (fuse_opt_add_arg(&program->args, PROGRAM) != 0)
		return -ENOMEM;
	while ((option = getopt_long(argc, argv, "fdrhVo:", options, NULL)) != -1) {
		int error = 0;

		switch (option) {
		case 'h':
			print_help();
			return 1;
		case 'V':
			printf(PROGRAM " " PACKAGE_VERSION " (store format %u, libfuse %s)\n", MOJO_FORMAT_VERSION,
			       fuse_pkgversion());
			return 1;
		case 'f':
			program->foreground = true;
			break;
		case 'd':
			error = fuse_opt_add_arg(&program->args, "-odebug");
			break;
		case 'r':
			error = fuse_opt_add_arg(&program->args, "-oro");
			break;
		case 'o':
			error = fuse_opt_add_arg(&program->args, "-o");
			if (!error)
				error = fuse_opt_add_arg(&program->args, optarg);
			break;
		case OPTION_NO_CREATE:
			program->no_create = true;
			break;
		case OPTION_NO_LIST_VERSIONS:
			error = set(program, CONFIG_LIST_VERSIONS, "no");
			break;
		case OPTION_NO_DURABLE_UNLINK:
			error = set(program, CONFIG_DURABLE_UNLINK, "no");
			break;
		case OPTION_NO_SETTLE:
			error = set(program, CONFIG_SETTLE, "no");
			break;
		case OPTION_NO_ORDERED_JOURNALS:
			error = set(program, CONFIG_ORDERED_JOURNALS, "no");
			break;
		case OPTION_NO_VERIFY:
			error = set(program, CONFIG_VERIFY, "no");
			break;
		case OPTION_CONFIG:
			error = set_file(&program->config_file, optarg);
			break;
		case OPTION_RECORD:
			error = set_file(&program->record_file, optarg);
			break;
		case '?':
			fprintf(stderr, "Try '" PROGRAM " --help' for more information.\n");
			return -EINVAL;
		default:
			error = set(program, (enum config_key)(option - OPTION_SETTING), optarg);
		}
		if (error)
			return -EINVAL;
	}
	if (argc - optind < 2)
		return usage_error("STORE and MOUNTPOINT are wanted");
	if (argc - optind > 2)
		return usage_error("only STORE and MOUNTPOINT are wanted, not '%s' too", argv[optind + 2]);
	program->store_given = argv[optind];
	program->point_given = argv[optind + 1];
	return fuse_opt_parse(&program->args, program, NULL, take_option) == 0 ? 0 : -EINVAL;
}

/* ---- the store ------------------------------------------------------------------------------- */

/* The canonical path of what may not exist yet, in a directory that does. NULL with errno set. */
static char *canonical_path(const char *path)
{
	char *copy, *parent, *real, *name, *result = NULL;

	real = realpath(path, NULL);
	if (real || errno != ENOENT)
		return real;
	copy = strdup(path);
	if (!copy)
		return NULL;
	for (size_t length = strlen(copy); length > 1 && copy[length - 1] == '/'; length--)
		copy[length - 1] = '\0';
	name = strrchr(copy, '/');
	if (name)
		*name++ = '\0';
	parent = realpath(name ? (*copy ? copy : "/") : ".", NULL);
	if (!name)
		name = copy;
	if (parent && *name && asprintf(&result, "%s/%s", strcmp(parent, "/") ? parent : "", name) < 0)
		result = NULL;
	free(parent);
	free(copy);
	return result;
}

/* 1 if @path is an empty directory, 0 if it is not, or -errno. */
static int is_empty(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;
	int answer = 1;

	if (!directory)
		return -errno;
	while ((entry = readdir(directory)) != NULL) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			answer = 0;
	}
	closedir(directory);
	return answer;
}

static int check_may_make(struct program *program)
{
	if (!program->no_create && !program->read_only)
		return 0;
	say(program, MOJO_ERROR, "%s: there is no store, and %s", program->store_path,
	    program->no_create ? "--no-create forbids to make one" : "none is made for a read-only mount");
	return -ENOENT;
}

static int make_store(struct program *program)
{
	struct mojo_geometry geometry = {
		.page_size = program->config.page_size,
		.pages_per_slot = program->config.pages_per_slot,
		.chunk_bytes = program->config.chunk_bytes,
		.root_uid = getuid(),
		.root_gid = getgid(),
	};
	struct mojo_config config = { .event = on_event, .event_arg = program };
	int error = check_may_make(program);

	if (error)
		return error;
	hold_events(program);
	error = mojo_create(program->io, &geometry, &config);
	end_hold(program, error && error != -ENOTEMPTY);
	if (error == -ENOTEMPTY)
		say(program, MOJO_ERROR,
		    "%s: the directory is not empty, and it is not a store; name a store, or an empty or absent directory",
		    program->store_path);
	else if (error)
		say(program, MOJO_ERROR, "%s: a store cannot be made: %s", program->store_path, strerror(-error));
	return error;
}

/*
 * Open what is there. While another process has it open that does not, or no longer, mount it, wait: the
 * daemon of a mount that was just taken away still has to bring its store to rest.
 */
static int open_existing(struct program *program, struct mojo_store **ret_store)
{
	struct mojo_config config = {
		.read_only = program->read_only,
		.cache_bytes = program->config.cache_bytes,
		.checkpoint_bytes = program->config.checkpoint_bytes,
		.flush_ms = program->config.commit_seconds * 1000u,
		.owner = program->owner,
		.event = on_event,
		.event_arg = program,
	};
	int error;

	for (unsigned waited = 0;; waited += BUSY_STEP_MS) {
		hold_events(program);
		error = mojo_open(program->io, &config, ret_store);
		if (error != -EBUSY || waited >= BUSY_WAIT_MS || mount_is_mounted(program->store_path))
			break;
		end_hold(program, false);
		usleep(BUSY_STEP_MS * 1000);
	}
	end_hold(program, error != -ENOENT);
	return error;
}

/* What was asked for on the command line cannot be had from a store that is there. The file's settings are
 * for stores that are made, and say nothing of this one. */
static int check_geometry(struct program *program)
{
	const struct config *config = &program->config;
	struct mojo_info info;
	int error = mojo_info(program->store, &info);

	if (error)
		return error;
	for (enum config_key key = CONFIG_PAGE_SIZE; key <= CONFIG_CHUNK_SIZE; key++) {
		uint64_t asked, is;

		if (key == CONFIG_PAGE_SIZE) {
			asked = config->page_size;
			is = info.page_size;
		} else if (key == CONFIG_PAGES_PER_SLOT) {
			asked = config->pages_per_slot;
			is = info.pages_per_slot;
		} else {
			asked = config->chunk_bytes;
			is = info.chunk_bytes;
		}
		if (!config->given[key] || asked == is)
			continue;
		say(program, MOJO_ERROR,
		    "%s: the store was made with %s=%" PRIu64 ", which cannot change to %" PRIu64
		    "; leave the option out",
		    program->store_path, config_name(key), is, asked);
		return -EINVAL;
	}
	return 0;
}

/* Make the directory, or look into it: 2 if it was made here, 1 if it is empty, 0 if not; or -errno, said. */
static int prepare_directory(struct program *program)
{
	int result = is_empty(program->store_path);

	if (result == -ENOENT) {
		result = check_may_make(program);
		if (result)
			return result;
		result = mkdir(program->store_path, 0700) == 0 ? 2 : -errno;
	}
	if (result == -ENOTDIR)
		say(program, MOJO_ERROR, "%s: a store is a directory, and this is not a directory",
		    program->store_path);
	else if (result < 0)
		say(program, MOJO_ERROR, "%s: the store cannot be opened: %s", program->store_path, strerror(-result));
	return result;
}

/* What is done to the store goes through what records it, if it is to be recorded. */
static int start_recording(struct program *program)
{
	int error;

	program->io = program->host;
	if (!program->record_file)
		return 0;
	program->record_fd = open(program->record_file, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	error = program->record_fd < 0 ? -errno : mojo_io_record_trim(program->record_fd);
	if (!error)
		error = mojo_io_record(program->host, program->record_fd, &program->io);
	if (error)
		say(program, MOJO_ERROR, "%s: cannot be written to: %s", program->record_file, strerror(-error));
	return error;
}

static void end_recording(struct program *program)
{
	if (program->io != program->host) {
		int error = mojo_io_record_status(program->io);

		if (error)
			say(program, MOJO_ERROR, "%s: the recording is incomplete: %s", program->record_file,
			    strerror(-error));
		mojo_io_free(program->io);
	}
	if (program->record_fd >= 0)
		close(program->record_fd);
}

static int open_store(struct program *program)
{
	int state = prepare_directory(program), error;

	if (state < 0)
		return state;
	error = mojo_io_host(program->store_path, &program->host);
	if (error)
		say(program, MOJO_ERROR, "%s: the store cannot be opened: %s", program->store_path, strerror(-error));
	else
		error = start_recording(program);
	if (!error && state > 0)
		error = make_store(program);
	if (error) {
		if (state == 2)
			rmdir(program->store_path);
		return error;
	}
	error = open_existing(program, &program->store);
	if (error == -ENOENT) {
		/* Neither a store nor empty; or what is left of a creation that was cut short. */
		error = make_store(program);
		if (!error)
			error = open_existing(program, &program->store);
	}
	return error ? error : check_geometry(program);
}

/* ---- serving --------------------------------------------------------------------------------- */

/* The kernel has made contact. From now on we are a daemon, unless asked to stay. */
static void on_ready(void *arg)
{
	struct program *program = arg;
	int null;

	if (program->foreground) {
		say(program, MOJO_INFO, "%s: mounted on %s", program->store_path, program->point);
		return;
	}
	openlog(PROGRAM, LOG_PID, LOG_DAEMON);
	atomic_store(&program->detached, true);
	say(program, MOJO_INFO, "%s: mounted on %s", program->store_path, program->point);
	setsid();
	null = open("/dev/null", O_RDWR);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		if (null > STDERR_FILENO)
			close(null);
	}
	if (write(program->ready_pipe, "", 1) != 1)
		say(program, MOJO_WARNING, "%s: whoever asked for the mount did not wait for it", program->point);
	close(program->ready_pipe);
}

static void flush_for_end(void *arg)
{
	struct program *program = arg;
	int error = commit_flush(program->commit);

	if (!error && !program->read_only)
		error = mojo_sync(program->store);
	if (error)
		say(program, MOJO_ERROR, "%s: not everything could be saved: %s", program->store_path,
		    strerror(-error));
}

static int serve_store(struct program *program)
{
	struct commit_options commit_options = {
		.settles = program->config.settle,
		.event = on_event,
		.event_arg = program,
	};
	int error = 0;

	if (!program->read_only) {
		error = commit_finish(program->store, program->flusher, on_event, program);
		if (error)
			return error;
	}
	error = tree_new(program->store, program->config.list_versions, &program->tree);
	if (!error)
		error = verify_new(program->tree, on_event, program, &program->verify);
	commit_options.verify = program->config.verify ? program->verify : NULL;
	if (!error)
		error = commit_new(program->tree, program->mount, program->flusher, &commit_options, &program->commit);
	if (!error)
		error = scrub_new(program->store, &program->scrub);
	if (error) {
		say(program, MOJO_ERROR, "%s: cannot be served: %s", program->store_path, strerror(-error));
		return error;
	}
	program->ops.tree = program->tree;
	program->ops.commit = program->commit;
	program->ops.mount = program->mount;
	program->ops.control = (struct control){
		.tree = program->tree,
		.commit = program->commit,
		.mount = program->mount,
		.counters = &program->ops.counters,
		.scrub = program->scrub,
		.verify = program->verify,
		.store = program->store_path,
		.recorder = program->io != program->host ? program->io : NULL,
	};
	program->ops.durable_unlink = program->config.durable_unlink;
	program->ops.ordered_journals = program->config.ordered_journals;
	program->ops.ready = on_ready;
	program->ops.ready_arg = program;

	error = mount_open(program->mount, program->point);
	if (error) {
		say(program, MOJO_ERROR, "%s: cannot be mounted on %s", program->store_path, program->point);
		return error;
	}
	flusher_learn(program->flusher);
	error = mount_run(program->mount, flush_for_end, program);
	if (error)
		say(program, MOJO_ERROR, "%s: serving the mount failed: %s", program->point, strerror(-error));
	else
		say(program, MOJO_INFO, "%s: no longer served", program->point);
	return error;
}

/* Open, mount, serve, close. The exit status. */
static int serve(struct program *program)
{
	int error, closing;

	mount_block_signals();
	umask(077);
	if (chdir("/") != 0)
		say(program, MOJO_WARNING, "cannot change to the root directory: %s", strerror(errno));
	/* First of all: it is to have nothing of ours but the word of where the mount is. */
	error = flusher_start(program->mount, &program->flusher);
	if (error)
		say(program, MOJO_ERROR, "a process that goes through the mount cannot be started: %s",
		    strerror(-error));
	else
		error = open_store(program);
	if (!error)
		error = serve_store(program);

	scrub_free(program->scrub);
	commit_free(program->commit); /* it may still have requests to reply to */
	verify_free(program->verify);
	distrust_drain(&program->ops.distrust);
	flusher_end(program->flusher);
	mount_free(program->mount);
	program->mount = NULL;
	tree_free(program->tree);
	if (error && !atomic_load(&program->ops.greeting.done)) {
		mojo_abandon(program->store); /* nothing was done to it */
	} else {
		closing = mojo_close(program->store);
		if (closing)
			say(program, MOJO_ERROR, "%s: closing the store failed: %s", program->store_path,
			    strerror(-closing));
		if (!error)
			error = closing;
	}
	end_recording(program);
	mojo_io_free(program->host);
	return error ? EXIT_REFUSED : 0;
}

/* Wait for the child's word, then for the mount to answer. The exit status. */
static int wait_for_child(struct program *program, int ready_pipe, pid_t child)
{
	struct stat st;
	ssize_t length;
	int status;
	char byte;

	do {
		length = read(ready_pipe, &byte, 1);
	} while (length < 0 && errno == EINTR);
	close(ready_pipe);
	if (length == 1) {
		/* What mount.fuse3 has mounted for us is at a place whose name we were not told. */
		if (mount_is_descriptor(program->point) || stat(program->point, &st) == 0)
			return 0;
		say(program, MOJO_ERROR, "%s: mounted, but it does not answer: %s", program->point, strerror(errno));
		kill(child, SIGTERM);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (length != 1 && WIFSIGNALED(status))
		say(program, MOJO_ERROR, "%s: not mounted; the daemon was killed by signal %d", program->point,
		    WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_REFUSED;
}

/* A daemon must not hold what the shell that started it had open: a lock, or a pipe that somebody reads to
 * its end. The pipe to the parent is ours, and the mount that mount.fuse3 made is handed over this way. */
static void close_inherited(struct program *program)
{
	int descriptor = mount_is_descriptor(program->point) ? atoi(program->point + strlen("/dev/fd/")) : -1;
	int first = program->ready_pipe < descriptor ? program->ready_pipe : descriptor;
	int second = program->ready_pipe < descriptor ? descriptor : program->ready_pipe;
	unsigned from = STDERR_FILENO + 1;

	if (first >= (int)from) {
		if (first > (int)from)
			close_range(from, (unsigned)first - 1, 0);
		from = (unsigned)first + 1;
	}
	if (second >= (int)from) {
		if (second > (int)from)
			close_range(from, (unsigned)second - 1, 0);
		from = (unsigned)second + 1;
	}
	close_range(from, ~0u, 0);
}

static int start(struct program *program)
{
	int ends[2];
	pid_t child;

	if (program->foreground)
		return serve(program);
	if (pipe2(ends, O_CLOEXEC) != 0)
		goto failed;
	/* The pipe is closed by hand on both sides: neither may have what would make the other wait. */
	child = fork();
	if (child < 0)
		goto failed;
	if (child > 0) {
		close(ends[1]);
		return wait_for_child(program, ends[0], child);
	}
	close(ends[0]);
	program->ready_pipe = ends[1];
	close_inherited(program);
	return serve(program);
failed:
	say(program, MOJO_ERROR, "cannot go into the background: %s", strerror(errno));
	return EXIT_REFUSED;
}

/* Everything that can be found wrong before anything is touched. 0, or an exit status. */
static int prepare(struct program *program)
{
	char why[PATH_MAX + CONFIG_WHY_SIZE > MOUNT_WHY_SIZE ? PATH_MAX + CONFIG_WHY_SIZE : MOUNT_WHY_SIZE];
	const char *file = program->config_file ? program->config_file : CONFIG_FILE;
	int error;

	if (config_read(&program->config, file, program->config_file != NULL, why, sizeof(why)) != 0) {
		say(program, MOJO_ERROR, "%s", why);
		return EXIT_REFUSED;
	}
	if (program->record_file) { /* the daemon goes to the root directory */
		char *path = canonical_path(program->record_file);

		if (!path) {
			say(program, MOJO_ERROR, "%s: cannot be written to: %s", program->record_file, strerror(errno));
			return EXIT_REFUSED;
		}
		free(program->record_file);
		program->record_file = path;
	}
	program->store_path = canonical_path(program->store_given);
	if (!program->store_path) {
		say(program, MOJO_ERROR, "%s: the store cannot be found or made: %s", program->store_given,
		    strerror(errno));
		return EXIT_REFUSED;
	}
	if (mount_check(program->point_given, program->store_path, &program->point, why) != 0) {
		say(program, MOJO_ERROR, "%s", why);
		return EXIT_REFUSED;
	}
	if (asprintf(&program->owner, PROGRAM " on %s", program->point) < 0)
		program->owner = NULL;
	program->has_ops = ops_init(&program->ops) == 0;
	if (!program->owner || !program->has_ops) {
		say(program, MOJO_ERROR, "out of memory");
		return EXIT_REFUSED;
	}
	error = mount_new(&program->args, ops_table(), &program->ops, program->store_path, on_event, program,
			  &program->mount);
	if (error) {
		say(program, MOJO_ERROR, "the mount options were not accepted: %s", strerror(-error));
		return error == -EINVAL ? EXIT_USAGE : EXIT_REFUSED;
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct program program = { .ready_pipe = -1, .record_fd = -1 };
	int status;

	/*
	 * One heap for all threads. What one of them allocates (pages, pieces of the index) another one frees; with a
	 * heap each, holes in 16 of them took as much again as --cache-size allows: 162 MiB where 84 were in use, under
	 * random writes with 64 (tests/mount/memory.sh). There is little to gain by more: the engine has one lock.
	 */
	mallopt(M_ARENA_MAX, 1);
	config_defaults(&program.config);
	status = parse_arguments(&program, argc, argv);
	if (status) {
		status = status < 0 ? EXIT_USAGE : 0;
	} else {
		status = prepare(&program);
		if (!status)
			status = start(&program);
	}
	mount_free(program.mount);
	if (program.has_ops)
		ops_destroy(&program.ops);
	free(program.config_file);
	free(program.record_file);
	free(program.owner);
	free(program.point);
	free(program.store_path);
	fuse_opt_free_args(&program.args);
	return status;
}
