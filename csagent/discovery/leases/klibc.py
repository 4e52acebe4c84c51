"""klibc's ipconfig, in the initramfs: `/run/net-IF.conf`, shell variables in single quotes.

It is the initramfs' lease, right at boot and never renewed, without the server identifier: `ROOTSERVER`
is siaddr.
"""

from __future__ import annotations

from typing import Iterator, Sequence

from csagent.discovery.leases.client import RawLeases, Statement
from csagent.discovery.leases.text import base, domain, ipv4_list, pairs, whole_lines
from csagent.model import Lease, Nic, Rejected
from csagent.validation import ipv4

NAME = "klibc ipconfig"
FILES = ("/run/net-*.conf",)
MARKS = ()


def complete(content: bytes) -> bool:
    """Whether the last line ends."""
    return content.endswith(b"'\n")


def statements(raw: RawLeases, nics: Sequence[Nic]) -> Iterator[Statement]:
    """One lease a file, without an identifier."""
    for path, content in raw.matching(*FILES):
        said = pairs(whole_lines(content), quoted=True)
        interface = said.get("DEVICE", base(path)[len("net-") : -len(".conf")])
        if said.get("PROTO") not in ("dhcp", "bootp"):
            yield Rejected(path, NAME, interface, "configured without DHCP")
            continue
        address = ipv4(said.get("IPV4ADDR"))
        if address is None:
            yield Rejected(path, NAME, interface, "no usable address in it")
            continue
        yield Lease(
            interface=interface,
            client=NAME,
            address=address,
            routers=ipv4_list(said.get("IPV4GATEWAY")),
            domain_name=domain(said.get("DNSDOMAIN")),
            name_servers=ipv4_list(f"{said.get('IPV4DNS0', '')} {said.get('IPV4DNS1', '')}"),
            next_server=ipv4(said.get("ROOTSERVER")),
            path=path,
        )
