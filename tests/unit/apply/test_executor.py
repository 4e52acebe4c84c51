"""Carrying out a plan, and being told to stop while at it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator, Tuple

import pytest
from support.samples import INSTANCE, make_key

from csagent.apply.executor import Worker
from csagent.plan import Plan, SetHostname, WriteKeys
from csagent.sources.observe import Interrupted
from csagent.state import applied
from csagent.system.seams import System


class Wake:
    """What becomes readable when csagent is told to stop."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()

    def fileno(self) -> int:
        return self.reading

    def tell(self, *_line: Any, **_fields: str) -> None:
        os.write(self.writing, b"x")


@pytest.fixture
def wake() -> Iterator[Wake]:
    made = Wake()
    yield made
    os.close(made.reading)
    os.close(made.writing)


def plan() -> Plan:
    name = SetHostname("hostname", "", "router 10.1.1.1", name="web01", domain=None)
    keys = WriteKeys("ssh_keys", "", "router 10.1.1.1", user="root", keys=(make_key(1),), previous=())
    return Plan((name, keys))


def states(system: System, tree: Path) -> Tuple[str, bool]:
    return (tree / "etc/hostname").read_text().strip(), (tree / "root/.ssh/authorized_keys").exists()


def test_told_to_stop_it_finishes_the_action_it_is_at(tree: Path, system: System, wake: Wake) -> None:
    """That one is whole and remembered, the others are left to the next pass."""
    worker = Worker(system, applied.load(system, INSTANCE), wake.tell, wake)
    with pytest.raises(Interrupted):
        worker.carry_out(plan())
    assert states(system, tree) == ("web01", False)
    known = applied.load(system, INSTANCE)
    assert (known.hostname, known.ssh_keys) == ("web01", None)
    Worker(system, known, lambda *_line, **_fields: None).carry_out(plan())
    assert states(system, tree) == ("web01", True)
