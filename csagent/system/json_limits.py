"""JSON of unknown origin within a budget: a few kilobytes of it can cost seconds, or fifty times its size.

Whole numbers have an end (the time to read one grows with the square of its digits before Python 3.11),
numbers are finite, and the arrays, objects and members are counted before anything is built.
"""

from __future__ import annotations

import json
import re

TYPE_CHECKING = False  # status and query use this; they do without typing
if TYPE_CHECKING:
    from typing import Any

ITEMS_LIMIT = 100_000  # each costs about 60 bytes and more
DIGITS_LIMIT = 18

_QUOTE = ord('"')
_TEXTS_AND_ITEMS = re.compile(rb'"[^"]*"|[,\[{]')


def loads(raw: bytes, items: int = ITEMS_LIMIT) -> Any:
    """Read a JSON document of at most so many arrays, objects and members.

    What stands in a text is none: a key's comment, or a variable that is a table, has any number of commas.

    Raises:
        ValueError: it is none, or past the budget.
        RecursionError: it is nested deeper than Python reads.
    """
    if _items(raw) > items:
        bare = raw.replace(rb"\\", b"").replace(rb"\"", b"")  # each quote left begins or ends a text
        tokens = _TEXTS_AND_ITEMS.finditer(bare)
        if bare.count(b'"') > 4 * (items + 1) or sum(one.group()[0] != _QUOTE for one in tokens) > items:
            raise ValueError("too many items")
    # UTF-8 and nothing else: json guesses other encodings, in which those bytes do not count.
    return json.loads(raw.decode("utf-8"), parse_int=_whole, parse_float=_real, parse_constant=_constant)


def _items(raw: bytes) -> int:
    return raw.count(b",") + raw.count(b"[") + raw.count(b"{")


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
