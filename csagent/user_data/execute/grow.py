"""A partition grown into the free space behind it, and the root file system into its partition."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Tuple

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

SECONDS = 60.0
NO_CHANGE = 1  # of growpart(1)
RESIZERS = {
    "ext2": "resize2fs",
    "ext3": "resize2fs",
    "ext4": "resize2fs",
    "xfs": "xfs_growfs",
    "btrfs": "btrfs",
}


class GrowPartition(NamedTuple):
    """Grow the partition that a directory is on, or a device."""

    place: str

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        if not machine.system.live:
            machine.shown_commands.append(f"growpart {self.place}")
            return
        device = self.place if self.place.startswith("/dev/") else mounted_from(machine, self.place)[0]
        name = os.path.basename(os.path.realpath(device))
        number = (machine.system.tree.read_text(f"/sys/class/block/{name}/partition") or "").strip()
        if not number.isdigit():
            machine.warn(f"{device} is no partition: nothing was grown")
            return
        disk = "/dev/" + os.path.basename(os.path.dirname(os.path.realpath(f"/sys/class/block/{name}")))
        if machine.system.runner.available("growpart"):
            done = machine.system.runner.run(["growpart", disk, number], timeout=SECONDS)
            if done.code not in (0, NO_CHANGE):
                machine.fail(f"growpart could not grow partition {number} of {disk}", done.code)
            return
        words = ["sfdisk", "--no-reread", "--partno", number, disk]
        done = machine.system.runner.run(words, stdin=b", +\n", timeout=SECONDS)
        if done.code != 0:
            machine.fail(f"sfdisk could not grow partition {number} of {disk}", done.code)
        machine.system.runner.run(["partx", "--update", "--nr", number, disk], timeout=SECONDS)
        machine.settle()


class ResizeRoot(NamedTuple):
    """Grow the root file system, by its own tool."""

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        if not machine.system.live:
            machine.shown_commands.append("resize2fs /")
            return
        device, kind = mounted_from(machine, "/")
        tool = RESIZERS.get(kind)
        if tool is None:
            machine.warn(f"a root file system of the kind {kind or 'unknown'} is not resized")
            return
        words = {
            "resize2fs": ["resize2fs", device],
            "xfs_growfs": ["xfs_growfs", "/"],
            "btrfs": ["btrfs", "filesystem", "resize", "max", "/"],
        }[tool]
        machine.command(words)


def mounted_from(machine: "Machine", place: str) -> Tuple[str, str]:
    """(device, kind) of what a directory is on. Raises: StepFailed."""
    words = ["findmnt", "--noheadings", "--output", "SOURCE,FSTYPE", "--target", place]
    done = machine.system.runner.run(words, timeout=SECONDS)
    found = done.output.decode("utf-8", "replace").split()
    if done.code != 0 or len(found) < 2:
        machine.fail(f"findmnt does not know what {place} is on", done.code)
    return found[0].split("[", 1)[0], found[1]
