"""How long a daemon takes to apply all with a small share of a processor."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Callable, List, NamedTuple

from support.processor_quota import quota
from support.running_daemon import CLOUD, Running

PARTS = ("etc", "root", "run", "var")  # of the tree, which a daemon writes to


class Arrival(NamedTuple):
    """From its start to its having applied all."""

    share: float  # of one processor
    needed: float  # seconds of processor time, when it has a whole one
    took: float  # seconds, with that share

    @property
    def times(self) -> float:
        """By how much it took longer than the share explains."""
        return self.took * self.share / self.needed


def arrival(start: Callable[[], Running], tree: Path, share: float, limit: float = 3.0) -> Arrival:
    """Start a daemon twice on the same tree, the second time with a share only.

    Args:
        start: begins a daemon on the tree, whose source is a machine as `CLOUD` has it.
        limit: of `Arrival.times`.

    Raises:
        AssertionError: it has ended, or not arrived within the limit.
    """
    with tempfile.TemporaryDirectory(prefix="csagent-starved-") as kept:
        fresh = Path(kept) / "fresh"
        before = _used()
        shutil.copytree(tree, fresh)
        running = start()
        _wait_for(running, tree, float("inf"))
        running.stop()
        needed = _used() - before
        for part in PARTS:
            shutil.rmtree(tree / part)
            shutil.copytree(fresh / part, tree / part)
    assert len(missing(tree)) == 4
    with quota(share, f"csagent-test-{os.getpid()}") as processor:
        starved = start()
        processor.take(starved.process.pid)
        return Arrival(share, needed, _wait_for(starved, tree, limit * needed / share))


def _wait_for(daemon: Running, tree: Path, limit: float) -> float:
    """Seconds until it has applied all; fewer than the limit."""
    began = time.monotonic()
    while missing(tree):
        assert time.monotonic() - began < limit, (missing(tree), daemon.heard)
        assert daemon.process.poll() is None
        time.sleep(0.05)
    return time.monotonic() - began


def missing(tree: Path) -> List[str]:
    """What is not applied yet."""
    keys, shadow = tree / "root/.ssh/authorized_keys", (tree / "etc/shadow").read_text()
    there = {
        "name": (tree / "etc/hostname").read_text() == f"{CLOUD.hostname}\n",
        "keys": keys.exists() and CLOUD.ssh_keys[0] in keys.read_text(),
        "password": shadow.startswith("root:$"),
        "status": (tree / "run/csagent/status.json").exists(),  # which comes behind the acknowledgement
    }
    return [what for what, is_there in there.items() if not is_there]


def _used() -> float:
    """Seconds of processor time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
