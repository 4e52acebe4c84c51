"""csagent's own unit, and sshd's."""

from __future__ import annotations

import os
import shlex
from typing import Dict, Iterator, List

import csagent
from csagent.doctor.context import Situation
from csagent.doctor.finding import NOTE, OK, PROBLEM, WARNING, Finding

OURS = "csagent.service"
SSHD = ("ssh.service", "sshd.service", "ssh.socket", "sshd.socket")
PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,Result,NRestarts,ExecMainStatus,NeedDaemonReload"
)
UNIT_DIRECTORIES = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
WANTED = "/etc/systemd/system/multi-user.target.wants/csagent.service"
AT_BOOT = ("enabled", "enabled-runtime", "static", "alias", "generated")
RESTARTS = 3  # more of them since the unit was started by hand are too many
SETTINGS_WRONG = "2"  # csagent's exit code for them

# A unit that was started too often within ten minutes is started by nothing else until it is told so.
RESTART = f"systemctl reset-failed {OURS}; systemctl restart {OURS}"

UnitProperties = Dict[str, str]


def units(situation: Situation) -> Iterator[Finding]:
    """As systemd says; without it running, as the files of the tree do."""
    show = ("systemctl", "show", f"--property={PROPERTIES}", OURS, *SSHD)
    said = None if situation.tree else situation.ask(*show)
    if not said:
        yield from _in_files(situation)
        return
    known = parse(said)
    yield from _ours(known.get(OURS, {}))
    yield from _sshd([known[name] for name in SSHD if name in known])


def parse(text: str) -> Dict[str, UnitProperties]:
    """What ``systemctl show`` prints: blocks of KEY=value, an empty line between two units."""
    found: Dict[str, UnitProperties] = {}
    for block in text.replace("\r", "").split("\n\n"):
        unit = {key: value for key, _, value in (line.partition("=") for line in block.strip().split("\n"))}
        if unit.get("Id"):
            found[unit["Id"]] = unit
    return found


def _ours(unit: UnitProperties) -> Iterator[Finding]:
    load, active, enabled = unit.get("LoadState"), unit.get("ActiveState"), unit.get("UnitFileState")
    if load in (None, "not-found"):
        means = "nothing runs csagent by itself: neither at boot nor when a password is reset"
        yield Finding("units", PROBLEM, f"there is no {OURS}", means, _installed_again())
        return
    if load == "masked" or enabled == "masked":
        means = "it cannot be started: somebody has turned it off for good"
        yield _masked(OURS, means)
        return
    if enabled not in AT_BOOT:
        means = "it does not run at boot"
        yield Finding("units", PROBLEM, f"{OURS} is {enabled}", means, f"systemctl enable --now {OURS}")
    saw = f"{OURS} is {active} ({unit.get('SubState', '?')})"
    if active == "failed":
        if unit.get("ExecMainStatus") == SETTINGS_WRONG:
            means, advice = "its settings are wrong", f"csagent discover; then: {RESTART}"
        else:
            means = f"it ended with {unit.get('Result', '?')}, and nothing is set any more"
            advice = f"journalctl -b -u csagent; {RESTART}"
        yield Finding("units", PROBLEM, saw, means, advice)
    elif active in ("active", "activating", "reloading"):
        yield Finding("units", OK if active == "active" else NOTE, f"{saw}, {enabled}")
    elif enabled in AT_BOOT:
        means = "it is not running: a reset password or key is not noticed"
        yield Finding("units", PROBLEM, saw, means, f"systemctl start {OURS}; journalctl -b -u csagent")
    restarts = unit.get("NRestarts", "0")
    if restarts.isdigit() and int(restarts) >= RESTARTS:
        means = "it ends again and again"
        yield Finding("units", WARNING, f"{restarts} restarts of {OURS}", means, "journalctl -b -u csagent")
    if unit.get("NeedDaemonReload") == "yes":
        advice = f"systemctl daemon-reload && systemctl restart {OURS}"
        yield Finding("units", WARNING, f"{OURS} was changed on the disk", "the old one still runs", advice)


def _installed_again() -> str:
    """Only what pip installs has units that `csagent install-units` writes."""
    by_pip = os.path.exists(os.path.join(os.path.dirname(csagent.__file__), "data", OURS))
    return "csagent install-units" if by_pip else "install csagent's package again"


def _sshd(found: List[UnitProperties]) -> Iterator[Finding]:
    there = [unit for unit in found if unit.get("LoadState") not in (None, "not-found")]
    if not there:
        yield Finding("units", NOTE, "no unit of sshd's", "logins are by the console only")
        return
    for unit in there:
        if unit.get("ActiveState") == "active":
            yield Finding("units", OK, f"{unit['Id']} is active ({unit.get('SubState', '?')})")
            return
    shown = there[0]
    means = "nobody gets in by SSH, with the right password or key"
    failed = next((unit for unit in there if unit.get("ActiveState") == "failed"), shown)
    name = failed["Id"]
    if failed.get("LoadState") == "masked":
        yield _masked(name, means)
        return
    advice = f"mkdir -p /run/sshd; sshd -t; journalctl -b -u {name}; systemctl enable --now {name}"
    yield Finding("units", PROBLEM, f"{name} is {failed.get('ActiveState', '?')}", means, advice)


def _masked(unit: str, means: str) -> Finding:
    advice = f"systemctl unmask {unit} && systemctl enable --now {unit}"
    return Finding("units", PROBLEM, f"{unit} is masked", means, advice)


def _in_files(situation: Situation) -> Iterator[Finding]:
    tree = situation.system.tree
    unit = [path for path in (f"{one}/{OURS}" for one in UNIT_DIRECTORIES) if tree.stat(path, follow=False)]
    enabled = tree.stat(WANTED, follow=False) is not None
    where = "this is a tree" if situation.tree else "systemd does not run here, or did not answer"
    if not unit:
        yield Finding("units", NOTE, f"not seen: {where}; it has no {OURS} either")
    elif enabled:
        yield Finding("units", NOTE, f"not seen: {where}; {OURS} is enabled")
    else:
        means = "it does not run at boot"
        root = f"--root={shlex.quote(tree.root)} " if situation.tree else ""
        advice = f"systemctl {root}enable {OURS}"
        yield Finding("units", WARNING, f"{OURS} is not enabled ({where})", means, advice)
