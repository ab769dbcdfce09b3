/* SPDX-License-Identifier: MIT */
/*
 * The only file that calls jansson. Arrays are put together element by element, not as one tree of JSON
 * values: the limit can then be kept exactly, and the map of a large file costs its text and no more.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "report.h"

#define NS_PER_S   1000000000
#define DUMP_FLAGS (JSON_COMPACT | JSON_ENCODE_ANY)

/* ---- UTF-8, hexadecimal digits, time ------------------------------------------------------- */

size_t report_utf8_length(const char *bytes, size_t length)
{
	const unsigned char *b = (const unsigned char *)bytes;
	/* The second byte's range is what rules out overlong forms, surrogates, and what is past U+10FFFF. */
	unsigned char low = 0x80, high = 0xbf;
	size_t size;

	if (b[0] < 0x80)
		return 1;
	if (b[0] >= 0xc2 && b[0] <= 0xdf) {
		size = 2;
	} else if (b[0] >= 0xe0 && b[0] <= 0xef) {
		size = 3;
		low = b[0] == 0xe0 ? 0xa0 : 0x80;
		high = b[0] == 0xed ? 0x9f : 0xbf;
	} else if (b[0] >= 0xf0 && b[0] <= 0xf4) {
		size = 4;
		low = b[0] == 0xf0 ? 0x90 : 0x80;
		high = b[0] == 0xf4 ? 0x8f : 0xbf;
	} else {
		return 0;
	}
	if (size > length || b[1] < low || b[1] > high)
		return 0;
	for (size_t i = 2; i < size; i++) {
		if (b[i] < 0x80 || b[i] > 0xbf)
			return 0;
	}
	return size;
}

static bool is_utf8(const char *bytes, size_t length)
{
	size_t at = 0;

	while (at < length) {
		size_t size = report_utf8_length(bytes + at, length - at);

		if (size == 0)
			return false;
		at += size;
	}
	return true;
}

static void bytes_to_hex(const char *bytes, size_t length, char *ret_hex)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)bytes[i];

		*ret_hex++ = digits[byte >> 4];
		*ret_hex++ = digits[byte & 15];
	}
	*ret_hex = '\0';
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Into at most @capacity bytes and a NUL; a NUL among the bytes is refused. */
static int hex_to_bytes(const char *hex, size_t length, size_t capacity, char *ret_bytes)
{
	if (length % 2 != 0 || length / 2 > capacity)
		return -EBADMSG;
	for (size_t i = 0; i < length / 2; i++) {
		int high = digit_of(hex[2 * i]);
		int low = digit_of(hex[2 * i + 1]);

		if (high < 0 || low < 0 || high + low == 0)
			return -EBADMSG;
		ret_bytes[i] = (char)(high << 4 | low);
	}
	ret_bytes[length / 2] = '\0';
	return 0;
}

void report_time_to_text(int64_t time_ns, char ret_text[REPORT_TIME_SIZE])
{
	int64_t ns = time_ns % NS_PER_S;
	time_t seconds = (time_t)(time_ns / NS_PER_S);
	size_t length;
	struct tm tm;

	if (ns < 0) {
		ns += NS_PER_S;
		seconds--;
	}
	gmtime_r(&seconds, &tm); /* 64 bits of ns reach from 1677 to 2262: it cannot fail */
	length = strftime(ret_text, REPORT_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(ret_text + length, REPORT_TIME_SIZE - length, ".%09dZ", (int)ns);
}

static int time_from_text(const char *text, int64_t *ret_time_ns)
{
	struct tm tm = { 0 };
	char again[REPORT_TIME_SIZE];
	int64_t seconds, time_ns;
	int ns, end = 0;

	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%9dZ%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
		   &tm.tm_min, &tm.tm_sec, &ns, &end) != 7 ||
	    end == 0)
		return -EBADMSG;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	seconds = timegm(&tm);
	/* Towards zero, so that the earliest time of all does not overflow half-way. */
	if (seconds < 0) {
		seconds++;
		ns -= NS_PER_S;
	}
	if (__builtin_mul_overflow(seconds, (int64_t)NS_PER_S, &time_ns) ||
	    __builtin_add_overflow(time_ns, (int64_t)ns, &time_ns))
		return -EBADMSG;
	/* sscanf and timegm forgive much; our own writing of it does not. */
	report_time_to_text(time_ns, again);
	if (strcmp(text, again) != 0)
		return -EBADMSG;
	*ret_time_ns = time_ns;
	return 0;
}

/* ---- members of an object ------------------------------------------------------------------- */

static int put(json_t *object, const char *name, json_t *value)
{
	return json_object_set_new(object, name, value) ? -ENOMEM : 0;
}

static int put_number(json_t *object, const char *name, uint64_t value)
{
	if (value > INT64_MAX)
		return -EOVERFLOW;
	return put(object, name, json_integer((json_int_t)value));
}

static int put_time(json_t *object, const char *name, int64_t time_ns)
{
	char text[REPORT_TIME_SIZE];

	report_time_to_text(time_ns, text);
	return put(object, name, json_string(text));
}

static int put_bytes(json_t *object, const char *name, const char *bytes, size_t length)
{
	char *hex, *hex_name;
	int error = -ENOMEM;

	if (is_utf8(bytes, length))
		return put(object, name, json_stringn(bytes, length));

	hex = malloc(2 * length + 1);
	hex_name = malloc(strlen(name) + sizeof("_hex"));
	if (hex && hex_name) {
		bytes_to_hex(bytes, length, hex);
		sprintf(hex_name, "%s_hex", name);
		error = put(object, hex_name, json_string(hex));
	}
	free(hex_name);
	free(hex);
	return error;
}

static int get_number(const json_t *object, const char *name, uint64_t max, uint64_t *ret_value)
{
	const json_t *value = json_object_get(object, name);
	json_int_t number = json_integer_value(value);

	if (!json_is_integer(value) || number < 0 || (uint64_t)number > max)
		return -EBADMSG;
	*ret_value = (uint64_t)number;
	return 0;
}

static int get_bool(const json_t *object, const char *name, bool *ret_value)
{
	const json_t *value = json_object_get(object, name);

	if (!json_is_boolean(value))
		return -EBADMSG;
	*ret_value = json_is_true(value);
	return 0;
}

static int get_time(const json_t *object, const char *name, int64_t *ret_time_ns)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? time_from_text(text, ret_time_ns) : -EBADMSG;
}

/* What put_bytes() put: at most @max bytes, and a NUL, into @ret_text. */
static int get_text(const json_t *object, const char *name, const char *hex_name, size_t max, char *ret_text)
{
	const json_t *plain = json_object_get(object, name);
	const json_t *hex = json_object_get(object, hex_name);

	if (plain && !hex && json_is_string(plain) && json_string_length(plain) <= max) {
		memcpy(ret_text, json_string_value(plain), json_string_length(plain) + 1);
		return 0;
	}
	if (hex && !plain && json_is_string(hex))
		return hex_to_bytes(json_string_value(hex), json_string_length(hex), max, ret_text);
	return -EBADMSG;
}

static int get_message(const json_t *object, char ret_message[MOJO_MESSAGE_MAX + 1])
{
	return get_text(object, "message", "message_hex", MOJO_MESSAGE_MAX, ret_message);
}

/* ---- text ----------------------------------------------------------------------------------- */

/* Takes @value, NULL included. */
static int dump(json_t *value, char **ret_text)
{
	char *text = value ? json_dumps(value, DUMP_FLAGS) : NULL;

	json_decref(value);
	if (!text)
		return -ENOMEM;
	*ret_text = text;
	return 0;
}

static int load(const char *text, json_t **ret_value)
{
	json_error_t error;
	json_t *value = json_loads(text, JSON_REJECT_DUPLICATES, &error);

	if (!value)
		return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EBADMSG;
	*ret_value = value;
	return 0;
}

/* An array's text while it grows. */
struct array_text {
	char *text; /* owned; NUL-terminated, the closing bracket not yet there */
	size_t length;
	size_t capacity; /* bytes at text */
	size_t limit;    /* bytes that the whole may have, closing bracket included */
};

static int array_begin(struct array_text *array, size_t limit)
{
	*array = (struct array_text){ .capacity = 256, .length = 1, .limit = limit };
	if (limit < 2)
		return -EINVAL;
	array->text = malloc(array->capacity);
	if (!array->text)
		return -ENOMEM;
	strcpy(array->text, "[");
	return 0;
}

/* Adds an element; -ENOSPC if it would pass the limit. */
static int array_add(struct array_text *array, const char *element, size_t length)
{
	size_t comma = array->length > 1;
	size_t need = array->length + comma + length + 1;

	if (need > array->limit)
		return -ENOSPC;
	if (need + 1 > array->capacity) {
		size_t capacity = 2 * need;
		char *text = realloc(array->text, capacity);

		if (!text)
			return -ENOMEM;
		array->text = text;
		array->capacity = capacity;
	}
	if (comma)
		array->text[array->length++] = ',';
	memcpy(array->text + array->length, element, length);
	array->length += length;
	array->text[array->length] = '\0';
	return 0;
}

/* Closes the array and hands its text over; there is always room for the bracket, see array_add(). */
static char *array_end(struct array_text *array)
{
	char *text = array->text;

	strcpy(text + array->length, "]");
	array->text = NULL;
	return text;
}

/* ---- state ---------------------------------------------------------------------------------- */

/* The numbers of struct mojo_info: member and field have one name. */
struct field {
	const char *name;
	size_t offset;
	size_t size; /* 4 or 8 bytes */
};

#define FIELD(name)                                                                            \
	{                                                                                      \
#name, offsetof(struct mojo_info, name), sizeof(((struct mojo_info *)0)->name) \
	}

static const struct field numbers[] = {
	FIELD(format),         FIELD(page_size),      FIELD(pages_per_slot),  FIELD(chunk_bytes),
	FIELD(active_version), FIELD(oldest_version), FIELD(frozen_versions), FIELD(unpublished_version),
	FIELD(files),          FIELD(directories),    FIELD(chunks),          FIELD(store_bytes),
	FIELD(dead_bytes),     FIELD(log_bytes),      FIELD(generation),      FIELD(sequence),
	FIELD(cache_bytes),    FIELD(flushes),        FIELD(groups),          FIELD(checkpoints),
	FIELD(pages_written),  FIELD(pages_read),
};

#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static int put_field(json_t *object, const struct field *field, const struct mojo_info *info)
{
	const char *at = (const char *)info + field->offset;
	uint64_t value;
	uint32_t small;

	if (field->size == sizeof(small)) {
		memcpy(&small, at, sizeof(small));
		value = small;
	} else {
		memcpy(&value, at, sizeof(value));
	}
	return put_number(object, field->name, value);
}

static int get_field(const json_t *object, const struct field *field, struct mojo_info *info)
{
	char *at = (char *)info + field->offset;
	bool is_small = field->size == sizeof(uint32_t);
	uint64_t value;
	uint32_t small;
	int error;

	error = get_number(object, field->name, is_small ? UINT32_MAX : INT64_MAX, &value);
	if (error)
		return error;
	if (is_small) {
		small = (uint32_t)value;
		memcpy(at, &small, sizeof(small));
	} else {
		memcpy(at, &value, sizeof(value));
	}
	return 0;
}

static int counters_to_object(const struct report_counter *counters, size_t count, json_t **ret_object)
{
	json_t *object = json_object();
	int error = object ? 0 : -ENOMEM;

	for (size_t i = 0; i < count && !error; i++) {
		if (!is_utf8(counters[i].name, strlen(counters[i].name)) || json_object_get(object, counters[i].name))
			error = -EINVAL;
		else
			error = put_number(object, counters[i].name, counters[i].count);
	}
	if (error) {
		json_decref(object);
		return error;
	}
	*ret_object = object;
	return 0;
}

int report_counters_to_json(const struct report_counter *counters, size_t count, char **ret_text)
{
	json_t *object;
	int error = counters_to_object(counters, count, &object);

	return error ? error : dump(object, ret_text);
}

int report_state_to_json(const struct mojo_info *info, const struct report_counter *counters, size_t count,
			 char **ret_text)
{
	json_t *object = json_object();
	json_t *requests = NULL;
	int error;

	if (!object)
		return -ENOMEM;
	error = put(object, "store_id", json_string(info->store_id));
	if (!error)
		error = put_time(object, "created", info->created_ns);
	for (size_t i = 0; i < NUMBERS && !error; i++)
		error = put_field(object, &numbers[i], info);
	if (!error)
		error = put(object, "read_only", json_boolean(info->read_only));
	if (!error)
		error = put(object, "failed", json_boolean(info->failed));
	if (!error && counters)
		error = counters_to_object(counters, count, &requests);
	if (!error && counters)
		error = put(object, "requests", requests);
	if (error) {
		json_decref(object);
		return error;
	}
	return dump(object, ret_text);
}

static int get_store_id(const json_t *object, struct mojo_info *info)
{
	const json_t *id = json_object_get(object, "store_id");
	const char *text = json_string_value(id);

	if (!text || json_string_length(id) != sizeof(info->store_id) - 1)
		return -EBADMSG;
	for (const char *c = text; *c; c++) {
		if (digit_of(*c) < 0)
			return -EBADMSG;
	}
	memcpy(info->store_id, text, sizeof(info->store_id));
	return 0;
}

/* Checks all of "requests"; with @counters fills in the first @capacity, too. */
static int get_counters(json_t *object, struct report_counter *counters, size_t capacity, size_t *ret_count)
{
	json_t *requests = json_object_get(object, "requests");
	const char *name;
	json_t *value;
	size_t count = 0;

	if (requests && !json_is_object(requests))
		return -EBADMSG;
	json_object_foreach(requests, name, value)
	{
		size_t length = strlen(name);

		if (length == 0 || length >= sizeof(counters->name) || !json_is_integer(value) ||
		    json_integer_value(value) < 0)
			return -EBADMSG;
		if (counters && count < capacity) {
			memcpy(counters[count].name, name, length + 1);
			counters[count].count = (uint64_t)json_integer_value(value);
		}
		count++;
	}
	*ret_count = count;
	return 0;
}

int report_state_from_json(const char *text, struct mojo_info *ret_info, struct report_counter *counters,
			   size_t capacity, size_t *ret_count)
{
	struct mojo_info info = { 0 };
	size_t count = 0;
	json_t *object;
	int error;

	error = load(text, &object);
	if (error)
		return error;
	if (!json_is_object(object))
		error = -EBADMSG;
	if (!error)
		error = get_store_id(object, &info);
	if (!error)
		error = get_time(object, "created", &info.created_ns);
	for (size_t i = 0; i < NUMBERS && !error; i++)
		error = get_field(object, &numbers[i], &info);
	if (!error)
		error = get_bool(object, "read_only", &info.read_only);
	if (!error)
		error = get_bool(object, "failed", &info.failed);
	/* Twice, so that nothing is filled in before all of it is known to be good. */
	if (!error)
		error = get_counters(object, NULL, 0, &count);
	if (!error)
		error = get_counters(object, counters, capacity, &count);
	json_decref(object);
	if (error)
		return error;
	*ret_info = info;
	*ret_count = count;
	return 0;
}

/* ---- versions ------------------------------------------------------------------------------- */

/* What is known of a frozen version beside its name. A member is left out where there is nothing to say. */
static int put_version_state(json_t *object, const struct mojo_version_info *info)
{
	int error = 0;

	if (info->unpublished)
		error = put(object, "unpublished", json_true());
	if (!error && info->settled)
		error = put(object, "settled", json_true());
	if (!error && info->verdict != MOJO_VERDICT_UNKNOWN)
		error = put(object, "verdict", json_string(info->verdict == MOJO_VERDICT_GOOD ? "good" : "bad"));
	if (!error && info->verdict_text[0])
		error = put_bytes(object, "verdict_text", info->verdict_text,
				  strnlen(info->verdict_text, MOJO_VERDICT_MAX));
	return error;
}

static int get_version_state(const json_t *object, struct mojo_version_info *info)
{
	const json_t *verdict = json_object_get(object, "verdict");
	int error = 0;

	if (json_object_get(object, "unpublished"))
		error = get_bool(object, "unpublished", &info->unpublished);
	if (!error && json_object_get(object, "settled"))
		error = get_bool(object, "settled", &info->settled);
	if (!error && verdict) {
		const char *text = json_string_value(verdict);

		if (text && !strcmp(text, "good"))
			info->verdict = MOJO_VERDICT_GOOD;
		else if (text && !strcmp(text, "bad"))
			info->verdict = MOJO_VERDICT_BAD;
		else
			error = -EBADMSG;
	}
	if (!error && (json_object_get(object, "verdict_text") || json_object_get(object, "verdict_text_hex")))
		error = get_text(object, "verdict_text", "verdict_text_hex", MOJO_VERDICT_MAX, info->verdict_text);
	return error;
}

static int version_to_json(const struct mojo_version_info *info, char **ret_text)
{
	json_t *object = json_object();
	int error;

	if (!object)
		return -ENOMEM;
	error = put_number(object, "version", info->version);
	if (!error && !(info->active && info->time_ns == 0))
		error = put_time(object, "time", info->time_ns);
	if (!error)
		error = put(object, "active", json_boolean(info->active));
	if (!error)
		error = put_bytes(object, "message", info->message, strnlen(info->message, MOJO_MESSAGE_MAX));
	if (!error)
		error = put_version_state(object, info);
	if (error) {
		json_decref(object);
		return error;
	}
	return dump(object, ret_text);
}

int report_versions_to_json(const struct mojo_version_info *infos, size_t count, size_t limit, size_t *ret_used,
			    char **ret_text)
{
	struct array_text array;
	size_t used;
	int error;

	error = array_begin(&array, limit);
	for (used = 0; used < count && !error; used++) {
		char *element = NULL;

		error = version_to_json(&infos[used], &element);
		if (!error)
			error = array_add(&array, element, strlen(element));
		free(element);
		if (error)
			break;
	}
	if (error && error != -ENOSPC) {
		free(array.text);
		return error;
	}
	*ret_text = array_end(&array);
	*ret_used = used;
	return 0;
}

static int version_from_json(const json_t *object, struct mojo_version_info *ret_info)
{
	uint64_t version;
	int error;

	memset(ret_info, 0, sizeof(*ret_info));
	error = get_number(object, "version", MOJO_VERSION_MAX, &version);
	if (!error && version == 0)
		error = -EBADMSG;
	if (!error)
		error = get_bool(object, "active", &ret_info->active);
	if (!error && (json_object_get(object, "time") || !ret_info->active))
		error = get_time(object, "time", &ret_info->time_ns);
	if (!error)
		error = get_message(object, ret_info->message);
	if (!error)
		error = get_version_state(object, ret_info);
	if (!error)
		ret_info->version = (uint32_t)version;
	return error;
}

int report_versions_from_json(const char *text, struct mojo_version_info **ret_infos, size_t *ret_count)
{
	struct mojo_version_info *infos = NULL;
	json_t *array;
	size_t count;
	int error;

	error = load(text, &array);
	if (error)
		return error;
	count = json_array_size(array);
	if (!json_is_array(array))
		error = -EBADMSG;
	if (!error && count > 0) {
		infos = calloc(count, sizeof(*infos));
		if (!infos)
			error = -ENOMEM;
	}
	for (size_t i = 0; i < count && !error; i++)
		error = version_from_json(json_array_get(array, i), &infos[i]);
	json_decref(array);
	if (error) {
		free(infos);
		return error;
	}
	*ret_infos = infos;
	*ret_count = count;
	return 0;
}

/* ---- map ------------------------------------------------------------------------------------ */

int report_map_to_json(const struct mojo_map_entry *entries, size_t count, size_t limit, size_t *ret_used,
		       char **ret_text)
{
	struct array_text array;
	size_t used;
	int error;

	error = array_begin(&array, limit);
	for (used = 0; used < count && !error; used++) {
		const struct mojo_map_entry *entry = &entries[used];
		char element[160]; /* names and punctuation: 47 bytes; numbers: at most 60 */
		int length;

		if (entry->page > INT64_MAX || entry->address > INT64_MAX) {
			error = -EOVERFLOW;
			break;
		}
		/* Numbers under plain names need no escaping: jansson would take ten times as long. */
		length = snprintf(element, sizeof(element),
				  "{\"page\":%" PRIu64 ",\"address\":%" PRIu64 ",\"version\":%" PRIu32
				  ",\"checksum\":%" PRIu32 "}",
				  entry->page, entry->address, entry->version, entry->checksum);
		error = array_add(&array, element, (size_t)length);
		if (error)
			break;
	}
	if (error && error != -ENOSPC) {
		free(array.text);
		return error;
	}
	*ret_text = array_end(&array);
	*ret_used = used;
	return 0;
}

static int map_entry_from_json(const json_t *object, struct mojo_map_entry *ret_entry)
{
	uint64_t version, checksum;
	int error;

	error = get_number(object, "page", INT64_MAX, &ret_entry->page);
	if (!error)
		error = get_number(object, "address", INT64_MAX, &ret_entry->address);
	if (!error)
		error = get_number(object, "version", MOJO_VERSION_MAX, &version);
	if (!error)
		error = get_number(object, "checksum", UINT32_MAX, &checksum);
	if (error)
		return error;
	ret_entry->version = (uint32_t)version;
	ret_entry->checksum = (uint32_t)checksum;
	return 0;
}

int report_map_from_json(const char *text, struct mojo_map_entry **ret_entries, size_t *ret_count)
{
	struct mojo_map_entry *entries = NULL;
	json_t *array;
	size_t count;
	int error;

	error = load(text, &array);
	if (error)
		return error;
	count = json_array_size(array);
	if (!json_is_array(array))
		error = -EBADMSG;
	if (!error && count > 0) {
		entries = calloc(count, sizeof(*entries));
		if (!entries)
			error = -ENOMEM;
	}
	for (size_t i = 0; i < count && !error; i++)
		error = map_entry_from_json(json_array_get(array, i), &entries[i]);
	json_decref(array);
	if (error) {
		free(entries);
		return error;
	}
	*ret_entries = entries;
	*ret_count = count;
	return 0;
}

/* ---- findings of a check ---------------------------------------------------------------------- */

static const char *const severities[] = { [MOJO_INFO] = "info", [MOJO_WARNING] = "warning", [MOJO_ERROR] = "error" };
static const char *const scrub_states[] = { "never", "running", "done", "stopped", "failed" };

/* Numbers that say nothing when they are 0 are left out. */
static int put_nonzero(json_t *object, const char *name, uint64_t value)
{
	return value ? put_number(object, name, value) : 0;
}

static int finding_to_object(const struct mojo_finding *f, json_t **ret_object)
{
	json_t *object = json_object();
	int error;

	if (!object)
		return -ENOMEM;
	error = put(object, "kind", json_string(mojo_finding_name(f->kind)));
	if (!error)
		error = put(object, "severity", json_string(severities[f->severity]));
	if (!error)
		error = put_nonzero(object, "version", f->version);
	if (!error && f->version)
		error = put_number(object, "last_version", f->last_version);
	if (!error)
		error = put_nonzero(object, "bucket", f->bucket);
	if (!error && f->path)
		error = put_bytes(object, "path", f->path, strlen(f->path));
	if (!error && f->pages)
		error = put_number(object, "first_page", f->first_page);
	if (!error)
		error = put_nonzero(object, "pages", f->pages);
	if (!error)
		error = put_nonzero(object, "address", f->address);
	if (!error)
		error = put_nonzero(object, "blocks", f->blocks);
	if (!error)
		error = put_bytes(object, "text", f->text, strlen(f->text));
	if (error) {
		json_decref(object);
		return error;
	}
	*ret_object = object;
	return 0;
}

int report_finding_to_json(const struct mojo_finding *finding, char **ret_text)
{
	json_t *object = NULL;
	int error = finding_to_object(finding, &object);

	return error ? error : dump(object, ret_text);
}

int report_scrub_to_json(const struct report_scrub *scrub, size_t limit, char **ret_text)
{
	enum { HEAD_MAX = 512 };
	char started[REPORT_TIME_SIZE] = "", ended[REPORT_TIME_SIZE] = "";
	struct array_text array;
	char *list, *text;
	int error, length;

	if (scrub->pages_read > INT64_MAX || scrub->pages_total > INT64_MAX || scrub->errors > INT64_MAX)
		return -EOVERFLOW;
	error = array_begin(&array, limit > HEAD_MAX + 2 ? limit - HEAD_MAX : 2);
	for (size_t i = 0; i < scrub->count && !error; i++) {
		char *element = NULL;

		error = report_finding_to_json(&scrub->findings[i], &element);
		if (!error)
			error = array_add(&array, element, strlen(element));
		free(element);
	}
	if (error && error != -ENOSPC) {
		free(array.text);
		return error;
	}
	list = array_end(&array);
	if (scrub->started_ns)
		report_time_to_text(scrub->started_ns, started);
	if (scrub->ended_ns)
		report_time_to_text(scrub->ended_ns, ended);
	length = asprintf(&text,
			  "{\"state\":\"%s\",\"pages_read\":%" PRIu64 ",\"pages_total\":%" PRIu64 ",\"errors\":%" PRIu64
			  "%s%s%s%s%s%s,\"findings\":%s}",
			  scrub_states[scrub->state], scrub->pages_read, scrub->pages_total, scrub->errors,
			  started[0] ? ",\"started\":\"" : "", started, started[0] ? "\"" : "",
			  ended[0] ? ",\"ended\":\"" : "", ended, ended[0] ? "\"" : "", list);
	free(list);
	if (length < 0)
		return -ENOMEM;
	*ret_text = text;
	return 0;
}

void report_scrub_free(struct report_scrub *scrub)
{
	for (size_t i = 0; i < scrub->count; i++) {
		free((char *)(uintptr_t)scrub->findings[i].text);
		free((char *)(uintptr_t)scrub->findings[i].path);
	}
	free(scrub->findings);
	scrub->findings = NULL;
	scrub->count = 0;
}

/* A number that may be missing. */
static int get_optional(const json_t *object, const char *name, uint64_t max, uint64_t *ret_value)
{
	*ret_value = 0;
	return json_object_get(object, name) ? get_number(object, name, max, ret_value) : 0;
}

/* Which of @count names is the string @name of @object? -EBADMSG if none is. */
static int get_name(const json_t *object, const char *name, const char *const *names, size_t count, size_t *ret_index)
{
	const char *text = json_string_value(json_object_get(object, name));

	for (size_t i = 0; i < count && text; i++) {
		if (strcmp(text, names[i]) == 0) {
			*ret_index = i;
			return 0;
		}
	}
	return -EBADMSG;
}

/* A string that may be any bytes, as put_bytes() writes it; NULL if it is missing. */
static int get_bytes(const json_t *object, const char *name, const char *hex_name, char **ret_bytes)
{
	const json_t *plain = json_object_get(object, name), *hex = json_object_get(object, hex_name);
	size_t length;
	char *bytes = NULL;
	int error = 0;

	if ((plain && hex) || (plain && !json_is_string(plain)) || (hex && !json_is_string(hex)))
		return -EBADMSG;
	if (plain) {
		bytes = strdup(json_string_value(plain));
		if (!bytes)
			return -ENOMEM;
	} else if (hex) {
		length = json_string_length(hex) / 2;
		bytes = malloc(length + 1);
		if (!bytes)
			return -ENOMEM;
		error = hex_to_bytes(json_string_value(hex), json_string_length(hex), length, bytes);
	}
	if (error)
		free(bytes);
	else
		*ret_bytes = bytes;
	return error;
}

static int finding_from_json(const json_t *object, struct mojo_finding *f)
{
	const char *names[MOJO_FOUND_KINDS];
	uint64_t version, last_version, bucket;
	size_t kind = 0, severity = 0;
	char *text = NULL, *path = NULL;
	int error;

	for (int i = 0; i < MOJO_FOUND_KINDS; i++)
		names[i] = mojo_finding_name((enum mojo_finding_kind)i);
	error = get_name(object, "kind", names, MOJO_FOUND_KINDS, &kind);
	if (!error)
		error = get_name(object, "severity", severities, sizeof(severities) / sizeof(severities[0]), &severity);
	if (!error)
		error = get_optional(object, "version", MOJO_VERSION_MAX, &version);
	if (!error)
		error = get_optional(object, "last_version", MOJO_VERSION_MAX, &last_version);
	if (!error)
		error = get_optional(object, "bucket", UINT32_MAX, &bucket);
	if (!error)
		error = get_optional(object, "first_page", INT64_MAX, &f->first_page);
	if (!error)
		error = get_optional(object, "pages", INT64_MAX, &f->pages);
	if (!error)
		error = get_optional(object, "address", INT64_MAX, &f->address);
	if (!error)
		error = get_optional(object, "blocks", INT64_MAX, &f->blocks);
	if (!error)
		error = get_bytes(object, "path", "path_hex", &path);
	if (!error)
		error = get_bytes(object, "text", "text_hex", &text);
	if (!error && !text)
		error = -EBADMSG;
	if (error) {
		free(path);
		free(text);
		return error;
	}
	f->kind = (enum mojo_finding_kind)kind;
	f->severity = (enum mojo_severity)severity;
	f->version = (uint32_t)version;
	f->last_version = (uint32_t)last_version;
	f->bucket = (uint32_t)bucket;
	f->path = path;
	f->text = text;
	return 0;
}

int report_scrub_from_json(const char *text, struct report_scrub *ret_scrub)
{
	struct report_scrub scrub = { 0 };
	const json_t *list;
	json_t *object;
	size_t state = 0, count;
	int error;

	error = load(text, &object);
	if (error)
		return error;
	error = get_name(object, "state", scrub_states, sizeof(scrub_states) / sizeof(scrub_states[0]), &state);
	if (!error)
		error = get_number(object, "pages_read", INT64_MAX, &scrub.pages_read);
	if (!error)
		error = get_number(object, "pages_total", INT64_MAX, &scrub.pages_total);
	if (!error)
		error = get_number(object, "errors", INT64_MAX, &scrub.errors);
	if (!error && json_object_get(object, "started"))
		error = get_time(object, "started", &scrub.started_ns);
	if (!error && json_object_get(object, "ended"))
		error = get_time(object, "ended", &scrub.ended_ns);
	list = json_object_get(object, "findings");
	if (!error && !json_is_array(list))
		error = -EBADMSG;
	count = json_array_size(list);
	if (!error && count) {
		scrub.findings = calloc(count, sizeof(*scrub.findings));
		if (!scrub.findings)
			error = -ENOMEM;
	}
	for (size_t i = 0; i < count && !error; i++) {
		error = finding_from_json(json_array_get(list, i), &scrub.findings[i]);
		scrub.count += !error;
	}
	json_decref(object);
	if (error) {
		report_scrub_free(&scrub);
		return error;
	}
	scrub.state = (enum report_scrub_state)state;
	*ret_scrub = scrub;
	return 0;
}

/* ---- one member ----------------------------------------------------------------------------- */

int report_member_to_json(const char *name, const char *bytes, size_t length, char **ret_text)
{
	json_t *object = json_object();
	char *text = NULL;
	size_t size;
	int error;

	if (!object)
		return -ENOMEM;
	error = put_bytes(object, name, bytes, length);
	if (error) {
		json_decref(object);
		return error;
	}
	error = dump(object, &text);
	if (error)
		return error;
	/* The object without its braces. */
	size = strlen(text);
	memmove(text, text + 1, size - 2);
	text[size - 2] = '\0';
	*ret_text = text;
	return 0;
}
