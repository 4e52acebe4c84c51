"""``network_data.json`` of a config drive, in OpenStack's shape as CloudStack fills it.

Pure. The quirks are in field/network-data#1.2: absent and ``{}`` are both usual and mean nothing, a
gateway can be null, or a key of the network (routed networks), IPv6 masks are prefix lengths as text, every
NIC has a default route, and ids are CloudStack's own, so links are found by their MAC address.
"""

from __future__ import annotations

import ipaddress
import re
from typing import AbstractSet, Any, Dict, Iterator, List, Mapping, Optional, Set, Tuple

from csagent.errors import Malformed
from csagent.sources.nic_addresses import (
    Address,
    against_gateway,
    against_name_server,
    against_nic,
    mask,
    prefix_length,
    written,
)
from csagent.validation import excerpt

LINKS_LIMIT = 64
NETWORKS_LIMIT = 128
SERVICES_LIMIT = 64
ROUTES_LIMIT = 64
REASONS_LIMIT = 64

_TOKEN = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z", re.ASCII)
_MADE_OF_OTHERS = ("bond", "vlan")  # of OpenStack's, with the MAC address of a NIC (network_data.json schema)
_FAMILIES = {"ipv4": 4, "ipv6": 6}

Parsed = Tuple[Optional[Dict[str, Any]], Tuple[str, ...]]
Entry = Dict[str, Any]


def parse(document: Any) -> Parsed:
    """Clean a document.

    Args:
        document: the parsed JSON; None where the file is absent.

    Returns:
        (network, reasons). `network` is None where the document says nothing, else

            {"links": [{"id", "type", "ethernet_mac_address", "mtu": int or null}],
             "networks": [{"id", "link", "type": "ipv4" or "ipv6", "network_id": str or null,
                           "ip_address", "netmask", "prefix": int,
                           "routes": [{"network", "netmask", "prefix", "gateway"}]}],
             "services": [{"type", "address"}]}

        with canonical addresses, MAC addresses in lower case and each on one link, IPv4 masks dotted, IPv6
        masks as addresses, and each mask's length in `prefix` too. `routes` holds at most one: the default
        route, wherever its gateway stood; without a gateway there is none. What was left out for being
        wrong has a line in `reasons`.
    """
    if document is None or document == {}:
        return None, ()
    if not isinstance(document, dict):
        return None, ("not an object",)
    reasons: List[str] = []
    entries = _each(document, "networks", NETWORKS_LIMIT, _network, reasons)
    links = _links(document, {str(network["link"]) for _label, network in entries}, reasons)
    networks = _networks(entries, {str(link["id"]) for link in links}, reasons)
    services: List[Entry] = []
    for _label, service in _each(document, "services", SERVICES_LIMIT, _service, reasons):
        if service not in services:
            services.append(service)
    if len(reasons) > REASONS_LIMIT:
        reasons[REASONS_LIMIT:] = [f"{len(reasons) - REASONS_LIMIT} more entries were left out"]
    if not links and not services:
        return None, tuple(reasons)
    return {"links": links, "networks": networks, "services": services}, tuple(reasons)


def _each(
    document: Mapping[str, Any], name: str, limit: int, clean: Any, reasons: List[str]
) -> List[Tuple[str, Entry]]:
    """The clean entries of one list, each with what a reason calls it."""
    entries = document.get(name)
    if entries is None:
        return []
    if not isinstance(entries, list):
        reasons.append(f"{name}: not a list")
        return []
    if len(entries) > limit:
        reasons.append(f"{name}: {len(entries)} entries, only {limit} are read")
    result: List[Tuple[str, Entry]] = []
    for index, entry in enumerate(entries[:limit]):
        label = _label(name, index, entry)
        try:
            if not isinstance(entry, dict):
                raise Malformed("not an object")
            result.append((label, clean(entry, label, reasons)))
        except Malformed as error:
            reasons.append(f"{label}: {error}")
    return result


def _label(name: str, index: int, entry: Any) -> str:
    """networks[2] (eth1)."""
    identifier = entry.get("id") if isinstance(entry, dict) else None
    plain = isinstance(identifier, str) and _TOKEN.match(identifier)
    return f"{name}[{index}] ({identifier})" if plain else f"{name}[{index}]"


def _links(document: Mapping[str, Any], wanted: Set[str], reasons: List[str]) -> List[Entry]:
    """The links, each MAC address and each id once; of two with one MAC that which has a network counts."""
    listed = _each(document, "links", LINKS_LIMIT, _link, reasons)
    chosen: Dict[str, Entry] = {}
    for _label, link in sorted(listed, key=lambda one: one[1]["id"] not in wanted):
        chosen.setdefault(link["ethernet_mac_address"], link)
    links: List[Entry] = []
    for label, link in listed:
        first = chosen[link["ethernet_mac_address"]]
        if link is first and not any(one["id"] == link["id"] for one in links):
            links.append(link)
        elif link is first:
            reasons.append(f"{label}: another link has this id already")
        elif link != first:
            reasons.append(f"{label}: its MAC address is that of {first['id']} already")
    return links


def _link(entry: Mapping[str, Any], label: str, reasons: List[str]) -> Entry:
    identifier = _token(entry, "id")
    said = mac = entry.get("ethernet_mac_address")
    mac = mac.lower().replace("-", ":") if isinstance(mac, str) else ""
    if not _MAC.match(mac):
        raise Malformed(f"ethernet_mac_address{_shown(said)} is not a MAC address")
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise Malformed(f"ethernet_mac_address {mac} is no NIC's")
    told = mtu = entry.get("mtu")
    if isinstance(mtu, str) and mtu.isascii() and mtu.isdigit() and len(mtu) <= 5:
        mtu = int(mtu)
    if mtu is not None and (isinstance(mtu, bool) or not isinstance(mtu, int) or not 68 <= mtu <= 65535):
        reasons.append(f"{label}: its mtu{_shown(told)} is no number from 68 to 65535")
        mtu = None
    kind = _token(entry, "type") if entry.get("type") is not None else "phy"
    if kind in _MADE_OF_OTHERS:
        raise Malformed(f"type {kind}: it is made of other NICs, and CloudStack gives none")
    return {"id": identifier, "type": kind, "ethernet_mac_address": mac, "mtu": mtu}


def _networks(entries: List[Tuple[str, Entry]], known: Set[str], reasons: List[str]) -> List[Entry]:
    """The networks of known links whose address a NIC can have, without repeats."""
    fit: List[Tuple[str, Entry]] = []
    for label, network in entries:
        against = "its link is not among the links" if network["link"] not in known else _unfit(network)
        if against is None:
            fit.append((label, network))
        else:
            reasons.append(f"{label}: {against}")
    networks: List[Entry] = []
    for label, network in fit:
        beside = [one for _label, one in fit if one["link"] == network["link"]]
        against = _unfit(network, {str(route["gateway"]) for one in beside for route in one["routes"]})
        if against is not None:
            reasons.append(f"{label}: {against}")
        elif network not in networks:
            networks.append(network)
    return networks


def _unfit(network: Entry, gateways: AbstractSet[str] = frozenset()) -> Optional[str]:
    """Why no NIC can have the address of a network, whose NIC has these gateways."""
    address = ipaddress.ip_address(network["ip_address"])
    against = against_nic(address, network["prefix"], gateways)
    return None if against is None else f"{address} {against}"


def _network(entry: Mapping[str, Any], label: str, reasons: List[str]) -> Entry:
    identifier = _token(entry, "id")
    link = _token(entry, "link")
    family = entry.get("type")
    if not isinstance(family, str) or family not in _FAMILIES:
        raise Malformed("type is neither ipv4 nor ipv6")
    version = _FAMILIES[family]
    prefix = prefix_length(entry.get("netmask"), version)
    address = _address(entry, "ip_address", version)
    network_id = entry.get("network_id")
    return {
        "id": identifier,
        "link": link,
        "type": family,
        "network_id": network_id if isinstance(network_id, str) and _TOKEN.match(network_id) else None,
        "ip_address": str(address),
        "netmask": mask(prefix, version),
        "prefix": prefix,
        "routes": _default_route(entry, address, prefix, label, reasons),
    }


def _default_route(
    entry: Mapping[str, Any], address: Address, prefix: int, label: str, reasons: List[str]
) -> List[Entry]:
    """The default route of a network, from its first route that is one, else from its own gateway."""
    found: Optional[str] = None
    for gateway in _gateways(entry, address.version, label, reasons):
        against = against_gateway(gateway, address, prefix)
        if str(gateway) == str(address):
            pass  # it is the address that is refused
        elif against is not None:
            reasons.append(f"{label}: gateway {gateway} {against}")
            continue
        if found is not None and found != str(gateway):
            reasons.append(f"{label}: gateway {gateway}: {found} is its gateway already")
        found = found or str(gateway)
    if found is None:
        return []
    nowhere = str(ipaddress.ip_network("0.0.0.0/0" if address.version == 4 else "::/0").network_address)
    return [{"network": nowhere, "netmask": nowhere, "prefix": 0, "gateway": found}]


def _gateways(entry: Mapping[str, Any], version: int, label: str, reasons: List[str]) -> Iterator[Address]:
    """The gateways that a network names; what is no default route has a reason."""
    routes = entry.get("routes")
    if routes is not None and not isinstance(routes, list):
        reasons.append(f"{label}: its routes are not a list")
    for route in routes[:ROUTES_LIMIT] if isinstance(routes, list) else ():
        try:
            if not isinstance(route, dict):
                raise Malformed("not an object")
            if route.get("gateway") is None:
                continue
            gateway = _address(route, "gateway", version)
            network = _address(route, "network", version)
            prefix = prefix_length(route.get("netmask"), version)
            if prefix or not network.is_unspecified:
                raise Malformed(f"{network}/{prefix}: CloudStack gives default routes only")
            yield gateway
        except Malformed as error:
            reasons.append(f"{label}: route: {error}")
    if entry.get("gateway") is not None:
        try:
            yield _address(entry, "gateway", version)
        except Malformed as error:
            reasons.append(f"{label}: {error}")


def _service(entry: Mapping[str, Any], _label: str, _reasons: List[str]) -> Entry:
    kind, address = _token(entry, "type"), _address(entry, "address", None)
    against = against_name_server(address) if kind == "dns" else None
    if against is not None:
        raise Malformed(f"{address} {against}")
    return {"type": kind, "address": str(address)}


def _token(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not _TOKEN.match(value):
        raise Malformed(f"{name}{_shown(value)} is not a plain name")
    return value


def _address(entry: Mapping[str, Any], name: str, version: Optional[int]) -> Address:
    value = entry.get(name)
    try:
        address = written(value)
    except ValueError:
        raise Malformed(f"{name}{_shown(value)} is not an address") from None
    if version is not None and address.version != version:
        raise Malformed(f"{name}{_shown(value)} is not an IPv{version} address")
    return address


def _shown(value: Any) -> str:
    """A wrong value behind its name, where it is text or a number."""
    if isinstance(value, str):
        return f" {excerpt(value)}"
    return f" {value}" if isinstance(value, (int, float)) and not isinstance(value, bool) else ""
