/* SPDX-License-Identifier: MIT */
/*
 * The power fails. Random work on a store is recorded (io_record.h); from the recording come the states that the
 * disk may be in after losing power at any moment (support/power.h); each is opened and held against a model:
 * everything that was acknowledged is there; what is there beyond is cut at the end of a batch; every version that
 * is kept reads as it did, an unpublished one as far as it was settled; and the store takes new work, closes, and
 * opens again.
 *
 *   MOJO_TEST_SEED=N        other dice; "random", and long forms unless it is set: from the clock
 *   MOJO_TEST_LONG=1        a million states instead of some twenty thousand
 *   MOJO_TEST_STATES=N      so many random ones of long work
 */
#include <time.h>
#include <unistd.h>

#include "io_record.h"
#include "power.h"
#include "support.h"

#define ITEMS_MAX    14u
#define VERSIONS_MAX 4u
#define FILE_PAGES   12u
#define PATH_BYTES   16u

/* ---- the model ------------------------------------------------------------------------------- */

struct content {
	unsigned refs;
	size_t size;
	uint64_t hash;
	uint8_t data[];
};

struct item {
	char path[PATH_BYTES];
	uint32_t mode;
	struct content *content; /* counted; NULL: a directory */
};

struct frozen {
	uint32_t version;
	uint32_t message; /* its number */
	uint64_t tree;    /* digest */
};

struct model {
	struct item items[ITEMS_MAX];
	unsigned count;
	struct frozen frozen[VERSIONS_MAX];
	unsigned frozen_count;
	uint32_t active;
	struct frozen draft; /* frozen and not published; version 0: none. Its tree is that of the items: */
	struct item draft_items[ITEMS_MAX];
	unsigned draft_count;
};

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

static uint64_t hash_bytes(const void *bytes, size_t length)
{
	const uint8_t *p = bytes;
	uint64_t a = 0x9e3779b97f4a7c15ull ^ length, b = a * 3, c = a * 5, d = a * 7, w[4];
	for (; length >= 32; length -= 32, p += 32) {
		memcpy(w, p, 32);
		a = (a ^ w[0]) * 0xff51afd7ed558ccdull;
		b = (b ^ w[1]) * 0xc4ceb9fe1a85ec53ull;
		c = (c ^ w[2]) * 0x2127599bf4325c37ull;
		d = (d ^ w[3]) * 0x880355f21e6d1965ull;
		a ^= a >> 31;
		b ^= b >> 31;
		c ^= c >> 31;
		d ^= d >> 31;
	}
	for (; length; length--, p++)
		a = (a ^ *p) * 0x100000001b3ull;
	return mix(a) + mix(b + 1) * 3 + mix(c + 2) * 5 + mix(d + 3) * 7;
}

static uint64_t item_digest(const char *path, uint32_t mode, uint64_t size, uint64_t hash)
{
	return mix(hash_bytes(path, strlen(path)) + mix(mode + 17) + mix(size + 99) * 3 + mix(hash));
}

static void content_put(struct content *content)
{
	if (content && !--content->refs)
		free(content);
}

/* What @old holds, resized; the caller may change it before hashing it. */
static struct content *content_new(const struct content *old, size_t size)
{
	struct content *content = malloc(sizeof(*content) + size);
	size_t kept = old ? old->size < size ? old->size : size : 0;
	assert_non_null(content);
	content->refs = 1;
	content->size = size;
	if (kept)
		memcpy(content->data, old->data, kept);
	memset(content->data + kept, 0, size - kept);
	return content;
}

static void model_free(struct model *model)
{
	for (unsigned i = 0; model && i < model->count; i++)
		content_put(model->items[i].content);
	for (unsigned i = 0; model && i < model->draft_count; i++)
		content_put(model->draft_items[i].content);
	free(model);
}

static struct model *model_copy(const struct model *model)
{
	struct model *copy = malloc(sizeof(*copy));
	assert_non_null(copy);
	*copy = *model;
	for (unsigned i = 0; i < copy->count; i++)
		if (copy->items[i].content)
			copy->items[i].content->refs++;
	for (unsigned i = 0; i < copy->draft_count; i++)
		if (copy->draft_items[i].content)
			copy->draft_items[i].content->refs++;
	return copy;
}

static uint64_t items_digest(const struct item *items, unsigned count)
{
	uint64_t digest = 0;
	for (unsigned i = 0; i < count; i++) {
		const struct item *item = &items[i];
		digest += item->content ? item_digest(item->path, item->mode, item->content->size, item->content->hash)
					: item_digest(item->path, item->mode, 0, 0);
	}
	return digest;
}

static uint64_t tree_digest(const struct model *model)
{
	return items_digest(model->items, model->count);
}

static uint64_t version_digest(uint32_t version, uint64_t message_hash, uint64_t tree)
{
	return mix(mix(version) + message_hash * 3 + tree);
}

static void message_text(uint32_t message, char *ret_text)
{
	snprintf(ret_text, 32, "message %u", message);
}

/* Of active tree, versions, and the number of the active one. */
static uint64_t model_digest(const struct model *model)
{
	uint64_t digest = mix(tree_digest(model) + model->active);
	for (unsigned i = 0; i < model->frozen_count; i++) {
		char text[32];
		message_text(model->frozen[i].message, text);
		digest +=
			version_digest(model->frozen[i].version, hash_bytes(text, strlen(text)), model->frozen[i].tree);
	}
	if (model->draft.version) {
		char text[32];
		message_text(model->draft.message, text);
		digest += mix(version_digest(model->draft.version, hash_bytes(text, strlen(text)),
					     items_digest(model->draft_items, model->draft_count)));
	}
	return digest;
}

static struct item *model_find(struct model *model, const char *path)
{
	for (unsigned i = 0; i < model->count; i++)
		if (!strcmp(model->items[i].path, path))
			return &model->items[i];
	return NULL;
}

static void model_drop(struct model *model, struct item *item)
{
	content_put(item->content);
	*item = model->items[--model->count];
}

/* ---- what a store holds ---------------------------------------------------------------------- */

struct listed {
	char name[PATH_BYTES];
	struct mojo_attr attr;
};

struct listing {
	struct listed list[ITEMS_MAX + 2];
	unsigned count;
	bool strange;
};

static bool take_entry(void *arg, const char *name, const struct mojo_attr *attr, uint64_t cookie)
{
	struct listing *listing = arg;
	(void)cookie;
	if (listing->count == ITEMS_MAX + 2 || strlen(name) >= PATH_BYTES) {
		listing->strange = true;
		return false;
	}
	strcpy(listing->list[listing->count].name, name);
	listing->list[listing->count++].attr = *attr;
	return true;
}

/* @skip: a name in the root that does not count. */
static int digest_dir(struct mojo_store *store, uint32_t version, uint32_t dir, const char *prefix, const char *skip,
		      uint8_t *buf, size_t buf_bytes, uint64_t *digest)
{
	struct listing listing = { .count = 0 };
	int err = mojo_readdir(store, version, dir, 0, take_entry, &listing);
	if (!err && listing.strange)
		err = -E2BIG;
	for (unsigned i = 0; i < listing.count && !err; i++) {
		const struct mojo_attr *attr = &listing.list[i].attr;
		char path[2 * PATH_BYTES + 2];
		snprintf(path, sizeof(path), "%s%s", prefix, listing.list[i].name);
		if (skip && !strcmp(path, skip))
			continue;
		if (S_ISDIR(attr->mode)) {
			*digest += item_digest(path, attr->mode, 0, 0);
			strcat(path, "/");
			err = digest_dir(store, version, attr->bucket, path, skip, buf, buf_bytes, digest);
			continue;
		}
		size_t got = 0;
		if (attr->size > buf_bytes)
			return -EFBIG;
		err = mojo_read(store, version, attr->bucket, 0, buf, buf_bytes, &got);
		if (!err && got != attr->size)
			err = -ERANGE;
		if (!err)
			*digest += item_digest(path, attr->mode, got, hash_bytes(buf, got));
	}
	return err;
}

/* ---- an io that is the same again ------------------------------------------------------------- */

/*
 * What the engine works on: the recorder, but with a clock and random numbers that are the same again for the same
 * seed, and, where that is wanted, with flushes that say that they were done and were not.
 */
struct front {
	struct mojo_io base;
	struct mojo_io_ops ops;
	struct mojo_io *inner; /* borrowed */
	pthread_mutex_t mutex; /* guards all below */
	struct dice dice;
	int64_t now_ns;
};

static struct mojo_io *behind(struct mojo_io *io)
{
	return ((struct front *)io)->inner;
}

static int front_open(struct mojo_io *io, const char *path, int flags, struct mojo_io_file **ret_file)
{
	return behind(io)->ops->open(behind(io), path, flags, ret_file);
}

static int front_mkdir(struct mojo_io *io, const char *path)
{
	return behind(io)->ops->mkdir(behind(io), path);
}

static int front_rename(struct mojo_io *io, const char *from, const char *to)
{
	return behind(io)->ops->rename(behind(io), from, to);
}

static int front_unlink(struct mojo_io *io, const char *path)
{
	return behind(io)->ops->unlink(behind(io), path);
}

static int honest_flush_dir(struct mojo_io *io, const char *path)
{
	return behind(io)->ops->flush_dir(behind(io), path);
}

static int front_list(struct mojo_io *io, const char *path, mojo_io_list_fn *fn, void *arg)
{
	return behind(io)->ops->list(behind(io), path, fn, arg);
}

static int front_space(struct mojo_io *io, struct mojo_io_space *ret_space)
{
	return behind(io)->ops->space(behind(io), ret_space);
}

static int64_t front_now_ns(struct mojo_io *io)
{
	struct front *front = (struct front *)io;
	pthread_mutex_lock(&front->mutex);
	int64_t now_ns = front->now_ns += 1000000;
	pthread_mutex_unlock(&front->mutex);
	return now_ns;
}

static int front_random(struct mojo_io *io, void *buf, size_t length)
{
	struct front *front = (struct front *)io;
	pthread_mutex_lock(&front->mutex);
	for (size_t i = 0; i < length; i++)
		((uint8_t *)buf)[i] = (uint8_t)dice_next(&front->dice);
	pthread_mutex_unlock(&front->mutex);
	return 0;
}

static void front_free(struct mojo_io *io)
{
	pthread_mutex_destroy(&((struct front *)io)->mutex);
	free(io);
}

static int no_flush(struct mojo_io_file *file)
{
	(void)file;
	return 0;
}

static int no_flush_dir(struct mojo_io *io, const char *path)
{
	(void)io;
	(void)path;
	return 0;
}

static struct mojo_io *front_new(struct mojo_io *inner, uint64_t seed)
{
	struct front *front = calloc(1, sizeof(*front));
	assert_non_null(front);
	pthread_mutex_init(&front->mutex, NULL);
	front->inner = inner;
	front->dice.state = seed;
	front->now_ns = 1000000000000000000;
	front->ops = *inner->ops; /* what takes a file goes straight through */
	front->ops.open = front_open;
	front->ops.mkdir = front_mkdir;
	front->ops.rename = front_rename;
	front->ops.unlink = front_unlink;
	front->ops.flush_dir = honest_flush_dir;
	front->ops.list = front_list;
	front->ops.space = front_space;
	front->ops.now_ns = front_now_ns;
	front->ops.random = front_random;
	front->ops.free = front_free;
	front->base.ops = &front->ops;
	return &front->base;
}

static void front_drop_flushes(struct mojo_io *io, bool files, bool dirs)
{
	struct front *front = (struct front *)io;
	if (files) {
		front->ops.flush = no_flush;
		front->ops.write_through = front->ops.write;
	}
	if (dirs)
		front->ops.flush_dir = no_flush_dir;
}

/* ---- recording work -------------------------------------------------------------------------- */

struct run {
	uint32_t page_size;
	struct dice dice; /* what is done */
	struct dice fill; /* what is written */
	struct mojo_geometry geometry;
	struct mojo_config config;
	char event[400]; /* the last one */

	struct mojo_io *disk; /* what is worked on */
	struct mojo_io *recorder;
	struct mojo_io *front; /* what the engine is given; in front of the recorder */
	struct mojo_store *store;
	void *before; /* owned; recording of what was done to the disk before, if it is not all durable; grows */
	size_t before_length;
	struct mojo_io *base; /* what was on the disk before; NULL: nothing */

	struct model *now;
	struct model **snaps; /* after each operation; those that a crash undid are as they were */
	uint64_t *digests;
	struct dice *dice_at;
	bool *batch_end;   /* a batch ended behind this operation */
	unsigned last_end; /* of them */
	unsigned operations, done;
	uint32_t messages;
	unsigned fills;
	uint32_t orphan; /* bucket that is held, and has no name */
	uint8_t *buf;
	size_t buf_bytes;
	uint64_t rolled;             /* chunks begun */
	uint64_t settled, published; /* steps of settling, and versions after them */
};

enum op {
	OP_WRITE,
	OP_FILL,
	OP_COPY,
	OP_CREATE,
	OP_UNLINK,
	OP_RENAME,
	OP_TRUNCATE,
	OP_PUNCH,
	OP_CHMOD,
	OP_MKDIR,
	OP_RMDIR,
	OP_HOLD,
	OP_SYNC,
	OP_COMMIT,
	OP_FREEZE,
	OP_SETTLE,
	OP_PUBLISH,
	OP_DROP,
	OP_CHECKPOINT,
	OP_REOPEN,
	OP_CRASH,
	OP_COUNT
};

static void on_event(void *arg, enum mojo_severity severity, const char *text)
{
	struct run *run = arg;
	if (severity != MOJO_INFO)
		snprintf(run->event, sizeof(run->event), "%s", text);
}

static uint32_t bucket_of(struct run *run, const char *path)
{
	struct mojo_attr attr;
	assert_ok(mojo_resolve(run->store, MOJO_ACTIVE, path, &attr));
	return attr.bucket;
}

/* The directory that @path is in, and the name there. */
static uint32_t dir_of(struct run *run, const char *path, const char **ret_name)
{
	const char *slash = strchr(path, '/');
	char dir[PATH_BYTES];
	*ret_name = slash ? slash + 1 : path;
	if (!slash)
		return MOJO_ROOT_BUCKET;
	snprintf(dir, sizeof(dir), "%.*s", (int)(slash - path), path);
	return bucket_of(run, dir);
}

static struct item *pick_file(struct run *run)
{
	unsigned start = run->now->count ? dice_below(&run->dice, run->now->count) : 0;
	for (unsigned i = 0; i < run->now->count; i++) {
		struct item *item = &run->now->items[(start + i) % run->now->count];
		if (item->content)
			return item;
	}
	return NULL;
}

/* A path that is free, in the root or in a directory that is there. */
static bool free_path(struct run *run, char *ret_path)
{
	for (unsigned tries = 0; tries < 8; tries++) {
		char dir[PATH_BYTES];
		snprintf(dir, sizeof(dir), "d%u", dice_below(&run->dice, 2));
		if (dice_below(&run->dice, 3) == 0 && model_find(run->now, dir))
			snprintf(ret_path, PATH_BYTES, "%.4s/f%u", dir, dice_below(&run->dice, 10));
		else
			snprintf(ret_path, PATH_BYTES, "f%u", dice_below(&run->dice, 10));
		if (!model_find(run->now, ret_path))
			return true;
	}
	return false;
}

static void set_content(struct item *item, struct content *content)
{
	content->hash = hash_bytes(content->data, content->size);
	content_put(item->content);
	item->content = content;
}

static struct item *model_add(struct run *run, const char *path, uint32_t mode)
{
	struct item *item = &run->now->items[run->now->count++];
	*item = (struct item){ .mode = mode };
	strcpy(item->path, path);
	if (S_ISREG(mode))
		set_content(item, content_new(NULL, 0));
	return item;
}

static void do_create(struct run *run)
{
	char path[PATH_BYTES];
	const char *name;
	struct mojo_attr attr;
	if (run->now->count == ITEMS_MAX || !free_path(run, path))
		return;
	uint32_t dir = dir_of(run, path, &name);
	assert_ok(mojo_mknod(run->store, dir, name, S_IFREG | 0640, 0, 1, 2, &attr));
	model_add(run, path, S_IFREG | 0640);
}

static void do_write(struct run *run)
{
	struct item *item = pick_file(run);
	if (!item) {
		do_create(run);
		return;
	}
	size_t most = (size_t)FILE_PAGES * run->page_size, length, offset;
	if (dice_below(&run->dice, 2)) { /* whole pages */
		offset = (size_t)dice_below(&run->dice, FILE_PAGES) * run->page_size;
		length = (size_t)(1 + dice_below(&run->dice, dice_below(&run->dice, 6) ? 2 : 8)) * run->page_size;
	} else {
		offset = dice_below(&run->dice, (uint32_t)most);
		length = 1 + dice_below(&run->dice, 2 * run->page_size);
	}
	if (offset >= most)
		offset = 0;
	if (length > most - offset)
		length = most - offset;
	if (length > 60000) /* one piece for the engine: a longer write may be cut by a loss of power */
		length = 60000;
	bench_fill(run->buf, length, dice_next(&run->fill));
	assert_ok(mojo_write(run->store, bucket_of(run, item->path), offset, run->buf, length));
	size_t size = item->content->size > offset + length ? item->content->size : offset + length;
	struct content *content = content_new(item->content, size);
	memcpy(content->data + offset, run->buf, length);
	set_content(item, content);
}

/* A whole file, in turn: two of them do not fit into one group. */
static void do_fill(struct run *run)
{
	struct item *item = pick_file(run);
	size_t length = 60000 / run->page_size * run->page_size;
	if (!item || !length) {
		do_write(run);
		return;
	}
	if (length > FILE_PAGES * run->page_size)
		length = FILE_PAGES * run->page_size;
	for (unsigned i = 0, files = 0; i < run->now->count; i++)
		if (run->now->items[i].content && files++ == run->fills % 2)
			item = &run->now->items[i];
	run->fills++;
	bench_fill(run->buf, length, dice_next(&run->fill));
	assert_ok(mojo_write(run->store, bucket_of(run, item->path), 0, run->buf, length));
	struct content *content =
		content_new(item->content, item->content->size > length ? item->content->size : length);
	memcpy(content->data, run->buf, length);
	set_content(item, content);
}

/* All of a file becomes that of an empty one, which shares its pages; or some bytes are copied. */
static void do_copy(struct run *run)
{
	struct item *from = pick_file(run), *to = pick_file(run);
	uint64_t copied = 0;
	if (!from || !to) {
		do_create(run);
		return;
	}
	for (unsigned i = 0; i < run->now->count && to->content->size; i++)
		if (run->now->items[i].content && run->now->items[i].content->size == 0)
			to = &run->now->items[i];
	size_t length = from->content->size;
	if (from == to || !length)
		return;
	if (to->content->size && length > 60000) /* one piece, as in do_write() */
		length = 60000;
	assert_ok(mojo_copy(run->store, MOJO_ACTIVE, bucket_of(run, from->path), 0, bucket_of(run, to->path), 0, length,
			    &copied));
	assert_int_equal(copied, length);
	size_t size = to->content->size > length ? to->content->size : length;
	struct content *content = content_new(to->content, size);
	memcpy(content->data, from->content->data, length);
	set_content(to, content);
}

static void do_truncate(struct run *run)
{
	struct item *item = pick_file(run);
	if (!item)
		return;
	size_t size = dice_below(&run->dice, 3) ? dice_below(&run->dice, FILE_PAGES * run->page_size) : 0;
	struct mojo_attr attr = { .size = size };
	assert_ok(mojo_setattr(run->store, bucket_of(run, item->path), MOJO_SET_SIZE, &attr, &attr));
	set_content(item, content_new(item->content, size));
}

static void do_punch(struct run *run)
{
	struct item *item = pick_file(run);
	if (!item)
		return;
	size_t offset = dice_below(&run->dice, FILE_PAGES * run->page_size);
	size_t length = 1 + dice_below(&run->dice, 4 * run->page_size);
	assert_ok(mojo_fallocate(run->store, bucket_of(run, item->path), MOJO_FALLOC_PUNCH_HOLE | MOJO_FALLOC_KEEP_SIZE,
				 offset, length));
	struct content *content = content_new(item->content, item->content->size);
	if (offset < content->size)
		memset(content->data + offset, 0, length < content->size - offset ? length : content->size - offset);
	set_content(item, content);
}

static void do_chmod(struct run *run)
{
	struct item *item = pick_file(run);
	if (!item)
		return;
	struct mojo_attr attr = { .mode = dice_below(&run->dice, 0777) };
	item->mode = S_IFREG | attr.mode;
	assert_ok(mojo_setattr(run->store, bucket_of(run, item->path), MOJO_SET_MODE, &attr, &attr));
}

static void do_unlink(struct run *run, bool hold)
{
	struct item *item = pick_file(run);
	const char *name;
	if (!item)
		return;
	if (hold && run->orphan) {
		assert_ok(mojo_release(run->store, run->orphan));
		run->orphan = 0;
		return;
	}
	if (hold) {
		run->orphan = bucket_of(run, item->path);
		assert_ok(mojo_hold(run->store, run->orphan));
	}
	uint32_t dir = dir_of(run, item->path, &name);
	assert_ok(mojo_unlink(run->store, dir, name));
	model_drop(run->now, item);
}

static void do_rename(struct run *run)
{
	struct item *item = pick_file(run), *other = pick_file(run);
	char path[PATH_BYTES];
	const char *name, *new_name;
	if (!item)
		return;
	if (dice_below(&run->dice, 2) && other != item)
		strcpy(path, other->path);
	else if (!free_path(run, path))
		return;
	uint32_t dir = dir_of(run, item->path, &name), new_dir = dir_of(run, path, &new_name);
	other = model_find(run->now, path);
	bool exchange = other && dice_below(&run->dice, 3) == 0;
	assert_ok(mojo_rename(run->store, dir, name, new_dir, new_name, exchange ? MOJO_RENAME_EXCHANGE : 0));
	if (exchange) {
		strcpy(other->path, item->path);
		strcpy(item->path, path);
		return;
	}
	strcpy(item->path, path);
	if (other)
		model_drop(run->now, other);
}

static void do_dir(struct run *run, bool make)
{
	char path[PATH_BYTES], inside[PATH_BYTES];
	struct mojo_attr attr;
	snprintf(path, sizeof(path), "d%u", dice_below(&run->dice, 2));
	struct item *item = model_find(run->now, path);
	if (make && !item && run->now->count < ITEMS_MAX) {
		assert_ok(mojo_mknod(run->store, MOJO_ROOT_BUCKET, path, S_IFDIR | 0755, 0, 1, 2, &attr));
		model_add(run, path, S_IFDIR | 0755);
	}
	if (make || !item)
		return;
	for (unsigned i = 0; i < 10; i++) {
		snprintf(inside, sizeof(inside), "%.4s/f%u", path, i);
		if (model_find(run->now, inside))
			return;
	}
	assert_ok(mojo_rmdir(run->store, MOJO_ROOT_BUCKET, path));
	model_drop(run->now, item);
}

static void do_commit(struct run *run)
{
	struct model *now = run->now;
	char text[32];
	uint32_t version;
	if (now->frozen_count == VERSIONS_MAX) {
		assert_ok(mojo_sync(run->store));
		return;
	}
	if (now->draft.version) {
		assert_int_equal(mojo_commit(run->store, "", 0, &version), -EAGAIN);
		assert_ok(mojo_sync(run->store));
		return;
	}
	message_text(++run->messages, text);
	assert_ok(mojo_commit(run->store, text, strlen(text), &version));
	assert_int_equal(version, now->active);
	now->frozen[now->frozen_count++] = (struct frozen){ version, run->messages, tree_digest(now) };
	now->active++;
}

static void forget_draft(struct model *now)
{
	for (unsigned i = 0; i < now->draft_count; i++)
		content_put(now->draft_items[i].content);
	now->draft_count = 0;
	now->draft = (struct frozen){ 0 };
}

static void do_freeze(struct run *run)
{
	struct model *now = run->now;
	char text[32];
	uint32_t version;
	if (now->draft.version)
		return;
	message_text(++run->messages, text);
	assert_ok(mojo_freeze(run->store, text, strlen(text), NULL, NULL, &version));
	assert_int_equal(version, now->active);
	now->draft = (struct frozen){ version, run->messages, 0 };
	now->draft_count = now->count;
	for (unsigned i = 0; i < now->count; i++) {
		now->draft_items[i] = now->items[i];
		if (now->items[i].content)
			now->items[i].content->refs++;
	}
	now->active++;
}

/* One step of settling: what SQLite does when it rolls a journal back, or folds a WAL in. */
static void do_settle(struct run *run)
{
	struct model *now = run->now;
	uint32_t version = now->draft.version;
	struct mojo_attr attr;
	if (!version) {
		do_freeze(run);
		return;
	}
	struct item *item = now->draft_count ? &now->draft_items[dice_below(&run->dice, now->draft_count)] : NULL;
	if (!item || !item->content)
		return;
	assert_ok(mojo_resolve(run->store, version, item->path, &attr));
	run->settled++;
	unsigned roll = dice_below(&run->dice, 8);
	if (roll == 0) {
		const char *slash = strchr(item->path, '/');
		assert_ok(mojo_settle_unlink(run->store, version, attr.parent, slash ? slash + 1 : item->path));
		content_put(item->content);
		*item = now->draft_items[--now->draft_count];
	} else if (roll < 3) {
		size_t size = dice_below(&run->dice, 2) ? dice_below(&run->dice, FILE_PAGES * run->page_size) : 0;
		attr.size = size;
		assert_ok(mojo_settle_setattr(run->store, version, attr.bucket, MOJO_SET_SIZE, &attr, &attr));
		set_content(item, content_new(item->content, size));
	} else {
		size_t offset = (size_t)dice_below(&run->dice, FILE_PAGES - 1) * run->page_size;
		size_t length = 1 + dice_below(&run->dice, run->page_size);
		bench_fill(run->buf, length, dice_next(&run->fill));
		assert_ok(mojo_settle_write(run->store, version, attr.bucket, offset, run->buf, length));
		size_t size = item->content->size > offset + length ? item->content->size : offset + length;
		struct content *content = content_new(item->content, size);
		memcpy(content->data + offset, run->buf, length);
		set_content(item, content);
	}
}

static void do_publish(struct run *run)
{
	struct model *now = run->now;
	if (!now->draft.version || now->frozen_count == VERSIONS_MAX) {
		assert_ok(mojo_sync(run->store));
		return;
	}
	assert_ok(mojo_publish(run->store, now->draft.version));
	run->published++;
	now->draft.tree = items_digest(now->draft_items, now->draft_count);
	now->frozen[now->frozen_count++] = now->draft;
	forget_draft(now);
}

static void do_drop(struct run *run)
{
	struct model *now = run->now;
	if (now->draft.version && dice_below(&run->dice, 4) == 0) {
		assert_ok(mojo_version_drop(run->store, now->draft.version));
		forget_draft(now);
		return;
	}
	if (!now->frozen_count) {
		assert_ok(mojo_sync(run->store));
		return;
	}
	unsigned i = dice_below(&run->dice, now->frozen_count);
	assert_ok(mojo_version_drop(run->store, now->frozen[i].version));
	now->frozen[i] = now->frozen[--now->frozen_count];
}

static void open_run(struct run *run)
{
	int err = mojo_open(run->front, &run->config, &run->store);
	if (err)
		fail_msg("the store does not open while recording: %s (%s)", strerror(-err), run->event);
	run->orphan = 0;
}

/* Random work, the same for the same dice. True if a batch ended with it. */
static bool do_op(struct run *run, enum op op)
{
	switch (op) {
	case OP_WRITE:
		do_write(run);
		return false;
	case OP_FILL:
		do_fill(run);
		return false;
	case OP_COPY:
		do_copy(run);
		return false;
	case OP_CREATE:
		do_create(run);
		return false;
	case OP_UNLINK:
		do_unlink(run, false);
		return false;
	case OP_HOLD:
		do_unlink(run, true);
		return false;
	case OP_RENAME:
		do_rename(run);
		return false;
	case OP_TRUNCATE:
		do_truncate(run);
		return false;
	case OP_PUNCH:
		do_punch(run);
		return false;
	case OP_CHMOD:
		do_chmod(run);
		return false;
	case OP_MKDIR:
		do_dir(run, true);
		return false;
	case OP_RMDIR:
		do_dir(run, false);
		return false;
	case OP_SYNC:
		assert_ok(mojo_sync(run->store));
		return true;
	case OP_COMMIT:
		do_commit(run);
		return true;
	case OP_FREEZE:
		do_freeze(run);
		return false;
	case OP_SETTLE:
		do_settle(run);
		return false;
	case OP_PUBLISH:
		do_publish(run);
		return true;
	case OP_DROP:
		do_drop(run);
		return true;
	case OP_CHECKPOINT:
		assert_ok(mojo_checkpoint(run->store));
		return true;
	case OP_REOPEN:
		assert_ok(mojo_close(run->store));
		run->store = NULL;
		open_run(run);
		return true;
	case OP_CRASH: /* of the process: what was not written out is gone, and recovery is in the recording */
		mojo_abandon(run->store);
		run->store = NULL;
		open_run(run);
		model_free(run->now);
		run->now = model_copy(run->snaps[run->last_end]);
		return true;
	case OP_COUNT:
		break;
	}
	return false;
}

static void note(struct run *run, unsigned op, bool end)
{
	run->snaps[op] = model_copy(run->now);
	run->digests[op] = model_digest(run->now);
	run->dice_at[op] = run->dice;
	run->batch_end[op] = end;
	if (end)
		run->last_end = op;
}

#define MARK_BEGIN(op) (2 * (uint64_t)(op))
#define MARK_ACKED(op) (2 * (uint64_t)(op) + 1)
#define MARK_SECOND    (1ull << 40) /* added to those of a run that has another before it */

static void mark(struct run *run, uint64_t number)
{
	assert_ok(mojo_io_record_mark(run->recorder, number + (run->before ? MARK_SECOND : 0)));
}

/*
 * A run of so many @operations, on an empty disk, or on @base with @start in it. @seed: of the dice.
 */
static struct run *run_new(uint32_t page_size, uint64_t seed, struct mojo_io *base, const struct model *start,
			   unsigned operations)
{
	struct run *run = calloc(1, sizeof(*run));
	assert_non_null(run);
	run->page_size = page_size;
	run->dice.state = seed;
	run->fill.state = ~seed;
	run->geometry =
		(struct mojo_geometry){ .page_size = page_size, .pages_per_slot = 64, .chunk_bytes = BENCH_CHUNK };
	run->config = (struct mojo_config){
		.cache_bytes = 4u << 20,
		.batch_bytes = 4 * page_size < 64u << 10 ? 64u << 10 : 4 * page_size,
		.checkpoint_bytes = 1u << 20,
		.flush_ms = UINT32_MAX,
		.no_background = true,
		.owner = "test_power",
		.event = on_event,
		.event_arg = run,
	};
	run->operations = operations;
	run->snaps = calloc(operations + 1, sizeof(*run->snaps));
	run->digests = calloc(operations + 1, sizeof(*run->digests));
	run->dice_at = calloc(operations + 1, sizeof(*run->dice_at));
	run->batch_end = calloc(operations + 1, sizeof(*run->batch_end));
	run->buf_bytes = (size_t)(FILE_PAGES + 1) * page_size;
	run->buf = malloc(run->buf_bytes);
	run->now = start ? model_copy(start) : calloc(1, sizeof(*run->now));
	assert_non_null(run->snaps);
	assert_non_null(run->digests);
	assert_non_null(run->dice_at);
	assert_non_null(run->batch_end);
	assert_non_null(run->buf);
	assert_non_null(run->now);
	if (!start)
		run->now->active = 1;
	run->messages = (uint32_t)(seed % 100000) * 1000;
	run->base = base;
	if (base)
		assert_ok(mojo_io_memory_clone(base, &run->disk));
	else
		assert_ok(mojo_io_memory(&run->disk));
	assert_ok(mojo_io_record(run->disk, -1, &run->recorder));
	run->front = front_new(run->recorder, ~seed);
	return run;
}

/* @script: what to do; NULL: random things, by the dice. */
static void run_work(struct run *run, const enum op *script)
{
	static const unsigned weights[OP_COUNT] = {
		[OP_WRITE] = 44,     [OP_COPY] = 4,     [OP_FILL] = 4,  [OP_CREATE] = 5, [OP_UNLINK] = 3,
		[OP_RENAME] = 4,     [OP_TRUNCATE] = 3, [OP_PUNCH] = 3, [OP_CHMOD] = 2,  [OP_MKDIR] = 2,
		[OP_RMDIR] = 1,      [OP_HOLD] = 2,     [OP_SYNC] = 12, [OP_COMMIT] = 3, [OP_DROP] = 8,
		[OP_CHECKPOINT] = 2, [OP_REOPEN] = 1,   [OP_CRASH] = 1, [OP_FREEZE] = 8, [OP_SETTLE] = 24,
		[OP_PUBLISH] = 9,
	};
	unsigned total = 0;
	for (unsigned i = 0; i < OP_COUNT; i++)
		total += weights[i];
	if (!run->base)
		assert_ok(mojo_create(run->front, &run->geometry, &run->config));
	note(run, 0, true);
	if (!run->base)
		mark(run, MARK_ACKED(0));
	open_run(run);
	mark(run, MARK_ACKED(0)); /* what recovery found is durable when the store is open */
	for (unsigned k = 1; k <= run->operations; k++) {
		enum op op = OP_WRITE;
		if (script) {
			op = script[k - 1];
		} else {
			unsigned roll = dice_below(&run->dice, total);
			while (roll >= weights[op])
				roll -= weights[op++];
		}
		mark(run, MARK_BEGIN(k));
		uint64_t batch = run->store->log.batch;
		uint32_t chunk = run->store->log.chunk;
		bool end = do_op(run, op);
		/* A checkpoint that was due ends the batch before the operation becomes part of the next. */
		if (op != OP_REOPEN && op != OP_CRASH && run->store->log.batch - batch > end) {
			run->batch_end[k - 1] = true;
			run->last_end = k - 1;
		}
		run->rolled += run->store->log.chunk != chunk;
		note(run, k, end);
		if (end)
			mark(run, MARK_ACKED(k));
		run->done = k;
	}
	mojo_abandon(run->store);
	run->store = NULL;
}

static void run_free(struct run *run)
{
	if (!run)
		return;
	mojo_abandon(run->store);
	for (unsigned i = 0; i <= run->operations; i++)
		model_free(run->snaps[i]);
	model_free(run->now);
	mojo_io_free(run->front);
	mojo_io_free(run->recorder);
	mojo_io_free(run->disk);
	free(run->snaps);
	free(run->digests);
	free(run->dice_at);
	free(run->before);
	free(run->batch_end);
	free(run->buf);
	free(run);
}

/* ---- checking states ------------------------------------------------------------------------- */

struct place {
	bool made;      /* the store's making was acknowledged */
	unsigned acked; /* operation */
	unsigned begun;
	uint64_t first; /* mark that counts */
	bool live;      /* one came */
};

static void on_mark(void *arg, uint64_t number)
{
	struct place *place = arg;
	if (number < place->first)
		return;
	number -= place->first;
	place->live = true;
	if (number % 2 == 0) {
		place->begun = (unsigned)(number / 2);
	} else {
		place->acked = (unsigned)(number / 2);
		place->made = true;
	}
}

static struct power *power_of(struct run *run, struct place *place)
{
	const void *bytes;
	size_t length;
	*place = (struct place){ .made = run->base != NULL, .live = !run->before };
	mojo_io_record_bytes(run->recorder, &bytes, &length);
	if (!run->before)
		return power_new(bytes, length, run->base, on_mark, place);
	place->first = MARK_SECOND;
	run->before = realloc(run->before, run->before_length + length);
	assert_non_null(run->before);
	memcpy((uint8_t *)run->before + run->before_length, bytes, length);
	return power_new(run->before, run->before_length + length, NULL, on_mark, place);
}

enum verdict { GOOD, NOT_OPENED, UNREADABLE, LOST, NOT_WRITABLE, NOT_KEPT, ONE_ROOT, VERDICTS };

static const char *const verdict_names[] = { "good",
					     "not opened",
					     "unreadable",
					     "lost or mixed",
					     "not writable",
					     "not kept",
					     "not the same with the other root" };

/* Everything that the store holds. */
static int store_digest(struct run *run, struct mojo_store *store, const char *skip, uint64_t *ret_digest)
{
	struct mojo_version_info info;
	uint64_t digest = 0, tree = 0;
	int err = digest_dir(store, MOJO_ACTIVE, MOJO_ROOT_BUCKET, "", skip, run->buf, run->buf_bytes, &tree);
	uint32_t from = 1;
	while (!err && !(err = mojo_version_next(store, from, &info)) && !info.active) {
		uint64_t frozen = 0;
		err = digest_dir(store, info.version, MOJO_ROOT_BUCKET, "", NULL, run->buf, run->buf_bytes, &frozen);
		digest += version_digest(info.version, hash_bytes(info.message, strlen(info.message)), frozen);
		from = info.version + 1;
	}
	uint32_t active = info.version, draft = err ? 0 : mojo_unpublished(store);
	if (draft) {
		uint64_t frozen = 0;
		err = mojo_version_find(store, draft, &info);
		if (!err)
			err = digest_dir(store, draft, MOJO_ROOT_BUCKET, "", NULL, run->buf, run->buf_bytes, &frozen);
		digest += mix(version_digest(draft, hash_bytes(info.message, strlen(info.message)), frozen));
	}
	if (!err)
		*ret_digest = digest + mix(tree + active);
	return err;
}

static const char post_data[] = "written after the power came back";

static enum verdict go_on(struct run *run, struct mojo_io *io, struct mojo_store *store, uint64_t digest)
{
	struct mojo_attr attr;
	char back[sizeof(post_data)];
	size_t got;
	uint64_t again;
	int err = mojo_mknod(store, MOJO_ROOT_BUCKET, "post", S_IFREG | 0600, 0, 1, 2, &attr);
	if (!err)
		err = mojo_write(store, attr.bucket, run->page_size - 7, post_data, sizeof(post_data));
	if (!err)
		err = mojo_sync(store);
	int closed = mojo_close(store);
	if (err || closed)
		return NOT_WRITABLE;
	err = mojo_open(io, &run->config, &store);
	if (err)
		return NOT_KEPT;
	err = mojo_resolve(store, MOJO_ACTIVE, "post", &attr);
	if (!err)
		err = mojo_read(store, MOJO_ACTIVE, attr.bucket, run->page_size - 7, back, sizeof(back), &got);
	if (!err && (got != sizeof(back) || memcmp(back, post_data, sizeof(back)) != 0))
		err = -EIO;
	if (!err)
		err = store_digest(run, store, "post", &again);
	mojo_abandon(store);
	return err || again != digest ? NOT_KEPT : GOOD;
}

/* Is the state @io what it must be? It is written to. @ret_snap: the operation behind which the store stands. */
static enum verdict check_state(struct run *run, const struct place *place, struct mojo_io *io, unsigned *ret_snap)
{
	struct mojo_store *store;
	uint64_t digest;
	run->event[0] = '\0';
	int err = mojo_open(io, &run->config, &store);
	if (err == -ENOENT && !place->made) { /* it may not be there yet, and can be made then */
		err = mojo_create(io, &run->geometry, &run->config);
		if (!err)
			err = mojo_open(io, &run->config, &store);
	}
	if (err)
		return NOT_OPENED;
	if (store_digest(run, store, NULL, &digest) != 0) {
		mojo_abandon(store);
		return UNREADABLE;
	}
	unsigned k = place->begun;
	while (k > place->acked && !(run->digests[k] == digest && run->batch_end[k]))
		k--;
	if (run->digests[k] != digest) {
		mojo_abandon(store);
		return LOST;
	}
	if (ret_snap)
		*ret_snap = k;
	return go_on(run, io, store, digest);
}

struct counts {
	uint64_t states, moments, nested, one_root;
	uint64_t verdicts[VERDICTS];
};

static void complain(struct run *run, const struct power *power, const struct place *place, uint64_t choice,
		     enum verdict verdict)
{
	static char text[4000];
	power_describe(power, text, sizeof(text));
	print_error("%s: page size %u, operations %u acknowledged to %u begun, state %" PRIu64 ", last event: %s\n%s\n",
		    verdict_names[verdict], run->page_size, place->acked, place->begun, choice, run->event, text);
}

/* The newer of two good roots is gone. */
static bool spoil_root(struct mojo_io *io)
{
	struct mojo_root roots[2];
	uint8_t *slots;
	void *data;
	size_t length;
	bool both = false;
	if (mojo_io_memory_load(io, MOJO_STATE_FILE, &data, &length) != 0)
		return false;
	slots = data;
	if (length == 2 * MOJO_ROOT_SLOT_BYTES && mojo_root_decode(slots, &roots[0]) == 0 &&
	    mojo_root_decode(slots + MOJO_ROOT_SLOT_BYTES, &roots[1]) == 0) {
		both = true;
		memset(slots + (roots[1].generation > roots[0].generation) * MOJO_ROOT_SLOT_BYTES, 0,
		       MOJO_ROOT_SLOT_BYTES);
		assert_ok(mojo_io_memory_replace(io, MOJO_STATE_FILE, data, length));
	}
	free(data);
	return both;
}

/* One state; asserts that it is good unless @counts alone is to know. Of some, also without the newer root. */
static void try_state(struct run *run, const struct power *power, const struct place *place, struct mojo_io *io,
		      uint64_t choice, bool quiet, struct counts *counts)
{
	struct mojo_io *second = NULL;
	unsigned snap = 0, same = 0;
	if (choice % 4 == 3 && place->made)
		assert_ok(mojo_io_memory_clone(io, &second));
	enum verdict verdict = check_state(run, place, io, &snap);
	if (verdict == GOOD && second && spoil_root(second)) {
		counts->one_root++;
		if (check_state(run, place, second, &same) != GOOD || same != snap)
			verdict = ONE_ROOT;
	}
	mojo_io_free(second);
	mojo_io_free(io);
	counts->states++;
	counts->verdicts[verdict]++;
	if (verdict != GOOD && !quiet) {
		complain(run, power, place, choice, verdict);
		fail_msg("a state after a loss of power is %s", verdict_names[verdict]);
	}
}

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void report(const char *what, const struct counts *counts, double since)
{
	print_message("%s: %" PRIu64 " states at %" PRIu64 " moments", what, counts->states, counts->moments);
	for (unsigned i = 1; i < VERDICTS; i++)
		if (counts->verdicts[i])
			print_message(", %" PRIu64 " %s", counts->verdicts[i], verdict_names[i]);
	print_message(" (%.1f s)\n", seconds() - since);
}

static uint64_t setting(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

/* ---- the tests ------------------------------------------------------------------------------- */

/* All choices where there are at most @most, else so many random ones. */
static void exhaust(struct run *run, uint64_t most, struct counts *counts, uint64_t *sampled)
{
	struct place place;
	struct power *power = power_of(run, &place);
	while (power_next(power)) {
		uint64_t choices = power_choices(power);
		counts->moments++;
		for (uint64_t i = 0; i < choices && i < most; i++) {
			struct mojo_io *io =
				choices <= most ? power_build_choice(power, i) : power_build_random(power, i);
			try_state(run, power, &place, io, i, false, counts);
			*sampled += choices > most;
		}
	}
	power_free(power);
}

static void every_state_of_short_work(void **state)
{
	static const enum op scripts[][12] = {
		{ OP_CREATE, OP_WRITE, OP_SYNC, OP_WRITE, OP_COMMIT, OP_WRITE, OP_SYNC, OP_UNLINK, OP_SYNC },
		{ OP_CREATE, OP_WRITE, OP_FREEZE, OP_WRITE, OP_SETTLE, OP_SETTLE, OP_SYNC, OP_SETTLE, OP_PUBLISH },
		{ OP_CREATE, OP_WRITE, OP_FREEZE, OP_SETTLE, OP_CHECKPOINT, OP_WRITE, OP_SETTLE, OP_CRASH, OP_PUBLISH },
		{ OP_CREATE, OP_WRITE, OP_COMMIT, OP_WRITE, OP_CHECKPOINT, OP_WRITE, OP_SYNC, OP_DROP, OP_REOPEN },
		{ OP_CREATE, OP_CREATE, OP_WRITE, OP_SYNC, OP_RENAME, OP_WRITE, OP_CRASH, OP_WRITE, OP_SYNC },
		{ OP_CREATE, OP_WRITE, OP_CHECKPOINT, OP_TRUNCATE, OP_CHECKPOINT, OP_PUNCH, OP_CHECKPOINT, OP_WRITE,
		  OP_SYNC },
		{ OP_MKDIR, OP_CREATE, OP_WRITE, OP_SYNC, OP_HOLD, OP_WRITE, OP_CRASH, OP_COMMIT, OP_CHECKPOINT },
		{ OP_CREATE, OP_WRITE, OP_CREATE, OP_COPY, OP_SYNC, OP_WRITE, OP_CRASH, OP_WRITE, OP_CHECKPOINT,
		  OP_UNLINK, OP_REOPEN },
	};
	static const uint32_t page_sizes[] = { 4096, 65536 };
	uint64_t most = test_is_long() ? 400 : 64 / TEST_SLOWNESS, sampled = 0;
	struct counts counts = { 0 };
	struct dice dice = dice_new("every state of short work");
	double since = seconds();
	(void)state;
	for (unsigned p = 0; p < 2; p++) {
		for (size_t s = 0; s < sizeof(scripts) / sizeof(scripts[0]); s++) {
			struct run *run = run_new(page_sizes[p], dice_next(&dice), NULL, NULL, 9);
			run_work(run, scripts[s]);
			exhaust(run, most, &counts, &sampled);
			run_free(run);
		}
	}
	report("short work", &counts, since);
	print_message("    all of them where there were at most %" PRIu64 " at a moment; elsewhere %" PRIu64
		      " random ones\n",
		      most, sampled);
}

/* So many of the ways in which a batch of two groups can be lost, evenly spread; all of them if there are no more. */
#define WAYS_MOST 50u

static uint64_t step_of(uint64_t choices)
{
	return ((choices + WAYS_MOST - 1) / WAYS_MOST) * TEST_SLOWNESS;
}

/*
 * A batch of two groups is lost, in many ways; the same is written again, in groups of the same sizes; and power is
 * lost again, in many ways. What is left of the first attempt behind the end of the log must not become part of the
 * second, though it is where it should be, and as long as it should be.
 */
static void every_two_losses_of_two_groups(void **state)
{
	static const enum op script[] = { OP_CREATE, OP_CREATE, OP_SYNC, OP_FILL, OP_FILL, OP_SYNC };
	struct dice dice = dice_new("every two losses of two groups");
	struct counts counts = { 0 };
	struct run *run = run_new(4096, dice_next(&dice), NULL, NULL, 6);
	struct place place;
	double since = seconds();
	(void)state;
	run_work(run, script);
	struct power *power = power_of(run, &place);
	while (power_next(power)) {
		uint64_t choices = power_choices(power);
		if (place.begun < 6 || choices < 30)
			continue; /* the two groups wait for their flush */
		for (uint64_t i = 0; i < choices; i += step_of(choices)) {
			struct mojo_io *io = power_build_choice(power, i), *look;
			unsigned snap;
			assert_ok(mojo_io_memory_clone(io, &look));
			assert_int_equal(check_state(run, &place, look, &snap), GOOD);
			mojo_io_free(look);
			struct run *next = run_new(4096, dice_next(&dice), io, run->snaps[snap], 3);
			struct place again;
			run_work(next, script + 3);
			struct power *second = power_of(next, &again);
			while (power_next(second)) {
				uint64_t all = power_choices(second);
				if (again.begun < 3 || all < 30)
					continue;
				counts.moments++;
				for (uint64_t k = 0; k < all; k += step_of(all))
					try_state(next, second, &again, power_build_choice(second, k), k, false,
						  &counts);
			}
			power_free(second);
			run_free(next);
			mojo_io_free(io);
		}
	}
	power_free(power);
	run_free(run);
	report("two losses of two groups", &counts, since);
	assert_true(counts.states > 3000 / TEST_SLOWNESS / TEST_SLOWNESS);
}

/* The same work over what was lost, or other; then lose power in that, its recovery included. */
static void go_on_and_lose_power(struct run *next, const struct run *run, unsigned snap, struct counts *counts)
{
	struct place place;
	if (dice_below(&next->dice,
		       2)) /* groups of the same sizes as those that may be left behind the end of the log */
		next->dice = run->dice_at[snap];
	run_work(next, NULL);
	struct power *power = power_of(next, &place);
	while (power_next(power)) {
		if (!place.live)
			continue;
		counts->moments++;
		try_state(next, power, &place, power_build_random(power, 1), 1, false, counts);
		uint64_t choice = dice_next(&next->fill);
		try_state(next, power, &place, power_build_random(power, choice), choice, false, counts);
		counts->nested += 2;
	}
	power_free(power);
	run_free(next);
}

/* Behind which operation does the store stand in this state? False if in none: that is found elsewhere. */
static bool stands_at(struct run *run, const struct place *place, struct mojo_io *io, unsigned *ret_snap)
{
	struct mojo_io *look;
	assert_ok(mojo_io_memory_clone(io, &look));
	bool good = place->made && check_state(run, place, look, ret_snap) == GOOD;
	mojo_io_free(look);
	return good;
}

/* The power came back, and fails again. */
static void lose_power_again(struct run *run, const struct place *place, struct mojo_io *io, uint64_t seed,
			     struct counts *counts)
{
	unsigned snap;
	if (stands_at(run, place, io, &snap))
		go_on_and_lose_power(run_new(run->page_size, seed, io, run->snaps[snap], 10), run, snap, counts);
}

/* The process was killed at this moment, another one goes on, and then the power fails: of what the first one did not
 * flush all was there to be read, but need not be on the disk. */
static void lose_power_after_a_kill(struct run *run, const struct power *power, const struct place *place,
				    uint64_t seed, struct counts *counts)
{
	struct mojo_io *io = power_build_random(power, 0);
	const void *bytes;
	size_t length;
	unsigned snap;
	if (stands_at(run, place, io, &snap)) {
		struct run *next = run_new(run->page_size, seed, io, run->snaps[snap], run->page_size > 4096 ? 40 : 10);
		mojo_io_record_bytes(run->recorder, &bytes, &length);
		next->before_length = power_offset(power);
		next->before = malloc(next->before_length);
		assert_non_null(next->before);
		memcpy(next->before, bytes, next->before_length);
		go_on_and_lose_power(next, run, snap, counts);
	}
	mojo_io_free(io);
}

static uint64_t count_events(struct run *run, enum mojo_io_event_kind kind)
{
	struct mojo_io_event event;
	const void *bytes;
	size_t length, offset = 0;
	uint64_t count = 0;
	mojo_io_record_bytes(run->recorder, &bytes, &length);
	while (!mojo_io_event_next(bytes, length, &offset, &event))
		count += event.kind == kind;
	return count;
}

/* About @states of them, spread over a recording. */
static void sample(struct run *run, uint64_t states, bool quiet, bool nested, struct counts *counts)
{
	struct place place;
	struct power *power = power_of(run, &place);
	uint64_t moments = power_moments(power), all = 0;
	while (power_next(power)) {
		/* So many here that the whole comes out right; which moments get one more is chance. */
		uint64_t wanted = states / moments + (dice_next(&run->dice) % moments < states % moments);
		counts->moments += wanted != 0;
		for (uint64_t i = 0; i < wanted; i++, all++) {
			uint64_t choice = dice_below(&run->dice, 10) ? dice_next(&run->dice) : i % 2;
			struct mojo_io *io = power_build_random(power, choice);
			if (nested && all % 250 == 0)
				lose_power_again(run, &place, io, choice, counts);
			if (nested && all % 250 == 125)
				lose_power_after_a_kill(run, power, &place, choice, counts);
			try_state(run, power, &place, io, choice, quiet, counts);
		}
	}
	power_free(power);
}

static void states_of_long_work(void **state)
{
	uint64_t target = setting("MOJO_TEST_STATES", test_is_long() ? 1000000 : 15000 / TEST_SLOWNESS);
	struct counts counts = { 0 };
	struct dice dice = dice_new("states of long work");
	double since = seconds();
	unsigned runs = 0;
	uint64_t rolled = 0, recycled = 0, punched = 0, operations = 0, settled = 0, published = 0;
	(void)state;
	for (; counts.states < target; runs++) {
		unsigned length = runs % 4 == 3 ? 200 : runs % 3 == 2 ? 1000 : 3000;
		struct run *run = run_new(runs % 3 == 2 ? 65536 : 4096, dice_next(&dice), NULL, NULL, length);
		run_work(run, NULL);
		uint64_t left = target - counts.states;
		sample(run, left < 2500 ? left + 50 : 2500, false, true, &counts);
		rolled += run->rolled;
		recycled += count_events(run, MOJO_IO_EVENT_RENAME);
		punched += count_events(run, MOJO_IO_EVENT_PUNCH);
		operations += run->done;
		settled += run->settled;
		published += run->published;
		run_free(run);
	}
	report("long work", &counts, since);
	print_message("    %u recordings of %" PRIu64 " operations, %" PRIu64 " steps of settling, %" PRIu64
		      " versions published after it, %" PRIu64 " chunks begun, %" PRIu64 " times one recycled, %" PRIu64
		      " holes punched, %" PRIu64 " states of a second loss, %" PRIu64 " with the older root alone\n",
		      runs, operations, settled, published, rolled, recycled, punched, counts.nested, counts.one_root);
	assert_true(rolled && recycled && punched && counts.nested && settled > published && published);
}

/* ---- several threads ------------------------------------------------------------------------- */

/*
 * Threads that write and sync at once share flushes, while the maintenance thread closes batches and takes
 * checkpoints. Each writes one page after the other to a file of its own, with its number in it, and marks what
 * was acknowledged; one commits, and drops some versions; one overwrites its page and takes checkpoints, which go on
 * beside all this, but for those that find what dropped versions held. In a state each file is a row of such pages,
 * with all that were acknowledged.
 */
#define SYNCERS    4u
#define COMMITTER  SYNCERS
#define KEEPER     (SYNCERS + 1) /* takes the checkpoints */
#define WORKERS    (SYNCERS + 2)
#define DROP_EACH  16u
#define SYNC_PAGES 120u
#define MARK_CLASS 1000000u

struct syncer {
	struct run *run;
	unsigned number;
	uint32_t bucket;
	int err;
	pthread_t thread;
};

static void *sync_pages(void *arg)
{
	struct syncer *s = arg;
	struct run *run = s->run;
	uint8_t *page = malloc(run->page_size);
	assert_non_null(page);
	for (unsigned i = 0; i < SYNC_PAGES && !s->err; i++) {
		uint32_t version;
		if (s->number == COMMITTER) {
			s->err = mojo_commit(run->store, "", 0, &version);
			if (!s->err && i % DROP_EACH == DROP_EACH - 1)
				s->err = mojo_version_drop(run->store, version);
		} else if (s->number == KEEPER) {
			bench_fill(page, run->page_size, s->number * 1000 + i);
			s->err = mojo_write(run->store, s->bucket, 0, page, run->page_size);
			if (!s->err)
				s->err = mojo_checkpoint(run->store);
		} else {
			bench_fill(page, run->page_size, s->number * 1000 + i);
			s->err = mojo_write(run->store, s->bucket, (uint64_t)i * run->page_size, page, run->page_size);
			if (!s->err)
				s->err = mojo_sync(run->store);
		}
		if (!s->err)
			s->err = mojo_io_record_mark(run->recorder, (s->number + 1) * MARK_CLASS + i + 1);
	}
	free(page);
	return NULL;
}

static void on_thread_mark(void *arg, uint64_t mark)
{
	unsigned *acked = arg;
	acked[mark / MARK_CLASS] = (unsigned)(mark % MARK_CLASS);
}

static void check_threads(struct run *run, struct mojo_io *io, const unsigned *acked)
{
	struct mojo_store *store;
	uint8_t *page = malloc(run->page_size), *wanted = malloc(run->page_size);
	assert_non_null(page);
	assert_non_null(wanted);
	assert_ok(mojo_open(io, &run->config, &store));
	for (unsigned n = 0; n < SYNCERS; n++) {
		struct mojo_attr attr;
		char name[8];
		snprintf(name, sizeof(name), "s%u", n);
		assert_ok(mojo_resolve(store, MOJO_ACTIVE, name, &attr));
		assert_int_equal(attr.size % run->page_size, 0);
		unsigned pages = (unsigned)(attr.size / run->page_size);
		if (pages < acked[n + 1])
			fail_msg("thread %u: %u pages were acknowledged, %u are there", n, acked[n + 1], pages);
		for (unsigned i = 0; i < pages; i++) {
			size_t got;
			assert_ok(mojo_read(store, MOJO_ACTIVE, attr.bucket, (uint64_t)i * run->page_size, page,
					    run->page_size, &got));
			bench_fill(wanted, run->page_size, n * 1000 + i);
			assert_int_equal(got, run->page_size);
			bench_same(page, wanted, run->page_size);
		}
	}
	struct mojo_attr kept;
	size_t got;
	assert_ok(mojo_resolve(store, MOJO_ACTIVE, "s5", &kept));
	assert_ok(mojo_read(store, MOJO_ACTIVE, kept.bucket, 0, page, run->page_size, &got));
	bool found = !acked[KEEPER + 1] && !got;
	for (unsigned i = acked[KEEPER + 1] ? acked[KEEPER + 1] - 1 : 0; i < SYNC_PAGES && !found; i++) {
		bench_fill(wanted, run->page_size, KEEPER * 1000 + i);
		found = got == run->page_size && memcmp(page, wanted, run->page_size) == 0;
	}
	assert_true(found);
	struct mojo_info info;
	unsigned commits = acked[COMMITTER + 1], versions = commits - commits / DROP_EACH;
	assert_ok(mojo_info(store, &info));
	assert_in_range(info.frozen_versions, versions, versions + 1);
	assert_ok(mojo_close(store));
	struct mojo_check_result result;
	assert_ok(mojo_check(io, NULL, &result));
	assert_int_equal(result.errors + result.warnings, 0);
	free(page);
	free(wanted);
}

static void threads_that_sync_lose_nothing(void **state)
{
	struct dice dice = dice_new("threads that sync");
	struct counts counts = { 0 };
	double since = seconds();
	unsigned runs = test_is_long() ? 40 : 2;
	(void)state;
	for (unsigned r = 0; r < runs; r++) {
		struct run *run = run_new(r % 2 ? 16384 : 4096, dice_next(&dice), NULL, NULL, 0);
		struct syncer syncers[WORKERS];
		unsigned acked[32] = { 0 };
		const void *bytes;
		size_t length;
		assert_ok(mojo_create(run->front, &run->geometry, &run->config));
		run->config.no_background = false;
		run->config.flush_ms = 1;
		open_run(run);
		for (unsigned i = 0; i < WORKERS; i++) {
			struct mojo_attr attr = { .bucket = 0 };
			char name[8];
			snprintf(name, sizeof(name), "s%u", i);
			assert_ok(mojo_mknod(run->store, MOJO_ROOT_BUCKET, name, S_IFREG | 0600, 0, 1, 2, &attr));
			syncers[i] = (struct syncer){ .run = run, .number = i, .bucket = attr.bucket };
		}
		assert_ok(mojo_sync(run->store));
		assert_ok(mojo_io_record_mark(run->recorder, 0));
		acked[0] = UINT32_MAX; /* until then there is nothing to look at */
		for (unsigned i = 0; i < WORKERS; i++)
			assert_ok(pthread_create(&syncers[i].thread, NULL, sync_pages, &syncers[i]));
		for (unsigned i = 0; i < WORKERS; i++) {
			assert_ok(pthread_join(syncers[i].thread, NULL));
			assert_ok(syncers[i].err);
		}
		mojo_abandon(run->store);
		run->store = NULL;
		run->config.no_background = true;
		run->config.flush_ms = UINT32_MAX;
		mojo_io_record_bytes(run->recorder, &bytes, &length);
		struct power *power = power_new(bytes, length, NULL, on_thread_mark, acked);
		while (power_next(power)) {
			if (acked[0] || dice_below(&dice, 16))
				continue;
			for (unsigned i = 0; i < 2; i++) {
				struct mojo_io *io = power_build_random(power, i ? dice_next(&dice) : 1);
				check_threads(run, io, acked);
				mojo_io_free(io);
				counts.states++;
			}
			counts.moments++;
		}
		power_free(power);
		run_free(run);
	}
	counts.verdicts[GOOD] = counts.states;
	report("threads that sync", &counts, since);
}

/* ---- controls: what the harness must catch ---------------------------------------------------- */

static void an_io_that_drops_flushes_shows_losses(void **state)
{
	struct dice dice = dice_new("an io that drops flushes");
	(void)state;
	for (unsigned which = 0; which < 3; which++) {
		static const char *const names[] = { "control, flushes of files dropped",
						     "control, flushes of directories dropped",
						     "control, none dropped" };
		struct counts counts = { 0 };
		double since = seconds();
		for (unsigned i = 0; i < 2; i++) {
			struct run *run = run_new(i ? 65536 : 4096, dice_next(&dice), NULL, NULL, i ? 80 : 500);
			front_drop_flushes(run->front, which == 0, which == 1);
			run_work(run, NULL);
			sample(run, 150, true, false, &counts);
			run_free(run);
		}
		report(names[which], &counts, since);
		uint64_t bad = counts.states - counts.verdicts[GOOD];
		if (which == 2)
			assert_int_equal(bad, 0);
		else
			assert_true(bad > counts.states / 20);
	}
}

static void a_wrong_model_is_noticed(void **state)
{
	struct dice dice = dice_new("a wrong model");
	unsigned expected = 0, states = 0;
	(void)state;
	for (unsigned which = 0; which < 2; which++) {
		struct run *run = run_new(4096, dice_next(&dice), NULL, NULL, 250);
		unsigned last = run->operations, changed = 0;
		run_work(run, NULL);
		uint64_t *right = malloc((last + 1) * sizeof(*right));
		assert_non_null(right);
		memcpy(right, run->digests, (last + 1) * sizeof(*right));
		if (which == 0) { /* one byte of one file, in every snapshot that shares its content */
			struct item *item = NULL;
			for (unsigned k = 1; k <= last; k++)
				for (unsigned i = 0; i < run->snaps[k]->count; i++) {
					struct content *content = run->snaps[k]->items[i].content;
					if (content && content->size && (!item || content->refs > item->content->refs))
						item = &run->snaps[k]->items[i];
				}
			assert_non_null(item);
			item->content->data[item->content->size / 2] ^= 1;
			item->content->hash = hash_bytes(item->content->data, item->content->size);
		} else { /* the version that is kept longest, wherever it is kept */
			unsigned *kept = calloc(run->now->active + last + 1, sizeof(*kept)), longest = 0;
			assert_non_null(kept);
			for (unsigned k = 0; k <= last; k++)
				for (unsigned i = 0; i < run->snaps[k]->frozen_count; i++) {
					uint32_t version = run->snaps[k]->frozen[i].version;
					if (++kept[version] > kept[longest])
						longest = version;
				}
			for (unsigned k = 0; k <= last; k++)
				for (unsigned i = 0; i < run->snaps[k]->frozen_count; i++)
					if (run->snaps[k]->frozen[i].version == longest)
						run->snaps[k]->frozen[i].tree ^= 1;
			assert_int_not_equal(longest, 0);
			free(kept);
		}
		for (unsigned k = 0; k <= last; k++) {
			run->digests[k] = model_digest(run->snaps[k]);
			changed += run->digests[k] != right[k];
		}
		assert_int_not_equal(changed, 0);
		struct place place;
		struct power *power = power_of(run, &place);
		while (power_next(power)) {
			uint64_t choice = dice_next(&dice);
			struct mojo_io *one = power_build_random(power, choice),
				       *two = power_build_random(power, choice);
			uint64_t *wrong = run->digests;
			unsigned snap;
			run->digests = right;
			assert_int_equal(check_state(run, &place, one, &snap), GOOD);
			run->digests = wrong;
			enum verdict verdict = check_state(run, &place, two, NULL);
			assert_int_equal(verdict, right[snap] == wrong[snap] ? GOOD : LOST);
			expected += right[snap] != wrong[snap];
			states++;
			mojo_io_free(one);
			mojo_io_free(two);
		}
		power_free(power);
		free(right);
		run_free(run);
	}
	print_message("control, wrong models: %u of %u states noticed, as many as there were\n", expected, states);
	assert_true(expected > 20);
}

/* ---- the recorder and the power themselves ---------------------------------------------------- */

struct names {
	char list[32][64];
	unsigned count;
};

static int take_name(void *arg, const char *name)
{
	struct names *names = arg;
	assert_true(names->count < 32 && strlen(name) < 64);
	strcpy(names->list[names->count++], name);
	return 0;
}

/* Both hold the same files, in "" and below "chunks". */
static void assert_same_disk(struct mojo_io *a, struct mojo_io *b)
{
	static const char *const dirs[] = { "", "chunks" };
	for (unsigned d = 0; d < 2; d++) {
		struct names x = { .count = 0 }, y = { .count = 0 };
		int err = a->ops->list(a, dirs[d], take_name, &x);
		assert_int_equal(b->ops->list(b, dirs[d], take_name, &y), err);
		assert_int_equal(x.count, y.count);
		for (unsigned i = 0; i < x.count; i++) {
			char path[80];
			void *left, *right;
			size_t left_length, right_length;
			snprintf(path, sizeof(path), "%s%s%s", dirs[d], d ? "/" : "", x.list[i]);
			if (!strcmp(path, "chunks"))
				continue;
			assert_ok(mojo_io_memory_load(a, path, &left, &left_length));
			assert_ok(mojo_io_memory_load(b, path, &right, &right_length));
			assert_int_equal(left_length, right_length);
			bench_same(left, right, left_length);
			free(left);
			free(right);
		}
	}
}

static void whole_recording_is_the_disk(void **state)
{
	struct dice dice = dice_new("the whole recording is the disk");
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct run *run = run_new(i ? 65536 : 4096, dice_next(&dice), NULL, NULL, i ? 700 : 2500);
		struct place place;
		run_work(run, NULL);
		assert_true(run->rolled > 1);
		struct power *power = power_of(run, &place);
		while (power_next(power))
			;
		struct mojo_io *whole = power_build_random(power, 0);
		assert_same_disk(run->disk, whole);
		assert_int_equal(place.begun, run->operations);
		mojo_io_free(whole);
		power_free(power);
		run_free(run);
	}
}

static void put_at(struct mojo_io *io, struct mojo_io_file *file, uint64_t offset, size_t length, uint64_t tag)
{
	uint8_t *buf = malloc(length);
	assert_non_null(buf);
	bench_fill(buf, length, tag);
	struct iovec vector[2] = { { buf, length / 3 }, { buf + length / 3, length - length / 3 } };
	assert_ok(io->ops->write(file, vector, 2, offset));
	free(buf);
}

static void flushed_is_there_and_the_rest_may_be(void **state)
{
	struct mojo_io *disk, *io, *left;
	struct mojo_io_file *file;
	const void *bytes;
	size_t length, got;
	void *data;
	(void)state;
	assert_ok(mojo_io_memory(&disk));
	assert_ok(mojo_io_record(disk, -1, &io));
	assert_ok(io->ops->mkdir(io, "chunks"));
	assert_ok(io->ops->flush_dir(io, ""));
	assert_ok(io->ops->open(io, "chunks/a", MOJO_IO_WRITE | MOJO_IO_CREATE, &file));
	put_at(io, file, 0, 4096, 1);
	assert_ok(io->ops->flush(file));
	assert_ok(io->ops->flush_dir(io, "chunks"));
	put_at(io, file, 512, 1024, 2);
	assert_ok(io->ops->rename(io, "chunks/a", "chunks/b"));
	assert_int_equal(io->ops->unlink(io, "chunks/none"), -ENOENT);
	io->ops->close(file);
	mojo_io_record_bytes(io, &bytes, &length);
	struct power *power = power_new(bytes, length, NULL, NULL, NULL);
	while (power_next(power))
		;
	/* The write of two sectors in 4 ways, times the rename. Its size was there before. */
	assert_int_equal(power_choices(power), 8);
	unsigned seen[2][4] = { { 0 } };
	for (uint64_t choice = 0; choice < 8; choice++) {
		uint8_t before[4096], after[1024];
		bench_fill(before, sizeof(before), 1);
		bench_fill(after, sizeof(after), 2);
		left = power_build_choice(power, choice);
		unsigned renamed = mojo_io_memory_load(left, "chunks/a", &data, &got) == -ENOENT;
		if (renamed)
			assert_ok(mojo_io_memory_load(left, "chunks/b", &data, &got));
		else
			assert_int_equal(left->ops->unlink(left, "chunks/b"), -ENOENT);
		assert_int_equal(got, 4096);
		unsigned first = !memcmp((uint8_t *)data + 512, after, 512);
		unsigned second = !memcmp((uint8_t *)data + 1024, after + 512, 512);
		assert_memory_equal((uint8_t *)data + 512, (first ? after : before + 512), 512);
		assert_memory_equal((uint8_t *)data + 1024, (second ? after + 512 : before + 1024), 512);
		assert_memory_equal(data, before, 512);
		assert_memory_equal((uint8_t *)data + 1536, before + 1536, 4096 - 1536);
		seen[renamed][first * 2 + second]++;
		free(data);
		mojo_io_free(left);
	}
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(seen[i / 4][i % 4], 1);
	left = power_build_random(power, 1);
	assert_ok(mojo_io_memory_load(left, "chunks/a", &data, &got));
	free(data);
	mojo_io_free(left);
	power_free(power);
	mojo_io_free(io);
	mojo_io_free(disk);
}

static void put_through(struct mojo_io *io, struct mojo_io_file *file, uint64_t offset, size_t length, uint64_t tag)
{
	uint8_t *buf = malloc(length);
	assert_non_null(buf);
	bench_fill(buf, length, tag);
	struct iovec vector = { buf, length };
	assert_ok(io->ops->write_through(file, &vector, 1, offset));
	free(buf);
}

/* In each state that there is: block @block of a file is what was written with one of the tags, of which bits say
 * which; 0 is zeros. @whole: it is not torn. Returns which were seen. */
static unsigned seen_in_block(const struct power *power, const char *path, unsigned block, unsigned tags, bool whole)
{
	unsigned seen = 0;
	for (uint64_t choice = 0; choice < power_choices(power); choice++) {
		struct mojo_io *left = power_build_choice(power, choice);
		uint8_t wanted[4096];
		void *data;
		size_t got;
		bool known = false;
		assert_ok(mojo_io_memory_load(left, path, &data, &got));
		for (unsigned tag = 0; tag < 8; tag++) {
			memset(wanted, 0, sizeof(wanted));
			if (tag)
				bench_fill(wanted, sizeof(wanted), tag);
			if (!(tags & 1u << tag) || got < (block + 1) * 4096 ||
			    memcmp((uint8_t *)data + block * 4096, wanted, sizeof(wanted)) != 0)
				continue;
			seen |= 1u << tag;
			known = true;
		}
		assert_true(known || !whole);
		free(data);
		mojo_io_free(left);
	}
	return seen;
}

static void what_went_through_is_there_and_nothing_else_for_it(void **state)
{
	struct mojo_io *disk, *io;
	struct mojo_io_file *file;
	const void *bytes;
	size_t length;
	(void)state;
	assert_ok(mojo_io_memory(&disk));
	assert_ok(mojo_io_record(disk, -1, &io));
	assert_ok(io->ops->open(io, "a", MOJO_IO_WRITE | MOJO_IO_CREATE, &file));
	assert_ok(io->ops->flush_dir(io, ""));
	assert_ok(io->ops->allocate(file, 0, 16384));
	assert_ok(io->ops->flush(file));
	put_at(io, file, 0, 4096, 1);
	put_through(io, file, 4096, 4096, 2);          /* beside it */
	put_through(io, file, 0, 4096, 3);             /* over what waits for a flush */
	assert_ok(io->ops->prepare(file, 8192, 4096)); /* which no flush has made durable */
	put_through(io, file, 8192, 4096, 4);
	put_at(io, file, 8192, 4096, 5);       /* over what went through */
	put_through(io, file, 20480, 4096, 6); /* behind the end */
	mojo_io_memory_fail(disk, 0, -EIO, false);
	uint8_t other[4096] = { 9 };
	struct iovec vector = { other, sizeof(other) };
	assert_int_equal(io->ops->write_through(file, &vector, 1, 12288), -EIO); /* may be there or not */
	io->ops->close(file);
	mojo_io_record_bytes(io, &bytes, &length);
	struct power *power = power_new(bytes, length, NULL, NULL, NULL);
	while (power_next(power))
		;
	assert_true(power_choices(power) < 1000);
	assert_int_equal(seen_in_block(power, "a", 0, 1 << 0 | 1 << 1 | 1 << 3, true), 1 << 3);
	assert_int_equal(seen_in_block(power, "a", 1, 1 << 0 | 1 << 2, true), 1 << 2);
	assert_int_equal(seen_in_block(power, "a", 2, 1 << 0 | 1 << 4 | 1 << 5, false), 1 << 4 | 1 << 5);
	assert_int_equal(seen_in_block(power, "a", 3, 1 << 0, false), 1 << 0);
	assert_int_equal(seen_in_block(power, "a", 5, 1 << 0 | 1 << 6, true), 1 << 6);
	power_free(power);
	/* One moment earlier than its END it is as any other write. */
	size_t last = 0, offset = 0;
	struct mojo_io_event event;
	while (mojo_io_event_next(bytes, length, &offset, &event) == 0)
		if (event.kind == MOJO_IO_EVENT_WRITE && event.offset == 4096)
			last = offset;
	power = power_new(bytes, last, NULL, NULL, NULL);
	while (power_next(power))
		;
	assert_int_equal(seen_in_block(power, "a", 1, 1 << 0 | 1 << 2, false), 1 << 0 | 1 << 2);
	power_free(power);
	mojo_io_free(io);
	mojo_io_free(disk);
}

/* A disk on which somebody writes while a flush is under way. */
struct busy {
	struct mojo_io *front; /* behind the recorder, this time */
	struct mojo_io *recorder;
	struct mojo_io_file *file;
	int (*flush)(struct mojo_io_file *file);
};

static struct busy *the_busy; /* a flush is told only of the file */

static int busy_flush(struct mojo_io_file *file)
{
	struct busy *busy = the_busy;
	the_busy = NULL;
	if (busy)
		put_at(busy->recorder, busy->file, 4096, 4096, 6);
	return busy ? busy->flush(file) : 0;
}

static void what_is_written_during_a_flush_may_be_lost(void **state)
{
	struct mojo_io *disk, *left;
	struct busy busy = { .file = NULL };
	const void *bytes;
	size_t length, got;
	void *data;
	(void)state;
	assert_ok(mojo_io_memory(&disk));
	busy.front = front_new(disk, 1);
	busy.flush = disk->ops->flush;
	((struct front *)busy.front)->ops.flush = busy_flush;
	assert_ok(mojo_io_record(busy.front, -1, &busy.recorder));
	assert_ok(busy.recorder->ops->open(busy.recorder, "a", MOJO_IO_WRITE | MOJO_IO_CREATE, &busy.file));
	assert_ok(busy.recorder->ops->flush_dir(busy.recorder, ""));
	put_at(busy.recorder, busy.file, 0, 4096, 5);
	the_busy = &busy;
	assert_ok(busy.recorder->ops->flush(busy.file));
	busy.recorder->ops->close(busy.file);
	mojo_io_record_bytes(busy.recorder, &bytes, &length);
	struct power *power = power_new(bytes, length, NULL, NULL, NULL);
	while (power_next(power))
		;
	for (uint64_t seed = 0; seed < 2; seed++) {
		left = power_build_random(power, seed);
		assert_ok(mojo_io_memory_load(left, "a", &data, &got));
		assert_int_equal(got, seed ? 4096 : 8192);
		free(data);
		mojo_io_free(left);
	}
	power_free(power);
	mojo_io_free(busy.recorder);
	mojo_io_free(busy.front);
	mojo_io_free(disk);
}

#define THREADS 4u

struct worker {
	struct mojo_io *io;
	unsigned number;
	pthread_t thread;
};

static void *record_work(void *arg)
{
	struct worker *worker = arg;
	struct mojo_io *io = worker->io;
	struct dice dice = { worker->number };
	struct mojo_io_file *file;
	char path[32];
	snprintf(path, sizeof(path), "chunks/%u", worker->number);
	if (io->ops->open(io, path, MOJO_IO_WRITE | MOJO_IO_CREATE, &file) != 0)
		return (void *)"cannot open";
	for (unsigned i = 0; i < 300; i++) {
		uint8_t buf[3000];
		bench_fill(buf, sizeof(buf), worker->number * 1000 + i);
		struct iovec vector = { buf, 1 + dice_below(&dice, sizeof(buf)) };
		if (io->ops->write(file, &vector, 1, dice_below(&dice, 100000)) != 0 ||
		    (i % 10 == 0 && io->ops->flush(file) != 0) ||
		    (i % 50 == 0 && io->ops->punch(file, dice_below(&dice, 50000), 5000) != 0) ||
		    (i % 90 == 0 && mojo_io_record_mark(io, worker->number * 1000 + i) != 0))
			return (void *)"an operation failed";
	}
	io->ops->close(file);
	return NULL;
}

static void threads_are_recorded_whole(void **state)
{
	struct worker workers[THREADS];
	struct mojo_io *disk, *io;
	FILE *file = tmpfile();
	(void)state;
	assert_non_null(file);
	assert_ok(mojo_io_memory(&disk));
	assert_ok(mojo_io_record(disk, fileno(file), &io));
	assert_ok(io->ops->mkdir(io, "chunks"));
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .io = io, .number = i };
		assert_ok(pthread_create(&workers[i].thread, NULL, record_work, &workers[i]));
	}
	for (unsigned i = 0; i < THREADS; i++) {
		void *result;
		assert_ok(pthread_join(workers[i].thread, &result));
		assert_null(result);
	}
	assert_ok(mojo_io_record_status(io));
	long length = ftell(file) >= 0 && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
	assert_true(length > 0);
	uint8_t *bytes = malloc((size_t)length);
	assert_non_null(bytes);
	rewind(file);
	assert_int_equal(fread(bytes, 1, (size_t)length, file), length);

	struct mojo_io_event event;
	size_t offset = 0;
	unsigned begun = 0, ended = 0, marks = 0;
	int err;
	while (!(err = mojo_io_event_next(bytes, (size_t)length, &offset, &event))) {
		begun += event.operation && event.kind != MOJO_IO_EVENT_END;
		ended += event.kind == MOJO_IO_EVENT_END;
		marks += event.kind == MOJO_IO_EVENT_MARK;
	}
	assert_int_equal(err, -ENOENT);
	assert_int_equal(offset, length);
	assert_int_equal(begun, ended);
	assert_int_equal(marks, THREADS * 4);
	struct power *power = power_new(bytes, (size_t)length, NULL, NULL, NULL);
	while (power_next(power))
		;
	struct mojo_io *whole = power_build_random(power, 0);
	assert_same_disk(disk, whole);
	mojo_io_free(whole);
	power_free(power);
	mojo_io_free(io);
	mojo_io_free(disk);
	free(bytes);
	fclose(file);
}

static void a_recording_that_fails_changes_nothing_else(void **state)
{
	struct mojo_io *disk, *io;
	struct mojo_io_file *file;
	FILE *full = fopen("/dev/full", "w");
	int fds[2];
	(void)state;
	assert_ok(mojo_io_memory(&disk));
	if (full) {
		assert_errno(mojo_io_record(disk, fileno(full), &io), ENOSPC);
		fclose(full);
	}
	assert_ok(pipe(fds));
	assert_ok(mojo_io_record(disk, fds[1], &io));
	close(fds[1]);
	assert_ok(io->ops->open(io, "a", MOJO_IO_WRITE | MOJO_IO_CREATE, &file));
	put_at(io, file, 0, 100, 1);
	assert_ok(io->ops->flush(file));
	io->ops->close(file);
	assert_errno(mojo_io_record_status(io), EBADF);
	assert_errno(mojo_io_record_mark(io, 1), EBADF);
	close(fds[0]);
	void *data;
	size_t length;
	assert_ok(mojo_io_memory_load(disk, "a", &data, &length));
	assert_int_equal(length, 100);
	free(data);
	mojo_io_free(io);
	mojo_io_free(disk);
}

static void a_broken_recording_is_told(void **state)
{
	struct mojo_io *disk, *io;
	struct mojo_io_event event;
	const void *bytes;
	size_t length;
	(void)state;
	assert_ok(mojo_io_memory(&disk));
	assert_ok(mojo_io_record(disk, -1, &io));
	assert_ok(io->ops->mkdir(io, "chunks"));
	assert_errno(io->ops->rename(io, "none", "other"), ENOENT);
	mojo_io_record_bytes(io, &bytes, &length);
	for (size_t cut = 0; cut <= length; cut++) {
		size_t offset = 0;
		int err;
		while (!(err = mojo_io_event_next(bytes, cut, &offset, &event)))
			;
		assert_int_equal(err, -ENOENT);
		assert_true(offset <= cut);
	}
	uint8_t *wrong = malloc(length);
	assert_non_null(wrong);
	for (size_t at = 0; at < length; at++) { /* nothing is read that is not there */
		size_t offset = 0;
		memcpy(wrong, bytes, length);
		wrong[at] ^= 0xff;
		while (!mojo_io_event_next(wrong, length, &offset, &event))
			assert_true(offset <= length);
	}
	free(wrong);
	mojo_io_free(io);
	mojo_io_free(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_broken_recording_is_told),
		cmocka_unit_test(a_recording_that_fails_changes_nothing_else),
		cmocka_unit_test(threads_are_recorded_whole),
		cmocka_unit_test(flushed_is_there_and_the_rest_may_be),
		cmocka_unit_test(what_went_through_is_there_and_nothing_else_for_it),
		cmocka_unit_test(what_is_written_during_a_flush_may_be_lost),
		cmocka_unit_test(whole_recording_is_the_disk),
		cmocka_unit_test(an_io_that_drops_flushes_shows_losses),
		cmocka_unit_test(a_wrong_model_is_noticed),
		cmocka_unit_test(threads_that_sync_lose_nothing),
		cmocka_unit_test(every_state_of_short_work),
		cmocka_unit_test(every_two_losses_of_two_groups),
		cmocka_unit_test(states_of_long_work),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
