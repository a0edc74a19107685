"""What a power cut leaves of a member's files, told from the shim's journal of all writes and syncs.

A file's durable content is what was written before a sync of it began that has ended. Of what was written
later, any sector of 512 bytes may have reached the disk in any state it went through, whole files or none of
it. Names made, changed and removed are durable once their folder was synced; later changes of a folder
reached the disk in order, up to any of them.
"""

import os
import shutil
import struct
import subprocess
from collections import defaultdict

HEAD = struct.Struct("<ccHIQQQQ")
SECTOR = 512


class File:
    """`path` holds the durable content; `pending` what was written since: (kind, offset, bytes or length)."""

    def __init__(self, path):
        self.path, self.pending = path, []
        self.durable = set()  # positions in `pending` that a synchronous write has made durable

    def settle(self, count):
        """The first pending changes are durable, in order."""
        with open(self.path, "r+b") as file:
            for change in self.pending[:count]:
                apply(file, change)
        self.pending = self.pending[count:]
        self.durable = {position - count for position in self.durable if position >= count}

    def cut(self, mode, random):
        """Applies what of the pending changes happens to be on the disk. Returns how many bytes were lost."""
        sectors = defaultdict(list)
        for position, change in enumerate(self.pending):
            kind, offset, data = change
            if kind == "write":
                size = data if isinstance(data, int) else len(data)
                for sector in range(offset // SECTOR, (offset + size + SECTOR - 1) // SECTOR):
                    sectors[sector].append(position)
        until = random.randrange(len(self.pending) + 1)  # of mode "prefix"
        tear = random.randrange(1 << 12)
        lost = 0
        with open(self.path, "r+b") as file:
            for sector, positions in sorted(sectors.items()):
                least = max((n + 1 for n, each in enumerate(positions) if each in self.durable), default=0)
                match mode:
                    case "none": count = least
                    case "all": count = len(positions)
                    case "prefix":
                        count = sum(each < until for each in positions)
                        if until in positions and sector - self.pending[until][1] // SECTOR < tear % 8:
                            count += 1
                    case "bytes": count = sum(each < until for each in positions)
                    case "sectors": count = random.randint(least, len(positions))
                for position in positions[:max(count, least)]:
                    apply(file, clip(self.pending[position], sector * SECTOR, (sector + 1) * SECTOR))
                lost += SECTOR * (count < len(positions))
            if mode == "bytes" and until < len(self.pending) and isinstance(self.pending[until][2], bytes):
                kind, offset, data = self.pending[until]
                apply(file, (kind, offset, data[:random.randrange(len(data) + 1)]))
            for kind, *rest in self.pending:
                if kind != "write" and mode != "none" and (mode == "all" or random.random() < 0.5):
                    apply(file, (kind, *rest))
        self.pending, self.durable = [], set()
        return lost


def apply(file, change):
    kind, offset, data = change
    if kind == "truncate":
        file.truncate(data)
    elif kind == "reserve":
        file.seek(0, os.SEEK_END)
        if file.tell() < offset + data:
            file.truncate(offset + data)
    elif isinstance(data, int):  # zeros, kept as holes where nothing was
        file.seek(0, os.SEEK_END)
        end = file.tell()
        if offset < end:
            file.seek(offset)
            file.write(bytes(min(data, end - offset)))
        if offset + data > end:
            file.truncate(offset + data)
    else:
        file.seek(offset)
        file.write(data)


def clip(change, low, high):
    kind, offset, data = change
    size = data if isinstance(data, int) else len(data)
    start, end = max(offset, low), min(offset + size, high)
    return kind, start, end - start if isinstance(data, int) else data[start - offset:end - offset]


class Folder:
    def __init__(self):
        self.now, self.durable = {}, {}  # name -> File or Folder
        self.pending = []  # changes of `now` that are not in `durable` yet: lists of (name, node or None)

    def change(self, *pairs):
        for name, node in pairs:
            self.now.pop(name, None)
            if node is not None:
                self.now[name] = node
        self.pending.append(pairs)

    def settle(self, count):
        for pairs in self.pending[:count]:
            for name, node in pairs:
                self.durable.pop(name, None)
                if node is not None:
                    self.durable[name] = node
        self.pending = self.pending[count:]


class Disk:
    """The files below `root`, which exists, as a disk would hold them."""

    def __init__(self, root):
        self.root = root
        self.journal = root.with_name(root.name + ".journal")
        self.images = root.with_name(root.name + ".images")
        self.arm()

    def arm(self):
        """All that is there now counts as durable."""
        self.journal.unlink(missing_ok=True)
        shutil.rmtree(self.images, ignore_errors=True)
        self.images.mkdir()
        self.files = {}  # inode -> File
        self.count = 0
        self.top = self.scan(self.root)

    def scan(self, path):
        folder = Folder()
        for each in sorted(path.iterdir()):
            if each.is_dir():
                node = self.scan(each)
            else:
                node = self.new_file()
                subprocess.run(["cp", "--sparse=always", each, node.path], check=True)
                self.files[each.stat().st_ino] = node
            folder.now[each.name] = folder.durable[each.name] = node
        return folder

    def new_file(self):
        self.count += 1
        file = File(self.images / str(self.count))
        file.path.touch()
        return file

    def folder(self, path):
        """The folder at a path, or None."""
        node = self.top
        for part in os.path.relpath(path, self.root).split("/"):
            if part != ".":
                node = node.now.get(part) if isinstance(node, Folder) else None
        return node

    def split(self, path):
        return self.folder(os.path.dirname(path)), os.path.basename(path)

    def replay(self):
        data = self.journal.read_bytes() if self.journal.exists() else b""
        at, begun = 0, {}
        while at + HEAD.size <= len(data):
            kind, synchronous, name_size, size, inode, offset, length, token = HEAD.unpack_from(data, at)
            at += HEAD.size
            name = data[at:at + name_size].decode()
            body = data[at + name_size:at + name_size + size]
            at += name_size + size
            if at > len(data):
                break  # the process ended while it wrote this
            match kind.decode():
                case "B": begun.clear()
                case "C":
                    self.files[inode] = node = self.new_file()
                    folder, last = self.split(name)
                    folder.change((last, node))
                case "M":
                    folder, last = self.split(name)
                    folder.change((last, Folder()))
                case "N": self.rename(*name.split(">"))
                case "U":
                    folder, last = self.split(name)
                    folder.change((last, None))
                case "D":
                    begun[token] = Ending(self.folder(name))
                case "S": begun[token] = Ending(self.files[inode])
                case "E":
                    if ending := begun.pop(token, None):
                        ending.run()
                case "W" | "Z":
                    file = self.files[inode]
                    file.pending.append(("write", offset, body if kind == b"W" else length))
                    if synchronous != b"\0":
                        begun[token] = Ending(file, single=True)
                case "T": self.files[inode].pending.append(("truncate", 0, length))
                case "R": self.files[inode].pending.append(("reserve", offset, length))

    def rename(self, old, new):
        (source, name), (target, other) = self.split(old), self.split(new)
        node = source.now[name]
        if source is target:
            source.change((name, None), (other, node))
        else:
            target.change((other, node))
            source.change((name, None))

    def cut(self, random, mode=None):
        """Puts on the real disk what the power cut leaves; the member must have been killed.

        Returns a description: the mode, bytes lost, changes of folders undone."""
        self.replay()
        mode = mode or random.choice(["none", "all", "prefix", "bytes", "sectors", "sectors", "mixed", "mixed"])
        lost = undone = 0

        def walk(folder):
            nonlocal lost, undone
            count = {"none": 0, "all": len(folder.pending)}.get(mode, random.randint(0, len(folder.pending)))
            undone += len(folder.pending) - count
            folder.settle(count)
            for name, node in sorted(folder.durable.items()):
                if isinstance(node, Folder):
                    walk(node)
                else:
                    lost += node.cut(random.choice(["none", "all", "prefix", "bytes", "sectors"])
                                     if mode == "mixed" else mode, random)

        def place(folder, path):
            path.mkdir()
            for name, node in folder.durable.items():
                if isinstance(node, Folder):
                    place(node, path / name)
                else:
                    os.link(node.path, path / name)

        walk(self.top)
        shutil.rmtree(self.root)
        place(self.top, self.root)
        for each in self.images.iterdir():  # links of one file under two names would share writes: none are left
            each.unlink()
        self.arm()
        return f"{mode}, {lost} bytes lost, {undone} names undone"


class Ending:
    """What the end of a sync makes durable: all pending changes of a node, or one write of a file."""

    def __init__(self, node, single=False):
        self.node, self.single = node, single
        self.changes = node.pending[-1:] if single else node.pending[:]

    def run(self):
        count = 0
        known = {id(each) for each in self.changes}
        if self.single:
            for position, each in enumerate(self.node.pending):
                if id(each) in known:
                    self.node.durable.add(position)
            return
        while count < len(self.node.pending) and id(self.node.pending[count]) in known:
            count += 1
        self.node.settle(count)
