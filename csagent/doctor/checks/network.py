"""Platform, NICs and default routes, leases: what there is to ask CloudStack with. Contacts nobody."""

from __future__ import annotations

from typing import Iterator, List, Optional

from csagent.discovery.candidates import DATA_SERVER
from csagent.doctor.checks import renewal
from csagent.doctor.context import Situation
from csagent.doctor.finding import NOTE, OK, PROBLEM, WARNING, Finding
from csagent.model import Lease, Nic, Rejected

DMI = "/sys/class/dmi/id/"
LEASES_SHOWN = 12
EXPIRED, STALE = "expired", "stale"  # what a reason begins with, see discovery.leases.belief


def platform(situation: Situation) -> Iterator[Finding]:
    """What DMI says about the hypervisor."""
    dmi = situation.found.platform
    product = " ".join(part for part in (dmi.vendor, dmi.product) if part)
    if dmi.cloudstack:
        yield Finding("platform", OK, product, "DMI says that this is a CloudStack guest")
    elif dmi.cloudstack is False:
        means = "DMI says that this is another cloud: a virtual router or a drive of CloudStack's is unlikely"
        advice = "run csagent on CloudStack only: systemctl disable --now csagent"
        yield Finding("platform", WARNING, product, means, advice)
    elif product:
        means = "DMI does not name CloudStack; VMware, Xen and renamed hosts look like this, so it may be"
        yield Finding("platform", NOTE, product, means)
    elif situation.tree:
        yield Finding("platform", NOTE, "not seen: this is a tree, and it has no DMI of its own")
    else:
        yield Finding("platform", NOTE, "DMI says nothing: aarch64 and containers have none")


def nics(situation: Situation) -> Iterator[Finding]:
    """NICs, their links and addresses, the default route."""
    found = situation.found
    if situation.found_problem:
        means = "leases, NICs and drives could not be looked at"
        yield Finding("network", PROBLEM, situation.found_problem, means, "csagent -v discover")
        return
    if situation.tree:
        yield Finding("network", NOTE, "not seen: this is a tree, and its NICs are those of another machine")
        return
    if not found.nics and situation.seen.source_found:
        yield Finding("network", NOTE, "no network interface", "a config drive has the data, and needs none")
        return
    if not found.nics:
        advice = "add a NIC to the VM in CloudStack, or see: dmesg | grep -i eth; ip link"
        means = "there is nobody to ask without one; only a config drive could help"
        yield Finding("network", PROBLEM, "no network interface", means, advice)
        return
    addressed = False
    for nic in found.nics:
        usable = [address for address in nic.addresses if not address.startswith("169.254.")]
        addressed = addressed or bool(usable)
        yield _nic(situation, nic, usable)
    default = [route for route in found.routes]
    if default:
        said = ", ".join(f"{route.gateway} on {route.interface}" for route in default)
        yield Finding("network", OK, f"default route by {said}")
    elif addressed:
        means = "the default NIC, and with it the right virtual router, had to be guessed"
        state = NOTE if situation.seen.source_found else WARNING
        yield Finding("network", state, "no default route", means, "ip -4 route; see the DHCP client's log")
    for note in found.notes:
        yield Finding("network", NOTE, note, "csagent had to guess, or could not look")


def _nic(situation: Situation, nic: Nic, usable: List[str]) -> Finding:
    default = " (default)" if nic.name == situation.found.default_interface else ""
    saw = f"{nic.name}{default} {', '.join(nic.addresses) or 'no IPv4 address'}"
    carrier = (situation.read(f"/sys/class/net/{nic.name}/carrier") or "").strip()
    alone = len(situation.found.nics) == 1
    if carrier == "0":
        advice = "see in CloudStack that the NIC is plugged and its network implemented; then: ip link"
        return Finding("network", PROBLEM if alone else WARNING, f"{saw}, no carrier", "no cable", advice)
    if usable:
        return Finding("network", OK, saw)
    means = "no router can be asked from it: a router knows a VM by its address"
    if nic.addresses:
        means = "that address is one of its own making, DHCP gave none; " + means
    advice = f"have DHCP configured on {nic.name} and see why nobody answers: journalctl -b | grep -i dhcp"
    state = PROBLEM if alone or default else NOTE
    return Finding("network", state, saw, means, advice if state == PROBLEM else "")


def leases(situation: Situation) -> Iterator[Finding]:
    """The leases that hold, and those that do not, with the reason."""
    found = situation.found
    if situation.found_problem:
        yield Finding("leases", NOTE, "not seen: finding failed, see network")
        return
    for lease in found.leases:
        yield Finding("leases", OK, _lease(lease), f"from {situation.shown(lease.path)}")
    for one in found.rejected[:LEASES_SHOWN]:
        where = f" of {one.interface}" if one.interface else ""
        yield Finding("leases", NOTE, f"not believed: {one.client}{where}: {one.reason}", f"from {one.path}")
    if len(found.rejected) > LEASES_SHOWN:
        yield Finding("leases", NOTE, f"not believed: {len(found.rejected) - LEASES_SHOWN} more")
    default = found.default_interface
    unleased = default is not None and default not in {lease.interface for lease in found.leases}
    if found.leases and not unleased:
        return
    if situation.tree:
        if not found.leases:
            yield Finding("leases", OK, "no lease", "as a template should be")
        return
    if not found.nics:
        return
    means = f"the DHCP server is not known; {DATA_SERVER} and the gateway are all there is to ask"
    former = _former(situation, default)
    advice = "configure DHCP on it, or name the router in the unit: csagent daemon --router ADDRESS"
    if former is not None:
        renew = renewal.command(former, default or "NIC")
        expired = former.reason.startswith(EXPIRED)
        why = "the client has died" + (", or the clock is wrong" if expired else ", or has lost it")
        means += f". The lease in {former.path}: {former.reason}: {why}"
        advice = f"date; where that is right: {renew}" if expired else renew
    state = NOTE if situation.seen.source_found and former is None else WARNING
    yield Finding("leases", state, f"no lease holds on {default or 'any NIC'}", means, advice)


def _lease(lease: Lease) -> str:
    server = lease.server_identifier or "not recorded"
    routers = f", router {', '.join(lease.routers)}" if lease.routers else ""
    return f"{lease.interface} {lease.address} ({lease.client}), DHCP server {server}{routers}"


def _former(situation: Situation, default: Optional[str]) -> Optional[Rejected]:
    """A lease that was refused only for its age, or one of this boot whose address is gone.

    What lies outside of /run may have come with a template, from a client that is not in use here.
    """
    for one in situation.found.rejected:
        here = one.path.startswith("/run/") and one.interface == default
        if one.reason.startswith(EXPIRED) or (here and one.reason.startswith(STALE)):
            return one
    return None
