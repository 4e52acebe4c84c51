"""Connections for a reading child that may open none itself.

A parser that a stranger's bytes have taken over must not turn the VM into a bridge into its network. So the
child forks a broker before it reads anything, tells it once what it knows, and then loses connect(2) and
socket(2) (`csagent.sandbox.seccomp`). From there on the broker, which parses nothing that came from the
network but what its `Policy` looks up, opens the connections and passes their descriptors (unix(7),
SCM_RIGHTS). Whom it has connected to it tells the child's parent, which need not believe the child
(`Connected`).
"""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, FrozenSet, Iterator, Optional, Protocol, Sequence, Set, Tuple

from csagent.errors import JailError
from csagent.model import Endpoint
from csagent.sandbox.seccomp import refused_to_broker
from csagent.system.process import die_with
from csagent.system.seams import Dialer
from csagent.system.sockets import DeadlineSocket, begin

if TYPE_CHECKING:
    from csagent.sandbox.seccomp import Filters

REQUEST_LIMIT = 1 << 16
QUESTION_LIMIT = 256
CONNECTED_LIMIT = 1 << 16  # bytes


class Policy(Protocol):
    """What the broker opens and looks up, and what not. It lives in the broker's process."""

    def admit(self, document: Any) -> None:
        """What the child says once, before it has read anything."""
        ...

    def check(self, endpoint: Endpoint) -> None:
        """Raise OSError where no connection may go there."""
        ...

    def look_up(self, question: str) -> Sequence[str]:
        """The addresses that the child asks for; asked in a thread of its own."""
        ...


class Connected:
    """The endpoints that a child's broker has connected to, as the child's parent is told them.

    Made before the child is forked, which inherits `writing`, gives it to its broker and keeps none of it.
    """

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        self._text = b""
        self._open = True
        os.set_blocking(self._reading, False)

    def forked(self) -> None:
        """The parent's half, once the child is there, or cannot be had."""
        os.close(self.writing)

    def endpoints(self) -> Optional[FrozenSet[Endpoint]]:
        """Those so far: a broker tells before it passes a connection on. None: there is no broker.

        Raises:
            JailError: something else was written there.
        """
        self._read()
        try:
            told = [json.loads(line) for line in self._text.splitlines()]
            return frozenset(Endpoint(*one) for one in told[1:]) if told else None
        except (ValueError, TypeError):
            raise JailError("the broker told nonsense") from None

    def close(self) -> None:
        """Nothing more will come; what has come can still be asked for."""
        if self._open:
            self._read()
            os.close(self._reading)
            self._open = False

    def _read(self) -> None:
        while self._open and len(self._text) <= CONNECTED_LIMIT:
            try:
                piece = os.read(self._reading, REQUEST_LIMIT)
            except BlockingIOError:
                return
            if not piece:
                return
            self._text += piece


class Broker(Dialer):
    """The child's half: it asks for connections and addresses, one at a time."""

    def __init__(self, connections: socket.socket, look_ups: socket.socket) -> None:
        self._connections = connections
        self._look_ups = look_ups
        self._one_at_a_time = threading.Lock()
        self._one_name_at_a_time = threading.Lock()

    def admit(self, document: Any) -> None:
        """Tell the policy what it has to know; it takes this once."""
        self._connections.sendall(json.dumps(document).encode())
        self._connections.recv(1)

    def connect(self, endpoint: Endpoint, deadline: float) -> DeadlineSocket:
        with self._one_at_a_time, _or_end():
            self._connections.sendall(json.dumps(endpoint).encode())
            answer, descriptors, _, _ = socket.recv_fds(self._connections, 64, 1)
            if not answer:
                raise EOFError
        if not descriptors:
            number = int(answer) or errno.EMFILE  # no room for the one that came
            raise OSError(number, os.strerror(number))
        return DeadlineSocket.finish(descriptors[0], deadline)

    def look_up(self, question: str) -> Tuple[str, ...]:
        """Have the policy resolve a name; its addresses go to the child."""
        with self._one_name_at_a_time, _or_end():
            self._look_ups.sendall(question.encode())
            answer = self._look_ups.recv(REQUEST_LIMIT)
            if not answer:
                raise EOFError
        return tuple(json.loads(answer))


@contextmanager
def _or_end() -> Iterator[None]:
    """Without a broker there is nobody to ask, which must not pass for routers that do not answer."""
    try:
        yield
    except (OSError, EOFError):
        os._exit(1)


def fork(filters: "Filters", policy: Policy, connected: int = -1) -> Broker:
    """Start the broker, as a process that ends with this one; `filters` take from it what it does not need.

    Args:
        filters: of the child.
        policy: whom it may connect to.
        connected: the descriptor `Connected.writing`; -1: nobody is told.

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
            kept = sorted({2, theirs.fileno(), theirs_too.fileno(), max(2, connected)})
            for low, high in zip(kept, (*kept[1:], resource.getrlimit(resource.RLIMIT_NOFILE)[0])):
                os.closerange(low + 1, high)
            filters.load(refused_to_broker)
            ConnectionServer(policy, theirs, theirs_too, connected).serve()
        except BaseException:  # noqa: S110  the child is gone, or talks nonsense: its next request says so
            pass
        finally:
            os._exit(0)
    theirs.close()
    theirs_too.close()
    return Broker(ours, ours_too)


def _pair() -> Tuple[socket.socket, socket.socket]:
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class ConnectionServer:
    """The broker's half: opens what the policy allows and passes the descriptors to the child."""

    def __init__(
        self, policy: Policy, connections: socket.socket, look_ups: socket.socket, connected: int = -1
    ) -> None:
        self._policy = policy
        self._connections = connections
        self._look_ups = look_ups
        self._connected = connected
        self._told: Set[Endpoint] = set()

    def serve(self) -> None:
        """Answer the child's requests until its end of the socket is closed."""
        self._policy.admit(json.loads(self._connections.recv(REQUEST_LIMIT)))
        self._connections.sendall(b"\n")
        threading.Thread(target=self._serve_look_ups, daemon=True).start()
        while True:
            request = self._connections.recv(REQUEST_LIMIT)
            if not request:
                return
            try:
                endpoint = Endpoint(*json.loads(request))
                self._policy.check(endpoint)
                connection = begin(endpoint)
            except OSError as error:
                self._connections.sendall(str(error.errno or errno.EIO).encode())
                continue
            self._tell(endpoint)
            with connection:
                socket.send_fds(self._connections, [b"0"], [connection.fileno()])

    def _tell(self, endpoint: Endpoint) -> None:
        if self._connected >= 0 and endpoint not in self._told:
            self._told.add(endpoint)
            os.write(self._connected, json.dumps(endpoint).encode() + b"\n")

    def _serve_look_ups(self) -> None:
        while True:
            question = self._look_ups.recv(QUESTION_LIMIT)
            if not question:
                return
            self._look_ups.sendall(json.dumps(list(self._policy.look_up(question.decode()))).encode())
