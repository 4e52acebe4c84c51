"""Directories in which leftovers lie: found, emptied and removed without following a link below them.

The directory itself is found as the guest would find it (a link such as /var/mail is resolved inside the
tree). Below it everything is done by open descriptors: whoever may write in there can plant links, but
none is followed, and no other mount is entered. A file, too, may be one that is mounted there.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import stat
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

from csagent.system.mounts import Elsewhere, Mounts
from csagent.system.tree import Tree

DEPTH_LIMIT = 200  # directories below each other; each costs a descriptor
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
PLACE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC  # needs no right to the file itself, and wakes no device
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # not there, for the guest no more than for us
MOUNTED = "another file system is mounted there"
EVERYTHING = "**"  # as the last part of a pattern: all below, what is deepest first


class DirectoryEntry(NamedTuple):
    """Something that lies below a ground, by its path from there."""

    name: str
    status: os.stat_result

    @property
    def regular(self) -> bool:
        """Whether it is a file, and no link, socket or device."""
        return stat.S_ISREG(self.status.st_mode)

    @property
    def link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def size(self) -> int:
        """Bytes on the disk; /var/log/lastlog says gigabytes and has none of them."""
        if not self.regular:
            return 0
        return min(self.status.st_size, max(self.status.st_blocks * 512, 4096))


@dataclass
class Overlooked:
    """What was not looked at, by path, and why: on purpose, and because it could not be."""

    spared: Dict[str, str] = field(default_factory=dict)
    unseen: Dict[str, str] = field(default_factory=dict)

    def note(self, path: str, error: OSError) -> None:
        """Write down why something could not be looked at; that it is not there is no reason."""
        if isinstance(error, Elsewhere):
            self.spared[path] = error.strerror or MOUNTED
        elif error.errno not in ABSENT:
            self.unseen[path] = error.strerror or type(error).__name__


class Ground:
    """A directory of the guest's in which something may be left; `overlooked` takes what is not looked at."""

    def __init__(self, tree: Tree, mounts: Mounts, base: str, overlooked: Overlooked) -> None:
        self._tree = tree
        self._mounts = mounts
        self.base = base
        self._overlooked = overlooked
        self._mount: Optional[int] = None  # that it was looked at on

    def path(self, name: str) -> str:
        """An entry's path, as the guest sees it."""
        return f"{self.base.rstrip('/')}/{name}"

    def names(self) -> List[str]:
        """All names in it, those at which something is mounted too."""
        try:
            descriptor = self._open()
        except OSError as error:
            self._overlooked.note(self.base, error)
            return []
        try:
            return sorted(os.listdir(descriptor))
        except OSError as error:
            self._overlooked.note(self.base, error)
            return []
        finally:
            os.close(descriptor)

    def find(self, pattern: str) -> Iterator[DirectoryEntry]:
        """What matches; `*` also matches names that begin with a dot, a last `**` everything below."""
        try:
            descriptor = self._open()
        except OSError as error:
            self._closed(error)
            return
        try:
            reason = self._mounts.spared(descriptor)
            if reason is not None:
                self._overlooked.spared[self.base] = reason
                return
            self._overlooked.spared.pop(self.base, None)
            self._mount = self._mounts.of(descriptor)
            yield from self._match(descriptor, self._mount, "", pattern.split("/"), 0)
        finally:
            os.close(descriptor)

    def remove(self, name: str) -> None:
        """Remove a file, a link, or an empty directory.

        Raises:
            OSError: it is still there.
        """
        directory, last = self._parent(name)
        try:
            place = os.open(last, PLACE, dir_fd=directory)
            try:
                self._same_mount(place)
                status = os.fstat(place)
            finally:
                os.close(place)
            if stat.S_ISDIR(status.st_mode):
                os.rmdir(last, dir_fd=directory)
            else:
                os.unlink(last, dir_fd=directory)
        except FileNotFoundError:
            pass
        finally:
            os.close(directory)

    def empty(self, name: str) -> None:
        """Cut a file to no bytes. Owner, mode and label stay, and so does whoever is writing to it.

        Raises:
            OSError: it is as it was; EMLINK where it has another name, and may be somebody else's file,
                EXDEV where it is mounted there, and is somebody else's.
        """
        directory, last = self._parent(name)
        try:
            flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            descriptor = os.open(last, flags, dir_fd=directory)
        finally:
            os.close(directory)
        try:
            self._same_mount(descriptor)
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            if status.st_nlink > 1:
                raise OSError(errno.EMLINK, "it has another name as well, and may be another file's content")
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def _open(self, flags: int = DIRECTORY) -> int:
        directory, name = self._tree.resolve(self.base)
        try:
            return os.open(name, flags, dir_fd=directory)
        finally:
            os.close(directory)

    def _closed(self, error: OSError) -> None:
        """It cannot be opened: a home on NFS is closed to root, and yet nothing that had to be seen."""
        try:
            place = self._open(PLACE)
        except OSError:
            self._overlooked.note(self.base, error)
            return
        try:
            reason = self._mounts.spared(place)
        finally:
            os.close(place)
        if reason is not None:
            self._overlooked.spared[self.base] = reason
        else:
            self._overlooked.note(self.base, error)

    def _same_mount(self, descriptor: int) -> None:
        """Raise EXDEV for what does not lie on the mount that was looked at."""
        if self._mount is None or self._mounts.of(descriptor) != self._mount:
            raise OSError(errno.EXDEV, MOUNTED)

    def _parent(self, name: str) -> Tuple[int, str]:
        parts = name.split("/")
        directory = self._open()
        try:
            self._same_mount(directory)
            for part in parts[:-1]:
                below = os.open(part, DIRECTORY, dir_fd=directory)
                os.close(directory)
                directory = below
                self._same_mount(directory)
        except OSError:
            os.close(directory)
            raise
        return directory, parts[-1]

    def _match(
        self, directory: int, mount: Optional[int], before: str, parts: List[str], depth: int
    ) -> Iterator[DirectoryEntry]:
        head, rest = parts[0], parts[1:]
        for name in self._names(directory, before, head):
            status = self._status(directory, name, before + name, mount)
            if status is None:
                continue
            entry = DirectoryEntry(before + name, status)
            if entry.directory and (rest or head == EVERYTHING):
                try:
                    if depth >= DEPTH_LIMIT:
                        raise OSError(errno.ENAMETOOLONG, f"more than {DEPTH_LIMIT} directories deep")
                    below = os.open(name, DIRECTORY, dir_fd=directory)
                except OSError as error:
                    self._overlooked.note(self.path(entry.name), error)
                    if not rest:
                        yield entry
                    continue
                try:
                    if self._mounts.of(below) != mount:
                        self._elsewhere(below, entry.name)
                        continue
                    yield from self._match(below, mount, f"{entry.name}/", rest or parts, depth + 1)
                finally:
                    os.close(below)
            if not rest:
                yield entry

    def _status(self, directory: int, name: str, path: str, mount: Optional[int]) -> Optional[os.stat_result]:
        """What lies there on the same mount; None where nothing does, or it cannot be told."""
        try:
            self._mounts.keep_off(directory, name)
            place = os.open(name, PLACE, dir_fd=directory)
        except OSError as error:
            self._overlooked.note(self.path(path), error)
            return None
        try:
            if self._mounts.of(place) == mount:
                return os.fstat(place)
            self._elsewhere(place, path)
        except OSError as error:
            self._overlooked.note(self.path(path), error)
        finally:
            os.close(place)
        return None

    def _elsewhere(self, descriptor: int, name: str) -> None:
        self._overlooked.spared[self.path(name)] = self._mounts.spared(descriptor) or MOUNTED

    def _names(self, directory: int, before: str, pattern: str) -> List[str]:
        if not any(char in pattern for char in "*?["):
            return [pattern]
        try:
            names = sorted(os.listdir(directory))
        except OSError as error:
            self._overlooked.note(self.path(before).rstrip("/"), error)
            return []
        if pattern in ("*", EVERYTHING):
            return names
        return [name for name in names if fnmatch.fnmatchcase(name, pattern)]
