#!/bin/bash
# SPDX-License-Identifier: MIT
# A full disk in WAL mode: a transaction whose commit failed is not there for the next one who opens the database, though
# the kernel had its pages; what was committed before is, also after the daemon was killed; and with room again
# everything works.
. "$(dirname "$0")/lib.sh"
need sqlite3 python3
[ "$(id -u)" -eq 0 ] || skip "only root may mount a file system of fixed size"

cat >"$T/work.py" <<'PY'
import os, sqlite3, sys

mnt = sys.argv[2]

def connect():
    db = sqlite3.connect(mnt + "/a.db", isolation_level=None, timeout=10)
    db.execute("PRAGMA synchronous=FULL")
    return db

def make():
    db = connect()
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE t(i INTEGER PRIMARY KEY, data)")
    db.execute("INSERT INTO t VALUES(1, zeroblob(100))")
    db.close()

def fill():
    fd, size = os.open(mnt + "/filler", os.O_WRONLY | os.O_CREAT, 0o600), 0
    try:
        while True:
            os.pwrite(fd, os.urandom(1 << 18), size)
            os.fsync(fd)
            size += 1 << 18
    except OSError as e:
        assert e.errno == 28, e
    os.ftruncate(fd, size)

def fail():
    """Inserts until it fails, and dies on the spot, with nothing closed. Prints what was acknowledged."""
    db = connect()
    db.execute("PRAGMA wal_autocheckpoint=0")
    n = db.execute("SELECT max(i) FROM t").fetchone()[0]
    try:
        while True:
            db.execute("INSERT INTO t VALUES(?, ?)", (n + 1, os.urandom(40000)))
            n += 1
    except sqlite3.Error as e:
        assert e.sqlite_errorname.startswith(("SQLITE_FULL", "SQLITE_IOERR")), e.sqlite_errorname
    print(n)
    sys.stdout.flush()
    os._exit(0)

def rows():
    db = connect()
    db.execute("PRAGMA wal_autocheckpoint=0")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    print(db.execute("SELECT max(i) FROM t").fetchone()[0])
    sys.stdout.flush()
    os._exit(0)

globals()[sys.argv[1]]()
PY
work() {
	timeout -k 5 120 python3 "$T/work.py" "$1" "$MNT" || fail "$1"
}

mkdir "$T/disk"
mount -t tmpfs -o size=64m tmpfs "$T/disk" 2>/dev/null || skip "a tmpfs cannot be mounted here"
STORE="$T/disk/store"
MNT="$T/mnt"
mkdir "$STORE" "$MNT"
mount_at "$STORE" "$MNT" --chunk-size=8M
work make
for round in 1 2 3; do
	work fill
	acknowledged=$(work fail)
	note "round $round: $acknowledged rows were acknowledged"
	assert_eq "$(work rows)" "$acknowledged" "rows after a commit that failed"
	pid=${daemon_of[$MNT]}
	kill -KILL "$pid"
	wait_for_end "$pid" 20 || fail "kill -9 did not end the daemon"
	wait "$pid" 2>/dev/null || true
	unset "daemon_of[$MNT]"
	fusermount3 -uz "$MNT"
	mount_at "$STORE" "$MNT"
	assert_eq "$(work rows)" "$acknowledged" "rows after the daemon was killed"
	rm "$MNT/filler"
	sql "$MNT/a.db" "PRAGMA wal_checkpoint(TRUNCATE); DELETE FROM t WHERE i > 1" >/dev/null
done
unmount_at "$MNT"
umount "$T/disk"
