#!/bin/bash
# SPDX-License-Identifier: MIT
# While one thread asks for little things the serving threads are on its processor; they are free again when somebody
# else asks, when much is moved, and when threads are started. And the times that the kernel keeps for a file are the
# ones that it has after a remount.
. "$(dirname "$0")/lib.sh"
need python3

mount_store f
cat >"$T/follow.py" <<'PY'
import os, sys

mnt = sys.argv[1]
daemon = os.getxattr(mnt, "user.mojofs.pid").decode()
allowed = os.sched_getaffinity(0)

def places():
    """Of each thread of the daemon: where it may be."""
    found = []
    for task in os.listdir(f"/proc/{daemon}/task"):
        for line in open(f"/proc/{daemon}/task/{task}/status"):
            if line.startswith("Cpus_allowed_list:"):
                found.append(line.split()[1])
    return found

free = places()
assert len(set(free)) == 1, free

def ask(times):
    for i in range(times):
        os.mkdir(f"{mnt}/d")
        os.rmdir(f"{mnt}/d")

def assert_near():
    cpus = sorted(allowed)
    os.sched_setaffinity(0, {cpus[-1]})
    ask(600) # more than after which it is looked where we are
    near = [p for p in places() if p != free[0]]
    assert near and set(near) == {str(cpus[-1])}, places()
    os.sched_setaffinity(0, {cpus[0]})
    ask(600)
    near = [p for p in places() if p != free[0]]
    assert near and set(near) == {str(cpus[0])}, places()
    os.sched_setaffinity(0, allowed)

def assert_free(after):
    assert set(places()) == {free[0]}, f"after {after}: {places()}"

assert_near()
pid = os.fork()
if pid == 0:
    os.mkdir(f"{mnt}/other")
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert_free("a request of another process")

assert_near()
with open(f"{mnt}/large", "wb") as f:
    f.write(bytes(1 << 20))
    os.fsync(f.fileno())
    # The sync itself is one request of ours, after the large ones.
    assert_free("writing much")

assert_near()
os.setxattr(mnt, "user.mojofs.commit", b"a version")
assert_free("a commit")
ask(1)
PY
if [ "$(nproc)" -gt 1 ]; then
	note "serving threads follow who asks"
	timeout -k 5 100 python3 "$T/follow.py" "$MNT"
else
	note "one processor: nobody to follow"
fi

note "times after a remount are those before"
cat >"$T/times.py" <<'PY'
import os, sys, time

mnt, what = sys.argv[1:3]
kept = f"{mnt}/../times"

def times(name):
    st = os.stat(f"{mnt}/{name}")
    return st.st_mtime_ns, st.st_ctime_ns

names = ["at once", "later", "grown", "through"]
if what == "make":
    files = {n: os.open(f"{mnt}/{n}", os.O_RDWR | os.O_CREAT | (os.O_SYNC if n == "through" else 0)) for n in names}
    os.write(files["at once"], b"x" * 5000)
    now = time.time()
    while time.time() < now + 0.05: # several ticks of the kernel's clock
        pass
    os.write(files["later"], b"x" * 5000)
    os.write(files["through"], b"x" * 5000)
    os.ftruncate(files["grown"], 70000)
    written = time.time()
    while time.time() < written + 0.05:
        pass
    for file in files.values():
        os.fsync(file)
    # Of writing, not of writing back.
    assert times("at once")[0] < times("later")[0] <= written * 1e9, [times(n) for n in names] + [written]
    with open(kept, "w") as f:
        print([times(n) for n in names], file=f)
else:
    before, after = open(kept).read().strip(), str([times(n) for n in names])
    assert before == after, (before, after)
PY
timeout -k 5 100 python3 "$T/times.py" "$MNT" make
remount f
timeout -k 5 100 python3 "$T/times.py" "$MNT" look
unmount_store f
