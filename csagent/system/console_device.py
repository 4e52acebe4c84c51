"""The machine's console, /dev/console: what is written there is in the log that CloudStack's UI shows."""

from __future__ import annotations

import os

from csagent.system.files import write_all

CONSOLE = "/dev/console"


def write(content: bytes) -> None:
    """Show something there. A console that is not there, or does not read, misses it: nobody waits for it."""
    flags = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_APPEND | os.O_CLOEXEC
    try:
        descriptor = os.open(CONSOLE, flags)
    except OSError:
        return
    try:
        write_all(descriptor, content)
    except OSError:
        pass
    finally:
        os.close(descriptor)
