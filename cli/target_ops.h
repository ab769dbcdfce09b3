/* SPDX-License-Identifier: MIT */
/*
 * target_ops.h - what target.c shares with the two ways to reach a store: offline.c opens it with the
 * engine, mounted.c asks the daemon that has it. Nobody else includes this.
 */
#ifndef CLI_TARGET_OPS_H
#define CLI_TARGET_OPS_H

#include "target.h"

/* As the functions of target.h; find gets @file with version, active and path filled in, and adds the rest.
 * close frees what is theirs, the struct itself included, but not the strings of struct target. */
struct target_ops {
	int (*info)(struct target *target, struct mojo_info *ret_info, struct report_counter **ret_counters,
		    size_t *ret_count);
	int (*versions)(struct target *target, uint32_t from, struct mojo_version_info **ret_infos, size_t *ret_count);
	int (*commit)(struct target *target, const char *message, size_t length, unsigned wait_seconds,
		      uint32_t *ret_version);
	int (*verify)(struct target *target, uint32_t version);
	int (*find)(struct target *target, struct target_file *file);
	int (*list)(struct target *target, const struct target_file *dir, struct target_entry **ret_entries,
		    size_t *ret_count);
	int (*readlink)(struct target *target, const struct target_file *file, char **ret_text);
	int (*map)(struct target *target, const struct target_file *file, uint64_t first,
		   struct mojo_map_entry **ret_entries, size_t *ret_count);
	int (*read)(struct target *target, const struct target_file *file, uint64_t offset, void *buf, size_t length,
		    size_t *ret_length);
	int (*close)(struct target *target);
};

/* What both kinds have; the first member of their structs. The strings are owned by target.c. */
struct target {
	const struct target_ops *ops;
	char *path;            /* as the user gave it */
	char *store;           /* the store's directory, canonical */
	char *mount;           /* where it is mounted; NULL offline */
	char *inside;          /* what of the path lies below the mount's root: "", "sub", "@v3/sub" */
	long pid;              /* of the daemon; 0 offline */
	struct mojo_info info; /* as it was when opened: geometry, active version */
};

/*
 * offline_open - with the engine. Sets ops and info.
 * @ret_refusal: on -EBUSY (another process has the store) and -EACCES (this user may not open it) what the
 *               engine says about it, or NULL; free(). Nothing is printed then: there may be a mount.
 */
int offline_open(const char *path, const char *store, bool writable, struct target **ret_target, char **ret_refusal);

/* mounted_open - through the mount at @mount. Sets ops, info, store (owned by the caller) and pid. */
int mounted_open(const char *mount, struct target **ret_target);

/* mounted_root - is the root of a mojofs mount at @path? 1, 0, or -errno if the mount there does not answer
 * (-ENOTCONN: its daemon is gone; -EACCES: it is another user's). Prints nothing. */
int mounted_root(const char *path);

/* mounted_store - canonical path of the store that is mounted at @path; free(). NULL if that is no mojofs
 * mount, or it does not answer. */
char *mounted_store(const char *path);

/* mounted_complain - say why the mount at @path cannot be used; returns @error, negative. */
int mounted_complain(const char *path, int error);

/* target_list_add - append an entry with a copy of @name. -ENOMEM. */
int target_list_add(struct target_entry **entries, size_t *count, size_t *capacity, const char *name,
		    const struct mojo_attr *attr, bool has_bucket);

#endif
