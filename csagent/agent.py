"""One pass, readable from top to bottom: find -> read -> decide -> apply -> remember -> acknowledge."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Callable, Iterator, List, Optional, Sequence, Tuple

from csagent import jail, memory, wire
from csagent.apply import accounts, hostname, password, ssh_keys, user_data
from csagent.decide import decide
from csagent.errors import (
    EXIT_FAILED,
    EXIT_NO_SOURCE,
    EXIT_OK,
    EXIT_PARTIAL,
    ApplyError,
    CsagentError,
    JailError,
)
from csagent.memory import Memory
from csagent.model import (
    SLOTS,
    Acknowledge,
    Action,
    Endpoint,
    KeepUserData,
    Leave,
    Observation,
    Outcome,
    Place,
    Plan,
    Secret,
    SetHostname,
    SetPassword,
    WriteKeys,
)
from csagent.observe import GRACE, Observed, Options, Wake, decode_all, observe

if TYPE_CHECKING:
    from csagent.settings import Settings
    from csagent.system import System

RUN = "/run/csagent"
LOCK = RUN + "/lock"
ACK_PATIENCE = 6.0  # seconds for all endpoints together
ROUNDS = 3  # passes in a row, at most, while resets keep arriving

Log = Callable[[str], None]


@dataclass(frozen=True, **SLOTS)
class Report:
    """What one pass saw, decided and did."""

    observed: Observed
    outcomes: Tuple[Outcome, ...]
    started: float
    finished: float
    exit_code: int


def instance_of(observed: Observed) -> Optional[str]:
    """The id under which things are remembered: the sources', else DMI's where that is CloudStack's."""
    platform = observed.found.platform
    if observed.observation.instance_id:
        return observed.observation.instance_id
    return platform.uuid if platform.cloudstack else None


def recall(system: "System", settings: "Settings", observed: Observed) -> Memory:
    """What was applied for this instance before, old guest scripts' markers included."""
    try:
        home: Optional[str] = accounts.find(system, settings.user).home
    except ApplyError:
        home = None
    return memory.load(system, instance_of(observed), home)


def make_plan(
    system: "System", settings: "Settings", observed: Observed, *, force_password: bool = False
) -> Plan:
    """Decide, for `plan` and for `apply` alike."""
    known = recall(system, settings, observed)
    return decide(observed.observation, known, settings, force_password=force_password)


def run_pass(
    system: "System",
    settings: "Settings",
    options: Options,
    *,
    wait: float,
    grace: float = GRACE,
    wake: Optional[Wake] = None,
    log: Log = lambda _line: None,
) -> Report:
    """One whole pass, the only one at a time on this machine.

    Args:
        system: the machine, or a tree.
        settings: what the operator configured.
        options: what the command line says.
        wait: seconds to wait for a source.
        grace: seconds that the router gets once a drive has been read.
        wake: ends the waiting (not the changing) early.
        log: takes one line per decision.

    Raises:
        CsagentError: the pass could not even start.
        Interrupted: `wake` became readable while it waited.
    """
    with one_at_a_time(system, wait):
        for _again in range(ROUNDS - 1):
            report, reset_meanwhile = _one_round(system, settings, options, wait, grace, wake, log)
            if not reset_meanwhile:
                return report
        return _one_round(system, settings, options, wait, grace, wake, log)[0]


def _one_round(
    system: "System",
    settings: "Settings",
    options: Options,
    wait: float,
    grace: float,
    wake: Optional[Wake],
    log: Log,
) -> Tuple[Report, bool]:
    """The pass itself, and whether a reset arrived between the fetch and the acknowledgement (edge 40)."""
    from csagent.show import record

    started = system.clock.now()
    observed = observe(system, settings, options, wait=wait, grace=grace, wake=wake)
    known = recall(system, settings, observed)
    if known.note:
        log(known.note)
    plan = decide(observed.observation, known, settings, force_password=options.force_password)
    worker = Worker(system, known, log)
    outcomes = worker.carry_out(plan)
    code = exit_code(observed.observation, outcomes)
    report = Report(observed, outcomes, started, system.clock.now(), code)
    record.write(system, report)
    return report, worker.reset_meanwhile


def exit_code(observation: Observation, outcomes: Sequence[Outcome]) -> int:
    """0 done, 1 all that was to be done failed, 3 some of it did, 4 there was no source."""
    if not observation.source_found:
        return EXIT_NO_SOURCE
    wrong = [outcome for outcome in outcomes if outcome.state == "failed" or outcome.wrong]
    if not wrong:
        return EXIT_OK
    good = [
        outcome for outcome in outcomes if outcome.state in ("applied", "unchanged") and not outcome.wrong
    ]
    return EXIT_PARTIAL if good else EXIT_FAILED


@contextmanager
def one_at_a_time(system: "System", wait: float) -> Iterator[None]:
    """Hold the lock under which the machine is changed.

    Raises:
        CsagentError: somebody else held it all the time, or it cannot be made.
    """
    shown = system.tree.shown(LOCK)
    try:
        system.tree.mkdir(RUN, 0o755)
        descriptor = system.tree.open(LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CsagentError(f"cannot open {shown}: {error.strerror}; csagent apply needs root") from None
    try:
        end = system.clock.monotonic() + max(wait, 30.0)
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if system.clock.monotonic() >= end:
                    raise CsagentError(f"another csagent holds {shown}; try again when it is done") from None
                system.clock.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


class Worker:
    """Carries out one plan, remembering each thing durably as soon as it is done."""

    def __init__(self, system: "System", known: Memory, log: Log) -> None:
        self.system = system
        self.memory = known
        self.log = log
        self.reset_meanwhile = False

    def carry_out(self, plan: Plan) -> Tuple[Outcome, ...]:
        """Every action in turn; one that fails does not stop the next."""
        outcomes: List[Outcome] = []
        for action in plan.actions:
            try:
                outcome = self._one(action)
            except ApplyError as error:
                outcome = Outcome(action.datum, "failed", str(error), action.source, wrong=True)
            except (OSError, MemoryError, ValueError) as error:
                reason = f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'unexpected'}"
                outcome = Outcome(action.datum, "failed", reason, action.source, wrong=True)
            outcomes.append(outcome)
            if outcome.state in ("applied", "failed", "refused"):
                source = f" ({outcome.source})" if outcome.source else ""
                self.log(f"{outcome.datum} {outcome.state}: {outcome.reason}{source}")
        return tuple(outcomes)

    def _one(self, action: Action) -> Outcome:
        if isinstance(action, SetHostname):
            hostname.set_hostname(self.system, action.name, action.domain)
            self._remember(replace(self.memory, hostname=action.name))
        elif isinstance(action, WriteKeys):
            account = accounts.find(self.system, action.user)
            ssh_keys.write_keys(self.system, account, action.keys, action.previous)
            self._remember(replace(self.memory, ssh_keys=action.keys, ssh_user=action.user))
        elif isinstance(action, KeepUserData) and action.user_data is not None:
            user_data.keep(self.system, self.memory.instance_id, action.user_data)
            self._remember(replace(self.memory, user_data=action.user_data.sha256))
        elif isinstance(action, SetPassword):
            account = accounts.find(self.system, action.user)
            if not password.is_set(self.system, account, action.value):
                password.set_password(self.system, account, action.value)
            self._remember(self.memory.with_password(action.value))
            return self._acknowledged(action, action.value, action.endpoints, "applied")
        elif isinstance(action, Acknowledge):
            if action.remember:
                self._remember(self.memory.with_password(action.value))
            return self._acknowledged(action, action.value, action.endpoints, "unchanged")
        elif isinstance(action, Leave):
            return Outcome(action.datum, action.state, action.reason, action.source, action.wrong)
        return Outcome(action.datum, "applied", action.reason, action.source)

    def _remember(self, changed: Memory) -> None:
        memory.save(self.system, changed)
        self.memory = changed

    def _acknowledged(
        self, action: Action, value: Secret, endpoints: Tuple[Endpoint, ...], state: str
    ) -> Outcome:
        if not endpoints:
            return Outcome(action.datum, state, action.reason, action.source, acknowledged="not needed")
        places = acknowledge(self.system, value, endpoints)
        self.reset_meanwhile = any(place.outcome == "changed" for place in places)
        bad = [place for place in places if place.outcome not in ("ok", "changed")]
        if not bad and places:
            return Outcome(action.datum, state, action.reason, action.source, acknowledged="yes")
        told = "; ".join(f"{place.place}: {place.detail or place.outcome}" for place in bad)
        reason = f"{action.reason}; not acknowledged ({told or 'nobody answered'}): the next pass tries again"
        return Outcome(action.datum, state, reason, action.source, wrong=True, acknowledged="no")


def acknowledge(system: "System", value: Secret, endpoints: Tuple[Endpoint, ...]) -> Tuple[Place, ...]:
    """Tell each password server that the password is saved, in one more unprivileged child."""
    deadline = system.clock.monotonic() + ACK_PATIENCE

    def prepare() -> None:
        from csagent.read import passwords  # noqa: F401  imported while its files can still be read

    def work(_nothing: None, _say: jail.Say) -> object:
        from csagent.read import passwords

        return wire.encode(passwords.acknowledge(system, endpoints, value, deadline))

    try:
        answer = jail.run(
            system,
            "acknowledgement",
            prepare,
            work,
            jail.READER,
            jail.unprivileged(),
            ACK_PATIENCE + 2,
        )
        places: Tuple[Place, ...] = decode_all(Place, answer)
        return places
    except JailError as error:
        return (Place("password server", "acknowledgement", "failed", str(error)),)
