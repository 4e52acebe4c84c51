"""A reading child that loads its libraries while there is nobody to ask yet, and then is told to begin.

`import requests` takes longer than all else in a pass: it is done while the DHCP client waits for its lease.
"""

from __future__ import annotations

import os
from typing import Callable, NoReturn, Optional

from csagent import jail
from csagent.child import Child, fork
from csagent.errors import JailError

LINE = 64  # bytes of a moment on the monotonic clock


class Warm:
    """Such a child. It ends by itself when its parent does."""

    def __init__(self, child: Child, telling: int) -> None:
        self._child = child
        self._telling = telling

    def begin(self, deadline: float) -> Optional[Child]:
        """Have it do its job by a moment on the monotonic clock; None where it has ended already."""
        try:
            os.write(self._telling, b"%r\n" % deadline)
        except OSError:
            self.drop()
            return None
        os.close(self._telling)
        return self._child

    def drop(self) -> None:
        """It is not needed."""
        os.close(self._telling)
        self._child.kill()


def start(
    name: str, load: Callable[[], None], job: Callable[[float], jail.Job], kind: jail.Job
) -> Optional[Warm]:
    """Fork it; None where there is no process for it, and nothing lost but time.

    Args:
        name: what to call it in messages.
        load: imports, in the child.
        job: makes the job of the deadline, in the child.
        kind: a job with the same limits and identity.
    """
    hearing, telling = os.pipe()

    def obtain() -> jail.Job:
        load()
        told = os.read(hearing, LINE)
        if not told:
            os._exit(0)
        os.close(hearing)
        return job(float(told))

    def live(writing: int, parent: int) -> NoReturn:
        jail.live_and_die(obtain, writing, parent, hearing)

    try:
        pid, answers = fork(name, live)
    except (JailError, OSError):
        os.close(telling)
        return None
    finally:
        os.close(hearing)
    return Warm(Child(pid, answers, kind.limits.answer, name, kind.identity), telling)
