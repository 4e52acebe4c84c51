"""After a run that was cut short: the half-written files that its last step has left behind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Iterable, List, Set

from csagent.state import lock
from csagent.state.user_data_record import BEGUN, Record
from csagent.system.files import TEMPORARY_SUFFIX

if TYPE_CHECKING:
    from csagent.log import Say
    from csagent.system.seams import System
    from csagent.user_data.plan import Plan, Step

# Where steps write that do not name a file of the document's.
DIRECTORIES = (
    *("/etc", "/etc/chrony", "/etc/default", "/etc/ssh", "/etc/ssh/sshd_config.d", "/etc/sudoers.d"),
    "/etc/systemd/timesyncd.conf.d",
)
SCRIPTS = ("bootcmd", "boothooks", "per-boot", "per-instance", "per-once", "scripts")


def interrupted(plan: "Plan", record: Record) -> List["Step"]:
    """The steps that began and did not end."""
    return [step for step in plan.steps if getattr(record.steps.get(step.id), "state", "") == BEGUN]


def clear_up(system: "System", plan: "Plan", record: Record, log: "Say") -> None:
    """Remove what an interrupted step has written and not put into its place. What it has done stays."""
    steps = interrupted(plan, record)
    if not steps:
        return
    with lock.hold(system, say=log):  # a pass writes such files too
        for directory in sorted(_directories(steps, record.folder)):
            _clear(system, directory)


def _directories(steps: Iterable["Step"], folder: str) -> Set[str]:
    found = {*DIRECTORIES, folder, *(f"{folder}/{name}" for name in SCRIPTS)}
    for step in steps:
        paths = [getattr(step.action, "path", ""), *(one.path for one in getattr(step.action, "files", ()))]
        found.update(os.path.dirname(path) for path in paths if path)
    return found


def _clear(system: "System", directory: str) -> None:
    for name in system.tree.names(directory):
        if name.startswith(".") and name.endswith(TEMPORARY_SUFFIX):
            try:
                system.tree.remove(f"{directory}/{name}")
            except OSError:
                pass  # a read-only file system: nothing will be written there either
