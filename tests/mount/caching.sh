#!/bin/bash
# SPDX-License-Identifier: MIT
# On a warm cache, a read transaction of SQLite causes no request to the daemon at all.
. "$(dirname "$0")/lib.sh"
need sqlite3 python3

mount_store c
cat >"$T/warm.py" <<'PY'
import json, os, sqlite3, sys, time

mnt, mode, before_reading = sys.argv[1:4]
path = "%s/%s.db" % (mnt, mode)

def requests():
    return json.loads(os.getxattr(mnt, "user.mojofs.requests"))

def difference(before, after):
    return {n: after[n] - before.get(n, 0) for n in after if after[n] != before.get(n, 0)}

def look_until(is_right):
    """What a look shows, once it is right: what was done before may come late, as a file's release does."""
    for i in range(500):
        shown = difference(requests(), requests())
        if is_right(shown):
            return shown
        time.sleep(0.02)
    raise AssertionError("looking at the counters costs different each time: %s" % shown)

# Looking costs getxattr requests (Python asks once with a small buffer, once with a large one), and no others.
looking = look_until(lambda shown: len(shown) == 1 and "getxattr" in list(shown)[0].lower())

def caused(action):
    """What `action` caused, without the getxattr by which we look."""
    look_until(lambda shown: shown == looking)
    before = requests()
    action()
    after = requests()
    diff = difference(before, after)
    for name, cost in looking.items():
        diff[name] = diff.get(name, 0) - cost
    return {n: d for n, d in diff.items() if d}

db = sqlite3.connect(path, isolation_level=None)
if before_reading == "make":
    assert db.execute("PRAGMA journal_mode=%s" % mode).fetchone()[0] == mode
    db.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
    db.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
               "INSERT INTO t SELECT i, printf('%0200d', i) FROM n")
db.execute("PRAGMA cache_size=10")  # so that SQLite asks the kernel again and again

def read_everything():
    assert db.execute("SELECT count(*), sum(length(v)) FROM t").fetchone() == (5000, 1000000)

def many_transactions():
    for i in range(1, 1001):
        assert db.execute("SELECT v FROM t WHERE id = ?", (i * 5,)).fetchone() == ("%0200d" % (i * 5),)

def one_transaction():
    db.execute("BEGIN")
    many_transactions()
    read_everything()
    db.execute("COMMIT")

assert caused(lambda: None) == {}
for i in range(2):  # warm up
    read_everything()
    many_transactions()
for action in read_everything, many_transactions, one_transaction:
    diff = caused(action)
    assert diff == {}, "%s, %s: %s" % (mode, action.__name__, diff)

# The same with a second connection of the same process open, and with stat and open besides.
def stat_and_access():
    for i in range(100):
        os.stat(path)
        os.access(path + "-journal", os.F_OK)
        os.path.exists(mnt + "/no-such-file")
stat_and_access()
diff = caused(stat_and_access)
assert diff == {}, "stat and access: %s" % diff

# A write by this connection may cost requests; the reads after it none, once warm again.
db.execute("UPDATE t SET v = printf('%0200d', id) WHERE id = 77")
read_everything()
many_transactions()
diff = caused(many_transactions)
assert diff == {}, "%s, after a write: %s" % (mode, diff)
print(mode, before_reading, "no requests")
PY
# Not PERSIST: SQLite then opens the journal at each read transaction, to see that it is not hot.
for mode in delete wal truncate; do
	timeout -k 5 100 python3 "$T/warm.py" "$MNT" $mode make
done
# In a new process, a file opened again finds the cache as the last one left it.
for mode in delete wal truncate; do
	timeout -k 5 100 python3 "$T/warm.py" "$MNT" $mode again
done
note "after a remount"
remount c
for mode in delete wal; do
	timeout -k 5 100 python3 "$T/warm.py" "$MNT" $mode again
done

note "the kernel reads the mount further ahead than it does by itself"
if [ "$(id -u)" = 0 ] && [ -w "/sys/class/bdi/$(mountpoint -d "$MNT")/read_ahead_kb" ]; then
	assert_eq 4096 "$(cat "/sys/class/bdi/$(mountpoint -d "$MNT")/read_ahead_kb")" "KiB that the mount is read ahead"
fi

note "pages stay cached across opens: a second process reads without a read request"
cat "$MNT/delete.db" >/dev/null
count_reads() {
	xget requests "$MNT" | python3 -c 'import json, sys; print(sum(n for k, n in json.load(sys.stdin).items() if k.lower() in ("read", "fuse_read")))'
}
before=$(count_reads)
cat "$MNT/delete.db" >/dev/null
assert_eq "$before" "$(count_reads)" "read requests after reading a cached file"
unmount_store c
