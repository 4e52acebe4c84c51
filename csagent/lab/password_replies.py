"""The replies of every password server that VRs have had, byte by byte (field/cloudstack#4.1 to #4.3)."""

from __future__ import annotations

from typing import Callable, Dict

Shape = Callable[[str, bytes], bytes]
"""What was asked for (password, nothing, acknowledged, bad request) and the body, to the whole reply."""

_HEADER = (
    b"HTTP/1.0 200 OK\r\n"
    b"Server: CloudStack Password Server 4.x\r\n"
    b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
    b"Content-type: text/plain\r\n"
    b"Server: CloudStack Password Server\r\n\r\n"
)
_PYTHON2_400 = (
    b"HTTP/1.0 400 Bad Request\r\n"
    b"Server: CloudStack Password Server 4.x\r\n"
    b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
)


def _python3(_kind: str, body: bytes) -> bytes:
    """Current: no Content-Length, two Server headers, status 200 for everything."""
    return _HEADER + body


def _early_python3(kind: str, body: bytes) -> bytes:
    """Literals failed with TypeError, so that only a password has a body (#9699)."""
    return _HEADER + (body if kind == "password" else b"")


def _python2(kind: str, body: bytes) -> bytes:
    """The status line of a 400 goes into the body."""
    return _HEADER + (_PYTHON2_400 if kind == "bad request" else b"") + body


def _socat(_kind: str, body: bytes) -> bytes:
    """A shell script behind socat, with the least of a header."""
    return b"HTTP/1.0 200 OK\nDocumentType: text/plain\n\n" + body + b"\n"


def _headerless(_kind: str, body: bytes) -> bytes:
    """The first shell script: only the word."""
    return body + b"\n"


SHAPES: Dict[str, Shape] = {
    "python3": _python3,
    "early-python3": _early_python3,
    "python2": _python2,
    "socat": _socat,
    "headerless": _headerless,
}
