"""One line per decision: to systemd's journal with fields to search for, where it reads us, else on stderr.

The fields are those of docs/monitoring.md. The resident daemon imports this: no typing, and a socket
only where the journal is there.
"""

from __future__ import annotations

import os
import sys

QUIET, NORMAL, VERBOSE = 0, 1, 2
LEVELS = {"error": (QUIET, 3), "warning": (QUIET, 4), "info": (NORMAL, 6), "debug": (VERBOSE, 7)}
EVENT_PRIORITIES = {
    "failed": 3,
    "refused": 4,
    "unacknowledged": 4,
    "doubtful": 4,
}  # for `journalctl -p`, however verbose

JOURNAL = "/run/systemd/journal/socket"
PATIENCE = 0.2  # seconds that a journal which does not read is waited for
VALUE_LIMIT = 4096  # characters of the line, and of one field

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import Protocol

    class Say(Protocol):
        """What takes one line, and the fields `event`, `datum`, `source` and `instance`."""

        def __call__(self, text: str, **fields: str) -> None:
            """Log the line."""


def nothing(text: str, **fields: str) -> None:
    """Log nothing."""


def _is_journal() -> bool:
    """Whether standard error is the journal's own stream (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _clean(text: str) -> str:
    """One line without what steers a terminal, whoever the text is of."""
    text = "".join(char if char.isprintable() else " " for char in text[: VALUE_LIMIT * 4])
    return " ".join(text.split())[:VALUE_LIMIT]


def native(fields: dict[str, str]) -> bytes:
    """One entry of the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).

    A value with a newline has its length before it: no value can pass for another field.
    """
    entry = bytearray()
    for name, text in fields.items():
        value = text.encode("utf-8", "backslashreplace")
        if b"\n" in value:
            entry += name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
        else:
            entry += name.encode() + b"=" + value + b"\n"
    return bytes(entry)


class Log:
    """Writes what the verbosity asks for, never a secret: nobody hands it one.

    Args:
        verbosity: QUIET, NORMAL or VERBOSE.
        journal: the socket of the native protocol. It is used only where standard error is the journal's
            stream already; what it does not take goes there.
    """

    def __init__(self, verbosity: int = NORMAL, journal: str = JOURNAL) -> None:
        self.verbosity = verbosity
        self._journal = journal if _is_journal() else ""
        self._owner = os.getpid()

    @property
    def in_journal(self) -> bool:
        """Whether a unit runs this: what is said goes to the journal."""
        return bool(self._journal)

    def _write(self, level: str, text: str, fields: dict[str, str]) -> None:
        needed, priority = LEVELS[level]
        if self.verbosity < needed:
            return
        line = _clean(text)
        priority = min(priority, EVENT_PRIORITIES.get(fields.get("event", ""), priority))
        if self._journal and self._entry(priority, line, fields):
            return
        prefix = f"<{priority}>" if self._journal else "csagent: "
        try:
            print(f"{prefix}{line}", file=sys.stderr, flush=True)
        except (OSError, AttributeError):
            pass  # the reader of our standard error is gone; there is nobody left to tell

    def _entry(self, priority: int, line: str, fields: dict[str, str]) -> bool:
        """Hand the line and its fields to the journal; False where it did not take them."""
        import socket

        entry = {"MESSAGE": line, "PRIORITY": str(priority), "SYSLOG_IDENTIFIER": "csagent"}
        for name, value in fields.items():
            if value:
                entry[f"CSAGENT_{name.upper()}"] = _clean(value)
        if os.getpid() != self._owner:
            # A pass may have ended before journald looks up to which unit it belongs (systemd #2913): it is
            # logged as one about the daemon, which `journalctl -u csagent` shows as well.
            entry["OBJECT_PID"] = str(self._owner)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.settimeout(PATIENCE)
                channel.sendto(native(entry), self._journal)
        except OSError:
            return False  # not there, not reading, or the entry is too large (EMSGSIZE)
        return True

    def error(self, text: str, **fields: str) -> None:
        """Something failed. Fields: `event`, `datum`, `source`, `instance`; an empty one is left out."""
        self._write("error", text, fields)

    def warning(self, text: str, **fields: str) -> None:
        """Something an operator should look at."""
        self._write("warning", text, fields)

    def info(self, text: str, **fields: str) -> None:
        """Log a decision, at priority info or above."""
        self._write("info", text, fields)

    def debug(self, text: str, **fields: str) -> None:
        """Log a detail, shown with -v."""
        self._write("debug", text, fields)
