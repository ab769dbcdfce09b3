/* SPDX-License-Identifier: MIT */
/*
 * mountinfo.h - the kernel's list of mounts, /proc/self/mountinfo.
 */
#ifndef CLI_MOUNTINFO_H
#define CLI_MOUNTINFO_H

/*
 * mountinfo_find - where is the store at @store (canonical) mounted? Of several mounts the newest.
 * @ret_mount: free()
 * Errors: -ENOENT if it is not mounted, or not where this process can see it; -ENOMEM.
 */
int mountinfo_find(const char *store, char **ret_mount);

/*
 * mountinfo_above - the mojofs mount, dead or alive, in which @path lies. The mount is not touched.
 * @path: absolute and canonical as far as the mount
 * @ret_mount: free()
 * Errors: -ENOENT if it lies in none; -ENOMEM.
 */
int mountinfo_above(const char *path, char **ret_mount);

#endif
