"""What is said on an instance's console, which CloudStack's UI shows: a line, and its host keys."""

from __future__ import annotations

import os

from csagent.console import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Collection, List, Mapping, Tuple

    from csagent.system.seams import System

LIMIT = 300  # characters of a line
WHY = "csagent status says why"
# A datum as people call it, and what its state means to who looks at a console.
NAMES = {"ssh_keys": "SSH keys", "password": "password"}
WORDS = {"applied": "set", "unchanged": "set", "off": "left alone"}
NOTHING_NEW = {"ssh_keys": "no SSH keys", "password": "no new password"}
OTHERS = {
    "hostname": "host name",
    "network": "network",
    "user_data": "user-data",
}  # told where they are wrong
GOOD = ("done", "waiting", "running", "shown", "ignored")
REFUSED = "refused"


def of_machine(root: str, status: "Mapping[str, Any]") -> str:
    """What `csagent status --console` prints: the line, and on an instance's first boot its host keys."""
    from csagent.cli.host_keys import host_keys
    from csagent.state import console_mark
    from csagent.system.seams import System

    system = System.at(root)
    keys = host_keys(system) if console_mark.shows_host_keys(root) else []
    return as_text([machine_line(system, status), *keys])


def machine_line(system: "System", status: "Mapping[str, Any]") -> str:
    """One line about the last pass: name, addresses, whether keys and password are set, what went wrong.

    Args:
        system: the machine that it is about.
        status: what the pass left, as of `csagent status --json`.
    """
    from csagent.discovery import interfaces

    addresses = [address for nic in interfaces.nics(system) for address in nic.addresses]
    who = f"{_name(system)} ({', '.join(addresses) or 'no IPv4 address'})"
    if not status.get("source_found"):
        return _line(f"{who}: no CloudStack source found so far; csagent doctor says why")
    data = status.get("data")
    entries = {
        name: entry
        for name, entry in (data if isinstance(data, dict) else {}).items()
        if isinstance(entry, dict)
    }
    said = [_state(name, entries.get(name, {})) for name in NAMES]
    wrong = [name for name, entry in entries.items() if entry.get("wrong") is True]
    said += [f"{OTHERS[name]} {entries[name].get('state')}" for name in OTHERS if name in wrong]
    return _line(f"{who}: {', '.join(said)}{f' ({WHY})' if wrong else ''}")


def _state(name: str, entry: "Mapping[str, Any]") -> str:
    state = str(entry.get("state"))
    if state == "absent":
        return NOTHING_NEW[name]
    return f"{NAMES[name]} {WORDS.get(state, state)}"


def _name(system: "System") -> str:
    if system.live:
        return os.uname().nodename
    return (system.tree.read_text("/etc/hostname", 1024) or "").strip() or "?"


def user_data_line(stage: str, document: "Mapping[str, Any]", ran: "Collection[Tuple[int, str]]") -> str:
    """One line about a stage of user-data that has run: what of it is not well, by key, or that all is.

    Args:
        stage: early or final.
        document: what became of it, as of `csagent.user_data.status`.
        ran: the numbers of the parts and the keys of what has run now; of others only refusals are told.
    """
    if document.get("state") == "changed":
        return _line("user-data has changed since it ran: csagent user-data run --again runs it")
    bad: "List[str]" = []
    for number, part in enumerate(document["parts"]):
        said = [
            f"{key} {word}"
            for key, word in part["keys"].items()
            if word not in GOOD and ((number, key) in ran or word == REFUSED)
        ]
        now = part["outcome"] == REFUSED or any(number == other for other, _key in ran)
        if now and not part["keys"] and part["outcome"] not in GOOD:
            exit_code = f", exit {part['exit']}" if part["exit"] else ""
            said = [f"{part['name']} {part['outcome']}{exit_code}"]
        bad += said
    return _line(f"user-data, {stage} stage over: {'; '.join(bad)}{f' ({WHY})' if bad else 'all done'}")


def _line(text: str) -> str:
    return one_line(f"csagent: {text}", LIMIT)


def as_text(lines: "List[str]") -> str:
    """Lines for the console, below whatever login prompt may stand there."""
    return "".join(f"{line}\n" for line in ["", *lines])
