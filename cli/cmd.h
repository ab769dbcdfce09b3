/* SPDX-License-Identifier: MIT */
/*
 * cmd.h - the commands of `mojofs`.
 *
 * A command is one file cmd_NAME.c, one struct command declared here, and one line in the table of main.c.
 */
#ifndef CLI_CMD_H
#define CLI_CMD_H

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

enum { CMD_OK = 0, CMD_FAILED = 1, CMD_USAGE = 2 }; /* exit codes */

struct command {
	const char *name;
	const char *summary; /* one line for the list of commands */
	/* @argv[0] is "mojofs NAME". Returns an exit code; wrong usage may end the program with CMD_USAGE. */
	int (*run)(int argc, char **argv);
};

extern const struct command cmd_create;
extern const struct command cmd_state;
extern const struct command cmd_versions;
extern const struct command cmd_commit;
extern const struct command cmd_ls;
extern const struct command cmd_map;
extern const struct command cmd_check;

/* What all commands understand: -h, --help, --usage, --json. As a child, it wants this as its input. */
struct cmd_common {
	bool json;
};
extern const struct argp cmd_common_argp;

/*
 * cmd_parse - argp_parse() with the habits of this program; ends it after --help or an error.
 * @input: what @argp's parser gets; its ARGP_KEY_INIT sets state->child_inputs[0] to a struct cmd_common
 */
void cmd_parse(const struct argp *argp, int argc, char **argv, void *input);

/* Values of options; what is wrong ends the program by argp_error(). @what names the option's value. */
uint32_t cmd_version_value(const struct argp_state *state, const char *text);
uint64_t cmd_number_value(const struct argp_state *state, const char *what, const char *text);
/* With K, M, G behind it, powers of 1024. */
uint64_t cmd_size_value(const struct argp_state *state, const char *what, const char *text);

#endif
