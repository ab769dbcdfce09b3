/* SPDX-License-Identifier: MIT */
/*
 * mojofs - look at a store of mojofs, and commit, whether it is mounted or not.
 */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../src/mojo.h"
#include "cmd.h"
#include "output.h"

static const struct command *const commands[] = {
	&cmd_create, &cmd_state, &cmd_versions, &cmd_commit, &cmd_ls, &cmd_map, &cmd_check,
};

#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* ---- what the commands share ---------------------------------------------------------------- */

enum { KEY_JSON = 0x100, KEY_USAGE, KEY_VERSION };

static error_t parse_common(int key, char *arg, struct argp_state *state)
{
	struct cmd_common *common = state->input;

	(void)arg;
	switch (key) {
	case 'h':
		argp_state_help(state, state->out_stream, ARGP_HELP_STD_HELP);
		return 0;
	case KEY_USAGE:
		argp_state_help(state, state->out_stream, ARGP_HELP_USAGE | ARGP_HELP_EXIT_OK);
		return 0;
	case KEY_JSON:
		common->json = true;
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option common_options[] = {
	{ "json", KEY_JSON, NULL, 0, "Print JSON, for programs", 1 },
	{ "help", 'h', NULL, 0, "Print this and end", -1 },
	{ "usage", KEY_USAGE, NULL, 0, "Print a short summary of the options and end", -1 },
	{ 0 },
};

const struct argp cmd_common_argp = { .options = common_options, .parser = parse_common };

void cmd_parse(const struct argp *argp, int argc, char **argv, void *input)
{
	int error = argp_parse(argp, argc, argv, ARGP_NO_HELP, NULL, input);
	char why[OUTPUT_REASON_SIZE];

	if (!error)
		return;
	complain("%s", reason(error, why));
	exit(CMD_FAILED);
}

/* Digits at the start of @text; *ret_end is what follows. */
static bool parse_digits(const char *text, uint64_t *ret_number, const char **ret_end)
{
	char *end;

	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	*ret_number = strtoull(text, &end, 10);
	*ret_end = end;
	return errno == 0;
}

uint64_t cmd_number_value(const struct argp_state *state, const char *what, const char *text)
{
	uint64_t number = 0;
	const char *end;

	if (!parse_digits(text, &number, &end) || *end)
		argp_error(state, "%s: \"%s\" is not a number", what, text);
	return number;
}

uint32_t cmd_version_value(const struct argp_state *state, const char *text)
{
	uint64_t version = cmd_number_value(state, "version", text);

	if (version == 0 || version > MOJO_VERSION_MAX)
		argp_error(state, "version %s is out of range: 1 to %u", text, MOJO_VERSION_MAX);
	return (uint32_t)version;
}

uint64_t cmd_size_value(const struct argp_state *state, const char *what, const char *text)
{
	uint64_t number = 0, unit = 1;
	const char *end = "";

	if (!parse_digits(text, &number, &end))
		argp_error(state, "%s: \"%s\" is not a size; write it like 65536, 64K or 64M", what, text);
	switch (*end) {
	case 'k':
	case 'K':
		unit = UINT64_C(1) << 10;
		break;
	case 'm':
	case 'M':
		unit = UINT64_C(1) << 20;
		break;
	case 'g':
	case 'G':
		unit = UINT64_C(1) << 30;
		break;
	default:
		break;
	}
	if (unit > 1) {
		end++;
		if (strcmp(end, "iB") == 0)
			end += 2;
	}
	if (*end || __builtin_mul_overflow(number, unit, &number))
		argp_error(state, "%s: \"%s\" is not a size; write it like 65536, 64K or 64M", what, text);
	return number;
}

/* ---- the program ---------------------------------------------------------------------------- */

struct invocation {
	int command; /* index of the command's name in argv; 0: none */
};

static error_t parse_main(int key, char *arg, struct argp_state *state)
{
	struct invocation *invocation = state->input;

	(void)arg;
	switch (key) {
	case 'h':
		argp_state_help(state, state->out_stream, ARGP_HELP_STD_HELP);
		return 0;
	case KEY_USAGE:
		argp_state_help(state, state->out_stream, ARGP_HELP_USAGE | ARGP_HELP_EXIT_OK);
		return 0;
	case KEY_VERSION:
		puts("mojofs " PACKAGE_VERSION);
		exit(CMD_OK);
	case ARGP_KEY_ARG:
		/* What follows belongs to the command. */
		invocation->command = state->next - 1;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "a command is missing");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option main_options[] = {
	{ "version", KEY_VERSION, NULL, 0, "Print the version of this program and end", -1 },
	{ "help", 'h', NULL, 0, "Print this and end", -1 },
	{ "usage", KEY_USAGE, NULL, 0, "Print a short summary of the options and end", -1 },
	{ 0 },
};

/* The list of commands for --help. Returns malloc()ed text, which argp frees, or @text. */
static char *add_commands(int key, const char *text, void *input)
{
	char *list = NULL;
	size_t size;
	FILE *file;

	(void)input;
	if (key != ARGP_KEY_HELP_POST_DOC)
		return (char *)text;
	file = open_memstream(&list, &size);
	if (!file)
		return (char *)text;
	fputs("Commands:\n", file);
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(file, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(file, "\n%s", text ? text : "");
	return fclose(file) == 0 ? list : (char *)text;
}

static const struct argp main_argp = {
	.options = main_options,
	.parser = parse_main,
	.args_doc = "COMMAND [ARGUMENT...]",
	.doc = "Look at a store of mojofs, the versioning file system for SQLite, and commit versions of it."
	       "\v"
	       "What a command works on may be named by the directory of a store, by the mount point where it is "
	       "mounted, or by anything inside that mount.\n\n"
	       "For the arguments of a command: mojofs COMMAND --help",
	.help_filter = add_commands,
};

/* Whoever starts a program may have closed these. The next file opened, a chunk perhaps, would be what is
 * printed to: put something there that refuses to be read and written the usual way. */
static bool guard_standard_files(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct invocation invocation = { 0 };
	const char *name;
	char title[64];

	if (!guard_standard_files())
		return CMD_FAILED;
	argp_err_exit_status = CMD_USAGE;
	atexit(close_output);
	if (argc > 0)
		argv[0] = (char *)"mojofs"; /* in messages, wherever the program lies */
	if (argp_parse(&main_argp, argc, argv, ARGP_IN_ORDER | ARGP_NO_HELP, NULL, &invocation) != 0 ||
	    invocation.command == 0)
		return CMD_USAGE;

	name = argv[invocation.command];
	for (size_t i = 0; i < COMMANDS; i++) {
		if (strcmp(name, commands[i]->name) != 0)
			continue;
		snprintf(title, sizeof(title), "mojofs %s", name);
		argv[invocation.command] = title;
		return commands[i]->run(argc - invocation.command, argv + invocation.command);
	}
	complain("\"%s\" is no command; the commands are listed by: mojofs --help", name);
	return CMD_USAGE;
}
