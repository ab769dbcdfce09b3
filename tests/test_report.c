/* SPDX-License-Identifier: MIT */
/* What report.h promises: what was written comes back as it was, limits are kept, hostile text is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "report.h"

#define ID "0123456789abcdef0123456789abcdef"

static struct mojo_info some_info(void)
{
	struct mojo_info info = {
		.format = 1,
		.page_size = 4096,
		.pages_per_slot = 2048,
		.chunk_bytes = 64ull << 20,
		.active_version = MOJO_VERSION_MAX,
		.oldest_version = 3,
		.frozen_versions = 4,
		.unpublished_version = 77,
		.files = 5,
		.directories = 6,
		.chunks = 7,
		.store_bytes = INT64_MAX,
		.dead_bytes = 9,
		.log_bytes = 10,
		.generation = 11,
		.sequence = 12,
		.cache_bytes = 13,
		.flushes = 14,
		.groups = 15,
		.checkpoints = 16,
		.pages_written = 17,
		.pages_read = 18,
		.read_only = true,
		.failed = true,
		.created_ns = 1700000000123456789,
	};

	strcpy(info.store_id, ID);
	return info;
}

static void assert_info_equal(const struct mojo_info *a, const struct mojo_info *b)
{
	assert_int_equal(a->format, b->format);
	assert_string_equal(a->store_id, b->store_id);
	assert_int_equal(a->page_size, b->page_size);
	assert_int_equal(a->pages_per_slot, b->pages_per_slot);
	assert_true(a->chunk_bytes == b->chunk_bytes);
	assert_int_equal(a->active_version, b->active_version);
	assert_int_equal(a->oldest_version, b->oldest_version);
	assert_true(a->frozen_versions == b->frozen_versions);
	assert_int_equal(a->unpublished_version, b->unpublished_version);
	assert_true(a->files == b->files);
	assert_true(a->directories == b->directories);
	assert_true(a->chunks == b->chunks);
	assert_true(a->store_bytes == b->store_bytes);
	assert_true(a->dead_bytes == b->dead_bytes);
	assert_true(a->log_bytes == b->log_bytes);
	assert_true(a->generation == b->generation);
	assert_true(a->sequence == b->sequence);
	assert_true(a->cache_bytes == b->cache_bytes);
	assert_true(a->flushes == b->flushes);
	assert_true(a->groups == b->groups);
	assert_true(a->checkpoints == b->checkpoints);
	assert_true(a->pages_written == b->pages_written);
	assert_true(a->pages_read == b->pages_read);
	assert_int_equal(a->read_only, b->read_only);
	assert_int_equal(a->failed, b->failed);
	assert_true(a->created_ns == b->created_ns);
}

static struct mojo_version_info version_info(uint32_t version, int64_t time_ns, const char *message)
{
	struct mojo_version_info info = { .version = version, .time_ns = time_ns };

	snprintf(info.message, sizeof(info.message), "%s", message);
	return info;
}

static void assert_version_survives(const struct mojo_version_info *info)
{
	struct mojo_version_info *again;
	size_t used, count;
	char *text;

	assert_int_equal(report_versions_to_json(info, 1, REPORT_LIMIT_MIN, &used, &text), 0);
	assert_int_equal(used, 1);
	assert_int_equal(report_versions_from_json(text, &again, &count), 0);
	assert_int_equal(count, 1);
	assert_int_equal(again->version, info->version);
	assert_true(again->time_ns == info->time_ns);
	assert_int_equal(again->active, info->active);
	assert_string_equal(again->message, info->message);
	assert_int_equal(again->unpublished, info->unpublished);
	assert_int_equal(again->settled, info->settled);
	assert_int_equal(again->verdict, info->verdict);
	assert_string_equal(again->verdict_text, info->verdict_text);
	free(again);
	free(text);
}

/* ---- state ---------------------------------------------------------------------------------- */

static void test_state_comes_back_as_it_was(void **state)
{
	struct mojo_info info = some_info(), again;
	size_t count = 99;
	char *text;

	(void)state;
	assert_int_equal(report_state_to_json(&info, NULL, 0, &text), 0);
	assert_null(strstr(text, "requests"));
	assert_null(strchr(text, '\n'));
	assert_int_equal(report_state_from_json(text, &again, NULL, 0, &count), 0);
	assert_int_equal(count, 0);
	assert_info_equal(&info, &again);
	free(text);
}

static void test_counters_come_back_in_order(void **state)
{
	static const struct report_counter counters[] = { { "write", 12 },
							  { "a_name_of_23_characters", INT64_MAX },
							  { "lookup", 0 } };
	struct mojo_info info = some_info(), again;
	struct report_counter got[3] = { 0 };
	size_t count;
	char *text;

	(void)state;
	assert_int_equal(report_state_to_json(&info, counters, 3, &text), 0);
	assert_int_equal(report_state_from_json(text, &again, got, 3, &count), 0);
	assert_int_equal(count, 3);
	for (size_t i = 0; i < 3; i++) {
		assert_string_equal(got[i].name, counters[i].name);
		assert_true(got[i].count == counters[i].count);
	}
	memset(got, 0, sizeof(got));
	assert_int_equal(report_state_from_json(text, &again, got, 1, &count), 0);
	assert_int_equal(count, 3);
	assert_string_equal(got[0].name, "write");
	assert_string_equal(got[1].name, "");
	free(text);

	assert_int_equal(report_counters_to_json(counters, 3, &text), 0);
	assert_string_equal(text, "{\"write\":12,\"a_name_of_23_characters\":9223372036854775807,\"lookup\":0}");
	free(text);
	assert_int_equal(report_counters_to_json(NULL, 0, &text), 0);
	assert_string_equal(text, "{}");
	free(text);
}

static void test_what_json_cannot_carry_is_refused(void **state)
{
	static const struct report_counter twice[] = { { "read", 1 }, { "read", 2 } };
	static const struct report_counter bytes[] = { { "re\xff", 1 } };
	struct mojo_info info = some_info();
	struct mojo_map_entry entry = { .page = (uint64_t)INT64_MAX + 1 };
	char *text = NULL;
	size_t used = 99;

	(void)state;
	assert_int_equal(report_state_to_json(&info, twice, 2, &text), -EINVAL);
	assert_int_equal(report_counters_to_json(bytes, 1, &text), -EINVAL);
	info.sequence = UINT64_MAX;
	assert_int_equal(report_state_to_json(&info, NULL, 0, &text), -EOVERFLOW);
	assert_int_equal(report_map_to_json(&entry, 1, SIZE_MAX, &used, &text), -EOVERFLOW);
	assert_null(text);
	assert_int_equal(used, 99);
}

/* Replace @from, which must be in the text, by @to. */
static char *edited(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);
	char *result = malloc(strlen(text) + strlen(to) + 1);

	assert_non_null(at);
	assert_non_null(result);
	memcpy(result, text, (size_t)(at - text));
	strcpy(result + (at - text), to);
	strcat(result, at + strlen(from));
	return result;
}

static void test_hostile_state_is_refused(void **state)
{
	static const struct {
		const char *from, *to;
	} edits[] = {
		{ "\"format\":1,", "" },
		{ "\"format\":1,", "\"format\":-1," },
		{ "\"format\":1,", "\"format\":4294967296," },
		{ "\"format\":1,", "\"format\":1.5," },
		{ "\"format\":1,", "\"format\":\"1\"," },
		{ "\"format\":1,", "\"format\":null," },
		{ "\"format\":1,", "\"format\":1,\"format\":1," },
		{ "\"sequence\":12,", "\"sequence\":9223372036854775808," },
		{ "\"sequence\":12,", "\"sequence\":-12," },
		{ "\"read_only\":true", "\"read_only\":1" },
		{ ID, "0123456789abcdef0123456789abcde" },
		{ ID, "0123456789abcdef0123456789abcdef0" },
		{ ID, "0123456789ABCDEF0123456789abcdef" },
		{ "2023-11-14T", "2023-11-14 " },
		{ "2023-11-14T", "2023-02-30T" },
		{ "2023-11-14T", "12023-11-14T" },
		{ "56789Z", "56789" },
		{ "56789Z", "56789+00:00" },
		{ "56789Z", "5678Z" },
		{ "{\"read\":1}", "[]" },
		{ "{\"read\":1}", "{\"read\":-1}" },
		{ "{\"read\":1}", "{\"read\":\"1\"}" },
		{ "{\"read\":1}", "{\"\":1}" },
		{ "{\"read\":1}", "{\"a_name_of_24_characters__\":1}" },
		{ "{\"read\":1}", "{\"read\\u0000\":1}" },
		{ "{\"read\":1}}", "{\"read\":1}" },
		{ "{\"read\":1}}", "{\"read\":1}}{}" },
	};
	static const struct report_counter counter = { "read", 1 };
	struct mojo_info info = some_info(), again = { .format = 77 };
	struct report_counter got = { "untouched", 5 };
	size_t count = 99;
	char *text, *bad;

	(void)state;
	assert_int_equal(report_state_to_json(&info, &counter, 1, &text), 0);
	for (size_t i = 0; i < sizeof(edits) / sizeof(edits[0]); i++) {
		bad = edited(text, edits[i].from, edits[i].to);
		if (report_state_from_json(bad, &again, &got, 1, &count) != -EBADMSG)
			fail_msg("taken: %s", bad);
		free(bad);
	}
	assert_int_equal(again.format, 77);
	assert_string_equal(got.name, "untouched");
	assert_int_equal(count, 99);

	/* A newer program may know more. */
	bad = edited(text, "\"format\":1,", "\"format\":1,\"mood\":{\"is\":[\"good\"]},");
	assert_int_equal(report_state_from_json(bad, &again, &got, 1, &count), 0);
	assert_info_equal(&info, &again);
	free(bad);
	free(text);
}

/* ---- versions ------------------------------------------------------------------------------- */

static void test_versions_come_back_as_they_were(void **state)
{
	static const char *const messages[] = {
		"",
		"plain",
		"quotes \" and \\ and / and \b\f\n\r\t\x01\x1f\x7f",
		"gr\xc3\xb6\xc3\x9f"
		"er, \xe2\x82\xac, \xf0\x9f\x90\x98",
		"\xff",
		"latin-1: gr\xf6\xdf"
		"er",
		"cut short: \xe2\x82",
		"overlong: \xc0\xaf \xe0\x80\xaf",
		"surrogate: \xed\xa0\x80",
		"too high: \xf4\x90\x80\x80",
		"message_hex",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		struct mojo_version_info info = version_info(7, 1700000000123456789, messages[i]);

		assert_version_survives(&info);
	}
}

static void test_the_longest_messages_fit(void **state)
{
	struct mojo_version_info info = version_info(MOJO_VERSION_MAX, INT64_MIN, "");

	(void)state;
	/* Each of these takes the most room in one way: hexadecimal, and escapes of six characters. */
	info.unpublished = info.settled = true;
	info.verdict = MOJO_VERDICT_GOOD;
	memset(info.message, 0xff, MOJO_MESSAGE_MAX);
	memset(info.verdict_text, 0xff, MOJO_VERDICT_MAX);
	assert_version_survives(&info);
	memset(info.message, 1, MOJO_MESSAGE_MAX);
	memset(info.verdict_text, 1, MOJO_VERDICT_MAX);
	assert_version_survives(&info);
}

static void test_verdicts_survive(void **state)
{
	struct mojo_version_info info = version_info(7, 1700000000123456789, "m");
	size_t used;
	char *text;

	(void)state;
	info.verdict = MOJO_VERDICT_BAD;
	strcpy(info.verdict_text, "a.db: row 3 missing from index i");
	assert_version_survives(&info);
	info.verdict = MOJO_VERDICT_GOOD;
	info.verdict_text[0] = '\0';
	info.settled = true;
	assert_version_survives(&info);
	assert_int_equal(report_versions_to_json(&info, 1, SIZE_MAX, &used, &text), 0);
	assert_non_null(strstr(text, "\"settled\":true,\"verdict\":\"good\"}]"));
	free(text);
}

static void test_every_byte_survives(void **state)
{
	struct mojo_version_info info = version_info(1, 0, "");

	(void)state;
	for (unsigned i = 0; i < 255; i++)
		info.message[i] = (char)(i + 1);
	assert_version_survives(&info);
	for (unsigned first = 1; first < 256; first++) {
		memset(info.message, 0, sizeof(info.message));
		info.message[0] = (char)first;
		for (unsigned second = 0; second < 256; second++) {
			info.message[1] = (char)second;
			assert_version_survives(&info);
		}
	}
}

static void test_form_of_a_message_that_is_not_utf8(void **state)
{
	struct mojo_version_info info = version_info(7, 0, "a\xff");
	size_t used;
	char *text;

	(void)state;
	assert_int_equal(report_versions_to_json(&info, 1, SIZE_MAX, &used, &text), 0);
	assert_string_equal(text, "[{\"version\":7,\"time\":\"1970-01-01T00:00:00.000000000Z\",\"active\":false,"
				  "\"message_hex\":\"61ff\"}]");
	free(text);
}

static void test_the_active_version_has_no_time(void **state)
{
	struct mojo_version_info info = version_info(7, 0, "");
	size_t used;
	char *text;

	(void)state;
	info.active = true;
	assert_version_survives(&info);
	assert_int_equal(report_versions_to_json(&info, 1, SIZE_MAX, &used, &text), 0);
	assert_string_equal(text, "[{\"version\":7,\"active\":true,\"message\":\"\"}]");
	free(text);
}

static void test_versions_stop_at_the_limit(void **state)
{
	struct mojo_version_info infos[40];
	size_t used, last_used = 0;
	char *text;

	(void)state;
	for (uint32_t i = 0; i < 40; i++)
		infos[i] = version_info(i + 1, i, "some message");
	for (size_t limit = 2; limit < 4500; limit++) {
		struct mojo_version_info *again;
		size_t count;

		assert_int_equal(report_versions_to_json(infos, 40, limit, &used, &text), 0);
		assert_true(strlen(text) <= limit);
		assert_true(used >= last_used && used <= last_used + 1);
		/* Never less than what would have fit: the limit is reached exactly when one more appears. */
		assert_true(used == last_used || strlen(text) == limit);
		assert_int_equal(report_versions_from_json(text, &again, &count), 0);
		assert_int_equal(count, used);
		free(again);
		free(text);
		last_used = used;
	}
	assert_int_equal(last_used, 40);
	assert_int_equal(report_versions_to_json(infos, 40, 1, &used, &text), -EINVAL);
	assert_int_equal(report_versions_to_json(NULL, 0, 2, &used, &text), 0);
	assert_string_equal(text, "[]");
	free(text);
}

static void test_hostile_versions_are_refused(void **state)
{
	static const char *const texts[] = {
		"",
		" ",
		"{}",
		"7",
		"null",
		"[7]",
		"[{}]",
		"[[]]",
		"[null]",
		"[{\"version\":1,\"active\":true,\"message\":\"\"}",
		"[{\"version\":1,\"active\":true,\"message\":\"\"}]]",
		"[{\"version\":0,\"active\":true,\"message\":\"\"}]",
		"[{\"version\":16777216,\"active\":true,\"message\":\"\"}]",
		"[{\"version\":1,\"active\":\"true\",\"message\":\"\"}]",
		"[{\"version\":1,\"active\":false,\"message\":\"\"}]",
		"[{\"version\":1,\"active\":true,\"time\":7,\"message\":\"\"}]",
		"[{\"version\":1,\"active\":true,\"time\":\"yesterday\",\"message\":\"\"}]",
		"[{\"version\":1,\"active\":true,\"time\":\"9999-01-01T00:00:00.000000000Z\",\"message\":\"\"}]",
		"[{\"version\":1,\"active\":true,\"time\":\"2000-01-01T00:00:00.000000000Z \",\"message\":\"\"}]",
		"[{\"version\":1,\"active\":true,\"time\":\"2000-01-01T24:00:00.000000000Z\",\"message\":\"\"}]",
		"[{\"version\":1,\"active\":true,\"time\":\"2000-01-01T00:00:00.-00000001Z\",\"message\":\"\"}]",
		"[{\"version\":1,\"active\":true}]",
		"[{\"version\":1,\"active\":true,\"message\":7}]",
		"[{\"version\":1,\"active\":true,\"message\":\"\",\"message_hex\":\"\"}]",
		"[{\"version\":1,\"active\":true,\"message\":\"a\\u0000b\"}]",
		"[{\"version\":1,\"active\":true,\"message\":\"\\ud800\"}]",
		"[{\"version\":1,\"active\":true,\"message\":\"\xff\"}]",
		"[{\"version\":1,\"active\":true,\"message_hex\":\"f\"}]",
		"[{\"version\":1,\"active\":true,\"message_hex\":\"FF\"}]",
		"[{\"version\":1,\"active\":true,\"message_hex\":\"00\"}]",
		"[{\"version\":1,\"active\":true,\"message_hex\":\"fx\"}]",
		"[{\"version\":1,\"active\":true,\"message_hex\":7}]",
	};
	struct mojo_version_info *infos = NULL;
	size_t count = 99;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (report_versions_from_json(texts[i], &infos, &count) != -EBADMSG)
			fail_msg("taken: %s", texts[i]);
	}
	assert_null(infos);
	assert_int_equal(count, 99);
}

static void test_a_message_too_long_is_refused(void **state)
{
	char text[4 * MOJO_MESSAGE_MAX], message[2 * MOJO_MESSAGE_MAX + 3];
	struct mojo_version_info *infos = NULL;
	size_t count;

	(void)state;
	for (unsigned length = MOJO_MESSAGE_MAX; length <= MOJO_MESSAGE_MAX + 1; length++) {
		int expected = length > MOJO_MESSAGE_MAX ? -EBADMSG : 0;

		memset(message, 'a', 2 * length);
		message[length] = '\0';
		snprintf(text, sizeof(text), "[{\"version\":1,\"active\":true,\"message\":\"%s\"}]", message);
		assert_int_equal(report_versions_from_json(text, &infos, &count), expected);
		free(infos);
		infos = NULL;
		message[length] = 'a';
		message[2 * length] = '\0';
		snprintf(text, sizeof(text), "[{\"version\":1,\"active\":true,\"message_hex\":\"%s\"}]", message);
		assert_int_equal(report_versions_from_json(text, &infos, &count), expected);
		free(infos);
		infos = NULL;
	}
}

static void test_deep_nesting_is_refused(void **state)
{
	struct mojo_version_info *infos;
	struct mojo_map_entry *entries;
	char text[60001];
	size_t count;

	(void)state;
	memset(text, '[', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	assert_int_equal(report_versions_from_json(text, &infos, &count), -EBADMSG);
	assert_int_equal(report_map_from_json(text, &entries, &count), -EBADMSG);
}

/* ---- map ------------------------------------------------------------------------------------ */

static void test_map_comes_back_as_it_was(void **state)
{
	static const struct mojo_map_entry entries[] = {
		{ 0, 1, 1, 0 },
		{ 1, 0, 0, 0 },
		{ UINT32_MAX, (1ull << 40) - 1, MOJO_VERSION_MAX, UINT32_MAX },
		{ INT64_MAX, INT64_MAX, MOJO_VERSION_MAX, UINT32_MAX },
	};
	struct mojo_map_entry *again;
	size_t used, count;
	char *text;

	(void)state;
	assert_int_equal(report_map_to_json(entries, 4, SIZE_MAX, &used, &text), 0);
	assert_int_equal(used, 4);
	assert_int_equal(report_map_from_json(text, &again, &count), 0);
	assert_int_equal(count, 4);
	for (size_t i = 0; i < 4; i++) {
		assert_true(again[i].page == entries[i].page);
		assert_true(again[i].address == entries[i].address);
		assert_int_equal(again[i].version, entries[i].version);
		assert_int_equal(again[i].checksum, entries[i].checksum);
	}
	free(again);
	free(text);
	assert_int_equal(report_map_from_json("[]", &again, &count), 0);
	assert_null(again);
	assert_int_equal(count, 0);
}

static void test_map_stops_at_the_limit(void **state)
{
	struct mojo_map_entry entries[1000];
	size_t used, last_used = 0;
	char *text;

	(void)state;
	for (uint32_t i = 0; i < 1000; i++)
		entries[i] = (struct mojo_map_entry){ i, i * 7u, i, i * 2654435761u };
	for (size_t limit = 2; limit < 3000; limit++) {
		assert_int_equal(report_map_to_json(entries, 1000, limit, &used, &text), 0);
		assert_true(strlen(text) <= limit);
		assert_true(used >= last_used && used <= last_used + 1);
		assert_true(used == last_used || strlen(text) == limit);
		free(text);
		last_used = used;
	}
	assert_int_equal(report_map_to_json(entries, 1000, 60000, &used, &text), 0);
	assert_true(used > 700 && used < 1000);
	free(text);
	assert_int_equal(report_map_to_json(entries, 1000, 0, &used, &text), -EINVAL);
}

static void test_hostile_maps_are_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"{}",
		"[0]",
		"[{}]",
		"[{\"page\":0,\"address\":0,\"version\":0}]",
		"[{\"page\":-1,\"address\":0,\"version\":0,\"checksum\":0}]",
		"[{\"page\":0,\"address\":1e3,\"version\":0,\"checksum\":0}]",
		"[{\"page\":0,\"address\":9223372036854775808,\"version\":0,\"checksum\":0}]",
		"[{\"page\":0,\"address\":0,\"version\":16777216,\"checksum\":0}]",
		"[{\"page\":0,\"address\":0,\"version\":0,\"checksum\":4294967296}]",
		"[{\"page\":0,\"address\":0,\"version\":0,\"checksum\":0},7]",
	};
	struct mojo_map_entry *entries = NULL;
	size_t count;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		if (report_map_from_json(texts[i], &entries, &count) != -EBADMSG)
			fail_msg("taken: %s", texts[i]);
	}
	assert_null(entries);
}

/* ---- text ----------------------------------------------------------------------------------- */

static void test_a_scrub_comes_back_as_it_was(void **state)
{
	struct mojo_finding findings[] = {
		{ .kind = MOJO_FOUND_PAGE,
		  .severity = MOJO_ERROR,
		  .version = 3,
		  .last_version = 9,
		  .bucket = 7,
		  .path = "a/\"b\"",
		  .first_page = 0,
		  .pages = 4,
		  .address = 1234567890123,
		  .blocks = 4,
		  .text = "wrong" },
		{ .kind = MOJO_FOUND_INDEX, .severity = MOJO_WARNING, .path = "\xff\x01", .text = "" },
		{ .kind = MOJO_FOUND_LOST, .severity = MOJO_INFO, .text = "no path" },
	};
	struct report_scrub scrub = {
		.state = REPORT_SCRUB_RUNNING,
		.pages_read = 5,
		.pages_total = 50,
		.errors = 77,
		.started_ns = 1234567890,
		.findings = findings,
		.count = 3,
	};
	struct report_scrub back;
	char *text, *again;

	(void)state;
	assert_int_equal(report_scrub_to_json(&scrub, 60000, &text), 0);
	assert_int_equal(report_scrub_from_json(text, &back), 0);
	assert_int_equal(back.state, REPORT_SCRUB_RUNNING);
	assert_int_equal(back.errors, 77);
	assert_int_equal(back.started_ns, 1234567890);
	assert_int_equal(back.ended_ns, 0);
	assert_int_equal(back.count, 3);
	assert_int_equal(back.findings[0].address, 1234567890123);
	assert_int_equal(back.findings[0].last_version, 9);
	assert_string_equal(back.findings[0].path, "a/\"b\"");
	assert_string_equal(back.findings[1].path, "\xff\x01");
	assert_null(back.findings[2].path);
	assert_int_equal(report_scrub_to_json(&back, 60000, &again), 0);
	assert_string_equal(text, again);
	report_scrub_free(&back);
	free(again);
	free(text);
	/* As many as fit. */
	assert_int_equal(report_scrub_to_json(&scrub, 650, &text), 0);
	assert_true(strlen(text) <= 650);
	assert_int_equal(report_scrub_from_json(text, &back), 0);
	assert_true(back.count < 3);
	report_scrub_free(&back);
	free(text);
	scrub.pages_read = UINT64_MAX;
	assert_int_equal(report_scrub_to_json(&scrub, 60000, &text), -EOVERFLOW);
	findings[0].blocks = UINT64_MAX;
	assert_int_equal(report_finding_to_json(&findings[0], &text), -EOVERFLOW);
}

static void test_hostile_scrubs_are_refused(void **state)
{
	static const char *const texts[] = {
		"",
		"[]",
		"{}",
		"{\"state\":\"asleep\",\"pages_read\":1,\"pages_total\":1,\"errors\":0,\"findings\":[]}",
		"{\"state\":\"done\",\"pages_read\":-1,\"pages_total\":1,\"errors\":0,\"findings\":[]}",
		"{\"state\":\"done\",\"pages_read\":1,\"pages_total\":1,\"errors\":0}",
		"{\"state\":\"done\",\"pages_read\":1,\"pages_total\":1,\"errors\":0,\"findings\":7}",
		"{\"state\":\"done\",\"pages_read\":1,\"pages_total\":1,\"errors\":0,\"findings\":[7]}",
		"{\"state\":\"done\",\"pages_read\":1,\"pages_total\":1,\"errors\":0,\"findings\":[{\"kind\":\"page\"}]}",
		"{\"state\":\"done\",\"pages_read\":1,\"pages_total\":1,\"errors\":0,\"findings\":"
		"[{\"kind\":\"page\",\"severity\":\"error\"}]}",
		"{\"state\":\"done\",\"pages_read\":1,\"pages_total\":1,\"errors\":0,\"findings\":"
		"[{\"kind\":\"page\",\"severity\":\"error\",\"text\":\"x\"},"
		"{\"kind\":\"page\",\"severity\":\"error\",\"text\":\"x\",\"version\":99999999}]}",
		"{\"state\":\"done\",\"pages_read\":1,\"pages_total\":1,\"errors\":0,\"findings\":"
		"[{\"kind\":\"page\",\"severity\":\"error\",\"text\":\"x\",\"path\":\"a\",\"path_hex\":\"61\"}]}",
		"{\"state\":\"done\",\"pages_read\":1,\"pages_total\":1,\"errors\":0,\"findings\":"
		"[{\"kind\":\"page\",\"severity\":\"error\",\"text\":\"x\",\"path_hex\":\"6\"}]}",
	};
	struct report_scrub scrub;

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(report_scrub_from_json(texts[i], &scrub), -EBADMSG);
}

static void test_one_member(void **state)
{
	char *text;

	(void)state;
	assert_int_equal(report_member_to_json("path", "a \"b\"\n", 6, &text), 0);
	assert_string_equal(text, "\"path\":\"a \\\"b\\\"\\n\"");
	free(text);
	assert_int_equal(report_member_to_json("path", "\xfe", 1, &text), 0);
	assert_string_equal(text, "\"path_hex\":\"fe\"");
	free(text);
	assert_int_equal(report_member_to_json("path", "", 0, &text), 0);
	assert_string_equal(text, "\"path\":\"\"");
	free(text);
}

static void test_times(void **state)
{
	static const struct {
		int64_t time_ns;
		const char *text;
	} times[] = {
		{ 0, "1970-01-01T00:00:00.000000000Z" },
		{ -1, "1969-12-31T23:59:59.999999999Z" },
		{ -1000000000, "1969-12-31T23:59:59.000000000Z" },
		{ 951782400000000001, "2000-02-29T00:00:00.000000001Z" },
		{ INT64_MAX, "2262-04-11T23:47:16.854775807Z" },
		{ INT64_MIN, "1677-09-21T00:12:43.145224192Z" },
	};
	char text[REPORT_TIME_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		struct mojo_version_info info = version_info(1, times[i].time_ns, "");

		report_time_to_text(times[i].time_ns, text);
		assert_string_equal(text, times[i].text);
		assert_version_survives(&info);
	}
}

static void test_utf8(void **state)
{
	static const struct {
		const char *bytes;
		size_t length;
	} texts[] = {
		{ "a", 1 },
		{ "\x7f", 1 },
		{ "\xc2\x80", 2 },
		{ "\xdf\xbf", 2 },
		{ "\xe0\xa0\x80", 3 },
		{ "\xed\x9f\xbf", 3 },
		{ "\xee\x80\x80", 3 },
		{ "\xef\xbf\xbf", 3 },
		{ "\xf0\x90\x80\x80", 4 },
		{ "\xf4\x8f\xbf\xbf", 4 },
		{ "\x80", 0 },
		{ "\xbf", 0 },
		{ "\xc1\xbf", 0 },
		{ "\xe0\x9f\xbf", 0 },
		{ "\xed\xa0\x80", 0 },
		{ "\xf0\x8f\xbf\xbf", 0 },
		{ "\xf4\x90\x80\x80", 0 },
		{ "\xf5\x80\x80\x80", 0 },
		{ "\xc2\x41", 0 },
		{ "\xe2\x82\x41", 0 },
		{ "\xf0\x9f\x90\x41", 0 },
		{ "\xc2", 0 },
		{ "\xf0\x9f\x90", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		assert_int_equal(report_utf8_length(texts[i].bytes, strlen(texts[i].bytes)), texts[i].length);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_state_comes_back_as_it_was),
		cmocka_unit_test(test_counters_come_back_in_order),
		cmocka_unit_test(test_what_json_cannot_carry_is_refused),
		cmocka_unit_test(test_hostile_state_is_refused),
		cmocka_unit_test(test_versions_come_back_as_they_were),
		cmocka_unit_test(test_the_longest_messages_fit),
		cmocka_unit_test(test_verdicts_survive),
		cmocka_unit_test(test_every_byte_survives),
		cmocka_unit_test(test_form_of_a_message_that_is_not_utf8),
		cmocka_unit_test(test_the_active_version_has_no_time),
		cmocka_unit_test(test_versions_stop_at_the_limit),
		cmocka_unit_test(test_hostile_versions_are_refused),
		cmocka_unit_test(test_a_message_too_long_is_refused),
		cmocka_unit_test(test_deep_nesting_is_refused),
		cmocka_unit_test(test_map_comes_back_as_it_was),
		cmocka_unit_test(test_map_stops_at_the_limit),
		cmocka_unit_test(test_hostile_maps_are_refused),
		cmocka_unit_test(test_a_scrub_comes_back_as_it_was),
		cmocka_unit_test(test_hostile_scrubs_are_refused),
		cmocka_unit_test(test_one_member),
		cmocka_unit_test(test_times),
		cmocka_unit_test(test_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
