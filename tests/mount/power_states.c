/* SPDX-License-Identifier: MIT */
/*
 * power_states [-v] RECORDING SEED COUNT DIRECTORY - the files of a store after losses of power.
 *
 * Builds COUNT states of the recording (mojofs-fuse --record), spread over it, opens the store in each, and puts the
 * files that are in its root into DIRECTORY, which must be empty. For each it prints one line: the moment, and for each
 * class of marks (mark / 1000000) the highest one that the recording had before: "17 1:42 2:7". Then it waits for a line
 * on standard input; whoever wants the next state has emptied DIRECTORY by then.
 *
 * With -v it does what a mount does, settles and publishes a version that was frozen and not yet published; then it
 * commits what there is, with the message "state". It puts frozen versions, as @v1, @v2 ..., subdirectories and all, each
 * with its message in a file of that name and ".message": the newest three, and an older one. At the end it sees whether mojo_check() finds anything in what that left,
 * and tells on standard error in how many states a version had to be settled.
 *
 * A state that is no store yet has no files. One that should be a store and is not, or cannot be read, ends this with 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mojo.h"
#include "../support/power.h"
#include "../../sqlite/settle.h"

#define CLASSES    32u
#define CLASS_SIZE 1000000u

struct states {
	uint64_t marks[CLASSES]; /* the highest of each class, and 1; 0: none yet */
	bool marked;
	const char *directory;
	bool versions;    /* -v */
	uint64_t settled; /* states in which a version had to be */
	struct mojo_store *store;
	int error; /* of the file that could not be put */
};

static void on_mark(void *arg, uint64_t mark)
{
	struct states *states = arg;

	states->marked = true;
	if (mark / CLASS_SIZE < CLASSES && mark % CLASS_SIZE + 1 > states->marks[mark / CLASS_SIZE])
		states->marks[mark / CLASS_SIZE] = mark % CLASS_SIZE + 1;
}

static void on_event(void *arg, enum mojo_severity severity, const char *text)
{
	struct states *states = arg;

	if (severity == MOJO_ERROR && states->marked)
		fprintf(stderr, "power_states: %s\n", text);
}

struct name {
	struct name *next;
	struct mojo_attr attr;
	char text[];
};

static bool take_name(void *arg, const char *text, const struct mojo_attr *attr, uint64_t cookie)
{
	struct name **names = arg;
	struct name *name = malloc(sizeof(*name) + strlen(text) + 1);

	(void)cookie;
	if (!name)
		return false;
	name->next = *names;
	name->attr = *attr;
	strcpy(name->text, text);
	*names = name;
	return true;
}

static int put_file(struct states *states, uint32_t version, const struct mojo_attr *attr, const char *path)
{
	static char buf[1 << 20];
	size_t got;
	int error = 0, fd;

	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	for (uint64_t offset = 0; offset < attr->size && !error; offset += got) {
		error = mojo_read(states->store, version, attr->bucket, offset, buf, sizeof(buf), &got);
		if (!error && (got == 0 || write(fd, buf, got) != (ssize_t)got))
			error = -EIO;
	}
	close(fd);
	return error;
}

/* All files of a directory, and with @deep those below it, to @path, which is there. */
static int put_files(struct states *states, uint32_t version, uint32_t dir, const char *path, bool deep)
{
	struct name *names = NULL, *next;
	int error = mojo_readdir(states->store, version, dir, 0, take_name, &names);

	for (; names; names = next) {
		char below[4096];

		next = names->next;
		snprintf(below, sizeof(below), "%s/%s", path, names->text);
		if (!error && S_ISREG(names->attr.mode))
			error = put_file(states, version, &names->attr, below);
		else if (!error && deep && S_ISDIR(names->attr.mode))
			error = mkdir(below, 0700) != 0 ? -errno
							: put_files(states, version, names->attr.bucket, below, true);
		if (error)
			fprintf(stderr, "power_states: %s: %s\n", below, strerror(-error));
		free(names);
	}
	return error;
}

static int put_version(struct states *states, const struct mojo_version_info *info)
{
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/@v%" PRIu32 ".message", states->directory, info->version);
	file = fopen(path, "w");
	if (!file || fputs(info->message, file) < 0 || fclose(file) != 0)
		return -errno;
	*strrchr(path, '.') = '\0';
	if (mkdir(path, 0700) != 0)
		return -errno;
	return put_files(states, info->version, MOJO_ROOT_BUCKET, path, true);
}

/* What a mount does first, and what a commit does when it has frozen a version. */
static int settle(struct states *states, uint32_t version)
{
	struct settle_options options = { .event = on_event, .event_arg = states };
	struct settle_result result;
	int error = settle_version(states->store, version, NULL, 0, &options, &result);

	if (!error && result.left > 0)
		error = -EUCLEAN;
	return error ? error : mojo_publish(states->store, version);
}

static int put_versions(struct states *states, uint64_t choice)
{
	uint32_t active, older, version = mojo_unpublished(states->store);
	struct mojo_version_info info;
	int error = 0;

	if (version) {
		states->settled++;
		error = settle(states, version);
	}
	if (!error)
		error = mojo_freeze(states->store, "state", 5, NULL, NULL, &version);
	if (!error)
		error = settle(states, version);

	active = mojo_active_version(states->store);
	older = active > 4 ? (uint32_t)(choice % (active - 4)) + 1 : 0;
	for (uint32_t from = 1; !error && (error = mojo_version_next(states->store, from, &info)) == 0 && !info.active;
	     from = info.version + 1) {
		if (info.version == older || info.version + 3 >= active)
			error = put_version(states, &info);
	}
	return error;
}

static void on_finding(void *arg, const struct mojo_finding *finding)
{
	(void)arg;
	fprintf(stderr, "power_states: mojo_check: %s\n", finding->text);
}

/* Nothing is wrong with the store that the settling leaves. */
static int look(struct mojo_io *io)
{
	struct mojo_check_options options = { .finding = on_finding };
	struct mojo_check_result result;
	int error = mojo_check(io, &options, &result);

	if (error)
		return error;
	return result.errors + result.warnings > 0 ? -EUCLEAN : 0;
}

/* 0, or 1 if the state is not what it must be. */
static int show(struct states *states, const struct power *power, uint64_t seed)
{
	struct mojo_config config = {
		.no_background = true, .flush_ms = UINT32_MAX, .event = on_event, .event_arg = states
	};
	struct mojo_io *io = power_build_random(power, seed);
	int error = mojo_open(io, &config, &states->store);
	char line[64];

	if (!error && states->versions) {
		error = put_versions(states, seed);
		if (!error)
			error = mojo_close(states->store);
		else
			mojo_abandon(states->store);
		if (!error)
			error = look(io);
	} else if (!error) {
		error = put_files(states, MOJO_ACTIVE, MOJO_ROOT_BUCKET, states->directory, false);
		mojo_abandon(states->store);
	} else if (!states->marked) {
		error = 0; /* it is still being made */
	}
	mojo_io_free(io);
	if (error) {
		static char text[4000];

		power_describe(power, text, sizeof(text));
		fprintf(stderr, "power_states: state with seed %" PRIu64 ": %s\n%s\n", seed, strerror(-error), text);
		return 1;
	}
	printf("%" PRIu64, power_moment(power));
	for (unsigned i = 0; i < CLASSES; i++) {
		if (states->marks[i])
			printf(" %u:%" PRIu64, i, states->marks[i] - 1);
	}
	printf("\n");
	fflush(stdout);
	return fgets(line, sizeof(line), stdin) ? 0 : 1;
}

static void *load(const char *path, size_t *ret_length)
{
	FILE *file = fopen(path, "rb");
	char *bytes = NULL;
	struct stat st;

	if (!file)
		return NULL;
	if (fstat(fileno(file), &st) == 0 && (bytes = malloc((size_t)st.st_size + 1)) != NULL)
		*ret_length = fread(bytes, 1, (size_t)st.st_size, file);
	fclose(file);
	return bytes;
}

int main(int argc, char **argv)
{
	struct states states = { .marked = false };
	uint64_t seed, count, moments = 0, moment = 0, done = 0;
	struct power *power;
	size_t length;
	void *bytes;
	int status = 0;

	if (argc > 1 && strcmp(argv[1], "-v") == 0) {
		states.versions = true;
		argv++;
		argc--;
	}
	if (argc != 5) {
		fprintf(stderr, "usage: power_states [-v] RECORDING SEED COUNT DIRECTORY\n");
		return 2;
	}
	bytes = load(argv[1], &length);
	if (!bytes) {
		fprintf(stderr, "power_states: %s: %s\n", argv[1], strerror(errno));
		return 2;
	}
	seed = strtoull(argv[2], NULL, 0);
	count = strtoull(argv[3], NULL, 0);
	states.directory = argv[4];

	power = power_new(bytes, length, NULL, NULL, NULL);
	while (power_next(power))
		moments++;
	power_free(power);
	power = power_new(bytes, length, NULL, on_mark, &states);
	while (!status && power_next(power)) {
		moment++;
		/* Every tenth state is the one with nothing that need not be there, or with everything. */
		for (; !status && done < moment * count / moments; done++)
			status = show(&states, power, done % 10 == 0 ? done / 10 % 2 : seed + 2 + done);
	}
	power_free(power);
	free(bytes);
	if (states.versions)
		fprintf(stderr, "power_states: a version had to be settled in %" PRIu64 " states\n", states.settled);
	return status;
}
