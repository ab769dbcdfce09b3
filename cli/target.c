/* SPDX-License-Identifier: MIT */
/*
 * Which of the two ways leads to the store is decided here, once, when the target is opened:
 *
 *     PATH lies in a mojofs mount  ---------------------------------------> mounted.c
 *     else it is a directory, and the engine opens it  -------------------> offline.c
 *     else the engine says that some process has it: is there a mount?  --> mounted.c, or refuse
 *
 * The file system type is asked before the attribute: tools that copy attributes may leave user.mojofs.*
 * on files of the host.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "mountinfo.h"
#include "output.h"
#include "target.h"
#include "target_ops.h"

#define NAME_PREFIX "@v"

/* ---- opening -------------------------------------------------------------------------------- */

/* Cut the last component off @path, absolute; false when it is "/" already. */
static bool go_up(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash || strcmp(path, "/") == 0)
		return false;
	slash[slash == path ? 1 : 0] = '\0';
	return true;
}

/* Why can @path not be looked at? A mount whose daemon is gone, or another user's, cannot be asked, not even
 * where it begins: that the kernel's list has to say. Returns @error, negative. */
static int explain_path(const char *path, int error)
{
	char why[OUTPUT_REASON_SIZE], *full, *head, *real = NULL, *whole = NULL, *mount = NULL;

	if (error == -ENOENT) {
		complain("%s: no such file or directory; a new store is made by: mojofs create STORE", path);
		return error;
	}
	/* Up to what can be resolved; what is below that is as it is written. */
	if (asprintf(&full, "%s%s", path[0] == '/' ? "" : "./", path) < 0)
		full = NULL;
	head = full ? strdup(full) : NULL;
	while (head && !(real = realpath(head, NULL)) && go_up(head))
		;
	if (real) {
		const char *rest = full + strlen(head);

		rest += strspn(rest, "/");
		if (asprintf(&whole, "%s/%s", strcmp(real, "/") == 0 ? "" : real, rest) < 0)
			whole = NULL;
	}
	if ((error == -ENOTCONN || error == -EACCES) && whole && mountinfo_above(whole, &mount) == 0)
		mounted_complain(mount, error);
	else
		complain("%s: %s", path, reason(error, why));
	free(full);
	free(head);
	free(real);
	free(whole);
	free(mount);
	return error;
}

/*
 * If @real lies in a mojofs mount: 1, with the mount's root and what lies below it, both to be freed.
 * Else 0, or -errno, said.
 */
static int find_mount(const char *real, char **ret_mount, char **ret_inside)
{
	char *path, *inside, *mount = NULL;
	bool is_shut_out = false;
	struct stat start, here;
	int found = 0;

	if (stat(real, &start) != 0)
		return explain_path(real, -errno);
	path = strdup(real);
	if (!path) {
		complain("out of memory");
		return -ENOMEM;
	}
	do {
		/* Another file system above: the mount that @real is in ended below. */
		if (stat(path, &here) != 0 || here.st_dev != start.st_dev)
			break;
		found = mounted_root(path);
		/* By the mode of a file, perhaps, that says nothing of those above. */
		if (found == -EACCES) {
			is_shut_out = true;
			found = 0;
		}
	} while (!found && go_up(path));

	if (!found && is_shut_out && mountinfo_above(real, &mount) == 0) {
		found = mounted_complain(mount, -EACCES);
		free(mount);
	} else if (found < 0) {
		mounted_complain(path, found);
	}
	if (found <= 0) {
		free(path);
		return found;
	}
	inside = strdup(real + strlen(path) + (real[strlen(path)] == '/'));
	if (!inside) {
		free(path);
		complain("out of memory");
		return -ENOMEM;
	}
	*ret_mount = path;
	*ret_inside = inside;
	return 1;
}

static int open_offline(const char *path, const char *real, bool writable, struct target **ret_target)
{
	struct target *target;
	char *refusal = NULL, *mount;
	struct stat st;
	int error;

	if (stat(real, &st) == 0 && !S_ISDIR(st.st_mode)) {
		complain("%s: is neither the directory of a store nor in a mojofs mount", path);
		return -ENOTDIR;
	}
	error = offline_open(path, real, writable, &target, &refusal);
	if (!error) {
		*ret_target = target;
		return 0;
	}
	if (error != -EBUSY && error != -EACCES)
		return error;

	if (mountinfo_find(real, &mount) != 0) {
		if (error == -EACCES)
			complain("%s: %s", path, refusal ? refusal : "permission denied");
		else
			complain(
				"%s: %s; it is not mounted where this program could ask, so wait for that process, or end it",
				path, refusal ? refusal : "the store is open in another process");
		free(refusal);
		return error;
	}
	free(refusal);
	error = mounted_open(mount, &target);
	if (error) {
		free(mount);
		return error;
	}
	target->mount = mount;
	*ret_target = target;
	return 0;
}

int target_open(const char *path, bool writable, struct target **ret_target)
{
	struct target *target = NULL;
	char *mount = NULL, *inside = NULL, *real;
	int found, error;

	real = realpath(path, NULL);
	if (!real)
		return explain_path(path, -errno);
	found = find_mount(real, &mount, &inside);
	if (found < 0)
		error = found;
	else if (found)
		error = mounted_open(mount, &target);
	else
		error = open_offline(path, real, writable, &target);
	if (error)
		goto out;

	if (found) {
		target->mount = mount;
		target->inside = inside;
		mount = inside = NULL;
	} else {
		target->inside = strdup("");
	}
	if (!target->store) {
		target->store = real;
		real = NULL;
	}
	target->path = strdup(path);
	if (!target->path || !target->inside) {
		complain("out of memory");
		error = -ENOMEM;
		target_close(target);
		goto out;
	}
	*ret_target = target;
out:
	free(mount);
	free(inside);
	free(real);
	return error;
}

int target_close(struct target *target)
{
	char *path, *store, *mount, *inside;
	int error;

	if (!target)
		return 0;
	path = target->path;
	store = target->store;
	mount = target->mount;
	inside = target->inside;
	error = target->ops->close(target);
	free(path);
	free(store);
	free(mount);
	free(inside);
	return error;
}

int target_in_mount(const char *path)
{
	char *real = realpath(path, NULL), *mount, *inside;
	int found;

	if (!real && errno == ENOENT) {
		/* Not there yet: what counts is where it would be made. */
		char *above;

		if (asprintf(&above, "%s%s", path[0] == '/' ? "" : "./", path) < 0)
			above = NULL;
		while (above && strlen(above) > 1 && above[strlen(above) - 1] == '/')
			above[strlen(above) - 1] = '\0';
		if (above && go_up(above))
			real = realpath(above, NULL);
		free(above);
		/* What is wrong there, making the directory will tell. */
		if (!real)
			return 0;
	}
	if (!real)
		return explain_path(path, -errno);
	found = find_mount(real, &mount, &inside);
	if (found > 0) {
		free(mount);
		free(inside);
	}
	free(real);
	return found;
}

/* ---- asking --------------------------------------------------------------------------------- */

const char *target_store(const struct target *target)
{
	return target->store;
}

const char *target_mount(const struct target *target)
{
	return target->mount;
}

long target_pid(const struct target *target)
{
	return target->pid;
}

uint32_t target_page_size(const struct target *target)
{
	return target->info.page_size;
}

uint64_t target_blocks_per_chunk(const struct target *target)
{
	return target->info.chunk_bytes / target->info.page_size;
}

int target_info(struct target *target, struct mojo_info *ret_info, struct report_counter **ret_counters,
		size_t *ret_count)
{
	return target->ops->info(target, ret_info, ret_counters, ret_count);
}

int target_versions(struct target *target, uint32_t from, struct mojo_version_info **ret_infos, size_t *ret_count)
{
	return target->ops->versions(target, from, ret_infos, ret_count);
}

int target_commit(struct target *target, const char *message, size_t length, unsigned wait_seconds,
		  uint32_t *ret_version)
{
	return target->ops->commit(target, message, length, wait_seconds, ret_version);
}

int target_verify(struct target *target, uint32_t version)
{
	return target->ops->verify(target, version);
}

/* "@v12" at the start of @path: its number and what follows; else false. */
static bool parse_version(const char *path, uint32_t *ret_version, const char **ret_rest)
{
	size_t digits = strspn(path + strlen(NAME_PREFIX), "0123456789");
	const char *text = path + strlen(NAME_PREFIX);
	unsigned long version;

	if (digits == 0 || digits > 8 || text[0] == '0' || (text[digits] != '\0' && text[digits] != '/'))
		return false;
	version = strtoul(text, NULL, 10);
	if (version > MOJO_VERSION_MAX)
		return false;
	*ret_version = (uint32_t)version;
	*ret_rest = text + digits + (text[digits] == '/');
	return true;
}

/* "a//./b/" -> "a/b"; -EINVAL for "..". @ret_path: free(). */
static int normalise(const char *head, const char *tail, char **ret_path)
{
	char *raw, *path, *to, *save = NULL;
	int error = 0;

	if (asprintf(&raw, "%s/%s", head, tail) < 0)
		return -ENOMEM;
	path = to = malloc(strlen(raw) + 1);
	if (!path) {
		free(raw);
		return -ENOMEM;
	}
	*to = '\0';
	for (char *name = strtok_r(raw, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
		if (strcmp(name, ".") == 0)
			continue;
		if (strcmp(name, "..") == 0) {
			error = -EINVAL;
			break;
		}
		if (to > path)
			*to++ = '/';
		to = stpcpy(to, name);
	}
	free(raw);
	if (error) {
		free(path);
		return error;
	}
	*ret_path = path;
	return 0;
}

/* Is @version kept? Only to tell a missing version from a missing file. */
static int check_version(struct target *target, uint32_t version)
{
	struct mojo_version_info *infos;
	bool is_kept;
	size_t count;
	int error;

	error = target_versions(target, version, &infos, &count);
	if (error)
		return error;
	is_kept = count > 0 && infos[0].version == version;
	free(infos);
	if (is_kept)
		return 0;
	complain("%s: there is no version %u; to see which there are: mojofs versions %s", target->path, version,
		 target->path);
	return -ENOENT;
}

int target_find(struct target *target, uint32_t version, const char *name, struct target_file *ret_file)
{
	struct target_file file = { 0 };
	const char *rest = "";
	char *path = NULL;
	uint32_t named = 0;
	int error;

	error = normalise(name && name[0] == '/' ? "" : target->inside, name ? name : "", &path);
	if (error == -EINVAL)
		complain("%s: a path within a store may not have \"..\" in it", name);
	else if (error)
		complain("out of memory");
	if (error)
		return error;
	if (strncmp(path, NAME_PREFIX, strlen(NAME_PREFIX)) == 0 && parse_version(path, &named, &rest))
		memmove(path, rest, strlen(rest) + 1);
	if (named && version && named != version) {
		complain("%s: is in version %u, but version %u is asked for; leave one of the two out",
			 name ? name : target->path, named, version);
		free(path);
		return -EINVAL;
	}
	file.version = named ? named : version ? version : target->info.active_version;
	file.active = file.version == target->info.active_version;
	file.path = path;
	if (!file.active)
		error = check_version(target, file.version);
	if (!error)
		error = target->ops->find(target, &file);
	if (error) {
		target_file_free(&file);
		return error;
	}
	*ret_file = file;
	return 0;
}

void target_file_free(struct target_file *file)
{
	free(file->path);
	file->path = NULL;
}

int target_list_add(struct target_entry **entries, size_t *count, size_t *capacity, const char *name,
		    const struct mojo_attr *attr, bool has_bucket)
{
	struct target_entry *entry;

	if (*count == *capacity) {
		size_t more = *capacity ? 2 * *capacity : 64;
		struct target_entry *moved = reallocarray(*entries, more, sizeof(**entries));

		if (!moved)
			return -ENOMEM;
		*entries = moved;
		*capacity = more;
	}
	entry = &(*entries)[*count];
	entry->name = strdup(name);
	if (!entry->name)
		return -ENOMEM;
	entry->attr = *attr;
	entry->has_bucket = has_bucket;
	++*count;
	return 0;
}

void target_list_free(struct target_entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(entries[i].name);
	free(entries);
}

static int compare_names(const void *a, const void *b)
{
	const struct target_entry *entry_a = a, *entry_b = b;

	return strcmp(entry_a->name, entry_b->name);
}

int target_list(struct target *target, const struct target_file *dir, struct target_entry **ret_entries,
		size_t *ret_count)
{
	struct target_entry *entries;
	size_t count;
	int error;

	error = target->ops->list(target, dir, &entries, &count);
	if (error)
		return error;
	if (count > 0)
		qsort(entries, count, sizeof(*entries), compare_names);
	*ret_entries = entries;
	*ret_count = count;
	return 0;
}

int target_readlink(struct target *target, const struct target_file *file, char **ret_text)
{
	return target->ops->readlink(target, file, ret_text);
}

int target_map(struct target *target, const struct target_file *file, uint64_t first,
	       struct mojo_map_entry **ret_entries, size_t *ret_count)
{
	return target->ops->map(target, file, first, ret_entries, ret_count);
}

int target_read(struct target *target, const struct target_file *file, uint64_t offset, void *buf, size_t length,
		size_t *ret_length)
{
	return target->ops->read(target, file, offset, buf, length, ret_length);
}
