"""/etc/fstab, swap files, and mounting what stands there."""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING, List, NamedTuple, Sequence, Tuple

from csagent.errors import Distrusted, StepFailed
from csagent.system.files import lines_of
from csagent.system.systemd import BOOTED
from csagent.user_data.execute.configure import SECONDS
from csagent.user_data.execute.disks import partition_path

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

FSTAB = "/etc/fstab"
MARK = "comment=cloudconfig"  # cloud-init's: its lines, and ours, are known by it
MIB, GIB = 1 << 20, 1 << 30


class Mount(NamedTuple):
    """One line of /etc/fstab."""

    device: str
    point: str
    kind: str
    options: str
    dump: str
    check: str


class MountAll(NamedTuple):
    """Write the lines and mount what is not mounted yet."""

    mounts: Tuple[Mount, ...]

    def carry_out(self, machine: "Machine") -> None:
        """What has no place to be mounted at is left out, and does not hold up the others.

        Raises:
            StepFailed: one of them could not be mounted, or has no such place.
        """
        problems: List[str] = []
        mounts = []
        for mount in self.mounts:
            try:
                if mount.point.startswith("/"):
                    machine.make_directory(mount.point)
            except StepFailed as error:
                problems.append(str(error))
            else:
                mounts.append(mount)
        lines = [_line(mount._replace(device=_resolved(machine, mount.device))) for mount in mounts]
        points = [mount.point for mount in self.mounts]
        machine.change(FSTAB, lambda text: _with_lines(text, lines, points), 0o644)
        try:
            self._mount(machine, mounts)
        except StepFailed as error:
            if not problems:
                raise
            problems.append(str(error))
        if problems:
            machine.fail("; ".join(problems))

    def _mount(self, machine: "Machine", mounts: Sequence[Mount]) -> None:
        if not machine.system.live:
            machine.shown_commands.append("mount -a")
            return
        if machine.system.tree.exists(BOOTED):
            machine.system.runner.run(["systemctl", "daemon-reload"], timeout=SECONDS)
        if any(mount.kind == "swap" for mount in mounts):
            machine.command(["swapon", "--all"])
        machine.command(["mount", "--all"])


def _line(mount: Mount) -> str:
    return "\t".join([*mount[:3], f"{mount.options},{MARK}", *mount[4:]])


def _resolved(machine: "Machine", device: str) -> str:
    """The first partition of a disk that has one, as cloud-init takes it."""
    if not device.startswith("/dev/"):
        return device
    name = os.path.basename(os.path.realpath(device))
    first = partition_path(os.path.realpath(device), 1)
    is_disk = machine.system.tree.exists(f"/sys/block/{name}")
    return first if is_disk and machine.system.tree.exists(first) else device


def _with_lines(text: str, lines: List[str], points: List[str]) -> str:
    """/etc/fstab with the lines, instead of earlier ones of ours for the same places."""
    kept = []
    for line in lines_of(text):
        words = line.split()
        ours = len(words) > 3 and MARK in words[3] and words[1] in points
        if not ours:
            kept.append(line)
    return "".join(line + "\n" for line in [*kept, *lines])


class MakeSwap(NamedTuple):
    """Make a swap file and use it. A size of 0 is what fits; a limit of 0 is none."""

    path: str
    size: int
    limit: int

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        if not machine.system.live:
            machine.shown_commands.append(f"mkswap {self.path}")
        elif not machine.system.tree.exists(self.path):
            self._create(machine)
        machine.change(FSTAB, self._with_line, 0o644)
        in_use = machine.system.tree.read_text("/proc/swaps") or ""
        if machine.system.live and not any(known.split()[:1] == [self.path] for known in in_use.splitlines()):
            machine.command(["swapon", self.path])

    def _with_line(self, text: str) -> str:
        """/etc/fstab with a line for the file, where it has none."""
        if any(known.split()[:1] == [self.path] for known in lines_of(text)):
            return text
        line = "\t".join([self.path, "none", "swap", f"sw,{MARK}", "0", "0"])
        return "".join(known + "\n" for known in [*lines_of(text), line])

    def _create(self, machine: "Machine") -> None:
        folder = os.path.dirname(self.path)
        machine.make_directory(folder)
        self._only_roots(machine, folder)
        size = self.size or suggested(_memory(machine), folder, max(self.limit, 0))
        mebibytes = size // MIB
        if mebibytes <= 0:
            machine.fail(f"there is no room for a swap file in {folder}")
        kind = machine.system.runner.run(["stat", "--file-system", "--format=%T", folder], timeout=SECONDS)
        if kind.output.strip() == b"btrfs":
            machine.command(["truncate", "--size=0", self.path])
            machine.command(["chattr", "+C", self.path])
        allocate = ["fallocate", "--length", f"{mebibytes}MiB", self.path]
        if not machine.tries(lambda: machine.command(allocate)):
            machine.command(["dd", "if=/dev/zero", f"of={self.path}", "bs=1M", f"count={mebibytes}"])
        os.chmod(self.path, 0o600)
        machine.command(["mkswap", self.path])

    @staticmethod
    def _only_roots(machine: "Machine", folder: str) -> None:
        """Whoever could put something else in the file's place could have mkswap write to a disk.

        Raises:
            StepFailed: somebody else than root can.
        """
        from csagent.system import trusted_path

        try:
            os.close(trusted_path.open_file(machine.system, folder, trusted_path.ROOT))
        except Distrusted as error:
            machine.fail(f"no swap file is made there: {error}")
        except OSError as error:
            machine.fail(f"no swap file is made in {folder}: {error.strerror}")


def suggested(memory: int, folder: str, limit: int) -> int:
    """As much as the memory up to 4 GiB, and less of what is above; a quarter of the disk at most."""
    free = os.statvfs(folder)
    room = free.f_frsize * free.f_bfree
    most = min(room // 4, memory * 2) if not limit else min(limit, int(room * 0.9))
    if memory < 4 * GIB:
        wanted = memory
    elif memory < 16 * GIB:
        wanted = 4 * GIB
    else:
        wanted = round(math.sqrt(memory / GIB)) * GIB
    return min(wanted, most)


def _memory(machine: "Machine") -> int:
    text = machine.system.tree.read_text("/proc/meminfo") or ""
    match = re.search(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else GIB
