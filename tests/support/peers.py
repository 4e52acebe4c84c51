"""TCP and UDP servers on loopback that do as they are told."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Callable, List, Tuple

Behaviour = Callable[[socket.socket, bytes], None]
ESTABLISHED = "01"  # net/tcp_states.h


def _as_listed(where: Tuple[str, int]) -> str:
    """An address and a port as /proc/net/tcp has them."""
    (number,) = struct.unpack("=I", socket.inet_aton(where[0]))
    return f"{number:08X}:{where[1]:04X}"


def until_read(connection: socket.socket) -> None:
    """Wait until the other side, which is on this machine, has taken all that was sent, or is gone.

    A reset throws away what still lies in its queue.
    """
    other, ours = _as_listed(connection.getpeername()), _as_listed(connection.getsockname())
    while True:
        with open("/proc/net/tcp") as stream:
            listed = [line.split() for line in stream]
        queues = {line[1]: line[4].split(":") for line in listed if {line[1], line[2]} == {other, ours}}
        here = [line for line in listed if (line[1], line[2], line[3]) == (other, ours, ESTABLISHED)]
        if not here or (int(queues[ours][0], 16) == 0 and int(queues[other][1], 16) == 0):
            return
        time.sleep(0.005)


def reset(connection: socket.socket) -> None:
    """Close with a RST, once the other side has what was sent."""
    until_read(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


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
