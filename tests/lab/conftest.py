"""Real servers on loopback: a virtual router that behaves, and peers that do not."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Any, Callable, Iterator, List, Optional

import pytest
from samples import CLOUD

from csagent.lab.router import LabRouter
from csagent.model import Candidate
from csagent.system.seams import System

Behaviour = Callable[[socket.socket, bytes], None]


class Peer:
    """A TCP server that does with each request whatever a function says."""

    def __init__(self, behaviour: Behaviour, address: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: List[bytes] = []
        self.connections = 0
        self._behaviour = behaviour
        self._listener = socket.create_server((address, port), backlog=64)
        self.address, self.port = self._listener.getsockname()
        self._open: List[socket.socket] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self._stopping:
                connection.close()
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while True:
                request = b""
                while b"\r\n\r\n" not in request:
                    piece = connection.recv(4096)
                    if not piece:
                        return
                    request += piece
                self.requests.append(request)
                self._behaviour(connection, request)
                if b"Connection: close" in request:
                    return

    def stop(self) -> None:
        self._stopping = True
        with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 1):
            pass  # wakes accept()
        self._listener.close()
        self._thread.join(5)
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    """Close with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def drip(connection: socket.socket, data: bytes, pause: float = 0.2) -> None:
    """Send a byte now and then."""
    for index in range(len(data)):
        connection.sendall(data[index : index + 1])
        time.sleep(pause)


def flood(connection: socket.socket, data: bytes, head: bytes = b"") -> None:
    """Send for as long as the other side takes it."""
    connection.sendall(head)
    while True:
        connection.sendall(data)


class Servers:
    """What the tests start; everything is stopped when the test ends."""

    reset = staticmethod(reset)
    drip = staticmethod(drip)
    flood = staticmethod(flood)

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def peer(self, behaviour: Behaviour, address: str = "127.0.0.1", port: int = 0) -> Peer:
        peer = Peer(behaviour, address, port)
        self._stack.callback(peer.stop)
        return peer

    def says(self, raw: bytes, address: str = "127.0.0.1") -> Peer:
        """A peer that sends these bytes and closes."""

        def behaviour(connection: socket.socket, _request: bytes) -> None:
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)

        return self.peer(behaviour, address)

    def lab(self, *args: Any, **kwargs: Any) -> LabRouter:
        return self._stack.enter_context(LabRouter(*args, **kwargs))

    @staticmethod
    def free_port(address: str = "127.0.0.1") -> int:
        """A port on which nobody listens."""
        with socket.socket() as taken:
            taken.bind((address, 0))
            return int(taken.getsockname()[1])

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Start servers that end with the test."""
    made = Servers()
    yield made
    made.close()


@pytest.fixture
def router(servers: Servers) -> LabRouter:
    """A virtual router that has everything for the samples' VM."""
    return servers.lab(CLOUD)


@pytest.fixture
def live() -> System:
    """The real clock and sockets."""
    return System()


@pytest.fixture
def candidate() -> Callable[..., Candidate]:
    """Make a candidate for a lab router or a peer."""

    def make(
        lab: Any = None,
        *,
        address: Optional[str] = None,
        port: Optional[int] = None,
        password_port: Optional[int] = None,
        **fields: Any,
    ) -> Candidate:
        dead = Servers.free_port()
        kind = fields.pop("kind", "server-identifier")
        fields.setdefault("named", kind != "data-server")
        return Candidate(
            address or (lab.address if lab is not None else "127.0.0.1"),
            kind,
            fields.pop("why", "a test"),
            port=port or (lab.port if lab is not None else dead),
            password_port=password_port or getattr(lab, "password_port", dead),
            **fields,
        )

    return make


@pytest.fixture
def soon() -> Callable[[float], float]:
    """A deadline that many seconds from now."""
    return lambda seconds: time.monotonic() + seconds
