"""A line that a process is to print, and an end to the wait for it."""

from __future__ import annotations

import queue
import subprocess
import threading
from typing import Any

PATIENCE = 300.0  # seconds, for what takes none


def line_of(process: "subprocess.Popen[Any]", seconds: float = PATIENCE) -> Any:
    """The next line, as its pipe gives it; empty at its end. What says nothing in time is killed."""
    assert process.stdout is not None
    read = process.stdout.readline
    got: "queue.Queue[Any]" = queue.Queue()
    threading.Thread(target=lambda: got.put(read()), daemon=True).start()
    try:
        return got.get(timeout=seconds)
    except queue.Empty:
        process.kill()
        raise AssertionError(f"{process.args!r:.200} has printed no line in {seconds:g} s") from None
