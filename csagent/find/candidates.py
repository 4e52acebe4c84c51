"""Which addresses may be a virtual router, in the order in which to ask (facts/cloudstack.md 1.1 to 1.4).

Per NIC: the DHCP server identifier, next-server, the name `data-server.`, the NIC's router. On a shared
network the router is a physical one; believing an answer is not decided here.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from csagent.facts import replace
from csagent.find.leases.text import routable
from csagent.model import Candidate, Lease, Nic, Route

DATA_SERVER = "data-server."  # with the dot: without it a resolver tries its search list first

SHORT = {"next-server": "next-server", "gateway": "router"}  # what an address may be besides


def candidates(
    nics: Sequence[Nic], routes: Sequence[Route], leases: Sequence[Lease], default: Optional[str]
) -> Tuple[Candidate, ...]:
    """The candidates of the default NIC first, then of the others by index.

    A NIC without a lease counts where a default route leads over it, or where it is the default NIC: a
    container bridge has an address too. An address that a NIC names twice is listed once, with both
    reasons, at its first place.
    """
    by_interface = {lease.interface: lease for lease in leases}
    named = {nic.name: nic for nic in nics}
    names = [nic.name for nic in sorted(nics, key=lambda nic: nic.index)]
    names += [lease.interface for lease in leases if lease.interface not in named]
    names.sort(key=lambda name: name != default)
    found: Dict[Tuple[str, str], Candidate] = {}
    for name in names:
        for candidate in _of(named.get(name), name, routes, by_interface.get(name), name == default):
            key = (candidate.address, name)
            if key in found:
                found[key] = replace(found[key], why=f"{found[key].why}, also its {SHORT[candidate.kind]}")
            else:
                found[key] = candidate
    return tuple(found.values())


def _of(
    nic: Optional[Nic], name: str, routes: Sequence[Route], lease: Optional[Lease], default: bool
) -> Iterator[Candidate]:
    source = lease.address if lease else routable(nic) if nic else None
    gateways = [route.gateway for route in routes if route.interface == name]
    if source is None or not (lease or gateways or default):
        return
    servers = lease.name_servers if lease else ()
    own = set(nic.addresses) if nic else {source}

    def candidate(address: str, kind: str, why: str) -> Candidate:
        return Candidate(address, kind, why, name, source, default, name_servers=servers)

    listed: List[Candidate] = []
    if lease and lease.server_identifier:
        why = f"DHCP server of {name} ({lease.client})"
        listed.append(candidate(lease.server_identifier, "server-identifier", why))
    if lease and lease.next_server:
        listed.append(candidate(lease.next_server, "next-server", f"next-server of {name} ({lease.client})"))
    if default or servers:
        asked = f"the name servers of {name}" if servers else "the system's name servers"
        listed.append(candidate(DATA_SERVER, "data-server", f"the name data-server., from {asked}"))
    if lease:
        why = f"router of {name} ({lease.client})"
        listed.extend(candidate(router, "gateway", why) for router in lease.routers)
    for gateway in dict.fromkeys(gateways):
        if not lease or gateway not in lease.routers:
            listed.append(candidate(gateway, "gateway", f"default route of {name}"))
    yield from (one for one in listed if one.address not in own)
