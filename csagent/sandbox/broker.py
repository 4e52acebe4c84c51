"""Connections for a reading child that may open none itself.

A parser that a stranger's bytes have taken over must not turn the VM into a bridge into its network. So the
child forks a broker before it reads anything, tells it once which candidates there are, and then loses
connect(2) and socket(2) (`csagent.sandbox.seccomp`). From there on the broker, which parses nothing but the
look-up of ``data-server.``, opens the connections and hands their descriptors over (unix(7), SCM_RIGHTS).
"""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator, List, Optional, Sequence, Set, Tuple

from csagent.discovery.candidates import DATA_SERVER
from csagent.discovery.leases.text import ipv4
from csagent.errors import JailError
from csagent.model import Candidate
from csagent.sandbox import codec
from csagent.sandbox.jail import die_with
from csagent.sandbox.seccomp import brokering, close_further, finding
from csagent.sources import checks
from csagent.sources.router import names
from csagent.sources.router.outward import Outward, refuse_this_machine
from csagent.sources.router.threads import start
from csagent.system.seams import Dialer
from csagent.system.sockets import DeadlineSocket, begin

if TYPE_CHECKING:
    from csagent.sandbox.seccomp import Filters
    from csagent.system.seams import System

REQUEST_LIMIT = 1 << 16
ADDRESSES_LIMIT = 4
WAYS_LIMIT = 64
LOOK_UPS_LIMIT = 64  # one in five seconds a NIC, of a child that lives for thirty
CONNECTIONS_LIMIT = 4000  # of such a child, twelve candidates and two ports each, once in a third of a second
Way = Tuple[str, int, Optional[str]]  # address, port, source address


class Broker(Dialer):
    """The child's side of it."""

    def __init__(self, connections: socket.socket, look_ups: socket.socket) -> None:
        self._connections = connections
        self._look_ups = look_ups
        self._one_at_a_time = threading.Lock()
        self._one_name_at_a_time = threading.Lock()
        self._by_name: List[Candidate] = []

    def admit(self, candidates: Sequence[Candidate]) -> None:
        """Say who may be connected to; the broker takes this once."""
        self._by_name = by_name(candidates)
        text = json.dumps(codec.encode(tuple(candidates))).encode()
        self._connections.sendall(text)
        self._connections.recv(1)

    def connect(self, address: str, port: int, source: Optional[str], deadline: float) -> DeadlineSocket:
        request = json.dumps([address, port, source]).encode()
        with self._one_at_a_time, _or_end():
            self._connections.sendall(request)
            answer, descriptors, _, _ = socket.recv_fds(self._connections, 64, 1)
            if not answer:
                raise EOFError
        if not descriptors:
            number = int(answer) or errno.EMFILE  # no room for the one that came
            raise OSError(number, os.strerror(number))
        return DeadlineSocket.finish(descriptors[0], deadline)

    def resolve(self, candidate: Candidate) -> Tuple[str, ...]:
        """The addresses of a NIC's ``data-server.`` (a `csagent.sources.router.names.Lookup`)."""
        with self._one_name_at_a_time, _or_end():
            self._look_ups.sendall(str(self._by_name.index(candidate)).encode())
            answer = self._look_ups.recv(REQUEST_LIMIT)
            if not answer:
                raise EOFError
        return tuple(json.loads(answer))


def by_name(candidates: Sequence[Candidate]) -> List[Candidate]:
    """Those of which only a name is known; both sides number them so."""
    return [candidate for candidate in candidates if candidate.address == DATA_SERVER]


@contextmanager
def _or_end() -> Iterator[None]:
    """Without a broker there is nobody to ask, which must not pass for routers that do not answer."""
    try:
        yield
    except (OSError, EOFError):
        os._exit(1)


def fork(system: "System", filters: "Filters", ports: Sequence[int], *, given: bool) -> Broker:
    """Start the broker, as a process that ends with this one.

    Args:
        system: its dialer is that of the name look-up.
        filters: the broker loses what it does not need, too.
        ports: nothing else is ever connected to, whatever candidates come from the leases.
        given: the candidate was named on the command line, so that it may be this very machine.

    Raises:
        JailError: there is no process for it.
    """
    ours, theirs = _pair()
    ours_too, theirs_too = _pair()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        raise JailError(f"no process for the broker ({error.strerror})") from None
    if pid == 0:
        try:
            die_with(parent)
            low, high = sorted((theirs.fileno(), theirs_too.fileno()))
            os.closerange(3, low)
            os.closerange(low + 1, high)
            os.closerange(high + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            filters.load(brokering)
            _Desk(system, theirs, theirs_too, ports, given=given).serve()
        except BaseException:  # noqa: S110  the child is gone, or talks nonsense: its next request says so
            pass
        finally:
            os._exit(0)
    theirs.close()
    theirs_too.close()
    return Broker(ours, ours_too)


def _pair() -> Tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Fence:
    """What keeps a child from reaching anybody but the candidates."""

    def __init__(self, filters: Optional["Filters"], broker: Optional[Broker], *, given: bool) -> None:
        self._filters = filters
        self._broker = broker
        self._given = given

    def close(
        self, system: "System", candidates: Sequence[Candidate]
    ) -> Tuple["System", Optional[names.Lookup]]:
        """From here on only these can be reached: the system that does, and how the name is looked up."""
        if self._filters is None or self._broker is None:
            return (system if self._given else system._replace(dialer=Outward(system.dialer))), None
        self._broker.admit(candidates)
        close_further(self._filters)
        return system._replace(dialer=self._broker), self._broker.resolve


def fence(
    system: "System", filters: Optional["Filters"], ports: Sequence[int], *, given: bool = False
) -> Fence:
    """Take TCP from this process, and let a broker (see `fork`) have it.

    Where libseccomp or the kernel cannot take system calls away, all stays open: a broker guards nothing.
    """
    if filters is None:
        return Fence(None, None, given=given)
    broker = fork(system, filters, ports, given=given)
    return Fence(filters, broker, given=given) if filters.load(finding) else Fence(None, None, given=given)


class _Desk:
    """The broker's side of it."""

    def __init__(
        self,
        system: "System",
        connections: socket.socket,
        look_ups: socket.socket,
        ports: Sequence[int],
        *,
        given: bool,
    ) -> None:
        self._ports = frozenset(ports)
        self._given = given
        self._left = CONNECTIONS_LIMIT
        self._connections = connections
        self._look_ups = look_ups
        self._ways: Set[Way] = set()
        self._by_name: List[Candidate] = []
        self._resolve = names.resolver(system._replace(dialer=Outward(system.dialer)))

    def serve(self) -> None:
        self._admit(self._connections.recv(REQUEST_LIMIT))
        self._connections.sendall(b"\n")
        start(self._serve_look_ups)
        while True:
            request = self._connections.recv(REQUEST_LIMIT)
            if not request:
                return
            try:
                connection = self._open(json.loads(request))
            except OSError as error:
                self._connections.sendall(str(error.errno or errno.EIO).encode())
                continue
            with connection:
                socket.send_fds(self._connections, [b"0"], [connection.fileno()])

    def _admit(self, text: bytes) -> None:
        candidates = checks.decode_all(Candidate, json.loads(text))
        self._by_name = by_name(candidates)
        for candidate in candidates:
            if candidate.address != DATA_SERVER:
                self._allow(candidate, candidate.address)

    def _open(self, request: Any) -> socket.socket:
        address, port, source = request
        if (address, port, source) not in self._ways:
            raise PermissionError(errno.EACCES, "no candidate")
        if self._left <= 0:
            raise OSError(errno.EDQUOT, "too many connections")
        self._left -= 1
        if not self._given:
            refuse_this_machine(address)
        return begin(address, port, source)

    def _allow(self, candidate: Candidate, address: str) -> None:
        if not self._given and ipv4(address) is None:
            return
        for port in (candidate.port, candidate.password_port):
            if port in self._ports and len(self._ways) < WAYS_LIMIT:
                self._ways.add((address, port, candidate.source))

    def _serve_look_ups(self) -> None:
        for _ in range(LOOK_UPS_LIMIT):
            request = self._look_ups.recv(256)
            if not request:
                return
            candidate = self._by_name[int(request)]
            try:
                found = self._resolve(candidate)[:ADDRESSES_LIMIT]
            except (OSError, UnicodeError):
                found = ()
            for address in found:
                self._allow(candidate, address)
            self._look_ups.sendall(json.dumps(found).encode())
