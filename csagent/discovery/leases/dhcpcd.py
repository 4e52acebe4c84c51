"""dhcpcd: `/var/lib/dhcpcd/IF.lease` is the raw DHCP message, and `dhcpcd -U IF` asks the daemon.

240 bytes of header and magic cookie (RFC 951, RFC 2131), then options up to 255. The file has no time
in it; it is removed on expiry and release, and may be one of the last boot for its first five seconds.
"""

from __future__ import annotations

from typing import Dict, Iterator, Optional, Sequence

from csagent.discovery.leases.client import RawLeases, Statement
from csagent.discovery.leases.text import base, domain, ipv4_list, pairs, routable, whole_lines
from csagent.model import Lease, Nic, Rejected
from csagent.validation import ipv4, ipv4_bytes

NAME = "dhcpcd"
FILES = (
    "/var/lib/dhcpcd/*.lease",
    "/var/lib/dhcpcd5/*.lease",
    "/var/db/dhcpcd/*.lease",
    "/var/db/dhcpcd-*.lease",
)
RUNNING = ("/run/dhcpcd/pid", "/run/dhcpcd/*.pid", "/run/dhcpcd.pid", "/run/dhcpcd-*.pid")
MARKS = RUNNING

MAGIC = b"\x63\x82\x53\x63"
PAD, END, OVERLOAD, MESSAGE_TYPE, ACK = 0, 255, 52, 53, 5


def complete(content: bytes) -> bool:
    """Whether it is a message with an end; dhcpcd truncates the file before it writes."""
    return content[236:240] == MAGIC and content.rstrip(b"\0").endswith(b"\xff")


def statements(raw: RawLeases, nics: Sequence[Nic]) -> Iterator[Statement]:
    """The lease files, then the daemon's word for NICs without a usable one."""
    answered = set()
    for path, content in raw.matching(*FILES):
        interface = _interface(path, nics)
        statement = message(content, interface, path)
        yield statement
        if isinstance(statement, Lease) and statement.server_identifier is not None:
            answered.add(interface)
    if not raw.marked(*RUNNING):
        return
    for nic in nics:
        if nic.name not in answered and routable(nic) is not None:
            argv = ("dhcpcd", "-U", nic.name)
            yield from _answer(raw.command(*argv) or b"", nic, " ".join(argv))


def message(content: bytes, interface: str, path: str) -> Statement:
    """A DHCPACK as a lease, or why it is none."""
    if not content:
        return Rejected(path, NAME, interface, "empty")
    if len(content) < 240 or content[236:240] != MAGIC or content[0] != 2:
        return Rejected(path, NAME, interface, "not a whole DHCP message")
    said = options(content)
    address = ipv4_bytes(content[16:20])
    if address is None or said.get(MESSAGE_TYPE, bytes([ACK])) != bytes([ACK]):
        return Rejected(path, NAME, interface, "no acknowledged address in it")
    return Lease(
        interface=interface,
        client=NAME,
        address=address,
        server_identifier=ipv4_bytes(said.get(54, b"")),
        routers=_list(said.get(3, b"")),
        domain_name=domain(said.get(15, b"").decode("ascii", "replace")),
        name_servers=_list(said.get(6, b"")),
        next_server=ipv4_bytes(content[20:24]),
        path=path,
    )


def options(content: bytes) -> Dict[int, bytes]:
    """The options of a message, walked by their lengths; one that is cut short is left out.

    `tricky-bytes` carries what looks like option 54 inside option 252. Parts of one option are joined
    (RFC 3396), and the fields that option 52 gives away are walked too (RFC 2132, 9.3; not captured).
    """
    found: Dict[int, bytes] = {}
    _walk(content[240:], found)
    overload = found.get(OVERLOAD, b"")
    if overload in (b"\x01", b"\x03"):
        _walk(content[108:236], found)
    if overload in (b"\x02", b"\x03"):
        _walk(content[44:108], found)
    return found


def _walk(area: bytes, found: Dict[int, bytes]) -> None:
    place = 0
    while place < len(area) and area[place] != END:
        if area[place] == PAD:
            place += 1
            continue
        if place + 1 >= len(area) or place + 2 + area[place + 1] > len(area):
            return
        code, length = area[place], area[place + 1]
        found[code] = found.get(code, b"") + area[place + 2 : place + 2 + length]
        place += 2 + length


def _list(raw: bytes) -> "tuple[str, ...]":
    parts = [ipv4_bytes(raw[place : place + 4]) for place in range(0, len(raw) - len(raw) % 4, 4)]
    return ipv4_list(" ".join(part for part in parts if part))


def _interface(path: str, nics: Sequence[Nic]) -> str:
    """The NIC a file is named after; wireless files have the network's name behind it."""
    stem = base(path)[: -len(".lease")]
    if stem.startswith("dhcpcd-"):
        stem = stem[len("dhcpcd-") :]
    names = [nic.name for nic in nics]
    if stem not in names:
        longer = [name for name in names if stem.startswith(name + "-")]
        stem = max(longer, key=len, default=stem)
    return stem


def _answer(output: bytes, nic: Nic, path: str) -> Iterator[Statement]:
    """`dhcpcd -U`: sections between empty lines; version 7.1 has one, and values in quotes."""
    section: Dict[str, str] = {}
    lines = []
    for line in [*whole_lines(output), ""]:
        if line:
            lines.append(line)
            continue
        section, lines = {**pairs(lines), **pairs(lines, quoted=True)}, []
        if section.get("protocol", "dhcp") != "dhcp":
            continue
        statement = _section(section, nic, path)
        if statement is not None:
            yield statement


def _section(said: Dict[str, str], nic: Nic, path: str) -> Optional[Lease]:
    address = ipv4(said.get("ip_address"))
    if address is None or said.get("interface", nic.name) != nic.name:
        return None
    return Lease(
        interface=nic.name,
        client=NAME,
        address=address,
        server_identifier=ipv4(said.get("dhcp_server_identifier")),
        routers=ipv4_list(said.get("routers")),
        domain_name=domain(said.get("domain_name")),
        name_servers=ipv4_list(said.get("domain_name_servers")),
        path=path,
    )
