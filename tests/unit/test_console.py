"""Text for a console of any width, with colour only where somebody sees it."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csagent.console import Console, safe, shorten


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


@pytest.mark.parametrize(("columns", "width"), [("60", 60), ("10", 40), ("9999", 160), ("x", 80), ("0", 80)])
def test_width(monkeypatch: pytest.MonkeyPatch, columns: str, width: int) -> None:
    """COLUMNS counts, within reason."""
    monkeypatch.setenv("COLUMNS", columns)
    assert Console.of(io.StringIO()).width == width


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
