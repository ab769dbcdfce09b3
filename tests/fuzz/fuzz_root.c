/* SPDX-License-Identifier: MIT */
/* A root slot of any bytes, as it is and with a checksum that fits; then a store with such a root. */
#include "common.h"

#include <stdlib.h>

#include "checksum.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t slot[MOJO_ROOT_SLOT_BYTES] = { 0 }, again[MOJO_ROOT_SLOT_BYTES];
	struct mojo_root root, second;
	memcpy(slot, data, size < sizeof(slot) ? size : sizeof(slot));
	mojo_root_decode(slot, &root);
	mojo_put64(slot + sizeof(slot) - 8, mojo_checksum64(slot, sizeof(slot) - 8, 0));
	if (mojo_root_decode(slot, &root) != 0)
		return 0;
	/* What was understood is what is written. */
	mojo_root_encode(again, &root);
	if (mojo_root_decode(again, &second) != 0 || second.generation != root.generation ||
	    second.log_address != root.log_address || second.durable_sequence != root.durable_sequence)
		abort();

	struct mojo_io *io;
	if (mojo_io_memory_clone(fuzz_store(), &io) != 0)
		return 0;
	fuzz_put(io, MOJO_STATE_FILE, 0, slot, sizeof(slot));
	fuzz_put(io, MOJO_STATE_FILE, sizeof(slot), slot, sizeof(slot));
	fuzz_use(io);
	mojo_io_free(io);
	return 0;
}
