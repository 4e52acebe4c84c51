"""The machine's name servers by its own files: for a NIC of which no lease says any.

udhcpc records none, and a guest with a static address has no lease; their servers stand in resolv.conf(5).
systemd-resolved leaves its own address there, and those it asks in a file of its own.
"""

from __future__ import annotations

from typing import List, Optional

from csagent.discovery.candidates import Resolver
from csagent.discovery.leases import text
from csagent.system import trusted_path
from csagent.system.seams import System

FILES = ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")


def read(system: System) -> Resolver:
    """The servers and the first domain of the first file that names a server which is not this machine.

    A file that somebody else than root or a system account could have written says nothing.
    """
    for path in FILES:
        content = system.tree.read_text(path)
        if content is None or trusted_path.objection(system, path, trusted_path.SYSTEM) is not None:
            continue
        servers: List[str] = []
        domain: Optional[str] = None
        for line in content.split("\n"):
            word, _, rest = line.strip().partition(" ")
            if word == "nameserver":
                servers.extend(text.ipv4_list(rest))
            elif word in ("search", "domain"):
                domain = text.domain(rest)
        if servers:
            return Resolver(tuple(servers), domain, path)
    return Resolver()
