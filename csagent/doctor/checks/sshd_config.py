"""sshd's effective settings for one login: what ``sshd -T -C`` prints, else what sshd_config(5) says.

The first value of a keyword wins, also across Include; Match blocks count where all their criteria hold and
end with the file they stand in; HostKey, AllowUsers and its like add up.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Dict, List, Mapping, Sequence, Tuple

from csagent.system.files import lines_of

if TYPE_CHECKING:
    from csagent.system.tree import Tree

CONFIGS = ("/etc/ssh/sshd_config", "/usr/etc/ssh/sshd_config")  # openSUSE ships the second
CLIENT_HOST = "client.example"
CLIENT_ADDRESS = "203.0.113.1"  # somebody in the Internet, RFC 5737: for whom sshd's settings are asked
DEPTH_LIMIT = 16  # of Include, as sshd has it
LINES_LIMIT = 10_000
ADDING = ("allowusers", "denyusers", "allowgroups", "denygroups", "hostkey")
ALIASES = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
    "dsaauthentication": "pubkeyauthentication",
}
CRITERIA = frozenset(
    (
        *("user", "group", "host", "address", "localaddress", "localport", "rdomain", "version"),
        *("sessiontype", "invalid-user", "all", "exec", "command", "final", "canonical"),
    )
)
DEFAULTS = {
    "passwordauthentication": "yes",
    "kbdinteractiveauthentication": "yes",
    "pubkeyauthentication": "yes",
    "permitrootlogin": "prohibit-password",
    "authorizedkeysfile": ".ssh/authorized_keys .ssh/authorized_keys2",
    "authorizedkeyscommand": "none",
    "authenticationmethods": "any",
    "strictmodes": "yes",
    "usepam": "no",
    "permitemptypasswords": "no",
    "requiredrsasize": "1024",
}
_PROGRAM = re.compile(r"[\w./+@%-]{1,256}")
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')


@dataclass(frozen=True)
class Login:
    """Who logs in, and from where, as Match and AllowUsers ask."""

    user: str
    groups: Sequence[str] = ()
    host: str = CLIENT_HOST
    address: str = CLIENT_ADDRESS


@dataclass
class Effective:
    """Keyword (lower case) to its words; `said` names the file and line, or the command, of each."""

    values: Dict[str, List[str]] = field(default_factory=dict)
    said: Dict[str, str] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)
    exact: bool = False  # sshd itself said so

    def get(self, keyword: str) -> str:
        """The value as one line; sshd's default where nothing is said."""
        words = self.values.get(keyword)
        value = " ".join(words) if words else DEFAULTS.get(keyword, "")
        return "prohibit-password" if value.lower() == "without-password" else value

    def on(self, keyword: str) -> bool:
        """Whether a switch is on."""
        return self.get(keyword).lower() == "yes"

    def where(self, keyword: str) -> str:
        """Who says so, for an operator."""
        return self.said.get(keyword, "sshd's default")


def parse_effective(text: str) -> Effective:
    """What ``sshd -T`` prints: lines of a keyword in lower case and its value."""
    effective = Effective(exact=True)
    for line in lines_of(text):
        keyword, _, rest = line.strip().partition(" ")
        keyword = ALIASES.get(keyword, keyword)
        if keyword:
            effective.values.setdefault(keyword, []).extend(rest.split())
            effective.said[keyword] = "sshd -T"
    return effective


def read_effective(tree: "Tree", login: Login) -> Effective:
    """The same from the files.

    Raises:
        OSError: there is no sshd_config that can be read.
    """
    effective = Effective()
    reader = _Reader(tree, login, effective)
    for path in CONFIGS:
        try:
            text = tree.read(path)
        except FileNotFoundError:
            continue
        reader.file(path, text, True, 0)
        return effective
    raise FileNotFoundError(2, "no sshd_config")


def locate(tree: "Tree", effective: Effective, login: Login) -> None:
    """Say at which line of which file a value stands that ``sshd -T`` told."""
    try:
        written = read_effective(tree, login)
    except OSError:
        return
    for keyword in (*written.said, *DEFAULTS):
        if keyword in effective.values and written.get(keyword).lower() == effective.get(keyword).lower():
            effective.said[keyword] = written.where(keyword)


class _Reader:
    def __init__(self, tree: "Tree", login: Login, effective: Effective) -> None:
        self.tree, self.login, self.effective = tree, login, effective
        self.lines = 0

    def file(self, path: str, raw: bytes, active: bool, depth: int) -> None:
        counts = active
        for number, line in enumerate(lines_of(raw.decode("utf-8", "replace")), 1):
            self.lines += 1
            if self.lines > LINES_LIMIT:
                return
            words = split(line)
            if not words:
                continue
            keyword = ALIASES.get(words[0].lower(), words[0].lower())
            if keyword == "match":
                counts = active and self._matches(words[1:], f"{path}, line {number}")
            elif keyword == "include":
                for pattern in words[1:]:
                    self._include(path, pattern, counts, depth)
            elif counts:
                self._value(keyword, words[1:], f"{path}, line {number}")

    def _value(self, keyword: str, words: List[str], where: str) -> None:
        known = self.effective.values
        if keyword in ADDING:
            known.setdefault(keyword, []).extend(words)
            self.effective.said.setdefault(keyword, where)
        elif keyword not in known and words:
            known[keyword] = words
            self.effective.said[keyword] = where

    def _include(self, path: str, pattern: str, active: bool, depth: int) -> None:
        if depth >= DEPTH_LIMIT:
            return
        if not pattern.startswith("/"):
            pattern = f"{path.rsplit('/', 1)[0]}/{pattern}"
        for included in self.tree.glob(pattern):
            try:
                raw = self.tree.read(included)
            except OSError as error:
                self.effective.notes.append(f"{included} could not be read: {error.strerror}")
                continue
            self.file(included, raw, active, depth + 1)

    def _matches(self, words: Sequence[str], where: str) -> bool:
        """Whether all criteria hold; what cannot be told here does not."""
        criteria: Mapping[str, Sequence[str]] = {
            "user": (self.login.user,),
            "group": self.login.groups,
            "host": (self.login.host,),
            "address": (self.login.address,),
        }
        rest = [part for word in words for part in word.split("=", 1)]
        while rest:
            criterion = rest.pop(0).lower()
            if criterion == "all":
                continue
            if not rest:
                return False
            patterns = rest.pop(0)
            if criterion not in criteria:
                shown = criterion if criterion in CRITERIA else "with what is not known here"
                self.effective.notes.append(f"{where}: Match {shown} was taken not to apply")
                return False
            if criterion in ("host", "address"):
                self.effective.notes.append(f"{where}: Match {criterion} was judged for {self.login.address}")
            if not any(matches(one, patterns) for one in criteria[criterion]):
                return False
        return True


def split(line: str) -> List[str]:
    """The words of a line: quoted ones whole, a comment left out, ``Keyword=value`` as two."""
    words: List[str] = []
    for quoted, bare in _WORD.findall(line.strip()):
        if bare.startswith("#"):
            break
        words.append(quoted or bare)
    if words and "=" in words[0]:
        words[:1] = words[0].split("=", 1)
    if len(words) > 1 and words[1].startswith("="):
        words[1] = words[1][1:]
    return [word for word in words if word]


def matches(text: str, patterns: str) -> bool:
    """Whether one pattern of a comma-separated list holds, and none that begins with ``!`` (ssh_config)."""
    hit = False
    for pattern in patterns.split(","):
        denied = pattern.startswith("!")
        if _one(text, pattern[denied:]):
            if denied:
                return False
            hit = True
    return hit


def _one(text: str, pattern: str) -> bool:
    if "/" in pattern:
        import ipaddress

        try:
            return ipaddress.ip_address(text) in ipaddress.ip_network(pattern, strict=False)
        except (ValueError, TypeError):
            return False
    # sshd knows * and ? only.
    return fnmatch.fnmatchcase(text.lower(), pattern.lower().replace("[", "[[]"))


def listed(login: Login, patterns: Sequence[str]) -> Tuple[bool, str]:
    """Whether AllowUsers or DenyUsers name this user, and how; its host is not looked at."""
    for pattern in patterns:
        user, _, _host = pattern.partition("@")
        if matches(login.user, user):
            return True, pattern
    return False, ""


def listed_groups(login: Login, patterns: Sequence[str]) -> Tuple[bool, str]:
    """The same for AllowGroups and DenyGroups."""
    for pattern in patterns:
        if any(matches(group, pattern) for group in login.groups):
            return True, pattern
    return False, ""


def program(words: Sequence[str]) -> str:
    """Of a command the program, without a word of what it is given: that may be a token."""
    first = (words[0].split() or [""])[0] if words else ""
    return first if _PROGRAM.fullmatch(first) else "left-out"
