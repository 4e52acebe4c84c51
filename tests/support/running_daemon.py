"""A daemon in the foreground, on a scratch tree, and what it tells systemd."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable, List

from csagent.lab.cloud import Cloud
from support.samples import INSTANCE, make_key

CLOUD = Cloud(instance_id=INSTANCE, hostname="web01", ssh_keys=(make_key(1),), password="EXAMPLE-first")


PATIENCE = 20.0


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> float:
    """Seconds until it holds; fails after `seconds`."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not happen"
        time.sleep(0.02)
    return time.monotonic() - start


class Running:
    """A daemon and what it tells systemd."""

    def __init__(self, tree: Path, words: List[str], watchdog: str) -> None:
        self.tree = tree
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        (tree / "notify").unlink(missing_ok=True)
        self.socket.bind(str(tree / "notify"))
        self.socket.setblocking(False)
        self.heard: List[str] = []
        environment = {**os.environ, "NOTIFY_SOCKET": str(tree / "notify"), "WATCHDOG_USEC": watchdog}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "csagent", "--root", str(tree), *words],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )

    def told(self, word: str) -> bool:
        """Whether systemd was told so."""
        try:
            while True:
                self.heard += self.socket.recv(4096).decode().split("\n")
        except BlockingIOError:
            return any(line.startswith(word) for line in self.heard)

    def hostname(self) -> str:
        return (self.tree / "etc/hostname").read_text().strip()

    def stop(self) -> float:
        """SIGTERM, and seconds until it has ended."""
        start = time.monotonic()
        self.process.terminate()
        assert self.process.wait(10) == 0
        return time.monotonic() - start
