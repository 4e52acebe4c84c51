"""What the last pass did with each datum, and the settings it went by."""

from __future__ import annotations

import re
import shlex
import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, Optional, Tuple

from csagent import __version__
from csagent.apply import failures
from csagent.doctor.checks.units import RESTART
from csagent.doctor.context import Situation
from csagent.doctor.finding import FIXED, NOTE, OK, PROBLEM, WARNING, Finding
from csagent.errors import EXIT_NO_SOURCE, SettingsError
from csagent.state.status_files import SIZE_LIMIT, STATUS
from csagent.system import json_limits

if TYPE_CHECKING:
    from csagent.settings import Settings
    from csagent.system.seams import System

NAMES_A_LINE = re.compile(r", line \d+: ")
SETTINGS_FILE = re.compile(r"(/.+?\.yaml)(?:: | says )")
SEE = "journalctl -b -u csagent; csagent plan"
NOT_WHOLE = (
    "csagent -v fetch; register the keys anew in CloudStack where a line of them is broken; csagent apply"
)
# set-time is refused as long as a time server is asked.
SET_CLOCK = (
    "timedatectl; timedatectl set-ntp true; where no time server answers: timedatectl set-ntp false; "
    "timedatectl set-time 'YYYY-MM-DD hh:mm:ss'"
)
SLACK = 300.0  # seconds by which two looks at the clock may differ
DOUBTED = "not surely whole"  # in a reason, as csagent.decide says it
STATES: Dict[str, Tuple[str, str]] = {
    "applied": (OK, ""),
    "unchanged": (OK, ""),
    "off": (NOTE, ""),
    "absent": (OK, ""),
    "unknown": (NOTE, ""),
    "refused": (WARNING, SEE),
    "failed": (PROBLEM, FIXED),
}


def load_settings(system: "System", config: Optional[str]) -> Tuple["Settings", str]:
    """The settings, or the defaults and why they are used.

    Raises:
        SettingsError: there is no such file as the command line names.
    """
    from csagent import settings

    try:
        return settings.load(system, config), ""
    except SettingsError as error:
        if str(error).startswith("--config "):
            raise
        return settings.Settings(), str(error)


def load_status(system: "System") -> Tuple[Optional[Dict[str, Any]], str]:
    """The document of the last pass, or None and why there is none."""
    try:
        document = json_limits.loads(system.tree.read(STATUS, SIZE_LIMIT))
    except FileNotFoundError:
        return None, ""
    except OSError as error:
        return None, f"{system.tree.shown(STATUS)} cannot be read: {error.strerror}"
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        return None, f"{system.tree.shown(STATUS)} is damaged"
    return document, ""


def is_to_come(situation: Situation) -> bool:
    """Whether the last pass ended at a moment that the clock has not reached.

    It was ahead then, or has been set back since: which of the two, only a look at another clock tells.
    """
    when = (situation.status or {}).get("finished")
    if situation.tree or not isinstance(when, (int, float)) or isinstance(when, bool):
        return False
    return situation.system.clock.now() < when - SLACK


def last_pass(situation: Situation) -> Iterator[Finding]:
    """When it was, and per datum what became of it and why."""
    status = situation.status
    if status is None:
        yield _none(situation)
        return
    when = status.get("finished")
    known = isinstance(when, (int, float)) and not isinstance(when, bool) and 0 <= when < 1e11
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(when)) if known else "at an unknown time"
    version = status.get("version")
    other = f" by csagent {version}, this is {__version__}" if version != __version__ else ""
    to_come = is_to_come(situation)
    if status.get("exit_code") == EXIT_NO_SOURCE or status.get("source_found") is False:
        means = "it found no CloudStack source, so it changed nothing"
        state = NOTE if situation.seen.source_found else WARNING
        advice = "csagent apply" if situation.seen.source_found else "see the areas router and drives above"
        yield Finding("last pass", state, f"{shown}{other}", means, advice)
    elif not to_come:
        yield Finding("last pass", OK, f"{shown}{other}")
    if to_come:
        means = "by the clock: it was ahead at that pass, or has been set back since"
        advice = f"date; where that is right: csagent apply; else: {SET_CLOCK}"
        yield Finding("last pass", WARNING, f"{shown}{other}, which is still to come", means, advice)
    if status.get("note"):
        yield Finding("last pass", WARNING, str(status["note"]), "told by the pass itself", SEE)
    data = status.get("data")
    for name in data if isinstance(data, dict) else ():
        yield _datum(name, situation)


def _none(situation: Situation) -> Finding:
    if situation.status_problem:
        means = "the next pass writes it anew"
        return Finding("last pass", WARNING, situation.status_problem, means, "csagent apply")
    if situation.tree:
        return Finding("last pass", OK, "none yet", "as a template should be")
    means = "since this machine was started no pass has ended, or none had room in /run for its record"
    advice = "systemctl status csagent; journalctl -b -u csagent; csagent apply"
    return Finding("last pass", WARNING, "none", means, advice)


def _datum(name: str, situation: Situation) -> Finding:
    entry = situation.datum(name)
    word, reason = str(entry.get("state")), str(entry.get("reason", ""))
    state, advice = STATES.get(word, (NOTE, ""))
    source = f" ({entry['source']})" if entry.get("source") and word != "failed" else ""
    failure = failures.find(reason) if word == "failed" else None
    if failure is not None:
        reason, advice = failures.without_advice(reason), failure.advice
    means = f"{reason}{source}"
    if name == "password" and word == "unknown" and situation.seen.password == "unknown":
        state, advice = WARNING, _look_at("")
    if entry.get("acknowledged") == "no":
        state = WARNING if state in (OK, NOTE) else state
        means += "; the password server was not told that it is saved, and is told by a later pass"
        advice = advice or "csagent apply"
    if entry.get("wrong") is True and state in (OK, NOTE):
        state = WARNING
        advice = advice or _for_what_is_wrong(name, word, reason, str(entry.get("source") or ""))
    if word == "refused" and "--force-password" in reason:
        advice = "csagent apply --force-password"
    return Finding("last pass", state, f"{name}: {word}", means, advice)


def _for_what_is_wrong(name: str, word: str, reason: str, source: str) -> str:
    """What helps where a part of a change failed, or a value did not come whole."""
    doubted = DOUBTED in reason
    failure = failures.find(reason) if word != "unknown" else None
    if failure is not None:
        return failure.advice
    if doubted and name == "ssh_keys":
        return NOT_WHOLE
    if not doubted and word != "unknown":
        return FIXED
    return _look_at(source)


def _look_at(source: str) -> str:
    area = "drives" if source.startswith("drive") else "router"
    return f"see the area {area} above, then: csagent apply"


def settings(situation: Situation) -> Iterator[Finding]:
    """Whether they are valid, and which are not at their defaults."""
    if situation.settings_problem:
        means = "csagent does not start with settings it does not understand; doctor went by the defaults"
        advice = f"{_mended(situation.settings_problem)}, then: {RESTART}"
        yield Finding("settings", PROBLEM, situation.settings_problem, means, advice)
        return
    from csagent.settings import TABLE, as_yaml

    changed = [
        f"{one.name}: {as_yaml(getattr(situation.settings, one.name))}"
        for one in TABLE
        if getattr(situation.settings, one.name) != one.default
    ]
    if not changed:
        yield Finding("settings", OK, "all at their defaults")
        return
    off = [
        name
        for name in ("hostname", "ssh_keys", "password", "network")
        if not getattr(situation.settings, name)
    ]
    means = f"{', '.join(off)} left alone because of that" if off else ""
    yield Finding("settings", NOTE, "; ".join(changed), means)


def _mended(problem: str) -> str:
    """How settings come right: a line of them, or what the file needs, or the file itself and whose it is."""
    if NAMES_A_LINE.search(problem):
        return "correct that line"
    if "PyYAML" in problem:
        return "install python3-yaml (on EL python3-pyyaml)"
    from csagent.settings import MAIN_FILE

    file = SETTINGS_FILE.match(problem)
    return f"namei -l {shlex.quote(file.group(1) if file else MAIN_FILE)}; mend what is said of it"
