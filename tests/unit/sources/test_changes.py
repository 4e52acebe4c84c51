"""What a waiting pass calls news: what has changed since somebody last began to read it."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from csagent.sources.changes import TICK, Lookout
from csagent.system.seams import Clock, System
from csagent.system.tree import Tree

LEASE = "run/systemd/netif/leases/2"


class Hand(Clock):
    """A clock that stands still until it is set."""

    time = 0.0

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Hand:
    """At 0."""
    return Hand()


@pytest.fixture
def lookout(tmp_path: Path, clock: Hand) -> Iterator[Lookout]:
    """One that looks at a tree, as at a machine."""
    for directory in ("run/systemd/netif/leases", "dev/disk/by-label", "run/udev"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "run/udev/control").touch()
    made = Lookout(System(tree=Tree(str(tmp_path)), clock=clock), ("config-2",), True)
    yield made
    made.close()


def test_a_new_lease_is_news_once(lookout: Lookout, clock: Hand, tmp_path: Path) -> None:
    """Not before the next look is due, and not again at the one after it."""
    (tmp_path / LEASE).write_text("ADDRESS=10.1.1.42\n")
    assert lookout.look() == (False, False)
    clock.time += TICK
    assert lookout.look() == (True, False)
    clock.time += TICK
    assert lookout.look() == (False, False)


def test_what_a_reading_begins_with_is_no_news(lookout: Lookout, clock: Hand, tmp_path: Path) -> None:
    """A lease that came before the reading began does not call for another; one that came after does."""
    (tmp_path / LEASE).write_text("ADDRESS=10.1.1.42\n")
    marks = lookout.network_anew()
    assert marks == lookout.network() == lookout.seen[0]
    clock.time += TICK
    assert lookout.look() == (False, False)
    (tmp_path / LEASE).write_text("ADDRESS=10.1.1.43, another\n")
    clock.time += TICK
    assert lookout.look() == (True, False)


def test_a_drive_is_news_whatever_the_network_does(lookout: Lookout, clock: Hand, tmp_path: Path) -> None:
    """That the leases are read anew does not make a drive known."""
    (tmp_path / "dev/disk/by-label/config-2").symlink_to("../../sr0")
    lookout.network_anew()
    clock.time += TICK
    assert lookout.look() == (False, True)


def test_without_discovery_nothing_is_looked_at(tmp_path: Path, clock: Hand) -> None:
    """Where the places were named there is no news, and nothing to wait for."""
    made = Lookout(System(tree=Tree(str(tmp_path)), clock=clock), ("config-2",), False)
    (tmp_path / "run/systemd/netif/leases").mkdir(parents=True)
    (tmp_path / LEASE).write_text("ADDRESS=10.1.1.42\n")
    clock.time += TICK
    assert made.look() == (False, False) and made.waits_for() == [] and made.until() == float("inf")
