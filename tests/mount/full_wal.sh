#!/bin/bash
# SPDX-License-Identifier: MIT
# A full disk in WAL mode: a transaction whose commit failed is not there for the next one who opens the database, though
# the kernel had its pages; what was committed before is, also after the daemon was killed; and with room again
# everything works. With synchronous=NORMAL, where a commit is not synced: a checkpoint fails before it touches the
# database as long as something of the WAL was refused, however often it is tried and however little room there is, so
# that a crash leaves what some commit left; and with room again nothing is lost.
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

def connect_normal():
    db = connect()
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("PRAGMA wal_autocheckpoint=0")
    return db

def make_normal():
    db = connect_normal()
    db.execute("CREATE TABLE u(g, data)")
    db.execute("CREATE TABLE generation(g)")
    db.execute("INSERT INTO generation VALUES(0)")
    for i in range(300):
        db.execute("INSERT INTO u VALUES(0, ?)", (os.urandom(4000),))
    db.close()

def checkpoint(db):
    try:
        return db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1:]
    except sqlite3.Error as e:
        assert e.sqlite_errorname.startswith(("SQLITE_FULL", "SQLITE_IOERR")), e.sqlite_errorname

def forget(how):
    """The kernel has not got the pages of the WAL any more; then it may get what is in the store instead."""
    with open(mnt + "/a.db-wal", "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if how == "reads":
            file.read()

def fail_normal():
    """Commits what cannot be written, each over all of the database; checkpoints that fail; then with as much room as
    argv[3] says, from the filler, and, if there is an argv[4], without the kernel's pages. Dies with nothing closed. Prints the last generation, and whether the last went well."""
    db = connect_normal()
    g = before = db.execute("SELECT g FROM generation").fetchone()[0]
    # What died when the disk was filled may come back with a checkpoint: then there is room for some of them.
    while (g - before) % 6 or g == before or checkpoint(db) is not None:
        assert g < before + 60, "the disk is not full"
        g += 1
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE generation SET g = ?", (g,))
        db.execute("UPDATE u SET g = ?, data = randomblob(4000)", (g,))
        db.execute("COMMIT")
    assert checkpoint(db) is None and checkpoint(db) is None, "a checkpoint without what it brings"
    filler = mnt + "/filler"
    os.truncate(filler, max(0, os.path.getsize(filler) - int(sys.argv[3])))
    if sys.argv[4]:
        forget(sys.argv[4])
    done = checkpoint(db)
    assert done is None or done[0] == done[1], done
    print(g, "failed" if done is None else "done")
    sys.stdout.flush()
    os._exit(0)

def generation():
    db = connect_normal()
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    g = db.execute("SELECT g FROM generation").fetchone()[0]
    assert db.execute("SELECT DISTINCT g FROM u").fetchall() == [(g,)], "parts of several transactions"
    print(g)

globals()[sys.argv[1]]()
PY
work() {
	timeout -k 5 120 python3 "$T/work.py" "$1" "$MNT" "${2:-}" "${3:-}" || fail "$*"
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
	crash_at "$MNT"
	assert_eq "$(work rows)" "$acknowledged" "rows after the daemon was killed"
	rm "$MNT/filler"
	sql "$MNT/a.db" "PRAGMA wal_checkpoint(TRUNCATE); DELETE FROM t WHERE i > 1" >/dev/null
done

work make_normal
for room in 0 128 256 384 512 640 768 896 1024 2048 3072 4096 6144 65536; do
	work fill
	before=$(work generation)
	read -r last how <<<"$(work fail_normal $((room * 1024)))"
	crash_at "$MNT"
	after=$(work generation)
	note "synchronous=NORMAL, $room KiB given back: a checkpoint $how, generation $before to $last, $after after a crash"
	[ "$after" -ge "$before" ] || fail "what was there before the disk was full is gone: $before, now $after"
	[ "$how" = failed ] || assert_eq "$after" "$last" "what a checkpoint brought into the database"
	rm "$MNT/filler"
	sql "$MNT/a.db" "PRAGMA wal_checkpoint(TRUNCATE)" >/dev/null
done
assert_eq "$how" done "the last checkpoint, with room for all"
for way in forgets reads; do
	work fill
	before=$(work generation)
	read -r last how <<<"$(work fail_normal $((65536 * 1024)) $way)"
	assert_eq "$how" failed "a checkpoint of pages that nobody has ($way)"
	after=$(work generation)
	note "synchronous=NORMAL, the kernel $way: generation $before to $last, $after for the next who opens it"
	[ "$after" -ge "$before" ] || fail "what was there before the disk was full is gone: $before, now $after"
	crash_at "$MNT"
	assert_eq "$(work generation)" "$after" "generation after a crash ($way)"
	rm "$MNT/filler"
	sql "$MNT/a.db" "PRAGMA wal_checkpoint(TRUNCATE)" >/dev/null
done
unmount_at "$MNT"
umount "$T/disk"
