"""A pass decides by what it has heard since the last one ended."""

from __future__ import annotations

from typing import List

import pytest

from csagent import agent
from csagent.model import Found, Observation, Observed
from csagent.settings import Settings
from csagent.sources.request import Options, PassRequest
from csagent.state import applied
from csagent.system.seams import System


@pytest.mark.parametrize(("others", "looks"), [(0, 1), (1, 2), (99, agent.ROUNDS)])
def test_what_was_heard_before_another_pass_remembered_is_asked_again(
    system: System, monkeypatch: pytest.MonkeyPatch, others: int, looks: int
) -> None:
    """It may have set and acknowledged what this one was offered, and its owner have changed it since."""
    seen: List[int] = []

    def observe(_request: PassRequest) -> Observed:
        seen.append(len(seen))
        if len(seen) <= others:
            applied.save(system, applied.load(system, "i-2-3-VM")._replace(hostname=f"web{len(seen)}"))
        return Observed(Found(), Observation())

    monkeypatch.setattr(agent, "observe", observe)
    agent.run_pass(PassRequest(system, Settings(), Options(), 10.0))
    assert len(seen) == looks
