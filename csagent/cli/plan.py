"""What apply would do and why, as a diff, secrets masked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List

from csagent.apply import hostname, ssh_keys
from csagent.console import Console, shorten
from csagent.errors import ApplyError
from csagent.plan import (
    HOSTS,
    Acknowledge,
    Action,
    ConfigureNetwork,
    FinishHostname,
    KeepUserData,
    Leave,
    Plan,
    RevokeFormer,
    SetHostname,
    SetPassword,
    WriteKeys,
)
from csagent.system import accounts

if TYPE_CHECKING:
    from csagent.system.seams import System


def verb(action: Action) -> str:
    """What would be done, in one word of the plan's JSON."""
    if isinstance(action, Leave):
        return action.state
    if isinstance(action, Acknowledge):
        return "acknowledge" if action.endpoints else "unchanged"
    if isinstance(action, ConfigureNetwork):
        return "configure" if action.changes else "unchanged"
    if isinstance(action, (FinishHostname, RevokeFormer)):
        return "finish"
    return {"hostname": "set", "ssh_keys": "write", "password": "set", "user_data": "keep"}[action.datum]


def diff(system: "System", action: Action) -> List[str]:
    """Lines that begin with - and +; empty where nothing changes."""
    if isinstance(action, SetHostname):
        now, new = hostname.preview(system, action.name)
        return _changed(now, new)
    if isinstance(action, FinishHostname) and HOSTS in action.todo:
        now, new = hostname.preview_hosts(system, action.name, action.domain, action.todo[HOSTS])
        return _changed(now, new)
    if isinstance(action, WriteKeys):
        try:
            account = accounts.find(system, action.user)
        except ApplyError as error:
            return [f"! {error}"]
        try:
            now, new = ssh_keys.preview(
                system, account, action.keys, action.previous, action.adopt, only_add=action.only_add
            )
        except ApplyError as error:
            return [f"! {error}"]
        before, after = now.split("\n"), new.split("\n")
        return [f"-{line}" for line in before if line and line not in after] + [
            f"+{line}" for line in after if line and line not in before
        ]
    if isinstance(action, SetPassword):
        try:
            accounts.shadow_hash(system, accounts.find(system, action.user).name)
        except ApplyError as error:
            return [f"! {error}"]
        return [f"+{action.user}:***"]
    if isinstance(action, KeepUserData) and action.user_data is not None:
        return [f"+{action.user_data.size} bytes, sha256 {action.user_data.sha256[:16]}..."]
    if isinstance(action, ConfigureNetwork):
        from csagent.apply.network import files

        changes = (files.diff(system, file) for nic in action.network.nics for file in nic.files)
        return [line for text in changes for line in text.split("\n") if line]
    return []


def _changed(now: str, new: str) -> List[str]:
    return [] if now == new else [*([f"-{now}"] if now else []), f"+{new}"]


def as_json(system: "System", plan: Plan, note: str = "") -> Dict[str, Any]:
    """`plan --json`: one entry per datum, with whether it changes the machine; the network's has `nics`."""
    return {
        "schema": 1,
        "changes": plan.changes,
        "note": note or None,
        "actions": [
            {
                "datum": action.datum,
                "action": verb(action),
                "changes": action.changes,
                "wrong": action.wrong,
                "reason": action.reason,
                "source": action.source or None,
                "diff": diff(system, action),
                **_nics(system, action),
            }
            for action in plan.actions
        ],
    }


def _nics(system: "System", action: Action) -> Dict[str, Any]:
    """The NICs, as `network plan --json` has them."""
    if not isinstance(action, ConfigureNetwork):
        return {}
    from csagent.cli import network

    return {"nics": network.as_json(system, action.network)["nics"]}


def as_text(system: "System", plan: Plan, note: str, console: Console) -> str:
    """The plan as text, with a diff for each action."""
    lines: List[str] = [console.paint(line, "note") for line in console.wrap(note)] if note else []
    for action in plan.actions:
        word = verb(action)
        title = f"{action.datum}: "
        lines.append(console.paint(title, "head") + console.paint(word, "good" if action.changes else word))
        source = f" ({action.source})" if action.source else ""
        reason = console.wrap(f"{action.reason}{source}", 4)
        lines += [console.paint(line, "note") for line in reason] if action.wrong else reason
        for line in diff(system, action):
            colour = {"+": "good", "-": "bad"}.get(line[:1], "dim")
            lines.append("    " + console.paint(shorten(line, console.width - 4), colour))
    lines += ["", "apply would change the machine." if plan.changes else "Nothing to change."]
    return "\n".join(lines) + "\n"
