"""A child process as its parent sees it: its answer line by line, bounded, and its end."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any, Callable, List, NamedTuple, NoReturn, Optional, Protocol, Sequence, Tuple

from csagent.errors import JailError

# What the children are called in messages.
ROUTER_JOB = "router reader"
SCOUT_JOB = "drive scout"
DRIVE_JOB = "drive reader"

DOCUMENTS_LIMIT = 1000  # of one child
ITEMS_LIMIT = 300_000  # arrays, objects and members of one document; each costs some 70 bytes
REAP_SECONDS = 2.0


class Wake(Protocol):
    """Something that can end a wait: readable when it is time."""

    def fileno(self) -> int:
        """The descriptor to wait for."""
        ...


class Identity(NamedTuple):
    """Who a child becomes."""

    uid: int
    gid: int
    groups: Sequence[int] = ()


def fork(name: str, live: Callable[[int, int], NoReturn]) -> Tuple[int, int]:
    """Fork a child that leads a process group of its own; its process id, and where its answer comes from.

    Args:
        name: what to call it in messages.
        live: the child's life, given where its answer goes and the process id of its parent.

    Raises:
        JailError: there is no process for it.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    reading, writing = os.pipe()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise JailError(f"{name}: no process for it ({error.strerror})") from None
    if pid == 0:
        live(writing, parent)
    os.close(writing)
    try:
        os.setpgid(pid, pid)
    except (ProcessLookupError, PermissionError):
        pass  # it has done so itself, or is gone
    return pid, reading


class Child:
    """A running child: its pipe can be waited for with select, its answer is collected as it comes."""

    def __init__(
        self, pid: int, descriptor: int, limit: int, name: str, identity: Optional[Identity] = None
    ) -> None:
        self.pid = pid
        self.name = name
        self._identity = identity
        self._descriptor = descriptor
        self._limit = limit
        self._heard = 0  # bytes
        self._line: List[bytes] = []  # pieces of one that is not whole yet
        self._count = 0
        self._documents: List[Any] = []  # the first and the newest
        self._nonsense = False
        self._status: Optional[int] = None
        self.finished = False
        os.set_blocking(descriptor, False)

    def fileno(self) -> int:
        """The descriptor that becomes readable when there is news."""
        return self._descriptor

    def collect(self) -> bool:
        """Take what has arrived; True once the child is done (and reaped)."""
        while not self.finished:
            try:
                piece = os.read(self._descriptor, 65536)
            except BlockingIOError:
                return False
            self._heard += len(piece)
            self._take(piece)
            if not piece:
                self._reap()
            elif self._heard > self._limit or self._count > DOCUMENTS_LIMIT:
                self.kill()
                what = f"{self._limit} bytes" if self._heard > self._limit else f"{DOCUMENTS_LIMIT} lines"
                raise JailError(f"{self.name}: answered more than {what}")
        return True

    def _take(self, piece: bytes) -> None:
        """Parse the lines that are whole by now, each once: a child may say as many as it likes."""
        from csagent.system import json_limits

        *ends, rest = piece.split(b"\n")
        for end in ends[: DOCUMENTS_LIMIT + 1]:
            line = b"".join((*self._line, end))
            self._line = []
            self._count += 1
            try:
                document = json_limits.loads(line, ITEMS_LIMIT)
            except (ValueError, RecursionError):
                self._nonsense = True
                continue
            self._documents = [*self._documents[:1], document]
        if rest:
            self._line.append(rest)

    def _reap(self) -> None:
        os.close(self._descriptor)
        self.finished = True
        self._end_group()
        end = time.monotonic() + REAP_SECONDS
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = status
                return
            if time.monotonic() >= end:
                return  # it hangs in the kernel, on a dead disk say; it ends when that does
            time.sleep(0.0005)

    def _end_group(self) -> None:
        if self._signal() or self._identity is None:
            return
        # Root without CAP_KILL, as our unit makes it, ends another user's processes as that user only.
        ours = os.geteuid()
        os.seteuid(self._identity.uid)
        try:
            self._signal()
        finally:
            os.seteuid(ours)

    def _signal(self) -> bool:
        """SIGKILL to the group, and to the child should it have none yet; False where it may not."""
        allowed = True
        for end in (os.killpg, os.kill):
            try:
                end(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            except PermissionError:
                allowed = False
        return allowed

    def kill(self) -> None:
        """End the child and everything it started, at once."""
        if not self.finished:
            self._reap()

    def documents(self) -> List[Any]:
        """The first document said so far and the newest, where there are two.

        Raises:
            JailError: one that was said is not JSON, or past the budget.
        """
        if self._nonsense:
            raise JailError(f"{self.name}: answered something that is not JSON")
        return list(self._documents)

    def result(self) -> Any:
        """The last document of a child that is done.

        Raises:
            JailError: it died, or `work` raised; the message carries nothing it read.
        """
        documents = self.documents()
        if documents and isinstance(documents[-1], dict) and set(documents[-1]) == {"died"}:
            raise JailError(f"{self.name}: {str(documents[-1]['died'])[:200]}")
        if documents and isinstance(documents[-1], dict) and set(documents[-1]) == {"done"}:
            return documents[-1]["done"]
        raise JailError(f"{self.name}: {self._epitaph()}")

    def _epitaph(self) -> str:
        status = self._status
        if status is None:
            return "hangs in the kernel; left behind"
        if not os.WIFSIGNALED(status):
            return "ended without an answer"
        number = os.WTERMSIG(status)
        known = {
            signal.SIGXCPU: "used up its CPU time",
            signal.SIGKILL: "was killed",
            signal.SIGSEGV: "crashed",
            signal.SIGXFSZ: "tried to write a file",
        }
        return next((word for one, word in known.items() if one == number), f"died of signal {number}")
