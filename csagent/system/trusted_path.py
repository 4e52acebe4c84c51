"""Who else could change a file: its owner, its mode, the directories above, the links on the way to it."""

from __future__ import annotations

import os
import stat
import struct
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, FrozenSet, Iterator, List, NamedTuple, Optional, Set, Tuple

from csagent.errors import Distrusted, UsageError
from csagent.system import accounts
from csagent.system.files import open_regular, read_all
from csagent.system.tree import DIRECTORY, OTHERS_WRITE, Step

if TYPE_CHECKING:
    from csagent.system.seams import System

# Debian's group for those who may change /usr/local, which has its right to write there (policy, 9.1.2).
STAFF = ("staff", 50)
LOCAL = "/usr/local"

ACL_USER, ACL_GROUP_OBJ, ACL_GROUP = 0x02, 0x04, 0x08  # tags of an access list's entries

ROOT, SYSTEM = "root", "root or a system account"  # whom a file may belong to


def refuse_if_others_may_change(system: "System", path: str) -> None:
    """The unit would give root to whoever can write there, or where a link on the way there leads.

    Raises:
        UsageError: somebody else than root can, or the links go in a ring. What is not there is passed over.
    """
    with _as_usage(system, path):
        os.close(_walk(system, path, ROOT))


def is_only_roots(system: "System", path: str) -> bool:
    """Whether it is there, and nobody else than root can put something else into its place."""
    try:
        os.close(_walk(system, path, ROOT))
    except (Distrusted, OSError):
        return False
    return True


def refuse_if_others_may_change_below(system: "System", path: str) -> None:
    """The same of a directory of modules and of everything in it, to where links in it lead.

    A file that is imported runs as root, and so does a new one of the right name.

    Raises:
        UsageError: as `refuse_if_others_may_change`.
    """
    seen: Set[Tuple[int, int]] = set()
    holders = _Holders(system, ROOT)
    pending = [path]
    while pending:
        top = pending.pop()
        with _as_usage(system, top):
            descriptor = _walk(system, top, ROOT)
            try:
                status = os.fstat(descriptor)
                if stat.S_ISDIR(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    _judge_module(system, holders, top, descriptor)
                    pending += _judge_below(system, holders, top, descriptor)
            finally:
                os.close(descriptor)


def _judge_below(system: "System", holders: "_Holders", top: str, descriptor: int) -> List[str]:
    """Judge all that is in a directory; the links that are in it, which have still to be followed."""
    links: List[str] = []
    for where, directories, files, here in os.fwalk(".", dir_fd=descriptor, onerror=_fail):
        for name in (*directories, *files):
            path = os.path.normpath(os.path.join(top, where, name))
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                links.append(path)  # whose it is, the walk to where it leads judges
            elif stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode):
                opened = os.open(
                    name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here
                )
                try:
                    _judge_module(system, holders, path, opened)
                finally:
                    os.close(opened)
    return links


def _judge_module(system: "System", holders: "_Holders", path: str, descriptor: int) -> None:
    """Of modules: where others can make files, they need not be able to change those that are there.

    Raises:
        Distrusted: they can do either.
    """
    judge = _Judge(system, ROOT, holders)
    judge(Step(path, os.fstat(descriptor), descriptor))
    if judge.only_root:
        raise Distrusted(f"others can make files in {system.tree.shown(path)}", system.tree.shown(path))


def _fail(error: OSError) -> None:
    raise error


@contextmanager
def _as_usage(system: "System", path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        return
    except Distrusted as error:
        raise UsageError(
            f"{error.path} can be changed by others than root, as which it runs; "
            "install csagent where only root writes, such as in /opt/csagent"
        ) from None
    except OSError as error:
        raise UsageError(f"{system.tree.shown(path)}: {error.strerror}") from None


def open_own(system: "System", base: str, path: str) -> int:
    """Open a file or directory that csagent keeps for root below a directory of its own making.

    What is above that one is not looked at: who puts another in its place is its owner.

    Args:
        system: the machine, or a tree, which may be its builder's.
        base: csagent's directory, in the guest's terms.
        path: itself, or what lies below it.

    Raises:
        Distrusted: it, or a directory on the way, belongs to somebody else, or others than root can write
            there; or there is a link, which csagent makes none of. The text says what mends that.
        OSError: it is not there, not readable, or neither a file nor a directory (EINVAL).
    """
    holders = _Holders(system, ROOT)
    directory, name = system.tree.resolve(base)
    below = [part for part in path[len(base) :].split("/") if part]
    for depth, part in enumerate((name, *below)):
        shown = system.tree.shown("/".join((base, *below[:depth])))
        try:
            if stat.S_ISLNK(os.stat(part, dir_fd=directory, follow_symlinks=False).st_mode):
                why = f"{shown} is a link, which csagent has not made: see where it leads, and remove it"
                raise Distrusted(why, shown)
            opened = _open(directory, part)
        finally:
            os.close(directory)
        directory, status = opened, os.fstat(opened)
        why = ""
        if not holders.user(status.st_uid, only_root=True):
            why = f"{shown} belongs to user {status.st_uid}"
        elif status.st_mode & OTHERS_WRITE:
            why = f"others than root can write {shown}"
        if why:
            os.close(directory)
            raise Distrusted(f"{why}: {_mend(system, base)}", shown)
    return directory


def _mend(system: "System", base: str) -> str:
    import shlex

    # With the slash chown goes through a link to where the directory lies.
    top = shlex.quote(system.tree.shown(base) + "/")
    return f"see what is there, then: chown -R 0:0 {top} && chmod -R go-w {top}"


def _open(directory: int, name: str) -> int:
    """Open a directory or a regular file, no link; raises as `open_regular` does."""
    if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        return os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    return open_regular(directory, name)


def read_own(system: "System", base: str, path: str, limit: int) -> bytes:
    """At most `limit` bytes of a file; raises as `open_own` does."""
    descriptor = open_own(system, base, path)
    try:
        return read_all(descriptor, limit)
    finally:
        os.close(descriptor)


def close_own(system: "System", base: str) -> None:
    """Have nobody but root write in csagent's directory and those in it, where somebody has opened them.

    What somebody else has put there before is his (`open_own`), and so is what cannot be closed.
    """
    holders = _Holders(system, ROOT)
    with suppress(OSError):
        directory, name = system.tree.resolve(base)
        top = -1
        try:
            top = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
            _close(holders, top)
            for below in os.listdir(top):
                with suppress(OSError):
                    opened = os.open(below, DIRECTORY | os.O_NOFOLLOW, dir_fd=top)
                    try:
                        _close(holders, opened)
                    finally:
                        os.close(opened)
        finally:
            os.close(directory)
            if top >= 0:
                os.close(top)


def _close(holders: "_Holders", directory: int) -> None:
    status = os.fstat(directory)
    if status.st_mode & OTHERS_WRITE and holders.user(status.st_uid, only_root=True):
        os.fchmod(directory, stat.S_IMODE(status.st_mode) & ~OTHERS_WRITE)


def open_file(system: "System", path: str, owner: str, *, follow: bool = True) -> int:
    """Open a regular file of which everything on the way is root's word: what was judged is what is open.

    In a directory with the sticky bit everybody makes files of his own and nobody changes another's
    (/var/tmp): only root's count there. A link counts where it is root's.

    Args:
        system: whose file it is. A tree may be its builder's: whose its top is, or who looks.
        path: in the guest's terms.
        owner: ROOT, or SYSTEM: a DHCP client may run as an account of its own.
        follow: also a link in the last component.

    Raises:
        Distrusted: with the step, and who else could have written it.
        OSError: it is not there, not readable, or not a regular file (EINVAL).
    """
    return _walk(system, path, owner, follow=follow)


def read(system: "System", path: str, owner: str, limit: int, *, follow: bool = True) -> bytes:
    """At most `limit` bytes of a regular file, under the rules of `open_file`; raises as it does."""
    descriptor = open_file(system, path, owner, follow=follow)
    try:
        return read_all(descriptor, limit)
    finally:
        os.close(descriptor)


def _walk(system: "System", path: str, owner: str, *, follow: bool = True) -> int:
    """The descriptor of the file or directory at the end; of what is not there, FileNotFoundError."""
    judge = _Judge(system, owner)
    directory, name = system.tree.resolve(path, follow=follow, visit=judge)
    try:
        descriptor = _open(directory, name) if owner == ROOT else open_regular(directory, name)
    finally:
        os.close(directory)
    try:
        judge(Step(os.path.join(judge.directory, name), os.fstat(descriptor), descriptor))
    except Distrusted:
        os.close(descriptor)
        raise
    return descriptor


class _Judge:
    """Takes the steps of one walk, in their order."""

    def __init__(self, system: "System", owner: str, holders: Optional["_Holders"] = None) -> None:
        self._shown = system.tree.shown
        self._owner = owner
        self._holders = holders or _Holders(system, owner)
        self.only_root = False  # the directory before is everybody's to make files in
        self.directory = "/"  # the last one, where the links have led

    def __call__(self, step: Step) -> None:
        """
        Raises:
            Distrusted: somebody else could have written this step.
        """
        status, shown = step.status, self._shown(step.path)
        link = stat.S_ISLNK(status.st_mode)
        if not self._holders.user(status.st_uid, only_root=self.only_root or link):
            owner = ROOT if self.only_root or link else self._owner
            raise Distrusted(f"{shown} belongs to user {status.st_uid}, not to {owner}", shown)
        if link:
            return  # its own mode says nothing
        if stat.S_ISDIR(status.st_mode):
            self.directory = step.path
        writers = self._writers(step)
        self.only_root = (
            bool(writers) and stat.S_ISDIR(status.st_mode) and bool(status.st_mode & stat.S_ISVTX)
        )
        if writers and not self.only_root:
            raise Distrusted(f"{writers} can write {shown}", shown)

    def _writers(self, step: Step) -> str:
        """Who else can write there, by mode and access list; "" for nobody."""
        mode = step.status.st_mode
        if mode & stat.S_IWOTH:
            return "everybody"
        if not mode & stat.S_IWGRP:  # the mask of an access list, where there is one
            return ""
        group_may, others = _access_list(step.descriptor)
        if group_may and not self._holders.group(step.status.st_gid, step.path):
            return f"group {step.status.st_gid}"
        for kind, number in others:
            if kind == "group" and not self._holders.group(number, step.path):
                return f"group {number}"
            if kind == "user" and not self._holders.user(number, only_root=False):
                return f"user {number}"
        return ""


def _access_list(descriptor: Optional[int]) -> Tuple[bool, List[Tuple[str, int]]]:
    """(may the owning group write, users and groups by number that may) by a POSIX access list, acl(5).

    The attribute is a version, then entries of tag, permissions and number (linux/posix_acl_xattr.h).
    """
    if descriptor is None:
        return True, []
    try:
        raw = os.getxattr(descriptor, "system.posix_acl_access")
    except OSError:
        return True, []  # none there, or a file system that has none
    group_may = True
    others: List[Tuple[str, int]] = []
    for tag, permissions, number in struct.iter_unpack("<HHI", raw[4 : 4 + (len(raw) - 4) // 8 * 8]):
        writes = bool(permissions & 2)
        if tag == ACL_GROUP_OBJ:
            group_may = writes
        elif tag in (ACL_USER, ACL_GROUP) and writes:
            others.append(("user" if tag == ACL_USER else "group", number))
    return group_may, others


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
        self._users: Set[int] = set()
        self._groups: Set[int] = set()
        if not system.live:
            top = os.stat(system.tree.root)
            self._users.update((os.geteuid(), top.st_uid))
            self._groups.update((os.getegid(), top.st_gid))

    def user(self, uid: int, *, only_root: bool) -> bool:
        if uid == 0 or uid in self._users:
            return True
        return not only_root and self.owner == SYSTEM and uid < self._read().first_person

    def group(self, gid: int, path: str) -> bool:
        if gid in self._groups:
            return True
        if gid == 0:
            return 0 not in self._read().with_persons
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
    known = accounts.passwd(system)
    names = {account.name for account in known}
    with_persons = {gid for account in known if account.uid >= first for gid in account.groups}
    # A member that /etc/passwd does not know is in a directory (LDAP, NIS), which nobody asks here.
    with_persons.update(group.gid for group in accounts.groups(system) if not names.issuperset(group.members))
    return _Accounts(first, frozenset(with_persons))


def _has_staff(system: "System") -> bool:
    return any((group.name, group.gid) == STAFF for group in accounts.groups(system))
