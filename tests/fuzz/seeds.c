/* SPDX-License-Identifier: MIT */
/* seeds DIRECTORY - write a corpus for each fuzz target into DIRECTORY/TARGET, taken from a real store. */
#include "common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "chunk.h"
#include "codec.h"
#include "node.h"

struct corpus {
	const char *directory;
	unsigned count;
};

static void fail(const char *what)
{
	fprintf(stderr, "seeds: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* One seed; @first is put before it unless it is negative. */
static void seed(struct corpus *corpus, const char *target, int first, const void *data, size_t length)
{
	char path[4096];
	snprintf(path, sizeof(path), "%s/%s", corpus->directory, target);
	if (mkdir(path, 0755) != 0 && errno != EEXIST)
		fail(path);
	snprintf(path, sizeof(path), "%s/%s/%04u", corpus->directory, target, corpus->count++);
	FILE *file = fopen(path, "wb");
	if (!file)
		fail(path);
	if (first >= 0)
		fputc(first, file);
	if (fwrite(data, 1, length, file) != length || fclose(file) != 0)
		fail(path);
}

static void seed_inodes(struct corpus *corpus, const uint8_t *node)
{
	for (unsigned i = 0; i < mojo_node_count(node); i++) {
		unsigned key_length, length;
		uint8_t copy[FUZZ_PAGE];
		memcpy(copy, node, FUZZ_PAGE);
		const uint8_t *value = mojo_node_value(copy, i, &length);
		const uint8_t *key = mojo_node_key(copy, i, &key_length);
		seed(corpus, "fuzz_inode", -1, value, length);
		seed(corpus, "fuzz_inode", -1, key, key_length);
	}
}

/* The node behind @ref, and those below it. */
static void seed_nodes(struct corpus *corpus, const uint8_t *chunk, size_t length, const uint8_t *raw, unsigned tree)
{
	struct mojo_ref ref = mojo_ref_decode(raw);
	uint8_t node[FUZZ_PAGE];
	size_t got = ref.bytes, at = ref.address * FUZZ_PAGE;
	if (mojo_ref_is_null(raw) || at + ref.bytes > length)
		return;
	if (ref.flags & MOJO_REF_ZSTD) {
		seed(corpus, "fuzz_tree", (int)(tree | 4), chunk + at, ref.bytes);
		if (mojo_codec_decompress(chunk + at, ref.bytes, node, sizeof(node), &got) != 0)
			return;
	} else if (ref.bytes == sizeof(node)) {
		memcpy(node, chunk + at, sizeof(node));
	}
	if (got != sizeof(node) || !mojo_node_valid(node, sizeof(node)))
		return;
	seed(corpus, "fuzz_node", -1, node, sizeof(node));
	seed(corpus, "fuzz_tree", (int)tree, node, sizeof(node));
	seed_inodes(corpus, node);
	for (unsigned i = 0; mojo_node_level(node) > 0 && i < mojo_node_count(node); i++) {
		unsigned value_length;
		seed_nodes(corpus, chunk, length, mojo_node_value(node, i, &value_length), tree);
	}
}

static void seed_groups(struct corpus *corpus, const uint8_t *chunk, size_t length, const struct fuzz_tail *tail)
{
	for (size_t at = 0; at + FUZZ_PAGE <= length; at += FUZZ_PAGE) {
		struct mojo_group group;
		if (mojo_group_peek(chunk + at, FUZZ_PAGE, FUZZ_BLOCKS, tail->root.store_id, at / FUZZ_PAGE, &group) !=
		    0)
			continue;
		size_t bytes = MOJO_GROUP_HEADER_BYTES + group.record_bytes;
		if (at + bytes > length)
			continue;
		seed(corpus, "fuzz_group", -1, chunk + at, bytes);
		seed(corpus, "fuzz_replay", (int)(group.data_blocks % 8), chunk + at + MOJO_GROUP_HEADER_BYTES,
		     group.record_bytes);
	}
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: seeds DIRECTORY\n");
		return 2;
	}
	struct corpus corpus = { .directory = argv[1] };
	if (mkdir(argv[1], 0755) != 0 && errno != EEXIST)
		fail(argv[1]);
	struct mojo_io *io = fuzz_store();
	const struct fuzz_tail *tail = fuzz_tail();
	void *state, *chunk;
	size_t state_length, length;
	char path[MOJO_CHUNK_PATH_BYTES];
	mojo_chunk_path(0, path);
	if (mojo_io_memory_load(io, MOJO_STATE_FILE, &state, &state_length) != 0 ||
	    mojo_io_memory_load(io, path, &chunk, &length) != 0) {
		fprintf(stderr, "seeds: the store is not as expected\n");
		return 1;
	}
	for (unsigned i = 0; i < MOJO_ROOT_SLOTS; i++)
		seed(&corpus, "fuzz_root", -1, (uint8_t *)state + (size_t)i * MOJO_ROOT_SLOT_BYTES, 208);
	seed_groups(&corpus, chunk, length, tail);
	seed_nodes(&corpus, chunk, length, tail->root.main_ref, 0);
	seed_nodes(&corpus, chunk, length, tail->root.versions_ref, 1);
	seed_nodes(&corpus, chunk, length, tail->root.space_ref, 2);
	free(state);
	free(chunk);
	mojo_io_free(io);
	printf("%u seeds\n", corpus.count);
	return 0;
}
