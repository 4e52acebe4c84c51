"""A change that was cut short, by a crash or a power cut, is brought to one of its two good ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from csagent.apply.network import change, executor, kernel, managers, survey
from csagent.apply.network.change import Result
from csagent.apply.network.machine import IFUPDOWN, NETWORKD, NETWORKMANAGER
from csagent.apply.network.owners import units
from csagent.apply.network.plan import LEFT, UNCONFIRMED, WRITTEN, Wanted, from_plain
from csagent.plan import NicOutcome
from csagent.state import network as state
from csagent.state.network import NicRecord, Pending

if TYPE_CHECKING:
    from csagent.log import Say
    from csagent.system.seams import System

UNITS = {NETWORKD: units.NETWORKD, NETWORKMANAGER: units.NETWORKMANAGER, IFUPDOWN: units.IFUPDOWN}


def recover(system: "System", log: "Say") -> Optional[NicOutcome]:
    """End what the last pass had begun; what became of it, None where there was nothing.

    A state of `written` means that it has to wait for its manager, which is not up yet: until then nothing
    else may be begun.

    Raises:
        ApplyError: the record cannot be removed, or the kernel does not answer.
    """
    if not system.live:
        return None
    pending = state.pending(system)
    if pending is None or pending.manager not in UNITS:
        state.end(system)
        return None
    link = next((one for one in kernel.look(system).links if one.mac == pending.mac), None)
    if link is None:
        state.end(system)
        return NicOutcome(pending.mac, None, LEFT, "its change was cut short, and the NIC is gone")
    pending = pending._replace(interface=link.name)  # names change with kernels and machine types
    if not units.find(system).of(UNITS[pending.manager]).active:
        reason = f"a change that was cut short waits for {pending.manager}"
        return NicOutcome(pending.mac, link.name, WRITTEN, reason)
    result = _end(system, pending)
    outcome = NicOutcome(
        pending.mac, link.name, result.state, f"begun before, and cut short: {result.reason}"
    )
    log(f"{outcome.interface}: {outcome.state}: {outcome.reason}", datum="network")
    return outcome


def _end(system: "System", pending: Pending) -> Result:
    manager = managers.of(pending.manager, pending.interface, pending.mac)
    wanted = _wanted(pending)
    now = survey.written(system).get(pending.mac, {})
    whole = all(now.get(path) == fingerprint for path, fingerprint in pending.written.items())
    if wanted is None or not whole:
        # Not all of it was written: what was before is whole, and the plan of this pass begins anew.
        edited = change.changed_since(system, pending)
        told = change.put_back(system, manager, None, pending)
        if edited and wanted is not None:
            _remember_edit(system, pending, wanted, told)
        state.end(system)
        return Result(LEFT, told)
    token = manager.guard(system)
    result = change.finish(system, manager, token, pending, wanted)
    memory = state.load(system)
    executor.remembered(system, memory, pending.mac, pending.source, result, addresses=wanted.addresses)
    return result


def _remember_edit(system: "System", pending: Pending, wanted: Wanted, told: str) -> None:
    """As after a change that stands: an edit of its files is the owner's, until the document changes."""
    record = NicRecord(UNCONFIRMED, pending.source, told, pending.written, wanted.addresses)
    memory = state.load(system)
    executor.save(system, memory._replace(nics={**memory.nics, pending.mac: record}))


def _wanted(pending: Pending) -> Optional[Wanted]:
    try:
        return from_plain(pending.wanted)._replace(interface=pending.interface)
    except ValueError:
        return None


def waits(outcome: Optional[NicOutcome]) -> bool:
    """Whether nothing may be begun yet."""
    return outcome is not None and outcome.state == WRITTEN
