"""How long a process is waited for, on a clock of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import List, Tuple

import pytest

from csagent.system.seams import Runner
from csagent.system.slowness import LONGEST, MOST, Patience, family_seconds, processor_seconds, slowness


class Process:
    """One that uses a share of a processor until it hangs; time passes as the test says."""

    def __init__(self, share: float, hangs_at: float = float("inf")) -> None:
        self.now = 1000.0
        self._share, self._hangs_at = share, hangs_at

    def used(self, _pid: int) -> float:
        return self._share * min(self.now - 1000.0, self._hangs_at)

    def given_up_after(self, seconds: float, longest: float = LONGEST) -> Tuple[float, List[float]]:
        """Seconds until it is given up, and when it was looked at."""
        patience = Patience(1, seconds, self.now, longest, self.used)
        looks: List[float] = []
        while len(looks) < 100:
            self.now = patience.ends
            looks.append(self.now - 1000.0)
            if patience.over(self.now):
                return self.now - 1000.0, looks
        raise AssertionError("it is waited for without an end")


def test_who_is_starved_has_twice_the_time_again_and_again_to_the_end() -> None:
    """A thousandth of a processor is progress: the time is doubled until the longest is over."""
    after, looks = Process(0.001).given_up_after(20.0)
    assert after == LONGEST and looks == [20, 40, 80, 160, 320, 600]


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_who_hangs_or_has_all_it_wants_is_given_up(share: float) -> None:
    """No progress means that it waits for something else; a large share that it is slow by itself."""
    assert Process(share).given_up_after(20.0)[0] == 20.0


def test_who_hangs_in_the_end_is_given_up_at_the_next_look() -> None:
    """What it used before it hung does not count twice."""
    assert Process(0.01, hangs_at=30.0).given_up_after(20.0)[0] == 80.0
    assert Process(0.01, hangs_at=5.0).given_up_after(20.0)[0] == 40.0


def test_an_end_that_is_set_holds() -> None:
    """Whoever set an end of the wait does not get more."""
    process = Process(0.01)
    patience = Patience(1, 20.0, process.now, LONGEST, process.used).at_most(process.now + 25.0)
    process.now += 20.0
    assert not patience.over(process.now) and patience.ends == 1025.0
    process.now += 5.0
    assert patience.over(process.now)
    assert Patience(1, 20.0, 1000.0).at_most(1003.0).ends == 1003.0


def test_before_its_time_is_over_nobody_looks() -> None:
    """The kernel is asked at the end of the time only."""
    asked: List[int] = []
    patience = Patience(1, 20.0, 1000.0, LONGEST, lambda pid: (asked.append(pid), 0.0)[1])
    assert not patience.over(1019.9) and len(asked) == 1


@pytest.mark.parametrize(
    ("elapsed", "used", "times"),
    [
        (0.1, 0.08, 1.0),
        (1.1, 0.08, 1.25),
        (5.0, 5.0, 1.0),
        (5.0, 0.2, 20.0),
        (100.0, 0.1, MOST),
        (9.0, 0.0, MOST),
    ],
)
def test_slowness(elapsed: float, used: float, times: float) -> None:
    """1 where there is a processor, a cold disk included; what it took per second of processor else."""
    assert slowness(elapsed, used) == pytest.approx(times)


def test_the_kernel_says_what_another_process_has_used() -> None:
    """While it runs and when it has ended, but not when it is gone."""
    pid = os.fork()
    if pid == 0:
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    used = processor_seconds(pid)
    assert used is not None and 0.1 <= used < 1.0
    os.waitpid(pid, 0)
    assert processor_seconds(pid) is None


def test_a_command_that_is_starved_has_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """chpasswd's time-out is for one that hangs: one that goes on slowly is heard to its end."""
    used = iter(range(1, 1000))
    monkeypatch.setattr("csagent.system.slowness.STARVED_SHARE", float("inf"))
    monkeypatch.setattr("csagent.system.slowness.time.clock_gettime", lambda _clock: float(next(used)))
    done = Runner().run(["sh", "-c", "sleep 1; echo done"], timeout=0.1)
    assert (done.code, done.output) == (0, b"done\n")
    monkeypatch.setattr("csagent.system.slowness.time.clock_gettime", lambda _clock: 1.0)
    assert Runner().run(["sleep", "60"], timeout=0.1).error == b"no end after 0.1 s"


FAMILY = """
import os, sys, time
def burn():
    while time.process_time() < 0.2:
        pass
for generation in range(2):
    if os.fork():
        os.wait() if generation else sys.stdin.read()
        os._exit(0)
burn()
os._exit(0)
"""


def test_what_children_have_used_counts() -> None:
    """A pass waits for its children most of the time: for those that work, and those that have ended."""
    with subprocess.Popen([sys.executable, "-c", FAMILY], stdin=subprocess.PIPE) as family:
        end = time.monotonic() + 120.0
        while (family_seconds(family.pid) or 0.0) < 0.1 and time.monotonic() < end:
            time.sleep(0.05)
        used, alone = family_seconds(family.pid), processor_seconds(family.pid)
        assert used is not None and alone is not None and alone < used
        assert used >= 0.1, "of its child's child, and still when that has ended"
        family.kill()
    assert family_seconds(family.pid) is None and family_seconds(-1) is None
