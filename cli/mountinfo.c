/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mountinfo.h"
#include "target_ops.h"

#define MOUNT_TYPE "fuse.mojofs-fuse"

/* The fields of a line that matter here; they point into it. */
struct mount_line {
	char *root;
	char *mount;
	char *type;
	char *source;
};

/* In place: the kernel writes space, tab, newline and backslash as \ooo. */
static void unescape(char *text)
{
	char *to = text;

	while (*text) {
		if (text[0] == '\\' && text[1] >= '0' && text[1] <= '3' && text[2] >= '0' && text[2] <= '7' &&
		    text[3] >= '0' && text[3] <= '7') {
			*to++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0'));
			text += 4;
		} else {
			*to++ = *text++;
		}
	}
	*to = '\0';
}

/* "36 35 98:0 /root /mount options [optional ...] - type source options" */
static bool parse(char *line, struct mount_line *ret_line)
{
	char *fields[5], *tail = strstr(line, " - ");
	char *save = NULL;

	if (!tail)
		return false;
	*tail = '\0';
	for (int i = 0; i < 5; i++) {
		fields[i] = strtok_r(i ? NULL : line, " ", &save);
		if (!fields[i])
			return false;
	}
	ret_line->root = fields[3];
	ret_line->mount = fields[4];
	ret_line->type = strtok_r(tail + 3, " ", &save);
	ret_line->source = strtok_r(NULL, " \n", &save);
	if (!ret_line->type || !ret_line->source)
		return false;
	unescape(ret_line->root);
	unescape(ret_line->mount);
	unescape(ret_line->source);
	return true;
}

static bool is_same_directory(const char *a, const char *b)
{
	struct stat stat_a, stat_b;

	if (strcmp(a, b) == 0)
		return true;
	return a[0] == '/' && stat(a, &stat_a) == 0 && stat(b, &stat_b) == 0 && stat_a.st_dev == stat_b.st_dev &&
	       stat_a.st_ino == stat_b.st_ino;
}

/* Does the mount @line match @wanted? */
typedef bool match_fn(const struct mount_line *line, const char *wanted);

static bool has_source(const struct mount_line *line, const char *store)
{
	return is_same_directory(line->source, store);
}

/*
 * A mount made with another fsname has any source; its daemon knows. One whose source is some other store is
 * not asked: it cannot be the one, and its daemon may be slow, or stopped.
 */
static bool says_store(const struct mount_line *line, const char *store)
{
	char *state = NULL, *answer;
	bool same, other;

	if (asprintf(&state, "%s/mojo.state", line->source) < 0)
		return false;
	other = line->source[0] == '/' && access(state, F_OK) == 0;
	free(state);
	if (other)
		return false;
	answer = mounted_store(line->mount);
	same = answer && is_same_directory(answer, store);
	free(answer);
	return same;
}

static bool is_above(const struct mount_line *line, const char *path)
{
	size_t length = strlen(line->mount);

	return strncmp(line->mount, path, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static int find(match_fn *match, const char *wanted, char **ret_mount)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *mount = NULL;
	size_t size = 0;
	int error = 0;

	if (!file)
		return -ENOENT;
	while (!error && getline(&line, &size, file) > 0) {
		struct mount_line parsed;

		/* A mount of a part (by mount --bind) has no root to ask. */
		if (!parse(line, &parsed) || strcmp(parsed.type, MOUNT_TYPE) != 0 || strcmp(parsed.root, "/") != 0 ||
		    !match(&parsed, wanted))
			continue;
		free(mount);
		mount = strdup(parsed.mount);
		if (!mount)
			error = -ENOMEM;
	}
	free(line);
	fclose(file);
	if (error)
		return error;
	if (!mount)
		return -ENOENT;
	*ret_mount = mount;
	return 0;
}

int mountinfo_find(const char *store, char **ret_mount)
{
	int error = find(has_source, store, ret_mount);

	return error == -ENOENT ? find(says_store, store, ret_mount) : error;
}

int mountinfo_above(const char *path, char **ret_mount)
{
	return find(is_above, path, ret_mount);
}
