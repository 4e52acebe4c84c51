"""The lock of a pass: who waits for it how long, on a clock of the test's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Callable, Iterator, List

import pytest
from support.printed_lines import line_of
from support.replace_fields import replace

from csagent.errors import CsagentError
from csagent.state import lock
from csagent.system.seams import Clock, System
from csagent.system.slowness import STUCK_SHARE

HOLDER = """
import sys
from csagent.state import lock
from csagent.system.seams import System
with lock.hold(System.at(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
MINUTE = 60.0


class Hurried(Clock):
    """Every look at it costs ten seconds."""

    now_is = 0.0

    def monotonic(self) -> float:
        self.now_is += 10.0
        return self.now_is


@pytest.fixture
def hurried(system: System) -> System:
    return replace(system, clock=Hurried())


@pytest.fixture
def other(tree: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Another csagent, which holds the lock until its standard input is closed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tree)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert line_of(process) == b"held\n"
            yield process
        finally:
            process.kill()


def lets_go(other: "subprocess.Popen[bytes]") -> None:
    assert other.stdin is not None
    other.stdin.close()
    assert other.wait(60) == 0


def uses(monkeypatch: pytest.MonkeyPatch, used: Callable[[int], float]) -> None:
    """Let the holder's processor time be what this says."""
    monkeypatch.setattr("csagent.system.slowness.family_seconds", used)


def test_who_cannot_come_back_waits_however_long_it_takes(
    hurried: System, other: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """User-data is run once, and nobody does later what it has not done: a day, and that is said once."""
    said: List[str] = []

    class Patient(Hurried):
        def monotonic(self) -> float:
            if self.now_is > 86400.0 and other.poll() is None:
                lets_go(other)
            return super().monotonic()

    monkeypatch.setattr(lock, "PAUSE", 0.0)
    uses(monkeypatch, lambda _pid: 1.0)
    with lock.hold(replace(hurried, clock=Patient()), say=lambda text, **_fields: said.append(text)):
        assert other.poll() == 0
    assert said == ["another csagent is changing this machine: waiting for its end"]


def test_a_pass_waits_as_long_as_the_other_goes_on(
    hurried: System, other: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """A starved pass holds it for minutes; the daemon is told that the wait goes on."""
    asked: List[int] = []
    told: List[float] = []

    def slowly(pid: int) -> float:
        asked.append(pid)
        return len(asked) * 2 * STUCK_SHARE * lock.LONGEST

    def takes(seconds: float) -> None:
        told.append(seconds)
        if len(told) == 4:
            lets_go(other)

    uses(monkeypatch, slowly)
    with lock.hold(hurried, takes=takes):
        pass
    assert set(asked) == {other.pid}, "it has written down who it is"
    assert told == sorted(told) and told[0] >= MINUTE and told[-1] > 4 * MINUTE


def test_a_pass_gives_up_on_one_that_hangs(
    hurried: System, other: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute; and where it went on at first, at the next look after that."""
    uses(monkeypatch, lambda _pid: 1.0)
    words = r"another csagent holds .*; try again when it is done"
    with pytest.raises(CsagentError, match=words), lock.hold(hurried):
        pass
    assert hurried.clock.now_is < 2 * MINUTE  # type: ignore[attr-defined]
    used = iter([1.0, 1.1])
    uses(monkeypatch, lambda _pid: next(used, 1.1))
    told: List[float] = []
    with pytest.raises(CsagentError), lock.hold(hurried, takes=told.append):
        pass
    assert len(told) == 1


def test_the_next_one_has_its_own_minute(
    hurried: System, tree: Path, other: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one that waited, too, was faster: its time begins when it is seen."""
    uses(monkeypatch, lambda _pid: 1.0)
    told: List[float] = []

    def takes(seconds: float) -> None:
        told.append(seconds)

    path = tree / lock.LOCK.lstrip("/")
    path.write_text(f"{other.pid}\n")

    class Changing(Hurried):
        def monotonic(self) -> float:
            if self.now_is == MINUTE:
                path.write_text("1\n")
            return super().monotonic()

    with pytest.raises(CsagentError), lock.hold(replace(hurried, clock=Changing()), takes=takes):
        pass
    assert told == [MINUTE]


def test_who_lets_go_leaves_nobody_in_the_file(system: System, tree: Path) -> None:
    """A number that nobody has any longer may be another's."""
    path = tree / lock.LOCK.lstrip("/")
    with lock.hold(system):
        assert path.read_bytes().strip().isdigit()
    assert path.read_bytes() == b""
