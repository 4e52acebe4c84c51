"""QEMU's control socket: what a CloudStack host does to a running machine's drives."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any, Dict, Optional

from csagent.errors import CsagentError

EJECT_PATIENCE = 60.0  # the kernel asks the drive every 2 s of the guest's


def connected(path: Path, deadline: float) -> socket.socket:
    """A connection to a socket of QEMU's, which may yet have to make it; `deadline` is its timeout too.

    Raises:
        OSError: none within the deadline.
    """
    end = time.monotonic() + deadline
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(deadline)
    while True:
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            if time.monotonic() > end:
                connection.close()
                raise
            time.sleep(0.05)


class Qmp:
    """One command at a time, events skipped."""

    def __init__(self, path: Path, deadline: float = 10.0) -> None:
        self._socket = connected(path, deadline)
        self._stream = self._socket.makefile("rw", encoding="utf-8")
        self._stream.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Execute one command; what it returns, or RuntimeError with QEMU's words."""
        self._stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._stream.flush()
        while True:
            answer = json.loads(self._stream.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(f"QMP {command}: {answer['error'].get('desc')}")

    def insert(self, drive: str, image: Path) -> None:
        """Put an image into a CD drive ("cd0" or "cd1"), as CloudStack attaches an ISO."""
        self.execute("blockdev-change-medium", device=drive, filename=str(image), format="raw")

    def exchange(self, drive: str, image: Optional[Path]) -> None:
        """Put another image in, or none, as libvirt does: ask the guest, and wait until it lets go.

        Raises:
            CsagentError: the guest has not opened the tray.
        """
        self.execute("blockdev-open-tray", device=drive)
        end = time.monotonic() + EJECT_PATIENCE
        while not self._block(drive)["tray_open"]:
            if time.monotonic() >= end:
                raise CsagentError(f"the guest does not let go of {drive}")
            time.sleep(0.05)
        if image is None:
            self.execute("eject", device=drive)
        else:
            self.insert(drive, image)

    def _block(self, drive: str) -> Dict[str, Any]:
        blocks = self.execute("query-block")
        return dict(next(block for block in blocks if block["device"] == drive))

    def eject(self, drive: str) -> None:
        """Take the medium out without asking the guest."""
        self.execute("eject", device=drive, force=True)

    def media(self) -> Dict[str, Optional[str]]:
        """What is in each CD drive."""
        blocks = self.execute("query-block")
        return {
            block["device"]: block["inserted"]["file"] if "inserted" in block else None
            for block in blocks
            if block["device"].startswith("cd")
        }

    def __enter__(self) -> "Qmp":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()
        self._socket.close()
