"""Where the structures of an ISO 9660 image lie, so that a mutation can aim at them (ECMA-119, SUSP 1.12)."""

from __future__ import annotations

import struct
from typing import List, NamedTuple, Tuple

SECTOR = 2048
DIRECTORY = 0x02  # file flags, ECMA-119, 9.1.6
MULTI_EXTENT = 0x80


class Susp(NamedTuple):
    """One System Use entry."""

    offset: int
    signature: bytes
    length: int


class Record(NamedTuple):
    """One directory record. `ancestors` are the (extent, length) of the directories above, the root first."""

    offset: int
    size: int
    name: int  # length of the file identifier, which starts at 33
    directory: bool
    special: bool  # "." or ".."
    extent: int
    length: int
    ancestors: Tuple[Tuple[int, int], ...]
    susp: Tuple[Susp, ...]

    @property
    def system_use(self) -> int:
        """Offset of the System Use area: after the identifier and its padding byte."""
        return self.offset + 33 + self.name + (self.name % 2 == 0)

    @property
    def end(self) -> int:
        return self.offset + self.size


class Layout(NamedTuple):
    """An image and where things are in it, as offsets in bytes."""

    name: str
    image: bytes
    descriptors: Tuple[int, ...]
    tables: Tuple[Tuple[int, int, bool], ...]  # offset, length, big-endian
    records: Tuple[Record, ...]


def both(value: int) -> bytes:
    """A number in both byte orders, ECMA-119, 7.3.3."""
    return struct.pack("<I", value & 0xFFFFFFFF) + struct.pack(">I", value & 0xFFFFFFFF)


def little(image: bytes, offset: int) -> int:
    """Four bytes, least significant first."""
    number: int = struct.unpack_from("<I", image, offset)[0]
    return number


def parse(name: str, image: bytes) -> Layout:
    """Find the structures of a healthy image."""
    descriptors: List[int] = []
    tables: List[Tuple[int, int, bool]] = []
    records: List[Record] = []
    offset = 16 * SECTOR
    while image[offset + 1 : offset + 6] == b"CD001":
        descriptors.append(offset)
        if image[offset] in (1, 2):
            size = little(image, offset + 132)
            tables.append((little(image, offset + 140) * SECTOR, size, False))
            tables.append((struct.unpack_from(">I", image, offset + 148)[0] * SECTOR, size, True))
            _walk(image, little(image, offset + 158), little(image, offset + 166), records)
        if image[offset] == 255:
            break
        offset += SECTOR
    return Layout(name, image, tuple(descriptors), tuple(tables), tuple(records))


def _walk(image: bytes, extent: int, length: int, records: List[Record]) -> None:
    pending: List[Tuple[int, int, Tuple[Tuple[int, int], ...]]] = [(extent, length, ())]
    while pending:
        extent, length, above = pending.pop()
        here = (*above, (extent, length))
        offset, end = extent * SECTOR, extent * SECTOR + length
        while offset < end:
            size = image[offset]
            if size < 34:
                offset += SECTOR - offset % SECTOR
                continue
            name = image[offset + 32]
            special = name == 1 and image[offset + 33] in (0, 1)
            directory = bool(image[offset + 25] & DIRECTORY)
            start = offset + 33 + name + (name % 2 == 0)
            record = Record(
                offset,
                size,
                name,
                directory,
                special,
                little(image, offset + 2),
                little(image, offset + 10),
                here,
                tuple(_susp(image, start, offset + size)),
            )
            records.append(record)
            if directory and not special:
                pending.append((record.extent, record.length, here))
            offset += size


def _susp(image: bytes, offset: int, end: int, depth: int = 0) -> List[Susp]:
    entries: List[Susp] = []
    while offset + 4 <= end and image[offset + 2] >= 4 and offset + image[offset + 2] <= end:
        signature, length = image[offset : offset + 2], image[offset + 2]
        entries.append(Susp(offset, signature, length))
        if signature == b"CE" and depth < 4:
            start = little(image, offset + 4) * SECTOR + little(image, offset + 12)
            entries += _susp(image, start, start + little(image, offset + 20), depth + 1)
        offset += length
    return entries
