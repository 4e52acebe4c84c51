"""The one name we resolve, asked of a name server on loopback."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Any, Callable, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csagent.errors import Absent
from csagent.model import Candidate, Endpoint, Platform
from csagent.sources.router import client, dns, names
from csagent.system.seams import Dialer, System

NAME = "data-server."
ASKED = dns.question(NAME, 7)


def reply(*addresses: str, code: int = 0) -> bytes:
    """What dnsmasq answers: the question again, then records that point to its name."""
    records = b"".join(
        b"\xc0\x0c" + struct.pack(">2HIH", 1, 1, 0, 4) + socket.inet_aton(address) for address in addresses
    )
    return struct.pack(">6H", 7, 0x8180 | code, 1, len(addresses), 0, 0) + ASKED[12:] + records


def test_the_question_is_what_rfc_1035_says() -> None:
    """One question, class IN, type A, recursion wanted, the name in labels."""
    assert ASKED == b"\0\7\1\0\0\1\0\0\0\0\0\0\x0bdata-server\0\0\1\0\1"


def test_addresses_are_taken_and_refusals_are_not() -> None:
    """Records of type A count; NXDOMAIN, another question's answer and a cut reply give nothing."""
    assert dns.answers(reply("10.1.1.1", "10.1.1.2", "10.1.1.1"), ASKED) == ("10.1.1.1", "10.1.1.2")
    assert dns.answers(reply(code=3), ASKED) == ()
    assert dns.answers(b"\0\x08" + reply("10.1.1.1")[2:], ASKED) == ()
    with pytest.raises(ValueError, match="cut"):
        dns.answers(reply("10.1.1.1")[:-1], ASKED)


@given(st.binary(max_size=120), st.integers(0, 60))
def test_answers_is_total(noise: bytes, keep: int) -> None:
    """Whatever a server says, it is addresses or a ValueError, and it ends."""
    for message in (noise, reply("10.1.1.1")[:keep] + noise):
        try:
            found = dns.answers(message, ASKED)
        except ValueError:
            continue
        assert all(socket.inet_aton(address) for address in found)


@pytest.fixture
def server() -> Any:
    """A name server on a free port; `server(reply)` says what it answers."""
    listeners = []

    def start(make: Callable[[bytes], bytes]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        while asked := connection.recv(512)[2:]:
                            answer = make(asked)
                            for byte in struct.pack(">H", len(answer)) + answer:
                                connection.sendall(bytes([byte]))

        threading.Thread(target=serve, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in listeners:
        listener.close()


def test_a_server_is_asked_over_tcp(server: Any) -> None:
    """The reply may come in pieces; the number of the question is checked."""
    port = server(lambda asked: asked[:2] + reply("10.1.1.1")[2:])
    assert list(dns.query(System(), Endpoint("127.0.0.1", port), [NAME])) == [("10.1.1.1",)]


class Phone(Dialer):
    """Knows which ports stand for which servers, and notes from which source they are called."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.calls: "list[Tuple[str, Any]]" = []

    def connect(self, endpoint: Endpoint, deadline: float) -> Any:
        self.calls.append((endpoint.address, endpoint.source))
        if endpoint.address == "10.9.9.9":
            raise ConnectionRefusedError
        return super().connect(Endpoint("127.0.0.1", self.port), deadline)


CANDIDATE = Candidate(
    NAME,
    "data-server",
    "a test",
    "eth0",
    "10.2.2.42",
    name_servers=("10.9.9.9", "10.2.2.2"),
    domain="cs2cloud.internal",
    within=("10.2.2.0/24", "10.7.7.7/32"),
)


def zone(**addresses: str) -> Callable[[bytes], bytes]:
    """A server that knows these names, by the first label and whether the domain is behind it."""

    def make(asked: bytes) -> bytes:
        key = "qualified" if b"cs2cloud" in asked else "bare"
        found = [socket.inet_aton(address) for address in addresses.get(key, "").split()]
        records = b"".join(b"\xc0\x0c" + struct.pack(">2HIH", 1, 1, 0, 4) + raw for raw in found)
        return asked[:2] + struct.pack(">5H", 0x8180, 1, len(found), 0, 0) + asked[12:] + records

    return make


def test_the_nics_name_servers_are_asked_in_turn(server: Any) -> None:
    """Each server of the NIC, from that NIC's address, until one knows."""
    phone = Phone(server(zone(bare="10.2.2.2")))
    assert names.resolver(System(dialer=phone))(CANDIDATE) == ("10.2.2.2",)
    assert phone.calls == [("10.9.9.9", "10.2.2.42"), ("10.2.2.2", "10.2.2.42")]


@pytest.mark.parametrize(
    ("known", "found"),
    [
        ({"qualified": "10.2.2.3"}, ("10.2.2.3",)),
        ({"bare": "10.2.2.2", "qualified": "10.2.2.3"}, ("10.2.2.2",)),
        ({"bare": "203.0.113.66", "qualified": "10.2.2.3"}, ("10.2.2.3",)),
        ({"bare": "10.3.3.3 10.2.2.2"}, ("10.2.2.2",)),
        ({"bare": "10.7.7.7"}, ("10.7.7.7",)),
        ({"bare": "203.0.113.66", "qualified": "203.0.113.66"}, ()),
        ({"bare": "127.0.0.1"}, ()),
        ({}, ()),
    ],
)
def test_only_the_nics_own_network_is_an_answer(server: Any, known: Any, found: Any) -> None:
    """The bare name, then the lease's domain; a wildcard, another subnet and loopback lead nowhere."""
    phone = Phone(server(zone(**known)))
    assert names.resolver(System(dialer=phone))(CANDIDATE) == found


def test_nobody_else_is_asked(monkeypatch: Any) -> None:
    """Where no server of the NIC answers, neither libc nor anybody behind it has a say."""

    def never(*_args: Any) -> Any:
        raise AssertionError("libc was asked")

    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        monkeypatch.setattr(socket, name, never)

    class Nobody(Dialer):
        def connect(self, endpoint: Endpoint, deadline: float) -> Any:
            raise ConnectionRefusedError

    look_up = names.resolver(System(dialer=Nobody()))
    assert look_up(CANDIDATE) == ()
    name = names.Name(System().clock, CANDIDATE, look_up)
    with pytest.raises(Absent, match="does not resolve"):
        name.addresses()
    assert name.known() == ()


def test_each_nic_has_a_look_up_of_its_own(live: System, servers: Any) -> None:
    """What one NIC's servers say of the name is asked on that NIC only."""
    labs = {
        nic: servers.lab(address=address) for nic, address in (("eth0", "127.0.0.2"), ("eth1", "127.0.0.3"))
    }
    given = [
        Candidate(NAME, "data-server", nic, nic, f"127.0.0.{4 + number}", port=lab.port)
        for number, (nic, lab) in enumerate(labs.items())
    ]
    answers = {"eth0": ("127.0.0.9",), "eth1": ("127.0.0.3",)}
    asked = []

    def resolve(candidate: Candidate) -> Tuple[str, ...]:
        asked.append(candidate.interface)
        return answers[str(candidate.interface)]

    deadline = System().clock.monotonic() + 5
    answer = client.look(client.Question(live, given, Platform(), deadline, resolve))
    assert sorted(asked) == ["eth0", "eth1"]
    places = {
        place.why: place.place.split(":")[0] for place in answer.places if place.place.startswith("router")
    }
    assert places == {"eth0": "router 127.0.0.9", "eth1": "router 127.0.0.3"}
