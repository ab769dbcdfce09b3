/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "finish.h"

static void say(const struct settle_options *options, enum mojo_severity severity, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void say(const struct settle_options *options, enum mojo_severity severity, const char *format, ...)
{
	char text[256];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	options->event(options->event_arg, severity, text);
}

int settle_finish(struct mojo_store *store, uint32_t version, const struct settle_file *files, size_t count,
		  const struct settle_options *options)
{
	int error = settle_version(store, version, files, count, options, NULL), dropped;

	if (!error)
		error = mojo_publish(store, version);
	if (!error)
		return 0;
	say(options, MOJO_ERROR, "the commit of version %u is given up: %s", version, strerror(-error));
	dropped = mojo_version_drop(store, version);
	if (dropped)
		say(options, MOJO_ERROR,
		    "version %u cannot be dropped either: %s; the next commit or opening tries to finish it", version,
		    strerror(-dropped));
	return error;
}

int settle_leftover(struct mojo_store *store, const struct settle_options *options)
{
	uint32_t version = mojo_unpublished(store);
	int error;

	if (!version)
		return 0;
	error = settle_finish(store, version, NULL, 0, options);
	if (!error)
		say(options, MOJO_INFO, "version %u, whose commit was cut short, is settled and published", version);
	return mojo_unpublished(store) ? error : 0;
}

int settle_commit(struct mojo_store *store, const char *message, size_t length, const struct settle_options *options,
		  uint32_t *ret_version)
{
	int error = settle_leftover(store, options);

	if (!error)
		error = mojo_freeze(store, message, length, NULL, NULL, ret_version);
	return error ? error : settle_finish(store, *ret_version, NULL, 0, options);
}
