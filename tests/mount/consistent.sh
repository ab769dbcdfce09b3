#!/bin/bash
# SPDX-License-Identifier: MIT
# A commit in the middle of a transaction, in each journal mode, at a point that is known: what is in the version, what is
# refused, what the log says, and how a verdict comes to a version. (load.sh does it at random moments.)
. "$(dirname "$0")/lib.sh"
need sqlite3 python3 setfattr

# A program that stands still in the middle of a transaction, with pages of it in the database (its cache has spilled).
cat >"$T/stand.py" <<'PY'
import os, sqlite3, sys
path, mode, sync = sys.argv[1:4]
db = sqlite3.connect(path, isolation_level=None, timeout=20)
db.execute("PRAGMA journal_mode=" + mode)
db.execute("PRAGMA synchronous=" + sync)
db.execute("PRAGMA cache_size=10")
db.execute("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, n, pad)")
db.execute("BEGIN")
for i in range(400):
    db.execute("INSERT OR REPLACE INTO t VALUES(?, 1, randomblob(700))", (i,))
db.execute("COMMIT")
if len(sys.argv) > 4 and sys.argv[4] == "exclusive":
    db.execute("PRAGMA locking_mode=EXCLUSIVE")
db.execute("BEGIN IMMEDIATE")
for i in range(400):
    db.execute("UPDATE t SET n = n + 1, pad = randomblob(700) WHERE id = ?", (i,))
print("standing", flush=True)
sys.stdin.readline()
db.execute("COMMIT")
print("done", flush=True)
sys.stdin.readline()
PY

# stand MODE SYNCHRONOUS [exclusive]: start it; go_on: let it commit; end_writer: let it end
stand() {
	coproc STANDING { exec python3 "$T/stand.py" "$MNT/$1-$2.db" "$@"; }
	standing_pid=$STANDING_PID
	track "$standing_pid"
	expect standing
}
expect() {
	local line
	read -r -t 60 line <&"${STANDING[0]}" || fail "the writer said nothing instead of '$1'"
	assert_eq "$1" "$line" "the writer"
}
go_on() {
	echo >&"${STANDING[1]}"
	expect "done"
}
end_writer() {
	echo >&"${STANDING[1]}"
	wait "$standing_pid" || fail "the writer failed"
}

# one_value DATABASE: what column n is in all of its rows, opened as anybody would
one_value() {
	sql_ok "$1"
	sql "$1" 'SELECT group_concat(DISTINCT n), count(*) FROM t'
}
busy() {
	assert_fails 'Device or resource busy' setfattr -n user.mojofs.commit -v "$1" "$MNT"
}
# no_hot_journal DIRECTORY: nothing that SQLite would have to recover
no_hot_journal() {
	local file
	for file in "$1"/*-journal "$1"/*-wal; do
		[ -e "$file" ] || continue
		case $file in
		*-wal) [ ! -s "$file" ] || fail "$file has content" ;;
		*) [ "$(head -c 1 "$file" | od -An -tx1 | tr -d ' ')" != d9 ] || fail "$file is hot" ;;
		esac
	done
}

mount_store c
log="$T/log/c.log"
for sync in FULL NORMAL; do
	for mode in DELETE TRUNCATE PERSIST WAL; do
		note "$mode, $sync: in mid transaction the version has what was before it"
		stand $mode $sync
		commit "$mode $sync"
		assert_eq "1|400" "$(one_value "$MNT/@v$VERSION/$mode-$sync.db")" "in the middle"
		no_hot_journal "$MNT/@v$VERSION"
		go_on
		commit "$mode $sync, after"
		assert_eq "2|400" "$(one_value "$MNT/@v$VERSION/$mode-$sync.db")" "after it"
		no_hot_journal "$MNT/@v$VERSION"
		expected=$(tr '[:upper:]' '[:lower:]' <<<"$mode")
		[ "$mode" = WAL ] || expected=delete # the only one that a database keeps is WAL
		assert_eq "$expected" "$(sql "$MNT/@v$VERSION/$mode-$sync.db" 'PRAGMA journal_mode')" "journal mode in the version"
		end_writer
	done
done
note "a transaction with locking_mode=EXCLUSIVE does not matter where there is a journal"
stand PERSIST EXTRA exclusive
commit exclusive
assert_eq "1|400" "$(one_value "$MNT/@v$VERSION/PERSIST-EXTRA.db")" "in the middle"
go_on
end_writer
! grep -q 'nothing was committed' "$log" || fail "something was refused: $(cat "$log")"

for pair in "MEMORY FULL" "OFF FULL" "DELETE OFF" "PERSIST OFF"; do
	read -r mode sync <<<"$pair"
	note "journal_mode=$mode, synchronous=$sync: EBUSY, and nothing has happened"
	stand "$mode" "$sync"
	before=$(xget version "$MNT")
	busy "$pair"
	assert_eq "$before" "$(xget version "$MNT")" "the active version after EBUSY"
	grep -q "$mode-$sync.db: .*nothing was committed" "$log" || fail "the log does not name the database: $(cat "$log")"
	assert_fails 'nothing was committed.*--wait' "$MOJOFS" commit "$MNT" "$pair"
	assert_fails 'nothing was committed' "$MOJOFS" commit --wait=1 "$MNT" "$pair"
	"$MOJOFS" commit --wait=60 "$MNT" "$pair" >"$T/waited" 2>&1 &
	waiting=$!
	track "$waiting"
	go_on # nobody is held up by who waits
	wait "$waiting" || fail "commit --wait failed: $(cat "$T/waited")"
	assert_eq "2|400" "$(one_value "$MNT/@v$(sed 's/version //' "$T/waited")/$mode-$sync.db")" "after waiting"
	commit "not in a transaction"
	assert_eq "2|400" "$(one_value "$MNT/@v$VERSION/$mode-$sync.db")" "open, but not in a transaction"
	end_writer
done
assert_fails 'not a number of seconds' "$MOJOFS" commit --wait=soon "$MNT"

note "WAL, OFF: a transaction under way is no reason"
stand WAL OFF
commit "wal off"
assert_eq "1|400" "$(one_value "$MNT/@v$VERSION/WAL-OFF.db")" "in the middle"
go_on
end_writer

note "ordinary files are never a reason: empty ones, zeros, half a copy of a database"
exec 7>"$MNT/empty" 8>"$MNT/zeros" 9>"$MNT/half.db"
head -c 100000 /dev/zero >&8
head -c 50000 "$MNT/DELETE-FULL.db" >&9
commit "ordinary"
assert_eq 50000 "$(stat -c %s "$MNT/@v$VERSION/half.db")" "half a copy"
exec 7>&- 8>&- 9>&-
rm "$MNT/half.db"

note "a rename takes the journal along; side files in new directories, and such as were there before the mount"
mkdir -p "$MNT/deep/er"
remount c
mkdir "$MNT/deep/new"
for where in deep/er deep/new; do
	MNT="$MNT/$where" stand DELETE FULL
	commit "$where"
	assert_eq "1|400" "$(one_value "$MNT/@v$VERSION/$where/DELETE-FULL.db")" "$where"
	kill -KILL "$standing_pid" # its journal stays
	wait "$standing_pid" 2>/dev/null || true
done
mv "$MNT/deep/er" "$MNT/deep/moved"
[ -s "$MNT/deep/moved/DELETE-FULL.db-journal" ] || fail "the killed writer left no journal"
for turn in "as it is" "after a remount"; do
	[ "$turn" = "as it is" ] || remount c
	commit "hot journals, $turn"
	for where in deep/moved deep/new; do
		assert_eq "1|400" "$(one_value "$MNT/@v$VERSION/$where/DELETE-FULL.db")" "$where, $turn"
		no_hot_journal "$MNT/@v$VERSION/$where"
	done
done
[ -s "$MNT/deep/moved/DELETE-FULL.db-journal" ] || fail "the commit took the journal of the active version"
unmount_store c

note "offline: the same"
version=$("$MOJOFS" commit "$STORE" offline | sed 's/version //')
mount_store c
assert_eq "1|400" "$(one_value "$MNT/@v$version/deep/new/DELETE-FULL.db")" "committed offline"
no_hot_journal "$MNT/@v$version/deep/new"
unmount_store c

note "the flusher is killed: what has a journal is committed all the same, and the log tells"
mount_store c
stand WAL FULL
pkill -KILL -P "${daemon_of["$MNT"]}" -x mojofs-flusher
commit "one flush fails"
commit "without a flusher"
assert_eq "1|400" "$(one_value "$MNT/@v$VERSION/WAL-FULL.db")" "without a flusher"
grep -q 'mojofs-flusher has ended' "$T/log/c.log" || fail "the log does not tell that the flusher has ended"
go_on
commit "without a flusher, after"
assert_eq "2|400" "$(one_value "$MNT/@v$VERSION/WAL-FULL.db")" "without a flusher, after"
end_writer
unmount_store c

note "control: --no-settle freezes what is there, and refuses nothing"
for options in --no-settle "-o nosettle" --settle=no; do
	# shellcheck disable=SC2086
	mount_store c $options
	stand MEMORY FULL
	commit "bare"
	one_value "$MNT/@v$VERSION/MEMORY-FULL.db" >"$T/torn" 2>&1 && value=$(cat "$T/torn") || value=torn
	[ "$value" != "2|400" ] && [ "$value" != "1|400" ] || fail "$options: the bare freeze is at the end of a transaction: the test proves nothing"
	[ "$(head -c 1 "$MNT/@v$VERSION/deep/new/DELETE-FULL.db-journal" | od -An -tx1 | tr -d ' ')" = d9 ] ||
		fail "$options: the bare freeze settles"
	go_on
	end_writer
	unmount_store c
done

note "verified versions"
printf '[mount]\nverify = yes\n' >"$T/verify.conf"
mount_store v --config="$T/verify.conf"
mkdir "$MNT/sub"
sql "$MNT/sub/a.db" 'CREATE TABLE t(x); INSERT INTO t VALUES(1)'
sql "$MNT/b.db" 'PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)' >"$T/out"
echo plain >"$MNT/plain"
[ ! -L "$MNT/@last-good" ] || fail "@last-good before anything was verified"
# verdict VERSION PATTERN: within a while
verdict() {
	local give_up=$((SECONDS + 60))
	until "$MOJOFS" versions --from="$1" --limit=1 "$MNT" | grep -q "^ *$1 .*$2"; do
		[ "$SECONDS" -lt "$give_up" ] || fail "version $1 has not become $2: $("$MOJOFS" versions "$MNT")"
		sleep 0.05
	done
}
commit one
verdict 1 '\[verified\]'
assert_eq @v1 "$(readlink "$MNT/@last-good")" "@last-good"
assert_eq 1 "$(sql "$MNT/@last-good/b.db" 'SELECT x FROM t')" "a database in @last-good"
cp "$MNT/sub/a.db" "$T/whole.db"
python3 -c '
import sys
with open(sys.argv[1], "r+b") as file:
    file.seek(4096)
    file.write(b"\xff" * 4096)' "$MNT/sub/a.db"
commit two
verdict 2 '\[bad: sub/a.db: '
assert_eq @v1 "$(readlink "$MNT/@last-good")" "@last-good after a bad version"
grep -q 'version 2: sub/a.db: ' "$T/log/v.log" || fail "the log does not tell of the bad version"
echo more >"$MNT/plain"
commit three # a.db has not changed, but is looked at: version 2 did not pass
verdict 3 '\[bad: sub/a.db: '
cp "$T/whole.db" "$MNT/sub/a.db"
commit four
verdict 4 '\[verified\]'
assert_eq @v4 "$(readlink "$MNT/@last-good")" "@last-good"
assert_fails 'Read-only file system' rm "$MNT/@last-good"
assert_fails 'Read-only file system' mv "$MNT/@last-good" "$MNT/x"
assert_fails 'No such file' setfattr -n user.mojofs.verify -v 99 "$MNT"
assert_fails 'Invalid argument' setfattr -n user.mojofs.verify -v x "$MNT"
remount v
assert_eq @v4 "$(readlink "$MNT/@last-good")" "@last-good after a remount"
"$MOJOFS" commit --verify "$MNT" five >"$T/out"
verdict 5 '\[verified\]'
unmount_store v
"$MOJOFS" commit --verify "$STORE" six >"$T/out" 2>&1 || fail "commit --verify offline: $(cat "$T/out")"
"$MOJOFS" versions "$STORE" | grep -q '^ *6 .*\[verified\]' || fail "version 6 was not verified"
