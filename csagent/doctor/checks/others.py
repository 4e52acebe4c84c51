"""Who else on this machine sets what csagent sets: cloud-init, the scripts before it, other agents.

Their files (user-data, hooks, crontabs) do not go into a support archive: what was found in them does, as
the findings of its ``_doctor/report.json``.
"""

from __future__ import annotations

from typing import Iterator, List, Optional

from csagent.doctor.context import Situation
from csagent.doctor.finding import STATES, Finding
from csagent.system import json_limits

AREA = "other agents"
REPORT = "/_doctor/report.json"
SIZE_LIMIT = 1 << 20
MAX_FINDINGS = 200
TEXT_LIMIT = 1000


def others(situation: Situation) -> Iterator[Finding]:
    """Each of them, who owns what, and what to remove."""
    from csagent.other_agents import cloud_init, ownership

    reported = _reported(situation) if situation.system.recorded else None
    if reported is not None:
        yield from reported
        return
    for verdict in ownership.judge(cloud_init.find(situation.system), situation.settings):
        yield Finding(AREA, *verdict)


def _reported(situation: Situation) -> Optional[List[Finding]]:
    """The findings of an archive's own report; None where it has none. Anybody may have written it."""
    from csagent.console import safe

    try:
        document = json_limits.loads(situation.system.tree.read(REPORT, SIZE_LIMIT))
    except (OSError, ValueError, RecursionError):
        return None
    entries = document.get("findings") if isinstance(document, dict) else None
    found: List[Finding] = []
    for one in entries[:MAX_FINDINGS] if isinstance(entries, list) else []:
        if not isinstance(one, dict) or one.get("area") != AREA or one.get("state") not in STATES:
            continue
        texts = [str(one.get(name) or "")[:TEXT_LIMIT] for name in ("saw", "means", "advice")]
        found.append(Finding(AREA, str(one["state"]), *(safe(text).replace("\n", " ") for text in texts)))
    return found or None
