#!/bin/bash
# SPDX-License-Identifier: MIT
# The power fails while versions are committed under SQLite writers. A daemon records what it writes to its store
# (--record); from that come states that the disk may be in after a loss of power, and each is opened as the next mount
# does it: a version that was frozen and not yet published is settled and published. Every version that was
# acknowledged is there, every version is right (load.py says what that is), what is committed then is right, too, and
# mojo_check() finds nothing wrong with the store.
#
#	LOAD_STATES=N     (100; with MOJO_TEST_LONG=1 10000)
#	LOAD_COMMITS=N    (8; with MOJO_TEST_LONG=1 60)
#	SEED=N            other moments, other transactions (1; with MOJO_TEST_LONG=1 by chance)
[ -z "${MOJO_TEST_LONG:-}" ] || TEST_SECONDS=${TEST_SECONDS:-10000}
. "$(dirname "$0")/lib.sh"
need python3 sqlite3

states=${LOAD_STATES:-100}
commits=${LOAD_COMMITS:-8}
seed=$(pick_seed 1)
if [ -n "${MOJO_TEST_LONG:-}" ]; then
	states=${LOAD_STATES:-10000}
	commits=${LOAD_COMMITS:-60}
fi
note "SEED=$seed"
[ -x "$MOJOFS_HELPERS/power_states" ] || fail "power_states was not found in $MOJOFS_HELPERS"

load() { # WHAT [option...]
	timeout -k 10 "${TEST_SECONDS:-600}" python3 "$test_dir/load.py" "$1" "$T/work" "$MNT" "$jobs" --seed="$seed" \
		"${@:2}" || fail "see above; SEED=$seed"
}

jobs=journaled:delete-full,truncate-normal,persist-full,wal-full,wal-normal,pair-delete,spill-delete,spill-wal,quit-wal
mkdir "$T/work"
mount_store power --record="$T/recording" --chunk-size=4M --checkpoint-size=1M --commit-interval=1
load run --commits="$commits" --marks --pace=30000 --log="$T/log/power.log"
unmount_store power
note "a recording of $(stat -c %s "$T/recording") bytes"
load states --states="$states" --recording="$T/recording"
