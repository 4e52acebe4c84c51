"""What a router's metadata says, out of the bytes: names of a listing, values, numbers of keys. Pure."""

from __future__ import annotations

import re
from typing import Dict, List, NamedTuple, Sequence, Tuple

from csagent import validation
from csagent.errors import Malformed

# A key that is a substring of the listing's text is not listed at all (field/cloudstack#2.3), so these are
# asked for unasked; the instance id has made us believe the router before. Newer providers spell the last
# one so (field/cloudstack#2.8).
WELL_KNOWN = (
    *(key for key in validation.WELL_KNOWN_KEYS if key != "instance-id"),
    "hypervisor-hostname",
)
ESSENTIAL = ("local-hostname", "public-keys")
ESCAPED = frozenset(("service-offering", "availability-zone", "local-hostname"))

_ESCAPE = re.compile(r"(?:\\u[0-9A-Fa-f]{4})+")
_NUMBERED = re.compile(r"([0-9]{1,4})(?:=.{0,255})?/?\Z")


class Listing(NamedTuple):
    """The names of a listing: plain keys, directories (without their slash), and what was wrong."""

    keys: Tuple[str, ...] = ()
    directories: Tuple[str, ...] = ()
    problems: Tuple[str, ...] = ()
    text: str = ""

    def unlisted(self, names: Sequence[str]) -> Tuple[str, ...]:
        """Those names that may be there though they have no line of their own.

        The VR leaves out a key whose name is part of the text so far (field/cloudstack#2.3). What the whole
        text does not hold is therefore not there, and asking for it would be a request for nothing; but
        nobody is to go without a host name or keys because a listing was caught half written
        (field/cloudstack#2.6).
        """
        if not self.text.strip():
            return tuple(names)
        return tuple(name for name in names if name in ESSENTIAL or name in self.text)


def parse_listing(body: bytes) -> Listing:
    """A listing, one name a line; what may not be asked for becomes a problem (field/cloudstack#edge-24)."""
    if validation.is_html(body):
        return Listing(problems=("HTML where the list of keys should be",))
    keys: Dict[str, None] = {}
    directories: Dict[str, None] = {}
    problems: Dict[str, None] = {}
    for raw in body.split(b"\n"):
        line = raw.rstrip(b"\r")
        if not line:
            continue
        try:
            name = line.decode("utf-8")
        except UnicodeDecodeError:
            problems["a key name that is not UTF-8"] = None
            continue
        bare = name[:-1] if name.endswith("/") else name
        if not validation.metadata_key(bare):
            problems[f"key name {validation.excerpt(name)} is not one that can be asked for"] = None
        elif len(keys) + len(directories) >= validation.KEYS_LIMIT:
            problems[f"more than {validation.KEYS_LIMIT} keys: the rest is left out"] = None
            break
        else:
            (directories if bare != name else keys)[bare] = None
    return Listing(tuple(keys), tuple(directories), tuple(problems), body.decode("utf-8", "replace"))


def unescape(text: str, *, strict: bool = True) -> str:
    r"""Undo CloudStack's ``\uXXXX`` (UTF-16 units, so characters beyond U+FFFF are pairs).

    Raises:
        Malformed: half of a surrogate pair (field/cloudstack#edge-18); where not strict, it stays as it is.
    """

    def decode(match: re.Match[str]) -> str:
        try:
            return bytes.fromhex(match.group().replace("\\u", "")).decode("utf-16-be")
        except UnicodeDecodeError:
            if not strict:
                return match.group()
            raise Malformed("a \\u sequence that is half of a surrogate pair") from None

    return _ESCAPE.sub(decode, text)


def parse_value(key: str, body: bytes) -> str:
    """A metadata value; one trailing newline is removed, as the VR itself writes none.

    Raises:
        Absent: a host name of blanks.
        Malformed: not UTF-8, control characters, too long, or no host name.
    """
    text = validation.metadata_value(body)
    text = re.sub(r"\r?\n\Z", "", text)
    if key in ESCAPED:
        text = validation.metadata_value(unescape(text).encode("utf-8"))
    return validation.hostname(text) if key == "local-hostname" else text


def key_numbers(body: bytes) -> List[str]:
    """The numbers of an EC2-style list of keys (``0=name``); empty where a line is something else."""
    numbers: Dict[str, None] = {}
    for line in body.decode("latin-1").replace("\r\n", "\n").split("\n"):
        if not line:
            continue
        match = _NUMBERED.match(line)
        if match is None:
            return []
        numbers[match.group(1)] = None
    return list(numbers)
