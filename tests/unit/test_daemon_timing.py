"""When the daemon looks, for how long, and what it waits for, on a clock that does not tick by itself."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import Any, Iterator, List, Tuple

import pytest

from csagent import daemon as daemon_module
from csagent.children import Options
from csagent.daemon import CLOSE_LOOK, FIRST_BUDGET, Daemon
from csagent.errors import EXIT_NO_SOURCE, EXIT_OK
from csagent.log import Log
from csagent.model import Found, Observation, Observed
from csagent.observe import GRACE
from csagent.plan import Report
from csagent.settings import Settings
from csagent.system import Clock, System

NOTHING = Report(Observed(Found(), Observation()), (), 0.0, 0.0, EXIT_NO_SOURCE)
DRIVE = replace(
    NOTHING,
    exit_code=EXIT_OK,
    observed=Observed(Found(), Observation(source_found=True, provenance={"hostname": "drive /dev/sr1"})),
)


class Still(Clock):
    """A clock that moves when the daemon waits."""

    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        return self.time


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """The daemon's signal handlers do not outlive the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


def passes_of(
    monkeypatch: pytest.MonkeyPatch, tree: Any, reports: List[Any], reload_after: int = 0
) -> List[Tuple[float, float, float]]:
    """Run the daemon until the reports are used up: (seconds since start, wait, grace) of each pass."""
    clock = Still()
    system = replace(System.at(str(tree)), clock=clock)
    seen: List[Tuple[float, float, float]] = []
    running = Daemon(system, Settings(poll=300), Options(), Log(0), Settings)

    def run_pass(*_: Any, wait: float, grace: float, **__: Any) -> Report:
        seen.append((round(clock.time - 1000), round(wait), round(grace)))
        report = reports[len(seen) - 1]
        clock.time += wait if report is NOTHING else 1.0
        running.signals.reload = len(seen) == reload_after
        if len(seen) == len(reports):
            running.signals.stop = True
        if isinstance(report, Exception):
            raise report
        return report  # type: ignore[no-any-return]

    def pause(seconds: float) -> bool:
        clock.time += seconds
        return running.signals.stop

    monkeypatch.setattr(daemon_module.agent, "run_pass", run_pass)
    monkeypatch.setattr(running, "_pause", pause)
    assert running.run() == 0
    return seen


def test_two_minutes_of_close_look_then_the_poll(monkeypatch: pytest.MonkeyPatch, tree: Any) -> None:
    """A first budget, then the rest of two minutes, then a pass for each poll period."""
    seen = passes_of(monkeypatch, tree, [NOTHING] * 4)
    assert [one[1] for one in seen] == [FIRST_BUDGET, CLOSE_LOOK - FIRST_BUDGET - 1, 10, 10]
    assert 121 + 0.9 * 300 <= seen[3][0] <= 131 + 1.1 * 300 + 1


def test_a_drive_that_comes_late_is_not_made_to_wait(monkeypatch: pytest.MonkeyPatch, tree: Any) -> None:
    """As long as no drive has been applied, one that appears gets the short grace."""
    assert [one[2] for one in passes_of(monkeypatch, tree, [NOTHING, NOTHING, NOTHING])] == [GRACE] * 3


def test_after_a_drive_the_router_gets_the_rest(monkeypatch: pytest.MonkeyPatch, tree: Any) -> None:
    """A drive that has been applied does not cut the wait for a late router short again."""
    seen = passes_of(monkeypatch, tree, [DRIVE, DRIVE])
    assert seen[0][2] == GRACE and seen[1][2] > 100


def test_after_a_reload_the_drive_is_hurried_for(monkeypatch: pytest.MonkeyPatch, tree: Any) -> None:
    """What the new settings make of a drive that is known does not wait for the router either."""
    seen = passes_of(monkeypatch, tree, [DRIVE, DRIVE, DRIVE], reload_after=1)
    assert [one[2] == GRACE for one in seen] == [True, True, False]


def test_a_pass_that_fails_badly_does_not_end_the_daemon(monkeypatch: pytest.MonkeyPatch, tree: Any) -> None:
    """Even a bug costs one pass: the next one is run."""
    seen = passes_of(monkeypatch, tree, [RuntimeError("bug"), MemoryError(), NOTHING])
    assert len(seen) == 3
