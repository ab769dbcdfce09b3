#!/bin/bash
# SPDX-License-Identifier: MIT
# The loadable extension in stock sqlite3, and in python3: databases in a store without a mount. Every journal mode and
# auto_vacuum mode through create, insert, commit, insert, commit, copy a table, read v1, commit, delete, commit, vacuum,
# read v4 and v2; what each version must hold is computed by the same statements on a host file. Then connections that
# lock each other, processes that are killed, stores that are in use, and what is refused.
# (Threads, and commits under load: test_vfs_load. Stores that were mounted: tests/mount/vfs.sh.)
set -Eeuo pipefail
export LC_ALL=C TZ=UTC
umask 022

fail() {
	echo "FAIL: test_vfs: $*" >&2
	exit 1
}

source_dir=$(cd "$(dirname "$0")/.." && pwd)
for candidate in "${MOJOFS:-}" "$PWD/cli/mojofs" "$source_dir/cli/mojofs"; do
	[ -n "$candidate" ] && [ -x "$candidate" ] || continue
	MOJOFS=$candidate
	break
done
[ -x "${MOJOFS:-}" ] || fail "cli/mojofs was not found: run make first"
MODULE=$(cd "$(dirname "$MOJOFS")/../sqlite" && pwd)/mojofs
[ -e "$MODULE.so" ] || fail "$MODULE.so was not found: run make first"
command -v sqlite3 >/dev/null || {
	echo "SKIP: test_vfs: sqlite3 is not installed (contrib/install-deps installs it)"
	exit 77
}

# A sanitizer's library has to be there before a program that was built without it.
preload=$(ldd "$MODULE.so" | sed -n 's/.*=> \(.*lib[at]san[^ ]*\).*/\1/p')
stock=(env)
[ -z "$preload" ] || stock=(env LD_PRELOAD="$preload" ASAN_OPTIONS=detect_leaks=0)

T=$(mktemp -d "${TMPDIR:-/tmp}/mojofs-test_vfs.XXXXXX")
T=$(cd "$T" && pwd -P)
child=
finish() {
	local status=$?
	trap - EXIT
	[ -z "$child" ] || kill -KILL "$child" 2>/dev/null || true
	rm -rf "$T"
	exit $status
}
trap finish EXIT
trap 'echo "FAIL: test_vfs: line $LINENO: $BASH_COMMAND" >&2' ERR
cd "$T"

note() {
	echo "-- $*"
}

assert_eq() {
	[ "$1" = "$2" ] || fail "${3:-values differ}: expected '$1', got '$2'"
}

# shell line...: the lines given to one sqlite3 that has the extension; its output without the results of PRAGMA
shell() {
	printf '%s\n' ".load $MODULE" "$@" | "${stock[@]}" timeout -k 5 120 sqlite3 -batch -bail 2>&1
}

# on URI line...: the same, with that database open
on() {
	local uri=$1
	shift
	shell ".open '$uri'" "$@"
}

# refused PATTERN URI line...: that must be said, in SQLite's log or as an error. (The shell goes on, with nothing open,
# when .open fails.)
refused() {
	local pattern=$1 text status=0
	shift
	text=$(shell ".log stderr" ".open '$1'" "${@:2}") || status=$?
	[ $status -lt 124 ] || fail "should have failed, and hung or crashed: $*: $text"
	grep -Eq -- "$pattern" <<<"$text" || fail "$*: said '$text', not /$pattern/"
}

# wait_for FILE PATTERN: until a line of the file matches
wait_for() {
	local give_up=$((SECONDS + 60))
	until grep -Eq -- "$2" "$1" 2>/dev/null; do
		[ $SECONDS -lt $give_up ] || fail "waited in vain for /$2/ in: $(cat "$1")"
		sleep 0.01
	done
}

# start URI line...: a sqlite3 in the background that goes on to read from fd 7 and prints to $T/child.out
start() {
	local uri=$1
	shift
	rm -f child.in child.out
	mkfifo child.in
	: >child.out
	"${stock[@]}" sqlite3 -batch <child.in >child.out 2>&1 &
	child=$!
	exec 7>child.in
	tell ".load $MODULE" ".open '$uri'" "$@" "SELECT 'ready';"
	wait_for child.out '^ready$'
}

tell() {
	printf '%s\n' "$@" >&7
}

end_child() { # SIGNAL, or nothing: end of its input
	[ -z "${1:-}" ] || kill "-$1" "$child"
	exec 7>&-
	wait "$child" 2>/dev/null || true
	child=
}

# store_ok STORE: nothing is wrong with it
store_ok() {
	timeout -k 5 60 "$MOJOFS" check --scrub "$1" >check.out 2>&1 || fail "mojofs check $1: $(cat check.out)"
}

# ---- the matrix -----------------------------------------------------------------------------------------

rows() { # TABLE FIRST LAST
	echo "WITH RECURSIVE n(i) AS (SELECT $2 UNION ALL SELECT i + 1 FROM n WHERE i < $3)" \
		"INSERT INTO $1(id, s, b) SELECT i, printf('%0*d', 200 + i % 300, i * 2654435761 % 1000000007)," \
		"CAST(printf('%0*x', 64 + i, i * 7919) AS BLOB) FROM n;"
}
create="CREATE TABLE t(id INTEGER PRIMARY KEY, s TEXT UNIQUE, b BLOB); $(rows t 1 100)"
insert=$(rows t 101 200)
copy="CREATE TABLE c AS SELECT * FROM t;"
delete="DELETE FROM t; DELETE FROM c;"

note "what the versions must hold"
declare -a expected
expected[1]=$(sqlite3 reference.db "$create" .sha3sum)
expected[2]=$(sqlite3 reference.db "$insert" .sha3sum)
expected[3]=$(sqlite3 reference.db "$copy" .sha3sum)
expected[4]=$(sqlite3 reference.db "$delete" .sha3sum)
expected[5]=$(sqlite3 reference.db "VACUUM" .sha3sum)

# holds STORE VERSION
holds() {
	local text
	text=$(on "file:$1?vfs=mojo&ver=$2&mode=ro" "PRAGMA integrity_check;" ".sha3sum")
	assert_eq "ok"$'\n'"${expected[$2]}" "$text" "version $2 of $1"
}

pages=(4096 16384 65536)
pps=(64 4096 65536)
turn=0
for journal in OFF WAL MEMORY DELETE TRUNCATE PERSIST; do
	for vacuum in 0 1 2; do
		store=$journal-$vacuum.db
		page=${pages[turn % 3]} slot=${pps[turn / 3 % 3]}
		turn=$((turn + 1))
		uri="file:$store?vfs=mojo&pagesz=$page&pps=$slot"
		mode="PRAGMA journal_mode=$journal;"
		lower=${journal,,}

		out=$(on "$uri" "PRAGMA auto_vacuum=$vacuum;" "$mode" "$create" "SELECT mojofs_commit('100 rows');")
		assert_eq "$lower"$'\n'1 "$out" "$store: create and commit"
		out=$(on "$uri" "PRAGMA auto_vacuum;" "$mode" "$insert" "SELECT mojofs_commit('200 rows');")
		assert_eq "$vacuum"$'\n'"$lower"$'\n'2 "$out" "$store: insert and commit"
		# In one connection, with the past attached.
		out=$(on "$uri" "$mode" "$copy" "ATTACH 'file:$store?vfs=mojo&ver=1&mode=ro' AS v1;" \
			"SELECT count(*), (SELECT count(*) FROM v1.t) FROM t;" "SELECT mojofs_version('v1'), mojofs_version();" \
			"SELECT mojofs_commit('copied');")
		assert_eq "$lower"$'\n''200|100'$'\n''1|3'$'\n'3 "$out" "$store: copy, read v1, commit"
		holds "$store" 1
		out=$(on "$uri" "$mode" "$delete" "SELECT mojofs_commit('deleted');" "VACUUM;")
		assert_eq "$lower"$'\n'4 "$out" "$store: delete, commit, vacuum"
		holds "$store" 4
		holds "$store" 2
		out=$(on "$uri" "SELECT mojofs_commit('vacuumed');" "PRAGMA integrity_check;" \
			"SELECT version, message, active, time IS NULL FROM mojofs_versions ORDER BY version;")
		assert_eq "5"$'\n'"ok"$'\n'"1|100 rows|0|0
2|200 rows|0|0
3|copied|0|0
4|deleted|0|0
5|vacuumed|0|0
6||1|1" "$out" "$store: versions"
		holds "$store" 5
		holds "$store" 3
		"$MOJOFS" state "$store" >state.out
		grep -q "page size .*($page bytes)" state.out || fail "$store: pagesz=$page was not taken: $(cat state.out)"
		grep -Eq "pages per slot +$slot\$" state.out || fail "$store: pps=$slot was not taken: $(cat state.out)"
		store_ok "$store"
	done
done
note "$turn combinations of journal mode and auto_vacuum"

# ---- several databases, directories, names -----------------------------------------------------------------

note "several databases in a store, a transaction over two of them"
"$MOJOFS" create shop >/dev/null
assert_eq 2 "$(on 'file:shop/a.db?vfs=mojo' "CREATE TABLE t(x);" "ATTACH 'file:shop/b.db?vfs=mojo' AS b;" \
	"CREATE TABLE b.t(x);" "BEGIN; INSERT INTO main.t VALUES(1); INSERT INTO b.t VALUES(1); COMMIT;" \
	"SELECT (SELECT count(*) FROM main.t) + (SELECT count(*) FROM b.t);")" "rows in both"
mkdir elsewhere
ln -s ../shop elsewhere/link
assert_eq 1 "$(on "file:elsewhere/link/../shop/./a.db?vfs=mojo" "SELECT * FROM t;")" "a roundabout path"
assert_eq "$T/shop/a.db" "$(on 'file:elsewhere/link/a.db?vfs=mojo' "SELECT file FROM pragma_database_list;")" "the full path"
assert_eq 1 "$(on "file:shop/a.db?vfs=mojo" "SELECT mojofs_commit('one');")" "the first version"
assert_eq 1 "$(on "file:shop/@v1/b.db?vfs=mojo" "SELECT * FROM t;")" "a version in the path"
refused 'readonly|read-only' "file:shop/@v1/b.db?vfs=mojo" "INSERT INTO t VALUES(2);"
refused 'there is no frozen version 7' "file:shop/a.db?vfs=mojo&ver=7&mode=ro"
refused 'there is no frozen version 2' "file:shop/a.db?vfs=mojo&ver=2&mode=ro" # the active one
refused 'followed by the number' "file:shop/a.db?vfs=mojo&ver=x&mode=ro"
refused 'followed by a number' "file:new.db?vfs=mojo&pagesz=big"
refused 'pagesz=1000.*not possible' "file:new.db?vfs=mojo&pagesz=1000"
[ ! -e new.db ] || fail "a store that could not be made is there"
refused 'is not in the store' "file:shop/c.db?vfs=mojo&mode=rw"
refused 'is not in that version' "file:shop/c.db?vfs=mojo&ver=1&mode=ro"
refused 'belongs to the versions' "file:shop/@home?vfs=mojo"
refused 'a new store is made in a directory that exists' "file:nowhere/c.db?vfs=mojo"
refused 'is no store' "file:elsewhere/x.db?vfs=mojo&mode=rw"
sqlite3 plain.db "CREATE TABLE t(x)"
refused 'is a file, and no store' "file:plain.db?vfs=mojo"
refused 'neither a store nor empty' "file:elsewhere?vfs=mojo"
refused 'is in no mojofs store' "file:plain.db" "SELECT mojofs_commit('x');"
refused 'is in no mojofs store' "file:plain.db" "SELECT * FROM mojofs_versions;"
refused 'there is no database "b"' "file:shop/a.db?vfs=mojo" "SELECT mojofs_commit('x', 'b');"
refused 'longer than' "file:shop/a.db?vfs=mojo" "SELECT mojofs_commit(hex(zeroblob(501)));"
refused 'open for reading only' "file:shop/a.db?vfs=mojo&mode=ro" "SELECT mojofs_commit('x');"
refused 'in a transaction: end it first' "file:shop/a.db?vfs=mojo" "BEGIN;" "SELECT mojofs_commit('x');"
refused 'in a transaction: end it first' "file:shop/a.db?vfs=mojo" "INSERT INTO t SELECT mojofs_commit('x');"
refused 'unsafe use' "file:shop/a.db?vfs=mojo" "CREATE VIEW v AS SELECT mojofs_commit('x') AS c;" "SELECT * FROM v;"
assert_eq 2 "$(on "file:plain.db" "ATTACH 'file:shop/a.db?vfs=mojo' AS s;" "SELECT mojofs_commit('of an attached one', 's');")" \
	"a commit of an attached database"
assert_eq "one|of an attached one|" "$(on "file:plain.db" "ATTACH 'file:shop/a.db?vfs=mojo' AS s;" \
	"SELECT group_concat(coalesce(message, ''), '|') FROM mojofs_versions('s');")" "versions of an attached database"
assert_eq "$T/nowhere: No such file or directory; a new store is made in a directory that exists, or by: mojofs create STORE" \
	"$(printf '%s\n' ".load $MODULE" ".open 'file:nowhere/c.db?vfs=mojo'" "SELECT mojofs_last_error();" |
		"${stock[@]}" sqlite3 -batch 2>/dev/null)" "the reason, asked for in SQL"
assert_eq ok "$(on 'file:shop/a.db?vfs=mojo' "PRAGMA integrity_check;")" "after the refusals"

# ---- locks ---------------------------------------------------------------------------------------------------

two="file:shop/locks.db?vfs=mojo"
# both line...: with two connections to one database; the first is active
both() {
	shell ".open '$two'" ".connection 1" ".open '$two'" ".connection 0" "$@"
}
on "$two" "CREATE TABLE t(x);" >/dev/null
both_refused() {
	local text status=0
	text=$(both "$@") || status=$?
	[ $status -ne 0 ] && grep -q 'database is locked' <<<"$text" || fail "not locked out: $*: $text"
}

note "two connections keep each other out as they should"
both_refused "BEGIN IMMEDIATE;" ".connection 1" "BEGIN IMMEDIATE;"
both_refused "BEGIN EXCLUSIVE;" ".connection 1" "SELECT * FROM t;"
both_refused "BEGIN; SELECT * FROM t;" ".connection 1" "INSERT INTO t VALUES(1);" # its COMMIT meets a reader
both_refused "BEGIN; SELECT count(*) FROM t;" ".connection 1" "BEGIN; INSERT INTO t VALUES(1);" ".connection 0" "INSERT INTO t VALUES(2);"
assert_eq "0"$'\n'"0" "$(both "BEGIN IMMEDIATE;" ".connection 1" "SELECT count(*) FROM t;" ".connection 0" "COMMIT;" \
	"SELECT count(*) FROM t;")" "a reader beside a RESERVED lock"
both_refused "PRAGMA locking_mode=EXCLUSIVE;" "INSERT INTO t VALUES(1);" ".connection 1" "SELECT * FROM t;"
# A reader that another one's writing would disturb keeps it off; when it ends, the writer goes on.
assert_eq "1"$'\n'"2" "$(both "SELECT count(*) FROM t;" ".connection 1" "INSERT INTO t VALUES(2);" ".connection 0" \
	"SELECT count(*) FROM t;")" "one after the other"

note "in WAL mode readers and a writer at once"
assert_eq "wal"$'\n'"2"$'\n'"2"$'\n'"3" "$(both "PRAGMA journal_mode=WAL;" "BEGIN; SELECT count(*) FROM t;" ".connection 1" \
	"INSERT INTO t VALUES(3);" ".connection 0" "SELECT count(*) FROM t;" "COMMIT;" "SELECT count(*) FROM t;")" "a reader's snapshot"
both_refused "BEGIN IMMEDIATE;" ".connection 1" "BEGIN IMMEDIATE;"
assert_eq "0|1|1"$'\n'"1|-1|-1" "$(both "INSERT INTO t VALUES(4);" "PRAGMA wal_checkpoint(FULL);" | head -1)"$'\n'"$(both \
	"BEGIN; SELECT 1 FROM t WHERE 0;" ".connection 1" "INSERT INTO t VALUES(5);" "PRAGMA wal_checkpoint(TRUNCATE);" |
	sed 's/^1|.*/1|-1|-1/')" "checkpoints"
assert_eq "delete"$'\n'"5" "$(on "$two" "PRAGMA journal_mode=DELETE;" "SELECT count(*) FROM t;")" "back from WAL mode"

note "a commit while others are at it"
commit_beside() { # JOURNAL_MODE line...: connection 0 is in mid transaction, connection 1 commits a version
	local mode=$1
	shift
	both "PRAGMA journal_mode=$mode; PRAGMA cache_size=5;" "CREATE TABLE IF NOT EXISTS big(x);" "BEGIN;" \
		"INSERT INTO big SELECT hex(randomblob(4000)) FROM generate_series(1, 200);" ".connection 1" \
		"SELECT mojofs_commit('beside $mode');" "$@"
}
for mode in DELETE TRUNCATE PERSIST WAL; do
	version=$(commit_beside $mode | tail -1)
	assert_eq "ok"$'\n'"0" "$(on "$two&ver=$version&mode=ro" "PRAGMA integrity_check;" "SELECT count(*) FROM big;")" \
		"the version beside a transaction in mode $mode"
	! "$MOJOFS" ls --version="$version" shop | grep -E -- '-(wal|journal)$' || fail "version $version has side files"
done
on "$two" "PRAGMA journal_mode=DELETE;" >/dev/null
for mode in MEMORY OFF; do
	text=$(commit_beside $mode 2>&1) && fail "a version of a torn database in mode $mode: $text"
	grep -q 'is in the middle of a transaction with journal_mode OFF or MEMORY' <<<"$text" || fail "mode $mode: $text"
	# Nothing plays that transaction back, as its user has chosen.
	two="file:shop/after-$mode.db?vfs=mojo"
	on "$two" "CREATE TABLE t(x);" >/dev/null
done

# ---- a process that dies -------------------------------------------------------------------------------------

note "processes that are killed"
for mode in DELETE TRUNCATE PERSIST WAL; do
	uri="file:kill-$mode.db?vfs=mojo"
	start "$uri" "PRAGMA journal_mode=$mode;" "PRAGMA synchronous=FULL;" "PRAGMA cache_size=5;" "CREATE TABLE t(x);" \
		"INSERT INTO t SELECT hex(randomblob(500)) FROM generate_series(1, 100);" "SELECT 'committed ' || count(*) FROM t;"
	wait_for child.out '^committed 100$'
	tell "BEGIN;" "INSERT INTO t SELECT hex(randomblob(500)) FROM generate_series(1, 5000);" "UPDATE t SET x = 'new ' || x;" \
		"SELECT 'within ' || count(*) FROM t;"
	wait_for child.out '^within 5100$'
	end_child KILL
	assert_eq "100|0"$'\n'"ok"$'\n'"${mode,,}" "$(on "$uri" "SELECT count(*), sum(x LIKE 'new%') FROM t;" \
		"PRAGMA integrity_check;" "PRAGMA journal_mode;" | sed "s/^delete\$/${mode,,}/")" "mode $mode after the kill"
	store_ok "kill-$mode.db"
done

# ---- a store that is in use ----------------------------------------------------------------------------------

note "a store in two processes"
start "file:shop/a.db?vfs=mojo" "SELECT count(*) FROM t;"
refused "shop: the store is in use by .*$child" "file:shop/a.db?vfs=mojo"
refused "database is locked" "file:shop/a.db?vfs=mojo&mode=ro"
end_child
start "file:shop/a.db?vfs=mojo&ver=1&mode=ro" "SELECT count(*) FROM t;"
assert_eq 1 "$(on "file:shop/b.db?vfs=mojo&mode=ro" "SELECT count(*) FROM t;")" "readers in two processes"
refused "the store is in use by" "file:shop/a.db?vfs=mojo"
end_child

note "from reading to writing within a process"
assert_eq "1"$'\n'"2"$'\n'"1" "$(on "file:shop/a.db?vfs=mojo&ver=1&mode=ro" "SELECT count(*) FROM t;" \
	"ATTACH 'file:shop/a.db?vfs=mojo' AS now;" "INSERT INTO now.t VALUES(2);" "SELECT count(*) FROM now.t;" \
	"SELECT count(*) FROM main.t;")" "an old version, and the present attached to it"

# ---- python ---------------------------------------------------------------------------------------------------

python=
for candidate in python3 /usr/bin/python3; do
	if "$candidate" -c 'import sqlite3; sqlite3.Connection.enable_load_extension' 2>/dev/null; then
		python=$candidate
		break
	fi
done
if [ -n "$python" ]; then
	note "python3's sqlite3"
	"${stock[@]}" timeout -k 5 120 "$python" - "$MODULE" <<-'EOF'
		import os, sqlite3, sys, threading

		first = sqlite3.connect(":memory:")
		first.enable_load_extension(True)
		first.load_extension(sys.argv[1])
		first.close()
		uri = "file:python.db?vfs=mojo&pagesz=4096"
		db = sqlite3.connect(uri, uri=True, isolation_level=None)
		db.execute("CREATE TABLE t(thread, number)")

		def work(thread):
		    mine = sqlite3.connect(uri, uri=True, timeout=60, isolation_level=None)
		    for number in range(50):
		        mine.execute("INSERT INTO t VALUES(?, ?)", (thread, number))
		    mine.close()

		for mode in ("DELETE", "WAL"):
		    assert db.execute(f"PRAGMA journal_mode={mode}").fetchone()[0] == mode.lower()
		    db.execute("DELETE FROM t")
		    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
		    for thread in threads:
		        thread.start()
		    for thread in threads:
		        thread.join()
		    counts = db.execute("SELECT count(*), count(DISTINCT thread || ':' || number) FROM t").fetchone()
		    assert counts == (200, 200), counts
		version = db.execute("SELECT mojofs_commit('from python')").fetchone()[0]
		db.execute("DELETE FROM t")
		old = sqlite3.connect(f"file:python.db?vfs=mojo&ver={version}&mode=ro", uri=True)
		assert old.execute("SELECT count(*) FROM t").fetchone() == (200,)
		assert db.execute("SELECT message FROM mojofs_versions WHERE version = ?", (version,)).fetchone() == ("from python",)
		# A child must not touch what its parent has open.
		pid = os.fork()
		if pid == 0:
		    try:
		        db.execute("INSERT INTO t VALUES(1, 1)")
		    except sqlite3.OperationalError:
		        os._exit(7)
		    os._exit(0)
		assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
		db.execute("INSERT INTO t VALUES(2, 2)")
		assert db.execute("SELECT thread FROM t").fetchall() == [(2,)]
	EOF
	store_ok python.db
else
	note "python3: not tried, none here can load extensions"
fi
