"""Plain text for a console: 80 columns or what there is, colour only on a terminal, NO_COLOR honoured."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing typing takes as long as all of this module's work
if TYPE_CHECKING:
    from typing import List, Optional, TextIO, Tuple

COLOURS = {"good": "32", "bad": "31", "note": "33", "head": "1", "dim": "2"}
STATE_COLOURS = {
    "applied": "good",
    "unchanged": "good",
    "ok": "good",
    "partial": "note",
    "offered": "good",
    "failed": "bad",
    "refused": "note",
    "foreign": "note",
    "malformed": "note",
    "timeout": "note",
}
MIN_WIDTH = 40
LINE_LIMIT = 500  # characters of a text that came from somebody else


class Console:
    """How to write for whoever reads it."""

    __slots__ = ("colour", "width")

    def __init__(self, width: int = 80, colour: bool = False) -> None:
        self.width = width
        self.colour = colour

    @classmethod
    def of(cls, stream: Optional[TextIO] = None) -> "Console":
        """The console behind a stream: COLUMNS, else the terminal's width, else 80."""
        stream = stream or sys.stdout
        terminal = stream.isatty()
        width = 80
        if terminal:
            try:
                width = os.get_terminal_size(stream.fileno()).columns or 80
            except (OSError, ValueError):
                pass
        width = asked_columns() or width
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return cls(max(MIN_WIDTH, min(width, 160)), terminal and not plain)

    def paint(self, text: str, colour: str) -> str:
        """The text in a colour of COLOURS, or as it is."""
        code = COLOURS.get(STATE_COLOURS.get(colour, colour))
        return f"\033[{code}m{text}\033[0m" if self.colour and code else text

    def wrap(self, text: str, indent: int = 0, first: str = "") -> List[str]:
        """Lines of at most the width; `first` stands where the indent of the first one would be.

        Words longer than a line (keys, paths) are cut across lines: nothing is lost.
        """
        room = max(10, self.width - indent)
        lines: List[str] = []
        line = ""
        for word in safe(text).split():
            while len(word) > room:
                if line:
                    lines.append(line)
                    line = ""
                lines.append(word[:room])
                word = word[room:]
            if line and len(line) + 1 + len(word) > room:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(line)
        lead = first.ljust(indent)
        if len(first) >= indent > 0 and first:
            return [first[: self.width], *(" " * indent + one for one in lines)]
        return [lead + lines[0], *(" " * indent + one for one in lines[1:])]

    def pairs(self, items: List[Tuple[str, str]], indent: int = 2) -> List[str]:
        """Lines of `name  value`, the values aligned and wrapped."""
        if not items:
            return []
        column = min(max(len(name) for name, _value in items) + 2 + indent, self.width // 3 + 2)
        lines: List[str] = []
        for name, value in items:
            lines.extend(self.wrap(value, column, " " * indent + name))
        return lines


def asked_columns() -> int:
    """What COLUMNS says; 0 where it says nothing that could be a width."""
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isascii() and columns.isdigit() and len(columns) <= 9 else 0


def safe(text: str) -> str:
    """Text of unknown origin without anything that could steer a terminal."""
    return "".join(char if char.isprintable() or char in "\n\t" else "?" for char in text)


def one_line(text: str, limit: int = LINE_LIMIT) -> str:
    """Text of unknown origin as one line that steers no terminal, with its end left out where it is long."""
    text = "".join(char if char.isprintable() else " " for char in text[: limit + 1])
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def shorten(text: str, limit: int) -> str:
    """The text, cut in the middle where it is longer than `limit`."""
    text = safe(text)
    if len(text) <= limit:
        return text
    half = (limit - 3) // 2
    return f"{text[: limit - 3 - half]}...{text[-half:]}"
