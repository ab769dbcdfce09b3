/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "output.h"
#include "target.h"

#define WAIT_MAX 1000000u

struct arguments {
	struct cmd_common common;
	const char *path;
	const char *message; /* NULL: none */
	unsigned wait_seconds;
	bool verify;
};

enum { OPTION_WAIT = 256, OPTION_VERIFY };

static void set_message(struct arguments *arguments, const struct argp_state *state, const char *text)
{
	if (arguments->message)
		argp_error(state, "there are two messages; one with spaces in it wants quotes");
	if (strlen(text) > MOJO_MESSAGE_MAX)
		argp_error(state, "the message has %zu bytes; at most %u are possible", strlen(text), MOJO_MESSAGE_MAX);
	arguments->message = text;
}

static unsigned seconds_of(const struct argp_state *state, const char *text)
{
	unsigned long seconds;
	char *end;

	errno = 0;
	seconds = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || seconds > WAIT_MAX)
		argp_error(state, "--wait: '%s' is not a number of seconds from 0 to %u", text, WAIT_MAX);
	return (unsigned)seconds;
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &arguments->common;
		return 0;
	case 'm':
		set_message(arguments, state, arg);
		return 0;
	case OPTION_WAIT:
		arguments->wait_seconds = seconds_of(state, arg);
		return 0;
	case OPTION_VERIFY:
		arguments->verify = true;
		return 0;
	case ARGP_KEY_ARG:
		if (arguments->path)
			set_message(arguments, state, arg);
		else
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
	{ "message", 'm', "MESSAGE", 0, "What the version is to be remembered by, up to 1000 bytes", 0 },
	{ "wait", OPTION_WAIT, "SECONDS", 0,
	  "If a database is in the middle of a transaction of which no journal tells, try again for so long", 0 },
	{ "verify", OPTION_VERIFY, NULL, 0,
	  "Check the databases that changed, and keep what came of it with the version; of a mounted store in the "
	  "background: mojofs versions shows it",
	  0 },
	{ 0 },
};

static const struct argp_child children[] = { { &cmd_common_argp, 0, NULL, 0 }, { 0 } };

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "PATH [MESSAGE]",
	.doc = "Freeze the active version of a store, for ever, and go on in a new one. Prints the number of the version "
	       "that is now frozen; it is on disk by then."
	       "\v"
	       "PATH is the directory of a store, a mount point, or anything inside a mount: it is always the whole store "
	       "that is committed. Programs may be writing: the databases in the version are at the end of a transaction. "
	       "Through the mount, the same is done by: setfattr -n user.mojofs.commit -v MESSAGE MOUNT",
	.children = children,
};

static int run(int argc, char **argv)
{
	struct arguments arguments = { 0 };
	struct target *target;
	const char *message;
	uint32_t version;
	int error;

	cmd_parse(&argp, argc, argv, &arguments);
	message = arguments.message ? arguments.message : "";
	if (target_open(arguments.path, true, &target) != 0)
		return CMD_FAILED;
	error = target_commit(target, message, strlen(message), arguments.wait_seconds, &version);
	if (!error) {
		if (arguments.common.json) {
			printf("{\"version\":%" PRIu32 ",", version);
			print_json_member("message", message);
			puts("}");
		} else {
			printf("version %" PRIu32 "\n", version);
		}
	}
	if (!error && arguments.verify) {
		fflush(stdout);
		error = target_verify(target, version);
	}
	if (target_close(target) != 0 || error)
		return CMD_FAILED;
	return CMD_OK;
}

const struct command cmd_commit = { "commit", "Freeze the active version and go on in a new one", run };
