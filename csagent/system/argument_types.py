"""Types of command line arguments, for argparse: each raises ArgumentTypeError with one line."""

from __future__ import annotations

from argparse import ArgumentTypeError

TYPE_CHECKING = False  # status, query and the resident daemon do without typing
if TYPE_CHECKING:
    from typing import Tuple

HTTP_PORT = 80
A_DAY = 86400.0  # seconds
NAME_LIMIT, LABEL_LIMIT = 253, 63  # characters of a DNS name, and between two of its dots


def router(text: str) -> Tuple[str, int]:
    """HOST or HOST:PORT, as (host, port)."""
    name, colon, behind = text.partition(":")
    if ":" in behind:
        raise ArgumentTypeError(f"{text!r}: virtual routers have IPv4 addresses only")
    if not name or "/" in behind:  # http://HOST
        raise ArgumentTypeError(f"{text!r} is not HOST or HOST:PORT")
    return host(name), port(behind) if colon else HTTP_PORT


def host(text: str) -> str:
    """An address, or a name that a resolver can be asked for (RFC 1035): Python encodes it as IDNA first."""
    try:
        name = text if text.isascii() else text.encode("idna").decode()
    except UnicodeError:
        name = ""
    name = name[:-1] if name.endswith(".") else name
    whole = len(name) <= NAME_LIMIT and all(0 < len(label) <= LABEL_LIMIT for label in name.split("."))
    if not whole or not text.isprintable() or any(char in " /:" for char in name):
        raise ArgumentTypeError(f"{text!r} can be no host name")
    return text


def port(text: str, lowest: int = 1) -> int:
    """A TCP port; `lowest` is 0 where that means any free one."""
    if not text.isascii() or not text.isdigit() or not lowest <= int(text) <= 65535:
        raise ArgumentTypeError(f"{text!r} is not a port from {lowest} to 65535")
    return int(text)


def any_port(text: str) -> int:
    """A TCP port, or 0 for any free one."""
    return port(text, 0)


def seconds(text: str) -> float:
    """A duration of at most a day."""
    return _number(text, A_DAY, "seconds")


def milliseconds(text: str) -> float:
    """A duration of at most a minute."""
    return _number(text, 60_000.0, "milliseconds")


def _number(text: str, highest: float, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= highest:
        raise ArgumentTypeError(f"{text!r} is not a number of {unit} from 0 to {highest:g}")
    return value
