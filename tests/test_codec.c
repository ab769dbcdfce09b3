/* SPDX-License-Identifier: MIT */
/* What codec.h promises: what went in comes out, and nothing else does any harm. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include <cmocka.h>

#include "codec.h"

static uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

/* Half noise, half runs: what a slot map looks like to a compressor. */
static void fill(unsigned char *data, size_t length, uint32_t seed)
{
	for (size_t i = 0; i < length; i++)
		data[i] = i / 512 % 2 ? (unsigned char)next_random(&seed) : (unsigned char)(i / 64);
}

static void test_round_trip(void **state)
{
	static const size_t lengths[] = { 0, 1, 2, 100, 4095, 4096, 65536, 1000003 };

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		size_t length = lengths[i];
		unsigned char *data = malloc(length + 1);
		unsigned char *packed = malloc(length * 2 + 1024);
		unsigned char *back = malloc(length + 1);
		size_t packed_length;
		size_t back_length;

		assert_non_null(data);
		assert_non_null(packed);
		assert_non_null(back);
		fill(data, length, (uint32_t)length);
		assert_int_equal(mojo_codec_compress(data, length, packed, length * 2 + 1024, &packed_length), 0);
		back[length] = 0x77;
		assert_int_equal(mojo_codec_decompress(packed, packed_length, back, length, &back_length), 0);
		assert_int_equal(back_length, length);
		assert_memory_equal(back, data, length);
		assert_int_equal(back[length], 0x77);
		free(data);
		free(packed);
		free(back);
	}
}

static void test_what_does_not_fit_is_refused(void **state)
{
	unsigned char data[4096];
	unsigned char packed[8192];
	unsigned char back[4096];
	size_t needed;
	size_t length = 12345;

	(void)state;
	fill(data, sizeof(data), 1);
	assert_int_equal(mojo_codec_compress(data, sizeof(data), packed, sizeof(packed), &needed), 0);
	assert_true(needed < sizeof(data));
	assert_int_equal(mojo_codec_compress(data, sizeof(data), packed, needed - 100, &length), -ENOSPC);
	assert_int_equal(mojo_codec_compress(data, sizeof(data), packed, 0, &length), -ENOSPC);
	assert_int_equal(mojo_codec_compress(data, sizeof(data), NULL, 0, &length), -ENOSPC);
	assert_int_equal(mojo_codec_compress(data, sizeof(data), packed, sizeof(packed), &needed), 0);
	assert_int_equal(mojo_codec_decompress(packed, needed, back, sizeof(back) - 1, &length), -EUCLEAN);
	assert_int_equal(mojo_codec_decompress(packed, needed, back, 0, &length), -EUCLEAN);
	assert_int_equal(length, 12345);
}

static void test_malformed_frames_are_refused(void **state)
{
	unsigned char data[4096];
	unsigned char packed[16384];
	unsigned char back[65536];
	size_t needed;
	size_t length;

	(void)state;
	fill(data, sizeof(data), 2);
	assert_int_equal(mojo_codec_compress(data, sizeof(data), packed, sizeof(packed), &needed), 0);
	assert_int_equal(mojo_codec_decompress(NULL, 0, back, sizeof(back), &length), -EUCLEAN);
	assert_int_equal(mojo_codec_decompress("not zstd at all", 15, back, sizeof(back), &length), -EUCLEAN);
	for (size_t cut = 0; cut < needed; cut++)
		assert_int_equal(mojo_codec_decompress(packed, cut, back, sizeof(back), &length), -EUCLEAN);
	/* One byte too many, and two frames in a row. */
	packed[needed] = 0;
	assert_int_equal(mojo_codec_decompress(packed, needed + 1, back, sizeof(back), &length), -EUCLEAN);
	memcpy(packed + needed, packed, needed);
	assert_int_equal(mojo_codec_decompress(packed, 2 * needed, back, sizeof(back), &length), -EUCLEAN);
	/* A frame to be skipped holds no content, though the library calls it well. */
	assert_int_equal(mojo_codec_decompress("\x50\x2a\x4d\x18\x02\0\0\0xy", 10, back, sizeof(back), &length),
			 -EUCLEAN);
}

static void test_frames_without_a_content_size_are_refused(void **state)
{
	unsigned char data[4096], packed[8192], back[8192];
	ZSTD_CCtx *context = ZSTD_createCCtx();
	size_t needed;
	size_t length;

	(void)state;
	assert_non_null(context);
	fill(data, sizeof(data), 3);
	assert_false(ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0)));
	needed = ZSTD_compress2(context, packed, sizeof(packed), data, sizeof(data));
	assert_false(ZSTD_isError(needed));
	assert_int_equal(mojo_codec_decompress(packed, needed, back, sizeof(back), &length), -EUCLEAN);
	ZSTD_freeCCtx(context);
}

/* Every single flipped byte either is refused or yields at most what there is room for. (The blob's own
 * checksum, taken before, is what tells right from wrong.) */
static void test_rot_does_no_harm(void **state)
{
	unsigned char data[2048], packed[4096], *back;
	size_t needed;

	(void)state;
	fill(data, sizeof(data), 4);
	assert_int_equal(mojo_codec_compress(data, sizeof(data), packed, sizeof(packed), &needed), 0);
	for (size_t i = 0; i < needed; i++) {
		for (int bit = 0; bit < 8; bit++) {
			size_t length = 0;
			int result;

			back = malloc(sizeof(data)); /* so that a sanitizer sees any overrun */
			assert_non_null(back);
			packed[i] ^= (unsigned char)(1 << bit);
			result = mojo_codec_decompress(packed, needed, back, sizeof(data), &length);
			packed[i] ^= (unsigned char)(1 << bit);
			assert_true(result == 0 || result == -EUCLEAN);
			assert_true(length <= sizeof(data));
			free(back);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_what_does_not_fit_is_refused),
		cmocka_unit_test(test_malformed_frames_are_refused),
		cmocka_unit_test(test_frames_without_a_content_size_are_refused),
		cmocka_unit_test(test_rot_does_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
