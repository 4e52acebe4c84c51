"""Who else could change a file: its owner, its mode, the directories above, the links on the way to it."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Dict, FrozenSet, Iterator, NamedTuple, Optional

from csagent.errors import UsageError
from csagent.system import accounts
from csagent.system.tree import MAX_LINKS

if TYPE_CHECKING:
    from csagent.system.seams import System

# Debian's group for those who may change /usr/local, which has its right to write there (policy, 9.1.2).
STAFF = ("staff", 50)
LOCAL = "/usr/local"

ROOT, SYSTEM = "root", "root or a system account"  # whom a file may belong to


def refuse_if_others_may_change(system: "System", path: str) -> None:
    """The unit would give root to whoever can write there, or where a link on the way there leads.

    Raises:
        UsageError: somebody else than root can, or the links go in a ring. What is not there is passed over.
    """
    for step in _way(system, path):
        if _objection(system, step, _Holders(system, ROOT)) is not None:
            raise UsageError(
                f"{system.tree.shown(step)} can be changed by others than root, as which it runs; "
                "install csagent where only root writes, such as in /opt/csagent"
            )


def objection(
    system: "System", path: str, owner: str, known: Optional[Dict[str, str]] = None
) -> Optional[str]:
    """Why what stands at `path` need not be root's word; None where nobody else could have written it.

    In a directory with the sticky bit everybody makes files of his own and nobody changes another's
    (/var/tmp): it is the file's owner that counts there.

    Args:
        system: whose file it is. A tree may be its builder's: whose its top is, or who looks.
        path: what is not there is passed over.
        owner: ROOT, or SYSTEM: a DHCP client may run as an account of its own.
        known: the verdicts on the directories so far, "" for none; for several files of one place.

    Returns:
        One line that names the file or directory and who else can write there.
    """
    holders = _Holders(system, owner)
    verdicts = {} if known is None else known
    try:
        for step in _way(system, path):
            if step not in verdicts:
                verdicts[step] = _objection(system, step, holders) or ""
            if verdicts[step]:
                return verdicts[step]
    except UsageError as error:
        return str(error)
    return None


def _objection(system: "System", path: str, holders: "_Holders") -> Optional[str]:
    status = system.tree.stat(path, follow=False)
    if status is None:
        return None
    shown = system.tree.shown(path)
    if not holders.user(status.st_uid):
        return f"{shown} belongs to user {status.st_uid}, not to {holders.owner}"
    sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
    if stat.S_ISLNK(status.st_mode) or sticky:
        return None  # a link's own mode says nothing
    if status.st_mode & stat.S_IWOTH:
        return f"everybody can write {shown}"
    if status.st_mode & stat.S_IWGRP and not holders.group(status.st_gid, path):
        return f"group {status.st_gid} can write {shown}"
    return None


class _Accounts(NamedTuple):
    """What the account files say: where persons' numbers begin, and the groups that have a person in them."""

    first_person: int
    with_persons: FrozenSet[int]


class _Holders:
    """Which users and groups may hold a file."""

    def __init__(self, system: "System", owner: str) -> None:
        self._system = system
        self.owner = owner
        self._accounts: Optional[_Accounts] = None
        self._users, self._groups = {0}, {0}
        if not system.live:
            top = os.stat(system.tree.root)
            self._users.update((os.geteuid(), top.st_uid))
            self._groups.update((os.getegid(), top.st_gid))

    def user(self, uid: int) -> bool:
        return uid in self._users or (self.owner == SYSTEM and uid < self._read().first_person)

    def group(self, gid: int, path: str) -> bool:
        if gid in self._groups:
            return True
        if gid == STAFF[1] and f"{path}/".startswith(f"{LOCAL}/") and _has_staff(self._system):
            return True
        known = self._read()
        return self.owner == SYSTEM and gid < known.first_person and gid not in known.with_persons

    def _read(self) -> _Accounts:
        if self._accounts is None:
            self._accounts = _read_accounts(self._system)
        return self._accounts


def _read_accounts(system: "System") -> _Accounts:
    first = accounts.login_defs(system, "UID_MIN", accounts.FIRST_PERSON)
    persons = [account for account in accounts.passwd(system) if account.uid >= first]
    return _Accounts(first, frozenset(gid for person in persons for gid in person.groups))


def _has_staff(system: "System") -> bool:
    return any((group.name, group.gid) == STAFF for group in accounts.groups(system))


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
