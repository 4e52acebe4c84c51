"""One pass, readable from top to bottom: discover, read, decide, apply, remember, acknowledge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional, Sequence, Tuple

from csagent.errors import EXIT_FAILED, EXIT_NO_SOURCE, EXIT_OK, EXIT_PARTIAL, ApplyError, JailError
from csagent.model import Endpoint, Observation, Observed, Place, Secret
from csagent.sources.observe import observe
from csagent.sources.request import PassRequest

if TYPE_CHECKING:
    from csagent.plan import Action, OtherOwner, Outcome, Plan, Report
    from csagent.settings import Settings
    from csagent.state.applied import Memory
    from csagent.system.seams import System

CLOUD_INIT = "/usr/bin/cloud-init"
CLOUD_INIT_ENDS = "/var/lib/cloud/data/result.json"  # it is done for this boot: has it written over our keys?
NETWORK_RECORDS = ("/var/lib/csagent/network/pending.json", "/var/lib/csagent/network/applied.json")
ROUNDS = 3  # passes in a row, at most, while resets keep arriving; looks, while others remember things


def run_pass(request: PassRequest) -> "Report":
    """One whole pass. Several may look at the same time; one at a time decides and changes the machine.

    Raises:
        CsagentError: the pass could not even start.
        Interrupted: `request.cancel` became readable while it waited.
    """
    report, reset_meanwhile = _one_round(request)
    first = report.first
    for _again in range(ROUNDS - 1):
        if not reset_meanwhile:
            break
        report, reset_meanwhile = _one_round(request)
    return report._replace(first=first)


def _one_round(request: PassRequest) -> Tuple["Report", bool]:
    """The pass itself, and whether a reset came before the acknowledgement (field/cloudstack#edge-40)."""
    from csagent.state import instances, lock

    system = request.system
    started = system.clock.now()
    looks = ROUNDS
    while True:
        looks -= 1
        before = instances.mark(system)
        observed = observe(request)
        with lock.hold(system, request.cancel, takes=request.takes):
            # What was heard before another pass has set it says nothing of after: it is asked again.
            if not looks or instances.mark(system) == before:
                return _carry_out(request, observed, started)


def _carry_out(request: PassRequest, observed: Observed, started: float) -> Tuple["Report", bool]:
    system, settings, options = request.system, request.settings, request.options
    from csagent.apply.executor import PlanExecutor
    from csagent.plan import Report
    from csagent.sources.acknowledge import acknowledge
    from csagent.state import instances, published
    from csagent.system import trusted_path

    def tell(value: Secret, endpoints: Tuple[Endpoint, ...]) -> Tuple[Place, ...]:
        given = options.router is not None
        return acknowledge(system, value, endpoints, request.cancel, given=given)

    known = recall(system, settings, observed)
    if known.withheld:
        trusted_path.close_own(system, instances.STATE)
        known = recall(system, settings, observed)
    network = _network(system, settings, observed, new=known.is_new, request=request)
    plan = _decide(
        system,
        observed.observation,
        known,
        settings,
        force_password=options.force_password,
        network=network,
        proven=_proven(system, observed),
    )
    previous = published.previous(system)
    same = same_machine(observed) if observed.observation.source_found else ()
    executor = PlanExecutor(system, known, request.log, tell, request.cancel, previous, same)
    outcomes = executor.carry_out(plan)
    code = exit_code(observed.observation, outcomes)
    finished = system.clock.now()
    report = Report(observed, outcomes, started, finished, code, known.instance_id, known.is_new, known.note)
    # Before the status: who waits for that one finds it.
    tell_user_data(system, plan, executor.memory, observed.observation)
    return published.write(system, report, previous), executor.reset_meanwhile


def tell_user_data(system: "System", plan: "Plan", memory: "Memory", observation: Observation) -> None:
    """Leave the mark for which the unit of user-data waits, once the copy that it reads is kept.

    Neither silence nor a busy router takes it away: the final stage, which looks for it, may not have begun.
    A copy that is not surely whole does, whoever left the mark.
    """
    from csagent.state import published, user_data_mark

    unread = any(refusal.datum == "user_data" for refusal in observation.refusals)
    doubted = "user_data" in observation.doubts
    silent = observation.user_data is None and "user_data" in published.unheard(system, observation)
    answered = observation.source_found and not unread and not doubted and not silent
    if plan.run or memory.user_data_doubt or answered:
        user_data_mark.leave(system, plan.run if plan.run == memory.whole_user_data else "")


def _proven(system: "System", observed: Observed) -> bool:
    """Whether DMI alone shows the memory to be this machine's, and no source has answered since its start.

    A copy of its disk in another VM must not run what this one was given, and what CloudStack has taken back
    must not run in the silence after.
    """
    from csagent.state import applied
    from csagent.state.status_files import INSTANCE
    from csagent.validation import same_uuid

    platform = observed.found.platform
    if observed.observation.source_found or not platform.cloudstack or system.tree.exists(INSTANCE):
        return False
    last = applied.last_instance(system)
    return last is not None and platform.uuid is not None and same_uuid(last, platform.uuid)


def instance_of(system: "System", observed: Observed) -> Optional[str]:
    """The id under which things are remembered: the sources', else CloudStack's DMI's, else the last one."""
    from csagent.state import applied

    platform = observed.found.platform
    if observed.observation.instance_id:
        return observed.observation.instance_id
    last = applied.last_instance(system)
    if platform.cloudstack and platform.uuid:
        from csagent.validation import same_uuid

        return last if last and same_uuid(last, platform.uuid) else platform.uuid
    return last


def same_machine(observed: Observed) -> Tuple[str, ...]:
    """Every id that DMI, where it is CloudStack's, or a drive shows to be this machine's."""
    platform = observed.found.platform
    by_dmi = (platform.uuid.lower(),) if platform.cloudstack and platform.uuid else ()
    return tuple(dict.fromkeys((*by_dmi, *observed.observation.drive_ids)))


def recall(system: "System", settings: "Settings", observed: Observed) -> "Memory":
    """What was applied for this instance before, old guest scripts' markers included."""
    from csagent.state import applied
    from csagent.system import accounts

    home: Optional[str] = None
    try:
        account = accounts.find(system, settings.user)
    except ApplyError:
        pass
    else:
        # A person's home may lie on a server that does not answer; a marker there would be its owner's word.
        home = None if accounts.is_persons(system, account.uid) else account.home
    return applied.load(system, instance_of(system, observed), home, same_machine(observed))


def make_plan(
    system: "System", settings: "Settings", observed: Observed, *, force_password: bool = False
) -> Tuple["Plan", str]:
    """Decide, without changing anything; the plan, and what was wrong with the memory."""
    known = recall(system, settings, observed)
    network = _network(system, settings, observed, new=known.is_new)
    plan = _decide(
        system, observed.observation, known, settings, force_password=force_password, network=network
    )
    return plan, known.note


def _network(
    system: "System",
    settings: "Settings",
    observed: Observed,
    *,
    new: bool,
    request: Optional[PassRequest] = None,
) -> "Optional[Action]":
    """What is to be done with the NICs; None where no source has a network configuration.

    Args:
        system: the machine, or a tree.
        settings: what the operator turned off.
        observed: what was found and read.
        new: nothing is remembered of this instance: what lies there is a former one's.
        request: given where the plan will be carried out: a change that was cut short is brought to its end.
    """
    # Where a router serves the network, and a drive says nothing of it, that costs two stats.
    known = any(system.tree.exists(path) for path in NETWORK_RECORDS)
    if not settings.network or not (known or observed.observation.network is not None):
        return None
    from csagent.apply.network import action
    from csagent.other_agents.network import left_to_cloud_init
    from csagent.plan import Leave
    from csagent.sources import jobs

    try:
        if request is not None:
            waits = action.resume(system, request.log, request.takes)
            if waits is not None:
                return Leave(action.DATUM, waits)
        if action.said_by(observed.observation) is None:
            former = new and observed.observation.source_found
            return action.of_another_instance(system) if former else None
        leases = observed.found.leases if observed.found.nics else jobs.discover(system, settings).leases
        left = left_to_cloud_init(system, settings)
        made = action.decided(system, observed.observation, leases, left)
        if request is not None:
            seconds = action.longest(made)
            if seconds:
                request.takes(seconds)
        return made
    except (ApplyError, JailError) as error:
        return Leave(action.DATUM, str(error), state="failed", wrong=True)


def _decide(
    system: "System",
    observation: Observation,
    known: "Memory",
    settings: "Settings",
    *,
    force_password: bool,
    network: "Optional[Action]" = None,
    proven: bool = False,
) -> "Plan":
    """The plan; where we cannot tell what was applied before, one that changes nothing."""
    from csagent.decide import decide
    from csagent.plan import Leave, OtherOwner, Plan
    from csagent.state import user_data_mark

    # Where there is no cloud-init, that costs one stat.
    other = _other_owner(system, known, settings) if system.tree.exists(CLOUD_INIT) else OtherOwner()
    named = user_data_mark.name_given(system, known.moved_from or known.instance_id)
    plan = decide(
        observation,
        known,
        settings,
        force_password=force_password,
        other=other,
        network=network,
        named=named,
        proven=proven,
    )
    if not known.withheld:
        return plan

    def left(action: "Action") -> "Action":
        if isinstance(action, Leave) or action.datum == "network":  # it has a memory of its own
            return action
        return Leave(action.datum, known.withheld, action.source, state="refused", wrong=True)

    return Plan(tuple(left(action) for action in plan.actions))


def _other_owner(system: "System", known: "Memory", settings: "Settings") -> "OtherOwner":
    """What a cloud-init does here about the data that the plan is about."""
    from csagent.apply import ssh_keys
    from csagent.other_agents import cloud_init, ownership
    from csagent.system import accounts

    other = ownership.other_owner(cloud_init.cloud_init(system), settings)
    if not other.writes_keys or not known.ssh_keys or known.ssh_user != settings.user:
        return other
    try:
        account = accounts.find(system, settings.user)
    except ApplyError:
        return other
    return other._replace(touched_keys=ssh_keys.touched(system, account, known.ssh_keys))


def exit_code(observation: Observation, outcomes: Sequence["Outcome"]) -> int:
    """0 done, 1 all that was to be done failed, 3 some of it did, 4 there was no source."""
    if not observation.source_found:
        return EXIT_NO_SOURCE
    if not any(outcome.state == "failed" or outcome.wrong for outcome in outcomes):
        return EXIT_OK
    good = any(outcome.state in ("applied", "unchanged") for outcome in outcomes)
    return EXIT_PARTIAL if good else EXIT_FAILED
