"""Block devices that carry the config drive's label (field/cloudstack#6).

With udev running, its database knows the label of every device, and pyudev reads that. Without (in a
container) the label is read from the ISO's volume descriptor. Every device with the label is named:
`/dev/disk/by-label` has only one of them, whichever udev saw last.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from csagent.model import Drive
from csagent.system.seams import System

UDEV_CONTROL = "/run/udev/control"
UDEV_DATA = "/run/udev/data"
BY_LABEL = "/dev/disk/by-label"
SYS_BLOCK = "/sys/class/block"

VOLUME_DESCRIPTOR = 16 * 2048  # ECMA-119, 6.2.1 and 8.4: sector 16, the identifier at offset 40
MAX_DEVICES = 128
SKIPPED = re.compile(r"ram\d|zram\d|fd\d|nbd\d")  # no medium of ours; an empty floppy drive takes seconds

Volumes = Tuple[Tuple[str, str], ...]


def udev_runs(system: System) -> bool:
    """Whether udevd runs; only then do labels and events mean anything."""
    return system.live and system.tree.exists(UDEV_CONTROL)


def drives(system: System, labels: Sequence[str], volumes: Optional[Volumes] = None) -> Tuple[Drive, ...]:
    """Every block device whose label is one of `labels` (case folded), CD drives first.

    Args:
        system: only the running system has devices; of a tree only a support archive knows what it had.
        labels: the labels that count.
        volumes: (device, label) as `volumes` read them while it was root; None: read them now.
    """
    wanted = {label.casefold() for label in labels}
    if not wanted or not (system.live or _recorded(system)):
        return ()
    if system.live and not udev_runs(system):
        found = read_volumes(system) if volumes is None else volumes
        return tuple(
            Drive(device, label, "label read from the device")
            for device, label in sorted(found, key=lambda volume: (not _is_cd(volume[0]), volume[0]))
            if label.casefold() in wanted
        )
    listed: List[Tuple[Optional[str], Mapping[str, str]]]
    if not system.live:
        return tuple(rank(udev_database(system), wanted))
    try:
        import pyudev

        listed = [
            (device.device_node, {key: device.properties.get(key, "") for key in _PROPERTIES})
            for device in pyudev.Context().list_devices(subsystem="block")
        ]
    except (ImportError, OSError, LookupError, ValueError):  # no pyudev or libudev, a device just gone
        listed = udev_database(system)
    return tuple(rank(listed, wanted))


def _recorded(system: System) -> bool:
    """Whether this is a support archive of a machine with udev: it has what counts of udev's database."""
    return system.recorded and system.tree.exists(UDEV_CONTROL)


_PROPERTIES = ("ID_FS_LABEL", "ID_FS_LABEL_ENC", "ID_FS_TYPE", "ID_CDROM", "DEVTYPE")


def rank(listed: Sequence[Tuple[Optional[str], Mapping[str, str]]], wanted: "set[str]") -> List[Drive]:
    """The devices that carry a wanted label: CDs before disks, ISO 9660 before other file systems.

    A hybrid ISO on a disk shows its label on the disk and on its first partition; the disk is enough.
    """
    hits: Dict[str, Tuple[Tuple[bool, bool, str], Drive]] = {}
    for node, said in listed:
        label = next((text for text in _labels(said) if text.casefold() in wanted), None)
        if node is None or label is None:
            continue
        iso, cd = said.get("ID_FS_TYPE") == "iso9660", said.get("ID_CDROM") == "1" or _is_cd(node)
        kind = said.get("ID_FS_TYPE") or "no known file system"
        why = f"label in udev's database; {'CD drive' if cd else 'disk'}, {kind}"
        hits[node] = (not cd, not iso, node), Drive(node, label, why)
    kept = [hit for node, hit in hits.items() if not any(_is_part(node, disk) for disk in hits)]
    return [drive for _, drive in sorted(kept, key=lambda hit: hit[0])]


def worth_a_look(system: System, labels: Sequence[str]) -> bool:
    """A cheap hint: False only where udev runs and knows no device with one of the labels."""
    if not system.live:
        return False
    if not udev_runs(system):
        return True
    wanted = {label.casefold() for label in labels}
    return any(decoded(name).casefold() in wanted for name in system.tree.names(BY_LABEL))


def decoded(text: str) -> str:
    r"""A label as udev writes it in names and in ID_FS_LABEL_ENC: ``\x20`` for what is not plain."""
    raw = re.sub(
        rb"\\x([0-9a-fA-F]{2})",
        lambda match: bytes([int(match.group(1), 16)]),
        text.encode("utf-8", "surrogateescape"),
    )
    return raw.decode("utf-8", "replace")


def read_volumes(system: System) -> Volumes:
    """(device, ISO volume identifier) of every block device that has one; needs root for most."""
    found = []
    for name in system.tree.names(SYS_BLOCK)[:MAX_DEVICES]:
        if SKIPPED.match(name):
            continue
        node = "/dev/" + name.replace("!", "/")  # the kernel writes cciss!c0d0 for cciss/c0d0
        label = volume_label(system, node)
        if label:
            found.append((node, label))
    return tuple(found)


def volume_label(system: System, node: str) -> Optional[str]:
    """The volume identifier of an ISO 9660 device; None where there is none.

    An empty CD drive (ENOMEDIUM) is normal: CloudStack's config drive is the second one.
    """
    try:
        descriptor = system.tree.open(node, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not stat.S_ISBLK(os.fstat(descriptor).st_mode):
            return None
        return iso_label(os.pread(descriptor, 2048, VOLUME_DESCRIPTOR))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def iso_label(sector: bytes) -> Optional[str]:
    """The volume identifier in a primary volume descriptor, or None."""
    if len(sector) < 72 or sector[:6] != b"\x01CD001":
        return None
    return sector[40:72].decode("ascii", "replace").rstrip(" \0") or None


def _labels(said: Mapping[str, str]) -> Tuple[str, str]:
    return said.get("ID_FS_LABEL", ""), decoded(said.get("ID_FS_LABEL_ENC", ""))


def _is_part(node: str, disk: str) -> bool:
    """Whether a device is a partition of another: vdb1 of vdb, nvme0n1p1 of nvme0n1."""
    between = "p" if disk[-1].isdigit() else ""
    return re.fullmatch(re.escape(disk) + between + r"\d+", node) is not None


def _is_cd(node: str) -> bool:
    return re.fullmatch(r"/dev/(sr|scd)\d+", node) is not None


def udev_database(system: System) -> List[Tuple[Optional[str], Mapping[str, str]]]:
    """udev's own files, `b11:1` for block device 11:1, with lines `E:KEY=value`; anybody may read them."""
    listed: List[Tuple[Optional[str], Mapping[str, str]]] = []
    for name in system.tree.names(SYS_BLOCK)[:MAX_DEVICES]:
        number = (system.tree.read_text(f"{SYS_BLOCK}/{name}/dev", 32) or "").strip()
        text = system.tree.read_text(f"{UDEV_DATA}/b{number}") if number else None
        entries = [line[2:].partition("=") for line in (text or "").split("\n") if line.startswith("E:")]
        listed.append(("/dev/" + name.replace("!", "/"), {key: value for key, _, value in entries}))
    return listed
