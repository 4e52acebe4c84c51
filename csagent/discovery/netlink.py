"""Links, addresses and default routes over rtnetlink (rtnetlink(7)), on a plain socket.

The numbers are the kernel's, from linux/rtnetlink.h, linux/if_link.h and linux/if_addr.h.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from csagent.model import Nic, Route
from csagent.validation import ipv4_bytes

NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWLINK, RTM_GETLINK = 16, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
IFF_LOOPBACK = 0x8
IFLA_ADDRESS, IFLA_IFNAME = 1, 3
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_SRC, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_MULTIPATH, RTA_TABLE = 1, 2, 4, 5, 6, 9, 15
RT_TABLE_MAIN, RTN_UNICAST, RTN_LOCAL = 254, 1, 2
RTNH_F_DEAD = 1

TIMEOUT = 2.0  # seconds without an answer
MAX_BYTES = 64 << 20  # of one dump; 20,000 routes are 2 MB
Attributes = Dict[int, bytes]


def nics() -> List[Nic]:
    """Every link that is not loopback, with its IPv4 addresses.

    Raises:
        OSError: there is no netlink here, or it does not answer.
        ValueError: it answers nonsense.
    """
    links: Dict[int, Tuple[str, Optional[str]]] = {}
    for kind, body in dump(RTM_GETLINK, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)):
        _, _, index, flags, _ = struct.unpack_from("=BxHiII", body)
        said = attributes(body[16:])
        if kind == RTM_NEWLINK and not flags & IFF_LOOPBACK and IFLA_IFNAME in said:
            mac = ":".join(f"{octet:02x}" for octet in said.get(IFLA_ADDRESS, b"")) or None
            links[index] = said[IFLA_IFNAME].rstrip(b"\0").decode("utf-8", "surrogateescape"), mac
    addresses: Dict[int, Dict[str, int]] = {index: {} for index in links}
    for index, address, prefix in _addresses():
        if index in links:
            addresses[index].setdefault(address, prefix)
    return [
        Nic(name, index, mac, tuple(addresses[index]), tuple(addresses[index].values()))
        for index, (name, mac) in links.items()
    ]


def _addresses() -> Iterator[Tuple[int, str, int]]:
    """(interface index, IPv4 address, prefix length) of every address of every link."""
    for kind, body in dump(RTM_GETADDR, struct.pack("=BBBBi", socket.AF_INET, 0, 0, 0, 0)):
        family, prefix, _, _, index = struct.unpack_from("=BBBBi", body)
        said = attributes(body[8:])
        address = ipv4_bytes(said.get(IFA_LOCAL, said.get(IFA_ADDRESS, b"")))
        if kind == RTM_NEWADDR and family == socket.AF_INET and address is not None:
            yield index, address, prefix


class Way(NamedTuple):
    """Where the kernel sends what goes to one address."""

    local: bool = False  # it stays on this machine
    interface: Optional[str] = None  # the NIC it leaves by; None where there is no route, or no word


def route_to(address: str, source: Optional[str] = None) -> Way:
    """How the kernel would send to an IPv4 address, from `source` where that is given.

    Where there is no netlink the answer says nothing: the addresses of the NICs are never candidates.
    """
    words = [(RTA_DST, socket.inet_aton(address))]
    words += [(RTA_SRC, socket.inet_aton(source))] if source is not None else []
    request = struct.pack("=BBBBBBBBI", socket.AF_INET, 32, 32 * (len(words) - 1), *([0] * 6))
    request += b"".join(struct.pack("=HH", 4 + len(raw), kind) + raw for kind, raw in words)
    try:
        for kind, body in ask(RTM_GETROUTE, request, NLM_F_REQUEST):
            if kind == RTM_NEWROUTE:
                local = struct.unpack_from("=BBBBBBBBI", body)[7] == RTN_LOCAL
                index = _number(attributes(body[12:]).get(RTA_OIF), 0)
                return Way(local, socket.if_indextoname(index) if index else None)
    except (OSError, ValueError):
        pass
    return Way()


def routes() -> List[Route]:
    """The default routes of the main table that have an IPv4 gateway, every hop of a multipath one.

    Raises:
        OSError: there is no netlink here, or it does not answer.
        ValueError: it answers nonsense.
    """
    names = dict(socket.if_nameindex())
    return [
        Route(names[index], gateway, metric)
        for kind, body in dump(RTM_GETROUTE, struct.pack("=BBBBBBBBI", socket.AF_INET, *([0] * 8)))
        if kind == RTM_NEWROUTE
        for index, gateway, metric in default_hops(body)
        if index in names
    ]


def default_hops(body: bytes) -> Iterator[Tuple[int, str, int]]:
    """(interface index, gateway, metric) of each hop of one RTM_NEWROUTE message of a default route."""
    family, length, _, _, table, _, _, kind, flags = struct.unpack_from("=BBBBBBBBI", body)
    said = attributes(body[12:])
    table = _number(said.get(RTA_TABLE), table)
    if family != socket.AF_INET or length or table != RT_TABLE_MAIN or kind != RTN_UNICAST:
        return
    metric = _number(said.get(RTA_PRIORITY), 0)
    gateway = ipv4_bytes(said.get(RTA_GATEWAY, b""))
    if gateway is not None and not flags & RTNH_F_DEAD:
        yield _number(said.get(RTA_OIF), 0), gateway, metric
    hops = said.get(RTA_MULTIPATH, b"")
    while len(hops) >= 8:
        size, hop_flags, _, index = struct.unpack_from("=HBBi", hops)
        if not 8 <= size <= len(hops):
            return
        gateway = ipv4_bytes(attributes(hops[8:size]).get(RTA_GATEWAY, b""))
        if gateway is not None and not hop_flags & RTNH_F_DEAD:
            yield index, gateway, metric
        hops = hops[(size + 3) & ~3 :]


def attributes(area: bytes) -> Attributes:
    """Walk a run of rtattr structures; stops where a length makes no sense."""
    found: Attributes = {}
    while len(area) >= 4:
        size, kind = struct.unpack_from("=HH", area)
        if not 4 <= size <= len(area):
            break
        found[kind & 0x3FFF] = area[4:size]
        area = area[(size + 3) & ~3 :]
    return found


def messages(data: bytes) -> Iterator[Tuple[int, bytes]]:
    """(type, body) of each message in one datagram.

    Raises:
        ValueError: a length makes no sense.
    """
    while len(data) >= 16:
        size, kind = struct.unpack_from("=IH", data)
        if not 16 <= size <= len(data):
            raise ValueError("a netlink message longer than its datagram")
        yield kind, data[16:size]
        data = data[(size + 3) & ~3 :]


def dump(kind: int, body: bytes) -> Iterator[Tuple[int, bytes]]:
    """Ask for a whole table and yield its messages; raises as `ask`."""
    return ask(kind, body, NLM_F_REQUEST | NLM_F_DUMP)


def ask(kind: int, body: bytes, flags: int) -> Iterator[Tuple[int, bytes]]:
    """Send one request and yield the messages of the answer; who asks for one thing stops at the first.

    Raises:
        OSError: no netlink, an error answer, or silence for two seconds.
        ValueError: nonsense, or over 64 MiB.
    """
    if not sys.platform.startswith("linux"):
        raise OSError("netlink is Linux's")
    request = struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body
    total = 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
        netlink.settimeout(TIMEOUT)
        netlink.bind((0, 0))
        netlink.send(request)
        while total < MAX_BYTES:
            data, sender = netlink.recvfrom(1 << 18)
            total += len(data)
            if sender[0] != 0:  # not from the kernel
                continue
            for answer, content in messages(data):
                if answer == NLMSG_DONE:
                    return
                if answer == NLMSG_ERROR:
                    (code,) = struct.unpack_from("=i", content)
                    raise OSError(-code, os.strerror(-code))
                yield answer, content
    raise ValueError("a routing table without end")


def _number(raw: Optional[bytes], default: int) -> int:
    return int(struct.unpack("=I", raw)[0]) if raw is not None and len(raw) == 4 else default
