#!/bin/bash
# SPDX-License-Identifier: MIT
# Commits by plain setfattr at random moments under 22 SQLite writers: journal modes DELETE, TRUNCATE, PERSIST and WAL,
# synchronous FULL and NORMAL, transactions over two databases, transactions that spill, writers that open and close
# for each transaction, and writers that die in the middle of one. No writer sees an error, no commit is refused, and
# each database of each version opens at the end of a transaction; again after a remount. load.py says what exactly.
# Two controls show that this would be noticed: "cp -r" instead of a commit, and a bare freeze that settles nothing.
#
#	LOAD_COMMITS=N    (40, or as many as 30 s allow; with MOJO_TEST_LONG=1 400)
#	SEED=N            other moments, other transactions (1; with MOJO_TEST_LONG=1 by chance)
[ -z "${MOJO_TEST_LONG:-}" ] || TEST_SECONDS=${TEST_SECONDS:-3000}
. "$(dirname "$0")/lib.sh"
need python3 sqlite3

commits=${LOAD_COMMITS:-40}
seconds=${LOAD_COMMITS:+3000}
seconds=${seconds:-30}
seed=$(pick_seed 1)
if [ -n "${MOJO_TEST_LONG:-}" ]; then
	commits=${LOAD_COMMITS:-400}
	seconds=3000
fi
note "SEED=$seed"

load() { # WHAT NAME ROOT SCENARIO [option...]
	local what=$1 work=$T/work-$2
	shift 2
	mkdir -p "$work"
	timeout -k 10 "${TEST_SECONDS:-600}" python3 "$test_dir/load.py" "$what" "$work" "$@" --seed="$seed" ||
		fail "see above; SEED=$seed"
}

note "control: cp -r of a live directory is torn"
mkdir "$T/plain"
load run plain "$T/plain" journaled --commit=copy --expect=torn --commits=200

note "control: what is only frozen has hot journals, and frames in the WAL"
mount_store bare --no-settle
load run bare "$MNT" journaled --expect=unsettled --commits=200
unmount_store bare

note "$commits commits"
mount_store load
load run load "$MNT" journaled --commits="$commits" --seconds="$seconds" --log="$T/log/load.log"
note "the same versions after a remount"
remount load
load check load "$MNT" journaled
unmount_store load
