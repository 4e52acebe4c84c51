"""Mutants of a healthy image. Mutant N of a seed is always the same, whatever else is run beside it."""

from __future__ import annotations

import random
import struct
from typing import Callable, List, Sequence, Tuple

from bombs import grown_trees, long_chain, many_descriptors, overlapping_directories
from layout import DIRECTORY, MULTI_EXTENT, SECTOR, Layout, Susp, both
from pieces import (
    BAD_CONTENT,
    BAD_NAMES,
    NUMBERS,
    SIGNATURES,
    any_record,
    append,
    at,
    chain,
    put,
    spot,
)

IMAGE_LIMIT = 6 << 20  # bytes; what grows stops here
HEAVY = 0.001  # share of mutants made to use up CPU or memory: each costs seconds
Mutation = Callable[[bytearray, Layout, random.Random], None]


class Maker:
    """Makes mutants of some images.

    Args:
        seed: of all random choices.
        images: the healthy ones.
        marker: the path of a file outside, for symlinks and names to lead to.
    """

    def __init__(self, seed: int, images: Sequence[Layout], marker: str) -> None:
        self.seed = seed
        self.images = images
        self.marker = marker.encode()

    def make(self, number: int) -> Tuple[str, bytes]:
        """Mutant `number`: how it was made, and its bytes."""
        chance = random.Random(f"{self.seed}:{number}")
        layout = chance.choice(self.images)
        data = bytearray(layout.image)
        done: List[str] = []
        if chance.random() < HEAVY:
            heavy = chance.choice((long_chain, overlapping_directories, many_descriptors))
            heavy(data, layout, chance)
            return f"{layout.name} {heavy.__name__}", bytes(data[:IMAGE_LIMIT])
        for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 5))):
            if chance.random() < 0.12:
                self.links(data, layout, chance)
                done.append("links")
            elif chance.random() < 0.06:
                self.splice(data, layout, chance)
                done.append("splice")
            else:
                mutation = chance.choice(MUTATIONS)
                mutation(data, layout, chance)
                done.append(mutation.__name__)
        if chance.random() < 0.06:  # last, since the rest needs whole structures
            truncation(data, layout, chance)
            done.append("truncation")
        return f"{layout.name} {' '.join(done)}", bytes(data[:IMAGE_LIMIT])

    def splice(self, data: bytearray, layout: Layout, chance: random.Random) -> None:
        """A part of another image, or of this one, in another place."""
        other = chance.choice(self.images).image
        kind = chance.randrange(4)
        if kind == 0:
            cut = chance.randrange(16, 64) * SECTOR
            data[cut:] = other[cut:]
            return
        for _ in range(chance.choice((1, 1, 2, 8))):
            source = chance.randrange(16, len(other) // SECTOR) * SECTOR
            target = source if kind == 1 else chance.randrange(16, len(data) // SECTOR) * SECTOR
            size = chance.choice((1, 1, 2, 10)) * SECTOR
            piece = layout.image[source : source + size] if kind == 3 else other[source : source + size]
            put(data, target, piece)

    def links(self, data: bytearray, layout: Layout, chance: random.Random) -> None:
        """Symlink entries that lead out of the drive: absolute, by way of .., in pieces, without an end."""
        records = [record for record in layout.records if record.susp and not record.special]
        if not records:
            names(data, layout, chance)
            return
        for _ in range(chance.choice((1, 1, 3))):
            record = chance.choice(records)
            kind = chance.randrange(5)
            if kind == 0:
                parts = b"\x08\0" + b"".join(_component(part) for part in self.marker.split(b"/") if part)
            elif kind == 1:
                parts = b"\x04\0" * 6 + b"".join(_component(part) for part in self.marker.split(b"/") if part)
            elif kind == 2:
                parts = _component(
                    chance.choice((self.marker, b"../../../etc/passwd", b"/etc/shadow", b".."))
                )
            elif kind == 3:
                parts = b"\x01\x06../../\x01\x06../../\0\x03etc" + bytes([chance.randrange(256), 0xFF])
            else:
                parts = chance.choice((b"\x02\0", b"\x10\0", b"\x20\0", b"\x08\xff", b"\x01\0" * 60, b""))
            link = b"SL" + bytes([5 + len(parts) & 0xFF, 1, chance.choice((0, 0, 0, 1))]) + parts
            mode = b"PX\x24\x01" + both(0o120777) + both(1) + both(0) + both(0)
            name = [
                data[one.offset : one.offset + one.length] for one in record.susp if one.signature == b"NM"
            ]
            use = b"".join([*name, *([mode] if chance.random() < 0.6 else []), link])
            if chance.random() < 0.7 or record.system_use + len(use) > record.end:
                # Into a continuation area of its own: it seldom fits.
                sector = append(data, use)
                use = b"CE\x1c\x01" + both(sector) + both(0) + both(len(use))
            put(data, record.system_use, use[: record.end - record.system_use])


def _component(text: bytes) -> bytes:
    return bytes([0, len(text)]) + text


def bit_flips(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """Some bits."""
    for _ in range(chance.choice((1, 1, 2, 4, 16, 64))):
        offset = spot(layout, chance)
        put(data, offset, bytes([at(data, offset) ^ 1 << chance.randrange(8)]))


def bytes_changed(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """Some bytes, mostly to values at the edge."""
    for _ in range(chance.choice((1, 1, 2, 8))):
        value = chance.choice((0, 1, 2, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        put(data, spot(layout, chance), bytes([value]) * chance.choice((1, 1, 2, 4)))


def truncation(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """Cut off, at a sector or anywhere."""
    end = chance.choice((spot(layout, chance), chance.randrange(len(data)), chance.randrange(60) * SECTOR))
    del data[end:]


def loops(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """A record that is an ancestor, its own directory, or itself."""
    for _ in range(chance.choice((1, 1, 2, 6))):
        record = any_record(layout, chance, directory=chance.random() < 0.7)
        if record.directory and not record.special and chance.random() < 0.3:
            extent, length = record.offset // SECTOR, SECTOR
        else:
            extent, length = chance.choice(record.ancestors)
        put(data, record.offset + 2, both(extent) + both(length))
        if chance.random() < 0.8:
            put(data, record.offset + 25, bytes([at(data, record.offset + 25) | DIRECTORY]))


def continuations(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """SUSP continuation areas that go on in themselves, in each other, or nowhere."""
    records = [record for record in layout.records if record.end - record.system_use >= 28]
    if not records:
        lengths(data, layout, chance)
        return
    for _ in range(chance.choice((1, 1, 4))):
        record = chance.choice(records)
        first = (record.system_use // SECTOR, record.system_use % SECTOR)
        kind = chance.randrange(5)
        sector, offset, length = *first, chance.choice((28, SECTOR, record.size))
        if kind == 1:
            end = len(data) // SECTOR + 1
            append(data, b"CE\x1c\x01" + both(first[0]) + both(first[1]) + both(28))
            sector, offset, length = end - (len(data) % SECTOR == 0), 0, 28
        elif kind == 2:
            sector = chain(data, chance.choice((2, 8, 40)), ring=chance.random() < 0.5)
            offset, length = 0, chance.choice((28, SECTOR))
        elif kind == 3:
            sector, offset = chance.choice(NUMBERS), chance.choice(NUMBERS)
            length = chance.choice(NUMBERS)
        elif kind == 4:
            other = chance.choice(records)
            sector, offset, length = other.offset // SECTOR, other.system_use % SECTOR, 28
        put(data, record.system_use, b"CE\x1c\x01" + both(sector) + both(offset) + both(length))


def lengths(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """Fields that lie: huge, negative, or another number in each byte order."""
    for _ in range(chance.choice((1, 1, 3))):
        kind = chance.randrange(6)
        number = struct.pack("<i" if (value := chance.choice(NUMBERS)) < 0 else "<I", value)
        value = int.from_bytes(number, "little")
        record = any_record(layout, chance)
        if kind < 3:
            target = record.offset + chance.choice((2, 10, 10))
            if chance.random() < 0.5:
                put(data, target, both(value))
            else:
                put(data, target + chance.choice((0, 4)), struct.pack(chance.choice("<>") + "I", value))
        elif kind == 3:
            field = chance.choice(
                (0, 1, 32, 32, 28, 26)
            )  # lengths of record, XA and name; volume, interleave
            put(data, record.offset + field, bytes([chance.choice((0, 1, 33, 34, 127, 254, 255))]))
        elif kind == 4:
            # Volume size, block size, path table size, path tables, root extent and length.
            field = chance.choice((80, 128, 132, 140, 144, 148, 152, 158, 166))
            put(data, chance.choice(layout.descriptors) + field, both(value)[: chance.choice((4, 8))])
        elif record.susp:
            entry = chance.choice(record.susp)
            value = chance.choice((0, 1, 3, 4, 5, 255))
            put(data, entry.offset + chance.choice((2, 2, 3, 4, 7)), bytes([value]))


def path_tables(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """Path table entries with wrong parents, places, names and order."""
    offset, length, big = chance.choice(layout.tables)
    kind = chance.randrange(5)
    if kind == 0:
        put(data, offset, bytes(length))
        return
    if kind == 1:
        put(data, offset, chance.randbytes(length) if hasattr(chance, "randbytes") else b"\xff" * length)
        return
    entries, here = [], offset
    while here < offset + length and at(data, here):
        size = 8 + data[here] + data[here] % 2
        entries.append((here, size))
        here += size
    for here, size in chance.sample(entries, min(len(entries), chance.choice((1, 2, 10)))):
        if kind == 2:
            put(data, here, bytes([chance.choice((0, 1, 2, 128, 255))]))
        elif kind == 3:
            order = ">" if big else "<"
            parent = chance.choice((0, 1, 2, len(entries), len(entries) + 1, 0x7FFF, 0xFFFF))
            extent = chance.choice((*NUMBERS[:16], layout.records[0].extent))
            put(data, here + 2, struct.pack(order + "IH", extent, parent))
        else:
            other, _size = chance.choice(entries)
            put(data, here, bytes(data[other : other + size]))


def names(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """Names with slashes, dots, NUL and control characters, in all trees; names twice."""
    for _ in range(chance.choice((1, 2, 5))):
        record = any_record(layout, chance)
        bad = chance.choice(BAD_NAMES)
        if chance.random() < 0.2:  # Joliet's are UTF-16
            bad = bad.decode("latin-1").encode("utf-16-be")
        rock_ridge = [one for one in record.susp if one.signature == b"NM" and one.length > 5]
        if rock_ridge and chance.random() < 0.7:
            entry = chance.choice(rock_ridge)
            if chance.random() < 0.3:
                put(data, entry.offset + 4, bytes([chance.choice((1, 2, 4, 8, 0x20, 0xFF))]))
            else:
                _rename(data, entry.offset + 5, entry.length - 5, bad, chance)
        elif chance.random() < 0.3:
            other = any_record(layout, chance)
            put(data, record.offset + 32, bytes(data[other.offset + 32 : other.offset + 33 + other.name]))
        else:
            _rename(data, record.offset + 33, record.name, bad, chance)


def _rename(data: bytearray, offset: int, size: int, bad: bytes, chance: random.Random) -> None:
    """Write `bad` over a name without changing its length: at its start, somewhere, or as all of it."""
    kind = chance.randrange(3)
    if kind == 0:
        put(data, offset, bad[:size])
    elif kind == 1:
        put(data, offset + chance.randrange(max(1, size)), bad[:1])
    else:
        put(data, offset, (bad * size)[:size])


def overlaps(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """Several records on one extent, on each other's, or on all of the image."""
    target = any_record(layout, chance)
    for _ in range(chance.choice((1, 3, 30))):
        record = any_record(layout, chance)
        kind = chance.randrange(4)
        if kind == 0:
            put(data, record.offset + 2, both(target.extent) + both(target.length))
        elif kind == 1:
            put(data, record.offset + 2, both(target.extent))
        elif kind == 2:
            put(data, record.offset + 2, both(0) + both(len(data)))
        else:
            put(data, record.offset + 10, both(len(data) - record.extent * SECTOR))


def flags(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """Files that are directories, directories that are files, extents that go on."""
    for _ in range(chance.choice((1, 2, 8))):
        offset = any_record(layout, chance).offset + 25
        change = chance.choice((DIRECTORY, DIRECTORY, MULTI_EXTENT, MULTI_EXTENT, 1, 4, 8, 0x10, 0xFF))
        put(data, offset, bytes([at(data, offset) ^ change]))


def system_use(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """SUSP and Rock Ridge entries that are others: relocations, terminators, sparse files, SP with a skip."""
    entries: List[Susp] = [one for record in layout.records for one in record.susp]
    if not entries:
        flags(data, layout, chance)
        return
    for _ in range(chance.choice((1, 2, 6))):
        entry = chance.choice(entries)
        kind = chance.randrange(4)
        if kind == 0:
            put(data, entry.offset, chance.choice(SIGNATURES))
        elif kind == 1:
            place = any_record(layout, chance, directory=True).extent
            put(data, entry.offset, chance.choice((b"CL", b"PL")) + b"\x0c\x01" + both(place))
        elif kind == 2:
            put(data, entry.offset, b"RE\x04\x01")
        else:
            size = chance.randrange(1, max(2, entry.length))
            put(data, entry.offset + 4, bytes(chance.randrange(256) for _ in range(size)))


def descriptors(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """Volume descriptors of other kinds: El Torito, UDF, none, twice, without a terminator."""
    offset = chance.choice(layout.descriptors)
    kind = chance.randrange(6)
    if kind == 0:
        put(data, offset, bytes([chance.choice((0, 1, 2, 3, 4, 254, 255))]))
    elif kind == 1:
        catalog = struct.pack("<I", chance.choice((0, 16, 20, len(data) // SECTOR - 1, 0xFFFFFFFF)))
        put(data, offset, b"\0CD001\x01EL TORITO SPECIFICATION".ljust(71, b"\0") + catalog)
    elif kind == 2:
        for index, name in enumerate((b"BEA01", b"NSR02", b"TEA01")):
            put(data, offset + (index + 1) * SECTOR, b"\0" + name + b"\x01" + bytes(20))
    elif kind == 3:
        put(data, offset, bytes(data[16 * SECTOR : 17 * SECTOR]))
    elif kind == 4:
        put(data, layout.descriptors[-1], bytes(data[offset : offset + SECTOR]))
    else:
        put(data, offset + 88, chance.choice((b"%/@", b"%/C", b"%/E", b"\xff\xff\xff")))


def content(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """Hostile files in a whole structure: JSON bombs, control characters, what is no text."""
    for _ in range(chance.choice((1, 3, 10))):
        record = any_record(layout, chance)
        if record.directory:
            continue
        bad = chance.choice(BAD_CONTENT)
        if chance.random() < 0.5:
            put(data, record.extent * SECTOR, bad[: record.length].ljust(record.length))
        else:
            put(data, record.offset + 2, both(append(data, bad)) + both(len(bad)))


MUTATIONS: Tuple[Mutation, ...] = (
    bit_flips,
    bit_flips,
    bytes_changed,
    loops,
    continuations,
    lengths,
    lengths,
    path_tables,
    names,
    overlaps,
    flags,
    system_use,
    descriptors,
    content,
    grown_trees,
)
