#!/bin/bash
# SPDX-License-Identifier: MIT
# Mounting and unmounting in every way that is offered: background and foreground, signals, mount(8),
# fstab, mount.fuse3's drop_privileges, an ordinary user, the configuration file, and after kill -9.

# mount(8) hands no PATH on, so that mount.fuse3 finds mojofs-fuse only in the system's directories. Not to
# install anything, this runs in a mount namespace of its own, where a directory of ours covers one of them.
if [ "$(id -u)" -eq 0 ] && [ -z "${MOJOFS_NAMESPACE:-}" ] && unshare --mount --propagation private true 2>/dev/null; then
	export MOJOFS_NAMESPACE=1
	exec unshare --mount --propagation private "$BASH" "$0" "$@"
fi

. "$(dirname "$0")/lib.sh"
need sqlite3 python3

# background NAME [option...]: mount as a user does; the parent must have returned only when it is there
background() {
	local name=$1
	shift
	STORE="$T/$name.store"
	MNT="$T/$name"
	mkdir -p "$MNT"
	timeout -k 5 60 "$MOJOFS_FUSE" "$@" "$STORE" "$MNT" >"$T/log/$name.log" 2>&1 || {
		cat "$T/log/$name.log" >&2
		fail "mojofs-fuse $* failed in the background"
	}
	adopt "$STORE" "$MNT"
}

# adopt STORE MOUNT_POINT: it was mounted by somebody else on our behalf; see that it works, and take charge
adopt() {
	is_mounted "$2" || fail "$2 is not mounted though the command returned 0"
	track_daemon "$2" "$(xget pid "$2")" "$1" "$T/log/$(basename "$2").log"
	is_running "${daemon_of[$2]}" || fail "the daemon ${daemon_of[$2]} of $2 does not run"
}

# gone MOUNT_POINT: unmounted, its daemon ended, the store opens
gone() {
	wait_for_end "${daemon_of[$1]}" 60 || fail "the daemon ${daemon_of[$1]} of $1 goes on"
	unset "daemon_of[$1]"
	! is_mounted "$1" || fail "$1 is still mounted"
	timeout 60 "$MOJOFS" state "${store_of[$1]}" >/dev/null || fail "${store_of[$1]} does not open"
}

note "in the background: the parent returns when the mount answers, and keeps no pipe open"
mkdir "$T/bg"
out=$(timeout -k 5 30 "$MOJOFS_FUSE" "$T/bg.store" "$T/bg" 2>&1) || fail "background mount: $out"
adopt "$T/bg.store" "$T/bg"
assert_eq "" "$out" "what a successful mount prints"
echo one >"$T/bg/file"
[ -e "$T/bg.store/mojo.state" ] || fail "the absent store was not made"
assert_eq / "$(readlink "/proc/${daemon_of[$T/bg]}/cwd")" "working directory of the daemon"
session=$(awk '{ sub(/.*\) /, ""); print $4 }' "/proc/${daemon_of[$T/bg]}/stat")
[ "$session" != "$(awk '{ sub(/.*\) /, ""); print $4 }' /proc/$$/stat)" ] || fail "the daemon is in our session"
grep -q " $T/bg .* - fuse\.mojofs-fuse $(realpath "$T/bg.store") " /proc/self/mountinfo || fail "mountinfo shows neither type nor store: $(grep "$T/bg" /proc/self/mountinfo)"
findmnt -n -o OPTIONS "$T/bg" | grep -q default_permissions || fail "not mounted with default_permissions"
umount "$T/bg" 2>/dev/null || fusermount3 -u "$T/bg"
gone "$T/bg"
background bg
assert_eq one "$(cat "$MNT/file")" "content after a remount"

note "an error comes from the parent: message and status"
mkdir "$T/second"
assert_fails "${daemon_of[$MNT]}" "$MOJOFS_FUSE" "$STORE" "$T/second"
fusermount3 -u "$MNT"
gone "$MNT"

note "relative paths"
cd "$T"
mkdir rel
timeout 30 "$MOJOFS_FUSE" rel.store rel
cd /
adopt "$T/rel.store" "$T/rel"
touch "$T/rel/x"
fusermount3 -u "$T/rel"
gone "$T/rel"
[ -e "$T/rel.store/mojo.state" ] || fail "a relative store went somewhere else"

for signal in TERM INT HUP; do
	note "SIG$signal unmounts cleanly; what was written is there"
	mount_store "sig$signal"
	python3 - "$MNT" <<-'PY'
		import os, sys
		fd = os.open(sys.argv[1] + "/synced", os.O_WRONLY | os.O_CREAT)
		os.write(fd, b"s" * 300000)
		os.fsync(fd)
	PY
	head -c 300000 /dev/zero >"$MNT/closed"
	sql "$MNT/x.db" "CREATE TABLE t(x); INSERT INTO t VALUES(1)"
	kill -"$signal" "${daemon_of[$MNT]}"
	ended_cleanly "$MNT"
	! is_mounted "$MNT" || fail "still mounted after SIG$signal"
	mount_store "sig$signal"
	assert_eq 300000 "$(tr -dc s <"$MNT/synced" | wc -c)" "synced bytes after SIG$signal"
	assert_eq 300000 "$(stat -c %s "$MNT/closed")" "size of a closed file after SIG$signal"
	sql_ok "$MNT/x.db"
	unmount_store "sig$signal"
done

note "SIGTERM while a file is open and dirty: what was written is saved"
mount_store busy
python3 - "$MNT" "${daemon_of[$MNT]}" <<'PY'
import mmap, os, signal, sys, time
mnt, pid = sys.argv[1], int(sys.argv[2])
fd = os.open(mnt + "/open", os.O_RDWR | os.O_CREAT)
os.write(fd, b"d" * 500000)
shared = os.open(mnt + "/mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(shared, 100000)
view = mmap.mmap(shared, 100000)
view[50000:60000] = b"m" * 10000
os.kill(pid, signal.SIGTERM)
end = time.monotonic() + 60
while time.monotonic() < end:
    with open("/proc/self/mountinfo") as f:
        if (" %s " % mnt) not in f.read():
            break
    time.sleep(0.01)
else:
    sys.exit("still mounted 60 seconds after SIGTERM")
PY
ended_cleanly "$MNT"
mount_store busy
assert_eq 500000 "$(tr -dc d <"$MNT/open" | wc -c)" "bytes of the file that was open and dirty"
assert_eq 10000 "$(tr -dc m <"$MNT/mapped" | wc -c)" "bytes of the file that was mapped and dirty"
unmount_store busy

note "kill -9: the store recovers; what was synced is there, and so are its versions"
mount_store killed
for round in 1 2 3; do
	python3 - "$MNT" $round <<-'PY'
		import os, sqlite3, sys
		mnt, n = sys.argv[1], int(sys.argv[2])
		fd = os.open("%s/synced-%d" % (mnt, n), os.O_WRONLY | os.O_CREAT)
		os.write(fd, bytes([64 + n]) * 700000)
		os.fsync(fd)
		db = sqlite3.connect(mnt + "/x.db", isolation_level=None)
		# EXTRA: with less, SQLite does not sync the removal of its journal, and a crash may undo the last transaction.
		db.execute("PRAGMA synchronous=EXTRA")
		db.execute("CREATE TABLE IF NOT EXISTS t(x)")
		for i in range(20):
		    db.execute("INSERT INTO t VALUES(?)", (n * 100 + i,))
		os.setxattr(mnt, "user.mojofs.commit", b"round %d" % n)
		db.execute("INSERT INTO t VALUES(?)", (n * 100 + 20,))
		open("%s/unsynced-%d" % (mnt, n), "w").write("may be lost")
	PY
	kill_at "$MNT"
	assert_fails 'not connected' ls "$MNT"
	assert_fails 'stale|not connected|endpoint' "$MOJOFS_FUSE" "$STORE" "$MNT"
	fusermount3 -u "$MNT"
	mount_store killed
	for n in $(seq $round); do
		assert_eq 700000 "$(stat -c %s "$MNT/synced-$n")" "size of synced-$n after kill -9"
		letter=$(printf "\\x$(printf %x $((64 + n)))")
		assert_eq 700000 "$(tr -dc "$letter" <"$MNT/synced-$n" | wc -c)" "content of synced-$n after kill -9"
		sql_ok "$MNT/@v$n/x.db"
		assert_eq $((n * 20 + n - 1)) "$(sql "$MNT/@v$n/x.db" 'SELECT count(*) FROM t')" "rows in @v$n after kill -9"
		assert_eq "round $n" "$(xget message "$MNT/@v$n")" "message of @v$n after kill -9"
	done
	sql_ok "$MNT/x.db"
	assert_eq $((round * 21)) "$(sql "$MNT/x.db" 'SELECT count(*) FROM t')" "rows after kill -9"
done
unmount_store killed

note "the next mount, on the same device, is not ended by what is left of a daemon that was killed"
mount_store late
echo x >"$MNT/f"
device=$(stat -c %d "$MNT")
left=$(pgrep -x -P "${daemon_of[$MNT]}" mojofs-flusher)
track "$left"
kill -STOP "$left"
kill_at "$MNT"
fusermount3 -u "$MNT"
mount_store late
[ "$device" = "$(stat -c %d "$MNT")" ] || note "(this kernel took another device: nothing is shown)"
kill -CONT "$left"
wait_for_end "$left" 20 || fail "the process $left does not end, and its daemon is gone"
echo y >"$MNT/g" || fail "the mount was ended"
assert_eq y "$(cat "$MNT/g")" "content of a new file"
unmount_store late

note "a commit keeps nothing open that is in the way of unmounting"
refused=0
for round in $(seq 20); do
	mount_store busy
	exec 9>"$MNT/file-$round"
	echo x >&9
	timeout -k 5 60 setfattr -n user.mojofs.commit -v "$round" "$MNT"
	exec 9>&-
	if fusermount3 -u "$MNT"; then
		ended_cleanly "$MNT"
	else
		refused=$((refused + 1)) # once or twice, by a program of another test that looks at all mounts
		unmount_store busy
	fi
done
[ "$refused" -lt 5 ] || fail "the mount was busy after $refused of 20 commits"

note "options: ro, and a configuration file that the command line overrules"
mount_store opts --page-size=16384
echo x >"$MNT/f"
assert_eq 16384 "$(xget page_size "$MNT")" "--page-size"
unmount_store opts
mount_store opts -o ro
assert_fails 'Read-only file system' touch "$MNT/g"
assert_eq x "$(cat "$MNT/f")" "content, read-only"
findmnt -n -o OPTIONS "$MNT" | grep -qw ro || fail "-o ro is not shown by findmnt"
unmount_store opts
printf '# for the test\n[store]\npage-size = 8K ; and a comment\n[mount]\nlist-versions = no\n' >"$T/test.conf"
mount_store conf --config="$T/test.conf"
assert_eq 8192 "$(xget page_size "$MNT")" "page-size from the configuration file"
commit "not listed"
assert_eq "" "$(ls -A "$MNT")" "the root with list-versions = no"
[ -d "$MNT/@v1" ] || fail "@v1 is not found with list-versions = no"
unmount_store conf
mount_store conf2 --config="$T/test.conf" --page-size=32768
assert_eq 32768 "$(xget page_size "$MNT")" "--page-size over the configuration file"
unmount_store conf2

if [ -z "${MOJOFS_NAMESPACE:-}" ] || ! PATH="$PATH:/usr/sbin:/sbin" command -v mount.fuse3 >/dev/null; then
	note "not root, or no mount.fuse3: mount(8) is not tried"
	exit 0
fi

# A copy, that nobody can reach, too.
mkdir "$T/bin"
cp "$MOJOFS_FUSE" "$T/bin/mojofs-fuse"
chmod 755 "$T/bin" "$T/bin/mojofs-fuse"
mount --bind "$T/bin" /usr/local/sbin

note "mount -t fuse.mojofs-fuse"
mkdir "$T/m8" "$T/m8.store"
timeout -k 5 60 mount -t fuse.mojofs-fuse "$T/m8.store" "$T/m8"
adopt "$T/m8.store" "$T/m8"
sql "$T/m8/x.db" "CREATE TABLE t(x); INSERT INTO t VALUES(1)"
commit "by mount(8)" "$T/m8"
timeout -k 5 60 umount "$T/m8"
gone "$T/m8"
timeout -k 5 60 mount -t fuse.mojofs-fuse -o ro,noatime "$T/m8.store" "$T/m8"
adopt "$T/m8.store" "$T/m8"
sql_ok "$T/m8/x.db"
sql_ok "$T/m8/@v1/x.db"
assert_fails 'Read-only file system' touch "$T/m8/y"
timeout -k 5 60 umount "$T/m8"
gone "$T/m8"
mkdir "$T/m8full"
touch "$T/m8full/file"
assert_fails 'not empty' mount -t fuse.mojofs-fuse "$T/m8.store" "$T/m8full"

note "a line in fstab"
mkdir "$T/fst" "$T/fst.store"
echo "$T/fst.store $T/fst fuse.mojofs-fuse rw,noauto,nosuid,nodev,noatime,_netdev 0 0" >"$T/fstab"
timeout -k 5 60 mount -T "$T/fstab" "$T/fst"
adopt "$T/fst.store" "$T/fst"
touch "$T/fst/file"
timeout -k 5 60 umount "$T/fst"
gone "$T/fst"
timeout -k 5 60 mount -T "$T/fstab" "$T/fst"
adopt "$T/fst.store" "$T/fst"
[ -e "$T/fst/file" ] || fail "what was made on an fstab mount is gone"
timeout -k 5 60 umount "$T/fst"
gone "$T/fst"

if ! id nobody >/dev/null 2>&1 || ! command -v setpriv >/dev/null ||
	! setpriv --reuid=nobody --regid=nogroup --clear-groups test -x "$T/bin/mojofs-fuse"; then
	note "no user nobody who reaches $T: not tried without privileges"
	exit 0
fi

note "setuid=nobody,drop_privileges: the daemon is handed /dev/fd/N and runs as nobody"
mkdir "$T/priv" "$T/priv.store"
chown nobody "$T/priv.store" "$T/priv"
timeout -k 5 60 mount -t fuse.mojofs-fuse -o allow_other,setuid=nobody,drop_privileges "$T/priv.store" "$T/priv"
adopt "$T/priv.store" "$T/priv"
pid=${daemon_of[$T/priv]}
assert_eq "$(id -u nobody)" "$(awk '/^Uid:/ { print $3 }' "/proc/$pid/status")" "user of the daemon"
assert_eq 0000000000000000 "$(awk '/^CapEff:/ { print $2 }' "/proc/$pid/status")" "capabilities of the daemon"
sql "$T/priv/x.db" "PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)" >/dev/null
python3 - "$T/priv" <<'PY'
import os, sys
fd = os.open(sys.argv[1] + "/dirty", os.O_WRONLY | os.O_CREAT)
os.write(fd, b"d" * 100000)
os.setxattr(sys.argv[1], "user.mojofs.commit", b"without privileges")
with open(sys.argv[1] + "/@v1/dirty") as f:
    assert f.read() == "d" * 100000
PY
sql_ok "$T/priv/@v1/x.db"
timeout -k 5 60 umount "$T/priv"
gone "$T/priv"
assert_eq nobody "$(stat -c %U "$T/priv.store/mojo.state")" "owner of the store's files"

as_nobody() {
	timeout -k 5 60 setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"
}
can_open_fuse() {
	as_nobody bash -c ': <>/dev/fuse' 2>/dev/null
}
# Everybody may open /dev/fuse on Debian; where not, in this namespace only, one like that covers it.
if ! can_open_fuse && mknod "$T/fuse" c 10 229 && chmod 666 "$T/fuse"; then
	mount --bind "$T/fuse" /dev/fuse
fi
if ! can_open_fuse; then
	note "ordinary users may not open /dev/fuse here: that one mounts for himself is not tried"
	exit 0
fi
note "an ordinary user mounts for himself, with fusermount3"
mkdir "$T/user"
chown nobody "$T/user"
mkdir "$T/user.store"
chown nobody "$T/user.store"
as_nobody "$T/bin/mojofs-fuse" "$T/user.store" "$T/user"
pid=$(as_nobody getfattr --only-values --absolute-names -n user.mojofs.pid "$T/user")
track_daemon "$T/user" "$pid" "$T/user.store" "$T/log/user.log"
as_nobody sqlite3 -batch -bail "$T/user/x.db" "CREATE TABLE t(x); INSERT INTO t VALUES(1)"
as_nobody setfattr -n user.mojofs.commit -v "by nobody" "$T/user"
assert_eq 1 "$(as_nobody sqlite3 -batch -bail "$T/user/@v1/x.db" 'SELECT x FROM t')" "row in a version, as nobody"
as_nobody fusermount3 -u "$T/user"
gone "$T/user"
# By a signal, too: an ordinary user's daemon asks fusermount3 to unmount.
as_nobody "$T/bin/mojofs-fuse" "$T/user.store" "$T/user"
pid=$(as_nobody getfattr --only-values --absolute-names -n user.mojofs.pid "$T/user")
track_daemon "$T/user" "$pid" "$T/user.store" "$T/log/user.log"
kill -TERM "$pid"
gone "$T/user"
