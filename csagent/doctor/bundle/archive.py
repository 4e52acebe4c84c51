"""A support archive as a file: a tar.gz that is made the same from the same, written whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, List, NamedTuple, Sequence, Set

from csagent.errors import CsagentError, UsageError

if TYPE_CHECKING:
    from tarfile import TarInfo


class Member(NamedTuple):
    """One file of the archive, or a directory that is there and empty.

    `path` is the guest's, absolute; `mtime`, seconds since 1970, is the original's.
    """

    path: str
    content: bytes
    directory: bool = False
    mtime: float = 0.0


def check(destination: str) -> None:
    """Say at once what would go wrong in the end.

    Raises:
        UsageError: something has this name already, or there is no such directory.
    """
    if destination in ("", "-"):
        raise UsageError("--bundle needs the name of a file to write; standard output has the report")
    if os.path.lexists(destination):
        raise UsageError(f"--bundle {destination}: is there already, and is not overwritten")
    directory = os.path.dirname(destination) or "."
    if not os.path.isdir(directory):
        raise UsageError(f"--bundle {destination}: there is no directory {directory}")


def pack(members: Sequence[Member], now: float = 0.0) -> bytes:
    """The members as a gzipped tar, sorted by name, names relative to the root; `now` is for directories."""
    import gzip
    import io
    import tarfile

    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        seen: Set[str] = {member.path.strip("/") for member in members}
        for member in sorted(members, key=lambda one: one.path):
            for parent in _parents(member.path):
                if parent not in seen:
                    archive.addfile(_entry(Member("/" + parent, b"", True, now)))
                seen.add(parent)
            entry = _entry(member)
            archive.addfile(entry, io.BytesIO(member.content) if entry.isreg() else None)
    return gzip.compress(raw.getvalue(), mtime=0)


def _parents(path: str) -> List[str]:
    parts = path.strip("/").split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts))]


def _entry(member: Member) -> "TarInfo":
    import tarfile

    entry = tarfile.TarInfo(member.path.lstrip("/"))
    entry.mtime = int(member.mtime)
    if member.directory:
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    else:
        entry.size, entry.mode = len(member.content), 0o600
    return entry


def put(destination: str, content: bytes) -> None:
    """Write the file, 0600, whole or not at all, over nothing that is there.

    Raises:
        CsagentError: it could not be written; nothing of it is left.
    """
    from csagent.system.files import write_all

    directory, name = os.path.split(destination)
    temporary = os.path.join(directory, f".{name[:200]}.{os.getpid()}.csagent-new")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(temporary, flags, 0o600)
        try:
            try:
                os.fchmod(descriptor, 0o600)
                write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            _name(temporary, destination)
        finally:
            try:
                os.unlink(temporary)
            except FileNotFoundError:
                pass  # it has its name
    except FileExistsError:
        raise UsageError(f"--bundle {destination}: is there already, and is not overwritten") from None
    except OSError as error:
        raise CsagentError(f"--bundle {destination}: {error.strerror}") from None


def _name(temporary: str, destination: str) -> None:
    """Give it its name: a link never replaces anything; where there are no hard links (vfat), a rename."""
    try:
        os.link(temporary, destination, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(destination):
            raise FileExistsError from None
        os.rename(temporary, destination)
