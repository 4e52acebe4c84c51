"""What became of a document: per part and per key, from its plan and its record."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from csagent.state.user_data_record import BEGUN, DONE, FAILED, INTERRUPTED, SHOWN, Record, StepState
from csagent.user_data.plan import IGNORED, REFUSED, RUNS, WARNING, Part, Plan, Problem, Step

RUNNING, WAITING, CHANGED = "running", "waiting", "changed"
# The worst that is known of a part is what is said of it; what is still to come is said first.
PRECEDENCE = (RUNNING, WAITING, INTERRUPTED, FAILED, REFUSED, SHOWN, DONE)


def as_json(
    plan: Plan, record: Record, *, changed: bool = False, current: str = "", more: Sequence[Problem] = ()
) -> Dict[str, Any]:
    """The layout of `status --json` under "user_data", and of `user-data run --json`.

    Args:
        plan: of the document.
        record: what has run.
        changed: the record is about an earlier document of this instance.
        current: the step that is running now.
        more: what is wrong besides (a key that cannot be attributed).
    """
    parts = [_part(plan, number, record, changed, current) for number in range(len(plan.parts))]
    return {
        "schema": 1,
        "state": _state(plan, parts, changed),
        "kind": plan.kind,
        "parts": parts,
        "instance": _instance(plan, record, changed, current),
        "notes": [problem.text for problem in more],
    }


def step_state(step: Step, record: Record, changed: bool, current: str) -> str:
    """One word for one step."""
    known = record.steps.get(step.id)
    if changed or known is None:
        return WAITING
    if known.state == BEGUN:
        return RUNNING if step.id == current else INTERRUPTED
    return known.state


def _state(plan: Plan, parts: List[Dict[str, Any]], changed: bool) -> str:
    if plan.outcome == IGNORED:
        return IGNORED
    if changed:
        return CHANGED
    states = [part["outcome"] for part in parts if part["outcome"] != IGNORED]
    if states and all(state == REFUSED for state in states):
        return REFUSED
    worst = _worst(states)
    return FAILED if worst == REFUSED else worst


def _worst(states: Sequence[str]) -> str:
    return next((state for state in PRECEDENCE if state in states), DONE)


def _part(plan: Plan, number: int, record: Record, changed: bool, current: str) -> Dict[str, Any]:
    part = plan.parts[number]
    steps = [step for step in plan.steps if number in step.parts]
    keys, reasons = _keys(part, steps, record, changed, current)
    said = part.problems if part.outcome == RUNS else ()
    warnings = [_told(problem) for problem in said if problem.severity == WARNING]
    exit_code: Optional[int] = None
    for step in steps:
        known = None if changed else record.steps.get(step.id)
        if known is not None:
            warnings += known.warnings
            if known.state in (DONE, FAILED) and step.key in ("script", "boothook", "runcmd"):
                exit_code = 0 if known.state == DONE else known.exit
    states = [step_state(step, record, changed, current) for step in steps]
    outcome = part.outcome
    if outcome == RUNS:
        outcome = _worst(states)
        if outcome in (DONE, SHOWN) and part.errors:
            outcome = FAILED
    return {
        "name": part.name,
        "kind": part.kind,
        "template": part.template,
        "outcome": outcome,
        "exit": exit_code,
        "keys": keys,
        "reasons": reasons,
        "problems": [problem_json(problem) for problem in part.problems],
        "warnings": warnings,
    }


def _keys(
    part: Part, steps: Sequence[Step], record: Record, changed: bool, current: str
) -> Tuple[Dict[str, str], Dict[str, str]]:
    """What became of each key, in words, and why where it is not well."""
    states: Dict[str, str] = {}
    reasons: Dict[str, str] = {}
    errors: Dict[str, List[Problem]] = {}
    for problem in part.errors:
        if problem.key:
            errors.setdefault(problem.key, []).append(problem)
    by_key: Dict[str, List[Step]] = {}
    for step in steps:
        for key in (step.key, *step.also) if step.key in part.keys else ():
            by_key.setdefault(key, []).append(step)
    for key in dict.fromkeys([*part.keys, *errors]):
        of_key = by_key.get(key, [])
        refused = errors.get(key, [])
        known = {} if changed else record.steps
        states[key] = _of_key(of_key, refused, record, changed, current)
        said = [_told(problem) for problem in refused]
        said += [known[step.id].reason for step in of_key if step.id in known and known[step.id].reason]
        if said:
            reasons[key] = "; ".join(said)
    return states, reasons


def _of_key(
    steps: Sequence[Step], refused: Sequence[Problem], record: Record, changed: bool, current: str
) -> str:
    if not steps:
        return REFUSED if refused else DONE
    states = [step_state(step, record, changed, current) for step in steps]
    worst = _worst(states)
    if worst == FAILED or (refused and worst in (DONE, SHOWN)):
        failed = [record.steps[step.id] for step, state in zip(steps, states) if state == FAILED]
        return f"{FAILED}, {_how(failed, len(refused), len(steps))}".rstrip(", ")
    return worst


def _how(failed: Sequence[StepState], refused: int, steps: int) -> str:
    """`exit 3`, or how many of how many."""
    if len(failed) == 1 and failed[0].count is not None and steps <= 2:
        return f"{failed[0].count[0]} of {failed[0].count[1]}"
    if steps + refused > 1:
        return f"{len(failed) + refused} of {steps + refused}"
    return f"exit {failed[0].exit}" if failed and failed[0].exit is not None else ""


def _instance(plan: Plan, record: Record, changed: bool, current: str) -> List[Dict[str, Any]]:
    """What was done besides what the parts ask for: the account of the setting, the metadata's name."""
    return [
        {
            "key": step.key,
            "state": step_state(step, record, changed, current),
            "reason": record.steps[step.id].reason if step.id in record.steps and not changed else "",
        }
        for step in plan.steps
        if not step.parts
    ]


def _told(problem: Problem) -> str:
    where = f"line {problem.line}: " if problem.line else ""
    return f"{where}{problem.key}{' ' if problem.key else ''}{problem.text}"


def problem_json(problem: Problem) -> Dict[str, Any]:
    """One complaint, as `check --json` and `status --json` say it."""
    return {
        "line": problem.line,
        "key": problem.key or None,
        "text": problem.text,
        "severity": problem.severity,
    }
