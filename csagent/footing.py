"""Who else could change a program that root shall run: its file, the directories above, the links to it."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Iterator, Optional

from csagent.errors import UsageError
from csagent.tree import MAX_LINKS

if TYPE_CHECKING:
    from csagent.system import System

# Debian's group for those who may change /usr/local, which has its right to write there (policy, 9.1.2).
STAFF = ("staff", 50)
LOCAL = "/usr/local"


def refuse_if_others_may_change(system: "System", path: str) -> None:
    """The unit would give root to whoever can write there, or where a link on the way there leads.

    Raises:
        UsageError: somebody else than root can, or the links go in a ring. What is not there is passed over.
    """
    for step in _way(system, path):
        status = system.tree.stat(step, follow=False)
        if status is not None and _is_others(system, step, status):
            raise UsageError(
                f"{system.tree.shown(step)} can be changed by others than root, as which it runs; "
                "install csagent where only root writes, such as in /opt/csagent"
            )


def _is_others(system: "System", path: str, status: os.stat_result) -> bool:
    # A tree may be its builder's, who is not root.
    users, groups = ({0}, {0}) if system.live else ({0, os.geteuid()}, {0, os.getegid()})
    if status.st_uid not in users:
        return True
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if stat.S_ISLNK(status.st_mode) or sticky:
        return False  # a link's own mode says nothing
    if f"{path}/".startswith(f"{LOCAL}/") and _has_staff(system):
        groups.add(STAFF[1])
    by_group = status.st_mode & stat.S_IWGRP and status.st_gid not in groups
    return bool(status.st_mode & stat.S_IWOTH or by_group)


def _has_staff(system: "System") -> bool:
    lines = (system.tree.read_text("/etc/group") or "").split("\n")
    return (STAFF[0], str(STAFF[1])) in ((*line.split(":"), "", "")[0:3:2] for line in lines)


def _way(system: "System", path: str) -> Iterator[str]:
    """What the kernel goes through to a path: directories, links, the file; each without a link before it."""
    pending = path.split("/")[::-1]
    here, links = "/", 0
    yield here
    while pending:
        name = pending.pop()
        if name == "..":
            here = os.path.dirname(here)
        elif name not in ("", "."):
            step = os.path.join(here, name)
            yield step
            target = link_target(system, step)
            if target is None:
                here = step
            else:
                links += 1
                if links > MAX_LINKS:
                    raise UsageError(f"{system.tree.shown(path)}: {os.strerror(errno.ELOOP)}")
                pending += target.split("/")[::-1]
                here = "/" if target.startswith("/") else here


def link_target(system: "System", path: str) -> Optional[str]:
    """Where a link leads; None for what is no link."""
    try:
        directory, name = system.tree.resolve(path, follow=False)
    except OSError:
        return None
    try:
        return os.readlink(name, dir_fd=directory)
    except OSError:
        return None
    finally:
        os.close(directory)
