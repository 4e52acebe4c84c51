"""/var/log/csagent-user-data.log: what scripts and commands say, for root and adm; and the console."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from csagent.errors import ApplyError
from csagent.system import console_device
from csagent.system.files import forget_access_list, write_all

if TYPE_CHECKING:
    from csagent.system.seams import System

PATH = "/var/log/csagent-user-data.log"
MODE = 0o640
GROUP = "adm"
PIECE = 65536
ASIDE = ".set-aside"  # behind the name of what was no log of ours


class LogFile:
    """The log, open for appending: what scripts leave running may write to it for as long as it likes.

    What is appended is copied to the console by `follow`; nothing holds a pipe that could be left without a
    reader.
    """

    def __init__(self, system: "System") -> None:
        self._live = system.live
        try:
            system.tree.mkdir(os.path.dirname(PATH), 0o755)
            aside = _set_aside(system)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
            is_new = not system.tree.exists(PATH)
            self.descriptor = system.tree.open(PATH, flags, MODE)
        except OSError as error:
            raise ApplyError(f"cannot open {system.tree.shown(PATH)}: {error.strerror}") from None
        if not _is_ours(os.fstat(self.descriptor)):
            os.close(self.descriptor)
            raise ApplyError(f"cannot open {system.tree.shown(PATH)}: somebody else has just put it there")
        if is_new:
            forget_access_list(self.descriptor)
        self._private(system)
        self._shown = os.fstat(self.descriptor).st_size
        if aside:
            self.write(f"csagent: what was here was no file of root's alone: it is {aside} now\n")

    def _private(self, system: "System") -> None:
        """Nobody else may read it, also where it was there before (CVE-2021-3429)."""
        from csagent.system import accounts

        gid = accounts.group_id(system, GROUP)
        try:
            os.fchmod(self.descriptor, MODE)
            os.fchown(self.descriptor, -1, -1 if gid is None else gid)
        except OSError as error:
            if error.errno != errno.EPERM:
                raise

    @property
    def size(self) -> int:
        """Bytes so far."""
        return os.fstat(self.descriptor).st_size

    def write(self, text: str) -> None:
        """Append a text of ours."""
        write_all(self.descriptor, text.encode("utf-8", "backslashreplace"))

    def follow(self) -> None:
        """Copy to the console what has been appended since the last time."""
        size = self.size
        if size < self._shown:
            self._shown = 0  # rotated by copying
        while self._shown < size:
            piece = os.pread(self.descriptor, min(PIECE, size - self._shown), self._shown)
            if not piece:
                return
            self._shown += len(piece)
            self.console(piece)

    def console(self, content: bytes) -> None:
        """Show something on the console only."""
        if self._live:
            console_device.write(content)

    def close(self) -> None:
        """Show the rest, and close it."""
        self.follow()
        os.close(self.descriptor)


def _is_ours(status: os.stat_result) -> bool:
    """Whether it is a file of root's, or of a tree's builder, that has no second name."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1


def _set_aside(system: "System") -> str:
    """Rename what is in the log's place and not ours; its new name, else "".

    On Ubuntu the group syslog can write /var/log: what its accounts have made there they can read, and a
    named pipe of theirs holds up who writes. A link counts where it is root's.

    Raises:
        OSError: it cannot be renamed.
    """
    status = system.tree.stat(PATH, follow=False)
    if status is not None and stat.S_ISLNK(status.st_mode) and status.st_uid == os.geteuid():
        status = system.tree.stat(PATH)
    if status is None or stat.S_ISDIR(status.st_mode) or _is_ours(status):
        return ""
    directory, name = system.tree.resolve(PATH, follow=False)
    try:
        os.rename(name, name + ASIDE, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        os.close(directory)
    return system.tree.shown(PATH) + ASIDE
