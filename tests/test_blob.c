/* SPDX-License-Identifier: MIT */
/*
 * blob.h: dirty blobs are counted and copied when shared, written ones come back as they were or not at
 * all, and the cache keeps to its limit.
 */
#include "support/support.h"

#include "checksum.h"
#include "codec.h"
#include "node.h"

enum { PPS = 1024, SLOT_BYTES = PPS * MOJO_ENTRY_BYTES };
#define ROOMY (64u << 20)

static void fill_entry(uint8_t *at, uint64_t tag)
{
	uint64_t word = dice_next(&(struct dice){ .state = tag }); /* does not pack */
	mojo_entry_encode(at, &(struct mojo_entry){ word >> 24, 1, (uint32_t)word });
}

/* A slot with @count entries from @first on, written out; its reference goes into @ref. */
static void place_slot(struct shelf *shelf, unsigned first, unsigned count, uint64_t tag, uint8_t *ref)
{
	struct mojo_blob *blob;
	assert_ok(mojo_blob_new(&shelf->blobs, MOJO_BLOB_SLOT, 1, &blob));
	for (unsigned i = first; i < first + count; i++)
		fill_entry(blob->data + i * MOJO_ENTRY_BYTES, tag + i);
	mojo_blob_ref(blob, ref);
	shelf_write_out(shelf, ref);
}

static void assert_slot(struct shelf *shelf, const uint8_t *ref, unsigned first, unsigned count, uint64_t tag)
{
	struct mojo_blob *blob;
	uint8_t wanted[MOJO_ENTRY_BYTES];
	assert_ok(mojo_blob_get(&shelf->blobs, ref, MOJO_BLOB_SLOT, &blob));
	for (unsigned i = 0; i < shelf->blobs.slot_bytes / MOJO_ENTRY_BYTES; i++) {
		memset(wanted, 0, sizeof(wanted));
		if (i >= first && i < first + count)
			fill_entry(wanted, tag + i);
		assert_memory_equal(blob->data + i * MOJO_ENTRY_BYTES, wanted, MOJO_ENTRY_BYTES);
	}
	mojo_blob_put(&shelf->blobs, blob);
}

/* ---- what comes back ------------------------------------------------------------------------ */

static void test_a_slot_comes_back_from_every_page_size(void **state)
{
	(void)state;
	for (uint32_t page = MOJO_PAGE_SIZE_MIN; page <= MOJO_PAGE_SIZE_MAX; page *= 2) {
		for (uint32_t pps = MOJO_PPS_MIN; pps <= MOJO_PPS_MAX; pps *= 4) {
			struct shelf shelf;
			uint8_t refs[4][MOJO_REF_BYTES];
			shelf_init(&shelf, page, pps, ROOMY);
			place_slot(&shelf, 0, pps, 1, refs[0]);
			place_slot(&shelf, 0, 1, 2, refs[1]);
			place_slot(&shelf, pps - 1, 1, 3, refs[2]);
			place_slot(&shelf, 5, 0, 4, refs[3]); /* all zeros */
			assert_int_equal(shelf.blobs.dirty_bytes, 0);
			shelf_forget(&shelf, pps, ROOMY);
			assert_slot(&shelf, refs[0], 0, pps, 1);
			assert_slot(&shelf, refs[1], 0, 1, 2);
			assert_slot(&shelf, refs[2], pps - 1, 1, 3);
			assert_slot(&shelf, refs[3], 5, 0, 4);
			shelf_free(&shelf);
		}
	}
}

static void test_a_slot_takes_no_more_blocks_than_it_must(void **state)
{
	struct shelf shelf;
	uint8_t ref[MOJO_REF_BYTES];
	(void)state;
	shelf_init(&shelf, 4096, PPS, ROOMY);
	/* What is behind the last entry is not stored. */
	place_slot(&shelf, 0, 10, 1, ref);
	assert_int_equal(mojo_ref_decode(ref).bytes, 10 * MOJO_ENTRY_BYTES);
	assert_int_equal(mojo_ref_decode(ref).flags, 0);
	/* What packing would not make a block smaller is not packed. */
	place_slot(&shelf, 0, 4096 / MOJO_ENTRY_BYTES, 1, ref);
	assert_int_equal(mojo_ref_decode(ref).flags, 0);
	/* Nor does a slot that packs badly take more than it would unpacked. */
	uint64_t before = shelf.next;
	place_slot(&shelf, 0, PPS, 1, ref);
	assert_in_range(shelf.next - before, 2, 3);
	/* A long slot with little in it packs well. */
	struct mojo_blob *blob;
	assert_ok(mojo_blob_new(&shelf.blobs, MOJO_BLOB_SLOT, 1, &blob));
	fill_entry(blob->data + (PPS - 1) * MOJO_ENTRY_BYTES, 9);
	mojo_blob_ref(blob, ref);
	before = shelf.next;
	shelf_write_out(&shelf, ref);
	assert_int_equal(mojo_ref_decode(ref).flags, MOJO_REF_ZSTD);
	assert_true(mojo_ref_decode(ref).bytes < 200);
	assert_int_equal(shelf.next - before, 1);
	shelf_free(&shelf);
}

static void test_a_clean_blob_is_found_again_without_reading(void **state)
{
	struct shelf shelf;
	uint8_t ref[MOJO_REF_BYTES];
	struct mojo_blob *one, *two;
	(void)state;
	shelf_init(&shelf, 4096, PPS, ROOMY);
	place_slot(&shelf, 0, 100, 1, ref);
	assert_ok(mojo_blob_get(&shelf.blobs, ref, MOJO_BLOB_SLOT, &one));
	assert_ok(mojo_blob_get(&shelf.blobs, ref, MOJO_BLOB_SLOT, &two));
	assert_ptr_equal(one, two);
	assert_int_equal(one->refs, 2);
	mojo_blob_put(&shelf.blobs, one);
	mojo_blob_put(&shelf.blobs, two);
	mojo_blob_put(&shelf.blobs, NULL);
	assert_ok(mojo_blob_get(&shelf.blobs, ref, MOJO_BLOB_SLOT, &two));
	assert_ptr_equal(one, two);
	mojo_blob_put(&shelf.blobs, two);
	shelf_free(&shelf);
}

/* ---- memory --------------------------------------------------------------------------------- */

static void test_the_cache_keeps_to_its_limit_and_to_what_is_used(void **state)
{
	enum { COUNT = 200 };
	struct shelf shelf;
	uint8_t refs[COUNT][MOJO_REF_BYTES];
	size_t limit = 10 * (SLOT_BYTES + 200);
	struct mojo_blob *kept, *blob;
	(void)state;
	shelf_init(&shelf, 4096, PPS, limit);
	for (unsigned i = 0; i < COUNT; i++) {
		place_slot(&shelf, 0, 100, i * 1000, refs[i]);
		assert_true(shelf.blobs.clean_bytes <= limit);
	}
	/* Least recently used goes first: the ninth last is still there, whoever reads it stays. */
	assert_ok(mojo_blob_get(&shelf.blobs, refs[0], MOJO_BLOB_SLOT, &kept));
	for (unsigned i = 1; i < COUNT; i++) {
		assert_slot(&shelf, refs[i], 0, 100, i * 1000);
		assert_true(shelf.blobs.clean_bytes <= limit);
		if (i % 3 == 0) { /* used again and again: never goes */
			assert_slot(&shelf, refs[1], 0, 100, 1000);
		}
	}
	size_t before = shelf.blobs.clean_bytes;
	assert_slot(&shelf, refs[1], 0, 100, 1000);
	assert_int_equal(shelf.blobs.clean_bytes, before);
	uint8_t wanted[MOJO_ENTRY_BYTES];
	fill_entry(wanted, 0);
	assert_memory_equal(kept->data, wanted, sizeof(wanted));
	mojo_blob_put(&shelf.blobs, kept);
	/* Blobs in use may pass the limit, and are let go when they are not. */
	struct mojo_blob *all[COUNT];
	for (unsigned i = 0; i < COUNT; i++)
		assert_ok(mojo_blob_get(&shelf.blobs, refs[i], MOJO_BLOB_SLOT, &all[i]));
	assert_true(shelf.blobs.clean_bytes > COUNT * (size_t)SLOT_BYTES);
	for (unsigned i = 0; i < COUNT; i++)
		mojo_blob_put(&shelf.blobs, all[i]);
	assert_true(shelf.blobs.clean_bytes <= limit);
	/* Dirty blobs take from the clean ones' share, down to a quarter. */
	for (unsigned i = 0; i < COUNT; i++) {
		assert_ok(mojo_blob_new(&shelf.blobs, MOJO_BLOB_SLOT, 1, &all[i]));
		assert_true(shelf.blobs.clean_bytes <= limit / 4 ||
			    shelf.blobs.clean_bytes + shelf.blobs.dirty_bytes <= limit);
	}
	assert_ok(mojo_blob_get(&shelf.blobs, refs[7], MOJO_BLOB_SLOT, &blob));
	mojo_blob_put(&shelf.blobs, blob);
	assert_ok(mojo_blob_get(&shelf.blobs, refs[7], MOJO_BLOB_SLOT, &kept));
	assert_ptr_equal(kept, blob); /* still cached */
	mojo_blob_put(&shelf.blobs, kept);
	for (unsigned i = 0; i < COUNT; i++)
		mojo_blob_put(&shelf.blobs, all[i]);
	assert_int_equal(shelf.blobs.dirty_bytes, 0);
	shelf_free(&shelf);
}

static void test_many_blobs_are_found_by_address(void **state)
{
	enum { COUNT = 9000 };
	struct shelf shelf;
	uint8_t(*refs)[MOJO_REF_BYTES] = calloc(COUNT, MOJO_REF_BYTES);
	(void)state;
	assert_non_null(refs);
	shelf_init(&shelf, 4096, MOJO_PPS_MIN, ROOMY);
	for (unsigned i = 0; i < COUNT; i++)
		place_slot(&shelf, 0, 1 + i % MOJO_PPS_MIN, i, refs[i]);
	assert_int_equal(shelf.blobs.clean_count, COUNT);
	for (unsigned i = 0; i < COUNT; i++)
		assert_slot(&shelf, refs[i], 0, 1 + i % MOJO_PPS_MIN, i);
	assert_int_equal(shelf.blobs.clean_count, COUNT); /* none was read twice */
	shelf_free(&shelf);
	free(refs);
}

static void test_nodes_set_aside_are_there(void **state)
{
	struct shelf shelf;
	(void)state;
	shelf_init(&shelf, 4096, PPS, ROOMY);
	assert_ok(mojo_blobs_reserve(&shelf.blobs));
	assert_int_equal(shelf.blobs.spare_count, MOJO_BLOB_SPARES);
	shelf.blobs.spare_count--; /* as if one had been taken */
	free(shelf.blobs.spares[shelf.blobs.spare_count]);
	assert_ok(mojo_blobs_reserve(&shelf.blobs));
	assert_int_equal(shelf.blobs.spare_count, MOJO_BLOB_SPARES);
	shelf_free(&shelf);
}

/* ---- references ----------------------------------------------------------------------------- */

static void test_a_shared_dirty_blob_is_copied_before_a_change(void **state)
{
	struct shelf shelf;
	struct mojo_blob *blob, *other;
	uint8_t ours[MOJO_REF_BYTES], frozen[MOJO_REF_BYTES];
	(void)state;
	shelf_init(&shelf, 4096, PPS, ROOMY);
	assert_ok(mojo_blob_new(&shelf.blobs, MOJO_BLOB_SLOT, 1, &blob));
	mojo_blob_ref(blob, ours);
	assert_true(mojo_ref_in_memory(ours));
	assert_false(mojo_ref_is_null(ours));
	assert_ptr_equal(mojo_ref_blob(ours), blob);
	/* Ours alone: changed in place, and it is of the later version then. */
	assert_ok(mojo_blob_writable(&shelf.blobs, ours, MOJO_BLOB_SLOT, 2, 1, &other));
	assert_ptr_equal(other, blob);
	assert_int_equal(blob->version, 2);
	fill_entry(blob->data, 5);
	/* Shared: the holder of the other reference keeps what it has. */
	memcpy(frozen, ours, MOJO_REF_BYTES);
	mojo_ref_retain(frozen);
	assert_ok(mojo_blob_writable(&shelf.blobs, ours, MOJO_BLOB_SLOT, 3, 2, &other));
	assert_ptr_not_equal(other, blob);
	assert_int_equal(blob->version, 2);
	assert_int_equal(other->version, 3);
	fill_entry(other->data, 6);
	assert_slot(&shelf, frozen, 0, 1, 5);
	assert_slot(&shelf, ours, 0, 1, 6);
	mojo_ref_release(&shelf.blobs, frozen);
	mojo_ref_release(&shelf.blobs, ours);
	assert_int_equal(shelf.blobs.dirty_bytes, 0);
	assert_int_equal(shelf.killed.total, 0); /* nothing of this was ever on disk */
	shelf_free(&shelf);
}

static void test_a_copy_kills_the_original_unless_a_frozen_version_holds_it(void **state)
{
	struct shelf shelf;
	struct mojo_blob *blob;
	uint8_t ref[MOJO_REF_BYTES], old[MOJO_REF_BYTES];
	(void)state;
	shelf_init(&shelf, 4096, PPS, ROOMY);
	place_slot(&shelf, 0, 700, 1, ref); /* of version 1 */
	memcpy(old, ref, MOJO_REF_BYTES);
	struct mojo_ref r = mojo_ref_decode(ref);
	assert_int_equal(r.version, 1);
	assert_int_equal(mojo_blob_blocks(r.bytes, 4096), 2);

	assert_ok(mojo_blob_writable(&shelf.blobs, ref, MOJO_BLOB_SLOT, 2, 1, &blob)); /* 1 is frozen */
	assert_int_equal(shelf.killed.total, 0);
	mojo_ref_release(&shelf.blobs, ref);

	memcpy(ref, old, MOJO_REF_BYTES);
	assert_ok(mojo_blob_writable(&shelf.blobs, ref, MOJO_BLOB_SLOT, 1, 0, &blob)); /* it is not */
	assert_int_equal(shelf.killed.total, 2);
	assert_int_equal(tally_of(&shelf.killed, r.address), 1);
	assert_int_equal(tally_of(&shelf.killed, r.address + 1), 1);
	assert_slot(&shelf, ref, 0, 700, 1);
	mojo_ref_kill(&shelf.blobs, ref, 0); /* one in memory is just let go of */
	assert_int_equal(shelf.killed.total, 2);
	mojo_ref_kill(&shelf.blobs, (uint8_t[MOJO_REF_BYTES]){ 0 }, 0);
	assert_int_equal(shelf.killed.total, 2);
	assert_int_equal(shelf.blobs.dirty_bytes, 0);
	shelf_free(&shelf);
}

/* A node with one reference in it. */
static struct mojo_blob *parent_of(struct shelf *shelf, const uint8_t *child)
{
	struct mojo_blob *blob;
	const uint8_t key[1] = { MOJO_KEY_SLOT };
	assert_ok(mojo_blob_new(&shelf->blobs, MOJO_BLOB_NODE, 1, &blob));
	mojo_node_init(blob->data, shelf->blobs.node_bytes, 0, MOJO_TREE_MAIN);
	assert_true(mojo_node_insert(blob->data, shelf->blobs.node_bytes, 0, key, 1, child, MOJO_REF_BYTES));
	return blob;
}

static void test_children_are_written_before_their_parents_and_shared_ones_once(void **state)
{
	struct shelf shelf;
	struct mojo_blob *slot;
	uint8_t child[MOJO_REF_BYTES], one[MOJO_REF_BYTES], two[MOJO_REF_BYTES];
	unsigned length;
	(void)state;
	shelf_init(&shelf, 4096, PPS, ROOMY);
	assert_ok(mojo_blob_new(&shelf.blobs, MOJO_BLOB_SLOT, 1, &slot));
	fill_entry(slot->data, 77);
	mojo_blob_ref(slot, child);
	mojo_ref_retain(child); /* two parents, of two versions */
	mojo_blob_ref(parent_of(&shelf, child), one);
	mojo_blob_ref(parent_of(&shelf, child), two);
	assert_int_equal(slot->refs, 2);

	shelf_write_out(&shelf, one);
	assert_int_equal(shelf.blobs_placed, 2);
	/* The other still reaches it by pointer. */
	struct mojo_blob *parent = mojo_ref_blob(two);
	assert_slot(&shelf, mojo_node_value(parent->data, 0, &length), 0, 1, 77);
	shelf_write_out(&shelf, two);
	assert_int_equal(shelf.blobs_placed, 3);
	assert_int_equal(shelf.blobs.dirty_bytes, 0);

	shelf_forget(&shelf, PPS, ROOMY);
	uint64_t address[2];
	for (int i = 0; i < 2; i++) {
		assert_ok(mojo_blob_get(&shelf.blobs, i ? two : one, MOJO_BLOB_NODE, &parent));
		const uint8_t *ref = mojo_node_value(parent->data, 0, &length);
		assert_false(mojo_ref_in_memory(ref)); /* B1 */
		address[i] = mojo_ref_decode(ref).address;
		assert_true(address[i] < parent->address);
		assert_slot(&shelf, ref, 0, 1, 77);
		mojo_blob_put(&shelf.blobs, parent);
	}
	assert_int_equal(address[0], address[1]);
	shelf_free(&shelf);
}

static void test_letting_go_of_a_dirty_parent_lets_go_of_its_children(void **state)
{
	struct shelf shelf;
	struct mojo_blob *slot;
	uint8_t child[MOJO_REF_BYTES], one[MOJO_REF_BYTES], two[MOJO_REF_BYTES];
	(void)state;
	shelf_init(&shelf, 4096, PPS, ROOMY);
	assert_ok(mojo_blob_new(&shelf.blobs, MOJO_BLOB_SLOT, 1, &slot));
	mojo_blob_ref(slot, child);
	mojo_blob_ref(parent_of(&shelf, child), one);
	/* A copy of the parent holds the child, too. */
	memcpy(two, one, MOJO_REF_BYTES);
	mojo_ref_retain(two);
	struct mojo_blob *copy;
	assert_ok(mojo_blob_writable(&shelf.blobs, two, MOJO_BLOB_NODE, 2, 1, &copy));
	assert_int_equal(slot->refs, 2);
	mojo_ref_release(&shelf.blobs, one);
	assert_int_equal(slot->refs, 1);
	mojo_ref_release(&shelf.blobs, two);
	assert_int_equal(shelf.blobs.dirty_bytes, 0);
	shelf_free(&shelf);
}

/* ---- damage --------------------------------------------------------------------------------- */

static void assert_damaged(struct shelf *shelf, const uint8_t *ref, enum mojo_blob_type type)
{
	struct mojo_blob *blob;
	unsigned told = shelf->damaged;
	size_t clean = shelf->blobs.clean_bytes;
	assert_errno(mojo_blob_get(&shelf->blobs, ref, type, &blob), EUCLEAN);
	assert_int_equal(shelf->damaged, told + 1);
	assert_int_equal(shelf->blobs.clean_bytes, clean);
}

static void test_damage_is_found_told_and_not_kept(void **state)
{
	struct shelf shelf;
	uint8_t ref[MOJO_REF_BYTES], bad[MOJO_REF_BYTES], far[MOJO_REF_BYTES];
	char path[MOJO_CHUNK_PATH_BYTES];
	struct mojo_blob *blob;
	(void)state;
	shelf_init(&shelf, 4096, PPS, ROOMY);
	place_slot(&shelf, 0, 700, 1, ref);
	place_slot(&shelf, 0, 700, 3, far); /* so that the file goes on */
	shelf.next = BENCH_PER_CHUNK;       /* in a chunk of its own */
	place_slot(&shelf, 0, 700, 2, far);
	shelf_forget(&shelf, PPS, ROOMY);
	mojo_chunk_path(0, path);
	uint64_t first = mojo_ref_decode(ref).address * 4096;
	uint32_t bytes = mojo_ref_decode(ref).bytes;
	for (uint32_t at = 0; at < bytes; at += 777) {
		assert_ok(mojo_io_memory_flip(shelf.io, path, first + at, 4));
		assert_damaged(&shelf, ref, MOJO_BLOB_SLOT);
		assert_ok(mojo_io_memory_flip(shelf.io, path, first + at, 4));
	}
	assert_ok(mojo_io_memory_flip(shelf.io, path, first + bytes, 4)); /* behind its end: none of it */
	assert_ok(mojo_blob_get(&shelf.blobs, ref, MOJO_BLOB_SLOT, &blob));
	mojo_blob_put(&shelf.blobs, blob);
	shelf_forget(&shelf, PPS, ROOMY);

	/* References that say something else than what is there. */
	struct mojo_ref r = mojo_ref_decode(ref);
	r.bytes -= MOJO_ENTRY_BYTES;
	mojo_ref_encode(bad, &r);
	assert_damaged(&shelf, bad, MOJO_BLOB_SLOT);
	r = mojo_ref_decode(ref);
	r.address++;
	mojo_ref_encode(bad, &r);
	assert_damaged(&shelf, bad, MOJO_BLOB_SLOT);
	r = mojo_ref_decode(ref);
	r.flags ^= MOJO_REF_ZSTD;
	mojo_ref_encode(bad, &r);
	assert_damaged(&shelf, bad, MOJO_BLOB_SLOT);
	r = mojo_ref_decode(ref);
	r.bytes = 1u << 30;
	mojo_ref_encode(bad, &r);
	assert_damaged(&shelf, bad, MOJO_BLOB_SLOT);
	assert_damaged(&shelf, ref, MOJO_BLOB_NODE); /* a slot is no node: the checksum knows its type */

	/* Once it is in memory, a reference that disagrees with it is damage as well. */
	assert_ok(mojo_blob_get(&shelf.blobs, ref, MOJO_BLOB_SLOT, &blob));
	r = mojo_ref_decode(ref);
	r.checksum ^= 1;
	mojo_ref_encode(bad, &r);
	assert_damaged(&shelf, bad, MOJO_BLOB_SLOT);
	assert_damaged(&shelf, ref, MOJO_BLOB_NODE);
	mojo_blob_put(&shelf.blobs, blob);

	/* Its file is cut short, or gone. */
	void *data;
	size_t length;
	mojo_chunk_path(1, path);
	mojo_chunks_close(&shelf.chunks);
	mojo_chunks_init(&shelf.chunks, shelf.io, 4096, BENCH_PER_CHUNK, false);
	assert_ok(mojo_io_memory_load(shelf.io, path, &data, &length));
	assert_ok(mojo_io_memory_replace(shelf.io, path, data, mojo_ref_decode(far).bytes - 1));
	assert_damaged(&shelf, far, MOJO_BLOB_SLOT);
	assert_ok(mojo_chunks_remove(&shelf.chunks, 1));
	assert_damaged(&shelf, far, MOJO_BLOB_SLOT);
	free(data);
	shelf_free(&shelf);
}

/* Checksums that match are not enough: what they sum up must be a slot or a node. */
static void place_raw(struct shelf *shelf, const void *data, uint32_t bytes, uint32_t flags, enum mojo_blob_type type,
		      uint8_t *ref)
{
	struct mojo_ref r = { .version = 1, .bytes = bytes, .flags = flags };
	r.checksum = mojo_checksum64(data, bytes, type);
	assert_ok(shelf_place(shelf, data, bytes, &r.address));
	mojo_ref_encode(ref, &r);
}

static void test_what_is_no_slot_and_no_node_is_refused(void **state)
{
	struct shelf shelf;
	uint8_t ref[MOJO_REF_BYTES], page[4096] = { 0 }, *large = calloc(1, SLOT_BYTES + MOJO_ENTRY_BYTES),
				     packed[4096];
	size_t length;
	(void)state;
	assert_non_null(large);
	shelf_init(&shelf, 4096, PPS, ROOMY);
	place_raw(&shelf, page, 4096, 0, MOJO_BLOB_NODE, ref); /* no node */
	assert_damaged(&shelf, ref, MOJO_BLOB_NODE);
	place_raw(&shelf, page, 100, 0, MOJO_BLOB_SLOT, ref); /* not a whole number of entries */
	assert_damaged(&shelf, ref, MOJO_BLOB_SLOT);
	place_raw(&shelf, page, 100, MOJO_REF_ZSTD, MOJO_BLOB_SLOT, ref); /* no zstd frame */
	assert_damaged(&shelf, ref, MOJO_BLOB_SLOT);
	assert_ok(mojo_codec_compress(large, SLOT_BYTES + MOJO_ENTRY_BYTES, packed, sizeof(packed), &length));
	place_raw(&shelf, packed, (uint32_t)length, MOJO_REF_ZSTD, MOJO_BLOB_SLOT, ref); /* an entry too many */
	assert_damaged(&shelf, ref, MOJO_BLOB_SLOT);
	assert_ok(mojo_codec_compress(large, SLOT_BYTES, packed, sizeof(packed), &length));
	place_raw(&shelf, packed, (uint32_t)length, MOJO_REF_ZSTD, MOJO_BLOB_SLOT, ref);
	assert_slot(&shelf, ref, 0, 0, 0);
	/* A node must be as long as nodes are. */
	mojo_node_init(page, 4096, 0, MOJO_TREE_SPACE);
	assert_true(mojo_node_insert(page, 4096, 0, page, 1, page, 1));
	place_raw(&shelf, page, 4000, 0, MOJO_BLOB_NODE, ref);
	assert_damaged(&shelf, ref, MOJO_BLOB_NODE);
	shelf_free(&shelf);
	free(large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_slot_comes_back_from_every_page_size),
		cmocka_unit_test(test_a_slot_takes_no_more_blocks_than_it_must),
		cmocka_unit_test(test_a_clean_blob_is_found_again_without_reading),
		cmocka_unit_test(test_the_cache_keeps_to_its_limit_and_to_what_is_used),
		cmocka_unit_test(test_many_blobs_are_found_by_address),
		cmocka_unit_test(test_nodes_set_aside_are_there),
		cmocka_unit_test(test_a_shared_dirty_blob_is_copied_before_a_change),
		cmocka_unit_test(test_a_copy_kills_the_original_unless_a_frozen_version_holds_it),
		cmocka_unit_test(test_children_are_written_before_their_parents_and_shared_ones_once),
		cmocka_unit_test(test_letting_go_of_a_dirty_parent_lets_go_of_its_children),
		cmocka_unit_test(test_damage_is_found_told_and_not_kept),
		cmocka_unit_test(test_what_is_no_slot_and_no_node_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
