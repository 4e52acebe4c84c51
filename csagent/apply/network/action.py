"""The network's part of a pass: from the drive's document to an action of the plan, and to what became of it.

A machine whose network is a virtual router's has no such document: it costs a look for files of ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Optional, Sequence, Tuple

from csagent.apply.network import document
from csagent.apply.network.plan import (
    APPLIED,
    CONFIGURE,
    DONE,
    FAILED,
    REMOVE,
    UNCHANGED,
    UNCONFIRMED,
    NetworkPlan,
)
from csagent.plan import ConfigureNetwork, Leave, NicOutcome, Outcome
from csagent.state import network as state

if TYPE_CHECKING:
    from csagent.apply.network.document import Document
    from csagent.log import Say
    from csagent.model import Lease, Observation
    from csagent.plan import Action
    from csagent.system.seams import System

DATUM = "network"


def said_by(observation: "Observation") -> Optional["Document"]:
    """What the drive says; None where there is none, or where it cannot be understood."""
    if observation.network is not None:
        return document.of(observation.network)
    unread = any(refusal.datum == DATUM for refusal in observation.refusals)
    drive = any(place.place.startswith("drive ") and place.believed for place in observation.places)
    return document.NOTHING_SAID if drive and not unread else None


def refused_of(observation: "Observation") -> Tuple[str, ...]:
    """What of it is not believed, one line each."""
    return tuple(refusal.reason for refusal in observation.refusals if refusal.datum == DATUM)


def decided(
    system: "System", observation: "Observation", leases: Sequence["Lease"], left: Optional[str] = None
) -> Optional["Action"]:
    """What is to be done with the NICs; None where no source says anything of them.

    Args:
        system: the machine, or a tree.
        observation: what was read.
        leases: the DHCP leases that hold.
        left: why all NICs are left alone, as by cloud-init.

    Raises:
        ApplyError: the kernel does not say what NICs there are.
    """
    said = said_by(observation)
    if said is None:
        return None
    if left is not None:
        return Leave(DATUM, left, state="off")
    from csagent.apply.network import survey

    if said.says_nothing and not survey.written(system):
        return Leave(DATUM, "the drive's network_data.json gives no addresses", state="absent")
    from csagent.apply.network.decide import decide

    machine = survey.survey(system, leases)
    plan = decide(said, machine, state.load(system), refused=refused_of(observation))
    source = observation.provenance.get(DATUM, "")
    return ConfigureNetwork(
        DATUM, _reason(plan), source, plan, differs(system, plan), bool(plan.refused) or _failed(plan)
    )


def of_another_instance(system: "System") -> Optional["Action"]:
    """Files of ours for NICs that are gone, on a machine that is another instance now and has no drive.

    A template's that was not sealed, or a clone's: they belong to the former instance
    (field/network-data#N17).

    Raises:
        ApplyError: the kernel does not say what NICs there are.
    """
    from csagent.apply.network import survey
    from csagent.apply.network.decide import gone

    if not survey.written(system):
        return None
    plan = gone(survey.survey(system, (), wanted=()))
    return ConfigureNetwork(DATUM, _reason(plan), "", plan, differs(system, plan)) if plan.nics else None


def longest(action: Optional["Action"]) -> float:
    """Seconds that carrying it out may take."""
    from csagent.apply.network.change import LONGEST

    if not isinstance(action, ConfigureNetwork):
        return 0.0
    return LONGEST * sum(nic.do in (CONFIGURE, REMOVE) for nic in action.network.nics)


def differs(system: "System", plan: NetworkPlan) -> bool:
    """Whether carrying a plan out changes a file."""
    from csagent.apply.network import files

    return any(files.changed(system, file) for nic in plan.nics for file in nic.files)


def _failed(plan: NetworkPlan) -> bool:
    """Whether a NIC was put back before: an operator should look at it."""
    return any(nic.failed for nic in plan.nics)


def _reason(plan: NetworkPlan) -> str:
    """One line for all NICs."""
    told = [
        f"{nic.interface or nic.mac}: {', '.join(nic.wanted.addresses) if nic.wanted else nic.reason}"
        for nic in plan.nics
        if nic.do in (CONFIGURE, REMOVE) or not plan.nothing
    ]
    told += [f"{mac} is not on this machine (yet)" for mac in plan.absent]
    told += [f"not believed: {text}" for text in plan.refused]
    return "; ".join(told) or "the drive's network_data.json says nothing for this machine's NICs"


def carry_out(system: "System", action: ConfigureNetwork) -> Outcome:
    """Do it; what became of it, with a state for each NIC.

    A change that was cut short before (a crash, a power cut) is brought to its end by `resume`, before the
    plan is made.

    Raises:
        ApplyError: nothing can be remembered, and nothing more was changed.
    """
    from csagent.apply.network import executor

    nics = executor.carry_out(system, action.network, state.load(system))
    return _outcome(action, nics)


def _outcome(action: ConfigureNetwork, nics: Tuple[NicOutcome, ...]) -> Outcome:
    plan: NetworkPlan = action.network
    states = {nic.state for nic in nics}
    told = [f"{nic.interface or nic.mac}: {nic.state}: {nic.reason}" for nic in nics if nic.wrong]
    wrong = action.wrong or bool(told)
    if states & {*DONE}:
        state = APPLIED
    elif FAILED in states:
        state = FAILED
    elif UNCHANGED in states or UNCONFIRMED in states:
        state = UNCHANGED
    else:
        state = "off" if not plan.nothing else "absent"
    told = told or [action.reason]
    return Outcome(DATUM, state, "; ".join(told), action.source, wrong, nics=nics)


def resume(system: "System", log: "Say", takes: "Callable[[float], None]") -> Optional[str]:
    """Bring a change that was cut short to one of its two good ends.

    `takes` is told how long that may last.

    Returns:
        Why it has to wait for its manager, so that nothing else may be begun on the network; else None.

    Raises:
        ApplyError: its record cannot be removed, or the kernel does not answer.
    """
    if not system.live or not system.tree.exists(state.PENDING):
        return None
    from csagent.apply.network import change, recovery

    takes(change.LONGEST)
    ended = recovery.recover(system, log)
    return ended.reason if ended is not None and recovery.waits(ended) else None
