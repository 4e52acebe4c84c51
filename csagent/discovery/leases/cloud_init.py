"""cloud-init's own first lease, taken before the network is configured and never renewed.

With dhclient it is `/run/dhclient.lease`, one block; with udhcpc `/var/tmp/cloud-init/IF.lease.json`,
without the server identifier; with dhcpcd it is dhcpcd's own file.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, Sequence

from csagent.discovery.leases import dhclient
from csagent.discovery.leases.client import RawLeases, Statement
from csagent.discovery.leases.text import base, ipv4_list, routable
from csagent.model import Lease, Nic, Rejected
from csagent.system import json_limits
from csagent.validation import ipv4

NAME = "cloud-init"
DHCLIENT = "/run/dhclient.lease"
UDHCPC = "/var/tmp/cloud-init/*.lease.json"  # noqa: S108 (cloud-init's path, not ours)
FILES = (DHCLIENT, UDHCPC)
MARKS = ()


def complete(content: bytes) -> bool:
    """Whether a block or an object ends in it."""
    return b"\n}" in content


def gave_back(lease: Lease, nic: Nic) -> bool:
    """Whether a lease without its address is one that cloud-init itself has just taken off again.

    It removes the address of its first lease before the network is configured. `/run` is of this boot, and
    a NIC that nobody has given another address is still on the network that answered. (What survives a
    reboot, the JSON under /var/tmp, does not say that.)
    """
    return lease.client == NAME and lease.path == DHCLIENT and routable(nic) is None


def statements(raw: RawLeases, nics: Sequence[Nic]) -> Iterator[Statement]:
    """The dhclient block, then the JSON of the udhcpc script."""
    for path, content in raw.matching(DHCLIENT):
        newest: Dict[str, dhclient.Block] = {}
        for block in dhclient.blocks(content):
            if block.interface is not None:
                newest[block.interface] = block
        for interface, block in newest.items():
            yield dhclient.lease(block, interface, NAME, path)
    for path, content in raw.matching(UDHCPC):
        yield _json(content, base(path)[: -len(".lease.json")], path)


def _json(content: bytes, interface: str, path: str) -> Statement:
    try:
        said: Any = json_limits.loads(content)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict) or said.get("interface", interface) != interface:
        return Rejected(path, NAME, interface, "not a lease of this interface")
    address = ipv4(_text(said, "fixed-address"))
    if address is None:
        return Rejected(path, NAME, interface, "no usable address in it")
    routers = ipv4_list(_text(said, "routers"))
    return Lease(interface=interface, client=NAME, address=address, routers=routers, path=path)


def _text(said: Dict[str, Any], key: str) -> str:
    value = said.get(key)
    return value if isinstance(value, str) else ""
