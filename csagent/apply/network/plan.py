"""What is to be done with each NIC: the nouns of the network's part of a plan."""

from __future__ import annotations

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

CONFIGURE, LEAVE, REMOVE = "configure", "leave", "remove"

# What became of a NIC (csagent.plan.NicOutcome).
APPLIED, UNCHANGED, UNCONFIRMED = "applied", "unchanged", "unconfirmed"
FAILED, LEFT, REMOVED, WRITTEN = "failed", "left", "removed", "written"
DONE = (APPLIED, REMOVED, WRITTEN)  # a pass has changed something

DEFAULT_METRIC = 100  # of CloudStack's default NIC, eth0 (field/network-data#N27)
OTHER_METRIC = (
    2000  # and a NIC's number: behind what DHCP gives with networkd (1024), NetworkManager, dhclient
)


class Route(NamedTuple):
    """A default route. Of one family `order` 1 wins against 2; `onlink` where the gateway is no neighbour."""

    to: str
    via: str
    onlink: bool = False
    order: int = 1
    metric: int = DEFAULT_METRIC

    @property
    def version(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.to else 4


class Wanted(NamedTuple):
    """All that a NIC shall have. Addresses are like "10.7.0.21/24"; an MTU of None is not written."""

    mac: str
    interface: str
    addresses: Tuple[str, ...] = ()
    routes: Tuple[Route, ...] = ()
    dns: Tuple[str, ...] = ()
    mtu: Optional[int] = None

    def of_version(self, version: int) -> Tuple[str, ...]:
        """Its addresses of one IP version."""
        return tuple(one for one in self.addresses if (":" in one) == (version == 6))

    def route(self, version: int) -> Optional[Route]:
        """Its default route of one IP version; a NIC has one at most."""
        return next((route for route in self.routes if route.version == version), None)

    def servers(self, version: int) -> Tuple[str, ...]:
        """Its name servers of one IP version."""
        return tuple(one for one in self.dns if (":" in one) == (version == 6))


def as_plain(wanted: Wanted) -> Dict[str, Any]:
    """What `from_plain` makes the same of, after JSON."""
    return {**wanted._asdict(), "routes": [route._asdict() for route in wanted.routes]}


def from_plain(said: Mapping[str, Any]) -> Wanted:
    """What `as_plain` was given.

    Raises:
        ValueError: it is something else.
    """
    try:
        routes = tuple(Route(**route) for route in said["routes"])
        lists = {name: tuple(said[name]) for name in ("addresses", "dns")}
        return Wanted(**{**said, **lists, "routes": routes})
    except (TypeError, KeyError):
        raise ValueError("not what a NIC shall have") from None


class File(NamedTuple):
    """A file of ours as it shall be. `content` of None: it shall not be there."""

    path: str
    content: Optional[str]
    mode: int = 0o644


class NicPlan(NamedTuple):
    """One NIC: what is to `do` with it, and why. `files` are all that have to be so, changed or not."""

    mac: str
    interface: Optional[str]
    do: str
    reason: str
    owner: Optional[str] = None
    wanted: Optional[Wanted] = None
    files: Tuple[File, ...] = ()
    source: str = ""  # the digest of what the document says of it
    note: str = ""  # what of it cannot be done here
    failed: bool = False  # it was tried with this document, and put back
    starting: bool = False  # the manager is not up yet, or there is none to tell
    beside: Tuple[
        str, ...
    ] = ()  # addresses of somebody's beside csagent's own, which a change would take away


class NetworkPlan(NamedTuple):
    """All NICs of the machine, and those that are gone and had a file of ours.

    `nothing`: the document says nothing for this machine. `absent` are the document's MAC addresses that the
    machine does not have, `refused` what of the document is not believed, one line each.
    """

    nics: Tuple[NicPlan, ...] = ()
    nothing: bool = True
    absent: Tuple[str, ...] = ()
    refused: Tuple[str, ...] = ()
    document: str = ""  # its digest
    leased: Tuple[str, ...] = ()  # MAC addresses of NICs that have a DHCP lease
