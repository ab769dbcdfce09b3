/* SPDX-License-Identifier: MIT */
/*
 * config.h - settings of mojofs-fuse: by name, from the command line and from a file.
 *
 * A setting has one name everywhere ("cache-size"; "cache_size" is taken, too), given as --name=value, as
 * -o name=value, or as "name = value" in a section of the file. The command line wins over the file.
 * No function keeps state; for one thread.
 */
#ifndef FUSE_CONFIG_H
#define FUSE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_FILE     "/etc/mojofs.conf"
#define CONFIG_WHY_SIZE 512 /* bytes that hold any message, but for the file's path in front of it */

enum config_key {
	CONFIG_PAGE_SIZE,
	CONFIG_PAGES_PER_SLOT,
	CONFIG_CHUNK_SIZE,
	CONFIG_CACHE_SIZE,
	CONFIG_CHECKPOINT_SIZE,
	CONFIG_COMMIT_INTERVAL,
	CONFIG_LIST_VERSIONS,
	CONFIG_DURABLE_UNLINK,
	CONFIG_SETTLE,
	CONFIG_ORDERED_JOURNALS,
	CONFIG_VERIFY,
	CONFIG_KEYS
};

struct config {
	/* Of a store that is made; 0: the engine's default. */
	uint32_t page_size; /* bytes */
	uint32_t pages_per_slot;
	uint64_t chunk_bytes;
	/* Of how it is run; 0: the engine's default. */
	uint64_t cache_bytes;
	uint64_t checkpoint_bytes;
	uint32_t commit_seconds;
	/* Of what the mount shows, and promises. */
	bool list_versions;
	bool durable_unlink;
	bool settle;
	bool ordered_journals;
	bool verify;
	bool given[CONFIG_KEYS]; /* by the command line */
};

/* config_defaults - what holds without any setting. */
void config_defaults(struct config *ret_config);

/* config_find - the key called @name, of which @length bytes count; CONFIG_KEYS if there is none. */
enum config_key config_find(const char *name, size_t length);
const char *config_name(enum config_key key);

/* config_is_switch - is its value yes or no, and may be left out for yes? */
bool config_is_switch(enum config_key key);

/*
 * config_set - set one from the command line; the last one given holds.
 * @value: NULL means "yes" for a switch, and nothing else
 * @ret_why: CONFIG_WHY_SIZE bytes; on failure what is wrong with @value
 * Errors: -EINVAL.
 */
int config_set(struct config *config, enum config_key key, const char *value, char *ret_why);

/*
 * config_read - read a file; what the command line gave before stays.
 * @must_exist: an absent file is an error
 * @ret_why: @size bytes; on failure one line that names file and line
 * Errors: -EINVAL (its content), those of open(2).
 */
int config_read(struct config *config, const char *path, bool must_exist, char *ret_why, size_t size);

#endif
