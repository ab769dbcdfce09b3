/* SPDX-License-Identifier: MIT */
/*
 * codec.h - compression of the store's blobs: one zstd frame each.
 *
 * Both functions may be called from any thread and keep nothing between calls.
 */
#ifndef MOJO_CODEC_H
#define MOJO_CODEC_H

#include <stddef.h>

/*
 * mojo_codec_compress - compress @length bytes into one frame.
 * @capacity: bytes that @dst has room for; give as many as the result is worth having in
 * @ret_length: bytes of the frame
 * Errors: -ENOSPC (the frame does not fit; @dst holds rubbish), -ENOMEM.
 */
int mojo_codec_compress(const void *src, size_t length, void *dst, size_t capacity, size_t *ret_length);

/*
 * mojo_codec_decompress - undo mojo_codec_compress(). Safe on any input.
 * @length: bytes of the frame, all of them
 * @capacity: bytes that @dst has room for
 * @ret_length: bytes of content
 * Errors: -EUCLEAN (no single whole frame, or more content than @capacity; @dst holds rubbish), -ENOMEM.
 */
int mojo_codec_decompress(const void *src, size_t length, void *dst, size_t capacity, size_t *ret_length);

#endif
