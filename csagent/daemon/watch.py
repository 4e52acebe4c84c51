"""All that the daemon listens to, and the slow look where nobody tells.

Every source can be missing (a container without udev, a kernel without inotify), lose events, or break: it
is opened anew, what it may have had to say counts as news, and a look every few seconds takes its place.
"""

from __future__ import annotations

import os
import time

from csagent.system.changes import ChangeDetector
from csagent.system.events import Account, CloudInit, Drives, Files, Network, WallClock, has_account

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

    from csagent.log import Log

UDEV_CONTROL = "/run/udev/control"
SLOW_LOOK = 60.0  # seconds between looks at the CD drives: a forced eject sends no event
LOOK_WITHOUT_EVENTS = 5.0  # where there is no udev, no inotify or no netlink to tell
SMALL = 128 * 1024  # sectors: 64 MiB, the largest drive that is read
CDROM_DRIVE_STATUS = 0x5326  # linux/cdrom.h
SYS_BLOCK = "/sys/class/block"
FAILURES_LIMIT = 3  # failures of one source
MAX_DRIVES = 64
MAX_FILES = 5000  # beside thousands of veth, which systemd-networkd and NetworkManager have a file each of
VOLUME_DESCRIPTOR = 16 * 2048  # ECMA-119, 6.2.1
WANTED = ("watching", "patterns", "network", "labels", "account", "cloud_init")


class Watch:
    """The sources of one machine, as far as it has them."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._changes = ChangeDetector(time.monotonic, {}, SLOW_LOOK)
        self._wanted: Dict[str, Any] = {}
        self._broken: Dict[str, int] = {}  # by name: how often a source has failed
        self._overtaken: List[str] = []  # by name: what had happened before it was listened for

    @property
    def sources(self) -> Sequence[Any]:
        """The descriptor that becomes readable at a change."""
        return self._changes.sources

    @property
    def next_look(self) -> float:
        """When `news` is to be asked though no source is readable, on the monotonic clock."""
        return self._changes.next_look

    def of(self, world: Mapping[str, Any]) -> None:
        """Watch what a pass says is worth it, from now on.

        That is what `csagent.daemon.pass_process.start` lists under `WANTED`.
        """
        wanted = {name: world[name] for name in WANTED}
        if wanted != self._wanted:
            self._wanted = wanted
            self._open()

    def _open(self) -> None:
        self._changes.close()
        sources: List[Any] = []
        looks: Dict[str, Callable[[], Tuple[Any, ...]]] = {}
        pause = SLOW_LOOK
        if self._wanted["watching"]:
            self._listen(sources, "clock", WallClock)
            pause = self._open_files(sources, looks)
        labels = self._wanted["labels"]
        if self._wanted["watching"] and labels:
            udev = os.path.exists(UDEV_CONTROL) and self._listen(sources, "drive", lambda: Drives(labels))
            pause = pause if udev else LOOK_WITHOUT_EVENTS
            closely = pause == LOOK_WITHOUT_EVENTS
            looks["drive"] = lambda: media(closely=closely)
        self._changes = ChangeDetector(time.monotonic, looks, pause, sources)

    def _open_files(self, sources: List[Any], looks: Dict[str, Callable[[], Tuple[Any, ...]]]) -> float:
        """Leases with the network, and what other programs write; seconds until the next look at them."""
        patterns, account, ends = (self._wanted[name] for name in ("patterns", "account", "cloud_init"))
        pause = SLOW_LOOK
        network = not self._wanted["network"] or self._listen(sources, "network", Network)
        if patterns and not (self._listen(sources, "lease", lambda: Files(patterns)) and network):
            pause, looks["lease"] = LOOK_WITHOUT_EVENTS, lambda: lease_files(patterns)
        if account and not self._listen(sources, "account", lambda: Account(account)):
            pause, looks["account"] = LOOK_WITHOUT_EVENTS, lambda: (has_account(account),)
        if account and has_account(account):
            self._overtaken = ["account"]  # made since the pass that missed it looked for it
        if ends and not self._listen(sources, "cloud-init", lambda: CloudInit([ends])):
            pause, looks["cloud-init"] = LOOK_WITHOUT_EVENTS, lambda: stats([ends])
        return pause

    def _listen(self, sources: List[Any], name: str, make: Callable[[], Any]) -> bool:
        if self._broken.get(name, 0) >= FAILURES_LIMIT:
            return False
        try:
            sources.append(make())
        except (OSError, ImportError, ValueError) as error:
            self._log.debug(f"not watched: {error}")
            return False
        return True

    def news(self, ready: Sequence[Any]) -> List[str]:
        """What has happened, by the names of the sources; a source that lost events counts as news.

        Args:
            ready: those of `sources` that are readable.
        """
        told, self._overtaken = self._overtaken, []
        told += [name for name in self._changes.told(ready, self._lost) if name not in told]
        return told + [name for name in self._changes.changed() if name not in told]

    def _lost(self, name: str, error: Exception) -> None:
        """Events were lost: open everything anew, and without a source that does nothing but fail."""
        self._broken[name] = self._broken.get(name, 0) + 1
        why = getattr(error, "strerror", None) or type(error).__name__
        if self._broken[name] < FAILURES_LIMIT:
            self._log.warning(f"{name} events were lost ({why}); looking anew")
        else:
            self._log.warning(
                f"{name} events are lost again and again ({why}); looking every {LOOK_WITHOUT_EVENTS:g} s"
            )
        self._open()

    def close(self) -> None:
        """Stop watching."""
        self._changes.close()


def lease_files(patterns: Sequence[str]) -> Tuple[Any, ...]:
    """The stat of each lease file, and the routing table."""
    return (*stats(patterns), _text("/proc/net/route"))


def stats(patterns: Sequence[str]) -> Tuple[Any, ...]:
    """The stat of each file that is there."""
    import glob

    found: List[Any] = []
    for path in sorted({path for pattern in patterns for path in glob.glob(pattern)})[:MAX_FILES]:
        try:
            status = os.stat(path)
        except OSError:
            continue
        found.append((path, status.st_mtime_ns, status.st_size, status.st_ino))
    return tuple(found)


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
