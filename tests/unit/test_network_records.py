"""The pass's cheap look for what was done with the network before."""

from __future__ import annotations

from csagent import agent
from csagent.state import network


def test_the_records_are_where_the_network_keeps_them() -> None:
    """A pass looks for them before it imports what knows about networks."""
    assert agent.NETWORK_RECORDS == (network.PENDING, network.APPLIED)
