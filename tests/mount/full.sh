#!/bin/bash
# SPDX-License-Identifier: MIT
# A full disk, on a real file system of fixed size (a tmpfs, and ext4 in a file where loop devices work): SQLite gets an
# error and keeps every transaction that it called committed; what failed is rolled back at once, however often, also
# by the next who reads, also when the daemon was killed meanwhile; so reads go on; VACUUM fails cleanly; removing files
# makes room; then everything works again.
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
modes = ("wal", "delete", "truncate", "persist")
first = 150  # rows

def connect(mode):
    db = sqlite3.connect("%s/%s.db" % (mnt, mode), isolation_level=None, timeout=10)
    db.execute("PRAGMA synchronous=FULL")
    if mode in ("truncate", "persist"):
        db.execute("PRAGMA journal_mode=" + mode)  # this one and DELETE are not kept in the database
    return db

def content(i, generation=0):
    return (b"%d,%d " % (i, generation) * 20000)[:20000]

def attempt(db, what, *values):
    """None, or the name of the error; one that speaks of damage is none that may be."""
    try:
        db.execute(what, *values)
    except sqlite3.Error as e:
        name = e.sqlite_errorname
        assert name in CLEAN, "%s: %s (%s)" % (what, name, e)
        return name

def generation_of(db):
    return db.execute("SELECT g FROM generation").fetchone()[0]

def rows(mode):
    try:
        return look(mode)
    except sqlite3.Error as e:
        raise AssertionError("%s cannot be read: %s (%s)" % (mode, e.sqlite_errorname, e))

def look(mode):
    db = connect(mode)
    count = db.execute("SELECT count(*), coalesce(max(i), 0) FROM t").fetchone()
    assert count[0] == count[1], count
    generation = generation_of(db)
    for i, data in db.execute("SELECT i, data FROM t"):
        assert data == content(i, generation), (mode, i)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",), mode
    db.close()
    return count[0]

def still(mode, least):
    """While the disk is full. What failed half-way has to be rolled back before anybody reads, and is."""
    count = rows(mode)
    assert count >= least, (mode, count, least)

def make():
    for mode in modes:
        db = connect(mode)
        assert db.execute("PRAGMA journal_mode=" + mode).fetchone() == (mode,)
        db.execute("CREATE TABLE t(i INTEGER PRIMARY KEY, data)")
        db.execute("CREATE TABLE generation(g)")
        db.execute("INSERT INTO generation VALUES(0)")
        for i in range(1, first + 1):
            db.execute("INSERT INTO t VALUES(?, ?)", (i, content(i)))
        db.close()

def fill():
    """As much as there is room for."""
    piece = bytes(range(256)) * 4096
    fd = os.open(mnt + "/filler", os.O_WRONLY | os.O_CREAT, 0o600)
    size = os.fstat(fd).st_size >> 20 << 20
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
    os.truncate(mnt + "/filler", size)
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
            error = attempt(db, "INSERT INTO t VALUES(?, ?)", (i, content(i, generation_of(db))))
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

def change(db, i=None):
    """Every row becomes another one, of the same size: all of it goes through the journal. Not if it fails."""
    generation = generation_of(db) + 1
    db.create_function("content", 2, content)
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE generation SET g = ?", (generation,))
    db.execute("UPDATE t SET data = content(i, ?)", (generation,))

def lengthen(db, count=1500):
    """Many more rows, written as they come: what is lost of them is behind what was there."""
    db.execute("PRAGMA cache_size=20")
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE t SET i = i")
    n, generation = db.execute("SELECT max(i) FROM t").fetchone()[0], generation_of(db)
    for i in range(n + 1, n + 1 + count):
        db.execute("INSERT INTO t VALUES(?, ?)", (i, content(i, generation)))

def interrupt():
    """Leave a hot journal, and a database of which a part was overwritten, in each mode that has one."""
    for mode in modes[1:]:
        pid = os.fork()
        if pid == 0:
            db = connect(mode)
            db.execute("PRAGMA cache_size=20")  # so that it is written to before the end
            change(db)
            os.kill(os.getpid(), 9)
        assert os.waitpid(pid, 0)[1] == 9
        with open("%s/%s.db-journal" % (mnt, mode), "rb") as file:
            head = file.read(12)
        assert head[:8] == bytes.fromhex("d9d505f920a163d7") and head[8:] not in (bytes(4), b"\xff" * 4), (mode, head)

def fail_again():
    """Transactions that fail, one behind the other: as large as the database, with a little more room each time, so
    that some get far; and those that do not fail make it larger."""
    results = {}
    size = os.path.getsize(mnt + "/filler")
    for n in range(14):
        for mode in modes:
            # In WAL mode what could not be synced may be taken for committed later, as long as the kernel holds it.
            before, error, grows = rows(mode), None, n % 4 == 2 and mode != "wal"
            db = connect(mode)
            if n % 2:
                db.execute("PRAGMA cache_size=20")
            try:
                lengthen(db) if grows else change(db)
                db.execute("COMMIT")
            except sqlite3.Error as e:
                error = e.sqlite_errorname
                assert error in CLEAN, (mode, error, e)
            if n % 3 == 0:
                db.close()  # whose rollback may be left to the next one
            assert rows(mode) == before, (mode, before, error)
            db.close()
            results.setdefault(mode, []).append(error or "done")
        size -= 1 << 20
        os.truncate(mnt + "/filler", size)
    for mode, names in results.items():
        print("%s: %s" % (mode, " ".join(names)))
    fill()

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
            db.execute("INSERT INTO t VALUES(?, ?)", (i, content(i, generation_of(db))))
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
	note "$disk: full, and a writer was killed before"
	work interrupt
	work fill
	: >"$T/state.$disk"
	for mode in wal delete truncate persist; do
		echo "$mode 150" >>"$T/state.$disk"
	done
	if [ "$disk" = ext4 ]; then
		crash_at "$MNT"
		work fill # of what is kept for the rollbacks it gets nothing
	fi
	work check_full
	work fill # what was kept for the rollbacks
	note "$disk: full"
	work insert
	work fail_again
	work check_full
	assert_eq "$(sql "$MNT/@v$old/wal.db" 'SELECT count(*) FROM t')" 150 "rows of the old version on a full disk"
	assert_eq "$(getfattr --only-values --absolute-names -n user.mojofs.state "$MNT" | python3 -c 'import json,sys; print(json.load(sys.stdin).get("failed"))')" \
		False "$disk: does the store refuse changes?"

	note "$disk: the daemon is killed while nothing is free"
	crash_at "$MNT"
	work check_full
	work fail_again
	crash_at "$MNT"
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
