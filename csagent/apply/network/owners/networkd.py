"""Whether systemd-networkd has a NIC, and by which file (networkctl(1), systemd.network(5))."""

from __future__ import annotations

import fnmatch
import os
import re
from typing import Dict, Iterator, List, Optional

from csagent.apply.network.kernel_state import LinkSeen
from csagent.apply.network.machine import NETWORKD
from csagent.apply.network.owners import ini, units
from csagent.apply.network.owners.claim import Claim, Verdict
from csagent.apply.network.renderers import networkd as ours
from csagent.system.seams import System

LIST = ("networkctl", "--no-pager", "--no-legend", "list")
DIRECTORIES = (
    "/etc/systemd/network",
    "/run/systemd/network",
    "/usr/lib/systemd/network",
    "/lib/systemd/network",
)
PATIENCE = 5.0  # seconds
UNSETTLED = ("pending", "initialized")  # udev has not told networkd of the NIC yet: no file is chosen
CLOUD_INIT = "10-cloud-init-"

STATIC = (
    "Address",
    "Gateway",
    "Bond",
    "Bridge",
    "VRF",
    "VLAN",
    "MACVLAN",
    "MACVTAP",
    "IPVLAN",
    "IPVTAP",
    "Tunnel",
)
BY_DHCP = ("yes", "true", "on", "1", "ipv4", "ipv6", "both", "v4", "v6")

FILE = re.compile(r"^\s*Network File: (/\S.*?)\s*$", re.MULTILINE)


def status(name: str) -> tuple[str, ...]:
    """The command that tells by which file a NIC is configured."""
    return ("networkctl", "--no-pager", "--lines=0", "status", name)


def claim(system: System, known: units.Units, link: LinkSeen) -> Optional[Claim]:
    """What networkd has to do with a NIC; None where it does not run and will not."""
    unit = known.of(units.NETWORKD)
    if not unit.active and not unit.enabled:
        return None
    if not unit.active:
        return _from_files(system, link)
    done = system.runner.run(LIST, timeout=PATIENCE)
    if done.code != 0:
        return Claim(NETWORKD, against=f"{NETWORKD} does not answer: {done.error.decode('utf-8', 'replace')}")
    setup = _setup(done.output.decode("utf-8", "replace"), link)
    if setup in UNSETTLED:
        return _from_files(system, link)._replace(starting=False)
    done = system.runner.run(status(link.name), timeout=PATIENCE)
    if done.code != 0:
        against = f"{NETWORKD} does not say by which file it is configured: {done.said}"
        return Claim(NETWORKD, against=against)
    found = FILE.search(done.output.decode("utf-8", "surrogateescape"))
    path = found.group(1) if found else None
    if setup is None or setup == "unmanaged":
        # With a file it is one that says so (Unmanaged=), without one there just is none for it.
        return _forbidden(path) if path else Claim(NETWORKD, holds=False)
    return _claim(system, path, link, starting=False)


def _forbidden(path: str) -> Claim:
    return Claim(NETWORKD, holds=False, against=f"{path} tells {NETWORKD} to leave it alone", forbids=True)


def _setup(text: str, link: LinkSeen) -> Optional[str]:
    """The last column of the NIC's line: IDX LINK TYPE OPERATIONAL SETUP."""
    for line in text.split("\n"):
        words = line.split()
        if len(words) >= 5 and words[0] == str(link.ifindex):
            return words[-1]
    return None


def _claim(system: System, path: Optional[str], link: LinkSeen, *, starting: bool) -> Claim:
    if path is None:
        return Claim(NETWORKD, holds=False, starting=starting)
    if _unmanaged(system, path):
        return _forbidden(path)._replace(starting=starting)
    verdict = judge(system, path)
    if verdict.against is None and os.path.basename(path) < os.path.basename(ours.path(link.mac)):
        verdict = Verdict(against=f"somebody configures it: {path} comes before any file of csagent's")
    return Claim(NETWORKD, True, verdict.against, verdict.ours, starting, verdict.how)


def _from_files(system: System, link: LinkSeen) -> Claim:
    """What it will do once it is up: the first file by name that matches."""
    for path in _files(system):
        entries = ini.parse(system.tree.read_text(path) or "")
        if _matches(entries, link):
            return _claim(system, path, link, starting=True)
    return Claim(NETWORKD, holds=False, starting=True)


def _files(system: System) -> List[str]:
    """By name; of two with the same name that in the first directory counts, and an empty one hides it."""
    chosen: Dict[str, str] = {}
    for directory in DIRECTORIES:
        for name in system.tree.names(directory):
            if name.endswith(".network"):
                chosen.setdefault(name, f"{directory}/{name}")
    return [chosen[name] for name in sorted(chosen)]


def _matches(entries: List[ini.Entry], link: LinkSeen) -> bool:
    """Whether [Match] fits; a condition that we cannot judge (a driver, a path) is taken to be met."""
    conditions = [entry for entry in entries if entry.section == "Match" and entry.value]
    if not conditions:
        return False
    for entry in conditions:
        words = entry.value.split()
        if entry.key in ("MACAddress", "PermanentMACAddress"):
            mac = link.mac if entry.key == "MACAddress" else link.own_mac
            fits = mac in [word.lower().replace("-", ":") for word in words]
        elif entry.key in ("Name", "OriginalName"):
            fits = _one_of(words, link.name)
        elif entry.key == "Type":
            fits = _one_of(words, "ether")
        elif entry.key == "Kind":
            fits = _one_of(words, link.kind or "")
        else:
            fits = True
        if not fits:
            return False
    return True


def _one_of(words: List[str], value: str) -> bool:
    """Shell patterns; "!" before the first turns all of them round."""
    inverted = words[0].startswith("!")
    patterns = [words[0][1:], *words[1:]] if inverted else words
    return any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns) != inverted


def judge(system: System, path: str) -> Verdict:
    """What a .network file and its drop-ins say of the NICs that it is for."""
    name = os.path.basename(path)
    if name.startswith(ours.PREFIX):
        return Verdict(path, ours=True)
    if name.startswith(CLOUD_INIT):
        return Verdict(against=f"cloud-init configures it: {path}")
    entries = _whole(system, path)
    if not entries:
        return Verdict(against=f"{path} configures it and cannot be read")
    for key in STATIC:
        if ini.values(entries, "Network", key):
            return Verdict(against=f"somebody configures it: {path} has {key}=")
    for section in ("Address", "Route", "Bridge", "BridgeVLAN"):
        if any(entry.section == section for entry in entries):
            return Verdict(against=f"somebody configures it: {path} has [{section}]")
    if ini.last(entries, "Network", "DHCP").lower() in BY_DHCP:
        return Verdict(f"DHCP by {path}")
    if ini.last(entries, "Network", "IPv6AcceptRA").lower() in BY_DHCP:
        return Verdict(f"router advertisements by {path}")
    return Verdict(against=f"somebody configures it: {path} asks for no DHCP")


def _unmanaged(system: System, path: str) -> bool:
    """Whether a file says that networkd shall leave its NICs alone (systemd.network(5), Unmanaged=)."""
    return ini.last(_whole(system, path), "Link", "Unmanaged").lower() in ("yes", "true", "on", "1")


def _whole(system: System, path: str) -> List[ini.Entry]:
    """A file with its drop-ins."""
    paths = (path, *_drop_ins(system, os.path.basename(path)))
    return [entry for one in paths for entry in _entries(system, one)]


def _drop_ins(system: System, name: str) -> Iterator[str]:
    for directory in DIRECTORIES:
        yield from system.tree.glob(f"{directory}/{name}.d/*.conf")


def _entries(system: System, path: str) -> List[ini.Entry]:
    return ini.parse(system.tree.read_text(path) or "")
