#!/bin/bash
# SPDX-License-Identifier: MIT
# The command line on stores that are not mounted: what it prints, what it refuses, and that what it refuses
# is left as it was. Needs no FUSE. (Files of a store, and mounts: tests/mount/cli.sh.)
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
	echo "FAIL: test_cli: cli/mojofs was not found: run make first" >&2
	exit 1
}

T=$(mktemp -d "${TMPDIR:-/tmp}/mojofs-test_cli.XXXXXX")
T=$(cd "$T" && pwd -P)
holder=
finish() {
	local status=$?
	trap - EXIT
	[ -z "$holder" ] || kill "$holder" 2>/dev/null || true
	rm -rf "$T"
	exit $status
}
trap finish EXIT
trap 'echo "FAIL: test_cli: line $LINENO: $BASH_COMMAND" >&2' ERR

fail() {
	echo "FAIL: test_cli: $*" >&2
	exit 1
}

note() {
	echo "-- $*"
}

assert_eq() {
	[ "$1" = "$2" ] || fail "${3:-values differ}: expected '$1', got '$2'"
}

mojofs() {
	timeout -k 5 60 "$MOJOFS" "$@"
}

# refused STATUS PATTERN argument...: ends with STATUS, says PATTERN on stderr and nothing on stdout
refused() {
	local expected=$1 pattern=$2 status=0
	shift 2
	mojofs "$@" >"$T/out" 2>"$T/err" </dev/null || status=$?
	assert_eq "$expected" "$status" "exit status of: mojofs $*"
	[ ! -s "$T/out" ] || fail "mojofs $*: printed to stdout: $(cat "$T/out")"
	grep -Eq -- "$pattern" "$T/err" || fail "mojofs $*: said '$(cat "$T/err")', not /$pattern/"
}

# What a directory holds, to the byte.
fingerprint() {
	(cd "$1" && find . -exec stat -c '%n %s %f %Y' {} + && find . -type f -exec cksum {} +) | sort
}

# member NAME: the value of a member of the JSON object on stdin, numbers and plain strings only
member() {
	sed -n 's/.*"'"$1"'":"\{0,1\}\([^",}]*\).*/\1/p'
}

note "help, version and usage"
for command in "" create state versions commit ls map; do
	# shellcheck disable=SC2086
	mojofs $command --help >"$T/out"
	grep -q '^Usage: mojofs' "$T/out" || fail "mojofs $command --help does not help"
	# shellcheck disable=SC2086
	mojofs $command -h | cmp - "$T/out"
	# shellcheck disable=SC2086
	mojofs $command --usage | grep -q '^Usage: mojofs'
	[ -z "$command" ] || mojofs --help | grep -q "^  $command " || fail "mojofs --help does not list $command"
	[ -z "$command" ] || refused 2 'missing' "$command"
	[ -z "$command" ] || refused 2 'unrecognized option' "$command" --no-such-option
done
mojofs --version | grep -Eqx 'mojofs [0-9.]+'
refused 2 'a command is missing'
refused 2 'no command' frobnicate
refused 2 'unrecognized option' --frobnicate

note "create: the directory is made, or is empty"
mojofs create "$T/new" >"$T/out"
grep -q "made a store in $T/new: pages of 4 KiB (4096 bytes), 4096 pages a slot, chunks of 64 MiB" "$T/out" || fail "$(cat "$T/out")"
[ -s "$T/new/mojo.state" ] || fail "there is no mojo.state"
mkdir "$T/empty"
text=$(mojofs create --page-size=64K --pages-per-slot=64 --chunk-size=4MiB --json "$T/empty/")
assert_eq 65536 "$(member page_size <<<"$text")"
assert_eq 64 "$(member pages_per_slot <<<"$text")"
assert_eq 4194304 "$(member chunk_bytes <<<"$text")"
assert_eq "$T/empty" "$(member store <<<"$text")"
assert_eq "$(member store_id <<<"$text")" "$(mojofs state --json "$T/empty" | member store_id)"
[ "$(mojofs state --json "$T/new" | member store_id)" != "$(mojofs state --json "$T/empty" | member store_id)" ]
(cd "$T" && mojofs create relative >/dev/null && mojofs state relative/ | grep -q "^store  *$T/relative$")

note "create: what is refused is left as it was"
mkdir "$T/full"
echo precious >"$T/full/file"
for directory in full new; do
	before=$(fingerprint "$T/$directory")
	refused 1 'not empty|store already' create "$T/$directory"
	assert_eq "$before" "$(fingerprint "$T/$directory")" "$directory after the refusal"
done
refused 1 'file: is not a directory' create "$T/full/file"
refused 1 'could not be made: no such file' create "$T/no/such/parent"
for size in 0 1 4095 2K 5000 128K 1G -4096 4Q 4KK '' 99999999999999999999 17179869184G; do
	refused 2 'page-size' create "--page-size=$size" "$T/never"
done
for size in 0 63 32 100 128K; do
	refused 2 'pages-per-slot' create "--pages-per-slot=$size" "$T/never"
done
for size in 2M 5M 2G 4194305; do
	refused 2 'chunk-size' create "--chunk-size=$size" "$T/never"
done
refused 2 'too many' create "$T/never" "$T/ever"
[ ! -e "$T/never" ] || fail "a store was made nevertheless"

note "state"
text=$(mojofs state "$T/new")
grep -qx "store  *$T/new" <<<"$text"
grep -q '^mounted on  *(not mounted)' <<<"$text"
grep -q 'page size  *4 KiB (4096 bytes)' <<<"$text"
text=$(mojofs state --json "$T/new")
assert_eq 1 "$(member active_version <<<"$text")"
assert_eq 1 "$(member oldest_version <<<"$text")"
assert_eq 0 "$(member frozen_versions <<<"$text")"
assert_eq 0 "$(member files <<<"$text")"
assert_eq 1 "$(member directories <<<"$text")"
assert_eq null "$(member mount <<<"$text")"
before=$(fingerprint "$T/new")
for command in state versions ls; do
	mojofs $command "$T/new" >/dev/null
	assert_eq "$before" "$(fingerprint "$T/new")" "the store after $command"
done

note "commit and versions"
assert_eq "version 1" "$(mojofs commit "$T/new" first)"
assert_eq "version 2" "$(mojofs commit -m 'the second' "$T/new")"
assert_eq '{"version":3,"message":""}' "$(mojofs commit --json "$T/new")"
assert_eq "version 4" "$(mojofs commit "$T/new" -m $'two\nlines \e[31mred \\ \xff')"
assert_eq "version 5" "$(mojofs commit "$T/new" -- --help)"
mojofs versions "$T/new" >"$T/out"
assert_eq 7 "$(wc -l <"$T/out")" "lines of versions"
grep -Eq '^  +1  [-0-9]{10} [:0-9]{8} +first$' "$T/out"
grep -Eq '^  +2 .* the second$' "$T/out"
grep -Fq 'two\nlines \x1b[31mred \\ \xff' "$T/out"
grep -Eqx '\* +6  \(active\)' "$T/out"
! LC_ALL=C grep -q $'[\x01-\x08\x0b-\x1f\x7f-\xff]' "$T/out" || fail "control characters get through"
text=$(mojofs versions --json "$T/new")
grep -q '^\[{"version":1,"time":"[^"]*Z","active":false,"message":"first"},{' <<<"$text"
grep -q '"message_hex":"74776f0a6c696e6573201b5b33316d726564205c20ff"' <<<"$text"
grep -q '{"version":6,"active":true,"message":""}\]$' <<<"$text"
if command -v python3 >/dev/null; then
	mojofs state --json "$T/new" | python3 -m json.tool >/dev/null
	mojofs versions --json "$T/new" | python3 -m json.tool >/dev/null
	mojofs ls --json "$T/new" | python3 -m json.tool >/dev/null
fi
# numbers [option...]: the version numbers that are listed
numbers() {
	mojofs versions "$T/new" "$@" | sed -n 's/^[* ] *\([0-9][0-9]*\).*/\1/p' | tr '\n' ' '
}
assert_eq "1 2 3 4 5 6 " "$(numbers)"
assert_eq "5 6 " "$(numbers --limit 2)"
assert_eq "6 " "$(numbers --limit=1)"
assert_eq "" "$(numbers --limit=0)"
assert_eq "1 2 3 4 5 6 " "$(numbers --limit=6)"
assert_eq "1 2 3 4 5 6 " "$(numbers --limit=18446744073709551615)"
assert_eq "3 4 5 6 " "$(numbers --from=3)"
assert_eq "3 4 " "$(numbers --from=3 --limit=2)"
assert_eq "" "$(numbers --from=7)"
assert_eq "[]" "$(mojofs versions --json --from=7 "$T/new")"
text=$(mojofs versions --json --limit=1 --from=2 "$T/new")
time=$(member time <<<"$text")
assert_eq "$(TZ=Asia/Tokyo date -d "$time" '+%Y-%m-%d %H:%M:%S')" \
	"$(TZ=Asia/Tokyo mojofs versions --limit=1 --from=2 "$T/new" | sed -n '2s/^  *2  \(.\{19\}\).*/\1/p')" "local time"
TZ=Asia/Tokyo mojofs versions --utc --limit=1 --from=2 "$T/new" | grep -q " $(date -d "$time" '+%Y-%m-%d %H:%M:%SZ') "
text=$(mojofs state --json "$T/new")
assert_eq 6 "$(member active_version <<<"$text")"
assert_eq 5 "$(member frozen_versions <<<"$text")"

note "commit: what is refused"
long=$(printf '%01000d' 0)
assert_eq "version 6" "$(mojofs commit "$T/new" "$long")"
mojofs versions --json --from=6 --limit=1 "$T/new" | grep -q "\"message\":\"$long\""
refused 2 '1001 bytes' commit "$T/new" "x$long"
refused 2 'bytes' commit "$T/new" -m "$(printf '%065536d' 0)"
refused 2 'two messages' commit "$T/new" two words
for version in 0 16777216 -1 x 1x ''; do
	refused 2 'version' ls -V "$version" "$T/new"
	refused 2 'version' versions --from="$version" "$T/new"
done
assert_eq "1 2 3 4 5 6 7 " "$(numbers)"

note "ls and map of an empty tree"
assert_eq 1 "$(mojofs ls "$T/new" | wc -l)" "the header alone"
assert_eq '{"version":7,"active":true,"entries":[]}' "$(mojofs ls --json "$T/new")"
assert_eq '{"version":2,"active":false,"entries":[]}' "$(mojofs ls --json -V 2 "$T/new")"
assert_eq '{"version":2,"active":false,"entries":[]}' "$(mojofs ls --json -lR "$T/new" @v2)"
refused 1 'no version 8' ls -V 8 "$T/new"
refused 1 'no version 8' ls "$T/new" @v8/x
refused 1 'has no file "nothing"' ls "$T/new" nothing
refused 1 'has no file "a/b"' map "$T/new" a//./b/
refused 1 '"\.\."' ls "$T/new" a/../b
refused 1 'version 2, but version 3' ls -V 3 "$T/new" @v2/x
refused 1 'is a directory' map "$T/new"
refused 2 'dump wants' map "$T/new" x --dump
refused 2 'cannot be had together' map "$T/new" x --dump --summary --page 1
for pages in x 1-x 2-1 -1 '' 1-2-3 ' 1'; do
	refused 2 'page' map "$T/new" x "--pages=$pages"
done
refused 2 'may be given once' map "$T/new" x --page 1 --pages 2-3

note "paths that are nothing"
mkdir "$T/plain"
for command in state versions commit ls; do
	refused 1 'no such file' $command "$T/nothing"
	refused 1 'is no store' $command "$T/plain"
	refused 1 'neither' $command "$T/full/file"
	refused 1 'is no store|is not' $command "$T/full"
done
assert_eq "" "$(ls -A "$T/plain")" "the plain directory afterwards"
assert_eq file "$(ls -A "$T/full")" "the full directory afterwards"
ln -s new "$T/link"
mojofs state "$T/link" | grep -q "^store  *$T/new$" || fail "a link to a store is not the store"

note "a damaged store is refused untouched"
cp -a "$T/new" "$T/damaged"
dd if=/dev/zero of="$T/damaged/mojo.state" bs=4096 count=2 conv=notrunc status=none
before=$(fingerprint "$T/damaged")
for command in state versions commit ls; do
	refused 1 "$T/damaged" $command "$T/damaged"
done
refused 1 "$T/damaged" create "$T/damaged"
assert_eq "$before" "$(fingerprint "$T/damaged")" "the damaged store afterwards"

note "readers share a store; who has it for itself is respected"
if command -v flock >/dev/null; then
	exec 8<"$T/new/mojo.lock"
	flock -s 8
	mojofs state "$T/new" >/dev/null
	refused 1 'open|lock|use' commit "$T/new" nobody
	flock -x 8
	refused 1 'not mounted where' state "$T/new"
	exec 8<&-
	mojofs state "$T/new" >/dev/null
fi

note "output that cannot be written is a failure"
status=0
mojofs versions "$T/new" >/dev/full 2>"$T/err" || status=$?
assert_eq 1 $status "status with a full disk"
grep -q 'output could not be written: no space' "$T/err"
status=0
mojofs --help >/dev/full 2>/dev/null || status=$?
assert_eq 1 $status "status of --help with a full disk"
before=$(numbers)
status=0
mojofs commit "$T/new" 'nobody hears it' >&- 2>"$T/err" || status=$?
assert_eq 1 $status "status with stdout closed"
grep -q 'output could not be written' "$T/err"
status=0
mojofs commit "$T/new" 'nobody hears anything' <&- >&- 2>&- || status=$?
assert_eq 1 $status "status with everything closed"
assert_eq "${before}8 9 " "$(numbers)" "the store after writing to closed descriptors"

note "completion"
cat >"$T/complete" <<'SCRIPT'
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
compopt() { :; }
_mojofs
printf '%s\n' "${COMPREPLY[@]}"
SCRIPT
completion="$source_dir/contrib/completion/mojofs.bash"
complete_words() {
	bash "$T/complete" "$completion" "$MOJOFS" "$@" | tr '\n' ' '
}
assert_eq "create commit check " "$(complete_words c)"
assert_eq "--version --help --usage " "$(complete_words --)"
assert_eq "--from= " "$(complete_words versions --f)"
assert_eq "--version= " "$(complete_words ls "$T/new" --v)"
assert_eq "16K " "$(complete_words create --page-size = 1)"
assert_eq "2 " "$(complete_words ls "$T/new" -V 2)"
assert_eq "$T/new " "$(complete_words state "$T/ne")"

echo "PASS: test_cli"
