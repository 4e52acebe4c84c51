"""connman: `/var/lib/connman/ethernet_MAC_cable/settings` has the last address, and no server identifier.

`connmanctl services` does not show the identifier either (captured with 1.41 and 2.0).
"""

from __future__ import annotations

import re
from typing import Iterator, Sequence

from csagent.discovery.leases.client import RawLeases, Statement
from csagent.discovery.leases.text import pairs, whole_lines
from csagent.model import Lease, Nic, Rejected
from csagent.validation import ipv4

NAME = "connman"
FILES = ("/var/lib/connman/*/settings",)
MARKS = ()

_SERVICE = re.compile(r"/var/lib/connman/ethernet_([0-9a-f]{12})_cable/settings")


def complete(content: bytes) -> bool:
    """Whether the last line ends; connman renames its files into place."""
    return content.endswith(b"\n")


def statements(raw: RawLeases, nics: Sequence[Nic]) -> Iterator[Statement]:
    """The last address of each wired service whose NIC is here."""
    named = {(nic.mac or "").replace(":", "").lower(): nic.name for nic in nics}
    for path, content in raw.matching(*FILES):
        match = _SERVICE.fullmatch(path)
        if not match:
            continue
        interface = named.get(match.group(1))
        said = pairs(whole_lines(content))
        address = ipv4(said.get("IPv4.DHCP.LastAddress"))
        if interface is None:
            yield Rejected(path, NAME, None, "no interface has its MAC address")
        elif said.get("IPv4.method") != "dhcp" or address is None:
            yield Rejected(path, NAME, interface, "no address from DHCP in it")
        else:
            yield Lease(interface=interface, client=NAME, address=address, path=path)
