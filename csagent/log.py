"""One line per decision on standard error; with syslog priorities where systemd's journal reads it."""

from __future__ import annotations

import os
import sys

QUIET, NORMAL, VERBOSE = 0, 1, 2
LEVELS = {"error": (QUIET, 3), "warning": (QUIET, 4), "info": (NORMAL, 6), "debug": (VERBOSE, 7)}


def _is_journal() -> bool:
    """Whether standard error is the journal's own stream (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class Log:
    """Writes what the verbosity asks for, never a secret: nobody hands it one."""

    def __init__(self, verbosity: int = NORMAL) -> None:
        self.verbosity = verbosity
        self._journal = _is_journal()

    def _write(self, level: str, text: str) -> None:
        needed, priority = LEVELS[level]
        if self.verbosity < needed:
            return
        line = " ".join(text.split())
        prefix = f"<{priority}>" if self._journal else "csagent: "
        try:
            print(f"{prefix}{line}", file=sys.stderr, flush=True)
        except (OSError, AttributeError):
            pass  # the reader of our standard error is gone; there is nobody left to tell

    def error(self, text: str) -> None:
        """Something failed."""
        self._write("error", text)

    def warning(self, text: str) -> None:
        """Something an operator should look at."""
        self._write("warning", text)

    def info(self, text: str) -> None:
        """A decision."""
        self._write("info", text)

    def debug(self, text: str) -> None:
        """What led to it."""
        self._write("debug", text)
