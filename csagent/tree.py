"""The file system below a root: paths that stay inside it, and writes that are whole or not at all."""

from __future__ import annotations

import errno
import fnmatch
import os
import stat
from contextlib import contextmanager

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import Iterator, List, Optional, Tuple

READ_LIMIT = 256 * 1024
MAX_LINKS = 40  # the kernel's own limit on symlinks in one path (path_resolution(7))


class Tree:
    """Every path is absolute as the guest sees it. Symbolic links are resolved inside the root, as chroot
    would, by walking directory descriptors: a link in the tree never leads outside it.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = os.path.realpath(root)
        self.live = self.root == "/"

    def __repr__(self) -> str:
        return f"Tree({self.root!r})"

    def shown(self, path: str) -> str:
        """The path as an operator finds it on this machine."""
        return path if self.live else self.root + path

    def resolve(self, path: str, *, follow: bool = True) -> Tuple[int, str]:
        """Open the directory that holds `path`; return its descriptor and the last component.

        Args:
            path: absolute path in the guest's terms.
            follow: also resolve a symlink in the last component.

        Raises:
            OSError: as the kernel would, ELOOP after 40 links.
        """
        pending = [part for part in path.split("/") if part not in ("", ".")]
        pending.reverse()
        links = 0
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        stack = [os.open(self.root, flags)]
        try:
            while pending:
                name = pending.pop()
                if name == "..":
                    if len(stack) > 1:
                        os.close(stack.pop())
                    if not pending:
                        pending.append(".")
                    continue
                last = not pending
                if name == ".":
                    if last:
                        return os.dup(stack[-1]), "."
                    continue
                if not last or follow:
                    try:
                        target: Optional[str] = os.readlink(name, dir_fd=stack[-1])
                    except OSError as error:
                        if error.errno not in (errno.EINVAL, errno.ENOENT):
                            raise
                        if error.errno == errno.ENOENT and not last:
                            raise
                        target = None
                    if target is not None:
                        links += 1
                        if links > MAX_LINKS:
                            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                        if target.startswith("/"):
                            while len(stack) > 1:
                                os.close(stack.pop())
                        parts = [part for part in target.split("/") if part not in ("", ".")]
                        pending.extend(reversed(parts or ["."]))
                        continue
                if last:
                    return os.dup(stack[-1]), name
                stack.append(os.open(name, flags | os.O_NOFOLLOW, dir_fd=stack[-1]))
            return os.dup(stack[-1]), "."
        finally:
            for descriptor in stack:
                os.close(descriptor)

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
        """Open a file inside the tree; the descriptor is close-on-exec and never a terminal."""
        directory, name = self.resolve(path)
        try:
            return os.open(name, flags | os.O_CLOEXEC | os.O_NOCTTY | os.O_NOFOLLOW, mode, dir_fd=directory)
        finally:
            os.close(directory)

    def read(self, path: str, limit: int = READ_LIMIT, *, follow: bool = True) -> bytes:
        """Read a regular file, at most `limit` bytes of it, with one descriptor.

        `follow` is for a symlink in the last component; not where somebody else may have put it there.

        Raises:
            OSError: it is not there, not readable, or not a regular file (EINVAL).
        """
        directory, name = self.resolve(path, follow=follow)
        try:
            descriptor = open_regular(directory, name)
        finally:
            os.close(directory)
        try:
            return read_all(descriptor, limit)
        finally:
            os.close(descriptor)

    def read_text(self, path: str, limit: int = READ_LIMIT) -> Optional[str]:
        """Read a small text file; None where it cannot be read. Undecodable bytes are kept escaped."""
        try:
            return self.read(path, limit).decode("utf-8", "surrogateescape")
        except OSError:
            return None

    def stat(self, path: str, *, follow: bool = True) -> Optional[os.stat_result]:
        """`os.stat` inside the tree; None where there is nothing."""
        try:
            directory, name = self.resolve(path, follow=follow)
        except OSError:
            return None
        try:
            return os.stat(name, dir_fd=directory, follow_symlinks=False)
        except OSError:
            return None
        finally:
            os.close(directory)

    def exists(self, path: str) -> bool:
        """Whether anything is there."""
        return self.stat(path) is not None

    def names(self, path: str) -> List[str]:
        """The sorted names in a directory; empty where there is none or it cannot be read."""
        try:
            directory, name = self.resolve(path)
        except OSError:
            return []
        try:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(name, flags, dir_fd=directory)
        except OSError:
            return []
        finally:
            os.close(directory)
        try:
            return sorted(os.listdir(descriptor))
        except OSError:
            return []
        finally:
            os.close(descriptor)

    def glob(self, pattern: str) -> Iterator[str]:
        """Paths that match a shell pattern; `*` may stand in any component, `.`-names never match it."""
        yield from self._glob("/", [part for part in pattern.split("/") if part])

    def _glob(self, base: str, parts: List[str]) -> Iterator[str]:
        head, rest = parts[0], parts[1:]
        if any(char in head for char in "*?["):
            names = [
                name
                for name in self.names(base)
                if not name.startswith(".") and fnmatch.fnmatchcase(name, head)
            ]
        else:
            names = [head]
        for name in names:
            path = os.path.join(base, name)
            if rest:
                yield from self._glob(path, rest)
            elif self.exists(path):
                yield path

    def mkdir(self, path: str, mode: int, *, durable: bool = True) -> None:
        """Make a directory and its parents; those that exist are left as they are.

        Durable means that those are made durable too: whoever made them may have been killed before that.
        """
        parts = [part for part in path.split("/") if part]
        for depth in range(1, len(parts) + 1):
            below = "/" + "/".join(parts[:depth])
            directory, name = self.resolve(below)
            try:
                if self.exists(below):
                    if durable and depth > 1:
                        os.fsync(directory)
                    continue
                os.mkdir(name, mode if depth == len(parts) else 0o755, dir_fd=directory)
                if depth == len(parts):
                    os.chmod(name, mode, dir_fd=directory)
                os.fsync(directory)
            except FileExistsError:
                pass
            finally:
                os.close(directory)

    def write(
        self,
        path: str,
        content: bytes,
        mode: int = 0o644,
        *,
        owner: Optional[Tuple[int, int]] = None,
        keep: bool = False,
        durable: bool = True,
    ) -> bool:
        """Replace a file as a whole: temporary file, fsync, rename, fsync of the directory.

        Args:
            path: the file; symlinks are resolved inside the tree and the target is replaced.
            content: everything that shall stand in it.
            mode: its permissions.
            owner: (uid, gid) it shall have; None leaves what creation gives.
            keep: an existing file's mode and owner win over `mode` and `owner`.
            durable: wait until it is on the disk, also where it already was so: the pass that wrote it may
                have been killed before it was. Pointless for what lives in /run.

        Returns:
            False where the file already was so, and was not touched.

        Raises:
            OSError: nothing has changed then.
        """
        directory, name = self.resolve(path)
        try:
            return replace_at(directory, name, content, mode, owner=owner, keep=keep, durable=durable)
        finally:
            os.close(directory)

    def sync(self, path: str) -> None:
        """Make a file and its name durable, whoever wrote it."""
        directory, name = self.resolve(path)
        try:
            descriptor = open_regular(directory, name)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.fsync(directory)
        finally:
            os.close(directory)

    def remove(self, path: str) -> bool:
        """Remove a file, durably; False where there was none."""
        directory, name = self.resolve(path, follow=False)
        try:
            os.unlink(name, dir_fd=directory)
            os.fsync(directory)
            return True
        except FileNotFoundError:
            return False
        finally:
            os.close(directory)


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


def write_all(descriptor: int, content: bytes) -> None:
    """Write everything: a pipe or a full disk may take less than it is given."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


TEMPORARY_SUFFIX = ".csagent-new"


def replace_at(
    directory: int,
    name: str,
    content: bytes,
    mode: int,
    *,
    owner: Optional[Tuple[int, int]] = None,
    keep: bool = False,
    durable: bool = True,
) -> bool:
    """`Tree.write` relative to an open directory, following no link at `name`.

    The temporary file has a fixed name, so that one left by a power cut is taken over, not collected.
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
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                _give(descriptor, owner)
            os.fchmod(descriptor, mode)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
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
