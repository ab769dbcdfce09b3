#!/bin/bash
# SPDX-License-Identifier: MIT
# A full disk, on a real file system of fixed size (a tmpfs, and ext4 in a file where loop devices work): SQLite gets an
# error and keeps every transaction that it called committed; reads go on; VACUUM fails cleanly; the daemon can be
# killed and mounted again while nothing is free; removing files makes room; then everything works again.
# MOJO_TEST_LONG=1: larger disks.
[ -z "${MOJO_TEST_LONG:-}" ] || TEST_SECONDS=${TEST_SECONDS:-2400}
. "$(dirname "$0")/lib.sh"
need sqlite3 python3
[ "$(id -u)" -eq 0 ] || skip "only root may mount a file system of fixed size"

megabytes=96
[ -z "${MOJO_TEST_LONG:-}" ] || megabytes=600

cat >"$T/work.py" <<'PY'
import os, sqlite3, sys

CLEAN = ("SQLITE_FULL", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_TRUNCATE", "SQLITE_CANTOPEN",
         "SQLITE_IOERR_DIR_FSYNC", "SQLITE_IOERR_DELETE", "SQLITE_IOERR")
modes = ("wal", "delete", "persist")

def connect(mode):
    db = sqlite3.connect("%s/%s.db" % (mnt, mode), isolation_level=None, timeout=10)
    db.execute("PRAGMA synchronous=FULL")
    return db

def attempt(db, what, *values):
    """None, or the name of the error; one that speaks of damage is none that may be."""
    try:
        db.execute(what, *values)
    except sqlite3.Error as e:
        name = e.sqlite_errorname
        assert name in CLEAN, "%s: %s (%s)" % (what, name, e)
        return name

def rows(mode):
    db = connect(mode)
    count = db.execute("SELECT count(*), coalesce(max(i), 0) FROM t").fetchone()
    assert count[0] == count[1], count
    for i, data in db.execute("SELECT i, data FROM t"):
        assert data == (b"%d " % i * 20000)[:len(data)], (mode, i)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",), mode
    db.close()
    return count[0]

def still(mode, least):
    """While the disk is full. What failed half-way has to be rolled back before anybody reads, and for that, too, there
    may be no room: then reading is an error until there is."""
    try:
        count = rows(mode)
    except sqlite3.Error as e:
        journal = "%s/%s.db-journal" % (mnt, mode)
        clean = e.sqlite_errorname in CLEAN or e.sqlite_errorname.startswith("SQLITE_IOERR")
        assert clean and os.path.getsize(journal) > 0, (mode, e.sqlite_errorname)
        print("%s: can be rolled back when there is room (%s)" % (mode, e.sqlite_errorname))
        return
    assert count >= least, (mode, count, least)

def make():
    for mode in modes:
        db = connect(mode)
        assert db.execute("PRAGMA journal_mode=" + mode).fetchone() == (mode,)
        db.execute("CREATE TABLE t(i INTEGER PRIMARY KEY, data)")
        for i in range(1, 31):
            db.execute("INSERT INTO t VALUES(?, ?)", (i, (b"%d " % i * 20000)[:20000]))
        db.close()

def fill():
    """As much as there is room for."""
    piece, size = os.urandom(1 << 20), 0
    fd = os.open(mnt + "/filler", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        while True:
            os.pwrite(fd, piece, size)
            os.fsync(fd)
            size += len(piece)
    except OSError as e:
        assert e.errno == 28, e
    try:
        os.close(fd)
    except OSError as e:
        assert e.errno == 28, e
    print("filler: %d MiB" % (size >> 20))
    # What was synchronised is there, whatever became of the rest.
    with open(mnt + "/filler", "rb") as file:
        for i in range(size >> 20):
            assert file.read(1 << 20) == piece, i

def insert():
    """Until it fails, in each mode; prints how many rows are committed, and what the error was."""
    for mode in modes:
        db, n = connect(mode), rows(mode)
        error = None
        for i in range(n + 1, n + 4000):
            error = attempt(db, "INSERT INTO t VALUES(?, ?)", (i, (b"%d " % i * 20000)[:20000]))
            if error:
                break
            n = i
        assert error, "%s: the disk is not full" % mode
        still(mode, n)
        error_vacuum = attempt(db, "VACUUM")
        still(mode, n)
        db.close()
        print("%s: %d rows, then %s; VACUUM: %s" % (mode, n, error, error_vacuum or "there was room for it"))
        with open(state, "a") as file:
            print(mode, n, file=file)

def check():
    wanted = dict(line.split() for line in open(state))
    for mode in modes:
        assert rows(mode) >= int(wanted[mode]), (mode, rows(mode), wanted[mode])

def check_full():
    for mode, n in (line.split() for line in open(state)):
        still(mode, int(n))

def again():
    """Everything works: as many rows as the disk took before, and VACUUM."""
    for mode in modes:
        db, n = connect(mode), rows(mode)
        for i in range(n + 1, n + 101):
            db.execute("INSERT INTO t VALUES(?, ?)", (i, (b"%d " % i * 20000)[:20000]))
        db.execute("VACUUM")
        assert rows(mode) == n + 100
        db.close()

mnt, state = sys.argv[2:]
globals()[sys.argv[1]]()
PY
work() {
	timeout -k 5 300 python3 "$T/work.py" "$1" "$MNT" "$T/state.$disk" || fail "$disk: $1"
}

full_disk() {
	STORE="$T/$disk/store"
	MNT="$T/mnt-$disk"
	mkdir -p "$STORE" "$MNT"
	mount_at "$STORE" "$MNT" --chunk-size=16M
	work make
	commit "before it is full"
	old=$VERSION
	note "$disk: full"
	work fill
	work insert
	work check_full
	assert_eq "$(sql "$MNT/@v$old/wal.db" 'SELECT count(*) FROM t')" 30 "rows of the old version on a full disk"
	assert_eq "$(getfattr --only-values --absolute-names -n user.mojofs.state "$MNT" | python3 -c 'import json,sys; print(json.load(sys.stdin).get("failed"))')" \
		False "$disk: does the store refuse changes?"

	note "$disk: the daemon is killed while nothing is free"
	pid=${daemon_of[$MNT]}
	kill -KILL "$pid"
	wait_for_end "$pid" 20 || fail "kill -9 did not end the daemon"
	wait "$pid" 2>/dev/null || true
	unset "daemon_of[$MNT]"
	fusermount3 -uz "$MNT"
	mount_at "$STORE" "$MNT"
	work check_full

	note "$disk: removing files makes room"
	rm "$MNT/filler" || fail "$disk: a file cannot be removed"
	work again
	sql_ok "$MNT/@v$old/wal.db"
	remount_at
	work check
	fill_again
	unmount_at "$MNT"
}

remount_at() {
	unmount_at "$MNT"
	mount_at "$STORE" "$MNT"
}

# Once more, so that what the first time left behind (dead space, old chunks) matters.
fill_again() {
	: >"$T/state.$disk"
	work fill
	work insert
	rm "$MNT/filler"
	work again
}

disk=tmpfs
mkdir "$T/$disk"
mount -t tmpfs -o "size=${megabytes}m" tmpfs "$T/$disk" 2>/dev/null || skip "a tmpfs cannot be mounted here"
full_disk
umount "$T/$disk"

disk=ext4
mkdir "$T/$disk"
truncate -s "$((megabytes + 32))M" "$T/image"
if command -v mkfs.ext4 >/dev/null && mkfs.ext4 -q -m 0 "$T/image" && mount -o loop "$T/image" "$T/$disk" 2>"$T/log/loop"; then
	full_disk
	umount "$T/$disk"
else
	note "ext4 in a file: not tried, $(cat "$T/log/loop" 2>/dev/null || echo "there is no mkfs.ext4")"
fi
