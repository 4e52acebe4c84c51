"""Tests that mostly wait, told side by side: each is still one test with a result of its own.

A story is a plain function, which the module's fixture `stories` gives what it needs. The first test of a
module that wants its result begins all that were selected, as many at a time as there are processors.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Dict, List, Sequence, Tuple

import pytest

Story = Callable[..., None]
AT_A_TIME = max(2, os.cpu_count() or 1)


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
    """

    def __init__(
        self,
        items: List[pytest.Item],
        tell: Callable[[Story, str, Path], None],
        directory: Callable[[], Path],
    ) -> None:
        self._items, self._tell, self._directory = items, tell, directory
        self._pool = ThreadPoolExecutor(AT_A_TIME)
        self._futures: Dict[Tuple[Story, str], "Future[None]"] = {}

    def result(self, story: Story, kind: str) -> None:
        """Wait for a story's end; what it raised is raised here."""
        if not self._futures:
            for item in self._items:
                found = getattr(getattr(item, "function", None), "story", None)
                if found is not None and found.__module__ == story.__module__:
                    one = (found, str(item.callspec.params["kind"]))  # type: ignore[attr-defined]
                    self._futures[one] = self._pool.submit(self._tell, *one, self._directory())
        self._futures[(story, kind)].result()

    def close(self) -> None:
        """Begin no more, and wait for those under way."""
        self._pool.shutdown(cancel_futures=True)
