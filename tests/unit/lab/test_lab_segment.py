"""The lab's Ethernet segment, with a guest made of one socket; and what is judged of a NIC on it."""

from __future__ import annotations

import json
import socket
import threading
from typing import Dict, Iterator, List, Optional, Tuple

import pytest

from csagent.lab.vm import network_story, segment
from csagent.lab.vm.network_story import CHANGED, FIRST, NetworkStory, nic_state
from csagent.lab.vm.segment import ARP, HEADER, Segment

PATIENCE = 60.0  # seconds: what is there answers at once
GUEST = bytes.fromhex(segment.MAC.replace(":", ""))


class FakeGuest:
    """A NIC that answers for one address, as the kernel does, and hands on every reply that it gets."""

    def __init__(self, address: str) -> None:
        self.own = socket.inet_aton(address)
        self.channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.channel.bind(("127.0.0.1", 0))
        self.replies: List[Tuple[bytes, bytes]] = []
        self.replied = threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def serve(self) -> None:
        while True:
            frame = self.channel.recv(2048)
            if not frame:
                return
            *_header, operation, mac, address, _target, asked = ARP.unpack_from(frame, 14)
            if operation == segment.REQUEST and asked == self.own:
                self.says(segment.REPLY, mac, address)
            elif operation == segment.REPLY:
                self.replies.append((mac, address))
                self.replied.set()

    def says(self, operation: int, target: bytes, asked: bytes) -> None:
        arp = ARP.pack(*HEADER, operation, GUEST, self.own, target, asked)
        self.channel.sendto(target + GUEST + b"\x08\x06" + arp, ("127.0.0.1", segment.PORT))

    def end(self) -> None:
        self.channel.sendto(b"", self.channel.getsockname())
        self.thread.join(300)
        self.channel.close()


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGuest]:
    """One that has the first address."""
    made = FakeGuest(FIRST)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(segment, "PORT", free.getsockname()[1])
    monkeypatch.setattr(segment, "QEMUS_PORT", made.channel.getsockname()[1])
    made.thread.start()
    yield made
    made.end()


def test_a_guest_is_asked_for_its_address(guest: FakeGuest) -> None:
    """It answers for its own and for no other, whatever frames came before."""
    with Segment(["10.7.0.1"]) as wire:
        for frame in (b"", b"short", b"\0" * 14, b"\xff" * 200, b"\0" * 12 + b"\x08\x06" + b"\x07" * 40):
            guest.channel.sendto(frame, ("127.0.0.1", segment.PORT))
        assert wire.answers(FIRST, PATIENCE)
        assert not wire.answers(CHANGED, 0.5)


def test_gateways_answer_and_nobody_else(guest: FakeGuest) -> None:
    """A guest that asks for one gets its MAC address; one that asks for another hears nothing."""
    with Segment(["10.7.0.1", "10.7.0.2"]):
        for asked in ("10.7.0.77", "10.7.0.2"):
            guest.says(segment.REQUEST, segment.BROADCAST, socket.inet_aton(asked))
        assert guest.replied.wait(PATIENCE)
        assert guest.replies == [(segment.GATEWAY_MAC, socket.inet_aton("10.7.0.2"))]


class Wire:
    """A segment on which these addresses answer."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    def answers(self, address: str, _patience: float) -> bool:
        return address in self.addresses


class Told:
    """A guest whose csagent says this of its NIC."""

    def __init__(self, nic: Optional[Dict[str, str]]) -> None:
        nics = [{"mac": "02:00:00:00:00:01", "state": "left", "reason": ""}, *([nic] if nic else [])]
        self.text = json.dumps({"data": {"network": {"nics": nics}}})

    def run(self, _script: str) -> str:
        return self.text


def nic(state: str, reason: str) -> Told:
    return Told({"mac": segment.MAC, "state": state, "reason": reason})


def test_the_wire_is_believed_for_an_address() -> None:
    """The new one answers and the old one does not; where none answers, csagent's reason is shown."""
    story = object.__new__(NetworkStory)
    quiet = nic("left", "somebody configures it: /etc/x")
    assert story._has(Wire(CHANGED), quiet, CHANGED, FIRST) == ("pass", f"its NIC answers for {CHANGED}")  # type: ignore[arg-type]
    assert story._has(Wire(FIRST, CHANGED), quiet, CHANGED, FIRST)[0] == "fail"  # type: ignore[arg-type]
    state, reason = story._has(Wire(), quiet, FIRST)  # type: ignore[arg-type]
    assert state == "fail" and reason.endswith(": left: somebody configures it: /etc/x")


def test_putting_back_is_seen_and_told() -> None:
    """The former address answers, the bad one does not, and csagent names the gateway."""
    story = object.__new__(NetworkStory)
    told = nic("failed", f"the gateway {network_story.NOBODY} does not answer; the former state is back")
    assert story._is_back(Wire(CHANGED), told)[0] == "pass"  # type: ignore[arg-type]
    assert story._is_back(Wire(network_story.BAD), told)[0] == "fail"  # type: ignore[arg-type]
    assert story._is_back(Wire(CHANGED), nic("applied", "10.7.0.66/24"))[0] == "fail"  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "null", "{}", '{"data": {"network": {"nics": [1]}}}', "[]"])
def test_a_status_without_the_nic_says_nothing(text: str) -> None:
    """Nor does one that is not understood."""
    assert nic_state(text) == ("", "")
    assert nic_state(Told(None).text) == ("", "")


def test_several_segments_have_their_own_cables() -> None:
    """Each NIC has its own name, MAC address and ports, so that two segments do not hear each other."""
    first, second = " ".join(segment.devices()), " ".join(segment.devices(1, "02:00:4c:9f:00:17"))
    assert f"id=segment0,udp=127.0.0.1:{segment.PORT},localaddr=127.0.0.1:{segment.QEMUS_PORT}" in first
    ports = f"udp=127.0.0.1:{segment.PORT + 2},localaddr=127.0.0.1:{segment.QEMUS_PORT + 2}"
    assert f"id=segment1,{ports}" in second
    assert "netdev=segment1,mac=02:00:4c:9f:00:17" in second
