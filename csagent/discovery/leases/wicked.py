"""wicked: `/run/wicked/leaseinfo.IF.dhcp.ipv4` of this boot, `/var/lib/wicked/lease-IF-dhcp-ipv4.xml` of any.

The XML says `granted` after expiry, release and reboot alike; only its address on the NIC speaks for it.
It is read line by line, as wicked writes it, and without an XML parser: nothing here needs entities.
"""

from __future__ import annotations

import re
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from csagent.discovery.leases.client import RawLeases, Statement
from csagent.discovery.leases.text import INFINITE, base, domain, ipv4_list, number, pairs, whole_lines
from csagent.model import Lease, Nic, Rejected
from csagent.validation import ipv4

NAME = "wicked"
LEASEINFO = "/run/wicked/leaseinfo.*.dhcp.ipv4"
XML = "/var/lib/wicked/lease-*-dhcp-ipv4.xml"
FILES = (LEASEINFO, XML)
MARKS = ()

_ELEMENT = re.compile(r"\s*<([a-z-]+)>([^<>]*)</\1>\s*")


def complete(content: bytes) -> bool:
    """Whether it has reached its end; leaseinfo is truncated first and then written."""
    return content.endswith(b"</lease>\n") or content.endswith(b"'\n")


def statements(raw: RawLeases, nics: Sequence[Nic]) -> Iterator[Statement]:
    """What holds in this boot, then what was written on disk."""
    for path, content in raw.matching(LEASEINFO):
        said = pairs(whole_lines(content), quoted=True)
        interface = base(path)[len("leaseinfo.") : -len(".dhcp.ipv4")]
        if said.get("INTERFACE", interface) != interface:
            yield Rejected(path, NAME, interface, f"it is about {said['INTERFACE'][:15]!r}")
            continue
        yield _leaseinfo(said, interface, path)
    for path, content in raw.matching(XML):
        interface = base(path)[len("lease-") : -len("-dhcp-ipv4.xml")]
        yield _xml(content, interface, path)


def _leaseinfo(said: Dict[str, str], interface: str, path: str) -> Statement:
    address = ipv4(said.get("IPADDR", "").partition("/")[0])
    if address is None:
        return Rejected(path, NAME, interface, "no usable address in it")
    return Lease(
        interface=interface,
        client=NAME,
        address=address,
        server_identifier=ipv4(said.get("SERVERID")),
        routers=ipv4_list(said.get("GATEWAYS")),
        domain_name=domain(said.get("DNSDOMAIN")),
        name_servers=ipv4_list(said.get("DNSSERVERS")),
        next_server=ipv4(said.get("BOOTSERVERADDR")),
        expires=_end(said.get("ACQUIRED"), said.get("LEASETIME")),
        path=path,
    )


def _xml(content: bytes, interface: str, path: str) -> Statement:
    if not content.rstrip().endswith(b"</lease>"):
        return Rejected(path, NAME, interface, "cut short")
    said: Dict[str, List[str]] = {}
    for line in whole_lines(content + b"\n"):
        match = _ELEMENT.fullmatch(line)
        if match:
            said.setdefault(match.group(1), []).append(match.group(2))
    address = ipv4(_one(said, "address"))
    if address is None or _one(said, "family") != "ipv4":
        return Rejected(path, NAME, interface, "no usable address in it")
    if _one(said, "state") != "granted":
        return Rejected(path, NAME, interface, "the lease is not granted")
    return Lease(
        interface=interface,
        client=NAME,
        address=address,
        server_identifier=ipv4(_one(said, "server-id")),
        routers=ipv4_list(" ".join(said.get("gateway", ()))),
        domain_name=domain(_one(said, "domain")),
        name_servers=ipv4_list(" ".join(said.get("server", ()))),
        next_server=ipv4(_one(said, "server-address")),
        expires=_end(_one(said, "acquired"), _one(said, "lease-time")),
        path=path,
    )


def _one(said: Dict[str, List[str]], name: str) -> Optional[str]:
    """The text of an element that occurs with one text only."""
    texts: Tuple[str, ...] = tuple(set(said.get(name, ())))
    return texts[0] if len(texts) == 1 else None


def _end(acquired: Optional[str], duration: Optional[str]) -> Optional[float]:
    start, seconds = number(acquired), number(duration)
    if start is None or seconds is None or seconds >= INFINITE:
        return None
    return float(start + seconds)
