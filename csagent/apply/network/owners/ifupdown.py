"""Whether ifupdown has a NIC, by which stanzas, and whether it takes files of ours (interfaces(5))."""

from __future__ import annotations

import fnmatch
import re
from typing import Dict, List, NamedTuple, Optional, Set, Tuple

from csagent.apply.network.kernel_state import LinkSeen
from csagent.apply.network.machine import IFUPDOWN
from csagent.apply.network.owners import units
from csagent.apply.network.owners.claim import Claim
from csagent.apply.network.renderers import ifupdown as ours
from csagent.system.seams import System

INTERFACES = "/etc/network/interfaces"
STATE = "/run/network/ifstate"
PROGRAMS = ("/usr/sbin/ifup", "/sbin/ifup")
OTHERS = {"/usr/share/ifupdown2": "ifupdown2", "/usr/libexec/ifupdown-ng": "ifupdown-ng"}  # know no mappings
CLOUD_INIT = "50-cloud-init"
FILES_LIMIT = 100
PARTS = ("bridge_ports", "bridge-ports", "bond-slaves", "slaves")
BY_DHCP = {("inet", "dhcp"), ("inet6", "auto"), ("inet6", "dhcp"), ("inet", "bootp")}

_PLAIN = re.compile(r"[A-Za-z0-9_-]+\Z", re.ASCII)  # what source-directory takes


class Stanza(NamedTuple):
    """One iface stanza."""

    path: str
    name: str
    family: str
    method: str
    options: Tuple[str, ...] = ()


class Interfaces(NamedTuple):
    """What all files say: patterns behind auto and allow-..., and (pattern, file) of others' mappings.

    `reads_ours`: a file of ours would be read.
    """

    stanzas: Tuple[Stanza, ...] = ()
    raised: Tuple[str, ...] = ()
    mapped: Tuple[Tuple[str, str], ...] = ()
    reads_ours: bool = False


def claim(system: System, known: units.Units, link: LinkSeen) -> Optional[Claim]:
    """What ifupdown has to do with a NIC; None where it is not installed or not in use."""
    unit = known.of(units.IFUPDOWN)
    installed = known.asked or any(system.tree.exists(path) for path in PROGRAMS)
    if not (unit.active or unit.enabled) or not installed:
        return None
    for path, name in OTHERS.items():
        if system.tree.exists(path):
            return Claim(name, against=f"{name} is in charge of it, for which csagent writes no files")
    said = read(system)
    raised = any(fnmatch.fnmatchcase(link.name, pattern.lstrip("/")) for pattern in said.raised)
    found = _claim(system, said, link.name)
    return found._replace(starting=not unit.active or not known.asked, raised=raised)


def _claim(system: System, said: Interfaces, name: str) -> Claim:
    if active(system).get(name) == ours.logical(name):
        return Claim(IFUPDOWN, ours=True, how=ours.PATH)
    stanzas = [one for one in said.stanzas if one.name == name and one.path != ours.PATH]
    against = _against(said, stanzas, name) or _takes_no_file(said)
    if not stanzas and f"mapping {name}\n" in (system.tree.read_text(ours.PATH) or ""):
        return Claim(IFUPDOWN, against=against, ours=True, how=ours.PATH)
    how = f"DHCP by {stanzas[0].path}" if stanzas and against is None else ""
    return Claim(IFUPDOWN, bool(stanzas), against, how=how)


def active(system: System) -> Dict[str, str]:
    """Which stanza each NIC was brought up with, by ifup's own record."""
    text = system.tree.read_text(STATE) or ""
    return dict(line.strip().split("=", 1) for line in text.split("\n") if "=" in line)


def _against(said: Interfaces, stanzas: List[Stanza], name: str) -> Optional[str]:
    for stanza in stanzas:
        if stanza.path.endswith("/" + CLOUD_INIT):
            return f"cloud-init configures it: {stanza.path}"
        if (stanza.family, stanza.method) not in BY_DHCP:
            return f"somebody configures it: {stanza.path} has iface {name} {stanza.family} {stanza.method}"
    for pattern, path in said.mapped:
        if fnmatch.fnmatchcase(name, pattern.lstrip("/")):
            return f"somebody configures it: {path} has mapping {pattern}"
    for one in said.stanzas:
        for option in one.options:
            key, *words = option.split()
            if key in PARTS and name in words:
                return f"somebody configures it: {one.path} makes it a part of {one.name}"
            if key in ("vlan-raw-device", "vlan_raw_device") and name in words:
                return f"somebody configures it: {one.path} has the VLAN {one.name} on it"
        if one.name.partition(".")[0] == name and "." in one.name:  # vlan-interfaces(5)
            return f"somebody configures it: {one.path} has the VLAN {one.name} on it"
        if one.name == ours.logical(name) and one.path != ours.PATH:
            return f"somebody configures it: {one.path} has iface {one.name}, which is csagent's name"
    return None


def _takes_no_file(said: Interfaces) -> Optional[str]:
    return None if said.reads_ours else f"{INTERFACES} does not source interfaces.d, so that no file is read"


def read(system: System) -> Interfaces:
    """/etc/network/interfaces and what it sources."""
    stanzas: List[Stanza] = []
    raised: List[str] = []
    mapped: List[Tuple[str, str]] = []
    pending: List[str] = [INTERFACES]
    seen: Set[str] = set()
    reads: Set[str] = set()
    while pending and len(seen) < FILES_LIMIT:
        path = pending.pop(0)
        if path in seen:
            continue
        seen.add(path)
        inside = False
        for line in _lines(system.tree.read_text(path) or ""):
            words = line.split()
            if words[0] == "iface" and len(words) >= 4:
                stanzas.append(Stanza(path, words[1], words[2], words[3]))
                inside = True
            elif words[0] in ("source", "source-directory", "source-dir"):
                inside = False
                for pattern in words[1:]:
                    found = _sourced(system, words[0], pattern)
                    reads.update(found[1])
                    pending += found[0]
            elif words[0] == "mapping":
                inside = False
                mapped += [(pattern, path) for pattern in words[1:] if path != ours.PATH]
            elif words[0] == "auto" or words[0].startswith("allow-"):
                inside = False
                raised += words[1:] if path != ours.PATH else []
            elif inside:
                stanzas[-1] = stanzas[-1]._replace(options=(*stanzas[-1].options, line))
    return Interfaces(tuple(stanzas), tuple(raised), tuple(mapped), ours.PATH in reads)


def _sourced(system: System, word: str, pattern: str) -> Tuple[List[str], List[str]]:
    """The files that a line reads, and our own file's path where it would be among them."""
    pattern = pattern if pattern.startswith("/") else f"/etc/network/{pattern}"
    if word == "source":
        return sorted(system.tree.glob(pattern)), [ours.PATH] if fnmatch.fnmatchcase(
            ours.PATH, pattern
        ) else []
    directory = pattern.rstrip("/")
    files = [f"{directory}/{name}" for name in system.tree.names(directory) if _PLAIN.match(name)]
    return files, [ours.PATH] if ours.PATH.rpartition("/")[0] == directory else []


def _lines(text: str) -> List[str]:
    """Lines without comments and blanks; a backslash at its end continues one."""
    joined = text.replace("\\\n", " ")
    return [line.strip() for line in joined.split("\n") if line.strip() and not line.lstrip().startswith("#")]
