/* SPDX-License-Identifier: MIT */
#include "finding.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "namespace.h"

#define TEXT_BYTES  512u
#define PENDING_MAX 4096u /* then all are told, versions or not */
#define DEPTH_MAX   100000u

struct mojo_pending {
	struct mojo_finding finding; /* text and path are owned */
};

const char *mojo_finding_name(enum mojo_finding_kind kind)
{
	static const char *const names[] = {
		[MOJO_FOUND_ROOT] = "root",       [MOJO_FOUND_LOG] = "log",       [MOJO_FOUND_CHUNK] = "chunk",
		[MOJO_FOUND_INDEX] = "index",     [MOJO_FOUND_NAME] = "name",     [MOJO_FOUND_COUNT] = "count",
		[MOJO_FOUND_ADDRESS] = "address", [MOJO_FOUND_SHARED] = "shared", [MOJO_FOUND_DEAD] = "dead",
		[MOJO_FOUND_LEAK] = "leak",       [MOJO_FOUND_SPACE] = "space",   [MOJO_FOUND_PAGE] = "page",
		[MOJO_FOUND_LOST] = "lost",
	};
	return (unsigned)kind < MOJO_FOUND_KINDS ? names[kind] : "unknown";
}

static void tell(struct mojo_sink *sink, const struct mojo_finding *finding)
{
	if (finding->severity == MOJO_ERROR)
		sink->result.errors++;
	else if (finding->severity == MOJO_WARNING)
		sink->result.warnings++;
	if (finding->severity != MOJO_INFO)
		sink->kinds[finding->kind]++;
	if (!sink->quiet && sink->options->finding)
		sink->options->finding(sink->options->arg, finding);
}

static void free_pending(struct mojo_pending *p)
{
	free((char *)(uintptr_t)p->finding.text);
	free((char *)(uintptr_t)p->finding.path);
}

void mojo_sink_free(struct mojo_sink *sink)
{
	for (size_t i = 0; i < sink->pending_count; i++)
		free_pending(&sink->pending[i]);
	free(sink->pending);
	sink->pending = NULL;
	sink->pending_count = sink->pending_capacity = 0;
}

void mojo_sink_next(struct mojo_sink *sink, uint32_t version)
{
	size_t kept = 0;
	bool all = version == 0 || sink->pending_count > PENDING_MAX;
	for (size_t i = 0; i < sink->pending_count; i++) {
		struct mojo_pending *p = &sink->pending[i];
		if (!all && p->finding.last_version == version) {
			sink->pending[kept++] = *p;
			continue;
		}
		tell(sink, &p->finding);
		free_pending(p);
	}
	sink->pending_count = kept;
}

static bool same(const struct mojo_finding *a, const struct mojo_finding *b)
{
	return a->kind == b->kind && a->bucket == b->bucket && a->first_page == b->first_page && a->pages == b->pages &&
	       a->address == b->address && strcmp(a->text, b->text) == 0;
}

/* Keeps a copy back; false for want of memory. */
static bool keep(struct mojo_sink *sink, const struct mojo_finding *finding)
{
	for (size_t i = 0; i < sink->pending_count; i++) {
		if (same(&sink->pending[i].finding, finding)) {
			sink->pending[i].finding.last_version = finding->version;
			return true;
		}
	}
	if (sink->pending_count == sink->pending_capacity) {
		size_t capacity = sink->pending_capacity ? sink->pending_capacity * 2 : 64;
		struct mojo_pending *grown = realloc(sink->pending, capacity * sizeof(*grown));
		if (!grown)
			return false;
		sink->pending = grown;
		sink->pending_capacity = capacity;
	}
	struct mojo_pending p = { .finding = *finding };
	p.finding.last_version = finding->version;
	p.finding.text = strdup(finding->text);
	p.finding.path = finding->path ? strdup(finding->path) : NULL;
	if (!p.finding.text) {
		free_pending(&p);
		return false;
	}
	sink->pending[sink->pending_count++] = p;
	return true;
}

void mojo_found(struct mojo_sink *sink, const struct mojo_finding *finding, const char *format, ...)
{
	char text[TEXT_BYTES];
	struct mojo_finding f = *finding;
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	f.text = text;
	if (f.last_version < f.version)
		f.last_version = f.version;
	tell(sink, &f);
}

void mojo_found_in(struct mojo_sink *sink, const struct mojo_finding *finding, const char *format, ...)
{
	char text[TEXT_BYTES];
	struct mojo_finding f = *finding;
	va_list ap;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	f.text = text;
	f.last_version = f.version;
	if (!keep(sink, &f))
		tell(sink, &f);
}

int mojo_sink_progress(struct mojo_sink *sink, const char *what, uint64_t done, uint64_t total)
{
	if (!sink->options->progress || sink->options->progress(sink->options->arg, what, done, total))
		return 0;
	return -ECANCELED;
}

const char *mojo_path_in(const struct mojo_tree *tree, uint32_t bucket, char *buf, size_t size)
{
	size_t at = size - 1; /* the path grows from the end of the buffer */
	buf[at] = '\0';
	for (unsigned depth = 0; bucket != MOJO_ROOT_BUCKET; depth++) {
		struct mojo_inode inode;
		struct mojo_cell cell;
		uint8_t key[MOJO_KEY_BYTES_MAX];
		if (mojo_inode_get(tree, bucket, &inode) != 0 || !inode.attr.parent || depth > DEPTH_MAX)
			return NULL;
		key[0] = MOJO_KEY_ENTRY;
		mojo_put_be32(key + 1, inode.attr.parent);
		mojo_put_be64(key + 5, inode.cookie);
		if (mojo_tree_get(tree, key, 13, &cell) != 0 || cell.value_length <= 8)
			return NULL;
		size_t length = cell.value_length - 8;
		bool slash = buf[at] != '\0';
		if (mojo_name_check((const char *)cell.value + 8, length) != 0 || at < length + slash)
			return NULL;
		if (slash)
			buf[--at] = '/';
		at -= length;
		memcpy(buf + at, cell.value + 8, length);
		bucket = inode.attr.parent;
	}
	memmove(buf, buf + at, size - at);
	return buf;
}
