/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "output.h"
#include "target.h"

enum { KEY_UTC = 0x200, KEY_FROM, KEY_LIMIT };

struct arguments {
	struct cmd_common common;
	const char *path;
	uint32_t from;  /* 0: not given */
	uint64_t limit; /* UINT64_MAX: none */
	bool utc;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &arguments->common;
		return 0;
	case KEY_UTC:
		arguments->utc = true;
		return 0;
	case KEY_FROM:
		arguments->from = cmd_version_value(state, arg);
		return 0;
	case KEY_LIMIT:
		arguments->limit = cmd_number_value(state, "--limit", arg);
		return 0;
	case ARGP_KEY_ARG:
		if (arguments->path)
			argp_error(state, "\"%s\" is one argument too many", arg);
		arguments->path = arg;
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
	{ "from", KEY_FROM, "VERSION", 0, "Begin with this version", 0 },
	{ "limit", KEY_LIMIT, "COUNT", 0, "At most so many: the newest, or with --from the first from there on", 0 },
	{ "utc", KEY_UTC, NULL, 0, "Show times in UTC instead of local time", 0 },
	{ 0 },
};

static const struct argp_child children[] = { { &cmd_common_argp, 0, NULL, 0 }, { 0 } };

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "PATH",
	.doc = "List the versions of a store that are kept: number, time of the commit, and message. The active version, "
	       "the only one that can still change, is marked with a star."
	       "\v"
	       "PATH is the directory of a store, a mount point, or anything inside a mount. Control characters in a "
	       "message are shown as \\n, \\t or \\xHH, and a backslash as two.",
	.children = children,
};

/* Called for each version; false stops. */
typedef bool version_fn(void *arg, const struct mojo_version_info *info);

static int for_each(struct target *target, uint32_t from, version_fn *fn, void *arg)
{
	bool goes_on = true;

	while (goes_on && from <= MOJO_VERSION_MAX) {
		struct mojo_version_info *infos;
		size_t count;
		int error;

		error = target_versions(target, from, &infos, &count);
		if (error)
			return error;
		goes_on = count > 0;
		for (size_t i = 0; i < count && goes_on; i++) {
			from = infos[i].version + 1;
			goes_on = fn(arg, &infos[i]);
		}
		free(infos);
	}
	return 0;
}

static bool count_one(void *arg, const struct mojo_version_info *info)
{
	uint64_t *count = arg;

	(void)info;
	++*count;
	return true;
}

/*
 * Where to begin for the newest @limit versions. Versions can only be walked upward, and some may have been
 * dropped: look from ever further back until there are enough. *ret_skip of them are too many.
 */
static int find_start(struct target *target, uint64_t limit, uint32_t *ret_from, uint64_t *ret_skip)
{
	struct report_counter *counters;
	struct mojo_info info;
	uint64_t width, count = 0;
	uint32_t from;
	size_t unused;
	int error;

	error = target_info(target, &info, &counters, &unused);
	if (error)
		return error;
	free(counters);
	for (width = limit;; width *= 2) {
		from = width <= info.active_version - info.oldest_version ? (uint32_t)(info.active_version - width + 1)
									  : info.oldest_version;
		count = 0;
		error = for_each(target, from, count_one, &count);
		if (error)
			return error;
		if (count >= limit || from == info.oldest_version)
			break;
	}
	*ret_from = from;
	*ret_skip = count > limit ? count - limit : 0;
	return 0;
}

struct printer {
	const struct arguments *arguments;
	uint64_t skip;
	uint64_t left;
	uint64_t printed;
	int error;
};

static void print_human(const struct mojo_version_info *info, bool utc)
{
	char time[OUTPUT_TIME_SIZE];

	printf("%c %8" PRIu32 "  %-*s", info->active ? '*' : ' ', info->version, info->message[0] ? 22 : 0,
	       info->active ? "(active)" : format_time(info->time_ns, utc, time));
	print_escaped(stdout, info->message, strlen(info->message), true);
	if (info->verdict != MOJO_VERDICT_UNKNOWN) {
		printf("%s[%s", info->message[0] ? " " : "  ", info->verdict == MOJO_VERDICT_GOOD ? "verified" : "bad");
		if (info->verdict_text[0]) {
			fputs(": ", stdout);
			print_escaped(stdout, info->verdict_text, strlen(info->verdict_text), true);
		}
		putchar(']');
	}
	putchar('\n');
}

static int print_json(const struct mojo_version_info *info, bool is_first)
{
	size_t used;
	char *text;

	if (report_versions_to_json(info, 1, SIZE_MAX, &used, &text) != 0) {
		complain("out of memory");
		return -ENOMEM;
	}
	/* The element without the brackets. */
	printf("%s%.*s", is_first ? "" : ",", (int)strlen(text) - 2, text + 1);
	free(text);
	return 0;
}

static bool print_one(void *arg, const struct mojo_version_info *info)
{
	struct printer *printer = arg;

	if (printer->skip > 0) {
		printer->skip--;
		return true;
	}
	if (printer->left == 0)
		return false;
	printer->left--;
	if (printer->arguments->common.json)
		printer->error = print_json(info, printer->printed == 0);
	else
		print_human(info, printer->arguments->utc);
	printer->printed++;
	return printer->error == 0 && printer->left > 0;
}

static int print_versions(struct target *target, const struct arguments *arguments)
{
	struct printer printer = { .arguments = arguments, .left = arguments->limit };
	uint32_t from = arguments->from ? arguments->from : 1;
	int error;

	if (arguments->limit != UINT64_MAX && arguments->limit > 0 && !arguments->from) {
		error = find_start(target, arguments->limit, &from, &printer.skip);
		if (error)
			return error;
	}
	if (arguments->common.json)
		putchar('[');
	else
		printf("  %8s  %-20s  %s\n", "VERSION", "TIME", "MESSAGE");
	error = for_each(target, from, print_one, &printer);
	if (arguments->common.json)
		puts("]");
	return error ? error : printer.error;
}

static int run(int argc, char **argv)
{
	struct arguments arguments = { .limit = UINT64_MAX };
	struct target *target;
	int error;

	cmd_parse(&argp, argc, argv, &arguments);
	if (target_open(arguments.path, false, &target) != 0)
		return CMD_FAILED;
	error = print_versions(target, &arguments);
	if (target_close(target) != 0 || error)
		return CMD_FAILED;
	return CMD_OK;
}

const struct command cmd_versions = { "versions", "List the versions of a store", run };
