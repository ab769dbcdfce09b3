#!/bin/bash
# SPDX-License-Identifier: MIT
# What broke other file systems and VFSes under SQLite, one by one. MOJO_TEST_LONG=1: the transaction of 1 GiB.
[ -z "${MOJO_TEST_LONG:-}" ] || TEST_SECONDS=${TEST_SECONDS:-2400}
. "$(dirname "$0")/lib.sh"
need sqlite3 python3

mount_store r
numbers() { # COUNT: SQL for a table of that many rows
	echo "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)"
}

note "two WAL checkpoints of kind TRUNCATE in a row, with a reopen between"
db="$MNT/truncate.db"
assert_eq wal "$(sql "$db" "PRAGMA journal_mode=wal; CREATE TABLE t(x);" | head -n 1)" "journal mode"
for round in 1 2 3 4; do
	sql "$db" "$(numbers 500) INSERT INTO t SELECT i FROM n; PRAGMA wal_checkpoint(TRUNCATE);" >"$T/out"
	assert_eq "0|0|0" "$(cat "$T/out")" "first checkpoint of round $round"
	assert_eq "0|0|0" "$(sql "$db" 'PRAGMA wal_checkpoint(TRUNCATE);')" "second checkpoint of round $round, reopened"
	assert_eq "$((round * 500))" "$(sql "$db" 'SELECT count(*) FROM t')" "rows in round $round"
	remount r
	assert_eq "$((round * 500))" "$(sql "$db" 'SELECT count(*) FROM t')" "rows in round $round, after a remount"
	sql_ok "$db"
done
# The same with a connection that stays, so that the WAL is not removed in between.
timeout -k 5 60 python3 - "$MNT/held.db" <<'PY'
import os, sqlite3, sys
path = sys.argv[1]
one = sqlite3.connect(path, isolation_level=None)
one.execute("PRAGMA journal_mode=wal")
one.execute("CREATE TABLE t(x)")
for i in range(20):
    two = sqlite3.connect(path, isolation_level=None)
    two.execute("INSERT INTO t VALUES(?)", (i,))
    for turn in 1, 2:
        assert two.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
        assert os.path.getsize(path + "-wal") == 0
    two.close()
    assert one.execute("SELECT count(*) FROM t").fetchone() == (i + 1,)
    assert one.execute("PRAGMA integrity_check").fetchone() == ("ok",)
PY

note "switching between DELETE and WAL while others read"
timeout -k 5 120 python3 - "$MNT/switch.db" <<'PY'
import os, sqlite3, subprocess, sys, time
path = sys.argv[1]
db = sqlite3.connect(path, isolation_level=None, timeout=20)
db.execute("CREATE TABLE t(a, b)")
db.execute("INSERT INTO t VALUES(0, 0)")
reader = """
import sqlite3, sys, time
last, end, reads = 0, time.monotonic() + 8, 0
while time.monotonic() < end:
    db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=20)
    for i in range(5):
        try:
            a, b = db.execute("SELECT a, b FROM t").fetchone()
        except sqlite3.OperationalError as e:
            assert "locked" in str(e), e
            continue
        assert a == b and a >= last, (a, b, last)
        last, reads = a, reads + 1
    db.close()
assert reads > 20, reads
"""
readers = [subprocess.Popen([sys.executable, "-c", reader, path]) for i in range(3)]
switched, n = {"wal": 0, "delete": 0}, 0
while any(r.poll() is None for r in readers):
    for mode in "wal", "delete":
        try:
            switched[mode] += db.execute("PRAGMA journal_mode=" + mode).fetchone()[0] == mode
        except sqlite3.OperationalError as e:
            assert "locked" in str(e), e
        n += 1
        try:
            db.execute("UPDATE t SET a = ?, b = ?", (n, n))
        except sqlite3.OperationalError as e:
            assert "locked" in str(e), e
    time.sleep(0.01)
assert all(r.returncode == 0 for r in readers), [r.returncode for r in readers]
assert min(switched.values()) > 3, switched
assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
PY

note "a reader holds a snapshot of the WAL across commits, checkpoints and a frozen version"
timeout -k 5 60 python3 - "$MNT" <<'PY'
import os, sqlite3, sys
mnt = sys.argv[1]
path = mnt + "/snapshot.db"
writer = sqlite3.connect(path, isolation_level=None)
writer.execute("PRAGMA journal_mode=wal")
writer.execute("CREATE TABLE t(x, pad)")
writer.executemany("INSERT INTO t VALUES(?, ?)", [(i, "x" * 500) for i in range(200)])
reader = sqlite3.connect(path, isolation_level=None)
reader.execute("BEGIN")
seen = reader.execute("SELECT count(*), sum(x) FROM t").fetchone()
for turn in range(3):
    writer.execute("UPDATE t SET x = x + 1000")
    writer.execute("DELETE FROM t WHERE x % 7 = ?", (turn,))
    os.setxattr(mnt, "user.mojofs.commit", b"with a reader")
    version = int(os.getxattr(mnt, "user.mojofs.commit"))
    writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
    assert reader.execute("SELECT count(*), sum(x) FROM t").fetchone() == seen
    frozen = sqlite3.connect("file:%s/@v%d/snapshot.db" % (mnt, version), uri=True)
    assert frozen.execute("SELECT count(*), sum(x) FROM t").fetchone() == writer.execute("SELECT count(*), sum(x) FROM t").fetchone()
    assert frozen.execute("PRAGMA integrity_check").fetchone() == ("ok",)
reader.execute("COMMIT")
assert reader.execute("SELECT count(*), sum(x) FROM t").fetchone() == writer.execute("SELECT count(*), sum(x) FROM t").fetchone()
assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
assert writer.execute("PRAGMA integrity_check").fetchone() == ("ok",)
PY

note "a rename over a file that is open: the old one stays readable and writable, the new one has the name"
timeout -k 5 60 python3 - "$MNT" <<'PY'
import os, sys
mnt = sys.argv[1]
for turn in range(20):
    old = os.open(mnt + "/name", os.O_RDWR | os.O_CREAT)
    os.pwrite(old, b"old %d" % turn * 3000, 0)
    new = os.open(mnt + "/name.new", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.pwrite(new, b"new %d" % turn * 5000, 0)
    os.fsync(new)
    os.rename(mnt + "/name.new", mnt + "/name")
    os.pwrite(old, b"more", 100)
    assert os.pread(old, 4, 100) == b"more" and os.fstat(old).st_nlink == 0
    os.fsync(old)
    assert open(mnt + "/name", "rb").read() == b"new %d" % turn * 5000
    assert os.fstat(new).st_ino == os.stat(mnt + "/name").st_ino
    assert not os.path.exists(mnt + "/name.new")
    os.close(old)
    os.close(new)
PY

note "a journal that is unlinked, made again and synchronised, over and over"
timeout -k 5 60 python3 - "$MNT" <<'PY'
import os, sys
name = sys.argv[1] + "/x.db-journal"
magic = bytes.fromhex("d9d505f920a163d7")
kept = []
for turn in range(200):
    journal = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    content = magic + turn.to_bytes(4, "big") + bytes([turn]) * (turn * 37)
    os.pwrite(journal, content, 0)
    os.fsync(journal)
    assert open(name, "rb").read() == content
    os.unlink(name)
    directory = os.open(os.path.dirname(name), os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    assert not os.path.exists(name)
    assert os.pread(journal, len(content) + 1, 0) == content  # whoever has it open has it still
    kept.append((journal, content))
    if len(kept) > 10:
        journal, content = kept.pop(0)
        assert os.pread(journal, len(content) + 1, 0) == content
        os.close(journal)
PY
remount r
[ ! -e "$MNT/x.db-journal" ] || fail "the journal came back"
assert_eq "new 19" "$(head -c 6 "$MNT/name")" "the file renamed over another, after a remount"

megabytes=256
[ -z "${MOJO_TEST_LONG:-}" ] || megabytes=1024
note "one transaction of $megabytes MiB in WAL mode, then a checkpoint"
timeout -k 5 600 python3 - "$MNT/large.db" $megabytes <<'PY'
import os, sqlite3, sys
path, megabytes = sys.argv[1], int(sys.argv[2])
db = sqlite3.connect(path, isolation_level=None)
db.execute("PRAGMA page_size=4096")
db.execute("PRAGMA journal_mode=wal")
db.execute("CREATE TABLE t(i INTEGER PRIMARY KEY, data BLOB)")
db.execute("BEGIN")
for i in range(megabytes):
    db.execute("INSERT INTO t VALUES(?, randomblob(1048576 - 4096))", (i,))
    db.execute("UPDATE t SET data = randomblob(900000) WHERE i = ?", (i // 2,)) if i % 16 == 0 else None
db.execute("COMMIT")
assert os.path.getsize(path + "-wal") > (megabytes - 8) << 20
first = db.execute("SELECT count(*), sum(length(data)) FROM t").fetchone()
busy, frames, moved = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
assert busy == 0, busy
assert db.execute("SELECT count(*), sum(length(data)) FROM t").fetchone() == first
db.close()
assert not os.path.exists(path + "-wal")
PY
sql_ok "$MNT/large.db"
remount r
sql_ok "$MNT/large.db"
assert_eq $megabytes "$(sql "$MNT/large.db" 'SELECT count(*) FROM t')" "rows of the large transaction, after a remount"
unmount_store r

note "two mounts of sibling stores, used at once and across"
mkdir "$T/both"
mount_at "$T/both/one" "$(mkdir -p "$T/m/one" && echo "$T/m/one")"
mount_at "$T/both/two" "$(mkdir -p "$T/m/two" && echo "$T/m/two")"
timeout -k 5 120 python3 - "$T/m/one" "$T/m/two" <<'PY'
import os, sqlite3, sys, threading
paths = sys.argv[1:]
def work(path, other, start):
    db = sqlite3.connect(path + "/a.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=" + ("wal" if start else "delete"))
    db.execute("CREATE TABLE t(x)")
    for i in range(150):
        db.execute("INSERT INTO t VALUES(?)", (start + i,))
        with open("%s/f%d" % (path, i), "w") as file:
            file.write(path)
        if i % 50 == 49:
            os.setxattr(path, "user.mojofs.commit", b"of %s" % path.encode())
    db.close()
threads = [threading.Thread(target=work, args=(paths[i], paths[1 - i], i * 1000)) for i in (0, 1)]
[t.start() for t in threads]
[t.join() for t in threads]
for i in 0, 1:
    assert all(open("%s/f%d" % (paths[i], k)).read() == paths[i] for k in range(150))
    db = sqlite3.connect(paths[0] + "/a.db", isolation_level=None)
    db.execute("ATTACH ? AS other", (paths[1] + "/a.db",))
    assert db.execute("SELECT min(x), count(*) FROM main.t").fetchone() == (0, 150)
    assert db.execute("SELECT min(x), count(*) FROM other.t").fetchone() == (1000, 150)
# A transaction over both databases, each on a mount of its own.
db.execute("BEGIN")
db.execute("DELETE FROM main.t WHERE x < 10")
db.execute("DELETE FROM other.t WHERE x < 1010")
db.execute("COMMIT")
assert [db.execute("SELECT count(*) FROM %s.t" % name).fetchone()[0] for name in ("main", "other")] == [140, 140]
try:
    os.rename(paths[0] + "/f1", paths[1] + "/f1")
    raise SystemExit("a rename from one mount to the other succeeded")
except OSError as e:
    assert e.errno == 18, e
PY
for name in one two; do
	assert_eq 3 "$(find "$T/m/$name" -maxdepth 1 -name '@v*' | wc -l)" "versions of store $name"
	assert_eq "of $T/m/$name" "$(xget message "$T/m/$name/@v1")" "message in store $name"
	sql_ok "$T/m/$name/a.db"
done
unmount_at "$T/m/one"
assert_eq 140 "$(sql "$T/m/two/a.db" 'SELECT count(*) FROM t')" "the other store, when the first is unmounted"
unmount_at "$T/m/two"
