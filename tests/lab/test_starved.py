"""The daemon with a small share of a processor: it arrives, and no later than the share explains."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, Callable

import pytest
from support.running_daemon import CLOUD, Running
from support.starved_daemon import arrival

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


@pytest.mark.parametrize("share", SHARES)
def test_it_arrives(start: Callable[[], Running], tree: Path, share: float) -> None:
    """It has applied all within three times the processor time that this takes, divided by the share."""
    found = arrival(start, tree, share)
    logging.getLogger(__name__).info(
        f"share {share}: {found.needed:.2f} s of processor, {found.took:.0f} s, {found.times:.2f} times"
    )
