"""The daemon does not grow: many passes, and nothing of them stays."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List, NamedTuple

import pytest
from support.running_daemon import CLOUD, Running, until

PASSES = int(os.environ.get("CSAGENT_SOAK", "25"))
RSS_LIMIT = 16 * 1024  # KiB
GROWTH_LIMIT = 1024  # KiB


class Size(NamedTuple):
    """What a process holds."""

    rss: int  # KiB
    descriptors: int
    children: List[str]


def size(pid: int) -> Size:
    """Of the daemon, between two passes."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    until(lambda: not children.read_text().strip())
    rss = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert rss is not None
    return Size(int(rss[1]), len(os.listdir(f"/proc/{pid}/fd")), children.read_text().split())


def test_it_stays_small(daemon: Any, servers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """16 MiB resident at most; less than 1 MiB more however many passes it runs, and nothing kept open."""
    router = servers.lab(CLOUD)
    running: Running = daemon(router.port, router.password_port, "poll: 0.1\n")
    asked = lambda: sum(request.what == "send_my_password" for request in router.requests)  # noqa: E731
    until(lambda: asked() >= 3)
    before = size(running.process.pid)
    done = 0
    end = time.monotonic() + 120.0 + PASSES * 60.0
    while done < PASSES and time.monotonic() < end:
        done += asked()
        router.requests.clear()
        running.told("STATUS")  # systemd reads what it is told
        time.sleep(0.2)
    after = size(running.process.pid)
    with capsys.disabled():
        if PASSES > 1000:
            print(f"\n{done} passes: {before} {after}")  # noqa: T201
    assert done >= PASSES
    assert after.rss <= RSS_LIMIT and after.rss - before.rss < GROWTH_LIMIT, (before, after)
    assert after.descriptors <= before.descriptors and after.children == []


TURNS = int(os.environ.get("CSAGENT_SOAK_TURNS", "300"))

MANY_TURNS = """
import os, sys
from csagent.daemon.loop import Daemon
from csagent.daemon.schedule import Schedule
from csagent.errors import CsagentError
from csagent.log import Log

def size():
    with open("/proc/self/status") as stream:
        rss = next(line.split()[1] for line in stream if line.startswith("VmRSS"))
    return int(rss), len(os.listdir("/proc/self/fd"))

def prepare(plain):
    raise CsagentError("EXAMPLE")

class Hurried(Schedule):
    passes = 0
    def failed(self, now):
        self.passes += 1
        self.again()
        if self.passes in (100, int(sys.argv[1])):
            print(self.passes, *size())
        daemon.signals.stop = self.passes >= int(sys.argv[1])

daemon = Daemon(prepare, Log(-1))
daemon.schedule = Hurried(0.0, 0.0)
assert daemon.run() == 0
"""


def test_its_turns_leave_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The resident process forks for every pass: after the hundredth and after the last it is as large."""
    done = subprocess.run(
        [sys.executable, "-c", MANY_TURNS, str(TURNS)],
        capture_output=True,
        text=True,
        timeout=600 + 10 * TURNS,
        check=True,
    )
    early, late = (list(map(int, line.split())) for line in done.stdout.splitlines())
    with capsys.disabled():
        if TURNS > 1000:
            print(f"\nturns, KiB, descriptors: {early} {late}")  # noqa: T201
    assert late[1] - early[1] < GROWTH_LIMIT and late[2] == early[2]
