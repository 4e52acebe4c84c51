"""The account's home directory, looked at by a child: a file server that is gone holds up nobody else."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, Dict, Iterator, NamedTuple, Optional

from csagent.apply import ssh_keys
from csagent.errors import JailError
from csagent.sandbox import jail

if TYPE_CHECKING:
    from csagent.system.accounts import Account
    from csagent.system.seams import System

SECONDS = 20.0  # for a look at a few directories


class FileStat(NamedTuple):
    """What matters of a file's or a directory's stat."""

    mode: int
    uid: int
    directory: bool


class Home(NamedTuple):
    """What was seen on the way to the file that sshd reads keys from.

    Attributes:
        entries: from / to the file, those that are there.
        text: of the file; None where it cannot be read.
        problem: why nothing was seen at all; else empty.
    """

    entries: Dict[str, FileStat]
    text: Optional[str] = None
    problem: str = ""


def look(system: "System", account: "Account") -> Home:
    """Look there with our rights; what does not answer within 20 s is the problem."""
    path = ssh_keys.path(account)

    def see() -> Dict[str, Any]:
        entries = {}
        for one in _way(path):
            status = system.tree.stat(one)
            if status is not None:
                directory = stat.S_ISDIR(status.st_mode)
                entries[one] = FileStat(status.st_mode & 0o7777, status.st_uid, directory)
        try:
            text = system.tree.read(path, ssh_keys.SIZE_LIMIT).decode("utf-8", "replace")
        except OSError:
            text = None
        return {"entries": entries, "text": text}

    job = jail.Job(account.home, system, see, lambda seen, _say: seen, ssh_keys.LIMITS, jail.unprivileged())
    try:
        seen = jail.run(job, SECONDS)
    except JailError as error:
        return Home({}, problem=str(error))
    return Home({one: FileStat(*status) for one, status in seen["entries"].items()}, seen["text"])


def _way(path: str) -> Iterator[str]:
    """All that stands on the way to a file, and the file: sshd's StrictModes looks at it."""
    parts = [part for part in path.split("/") if part]
    yield "/"
    for depth in range(len(parts)):
        yield os.path.join("/", *parts[: depth + 1])
