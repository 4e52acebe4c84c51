"""Accounts in a tree's own files: what useradd, groupadd and usermod would write, as far as a tree needs it.

Nothing of the machine that works on the tree comes into it: numbers are the tree's own, the skeleton too.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, List, Mapping, Optional, Sequence

from csagent.errors import ApplyError
from csagent.system import accounts

if TYPE_CHECKING:
    from csagent.system.seams import System

GSHADOW = "/etc/gshadow"
LOGIN_DEFS = "/etc/login.defs"
SKELETON = "/etc/skel"
FIRST, LAST = 1000, 60000  # login.defs(5), UID_MIN and UID_MAX
SYSTEM_FIRST, SYSTEM_LAST = 100, 999
SHELL = "/bin/sh"
DAY = 86400
SKELETON_LIMIT = 1 << 20


def add_group(system: "System", name: str, gid: Optional[int] = None, *, of_system: bool = False) -> int:
    """Add a group with the next free number; the number.

    Raises:
        ApplyError: a file could not be written.
    """
    lines = _read(system, accounts.GROUP)
    number = _free(system, [lines], of_system=of_system) if gid is None else gid
    _write(system, accounts.GROUP, [*lines, f"{name}:x:{number}:"], 0o644)
    if system.tree.exists(GSHADOW):
        _write(system, GSHADOW, [*_read(system, GSHADOW), f"{name}:!::"], 0o640)
    return number


def join_group(system: "System", name: str, group: str) -> None:
    """Put an account into a group, too. Raises: ApplyError."""
    for path, mode in ((accounts.GROUP, 0o644), (GSHADOW, 0o640)):
        if not system.tree.exists(path):
            continue
        lines = _read(system, path)
        for number, line in enumerate(lines):
            fields = line.split(":")
            if fields[0] == group and len(fields) >= 4:
                members = [one for one in fields[3].split(",") if one]
                fields[3] = ",".join(members if name in members else [*members, name])
                lines[number] = ":".join(fields)
        _write(system, path, lines, mode)


def add_user(
    system: "System", name: str, texts: Mapping[str, str], switches: Sequence[str], groups: Sequence[str]
) -> None:
    """Add an account, locked, with its home directory.

    Args:
        texts: useradd's options that have a value, by cloud-init's names.
        switches: those that have none.
        groups: besides its own; they exist.

    Raises:
        ApplyError: a number is taken or no number, or a file could not be written.
    """
    passwd = _read(system, accounts.PASSWD)
    of_system = "system" in switches
    asked = texts.get("uid", "")
    if asked and not asked.isdigit():
        raise ApplyError(f"{name}: the uid {asked[:20]} is no number")
    if asked and any(line.split(":")[2:3] == [asked] for line in passwd):
        raise ApplyError(f"{name}: the uid {asked} is taken")
    uid = int(asked) if asked else _free(system, [passwd, _read(system, accounts.GROUP)], of_system=of_system)
    gid = _primary_group(system, name, texts.get("primary_group", ""), uid, switches)
    home = texts.get("homedir") or f"/home/{name}"
    entry = [name, "x", str(uid), str(gid), texts.get("gecos", ""), home, texts.get("shell") or SHELL]
    _write(system, accounts.PASSWD, [*passwd, ":".join(entry)], 0o644)
    day = int(system.clock.now()) // DAY
    ageing = ":::::" if of_system else "0:99999:7:::"
    shadow = f"{name}:!:{day}:{ageing}"
    _write(system, accounts.SHADOW, [*_read(system, accounts.SHADOW), shadow], 0o640)
    for group in groups:
        join_group(system, name, group)
    if not {"system", "no_create_home"} & set(switches):
        _make_home(system, home, uid, gid)


def _primary_group(system: "System", name: str, asked: str, uid: int, switches: Sequence[str]) -> int:
    if asked:
        known = accounts.group_id(system, asked)
        if known is None:
            raise ApplyError(f"{name}: there is no group {asked[:60]}")
        return known
    if "no_user_group" in switches:
        return accounts.group_id(system, "users") or 100
    known = accounts.group_id(system, name)
    return known if known is not None else add_group(system, name, uid, of_system="system" in switches)


def set_hash(system: "System", name: str, value: str) -> None:
    """The password field of an account's shadow entry. Raises: ApplyError."""
    _edit_shadow(system, name, 1, value)


def expire(system: "System", name: str) -> None:
    """Day 0: a new password at the next login (shadow(5)). Raises: ApplyError."""
    _edit_shadow(system, name, 2, "0")


def _edit_shadow(system: "System", name: str, field: int, value: str) -> None:
    lines = _read(system, accounts.SHADOW)
    for number, line in enumerate(lines):
        fields = line.split(":")
        if fields[0] == name and len(fields) > field:
            fields[field] = value
            lines[number] = ":".join(fields)
            _write(system, accounts.SHADOW, lines, 0o640)
            return
    raise ApplyError(f"{name} has no entry in {system.tree.shown(accounts.SHADOW)}")


def _free(system: "System", files: Sequence[List[str]], *, of_system: bool) -> int:
    """The next number above those in use, as useradd takes it; from the top for accounts of the system."""
    low, high = (SYSTEM_FIRST, SYSTEM_LAST) if of_system else _range(system)
    used = {
        int(field) for lines in files for line in lines for field in line.split(":")[2:3] if field.isdigit()
    }
    if of_system:
        return next((number for number in range(high, low - 1, -1) if number not in used), high)
    taken = [number for number in used if low <= number <= high]
    return max(taken) + 1 if taken and max(taken) < high else low if not taken else _gap(used, low, high)


def _gap(used: "set[int]", low: int, high: int) -> int:
    return next((number for number in range(low, high + 1) if number not in used), high)


def _range(system: "System") -> "tuple[int, int]":
    text = system.tree.read_text(LOGIN_DEFS) or ""
    found = [
        re.search(rf"^\s*{name}\s+([0-9]{{1,9}})\b", text, re.MULTILINE) for name in ("UID_MIN", "UID_MAX")
    ]
    return (int(found[0].group(1)) if found[0] else FIRST, int(found[1].group(1)) if found[1] else LAST)


def _make_home(system: "System", home: str, uid: int, gid: int) -> None:
    """The directory and the skeleton; one that is there is left as it is."""
    if not home.startswith("/") or system.tree.exists(home):
        return
    try:
        system.tree.mkdir(home, 0o755)
        _give(system, home, uid, gid)
        _copy(system, SKELETON, home, uid, gid)
    except OSError as error:
        raise ApplyError(f"cannot make {system.tree.shown(home)}: {error.strerror}") from None


def _copy(system: "System", source: str, target: str, uid: int, gid: int) -> None:
    for name in system.tree.names(source):
        below, there = f"{source}/{name}", f"{target}/{name}"
        status = system.tree.stat(below, follow=False)
        if status is not None and stat.S_ISDIR(status.st_mode):
            system.tree.mkdir(there, stat.S_IMODE(status.st_mode))
            _give(system, there, uid, gid)
            _copy(system, below, there, uid, gid)
        elif status is not None and stat.S_ISREG(status.st_mode):
            content = system.tree.read(below, SKELETON_LIMIT)
            owner = (uid, gid) if os.geteuid() == 0 else None
            system.tree.write(there, content, stat.S_IMODE(status.st_mode), owner=owner)


def _give(system: "System", path: str, uid: int, gid: int) -> None:
    """Give a directory to the account; in a tree of somebody who is not root all is that one's."""
    if os.geteuid() != 0:
        return
    directory, name = system.tree.resolve(path, follow=False)
    try:
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
    finally:
        os.close(directory)


def _read(system: "System", path: str) -> List[str]:
    try:
        text = system.tree.read(path, accounts.FILE_LIMIT).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ApplyError(f"cannot read {system.tree.shown(path)}: {error.strerror}") from None
    return [line for line in text.split("\n") if line]


def _write(system: "System", path: str, lines: Sequence[str], mode: int) -> None:
    text = "".join(line + "\n" for line in lines)
    try:
        system.tree.write(path, text.encode("utf-8", "surrogateescape"), mode, keep=True)
    except OSError as error:
        raise ApplyError(f"cannot write {system.tree.shown(path)}: {error.strerror}") from None
