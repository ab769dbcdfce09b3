# SPDX-License-Identifier: MIT
# lib.sh - what every test on a real mount shares. Sourced, by bash, as its first act:
#
#	. "$(dirname "$0")/lib.sh"
#
# A test gets a directory of its own in $T and calls mount_store, unmount_store, commit, sql, assert_*.
# It ends with 0 (passed), 77 (skipped, with the reason), or anything else (failed). However it ends,
# what it mounted and started is gone: the trap on EXIT unmounts and ends exactly what was recorded
# here, and a watchdog ends daemons that hang, so that no stuck request can hang the suite.
#
# Settings: MOJOFS_FUSE, MOJOFS (programs under test), MOJOFS_HELPERS (directory of the C helpers),
# TMPDIR, KEEP=1 (leave $T behind), TEST_SECONDS (the watchdog's limit, set before sourcing).

set -Eeuo pipefail
export LC_ALL=C TZ=UTC
umask 022

test_name=$(basename "$0" .sh)
test_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source_dir=$(cd "$test_dir/../.." && pwd)

skip() {
	echo "SKIP: $test_name: $*"
	exit 77
}

fail() {
	echo "FAIL: $test_name: $*" >&2
	exit 1
}

note() {
	echo "-- $*"
}

# pick_seed FIXED - the seed of a random test, which prints it: SEED or MOJO_TEST_SEED if that is a number; any if it is
# "random", or if none is set and MOJO_TEST_LONG is; otherwise FIXED, so that runs are alike
pick_seed() {
	local seed=${SEED:-${MOJO_TEST_SEED:-}}
	[ -n "$seed" ] || [ -z "${MOJO_TEST_LONG:-}" ] || seed=random
	[ "$seed" != random ] || seed=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
	echo "${seed:-$1}"
}

# ---- the programs under test ------------------------------------------------

# find_program VARIABLE path-below-the-build-directory
find_program() {
	local candidate
	for candidate in "${!1:-}" "$PWD/$2" "$source_dir/$2"; do
		if [ -n "$candidate" ] && [ -x "$candidate" ]; then
			printf -v "$1" '%s' "$candidate"
			export "${1?}"
			return 0
		fi
	done
	fail "$2 was not found: run make first, then run this from the build directory or through make check"
}

find_program MOJOFS_FUSE fuse/mojofs-fuse
find_program MOJOFS cli/mojofs
find_program MOJOFS_HELPERS tests/mount

need() {
	local program
	for program in "$@"; do
		command -v "$program" >/dev/null || skip "$program is not installed (contrib/install-deps installs it)"
	done
}

need fusermount3 setfattr getfattr timeout

# A helper that mounts an empty FUSE file system without mojofs tells "this machine does not let us
# mount" from "mojofs cannot mount": only the first is a reason to skip.
if [ -x "$MOJOFS_HELPERS/fuse_probe" ]; then
	probe_status=0
	probe_text=$("$MOJOFS_HELPERS/fuse_probe" 2>&1) || probe_status=$?
	case $probe_status in
	0) ;;
	77) skip "$probe_text" ;;
	*) fail "fuse_probe: $probe_text" ;;
	esac
elif ! [ -r /dev/fuse ] || ! [ -w /dev/fuse ]; then
	skip "/dev/fuse is not there or may not be opened"
fi

# ---- this test's own directory, and its end ---------------------------------

T=$(mktemp -d "${TMPDIR:-/tmp}/mojofs-$test_name.XXXXXX")
T=$(cd "$T" && pwd -P)
chmod 755 "$T"
export HOME="$T/home"
mkdir "$HOME" "$T/log"
: >"$T/daemons" # pids, for the watchdog: it cannot see our variables

declare -A daemon_of=() # mount point -> pid of its daemon
declare -A store_of=()  # mount point -> store
declare -A log_of=()    # mount point -> what the daemon printed
children=()             # other processes to end, by pid

# track PID: end this process too when the test ends
track() {
	children+=("$1")
}

# track_daemon MOUNT_POINT PID STORE LOG
track_daemon() {
	daemon_of[$1]=$2
	store_of[$1]=$3
	log_of[$1]=$4
	echo "$2" >>"$T/daemons"
}

# is_running PID, for a child or a stranger; a zombie does not count
is_running() {
	local state
	state=$(sed -n 's/^State:[[:space:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 1
	[ -n "$state" ] && [ "$state" != Z ] && [ "$state" != X ]
}

# wait_for_end PID SECONDS: 0 when the process is gone
wait_for_end() {
	local give_up=$((SECONDS + $2))
	while is_running "$1"; do
		[ "$SECONDS" -lt "$give_up" ] || return 1
		sleep 0.02
	done
}

mounts_below() {
	awk -v p="$1/" 'index($5, p) == 1 { print $5 }' /proc/self/mountinfo | sort -r
}

finish() {
	local status=$? point pid left
	trap - EXIT ERR
	trap '' INT TERM HUP
	set +e
	if [ $status -ne 0 ] && [ $status -ne 77 ]; then
		for point in "${!log_of[@]}"; do
			if [ -s "${log_of[$point]}" ]; then
				echo "---- the daemon on $point said (last 60 lines):"
				tail -n 60 "${log_of[$point]}"
			fi
		done
	fi
	for pid in "${children[@]}"; do
		kill -TERM "$pid" 2>/dev/null
	done
	for point in $(mounts_below "$T"); do
		timeout -k 2 20 fusermount3 -u "$point" >/dev/null 2>&1 || timeout -k 2 20 fusermount3 -uz "$point" >/dev/null 2>&1 ||
			timeout -k 2 20 umount -l "$point" >/dev/null 2>&1
	done
	for point in "${!daemon_of[@]}"; do
		pid=${daemon_of[$point]}
		wait_for_end "$pid" 20 && continue
		kill -TERM "$pid" 2>/dev/null
		wait_for_end "$pid" 10 && continue
		echo "FAIL: $test_name: the daemon $pid of $point did not end and was killed" >&2
		kill -KILL "$pid" 2>/dev/null
		wait_for_end "$pid" 10
		status=1
	done
	for pid in "${children[@]}"; do
		wait_for_end "$pid" 5 || kill -KILL "$pid" 2>/dev/null
	done
	if [ -n "${watchdog:-}" ]; then
		kill -TERM "$watchdog" 2>/dev/null
		wait "$watchdog" 2>/dev/null
	fi
	left=$(mounts_below "$T")
	if [ -n "$left" ]; then
		echo "FAIL: $test_name: still mounted: $left" >&2
		status=1
	elif [ -n "${KEEP:-}" ]; then
		echo "kept: $T"
	else
		rm -rf --one-file-system "$T"
	fi
	exit $status
}
trap finish EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'echo "FAIL: $test_name: line $LINENO: $BASH_COMMAND" >&2' ERR

# The watchdog. Bash runs the trap for TERM when the command in the foreground has ended: so that one is
# ended, too. Killing a daemon closes its connection, which wakes whoever is stuck in a request.
(
	trap - EXIT ERR
	trap 'kill "$sleeper" 2>/dev/null; exit 0' TERM
	exec >/dev/null
	nap() {
		sleep "$1" &
		sleeper=$!
		wait "$sleeper"
	}
	nap "${TEST_SECONDS:-600}"
	set +e
	echo "FAIL: $test_name: took longer than ${TEST_SECONDS:-600} seconds; ending it" >&2
	kill -TERM $$
	for child in $(ps -o pid= --ppid $$); do
		[ "$child" = "$BASHPID" ] || grep -qx "$child" "$T/daemons" || kill -TERM "$child"
	done
	nap 10
	while read -r pid; do
		case $(readlink "/proc/$pid/exe") in
		*mojofs-fuse*) kill -KILL "$pid" ;;
		esac
	done <"$T/daemons"
) &
watchdog=$!

# ---- mounting ---------------------------------------------------------------

# xget NAME PATH: the value of the extended attribute user.mojofs.NAME
xget() {
	timeout -k 5 60 getfattr --only-values --absolute-names -n "user.mojofs.$1" "$2"
}

is_mounted() {
	awk -v p="$1" '$5 == p { found = 1 } END { exit !found }' /proc/self/mountinfo
}

# mount_store NAME [option...]: mount the store $T/NAME.store on $T/NAME, with the daemon as our child.
# Sets MNT and STORE. Both directories are made if they are not there.
mount_store() {
	local name=$1
	shift
	STORE="$T/$name.store"
	MNT="$T/$name"
	mkdir -p "$STORE" "$MNT"
	mount_at "$STORE" "$MNT" "$@"
}

# mount_at STORE MOUNT_POINT [option...]
mount_at() {
	local store=$1 point=$2 log pid give_up status
	shift 2
	! is_mounted "$point" || fail "$point is mounted already"
	log="$T/log/$(basename "$point").log"
	"$MOJOFS_FUSE" --foreground "$@" "$store" "$point" >>"$log" 2>&1 &
	pid=$!
	track_daemon "$point" "$pid" "$store" "$log"
	give_up=$((SECONDS + 60))
	until is_mounted "$point" && [ "$(xget pid "$point" 2>/dev/null)" = "$pid" ]; do
		if ! is_running "$pid"; then
			status=0
			wait "$pid" || status=$?
			cat "$log" >&2
			fail "the daemon of $point ended with $status instead of mounting"
		fi
		[ "$SECONDS" -lt "$give_up" ] || fail "$point was not mounted within 60 seconds"
		sleep 0.01
	done
}

# ended_cleanly MOUNT_POINT: the daemon ends, by itself, with 0, and nothing a sanitizer dislikes
ended_cleanly() {
	local point=$1 pid status=0 log
	pid=${daemon_of[$point]}
	log=${log_of[$point]}
	wait_for_end "$pid" 120 || fail "the daemon $pid of $point goes on after it was unmounted"
	wait "$pid" || status=$?
	unset "daemon_of[$point]"
	[ $status -eq 0 ] || fail "the daemon of $point ended with $status"
	! grep -E 'ERROR: (Address|Leak)Sanitizer|runtime error:|Assertion' "$log" || fail "the daemon of $point misbehaved"
}

# kill_at MOUNT_POINT: the daemon is killed with SIGKILL; the dead mount stays
kill_at() {
	local pid=${daemon_of[$1]}
	kill -KILL "$pid"
	wait_for_end "$pid" 20 || fail "kill -9 did not end the daemon"
	{ wait "$pid" || true; } 2>/dev/null
	unset "daemon_of[$1]"
}

# crash_at MOUNT_POINT: the daemon is killed, and the store mounted again; who has the dead mount open keeps that
crash_at() {
	kill_at "$1"
	fusermount3 -uz "$1"
	mount_at "${store_of[$1]}" "$1"
}

# unmount_store NAME: unmount, see that the daemon ends cleanly and that the store opens again
unmount_store() {
	unmount_at "$T/$1"
}

unmount_at() {
	local point=$1 store
	store=${store_of[$point]}
	local give_up=$((SECONDS + 10))
	# A program that looks which of all mounts has a store, in a test beside this one, is in the way for a moment.
	until timeout -k 5 120 fusermount3 -u "$point" 2>"$T/log/fusermount"; do
		if ! grep -q busy "$T/log/fusermount" || [ "$SECONDS" -ge "$give_up" ]; then
			fail "$point could not be unmounted: $(cat "$T/log/fusermount") (open: $(fuser -m "$point" 2>&1 || true))"
		fi
		sleep 0.05
	done
	ended_cleanly "$point"
	timeout -k 5 60 "$MOJOFS" state "$store" >"$T/log/state" 2>&1 || {
		cat "$T/log/state" >&2
		fail "the store $store does not open after the unmount"
	}
}

# remount NAME [option...]
remount() {
	local name=$1
	shift
	unmount_store "$name"
	mount_store "$name" "$@"
}

# commit MESSAGE [MOUNT_POINT]: commit; sets VERSION to the number of the frozen version
commit() {
	local point=${2:-$MNT}
	timeout -k 5 300 setfattr -n user.mojofs.commit -v "$1" "$point"
	VERSION=$(xget commit "$point")
	[ -d "$point/@v$VERSION" ] || fail "the commit '$1' made version $VERSION, but $point/@v$VERSION is not there"
}

# ---- SQLite -----------------------------------------------------------------

# sql DATABASE [argument...]: stock sqlite3, one process; stops at the first error
sql() {
	timeout -k 5 "${SQL_SECONDS:-300}" sqlite3 -batch -bail "$@"
}

# sql_ok DATABASE: integrity_check
sql_ok() {
	assert_eq ok "$(sql "$1" 'PRAGMA integrity_check')" "integrity_check of $1"
}

# ---- assertions -------------------------------------------------------------

assert_eq() {
	[ "$1" = "$2" ] || fail "${3:-values differ}: expected '$1', got '$2'"
}

# assert_fails PATTERN command...: it must fail, and what it prints must match (extended regular expression)
assert_fails() {
	local pattern=$1 status=0 text
	shift
	text=$(timeout -k 5 60 "$@" 2>&1 </dev/null) || status=$?
	[ $status -ne 0 ] || fail "should have failed, but did not: $*"
	[ $status -lt 124 ] || fail "should have failed, but hung or crashed ($status): $*: $text"
	grep -Eq -- "$pattern" <<<"$text" || fail "$*: failed as it should, but said '$text', not /$pattern/"
}
