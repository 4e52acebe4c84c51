"""What the words of a failed change come to, and what helps: one table, for `apply`, `status` and `doctor`.

The words are those of chpasswd(8), with PAM and without, of pam_strerror(3), and of strerror(3).
"""

from __future__ import annotations

import os
import re
import shlex
from typing import List, NamedTuple, Optional

DO = "; do: "  # in a reason, before the advice
AGAIN = "then: csagent apply"
# What a reason names stands before ": ", and may have blanks in it; of a home also whose it is. chpasswd
# writes "/etc/passwd.9701 file write error: " of a file that is gone by then.
_PATH = r"(?<!\S)/(?:(?![:;] | file \w+ error: ).)*"
_NAMED = rf"(?:(?:the home directory (?P<home>{_PATH}) of [^\s:;]+|(?P<name>{_PATH})): )?"
FILES = "/etc/hostname /etc/hosts /etc/shadow"  # those that csagent changes on every machine
REMOUNT = (
    "dmesg | grep -i -e remount -e error; findmnt -fno TARGET --target {name} | xargs mount -o remount,rw"
)
# useradd would make a root that is not 0.
NO_ROOT = "pwck -r; grep -w root /etc/passwd-; put that line back at the top of /etc/passwd"
CHATTR = "lsattr -d {way}; where one has an i or an a: chattr -ia {way}"


class Failure(NamedTuple):
    """A known cause: how its words are recognised, what it is, what to do.

    In `advice` `{name}` is what was named, and `{way}` that and its directory; `otherwise` is for where
    nothing was named.
    """

    words: "re.Pattern[str]"
    means: str
    advice: str
    otherwise: str


def _known(words: str, means: str, advice: str, otherwise: str = "") -> Failure:
    return Failure(re.compile(words), means, f"{advice}; {AGAIN}", f"{otherwise or advice}; {AGAIN}")


# In this order: on a file system that is full or read-only, no lock can be taken either.
KNOWN = (
    _known(
        rf"{_NAMED}Read-only file system",
        "the file system is read-only",
        REMOUNT,
        otherwise=REMOUNT.replace("{name}", "/"),
    ),
    _known(
        "No space left on device|Disk quota exceeded",
        "the file system is full",
        "df -h; df -i; make room where it says 100%",
    ),
    _known(
        r"[Uu]ser 'root' does not exist|there is no account root(?: in |:)",
        "the line of root is gone from /etc/passwd",
        NO_ROOT,
    ),
    _known(
        r"[Uu]ser '(?P<name>[^']{1,64})' does not exist|there is no account (?P<account>\S{1,64}?)(?: in |:)",
        "there is no such user",
        "useradd --create-home {name}, with --gid {name} where that is a group, or set user in "
        "/etc/csagent/csagent.yaml",
    ),
    _known(
        r"lock busy|cannot lock|lock file|\.lock\b|chpasswd: no end",
        "another program changes the accounts, or one that was cut short has left its lock",
        "lslocks | grep /etc/; pgrep -a 'vipw|vigr|passwd|useradd|usermod|userdel'; end it; where none of "
        "these runs: rm -f /etc/passwd.lock /etc/shadow.lock",
    ),
    _known(
        rf"{_NAMED}Operation not permitted",
        "a file is immutable, or the service may not change it",
        CHATTR,
        otherwise=CHATTR.replace("{way}", f"/etc {FILES}"),
    ),
    _known(
        rf"{_NAMED}(?:(?:it|\.ssh) is )?"
        r"(?:(?:Is|Not) a directory|not a regular file|not a directory of its own)",
        "something else stands where a file, or a directory, is to be",
        "namei -l {name}; give what stands there another name",
        otherwise=f"ls -ld {FILES}; give what stands there another name",
    ),
    _known(
        "BAD PASSWORD|pam_chauthtok|Authentication token|maximum number of retries",
        "PAM refused it: a rule for passwords, or a module that denies",
        "journalctl -b -t chpasswd; grep -rns -e pam_pwquality -e pam_deny /etc/pam.d /etc/security; lift "
        "that rule, or set vm.password.length higher in CloudStack and reset the password",
    ),
)


def find(reason: str) -> Optional[Failure]:
    """The known cause that a reason's words tell of, its advice ready to be run; None where there is none."""
    for one in KNOWN:
        match = one.words.search(reason)
        if match is not None:
            name = next((text for text in match.groupdict().values() if text), "")
            if not name:
                return one._replace(advice=one.otherwise)
            advice = one.advice.format(name=shlex.quote(name), way=shlex.join(_way(name)))
            return one._replace(advice=advice)
    return None


def _way(name: str) -> List[str]:
    """A file, and the directory that it is made anew in."""
    directory = os.path.dirname(name)
    return [name] if directory in ("", "/") else [name, directory]


def explained(reason: str) -> str:
    """The reason of a failure with what it comes to and what to do; as it is where that is not known."""
    known = find(reason)
    return reason if known is None else f"{reason}: {known.means}{DO}{known.advice}"


def without_advice(reason: str) -> str:
    """An explained reason without what to do, for whoever shows that apart."""
    return reason if find(reason) is None else reason.partition(DO)[0]
