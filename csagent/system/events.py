"""What tells the daemon that something may have changed: udev, lease files, the network, the clock.

Each source has a descriptor to wait for and says, once that is readable, whether it was of interest. Nothing
here polls, and nothing is read but what the kernel and udev say by themselves.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import struct

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import Any, Dict, List, Sequence, Set

# linux/rtnetlink.h: links, IPv4 addresses, IPv4 routes
GROUPS = 0x1 | 0x10 | 0x40
NETLINK_ROUTE = 0
NEWS_OF_THE_NETWORK = range(16, 26)  # RTM_NEWLINK to RTM_DELROUTE

# linux/inotify.h
IN_CLOEXEC, IN_NONBLOCK = 0o2000000, 0o4000
IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
IN_ONLYDIR, IN_Q_OVERFLOW, IN_IGNORED, IN_ISDIR = 0x01000000, 0x4000, 0x8000, 0x40000000
CHANGED = IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_CREATE

# sys/timerfd.h
CLOCK_REALTIME = 0
TFD_CLOEXEC, TFD_NONBLOCK = 0o2000000, 0o4000
TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET = 1, 2
FAR_AWAY = 1 << 40  # seconds since the epoch


class Drives:
    """Block devices, as udev tells of them once it has settled what they are (field/dependencies#4)."""

    name = "drive"

    def __init__(self, labels: Sequence[str]) -> None:
        """Raises OSError or ImportError where udev cannot be listened to."""
        import pyudev

        self._wanted = {label.casefold() for label in labels}
        self._with_label: Set[str] = set()
        context = pyudev.Context()
        self._monitor = pyudev.Monitor.from_netlink(context, source="udev")
        self._monitor.filter_by("block")
        self._monitor.start()
        for device in context.list_devices(subsystem="block"):
            self._is_ours(device)

    def fileno(self) -> int:
        """The descriptor that becomes readable at an event."""
        return int(self._monitor.fileno())

    def news(self) -> bool:
        """Whether a drive with the label has come, changed or gone. OSError: events were lost."""
        told = False
        while True:
            device = self._monitor.poll(timeout=0)
            if device is None:
                return told
            before = device.sys_path in self._with_label
            told = self._is_ours(device) or before or told

    def _is_ours(self, device: Any) -> bool:
        gone = device.action == "remove"
        said = {} if gone else device.properties
        # Blanks and the like are underscores in the one, and \\x20 in the other.
        encoded = (
            str(said.get("ID_FS_LABEL_ENC", ""))
            .encode("ascii", "replace")
            .decode("unicode_escape", "replace")
        )
        if {str(said.get("ID_FS_LABEL", "")).casefold(), encoded.casefold()} & self._wanted:
            self._with_label.add(device.sys_path)
            return True
        self._with_label.discard(device.sys_path)
        return False

    def close(self) -> None:
        """The monitor closes with its last reference."""
        del self._monitor


class Network:
    """NICs, addresses and routes, as the kernel tells of them (rtnetlink(7))."""

    name = "network"

    def __init__(self) -> None:
        """Raises OSError where there is no netlink."""
        import socket

        flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, flags, NETLINK_ROUTE)
        try:
            self._socket.bind((0, GROUPS))
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """The descriptor that becomes readable at an event."""
        return self._socket.fileno()

    def news(self) -> bool:
        """Whether a NIC, an address or a route has changed. OSError: messages were lost."""
        told = False
        while True:
            try:
                message = self._socket.recv(65536)
            except BlockingIOError:
                return told
            told = told or _kind(message) in NEWS_OF_THE_NETWORK

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


def _kind(message: bytes) -> int:
    return int(struct.unpack_from("=IH", message)[1]) if len(message) >= 16 else 0


class Files:
    """Lease files and others, as inotify(7) tells of their directories.

    A directory that is not there yet is waited for in the nearest one above it.
    """

    name = "lease"

    def __init__(self, patterns: Sequence[str], root: str = "/") -> None:
        """Raises OSError where there is no inotify."""
        import ctypes

        self._patterns = tuple(patterns)
        self._root = "" if root == "/" else root
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._errno = ctypes.get_errno
        self._watched: Dict[int, str] = {}
        self._descriptor = self._libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(self._errno(), os.strerror(self._errno()))
        self._arm()

    def _arm(self) -> None:
        """Watch what is there of every directory that a pattern names."""
        for directory in sorted({os.path.dirname(pattern) for pattern in self._patterns}):
            for found in self._expanded(directory):
                while not self._watch(found) and found != "/":
                    found = os.path.dirname(found)

    def _expanded(self, directory: str) -> List[str]:
        """A directory, or those that match where it is itself a pattern (connman's), and what holds them."""
        if not any(letter in directory for letter in "*?["):
            return [directory]
        above, last = os.path.split(directory)
        try:
            names = sorted(os.listdir(self._root + above))[:64]
        except OSError:
            names = []
        return [above, *(f"{above}/{name}" for name in names if fnmatch.fnmatchcase(name, last))]

    def _watch(self, directory: str) -> bool:
        number = self._libc.inotify_add_watch(
            self._descriptor, os.fsencode(self._root + directory), CHANGED | IN_ONLYDIR
        )
        if number >= 0:
            self._watched[number] = directory
        return bool(number >= 0)

    def fileno(self) -> int:
        """The descriptor that becomes readable at an event."""
        return int(self._descriptor)

    def news(self) -> bool:
        """Whether one of them was written, came or went. OSError: the queue ran over."""
        told = moved = False
        while True:
            try:
                data = os.read(self._descriptor, 65536)
            except BlockingIOError:
                break
            offset = 0
            while offset + 16 <= len(data):
                number, mask, _cookie, length = struct.unpack_from("=iIII", data, offset)
                name = os.fsdecode(data[offset + 16 : offset + 16 + length].rstrip(b"\0"))
                offset += 16 + length
                if mask & IN_Q_OVERFLOW:
                    raise OSError(errno.ENOBUFS, "events were lost")
                path = f"{self._watched.get(number, '')}/{name}"
                if mask & IN_IGNORED:
                    self._watched.pop(number, None)
                    moved = True
                elif mask & (IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM) and self._is_above(path):
                    moved = True
                if not mask & IN_ISDIR and self._is_one(path):
                    # What is only created has nothing in it yet: its writer closes it, or renames it.
                    told = told or bool(mask & ~IN_CREATE)
        if moved:
            before = len(self._watched)
            self._arm()
            told = told or len(self._watched) > before
        return told

    def _is_one(self, path: str) -> bool:
        return any(fnmatch.fnmatchcase(path, pattern) for pattern in self._patterns)

    def _is_above(self, path: str) -> bool:
        """Whether one of them may come to lie somewhere below."""
        depth = path.count("/")
        return any(
            fnmatch.fnmatchcase(path, "/".join(pattern.split("/")[: depth + 1])) for pattern in self._patterns
        )

    def close(self) -> None:
        """Stop watching."""
        os.close(self._descriptor)


class Account(Files):
    """The file of the accounts, until it has one that is missing.

    The other accounts that are made meanwhile are no news, and the file alone is asked: a directory's
    server may not answer.
    """

    name = "account"

    def __init__(self, account: str, passwd: str = "/etc/passwd") -> None:
        """Raises OSError where there is no inotify."""
        super().__init__([passwd])
        self._account, self._passwd = account, passwd

    def news(self) -> bool:
        """Whether the file was written, and has it now. OSError: the queue ran over."""
        return super().news() and has_account(self._account, self._passwd)


def has_account(account: str, passwd: str = "/etc/passwd") -> bool:
    """Whether the file has a line of this account's."""
    try:
        with open(passwd, "rb") as stream:
            return any(line.startswith(account.encode() + b":") for line in stream)
    except OSError:
        return False


class CloudInit(Files):
    """The file that cloud-init writes at its end: it may have written over our keys."""

    name = "cloud-init"


class WallClock:
    """Steps of the wall clock, and the end of a suspension, of which timerfd_create(2) tells alike."""

    name = "clock"

    def __init__(self) -> None:
        """Raises OSError where the kernel has no such timer."""
        import ctypes

        self._libc = ctypes.CDLL(None, use_errno=True)
        self._errno = ctypes.get_errno
        self._when = (ctypes.c_long * 4)(
            0, 0, FAR_AWAY if ctypes.sizeof(ctypes.c_long) > 4 else 0x7FFFFFFF, 0
        )
        self._descriptor = self._libc.timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK)
        if self._descriptor < 0:
            raise OSError(self._errno(), os.strerror(self._errno()))
        self._arm()

    def _arm(self) -> None:
        flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET
        self._libc.timerfd_settime(self._descriptor, flags, self._when, None)

    def fileno(self) -> int:
        """The descriptor that becomes readable at an event."""
        return int(self._descriptor)

    def news(self) -> bool:
        """Whether the clock has been set, or the machine has slept."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return False
        except OSError as error:
            self._arm()
            return error.errno == errno.ECANCELED
        return False

    def close(self) -> None:
        """Let go of the timer."""
        os.close(self._descriptor)
