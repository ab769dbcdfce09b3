#!/bin/bash
# SPDX-License-Identifier: MIT
# mojofs check on stores that are not mounted: exit codes, what it prints, and that it changes nothing unless it
# repairs. Needs no FUSE. (What it finds and mends: tests/test_check.c. Files, and mounts: tests/mount/check.sh.)
set -Eeuo pipefail
export LC_ALL=C TZ=UTC
umask 022

source_dir=$(cd "$(dirname "$0")/.." && pwd)
for candidate in "${MOJOFS:-}" "$PWD/cli/mojofs" "$source_dir/cli/mojofs"; do
	if [ -n "$candidate" ] && [ -x "$candidate" ]; then
		MOJOFS=$candidate
		break
	fi
done
[ -x "${MOJOFS:-}" ] || {
	echo "FAIL: test_cli_check: cli/mojofs was not found: run make first" >&2
	exit 1
}

T=$(mktemp -d "${TMPDIR:-/tmp}/mojofs-test_cli_check.XXXXXX")
T=$(cd "$T" && pwd -P)
trap 'status=$?; trap - EXIT; rm -rf "$T"; exit $status' EXIT
trap 'echo "FAIL: test_cli_check: line $LINENO: $BASH_COMMAND" >&2' ERR

fail() {
	echo "FAIL: test_cli_check: $*" >&2
	exit 1
}

note() {
	echo "-- $*"
}

assert_eq() {
	[ "$1" = "$2" ] || fail "${3:-values differ}: expected '$1', got '$2'"
}

# ends STATUS PATTERN argument...: mojofs ends with STATUS, and prints PATTERN to stdout, or where it fails to stderr
ends() {
	local expected=$1 pattern=$2 status=0
	shift 2
	timeout -k 5 60 "$MOJOFS" "$@" >"$T/out" 2>"$T/err" </dev/null || status=$?
	assert_eq "$expected" "$status" "exit status of: mojofs $* ($(cat "$T/out" "$T/err"))"
	cat "$T/out" "$T/err" | grep -Eq -- "$pattern" || fail "mojofs $*: said '$(cat "$T/out" "$T/err")', not /$pattern/"
}

fingerprint() {
	(cd "$1" && find . -type f -exec cksum {} + | sort)
}

# poke FILE OFFSET: one byte is another
poke() {
	local byte
	byte=$(od -An -tu1 -j "$2" -N 1 "$1")
	# shellcheck disable=SC2059
	printf "\\$(printf '%03o' $((byte ^ 64)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

make_store() {
	rm -rf "$T/s"
	"$MOJOFS" create --chunk-size=4M "$T/s" >/dev/null
	for i in 1 2 3; do
		"$MOJOFS" commit "$T/s" "number $i" >/dev/null
	done
}

note "usage"
ends 0 '^Usage: mojofs check' check --help
ends 16 'missing' check
ends 16 'unrecognized option' check --frobnicate "$T"
ends 16 'wants it' check --dry-run "$T"
ends 16 'not a size' check --rate=fast "$T"
ends 16 'at least' check --rate=1K "$T"
ends 16 'too many' check "$T" "$T"

note "what cannot be checked"
ends 8 'no such file' check "$T/nothing"
mkdir "$T/empty"
ends 8 'no mojofs store' check "$T/empty"
ends 8 'no mojofs store' check --repair "$T/empty"
assert_eq "" "$(ls -A "$T/empty")" "what check left in a directory that is no store"

note "a sound store"
make_store
before=$(fingerprint "$T/s")
ends 0 '4 versions, .* 0 errors, 0 warnings' check "$T/s"
ends 0 ' 0 read: 0 errors' check --scrub "$T/s"
ends 0 '"findings":\[\],"steps":\[\],"errors":0,"warnings":0,"errors_left":0,"repaired":false' check --json "$T/s"
ends 0 '0 errors' check --repair --dry-run "$T/s"
ends 0 '0 errors' check --repair "$T/s"
assert_eq "$before" "$(fingerprint "$T/s")" "the store after checks"
assert_eq "$(printf 'chunks\nmojo.lock\nmojo.state')" "$(ls "$T/s")"
[ ! -s "$T/err" ] || fail "a check without a terminal printed to stderr: $(cat "$T/err")"

note "a damaged root"
make_store
poke "$T/s/mojo.state" 20
before=$(fingerprint "$T/s")
ends 4 '^error: root: the first root in mojo.state is damaged' check "$T/s"
ends 4 '"kind":"root","severity":"error"' check --json "$T/s"
ends 4 '^to do: write the damaged root anew' check --repair --dry-run "$T/s"
ends 4 '"steps":\[\{"done":false,"text":"keep' check --repair --dry-run --json "$T/s"
assert_eq "$before" "$(fingerprint "$T/s")" "the store after checks and dry runs"
cp "$T/s/mojo.state" "$T/damaged"
ends 1 '^done: the first root was written anew' check --repair "$T/s"
grep -q "^what was taken out is kept in $T/s/lost+found-" "$T/out" || fail "$(cat "$T/out")"
cmp "$T/s"/lost+found-*/mojo.state "$T/damaged"
grep -q 'the first root was written anew' "$T/s"/lost+found-*/report.txt
ends 0 '0 errors' check --scrub "$T/s"
ends 0 'number 3' versions "$T/s"

note "both roots gone"
make_store
head -c 8192 /dev/zero >"$T/s/mojo.state"
before=$(fingerprint "$T/s")
ends 4 'a root cannot be made up' check "$T/s"
ends 4 'a root cannot be made up' check --repair "$T/s"
assert_eq "$before" "$(fingerprint "$T/s")" "a store that cannot be repaired"

note "a damaged index and log: every block in turn"
make_store
cp -a "$T/s" "$T/whole"
blocks=$(($(stat -c %s "$T/whole/chunks/00000000.chunk") / 4096))
damaged=0
for ((block = 0; block < blocks && block < 60; block++)); do
	rm -rf "$T/s"
	cp -a "$T/whole" "$T/s"
	poke "$T/s/chunks/00000000.chunk" $((block * 4096 + 20))
	status=0
	timeout -k 5 60 "$MOJOFS" check "$T/s" >"$T/out" 2>&1 || status=$?
	[ $status = 0 ] && continue
	assert_eq 4 $status "exit status with block $block damaged"
	((++damaged))
	ends 1 '^repaired' check --repair "$T/s"
	ends 0 '0 errors, 0 warnings' check --scrub "$T/s"
	ends 0 "\"version\":" versions --json "$T/s"
	"$MOJOFS" commit "$T/s" again >/dev/null
done
[ $damaged -ge 3 ] || fail "only $damaged blocks mattered"

note "a store that somebody has open"
make_store
exec 9>>"$T/s/mojo.lock"
flock -x 9
ends 8 'in use by' check "$T/s"
ends 8 'in use by' check --repair "$T/s"
exec 9>&-
ends 0 '0 errors' check "$T/s"

echo "test_cli_check: passed"
