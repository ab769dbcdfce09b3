/* SPDX-License-Identifier: MIT */
/*
 * io_record.h - an io that writes down what is done to another one.
 *
 * From a recording the states can be built that a disk may be in after the power fails at any moment; that is
 * what it is for (tests/support/power.h builds them). It changes nothing of what is recorded but the time it takes.
 *
 * A recording is a row of events, in the order in which they happened. Numbers are little-endian:
 *
 *      0  u32  0x6365524d ("MRec")
 *      4  u16  kind, below
 *      6  u16  of OPEN its flags, as in io.h; of WRITE 1 if it was to go through to the disk; else 0
 *      8  u64  number of the operation, counted from 1 in each session; of SESSION and MARK 0
 *     16  u64  number of the open file, given by its OPEN; 0 where there is none
 *     24  u64  offset; of TRUNCATE the length; of MARK the mark
 *     32  u64  length
 *     40  i32  of END: what the operation returned; else 0
 *     44  u32  bytes of names
 *     48       the names (of RENAME "from", NUL, "to"; no NUL at the end), then of WRITE the data, `length` bytes
 *
 * An operation is two events: the one that names it, written before it is begun, and an END, written after it
 * returned. What lies between the two happened at the same time. So a FLUSH that ended well covers the writes
 * to its file whose END comes before the FLUSH, and no others need be on the disk; and a WRITE that went through, when
 * it ended well, is there. Every open is recorded, of the
 * rest only what modifies. A SESSION begins each recording; a file may hold several, one behind the other.
 */
#ifndef MOJO_IO_RECORD_H
#define MOJO_IO_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "io.h"

#define MOJO_IO_EVENT_BYTES   48u
#define MOJO_IO_EVENT_THROUGH 1u /* flags of a WRITE */

enum mojo_io_event_kind {
	MOJO_IO_EVENT_SESSION = 1,
	MOJO_IO_EVENT_END = 2,
	MOJO_IO_EVENT_MARK = 3,
	MOJO_IO_EVENT_OPEN = 4,
	MOJO_IO_EVENT_WRITE = 5,
	MOJO_IO_EVENT_FLUSH = 6,
	MOJO_IO_EVENT_ALLOCATE = 7,
	MOJO_IO_EVENT_PUNCH = 8,
	MOJO_IO_EVENT_TRUNCATE = 9,
	MOJO_IO_EVENT_MKDIR = 10,
	MOJO_IO_EVENT_RENAME = 11,
	MOJO_IO_EVENT_UNLINK = 12,
	MOJO_IO_EVENT_FLUSH_DIR = 13,
};

/* One event; the pointers are into the recording, and the names not NUL-terminated. */
struct mojo_io_event {
	enum mojo_io_event_kind kind;
	unsigned flags;
	uint64_t operation;
	uint64_t file;
	uint64_t offset;
	uint64_t length;
	int result;
	const char *name;
	size_t name_length;
	const char *new_name; /* of RENAME */
	size_t new_name_length;
	const void *data; /* of WRITE */
};

/*
 * mojo_io_record - record what is done through *ret_io, which does it to @inner.
 * @inner: borrowed until the recording io is freed with mojo_io_free()
 * @fd: where to write the recording, at its present offset; borrowed; -1 keeps it in memory
 * Errors: -ENOMEM, those of write(2).
 */
int mojo_io_record(struct mojo_io *inner, int fd, struct mojo_io **ret_io);

/*
 * mojo_io_record_trim - before another session is appended: cut off what a process that was killed in the middle of an
 * event left of it at the end. What such an event is of was not begun.
 * @fd: the recording, a regular file, readable and writable; its offset stays as it is
 * Errors: -EUCLEAN (this is no recording), those of fstat(2), pread(2), ftruncate(2).
 */
int mojo_io_record_trim(int fd);

/* mojo_io_record_mark - put a mark at this place of the recording: what was acknowledged until now was so before it.
 * Errors: as mojo_io_record_status(). */
int mojo_io_record_mark(struct mojo_io *io, uint64_t mark);

/* mojo_io_record_status - 0, or why an event could not be recorded. What was asked for was done all the same, but
 * the recording ends before the event. */
int mojo_io_record_status(struct mojo_io *io);

/* mojo_io_record_bytes - the recording that is kept in memory, valid until the next operation. None may be running. */
void mojo_io_record_bytes(struct mojo_io *io, const void **ret_bytes, size_t *ret_length);

/*
 * mojo_io_event_next - decode the event at *@offset of a recording, and move on.
 * Errors: -ENOENT (the recording ends here, or was cut off here), -EUCLEAN (this is no recording).
 */
int mojo_io_event_next(const void *bytes, size_t length, size_t *offset, struct mojo_io_event *ret_event);

#endif
