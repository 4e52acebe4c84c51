"""What hangs is ended, whatever it is at, and every thread's stack is told.

pytest-timeout ends a test from the main thread, which then cleans up: it may wait there again, for a thread
that hangs, and so may the interpreter at its end. CI would cut off all of it after its 90 minutes, without a
word.
"""

from __future__ import annotations

import faulthandler
import os
from typing import Iterator, Optional

import pytest

BEYOND = 300.0  # seconds that a test which was ended may clean up


class Hangs:
    """Ends this process where a test is not over, or the process after the last one, in time.

    Args:
        config: of the session.
        beyond: seconds after the test's own limit.
    """

    def __init__(self, config: pytest.Config, beyond: float = BEYOND) -> None:
        given = config.getoption("timeout", None)  # --timeout, whose 0 is none at all
        self._limit = float(config.getini("timeout") if given is None else given)
        self._beyond = beyond
        self._stream = os.fdopen(os.dup(2), "w")  # where nothing is captured

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        marker = item.get_closest_marker("timeout")
        self._arm(float(marker.args[0]) if marker is not None else self._limit)
        yield
        faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        self._arm(self._beyond)

    def _arm(self, seconds: Optional[float]) -> None:
        if seconds:
            faulthandler.dump_traceback_later(seconds + self._beyond, exit=True, file=self._stream)
