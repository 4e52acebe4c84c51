"""What doctor had found on the machine that an archive is of: the archive's ``_doctor/report.json``.

Its layout is that of `doctor --json`. Anybody may have written it: it is text to be shown, no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional, Tuple

from csagent.console import safe
from csagent.doctor.finding import PROBLEM, STATES, Finding
from csagent.doctor.seen import Seen
from csagent.model import Place
from csagent.system import json_limits

if TYPE_CHECKING:
    from csagent.system.seams import System

REPORT = "/_doctor/report.json"
SIZE_LIMIT = 4 << 20
MAX_ENTRIES = 500
TEXT_LIMIT = 1000
# What its files are in an archive for: these areas are judged from them again.
JUDGED_AGAIN = ("platform", "network", "leases", "last pass", "drive network", "settings")


class Record(NamedTuple):
    """What a report says: who found it, when (seconds since 1970, by that machine's clock), and what."""

    version: str
    at: float
    seen: Seen
    findings: Tuple[Finding, ...]

    def of(self, area: str) -> List[Finding]:
        """The findings of one area."""
        return [one for one in self.findings if one.area == area]

    def stands(self, area: str) -> bool:
        """Whether an area is as it was found. Settings that are wrong are not in an archive, only what is
        wrong with them."""
        wrong = area == "settings" and any(one.state == PROBLEM for one in self.of(area))
        return area not in JUDGED_AGAIN or wrong


def read(system: "System") -> Optional[Record]:
    """The record of an archive; None where it has none that can be read, as a capture made by hand."""
    try:
        document = json_limits.loads(system.tree.read(REPORT, SIZE_LIMIT))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("findings"), list):
        return None
    before = document.get("recorded")  # the archive was made of an archive
    origin = before if isinstance(before, dict) else document
    places = tuple(_places(document.get("places")))
    looked = bool(places) or document.get("verdict") == "no source"
    return Record(
        version=_text(origin.get("version"))[:40],
        at=system.clock.now(),
        seen=Seen(
            looked=looked,
            places=places,
            source_found=looked and document.get("verdict") != "no source",
            instance_id=_text(document.get("instance_id")) or None,
            password=_text(document.get("password")) or "unknown",
            as_root=document.get("root") is True,
            tree=origin.get("what") == "tree",
        ),
        findings=tuple(_findings(document["findings"])),
    )


def _findings(value: Any) -> List[Finding]:
    texts = ("area", "saw", "means", "advice")
    found = []
    for one in _entries(value):
        if one.get("state") in STATES and _text(one.get("area")):
            area, saw, means, advice = (_text(one.get(name)) for name in texts)
            found.append(Finding(area, str(one["state"]), saw, means, advice))
    return found


def _places(value: Any) -> List[Place]:
    found = []
    for one in _entries(value):
        place, why, outcome, detail = (_text(one.get(name)) for name in ("place", "why", "outcome", "detail"))
        found.append(Place(place, why, outcome, detail, _seconds(one.get("seconds"))))
    return found


def _seconds(value: Any) -> Optional[float]:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e6:
        return None
    return float(value)


def _entries(value: Any) -> List[Dict[str, Any]]:
    entries = value[:MAX_ENTRIES] if isinstance(value, list) else []
    return [one for one in entries if isinstance(one, dict)]


def _text(value: Any) -> str:
    return safe(value[:TEXT_LIMIT]).replace("\n", " ") if isinstance(value, str) else ""
