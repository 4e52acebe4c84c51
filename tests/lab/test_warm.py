"""A reading child that has its libraries before it has anybody to ask."""

from __future__ import annotations

import os
import select
import time
from typing import Any, Callable

import pytest

from csagent import jail, warm
from csagent.system import System


def started(load: Callable[[], None] = lambda: None) -> warm.Warm:
    """One whose job is to say until when it may take."""

    def job(deadline: float) -> jail.Job:
        return jail.Job(System(), lambda: os.getpid(), lambda _pid, _say: deadline, jail.READER, None)

    one = warm.start("warm reader", load, job, job(0.0))
    assert one is not None
    return one


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def answer(child: Any) -> Any:
    end = time.monotonic() + 30
    while not child.collect():
        assert time.monotonic() < end
        select.select([child], [], [], 1.0)
    return child.result()


def test_it_begins_when_it_is_told() -> None:
    """It waits, does the job for the deadline that it is given, and leaves neither descriptor nor process."""
    before = descriptors()
    one = started()
    child = one.begin(12345.5)
    assert child is not None and answer(child) == 12345.5
    assert descriptors() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)


def test_one_that_is_not_needed_is_ended() -> None:
    """Dropped before it has begun, it is gone."""
    before = descriptors()
    one = started()
    pid = one._child.pid
    one.drop()
    assert descriptors() == before
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_one_that_could_not_load_is_no_loss() -> None:
    """Where an import fails it ends, and says so by not beginning: another child is started then."""

    def load() -> None:
        raise ImportError

    before = descriptors()
    one = started(load)
    os.waitid(os.P_PID, one._child.pid, os.WEXITED | os.WNOWAIT)
    assert one.begin(1.0) is None
    assert descriptors() == before


def test_it_does_not_outlive_its_parent() -> None:
    """Its parent is killed while it waits: it ends, too."""
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.write(writing, b"%d" % started()._child.pid)
        os._exit(0)
    os.close(writing)
    pid = int(os.read(reading, 32))
    os.close(reading)
    os.waitpid(middle, 0)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":  # nobody reaps it in a container
                    return
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.05)
    raise AssertionError("it is still there")
