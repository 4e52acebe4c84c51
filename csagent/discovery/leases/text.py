"""What the lease parsers share: addresses, names and whole lines out of untrusted bytes.

Values in a lease are the DHCP server's free text. Nothing here raises on any input.
"""

from __future__ import annotations

import re
from typing import Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple

from csagent.model import Nic
from csagent.validation import ipv4

INFINITE = 0xFFFFFFFF  # an infinite lease (RFC 2131, section 3.3), what current virtual routers hand out
MAX_ADDRESSES = 16

_DOMAIN = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_PAIR = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)=(.*)", re.DOTALL)
_QUOTED = re.compile(r"'((?:[^']|'\\'')*)'")


def ipv4_list(text: Optional[str]) -> Tuple[str, ...]:
    """Addresses separated by blanks or commas; what is none is left out, each once."""
    found: List[str] = []
    for word in re.split(r"[\s,]+", text or "")[:64]:
        address = ipv4(word)
        if address is not None and address not in found:
            found.append(address)
    return tuple(found[:MAX_ADDRESSES])


def domain(text: Optional[str]) -> Optional[str]:
    """A domain name without the trailing dot, or None. Of several names the first is the domain."""
    words = (text or "").replace("\0", " ").split()
    name = words[0].rstrip(".") if words else ""
    return name if len(name) <= 253 and _DOMAIN.fullmatch(name) else None


def number(text: Optional[str]) -> Optional[int]:
    """A decimal number of at most 15 digits, or None."""
    if text is None or not re.fullmatch(r"[0-9]{1,15}", text):
        return None
    return int(text)


def whole_lines(content: bytes) -> Iterator[str]:
    """The lines that end; a cut last line is left out, since a cut address is a valid other address."""
    end = content.rfind(b"\n")
    if end >= 0:
        yield from content[:end].decode("utf-8", "surrogateescape").split("\n")


def pairs(lines: Iterable[str], *, quoted: bool = False) -> Dict[str, str]:
    """`KEY=value` lines as a dictionary.

    A key that is said twice with different values is left out: one of the two may be text that
    somebody smuggled into another value.

    Args:
        lines: whole lines.
        quoted: values stand in single quotes, as a shell takes them; a value that does not is left out.
    """
    found: Dict[str, str] = {}
    doubtful = set()
    for line in lines:
        match = _PAIR.fullmatch(line.rstrip("\r"))
        if not match:
            continue
        key, value = match.groups()
        if quoted:
            inner = _QUOTED.fullmatch(value)
            if not inner:
                continue
            value = inner.group(1).replace("'\\''", "'")
        if found.setdefault(key, value) != value:
            doubtful.add(key)
    for key in doubtful:
        del found[key]
    return found


def by_index(nics: Sequence[Nic]) -> Mapping[str, Nic]:
    """NICs by interface index, written as a file name is."""
    return {str(nic.ifindex): nic for nic in nics}


def routable(nic: Nic) -> Optional[str]:
    """The first address of a NIC that is not link-local (169.254.0.0/16 is what nobody gave it)."""
    return next(iter(given_addresses(nic)), None)


def given_addresses(nic: Nic) -> Tuple[str, ...]:
    """Those of a NIC that are not link-local."""
    return tuple(address for address in nic.addresses if not address.startswith("169.254."))


def base(path: str) -> str:
    """The last component of a path."""
    return path.rsplit("/", 1)[-1]
