"""The text of an authorized_keys file with our block in it. Pure.

Our lines stand between two marker comments and are replaced as a whole, so that a reset key pair really
revokes the old one; every other line is the owner's and stays, byte for byte. Lines that end in
` cloudstack@apache.org` were written by the older guest scripts and are taken over (edge 54).
"""

from __future__ import annotations

from typing import AbstractSet, List, Sequence, Tuple

from csagent.plausible import key_identity

BEGIN = "# csagent begin: keys from CloudStack, replaced as a whole when they are reset"
BEGIN_MARK = "# csagent begin"
END = "# csagent end"
SCRIPT_SUFFIX = " cloudstack@apache.org"


def merge(text: str, keys: Sequence[str], previous: Sequence[str] = ()) -> str:
    """The new text.

    Args:
        text: the file as it is, "" where there is none.
        keys: the lines that shall be ours; none at all removes the block.
        previous: the lines that were ours until now: they go even where the markers have been lost.
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
    stripped = [line.strip() for line in lines]
    whole = _has_whole_block(stripped)
    owners: List[str] = []
    position = -1
    inside = False
    for number, line in enumerate(lines):
        text_of_line = stripped[number]
        if text_of_line.startswith(BEGIN_MARK):
            position = len(owners) if position < 0 else position
            inside = END in stripped[number:]
        elif text_of_line == END:
            inside = False
        elif inside or text_of_line.endswith(SCRIPT_SUFFIX) or (not whole and key_identity(line) in previous):
            continue
        else:
            owners.append(line)
    return owners, len(owners) if position < 0 else position


def _has_whole_block(stripped: Sequence[str]) -> bool:
    """Whether a begin marker is followed by an end. Where not, only lines that we remember are ours."""
    begins = [number for number, line in enumerate(stripped) if line.startswith(BEGIN_MARK)]
    return bool(begins) and END in stripped[begins[0] :]


def _joined(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)
