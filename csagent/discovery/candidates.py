"""Which addresses may be a virtual router, in the order in which to ask (field/cloudstack#1.1 to #1.4).

Per NIC: the DHCP server identifier, next-server, the name `data-server.`, the NIC's router. On a shared
network the router is a physical one; believing an answer is not decided here.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from csagent.discovery.leases.text import given_addresses
from csagent.discovery.networks import network
from csagent.model import Candidate, Lease, Nic, Route

DATA_SERVER = "data-server."  # with the dot: without it a resolver tries its search list first

SOURCES_LIMIT = 3  # addresses of a NIC without a lease, of which a router may know one

SHORT = {"next-server": "next-server", "gateway": "router"}  # what an address may be besides


class Resolver(NamedTuple):
    """The name servers of the machine, and its domain (see `csagent.discovery.resolv_conf`)."""

    name_servers: Tuple[str, ...] = ()
    domain: Optional[str] = None
    path: str = ""


def candidates(
    nics: Sequence[Nic],
    routes: Sequence[Route],
    leases: Sequence[Lease],
    default: Optional[str],
    resolver: Optional[Resolver] = None,
) -> Tuple[Candidate, ...]:
    """The candidates of the default NIC first, then of the others by index.

    A NIC without a lease counts where a default route leads over it, or where it is the default NIC: a
    container bridge has an address too. An address that a NIC names twice is listed once, with both
    reasons, at its first place. No address of any NIC is listed: it would be this machine.

    Args:
        nics: as the kernel has them.
        routes: the default routes.
        leases: those that hold, at most one a NIC.
        default: the name of the default NIC.
        resolver: serves a NIC without a lease that names its servers, where it is the only one that counts.
            With several, nobody could tell whose network these servers speak for.
    """
    by_interface = {lease.interface: lease for lease in leases}
    named = {nic.name: nic for nic in nics}
    names = [nic.name for nic in sorted(nics, key=lambda nic: nic.ifindex)]
    names += [lease.interface for lease in leases if lease.interface not in named]
    names.sort(key=lambda name: name != default)
    gateways = {name: [route.gateway for route in routes if route.interface == name] for name in names}
    sources = {name: _sources(named.get(name), by_interface.get(name)) for name in names}
    counting = [
        name
        for name in names
        if sources[name] and (name in by_interface or gateways[name] or name == default)
    ]
    own = {address for nic in nics for address in nic.addresses}.union(*sources.values())
    found: Dict[Tuple[str, str, str], Candidate] = {}
    for name, source in [(one, source) for one in counting for source in sources[one]]:
        about = _About(
            name,
            source,
            name == default,
            by_interface.get(name),
            named.get(name),
            gateways[name],
            resolver if resolver is not None and counting == [name] else Resolver(),
        )
        for candidate in about.candidates():
            key = (candidate.address, name, source)
            if candidate.address in own:
                continue
            if key in found:
                found[key] = found[key]._replace(why=f"{found[key].why}, also its {SHORT[candidate.kind]}")
            else:
                found[key] = candidate
    return tuple(found.values())


def _sources(nic: Optional[Nic], lease: Optional[Lease]) -> Tuple[str, ...]:
    """By which of its addresses a router may know the NIC: the lease's, else any that somebody gave it."""
    if lease:
        return (lease.address,)
    return given_addresses(nic)[:SOURCES_LIMIT] if nic else ()


class _About(NamedTuple):
    """One NIC that counts, and all that is known of its network."""

    name: str
    source: str
    default: bool
    lease: Optional[Lease]
    nic: Optional[Nic]
    gateways: List[str]
    resolver: Resolver

    def candidates(self) -> Iterator[Candidate]:
        """In the order in which to ask."""
        lease = self.lease
        if lease and lease.server_identifier:
            why = f"DHCP server of {self.name} ({lease.client})"
            yield self._named(lease.server_identifier, "server-identifier", why)
        if lease and lease.next_server:
            yield self._named(
                lease.next_server, "next-server", f"next-server of {self.name} ({lease.client})"
            )
        yield from self._data_server()
        if lease:
            for router in lease.routers:
                yield self._named(router, "gateway", f"router of {self.name} ({lease.client})")
        for gateway in dict.fromkeys(self.gateways):
            if not lease or gateway not in lease.routers:
                why = f"default route of {self.name}"
                yield Candidate(gateway, "gateway", why, self.name, self.source, self.default)

    def _named(self, address: str, kind: str, why: str) -> Candidate:
        return Candidate(address, kind, why, self.name, self.source, self.default, named=True)

    def _data_server(self) -> Iterator[Candidate]:
        lease = self.lease
        if lease and lease.name_servers:
            servers, domain, whose = lease.name_servers, lease.domain_name, self.name
        elif self.resolver.name_servers:
            servers, whose = self.resolver.name_servers, self.resolver.path
            domain = (lease and lease.domain_name) or self.resolver.domain
        else:
            return
        yield Candidate(
            DATA_SERVER,
            "data-server",
            f"the name data-server., from the name servers of {whose}",
            self.name,
            self.source,
            self.default,
            name_servers=servers,
            domain=domain,
            within=tuple(self._within()),
        )

    def _within(self) -> Iterator[str]:
        """The NIC's own networks, and what its lease names."""
        if self.nic:
            for address, prefix in zip(self.nic.addresses, self.nic.prefixes):
                yield network(address, prefix)
        if self.lease:
            named = (self.lease.server_identifier, self.lease.next_server, *self.lease.routers)
            yield from (f"{address}/32" for address in named if address)
