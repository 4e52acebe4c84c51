"""Which words of a text may leave the machine: csagent's own, and the names that an archive holds anyway.

Our findings, the reasons in status.json and the journal quote what others wrote: a server's answer, a line
of a configuration, what chpasswd or a command before csagent printed. So of every text each word is kept only
where it is one of those below, and any other becomes "redacted":

- a word of csagent's own source files, which is where its messages stand; of the C library's messages; of
  what systemd and PAM say of a service;
- a number, an IPv4 address, a date, a time, a version, a path of a file system's usual directories, a
  context of SELinux's;
- a name that is given: the account, the NICs, the machine's own name and domains.
"""

from __future__ import annotations

import builtins
import errno
import glob
import os
import re
from typing import Any, FrozenSet, Iterable, Iterator, Set

import csagent

REDACTED = "redacted"
# What the lab says is no guest's; what is known of user-data is words of the documents' authors.
OTHERS = tuple(os.sep + name + os.sep for name in ("lab", "user_data"))
LONGEST = 40  # characters of a word


def name_set(names: str) -> FrozenSet[str]:
    """The words of a text."""
    return frozenset(names.split())


# systemd.service(5), "Result"; systemctl(1), the states; the messages about a unit's beginning and end.
_SYSTEMD = name_set(
    "Main Control Service Scheduled Start Starting Started Stop Stopping Stopped Reload Reloading Reloaded "
    "State Killing Consumed Deactivated Succeeded Failed Finished Watchdog Triggering Processes Sent Changed "
    "process exited code killed dumped status result signal restart job counter at holdoff time over request "
    "repeated too quickly successfully CPU operation timed out main with of on is to for the from left-over "
    "entered failed state final exit-code core-dump watchdog timeout start-limit-hit oom-kill protocol "
    "resources exec-condition success active inactive activating deactivating reloading auto-restart running "
    "dead listening enabled disabled masked static indirect generated alias enabled-runtime linked "
    "Unknown key in section ignoring SUCCESS FAILURE KILL TERM HUP ABRT SEGV"
)
# pam_strerror(3), chpasswd(8), pam_pwquality(8)
_PAM = name_set(
    "pam_chauthtok Authentication token manipulation error recovered lock busy aging disabled Try again "
    "failure information cannot be BAD PASSWORD The password is shorter than characters user line"
)
# sshd(8), what it says where it does not start
_SSHD = name_set(
    "Bad configuration option options line terminating garbage at end of Unsupported value Directive "
    "hostkeys available exiting Unable to load host key invalid format bad permissions too open"
)
_PATH = re.compile(
    r"/(?:(?:bin|boot|dev|etc|home|lib|lib64|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var)"
    r"(?:/[A-Za-z0-9_.@+%*-]{1,64}){0,16}/?)?"
)
_CONTEXT = re.compile(r"[a-z_]{1,32}_u:[a-z_]{1,32}_r:[a-z_]{1,48}_t:s[0-9](?::c[0-9.,c]{1,20})?")
_NUMBER = re.compile(
    r"[0-9]{1,5}(?:\.[0-9]{1,3})?%?|[0-9]{1,3}(?:\.[0-9]{1,3}){2,3}(?:/[0-9]{1,2})?|[0-9]{4}-[0-9]{2}-[0-9]{2}"
)
_CHUNK = re.compile(r"\S+")
_INNER = re.compile(r"[:=,;()'\"<>@+?*|&\[\]{}]+")
_BEFORE, _BEHIND = "\"'([{<.-!*?", "\"')]}>.,;:!*?"
_OWN = re.compile(r"[A-Za-z][A-Za-z0-9_./%-]*")


class Words:
    """Those that may leave the machine.

    Args:
        names: besides csagent's own words; one with blanks in it is several.
        root: what stands before every path of this tree, "/" for none.
    """

    def __init__(self, names: Iterable[str] = (), root: str = "/") -> None:
        self._known: Set[str] = {*_own_words(), *_SYSTEMD, *_PAM, *_SSHD}
        self._known.update(name for name in dir(builtins) if name.endswith("Error"))
        for number in errno.errorcode:
            self._known.update(_parts(os.strerror(number)))
        for name in names:
            self._known.update(_parts(name))
        self._root = root.rstrip("/")

    def kept(self, text: str) -> str:
        """The text, each word that is not known replaced."""
        return _CHUNK.sub(self._chunk, text)

    def all_kept(self, value: Any) -> Any:
        """A document with its texts so; the keys are the caller's own."""
        if isinstance(value, str):
            return self.kept(value)
        if isinstance(value, dict):
            return {key: self.all_kept(one) for key, one in value.items()}
        return [self.all_kept(one) for one in value] if isinstance(value, (list, tuple)) else value

    def _chunk(self, match: "re.Match[str]") -> str:
        chunk = match[0]
        inner = chunk.lstrip(_BEFORE).rstrip(_BEHIND)
        if not inner:
            return chunk if len(chunk) <= 3 else REDACTED
        if self._good(inner):
            return chunk
        before, _, behind = chunk.partition(inner)
        return f"{before[:3]}{REDACTED}{behind[:3]}"

    def _good(self, word: str) -> bool:
        if _PATH.fullmatch(word) or _CONTEXT.fullmatch(word):
            return True
        parts = [part for part in _INNER.split(word) if part]
        numbers = sum(part.isdigit() for part in parts)
        return all(map(self._is_known, parts)) and (numbers < 2 or len(word) <= len("00:00:00"))

    def _is_known(self, part: str) -> bool:
        if self._root and part.startswith(self._root + "/"):
            part = part[len(self._root) :]
        return (
            _PATH.fullmatch(part) is not None
            or self._has(part)
            or all(self._has(one) for one in part.split("/") if one)
        )

    def _has(self, word: str) -> bool:
        at_the_beginning = word[:1].lower() + word[1:]
        return word in self._known or at_the_beginning in self._known or _NUMBER.fullmatch(word) is not None


def _parts(text: str) -> Iterator[str]:
    for chunk in _CHUNK.findall(text):
        for part in _INNER.split(chunk):
            yield part.lstrip(_BEFORE).rstrip(_BEHIND)


def _own_words() -> Set[str]:
    """The words in csagent's source files; none where only byte code is installed."""
    found: Set[str] = set()
    top = os.path.dirname(os.path.abspath(csagent.__file__))
    for path in glob.glob(os.path.join(glob.escape(top), "**", "*.py"), recursive=True):
        if any(one in path[len(top) :] for one in OTHERS):
            continue
        try:
            with open(path, encoding="utf-8") as stream:
                words = _OWN.findall(stream.read())
        except (OSError, ValueError):
            continue
        found.update(word.rstrip("./-%") for word in words if len(word) <= LONGEST)
    return found
