"""Several config drives: whose data counts, and what is said of those that are not read."""

from __future__ import annotations

import os
import time
from typing import Any, Dict, List

import pytest
from support.samples import INSTANCE

from csagent.discovery import drives
from csagent.errors import JailError
from csagent.model import Drive, Endpoint, PasswordOffer, Place, Platform, Reading, Refusal, Secret
from csagent.sandbox import codec
from csagent.settings import Settings
from csagent.sources import checks, jobs
from csagent.sources.drive_readers import MAX_DRIVES, DriveReaders
from csagent.sources.request import PassRequest
from csagent.system.seams import System
from csagent.system.slowness import Patience


class Finished:
    """A child that has ended with an answer."""

    finished = True
    name = "child"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def drain(self) -> None:
        pass

    def result(self) -> Any:
        return self.answer

    def time_to_prepare(self) -> Patience:
        return Patience(os.getpid(), 3600.0, time.monotonic())

    def kill(self) -> None:
        pass


def answer(device: str) -> Dict[str, Any]:
    name = device.rpartition("/")[2]
    reading = Reading("drive", f"drive {device}", INSTANCE, {"local-hostname": f"host-{name}"})
    return {"reading": codec.encode(reading), "place": codec.encode(Place(f"drive {device}", "x", "ok"))}


def readers(monkeypatch: pytest.MonkeyPatch, devices: List[str]) -> DriveReaders:
    """With the list of drives taken, and a child for each that is read."""
    listed = [codec.encode(Drive(device, "config-2", "by label")) for device in devices]
    monkeypatch.setattr(drives, "worth_a_look", lambda *_args: True)
    monkeypatch.setattr(
        drives, "why_not_node", lambda _system, node, _named: "virtual" if "loop" in node else ""
    )
    monkeypatch.setattr(jobs, "start_scout", lambda _request: Finished(listed))
    monkeypatch.setattr(jobs, "start_drive", lambda _request, device, _why, given: Finished(answer(device)))
    made = DriveReaders(PassRequest(System(), Settings()), 1e12, Platform, lambda: None)
    made.begin()
    made.collect([one.child for one in made.running])
    return made


@pytest.mark.parametrize("backwards", [False, True])
def test_the_first_of_the_list_counts_first(monkeypatch: pytest.MonkeyPatch, backwards: bool) -> None:
    """Readings and places stand in the order of discovery, whichever child ends first."""
    devices = ["/dev/sr1", "/dev/sr0", "/dev/vdb"]
    made = readers(monkeypatch, devices)
    for one in list(made.running)[:: -1 if backwards else 1]:
        made.collect([one.child])
    assert [reading.place for reading in made.readings] == [f"drive {device}" for device in devices]
    assert [place.place for place in made.places] == [f"drive {device}" for device in devices]


def test_what_is_not_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drives beyond the bound, and those that may not be read, which take nobody's place."""
    devices = ["/dev/loop0", *(f"/dev/sr{number}" for number in range(MAX_DRIVES + 2)), "/dev/sr0"]
    made = readers(monkeypatch, devices)
    assert len(made.running) == len(made.drives) == MAX_DRIVES
    told = {place.place: (place.outcome, place.detail) for place in made.places}
    assert told["drive /dev/loop0"] == ("refused", "virtual") and len(told) == MAX_DRIVES + 3
    for number in (MAX_DRIVES, MAX_DRIVES + 1):
        outcome, detail = told[f"drive /dev/sr{number}"]
        assert outcome == "skipped" and "come before it" in detail


def test_channel_and_place_are_what_the_job_was() -> None:
    """A child that says that it is a router, or another drive, is what was started."""
    offer = PasswordOffer("offered", Secret(b"EXAMPLE"), "router 10.1.1.1")
    lie = Reading(
        "router", "drive /dev/sr9", INSTANCE, password=offer, refusals=(Refusal("a", "router 10.1.1.1", "b"),)
    )
    place = Place("router 10.1.1.1", "DHCP server", "ok", "x\x1b[2J" * 200)
    news = checks.drive_news(
        {"reading": codec.encode(lie), "place": codec.encode(place)}, "/dev/sr0", "by label"
    )
    assert news.reading is not None
    assert (news.reading.channel, news.reading.place) == ("drive", "drive /dev/sr0")
    assert news.reading.password.place == news.reading.refusals[0].place == "drive /dev/sr0"
    assert (news.place.place, news.place.why) == ("drive /dev/sr0", "by label")
    assert news.place.detail.isprintable() and len(news.place.detail) == 500


def test_a_drive_has_no_password_server() -> None:
    """Nobody is told that a drive's password is set, whom a drive's child may name."""
    offer = PasswordOffer("offered", Secret(b"EXAMPLE"), "p", "", (Endpoint("8.8.8.8", 8080),))
    reading = Reading("drive", "drive /dev/sr0", INSTANCE, password=offer)
    document = {"reading": codec.encode(reading), "place": codec.encode(Place("drive /dev/sr0", "", "ok"))}
    with pytest.raises(JailError, match="password server"):
        checks.drive_news(document, "/dev/sr0", "")
