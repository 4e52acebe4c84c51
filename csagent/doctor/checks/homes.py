"""The home directory and authorized_keys: what makes sshd disbelieve a key that stands there."""

from __future__ import annotations

import shlex
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from csagent.apply import ssh_keys
from csagent.apply.authorized_keys import BEGIN_MARK, END, blocks
from csagent.doctor.checks.machine import parse_mounts
from csagent.doctor.context import HANGS, Situation
from csagent.doctor.finding import NOTE, OK, PROBLEM, WARNING, Finding
from csagent.doctor.home import FileStat, plain
from csagent.system.accounts import Account
from csagent.system.files import lines_of
from csagent.validation import key_identity

WRITTEN = ("applied", "unchanged")
RESET_KEYS = "reset the VM's SSH key in CloudStack, then: csagent apply"


class Keys(NamedTuple):
    """What stands in authorized_keys: types ("ssh-ed25519", "ssh-rsa 2048"), ours and all of them.

    `marks`: of ours, as `key_mark` has them, by the number of the line. `sed`: whether the command that is
    advised takes our block out and nothing else.
    """

    ours: Tuple[str, ...]
    all: Tuple[str, ...]
    marks: Dict[int, str]
    sed: bool


def home(situation: Situation, strict: bool) -> Iterator[Finding]:
    """Whether the home directory is there, and believed by StrictModes; and how many keys there are.

    Args:
        strict: sshd's StrictModes.
    """
    account = situation.account
    if account is None:
        return
    entries = situation.home.entries
    if situation.home.problem:
        means = "nobody gets in whose key lies there, while it does not answer"
        state = PROBLEM if situation.settings.ssh_keys else WARNING
        yield Finding("account", state, situation.home.problem, means, HANGS)
        return
    if situation.home.link is not None:
        yield _link(situation, *situation.home.link)
        return
    home, wanted = plain(account.home), situation.settings.ssh_keys
    means, state = "its keys have no place", PROBLEM
    if not account.home.startswith("/"):
        saw = f"the home of {account.name} is {account.home!r}, no absolute path"
        yield Finding("account", state if wanted else WARNING, saw, means, _named(account))
        return
    other = next((one for one in entries if len(one) <= len(home) and not entries[one].directory), None)
    if other is not None:
        saw = f"the home {home} is not a directory"
        if other != home:
            saw = f"{other}, where the home {home} is to be, is not a directory"
        advice = _look(other, _make(account, home, entries))
        yield Finding("account", state, saw, means, advice)
        return
    if home not in entries:
        if not wanted:
            means, state = "logins end up in /", WARNING
        saw, advice = f"the home directory {home} does not exist", _make(account, home, entries)
        mount = _not_mounted(situation, home)
        if mount is not None:
            saw = f"{saw}, and {mount} of /etc/fstab is not mounted"
            advice = f"mount {shlex.quote(mount)}; then: csagent apply"
        yield Finding("account", state, saw, means, advice)
        return
    yield from _modes(situation, account, entries, strict)
    yield from _keys(situation, account)


def _make(account: Account, home: str, entries: Dict[str, FileStat]) -> str:
    """How the home is made: by root only where nobody else could put a link to something else there first."""
    above = [entry for one, entry in entries.items() if len(one) < len(home)]
    quoted = shlex.quote(home)
    if all(entry.placed and entry.uid == 0 and not entry.mode & 0o022 for entry in above):
        return f"install -d -m 0700 -o {account.name} -g {account.gid} {quoted}"
    return f"runuser -u {account.name} -- mkdir -p -m 0700 {quoted}"


def _named(account: Account) -> str:
    """usermod changes no home of an account that has processes, as root's always has."""
    if account.uid == 0:
        return f"write /root as the home of {account.name} in /etc/passwd, then: csagent apply"
    home = f"/home/{account.name}"
    return (
        f"install -d -m 0700 -o {account.name} -g {account.gid} {home}; "
        f"usermod --home {home} {account.name}; then: csagent apply"
    )


def _not_mounted(situation: Situation, home: str) -> Optional[str]:
    """The mount point of fstab(5) that holds the home, where nothing is mounted there."""
    if situation.tree:
        return None
    mounted = parse_mounts(situation.read("/proc/mounts") or "")
    lines = lines_of(situation.read("/etc/fstab") or "")
    planned = parse_mounts("\n".join(line for line in lines if not line.lstrip().startswith("#")))
    holders = [one for one in map(plain, planned) if f"{home}/".startswith(f"{one}/") and one not in mounted]
    return max(holders, key=len, default=None) if mounted else None


def _link(situation: Situation, path: str, target: str, uid: int) -> Finding:
    """What it leads to is not looked at, and nobody is told to change that: its maker chose it."""
    saw = f"{path} is a link of the user {uid} to {target!r}"
    means = "csagent follows no such link: it writes no keys there, and sshd judges by what it leads to"
    if not situation.settings.ssh_keys:
        return Finding("account", NOTE, saw, f"not followed; {means}")
    return Finding("account", PROBLEM, saw, means, _look(path))


def _look(path: str, then: str = "csagent apply") -> str:
    """For what is in the way, and somebody else than root may have put there."""
    return f"namei -l {shlex.quote(path)}; give what stands there another name; then: {then}"


def _modes(
    situation: Situation, account: Account, entries: Dict[str, FileStat], strict: bool
) -> Iterator[Finding]:
    """sshd goes from the file up to the home directory (misc.c, safe_path): owner, and nobody else writes."""
    path = plain(ssh_keys.path(account))
    checked = [one for one in (plain(account.home), path.rsplit("/", 1)[0], path) if one in entries]
    wrong = ""
    for one in checked:
        entry = entries[one]
        otherwise = f"mend {shlex.quote(wrong)} first, then: csagent doctor" if wrong else _look(one)
        if entry.uid not in (0, account.uid):
            saw = f"{one} belongs to the user {entry.uid}, not to {account.name} ({account.uid})"
            means = "csagent writes no keys there" + (", and sshd believes none there" if strict else "")
            advice = f"chown {account.name}: {shlex.quote(one)}" if entry.placed else otherwise
            bad = True
        elif entry.mode & 0o022:
            who = "everybody" if entry.mode & 0o002 else "its group"
            saw = f"{one} is writable by {who} ({entry.mode:04o})"
            means = "sshd with StrictModes believes no key below it"
            if not strict:
                means = "StrictModes is off, so sshd does not mind: others may put their keys there"
            advice = _without_others(account, one, entry, otherwise)
            bad = strict
        else:
            continue
        wrong = wrong or one
        state = PROBLEM if bad and situation.settings.ssh_keys else WARNING
        yield Finding("account", state, saw, means, advice)
    if checked and not wrong:
        yield Finding("account", OK, f"{account.home} is {account.name}'s, and nobody else writes there")


def _without_others(account: Account, path: str, entry: FileStat, otherwise: str) -> str:
    """Who may put something else there changes its mode himself: until that is run it may be a link."""
    advice = f"chmod go-w {shlex.quote(path)}"
    if entry.placed:
        return advice
    return f"runuser -u {account.name} -- {advice}" if entry.uid == account.uid != 0 else otherwise


def _keys(situation: Situation, account: Account) -> Iterator[Finding]:
    path = plain(ssh_keys.path(account))
    known = read_keys(situation)
    if known is None:
        if path in situation.home.entries or not situation.root:
            yield Finding("account", NOTE, f"not seen: {path} (this needs root)")
        elif situation.datum("ssh_keys").get("state") in WRITTEN:
            means = "csagent wrote keys there, and the file is gone"
            yield Finding("account", PROBLEM, f"there is no {path}", means, RESET_KEYS)
        else:
            yield Finding("account", NOTE, f"there is no {path}", "no key was written yet")
        return
    count = len(known.all)
    said = f"{path}: {count} {'key' if count == 1 else 'keys'}, {len(known.ours)} of them from CloudStack"
    if situation.datum("ssh_keys").get("state") in WRITTEN and not known.ours:
        means = "the keys that csagent wrote are gone: somebody has replaced the file, or the block in it"
        yield Finding("account", WARNING, said, means, RESET_KEYS)
        return
    others = _of_another_instance(situation, known)
    if others:
        saw = f"{said}, {len(others)} of these for another instance"
        means = (
            "csagent has not written them for this one: they came with its template, or with the machine "
            "that it is a clone of, and whoever has such a key gets in"
        )
        if known.sed and len(others) == len(known.marks):
            advice = f"sed -i '/^{BEGIN_MARK}/,/^{END}$/d' {shlex.quote(path)}; or {RESET_KEYS}"
        else:
            lines = f"line{'s' * (len(others) > 1)} {', '.join(map(str, others))}"
            advice = f"take {lines} out of {shlex.quote(path)}, or {RESET_KEYS}"
        yield Finding("account", WARNING, saw, means, advice)
    else:
        yield Finding("account", OK, said, ", ".join(sorted(set(known.all))))


def _of_another_instance(situation: Situation, known: Keys) -> List[int]:
    """The lines of keys in our block that neither memory has for this instance nor CloudStack gives."""
    mine = situation.seen.key_marks
    return [] if mine is None else [line for line, mark in known.marks.items() if mark not in mine]


def read_keys(situation: Situation) -> Optional[Keys]:
    """The types of the keys in the account's file; None where it cannot be read."""
    text = situation.home.text
    if text is None:
        return None
    ours: List[str] = []
    everything: List[str] = []
    marks: Dict[int, str] = {}
    lines = lines_of(text)
    stripped = [line.strip() for line in lines]
    inside, whole = blocks(stripped)
    for number, line in enumerate(stripped):
        kind = None if line.startswith("#") else key_type(line)
        if kind is not None:
            everything.append(kind)
            if number in inside:
                ours.append(kind)
                marks[number + 1] = key_mark(line)
    # sed goes by lines as they are: behind an end with a blank or a CR it would go on to that of the file.
    exact = all(line == END for line, text in zip(lines, stripped) if text == END)
    return Keys(tuple(ours), tuple(everything), marks, whole and exact)


def key_mark(line: str) -> str:
    """What tells a key from others, whatever its comment and options; "" for what is no key."""
    import hashlib

    identity = key_identity(line)
    return hashlib.sha256(" ".join(identity).encode()).hexdigest() if identity is not None else ""


def key_type(line: str) -> Optional[str]:
    """The type of a key line, an RSA key's size behind it; None where it is no key."""
    identity = key_identity(line)
    if identity is None:
        return None
    kind, blob = identity
    bits = rsa_bits(blob) if kind == "ssh-rsa" else 0
    return f"{kind} {bits}" if bits else kind


def rsa_bits(blob: str) -> int:
    """The size of an RSA key's modulus (RFC 4253, 6.6: type, exponent, modulus), 0 where it is cut."""
    import base64
    import binascii

    try:
        raw = base64.b64decode(blob)
    except (binascii.Error, ValueError):
        return 0
    at, part = 0, b""
    for _field in range(3):
        size = int.from_bytes(raw[at : at + 4], "big")
        part = raw[at + 4 : at + 4 + size]
        at += 4 + size
    return int.from_bytes(part, "big").bit_length() if at == len(raw) else 0
