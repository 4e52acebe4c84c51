"""Which of all DHCP clients' leases to believe (field/dhcp-leases#rules)."""

from __future__ import annotations

import fnmatch
import re
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from csagent.discovery.leases import (
    cloud_init,
    connman,
    dhclient,
    dhcpcd,
    klibc,
    networkd,
    networkmanager,
    udhcpc,
    wicked,
)
from csagent.discovery.leases.client import Client, RawLeases, Statement
from csagent.model import Lease, Nic, Rejected

CLIENTS: Tuple[Client, ...] = (
    networkd,
    networkmanager,
    wicked,
    udhcpc,
    dhcpcd,
    dhclient,
    cloud_init,
    klibc,
    connman,
)

# Whom to believe first where several name an address that is on the NIC (field/dhcp-leases#rule-4). What
# lives in /run, or is a running daemon's word, comes first: it is proof of this boot.
TRUST: Tuple[Tuple[str, str], ...] = (
    (networkd.NAME, "*"),
    (networkmanager.NAME, networkmanager.DEVICES),
    (networkmanager.NAME, "nmcli *"),
    (wicked.NAME, wicked.LEASEINFO),
    (udhcpc.NAME, "*"),
    (dhcpcd.NAME, "*"),
    (dhclient.NAME, "*"),
    (wicked.NAME, wicked.XML),
    (networkmanager.NAME, "*"),
    (cloud_init.NAME, "*"),
    (klibc.NAME, "*"),
    (connman.NAME, "*"),
)

LENIENCY = 300.0  # seconds; clocks jump after boot

_INTERFACE = re.compile(r"[!-.0-~]{1,15}")  # what the kernel allows (dev_valid_name), ASCII only


class Belief(NamedTuple):
    """The leases that hold, at most one per interface, why the others do not, and what to say of it."""

    leases: Tuple[Lease, ...]
    rejected: Tuple[Rejected, ...]
    notes: Tuple[str, ...]


def statements(raw: RawLeases, nics: Sequence[Nic]) -> Iterator[Statement]:
    """What all the clients say, unjudged."""
    yield from raw.distrusted
    for client in CLIENTS:
        yield from client.statements(raw, nics)


def believe(
    said: Iterator[Statement], nics: Sequence[Nic], now: float, *, addresses_known: bool = True
) -> Belief:
    """Apply the rules: address on the NIC, not over, and the most trusted client of those that agree.

    The address on the NIC is the stronger witness: a lease that is over by the clock only, which NTP or a
    snapshot may have moved, comes behind all others of its NIC, and counts where there is none. So does one
    that looks given up: who gives a lease up takes its address off the NIC.

    Args:
        said: the statements of the clients, each the newest of its file and interface
            (field/dhcp-leases#rule-2).
        nics: the NICs as the kernel has them. None at all (a tree that tells nothing) lets any name pass.
        now: seconds since the epoch.
        addresses_known: False for a tree that does not say which addresses its NICs have; what holds
            there is only what the clients wrote.
    """
    rejected: List[Rejected] = []
    standing: Dict[str, List[Lease]] = {}
    known = {nic.name: nic for nic in nics}
    for statement in said:
        if isinstance(statement, Rejected):
            rejected.append(statement)
            continue
        reason = _against(statement, known, now, addresses_known)
        if reason is None:
            standing.setdefault(statement.interface, []).append(statement)
        else:
            rejected.append(_reject(statement, reason))
    chosen: List[Lease] = []
    notes: List[str] = []
    for interface, leases in standing.items():
        named = _named(leases)
        leases.sort(
            key=lambda lease: (
                _says_less(lease) and named.get(lease.address, len(TRUST)) < rank(lease),
                is_over(lease, now),
                lease.server_identifier is None,
                rank(lease),
            )
        )
        best, others = leases[0], leases[1:]
        chosen.append(best)
        if addresses_known and interface in known and best.address not in known[interface].addresses:
            notes.append(f"{interface}: {best.client} had {best.address} in this boot and took it off again")
        if best.server_identifier is None:
            notes.append(
                f"{interface}: {best.client} does not record the DHCP server identifier ({best.path})"
            )
        if is_over(best, now):
            ended = duration(now - (best.expires or 0.0))
            notes.append(
                f"{interface}: the lease of {best.address} ended {ended} ago by this clock, but the address "
                f"is there: its server is asked ({best.path})"
            )
        for other in others:
            reason = _over(other, now) if is_over(other, now) else _beside(best, other)
            rejected.append(_reject(other, reason))
            if _conflict(best, other):
                notes.append(f"{interface}: {other.path} {reason}")
    places = {nic.name: nic.ifindex for nic in nics}
    chosen.sort(key=lambda lease: (places.get(lease.interface, 0), lease.interface))
    return Belief(tuple(chosen), tuple(rejected), tuple(notes))


def rank(lease: Lease) -> int:
    """The place of a lease's source in the order of trust."""
    for place, (client, pattern) in enumerate(TRUST):
        if lease.client == client and fnmatch.fnmatchcase(lease.path, pattern):
            return place
    return len(TRUST)


def _against(lease: Lease, known: Dict[str, Nic], now: float, addresses_known: bool) -> Optional[str]:
    """What speaks against a lease: field/dhcp-leases#rule-7, #rule-1 and #rule-3."""
    if not _INTERFACE.fullmatch(lease.interface):
        return "it names no possible interface"
    nic = known.get(lease.interface)
    if nic is None and known:
        return f"there is no interface {lease.interface}"
    if nic is not None and addresses_known and lease.address not in nic.addresses:
        has = ", ".join(nic.addresses[:3]) or "no address"
        if not cloud_init.gave_back(lease, nic):
            return f"stale: {lease.address} is not on {lease.interface} now, which has {has}"
    if is_over(lease, now) and not (nic is not None and addresses_known and lease.address in nic.addresses):
        return f"the lease of {lease.address} was given up" if lease.given_up else _over(lease, now)
    return None


def _named(leases: Sequence[Lease]) -> Dict[str, int]:
    """The addresses for which a file of this boot, or a running client, names the server, and its rank."""
    named: Dict[str, int] = {}
    for lease in leases:
        if lease.server_identifier is not None and not lease.path.startswith("/var/"):
            named[lease.address] = min(rank(lease), named.get(lease.address, len(TRUST)))
    return named


def _says_less(lease: Lease) -> bool:
    """Whether it has no server, and no end either, so that no clock can speak against it.

    NetworkManager keeps such a file below /var/lib beside each of its `devices/N`.
    """
    return lease.server_identifier is None and lease.expires is None


def is_over(lease: Lease, now: float) -> bool:
    """Whether the clock says that a lease has ended: field/dhcp-leases#rule-3; one given up ends at once."""
    if lease.expires is None:
        return False
    return now >= lease.expires if lease.given_up else now > lease.expires + LENIENCY


def _over(lease: Lease, now: float) -> str:
    return f"expired {duration(now - (lease.expires or 0.0))} ago"


def _conflict(best: Lease, other: Lease) -> bool:
    return (
        other.address == best.address
        and other.server_identifier is not None
        and other.server_identifier != best.server_identifier
    )


def _beside(best: Lease, other: Lease) -> str:
    if _conflict(best, other):
        return (
            f"names the server {other.server_identifier} for the same address; "
            f"{best.client} says {best.server_identifier} and is trusted more"
        )
    if other.address != best.address:
        return f"another address of {best.interface}; {best.client} is trusted more"
    if other.server_identifier is None:
        return f"does not record the server identifier; {best.client} does"
    return f"agrees with {best.client}, which is trusted more"


def _reject(lease: Lease, reason: str) -> Rejected:
    interface = lease.interface if _INTERFACE.fullmatch(lease.interface) else None
    return Rejected(lease.path, lease.client, interface, reason)


def duration(seconds: float) -> str:
    """A length of time in its largest fitting unit."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"
