/* SPDX-License-Identifier: MIT */
/* A tree node of any bytes: if it is taken for one, everything that is done with nodes is done with it. */
#include "common.h"

#include <stdlib.h>

#include "node.h"

static void count_ref(void *arg, uint8_t *ref)
{
	struct mojo_ref r = mojo_ref_decode(ref);
	*(uint64_t *)arg += r.address;
}

/* What is read is used, so that the sanitizers look at it. */
static volatile uint64_t used;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *node = calloc(1, FUZZ_PAGE), *other = calloc(1, FUZZ_PAGE);
	uint64_t sum = 0;
	if (!node || !other)
		goto out;
	memcpy(node, data, size < FUZZ_PAGE ? size : FUZZ_PAGE);
	if (!mojo_node_valid(node, FUZZ_PAGE))
		goto out;
	mojo_node_each_ref(node, count_ref, &sum);
	unsigned count = mojo_node_count(node);
	for (unsigned i = 0; i < count; i++) {
		unsigned key_length, value_length;
		bool exact;
		const uint8_t *key = mojo_node_key(node, i, &key_length);
		uint8_t *value = mojo_node_value(node, i, &value_length);
		for (unsigned k = 0; k < value_length; k++)
			sum += value[k];
		if (mojo_node_find(node, key, key_length, &exact) != i || !exact ||
		    mojo_node_child(node, key, key_length) != i)
			abort(); /* the keys are in order, and each is there once */
	}
	if (mojo_node_used(node, FUZZ_PAGE) > FUZZ_PAGE)
		abort();
	if (count > 1)
		mojo_node_split(node, other, FUZZ_PAGE, count / 2);
	while (mojo_node_count(node) > 1) {
		mojo_node_remove(node, mojo_node_count(node) / 2);
		if (!mojo_node_valid(node, FUZZ_PAGE))
			abort();
	}
	uint8_t key[4] = { 0xff, 0xff, 0xff }, value[MOJO_REF_BYTES] = { 1, [8] = 1 };
	for (key[3] = 0; key[3] < 200; key[3]++) {
		bool exact;
		unsigned at = mojo_node_find(node, key, sizeof(key), &exact);
		if (exact || !mojo_node_insert(node, FUZZ_PAGE, at, key, sizeof(key), value, sizeof(value)))
			break;
		if (!mojo_node_valid(node, FUZZ_PAGE))
			abort();
	}
out:
	free(node);
	free(other);
	used = sum;
	return 0;
}
