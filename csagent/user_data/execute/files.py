"""Files: a whole new content, or more at the end, with mode, owner and parent directories."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple, Optional, Tuple

from csagent.model import Secret
from csagent.system.tree import DIRECTORY

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

IN_PLACE = (errno.EBUSY, errno.EACCES, errno.EPERM, errno.EROFS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT)


class WriteFile(NamedTuple):
    """Write a file. A user or group of None leaves root's."""

    path: str
    content: Secret
    mode: int = 0o644
    user: Optional[str] = "root"
    group: Optional[str] = "root"
    append: bool = False

    def carry_out(self, machine: "Machine") -> None:
        """Nothing is written where its owner does not exist (field/user-data#U45).

        Raises:
            StepFailed: it could not be written.
        """
        owner = machine.owner(self.user, self.group)
        highest = self.path
        try:
            highest = _make_parents(machine, self.path, owner)
            _write(machine, self, owner)
        except OSError as error:
            machine.fail(f"cannot write {machine.shown(self.path)}: {error.strerror}")
        machine.relabel(highest)


def _make_parents(machine: "Machine", path: str, owner: Tuple[int, int]) -> str:
    """The directories that are missing on the way: 0755, and their file's owner's (field/user-data#U49).

    Returns the highest of what is new, at last the file itself.
    """
    tree = machine.system.tree
    highest = path
    parts = [part for part in os.path.dirname(path).split("/") if part]
    for depth in range(1, len(parts) + 1):
        below = "/" + "/".join(parts[:depth])
        if tree.exists(below):
            continue
        tree.mkdir(below, 0o755)
        _give(machine, below, owner)
        highest = below if highest == path else highest
    return highest


def _give(machine: "Machine", path: str, owner: Tuple[int, int]) -> None:
    """Give a directory that is ours, and not what has been put in its place since."""
    directory, name = machine.system.tree.resolve(path, follow=False)
    try:
        made = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        if os.fstat(made).st_uid == os.geteuid():
            os.fchown(made, *owner)
    finally:
        os.close(made)


def _write(machine: "Machine", action: WriteFile, owner: Tuple[int, int]) -> None:
    tree = machine.system.tree
    before = tree.stat(action.path)
    if before is not None and stat.S_ISDIR(before.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
    content = action.content.reveal()
    if action.append or (before is not None and not stat.S_ISREG(before.st_mode)):
        _write_in_place(machine, action, owner, is_pipe=before is not None and stat.S_ISFIFO(before.st_mode))
        return
    # As cloud-init: the mode first, then the owner, which takes set-user-id away (field/user-data#U51).
    given = owner != (-1, -1)
    mode = action.mode & ~0o4000 if given else action.mode
    if given and mode & 0o2010 == 0o2010:
        mode &= ~0o2000
    uid, gid = _whole(owner, before)
    try:
        tree.write(action.path, content, mode, owner=(uid, gid), inherit=True)
    except OSError as error:
        # A file that cannot be replaced, as in /proc, or one that a container engine has mounted.
        if before is None or error.errno not in IN_PLACE:
            raise
        _write_in_place(machine, action, owner)


def _whole(owner: Tuple[int, int], before: Optional[os.stat_result]) -> Tuple[int, int]:
    """The owner with what is left alone filled in: of a new file it is whoever writes."""
    uid = owner[0] if owner[0] >= 0 else (before.st_uid if before else os.geteuid())
    gid = owner[1] if owner[1] >= 0 else (before.st_gid if before else os.getegid())
    return uid, gid


def _refuse_others(machine: "Machine", path: str, descriptor: int) -> None:
    """What somebody has put into a directory for everybody: they have it open still, whoever it is given to.

    As the kernel has it where fs.protected_regular is set (proc_sys_fs(5)).

    Raises:
        OSError: it is such a file.
    """
    directory, _name = machine.system.tree.resolve(path)
    try:
        around = os.fstat(directory)
    finally:
        os.close(directory)
    theirs = os.fstat(descriptor).st_uid not in (0, os.geteuid(), around.st_uid)
    if theirs and around.st_mode & stat.S_ISVTX and around.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(errno.EACCES, "it is somebody else's, in a directory for everybody")


def _write_in_place(
    machine: "Machine", action: WriteFile, owner: Tuple[int, int], *, is_pipe: bool = False
) -> None:
    """Write into what is there. A pipe without a reader, or with one that does not read, holds up nobody."""
    from csagent.system.files import write_all

    flags = os.O_WRONLY | (os.O_APPEND if action.append else 0)
    flags |= 0 if machine.system.tree.exists(action.path) else os.O_CREAT
    flags |= os.O_NONBLOCK if is_pipe else 0
    descriptor = machine.system.tree.open(action.path, flags, 0o600)
    try:
        _refuse_others(machine, action.path, descriptor)
        if not action.append and not is_pipe:
            os.ftruncate(descriptor, 0)
        write_all(descriptor, action.content.reveal())
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            try:
                os.fchmod(descriptor, action.mode)
                os.fchown(descriptor, *owner)
                os.fsync(descriptor)
            except OSError as error:
                if error.errno not in (errno.EPERM, errno.EINVAL, errno.EROFS):
                    raise
    finally:
        os.close(descriptor)
