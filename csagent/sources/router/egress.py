"""Who may be connected to: the candidates, over their own NICs, and never this machine itself.

What listens on this machine is no router, whatever a lease or a name says: a user's own port, a container's,
or a proxy would otherwise be asked, and believed, in its place.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Set, Tuple

from csagent.discovery import netlink
from csagent.discovery.candidates import DATA_SERVER
from csagent.model import Candidate, Endpoint
from csagent.sandbox import broker, codec
from csagent.sandbox.seccomp import refused_while_discovering, restrict_to_parsing
from csagent.sources import checks
from csagent.sources.router import names
from csagent.system.seams import Dialer
from csagent.system.sockets import DeadlineSocket, bind_to_interface
from csagent.validation import ipv4

if TYPE_CHECKING:
    from csagent.sandbox.seccomp import Filters
    from csagent.system.seams import System

ADDRESSES_LIMIT = 4  # of one name
ENDPOINTS_LIMIT = 64
LOOK_UPS_LIMIT = 100  # of twelve candidates, once in five seconds each, of a child that lives for thirty
CONNECTIONS_LIMIT = 4000  # of such a child, twelve candidates and two ports each, once in a third of a second


def check_route(endpoint: Endpoint) -> None:
    """Where the kernel would send what goes to an endpoint.

    Raises:
        OSError: to this machine (ELOOP); or over another NIC, where a socket cannot be bound to one
            (ENETUNREACH; before Linux 5.7).
    """
    route = netlink.route_to(endpoint.address, endpoint.source)
    if route.local:
        raise OSError(errno.ELOOP, "an address of this machine")
    if endpoint.interface is None or route.interface in (None, endpoint.interface):
        return
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as scratch:
        if not bind_to_interface(scratch, endpoint.interface):
            raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))


class CheckedDialer(Dialer):
    """Checks the route of each connection first."""

    def __init__(self, dialer: Dialer) -> None:
        self._dialer = dialer

    def connect(self, endpoint: Endpoint, deadline: float) -> DeadlineSocket:
        check_route(endpoint)
        return self._dialer.connect(endpoint, deadline)


class CandidatesOnly:
    """A `csagent.sandbox.broker.Policy`: the candidates, the addresses of their names, and nobody else.

    Args:
        system: its dialer is that of the look-ups.
        ports: nothing else is ever connected to, whatever candidates come from the leases.
        given: the candidate was named on the command line, so that it may be this very machine.
    """

    def __init__(self, system: "System", ports: Sequence[int], *, given: bool) -> None:
        self._ports = frozenset(ports)
        self._given = given
        self._left = CONNECTIONS_LIMIT
        self._look_ups_left = LOOK_UPS_LIMIT
        self._endpoints: Set[Endpoint] = set()
        self._by_name: List[Candidate] = []
        self._resolve = names.resolver(system._replace(dialer=CheckedDialer(system.dialer)))

    def admit(self, document: Any) -> None:
        candidates = checks.decode_all(Candidate, document)
        self._by_name = by_name(candidates)
        for candidate in candidates:
            if candidate.address != DATA_SERVER:
                self._allow(candidate, candidate.address)

    def check(self, endpoint: Endpoint) -> None:
        if endpoint not in self._endpoints:
            raise PermissionError(errno.EACCES, "no candidate")
        if self._left <= 0:
            raise OSError(errno.EDQUOT, "too many connections")
        self._left -= 1
        if not self._given:
            check_route(endpoint)

    def look_up(self, question: str) -> Sequence[str]:
        if self._look_ups_left <= 0:
            return ()
        self._look_ups_left -= 1
        candidate = self._by_name[int(question)]
        try:
            found = self._resolve(candidate)[:ADDRESSES_LIMIT]
        except (OSError, UnicodeError):
            return ()
        for address in found:
            self._allow(candidate, address)
        return found

    def _allow(self, candidate: Candidate, address: str) -> None:
        if not self._given and ipv4(address) is None:
            return
        for endpoint in (candidate.metadata_endpoint(address), candidate.password_endpoint(address)):
            if endpoint.port in self._ports and len(self._endpoints) < ENDPOINTS_LIMIT:
                self._endpoints.add(endpoint)


def by_name(candidates: Sequence[Candidate]) -> List[Candidate]:
    """Those of which only a name is known; both sides of the broker number them so."""
    return [candidate for candidate in candidates if candidate.address == DATA_SERVER]


class Fence:
    """What keeps a reading child from reaching anybody but the candidates. Made before it reads anything.

    Where libseccomp or the kernel cannot take system calls away, a broker would guard nothing: the child
    connects itself then, and only the routes are checked.

    Args:
        system: the child's.
        filters: what takes system calls from it; None where that is not possible.
        ports: see `CandidatesOnly`.
        given: see `CandidatesOnly`.
        connected: see `csagent.sandbox.broker.fork`.

    Raises:
        JailError: there is no process for the broker.
    """

    def __init__(
        self,
        system: "System",
        filters: Optional["Filters"],
        ports: Sequence[int],
        *,
        given: bool = False,
        connected: int = -1,
    ) -> None:
        self._given = given
        self._filters: Optional["Filters"] = None
        if filters is not None:
            self._broker = broker.fork(filters, CandidatesOnly(system, ports, given=given), connected)
            if filters.load(refused_while_discovering):
                self._filters = filters
        if connected >= 0:
            if self._filters is not None:
                os.write(connected, b"null\n")  # from here on the broker is the only way out
            os.close(connected)

    def close(
        self, system: "System", candidates: Sequence[Candidate]
    ) -> Tuple["System", Optional[names.Lookup]]:
        """From here on only these can be reached: the system that does, and how the name is looked up."""
        if self._filters is None:
            return (system if self._given else system._replace(dialer=CheckedDialer(system.dialer))), None
        self._broker.admit(codec.encode(tuple(candidates)))
        restrict_to_parsing(self._filters)
        numbered = by_name(candidates)

        def resolve(candidate: Candidate) -> Tuple[str, ...]:
            return self._broker.look_up(str(numbered.index(candidate)))

        return system._replace(dialer=self._broker), resolve
