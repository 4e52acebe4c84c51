"""User-data for people and as JSON: what a document would do, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from csagent.console import Console
from csagent.user_data import status
from csagent.user_data.plan import ERROR, IGNORED, RUNS, Plan, Problem, Step

if TYPE_CHECKING:
    from csagent.state.user_data_record import Record

STAGES = {
    "early": "early, as soon as the document is there:",
    "final": "final, when the machine is up and has a network:",
}
OUTCOMES = {
    RUNS: "All of it runs.",
    "partly": "Part of it runs: what is named with an error does not.",
    "nothing": "Nothing of it runs.",
    IGNORED: "It is not for csagent: nothing runs, and that is no error.",
}
COLOURS = {"done": "good", "shown": "good", "failed": "bad", "refused": "note", "interrupted": "bad"}
CHANGED = "It has changed since it ran, and does not run by itself: csagent user-data run --again runs it."
INTERRUPTED = "What was interrupted is not run again by itself: csagent user-data run --again runs all of it."


def as_json(plan: Plan, record: Optional["Record"] = None, changed: bool = False) -> Dict[str, Any]:
    """The layout of `check --json` and `plan --json`; with a record, each step has its state."""
    return {
        "schema": 1,
        "kind": plan.kind,
        "outcome": plan.outcome,
        "parts": [
            {
                "name": part.name,
                "kind": part.kind,
                "template": part.template,
                "outcome": part.outcome,
                "problems": [status.problem_json(problem) for problem in part.problems],
                "steps": [_step_json(step, record, changed) for step in plan.steps_of(number)],
            }
            for number, part in enumerate(plan.parts)
        ],
        "includes": [include.shown for include in plan.includes],
        "instance": [_step_json(step, record, changed) for step in plan.steps if not step.parts],
        "changed": changed,
    }


def _step_json(step: Step, record: Optional["Record"], changed: bool) -> Dict[str, Any]:
    document = {"id": step.id, "stage": step.stage, "key": step.key, "text": step.text, "often": step.often}
    if record is not None:
        document["state"] = status.step_state(step, record, changed, "")
    return document


def as_text(plan: Plan, console: Console, record: Optional["Record"] = None, changed: bool = False) -> str:
    """For an operator: the parts with what is wrong with them, then the steps in their order."""
    lines: List[str] = []
    for part in plan.parts:
        word = "" if part.outcome == RUNS else f", {part.outcome}"
        what = f"{'template of a ' if part.template else ''}{part.kind}"
        named = _hanging(console, f"{part.name}: {what}{word}", 2)
        lines += [console.paint(line, "head" if not word else "note") for line in named]
        for problem in part.problems:
            lines += _problem(problem, console)
    number = 0
    for stage, title in STAGES.items():
        steps = [step for step in plan.steps if step.stage == stage]
        if not steps:
            continue
        lines += ["", *console.wrap(title)]
        for step in steps:
            number += 1
            state = "" if record is None else f"{status.step_state(step, record, changed, '')}: "
            asked = step.key if step.parts else f"{step.key} (settings)"
            text = f"{state}{asked}: {step.text}"
            told = console.wrap(text, 5, f"{number:3d}")
            colour = COLOURS.get(state.rstrip(": "))
            lines += [console.paint(line, colour) for line in told] if colour else told
    for include in plan.includes:
        text = f"and what {include.shown} brings: it is not fetched here"
        lines += console.wrap(text, 5, "  +")
    lines += ["", *console.wrap(CHANGED if changed else OUTCOMES[plan.outcome])]
    return "\n".join(lines) + "\n"


def _problem(problem: Problem, console: Console) -> List[str]:
    where = f"line {problem.line}: " if problem.line else ""
    key = f"{problem.key}: " if problem.key else ""
    mark = "error" if problem.severity == ERROR else "warning"
    told = console.wrap(f"{mark}: {where}{key}{problem.text}", 4, "  ")
    return [console.paint(line, "bad" if problem.severity == ERROR else "note") for line in told]


def ran_as_text(document: Mapping[str, Any], console: Console) -> str:
    """What became of a document, per part and per key."""
    lines: List[str] = []
    for part in document["parts"]:
        lines += _coloured(console, part["outcome"], f"{part['name']} ({part['kind']}): {part['outcome']}", 2)
        if part["exit"] and not part["keys"].get("runcmd"):
            lines += console.wrap(f"exit {part['exit']}", 4, "  ")
        for key, state in part["keys"].items():
            reason = part["reasons"].get(key, "")
            said = f": {reason}" if reason else ""
            lines += _coloured(console, state.split(",")[0], f"{key}: {state}{said}", 6, "  ")
        for problem in part["problems"]:
            if problem["severity"] == ERROR and not problem["key"]:
                where = f"line {problem['line']}: " if problem["line"] else ""
                lines += console.wrap(f"{where}{problem['text']}", 6, "  ")
        for warning in part["warnings"]:
            lines += [console.paint(line, "note") for line in console.wrap(f"warning: {warning}", 6, "  ")]
    for entry in document["instance"]:
        if entry["state"] == "failed":
            text = f"{entry['key']} (settings): {entry['state']}: {entry['reason']}"
            lines += _coloured(console, entry["state"], text, 4)
    ending = {"changed": CHANGED, "interrupted": INTERRUPTED}.get(document["state"], "")
    lines += console.wrap(f"user-data: {document['state']}. {ending}".strip())
    return "\n".join(lines) + "\n"


def _coloured(console: Console, state: str, text: str, indent: int, first: str = "") -> List[str]:
    colour = COLOURS.get(state)
    told = console.wrap(text, indent, first) if first else _hanging(console, text, indent)
    return [console.paint(line, colour) for line in told] if colour else told


def _hanging(console: Console, text: str, indent: int) -> List[str]:
    """Wrapped, with all lines but the first one indented."""
    first, *rest = Console(console.width - indent).wrap(text)
    return [first, *(" " * indent + line for line in rest)]
