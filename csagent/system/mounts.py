"""Which mount a directory lies on: nobody waits for others' servers, and sealing spares others' mounts.

Image builders bind-mount their own package cache, /dev and resolv.conf into the tree that they build. What
lies there is theirs, and removing it would reach outside of the tree.
"""

from __future__ import annotations

import errno
import os
from functools import cached_property
from typing import TYPE_CHECKING, Dict, NamedTuple, Optional, Tuple

from csagent.system.tree import Tree

if TYPE_CHECKING:
    from csagent.system.seams import System

MOUNTINFO = "/proc/self/mountinfo"
# What does not outlive the power going off, or is no disk at all.
VOLATILE = frozenset(
    ("tmpfs", "ramfs", "devtmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup", "cgroup2", "securityfs")
)
# A server answers here, or a program, or nobody does. (fuseblk is a disk all the same.)
REMOTE = frozenset(("nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "glusterfs", "fuse"))


class Mount(NamedTuple):
    """One line of /proc/self/mountinfo (proc(5))."""

    device: str
    point: str
    kind: str


class Elsewhere(OSError):
    """A place that is no part of the template, and that was not touched: its text says why."""


class Mounts:
    """The mounts of this process. Without /proc nothing is known, and nothing is spared."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._mounts = _read()
        uppermost = {mount.point: mount for mount in self._mounts.values()}
        self._remote = {point: mount for point, mount in uppermost.items() if _remote(mount.kind)}
        self._bound = {
            mount.device for mount in self._mounts.values() if root != "/" and not _inside(mount.point, root)
        }

    @cached_property
    def _own(self) -> Optional[int]:
        try:
            descriptor = os.open(self._root, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return self.of(descriptor)
        finally:
            os.close(descriptor)

    def of(self, descriptor: int) -> Optional[int]:
        """The id of the mount that an open file lies on; the device number where the kernel does not say."""
        try:
            with open(f"/proc/self/fdinfo/{descriptor}", encoding="utf-8", errors="replace") as stream:
                for line in stream:
                    if line.startswith("mnt_id:"):
                        return int(line.split()[1])
        except (OSError, ValueError, IndexError):
            pass
        return -os.fstat(descriptor).st_dev - 1

    def keep_off(self, directory: int, name: str) -> None:
        """Asked before anything is asked of what lies in an open directory: a dead server holds up who does.

        Raises:
            Elsewhere: a file system of others is mounted there.
        """
        if self._remote:
            point = os.path.join(os.readlink(f"/proc/self/fd/{directory}"), name)
            mount = self._remote.get(point)
            if mount is not None:
                raise Elsewhere(errno.EXDEV, _not_here(mount), point)

    def begins_at(self, descriptor: int) -> bool:
        """Whether a file system is mounted just there, and not above."""
        mount = self._mounts.get(self.of(descriptor) or 0)
        return mount is not None and mount.point == os.readlink(f"/proc/self/fd/{descriptor}")

    def spared(self, descriptor: int) -> Optional[str]:
        """Why what lies there is no part of the template; None where it is one.

        A home directory on NFS belongs to others as well, /tmp in memory to nobody in a moment.

        A separate partition that is mounted below the tree is a part of it. A directory of the machine that
        builds, bound into the tree, is not: its device is mounted outside of the tree as well. What the root
        itself lies on is the template, also in memory, where many build.
        """
        number = self.of(descriptor)
        mount = self._mounts.get(number or 0)
        if mount is None or number == self._own:
            return None
        if mount.kind in VOLATILE:
            return f"{mount.kind}, gone when the power is"
        if _remote(mount.kind) or mount.kind == "autofs":
            return _not_here(mount)
        if self._root != "/" and _inside(mount.point, self._root) and mount.point != self._root:
            return "bound here from outside of the tree" if mount.device in self._bound else None
        return None


def without_servers(system: "System", mounts: Optional[Mounts] = None) -> "System":
    """The same, but that what lies on somebody else's server is not touched: `Elsewhere` says why.

    Args:
        system: the machine, or a tree.
        mounts: of its root, where they are known already.
    """
    root = system.tree.root
    return system._replace(tree=Tree(root, before=(mounts or Mounts(root)).keep_off))


def _remote(kind: str) -> bool:
    return kind.partition(".")[0] in REMOTE


def _not_here(mount: Mount) -> str:
    return f"{mount.kind}, no disk of this machine"


def _inside(point: str, root: str) -> bool:
    return point == root or point.startswith(root.rstrip("/") + "/")


def _read() -> Dict[int, Mount]:
    found: Dict[int, Mount] = {}
    try:
        with open(MOUNTINFO, encoding="utf-8", errors="surrogateescape") as stream:
            for line in stream:
                parsed = _parse(line)
                if parsed is not None:
                    found[parsed[0]] = parsed[1]
    except OSError:
        pass
    return found


def _parse(line: str) -> Optional[Tuple[int, Mount]]:
    before, dash, after = line.partition(" - ")
    words, kind = before.split(" "), after.split(" ")[0]
    if not dash or len(words) < 5 or not words[0].isdigit():
        return None
    point = (
        words[4].replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
    )
    return int(words[0]), Mount(words[2], point, kind)
