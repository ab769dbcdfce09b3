/* SPDX-License-Identifier: MIT */
/*
 * common.h - what the fuzz targets share: a small store in memory to start from, and a walk over everything that a
 * store gives. A target is one function, LLVMFuzzerTestOneInput(); contrib/fuzz builds and runs them.
 */
#ifndef FUZZ_COMMON_H
#define FUZZ_COMMON_H

#include "format.h"
#include "io_memory.h"
#include "mojo.h"

#define FUZZ_PAGE   4096u
#define FUZZ_CHUNK  (4u << 20)
#define FUZZ_BLOCKS (FUZZ_CHUNK / FUZZ_PAGE) /* in a chunk */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A store with files, directories, a link, frozen versions, a checkpoint, and a log behind it; the same each time.
 * Made once, owned by the module. */
struct mojo_io *fuzz_store(void);
/* Its newer root; and where its log ends: the address, the sequence and the epoch that come next. */
struct fuzz_tail {
	struct mojo_root root;
	unsigned slot; /* of the root */
	uint64_t address, sequence, epoch;
};
const struct fuzz_tail *fuzz_tail(void);

/* Open the store in @io, and if that succeeds look at all there is, change a little, and close it. Whatever it says is
 * fine; that it says something, and touches no memory that is not its own, is what is tested. */
void fuzz_use(struct mojo_io *io);

/* Put @length bytes at @offset of a file of @io. */
void fuzz_put(struct mojo_io *io, const char *path, uint64_t offset, const void *data, size_t length);

#endif
