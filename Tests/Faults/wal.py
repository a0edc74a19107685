"""Reads the write-ahead logs of ended members, Apus and etcd alike, without either's code."""

import dataclasses
import pathlib
import struct

ENTRY, STATE, CRC, METADATA, SNAPSHOT = 2, 3, 4, 1, 5
PAYLOAD, CONFIGURATION = 0, 1


class Broken(Exception):
    pass


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def fields(data):
    """A protobuf message as {number: last value}; lengths give bytes."""
    found, at = {}, 0
    while at < len(data):
        tag, at = varint(data, at)
        if tag & 7 == 0:
            found[tag >> 3], at = varint(data, at)
        elif tag & 7 == 2:
            size, at = varint(data, at)
            found[tag >> 3] = bytes(data[at:at + size])
            at += size
        else:
            raise Broken(f"wire type {tag & 7}")
    return found


def make_table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


TABLE = make_table()


def crc32c(crc, data):
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


@dataclasses.dataclass
class Record:
    offset: int  # of its length field
    end: int
    kind: int
    crc: int
    data: bytes


def records(content):
    """The records of one segment, up to the first thing that is none. Checksums are not looked at."""
    at = 0
    while at + 8 <= len(content):
        (word,) = struct.unpack_from("<Q", content, at)
        size = word & (1 << 56) - 1
        padding = word >> 56 & 7 if word >> 63 else 0
        if word == 0 or at + 8 + size + padding > len(content):
            return
        try:
            message = fields(content[at + 8:at + 8 + size])
        except (IndexError, Broken):
            return
        yield Record(at, at + 8 + size + padding, message.get(1, 0), message.get(2, 0), message.get(3, b""))
        at += 8 + size + padding


@dataclasses.dataclass
class Log:
    entries: dict  # index -> (term, kind, data)
    commit: int
    term: int
    start: int  # index of the newest snapshot record; what is before it may be missing

    @property
    def committed(self):
        return {index: entry for index, entry in self.entries.items() if index <= self.commit}


def segments(folder):
    return sorted(pathlib.Path(folder).glob("*.wal"))


def read(folder, check=False):
    """The log in a folder of segments. `check` verifies checksums, which takes long in Python."""
    log, crc, last = Log({}, 0, 0, 0), 0, 0
    for path in segments(folder):
        for record in records(path.read_bytes()):
            if record.kind == CRC:
                if check and crc and record.crc != crc:
                    raise Broken(f"{path}: checksum of the segments before")
                crc = record.crc
                continue
            if check:
                crc = crc32c(crc, record.data)
                if crc != record.crc:
                    raise Broken(f"{path}: checksum at {record.offset}")
            message = fields(record.data)
            if record.kind == ENTRY:
                index = message.get(3, 0)
                for old in range(index, last + 1):  # a later leader's replace these
                    log.entries.pop(old, None)
                last = index
                log.entries[index] = (message.get(2, 0), message.get(1, 0), message.get(4, b""))
            elif record.kind == STATE:
                log.term, log.commit = message.get(1, 0), message.get(3, 0)
            elif record.kind == SNAPSHOT:
                log.start = max(log.start, message.get(1, 0))
                if log.start > log.commit:  # received: what was not committed before may never have been
                    log.entries.clear()
                    last = log.start
    return log
