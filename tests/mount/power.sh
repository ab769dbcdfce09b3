#!/bin/bash
# SPDX-License-Identifier: MIT
# The power fails under SQLite. A daemon records what it writes to its store (--record), and transactions that were
# acknowledged put marks into the recording. From it come states that the store's disk may be in after a loss of
# power; in each the databases must be whole, with every acknowledged transaction and no half of one. Journal modes
# DELETE, PERSIST, TRUNCATE and WAL, transactions over two files, synchronous=FULL and NORMAL, with syncs of journals
# that wait for the disk and such that only order. And what must show losses does: synchronous=OFF, WAL and TRUNCATE with
# synchronous=NORMAL, and a rollback journal whose removal is not waited for.
#
#	POWER_STATES=N         how many states of each store page size (320; with MOJO_TEST_LONG 20000)
#	POWER_TRANSACTIONS=N   of each database in a recording (60; with MOJO_TEST_LONG 300)
#	SEED=N                 other transactions, other states; SEED=random, and with MOJO_TEST_LONG: any
[ -z "${MOJO_TEST_LONG:-}" ] || TEST_SECONDS=${TEST_SECONDS:-20000}
. "$(dirname "$0")/lib.sh"
need python3

if [ -n "${MOJO_TEST_LONG:-}" ]; then
	: "${POWER_STATES:=20000}" "${POWER_TRANSACTIONS:=300}"
fi
: "${POWER_STATES:=320}" "${POWER_TRANSACTIONS:=60}"
SEED=$(pick_seed 20260)
[ -x "$MOJOFS_HELPERS/power_states" ] || fail "power_states was not found in $MOJOFS_HELPERS"
note "SEED=$SEED"

cat >"$T/power.py" <<'PY'
"""
work MOUNT SEED TRANSACTIONS JOB...     transactions on the mount, each job in a process of its own
kill MOUNT SEED TRANSACTIONS JOB...     the same, but half way the first job kills the daemon
check DIRECTORY WANTED JOB...           checks the state in DIRECTORY after each line of power_states

A job is CLASS:MODE:SYNCHRONOUS, or CLASS:MODE:SYNCHRONOUS:2 for transactions over two files. Its files are CLASS.db
and CLASS-b.db; the mark of transaction n is CLASS * 1000000 + n.

Transaction n inserts row n into t, and sets v of row n % 20 of s to n. So what is in a database says which
transactions are in it, and whether any is in it by halves.
"""
import os, random, signal, sqlite3, subprocess, sys, time

SLOTS = 20

def pad(n):
    rng = random.Random(n)
    return bytes([n % 251]) * rng.choice((10, 300, 3000, 20000))

def open_db(directory, job, work):
    name, mode, synchronous, *two = job.split(":")
    paths = [f"{directory}/{name}.db"] + ([f"{directory}/{name}-b.db"] if two else [])
    db = sqlite3.connect(paths[0], timeout=60, isolation_level=None)
    schemas = ["main"]
    if two:
        db.execute("ATTACH ? AS b", (paths[1],))
        schemas.append("b")
    if work:
        for schema in schemas:
            assert db.execute(f"PRAGMA {schema}.journal_mode={mode}").fetchone()[0] == mode.lower()
            db.execute(f"PRAGMA {schema}.synchronous={synchronous}")
            db.execute(f"PRAGMA {schema}.cache_size=8")
    return db, schemas

def work(mount, seed, transactions, job, kill_at):
    rng = random.Random(f"{seed} {job}")
    daemon = int(os.getxattr(mount, "user.mojofs.pid"))
    number = int(job.split(":")[0])
    db, schemas = open_db(mount, job, True)
    def mark(n):
        os.setxattr(mount, "user.mojofs.mark", str(number * 1000000 + n).encode())
    done = 0
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 't'").fetchone(): # before the kill
        done = db.execute("SELECT count(*) FROM t").fetchone()[0]
    else:
        db.execute("BEGIN IMMEDIATE")
        for schema in schemas:
            db.execute(f"CREATE TABLE {schema}.t(n INTEGER PRIMARY KEY, pad BLOB)")
            db.execute(f"CREATE TABLE {schema}.s(k INTEGER PRIMARY KEY, v INTEGER)")
            db.executemany(f"INSERT INTO {schema}.s VALUES(?, 0)", [(k,) for k in range(SLOTS)])
        db.execute("COMMIT")
    mark(done)
    for n in range(done + 1, transactions + 1):
        if n == kill_at:
            os.kill(daemon, signal.SIGKILL)
        if rng.randrange(8) == 0:
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE s SET v = -1")
            db.execute("UPDATE t SET pad = zeroblob(5000)")
            db.execute("ROLLBACK")
        db.execute("BEGIN IMMEDIATE")
        for schema in schemas:
            db.execute(f"INSERT INTO {schema}.t VALUES(?, ?)", (n, pad(n)))
            db.execute(f"UPDATE {schema}.s SET v = ? WHERE k = ?", (n, n % SLOTS))
        db.execute("COMMIT")
        mark(n)
        what = rng.randrange(30)
        if what == 0:
            db.execute("VACUUM")
        elif what == 1:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        elif what == 2:
            db.close()
            db, schemas = open_db(mount, job, True)
        elif what == 3:
            time.sleep(rng.random() / 5)
    # A process that ends without a word: the journal of PERSIST, and WAL, stay.
    os._exit(0)

def look(directory, job, acked):
    """None if all is well; "lost" if acknowledged transactions are missing, else what is wrong."""
    name, mode, synchronous, *two = job.split(":")
    if not os.path.exists(f"{directory}/{name}.db"):
        return None if acked is None else "lost"
    db, schemas = open_db(directory, job, False)
    last = []
    try:
        for schema in schemas:
            db.execute(f"PRAGMA {schema}.synchronous=OFF") # of this check
            answer = db.execute(f"PRAGMA {schema}.integrity_check").fetchall()
            if answer != [("ok",)]:
                return f"integrity_check of {schema} says {answer[0][0]}"
            if not db.execute(f"SELECT 1 FROM {schema}.sqlite_master WHERE name = 's'").fetchone():
                last.append(-1)
                continue
            rows = db.execute(f"SELECT n, pad FROM {schema}.t ORDER BY n").fetchall()
            n = len(rows)
            if rows != [(i, pad(i)) for i in range(1, n + 1)]:
                return f"the rows of {schema} are not 1..{n}"
            slots = db.execute(f"SELECT k, v FROM {schema}.s ORDER BY k").fetchall()
            wanted = [(k, max([0] + [i for i in range(1, n + 1) if i % SLOTS == k])) for k in range(SLOTS)]
            if slots != wanted:
                return f"{schema} has {n} rows, but half of another transaction"
            last.append(n)
    except sqlite3.DatabaseError as e:
        return f"{type(e).__name__}: {e}"
    finally:
        db.close()
    if len(set(last)) != 1:
        return f"one file has {last[0]} transactions, the other {last[1]}"
    if acked is not None and last[0] < acked:
        return "lost"
    if last[0] > (-1 if acked is None else acked) + 1:
        return f"{last[0]} transactions, but only {acked} were acknowledged"
    return None

def empty(directory):
    for name in os.listdir(directory):
        os.unlink(f"{directory}/{name}")

def check(directory, wanted, helper, jobs):
    """@wanted: "nothing" may be lost; "losses" only of the last transactions; "damage" of any kind."""
    process = subprocess.Popen(helper, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    states, lost, damaged, deepest = 0, 0, 0, 0
    for line in process.stdout:
        words = line.split()
        marks = dict(map(int, word.split(":")) for word in words[1:])
        verdicts = {}
        for job in jobs:
            acked = marks.get(int(job.split(":")[0]))
            verdict = look(directory, job, acked)
            deepest = max(deepest, acked or 0)
            if verdict:
                verdicts[job] = verdict
                if wanted == "nothing" or (wanted == "losses" and verdict != "lost"):
                    print(f"moment {words[0]}, job {job}, {acked} acknowledged: {verdict}", flush=True)
                    process.kill()
                    sys.exit(1)
        states += 1
        lost += "lost" in verdicts.values()
        damaged += any(v != "lost" for v in verdicts.values())
        empty(directory)
        process.stdin.write("\n")
        process.stdin.flush()
    if process.wait() != 0:
        sys.exit(f"power_states ended with {process.returncode}")
    print(f"{states} states, {lost} with lost transactions, {damaged} damaged")
    assert deepest > 10, deepest
    if wanted != "nothing" and not lost + damaged:
        sys.exit("nothing was lost, though it should have been: this test would not notice a loss")

if sys.argv[1] in ("work", "kill"):
    mount, seed, transactions, jobs = sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:]
    kill_at = transactions // 2 if sys.argv[1] == "kill" else None
    children = []
    for job in jobs:
        pid = os.fork()
        if pid == 0:
            try:
                work(mount, seed, transactions, job, kill_at if job == jobs[0] else None)
            except BaseException as e:
                if not kill_at:
                    print(job, repr(e), file=sys.stderr, flush=True)
            os._exit(1)
        children.append(pid)
    sys.exit(any([os.waitpid(pid, 0)[1] for pid in children])) # all of them: who still runs has files open
directory, wanted, recording, seed, count, jobs = *sys.argv[2:7], sys.argv[7:]
check(directory, wanted, [os.environ["MOJOFS_HELPERS"] + "/power_states", recording, seed, count, directory], jobs)
PY

# record NAME 'mount options' jobs...: work on a new store that is recorded to $T/NAME.recording; with KILL=yes the
# daemon is killed half way, and mounted again
record() {
	local name=$1 options=$2
	shift 2
	options="--record=$T/$name.recording --chunk-size=4M --checkpoint-size=1M --commit-interval=1 $options"
	# shellcheck disable=SC2086
	mount_store "$name" $options
	if [ -n "${KILL:-}" ]; then
		timeout -k 5 "${TEST_SECONDS:-600}" python3 "$T/power.py" kill "$MNT" "$SEED" "$POWER_TRANSACTIONS" "$@" &&
			fail "the daemon of $name was killed, and nobody noticed"
		wait_for_end "${daemon_of[$MNT]}" 60 || fail "the daemon of $name was not killed"
		unset "daemon_of[$MNT]"
		timeout -k 5 60 fusermount3 -u "$MNT"
		# shellcheck disable=SC2086
		mount_store "$name" $options
	fi
	timeout -k 5 "${TEST_SECONDS:-600}" python3 "$T/power.py" work "$MNT" "$SEED" "$POWER_TRANSACTIONS" "$@" ||
		fail "the transactions on $name failed"
	unmount_store "$name"
}

# replay NAME WANTED STATES jobs...: in the directory in which it was mounted, for super-journals are known by
# their whole paths
replay() {
	local name=$1 wanted=$2 states=$3
	shift 3
	timeout -k 5 "${TEST_SECONDS:-600}" python3 "$T/power.py" check "$T/$name" "$wanted" "$T/$name.recording" "$SEED" \
		"$states" "$@" || fail "$name: a loss of power was not survived as it should be"
}

jobs="1:DELETE:FULL 2:PERSIST:FULL 3:TRUNCATE:FULL 4:WAL:FULL 5:DELETE:FULL:2 6:PERSIST:FULL:2"
for page_size in 4096 65536; do
	note "journal modes DELETE, PERSIST, TRUNCATE and WAL, one file and two, synchronous=FULL, pages of $page_size bytes"
	# shellcheck disable=SC2086
	KILL=yes record "full$page_size" "--page-size=$page_size" $jobs
	# shellcheck disable=SC2086
	replay "full$page_size" nothing "$POWER_STATES" $jobs
done

# With synchronous=NORMAL SQLite syncs what commits in PERSIST, and we the removal in DELETE: nothing is lost there.
note "the same with synchronous=NORMAL, and with journals that are flushed at each sync"
jobs="1:DELETE:NORMAL 2:PERSIST:NORMAL 5:DELETE:NORMAL:2"
# shellcheck disable=SC2086
KILL=yes record halves "" $jobs
# shellcheck disable=SC2086
replay halves nothing 200 $jobs
jobs="1:DELETE:FULL 2:PERSIST:FULL 3:TRUNCATE:FULL"
# shellcheck disable=SC2086
record flushed --no-ordered-journals $jobs
# shellcheck disable=SC2086
replay flushed nothing 100 $jobs

note "control: synchronous=OFF"
record off "" 1:DELETE:OFF
replay off damage 200 1:DELETE:OFF
note "control: WAL with synchronous=NORMAL"
record normal "" 1:WAL:NORMAL
replay normal losses 200 1:WAL:NORMAL
note "control: TRUNCATE with synchronous=NORMAL"
record cut "" 1:TRUNCATE:NORMAL
replay cut losses 200 1:TRUNCATE:NORMAL
note "control: --no-durable-unlink, which is how ext4 does it"
record ext4 --no-durable-unlink 1:DELETE:FULL
replay ext4 losses 200 1:DELETE:FULL

note "which removals are waited for"
flushes() {
	xget state "$MNT" | python3 -c 'import json, sys; print(json.load(sys.stdin)["flushes"])'
}
# waits EXPECTED FILE: does the removal of FILE wait for the disk?
waits() {
	local before after
	before=$(flushes)
	rm "$MNT/$2"
	after=$(flushes)
	assert_eq "$1" $((after - before)) "flushes for the removal of $2"
}
make_files() {
	printf '\xd9\xd5\x05\xf9\x20\xa1\x63\xd7\0\0\0\x05rest' >"$MNT/x.db-journal"
	cp "$MNT/x.db-journal" "$MNT/any name"
	printf '\xd9\xd5\x05\xf9\x20\xa1\x63\xd7\xff\xff\xff\xffrest' >"$MNT/unsynced.db-journal"
	printf '\xd9\xd5\x05\xf9' >"$MNT/short-journal"
	printf '\0\0\0\0\0\0\0\0\0\0\0\0rest' >"$MNT/zeroed-journal"
	: >"$MNT/empty-journal"
	sync -f "$MNT/x.db-journal" "$MNT"
}
mount_store unlink --commit-interval=86400
make_files
waits 1 x.db-journal
waits 1 "any name"
for name in unsynced.db-journal short-journal zeroed-journal empty-journal; do
	waits 0 $name
done
unmount_store unlink
printf '[mount]\ndurable-unlink = no\n' >"$T/no.conf"
for options in --no-durable-unlink "-o no-durable-unlink" --durable-unlink=no "--config=$T/no.conf"; do
	# shellcheck disable=SC2086
	mount_store unlink --commit-interval=86400 $options
	make_files
	waits 0 x.db-journal
	unmount_store unlink
done
mount_store unlink --commit-interval=86400 "--config=$T/no.conf" --durable-unlink
make_files
waits 1 x.db-journal

unmount_store unlink

note "which syncs are waited for"
# syncs EXPECTED FILE: does a sync of FILE, after a byte was added to it, wait for the disk?
syncs() {
	local before after
	printf x >>"$MNT/$2"
	before=$(flushes)
	sync "$MNT/$2"
	after=$(flushes)
	assert_eq "$1" $((after - before)) "flushes for a sync of $2"
}
# head_of_journal FILE MAGIC: a journal's first 28 bytes, for sectors of 512 and pages of 4096 bytes
head_of_journal() {
	printf "$2"'\0\0\0\1\1\2\3\4\0\0\0\2\0\0\2\0\0\0\x10\0' >"$MNT/$1"
}
hot='\xd9\xd5\x05\xf9\x20\xa1\x63\xd7'
zeros='\0\0\0\0\0\0\0\0'
make_journals() {
	mkdir "$MNT/d" "$MNT/dir"
	: >"$MNT/x.db"
	: >"$MNT/d/y.db"
	ln -s x.db "$MNT/link"
	head_of_journal x.db-journal "$hot"
	head_of_journal d/y.db-journal "$zeros"
	head_of_journal alone-journal "$hot"
	head_of_journal link-journal "$hot"
	head_of_journal dir-journal "$hot"
	head_of_journal x.db-wal "$hot"
	head_of_journal -journal "$hot"
	printf 'some other text, of 28 bytes' >"$MNT/d/y.db-mj01"
	sync -f "$MNT/x.db"
	sync "$MNT/x.db"
}
mount_store syncs --commit-interval=86400
make_journals
syncs 0 x.db-journal
syncs 0 d/y.db-journal
for name in alone-journal link-journal dir-journal x.db-wal -journal d/y.db-mj01; do
	syncs 1 "$name"
done
# A database beside a hot journal, which takes back what is synced; not one whose journal is not hot yet.
syncs 0 x.db
syncs 1 d/y.db
# A super-journal ends the transaction, wherever that may be.
printf "$hot" >>"$MNT/x.db-journal"
sync "$MNT/x.db-journal"
syncs 1 x.db
# What commits: zeros, and nothing at all.
dd if=/dev/zero of="$MNT/x.db-journal" bs=28 count=1 conv=notrunc status=none
syncs 1 x.db-journal
syncs 1 x.db
: >"$MNT/d/y.db-journal"
syncs 1 d/y.db-journal
# A hot one that was cut and not synced: the next sync of any kind is waited for, as it would be elsewhere.
head_of_journal x.db-journal "$hot"
head_of_journal d/y.db-journal "$hot"
syncs 0 x.db-journal
syncs 0 d/y.db-journal
: >"$MNT/x.db-journal"
syncs 1 d/y.db-journal
syncs 0 d/y.db-journal
syncs 0 d/y.db
# A journal that lost its name protects nothing.
mv "$MNT/d/y.db-journal" "$MNT/d/other"
syncs 1 d/y.db
unmount_store syncs
for option in --no-ordered-journals --no-durable-unlink; do
	rm -r "$T/syncs.store"
	mount_store syncs --commit-interval=86400 "$option"
	make_journals
	if [ "$option" = --no-ordered-journals ]; then
		syncs 1 x.db-journal
		syncs 1 d/y.db-journal
	fi
	syncs 1 x.db
	unmount_store syncs
done

note "a sync of a directory waits for names, but not for a journal's"
# syncs_directory EXPECTED COMMAND...: does a sync of the root after the command wait for the disk?
syncs_directory() {
	local before after wanted=$1
	shift
	"$@"
	before=$(flushes)
	sync "$MNT"
	after=$(flushes)
	assert_eq "$wanted" $((after - before)) "flushes for a sync of the directory after: $*"
}
mount_store names --commit-interval=86400
: >"$MNT/x.db"
syncs_directory 1 touch "$MNT/file"
syncs_directory 0 true
syncs_directory 1 mv "$MNT/file" "$MNT/other"
syncs_directory 1 rm "$MNT/other"
syncs_directory 1 mkdir "$MNT/d"
syncs_directory 1 rmdir "$MNT/d"
syncs_directory 1 ln -s x.db "$MNT/link"
syncs_directory 1 mknod "$MNT/fifo" p
syncs_directory 1 chmod 711 "$MNT"
syncs_directory 0 dd if=/dev/zero of="$MNT/x.db" bs=4096 count=2 status=none conv=notrunc
syncs_directory 0 touch "$MNT/x.db-journal"
syncs_directory 1 touch "$MNT/y.db-journal"
unmount_store names

mount_store unlink
note "marks are for recordings, and a recording that cannot be written is told"
assert_fails 'Operation not permitted' setfattr -n user.mojofs.mark -v 1 "$MNT"
unmount_store unlink
assert_fails 'none/recording: .*No such file' "$MOJOFS_FUSE" --foreground --record="$T/none/recording" "$T/unlink.store" "$T/unlink"
mount_store unlink --record="$T/marks.recording"
assert_fails 'Invalid argument' setfattr -n user.mojofs.mark -v one "$MNT"
assert_fails 'Operation not permitted' setfattr -n user.mojofs.mark -v 1 "$MNT/short-journal"
setfattr -n user.mojofs.mark -v 1 "$MNT"
unmount_store unlink
[ -s "$T/marks.recording" ] || fail "nothing was recorded"
