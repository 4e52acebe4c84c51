"""One request to one peer: whatever it does, an answer or a one-line reason, in time."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import time
from typing import Any, Callable, Iterator

import pytest

from csagent import validation
from csagent.errors import (
    Absent,
    CutShort,
    Malformed,
    ProbeError,
    Refused,
    ServerFault,
    Stalled,
    TimedOut,
    Unreachable,
)
from csagent.model import Endpoint
from csagent.sources.router.http import Http
from csagent.system.seams import System

OK = b"HTTP/1.1 200 OK\r\n"
MARKER = "marker-in-body"
SECRET = MARKER.encode()
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
HOUR = 3600.0

pytestmark = pytest.mark.usefixtures("unhurried")


def open_http(system: System, peer: Any, seconds: float = HOUR, **fields: Any) -> Http:
    endpoint = Endpoint(peer.address, peer.port, fields.pop("source", None))
    return Http(system, endpoint, deadline=time.monotonic() + seconds, **fields)


@pytest.fixture
def ask(live: System, servers: Any) -> Iterator[Callable[..., Any]]:
    """Ask a peer with this behaviour once."""
    opened = []

    def make(behaviour: Any, *, cap: int = 1000, seconds: float = HOUR) -> Any:
        peer = servers.says(behaviour) if isinstance(behaviour, bytes) else servers.peer(behaviour)
        http = open_http(live, peer, seconds)
        opened.append(http)
        return http.get("/latest/meta-data/x", cap)

    yield make
    for http in opened:
        http.close()


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"Content-Length: 5\r\n\r\nhello",
        OK + b"\r\nhello",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nA: b\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"Content-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
def test_whole_bodies_are_read(ask: Callable[..., Any], raw: bytes) -> None:
    """Every way to frame a body that is legal gives the body."""
    assert ask(raw).body == b"hello"


@pytest.mark.parametrize(
    ("raw", "kind", "reason"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 14\r\n\r\nmarker-in-body", Absent, "HTTP 404"),
        (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", Refused, "HTTP 401"),
        (b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", Refused, "HTTP 403"),
        (b"HTTP/1.1 500 Oops\r\n\r\n", ServerFault, "HTTP 500"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n" + SECRET, Malformed, "redirect"),
        (OK + b"Content-Length: 50\r\n\r\n" + SECRET, CutShort, "cut short"),
        (OK + b"Content-Length: -1\r\n\r\n" + SECRET, Malformed, "Content-Length"),
        (OK + b"Content-Length: two\r\n\r\n" + SECRET, Malformed, "Content-Length"),
        (OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n" + SECRET, Malformed, "Content-Length"),
        (OK + b"Content-Length: 5", Malformed, "headers cut short"),
        (OK + b"X-Thing: 1\r\n", Malformed, "headers cut short"),
        (b"HTTP/1.1 20", Malformed, "headers cut short"),
        (SECRET, Malformed, "not HTTP"),
        (SECRET + b"\r\n\r\n", Malformed, "not an HTTP reply"),
        (OK + b"".join(b"A%d: b\r\n" % n for n in range(200)) + b"\r\n", Malformed, "not an HTTP reply"),
        (OK + b"A: " + b"b" * 70000 + b"\r\n\r\n", Malformed, ""),
        (OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nmarker", CutShort, ""),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n50\r\nmarker", CutShort, "cut short"),
        (OK + b"Transfer-Encoding: gzip\r\n\r\nmarker", Malformed, "transfer encoding"),
        (OK + b"Transfer-Encoding:\r\n\r\nmarker", Malformed, "transfer encoding"),
        (OK + b"Content-Range: bytes 0-5/60\r\nContent-Length: 6\r\n\r\nmarker", Malformed, "a part of it"),
        (OK + b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"x" * 10**6), Malformed, "compressed"),
        (OK + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001, Malformed, "more than 1000 bytes"),
        (OK + b"\r\n" + b"x" * 1001, Malformed, "more than 1000 bytes"),
    ],
)
def test_everything_else_is_a_reason(ask: Callable[..., Any], raw: bytes, kind: type, reason: str) -> None:
    """A reply that is no value raises its kind of error, one line, with nothing of the body in it."""
    with pytest.raises(ProbeError) as caught:
        ask(raw)
    assert type(caught.value) is kind
    assert reason in str(caught.value)
    assert "marker" not in str(caught.value) and "\n" not in str(caught.value)


ENDLESS = {
    "silent": lambda s, connection, _: s.silent(connection),
    "slow headers": lambda s, connection, _: s.drip(connection, OK + b"A: b\r\n" * 1000),
    "slow body": lambda s, connection, _: (
        connection.sendall(OK + b"\r\n"),
        s.drip(connection, b"marker" * 500),
    ),
    "endless 1xx": lambda s, connection, _: s.flood(connection, b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "endless headers": lambda s, connection, _: s.flood(connection, b"A: b\r\n" * 100, OK),
    "one endless header": lambda s, connection, _: s.flood(connection, b"x" * 65536, OK),
    "endless body": lambda s, connection, _: s.flood(connection, b"x" * 65536, OK + b"\r\n"),
    "endless error": lambda s, connection, _: s.flood(connection, b"x" * 65536, b"HTTP/1.1 404 No\r\n\r\n"),
    "endless redirect": lambda s, connection, _: s.flood(
        connection, b"x" * 65536, b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"
    ),
    "endless trailers": lambda s, connection, _: s.flood(
        connection, b"A: b\r\n" * 1000, OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
    ),
    "endless chunk size": lambda s, connection, _: s.flood(
        connection, b"0" * 65536, OK + b"Transfer-Encoding: chunked\r\n\r\n"
    ),
    "endless chunks of a byte": lambda s, connection, _: s.flood(connection, b"1\r\nx\r\n" * 1000, CHUNKED),
    "slow chunks of a byte": lambda s, connection, _: (
        connection.sendall(CHUNKED),
        s.drip(connection, b"1\r\nx\r\n" * 500),
    ),
    "reset": lambda s, connection, _: s.reset(connection),
    "reset in the body": lambda s, connection, _: (
        connection.sendall(OK + b"Content-Length: 100\r\n\r\nmarker"),
        s.reset(connection),
    ),
}


@pytest.mark.parametrize("sent", [0, 1, 1400, 5000, 60_000, 70_000])
@pytest.mark.parametrize("head", [b"Content-Length: 300000\r\n\r\n", b"\r\n"])
def test_a_stall_tells_how_much_had_come(live: System, servers: Any, sent: int, head: bytes) -> None:
    """Also where http.client's read of 64 KiB loses what it had: by that the MTU is blamed, or not."""

    def behaviour(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(OK + head + b"x" * sent)
        servers.silent(connection)

    peer = servers.peer(behaviour)
    http = Http(live, Endpoint(peer.address, peer.port), deadline=time.monotonic() + 2.0)
    with pytest.raises(Stalled) as caught:
        http.get("/", 1 << 20)
    http.close()
    assert caught.value.received == sent


SLOW = ("silent", "slow headers", "slow body", "slow chunks of a byte")


@pytest.mark.parametrize("name", list(ENDLESS))
def test_no_peer_holds_a_request_past_its_deadline(ask: Callable[..., Any], servers: Any, name: str) -> None:
    """Slow and silent peers cost the deadline, endless ones no more than the limits; both give a reason."""
    began = time.monotonic()
    with pytest.raises(ProbeError) as caught:
        ask(
            lambda connection, request: ENDLESS[name](servers, connection, request),
            seconds=1.0 if name in SLOW else HOUR,
        )
    assert time.monotonic() - began < 300
    assert "marker" not in str(caught.value)
    assert isinstance(caught.value, TimedOut if name in SLOW else (Absent, Refused, Malformed))
    if name.startswith("endless") and name not in ("endless error",):
        assert isinstance(caught.value, Malformed)


@pytest.mark.parametrize(
    ("cap", "reason"),
    [
        (1000, "more than 1000 bytes"),
        (validation.METADATA_LIMIT, "a body in too many pieces"),
        (validation.SSH_KEYS_SIZE, "a body in too many pieces"),
        (validation.USER_DATA_LIMIT, "a body in too many pieces"),
    ],
)
def test_chunks_of_a_byte_end_by_their_number(
    ask: Callable[..., Any], servers: Any, cap: int, reason: str
) -> None:
    """A value, keys or user-data: the last would be six megabytes of framing before its own limit."""
    taken = []

    def behaviour(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(CHUNKED)
        while True:
            connection.sendall(b"1\r\nx\r\n" * 100)
            taken.append(600)

    with pytest.raises(Malformed, match=reason):
        ask(behaviour, cap=cap)
    assert sum(taken) < (8 << 20)


def test_refused_and_unreachable_are_told_apart(live: System, servers: Any) -> None:
    """A closed port, a source address that is not ours and a name are three different reasons."""
    end = time.monotonic() + HOUR
    port = servers.free_port()
    with pytest.raises(Refused, match="connection refused"):
        Http(live, Endpoint("127.0.0.1", port), deadline=end).get("/", 10)
    with pytest.raises(Unreachable, match="source address"):
        Http(live, Endpoint("127.0.0.1", port, "192.0.2.77"), deadline=end).get("/", 10)
    with pytest.raises(Unreachable, match="not an IPv4 address"):
        Http(live, Endpoint("localhost", port), deadline=end).get("/", 10)
    with pytest.raises(ProbeError):
        Http(live, Endpoint("127.0.0.1", 70000), deadline=end).get("/", 10)


def test_connections_are_kept_and_bound_to_the_source(live: System, servers: Any) -> None:
    """Ten requests in sequence use one connection, from the address that is our identity."""
    sources = []

    def behaviour(connection: socket.socket, _request: bytes) -> None:
        sources.append(connection.getpeername()[0])
        connection.sendall(OK + b"Content-Length: 1\r\n\r\nx")

    peer = servers.peer(behaviour)
    http = open_http(live, peer, source="127.0.0.2")
    assert [http.get("/", 10).body for _ in range(10)] == [b"x"] * 10
    http.close()
    assert peer.connections == 1
    assert set(sources) == {"127.0.0.2"}


def test_error_pages_keep_their_connection(live: System, servers: Any) -> None:
    """A 404 with a short page does not cost a new connection, one with an endless page does."""
    page = b"HTTP/1.1 404 No\r\nContent-Length: %d\r\n\r\n" + b"x" * 20000

    for size, connections in ((10, 1), (20000, 2)):
        reply = page[: len(page) - 20000 + size] % size
        peer = servers.peer(lambda connection, _, reply=reply: connection.sendall(reply))
        http = open_http(live, peer)
        for _ in range(2):
            with pytest.raises(Absent):
                http.get("/latest/meta-data/none", 100)
        http.close()
        assert peer.connections == connections


def test_a_stale_connection_is_replaced_once(live: System, servers: Any) -> None:
    """A server that closes kept-alive connections after the request came is asked on a fresh one."""
    seen = []

    def behaviour(connection: socket.socket, _request: bytes) -> None:
        seen.append(connection)
        if seen.count(connection) == 2:
            servers.reset(connection)
        else:
            connection.sendall(OK + b"Content-Length: 1\r\n\r\nx")

    peer = servers.peer(behaviour)
    http = open_http(live, peer)
    assert http.get("/", 10).body == http.get("/", 10).body == b"x"
    http.close()
    assert (peer.connections, len(seen)) == (2, 3)


def test_nothing_is_taken_from_the_environment(
    live: System, servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies are ignored, nothing compressed is asked for, and no cookie comes back."""
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    peer = servers.peer(
        lambda connection, _: connection.sendall(OK + b"Set-Cookie: a=b\r\nContent-Length: 1\r\n\r\nx")
    )
    http = open_http(live, peer)
    assert http.get("/", 10).body == http.get("/", 10).body == b"x"
    http.close()
    for request in peer.requests:
        assert b"Accept-Encoding: identity" in request
        assert b"Cookie" not in request
        assert b"GET / HTTP/1.1\r\n" in request


def test_a_redirect_is_not_followed(live: System, servers: Any) -> None:
    """The target of a redirect is never contacted."""
    target = servers.says(OK + b"\r\nx")
    peer = servers.says(
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/\r\nContent-Length: 0\r\n\r\n" % target.port
    )
    http = open_http(live, peer)
    with pytest.raises(Malformed):
        http.get("/", 10)
    http.close()
    assert target.connections == 0


WARM = """
import sys
from csagent.sources.router import client, http
http.warm_up()

class Closed:
    def find_spec(self, name, path=None, target=None):
        raise RuntimeError("imported after warm_up: " + name)

sys.meta_path.insert(0, Closed())
sys.path[:] = []
import time
from csagent.model import Candidate, Platform
from csagent.system.seams import System
from csagent.sources.router import client, passwords
end = time.monotonic() + 60
system = System()
ours = Candidate("127.0.0.1", "given", "test", port=PORT, password_port=PASSWORD_PORT)
others = [Candidate("127.0.0.1", "given", "test", port=port, password_port=1) for port in DEAD]
name = Candidate("data-server.", "data-server", "test", port=1, password_port=1)
answer = client.read(client.Question(system, [*others, ours, name], Platform(), end))
offer = answer.readings[0].password
places = passwords.acknowledge(system, offer.endpoints, offer.value, end)
print(len(answer.readings[0].metadata), places[0].detail)
"""


def test_after_warm_up_nothing_is_imported(servers: Any) -> None:
    """The child that has given up its rights reads, resolves, fails and acknowledges without an import."""
    lab = servers.lab()
    dead = [
        servers.says(raw).port
        for raw in (
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nx",
            b"nonsense",
            OK + b"Transfer-Encoding: chunked\r\n\r\nq",
        )
    ]
    script = WARM.replace("PASSWORD_PORT", str(lab.password_port)).replace("PORT", str(lab.port))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script.replace("DEAD", repr([*dead, servers.free_port()]))],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == "10 acknowledged\n"
    assert lab.acknowledged == ["127.0.0.1"]
