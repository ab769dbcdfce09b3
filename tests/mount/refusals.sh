#!/bin/bash
# SPDX-License-Identifier: MIT
# What bad input gets: a clear message, a non-zero exit, and nothing touched.
. "$(dirname "$0")/lib.sh"
need sqlite3 python3

# picture DIRECTORY: names, modes, times and contents of all below it
picture() {
	(cd "$1" && find . -printf '%p %m %U:%G %s %T@ %l\n' | sort && find . -type f -print0 | sort -z | xargs -0r sha256sum)
}

# refused PATTERN argument...: mojofs-fuse with these arguments fails, in the background and in the
# foreground, and says what matches the pattern; neither $T/store nor $T/mnt changes
refused() {
	local pattern=$1 before after
	shift
	before=$(picture "$T/store"; picture "$T/mnt")
	assert_fails "$pattern" "$MOJOFS_FUSE" "$@"
	assert_fails "$pattern" "$MOJOFS_FUSE" --foreground "$@"
	after=$(picture "$T/store"; picture "$T/mnt")
	assert_eq "$before" "$after" "what is there after: mojofs-fuse $*"
	[ -z "$(mounts_below "$T/mnt")" ] && ! is_mounted "$T/mnt" || fail "mounted after all: mojofs-fuse $*"
}

mkdir "$T/mnt" "$T/store"

note "mount points"
refused 'does not exist' "$T/store" "$T/nowhere"
refused 'does not exist' "$T/absent" "$T/nowhere"
[ ! -e "$T/absent" ] || fail "a store was made although there was no mount point"
touch "$T/plain"
refused 'not a directory' "$T/store" "$T/plain"
mkdir "$T/full"
touch "$T/full/file"
refused 'not empty' "$T/store" "$T/full"
refused 'the store' "$T/store" "$T/store"
mkdir "$T/store-with-hole"
"$MOJOFS" create "$T/store-with-hole" >/dev/null
mkdir "$T/store-with-hole/sub"
refused 'inside the store' "$T/store-with-hole" "$T/store-with-hole/sub"
mkdir "$T/around"
refused 'inside the mount point|not empty' "$T/around/store" "$T/around"
[ ! -e "$T/around/store" ] || fail "a store was made inside the mount point"

note "arguments"
refused 'MOUNTPOINT' "$T/store"
refused 'STORE and MOUNTPOINT'
refused 'third' "$T/store" "$T/mnt" "$T/third"
refused 'frobnicate' --frobnicate "$T/store" "$T/mnt"
refused 'frobnicate' -o frobnicate "$T/store" "$T/mnt"
refused 'frobnicate' -o frobnicate=1,ro "$T/store" "$T/mnt"
refused "Z" -Z "$T/store" "$T/mnt"
for size in 2048 131072 5000 0 -4096 abc 4096x '' 99999999999999999999; do
	refused 'page.size' "--page-size=$size" "$T/store" "$T/mnt"
	assert_fails 'page.size' "$MOJOFS" create "--page-size=$size" "$T/new"
	[ ! -e "$T/new" ] || fail "mojofs create --page-size=$size made a directory"
done
for count in 32 131072 100 abc; do
	refused 'pages.per.slot' "--pages-per-slot=$count" "$T/store" "$T/mnt"
done
for size in 1M 2G 5000000 abc; do
	refused 'chunk.size' "--chunk-size=$size" "$T/store" "$T/mnt"
done
[ -z "$(ls -A "$T/store")" ] || fail "a refused mount laid something out in the empty store: $(ls -A "$T/store")"

note "configuration files"
# bad_config LINE-NUMBER PATTERN TEXT: refused, with file, line and what is wrong
bad_config() {
	printf '%b' "$3" >"$T/bad.conf"
	refused "bad\.conf:$1: .*$2" --config="$T/bad.conf" "$T/store" "$T/mnt"
}
bad_config 3 'no-such-key' '# a comment\n[store]\nno-such-key = 1\n'
bad_config 2 'out of range' '[store]\npage-size = 2048\n'
bad_config 4 'not a size' '[store]\n\n\npage-size = large\n'
bad_config 2 'neither yes nor no' '[mount]\nlist-versions = perhaps\n'
bad_config 1 'no-section' '[no-section]\nx = 1\n'
bad_config 1 'before the first section' 'page-size = 4096\n'
bad_config 3 'second time' '[store]\npage-size = 4096\npage-size = 8192\n'
bad_config 2 'expected' '[store]\nnonsense\n'
bad_config 2 'cache-size' '[store]\ncache-size = 64M\n'
refused 'absent\.conf' --config="$T/absent.conf" "$T/store" "$T/mnt"

note "a directory that is no store, and not empty"
echo precious >"$T/store/data"
refused 'is not a store|not a store|not empty|no store' "$T/store" "$T/mnt"
assert_fails 'not empty' "$MOJOFS" create "$T/store"
assert_fails '.' "$MOJOFS" state "$T/store"
rm "$T/store/data"
mkdir "$T/store/chunks"
echo precious >"$T/store/chunks/data"
refused 'not a store|not empty|no store' "$T/store" "$T/mnt"
rm -r "$T/store/chunks"
echo "not a root" >"$T/store/mojo.state"
refused 'store|damaged' "$T/store" "$T/mnt"
head -c 8192 /dev/urandom >"$T/store/mojo.state"
refused 'store|damaged' "$T/store" "$T/mnt"
rm -r "$T/store"
echo file >"$T/store"
assert_fails 'is a directory, and' "$MOJOFS_FUSE" "$T/store" "$T/mnt"
assert_eq file "$(cat "$T/store")" "a plain file named as store"
rm "$T/store"

note "a store of a newer format"
mkdir "$T/store"
mount_at "$T/store" "$T/mnt"
echo content >"$T/mnt/file"
unmount_at "$T/mnt"
cp -a "$T/store" "$T/good"
python3 - "$T/store/mojo.state" <<'PY'
import ctypes, sys
xxh3 = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
xxh3.restype, xxh3.argtypes = ctypes.c_uint64, (ctypes.c_char_p, ctypes.c_size_t)
with open(sys.argv[1], "r+b") as f:
    for place in 0, 4096:
        f.seek(place)
        slot = f.read(4088)
        slot = slot[:8] + (2).to_bytes(4, "little") + slot[12:]
        f.seek(place)
        f.write(slot + xxh3(slot, len(slot)).to_bytes(8, "little"))
PY
refused 'newer' "$T/store" "$T/mnt"
refused 'newer' -o ro "$T/store" "$T/mnt"
before=$(picture "$T/store")
assert_fails 'newer' "$MOJOFS" state "$T/store"
assert_fails 'newer' "$MOJOFS" commit "$T/store" message
assert_eq "$before" "$(picture "$T/store")" "the newer store"

note "a damaged store"
rm -r "$T/store"
cp -a "$T/good" "$T/store"
head -c 8192 /dev/zero >"$T/store/mojo.state"
refused 'damaged|not a store' "$T/store" "$T/mnt"
rm -r "$T/store"
cp -a "$T/good" "$T/store"

note "geometry of a store that exists already"
mount_at "$T/store" "$T/mnt"
assert_eq content "$(cat "$T/mnt/file")" "the good copy"

note "a store that is open already: who has it is named"
mkdir "$T/mnt2"
pid=${daemon_of["$T/mnt"]}
before=$(picture "$T/store"; picture "$T/mnt2")
assert_fails "$pid" "$MOJOFS_FUSE" "$T/store" "$T/mnt2"
assert_fails "$pid" "$MOJOFS_FUSE" --foreground "$T/store" "$T/mnt2"
ln -s store "$T/other-name"
assert_fails "$pid" "$MOJOFS_FUSE" "$T/other-name" "$T/mnt2"
assert_eq "$before" "$(picture "$T/store"; picture "$T/mnt2")" "the store that is open"
assert_eq content "$(cat "$T/mnt/file")" "the mount that was there first"
! is_mounted "$T/mnt2" || fail "a store is mounted twice"

note "a mount inside of a mojofs mount's own store, and on top of a mount"
assert_fails '.' "$MOJOFS_FUSE" "$T/new-store" "$T/mnt"
[ ! -e "$T/new-store" ] || fail "a store was made for a mount that was refused"

note "in the mount: names, versions, commits (versions.sh has more)"
setfattr -n user.mojofs.commit -v one "$T/mnt"
assert_fails 'cannot touch|setting times' touch "$T/mnt/@v1x"
assert_fails 'File name too long' touch "$T/mnt/$(printf 'n%.0s' $(seq 256))"
assert_fails 'Read-only file system' touch "$T/mnt/@v1/file"
assert_fails 'Argument list too long|Numerical result out of range' python3 -c '
import os, sys
os.setxattr(sys.argv[1], "user.mojofs.commit", b"m" * 65536)' "$T/mnt"
assert_fails '.' "$MOJOFS" commit "$T/mnt" "$(printf 'm%.0s' $(seq 65536))"
assert_eq 2 "$(xget version "$T/mnt")" "active version after refusals"
assert_eq "@v1 file " "$(ls "$T/mnt" | tr '\n' ' ')" "names in the root after refusals"
unmount_at "$T/mnt"
mount_at "$T/store" "$T/mnt" -o ro
assert_fails 'Read-only file system' setfattr -n user.mojofs.commit -v two "$T/mnt"
assert_fails '[Rr]ead-only' "$MOJOFS" commit "$T/mnt" two
assert_fails 'in use by a process that only reads it' "$MOJOFS_FUSE" --foreground "$T/store" "$T/mnt2"
unmount_at "$T/mnt"
