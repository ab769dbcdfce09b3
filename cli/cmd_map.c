/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd.h"
#include "output.h"
#include "target.h"

enum { KEY_SUMMARY = 0x200, KEY_DUMP };

struct arguments {
	struct cmd_common common;
	const char *path;
	const char *name; /* NULL: none */
	uint32_t version; /* 0: not given */
	bool has_pages;
	uint64_t first;
	uint64_t last;
	bool summary;
	bool dump;
};

static void set_pages(struct arguments *arguments, const struct argp_state *state, const char *text)
{
	char *first = strdup(text), *dash;

	if (arguments->has_pages)
		argp_error(state, "--page and --pages may be given once");
	if (!first)
		argp_failure(state, CMD_FAILED, ENOMEM, "--pages");
	dash = strchr(first, '-');
	if (dash)
		*dash++ = '\0';
	arguments->first = cmd_number_value(state, "--pages", first);
	/* "12-" is from there to the end. */
	arguments->last = !dash ? arguments->first : *dash ? cmd_number_value(state, "--pages", dash) : UINT64_MAX;
	if (arguments->last < arguments->first)
		argp_error(state, "--pages: %s ends before it begins", text);
	arguments->has_pages = true;
	free(first);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case ARGP_KEY_INIT:
		state->child_inputs[0] = &arguments->common;
		return 0;
	case 'V':
		arguments->version = cmd_version_value(state, arg);
		return 0;
	case 'p':
		set_pages(arguments, state, arg);
		return 0;
	case KEY_SUMMARY:
		arguments->summary = true;
		return 0;
	case KEY_DUMP:
		arguments->dump = true;
		return 0;
	case ARGP_KEY_ARG:
		if (!arguments->path)
			arguments->path = arg;
		else if (!arguments->name)
			arguments->name = arg;
		else
			argp_error(state, "\"%s\" is one argument too many", arg);
		return 0;
	case ARGP_KEY_END:
		if (!arguments->path)
			argp_error(state, "the store or mount, and the file, are missing");
		if (arguments->dump && !arguments->has_pages)
			argp_error(state, "--dump wants to know which pages: --page P, or --pages FIRST-LAST");
		if (arguments->dump && arguments->summary)
			argp_error(state, "--dump and --summary cannot be had together");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static const struct argp_option options[] = {
	{ "version", 'V', "VERSION", 0, "The file as it was in this version; the active one unless set", 0 },
	{ "pages", 'p', "FIRST[-[LAST]]", 0, "Only these pages; the first page is 0", 0 },
	{ "page", 'p', NULL, OPTION_ALIAS, NULL, 0 },
	{ "summary", KEY_SUMMARY, NULL, 0, "Only how many pages each version wrote, and how they lie in the chunks",
	  0 },
	{ "dump", KEY_DUMP, NULL, 0, "The bytes of the pages, too", 0 },
	{ 0 },
};

static const struct argp_child children[] = { { &cmd_common_argp, 0, NULL, 0 }, { 0 } };

static const struct argp argp = {
	.options = options,
	.parser = parse,
	.args_doc = "PATH FILE\nFILE-IN-MOUNT",
	.doc = "Show the slot map of a file: for each page that has content, its address in the store, the chunk and the "
	       "block in it that this means, the version that wrote it, and the checksum."
	       "\v"
	       "PATH is the directory of a store, a mount point, or a directory inside a mount; FILE is relative to it, "
	       "and may begin with @vN to name a version: @v3/a.db. For a file in a mount its path alone will do. A page "
	       "that is not listed is a hole and reads as zeros. A page whose address is \"-\" is in the daemon's memory "
	       "and not yet in a chunk. What the kernel still holds of a file that is being written is not seen here.",
	.children = children,
};

/* ---- the summary ---------------------------------------------------------------------------- */

struct tally_entry {
	uint64_t key;
	uint64_t count;
};

/* How often each key came; sorted by key. */
struct tally {
	struct tally_entry *entries; /* owned */
	size_t count;
	size_t capacity;
};

static int tally_add(struct tally *tally, uint64_t key)
{
	size_t low = 0, high = tally->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (tally->entries[middle].key < key)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < tally->count && tally->entries[low].key == key) {
		tally->entries[low].count++;
		return 0;
	}
	if (tally->count == tally->capacity) {
		size_t capacity = tally->capacity ? 2 * tally->capacity : 16;
		struct tally_entry *entries = reallocarray(tally->entries, capacity, sizeof(*entries));

		if (!entries)
			return -ENOMEM;
		tally->entries = entries;
		tally->capacity = capacity;
	}
	memmove(&tally->entries[low + 1], &tally->entries[low], (tally->count - low) * sizeof(*tally->entries));
	tally->entries[low] = (struct tally_entry){ .key = key, .count = 1 };
	tally->count++;
	return 0;
}

struct summary {
	struct tally versions;
	struct tally chunks;
	uint64_t pages;
	uint64_t in_memory;
	uint64_t extents; /* runs of pages that lie one behind the other in the file and in the store */
	struct mojo_map_entry previous;
};

static bool is_in_memory(const struct mojo_map_entry *entry)
{
	return entry->version == 0 && entry->address == 0;
}

static int summarise(struct summary *summary, const struct mojo_map_entry *entry, uint64_t blocks_per_chunk)
{
	const struct mojo_map_entry *previous = &summary->previous;
	int error;

	summary->pages++;
	if (is_in_memory(entry)) {
		summary->in_memory++;
		summary->previous = *entry;
		return 0;
	}
	if (summary->pages == 1 || is_in_memory(previous) || entry->page != previous->page + 1 ||
	    entry->address != previous->address + 1 || entry->address % blocks_per_chunk == 0)
		summary->extents++;
	summary->previous = *entry;
	error = tally_add(&summary->versions, entry->version);
	if (!error)
		error = tally_add(&summary->chunks, entry->address / blocks_per_chunk);
	if (error)
		complain("out of memory");
	return error;
}

static void print_summary(const struct summary *summary)
{
	printf("%" PRIu64 " pages with content in %" PRIu64 " extents, in %zu chunks", summary->pages, summary->extents,
	       summary->chunks.count);
	if (summary->in_memory)
		printf("; %" PRIu64 " of them still in memory", summary->in_memory);
	printf("\n\n%10s  %12s\n", "VERSION", "PAGES");
	for (size_t i = 0; i < summary->versions.count; i++)
		printf("%10" PRIu64 "  %12" PRIu64 "\n", summary->versions.entries[i].key,
		       summary->versions.entries[i].count);
	printf("\n%10s  %12s\n", "CHUNK", "PAGES");
	for (size_t i = 0; i < summary->chunks.count; i++)
		printf("  %08" PRIx64 "  %12" PRIu64 "\n", summary->chunks.entries[i].key,
		       summary->chunks.entries[i].count);
}

static void print_tally_json(const char *name, const char *key, const struct tally *tally)
{
	printf(",\"%s\":[", name);
	for (size_t i = 0; i < tally->count; i++)
		printf("%s{\"%s\":%" PRIu64 ",\"pages\":%" PRIu64 "}", i ? "," : "", key, tally->entries[i].key,
		       tally->entries[i].count);
	putchar(']');
}

static void print_summary_json(const struct summary *summary)
{
	printf(",\"summary\":{\"pages\":%" PRIu64 ",\"in_memory\":%" PRIu64 ",\"extents\":%" PRIu64, summary->pages,
	       summary->in_memory, summary->extents);
	print_tally_json("versions", "version", &summary->versions);
	print_tally_json("chunks", "chunk", &summary->chunks);
	putchar('}');
}

/* ---- entries -------------------------------------------------------------------------------- */

struct mapper {
	struct target *target;
	const struct arguments *arguments;
	const struct target_file *file;
	uint64_t blocks_per_chunk;
	uint64_t printed;
	unsigned char *page; /* owned; room for one page, with --dump */
	struct summary summary;
};

/* As `hexdump -C`; @offset is the file's. Lines that repeat the one before are a star. */
static void hexdump(uint64_t offset, const unsigned char *bytes, size_t length)
{
	bool is_starred = false;

	for (size_t at = 0; at < length; at += 16) {
		size_t size = length - at < 16 ? length - at : 16;

		if (at > 0 && size == 16 && at + 16 < length && memcmp(bytes + at, bytes + at - 16, 16) == 0) {
			if (!is_starred)
				puts("*");
			is_starred = true;
			continue;
		}
		is_starred = false;
		printf("%010" PRIx64 " ", offset + at);
		for (size_t i = 0; i < 16; i++) {
			if (i < size)
				printf(i == 8 ? "  %02x" : " %02x", bytes[at + i]);
			else
				printf(i == 8 ? "    " : "   ");
		}
		printf("  |");
		for (size_t i = 0; i < size; i++)
			putchar(bytes[at + i] >= 0x20 && bytes[at + i] < 0x7f ? bytes[at + i] : '.');
		puts("|");
	}
}

static int read_page(struct mapper *mapper, uint64_t page, size_t *ret_length)
{
	uint32_t page_size = target_page_size(mapper->target);

	return target_read(mapper->target, mapper->file, page * page_size, mapper->page, page_size, ret_length);
}

static int print_entry(struct mapper *mapper, const struct mojo_map_entry *entry)
{
	uint64_t chunk = entry->address / mapper->blocks_per_chunk, block = entry->address % mapper->blocks_per_chunk;
	size_t length;
	int error;

	if (mapper->arguments->dump && mapper->printed > 0)
		putchar('\n');
	if (mapper->arguments->dump || mapper->printed == 0)
		printf("%12s  %14s  %-8s  %8s  %8s  %s\n", "PAGE", "ADDRESS", "CHUNK", "BLOCK", "VERSION", "CHECKSUM");
	mapper->printed++;
	if (is_in_memory(entry))
		printf("%12" PRIu64 "  %14s  %-8s  %8s  %8s  %s\n", entry->page, "-", "-", "-", "-", "-");
	else
		printf("%12" PRIu64 "  %14" PRIu64 "  %08" PRIx64 "  %8" PRIu64 "  %8" PRIu32 "  %08" PRIx32 "\n",
		       entry->page, entry->address, chunk, block, entry->version, entry->checksum);
	if (!mapper->arguments->dump)
		return 0;
	error = read_page(mapper, entry->page, &length);
	if (!error)
		hexdump(entry->page * target_page_size(mapper->target), mapper->page, length);
	return error;
}

static int print_entry_json(struct mapper *mapper, const struct mojo_map_entry *entry)
{
	size_t length = 0;
	int error;

	if (mapper->arguments->dump) {
		error = read_page(mapper, entry->page, &length);
		if (error)
			return error;
	}
	printf("%s{\"page\":%" PRIu64, mapper->printed > 0 ? "," : "", entry->page);
	mapper->printed++;
	if (is_in_memory(entry))
		printf(",\"address\":null,\"chunk\":null,\"block\":null,\"version\":null,\"checksum\":null");
	else
		printf(",\"address\":%" PRIu64 ",\"chunk\":%" PRIu64 ",\"block\":%" PRIu64 ",\"version\":%" PRIu32
		       ",\"checksum\":%" PRIu32,
		       entry->address, entry->address / mapper->blocks_per_chunk,
		       entry->address % mapper->blocks_per_chunk, entry->version, entry->checksum);
	if (mapper->arguments->dump) {
		printf(",\"content_hex\":\"");
		for (size_t i = 0; i < length; i++)
			printf("%02x", mapper->page[i]);
		putchar('"');
	}
	putchar('}');
	return 0;
}

static int take_entry(struct mapper *mapper, const struct mojo_map_entry *entry)
{
	if (mapper->arguments->summary)
		return summarise(&mapper->summary, entry, mapper->blocks_per_chunk);
	if (mapper->arguments->common.json)
		return print_entry_json(mapper, entry);
	return print_entry(mapper, entry);
}

static int walk(struct mapper *mapper)
{
	uint64_t next = mapper->arguments->first, last = mapper->arguments->last;
	bool goes_on = true;
	int error = 0;

	while (goes_on && !error) {
		struct mojo_map_entry *entries;
		size_t count;

		error = target_map(mapper->target, mapper->file, next, &entries, &count);
		if (error)
			return error;
		goes_on = count > 0;
		for (size_t i = 0; i < count && !error; i++) {
			/* An answer that goes backward would keep us here for ever. */
			if (entries[i].page > last || entries[i].page < next) {
				goes_on = false;
				break;
			}
			next = entries[i].page + 1;
			error = take_entry(mapper, &entries[i]);
		}
		free(entries);
	}
	return error;
}

static void print_header(const struct mapper *mapper)
{
	const struct target_file *file = mapper->file;
	char size[OUTPUT_BYTES_SIZE];

	print_escaped(stdout, file->path, strlen(file->path), true);
	printf(": version %" PRIu32 "%s, ", file->version, file->active ? " (active)" : "");
	if (file->has_bucket)
		printf("bucket %" PRIu32 ", ", file->attr.bucket);
	printf("%s, pages of %" PRIu32 " bytes\n\n", format_bytes(file->attr.size, size),
	       target_page_size(mapper->target));
}

static void print_header_json(const struct mapper *mapper)
{
	const struct target_file *file = mapper->file;

	putchar('{');
	print_json_member("path", file->path);
	printf(",\"version\":%" PRIu32 ",\"active\":%s,\"bucket\":", file->version, file->active ? "true" : "false");
	if (file->has_bucket)
		printf("%" PRIu32, file->attr.bucket);
	else
		printf("null");
	printf(",\"size\":%" PRIu64 ",\"page_size\":%" PRIu32 ",\"blocks_per_chunk\":%" PRIu64, file->attr.size,
	       target_page_size(mapper->target), mapper->blocks_per_chunk);
	if (!mapper->arguments->summary)
		printf(",\"map\":[");
}

static int map_file(struct mapper *mapper)
{
	const struct arguments *arguments = mapper->arguments;
	int error;

	if (arguments->dump) {
		mapper->page = malloc(target_page_size(mapper->target));
		if (!mapper->page) {
			complain("out of memory");
			return -ENOMEM;
		}
	}
	if (arguments->common.json)
		print_header_json(mapper);
	else
		print_header(mapper);
	error = walk(mapper);
	if (arguments->common.json) {
		if (arguments->summary)
			print_summary_json(&mapper->summary);
		puts(arguments->summary ? "}" : "]}");
	} else if (!error && arguments->summary) {
		print_summary(&mapper->summary);
	} else if (!error && mapper->printed == 0) {
		puts(arguments->has_pages ? "no content there: what is within the file reads as zeros"
					  : "no page has content");
	}
	free(mapper->summary.versions.entries);
	free(mapper->summary.chunks.entries);
	free(mapper->page);
	return error;
}

static int run_on(struct target *target, const struct arguments *arguments)
{
	struct mapper mapper = { .target = target, .arguments = arguments };
	struct target_file file;
	int error;

	error = target_find(target, arguments->version, arguments->name, &file);
	if (error)
		return error;
	if (S_ISREG(file.attr.mode)) {
		mapper.file = &file;
		mapper.blocks_per_chunk = target_blocks_per_chunk(target);
		error = map_file(&mapper);
	} else {
		complain("%s%s%s: is %s; only files have pages%s", arguments->path, arguments->name ? ": " : "",
			 arguments->name ? arguments->name : "",
			 S_ISDIR(file.attr.mode)   ? "a directory"
			 : S_ISLNK(file.attr.mode) ? "a symbolic link"
						   : "no ordinary file",
			 arguments->name ? "" : ": name one, as in: mojofs map PATH FILE");
		error = -EINVAL;
	}
	target_file_free(&file);
	return error;
}

static int run(int argc, char **argv)
{
	struct arguments arguments = { .last = UINT64_MAX };
	struct target *target;
	int error;

	cmd_parse(&argp, argc, argv, &arguments);
	if (target_open(arguments.path, false, &target) != 0)
		return CMD_FAILED;
	error = run_on(target, &arguments);
	if (target_close(target) != 0 || error)
		return CMD_FAILED;
	return CMD_OK;
}

const struct command cmd_map = { "map", "Show where the pages of a file are", run };
