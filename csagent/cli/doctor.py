"""`csagent doctor`: what was found out, for people and as JSON."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from csagent import __version__
from csagent.doctor.finding import NOTE, OK, PROBLEM, WARNING, Finding, worst

if TYPE_CHECKING:
    from csagent.console import Console
    from csagent.doctor.engine import Examined

COLOURS = {OK: "good", NOTE: "dim", WARNING: "note", PROBLEM: "bad"}
INDENT = 4
TEXT = "/_doctor/report.txt"


def as_json(examined: "Examined") -> Dict[str, Any]:
    """The documented layout, `"schema": 1`; it only grows.

    `verdict` is the worst state of all findings, or "no source"; `first` is what to do first, or null.
    `what` is "machine", "tree" or "archive"; `root` says whether what only root may read was read.
    `password` is what the places say: "offered", "none" or "unknown". Of an archive `recorded` says which
    areas are as they were found, when, by which csagent, and on what; of all else it is null.
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
        "password": situation.seen.password,
        "recorded": _recorded(examined),
        "findings": [one.as_plain() for one in examined.findings],
        "places": [place._asdict() for place in situation.seen.places],
    }


def _recorded(examined: "Examined") -> Optional[Dict[str, Any]]:
    record = examined.situation.record
    if record is None:
        return None
    return {
        "at": round(record.at, 3),
        "version": record.version,
        "what": "tree" if examined.situation.tree else "machine",
        "areas": list(examined.recorded),
    }


def as_text(examined: "Examined", console: "Console", *, quiet: bool = False) -> str:
    """The same for an operator; `quiet` leaves what the exit code is about: problems and warnings."""
    findings = list(examined.findings)
    lines = _origin(examined, console) if not quiet else []
    before = None
    for one in [one for one in findings if one.state in (PROBLEM, WARNING)] if quiet else findings:
        if (one.area, one.state) != before:
            state = console.paint(one.state, COLOURS[one.state])
            mark = " (recorded)" if one.area in examined.recorded else ""
            lines.append(f"{console.paint(f'{one.area}:', 'head')} {state}{mark}")
            before = (one.area, one.state)
        lines += _finding(one, console)
    if quiet:
        if examined.exit_code and not lines:
            lines = console.wrap(f"verdict: {examined.verdict}")
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


def _origin(examined: "Examined", console: "Console") -> List[str]:
    record = examined.situation.record
    if record is None:
        return []
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(record.at))
    what = "tree" if examined.situation.tree else "machine"
    return console.wrap(
        f"(recorded): as csagent {record.version or '?'} found it on that {what} at {when}; what is not so "
        "marked is judged again, from the files of the archive"
    )


def _finding(one: Finding, console: "Console") -> List[str]:
    lines = console.wrap(one.saw, INDENT, "  ")
    if one.means:
        lines += console.wrap(one.means, INDENT + 2, "    -")
    if one.advice:
        lines += console.wrap(one.advice, INDENT + 4, "    do:")
    return lines


def documents(examined: "Examined") -> Dict[str, bytes]:
    """The report, as a support archive holds it: as JSON and as text."""
    from csagent.console import Console
    from csagent.doctor.bundle.recorded import REPORT

    report = json.dumps(as_json(examined), indent=1).encode() + b"\n"
    return {REPORT: report, TEXT: as_text(examined, Console()).encode("utf-8", "replace")}
