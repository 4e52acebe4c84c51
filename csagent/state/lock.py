"""The lock under which the machine is changed: one csagent at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import select
from contextlib import contextmanager
from typing import TYPE_CHECKING, Callable, Iterator, Optional, Tuple

from csagent.errors import CsagentError, Interrupted
from csagent.state.applied import STATE
from csagent.system.files import sign

if TYPE_CHECKING:
    from csagent.log import Say
    from csagent.system.process import CancelFd
    from csagent.system.seams import System

RUN = "/run/csagent"
LOCK = RUN + "/lock"
PATIENCE = 60.0  # seconds; a pass that changes something takes a few, unless it is starved
LONGEST = 3600.0  # seconds, of which a starved pass has as many
A_WHILE = 10.0  # seconds of which nobody has to be told
PAUSE = 0.05
DENIED = (errno.EACCES, errno.EPERM)


@contextmanager
def hold(
    system: "System",
    cancel: Optional["CancelFd"] = None,
    *,
    say: "Optional[Say]" = None,
    takes: Callable[[float], None] = lambda seconds: None,
) -> Iterator[None]:
    """Hold the lock; wait for whoever holds it as long as that one goes on, and a minute for one that hangs.

    Args:
        system: the machine, or a tree.
        cancel: ends the wait.
        say: given by who has nobody to do later what it is there for: it waits however long it takes, and
            this is told so once.
        takes: told that the wait goes on, for so many seconds at most before it is told again.

    Raises:
        CsagentError: somebody else held it all the time, or it cannot be made.
        Interrupted: `cancel` became readable while it waited.
    """
    try:
        path, descriptor = _open(system)
    except OSError as error:
        hint = "; this needs root" if error.errno in DENIED and os.geteuid() != 0 else ""
        raise CsagentError(f"cannot open {system.tree.shown(LOCK)}: {error.strerror}{hint}") from None
    try:
        if not _taken(descriptor):
            _wait(system, path, descriptor, cancel, say, takes)
        sign(descriptor, b"%d\n" % os.getpid())
        try:
            yield
        finally:
            sign(descriptor, b"")
    finally:
        os.close(descriptor)


def _wait(
    system: "System",
    path: str,
    descriptor: int,
    cancel: Optional["CancelFd"],
    say: "Optional[Say]",
    takes: Callable[[float], None],
) -> None:
    from csagent.system.slowness import Patience, family_seconds

    now = system.clock.monotonic()
    loud, holder = now + A_WHILE, _holder(descriptor)
    patience = Patience(holder, PATIENCE, now, LONGEST, family_seconds)
    while not _taken(descriptor):
        now = system.clock.monotonic()
        if say is not None:
            if now >= loud:
                say("another csagent is changing this machine: waiting for its end")
                loud = float("inf")
        elif now >= patience.ends:
            before, holder = holder, _holder(descriptor)
            if holder != before:
                patience = Patience(holder, PATIENCE, now, LONGEST, family_seconds)
            elif patience.over(now):
                raise CsagentError(
                    f"another csagent holds {system.tree.shown(path)}; try again when it is done"
                )
            takes(patience.ends - now)
        if select.select([cancel] if cancel is not None else [], [], [], PAUSE)[0]:
            raise Interrupted


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> int:
    """The process that holds the lock; -1, which is none, where nobody could write it down."""
    try:
        return int(os.pread(descriptor, 20, 0))
    except (OSError, ValueError):
        return -1


def _open(system: "System") -> Tuple[str, int]:
    """The lock file; where /run cannot hold one (read-only, full, something in the way), the state directory.

    A broken /run costs the record of the pass only: keys and passwords are still applied. Both are root's:
    whoever can open a file may lock it.
    """
    try:
        system.tree.mkdir(RUN, 0o755, durable=False)
        return LOCK, system.tree.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno in DENIED:
            raise
    system.tree.mkdir(STATE, 0o700)
    return STATE, system.tree.open(STATE, os.O_RDONLY | os.O_DIRECTORY)
