"""One pass, readable from top to bottom: find -> read -> decide -> apply -> remember -> acknowledge."""

from __future__ import annotations

import errno
import fcntl
import os
import select
from contextlib import contextmanager
from typing import TYPE_CHECKING, Iterator, Optional, Sequence, Tuple

from csagent.errors import EXIT_FAILED, EXIT_NO_SOURCE, EXIT_OK, EXIT_PARTIAL, ApplyError, CsagentError
from csagent.log import nothing
from csagent.model import Observation, Observed
from csagent.sandbox.child import Wake
from csagent.sources.jobs import Options
from csagent.sources.observe import GRACE, Interrupted, observe

if TYPE_CHECKING:
    from csagent.log import Say
    from csagent.other_agents.cloud_init import CloudInit
    from csagent.plan import Outcome, Plan, Report
    from csagent.settings import Settings
    from csagent.state.applied import Memory
    from csagent.system.seams import System

CLOUD_INIT = "/usr/bin/cloud-init"
CLOUD_INIT_ENDS = "/var/lib/cloud/data/result.json"  # it is done for this boot: has it written over our keys?
RUN = "/run/csagent"
LOCK = RUN + "/lock"
LOCK_PATIENCE = 60.0  # seconds; a pass that changes something takes a few
LOCK_PAUSE = 0.05
DENIED = (errno.EACCES, errno.EPERM)
ROUNDS = 3  # passes in a row, at most, while resets keep arriving


def instance_of(system: "System", observed: Observed) -> Optional[str]:
    """The id under which things are remembered: the sources', else CloudStack's DMI's, else the last one."""
    from csagent.state import applied

    platform = observed.found.platform
    if observed.observation.instance_id:
        return observed.observation.instance_id
    if platform.cloudstack and platform.uuid:
        return platform.uuid
    return applied.last_instance(system)


def recall(system: "System", settings: "Settings", observed: Observed) -> "Memory":
    """What was applied for this instance before, old guest scripts' markers included."""
    from csagent.state import applied
    from csagent.system import accounts

    try:
        home: Optional[str] = accounts.find(system, settings.user).home
    except ApplyError:
        home = None
    return applied.load(system, instance_of(system, observed), home)


def make_plan(
    system: "System", settings: "Settings", observed: Observed, *, force_password: bool = False
) -> Tuple["Plan", str]:
    """Decide, without changing anything; the plan, and what was wrong with the memory."""
    known = recall(system, settings, observed)
    return _decide(system, observed.observation, known, settings, force_password), known.note


def _beside(system: "System", known: "Memory", settings: "Settings") -> Optional["CloudInit"]:
    """What a cloud-init does here; where there is none, that costs one stat."""
    if not system.tree.exists(CLOUD_INIT):
        return None
    from csagent.apply import ssh_keys
    from csagent.other_agents import cloud_init
    from csagent.system import accounts

    found = cloud_init.cloud_init(system)
    if found is None or not found.writes_keys or not known.ssh_keys or known.ssh_user != settings.user:
        return found
    try:
        account = accounts.find(system, settings.user)
    except ApplyError:
        return found
    return found._replace(touched_keys=ssh_keys.touched(system, account, known.ssh_keys))


def _decide(
    system: "System", observation: Observation, known: "Memory", settings: "Settings", force_password: bool
) -> "Plan":
    """The plan; where we cannot tell what was applied before, one that changes nothing."""
    from csagent.decide import decide
    from csagent.plan import Action, Leave, Plan

    beside = _beside(system, known, settings)
    plan = decide(observation, known, settings, force_password=force_password, cloud_init=beside)
    if not known.withheld:
        return plan

    def left(action: Action) -> Action:
        if isinstance(action, Leave):
            return action
        return Leave(action.datum, known.withheld, action.source, state="refused", wrong=True)

    return Plan(tuple(left(action) for action in plan.actions))


def run_pass(
    system: "System",
    settings: "Settings",
    options: Options,
    *,
    wait: float,
    grace: float = GRACE,
    wake: Optional[Wake] = None,
    log: "Say" = nothing,
) -> "Report":
    """One whole pass. Several may look at the same time; one at a time decides and changes the machine.

    Args:
        system: the machine, or a tree.
        settings: what the operator configured.
        options: what the command line says.
        wait: seconds to wait for a source.
        grace: seconds that the router gets once a drive has been read.
        wake: ends the waiting (not the changing) early.
        log: takes one line per decision, and its fields (README, "In the journal").

    Raises:
        CsagentError: the pass could not even start.
        Interrupted: `wake` became readable while it waited.
    """
    report, reset_meanwhile = _one_round(system, settings, options, wait, grace, wake, log)
    first = report.first
    for _again in range(ROUNDS - 1):
        if not reset_meanwhile:
            break
        report, reset_meanwhile = _one_round(system, settings, options, wait, grace, wake, log)
    return report._replace(first=first)


def _one_round(
    system: "System",
    settings: "Settings",
    options: Options,
    wait: float,
    grace: float,
    wake: Optional[Wake],
    log: "Say",
) -> Tuple["Report", bool]:
    """The pass, and whether a reset arrived between fetch and acknowledgement (field/cloudstack#edge-40)."""
    started = system.clock.now()
    observed = observe(
        system, settings, options, wait=wait, grace=grace, wake=wake, meanwhile=import_the_rest
    )
    from csagent.apply.executor import Worker
    from csagent.plan import Report
    from csagent.state import published

    with one_at_a_time(system, wake):
        known = recall(system, settings, observed)
        plan = _decide(system, observed.observation, known, settings, options.force_password)
        previous = published.previous(system)
        worker = Worker(system, known, log, wake, previous, given=options.router is not None)
        outcomes = worker.carry_out(plan)
        code = exit_code(observed.observation, outcomes)
        finished = system.clock.now()
        report = Report(
            observed, outcomes, started, finished, code, known.instance_id, known.is_new, known.note
        )
        return published.write(system, report, previous), worker.reset_meanwhile


def import_the_rest() -> None:
    """What the pass needs once the children have answered: imported while they work."""


def exit_code(observation: Observation, outcomes: Sequence["Outcome"]) -> int:
    """0 done, 1 all that was to be done failed, 3 some of it did, 4 there was no source."""
    if not observation.source_found:
        return EXIT_NO_SOURCE
    if not any(outcome.state == "failed" or outcome.wrong for outcome in outcomes):
        return EXIT_OK
    good = any(outcome.state in ("applied", "unchanged") for outcome in outcomes)
    return EXIT_PARTIAL if good else EXIT_FAILED


@contextmanager
def one_at_a_time(system: "System", wake: Optional[Wake] = None) -> Iterator[None]:
    """Hold the lock under which the machine is changed.

    Raises:
        CsagentError: somebody else held it all the time, or it cannot be made.
        Interrupted: `wake` became readable while it waited.
    """
    shown = system.tree.shown(LOCK)
    try:
        descriptor = _open_lock(system)
    except OSError as error:
        hint = "; this needs root" if error.errno in DENIED and os.geteuid() != 0 else ""
        raise CsagentError(f"cannot open {shown}: {error.strerror}{hint}") from None
    try:
        end = system.clock.monotonic() + LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if system.clock.monotonic() >= end:
                    raise CsagentError(f"another csagent holds {shown}; try again when it is done") from None
            if select.select([wake] if wake is not None else [], [], [], LOCK_PAUSE)[0]:
                raise Interrupted
        yield
    finally:
        os.close(descriptor)


def _open_lock(system: "System") -> int:
    """The lock file; where /run cannot hold one (read-only, full, something in the way), the root directory.

    A broken /run costs the record of the pass, and nothing that keeps somebody out of the machine.
    """
    try:
        system.tree.mkdir(RUN, 0o755, durable=False)
        return system.tree.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o600)
    except OSError as error:
        if error.errno in DENIED:
            raise
    return system.tree.open("/", os.O_RDONLY | os.O_DIRECTORY)
