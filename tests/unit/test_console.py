"""Text for a console of any width, with colour only where somebody sees it."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csagent.console import Console, one_line, safe, shorten


class Terminal(io.StringIO):
    """A stream that says it is a terminal without a size."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError


@pytest.mark.parametrize(
    ("environment", "stream", "colour"),
    [
        ({}, Terminal(), True),
        ({"NO_COLOR": "1"}, Terminal(), False),
        ({"NO_COLOR": ""}, Terminal(), True),
        ({"TERM": "dumb"}, Terminal(), False),
        ({}, io.StringIO(), False),
    ],
)
def test_colour_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, environment: "dict[str, str]", stream: io.StringIO, colour: bool
) -> None:
    """A terminal is coloured unless NO_COLOR is set to something or it is dumb; a pipe never is."""
    for name in ("NO_COLOR", "TERM", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    console = Console.of(stream)
    assert console.colour is colour and console.width == 80
    assert (console.paint("x", "good") != "x") is colour


@pytest.mark.parametrize(
    ("columns", "width"),
    [("60", 60), ("10", 40), ("9999", 160), ("x", 80), ("0", 80), ("\u00b2", 80), ("9" * 5000, 80)],
)
def test_width(monkeypatch: pytest.MonkeyPatch, columns: str, width: int) -> None:
    """COLUMNS counts, within reason."""
    monkeypatch.setenv("COLUMNS", columns)
    assert Console.of(io.StringIO()).width == width


@pytest.mark.parametrize(
    "char", ["\x1b", "\x9b", *"\u200b\u200e\u200f\u202a\u202e\u2066\u2069\u2028\ufeff", "\U000e0041"]
)
def test_what_steers_a_terminal_or_turns_a_line_round_is_not_printed(char: str) -> None:
    """Controls, those of writing direction, and what cannot be seen; letters of any language are."""
    assert safe(f"a{char}b \u05d0\u4e2d\u00e9") == "a?b \u05d0\u4e2d\u00e9"
    assert one_line(f"a{char}b") == "a b" and char not in shorten(f"a{char}b", 80)
    assert not any(char in line for line in Console().wrap(f"a{char}b"))


@given(st.text(max_size=200), st.integers(0, 20), st.integers(40, 80))
def test_wrapping_loses_nothing_and_fits(text: str, indent: int, width: int) -> None:
    """Whatever the text, lines fit and all its words are there, cut where they must be."""
    lines = Console(width).wrap(text, indent, "x" * min(indent, 1))
    assert all(len(line) <= width for line in lines)
    whole = "".join("".join(line[indent:].split()) for line in lines)
    assert whole == "".join(safe(text).split())


@given(st.text(max_size=100), st.integers(10, 50))
def test_shortened_text_is_safe_and_short(text: str, limit: int) -> None:
    """No control characters, no more than the limit."""
    shown = shorten(text, limit)
    assert len(shown) <= limit
    assert all(char.isprintable() or char in "\n\t" for char in shown)
