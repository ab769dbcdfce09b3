/* SPDX-License-Identifier: MIT */
/* The small things: inodes, references, entries, values of the versions tree, names. What is understood is written as it was. */
#include "common.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mojo_inode inode;
	uint8_t again[MOJO_INODE_BYTES_MAX];
	if (mojo_inode_decode(data, size, 7, &inode) == 0) {
		if (mojo_inode_encode(again, &inode) != size || memcmp(again, data, size) != 0)
			abort();
	}
	if (size >= MOJO_REF_BYTES && mojo_ref_valid(data, FUZZ_PAGE)) {
		struct mojo_ref ref = mojo_ref_decode(data);
		mojo_ref_encode(again, &ref);
		if (memcmp(again, data, MOJO_REF_BYTES) != 0 || mojo_ref_in_memory(data))
			abort();
	}
	if (size >= MOJO_ENTRY_BYTES) {
		struct mojo_entry entry = mojo_entry_decode(data);
		mojo_entry_encode(again, &entry);
		if (memcmp(again, data, MOJO_ENTRY_BYTES) != 0)
			abort();
	}
	struct mojo_version_value version;
	static uint8_t value[MOJO_VERSION_BYTES_MAX];
	if (mojo_version_decode(data, size, &version) == 0 &&
	    (mojo_version_encode(value, &version) != size || memcmp(value, data, size) != 0))
		abort();
	int err = mojo_name_check((const char *)data, size);
	if (!err && (size == 0 || size > MOJO_NAME_MAX || memchr(data, '/', size) || memchr(data, 0, size)))
		abort();
	return 0;
}
