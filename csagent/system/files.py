"""One file, by descriptors: read with a bound, written as a whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import Callable, Iterator, List, Optional, Tuple


def open_regular(directory: int, name: str) -> int:
    """Open a regular file for reading, following no link at `name`; no device is opened (a watchdog starts).

    Raises:
        OSError: it is not there, not readable, or not a regular file (EINVAL).
    """
    if stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=directory)
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return descriptor
        os.close(descriptor)
    raise OSError(errno.EINVAL, "not a regular file", name)


def read_all(descriptor: int, limit: int) -> bytes:
    """Read from a descriptor to its end, at most `limit` bytes."""
    pieces: List[bytes] = []
    left = limit
    while left > 0:
        piece = os.read(descriptor, min(left, 65536))
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def lines_of(text: str) -> List[str]:
    """The lines of a file of the system's, as its readers count them: nothing but a line feed ends one."""
    lines = text.split("\n")
    return lines[:-1] if not lines[-1] else lines


def read_named(path: str, limit: int, option: str = "") -> bytes:
    """At most `limit` bytes of a file that the command line names; "-" is standard input.

    Args:
        path: as it was given.
        limit: bytes.
        option: what it was given for, where the message should say so.

    Raises:
        UsageError: it cannot be read.
    """
    import sys

    from csagent.errors import UsageError

    try:
        if path == "-":
            return sys.stdin.buffer.read(limit)
        with open(path, "rb") as stream:
            return stream.read(limit)
    except OSError as error:
        raise UsageError(
            f"{option} {path}: {error.strerror}" if option else f"{path}: {error.strerror}"
        ) from None


def write_all(descriptor: int, content: bytes) -> None:
    """Write everything: a pipe or a full disk may take less than it is given."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def sign(descriptor: int, holder: bytes) -> None:
    """Write down in a file that is locked who holds it; on a full disk those who ask do without."""
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder, 0)
    except OSError:
        pass


TEMPORARY_SUFFIX = ".csagent-new"
CHANGES = 5  # times that somebody else may change a file before we give up
KEPT_ATTRIBUTES = ("user.", "system.posix_acl_access")  # of a file that is replaced; a label is restorecon's


class ChangedMeanwhile(OSError):
    """Somebody else has changed a file since it was read."""


def change_at(
    directory: int,
    name: str,
    change: Callable[[bytes], bytes],
    mode: int,
    *,
    limit: int,
    keep: bool = True,
) -> bool:
    """Replace a file by what `change` makes of its content, as long as nobody else writes it in between.

    What another program adds while this works is read again, so that it is not lost: but for the moment
    between the last look and the rename, for which the kernel has no call.

    Args:
        directory: where it is.
        name: its name there; no link is followed.
        change: the old content (empty where there is no file) to the new; asked again after a change.
        mode: of a file that is made, and of every file unless `keep`.
        limit: bytes that it may have, before and afterwards.
        keep: an existing file keeps its owner, mode and access list; else it becomes ours, with `mode`.

    Raises:
        OSError: it cannot be read or written, is too large (EFBIG), or changes all the time (EAGAIN).
    """
    for _ in range(CHANGES):
        try:
            before = _content(directory, name, limit + 1)
        except FileNotFoundError:
            before = b""
        after = change(before)
        if max(len(before), len(after)) > limit:
            is_or = "is" if len(before) > limit else "would be"
            raise OSError(errno.EFBIG, f"it {is_or} larger than {limit} bytes: not touched")
        try:
            return replace_at(directory, name, after, mode, keep=keep, read=before)
        except ChangedMeanwhile:
            continue
    raise OSError(errno.EAGAIN, "somebody else changes it all the time: not touched")


def _content(directory: int, name: str, limit: int) -> bytes:
    descriptor = open_regular(directory, name)
    try:
        return read_all(descriptor, limit)
    finally:
        os.close(descriptor)


def _keep_attributes(directory: int, name: str, target: int) -> None:
    """Access list and user attributes; where a file system has none, or refuses, there is nothing to keep."""
    try:
        source = open_regular(directory, name)
    except OSError:
        return
    try:
        for attribute in os.listxattr(source):
            if attribute.startswith(KEPT_ATTRIBUTES):
                os.setxattr(target, attribute, os.getxattr(source, attribute))
    except OSError:
        pass
    finally:
        os.close(source)


def forget_access_list(descriptor: int) -> None:
    """Take from a new file what its directory's default access list has given it (acl(5)).

    Setting a mode with rights for the group brings to life whatever users stand in there, in /etc/shadow too.
    """
    try:
        os.removexattr(descriptor, "system.posix_acl_access")
    except OSError:
        pass  # it has none, or the file system knows none


def replace_at(
    directory: int,
    name: str,
    content: bytes,
    mode: int,
    *,
    owner: Optional[Tuple[int, int]] = None,
    keep: bool = False,
    durable: bool = True,
    read: Optional[bytes] = None,
    inherit: bool = False,
) -> bool:
    """`Tree.write` relative to an open directory, following no link at `name`.

    The temporary file has a fixed name, so that one left by a power cut is taken over, not collected.

    Args:
        read: what was read of the file, where its new content was made of that.

    Raises:
        ChangedMeanwhile: it has another content than `read` by now.
        OSError: nothing has changed then.
    """
    previous: Optional[os.stat_result]
    try:
        previous = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        previous = None
    if previous is not None and stat.S_ISREG(previous.st_mode):
        if keep:
            mode = stat.S_IMODE(previous.st_mode)
            owner = (previous.st_uid, previous.st_gid)
        same_owner = owner is None or owner == (previous.st_uid, previous.st_gid)
        same_size = previous.st_size == len(content)
        if same_owner and same_size and _is_so(directory, name, content, mode, durable=durable):
            return False
    temporary = f".{name}{TEMPORARY_SUFFIX}"
    try:
        os.unlink(temporary, dir_fd=directory)
    except FileNotFoundError:
        pass
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        try:
            write_all(descriptor, content)
            if not inherit:
                forget_access_list(descriptor)
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                _give(descriptor, owner)
            os.fchmod(descriptor, mode)
            if keep and previous is not None:
                _keep_attributes(directory, name, descriptor)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if read is not None and previous is not None and _content(directory, name, len(read) + 1) != read:
            raise ChangedMeanwhile
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        try:
            os.unlink(temporary, dir_fd=directory)
        except OSError:
            pass
        raise
    if durable:
        os.fsync(directory)
    return True


def _is_so(directory: int, name: str, content: bytes, mode: int, *, durable: bool) -> bool:
    """Whether a file already is what it shall be; then it is made durable as if it had been written."""
    descriptor = open_regular(directory, name)
    try:
        same = read_all(descriptor, len(content) + 1) == content
        if not same or stat.S_IMODE(os.fstat(descriptor).st_mode) != mode:
            return False
        if durable:
            os.fsync(descriptor)
            os.fsync(directory)
        return True
    finally:
        os.close(descriptor)


def _give(descriptor: int, owner: Tuple[int, int]) -> None:
    """Change the owner. Nobody but root gives a file to a group that it is not in: it stays in ours then."""
    try:
        os.fchown(descriptor, *owner)
    except PermissionError:
        if owner[0] != os.geteuid():
            raise OSError(errno.EPERM, f"it belongs to the user {owner[0]}, not to us") from None
        if os.geteuid() == 0:
            with in_group(owner[1]):
                os.fchown(descriptor, *owner)


@contextmanager
def in_group(gid: int) -> Iterator[None]:
    """Be in one more group. Root without CAP_CHOWN, as our unit makes it, gives its files to its groups only.

    Does nothing where groups cannot be changed.
    """
    before = os.getgroups()
    try:
        os.setgroups([*before, gid])
    except OSError:
        yield
        return
    try:
        yield
    finally:
        os.setgroups(before)
