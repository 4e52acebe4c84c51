"""Network namespaces without a name: nothing is left behind, however it ends.

`enter_own` moves this process into one of its own; a `Namespace` is one beside it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import threading
from typing import Any, Callable, List, Sequence, TypeVar

from csagent.errors import CsagentError

T = TypeVar("T")

# sched.h, linux/sockios.h, linux/if.h
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1

STARTING, CALL, ENDING = 60.0, 300.0, 60.0  # seconds, each for what takes none


def enter_own() -> None:
    """From here on this process is in a network of its own, with nothing but loopback in it.

    An ordinary user gets a user namespace too, which Linux gives to programs of one thread only.

    Raises:
        CsagentError: the kernel or its administrator does not allow it.
    """
    user, group, root = os.geteuid(), os.getegid(), os.geteuid() == 0
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET if root else CLONE_NEWNET | CLONE_NEWUSER) != 0:
        reason = os.strerror(ctypes.get_errno())
        hint = "" if root else "; run it as root, or allow user namespaces (kernel.unprivileged_userns_clone,"
        hint += "" if root else " kernel.apparmor_restrict_unprivileged_userns)"
        raise CsagentError(f"no network namespace of its own: {reason}{hint}")
    try:
        if not root:
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"0 {user} 1")
            _write("/proc/self/gid_map", f"0 {group} 1")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
    except OSError as error:
        raise CsagentError(f"the network namespace cannot be set up: {error.strerror}") from None


def _write(path: str, text: str) -> None:
    with open(path, "w") as stream:
        stream.write(text)


def end_holder(holder: "subprocess.Popen[Any]") -> None:
    """End what holds namespaces until its input ends, or by force: --kill-child takes the rest along."""
    assert holder.stdin is not None and holder.stdout is not None  # noqa: S101
    holder.stdin.close()
    holder.stdout.close()
    try:
        holder.wait(5)
    except subprocess.TimeoutExpired:
        holder.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel
            holder.wait(ENDING)


class Namespace:
    """A network namespace with nothing but loopback (root only); it ends with this object or this process."""

    def __init__(self) -> None:
        # `cat` holds the namespace, and goes when the other end of its standard input is closed.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat >/dev/null"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None  # noqa: S101
        told = select.select([self._holder.stdout], [], [], STARTING)[0]
        if not told or os.read(self._holder.stdout.fileno(), 16) != b"up\n":
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

        thread = threading.Thread(target=inside, daemon=True)
        thread.start()
        thread.join(CALL)
        if thread.is_alive():
            raise CsagentError(f"what was called in a network namespace has not ended after {CALL:g} s")
        if failure:
            raise failure[0]
        return result[0]

    def close(self) -> None:
        """Terminate the process that holds the namespace, and wait for it."""
        end_holder(self._holder)

    def __enter__(self) -> "Namespace":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
