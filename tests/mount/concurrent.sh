#!/bin/bash
# SPDX-License-Identifier: MIT
# Several processes at once: a writer or two move money between accounts, readers see the sum unchanged
# at every moment, commits freeze meanwhile; and fcntl and flock locks work between processes.
. "$(dirname "$0")/lib.sh"
need sqlite3 python3

mount_store c
cat >"$T/bank.py" <<'PY'
import os, random, sqlite3, sys, time

role, path, seconds, seed = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
rng = random.Random(seed)
db = sqlite3.connect(path, timeout=60, isolation_level=None)
end = time.monotonic() + seconds
done = 0
while time.monotonic() < end:
    if role == "write":
        db.execute("BEGIN IMMEDIATE")
        a, b = rng.sample(range(1, 201), 2)
        amount = rng.randrange(1000)
        db.execute("UPDATE account SET money = money - ? WHERE id = ?", (amount, a))
        db.execute("UPDATE account SET money = money + ? WHERE id = ?", (amount, b))
        db.execute("INSERT INTO transfer(a, b, amount, pad) VALUES(?, ?, ?, ?)", (a, b, amount, "p" * rng.randrange(3000)))
        if done % 20 == 19:
            db.execute("DELETE FROM transfer WHERE id % 3 = 0")
        db.execute("ROLLBACK" if rng.randrange(10) == 0 else "COMMIT")
    else:
        db.execute("BEGIN")
        total, count = db.execute("SELECT sum(money), count(*) FROM account").fetchone()
        again = db.execute("SELECT sum(money) FROM account").fetchone()[0]
        db.execute("COMMIT")
        assert (total, again, count) == (200000, 200000, 200), (total, again, count)
        if role == "check" and done % 10 == 0:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    done += 1
    time.sleep(rng.random() / 500)  # or whoever has the lock takes it again, and others starve
db.close()
print(role, done)
assert done > 0
PY

for mode in delete wal truncate persist; do
	note "journal mode $mode: two writers, two readers, a checker, and commits"
	db="$MNT/$mode.db"
	out=$(sql "$db" "PRAGMA journal_mode=$mode;
		CREATE TABLE account(id INTEGER PRIMARY KEY, money INTEGER);
		CREATE TABLE transfer(id INTEGER PRIMARY KEY, a, b, amount, pad TEXT);
		WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
		INSERT INTO account SELECT i, 1000 FROM n;")
	assert_eq "$mode" "$out" "journal mode"
	pids=()
	n=0
	for role in write write read read check; do
		n=$((n + 1))
		timeout -k 5 120 python3 "$T/bank.py" $role "$db" 5 $n &
		track $!
		pids+=($!)
	done
	for i in 1 2 3; do
		commit "under load $mode $i"
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || fail "journal mode $mode: one of the processes failed"
	done
	sql_ok "$db"
	assert_eq 200000 "$(sql "$db" 'SELECT sum(money) FROM account')" "sum of all accounts"
	commit "at rest $mode"
	assert_eq 200000 "$(sql "$MNT/@v$VERSION/$mode.db" 'SELECT sum(money) FROM account')" "sum in version $VERSION"
	sql_ok "$MNT/@v$VERSION/$mode.db"
done

note "locks between processes: fcntl ranges, flock, and what a dead process held"
cat >"$T/locks.py" <<'PY'
import errno, fcntl, os, sys

path = sys.argv[1]

def in_child(action):
    """action() in a process of its own; its truth value comes back."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if action() else 1)
        except BaseException as e:
            print(e, file=sys.stderr)
            os._exit(2)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 1), status
    return status == 0

def range_lock(kind, start, length):
    def attempt():
        fd = os.open(path, os.O_RDWR)
        try:
            fcntl.lockf(fd, kind | fcntl.LOCK_NB, length, start)
            return True
        except OSError as e:
            assert e.errno in (errno.EAGAIN, errno.EACCES), e
            return False
    return attempt

def whole_lock(kind):
    def attempt():
        fd = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return True
        except OSError as e:
            assert e.errno == errno.EWOULDBLOCK, e
            return False
    return attempt

fd = os.open(path, os.O_RDWR | os.O_CREAT)
fcntl.lockf(fd, fcntl.LOCK_EX, 10, 100)
assert not in_child(range_lock(fcntl.LOCK_EX, 105, 1))
assert not in_child(range_lock(fcntl.LOCK_SH, 100, 10))
assert in_child(range_lock(fcntl.LOCK_EX, 110, 10))
fcntl.lockf(fd, fcntl.LOCK_SH, 10, 100)
assert in_child(range_lock(fcntl.LOCK_SH, 100, 10))
assert not in_child(range_lock(fcntl.LOCK_EX, 100, 10))
fcntl.lockf(fd, fcntl.LOCK_UN, 10, 100)
assert in_child(range_lock(fcntl.LOCK_EX, 100, 10))
assert in_child(range_lock(fcntl.LOCK_EX, 100, 10)), "the lock of a process that ended is still held"

fcntl.flock(fd, fcntl.LOCK_EX)
assert not in_child(whole_lock(fcntl.LOCK_SH))
fcntl.flock(fd, fcntl.LOCK_SH)
assert in_child(whole_lock(fcntl.LOCK_SH))
assert not in_child(whole_lock(fcntl.LOCK_EX))
fcntl.flock(fd, fcntl.LOCK_UN)
assert in_child(whole_lock(fcntl.LOCK_EX))

PY
timeout -k 5 60 python3 "$T/locks.py" "$MNT/locks"

note "SQLITE_BUSY comes when it should"
timeout -k 5 60 python3 - "$MNT" <<'PY'
import os, sqlite3, subprocess, sys
path = sys.argv[1] + "/busy.db"
db = sqlite3.connect(path, isolation_level=None)
db.execute("CREATE TABLE t(x)")
db.execute("BEGIN IMMEDIATE")
db.execute("INSERT INTO t VALUES(1)")
def other(sql):
    return subprocess.run(["sqlite3", "-batch", "-bail", path, sql], capture_output=True, text=True, timeout=30)
refused = other("INSERT INTO t VALUES(2)")
assert refused.returncode != 0 and "locked" in refused.stderr, refused
reads = other("SELECT count(*) FROM t")
assert reads.stdout == "0\n", reads
db.execute("COMMIT")
assert other("INSERT INTO t VALUES(2)").returncode == 0
assert db.execute("SELECT count(*) FROM t").fetchone() == (2,)
PY

note "everything again after a remount"
remount c
for mode in delete wal truncate persist; do
	sql_ok "$MNT/$mode.db"
	assert_eq 200000 "$(sql "$MNT/$mode.db" 'SELECT sum(money) FROM account')" "sum of all accounts, $mode, after a remount"
done
unmount_store c
