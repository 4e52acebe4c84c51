"""How slow this machine is for us, and how long a process is waited for.

A guest may get a thousandth of a processor: from an overcommitted host, or beside a boot that wants all of
it. What then takes long is not stuck. The kernel says what processor time a process has used; that it waited
for the processor is no part of it.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # the resident daemon does without typing
if TYPE_CHECKING:
    from typing import Callable, Dict, Optional

    Used = Callable[[int], Optional[float]]

DISK_SECONDS = 1.0  # that reading its libraries from a cold disk may take
MOST = 30.0  # times that a peer is given; of a thousandth of a processor one reply takes some 10 s
STUCK_SHARE = 0.0002  # of a processor: who uses less waits for something else
STARVED_SHARE = 0.5  # who uses more gets what it wants, and is slow by itself
LONGEST = 600.0  # seconds


def processor_seconds(pid: int) -> Optional[float]:
    """Processor time of a process with all its threads; None where there is no such process.

    By its clock (clock_getcpuclockid(3), linux/posix-timers.h): /proc of another user's may be hidden.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return None


def family_seconds(pid: int) -> Optional[float]:
    """Processor time of a process and of all that it has started, ended or not; None where it is gone.

    For one that waits for its children most of the time. By proc_pid_stat(5), where those that have ended
    count for who has waited for them.
    """
    parents: Dict[int, int] = {}
    ticks: Dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stream:
                    fields = stream.read().rpartition(b")")[2].split()
            except OSError:
                continue  # it is gone, or hidden
            parents[int(name)] = int(fields[1])
            ticks[int(name)] = sum(int(field) for field in fields[11:15])
    if pid not in ticks:
        return None
    family = {pid}
    more = family
    while more:
        more = {one for one, parent in parents.items() if parent in more} - family
        family |= more
    return sum(ticks[one] for one in family) / float(os.sysconf("SC_CLK_TCK"))


def slowness(elapsed: float, used: float) -> float:
    """How many times as long things take here as on an idle machine, 1 to `MOST`.

    Args:
        elapsed: seconds that a piece of our own work took.
        used: of those, seconds of processor time.
    """
    return min(max((elapsed - DISK_SECONDS) / max(used, 0.001), 1.0), MOST)


class Patience:
    """When a process is given up: after its time, which is doubled as long as it is starved of processor.

    Starved is who went on, with a small share of a processor. Who has not gone on hangs, in the kernel say.

    Args:
        pid: of the process.
        seconds: its time, where it is not starved.
        now: when that begins, on the monotonic clock.
        longest: seconds after which it is given up in any case.
        used: says how much processor time it has used.
    """

    def __init__(
        self,
        pid: int,
        seconds: float,
        now: float,
        longest: float = LONGEST,
        used: Used = processor_seconds,
    ) -> None:
        self.ends = now + seconds  # when to ask `over`
        self._pid, self._used_by = pid, used
        self._began = self._looked = now
        self._used = used(pid) or 0.0
        self._last = now + max(longest, seconds)

    def at_most(self, moment: float) -> "Patience":
        """The same, and over at that moment at the latest."""
        self.ends, self._last = min(self.ends, moment), min(self._last, moment)
        return self

    def over(self, now: float) -> bool:
        """Whether to give it up; where it is starved, its time is doubled instead."""
        if now < self.ends:
            return False
        if now >= self._last or not self._is_starved(now):
            return True
        self.ends = min(now + (now - self._began), self._last)
        return False

    def _is_starved(self, now: float) -> bool:
        used, elapsed = self._used_by(self._pid) or 0.0, now - self._looked
        gone_on = used - self._used
        self._used, self._looked = used, now
        return STUCK_SHARE * elapsed < gone_on < STARVED_SHARE * elapsed
