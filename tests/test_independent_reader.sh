#!/bin/bash
# SPDX-License-Identifier: MIT
# What docs/FORMAT.md says is what is on disk: contrib/readstore.py, written from that text and sharing no code
# with the engine, finds in the store of a daemon that was killed, and in one that was closed, the files of all
# versions as they were, byte by byte; through either root slot; and a wrong byte is found by it, too.
. "$(dirname "$0")/mount/lib.sh"
need python3 sha256sum

reader="$source_dir/contrib/readstore.py"
read_store() {
	local status=0
	timeout -k 5 300 python3 "$reader" "$@" || status=$?
	[ $status -ne 77 ] || skip "libxxhash.so.0 or libzstd.so.1 is not installed"
	return $status
}

# both COMMAND...: on the mount and on the host, in their roots
both() {
	(cd "$MNT" && "$@")
	(cd "$T/host" && "$@")
}

# describe DIRECTORY: a line for each thing in it, as the host tells it: type, SHA-256 of the content, path
describe() {
	(
		cd "$1"
		find . -mindepth 1 -path './@*' -prune -o -type f -exec sha256sum {} + | sed 's,  \./, ,; s/^/- /'
		find . -mindepth 1 -path './@*' -prune -o -not -type f -printf '%y %l %P\n' | while read -r kind target path; do
			case $kind in
			l) target=$(echo -n "$target" | sha256sum | cut -d ' ' -f 1) ;;
			*) path="$target${path:+ $path}" target=- ;;
			esac
			echo "$kind $target $path"
		done
	) | sort
}

# The same lines, by the reader.
read_version() {
	read_store "$1" "$2" | sed 's/^\([-l]\) [0-9]* /\1 /; t; s/^\(.\) [0-9]* [0-9a-f]* /\1 - /' | sort
}

# freeze NAME: note what there is, and commit it
freeze() {
	commit "$1"
	describe "$T/host" >"$T/version$VERSION"
	describe "$MNT/@v$VERSION" | cmp - "$T/version$VERSION" || fail "@v$VERSION is not what was written"
}

compare() {
	local store=$1 version
	for version in 0 $(seq "$VERSION"); do
		read_version "$store" "$version" >"$T/read" || fail "the reader cannot read version $version ($2)"
		diff "$T/version$version" "$T/read" >"$T/diff" || {
			head "$T/diff" >&2
			fail "version $version is another one to the reader ($2)"
		}
	done
}

# other_root STORE: spoil the newest root
other_root() {
	python3 - "$1/mojo.state" <<-'END'
		import struct, sys
		with open(sys.argv[1], "r+b") as file:
		    data = file.read()
		    newest = max((0, 4096), key=lambda slot: struct.unpack_from("<Q", data, slot + 32))
		    file.seek(newest + 4000)
		    file.write(b"\xff")
	END
}

note "a store in the middle of a commit"
mkdir "$T/half" "$T/wanted"
timeout -k 5 60 "$MOJOFS_HELPERS/half_store" "$T/half" "$T/wanted" || fail "half_store"
for version in 0 1 2 3; do
	describe "$T/wanted/$version" >"$T/versionH"
	read_version "$T/half" "$version" | diff "$T/versionH" - || fail "version $version is another one to the reader"
done
read_store "$T/half" >"$T/list"
grep -q "two \[bad\]$" "$T/list" || fail "the reader does not know of the verdict: $(cat "$T/list")"
grep -q "three (not published)$" "$T/list" || fail "the reader does not know what is unpublished: $(cat "$T/list")"
timeout -k 5 60 "$MOJOFS" check --scrub "$T/half" || fail "mojofs check found something"
rm -rf "$T/half" "$T/wanted"

for geometry in "4096 4096" "65536 64" "16384 65536"; do
	read -r page_size pages_per_slot <<<"$geometry"
	note "pages of $page_size bytes, $pages_per_slot in a slot"
	name=s$page_size
	rm -rf "$T/host"
	mkdir "$T/host"
	mount_store "$name" --page-size="$page_size" --pages-per-slot="$pages_per_slot" --chunk-size=4M --checkpoint-size=1M

	# Many pages (packed slots), many names (nodes of several levels), holes, changes of single pages (deltas).
	head -c 9000001 /dev/urandom >"$T/random"
	both cp "$T/random" big
	both mkdir -p a/b/c
	both ln -s a/b/c/none link
	both mkfifo fifo
	both truncate -s 100M sparse
	both bash -c 'printf middle | dd of=sparse bs=1 seek=50000000 conv=notrunc status=none'
	both bash -c 'for i in $(seq 200); do echo $i >a/b/"a name that is not very short $i"; done'
	freeze first
	for i in $(seq 5 9 500); do
		both dd if="$T/random" of=big bs=3000 skip="$i" seek=$((i * 5)) count=1 conv=notrunc status=none
	done
	both mv a/b a/moved
	freeze second
	both truncate -s 123457 big
	both truncate -s 4000000 big
	both rm -r a/moved/c "a/moved/a name that is not very short 7"
	both mv "a/moved/a name that is not very short 8" "a/moved/a name that is not very short 9"
	both fallocate -p -o 49990000 -l 20000 sparse
	both bash -c 'echo gone >gone; rm gone; mkdir gone; rmdir gone'
	freeze third

	# Not in any version, and not in a checkpoint: the reader has to replay it.
	both dd if="$T/random" of=big bs=1000 seek=777 count=2000 conv=notrunc status=none
	sync "$MNT"/big
	both bash -c 'for i in $(seq 50); do echo $i >"late $i"; done; rm "late 3"; mv "late 4" "late 5"'
	both truncate -s 3000000 big
	both dd if="$T/random" of=big bs=1000 seek=2500 count=200 conv=notrunc status=none
	describe "$T/host" >"$T/version0"
	sync "$MNT"/big "$MNT"/late*
	kill -KILL "${daemon_of[$MNT]}"
	wait_for_end "${daemon_of[$MNT]}" 20 || fail "the daemon did not end"
	unset "daemon_of[$MNT]"
	timeout -k 5 60 fusermount3 -u "$MNT"
	compare "$STORE" "after a crash"
	replayed=$(read_store "$STORE" | sed -n '1s/.* \([0-9]*\) groups replayed/\1/p')
	[ "$replayed" -gt 1 ] || fail "nothing was left to replay: the test does not test what it should"
	cp -r "$STORE" "$T/copy"
	other_root "$T/copy"
	compare "$T/copy" "after a crash, through the other root"
	rm -rf "$T/copy"

	# The engine goes on where the crash left it; the log changes to another epoch.
	mount_store "$name"
	describe "$MNT" | cmp - "$T/version0" || fail "the engine recovered something else"
	both cp "$T/random" another
	freeze fourth
	describe "$T/host" >"$T/version0"
	unmount_store "$name"
	compare "$STORE" "after unmounting"
	other_root "$STORE"
	compare "$STORE" "after unmounting, through the other root"

	note "a wrong byte"
	offset=$(LC_ALL=C grep -obUa -m 1 "middle" "$STORE"/chunks/* | head -n 1) # FILE:OFFSET:middle
	offset=${offset%:*}
	printf M | dd of="${offset%:*}" bs=1 seek="${offset##*:}" conv=notrunc status=none
	! read_version "$STORE" 1 >"$T/read" 2>&1 || fail "the reader did not see the wrong byte"
	rm -rf "$STORE"
done
