"""What a process does about itself and its parent: memory, end, input, and what ends its waits."""

from __future__ import annotations

import os
import resource
import signal

TYPE_CHECKING = False  # the resident process does without typing
if TYPE_CHECKING:
    from typing import Protocol

    class CancelFd(Protocol):
        """Something that ends a wait: its descriptor is readable when it is time."""

        def fileno(self) -> int:
            """The descriptor that becomes readable when this is cancelled."""
            ...


# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36


def die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Have this process signalled when its parent ends; a fork of it does not inherit that.

    Args:
        parent: the process id of the parent: one that has ended already ends this process now.
        number: the signal.
    """
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)  # the parent died before the line above could tell us


def adopt_orphans() -> None:
    """Have what our children leave behind become ours, to be waited for, whatever process 1 is.

    In a container that may be an application, or `sleep`, which waits for nobody: a process that has ended
    and is not waited for keeps its number, and counts, for good.
    """
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def wait_for_orphans() -> None:
    """Let go of every child that has ended: for a process that has none of its own under way."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass  # there is none


def open_nothing() -> int:
    """A descriptor from which nothing comes: /dev/null, else an end of a pipe that nobody writes to.

    A container or a chroot may have an empty /dev. What is written to such a pipe's end is an error (EBADF).
    """
    try:
        return os.open(os.devnull, os.O_RDWR)
    except OSError:
        reading, writing = os.pipe()
        os.close(writing)
        return reading


def keep_memory_private() -> None:
    """No core dump, whatever the limits are and wherever cores go, and no debugger but root's.

    A core that the kernel pipes to a program (systemd-coredump, apport) is made although RLIMIT_CORE is 0
    (core(5)); one of a process that is not dumpable never is. What we start inherits the limit, and what we
    fork both. Where neither can be had, the pass is worth more than the core.
    """
    import ctypes

    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (OSError, ValueError, AttributeError):
        return
