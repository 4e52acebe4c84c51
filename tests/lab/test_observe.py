"""Waiting for a router: a child that dies is replaced, one that has waited long makes room for the next."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any, List

import pytest
from support.samples import INSTANCE

from csagent.lab.cloud import Cloud
from csagent.settings import Settings
from csagent.sources import jobs, observe, router_reader
from csagent.sources.request import Options, PassRequest
from csagent.system.seams import System


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> List[int]:
    """The process ids of the router children, as they are started."""
    pids: List[int] = []
    start = jobs.start_router

    def noting(*words: Any, **more: Any) -> Any:
        child = start(*words, **more)
        pids.append(child.pid)
        return child

    monkeypatch.setattr(jobs, "start_router", noting)
    return pids


def look(tree: Path, port: int, wait: float) -> Any:
    options = Options(router=("127.0.0.1", port), password_port=1)
    return observe.observe(PassRequest(System.at(str(tree)), Settings(), options, wait)).observation


def test_a_router_child_that_dies_is_replaced(tree: Path, servers: Any, started: List[int]) -> None:
    """Killed in the middle of its wait, it costs a pause: the router that comes up later is still found."""
    port = servers.free_port()

    def kill_then_serve() -> None:
        while not started:
            time.sleep(0.05)
        os.kill(started[0], signal.SIGKILL)
        time.sleep(0.5)
        servers.lab(Cloud(instance_id=INSTANCE), port=port)

    thread = threading.Thread(target=kill_then_serve, daemon=True)
    thread.start()
    seen = look(tree, port, 500)
    thread.join(300)
    assert seen.instance_id == INSTANCE and len(started) == 2


def test_a_router_that_is_read_is_told_of_before(tree: Path, servers: Any) -> None:
    """Whether a NIC that never rests may end the child depends on it."""
    lab = servers.lab(Cloud(instance_id=INSTANCE))
    options = Options(router=("127.0.0.1", lab.port), password_port=lab.password_port)
    observer = observe._Observer(PassRequest(System.at(str(tree)), Settings(), options, 500.0))
    assert observer.run().observation.instance_id == INSTANCE
    assert observer.router._believes


def test_a_long_wait_is_several_children(
    tree: Path, servers: Any, started: List[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits its time and no longer; the wait as a whole keeps its end, and says what was tried."""
    monkeypatch.setattr(router_reader, "LIFE", 3.0)
    began = time.monotonic()
    seen = look(tree, servers.free_port(), 8)
    assert 7 <= time.monotonic() - began < 300 and 2 <= len(started) <= 4
    # The last one may have had no time left, on a machine that is busy.
    assert not seen.source_found and seen.places[0].outcome in ("refused", "timeout")
