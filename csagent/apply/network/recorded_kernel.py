"""The kernel's state in a tree: what `ip -j` printed when it was recorded, else what sys/class/net has."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, List, Optional, Tuple

from csagent.apply.network.kernel_state import Kernel, LinkSeen
from csagent.apply.network.machine import Assigned, Hop
from csagent.system import json_limits
from csagent.system.seams import System

ADDRESSES = ("ip", "-j", "addr")
ROUTES = ((4, ("ip", "-j", "route")), (6, ("ip", "-j", "-6", "route")))
SYS_NET = "/sys/class/net"
ARPHRD_ETHER = "1"

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}\Z", re.ASCII)
_TEXT = re.compile(r"[0-9A-Fa-f.:]{2,45}\Z", re.ASCII)


def look(system: System) -> Kernel:
    """What the tree says; without a recording there are no addresses and no routes."""
    entries = _entries(system, ADDRESSES)
    if not entries:
        return Kernel(tuple(_from_sysfs(system)))
    links = [link for link in (_link(system, entry) for entry in entries) if link is not None]
    indexes = {link.name: link.ifindex for link in links}
    addresses = {
        entry["ifindex"]: tuple(_addresses(entry)) for entry in entries if entry.get("ifname") in indexes
    }
    routes: Dict[int, List[Hop]] = {}
    for version, command in ROUTES:
        for entry in _entries(system, command):
            if entry.get("dst") == "default" and entry.get("dev") in indexes:
                gateway, metric = entry.get("gateway"), entry.get("metric")
                hop = Hop(
                    version,
                    gateway if isinstance(gateway, str) and _TEXT.match(gateway) else None,
                    metric if isinstance(metric, int) else 0,
                )
                routes.setdefault(indexes[entry["dev"]], []).append(hop)
    return Kernel(tuple(links), addresses, {index: tuple(hops) for index, hops in routes.items()})


def _entries(system: System, command: Tuple[str, ...]) -> List[Dict[str, Any]]:
    done = system.runner.run(command)
    try:
        document = json_limits.loads(done.output) if done.code == 0 else None
    except (ValueError, RecursionError):
        return []
    return [entry for entry in document if isinstance(entry, dict)] if isinstance(document, list) else []


def _link(system: System, entry: Dict[str, Any]) -> Optional[LinkSeen]:
    name, index, mac = entry.get("ifname"), entry.get("ifindex"), entry.get("address")
    if not isinstance(name, str) or not isinstance(index, int) or entry.get("link_type") != "ether":
        return None
    if not isinstance(mac, str) or not _MAC.match(mac) or "/" in name:
        return None
    mtu, master, permanent = entry.get("mtu"), entry.get("master"), entry.get("permaddr")
    return LinkSeen(
        name,
        index,
        mac,
        mtu if isinstance(mtu, int) else None,
        None,
        master if isinstance(master, str) else None,
        _kind(system, name),
        permanent if isinstance(permanent, str) and _MAC.match(permanent) else None,
    )


def _addresses(entry: Dict[str, Any]) -> Iterator[Assigned]:
    infos = entry.get("addr_info")
    for info in infos if isinstance(infos, list) else ():
        if not isinstance(info, dict):
            continue
        local, prefix = info.get("local"), info.get("prefixlen")
        if isinstance(local, str) and _TEXT.match(local) and isinstance(prefix, int):
            yield Assigned(
                f"{local}/{prefix}",
                info.get("dynamic") is not True,
                info.get("tentative") is True,
                info.get("dadfailed") is True,
                info.get("scope") != "global",
            )


def _from_sysfs(system: System) -> Iterator[LinkSeen]:
    for name in system.tree.names(SYS_NET):
        said = {key: _read(system, name, key) for key in ("address", "ifindex", "mtu", "type")}
        if _MAC.match(said["address"]) and said["type"] in ("", ARPHRD_ETHER) and name != "lo":
            yield LinkSeen(
                name,
                int(said["ifindex"]) if re.fullmatch("[0-9]{1,9}", said["ifindex"]) else 0,
                said["address"],
                int(said["mtu"]) if re.fullmatch("[0-9]{1,9}", said["mtu"]) else None,
                kind=_kind(system, name),
            )


def _kind(system: System, name: str) -> Optional[str]:
    """What made a device, as its uevent file says it: nothing for a real NIC."""
    for line in _read(system, name, "uevent").split("\n"):
        if line.startswith("DEVTYPE="):
            return line[len("DEVTYPE=") :].strip()
    return None


def _read(system: System, name: str, key: str) -> str:
    return (system.tree.read_text(f"{SYS_NET}/{name}/{key}", 4096) or "").strip()
