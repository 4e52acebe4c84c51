"""pam_access, the one module of PAM's that commonly refuses somebody with the right password or key."""

from __future__ import annotations

from typing import Iterator, List, Optional, Sequence, Set

from csagent.doctor.context import Situation
from csagent.doctor.finding import PROBLEM, WARNING, Finding
from csagent.system.files import lines_of

DIRECTORIES = ("/etc/pam.d", "/usr/lib/pam.d")
ACCESS = ("/etc/security/access.conf", "/etc/security/access.d/*.conf")
DEPTH_LIMIT = 8


def access(situation: Situation, groups: Sequence[str]) -> Iterator[Finding]:
    """The line of access.conf that refuses the account, where sshd's PAM stack asks it (access.conf(5))."""
    if "pam_access.so" not in modules(situation, "sshd"):
        return
    for path in _rules(situation):
        for line in lines_of(situation.read(path) or ""):
            parts = [part.strip() for part in line.split("#", 1)[0].split(":", 2)]
            if len(parts) != 3 or parts[0] not in ("+", "-") or not _names(situation.user, groups, parts[1]):
                continue
            if parts[2].split()[:1] == ["LOCAL"]:
                continue  # about logins without a network
            if parts[0] == "+":
                return
            everywhere = parts[2] == "ALL"
            means = f"pam_access refuses {situation.user}" + ("" if everywhere else f" from {parts[2]}")
            advice = f"put this line before it in {path}: + : {situation.user} : ALL"
            yield Finding(
                "sshd", PROBLEM if everywhere else WARNING, f"{path}: {' : '.join(parts)}", means, advice
            )
            return


def _rules(situation: Situation) -> List[str]:
    return [path for pattern in ACCESS for path in situation.system.tree.glob(pattern)]


def _names(user: str, groups: Sequence[str], field: str) -> bool:
    """Whether the users' field of a rule is about this account."""
    wanted, _, exempt = field.partition(" EXCEPT ")
    return _any(user, groups, wanted) and not (exempt and _any(user, groups, exempt))


def _any(user: str, groups: Sequence[str], field: str) -> bool:
    for word in field.replace(",", " ").split():
        bare = word.strip("()")
        if word in ("ALL", user) or bare in groups:
            return True
    return False


def modules(situation: Situation, service: str, depth: int = 0) -> Set[str]:
    """The modules of a service's stack, those of the files that it includes too."""
    found: Set[str] = set()
    for line in lines_of(_stack(situation, service) or ""):
        words = line.split("#", 1)[0].split()
        if len(words) == 2 and words[0] == "@include":
            included: Optional[str] = words[1]
        elif len(words) >= 3 and words[1] in ("include", "substack"):
            included = words[2]
        else:
            included = None
            found.update(word.rsplit("/", 1)[-1] for word in words if word.endswith(".so"))
        if included is not None and depth < DEPTH_LIMIT:
            found |= modules(situation, included.rsplit("/", 1)[-1], depth + 1)
    return found


def _stack(situation: Situation, service: str) -> Optional[str]:
    for directory in DIRECTORIES:
        text = situation.read(f"{directory}/{service}")
        if text is not None:
            return text
    return None
