"""Who is in charge of a NIC: the running daemons are asked, about this NIC, then files are looked at.

See field/network-data#4, and #N20 to #N30. Nothing is told from the distribution's name.
"""

from __future__ import annotations

import re
from typing import List, Optional, Tuple

from csagent.apply.network.kernel_state import LinkSeen
from csagent.apply.network.machine import IFUPDOWN, NETWORKD, NETWORKMANAGER, Owner
from csagent.apply.network.owners import ifupdown, networkd, networkmanager, units
from csagent.apply.network.owners.claim import Claim
from csagent.apply.network.renderers import ifupdown as ifupdown_files
from csagent.system.seams import System

CLOUD_INIT_NETPLAN = "/etc/netplan/50-cloud-init.yaml"
NETPLAN = ("/etc/netplan/*.yaml", "/run/netplan/*.yaml", "/usr/lib/netplan/*.yaml", "/lib/netplan/*.yaml")
RENDERED = ("/run/systemd/network/10-netplan-*", "/run/NetworkManager/system-connections/netplan-*")


def find(system: System, known: units.Units, link: LinkSeen) -> Owner:
    """Who is in charge of one NIC, and what speaks against touching it."""
    claims = [
        claim
        for claim in (
            networkd.claim(system, known, link),
            networkmanager.claim(system, known, link),
            ifupdown.claim(system, known, link),
            *_others(known),
        )
        if claim is not None
    ]
    owner = _decide(claims, known)
    if owner.ours or owner.against is not None:
        return owner
    against = _netplan(system, link)
    if owner.manager == IFUPDOWN and not ifupdown_files.fit_name(link.name):
        against = against or f"{link.name!r} is no name that can stand in a file of ifupdown's"
    return owner._replace(against=against)


def _decide(claims: List[Claim], known: units.Units) -> Owner:
    holding = [claim for claim in claims if claim.holds]
    if len(holding) > 1:
        names = " and ".join(claim.manager for claim in holding)
        return Owner(names, against=f"{names} both configure it: which of them shall, only you can say")
    # Nobody has it: unless one is told to leave it alone, it is given to the first that takes files of ours.
    others = sorted(claims, key=lambda claim: (not claim.forbids, claim.against is not None))
    for claim in holding or others:
        how = claim.how if claim.holds else "no file configures it"
        return Owner(claim.manager, claim.against, claim.ours, claim.starting, claim.raised, how)
    return Owner(against=_nobody(known))


def _others(known: units.Units) -> Tuple[Claim, ...]:
    """Managers that csagent has no files for; they take all NICs that they are not told to leave."""
    return tuple(
        Claim(name, against=f"{name} is in charge of it, for which csagent writes no files")
        for name, services in units.OTHERS.items()
        if any(known.of(service).active for service in services)
    )


def _nobody(known: units.Units) -> str:
    """Nobody knows the NIC: no daemon is started for it."""
    masked = [
        name
        for name, unit in ((NETWORKD, units.NETWORKD), (NETWORKMANAGER, units.NETWORKMANAGER))
        if known.of(unit).masked
    ]
    why = f" ({', '.join(masked)} masked)" if masked else ""
    return f"neither systemd-networkd, NetworkManager nor ifupdown configures it{why}"


def _netplan(system: System, link: LinkSeen) -> Optional[str]:
    """cloud-init's netplan file; and any for this NIC where the daemon's files are not made of them yet."""
    named = re.compile(
        rf"(?<![\w.:-])({re.escape(link.name)}|{link.mac}|{link.own_mac})(?![\w.-]|:\w)", re.IGNORECASE
    )
    text = system.tree.read_text(CLOUD_INIT_NETPLAN)
    if text is not None and named.search(text):
        return f"cloud-init configures it: {CLOUD_INIT_NETPLAN}"
    if any(True for pattern in RENDERED for _path in system.tree.glob(pattern)):
        return None
    for path in (path for pattern in NETPLAN for path in system.tree.glob(pattern)):
        if named.search(system.tree.read_text(path) or ""):
            return f"somebody configures it: {path}"
    return None
