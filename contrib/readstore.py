#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""readstore.py STORE [VERSION [PATH]] - read a mojofs store; written from docs/FORMAT.md alone.

A second implementation of the format, which shares no code with the first: tests that compare only our reading
with our writing agree on the same mistake. It takes no lock, writes nothing, and keeps the whole index in memory:
use it on small stores that nobody has open. Without VERSION (0 is the active one) it lists the versions; without
PATH, type, size, SHA-256 of the content and path of all there is in one; else it prints a file's content.
Exit status: 0; 1 for a damaged store or an absent file; 77 without libxxhash.so.0 or libzstd.so.1.
"""
import ctypes, hashlib, os, stat, struct, sys
from struct import unpack, unpack_from

class Damaged(Exception):
    """what FORMAT.md says to refuse"""
def want(condition, text):
    if not condition:
        raise Damaged(text)

def function(library, name, result, *arguments):
    try:
        found = getattr(ctypes.CDLL(library), name)
    except OSError:
        print("SKIP: readstore.py: %s is not installed" % library)
        sys.exit(77)
    found.restype, found.argtypes = result, arguments
    return found

U64, SIZE, BYTES = ctypes.c_uint64, ctypes.c_size_t, ctypes.c_char_p
XXH3 = function("libxxhash.so.0", "XXH3_64bits_withSeed", U64, BYTES, SIZE, U64)
ZSTD = function("libzstd.so.1", "ZSTD_decompress", SIZE, BYTES, SIZE, BYTES, SIZE)
ADDRESS_MASK = (1 << 40) - 1

def inode(raw):
    want(len(raw) in (80, 92), "the length of an inode")
    return unpack("<6I2Q4qQQI", raw + bytes(92 - len(raw)))
def checksum(data, seed):
    return XXH3(data, len(data), seed)
def page_checksum(data, seed, page):
    return checksum(data, seed << 32 | page) & 0xffffffff

class Reference:
    def __init__(self, raw):
        word, self.bytes, self.flags, self.checksum = unpack("<QIIQ", raw)
        self.address, self.null = word & ADDRESS_MASK, raw == bytes(24)
        want(self.null or (self.address and self.bytes and not self.flags & ~1), "an impossible reference")

class Version:
    """All there is in one version."""
    def __init__(self, other=None):
        self.inodes = dict(other.inodes) if other else {}    # bucket -> 15 numbers, in the order of FORMAT.md
        self.entries = dict(other.entries) if other else {}  # (directory, cookie) -> (child, mode, name)
        self.pages = {bucket: dict(of) for bucket, of in other.pages.items()} if other else {}
        # bucket -> page -> (address, checksum)

class Frozen:
    """What is kept of a frozen version."""
    def __init__(self, tree, time, message, flags=0, verdict=(0, b"")):
        self.tree, self.time, self.message, self.flags, self.verdict = tree, time, message, flags, verdict

class Store:
    def __init__(self, directory):
        self.directory = directory
        self.read_root()
        self.active = self.load_version(self.main_ref)
        self.frozen = {}  # number -> Frozen, whose tree is a Reference until it is needed
        for key, value in self.cells(self.versions_ref, 2):
            time, flags, length = unpack_from("<qII", value, 24)
            verdict, text = flags >> 2 & 3, flags >> 8 & 255
            want(not flags & ~0xff0f and verdict < 3 and length + text == len(value) - 40, "what is kept of a version")
            message = value[40:40 + length]
            self.frozen[unpack(">I", key)[0]] = Frozen(
                Reference(value[:24]), time, message, flags & 3, (verdict, value[40 + length:]))
        self.replay()
        for number, frozen in self.frozen.items():
            want(not frozen.flags & 1 or number == self.version - 1, "a version that is not published")

    def read_root(self):
        with open(os.path.join(self.directory, "mojo.state"), "rb") as file:
            data = file.read(8192)
        valid = []
        for slot in (slot for slot in (data[:4096], data[4096:]) if slot[:8] == b"MOJOROOT"):
            if unpack_from("<Q", slot, 4088)[0] != checksum(slot[:4088], 0):
                continue
            want(unpack_from("<I", slot, 8)[0] == 1, "another format")
            valid.append((unpack_from("<Q", slot, 32)[0], slot))
        want(valid, "no valid root")
        self.generation, slot = max(valid)
        self.store_id = slot[16:32]
        self.page_size, self.pps, self.chunk_blocks = unpack_from("<III", slot, 40)
        self.epoch, self.sequence, self.address, self.version = unpack_from("<QQQI", slot, 56)
        self.main_ref, self.versions_ref = Reference(slot[88:112]), Reference(slot[112:136])
        self.root_durable = unpack_from("<Q", slot, 200)[0]
        self.node_bytes = min(self.page_size, 16384)

    def blocks(self, address, length):
        """length bytes from a block on; fewer where the chunk's file ends"""
        chunk, block = divmod(address, self.chunk_blocks)
        try:
            with open(os.path.join(self.directory, "chunks", "%08x.chunk" % chunk), "rb") as file:
                file.seek(block * self.page_size)
                return file.read(length)
        except FileNotFoundError:
            return b""

    def blob(self, ref, kind, most):
        data = self.blocks(ref.address, ref.bytes)
        want(len(data) == ref.bytes and checksum(data, kind) == ref.checksum, "a blob's checksum")
        if not ref.flags & 1:
            return data
        buffer = ctypes.create_string_buffer(most)
        length = ZSTD(buffer, most, data, len(data))
        want(length <= most, "a compressed blob")
        return buffer.raw[:length]

    def cells(self, ref, kind, level=None):
        """(key, value) of all leaves of a tree, in order"""
        if ref.null:
            return
        node = self.blob(ref, 1, self.node_bytes)
        magic, here, of, count, heap, lost, zero = unpack_from("<4sBBHHHI", node)
        want(len(node) == self.node_bytes and magic == b"MNOD" and of == kind and count and not zero and here <= 16
             and level in (None, here), "a node's header")
        before, total = None, lost
        for at in unpack_from("<%dH" % count, node, 16):
            key_length, value_length = unpack_from("<HH", node, at)
            end = at + 4 + key_length + value_length
            want(heap <= at and end <= len(node) and key_length <= 16 and value_length <= 1104, "a cell")
            key, value = node[at + 4:at + 4 + key_length], node[end - value_length:end]
            want(before is None or before < key, "the order of keys")
            before, total = key, total + end - at
            yield from self.cells(Reference(value), kind, here - 1) if here else [(key, value)]
        want(total == len(node) - heap, "the bytes of a node's cells")

    def load_version(self, ref):
        version = Version()
        for key, value in self.cells(ref, 1):
            if key[0] == 1:
                version.inodes[unpack(">I", key[1:])[0]] = inode(value)
            elif key[0] == 2:
                version.entries[unpack(">IQ", key[1:])] = unpack_from("<II", value) + (value[8:],)
            elif key[0] == 3:
                bucket, slot = unpack(">II", key[1:])
                self.load_slot(version.pages.setdefault(bucket, {}), slot * self.pps, value)
            else:
                want(key[0] == 4 and not value, "a key of an unknown type")
        return version

    def load_slot(self, pages, first, value):
        ref, count = Reference(value[:24]), unpack_from("<H", value, 24)[0]
        want(count <= 48 and len(value) == 26 + 14 * count, "a slot")
        data = b"" if ref.null else self.blob(ref, 2, self.pps * 12)
        want(len(data) % 12 == 0, "a slot's blob")
        entries = [(i // 12, data[i:i + 12]) for i in range(0, len(data), 12)]
        entries += [(unpack_from("<H", value, at)[0], value[at + 2:at + 14]) for at in range(26, len(value), 14)]
        for index, entry in entries:  # deltas come last and win, absent ones too
            word, sum_of_page = unpack("<QI", entry)
            pages.pop(first + index, None)
            if word:
                pages[first + index] = word & ADDRESS_MASK, sum_of_page

    def group_at(self, address):
        """(header, records) of the group there, or None"""
        head = self.blocks(address, self.page_size)
        if len(head) < self.page_size or head[:24] != b"MOJOGRUP" + self.store_id:
            return None
        group = dict(zip("epoch sequence durable address headers data count bytes flags".split(),
                         unpack_from("<QQQQIIIII", head, 24)))
        bytes_of_header = group["headers"] * self.page_size
        group["end"] = address + group["headers"] + group["data"]
        if (group["address"] != address or not group["headers"] or bytes_of_header > 1 << 20 or group["flags"] & ~1
                or group["end"] > (address // self.chunk_blocks + 1) * self.chunk_blocks
                or group["durable"] >= group["sequence"] or group["bytes"] > bytes_of_header - 96):
            return None
        head = self.blocks(address, bytes_of_header)
        if checksum(head[96:], checksum(head[:88], 0)) != unpack_from("<Q", head, 88)[0]:
            return None
        records, at, end = [], 96, 96 + group["bytes"]
        while at < end:
            kind, flags, length = unpack_from("<HHI", head, at)
            want(not flags or (flags, kind) in ((1, 3), (1, 5), (1, 6), (1, 7), (1, 8), (1, 16), (2, 2)), "a record's flags")
            records.append((kind, head[at + 8:at + 8 + length], flags))
            at += 8 + length
        want(at == end and len(records) == group["count"], "the records of a group")
        return group, records

    def next_group(self, address, sequence, epoch):
        for place in (address, address + -address % self.chunk_blocks):
            found = self.group_at(place)
            if found and found[0]["sequence"] == sequence and (
                    found[0]["epoch"] == epoch or found[1][:1] == [(1, struct.pack("<Q", epoch), 0)]):
                return found
        return None

    def is_whole(self, group, records):
        address = group["address"] + group["headers"]
        for payload, flags in ((payload, flags) for kind, payload, flags in records if kind == 2):
            _, seed, first, count = unpack_from("<IIII", payload)
            if flags & 2:
                seed = unpack_from("<I", payload, 16)[0]
            for i, sum_of_page in enumerate(unpack("<%dI" % count, payload[20 if flags & 2 else 16:])):
                if page_checksum(self.blocks(address, self.page_size), seed, first + i) != sum_of_page:
                    return False
                address += 1
        return True

    def replay(self):
        groups, durable, self.replayed = [], self.root_durable, 0
        address, sequence, epoch = self.address, self.sequence, self.epoch
        while found := self.next_group(address, sequence, epoch):
            groups.append(found)
            address, sequence, epoch = found[0]["end"], sequence + 1, found[0]["epoch"]
            durable = max(durable, found[0]["durable"])
        for i, (group, _) in enumerate(groups):
            if group["flags"] & 1:
                if group["sequence"] > durable and not all(self.is_whole(*g) for g in groups[self.replayed:i + 1]):
                    break
                self.replayed = i + 1
        want(self.sequence + self.replayed > durable, "groups that were durable are lost")
        for group, records in groups[:self.replayed]:
            address = group["address"] + group["headers"]
            for kind, payload, flags in records:
                address += self.apply(kind, payload, flags, address)
            want(address == group["end"], "data blocks are left over")

    def unpublished(self):
        """the version that is frozen and not published, to be changed"""
        frozen = self.frozen.get(self.version - 1)
        want(frozen and frozen.flags & 1, "an unpublished version")
        self.view(self.version - 1)
        return frozen.tree

    def apply(self, kind, payload, flags, address):
        """one record; returns how many data blocks are its own"""
        now, numbers = self.active, unpack_from("<%dI" % min(len(payload) // 4, 4), payload)
        if kind != 8 and flags & 1 or kind == 2 and numbers[0] != self.version:
            now = self.unpublished()
        if kind == 2:
            version, bucket, first, count = numbers
            want(version in (self.version, self.version - 1) and bucket in now.inodes, "pages of what is not there")
            for i, sum_of_page in enumerate(unpack("<%dI" % count, payload[20 if flags & 2 else 16:])):
                now.pages.setdefault(bucket, {})[first + i] = address + i, sum_of_page
            return count
        if kind == 3:
            now.inodes[numbers[0]] = inode(payload[4:])
        elif kind == 4:
            directory, child, cookie, mode, length = unpack_from("<IIQII", payload)
            want(length == len(payload) - 24, "a name's length")
            now.entries[directory, cookie] = child, mode, payload[24:]
        elif kind == 5:
            want(now.entries.pop(unpack("<IQ", payload), None), "an entry to unlink")
        elif kind == 6:
            now.inodes.pop(numbers[0], None), now.pages.pop(numbers[0], None)
        elif kind == 7:
            bucket, first, count = unpack("<IQQ", payload)
            of = now.pages.get(bucket, {})
            now.pages[bucket] = {page: of[page] for page in of if not first <= page < first + count}
        elif kind == 8:
            version, length, time = unpack_from("<IIq", payload)
            want(version == self.version and length == len(payload) - 16, "a commit")
            want(not any(frozen.flags & 1 for frozen in self.frozen.values()), "a version published before the next")
            self.frozen[version] = Frozen(Version(now), time, payload[16:], flags & 1)
            self.version += 1
        elif kind == 9:
            want(self.frozen.pop(numbers[0], None), "a version to drop")
        elif kind == 10:
            return unpack("<QI", payload)[1]
        elif kind == 11:
            want(self.unpublished() and numbers == (self.version - 1,), "a version to publish")
            self.frozen[self.version - 1].flags &= ~1
        elif kind == 14:
            number, source, target, first, count, size, _ = unpack("<IIIQQQq", payload)
            seeds = [of[14] or bucket for of, bucket in
                     ((self.view(number).inodes[source], source), (now.inodes[target], target))]
            want(seeds[0] == seeds[1] or not now.pages.get(target), "a clone of another seed")
            pages = {page: of for page, of in now.pages.get(target, {}).items() if not first <= page < first + count}
            pages.update((page, of) for page, of in self.view(number).pages.get(source, {}).items()
                         if first <= page < first + count)
            was = now.inodes[target]
            now.pages[target] = pages
            now.inodes[target] = was[:6] + (max(was[6], size),) + was[7:14] + (seeds[0],)
        elif kind == 15:
            want(numbers[0] in self.frozen and numbers[1] < 3 and len(payload) <= 208, "a verdict")
            self.frozen[numbers[0]].verdict = numbers[1], payload[8:]
        elif kind == 16:
            bucket, first, count = unpack_from("<III", payload)
            below = self.version - (flags & 1)
            want(count and len(payload) == 12 + 12 * count and bucket in now.inodes, "shared pages")
            for i in range(count):
                word, sum_of_page = unpack_from("<QI", payload, 12 + 12 * i)
                want(0 < word >> 40 < below and 0 < word & ADDRESS_MASK < address, "the entry of a shared page")
                now.pages.setdefault(bucket, {})[first + i] = word & ADDRESS_MASK, sum_of_page
        else:
            want(kind == 1, "a record of an unknown type")
        return 0

    def view(self, number):
        if number in (0, self.version):
            return self.active
        frozen = self.frozen[number]
        if not isinstance(frozen.tree, Version):
            frozen.tree = self.load_version(frozen.tree)
        return frozen.tree

    def walk(self, version, directory=1, path=b""):
        """(path, bucket) of all there is below a directory"""
        children = sorted(item for item in version.entries.items() if item[0][0] == directory)
        want(len(children) == version.inodes[directory][6], "a directory's number of entries")
        for (_, cookie), (child, mode, name) in children:
            inode, first = version.inodes[child], 1 << 61 | checksum(name, 0) >> 10 << 7
            want(first <= cookie < first + 128 and (inode[5], inode[12]) == (directory, cookie) and
                 stat.S_IFMT(mode) == stat.S_IFMT(inode[0]), "an entry's cookie, parent or type")
            yield path + name, child
            if stat.S_ISDIR(inode[0]):
                yield from self.walk(version, child, path + name + b"/")

    def content(self, version, bucket):
        """the bytes of a file, in pieces"""
        left, pages, seed = version.inodes[bucket][6], version.pages.get(bucket, {}), version.inodes[bucket][14] or bucket
        for page in range(-(-left // self.page_size)):
            data = self.blocks(pages[page][0], self.page_size) if page in pages else bytes(self.page_size)
            want(page not in pages or pages[page][0] and page_checksum(data, seed, page) == pages[page][1],
                 "bucket %d, page %d: the checksum" % (bucket, page))
            yield data[:left]
            left -= self.page_size

def main(directory, number=None, wanted=None):
    store, out = Store(directory), sys.stdout.buffer
    if number is None:
        print("active version %d, root %d, %d groups replayed" % (store.version, store.generation, store.replayed))
        for number, frozen in sorted(store.frozen.items()):
            verdict = ("", " [verified]", " [bad]")[frozen.verdict[0]]
            state = " (not published)" if frozen.flags & 1 else ""
            print(number, frozen.time, frozen.message.decode(errors="replace") + verdict + state)
        return 0
    version = store.view(int(number))
    for path, bucket in store.walk(version):
        mode, size, digest = version.inodes[bucket][0], version.inodes[bucket][6], hashlib.sha256()
        if wanted is not None and path != os.fsencode(wanted):
            continue
        for piece in store.content(version, bucket) if stat.S_ISREG(mode) or stat.S_ISLNK(mode) else ():
            digest.update(piece) if wanted is None else out.write(piece)
        if wanted is not None:
            return 0
        out.write(b"%c %d %s %s\n" % (stat.filemode(mode)[0].encode(), size, digest.hexdigest().encode(), path))
    return 0 if wanted is None else 1

if __name__ == "__main__":
    if len(sys.argv) not in (2, 3, 4):
        sys.exit(__doc__)
    try:
        sys.exit(main(*sys.argv[1:]))
    except (Damaged, OSError, ValueError, KeyError, IndexError, struct.error, RecursionError) as error:
        sys.exit("readstore.py: %s: %r" % (sys.argv[1], error))
