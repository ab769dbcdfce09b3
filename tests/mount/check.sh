#!/bin/bash
# SPDX-License-Identifier: MIT
# mojofs check on databases: sound after use, a scrub beside writers, a damaged page found by file, version and page on
# a mount and off it, a repair after which everything that was whole is there and the rest is an error.
TEST_SECONDS=300
. "$(dirname "$0")/lib.sh"
need sqlite3

mojofs() {
	timeout -k 5 120 "$MOJOFS" "$@"
}

# ends STATUS PATTERN argument...
ends() {
	local expected=$1 pattern=$2 status=0
	shift 2
	mojofs "$@" >"$T/out" 2>"$T/err" </dev/null || status=$?
	assert_eq "$expected" "$status" "exit status of: mojofs $* ($(cat "$T/out" "$T/err"))"
	cat "$T/out" "$T/err" | grep -Eq -- "$pattern" || fail "mojofs $*: said '$(cat "$T/out" "$T/err")', not /$pattern/"
}

# address FILE PAGE [VERSION]: where the page lies, in a store that is not mounted
address() {
	mojofs map --json "$STORE" "$1" ${3:+-V "$3"} --page "$2" | sed 's/.*"address":\([0-9]*\).*/\1/'
}

# poke ADDRESS: a byte of that block is another
poke() {
	local per_chunk=$(((4 << 20) / 4096)) chunk at byte
	chunk=$(printf '%s/chunks/%08x.chunk' "$STORE" $(($1 / per_chunk)))
	at=$(($1 % per_chunk * 4096 + 33))
	byte=$(od -An -tu1 -j $at -N 1 "$chunk")
	# shellcheck disable=SC2059
	printf "\\$(printf '%03o' $((byte ^ 1)))" | dd of="$chunk" bs=1 seek=$at conv=notrunc status=none
}

note "databases in use, then a check"
mojofs create --chunk-size=4M --pages-per-slot=64 "$T/k.store" >/dev/null
mount_store k
for mode in wal delete; do
	sql "$MNT/$mode.db" "PRAGMA journal_mode=$mode; CREATE TABLE t(a INTEGER PRIMARY KEY, b);
		INSERT INTO t SELECT value, hex(randomblob(200)) FROM generate_series(1, 3000);" >/dev/null
done
commit one
for i in 1 2 3; do
	sql "$MNT/delete.db" "UPDATE t SET b = hex(randomblob(200)) WHERE a % 10 = $i"
	commit "change $i"
done
mkdir -p "$MNT/dir/deep"
head -c 3000000 /dev/urandom >"$MNT/dir/deep/file"
rm "$MNT/wal.db"
remount k
sql_ok "$MNT/delete.db"

note "a mounted store: the structure not, its pages yes"
for path in "$MNT" "$STORE" "$MNT/dir"; do
	ends 8 'is mounted at .*--scrub' check "$path"
	ends 8 'unmount it before' check --repair "$path"
done
ends 0 "^$MNT: [0-9]+ pages read: 0 errors" check --scrub --rate=1G "$MNT"
ends 0 'pages read: 0 errors' check --scrub --rate=1G "$STORE"
ends 0 '"state":"done".*"errors":0' check --scrub --rate=1G --json "$MNT/dir"
assert_fails 'Invalid argument' setfattr -n user.mojofs.scrub -v frobnicate "$MNT"
assert_fails 'Invalid argument' setfattr -n user.mojofs.scrub -v 'start fast' "$MNT"
assert_fails 'Operation not permitted' setfattr -n user.mojofs.scrub -v start "$MNT/dir"

note "a slow scrub can be watched, and stopped; writers go on"
setfattr -n user.mojofs.scrub -v 'start 500000' "$MNT"
assert_fails 'busy' setfattr -n user.mojofs.scrub -v start "$MNT"
grep -q '"state":"running"' <<<"$(xget scrub "$MNT")" || fail "it does not run: $(xget scrub "$MNT")"
sql "$MNT/delete.db" "UPDATE t SET b = 'x' WHERE a = 7"
setfattr -n user.mojofs.scrub -v stop "$MNT"
until grep -q '"state":"stopped"' <<<"$(xget scrub "$MNT")"; do sleep 0.05; done
setfattr -n user.mojofs.scrub -v 'start 500000' "$MNT"
unmount_store k # it is stopped, and nothing waits for it

note "not mounted: everything"
ends 0 '0 errors, 0 warnings' check --scrub "$STORE"

note "a damaged page is named"
page=20
poke "$(address delete.db $page 1)"
ends 4 '^error: page, delete\.db, version(s 1 to [0-9]+| 1), page 20: ' check --scrub "$STORE"
ends 0 '0 errors' check "$STORE"
mount_store k
ends 4 'error: page, delete\.db, .*page 20: ' check --scrub --rate=1G "$MNT"
ends 4 '"kind":"page".*"path":"delete.db".*"first_page":20,"pages":1' check --scrub --rate=1G --json "$MNT"
assert_fails 'Input/output error' dd if="$MNT/@v1/delete.db" of=/dev/null bs=4096 skip=20 count=1
unmount_store k
ends 4 '1 error,' check --scrub --repair "$STORE"

note "with the file the damage does not go: the old versions have it"
mount_store k
cp "$MNT/dir/deep/file" "$T/copy"
rm "$MNT/delete.db"
unmount_store k
ends 4 '^error: page' check --scrub "$STORE"

note "a damaged root is written anew"
printf damage | dd of="$STORE/mojo.state" bs=1 seek=4196 conv=notrunc status=none
ends 1 'repaired' check --repair "$STORE"
mount_store k
cmp "$MNT/dir/deep/file" "$T/copy"
unmount_store k
ls -d "$STORE"/lost+found-* >/dev/null

note "passed"
