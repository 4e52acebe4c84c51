"""Devices, addresses, default routes and neighbours as the kernel has them, in both families.

rtnetlink(7) on the running system; a tree tells what `ip -j addr`, `ip -j route` and `ip -j -6 route` have
recorded, else the names and MAC addresses in its sys/class/net. The numbers are the kernel's, from
linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h and linux/neighbour.h.
"""

from __future__ import annotations

import socket
import struct
from typing import Dict, Iterator, List, Optional, Tuple

from csagent.apply.network.kernel_state import Kernel, LinkSeen
from csagent.apply.network.machine import Assigned, Hop
from csagent.discovery import netlink
from csagent.errors import ApplyError
from csagent.system.seams import System

ARPHRD_ETHER, IFF_UP = 1, 1
IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_INFO_KIND, IFLA_MAX_MTU = 4, 10, 18, 1, 51
IFLA_PERM_ADDRESS = 54
IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA, IFLA_BOND_SLAVE_PERM_HWADDR = 4, 5, 4
IFA_FLAGS = 8
IFA_F_DADFAILED, IFA_F_TENTATIVE, IFA_F_PERMANENT = 0x08, 0x40, 0x80
RT_SCOPE_LINK = 253
RTA_VIA = 18
RTM_NEWNEIGH, RTM_GETNEIGH, NDA_DST = 28, 30, 1
NUD_ANSWERS = 0x02 | 0x40 | 0x80  # reachable; or an entry that needs no answer: noarp, permanent
NUD_FAILED = 0x20


def look(system: System) -> Kernel:
    """What there is now.

    Raises:
        ApplyError: the kernel does not say.
    """
    if not system.live:
        from csagent.apply.network import recorded_kernel

        return recorded_kernel.look(system)
    try:
        return Kernel(tuple(_links()), _addresses(), _routes())
    except (OSError, ValueError, struct.error) as error:
        raise ApplyError(f"the kernel does not say what addresses there are: {error}") from None


def answers(index: int, gateway: str) -> Optional[bool]:
    """Whether a neighbour answers: True, False where it was asked in vain, None while that is not known.

    Raises:
        ApplyError: the kernel does not say.
    """
    version = socket.AF_INET6 if ":" in gateway else socket.AF_INET
    wanted = socket.inet_pton(version, gateway)
    try:
        for kind, body in netlink.dump(RTM_GETNEIGH, struct.pack("=BxxxiHBB", version, 0, 0, 0, 0)):
            _family, ifindex, state, _flags, _type = struct.unpack_from("=BxxxiHBB", body)
            if kind != RTM_NEWNEIGH or ifindex != index:
                continue
            if netlink.attributes(body[12:]).get(NDA_DST) == wanted:
                if state & NUD_ANSWERS:
                    return True
                return False if state & NUD_FAILED else None
    except (OSError, ValueError, struct.error) as error:
        raise ApplyError(f"the kernel does not say who its neighbours are: {error}") from None
    return None


def _links() -> Iterator[LinkSeen]:
    names = dict(socket.if_nameindex())
    for kind, body in netlink.dump(netlink.RTM_GETLINK, struct.pack("=BxHiII", socket.AF_UNSPEC, 0, 0, 0, 0)):
        _family, hardware, index, _flags, _change = struct.unpack_from("=BxHiII", body)
        said = netlink.attributes(body[16:])
        mac = said.get(netlink.IFLA_ADDRESS, b"")
        if kind != netlink.RTM_NEWLINK or hardware != ARPHRD_ETHER or len(mac) != 6 or index not in names:
            continue
        about = netlink.attributes(said.get(IFLA_LINKINFO, b""))
        made_by = about.get(IFLA_INFO_KIND)
        master = _number(said.get(IFLA_MASTER))
        yield LinkSeen(
            names[index],
            index,
            _mac(mac),
            _number(said.get(IFLA_MTU)),
            _number(said.get(IFLA_MAX_MTU)) or None,
            names.get(master, f"device {master}") if master else None,
            made_by.rstrip(b"\0").decode("ascii", "replace") if made_by else None,
            _permanent(said, about),
        )


def _mac(raw: bytes) -> str:
    return ":".join(f"{octet:02x}" for octet in raw)


def _permanent(said: netlink.Attributes, about: netlink.Attributes) -> Optional[str]:
    """Linux tells it from 5.6 on; of a port of a bond, where its driver has none, the bond does."""
    raw = said.get(IFLA_PERM_ADDRESS, b"")
    if not raw and about.get(IFLA_INFO_SLAVE_KIND, b"").rstrip(b"\0") == b"bond":
        port = netlink.attributes(about.get(IFLA_INFO_SLAVE_DATA, b""))
        raw = port.get(IFLA_BOND_SLAVE_PERM_HWADDR, b"")
    return _mac(raw) if len(raw) == 6 else None


def _addresses() -> Dict[int, Tuple[Assigned, ...]]:
    found: Dict[int, List[Assigned]] = {}
    request = struct.pack("=BBBBi", socket.AF_UNSPEC, 0, 0, 0, 0)
    for kind, body in netlink.dump(netlink.RTM_GETADDR, request):
        family, prefix, flags, scope, index = struct.unpack_from("=BBBBi", body)
        said = netlink.attributes(body[8:])
        raw = said.get(netlink.IFA_LOCAL, said.get(netlink.IFA_ADDRESS, b""))
        if kind != netlink.RTM_NEWADDR or family not in (socket.AF_INET, socket.AF_INET6):
            continue
        flags = _number(said.get(IFA_FLAGS)) or flags
        found.setdefault(index, []).append(
            Assigned(
                f"{socket.inet_ntop(family, raw)}/{prefix}",
                bool(flags & IFA_F_PERMANENT),
                bool(flags & IFA_F_TENTATIVE),
                bool(flags & IFA_F_DADFAILED),
                scope >= RT_SCOPE_LINK,
            )
        )
    return {index: tuple(addresses) for index, addresses in found.items()}


def _routes() -> Dict[int, Tuple[Hop, ...]]:
    found: Dict[int, List[Hop]] = {}
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        request = struct.pack("=BBBBBBBBI", family, *([0] * 8))
        for kind, body in netlink.dump(netlink.RTM_GETROUTE, request):
            if kind == netlink.RTM_NEWROUTE:
                for index, hop in _hops(version, family, body):
                    found.setdefault(index, []).append(hop)
    return {index: tuple(hops) for index, hops in found.items()}


def _hops(version: int, family: int, body: bytes) -> Iterator[Tuple[int, Hop]]:
    """(interface index, hop) of each hop of a default route of the main table."""
    said_family, length, _, _, table, _, _, kind, _flags = struct.unpack_from("=BBBBBBBBI", body)
    said = netlink.attributes(body[12:])
    table = _number(said.get(netlink.RTA_TABLE)) or table
    if said_family != family or length or table != netlink.RT_TABLE_MAIN or kind != netlink.RTN_UNICAST:
        return
    metric = _number(said.get(netlink.RTA_PRIORITY)) or 0
    hops = said.get(netlink.RTA_MULTIPATH)
    if hops is None:
        yield _number(said.get(netlink.RTA_OIF)) or 0, Hop(version, _gateway(said), metric)
        return
    while len(hops) >= 8:
        size, _hop_flags, _, index = struct.unpack_from("=HBBi", hops)
        if not 8 <= size <= len(hops):
            return
        yield index, Hop(version, _gateway(netlink.attributes(hops[8:size])), metric)
        hops = hops[(size + 3) & ~3 :]


def _gateway(said: netlink.Attributes) -> Optional[str]:
    """An IPv4 route may lead through an IPv6 neighbour (RFC 5549), which stands in RTA_VIA."""
    raw = said.get(netlink.RTA_GATEWAY) or said.get(RTA_VIA, b"")[2:]
    families = {4: socket.AF_INET, 16: socket.AF_INET6}
    return socket.inet_ntop(families[len(raw)], raw) if len(raw) in families else None


def _number(raw: Optional[bytes]) -> Optional[int]:
    return int(struct.unpack("=I", raw)[0]) if raw is not None and len(raw) == 4 else None
