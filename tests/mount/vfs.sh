#!/bin/bash
# SPDX-License-Identifier: MIT
# One store in turn on a mount and through the SQLite extension: what the one wrote, versions included, the other reads
# and goes on with; a transaction that was cut short on the mount is rolled back by the extension, and the other way
# round. A store that is mounted is refused, and so is a store within a mount.
. "$(dirname "$0")/lib.sh"
need sqlite3

MODULE=$(cd "$(dirname "$MOJOFS")/../sqlite" && pwd)/mojofs
[ -e "$MODULE.so" ] || fail "$MODULE.so was not found: run make first"
# A sanitizer's library has to be there before a program that was built without it.
preload=$(ldd "$MODULE.so" | sed -n 's/.*=> \(.*lib[at]san[^ ]*\).*/\1/p')
stock=(env)
[ -z "$preload" ] || stock=(env LD_PRELOAD="$preload" ASAN_OPTIONS=detect_leaks=0)

# on URI line...: in one sqlite3 that has the extension
on() {
	printf '%s\n' ".load $MODULE" ".open '$1'" "${@:2}" | "${stock[@]}" timeout -k 5 120 sqlite3 -batch -bail 2>&1
}

rows() { # how many
	echo "INSERT INTO t SELECT hex(randomblob(300)) FROM generate_series(1, $1);"
}
content() { # what is to be equal, wherever it is read
	echo "SELECT count(*) || ' ' || sum(length(x)) || ' ' || max(x) FROM t"
}

note "made by the extension, read and continued on a mount"
store=$T/both.store
"$MOJOFS" create "$store" >/dev/null
for mode in DELETE WAL PERSIST; do
	on "file:$store/$mode.db?vfs=mojo" "PRAGMA journal_mode=$mode;" "CREATE TABLE t(x);" "$(rows 100)" >/dev/null
done
assert_eq 1 "$(on "file:$store/DELETE.db?vfs=mojo" "SELECT mojofs_commit('by the extension');")" "version"
declare -A first second
for mode in DELETE WAL PERSIST; do
	first[$mode]=$(on "file:$store/$mode.db?vfs=mojo" "$(content);")
done
mount_store both
for mode in DELETE WAL PERSIST; do
	assert_eq "${first[$mode]}" "$(sql "$MNT/$mode.db" "$(content)")" "$mode.db on the mount"
	assert_eq "${first[$mode]}" "$(sql "$MNT/@v1/$mode.db" "$(content)")" "$mode.db in @v1"
	assert_eq "${mode,,}" "$(sql "$MNT/$mode.db" "PRAGMA journal_mode=$mode; $(rows 100)")" "$mode.db"
	sql_ok "$MNT/$mode.db"
	second[$mode]=$(sql "$MNT/$mode.db" "$(content)")
done
commit "on the mount"
assert_eq 2 "$VERSION" "the next version"

note "a store that is mounted, and one within a mount, are refused"
text=$(on "file:$store/DELETE.db?vfs=mojo" ".log stderr" ".open 'file:$store/DELETE.db?vfs=mojo'" || true)
grep -q "the store is in use by .*mojofs-fuse" <<<"$text" || fail "a mounted store: $text"
text=$(on "file:$MNT/new.db?vfs=mojo" ".log stderr" ".open 'file:$MNT/new.db?vfs=mojo'" || true)
grep -q "lies in a mojofs mount" <<<"$text" || fail "in the mount: $text"
[ ! -e "$MNT/new.db" ] || fail "something was made in the mount"

note "continued by the extension"
unmount_store both
for mode in DELETE WAL PERSIST; do
	assert_eq "ok"$'\n'"${second[$mode]}" "$(on "file:$store/$mode.db?vfs=mojo" "PRAGMA integrity_check;" "$(content);")" \
		"$mode.db again"
	assert_eq "${first[$mode]}" "$(on "file:$store/$mode.db?vfs=mojo&ver=1&mode=ro" "$(content);")" "$mode.db, version 1"
	assert_eq "${second[$mode]}" "$(on "file:$store/$mode.db?vfs=mojo&ver=2&mode=ro" "$(content);")" "$mode.db, version 2"
done
assert_eq "by the extension,on the mount" "$(on "file:$store/WAL.db?vfs=mojo" \
	"SELECT group_concat(message) FROM mojofs_versions WHERE NOT active;")" "messages"

# in_the_middle DATABASE: a sqlite3 process that is in mid transaction, with its journal on the disk; sets WRITER
in_the_middle() {
	rm -f "$T/in" "$T/out"
	mkfifo "$T/in"
	: >"$T/out"
	"${stock[@]}" sqlite3 -batch <"$T/in" >"$T/out" 2>&1 &
	WRITER=$!
	track "$WRITER"
	exec 7>"$T/in"
	printf '%s\n' "${@}" "PRAGMA cache_size=5;" "BEGIN;" "UPDATE t SET x = 'torn ' || x;" "$(rows 2000)" "SELECT 'within';" >&7
	local give_up=$((SECONDS + 60))
	until grep -q within "$T/out"; do
		[ $SECONDS -lt $give_up ] || fail "the writer did not come so far: $(cat "$T/out")"
		sleep 0.02
	done
}
end_writer() {
	kill -KILL "$WRITER"
	wait "$WRITER" 2>/dev/null || true
	exec 7>&-
}

note "cut short on the mount, rolled back by the extension"
for mode in DELETE WAL; do
	mount_store both
	in_the_middle ".open '$MNT/$mode.db'"
	end_writer
	[ -s "$MNT/$mode.db-journal" ] || [ -s "$MNT/$mode.db-wal" ] || fail "$mode.db has no journal, so nothing is tried"
	unmount_store both
	assert_eq "ok"$'\n'"${second[$mode]}" "$(on "file:$store/$mode.db?vfs=mojo" "PRAGMA integrity_check;" "$(content);")" \
		"$mode.db after the crash"
done

note "cut short in the extension, rolled back on the mount"
for mode in DELETE WAL; do
	in_the_middle ".load $MODULE" ".open 'file:$store/$mode.db?vfs=mojo'"
	end_writer
	mount_store both
	assert_eq "ok"$'\n'"${second[$mode]}" "$(sql "$MNT/$mode.db" "PRAGMA integrity_check; $(content)")" \
		"$mode.db after the crash"
	unmount_store both
done
timeout -k 5 60 "$MOJOFS" check --scrub "$store" >"$T/log/check" 2>&1 || fail "$(cat "$T/log/check")"
