/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/mojo.h"
#include "config.h"

enum kind { KIND_SIZE, KIND_POWER, KIND_NUMBER, KIND_SWITCH };

static const struct setting {
	const char *name, *section;
	enum kind kind; /* KIND_SIZE and KIND_POWER take suffixes; the latter is a power of two */
	uint64_t min, max;
} settings[CONFIG_KEYS] = {
	[CONFIG_PAGE_SIZE] = { "page-size", "store", KIND_POWER, MOJO_PAGE_SIZE_MIN, MOJO_PAGE_SIZE_MAX },
	[CONFIG_PAGES_PER_SLOT] = { "pages-per-slot", "store", KIND_POWER, MOJO_PPS_MIN, MOJO_PPS_MAX },
	[CONFIG_CHUNK_SIZE] = { "chunk-size", "store", KIND_POWER, MOJO_CHUNK_BYTES_MIN, MOJO_CHUNK_BYTES_MAX },
	[CONFIG_CACHE_SIZE] = { "cache-size", "engine", KIND_SIZE, 4ull << 20, 1ull << 40 },
	[CONFIG_CHECKPOINT_SIZE] = { "checkpoint-size", "engine", KIND_SIZE, 1ull << 20, 1ull << 40 },
	[CONFIG_COMMIT_INTERVAL] = { "commit-interval", "engine", KIND_NUMBER, 1, 86400 },
	[CONFIG_LIST_VERSIONS] = { "list-versions", "mount", KIND_SWITCH, 0, 1 },
	[CONFIG_DURABLE_UNLINK] = { "durable-unlink", "mount", KIND_SWITCH, 0, 1 },
	[CONFIG_SETTLE] = { "settle", "mount", KIND_SWITCH, 0, 1 },
	[CONFIG_ORDERED_JOURNALS] = { "ordered-journals", "mount", KIND_SWITCH, 0, 1 },
	[CONFIG_VERIFY] = { "verify", "mount", KIND_SWITCH, 0, 1 },
};

void config_defaults(struct config *ret_config)
{
	memset(ret_config, 0, sizeof(*ret_config));
	ret_config->list_versions = ret_config->durable_unlink = ret_config->settle = true;
	ret_config->ordered_journals = true;
}

static bool is_same_name(const char *name, size_t length, const char *wanted)
{
	if (length != strlen(wanted))
		return false;
	for (size_t i = 0; i < length; i++) {
		if ((name[i] == '_' ? '-' : name[i]) != wanted[i])
			return false;
	}
	return true;
}

enum config_key config_find(const char *name, size_t length)
{
	enum config_key key = 0;

	while (key < CONFIG_KEYS && !is_same_name(name, length, settings[key].name))
		key++;
	return key;
}

const char *config_name(enum config_key key)
{
	return settings[key].name;
}

bool config_is_switch(enum config_key key)
{
	return settings[key].kind == KIND_SWITCH;
}

/* "16K" -> 16384; false if @text is not a number, or too large a one. */
static bool parse_number(const char *text, bool suffixes, uint64_t *ret_number)
{
	unsigned shift = 0;
	uint64_t number;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno)
		return false;
	if (suffixes && *end) {
		static const char letters[] = "KMG";
		const char *letter = strchr(letters, *end >= 'a' && *end <= 'z' ? *end - 'a' + 'A' : *end);

		if (!letter)
			return false;
		shift = 10 * (unsigned)(letter - letters + 1);
		end++;
	}
	if (*end || (number << shift) >> shift != number)
		return false;
	*ret_number = number << shift;
	return true;
}

static bool parse_switch(const char *text, uint64_t *ret_number)
{
	static const char *const words[] = { "no", "yes", "off", "on", "false", "true", "0", "1" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(text, words[i]) == 0) {
			*ret_number = i % 2;
			return true;
		}
	}
	return false;
}

/* "64K", "4M", "1G", or the plain number. */
static void print_size(uint64_t number, char *ret_text, size_t size)
{
	unsigned power = 0;

	while (power < 3 && number >= 1024 && number % 1024 == 0) {
		number /= 1024;
		power++;
	}
	snprintf(ret_text, size, "%" PRIu64 "%.*s", number, power > 0, &" KMG"[power]);
}

static int parse(enum config_key key, const char *value, uint64_t *ret_number, char *ret_why)
{
	const struct setting *setting = &settings[key];
	char min[24], max[24];

	if (setting->kind == KIND_SWITCH) {
		if (!value)
			value = "yes";
		if (parse_switch(value, ret_number))
			return 0;
		snprintf(ret_why, CONFIG_WHY_SIZE, "%s: '%.100s' is neither yes nor no", setting->name, value);
		return -EINVAL;
	}
	print_size(setting->min, min, sizeof(min));
	print_size(setting->max, max, sizeof(max));
	if (!value || !*value) {
		snprintf(ret_why, CONFIG_WHY_SIZE, "%s: a value is missing, as in %s=%s", setting->name, setting->name,
			 min);
		return -EINVAL;
	}
	if (!parse_number(value, setting->kind != KIND_NUMBER, ret_number)) {
		snprintf(ret_why, CONFIG_WHY_SIZE, "%s: '%.100s' is not a %s", setting->name, value,
			 setting->kind == KIND_NUMBER ? "whole number" : "size; write a number, or one with K, M or G");
		return -EINVAL;
	}
	if (*ret_number < setting->min || *ret_number > setting->max ||
	    (setting->kind == KIND_POWER && *ret_number & (*ret_number - 1))) {
		snprintf(ret_why, CONFIG_WHY_SIZE, "%s: %.100s is out of range; it must be %s%s to %s", setting->name,
			 value, setting->kind == KIND_POWER ? "a power of two, " : "", min, max);
		return -EINVAL;
	}
	return 0;
}

static void store(struct config *config, enum config_key key, uint64_t number)
{
	switch (key) {
	case CONFIG_PAGE_SIZE:
		config->page_size = (uint32_t)number;
		break;
	case CONFIG_PAGES_PER_SLOT:
		config->pages_per_slot = (uint32_t)number;
		break;
	case CONFIG_CHUNK_SIZE:
		config->chunk_bytes = number;
		break;
	case CONFIG_CACHE_SIZE:
		config->cache_bytes = number;
		break;
	case CONFIG_CHECKPOINT_SIZE:
		config->checkpoint_bytes = number;
		break;
	case CONFIG_COMMIT_INTERVAL:
		config->commit_seconds = (uint32_t)number;
		break;
	case CONFIG_LIST_VERSIONS:
		config->list_versions = number;
		break;
	case CONFIG_DURABLE_UNLINK:
		config->durable_unlink = number;
		break;
	case CONFIG_SETTLE:
		config->settle = number;
		break;
	case CONFIG_ORDERED_JOURNALS:
		config->ordered_journals = number;
		break;
	case CONFIG_VERIFY:
		config->verify = number;
		break;
	case CONFIG_KEYS:
		break;
	}
}

int config_set(struct config *config, enum config_key key, const char *value, char *ret_why)
{
	uint64_t number;
	int error = parse(key, value, &number, ret_why);

	if (error)
		return error;
	store(config, key, number);
	config->given[key] = true;
	return 0;
}

/* ---- the file -------------------------------------------------------------------------------- */

struct reading {
	struct config *config;
	FILE *file;
	int line; /* the last one that was read */
	bool seen[CONFIG_KEYS];
	int why_line; /* of the first complaint; 0: none */
	char why[CONFIG_WHY_SIZE];
};

/* The first complaint stays; returns where to write it. */
static char *complain(struct reading *reading)
{
	if (reading->why_line)
		return NULL;
	reading->why_line = reading->line;
	return reading->why;
}

static bool is_section(const char *name, size_t length)
{
	for (enum config_key key = 0; key < CONFIG_KEYS; key++) {
		if (strlen(settings[key].section) == length && strncmp(settings[key].section, name, length) == 0)
			return true;
	}
	return false;
}

/*
 * One line for inih, which tells its handler neither the line's number nor of a section without keys, takes
 * an indented line for more of the value above, and cuts long lines in two.
 */
static char *read_line(char *buf, int size, void *stream)
{
	struct reading *reading = stream;
	char *start;
	size_t length;

	if (!fgets(buf, size, reading->file))
		return NULL;
	reading->line++;
	length = strlen(buf);
	if (length > 0 && buf[length - 1] != '\n' && !feof(reading->file)) {
		char *why = complain(reading);
		int byte;

		if (why)
			snprintf(why, CONFIG_WHY_SIZE, "the line is too long");
		while ((byte = getc(reading->file)) != EOF && byte != '\n')
			;
		*buf = '\0';
		return buf;
	}
	start = buf + strspn(buf, " \t");
	memmove(buf, start, strlen(start) + 1);
	if (*buf == '[') {
		length = strcspn(buf + 1, "]");
		if (buf[1 + length] == ']' && !is_section(buf + 1, length)) {
			char *why = complain(reading);

			if (why)
				snprintf(why, CONFIG_WHY_SIZE,
					 "there is no section [%.*s]; there are [store], [engine] and [mount]",
					 (int)(length < 100 ? length : 100), buf + 1);
		}
	}
	return buf;
}

/* inih's: 1 for right, 0 for wrong. */
static int handle(void *user, const char *section, const char *name, const char *value)
{
	struct reading *reading = user;
	enum config_key key = config_find(name, strlen(name));
	uint64_t number;
	char why[CONFIG_WHY_SIZE], *to;

	if (!*section)
		snprintf(why, sizeof(why), "'%.100s' stands before the first section, such as [store]", name);
	else if (key == CONFIG_KEYS || strcmp(settings[key].section, section) != 0)
		snprintf(why, sizeof(why), "there is no key '%.100s' in section [%.100s]", name, section);
	else if (reading->seen[key])
		snprintf(why, sizeof(why), "%s is set a second time", settings[key].name);
	else if (parse(key, value, &number, why) == 0) {
		reading->seen[key] = true;
		if (!reading->config->given[key])
			store(reading->config, key, number);
		return 1;
	}
	to = complain(reading);
	if (to)
		memcpy(to, why, sizeof(why));
	return 0;
}

int config_read(struct config *config, const char *path, bool must_exist, char *ret_why, size_t size)
{
	struct reading reading = { .config = config };
	int result;

	reading.file = fopen(path, "re");
	if (!reading.file) {
		int error = -errno;

		if (error == -ENOENT && !must_exist)
			return 0;
		snprintf(ret_why, size, "%s: cannot be read: %s", path, strerror(-error));
		return error;
	}
	result = ini_parse_stream(read_line, &reading, handle, &reading);
	if (ferror(reading.file)) {
		fclose(reading.file);
		snprintf(ret_why, size, "%s: cannot be read", path);
		return -EIO;
	}
	fclose(reading.file);
	if (result > 0 && (!reading.why_line || result < reading.why_line)) {
		snprintf(ret_why, size, "%s:%d: expected 'name = value' or '[section]'", path, result);
		return -EINVAL;
	}
	if (reading.why_line) {
		snprintf(ret_why, size, "%s:%d: %s", path, reading.why_line, reading.why);
		return -EINVAL;
	}
	if (result < 0) {
		snprintf(ret_why, size, "%s: out of memory", path);
		return -ENOMEM;
	}
	return 0;
}
