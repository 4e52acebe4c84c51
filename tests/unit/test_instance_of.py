"""Under which id things are remembered."""

from __future__ import annotations

import pytest
from support.samples import INSTANCE

from csagent.agent import instance_of
from csagent.model import Found, Observation, Observed, Platform
from csagent.state import applied
from csagent.system.seams import System

TURNED = "-".join(
    (*(bytes.fromhex(one)[::-1].hex() for one in INSTANCE.split("-")[:3]), *INSTANCE.split("-")[3:])
)


@pytest.mark.parametrize(
    ("dmi", "expected"), [(INSTANCE, INSTANCE), (TURNED, INSTANCE), ("a" + INSTANCE[1:], "a" + INSTANCE[1:])]
)
def test_dmi_in_the_other_byte_order_is_the_same_memory(system: System, dmi: str, expected: str) -> None:
    """Where nobody says the id, what was remembered under the sources' spelling of it is found again."""
    applied.save(system, applied.load(system, INSTANCE))
    seen = Observed(Found(platform=Platform(uuid=dmi, cloudstack=True)), Observation())
    assert instance_of(system, seen) == expected
