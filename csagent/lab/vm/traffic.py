"""Whom a guest has asked, from what QEMU wrote down of its network (pcap, the classic format)."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Iterator, List, Tuple

from csagent.lab.vm.machine import MAC

SNAP = 96  # bytes of each frame: enough for Ethernet, IPv4 and TCP
LITTLE, BIG = b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4"
IPV4, TCP = 0x0800, 6
SYN, ACK = 0x02, 0x10


def dump(path: Path, network: str = "lan") -> List[str]:
    """QEMU's words that write down a network's frames."""
    return ["-object", f"filter-dump,id=dump,netdev={network},file={path},maxlen={SNAP}"]


def frames(path: Path) -> Iterator[bytes]:
    """The frames of a file, as far as it is whole; none if there is no file."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    if data[:4] not in (LITTLE, BIG):
        return
    record = struct.Struct("<IIII" if data[:4] == LITTLE else ">IIII")
    position = 24
    while position + record.size <= len(data):
        kept = record.unpack_from(data, position)[2]
        position += record.size
        if position + kept > len(data):
            return
        yield data[position : position + kept]
        position += kept


def asked(path: Path) -> List[Tuple[str, int]]:
    """Addresses and ports that the guest began a TCP connection to, each once, in order."""
    own = bytes.fromhex(MAC.replace(":", ""))
    found: List[Tuple[str, int]] = []
    for frame in frames(path):
        if len(frame) < 34 or frame[6:12] != own or struct.unpack_from(">H", frame, 12)[0] != IPV4:
            continue
        segment = 14 + 4 * (frame[14] & 0x0F)
        if frame[23] != TCP or len(frame) < segment + 14:
            continue
        flags = frame[segment + 13]
        if flags & SYN and not flags & ACK:
            there = (".".join(map(str, frame[30:34])), struct.unpack_from(">H", frame, segment + 2)[0])
            if there not in found:
                found.append(there)
    return found
