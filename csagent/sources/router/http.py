"""HTTP as the virtual router's metadata needs it: GET by address, bounded in bytes and seconds.

On the standard library's http.client, for it needs neither TLS nor redirects nor cookies nor proxies, and
refuses them. Endless 1xx replies and trailers ignore its timeout (python/cpython#150743), headers cut by a
close pass for whole ones, and a Content-Length that is no number is ignored (field/dependencies#5).
So the socket ends at a deadline, the stream below http.client is metered, and what it lets pass is refused.
"""

from __future__ import annotations

import http.client
import io
import socket
import threading
from typing import Any, Callable, List, NamedTuple, Optional, Union

from csagent import __version__
from csagent.errors import CutShort, Malformed, ProbeError, Refused, Stalled
from csagent.model import Endpoint
from csagent.sources.router.connect import connect, problem, status_problem
from csagent.system.seams import System
from csagent.system.sockets import DeadlineSocket

REQUEST_SECONDS = 10.0  # for one reply; 1 MiB of user-data on an emulated guest needs some
DISCARD_LIMIT = 16 * 1024  # of an error page, so that its connection can be kept
CHUNK = 64 * 1024
HEADER_LIMIT = 64 * 1024
RAW_LIMIT = 8 << 20  # a body with its chunk framing and trailers
LINES_LIMIT = 10_000  # of that framing; each costs some microseconds
HEADERS = {"User-Agent": f"csagent/{__version__}", "Accept": "*/*"}


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
        endpoint: where the router is, and from where every connection starts.
        deadline: on the monotonic clock; nothing lives past it.
        connections: how many may be kept, the number of threads that will ask.
    """

    def __init__(
        self,
        system: System,
        endpoint: Endpoint,
        *,
        deadline: float,
        connections: int = 1,
    ) -> None:
        self.connected = False  # whether anybody has ever been there
        self.source = endpoint.source  # the address that the router knows us by
        self._clock = system.clock
        self._deadline = deadline
        self._attempts = connections + 1

        def dial() -> DeadlineSocket:
            made = connect(system, endpoint, self._expiry())
            self.connected = True
            self.source = self.source or made.getsockname()[0]
            return made

        self._pool = _Pool(lambda: _Connection(endpoint.address, endpoint.port, dial))

    def _expiry(self) -> float:
        return min(self._deadline, self._clock.monotonic() + self._clock.stretched(REQUEST_SECONDS))

    def get(self, path: str, cap: int) -> Answer:
        """Ask for an absolute, already quoted path; the body may have `cap` bytes.

        Raises:
            ProbeError: `Absent` for 404, `Refused`, `TimedOut`, `Unreachable` or `Malformed`; its text
                is one line and holds nothing of the body.
        """
        # Each stale connection is used up by finding out, so this reaches a fresh one.
        for _ in range(self._attempts):
            connection = self._pool.take()
            try:
                return connection.get(path, cap, self._expiry())
            except _Stale:
                continue
            except OSError as error:
                raise problem(error) from None
            except (http.client.HTTPException, ValueError):
                raise Malformed("not an HTTP reply, or headers past every limit") from None
            finally:
                self._pool.give_back(connection)
        raise Refused("the connection was closed again and again")

    def close(self) -> None:
        """Close the connections that are idle; those in use end with their request."""
        self._pool.close()


class _Stale(Exception):
    """The peer had closed a kept-alive connection: nothing was answered, ask again on another."""


class _Pool:
    """Idle connections to one router; a thread has one to itself while it asks."""

    def __init__(self, make: Callable[[], _Connection]) -> None:
        self._make = make
        self._idle: List[_Connection] = []
        self._closed = False
        self._lock = threading.Lock()

    def take(self) -> _Connection:
        """An idle connection, else a new one, which is not open yet."""
        with self._lock:
            return self._idle.pop() if self._idle else self._make()

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection that is still open."""
        with self._lock:
            if connection.sock is not None and not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle; what is given back later is closed then."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        for connection in idle:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """One connection; `sock` is None where there is none (any more)."""

    def __init__(self, address: str, port: int, dial: Callable[[], DeadlineSocket]) -> None:
        super().__init__(address, port)
        self.response_class = _Reply
        self._dial = dial
        self._answered = False

    def connect(self) -> None:
        """Open it, as http.client does when there is something to send."""
        self._answered = False
        self.sock = self._dial()

    def get(self, path: str, cap: int, expiry: float) -> Answer:
        """One request and its reply. The connection stays open only where the reply was read to its end.

        Raises:
            _Stale: it had been closed before.
            ProbeError, OSError, http.client.HTTPException, ValueError: see `Http.get`.
        """
        whole = False
        try:
            reply = self._ask(path, expiry)
            with reply:
                answer = _judge(reply, cap)
                whole = not reply.will_close
                if isinstance(answer, ProbeError):
                    raise answer
                return answer
        finally:
            if not whole:
                self.close()

    def _ask(self, path: str, expiry: float) -> http.client.HTTPResponse:
        if isinstance(self.sock, DeadlineSocket):
            self.sock.deadline = expiry
        try:
            self.request("GET", path, headers=HEADERS)
            reply = self.getresponse()
        except ConnectionError as error:
            if self._answered:
                raise _Stale from None
            if isinstance(error, http.client.RemoteDisconnected):
                raise Refused("connection closed without a reply") from None
            raise
        self._answered = True
        return reply


def _judge(reply: http.client.HTTPResponse, cap: int) -> Union[Answer, ProbeError]:
    """The answer, or what a status that is not 200 says once its page has been read.

    Raises:
        ProbeError: the reply is not one to be read on.
    """
    if reply.status != 200:
        said = status_problem(reply.status)
        try:
            if len(reply.read(DISCARD_LIMIT)) == DISCARD_LIMIT:
                raise said
        except (OSError, http.client.HTTPException, ValueError):
            raise said from None
        return said
    if "Content-Range" in reply.headers:
        raise Malformed("a part of it (Content-Range), which was not asked for")
    encoding = reply.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() not in ("identity", ""):
        raise Malformed("a compressed body, which was not asked for")
    length = None if reply.chunked else reply.headers.get("Content-Length")
    announced = int(length.split(",")[0]) if length else None
    if announced is not None and announced > cap:
        raise Malformed(f"more than {cap} bytes")
    body = _body(reply, cap)
    if announced is not None and len(body) < announced:
        raise CutShort("the body was cut short")
    return Answer(body, reply.chunked or announced is not None, _age(reply.headers))


def _body(reply: http.client.HTTPResponse, cap: int) -> bytes:
    """The body as it comes over the wire, undecoded.

    Raises:
        Malformed: it has more than `cap` bytes, or ends too early.
        OSError: see `problem`.
    """
    pieces: List[bytes] = []
    size = 0
    try:
        while size <= cap:
            piece = reply.read(min(CHUNK, cap + 1 - size))
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
            size += len(piece)
    except ConnectionError:
        raise CutShort("the body was cut short") from None
    except (socket.timeout, TimeoutError):
        raise Stalled(reply.received if isinstance(reply, _Reply) else size) from None
    except (http.client.HTTPException, ValueError):
        raise CutShort("the body was cut short or its chunks make no sense") from None
    raise Malformed(f"more than {cap} bytes")


def _age(headers: Any) -> Optional[float]:
    from email.utils import parsedate_to_datetime

    try:
        now, written = (parsedate_to_datetime(headers[name]) for name in ("Date", "Last-Modified"))
        return (now - written).total_seconds()
    except (KeyError, TypeError, ValueError, IndexError, OverflowError):
        return None


class _Reply(http.client.HTTPResponse):
    """A reply whose header and body end, and whose length is a number."""

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._meter = _Meter(self.fp.detach())
        self.fp = self._lines = _Lines(self._meter)

    @property
    def received(self) -> int:
        """The bytes that came after the header: a read that times out keeps none of its own."""
        return self._meter.taken - self._lines.header

    def begin(self) -> None:
        lines = self.fp
        super().begin()
        if isinstance(lines, _Lines):
            lines.heading = False
        self._meter.left = RAW_LIMIT
        self._meter.what = "a body"
        lengths = ",".join(self.headers.get_all("Content-Length") or []).split(",")
        lengths = [length.strip() for length in lengths]
        if lengths != [""]:
            one = lengths[0]
            if len(set(lengths)) != 1 or not (one.isascii() and one.isdigit() and len(one) <= 15):
                raise Malformed("Content-Length is not one number")
        encodings = self.headers.get_all("Transfer-Encoding") or ["chunked"]
        if [one.strip().lower() for one in encodings] != ["chunked"]:
            raise Malformed("an unknown transfer encoding")


class _Meter(io.RawIOBase):
    """A raw stream that gives at most `left` more bytes."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.left = HEADER_LIMIT
        self.taken = 0
        self.what = "headers"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        if self.left <= 0:
            raise Malformed(f"{self.what} without an end")
        count = self._raw.readinto(buffer)
        self.left -= count or 0
        self.taken += count or 0
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Lines(io.BufferedReader):
    """While the header is read, a line without its end is an error; after it, lines are counted."""

    heading = True
    header = 0  # bytes of it
    _first = True
    _lines = 0

    def readline(self, size: Optional[int] = -1, /) -> bytes:
        line = super().readline(-1 if size is None else size)
        if self.heading:
            if not (line or self._first) or (
                line and not line.endswith(b"\n") and not 0 <= (size or -1) <= len(line)
            ):
                raise Malformed("headers cut short, or not HTTP at all")
            self._first = False
            self.header += len(line)
        else:
            self._lines += 1
            if self._lines > LINES_LIMIT:
                raise Malformed("a body in too many pieces")
        return line


def warm_up() -> None:
    """Import what a read will import, while Python's own files can still be read.

    Called as root before the reading child gives up its rights.
    """
    import encodings.utf_16_be  # noqa: F401  # by values with \\uXXXX
    import gc  # noqa: F401  # by weakref, at the end of the process

    _age({"Date": "Thu, 01 Jan 2026 00:00:00 GMT", "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"})
