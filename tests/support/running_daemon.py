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


PATIENCE = 600.0  # seconds, for what a starved machine needs too

# Whatever would end a pass that does not hear of SIGTERM is later here than any test waits, so that a daemon
# which has ended has not waited for it: its own patience, and that of the pass with others.
PROGRAM = """
from csagent.cli.main import entry
from csagent.daemon import loop, pass_process

known, later = pass_process._run, 3600.0

def run(*words):
    from csagent.sources import acknowledge
    from csagent.sources.router import password_protocol
    from csagent.state import lock
    acknowledge.PATIENCE = lock.PATIENCE = password_protocol.ASK_SECONDS = later
    known(*words)

pass_process._run, loop.STOP_PATIENCE = run, later
entry()
"""


def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until it holds; fails after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


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
            [sys.executable, "-c", PROGRAM, "--root", str(tree), *words],
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

    def stop(self) -> None:
        """SIGTERM, and its end: it does not wait for what it is at, which the test keeps from ending."""
        self.process.terminate()
        assert self.process.wait(PATIENCE) == 0

    def close(self) -> None:
        """End it, if it has not ended, and what is open with it."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        if self.process.stderr is not None:
            self.process.stderr.close()
        self.socket.close()
