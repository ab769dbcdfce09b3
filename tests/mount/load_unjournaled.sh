#!/bin/bash
# SPDX-License-Identifier: MIT
# Commits by plain setfattr under SQLite writers that keep no journal on the disk, or sync nothing: journal_mode MEMORY
# and OFF, synchronous OFF. A version is right, or the commit is refused with EBUSY, changes nothing and names the
# database in the log; it is never torn. A transaction that is held open is refused until it ends, which mojofs commit
# --wait waits for. Writers in other journal modes beside them see no error. See tests/mount/load.py.
#
#	LOAD_COMMITS=N    (25 of each kind, or as many as there are within 15 s; with MOJO_TEST_LONG=1 250)
#	SEED=N            other moments, other transactions (1; with MOJO_TEST_LONG=1 by chance)
[ -z "${MOJO_TEST_LONG:-}" ] || TEST_SECONDS=${TEST_SECONDS:-3000}
. "$(dirname "$0")/lib.sh"
need python3 sqlite3

commits=${LOAD_COMMITS:-25}
seconds=${LOAD_COMMITS:+3000}
seconds=${seconds:-15}
seed=$(pick_seed 1)
if [ -n "${MOJO_TEST_LONG:-}" ]; then
	commits=${LOAD_COMMITS:-250}
	seconds=600
fi
note "SEED=$seed"

load() { # WHAT NAME ROOT SCENARIO [option...]
	local what=$1 work=$T/work-$2
	shift 2
	mkdir -p "$work"
	timeout -k 10 "${TEST_SECONDS:-600}" python3 "$test_dir/load.py" "$what" "$work" "$@" --seed="$seed" ||
		fail "see above; SEED=$seed"
}

note "control: what is only frozen is torn"
mount_store bare --no-settle
load run bare "$MNT" unjournaled --expect=torn --commits=200
unmount_store bare

note "transactions that are held open"
mount_store busy
load busy busy "$MNT" unjournaled --log="$T/log/busy.log"
unmount_store busy

note "$commits commits among writers without journals"
mount_store alone
load run alone "$MNT" unjournaled --busy --commits="$commits" --seconds="$seconds" --log="$T/log/alone.log"
remount alone
load check alone "$MNT" unjournaled
unmount_store alone

mixed=mixed:delete-full,truncate-full,persist-normal,wal-full,wal-normal,pair-delete,quit-wal,memory,off,delete-off,wal-off
note "$commits commits with other modes beside them"
mount_store mixed
load run mixed "$MNT" "$mixed" --busy --commits="$commits" --seconds="$seconds" --log="$T/log/mixed.log"
remount mixed
load check mixed "$MNT" "$mixed"
unmount_store mixed
