/* SPDX-License-Identifier: MIT */
/*
 * chunk.h - the data files: blocks by address, over a bounded set of open files.
 *
 * A chunk is chunks/XXXXXXXX.chunk (its number in hexadecimal), of chunk_blocks blocks. Block B of chunk C has address
 * C * chunk_blocks + B. A transfer never crosses from one chunk into the next.
 *
 * Thread safety: every function may be called from any thread; `mu` guards the set of open files only
 * and is held for no I/O but opening.
 */
#ifndef MOJO_CHUNK_H
#define MOJO_CHUNK_H

#include <pthread.h>

#include "io.h"
#include "recent.h"

#define MOJO_CHUNK_FILES 128u /* open at once */

struct mojo_chunk_file {
	uint32_t number;
	uint32_t users;            /* guarded by mu */
	uint64_t last_use;         /* guarded by mu */
	struct mojo_io_file *file; /* owned; NULL: this place is empty */
	bool forget;               /* removed or renamed: close when the last user leaves */
};

struct mojo_chunks {
	struct mojo_io *io; /* borrowed */
	uint32_t block_bytes;
	uint32_t chunk_blocks;
	bool read_only;
	pthread_mutex_t mu;
	uint64_t clock;
	/* Guarded by mu. Files that were removed; a loss of power may bring back those behind the first removals_kept. */
	uint64_t removals, removals_kept;
	struct mojo_chunk_file files[MOJO_CHUNK_FILES];
	struct mojo_recent recent;
};

void mojo_chunks_init(struct mojo_chunks *chunks, struct mojo_io *io, uint32_t block_bytes, uint32_t chunk_blocks,
		      bool read_only);
/* Closes everything; no transfer may be running. */
void mojo_chunks_close(struct mojo_chunks *chunks);

/* mojo_chunk_path - "chunks/0000002a.chunk" into @buf of MOJO_CHUNK_PATH_BYTES. */
#define MOJO_CHUNK_PATH_BYTES 32
void mojo_chunk_path(uint32_t number, char *buf);
/* mojo_chunk_number - the number in a file's name (without the directory), or -1. */
int64_t mojo_chunk_number(const char *name);

/*
 * mojo_chunks_read - @bytes from block @address on, into @buf.
 * -EIO also where the file is absent or ends too early; -EUCLEAN for a range that crosses a chunk's end.
 */
int mojo_chunks_read(struct mojo_chunks *chunks, uint64_t address, void *buf, size_t bytes);
/* mojo_chunks_read_some - the same, but what is absent is no error: *ret_bytes says how much there was. */
int mojo_chunks_read_some(struct mojo_chunks *chunks, uint64_t address, void *buf, size_t bytes, size_t *ret_bytes);
/* mojo_chunks_read_file - as mojo_chunks_read(), but of the file itself: nothing that is kept in memory here is used. */
int mojo_chunks_read_file(struct mojo_chunks *chunks, uint64_t address, void *buf, size_t bytes);
void mojo_chunks_prefetch(struct mojo_chunks *chunks, uint64_t address, size_t bytes);
int mojo_chunks_write(struct mojo_chunks *chunks, uint64_t address, const struct iovec *vector, int count);
/* mojo_chunks_write_through - write whole blocks, and have them on stable storage on return: them alone. -EOPNOTSUPP: the host
 * cannot do that, and nothing was written. */
int mojo_chunks_write_through(struct mojo_chunks *chunks, uint64_t address, const struct iovec *vector, int count);
int mojo_chunks_flush(struct mojo_chunks *chunks, uint32_t number);
int mojo_chunks_allocate(struct mojo_chunks *chunks, uint64_t address, uint32_t blocks);
int mojo_chunks_prepare(struct mojo_chunks *chunks, uint64_t address, uint32_t blocks);
int mojo_chunks_punch(struct mojo_chunks *chunks, uint64_t address, uint32_t blocks);

/* mojo_chunks_create - chunk @number comes into being, empty, or by renaming chunk @recycled (>= 0);
 * its name is on stable storage when this returns 0. */
int mojo_chunks_create(struct mojo_chunks *chunks, uint32_t number, int64_t recycled);
/* mojo_chunks_remove - unlink it; an absent one is no error. Not waited for: a loss of power may bring it back until
 * mojo_chunks_settle_names() or mojo_chunks_create() has returned 0. */
int mojo_chunks_remove(struct mojo_chunks *chunks, uint32_t number);
/* mojo_chunks_settle_names - what was removed stays removed, whatever happens. Costs nothing where nothing was. */
int mojo_chunks_settle_names(struct mojo_chunks *chunks);
/* mojo_chunks_exists - is there a file for this chunk? 1, 0, or -errno. */
int mojo_chunks_exists(struct mojo_chunks *chunks, uint32_t number);
/* mojo_chunks_usage - how many chunk files there are, and the disk space they take, in bytes. */
int mojo_chunks_usage(struct mojo_chunks *chunks, uint64_t *ret_count, uint64_t *ret_disk_bytes);

#endif
