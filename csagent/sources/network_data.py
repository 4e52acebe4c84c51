"""``network_data.json`` of a config drive, in OpenStack's shape as CloudStack fills it.

Pure. The quirks are in field/cloudstack#6.4: absent and ``{}`` are both usual and mean nothing, a
gateway can be null, IPv6 masks are written as addresses, or as the string ``"0"``, every NIC has a default
route, and ids are CloudStack's own, so links are found by their MAC address.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Mapping, Optional, Tuple

from csagent.errors import Malformed

LINKS_LIMIT = 64
NETWORKS_LIMIT = 128
SERVICES_LIMIT = 64
ROUTES_LIMIT = 64
REASONS_LIMIT = 16

_TOKEN = re.compile(r"[A-Za-z0-9_.:-]{1,64}\Z", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z", re.ASCII)
_FAMILIES = {"ipv4": 4, "ipv6": 6}

Parsed = Tuple[Optional[Dict[str, Any]], Tuple[str, ...]]


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

        with canonical addresses, IPv4 masks dotted, IPv6 masks as addresses, and each mask's length in
        `prefix` too. Routes without a gateway are left out. What was left out for being wrong has a line
        in `reasons`.
    """
    if document is None or document == {}:
        return None, ()
    if not isinstance(document, dict):
        return None, ("not an object",)
    reasons: List[str] = []
    links = _each(document, "links", LINKS_LIMIT, _link, reasons)
    known = {link["id"] for link in links}
    networks = []
    for network in _each(document, "networks", NETWORKS_LIMIT, _network, reasons):
        if network["link"] in known:
            networks.append(network)
        else:
            reasons.append(f"network {network['id']}: its link is not among the links")
    services = _each(document, "services", SERVICES_LIMIT, _service, reasons)
    if len(reasons) > REASONS_LIMIT:
        reasons[REASONS_LIMIT:] = [f"{len(reasons) - REASONS_LIMIT} more entries were left out"]
    if not links and not services:
        return None, tuple(reasons)
    return {"links": links, "networks": networks, "services": services}, tuple(reasons)


def _each(
    document: Mapping[str, Any], name: str, limit: int, clean: Any, reasons: List[str]
) -> List[Dict[str, Any]]:
    """The clean entries of one list, without repeats."""
    entries = document.get(name)
    if entries is None:
        return []
    if not isinstance(entries, list):
        reasons.append(f"{name}: not a list")
        return []
    if len(entries) > limit:
        reasons.append(f"{name}: {len(entries)} entries, only {limit} are read")
    result: List[Dict[str, Any]] = []
    for index, entry in enumerate(entries[:limit]):
        try:
            if not isinstance(entry, dict):
                raise Malformed("not an object")
            cleaned = clean(entry, reasons)
        except Malformed as error:
            reasons.append(f"{name}[{index}]: {error}")
            continue
        if cleaned not in result:
            result.append(cleaned)
    return result


def _link(entry: Mapping[str, Any], reasons: List[str]) -> Dict[str, Any]:
    identifier = _token(entry, "id")
    mac = entry.get("ethernet_mac_address")
    mac = mac.lower().replace("-", ":") if isinstance(mac, str) else ""
    if not _MAC.match(mac):
        raise Malformed("ethernet_mac_address is not a MAC address")
    mtu = entry.get("mtu")
    if isinstance(mtu, str) and mtu.isascii() and mtu.isdigit() and len(mtu) <= 5:
        mtu = int(mtu)
    if mtu is not None and (isinstance(mtu, bool) or not isinstance(mtu, int) or not 68 <= mtu <= 65535):
        reasons.append(f"link {identifier}: its mtu is no number from 68 to 65535")
        mtu = None
    kind = _token(entry, "type") if entry.get("type") is not None else "phy"
    return {"id": identifier, "type": kind, "ethernet_mac_address": mac, "mtu": mtu}


def _network(entry: Mapping[str, Any], reasons: List[str]) -> Dict[str, Any]:
    identifier = _token(entry, "id")
    link = _token(entry, "link")
    family = entry.get("type")
    if not isinstance(family, str) or family not in _FAMILIES:
        raise Malformed("type is neither ipv4 nor ipv6")
    version = _FAMILIES[family]
    prefix = _prefix(entry.get("netmask"), version)
    routes = []
    listed = entry.get("routes")
    if listed is not None and not isinstance(listed, list):
        reasons.append(f"network {identifier}: its routes are not a list")
        listed = None
    for route in (listed or [])[:ROUTES_LIMIT]:
        try:
            cleaned = _route(route, version)
        except Malformed as error:
            reasons.append(f"network {identifier}: route: {error}")
            continue
        if cleaned is not None and cleaned not in routes:
            routes.append(cleaned)
    network_id = entry.get("network_id")
    return {
        "id": identifier,
        "link": link,
        "type": family,
        "network_id": network_id if isinstance(network_id, str) and _TOKEN.match(network_id) else None,
        "ip_address": _address(entry, "ip_address", version),
        "netmask": _mask(prefix, version),
        "prefix": prefix,
        "routes": routes,
    }


def _route(route: Any, version: int) -> Optional[Dict[str, Any]]:
    if not isinstance(route, dict):
        raise Malformed("not an object")
    if route.get("gateway") is None:
        return None  # CloudStack adds the route even where the network has no gateway
    prefix = _prefix(route.get("netmask"), version)
    return {
        "network": _address(route, "network", version),
        "netmask": _mask(prefix, version),
        "prefix": prefix,
        "gateway": _address(route, "gateway", version),
    }


def _service(entry: Mapping[str, Any], _reasons: List[str]) -> Dict[str, Any]:
    return {"type": _token(entry, "type"), "address": _address(entry, "address", None)}


def _token(entry: Mapping[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not _TOKEN.match(value):
        raise Malformed(f"{name} is not a plain name")
    return value


def _address(entry: Mapping[str, Any], name: str, version: Optional[int]) -> str:
    import ipaddress

    value = entry.get(name)
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        address = ipaddress.ip_address(value)
    except ValueError:
        raise Malformed(f"{name} is not an address") from None
    if version is not None and address.version != version:
        raise Malformed(f"{name} is not an IPv{version} address")
    return str(address)


def _prefix(value: Any, version: int) -> int:
    """A mask's length: from a dotted or address-style mask, or from a number, as text or not."""
    import ipaddress

    bits = 32 if version == 4 else 128
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if 0 <= value <= bits else ""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 3:
        length = int(value)
        if length <= bits:
            return length
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        mask = ipaddress.ip_address(value)
    except ValueError:
        raise Malformed("netmask is not a mask") from None
    inverse = int(mask) ^ ((1 << bits) - 1)
    if mask.version != version or inverse & (inverse + 1):
        raise Malformed("netmask is not a mask")
    return bits - inverse.bit_length()


def _mask(prefix: int, version: int) -> str:
    import ipaddress

    bits = 32 if version == 4 else 128
    value = ((1 << bits) - 1) ^ ((1 << (bits - prefix)) - 1)
    return str(ipaddress.IPv4Address(value) if version == 4 else ipaddress.IPv6Address(value))
