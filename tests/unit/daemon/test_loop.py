"""When the daemon looks, for how long, and what it waits for, on a clock that does not tick by itself."""

from __future__ import annotations

import os
import select
import signal
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence

import pytest

from csagent.daemon import loop
from csagent.daemon.loop import BEGINNING, SLACK, Daemon
from csagent.daemon.schedule import CLOSE_LOOK, FIRST_WAIT, GRACE, HURRY, SETTLE_AT_MOST
from csagent.errors import UsageError
from csagent.log import Log
from csagent.system.systemd import Signals

WORLD = {
    "settings": {"poll": 300.0},
    "watching": False,
    "patterns": [],
    "network": False,
    "labels": [],
    "account": None,
    "cloud_init": None,
    "poll": 300.0,
    "longest": 90,
}
NOTHING = {
    "found": False, "finished": False, "partly": False, "drive": False, "router": False, "nics": False,
    "missing": False, "early": False, "failed": False, "status": "nothing", "note": "", "current_at": 0.0,
}  # fmt: skip
ALL = {**NOTHING, "found": True, "finished": True, "router": True}
DRIVE = {**NOTHING, "found": True, "drive": True}
BUG = {"error": "the pass failed (RuntimeError)"}


class Pass(NamedTuple):
    """One pass of a test's daemon."""

    at: float  # seconds since the start
    wait: Optional[float]
    grace: float
    settings: Any


class FakePass:
    """A pass that takes its wait where it finds nothing, and a second where it does."""

    pid = 1 << 25  # nobody's: it uses no processor time

    def __init__(self, said: Dict[str, Any], took: float) -> None:
        self.said, self.took, self.finished, self.stopped = said, took, False, False

    def fileno(self) -> int:
        raise AssertionError("nobody really waits for it")

    def documents(self) -> List[Dict[str, Any]]:
        self.finished = True
        return [WORLD, {"interrupted": True} if self.stopped else self.said]

    def stop(self) -> None:
        self.stopped = True

    def end(self) -> None:
        self.finished = True


class Machine:
    """A daemon, its clock, and what happens to it."""

    def __init__(self, reports: List[Dict[str, Any]], events: Sequence["tuple[float, str]"] = ()) -> None:
        self.time = 1000.0
        self.reports = reports
        self.events = [(1000.0 + at, what) for at, what in events]
        self.seen: List[Pass] = []
        self.daemon = Daemon(
            lambda _plain: None,  # type: ignore[arg-type, return-value]
            Log(-1),
            start=self.start,  # type: ignore[arg-type]
            now=lambda: self.time,
            sleep=self.sleep,
        )

    def start(self, _prepare: Any, request: Dict[str, Any], _log: Any) -> FakePass:
        asked = Pass(round(self.time - 1000, 2), request["wait"], request["grace"], request["settings"])
        self.seen.append(asked)
        said = self.reports[len(self.seen) - 1]
        if len(self.seen) == len(self.reports):
            self.daemon.signals.stop = True
        waited = 10.0 if asked.wait is None else asked.wait
        return FakePass(said, waited if said is NOTHING else 1.0)

    def sleep(self, waiting: Sequence[Any], seconds: Optional[float]) -> Sequence[Any]:
        turns = [one for one in waiting if isinstance(one, FakePass)]
        until = self.time + (float("inf") if seconds is None else seconds)
        if turns:
            until = min(until, self.time + (0.0 if turns[0].stopped else turns[0].took))
        if self.events and self.events[0][0] <= until:
            at, what = self.events.pop(0)
            if turns:
                turns[0].took -= at - self.time
            self.time = max(self.time, at)
            if what == "reload":
                self.daemon.signals.reload = True
                return [self.daemon.signals]
            self.daemon.event(what)
            return []
        assert until < float("inf"), "it would sleep for ever"
        elapsed, self.time = until - self.time, until
        for turn in turns:
            turn.took -= elapsed
        return [turn for turn in turns if turn.stopped or turn.took <= 0]

    def run(self) -> List[Pass]:
        """Until the reports are used up."""
        assert self.daemon.run() == 0
        return self.seen


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The daemon's signal handlers and descriptors do not outlive the test."""
    made: List[Signals] = []

    def make() -> Signals:
        made.append(Signals())
        return made[-1]

    monkeypatch.setattr(loop, "Signals", make)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)
    for one in made:
        os.close(one._reading)
        os.close(one._writing)


def test_two_minutes_of_close_look_then_backoff_up_to_the_poll() -> None:
    """A first budget, the rest of two minutes, then again after 10, 20, 40 ... seconds, for ever."""
    seen = Machine([NOTHING] * 10).run()
    assert [one.wait for one in seen[:3]] == [FIRST_WAIT, CLOSE_LOOK - FIRST_WAIT - 1, None]
    gaps = [after.at - before.at - 10 for before, after in zip(seen[2:], seen[3:])]
    for gap, expected in zip(gaps, (40, 80, 160, 300, 300, 300)):
        assert 0.9 * expected - 1e-6 <= gap <= 1.1 * expected + 1e-6, gaps


def test_the_poll() -> None:
    """After everything answered, a pass for each jittered poll period, with the settings that are known."""
    seen = Machine([ALL] * 4).run()
    assert all(269 <= after.at - before.at - 1 <= 331 for before, after in zip(seen, seen[1:]))
    assert [one.settings for one in seen] == [None, *[WORLD["settings"]] * 3]


def test_a_drive_that_comes_late_is_not_made_to_wait() -> None:
    """As long as no drive has been applied, one that appears gets the short grace."""
    assert [one.grace for one in Machine([NOTHING, NOTHING, NOTHING]).run()] == [GRACE] * 3


def test_after_a_drive_the_router_gets_the_rest() -> None:
    """A drive that has been applied does not cut the wait for a late router short again."""
    seen = Machine([DRIVE, DRIVE]).run()
    assert seen[0].grace == GRACE and seen[1].grace > 100


def test_after_a_reload_the_drive_is_hurried_for() -> None:
    """What the new settings make of a drive that is known does not wait for the router either."""
    seen = Machine([DRIVE, DRIVE, DRIVE, DRIVE], [(1.5, "reload")]).run()
    assert seen[1].grace == GRACE and seen[1].settings is None


@pytest.mark.parametrize(("report", "grace"), [(DRIVE, HURRY), (ALL, GRACE)])
def test_an_exchanged_drive(report: Dict[str, Any], grace: float) -> None:
    """It is read at once, and waits only for a router that has given something before."""
    done = {**report, "finished": True}
    seen = Machine([done, done, done], [(100, "drive")]).run()
    assert 100 < seen[1].at < 100.5 and seen[1].grace == grace


def test_an_exchanged_drive_does_not_wait_for_the_pass_that_waits_for_the_router() -> None:
    """The pass lets go once; a drive that goes on telling of itself does not cut the next one short too."""
    seen = Machine([DRIVE, NOTHING, NOTHING, ALL], [(10, "drive"), (10.1, "drive"), (14, "drive")]).run()
    assert seen[2].at == pytest.approx(10.3, abs=0.05) and seen[2].grace == HURRY
    assert seen[3].at > 100


@pytest.mark.parametrize("event", ["account", "cloud-init"])
def test_what_others_do_does_not_wait_for_the_pass_that_waits_for_the_router(event: str) -> None:
    """The account that had been missing gets what the drive has for it."""
    seen = Machine([DRIVE, NOTHING, DRIVE], [(10, event)]).run()
    assert seen[2].at == pytest.approx(10.2, abs=0.05) and seen[2].grace == HURRY


@pytest.mark.parametrize("event", ["drive", "account", "cloud-init"])
def test_the_pass_that_an_event_asked_for_is_not_cut_for_it(event: str) -> None:
    """Between two passes of the close look: else the next one waited for the router after all."""
    seen = Machine([DRIVE, DRIVE, DRIVE], [(1.3, event)]).run()
    assert [one.at for one in seen] == [0.0, 1.5, 3.5]
    assert seen[1].grace == HURRY and seen[2].grace > 100


def test_a_drive_that_appears_during_the_first_pass_leaves_it_alone() -> None:
    """Whether there is a router is not known yet, and the pass itself looks for drives."""
    seen = Machine([NOTHING, ALL], [(5, "drive")]).run()
    assert seen[1].at >= FIRST_WAIT


def test_several_events_in_a_burst_make_one_pass() -> None:
    """One pass when the burst is over, or after a second where it does not end."""
    burst = [(100 + n / 10, "drive") for n in range(8)]
    seen = Machine([ALL, ALL, ALL], burst).run()
    assert 100.9 <= seen[1].at <= 101.0 and seen[2].at > 350
    storm = [(100 + n / 10, "drive") for n in range(18)]
    seen = Machine([ALL, ALL, ALL], storm).run()
    assert seen[1].at == pytest.approx(100 + SETTLE_AT_MOST, abs=0.05) and seen[2].at < 110


@pytest.mark.parametrize(("current_at", "passes_at"), [(0.0, 2.0), (1000.9, 250.0)])
def test_an_event_during_a_pass(current_at: float, passes_at: float) -> None:
    """It asks for another pass, unless this one has seen what it was about."""
    seen = Machine([{**ALL, "current_at": current_at}, ALL], [(0.5, "lease")]).run()
    assert passes_at - 1 <= seen[1].at <= passes_at + 90


def test_settings_that_are_wrong_at_the_start() -> None:
    """They end it; systemd is told not to try again."""
    with pytest.raises(UsageError, match="unknown key"):
        machine = Machine([{"error": "unknown key", "usage": True}])
        machine.start = lambda *_args: Broken("unknown key")  # type: ignore[method-assign, assignment]
        machine.daemon.start = machine.start
        machine.daemon.run()


class Broken(FakePass):
    """A pass that did not come to know its settings."""

    def __init__(self, words: str) -> None:
        super().__init__({"error": words, "usage": True}, 0.1)

    def documents(self) -> List[Dict[str, Any]]:
        self.finished = True
        return [self.said]


def test_a_pass_that_fails_badly_does_not_end_the_daemon() -> None:
    """Even a bug costs one pass: the next ones come, at longer and longer intervals."""
    seen = Machine([BUG, BUG, BUG, NOTHING]).run()
    gaps = [after.at - before.at - 1 for before, after in zip(seen, seen[1:])]
    assert gaps == [pytest.approx(2), pytest.approx(4), pytest.approx(8)]


def test_a_pass_that_is_stuck_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever holds it: its wait and 90 seconds more are its time."""
    machine = Machine([ALL, ALL])
    killed: List[float] = []
    first = FakePass(ALL, 10_000.0)
    monkeypatch.setattr(
        first, "end", lambda: (killed.append(machine.time - 1000), setattr(first, "took", 0.0))
    )
    turns = iter([first])
    machine.daemon.start = lambda *args: next(turns, None) or machine.start(*args)  # type: ignore[assignment]
    machine.run()
    assert killed and killed[0] == pytest.approx(BEGINNING + 90)


def test_a_pass_that_takes_long_says_so() -> None:
    """Several NICs whose gateways are silent: so many seconds beyond its waits are its time."""
    machine = Machine([ALL, ALL])
    first = FakePass(ALL, 500.0)
    machine.daemon.process, machine.daemon.world = first, WORLD  # type: ignore[assignment]
    for told, ends in ((WORLD, 90 + SLACK), ({"takes": 600.0}, 90 + 600 + SLACK)):
        first.documents = lambda told=told: [told]  # type: ignore[method-assign, misc]
        machine.daemon._hear_pass([first])
        assert machine.daemon.patience is not None and machine.daemon.patience.ends == machine.time + ends
        assert machine.daemon.report == {}


def test_a_pass_that_is_starved_has_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It went on with a small share of a processor: it is not begun again from nothing."""
    machine = Machine([ALL, ALL])
    monkeypatch.setattr("csagent.system.slowness.time.clock_gettime", lambda _clock: machine.time / 500)
    slow = FakePass(ALL, 1000.0)
    monkeypatch.setattr(slow, "end", lambda: pytest.fail("it was ended"))
    turns = iter([slow])
    machine.daemon.start = lambda *args: next(turns, None) or machine.start(*args)  # type: ignore[assignment]
    assert machine.run()[0].at > 1000


def test_events_that_never_end_get_fewer_and_fewer_passes() -> None:
    """A NIC that flaps every second costs a pass a minute in the end; a drive is not put off by it."""
    flapping = [(100.0 + second, "network") for second in range(400)]
    machine = Machine([ALL] * 14, flapping)
    seen = machine.run()
    gaps = [after.at - before.at for before, after in zip(seen[1:], seen[2:])]
    assert gaps[0] < 5 and sum(100 <= one.at <= 500 for one in seen) < 14 and max(gaps[:11]) >= 59
    with_drive = sorted([*flapping, (200.05, "drive")])
    assert any(200.05 <= one.at <= 201.5 for one in Machine([ALL] * 14, with_drive).run())


def test_a_reload_whose_pass_dies_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd hears READY after RELOADING whatever happens, and the next pass reads the settings."""
    told: List[str] = []
    monkeypatch.setattr("csagent.daemon.loop.notify", lambda *lines: told.extend(lines))
    machine = Machine([ALL, BUG, ALL], [(50, "reload")])
    start = machine.start

    def dies(prepare: Any, request: Dict[str, Any], log: Any) -> FakePass:
        made = start(prepare, request, log)
        if made.said is BUG:
            monkeypatch.setattr(made, "documents", lambda: setattr(made, "finished", True) or [BUG])
        return made

    machine.daemon.start = dies  # type: ignore[assignment]
    seen = machine.run()
    assert [one.settings for one in seen] == [None, None, None]
    states = [line for line in told if line in ("READY=1", "RELOADING=1")]
    assert states[:3] == ["READY=1", "RELOADING=1", "READY=1"] and states[-1] == "READY=1"


def test_ready_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd hears it before the first pass has begun: no login prompt waits for a source."""
    told: List[Any] = []
    machine = Machine([NOTHING, NOTHING])
    monkeypatch.setattr("csagent.daemon.loop.notify", lambda *lines: told.append((len(machine.seen), lines)))
    machine.run()
    assert [passes for passes, lines in told if "READY=1" in lines] == [0]


def test_a_pass_that_cannot_be_ended_is_one_line() -> None:
    """What hangs in the kernel is not asked to end a thousand times a second."""
    machine = Machine([ALL, ALL])
    stuck = FakePass(ALL, 400.0)
    killed: List[float] = []
    stuck.end = lambda: killed.append(machine.time)  # type: ignore[method-assign]
    turns = iter([stuck])
    machine.daemon.start = lambda *args: next(turns, None) or machine.start(*args)  # type: ignore[assignment]
    machine.run()
    assert 2 <= len(killed) <= 5


def test_process_1_lets_go_of_what_ends_between_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container whose process 1 it is, others' orphans are its own, and the next pass may be far."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    daemon = Machine([ALL]).daemon
    orphan = os.fork()
    if not orphan:
        os._exit(0)
    monkeypatch.setattr(daemon, "sleep", lambda *_: select.select([daemon.signals], [], [], 60)[0])
    daemon._wait()
    with pytest.raises(ChildProcessError):
        os.waitpid(orphan, 0)
