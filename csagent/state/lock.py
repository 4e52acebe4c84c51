"""The lock under which the machine is changed: one csagent at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import select
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator, Optional, Tuple

from csagent.errors import CsagentError, Interrupted
from csagent.state.applied import STATE

if TYPE_CHECKING:
    from csagent.system.process import CancelFd
    from csagent.system.seams import System

RUN = "/run/csagent"
LOCK = RUN + "/lock"
PATIENCE = 60.0  # seconds; a pass that changes something takes a few
PAUSE = 0.05
DENIED = (errno.EACCES, errno.EPERM)


@contextmanager
def hold(system: "System", cancel: Optional["CancelFd"] = None) -> Iterator[None]:
    """Hold the lock; wait for whoever holds it, at most `PATIENCE` seconds.

    Raises:
        CsagentError: somebody else held it all the time, or it cannot be made.
        Interrupted: `cancel` became readable while it waited.
    """
    try:
        path, descriptor = _open(system)
    except OSError as error:
        hint = "; this needs root" if error.errno in DENIED and os.geteuid() != 0 else ""
        raise CsagentError(f"cannot open {system.tree.shown(LOCK)}: {error.strerror}{hint}") from None
    shown = system.tree.shown(path)
    try:
        end = system.clock.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if system.clock.monotonic() >= end:
                    raise CsagentError(f"another csagent holds {shown}; try again when it is done") from None
            if select.select([cancel] if cancel is not None else [], [], [], PAUSE)[0]:
                raise Interrupted
        yield
    finally:
        os.close(descriptor)


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
