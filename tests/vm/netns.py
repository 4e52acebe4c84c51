"""Network namespaces without a name: nothing is left behind, however the tests end."""

from __future__ import annotations

import ctypes
import subprocess
import threading
from typing import Any, Callable, List, Sequence, TypeVar

T = TypeVar("T")

CLONE_NEWNET = 0x40000000  # sched.h


def end_holder(holder: "subprocess.Popen[Any]") -> None:
    """End what holds namespaces until its input ends, or by force: --kill-child takes the rest along."""
    assert holder.stdin is not None and holder.stdout is not None
    holder.stdin.close()
    holder.stdout.close()
    try:
        holder.wait(5)
    except subprocess.TimeoutExpired:
        holder.kill()
        holder.wait()


class Namespace:
    """A network namespace with nothing but loopback; it ends when this object, or this process, does."""

    def __init__(self) -> None:
        # `cat` holds the namespace, and goes when the other end of its standard input is closed.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat >/dev/null"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"up\n":
            self.close()
            raise RuntimeError("no network namespace: see the error of unshare or ip above")
        self.pid = self._holder.pid

    def command(self, words: Sequence[str]) -> List[str]:
        """The command line that runs `words` inside."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *words]

    def call(self, function: Callable[[], T]) -> T:
        """Call in a thread that is inside; the sockets and threads it makes stay there."""
        result: List[T] = []
        failure: List[BaseException] = []

        def inside() -> None:
            try:
                with open(f"/proc/{self.pid}/ns/net") as stream:
                    libc = ctypes.CDLL(None, use_errno=True)
                    if libc.setns(stream.fileno(), CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "setns")
                result.append(function())
            except BaseException as error:  # handed to the caller below
                failure.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return result[0]

    def close(self) -> None:
        """End it."""
        end_holder(self._holder)

    def __enter__(self) -> "Namespace":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
