"""`csagent doctor`: what was found out, for people and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List

from csagent import __version__
from csagent.doctor.finding import NOTE, OK, PROBLEM, WARNING, Finding, of_state, worst

if TYPE_CHECKING:
    from csagent.console import Console
    from csagent.doctor.engine import Examined

COLOURS = {OK: "good", NOTE: "dim", WARNING: "note", PROBLEM: "bad"}
INDENT = 4


def as_json(examined: "Examined") -> Dict[str, Any]:
    """The documented layout, `"schema": 1`; it only grows.

    `verdict` is the worst state of all findings, or "no source"; `first` is what to do first, or null.
    `what` is "machine", "tree" or "archive"; `root` says whether what only root may read was read.
    """
    situation = examined.situation
    first = examined.first
    what = "archive" if situation.system.recorded else "tree" if situation.tree else "machine"
    return {
        "schema": 1,
        "version": __version__,
        "what": what,
        "root": situation.root,
        "exit_code": examined.exit_code,
        "verdict": "no source" if examined.no_source else worst(examined.findings),
        "summary": examined.verdict,
        "first": first.advice if first is not None else None,
        "instance_id": situation.seen.instance_id,
        "findings": [one.as_plain() for one in examined.findings],
        "places": [place._asdict() for place in situation.seen.places],
    }


def as_text(examined: "Examined", console: "Console", *, quiet: bool = False) -> str:
    """The same for an operator; `quiet` leaves only the problems."""
    findings = list(examined.findings)
    lines: List[str] = []
    before = None
    for one in of_state(findings, PROBLEM) if quiet else findings:
        if (one.area, one.state) != before:
            state = console.paint(one.state, COLOURS[one.state])
            lines.append(f"{console.paint(f'{one.area}:', 'head')} {state}")
            before = (one.area, one.state)
        lines += _finding(one, console)
    if quiet:
        return "".join(f"{line}\n" for line in lines)
    situation = examined.situation
    if situation.system.live and not situation.root:
        lines += console.wrap("Not run as root: what only root may read was not seen.")
    worded = "no source" if examined.no_source else worst(findings)
    colour = "bad" if examined.no_source else COLOURS[worst(findings)]
    verdict = console.wrap(f"verdict: {examined.verdict}")
    lines += [console.paint(line, colour if worded != NOTE else "good") for line in verdict]
    first = examined.first
    if first is not None:
        lines += console.wrap(f"{first.area}: {first.advice}", INDENT + 4, "first:")
    return "\n".join(lines) + "\n"


def _finding(one: Finding, console: "Console") -> List[str]:
    lines = console.wrap(one.saw, INDENT, "  ")
    if one.means:
        lines += console.wrap(one.means, INDENT + 2, "    -")
    if one.advice:
        lines += console.wrap(one.advice, INDENT + 4, "    do:")
    return lines


def documents(examined: "Examined") -> Dict[str, Any]:
    """What a support archive holds besides files and commands: what the places said, and this report."""
    from csagent.doctor.bundle import recorded
    from csagent.doctor.checks import others

    return {
        recorded.SEEN: recorded.as_document(examined.situation.seen),
        others.REPORT: as_json(examined),
    }
