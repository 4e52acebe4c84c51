"""The files of each configuration system for one NIC: pure functions, and where those files lie.

Nothing but what `ipaddress` prints, MAC addresses, numbers and checked interface names gets into a file.
"""

from __future__ import annotations

from typing import Iterable, Tuple

from csagent.apply.network.machine import IFUPDOWN, NETWORKD, Machine
from csagent.apply.network.plan import File, Wanted
from csagent.apply.network.renderers import ifupdown, networkd, networkmanager


def render(manager: str, wanted: Wanted, machine: Machine, *, raised: bool) -> Tuple[File, ...]:
    """All files that have to be so for a NIC; those of ours for another system, which had it before, go."""
    if manager == IFUPDOWN:
        files = ifupdown.render(
            wanted, current=machine.interfaces, hotplug=not raised, resolver=machine.resolver
        )
    else:
        files = (networkd if manager == NETWORKD else networkmanager).render(wanted)
    kept = {file.path for file in files}
    others = [path for path in machine.written.get(wanted.mac, ()) if path not in kept]
    return (*files, *without(wanted.mac, others, machine))


def without(mac: str, paths: Iterable[str], machine: Machine) -> Tuple[File, ...]:
    """Those files without what they have for a NIC: gone, but for the one that NICs share."""
    files = [file for path in paths for file in _without(mac, path, machine)]
    return tuple(files)


def _without(mac: str, path: str, machine: Machine) -> Tuple[File, ...]:
    if path == ifupdown.PATH:
        return ifupdown.without(mac, machine.interfaces)
    return (File(path, None),)


def fingerprint(mac: str, path: str, text: str) -> str:
    """What is compared to tell whether somebody has changed what was written for a NIC."""
    import hashlib

    if path == ifupdown.PATH:
        text = ifupdown.blocks_of(text).get(mac, "")
    elif path == networkmanager.path(mac):
        text = networkmanager.meaning(text)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
