"""requests and urllib3 with every byte and second counted. Imported only where HTTP is really spoken.

The `timeout` of requests is per receive, endless 1xx replies and trailers ignore even that
(python/cpython#150743), headers cut by a close pass for whole ones, and a Content-Length that is no
number is ignored (facts/dependencies.md, section 5). Here the socket ends at a deadline, the stream
below http.client is metered, and what it lets pass is refused.
"""

from __future__ import annotations

import http.client
import io
import logging
from typing import Any, Callable, ClassVar, Optional

import requests
import requests.adapters
import urllib3.connection
import urllib3.connectionpool

from csagent.errors import Malformed, Refused
from csagent.read.connect import problem
from csagent.sockets import DeadlineSocket

HEADER_LIMIT = 64 * 1024
RAW_LIMIT = 8 << 20  # a body with its chunk framing and trailers
LINES_LIMIT = 10_000  # of that framing; each costs some microseconds


class Stale(Exception):
    """The peer had closed a kept-alive connection: nothing was answered, ask again on another."""


class Link:
    """How the connections of one session are made, and until when they may live."""

    def __init__(self, connect: Callable[[], DeadlineSocket], expiry: Callable[[], float]) -> None:
        self.connect = connect
        self.expiry = expiry


class _Meter(io.RawIOBase):
    """A raw stream that gives at most `left` more bytes."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.left = HEADER_LIMIT
        self.what = "headers"

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> Optional[int]:
        if self.left <= 0:
            raise Malformed(f"{self.what} without an end")
        count = self._raw.readinto(buffer)
        self.left -= count or 0
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Lines(io.BufferedReader):
    """While the header is read, a line without its end is an error; after it, lines are counted."""

    heading = True
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
        else:
            self._lines += 1
            if self._lines > LINES_LIMIT:
                raise Malformed("a body in too many pieces")
        return line


class _Reply(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._meter = _Meter(self.fp.detach())
        self.fp = _Lines(self._meter)

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
        if (self.headers.get("Transfer-Encoding") or "chunked").strip().lower() != "chunked":
            raise Malformed("an unknown transfer encoding")


class _Connection(urllib3.connection.HTTPConnection):
    response_class = _Reply
    link: ClassVar[Link]
    answered = False

    def _new_conn(self) -> DeadlineSocket:
        self.answered = False
        return self.link.connect()

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        if isinstance(self.sock, DeadlineSocket):
            self.sock.deadline = self.link.expiry()
        super().putrequest(*args, **kwargs)

    def send(self, data: Any) -> None:
        try:
            super().send(data)
        except ConnectionError:
            if self.answered:
                raise Stale from None
            raise

    def getresponse(self, *args: Any, **kwargs: Any) -> Any:
        try:
            response = super().getresponse(*args, **kwargs)
        except ConnectionError as error:
            if self.answered:
                raise Stale from None
            if isinstance(error, http.client.RemoteDisconnected):
                raise Refused("connection closed without a reply") from None
            raise problem(error) from None
        except OSError as error:
            raise problem(error) from None
        except (http.client.HTTPException, ValueError):
            raise Malformed("not an HTTP reply, or headers past every limit") from None
        self.answered = True
        return response


class _Adapter(requests.adapters.HTTPAdapter):
    def __init__(self, link: Link, connections: int) -> None:
        self._link = link
        super().__init__(pool_connections=1, pool_maxsize=connections, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        connection = type("Connection", (_Connection,), {"link": self._link})
        pool = type("Pool", (urllib3.connectionpool.HTTPConnectionPool,), {"ConnectionCls": connection})
        self.poolmanager.pool_classes_by_scheme = {"http": pool}


class _Session(requests.Session):
    def get_redirect_target(self, _response: Any) -> None:
        """None, always: requests reads, and decodes, the whole body of a redirect even where it does
        not follow it."""
        return


def session(link: Link, connections: int, agent: str) -> requests.Session:
    """A session that takes nothing from the environment, follows nothing and remembers no cookies."""
    from http.cookiejar import DefaultCookiePolicy

    # urllib3 puts header lines that it cannot parse into the log.
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    made = _Session()
    made.trust_env = False
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    made.headers.clear()
    made.headers.update({"User-Agent": agent, "Accept": "*/*", "Accept-Encoding": "identity"})
    made.adapters.clear()
    made.mount("http://", _Adapter(link, connections))
    return made
