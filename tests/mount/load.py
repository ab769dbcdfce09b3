#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""load.py - commits under SQLite writers, and what the versions then hold.

    load.py run WORK ROOT SCENARIO [option...]       writers on ROOT, commits at random moments, all versions checked
    load.py check WORK ROOT SCENARIO                 all versions once more, against what "run" or "kill" wrote down
    load.py kill WORK ROOT SCENARIO [option...]      the same, and the daemon is killed (-9) again and again
    load.py busy WORK ROOT SCENARIO --log FILE       transactions held open in each database: the commit is refused
    load.py states WORK ROOT SCENARIO --recording FILE    the versions in states that a loss of power may leave

Writers are processes of load_writers, each on databases of its own unless the scenario says otherwise. When COMMIT has
returned they put the number of the transaction into WORK/channel, which is not on what is tested. What was
acknowledged before a commit began is in the commit's message, so that every version says itself what must be in it.

A version is right if each of its databases opens in stock SQLite without a flag, passes integrity_check, has all its
money, counts to what was acknowledged before the commit began or further, but not beyond what was begun when it
had returned, has a history without a gap up to there, is in its owner's journal mode, and has neither a hot journal nor
frames in a WAL beside it. Two databases that were changed together must agree.

Options: --commits N, --seconds N (no more commits after that, if there are some), --seed N, --pause S (mean between
    commits), --rounds N,
    --commit setfattr (on ROOT, which is a mount) or copy (cp -r, which is what people do: a control),
    --expect right, or what a control must come to: torn (a version is wrong inside) or unsettled (a hot journal, frames
    in a WAL), --busy (EBUSY is an answer, too; a commit then changed nothing), --log FILE (of the daemon, where EBUSY
    names the database), --pids FILE (the pids of daemons are appended, for the watchdog), --marks (ROOT is a mount that
    records: transactions and versions that were acknowledged are marked in the recording), --pace US
    (the longest pause of a writer between transactions), --states N
"""
import argparse, errno, json, mmap, os, random, re, shutil, signal, sqlite3, struct, subprocess, sys, threading, time

START_BALANCE = 1000
HISTORY = 64
CHANNEL_SIZE = 64
MARK_CLASS, VERSION_MARKS = 1000000, 31
HELPERS = os.environ["MOJOFS_HELPERS"]

class Wrong(Exception):
    pass

class Job:
    """One database, or two that change together, and who writes to it."""

    def __init__(self, name, mode, synchronous, *options, paths=None, writers=1, readers=0, accounts=200):
        self.name, self.mode, self.synchronous, self.options = name, mode, synchronous, list(options)
        self.paths = paths or [name + ".db"]
        self.writers, self.readers, self.accounts = writers, readers, accounts
        self.processes = writers + readers
        self.whole = "-k" in self.options and self.options[self.options.index("-k") + 1] == "0"
        self.changes_mode = "-j" in self.options
        self.first = 0  # index of its first process; writers come first

# Busy timeouts are 0 where nobody else writes to the database: a commit that took a lock there would be noticed.
def journaled():
    return [
        Job("delete-full", "DELETE", "FULL", "-v"),
        Job("delete-normal", "DELETE", "NORMAL", "-A", paths=["sub/delete-normal.db"]),
        Job("truncate-full", "TRUNCATE", "FULL", "-P", "1024"),
        Job("truncate-normal", "TRUNCATE", "NORMAL", paths=["sub/truncate-normal.db"]),
        Job("persist-full", "PERSIST", "FULL", "-P", "16384"),
        Job("persist-normal", "PERSIST", "NORMAL", paths=["sub/deep/persist-normal.db"]),
        Job("wal-full", "WAL", "FULL", "-v"),
        Job("wal-normal", "WAL", "NORMAL", "-P", "512", paths=["sub/wal-normal.db"]),
        Job("wal-shared", "WAL", "FULL", "-t", "20000", writers=2, readers=1),
        Job("pair-delete", "DELETE", "FULL", paths=["pair-delete.db", "sub/deep/pair-delete-other.db"]),
        Job("pair-persist", "PERSIST", "NORMAL", paths=["sub/pair-persist.db", "other/pair-persist-other.db"]),
        Job("pair-truncate", "TRUNCATE", "FULL", paths=["other/pair-truncate.db", "pair-truncate-other.db"]),
        Job("spill-delete", "DELETE", "FULL", "-k", "0", "-c", "20", accounts=3000),
        Job("spill-wal", "WAL", "NORMAL", "-k", "0", "-c", "20", accounts=3000, paths=["sub/spill-wal.db"]),
        Job("reopen-delete", "DELETE", "NORMAL", "-r"),
        Job("reopen-wal", "WAL", "FULL", "-r"),
        Job("exclusive-delete", "DELETE", "FULL", "-e"),
        Job("exclusive-wal", "WAL", "FULL", "-e"),
        Job("any-mode", "DELETE", "FULL", "-j"),
        Job("quit-delete", "DELETE", "FULL", "-q", "-c", "5"),
        Job("quit-wal", "WAL", "FULL", "-q", "-c", "5"),
    ]

# Where neither a journal nor a lock that is always free can tell: a commit may be refused, and may take their locks.
def unjournaled():
    patient = ("-t", "20000")
    return [
        Job("memory", "MEMORY", "FULL", *patient),
        Job("memory-normal", "MEMORY", "NORMAL", *patient, paths=["sub/memory-normal.db"]),
        Job("off", "OFF", "FULL", *patient),
        Job("delete-off", "DELETE", "OFF", *patient),
        Job("persist-off", "PERSIST", "OFF", *patient, paths=["sub/persist-off.db"]),
        Job("truncate-off", "TRUNCATE", "OFF", *patient),
        Job("wal-off", "WAL", "OFF", *patient),
        Job("wal-off-spill", "WAL", "OFF", "-k", "0", "-c", "5", *patient, accounts=1000,
            paths=["sub/wal-off-spill.db"]),
        Job("memory-spill", "MEMORY", "FULL", "-k", "0", "-c", "5", *patient, accounts=1000),
        Job("reopen-memory", "MEMORY", "FULL", "-r", *patient),
    ]

def scenario(name):
    """A name, or some jobs of it: journaled:wal-full,pair-delete"""
    name, _, only = name.partition(":")
    jobs = {"journaled": journaled, "unjournaled": unjournaled, "mixed": lambda: journaled() + unjournaled()}[name]()
    if only:
        known = {job.name: job for job in jobs}
        jobs = [known[one] for one in only.split(",")]
    first = 0
    for job in jobs:
        job.first = first
        first += job.processes
    return jobs

# ---- the channel, and the writers ----

class Channel:
    def __init__(self, path, count):
        self.path, self.count = path, count
        size = count * CHANNEL_SIZE
        with open(path, "ab") as file:
            file.truncate(size)
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), size)

    def get(self, index, field):
        offset = index * CHANNEL_SIZE + 8 * ("begun", "acknowledged", "transactions", "longest_us", "stop").index(field)
        return struct.unpack_from("=Q", self.memory, offset)[0]

    def all(self, field):
        return [self.get(index, field) for index in range(self.count)]

    def tell_to_stop(self, stop=1):
        for index in range(self.count):
            struct.pack_into("=Q", self.memory, index * CHANNEL_SIZE + 32, stop)

class Writers:
    def __init__(self, options, jobs):
        self.root, self.jobs, self.seed = options.root, jobs, options.seed
        self.marks, self.pace = options.marks, options.pace
        self.channel = Channel(options.work + "/channel", sum(job.processes for job in jobs))
        self.running = []

    def command(self, job, who, *more):
        mark = ["-M", self.root] if self.marks else []
        index = job.first + who
        return ([HELPERS + "/load_writers", "-m", job.mode, "-s", job.synchronous, "-a", str(job.accounts), "-w", str(who),
                 "-S", str(self.seed + index), "-p", str(self.pace), *job.options, *mark, *more,
                 self.channel.path, str(index)] + [self.root + "/" + path for path in job.paths])

    def create(self):
        for job in self.jobs:
            for path in job.paths:
                os.makedirs(os.path.dirname(self.root + "/" + path), exist_ok=True)
            subprocess.run(self.command(job, 0, "-x"), check=True, timeout=60)

    def start(self, *more):
        self.channel.tell_to_stop(0)
        for job in self.jobs:
            for who in range(job.processes):
                reads = ["-R"] if who >= job.writers else []
                process = subprocess.Popen(self.command(job, who, *reads, *more), stdin=subprocess.DEVNULL,
                                           stderr=subprocess.PIPE, text=True)
                self.running.append((job, who, process))

    def wait_until_all_work(self):
        base, give_up = self.channel.all("transactions"), time.monotonic() + 60
        while any(now == then for now, then in zip(self.channel.all("transactions"), base)):
            self.look()
            if time.monotonic() > give_up:
                raise Wrong("the writers do not get on: %s" % self.channel.all("transactions"))
            time.sleep(0.005)

    def look(self):
        """None of them may have met an error."""
        for job, who, process in self.running:
            if process.poll() is not None:
                raise Wrong("the writer of %s ended with %d: %s" %
                            (job.name, process.returncode, process.stderr.read()))

    def wait(self):
        """Their exit statuses and messages, when all have ended."""
        ended, self_running, self.running = [], self.running, []
        for job, who, process in self_running:
            try:
                text = process.communicate(timeout=120)[1]
            except subprocess.TimeoutExpired:
                self.running = self_running
                raise Wrong("the writer of %s does not end; it waits in %s" %
                            (job.name, open("/proc/%d/wchan" % process.pid).read()))
            ended.append((job, who, process.returncode, text))
        return ended

    def stop(self):
        self.channel.tell_to_stop()
        for job, who, status, text in self.wait():
            if status:
                raise Wrong("the writer of %s ended with %d: %s" % (job.name, status, text))

    def kill(self):
        for job, who, process in self.running:
            process.kill()

# ---- what a database must be ----

def check_side_files(path, job):
    """What lies beside a database of a version."""
    problems = []
    if os.path.exists(path + "-journal"):
        with open(path + "-journal", "rb") as file:
            first = file.read(1)
        if first not in (b"", b"\0"):
            problems.append(("unsettled", "%s-journal is hot" % path))
    if os.path.exists(path + "-wal") and os.path.getsize(path + "-wal") > 0:
        problems.append(("unsettled", "%s-wal holds %d bytes" % (path, os.path.getsize(path + "-wal"))))
    with open(path, "rb") as file:
        header = file.read(20)
    wanted = 2 if job.mode == "WAL" else 1
    if list(header[18:20]) != [wanted, wanted] and not job.changes_mode:
        problems.append(("mode", "%s: bytes 18 and 19 are %s, its journal mode is %s" %
                         (path, list(header[18:20]), job.mode)))
    return problems

def check_job(root, job, lower, upper, version=True):
    """(problems, counters): of the databases of @job below @root. @lower and @upper: by index of writer, or None.
    @version: they are frozen ones; else live ones, which may have hot journals and open read-write."""
    problems, counters, money = [], [], 0
    for path in job.paths:
        full = root + "/" + path
        try:
            if not os.path.exists(full):
                problems.append(("torn", "%s is not there" % full))
                continue
            if version:
                problems += check_side_files(full, job)
            db = sqlite3.connect(full, isolation_level=None, timeout=0 if version else 30)
            try:
                answer = db.execute("PRAGMA integrity_check").fetchall()
                if answer != [("ok",)]:
                    problems.append(("torn", "%s: integrity_check: %s" % (full, answer[0][0])))
                    continue
                count, balance, touched_first, touched = db.execute(
                    "SELECT count(*), sum(balance), min(touched), max(touched) FROM account").fetchone()
                if count != job.accounts:
                    problems.append(("torn", "%s has %d accounts of %d" % (full, count, job.accounts)))
                money += balance
                n = dict(db.execute("SELECT who, n FROM counter"))
                for who in range(job.writers):
                    lines = [row[0] for row in db.execute("SELECT n FROM history WHERE who = ? ORDER BY n", (who,))]
                    if lines != list(range(max(1, n[who] - HISTORY + 1), n[who] + 1)):
                        problems.append(("torn", "%s: writer %d counts to %d, its history is %s" %
                                         (full, who, n[who], lines)))
                if touched > max(n.values()):
                    problems.append(("torn", "%s: an account of transaction %d, but it counts to %s" %
                                     (full, touched, n)))
                if job.whole and (touched_first != touched or touched != n[0]):
                    problems.append(("torn", "%s: transaction %d is there by halves" % (full, touched)))
                counters.append([n[who] for who in range(job.writers)])
            finally:
                db.close()
        except sqlite3.Error as e:
            hot = any(kind == "unsettled" for kind, text in problems)
            problems.append(("unsettled" if hot else "torn", "%s: %s: %s" % (full, type(e).__name__, e)))
    if len(counters) < len(job.paths):
        return problems, None
    if money != START_BALANCE * job.accounts * len(job.paths):
        problems.append(("torn", "%s/%s: the sum of money is %d" % (root, job.name, money)))
    if any(one != counters[0] for one in counters):
        problems.append(("torn", "%s/%s: the two count to %s" % (root, job.name, counters)))
    for who, n in enumerate(counters[0]):
        if lower is not None and n < lower[job.first + who]:
            problems.append(("lost", "%s/%s: writer %d counts to %d, but %d was acknowledged before" %
                             (root, job.name, who, n, lower[job.first + who])))
        if upper is not None and n > upper[job.first + who]:
            problems.append(("torn", "%s/%s: writer %d counts to %d, but only %d was begun" %
                             (root, job.name, who, n, upper[job.first + who])))
    return problems, counters[0]

def check_live(root, jobs, lower):
    for job in jobs:
        problems, counters = check_job(root, job, lower, None, version=False)
        if problems:
            raise Wrong("the live database: " + "; ".join(text for kind, text in problems))

# ---- versions ----

class Mount:
    """A mounted store, committed to by plain setfattr."""

    def __init__(self, root):
        self.root = root

    def commit(self, message):
        """0, or the errno with which setfattr failed."""
        tried = subprocess.run(["setfattr", "-n", "user.mojofs.commit", "-v", message, self.root], timeout=120,
                               capture_output=True, text=True)
        if tried.returncode == 0:
            return 0
        if os.strerror(errno.EBUSY) in tried.stderr:
            return errno.EBUSY
        raise Wrong("a commit failed: " + tried.stderr)

    def newest(self):
        return int(os.getxattr(self.root, "user.mojofs.version")) - 1

    def versions(self):
        return [n for n in range(1, self.newest() + 1) if os.path.isdir(self.path(n))]

    def path(self, n):
        return "%s/@v%d" % (self.root, n)

    def message(self, n):
        return os.getxattr(self.path(n), "user.mojofs.message").decode()

class Copies:
    """A plain directory, and what people do who have nothing better."""

    def __init__(self, root, work):
        self.root, self.work, self.last = root, work, 0

    def commit(self, message):
        self.last += 1
        shutil.rmtree(self.path(self.last - 1), ignore_errors=True)
        def ignore_what_is_gone(source, target):
            try:
                shutil.copyfile(source, target)
            except FileNotFoundError:
                pass
        shutil.copytree(self.root, self.path(self.last), copy_function=ignore_what_is_gone)
        self.text = message
        return 0

    def newest(self):
        return self.last

    def versions(self):
        return [self.last]

    def path(self, n):
        return "%s/@v%d" % (self.work, n)

    def message(self, n):
        return self.text

def pack(numbers):
    return "load " + " ".join(map(str, numbers))

def unpack(message):
    return [int(word) for word in message.split()[1:]] if message.startswith("load ") else None

def check_version(target, jobs, n, upper=None, known=None, lower=None):
    """The problems of version @n. @known: n -> counters of each job, compared, and added to."""
    problems, counters = [], {}
    lower = lower or unpack(target.message(n))
    for job in jobs:
        found, counters[job.name] = check_job(target.path(n), job, lower, upper)
        problems += found
    if known is not None and not problems:
        if known.setdefault(str(n), counters) != counters:
            problems.append(("torn", "version %d has changed: %s, and was %s" % (n, counters, known[str(n)])))
    return problems

def check_all(target, jobs, uppers, known):
    checked = 0
    for n in target.versions():
        if unpack(target.message(n)) is None:
            continue
        problems = check_version(target, jobs, n, uppers.get(n), known)
        if problems:
            raise Wrong("version %d: %s" % (n, "; ".join(text for kind, text in problems)))
        checked += 1
    return checked

def load_known(work):
    try:
        with open(work + "/known.json") as file:
            return json.load(file)
    except FileNotFoundError:
        return {}

def save_known(work, known):
    with open(work + "/known.json", "w") as file:
        json.dump(known, file)

# ---- run ----

def median(values):
    return sorted(values)[len(values) // 2] if values else 0

class Log:
    """What the daemon's log gained."""

    def __init__(self, path):
        self.path, self.at = path, os.path.getsize(path) if path else 0

    def more(self):
        with open(self.path) as file:
            file.seek(self.at)
            text = file.read()
            self.at = file.tell()
        return text

def run(options, jobs, dice):
    target = Mount(options.root) if options.commit == "setfattr" else Copies(options.root, options.work)
    writers = Writers(options, jobs)
    known, uppers, took = load_known(options.work), {}, []
    busy, named = 0, set()
    log = Log(options.log) if options.log else None
    names = {os.path.basename(path) for job in jobs for path in job.paths}
    caught = None
    if not os.path.exists(options.root + "/" + jobs[0].paths[0]):
        writers.create()
    writers.start()
    try:
        writers.wait_until_all_work()
        started = time.monotonic()
        least = 2 if options.busy else 5  # however slow the machine is
        while (not caught and len(took) < options.commits and
               (len(took) < least or time.monotonic() - started < options.seconds)):
            time.sleep(dice.expovariate(1 / options.pause))
            writers.look()
            before = target.newest()
            lower = writers.channel.all("acknowledged")
            begin = time.monotonic()
            error = target.commit(pack(lower))
            took_now = time.monotonic() - begin
            upper = writers.channel.all("begun")
            if error:
                busy += 1
                if not options.busy:
                    raise Wrong("a commit was refused with EBUSY; the log: %s" % (log.more() if log else "none"))
                if target.newest() != before:
                    raise Wrong("a commit was refused with EBUSY, and yet there is version %d" % target.newest())
                # Not again and again if it is the same one.
                text = log.more()
                named |= {name for name in names if name in text}
                if not named:
                    raise Wrong("a commit was refused with EBUSY, and the log names no database")
                continue
            took.append(took_now)
            n = target.newest()
            if n != before + 1:
                raise Wrong("a commit made version %d, the newest before was %d" % (n, before))
            uppers[n] = upper
            if options.marks:
                os.setxattr(options.root, "user.mojofs.mark", b"%d" % (VERSION_MARKS * MARK_CLASS + n))
            # At once, under load: one of them; of a control, until one is wrong.
            if options.expect == "right":
                job = dice.choice(jobs)
                problems, counters = check_job(target.path(n), job, lower, upper)
            else:
                problems = []
                for job in jobs:
                    problems += check_job(target.path(n), job, lower, upper)[0]
                    if any(kind == options.expect for kind, text in problems):
                        break
            if problems and options.expect == "right":
                raise Wrong("version %d, at once: %s" % (n, "; ".join(text for kind, text in problems)))
            if any(kind == options.expect for kind, text in problems):
                caught = next(text for kind, text in problems if kind == options.expect)
        seconds = time.monotonic() - started
        acknowledged = writers.channel.all("acknowledged")
        writers.stop()
    except Wrong:
        writers.kill()
        raise
    transactions, longest = writers.channel.all("transactions"), writers.channel.all("longest_us")
    print("%d commits in %.1f s under %d writers with %d transactions (the slowest: %d); "
          "a commit took %.1f ms (median), %.1f ms (longest); the longest transaction %.0f ms; refused with EBUSY: %d %s" %
          (len(took), seconds, len(transactions), sum(transactions), min(transactions),
           1000 * median(took), 1000 * max(took, default=0), max(longest) / 1000, busy, " ".join(sorted(named))))
    if options.expect != "right":
        if not caught:
            raise Wrong("this control should have been %s, and was not: the test would not notice" % options.expect)
        print("the control was %s after %d commits, as it should be: %s" % (options.expect, len(took), caught))
        return
    check_live(options.root, jobs, acknowledged)
    checked = check_all(target, jobs, uppers, known)
    save_known(options.work, known)
    print("%d versions of %d databases are right" % (checked, sum(len(job.paths) for job in jobs)))

def check(options, jobs, dice):
    known = load_known(options.work)
    if not known:
        raise Wrong("nothing is known of the versions")
    target = Mount(options.root)
    there = set(map(str, target.versions()))
    if not set(known) <= there:
        raise Wrong("versions are gone: %s" % sorted(set(known) - there))
    print("%d versions are still right" % check_all(target, jobs, {}, known))

# ---- busy ----

def hold(root, job, spill):
    """A connection in mid transaction. @spill: part of which is in the database file already."""
    db = sqlite3.connect(root + "/" + job.paths[0], isolation_level=None, timeout=20)
    db.execute("PRAGMA journal_mode=" + job.mode).fetchall()
    db.execute("PRAGMA synchronous=" + job.synchronous)
    db.execute("PRAGMA cache_size=5")
    db.execute("BEGIN IMMEDIATE")
    if spill:
        db.execute("UPDATE account SET balance = balance + 1, pad = randomblob(400)")
    else:
        db.execute("UPDATE account SET balance = balance + 1 WHERE id = 1")
    return db

def undo(db, job, spill):
    if spill:
        db.execute("UPDATE account SET balance = balance - 1")
    else:
        db.execute("UPDATE account SET balance = balance - 1 WHERE id = 1")
    db.execute("COMMIT")
    db.close()

def busy(options, jobs, dice):
    target, log = Mount(options.root), Log(options.log)
    writers = Writers(options, jobs)
    program = [os.environ["MOJOFS"], "commit", "--message=" + pack([0] * writers.channel.count)]
    refused = 0
    if not os.path.exists(options.root + "/" + jobs[0].paths[0]):
        writers.create()
    for job in jobs:
        text = ""  # the same database is not named again and again
        for spill in (True, False):
            db = hold(options.root, job, spill)
            before = target.newest()
            error = target.commit(pack([0] * writers.channel.count))
            text += log.more()
            if error:
                refused += 1
                if target.newest() != before:
                    raise Wrong("%s: a commit was refused, and yet there is version %d" % (job.name, target.newest()))
                if os.path.basename(job.paths[0]) not in text:
                    raise Wrong("%s: a commit was refused, and the log does not name it: %s" % (job.name, text))
                # While the transaction is held, waiting does not help; and nothing is held up by it.
                tried = subprocess.run(program + ["--wait=0.3", options.root], capture_output=True, text=True,
                                       timeout=60)
                if tried.returncode == 0 or target.newest() != before:
                    raise Wrong("%s: mojofs commit --wait made a version in mid transaction" % job.name)
                waiting = subprocess.Popen(program + ["--wait=60", options.root], stdout=subprocess.PIPE,
                                           stderr=subprocess.STDOUT, text=True)
                time.sleep(dice.random() * 0.1)
                undo(db, job, spill)
                said = waiting.communicate(timeout=90)[0]
                if waiting.returncode:
                    raise Wrong("%s: mojofs commit --wait gave up though the transaction ended: %s" % (job.name, said))
            else:
                # Then the last boundary was known from a journal, from a WAL, or because nothing was written yet.
                if spill and job.mode in ("MEMORY", "OFF"):
                    raise Wrong("%s: half a transaction without a journal is in the file, and was committed" % job.name)
                undo(db, job, spill)
            n = target.newest()
            if n != before + 1:
                raise Wrong("%s: the newest version is %d, it was %d" % (job.name, n, before))
            problems = check_version(target, jobs, n)
            if problems:
                raise Wrong("%s is in mid transaction; version %d: %s" %
                            (job.name, n, "; ".join(text for kind, text in problems)))
    if not refused:
        raise Wrong("no commit was refused")
    print("%d commits in mid transaction, %d of them refused with EBUSY until it ended" % (2 * len(jobs), refused))

# ---- kill ----

class Daemon:
    def __init__(self, options):
        self.options, self.mnt, self.store = options, options.root, options.root + ".store"
        self.process = None

    def start(self):
        with open(self.options.log, "ab") as log:
            self.process = subprocess.Popen([os.environ["MOJOFS_FUSE"], "--foreground", self.store, self.mnt],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if self.options.pids:
            with open(self.options.pids, "a") as file:
                print(self.process.pid, file=file)

    def wait_until_mounted(self):
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            try:
                if os.getxattr(self.mnt, "user.mojofs.pid") == b"%d" % self.process.pid:
                    return
            except OSError:
                pass
            if self.process.poll() is not None:
                raise Wrong("the daemon ended with %d instead of mounting" % self.process.returncode)
            time.sleep(0.002)
        raise Wrong("not mounted within 60 seconds")

    def kill(self):
        self.process.kill()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            raise Wrong("the daemon does not end after kill -9")

    def unmount(self):
        with open("/proc/self/mountinfo") as file:
            if any(line.split()[4] == self.mnt for line in file):
                subprocess.run(["fusermount3", "-uz", self.mnt], check=True, timeout=20)

    def end(self):
        """Cleanly; an unmount writes a checkpoint."""
        subprocess.run(["fusermount3", "-u", self.mnt], check=True, timeout=60)
        if self.process.wait(60):
            raise Wrong("the daemon ended with %d at an unmount" % self.process.returncode)

def is_damage(text):
    return any(bad in text for bad in ("malformed", "not a database", "corrupt", "syntax", "no such", "constraint"))

def kill(options, jobs, dice):
    os.makedirs(options.root, exist_ok=True)
    daemon, target = Daemon(options), Mount(options.root)
    writers = Writers(options, jobs)
    known, acknowledged_versions, answered, unanswered, finished, given_up, again = {}, set(), 0, 0, 0, 0, 0
    daemon.start()
    try:
        daemon.wait_until_mounted()
        writers.create()
        for turn in range(options.rounds):
            begun = target.newest() + 1
            writers.start()
            uppers = {}
            writers.wait_until_all_work()
            for i in range(1 + dice.randrange(2)):
                lower = writers.channel.all("acknowledged")
                begin = time.monotonic()
                if target.commit(pack(lower)):
                    raise Wrong("a commit was refused with EBUSY")
                uppers[target.newest()] = writers.channel.all("begun")
                acknowledged_versions.add(target.newest())
                answered += 1
                took = time.monotonic() - begin
            newest = target.newest()
            # One more, and the kill somewhere in it.
            lower = writers.channel.all("acknowledged")
            last = subprocess.Popen(["setfattr", "-n", "user.mojofs.commit", "-v", pack(lower), options.root],
                                    stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(dice.random() * 1.3 * took)
            daemon.kill()
            upper = writers.channel.all("begun")
            # Who need not sync does not notice at once: what it reads and writes is in the kernel's cache.
            writers.channel.tell_to_stop()
            ended = writers.wait()
            status = last.wait(60)
            for job, who, code, text in ended:
                if is_damage(text):
                    raise Wrong("%s: the daemon was killed, and its writer ended with %d: %s" % (job.name, code, text))
            answered, unanswered = answered + (status == 0), unanswered + (status != 0)
            daemon.unmount()
            daemon.start()
            for attempt in range(1 + dice.randrange(2) if turn % 3 == 2 else 0):  # while it recovers and settles
                time.sleep(dice.random() * 0.03)
                daemon.kill()
                daemon.unmount()
                again += 1
                daemon.start()
            daemon.wait_until_mounted()
            if status == 0:
                acknowledged_versions.add(newest + 1)
            there = set(target.versions())
            if not acknowledged_versions <= there:
                raise Wrong("versions that were acknowledged are gone: %s" % sorted(acknowledged_versions - there))
            if max(there, default=0) > newest + 1:
                raise Wrong("there is version %d, which nobody asked for" % max(there))
            if status and newest + 1 in there:
                finished += 1
            elif status:
                given_up += 1
            uppers[newest + 1] = upper
            for n in sorted(there):
                if n >= begun:
                    problems = check_version(target, jobs, n, uppers.get(n), known)
                    if problems:
                        raise Wrong("version %d (%s): %s" % (n, "unanswered" if status and n > newest else "answered",
                                                           "; ".join(text for kind, text in problems)))
            lower = writers.channel.all("acknowledged")
            check_live(options.root, jobs, [(job.synchronous == "FULL") * lower[index] for job in jobs
                                            for index in range(job.first, job.first + job.processes)])
        checked = check_all(target, jobs, {}, known)
        daemon.end()
        daemon.start()
        daemon.wait_until_mounted()
        check_all(target, jobs, {}, known)
        daemon.end()
    except Wrong as e:
        writers.kill()
        raise Wrong("round %d: %s" % (turn if "turn" in vars() else 0, e))
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
        # By force: that ends every request which nobody answers any more.
        subprocess.run(["umount", "-f", daemon.mnt], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20)
        daemon.unmount()
        daemon.process.wait(30)
    print("%d rounds: %d versions are right; %d commits were answered, %d cut short by a kill, "
          "of which %d were finished at the next mount and %d were not begun; %d kills while recovering" %
          (options.rounds, checked, answered, unanswered, finished, given_up, again))

# ---- states ----

class Put:
    """Versions that power_states put into a directory."""

    def __init__(self, directory):
        self.directory = directory

    def versions(self):
        return sorted(int(name[2:]) for name in os.listdir(self.directory) if "." not in name)

    def path(self, n):
        return "%s/@v%d" % (self.directory, n)

    def message(self, n):
        with open(self.path(n) + ".message") as file:
            return file.read()

def states(options, jobs, dice):
    """After a loss of power at any moment, and the next mount: the versions."""
    put = Put(options.work + "/put")
    os.mkdir(put.directory)
    process = subprocess.Popen([HELPERS + "/power_states", "-v", options.recording, str(options.seed),
                                str(options.states), put.directory], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    count, seen, deepest, known = 0, 0, 0, load_known(options.work)
    for line in process.stdout:
        moment, *marks = line.split()
        marks = dict(map(int, mark.split(":")) for mark in marks)
        there = put.versions()
        acknowledged = marks.get(VERSION_MARKS, 0)
        if max(there, default=1) <= acknowledged:
            raise Wrong("moment %s: version %d was acknowledged, and the newest is %s" %
                        (moment, acknowledged, max(there, default=None)))
        # Of the commit of the state itself, once all databases are made: what was acknowledged with FULL is in it.
        lower = [(job.synchronous == "FULL") * marks.get(index, -1) for job in jobs
                 for index in range(job.first, job.first + job.processes)]
        made = all(job.first + who in marks for job in jobs for who in range(job.writers))
        for n in there:
            state = put.message(n) == "state"
            if unpack(put.message(n)) is not None or state and made:
                problems = check_version(put, jobs, n, None, known if n <= acknowledged else None,
                                         lower if state else None)
                if problems:
                    process.kill()
                    raise Wrong("moment %s, version %d (%d is acknowledged): %s" %
                                (moment, n, acknowledged, "; ".join(text for kind, text in problems)))
                seen, deepest = seen + 1, max(deepest, n)
        count += 1
        shutil.rmtree(put.directory)
        os.mkdir(put.directory)
        process.stdin.write("\n")
        process.stdin.flush()
    said = process.stderr.read()
    if process.wait():
        raise Wrong("power_states ended with %d: %s" % (process.returncode, said))
    settled = int(re.search("had to be settled in ([0-9]+) states", said).group(1))
    if deepest < 5 or not settled:
        raise Wrong("the states do not reach far: version %d at most, %d with a version to settle" % (deepest, settled))
    print("%d states, in %d of which a version was settled at the next mount; %d versions in them are right" %
          (count, settled, seen))

parser = argparse.ArgumentParser(usage=__doc__)
parser.add_argument("what", choices=("run", "check", "busy", "kill", "states"))
parser.add_argument("work")
parser.add_argument("root")
parser.add_argument("scenario")
parser.add_argument("--commits", type=int, default=40)
parser.add_argument("--seconds", type=float, default=1e9)
parser.add_argument("--rounds", type=int, default=10)
parser.add_argument("--pause", type=float, default=0.15)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--commit", choices=("setfattr", "copy"), default="setfattr")
parser.add_argument("--expect", choices=("right", "torn", "unsettled"), default="right")
parser.add_argument("--busy", action="store_true")
parser.add_argument("--marks", action="store_true")
parser.add_argument("--pace", type=int, default=2000)
parser.add_argument("--states", type=int, default=100)
parser.add_argument("--recording")
parser.add_argument("--log")
parser.add_argument("--pids")
options = parser.parse_args()
try:
    action = {"run": run, "check": check, "busy": busy, "kill": kill, "states": states}[options.what]
    action(options, scenario(options.scenario), random.Random(options.seed))
except Wrong as e:
    sys.exit("load.py: %s, seed %d: %s" % (options.scenario, options.seed, e))
