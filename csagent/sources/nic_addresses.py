"""Masks in every spelling, and whether an address can be a NIC's, a gateway's or a name server's. Pure.

CloudStack's builder copies addresses without a check. The `against_...` functions say why not, in words that
follow the address, or give None.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Container, Optional, Union

from csagent.errors import Malformed
from csagent.validation import excerpt

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]

_ZEROS = re.compile(r"(?:^|\.)0[0-9]+(?:\.|\Z)")  # 010.7.0.1
THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")


def against_nic(address: Address, prefix: int, gateways: Container[str]) -> Optional[str]:
    """Why a NIC cannot have this address.

    Args:
        address: what the document says.
        prefix: the length of its network.
        gateways: canonical addresses of the NIC's gateways: they are somebody else's.
    """
    nobodys = _nobodys(address)
    if nobodys is not None:
        return nobodys
    if address.is_link_local:
        return "is a link-local address, which no network of CloudStack's gives"
    if prefix == 0:
        return "has a netmask that makes all addresses its neighbours"
    if str(address) in gateways:
        return "is a gateway's own address"
    return _against_place(address, prefix)


def against_gateway(address: Address, own: Address, prefix: int) -> Optional[str]:
    """Why this cannot be the gateway of a NIC with the address `own`; a link-local one can."""
    nobodys = _nobodys(address)
    if nobodys is not None:
        return nobodys
    within = ipaddress.ip_interface(f"{own}/{prefix}").network
    return _against_place(address, prefix) if address in within else None


def against_name_server(address: Address) -> Optional[str]:
    """Why a NIC cannot be given this name server."""
    if address.version == 6 and address.is_link_local:
        return "is a link-local address, which says nothing without a NIC"
    return _nobodys(address)


def _nobodys(address: Address) -> Optional[str]:
    """What no single machine on a network has."""
    if address.is_unspecified:
        return "is no address"
    if address.is_loopback:
        return "is a loopback address"
    if address.is_multicast:
        return "is a multicast address"
    if isinstance(address, ipaddress.IPv6Address):
        return "is an IPv4 address in IPv6's spelling" if address.ipv4_mapped is not None else None
    if address in THIS_NETWORK:
        return "is in 0.0.0.0/8, which is no network"
    return "is the broadcast address" if int(address) == 0xFFFFFFFF else None


def _against_place(address: Address, prefix: int) -> Optional[str]:
    """IPv4's first and last address of a network are nobody's, but in one of two addresses (RFC 3021)."""
    if address.version == 6 or prefix > 30:
        return None
    network = ipaddress.ip_interface(f"{address}/{prefix}").network
    if address == network.network_address:
        return f"is the address of the network {network} itself"
    if address == network.broadcast_address:
        return f"is the broadcast address of {network}"
    return None


def prefix_length(value: Any, version: int) -> int:
    """A mask's length: from a dotted or address-style mask, or from a number, as text or not.

    Raises:
        Malformed: it is none of a network of this IP version.
    """
    bits = 32 if version == 4 else 128
    shown = f" {excerpt(value)}" if isinstance(value, str) else ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if 0 <= value <= bits else ""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 3:
        length = int(value)
        if length <= bits:
            return length
    try:
        parsed = written(value)
    except ValueError:
        raise Malformed(f"netmask{shown} is not a mask") from None
    inverse = int(parsed) ^ ((1 << bits) - 1)
    if parsed.version != version or inverse & (inverse + 1):
        raise Malformed(f"netmask{shown} is not a mask")
    return bits - inverse.bit_length()


def written(value: Any) -> Address:
    """An address as text, without a zone.

    Raises:
        ValueError: it is none. Zeros in front, octal to some, are refused by Python from 3.9.5 on.
    """
    if not isinstance(value, str) or "%" in value or _ZEROS.search(value):
        raise ValueError
    return ipaddress.ip_address(value)


def mask(prefix: int, version: int) -> str:
    """255.255.255.0 for 24; IPv6's as an address, too."""
    bits = 32 if version == 4 else 128
    value = ((1 << bits) - 1) ^ ((1 << (bits - prefix)) - 1)
    return str(ipaddress.IPv4Address(value) if version == 4 else ipaddress.IPv6Address(value))
