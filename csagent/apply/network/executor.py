"""Carrying out a plan: write, tell the manager, look, and keep it or put the former state back.

One NIC at a time, the one with the first default route last; one that fails does not undo the others
(field/network-data#N60).
A record of what was before is on the disk before the first file is written, so that a pass that is cut short
is brought to its end by the next one (`csagent.apply.network.recovery`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, List, Optional, Tuple

from csagent.apply.network import change, files, resolver, survey
from csagent.apply.network.change import Result
from csagent.apply.network.machine import NETWORKMANAGER
from csagent.apply.network.plan import (
    APPLIED,
    CONFIGURE,
    FAILED,
    LEFT,
    REMOVE,
    REMOVED,
    UNCHANGED,
    UNCONFIRMED,
    WRITTEN,
    NetworkPlan,
    NicPlan,
)
from csagent.apply.network.renderers import ifupdown, networkd, networkmanager
from csagent.errors import ApplyError
from csagent.plan import NicOutcome
from csagent.state import network as state
from csagent.state.network import NetworkMemory, NicRecord

if TYPE_CHECKING:
    from csagent.system.seams import System

NOT_NAMED = f"; {resolver.PATH} does not name its name servers"
LOOKS, PAUSE = 20, 0.1  # NetworkManager writes it a moment after the NIC is up; seconds

FORGET = (  # a file's directory, and how its reader forgets the file: else it comes back with the NIC
    (networkd.DIRECTORY, ("networkctl", "reload")),
    (networkmanager.DIRECTORY, ("nmcli", "connection", "reload")),
)
FORGET_PATIENCE = 30.0  # seconds


def carry_out(system: "System", plan: NetworkPlan, memory: NetworkMemory) -> Tuple[NicOutcome, ...]:
    """Do what the plan says, and remember it; what became of each NIC.

    Raises:
        ApplyError: nothing can be remembered: nothing more was changed.
    """
    memory = _with_leases(system, plan, _without_strangers(system, plan, memory))
    outcomes: Dict[str, NicOutcome] = {}
    for nic in sorted(plan.nics, key=_turn):
        try:
            result = _one(system, nic, memory)
        except (ApplyError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            result = Result(FAILED, str(reason))
        else:
            if nic.do == CONFIGURE:
                result = with_name_servers(system, nic, result)
                memory = remembered(system, memory, nic.mac, nic.source, result, nic)
            elif nic.do == REMOVE and nic.mac in memory.nics:
                kept = {mac: one for mac, one in memory.nics.items() if mac != nic.mac}
                memory = save(system, memory._replace(nics=kept))
        outcomes[nic.mac] = NicOutcome(nic.mac, nic.interface, result.state, result.reason)
    return tuple(outcomes[nic.mac] for nic in plan.nics)


def _turn(nic: NicPlan) -> Tuple[int, int]:
    """What goes comes first; then the NICs with the later default routes, and the first one last."""
    first = min((route.order for route in nic.wanted.routes), default=1 << 20) if nic.wanted else 1 << 20
    return (0 if nic.do == REMOVE else 1), -first


def _one(system: "System", nic: NicPlan, memory: NetworkMemory) -> Result:
    shared = system.tree.read_text(ifupdown.PATH) or ""
    nic = nic._replace(files=ifupdown.renewed(nic.files, nic.mac, shared))
    if nic.do == REMOVE:
        return _remove(system, nic)
    if nic.do != CONFIGURE or nic.wanted is None:
        return Result(FAILED if nic.failed else LEFT, nic.reason)
    if not system.live:
        for file in nic.files:
            change.write(system, file)
        return Result(WRITTEN, "nobody is told in a tree, and nothing is looked up")
    ours = tuple(file for file in nic.files if file.path != resolver.PATH)
    differing = any(files.changed(system, file) for file in ours)
    record = memory.nics.get(nic.mac)
    if not differing and record is not None and (record.state, record.source) == (APPLIED, nic.source):
        return Result(UNCHANGED, nic.reason)
    former = record.addresses if record is not None else ()
    gone = tuple(address for address in former if address not in nic.wanted.addresses)
    return change.make(system, nic, ours, gone, differing)


def _remove(system: "System", nic: NicPlan) -> Result:
    """What was written for a NIC that is gone; its reader forgets it, if it runs."""
    for file in nic.files:
        change.write(system, file)
    for directory, command in FORGET:
        if system.live and any(file.path.startswith(directory) for file in nic.files):
            system.runner.run(command, timeout=FORGET_PATIENCE)
    return Result(REMOVED, nic.reason)


def remembered(
    system: "System",
    memory: NetworkMemory,
    mac: str,
    source: str,
    result: Result,
    nic: Optional[NicPlan] = None,
    addresses: Tuple[str, ...] = (),
) -> NetworkMemory:
    """The memory with how a change has ended, on the disk before the record of the change goes."""
    if nic is not None and nic.wanted is not None:
        addresses = nic.wanted.addresses
    if result.state in state.STATES:
        before = memory.nics.get(mac)
        if result.state == FAILED:  # the former state is back
            addresses = before.addresses if before is not None else ()
        prints = dict(survey.written(system).get(mac, {}))
        record = NicRecord(result.state, source, result.reason, prints, addresses)
        if record != before:
            memory = save(system, memory._replace(nics={**memory.nics, mac: record}))
    if system.live:
        state.end(system)
    return memory


def save(system: "System", memory: NetworkMemory) -> NetworkMemory:
    """Remember it durably; a tree has nothing to remember.

    Raises:
        ApplyError: it cannot be written.
    """
    if system.live:
        state.save(system, memory)
    return memory


def _without_strangers(system: "System", plan: NetworkPlan, memory: NetworkMemory) -> NetworkMemory:
    """The memory of the NICs that the machine or the document has: those that come and go do not add up.

    A file that is put back, or that its owner has removed, leaves none for which the plan has a removal.
    """
    there = {nic.mac for nic in plan.nics} | set(plan.absent)
    kept = {mac: record for mac, record in memory.nics.items() if mac in there}
    return memory if len(kept) == len(memory.nics) else save(system, memory._replace(nics=kept))


def _with_leases(system: "System", plan: NetworkPlan, memory: NetworkMemory) -> NetworkMemory:
    """The memory, and which NICs have had a lease under this document."""
    known = memory.leased if plan.document == memory.document else ()
    leased = tuple(sorted({*known, *plan.leased}))
    if not plan.document or (plan.document, leased) == (memory.document, memory.leased):
        return memory
    return save(system, memory._replace(document=plan.document, leased=leased))


def with_name_servers(system: "System", nic: NicPlan, result: Result) -> Result:
    """The name servers in resolv.conf, where nobody else has it, and the result with what to say of that."""
    if result.state not in (APPLIED, UNCONFIRMED):
        return result
    if nic.note:
        return result._replace(reason=f"{result.reason}; {nic.note}")
    if nic.owner == NETWORKMANAGER and nic.wanted is not None and nic.wanted.dns:
        return result if _named(system, nic.wanted.dns) else result._replace(reason=result.reason + NOT_NAMED)
    wanted = [file for file in nic.files if file.path == resolver.PATH]
    if not wanted or not files.changed(system, wanted[0]):
        return result
    text = system.tree.read_text(resolver.PATH) or ""
    answering: List[str] = [one for one in resolver.servers_of_others(text) if resolver.answers(one)]
    if answering:
        return result._replace(reason=f"{result.reason}; {resolver.PATH} stays: {answering[0]} answers")
    try:
        change.write(system, wanted[0])
    except OSError as error:
        return result._replace(reason=f"{result.reason}; {resolver.PATH}: {error.strerror}")
    return result


def _named(system: "System", servers: Tuple[str, ...]) -> bool:
    """Whether resolv.conf leads to one of these servers, by name or by systemd-resolved."""
    for _look in range(LOOKS):
        if resolver.leads_to(system.tree.read_text(resolver.PATH) or "", servers):
            return True
        system.clock.sleep(PAUSE)
    return False
