"""Processes with a small share of a processor: by the kernel's quota, else stopped and continued by turns."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Iterator, List, Optional

V1 = Path("/sys/fs/cgroup/cpu")
V2 = Path("/sys/fs/cgroup")
SLICE = 0.001  # seconds of processor in each period: the least that the kernel gives
LONGEST_PERIOD = 1.0  # seconds, the kernel's too


class Quota:
    """A share of one processor for a process and all that it starts.

    Args:
        share: of one processor, 0.001 and more.
        name: of the cgroup.
    """

    def __init__(self, share: float, name: str) -> None:
        self.period = SLICE / share
        assert self.period <= LONGEST_PERIOD
        self._group = _group(name, self.period)
        self._feeder: Optional["_Feeder"] = None

    def take(self, pid: int) -> None:
        """Put a process under it that has just been started."""
        if self._group is not None:
            (self._group / "cgroup.procs").write_text(str(pid))
        else:
            self._feeder = _Feeder(pid, self.period)

    def close(self) -> None:
        """Give the processes what they want again."""
        if self._feeder is not None:
            self._feeder.stop()
        if self._group is not None:
            _lift(self._group)


@contextlib.contextmanager
def quota(share: float, name: str) -> Iterator[Quota]:
    """A `Quota` that is lifted at the end."""
    made = Quota(share, name)
    try:
        yield made
    finally:
        made.close()


def _group(name: str, period: float) -> Optional[Path]:
    """A cgroup with that quota; None where there is none to be had."""
    slice_us, period_us = int(SLICE * 1e6), int(period * 1e6)
    try:
        if (V1 / "cpu.cfs_quota_us").exists() or (V1 / "cpu.shares").exists():
            group = V1 / name
            group.mkdir()
            (group / "cpu.cfs_period_us").write_text(str(period_us))
            (group / "cpu.cfs_quota_us").write_text(str(slice_us))
            return group
        if "cpu" in (V2 / "cgroup.subtree_control").read_text().split():
            group = V2 / name
            group.mkdir()
            (group / "cpu.max").write_text(f"{slice_us} {period_us}")
            return group
    except OSError:
        pass
    return None


def _lift(group: Path) -> None:
    """No quota any more; processes that are left go where they came from."""
    with contextlib.suppress(OSError):
        if (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_quota_us").write_text("-1")
        else:
            (group / "cpu.max").write_text("max")
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(OSError):
                    (group.parent / "cgroup.procs").write_text(pid)
            group.rmdir()
            return
        time.sleep(0.1)


class _Feeder(threading.Thread):
    """Lets a process and all below it run for a moment in each period."""

    def __init__(self, pid: int, period: float) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._period = period
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.wait(self._period - SLICE):
            self._send(signal.SIGCONT)
            self._over.wait(SLICE)
            self._send(signal.SIGSTOP)
        self._send(signal.SIGCONT)

    def stop(self) -> None:
        self._over.set()
        self.join(300)

    def _send(self, number: int) -> None:
        for pid in self._members():
            with contextlib.suppress(OSError):
                os.kill(pid, number)

    def _members(self) -> List[int]:
        """The process, and those below it that have not been left behind."""
        parents = {}
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    fields = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                    parents[int(name)] = int(fields[1])
        found = {self._pid}
        while True:
            more = {pid for pid, parent in parents.items() if parent in found} - found
            if not more:
                return sorted(found)
            found |= more
