/* SPDX-License-Identifier: MIT */
/*
 * io_memory.h - what the in-memory io offers to tests beyond io.h.
 *
 * All functions take an io made by mojo_io_memory() or mojo_io_memory_clone(), and are safe to call from
 * any thread, also while the io is in use. Paths are relative to the root of the io.
 */
#ifndef MOJO_IO_MEMORY_H
#define MOJO_IO_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io.h"

/*
 * mojo_io_memory_clone - copy the present content: what a process that dies right now leaves behind.
 * Open files, files without a name, locks, faults and the capacity are not copied.
 * @ret_copy: independent of @io; mojo_io_free() frees
 * Errors: -ENOMEM.
 */
int mojo_io_memory_clone(struct mojo_io *io, struct mojo_io **ret_copy);

/*
 * mojo_io_memory_clone_durable - copy what has been made durable: what a loss of power leaves at the least.
 * Content is as of the file's last flush, names are as of the directory's last flush_dir. A file whose name
 * is durable and that was never flushed is there, empty. Punching counts as durable at once.
 * Errors: -ENOMEM, -EOPNOTSUPP unless mojo_io_memory_track() was called first.
 */
int mojo_io_memory_clone_durable(struct mojo_io *io, struct mojo_io **ret_copy);

/*
 * mojo_io_memory_clone_torn - copy what a loss of power may leave: of what was not made durable, some is there
 * and some is not, block by block, with blocks torn between sectors; for each directory its names as of the
 * last flush_dir, or as they are now.
 * @seed: which of the many outcomes
 * Errors: as above.
 */
int mojo_io_memory_clone_torn(struct mojo_io *io, uint64_t seed, struct mojo_io **ret_copy);

/* mojo_io_memory_track - from now on remember what is durable. What is there already counts as durable.
 * Errors: -ENOMEM. */
int mojo_io_memory_track(struct mojo_io *io);

/*
 * mojo_io_memory_load - the content of a file. @ret_data: malloc'd (never NULL), the caller frees.
 * Errors: -ENOENT, -EISDIR, -ENOMEM.
 */
int mojo_io_memory_load(struct mojo_io *io, const char *path, void **ret_data, size_t *ret_length);

/* mojo_io_memory_replace - give a file this content and length, making it if it is absent; files that are
 * open see it. Errors: -ENOENT (no such directory), -EISDIR, -ENOMEM. */
int mojo_io_memory_replace(struct mojo_io *io, const char *path, const void *data, size_t length);

/* mojo_io_memory_flip - exclusive-or the byte at @offset with @mask: rot. Errors: -ENOENT, -EISDIR,
 * -ERANGE (behind the end of the file), -ENOMEM. */
int mojo_io_memory_flip(struct mojo_io *io, const char *path, uint64_t offset, unsigned char mask);

/*
 * mojo_io_memory_fail - make a modifying operation fail.
 *
 * Modifying are: write (also through), flush, allocate, punch, truncate, rename, unlink, mkdir, flush_dir, and an open that
 * makes a file. @after of them succeed from now on; the next one returns @error. A write that fails so has
 * stored the first half of its bytes; other operations have done nothing.
 * @error: a negative errno; 0 lifts the fault
 * @sticky: all later modifying operations fail, too, and store nothing
 */
void mojo_io_memory_fail(struct mojo_io *io, uint64_t after, int error, bool sticky);

/* mojo_io_memory_operations - modifying operations asked for so far, failed ones included. */
uint64_t mojo_io_memory_operations(struct mojo_io *io);

/* mojo_io_memory_limit - the disk holds @bytes (default 1 TiB): what would take more fails with -ENOSPC. */
void mojo_io_memory_limit(struct mojo_io *io, uint64_t bytes);

#endif
