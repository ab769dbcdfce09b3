#!/bin/bash
# SPDX-License-Identifier: MIT
# The daemon is killed (-9) in the middle of commits under SQLite writers, sometimes again while it recovers. At the
# next mount a version that was frozen and not published has been settled and published, or is not there; one that was
# answered is there; and every version is right. See tests/mount/load.py.
#
#	LOAD_ROUNDS=N     (8; with MOJO_TEST_LONG=1 200)
#	SEED=N            other moments, other transactions (1; with MOJO_TEST_LONG=1 by chance)
[ -z "${MOJO_TEST_LONG:-}" ] || TEST_SECONDS=${TEST_SECONDS:-3000}
. "$(dirname "$0")/lib.sh"
need python3 sqlite3

rounds=${LOAD_ROUNDS:-8}
seed=$(pick_seed 1)
if [ -n "${MOJO_TEST_LONG:-}" ]; then
	rounds=${LOAD_ROUNDS:-200}
fi
note "$rounds rounds, SEED=$seed"

mkdir "$T/work"
if ! timeout -k 10 "${TEST_SECONDS:-600}" python3 "$test_dir/load.py" kill "$T/work" "$T/mnt" journaled \
	--rounds="$rounds" --seed="$seed" --log="$T/log/daemon.log" --pids="$T/daemons"; then
	grep -v ": mounted on " "$T/log/daemon.log" | tail -n 30 >&2
	fail "see above; SEED=$seed"
fi
! grep -E 'ERROR: (Address|Leak)Sanitizer|runtime error:|Assertion' "$T/log/daemon.log" || fail "a daemon misbehaved"
note "mojofs check finds nothing"
timeout -k 5 120 "$MOJOFS" check "$T/mnt.store" || fail "the store is not whole"
