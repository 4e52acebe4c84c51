"""ifupdown's configuration of our NICs: one file of mappings (interfaces(5)), a block for each NIC.

A second stanza for a name would not replace the installer's "inet dhcp": both would run, and ifup wait for
DHCP. A mapping leads the NIC's name to our stanzas instead, and the installer's stays as it is. Its script
comes and goes with the file: where it is missing, ifup fails. Routes are not given by "gateway", which adds
them exclusively: while two NICs change their places, both have one metric.
"""

from __future__ import annotations

import re
from typing import Dict, List, Mapping, Tuple

from csagent.apply.network.machine import RESOLVCONF, RESOLVED
from csagent.apply.network.plan import File, Wanted

PATH = "/etc/network/interfaces.d/csagent"  # no dot: source-directory takes such names only
SCRIPT = "/etc/network/csagent-logical"
SCRIPT_TEXT = """\
#!/bin/sh
# ifupdown gives what stands behind "map", and takes the answer for the name of a stanza.
exec cat
"""
MODE, SCRIPT_MODE = 0o644, 0o755
PREFIX = "csagent-"
HEAD = (
    "# Written by csagent: CloudStack's network_data.json.\n"
    f"# Remove this file and {SCRIPT}, then: ifdown NIC; ifup NIC\n"
)

_BEGIN = re.compile(r"# csagent (([0-9a-f]{2}:){5}[0-9a-f]{2})\Z", re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}\Z", re.ASCII)


def fit_name(interface: str) -> bool:
    """Whether a NIC's name can stand in the file: the kernel allows nearly everything in one."""
    return _NAME.match(interface) is not None


def logical(interface: str) -> str:
    """The name of our stanzas for a NIC."""
    return PREFIX + interface


def render(
    wanted: Wanted, *, current: str = "", hotplug: bool = False, resolver: str = ""
) -> Tuple[File, ...]:
    """The file with the block of this NIC anew, and the script.

    Args:
        wanted: what the NIC shall have.
        current: the file as it is; the blocks of other NICs stay.
        hotplug: nobody else brings the NIC up at boot: a line for that.
        resolver: who has /etc/resolv.conf: resolvconf's hook and resolvectl take name servers from here.
    """
    block = _block(wanted, hotplug, resolver)
    return renewed((File(PATH, block),), wanted.mac, current)


def renewed(planned: Tuple[File, ...], mac: str, current: str) -> Tuple[File, ...]:
    """A NIC's part of planned files, with what the file has now for other NICs: they share it.

    Args:
        planned: the files of a plan, which were made when the file was another one.
        mac: the NIC.
        current: the file as it is.
    """
    mine = [file for file in planned if file.path == PATH]
    if not mine:
        return planned
    others = tuple(file for file in planned if file.path not in (PATH, SCRIPT))
    block = blocks_of(mine[0].content or "").get(mac)
    if block is None:
        return (*without(mac, current), *others)
    blocks = {one: text for one, text in blocks_of(current).items() if _name(text) != _name(block)}
    return (*whole({**blocks, mac: block}), *others)


def _name(block: str) -> str:
    """The line of a block that names its NIC: a name is one NIC's, and moves between MAC addresses."""
    return next((line for line in block.split("\n") if line.startswith("mapping ")), "")


def without(mac: str, current: str) -> Tuple[File, ...]:
    """The file without the block of a NIC; with the last one file and script go."""
    return whole({other: text for other, text in blocks_of(current).items() if other != mac})


def whole(blocks: Mapping[str, str]) -> Tuple[File, ...]:
    """File and script, in the order in which they are to be written: never a mapping without its script."""
    if not blocks:
        return File(PATH, None, MODE), File(SCRIPT, None, SCRIPT_MODE)
    text = HEAD + "".join(f"\n{block}" for block in blocks.values())
    return File(SCRIPT, SCRIPT_TEXT, SCRIPT_MODE), File(PATH, text, MODE)


def blocks_of(current: str) -> Dict[str, str]:
    """The blocks of a file of ours by MAC address, each with the comment that begins it."""
    found: Dict[str, List[str]] = {}
    mac = ""
    for line in current.split("\n"):
        begin = _BEGIN.match(line)
        if begin:
            mac = begin.group(1)
            found[mac] = []
        if mac:
            found[mac].append(line)
    return {one: "\n".join(lines).strip("\n") + "\n" for one, lines in found.items()}


def _block(wanted: Wanted, hotplug: bool, resolver: str) -> str:
    name = wanted.interface
    lines = [f"# csagent {wanted.mac}"]
    lines += [f"allow-hotplug {name}"] if hotplug else []
    lines += [f"mapping {name}", f"    script {SCRIPT}", f"    map {logical(name)}"]
    first = True
    for version, family in ((4, "inet"), (6, "inet6")):
        route = wanted.route(version)
        for place, address in enumerate(wanted.of_version(version)):
            lines += [f"iface {logical(name)} {family} static", f"    address {address}"]
            if version == 6 and place == 0 and route is not None:
                lines.append("    accept_ra 0")
            if route is not None and place == 0:
                way = f"default via {route.via} dev {name} metric {route.metric} onlink"
                lines.append(f"    up ip -{version} route append {way}")
            if first:
                lines += [f"    mtu {wanted.mtu}"] if wanted.mtu is not None else []
                lines += _dns(wanted, resolver)
                first = False
    return "\n".join(lines) + "\n"


def _dns(wanted: Wanted, resolver: str) -> List[str]:
    servers = " ".join(wanted.dns)
    if not servers:
        return []
    if resolver == RESOLVCONF:
        return [f"    dns-nameservers {servers}"]
    # Where it fails, the NIC is up all the same.
    return (
        [f"    post-up resolvectl dns {wanted.interface} {servers} || true"] if resolver == RESOLVED else []
    )
