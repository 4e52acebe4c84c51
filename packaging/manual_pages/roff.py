"""The man(7) macros, as far as the pages need them: https://man.openbsd.org/man.7 and groff_man(7)."""

from __future__ import annotations

import re
from typing import Iterable, List

_MARKS = re.compile(r"`([^`]+)`|\{([^{}]+)\}")


def escape(text: str, literal: bool = False) -> str:
    """Text that roff takes for text; `literal`: what is typed, in which a minus is a minus."""
    text = text.replace("\\", "\\e")
    if literal:
        text = text.replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti")
    return text


def marked(text: str) -> str:
    """Prose: `this` is bold and literal, {this} in italics. A line never begins as a request would."""
    parts: List[str] = []
    position = 0
    for match in _MARKS.finditer(text):
        parts.append(escape(text[position : match.start()]))
        if match.group(1) is not None:
            parts.append(f"\\fB{escape(match.group(1), literal=True)}\\fR")
        else:
            parts.append(f"\\fI{escape(match.group(2), literal=True)}\\fR")
        position = match.end()
    parts.append(escape(text[position:]))
    return _guard("".join(parts))


def _guard(line: str) -> str:
    return f"\\&{line}" if line.startswith((".", "'")) else line


class Page:
    """A manual page, line by line."""

    def __init__(self, name: str, section: int, date: str, version: str, manual: str) -> None:
        self.lines = [
            '.\\" Made by packaging/manual from csagent itself; changes belong there.',
            f'.TH {name} {section} {date} "{version}" "{manual}"',
        ]

    def heading(self, text: str) -> None:
        """A section."""
        self.lines.append(f'.SH "{escape(text)}"')

    def subheading(self, text: str) -> None:
        """A section within one."""
        self.lines.append(f'.SS "{escape(text, literal=True)}"')

    def raw(self, line: str) -> None:
        """A line that is roff already."""
        self.lines.append(line)

    def text(self, *paragraphs: str) -> None:
        """Paragraphs of prose; the first one follows what stands before it, as a heading wants it."""
        for paragraph in "\n\n".join(one for one in paragraphs if one).split("\n\n"):
            if not self.lines[-1].startswith((".SH", ".SS")):
                self.lines.append(".PP")
            self.lines += [marked(sentence) for sentence in _sentences(paragraph)]

    def term(self, term: str, text: str) -> None:
        """A term, and what it means, indented."""
        self.lines += [".TP", marked(term)]
        self.lines += [marked(sentence) for sentence in _sentences(text)]

    def terms(self, pairs: Iterable[Iterable[str]]) -> None:
        """Several."""
        for term, text in pairs:
            self.term(term, text)

    def example(self, text: str) -> None:
        """Lines as they are."""
        self.lines += [".PP", ".RS 4", ".nf"]
        self.lines += [_guard(escape(line, literal=True)) for line in text.strip("\n").splitlines()]
        self.lines += [".fi", ".RE"]

    def __str__(self) -> str:
        return "\n".join(self.lines) + "\n"


def _sentences(paragraph: str) -> List[str]:
    """One to a line, as roff wants them: it is the end of a line that says where a sentence ends."""
    return re.split(r"(?<=[a-z0-9)`}][.:?]) (?=[A-Z`{(])", " ".join(paragraph.split()))
