#!/bin/bash
# SPDX-License-Identifier: MIT
# Large things: a database of 2 GB (written, checked, read through mmap, committed, changed, read at its
# version, remounted), and 10,000 files in one directory.
TEST_SECONDS=${TEST_SECONDS:-1500}
SQL_SECONDS=900
. "$(dirname "$0")/lib.sh"
need sqlite3 python3

megabytes=${BIG_MEGABYTES:-2048}
free=$(df -Pm "$T" | awk 'NR == 2 { print $4 }')
[ "$free" -gt $((megabytes * 2 + 500)) ] ||
	skip "needs $((megabytes * 2 + 500)) MB free in $T, there are $free (set TMPDIR to a larger place)"

lap() {
	note "$1 (at $SECONDS s)"
}

mount_store big
db="$MNT/big.db"

lap "a database of $megabytes MB"
out=$(sql "$db" "PRAGMA journal_mode=DELETE; PRAGMA synchronous=NORMAL;
	CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, b BLOB);
	WITH RECURSIVE i(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM i WHERE i < $megabytes)
	INSERT INTO t SELECT i, i * i, CAST(printf('%08d', i) AS BLOB) || randomblob(1048576 - 600) FROM i;")
assert_eq delete "$out" "journal mode"
size=$(stat -c %s "$db")
[ "$size" -ge $((megabytes * 1000000)) ] || fail "the database has only $size bytes"

probe() { # DATABASE: something of every row, and of some rows everything
	sql "$1" "PRAGMA mmap_size=${2:-0}" "SELECT count(*), sum(n), sum(length(b)), sum(substr(b, 1, 8)) FROM t" \
		"SELECT hex(substr(b, 500000, 40)) FROM t WHERE id % 97 = 5"
}
first=$(probe "$db")
sum=$(sha256sum <"$db")

lap "commit"
commit "2 GB"
v=$VERSION
lap "change"
sql "$db" "UPDATE t SET b = randomblob(length(b)), n = -n WHERE id % 50 = 7; DELETE FROM t WHERE id % 50 = 9;
	UPDATE t SET n = n + 1 WHERE id % 3 = 0;"
changed=$(probe "$db")
[ "$changed" != "$first" ] || fail "the change does not show"

lap "read it at version $v"
assert_eq "$sum" "$(sha256sum <"$MNT/@v$v/big.db")" "checksum of version $v"
assert_eq "$first" "$(probe "$MNT/@v$v/big.db")" "rows of version $v"

lap "the cost of a commit does not follow the size"
start=$(date +%s%N)
commit "nothing changed since"
took=$((($(date +%s%N) - start) / 1000000))
note "a commit took $took ms"
[ "$took" -lt 5000 ] || fail "a commit of nothing took $took ms"

lap "remount and check"
remount big
assert_eq "$changed" "$(probe "$db" | tail -n +1)" "rows after a remount"
lap "through mmap"
mapped=$(probe "$db" 1000000000)
assert_eq 1000000000 "${mapped%%$'\n'*}" "PRAGMA mmap_size"
assert_eq "${changed#*$'\n'}" "${mapped#*$'\n'}" "rows read through mmap"
lap "integrity_check"
sql_ok "$db"
lap "version $v after the remount"
assert_eq "$sum" "$(sha256sum <"$MNT/@v$v/big.db")" "checksum of version $v after a remount"

lap "the old version keeps what it needs when the database goes"
rm "$db"
commit "gone"
[ ! -e "$MNT/@v$VERSION/big.db" ] || fail "the removed database is in version $VERSION"
assert_eq "$first" "$(probe "$MNT/@v$v/big.db")" "rows of version $v after the database was removed"
unmount_store big
rm -rf "${T:?}/big.store"

lap "10,000 files in one directory"
mount_store many
python3 - "$MNT" <<'PY'
import os, sys, time
base = sys.argv[1] + "/many"
started = time.monotonic()

def lap(what):
    global started
    print("   %-28s %6.2f s" % (what, time.monotonic() - started))
    started = time.monotonic()

names = ["file number %05d" % i for i in range(10000)]
os.mkdir(base)
for i, name in enumerate(names):
    with open(base + "/" + name, "w") as f:
        f.write("content %d" % i)
lap("create and write")
assert sorted(os.listdir(base)) == names
lap("list")
with os.scandir(base) as it:
    assert sum(e.stat().st_size for e in it) == sum(len("content %d" % i) for i in range(10000))
lap("list and stat")
for i in range(0, 10000, 7):
    assert open(base + "/" + names[i]).read() == "content %d" % i
lap("read every seventh")
os.setxattr(sys.argv[1], "user.mojofs.commit", b"10,000 files")
lap("commit")
for name in names[::2]:
    os.unlink(base + "/" + name)
for name in names[1::4]:
    os.rename(base + "/" + name, base + "/renamed " + name)
lap("unlink half, rename a quarter")
rest = sorted(["renamed " + n for n in names[1::4]] + names[3::4])
assert sorted(os.listdir(base)) == rest
PY
remount many
python3 - "$MNT" <<'PY'
import os, sys
names = ["file number %05d" % i for i in range(10000)]
base = sys.argv[1] + "/many"
old = sys.argv[1] + "/@v1/many"
assert sorted(os.listdir(base)) == sorted(["renamed " + n for n in names[1::4]] + names[3::4])
assert sorted(os.listdir(old)) == names
for i in range(0, 10000, 13):
    assert open(old + "/" + names[i]).read() == "content %d" % i
for n in os.listdir(base):
    os.unlink(base + "/" + n)
os.rmdir(base)
PY
assert_eq "10000" "$(ls "$MNT/@v1/many" | wc -l)" "files of version 1"
unmount_store many
