/* SPDX-License-Identifier: MIT */
/*
 * support.h - what the unit tests share: dice with a printed seed, bare blocks for the lower modules, a
 * whole store in memory for the upper ones. Everything asserts; nothing returns an error.
 *
 * Include it instead of <cmocka.h>.
 */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "blob.h"
#include "io_memory.h"
#include "mojo.h"
#include "state.h"

#define assert_ok(expression)           assert_int_equal(expression, 0)
#define assert_errno(expression, error) assert_int_equal(expression, -(error))

/* ---- dice ----------------------------------------------------------------------------------- */

/* test_is_long - are long forms asked for (MOJO_TEST_LONG, set and not 0)? */
bool test_is_long(void);

/* Under a sanitizer everything takes several times as long: short forms do so much less there. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TEST_SLOWNESS 6
#endif
#endif
#if !defined(TEST_SLOWNESS) && (defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__))
#define TEST_SLOWNESS 6
#endif
#ifndef TEST_SLOWNESS
#define TEST_SLOWNESS 1
#endif

/* test_seed - the seed of a random test, which prints it: MOJO_TEST_SEED if that is a number; one from the clock if it
 * is "random", or if it is not set and long forms are asked for; otherwise @fixed, so that runs are alike. */
uint64_t test_seed(uint64_t fixed);

struct dice {
	uint64_t state;
};

/* dice_new - dice with test_seed(), fixed for each @what, which is printed with it. With NULL always the same, and
 * silent. */
struct dice dice_new(const char *what);
uint64_t dice_next(struct dice *dice);
/* 0 .. @sides - 1 */
uint32_t dice_below(struct dice *dice, uint32_t sides);

/* ---- sets of blocks, to count what happened to each ------------------------------------------ */

struct tally {
	uint8_t *counts; /* owned; by address */
	uint64_t capacity;
	uint64_t total; /* blocks counted */
};

void tally_add(struct tally *tally, uint64_t address, uint64_t blocks);
unsigned tally_of(const struct tally *tally, uint64_t address);
void tally_free(struct tally *tally);

/* ---- bare blocks ---------------------------------------------------------------------------- */

/* Chunks and a blob cache without a store. Blobs are placed one behind the other. */
struct shelf {
	struct mojo_io *io;
	struct mojo_chunks chunks;
	struct mojo_blobs blobs;
	uint64_t next; /* block that is placed next */
	uint64_t blobs_placed;
	unsigned fail_after; /* placing fails once so many were placed; 0: never */
	struct tally killed; /* blobs on disk, by block */
	unsigned damaged;    /* how often damage was told */
};

void shelf_init(struct shelf *shelf, uint32_t page_size, uint32_t pages_per_slot, size_t limit_bytes);
void shelf_free(struct shelf *shelf);
/* A mojo_blob_place_fn; @arg is the shelf. */
int shelf_place(void *arg, const uint8_t *data, uint32_t bytes, uint64_t *ret_address);
/* Everything dirty below @ref is written. */
void shelf_write_out(struct shelf *shelf, uint8_t *ref);
/* Each block of nodes and slots that is reachable from @ref, all of it on disk, is counted once. */
void shelf_mark(struct shelf *shelf, const uint8_t *ref, enum mojo_blob_type type, struct tally *live);
/* Every block placed so far is in use (in @live) or was killed once; with @leaks, it may be neither. */
void shelf_assert_accounts(struct shelf *shelf, const struct tally *live, bool leaks);
/* The cache forgets all that is clean; what follows comes from the disk. */
void shelf_forget(struct shelf *shelf, uint32_t pages_per_slot, size_t limit_bytes);

/* ---- a store -------------------------------------------------------------------------------- */

struct bench {
	struct mojo_io *io;
	struct mojo_store *store; /* NULL: not open */
	struct mojo_geometry geometry;
	struct mojo_config config;
	pthread_mutex_t mutex; /* guards events */
	char events[16384];    /* one a line */
};

#define BENCH_PAGE      4096u
#define BENCH_CHUNK     (4u << 20)
#define BENCH_PER_CHUNK (BENCH_CHUNK / BENCH_PAGE) /* blocks */

/* For cmocka: a small store without a maintenance thread, open. bench_setup_empty: the directory only. */
int bench_setup(void **state);
int bench_setup_empty(void **state);
int bench_teardown(void **state);
#define BENCH_TEST(test) cmocka_unit_test_setup_teardown(test, bench_setup, bench_teardown)

void bench_open(struct bench *bench);
void bench_close(struct bench *bench);
/* The process dies: what was written is there, flushed or not. */
void bench_crash(struct bench *bench);
void bench_reopen(struct bench *bench);
/* The power fails: only what was flushed is there. Wants mojo_io_memory_track(). */
void bench_power_cut(struct bench *bench);
/* The directory becomes @io, which the bench takes over; the store must not be open. */
void bench_replace_io(struct bench *bench, struct mojo_io *io);
bool bench_was_told(struct bench *bench, const char *text);

uint32_t bench_make(struct bench *bench, uint32_t dir, const char *name, uint32_t mode);
uint32_t bench_file(struct bench *bench, const char *name);
/* Bytes that are different for each @tag and each 8 of them. */
void bench_fill(void *buf, size_t length, uint64_t tag);
/* assert_memory_equal(), which takes 20 times as long to find that nothing is different. */
void bench_same(const void *left, const void *right, size_t length);
void bench_put(struct bench *bench, uint32_t bucket, uint64_t offset, size_t length, uint64_t tag);
void bench_assert(struct bench *bench, uint32_t version, uint32_t bucket, uint64_t offset, size_t length, uint64_t tag);
void bench_assert_zeros(struct bench *bench, uint32_t version, uint32_t bucket, uint64_t offset, size_t length);
int bench_resize(struct bench *bench, uint32_t bucket, uint64_t size);
struct mojo_attr bench_attr(struct bench *bench, uint32_t version, uint32_t bucket);
struct mojo_info bench_info(struct bench *bench);
uint32_t bench_lookup(struct bench *bench, uint32_t version, const char *path);
uint32_t bench_commit(struct bench *bench, const char *message);
void bench_sync(struct bench *bench);
void bench_checkpoint(struct bench *bench);
/* Right after a checkpoint: every block up to the log's tail is in use or known to be dead, never both. With
 * @leaks it may be neither. */
void bench_assert_accounts(struct bench *bench, bool leaks);
/* A checksum over all that a version shows: names, attributes, bytes. bench_fingerprint_all: over every version
 * that is kept, with number, time and message. */
uint64_t bench_fingerprint(struct bench *bench, uint32_t version);
uint64_t bench_fingerprint_all(struct bench *bench);
/* @rounds random operations on some files and directories; with @versions commits and drops, too. */
void bench_stir(struct bench *bench, struct dice *dice, int rounds, bool versions);
/* Where page @page of @bucket lies. */
uint64_t bench_address(struct bench *bench, uint32_t bucket, uint64_t page);
/* One bit of the block at @address is wrong from now on (or right again). */
void bench_flip_block(struct bench *bench, uint64_t address, uint32_t offset);

#endif
