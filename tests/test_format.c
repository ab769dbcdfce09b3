/* SPDX-License-Identifier: MIT */
/* format.h: what is encoded is decoded, at its edges too, and no bytes whatever lead a decoder astray. */
#include "support/support.h"

#include "checksum.h"
#include "format.h"

/* ---- entries and references ------------------------------------------------------------------ */

static void test_an_entry_keeps_all_its_bits(void **state)
{
	static const uint64_t addresses[] = { 0, 1, 0xff, 1ull << 32, MOJO_ADDRESS_MAX - 1, MOJO_ADDRESS_MAX };
	static const uint32_t versions[] = { 0, 1, 0x8000, MOJO_VERSION_MAX - 1, MOJO_VERSION_MAX };
	static const uint32_t sums[] = { 0, 1, UINT32_MAX };
	(void)state;
	for (size_t a = 0; a < 6; a++) {
		for (size_t v = 0; v < 5; v++) {
			for (size_t s = 0; s < 3; s++) {
				struct mojo_entry in = { addresses[a], versions[v], sums[s] };
				uint8_t bytes[MOJO_ENTRY_BYTES + 1];
				bytes[MOJO_ENTRY_BYTES] = 0xa5;
				mojo_entry_encode(bytes, &in);
				struct mojo_entry out = mojo_entry_decode(bytes);
				assert_int_equal(out.address, in.address);
				assert_int_equal(out.version, in.version);
				assert_int_equal(out.checksum, in.checksum);
				assert_int_equal(bytes[MOJO_ENTRY_BYTES], 0xa5);
			}
		}
	}
}

static void test_an_entry_is_little_endian_as_documented(void **state)
{
	static const uint8_t wanted[] = { 0x55, 0x44, 0x33, 0x22, 0x11, 0xcc, 0xbb, 0xaa, 0xef, 0xbe, 0xad, 0xde };
	struct mojo_entry entry = { .address = 0x1122334455, .version = 0xaabbcc, .checksum = 0xdeadbeef };
	uint8_t bytes[MOJO_ENTRY_BYTES];
	(void)state;
	mojo_entry_encode(bytes, &entry);
	assert_memory_equal(bytes, wanted, sizeof(wanted));
}

static void test_keys_are_ordered_as_their_numbers(void **state)
{
	struct dice dice = dice_new("keys");
	(void)state;
	for (int i = 0; i < 1000; i++) {
		uint64_t x = dice_next(&dice) >> dice_below(&dice, 64), y = dice_next(&dice) >> dice_below(&dice, 64);
		uint8_t a[8], b[8];
		mojo_put_be64(a, x);
		mojo_put_be64(b, y);
		assert_int_equal(memcmp(a, b, 8) < 0, x < y);
		assert_int_equal(mojo_get_be64(a), x);
		mojo_put_be32(a, (uint32_t)x);
		mojo_put_be32(b, (uint32_t)y);
		assert_int_equal(memcmp(a, b, 4) < 0, (uint32_t)x < (uint32_t)y);
		assert_int_equal(mojo_get_be32(a), (uint32_t)x);
	}
}

static void test_a_reference_keeps_all_its_bits(void **state)
{
	struct mojo_ref in = { .address = MOJO_ADDRESS_MAX,
			       .version = MOJO_VERSION_MAX,
			       .bytes = 12345,
			       .flags = MOJO_REF_ZSTD,
			       .checksum = 0x0123456789abcdefull };
	uint8_t bytes[MOJO_REF_BYTES];
	(void)state;
	mojo_ref_encode(bytes, &in);
	struct mojo_ref out = mojo_ref_decode(bytes);
	assert_int_equal(out.address, in.address);
	assert_int_equal(out.version, in.version);
	assert_int_equal(out.bytes, in.bytes);
	assert_int_equal(out.flags, in.flags);
	assert_int_equal(out.checksum, in.checksum);
	assert_false(mojo_ref_is_null(bytes));
	assert_false(mojo_ref_in_memory(bytes));
	assert_true(mojo_ref_valid(bytes, 12345));
}

static void test_an_impossible_reference_is_not_valid(void **state)
{
	uint8_t bytes[MOJO_REF_BYTES] = { 0 };
	(void)state;
	assert_true(mojo_ref_is_null(bytes));
	assert_true(mojo_ref_valid(bytes, 4096));
	/* Null has nothing set. */
	for (unsigned i = 0; i < MOJO_REF_BYTES; i++) {
		memset(bytes, 0, sizeof(bytes));
		bytes[i] = 1;
		assert_false(mojo_ref_valid(bytes, 4096));
	}
	struct mojo_ref good = { .address = 1, .bytes = 4096 };
	mojo_ref_encode(bytes, &good);
	assert_true(mojo_ref_valid(bytes, 4096));
	assert_false(mojo_ref_valid(bytes, 4095)); /* too long */
	good.address = 0;
	mojo_ref_encode(bytes, &good);
	assert_false(mojo_ref_valid(bytes, 4096)); /* block 0 is a group's header */
	good.address = 1;
	good.flags = 2;
	mojo_ref_encode(bytes, &good);
	assert_false(mojo_ref_valid(bytes, 4096)); /* a flag of the future */
	good.flags = 0;
	mojo_ref_encode(bytes, &good);
	mojo_put32(bytes + 12, MOJO_REF_IN_MEMORY);
	assert_true(mojo_ref_in_memory(bytes));
	assert_false(mojo_ref_valid(bytes, 4096)); /* a pointer from a disk */
}

/* ---- the root ------------------------------------------------------------------------------- */

static struct mojo_root sample_root(void)
{
	struct mojo_root root = {
		.generation = 7,
		.page_size = 8192,
		.pages_per_slot = 128,
		.chunk_blocks = 1024,
		.flags = MOJO_ROOT_MARK_PENDING,
		.epoch = 0x1111,
		.log_sequence = 42,
		.log_address = 99,
		.durable_sequence = 44,
		.active_version = 3,
		.next_bucket = 17,
		.created_ns = -5,
		.written_ns = INT64_MAX,
		.files = 4,
		.directories = 5,
		.frozen_versions = 2,
	};
	struct mojo_ref ref = { .address = 5, .version = 2, .bytes = 4096, .checksum = 77 };
	memcpy(root.store_id, "0123456789abcdef", MOJO_STORE_ID_BYTES);
	mojo_ref_encode(root.main_ref, &ref);
	ref.address = 6;
	mojo_ref_encode(root.versions_ref, &ref);
	return root;
}

static void test_a_root_comes_back(void **state)
{
	uint8_t slot[MOJO_ROOT_SLOT_BYTES];
	struct mojo_root in = sample_root(), out;
	(void)state;
	mojo_root_encode(slot, &in);
	assert_ok(mojo_root_decode(slot, &out));
	assert_memory_equal(out.store_id, in.store_id, sizeof(in.store_id));
	assert_int_equal(out.generation, in.generation);
	assert_int_equal(out.page_size, in.page_size);
	assert_int_equal(out.pages_per_slot, in.pages_per_slot);
	assert_int_equal(out.chunk_blocks, in.chunk_blocks);
	assert_int_equal(out.flags, in.flags);
	assert_int_equal(out.epoch, in.epoch);
	assert_int_equal(out.log_sequence, in.log_sequence);
	assert_int_equal(out.log_address, in.log_address);
	assert_int_equal(out.durable_sequence, in.durable_sequence);
	assert_int_equal(out.active_version, in.active_version);
	assert_int_equal(out.next_bucket, in.next_bucket);
	assert_int_equal(out.created_ns, in.created_ns);
	assert_int_equal(out.written_ns, in.written_ns);
	assert_int_equal(out.files, in.files);
	assert_int_equal(out.directories, in.directories);
	assert_int_equal(out.frozen_versions, in.frozen_versions);
	assert_memory_equal(out.main_ref, in.main_ref, MOJO_REF_BYTES);
	assert_memory_equal(out.versions_ref, in.versions_ref, MOJO_REF_BYTES);
	assert_true(mojo_ref_is_null(out.space_ref));
}

static void test_a_flipped_bit_anywhere_ruins_a_root(void **state)
{
	uint8_t slot[MOJO_ROOT_SLOT_BYTES];
	struct mojo_root in = sample_root(), out = { .generation = 1234 };
	(void)state;
	mojo_root_encode(slot, &in);
	for (unsigned i = 0; i < MOJO_ROOT_SLOT_BYTES; i++) {
		slot[i] ^= 0x40;
		/* Also in the format's number: rot is not taken for a newer format. */
		assert_errno(mojo_root_decode(slot, &out), EUCLEAN);
		assert_int_equal(out.generation, 1234);
		slot[i] ^= 0x40;
	}
	assert_ok(mojo_root_decode(slot, &out));
}

/* Encodes a root with one value out of range, checksum and all. */
#define ASSERT_ROOT_REFUSED(field, value)                             \
	do {                                                          \
		uint8_t bytes[MOJO_ROOT_SLOT_BYTES];                  \
		struct mojo_root bad = sample_root(), out;            \
		bad.field = (value);                                  \
		mojo_root_encode(bytes, &bad);                        \
		assert_errno(mojo_root_decode(bytes, &out), EUCLEAN); \
	} while (0)

static void test_a_root_with_an_impossible_value_is_refused(void **state)
{
	(void)state;
	ASSERT_ROOT_REFUSED(generation, 0);
	ASSERT_ROOT_REFUSED(page_size, 0);
	ASSERT_ROOT_REFUSED(page_size, 2048);
	ASSERT_ROOT_REFUSED(page_size, 8191);
	ASSERT_ROOT_REFUSED(page_size, 131072);
	ASSERT_ROOT_REFUSED(pages_per_slot, 0);
	ASSERT_ROOT_REFUSED(pages_per_slot, 32);
	ASSERT_ROOT_REFUSED(pages_per_slot, 65537);
	ASSERT_ROOT_REFUSED(pages_per_slot, 131072);
	ASSERT_ROOT_REFUSED(chunk_blocks, 0);
	ASSERT_ROOT_REFUSED(chunk_blocks, 256);
	ASSERT_ROOT_REFUSED(chunk_blocks, 1023);
	ASSERT_ROOT_REFUSED(chunk_blocks, UINT32_MAX);
	ASSERT_ROOT_REFUSED(flags, 2);
	ASSERT_ROOT_REFUSED(log_sequence, 0);
	ASSERT_ROOT_REFUSED(log_address, MOJO_ADDRESS_MAX + 1);
	ASSERT_ROOT_REFUSED(durable_sequence, 40); /* the groups before the log's beginning are long durable */
	ASSERT_ROOT_REFUSED(active_version, 0);
	ASSERT_ROOT_REFUSED(active_version, MOJO_VERSION_MAX + 1);
	ASSERT_ROOT_REFUSED(next_bucket, MOJO_ROOT_BUCKET);
	ASSERT_ROOT_REFUSED(next_bucket, MOJO_BUCKET_MAX + 1);
	ASSERT_ROOT_REFUSED(main_ref[15], 0x80);  /* a pointer */
	ASSERT_ROOT_REFUSED(versions_ref[11], 1); /* longer than any node */
	ASSERT_ROOT_REFUSED(space_ref[0], 1);     /* neither null nor anything else */
}

static void test_a_newer_format_is_told_from_damage(void **state)
{
	uint8_t slot[MOJO_ROOT_SLOT_BYTES];
	struct mojo_root in = sample_root(), out;
	(void)state;
	mojo_root_encode(slot, &in);
	mojo_put32(slot + 8, MOJO_FORMAT_VERSION + 1);
	assert_errno(mojo_root_decode(slot, &out), EUCLEAN); /* the checksum is part of every format */
	mojo_put64(slot + 4088, mojo_checksum64(slot, 4088, 0));
	assert_errno(mojo_root_decode(slot, &out), EPROTONOSUPPORT);
	memset(slot + 12, 0xee, 4088 - 12); /* whatever else it may hold */
	mojo_put64(slot + 4088, mojo_checksum64(slot, 4088, 0));
	assert_errno(mojo_root_decode(slot, &out), EPROTONOSUPPORT);
	slot[0] ^= 1;
	assert_errno(mojo_root_decode(slot, &out), EUCLEAN);
	/* Format 0 never was, not even with a matching checksum. */
	mojo_root_encode(slot, &in);
	mojo_put32(slot + 8, 0);
	mojo_put64(slot + 4088, mojo_checksum64(slot, 4088, 0));
	assert_errno(mojo_root_decode(slot, &out), EUCLEAN);
}

static void test_geometry_has_defaults_and_limits(void **state)
{
	const char *reason = "";
	struct mojo_geometry g = { 0 };
	(void)state;
	assert_ok(mojo_geometry_complete(&g, &reason));
	assert_null(reason);
	assert_int_equal(g.page_size, 4096);
	assert_int_equal(g.pages_per_slot, 4096);
	assert_int_equal(g.chunk_bytes, 64ull << 20);
	assert_int_equal(g.root_mode, 0755);

	for (uint32_t page = 4096; page <= 65536; page *= 2) {
		g = (struct mojo_geometry){ page, MOJO_PPS_MIN, MOJO_CHUNK_BYTES_MIN, 1, 2, 07777 };
		assert_ok(mojo_geometry_complete(&g, &reason));
		g = (struct mojo_geometry){ page, MOJO_PPS_MAX, MOJO_CHUNK_BYTES_MAX, 1, 2, 01 };
		assert_ok(mojo_geometry_complete(&g, &reason));
	}
	static const struct mojo_geometry bad[] = {
		{ .page_size = 1 },         { .page_size = 2048 },        { .page_size = 4097 },
		{ .page_size = 131072 },    { .pages_per_slot = 1 },      { .pages_per_slot = 63 },
		{ .pages_per_slot = 100 },  { .pages_per_slot = 131072 }, { .chunk_bytes = 1 },
		{ .chunk_bytes = 2 << 20 }, { .chunk_bytes = 5 << 20 },   { .chunk_bytes = 2ull << 30 },
		{ .root_mode = 010000 },
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		g = bad[i];
		reason = NULL;
		assert_errno(mojo_geometry_complete(&g, &reason), EINVAL);
		assert_non_null(reason);
		assert_memory_equal(&g, &bad[i], sizeof(g));
	}
}

/* ---- groups --------------------------------------------------------------------------------- */

enum { CHUNK_BLOCKS = 1024 };
static const uint8_t store_id[MOJO_STORE_ID_BYTES] = "a store's own id";

static struct mojo_group sample_group(void)
{
	return (struct mojo_group){
		.epoch = 5,
		.sequence = 10,
		.durable_sequence = 9,
		.address = 2 * CHUNK_BLOCKS + 7,
		.header_blocks = 2,
		.data_blocks = 30,
		.record_count = 3,
		.record_bytes = 5000,
		.flags = MOJO_GROUP_BATCH_END,
	};
}

static int peek(const uint8_t *p, uint64_t address, struct mojo_group *ret_group)
{
	return mojo_group_peek(p, 4096, CHUNK_BLOCKS, store_id, address, ret_group);
}

static void test_a_group_comes_back(void **state)
{
	uint8_t header[8192];
	struct mojo_group in = sample_group(), out;
	(void)state;
	memset(header, 0xcd, sizeof(header));
	mojo_group_seal(header, 4096, store_id, &in);
	assert_ok(peek(header, in.address, &out));
	assert_int_equal(out.epoch, in.epoch);
	assert_int_equal(out.sequence, in.sequence);
	assert_int_equal(out.durable_sequence, in.durable_sequence);
	assert_int_equal(out.address, in.address);
	assert_int_equal(out.header_blocks, in.header_blocks);
	assert_int_equal(out.data_blocks, in.data_blocks);
	assert_int_equal(out.record_count, in.record_count);
	assert_int_equal(out.record_bytes, in.record_bytes);
	assert_int_equal(out.flags, in.flags);
	assert_ok(mojo_group_verify(header, 4096, &out));
	assert_int_equal(header[MOJO_GROUP_HEADER_BYTES], 0xcd); /* records are left alone */
}

static void test_a_flipped_bit_anywhere_ruins_a_group(void **state)
{
	uint8_t header[8192] = { 0 };
	struct mojo_group in = sample_group(), out;
	(void)state;
	mojo_group_seal(header, 4096, store_id, &in);
	for (unsigned i = 0; i < sizeof(header); i++) {
		header[i] ^= 0x08;
		int err = peek(header, in.address, &out);
		if (!err && out.header_blocks == in.header_blocks)
			err = mojo_group_verify(header, 4096, &out);
		else if (!err)
			err = -EUCLEAN; /* a caller that reads other blocks than were sealed finds another sum */
		assert_errno(err, EUCLEAN);
		header[i] ^= 0x08;
	}
}

static void test_a_group_of_elsewhere_is_not_taken_for_ours(void **state)
{
	uint8_t header[8192] = { 0 }, other_id[MOJO_STORE_ID_BYTES] = "another store's";
	struct mojo_group group = sample_group(), out;
	(void)state;
	mojo_group_seal(header, 4096, store_id, &group);
	assert_errno(peek(header, group.address + 1, &out), EUCLEAN);
	assert_errno(peek(header, group.address + CHUNK_BLOCKS, &out), EUCLEAN);
	mojo_group_seal(header, 4096, other_id, &group);
	assert_errno(peek(header, group.address, &out), EUCLEAN);
}

#define ASSERT_GROUP_REFUSED(field, value)                             \
	do {                                                           \
		uint8_t bytes[4096] = { 0 };                           \
		struct mojo_group bad = sample_group(), out;           \
		bad.header_blocks = 1;                                 \
		bad.record_bytes = 4000;                               \
		mojo_group_seal(bytes, 4096, store_id, &bad);          \
		assert_ok(peek(bytes, bad.address, &out));             \
		mojo_put32(bytes + (field), (value));                  \
		assert_errno(peek(bytes, bad.address, &out), EUCLEAN); \
	} while (0)

static void test_a_group_with_impossible_sizes_is_refused(void **state)
{
	enum { SEQUENCE = 32, DURABLE = 40, HEADER_BLOCKS = 56, DATA_BLOCKS = 60, RECORD_BYTES = 68, FLAGS = 72 };
	(void)state;
	ASSERT_GROUP_REFUSED(SEQUENCE, 0);
	ASSERT_GROUP_REFUSED(DURABLE, 10); /* it would have been durable before it was written */
	ASSERT_GROUP_REFUSED(HEADER_BLOCKS, 0);
	ASSERT_GROUP_REFUSED(HEADER_BLOCKS, UINT32_MAX);
	ASSERT_GROUP_REFUSED(HEADER_BLOCKS, MOJO_GROUP_HEADER_BYTES_MAX / 4096 + 1);
	ASSERT_GROUP_REFUSED(DATA_BLOCKS, CHUNK_BLOCKS - 7); /* into the next chunk */
	ASSERT_GROUP_REFUSED(DATA_BLOCKS, UINT32_MAX);
	ASSERT_GROUP_REFUSED(RECORD_BYTES, 4096 - MOJO_GROUP_HEADER_BYTES + 1);
	ASSERT_GROUP_REFUSED(RECORD_BYTES, UINT32_MAX);
	ASSERT_GROUP_REFUSED(FLAGS, 2);
}

static void test_a_group_may_fill_its_chunk_to_the_last_block(void **state)
{
	uint8_t header[4096] = { 0 };
	struct mojo_group group = sample_group(), out;
	(void)state;
	group.header_blocks = 1;
	group.record_bytes = 4096 - MOJO_GROUP_HEADER_BYTES;
	group.data_blocks = CHUNK_BLOCKS - 8;
	mojo_group_seal(header, 4096, store_id, &group);
	assert_ok(peek(header, group.address, &out));
}

/* ---- records -------------------------------------------------------------------------------- */

static size_t add_record(uint8_t *p, size_t at, uint16_t type, const void *payload, uint32_t length)
{
	mojo_put16(p + at, type);
	mojo_put16(p + at + 2, 0);
	mojo_put32(p + at + 4, length);
	if (length)
		memcpy(p + at + MOJO_RECORD_HEADER_BYTES, payload, length);
	return at + MOJO_RECORD_HEADER_BYTES + length;
}

static void test_records_are_walked_in_order(void **state)
{
	uint8_t bytes[256];
	size_t length = 0, offset = 0;
	struct mojo_record record;
	(void)state;
	length = add_record(bytes, length, 5, "abc", 3);
	length = add_record(bytes, length, 6, NULL, 0);
	length = add_record(bytes, length, 7, "defgh", 5);
	assert_ok(mojo_record_next(bytes, length, &offset, &record));
	assert_int_equal(record.type, 5);
	assert_int_equal(record.length, 3);
	assert_memory_equal(record.payload, "abc", 3);
	assert_ok(mojo_record_next(bytes, length, &offset, &record));
	assert_int_equal(record.type, 6);
	assert_int_equal(record.length, 0);
	assert_ok(mojo_record_next(bytes, length, &offset, &record));
	assert_int_equal(record.type, 7);
	assert_memory_equal(record.payload, "defgh", 5);
	assert_errno(mojo_record_next(bytes, length, &offset, &record), ENOENT);
	/* Cut short anywhere it is an error, or an end between two records. */
	for (size_t cut = 0; cut < length; cut++) {
		int err;
		for (offset = 0; !(err = mojo_record_next(bytes, cut, &offset, &record));)
			;
		assert_int_equal(err, cut == 0 || cut == 11 || cut == 19 ? -ENOENT : -EUCLEAN);
	}
	offset = length + 1;
	assert_errno(mojo_record_next(bytes, length, &offset, &record), EUCLEAN);
	offset = 0;
	mojo_put32(bytes + 4, UINT32_MAX);
	assert_errno(mojo_record_next(bytes, length, &offset, &record), EUCLEAN);
}

static int decode_pages(uint32_t version, uint32_t bucket, uint32_t first, uint32_t count, uint32_t length)
{
	uint8_t payload[64] = { 0 };
	struct mojo_record record = { MOJO_RECORD_PAGES, 0, length, payload };
	struct mojo_record_pages pages;
	mojo_put32(payload, version);
	mojo_put32(payload + 4, bucket);
	mojo_put32(payload + 8, first);
	mojo_put32(payload + 12, count);
	return mojo_record_pages_decode(&record, &pages);
}

static void test_a_record_of_pages_is_checked(void **state)
{
	(void)state;
	assert_ok(decode_pages(1, 2, 3, 1, 20));
	assert_ok(decode_pages(MOJO_VERSION_MAX, UINT32_MAX, UINT32_MAX, 1, 20));
	assert_ok(decode_pages(1, 2, UINT32_MAX - 1, 2, 24));
	assert_errno(decode_pages(1, 2, UINT32_MAX, 2, 24), EUCLEAN); /* past 2^32 pages */
	assert_errno(decode_pages(0, 2, 3, 1, 20), EUCLEAN);
	assert_errno(decode_pages(MOJO_VERSION_MAX + 1, 2, 3, 1, 20), EUCLEAN);
	assert_errno(decode_pages(1, 0, 3, 1, 20), EUCLEAN);
	assert_errno(decode_pages(1, 2, 3, 0, 16), EUCLEAN);
	assert_errno(decode_pages(1, 2, 3, 1, 19), EUCLEAN);
	assert_errno(decode_pages(1, 2, 3, 1, 21), EUCLEAN);
	assert_errno(decode_pages(1, 2, 3, 1, 15), EUCLEAN);
	assert_errno(decode_pages(1, 2, 0, 0x40000001, 20), EUCLEAN); /* count * 4 does not wrap round */
}

static int decode_share(uint32_t bucket, uint32_t first, uint32_t count, uint32_t length, uint64_t address,
			uint32_t version)
{
	uint8_t payload[64] = { 0 };
	struct mojo_record record = { MOJO_RECORD_SHARE, MOJO_RECORD_UNPUBLISHED, length, payload };
	struct mojo_record_share share = { 0 };
	mojo_put32(payload, bucket);
	mojo_put32(payload + 4, first);
	mojo_put32(payload + 8, count);
	for (unsigned i = 0; i < 2; i++)
		mojo_entry_encode(payload + MOJO_SHARE_FIXED_BYTES + i * MOJO_ENTRY_BYTES,
				  &(struct mojo_entry){ i ? address : 5, i ? version : 7, 1 });
	int err = mojo_record_share_decode(&record, &share);
	if (!err) {
		assert_int_equal(share.bucket, bucket);
		assert_int_equal(share.first, first);
		assert_int_equal(share.count, count);
		assert_ptr_equal(share.entries, payload + MOJO_SHARE_FIXED_BYTES);
	}
	return err;
}

static void test_a_record_of_shared_pages_is_checked(void **state)
{
	(void)state;
	assert_ok(decode_share(2, 3, 1, 24, 0, 0));
	assert_ok(decode_share(2, 3, 2, 36, 9, 1));
	assert_ok(decode_share(UINT32_MAX, UINT32_MAX - 1, 2, 36, MOJO_ADDRESS_MAX, MOJO_VERSION_MAX));
	assert_errno(decode_share(2, UINT32_MAX, 2, 36, 9, 1), EUCLEAN); /* past 2^32 pages */
	assert_errno(decode_share(0, 3, 2, 36, 9, 1), EUCLEAN);
	assert_errno(decode_share(2, 3, 0, 12, 9, 1), EUCLEAN);
	assert_errno(decode_share(2, 3, 2, 36, 0, 1), EUCLEAN); /* lost */
	assert_errno(decode_share(2, 3, 2, 36, 0, 0), EUCLEAN); /* absent */
	assert_errno(decode_share(2, 3, 2, 35, 9, 1), EUCLEAN);
	assert_errno(decode_share(2, 3, 2, 37, 9, 1), EUCLEAN);
	assert_errno(decode_share(2, 3, 1, 36, 9, 1), EUCLEAN);
	assert_errno(decode_share(2, 3, 1, 11, 9, 1), EUCLEAN);
	assert_errno(decode_share(2, 0, 0x40000001, 24, 9, 1), EUCLEAN); /* count * 12 does not wrap round */
}

static int decode_link(uint32_t dir, uint32_t child, const char *name, uint32_t name_length, uint32_t length)
{
	uint8_t payload[512] = { 0 };
	struct mojo_record record = { MOJO_RECORD_LINK, 0, length, payload };
	struct mojo_record_link link;
	mojo_put32(payload, dir);
	mojo_put32(payload + 4, child);
	mojo_put64(payload + 8, 99);
	mojo_put32(payload + 16, 0100644);
	mojo_put32(payload + 20, name_length);
	if (name)
		memcpy(payload + MOJO_LINK_FIXED_BYTES, name, strlen(name));
	else
		memset(payload + MOJO_LINK_FIXED_BYTES, 'x', 300);
	int err = mojo_record_link_decode(&record, &link);
	if (!err) {
		assert_int_equal(link.dir, dir);
		assert_int_equal(link.child, child);
		assert_int_equal(link.cookie, 99);
		assert_int_equal(link.mode, 0100644);
		assert_int_equal(link.name_length, name_length);
		assert_memory_equal(link.name, payload + MOJO_LINK_FIXED_BYTES, name_length);
	}
	return err;
}

static void test_a_record_of_a_link_is_checked(void **state)
{
	(void)state;
	assert_ok(decode_link(1, 2, "name", 4, MOJO_LINK_FIXED_BYTES + 4));
	assert_ok(decode_link(1, 2, NULL, 255, MOJO_LINK_FIXED_BYTES + 255));
	assert_errno(decode_link(1, 2, NULL, 256, MOJO_LINK_FIXED_BYTES + 256), EUCLEAN);
	assert_errno(decode_link(1, 2, "name", 5, MOJO_LINK_FIXED_BYTES + 4), EUCLEAN);
	assert_errno(decode_link(1, 2, "name", 3, MOJO_LINK_FIXED_BYTES + 4), EUCLEAN);
	assert_errno(decode_link(0, 2, "name", 4, MOJO_LINK_FIXED_BYTES + 4), EUCLEAN);
	assert_errno(decode_link(1, 0, "name", 4, MOJO_LINK_FIXED_BYTES + 4), EUCLEAN);
	assert_errno(decode_link(1, 2, "a/b", 3, MOJO_LINK_FIXED_BYTES + 3), EUCLEAN);
	assert_errno(decode_link(1, 2, "..", 2, MOJO_LINK_FIXED_BYTES + 2), EUCLEAN);
	assert_errno(decode_link(1, 2, "", 0, MOJO_LINK_FIXED_BYTES), EUCLEAN);
	assert_errno(decode_link(1, 2, "name", 4, MOJO_LINK_FIXED_BYTES - 1), EUCLEAN);
}

static int decode_commit(uint32_t version, uint32_t message_length, uint32_t length)
{
	uint8_t payload[MOJO_COMMIT_FIXED_BYTES + MOJO_MESSAGE_MAX + 1] = { 0 };
	struct mojo_record record = { MOJO_RECORD_COMMIT, 0, length, payload };
	struct mojo_record_commit commit;
	mojo_put32(payload, version);
	mojo_put32(payload + 4, message_length);
	mojo_put64(payload + 8, (uint64_t)-3);
	int err = mojo_record_commit_decode(&record, &commit);
	if (!err) {
		assert_int_equal(commit.version, version);
		assert_int_equal(commit.time_ns, -3);
		assert_int_equal(commit.message_length, message_length);
	}
	return err;
}

static void test_a_record_of_a_commit_is_checked(void **state)
{
	(void)state;
	assert_ok(decode_commit(1, 0, MOJO_COMMIT_FIXED_BYTES));
	assert_ok(decode_commit(MOJO_VERSION_MAX - 1, MOJO_MESSAGE_MAX, MOJO_COMMIT_FIXED_BYTES + MOJO_MESSAGE_MAX));
	assert_errno(decode_commit(0, 0, MOJO_COMMIT_FIXED_BYTES), EUCLEAN);
	assert_errno(decode_commit(MOJO_VERSION_MAX, 0, MOJO_COMMIT_FIXED_BYTES), EUCLEAN); /* no number is left */
	assert_errno(decode_commit(1, 1, MOJO_COMMIT_FIXED_BYTES), EUCLEAN);
	assert_errno(decode_commit(1, 0, MOJO_COMMIT_FIXED_BYTES + 1), EUCLEAN);
	assert_errno(decode_commit(1, MOJO_MESSAGE_MAX + 1, MOJO_COMMIT_FIXED_BYTES + MOJO_MESSAGE_MAX + 1), EUCLEAN);
	assert_errno(decode_commit(1, 0, MOJO_COMMIT_FIXED_BYTES - 1), EUCLEAN);
}

/* ---- versions ------------------------------------------------------------------------------- */

static void test_a_version_comes_back(void **state)
{
	uint8_t bytes[MOJO_VERSION_BYTES_MAX + 1], message[MOJO_MESSAGE_MAX], text[MOJO_VERDICT_MAX];
	(void)state;
	memset(message, 'm', sizeof(message));
	memset(text, 't', sizeof(text));
	for (unsigned bits = 0; bits < 48; bits++) {
		struct mojo_version_value value = {
			.time_ns = -5,
			.unpublished = bits & 1,
			.settled = bits & 2,
			.verdict = (enum mojo_verdict)(bits / 4 % 3),
			.message = message,
			.message_length = bits < 24 ? 0 : MOJO_MESSAGE_MAX,
			.text = text,
			.text_length = bits % 24 < 12 ? 0 : MOJO_VERDICT_MAX,
		};
		struct mojo_version_value back;
		mojo_ref_encode(value.root, &(struct mojo_ref){ .address = 9, .version = 3, .bytes = 4096 });
		uint32_t length = mojo_version_encode(bytes, &value);
		assert_int_equal(length, MOJO_VERSION_FIXED_BYTES + value.message_length + value.text_length);
		assert_int_equal(mojo_version_decode(bytes, length, &back), 0);
		assert_memory_equal(back.root, value.root, MOJO_REF_BYTES);
		assert_true(back.time_ns == value.time_ns && back.unpublished == value.unpublished &&
			    back.settled == value.settled && back.verdict == value.verdict);
		assert_int_equal(back.message_length, value.message_length);
		assert_int_equal(back.text_length, value.text_length);
		assert_memory_equal(back.message, message, value.message_length);
		assert_memory_equal(back.text, text, value.text_length);
		/* Too short, too long, and every flag that has no meaning. */
		assert_int_equal(mojo_version_decode(bytes, length - 1, &back), -EUCLEAN);
		assert_int_equal(mojo_version_decode(bytes, length + 1, &back), -EUCLEAN);
		uint32_t flags = mojo_get32(bytes + 32);
		for (unsigned bit = 0; bit < 32; bit++) {
			if (bit < 4 || (bit >= 8 && bit < 16))
				continue;
			mojo_put32(bytes + 32, flags | 1u << bit);
			assert_int_equal(mojo_version_decode(bytes, length, &back), -EUCLEAN);
		}
		mojo_put32(bytes + 32, flags | 3u << 2); /* a fourth verdict */
		assert_int_equal(mojo_version_decode(bytes, length, &back), -EUCLEAN);
		mojo_put32(bytes + 32, flags);
		memset(bytes, 0, MOJO_REF_BYTES);
		assert_int_equal(mojo_version_decode(bytes, length, &back), -EUCLEAN);
	}
}

static void test_flags_of_records_mean_something_or_are_refused(void **state)
{
	(void)state;
	for (unsigned type = 0; type < 20; type++) {
		bool takes = type == MOJO_RECORD_INODE || type == MOJO_RECORD_UNLINK || type == MOJO_RECORD_REMOVE ||
			     type == MOJO_RECORD_CLEAR || type == MOJO_RECORD_COMMIT || type == MOJO_RECORD_SHARE;
		for (unsigned bit = 0; bit <= 16; bit++) { /* 16: none */
			uint8_t bytes[MOJO_RECORD_HEADER_BYTES] = { 0 };
			struct mojo_record record;
			size_t offset = 0;
			mojo_put16(bytes, (uint16_t)type);
			mojo_put16(bytes + 2, bit < 16 ? (uint16_t)(1u << bit) : 0);
			bool seeded = bit == 1 && type == MOJO_RECORD_PAGES;
			int wanted = bit == 16 || (bit == 0 && takes) || seeded ? 0 : -EUCLEAN;
			assert_int_equal(mojo_record_next(bytes, sizeof(bytes), &offset, &record), wanted);
			if (!wanted)
				assert_int_equal(record.flags, bit == 0 ? MOJO_RECORD_UNPUBLISHED
							       : seeded ? MOJO_RECORD_SEEDED
									: 0);
		}
	}
}

static void test_the_seed_of_pages_is_their_bucket_or_told(void **state)
{
	uint8_t payload[MOJO_PAGES_FIXED_BYTES + 4 + 2 * 4] = { 0 };
	struct mojo_record record = { MOJO_RECORD_PAGES, 0, MOJO_PAGES_FIXED_BYTES + 2 * 4, payload };
	struct mojo_record_pages pages;
	(void)state;
	mojo_put32(payload, 3);
	mojo_put32(payload + 4, 9);
	mojo_put32(payload + 12, 2);
	mojo_put32(payload + 16, 77);
	assert_ok(mojo_record_pages_decode(&record, &pages));
	assert_int_equal(pages.seed, 9);
	assert_ptr_equal(pages.checksums, payload + 16);
	record.flags = MOJO_RECORD_SEEDED;
	assert_errno(mojo_record_pages_decode(&record, &pages), EUCLEAN); /* too short for that */
	record.length += 4;
	assert_ok(mojo_record_pages_decode(&record, &pages));
	assert_int_equal(pages.seed, 77);
	assert_int_equal(pages.bucket, 9);
	assert_ptr_equal(pages.checksums, payload + 20);
	record.flags = 0;
	assert_errno(mojo_record_pages_decode(&record, &pages), EUCLEAN);
	record.flags = MOJO_RECORD_SEEDED;
	mojo_put32(payload + 16, 0);
	assert_errno(mojo_record_pages_decode(&record, &pages), EUCLEAN);
	record.length = MOJO_PAGES_FIXED_BYTES;
	assert_errno(mojo_record_pages_decode(&record, &pages), EUCLEAN);
}

static void test_a_clone_comes_back_or_is_refused(void **state)
{
	static const struct mojo_record_clone good = { 5, 6, 7, 8, 9, 1ull << 40, INT64_MIN };
	uint8_t payload[MOJO_CLONE_BYTES];
	struct mojo_record record = { MOJO_RECORD_CLONE, 0, sizeof(payload), payload };
	struct mojo_record_clone c;
	(void)state;
	mojo_record_clone_encode(payload, &good);
	assert_ok(mojo_record_clone_decode(&record, &c));
	assert_true(c.version == 5 && c.source == 6 && c.target == 7 && c.first == 8 && c.count == 9 &&
		    c.size == 1ull << 40 && c.time_ns == INT64_MIN);
	for (unsigned i = 0; i < 12; i++) {
		c = good;
		switch (i) {
		case 0:
			c.version = MOJO_VERSION_MAX + 1;
			break;
		case 1:
			c.source = 0;
			break;
		case 2:
			c.source = MOJO_BUCKET_MAX + 1;
			break;
		case 3:
			c.target = 0;
			break;
		case 4:
			c.target = MOJO_BUCKET_MAX + 1;
			break;
		case 5:
			c.count = 0;
			break;
		case 6:
			c.first = 1ull << 32;
			break;
		case 7:
			c.count = (1ull << 32) - 7;
			break;
		case 8:
			c.count = UINT64_MAX;
			break;
		case 9:
			c.size = (1ull << 32) * MOJO_PAGE_SIZE_MAX + 1;
			break;
		default:
			record.length = sizeof(payload) + (i == 10 ? 1 : UINT32_MAX);
		}
		mojo_record_clone_encode(payload, &c);
		assert_errno(mojo_record_clone_decode(&record, &c), EUCLEAN);
	}
	c = (struct mojo_record_clone){ 0, 1, MOJO_BUCKET_MAX, 7, (1ull << 32) - 7, 0, 0 };
	record.length = sizeof(payload);
	mojo_record_clone_encode(payload, &c);
	assert_ok(mojo_record_clone_decode(&record, &c));
}

static void test_a_verdict_comes_back(void **state)
{
	uint8_t payload[MOJO_VERDICT_FIXED_BYTES + MOJO_VERDICT_MAX + 1] = { 0 };
	struct mojo_record_verdict verdict;
	(void)state;
	mojo_put32(payload, 7);
	for (uint32_t v = 0; v < 5; v++) {
		mojo_put32(payload + 4, v);
		for (uint32_t length = 0; length <= sizeof(payload); length++) {
			struct mojo_record record = { MOJO_RECORD_VERDICT, 0, length, payload };
			int wanted = v <= MOJO_VERDICT_BAD && length >= MOJO_VERDICT_FIXED_BYTES &&
						     length <= MOJO_VERDICT_FIXED_BYTES + MOJO_VERDICT_MAX
					     ? 0
					     : -EUCLEAN;
			assert_int_equal(mojo_record_verdict_decode(&record, &verdict), wanted);
			if (wanted)
				continue;
			assert_int_equal(verdict.version, 7);
			assert_int_equal(verdict.verdict, v);
			assert_int_equal(verdict.text_length, length - MOJO_VERDICT_FIXED_BYTES);
			assert_ptr_equal(verdict.text, payload + MOJO_VERDICT_FIXED_BYTES);
		}
	}
}

/* ---- inodes and names ----------------------------------------------------------------------- */

static void test_an_inode_comes_back(void **state)
{
	static const uint32_t types[] = { S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK };
	(void)state;
	for (size_t i = 0; i < 7; i++) {
		uint8_t bytes[MOJO_INODE_BYTES];
		struct mojo_inode in = { .attr = { .bucket = 12,
						   .mode = types[i] | 07777,
						   .nlink = 3,
						   .uid = UINT32_MAX,
						   .gid = 4,
						   .rdev = 0x0801,
						   .parent = 6,
						   .size = (1ull << 32) * MOJO_PAGE_SIZE_MAX,
						   .pages = 1ull << 32,
						   .atime_ns = INT64_MIN,
						   .mtime_ns = -1,
						   .ctime_ns = INT64_MAX,
						   .btime_ns = 10 },
					 .cookie = UINT64_MAX };
		struct mojo_inode out;
		mojo_inode_encode(bytes, &in);
		assert_ok(mojo_inode_decode(bytes, sizeof(bytes), 12, &out));
		assert_int_equal(out.attr.bucket, 12);
		assert_int_equal(out.attr.mode, in.attr.mode);
		assert_int_equal(out.attr.nlink, in.attr.nlink);
		assert_int_equal(out.attr.uid, in.attr.uid);
		assert_int_equal(out.attr.gid, in.attr.gid);
		assert_int_equal(out.attr.rdev, in.attr.rdev);
		assert_int_equal(out.attr.parent, in.attr.parent);
		assert_int_equal(out.attr.size, in.attr.size);
		assert_int_equal(out.attr.pages, in.attr.pages);
		assert_int_equal(out.attr.atime_ns, in.attr.atime_ns);
		assert_int_equal(out.attr.mtime_ns, in.attr.mtime_ns);
		assert_int_equal(out.attr.ctime_ns, in.attr.ctime_ns);
		assert_int_equal(out.attr.btime_ns, in.attr.btime_ns);
		assert_int_equal(out.cookie, in.cookie);
	}
}

static void test_an_inode_that_cannot_be_is_refused(void **state)
{
	uint8_t bytes[MOJO_INODE_BYTES + 1] = { 0 };
	struct mojo_inode in = { .attr = { .mode = S_IFREG } }, out;
	(void)state;
	mojo_inode_encode(bytes, &in);
	assert_ok(mojo_inode_decode(bytes, MOJO_INODE_BYTES, 1, &out));
	assert_errno(mojo_inode_decode(bytes, MOJO_INODE_BYTES - 1, 1, &out), EUCLEAN);
	assert_errno(mojo_inode_decode(bytes, MOJO_INODE_BYTES + 1, 1, &out), EUCLEAN);
	static const uint32_t modes[] = { 0, 0777, 0030000, 0050000, 0070000, 0110000, 0170000 };
	for (size_t i = 0; i < 7; i++) {
		in.attr.mode = modes[i];
		mojo_inode_encode(bytes, &in);
		assert_errno(mojo_inode_decode(bytes, MOJO_INODE_BYTES, 1, &out), EUCLEAN);
	}
	in = (struct mojo_inode){ .attr = { .mode = S_IFREG, .size = (1ull << 32) * MOJO_PAGE_SIZE_MAX + 1 } };
	mojo_inode_encode(bytes, &in);
	assert_errno(mojo_inode_decode(bytes, MOJO_INODE_BYTES, 1, &out), EUCLEAN);
	in = (struct mojo_inode){ .attr = { .mode = S_IFREG, .pages = (1ull << 32) + 1 } };
	mojo_inode_encode(bytes, &in);
	assert_errno(mojo_inode_decode(bytes, MOJO_INODE_BYTES, 1, &out), EUCLEAN);
}

static void test_an_inode_tells_what_it_shares(void **state)
{
	static const struct {
		uint64_t shared;
		uint32_t seed;
		bool possible;
	} cases[] = {
		{ 1, 0, true },
		{ 0, 1, true },
		{ MOJO_ADDRESS_MAX + 1, MOJO_BUCKET_MAX, true },
		{ 0, 0, false }, /* it need not be so long then */
		{ MOJO_ADDRESS_MAX + 2, 1, false },
		{ 1, MOJO_BUCKET_MAX + 1, false },
	};
	uint8_t bytes[MOJO_INODE_BYTES_MAX + 1] = { 0 };
	struct mojo_inode in = { .attr = { .mode = S_IFREG }, .cookie = 9 }, out;
	(void)state;
	assert_int_equal(mojo_inode_encode(bytes, &in), MOJO_INODE_BYTES);
	assert_ok(mojo_inode_decode(bytes, MOJO_INODE_BYTES, 5, &out));
	assert_int_equal(mojo_inode_seed(&out), 5);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		mojo_put64(bytes + 80, cases[i].shared);
		mojo_put32(bytes + 88, cases[i].seed);
		if (!cases[i].possible) {
			assert_errno(mojo_inode_decode(bytes, MOJO_INODE_BYTES_MAX, 5, &out), EUCLEAN);
			continue;
		}
		in.shared = cases[i].shared;
		in.seed = cases[i].seed;
		assert_int_equal(mojo_inode_encode(bytes, &in), MOJO_INODE_BYTES_MAX);
		assert_ok(mojo_inode_decode(bytes, MOJO_INODE_BYTES_MAX, 5, &out));
		assert_true(out.shared == in.shared && out.seed == in.seed && out.cookie == 9);
		assert_int_equal(mojo_inode_seed(&out), in.seed ? in.seed : 5);
		assert_errno(mojo_inode_decode(bytes, MOJO_INODE_BYTES_MAX - 1, 5, &out), EUCLEAN);
		assert_errno(mojo_inode_decode(bytes, MOJO_INODE_BYTES_MAX + 1, 5, &out), EUCLEAN);
	}
}

static void test_names_are_bytes_without_slash_and_nul(void **state)
{
	char name[300];
	(void)state;
	memset(name, 'n', sizeof(name));
	assert_ok(mojo_name_check(name, 1));
	assert_ok(mojo_name_check(name, 255));
	assert_errno(mojo_name_check(name, 256), ENAMETOOLONG);
	assert_errno(mojo_name_check(name, 0), EINVAL);
	assert_errno(mojo_name_check(".", 1), EINVAL);
	assert_errno(mojo_name_check("..", 2), EINVAL);
	assert_ok(mojo_name_check("...", 3));
	assert_ok(mojo_name_check(".x", 2));
	assert_ok(mojo_name_check("\x01\xff\n", 3));
	assert_ok(mojo_name_check("@v1", 3)); /* for the mount to refuse */
	assert_errno(mojo_name_check("a/b", 3), EINVAL);
	assert_errno(mojo_name_check("a\0b", 3), EINVAL);
}

/* ---- any bytes whatever --------------------------------------------------------------------- */

/* Decoders are given exact allocations, so that the address sanitizer sees a read beyond. */
static void test_no_bytes_lead_a_decoder_astray(void **state)
{
	struct dice dice = dice_new("format");
	(void)state;
	for (int round = 0; round < 20000; round++) {
		size_t length = dice_below(&dice, 120);
		uint8_t *bytes = malloc(length + !length);
		assert_non_null(bytes);
		for (size_t i = 0; i < length; i++)
			bytes[i] = dice_below(&dice, 3) ? (uint8_t)dice_below(&dice, 4) : (uint8_t)dice_next(&dice);
		struct mojo_record record = { .length = (uint32_t)length, .payload = bytes };
		struct mojo_record_pages pages;
		struct mojo_record_share share;
		struct mojo_record_link link;
		struct mojo_record_commit commit;
		struct mojo_inode inode;
		size_t offset = 0;
		int err;
		while (!(err = mojo_record_next(bytes, length, &offset, &record)))
			assert_true(record.payload + record.length <= bytes + length);
		assert_true(err == -ENOENT || err == -EUCLEAN);
		record = (struct mojo_record){ .length = (uint32_t)length, .payload = bytes };
		if (!mojo_record_pages_decode(&record, &pages))
			assert_true(pages.checksums + 4ull * pages.count == bytes + length);
		if (!mojo_record_share_decode(&record, &share))
			assert_true(share.entries + 12ull * share.count == bytes + length);
		if (!mojo_record_link_decode(&record, &link))
			assert_ok(mojo_name_check(link.name, link.name_length));
		if (!mojo_record_commit_decode(&record, &commit))
			assert_true(commit.message + commit.message_length == bytes + length);
		mojo_inode_decode(bytes, length, 1, &inode);
		if (length >= MOJO_REF_BYTES)
			mojo_ref_valid(bytes, 4096);
		free(bytes);
	}
}

static void test_mutated_roots_and_groups_stay_in_range(void **state)
{
	struct dice dice = dice_new("format mutations");
	(void)state;
	for (int round = 0; round < 5000; round++) {
		uint8_t slot[MOJO_ROOT_SLOT_BYTES];
		struct mojo_root root = sample_root(), out;
		mojo_root_encode(slot, &root);
		for (uint32_t i = dice_below(&dice, 8); i < 8; i++)
			slot[12 + dice_below(&dice, 196)] = (uint8_t)dice_next(&dice);
		mojo_put64(slot + 4088, mojo_checksum64(slot, 4088, 0)); /* as one who wants to mislead would */
		if (!mojo_root_decode(slot, &out)) {
			assert_true(out.page_size >= MOJO_PAGE_SIZE_MIN && out.page_size <= MOJO_PAGE_SIZE_MAX);
			assert_true(out.pages_per_slot >= MOJO_PPS_MIN && out.pages_per_slot <= MOJO_PPS_MAX);
			uint64_t chunk_bytes = (uint64_t)out.chunk_blocks * out.page_size;
			assert_true(chunk_bytes >= MOJO_CHUNK_BYTES_MIN && chunk_bytes <= MOJO_CHUNK_BYTES_MAX);
			assert_in_range(out.active_version, 1, MOJO_VERSION_MAX);
			assert_in_range(out.next_bucket, 2, MOJO_BUCKET_MAX);
			assert_true(out.log_address <= MOJO_ADDRESS_MAX);
		}

		uint8_t header[4096] = { 0 };
		struct mojo_group group = sample_group(), back;
		group.header_blocks = 1;
		group.record_bytes = 100;
		mojo_group_seal(header, 4096, store_id, &group);
		for (uint32_t i = dice_below(&dice, 4); i < 4; i++)
			header[24 + dice_below(&dice, 72)] = (uint8_t)dice_next(&dice);
		if (!peek(header, group.address, &back)) {
			assert_true((uint64_t)back.header_blocks * 4096 <= MOJO_GROUP_HEADER_BYTES_MAX);
			assert_true(back.record_bytes <= back.header_blocks * 4096ull - MOJO_GROUP_HEADER_BYTES);
			assert_true(7ull + back.header_blocks + back.data_blocks <= CHUNK_BLOCKS);
			assert_true(back.durable_sequence < back.sequence);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_entry_keeps_all_its_bits),
		cmocka_unit_test(test_an_entry_is_little_endian_as_documented),
		cmocka_unit_test(test_keys_are_ordered_as_their_numbers),
		cmocka_unit_test(test_a_reference_keeps_all_its_bits),
		cmocka_unit_test(test_an_impossible_reference_is_not_valid),
		cmocka_unit_test(test_a_root_comes_back),
		cmocka_unit_test(test_a_flipped_bit_anywhere_ruins_a_root),
		cmocka_unit_test(test_a_root_with_an_impossible_value_is_refused),
		cmocka_unit_test(test_a_newer_format_is_told_from_damage),
		cmocka_unit_test(test_geometry_has_defaults_and_limits),
		cmocka_unit_test(test_a_group_comes_back),
		cmocka_unit_test(test_a_flipped_bit_anywhere_ruins_a_group),
		cmocka_unit_test(test_a_group_of_elsewhere_is_not_taken_for_ours),
		cmocka_unit_test(test_a_group_with_impossible_sizes_is_refused),
		cmocka_unit_test(test_a_group_may_fill_its_chunk_to_the_last_block),
		cmocka_unit_test(test_records_are_walked_in_order),
		cmocka_unit_test(test_a_record_of_pages_is_checked),
		cmocka_unit_test(test_a_record_of_shared_pages_is_checked),
		cmocka_unit_test(test_a_record_of_a_link_is_checked),
		cmocka_unit_test(test_a_record_of_a_commit_is_checked),
		cmocka_unit_test(test_a_version_comes_back),
		cmocka_unit_test(test_flags_of_records_mean_something_or_are_refused),
		cmocka_unit_test(test_the_seed_of_pages_is_their_bucket_or_told),
		cmocka_unit_test(test_a_clone_comes_back_or_is_refused),
		cmocka_unit_test(test_a_verdict_comes_back),
		cmocka_unit_test(test_an_inode_comes_back),
		cmocka_unit_test(test_an_inode_that_cannot_be_is_refused),
		cmocka_unit_test(test_an_inode_tells_what_it_shares),
		cmocka_unit_test(test_names_are_bytes_without_slash_and_nul),
		cmocka_unit_test(test_no_bytes_lead_a_decoder_astray),
		cmocka_unit_test(test_mutated_roots_and_groups_stay_in_range),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
