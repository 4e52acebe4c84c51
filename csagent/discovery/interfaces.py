"""NICs and IPv4 default routes, as the kernel has them now.

netifaces lists the NICs where it is installed; routes come from rtnetlink, since netifaces' gateways()
knows no metric, no multipath, and is wrong with policy routing (field/dependencies#2).
"""

from __future__ import annotations

import re
import struct
from itertools import takewhile
from typing import Any, Dict, List, Optional, Sequence, Tuple

from csagent.model import Lease, Nic, Route
from csagent.system import json_limits
from csagent.system.seams import System
from csagent.validation import ipv4, ipv4_bytes

PROC_ROUTE = "/proc/net/route"
RTF_UP, RTF_GATEWAY, RTF_REJECT = 0x1, 0x2, 0x200  # linux/route.h
MAX_NICS = 256


def nics(system: System) -> Tuple[Nic, ...]:
    """Every NIC but loopback, by index.

    A tree tells what `ip -j addr` recorded, else the names in its sys/class/net without addresses.
    """
    found: Optional[List[Nic]]
    if system.recorded or not system.live:
        recorded = system.runner.run(("ip", "-j", "addr"))
        found = _from_ip_json(recorded.output) if recorded.code == 0 else _from_sysfs(system)
    else:
        found = _from_netifaces()
        if found is None:
            from csagent.discovery import netlink

            try:
                found = netlink.nics()
            except (OSError, ValueError, struct.error):
                found = _from_sysfs(system)
    return tuple(sorted(found, key=lambda nic: (nic.ifindex, nic.name))[:MAX_NICS])


def addresses_known(system: System) -> bool:
    """Whether `nics` could tell addresses: on a live system, and where a tree has `ip -j addr` recorded."""
    return system.live or system.runner.run(("ip", "-j", "addr")).code == 0


def routes(system: System) -> Tuple[Route, ...]:
    """The IPv4 default routes of the main table that have a gateway, lowest metric first."""
    found: Optional[List[Route]] = None
    if system.live and not system.recorded:
        from csagent.discovery import netlink

        try:
            found = netlink.routes()
        except (OSError, ValueError, struct.error):
            found = None
    if found is None:
        found = parse_proc_route(system.tree.read_text(PROC_ROUTE) or "")
    return tuple(sorted(found, key=lambda route: route.metric))


def parse_proc_route(text: str) -> List[Route]:
    """/proc/net/route: addresses are hexadecimal, in the byte order of this machine (little endian).

    A default route without RTF_GATEWAY is connman's or dhcpcd's link-local one and leads nowhere.
    """
    found = []
    for line in text.split("\n")[1:]:
        fields = line.split()
        if len(fields) < 8:
            continue
        try:
            destination, gateway, flags = (int(fields[column], 16) for column in (1, 2, 3))
            metric, mask = int(fields[6]), int(fields[7], 16)
            address = ipv4_bytes(gateway.to_bytes(4, "little"))
        except (ValueError, OverflowError):
            continue
        wanted = RTF_UP | RTF_GATEWAY
        if destination or mask or flags & wanted != wanted or flags & RTF_REJECT or address is None:
            continue
        found.append(Route(fields[0], address, metric))
    return found


def default_interface(
    known: Sequence[Route], leases: Sequence[Lease], links: Sequence[Nic]
) -> Tuple[Optional[str], Tuple[str, ...]]:
    """The default NIC, and a sentence where it had to be guessed.

    The lowest-metric default route with a gateway; else the lease with a router option, which the
    virtual router gives to the default NIC alone; else the only NIC there is.
    """
    index = {nic.name: nic.ifindex for nic in links}

    def place(name: str) -> Tuple[int, str]:
        return index.get(name, 0), name

    with_router = {lease.interface for lease in leases if lease.routers}
    if known:
        metric = min(route.metric for route in known)
        equal = sorted({route.interface for route in known if route.metric == metric}, key=place)
        best = next((name for name in equal if name in with_router), equal[0])
        if len(equal) == 1:
            return best, ()
        return best, (f"{', '.join(equal)} have default routes of the same metric; taking {best} is a guess",)
    if with_router:
        names = sorted(with_router, key=place)
        if len(names) == 1:
            return names[0], ()
        guess = f"no default route yet, and the leases of {', '.join(names)} all name a router; "
        return names[0], (guess + f"taking {names[0]} is a guess",)
    return (links[0].name, ()) if len(links) == 1 else (None, ())


def _from_netifaces() -> Optional[List[Nic]]:
    """None where netifaces is missing or fails. Indexes are asked of the kernel in the same pass."""
    try:
        import netifaces
    except ImportError:
        return None
    import socket

    indexes = {name: index for index, name in socket.if_nameindex()}
    macs: Dict[str, str] = {}
    addresses: Dict[str, Dict[str, Optional[int]]] = {name: {} for name in indexes}
    for listed in netifaces.interfaces():
        name = listed.split(":", 1)[0]  # netifaces takes a label, eth0:1, for an interface
        if name not in indexes:
            continue
        try:
            data = netifaces.ifaddresses(listed)
        except (ValueError, OSError):  # netifaces-plus, for a TUN without an address
            continue
        for entry in data.get(netifaces.AF_INET, ()):
            _add(addresses[name], entry.get("addr"), _length(entry.get("netmask")))
        for entry in data.get(netifaces.AF_LINK, ())[:1]:
            macs.setdefault(name, entry.get("addr", ""))
    return [
        _nic(name, index, macs.get(name), addresses[name]) for name, index in indexes.items() if name != "lo"
    ]


def _nic(name: str, index: int, mac: Optional[str], addresses: Dict[str, Optional[int]]) -> Nic:
    prefixes = tuple(takewhile(lambda prefix: prefix is not None, addresses.values()))
    return Nic(name, index, mac or None, tuple(addresses), prefixes)  # type: ignore[arg-type]


def _add(addresses: Dict[str, Optional[int]], address: Any, prefix: Any) -> None:
    known = ipv4(address) if isinstance(address, str) else None
    if known is not None:
        length = prefix if isinstance(prefix, int) and 0 <= prefix <= 32 else None
        addresses.setdefault(known, length)


def _length(mask: Any) -> Optional[int]:
    """255.255.255.0 as 24."""
    try:
        return bin(int.from_bytes(map(int, mask.split(".")), "big")).count("1")
    except (AttributeError, ValueError):
        return None


def _from_ip_json(output: bytes) -> List[Nic]:
    """`ip -j addr`: a list of links, each with `addr_info`."""
    try:
        links = json_limits.loads(output)
    except (ValueError, RecursionError):
        return []
    found = []
    for link in links if isinstance(links, list) else ():
        if not isinstance(link, dict):
            continue
        name, index, mac = link.get("ifname"), link.get("ifindex"), link.get("address")
        infos = link.get("addr_info")
        flags = link.get("flags")
        if not isinstance(name, str) or not isinstance(index, int) or name == "lo":
            continue
        if isinstance(flags, list) and "LOOPBACK" in flags:
            continue
        addresses: Dict[str, Optional[int]] = {}
        for info in infos if isinstance(infos, list) else ():
            if isinstance(info, dict) and info.get("family") == "inet":
                _add(addresses, info.get("local"), info.get("prefixlen"))
        found.append(_nic(name, index, mac if isinstance(mac, str) else None, addresses))
    return found


def _from_sysfs(system: System) -> List[Nic]:
    found = []
    for name in system.tree.names("/sys/class/net"):
        index = (system.tree.read_text(f"/sys/class/net/{name}/ifindex", 32) or "").strip()
        mac = (system.tree.read_text(f"/sys/class/net/{name}/address", 64) or "").strip()
        if name == "lo" or not re.fullmatch("[0-9]{1,9}", index):
            continue
        found.append(Nic(name, int(index), mac or None))
    return found
