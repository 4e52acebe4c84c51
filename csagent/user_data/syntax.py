"""Let the shell look at scripts before anything runs: an unbalanced quote is found beforehand.

In a child without rights and with limits, since a shell reads a stranger's text there. What runs stays the
same: what stands before the fault would run (field/user-data#D15).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Dict, List, Tuple

from csagent.errors import JailError
from csagent.sandbox import jail
from csagent.user_data.execute.scripts import RunScript
from csagent.user_data.plan import WARNING, Part, Plan, Problem, Step

if TYPE_CHECKING:
    from csagent.system.seams import System

WANTED = (RunScript.__name__,)  # the classes of actions that are looked at
SHELLS = ("sh", "dash", "bash")
SCRIPTS_LIMIT = 50
SECONDS = 60.0
LIMITS = jail.Limits(cpu=20, memory=512 * jail.MIB, descriptors=64, processes=256, answer=jail.MIB)
_FIRST_LINE = re.compile(rb"#!\s*(?:/usr)?/bin/(?:env\s+)?(\w+)")
_SAID = re.compile(r"line (\d+): (.*)|^[^:]*: (\d+): (.*)")


def check(system: "System", plan: Plan) -> Plan:
    """The plan with a warning for each script that its shell would not read to the end."""
    looked_at = [(step, shell) for step in plan.steps for shell in (_shell(step),) if shell]
    if not looked_at:
        return plan
    found = _ask(system, looked_at[:SCRIPTS_LIMIT])
    parts = list(plan.parts)
    for number, said in found.items():
        step, _shell_name = looked_at[number]
        if step.parts:
            part = parts[step.parts[-1]]
            parts[step.parts[-1]] = part._replace(problems=(*part.problems, _problem(step, part, said)))
    return plan._replace(parts=tuple(parts))


def _shell(step: Step) -> str:
    """The shell that would read a script; "" for one that is none of ours to ask."""
    if not isinstance(step.action, RunScript):
        return ""
    if step.action.by_shell:
        return "sh"
    match = _FIRST_LINE.match(step.action.content.reveal())
    name = match.group(1).decode() if match else ""
    return name if name in SHELLS else ""


def _ask(system: "System", scripts: List[Tuple[Step, str]]) -> Dict[int, str]:
    """By the number of the script, what its shell says is wrong with it."""

    def work(_prepared: Any, _say: jail.Send) -> Any:
        said = []
        for step, shell in scripts:
            done = system.runner.run([shell, "-n"], stdin=step.action.content.reveal(), timeout=10.0)
            wrong = done.code not in (0, None)
            said.append(done.error.decode("utf-8", "replace")[:1000] if wrong else "")
        return said

    try:
        job = jail.Job("shell", system, lambda: None, work, LIMITS, jail.unprivileged())
        answer = jail.run(job, SECONDS)
    except JailError:
        return {}  # it would be news, and no more
    if not isinstance(answer, list) or len(answer) != len(scripts):
        return {}
    return {number: text for number, text in enumerate(answer) if isinstance(text, str) and text}


def _problem(step: Step, part: Part, said: str) -> Problem:
    """What the shell says, with the line of the document."""
    match = _SAID.search(said.strip().splitlines()[0])
    line, text = 1, "the shell does not understand it"
    if match is not None:
        number, text = (
            (match.group(1), match.group(2)) if match.group(1) else (match.group(3), match.group(4))
        )
        line = int(number)
    lines = step.action.lines
    if lines:
        line = lines[min(max(line, 1), len(lines)) - 1]
    key = step.key if step.key not in ("script", "boothook") else ""
    told = f"the shell will end before its end: {_without_content(text)}"
    return Problem(told, line, key, WARNING)


def _without_content(text: str) -> str:
    """The complaint without what it quotes of the script."""
    return re.sub(r"[\"'`].*", "", text).strip(" :(") or "a syntax error"
