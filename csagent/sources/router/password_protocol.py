"""One question to one password server, over a plain socket, and every kind of answer that VRs have given.

requests and http.client cannot read a reply without a header and then put the password into the text of
their exception (field/dependencies#5). The shapes are those of field/cloudstack#4.1 to #4.3.
"""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Optional, Tuple

from csagent import validation
from csagent.errors import Absent, Malformed, ProbeError, Refused
from csagent.model import Candidate, Endpoint, Secret
from csagent.sources.router.connect import connect, problem, status_problem
from csagent.system.seams import System

SEND = b"send_my_password"
SAVED = b"saved_password"
NONSENSE = b"nothing_in_particular"  # a password server says bad_request, nothing, or what it says to anybody
ASK_SECONDS = 5.0
HEADER_LIMIT = 16 * 1024
BODY_LIMIT = validation.PASSWORD_LIMIT + 2  # and the CR LF that may follow it
SIGNATURE = b"cloudstack password server"

_STATUS = re.compile(rb"HTTP/[0-9]\.[0-9] ([0-9]{3})(?:[ \t]|\Z)")
_BLANK_LINE = re.compile(rb"\r{0,2}\n\r{0,2}\n")  # the script of December 2014 ends its lines in CR CR LF
_NICETIES = {"connection reset": "connection reset before it answered"}


Network = Tuple[Optional[str], Optional[str]]
"""(interface, source address): on whose network somebody is."""


class PasswordServer(NamedTuple):
    """A password server that may be asked: a candidate in its second role.

    `named`: the lease of that NIC, or the operator, names the address; `dhcp`: the lease, as its DHCP server.
    """

    endpoint: Endpoint
    network: Network
    why: str
    default: bool = False
    named: bool = False
    dhcp: bool = False

    @classmethod
    def of(cls, candidate: Candidate, address: Optional[str] = None) -> PasswordServer:
        """The password server of a candidate; `address` where the candidate's is a name."""
        endpoint = candidate.password_endpoint(address)
        dhcp = candidate.named and candidate.kind == "server-identifier"
        return cls(endpoint, network_of(candidate), candidate.why, candidate.default, candidate.named, dhcp)

    @property
    def place(self) -> str:
        """How reports call it."""
        return f"password server {self.endpoint.address}:{self.endpoint.port}"


def network_of(candidate: Candidate) -> Network:
    """What two candidates of one network have in common."""
    return (candidate.interface, None) if candidate.interface else (None, candidate.source)


class PasswordReply(NamedTuple):
    """What one password server said.

    `state` is offered, none or unknown; `answered` says whether anything came back at all, `confirmed`
    whether it is what an acknowledged server says, `signed` whether the header names CloudStack's, `bare`
    whether it is as the shell scripts of releases before 4.5.1 answer.
    """

    state: str
    outcome: str
    reason: str
    value: Optional[Secret] = None
    signed: bool = False
    answered: bool = True
    confirmed: bool = False
    seconds: Optional[float] = None
    bare: bool = False


def failure(error: ProbeError, *, answered: bool = False) -> PasswordReply:
    """A reply that tells nothing about a password."""
    return PasswordReply("unknown", error.outcome, str(error), answered=answered)


def ask(system: System, endpoint: Endpoint, deadline: float, request: bytes = SEND) -> PasswordReply:
    """Send one request and read the answer to its end. Nothing is raised, nothing of the answer is in a text.

    Args:
        system: its dialer and clock are used.
        endpoint: the password server; it knows us by the source address.
        deadline: on the monotonic clock; `ASK_SECONDS` is the limit of one question in any case.
        request: `send_my_password`, or `saved_password`, which acknowledges.
    """
    clock = system.clock
    began = clock.monotonic()
    try:
        raw, closed = _exchange(
            system, endpoint, min(deadline, began + clock.stretched(ASK_SECONDS)), request
        )
        reply = parse(raw, closed=closed)
    except ProbeError as error:
        reply = failure(error, answered=isinstance(error, Malformed))
    return reply._replace(seconds=round(clock.monotonic() - began, 3))


def _exchange(system: System, endpoint: Endpoint, deadline: float, request: bytes) -> Tuple[bytes, bool]:
    """(the bytes that came, whether the peer ended them).

    Raises:
        ProbeError: no connection, a time-out, or a reset.
    """
    host = f"{endpoint.address}:{endpoint.port}".encode("ascii", "replace")
    # The underscore is CloudStack's (field/cloudstack#4.1); socat's script matches the name with its case.
    message = b"GET / HTTP/1.0\r\nHost: %s\r\nDomU_Request: %s\r\nConnection: close\r\n\r\n" % (host, request)
    pieces: List[bytes] = []
    with connect(system, endpoint, deadline) as connection:
        try:
            connection.sendall(message)
            while True:
                piece = connection.recv(4096)
                if not piece:
                    return b"".join(pieces), True
                pieces.append(piece)
                if _enough(b"".join(pieces)):
                    return b"".join(pieces), False
        except ConnectionError as error:
            if pieces:
                raise Malformed("the connection was reset in the middle of the reply") from None
            reason = problem(error)
            raise type(reason)(_NICETIES.get(str(reason), str(reason))) from None
        except OSError as error:
            raise problem(error) from None


def _enough(raw: bytes) -> bool:
    """Whether more bytes cannot change the verdict: over a limit, or Content-Length is reached."""
    head, body = split(raw)
    if head is None:
        return len(raw) > HEADER_LIMIT
    if len(body) > BODY_LIMIT:
        return True
    try:
        length = _length(_fields(head))
    except Malformed:
        return True
    return length is not None and len(body) >= length


def split(raw: bytes) -> Tuple[Optional[bytes], bytes]:
    """(header, body); the header is b"" where there is none, None where its end has not come yet."""
    if not raw.startswith(b"HTTP/"[: len(raw)]):
        return b"", raw
    end = _BLANK_LINE.search(raw)
    if end is None or not raw.startswith(b"HTTP/"):
        return None, b""
    return raw[: end.start()], raw[end.end() :]


def _fields(head: bytes) -> Dict[bytes, List[bytes]]:
    fields: Dict[bytes, List[bytes]] = {}
    for line in head.split(b"\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            fields.setdefault(name.strip().lower(), []).append(value.strip())
    return fields


def _length(fields: Dict[bytes, List[bytes]]) -> Optional[int]:
    values = set(fields.get(b"content-length", ()))
    if not values:
        return None
    value = values.pop()
    if values or not value.isdigit() or len(value) > 15:
        raise Malformed("Content-Length is not one number")
    return int(value)


def parse(raw: bytes, *, closed: bool = True) -> PasswordReply:
    """Every byte that came until the close, as a reply.

    Args:
        raw: the bytes, at most a little more than the limits.
        closed: whether the peer ended them. An endless reply is cut, and past a limit.

    Raises:
        ProbeError: it is no answer to the question; a reply that holds no password is returned.
    """
    if not raw:
        # socat's script held one lock for all and just closed on the second client (field/cloudstack#4.3).
        raise Refused("connection closed without a reply")
    head, body = split(raw)
    if head is None:
        if not closed or len(raw) > HEADER_LIMIT:
            raise Malformed(f"more than {HEADER_LIMIT} bytes of header")
        raise Malformed("the header was cut short")
    if len(head) > HEADER_LIMIT:
        raise Malformed(f"more than {HEADER_LIMIT} bytes of header")
    signed, bare = False, not head
    if head:
        status = _STATUS.match(head.split(b"\n", 1)[0].rstrip(b"\r"))
        if status is None:
            raise Malformed("not an HTTP status line")
        fields = _fields(head)
        signed = any(SIGNATURE in value.lower() for value in fields.get(b"server", ()))
        bare = set(fields) == {b"documenttype"}
        if status.group(1) != b"200":
            return failure(status_problem(int(status.group(1))), answered=True)._replace(signed=signed)
        _check_framing(fields, body)
    return _judge(body, signed)._replace(bare=bare)


def _check_framing(fields: Dict[bytes, List[bytes]], body: bytes) -> None:
    if b"transfer-encoding" in fields:
        raise Malformed("a transfer encoding, which HTTP/1.0 does not have")
    if any(value.lower() not in (b"identity", b"") for value in fields.get(b"content-encoding", ())):
        raise Malformed("a compressed reply, which was not asked for")
    length = _length(fields)
    if length is not None and len(body) != length and len(body) <= BODY_LIMIT:
        raise Malformed("shorter or longer than its Content-Length says")


def _judge(body: bytes, signed: bool) -> PasswordReply:
    if len(body) > BODY_LIMIT:
        kind = "HTML" if validation.is_html(body) else f"more than {validation.PASSWORD_LIMIT} bytes"
        raise Malformed(f"{kind} where a password should be")
    word = body.rstrip(b"\r\n")
    if word.startswith(b"HTTP/1.") and word.endswith(b"\n" + validation.BAD_REQUEST):
        # Python 2 servers write the status line of their 400 into the body (field/cloudstack#4.2).
        body = word = validation.BAD_REQUEST
    try:
        value = validation.password(body, unsigned=not signed)
    except Absent as error:
        # Early Python 3 servers answer with an empty body, also to the acknowledgement (#9699).
        confirmed = word != validation.BAD_REQUEST
        return PasswordReply("none", "ok", str(error), signed=signed, confirmed=confirmed)
    return PasswordReply("offered", "ok", "a password is offered", value, signed)
