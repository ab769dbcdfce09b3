/* SPDX-License-Identifier: MIT */
/* Any bytes as the records of a group that is sealed as it should be, at the end of a log: what a store makes of them. */
#include "common.h"

#include <stdlib.h>

#include "chunk.h"

#define HEADER_BLOCKS 2u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t header[HEADER_BLOCKS * FUZZ_PAGE];
	const struct fuzz_tail *tail = fuzz_tail();
	if (size < 1 || size - 1 > sizeof(header) - MOJO_GROUP_HEADER_BYTES)
		return 0;
	struct mojo_group group = {
		.epoch = tail->epoch,
		.sequence = tail->sequence,
		.durable_sequence = tail->sequence - 1,
		.address = tail->address,
		.header_blocks = HEADER_BLOCKS,
		.data_blocks = data[0] % 8,
		.record_bytes = (uint32_t)size - 1,
		.flags = MOJO_GROUP_BATCH_END,
	};
	memset(header, 0, sizeof(header));
	memcpy(header + MOJO_GROUP_HEADER_BYTES, data + 1, size - 1);
	struct mojo_record record;
	for (size_t offset = 0; mojo_record_next(data + 1, size - 1, &offset, &record) == 0;)
		group.record_count++;
	mojo_group_seal(header, FUZZ_PAGE, tail->root.store_id, &group);

	/* A second one vouches for the first, so that the pages it speaks of are not asked for. */
	static uint8_t later[FUZZ_PAGE];
	struct mojo_group second = {
		.epoch = tail->epoch,
		.sequence = tail->sequence + 1,
		.durable_sequence = tail->sequence,
		.address = tail->address + HEADER_BLOCKS + group.data_blocks,
		.header_blocks = 1,
		.flags = MOJO_GROUP_BATCH_END,
	};
	memset(later, 0, sizeof(later));
	mojo_group_seal(later, FUZZ_PAGE, tail->root.store_id, &second);

	char path[MOJO_CHUNK_PATH_BYTES];
	struct mojo_io *io;
	if (mojo_io_memory_clone(fuzz_store(), &io) != 0)
		return 0;
	mojo_chunk_path((uint32_t)(tail->address / FUZZ_BLOCKS), path);
	fuzz_put(io, path, tail->address % FUZZ_BLOCKS * FUZZ_PAGE, header, sizeof(header));
	fuzz_put(io, path, second.address % FUZZ_BLOCKS * FUZZ_PAGE, later, sizeof(later));
	fuzz_use(io);
	mojo_io_free(io);
	return 0;
}
