"""What a DHCP client module provides, and the evidence it judges.

The evidence is gathered in two steps because of who may read what (field/dhcp-leases): the files while
the process is still root, without looking into them further than "is there a whole record yet"; the
parsing, and the few commands that know more than the files, once it is nobody.
"""

from __future__ import annotations

import errno
import fnmatch
import os
from typing import Dict, Iterable, Iterator, List, Optional, Protocol, Sequence, Set, Tuple, Union

from csagent.errors import Distrusted
from csagent.model import Lease, Nic, Rejected
from csagent.system import trusted_path
from csagent.system.files import read_all
from csagent.system.seams import NoCommands, Runner, System
from csagent.system.tree import READ_LIMIT

MAX_FILES = 300  # that match one pattern; more than the NICs that are looked at
TOTAL_LIMIT = 8 << 20  # bytes of all files together; a lease is a few kilobytes
RETRIES = 3
RETRY_PAUSE = 0.05  # seconds; dhclient writes its block about 6 ms after the address appears
FRESH = 3.0  # seconds; an incomplete file older than this is not being written, it is all there is
COMMAND_TIMEOUT = 2.0

Statement = Union[Lease, Rejected]


class RawLeases:
    """What the DHCP clients have left on this system.

    Attributes:
        files: content by guest path, at most 256 KiB each.
        unread: files that are there and could not be read, with the reason.
        distrusted: files that somebody else than root or a system account could have written: not read.
        marks: paths that merely exist: a running client's pid file, a service's directory.
        runner: asks a client that knows more than its files.
    """

    def __init__(
        self,
        files: Optional[Dict[str, bytes]] = None,
        unread: Optional[Dict[str, str]] = None,
        marks: Iterable[str] = (),
        runner: Optional[Runner] = None,
    ) -> None:
        self.files = {} if files is None else files
        self.unread = {} if unread is None else unread
        self.distrusted: List[Rejected] = []
        self.marks = set(marks)
        self.runner = NoCommands() if runner is None else runner
        self._answers: Dict[Tuple[str, ...], Optional[bytes]] = {}

    def matching(self, *patterns: str) -> Iterator[Tuple[str, bytes]]:
        """The files that match, pattern by pattern."""
        for pattern in patterns:
            for path in sorted(self.files):
                if fnmatch.fnmatchcase(path, pattern):
                    yield path, self.files[path]

    def marked(self, *patterns: str) -> bool:
        """Whether one of the marks matches."""
        return any(fnmatch.fnmatchcase(mark, pattern) for mark in self.marks for pattern in patterns)

    def command(self, *argv: str) -> Optional[bytes]:
        """What a command prints, or None where it is not installed, fails or takes over two seconds."""
        if argv not in self._answers:
            done = self.runner.run(argv, timeout=COMMAND_TIMEOUT)
            self._answers[argv] = done.output if done.code == 0 else None
        return self._answers[argv]


class Client(Protocol):
    """One DHCP client: a module with these names."""

    @property
    def NAME(self) -> str:
        """The client as the operator knows it."""

    @property
    def FILES(self) -> Tuple[str, ...]:
        """Shell patterns of the guest paths it writes."""

    @property
    def MARKS(self) -> Tuple[str, ...]:
        """Shell patterns of paths whose mere existence says something."""

    def complete(self, content: bytes) -> bool:
        """Whether a file holds at least one whole record; cheap, for any bytes."""

    def statements(self, raw: RawLeases, nics: Sequence[Nic]) -> Iterator[Statement]:
        """Everything the client says, newest statement per interface and file, unjudged."""


def gather(system: System, clients: Sequence[Client]) -> RawLeases:
    """Read the files of all clients, and parse none of them.

    On a live system a file that was changed a moment ago and holds no whole record yet is read up to
    three times again, 50 ms apart: dhclient, dhcpcd and wicked truncate before they write.
    """
    raw = RawLeases(runner=system.runner)
    unfinished: List[Tuple[str, Client]] = []
    seen: Set[str] = set()
    for client in clients:
        for pattern in client.MARKS:
            raw.marks.update(system.tree.glob(pattern))
        for pattern in client.FILES:
            paths = sorted({*system.tree.glob(pattern)} - seen, key=_by_number)
            seen.update(paths)
            if len(paths) > MAX_FILES:
                left = f"{len(paths) - MAX_FILES} of {len(paths)} files {pattern}"
                raw.unread[left] = f"{MAX_FILES} are, those of the lowest numbers"
            for path in paths[:MAX_FILES]:
                if _read(system, raw, path, client):
                    unfinished.append((path, client))
    for _ in range(RETRIES):
        if not unfinished:
            break
        system.clock.sleep(RETRY_PAUSE)
        unfinished = [(path, client) for path, client in unfinished if _read(system, raw, path, client)]
    return raw


def _by_number(path: str) -> Tuple[int, str]:
    """Files that are called after the index of a NIC come in the order of the NICs."""
    name = os.path.basename(path)
    return int(name) if name.isdecimal() else 0, path


def reread(system: System, raw: RawLeases, paths: Sequence[str]) -> bool:
    """Read files again, as whoever we are now; say whether one of them has changed."""
    changed = False
    for path in paths:
        try:
            content, _ = read_lease_file(system, path)
        except (OSError, Distrusted):
            continue
        changed = changed or content != raw.files.get(path)
        raw.files[path] = content
    return changed


def _read(system: System, raw: RawLeases, path: str, client: Client) -> bool:
    """Read one file into the evidence; True where it is worth a second look."""
    if sum(map(len, raw.files.values())) > TOTAL_LIMIT:
        raw.unread[path] = f"more than {TOTAL_LIMIT} bytes of leases in all"
        return False
    try:
        content, changed = read_lease_file(system, path)
    except FileNotFoundError:
        return False  # wicked unlinks before it writes; the next event brings us back
    except Distrusted as error:
        raw.files.pop(path, None)
        raw.distrusted.append(Rejected(path, client.NAME, None, f"not believed: {error}"))
        return False
    except OSError as error:
        raw.unread[path] = os.strerror(error.errno or errno.EIO)
        return False
    raw.files[path] = content
    fresh = abs(system.clock.now() - changed) < FRESH
    return system.live and fresh and not client.complete(content)


def read_lease_file(system: System, path: str) -> Tuple[bytes, float]:
    """A lease file, at most 256 KiB of it, and when it was changed (seconds since the epoch).

    Of dhclient's files the last 256 KiB, since it appends and the newest record is at the end; no other
    client writes one that large. In a tree, which may be anybody's, no file is a link.

    Raises:
        Distrusted: somebody else than root or a system account could have written it.
        OSError: not there, not readable, not a regular file, or too large (EFBIG).
    """
    descriptor = trusted_path.open_file(system, path, trusted_path.SYSTEM, follow=system.live)
    try:
        status = os.fstat(descriptor)
        if status.st_size <= READ_LIMIT:
            return read_all(descriptor, READ_LIMIT), status.st_mtime
        if not os.path.basename(path).startswith("dhclient"):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        os.lseek(descriptor, status.st_size - READ_LIMIT, os.SEEK_SET)
        content = read_all(descriptor, READ_LIMIT)
        return content[content.find(b"\n") + 1 :], status.st_mtime
    finally:
        os.close(descriptor)
