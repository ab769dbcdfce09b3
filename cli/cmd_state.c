/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "output.h"
#include "target.h"

enum { KEY_UTC = 0x200, LABEL_WIDTH = 20 };

struct arguments {
	struct cmd_common common;
	const char *path;
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
	{ "utc", KEY_UTC, NULL, 0, "Show times in UTC instead of local time", 0 },
	{ 0 },
};

static const struct argp_child children[] = { { &cmd_common_argp, 0, NULL, 0 }, { 0 } };

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "PATH",
	.doc = "Show the state of a store: its geometry, versions, space and log; and, when it is mounted, what its "
	       "daemon has done since then."
	       "\v"
	       "PATH is the directory of a store, a mount point, or anything inside a mount.",
	.children = children,
};

/* ---- for people ----------------------------------------------------------------------------- */

static void label(const char *text)
{
	printf("%-*s", LABEL_WIDTH, text);
}

static void print_text(const char *name, const char *text)
{
	label(name);
	print_escaped(stdout, text, strlen(text), false);
	putchar('\n');
}

static void print_count(const char *name, uint64_t count)
{
	label(name);
	printf("%" PRIu64 "\n", count);
}

static void print_bytes(const char *name, uint64_t bytes)
{
	char buf[OUTPUT_BYTES_SIZE];

	print_text(name, format_bytes(bytes, buf));
}

static int compare_counters(const void *a, const void *b)
{
	const struct report_counter *counter_a = a, *counter_b = b;

	if (counter_a->count != counter_b->count)
		return counter_a->count < counter_b->count ? 1 : -1;
	return strcmp(counter_a->name, counter_b->name);
}

static void print_human(const struct target *target, const struct mojo_info *info, struct report_counter *counters,
			size_t count, bool utc)
{
	char time[OUTPUT_TIME_SIZE];

	print_text("store", target_store(target));
	print_text("id", info->store_id);
	print_text("created", format_time(info->created_ns, utc, time));
	print_count("format", info->format);
	if (target_mount(target)) {
		print_text("mounted on", target_mount(target));
		label("daemon");
		printf("process %ld\n", target_pid(target));
		print_text("writable", info->failed      ? "no: a write failed; unmount, mend the cause, mount again"
				       : info->read_only ? "no: mounted read-only"
							 : "yes");
	} else {
		print_text("mounted on", "(not mounted)");
	}

	puts("\ngeometry");
	print_bytes("  page size", info->page_size);
	print_count("  pages per slot", info->pages_per_slot);
	print_bytes("  chunk size", info->chunk_bytes);

	puts("\nversions");
	print_count("  active", info->active_version);
	print_count("  oldest", info->oldest_version);
	print_count("  frozen", info->frozen_versions);
	if (info->unpublished_version)
		print_count("  unpublished", info->unpublished_version);
	print_count("  files", info->files);
	print_count("  directories", info->directories);

	puts("\nspace");
	print_count("  chunks", info->chunks);
	print_bytes("  on disk", info->store_bytes);
	print_bytes("  dead", info->dead_bytes);

	puts("\nlog");
	print_bytes("  since checkpoint", info->log_bytes);
	print_count("  generation", info->generation);
	print_count("  sequence", info->sequence);

	/* Of a store that this program opened itself, a moment ago, these say nothing. */
	if (!target_mount(target))
		return;
	puts("\nsince it was mounted");
	print_bytes("  index in memory", info->cache_bytes);
	print_count("  flushes", info->flushes);
	print_count("  groups", info->groups);
	print_count("  checkpoints", info->checkpoints);
	print_count("  pages written", info->pages_written);
	print_count("  pages read", info->pages_read);
	if (count == 0)
		return;
	puts("\nrequests");
	qsort(counters, count, sizeof(*counters), compare_counters);
	for (size_t i = 0; i < count && counters[i].count > 0; i++) {
		printf("  ");
		print_escaped(stdout, counters[i].name, strlen(counters[i].name), false);
		printf("%*s%" PRIu64 "\n", (int)(LABEL_WIDTH - 2 - strlen(counters[i].name) % (LABEL_WIDTH - 2)), "",
		       counters[i].count);
	}
}

/* ---- for programs --------------------------------------------------------------------------- */

/* The engine's object, with "store", and "mount" and "pid" (or null), put before its members. */
static int print_json(const struct target *target, const struct mojo_info *info, const struct report_counter *counters,
		      size_t count)
{
	char *text;

	if (report_state_to_json(info, counters, count, &text) != 0) {
		complain("out of memory");
		return CMD_FAILED;
	}
	putchar('{');
	print_json_member("store", target_store(target));
	putchar(',');
	if (target_mount(target)) {
		print_json_member("mount", target_mount(target));
		printf(",\"pid\":%ld,", target_pid(target));
	} else {
		printf("\"mount\":null,\"pid\":null,");
	}
	puts(text + 1);
	free(text);
	return CMD_OK;
}

static int run(int argc, char **argv)
{
	struct report_counter *counters = NULL;
	struct arguments arguments = { 0 };
	struct target *target;
	struct mojo_info info;
	int status = CMD_FAILED;
	size_t count;

	cmd_parse(&argp, argc, argv, &arguments);
	if (target_open(arguments.path, false, &target) != 0)
		return CMD_FAILED;
	if (target_info(target, &info, &counters, &count) == 0) {
		status = CMD_OK;
		if (arguments.common.json)
			status = print_json(target, &info, counters, count);
		else
			print_human(target, &info, counters, count, arguments.utc);
		free(counters);
	}
	if (target_close(target) != 0)
		status = CMD_FAILED;
	return status;
}

const struct command cmd_state = { "state", "Show the state of a store", run };
