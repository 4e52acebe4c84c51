"""The one name that is ever resolved: ``data-server.``, in the hosts file of the VR (field/cloudstack#1.1).

It is asked of the name servers of the NIC's own network only, by our own client, from that NIC's address:
neither libc nor LLMNR, mDNS, a hosts file or another NIC's servers have a say.
"""

from __future__ import annotations

import threading
from typing import Callable, List, Optional, Tuple

from csagent.discovery.candidates import DATA_SERVER
from csagent.discovery.networks import lies_within
from csagent.errors import Absent, TimedOut
from csagent.model import Candidate, Endpoint
from csagent.sources.router import dns
from csagent.sources.router.threads import start
from csagent.system.seams import Clock, System
from csagent.validation import ipv4

NAME_SECONDS = 3.0  # two servers
SERVERS_LIMIT = 2  # of one NIC
AGAIN_SECONDS = 5.0  # a failed look-up is repeated, for a router that serves its own name comes up late

Lookup = Callable[[Candidate], Tuple[str, ...]]
"""The addresses that a NIC's candidate `data-server.` stands for; raises OSError."""


def resolver(system: System) -> Lookup:
    """A look-up that asks the name servers of the candidate, one after the other, until one knows.

    An address counts where it lies in the NIC's own network, or where its lease names it: a name server
    that has an answer for every name, and one of another network, lead elsewhere (field/cloudstack#edge-6).
    """

    def by_servers(candidate: Candidate) -> Tuple[str, ...]:
        # dnsmasq on the VR knows both (field/cloudstack#1.1); some networks' servers the longer one only.
        names = [DATA_SERVER, *([f"{DATA_SERVER}{candidate.domain}."] if candidate.domain else [])]
        for server in candidate.name_servers[:SERVERS_LIMIT]:
            try:
                where = Endpoint(server, dns.PORT, candidate.source, candidate.interface)
                for found in dns.query(system, where, names):
                    good = tuple(one for one in found if ipv4(one) and lies_within(one, candidate.within))
                    if good:
                        return good
            except (OSError, ValueError):
                continue
        return ()

    return by_servers


class Name:
    """A NIC's `data-server.` with a deadline. What was found is kept; at most one look-up runs at a time."""

    def __init__(self, clock: Clock, candidate: Candidate, by: Lookup) -> None:
        self._clock = clock
        self._candidate = candidate
        self._by = by
        self._condition = threading.Condition()
        self._running = False
        self._began: Optional[float] = None
        self._found: Tuple[str, ...] = ()

    def addresses(self) -> Tuple[str, ...]:
        """Its addresses, at least one.

        Raises:
            Absent: it does not resolve.
            TimedOut: no word from the name servers within `NAME_SECONDS`.
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
                patience = self._clock.stretched(NAME_SECONDS)
                left = (self._began or 0.0) + patience - self._clock.monotonic()
                if left <= 0:
                    raise TimedOut(f"{DATA_SERVER} was not resolved in time")
                self._condition.wait(left)
            if self._found:
                return self._found
            raise Absent(f"{DATA_SERVER} does not resolve")

    def known(self) -> Tuple[str, ...]:
        """What was found so far, without asking."""
        with self._condition:
            return self._found

    def _work(self) -> None:
        found: List[str] = []
        try:
            found.extend(self._by(self._candidate))
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
