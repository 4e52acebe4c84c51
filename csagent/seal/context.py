"""What sealing works on: the machine or tree, what was asked for, and who lives there."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Callable, FrozenSet, Iterator, List, Optional, Tuple

from csagent.seal.directory import PLACE, DirectoryEntry, Ground, Overlooked
from csagent.system import accounts
from csagent.system.accounts import Account
from csagent.system.mounts import Mounts, without_servers
from csagent.system.tree import READ_LIMIT

if TYPE_CHECKING:
    from csagent.settings import Settings
    from csagent.system.seams import System

LOCK, EXPIRE, KEEP = "lock", "expire", "keep"
PASSWORDS = (LOCK, EXPIRE, KEEP)
TEMPLATE_NAME = "localhost"  # CloudStack's template guide; systemd takes it for "no name yet"


@dataclass(frozen=True)
class Choice:
    """What the operator asked for."""

    password: str = LOCK
    hostname: str = TEMPLATE_NAME
    keep: FrozenSet[str] = frozenset()
    all_keys: bool = False


@dataclass(frozen=True)
class Leftover:
    """One thing that should not be in a template. `act` removes it; it raises OSError or ApplyError.

    `action` is remove, empty, rewrite, create, lock or expire; `size` is in bytes.
    """

    path: str
    action: str
    act: Callable[[], None] = field(compare=False, repr=False)
    size: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Warning_:
    """Something that sealing leaves alone, and the operator should look at."""

    path: str
    text: str


@dataclass
class Scene:
    """A machine or a tree, looked at once."""

    system: "System"
    settings: "Settings"
    choice: Choice
    mounts: Mounts
    people: Tuple[Account, ...]
    overlooked: Overlooked = field(default_factory=Overlooked)

    @classmethod
    def of(cls, system: "System", settings: "Settings", choice: Choice) -> "Scene":
        """The tree with its mounts, and the accounts whose homes may have leftovers."""
        mounts = Mounts(system.tree.root)
        system = without_servers(system, mounts)
        return cls(system, settings, choice, mounts, tuple(_people(system, settings.user)))

    @property
    def homes(self) -> List[str]:
        """Every home directory of people and root, and what lies in /home without an account."""
        homes = {person.home.rstrip("/") or "/" for person in self.people}
        homes.update(f"/home/{name}" for name in self.ground("/home").names() if name != "lost+found")
        return sorted(homes)

    def ground(self, base: str) -> Ground:
        """A directory in which something may be left."""
        return Ground(self.system.tree, self.mounts, base, self.overlooked)

    def text(self, path: str, limit: int = READ_LIMIT) -> Optional[str]:
        """A text file; None where there is none, and where it cannot be read, which is written down."""
        try:
            raw = self.system.tree.read(path, limit + 1)
            if len(raw) > limit:
                raise OSError(errno.EFBIG, f"it is larger than {limit} bytes")
        except OSError as error:
            self.overlooked.note(path, error)
            return None
        return raw.decode("utf-8", "surrogateescape")

    def within(self, path: str) -> bool:
        """Whether a file, or where it would be, is a part of the template; where not, it is written down."""
        try:
            directory, name = self.system.tree.resolve(path)
        except OSError as error:
            self.overlooked.note(path, error)
            return False
        try:
            reason = self.mounts.spared(directory)
            try:
                place = os.open(name, PLACE, dir_fd=directory)
            except FileNotFoundError:
                place = None
            if place is not None:
                try:
                    if reason is None and self.mounts.of(place) != self.mounts.of(directory):
                        reason = self.mounts.spared(place)
                finally:
                    os.close(place)
        except OSError as error:
            self.overlooked.note(path, error)
            return False
        finally:
            os.close(directory)
        if reason is not None:
            self.overlooked.spared[path] = reason
        return reason is None

    def remove(self, base: str, *patterns: str, links: bool = False) -> Iterator[Leftover]:
        """The files that match; with a last `**` everything, and the directories too."""
        ground = self.ground(base)
        for pattern in patterns:
            for entry in ground.find(pattern):
                if entry.regular or pattern.endswith("**") or (links and entry.link):
                    yield removal(ground, entry)

    def empty(self, base: str, *patterns: str) -> Iterator[Leftover]:
        """The files that match and have something in them."""
        ground = self.ground(base)
        for pattern in patterns:
            for entry in ground.find(pattern):
                if entry.regular and entry.status.st_size:
                    yield emptying(ground, entry)


def removal(ground: Ground, entry: DirectoryEntry) -> Leftover:
    """A leftover that is removed."""
    return Leftover(ground.path(entry.name), "remove", lambda: ground.remove(entry.name), entry.size)


def emptying(ground: Ground, entry: DirectoryEntry) -> Leftover:
    """A leftover whose content is removed and whose file stays."""
    return Leftover(ground.path(entry.name), "empty", lambda: ground.empty(entry.name), entry.size)


def _people(system: "System", user: str) -> Iterator[Account]:
    """Root, those whom login.defs takes for people, and the account of the setting `user`.

    Only those in /etc/passwd: a directory's people are no part of a template.
    """
    first = accounts.login_defs(system, "UID_MIN", accounts.FIRST_PERSON)
    last = accounts.login_defs(system, "UID_MAX", accounts.LAST_PERSON)
    for account in accounts.passwd(system):
        person = account.name in ("root", user) or account.uid == 0 or first <= account.uid <= last
        if person and account.home.startswith("/"):
            yield account
