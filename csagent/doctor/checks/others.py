"""Who else on this machine sets what csagent sets: cloud-init, the scripts before it, other agents."""

from __future__ import annotations

from typing import Iterator

from csagent.doctor.context import Situation
from csagent.doctor.finding import Finding


def others(situation: Situation) -> Iterator[Finding]:
    """Each of them, who owns what, and what to remove."""
    from csagent.other_agents import cloud_init, cloud_init_leftovers, ownership

    for verdict in ownership.judge(cloud_init.find(situation.system), situation.settings):
        yield Finding("other agents", *verdict)
    for leftover in cloud_init_leftovers.find(situation.system):
        yield Finding("other agents", *ownership.left_behind(leftover))
