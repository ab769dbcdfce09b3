/* SPDX-License-Identifier: MIT */
/*
 * half_store STORE WANTED - a store that was left in the middle of a commit, for test_independent_reader.sh.
 *
 * In the empty directory STORE: version 1 frozen, 2 settled and published, with a verdict, 3 frozen and settled in
 * part, 4 active; part of it in the index, part in the log. WANTED/0, /1, /2 and /3 receive what the active version
 * (0) and the frozen ones hold.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"
#include "mojo.h"

#define BYTES 40000u

struct half {
	struct mojo_store *store;
	const char *wanted;
	char bytes[BYTES];
};

static void must(int err, const char *what)
{
	if (!err)
		return;
	fprintf(stderr, "half_store: %s: %s\n", what, strerror(-err));
	exit(1);
}

static const char *fill(struct half *half, char tag)
{
	for (size_t i = 0; i < BYTES; i++)
		half->bytes[i] = (char)(tag + i / 1000 % 7);
	return half->bytes;
}

static bool keep(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	char(*names)[8] = arg;
	(void)attr;
	(void)cookie;
	while ((*names)[0])
		names++;
	snprintf(*names, sizeof(*names), "%s", name);
	return true;
}

/* All files of a version are copied out. */
static void note(struct half *half, uint32_t version, unsigned as)
{
	char path[4096], names[8][8] = { "" };
	must(mojo_readdir(half->store, version, MOJO_ROOT_BUCKET, 0, keep, names), "listing");
	snprintf(path, sizeof(path), "%s/%u", half->wanted, as);
	must(mkdir(path, 0777), "making a directory");
	for (unsigned i = 0; names[i][0]; i++) {
		struct mojo_attr attr;
		size_t length;
		must(mojo_lookup(half->store, version, MOJO_ROOT_BUCKET, names[i], &attr), "looking up");
		must(mojo_read(half->store, version, attr.bucket, 0, half->bytes, BYTES, &length), "reading");
		snprintf(path, sizeof(path), "%s/%u/%s", half->wanted, as, names[i]);
		FILE *file = fopen(path, "wb");
		if (!file || fwrite(half->bytes, 1, length, file) != length || fclose(file) != 0)
			must(-EIO, path);
	}
}

int main(int argc, char **argv)
{
	struct half half = { 0 };
	struct mojo_config config = { .no_background = true, .flush_ms = UINT32_MAX };
	struct mojo_attr a, b, c, d, e, attr = { .size = 9000 };
	struct mojo_io *io;
	uint32_t version;
	uint64_t copied;
	if (argc != 3) {
		fputs("usage: half_store STORE WANTED\n", stderr);
		return 2;
	}
	half.wanted = argv[2];
	must(mojo_io_host(argv[1], &io), argv[1]);
	must(mojo_create(io, NULL, NULL), "making the store");
	must(mojo_open(io, &config, &half.store), "opening the store");
	must(mojo_mknod(half.store, MOJO_ROOT_BUCKET, "a", S_IFREG | 0644, 0, 0, 0, &a), "making a file");
	must(mojo_mknod(half.store, MOJO_ROOT_BUCKET, "b", S_IFREG | 0644, 0, 0, 0, &b), "making a file");
	must(mojo_mknod(half.store, MOJO_ROOT_BUCKET, "c", S_IFREG | 0644, 0, 0, 0, &c), "making a file");
	must(mojo_write(half.store, a.bucket, 0, fill(&half, 'a'), BYTES), "writing");
	must(mojo_write(half.store, b.bucket, 100, fill(&half, 'b'), BYTES - 100), "writing");
	must(mojo_write(half.store, c.bucket, 0, fill(&half, 'c'), 5), "writing");
	must(mojo_mknod(half.store, MOJO_ROOT_BUCKET, "d", S_IFREG | 0644, 0, 0, 0, &d), "making a file");
	must(mojo_mknod(half.store, MOJO_ROOT_BUCKET, "e", S_IFREG | 0644, 0, 0, 0, &e), "making a file");
	must(mojo_commit(half.store, "one", 3, &version), "committing");
	must(mojo_freeze(half.store, "two", 3, NULL, NULL, &version), "freezing");
	must(mojo_settle_write(half.store, version, a.bucket, 5000, fill(&half, 'd'), 6000), "settling");
	must(mojo_write(half.store, a.bucket, 5000, fill(&half, 'e'), 9000), "writing");
	must(mojo_publish(half.store, version), "publishing");
	must(mojo_version_verdict(half.store, version, MOJO_VERDICT_BAD, "wrong", 5), "a verdict");
	must(mojo_freeze(half.store, "three", 5, NULL, NULL, &version), "freezing");
	must(mojo_settle_write(half.store, version, b.bucket, 0, fill(&half, 'f'), 10000), "settling");
	must(mojo_checkpoint(half.store), "taking a checkpoint");
	/* One page becomes what it is in version two. */
	must(mojo_settle_write(half.store, version, a.bucket, 5000, fill(&half, 'd'), 6000), "settling");
	must(mojo_settle_setattr(half.store, version, a.bucket, MOJO_SET_SIZE, &attr, &attr), "settling");
	must(mojo_write(half.store, b.bucket, 0, fill(&half, 'g'), 20000), "writing");
	must(mojo_settle_write(half.store, version, b.bucket, 8000, fill(&half, 'h'), 1000), "settling");
	must(mojo_settle_unlink(half.store, version, MOJO_ROOT_BUCKET, "c"), "settling");
	must(mojo_copy(half.store, 1, a.bucket, 0, d.bucket, 0, 3 * 4096, &copied), "copying");
	must(mojo_copy(half.store, MOJO_ACTIVE, d.bucket, 4096, e.bucket, 4096, BYTES, &copied), "copying");
	must(mojo_write(half.store, d.bucket, 4096, fill(&half, 'i'), 5000), "writing");
	must(mojo_sync(half.store), "flushing");
	note(&half, MOJO_ACTIVE, 0);
	for (unsigned i = 1; i <= 3; i++)
		note(&half, i, i);
	mojo_abandon(half.store);
	mojo_io_free(io);
	return 0;
}
