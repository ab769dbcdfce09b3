#!/bin/bash
# SPDX-License-Identifier: MIT
# Versions: what a commit freezes, how it shows, that it never changes, and what is refused.
. "$(dirname "$0")/lib.sh"
need sqlite3 python3

mount_store v

note "a fresh store has an active version and no frozen one"
assert_eq 1 "$(xget version "$MNT")" "active version"
assert_eq "" "$(ls -A "$MNT")" "the empty root"
assert_fails 'No data|No such attribute|not supported|No such' getfattr --only-values --absolute-names -n user.mojofs.commit "$MNT"

note "a commit: number, directory, time, message"
mkdir "$MNT/sub"
echo one >"$MNT/file"
echo deep >"$MNT/sub/deep"
ln -s file "$MNT/link"
chmod 640 "$MNT/file"
touch -d '2001-02-03 04:05:06.789' "$MNT/file"
before=$(($(date +%s%N) - 10000000)) # the kernel's clock for times of files, which is ours, ticks every 4 or 10 ms
commit "the first: größer, 100 %"
after=$(date +%s%N)
assert_eq 1 "$VERSION" "number of the first version"
assert_eq 2 "$(xget version "$MNT")" "active version after one commit"
assert_eq 1 "$(xget oldest_version "$MNT")" "oldest version"
assert_eq 1 "$(xget version "$MNT/@v1")" "version of @v1"
assert_eq 1 "$(xget version "$MNT/@v1/sub/deep")" "version of a file in @v1"
assert_eq 2 "$(xget version "$MNT/sub/deep")" "version of an active file"
assert_eq "the first: größer, 100 %" "$(xget message "$MNT/@v1")" "message of @v1"
stamp=$(date -d "$(xget time "$MNT/@v1")" +%s%N)
[ "$stamp" -ge "$before" ] && [ "$stamp" -le "$after" ] || fail "commit time $stamp is not within $before..$after"
xget time "$MNT/@v1" | grep -Eqx '[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z' || fail "time is not RFC 3339 with nanoseconds"
mtime=$(date -d "$(stat -c %y "$MNT/@v1")" +%s%N)
assert_eq "$stamp" "$mtime" "mtime of @v1"
ls "$MNT" | grep -qx @v1 || fail "@v1 is not listed"
[ -z "$(ls -A "$MNT/sub" | grep @)" ] || fail "@v1 is listed in a subdirectory"
for name in page_size pages_per_slot format store pid; do
	[ -n "$(xget $name "$MNT")" ] || fail "user.mojofs.$name of the root is empty"
done
assert_eq "$(realpath "$STORE")" "$(xget store "$MNT")" "user.mojofs.store"
getfattr --absolute-names -d -m - "$MNT" | grep -q '^user.mojofs.version=' || fail "listxattr does not list user.mojofs.version"
[ "$(xget bucket "$MNT/file")" = "$(xget bucket "$MNT/@v1/file")" ] || fail "a file and its past have different bucket ids"

note "the JSON attributes are JSON, and hold what they should"
python3 - "$MNT" <<'PY'
import json, os, sys
mnt = sys.argv[1]
get = lambda name, path=mnt: json.loads(os.getxattr(path, "user.mojofs." + name))
state, requests = get("state"), get("requests")
assert isinstance(state, dict) and isinstance(requests, dict) and requests, (state, requests)
assert all(isinstance(n, int) and n >= 0 for n in requests.values()), requests
assert len(get("versions.1")) == 2 and len(get("versions.2")) == 1, get("versions.1")
pages = get("map.0", mnt + "/@v1/file")
assert len(pages) == 1, pages
assert get("map.1", mnt + "/@v1/file") == []
listed = os.listxattr(mnt)
assert not any(n.startswith(("user.mojofs.versions.", "user.mojofs.map.")) for n in listed), listed
PY

note "a frozen version is read-only, in every way"
v1="$MNT/@v1"
for call in "touch $v1/new" "touch $v1/file" "rm $v1/file" "mkdir $v1/d" "rmdir $v1/sub" "mv $v1/file $v1/f2" \
	"mv $v1/file $MNT/stolen" "ln -s x $v1/l" "chmod 600 $v1/file" "chown 1:1 $v1/file" "truncate -s 0 $v1/file" \
	"dd if=/dev/zero of=$v1/file bs=1 count=1 conv=notrunc" "mkfifo $v1/fifo" "setfattr -n user.mojofs.commit -v x $v1"; do
	assert_fails 'Read-only file system|Operation not permitted' $call
done
assert_fails 'Read-only file system' touch "$v1/new"
assert_fails 'Read-only file system' truncate -s 0 "$v1/file"
assert_fails 'Read-only file system|Operation not permitted|Device or resource busy' rmdir "$MNT/@v1"
assert_fails 'Read-only file system|Operation not permitted|Device or resource busy' mv "$MNT/@v1" "$MNT/x"
assert_eq "one" "$(cat "$v1/file")" "content after all that"
assert_eq "640 2001-02-03 04:05:06.789000000 +0000" "$(stat -c '%a %y' "$v1/file")" "attributes in @v1"
assert_eq file "$(readlink "$v1/link")" "link in @v1"
assert_eq one "$(cat "$v1/link")" "through the link in @v1"

note "names: @ is ours, 255 bytes is the limit"
long=$(printf 'n%.0s' $(seq 255))
touch "$MNT/$long"
rm "$MNT/$long"
assert_fails 'File name too long' touch "$MNT/${long}x"
assert_fails 'File name too long' mkdir "$MNT/${long}x"
for name in @x @ @v @v0 @v999 @v01 @V1 "@v1 "; do
	assert_fails 'cannot (touch|stat)|setting times' touch "$MNT/$name"
	assert_fails 'cannot create directory' mkdir "$MNT/$name"
	assert_fails 'failed to create symbolic link' ln -s x "$MNT/$name"
	assert_fails 'cannot move' mv "$MNT/file" "$MNT/$name"
done
for name in @v2 @v0 @v01 @v99999999999 @v-1 @vx; do
	assert_fails 'No such file or directory' stat "$MNT/$name"
done
name=$'a\nb\t"\\\xff'
echo odd >"$MNT/$name"
commit "odd names"
assert_eq odd "$(cat "$MNT/@v$VERSION/$name")" "content of a file with an odd name"
rm "$MNT/$name"
assert_eq odd "$(cat "$MNT/@v$VERSION/$name")" "content of it after it was removed"

note "messages"
commit "$(printf 'm%.0s' $(seq 1000))"
assert_eq 1000 "$(xget message "$MNT/@v$VERSION" | wc -c)" "length of the longest message"
active=$(xget version "$MNT")
assert_fails 'Argument list too long' setfattr -n user.mojofs.commit -v "$(printf 'm%.0s' $(seq 1001))" "$MNT"
assert_fails 'Argument list too long|Numerical result out of range' python3 -c '
import os, sys
os.setxattr(sys.argv[1], "user.mojofs.commit", b"m" * 65536)' "$MNT"
assert_eq "$active" "$(xget version "$MNT")" "active version after refused commits"
commit ""
assert_eq "" "$(xget message "$MNT/@v$VERSION")" "an empty message"
assert_fails 'Operation not permitted' setfattr -n user.mojofs.version -v 9 "$MNT"
assert_fails 'Operation not permitted' setfattr -n user.mojofs.nonsense -v 9 "$MNT"
assert_fails 'Operation not supported' setfattr -n user.other -v 9 "$MNT/file"

note "what the kernel holds dirty is in the version: open, written, neither closed nor synced; and mapped"
python3 - "$MNT" <<'PY'
import mmap, os, sys
mnt = sys.argv[1]
written = os.open(mnt + "/written", os.O_RDWR | os.O_CREAT)
os.write(written, b"A" * 1000000)
mapped = os.open(mnt + "/mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(mapped, 300000)
view = mmap.mmap(mapped, 300000)
view[100000:200000] = b"B" * 100000
closed = os.open(mnt + "/mapped-and-closed", os.O_RDWR | os.O_CREAT)
os.ftruncate(closed, 8192)
other = mmap.mmap(closed, 8192)
os.close(closed)
other[5:10] = b"hello"
os.makedirs(mnt + "/sub/dirty")
below = os.open(mnt + "/sub/dirty/below", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(below, b"C" * 5000)
gone = os.open(mnt + "/gone", os.O_RDWR | os.O_CREAT)
os.write(gone, b"D" * 5000)
os.unlink(mnt + "/gone")
os.setxattr(mnt, "user.mojofs.commit", b"dirty")
v = "%s/@v%s" % (mnt, os.getxattr(mnt, "user.mojofs.commit").decode())
def content(name):
    with open(v + name, "rb") as f:
        return f.read()
assert content("/written") == b"A" * 1000000, "written, not synced"
assert content("/mapped") == bytes(100000) + b"B" * 100000 + bytes(100000), "mapped shared"
assert content("/mapped-and-closed")[:16] == b"\0\0\0\0\0hello\0\0\0\0\0\0", "mapped shared, descriptor closed"
assert content("/sub/dirty/below") == b"C" * 5000, "below a directory"
assert not os.path.exists(v + "/gone"), "unlinked while open"
# Go on writing after the commit: the version must not move.
os.pwrite(written, b"Z" * 1000000, 0)
view[100000:200000] = b"Y" * 100000
other[5:10] = b"HELLO"
os.write(below, b"X" * 5000)
os.fsync(written)
view.flush()
other.flush()
os.fsync(below)
assert content("/written") == b"A" * 1000000
assert content("/mapped")[100000:200000] == b"B" * 100000
assert content("/mapped-and-closed")[5:10] == b"hello"
assert content("/sub/dirty/below") == b"C" * 5000
assert os.pread(gone, 10, 0) == b"D" * 10
PY

note "two commits at once, and commits while files are written: each is whole"
for i in 1 2 3 4; do
	setfattr -n user.mojofs.commit -v "at once $i" "$MNT" &
	track $!
	committers[i]=$!
done
for i in 1 2 3 4; do
	wait "${committers[i]}" || fail "one of four commits at once failed"
done
messages=$(for v in "$MNT"/@v*; do xget message "$v" && echo; done | grep -c '^at once')
assert_eq 4 "$messages" "versions made by four commits at once"

note "much change after a commit leaves it as it was"
mkdir "$MNT/much"
for i in $(seq 40); do
	head -c $((i * 5000)) /dev/urandom >"$MNT/much/f$i"
done
commit "much"
much=$VERSION
sums=$(cd "$MNT/much" && sha256sum *)
for round in 1 2 3; do
	for i in $(seq 40); do
		head -c $((i * 4000)) /dev/urandom | dd of="$MNT/much/f$i" bs=64k conv=notrunc,fsync seek=$((i % 3)) status=none
		[ $((i % 5)) -ne 0 ] || truncate -s $((i * 100)) "$MNT/much/f$i"
		[ $((i % 7)) -ne 0 ] || rm "$MNT/much/f$i"
		[ $((i % 11)) -ne 0 ] || mv "$MNT/much/f$i" "$MNT/much/g$i"
	done
	commit "change $round"
done
rm -r "$MNT/much"
commit "removed"
mkdir "$MNT/much"
echo new >"$MNT/much/f1"
assert_eq "$sums" "$(cd "$MNT/@v$much/much" && sha256sum *)" "files of version $much"
remount v
assert_eq "$sums" "$(cd "$MNT/@v$much/much" && sha256sum *)" "files of version $much after a remount"

note "300 commits, each with its own content, all readable, in any order, and after a remount"
first=$(($(xget version "$MNT")))
python3 - "$MNT" "$first" <<'PY'
import os, random, sqlite3, sys
mnt, first = sys.argv[1], int(sys.argv[2])
db = sqlite3.connect(mnt + "/count.db", isolation_level=None)
db.execute("CREATE TABLE n(i INTEGER PRIMARY KEY, pad TEXT)")
for i in range(300):
    db.execute("INSERT INTO n VALUES(?, ?)", (i, "x" * 100))
    with open("%s/number" % mnt, "w") as f:
        f.write(str(i))
    if i % 3 == 0:
        with open("%s/sub/only-%d" % (mnt, i), "w") as f:
            f.write("here")
    elif i % 3 == 1:
        os.unlink("%s/sub/only-%d" % (mnt, i - 1))
    os.setxattr(mnt, "user.mojofs.commit", b"number %d" % i)
db.close()
PY
cat >"$T/read_all.py" <<'PY'
import os, random, sqlite3, sys
mnt, first = sys.argv[1], int(sys.argv[2])
order = list(range(300))
random.Random(1).shuffle(order)
for i in order:
    v = "%s/@v%d" % (mnt, first + i)
    assert os.getxattr(v, "user.mojofs.message") == b"number %d" % i, v
    assert open(v + "/number").read() == str(i), v
    assert os.path.exists("%s/sub/only-%d" % (v, i // 3 * 3)) == (i % 3 == 0), v
    db = sqlite3.connect(v + "/count.db")
    assert db.execute("SELECT count(*), sum(i) FROM n").fetchone() == (i + 1, i * (i + 1) // 2), v
    if i % 10 == 0:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",), v
    db.close()
names = os.listdir(mnt)
versions = [n for n in names if n.startswith("@v")]
assert len(versions) == len(set(versions)) == first - 1 + 300, len(versions)
PY
timeout 300 python3 "$T/read_all.py" "$MNT" "$first"
remount v
timeout 300 python3 "$T/read_all.py" "$MNT" "$first"

note "a read-only mount shows versions and refuses commits"
unmount_store v
mount_store v -o ro
assert_fails 'Read-only file system' setfattr -n user.mojofs.commit -v x "$MNT"
assert_fails 'Read-only file system' touch "$MNT/new"
assert_eq "$((first + 300))" "$(xget version "$MNT")" "active version of the read-only mount"
timeout 300 python3 "$T/read_all.py" "$MNT" "$first"
unmount_store v
