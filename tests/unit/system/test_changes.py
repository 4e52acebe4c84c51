"""What counts as a change: what a source tells, and what looks different at the next look."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from csagent.discovery import finder
from csagent.system.changes import ChangeDetector
from csagent.system.seams import System
from csagent.system.tree import Tree

PAUSE = 0.5
LEASE = "run/systemd/netif/leases/2"


class Hand:
    """A clock that stands still until it is set."""

    time = 0.0

    def __call__(self) -> float:
        return self.time


class Source:
    """A source of events that says what it is told to say."""

    def __init__(self, name: str, news: Any = True) -> None:
        self.name, self._news, self.closed = name, news, False

    def news(self) -> bool:
        if isinstance(self._news, Exception):
            raise self._news
        return bool(self._news)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> Hand:
    """At 0."""
    return Hand()


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A tree that is looked at as a machine is."""
    for directory in ("run/systemd/netif/leases", "dev/disk/by-label", "run/udev"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "run/udev/control").touch()
    return tmp_path


@pytest.fixture
def detector(machine: Path, clock: Hand) -> Iterator[ChangeDetector]:
    """What a waiting pass looks at."""
    system = System(tree=Tree(str(machine)))
    looks = {
        "network": lambda: finder.network_marks(system),
        "drive": lambda: finder.drive_marks(system, ("config-2",)),
    }
    made = ChangeDetector(clock, looks, PAUSE)
    yield made
    made.close()


def test_a_new_lease_is_news_once(detector: ChangeDetector, clock: Hand, machine: Path) -> None:
    """Not before the next look is due, and not again at the one after it."""
    (machine / LEASE).write_text("ADDRESS=10.1.1.42\n")
    assert detector.changed() == []
    clock.time += PAUSE
    assert detector.changed() == ["network"]
    clock.time += PAUSE
    assert detector.changed() == []


def test_what_a_reading_begins_with_is_no_news(detector: ChangeDetector, clock: Hand, machine: Path) -> None:
    """A lease that came before the reading began does not call for another; one that came after does."""
    (machine / LEASE).write_text("ADDRESS=10.1.1.42\n")
    detector.renew("network")
    clock.time += PAUSE
    assert detector.changed() == []
    (machine / LEASE).write_text("ADDRESS=10.1.1.43, another\n")
    clock.time += PAUSE
    assert detector.changed() == ["network"]


def test_a_drive_is_news_whatever_the_network_does(
    detector: ChangeDetector, clock: Hand, machine: Path
) -> None:
    """That the leases are read anew does not make a drive known."""
    (machine / "dev/disk/by-label/config-2").symlink_to("../../sr0")
    detector.renew("network")
    clock.time += PAUSE
    assert detector.changed() == ["drive"]


def test_a_look_that_is_hurried(detector: ChangeDetector, clock: Hand, machine: Path) -> None:
    """After the kernel's word the next look is sooner, and no later than it was."""
    detector.hurry(0.05)
    assert detector.next_look == 0.05
    detector.hurry(3.0)
    assert detector.next_look == 0.05
    (machine / LEASE).write_text("ADDRESS=10.1.1.42\n")
    clock.time = 0.05
    assert detector.changed() == ["network"] and detector.next_look == 0.05 + PAUSE


def test_with_nothing_to_look_at_no_look_is_due(clock: Hand) -> None:
    """Where the places were named there is no news, and nothing to wait for."""
    made = ChangeDetector(clock, {}, PAUSE)
    clock.time += 1e9
    assert made.changed() == [] and made.sources == [] and made.next_look == float("inf")


def test_sources_tell(clock: Hand) -> None:
    """Only those that are readable are asked, and only what is of interest is news."""
    loud, idle, deaf = Source("lease"), Source("network", False), Source("drive")
    made = ChangeDetector(clock, {}, PAUSE, [loud, idle, deaf])
    assert made.told([loud, idle]) == ["lease"]
    made.close()
    assert loud.closed and idle.closed and deaf.closed and made.sources == []


@pytest.mark.parametrize(
    "error", [OSError(105, "No buffer space available"), UnicodeDecodeError("x", b"", 0, 1, "")]
)
def test_a_source_that_lost_events(error: Exception, clock: Hand) -> None:
    """That is news, its owner is told, and no other source is asked any more: all may be opened anew."""
    lost: List[Tuple[str, Exception]] = []
    asked: Dict[str, bool] = {}
    broken, other = Source("lease", error), Source("network")
    other.news = lambda: asked.setdefault("network", True)  # type: ignore[method-assign]
    made = ChangeDetector(clock, {}, PAUSE, [broken, other])
    assert made.told([broken, other], lambda *what: lost.append(what)) == ["lease"]
    assert lost == [("lease", error)] and asked == {}
