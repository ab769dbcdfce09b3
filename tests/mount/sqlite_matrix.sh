#!/bin/bash
# SPDX-License-Identifier: MIT
# Stock sqlite3 on the mount in every journal mode, auto_vacuum mode and page size, on stores of the
# smallest and the largest page: 108 databases. Each goes through create, insert, commit, insert,
# commit, copy a table, read v1, commit, delete all, commit, vacuum, read v4 and v2; then the mount is
# taken off and put on again, every version is read again, and the whole is done a second time in the
# same files. What each version must hold is computed by the same statements on a host file.
TEST_SECONDS=${TEST_SECONDS:-1200}
. "$(dirname "$0")/lib.sh"
need sqlite3

journal_modes=${JOURNAL_MODES:-DELETE TRUNCATE PERSIST MEMORY WAL OFF}
vacuum_modes="0 1 2" # none, full, incremental
page_sizes="512 4096 65536"
store_page_sizes=${STORE_PAGE_SIZES:-4096 65536}

declare -A expected # version -> hash of the content

rows() { # TABLE FIRST LAST
	cat <<-SQL
		WITH RECURSIVE n(i) AS (SELECT $2 UNION ALL SELECT i + 1 FROM n WHERE i < $3)
		INSERT INTO $1(id, s, b) SELECT i, printf('%0*d', 200 + i % 300, i * 2654435761 % 1000000007),
			CAST(printf('%0*x', 64 + i, i * 7919) AS BLOB) FROM n;
	SQL
}

# sql_of STEP ROUND: the statements of a step
sql_of() {
	case $1 in
	create) echo "CREATE TABLE t$2(id INTEGER PRIMARY KEY, s TEXT UNIQUE, b BLOB);"; rows "t$2" 1 100 ;;
	insert) rows "t$2" 101 200 ;;
	copy) echo "CREATE TABLE c$2 AS SELECT * FROM t$2;" ;;
	delete) echo "DELETE FROM t$2; DELETE FROM c$2;" ;;
	vacuum) echo "VACUUM;" ;;
	esac
}

# hash_of DATABASE: sets HASH (content) and SHAPE (integrity, page size, auto_vacuum)
hash_of() {
	local text
	text=$(sql "$1" "PRAGMA integrity_check" "PRAGMA page_size" "PRAGMA auto_vacuum" ".sha3sum") || fail "$1 cannot be read"
	HASH=${text##*$'\n'}
	SHAPE=$(tr '\n' ' ' <<<"${text%$'\n'*}")
}

# change STEP ROUND: in every database of the mount
change() {
	local journal vacuum page file out sql_text setup
	sql_text=$(sql_of "$1" "$2")
	for journal in $journal_modes; do
		for vacuum in $vacuum_modes; do
			for page in $page_sizes; do
				file="$MNT/$journal/v$vacuum-p$page.db"
				setup=""
				[ "$1-$2" != create-1 ] || setup="PRAGMA page_size=$page; PRAGMA auto_vacuum=$vacuum;"
				[ "$1" != delete ] || [ "$vacuum" != 2 ] || setup="PRAGMA incremental_vacuum(3);"
				# In the first round the WAL stays behind with frames in it, as when a program is
				# still running or was killed; in the second it is folded in.
				if [ "$journal" = WAL ] && [ "$2" = 1 ]; then
					out=$(sql "$file" ".dbconfig no_ckpt_on_close on" "$setup PRAGMA journal_mode=$journal; $sql_text")
					[ -s "$file-wal" ] || fail "$file-wal should hold frames"
				else
					out=$(sql "$file" "$setup PRAGMA journal_mode=$journal; $sql_text")
				fi
				grep -qix "$journal" <<<"$out" || fail "$file: wanted journal mode $journal, got: $out"
			done
		done
	done
	sql "$T/reference.db" "$sql_text"
}

# check PREFIX VERSION: every database under PREFIX holds what VERSION should
check() {
	local journal vacuum page file
	for journal in $journal_modes; do
		for vacuum in $vacuum_modes; do
			for page in $page_sizes; do
				file="$1/$journal/v$vacuum-p$page.db"
				hash_of "$file"
				assert_eq "ok $page $vacuum " "$SHAPE" "integrity, page size and auto_vacuum of $file"
				assert_eq "${expected[$2]}" "$HASH" "content of $file, version $2"
			done
		done
	done
}

# freeze MESSAGE: commit, and note what the version must hold
freeze() {
	hash_of "$T/reference.db"
	commit "$1"
	expected[$VERSION]=$HASH
}

round() { # ROUND
	local first
	note "round $1: create, insert"
	change create "$1"
	freeze "round $1, 100 rows"
	first=$VERSION
	change insert "$1"
	freeze "round $1, 200 rows"
	note "round $1: copy a table, read v$first"
	change copy "$1"
	check "$MNT/@v$first" "$first"
	freeze "round $1, copied"
	note "round $1: delete, vacuum, read v$((first + 3)) and v$((first + 1))"
	change delete "$1"
	freeze "round $1, deleted"
	change vacuum "$1"
	check "$MNT/@v$((first + 3))" "$((first + 3))"
	check "$MNT/@v$((first + 1))" "$((first + 1))"
	freeze "round $1, vacuumed"
	check "$MNT" "$VERSION"
}

for store_page in $store_page_sizes; do
	note "store pages of $store_page bytes"
	expected=()
	rm -f "$T/reference.db"
	mount_store "s$store_page" --page-size="$store_page"
	assert_eq "$store_page" "$(xget page_size "$MNT")" "page size of the store"
	for journal in $journal_modes; do
		mkdir "$MNT/$journal"
	done
	round 1
	note "unmount, mount, read every version"
	remount "s$store_page"
	for version in 1 2 3 4 5; do
		check "$MNT/@v$version" "$version"
	done
	check "$MNT" 5
	round 2
	note "unmount, mount, read every version"
	remount "s$store_page"
	for version in 1 2 3 4 5 6 7 8 9 10; do
		check "$MNT/@v$version" "$version"
	done
	check "$MNT" 10
	unmount_store "s$store_page"
done
