"""HTTP as the virtual router's metadata needs it: GET by address, bounded in bytes and seconds.

requests comes in only when a router is asked (52 ms, 18 MB), so importing this module is cheap.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, List, Mapping, NamedTuple, Optional

from csagent import __version__
from csagent.errors import CutShort, Malformed, ProbeError, Refused, TimedOut
from csagent.read.connect import connect, problem, status_problem
from csagent.sockets import DeadlineSocket
from csagent.system import Dialer, System

if TYPE_CHECKING:
    import requests

REQUEST_SECONDS = 10.0  # for one reply; 1 MiB of user-data on an emulated guest needs some
DISCARD_LIMIT = 16 * 1024  # of an error page, so that its connection can be kept
CHUNK = 64 * 1024


class Answer(NamedTuple):
    """A reply of status 200; everything else is raised.

    `framed`: a length or chunks say where the body ends, not the close of the connection. `age` is how old
    the file was, in whole seconds of the server's own clock; None where it does not say.
    """

    body: bytes
    framed: bool = True
    age: Optional[float] = None


class Http:
    """One router over kept-alive connections, shared by several threads.

    Args:
        system: its dialer opens the connections.
        address: dotted quad of the router.
        port: TCP port.
        source: the local address that every connection is bound to, or None.
        deadline: on the monotonic clock; nothing lives past it.
        connections: how many are kept, the number of threads that will ask.
    """

    def __init__(
        self,
        system: System,
        address: str,
        port: int,
        source: Optional[str],
        *,
        deadline: float,
        connections: int = 1,
    ) -> None:
        from csagent.read import transport

        clock = system.clock

        def expiry() -> float:
            return min(deadline, clock.monotonic() + REQUEST_SECONDS)

        self.connected = False  # whether anybody has ever been there

        def link_up() -> DeadlineSocket:
            connection = connect(system, address, port, source, expiry())
            self.connected = True
            return connection

        link = transport.Link(link_up, expiry)
        self._stale = transport.Stale
        self._attempts = connections + 1
        self._session = transport.session(link, connections, f"csagent/{__version__}")
        self._base = f"http://{address}:{port}"

    def get(self, path: str, cap: int) -> Answer:
        """Ask for an absolute, already quoted path; the body may have `cap` bytes.

        Raises:
            ProbeError: `Absent` for 404, `Refused`, `TimedOut`, `Unreachable` or `Malformed`; its text
                is one line and holds nothing of the body.
        """
        # Each stale connection is used up by finding out, so this reaches a fresh one.
        for _ in range(self._attempts):
            try:
                return self._get(path, cap)
            except self._stale:
                continue
            except ProbeError:
                raise
            except Exception as error:
                raise explain(error) from None
        raise Refused("the connection was closed again and again")

    def _get(self, path: str, cap: int) -> Answer:
        response = self._session.get(self._base + path, stream=True, allow_redirects=False)
        try:
            if response.status_code != 200:
                _discard(response)
                raise status_problem(response.status_code)
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding.strip().lower() not in ("identity", ""):
                raise Malformed("a compressed body, which was not asked for")
            length = response.headers.get("Content-Length", "").split(",")[0].strip()
            if "Transfer-Encoding" in response.headers:
                length = ""
            if length and int(length) > cap:
                raise Malformed(f"more than {cap} bytes")
            try:
                body = _body(response, cap)
            except ProbeError:
                raise
            except Exception as error:
                reason = explain(error)
                raise CutShort("the body was cut short") if isinstance(reason, Refused) else reason from None
            if length and len(body) < int(length):
                raise CutShort("the body was cut short")
            framed = bool(length) or "Transfer-Encoding" in response.headers
            return Answer(body, framed, _age(response.headers))
        finally:
            response.close()

    def close(self) -> None:
        """Close the connections that are idle; those in use end with their request."""
        self._session.close()


def _age(headers: Mapping[str, str]) -> Optional[float]:
    from email.utils import parsedate_to_datetime

    try:
        now, written = (parsedate_to_datetime(headers[name]) for name in ("Date", "Last-Modified"))
        return (now - written).total_seconds()
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None


def _body(response: requests.Response, cap: int) -> bytes:
    """Read a body as it comes over the wire, undecoded.

    Raises:
        Malformed: it has more than `cap` bytes.
    """
    pieces: List[bytes] = []
    size = 0
    while True:
        piece = response.raw.read(min(CHUNK, cap + 1 - size), decode_content=False)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
        size += len(piece)
        if size > cap:
            raise Malformed(f"more than {cap} bytes")


def _discard(response: requests.Response) -> None:
    try:
        _body(response, DISCARD_LIMIT)
    except Exception:  # the status has said it all; the connection is closed instead of kept
        return


def explain(error: BaseException) -> ProbeError:
    """What requests or urllib3 raised, as a `ProbeError`. Their own texts can hold what was received."""
    seen: List[BaseException] = []
    pending: List[BaseException] = [error]
    timeout = False
    while pending and len(seen) < 32:
        current = pending.pop(0)
        seen.append(current)
        if isinstance(current, ProbeError):
            return current
        if isinstance(current, OSError) and (current.errno or isinstance(current, socket.timeout)):
            return problem(current)
        timeout = timeout or "Timeout" in type(current).__name__
        linked = [current.__cause__, current.__context__, getattr(current, "reason", None), *current.args]
        pending.extend(item for item in linked if isinstance(item, BaseException) and item not in seen)
    if timeout:
        return TimedOut("no answer in time")
    if any("IncompleteRead" in type(item).__name__ or "Protocol" in type(item).__name__ for item in seen):
        return CutShort("the body was cut short or its chunks make no sense")
    return Malformed(f"not understood ({type(error).__name__})")


class _Canned(Dialer):
    """Connects to a reply that has already been written."""

    def __init__(self, reply: bytes) -> None:
        ours, self._theirs = socket.socketpair()
        self._theirs.sendall(reply)
        self._theirs.shutdown(socket.SHUT_WR)
        self._ours = DeadlineSocket(ours.family, ours.type, ours.proto, fileno=ours.detach())

    def connect(self, address: str, port: int, source: Optional[str], deadline: float) -> DeadlineSocket:
        self._ours.deadline = deadline
        return self._ours

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


_CANNED = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nSet-Cookie: a=b\r\n\r\nx",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n",
    b"nonsense\r\n\r\n",
)


def warm_up() -> None:
    """Import everything that a read will import, while Python's own files can still be read.

    Called as root before the reading child gives up its rights. The libraries import on first use in
    many places, so each kind of reply is read once, from a socket pair inside this process.
    """
    import email.utils  # noqa: F401  # for the age of a file
    import encodings.idna  # by socket.getaddrinfo
    import encodings.utf_16_be  # noqa: F401  # by values with \\uXXXX
    import gc  # noqa: F401  # by weakref, at the end of the process

    from csagent.read import transport  # noqa: F401  # seconds of a slow machine, before any deadline

    "x".encode("idna")
    for reply in _CANNED:
        dialer = _Canned(reply)
        try:
            system = System(dialer=dialer)
            http = Http(system, "127.0.0.1", 80, None, deadline=system.clock.monotonic() + 5.0)
            try:
                http.get("/latest/meta-data/%20", 16)
            except ProbeError:
                pass  # the last four are meant to fail; a machine too busy for the others loses an import
            finally:
                http.close()
        finally:
            dialer.close()
