"""Virtual routers that keep requests waiting, so that a test sees an order and need not look at a clock."""

from __future__ import annotations

import threading
from typing import Any, List, Sequence, Tuple

from csagent.lab.router import LabRouter

HOUR = 3600.0  # seconds: longer than a test may take
PATIENCE = 600.0  # seconds, for the requests that a round still needs; then it ends without them


class Held(LabRouter):
    """Answers so many requests, on both ports; those that come later wait until it stops."""

    def __init__(self, *args: Any, answers: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.asked = 0
        self._answers = answers
        self._count = threading.Lock()
        self._over = threading.Event()

    def hold(self) -> None:
        """Answer nothing any more."""
        with self._count:
            self._answers = self.asked

    def _take(self) -> None:
        with self._count:
            self.asked += 1
            held = self.asked > self._answers
        if held:
            self._over.wait(HOUR)

    def page(self, path: str, source: str) -> Tuple[int, bytes]:
        self._take()
        return super().page(path, source)

    def answer(self, request: str, source: str) -> Tuple[str, str]:
        self._take()
        return super().answer(request, source)

    def stop(self) -> None:
        self._over.set()
        super().stop()


class Rounds(LabRouter):
    """Answers the metadata requests of a round when all of them wait at once.

    Who asks for less at once gets his answers late, and `together`, how many waited in each round, tells it.
    Whatever comes after the last round is answered at once, and is in `late`.

    Args:
        sizes: how many requests each round has.
    """

    def __init__(self, *args: Any, sizes: Sequence[int], **options: Any) -> None:
        super().__init__(*args, **options)
        self.together: List[int] = []
        self._waiting: List[str] = []
        self.late: List[str] = []  # paths that were asked for after the last round
        self._sizes = list(sizes)
        self._turn = threading.Condition()

    def page(self, path: str, source: str) -> Tuple[int, bytes]:
        with self._turn:
            mine = len(self.together)
            if mine == len(self._sizes):
                self.late.append(path)
            else:
                self._waiting.append(path)
                if len(self._waiting) == self._sizes[mine]:
                    self._end_round()
                if not self._turn.wait_for(lambda: len(self.together) > mine, PATIENCE):
                    self._end_round()
        return super().page(path, source)

    def _end_round(self) -> None:
        self.together.append(len(self._waiting))
        self._waiting = []
        self._turn.notify_all()
