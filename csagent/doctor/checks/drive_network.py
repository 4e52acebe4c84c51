"""The NICs that a config drive's network_data.json configures, or would if somebody else did not."""

from __future__ import annotations

import shlex
from typing import Any, Dict, Iterator, List, Tuple

from csagent.doctor.context import Situation
from csagent.doctor.finding import NOTE, OK, PROBLEM, WARNING, Finding

AREA = "drive network"
AGAIN = "csagent network apply --again"

STATES: Dict[str, Tuple[str, str]] = {
    "applied": (OK, ""),
    "unchanged": (OK, ""),
    "removed": (OK, ""),
    "written": (NOTE, "wait for that manager, or see why it does not start: systemctl --failed"),
    "unconfirmed": (
        WARNING,
        "see its gateway in CloudStack; csagent asks again at each poll",
    ),
    "failed": (
        PROBLEM,
        f"correct it in CloudStack; to try the same once more: {AGAIN}",
    ),
    "left": (NOTE, ""),
}
HINDRANCES = (  # what a reason begins with, and what to do where CloudStack's addresses are wanted
    ("somebody configures it", f"to have CloudStack's addresses take that away, then: {AGAIN}"),
    (
        "it has an address that somebody gave it",
        f"to have CloudStack's: ip addr flush dev {{nic}} scope global, then: {AGAIN}",
    ),
    ("the owner has changed or removed", f"to have CloudStack's again: {AGAIN}"),
    ("cloud-init configures it", "a later change is not applied; see the setting cloud_init"),
    ("left to cloud-init", "a later change is not applied; see the setting cloud_init"),
)


def nics(situation: Situation) -> Iterator[Finding]:
    """What the last pass has made of each NIC, who hinders it, and what to do."""
    datum = situation.datum("network")
    reason = str(datum.get("reason", ""))
    if datum.get("state") == "off":
        yield from left_alone("all NICs", reason)
    for nic in _mappings(datum.get("nics")):
        name = str(nic.get("interface") or nic.get("mac"))
        word, why = str(nic.get("state")), str(nic.get("reason", ""))
        if word == "left":
            yield from left_alone(name, why)
        elif word in STATES:
            state, advice = STATES[word]
            yield Finding(AREA, state, f"{name}: {word}", why, advice)


def left_alone(name: str, reason: str) -> Iterator[Finding]:
    """A NIC that is left alone is worth a word where somebody could do something about it."""
    for start, advice in HINDRANCES:
        if reason.startswith(start):
            told = advice.replace("{nic}", shlex.quote(name))
            yield Finding(AREA, NOTE, f"{name}: left alone", reason, told)


def _mappings(value: Any) -> List[Dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
