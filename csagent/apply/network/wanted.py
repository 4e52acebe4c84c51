"""What each NIC shall have: addresses, ordered default routes, name servers, MTU. Pure.

`eth0` is CloudStack's default NIC. Every NIC has a default route in the document, and so they are ordered, or
the machine would lose the right one.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence, Tuple

from csagent.apply.network.document import Document, Link
from csagent.apply.network.machine import NETWORKMANAGER, Device, Machine
from csagent.apply.network.plan import DEFAULT_METRIC, OTHER_METRIC, Route, Wanted
from csagent.state.network import NetworkMemory

BOOT_PATIENCE = 120.0  # seconds after boot in which DHCP is waited for where it gave a lease before
NO_NUMBER = 1 << 20  # behind all numbers that CloudStack gives
LEAST_MTU = {4: 68, 6: 1280}  # below it the kernel takes a family's addresses away (RFC 791, RFC 8200)


def wanted_by(
    document: Document, machine: Machine, memory: NetworkMemory, links: Sequence[Link]
) -> Tuple[Dict[str, Wanted], List[str]]:
    """What each of these NICs shall have, by MAC address, and what of it had to be left out.

    Args:
        document: what CloudStack says.
        machine: the NICs as they are.
        memory: what was done before.
        links: the NICs that are configured, by their number.
    """
    notes: List[str] = []
    orders = {version: _orders(document, machine, memory, links, version) for version in (4, 6)}
    resolving = _resolving(document, machine, memory, links, orders)
    dns = _servers(document, machine, links, resolving)
    wanted: Dict[str, Wanted] = {}
    for place, link in enumerate(links):
        device = machine.device(link.mac)
        if device is None:
            continue
        wanted[link.mac] = Wanted(
            link.mac,
            device.name,
            tuple(str(address) for address in link.addresses),
            tuple(_routes(link, _metric(link, place), orders, notes)),
            tuple(server for server, mac in dns if mac == link.mac),
            _mtu(link, device, notes),
        )
    return wanted, notes


def _servers(
    document: Document, machine: Machine, links: Sequence[Link], resolving: Optional[str]
) -> List[Tuple[str, str]]:
    """(name server, MAC address of the NIC that gets it); those of a family that no NIC has are left out.

    All go to one NIC, but for IPv4's in a profile of NetworkManager's with IPv4 turned off, which has no
    place for them (nm-settings-keyfile(5)): they go to the first NIC that has IPv4.
    """
    found: List[Tuple[str, str]] = []
    for server in document.dns if resolving is not None else ():
        version = 6 if ":" in server else 4
        having = [link.mac for link in links if any(one.version == version for one in link.addresses)]
        if having:
            device = machine.device(str(resolving))
            no_place = (
                version == 4
                and resolving not in having
                and device is not None
                and device.owner.manager == NETWORKMANAGER
            )
            found.append((server, having[0] if no_place else str(resolving)))
    return found


def _routes(link: Link, metric: int, orders: Dict[int, Dict[str, int]], notes: List[str]) -> List[Route]:
    routes: List[Route] = []
    for version, everywhere in ((4, "0.0.0.0/0"), (6, "::/0")):
        ways = [one for one in link.addresses if one.version == version and one.gateway is not None]
        for way in ways[:1]:
            order = orders[version][link.mac]
            routes.append(Route(everywhere, str(way.gateway), way.onlink, order, metric))
        for way in ways[1:]:
            if way.gateway != ways[0].gateway:
                notes.append(f"{link.id}: gateway {way.gateway}: {ways[0].gateway} is its gateway already")
    return routes


def _metric(link: Link, place: int) -> int:
    """By the number, so that it stays when other NICs come and go; an id without one comes last."""
    if link.number is None:
        return OTHER_METRIC + NO_NUMBER + place
    return OTHER_METRIC + link.number if link.number else DEFAULT_METRIC


def _mtu(link: Link, device: Device, notes: List[str]) -> Optional[int]:
    if link.mtu is None:
        return None
    least = max((LEAST_MTU[address.version] for address in link.addresses), default=0)
    if link.mtu < least:
        notes.append(f"{link.id}: mtu {link.mtu}: IPv6 needs {least}")
        return None
    if device.max_mtu is not None and link.mtu > device.max_mtu:
        notes.append(f"{link.id}: mtu {link.mtu}: {device.name} takes {device.max_mtu} at most")
        return None
    return link.mtu


def _orders(
    document: Document, machine: Machine, memory: NetworkMemory, links: Sequence[Link], version: int
) -> Dict[str, int]:
    """The place of each NIC's default route in one family.

    The first place is that of eth0, or of the only NIC with a route where nobody else has one; else it stays
    empty: the route that DHCP gives, or will give, wins.
    """
    having = [
        link
        for link in links
        if any(one.version == version and one.gateway is not None for one in link.addresses)
    ]
    only = len(having) == 1 and not _elsewhere(document, machine, memory, links, version)
    first = 1 if only or (having and having[0].number == 0) else 2
    return {link.mac: first + place for place, link in enumerate(having)}


def _elsewhere(
    document: Document, machine: Machine, memory: NetworkMemory, links: Sequence[Link], version: int
) -> bool:
    """Whether a NIC that is left alone has a default route of a family, or a lease, which may bring one."""
    ours = {link.mac for link in links}
    return any(
        device.lease is not None
        or lease_expected(document, device, machine, memory)
        or any(hop.version == version for hop in device.routes)
        for device in machine.devices
        if device.mac not in ours
    )


def _resolving(
    document: Document,
    machine: Machine,
    memory: NetworkMemory,
    links: Sequence[Link],
    orders: Dict[int, Dict[str, int]],
) -> Optional[str]:
    """The NIC that gets the name servers; None where they are somebody else's business."""
    for link in links:
        if any(places.get(link.mac) == 1 for places in orders.values()):
            return link.mac
    if not links or any(_elsewhere(document, machine, memory, links, version) for version in (4, 6)):
        return None
    return next(
        (link.mac for link in links if any(link.mac in places for places in orders.values())), links[0].mac
    )


def lease_expected(document: Document, device: Device, machine: Machine, memory: NetworkMemory) -> bool:
    """Whether DHCP may just not have answered yet: it gave a lease under this document before the boot."""
    soon = machine.since_boot < BOOT_PATIENCE and memory.document == document.digest
    return soon and device.mac in memory.leased
