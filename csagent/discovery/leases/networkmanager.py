"""NetworkManager with its internal DHCP client.

From 1.42 on `/run/NetworkManager/devices/INDEX` has a section ``[dhcp4]``; it stays after the lease has
expired. 1.30 tells only by D-Bus, hence nmcli. The files that survive a reboot,
`internal-UUID-IF.lease`, hold the address alone, except in the EL8 era, when they had networkd's keys.
With ``dhcp=dhclient`` the lease file is dhclient's.
"""

from __future__ import annotations

import re
from typing import Dict, Iterator, List, Optional, Sequence, Tuple

from csagent.discovery.leases import networkd
from csagent.discovery.leases.client import RawLeases, Statement
from csagent.discovery.leases.text import (
    base,
    by_index,
    domain,
    ipv4_list,
    number,
    pairs,
    routable,
    whole_lines,
)
from csagent.model import Lease, Nic, Rejected
from csagent.validation import ipv4

NAME = "NetworkManager"
DEVICES = "/run/NetworkManager/devices/*"
INTERNAL = ("/run/NetworkManager/internal-*.lease", "/var/lib/NetworkManager/internal-*.lease")
FILES = (DEVICES, *INTERNAL)
MARKS = ("/run/NetworkManager",)

_OPTION = re.compile(r"DHCP4\.OPTION\[[0-9]+\]:\s*([a-z0-9_]+) = (.*)")
_INTERNAL = re.compile(r"internal-[0-9a-fA-F-]{36}-(.+)\.lease")


def complete(content: bytes) -> bool:
    """Whether there is a lease in it: between two activations `devices/INDEX` has no ``[dhcp4]``."""
    return content.endswith(b"\n") and (b"\n[dhcp4]\n" in content or b"ADDRESS=" in content)


def statements(raw: RawLeases, nics: Sequence[Nic]) -> Iterator[Statement]:
    """The device files, nmcli for devices whose file has no lease, then the persistent files."""
    named = by_index(nics)
    ask: List[Nic] = []
    for path, content in raw.matching(DEVICES):
        nic = named.get(base(path))
        if nic is None:
            if b"[dhcp4]" in content:
                yield Rejected(path, NAME, None, f"no interface has the index {base(path)}")
            continue
        said = _sections(content).get("dhcp4")
        if said is None:
            ask.append(nic)
            continue
        device = _sections(content).get("device", {})
        options = {key[6:]: value for key, value in said.items() if key.startswith("dhcp4.")}
        options.setdefault("next_server", device.get("next-server", ""))
        yield _lease(options, nic, path)
    if raw.marked(*MARKS) and not list(raw.matching(DEVICES)):
        ask = list(nics)  # with netplan 0.106 only root may look into the directory
    for nic in ask:
        if routable(nic) is None:
            continue
        argv = ("nmcli", "-f", "DHCP4", "device", "show", nic.name)
        options = _nmcli(raw.command(*argv) or b"")
        if options:
            yield _lease(options, nic, " ".join(argv))
    for path, content in raw.matching(*INTERNAL):
        match = _INTERNAL.fullmatch(base(path))
        if match:
            yield networkd.lease(content, match.group(1), NAME, path)


def _lease(options: Dict[str, str], nic: Nic, path: str) -> Statement:
    address = ipv4(options.get("ip_address"))
    if address is None:
        return Rejected(path, NAME, nic.name, "no usable address in it")
    expiry = number(options.get("expiry"))  # absent for an infinite lease
    return Lease(
        interface=nic.name,
        client=NAME,
        address=address,
        server_identifier=ipv4(options.get("dhcp_server_identifier")),
        routers=ipv4_list(options.get("routers")),
        domain_name=domain(options.get("domain_name")),
        name_servers=ipv4_list(options.get("domain_name_servers")),
        next_server=ipv4(options.get("next_server")),
        expires=None if expiry is None else float(expiry),
        path=path,
    )


def _sections(content: bytes) -> Dict[str, Dict[str, str]]:
    """An ini file's sections; one that occurs twice counts once, the first time."""
    lines: Dict[str, List[str]] = {}
    current: Optional[List[str]] = None
    for line in whole_lines(content):
        header = re.fullmatch(r"\[([^\[\]]+)\]\s*", line)
        if header:
            current = [] if header.group(1) in lines else lines.setdefault(header.group(1), [])
        elif current is not None:
            current.append(line)
    return {name: pairs(body) for name, body in lines.items()}


def _nmcli(output: bytes) -> Dict[str, str]:
    matches = [_OPTION.fullmatch(line.rstrip()) for line in whole_lines(output)]
    said: List[Tuple[str, str]] = [(match.group(1), match.group(2)) for match in matches if match]
    return pairs(f"{key}={value}" for key, value in said)
