"""The text of an authorized_keys file with our block in it. Pure.

Our lines stand between two marker comments and are replaced as a whole, so that a reset key pair really
revokes the old one; every other line is the owner's and stays, byte for byte. Where a marker was lost,
a line is ours if we remember writing it, with these options: with the owner's `from=` it is the owner's.
Keys whose line ends in ` cloudstack@apache.org` were written by the older guest scripts and are taken over
(field/cloudstack#edge-54).

cloud-init, where it works beside us, writes the same keys outside of our block, and where `disable_root` is
set, for root, with a command in front that only says who to log in as. sshd takes the first line that fits:
such a line before ours would make the key useless, and one of a revoked key would stay for good. So both
become ours, for keys that are or were; with another comment or other options a line is its owner's.
"""

from __future__ import annotations

from typing import AbstractSet, Dict, List, Optional, Sequence, Set, Tuple

from csagent.errors import Malformed
from csagent.validation import split_key

BEGIN = "# csagent begin: keys from CloudStack, replaced as a whole when they are reset"
BEGIN_MARK = "# csagent begin:"  # with the colon: "# csagent beginner's notes" is the owner's
END = "# csagent end"
SCRIPT_SUFFIX = " cloudstack@apache.org"
# cloud-init's default disable_root_opts, the same from 20.4 to 25.1, up to the name of its account.
LOGIN_AS_OTHER = (
    "no-port-forwarding,no-agent-forwarding,no-X11-forwarding,command=\"echo 'Please login as the user "
)


def merge(text: str, keys: Sequence[str], previous: Sequence[str] = (), adopt: bool = False) -> str:
    """The new text.

    Args:
        text: the file as it is, "" where there is none.
        keys: the lines that shall be ours; none at all removes the block.
        previous: the lines that were ours until now: they go even where the markers have been lost.
        adopt: cloud-init writes the same keys; its lines for them, and for the previous ones, go too.
    """
    theirs = _by_cloud_init([*keys, *previous]) if adopt else frozenset()
    owners, position = _without_ours(text, {_remembered(key) for key in previous} - {None}, theirs)
    if not keys:
        return _joined(owners)
    block = [BEGIN, *keys, END]
    return _joined([*owners[:position], *block, *owners[position:]])


def with_lines(text: str, keys: Sequence[str], options: str = "") -> str:
    """The text with these keys of user-data in it, outside of our block.

    A line with the same body is replaced where it stands, others come at the end, in their order. A key that
    is given with several options or comments gets a line for each of them.

    Args:
        text: the file as it is.
        keys: well-formed lines, with options of their own or without.
        options: stand before each key instead of its own; "": its own stay.
    """
    wanted: Dict[str, List[str]] = {}
    for body, line in dict.fromkeys(_with_options(key, options) for key in keys):
        wanted.setdefault(body, []).append(line)
    replaced: Dict[str, List[str]] = {}
    lines = text.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    inside, _ = blocks([line.strip() for line in lines])
    result: List[str] = []
    for number, line in enumerate(lines):
        known = _remembered(line.strip())
        if known is None or number in inside:
            result.append(line)
        elif known[2] in wanted:
            replaced[known[2]] = wanted.pop(known[2])
            result += replaced[known[2]]
        elif line not in replaced.get(known[2], ()):
            result.append(line)
    return _joined([*result, *(line for lines in wanted.values() for line in lines)])


def _with_options(key: str, options: str) -> Tuple[str, str]:
    """The body of a key, by which it is known, and the line that is written for it."""
    try:
        _own, kind, blob, comment = split_key(key)
    except Malformed:
        return key, f"{options} {key}".strip()
    return blob, f"{options} {kind} {blob} {comment}".strip() if options else key


def with_standing(text: str, keys: Sequence[str]) -> Tuple[str, ...]:
    """Every line that stands as ours, and those of `keys` that are not among them.

    For a set of which nobody can tell whether it is whole, where nothing may be revoked.
    """
    stripped = [line.strip() for line in text.split("\n")]
    inside, _ = blocks(stripped)
    standing = [
        line for number, line in enumerate(stripped) if line and (number in inside or _by_script(line))
    ]
    there = {_remembered(line) for line in standing}
    return (*dict.fromkeys(standing), *(key for key in keys if _remembered(key) not in there))


def has_cloud_inits(text: str, keys: Sequence[str]) -> bool:
    """Whether a line that cloud-init wrote for one of these keys stands outside of our block, or in it."""
    theirs = _by_cloud_init(keys)
    stripped = [line.strip() for line in text.split("\n")]
    inside, _ = blocks(stripped)
    for number, line in enumerate(stripped):
        known = _written(line)
        if known in theirs and (known[0] or number not in inside):
            return True
    return False


def _by_cloud_init(keys: Sequence[str]) -> AbstractSet[Tuple[bool, str]]:
    """The lines that cloud-init makes of these keys, as `_written` has them: open, and closed to root."""
    written = [_written(key) for key in keys]
    return {one for _, line in written if line for one in ((False, line), (True, " ".join(line.split()[:2])))}


def _written(line: str) -> Tuple[bool, str]:
    """(is it closed by cloud-init's command, the key as it writes it); "" for what it does not write.

    Open, that is type, body and comment; closed, which nobody else writes, the comment does not matter.
    """
    try:
        options, kind, blob, comment = split_key(line)
    except Malformed:
        return False, ""
    if options.startswith(LOGIN_AS_OTHER):
        return True, f"{kind} {blob}"
    return False, "" if options else f"{kind} {blob} {comment}".strip()


def _without_ours(
    text: str, previous: AbstractSet[object], theirs: AbstractSet[Tuple[bool, str]]
) -> Tuple[List[str], int]:
    """The owner's lines, and where our block stood among them (at the end where there was none)."""
    lines = text.split("\n")
    if lines and lines[-1] == "":
        lines.pop()
    stripped = [line.strip() for line in lines]
    inside, whole = blocks(stripped)
    owners: List[str] = []
    position = -1
    for number, line in enumerate(lines):
        text_of_line = stripped[number]
        if not text_of_line and number not in inside:
            owners.append(line)
        elif text_of_line.startswith(BEGIN_MARK):
            position = len(owners) if position < 0 else position
        elif not (
            text_of_line == END
            or number in inside
            or _by_script(text_of_line)
            or (not whole and _remembered(text_of_line) in previous)
            or (theirs and _written(text_of_line) in theirs)
        ):
            owners.append(line)
    return owners, len(owners) if position < 0 else position


def blocks(stripped: Sequence[str]) -> Tuple[Set[int], bool]:
    """The numbers of the lines between markers, and whether there are markers and each has its other half.

    A begin whose end was lost, so that the next marker is another begin, begins nothing: what follows it may
    be the owner's.
    """
    inside: Set[int] = set()
    begin: Optional[int] = None
    found, alone = False, False
    for number, line in enumerate(stripped):
        if line.startswith(BEGIN_MARK):
            alone = alone or begin is not None
            begin = number
        elif line == END:
            if begin is None:
                alone = True
            else:
                inside.update(range(begin + 1, number))
                found, begin = True, None
    return inside, found and not alone and begin is None


def _by_script(line: str) -> bool:
    """Whether an older guest script wrote this line; an owner's note may name that address, too."""
    return line.endswith(SCRIPT_SUFFIX) and not line.startswith("#")


def _remembered(line: str) -> Optional[Tuple[str, str, str]]:
    """(options, type, blob), by which a line of ours is known without markers; None for what is no key."""
    if line.startswith("#"):
        return None
    try:
        return split_key(line)[:3]
    except Malformed:
        return None


def _joined(lines: Sequence[str]) -> str:
    return "".join(line + "\n" for line in lines)
