"""What `seal` found or did, for people and as JSON."""

from __future__ import annotations

from typing import Any, Dict, List

from csagent.console import Console, safe
from csagent.seal import running
from csagent.seal.engine import DONE, FAILED, FOUND, Family, SealReport, Step
from csagent.seal.warnings import UNSEEN
from csagent.system.seams import System

PATHS_SHOWN = 5
AFTER_LIVE = (
    "Power it off now: what runs on writes again, and a boot makes it dirty. A shutdown in the usual way "
    "writes leases, the shell its history; seal --yes --poweroff avoids both."
)
AFTER_CHROOT = "Leave this tree now: what runs in it writes again, and a boot makes it dirty."
AFTER_TREE = "Use it as it is: a boot makes it dirty."


def as_json(system: System, report: SealReport) -> Dict[str, Any]:
    """Every family, also one with nothing in it. `bytes` counts what is or was there."""
    return {
        "schema": 1,
        "root": system.tree.root,
        "mode": report.mode,
        "clean": report.clean,
        "things": [
            {
                "name": family.thing.name,
                "title": family.thing.title,
                "why": family.thing.why,
                "state": state(family),
                "bytes": family.size,
                "leftovers": [_step(step) for step in family.steps],
            }
            for family in report.families
        ],
        "warnings": [{"path": one.path, "text": one.text} for one in report.warnings],
        "notes": list(report.notes),
    }


def _step(step: Step) -> Dict[str, Any]:
    return {
        "path": safe(step.leftover.path),
        "action": step.leftover.action,
        "bytes": step.leftover.size,
        "detail": step.leftover.detail or None,
        "state": step.state,
        "reason": step.reason or None,
    }


def state(family: Family) -> str:
    """clean, kept, left, sealed or failed."""
    states = {step.state for step in family.steps}
    if FAILED in states:
        return "failed"
    if not states:
        return "clean"
    return "kept" if family.kept else ("left" if FOUND in states else "sealed")


def as_text(
    system: System, report: SealReport, console: Console, verbose: bool = False, ends: bool = False
) -> str:
    """For an operator at a console; `verbose` names every path, `ends`: the machine is switched off then."""
    lines: List[str] = [console.paint(line, "note") for note in report.notes for line in console.wrap(note)]
    for family in report.families:
        if family.steps:
            lines += _family(system, family, report.mode, console, verbose)
    for warning in report.warnings:
        text = f"look at {system.tree.shown(warning.path)}: {warning.text}"
        lines += [console.paint(line, "note") for line in console.wrap(text, 2)]
    lines += ["", *console.wrap(_summary(system, report, ends))]
    return "\n".join(lines) + "\n"


def failures(system: System, report: SealReport) -> List[str]:
    """One line for each step that failed, and for each place that could not be looked at."""
    failed = [
        f"{family.thing.name}: {safe(system.tree.shown(step.leftover.path))}: {step.reason}"
        for family in report.families
        for step in family.steps
        if step.state == FAILED
    ]
    unseen = [one for one in report.warnings if one.text.startswith(UNSEEN)]
    return [*failed, *(f"{safe(system.tree.shown(one.path))}: {one.text}" for one in unseen)]


def _family(system: System, family: Family, mode: str, console: Console, verbose: bool) -> List[str]:
    failed = [step for step in family.steps if step.state == FAILED]
    word = state(family)
    told = f"{count(len(family.steps))}{f', {amount(family.size)}' if family.size else ''}"
    ending = f"; {word}" if mode == "seal" or word == "kept" else ""
    colour = {"failed": "bad", "sealed": "good", "left": "note"}.get(word, word)
    title = console.wrap(f"{family.thing.name}: {told}{ending}")
    lines = [console.paint(line, colour) for line in title]
    if mode != "seal":
        lines += console.wrap(family.thing.why, 4)
    shown = failed if mode == "seal" else list(family.steps)
    limit = len(shown) if verbose or mode == "check" else PATHS_SHOWN
    for step in shown[:limit]:
        leftover = step.leftover
        said = f" ({step.reason or leftover.detail})" if step.reason or leftover.detail else ""
        lines += console.wrap(f"{leftover.action} {system.tree.shown(leftover.path)}{said}", 6, "    ")
    if len(shown) > limit:
        lines += console.wrap(f"and {len(shown) - limit} more (-v names them)", 4)
    return lines


def _summary(system: System, report: SealReport, ends: bool) -> str:
    left = report.count(FOUND)
    places = f"{report.unseen} place{'' if report.unseen == 1 else 's'}"
    unseen = f", {places} could not be looked at" if report.unseen else ""
    if report.mode == "seal":
        done, failed = report.count(DONE), report.count(FAILED)
        if failed:
            return f"{done} done, {failed} failed{unseen}: this is no clean template yet."
        if unseen:
            return f"{done} done{unseen}: this may be no clean template."
        text = f"Sealed: {done} done." if done else "Sealed: nothing was left."
        if ends:
            return f"{text} The machine is switched off now."
        if not system.live:
            return f"{text} {AFTER_TREE}"
        return f"{text} {AFTER_LIVE if running.booted(system) else AFTER_CHROOT}"
    if unseen and not left:
        return f"Not known to be clean: nothing was found{unseen}."
    if not left:
        return "Clean: nothing is left."
    if report.mode == "check":
        return f"Not clean: {count(left)} left{unseen}."
    return f"A preview: {count(left)} to go{unseen}, nothing was changed. seal --yes does it."


def count(number: int) -> str:
    """1 thing, 2 things."""
    return f"{number} thing{'' if number == 1 else 's'}"


def amount(size: int) -> str:
    """Bytes in a unit that fits."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("unreachable")
