"""SIGTERM while a step is carried out: what it has done is recorded before this process ends.

systemd sends it when the machine goes down, to this process alone (KillMode=process). A script whose last
command reboots the machine has then ended, or is about to, and is to be recorded as it ended; one that goes
on is interrupted (field/user-data#U64).
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import Iterator, NoReturn

# Not seconds: where the processor is scarce, this process and the script get it as rarely, in one cgroup, and
# from `reboot` to the script's end takes less of it than one look. On an idle machine they are five seconds,
# by which a script that goes on holds up the shutdown.
LOOKS = 20


class Stop:
    """Whether this process was asked to stop."""

    def __init__(self) -> None:
        self.asked = False  # no further step is to begin: what has not begun runs at the next boot
        self._looks = 0

    def goes_on(self) -> bool:
        """Ask at each look at a script that has not ended: whether it was asked to and will not."""
        self._looks += self.asked
        return self._looks > LOOKS

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """For as long as the block, SIGTERM is noted and does not end this process."""

        def note(_number: int, _frame: object) -> None:
            self.asked = True

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @staticmethod
    def give_way() -> NoReturn:
        """End as SIGTERM would have ended it."""
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(128 + signal.SIGTERM)  # it is blocked
