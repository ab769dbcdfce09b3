#!/bin/bash
# SPDX-License-Identifier: MIT
# Programs that embed SQLite, used on the mount as their users use them: fossil (a repository is a SQLite
# database, and so is a checkout's state) and Subversion (working copies and the repository's rep-cache
# are SQLite databases).
. "$(dirname "$0")/lib.sh"
need fossil svn svnadmin sqlite3

limit() {
	timeout -k 5 200 "$@"
}

mount_store apps
export USER=tester FOSSIL_USER=tester

note "fossil: a new repository, commits of files, a branch, integrity"
mkdir "$MNT/work"
cd "$MNT/work"
limit fossil init "$MNT/project.fossil" >/dev/null
limit fossil open "$MNT/project.fossil" >/dev/null
for i in $(seq 30); do
	printf 'line %s\n' $(seq "$i" $((i + 200))) >"source-$i.txt"
done
head -c 3000000 /dev/urandom >binary.dat
limit fossil add . >/dev/null
limit fossil commit --no-warnings -m "first" >/dev/null
commit "fossil: first check-in"
first=$VERSION
for round in 1 2 3; do
	for i in $(seq "$round" 5 30); do
		echo "round $round" >>"source-$i.txt"
	done
	limit fossil commit --no-warnings -m "round $round" >/dev/null
done
limit fossil mv --hard source-1.txt renamed.txt >/dev/null
limit fossil rm --hard source-2.txt >/dev/null
limit fossil commit --no-warnings --branch side -m "on a branch" >/dev/null
limit fossil update trunk >/dev/null
[ -e source-2.txt ] || fail "fossil update did not bring back source-2.txt"
limit fossil test-integrity -R "$MNT/project.fossil" | tee "$T/integrity"
grep -q 'low-level database integrity-check: ok' "$T/integrity" || fail "fossil test-integrity is not content"
limit fossil rebuild "$MNT/project.fossil" >/dev/null
checkins=$(sql "$MNT/project.fossil" "SELECT count(*) FROM event WHERE type = 'ci'")
commit "fossil: six check-ins"
second=$VERSION
cd /

note "fossil: the repository as it was in version $first, read-only"
assert_eq 2 "$(sql "$MNT/@v$first/project.fossil" "SELECT count(*) FROM event WHERE type = 'ci'")" "check-ins in version $first"
assert_eq "$checkins" "$(sql "$MNT/@v$second/project.fossil" "SELECT count(*) FROM event WHERE type = 'ci'")" "check-ins in version $second"
limit fossil timeline -n 100 -t ci -R "$MNT/@v$first/project.fossil" >"$T/timeline"
grep -q first "$T/timeline" || fail "fossil timeline of version $first does not show the first check-in: $(cat "$T/timeline")"
! grep -q 'round 1' "$T/timeline" || fail "fossil timeline of version $first shows what came later"
limit fossil cat -R "$MNT/@v$first/project.fossil" -r trunk source-5.txt >"$T/source-5.txt"
printf 'line %s\n' $(seq 5 205) | cmp - "$T/source-5.txt" || fail "source-5.txt of version $first differs"

note "fossil: a clone of the old version goes its own way"
cp "$MNT/@v$first/project.fossil" "$MNT/old.fossil"
limit fossil test-integrity -R "$MNT/old.fossil" >/dev/null

note "subversion: repository and working copies on the mount"
limit svnadmin create "$MNT/svn"
url="file://$MNT/svn"
limit svn mkdir -q -m "layout" "$url/trunk" "$url/branches"
limit svn checkout -q "$url/trunk" "$MNT/wc"
cd "$MNT/wc"
for i in $(seq 40); do
	mkdir -p "dir$((i % 4))"
	printf 'number %s\n' $(seq "$i" $((i + 300))) >"dir$((i % 4))/file$i"
done
limit svn add -q dir0 dir1 dir2 dir3
limit svn commit -q -m "forty files"
commit "subversion: revision 2"
third=$VERSION
limit svn update -q
limit svn move -q dir0 moved
limit svn remove -q dir1/file1
echo more >>dir2/file2
limit svn commit -q -m "moved, removed, changed"
limit svn copy -q -m "a branch" "$url/trunk" "$url/branches/b"
limit svn update -q
limit svn switch -q --ignore-ancestry "$url/branches/b"
echo "on the branch" >>dir3/file3
limit svn commit -q -m "on the branch"
limit svn switch -q --ignore-ancestry "$url/trunk"
limit svn update -q
limit svn merge -q "$url/branches/b" .
limit svn commit -q -m "merged"
limit svn cleanup
assert_eq "" "$(limit svn status)" "svn status of a committed working copy"
cd /
limit svnadmin verify -q "$MNT/svn"
sql_ok "$MNT/wc/.svn/wc.db"
sql_ok "$MNT/svn/db/rep-cache.db"

note "subversion: the repository and the working copy as they were in version $third"
assert_eq 2 "$(limit svnlook youngest "$MNT/@v$third/svn")" "youngest revision in version $third"
sql_ok "$MNT/@v$third/wc/.svn/wc.db"
limit svn cat "file://$MNT/svn/trunk/dir2/file2@2" >"$T/file2"
cmp "$T/file2" "$MNT/@v$third/wc/dir2/file2" || fail "dir2/file2 of version $third differs from revision 2"

note "everything again after a remount"
remount apps
limit fossil test-integrity -R "$MNT/project.fossil" >/dev/null
assert_eq "$checkins" "$(sql "$MNT/project.fossil" "SELECT count(*) FROM event WHERE type = 'ci'")" "check-ins after a remount"
cd "$MNT/work"
assert_eq "" "$(limit fossil changes)" "fossil changes after a remount"
echo again >>source-9.txt
limit fossil commit --no-warnings -m "after the remount" >/dev/null
cd "$MNT/wc"
assert_eq "" "$(limit svn status)" "svn status after a remount"
echo again >>dir3/file3
limit svn commit -q -m "after the remount"
limit svnadmin verify -q "$MNT/svn"
cd /
unmount_store apps
