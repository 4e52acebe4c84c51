"""All that the daemon listens to, and the slow look where nobody tells.

Every source can be missing (a container without udev, a kernel without inotify), lose events, or break: it
is opened anew, what it may have had to say counts as news, and a look every few seconds takes its place.
"""

from __future__ import annotations

import os
import time

from csagent.system.events import Drives, Files, Network, WallClock

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import Any, Dict, List, Sequence, Tuple

    from csagent.log import Log

UDEV_CONTROL = "/run/udev/control"
SLOW_LOOK = 60.0  # seconds between looks at the CD drives: a forced eject sends no event
CLOSER_LOOK = 5.0  # where there is no udev, no inotify or no netlink to tell
SMALL = 128 * 1024  # sectors: 64 MiB, the largest drive that is read
CDROM_DRIVE_STATUS = 0x5326  # linux/cdrom.h
SYS_BLOCK = "/sys/class/block"
PATIENCE = 3  # failures of one source
MAX_DRIVES = 64
MAX_FILES = 300
VOLUME_DESCRIPTOR = 16 * 2048  # ECMA-119, 6.2.1


class Watch:
    """All sources of one machine, as far as it has them."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.sources: List[Any] = []
        self.next_look = float("inf")
        self._wanted: Tuple[Tuple[str, ...], Tuple[str, ...], bool] = ((), (), False)
        self._seen: Tuple[Any, ...] = ()
        self._pause = SLOW_LOOK
        self._broken: Dict[str, int] = {}  # by name: how often a source has failed
        self._blind = False  # whether lease files have to be looked at, too

    def of(self, report: Dict[str, Any]) -> None:
        """Watch what a pass says is worth it, from now on."""
        wanted = (tuple(report["patterns"]), tuple(report["labels"]), bool(report["watching"]))
        if wanted != self._wanted:
            self.close()
            self._wanted = wanted
            self._open()

    def _open(self) -> None:
        patterns, labels, watching = self._wanted
        self.next_look = float("inf")
        self._blind = False
        if not watching:
            return
        self._add("clock", WallClock)
        if patterns:
            told = [self._add("network", Network), self._add("lease", lambda: Files(patterns))]
            self._blind = not all(told)
        udev = bool(labels) and os.path.exists(UDEV_CONTROL) and self._add("drive", lambda: Drives(labels))
        if labels or self._blind:
            self._pause = SLOW_LOOK if (udev or not labels) and not self._blind else CLOSER_LOOK
            self._seen = self._look()
            self.next_look = time.monotonic() + self._pause

    def _add(self, name: str, make: Any) -> bool:
        if self._broken.get(name, 0) >= PATIENCE:
            return False
        try:
            self.sources.append(make())
        except (OSError, ImportError, ValueError) as error:
            self.log.debug(f"not watched: {error}")
            return False
        return True

    def _look(self) -> Tuple[Any, ...]:
        """What the sources would have told of, as far as it can be seen."""
        patterns, labels, _ = self._wanted
        drives = media(closely=self._pause == CLOSER_LOOK) if labels else ()
        return drives, (lease_files(patterns) if self._blind else ())

    def news(self, ready: Sequence[Any]) -> List[str]:
        """What has happened, by the names of the sources; a source that lost events counts as news."""
        told = []
        for source in [one for one in self.sources if one in ready]:
            try:
                if source.news():
                    told.append(str(source.name))
            except Exception as error:  # pyudev decodes what it is told, too
                self._lost(str(source.name), error)
                told.append(str(source.name))
                break
        if time.monotonic() >= self.next_look:
            self.next_look = time.monotonic() + self._pause
            before, self._seen = self._seen, self._look()
            told += [
                name
                for name, was, now in zip(("drive", "lease"), before, self._seen)
                if was != now and name not in told
            ]
        return told

    def _lost(self, name: str, error: Exception) -> None:
        """Events were lost: open everything anew, and without a source that does nothing but fail."""
        self._broken[name] = self._broken.get(name, 0) + 1
        why = getattr(error, "strerror", None) or type(error).__name__
        if self._broken[name] < PATIENCE:
            self.log.warning(f"{name} events were lost ({why}); looking anew")
        else:
            self.log.warning(
                f"{name} events are lost again and again ({why}); looking every {CLOSER_LOOK:g} s"
            )
        self.close()
        self._open()

    def close(self) -> None:
        """Stop watching."""
        for source in self.sources:
            source.close()
        self.sources = []


def lease_files(patterns: Sequence[str]) -> Tuple[Any, ...]:
    """When each was written, and the routes."""
    import glob

    found: List[Any] = []
    for path in sorted({path for pattern in patterns for path in glob.glob(pattern)})[:MAX_FILES]:
        try:
            status = os.stat(path)
        except OSError:
            continue
        found.append((path, status.st_mtime_ns, status.st_size, status.st_ino))
    return (*found, _text("/proc/net/route"))


def _text(path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read(65536)
    except OSError:
        return b""


def media(*, closely: bool = False) -> Tuple[Any, ...]:
    """Size of each block device and status of each CD drive; asking makes the kernel look at it.

    `closely` reads the volume descriptor, too, where a device is small enough for a config drive: without
    udev nobody else does, and an ISO that is rebuilt often keeps its size.
    """
    found: List[Any] = []
    try:
        names = sorted(os.listdir(SYS_BLOCK))[:MAX_DRIVES]
    except OSError:
        return ()
    for name in names:
        if name.startswith(("ram", "zram", "fd", "nbd")):
            continue
        size = _text(f"{SYS_BLOCK}/{name}/size").strip()
        small = size.isdigit() and 0 < int(size) <= SMALL
        asked = name.startswith("sr") or (closely and small)
        found.append((name, size, _state("/dev/" + name, closely=closely and small) if asked else 0))
    return tuple(found)


def _state(node: str, *, closely: bool) -> Any:
    """The status of a CD drive, or the volume descriptor that is on it."""
    import fcntl

    try:
        descriptor = os.open(node, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return -(error.errno or 1)
    try:
        if closely:
            return os.pread(descriptor, 2048, VOLUME_DESCRIPTOR)
        return fcntl.ioctl(descriptor, CDROM_DRIVE_STATUS, 0)
    except OSError as error:
        return -(error.errno or 1)
    finally:
        os.close(descriptor)
