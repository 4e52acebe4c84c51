"""The one name that is ever resolved: ``data-server.``, an entry in the hosts file of the VR (facts, 1.1)."""

from __future__ import annotations

import socket
import threading
from typing import Callable, List, Optional, Sequence, Tuple

from csagent.errors import Absent, TimedOut
from csagent.find.leases.text import ipv4
from csagent.model import Candidate
from csagent.read import dns
from csagent.read.parallel import start
from csagent.system import Clock, System

NAME_SECONDS = 3.0  # two servers and libc
SERVERS_LIMIT = 2  # of one lease
AGAIN_SECONDS = 5.0  # a failed look-up is repeated, for a router that serves its own name comes up late

Lookup = Callable[[str], Tuple[str, ...]]


def lookup(name: str) -> Tuple[str, ...]:
    """IPv4 addresses of a name, by libc, which takes as long as its resolvers are silent.

    Raises:
        OSError: it does not resolve.
    """
    # As bytes: text would go through the idna codec, an import that the jailed child may not manage.
    found = socket.getaddrinfo(name.encode("ascii"), None, socket.AF_INET, socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def resolver(system: System, candidates: Sequence[Candidate]) -> Lookup:
    """A look-up that asks the name servers of the candidates' leases first, then libc."""
    servers = [
        (server, candidate.source)
        for candidate in candidates
        if candidate.kind == "data-server"
        for server in candidate.name_servers[:SERVERS_LIMIT]
    ]

    def by_lease(name: str) -> Tuple[str, ...]:
        found = dns.query_all(system, servers, name) or lookup(name)
        return tuple(address for address in found if ipv4(address))

    return by_lease


class Name:
    """A name with its own deadline. What was found is kept; at most one look-up runs at a time."""

    def __init__(self, clock: Clock, name: str, by: Lookup = lookup) -> None:
        self._clock = clock
        self._name = name
        self._by = by
        self._condition = threading.Condition()
        self._running = False
        self._began: Optional[float] = None
        self._found: Tuple[str, ...] = ()

    def addresses(self) -> Tuple[str, ...]:
        """Its addresses, at least one.

        Raises:
            Absent: it does not resolve.
            TimedOut: no word from the resolvers within `NAME_SECONDS`.
        """
        with self._condition:
            now = self._clock.monotonic()
            if self._found:
                return self._found
            due = self._began is None or now - self._began >= AGAIN_SECONDS
            if due and not self._running:
                self._began = now
                self._running = start(self._work)
            while self._running:
                left = (self._began or 0.0) + NAME_SECONDS - self._clock.monotonic()
                if left <= 0:
                    raise TimedOut(f"{self._name} was not resolved in time")
                self._condition.wait(left)
            if self._found:
                return self._found
            raise Absent(f"{self._name} does not resolve")

    def _work(self) -> None:
        found: List[str] = []
        try:
            found.extend(self._by(self._name))
        except (OSError, UnicodeError):
            pass  # "does not resolve" is all there is to say
        with self._condition:
            self._found = tuple(found)
            self._running = False
            self._condition.notify_all()


def pick(name: Name, taken: Tuple[str, ...]) -> Tuple[str, bool]:
    """(the first address that is no other candidate's, False), or (one that is, True).

    Raises:
        ProbeError: as `Name.addresses`.
    """
    addresses = name.addresses()
    for address in addresses:
        if address not in taken:
            return address, False
    return addresses[0], True
