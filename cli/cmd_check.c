/* SPDX-License-Identifier: MIT */
/*
 * mojofs check. A store that nobody has open is checked, and repaired, here by the engine. One that is mounted can
 * be scrubbed by its daemon, which is asked through user.mojofs.scrub.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "cmd.h"
#include "mountinfo.h"
#include "output.h"
#include "target.h"

/* As fsck(8). */
enum { CHECK_SOUND = 0, CHECK_CORRECTED = 1, CHECK_ERRORS = 4, CHECK_FAILED = 8, CHECK_USAGE = 16 };

enum { KEY_SCRUB = 0x200, KEY_REPAIR, KEY_DRY_RUN, KEY_RATE };

#define ATTRIBUTE "user.mojofs.scrub"
#define VALUE_MAX 65536u /* bytes of an extended attribute */
#define POLL_MS   200
#define REDRAW_MS 200
#define RATE_MIN  65536u

struct arguments {
	struct cmd_common common;
	const char *path;
	uint64_t rate; /* bytes a second; 0: the daemon's default */
	bool scrub, repair, dry_run;
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &arguments->common;
		return 0;
	case KEY_SCRUB:
		arguments->scrub = true;
		return 0;
	case KEY_REPAIR:
		arguments->repair = true;
		return 0;
	case KEY_DRY_RUN:
		arguments->dry_run = true;
		return 0;
	case KEY_RATE:
		arguments->rate = cmd_size_value(state, "--rate", arg);
		if (arguments->rate < RATE_MIN)
			argp_error(state, "--rate: at least 64K a second");
		return 0;
	case ARGP_KEY_ARG:
		if (arguments->path)
			argp_error(state, "\"%s\" is one argument too many", arg);
		arguments->path = arg;
		return 0;
	case ARGP_KEY_END:
		if (!arguments->path)
			argp_error(state, "the store or mount is missing");
		if (arguments->dry_run && !arguments->repair)
			argp_error(state, "--dry-run says what --repair would do, and wants it");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option options[] = {
	{ "scrub", KEY_SCRUB, NULL, 0, "Also read every page that is in use, and verify its checksum", 0 },
	{ "repair", KEY_REPAIR, NULL, 0, "Repair what can be repaired", 0 },
	{ "dry-run", KEY_DRY_RUN, NULL, 0, "With --repair: say what would be done, and change nothing", 0 },
	{ "rate", KEY_RATE, "SIZE", 0, "With --scrub on a mount: read at most so much a second (32M)", 0 },
	{ 0 },
};

static const struct argp_child children[] = { { &cmd_common_argp, 0, NULL, 0 }, { 0 } };

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "PATH",
	.doc = "Check that everything in a store is as it should be: its roots, its log, the index of every version, names "
	       "and files, and which blocks are in use and which are dead."
	       "\v"
	       "PATH is the directory of a store that is not mounted. Of one that is mounted, only the pages can be "
	       "checked, with --scrub; PATH may then be the mount point, too, and the daemon reads slowly, so that work "
	       "goes on.\n\n"
	       "The exit code is 0 if no errors were found, 1 if all were corrected, 4 if some are left, 8 if the store "
	       "could not be checked, 16 for wrong usage.",
	.children = children,
};

/* ---- printing ------------------------------------------------------------------------------- */

/* The elements of a JSON array, until it is known whether there is anything to print. */
struct list {
	char *text; /* owned */
	size_t length;
	FILE *file; /* owned; NULL: for want of memory there is no list */
};

struct printer {
	const struct arguments *arguments;
	bool has_terminal; /* stderr is one: progress is shown there */
	bool is_drawn;     /* a line of progress stands there now */
	int64_t drawn_ms;
	struct list findings, steps; /* for --json */
	char *failure;               /* owned; the last error event */
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

static void erase(struct printer *printer)
{
	if (printer->is_drawn)
		fputs("\r\033[K", stderr);
	printer->is_drawn = false;
}

static void draw(struct printer *printer, const char *what, uint64_t done, uint64_t total)
{
	int64_t now = now_ms();

	if (!printer->has_terminal || now - printer->drawn_ms < REDRAW_MS)
		return;
	erase(printer);
	if (total)
		fprintf(stderr, "checking %s: %" PRIu64 " of %" PRIu64 " (%" PRIu64 " %%)", what, done, total,
			done >= total ? 100 : done * 100 / total);
	else
		fprintf(stderr, "checking %s", what);
	fflush(stderr);
	printer->is_drawn = true;
	printer->drawn_ms = now;
}

static void print_range(const char *one, const char *many, uint64_t first, uint64_t last)
{
	if (first == last)
		printf(", %s %" PRIu64, one, first);
	else
		printf(", %s %" PRIu64 " to %" PRIu64, many, first, last);
}

static void print_finding(const struct mojo_finding *f)
{
	static const char *const severities[] = { "note", "warning", "error" };

	printf("%s: %s", severities[f->severity], mojo_finding_name(f->kind));
	if (f->path) {
		printf(", ");
		print_escaped(stdout, f->path[0] ? f->path : "/", strlen(f->path[0] ? f->path : "/"), true);
	} else if (f->bucket) {
		printf(", file number %" PRIu32, f->bucket);
	}
	if (f->version)
		print_range("version", "versions", f->version, f->last_version);
	if (f->pages)
		print_range("page", "pages", f->first_page, f->first_page + f->pages - 1);
	printf(": ");
	print_escaped(stdout, f->text, strlen(f->text), false);
	putchar('\n');
}

static void list_add(struct list *list, const char *element)
{
	if (!list->file)
		list->file = open_memstream(&list->text, &list->length);
	if (list->file)
		fprintf(list->file, "%s%s", ftell(list->file) ? "," : "", element);
}

static const char *list_text(struct list *list)
{
	if (list->file)
		fflush(list->file);
	return list->text ? list->text : "";
}

static void list_free(struct list *list)
{
	if (list->file)
		fclose(list->file);
	free(list->text);
}

static void on_finding(void *arg, const struct mojo_finding *finding)
{
	struct printer *printer = arg;
	char *text;

	erase(printer);
	if (!printer->arguments->common.json) {
		print_finding(finding);
	} else if (report_finding_to_json(finding, &text) == 0) {
		list_add(&printer->findings, text);
		free(text);
	}
}

static void on_step(void *arg, bool done, const char *text)
{
	struct printer *printer = arg;
	char *member, *element;

	erase(printer);
	if (!printer->arguments->common.json) {
		printf("%s: ", done ? "done" : "to do");
		print_escaped(stdout, text, strlen(text), false);
		putchar('\n');
	} else if (report_member_to_json("text", text, strlen(text), &member) == 0) {
		if (asprintf(&element, "{\"done\":%s,%s}", done ? "true" : "false", member) >= 0) {
			list_add(&printer->steps, element);
			free(element);
		}
		free(member);
	}
}

static bool on_progress(void *arg, const char *what, uint64_t done, uint64_t total)
{
	draw(arg, what, done, total);
	return true;
}

static void on_event(void *arg, enum mojo_severity severity, const char *text)
{
	struct printer *printer = arg;

	if (severity == MOJO_WARNING) {
		erase(printer);
		complain("%s", text);
	}
	if (severity != MOJO_ERROR)
		return;
	free(printer->failure);
	printer->failure = strdup(text);
}

static const char *plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

static void print_end_json(struct printer *printer, const struct mojo_check_result *result)
{
	printf("{\"findings\":[%s],\"steps\":[%s],\"errors\":%" PRIu64 ",\"warnings\":%" PRIu64
	       ",\"errors_left\":%" PRIu64 ",\"repaired\":%s,\"versions\":%" PRIu64 ",\"blobs\":%" PRIu64
	       ",\"pages\":%" PRIu64 ",\"pages_read\":%" PRIu64,
	       list_text(&printer->findings), list_text(&printer->steps), result->errors, result->warnings,
	       result->errors_left, result->repaired ? "true" : "false", result->versions, result->blobs, result->pages,
	       result->pages_read);
	if (result->aside[0])
		printf(",\"aside\":\"%s\"", result->aside);
	puts("}");
}

static void print_end(const struct arguments *arguments, const struct mojo_check_result *result)
{
	print_escaped(stdout, arguments->path, strlen(arguments->path), true);
	printf(": %" PRIu64 " version%s, %" PRIu64 " piece%s of the index, %" PRIu64 " page%s in use", result->versions,
	       plural(result->versions), result->blobs, plural(result->blobs), result->pages, plural(result->pages));
	if (arguments->scrub)
		printf(", %" PRIu64 " read", result->pages_read);
	printf(": %" PRIu64 " error%s, %" PRIu64 " warning%s\n", result->errors, plural(result->errors),
	       result->warnings, plural(result->warnings));
	if (result->repaired && result->errors_left)
		printf("repaired, but %" PRIu64 " error%s left\n", result->errors_left,
		       result->errors_left == 1 ? " is" : "s are");
	else if (result->repaired)
		puts("repaired");
	else if (result->errors && !arguments->repair)
		puts("to see what could be done: mojofs check --repair --dry-run");
	if (result->aside[0]) {
		printf("what was taken out is kept in ");
		print_escaped(stdout, arguments->path, strlen(arguments->path), true);
		printf("/%s\n", result->aside);
	}
}

/* ---- a store that is not mounted ------------------------------------------------------------- */

static int exit_code(const struct mojo_check_result *result)
{
	if (result->repaired)
		return result->errors_left ? CHECK_ERRORS : CHECK_CORRECTED;
	return result->errors ? CHECK_ERRORS : CHECK_SOUND;
}

/* -EBUSY is told by the caller: there may be a mount. */
static int check_store(const struct arguments *arguments, struct printer *printer, int *ret_code)
{
	struct mojo_check_options check = {
		.scrub = arguments->scrub,
		.dry_run = arguments->dry_run,
		.owner = arguments->repair ? "mojofs check --repair" : "mojofs check",
		.event = on_event,
		.finding = on_finding,
		.step = on_step,
		.progress = on_progress,
		.arg = printer,
	};
	struct mojo_check_result result;
	char why[OUTPUT_REASON_SIZE];
	struct mojo_io *io;
	int error = mojo_io_host(arguments->path, &io);

	if (error) {
		complain("%s: %s", arguments->path, reason(error, why));
		return error;
	}
	error = (arguments->repair ? mojo_repair : mojo_check)(io, &check, &result);
	mojo_io_free(io);
	erase(printer);
	if (!error && arguments->common.json)
		print_end_json(printer, &result);
	else if (!error)
		print_end(arguments, &result);
	if (error && error != -EBUSY)
		complain("%s: %s", arguments->path, printer->failure ? printer->failure : reason(error, why));
	if (error && result.aside[0])
		complain("%s: the repair stopped half-way; the store is as it was, and it can be tried again",
			 arguments->path);
	if (!error)
		*ret_code = exit_code(&result);
	return error;
}

/* ---- a mount ---------------------------------------------------------------------------------- */

static int read_scrub(const char *mount, char *value, struct report_scrub *ret_scrub)
{
	ssize_t length = getxattr(mount, ATTRIBUTE, value, VALUE_MAX);
	char why[OUTPUT_REASON_SIZE];
	int error;

	if (length < 0) {
		error = -errno;
		complain("%s: how far the scrub is cannot be read: %s", mount, reason(error, why));
		return error;
	}
	value[length] = '\0';
	error = report_scrub_from_json(value, ret_scrub);
	if (error)
		complain("%s: what the daemon says of its scrub cannot be understood", mount);
	return error;
}

static int start_scrub(const char *mount, const char *store, uint64_t rate)
{
	char command[64], why[OUTPUT_REASON_SIZE];
	int error;

	if (rate)
		snprintf(command, sizeof(command), "start %" PRIu64, rate);
	else
		strcpy(command, "start");
	if (setxattr(mount, ATTRIBUTE, command, strlen(command), 0) == 0)
		return 0;
	error = -errno;
	if (error == -EBUSY) {
		complain("%s: a scrub runs already; this is what it finds", mount);
		return 0;
	}
	if (error == -EROFS)
		complain("%s: is mounted read-only; check the store itself: mojofs check --scrub %s", mount, store);
	else
		complain("%s: the scrub could not be started: %s", mount, reason(error, why));
	return error;
}

/* Until it is no longer running. */
static int follow_scrub(struct printer *printer, const char *mount, char *value, struct report_scrub *ret_scrub)
{
	struct timespec nap = { .tv_nsec = POLL_MS * 1000000L };
	int error;

	for (;;) {
		error = read_scrub(mount, value, ret_scrub);
		if (error || ret_scrub->state != REPORT_SCRUB_RUNNING)
			break;
		draw(printer, "pages", ret_scrub->pages_read, ret_scrub->pages_total);
		report_scrub_free(ret_scrub);
		nanosleep(&nap, NULL);
	}
	erase(printer);
	return error;
}

static int print_scrub(struct printer *printer, const char *mount, const struct report_scrub *scrub, const char *value)
{
	if (printer->arguments->common.json)
		puts(value);
	for (size_t i = 0; i < scrub->count && !printer->arguments->common.json; i++)
		print_finding(&scrub->findings[i]);
	if (!printer->arguments->common.json) {
		if (scrub->errors > scrub->count)
			printf("and %" PRIu64 " more\n", scrub->errors - scrub->count);
		print_escaped(stdout, mount, strlen(mount), true);
		printf(": %" PRIu64 " page%s read: %" PRIu64 " error%s\n", scrub->pages_read, plural(scrub->pages_read),
		       scrub->errors, plural(scrub->errors));
	}
	if (scrub->state != REPORT_SCRUB_DONE) {
		complain("%s: the scrub %s before it had read everything", mount,
			 scrub->state == REPORT_SCRUB_STOPPED ? "was stopped" : "failed");
		return CHECK_FAILED;
	}
	return scrub->errors ? CHECK_ERRORS : CHECK_SOUND;
}

static int check_mount(const struct arguments *arguments, struct printer *printer, const char *mount, const char *store)
{
	struct report_scrub scrub = { 0 };
	int code = CHECK_FAILED;
	char *value;

	if (arguments->repair || !arguments->scrub) {
		complain("%s: is mounted at %s; %s", arguments->path, mount,
			 arguments->repair
				 ? "unmount it before it is repaired"
				 : "unmount it to have everything checked, or read its pages now with --scrub");
		return CHECK_FAILED;
	}
	value = malloc(VALUE_MAX + 1);
	if (!value) {
		complain("out of memory");
		return CHECK_FAILED;
	}
	if (start_scrub(mount, store, arguments->rate) == 0 && follow_scrub(printer, mount, value, &scrub) == 0)
		code = print_scrub(printer, mount, &scrub, value);
	report_scrub_free(&scrub);
	free(value);
	return code;
}

/* Through what lies in a mount. */
static int check_inside(const struct arguments *arguments, struct printer *printer)
{
	struct target *target;
	int code;

	if (target_open(arguments->path, false, &target) != 0)
		return CHECK_FAILED;
	code = check_mount(arguments, printer, target_mount(target), target_store(target));
	target_close(target);
	return code;
}

/* Some process has the store: is it a mount of it? */
static int check_busy(const struct arguments *arguments, struct printer *printer)
{
	char *real = realpath(arguments->path, NULL), *mount;
	int code = CHECK_FAILED;

	if (real && mountinfo_find(real, &mount) == 0) {
		code = check_mount(arguments, printer, mount, real);
		free(mount);
	} else {
		complain("%s: %s", arguments->path, printer->failure ? printer->failure : "the store is in use");
	}
	free(real);
	return code;
}

static int run(int argc, char **argv)
{
	struct arguments arguments = { 0 };
	struct printer printer = { .arguments = &arguments, .has_terminal = isatty(STDERR_FILENO) };
	int code = CHECK_FAILED, error, inside;

	argp_err_exit_status = CHECK_USAGE;
	cmd_parse(&argp, argc, argv, &arguments);
	inside = target_in_mount(arguments.path);
	if (inside > 0) {
		code = check_inside(&arguments, &printer);
	} else if (inside == 0) {
		error = check_store(&arguments, &printer, &code);
		if (error == -EBUSY)
			code = check_busy(&arguments, &printer);
	}
	list_free(&printer.findings);
	list_free(&printer.steps);
	free(printer.failure);
	return code;
}

const struct command cmd_check = { "check", "Check a store, read all its pages, repair it", run };
