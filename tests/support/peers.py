"""TCP and UDP servers on loopback that do as they are told."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Callable, List

Behaviour = Callable[[socket.socket, bytes], None]


class Peer:
    """A TCP server that does with each request whatever a function says."""

    def __init__(self, behaviour: Behaviour, address: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: List[bytes] = []
        self.connections = 0
        self._behaviour = behaviour
        self._listener = socket.create_server((address, port), backlog=64)
        self.address, self.port = self._listener.getsockname()
        self._open: List[socket.socket] = []
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self._stopping:
                connection.close()
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while True:
                request = b""
                while b"\r\n\r\n" not in request:
                    piece = connection.recv(4096)
                    if not piece:
                        return
                    request += piece
                self.requests.append(request)
                self._behaviour(connection, request)
                if b"Connection: close" in request:
                    return

    def stop(self) -> None:
        self._stopping = True
        with contextlib.suppress(OSError), socket.create_connection((self.address, self.port), 1):
            pass  # wakes accept()
        self._listener.close()
        self._thread.join(5)
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
