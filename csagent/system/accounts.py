"""The account files: passwd(5), group(5), shadow(5), login.defs(5); and the account of the setting `user`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from csagent.errors import ApplyError

if TYPE_CHECKING:
    from csagent.system.seams import System

PASSWD = "/etc/passwd"
GROUP = "/etc/group"
SHADOW = "/etc/shadow"
LOGIN_DEFS = "/etc/login.defs"
FILE_LIMIT = 4 << 20
FIRST_PERSON, LAST_PERSON = 1000, 60000  # UID_MIN and UID_MAX of login.defs(5), where it does not say them

_ID = re.compile(r"[0-9]{1,10}")


class Account(NamedTuple):
    """An account as the system, or a tree's own files, know it."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    groups: Tuple[int, ...] = ()


NO_SHELLS = ("nologin", "false")  # of an account that nobody logs in to
NOBODY = 65534


def is_persons(system: "System", number: int) -> bool:
    """Whether a number of a user or group is a person's, not root's, the system's or nobody's."""
    return login_defs(system, "UID_MIN", FIRST_PERSON) <= number != NOBODY


def why_no_reader(system: "System", account: Account) -> str:
    """Why what parses strangers' bytes may not run as an account; "" where it may.

    It would read that person's files, and could signal her processes.
    """
    if 0 in (account.uid, account.gid):
        return "it has root's number or group"
    if any(is_persons(system, number) for number in (account.uid, account.gid)):
        return f"it is a person's (user {account.uid}, group {account.gid})"
    if account.shell.rpartition("/")[2] not in NO_SHELLS:
        return f"its shell is {account.shell or '/bin/sh'}"
    return ""


class Group(NamedTuple):
    """A line of group(5)."""

    name: str
    gid: int
    members: Tuple[str, ...]


class Shadow(NamedTuple):
    """The fields of shadow(5) that decide about a login; days since 1970 and numbers of days, None: empty."""

    name: str
    password: str
    changed: Optional[int]
    maximum: Optional[int]
    inactive: Optional[int]
    expires: Optional[int]

    @property
    def locked(self) -> bool:
        """Whether no password at all opens it: `!` in front, or what cannot be a hash."""
        return self.password[:1] in ("!", "*") or self.password == "x"


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
            gids = tuple(os.getgrouplist(name, entry.pw_gid))
        except OSError:
            gids = tuple(group.gr_gid for group in grp.getgrall() if name in group.gr_mem)
        return Account(name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell, gids)
    for account in passwd(system):
        if account.name == name:
            return account
    raise ApplyError(f"there is no account {name} in {system.tree.shown(PASSWD)}: see the setting user")


def group_names(system: "System", account: Account) -> List[str]:
    """The names of the account's groups, its own first; one without a name is left out."""
    gids = dict.fromkeys((account.gid, *account.groups))
    if not system.live:
        named = {group.gid: group.name for group in reversed(groups(system))}
        return [named[gid] for gid in gids if gid in named]
    import grp

    names = []
    for gid in gids:
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            pass
    return names


# --- the files ------------------------------------------------------------------------------------


def passwd(system: "System") -> Tuple[Account, ...]:
    """Every line of /etc/passwd, with its groups; none where it cannot be read. No directory is asked.

    What is missing at the end of a line is empty, as for the C library.
    """
    member: Dict[str, List[int]] = {}
    for group in groups(system):
        for name in group.members:
            member.setdefault(name, []).append(group.gid)
    found = []
    for fields in _lines(_read(system, PASSWD), 4):
        if _ID.fullmatch(fields[2]) and _ID.fullmatch(fields[3]):
            name, uid, gid = fields[0], int(fields[2]), int(fields[3])
            home, shell = [*fields, "", "", ""][5:7]
            found.append(Account(name, uid, gid, home, shell, tuple(sorted({gid, *member.get(name, ())}))))
    return tuple(found)


def groups(system: "System") -> Tuple[Group, ...]:
    """Every line of /etc/group; none where it cannot be read."""
    return tuple(
        Group(fields[0], int(fields[2]), tuple(name for name in [*fields, ""][3].split(",") if name))
        for fields in _lines(_read(system, GROUP), 3)
        if _ID.fullmatch(fields[2])
    )


def shadow(system: "System", name: str) -> Optional[Shadow]:
    """The account's entry; None where it has none.

    Raises:
        OSError: /etc/shadow cannot be read.
    """
    raw = system.tree.read(SHADOW, FILE_LIMIT)
    entries = parse_shadow(raw.decode("utf-8", "surrogateescape"))
    return next((entry for entry in entries if entry.name == name), None)


def group_id(system: "System", name: str) -> Optional[int]:
    """The number of a group, looked up as `find` looks up accounts; None where there is no such group."""
    if system.live:
        import grp

        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            return None
    return next((group.gid for group in groups(system) if group.name == name), None)


def shadow_hash(system: "System", name: str) -> str:
    """The password field of the account's shadow entry.

    Raises:
        ApplyError: /etc/shadow cannot be read, or has no such entry (an LDAP-only account, say).
    """
    try:
        entry = shadow(system, name)
    except OSError as error:
        raise ApplyError(f"cannot read {system.tree.shown(SHADOW)}: {error.strerror}") from None
    if entry is None:
        raise ApplyError(f"{name} has no entry in {system.tree.shown(SHADOW)}: its password lies elsewhere")
    return entry.password


def parse_shadow(text: str) -> Iterator[Shadow]:
    """The entries of a shadow file."""
    for fields in _lines(text, 2):
        days = [_days(field) for field in (fields + [""] * 6)[2:8]]
        yield Shadow(fields[0], fields[1], days[0], days[2], days[4], days[5])


def edit_shadow(text: str, names: Sequence[str], change: Callable[[List[str]], None]) -> str:
    """A shadow file with the fields of these accounts' lines changed, all else as it is.

    Args:
        text: the file.
        names: the accounts; one without an entry is passed over.
        change: is given the fields of a line, and changes them in place.
    """
    lines = text.split("\n")
    for number, line in enumerate(lines):
        fields = line.split(":")
        if fields[0] in names and len(fields) >= 3:
            change(fields)
            lines[number] = ":".join(fields)
    return "\n".join(lines)


def login_defs(system: "System", key: str, otherwise: int) -> int:
    """A number of login.defs(5), such as UID_MIN."""
    for line in (system.tree.read_text(LOGIN_DEFS) or "").split("\n"):
        words = line.split()
        if len(words) >= 2 and words[0] == key and _ID.fullmatch(words[1]):
            return int(words[1])
    return otherwise


def _read(system: "System", path: str) -> str:
    return system.tree.read_text(path, FILE_LIMIT) or ""


def _lines(text: str, least: int) -> Iterator[List[str]]:
    for line in text.split("\n"):
        fields = line.split(":")
        if len(fields) >= least:
            yield fields


def _days(field: str) -> Optional[int]:
    return int(field) if re.fullmatch(r"[0-9]{1,9}", field.strip()) else None
