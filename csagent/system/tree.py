"""The file system below a root: paths that stay inside it, and writes that are whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from fnmatch import fnmatchcase
from itertools import takewhile

from csagent.system.files import change_at, open_regular, read_all, replace_at

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import Callable, Iterator, List, Optional, Tuple

READ_LIMIT = 256 * 1024
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
MAX_LINKS = 40  # the kernel's own limit on symlinks in one path (path_resolution(7))


class Step:
    """A directory, link or file on the way to a path.

    Attributes:
        path: the way to it without links.
        status: of what is open, or of the link.
        descriptor: what is open; None for a link.
    """

    def __init__(self, path: str, status: os.stat_result, descriptor: Optional[int]) -> None:
        self.path = path
        self.status = status
        self.descriptor = descriptor


class _OwnLinks:
    """Root writes through no link by which somebody else would choose where.

    A link counts that is root's; another one where it lies in its maker's own directory and leads into one,
    as `current -> releases/7`. The kernel looks at links in /tmp alone (fs.protected_symlinks,
    proc_sys_fs(5)), and not at all at those that are followed here.
    """

    def __init__(self) -> None:
        self._here = 0
        self._makers: List[int] = []

    def __call__(self, step: Step) -> None:
        if not stat.S_ISLNK(step.status.st_mode):
            self._here = step.status.st_uid
        elif step.status.st_uid != 0:
            self._makers.append(step.status.st_uid)
            self.judge()

    def judge(self) -> None:
        """Raises: OSError, where the last directory is not the maker's of each link that came before."""
        for maker in self._makers:
            if maker != self._here:
                raise OSError(errno.EACCES, f"a link of user {maker} on the way leads to what is not theirs")


class _Walk:
    """The directories that are open on the way from the root to where a path has led so far."""

    def __init__(
        self,
        root: str,
        visit: Optional[Callable[[Step], None]],
        before: Optional[Callable[[int, str], None]],
    ) -> None:
        self._visit = visit
        self._before = before
        self._open = [os.open(root, DIRECTORY)]
        self._names = [""]

    def __enter__(self) -> _Walk:
        try:
            self._tell()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        for descriptor in self._open:
            os.close(descriptor)

    def here(self) -> int:
        """A descriptor of the last directory, the caller's to close."""
        return os.dup(self._open[-1])

    def up(self) -> None:
        """Go to the directory above; the root has none."""
        if len(self._open) > 1:
            os.close(self._open.pop())
            self._names.pop()
            self._tell()

    def restart(self) -> None:
        """Go to the root."""
        while len(self._open) > 1:
            self.up()

    def enter(self, name: str) -> None:
        """Go to the directory `name`, which is no link."""
        self.touch(name)
        self._open.append(os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=self._open[-1]))
        self._names.append(name)
        self._tell()

    def link(self, name: str) -> Optional[str]:
        """Where `name` points; None where it is no link, or not there."""
        here = self._open[-1]
        self.touch(name)
        try:
            if self._visit is not None:
                status = os.stat(name, dir_fd=here, follow_symlinks=False)
                if stat.S_ISLNK(status.st_mode):
                    self._visit(Step("/".join((*self._names, name)), status, None))
            return os.readlink(name, dir_fd=here)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
            return None

    def touch(self, name: str) -> None:
        """Say what the kernel is asked of next."""
        if self._before is not None:
            self._before(self._open[-1], name)

    def _tell(self) -> None:
        if self._visit is not None:
            self._visit(Step("/".join(self._names) or "/", os.fstat(self._open[-1]), self._open[-1]))


class Tree:
    """Every path is absolute as the guest sees it. Symbolic links are resolved inside the root, as chroot
    would, by walking directory descriptors: a link in the tree never leads outside it.

    `before` is told an open directory and a name in it before the kernel is asked of that: the question alone
    may never be answered. What it raises ends the walk.
    """

    def __init__(self, root: str = "/", before: Optional[Callable[[int, str], None]] = None) -> None:
        self.root = os.path.realpath(root)
        self.live = self.root == "/"
        self._before = before

    def __repr__(self) -> str:
        return f"Tree({self.root!r})"

    def shown(self, path: str) -> str:
        """The path as an operator finds it on this machine."""
        return path if self.live else self.root + path

    def advised(self, text: str) -> str:
        """Commands for a shell in it, for whoever reads them on this machine, which they are not for.

        csagent's own are not for a shell in there, where it would judge the machine that the shell is on.
        """
        if self.live or not text:
            return text
        import shlex

        root = shlex.quote(self.root)
        but = f" (csagent itself with --root {root})" if "csagent " in text else ""
        return f"by chroot {root}{but}: {text}"

    def resolve(
        self, path: str, *, follow: bool = True, visit: Optional[Callable[[Step], None]] = None
    ) -> Tuple[int, str]:
        """Open the directory that holds `path`; return its descriptor and the last component.

        Args:
            path: absolute path in the guest's terms.
            follow: also resolve a symlink in the last component.
            visit: is told each directory that was opened on the way and each link before it is followed; what
                it raises ends the walk.

        Raises:
            OSError: as the kernel would, ELOOP after 40 links.
        """
        pending = [part for part in path.split("/") if part not in ("", ".")][::-1]
        links = 0
        with _Walk(self.root, visit, self._before) as walk:
            while pending:
                name = pending.pop()
                last = not pending
                if name == "..":
                    walk.up()
                    if last:
                        break
                    continue
                target = walk.link(name) if follow or not last else None
                if target is not None:
                    links += 1
                    if links > MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    if target.startswith("/"):
                        walk.restart()
                    pending.extend([part for part in target.split("/") if part not in ("", ".")][::-1])
                elif last:
                    walk.touch(name)
                    return walk.here(), name
                else:
                    walk.enter(name)
            return walk.here(), "."

    def resolve_to_write(self, path: str, *, follow: bool = True) -> Tuple[int, str]:
        """`resolve` for what is made, changed or removed there; who is not root has the kernel's rules."""
        if os.geteuid() != 0:
            return self.resolve(path, follow=follow)
        links = _OwnLinks()
        directory, name = self.resolve(path, follow=follow, visit=links)
        try:
            links.judge()
        except OSError:
            os.close(directory)
            raise
        return directory, name

    def open(self, path: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
        """Open a file inside the tree; the descriptor is close-on-exec and never a terminal."""
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        directory, name = self.resolve_to_write(path) if writes else self.resolve(path)
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

    def readlink(self, path: str) -> Optional[str]:
        """Where a symbolic link points, as it is written; None for what is no link."""
        try:
            directory, name = self.resolve(path, follow=False)
        except OSError:
            return None
        try:
            return os.readlink(name, dir_fd=directory)
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
            descriptor = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
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
        parts = [part for part in pattern.split("/") if part]
        if self.live and not os.path.exists(os.path.join(self.root, *takewhile(_is_plain, parts))):
            return  # as most of what is looked for: the kernel says so in one call
        yield from self._glob("/", parts)

    def _glob(self, base: str, parts: List[str]) -> Iterator[str]:
        head, rest = parts[0], parts[1:]
        if _is_plain(head):
            names = [head]
        else:
            names = [
                one for one in self.names(base) if one[0] != "." and (head == "*" or fnmatchcase(one, head))
            ]
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
            directory, name = self.resolve_to_write(below)
            try:
                if self.exists(below):
                    if durable and depth > 1:
                        os.fsync(directory)
                    continue
                os.mkdir(name, mode if depth == len(parts) else 0o755, dir_fd=directory)
                if depth == len(parts):
                    self._set_mode(directory, name, mode)
                os.fsync(directory)
            except FileExistsError:
                pass
            finally:
                os.close(directory)

    @staticmethod
    def _set_mode(directory: int, name: str, mode: int) -> None:
        """Of a new directory, whatever the umask; what somebody has put there in its place is left alone."""
        descriptor = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
        try:
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def write(
        self,
        path: str,
        content: bytes,
        mode: int = 0o644,
        *,
        owner: Optional[Tuple[int, int]] = None,
        keep: bool = False,
        durable: bool = True,
        inherit: bool = False,
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
            inherit: a new file gets its directory's default access list, as somebody who writes it by hand.

        Returns:
            False where the file already was so, and was not touched.

        Raises:
            OSError: nothing has changed then.
        """
        directory, name = self.resolve_to_write(path)
        try:
            return replace_at(
                directory, name, content, mode, owner=owner, keep=keep, durable=durable, inherit=inherit
            )
        finally:
            os.close(directory)

    def change(
        self, path: str, change: Callable[[bytes], bytes], mode: int, limit: int, *, keep: bool = True
    ) -> bool:
        """Replace a file by what `change` makes of its content, keeping its mode, owner and access list.

        See `csagent.system.files.change_at`. A file that is not there is made, with `mode`.
        """
        directory, name = self.resolve_to_write(path)
        try:
            return change_at(directory, name, change, mode, limit=limit, keep=keep)
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
        directory, name = self.resolve_to_write(path, follow=False)
        try:
            os.unlink(name, dir_fd=directory)
            os.fsync(directory)
            return True
        except FileNotFoundError:
            return False
        finally:
            os.close(directory)


def _is_plain(part: str) -> bool:
    return not any(char in part for char in "*?[")
