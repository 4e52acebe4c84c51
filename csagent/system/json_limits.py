"""JSON of unknown origin within a budget: a few kilobytes of it can cost seconds, or fifty times its size.

Whole numbers have an end (the time to read one grows with the square of its digits before Python 3.11),
numbers are finite, and the arrays, objects and members are counted before anything is built.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False  # status and query use this; they do without typing
if TYPE_CHECKING:
    from typing import Any

ITEMS_LIMIT = 100_000  # each costs about 60 bytes and more
DIGITS_LIMIT = 18


def loads(raw: bytes, items: int = ITEMS_LIMIT) -> Any:
    """Read a JSON document of at most so many arrays, objects and members.

    Raises:
        ValueError: it is none, or past the budget.
        RecursionError: it is nested deeper than Python reads.
    """
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > items:
        raise ValueError("too many items")
    # UTF-8 and nothing else: json guesses other encodings, in which those bytes do not count.
    return json.loads(raw.decode("utf-8"), parse_int=_whole, parse_float=_real, parse_constant=_constant)


def _whole(text: str) -> int:
    if len(text) > DIGITS_LIMIT:
        raise ValueError("a number with too many digits")
    return int(text)


def _real(text: str) -> float:
    number = float(text)
    if not abs(number) < float("inf"):
        raise ValueError("a number that is not finite")
    return number


def _constant(_text: str) -> float:
    raise ValueError("a number that is not finite")
