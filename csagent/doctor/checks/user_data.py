"""What became of the instance's user-data, and what to do where that is not what its author wanted."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Tuple

from csagent.doctor.context import Situation
from csagent.doctor.finding import NOTE, OK, WARNING, Finding
from csagent.errors import CsagentError

AREA = "user-data"
AGAIN = "csagent user-data run --again runs all of it"
LOOK = "csagent status; tail -n 50 /var/log/csagent-user-data.log"
STATES: Dict[str, Tuple[str, str, str]] = {
    "done": (OK, "", ""),
    "waiting": (
        NOTE,
        "its units have not run it yet",
        "systemctl status csagent-user-data.path csagent-user-data",
    ),
    "running": (NOTE, "a script takes as long as it takes", "tail -f /var/log/csagent-user-data.log"),
    "failed": (WARNING, "the rest of it was done", LOOK),
    "refused": (WARNING, "nothing of it was run", "csagent user-data plan"),
    "interrupted": (WARNING, "what was cut short does not run again by itself", f"{LOOK}; {AGAIN}"),
    "changed": (NOTE, "it has changed since it ran, and runs once for an instance", AGAIN),
    "ignored": (OK, "it is left to others", ""),
}
WELL = ("done", "ignored", "shown")
KILLED = "running, but no run of it is under way"


def user_data(situation: Situation) -> Iterator[Finding]:
    """Its state, and each part that did not do what it should."""
    from csagent.state import status_files

    try:
        document = status_files.user_data(situation.system.tree.root)
    except CsagentError as error:
        means = "what became of user-data is not known"
        yield Finding(AREA, WARNING, str(error), means, "csagent apply; csagent user-data run")
        return
    if document is None:
        yield _none(situation)
        return
    word = str(document.get("state"))
    state, means, advice = STATES.get(word, (NOTE, "", ""))
    notes = document.get("notes")
    said = "; ".join(str(note) for note in notes) if isinstance(notes, list) else ""
    if word == "running" and _nobody_runs(situation):
        means = "its run was killed; the next one goes on behind the step that it was at"
        yield Finding(AREA, WARNING, KILLED, means, f"csagent user-data run; {LOOK}")
    else:
        yield Finding(AREA, state, word, said or means, advice)
    parts = document.get("parts")
    for part in parts if isinstance(parts, list) else []:
        if isinstance(part, dict) and part.get("outcome") not in (*WELL, "waiting"):
            saw = f"{part.get('name')} ({part.get('kind')}): {part.get('outcome')}"
            yield Finding(AREA, NOTE, saw, "; ".join(_why(part)))


def _nobody_runs(situation: Situation) -> bool:
    """Whether nobody holds the lock of a run; who cannot look at it does not know."""
    from csagent.state import user_data_record

    system = situation.system
    return situation.root and not system.recorded and not user_data_record.running(system)


def _none(situation: Situation) -> Finding:
    chosen = situation.settings.user_data
    if chosen != "run":
        return Finding(AREA, NOTE, f"not run: the setting user_data is {chosen}")
    reason = str(situation.datum("user_data").get("reason") or "no pass has seen any")
    return Finding(AREA, OK, "nothing of it has run", reason)


def _why(part: Dict[str, Any]) -> List[str]:
    found = []
    keys, reasons = part.get("keys"), part.get("reasons")
    for key, state in (keys if isinstance(keys, dict) else {}).items():
        if state not in WELL:
            reason = reasons.get(key) if isinstance(reasons, dict) else None
            found.append(f"{key}: {reason or state}")
    problems = part.get("problems")
    for one in problems if isinstance(problems, list) else []:
        if isinstance(one, dict) and one.get("severity") == "error" and not one.get("key"):
            where = f"line {one['line']}: " if one.get("line") else ""
            found.append(f"{where}{one.get('text')}")
    if part.get("exit"):
        found.append(f"exit {part['exit']}")
    return found
