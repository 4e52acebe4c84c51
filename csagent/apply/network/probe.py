"""Whether a gateway is there: the kernel is made to ask it by ARP or neighbour discovery, and says so.

An empty UDP datagram to the discard port is enough (no raw socket, no right that csagent's unit lacks). What
becomes of the datagram does not matter, and a gateway that drops ICMP passes.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Sequence, Tuple

from csagent.apply.network import kernel

if TYPE_CHECKING:
    from csagent.system.seams import System

DISCARD = 9  # RFC 863
IP_UNICAST_IF, IPV6_UNICAST_IF = 50, 76  # linux/in.h, linux/in6.h
PATIENCE = 8.5  # seconds: an entry that was in use is asked again after 5, and an answer waited for 3
LOOKS = 40  # at least, however slow this machine is
ASK_AGAIN = 3  # looks
PAUSE = 0.1


def silent(system: "System", ifindex: int, gateways: Sequence[str]) -> Tuple[str, ...]:
    """Ask these gateways of one NIC, all at once, and wait; those that did not answer.

    Raises:
        ApplyError: the kernel does not say who its neighbours are.
    """
    end = system.clock.monotonic() + PATIENCE
    looks = 0
    quiet = tuple(gateways)
    while quiet:
        if looks % ASK_AGAIN == 0:
            for gateway in quiet:
                _ask(ifindex, gateway)
        quiet = tuple(gateway for gateway in quiet if not kernel.answers(ifindex, gateway))
        looks += 1
        if looks >= LOOKS and system.clock.monotonic() >= end:
            break
        if quiet:
            system.clock.sleep(PAUSE)
    return quiet


def _ask(ifindex: int, gateway: str) -> None:
    """Send something there. That it cannot be sent is an answer that the kernel's table gives, too."""
    version = socket.AF_INET6 if ":" in gateway else socket.AF_INET
    place = struct.pack("!I", ifindex)
    try:
        with socket.socket(version, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.setblocking(False)
            if version == socket.AF_INET6:
                channel.setsockopt(socket.IPPROTO_IPV6, IPV6_UNICAST_IF, place)
                scope = ifindex if gateway.lower().startswith("fe8") else 0
                channel.sendto(b"", (gateway, DISCARD, 0, scope))
            else:
                channel.setsockopt(socket.IPPROTO_IP, IP_UNICAST_IF, place)
                channel.sendto(b"", (gateway, DISCARD))
    except OSError:
        pass
