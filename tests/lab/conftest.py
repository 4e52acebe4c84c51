"""Real servers on loopback: a virtual router that behaves, and peers that do not."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional, TypeVar

import pytest
from support.peers import Behaviour, Peer, reset
from support.running_daemon import Running
from support.samples import CLOUD

from csagent.lab.router import LabRouter
from csagent.model import Candidate, Endpoint
from csagent.system.seams import Dialer, System
from csagent.system.sockets import DeadlineSocket


def drip(connection: socket.socket, data: bytes, pause: float = 0.2) -> None:
    """Send a byte now and then."""
    for index in range(len(data)):
        connection.sendall(data[index : index + 1])
        time.sleep(pause)


def silent(connection: socket.socket, _request: bytes = b"") -> None:
    """Say nothing until the other side goes away."""
    while connection.recv(4096):
        pass


def flood(connection: socket.socket, data: bytes, head: bytes = b"") -> None:
    """Send for as long as the other side takes it."""
    connection.sendall(head)
    while True:
        connection.sendall(data)


AnyRouter = TypeVar("AnyRouter", bound=LabRouter)


class Servers:
    """What the tests start; everything is stopped when the test ends."""

    reset = staticmethod(reset)
    silent = staticmethod(silent)
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
        return self.started(LabRouter(*args, **kwargs))

    def started(self, router: AnyRouter) -> AnyRouter:
        """Any kind of lab router, serving."""
        self._stack.enter_context(router)
        return router

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


class LoopbackDialer(Dialer):
    """Leaves the NIC to the kernel: a candidate's is only a name in these tests."""

    def connect(self, endpoint: Endpoint, deadline: float) -> DeadlineSocket:
        return super().connect(endpoint._replace(interface=None), deadline)


@pytest.fixture
def live() -> System:
    """The real clock and sockets; all networks are on loopback, whatever their NICs are called."""
    return System(dialer=LoopbackDialer())


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


PEERS_GET = {
    "client": ["LISTING_SECONDS"],
    "connect": ["CONNECT_SECONDS"],
    "dns": ["SECONDS"],
    "http": ["REQUEST_SECONDS"],
    "names": ["NAME_SECONDS"],
    "password_protocol": ["ASK_SECONDS"],
    "password_search": ["EVIDENCE_SECONDS", "LAST_WORD_SECONDS"],
    "passwords": ["FRESH_SECONDS", "GRACE_SECONDS"],
    "probe": ["LOADED_SECONDS"],
    "search": ["GRACE_SECONDS"],
}


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer gets an hour for what a router gets seconds for: what is late here is this machine.

    It changes nothing for who answers. A test of one of these limits sets it back.
    """
    for module, names in PEERS_GET.items():
        for name in names:
            monkeypatch.setattr(f"csagent.sources.router.{module}.{name}", 3600.0)


@pytest.fixture
def soon() -> Callable[[float], float]:
    """A deadline that many seconds from now."""
    return lambda seconds: time.monotonic() + seconds


@pytest.fixture
def daemon(tree: Path) -> Iterator[Callable[..., Running]]:
    """Start daemons that end with the test."""
    started: List[Running] = []

    def start(
        port: Optional[int], password_port: int, settings: str = "", *words: str, watchdog: str = ""
    ) -> Running:
        (tree / "settings.yaml").write_text(settings)
        router = (
            [] if port is None else ["--router", f"127.0.0.1:{port}", "--password-port", str(password_port)]
        )
        given = [*router, *words]
        started.append(Running(tree, ["--config", str(tree / "settings.yaml"), "daemon", *given], watchdog))
        return started[-1]

    yield start
    for running in started:
        running.close()
