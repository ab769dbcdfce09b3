/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <endian.h>
#include <time.h>

#include "checksum.h"
#include "node.h"

/* ---- dice ----------------------------------------------------------------------------------- */

bool test_is_long(void)
{
	const char *given = getenv("MOJO_TEST_LONG");
	return given && *given && strcmp(given, "0") != 0;
}

uint64_t test_seed(uint64_t fixed)
{
	const char *given = getenv("MOJO_TEST_SEED");
	struct timespec now;
	if (!given || !*given)
		given = test_is_long() ? "random" : "";
	if (strcmp(given, "random") != 0)
		return *given ? strtoull(given, NULL, 0) : fixed;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

struct dice dice_new(const char *what)
{
	uint64_t seed = 20260;
	if (!what)
		return (struct dice){ .state = seed };
	for (const char *p = what; *p; p++)
		seed = seed * 131 + (unsigned char)*p;
	seed = test_seed(seed);
	print_message("%s: MOJO_TEST_SEED=%" PRIu64 "\n", what, seed);
	return (struct dice){ .state = seed };
}

uint64_t dice_next(struct dice *dice)
{
	uint64_t z = dice->state += 0x9e3779b97f4a7c15ull;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

uint32_t dice_below(struct dice *dice, uint32_t sides)
{
	return (uint32_t)((dice_next(dice) >> 32) * sides >> 32);
}

/* ---- tallies -------------------------------------------------------------------------------- */

void tally_add(struct tally *tally, uint64_t address, uint64_t blocks)
{
	if (address + blocks > tally->capacity) {
		uint64_t capacity = (address + blocks) * 2;
		tally->counts = realloc(tally->counts, capacity);
		assert_non_null(tally->counts);
		memset(tally->counts + tally->capacity, 0, capacity - tally->capacity);
		tally->capacity = capacity;
	}
	for (uint64_t i = 0; i < blocks; i++)
		tally->counts[address + i]++;
	tally->total += blocks;
}

unsigned tally_of(const struct tally *tally, uint64_t address)
{
	return address < tally->capacity ? tally->counts[address] : 0;
}

void tally_free(struct tally *tally)
{
	free(tally->counts);
	*tally = (struct tally){ 0 };
}

/* ---- bare blocks ---------------------------------------------------------------------------- */

static void on_killed(void *arg, uint64_t address, uint32_t blocks)
{
	struct shelf *shelf = arg;
	tally_add(&shelf->killed, address, blocks);
	for (uint32_t i = 0; i < blocks; i++)
		assert_int_equal(tally_of(&shelf->killed, address + i), 1);
}

static void on_damaged(void *arg, const char *what, uint64_t address)
{
	struct shelf *shelf = arg;
	(void)what;
	(void)address;
	shelf->damaged++;
}

static void start_blobs(struct shelf *shelf, uint32_t pages_per_slot, size_t limit_bytes)
{
	assert_ok(mojo_blobs_init(&shelf->blobs, &shelf->chunks, pages_per_slot, limit_bytes));
	shelf->blobs.killed = on_killed;
	shelf->blobs.damaged = on_damaged;
	shelf->blobs.arg = shelf;
}

void shelf_init(struct shelf *shelf, uint32_t page_size, uint32_t pages_per_slot, size_t limit_bytes)
{
	memset(shelf, 0, sizeof(*shelf));
	shelf->next = 1; /* address 0 is never a blob's */
	assert_ok(mojo_io_memory(&shelf->io));
	assert_ok(shelf->io->ops->mkdir(shelf->io, MOJO_CHUNK_DIR));
	mojo_chunks_init(&shelf->chunks, shelf->io, page_size, BENCH_CHUNK / page_size, false);
	assert_ok(mojo_chunks_create(&shelf->chunks, 0, -1));
	start_blobs(shelf, pages_per_slot, limit_bytes);
}

void shelf_free(struct shelf *shelf)
{
	mojo_blobs_free(&shelf->blobs);
	mojo_chunks_close(&shelf->chunks);
	mojo_io_free(shelf->io);
	tally_free(&shelf->killed);
}

void shelf_forget(struct shelf *shelf, uint32_t pages_per_slot, size_t limit_bytes)
{
	assert_int_equal(shelf->blobs.dirty_bytes, 0);
	mojo_blobs_free(&shelf->blobs);
	start_blobs(shelf, pages_per_slot, limit_bytes);
}

int shelf_place(void *arg, const uint8_t *data, uint32_t bytes, uint64_t *ret_address)
{
	struct shelf *shelf = arg;
	struct mojo_chunks *chunks = &shelf->chunks;
	uint32_t blocks = mojo_blob_blocks(bytes, chunks->block_bytes);
	if (shelf->fail_after && shelf->blobs_placed >= shelf->fail_after)
		return -ENOSPC;
	if (shelf->next % chunks->chunk_blocks + blocks > chunks->chunk_blocks)
		shelf->next += chunks->chunk_blocks - shelf->next % chunks->chunk_blocks;
	uint32_t number = (uint32_t)(shelf->next / chunks->chunk_blocks);
	if (mojo_chunks_exists(chunks, number) == 0)
		assert_ok(mojo_chunks_create(chunks, number, -1));
	struct iovec vector = { (void *)(uintptr_t)data, bytes };
	assert_ok(mojo_chunks_write(chunks, shelf->next, &vector, 1));
	*ret_address = shelf->next;
	shelf->next += blocks;
	shelf->blobs_placed++;
	return 0;
}

void shelf_write_out(struct shelf *shelf, uint8_t *ref)
{
	assert_ok(mojo_blob_write_out(&shelf->blobs, ref, shelf_place, shelf));
}

void shelf_mark(struct shelf *shelf, const uint8_t *ref, enum mojo_blob_type type, struct tally *live)
{
	struct mojo_ref r = mojo_ref_decode(ref);
	struct mojo_blob *blob;
	if (mojo_ref_is_null(ref))
		return;
	assert_false(mojo_ref_in_memory(ref));
	if (tally_of(live, r.address))
		return;
	tally_add(live, r.address, mojo_blob_blocks(r.bytes, shelf->chunks.block_bytes));
	assert_ok(mojo_blob_get(&shelf->blobs, ref, type, &blob));
	unsigned count = type == MOJO_BLOB_NODE ? mojo_node_count(blob->data) : 0;
	for (unsigned i = 0; i < count; i++) {
		unsigned length;
		const uint8_t *key = mojo_node_key(blob->data, i, &length);
		bool inner = mojo_node_level(blob->data) > 0;
		if (!inner && mojo_leaf_ref_offset(mojo_node_kind(blob->data), key, length) < 0)
			continue;
		bool slot = !inner && mojo_node_kind(blob->data) == MOJO_TREE_MAIN;
		shelf_mark(shelf, mojo_node_value(blob->data, i, &length), slot ? MOJO_BLOB_SLOT : MOJO_BLOB_NODE,
			   live);
	}
	mojo_blob_put(&shelf->blobs, blob);
}

void shelf_assert_accounts(struct shelf *shelf, const struct tally *live, bool leaks)
{
	for (uint64_t block = 1; block < shelf->next; block++) {
		unsigned uses = tally_of(live, block), kills = tally_of(&shelf->killed, block);
		if (uses + kills > 1 || (!leaks && !uses && !kills))
			fail_msg("block %" PRIu64 ": in use %u times, killed %u times", block, uses, kills);
	}
}

/* ---- a store -------------------------------------------------------------------------------- */

static void on_event(void *arg, enum mojo_severity severity, const char *text)
{
	struct bench *bench = arg;
	(void)severity;
	pthread_mutex_lock(&bench->mutex);
	size_t used = strlen(bench->events);
	snprintf(bench->events + used, sizeof(bench->events) - used, "%s\n", text);
	pthread_mutex_unlock(&bench->mutex);
}

bool bench_was_told(struct bench *bench, const char *text)
{
	pthread_mutex_lock(&bench->mutex);
	bool told = strstr(bench->events, text) != NULL;
	pthread_mutex_unlock(&bench->mutex);
	return told;
}

int bench_setup_empty(void **state)
{
	struct bench *bench = calloc(1, sizeof(*bench));
	assert_non_null(bench);
	pthread_mutex_init(&bench->mutex, NULL);
	bench->geometry = (struct mojo_geometry){
		.page_size = BENCH_PAGE,
		.pages_per_slot = 64,
		.chunk_bytes = BENCH_CHUNK,
	};
	bench->config = (struct mojo_config){
		.cache_bytes = 64u << 20,
		.checkpoint_bytes = 1ull << 40, /* only when asked for */
		.flush_ms = UINT32_MAX,
		.no_background = true,
		.owner = "a unit test",
		.event = on_event,
		.event_arg = bench,
	};
	assert_ok(mojo_io_memory(&bench->io));
	*state = bench;
	return 0;
}

int bench_setup(void **state)
{
	bench_setup_empty(state);
	struct bench *bench = *state;
	assert_ok(mojo_create(bench->io, &bench->geometry, &bench->config));
	bench_open(bench);
	return 0;
}

int bench_teardown(void **state)
{
	struct bench *bench = *state;
	mojo_abandon(bench->store);
	mojo_io_free(bench->io);
	pthread_mutex_destroy(&bench->mutex);
	free(bench);
	return 0;
}

void bench_open(struct bench *bench)
{
	assert_null(bench->store);
	int err = mojo_open(bench->io, &bench->config, &bench->store);
	if (err)
		print_error("the store does not open (%s): %s\n", strerror(-err), bench->events);
	assert_ok(err);
}

void bench_close(struct bench *bench)
{
	struct mojo_store *store = bench->store;
	bench->store = NULL;
	assert_ok(mojo_close(store));
}

void bench_crash(struct bench *bench)
{
	mojo_abandon(bench->store);
	bench->store = NULL;
}

void bench_reopen(struct bench *bench)
{
	bench_close(bench);
	bench_open(bench);
}

void bench_replace_io(struct bench *bench, struct mojo_io *io)
{
	assert_null(bench->store);
	mojo_io_free(bench->io);
	bench->io = io;
}

void bench_power_cut(struct bench *bench)
{
	struct mojo_io *left;
	assert_ok(mojo_io_memory_clone_durable(bench->io, &left));
	bench_crash(bench);
	bench_replace_io(bench, left);
}

uint32_t bench_make(struct bench *bench, uint32_t dir, const char *name, uint32_t mode)
{
	struct mojo_attr attr;
	assert_ok(mojo_mknod(bench->store, dir, name, mode, 0, 1, 2, &attr));
	return attr.bucket;
}

uint32_t bench_file(struct bench *bench, const char *name)
{
	return bench_make(bench, MOJO_ROOT_BUCKET, name, S_IFREG | 0644);
}

void bench_fill(void *buf, size_t length, uint64_t tag)
{
	uint8_t *to = buf;
	uint64_t base = (tag + 1) * 0x9e3779b97f4a7c15ull;
	for (size_t i = 0; i < length / 8; i++) { /* whole words at a time: most of a test's time can go here */
		uint64_t word = base + i * 0xc2b2ae3d27d4eb4full;
		word = htole64(word ^ word >> 29);
		memcpy(to + 8 * i, &word, 8);
	}
	uint64_t last = base + length / 8 * 0xc2b2ae3d27d4eb4full;
	last = htole64(last ^ last >> 29);
	memcpy(to + length / 8 * 8, &last, length % 8);
}

void bench_same(const void *left, const void *right, size_t length)
{
	if (memcmp(left, right, length) != 0)
		assert_memory_equal(left, right, length);
}

void bench_put(struct bench *bench, uint32_t bucket, uint64_t offset, size_t length, uint64_t tag)
{
	uint8_t *buf = malloc(length + 1);
	assert_non_null(buf);
	bench_fill(buf, length, tag);
	assert_ok(mojo_write(bench->store, bucket, offset, buf, length));
	free(buf);
}

void bench_assert(struct bench *bench, uint32_t version, uint32_t bucket, uint64_t offset, size_t length, uint64_t tag)
{
	uint8_t *wanted = malloc(length + 1), *buf = malloc(length + 1);
	size_t got;
	assert_non_null(wanted);
	assert_non_null(buf);
	bench_fill(wanted, length, tag);
	assert_ok(mojo_read(bench->store, version, bucket, offset, buf, length, &got));
	assert_int_equal(got, length);
	bench_same(buf, wanted, length);
	free(wanted);
	free(buf);
}

void bench_assert_zeros(struct bench *bench, uint32_t version, uint32_t bucket, uint64_t offset, size_t length)
{
	uint8_t *buf = malloc(length + 1);
	size_t got;
	assert_non_null(buf);
	assert_ok(mojo_read(bench->store, version, bucket, offset, buf, length, &got));
	assert_int_equal(got, length);
	for (size_t i = 0; i < length; i++)
		assert_int_equal(buf[i], 0);
	free(buf);
}

int bench_resize(struct bench *bench, uint32_t bucket, uint64_t size)
{
	struct mojo_attr attr = { .size = size };
	return mojo_setattr(bench->store, bucket, MOJO_SET_SIZE, &attr, &attr);
}

struct mojo_attr bench_attr(struct bench *bench, uint32_t version, uint32_t bucket)
{
	struct mojo_attr attr;
	assert_ok(mojo_getattr(bench->store, version, bucket, &attr));
	return attr;
}

struct mojo_info bench_info(struct bench *bench)
{
	struct mojo_info info;
	assert_ok(mojo_info(bench->store, &info));
	return info;
}

uint32_t bench_lookup(struct bench *bench, uint32_t version, const char *path)
{
	struct mojo_attr attr;
	assert_ok(mojo_resolve(bench->store, version, path, &attr));
	return attr.bucket;
}

uint32_t bench_commit(struct bench *bench, const char *message)
{
	uint32_t version;
	assert_ok(mojo_commit(bench->store, message, strlen(message), &version));
	return version;
}

void bench_sync(struct bench *bench)
{
	assert_ok(mojo_sync(bench->store));
}

void bench_checkpoint(struct bench *bench)
{
	assert_ok(mojo_checkpoint(bench->store));
}

struct names {
	char (*names)[MOJO_NAME_MAX + 1]; /* owned */
	size_t count;
};

static bool add_name(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct names *names = arg;
	(void)attr;
	(void)cookie;
	if (!(names->count & (names->count + 1))) {
		names->names = realloc(names->names, (2 * names->count + 2) * sizeof(*names->names));
		assert_non_null(names->names);
	}
	snprintf(names->names[names->count++], sizeof(*names->names), "%s", name);
	return true;
}

static uint64_t fingerprint(struct bench *bench, uint32_t version, uint32_t bucket, uint64_t sum)
{
	struct mojo_attr attr = bench_attr(bench, version, bucket);
	uint8_t encoded[MOJO_INODE_BYTES];
	mojo_inode_encode(encoded, &(struct mojo_inode){ .attr = attr });
	sum = mojo_checksum64(encoded, sizeof(encoded), sum + bucket);
	if (S_ISDIR(attr.mode)) {
		struct names names = { 0 };
		assert_ok(mojo_readdir(bench->store, version, bucket, 0, add_name, &names));
		assert_int_equal(names.count, attr.size);
		for (size_t i = 0; i < names.count; i++) {
			struct mojo_attr child;
			sum = mojo_checksum64(names.names[i], strlen(names.names[i]), sum);
			assert_ok(mojo_lookup(bench->store, version, bucket, names.names[i], &child));
			sum = fingerprint(bench, version, child.bucket, sum);
		}
		free(names.names);
		return sum;
	}
	uint8_t buf[65536];
	for (uint64_t at = 0; at < attr.size;) {
		uint64_t data;
		size_t got;
		if (mojo_seek(bench->store, version, bucket, at, true, &data) != 0)
			break;
		assert_ok(mojo_read(bench->store, version, bucket, data, buf, sizeof(buf), &got));
		sum = mojo_checksum64(buf, got, sum + data);
		at = data + got;
	}
	return sum;
}

uint64_t bench_fingerprint(struct bench *bench, uint32_t version)
{
	return fingerprint(bench, version, MOJO_ROOT_BUCKET, 1);
}

uint64_t bench_fingerprint_all(struct bench *bench)
{
	struct mojo_version_info version = { 0 };
	uint64_t sum = 0;
	while (mojo_version_next(bench->store, version.version + 1, &version) == 0) {
		uint64_t what[] = { version.version, (uint64_t)version.time_ns, version.active };
		sum = mojo_checksum64(what, sizeof(what), sum);
		sum = mojo_checksum64(version.message, strlen(version.message), sum);
		sum += bench_fingerprint(bench, version.version);
	}
	return sum;
}

void bench_stir(struct bench *bench, struct dice *dice, int rounds, bool versions)
{
	static const uint32_t dirs[] = { 0, 1, 1, 2 };
	struct mojo_store *store = bench->store;
	struct mojo_attr attr;
	for (int i = 0; i < rounds; i++) {
		char name[16], other[16], dir_name[8];
		uint32_t number;
		snprintf(name, sizeof(name), "file%u", dice_below(dice, 12));
		snprintf(other, sizeof(other), "file%u", dice_below(dice, 12));
		/* The root, or one of two directories in it. */
		uint32_t dir = MOJO_ROOT_BUCKET;
		if (dirs[dice_below(dice, 4)]) {
			snprintf(dir_name, sizeof(dir_name), "dir%u", dice_below(dice, 2));
			if (mojo_lookup(store, MOJO_ACTIVE, dir, dir_name, &attr) == -ENOENT)
				assert_ok(mojo_mknod(store, dir, dir_name, S_IFDIR | 0755, 0, 1, 2, &attr));
			dir = attr.bucket;
		}
		int err = mojo_lookup(store, MOJO_ACTIVE, dir, name, &attr);
		if (err == -ENOENT)
			err = mojo_mknod(store, dir, name, S_IFREG | 0600, 0, 1, 2, &attr);
		assert_ok(err);
		uint64_t at = dice_below(dice, 400 * bench->geometry.page_size);
		switch (dice_below(dice, 14)) {
		case 0:
			assert_ok(mojo_unlink(store, dir, name));
			break;
		case 1:
			assert_ok(mojo_rename(store, dir, name, MOJO_ROOT_BUCKET, other, 0));
			break;
		case 2:
			assert_ok(bench_resize(bench, attr.bucket, at));
			break;
		case 3:
			assert_ok(mojo_fallocate(store, attr.bucket, MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_KEEP_SIZE, at,
						 1 + dice_below(dice, 100000)));
			break;
		case 4:
			if (dice_below(dice, 3) == 0)
				bench_sync(bench);
			break;
		case 5:
			if (versions && dice_below(dice, 2))
				bench_commit(bench, name);
			break;
		case 6:
			number = bench_info(bench).oldest_version + dice_below(dice, 8);
			if (versions && dice_below(dice, 4) == 0 && number < store->active) {
				err = mojo_version_drop(store, number);
				assert_true(err == 0 || err == -ENOENT);
			}
			break;
		default:
			bench_put(bench, attr.bucket, at, 1 + dice_below(dice, 1u << dice_below(dice, 18)),
				  dice_next(dice));
		}
	}
}

struct survey {
	struct mojo_store *store;
	struct tally blobs, pages;
	struct tally hidden; /* entries of a slot's blob that every version has a delta for */
};

static void survey_entry(struct tally *tally, const uint8_t *bytes)
{
	struct mojo_entry entry = mojo_entry_decode(bytes);
	if (entry.version && !tally_of(tally, entry.address))
		tally_add(tally, entry.address, 1);
}

/* On disk: is it seen for the first time? */
static bool survey_blocks(struct survey *survey, const uint8_t *ref)
{
	struct mojo_ref r = mojo_ref_decode(ref);
	if (mojo_ref_in_memory(ref))
		return true;
	if (tally_of(&survey->blobs, r.address))
		return false;
	tally_add(&survey->blobs, r.address, mojo_blob_blocks(r.bytes, survey->store->chunks.block_bytes));
	return true;
}

static void survey_slot(struct survey *survey, const uint8_t *value)
{
	struct mojo_blobs *blobs = &survey->store->blobs;
	unsigned deltas = mojo_get16(value + MOJO_REF_BYTES), next = 0;
	const uint8_t *delta = value + MOJO_SLOT_VALUE_FIXED_BYTES;
	for (unsigned i = 0; i < deltas; i++)
		survey_entry(&survey->pages, delta + i * MOJO_DELTA_BYTES + 2);
	if (mojo_ref_is_null(value))
		return;
	struct mojo_blob *blob;
	survey_blocks(survey, value);
	assert_ok(mojo_blob_get(blobs, value, MOJO_BLOB_SLOT, &blob));
	for (unsigned i = 0; i < blob->data_bytes / MOJO_ENTRY_BYTES; i++) {
		bool hidden = next < deltas && mojo_get16(delta + next * MOJO_DELTA_BYTES) == i;
		next += hidden;
		survey_entry(hidden ? &survey->hidden : &survey->pages, blob->data + (size_t)i * MOJO_ENTRY_BYTES);
	}
	mojo_blob_put(blobs, blob);
}

static void survey_node(struct survey *survey, const uint8_t *ref)
{
	struct mojo_blobs *blobs = &survey->store->blobs;
	struct mojo_blob *blob;
	if (mojo_ref_is_null(ref) || !survey_blocks(survey, ref))
		return;
	assert_ok(mojo_blob_get(blobs, ref, MOJO_BLOB_NODE, &blob));
	for (unsigned i = 0; i < mojo_node_count(blob->data); i++) {
		unsigned length, kind = mojo_node_kind(blob->data);
		const uint8_t *key = mojo_node_key(blob->data, i, &length);
		bool inner = mojo_node_level(blob->data) > 0;
		if (!inner && mojo_leaf_ref_offset(kind, key, length) < 0)
			continue;
		const uint8_t *value = mojo_node_value(blob->data, i, &length);
		if (!inner && kind == MOJO_TREE_MAIN)
			survey_slot(survey, value);
		else
			survey_node(survey, value);
	}
	mojo_blob_put(blobs, blob);
}

void bench_assert_accounts(struct bench *bench, bool leaks)
{
	struct mojo_store *store = bench->store;
	struct survey survey = { .store = store };
	survey_node(&survey, store->main.root);
	survey_node(&survey, store->versions.root);
	survey_node(&survey, store->dead.root);
	uint32_t per_chunk = store->chunks.chunk_blocks;
	for (uint64_t address = 0; address < store->log.tail; address++) {
		uint32_t chunk = (uint32_t)(address / per_chunk);
		bool spare = false, dead;
		for (unsigned i = 0; i < store->space.spare_count; i++)
			spare |= store->space.spares[i] == chunk;
		unsigned blobs = tally_of(&survey.blobs, address), pages = tally_of(&survey.pages, address);
		if (spare || mojo_chunks_exists(&store->chunks, chunk) == 0) {
			if (blobs + pages)
				fail_msg("block %" PRIu64 " is in use, and its chunk is gone", address);
			address = (uint64_t)(chunk + 1) * per_chunk - 1;
			continue;
		}
		assert_ok(mojo_space_is_dead(&store->space, address, &dead));
		bool lost = !blobs && !pages && !dead && !tally_of(&survey.hidden, address);
		if (blobs + pages + dead > 1 || (lost && !leaks))
			fail_msg("block %" PRIu64 ": %u blobs, %u pages, %s", address, blobs, pages,
				 dead ? "dead" : "not dead");
	}
	tally_free(&survey.blobs);
	tally_free(&survey.pages);
	tally_free(&survey.hidden);
}

uint64_t bench_address(struct bench *bench, uint32_t bucket, uint64_t page)
{
	struct mojo_map_entry entry;
	size_t count;
	assert_ok(mojo_map(bench->store, MOJO_ACTIVE, bucket, page, &entry, 1, &count));
	assert_int_equal(count, 1);
	assert_int_equal(entry.page, page);
	assert_int_not_equal(entry.version, 0);
	return entry.address;
}

void bench_flip_block(struct bench *bench, uint64_t address, uint32_t offset)
{
	uint32_t per_chunk = (uint32_t)(bench->geometry.chunk_bytes / bench->geometry.page_size);
	char path[MOJO_CHUNK_PATH_BYTES];
	mojo_chunk_path((uint32_t)(address / per_chunk), path);
	assert_ok(mojo_io_memory_flip(bench->io, path, address % per_chunk * bench->geometry.page_size + offset, 0x10));
	/* An open store may still know what it wrote there, for some time. */
	if (bench->store)
		mojo_recent_drop(&bench->store->chunks.recent, address, 1);
}
