/* SPDX-License-Identifier: MIT */
/*
 * checksum.h - the checksums of everything that the store keeps: XXH3, 64 bits.
 *
 * The values are part of the on-disk format. They find accidents (bit rot, torn and misplaced writes), not
 * an adversary. Pure functions: any thread, no errors.
 */
#ifndef MOJO_CHECKSUM_H
#define MOJO_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

/* mojo_checksum64 - XXH3-64 of @length bytes with a seed that says what they are. @data may be NULL if
 * @length is 0. */
uint64_t mojo_checksum64(const void *data, size_t length, uint64_t seed);

/*
 * mojo_checksum_page - checksum of a page's content, bound to the place it belongs to, so that a page read
 * from the wrong place fails as a damaged one does.
 * @length: bytes, the store's page size
 * @bucket: id of the file
 * @page_number: below 2^32
 * Any value may come out, 0 included.
 */
uint32_t mojo_checksum_page(const void *page, size_t length, uint32_t bucket, uint64_t page_number);

#endif
