"""udhcpc: the stock script records no server identifier; one hook line does.

The hook's file, `/run/dhcp-server-ip.IF`, holds the identifier and nothing else; CloudStack's own guest
script looks for it too (field/cloudstack#1.5). Where the hook also keeps its environment in
`/run/udhcpc-env/IF.EVENT`, that gives the rest. The hook should write to a temporary file and rename:
``printf '%s\\n' "$serverid" > f.tmp && mv f.tmp f``.
"""

from __future__ import annotations

import re
from typing import Dict, Iterator, Optional, Sequence

from csagent.discovery.leases.client import RawLeases, Statement
from csagent.discovery.leases.text import base, domain, ipv4_list, pairs, routable, whole_lines
from csagent.model import Lease, Nic, Rejected
from csagent.validation import ipv4

NAME = "udhcpc"
HOOK = "/run/dhcp-server-ip."
ENVIRONMENT = "/run/udhcpc-env/"
FILES = (HOOK + "*", ENVIRONMENT + "*.bound", ENVIRONMENT + "*.renew")
PIDS = "/run/udhcpc.*.pid"
MARKS = (PIDS,)


def complete(content: bytes) -> bool:
    """Whether the line ends: 10.1.1.12 without its end is 10.1.1.1."""
    return content.endswith(b"\n")


def statements(raw: RawLeases, nics: Sequence[Nic]) -> Iterator[Statement]:
    """The hook's files, then the running clients that have none."""
    named = {nic.name: nic for nic in nics}
    answered = set()
    for path, content in raw.matching(HOOK + "*"):
        interface = path[len(HOOK) :]
        if interface.endswith(".tmp"):
            continue
        answered.add(interface)
        lines = list(whole_lines(content))
        identifier = ipv4(lines[0].strip()) if len(lines) == 1 else None
        if identifier is None:
            yield Rejected(path, NAME, interface, "no whole line with an address in it")
            continue
        yield _lease(raw, identifier, interface, named.get(interface), path)
    for mark in sorted(raw.marks):
        match = re.fullmatch(r"udhcpc\.(.+)\.pid", base(mark))
        if match and match.group(1) in named and match.group(1) not in answered:
            yield Rejected(mark, NAME, match.group(1), "udhcpc does not record the server identifier")


def _lease(raw: RawLeases, identifier: str, interface: str, nic: Optional[Nic], path: str) -> Statement:
    said = _environment(raw, identifier, interface)
    address = ipv4(said.get("ip")) or (routable(nic) if nic else None)
    if address is None:
        return Rejected(path, NAME, interface, f"{interface} has no address now")
    return Lease(
        interface=interface,
        client=NAME,
        address=address,
        server_identifier=identifier,
        routers=ipv4_list(said.get("router")),
        domain_name=domain(said.get("domain")),
        name_servers=ipv4_list(said.get("dns")),
        next_server=ipv4(said.get("siaddr")),
        path=path,
    )


def _environment(raw: RawLeases, identifier: str, interface: str) -> Dict[str, str]:
    """The newest environment that names the same server; values span lines, so doubt drops a key."""
    for event in ("renew", "bound"):
        content = raw.files.get(f"{ENVIRONMENT}{interface}.{event}", b"")
        said = pairs(whole_lines(content))
        if said.get("serverid") == identifier and said.get("interface") == interface:
            return said
    return {}
