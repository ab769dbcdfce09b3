/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../src/mojo.h"
#include "cmd.h"
#include "output.h"
#include "target.h"

enum { KEY_PAGE_SIZE = 0x200, KEY_PAGES_PER_SLOT, KEY_CHUNK_SIZE };

struct arguments {
	struct cmd_common common;
	const char *store;
	struct mojo_geometry geometry;
};

/* Value of an option that must be a power of two from @min to @max. */
static uint64_t power_value(const struct argp_state *state, const char *what, const char *text, uint64_t min,
			    uint64_t max)
{
	char low[OUTPUT_BYTES_SIZE], high[OUTPUT_BYTES_SIZE];
	uint64_t value = cmd_size_value(state, what, text);

	if (value < min || value > max || (value & (value - 1)) != 0)
		argp_error(state, "%s: %s is not possible: it must be a power of two from %s to %s", what, text,
			   format_size(min, low), format_size(max, high));
	return value;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *arguments = state->input;
	struct mojo_geometry *geometry = &arguments->geometry;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &arguments->common;
		return 0;
	case KEY_PAGE_SIZE:
		geometry->page_size =
			(uint32_t)power_value(state, "--page-size", arg, MOJO_PAGE_SIZE_MIN, MOJO_PAGE_SIZE_MAX);
		return 0;
	case KEY_PAGES_PER_SLOT:
		geometry->pages_per_slot =
			(uint32_t)power_value(state, "--pages-per-slot", arg, MOJO_PPS_MIN, MOJO_PPS_MAX);
		return 0;
	case KEY_CHUNK_SIZE:
		geometry->chunk_bytes =
			power_value(state, "--chunk-size", arg, MOJO_CHUNK_BYTES_MIN, MOJO_CHUNK_BYTES_MAX);
		return 0;
	case ARGP_KEY_ARG:
		if (arguments->store)
			argp_error(state, "\"%s\" is one argument too many", arg);
		arguments->store = arg;
		return 0;
	case ARGP_KEY_END:
		if (!arguments->store)
			argp_error(state, "the directory for the store is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option options[] = {
	{ "page-size", KEY_PAGE_SIZE, "SIZE", 0, "Unit of content: 4K (unless set), 8K, 16K, 32K or 64K", 0 },
	{ "pages-per-slot", KEY_PAGES_PER_SLOT, "COUNT", 0,
	  "Unit of the index: 64 to 64K pages, a power of two; 4K unless set", 0 },
	{ "chunk-size", KEY_CHUNK_SIZE, "SIZE", 0, "Size of a data file: 4M to 1G, a power of two; 64M unless set", 0 },
	{ 0 },
};

static const struct argp_child children[] = { { &cmd_common_argp, 0, NULL, 0 }, { 0 } };

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "STORE",
	.doc = "Make a new, empty store in the directory STORE, which is made if it does not exist."
	       "\v"
	       "What is set here is fixed for the life of the store. SIZE and COUNT may have a K, M or G behind them. "
	       "mojofs-fuse makes a store by itself, too, where none is.",
	.children = children,
};

/* Keeps the last error back, in *@arg: there may be something better to say. */
static void on_event(void *arg, enum mojo_severity severity, const char *text)
{
	char **error_text = arg;

	if (severity == MOJO_WARNING)
		complain("%s", text);
	if (severity != MOJO_ERROR)
		return;
	free(*error_text);
	*error_text = strdup(text);
}

static int make_store(const struct arguments *arguments)
{
	struct mojo_geometry geometry = arguments->geometry;
	char why[OUTPUT_REASON_SIZE], *error_text = NULL;
	struct mojo_config config = { .event = on_event, .event_arg = &error_text };
	const char *store = arguments->store;
	struct mojo_io *io = NULL;
	int error;

	geometry.root_uid = geteuid();
	geometry.root_gid = getegid();
	error = mojo_io_host(store, &io);
	if (!error)
		error = mojo_create(io, &geometry, &config);
	mojo_io_free(io);
	if (error == -EEXIST)
		complain("%s: is a store already; it was left as it is", store);
	else if (error == -ENOTEMPTY)
		complain("%s: is not empty; name an empty directory, or one that does not exist", store);
	else if (error == -ENOTDIR)
		complain("%s: is not a directory", store);
	else if (error)
		complain("%s: the store could not be made: %s", store, error_text ? error_text : reason(error, why));
	free(error_text);
	return error;
}

static int print_store(const struct arguments *arguments)
{
	char page[OUTPUT_BYTES_SIZE], chunk[OUTPUT_BYTES_SIZE];
	struct report_counter *counters;
	struct target *target;
	struct mojo_info info;
	size_t count;
	int error;

	error = target_open(arguments->store, false, &target);
	if (error)
		return error;
	error = target_info(target, &info, &counters, &count);
	if (error) {
		target_close(target);
		return error;
	}
	if (arguments->common.json) {
		putchar('{');
		print_json_member("store", target_store(target));
		printf(",\"store_id\":\"%s\",\"page_size\":%" PRIu32 ",\"pages_per_slot\":%" PRIu32
		       ",\"chunk_bytes\":%" PRIu64 "}\n",
		       info.store_id, info.page_size, info.pages_per_slot, info.chunk_bytes);
	} else {
		printf("made a store in ");
		print_escaped(stdout, target_store(target), strlen(target_store(target)), false);
		printf(": pages of %s, %" PRIu32 " pages a slot, chunks of %s\n", format_bytes(info.page_size, page),
		       info.pages_per_slot, format_bytes(info.chunk_bytes, chunk));
	}
	free(counters);
	return target_close(target);
}

static int run(int argc, char **argv)
{
	struct arguments arguments = { 0 };
	char why[OUTPUT_REASON_SIZE];
	int in_mount;
	bool is_made;

	cmd_parse(&argp, argc, argv, &arguments);
	in_mount = target_in_mount(arguments.store);
	if (in_mount > 0)
		complain("%s: lies in a mojofs mount; a store belongs on an ordinary file system", arguments.store);
	if (in_mount != 0)
		return CMD_FAILED;
	is_made = mkdir(arguments.store, 0777) == 0;
	if (!is_made && errno != EEXIST) {
		complain("%s: the directory could not be made: %s", arguments.store, reason(errno, why));
		return CMD_FAILED;
	}
	if (make_store(&arguments) != 0) {
		/* Only an empty one: what a creation that failed half-way left there can be looked at. */
		if (is_made)
			rmdir(arguments.store);
		return CMD_FAILED;
	}
	return print_store(&arguments) == 0 ? CMD_OK : CMD_FAILED;
}

const struct command cmd_create = { "create", "Make a new, empty store", run };
