/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as the root node of one of a store's three trees, referred to as it should be: what a store makes of
 * inodes, entries, slot values, versions and dead blocks that are not what they should be. The first byte says
 * which tree, and whether the node is stored in zstd as given (then it is the bytes that are decompressed).
 */
#include "common.h"

#include <stdlib.h>

#include "blob.h"
#include "checksum.h"
#include "chunk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t node[FUZZ_PAGE];
	const struct fuzz_tail *tail = fuzz_tail();
	struct mojo_root root = tail->root;
	if (size < 2 || size - 1 > sizeof(node))
		return 0;
	bool packed = data[0] & 4;
	memset(node, 0, sizeof(node));
	memcpy(node, data + 1, size - 1);
	struct mojo_ref ref = {
		.address = tail->address + 20, /* behind the log, where nothing is */
		.version = data[0] & 8 ? root.active_version : 1,
		.bytes = packed ? (uint32_t)size - 1 : FUZZ_PAGE,
		.flags = packed ? MOJO_REF_ZSTD : 0,
	};
	ref.checksum = mojo_checksum64(node, ref.bytes, MOJO_BLOB_NODE);
	uint8_t *which = data[0] % 4 == 1 ? root.versions_ref : data[0] % 4 == 2 ? root.space_ref : root.main_ref;
	mojo_ref_encode(which, &ref);
	/* Without a log behind it: what is looked at is the index. */
	root.log_address = tail->address;
	root.log_sequence = tail->sequence;
	root.durable_sequence = tail->sequence - 1;
	root.epoch = tail->epoch;
	root.generation += 10;

	char path[MOJO_CHUNK_PATH_BYTES];
	uint8_t slot[MOJO_ROOT_SLOT_BYTES];
	struct mojo_io *io;
	if (mojo_io_memory_clone(fuzz_store(), &io) != 0)
		return 0;
	mojo_root_encode(slot, &root);
	fuzz_put(io, MOJO_STATE_FILE, 0, slot, sizeof(slot));
	mojo_chunk_path((uint32_t)(ref.address / FUZZ_BLOCKS), path);
	fuzz_put(io, path, ref.address % FUZZ_BLOCKS * FUZZ_PAGE, node, sizeof(node));
	fuzz_use(io);
	mojo_io_free(io);
	return 0;
}
