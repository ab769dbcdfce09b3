#!/bin/bash
# SPDX-License-Identifier: MIT
# The benchmark works: each workload in miniature gives its figures, and they come out as tables and pictures.
# The figures themselves prove nothing here.
. "$(dirname "$0")/lib.sh"

need python3
find_program MOJOFS_WORK bench/work
bench="$source_dir/bench"

note "every workload in miniature"
python3 "$bench/run" --tiny --directory "$T" --json "$T/results.json" >"$T/out" 2>"$T/err" || {
	cat "$T/out" "$T/err" >&2
	fail "bench/run ended with an error"
}
python3 - "$T/results.json" "$(id -u)" <<'END' || fail "the figures are not what they should be"
import json, os, sys
results = json.load(open(sys.argv[1]))
figures = results["figures"]
wanted = {"txn-delete", "txn-truncate", "txn-persist", "txn-wal-full", "txn-wal-normal", "txn-four", "ancestor-insert",
          "ancestor-update", "ancestor-select", "ancestor-count", "mixed", "read-transactions", "read-points", "updates",
          "creates", "unlinks", "seq-write", "copy", "old-warm", "mount-clean", "mount-killed", "memory", "version-delete",
          "version-wal", "load-rate", "load-stall", "load-commit", "commit-2MB-10", "commit-2MB-30", "commit-4MB-10"}
if os.access("/proc/sys/vm/drop_caches", os.W_OK):
    wanted |= {"scan-cold", "seq-read", "old-cold"}
if wanted - set(figures):
    sys.exit(f"missing: {wanted - set(figures)}")
for name, figure in figures.items():
    for side, got in figure["sides"].items():
        if not got["values"] or (min(got["values"]) <= 0 and name not in ("load-busy", "version-delete", "version-wal")):
            sys.exit(f"{name}, {side}: {got['values']}")
    if "host" in figure["sides"] and any("ratio" not in got for side, got in figure["sides"].items() if side != "host"):
        sys.exit(f"{name} has no ratio: {figure['sides']}")
if figures["txn-delete"]["sides"]["flushed"]["more"]["requests"].get("UNLINK", 0) < 0.9:
    sys.exit("the requests of a transaction in DELETE mode are not counted")
END

note "nothing is left behind"
left=$(find "$T" -mindepth 1 -maxdepth 1 -name 'mojofs-bench.*')
[ -z "$left" ] || fail "bench/run left $left"

note "as tables"
printf 'before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n' >"$T/page.md"
python3 "$bench/table" "$T/results.json" "$T/page.md"
assert_eq "before" "$(head -n 1 "$T/page.md")"
assert_eq "after" "$(tail -n 1 "$T/page.md")"
! grep -q '^old$' "$T/page.md" || fail "bench/table left the old table"
for row in '| WAL FULL | ≥ 0.9 | ≥ 1.1 |' '| mount, clean | ≤ 100 ms | ≤ 20 ms |' '| commit, 4 MB, 10 versions, against the first |'; do
	grep -qF "$row" "$T/page.md" || fail "bench/table printed no row that begins with $row"
done
echo "no markers" >"$T/page.md"
assert_fails 'has not one line' python3 "$bench/table" "$T/results.json" "$T/page.md"

if command -v gnuplot >/dev/null; then
	note "as pictures"
	python3 "$bench/plot" "$T/results.json" "$T/pictures" >/dev/null
	for picture in ratios commit load; do
		grep -q '</svg>' "$T/pictures/$picture.svg" || fail "bench/plot drew no $picture.svg"
	done
fi

note "a workload that cannot be done is an error, not a figure"
assert_fails 'no parameter' "$MOJOFS_WORK" scan "$T" rows=3
assert_fails 'no workload' "$MOJOFS_WORK" nothing "$T"
assert_fails 'no such table' "$MOJOFS_WORK" scan "$T"
assert_fails 'no workload' python3 "$bench/run" --only nothing
