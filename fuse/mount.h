/* SPDX-License-Identifier: MIT */
/*
 * mount.h - the mount itself: may it be made, making it, serving it, and taking it away again.
 *
 * Life of a mount:
 *
 *     mount_check --> mount_new --> mount_open --> mount_run --> mount_free
 *                                                     |
 *     served by several threads until the last mount of it is gone, or a signal (SIGTERM, SIGINT,
 *     SIGHUP) asks for the end: then it is unmounted first, while it is still served, so that the
 *     kernel hands over all that it holds; where that cannot be, because files are in use, what the
 *     kernel holds is fetched (mount_flush_fn), and the mount is cut off.
 *
 * Thread safety: mount_find() and the plain questions from any thread; the rest from the main thread, in
 * that order.
 */
#ifndef FUSE_MOUNT_H
#define FUSE_MOUNT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include <fuse_lowlevel.h>

#include "../src/mojo.h"

#define MOUNT_SUBTYPE      "mojofs-fuse"
#define MOUNT_TYPE         "fuse." MOUNT_SUBTYPE
#define MOUNT_SESSION_NAME "user.mojofs.session" /* its value tells one daemon's mounts from all others */
#define MOUNT_WHY_SIZE     4608                  /* bytes that hold any message of mount_check() */

struct mount; /* opaque */

/* What the session's userdata must begin with, zeroed: the first reply of all is told from the rest by it. */
struct mount_greeting {
	atomic_bool done;
	dev_t device; /* of the mount, as mount_device() has it */
};

/* Bring everything the kernel holds for files that are open for writing to the disk. */
typedef void mount_flush_fn(void *arg);

/*
 * mount_is_descriptor - is @point "/dev/fd/N", how mount.fuse3 hands over a mount that it has made itself?
 */
bool mount_is_descriptor(const char *point);

/*
 * mount_check - can a store be mounted there?
 * @point: an existing, empty directory, or "/dev/fd/N"
 * @store: canonical path of the store's directory, which need not exist yet
 * @ret_point: canonical path; free()
 * @ret_why: MOUNT_WHY_SIZE bytes; on failure one line for the user
 * Errors: -ENOENT, -ENOTDIR, -ENOTEMPTY, -ENOTCONN, -EINVAL (inside the store, or around it), others of the host.
 */
int mount_check(const char *point, const char *store, char **ret_point, char *ret_why);

/*
 * mount_new - a session, not mounted yet.
 * @args: options of libfuse's, each known to be one; fsname, subtype and default_permissions are added
 * @store: canonical path; borrowed
 * @event: receives messages; it and @arg are borrowed
 * @userdata: for @ops; begins with a struct mount_greeting
 * Errors: -EINVAL (libfuse has said on stderr why), -ENOMEM.
 */
int mount_new(struct fuse_args *args, const struct fuse_lowlevel_ops *ops, void *userdata, const char *store,
	      mojo_event_fn *event, void *arg, struct mount **ret_mount);

/* mount_open - mount on @point, from mount_check(). All threads made before must have the signals of
 * mount_block_signals() blocked. -EIO: libfuse has said on stderr why. */
int mount_open(struct mount *mount, const char *point);

/* mount_block_signals - keep the signals that end a mount from every thread made from now on. */
void mount_block_signals(void);

/* mount_run - serve until the end; returns 0, or -errno if serving failed. */
int mount_run(struct mount *mount, mount_flush_fn *flush, void *arg);

/* mount_free - unmount if it still is, and free. NULL is allowed. */
void mount_free(struct mount *mount);

struct fuse_session *mount_session(struct mount *mount);
/* mount_key - the value of MOUNT_SESSION_NAME; borrowed. */
const char *mount_key(const struct mount *mount);

/* mount_init - to be called from the handler of INIT. Makes sure that the kernel checks permissions. */
void mount_init(struct mount *mount, struct fuse_conn_info *conn);

/* mount_device, mount_learn - the device of the mount, 0 while it is not known; tell it to a copy of the struct in
 * another process, for its mount_find() and mount_abort(), while the mount is there. Only the first time counts. */
dev_t mount_device(const struct mount *mount);
void mount_learn(struct mount *mount, dev_t device);

/* mount_holds - does @path, absolute and without symbolic links, lead into the mount? Asks the daemon for nothing.
 * False while the device is not known. */
bool mount_holds(struct mount *mount, const char *path);

/*
 * mount_abort - end the connection to the kernel, by force, from another process: whoever waits for an answer gets
 * an error. What is mounted stays mounted, and stale. Asks the daemon for nothing. Another mount, which may have the
 * same device by now, is left alone: this wants /sys/fs/fuse/connections, or Linux 6.8.
 * Errors: -ENOENT (not known, or not mounted any more), -EPERM and others of the host.
 */
int mount_abort(struct mount *mount);

/*
 * mount_find - a directory descriptor (O_PATH) of the root of the mount, as this process sees it.
 * Not from a thread that serves requests. The caller closes it.
 * Errors: -ENOENT if the mount is nowhere to be seen.
 */
int mount_find(struct mount *mount, int *ret_directory);

/* mount_is_mounted - does some mount of @store, as named by its source, exist? For any process's. */
bool mount_is_mounted(const char *store);

#endif
