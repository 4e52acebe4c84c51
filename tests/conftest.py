"""What all tests share: keys that are keys, trees that look like a guest."""

from __future__ import annotations

import signal
import tempfile
from pathlib import Path
from typing import Callable, Iterator

import pytest
from hypothesis import settings
from support import aside
from support.hangs import Hangs
from support.samples import make_key, make_tree

from csagent.system.seams import System

settings.register_profile("csagent", deadline=None)  # a loaded CI machine is slow, not wrong
settings.load_profile("csagent")


def pytest_configure(config: pytest.Config) -> None:
    """Tests that wait run beside the others, and what hangs is ended."""
    aside.configure(config)
    config.pluginmanager.register(Hangs(config), "csagent-hangs")


@pytest.fixture(autouse=True)
def stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is called inside this process must not take the right to make cores from it for good."""
    monkeypatch.setattr("csagent.system.process.keep_memory_private", lambda: None)


@pytest.fixture
def signals_as_usual() -> Iterator[None]:
    """What the test starts can be interrupted and hung up on.

    Below nohup, or in the background of a script, these are ignored, and that is inherited.
    """
    numbers = [one for one in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(one) is signal.SIG_IGN]
    for number in numbers:
        signal.signal(number, lambda *_: None)
    yield
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A scratch directory on this machine's root file system; `tmp_path` may be in memory (`./dev test`)."""
    with tempfile.TemporaryDirectory(prefix="csagent-test-", dir="/var/tmp") as name:
        yield Path(name)


@pytest.fixture
def key() -> Callable[..., str]:
    """`key(1)` is a public key line."""
    return make_key


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A guest's tree: accounts root and alice, both owned by whoever runs the test."""
    return make_tree(tmp_path)


@pytest.fixture
def system(tree: Path) -> System:
    """The system below that tree."""
    return System.at(str(tree))
