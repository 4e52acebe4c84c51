"""This process keeps what it has in memory to itself: passwords and user-data come through it."""

from __future__ import annotations

import resource

PR_SET_DUMPABLE = 4  # linux/prctl.h


def keep_memory_private() -> None:
    """No core dump, whatever the limits are and wherever cores go, and nobody but root looks into us.

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
