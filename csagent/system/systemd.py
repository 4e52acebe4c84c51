"""The service manager's side: READY, STATUS and WATCHDOG lines (sd_notify(3)), and its signals."""

from __future__ import annotations

import os
import signal
import time

BOOTED = "/run/systemd/system"  # sd_booted(3)
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PATIENCE = 2.0  # seconds for a service manager that does not read

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import Any

    from csagent.system.tree import Tree


def is_masked(tree: Tree, path: str) -> bool:
    """Whether a unit's file is a link to /dev/null, or empty (systemd.unit(5))."""
    target = tree.readlink(path)
    if target is not None:
        return target == "/dev/null"
    status = tree.stat(path, follow=False)
    return status is not None and status.st_size == 0


def notify(*assignments: str) -> None:
    """Tell systemd, where it asked to be told; without it, nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    import socket

    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            channel.settimeout(PATIENCE)
            channel.sendto("\n".join(assignments).encode(), address)
    except OSError:
        pass  # systemd will notice by itself that it was not told


class Watchdog:
    """Tells systemd that the loop goes round, twice in the period it gave us (sd_watchdog_enabled(3))."""

    def __init__(self) -> None:
        period = os.environ.get("WATCHDOG_USEC", "")
        ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        asked = ours and period.isascii() and period.isdigit() and int(period) > 0
        self._period: float = int(period) / 2_000_000 if asked else float("inf")  # seconds
        self._due: float = time.monotonic() + self._period

    def left(self) -> float:
        """Seconds until it is due; without end where systemd does not watch."""
        return max(0.0, self._due - time.monotonic())

    def feed(self) -> None:
        """Send WATCHDOG=1 if half of the interval has passed; called after every wake-up."""
        if self.left() <= 0:
            self._due = time.monotonic() + self._period
            notify("WATCHDOG=1")


class Signals:
    """Turns SIGTERM, SIGINT and SIGHUP into a readable descriptor and two flags.

    For process 1 of a container it is readable also when a child has ended: everybody's orphans are its own.
    """

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)
        self.stop = False
        self.reload = False
        for number in SIGNALS:
            signal.signal(number, self._note)
        if os.getpid() == 1:
            signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._writing, warn_on_full_buffer=False)

    def _note(self, number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            self.reload = True
        else:
            self.stop = True

    def fileno(self) -> int:
        """Readable once a signal has come."""
        return self._reading

    def drain(self) -> None:
        """Forget the bytes that made it readable; the flags stay."""
        try:
            while os.read(self._reading, 64):
                pass
        except BlockingIOError:
            pass
