"""Whether NetworkManager has a NIC, and by which profile (nmcli(1), nm-settings-keyfile(5))."""

from __future__ import annotations

import os
import re
from typing import Dict, Iterator, List, Optional, Tuple

from csagent.apply.network.kernel_state import LinkSeen
from csagent.apply.network.machine import NETWORKMANAGER
from csagent.apply.network.owners import ini, units
from csagent.apply.network.owners.claim import Claim, Verdict
from csagent.apply.network.renderers import networkmanager as ours
from csagent.system.seams import System

DEVICES = ("nmcli", "-t", "-f", "DEVICE,STATE,CONNECTION,CON-UUID", "device")
PROFILES = ("nmcli", "-t", "-f", "UUID,FILENAME,ACTIVE", "connection")
PATIENCE = 5.0  # seconds
RUN = "/run/NetworkManager/system-connections"
KEYFILES = ("/etc/NetworkManager/system-connections", RUN)
IFCFG = "/etc/sysconfig/network-scripts/ifcfg-"
CLOUD_INIT = "cloud-init-"
ITS_OWN = "Wired connection "  # what it makes for a NIC that has no profile
WITHOUT_ADDRESSES = ("ignore", "disabled", "link-local", "")


def claim(system: System, known: units.Units, link: LinkSeen) -> Optional[Claim]:
    """What NetworkManager has to do with a NIC; None where it has not, or does not run and will not."""
    unit = known.of(units.NETWORKMANAGER)
    if not unit.active:
        return _from_files(system, link) if unit.enabled else None
    done = system.runner.run(DEVICES, timeout=PATIENCE)
    if done.code != 0:
        return Claim(NETWORKMANAGER, against=f"{NETWORKMANAGER} does not answer: {done.said}")
    for device, state, connection, uuid in rows(done.output, 4):
        if device != link.name:
            continue
        if state == "unmanaged":
            against = f"{NETWORKMANAGER} is told to leave it alone"
            return Claim(NETWORKMANAGER, holds=False, against=against, forbids=True)
        if state == "connected (externally)":
            return Claim(NETWORKMANAGER, against=f"{NETWORKMANAGER} has found it configured by somebody else")
        return _of(system, link, connection, uuid)
    return None


def _of(system: System, link: LinkSeen, connection: str, uuid: str) -> Claim:
    """By the profile that is active on it, or that it is being given; then by those that name the NIC."""
    path: Optional[str] = None
    if uuid:
        done = system.runner.run(PROFILES, timeout=PATIENCE)
        if done.code != 0:
            against = f"{NETWORKMANAGER} does not say by which file it is configured: {done.said}"
            return Claim(NETWORKMANAGER, against=against)
        path = next((row[1] for row in rows(done.output, 3) if row[0] == uuid), "") or None
    if uuid and uuid == ours.uuid(link.mac):
        clash = None
        if path is not None and path != ours.path(link.mac):
            clash = f"somebody configures it: {path} has the UUID of csagent's profile"
        return Claim(NETWORKMANAGER, against=clash, ours=clash is None, how=ours.path(link.mac))
    if uuid:
        if connection.startswith(ITS_OWN) and (path or RUN).startswith(RUN):
            verdict = Verdict(f"DHCP by {NETWORKMANAGER}'s own profile")
        elif path:
            verdict = judge(system, path)
        else:
            verdict = Verdict(against=f'somebody configures it: the profile "{connection}" lies in no file')
        if verdict.against is not None:
            return Claim(NETWORKMANAGER, against=verdict.against)
        named = _against_named(system, link)
        return Claim(NETWORKMANAGER, against=named, how=verdict.how)
    return Claim(NETWORKMANAGER, against=_against_named(system, link), how="no profile is active on it")


def _from_files(system: System, link: LinkSeen) -> Claim:
    """What it will do once it is up: a profile of somebody's for the NIC, else one that it makes."""
    if system.tree.exists(ours.path(link.mac)):
        return Claim(NETWORKMANAGER, ours=True, starting=True, how=ours.path(link.mac))
    return Claim(NETWORKMANAGER, against=_against_named(system, link), starting=True)


def _against_named(system: System, link: LinkSeen) -> Optional[str]:
    """What a profile on disk that is for this very NIC has against us, active or not."""
    for path in _on_disk(system, link.name):
        said = profile(system, path)
        if said.get("vlan.parent", "").lower() in (link.name, link.mac, link.own_mac):
            return f"somebody configures it: {path} has a VLAN on it"
        names = (said.get("connection.interface-name"), said.get("ethernet.mac-address", "").lower())
        if os.path.basename(path).startswith(ours.PREFIX) or not {link.name, link.mac, link.own_mac} & set(
            names
        ):
            continue
        against = judge(system, path).against
        if against is not None:
            return against
    return None


def _on_disk(system: System, name: str) -> Iterator[str]:
    for directory in KEYFILES:
        for one in system.tree.names(directory):
            if not one.startswith("."):
                yield f"{directory}/{one}"
    if system.tree.exists(IFCFG + name):
        yield IFCFG + name


def judge(system: System, path: str) -> Verdict:
    """What a profile says of the NIC that it is for."""
    if os.path.basename(path).startswith(CLOUD_INIT):
        return Verdict(against=f"cloud-init configures it: {path}")
    said = profile(system, path)
    if not said:
        return Verdict(against=f"{path} configures it and cannot be read")
    if said.get("by-cloud-init"):
        return Verdict(against=f"cloud-init configures it: {path}")
    if said.get("by-nobody"):
        return Verdict(against=f"{path} tells {NETWORKMANAGER} to leave it alone")
    for key in ("connection.master", "connection.controller"):
        if said.get(key):
            return Verdict(against=f"somebody configures it: {path} makes it a part of {said[key]}")
    for family in ("ipv4", "ipv6"):
        if any(key.startswith(f"{family}.address") or key == f"{family}.gateway" for key in said):
            return Verdict(against=f"somebody configures it: {path} gives it a static address")
    priority = said.get("connection.autoconnect-priority", "0")
    if re.fullmatch("[0-9]{1,9}", priority) and int(priority) > ours.PRIORITY:
        return Verdict(against=f"somebody configures it: {path} has a higher priority than csagent's profile")
    four, six = said.get("ipv4.method", ""), said.get("ipv6.method", "auto")
    if four == "auto" or (four in WITHOUT_ADDRESSES and six in ("auto", "dhcp")):
        return Verdict(f"DHCP by {path}")
    return Verdict(against=f"somebody configures it: {path} asks for no DHCP")


def profile(system: System, path: str) -> Dict[str, str]:
    """A profile as {"section.key": value}; ifcfg's words (EL) in keyfile's names. Empty: not readable."""
    text = system.tree.read_text(path)
    if text is None:
        return {}
    if path.startswith(IFCFG):
        return _ifcfg(text)
    said = {f"{entry.section}.{entry.key}": entry.value for entry in ini.parse(text)}
    for alias, section in (("802-3-ethernet.", "ethernet."),):
        said.update({section + key[len(alias) :]: said[key] for key in list(said) if key.startswith(alias)})
    return said


def _ifcfg(text: str) -> Dict[str, str]:
    """nm-settings-ifcfg-rh(5), as far as it says who gives the addresses."""
    shell = {entry.key: entry.value.strip("\"'") for entry in ini.parse(text)}
    said = {
        "connection.interface-name": shell.get("DEVICE", ""),
        "ethernet.mac-address": shell.get("HWADDR", ""),
        "connection.master": shell.get("MASTER") or shell.get("TEAM_MASTER") or shell.get("BRIDGE") or "",
        "ipv4.method": "auto" if shell.get("BOOTPROTO", "").lower() in ("dhcp", "bootp") else "manual",
        "by-nobody": "yes" if shell.get("NM_CONTROLLED", "").lower() in ("no", "n", "false", "0") else "",
        "by-cloud-init": "yes" if "Created by cloud-init" in text else "",
    }
    if any(key.startswith(("IPADDR", "GATEWAY", "IPV6ADDR")) for key in shell):
        said["ipv4.address1"] = "given"
    return {key: value for key, value in said.items() if value}


def rows(output: bytes, width: int) -> Iterator[Tuple[str, ...]]:
    """The lines of nmcli -t: fields between colons, a colon inside one behind a backslash."""
    for line in output.decode("utf-8", "replace").split("\n"):
        fields: List[str] = [""]
        characters = iter(line)
        for char in characters:
            if char == ":":
                fields.append("")
            else:
                fields[-1] += next(characters, "") if char == "\\" else char
        if len(fields) == width:
            yield tuple(fields)
