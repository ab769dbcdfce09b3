#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""kill.py DIRECTORY ROUNDS SEED [PIDS] - kill -9 the daemon at random moments under SQLite writers, ROUNDS times.

Mounts DIRECTORY/store on DIRECTORY/mnt. In each round several processes write to databases in different journal
modes, synchronous FULL, and tell which transactions SQLite has called committed; another one reads all the time, and
one commits versions. Then the daemon is killed, and mounted again: every database passes integrity_check, no
transaction and no version that was acknowledged is missing, and none is there that nobody began. The daemon can be
killed at any time: whatever it waits for, it ends. What the processes meet meanwhile is an error, never a wrong answer. In some rounds the daemon is killed while it recovers.

The pid of every daemon is appended to the file PIDS, for the watchdog of lib.sh. Exit status: 0, or 1 with what was wrong.
"""
import os, random, re, select, signal, sqlite3, subprocess, sys, time

directory, rounds, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
program = os.environ["MOJOFS_FUSE"]
store, mnt = directory + "/store", directory + "/mnt"
dice = random.Random(seed)
# Journal mode and number of writers. All write to a database of their own name; those of one mode share it.
MODES = (("delete", 1), ("wal", 2), ("persist", 1), ("truncate", 1))
GENERATION = 20  # rounds after which new databases are begun, so that checking the old ones does not take over

started = time.monotonic()
statistics = {"transactions": 0, "versions": 0, "recoveries cut short": 0, "errors seen": 0, "checks": 0}
acknowledged = {}  # (database, writer) -> number of the last transaction that was called committed
begun = {}  # the same -> number of the last one that may have been begun
versions = {}  # acknowledged version -> message
running = set()  # pids of clients

class Wrong(Exception):
    pass

# ---- the daemon ----

def start():
    with open(directory + "/daemon.log", "ab") as log:
        daemon = subprocess.Popen([program, "--foreground", store, mnt], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    if len(sys.argv) > 4:
        with open(sys.argv[4], "a") as file:
            print(daemon.pid, file=file)
    return daemon

def wait_until_mounted(daemon):
    give_up = time.monotonic() + 30
    while True:
        try:
            if os.getxattr(mnt, "user.mojofs.pid") == b"%d" % daemon.pid:
                return
        except OSError:
            pass
        if daemon.poll() is not None:
            raise Wrong("the daemon ended with %d instead of mounting" % daemon.returncode)
        if time.monotonic() > give_up:
            raise Wrong("not mounted within 30 seconds")
        time.sleep(0.002)

def kill(daemon):
    daemon.kill()
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        threads = "/proc/%d/task" % daemon.pid
        stuck = [open("%s/%s/wchan" % (threads, thread)).read() for thread in os.listdir(threads)]
        raise Wrong("the daemon does not end after kill -9: its threads wait in %s" % ", ".join(stuck))

def unmount():
    with open("/proc/self/mountinfo") as file:
        if any(line.split()[4] == mnt for line in file):
            subprocess.run(["fusermount3", "-uz", mnt], check=True, timeout=20)

def give_up():
    """Whatever hangs, hangs no more: unmounting by force ends the connection, and with it every request."""
    for pid in list(running):
        os.kill(pid, signal.SIGKILL)
    subprocess.run(["umount", "-f", mnt], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)
    for pid in list(running):
        os.waitpid(pid, 0)
    unmount()

def explained():
    """A mount point whose daemon is gone: the next start says so, and what it says to do helps, even with somebody in it."""
    tried = subprocess.run([program, store, mnt], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL)
    if tried.returncode == 0 or "stale" not in tried.stderr or "fusermount3" not in tried.stderr:
        raise Wrong("started on a stale mount point, it ended with %d and said: %s" % (tried.returncode, tried.stderr))
    remedy = re.search(r"fusermount3 -\S+ \S+", tried.stderr).group().split()
    did = subprocess.run(remedy, capture_output=True, text=True, timeout=20)
    if did.returncode:
        raise Wrong("the remedy that the daemon names, '%s', fails: %s" % (" ".join(remedy), did.stderr))

# ---- the processes ----

def is_an_error(e):
    """What a client may meet when its file system goes away under it. A damaged database it may not."""
    text = str(e).lower()
    return not any(bad in text for bad in ("malformed", "not a database", "corrupt", "syntax", "no such table", "constraint"))

def connect(path, mode):
    db = sqlite3.connect(path, isolation_level=None, timeout=10)
    db.execute("PRAGMA synchronous=FULL")
    if db.execute("PRAGMA journal_mode=" + mode).fetchone()[0] != mode:
        raise Wrong("%s: journal mode %s was refused" % (path, mode))
    return db

def write(path, mode, writer, number, tell):
    db = connect(path, mode)
    db.execute("PRAGMA wal_autocheckpoint=40")
    generator = random.Random(number * 1000 + writer)
    while True:
        number += 1
        db.execute("BEGIN IMMEDIATE")
        for part in range(3):
            db.execute("INSERT INTO t VALUES(?, ?, ?, ?)", (writer, number, part, generator.randbytes(generator.randrange(1, 900))))
        db.execute("UPDATE last SET number = ? WHERE writer = ?", (number, writer))
        db.execute("COMMIT")
        os.write(tell, b"T %s %d %d\n" % (os.path.basename(path).encode(), writer, number))

def look(db, path):
    """One read transaction; returns writer -> last number. Whatever it sees must fit together."""
    db.execute("BEGIN")
    last = dict(db.execute("SELECT writer, number FROM last"))
    counts = dict(db.execute("SELECT writer, count(*) FROM t GROUP BY writer"))
    most = dict(db.execute("SELECT writer, max(number) FROM t GROUP BY writer"))
    db.execute("COMMIT")
    for writer, number in last.items():
        if counts.get(writer, 0) != 3 * number or most.get(writer, 0) != number:
            raise Wrong("%s: writer %d is at %d, but has %d rows, up to %d" %
                        (path, writer, number, counts.get(writer, 0), most.get(writer, 0)))
    return last

def read(paths):
    seen = {}
    databases = [(path, sqlite3.connect(path, isolation_level=None, timeout=10)) for path in paths]
    while True:
        for path, db in databases:
            now = look(db, path)
            for writer, number in now.items():
                if number < seen.get((path, writer), 0):
                    raise Wrong("%s: writer %d was at %d and is at %d" % (path, writer, seen[path, writer], number))
                seen[path, writer] = number

def commit(first, tell):
    root = os.open(mnt, os.O_RDONLY)  # by name it might be the directory below the mount point, later
    while True:
        message = b"version %d" % first
        first += 1
        os.setxattr(root, "user.mojofs.commit", message)
        version = int(os.getxattr(root, "user.mojofs.commit"))
        os.write(tell, b"V %d %s\n" % (version, message))
        if first % 3 == 0:  # in between as fast as can be: to be killed in the middle of one
            time.sleep(0.05)

def seek(tell):
    """Ask for data in files without a name: what the kernel has of those the daemon itself must fetch."""
    root = os.open(mnt, os.O_RDONLY)
    while True:
        descriptor = os.open("nameless", os.O_RDWR | os.O_CREAT, 0o600, dir_fd=root)
        os.unlink("nameless", dir_fd=root)
        for turn in range(20):
            os.pwrite(descriptor, b"x" * 300000, 8192)
            if os.lseek(descriptor, 0, os.SEEK_DATA) != 8192:
                raise Wrong("lseek finds data that is not there, or not what is")
        os.close(descriptor)

def spawn(what, *arguments):
    """A process that runs until it meets an error: 0 if that is one that may be, 1 if not, with the text on the pipe."""
    pipe_read, pipe_write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(pipe_write)
        running.add(pid)
        return pid, pipe_read
    status = 1
    try:
        os.close(pipe_read)
        what(*arguments, *([pipe_write] if what is not read else []))
    except (sqlite3.Error, OSError) as e:
        status = 0 if is_an_error(e) else 1
        os.write(pipe_write, b"E %d %s: %s\n" % (status, what.__name__.encode(), repr(e).encode()))
    except BaseException as e:
        os.write(pipe_write, b"E 1 %s: %s\n" % (what.__name__.encode(), repr(e).encode()))
    os._exit(status)

def drain(pipe, wait_seconds):
    """All lines that the process wrote, until it ended."""
    text, give_up = b"", time.monotonic() + wait_seconds
    while True:
        if not select.select([pipe], [], [], max(0, give_up - time.monotonic()))[0]:
            return text.decode().splitlines(), False
        piece = os.read(pipe, 65536)
        if not piece:
            return text.decode().splitlines(), True
        text += piece

# ---- a round ----

def databases(generation):
    return [(mode, "%s/%s-%d.db" % (mnt, mode, generation), writers) for mode, writers in MODES]

def check(generation):
    statistics["checks"] += 1
    for mode, path, writers in databases(generation):
        name = os.path.basename(path)
        if not os.path.exists(path):
            if any(key[0] == name for key in acknowledged):
                raise Wrong("%s is gone" % path)
            continue
        db = sqlite3.connect(path, isolation_level=None, timeout=10)
        answer = db.execute("PRAGMA integrity_check").fetchall()
        if answer != [("ok",)]:
            raise Wrong("%s: integrity_check: %s" % (path, answer))
        last = look(db, path) if (name, 0) in begun else {}
        db.close()
        for writer, number in last.items():
            low, high = acknowledged.get((name, writer), 0), begun.get((name, writer), 0)
            if number < low:
                raise Wrong("%s: writer %d was told that transaction %d is committed; after the kill the last one is %d" %
                            (path, writer, low, number))
            if number > high:
                raise Wrong("%s: transaction %d of writer %d was never begun" % (path, number, writer))
            acknowledged[name, writer] = begun[name, writer] = number
    for version, message in versions.items():
        found = os.getxattr("%s/@v%d" % (mnt, version), "user.mojofs.message")
        if found != message.encode():
            raise Wrong("version %d was committed as '%s' and is '%s'" % (version, message, found))

def prepare(generation):
    for mode, path, writers in databases(generation):
        name = os.path.basename(path)
        db = connect(path, mode)
        db.execute("CREATE TABLE IF NOT EXISTS t(writer, number, part, data, PRIMARY KEY(writer, number, part))")
        db.execute("CREATE TABLE IF NOT EXISTS last(writer INTEGER PRIMARY KEY, number)")
        for writer in range(writers):
            db.execute("INSERT OR IGNORE INTO last VALUES(?, 0)", (writer,))
            acknowledged.setdefault((name, writer), 0)
            begun.setdefault((name, writer), 0)
        db.close()
    # Making them durable is not what is tested: a new file's name is, once something in it was synchronised.
    descriptor = os.open(mnt, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)

def under_load(generation, turn):
    processes = []
    for mode, path, writers in databases(generation):
        for writer in range(writers):
            number = acknowledged[os.path.basename(path), writer]
            processes.append((os.path.basename(path), writer, *spawn(write, path, mode, writer, number)))
    processes.append((None, "reader", *spawn(read, [path for mode, path, writers in databases(generation)])))
    if turn % 3 == 0:  # it takes its share of the daemon's time
        processes.append((None, "seeker", *spawn(seek)))
    processes.append((None, "committer", *spawn(commit, len(versions) + 1)))
    return processes

def after_the_kill(processes):
    trouble = []
    for name, writer, pid, pipe in processes:
        lines, ended = drain(pipe, 30)
        os.close(pipe)
        if not ended:
            os.kill(pid, signal.SIGKILL)
            subprocess.run(["umount", "-f", mnt], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)
            trouble.append("%s %s hangs after the daemon was killed" % (name, writer))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        running.discard(pid)
        for line in lines:
            kind, rest = line[0], line[2:]
            if kind == "T":
                database, who, number = rest.split()
                acknowledged[database, int(who)] = int(number)
                statistics["transactions"] += 1
            elif kind == "V":
                version, message = rest.split(" ", 1)
                versions[int(version)] = message
                statistics["versions"] += 1
            else:
                statistics["errors seen"] += 1
                if rest[0] != "0":
                    trouble.append("%s %s: %s" % (name, writer, rest[2:]))
        if status and not any(line.startswith("E 1") for line in lines):
            trouble.append("%s %s ended with %d" % (name, writer, status))
        if name:
            begun[name, writer] = acknowledged[name, writer] + 1
    if trouble:
        raise Wrong("; ".join(trouble))

def main():
    os.makedirs(mnt)
    daemon, generation = start(), 0
    try:
        for turn in range(rounds):
            wait_until_mounted(daemon)
            check(generation)
            if turn % GENERATION == 0:
                for mode, path, writers in databases(generation):
                    for tail in "", "-wal", "-shm", "-journal":
                        if os.path.exists(path + tail):
                            os.unlink(path + tail)
                generation = turn // GENERATION + 1
                prepare(generation)
            somebody = subprocess.Popen(["sleep", "100"], cwd=mnt) if turn % 10 == 0 else None
            processes = under_load(generation, turn)
            time.sleep(dice.choice((0.02, 0.1, 0.3)) * dice.random() + 0.05)
            kill(daemon)
            after_the_kill(processes)
            if somebody:
                try:
                    explained()
                finally:
                    somebody.kill()
                    somebody.wait()
            unmount()
            daemon = start()
            for attempt in range(dice.randrange(3) if turn % 4 == 3 else 0):  # while it recovers
                time.sleep(dice.random() * 0.02)
                kill(daemon)
                unmount()
                statistics["recoveries cut short"] += 1
                daemon = start()
        wait_until_mounted(daemon)
        check(generation)
        subprocess.run(["fusermount3", "-u", mnt], check=True, timeout=60)
        if daemon.wait(60):
            raise Wrong("the daemon ended with %d at the last unmount" % daemon.returncode)
    except Wrong as e:
        print("kill.py: round %d, seed %d: %s" % (turn, seed, e), file=sys.stderr)
        return 1
    finally:
        if daemon.poll() is None:
            daemon.kill()
        give_up()
    print("%d rounds in %.0f s, seed %d: %s" % (rounds, time.monotonic() - started, seed,
          ", ".join("%s %d" % (name, count) for name, count in statistics.items())))
    return 0

sys.exit(main())
