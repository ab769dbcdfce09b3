#!/bin/bash
# SPDX-License-Identifier: MIT
# Memory is bounded by the settings, not by the load: random page writes over a file of 1 GiB (10 GiB with
# MOJO_TEST_LONG=1) with --cache-size=64M, commits in between, everything read again; the daemon's memory is looked at.
TEST_SECONDS=3600
. "$(dirname "$0")/lib.sh"
need python3

gigabytes=1
[ -z "${MOJO_TEST_LONG:-}" ] || gigabytes=10
# Beside the index: two batches of 1 MiB, buffers of the threads, the program. Sanitizers keep what was freed.
limit_mib=128
if grep -q __asan_init "$MOJOFS_FUSE"; then
	limit_mib=1024
fi
free_kib=$(df --output=avail -k "$T" | tail -n 1)
[ "$free_kib" -gt $((gigabytes * 4 * 1024 * 1024)) ] || skip "$((gigabytes * 4)) GiB of disk space are wanted, $((free_kib / 1024)) MiB are there"

peak() {
	sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/${daemon_of[$MNT]}/status"
}

mount_store m --cache-size=64M
note "$gigabytes GiB in random order; the daemon begins with $(($(peak) / 1024)) MiB"
timeout -k 5 3000 python3 - "$MNT" "$gigabytes" <<'PY'
import os, random, sys
mnt, pages = sys.argv[1], int(sys.argv[2]) << 18
fd = os.open(mnt + "/file", os.O_RDWR | os.O_CREAT)
# Every page once, in an order that jumps: a step that shares no factor with the number of pages.
step = 104729 * 7 % pages | 1
def page(n, turn):
    return (b"%d.%d " % (n, turn)).ljust(32, b"-") * 128
for i in range(pages):
    n = i * step % pages
    os.pwrite(fd, page(n, 0), n << 12)
    if i % 65536 == 65535:
        os.fsync(fd)
        os.setxattr(mnt, "user.mojofs.commit", b"part")
dice = random.Random(7)
changed = set()
for i in range(pages // 8):
    n = dice.randrange(pages)
    changed.add(n)
    os.pwrite(fd, page(n, 1), n << 12)
os.fsync(fd)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
for i in range(0, pages, 5):
    n = i * step % pages
    assert os.pread(fd, 4096, n << 12) == page(n, n in changed), n
PY
peak_kib=$(peak)
note "the most that it took: $((peak_kib / 1024)) MiB"
[ "$peak_kib" -lt $((limit_mib * 1024)) ] || fail "the daemon took $((peak_kib / 1024)) MiB with a cache of 64 MiB; $limit_mib are allowed"
remount m --cache-size=64M
timeout -k 5 600 cat "$MNT/file" >/dev/null
note "opened again it takes $(($(peak) / 1024)) MiB"
[ "$(peak)" -lt $((limit_mib * 1024)) ] || fail "the daemon took $(($(peak) / 1024)) MiB after a remount"
unmount_store m
