/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd.h"
#include "output.h"
#include "target.h"

enum { KEY_UTC = 0x200 };

struct arguments {
	struct cmd_common common;
	const char *path;
	const char *name; /* NULL: none */
	uint32_t version; /* 0: not given */
	bool is_long;
	bool is_recursive;
	bool utc;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &arguments->common;
		return 0;
	case 'V':
		arguments->version = cmd_version_value(state, arg);
		return 0;
	case 'l':
		arguments->is_long = true;
		return 0;
	case 'R':
		arguments->is_recursive = true;
		return 0;
	case KEY_UTC:
		arguments->utc = true;
		return 0;
	case ARGP_KEY_ARG:
		if (!arguments->path)
			arguments->path = arg;
		else if (!arguments->name)
			arguments->name = arg;
		else
			argp_error(state, "\"%s\" is one argument too many", arg);
		return 0;
	case ARGP_KEY_END:
		if (!arguments->path)
			argp_error(state, "the store or mount is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option options[] = {
	{ "version", 'V', "VERSION", 0, "The tree as it was in this version; the active one unless set", 0 },
	{ "long", 'l', NULL, 0, "Type and permissions, owner and group, and where symbolic links point, too", 0 },
	{ "recursive", 'R', NULL, 0, "What is in the directories below, too", 0 },
	{ "utc", KEY_UTC, NULL, 0, "Show times in UTC instead of local time", 0 },
	{ 0 },
};

static const struct argp_child children[] = { { &cmd_common_argp, 0, NULL, 0 }, { 0 } };

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "PATH [FILE]",
	.doc = "List the files of a version: bucket (the number under which the store keeps the file), pages that have "
	       "content, size, time of the last change, and name."
	       "\v"
	       "PATH is the directory of a store, a mount point, or a directory or file inside a mount; FILE, a directory "
	       "or file, is relative to it. A path may begin with @vN to name a version: @v3/sub. Control characters in "
	       "a name are shown as \\n, \\t or \\xHH, and a backslash as two.",
	.children = children,
};

/* What is listed, as it goes down the tree. */
struct lister {
	struct target *target;
	const struct arguments *arguments;
	uint32_t version;
	uint64_t printed;
};

static const char *type_name(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	default:
		return "unknown";
	}
}

/* "drwxr-xr-x" */
static void format_mode(uint32_t mode, char buf[11])
{
	static const char letters[] = "rwxrwxrwx";

	switch (mode & S_IFMT) {
	case S_IFDIR:
		buf[0] = 'd';
		break;
	case S_IFLNK:
		buf[0] = 'l';
		break;
	case S_IFIFO:
		buf[0] = 'p';
		break;
	case S_IFSOCK:
		buf[0] = 's';
		break;
	case S_IFCHR:
		buf[0] = 'c';
		break;
	case S_IFBLK:
		buf[0] = 'b';
		break;
	default:
		buf[0] = '-';
		break;
	}
	for (unsigned i = 0; i < 9; i++)
		buf[1 + i] = mode & (0400u >> i) ? letters[i] : '-';
	if (mode & S_ISUID)
		buf[3] = mode & 0100 ? 's' : 'S';
	if (mode & S_ISGID)
		buf[6] = mode & 0010 ? 's' : 'S';
	if (mode & S_ISVTX)
		buf[9] = mode & 0001 ? 't' : 'T';
	buf[10] = '\0';
}

static void print_header(const struct arguments *arguments)
{
	if (arguments->is_long)
		printf("%-10s  %-11s  ", "MODE", "OWNER");
	printf("%10s  %10s  %14s  %-*s  %s\n", "BUCKET", "PAGES", "SIZE", arguments->utc ? 20 : 19, "MODIFIED", "NAME");
}

static void print_human(const struct arguments *arguments, const struct target_entry *entry, const char *path,
			const char *link)
{
	const struct mojo_attr *attr = &entry->attr;
	char mode[11], owner[24], time[OUTPUT_TIME_SIZE];

	if (arguments->is_long) {
		format_mode(attr->mode, mode);
		snprintf(owner, sizeof(owner), "%" PRIu32 ":%" PRIu32, attr->uid, attr->gid);
		printf("%s  %-11s  ", mode, owner);
	}
	if (entry->has_bucket)
		printf("%10" PRIu32 "  ", attr->bucket);
	else
		printf("%10s  ", "-");
	if (S_ISREG(attr->mode))
		printf("%10" PRIu64 "  %14" PRIu64 "  ", attr->pages, attr->size);
	else
		printf("%10s  %14s  ", "-", "-");
	printf("%s  ", format_time(attr->mtime_ns, arguments->utc, time));
	print_escaped(stdout, path, strlen(path), true);
	if (S_ISDIR(attr->mode))
		putchar('/');
	if (link) {
		printf(" -> ");
		print_escaped(stdout, link, strlen(link), true);
	}
	putchar('\n');
}

static void print_json(const struct target_entry *entry, const char *path, const char *link, bool is_first)
{
	const struct mojo_attr *attr = &entry->attr;
	char time[REPORT_TIME_SIZE];

	printf("%s{", is_first ? "" : ",");
	print_json_member("path", path);
	printf(",\"type\":\"%s\",\"bucket\":", type_name(attr->mode));
	if (entry->has_bucket)
		printf("%" PRIu32, attr->bucket);
	else
		printf("null");
	if (S_ISREG(attr->mode))
		printf(",\"size\":%" PRIu64 ",\"pages\":%" PRIu64, attr->size, attr->pages);
	report_time_to_text(attr->mtime_ns, time);
	printf(",\"mode\":\"%04o\",\"uid\":%" PRIu32 ",\"gid\":%" PRIu32 ",\"mtime\":\"%s\"", attr->mode & 07777u,
	       attr->uid, attr->gid, time);
	if (link) {
		putchar(',');
		print_json_member("target", link);
	}
	putchar('}');
}

/* @path from the root of the version. */
static int find(const struct lister *lister, const char *path, struct target_file *ret_file)
{
	char *rooted;
	int error;

	if (asprintf(&rooted, "/%s", path) < 0) {
		complain("out of memory");
		return -ENOMEM;
	}
	error = target_find(lister->target, lister->version, rooted, ret_file);
	free(rooted);
	return error;
}

static int read_link(const struct lister *lister, const char *path, char **ret_link)
{
	struct target_file file;
	int error;

	error = find(lister, path, &file);
	if (error)
		return error;
	error = target_readlink(lister->target, &file, ret_link);
	target_file_free(&file);
	return error;
}

static int print_entry(struct lister *lister, const struct target_entry *entry, const char *path)
{
	const struct arguments *arguments = lister->arguments;
	char *link = NULL;
	int error;

	if (S_ISLNK(entry->attr.mode) && (arguments->is_long || arguments->common.json)) {
		error = read_link(lister, path, &link);
		if (error)
			return error;
	}
	if (arguments->common.json)
		print_json(entry, path, link, lister->printed == 0);
	else
		print_human(arguments, entry, path, link);
	free(link);
	lister->printed++;
	return 0;
}

static int list(struct lister *lister, const struct target_file *dir);

/* Directories within directories: as deep as the paths of a store can be. */
static int list_below(struct lister *lister, const char *path)
{
	struct target_file dir;
	int error;

	error = find(lister, path, &dir);
	if (error)
		return error;
	error = list(lister, &dir);
	target_file_free(&dir);
	return error;
}

static int list(struct lister *lister, const struct target_file *dir)
{
	struct target_entry *entries;
	size_t count;
	int error;

	error = target_list(lister->target, dir, &entries, &count);
	if (error)
		return error;
	for (size_t i = 0; i < count && !error; i++) {
		char *path;

		if (asprintf(&path, "%s%s%s", dir->path, dir->path[0] ? "/" : "", entries[i].name) < 0) {
			complain("out of memory");
			error = -ENOMEM;
			break;
		}
		error = print_entry(lister, &entries[i], path);
		if (!error && lister->arguments->is_recursive && S_ISDIR(entries[i].attr.mode))
			error = list_below(lister, path);
		free(path);
	}
	target_list_free(entries, count);
	return error;
}

static int run_on(struct target *target, const struct arguments *arguments)
{
	struct lister lister = { .target = target, .arguments = arguments };
	struct target_file file;
	int error;

	error = target_find(target, arguments->version, arguments->name, &file);
	if (error)
		return error;
	lister.version = file.version;
	if (arguments->common.json)
		printf("{\"version\":%" PRIu32 ",\"active\":%s,\"entries\":[", file.version,
		       file.active ? "true" : "false");
	else
		print_header(arguments);
	if (S_ISDIR(file.attr.mode)) {
		error = list(&lister, &file);
	} else {
		struct target_entry entry = { .name = file.path, .has_bucket = file.has_bucket, .attr = file.attr };

		error = print_entry(&lister, &entry, file.path);
	}
	if (arguments->common.json)
		puts("]}");
	target_file_free(&file);
	return error;
}

static int run(int argc, char **argv)
{
	struct arguments arguments = { 0 };
	struct target *target;
	int error;

	cmd_parse(&argp, argc, argv, &arguments);
	if (target_open(arguments.path, false, &target) != 0)
		return CMD_FAILED;
	error = run_on(target, &arguments);
	if (target_close(target) != 0 || error)
		return CMD_FAILED;
	return CMD_OK;
}

const struct command cmd_ls = { "ls", "List the files of a version", run };
