"""Captured leases of real DHCP clients, as discovery sees them."""

from pathlib import Path

import pytest

from csagent.discovery.finder import look, prepare
from csagent.system.seams import System

REPOSITORY = Path(__file__).resolve().parents[2]


CHOSEN = REPOSITORY / "tests" / "fixtures" / "leases"


WHOLE = REPOSITORY.parent / "shared" / "fixtures" / "leases"  # the larger collection, where it is there


def scenarios(base):
    return sorted(path.parent for path in base.glob("*/*/expected.json"))


def named(paths):
    return [pytest.param(path, id="/".join(path.parts[-2:])) for path in paths]


def discover(path):
    system = System.at(str(path))
    return look(system, prepare(system), ["config-2"])
