"""A line of a given length between csagent and the router: `python far.py SECONDS PORT...`.

Each byte is under way for half the round trip, and a connection is not up before a whole one is over: the
kernel's own handshake on loopback takes no time, so the first bytes wait for it here. Prints its ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import List, Set


class Line:
    """Forwards connections to one port of loopback."""

    def __init__(self, port: int, round_trip: float) -> None:
        self.port = port
        self.half = round_trip / 2
        self.tasks: Set["asyncio.Task[None]"] = set()

    async def serve(self) -> int:
        """Listen; the port."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _accept(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * self.half)
        far, out = await asyncio.open_connection("127.0.0.1", self.port)
        await asyncio.gather(self._carry(near, out), self._carry(far, back))

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                piece = await source.read(1 << 16)
                task = asyncio.ensure_future(self._arrive(piece, target))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
                if not piece:
                    return

    async def _arrive(self, piece: bytes, target: asyncio.StreamWriter) -> None:
        await asyncio.sleep(self.half)
        with contextlib.suppress(ConnectionError):
            if piece:
                target.write(piece)
            else:
                target.close()


async def main() -> None:
    """Serve until standard input ends."""
    lines = [Line(int(port), float(sys.argv[1])) for port in sys.argv[2:]]
    ports: List[int] = [await line.serve() for line in lines]
    print(*ports, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)  # connections that are still open need no farewell


if __name__ == "__main__":
    asyncio.run(main())
