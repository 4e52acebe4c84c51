"""/etc/fstab, swap files, and mounting what stands there."""

from __future__ import annotations

import functools
import math
import os
import re
from typing import TYPE_CHECKING, Callable, Iterator, List, NamedTuple, Sequence, Tuple

from csagent.errors import Distrusted, StepFailed
from csagent.system.files import lines_of
from csagent.system.mounts import Mounts
from csagent.system.systemd import BOOTED
from csagent.system.trusted_path import is_only_roots
from csagent.user_data.execute.configure import SECONDS
from csagent.user_data.execute.disks import partition_path

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

FSTAB = "/etc/fstab"
MARK = "comment=cloudconfig"  # cloud-init's: its lines, and ours, are known by it
_TAG = re.compile(r"(?:PART)?(?:LABEL|UUID)=")
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
        problems: List[StepFailed] = []
        mounts = []
        for mount in self.mounts:
            try:
                if mount.point.startswith("/"):
                    machine.make_directory(mount.point)
            except StepFailed as error:
                problems.append(error)
            else:
                mounts.append(mount)
        lines = [_line(mount._replace(device=_resolved(machine, mount.device))) for mount in mounts]
        points = [mount.point for mount in self.mounts]
        machine.change(FSTAB, lambda text: _with_lines(text, lines, points), 0o644)
        for work in self._mounting(machine, mounts):
            try:
                work()
            except StepFailed as error:
                problems.append(error)
        if len(problems) == 1:
            raise problems[0]
        if problems:
            machine.fail("; ".join(map(str, problems)))

    def _mounting(self, machine: "Machine", mounts: Sequence[Mount]) -> Iterator[Callable[[], object]]:
        if not machine.system.live:
            machine.shown_commands.append("mount -a")
            return
        if machine.system.tree.exists(BOOTED):
            machine.system.runner.run(["systemctl", "daemon-reload"], timeout=SECONDS)
        if any(mount.kind == "swap" for mount in mounts):
            yield lambda: machine.command(["swapon", "--all"])
        apart = [
            mount
            for mount in mounts
            if mount.point.startswith("/") and not is_only_roots(machine.system, mount.point)
        ]
        if not apart:
            yield lambda: machine.command(["mount", "--all"])
            return
        # Between a look and mount(8) the owner of a directory on the way can put a link into its place.
        points = [mount.point for mount in apart]
        rest = _with_lines(machine.system.tree.read(FSTAB).decode("utf-8", "surrogateescape"), [], points)
        table = machine.store("mounts", "fstab", rest.encode("utf-8", "surrogateescape"))
        yield from (functools.partial(_mount_apart, machine, mount) for mount in apart)
        yield lambda: machine.command(["mount", "--all", "--fstab", table])


def _mount_apart(machine: "Machine", mount: Mount) -> None:
    """Mount it at the directory that was judged, whatever its name leads to by now. Raises: StepFailed."""
    options = mount.options.split(",")
    if "noauto" in options:
        return
    try:
        above, name = machine.system.tree.resolve_to_write(mount.point)
        try:
            place = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        finally:
            os.close(above)
    except OSError as error:
        machine.fail(f"cannot mount at {machine.shown(mount.point)}: {error.strerror}")
    try:
        if not Mounts(machine.system.tree.root).begins_at(place):
            device = _resolved(machine, mount.device)
            if _TAG.match(device):  # which mount(8) looks up by itself, but not with --no-canonicalize
                device = _found(machine, device, "nofail" in options)
            words = ["mount", "--no-canonicalize", "--types", mount.kind, "--options", mount.options]
            if device:
                machine.command([*words, device, f"/proc/{os.getpid()}/fd/{place}"])
    finally:
        os.close(place)


def _found(machine: "Machine", tag: str, may_be_missing: bool) -> str:
    """The device with this label or UUID; empty where there is none and there need not be one."""
    try:
        return machine.command(["findfs", tag], quiet=True).decode("utf-8", "surrogateescape").strip()
    except StepFailed:
        if may_be_missing:
            return ""
        raise


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
