"""network_data.json as CloudStack's builder writes it, by release (field/network-data#1.1 and #1.2).

In cloud.yaml:

    network:
      form: later          # 4.19, 4.20, later (the default) or absent
      dns: [10.7.0.2]
      nics:
        - {mac: "02:01:00:c4:00:05", dhcp: ConfigDrive, addresses: [10.7.0.21/24], gateways: [10.7.0.1]}
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from csagent import validation
from csagent.errors import UsageError

OLD, PER_NIC, WHOLE, ABSENT = "4.19", "4.20", "later", "absent"
FORMS = (OLD, PER_NIC, WHOLE, ABSENT)
BY_DRIVE, BY_ROUTER, NOBODY, ROUTED = "ConfigDrive", "VirtualRouter", "none", "routed"
PROVIDERS = (BY_DRIVE, BY_ROUTER, NOBODY, ROUTED)
NO_MTU = 1500  # what is written where the NIC has none

_MAC = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5}\Z", re.ASCII)


@dataclass(frozen=True)
class CloudNic:
    """A NIC, whose place in the list is CloudStack's number of it. `dhcp` is who gives addresses: PROVIDERS.

    Of each address the gateway at the same place, or none.
    """

    mac: str
    dhcp: str = BY_DRIVE
    addresses: Tuple[str, ...] = ()
    gateways: Tuple[Optional[str], ...] = ()
    mtu: int = NO_MTU


@dataclass(frozen=True)
class CloudNetwork:
    """All NICs of a VM, their name servers, and the release that writes them."""

    nics: Tuple[CloudNic, ...] = ()
    dns: Tuple[str, ...] = ()
    form: str = WHOLE

    def file(self) -> Optional[bytes]:
        """The file's content; None where this release writes none."""
        cause = any(nic.dhcp in (BY_DRIVE, ROUTED) for nic in self.nics)
        if self.form == ABSENT and not cause:
            return None
        if self.form == OLD or not cause:
            return b"{}"
        listed = [
            (number, nic)
            for number, nic in enumerate(self.nics)
            if self.form != PER_NIC or nic.dhcp in (BY_DRIVE, ROUTED)
        ]
        document = {
            "links": [_link(number, nic) for number, nic in listed],
            "networks": [
                _network(number, nic, place)
                for number, nic in listed
                if nic.dhcp != NOBODY
                for place in range(len(nic.addresses))
            ],
            "services": [{"address": address, "type": "dns"} for address in self.dns],
        }
        return json.dumps(document, separators=(",", ":")).encode()


def _link(number: int, nic: CloudNic) -> Dict[str, Any]:
    return {"ethernet_mac_address": nic.mac, "id": f"eth{number}", "mtu": nic.mtu, "type": "phy"}


def _network(number: int, nic: CloudNic, place: int) -> Dict[str, Any]:
    """IPv4 masks are dotted, those of IPv6 the prefix length as text; a route is to everywhere."""
    own = ipaddress.ip_interface(nic.addresses[place])
    gateway = nic.gateways[place] if place < len(nic.gateways) else None
    four = own.version == 4
    network: Dict[str, Any] = {
        "id": f"eth{number}",
        "ip_address": str(own.ip),
        "link": f"eth{number}",
        "netmask": str(own.netmask) if four else str(own.network.prefixlen),
        "network_id": f"00000000-0000-4000-8000-{number:012d}",
        "type": "ipv4" if four else "ipv6",
    }
    if nic.dhcp == ROUTED and four:
        return {**network, "gateway": gateway}
    everywhere = ("0.0.0.0", "0.0.0.0") if four else ("::", "0")  # noqa: S104  a destination
    route = {"gateway": gateway, "netmask": everywhere[1], "network": everywhere[0]}
    return {**network, "routes": [route]}


def describe(value: Any, where: str) -> CloudNetwork:
    """What cloud.yaml says under `network`.

    Raises:
        UsageError: a key that is unknown, or a value that cannot be.
    """
    said = _mapping(value, where, ("form", "dns", "nics"))
    form = said.get("form", WHOLE)
    if form not in FORMS:  # 4.20 without quotes is 4.2 to YAML
        raise UsageError(f"{where}: form must be one of {', '.join(FORMS)}, numbers in quotes")
    nics = tuple(_nic(one, f"{where}: nics") for one in _list(said.get("nics"), f"{where}: nics"))
    servers = _list(said.get("dns"), f"{where}: dns")
    dns = tuple(_address(one, f"{where}: dns", ipaddress.ip_address) for one in servers)
    return CloudNetwork(nics, dns, form)


def _nic(value: Any, where: str) -> CloudNic:
    said = _mapping(value, where, ("mac", "dhcp", "addresses", "gateways", "mtu"))
    mac, dhcp, mtu = said.get("mac"), said.get("dhcp", BY_DRIVE), said.get("mtu", NO_MTU)
    if not isinstance(mac, str) or not _MAC.match(mac):
        raise UsageError(f"{where}: mac must be a MAC address in quotes")
    if dhcp not in PROVIDERS:
        raise UsageError(f"{where}: dhcp must be one of {', '.join(PROVIDERS)}")
    if isinstance(mtu, bool) or not isinstance(mtu, int):
        raise UsageError(f"{where}: mtu must be a number")
    addresses = _list(said.get("addresses"), where)
    gateways = _list(said.get("gateways"), where)
    return CloudNic(
        mac,
        dhcp,
        tuple(_address(one, where, ipaddress.ip_interface) for one in addresses),
        tuple(None if one is None else _address(one, where, ipaddress.ip_address) for one in gateways),
        mtu,
    )


def _address(value: Any, where: str, kind: Any) -> str:
    try:
        return str(kind(value))
    except ValueError:
        raise UsageError(f"{where}: {validation.excerpt(str(value))} is not an address") from None


def _mapping(value: Any, where: str, known: Tuple[str, ...]) -> Dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: must be a mapping")
    for key in value:
        if key not in known:
            raise UsageError(f"{where}: unknown key {validation.excerpt(str(key))}")
    return value


def _list(value: Any, where: str) -> List[Any]:
    if not isinstance(value, (list, type(None))):
        raise UsageError(f"{where}: must be a list")
    return value or []
