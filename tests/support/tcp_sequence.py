"""A TCP connection that counts: whether it lives on, and how long it was silent."""

from __future__ import annotations

import subprocess
from typing import Tuple

from support.printed_lines import line_of
from support.systemd_container import Container, Network

PORT = "7007"
LOG = "/run/tcp-sequence.log"

SERVER = """
import socket, sys
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as listening:
    print("listening", flush=True)
    connection, _ = listening.accept()
    while True:
        got = connection.recv(64)
        if not got:
            break
        connection.sendall(got)
"""

CLIENT = """
import socket, sys, time
server, port, own = sys.argv[1:]
connection = socket.create_connection((server, int(port)), source_address=(own, 0))
count, silence, last = 0, 0.0, time.monotonic()
while True:
    connection.sendall(b"x")
    if not connection.recv(1):
        sys.exit("closed")
    count, now = count + 1, time.monotonic()
    silence, last = max(silence, now - last), now
    print(count, round(silence, 3), flush=True)
    time.sleep(0.01)
"""


def end(process: "subprocess.Popen[bytes]") -> None:
    """End it without its output: a child of nsenter's holds the pipe until its container ends."""
    process.kill()
    process.wait(600)
    if process.stdout is not None:
        process.stdout.close()


class TcpSequence:
    """A connection from an address of a container to one of its network.

    Args:
        net: where the server is.
        server: its IPv4 address.
        box: where the client is.
        own: the client's IPv4 address.
    """

    def __init__(self, net: Network, server: str, box: Container, own: str) -> None:
        self._box = box
        self._server = subprocess.Popen(
            net.namespace.command(["python3", "-c", SERVER, server, PORT]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert line_of(self._server) == b"listening\n"
        script = f'exec python3 -c "$1" {server} {PORT} {own} >{LOG} 2>&1'
        self._client = box.popen("sh", "-c", script, "sh", CLIENT)

    def seen(self) -> Tuple[int, float]:
        """How many answers have come, and the longest silence in seconds."""
        lines = self._box.run("cat", LOG).stdout.split("\n")[:-1]
        if not lines:
            return 0, 0.0
        count, silence = lines[-1].split()
        return int(count), float(silence)

    def lives(self) -> bool:
        """Whether neither end has given it up."""
        return self._client.poll() is None and self._server.poll() is None

    def close(self) -> None:
        """End both."""
        for process in (self._client, self._server):
            end(process)
