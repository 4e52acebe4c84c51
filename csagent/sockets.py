"""A socket whose deadline slow bytes cannot stretch.

`settimeout` counts from each receive: a peer that sends one byte now and then holds a read for ever
(facts/dependencies.md, section 5). This one re-arms what is left of a fixed moment before every call.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Optional


class DeadlineSocket(socket.socket):
    """A TCP socket on which everything ends at `deadline`, a moment of `time.monotonic()`."""

    deadline = 0.0

    @classmethod
    def dial(cls, address: str, port: int, source: Optional[str], deadline: float) -> "DeadlineSocket":
        """Connect to an IPv4 address; see `csagent.system.Dialer.connect`."""
        connection = cls(socket.AF_INET, socket.SOCK_STREAM)
        try:
            connection.deadline = deadline
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if source is not None:
                connection.bind((source, 0))
            connection._arm()
            connection.connect((address, port))
        except BaseException:
            connection.close()
            raise
        return connection

    def _arm(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise socket.timeout("deadline")
        self.settimeout(left)

    def recv_into(self, *args: Any) -> int:
        self._arm()
        return super().recv_into(*args)

    def recv(self, *args: Any) -> bytes:
        self._arm()
        return super().recv(*args)

    def send(self, *args: Any) -> int:
        self._arm()
        return super().send(*args)

    def sendall(self, *args: Any) -> None:
        self._arm()
        super().sendall(*args)
