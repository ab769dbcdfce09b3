#!/bin/bash
# SPDX-License-Identifier: MIT
# copy_file_range(2) on the mount, and so cp(1): copies are what they should be, out of the active tree and out of
# versions, while a writer has the source open, at random places beside a file of the host, after a kill, on a full
# disk; and a copy of a whole file takes no space until one of the two is written to.
. "$(dirname "$0")/lib.sh"
need sqlite3 python3 cmp

[ "$(python3 -c 'import os; print(hasattr(os, "copy_file_range"))')" = True ] || skip "this Python has no copy_file_range"

# count NAME: how many requests of that type came
count() {
	xget requests "$MNT" | python3 -c 'import json, sys; print(json.load(sys.stdin).get(sys.argv[1], 0))' "$1"
}

# taken: what the store takes, in KiB, at a moment when nothing waits
taken() {
	sync "$MNT"/shop.db
	du -sk "$STORE" | cut -f 1
}

# kill_and_check: what a crash leaves now is found to be sound
kill_and_check() {
	kill_at "$MNT"
	timeout -k 5 60 fusermount3 -u "$MNT"
	timeout -k 5 120 "$MOJOFS" check --scrub "$STORE" >"$T/check" || fail "mojofs check: $(cat "$T/check")"
}

mount_store c --checkpoint-size=4M
db="$MNT/shop.db"
sql "$db" "CREATE TABLE t(i INTEGER PRIMARY KEY, x); WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n
	WHERE i < 20000) INSERT INTO t SELECT i, hex(randomblob(500)) FROM n;"
cp "$db" "$T/one.db"
commit one
one=$VERSION

note "a copy takes no space and no time"
before=$(taken)
writes=$(count WRITE)
cp "$db" "$MNT/copy.db"
[ "$(count COPY_FILE_RANGE)" -gt 0 ] || skip "this cp does not use copy_file_range"
cmp "$MNT/copy.db" "$T/one.db"
assert_eq "$writes" "$(count WRITE)" "write requests of the copying"
sync "$MNT/copy.db"
after=$(taken)
[ $((after - before)) -lt 200 ] || fail "a copy of $(du -k "$T/one.db" | cut -f 1) KiB took $((after - before)) KiB"
sql_ok "$MNT/copy.db"

note "what is done to one is not done to the other"
sql "$db" "UPDATE t SET x = 'changed' WHERE i % 7 = 0"
cp "$db" "$T/two.db"
cmp "$MNT/copy.db" "$T/one.db"
sql "$MNT/copy.db" "DELETE FROM t WHERE i % 3 = 0; VACUUM;"
cmp "$db" "$T/two.db"
sql_ok "$MNT/copy.db"
sql_ok "$db"
remount c --checkpoint-size=4M
cmp "$db" "$T/two.db"
sql_ok "$MNT/copy.db"

note "a bad migration is undone out of a version"
cp "$MNT/@v$one/shop.db" "$MNT/old.db"
cmp "$MNT/old.db" "$T/one.db"
sql_ok "$MNT/old.db"
sql "$db" "DROP TABLE t; CREATE TABLE other(x);"
cp "$MNT/@v$one/shop.db" "$db" # over what is there
cmp "$db" "$T/one.db"
sql "$db" "UPDATE t SET x = 1 WHERE i < 100"
assert_eq 20000 "$(sql "$db" 'SELECT count(*) FROM t')" "rows after the undoing"
cmp "$MNT/@v$one/shop.db" "$T/one.db"
cmp "$MNT/old.db" "$T/one.db"
rm "$MNT/old.db"
cp "$MNT/@v$one/shop.db" "$MNT/again.db"
mv "$MNT/again.db" "$MNT/old.db"
cmp "$MNT/old.db" "$T/one.db"

note "what the kernel has and the daemon has not is copied as well"
timeout -k 5 120 python3 - "$MNT" <<'PY'
import os, subprocess, sys
mnt = sys.argv[1]
source, target = mnt + "/source", mnt + "/target"
wanted = bytearray(os.urandom(3000000))
with open(source, "w+b", buffering=0) as file:
    file.write(wanted)
    for i in range(30):
        data = os.urandom(i * 700 + 1)
        at = i * 99991
        os.pwrite(file.fileno(), data, at)
        wanted[at:at + len(data)] = data
        os.ftruncate(file.fileno(), len(wanted))
        subprocess.run(["cp", source, target], check=True)
        assert open(target, "rb").read() == wanted, i
    # And what is in the kernel of the target is not there any more.
    with open(target, "r+b", buffering=0) as copy:
        copy.write(os.urandom(100000))
        assert os.copy_file_range(file.fileno(), copy.fileno(), 200000, 0, 0) == 200000
        assert os.pread(copy.fileno(), len(wanted), 0) == wanted
        os.pwrite(copy.fileno(), b"x" * 5000, 300000)
        os.pwrite(file.fileno(), b"y" * 5000, 400000)
        assert os.pread(file.fileno(), 5000, 300000) == wanted[300000:305000]
        assert os.pread(copy.fileno(), 5000, 400000) == wanted[400000:405000]
PY

seed=$(pick_seed 20261127)
note "ranges at random, beside files of the host (SEED=$seed)"
mkdir "$T/host"
cat >"$T/ranges.py" <<'PY'
import errno, os, random, sys
mnt, host, seed, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
dice = random.Random(seed)
names = ["r0", "r1", "r2", "r3"]
both = [[os.open(d + "/" + name, os.O_RDWR | os.O_CREAT, 0o644) for d in (mnt, host)] for name in names]
LIMIT = 1 << 20

def place():
    return dice.randrange(LIMIT // 4096) * 4096 if dice.randrange(2) else dice.randrange(LIMIT)
def copy(a, b, length, at, to):
    done = 0
    try:
        while done < length:
            n = os.copy_file_range(a, b, length - done, at + done, to + done)
            done += n
            if not n or a == b: # its end moves on while it is copied to its own end
                break
    except OSError as e:
        return e.errno, done
    return 0, done

for i in range(rounds):
    what = dice.randrange(10)
    a, b = dice.choice(both), dice.choice(both)
    if what < 3:
        data, at = dice.randbytes(dice.choice((1, 100, 4096, 20000, 70000))), place()
        for fd in a:
            os.pwrite(fd, data, at)
    elif what == 3:
        size = 0 if dice.randrange(2) else place()
        for fd in a:
            os.ftruncate(fd, size)
    elif what == 4:
        os.fsync(a[0])
    else:
        at = place()
        to = at if dice.randrange(3) else place()
        length = dice.choice((1, 4096, 50000, LIMIT, 1 << 40))
        answers = [copy(a[k], b[k], length, at, to) for k in (0, 1)]
        assert answers[0] == answers[1], (i, answers, at, to, length)
    c = dice.choice(both)
    assert os.fstat(c[0]).st_size == os.fstat(c[1]).st_size, i
    assert os.pread(c[0], 1 << 30, 0) == os.pread(c[1], 1 << 30, 0), i

# Within one file ranges may not overlap; others are copied.
a = both[0]
for fd in a:
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"0123456789" * 10000, 0)
for at, to, length in ((0, 1, 2), (5, 0, 6), (7, 7, 1), (0, 50000, 50001)):
    answers = [copy(fd, fd, length, at, to) for fd in a]
    assert answers[0] == answers[1] == (errno.EINVAL, 0), answers
for fd in a:
    assert copy(fd, fd, 50000, 0, 50000) == (0, 50000)
assert os.pread(a[0], 1 << 30, 0) == os.pread(a[1], 1 << 30, 0)
# Not into what was opened for reading, and not into versions.
reader = os.open(mnt + "/r1", os.O_RDONLY)
assert copy(a[0], reader, 10, 0, 0)[0] == errno.EBADF
PY
timeout -k 5 240 python3 "$T/ranges.py" "$MNT" "$T/host" "$seed" 1500
for name in r0 r1 r2 r3; do cmp "$MNT/$name" "$T/host/$name"; done

note "shared memory and what is made up"
timeout -k 5 60 python3 - "$MNT" "$T" <<'PY'
import os, sqlite3, subprocess, sys
mnt, tmp = sys.argv[1:]
db = sqlite3.connect(mnt + "/wal.db", isolation_level=None)
db.execute("PRAGMA journal_mode=wal")
db.execute("CREATE TABLE t(x)")
subprocess.run(["cp", mnt + "/wal.db-shm", mnt + "/shm.copy"], check=True)
assert open(mnt + "/shm.copy", "rb").read() == open(mnt + "/wal.db-shm", "rb").read()
assert os.path.getsize(mnt + "/shm.copy") == 32768
db.execute("INSERT INTO t VALUES(1)")
db.close()
PY
commit wal
for name in wal.db-wal wal.db-shm; do
	cp "$MNT/@v$VERSION/$name" "$MNT/$name.copy"
	assert_eq 0 "$(stat -c %s "$MNT/$name.copy")" "size of $name of a version, copied"
done
assert_fails "Read-only file system" cp "$db" "$MNT/@v$VERSION/new.db"

note "a kill right behind a copy"
cp "$db" "$T/three.db"
cp "$db" "$MNT/killed.db"
sync "$MNT/killed.db"
sql "$MNT/killed.db" "PRAGMA journal_mode=WAL; UPDATE t SET x = 2 WHERE i > 19000" >"$T/out"
cp "$MNT/killed.db" "$MNT/late.db"
kill_and_check
mount_store c --checkpoint-size=4M
assert_eq 1000 "$(sql "$MNT/killed.db" "SELECT count(*) FROM t WHERE x = 2")" "rows changed in the copy"
sql_ok "$MNT/killed.db"
cmp "$db" "$T/three.db"
[ ! -e "$MNT/late.db" ] || sql_ok "$MNT/late.db"

note "all goes but one copy"
cp "$db" "$MNT/last.db"
cmp "$MNT/last.db" "$T/three.db"
find "$MNT" -mindepth 1 -maxdepth 1 -type f ! -name last.db -delete
cmp "$MNT/last.db" "$T/three.db"
remount c --checkpoint-size=4M
remount c --checkpoint-size=4M
cmp "$MNT/last.db" "$T/three.db"
unmount_store c
timeout -k 5 120 "$MOJOFS" check --scrub "$STORE" >"$T/check" || fail "mojofs check: $(cat "$T/check")"
grep -q " 0 errors, 0 warnings" "$T/check" || fail "mojofs check: $(cat "$T/check")"

if [ "$(id -u)" -eq 0 ]; then
	note "a full disk"
	mkdir "$T/small"
	mount -t tmpfs -o size=64m tmpfs "$T/small"
	mkdir "$T/small/store" "$T/f"
	mount_at "$T/small/store" "$T/f" --chunk-size=4M
	head -c 8000000 /dev/urandom >"$T/f/a"
	commit full "$T/f"
	for i in 1 2 3 4 5; do cp "$T/f/a" "$T/f/b$i"; done # together they would not fit
	sync "$T/f"/*
	cp "$T/f/a" "$T/a"
	! head -c 100000000 /dev/urandom >"$T/f/filler" 2>"$T/out" || fail "the disk is not full"
	sync "$T/f/filler" || true
	for i in 6 7 8; do cp "$T/f/a" "$T/f/b$i" 2>>"$T/out" || rm -f "$T/f/b$i"; done
	! grep -v "No space left" "$T/out" || fail "a full disk made another error"
	for i in 1 2 3 4 5; do cmp "$T/f/b$i" "$T/a"; done
	rm "$T/f/filler"
	cp "$T/f/a" "$T/f/c"
	for name in a b1 b5 c @v1/a; do cmp "$T/f/$name" "$T/a"; done
	unmount_at "$T/f"
	timeout -k 5 120 "$MOJOFS" check --scrub "$T/small/store" >"$T/check" || fail "mojofs check: $(cat "$T/check")"
	umount "$T/small"
fi
