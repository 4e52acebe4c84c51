"""`csagent network`: what would be done with each NIC, and what was, for people and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence

from csagent.apply.network import files
from csagent.apply.network.plan import CONFIGURE, REMOVE, NetworkPlan, NicPlan
from csagent.console import Console, shorten

if TYPE_CHECKING:
    from csagent.plan import NicOutcome
    from csagent.system.seams import System

COLOURS = {CONFIGURE: "good", REMOVE: "note", "removed": "note", "unconfirmed": "note", "written": "good"}


def as_json(system: Optional["System"], plan: NetworkPlan) -> Dict[str, Any]:
    """The documented layout, `"schema": 1`; it only grows. Without a system no file is there yet."""
    return {
        "schema": 1,
        "nothing": plan.nothing,
        "nics": [_nic(system, nic) for nic in plan.nics],
        "absent": list(plan.absent),
        "refused": [{"text": text} for text in plan.refused],
    }


def _nic(system: Optional["System"], nic: NicPlan) -> Dict[str, Any]:
    wanted = nic.wanted
    return {
        "mac": nic.mac,
        "interface": nic.interface,
        "do": nic.do,
        "reason": nic.reason,
        "owner": nic.owner,
        "addresses": list(wanted.addresses) if wanted else [],
        "routes": [
            {"to": route.to, "via": route.via, "onlink": route.onlink, "order": route.order}
            for route in (wanted.routes if wanted else ())
        ],
        "dns": list(wanted.dns) if wanted else [],
        "mtu": wanted.mtu if wanted else None,
        "files": [{"path": file.path, "diff": files.diff(system, file)} for file in nic.files],
    }


def changes(system: Optional["System"], nic: NicPlan) -> bool:
    """Whether a file of a NIC is not as it shall be."""
    if system is None:
        return any(file.content is not None for file in nic.files)
    return any(files.changed(system, file) for file in nic.files)


def as_text(system: Optional["System"], plan: NetworkPlan, console: Console) -> str:
    """For an operator at a console."""
    lines: List[str] = []
    for nic in plan.nics:
        lines += _nic_lines(system, nic, console)
    lines += _about_the_document(plan, console)
    count = sum(changes(system, nic) for nic in plan.nics)
    what = {0: "Nothing to change.", 1: "1 NIC would be changed."}.get(
        count, f"{count} NICs would be changed."
    )
    return "\n".join([*lines, "", what]) + "\n"


def _nic_lines(system: Optional["System"], nic: NicPlan, console: Console) -> List[str]:
    name = nic.interface or nic.mac
    title = console.paint(f"{shorten(name, 24)}: ", "head") + console.paint(
        nic.do, COLOURS.get(nic.do, "dim")
    )
    lines = [title, *console.wrap(nic.reason, 4)]
    if nic.wanted is not None:
        pairs = [("address", address) for address in nic.wanted.addresses]
        pairs += [
            (
                "route",
                f"{route.to} via {route.via}{' (on-link)' if route.onlink else ''}, place {route.order}",
            )
            for route in nic.wanted.routes
        ]
        pairs += [("dns", ", ".join(nic.wanted.dns))] if nic.wanted.dns else []
        pairs += [("mtu", str(nic.wanted.mtu))] if nic.wanted.mtu is not None else []
        lines += console.pairs(pairs, 4)
    for file in nic.files:
        for line in files.diff(system, file).split("\n"):
            colour = {"+": "good", "-": "bad"}.get(line[:1], "dim")
            if line:
                lines.append("    " + console.paint(shorten(line, console.width - 4), colour))
    return lines


def outcomes_as_json(plan: NetworkPlan, outcomes: Sequence["NicOutcome"]) -> Dict[str, Any]:
    """`network apply --json`: what became of each NIC; the layout only grows."""
    return {
        "schema": 1,
        "nothing": plan.nothing,
        "nics": [outcome._asdict() for outcome in outcomes],
        "absent": list(plan.absent),
        "refused": [{"text": text} for text in plan.refused],
    }


def outcomes_as_text(plan: NetworkPlan, outcomes: Sequence["NicOutcome"], console: Console) -> str:
    """For an operator at a console."""
    lines: List[str] = []
    for outcome in outcomes:
        name = shorten(outcome.interface or outcome.mac, 24)
        colour = COLOURS.get(outcome.state, outcome.state)
        lines.append(console.paint(f"{name}: ", "head") + console.paint(outcome.state, colour))
        lines += console.wrap(outcome.reason, 4)
    return "\n".join([*lines, *_about_the_document(plan, console)] or ["There is no NIC."]) + "\n"


def _about_the_document(plan: NetworkPlan, console: Console) -> List[str]:
    """What of it is not here, and what is not believed."""
    texts = [f"{mac} is not on this machine (yet)" for mac in plan.absent]
    texts += [f"not believed: {text}" for text in plan.refused]
    return [console.paint(line, "note") for text in texts for line in console.wrap(text)]
