"""The one name we resolve, asked of a name server on loopback."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Any, Callable, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csagent.model import Candidate
from csagent.read import dns, names
from csagent.system import Dialer, System

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
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                asked = connection.recv(512)[2:]
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
    assert dns.query(System(), "127.0.0.1", None, NAME, port=port) == ("10.1.1.1",)


class Phone(Dialer):
    """Knows which ports stand for which servers, and notes from which source they are called."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.calls: "list[Tuple[str, Any]]" = []

    def connect(self, address: str, port: int, source: Any, deadline: float) -> Any:
        self.calls.append((address, source))
        if address == "10.9.9.9":
            raise ConnectionRefusedError
        return super().connect("127.0.0.1", self.port, None, deadline)


def test_the_leases_name_servers_come_first(server: Any) -> None:
    """Each server of the NIC's lease is asked from that NIC's address until one knows."""
    phone = Phone(server(lambda asked: asked[:2] + reply("10.2.2.2")[2:]))
    candidate = Candidate(
        NAME, "data-server", "a test", "eth0", "10.2.2.42", name_servers=("10.9.9.9", "10.2.2.2")
    )
    system = System(dialer=phone)
    assert names.resolver(system, [candidate])(NAME) == ("10.2.2.2",)
    assert phone.calls == [("10.9.9.9", "10.2.2.42"), ("10.2.2.2", "10.2.2.42")]
