"""An Ethernet segment with nothing on it but a NIC of a guest and gateways that answer ARP (RFC 826).

QEMU's `socket` network sends each frame of the NIC as a UDP datagram over loopback and takes such datagrams
for frames. There is no DHCP, as on a network of CloudStack's whose DHCP is ConfigDrive's.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import threading
import time
from typing import Dict, List, Sequence, Tuple

PORT, QEMUS_PORT = 7101, 7102  # of loopback, in a network namespace of the lab's own
MAC = "02:00:4c:9f:00:16"  # of the guest's NIC
GATEWAY_MAC = bytes.fromhex("02004c9f00fe")
BROADCAST = b"\xff" * 6
ETHERTYPE_ARP = 0x0806
REQUEST, REPLY = 1, 2
ARP = struct.Struct("!HHBBH6s4s6s4s")
HEADER = (1, 0x0800, 6, 4)  # of Ethernet and IPv4
LARGEST = 65536
ENDING = 60.0  # seconds, for what takes none
PAUSE = 0.2  # seconds between two questions, and between two looks at whether it is over


def devices(number: int = 0, mac: str = MAC) -> List[str]:
    """QEMU's words for the NIC and its cable, which leads to the segment of that number."""
    ours, theirs = _ports(number)
    ends = f"udp=127.0.0.1:{ours},localaddr=127.0.0.1:{theirs}"
    nic = f"virtio-net-pci,netdev=segment{number},mac={mac},romfile="
    return ["-netdev", f"socket,id=segment{number},{ends}", "-device", nic]


def _ports(number: int) -> Tuple[int, int]:
    return PORT + 2 * number, QEMUS_PORT + 2 * number


class Segment:
    """The segment, while it is open.

    Args:
        gateways: IPv4 addresses that answer; the first asks.
        number: of several, in one network namespace.
    """

    def __init__(self, gateways: Sequence[str], number: int = 0) -> None:
        own, self._qemus_port = _ports(number)
        self._gateways = [ipaddress.IPv4Address(gateway).packed for gateway in gateways]
        self._answered: Dict[bytes, float] = {}  # the guest's addresses, and when each was last its own
        self._channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._channel.bind(("127.0.0.1", own))
        self._channel.settimeout(PAUSE)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._over = False
        self._thread.start()

    def answers(self, address: str, patience: float) -> bool:
        """Whether the guest says by ARP, within so many seconds, that an address is its NIC's."""
        wanted = ipaddress.IPv4Address(address).packed
        began = time.monotonic()
        while True:
            self._send(BROADCAST, REQUEST, self._gateways[0], b"\0" * 6, wanted)
            time.sleep(min(PAUSE, patience))
            if self._answered.get(wanted, 0.0) >= began:
                return True
            if time.monotonic() - began >= patience:
                return False

    def _serve(self) -> None:
        while not self._over:
            try:
                frame = self._channel.recv(LARGEST)
            except socket.timeout:
                continue
            if len(frame) < 14 + ARP.size or struct.unpack_from("!H", frame, 12)[0] != ETHERTYPE_ARP:
                continue
            *header, operation, sender, own, _target, asked = ARP.unpack_from(frame, 14)
            if tuple(header) != HEADER:
                continue
            if operation == REPLY:
                self._answered[own] = time.monotonic()
            elif operation == REQUEST and asked in self._gateways and own not in self._gateways:
                self._send(sender, REPLY, asked, sender, own)

    def _send(self, to: bytes, operation: int, own: bytes, target: bytes, asked: bytes) -> None:
        frame = to + GATEWAY_MAC + struct.pack("!H", ETHERTYPE_ARP)
        frame += ARP.pack(*HEADER, operation, GATEWAY_MAC, own, target, asked)
        try:
            self._channel.sendto(frame.ljust(60, b"\0"), ("127.0.0.1", self._qemus_port))
        except OSError:
            pass  # the machine is off

    def close(self) -> None:
        """End it."""
        self._over = True
        self._thread.join(ENDING)
        self._channel.close()

    def __enter__(self) -> "Segment":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
