"""A jailed child as its parent sees it: what it says ahead of its end, and its answer or why it has none."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Iterator, Optional

from csagent.console import one_line
from csagent.errors import JailError
from csagent.system.child_process import ChildProcess
from csagent.system.slowness import Patience, processor_seconds, slowness

if TYPE_CHECKING:
    from csagent.sandbox.broker import Connected

# What the children are called in messages.
ROUTER_JOB = "router reader"
SCOUT_JOB = "drive scout"
DRIVE_JOB = "drive reader"

REASON_LIMIT = 200  # characters
READY = {"ready": True}  # what a child says when it is prepared, and before it reads anything
PREPARATION = 20.0  # seconds, for libraries and devices
ROOM = 4.0  # times that a child which reads may be given its time: what reads may be in a stranger's hands


class Child(ChildProcess):
    """A running child of `csagent.sandbox.jail.start`."""

    ready = False  # it is prepared, and works
    slowness = 1.0  # of this machine, as its preparation showed it (`csagent.system.slowness`)
    _last: Any = None
    connected: Optional["Connected"] = None  # what its broker says, where it has one

    def _reap(self) -> None:
        super()._reap()
        if self.connected is not None:
            self.connected.close()

    def __init__(self, *words: Any) -> None:
        super().__init__(*words)
        self._began = time.monotonic()

    def collect(self) -> Iterator[Any]:
        for document in super().collect():
            if not self.ready and document == READY:
                self.ready = True
                elapsed = time.monotonic() - self._began
                self.slowness = slowness(elapsed, processor_seconds(self.pid) or elapsed)
                continue
            self._last = document
            yield document

    def time_to_prepare(self) -> Patience:
        """How long it is waited for until it is `ready`."""
        return Patience(self.pid, PREPARATION, time.monotonic())

    def time_to_work(self, seconds: float) -> Patience:
        """How long it is waited for from now on; `seconds` is for a machine that is not starved."""
        stretched = seconds * self.slowness
        return Patience(self.pid, stretched, time.monotonic(), ROOM * stretched)

    def result(self) -> Any:
        """The answer of a child that is `finished`.

        Raises:
            JailError: it died, or its work raised; the message carries nothing it read.
        """
        if isinstance(self._last, dict) and set(self._last) == {"died"}:
            raise JailError(f"{self.name}: {one_line(str(self._last['died']), REASON_LIMIT)}")
        if isinstance(self._last, dict) and set(self._last) == {"done"}:
            return self._last["done"]
        raise JailError(f"{self.name}: {self.ending()}")
