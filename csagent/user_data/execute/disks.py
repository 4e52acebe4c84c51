"""Disks: partitions with sfdisk, file systems with mkfs; what has data stays unless it may be overwritten."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

SECONDS = 60.0
SECTORS_FREE = 2048 * 2  # sectors at both ends that tables and alignment take
FORCE = {"btrfs": "-f", "xfs": "-f", "reiserfs": "-f", "swap": "-f"}


class Partition(NamedTuple):
    """A share of the disk in percent, and the type as sfdisk writes it."""

    percent: float
    type: str


class Seen(NamedTuple):
    """What lsblk and blkid say of a device or one of its partitions."""

    path: str
    type: str  # disk | part | loop | ...
    filesystem: str
    label: str


class PartitionDisk(NamedTuple):
    """Partition a disk that is empty, or whatever is on it with `overwrite`; or remove what is there."""

    device: str
    table: str  # dos | gpt
    layout: Tuple[Partition, ...]
    remove: bool
    overwrite: bool

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        if not machine.system.live:
            machine.shown_commands.append(f"sfdisk {self.device}")
            return
        device = settled(machine, self.device)
        if self.remove:
            for seen in look(machine, device)[1:]:
                machine.command(["wipefs", "--all", seen.path])
            machine.command(["wipefs", "--all", device])
            _reread(machine, device)
            return
        if self._is_so(machine, device):
            return
        seen_there = look(machine, device)
        if not self.overwrite and (len(seen_there) > 1 or seen_there[0].filesystem):
            machine.warn(f"{device} has data and was left as it is: overwrite: true would partition it")
            return
        self._partition(machine, device)

    def _is_so(self, machine: "Machine", device: str) -> bool:
        """Whether the table has as many partitions of these types."""
        done = machine.system.runner.run(["sfdisk", "--dump", device], timeout=SECONDS)
        if done.code != 0:
            return False
        lines = done.output.decode("utf-8", "replace").splitlines()
        table = next((line.partition(":")[2].strip() for line in lines if line.startswith("label:")), "")
        return table == self.table and sum(" : " in line for line in lines) == len(self.layout)

    def _partition(self, machine: "Machine", device: str) -> None:
        size = machine.system.runner.run(["blockdev", "--getsz", device], timeout=SECONDS)
        sectors = int(size.output) if size.code == 0 and size.output.strip().isdigit() else 0
        if sectors <= SECTORS_FREE:
            machine.fail(f"{device} is too small, or its size is not known")
        lines = [f"label: {self.table}"]
        for number, part in enumerate(self.layout, 1):
            # The last one takes what is left.
            length = "" if number == len(self.layout) else f"size={int(sectors * part.percent / 100)}, "
            lines.append(f"{length}type={part.type}")
        text = "".join(line + "\n" for line in lines)
        words = ["sfdisk", "--force", "--wipe", "always", "--wipe-partitions", "always", device]
        done = machine.system.runner.run(words, stdin=text.encode(), timeout=SECONDS)
        machine.log.write((done.output + done.error).decode("utf-8", "replace"))
        if done.code != 0:
            machine.fail(f"sfdisk could not partition {device}", done.code)
        _reread(machine, device)


class MakeFilesystem(NamedTuple):
    """Make a file system where there is not the one that is asked for."""

    device: str
    partition: str  # auto | any | none | a number
    kind: str
    label: str
    overwrite: bool
    replaced: str
    options: Tuple[str, ...]
    command: str

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        if not machine.system.live:
            machine.shown_commands.append(self.command or f"mkfs.{self.kind} {self.device}")
            return
        device = settled(machine, self.device)
        target = self._target(machine, device)
        if target is None:
            return
        if self.command:
            machine.command(["/bin/sh", "-c", self.command])
            return
        words = self._words(machine, target, whole_disk=target == device)
        machine.command(words)
        machine.settle()

    def _target(self, machine: "Machine", device: str) -> Optional[str]:
        """The device that is formatted; None where what is asked for is there, or nothing is free."""
        if self.partition == "none":
            return device
        if self.partition.isdigit():
            path = partition_path(device, int(self.partition))
            if not machine.system.tree.exists(path):
                machine.fail(f"{device} has no partition {self.partition}")
            found = look(machine, path)[0]
            same = found.filesystem == self.kind and found.label == self.label
            return None if same and not self.overwrite else path
        raw_used = False
        for seen in look(machine, device):
            if self.partition == "any" and self.replaced and seen.filesystem == self.replaced:
                return seen.path
            if seen.filesystem == self.kind and (self.partition == "any" or seen.label == self.label):
                return None
            raw_used = raw_used or seen.type == "part" or bool(seen.filesystem)
            if seen.type == "part" and not seen.filesystem:
                return seen.path
        if raw_used:
            machine.warn(f"{device} has no place for a file system that is free: nothing was made")
            return None
        return device

    def _words(self, machine: "Machine", target: str, *, whole_disk: bool) -> List[str]:
        program = "mkswap" if self.kind == "swap" else f"mkfs.{self.kind}"
        if not machine.system.runner.available(program):
            machine.fail(f"{program} is not installed: no file system was made")
        words = [program, *(["-L", self.label] if self.label else [])]
        if self.overwrite or whole_disk:
            words += (
                ["-F"] if self.kind.startswith("ext") else [FORCE[self.kind]] if self.kind in FORCE else []
            )
        return [*words, *self.options, target]


def settled(machine: "Machine", device: str) -> str:
    """The device itself, once udev is done with it. Raises: StepFailed where there is none."""
    machine.settle()
    if not machine.system.tree.exists(device):
        machine.fail(f"there is no device {device}")
    return os.path.realpath(device)


def partition_path(device: str, number: int) -> str:
    """/dev/vdb and 1 are /dev/vdb1; /dev/nvme0n1 and 1 are /dev/nvme0n1p1."""
    return f"{device}{'p' if device[-1:].isdigit() else ''}{number}"


def look(machine: "Machine", device: str) -> List[Seen]:
    """The device and its partitions. Raises: StepFailed."""
    words = ["lsblk", "--pairs", "--paths", "--noheadings", "--output", "NAME,TYPE", device]
    done = machine.system.runner.run(words, timeout=SECONDS)
    if done.code != 0:
        machine.fail(f"lsblk does not know {device}", done.code)
    found = []
    for line in done.output.decode("utf-8", "replace").splitlines():
        values = _pairs(line)
        if values.get("NAME"):
            probed = _probe(machine, values["NAME"])
            found.append(
                Seen(values["NAME"], values.get("TYPE", ""), probed.get("TYPE", ""), probed.get("LABEL", ""))
            )
    if not found:
        machine.fail(f"lsblk does not know {device}")
    return found


def _probe(machine: "Machine", path: str) -> Dict[str, str]:
    """What is on a device, read from it and not from udev's memory."""
    words = ["blkid", "--probe", "--output", "export", path]
    done = machine.system.runner.run(words, timeout=SECONDS)
    lines = done.output.decode("utf-8", "replace").splitlines() if done.code == 0 else []
    return dict(line.partition("=")[::2] for line in lines)


def _pairs(line: str) -> Dict[str, str]:
    import shlex

    return dict(word.partition("=")[::2] for word in shlex.split(line))


def _reread(machine: "Machine", device: str) -> None:
    """Tell the kernel; sfdisk has done so where nothing held the disk."""
    machine.system.runner.run(["blockdev", "--rereadpt", device], timeout=SECONDS)
    machine.settle()
