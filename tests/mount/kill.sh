#!/bin/bash
# SPDX-License-Identifier: MIT
# The daemon is killed with kill -9 at random moments while SQLite writes in several journal modes: nothing that was
# acknowledged is missing afterwards, nothing is half there, and the stale mount point is explained. 100 rounds;
# with MOJO_TEST_LONG=1 a thousand, from another seed each time. ROUNDS and SEED overrule.
[ -z "${MOJO_TEST_LONG:-}" ] || TEST_SECONDS=${TEST_SECONDS:-6000}
. "$(dirname "$0")/lib.sh"
need python3

rounds=${ROUNDS:-100}
seed=$(pick_seed 1)
if [ -n "${MOJO_TEST_LONG:-}" ]; then
	rounds=${ROUNDS:-1000}
fi

mkdir "$T/kill"
note "$rounds rounds, seed $seed"
if ! timeout -k 10 $((120 + rounds * 4)) python3 "$test_dir/kill.py" "$T/kill" "$rounds" "$seed" "$T/daemons"; then
	grep -v ": mounted on " "$T/kill/daemon.log" | tail -n 30 >&2
	fail "see above; SEED=$seed repeats the same choices"
fi
note "the store opens, and holds nothing that readers do not know"
timeout -k 5 60 "$MOJOFS" state "$T/kill/store" >/dev/null || fail "the store does not open after $rounds rounds"
! grep -E 'ERROR: (Address|Leak)Sanitizer|runtime error:|Assertion' "$T/kill/daemon.log" || fail "a daemon misbehaved"
