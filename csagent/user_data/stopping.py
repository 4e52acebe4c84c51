"""SIGTERM while a script runs: a script whose last command reboots the machine is to be recorded as it ended.

`reboot` returns at once, and systemd stops the unit before the script's end is seen. So the script is given a
moment; one that goes on beyond it is interrupted (field/user-data#U64). With KillMode=process it is not told.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator, NoReturn, Optional

if TYPE_CHECKING:
    from csagent.system.seams import Clock

MOMENT = 5.0  # seconds


class Stop:
    """Whether this process was asked to stop. `asked` is set while a script was waited for."""

    def __init__(self, clock: "Clock") -> None:
        self._clock = clock
        self._since: Optional[float] = None

    @property
    def asked(self) -> bool:
        """No further step is to begin: what has not begun runs at the next boot."""
        return self._since is not None

    @property
    def overdue(self) -> bool:
        """The moment is over."""
        return self._since is not None and self._clock.monotonic() > self._since + MOMENT

    @contextmanager
    def put_off(self) -> Iterator[None]:
        """For as long as the block, SIGTERM is noted and does not end this process."""

        def note(_number: int, _frame: object) -> None:
            if self._since is None:
                self._since = self._clock.monotonic()

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
