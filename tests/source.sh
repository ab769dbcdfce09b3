#!/bin/bash
# SPDX-License-Identifier: MIT
# What the project asks of its sources: layers, symbol names, licence lines, formatting, no leftovers.
set -euo pipefail
export LC_ALL=C

cd "$(dirname "$0")/.."
failed=0

complain() {
	echo "FAIL: $1" >&2
	[ -z "${2:-}" ] || sed 's/^/    /' <<<"$2" >&2
	failed=1
}

# every line of $2, if any, is a complaint of the kind $1
none() {
	[ -z "$2" ] || complain "$1" "$2"
}

sources=$(find src fuse cli sqlite tests bench -name '*.[ch]' | sort)
scripts=$(find tests contrib bench .ci -type f \( -name '*.sh' -o -path bench/run -o -path bench/table -o -path bench/plot -o -path 'contrib/*' -o -path '.ci/*' \) | sort)

# Layers: the engine knows no FUSE, inih or SQLite, and each library is called from one place.
none "src/ includes what the engine must not know" \
	"$(grep -nE '#[[:space:]]*include[[:space:]]*[<"](fuse|fuse_lowlevel|fuse3/.*|ini|sqlite3)(\.h)?[>"]' src/*.[ch] || true)"
none "src/ includes from above" "$(grep -nE '#[[:space:]]*include[[:space:]]*"(\.\./)?(fuse|cli|sqlite|tests)/' src/*.[ch] || true)"
only_in() { # HEADER FILE...: nothing else includes it
	local header=$1 file
	shift
	for file in $(grep -lE "#[[:space:]]*include[[:space:]]*[<\"]${header}[>\"]" src/*.[ch] fuse/*.[ch] cli/*.[ch] sqlite/*.[ch] || true); do
		case " $* " in
		*" $file "*) ;;
		*) complain "$file includes <$header>, which belongs to: $*" ;;
		esac
	done
}
only_in zstd.h src/codec.c
only_in xxhash.h src/checksum.c src/checksum.h
only_in jansson.h src/report.c
only_in ini.h fuse/config.c
only_in 'sqlite3(ext)?\.h' sqlite/*.[ch]

# The programs see the engine only through mojo.h, io.h, io_record.h and report.h.
for file in fuse/*.[ch] cli/*.[ch] sqlite/*.[ch]; do
	while read -r header; do
		name=${header##*/}
		case $name in mojo.h | io.h | io_record.h | report.h) continue ;; esac
		if [ -e "src/$name" ] && { [ ! -e "${file%/*}/$name" ] || [[ $header == */src/* ]]; }; then
			complain "$file includes \"$header\"; of src/, programs see only mojo.h, io.h, io_record.h and report.h"
		fi
	done < <(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' "$file")
done

# Symbols of the library: mojo_ and report_ only.
library=${MOJOFS_LIBRARY:-libmojo.a}
if [ -e "$library" ] && command -v nm >/dev/null; then
	none "symbols of libmojo.a that do not begin with mojo_ or report_" \
		"$(nm -g --defined-only "$library" | awk 'NF == 3 && $3 !~ /^(mojo_|report_|_|__)/ { print $3 }')"
else
	echo "symbols: not looked at, there is no $library (or no nm)"
fi

# Licence lines.
for file in $sources $scripts configure.ac Makefile.am; do
	head -n 3 "$file" | grep -q 'SPDX-License-Identifier: MIT' || complain "$file has no SPDX-License-Identifier: MIT on top"
done

# Makefile.am names every source file and every test: what it does not name is neither built, run, nor released.
for file in $sources; do
	case $file in
	tests/test_*.c) name=${file%.c} ;;
	tests/mount/*.c) name=${file%.c} ;;
	*) name=$file ;;
	esac
	grep -Eq "(^|[[:space:]])$name([[:space:]]|\$)" Makefile.am || complain "$file is not in Makefile.am"
done
for file in $(find tests -name '*.sh' ! -name lib.sh); do
	grep -Eq "^[[:space:]]$file([[:space:]]|\$)" Makefile.am || complain "$file is not in Makefile.am"
done

# Leftovers, and what nobody wants to find.
none "unfinished work" "$(grep -nE '\b(TODO|FIXME|XXX)\b' $sources || true)"
none "white space at the end of a line" "$(grep -nE '[[:space:]]+$' $sources $scripts || true)"
none "printing or ending the process inside the engine" \
	"$(grep -nE '\b(printf|fprintf|puts|perror|exit|_exit|err|errx|warn|warnx)[[:space:]]*\(' src/*.c || true)"
for file in $scripts; do
	case $file in */lib.sh | contrib/completion/*) continue ;; esac
	[ -x "$file" ] || complain "$file is not executable"
done

# Formatting, by the version of clang-format that Debian 12 has: others differ in small things.
if command -v clang-format >/dev/null && clang-format --version | grep -q 'version 14\.'; then
	none "not formatted (make format does it)" \
		"$(for file in $sources; do clang-format --dry-run -Werror "$file" >/dev/null 2>&1 || echo "$file"; done)"
else
	echo "formatting: not looked at, clang-format 14 is not installed"
fi

exit $failed
