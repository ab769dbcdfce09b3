/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../src/io_record.h"
#include "control.h"

#define PREFIX        "user.mojofs."
#define PREFIX_LENGTH (sizeof(PREFIX) - 1)
#define ACL_PREFIX    "system.posix_acl_"

/* Entries are asked for so many at a time; fewer than this fit into CONTROL_TEXT_MAX, or nearly so. */
#define VERSIONS_MAX 1024u
#define MAP_MAX      2048u

static bool is_root(struct tree_node node)
{
	return node.bucket == MOJO_ROOT_BUCKET && !tree_is_frozen(node);
}

static bool is_version_root(struct tree_node node)
{
	return node.bucket == MOJO_ROOT_BUCKET && tree_is_frozen(node);
}

/* Hand @text over, which may be NULL for want of memory. */
static int give(char *text, char **ret_value, size_t *ret_length)
{
	if (!text)
		return -ENOMEM;
	*ret_value = text;
	*ret_length = strlen(text);
	return 0;
}

static int give_number(uint64_t number, char **ret_value, size_t *ret_length)
{
	char *text;

	return give(asprintf(&text, "%" PRIu64, number) < 0 ? NULL : text, ret_value, ret_length);
}

/* The number behind @prefix in @name; false if @name is not of that form. */
static bool numbered(const char *name, const char *prefix, uint64_t *ret_number)
{
	size_t length = strlen(prefix);
	const char *digits = name + length;

	if (strncmp(name, prefix, length) != 0 || !*digits || strlen(digits) > 18 ||
	    strspn(digits, "0123456789") != strlen(digits))
		return false;
	*ret_number = strtoull(digits, NULL, 10);
	return true;
}

static int get_state(const struct control *control, bool only_requests, char **ret_value, size_t *ret_length)
{
	struct report_counter counters[COUNTER_COUNT];
	struct mojo_info info;
	char *text;
	int error = 0;

	counters_get(control->counters, counters);
	if (only_requests)
		error = report_counters_to_json(counters, COUNTER_COUNT, &text);
	else
		error = mojo_info(tree_store(control->tree), &info);
	if (!error && !only_requests)
		error = report_state_to_json(&info, counters, COUNTER_COUNT, &text);
	return error ? error : give(text, ret_value, ret_length);
}

static int get_versions(const struct control *control, uint64_t from, char **ret_value, size_t *ret_length)
{
	struct mojo_version_info *infos = malloc(VERSIONS_MAX * sizeof(*infos));
	size_t count = 0, used;
	char *text;
	int error = 0;

	if (!infos)
		return -ENOMEM;
	while (count < VERSIONS_MAX && from <= MOJO_VERSION_MAX) {
		error = mojo_version_next(tree_store(control->tree), (uint32_t)from, &infos[count]);
		if (error)
			break;
		from = (uint64_t)infos[count++].version + 1;
	}
	if (error == -ENOENT)
		error = 0;
	if (!error)
		error = report_versions_to_json(infos, count, CONTROL_TEXT_MAX, &used, &text);
	free(infos);
	return error ? error : give(text, ret_value, ret_length);
}

static int get_map(const struct control *control, struct tree_node node, uint64_t first, char **ret_value,
		   size_t *ret_length)
{
	struct mojo_map_entry *entries = malloc(MAP_MAX * sizeof(*entries));
	size_t count, used;
	char *text;
	int error;

	if (!entries)
		return -ENOMEM;
	error = mojo_map(tree_store(control->tree), node.version, node.bucket, first, entries, MAP_MAX, &count);
	if (!error)
		error = report_map_to_json(entries, count, CONTROL_TEXT_MAX, &used, &text);
	free(entries);
	return error ? error : give(text, ret_value, ret_length);
}

static int get_scrub(const struct control *control, char **ret_value, size_t *ret_length)
{
	char *text;
	int error = scrub_report(control->scrub, CONTROL_TEXT_MAX, &text);

	return error ? error : give(text, ret_value, ret_length);
}

/* Of the root of the mount. */
static int get_root(const struct control *control, const char *name, pid_t pid, char **ret_value, size_t *ret_length)
{
	struct mojo_info info;
	uint64_t number;
	int error;

	if (strcmp(name, "commit") == 0) {
		number = commit_last(control->commit, pid);
		return number ? give_number(number, ret_value, ret_length) : -ENODATA;
	}
	if (strcmp(name, "store") == 0)
		return give(strdup(control->store), ret_value, ret_length);
	if (strcmp(name, "session") == 0)
		return give(strdup(mount_key(control->mount)), ret_value, ret_length);
	if (strcmp(name, "pid") == 0)
		return give_number((uint64_t)getpid(), ret_value, ret_length);
	if (strcmp(name, "state") == 0)
		return get_state(control, false, ret_value, ret_length);
	if (strcmp(name, "requests") == 0)
		return get_state(control, true, ret_value, ret_length);
	if (numbered(name, "versions.", &number))
		return get_versions(control, number, ret_value, ret_length);
	if (strcmp(name, "scrub") == 0)
		return get_scrub(control, ret_value, ret_length);

	error = mojo_info(tree_store(control->tree), &info);
	if (error)
		return error;
	if (strcmp(name, "oldest_version") == 0)
		number = info.oldest_version;
	else if (strcmp(name, "page_size") == 0)
		number = info.page_size;
	else if (strcmp(name, "pages_per_slot") == 0)
		number = info.pages_per_slot;
	else if (strcmp(name, "format") == 0)
		number = info.format;
	else
		return -ENODATA;
	return give_number(number, ret_value, ret_length);
}

/* Of @vN. */
static int get_version_root(const struct control *control, struct tree_node node, const char *name, char **ret_value,
			    size_t *ret_length)
{
	struct mojo_version_info info;
	char time[REPORT_TIME_SIZE];
	int error;

	if (strcmp(name, "time") != 0 && strcmp(name, "message") != 0)
		return -ENODATA;
	error = tree_version(control->tree, node.version, &info);
	if (error)
		return error == -ENOENT ? -ENODATA : error;
	if (strcmp(name, "message") == 0)
		return give(strdup(info.message), ret_value, ret_length);
	report_time_to_text(info.time_ns, time);
	return give(strdup(time), ret_value, ret_length);
}

int control_get(const struct control *control, struct tree_node node, const char *name, pid_t pid, char **ret_value,
		size_t *ret_length)
{
	uint64_t first;

	/* The kernel asks for these when it was told of ACLs (mount_init()), and wants to hear that there are none. */
	if (strncmp(name, ACL_PREFIX, sizeof(ACL_PREFIX) - 1) == 0)
		return -ENODATA;
	if (strncmp(name, PREFIX, PREFIX_LENGTH) != 0)
		return -EOPNOTSUPP;
	name += PREFIX_LENGTH;
	if (tree_is_memory(node) || node.kind != TREE_BUCKET)
		return -ENODATA; /* in no version, and of no bucket */

	if (strcmp(name, "bucket") == 0)
		return give_number(node.bucket, ret_value, ret_length);
	if (strcmp(name, "version") == 0) {
		if (tree_is_frozen(node))
			return give_number(node.version, ret_value, ret_length);
		return give_number(mojo_active_version(tree_store(control->tree)), ret_value, ret_length);
	}
	if (is_root(node))
		return get_root(control, name, pid, ret_value, ret_length);
	if (is_version_root(node))
		return get_version_root(control, node, name, ret_value, ret_length);
	if (numbered(name, "map.", &first))
		return get_map(control, node, first, ret_value, ret_length);
	return -ENODATA;
}

int control_list(const struct control *control, struct tree_node node, char **ret_list, size_t *ret_length)
{
	static const char root[] =
		PREFIX "version\0" PREFIX "oldest_version\0" PREFIX "page_size\0" PREFIX "pages_per_slot\0" PREFIX
		       "format\0" PREFIX "store\0" PREFIX "pid\0" PREFIX "state\0" PREFIX "requests\0" PREFIX "bucket";
	static const char commit[] = PREFIX "commit";
	static const char version[] = PREFIX "version\0" PREFIX "time\0" PREFIX "message\0" PREFIX "bucket";
	size_t length = 0;
	char *list;

	if (is_root(node))
		length = sizeof(root);
	else if (is_version_root(node))
		length = sizeof(version);
	if (!length) {
		*ret_list = NULL;
		*ret_length = 0;
		return 0;
	}
	list = malloc(length + sizeof(commit));
	if (!list)
		return -ENOMEM;
	memcpy(list, is_root(node) ? root : version, length);
	if (is_root(node) && commit_last(control->commit, 0)) {
		memcpy(list + length, commit, sizeof(commit));
		length += sizeof(commit);
	}
	*ret_list = list;
	*ret_length = length;
	return 0;
}

/* Put the number @value into the recording. A positive errno. */
static int set_mark(const struct control *control, const char *value, size_t length)
{
	char text[24] = "";
	uint64_t mark;

	if (length > 0 && length < sizeof(text))
		memcpy(text, value, length);
	if (!numbered(text, "", &mark))
		return EINVAL;
	return -mojo_io_record_mark(control->recorder, mark);
}

/* The number of a version is in @value. A positive errno. */
static int start_verifying(const struct control *control, const char *value, size_t length)
{
	char text[24] = "";
	uint64_t version;

	if (length > 0 && length < sizeof(text))
		memcpy(text, value, length);
	if (!numbered(text, "", &version))
		return EINVAL;
	return version > MOJO_VERSION_MAX ? ENOENT : -verify_version(control->verify, (uint32_t)version);
}

static int check_commit(const struct control *control, const char *message, size_t length)
{
	if (tree_is_read_only(control->tree))
		return EROFS;
	if (length > MOJO_MESSAGE_MAX)
		return E2BIG;
	return length > 0 && memchr(message, '\0', length) ? EINVAL : 0;
}

void control_set(const struct control *control, fuse_req_t req, struct tree_node node, const char *name,
		 const char *value, size_t length)
{
	int error = 0;

	if (control->recorder && is_root(node) && strcmp(name, PREFIX "mark") == 0) {
		fuse_reply_err(req, set_mark(control, value, length));
		return;
	}
	if (is_root(node) && strcmp(name, PREFIX "verify") == 0) {
		fuse_reply_err(req, start_verifying(control, value, length));
		return;
	}
	if (is_root(node) && strcmp(name, PREFIX "scrub") == 0) {
		fuse_reply_err(req, -scrub_command(control->scrub, value, length));
		return;
	}
	if (tree_is_frozen(node))
		error = EROFS;
	else if (strncmp(name, PREFIX, PREFIX_LENGTH) != 0)
		error = EOPNOTSUPP;
	else if (!is_root(node) || strcmp(name + PREFIX_LENGTH, "commit") != 0)
		error = EPERM;
	else
		error = check_commit(control, value, length);
	if (error)
		fuse_reply_err(req, error);
	else
		commit_request(control->commit, req, false, value, length);
}

/* Who may write to the root, whatever groups there are. */
static bool may_commit(const struct control *control, struct tree_node root, uid_t uid)
{
	struct stat st;

	if (uid == 0)
		return true;
	return tree_getattr(control->tree, root, &st) == 0 && st.st_uid == uid && st.st_mode & S_IWUSR;
}

void control_ioctl(const struct control *control, fuse_req_t req, struct tree_node node, unsigned command,
		   const void *in, size_t in_length, size_t out_length)
{
	struct report_commit asked;
	int error;

	if (command != (unsigned)REPORT_COMMIT || in_length != sizeof(asked) || out_length != sizeof(asked) ||
	    !is_root(node) || !may_commit(control, node, fuse_req_ctx(req)->uid)) {
		fuse_reply_err(req, ENOTTY);
		return;
	}
	memcpy(&asked, in, sizeof(asked));
	error = check_commit(control, asked.message, asked.length);
	if (error)
		fuse_reply_err(req, error);
	else
		commit_request(control->commit, req, true, asked.message, asked.length);
}

int control_remove(const char *name)
{
	return strncmp(name, PREFIX, PREFIX_LENGTH) == 0 ? -EPERM : -EOPNOTSUPP;
}
