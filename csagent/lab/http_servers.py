"""The two servers of the simulated virtual router, on real sockets."""

from __future__ import annotations

import http.server
import socket
import socketserver
import sys
import threading
import time
from email.utils import formatdate
from typing import Any, NamedTuple, Optional, Protocol, Set, Tuple
from urllib.parse import unquote

from csagent.lab.password_replies import SHAPES

READ_SECONDS = 30.0
HEADER_LINES = 200

# Apache's 404, an HTML page that careless clients have taken for a key (field/cloudstack#2.7 and #9.1).
_ERROR_PAGE = (
    '<!DOCTYPE HTML PUBLIC "-//IETF//DTD HTML 2.0//EN">\n<html><head>\n<title>404 Not Found</title>\n'
    "</head><body>\n<h1>Not Found</h1>\n<p>The requested URL was not found on this server.</p>\n"
    "<hr>\n<address>Apache Server</address>\n</body></html>\n"
)


class Request(NamedTuple):
    """One request as it came: to which server, for what, from where. Never a password."""

    server: str  # metadata | password
    what: str  # a path, or the value of DomU_Request
    source: str
    status: str = ""  # the HTTP status, or the word for what was answered


class Behind(Protocol):
    """The virtual router that the servers stand for: what it says, how fast and in which shape."""

    latency: float  # seconds before an answer
    shape: str  # of the password server's answers, one of SHAPES
    written: Optional[float]  # when its files were, in seconds since the epoch; None: it does not tell

    def page(self, path: str, source: str) -> Tuple[int, bytes]:
        """Status and body."""
        ...

    def answer(self, request: str, source: str) -> Tuple[str, str]:
        """The kind of the answer, and its text."""
        ...

    def record(self, request: Request) -> None:
        """A request has been answered."""
        ...

    def say(self, line: str) -> None:
        """For the log."""
        ...


class Server(socketserver.ThreadingTCPServer):
    """A thread for each connection; closing it cuts those that are kept alive."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: Tuple[str, int], handler: Any, lab: Behind) -> None:
        self.lab = lab
        self._open: Set[socket.socket] = set()
        self._guard = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._guard:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._guard:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no event; of all else the kind is logged, not what was sent."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.lab.say(f"a reply failed: {type(error).__name__}")

    def server_close(self) -> None:
        super().server_close()
        with self._guard:
            for connection in self._open:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # the other side was faster


class Metadata(http.server.BaseHTTPRequestHandler):
    """Apache with the tree behind it."""

    protocol_version = "HTTP/1.1"
    server_version = "Apache"
    sys_version = ""
    timeout = READ_SECONDS
    disable_nagle_algorithm = True  # else each reply waits for the client's delayed ACK
    server: Server

    def do_GET(self) -> None:
        """Answer from the tree; the source address says who asks."""
        lab = self.server.lab
        path = unquote(self.path.split("?")[0])
        if lab.latency:
            time.sleep(lab.latency)
        status, body = lab.page(path, self.client_address[0])
        lab.record(Request("metadata", path, self.client_address[0], str(status)))
        kind = "text/plain"
        if status == 404:
            kind, body = "text/html; charset=iso-8859-1", _ERROR_PAGE.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 200 and lab.written is not None:
            self.send_header("Last-Modified", formatdate(lab.written, usegmt=True))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: Any) -> None:
        """Nothing: `Behind.record` logs."""


class Password(socketserver.StreamRequestHandler):
    """The password server, in whatever shape."""

    timeout = READ_SECONDS
    server: Server

    def handle(self) -> None:
        """Read one request, answer in the shape of the server that is simulated, close."""
        lab = self.server.lab
        source = self.client_address[0]
        word = ""
        for _ in range(HEADER_LINES):
            line = self.rfile.readline(4096)
            if line in (b"\r\n", b"\n", b""):
                break
            name, _, value = line.decode("latin-1").partition(":")
            if name.strip().lower() == "domu_request":
                word = value.strip()
        if lab.latency:
            time.sleep(lab.latency)
        kind, body = lab.answer(word, source)
        asked = word if word in ("send_my_password", "saved_password") else "another request"
        lab.record(Request("password", asked, source, kind))
        self.wfile.write(SHAPES[lab.shape](kind, body.encode("utf-8", "surrogateescape")))
