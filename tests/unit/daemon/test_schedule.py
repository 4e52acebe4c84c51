"""When the next pass is due, and how long it may wait: tables of moments, no clock and no process."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest

from csagent.daemon.schedule import (
    CLOSE_LOOK,
    FIRST_WAIT,
    GRACE,
    HURRY,
    NEVER,
    NEW_ACCOUNT_TRIES,
    PassReport,
    Schedule,
    doubled,
)

NOTHING: Dict[str, Any] = {
    "found": False, "finished": False, "partly": False, "drive": False, "router": False, "nics": False,
    "missing": False, "early": False, "failed": False, "current_at": 0.0,
}  # fmt: skip
ALL = {**NOTHING, "found": True, "finished": True, "router": True}
DRIVE = {**NOTHING, "found": True, "drive": True}
NICS = {**DRIVE, "nics": True}
PARTLY = {**NOTHING, "found": True, "partly": True, "router": True}
EARLY = {**ALL, "missing": True, "early": True}
MISSING = {**ALL, "missing": True}


def schedule(chance: float = 0.5) -> Schedule:
    return Schedule(0.0, CLOSE_LOOK, lambda: chance)


def passes(
    made: Schedule, reports: Sequence[Dict[str, Any]], at: float = 0.0, poll: float = 300.0, took: float = 1.0
) -> List[float]:
    """Seconds between the end of each pass and the next one."""
    gaps = []
    for report in reports:
        made.begin(at)
        made.ended()
        made.passed(PassReport(report), poll, at + took)
        gaps.append(round(made.due - at - took, 3))
        at = made.due
    return gaps


@pytest.mark.parametrize(
    ("reports", "at", "poll", "gaps"),
    [
        ([ALL, ALL], 0, 300, [300, 300]),
        ([ALL], 0, 0, [NEVER]),
        ([NOTHING, NOTHING, DRIVE], 0, 300, [1, 1, 1]),
        ([PARTLY] * 6, 0, 300, [1.5, 2.5, 4.5, 8.5, 15.5, 15.5]),
        ([NOTHING] * 7, 200, 300, [10, 20, 40, 80, 160, 300, 300]),
        ([NOTHING] * 7, 200, 0, [10, 20, 40, 80, 160, 300, 300]),
        ([NOTHING] * 2, 200, 5, [5, 5]),
        ([NOTHING, NOTHING, ALL, NOTHING], 200, 300, [10, 20, 300, 10]),
        ([EARLY, MISSING, MISSING, MISSING, MISSING, MISSING], 0, 300, [5, 10, 20, 40, 40, 300]),
        ([EARLY, ALL], 0, 300, [5, 300]),
        ([MISSING], 0, 300, [300]),
        ([EARLY], 200, 300, [300]),
    ],
)
def test_the_next_pass(reports: List[Dict[str, Any]], at: float, poll: float, gaps: List[float]) -> None:
    """After a whole pass the poll; in the close look soon, then longer and longer; early where keys may come.

    The last of the early looks is at the end of the close look, not beyond it.
    """
    assert passes(schedule(), reports, at, poll) == gaps


@pytest.mark.parametrize(("chance", "gap"), [(0.0, 270.0), (1.0, 330.0)])
def test_polls_are_spread(chance: float, gap: float) -> None:
    """By a tenth, so that a thousand VMs do not ask together."""
    assert passes(schedule(chance), [ALL]) == [gap]


def test_failures_take_longer_and_longer() -> None:
    """A machine at its end is not asked for a pass a second."""
    made, gaps = schedule(), []
    for _ in range(7):
        made.failed(0.0)
        gaps.append(made.due)
    assert gaps == [2, 4, 8, 16, 30, 30, 30] and made.failing
    made.passed(PassReport(ALL), 300.0, 0.0)
    assert not made.failing


@pytest.mark.parametrize(
    ("events", "due"),
    [
        ([(100.0, "lease")], 100.2),
        ([(100.0, "drive"), (100.1, "drive")], 100.3),
        ([(100.0 + n / 10, "network") for n in range(20)], 101.0),
        ([(0.5, "lease")], 1.0),
    ],
)
def test_an_event(events: List[Tuple[float, str]], due: float) -> None:
    """A pass when the burst is over, a second after it began at the latest, a second after the last pass."""
    made = schedule()
    made.begin(0.0)
    for at, name in events:
        made.event(name, at)
    assert made.due == pytest.approx(due)


def test_an_event_is_told_once_a_burst() -> None:
    """The log names each kind of event once between two passes."""
    made = schedule()
    assert [made.event(name, 10.0) for name in ("lease", "lease", "drive")] == [True, False, True]
    made.begin(11.0)
    assert made.event("lease", 12.0)


@pytest.mark.parametrize(
    ("current_at", "name", "due"),
    [
        (0.0, "lease", 1.0),
        (0.9, "lease", 301.0),
        (0.9, "clock", 1.0),
        (0.9, "account", 1.0),
        (0.9, "cloud-init", 1.0),
    ],
)
def test_an_event_during_a_pass(current_at: float, name: str, due: float) -> None:
    """Asks for another pass, unless this one has seen what it was about, which of some it cannot know."""
    made = schedule()
    made.begin(0.0)
    made.event(name, 0.5)
    made.passed(PassReport({**ALL, "current_at": current_at}), 300.0, 1.0)
    assert made.due == pytest.approx(due)


def test_a_nic_that_a_drive_names_does_not_wait_for_the_gap_of_a_minute() -> None:
    """A NIC that is plugged, and what csagent itself sets there, is told of again and again."""
    made, at = schedule(), 100.0
    made.passed(PassReport(NICS), 300.0, at)
    made.begin(at)
    for _ in range(8):
        made.event("network", at + 0.1)
        at = made.due
        made.begin(at)
    made.event("network", at + 0.1)
    assert made.due - at == pytest.approx(4.0)


def test_events_without_end_get_fewer_passes() -> None:
    """The gap between passes doubles up to a minute, and ends with a rest; drives are not put off."""
    made, at, gaps = schedule(), 100.0, []
    made.begin(at)
    for _ in range(8):
        made.event("network", at + 0.1)
        gaps.append(made.due - at)
        at = made.due
        made.begin(at)
    assert gaps == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])
    made.event("drive", at + 0.1)
    assert made.due - at == pytest.approx(1.0)
    made.begin(made.due)
    made.event("network", made.due + 500)
    assert made.due == pytest.approx(made._began + 500.2)


@pytest.mark.parametrize(
    ("last", "event", "cut"),
    [
        (None, "drive", False),
        (ALL, "drive", False),
        (DRIVE, "drive", True),
        (DRIVE, "lease", False),
        (DRIVE, "network", False),
        (DRIVE, "account", True),
        (DRIVE, "cloud-init", True),
        (ALL, "account", False),
        (NICS, "network", True),
        ({**NICS, "router": True}, "network", False),
    ],
)
def test_a_pass_is_cut_for_an_exchanged_drive(last: Optional[Dict[str, Any]], event: str, cut: bool) -> None:
    """Where the router gave nothing to the last whole pass; once only, until a pass was whole again."""
    made = schedule()
    if last is not None:
        made.passed(PassReport(last), 300.0, 0.0)
    made.begin(10.0)
    made.event(event, 12.0)
    assert (made.cut_at < NEVER) == cut
    if cut:
        made.cut()
        made.event("drive", 14.0)
        assert made.cut_at == NEVER


@pytest.mark.parametrize(
    ("last", "events", "rereading", "now", "grace"),
    [
        (None, [], False, 0.0, GRACE),
        (NOTHING, [], False, 40.0, GRACE),
        (DRIVE, [], False, 40.0, CLOSE_LOOK - 40),
        (DRIVE, [], True, 40.0, GRACE),
        (DRIVE, [], False, 500.0, GRACE),
        (DRIVE, ["drive"], False, 40.0, HURRY),
        (DRIVE, ["network"], False, 40.0, CLOSE_LOOK - 40),
        (NICS, ["network"], False, 40.0, HURRY),
        (DRIVE, ["account"], False, 40.0, HURRY),
        (DRIVE, ["cloud-init"], False, 40.0, HURRY),
        (NICS, ["lease"], False, 500.0, GRACE),
        (ALL, ["drive"], False, 500.0, GRACE),
        (NOTHING, ["drive"], False, 500.0, HURRY),
    ],
)
def test_what_the_router_gets_once_a_drive_is_read(
    last: Optional[Dict[str, Any]], events: List[str], rereading: bool, now: float, grace: float
) -> None:
    """The short grace; the rest of the close look after one was applied; nothing for an exchanged one."""
    made = schedule()
    if last is not None:
        made.passed(PassReport(last), 0.0, 0.0)
        made._close_until = CLOSE_LOOK
    for name in events:
        made.event(name, now)
    assert made.grace(now, rereading=rereading) == grace


@pytest.mark.parametrize(("report", "first"), [(DRIVE, HURRY), (ALL, GRACE)])
def test_a_new_account_that_is_not_whole_is_tried_again(report: Dict[str, Any], first: float) -> None:
    """Its line in /etc/passwd comes before its home; the close look's router does not get its whole wait."""
    made, at, pauses, graces = Schedule(0.0, 1000.0, lambda: 0.5), 10.0, [], []
    made.passed(PassReport(report), 300.0, 0.0)
    made.event("account", at)
    for _ in range(NEW_ACCOUNT_TRIES):
        graces.append(made.grace(at, rereading=False))
        made.begin(at)
        made.passed(PassReport({**report, "failed": True}), 300.0, at)
        pauses.append(made.due - at)
        at = made.due
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert graces == [first] + [GRACE] * (NEW_ACCOUNT_TRIES - 1)
    made.begin(at)
    made.passed(PassReport({**report, "finished": True, "failed": True}), 300.0, at)
    assert made.due - at == 300.0, "a failure that stays is left to the poll"


def test_a_new_account_that_has_all_it_wants_is_left_alone() -> None:
    """A failure of later on is no new account's."""
    made = schedule()
    made.event("account", 10.0)
    made.begin(10.2)
    made.passed(PassReport(ALL), 300.0, 11.0)
    made.begin(311.0)
    made.passed(PassReport({**ALL, "failed": True}), 300.0, 312.0)
    assert made.due == 612.0


@pytest.mark.parametrize(
    ("now", "passed", "wait"),
    [
        (0.0, False, FIRST_WAIT),
        (100.0, False, 20.0),
        (40.0, True, 80.0),
        (120.0, True, None),
        (500.0, False, None),
    ],
)
def test_what_a_pass_may_wait(now: float, passed: bool, wait: Optional[float]) -> None:
    """The close look's rest, less of it for the first pass; after it what the setting says."""
    made = schedule()
    if passed:
        made.passed(PassReport(NOTHING), 300.0, 5.0)
    assert made.source_wait(now) == wait


def test_the_close_look_is_over_once_everything_answered() -> None:
    """Later passes wait as long as the setting says."""
    made = schedule()
    made.passed(PassReport(ALL), 300.0, 5.0)
    assert made.source_wait(6.0) is None


def test_doubling_ends() -> None:
    """However often, the longest is the longest."""
    assert [doubled(1.0, times, 30.0) for times in (-1, 0, 3, 5, 10_000)] == [1.0, 1.0, 8.0, 30.0, 30.0]
