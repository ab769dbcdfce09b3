#!/bin/bash
# SPDX-License-Identifier: MIT
# Names with every byte, long names, many files, deep directories; paths that want out of the store; a store of another
# user; a mount by an ordinary user. MOJO_TEST_LONG=1: 100,000 files instead of 20,000.
[ -z "${MOJO_TEST_LONG:-}" ] || TEST_SECONDS=${TEST_SECONDS:-2400}
. "$(dirname "$0")/lib.sh"
need python3

files=20000
[ -z "${MOJO_TEST_LONG:-}" ] || files=100000

mount_store h
note "names with every byte but / and NUL, alone and in the middle; names of 255 bytes"
cat >"$T/names.py" <<'PY'
import os, sys
root, make = os.fsencode(sys.argv[1]), sys.argv[2] == "make"
names = []
for byte in range(1, 256):
    char = bytes([byte])
    if char == b"/":
        continue
    if char not in (b".", b"@"):
        names.append(char)
    names.append(b"x" + char + b"y")
    names.append((char if char != b"@" else b"a") * 255)
names += [b"...", b" ", b"-rf", b"\xff\xfe", b"\xc3\x28", "\u00e9".encode(), "e\u0301".encode(), b"a" * 254, b"CON", b"x\n", b"x@v1"]
names = sorted(set(names))
directory = root + b"/names"
if make:
    os.mkdir(directory)
    for name in names:
        with open(directory + b"/" + name, "xb") as file:
            file.write(name)
    os.mkdir(directory + b"/" + b"dir".ljust(255, b"d"))
    os.symlink(b"t" * 4095, directory + b"/" + b"link".ljust(250, b"l"))
assert sorted(set(os.listdir(directory)) - {b"dir".ljust(255, b"d"), b"link".ljust(250, b"l")}) == names
for name in names:
    with open(directory + b"/" + name, "rb") as file:
        assert file.read() == name, name
assert os.readlink(directory + b"/" + b"link".ljust(250, b"l")) == b"t" * 4095
for name in (b"n" * 256, b"n" * 4000):
    for attempt in (lambda p: open(p, "xb"), os.mkdir, os.stat, os.unlink, lambda p: os.rename(directory + b"/x", p)):
        try:
            attempt(directory + b"/" + name)
        except OSError as e:
            assert e.errno == 36, (e, attempt)  # ENAMETOOLONG
        else:
            raise SystemExit("a name of %d bytes was taken" % len(name))
PY
timeout -k 5 120 python3 "$T/names.py" "$MNT" make
commit "names"
timeout -k 5 120 python3 "$T/names.py" "$MNT/@v$VERSION" look

note "1,000 levels of directories"
cat >"$T/levels.py" <<'PY'
import os, sys
root, make = sys.argv[1], sys.argv[2] == "make"
here = os.open(root, os.O_RDONLY)
for level in range(1000):
    name = "level-%d" % level if level % 2 else "l"
    if make:
        os.mkdir(name, dir_fd=here)
    there = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=here)
    os.close(here)
    here = there
if make:
    os.close(os.open("bottom", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=here))
assert os.listdir(here) == ["bottom"]
if make:  # a directory may not move into what is below it
    top = os.open(root, os.O_RDONLY)
    try:
        os.rename("l", "l", src_dir_fd=top, dst_dir_fd=here)
        raise SystemExit("a directory was moved into itself")
    except OSError as e:
        assert e.errno == 22, e
PY
timeout -k 5 60 python3 "$T/levels.py" "$MNT" make
commit "levels"
timeout -k 5 60 python3 "$T/levels.py" "$MNT/@v$VERSION" look
remount h
timeout -k 5 60 python3 "$T/levels.py" "$MNT" look
timeout -k 5 120 python3 "$T/names.py" "$MNT" look

note "no path leads out of the store"
echo outside >"$T/secret"
timeout -k 5 60 python3 - "$MNT" "$T" <<'PY'
import os, sys
mnt, outside = sys.argv[1:]
for path in ("/..", "/../secret", "/names/../../secret", "/@v1/../../secret", "/@v1/names/../../../secret"):
    real = os.path.realpath(mnt + path)
    assert os.stat(mnt + path).st_ino == os.stat(real).st_ino  # the kernel resolves dots; the daemon never sees them
# The daemon follows no links: one that leads out is the reader's affair, and names the reader's own files.
os.symlink(outside + "/secret", mnt + "/out")
assert open(mnt + "/out").read() == "outside\n"
os.symlink("../../../../../../../../../../etc/passwd", mnt + "/names/up")
for version in (1, 2):
    assert not os.path.lexists(mnt + "/@v%d/out" % version)
for name in ("@v1/new", "@v1/names/x", "@v0", "@v99", "@v", "@", "@v1/../@new", "@v01", "@v1 ", "@v-1", "@v18446744073709551617", "@v4294967297"):
    for flags in (os.O_WRONLY, os.O_WRONLY | os.O_CREAT):
        try:
            os.close(os.open(mnt + "/" + name, flags, 0o600))
        except OSError as e:
            assert e.errno in (1, 2, 13, 20, 21, 22, 30), (name, e)
        else:
            raise SystemExit("%s was opened for writing" % name)
for name in ("@v99", "@v0", "@v01", "@v-1", "@v4294967297", "@v18446744073709551617"):
    assert not os.path.exists(mnt + "/" + name), name
assert open(outside + "/secret").read() == "outside\n"
PY
for path in ../secret ../../secret /etc/passwd "@v1/../../secret" names/../../secret ..; do
	! timeout 30 "$MOJOFS" map "$MNT" "$path" >"$T/out" 2>&1 || fail "mojofs map shows $path: $(cat "$T/out")"
done

note "$files files in one directory"
timeout -k 5 500 python3 - "$MNT" "$files" <<'PY'
import os, sys, time
mnt, count = sys.argv[1], int(sys.argv[2])
os.mkdir(mnt + "/many")
def timed(what, action):
    begin = time.monotonic()
    action()
    print("   %s: %.0f us a file" % (what, (time.monotonic() - begin) / count * 1e6))
def make():
    for i in range(count):
        os.close(os.open("%s/many/%d" % (mnt, i), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
def list_all():
    assert len(set(os.listdir(mnt + "/many"))) == count
def stat_all():
    for entry in os.scandir(mnt + "/many"):
        assert entry.stat().st_size == 0
def remove():
    for i in range(0, count, 2):
        os.unlink("%s/many/%d" % (mnt, i))
    assert len(os.listdir(mnt + "/many")) == count // 2
for what in make, list_all, stat_all, remove:
    timed(what.__name__, what)
PY
begin=$(date +%s%N)
commit "many"
echo "   commit: $((($(date +%s%N) - begin) / 1000000)) ms"
remount h
assert_eq $((files / 2)) "$(find "$MNT/many" -type f | wc -l)" "files after a remount"
assert_eq $((files / 2)) "$(find "$MNT/@v$VERSION/many" -type f | wc -l)" "files in the version"
unmount_store h

note "a store of another user, and a mount by an ordinary user"
if [ "$(id -u)" -ne 0 ] || ! command -v setpriv >/dev/null || ! getent passwd nobody >/dev/null; then
	note "not tried: it wants root, setpriv and the user nobody"
	exit 0
fi
uid=$(id -u nobody) gid=$(id -g nobody)
as_nobody=(setpriv --reuid="$uid" --regid="$gid" --clear-groups env HOME=/nonexistent)
# Nothing of ours may be where nobody cannot go.
if ! "${as_nobody[@]}" test -x "$MOJOFS_FUSE" || ! "${as_nobody[@]}" test -x "$T"; then
	note "not tried: the user nobody cannot reach $MOJOFS_FUSE or $T"
	exit 0
fi
mkdir "$T/theirs" "$T/theirs/mnt" "$T/own" "$T/own/mnt"
chown -R "$uid:$gid" "$T/theirs"
cp -a "$T/h.store" "$T/own/store"
chmod 700 "$T/own/store"
assert_fails 'ermission|denied' "${as_nobody[@]}" "$MOJOFS_FUSE" --foreground "$T/own/store" "$T/theirs/mnt"
assert_fails 'ermission|denied' "${as_nobody[@]}" "$MOJOFS" state "$T/own/store"
chmod 755 "$T/own/store"
before=$(find "$T/own/store" -type f -exec md5sum {} + | sort)
assert_fails 'ermission|denied' "${as_nobody[@]}" "$MOJOFS_FUSE" --foreground "$T/own/store" "$T/theirs/mnt"
assert_fails 'ermission|denied' "${as_nobody[@]}" "$MOJOFS" commit "$T/own/store" message
assert_eq "$before" "$(find "$T/own/store" -type f -exec md5sum {} + | sort)" "the store of another user"
! is_mounted "$T/theirs/mnt" || fail "mounted all the same"

if ! "${as_nobody[@]}" test -w /dev/fuse; then
	# Usual systems have it 0666, by udev. Here it stays as it is; in a mount namespace of its own a node beside it will do.
	if [ -z "${MOJOFS_HOSTILE_NODE:-}" ] && mknod -m 666 "$T/fuse" c 10 229 2>/dev/null && ( : <>"$T/fuse" ) 2>/dev/null; then
		export MOJOFS_HOSTILE_NODE="$T/fuse"
	else
		note "the mount by an ordinary user: not tried, /dev/fuse is for root only"
		exit 0
	fi
fi
cat >"$T/user.sh" <<'SH'
# In a mount namespace: as the user, make a store, mount it, use it, unmount it.
set -eu
if [ -n "${MOJOFS_HOSTILE_NODE:-}" ]; then
	mount --bind "$MOJOFS_HOSTILE_NODE" /dev/fuse
fi
exec "$@"
SH
cat >"$T/use.sh" <<'SH'
set -eu
store=$1 mnt=$2
cd "$mnt/.."
timeout 30 "$MOJOFS_FUSE" "$store" "$mnt"
trap 'fusermount3 -uz "$mnt" 2>/dev/null || true' EXIT
[ "$(stat -c %u "$mnt")" = "$(id -u)" ]
sqlite3 "$mnt/x.db" 'PRAGMA journal_mode=wal; CREATE TABLE t(x); INSERT INTO t VALUES(42)' >/dev/null
setfattr -n user.mojofs.commit -v theirs "$mnt"
[ "$(sqlite3 "$mnt/@v1/x.db" 'SELECT x FROM t')" = 42 ]
touch "$mnt/mine"
if chown 0 "$mnt/mine" 2>/dev/null; then echo "gave a file away" >&2; exit 1; fi
[ "$(stat -c %u "$mnt/mine")" = "$(id -u)" ]
pid=$(getfattr --only-values -n user.mojofs.pid "$mnt")
[ "$(stat -c %u "/proc/$pid")" = "$(id -u)" ] || { echo "the daemon runs as $(stat -c %u "/proc/$pid")" >&2; exit 1; }
fusermount3 -u "$mnt"
trap - EXIT
for i in $(seq 200); do [ -d "/proc/$pid" ] || break; sleep 0.05; done
[ ! -d "/proc/$pid" ] || ! grep -q '^State:.[^Z]' "/proc/$pid/status"
timeout 30 "$MOJOFS" state "$store" >/dev/null
SH
status=0
text=$(timeout -k 5 120 unshare --mount --propagation private bash "$T/user.sh" "${as_nobody[@]}" \
	PATH="$PATH" MOJOFS_FUSE="$MOJOFS_FUSE" MOJOFS="$MOJOFS" bash "$T/use.sh" "$T/theirs/store" "$T/theirs/mnt" 2>&1) || status=$?
[ $status -eq 0 ] || fail "the mount by an ordinary user ($status): $text"
assert_eq "$uid" "$(stat -c %u "$T/theirs/store/mojo.state")" "owner of the state file"
[ -z "$(find "$T/theirs/store" ! -user "$uid")" ] || fail "the daemon of an ordinary user made files of others: $(find "$T/theirs/store" ! -user "$uid")"
# Root may use the store of somebody else, and changes no owner of what was there.
mount_at "$T/theirs/store" "$T/own/mnt"
assert_eq 42 "$(sqlite3 "$T/own/mnt/x.db" 'SELECT x FROM t')" "the user's store, mounted by root"
unmount_at "$T/own/mnt"
