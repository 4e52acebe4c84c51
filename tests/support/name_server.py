"""A name server as a virtual router's dnsmasq: it knows the router by its name, and nobody else."""

from __future__ import annotations

import socket
import threading

PORT = 53
NAME = b"\x0bdata-server"  # as DNS writes it; whatever domain follows
HEADER = 12
A = b"\x00\x01"
ANSWER = b"\xc0\x0c" + A + b"\x00\x01" + b"\x00\x00\x00\x3c" + b"\x00\x04"
NO_ERROR, NO_SUCH_NAME = b"\x85\x80", b"\x85\x83"


class NameServer:
    """Answers on loopback, in the network namespace of the thread that makes it, until it is closed.

    Args:
        router: the IPv4 address that the name stands for.
    """

    def __init__(self, router: str = "10.1.1.1") -> None:
        self._address = socket.inet_aton(router)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", PORT))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                question, peer = self._socket.recvfrom(4096)
                self._socket.sendto(answer(question, self._address), peer)
            except OSError:
                return

    def close(self) -> None:
        """End it."""
        self._socket.close()


def answer(question: bytes, router: bytes) -> bytes:
    """The reply to a query of one question."""
    end = HEADER
    while end < len(question) and question[end]:
        end += 1 + question[end]
    asked = question[HEADER : end + 5]  # name, type, class
    named = asked.lower().startswith(NAME)
    known = named and asked[-4:-2] == A
    head = question[:2] + (NO_ERROR if named else NO_SUCH_NAME) + b"\x00\x01" + bytes([0, known]) + bytes(4)
    return head + asked + (ANSWER + router if known else b"")
