#!/bin/bash
# SPDX-License-Identifier: MIT
# The same random file operations on the mount and on the host, compared step by step, then again
# after a remount, and every commit on the way against a copy made at that moment. On stores of two
# page sizes. SEED and OPS choose the run; SEED=random is another one each time.
. "$(dirname "$0")/lib.sh"

ops=${OPS:-20000}
seed=$(pick_seed 20260)
parts=4
host=$(stat -f -c %T "$T")
note "seed $seed, $ops operations, host file system $host"

declare -A copy_of=() # version -> copy on the host

run_part() { # SEED COUNT
	timeout -k 5 500 "$MOJOFS_HELPERS/posix_ops" run "$MNT" "$T/host" "$1" "$2" ||
		fail "the mount and the host differ; again with: SEED=$seed OPS=$ops $0"
}

compare() { # A B
	timeout -k 5 200 "$MOJOFS_HELPERS/posix_ops" compare "$1" "$2" ||
		fail "$1 and $2 differ; again with: SEED=$seed OPS=$ops $0"
}

for page in 4096 65536; do
	note "store pages of $page bytes"
	copy_of=()
	rm -rf "$T/host" "$T"/copy-*
	mkdir "$T/host"
	mount_store "p$page" --page-size="$page"
	for part in $(seq $parts); do
		run_part $((seed + part * 1000 + page)) $((ops / parts / 2))
		commit "part $part"
		copy_of[$VERSION]="$T/copy-$VERSION"
		cp -a --sparse=always "$T/host" "$T/copy-$VERSION"
		find "$MNT" -mindepth 1 -maxdepth 1 ! -name '@v*' -name 'f[01]' -exec rm -rf {} +
		(cd "$T/host" && find . -mindepth 1 -maxdepth 1 -name 'f[01]' -exec rm -rf {} +)
		for version in "${!copy_of[@]}"; do
			compare "$MNT/@v$version" "${copy_of[$version]}"
		done
		if [ $((part % 2)) -eq 0 ]; then
			remount "p$page"
			compare "$MNT" "$T/host"
			for version in "${!copy_of[@]}"; do
				compare "$MNT/@v$version" "${copy_of[$version]}"
			done
		fi
	done
	unmount_store "p$page"
done

note "what random operations do not reach"
mount_store rest
cd "$MNT"

# readdir sees an entry that stays exactly once while others come and go
mkdir many
python3 - many <<'PY'
import os, sys
base = sys.argv[1]
for i in range(2000):
    open("%s/keep-%d" % (base, i), "w").close()
seen = []
with os.scandir(base) as it:
    for n, entry in enumerate(it):
        seen.append(entry.name)
        if n % 3 == 0:
            open("%s/new-%d" % (base, n), "w").close()
        if entry.name.startswith("new-") and n % 2:
            os.unlink("%s/%s" % (base, entry.name))
kept = [n for n in seen if n.startswith("keep-")]
assert len(kept) == 2000 and len(set(kept)) == 2000, (len(kept), len(set(kept)))
assert len(seen) == len(set(seen)), "an entry was listed twice"
PY

# telldir/seekdir and rewinddir, as ls -f and rm -r of a large directory use them
rm -r many
[ ! -e many ] || fail "rm -r left something"

# O_APPEND from two processes loses nothing
for i in 1 2; do
	(for n in $(seq 500); do echo "$i $n" >>log; done) &
	track $!
	appenders[i]=$!
done
wait "${appenders[1]}" "${appenders[2]}"
assert_eq 1000 "$(wc -l <log)" "lines appended by two processes"
assert_eq 1000 "$(sort -u log | wc -l)" "different lines appended by two processes"

# a file far larger than what is in it
truncate -s 10T sparse
assert_eq 10995116277760 "$(stat -c %s sparse)" "size of a sparse file"
printf end | dd of=sparse bs=1 seek=10995116277757 conv=notrunc status=none
assert_eq end "$(tail -c 3 sparse)" "the end of a sparse file"
[ "$(stat -c %b sparse)" -lt 1000 ] || fail "a sparse file takes $(stat -c %b sparse) blocks"
assert_fails 'File too large' truncate -s 17T sparse
rm sparse

# statfs
[ "$(stat -f -c %b .)" -gt 0 ] && [ "$(stat -f -c %l .)" = 255 ] || fail "statfs: $(stat -f .)"

# hard links are not offered; permissions are kept and hold
touch a
assert_fails 'Operation not permitted|Operation not supported|Too many links' ln a b
if [ "$(id -u)" -eq 0 ] && command -v setpriv >/dev/null; then
	unmount_dir=$PWD
	cd /
	unmount_store rest
	mount_store rest -o allow_other
	cd "$unmount_dir"
	chmod 600 a
	assert_fails 'Permission denied' setpriv --reuid=65534 --regid=65534 --clear-groups cat "$MNT/a"
	chmod 644 a
	setpriv --reuid=65534 --regid=65534 --clear-groups cat "$MNT/a"
	assert_fails 'Permission denied' setpriv --reuid=65534 --regid=65534 --clear-groups touch "$MNT/by-nobody"
	mkdir -m 1777 tmp
	setpriv --reuid=65534 --regid=65534 --clear-groups touch "$MNT/tmp/by-nobody"
	assert_eq "65534:65534" "$(stat -c %u:%g tmp/by-nobody)" "owner of what nobody made"
fi
cd /
unmount_store rest
