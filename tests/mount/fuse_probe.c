/* SPDX-License-Identifier: MIT */
/*
 * fuse_probe - may this process mount a FUSE file system here at all?
 *
 * Mounts one without mojofs, and takes it off again. Exits with 0 (yes), 77 (no; standard error says
 * why: the tests skip with that reason) or 1 (the probe itself failed).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CAN = 0, BROKEN = 1, CANNOT = 77 };

static int probe_as_root(int fd, const char *directory)
{
	char options[128];

	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fd);
	if (mount("fuse_probe", directory, "fuse", MS_NOSUID | MS_NODEV, options) < 0) {
		fprintf(stderr, "mounting FUSE file systems is not permitted here: %s\n", strerror(errno));
		return CANNOT;
	}
	if (umount2(directory, MNT_DETACH) < 0) {
		fprintf(stderr, "cannot unmount %s: %s\n", directory, strerror(errno));
		return BROKEN;
	}
	return CAN;
}

/* An ordinary user mounts through fusermount3, which is of use only when it is setuid root. */
static int probe_as_user(void)
{
	static const char *const places[] = { "/usr/bin/fusermount3", "/bin/fusermount3",
					      "/usr/local/bin/fusermount3" };
	struct stat st;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (stat(places[i], &st) == 0 && st.st_uid == 0 && (st.st_mode & S_ISUID))
			return CAN;
	}
	fprintf(stderr, "not root, and fusermount3 is not setuid root\n");
	return CANNOT;
}

int main(void)
{
	char directory[] = "/tmp/mojofs-probe.XXXXXX";
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	int status;

	if (fd < 0) {
		fprintf(stderr, "cannot open /dev/fuse: %s\n", strerror(errno));
		return CANNOT;
	}
	if (geteuid() != 0) {
		status = probe_as_user();
	} else if (!mkdtemp(directory)) {
		fprintf(stderr, "cannot make %s: %s\n", directory, strerror(errno));
		status = BROKEN;
	} else {
		status = probe_as_root(fd, directory);
		rmdir(directory);
	}
	close(fd);
	return status;
}
