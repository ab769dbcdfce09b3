#!/bin/bash
# SPDX-License-Identifier: MIT
# The command line on mounts, on stores that are mounted, and on the same stores afterwards: one answer,
# however a store is reached.
TEST_SECONDS=300
. "$(dirname "$0")/lib.sh"
need python3

mojofs() {
	timeout -k 5 60 "$MOJOFS" "$@"
}

# refused STATUS PATTERN argument...
refused() {
	local expected=$1 pattern=$2 status=0 text
	shift 2
	text=$(mojofs "$@" 2>&1 >"$T/out" </dev/null) || status=$?
	assert_eq "$expected" "$status" "exit status of: mojofs $*"
	grep -Eq -- "$pattern" <<<"$text" || fail "mojofs $*: said '$text', not /$pattern/"
}

note "a store with files, versions, holes, hostile names"
mojofs create --page-size=8K --chunk-size=4M "$T/c.store" >/dev/null
mount_store c
sub="$MNT/sub dir"
mkdir -p "$sub/deep"
printf 'hello, page 0' >"$MNT/a.db"
truncate -s 100000 "$MNT/a.db"
printf 'page 10' | dd of="$MNT/a.db" bs=8192 seek=10 conv=notrunc status=none
printf x >"$sub/deep/file"
ln -s 'a.db' "$MNT/link"
mkfifo "$MNT/fifo"
nasty=$'nasty\n\e[31m\\\xff'
printf y >"$MNT/$nasty"
chmod 4751 "$sub/deep/file"
touch -d '2001-02-03 04:05:06.000000789' "$sub/deep/file"
sync "$MNT/a.db" "$sub/deep/file" "$MNT/$nasty"

note "commit, on whatever belongs to the mount"
assert_eq "version 1" "$(mojofs commit "$MNT" 'the first')"
printf 'changed' | dd of="$MNT/a.db" bs=8192 seek=10 conv=notrunc status=none
assert_eq "version 2" "$(mojofs commit "$STORE" -m $'two\nlines \xfe')"
rm "$MNT/$nasty"
head -c 9000000 /dev/urandom >"$MNT/big"
sync "$MNT/big"
assert_eq '{"version":3,"message":""}' "$(mojofs commit --json "$sub/deep/file")"
assert_eq "version 4" "$(cd "$MNT/@v1" && mojofs commit . here)"
assert_eq "the first" "$(xget message "$MNT/@v1")"
assert_eq $'two\nlines \xfe' "$(xget message "$MNT/@v2")"
printf 'last' | dd of="$MNT/a.db" bs=8192 seek=3 conv=notrunc status=none
sync "$MNT/a.db"

note "state, on whatever belongs to the mount"
for path in "$MNT" "$STORE" "$STORE/" "$sub" "$MNT/@v1/a.db" "$sub/../a.db"; do
	text=$(mojofs state "$path")
	grep -qx "store  *$STORE" <<<"$text" || fail "state $path: $text"
	grep -qx "mounted on  *$MNT" <<<"$text" || fail "state $path: $text"
	grep -qx "daemon  *process ${daemon_of[$MNT]}" <<<"$text" || fail "state $path: $text"
done
grep -Eq '^  GETXATTR +[0-9]+$' <<<"$text" || fail "state does not show the requests: $text"
mojofs state --json "$MNT" | python3 -c '
import json, sys
state = json.load(sys.stdin)
assert state["mount"] == sys.argv[1] and state["store"] == sys.argv[2] and state["pid"] == int(sys.argv[3]), state
assert state["page_size"] == 8192 and state["active_version"] == 5 and state["frozen_versions"] == 4, state
assert state["requests"]["GETXATTR"] > 0 and not state["read_only"], state
' "$MNT" "$STORE" "${daemon_of[$MNT]}"

# What does not depend on how the store is reached, as JSON. In a mount, symbolic links have no bucket.
# answers STORE-OR-MOUNT
answers() {
	local version
	mojofs versions --json "$1"
	for version in 1 2 3 4 5; do
		mojofs ls --json -R -V "$version" "$1"
		mojofs ls --json "$1" "@v$version/sub dir"
		mojofs map --json -V "$version" "$1" a.db
		mojofs map --json -V "$version" "$1" a.db --page 10 --dump
		mojofs map --json -V "$version" "$1" 'sub dir/deep/file' --summary
	done
	mojofs map --json -V 1 "$1" "$nasty"
	mojofs map --json "$1" big
	mojofs map --json "$1" big --summary
	mojofs map "$1" big --pages 1000-
}
normalised() {
	sed -E 's/("type":"(symlink|fifo)","bucket":)[^,]*/\1-/g'
}

note "a mounted store and its mount give the same answers"
answers "$MNT" | normalised >"$T/mounted"
answers "$STORE" | normalised >"$T/through"
cmp "$T/mounted" "$T/through"

note "ls and map, by the path of a file in the mount"
mojofs ls "$MNT" >"$T/out"
grep -Eq '^ +[0-9]+ +3 +100000  .{19}  a\.db$' "$T/out" || fail "ls: $(cat "$T/out")"
grep -Eq ' sub dir/$' "$T/out"
! grep -q '@v' "$T/out" || fail "ls shows versions as files"
mojofs ls -lR "$MNT/@v1" >"$T/out"
grep -Eq -- '^-rws[rwx-]{6} .* 1  2001-02-03 04:05:06  sub dir/deep/file$' "$T/out" || fail "ls -lR: $(cat "$T/out")"
grep -Fq 'link -> a.db' "$T/out"
grep -Fq 'nasty\n\x1b[31m\\\xff' "$T/out"
assert_eq 2 "$(mojofs ls "$sub/deep" | wc -l)"
assert_eq "$(mojofs ls "$MNT" 'sub dir/deep/file')" "$(mojofs ls "$sub/deep/file")"
assert_eq "$(mojofs ls "$MNT/sub dir" deep)" "$(mojofs ls "$sub/deep")"
assert_eq "$(mojofs ls "$sub" /a.db)" "$(mojofs ls "$MNT" a.db)"
for where in "$MNT/@v1/a.db" "$MNT|@v1/a.db" "$MNT/@v1|a.db" "$STORE|@v1/a.db" "$STORE|a.db|-V|1"; do
	IFS='|' read -ra arguments <<<"$where"
	mojofs map --json "${arguments[@]}" >"$T/one"
	[ ! -e "$T/previous" ] || cmp "$T/previous" "$T/one"
	mv "$T/one" "$T/previous"
done
python3 - "$T/previous" <<'PY'
import json, sys
m = json.load(open(sys.argv[1]))
assert (m["path"], m["version"], m["active"], m["size"], m["page_size"]) == ("a.db", 1, False, 100000, 8192), m
assert [e["page"] for e in m["map"]] == [0, 10], m
assert all(e["version"] == 1 and e["address"] == e["chunk"] * m["blocks_per_chunk"] + e["block"] for e in m["map"]), m
PY
mojofs map "$MNT/a.db" >"$T/out"
grep -Eq '^ +0 .* 1  [0-9a-f]{8}$' "$T/out" # page 0 is still version 1's
grep -Eq '^ +3 .* 5  [0-9a-f]{8}$' "$T/out"
grep -Eq '^ +10 .* 2  [0-9a-f]{8}$' "$T/out"
mojofs map "$MNT/a.db" --page 10 --dump | grep -q '^0000014000  63 68 61 6e 67 65 64 .*|changed'
mojofs map "$MNT/@v1/a.db" --page 10 --dump | grep -q '|page 10\.'
mojofs map "$MNT/a.db" --page 11 | grep -q 'no content there'
assert_eq 1099 "$(mojofs map --json "$MNT/big" | grep -o '"page":' | wc -l)" "pages of a file whose map takes several answers"

note "what is refused"
refused 1 'no version 9' ls -V 9 "$MNT"
refused 1 'no version 9' map "$STORE" @v9/a.db
refused 1 'has no file "nothing"' map "$MNT" nothing
refused 1 'no such file' map "$MNT/nothing"
refused 1 'is a symbolic link' map "$MNT" link
refused 1 'is a directory' map "$sub"
refused 1 'no ordinary file' map "$MNT" fifo
refused 1 'version 1, but version 2' map "$MNT/@v1/a.db" -V 2
refused 1 'lies in a mojofs mount' create "$MNT/store"
refused 1 'lies in a mojofs mount' create "$sub/deep"
[ ! -e "$MNT/store" ] || fail "a store was made in a mount"
assert_eq 1 "$(find "$sub/deep" -mindepth 1 | wc -l)" "files in the directory that is no store"

note "the same answers after the unmount"
answers "$MNT" | normalised >"$T/mounted"
unmount_store c
mojofs state "$STORE" | grep -q '(not mounted)'
answers "$STORE" | normalised >"$T/offline"
cmp "$T/mounted" "$T/offline" || fail "$(diff <(tr ',' '\n' <"$T/mounted") <(tr ',' '\n' <"$T/offline") | head -20)"
refused 1 'is no store, and no mojofs is mounted there' state "$MNT"
refused 1 'is a symbolic link' map "$STORE" link
assert_eq "version 5" "$(mojofs commit "$STORE" 'while nothing was mounted')"

note "a read-only mount"
mount_store c -o ro
assert_eq 5 "$(mojofs versions --json "$MNT" | grep -o '"active":false' | wc -l)"
refused 1 'mounted read-only' commit "$MNT" no
refused 1 'mounted read-only' commit "$STORE" no
unmount_store c

note "a store that some other process has open"
mojofs create "$T/d.store" >/dev/null
python3 - "$T/d.store/mojo.lock" "$T/locked" <<'PY' &
import fcntl, os, signal, sys
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(fd, fcntl.LOCK_EX)
open(sys.argv[2], "w").close()
signal.pause()
PY
locker=$!
track "$locker"
until [ -e "$T/locked" ]; do
	is_running "$locker" || fail "the store could not be locked"
	sleep 0.02
done
refused 1 "$T/d.store: .*not mounted where" state "$T/d.store"
kill "$locker"
wait "$locker" 2>/dev/null || true
mojofs state "$T/d.store" >/dev/null

note "a store and a mount point with blanks in them, found by the store's path"
store="$T/a b"
point="$T/point	of it"
mkdir "$store" "$point"
# (mount_at looks for the mount point as mountinfo writes it, and that is what is tested here.)
mount_blanks() {
	local give_up=$((SECONDS + 60))
	"$MOJOFS_FUSE" --foreground "$@" "$store" "$point" >>"$T/log/blanks" 2>&1 &
	track_daemon "$point" $! "$store" "$T/log/blanks"
	until [ "$(xget pid "$point" 2>/dev/null)" = "${daemon_of[$point]}" ]; do
		[ "$SECONDS" -lt "$give_up" ] && is_running "${daemon_of[$point]}" || fail "$point was not mounted"
		sleep 0.01
	done
}
mount_blanks
mojofs state "$store" | grep -Fqx "mounted on          $T/point\tof it" || fail "$(mojofs state "$store")"
ln -s "a b" "$T/alias"
assert_eq "version 1" "$(mojofs commit "$T/alias" found)"

note "a commit that takes long holds up nobody who works in the root directory"
cat >"$T/ioctl.py" <<'PY'
"""commit by ioctl: ioctl.py DIRECTORY LENGTH MESSAGE [SIZE]; prints the version, or the name of the error"""
import errno, fcntl, os, struct, sys
path, length, message = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode("unicode_escape").replace(b"%00", b"\0")
size = int(sys.argv[4]) if len(sys.argv) > 4 else 1008
command = 3 << 30 | size << 16 | ord("m") << 8 | 0x6a
try:
    answer = fcntl.ioctl(os.open(path, os.O_RDONLY), command, struct.pack("<II1000s", length, 0, message)[:size])
    print(struct.unpack_from("<I", answer, 4)[0])
except OSError as e:
    print(errno.errorcode[e.errno])
PY
asked() { # KIND: how many such requests there were
	xget state "$MNT" | python3 -c 'import json, sys; print(json.load(sys.stdin)["requests"][sys.argv[1]])' "$1"
}
mount_store c
exec 7>>"$MNT/held"
printf 'in the kernel' >&7
flusher=$(pgrep -x -P "${daemon_of[$MNT]}" mojofs-flusher)
before=$(asked IOCTL)
kill -STOP "$flusher" # without which the commit cannot go on
mojofs commit "$MNT" 'long' >"$T/committed" &
committer=$!
track "$committer"
for ((i = 0; i < 600; i++)); do
	[ "$(asked IOCTL)" -eq "$before" ] || break
	sleep 0.05
done
# shellcheck disable=SC2016
timeout -k 1 30 sh -c ': >"$1/new" && mkdir "$1/new.d" && sync "$1" && rmdir "$1/new.d" && rm "$1/new"' - "$MNT" &
worker=$!
status=0
wait "$worker" || status=$?
going=yes
kill -0 "$committer" || going=no
kill -CONT "$flusher"
assert_eq 0 "$status" "the status of who works in the root during a commit"
assert_eq yes "$going" "is the commit still under way"
wait "$committer"
exec 7>&-
version=$(sed -n 's/^version //p' "$T/committed")
assert_eq long "$(xget message "$MNT/@v$version")"
assert_eq 'in the kernel' "$(cat "$MNT/@v$version/held")"

note "a commit by ioctl: whose, and how"
assert_eq $((version + 1)) "$(python3 "$T/ioctl.py" "$MNT" 5 'right or not')"
assert_eq right "$(xget message "$MNT/@v$((version + 1))")"
assert_eq $((version + 2)) "$(python3 "$T/ioctl.py" "$MNT" 0 '')"
assert_eq '' "$(xget message "$MNT/@v$((version + 2))")"
assert_eq E2BIG "$(python3 "$T/ioctl.py" "$MNT" 1001 x)"
assert_eq E2BIG "$(python3 "$T/ioctl.py" "$MNT" 4294967295 x)"
assert_eq EINVAL "$(python3 "$T/ioctl.py" "$MNT" 3 'a%00b')"
assert_eq EINVAL "$(python3 "$T/ioctl.py" "$MNT" 2 'a')"
assert_eq ENOTTY "$(python3 "$T/ioctl.py" "$MNT" 1 x 1004)"
assert_eq ENOTTY "$(python3 "$T/ioctl.py" "$sub" 1 x)"
assert_eq ENOTTY "$(python3 "$T/ioctl.py" "$MNT/big" 1 x)"
assert_eq ENOTTY "$(python3 "$T/ioctl.py" "$MNT/@v1" 1 x)"
assert_eq "$((version + 2))" "$(xget commit "$MNT")" "no more versions than that"
unmount_store c
mount_store c -o ro
assert_eq EROFS "$(python3 "$T/ioctl.py" "$MNT" 1 x)"
unmount_store c

note "a mount whose source is not the store's path"
unmount_at "$point"
mount_blanks -o fsname=something
grep -q ' - fuse.mojofs-fuse something ' /proc/self/mountinfo || fail "fsname= is not taken"
assert_eq "version 2" "$(mojofs commit "$store" 'found again')"
unmount_at "$point"

note "a mount of another user"
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null && [ -x /usr/bin/python3 ]; then
	cp "$MOJOFS" "$T/mojofs"
	stranger=(setpriv --reuid=65534 --regid=65534 --clear-groups "$T/mojofs")
	mount_store c
	assert_fails "^mojofs: $MNT: permission denied.*allow_other" "${stranger[@]}" state "$MNT"
	assert_fails "^mojofs: $MNT: permission denied.*allow_other" "${stranger[@]}" ls "$sub/deep/file"
	assert_fails 'permission denied.*allow_other' "${stranger[@]}" commit "$STORE"
	unmount_store c
	mount_store c -o allow_other
	chmod 755 "$MNT"
	chmod 200 "$MNT/big"
	"${stranger[@]}" state "$STORE" | grep -qx "mounted on  *$MNT" || fail "a readable mount is not found by its store"
	"${stranger[@]}" ls "$MNT" | grep -Eq '^ +- .* big$' || fail "a file that may not be read is not listed"
	"${stranger[@]}" map "$MNT/@v1/a.db" >/dev/null
	assert_fails 'big: permission denied' "${stranger[@]}" map "$MNT/big"
	assert_fails 'permission denied; to commit' "${stranger[@]}" commit "$MNT"
	# Of an ioctl the daemon judges, and leaves to the kernel what is not as simple as that.
	as_stranger=("${stranger[@]:0:4}")
	last=$(xget commit "$MNT")
	assert_eq ENOTTY "$("${as_stranger[@]}" /usr/bin/python3 "$T/ioctl.py" "$MNT" 1 x)"
	assert_eq "$last" "$(xget commit "$MNT")" "the last version"
	chgrp 65534 "$MNT"
	chmod 775 "$MNT"
	before=$(asked SETXATTR)
	assert_eq "version $((last + 1))" "$("${stranger[@]}" commit "$MNT" 'of the group')"
	assert_eq $((before + 1)) "$(asked SETXATTR)" "attributes set"
	chown 65534:0 "$MNT"
	chmod 755 "$MNT"
	assert_eq "version $((last + 2))" "$("${stranger[@]}" commit "$MNT" 'of the owner')"
	assert_eq $((before + 1)) "$(asked SETXATTR)" "attributes set"
	chmod 555 "$MNT"
	assert_eq ENOTTY "$("${as_stranger[@]}" /usr/bin/python3 "$T/ioctl.py" "$MNT" 1 x)"
	assert_fails 'permission denied; to commit' "${stranger[@]}" commit "$MNT"
	assert_eq "$((last + 2))" "$(xget commit "$MNT")" "the last version"
	chown 0:0 "$MNT"
	chmod 755 "$MNT"
	unmount_store c
fi

note "a daemon that died"
mount_store c
kill_at "$MNT"
refused 1 'the daemon of the mount there has ended; remove the dead mount' state "$MNT"
refused 1 'the daemon of the mount there has ended' commit "$MNT/sub" message
mojofs state "$STORE" | grep -q '(not mounted)'
refused 1 "fusermount3 -u $MNT, " ls "$MNT/@v1/a.db"
fusermount3 -u "$MNT"
