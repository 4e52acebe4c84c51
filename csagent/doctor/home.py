"""The account's home directory, looked at by a child: a file server that is gone holds up nobody else.

No link is followed that somebody else than root may have put there: he would choose whose files root is told
to change.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, Dict, Iterator, NamedTuple, Optional, Tuple

from csagent.apply import ssh_keys
from csagent.errors import JailError
from csagent.sandbox import jail
from csagent.system.files import open_regular, read_all
from csagent.system.tree import OTHERS_WRITE, Step

if TYPE_CHECKING:
    from csagent.system.accounts import Account
    from csagent.system.seams import System
    from csagent.system.tree import Tree

SECONDS = 20.0  # for a look at a few directories


class FileStat(NamedTuple):
    """What matters of a file's or a directory's stat.

    `placed`: nobody but root can put something else there, or could: a link, or what is somebody else's.
    """

    mode: int
    uid: int
    directory: bool
    placed: bool


class Home(NamedTuple):
    """What was seen on the way to the file that sshd reads keys from.

    Attributes:
        entries: from / to the file, those that are there; of a link that was followed what it leads to.
        link: one that was not followed, where it leads, and whose it is; nothing below it was looked at.
        text: of the file; None where it cannot be read.
        problem: why nothing was seen at all; else empty.
    """

    entries: Dict[str, FileStat]
    text: Optional[str] = None
    problem: str = ""
    link: Optional[Tuple[str, str, int]] = None


class _Link(Exception):
    """A link that is not followed."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class _Way:
    """Told of each step: follows the links that root has put where nobody else could.

    `placed`: whether all directories until now are root's, and nobody else writes there.
    """

    def __init__(self) -> None:
        self.placed = True

    def __call__(self, step: Step) -> None:
        if not stat.S_ISLNK(step.status.st_mode):
            self.placed = self.placed and step.status.st_uid == 0 and not step.status.st_mode & OTHERS_WRITE
        elif step.status.st_uid != 0 or not self.placed:
            raise _Link(step.path)


def look(system: "System", account: "Account") -> Home:
    """Look there with our rights; what does not answer within 20 s is the problem."""
    path, home = ssh_keys.path(account), plain(account.home)

    def see() -> Dict[str, Any]:
        entries = {}
        link = text = None
        try:
            for one in _way(path):
                status, placed = _stat(system.tree, one, below=len(one) > len(home))
                if status is not None:
                    directory = stat.S_ISDIR(status.st_mode)
                    entries[one] = FileStat(status.st_mode & 0o7777, status.st_uid, directory, placed)
            text = _text(system.tree, path)
        except _Link as error:
            link = _shown(system.tree, error.path)
        return {"entries": entries, "text": text, "link": link}

    job = jail.Job(account.home, system, see, lambda seen, _say: seen, ssh_keys.LIMITS, jail.unprivileged())
    try:
        seen = jail.run(job, SECONDS)
    except JailError as error:
        return Home({}, problem=str(error))
    entries = {one: FileStat(*status) for one, status in seen["entries"].items()}
    return Home(entries, seen["text"], link=seen["link"] and tuple(seen["link"]))


def _stat(tree: "Tree", path: str, *, below: bool) -> Tuple[Optional[os.stat_result], bool]:
    """Its stat, and whether root alone can have put it there. Below the home csagent follows no link at all.

    Raises:
        _Link: there is one that is not followed.
    """
    way = _Way()
    try:
        directory, _name = tree.resolve(path, follow=not below, visit=way)
    except FileNotFoundError:
        return tree.stat(path, follow=False), way.placed  # a link that leads nowhere is in the way, too
    except OSError:
        return None, False
    os.close(directory)
    if below and tree.readlink(path) is not None:
        raise _Link(path)
    return tree.stat(path, follow=not below) or tree.stat(path, follow=False), way.placed


def _text(tree: "Tree", path: str) -> Optional[str]:
    try:
        directory, name = tree.resolve(path, follow=False, visit=_Way())
        try:
            descriptor = open_regular(directory, name)
        finally:
            os.close(directory)
        try:
            return read_all(descriptor, ssh_keys.SIZE_LIMIT).decode("utf-8", "replace")
        finally:
            os.close(descriptor)
    except OSError:
        return None


def _shown(tree: "Tree", path: str) -> Tuple[str, str, int]:
    status = tree.stat(path, follow=False)
    return path, tree.readlink(path) or "", -1 if status is None else status.st_uid


def _way(path: str) -> Iterator[str]:
    """All that stands on the way to a file, and the file: sshd's StrictModes looks at it."""
    whole = plain(path)
    yield "/"
    for depth in range(1, len(whole)):
        if whole[depth] == "/":
            yield whole[:depth]
    if whole != "/":
        yield whole


def plain(path: str) -> str:
    """A path as `Home.entries` has it: passwd(5) may have one that ends with a slash."""
    return "/" + "/".join(part for part in path.split("/") if part)
