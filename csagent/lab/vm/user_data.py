"""User-data on a template: what the lab gives it, and the judgement on what came of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping

from csagent.errors import UsageError
from csagent.lab.vm.checks import FAIL, PASS, SKIP, Judgement
from csagent.lab.vm.inspect_guest import sections

if TYPE_CHECKING:
    from csagent.lab.vm.guest import Guest

RAN = "/var/lib/csagent-lab-ran"  # of the guest
QUICK = f"#!/bin/sh\necho once >>{RAN}\n".encode()
ENDLESS = QUICK + b"while :; do sleep 1; done\n"  # for the power cut
SIZE_LIMIT = 1 << 20  # bytes: no release of CloudStack takes more

# $patience seconds for all of it, or $own for the script of the lab; where there is no csagent the script is
# what there is to look at.
LOOK = rf"""
section() {{ printf '\n==%s\n' "$1"; }}
if command -v csagent >/dev/null; then
    csagent -q status --wait "$patience" --user-data >/dev/null 2>&1
elif [ -n "$own" ]; then
    for try in $(seq "$patience"); do [ -s {RAN} ] && break; sleep 1; done
fi
section ran; [ -n "$own" ] && cat {RAN} 2>/dev/null
command -v csagent >/dev/null || exit 0
section status; csagent status --json 2>/dev/null
section plan; csagent user-data plan --json 2>/dev/null
section record; cat /var/lib/csagent/user-data/*/record 2>/dev/null
exit 0
"""
# The script is at its endless work, and its first line on the disk.
BEGUN = rf"for try in $(seq 60); do [ -s {RAN} ] && break; sleep 1; done; sync"


@dataclass(frozen=True)
class Seen:
    """What there was to see in a guest."""

    runs: int = 0  # of the lab's script
    status: Mapping[str, Any] = field(default_factory=dict)  # "user_data" of csagent status; {} for none
    often: Mapping[str, str] = field(default_factory=dict)  # by step: once per instance or machine, or boot
    begun: Mapping[str, int] = field(default_factory=dict)  # by step: how often

    @property
    def state(self) -> str:
        """In one word, as csagent has it; "" where it runs none."""
        state = str(self.status.get("state", ""))
        return "" if state == "ignored" else state


def read(path: Path) -> bytes:
    """A builder's document.

    Raises:
        UsageError: it cannot be read, or CloudStack would not take it.
    """
    try:
        with open(path, "rb") as stream:
            raw = stream.read(SIZE_LIMIT + 1)
    except OSError as error:
        raise UsageError(f"--user-data {path}: {error.strerror}") from None
    if not raw or len(raw) > SIZE_LIMIT:
        raise UsageError(f"--user-data {path}: {'empty' if not raw else 'more than 1 MiB'}")
    return raw


def see(guest: "Guest", patience: float, *, own: bool) -> Seen:
    """Wait until it has ended, and look.

    Args:
        guest: that somebody is logged in to.
        patience: seconds to wait.
        own: the document is `QUICK` or `ENDLESS`.

    Raises:
        CsagentError: as `Guest.run`.
    """
    text = guest.run(LOOK, patience=f"{patience:.0f}", own="yes" if own else "")
    return seen(sections(text))


def seen(found: Mapping[str, str]) -> Seen:
    """What the script has printed, understood; what is damaged is as if it were not there."""
    begun: Dict[str, int] = {}
    for line in found.get("record", "").splitlines():
        entry = _json(line)
        if entry.get("state") == "begun":
            begun[str(entry.get("step"))] = begun.get(str(entry.get("step")), 0) + 1
    plan = _json(found.get("plan", ""))
    steps: List[Any] = [step for part in plan.get("parts", ()) for step in part.get("steps", ())]
    steps += plan.get("instance", ())
    status = _json(found.get("status", "")).get("user_data")
    return Seen(
        len(found.get("ran", "").split()),
        status if isinstance(status, dict) else {},
        {str(step.get("id")): str(step.get("often")) for step in steps},
        begun,
    )


def _json(text: str) -> Dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def ran(found: Seen, *, own: bool) -> Judgement:
    """Whether all of it has run, once."""
    if found.state == "done":
        twice = _twice(found)
        return (FAIL, f"ran twice: {twice}") if twice else (PASS, "done, each step once")
    if found.state in ("running", "waiting"):
        return FAIL, f"it is {found.state} still: {_told(found)}"
    if found.state:
        return FAIL, f"{found.state}: {_told(found)}"
    return _by_script(found, own)


def again(found: Seen, *, own: bool) -> Judgement:
    """Whether the second boot has left alone what had run; bootcmd and its like run at every boot."""
    if not found.state:
        return _by_script(found, own)
    twice = _twice(found)
    return (FAIL, f"ran again: {twice}") if twice or found.runs > 1 else (PASS, "nothing ran again")


def interrupted(found: Seen) -> Judgement:
    """After a power cut in the middle of `ENDLESS`, and another boot."""
    if found.runs > 1:
        return FAIL, "it ran again"
    if not found.state:
        return SKIP, _untold(found) if not found.runs else "it did not run again; nothing in it would say so"
    if found.state != "interrupted":
        return FAIL, f"csagent status says {found.state}"
    return PASS, "csagent status says so, and it did not run again"


def _by_script(found: Seen, own: bool) -> Judgement:
    if own and found.runs:
        return (PASS, "once") if found.runs == 1 else (FAIL, f"it ran {found.runs} times")
    return SKIP, _untold(found)


def _untold(found: Seen) -> str:
    notes = "; ".join(map(str, found.status.get("notes", ())))
    return notes or ("it is not for csagent" if found.status else "nothing in it has run it")


def _twice(found: Seen) -> str:
    steps = [step for step, count in found.begun.items() if count > 1 and found.often.get(step) != "boot"]
    return ", ".join(steps[:4])


def _told(found: Seen) -> str:
    """The first things that are wrong, by part and key."""
    said: List[str] = []
    for part in found.status.get("parts", ()):
        keys = {key: state for key, state in part.get("keys", {}).items() if state != "done"}
        for key, state in keys.items():
            said.append(": ".join(filter(None, (key, state, part.get("reasons", {}).get(key, "")))))
        for problem in part.get("problems", ()):
            if problem.get("severity") == "error" and not problem.get("key"):
                where = f"line {problem['line']}: " if problem.get("line") else ""
                said.append(f"{where}{problem.get('text')}")
        if not keys and part.get("outcome") not in ("done", "ignored") and part.get("exit"):
            said.append(f"{part.get('name')}: exit {part['exit']}")
    return "; ".join(said[:4]) or "csagent status says why"
