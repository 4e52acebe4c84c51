"""Suites taken out of a list of apt's sources, in either of its two forms (sources.list(5)). Pure."""

from __future__ import annotations

import re
from typing import FrozenSet, List

SUITES = {
    "updates": "{}-updates",
    "backports": "{}-backports",
    "security": "{}-security",
    "proposed": "{}-proposed",
    "release": "{}",
}
_OF_A_LIST = re.compile(r"^(deb |deb-src )", re.MULTILINE)
_OF_DEB822 = re.compile(r"^(Types|Suites|Components|URIs): ", re.MULTILINE)


def is_deb822(text: str) -> bool:
    """Whether it is in paragraphs, not in lines."""
    return _OF_A_LIST.search(text) is None and _OF_DEB822.search(text) is not None


def without(text: str, disabled: List[str], release: str) -> str:
    """The text with these suites as comments; `updates` and so on are those of the release."""
    suites = frozenset(_name(suite, release) for suite in disabled)
    if not suites:
        return text
    if is_deb822(text):
        paragraphs = text.split("\n\n")
        return "\n\n".join(_paragraph(one, suites) for one in paragraphs)
    return "".join(_line(line, suites) for line in text.splitlines(keepends=True))


def _name(suite: str, release: str) -> str:
    known = SUITES.get(suite)
    if known is not None:
        return known.format(release)
    return suite.replace("${RELEASE}", release).replace("$RELEASE", release)


def _line(line: str, suites: FrozenSet[str]) -> str:
    """deb [OPTIONS] URI SUITE COMPONENTS"""
    words = re.sub(r"\[[^]]*\]", "", line.partition("#")[0]).split()
    return f"# not wanted by the document: {line}" if len(words) > 2 and words[2] in suites else line


def _paragraph(text: str, suites: FrozenSet[str]) -> str:
    lines = []
    left = True
    for line in text.splitlines(keepends=True):
        if not line.startswith("Suites:"):
            lines.append(line)
            continue
        kept = [suite for suite in line.split()[1:] if suite not in suites]
        left = bool(kept)
        lines.append(f"Suites: {' '.join(kept)}\n" if kept != line.split()[1:] and kept else line)
    return "".join(line if left or line.startswith("#") else f"# {line}" for line in lines)
