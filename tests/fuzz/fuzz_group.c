/* SPDX-License-Identifier: MIT */
/* The header of a group and its records, of any bytes, as they are and with a checksum that fits. */
#include "common.h"

#include <stdlib.h>

#include "checksum.h"

/* What is decoded is used, so that the sanitizers look at it. */
static volatile uint64_t used;

static void decode_records(const uint8_t *p, size_t length)
{
	struct mojo_record record;
	size_t offset = 0;
	while (mojo_record_next(p, length, &offset, &record) == 0) {
		struct mojo_record_pages pages;
		struct mojo_record_link link;
		struct mojo_record_commit commit;
		struct mojo_record_verdict verdict;
		struct mojo_record_clone clone;
		struct mojo_inode inode;
		uint64_t sum = 0;
		if (mojo_record_pages_decode(&record, &pages) == 0)
			for (uint32_t i = 0; i < pages.count; i++)
				sum += mojo_get32(pages.checksums + 4 * (size_t)i);
		if (mojo_record_link_decode(&record, &link) == 0)
			sum += mojo_checksum64(link.name, link.name_length, sum);
		if (mojo_record_commit_decode(&record, &commit) == 0)
			sum += mojo_checksum64(commit.message, commit.message_length, sum);
		if (mojo_record_verdict_decode(&record, &verdict) == 0)
			sum += mojo_checksum64(verdict.text, verdict.text_length, sum);
		if (mojo_record_clone_decode(&record, &clone) == 0)
			sum += clone.first + clone.count;
		mojo_inode_decode(record.payload, record.length, 5, &inode);
		used = sum;
		if (offset > length)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *id = fuzz_tail()->root.store_id;
	struct mojo_group group;
	uint32_t blocks = size <= FUZZ_PAGE ? 1 : (uint32_t)((size + FUZZ_PAGE - 1) / FUZZ_PAGE);
	uint8_t *p = calloc(blocks, FUZZ_PAGE);
	if (!p)
		return 0;
	memcpy(p, data, size);
	uint64_t address = mojo_get64(p + 48);
	memcpy(p + 8, id, MOJO_STORE_ID_BYTES);
	if (mojo_group_peek(p, FUZZ_PAGE, FUZZ_BLOCKS, id, address, &group) == 0 && group.header_blocks <= blocks) {
		mojo_group_verify(p, FUZZ_PAGE, &group);
		decode_records(p + MOJO_GROUP_HEADER_BYTES, group.record_bytes);
		mojo_group_seal(p, FUZZ_PAGE, id, &group);
		if (mojo_group_verify(p, FUZZ_PAGE, &group) != 0)
			abort();
	}
	decode_records(data, size);
	free(p);
	return 0;
}
