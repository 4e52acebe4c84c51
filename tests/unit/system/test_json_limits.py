"""JSON of unknown origin: what costs too much is refused before it is built, and nothing else is."""

from __future__ import annotations

import json
import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csagent.system.json_limits import ITEMS_LIMIT, loads

MANY = "," * (ITEMS_LIMIT + 1)


@pytest.mark.parametrize(
    "value",
    [
        {"key": f"ssh-ed25519 AAAA {MANY}"},
        {"table": "1,2;3" * ITEMS_LIMIT},
        {"json": json.dumps([0] * (ITEMS_LIMIT + 1))},
        {"quoted": '",' * ITEMS_LIMIT, "windows": "\\" + MANY + "\\"},
        ["{[" * ITEMS_LIMIT, '\\",\\\\"'],
    ],
    ids=["commas", "csv", "json", "quotes", "brackets"],
)
def test_what_stands_in_a_text_is_no_item(value: Any) -> None:
    """A variable may be a table, and a key's comment anything: it is one member, however long."""
    assert loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"[" + b"0," * (ITEMS_LIMIT + 1) + b"0]",
        b"[" + b'"",' * (ITEMS_LIMIT + 1) + b'""]',
        b'{"a":"' + MANY.encode() + b'","b":[' + b"{}," * ITEMS_LIMIT + b"{}]}",
        b'["\\\\",' + b"0," * (ITEMS_LIMIT + 1) + b'"\\\\"]',
        b'["\\"",' + b"0," * (ITEMS_LIMIT + 1) + b'"\\""]',
        b'"' * (4 * ITEMS_LIMIT + 8) + MANY.encode(),
    ],
    ids=["numbers", "texts", "beside-a-text", "behind-a-backslash", "behind-a-quote", "quotes"],
)
def test_a_bomb_is_refused_before_it_is_built(raw: bytes) -> None:
    """Also where a text before it ends in what could hide the end of that text."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="too many items"):
            loads(raw)
        assert tracemalloc.get_traced_memory()[1] < 8 * len(raw) + (8 << 20)
    finally:
        tracemalloc.stop()


@given(st.lists(st.sampled_from(['"', "\\", ",", "[", "]", "{", "}", ":", "a", "\\u0022"]), max_size=40))
def test_what_is_built_is_within_the_budget(parts: "list[str]") -> None:
    """Of any text whatever: what was not refused has no more members than were allowed."""
    limit = random.Random(len(parts)).randint(0, 6)
    for text in ("".join(parts), json.dumps({"a": "".join(parts), "b": parts})):
        try:
            built = loads(text.encode(), limit)
        except ValueError:
            continue
        assert _size(built) <= 2 * limit + 1


def _size(value: Any) -> int:
    """Arrays, objects and members."""
    if isinstance(value, dict):
        return 1 + sum(1 + _size(one) for one in value.values())
    return 1 + sum(1 + _size(one) for one in value) if isinstance(value, list) else 0
