"""What to do with each NIC: a pure function of the document, the machine and what was done before.

It is total: each NIC of the machine gets exactly one decision with a reason. Where somebody else configures a
NIC, nothing is written.
"""

from __future__ import annotations

import hashlib
import json
from typing import Optional, Sequence, Tuple

from csagent.apply.network import renderers, resolver
from csagent.apply.network.document import NOTHING_SAID, Document, Link
from csagent.apply.network.machine import (
    IFUPDOWN,
    MANAGERS,
    NETWORKD,
    NETWORKMANAGER,
    PLAIN,
    RESOLVCONF,
    RESOLVED,
    Device,
    Machine,
)
from csagent.apply.network.plan import (
    CONFIGURE,
    LEAVE,
    REMOVE,
    File,
    NetworkPlan,
    NicPlan,
    Wanted,
)
from csagent.apply.network.wanted import NO_NUMBER, lease_expected, wanted_by
from csagent.state.network import NetworkMemory, NicRecord

NOTHING_REMEMBERED = NetworkMemory()
TAKES_SERVERS = {  # whom a NIC's configuration hands its name servers on to
    NETWORKD: (RESOLVED,),
    NETWORKMANAGER: (NETWORKMANAGER, RESOLVED, RESOLVCONF, PLAIN),
    IFUPDOWN: (RESOLVED, RESOLVCONF),
}


def decide(
    document: Optional[Document],
    machine: Machine,
    memory: NetworkMemory = NOTHING_REMEMBERED,
    *,
    left: Optional[str] = None,
    refused: Sequence[str] = (),
    again: bool = False,
) -> NetworkPlan:
    """The plan for all NICs.

    Args:
        document: what CloudStack says; None: nobody said anything (no drive, or one that cannot be read).
        machine: the NICs as they are.
        memory: what was done before.
        left: why all NICs are left alone: a setting, or cloud-init.
        refused: what of the document was not believed.
        again: try what has failed before, or was changed by the owner.
    """
    if document is None or left is not None:
        why = left or "no source says anything of the network"
        nics = tuple(_leave(device, why) for device in machine.devices)
        return NetworkPlan(nics, refused=tuple(refused))
    machine = machine._replace(devices=tuple(_as_named(document, device) for device in machine.devices))
    against = {device.mac: _against(document, device, machine, memory, again) for device in machine.devices}
    links = sorted(
        (link for link in document.links if link.mac in against and against[link.mac] is None),
        key=lambda link: NO_NUMBER if link.number is None else link.number,
    )
    wanted, notes = wanted_by(document, machine, memory, links)
    nics = tuple(
        _told_beside(
            _configure(document, device, machine, wanted[device.mac]),
            () if again else _beside(document, device, memory),
        )
        if device.mac in wanted
        else _leave(device, str(against[device.mac]), _failed(document, device, memory) and not again)
        for device in machine.devices
    )
    absent = tuple(link.mac for link in document.links if link.mac not in against)
    said = any(link.addresses and link.mac in against for link in document.links)
    plans = (*nics, *_gone(document, machine))
    leased = tuple(device.mac for device in machine.devices if device.lease and not device.owner.ours)
    return NetworkPlan(plans, not said, absent, (*refused, *notes), document.digest, leased)


def gone(machine: Machine) -> NetworkPlan:
    """The plan that only takes away what was written for NICs that are gone."""
    return NetworkPlan(_gone(NOTHING_SAID, machine))


def _as_named(document: Document, device: Device) -> Device:
    """A NIC that CloudStack knows by the MAC address which it has been given, and not by its own."""
    if device.given is None or document.link(device.mac) or not document.link(device.given):
        return device
    return device._replace(mac=device.given, given=None)


def source(document: Document, link: Link) -> str:
    """The digest of what the document says of one NIC: what was tried, or edited, counts until it changes."""
    return hashlib.sha256(json.dumps([link, document.dns]).encode()).hexdigest()


def _leave(device: Device, reason: str, failed: bool = False) -> NicPlan:
    return NicPlan(device.mac, device.name, LEAVE, reason, device.owner.manager, failed=failed)


def _failed(document: Document, device: Device, memory: NetworkMemory) -> bool:
    """Whether what the document says of a NIC was tried, and put back."""
    link, record = document.link(device.mac), memory.nics.get(device.mac)
    return (
        link is not None
        and record is not None
        and (record.state, record.source)
        == (
            "failed",
            source(document, link),
        )
    )


def _configure(document: Document, device: Device, machine: Machine, wanted: Wanted) -> NicPlan:
    owner = device.owner
    link = document.link(device.mac)
    files = renderers.render(str(owner.manager), wanted, machine, raised=owner.raised)
    reason = f"CloudStack gives it {', '.join(wanted.addresses)}"
    if owner.how:
        reason += f"; now it is configured by {owner.how}"
    note = ""
    if wanted.dns and machine.resolver == PLAIN and owner.manager != NETWORKMANAGER:
        files += (File(resolver.PATH, resolver.with_servers(machine.resolv_conf, wanted.dns)),)
    elif wanted.dns and machine.resolver not in TAKES_SERVERS[str(owner.manager)]:
        note = f"not its name servers: {resolver.PATH} is made by {machine.resolver}"
        reason += f"; {note}"
    said = source(document, link) if link is not None else ""
    return NicPlan(
        device.mac,
        device.name,
        CONFIGURE,
        reason,
        owner.manager,
        wanted,
        files,
        said,
        note=note,
        starting=owner.starting,
    )


def _gone(document: Document, machine: Machine) -> Tuple[NicPlan, ...]:
    """What was written for NICs that are gone; those of the document may come yet.

    Left there, a route would come back with the MAC address (field/network-data#N12, #N13).
    """
    there = {device.mac for device in machine.devices} | {link.mac for link in document.links}
    return tuple(
        NicPlan(
            mac,
            None,
            REMOVE,
            "the machine has no NIC with this MAC address any more",
            None,
            None,
            renderers.without(mac, paths, machine),
        )
        for mac, paths in sorted(machine.written.items())
        if mac not in there
    )


def _against(
    document: Document, device: Device, machine: Machine, memory: NetworkMemory, again: bool
) -> Optional[str]:
    """Why a NIC is left alone; None: it is not."""
    link = document.link(device.mac)
    if document.says_nothing:
        return "the document says nothing of addresses"
    if link is None:
        return "the document does not have it"
    if not link.addresses:
        return f"the document has no address for it ({link.id})"
    if device.part_of is not None:
        return f"it is a part of {device.part_of}"
    if device.given is not None:
        return f"somebody has given it another MAC address, {device.given}"
    if device.twin is not None:
        return f"{device.twin} has the same MAC address"
    owner = device.owner
    if not owner.ours:
        if device.lease is not None:
            return f"it has a DHCP lease: {device.lease}"
        if lease_expected(document, device, machine, memory):
            return "it had a DHCP lease before the machine was started, and DHCP may give it one again"
    if owner.against is not None:
        return owner.against
    if owner.manager not in MANAGERS:
        return "nobody is in charge of it"
    return _against_change(document, link, device, machine, memory, again)


def _against_change(
    document: Document,
    link: Link,
    device: Device,
    machine: Machine,
    memory: NetworkMemory,
    again: bool,
) -> Optional[str]:
    """What of the NIC's own past speaks against it: an address or an edit of the owner's, or a failure."""
    record = memory.nics.get(device.mac)
    same = record is not None and record.source == source(document, link)
    if record is not None and same and not again:
        if record.state == "failed":
            return f"tried before with this document, and put back: {record.reason}"
        if _edited(record, device, machine):
            return "the owner has changed or removed csagent's file, and the document is the same since"
    if device.owner.ours and not same:
        return None  # ours changes, and what was added by hand beside it goes (field/network-data#N23)
    foreign = _foreign(link, device, record)
    if foreign and not device.owner.ours:
        return f"it has an address that somebody gave it: {', '.join(foreign)}"
    return None


def _told_beside(nic: NicPlan, beside: Tuple[str, ...]) -> NicPlan:
    """The plan of a NIC that has addresses of somebody's beside csagent's, with a word about them."""
    if not beside:
        return nic
    reason = f"{nic.reason}; {', '.join(beside)} is somebody's, and nothing is done that would take it away"
    return nic._replace(beside=beside, reason=reason)


def _beside(document: Document, device: Device, memory: NetworkMemory) -> Tuple[str, ...]:
    """What somebody gave to a NIC of ours by hand, where what the document says of the NIC is the same."""
    link, record = document.link(device.mac), memory.nics.get(device.mac)
    same = link is not None and record is not None and record.source == source(document, link)
    return _foreign(link, device, record) if link is not None and same and device.owner.ours else ()


def _foreign(link: Link, device: Device, record: Optional[NicRecord]) -> Tuple[str, ...]:
    """Addresses that nobody has set but a person: neither the document's nor a lease's nor the kernel's."""
    ours = {str(address) for address in link.addresses} | set(record.addresses if record else ())
    return tuple(
        one.address
        for one in device.addresses
        if one.permanent and not one.link_local and one.address not in ours
    )


def _edited(record: NicRecord, device: Device, machine: Machine) -> bool:
    """Whether what was written is not there any more as it was written (field/network-data#N26)."""
    now = machine.written.get(device.mac, {})
    return any(now.get(path) != fingerprint for path, fingerprint in record.files.items())
