"""The daemon with a small share of a processor: it arrives, and no later than the share explains."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import time
from pathlib import Path
from typing import Any, Callable, List

import pytest
from support.processor_quota import quota
from support.running_daemon import CLOUD, Running

from csagent.lab import drive

# `CSAGENT_SHARES="0.004 0.001"` for more: 0.4 % takes a minute and a half, 0.1 % six minutes.
SHARES = [float(word) for word in os.environ.get("CSAGENT_SHARES", "0.02").split()]


@pytest.fixture(params=["router", "drive"])
def start(request: Any, daemon: Any, servers: Any, tree: Path) -> Callable[[], Running]:
    """Starts a daemon that has one source, with a password that nobody has fetched before."""

    def with_router() -> Running:
        router = servers.lab(CLOUD)
        running: Running = daemon(router.port, router.password_port)
        return running

    def with_drive() -> Running:
        if not (tree / "d.iso").exists():
            drive.build(str(tree / "d.iso"), drive.files_for(CLOUD))
        running: Running = daemon(None, 0, "", "--drive", str(tree / "d.iso"))
        return running

    return with_router if request.param == "router" else with_drive


def used() -> float:
    """Seconds of processor time of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def missing(tree: Path) -> List[str]:
    """What is not applied yet."""
    keys, shadow = tree / "root/.ssh/authorized_keys", (tree / "etc/shadow").read_text()
    there = {
        "name": (tree / "etc/hostname").read_text() == "web01\n",
        "keys": keys.exists() and CLOUD.ssh_keys[0] in keys.read_text(),
        "password": shadow.startswith("root:$"),
        "status": (tree / "run/csagent/status.json").exists(),  # which comes behind the acknowledgement
    }
    return [what for what, is_there in there.items() if not is_there]


@pytest.mark.parametrize("share", SHARES)
def test_it_arrives(start: Callable[[], Running], tree: Path, tmp_path_factory: Any, share: float) -> None:
    """It has applied all within three times the processor time that this takes, divided by the share."""
    before, fresh = used(), tmp_path_factory.mktemp("trees") / "fresh"
    shutil.copytree(tree, fresh)
    running = start()
    while missing(tree):
        assert running.process.poll() is None
        time.sleep(0.05)
    running.stop()
    needed = used() - before
    for part in ("etc", "root", "run", "var"):
        shutil.rmtree(tree / part)
        shutil.copytree(fresh / part, tree / part)
    assert len(missing(tree)) == 4
    with quota(share, f"csagent-test-{os.getpid()}") as processor:
        starved = start()
        processor.take(starved.process.pid)
        began = time.monotonic()
        while missing(tree):
            assert time.monotonic() - began < 3 * needed / share, (missing(tree), starved.heard)
            assert starved.process.poll() is None
            time.sleep(0.05)
        took = time.monotonic() - began
    times = took * share / needed
    logging.getLogger(__name__).info(
        f"share {share}: {needed:.2f} s of processor, {took:.0f} s, {times:.2f} times"
    )
