/* SPDX-License-Identifier: MIT */
/* The checksums are part of the format: their values must never change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "checksum.h"

static void fill(unsigned char *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		data[i] = (unsigned char)(i * 31 + i / 256);
}

static void test_values_of_the_format(void **state)
{
	unsigned char data[65536];

	(void)state;
	fill(data, sizeof(data));
	assert_int_equal(mojo_checksum64(NULL, 0, 0), 0x2d06800538d394c2);
	assert_int_equal(mojo_checksum64(NULL, 0, 1), 0x4dc5b0cc826f6703);
	assert_int_equal(mojo_checksum64(data, 1, 0), 0xc44bdff4074eecdb);
	assert_int_equal(mojo_checksum64(data, 16, 0), 0xf9fbd0260ba978df);
	assert_int_equal(mojo_checksum64(data, 100, 0x6d6f6a6f), 0x7bcbbccec47d001b);
	assert_int_equal(mojo_checksum64(data, 240, 0), 0xe315d53d5129eede);
	assert_int_equal(mojo_checksum64(data, 4096, 0), 0xbe855965eae8486b);
	assert_int_equal(mojo_checksum64(data, 4096, 0x200000003), 0xfc086bc6269a5063);
	assert_int_equal(mojo_checksum64(data, 65536, 0xffffffffffffffff), 0x6b1e11c4181a72ee);
	assert_int_equal(mojo_checksum_page(data, 4096, 2, 3), 0x269a5063);
}

static void test_a_page_belongs_to_its_place(void **state)
{
	unsigned char page[4096] = { 0 };
	uint32_t here = mojo_checksum_page(page, sizeof(page), 7, 1000);

	(void)state;
	assert_int_equal(mojo_checksum_page(page, sizeof(page), 7, 1000), here);
	assert_int_not_equal(mojo_checksum_page(page, sizeof(page), 7, 1001), here);
	assert_int_not_equal(mojo_checksum_page(page, sizeof(page), 8, 1000), here);
	assert_int_not_equal(mojo_checksum_page(page, sizeof(page), 1000, 7), here);
	assert_int_not_equal(mojo_checksum_page(page, sizeof(page) / 2, 7, 1000), here);
	assert_int_not_equal(mojo_checksum_page(page, sizeof(page), 7, UINT32_MAX),
			     mojo_checksum_page(page, sizeof(page), 8, UINT32_MAX));
}

static void test_a_page_checksum_is_the_low_half(void **state)
{
	unsigned char page[8192];

	(void)state;
	fill(page, sizeof(page));
	assert_int_equal(mojo_checksum_page(page, sizeof(page), 0x12345678, 0x9abcdef0),
			 (uint32_t)mojo_checksum64(page, sizeof(page), 0x123456789abcdef0));
}

static void test_every_bit_counts(void **state)
{
	unsigned char page[4096];
	uint32_t whole;

	(void)state;
	fill(page, sizeof(page));
	whole = mojo_checksum_page(page, sizeof(page), 2, 3);
	for (size_t bit = 0; bit < sizeof(page) * 8; bit++) {
		page[bit / 8] ^= (unsigned char)(1 << bit % 8);
		assert_int_not_equal(mojo_checksum_page(page, sizeof(page), 2, 3), whole);
		page[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
	assert_int_equal(mojo_checksum_page(page, sizeof(page), 2, 3), whole);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_values_of_the_format),
		cmocka_unit_test(test_a_page_belongs_to_its_place),
		cmocka_unit_test(test_a_page_checksum_is_the_low_half),
		cmocka_unit_test(test_every_bit_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
