"""ISC dhclient, by itself, under ifupdown or under NetworkManager; FreeBSD's writes the same blocks.

``lease { ... }`` blocks, oldest first, one appended per acknowledgement; times are UTC. The last whole
block of an interface is what the client believes: after `ifdown` or a clean shutdown that is a copy
which expires at once, behind one that looks valid for another month (dhclient.leases(5),
field/dhcp-leases#rule-2).
"""

from __future__ import annotations

import re
from typing import Dict, Iterator, NamedTuple, Optional, Sequence, Tuple

from csagent.discovery.leases.client import RawLeases, Statement
from csagent.discovery.leases.text import base, domain, ipv4_list, number, whole_lines
from csagent.model import Lease, Nic, Rejected
from csagent.validation import ipv4

NAME = "dhclient"
FILES = (
    "/var/lib/dhcp/dhclient.*.leases",  # ifupdown: one file per interface, before the shared one
    "/var/lib/NetworkManager/dhclient-*.lease",
    "/var/lib/dhclient/dhclient-*.lease*",  # RHEL 6 `-IF.leases`, 7 `--IF.lease`
    "/var/lib/dhcp/*.leases",
    "/var/lib/dhcp/*.lease",
    "/var/lib/dhclient/*.lease*",
    "/var/lib/dhcp3/*.leases",
    "/var/db/dhclient.leases.*",  # FreeBSD
)
RUNNING = ("/run/dhclient*.pid", "/run/NetworkManager/dhclient-*.pid")
MARKS = RUNNING

_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DATE = re.compile(r"[0-6] ([0-9]{4})/([0-9]{1,2})/([0-9]{1,2}) ([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})")
_FILE_INTERFACE = re.compile(
    r"dhclient(?:\.leases\.(?P<bsd>.+)|\.(?P<isc>.+)\.leases?|-(?:[0-9a-f-]{36})?-?(?P<rhel>.+)\.leases?)"
)


class Block(NamedTuple):
    """One whole lease block: the plain statements and those that begin with `option`."""

    plain: Dict[str, str]
    options: Dict[str, str]

    @property
    def interface(self) -> Optional[str]:
        """The NIC it names."""
        return string(self.plain.get("interface"))


def complete(content: bytes) -> bool:
    """Whether a block ends in it."""
    return b"\n}" in content


def string(value: Optional[str]) -> Optional[str]:
    """The text of a quoted value; escapes other than of quotes and backslashes stay as they are."""
    match = _STRING.fullmatch(value or "")
    return re.sub(r'\\(["\\])', r"\1", match.group(1)) if match else None


def blocks(content: bytes) -> Iterator[Block]:
    """The whole blocks of a lease file in its order.

    dhclient writes one statement a line and escapes line ends inside strings, so a statement counts only
    where it begins a line: `tricky` has a fake identifier behind braces and semicolons in a string.
    """
    block: Optional[Block] = None
    for line in whole_lines(content):
        word = line.rstrip()
        if word == "lease {":
            block = Block({}, {})
        elif block is None:
            continue
        elif word == "}":
            yield block
            block = None
        else:
            key, value = statement(line)
            if key == "option":
                name, _, value = value.partition(" ")
                block.options[name] = value.strip()
            elif key:
                block.plain[key] = value


def statement(line: str) -> Tuple[str, str]:
    """Keyword and value of a line `KEYWORD VALUE;`, maybe with a comment behind; else two empty strings."""
    text = line.strip()
    if not text.endswith(";"):
        text = text[: text.rfind("; #") + 1]
    key, _, value = text[:-1].partition(" ")
    return key, value.strip()


def moment(value: Optional[str]) -> Optional[float]:
    """Seconds since the epoch of `W YYYY/MM/DD HH:MM:SS` (UTC) or `epoch N`; None for `never` and nonsense.

    There is no upper end to the year: an infinite lease says 2162.
    """
    if value is None:
        return None
    if value.startswith("epoch "):
        seconds = number(value[6:].strip())
        return None if seconds is None else float(seconds)
    match = _DATE.fullmatch(value)
    if not match:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups())
    return float(_days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second)


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 in the Gregorian calendar (years begin in March, so the leap day is last)."""
    year -= month <= 2
    months = (month + 9) % 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * months + 2) // 5 + day - 719469


def lease(block: Block, interface: str, client: str, path: str) -> Statement:
    """One block as a lease, or why it is none."""
    address = ipv4(block.plain.get("fixed-address"))
    if address is None:
        return Rejected(path, client, interface, "its newest block has no usable address")
    expires = block.plain.get("expire")
    # Given up, it ends at the moment of that; infinite renewals of an infinite lease are one moment, too.
    one_moment = expires is not None and expires == block.plain.get("renew") == block.plain.get("rebind")
    return Lease(
        interface=interface,
        client=client,
        address=address,
        server_identifier=ipv4(block.options.get("dhcp-server-identifier")),
        routers=ipv4_list(block.options.get("routers")),
        domain_name=domain(string(block.options.get("domain-name"))),
        name_servers=ipv4_list(block.options.get("domain-name-servers")),
        next_server=ipv4(block.plain.get("next-server")),
        expires=moment(expires),
        given_up=one_moment,
        path=path,
    )


def file_interface(path: str, names: Sequence[str]) -> Optional[str]:
    """The interface a lease file is named after, for blocks that name none."""
    match = _FILE_INTERFACE.fullmatch(base(path))
    name = next((group for group in match.groups() if group), None) if match else None
    return name if name in names else None


def statements(raw: RawLeases, nics: Sequence[Nic]) -> Iterator[Statement]:
    """The last whole block of each interface in each file."""
    names = [nic.name for nic in nics]
    seen = set()
    for path, content in raw.matching(*FILES):
        if path in seen or is_dhcpv6(path):
            continue
        seen.add(path)
        newest: Dict[str, Block] = {}
        for block in blocks(content):
            interface = block.interface or file_interface(path, names)
            if interface is not None:
                newest[interface] = block
        for interface, block in newest.items():
            yield lease(block, interface, NAME, path)
        if not newest:
            reason = "no lease in it yet" if whole(content) else "only part of a lease in it"
            yield Rejected(path, NAME, file_interface(path, names), reason)


def whole(content: bytes) -> bool:
    """Whether no block has begun that does not end."""
    return b"lease {" not in content


def is_dhcpv6(path: str) -> bool:
    """DHCPv6 leases have names of their own and identify no virtual router (field/dhcp-leases#rule-7)."""
    return base(path).startswith("dhclient6") or path.endswith(".leases6") or path.endswith(".lease6")


def running(raw: RawLeases) -> bool:
    """Whether a dhclient says that it is running."""
    return raw.marked(*RUNNING)
