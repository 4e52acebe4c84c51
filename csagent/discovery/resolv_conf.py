"""The machine's name servers by its own files: for a NIC of which no lease says any.

udhcpc records none, and a guest with a static address has no lease; their servers stand in resolv.conf(5).
systemd-resolved leaves its own address there, and those it asks in a file of its own.
"""

from __future__ import annotations

import os
from typing import AbstractSet, List, Optional, Sequence, Tuple

from csagent.discovery.candidates import Resolver
from csagent.discovery.leases import text
from csagent.errors import Distrusted
from csagent.system import trusted_path
from csagent.system.files import read_all
from csagent.system.seams import System
from csagent.system.tree import READ_LIMIT

FILES = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")


def read(system: System) -> Tuple[Resolver, ...]:
    """The servers and the first domain of each file that names a server beyond 127.0.0.0/8.

    A file that somebody else than root or a system account could have written says nothing.
    """
    found: List[Resolver] = []
    for path in FILES:
        content = _content(system, path)
        servers: List[str] = []
        domain: Optional[str] = None
        for line in content.split("\n"):
            word, _, rest = line.strip().partition(" ")
            if word == "nameserver":
                servers.extend(text.ipv4_list(rest))
            elif word in ("search", "domain"):
                domain = text.domain(rest)
        if servers:
            found.append(Resolver(tuple(servers), domain, path))
    return tuple(found)


def elsewhere(resolvers: Sequence[Resolver], own: AbstractSet[str]) -> Resolver:
    """The first of them with a server that is not this machine, and only such servers of it."""
    for one in resolvers:
        servers = tuple(server for server in one.name_servers if server not in own)
        if servers:
            return one._replace(name_servers=servers)
    return Resolver()


def _content(system: System, path: str) -> str:
    try:
        descriptor = trusted_path.open_file(system, path, trusted_path.SYSTEM)
    except (OSError, Distrusted):
        return ""
    try:
        return read_all(descriptor, READ_LIMIT).decode("utf-8", "surrogateescape")
    finally:
        os.close(descriptor)
