"""A jailed child as its parent sees it: what it says ahead of its end, and its answer or why it has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, Optional

from csagent.console import one_line
from csagent.errors import JailError
from csagent.system.child_process import ChildProcess

if TYPE_CHECKING:
    from csagent.sandbox.broker import Connected

# What the children are called in messages.
ROUTER_JOB = "router reader"
SCOUT_JOB = "drive scout"
DRIVE_JOB = "drive reader"

REASON_LIMIT = 200  # characters


class Child(ChildProcess):
    """A running child of `csagent.sandbox.jail.start`."""

    _last: Any = None
    connected: Optional["Connected"] = None  # what its broker says, where it has one

    def _reap(self) -> None:
        super()._reap()
        if self.connected is not None:
            self.connected.close()

    def collect(self) -> Iterator[Any]:
        for document in super().collect():
            self._last = document
            yield document

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
