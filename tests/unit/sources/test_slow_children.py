"""Reading children on a machine that is starved of processor time, on a clock of the test's own."""

from __future__ import annotations

from typing import Any, Iterator, List, Optional

import pytest

from csagent.errors import ProbeError
from csagent.model import Endpoint, Found, Place, Platform, Reading
from csagent.sandbox import codec
from csagent.settings import Settings
from csagent.sources import jobs, observe
from csagent.sources.drive_readers import PATIENCE, DriveReaders
from csagent.sources.request import Options, PassRequest
from csagent.sources.router import connect, dns
from csagent.sources.router.connect import CONNECT_SECONDS
from csagent.sources.router_reader import LEAST, LIFE, SLACK, RouterReader
from csagent.system.seams import Clock, Dialer, System
from csagent.system.slowness import Patience
from csagent.system.tree import Tree

NOBODY = 1 << 25  # a process id that uses no processor time


class Fixed(Clock):
    """Shows the time that the test says."""

    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        return self.time


class FakeChild:
    """A child as its parent sees it, on a machine that is ten times slower."""

    pid, name, finished, slowness = NOBODY, "fake", False, 10.0
    connected = None

    def __init__(self, clock: Fixed) -> None:
        self._clock = clock
        self.ready = self.killed = False
        self.says: List[Any] = []

    def collect(self) -> Iterator[Any]:
        said, self.says = self.says, []
        yield from said

    def drain(self) -> None:
        pass

    def kill(self) -> None:
        self.killed = self.finished = True

    def time_to_prepare(self) -> Patience:
        return Patience(self.pid, 20.0, self._clock.time)

    def time_to_work(self, seconds: float) -> Patience:
        return Patience(self.pid, seconds * self.slowness, self._clock.time)


class Stage:
    """A pass of the daemon or of a command line, its clock, and its children."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, patient: bool = True) -> None:
        self.clock = Fixed()
        self.children: List[FakeChild] = []
        self.asked: List[Any] = []  # seconds and end of each router child
        system = System(tree=Tree("/nowhere"), clock=self.clock)
        options = Options(router=("127.0.0.1", 1))
        self.request = PassRequest(system, Settings(), options, 60.0, patient=patient)

        def start_router(_request: Any, seconds: float, until: Optional[float]) -> FakeChild:
            self.asked.append((seconds, until))
            return self._child()

        monkeypatch.setattr(jobs, "start_router", start_router)
        monkeypatch.setattr(jobs, "start_drive", lambda *_words, **_more: self._child())

    def _child(self) -> FakeChild:
        self.children.append(FakeChild(self.clock))
        return self.children[-1]

    def router(self, end: float) -> RouterReader:
        reader = RouterReader(self.request, self.clock.time + end, Platform, lambda: None)
        reader.begin()
        return reader

    def announce(self, reader: RouterReader) -> None:
        """The child says whom it will ask."""
        self.children[-1].says = [{"found": codec.encode(Found())}]
        reader.collect([self.children[-1]])


def ends_in(stage: Stage, reader: Any) -> float:
    """Seconds until the child is given up, if it uses no more processor time."""
    (one,) = reader.running
    return float(one.patience.ends - stage.clock.time)


def test_the_time_of_a_router_child_begins_when_it_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it needed before does not count, and a slow machine stretches it."""
    stage = Stage(monkeypatch)
    reader = stage.router(60.0)
    assert stage.asked == [(LIFE, None)] and ends_in(stage, reader) == 20.0
    stage.clock.time += 15.0
    stage.announce(reader)
    assert ends_in(stage, reader) == 10 * (LIFE + SLACK)


def test_late_in_the_wait_of_the_daemon_a_child_has_a_least_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line's child ends when the wait does."""
    stage = Stage(monkeypatch)
    stage.router(1.0)
    assert stage.asked == [(LEAST, None)]
    command = Stage(monkeypatch, patient=False)
    command.router(1.0)
    ((seconds, until),) = command.asked
    assert seconds == pytest.approx(0.5) and until == pytest.approx(command.clock.time + 0.5)


def test_leases_that_change_do_not_end_a_child_that_is_preparing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a second with what it found, or as many as the machine is slower; then another begins."""
    stage = Stage(monkeypatch)
    reader = stage.router(600.0)
    reader.changed()
    stage.clock.time += 15.0
    reader.tick(stage.clock.time)
    assert len(stage.children) == 1
    stage.announce(reader)
    stage.clock.time += 9.9
    reader.tick(stage.clock.time)
    assert len(stage.children) == 1
    stage.clock.time += 0.2
    reader.tick(stage.clock.time)
    assert len(stage.children) == 2 and stage.children[0].killed


def restless(stage: Stage, reader: Any, seconds: float) -> List[float]:
    """After how many seconds each child begins, where what it reads from changes at each look."""
    began, begun = stage.clock.time, []
    while stage.clock.time < began + seconds:
        stage.clock.time += 0.5
        before = len(stage.children)
        reader.tick(stage.clock.time)
        reader.changed()
        begun += [stage.clock.time - began] * (len(stage.children) - before)
    return begun


def test_a_nic_that_never_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """After four changes each child has twice the time; none begins after the end of the wait."""
    stage = Stage(monkeypatch)
    monkeypatch.setattr(FakeChild, "slowness", 1.0)
    start = stage.router

    def announcing(seconds: float) -> RouterReader:
        reader = start(seconds)
        begin = reader._start
        monkeypatch.setattr(reader, "_start", lambda: (begin(), stage.announce(reader)))
        stage.announce(reader)
        return reader

    assert restless(stage, announcing(20.0), 40.0) == [1.0, 2.0, 3.0, 4.0, 6.0, 10.0, 18.0]
    reader = announcing(20.0)
    assert len(restless(stage, reader, 5.0)) == 4
    stage.children[-1].says = [{"believes": True}]
    reader.collect([stage.children[-1]])
    assert restless(stage, reader, 40.0) == [], "it reads the router"


def test_a_nic_that_never_rests_and_has_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that ends at once is followed by the next one after as long."""
    stage = Stage(monkeypatch)
    reader = stage.router(20.0)
    monkeypatch.setattr(FakeChild, "result", lambda _self: {"readings": [], "places": []}, raising=False)
    begin = reader._start

    def ending() -> None:
        begin()
        child = stage.children[-1]
        child.says, child.finished = [{"found": codec.encode(Found())}], True
        reader.collect([child])

    monkeypatch.setattr(reader, "_start", ending)
    ending()
    assert restless(stage, reader, 40.0) == [1.0, 2.0, 3.0, 4.0, 6.0, 10.0, 18.0]


def test_a_nic_that_comes_while_a_child_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It had looked before, and found nobody to ask: the next one begins though nothing changes any more."""
    stage = Stage(monkeypatch)
    monkeypatch.setattr(FakeChild, "result", lambda _self: {"readings": [], "places": []}, raising=False)
    reader = stage.router(20.0)
    reader.changed()
    stage.announce(reader)
    stage.children[-1].finished = True
    reader.collect([stage.children[-1]])
    assert list(reader.moments) == [stage.clock.time + 1.0]
    stage.clock.time += 1.0
    reader.tick(stage.clock.time)
    assert len(stage.children) == 2


def test_a_drive_that_never_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    """After four changes what is under way is let end; none begins after the end of the wait."""
    stage = Stage(monkeypatch)
    request = stage.request._replace(options=Options(drive="/dev/sr0"))
    reader = DriveReaders(request, stage.clock.time + 30.0, Platform, lambda: None)
    reader.begin()
    assert restless(stage, reader, 10.0) == [0.5, 1.0, 1.5, 2.0]
    assert [child.killed for child in stage.children] == [True] * 4 + [False]
    stage.clock.time = 1012.0
    reading = codec.encode(Reading("drive", "drive /dev/sr0", instance_id="i-2-3-VM"))
    place = codec.encode(Place("drive /dev/sr0", "given", "ok", ""))
    answer = {"reading": reading, "place": place}
    monkeypatch.setattr(FakeChild, "result", lambda _self: answer, raising=False)
    child = stage.children[-1]
    child.finished = True
    reader.collect([child])
    assert reader.readings
    reader.tick(stage.clock.time)
    assert len(stage.children) == 6 and not reader.readings, "it is read once more"
    stage.clock.time = 1030.0
    stage.children[-1].finished = True
    reader.collect([stage.children[-1]])
    assert restless(stage, reader, 40.0) == [] and reader.readings


@pytest.mark.parametrize(("patient", "seconds"), [(True, 10 * PATIENCE), (False, 45.0)])
def test_the_time_of_a_drive_begins_when_it_is_read(
    monkeypatch: pytest.MonkeyPatch, patient: bool, seconds: float
) -> None:
    """The library before it has a time of its own; a command line's wait ends both."""
    stage = Stage(monkeypatch, patient=patient)
    request = stage.request._replace(options=Options(drive="/dev/sr0"))
    reader = DriveReaders(request, stage.clock.time + 60.0, Platform, lambda: None)
    reader.begin()
    assert ends_in(stage, reader) == 20.0
    stage.clock.time += 15.0
    child = stage.children[0]
    child.ready = True
    reader.collect([child])
    assert ends_in(stage, reader) == seconds


def test_how_long_a_drive_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the beginning to its answer."""
    stage = Stage(monkeypatch)
    request = stage.request._replace(options=Options(drive="/dev/sr0"))
    reader = DriveReaders(request, stage.clock.time + 60.0, Platform, lambda: None)
    reader.begin()
    stage.clock.time += 40.0
    child = stage.children[0]
    child.finished = True
    reading = codec.encode(Reading("drive", "drive /dev/sr0", instance_id="i-2-3-VM"))
    place = codec.encode(Place("drive /dev/sr0", "given", "ok", ""))
    monkeypatch.setattr(
        FakeChild, "result", lambda _self: {"reading": reading, "place": place}, raising=False
    )
    reader.collect([child])
    assert (reader.read_at, reader.took) == (stage.clock.time, 40.0)


def test_the_routers_grace_behind_a_drive_is_stretched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drive that is read first does not cost a starved router child its work; an exchanged one hurries."""
    stage = Stage(monkeypatch)
    observer = observe._Observer(stage.request._replace(options=Options(), grace=3.0))
    assert observer._grace_ends(1000.0) == 1003.0
    observer.router.begin()
    assert observer._grace_ends(1000.0) > 1e9, "it does not know yet whom to ask"
    for stage.clock.time in (1010.0, 1020.0):  # another one, since the leases have changed, gets no more
        stage.announce(observer.router)
        assert observer._grace_ends(1000.0) == 1013.0
        observer.router._start()
    assert observer._grace_ends(1015.0) == 1018.0
    observer.router.asked_at = None
    observer.router._fail(observer.router.running[0], "timeout", "it hangs")
    observer.router._start()
    assert observer._grace_ends(1000.0) == 1023.0, "it had its time"
    observer.router.asked_at = 1010.0
    observer.drives.took = 100.0
    assert observer._grace_ends(1000.0) == 1060.0
    observer.grace = 0.0
    assert observer._grace_ends(1000.0) == 1000.0


@pytest.mark.parametrize(("patient", "over"), [(True, False), (False, True)])
def test_the_end_of_the_wait_does_not_end_a_child_of_the_daemons(
    monkeypatch: pytest.MonkeyPatch, patient: bool, over: bool
) -> None:
    """It has its own time; a command line's wait is what the user asked for."""
    stage = Stage(monkeypatch, patient=patient)
    observer = observe._Observer(stage.request)
    observer.router.begin()
    assert observer._is_over(stage.clock.time + 61.0) is over
    stage.children[0].finished = True
    observer.router._running = None
    assert observer._is_over(stage.clock.time + 61.0)


def test_peers_have_more_time_where_we_are_slow() -> None:
    """Connecting and looking up end later by the factor that was measured."""
    clock = Fixed()
    clock.slowness = 5.0
    deadlines: List[float] = []

    class Refusing(Dialer):
        def connect(self, endpoint: Endpoint, deadline: float) -> Any:
            deadlines.append(deadline - clock.time)
            raise ConnectionRefusedError

    system = System(clock=clock, dialer=Refusing())
    with pytest.raises(ProbeError):
        connect.connect(system, Endpoint("127.0.0.1", 80), clock.time + 1000.0)
    with pytest.raises(ConnectionRefusedError):
        next(iter(dns.query(system, Endpoint("127.0.0.1", 53), ["data-server."])))
    assert deadlines == [5 * CONNECT_SECONDS, 5 * dns.SECONDS]
