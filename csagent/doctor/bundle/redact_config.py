"""What of configuration files may leave the machine: the words that doctor judges by, and nothing else.

None of these looks for secrets. A line is made anew of what is known to be in it; what is not known gives
way to a remark in its place, so that the lines keep their numbers.
"""

from __future__ import annotations

import re
from typing import List, Optional

from csagent.doctor.bundle.redact_leases import LEFT_OUT, by_line, name_set
from csagent.doctor.checks.sshd_config import ADDING, ALIASES, CRITERIA, DEFAULTS, split
from csagent.settings import TABLE

PATH = re.compile(r"[\w./+@%-]{1,256}")

# --- sshd ---

JUDGED = frozenset((*ADDING, *ALIASES, *DEFAULTS, "pubkeyacceptedalgorithms", "include")) | name_set(
    "port listenaddress addressfamily hostkey loglevel"
)
PROGRAMS = name_set("authorizedkeyscommand authorizedprincipalscommand forcecommand proxycommand")
MATCHED = CRITERIA - name_set("all exec command final canonical")
LINE_LIMIT = 4096
_VALUE = re.compile(r"[\w.,:;@$%/*?!+^~\[\]\\ -]{1,4096}")


def sshd(content: bytes) -> bytes:
    """sshd_config, and what `sshd -T` prints: the keywords that are judged; of a command its program."""
    return by_line(content, _sshd_line)


def _sshd_line(line: str) -> Optional[str]:
    words = split(line) if len(line) < LINE_LIMIT else [LEFT_OUT]
    if not words:
        return LEFT_OUT if line == LEFT_OUT else "#"
    keyword, values = words[0].lower(), words[1:]
    indent = line[: len(line) - len(line.lstrip(" \t"))]
    if keyword == "subsystem":
        kept: Optional[List[str]] = [*values[:1], program(values[1:])]
    elif keyword in PROGRAMS:
        kept = [program(values)]
    elif keyword == "match":
        kept = _criteria(values)
    else:
        kept = values if keyword in JUDGED else None
    if kept is None:
        return None
    shown = [one if _VALUE.fullmatch(one) else "left-out" for one in kept]
    return indent + " ".join((words[0], *(f'"{one}"' if " " in one or one == "" else one for one in shown)))


def program(words: List[str]) -> str:
    """Of a command the program, without a word of what it is given."""
    first = (words[0].split() or [""])[0] if words else ""
    return first if PATH.fullmatch(first) else "left-out"


def _criteria(words: List[str]) -> List[str]:
    """Those of a Match line, up to the first that is not known: sshd_config(5) has no way around a value."""
    rest = [part for word in words for part in word.split("=", 1)]
    kept: List[str] = []
    while rest:
        criterion = rest.pop(0)
        if criterion.lower() not in CRITERIA:
            return [*kept, "left-out", "left-out"]
        kept.append(criterion)
        if rest and criterion.lower() in MATCHED:
            kept.append(rest.pop(0))
        elif rest and criterion.lower() != "all":
            return [*kept, "left-out"]
    return kept


# --- PAM ---

_RULE = re.compile(
    r"(-?(?:auth|account|password|session))\s+(\[[a-z_=0-9 \t]*\]|[a-z]+)\s+"
    r"([\w./-]*\.so|[a-z0-9][a-z0-9._/-]*)(?=\s|$)"
)
_INCLUDE = re.compile(r"@include\s+([\w.-]+)")
_MODULE = re.compile(r"(?:^|\s)((?:/[\w./-]*/)?pam_\w+\.so)(?=\s|$)")
_STACKS = ("include", "substack")


def pam(content: bytes) -> bytes:
    """A stack of PAM's: type, control and module of its rules, never what a module is told."""
    return by_line(content, _pam_line)


def _pam_line(line: str) -> str:
    said = line.split("#", 1)[0].strip()
    include = _INCLUDE.fullmatch(said)
    if include:
        return f"@include {include[1]}"
    rule = _RULE.match(said)
    if rule and (rule[3].endswith(".so") or rule[2] in _STACKS):
        return " ".join(rule.groups())
    return " ".join(_MODULE.findall(said)) or "#"  # the second line of a rule that is written in two


_ACCESS = re.compile(r"\s*[+-]\s*:[\w .,()@$\\\t-]*:[\w .,/:()@%*\t-]*")


def access(content: bytes) -> bytes:
    """access.conf: who, and from where."""

    def keep(line: str) -> str:
        said = line.split("#", 1)[0].rstrip()
        return said if _ACCESS.fullmatch(said) else "#"

    return by_line(content, keep)


# --- units ---

_SECTION = re.compile(r"\[(?:Unit|Service|Install|Socket|X-[A-Za-z]{1,16})\]")
_UNIT_VALUE = re.compile(r"[\w@.:/~%+* \t-]{0,1024}")
DIRECTIVES = name_set(
    "After Before Wants Requires Requisite BindsTo PartOf Conflicts WantedBy RequiredBy Also Alias OnFailure "
    "DefaultDependencies RefuseManualStart ConditionPathExists ConditionFirstBoot ConditionVirtualization "
    "Type NotifyAccess Restart RestartSec RestartPreventExitStatus StartLimitIntervalSec StartLimitBurst "
    "TimeoutSec TimeoutStartSec TimeoutStopSec WatchdogSec KillMode RemainAfterExit User Group DynamicUser "
    "EnvironmentFile UMask NoNewPrivileges CapabilityBoundingSet AmbientCapabilities SystemCallFilter "
    "SystemCallArchitectures SystemCallErrorNumber ProtectSystem ProtectHome ProtectProc PrivateTmp "
    "PrivateMounts PrivateNetwork PrivateDevices PrivateUsers ProtectHostname ProtectKernelTunables "
    "ProtectKernelModules ProtectKernelLogs ProtectControlGroups ProtectClock ReadWritePaths ReadOnlyPaths "
    "InaccessiblePaths DevicePolicy DeviceAllow RestrictAddressFamilies RestrictNamespaces RestrictRealtime "
    "RestrictSUIDSGID LockPersonality MemoryDenyWriteExecute MemoryMax MemorySwapMax TasksMax LimitCORE "
    "LimitNOFILE IPAddressDeny IPAddressAllow RuntimeDirectory StateDirectory ConfigurationDirectory "
    "RuntimeDirectoryMode StateDirectoryMode RuntimeDirectoryPreserve Slice KeyringMode"
)


def unit(content: bytes) -> bytes:
    """A unit file or a drop-in: what orders, confines and restarts it; of a command its program.

    The second line of a value goes, whatever it is; a remark in its midst does not end it
    (systemd.syntax(7)).
    """
    kept: List[str] = []
    continued = False
    for line in content.decode("utf-8", "replace").split("\n"):
        said = line.strip()
        remark = said.startswith(("#", ";"))
        if not said:
            kept.append("")
            continued = False
            continue
        kept.append("#" if continued or remark else _directive(said.rstrip("\\").rstrip()))
        if not remark:
            continued = said.endswith("\\")
    return "\n".join(kept).encode()


def _directive(said: str) -> str:
    if _SECTION.fullmatch(said):
        return said
    name, equals, value = said.partition("=")
    name, value = name.rstrip(), value.lstrip()
    if equals and re.fullmatch(r"Exec[A-Za-z]{1,16}", name):
        given = value.lstrip("-@:+!|")
        return f"{name}={value[: len(value) - len(given)]}{program([given]) if given else ''}"
    if not equals or name not in DIRECTIVES:
        return "#"
    return f"{name}={value if _UNIT_VALUE.fullmatch(value) else 'left-out'}"


# --- csagent's own ---

_VALUES = {one.name: re.compile(one.written) for one in TABLE}
_ITEMS = {one.name: re.compile(one.item) for one in TABLE if one.item}
GONE = "[] # redacted"  # the wrong value of every setting, as what stood there may have been
_KEY = re.compile(r"([ \t]*)((?:- +)*)([A-Za-z_][\w.-]{0,59})([ \t]*:)(?:[ \t]+(.*))?")
_DASH = re.compile(r"[ \t]*-(?: +|$)")


def settings(content: bytes) -> bytes:
    """csagent's settings: its own keys with the values that they may have; of any other key its name."""
    holder = ""  # the key of the first column that a line belongs to; "" where its value was taken out

    def keep(line: str) -> str:
        nonlocal holder
        said = line.split(" #", 1)[0].rstrip()
        indented = said[:1] in (" ", "\t") or said.startswith("- ")
        if not said.strip() or said.lstrip().startswith("#"):
            return "#"
        if said in ("---", "..."):
            return said
        dash = _DASH.match(said)
        if dash and holder in _ITEMS and _ITEMS[holder].fullmatch(said[dash.end() :]):
            return said
        found = _KEY.fullmatch(said)
        if found is None:
            gone = "#" if indented and not holder else f"{dash[0]}[]" if dash else "redacted"
            holder = holder if indented else ""
            return gone
        indent, dashes, key, colon, value = found.groups()
        if indented:
            return "#" if not holder else f"{indent}{dashes}{key}{colon} {GONE if value else ''}".rstrip()
        holder = key
        if not value:
            return f"{key}{colon}"
        if key in _VALUES and _VALUES[key].fullmatch(value):
            return said
        holder = ""
        return f"{key}{colon} {GONE}"

    return by_line(content, keep)
