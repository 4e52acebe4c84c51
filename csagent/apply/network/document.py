"""What ``network_data.json`` says, as facts, made from what `csagent.sources.network_data` has cleaned."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

_NUMBERED = re.compile(r"eth(0|[1-9][0-9]{0,5})\Z", re.ASCII)
NO_STATEMENT = 1500  # what the builder writes as MTU where it knows none (field/network-data#N11)


class Address(NamedTuple):
    """One address of a NIC. `gateway` is that of its default route, `onlink` where it is no neighbour."""

    version: int
    address: str
    prefix: int
    gateway: Optional[str] = None
    onlink: bool = False

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"


class Link(NamedTuple):
    """A NIC of the document. `number` is CloudStack's device number; None where the id is no eth<n>."""

    id: str
    mac: str
    number: Optional[int] = None
    mtu: Optional[int] = None
    addresses: Tuple[Address, ...] = ()


class Document(NamedTuple):
    """A whole document.

    `digest` is that of the cleaned one: spelling and form do not count (field/network-data#N15).
    """

    links: Tuple[Link, ...] = ()
    dns: Tuple[str, ...] = ()
    digest: str = ""

    @property
    def says_nothing(self) -> bool:
        """Whether no NIC gets an address: ``{}``, only links, only services (field/network-data#N1)."""
        return not any(link.addresses for link in self.links)

    def link(self, mac: str) -> Optional[Link]:
        """The NIC with this MAC address."""
        return next((link for link in self.links if link.mac == mac), None)


NOTHING_SAID = Document()


def of(network: Optional[Mapping[str, Any]]) -> Document:
    """The document that a source gave; None, which is what ``{}`` is cleaned to, says nothing."""
    if not network:
        return NOTHING_SAID
    addresses: Dict[str, List[Address]] = {}
    for entry in network["networks"]:
        addresses.setdefault(entry["link"], []).append(_address(entry))
    links = [
        Link(
            entry["id"],
            entry["ethernet_mac_address"],
            _number(entry["id"]),
            None if entry["mtu"] == NO_STATEMENT else entry["mtu"],
            tuple(addresses.get(entry["id"], ())),
        )
        for entry in network["links"]
    ]
    dns = tuple(entry["address"] for entry in network["services"] if entry["type"] == "dns")
    spelled = json.dumps([links, dns], sort_keys=True).encode()
    return Document(tuple(links), dns, hashlib.sha256(spelled).hexdigest())


def _number(identifier: str) -> Optional[int]:
    match = _NUMBERED.match(identifier)
    return int(match.group(1)) if match else None


def _address(entry: Mapping[str, Any]) -> Address:
    import ipaddress

    own = ipaddress.ip_interface(f"{entry['ip_address']}/{entry['prefix']}")
    gateway = entry["routes"][0]["gateway"] if entry["routes"] else None
    onlink = False
    if gateway is not None:
        hop = ipaddress.ip_address(gateway)
        onlink = hop.is_link_local or hop not in own.network
    return Address(own.version, str(own.ip), own.network.prefixlen, gateway, onlink)
