"""Whole processes, measured: wall and processor time with their children, memory, files, system calls."""

from __future__ import annotations

import functools
import os
import re
import statistics
import subprocess
import sys
import tempfile
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

PYTHON = sys.executable
CSAGENT = [PYTHON, "-I", os.path.join(os.path.dirname(PYTHON), "csagent")]
# A call of one process that another's cuts in two ends on a line of its own.
OPENED = re.compile(r"^(?:\d+ +)?(?:open(?:at)?\(|<\.\.\. open(?:at)? resumed>).*\) += \d+$")
CALL = re.compile(r"^(?:\d+ +)?[a-z_0-9]+\(")


# Runs csagent in its own process, and says on standard error how much memory that has held at most.
PEAK = """
import os, sys
leave = os._exit
def last(code):
    with open("/proc/self/status") as status:
        held = next(line for line in status if line.startswith("VmHWM")).split()[1]
    os.write(2, f"\\npeak {held}".encode())
    leave(code)
os._exit = last
sys.argv[0] = "csagent"
from csagent.cli.main import entry
entry()
"""


class Cost(NamedTuple):
    """What one process took, the children it waited for included."""

    wall: float  # seconds
    cpu: float  # seconds, user and system
    memory: int  # KiB, of the largest of these processes


class Traced(NamedTuple):
    """What strace saw of a process and its children, and the modules that the process itself imported."""

    files: int  # opened, the ones that were not there left out
    calls: int
    modules: int


class Launcher:
    """launch.py, for as long as this process lives."""

    def __init__(self) -> None:
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launch.py")
        self._process = subprocess.Popen(
            [PYTHON, "-I", "-S", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, command: Sequence[str]) -> Cost:
        """Run it once.

        Raises:
            RuntimeError: it did not succeed.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\0".join(command) + "\n")
        self._process.stdin.flush()
        wall, cpu, memory, status = self._process.stdout.readline().split()
        if status != "0":
            raise RuntimeError(f"{' '.join(command)}: ended with status {status}")
        return Cost(float(wall), float(cpu), int(memory))


@functools.cache
def launcher() -> Launcher:
    """The one that all share."""
    return Launcher()


def run(command: Sequence[str]) -> Cost:
    """Run a command once, its output thrown away; see `Launcher.run`."""
    return launcher().run(command)


def median(costs: Sequence[Cost]) -> Cost:
    """The median of each."""
    walls, cpus, memories = zip(*costs)
    return Cost(statistics.median(walls), statistics.median(cpus), int(statistics.median(memories)))


def paired(kinds: Dict[str, Callable[[], Cost]], runs: int) -> Dict[str, Cost]:
    """Medians of so many rounds, in each of which every kind is run once; a round before them warms up."""
    costs: Dict[str, List[Cost]] = {kind: [] for kind in kinds}
    for number in range(runs + 1):
        for kind, once in kinds.items():
            cost = once()
            if number:
                costs[kind].append(cost)
    return {kind: median(each) for kind, each in costs.items()}


def traced(command: Sequence[str]) -> Optional[Traced]:
    """What it opens, calls and imports; None where strace cannot be had."""
    with tempfile.NamedTemporaryFile("r", prefix="csagent-bench-") as log:
        try:
            subprocess.run(
                ["strace", "-f", "-qq", "-s", "8", "-o", log.name, *command],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=300,
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        lines = log.read().splitlines()
    return Traced(
        sum(bool(OPENED.match(line)) for line in lines),
        sum(bool(CALL.match(line)) for line in lines),
        modules(command),
    )


def own_peak(arguments: Sequence[str]) -> int:
    """KiB that csagent's own process holds at its height, given these arguments; no child counts."""
    return int(_told([PYTHON, "-I", "-c", PEAK, *arguments]).rpartition("peak ")[2])


def _told(command: Sequence[str]) -> str:
    """What a command says on standard error; 1 is for doctor and seal --check to end with.

    Raises:
        RuntimeError: it ended with another status.
    """
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=300)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{' '.join(command)}: ended with status {done.returncode}")
    return done.stderr


def modules(command: Sequence[str]) -> int:
    """How many modules the process itself imports; its children's standard error is elsewhere by then."""
    return len(imported(command))


def imported(command: Sequence[str]) -> List[str]:
    """The names of these modules, in the order in which they were done; `command` starts with a Python."""
    told = _told([command[0], "-X", "importtime", *command[1:]])
    lines = [line.split("|") for line in told.splitlines() if line.startswith("import time:")]
    return [line[2].strip() for line in lines if len(line) == 3 and line[2].strip() != "imported package"]
