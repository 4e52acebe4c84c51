"""What of the output of commands may leave the machine: lines made of what is known to be in them."""

from __future__ import annotations

import re
from typing import Optional

from csagent.doctor.bundle.manifest import UNIT_PROPERTIES
from csagent.doctor.bundle.redact_leases import by_line, name_set
from csagent.doctor.bundle.redact_text import REDACTED, prose

_GROUPS = re.compile(r"[\w.@$\\ -]{0,4096}")
_STAT = re.compile(r"[0-7]{1,5} [0-9]{1,10} [0-9]{1,10} [a-z -]{1,40}\|/[^\x00-\x1f]{0,1024}")
_PROPERTY = re.compile(r"([A-Za-z]{1,40})=([\w@.: -]{0,256})")
_CONTEXT = r"[\w:.,<>-]{1,256}"
_LABEL = re.compile(rf"\S{{1,1024}} (?:verified\.|has context {_CONTEXT}, should be {_CONTEXT})")
_DF = re.compile(
    r"(\S{1,256}(?: \S{1,64}){0,4})( +(?:[0-9]+|-) +(?:[0-9]+|-) +-?(?:[0-9]+|-) +(?:[0-9]+%|-) +)"
    r"(/[^\x00-\x1f]{0,1024})"
)
_DF_HEAD = re.compile(r"Filesystem[A-Za-z0-9 %-]*")


def groups(content: bytes) -> bytes:
    """`id -Gn`: names."""
    return by_line(content, lambda line: line if _GROUPS.fullmatch(line) else None)


def modes(content: bytes) -> bytes:
    """`stat -c '%a %u %g %F|%n'`."""
    return by_line(content, lambda line: line if _STAT.fullmatch(line) else None)


def labels(content: bytes) -> bytes:
    """`matchpathcon -V`."""
    return by_line(content, lambda line: line if _LABEL.fullmatch(line) else None)


def df(content: bytes) -> bytes:
    """`df -P`: of the file systems no name but that of a device."""

    def keep(line: str) -> Optional[str]:
        row = _DF.fullmatch(line) if len(line) < 4096 else None
        if row is None:
            return line if _DF_HEAD.fullmatch(line) else None
        source = row[1] if re.fullmatch(r"/dev/[A-Za-z0-9/_.-]{1,64}|[a-z0-9_]{1,32}", row[1]) else "-"
        return f"{source}{row[2]}{row[3]}"

    return by_line(content, keep)


def properties(content: bytes) -> bytes:
    """`systemctl show`: the properties that were asked for."""
    asked = frozenset(UNIT_PROPERTIES.split(","))

    def keep(line: str) -> Optional[str]:
        found = _PROPERTY.fullmatch(line)
        return line if found and found[1] in asked else None

    return by_line(content, keep)


# --- SELinux ---

_DENIAL = re.compile(
    r"(?:time->.*|type=AVC msg=(audit\([0-9.:]{1,40}\)): avc:\s+denied\s+\{ ([a-z_ ]{1,80}) \} (?:for )?(.*))"
)
_AVC = name_set("pid comm path name dev ino scontext tcontext tclass permissive")
_FIELD = re.compile(r'\b([a-z]{1,16})=("[^"]{0,512}"|[^\s"]{1,256})')


def audit(content: bytes) -> bytes:
    """SELinux's denials. Those of user space (USER_AVC) have a whole command line in them, and go."""

    def keep(line: str) -> Optional[str]:
        found = _DENIAL.fullmatch(line.rstrip()) if len(line) < 4096 else None
        if line.rstrip() == "----":
            return line
        if found is None or not found[1]:
            return None
        told = " ".join(f"{name}={value}" for name, value in _FIELD.findall(found[3]) if name in _AVC)
        return prose(f"type=AVC msg={found[1]}: avc:  denied  {{ {found[2]} }} for {told}")

    return by_line(content, keep)


# --- the journal ---

_JOURNAL = re.compile(r"((?:\S+ +\S+ +)?\S+ +\S+ (csagent|systemd)\[[0-9]+\]: )(.*)")
_EXCEPTION = re.compile(r"\s*((?:[a-z_]+\.)*[A-Z]\w*(?:Error|Exception|Warning|Interrupt|Expired)): .*")
_VERBS = "Starting|Started|Stopping|Stopped|Reloading|Reloaded|Finished|Failed to start|Deactivated"
_LIFE = re.compile(rf"({_VERBS})\b.*")
_UNIT_NEWS = re.compile(
    r"csagent\.service: (?:"
    r"(?:Main|Control|Scheduled|Service|Start|Stop|State|Killing|Consumed|Deactivated|Succeeded|Failed with"
    r"|Watchdog|Unit|Triggering|Processes|Sent|Changed|Got|A process)[\w '(),.:/%-]{0,256})"
)


def journal(content: bytes) -> bytes:
    """What csagent said, and systemd of it; not what another program printed, nor a line of a unit file.

    systemd quotes what it does not understand ("Invalid environment assignment, ignoring: TOKEN=..."), and a
    unit's description is anybody's text: of its messages those about starting and ending are kept.
    """

    def keep(line: str) -> Optional[str]:
        found = _JOURNAL.fullmatch(line)
        if found is None:
            return None
        head, who, text = found.groups()
        if who == "csagent":
            raised = _EXCEPTION.fullmatch(text)
            return prose(f"{head}{raised[1]}: {REDACTED}" if raised else line)
        life = _LIFE.fullmatch(text)
        if life:
            return f"{head}{life[1]} it"
        return prose(line) if _UNIT_NEWS.fullmatch(text) else None

    return by_line(content, keep)
