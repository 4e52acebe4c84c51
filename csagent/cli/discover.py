"""`csagent discover`: where csagent would look, and why, for people and as JSON."""

from __future__ import annotations

import textwrap
from typing import Any, Dict, Iterator, List, Sequence

from csagent.model import Candidate, Found, Lease, Nic

BOLD, DIM, PLAIN = "\033[1m", "\033[2m", "\033[0m"
NARROW = 24  # columns, what the longest heading needs


def as_json(found: Found) -> Dict[str, Any]:
    """The documented layout, `"schema": 1`; it only grows."""
    return {
        "schema": 1,
        "leases": [_lease_json(lease) for lease in found.leases],
        "candidates": [_candidate_json(candidate) for candidate in found.candidates],
        "drives": [drive._asdict() for drive in found.drives],
        "platform": found.platform._asdict(),
        "default_interface": found.default_interface,
        "nics": [
            {"name": nic.name, "index": nic.ifindex, "mac": nic.mac, "addresses": list(nic.addresses)}
            for nic in found.nics
        ],
        "routes": [route._asdict() for route in found.routes],
        "rejected": [rejected._asdict() for rejected in found.rejected],
        "notes": list(found.notes),
    }


def as_text(found: Found, width: int, colour: bool) -> str:
    """The same for a person, in lines of at most `width` columns, ending in a line end."""
    lines: List[str] = []
    width = max(width, NARROW)

    def section(title: str, entries: Sequence[Sequence[str]], empty: str) -> None:
        lines.append(f"{BOLD}{title}{PLAIN}" if colour else title)
        for first, *rest in entries or ((empty,),):
            lines.extend(_wrap(first, 2, width))
            for detail in rest:
                wrapped = _wrap(detail, 4, width)
                lines.extend(f"{DIM}{line}{PLAIN}" for line in wrapped) if colour else lines.extend(wrapped)

    section("Interfaces", [_nic(nic, found) for nic in found.nics], "none found")
    section("Leases", [tuple(_lease(lease)) for lease in found.leases], "none that holds")
    if found.rejected:
        section(
            "Not believed",
            [(f"{rejected.client}: {rejected.reason}", rejected.path) for rejected in found.rejected],
            "",
        )
    section("Would ask, in this order", list(_asked(found.candidates)), "nobody: no address to ask from")
    drives = [(f"{drive.device}  {drive.label or 'no label'}", drive.why) for drive in found.drives]
    section("Config drives", drives, "none found")
    section("Platform", [tuple(_platform(found))], "")
    if found.notes:
        section("Note", [(note,) for note in found.notes], "")
    return "\n".join(lines) + "\n"


def _lease_json(lease: Lease) -> Dict[str, Any]:
    fields = lease._asdict()
    del fields["given_up"]  # those that are listed are not
    return {
        **fields,
        "routers": list(lease.routers),
        "name_servers": list(lease.name_servers),
    }


def _candidate_json(candidate: Candidate) -> Dict[str, Any]:
    return {**candidate._asdict(), "name_servers": list(candidate.name_servers)}


def _nic(nic: Nic, found: Found) -> Sequence[str]:
    mark = " (default)" if nic.name == found.default_interface else ""
    return (f"{nic.name}{mark}  {', '.join(nic.addresses) or 'no address'}",)


def _lease(lease: Lease) -> Iterator[str]:
    yield f"{lease.interface}  {lease.address} ({lease.client})"
    yield f"DHCP server {lease.server_identifier or 'not recorded'}"
    if lease.routers:
        yield f"router {', '.join(lease.routers)}"
    if lease.domain_name:
        yield f"domain {lease.domain_name}"
    yield f"from {lease.path}"


def _asked(candidates: Sequence[Candidate]) -> Iterator[Sequence[str]]:
    for number, candidate in enumerate(candidates, 1):
        yield f"{number}. {candidate.address}", candidate.why


def _platform(found: Found) -> Iterator[str]:
    platform = found.platform
    product = " ".join(part for part in (platform.vendor, platform.product) if part)
    yield product or "DMI says nothing"
    yield {
        True: "this is CloudStack",
        False: "this is another cloud",
        None: "which may or may not be CloudStack",
    }[platform.cloudstack]
    if platform.uuid:
        yield f"UUID {platform.uuid}"


def _wrap(text: str, indent: int, width: int) -> List[str]:
    """Lines of at most `width` columns; control characters, which a lease may carry, are shown as ?."""
    shown = "".join(char if char.isprintable() else "?" for char in text)
    blank = " " * indent
    return textwrap.wrap(
        shown, width, break_on_hyphens=False, initial_indent=blank, subsequent_indent=blank + "  "
    ) or [blank.rstrip()]
