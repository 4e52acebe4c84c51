"""Block devices that carry the config drive's label (field/cloudstack#6).

With udev running, its database knows the label of every device, and pyudev reads that. Without (in a
container) the label is read from the ISO's volume descriptor. Every device with the label is named:
`/dev/disk/by-label` has only one of them, whichever udev saw last.

Which of them may be read, `why_not` says: a hypervisor's disks and CD drives, by a list of their kinds. A
user with a console session can set up a loop device (udisks' default policy), and no hypervisor does.
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
SYS_NUMBER = "/sys/dev/block"  # one link a device number, to the device
VIRTUAL = (
    "/sys/devices/virtual/"  # loop, dm, md, zram, nbd, ublk, drbd, ...: made by software in this machine
)

VOLUME_DESCRIPTOR = 16 * 2048  # ECMA-119, 6.2.1 and 8.4: sector 16, the identifier at offset 40
MAX_DEVICES = 128
# What hypervisors' CD drives and disks are called, and their partitions. An empty floppy drive takes seconds.
KINDS = re.compile(r"(sr|scd)\d+|(sd|vd|xvd|hd)[a-z]+\d*|(nvme\d+n\d+|mmcblk\d+)(p\d+)?", re.ASCII)

Volumes = Tuple[Tuple[str, str], ...]


def udev_runs(system: System) -> bool:
    """Whether udevd runs; only then do labels and events mean anything."""
    return system.live and system.tree.exists(UDEV_CONTROL)


def why_not(system: System, number: int, named: Sequence[str] = ()) -> str:
    """Why a block device is not read as a config drive; "" where it may be.

    Args:
        system: the running system.
        number: of the device (`st_rdev`), of what is open where it is open.
        named: the setting `drive_devices`: paths of devices that may be read whatever their kind is.
    """
    for path in named:
        status = system.tree.stat(path)
        if status is not None and stat.S_ISBLK(status.st_mode) and status.st_rdev == number:
            return ""
    shown = f"{os.major(number)}:{os.minor(number)}"
    link = system.tree.readlink(f"{SYS_NUMBER}/{shown}")
    if link is None:
        return f"the kernel does not tell what device {shown} is; the setting drive_devices can name it"
    place = os.path.normpath(os.path.join(SYS_NUMBER, link))
    return _of_another_kind(os.path.basename(place), virtual=place.startswith(VIRTUAL))


def _of_another_kind(name: str, *, virtual: bool) -> str:
    if virtual:
        return f"{name} is made by software in this machine; the setting drive_devices can name it"
    if not KINDS.fullmatch(name):
        return f"{name} is no CD drive or disk of a kind that hypervisors have; drive_devices can name it"
    return ""


def why_not_node(system: System, node: str, named: Sequence[str] = ()) -> str:
    """`why_not` of the device behind a path; of a support archive's, by its name alone."""
    if not system.live:
        return "" if node in named else _of_another_kind(node[len("/dev/") :], virtual=False)
    status = system.tree.stat(node)
    if status is None or not stat.S_ISBLK(status.st_mode):
        return ""  # gone meanwhile, or none: opening it says so
    return why_not(system, status.st_rdev, named)


def drives(
    system: System, labels: Sequence[str], volumes: Optional[Volumes] = None, named: Sequence[str] = ()
) -> Tuple[Drive, ...]:
    """Every block device whose label is one of `labels` (case folded), CD drives first.

    Those that are not to be read (`why_not_node`) come last: who makes one moves no other.

    Args:
        system: only the running system has devices; of a tree only a support archive knows what it had.
        labels: the labels that count.
        volumes: (device, label) as `read_volumes` read them while it was root; None: read them now.
        named: see `why_not`.
    """
    wanted = {label.casefold() for label in labels}
    if not wanted or not (system.live or _recorded(system)):
        return ()
    if system.live and not udev_runs(system):
        found = read_volumes(system, named) if volumes is None else volumes
        return tuple(
            Drive(device, label, "label read from the device")
            for device, label in sorted(found, key=lambda volume: (not _is_cd(volume[0]), volume[0]))
            if label.casefold() in wanted
        )
    ranked = rank(_listed(system), wanted)
    return tuple(sorted(ranked, key=lambda drive: bool(why_not_node(system, drive.device, named))))


def _listed(system: System) -> List[Tuple[Optional[str], Mapping[str, str]]]:
    """Each block device and what udev says of it."""
    if not system.live:
        return udev_database(system)
    try:
        import pyudev

        return [
            (device.device_node, {key: device.properties.get(key, "") for key in _PROPERTIES})
            for device in pyudev.Context().list_devices(subsystem="block")
        ]
    except (ImportError, OSError, LookupError, ValueError):  # no pyudev or libudev, a device just gone
        return udev_database(system)


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


def read_volumes(system: System, named: Sequence[str] = ()) -> Volumes:
    """(device, ISO volume identifier) of every block device that has one; needs root for most.

    Only of those that may be a config drive: the others are not even opened.
    """
    nodes = ["/dev/" + name.replace("!", "/") for name in system.tree.names(SYS_BLOCK)]  # cciss!c0d0
    read = ((node, volume_label(system, node, named)) for node in nodes)
    return tuple((node, label) for node, label in read if label)


def volume_label(system: System, node: str, named: Sequence[str] = ()) -> Optional[str]:
    """The volume identifier of an ISO 9660 device; None where there is none, or it may be no config drive.

    An empty CD drive (ENOMEDIUM) is normal: CloudStack's config drive is the second one.
    """
    status = system.tree.stat(node)
    if status is None or not stat.S_ISBLK(status.st_mode) or why_not(system, status.st_rdev, named):
        return None
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


def by_kind(names: Sequence[str]) -> List[str]:
    """Kernel names of devices, those of a config drive's kinds first: a thousand loop devices hide no CD."""
    return sorted(names, key=lambda name: (not KINDS.fullmatch(name), name))


def _is_cd(node: str) -> bool:
    return re.fullmatch(r"/dev/(sr|scd)\d+", node) is not None


def udev_database(system: System) -> List[Tuple[Optional[str], Mapping[str, str]]]:
    """udev's own files, `b11:1` for block device 11:1, with lines `E:KEY=value`; anybody may read them."""
    listed: List[Tuple[Optional[str], Mapping[str, str]]] = []
    for name in by_kind(system.tree.names(SYS_BLOCK))[:MAX_DEVICES]:
        number = (system.tree.read_text(f"{SYS_BLOCK}/{name}/dev", 32) or "").strip()
        text = system.tree.read_text(f"{UDEV_DATA}/b{number}") if number else None
        entries = [line[2:].partition("=") for line in (text or "").split("\n") if line.startswith("E:")]
        listed.append(("/dev/" + name.replace("!", "/"), {key: value for key, _, value in entries}))
    return listed
