#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""readstore.py - read a mojofs store, written from docs/FORMAT.md alone.

A second implementation of the format that shares no code with the first: tests compare the two, for tests that
only compare our reading with our writing would agree on the same mistake. It takes no lock and writes nothing:
use it on a store that nobody has open. It keeps the whole index in memory: it is for small stores.

    readstore.py STORE                  the root, the log and the versions
    readstore.py STORE VERSION          type, size, SHA-256 of the content, and path, of all there is in a version
    readstore.py STORE VERSION PATH     a file's content, to the standard output

VERSION is a number, or 0 for the active version. Exit status: 0, 1 for a damaged store or an absent file,
77 if libxxhash or libzstd is not there. Needs libxxhash.so.0 and libzstd.so.1, called through ctypes.
"""
import ctypes
import hashlib
import os
import stat
import struct
import sys


class Damaged(Exception):
    pass


class Skip(Exception):
    pass


def library(name):
    try:
        return ctypes.CDLL(name)
    except OSError:
        raise Skip(name + " is not installed") from None


def want(condition, text):
    if not condition:
        raise Damaged(text)


class Checksum:
    def __init__(self):
        self.xxh3 = library("libxxhash.so.0").XXH3_64bits_withSeed
        self.xxh3.restype = ctypes.c_uint64
        self.xxh3.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]

    def __call__(self, data, seed):
        return self.xxh3(data, len(data), seed)


def decompress(data, most):
    zstd = library("libzstd.so.1")
    zstd.ZSTD_decompress.restype = ctypes.c_size_t
    zstd.ZSTD_decompress.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    buffer = ctypes.create_string_buffer(most)
    length = zstd.ZSTD_decompress(buffer, most, data, len(data))
    want(length <= most, "a blob cannot be decompressed")
    return buffer.raw[:length]


def split(word):
    """(address, version) of an entry's or reference's first 8 bytes"""
    return word & (1 << 40) - 1, word >> 40


class Reference:
    def __init__(self, raw):
        word, self.bytes, self.flags, self.checksum = struct.unpack("<QIIQ", raw)
        self.address, self.version = split(word)
        self.null = raw == bytes(24)
        want(self.null or (self.address and self.bytes and not self.flags & ~1), "an impossible reference")


class Version:
    """All there is in one version, in dictionaries."""

    def __init__(self, inodes=(), entries=(), pages=()):
        self.inodes = dict(inodes)    # bucket -> mode, nlink, uid, gid, rdev, parent, size, pages, 4 times, cookie
        self.entries = dict(entries)  # (directory, cookie) -> (child, mode, name)
        self.pages = {bucket: dict(of) for bucket, of in dict(pages).items()}  # bucket -> page -> (address, checksum)

    def copy(self):
        return Version(self.inodes, self.entries, self.pages)


class Store:
    def __init__(self, directory):
        self.directory = directory
        self.checksum = Checksum()
        self.read_root()
        self.active = self.load_version(self.main_ref)
        self.frozen = {}  # version -> (Reference or Version, time, message)
        for key, value in self.cells(self.versions_ref, 2):
            want(len(key) == 4 and len(value) >= 40, "the versions tree")
            time, length = struct.unpack_from("<q4xI", value, 24)
            want(length == len(value) - 40, "a version's message")
            self.frozen[struct.unpack(">I", key)[0]] = (Reference(value[:24]), time, value[40:])
        self.replay()

    # ---- files, blocks, blobs

    def read_root(self):
        with open(os.path.join(self.directory, "mojo.state"), "rb") as file:
            data = file.read(8192)
        best = None
        for slot in data[:4096], data[4096:]:
            if len(slot) < 4096 or slot[:8] != b"MOJOROOT":
                continue
            want(struct.unpack_from("<I", slot, 8)[0] <= 1, "a newer format")
            if struct.unpack_from("<Q", slot, 4088)[0] == self.checksum(slot[:4088], 0):
                generation = struct.unpack_from("<Q", slot, 32)[0]
                if best is None or generation > best[0]:
                    best = generation, slot
        want(best, "no valid root")
        self.generation, slot = best
        self.store_id = slot[16:32]
        self.page_size, self.pps, self.chunk_blocks = struct.unpack_from("<III", slot, 40)
        self.epoch, self.sequence, self.address, self.version = struct.unpack_from("<QQQI", slot, 56)
        self.main_ref, self.versions_ref = Reference(slot[88:112]), Reference(slot[112:136])
        self.files, self.directories, self.frozen_count, self.root_durable = struct.unpack_from("<QQQQ", slot, 176)
        self.node_bytes = min(self.page_size, 16384)

    def blocks(self, address, length):
        """length bytes from a block on, fewer where the chunk file ends"""
        chunk, block = divmod(address, self.chunk_blocks)
        try:
            with open(os.path.join(self.directory, "chunks", "%08x.chunk" % chunk), "rb") as file:
                file.seek(block * self.page_size)
                return file.read(length)
        except FileNotFoundError:
            return b""

    def blob(self, ref, kind, most):
        data = self.blocks(ref.address, ref.bytes)
        want(len(data) == ref.bytes and self.checksum(data, kind) == ref.checksum, "a blob's checksum")
        return decompress(data, most) if ref.flags & 1 else data

    # ---- trees

    def cells(self, ref, kind, level=None):
        """(key, value) of all leaves of a tree, in order"""
        if ref.null:
            return
        node = self.blob(ref, 1, self.node_bytes)
        magic, here, node_kind, count, heap, lost, zero = struct.unpack_from("<4sBBHHHI", node)
        want(len(node) == self.node_bytes and magic == b"MNOD" and node_kind == kind and count > 0 and zero == 0
             and here <= 16 and level in (None, here), "a node")
        before, total = None, lost
        for i in range(count):
            at = struct.unpack_from("<H", node, 16 + 2 * i)[0]
            want(heap <= at <= self.node_bytes - 4, "a cell's place")
            key_length, value_length = struct.unpack_from("<HH", node, at)
            want(key_length <= 16 and value_length <= 1104, "a cell's length")
            key = node[at + 4:at + 4 + key_length]
            value = node[at + 4 + key_length:at + 4 + key_length + value_length]
            want(len(value) == value_length and (before is None or before < key), "a cell")
            before, total = key, total + 4 + key_length + value_length
            if here:
                yield from self.cells(Reference(value), kind, here - 1)
            else:
                yield key, value
        want(total == self.node_bytes - heap, "a node's cells")

    def load_version(self, ref):
        version = Version()
        for key, value in self.cells(ref, 1):
            if key[0] == 1:
                version.inodes[struct.unpack(">I", key[1:])[0]] = struct.unpack("<6I2Q4qQ", value)
            elif key[0] == 2:
                version.entries[struct.unpack(">IQ", key[1:])] = struct.unpack_from("<II", value) + (value[8:],)
            elif key[0] == 3:
                bucket, slot = struct.unpack(">II", key[1:])
                self.load_slot(version.pages.setdefault(bucket, {}), slot * self.pps, value)
            else:
                want(key[0] == 4 and not value, "an unknown key")
        return version

    def load_slot(self, pages, first, value):
        ref, count = Reference(value[:24]), struct.unpack_from("<H", value, 24)[0]
        want(count <= 48 and len(value) == 26 + 14 * count, "a slot")
        data = b"" if ref.null else self.blob(ref, 2, self.pps * 12)
        want(len(data) % 12 == 0 and len(data) <= self.pps * 12, "a slot's blob")
        entries = [(i // 12, data[i:i + 12]) for i in range(0, len(data), 12)]
        for at in range(26, len(value), 14):  # a delta comes later and wins, also one that is absent
            entries.append((struct.unpack_from("<H", value, at)[0], value[at + 2:at + 14]))
        for index, entry in entries:
            word, checksum = struct.unpack("<QI", entry)
            pages.pop(first + index, None)
            if word:
                pages[first + index] = split(word)[0], checksum

    # ---- the log

    def group_at(self, address):
        """(fields, records) of the group there, or None"""
        head = self.blocks(address, self.page_size)
        if len(head) < self.page_size or head[:24] != b"MOJOGRUP" + self.store_id:
            return None
        group = dict(zip(("epoch", "sequence", "durable", "address", "headers", "data", "count", "bytes", "flags"),
                         struct.unpack_from("<QQQQIIIII", head, 24)))
        if (group["address"] != address or not group["headers"] or group["headers"] * self.page_size > 1 << 20 or
                group["headers"] + group["data"] > self.chunk_blocks - address % self.chunk_blocks or
                not group["durable"] < group["sequence"] or
                group["bytes"] > group["headers"] * self.page_size - 96 or group["flags"] & ~1):
            return None
        head = self.blocks(address, group["headers"] * self.page_size)
        if self.checksum(head[96:], self.checksum(head[:88], 0)) != struct.unpack_from("<Q", head, 88)[0]:
            return None
        group["end"] = address + group["headers"] + group["data"]
        records, at, end = [], 96, 96 + group["bytes"]
        while at < end:
            kind, length = struct.unpack_from("<HxxI", head, at)
            want(at + 8 + length <= end, "a record's length")
            records.append((kind, head[at + 8:at + 8 + length]))
            at += 8 + length
        want(len(records) == group["count"], "the number of records")
        return group, records

    def next_group(self, address, sequence, epoch):
        for place in (address, address + -address % self.chunk_blocks):
            found = self.group_at(place)
            if found:
                group, records = found
                if group["sequence"] == sequence and (
                        group["epoch"] == epoch or records[:1] == [(1, struct.pack("<Q", epoch))]):
                    return found
        return None

    def pages_are_whole(self, group, records):
        address = group["address"] + group["headers"]
        for payload in (payload for kind, payload in records if kind == 2):
            _, bucket, first, count = struct.unpack_from("<IIII", payload)
            for i, checksum in enumerate(struct.unpack_from("<%dI" % count, payload, 16)):
                data = self.blocks(address + i, self.page_size)
                if self.checksum(data, bucket << 32 | first + i) & 0xffffffff != checksum:
                    return False
            address += count
        return True

    def replay(self):
        groups, durable, whole = [], self.root_durable, 0
        address, sequence, epoch = self.address, self.sequence, self.epoch
        while found := self.next_group(address, sequence, epoch):
            groups.append(found)
            address, sequence, epoch = found[0]["end"], sequence + 1, found[0]["epoch"]
            durable = max(durable, found[0]["durable"])
        for i, (group, _) in enumerate(groups):
            if group["flags"] & 1:
                if group["sequence"] > durable and not all(self.pages_are_whole(*g) for g in groups[whole:i + 1]):
                    break
                whole = i + 1
        want(self.sequence + whole > durable, "groups of the log that were durable are lost")
        for group, records in groups[:whole]:
            address = group["address"] + group["headers"]
            for kind, payload in records:
                address += self.apply(kind, payload, address)
            want(address == group["end"], "data blocks are left over")
        self.groups = whole

    def apply(self, kind, payload, address):
        """one record; returns how many data blocks are its own"""
        now = self.active
        if kind == 2:
            version, bucket, first, count = struct.unpack_from("<IIII", payload)
            want(version == self.version and bucket in now.inodes, "pages of what is not there")
            for i, checksum in enumerate(struct.unpack("<%dI" % count, payload[16:])):
                now.pages.setdefault(bucket, {})[first + i] = address + i, checksum
            return count
        if kind == 3:
            now.inodes[struct.unpack_from("<I", payload)[0]] = struct.unpack("<6I2Q4qQ", payload[4:])
        elif kind == 4:
            directory, child, cookie, mode, length = struct.unpack_from("<IIQII", payload)
            want(length == len(payload) - 24, "a name's length")
            now.entries[directory, cookie] = child, mode, payload[24:]
        elif kind == 5:
            want(now.entries.pop(struct.unpack("<IQ", payload), None), "an entry to unlink")
        elif kind == 6:
            bucket = struct.unpack("<I", payload)[0]
            now.inodes.pop(bucket, None)
            now.pages.pop(bucket, None)
        elif kind == 7:
            bucket, first, count = struct.unpack("<IQQ", payload)
            of = now.pages.get(bucket, {})
            for page in [page for page in of if first <= page < first + count]:
                del of[page]
        elif kind == 8:
            version, length, time = struct.unpack_from("<IIq", payload)
            want(version == self.version and length == len(payload) - 16, "a commit")
            self.frozen[version] = now.copy(), time, payload[16:]
            self.version += 1
        elif kind == 9:
            want(self.frozen.pop(struct.unpack("<I", payload)[0], None), "a version to drop")
        elif kind == 10:
            return struct.unpack("<QI", payload)[1]
        else:
            want(kind == 1, "a record of type %d" % kind)
        return 0

    # ---- looking

    def view(self, number):
        if number in (0, self.version):
            return self.active
        if number not in self.frozen:
            raise FileNotFoundError("version %d" % number)
        version = self.frozen[number][0]
        return self.load_version(version) if isinstance(version, Reference) else version

    def walk(self, version, directory=1, path=b""):
        """(path, bucket) of all there is below a directory; checks what can be checked on the way"""
        children = [(cookie, entry) for (of, cookie), entry in version.entries.items() if of == directory]
        want(len(children) == version.inodes[directory][6], "a directory's number of entries")
        for cookie, (child, mode, name) in sorted(children):
            inode = version.inodes[child]
            first = 1 << 61 | self.checksum(name, 0) >> 10 << 7
            want(first <= cookie < first + 128 and (inode[5], inode[12]) == (directory, cookie) and
                 stat.S_IFMT(mode) == stat.S_IFMT(inode[0]), "an entry's cookie, parent or type")
            yield path + name, child
            if stat.S_ISDIR(inode[0]):
                yield from self.walk(version, child, path + name + b"/")

    def content(self, version, bucket):
        """the bytes of a file, in pieces"""
        left, pages = version.inodes[bucket][6], version.pages.get(bucket, {})
        want(len(pages) == version.inodes[bucket][7] or version is self.active, "a file's number of pages")
        for page in range(-(-left // self.page_size)):
            data = bytes(self.page_size)
            if page in pages:
                address, checksum = pages[page]
                data = self.blocks(address, self.page_size)
                want(self.checksum(data, bucket << 32 | page) & 0xffffffff == checksum,
                     "bucket %d, page %d: checksum" % (bucket, page))
            yield data[:left]
            left -= self.page_size


def main(arguments):
    if len(arguments) not in (1, 2, 3):
        sys.stderr.write(__doc__)
        return 2
    store = Store(arguments[0])
    if len(arguments) == 1:
        print("generation %d, active version %d, %d groups replayed, pages of %d, %d pages a slot, %d blocks a chunk" % (
            store.generation, store.version, store.groups, store.page_size, store.pps, store.chunk_blocks))
        for number, (_, time, message) in sorted(store.frozen.items()):
            print(number, time, message.decode(errors="replace"))
        return 0
    version, out = store.view(int(arguments[1])), sys.stdout.buffer
    for path, bucket in store.walk(version):
        mode, size = version.inodes[bucket][0], version.inodes[bucket][6]
        if len(arguments) == 2:
            kind = b"d" if stat.S_ISDIR(mode) else b"l" if stat.S_ISLNK(mode) else b"f" if stat.S_ISREG(mode) else b"o"
            digest = hashlib.sha256()
            if kind in b"fl":
                for piece in store.content(version, bucket):
                    digest.update(piece)
            out.write(b"%s %d %s %s\n" % (kind, size, digest.hexdigest().encode(), path))
        elif path == os.fsencode(arguments[2]):
            for piece in store.content(version, bucket):
                out.write(piece)
            return 0
    if len(arguments) == 3:
        raise FileNotFoundError(arguments[2])
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Skip as skip:
        print("SKIP: readstore.py:", skip)
        sys.exit(77)
    except (Damaged, OSError, struct.error, KeyError, RecursionError) as error:
        print("readstore.py: %s: %r" % (sys.argv[1], error), file=sys.stderr)
        sys.exit(1)
