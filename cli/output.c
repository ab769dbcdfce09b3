/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../src/report.h"
#include "output.h"

#define NS_PER_S 1000000000

/* Is the character at @c, well-formed UTF-8 of @size bytes, one that would do something to a terminal, or
 * to the order in which the rest of the line is shown? */
static bool is_control(const unsigned char *c, size_t size)
{
	switch (size) {
	case 1:
		return c[0] < 0x20 || c[0] == 0x7f;
	case 2:
		return (c[0] == 0xc2 && c[1] < 0xa0) || (c[0] == 0xd8 && c[1] == 0x9c);
	case 3:
		if (c[0] != 0xe2)
			return false;
		/* U+200E, U+200F; U+2028..U+202E; U+2066..U+2069 */
		return (c[1] == 0x80 && ((c[2] >= 0x8e && c[2] <= 0x8f) || (c[2] >= 0xa8 && c[2] <= 0xae))) ||
		       (c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9);
	default:
		return false;
	}
}

void print_escaped(FILE *file, const char *bytes, size_t length, bool exact)
{
	size_t at = 0;

	while (at < length) {
		const unsigned char *c = (const unsigned char *)bytes + at;
		size_t size = report_utf8_length(bytes + at, length - at);

		if (c[0] == '\n') {
			fputs("\\n", file);
		} else if (c[0] == '\t') {
			fputs("\\t", file);
		} else if (c[0] == '\\' && exact) {
			fputs("\\\\", file);
		} else if (size == 0 || is_control(c, size)) {
			for (size_t i = 0; i < size || i == 0; i++)
				fprintf(file, "\\x%02x", c[i]);
		} else {
			fwrite(c, 1, size, file);
		}
		at += size ? size : 1;
	}
}

void complain(const char *format, ...)
{
	va_list args;
	char *text;
	int length;

	va_start(args, format);
	length = vasprintf(&text, format, args);
	va_end(args);
	/* Whole lines, also when an event of the engine comes from another thread. */
	flockfile(stderr);
	fputs("mojofs: ", stderr);
	if (length < 0) {
		fputs("out of memory", stderr);
	} else {
		print_escaped(stderr, text, (size_t)length, false);
		free(text);
	}
	putc('\n', stderr);
	funlockfile(stderr);
}

const char *reason(int error, char buf[OUTPUT_REASON_SIZE])
{
	snprintf(buf, OUTPUT_REASON_SIZE, "%s", strerror(abs(error)));
	if (buf[0] >= 'A' && buf[0] <= 'Z')
		buf[0] = (char)(buf[0] - 'A' + 'a');
	return buf;
}

void close_output(void)
{
	bool has_pending = __fpending(stdout) > 0, failed = ferror(stdout) != 0;
	char why[OUTPUT_REASON_SIZE];

	errno = 0;
	/* A stdout that takes nothing is no failure as long as there is nothing to write. */
	if (fclose(stdout) != 0 && (has_pending || errno != EBADF))
		failed = true;
	if (!failed)
		return;
	complain("the output could not be written%s%s", errno ? ": " : "", errno ? reason(errno, why) : "");
	_exit(1);
}

void print_json_member(const char *name, const char *bytes)
{
	char *text;

	if (report_member_to_json(name, bytes, strlen(bytes), &text) != 0) {
		complain("out of memory");
		exit(1);
	}
	fputs(text, stdout);
	free(text);
}

static const char *scaled(uint64_t bytes, const char *separator, const char *tail, char buf[OUTPUT_BYTES_SIZE])
{
	static const char units[] = "KMGTPE";
	uint64_t unit = 1024;
	unsigned i = 0;

	while (i < sizeof(units) - 2 && bytes / unit >= 1024) {
		unit *= 1024;
		i++;
	}
	if (bytes % unit == 0)
		snprintf(buf, OUTPUT_BYTES_SIZE, "%" PRIu64 "%s%c%s", bytes / unit, separator, units[i], tail);
	else
		snprintf(buf, OUTPUT_BYTES_SIZE, "%.1f%s%c%s", (double)bytes / (double)unit, separator, units[i], tail);
	return buf;
}

const char *format_bytes(uint64_t bytes, char buf[OUTPUT_BYTES_SIZE])
{
	size_t length;

	if (bytes < 1024) {
		snprintf(buf, OUTPUT_BYTES_SIZE, "%" PRIu64 " byte%s", bytes, bytes == 1 ? "" : "s");
		return buf;
	}
	length = strlen(scaled(bytes, " ", "iB", buf));
	snprintf(buf + length, OUTPUT_BYTES_SIZE - length, " (%" PRIu64 " bytes)", bytes);
	return buf;
}

const char *format_size(uint64_t bytes, char buf[OUTPUT_BYTES_SIZE])
{
	if (bytes >= 1024)
		return scaled(bytes, "", "", buf);
	snprintf(buf, OUTPUT_BYTES_SIZE, "%" PRIu64, bytes);
	return buf;
}

const char *format_time(int64_t time_ns, bool utc, char buf[OUTPUT_TIME_SIZE])
{
	time_t seconds = (time_t)(time_ns / NS_PER_S);
	struct tm tm;

	if (time_ns % NS_PER_S < 0)
		seconds--;
	if (utc)
		gmtime_r(&seconds, &tm);
	else
		localtime_r(&seconds, &tm);
	strftime(buf, OUTPUT_TIME_SIZE, utc ? "%Y-%m-%d %H:%M:%SZ" : "%Y-%m-%d %H:%M:%S", &tm);
	return buf;
}
