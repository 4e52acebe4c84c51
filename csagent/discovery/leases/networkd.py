"""systemd-networkd, also as netplan's renderer.

Up to 257 `/run/systemd/netif/leases/INDEX`, ``KEY=value`` without sections, there while the lease is
bound. 262 has no such file: `networkctl --json=short status IF` knows instead (`ConfigProvider` of the
address whose `ConfigSource` is DHCPv4), for anybody, as long as the daemon runs.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Sequence

from csagent.discovery.leases.client import RawLeases, Statement
from csagent.discovery.leases.text import base, by_index, domain, ipv4_list, pairs, routable, whole_lines
from csagent.model import Lease, Nic, Rejected
from csagent.system import json_limits
from csagent.validation import ipv4, ipv4_bytes

NAME = "systemd-networkd"
LEASES = "/run/systemd/netif/leases/*"
LINKS = "/run/systemd/netif/links/"
FILES = (LEASES, LINKS + "*")
MARKS = ()


def complete(content: bytes) -> bool:
    """Whether it ends in a whole line; networkd renames its files into place."""
    return content.endswith(b"\n")


def statements(raw: RawLeases, nics: Sequence[Nic]) -> Iterator[Statement]:
    """The lease files, then what `networkctl` says of managed NICs that have an address and no file."""
    named = by_index(nics)
    answered = set()
    for path, content in raw.matching(LEASES):
        nic = named.get(base(path))
        if nic is None:
            if base(path).isdigit():
                yield Rejected(path, NAME, None, f"no interface has the index {base(path)}")
            continue
        answered.add(nic.name)
        yield lease(content, nic.name, NAME, path)
    for nic in nics:
        link = raw.files.get(LINKS + str(nic.ifindex))
        if nic.name in answered or link is None or routable(nic) is None:
            continue
        if pairs(whole_lines(link)).get("ADMIN_STATE") == "unmanaged":
            continue
        argv = ("networkctl", "--json=short", "status", nic.name)
        output = raw.command(*argv)
        if output is not None:
            yield from _answer(output, nic, " ".join(argv))


def lease(content: bytes, interface: str, client: str, path: str) -> Statement:
    """One lease file; also NetworkManager's of the EL8 era, which has the same keys."""
    said = pairs(whole_lines(content))
    address = ipv4(said.get("ADDRESS"))
    if address is None:
        return Rejected(path, client, interface, "no usable address in it")
    return Lease(
        interface=interface,
        client=client,
        address=address,
        server_identifier=ipv4(said.get("SERVER_ADDRESS")),
        routers=ipv4_list(said.get("ROUTER")),
        domain_name=domain(said.get("DOMAINNAME")),
        name_servers=ipv4_list(said.get("DNS")),
        next_server=ipv4(said.get("NEXT_SERVER")),
        path=path,
    )


def _answer(output: bytes, nic: Nic, path: str) -> Iterator[Statement]:
    try:
        status = json_limits.loads(output)
    except (ValueError, RecursionError):
        yield Rejected(path, NAME, nic.name, "the answer is not JSON")
        return
    for entry in _dicts(status, "Addresses"):
        if entry.get("ConfigSource") != "DHCPv4":
            continue
        address = _octets(entry.get("Address"))
        if address is None:
            continue
        options = _options(status)
        message = _nested(status, "DHCPv4Client", "Lease", "Message")
        servers = _octets_list(_dicts(status, "DNS"), "Address")
        yield Lease(
            interface=nic.name,
            client=NAME,
            address=address,
            server_identifier=_octets(entry.get("ConfigProvider")) or ipv4_bytes(options.get(54, b"")),
            routers=_routers(status),
            domain_name=domain(options.get(15, b"").decode("ascii", "replace")),
            name_servers=servers,
            next_server=ipv4_bytes(_hex(message.get("siaddr"))),
            path=path,
        )


def _routers(status: Any) -> "tuple[str, ...]":
    defaults = [entry for entry in _dicts(status, "Routes") if entry.get("DestinationPrefixLength") == 0]
    return _octets_list(defaults, "Gateway")


def _octets_list(entries: List[Dict[str, Any]], key: str) -> "tuple[str, ...]":
    found = [_octets(entry.get(key)) for entry in entries if entry.get("ConfigSource") == "DHCPv4"]
    return ipv4_list(" ".join(address for address in found if address))


def _octets(value: Any) -> Optional[str]:
    """An address as networkctl writes it, a list of four numbers."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(isinstance(octet, int) and 0 <= octet <= 255 for octet in value):
        return None
    return ipv4_bytes(bytes(value))


def _options(status: Any) -> Dict[int, bytes]:
    found: Dict[int, bytes] = {}
    for entry in _dicts(_nested(status, "DHCPv4Client", "Lease", "Message"), "options"):
        tag = entry.get("tag")
        if isinstance(tag, int):
            found[tag] = found.get(tag, b"") + _hex(entry.get("data"))
    return found


def _hex(value: Any) -> bytes:
    try:
        return bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        return b""


def _nested(value: Any, *keys: str) -> Dict[str, Any]:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _dicts(value: Any, key: str) -> List[Dict[str, Any]]:
    entries = value.get(key) if isinstance(value, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
