"""A socket whose deadline slow bytes cannot stretch.

`settimeout` counts from each receive: a peer that sends one byte now and then holds a read for ever
(field/dependencies#5). This one re-arms what is left of a fixed moment before every call.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csagent.model import Endpoint


def begin(endpoint: "Endpoint") -> socket.socket:
    """A socket that is being connected, without waiting for the other side.

    A source address alone does not choose a NIC: Linux sends where the routing table says, and another
    network's DHCP server may have a say in that (RFC 3442). SO_BINDTODEVICE does (socket(7)).

    Raises:
        OSError: the kernel refuses at once, or the address is a name.
    """
    socket.inet_pton(socket.AF_INET, endpoint.address)  # connect(2) below would ask libc for a name
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if endpoint.interface is not None:
            bind_to_interface(connection, endpoint.interface)
        if endpoint.source is not None:
            connection.bind((endpoint.source, 0))
        number = connection.connect_ex((endpoint.address, endpoint.port))
        if number not in (0, errno.EINPROGRESS):
            raise OSError(number, os.strerror(number))
    except BaseException:
        connection.close()
        raise
    return connection


def bind_to_interface(connection: socket.socket, interface: str) -> bool:
    """Have a socket use this NIC only; False where only root may ask for that (before Linux 5.7).

    Raises:
        OSError: there is no such NIC.
    """
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, os.fsencode(interface) + b"\0")
    except PermissionError:
        return False
    return True


class DeadlineSocket(socket.socket):
    """A TCP socket on which everything ends at `deadline`, a moment of `time.monotonic()`."""

    deadline = 0.0

    @classmethod
    def dial(cls, endpoint: "Endpoint", deadline: float) -> "DeadlineSocket":
        """Connect; see `csagent.system.seams.Dialer.connect`."""
        return cls.finish(begin(endpoint).detach(), deadline)

    @classmethod
    def finish(cls, descriptor: int, deadline: float) -> "DeadlineSocket":
        """Wait until a connection that has begun is there; takes the descriptor over.

        Raises:
            OSError: as connect(2) says it; TimeoutError at the deadline.
        """
        connection = cls(socket.AF_INET, socket.SOCK_STREAM, fileno=descriptor)
        try:
            connection.deadline = deadline
            connection._arm()
            waiting = select.poll()  # select(2) knows no descriptor above 1,023
            waiting.register(connection, select.POLLOUT)
            if not waiting.poll((connection.gettimeout() or 0.0) * 1000.0):
                raise socket.timeout("deadline")
            number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                raise OSError(number, os.strerror(number))
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
