"""Structures meant to use up CPU or memory: trees and chains that grow without the image doing so."""

from __future__ import annotations

import random

from layout import SECTOR, Layout, both
from pieces import append, chain, directory_of, entry_of, list_in_path_tables, padding, put, sectors_for


def grown_trees(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """Directories put below an existing one: deep, or wide, or both in a circle."""
    record = chance.choice([one for one in layout.records if one.directory and not one.special])
    depth, width = chance.choice(((60, 1), (200, 1), (3, 30), (2, 300), (20, 5)))
    size = sectors_for(width)
    first = append(data, b"")
    ring = chance.random() < 0.3
    for level in range(depth):
        last = level == depth - 1
        below = first if ring and last else first + size * (level + 1)
        places = [] if last and not ring else [below] * width
        append(data, directory_of(first + size * level, max(16, first + size * (level - 1)), places, size))
    put(data, record.offset + 2, both(first) + both(size * SECTOR))
    if chance.random() < 0.8:
        list_in_path_tables(data, layout, range(first, first + size * depth))


def long_chain(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """One long continuation chain that every record with Rock Ridge goes on in, after its own entries."""
    links = chance.choice((500, 2000, 9000))
    filler = b"PD\x04\x01" * chance.choice((0, 0, 20))
    first = chain(data, links, filler=filler)
    for record in layout.records:
        room = record.end - record.system_use
        if record.special or room < 32 or not record.susp:
            continue
        own = bytes(data[record.system_use : record.susp[-1].offset + record.susp[-1].length])
        if len(own) > room or b"CE" in {one.signature for one in record.susp}:
            continue
        own += b"CE\x1c\x01" + both(first) + both(0) + both(len(filler) + 28)
        use = b"CE\x1c\x01" + both(append(data, own)) + both(0) + both(len(own))
        put(data, record.system_use, use + padding(room - len(use)))


def overlapping_directories(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """Many directories of files, each of which begins a sector later in the same area."""
    width = chance.choice((60, 140, 300))
    size = sectors_for(width)
    first = append(data, b"")
    shared = first + size
    block = entry_of(b"\0", first, size * SECTOR, here=0) + entry_of(b"\1", first, size * SECTOR, here=34)
    for index in range(width):
        block += entry_of(f"D{index:05}".encode(), shared + index, (width - index) * SECTOR, here=len(block))
    append(data, block.ljust(size * SECTOR, b"\0"))
    for index in range(width):
        sector = b""
        for number in range(48):
            name = f"F{index:03}{number:02}".encode()
            sector += entry_of(name, 16, 5, directory=False, here=len(sector))
        append(data, sector)
    record = chance.choice([one for one in layout.records if one.directory and not one.special])
    put(data, record.offset + 2, both(first) + both(size * SECTOR))
    list_in_path_tables(data, layout, range(first, shared + width))


def many_descriptors(data: bytearray, layout: Layout, chance: random.Random) -> None:
    """Volume descriptors without an end: the primary one again and again."""
    primary = bytes(data[16 * SECTOR : 17 * SECTOR])
    data[17 * SECTOR : 18 * SECTOR] = primary * chance.choice((300, 2000)) + data[17 * SECTOR : 18 * SECTOR]
