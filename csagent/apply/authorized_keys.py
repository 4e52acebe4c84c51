"""The text of an authorized_keys file with our block in it. Pure.

Our lines stand between two marker comments and are replaced as a whole, so that a reset key pair really
revokes the old one; every other line is the owner's and stays, byte for byte. Lines that end in
` cloudstack@apache.org` were written by the older guest scripts and are taken over (edge 54).
"""

from __future__ import annotations

from typing import AbstractSet, List, Sequence, Tuple

from csagent.plausible import key_identity

BEGIN = "# csagent begin: keys from CloudStack, replaced as a whole when they are reset"
END = "# csagent end"
SCRIPT_SUFFIX = " cloudstack@apache.org"


def merge(text: str, keys: Sequence[str], previous: Sequence[str] = ()) -> str:
    """The new text.

    Args:
        text: the file as it is, "" where there is none.
        keys: the lines that shall be ours; none at all removes the block.
        previous: the lines that were ours until now; only used where a marker has been damaged.
    """
    owners, position = _without_ours(text, {key_identity(key) for key in previous} - {None})
    if not keys:
        return _joined(owners)
    block = [BEGIN, *keys, END]
    return _joined([*owners[:position], *block, *owners[position:]])


def _without_ours(text: str, previous: AbstractSet[object]) -> Tuple[List[str], int]:
    """The owner's lines, and where our block stood among them (at the end where there was none)."""
    lines = text.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    owners: List[str] = []
    position = -1
    inside = False
    has_end = END in (line.strip() for line in lines)
    for number, line in enumerate(lines):
        stripped = line.strip()
        if stripped.startswith("# csagent begin"):
            position = len(owners) if position < 0 else position
            inside = has_end and END in (later.strip() for later in lines[number:])
            continue
        if stripped == END:
            inside = False
            continue
        if inside or stripped.endswith(SCRIPT_SUFFIX):
            continue
        if _was_ours(line, previous, damaged=position >= 0 and not has_end):
            continue
        owners.append(line)
    return owners, len(owners) if position < 0 else position


def _was_ours(line: str, previous: AbstractSet[object], *, damaged: bool) -> bool:
    """Behind a begin marker that has lost its end, only lines that we remember writing are ours."""
    return damaged and key_identity(line) in previous


def _joined(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)


def ours(text: str) -> Tuple[str, ...]:
    """The lines between our markers."""
    found: List[str] = []
    inside = False
    for line in text.split("\n"):
        stripped = line.strip()
        if stripped.startswith("# csagent begin"):
            inside = True
        elif stripped == END:
            inside = False
        elif inside and stripped:
            found.append(line)
    return tuple(found)
