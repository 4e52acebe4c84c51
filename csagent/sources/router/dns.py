"""Ask one name server for the addresses of names (RFC 1035), over TCP through the socket seam.

libc is no help with ``data-server.``: systemd-resolved does not send single-label names to anybody unless
it is told to (resolved.conf(5), ResolveUnicastSingleLabel=), and with several NICs the resolver that
answers first may be another network's. The VR serves DNS on TCP as on UDP.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Iterator, Sequence, Tuple

if TYPE_CHECKING:
    from csagent.model import Endpoint
    from csagent.system.seams import System
    from csagent.system.sockets import DeadlineSocket

PORT = 53
SECONDS = 1.0  # for one server
TYPE_A, CLASS_IN = 1, 1
RESPONSE, TRUNCATED, CODE = 0x8000, 0x0200, 0x000F
POINTER = 0xC0
ANSWERS_LIMIT = 16


def question(name: str, number: int) -> bytes:
    """A query for the IPv4 addresses of a fully qualified name, recursion wanted."""
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".")]
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 0) + encoded + struct.pack(">2H", TYPE_A, CLASS_IN)


def answers(message: bytes, asked: bytes) -> Tuple[str, ...]:
    """The addresses in a reply to `asked`; none where it is no reply to it, or says no.

    Raises:
        ValueError: the message is cut or makes no sense.
    """
    try:
        number, flags, questions, count = struct.unpack_from(">4H", message)
        if (
            number != struct.unpack_from(">H", asked)[0]
            or not flags & RESPONSE
            or flags & (TRUNCATED | CODE)
            or questions != 1
            or message[12 : len(asked)].lower() != asked[12:].lower()
        ):
            return ()
        position = len(asked)
        found = []
        for _ in range(min(count, ANSWERS_LIMIT)):
            position = _behind_name(message, position)
            kind, klass, _ttl, length = struct.unpack_from(">2HIH", message, position)
            position += 10
            data = message[position : position + length]
            if len(data) != length:
                raise ValueError("a record is cut")
            if (kind, klass, length) == (TYPE_A, CLASS_IN, 4):
                found.append(".".join(map(str, data)))
            position += length
    except (struct.error, IndexError):
        raise ValueError("a reply is cut") from None
    return tuple(dict.fromkeys(found))


def _behind_name(message: bytes, position: int) -> int:
    """Where a name ends; the names themselves do not matter, since records are only of what was asked."""
    while True:
        length = message[position]
        if length & POINTER == POINTER:
            return position + 2
        if length == 0:
            return position + 1
        if length & POINTER:
            raise ValueError("an unknown kind of label")
        position += 1 + length


def query(system: "System", server: "Endpoint", names: Sequence[str]) -> Iterator[Tuple[str, ...]]:
    """The IPv4 addresses of each name in turn, according to one server; none where it knows none.

    Whoever has what he wants stops asking.

    Raises:
        OSError: it does not answer.
        ValueError: what it answers makes no sense.
    """
    import os

    deadline = system.clock.monotonic() + system.clock.stretched(SECONDS)
    with system.dialer.connect(server, deadline) as connection:
        for name in names:
            asked = question(name, int.from_bytes(os.urandom(2), "big"))
            connection.sendall(struct.pack(">H", len(asked)) + asked)
            length = struct.unpack(">H", _exactly(connection, 2))[0]
            yield answers(_exactly(connection, length), asked)


def _exactly(connection: "DeadlineSocket", count: int) -> bytes:
    pieces = b""
    while len(pieces) < count:
        piece = connection.recv(count - len(pieces))
        if not piece:
            raise ValueError("the reply ends early")
        pieces += piece
    return pieces
