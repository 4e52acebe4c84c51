"""The password protocol: every shape of reply, every way to go wrong, who is believed and who is told."""

from __future__ import annotations

import gc
import logging
import socket
import subprocess
import sys
import threading
import time
import traceback
from typing import Any, Callable, Dict, List, Optional, Set, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csagent.errors import Malformed, ProbeError
from csagent.lab.cloud import Cloud
from csagent.lab.router import SHAPES, LabRouter
from csagent.model import Candidate, Endpoint, Platform, Secret
from csagent.sources.router import client, passwords
from csagent.sources.router import trust as trust_rule
from csagent.sources.router.password_protocol import PasswordReply, PasswordServer, ask, failure, parse
from csagent.system.seams import Clock, Dialer, System
from csagent.system.sockets import DeadlineSocket

MARKER = "marker-Pw1EXAMPLE"
SECRET = MARKER.encode()
UUID = Cloud().instance_id
OTHER = "5f8e8c2e-7a4b-4a52-9d0c-0f6b3f5c1eff"
HEAD = (
    b"HTTP/1.0 200 OK\r\nServer: CloudStack Password Server 4.x\r\nContent-type: text/plain\r\n"
    b"Server: CloudStack Password Server\r\n\r\n"
)
PLAIN = b"HTTP/1.0 200 OK\r\n\r\n"
PLATFORM = Platform()
Make = Callable[..., Candidate]
Soon = Callable[[float], float]
HOUR = 3600.0

pytestmark = pytest.mark.usefixtures("unhurried")


def ask_peer(
    live: System, peer: Any, seconds: float = HOUR, request: bytes = b"send_my_password"
) -> PasswordReply:
    return ask(live, Endpoint(peer.address, peer.port), time.monotonic() + seconds, request)


# --- one reply --------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", list(SHAPES))
def test_every_historical_shape_is_understood(live: System, servers: Any, shape: str) -> None:
    """Offered, acknowledged, nothing left: in each shape that VRs have had (field/cloudstack#4.1 to #4.3)."""
    lab = servers.lab(Cloud(password=MARKER), shape=shape)
    peer = type("P", (), {"address": lab.address, "port": lab.password_port})
    first = ask_peer(live, peer)
    assert (first.state, first.value) == ("offered", Secret(SECRET))
    assert first.signed is (shape in ("python3", "early-python3", "python2"))
    assert ask_peer(live, peer, request=b"saved_password").confirmed
    assert ask_peer(live, peer).state == "none"
    odd = ask_peer(live, peer, request=b"something else")
    assert (odd.state, odd.value) == ("none", None)
    assert [request.what for request in lab.requests] == [
        "send_my_password",
        "saved_password",
        "send_my_password",
        "another request",
    ]


def test_the_request_is_what_old_servers_need(live: System, servers: Any) -> None:
    """HTTP/1.0, the header with its underscore and its case, and no second request on the connection."""
    peer = servers.says(HEAD + b"saved_password")
    ask_peer(live, peer)
    assert peer.requests == [
        b"GET / HTTP/1.0\r\nHost: 127.0.0.1:%d\r\nDomU_Request: send_my_password\r\nConnection: close\r\n\r\n"
        % peer.port
    ]


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (HEAD + SECRET, SECRET),
        (HEAD + SECRET + b"\n", SECRET),
        (HEAD + SECRET + b"\r\n", SECRET),
        (HEAD + b" two  words ", b" two  words "),
        (HEAD + b"-n a=b:c%d#e'\"\\$", b"-n a=b:c%d#e'\"\\$"),
        (HEAD + "Zürich€".encode(), "Zürich€".encode()),
        (HEAD + b"x" * 256 + b"\r\n", b"x" * 256),
        (PLAIN + SECRET, SECRET),
        (b"HTTP/1.0 200 OK\nDocumentType: text/plain\n\n" + SECRET + b"\n", SECRET),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n" + SECRET, SECRET),
        (SECRET + b"\n", SECRET),
        (SECRET, SECRET),
        (HEAD + b"<html>EXAMPLE", b"<html>EXAMPLE"),
        (HEAD + b"HTTP/1.1 EXAMPLE", b"HTTP/1.1 EXAMPLE"),
        (HEAD + b"EXAM\tPLE", b"EXAM\tPLE"),
        (b"HTTP/1.0 200 OK\r\r\nDocumentType: text/plain\r\r\n\r\r\n" + SECRET + b"\n", SECRET),
    ],
)
def test_passwords_arrive_byte_by_byte(raw: bytes, value: bytes) -> None:
    """At most one line end is removed, nothing else (field/cloudstack#edge-32 to #edge-34)."""
    reply = parse(raw)
    assert reply.value is not None
    assert (reply.state, reply.value.reveal()) == ("offered", value)


@pytest.mark.parametrize(
    "body", [b"saved_password", b"saved_password\n", b"", b"\n", b"bad_request", b"bad_request\n"]
)
@pytest.mark.parametrize("head", [HEAD, PLAIN, b"HTTP/1.0 200 OK\nDocumentType: text/plain\n\n"])
def test_words_of_the_protocol_are_never_passwords(head: bytes, body: bytes) -> None:
    """saved_password, nothing and bad_request mean that nothing is waiting (field/cloudstack#edge-31)."""
    reply = parse(head + body)
    assert (reply.state, reply.value, reply.outcome) == ("none", None, "ok")
    assert reply.confirmed is not body.startswith(b"bad")


def test_a_polluted_bad_request_is_no_password() -> None:
    """Python 2 servers write the status line of their 400 into the body (field/cloudstack#4.2)."""
    polluted = b"HTTP/1.0 400 Bad Request\r\nServer: CloudStack Password Server 4.x\r\n\r\nbad_request"
    reply = parse(HEAD + polluted)
    assert (reply.state, reply.value, reply.confirmed) == ("none", None, False)
    with pytest.raises(ProbeError) as caught:
        parse(HEAD + polluted.replace(b"bad_request", SECRET))
    assert "marker" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "without a reply"),
        (b"HTTP/1.0 200 OK\r\nServer: x", "header was cut short"),
        (b"HTT", "header was cut short"),
        (b"HTTP/1.0 200 OK\r\n" + b"A: marker\r\n" * 3000, "more than 16384 bytes of header"),
        (b"HTTP/1.0 two hundred\r\n\r\n" + SECRET, "status line"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n" + SECRET, "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + SECRET, "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + SECRET, "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n" + SECRET, "Content-Length"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nmarker\r\n0\r\n\r\n",
            "transfer encoding",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nmarker", "compressed"),
        (PLAIN + b"<html><body>marker</body></html>", "HTML"),
        (PLAIN + b"HTTP/marker", "status line"),
        (PLAIN + b"mark\ter", "tab"),
        (HEAD + b"saved_password ", "all but a word"),
        (HEAD + b"<html>" + b"marker" * 100, "HTML"),
        (HEAD + b"marker\nmarker", "several lines"),
        (HEAD + b"marker\n\n", "several lines"),
        (HEAD + b"mark\0er", "NUL"),
        (HEAD + b"mark\x1ber", "control characters"),
        (HEAD + b"m" * 257, "256 bytes"),
        (HEAD + b"m" * 300, "256 bytes"),
        (b"marker" * 100, "256 bytes"),
    ],
)
def test_what_cannot_be_a_password_is_a_reason(raw: bytes, reason: str) -> None:
    """Each wrong body or header is refused in one line that holds nothing of it."""
    with pytest.raises(ProbeError, match=reason) as caught:
        parse(raw)
    assert "marker" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (401, "refused"),
        (403, "refused"),
        (404, "absent"),
        (500, "failed"),
        (302, "malformed"),
        (204, "malformed"),
    ],
)
def test_another_status_is_not_a_password(status: int, outcome: str) -> None:
    """Only 200 carries a password."""
    reply = parse(b"HTTP/1.0 %d X\r\n\r\n" % status + SECRET)
    assert (reply.state, reply.outcome, reply.value, reply.answered) == ("unknown", outcome, None, True)


CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def bytewise(connection: socket.socket, data: bytes, head: bytes = b"") -> None:
    """Send for as long as the other side takes it, each byte in a packet of its own."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(head)
    while True:
        for byte in data:
            connection.sendall(bytes((byte,)))


BEHAVIOURS: Dict[str, Tuple[Callable[[Any, socket.socket], Any], str]] = {
    "silent": (lambda s, c: s.silent(c), "timeout"),
    "slow header": (lambda s, c: s.drip(c, HEAD[:-2] + b"A: marker\r\n" * 500), "timeout"),
    "slow body": (lambda s, c: (c.sendall(HEAD), s.drip(c, SECRET * 99)), "timeout"),
    "endless header": (lambda s, c: s.flood(c, b"A: marker\r\n" * 100, b"HTTP/1.0 200 OK\r\n"), "malformed"),
    "endless body": (lambda s, c: s.flood(c, b"marker" * 1000, HEAD), "malformed"),
    "endless header-less": (lambda s, c: s.flood(c, b"marker" * 1000), "malformed"),
    "endless chunks of a byte": (lambda s, c: s.flood(c, b"1\r\nx\r\n", HEAD[:-2] + CHUNKED), "malformed"),
    "endless header, a byte at a time": (lambda s, c: bytewise(c, b"A: marker\r\n", HEAD[:-2]), "malformed"),
    "endless body, a byte at a time": (lambda s, c: bytewise(c, b"marker", HEAD), "malformed"),
    "endless header-less, a byte at a time": (lambda s, c: bytewise(c, b"marker"), "malformed"),
    "slow chunks of a byte": (
        lambda s, c: (c.sendall(HEAD[:-2] + CHUNKED), s.drip(c, b"1\r\nx\r\n" * 99)),
        "timeout",
    ),
    "1xx flood": (lambda s, c: s.flood(c, b"HTTP/1.1 100 Continue\r\n\r\n"), "malformed"),
    "reset": (lambda s, c: s.reset(c), "refused"),
    "reset in the header": (lambda s, c: (c.sendall(HEAD[:9]), s.reset(c)), "malformed"),
    "reset in the body": (lambda s, c: (c.sendall(HEAD + SECRET), s.reset(c)), "malformed"),
    "reset, no header": (lambda s, c: (c.sendall(SECRET), s.reset(c)), "malformed"),
    "closed at once": (lambda s, c: c.shutdown(socket.SHUT_RDWR), "refused"),
}


@pytest.mark.parametrize("name", list(BEHAVIOURS))
def test_bad_servers_cost_a_deadline_and_give_no_password(live: System, servers: Any, name: str) -> None:
    """No peer holds the question past its deadline, and a cut reply is never a password."""
    behaviour, outcome = BEHAVIOURS[name]
    peer = servers.peer(lambda connection, _: behaviour(servers, connection))
    began = time.monotonic()
    reply = ask_peer(live, peer, 1.0 if outcome == "timeout" else HOUR)
    assert time.monotonic() - began < 300
    assert (reply.state, reply.outcome, reply.value) == ("unknown", outcome, None)
    assert "marker" not in repr(reply)


def test_a_length_ends_the_reply_of_a_server_that_does_not_close(live: System, servers: Any) -> None:
    """With Content-Length nobody has to wait for the close."""

    def behaviour(connection: socket.socket, _request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n" + SECRET)
        servers.silent(connection)

    began = time.monotonic()
    reply = ask_peer(live, servers.peer(behaviour))
    assert reply.value == Secret(SECRET)
    assert time.monotonic() - began < 300


def test_nobody_listening(live: System, servers: Any) -> None:
    """A closed port is refused and not an answer (field/cloudstack#edge-2)."""
    reply = ask(live, Endpoint("127.0.0.1", servers.free_port()), time.monotonic() + HOUR)
    assert (reply.state, reply.outcome, reply.answered) == ("unknown", "refused", False)


@given(
    st.binary(max_size=600), st.sampled_from((b"", HEAD, PLAIN, HEAD[:-2], b"HTTP/1.0 200 OK\n\n", b"HTTP/"))
)
def test_any_reply_is_judged(body: bytes, head: bytes) -> None:
    """Whatever the bytes: a password that obeys the rules, nothing, or a reason without a byte of them."""
    try:
        reply = parse(head + body)
    except ProbeError as error:
        reply = failure(error)
    assert reply.reason.isprintable()
    if reply.value is not None:
        value = reply.value.reveal()
        assert 0 < len(value) <= 256
        tab = b"\t" if reply.signed else b""
        assert not any((byte < 32 and byte not in tab) or byte == 127 for byte in value)
        assert value not in (b"saved_password", b"bad_request")
        assert head == HEAD or not value.startswith(b"HTTP/")
        assert (head + body).rstrip(b"\r\n").endswith(value.rstrip(b"\r\n"))
    else:
        assert reply.state in ("none", "unknown")


# --- whom to believe --------------------------------------------------------------------------------

ETH0, ETH1 = ("eth0", None), ("eth1", None)
OFFER = PasswordReply("offered", "ok", "a password is offered", Secret(SECRET), signed=True)
NEWER = PasswordReply("offered", "ok", "a password is offered", Secret(b"marker-Pw2EXAMPLE"), signed=True)
NONE = PasswordReply("none", "ok", "saved_password: no new password is waiting", signed=True)
REFUSED = PasswordReply("unknown", "refused", "connection refused", answered=False)
SOURCE = "10.1.1.9"
BARE = OFFER._replace(signed=False, bare=True)
PLAIN_OFFER = OFFER._replace(signed=False)
NOBODY = trust_rule.Trust()


def trust(*ours: int, others: Tuple[int, ...] = (), answering: bool = True) -> trust_rule.Trust:
    """eth0, where these addresses gave this instance's id and those another's."""
    return trust_rule.Trust(
        frozenset((f"10.1.1.{number}", SOURCE) for number in ours),
        frozenset((f"10.1.1.{number}", SOURCE) for number in others),
        frozenset((ETH0,) if ours else ()),
        frozenset((ETH0,) if answering else ()),
        ETH0,
    )


TRUST = trust(1)


def server(
    number: int,
    nic: Tuple[Optional[str], Optional[str]] = ETH0,
    default: bool = True,
    named: bool = True,
    dhcp: bool = False,
) -> PasswordServer:
    endpoint = Endpoint(f"10.1.1.{number}", 8080, SOURCE)
    return PasswordServer(endpoint, nic, "a test", default, named, dhcp)


def test_the_same_password_of_two_servers_names_both() -> None:
    """Every server that offered it is to be told later (field/cloudstack#edge-39)."""
    offer = trust_rule.offers([(server(1), OFFER), (server(2), REFUSED), (server(3), OFFER)], TRUST)
    assert [endpoint.address for endpoint in offer.endpoints] == ["10.1.1.1", "10.1.1.3"]
    assert (offer.state, offer.place) == ("offered", "password server 10.1.1.1:8080")


def test_the_better_ranked_of_two_passwords_wins() -> None:
    """Two different passwords: the rank decides, the other server is named and is not to be told."""
    answers = [(server(1), NEWER), (server(2), OFFER)]
    offer = trust_rule.offers(answers, TRUST)
    assert offer.value == NEWER.value
    assert [endpoint.address for endpoint in offer.endpoints] == ["10.1.1.1"]
    assert "10.1.1.2:8080 offered a different one" in offer.reason
    assert "different password" in trust_rule.places(answers, TRUST)[1].detail


def test_an_offer_outweighs_a_server_with_nothing() -> None:
    """The backup of a redundant pair has nothing; the primary ranks lower and has it.

    Both gave the id, or neither did since both their ports 80 are down.
    """
    for seen in (trust(1, 2), trust(answering=False)):
        assert trust_rule.offers([(server(1), NONE), (server(2), OFFER)], seen).state == "offered"
    assert trust_rule.offers([(server(1), NONE), (server(2), REFUSED)], TRUST).state == "none"
    unknown = trust_rule.offers([(server(1), REFUSED)], TRUST)
    assert (unknown.state, unknown.endpoints) == ("unknown", ())
    assert "10.1.1.1:8080: connection refused" in unknown.reason
    assert trust_rule.offers([], TRUST).state == "unknown"


def test_nothing_from_the_believed_router_outweighs_an_offer_of_somebody_else() -> None:
    """Who gave the id and has no password is taken at its word, whoever else signs one."""
    answers = [(server(1), NONE), (server(2), OFFER)]
    assert trust_rule.offers(answers, TRUST).state == "none"
    place = trust_rule.places(answers, TRUST)[1]
    assert (place.outcome, place.detail) == (
        "foreign",
        "not believed: password server 10.1.1.1:8080 gave the instance id and has nothing",
    )
    assert trust_rule.offers([(server(1), REFUSED), (server(2), OFFER)], TRUST).state == "offered"


# The rule of SECURITY.md, row by row: who answers, how, what is seen on port 80, and whether it is believed.
RULE: Dict[str, Tuple[PasswordServer, PasswordReply, trust_rule.Trust, bool]] = {
    "a: it gave the id": (server(1), OFFER, TRUST, True),
    "a: it gave the id, unsigned": (server(1), PLAIN_OFFER, TRUST, True),
    "a: a name led to it, and it gave the id": (server(1, named=False), BARE, TRUST, True),
    "b: the lease names it, signed, the router of its NIC is believed": (server(2), OFFER, TRUST, True),
    "b: the same, nobody answers on :80": (server(2), OFFER, trust(answering=False), True),
    "c: the DHCP server, without a header, nobody on :80": (
        server(2, dhcp=True),
        BARE,
        trust(answering=False),
        True,
    ),
    "a name led to it, signed, beside a believed router": (server(2, named=False), OFFER, TRUST, False),
    "a name led to it, signed, nobody on :80": (
        server(2, named=False),
        OFFER,
        trust(answering=False),
        False,
    ),
    "unsigned beside a believed router": (server(2), BARE, TRUST, False),
    "unsigned, the DHCP server, beside a believed router": (server(2, dhcp=True), BARE, TRUST, False),
    "unsigned, the gateway, nobody on :80": (server(2), BARE, trust(answering=False), False),
    "a page of the DHCP server, nobody on :80": (
        server(2, dhcp=True),
        PLAIN_OFFER,
        trust(answering=False),
        False,
    ),
    "signed, somebody on :80 who is not believed": (server(2), OFFER, trust(), False),
    "without a header, somebody on :80 who is not believed": (server(2, dhcp=True), BARE, trust(), False),
    "it gave another VM's id": (server(2), OFFER, trust(1, others=(2,)), False),
    "the lease's word on a second NIC, while the first one's router is believed": (
        server(2, ETH1),
        OFFER,
        TRUST,
        False,
    ),
    "the lease's word on a second NIC, while no router is believed anywhere": (
        server(2, ETH1),
        OFFER,
        trust(answering=False),
        False,
    ),
    "the same on the only NIC, which has no default route": (
        server(2, ETH1, default=False),
        OFFER,
        trust(answering=False)._replace(main=ETH1),
        True,
    ),
    "the DHCP server, without a header, nobody on :80, on what DMI says is no CloudStack": (
        server(2, dhcp=True),
        BARE,
        trust(answering=False)._replace(elsewhere=True),
        False,
    ),
    "the address that gave the id, asked on another NIC": (
        server(1, ETH1)._replace(endpoint=Endpoint("10.1.1.1", 8080, "10.9.9.9"), named=False),
        OFFER,
        TRUST,
        False,
    ),
}


@pytest.mark.parametrize("case", RULE)
def test_whose_password_is_believed(case: str) -> None:
    """Evidence belongs to an address; what is not believed is a place with a reason."""
    one, reply, seen, believed = RULE[case]
    assert (trust_rule.doubt(one, reply, seen) is None) is believed
    assert trust_rule.offers([(one, reply)], seen).state == ("offered" if believed else "unknown")
    (place,) = trust_rule.places([(one, reply)], seen)
    assert place.outcome == ("ok" if believed else "foreign")
    assert believed or place.detail.startswith("not believed: ")


@given(
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sets(st.integers(1, 3)),
    st.sets(st.integers(1, 3)),
    st.booleans(),
)
def test_nobody_is_believed_for_a_neighbours_sake(
    named: bool,
    dhcp: bool,
    signed: bool,
    bare: bool,
    ours: Set[int],
    others: Set[int],
    answering: bool,
) -> None:
    """Whatever is seen: an address that no lease names is believed only for its own word."""
    seen = trust(*ours - others, others=tuple(others), answering=answering)
    reply = OFFER._replace(signed=signed, bare=bare)
    believed = trust_rule.doubt(server(1, named=named, dhcp=dhcp and named), reply, seen) is None
    itself = 1 in ours - others
    if believed:
        assert itself or (named and 1 not in others and (signed or (bare and dhcp and not answering)))


def test_groups_put_the_default_nic_first_and_each_server_once() -> None:
    """Unique servers; without a default NIC all are one group."""
    other, twice = server(3, ETH1, default=False), server(1, ETH1, default=False)
    assert passwords.groups([other, server(1), twice, server(2)]) == ((server(1), server(2)), (other,))
    assert passwords.groups([other, twice]) == ((other, twice), ())
    elsewhere = twice._replace(endpoint=Endpoint("10.1.1.1", 8080, "10.9.9.9"))
    assert passwords.groups([server(1), elsewhere]) == ((server(1),), (elsewhere,))


# --- with real routers ------------------------------------------------------------------------------


def look(live: System, given: List[Candidate], platform: Platform = PLATFORM) -> client.RouterAnswer:
    return client.look(client.Question(live, given, platform, time.monotonic() + HOUR))


def test_redundant_routers(live: System, servers: Any, candidate: Make) -> None:
    """Metadata on the router's own address, password only on the gateway (#13720), signed."""
    own = servers.lab(Cloud(), "127.0.0.2")
    gateway = servers.lab(Cloud(password=MARKER), "127.0.0.3", shape="python2")
    dead = servers.free_port("127.0.0.2")
    answer = look(
        live,
        [
            candidate(own, password_port=dead, interface="eth0", default=True),
            candidate(gateway, port=dead, interface="eth0", default=True, kind="gateway"),
        ],
    )
    offer = answer.readings[0].password
    assert offer.value == Secret(SECRET)
    assert offer.endpoints == (Endpoint("127.0.0.3", gateway.password_port, None, "eth0"),)
    assert answer.readings[0].place == f"router 127.0.0.2:{own.port}"


def test_a_gateways_web_page_on_8080_is_no_password(live: System, servers: Any, candidate: Make) -> None:
    """The router has none; its gateway answers anything on both ports (field/cloudstack#edge-3): none."""
    ours = servers.lab(Cloud(password=None), "127.0.0.2")
    page = servers.says(b"HTTP/1.0 200 OK\r\n\r\nwelcome-EXAMPLE", "127.0.0.3")
    gateway = candidate(page, password_port=page.port, interface="eth0", default=True, kind="gateway")
    answer = look(live, [candidate(ours, interface="eth0", default=True), gateway])
    assert answer.readings[0].password.state == "none"
    assert any(place.outcome == "malformed" and "says the same" in place.detail for place in answer.places)


def test_one_of_a_redundant_pair_is_down(live: System, servers: Any, candidate: Make) -> None:
    """Nobody at the server identifier on either port; the gateway's metadata are not there yet."""
    gateway = servers.lab(Cloud(password=MARKER), "127.0.0.3")
    dead = servers.free_port("127.0.0.2")
    given = [
        candidate(None, address="127.0.0.2", interface="eth0", default=True),
        candidate(gateway, port=dead, interface="eth0", default=True, kind="gateway"),
    ]
    offer = look(live, given).readings[0].password
    assert (offer.value, offer.place) == (
        Secret(SECRET),
        f"password server 127.0.0.3:{gateway.password_port}",
    )


@pytest.mark.parametrize("shape", ["headerless", "socat", "python3"])
def test_the_dhcp_server_gives_it_while_its_metadata_are_down(
    live: System, servers: Any, candidate: Make, shape: str
) -> None:
    """As releases before 4.5.1 answer, too, where nobody at all is on port 80."""
    lab = servers.lab(Cloud(password=MARKER), shape=shape)
    (reading,) = look(live, [candidate(lab, port=servers.free_port(), interface="eth0")]).readings
    assert reading.password.state == "offered"


def test_a_page_of_the_dhcp_server_is_no_password(live: System, servers: Any, candidate: Make) -> None:
    """Somebody's own machine that serves DHCP and a line of text on 8080."""
    page = servers.says(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}-EXAMPLE")
    dead = servers.free_port()
    answer = look(live, [candidate(page, port=dead, password_port=page.port, interface="eth0")])
    assert answer.readings == ()
    assert answer.places[-1].outcome == "malformed"


def polite(connection: socket.socket, request: bytes) -> None:
    """An unsigned server that knows the protocol."""
    connection.sendall(PLAIN + (SECRET if b"send_my_password" in request else b"bad_request"))


@pytest.mark.parametrize("said", ["OK", "pong", "Bad Request", "bad request", "saved password"])
@pytest.mark.parametrize("header", ["Server: nginx", "Content-Type: text/plain", "DocumentType: text/plain"])
def test_what_the_router_says_to_anybody_is_no_password(
    live: System, servers: Any, candidate: Make, said: str, header: str
) -> None:
    """Something else listens on the believed router's 8080, and says one line whatever it is asked."""
    lab = servers.lab(Cloud())
    page = servers.says(f"HTTP/1.0 200 OK\r\n{header}\r\n\r\n{said}".encode())
    ours = candidate(lab, password_port=page.port, interface="eth0", default=True)
    answer = look(live, [ours])
    assert answer.readings[0].password.state == "unknown"
    assert any("says the same" in refusal.reason for refusal in answer.readings[0].refusals)


def test_an_unsigned_router_that_knows_the_protocol_gives_its_password(
    live: System, servers: Any, candidate: Make
) -> None:
    """CloudStack's signature is asked of nobody whose address gave the instance id."""
    lab, peer = servers.lab(Cloud()), servers.peer(polite)
    ours = candidate(lab, password_port=peer.port, interface="eth0", default=True)
    assert look(live, [ours]).readings[0].password.value == Secret(SECRET)


def test_who_said_the_same_is_not_believed_for_saying_nothing_later(
    live: System, servers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last look of a pass may end between the two questions."""
    monkeypatch.setattr("csagent.sources.router.password_protocol.ASK_SECONDS", 5.0)

    def behaviour(connection: socket.socket, request: bytes) -> None:
        if len(peer.requests) > 3:
            servers.silent(connection)
        connection.sendall(PLAIN + b"OK")

    peer = servers.peer(behaviour)
    asked = PasswordServer(Endpoint(peer.address, peer.port), ETH0, "a test")
    poller = passwords.PasswordPoller(live, time.monotonic() + HOUR)
    for _ in range(2):
        poller.ask([asked])
        poller.wait_for_all([asked])
        ((_, reply),) = poller.answers([asked])
        assert (reply.state, reply.reason) == ("unknown", passwords.SAME)
    assert len(peer.requests) == 4


def test_a_neighbour_behind_a_name_is_no_password(live: System, servers: Any, candidate: Make) -> None:
    """The router is up and has nothing; who a name leads to signs a password, and its port 80 is closed."""
    ours = servers.lab(Cloud(password=None), "127.0.0.2")
    neighbour = servers.lab(Cloud(password=MARKER), "127.0.0.3")
    name = candidate(
        neighbour,
        address="data-server.",
        port=servers.free_port("127.0.0.3"),
        kind="data-server",
        interface="eth0",
        default=True,
    )
    answer = client.look(
        client.Question(
            live,
            [candidate(ours, interface="eth0", default=True), name],
            PLATFORM,
            time.monotonic() + HOUR,
            lambda _: ("127.0.0.3",),
        )
    )
    assert answer.readings[0].password.state == "none"


def test_a_neighbour_does_not_stand_in_for_a_password_server_that_is_down(
    servers: Any, candidate: Make
) -> None:
    """The same with nobody on the router's port 8080: it is not known whether a password waits."""
    found = threading.Event()
    neighbour = servers.lab(Cloud(password=MARKER), "127.0.0.3")
    dead = servers.free_port("127.0.0.3")

    class Patient(LabRouter):
        """Gives no id before the name has led to the neighbour."""

        def page(self, path: str, source: str) -> Tuple[int, bytes]:
            found.wait(60)
            return super().page(path, source)

    class Noting(Dialer):
        def connect(self, endpoint: Endpoint, deadline: float) -> DeadlineSocket:
            if endpoint.port == dead:
                found.set()
            return super().connect(endpoint._replace(interface=None), deadline)

    ours = servers.started(Patient(address="127.0.0.2"))
    name = candidate(
        neighbour, address="data-server.", port=dead, kind="data-server", interface="eth0", default=True
    )
    answer = client.look(
        client.Question(
            System(dialer=Noting()),
            [candidate(ours, password_port=servers.free_port(), interface="eth0", default=True), name],
            PLATFORM,
            time.monotonic() + HOUR,
            lambda _: ("127.0.0.3",),
        )
    )
    assert answer.readings[0].password.state == "unknown"
    assert answer.places[-1].outcome == "foreign" and "no lease names" in answer.places[-1].detail


def test_a_rogue_second_nic_is_not_asked(live: System, servers: Any, candidate: Make) -> None:
    """The default NIC's server answered: whoever offers a password on another NIC is not even asked."""
    ours = servers.lab(Cloud(password=None), "127.0.0.2")
    rogue = servers.lab(Cloud(password=MARKER), "127.0.0.3")
    answer = look(
        live,
        [
            candidate(ours, interface="eth0", default=True),
            candidate(rogue, interface="eth1"),
        ],
    )
    assert answer.readings[0].password.state == "none"
    assert not [request for request in rogue.requests if request.server == "password"]
    assert answer.places[-1].outcome == "skipped"


def test_an_unsigned_rogue_is_not_believed_where_it_is_asked(
    live: System, servers: Any, candidate: Make
) -> None:
    """Nobody answers on the default NIC; what is offered unsigned on the other is no password."""
    ours = servers.lab(Cloud(), "127.0.0.2")
    rogue = servers.peer(polite, "127.0.0.3")
    dead = servers.free_port("127.0.0.2")
    answer = look(
        live,
        [
            candidate(ours, password_port=dead, interface="eth0", default=True),
            candidate(rogue, port=dead, password_port=rogue.port, interface="eth1"),
        ],
    )
    assert (answer.readings[0].password.state, answer.readings[0].complete) == ("unknown", False)
    assert answer.places[-1].outcome == "foreign"


def test_another_nic_is_asked_where_the_default_has_no_server(
    live: System, servers: Any, candidate: Make
) -> None:
    """Refused on the default NIC: the VR of the other network, whose metadata is ours, has the password."""
    ours = servers.lab(Cloud(), "127.0.0.2")
    other = servers.lab(Cloud(password=MARKER), "127.0.0.3", shape="headerless")
    answer = look(
        live,
        [
            candidate(ours, password_port=servers.free_port(), interface="eth0", default=True),
            candidate(other, interface="eth1"),
        ],
    )
    assert answer.readings[0].password.value == Secret(SECRET)


def test_dmi_mismatch_spoils_the_password_too(live: System, servers: Any, candidate: Make) -> None:
    """A router with another VM's metadata: no reading, its password server is foreign, nothing is told."""
    lab = servers.lab(Cloud(password=MARKER))
    answer = look(live, [candidate(lab, interface="eth0")], Platform(uuid=OTHER, cloudstack=True))
    assert answer.readings == ()
    assert [place.outcome for place in answer.places] == ["foreign", "foreign"]
    assert lab.acknowledged == []


def test_looking_never_acknowledges(live: System, servers: Any, candidate: Make) -> None:
    """However often it is read, the password stays on the server."""
    lab = servers.lab(Cloud(password=MARKER))
    for _ in range(3):
        assert look(live, [candidate(lab)]).readings[0].password.state == "offered"
    asked = {request.what for request in lab.requests if request.server == "password"}
    assert asked == {"send_my_password"}
    assert lab.acknowledged == []


@pytest.mark.parametrize("shape", list(SHAPES))
def test_all_that_offered_are_told(live: System, servers: Any, shape: str, soon: Soon) -> None:
    """Each server is asked again, then told, once; a second time finds nothing to do."""
    labs = [servers.lab(Cloud(password=MARKER), f"127.0.0.{n}", shape=shape) for n in (2, 3)]
    endpoints = [Endpoint(lab.address, lab.password_port, "127.0.0.9") for lab in labs]
    told = passwords.acknowledge(live, endpoints, Secret(SECRET), soon(HOUR))
    assert [(place.outcome, place.detail) for place in told] == [("ok", "acknowledged")] * 2
    again = passwords.acknowledge(live, endpoints, Secret(SECRET), soon(HOUR))
    assert [(place.outcome, place.detail) for place in again] == [("ok", "already acknowledged")] * 2
    assert [lab.acknowledged for lab in labs] == [["127.0.0.9"], ["127.0.0.9"]]


def test_a_newer_password_is_not_acknowledged(live: System, servers: Any, soon: Soon) -> None:
    """A reset between reading and acknowledging is left on the server (field/cloudstack#edge-40)."""
    lab = servers.lab(Cloud(password=MARKER))
    endpoint = Endpoint(lab.address, lab.password_port)
    lab.change(password="marker-Pw2EXAMPLE")
    (place,) = passwords.acknowledge(live, [endpoint], Secret(SECRET), soon(HOUR))
    assert place.outcome == "changed"
    assert lab.acknowledged == [] and lab.waiting("127.0.0.1") == "marker-Pw2EXAMPLE"
    assert "marker" not in repr(place)


class OneAtATime:
    """socat in a loop, as up to 4.1.1: after each answer nobody listens until the pause is over."""

    def __init__(self, secret: bytes) -> None:
        self.requests: List[bytes] = []
        self.offered: Optional[bytes] = secret
        self.gap = 0.05
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.ends = threading.Event()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        assert self.ready.wait(10)

    def serve(self) -> None:
        while not self.ends.is_set():
            with socket.socket() as listening:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind(("127.0.0.1", self.port))
                listening.listen(1)
                listening.settimeout(0.2)
                self.ready.set()
                try:
                    connection, _ = listening.accept()
                except OSError:
                    continue
            with connection:
                request = connection.recv(4096)
                self.requests.append(b"saved" if b"saved_password" in request else b"send")
                if self.requests[-1] == b"saved":
                    self.offered = None
                connection.sendall(PLAIN + (self.offered or b"saved_password"))
            time.sleep(self.gap)


def test_an_acknowledgement_to_a_server_that_takes_one_at_a_time(live: System, soon: Soon) -> None:
    """It arrives, every time: after the question only the acknowledgement is tried again."""
    for _ in range(8):
        server = OneAtATime(SECRET)
        (place,) = passwords.acknowledge(live, [Endpoint("127.0.0.1", server.port)], Secret(SECRET), soon(20))
        server.ends.set()
        server.thread.join(300)
        assert (place.outcome, server.requests) == ("ok", [b"send", b"saved", b"send"])


def test_the_question_is_asked_anew_when_its_answer_is_old(
    live: System, monkeypatch: pytest.MonkeyPatch, soon: Soon
) -> None:
    """A reset may come while nobody listens: it is not forgotten unseen (field/cloudstack#edge-40)."""
    monkeypatch.setattr(passwords, "CONFIRMED_SECONDS", 0.0)
    server = OneAtATime(SECRET)
    server.gap = 0.5
    asked = passwords.ask

    def reset_after(system: System, endpoint: Endpoint, deadline: float, request: bytes) -> PasswordReply:
        reply = asked(system, endpoint, deadline, request)
        server.offered = b"marker-Pw2EXAMPLE"
        return reply

    monkeypatch.setattr(passwords, "ask", reset_after)
    (place,) = passwords.acknowledge(live, [Endpoint("127.0.0.1", server.port)], Secret(SECRET), soon(20))
    server.ends.set()
    server.thread.join(300)
    assert (place.outcome, server.offered) == ("changed", b"marker-Pw2EXAMPLE")


def test_an_acknowledgement_that_fails_says_so(live: System, servers: Any, soon: Soon) -> None:
    """Refused, silent and not understood are three outcomes, none of them ok, all within the deadline."""

    def forgetful(connection: socket.socket, request: bytes) -> None:
        connection.sendall(HEAD + (b"bad_request" if b"saved_password" in request else SECRET))

    def dying(connection: socket.socket, request: bytes) -> None:
        if b"saved_password" in request:
            servers.reset(connection)
        else:
            connection.sendall(HEAD + SECRET)

    class Skipping(Clock):
        """Its pauses skip an hour, so that there is time for one more attempt and no other."""

        skipped = 0.0

        def monotonic(self) -> float:
            return super().monotonic() + self.skipped

        def sleep(self, seconds: float) -> None:
            self.skipped += HOUR

    peers = [servers.peer(forgetful), servers.peer(dying)]
    endpoints = [Endpoint(peer.address, peer.port) for peer in peers]
    endpoints.append(Endpoint("127.0.0.1", servers.free_port()))
    skipping = live._replace(clock=Skipping())
    places = passwords.acknowledge(skipping, endpoints, Secret(SECRET), soon(HOUR))
    assert [place.outcome for place in places] == ["failed", "refused", "refused"]
    silent = servers.peer(servers.silent)
    began = time.monotonic()
    endpoint = Endpoint(silent.address, silent.port)
    places = (*places, *passwords.acknowledge(live, [endpoint], Secret(SECRET), soon(1)))
    assert time.monotonic() - began < 300
    assert places[-1].outcome == "timeout"
    assert "marker" not in repr(places)


def test_a_script_that_confirms_and_offers_it_still(live: System, servers: Any, soon: Soon) -> None:
    """It has not forgotten: asked once more, and only once. Who is silent then, or signs, is believed."""

    def keeps(connection: socket.socket, request: bytes) -> None:
        connection.sendall(PLAIN + (b"saved_password" if b"saved_password" in request else SECRET))

    def resets(connection: socket.socket, request: bytes) -> None:
        if len(reset.requests) == 3:
            connection.sendall(PLAIN + b"marker-Pw2EXAMPLE")
        else:
            keeps(connection, request)

    def falls_silent(connection: socket.socket, request: bytes) -> None:
        if len(quiet.requests) == 3:
            servers.silent(connection)
        else:
            keeps(connection, request)

    def signs(connection: socket.socket, request: bytes) -> None:
        connection.sendall(HEAD + (b"saved_password" if b"saved_password" in request else SECRET))

    kept, reset, quiet, signed = map(servers.peer, (keeps, resets, falls_silent, signs))
    endpoints = [Endpoint(peer.address, peer.port) for peer in (kept, reset, quiet, signed)]
    places = passwords.acknowledge(live, endpoints, Secret(SECRET), soon(HOUR))
    assert [place.outcome for place in places] == ["failed", "ok", "ok", "ok"]
    assert "offers it all the same" in places[0].detail and "marker" not in repr(places)
    assert [len(peer.requests) for peer in (kept, reset, quiet, signed)] == [3, 3, 3, 2]


# --- secrecy ----------------------------------------------------------------------------------------


def test_the_password_is_in_no_text(
    live: System, servers: Any, candidate: Make, soon: Soon, caplog: Any, capfd: Any
) -> None:
    """Not in an answer, place, log, output or in any exception that is alive, for good and bad replies."""
    caplog.set_level(logging.DEBUG)
    lab = servers.lab(Cloud(password=MARKER))
    given = [candidate(lab)]
    for raw in (
        SECRET,
        SECRET + b"\r\n\r\n",
        PLAIN + SECRET + b"\nmore",
        b"HTTP/1.0 500 " + SECRET + b"\r\n\r\n",
    ):
        peer = servers.says(raw, "127.0.0.3")
        given.append(candidate(peer, password_port=peer.port))
    answer = client.look(client.Question(live, given, PLATFORM, soon(HOUR)))
    offer = answer.readings[0].password
    assert offer.value is not None
    places = passwords.acknowledge(live, offer.endpoints, offer.value, soon(HOUR))
    with pytest.raises(Malformed) as caught:
        parse(HEAD + SECRET + b"\nmore")
    shown = "".join(traceback.format_exception(caught.type, caught.value, caught.tb))
    shown = "\n".join(line for line in shown.splitlines() if not line.startswith("    "))
    captured = capfd.readouterr()
    for text in (repr(answer), str(answer), repr(places), caplog.text, shown, captured.out, captured.err):
        assert "marker" not in text
    for item in gc.get_objects():
        if isinstance(item, ProbeError):
            assert "marker" not in "".join(traceback.format_exception_only(type(item), item))


def test_a_router_logs_no_password(servers: Any, live: System) -> None:
    """The lab router's own log names requests and never what was answered."""
    lines: List[str] = []
    lab = servers.lab(Cloud(password=MARKER), log=lines.append)
    assert isinstance(lab, LabRouter)
    ask(live, Endpoint(lab.address, lab.password_port), time.monotonic() + HOUR)
    assert lines == ['password "send_my_password" from 127.0.0.1: password']


def test_an_acknowledgement_imports_nothing_late(servers: Any) -> None:
    """After `import passwords` the child may give up its rights, and needs no requests."""
    lab = servers.lab(Cloud(password=MARKER))
    code = (
        "import sys, time\nfrom csagent.model import Endpoint, Secret\n"
        "from csagent.system.seams import System\n"
        "from csagent.sources.router import passwords\nloaded = set(sys.modules)\n"
        f"ends = [Endpoint('127.0.0.1', {lab.password_port}), Endpoint('127.0.0.1', {servers.free_port()})]\n"
        f"told = passwords.acknowledge(System(), ends, Secret({SECRET!r}), time.monotonic() + 5)\n"
        "print([place.outcome for place in told], sorted(set(sys.modules) - loaded), 'requests' in loaded)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=600
    )
    assert done.stdout == "['ok', 'refused'] [] False\n"
