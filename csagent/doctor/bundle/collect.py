"""What a support archive is made of, read with our rights, and not looked into.

The list of files and commands is doctor's (`inputs`) and the finder's own; nothing else is read.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from csagent.discovery.drives import UDEV_CONTROL
from csagent.discovery.interfaces import PROC_ROUTE
from csagent.discovery.recorded import for_nobody
from csagent.doctor.bundle import manifest
from csagent.doctor.bundle.archive import DIRECTORY, Member
from csagent.system.seams import Completed, Runner
from csagent.system.tree import READ_LIMIT

if TYPE_CHECKING:
    from csagent.settings import Settings
    from csagent.system.accounts import Account
    from csagent.system.seams import System

FILE_LIMIT = 1 << 20  # bytes of one file, as it goes into the archive
SOURCE_LIMIT = 4 << 20  # bytes that are read of one, to keep a line or two of it
RAW_LIMIT = 64 << 20  # of all that is read
MAX_FILES = 1000
MAX_LEFT_OUT = 500
COMMANDS_SECONDS = 40.0  # for all of them

JOURNAL = (
    "journalctl",
    "--quiet",
    "--unit=csagent",
    "--boot",
    "--no-pager",
    "--lines=500",
    "--output=short-iso",
)
EXTRA = (
    ("/run/udev/data/b*", "plain"),
    ("/sys/class/block/*/dev", "plain"),
    (UDEV_CONTROL, "empty"),
)
# Where a link among those files may lead, besides to another of them.
LINK_TARGETS = (
    "/proc/*/mounts",
    "/proc/*/net/route",
    "/usr/lib/os-release",
    "/usr/lib/systemd/system/csagent.service",
    "/etc/authselect/*",
    "/usr/share/crypto-policies/*",
    "/run/systemd/resolve/*.conf",
    "/run/NetworkManager/*resolv.conf",
    "/run/resolvconf/resolv.conf",
    "/run/connman/resolv.conf",
    "/run/netconfig/resolv.conf",
)


class Recorder(Runner):
    """Runs commands as another runner does, and keeps what they said."""

    def __init__(self, inner: Runner) -> None:
        self.inner = inner
        self.heard: Dict[Tuple[str, ...], Completed] = {}

    def available(self, program: str) -> bool:
        return self.inner.available(program)

    def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 10.0, limit: int = READ_LIMIT
    ) -> Completed:
        self.inner.grouped = self.grouped
        done = self.inner.run(argv, stdin=stdin, timeout=timeout, limit=limit)
        self.heard[tuple(argv)] = done
        return done


class Collection:
    """What is read with our rights: nothing is looked at here but names and sizes."""

    def __init__(
        self,
        system: "System",
        settings: "Settings",
        account: "Optional[Account]",
        documents: Mapping[str, Any],
        config: Optional[str],
    ) -> None:
        self.system, self.settings, self.account = system, settings, account
        self.documents, self.config = documents, config
        # By path: the content, the name of its sanitiser, and where it really lies.
        self.raw: Dict[str, Tuple[bytes, str, str]] = {}
        self.places: Dict[str, Member] = {}  # path: as it is on the machine, without content
        self.left_out: Dict[str, str] = {}
        self.raw_size = 0
        self.secrets: Tuple[bytes, ...] = ()
        self.now = system.clock.now()
        self.commands = Recorder(self.system.runner)
        self.user = self.settings.user
        self.home = (self.account.home or "/") if self.account is not None else "/root"
        self.shell = (self.account.shell or "/bin/sh") if self.account is not None else "/bin/sh"

    def read(self) -> None:
        """Read all files and run the commands that need us."""
        from csagent.discovery import finder
        from csagent.doctor.bundle import redact  # noqa: F401

        self.judged = for_nobody(self.system)
        self.finder = Recorder(self.judged.runner)
        self.evidence = finder.prepare(self.system._replace(runner=self.finder))
        finder.warm_up()
        self._leases()
        leases = set(finder.lease_patterns())
        for pattern, name in (*manifest.files(self.home), *EXTRA):
            if pattern not in leases:
                self._files(pattern, name)
        if self.config is not None:
            self._given_settings()
        self._run_commands()
        self.secrets = tuple(_known_secrets(self.system))

    def _leases(self) -> None:
        from csagent.discovery.finder import lease_patterns

        raw = self.evidence.leases
        for path, content in raw.files.items():
            self._take(path, content, "lease")
        self.left_out.update({path: reason for path, reason in raw.unread.items() if nameable(path)})
        for path in sorted(raw.marks):
            self._take(path, b"", "empty")
        for pattern in lease_patterns():
            self._unreadable(pattern)

    def _files(self, pattern: str, name: str) -> None:
        self._unreadable(pattern)
        for path in self.system.tree.glob(pattern):
            if len(self.raw) >= MAX_FILES or self.raw_size > RAW_LIMIT:
                self.leave(pattern, f"more than {MAX_FILES} files, or {RAW_LIMIT >> 20} MiB to read, in all")
                return
            if name == "empty":
                self._take(path, b"", name)
                continue
            real = self._followed(path)
            how = name if real == path or name == "keys" else self._kind(real)
            if how is None:
                shown = real if nameable(real) else ascii(real)
                self.leave(path, f"a link to {shown}, which is none of what is looked at")
                continue
            # The finder reads no more than READ_LIMIT of the routes, which have no end of their own.
            limit = READ_LIMIT if path == PROC_ROUTE else SOURCE_LIMIT + 1
            try:
                content = self.system.tree.read(path, limit)
            except OSError as error:
                if error.errno != errno.EINVAL or not path.startswith("/sys/"):  # a NIC that is down
                    self.leave(path, error.strerror or "cannot be read")
                continue
            if len(content) > SOURCE_LIMIT:
                self.leave(path, f"larger than {SOURCE_LIMIT >> 20} MiB")
            else:
                self._take(path, content, how, real if how != name else path)

    def _kind(self, real: str) -> Optional[str]:
        """How to sanitise what a link leads to; None: it leads out of what is looked at."""
        for pattern, name in (*manifest.files(self.home), *EXTRA):
            if name != "empty" and _matches(real, pattern):
                return name
        return "plain" if any(_matches(real, pattern) for pattern in LINK_TARGETS) else None

    def _take(self, path: str, content: bytes, name: str, real: str = "") -> None:
        if not nameable(path):
            self.leave(path, "a name that is not plain text")
        elif path not in self.raw and len(self.raw) < MAX_FILES:
            found = self.system.tree.stat(path)
            self.raw_size += len(content)
            self.raw[path] = content, name, real or path
            if found is not None:
                directory = found.st_mode & 0o170000 == 0o040000
                self.places[path] = Member(
                    path,
                    b"",
                    DIRECTORY if directory else "file",
                    found.st_mode & 0o7777,
                    found.st_uid,
                    found.st_gid,
                    found.st_mtime,
                )
        elif path not in self.raw:
            self.leave(path, f"more than {MAX_FILES} files")

    def leave(self, path: str, reason: str) -> None:
        """Note what is not going to be in the archive, and why."""
        if len(self.left_out) >= MAX_LEFT_OUT:
            path, reason = "~", "and more that is not listed"
        self.left_out[path if nameable(path) else ascii(path)] = reason

    def _followed(self, path: str) -> str:
        """Where a link leads; the path itself where it is none, or leads nowhere."""
        tree = self.system.tree
        try:
            directory, name = tree.resolve(path, follow=False)
            try:
                os.readlink(name, dir_fd=directory)
            finally:
                os.close(directory)
            directory, name = tree.resolve(path)
            try:
                holder = os.readlink(f"/proc/self/fd/{directory}")
            finally:
                os.close(directory)
        except OSError:
            return path
        return os.path.normpath(os.path.join("/", os.path.relpath(holder, tree.root), name))

    def _unreadable(self, pattern: str) -> None:
        """Say so where we may not even look whether there is such a file."""
        parts = pattern.split("/")[1:-1]
        fixed = [part for part in parts[: next((at for at, part in enumerate(parts) if "*" in part), None)]]
        for depth in range(1, len(fixed) + 1):
            path = "/" + "/".join(fixed[:depth])
            try:
                os.close(self.system.tree.open(path, os.O_RDONLY | os.O_DIRECTORY))
            except PermissionError:
                last = depth == len(fixed) and "*" in pattern
                if last or self.system.tree.stat("/" + "/".join(fixed[: depth + 1])) is None:
                    self.leave(path + "/", "only root may look into it")
                    return
            except OSError:
                return  # not there

    def _given_settings(self) -> None:
        from csagent.settings import DROP_INS, MAIN_FILE
        from csagent.system.files import open_regular, read_all

        for path in [path for path in self.raw if path == MAIN_FILE or _matches(path, DROP_INS)]:
            del self.raw[path]
            self.leave(path, "another file was given with --config; it stands here as " + MAIN_FILE)
        try:
            path = os.path.abspath(self.config or "")
            directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                descriptor = open_regular(directory, os.path.basename(path))
            finally:
                os.close(directory)
            try:
                self.raw[MAIN_FILE] = read_all(descriptor, FILE_LIMIT), "plain", MAIN_FILE
            finally:
                os.close(descriptor)
        except OSError as error:
            self.leave(MAIN_FILE, f"the file given with --config: {error.strerror}")

    def _run_commands(self) -> None:
        monotonic = self.system.clock.monotonic
        end = monotonic() + COMMANDS_SECONDS
        for command in (*manifest.COMMANDS, JOURNAL):
            if "{nic}" in command or command == ("ip", "-j", "addr"):
                continue  # asked by the finder, as nobody
            argv = manifest.fill(command, user=self.user, home=self.home, shell=self.shell)
            left = end - monotonic()
            if left <= 0:
                self.leave(command_line(argv), "the commands before it took too long")
                continue
            self.commands.run(argv, timeout=min(left, manifest.DEADLINE), limit=FILE_LIMIT)


def command_line(argv: Sequence[str]) -> str:
    """A command as recorded.json names it."""
    return " ".join(argv)


def nameable(path: str) -> bool:
    """Whether a name can stand in a list of lines and in any archive."""
    return path.isprintable() and path.isascii() and len(path) < 1024


def _matches(path: str, pattern: str) -> bool:
    return len(path.split("/")) == len(pattern.split("/")) and fnmatch.fnmatchcase(path, pattern)


def _known_secrets(system: "System") -> Iterator[bytes]:
    """Password hashes of all accounts and csagent's fingerprints, to look for in what goes out."""
    from csagent.state.applied import INSTANCES

    for path in ("/etc/shadow", "/etc/gshadow"):
        for line in _lines(system, path):
            value = line.split(b":")[1] if line.count(b":") else b""
            if len(value) >= 13:
                yield value
    for path in system.tree.glob(INSTANCES + "/*.json"):
        yield from re.findall(rb'"([0-9a-f]{32,})"', b"\n".join(_lines(system, path)))[:100]


def _lines(system: "System", path: str) -> List[bytes]:
    try:
        return system.tree.read(path, SOURCE_LIMIT, follow=False).split(b"\n")
    except OSError:
        return []
