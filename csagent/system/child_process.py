"""A forked process that answers with lines of JSON: its parent waits for it with select, and reaps it.

Whoever forks waits: for the child, and for all of its process group, which becomes the parent's when the
child has ended.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

from csagent.errors import JailError
from csagent.system.files import write_all
from csagent.system.process import adopt_orphans
from csagent.system.systemd import SIGNALS

TYPE_CHECKING = False  # status, query and the resident daemon do without typing
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, List, NoReturn, Optional, Tuple

LINES_LIMIT = 1000  # of one child
ITEMS_LIMIT = 300_000  # arrays, objects and members of one line; each costs some 70 bytes
REAP_SECONDS = 2.0
PIECE = 65536


def fork(name: str, live: Callable[[int, int], NoReturn]) -> Tuple[int, int]:
    """Fork a child that leads a process group of its own; its process id, and where its answer comes from.

    SIGTERM, SIGINT and SIGHUP are blocked in the child until it unblocks them: a handler that it inherits
    would note them for its parent.

    Args:
        name: what to call it in messages.
        live: the child's life, given the descriptor for its answer and the process id of its parent.

    Raises:
        JailError: there is no process for it.
    """
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    adopt_orphans()
    reading, writing = os.pipe()
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            live(writing, parent)
    except OSError as error:
        os.close(reading)
        raise JailError(f"no process for the {name} ({error.strerror})") from None
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        os.close(writing)
    try:
        os.setpgid(pid, pid)
    except (ProcessLookupError, PermissionError):
        pass  # it has done so itself, or is gone
    return pid, reading


def say(writing: int, document: Any) -> None:
    """Answer with one line: the child's side."""
    text = json.dumps(document, ensure_ascii=False)
    write_all(writing, text.encode("utf-8", "replace") + b"\n")


class ChildProcess:
    """A running child.

    Args:
        pid: its process id.
        descriptor: where its answer comes from; belongs to this object from now on.
        name: what to call it in messages.
        limit: bytes that it may answer with in all.
        user: the user that it becomes, where that is another; only as this one may it be ended by root
            without CAP_KILL, as our unit makes us.
    """

    def __init__(self, pid: int, descriptor: int, name: str, limit: int, user: Optional[int] = None) -> None:
        self.pid = pid
        self.name = name
        self.finished = False
        self._user = user
        self._descriptor = descriptor
        self._limit = limit
        self._received = 0  # bytes
        self._lines = 0
        self._rest: List[bytes] = []  # pieces of a line that is not whole yet
        self._status: Optional[int] = None
        os.set_blocking(descriptor, False)

    def fileno(self) -> int:
        """The descriptor that becomes readable when there is news."""
        return self._descriptor

    def collect(self) -> Iterator[Any]:
        """The documents that have arrived since the last call; at its end it is `finished`, and reaped.

        One after the other, so that what a child says in vain is not kept; the caller takes them all.

        Raises:
            JailError: a line is not JSON or past its budget, or there is too much of it; the child is ended.
        """
        while not self.finished:
            try:
                piece = os.read(self._descriptor, PIECE)
            except BlockingIOError:
                return
            if not piece:
                self._reap()
                return
            self._received += len(piece)
            try:
                yield from self._parse(piece)
            except JailError:
                self.kill()
                raise

    def drain(self) -> None:
        """Take what has arrived, and keep nothing of it; raises as `collect`."""
        for _document in self.collect():
            pass

    def _parse(self, piece: bytes) -> Iterator[Any]:
        """The lines that are whole by now."""
        from csagent.system import json_limits

        *ends, rest = piece.split(b"\n")
        self._lines += len(ends)
        if self._received > self._limit:
            raise JailError(f"{self.name}: answered more than {self._limit} bytes")
        if self._lines > LINES_LIMIT:
            raise JailError(f"{self.name}: answered more than {LINES_LIMIT} lines")
        for end in ends:
            line = b"".join((*self._rest, end))
            self._rest = []
            try:
                document = json_limits.loads(line, ITEMS_LIMIT)
            except (ValueError, RecursionError):
                raise JailError(f"{self.name}: answered something that is not JSON") from None
            yield document
        if rest:
            self._rest.append(rest)

    def signal(self, number: int) -> None:
        """Send a signal to the child alone, unless it is `finished`."""
        if self.finished:
            return
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    def kill(self) -> None:
        """End the child and everything it started, and reap it."""
        if not self.finished:
            self._reap()

    def _reap(self) -> None:
        os.close(self._descriptor)
        self.finished = True
        self._end_group()
        end = time.monotonic() + REAP_SECONDS
        left = {self.pid, -self.pid}  # the child, then its group: what it has started is ours once it is gone
        while left:
            for one in sorted(left, reverse=True):
                try:
                    pid, status = os.waitpid(one, os.WNOHANG)
                except ChildProcessError:
                    left.discard(one)
                    continue
                if pid == self.pid:
                    self._status = status
                if pid == one:
                    left.discard(one)
            if not left or time.monotonic() >= end:
                return  # what hangs in the kernel, on a dead disk say, ends when that does
            time.sleep(0.0005)

    def _end_group(self) -> None:
        if self._send_kill() or self._user is None:
            return
        ours = os.geteuid()
        os.seteuid(self._user)
        try:
            self._send_kill()
        finally:
            os.seteuid(ours)

    def _send_kill(self) -> bool:
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

    def ending(self) -> str:
        """How a child that is `finished` has ended, for a message."""
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
