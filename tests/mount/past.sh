#!/bin/bash
# SPDX-License-Identifier: MIT
# The past, opened with plain tools. Databases in every journal mode, in the root and in a directory, are committed
# while their writers have them open, with frames in the WAL, and in mid transaction with half of it in the
# file. Then each version of each is read without any flag by sqlite3, sqldiff, .backup, VACUUM INTO, ATTACH, cp,
# python's sqlite3, with mode=ro, immutable=1, memory-mapped, and by many readers of many versions at once while a
# writer and commits go on. What each must hold is made by the same statements in a host directory. Without
# sqldiff its part is left out.
. "$(dirname "$0")/lib.sh"
need sqlite3 python3

versions=5
modes="DELETE TRUNCATE PERSIST MEMORY WAL OFF"

cat >"$T/past.py" <<'PY'
"""
write MOUNT REFERENCE VERSIONS      make the versions, and REFERENCE/N.db: what each database holds in version N
read MOUNT REFERENCE VERSIONS       read them, by python's sqlite3, in several ways
crowd MOUNT REFERENCE VERSIONS      many readers of many versions at once, a writer and commits beside them
"""
import os, random, shutil, sqlite3, subprocess, sys

what, mount, reference, versions = sys.argv[1:4] + [int(sys.argv[4])]
MODES = "DELETE TRUNCATE PERSIST MEMORY WAL OFF".split()
NAMES = {place + mode: mode for mode in MODES for place in ("", "sub/")}

def contents(db):
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    return db.execute("SELECT * FROM t ORDER BY id").fetchall()

def expected(n):
    db = sqlite3.connect("%s/%d.db" % (reference, n))
    rows = contents(db)
    db.close()
    return rows

def change(db, n):
    db.execute("BEGIN IMMEDIATE")
    rows = [(i, "row %d of %d " % (i, n) * (i % 30)) for i in range(40 * n - 39, 40 * n + 1)]
    db.executemany("INSERT INTO t VALUES(?, ?)", rows)
    db.execute("UPDATE t SET v = 'touched by ' || ? WHERE id % 7 = ?", (n, n % 7))
    db.execute("DELETE FROM t WHERE id % 11 = ?", (n,))
    db.execute("COMMIT")

def make(path, mode):
    db = sqlite3.connect(path, isolation_level=None)
    assert db.execute("PRAGMA journal_mode=" + mode).fetchone()[0] == mode.lower()
    db.execute("PRAGMA synchronous=FULL")
    db.execute("PRAGMA cache_size=5")
    db.execute("CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v TEXT)")
    return db

def commit(message):
    subprocess.run(["setfattr", "-n", "user.mojofs.commit", "-v", message, mount], check=True, timeout=60)

def write():
    os.mkdir(mount + "/sub")
    live = {name: make("%s/%s.db" % (mount, name), mode) for name, mode in NAMES.items()}
    ours = make(reference + "/live.db", "DELETE")
    for n in range(1, versions + 1):
        change(ours, n)
        for db in live.values():
            change(db, n)
        # What has a journal is in mid transaction when it is committed, and half of that is in the file already.
        held = [db for name, db in live.items() if NAMES[name] not in ("MEMORY", "OFF")]
        for db in held:
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE t SET v = v || 'not committed' || hex(zeroblob(300))")
        commit("version %d" % n)
        for db in held:
            db.execute("ROLLBACK")
        shutil.copyfile(reference + "/live.db", "%s/%d.db" % (reference, n))
    for name, db in live.items():
        assert contents(db) == expected(versions), name
    # The writers are gone without a word: their WALs stay in the present, not in the past.
    os._exit(0)

def read():
    for n in range(1, versions + 1):
        rows = expected(n)
        for name in NAMES:
            path = "%s/@v%d/%s.db" % (mount, n, name)
            for uri in (None, "", "?mode=ro", "?immutable=1", "?nolock=1", "?mode=ro&immutable=1", "?cache=shared"):
                if uri == "?nolock=1" and NAMES[name] == "WAL":
                    continue  # without locks SQLite opens no database in WAL mode, wherever it is
                db = sqlite3.connect(path) if uri is None else sqlite3.connect("file:" + path + uri, uri=True)
                got = contents(db)
                assert got == rows, (path, uri, len(got), len(rows))
                db.execute("PRAGMA mmap_size=100000000")
                assert contents(db) == rows, (path, uri)
                try:
                    db.execute("DELETE FROM t")
                    assert False, path + " could be written to"
                except sqlite3.OperationalError as e:
                    assert "readonly" in str(e), (path, uri, e)
                db.close()
            here = sqlite3.connect(":memory:")
            there = sqlite3.connect(path)
            there.backup(here)
            assert contents(here) == rows, path

def crowd():
    readers = []
    stop, told = os.pipe()
    rows = {n: expected(n) for n in range(1, versions + 1)}
    for number in range(10):
        pid = os.fork()
        if pid == 0:
            os.close(told)
            os.set_blocking(stop, False)
            dice, turns = random.Random(number), 0
            open_ones = [(n, path, sqlite3.connect(path)) for n, path in
                         [(n, "%s/@v%d/%s.db" % (mount, n, name)) for n in rows for name in NAMES]]
            while True:
                n, path, db = dice.choice(open_ones)
                if dice.randrange(4) == 0:
                    db = sqlite3.connect(path)
                if contents(db) != rows[n]:
                    print("reader %d: %s is not what it was" % (number, path), file=sys.stderr)
                    os._exit(1)
                turns += 1
                try:
                    if turns > 30 and not os.read(stop, 1):
                        os._exit(0)
                except BlockingIOError:
                    pass
        readers.append(pid)
    os.close(stop)
    db = make(mount + "/WAL.db", "WAL")
    for n in range(30):
        db.execute("INSERT INTO t(v) VALUES(hex(randomblob(3000)))")
        if n % 3 == 0:
            commit("crowd")
    os.close(told)
    if any([os.waitpid(pid, 0)[1] for pid in readers]):
        sys.exit("a reader failed")

{"write": write, "read": read, "crowd": crowd}[what]()
PY
past() {
	timeout -k 5 300 python3 "$T/past.py" "$1" "$MNT" "$T/reference" $versions || fail "$1, see above"
}

# hash_of DATABASE: of its content
hash_of() {
	sql "$1" .sha3sum
}

read_all() {
	local n mode place database
	note "sqlite3 without a flag, and what lies beside the databases"
	for n in $(seq $versions); do
		for mode in $modes; do
			for place in "" sub/; do
				database="$MNT/@v$n/$place$mode.db"
				sql_ok "$database"
				assert_eq "$(hash_of "$T/reference/$n.db")" "$(hash_of "$database")" "content of $database"
				assert_fails 'readonly database' sqlite3 "$database" 'DELETE FROM t'
				assert_eq "$([ $mode = WAL ] && echo wal || echo delete)" "$(sql "$database" 'PRAGMA journal_mode')" \
					"journal mode of $database"
				[ ! -s "$database-wal" ] || fail "$database-wal is not empty"
				[ ! -s "$database-journal" ] || [ "$(head -c 8 "$database-journal" | tr -d '\0' | wc -c)" = 0 ] ||
					fail "$database-journal is hot"
			done
		done
	done
	note "python's sqlite3, mode=ro, immutable=1, nolock=1, memory-mapped"
	past read
}

mount_store past
mkdir "$T/reference" "$T/copies"
note "$versions versions, most databases in mid transaction"
past write
read_all

note "copies: cp of the file alone, cp -r of a version, .backup, VACUUM INTO, .dump"
cp -r "$MNT/@v2" "$T/copies/v2"
for mode in $modes; do
	wanted=$(hash_of "$T/reference/2.db")
	cp "$MNT/@v2/$mode.db" "$T/copies/cp-$mode.db"
	sql "$MNT/@v2/$mode.db" ".backup $T/copies/backup-$mode.db"
	sql "$MNT/@v2/$mode.db" "VACUUM INTO '$T/copies/into-$mode.db'"
	sql "$MNT/@v2/$mode.db" .dump >"$T/copies/dump"
	sql "$T/copies/dump-$mode.db" <"$T/copies/dump"
	for copy in cp backup into dump; do
		sql_ok "$T/copies/$copy-$mode.db"
		assert_eq "$wanted" "$(hash_of "$T/copies/$copy-$mode.db")" "a copy of @v2/$mode.db by $copy"
	done
	for copy in "$T/copies/v2/$mode.db" "$T/copies/v2/sub/$mode.db"; do
		chmod u+w "$copy"
		sql_ok "$copy"
		assert_eq "$wanted" "$(hash_of "$copy")" "$copy by cp -r"
		sql "$copy" "INSERT INTO t(v) VALUES('more')"
	done
done

note "past and present in one connection"
for mode in $modes; do
	assert_eq "$(sql "$T/reference/5.db" "ATTACH '$T/reference/3.db' AS past" \
		"SELECT count(*), sum(length(v)) FROM (SELECT * FROM t EXCEPT SELECT * FROM past.t)")" \
		"$(sql "$MNT/$mode.db" "ATTACH '$MNT/@v3/$mode.db' AS past" \
			"SELECT count(*), sum(length(v)) FROM (SELECT * FROM t EXCEPT SELECT * FROM past.t)")" \
		"what is new in $mode.db since @v3"
done

if command -v sqldiff >/dev/null; then
	note "sqldiff between a version and the present, both ways"
	for mode in $modes; do
		cp "$T/reference/3.db" "$T/copies/forth-$mode.db"
		timeout 60 sqldiff "$MNT/@v3/$mode.db" "$MNT/$mode.db" >"$T/copies/diff"
		[ "$(wc -l <"$T/copies/diff")" -gt 40 ] || fail "sqldiff @v3/$mode.db $mode.db finds little: $(cat "$T/copies/diff")"
		sql "$T/copies/forth-$mode.db" <"$T/copies/diff"
		assert_eq "$(hash_of "$MNT/$mode.db")" "$(hash_of "$T/copies/forth-$mode.db")" "@v3/$mode.db and the difference"
		# Back: the present becomes what it was.
		timeout 60 sqldiff "$MNT/$mode.db" "$MNT/@v3/$mode.db" >"$T/copies/diff"
		sql "$MNT/$mode.db" <"$T/copies/diff"
		assert_eq "$(hash_of "$T/reference/3.db")" "$(hash_of "$MNT/$mode.db")" "$mode.db and the difference to version 3"
	done
else
	note "sqldiff is not installed (Debian: sqlite3-tools): not tried"
fi

note "many readers of many versions at once"
past crowd

note "what is not SQLite's is frozen as it is, though it looks like it"
python3 - "$MNT" <<'PY'
import random, struct, sys
dice, mnt = random.Random(7), sys.argv[1]
def put(name, content):
    with open(mnt + "/" + name, "wb") as file:
        file.write(content)
# A journal's header, as SQLite writes it: magic, pages, nonce, pages of the database, sector, page size; and one page.
def journal(page):
    header = b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + struct.pack(">5I", 1, 77, 2, 512, 4096)
    checksum = 77 + sum(page[i] for i in range(4096 - 200, 0, -200))
    return header.ljust(512, b"\0") + struct.pack(">I", 1) + page + struct.pack(">I", checksum & 0xffffffff)
put("encrypted.db", dice.randbytes(8192))
put("encrypted.db-journal", journal(dice.randbytes(4096)))
put("notes", b"not a database")
put("notes-journal", dice.randbytes(5000))
put("notes-wal", dice.randbytes(5000))
put("letter-wal", b"a letter to somebody called Wal")
put("sub/-journal", b"no name before it")
put("sub/orphan.db-journal", journal(dice.randbytes(4096)))
PY
foreign="encrypted.db encrypted.db-journal notes notes-journal notes-wal letter-wal sub/-journal sub/orphan.db-journal"
commit "foreign files"
for name in $foreign; do
	cmp "$MNT/$name" "$MNT/@v$VERSION/$name" || fail "@v$VERSION/$name is not what was frozen"
done
for name in $foreign; do
	rm "$MNT/$name"
done

note "all of it after a remount"
remount past
read_all
unmount_store past
