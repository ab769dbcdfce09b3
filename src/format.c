/* SPDX-License-Identifier: MIT */
#include "format.h"

#include <assert.h>
#include <errno.h>
#include <sys/stat.h>

#include "checksum.h"

static const char root_magic[8] = { 'M', 'O', 'J', 'O', 'R', 'O', 'O', 'T' };
static const char group_magic[8] = { 'M', 'O', 'J', 'O', 'G', 'R', 'U', 'P' };

#define VERSION_SHIFT 40

static bool power_of_two(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* ---- entries and references ------------------------------------------------------------------ */

void mojo_entry_encode(uint8_t *p, const struct mojo_entry *entry)
{
	assert(entry->address <= MOJO_ADDRESS_MAX && entry->version <= MOJO_VERSION_MAX);
	mojo_put64(p, entry->address | (uint64_t)entry->version << VERSION_SHIFT);
	mojo_put32(p + 8, entry->checksum);
}

struct mojo_entry mojo_entry_decode(const uint8_t *p)
{
	uint64_t v = mojo_get64(p);
	return (struct mojo_entry){
		.address = v & MOJO_ADDRESS_MAX,
		.version = (uint32_t)(v >> VERSION_SHIFT),
		.checksum = mojo_get32(p + 8),
	};
}

void mojo_ref_encode(uint8_t *p, const struct mojo_ref *ref)
{
	assert(ref->address <= MOJO_ADDRESS_MAX && ref->version <= MOJO_VERSION_MAX);
	assert(!(ref->flags & MOJO_REF_IN_MEMORY));
	mojo_put64(p, ref->address | (uint64_t)ref->version << VERSION_SHIFT);
	mojo_put32(p + 8, ref->bytes);
	mojo_put32(p + 12, ref->flags);
	mojo_put64(p + 16, ref->checksum);
}

struct mojo_ref mojo_ref_decode(const uint8_t *p)
{
	uint64_t v = mojo_get64(p);
	return (struct mojo_ref){
		.address = v & MOJO_ADDRESS_MAX,
		.version = (uint32_t)(v >> VERSION_SHIFT),
		.bytes = mojo_get32(p + 8),
		.flags = mojo_get32(p + 12),
		.checksum = mojo_get64(p + 16),
	};
}

bool mojo_ref_valid(const uint8_t *p, size_t max_bytes)
{
	struct mojo_ref ref = mojo_ref_decode(p);
	if (ref.bytes == 0)
		return ref.address == 0 && ref.version == 0 && ref.flags == 0 && ref.checksum == 0;
	return ref.address != 0 && ref.bytes <= max_bytes && !(ref.flags & ~MOJO_REF_ZSTD);
}

/* ---- the root ------------------------------------------------------------------------------- */

enum { /* offsets in a root slot */
       R_MAGIC = 0,
       R_FORMAT = 8,
       R_FLAGS = 12,
       R_STORE_ID = 16,
       R_GENERATION = 32,
       R_PAGE_SIZE = 40,
       R_PPS = 44,
       R_CHUNK_BLOCKS = 48,
       R_RESERVED = 52,
       R_EPOCH = 56,
       R_LOG_SEQUENCE = 64,
       R_LOG_ADDRESS = 72,
       R_ACTIVE = 80,
       R_NEXT_BUCKET = 84,
       R_MAIN = 88,
       R_VERSIONS = 112,
       R_SPACE = 136,
       R_CREATED = 160,
       R_WRITTEN = 168,
       R_FILES = 176,
       R_DIRECTORIES = 184,
       R_FROZEN = 192,
       R_DURABLE = 200,
       R_END = 208, /* zeros from here to the checksum */
       R_CHECKSUM = 4088,
};
static_assert(R_CHECKSUM + 8 == MOJO_ROOT_SLOT_BYTES, "a root slot is one sector-aligned 4 KiB");
static_assert(R_MAIN + 3 * MOJO_REF_BYTES == R_CREATED, "three references");

void mojo_root_encode(uint8_t *slot, const struct mojo_root *root)
{
	memset(slot, 0, MOJO_ROOT_SLOT_BYTES);
	memcpy(slot + R_MAGIC, root_magic, sizeof(root_magic));
	mojo_put32(slot + R_FORMAT, MOJO_FORMAT_VERSION);
	mojo_put32(slot + R_FLAGS, root->flags);
	memcpy(slot + R_STORE_ID, root->store_id, MOJO_STORE_ID_BYTES);
	mojo_put64(slot + R_GENERATION, root->generation);
	mojo_put32(slot + R_PAGE_SIZE, root->page_size);
	mojo_put32(slot + R_PPS, root->pages_per_slot);
	mojo_put32(slot + R_CHUNK_BLOCKS, root->chunk_blocks);
	mojo_put64(slot + R_EPOCH, root->epoch);
	mojo_put64(slot + R_LOG_SEQUENCE, root->log_sequence);
	mojo_put64(slot + R_LOG_ADDRESS, root->log_address);
	mojo_put32(slot + R_ACTIVE, root->active_version);
	mojo_put32(slot + R_NEXT_BUCKET, root->next_bucket);
	memcpy(slot + R_MAIN, root->main_ref, MOJO_REF_BYTES);
	memcpy(slot + R_VERSIONS, root->versions_ref, MOJO_REF_BYTES);
	memcpy(slot + R_SPACE, root->space_ref, MOJO_REF_BYTES);
	mojo_put64(slot + R_CREATED, (uint64_t)root->created_ns);
	mojo_put64(slot + R_WRITTEN, (uint64_t)root->written_ns);
	mojo_put64(slot + R_FILES, root->files);
	mojo_put64(slot + R_DIRECTORIES, root->directories);
	mojo_put64(slot + R_FROZEN, root->frozen_versions);
	mojo_put64(slot + R_DURABLE, root->durable_sequence);
	mojo_put64(slot + R_CHECKSUM, mojo_checksum64(slot, R_CHECKSUM, 0));
}

int mojo_root_decode(const uint8_t *slot, struct mojo_root *ret_root)
{
	if (memcmp(slot + R_MAGIC, root_magic, sizeof(root_magic)) != 0)
		return -EUCLEAN;
	/* The checksum is part of every format: a number that rotted is damage, and the other slot serves. */
	if (mojo_get64(slot + R_CHECKSUM) != mojo_checksum64(slot, R_CHECKSUM, 0))
		return -EUCLEAN;
	if (mojo_get32(slot + R_FORMAT) > MOJO_FORMAT_VERSION)
		return -EPROTONOSUPPORT;

	struct mojo_root root = {
		.generation = mojo_get64(slot + R_GENERATION),
		.page_size = mojo_get32(slot + R_PAGE_SIZE),
		.pages_per_slot = mojo_get32(slot + R_PPS),
		.chunk_blocks = mojo_get32(slot + R_CHUNK_BLOCKS),
		.flags = mojo_get32(slot + R_FLAGS),
		.epoch = mojo_get64(slot + R_EPOCH),
		.log_sequence = mojo_get64(slot + R_LOG_SEQUENCE),
		.log_address = mojo_get64(slot + R_LOG_ADDRESS),
		.active_version = mojo_get32(slot + R_ACTIVE),
		.next_bucket = mojo_get32(slot + R_NEXT_BUCKET),
		.created_ns = (int64_t)mojo_get64(slot + R_CREATED),
		.written_ns = (int64_t)mojo_get64(slot + R_WRITTEN),
		.files = mojo_get64(slot + R_FILES),
		.directories = mojo_get64(slot + R_DIRECTORIES),
		.frozen_versions = mojo_get64(slot + R_FROZEN),
		.durable_sequence = mojo_get64(slot + R_DURABLE),
	};
	memcpy(root.store_id, slot + R_STORE_ID, MOJO_STORE_ID_BYTES);
	memcpy(root.main_ref, slot + R_MAIN, MOJO_REF_BYTES);
	memcpy(root.versions_ref, slot + R_VERSIONS, MOJO_REF_BYTES);
	memcpy(root.space_ref, slot + R_SPACE, MOJO_REF_BYTES);

	struct mojo_geometry geometry = {
		.page_size = root.page_size,
		.pages_per_slot = root.pages_per_slot,
		.chunk_bytes = (uint64_t)root.chunk_blocks * root.page_size,
	};
	const char *reason;
	if (mojo_get32(slot + R_FORMAT) != MOJO_FORMAT_VERSION || !root.page_size || !root.pages_per_slot ||
	    !root.chunk_blocks || mojo_geometry_complete(&geometry, &reason) != 0)
		return -EUCLEAN;
	if (root.generation == 0 || root.log_sequence == 0 || root.log_address > MOJO_ADDRESS_MAX ||
	    root.durable_sequence < root.log_sequence - 1 || root.active_version == 0 ||
	    root.active_version > MOJO_VERSION_MAX || root.next_bucket <= MOJO_ROOT_BUCKET ||
	    root.next_bucket > MOJO_BUCKET_MAX || (root.flags & ~MOJO_ROOT_MARK_PENDING))
		return -EUCLEAN;
	if (!mojo_ref_valid(root.main_ref, MOJO_PAGE_SIZE_MAX) ||
	    !mojo_ref_valid(root.versions_ref, MOJO_PAGE_SIZE_MAX) ||
	    !mojo_ref_valid(root.space_ref, MOJO_PAGE_SIZE_MAX))
		return -EUCLEAN;
	*ret_root = root;
	return 0;
}

int mojo_geometry_complete(struct mojo_geometry *geometry, const char **ret_reason)
{
	struct mojo_geometry g = *geometry;
	if (!g.page_size)
		g.page_size = 4096;
	if (!g.pages_per_slot)
		g.pages_per_slot = 4096;
	if (!g.chunk_bytes)
		g.chunk_bytes = 64ull << 20;
	if (!g.root_mode)
		g.root_mode = 0755;
	*ret_reason = NULL;
	if (!power_of_two(g.page_size) || g.page_size < MOJO_PAGE_SIZE_MIN || g.page_size > MOJO_PAGE_SIZE_MAX)
		*ret_reason = "the page size must be a power of two from 4096 to 65536";
	else if (!power_of_two(g.pages_per_slot) || g.pages_per_slot < MOJO_PPS_MIN || g.pages_per_slot > MOJO_PPS_MAX)
		*ret_reason = "the pages per slot must be a power of two from 64 to 65536";
	else if (!power_of_two(g.chunk_bytes) || g.chunk_bytes < MOJO_CHUNK_BYTES_MIN ||
		 g.chunk_bytes > MOJO_CHUNK_BYTES_MAX)
		*ret_reason = "the chunk size must be a power of two from 4 MiB to 1 GiB";
	else if (g.root_mode & ~07777u)
		*ret_reason = "the root directory's mode has bits beyond 07777";
	if (*ret_reason)
		return -EINVAL;
	*geometry = g;
	return 0;
}

/* ---- groups --------------------------------------------------------------------------------- */

enum { /* offsets in a group's header */
       G_MAGIC = 0,
       G_STORE_ID = 8,
       G_EPOCH = 24,
       G_SEQUENCE = 32,
       G_DURABLE = 40,
       G_ADDRESS = 48,
       G_HEADER_BLOCKS = 56,
       G_DATA_BLOCKS = 60,
       G_RECORD_COUNT = 64,
       G_RECORD_BYTES = 68,
       G_FLAGS = 72,
       G_RESERVED = 76, /* 12 bytes */
       G_CHECKSUM = 88,
};
static_assert(G_CHECKSUM + 8 == MOJO_GROUP_HEADER_BYTES, "records follow the checksum");

/* The checksum covers all header blocks but itself. */
static uint64_t group_checksum(const uint8_t *p, size_t length)
{
	uint64_t head = mojo_checksum64(p, G_CHECKSUM, 0);
	return mojo_checksum64(p + MOJO_GROUP_HEADER_BYTES, length - MOJO_GROUP_HEADER_BYTES, head);
}

void mojo_group_seal(uint8_t *p, uint32_t page_size, const uint8_t *store_id, const struct mojo_group *group)
{
	memset(p, 0, MOJO_GROUP_HEADER_BYTES);
	memcpy(p + G_MAGIC, group_magic, sizeof(group_magic));
	memcpy(p + G_STORE_ID, store_id, MOJO_STORE_ID_BYTES);
	mojo_put64(p + G_EPOCH, group->epoch);
	mojo_put64(p + G_SEQUENCE, group->sequence);
	mojo_put64(p + G_DURABLE, group->durable_sequence);
	mojo_put64(p + G_ADDRESS, group->address);
	mojo_put32(p + G_HEADER_BLOCKS, group->header_blocks);
	mojo_put32(p + G_DATA_BLOCKS, group->data_blocks);
	mojo_put32(p + G_RECORD_COUNT, group->record_count);
	mojo_put32(p + G_RECORD_BYTES, group->record_bytes);
	mojo_put32(p + G_FLAGS, group->flags);
	mojo_put64(p + G_CHECKSUM, group_checksum(p, (size_t)group->header_blocks * page_size));
}

int mojo_group_peek(const uint8_t *p, uint32_t page_size, uint32_t chunk_blocks, const uint8_t *store_id,
		    uint64_t address, struct mojo_group *ret_group)
{
	if (memcmp(p + G_MAGIC, group_magic, sizeof(group_magic)) != 0 ||
	    memcmp(p + G_STORE_ID, store_id, MOJO_STORE_ID_BYTES) != 0)
		return -EUCLEAN;
	struct mojo_group g = {
		.epoch = mojo_get64(p + G_EPOCH),
		.sequence = mojo_get64(p + G_SEQUENCE),
		.durable_sequence = mojo_get64(p + G_DURABLE),
		.address = mojo_get64(p + G_ADDRESS),
		.header_blocks = mojo_get32(p + G_HEADER_BLOCKS),
		.data_blocks = mojo_get32(p + G_DATA_BLOCKS),
		.record_count = mojo_get32(p + G_RECORD_COUNT),
		.record_bytes = mojo_get32(p + G_RECORD_BYTES),
		.flags = mojo_get32(p + G_FLAGS),
	};
	uint64_t room = chunk_blocks - address % chunk_blocks;
	if (g.address != address || g.sequence == 0 || g.durable_sequence >= g.sequence || g.header_blocks == 0 ||
	    (uint64_t)g.header_blocks + g.data_blocks > room || (g.flags & ~MOJO_GROUP_BATCH_END) ||
	    (uint64_t)g.header_blocks * page_size > MOJO_GROUP_HEADER_BYTES_MAX ||
	    g.record_bytes > (uint64_t)g.header_blocks * page_size - MOJO_GROUP_HEADER_BYTES)
		return -EUCLEAN;
	*ret_group = g;
	return 0;
}

int mojo_group_verify(const uint8_t *p, uint32_t page_size, const struct mojo_group *group)
{
	uint64_t sum = group_checksum(p, (size_t)group->header_blocks * page_size);
	return sum == mojo_get64(p + G_CHECKSUM) ? 0 : -EUCLEAN;
}

/* ---- records -------------------------------------------------------------------------------- */

static uint16_t possible_flags(uint16_t type)
{
	switch (type) {
	case MOJO_RECORD_INODE:
	case MOJO_RECORD_UNLINK:
	case MOJO_RECORD_REMOVE:
	case MOJO_RECORD_CLEAR:
	case MOJO_RECORD_COMMIT:
	case MOJO_RECORD_SHARE:
		return MOJO_RECORD_UNPUBLISHED;
	case MOJO_RECORD_PAGES:
		return MOJO_RECORD_SEEDED;
	default:
		return 0;
	}
}

int mojo_record_next(const uint8_t *p, size_t length, size_t *offset, struct mojo_record *ret_record)
{
	if (*offset == length)
		return -ENOENT;
	if (*offset > length || length - *offset < MOJO_RECORD_HEADER_BYTES)
		return -EUCLEAN;
	uint32_t payload = mojo_get32(p + *offset + 4);
	if (payload > length - *offset - MOJO_RECORD_HEADER_BYTES)
		return -EUCLEAN;
	uint16_t type = mojo_get16(p + *offset), flags = mojo_get16(p + *offset + 2);
	if (flags & ~possible_flags(type))
		return -EUCLEAN;
	*ret_record = (struct mojo_record){
		.type = type,
		.flags = flags,
		.length = payload,
		.payload = p + *offset + MOJO_RECORD_HEADER_BYTES,
	};
	*offset += MOJO_RECORD_HEADER_BYTES + payload;
	return 0;
}

int mojo_record_pages_decode(const struct mojo_record *record, struct mojo_record_pages *ret)
{
	bool seeded = record->flags & MOJO_RECORD_SEEDED;
	uint32_t fixed = MOJO_PAGES_FIXED_BYTES + (seeded ? 4 : 0);
	if (record->length < fixed)
		return -EUCLEAN;
	struct mojo_record_pages r = {
		.version = mojo_get32(record->payload),
		.bucket = mojo_get32(record->payload + 4),
		.first = mojo_get32(record->payload + 8),
		.count = mojo_get32(record->payload + 12),
		.checksums = record->payload + fixed,
	};
	r.seed = seeded ? mojo_get32(record->payload + MOJO_PAGES_FIXED_BYTES) : r.bucket;
	if (r.count == 0 || r.version == 0 || r.version > MOJO_VERSION_MAX || r.bucket == 0 || r.seed == 0 ||
	    (uint64_t)r.first + r.count > 1ull << 32 || record->length != fixed + (uint64_t)r.count * 4)
		return -EUCLEAN;
	*ret = r;
	return 0;
}

int mojo_record_share_decode(const struct mojo_record *record, struct mojo_record_share *ret)
{
	if (record->length < MOJO_SHARE_FIXED_BYTES)
		return -EUCLEAN;
	struct mojo_record_share r = {
		.bucket = mojo_get32(record->payload),
		.first = mojo_get32(record->payload + 4),
		.count = mojo_get32(record->payload + 8),
		.entries = record->payload + MOJO_SHARE_FIXED_BYTES,
	};
	if (r.count == 0 || r.bucket == 0 || (uint64_t)r.first + r.count > 1ull << 32 ||
	    record->length != MOJO_SHARE_FIXED_BYTES + (uint64_t)r.count * MOJO_ENTRY_BYTES)
		return -EUCLEAN;
	for (uint32_t i = 0; i < r.count; i++) {
		struct mojo_entry entry = mojo_entry_decode(r.entries + (size_t)i * MOJO_ENTRY_BYTES);
		if (!entry.version || !entry.address)
			return -EUCLEAN;
	}
	*ret = r;
	return 0;
}

int mojo_record_link_decode(const struct mojo_record *record, struct mojo_record_link *ret)
{
	if (record->length < MOJO_LINK_FIXED_BYTES)
		return -EUCLEAN;
	struct mojo_record_link r = {
		.dir = mojo_get32(record->payload),
		.child = mojo_get32(record->payload + 4),
		.cookie = mojo_get64(record->payload + 8),
		.mode = mojo_get32(record->payload + 16),
		.name_length = mojo_get32(record->payload + 20),
		.name = (const char *)record->payload + MOJO_LINK_FIXED_BYTES,
	};
	if (r.name_length > MOJO_NAME_MAX || record->length != MOJO_LINK_FIXED_BYTES + r.name_length ||
	    mojo_name_check(r.name, r.name_length) != 0 || r.dir == 0 || r.child == 0)
		return -EUCLEAN;
	*ret = r;
	return 0;
}

int mojo_record_commit_decode(const struct mojo_record *record, struct mojo_record_commit *ret)
{
	if (record->length < MOJO_COMMIT_FIXED_BYTES)
		return -EUCLEAN;
	struct mojo_record_commit r = {
		.version = mojo_get32(record->payload),
		.message_length = mojo_get32(record->payload + 4),
		.time_ns = (int64_t)mojo_get64(record->payload + 8),
		.message = record->payload + MOJO_COMMIT_FIXED_BYTES,
	};
	if (r.version == 0 || r.version >= MOJO_VERSION_MAX || r.message_length > MOJO_MESSAGE_MAX ||
	    record->length != MOJO_COMMIT_FIXED_BYTES + r.message_length)
		return -EUCLEAN;
	*ret = r;
	return 0;
}

int mojo_record_verdict_decode(const struct mojo_record *record, struct mojo_record_verdict *ret)
{
	if (record->length < MOJO_VERDICT_FIXED_BYTES || record->length > MOJO_VERDICT_FIXED_BYTES + MOJO_VERDICT_MAX)
		return -EUCLEAN;
	uint32_t verdict = mojo_get32(record->payload + 4);
	if (verdict > MOJO_VERDICT_BAD)
		return -EUCLEAN;
	*ret = (struct mojo_record_verdict){
		.version = mojo_get32(record->payload),
		.verdict = (enum mojo_verdict)verdict,
		.text = record->payload + MOJO_VERDICT_FIXED_BYTES,
		.text_length = record->length - MOJO_VERDICT_FIXED_BYTES,
	};
	return 0;
}

void mojo_record_clone_encode(uint8_t *p, const struct mojo_record_clone *clone)
{
	mojo_put32(p, clone->version);
	mojo_put32(p + 4, clone->source);
	mojo_put32(p + 8, clone->target);
	mojo_put64(p + 12, clone->first);
	mojo_put64(p + 20, clone->count);
	mojo_put64(p + 28, clone->size);
	mojo_put64(p + 36, (uint64_t)clone->time_ns);
}

int mojo_record_clone_decode(const struct mojo_record *record, struct mojo_record_clone *ret)
{
	if (record->length != MOJO_CLONE_BYTES)
		return -EUCLEAN;
	const uint8_t *p = record->payload;
	struct mojo_record_clone r = {
		.version = mojo_get32(p),
		.source = mojo_get32(p + 4),
		.target = mojo_get32(p + 8),
		.first = mojo_get64(p + 12),
		.count = mojo_get64(p + 20),
		.size = mojo_get64(p + 28),
		.time_ns = (int64_t)mojo_get64(p + 36),
	};
	if (r.version > MOJO_VERSION_MAX || r.source == 0 || r.source > MOJO_BUCKET_MAX || r.target == 0 ||
	    r.target > MOJO_BUCKET_MAX || r.first >= 1ull << 32 || r.count == 0 || r.count > (1ull << 32) - r.first ||
	    r.size > (1ull << 32) * MOJO_PAGE_SIZE_MAX)
		return -EUCLEAN;
	*ret = r;
	return 0;
}

/* ---- values of the versions tree ------------------------------------------------------------ */

enum { /* offsets */
       V_ROOT = 0,
       V_TIME = 24,
       V_FLAGS = 32,
       V_MESSAGE_LENGTH = 36,
};
enum { /* flags */
       V_UNPUBLISHED = 1,
       V_SETTLED = 2,
       V_VERDICT_SHIFT = 2, /* 2 bits */
       V_TEXT_SHIFT = 8,    /* 8 bits */
       V_KNOWN = V_UNPUBLISHED | V_SETTLED | 3 << V_VERDICT_SHIFT | 255 << V_TEXT_SHIFT,
};
static_assert(V_MESSAGE_LENGTH + 4 == MOJO_VERSION_FIXED_BYTES, "the message follows");
static_assert(MOJO_VERDICT_MAX < 256, "the length of a verdict's text takes 8 bits");

uint32_t mojo_version_encode(uint8_t *p, const struct mojo_version_value *value)
{
	memcpy(p + V_ROOT, value->root, MOJO_REF_BYTES);
	mojo_put64(p + V_TIME, (uint64_t)value->time_ns);
	mojo_put32(p + V_FLAGS, (value->unpublished ? V_UNPUBLISHED : 0u) | (value->settled ? V_SETTLED : 0u) |
					(uint32_t)value->verdict << V_VERDICT_SHIFT |
					value->text_length << V_TEXT_SHIFT);
	mojo_put32(p + V_MESSAGE_LENGTH, value->message_length);
	if (value->message_length)
		memcpy(p + MOJO_VERSION_FIXED_BYTES, value->message, value->message_length);
	if (value->text_length)
		memcpy(p + MOJO_VERSION_FIXED_BYTES + value->message_length, value->text, value->text_length);
	return MOJO_VERSION_FIXED_BYTES + value->message_length + value->text_length;
}

int mojo_version_decode(const uint8_t *p, size_t length, struct mojo_version_value *ret)
{
	if (length < MOJO_VERSION_FIXED_BYTES || mojo_ref_is_null(p + V_ROOT))
		return -EUCLEAN;
	uint32_t flags = mojo_get32(p + V_FLAGS), message_length = mojo_get32(p + V_MESSAGE_LENGTH);
	uint32_t verdict = flags >> V_VERDICT_SHIFT & 3, text_length = flags >> V_TEXT_SHIFT & 255;
	if ((flags & ~(uint32_t)V_KNOWN) || verdict > MOJO_VERDICT_BAD || text_length > MOJO_VERDICT_MAX ||
	    message_length > MOJO_MESSAGE_MAX || length != MOJO_VERSION_FIXED_BYTES + message_length + text_length)
		return -EUCLEAN;
	*ret = (struct mojo_version_value){
		.time_ns = (int64_t)mojo_get64(p + V_TIME),
		.unpublished = flags & V_UNPUBLISHED,
		.settled = flags & V_SETTLED,
		.verdict = (enum mojo_verdict)verdict,
		.message = p + MOJO_VERSION_FIXED_BYTES,
		.message_length = message_length,
		.text = p + MOJO_VERSION_FIXED_BYTES + message_length,
		.text_length = text_length,
	};
	memcpy(ret->root, p + V_ROOT, MOJO_REF_BYTES);
	return 0;
}

/* ---- inodes --------------------------------------------------------------------------------- */

uint32_t mojo_inode_encode(uint8_t *p, const struct mojo_inode *inode)
{
	const struct mojo_attr *a = &inode->attr;
	mojo_put32(p, a->mode);
	mojo_put32(p + 4, a->nlink);
	mojo_put32(p + 8, a->uid);
	mojo_put32(p + 12, a->gid);
	mojo_put32(p + 16, a->rdev);
	mojo_put32(p + 20, a->parent);
	mojo_put64(p + 24, a->size);
	mojo_put64(p + 32, a->pages);
	mojo_put64(p + 40, (uint64_t)a->atime_ns);
	mojo_put64(p + 48, (uint64_t)a->mtime_ns);
	mojo_put64(p + 56, (uint64_t)a->ctime_ns);
	mojo_put64(p + 64, (uint64_t)a->btime_ns);
	mojo_put64(p + 72, inode->cookie);
	if (!inode->shared && !inode->seed)
		return MOJO_INODE_BYTES;
	mojo_put64(p + 80, inode->shared);
	mojo_put32(p + 88, inode->seed);
	return MOJO_INODE_BYTES_MAX;
}

int mojo_inode_decode(const uint8_t *p, size_t length, uint32_t bucket, struct mojo_inode *ret_inode)
{
	bool is_long = length == MOJO_INODE_BYTES_MAX;
	if (length != MOJO_INODE_BYTES && !is_long)
		return -EUCLEAN;
	struct mojo_inode inode = {
		.attr = {
			.bucket = bucket,
			.mode = mojo_get32(p),
			.nlink = mojo_get32(p + 4),
			.uid = mojo_get32(p + 8),
			.gid = mojo_get32(p + 12),
			.rdev = mojo_get32(p + 16),
			.parent = mojo_get32(p + 20),
			.size = mojo_get64(p + 24),
			.pages = mojo_get64(p + 32),
			.atime_ns = (int64_t)mojo_get64(p + 40),
			.mtime_ns = (int64_t)mojo_get64(p + 48),
			.ctime_ns = (int64_t)mojo_get64(p + 56),
			.btime_ns = (int64_t)mojo_get64(p + 64),
		},
		.cookie = mojo_get64(p + 72),
		.shared = is_long ? mojo_get64(p + 80) : 0,
		.seed = is_long ? mojo_get32(p + 88) : 0,
	};
	switch (inode.attr.mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		break;
	default:
		return -EUCLEAN;
	}
	if (inode.attr.size > (1ull << 32) * MOJO_PAGE_SIZE_MAX || inode.attr.pages > 1ull << 32 ||
	    inode.shared > MOJO_ADDRESS_MAX + 1 || inode.seed > MOJO_BUCKET_MAX ||
	    (is_long && !inode.shared && !inode.seed))
		return -EUCLEAN;
	*ret_inode = inode;
	return 0;
}

int mojo_name_check(const char *name, size_t length)
{
	if (length > MOJO_NAME_MAX)
		return -ENAMETOOLONG;
	if (length == 0 || memchr(name, '/', length) || memchr(name, '\0', length) || (length == 1 && name[0] == '.') ||
	    (length == 2 && name[0] == '.' && name[1] == '.'))
		return -EINVAL;
	return 0;
}
