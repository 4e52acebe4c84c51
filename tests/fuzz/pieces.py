"""What mutations are made of: hostile values, and ways to overwrite and add to an image."""

from __future__ import annotations

import random
import struct
from typing import Sequence

from layout import DIRECTORY, SECTOR, Layout, Record, both

NUMBERS = (0, 1, 2, 15, 16, 17, 18, 33, 0xFF, 0x7FF, 0x800, 0x801, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000)
NUMBERS += (0xFFFFFFFE, 0xFFFFFFFF, -2, -2048)
BAD_NAMES = (
    b"..",
    b".",
    b"/",
    b"../../etc/passwd",
    b"/etc/shadow",
    b"a/b",
    b"\0",
    b"\0\0",
    b"x\0.txt",
    b"\x1b[2J",
)
BAD_NAMES += (
    b"\n",
    b"\r\nEXAMPLE",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xe2\x80\xae.txt",
    b"-rf",
    b"%s%n",
    b" ",
    b";1",
)
BAD_CONTENT = (
    b'{"uuid":' + b"[" * 3000,
    b"[" * 100000,
    b'{"a":' * 5000,
    b'{"uuid": ' + b"9" * 5000 + b"}",
    b'{"cloud-name": "x", "uuid": "\\ud800", "hostname": "\\u0000"}',
    b'{"cloud-name": "x", "a/../b": "v", "k": NaN, "big": 1e999}',
    b'\xef\xbb\xbf{"cloud-name": "\\ud83d\\ude00"}',
    b"\0" * 300,
    b"\xff" * 300,
    b"\x1b]0;title\x07\r\n" * 20,
    b"<html><body>login</body></html>",
    b"\\u0000\\ud800\\uFFFF\\u000a" * 10,
    b"ssh-ed25519 AAAA\n" * 50,
    b"\n" * 3000,
)
SIGNATURES = (
    b"SP",
    b"ST",
    b"ER",
    b"ES",
    b"CE",
    b"PD",
    b"RR",
    b"PX",
    b"PN",
    b"SL",
    b"NM",
    b"CL",
    b"PL",
    b"RE",
)
SIGNATURES += (b"TF", b"SF", b"AL", b"ZF", b"\0\0")


def put(data: bytearray, offset: int, piece: bytes) -> None:
    """Overwrite, within the image."""
    if 0 <= offset < len(data):
        piece = piece[: len(data) - offset]
        data[offset : offset + len(piece)] = piece


def at(data: bytearray, offset: int) -> int:
    """The byte at an offset, 0 past the end: a splice may have made the image shorter."""
    return data[offset] if offset < len(data) else 0


def append(data: bytearray, piece: bytes) -> int:
    """Add sectors at the end; the first one's number."""
    data += bytes(-len(data) % SECTOR)
    sector = len(data) // SECTOR
    data += piece + bytes(-len(piece) % SECTOR)
    return sector


def spot(layout: Layout, chance: random.Random) -> int:
    """An offset, mostly within a structure."""
    kind = chance.randrange(10)
    if kind < 2:
        return chance.choice(layout.descriptors) + chance.choice(
            (chance.randrange(200), chance.randrange(SECTOR))
        )
    if kind < 4:
        offset, length, _big = chance.choice(layout.tables)
        return offset + chance.randrange(max(1, length))
    record = chance.choice(layout.records)
    if kind < 7 or not record.susp:
        return record.offset + chance.randrange(record.size)
    if kind < 9:
        entry = chance.choice(record.susp)
        return entry.offset + chance.randrange(entry.length)
    return chance.randrange(16 * SECTOR, len(layout.image))


def any_record(layout: Layout, chance: random.Random, *, directory: bool = False) -> Record:
    """A record; one of a directory's if asked for."""
    return chance.choice([one for one in layout.records if one.directory or not directory])


def chain(data: bytearray, links: int, *, ring: bool = False, filler: bytes = b"") -> int:
    """Continuation areas, packed into sectors, that each go on in the next; the first one's sector."""
    size = len(filler) + 28
    first = append(data, b"")
    block = b""
    places = [(index // (SECTOR // size), index % (SECTOR // size) * size) for index in range(links + 1)]
    for index in range(links):
        sector, offset = places[0 if ring and index == links - 1 else index + 1]
        block = block.ljust(places[index][0] * SECTOR + places[index][1], b"\0")
        block += filler + b"CE\x1c\x01" + both(first + sector) + both(offset)
        block += both(4 if index == links - 1 and not ring else size)
    block = block.ljust(places[links][0] * SECTOR + places[links][1], b"\0")
    append(data, block + b"ST\x04\x01")
    return first


def entry_of(name: bytes, extent: int, length: int, *, directory: bool = True, here: int) -> bytes:
    """A directory record; moved to the next sector where it would cross the border of one."""
    size = 33 + len(name) + (len(name) % 2 == 0)
    record = bytes([size, 0]) + both(extent) + both(length) + bytes(7) + bytes([DIRECTORY * directory, 0, 0])
    record += struct.pack("<H", 1) + struct.pack(">H", 1) + bytes([len(name)]) + name
    gap = SECTOR - here % SECTOR if here % SECTOR + size > SECTOR else 0
    return bytes(gap) + record.ljust(size, b"\0")


def directory_of(here: int, above: int, places: Sequence[int], size: int) -> bytes:
    """A directory of `size` sectors that stands in sector `here`, with a directory for each place."""
    length = size * SECTOR
    block = entry_of(b"\0", here, length, directory=True, here=0)
    block += entry_of(b"\1", above, length, directory=True, here=len(block))
    for index, place in enumerate(places):
        block += entry_of(f"D{index:05}".encode(), place, length, directory=True, here=len(block))
    return block.ljust(length, b"\0")


def sectors_for(width: int) -> int:
    return 1 + (width + 2) * 40 // (SECTOR - 40)


def list_in_path_tables(data: bytearray, layout: Layout, extents: Sequence[int]) -> None:
    """New path tables that also have these directories, all below the root."""
    tables = list(layout.tables)
    for descriptor in layout.descriptors:
        if layout.image[descriptor] not in (1, 2):
            continue
        for field in (140, 148):
            offset, length, big = tables.pop(0)
            table = bytes(data[offset : offset + length])
            table += b"".join(
                struct.pack(">BBIH" if big else "<BBIH", 1, 0, extent, 1) + b"D\0" for extent in extents
            )
            put(data, descriptor + 132, both(len(table)))
            put(data, descriptor + field, struct.pack(">I" if big else "<I", append(data, table)))


def padding(size: int) -> bytes:
    return b"PD" + bytes([size, 1]) + bytes(size - 4)
