"""A few daemon threads, bounded by a deadline.

`concurrent.futures` joins its threads when the interpreter ends, so a name look-up that hangs in libc
would hold up the child; these are left behind. Stacks are small because the reading child's address
space is limited.
"""

from __future__ import annotations

import threading
import time
from typing import Callable, Dict, List, Optional, Sequence, TypeVar

STACK_BYTES = 512 * 1024
SLACK_SECONDS = 0.25  # a socket that ends at the deadline still has to report that it did

T = TypeVar("T")
R = TypeVar("R")


def start(task: Callable[[], None]) -> bool:
    """Run `task` in a daemon thread; False where the system has no thread to give."""
    previous = threading.stack_size(STACK_BYTES)
    try:
        threading.Thread(target=task, daemon=True).start()
    except RuntimeError:
        return False
    finally:
        threading.stack_size(previous)
    return True


def in_parallel(
    work: Callable[[T], R], items: Sequence[T], threads: int, deadline: float
) -> List[Optional[R]]:
    """Apply `work`, which raises nothing, to all items, at most `threads` at a time, in their order.

    Returns:
        One result per item; None where there was none at the deadline (monotonic clock).
    """
    results: Dict[int, R] = {}
    done = threading.Condition()
    numbers = iter(range(len(items)))
    running = 0

    def worker() -> None:
        nonlocal running
        try:
            while True:
                with done:
                    number = next(numbers, None)
                if number is None:
                    return
                result = work(items[number])
                with done:
                    results[number] = result
        finally:
            with done:
                running -= 1
                done.notify_all()

    for _ in range(min(threads, len(items))):
        with done:
            running += 1
        if not start(worker):
            with done:
                running -= 1
            break
    with done:
        nobody = running == 0
    if nobody and items:
        with done:
            running += 1
        worker()
    with done:
        while running:
            left = deadline + SLACK_SECONDS - time.monotonic()
            if left <= 0:
                break
            done.wait(left)
        return [results.get(number) for number in range(len(items))]
