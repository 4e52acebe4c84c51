"""The account that gets the password and the keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, List, NamedTuple, Optional, Tuple

from csagent.errors import ApplyError

if TYPE_CHECKING:
    from csagent.system.seams import System

PASSWD = "/etc/passwd"
GROUP = "/etc/group"
SHADOW = "/etc/shadow"
FILE_LIMIT = 4 << 20


class Account(NamedTuple):
    """An account as the system, or a tree's own files, know it."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    groups: Tuple[int, ...] = ()


def find(system: "System", name: str) -> Account:
    """Look the account up: through NSS on the running system (LDAP counts), in a tree's own files.

    Raises:
        ApplyError: there is no such account.
    """
    if system.live:
        import grp
        import os
        import pwd

        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise ApplyError(f"there is no account {name}: see the setting user") from None
        try:
            groups = tuple(os.getgrouplist(name, entry.pw_gid))
        except OSError:
            groups = tuple(group.gr_gid for group in grp.getgrall() if name in group.gr_mem)
        return Account(name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell, groups)
    for fields in _lines(system, PASSWD):
        if fields[0] == name and len(fields) >= 7 and fields[2].isdigit() and fields[3].isdigit():
            groups = tuple(
                int(group[2])
                for group in _lines(system, GROUP)
                if len(group) >= 4 and group[2].isdigit() and name in group[3].split(",")
            )
            gid = int(fields[3])
            return Account(name, int(fields[2]), gid, fields[5], fields[6], tuple({gid, *groups}))
    raise ApplyError(f"there is no account {name} in {system.tree.shown(PASSWD)}: see the setting user")


def group_id(system: "System", name: str) -> Optional[int]:
    """The number of a group, looked up as `find` looks up accounts; None where there is no such group."""
    if system.live:
        import grp

        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            return None
    for fields in _lines(system, GROUP):
        if fields[0] == name and len(fields) >= 3 and fields[2].isdigit():
            return int(fields[2])
    return None


def _lines(system: "System", path: str) -> List[List[str]]:
    try:
        text = system.tree.read(path, FILE_LIMIT).decode("utf-8", "surrogateescape")
    except OSError:
        return []
    return [line.split(":") for line in text.split("\n") if line]


def shadow_hash(system: "System", name: str) -> str:
    """The password field of the account's shadow entry.

    Raises:
        ApplyError: /etc/shadow cannot be read, or has no such entry (an LDAP-only account, say).
    """
    try:
        raw = system.tree.read(SHADOW, FILE_LIMIT)
    except OSError as error:
        raise ApplyError(f"cannot read {system.tree.shown(SHADOW)}: {error.strerror}") from None
    prefix = name.encode() + b":"
    for line in raw.split(b"\n"):
        if line.startswith(prefix):
            return line.split(b":")[1].decode("ascii", "replace")
    raise ApplyError(f"{name} has no entry in {system.tree.shown(SHADOW)}: its password lies elsewhere")
