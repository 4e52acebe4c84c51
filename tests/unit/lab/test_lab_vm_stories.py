"""How `csagent lab vm` tells several stories (`csagent.lab.vm.run`)."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path
from typing import Any, List

import pytest

from csagent.lab.vm.network_story import NetworkStory
from csagent.lab.vm.run import Trial
from csagent.lab.vm.scenarios import STORIES

KINDS = [*STORIES, NetworkStory]


class Told:
    """What is told at once, in the place of machines."""

    def __init__(self) -> None:
        self.order: List[str] = []
        self.most = 0
        self._under_way: List[Any] = []
        self._lock = threading.Lock()
        self._met = threading.Barrier(2)

    def story(self, kind: Any, *, meets: bool) -> Any:
        """One that takes until another one is under way, where it is to meet one."""
        told = self

        class Story(kind):  # type: ignore[misc]
            def __init__(self) -> None:
                pass

            def run(self) -> None:
                with told._lock:
                    told._under_way.append(self)
                    told.order.append(self.name)
                    told.most = max(told.most, len(told._under_way))
                    assert [one.listens for one in told._under_way].count(True) <= 1
                if meets:
                    told._met.wait(300)
                with told._lock:
                    told._under_way.remove(self)

        return Story()


def trial(*, one_by_one: bool) -> Trial:
    args = argparse.Namespace(one_by_one=one_by_one, json=True, image=Path("image"))
    return Trial(args, "raw")


def test_two_machines_and_one_router_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The four scenarios by twos: a router and a document's router would listen at the same address."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    told = Told()
    trial(one_by_one=False)._tell([told.story(kind, meets=True) for kind in KINDS])
    assert sorted(told.order) == sorted(kind.name for kind in KINDS) and told.most == 2


@pytest.mark.parametrize(("asked", "processors"), [(True, 8), (False, 1)])
def test_one_by_one(monkeypatch: pytest.MonkeyPatch, asked: bool, processors: int) -> None:
    """Where it is asked for, and where there is one processor."""
    monkeypatch.setattr("os.cpu_count", lambda: processors)
    told = Told()
    trial(one_by_one=asked)._tell([told.story(kind, meets=False) for kind in KINDS])
    assert told.order == [kind.name for kind in KINDS] and told.most == 1
