/* SPDX-License-Identifier: MIT */
/*
 * output.h - how `mojofs` talks to people and to programs.
 *
 * What is printed for people holds no control characters, whatever a store or a command line contains:
 * a file name or a commit message cannot reach the terminal's escape sequences. What cannot be written
 * (a full disk, a closed pipe) makes the program fail.
 */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define OUTPUT_BYTES_SIZE  64 /* bytes that hold what format_bytes() makes */
#define OUTPUT_TIME_SIZE   64 /* the same for format_time() */
#define OUTPUT_REASON_SIZE 128

/* complain - print "mojofs: ...", one line, to stderr; control characters are shown escaped. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* reason - strerror() of a positive or negative errno, in lower case. Returns @buf. */
const char *reason(int error, char buf[OUTPUT_REASON_SIZE]);

/* close_output - for atexit(): flush stdout, and end the program with 1 if something could not be written. */
void close_output(void);

/*
 * print_escaped - print bytes that came from outside: control characters, bytes that are not UTF-8, and
 * what turns the direction of text show as \n, \t or \xHH. With @exact a backslash shows as two, so that
 * the text can be told from an escape.
 */
void print_escaped(FILE *file, const char *bytes, size_t length, bool exact);

/* print_json_member - print "name":"bytes" (or "name_hex", see report.h) to stdout; ends the program
 * if memory is out. */
void print_json_member(const char *name, const char *bytes);

/* format_bytes - "1.5 MiB (1572864 bytes)", or "512 bytes". Returns @buf. */
const char *format_bytes(uint64_t bytes, char buf[OUTPUT_BYTES_SIZE]);

/* format_size - "1.5M", "512": for columns. Returns @buf. */
const char *format_size(uint64_t bytes, char buf[OUTPUT_BYTES_SIZE]);

/* format_time - ns since 1970-01-01 UTC, in seconds, local or @utc (with a Z behind). Returns @buf. */
const char *format_time(int64_t time_ns, bool utc, char buf[OUTPUT_TIME_SIZE]);

#endif
