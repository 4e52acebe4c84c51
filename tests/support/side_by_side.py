"""Tests that mostly wait, told side by side: each is still one test with a result of its own.

A story is a plain function, which the module's fixture `stories` gives what it needs. The first test of a
module that wants its result begins all that were selected, as many at a time as there are processors. That
fixture is the session's: one that ended with its module would tell all of them anew each time that tests of
other modules came between.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Overdue
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple

import pytest

Story = Callable[..., None]
AT_A_TIME = max(2, os.cpu_count() or 1)
LONGEST = 900.0  # seconds that one may be waited for; a minute is long
ENDING = 120.0  # seconds, in all, for those that are under way at the end


def told_of(kinds: Sequence[str]) -> Callable[[Story], Callable[..., None]]:
    """Makes a test of a story for each of these kinds; the module needs a fixture `stories`."""

    def make(story: Story) -> Callable[..., None]:
        @pytest.mark.parametrize("kind", kinds)
        def test(kind: str, stories: "Stories") -> None:
            stories.result(story, kind)

        test.__name__, test.__doc__, test.__module__ = story.__name__, story.__doc__, story.__module__
        test.story = story  # type: ignore[attr-defined]
        return test

    return make


class Stories:
    """Those of the selected tests.

    Args:
        items: of the session.
        tell: calls a story with its kind and what else it needs.
        directory: makes a new directory.
        longest: seconds that the end of one is waited for, from when somebody wants it.
    """

    def __init__(
        self,
        items: List[pytest.Item],
        tell: Callable[[Story, str, Path], None],
        directory: Callable[[], Path],
        longest: float = LONGEST,
    ) -> None:
        self._items, self._tell, self._directory, self._longest = items, tell, directory, longest
        self._futures: Dict[Tuple[Story, str], "Future[None]"] = {}
        self._waiting: "queue.Queue[Tuple[Story, str, Path]]" = queue.Queue()
        # Not of an executor, whose threads the interpreter waits for at its end, also where they hang.
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(AT_A_TIME)]

    def _work(self) -> None:
        while True:
            try:
                story, kind, directory = self._waiting.get_nowait()
            except queue.Empty:
                return
            future = self._futures[(story, kind)]
            if future.set_running_or_notify_cancel():
                try:
                    self._tell(story, kind, directory)
                except BaseException as error:  # raised where its result is wanted
                    future.set_exception(error)
                else:
                    future.set_result(None)

    def _begin(self, module: str) -> None:
        for item in self._items:
            found = getattr(getattr(item, "function", None), "story", None)
            if found is not None and found.__module__ == module:
                one = (found, str(item.callspec.params["kind"]))  # type: ignore[attr-defined]
                if one not in self._futures:
                    self._futures[one] = Future()
                    self._waiting.put((*one, self._directory()))
        for thread in self._threads:
            thread.start()

    def result(self, story: Story, kind: str) -> None:
        """Wait for a story's end; what it raised is raised here."""
        if not self._futures:
            self._begin(story.__module__)
        try:
            self._futures[(story, kind)].result(self._longest)
        except Overdue:
            raise AssertionError(
                f"no end after {self._longest:g} s; under way: {self._under_way()}"
            ) from None

    def _under_way(self) -> str:
        running = [one for one, future in self._futures.items() if future.running()]
        return ", ".join(f"{story.__name__}[{kind}]" for story, kind in running) or "nothing"

    def close(self, seconds: float = ENDING) -> None:
        """Begin no more, and wait for those under way.

        Raises:
            RuntimeError: one of them hangs.
        """
        for future in self._futures.values():
            future.cancel()
        end = time.monotonic() + seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, end - time.monotonic()))
        if any(thread.is_alive() for thread in self._threads):
            raise RuntimeError(f"no end after {seconds:g} s: {self._under_way()}")
