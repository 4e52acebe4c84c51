"""Carries out a plan: apply -> remember -> acknowledge, each action on its own."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, Callable, List, Mapping, Optional, Tuple

from csagent.errors import ApplyError, Interrupted
from csagent.model import Endpoint, Place, Secret
from csagent.plan import (
    Acknowledge,
    Action,
    ConfigureNetwork,
    KeepUserData,
    Leave,
    Outcome,
    Plan,
    SetHostname,
    SetPassword,
    WriteKeys,
)
from csagent.state import applied
from csagent.state.applied import Memory
from csagent.system import accounts

if TYPE_CHECKING:
    from csagent.log import Say
    from csagent.system.process import CancelFd
    from csagent.system.seams import System

TOLD = "the password server was told that it is saved"


Acknowledger = Callable[[Secret, Tuple[Endpoint, ...]], Tuple[Place, ...]]
"""Tells the endpoints that this password is set; one place each says what came of it."""


class PlanExecutor:
    """Carries out one plan, remembering each thing durably as soon as it is done.

    Args:
        system: the machine, or a tree.
        known: what was applied before.
        log: takes one line per decision.
        acknowledge: how the password servers are told.
        cancel: readable when no further action is to be begun.
        previous: "data" of the last pass's status: what it has said of a datum already is not said again.
    """

    def __init__(
        self,
        system: "System",
        known: Memory,
        log: "Say",
        acknowledge: Acknowledger,
        cancel: Optional["CancelFd"] = None,
        previous: Optional[Mapping[str, Any]] = None,
    ) -> None:
        self.system = system
        self.acknowledge = acknowledge
        self.cancel = cancel
        self.previous = previous or {}
        self.memory = known
        self.log = log
        self.reset_meanwhile = False

    def carry_out(self, plan: Plan) -> Tuple[Outcome, ...]:
        """Every action in turn; one that fails does not stop the next.

        Raises:
            Interrupted: csagent was told to stop or to reload, and the action that it was at is finished.
        """
        outcomes: List[Outcome] = []
        for action in plan.actions:
            if self.cancel is not None and select.select([self.cancel], [], [], 0.0)[0]:
                raise Interrupted
            try:
                outcome = self._one(action)
            except ApplyError as error:
                outcome = _failed(action, str(error))
            except (OSError, MemoryError, ValueError, RecursionError) as error:
                reason = f"{type(error).__name__}: {getattr(error, 'strerror', None) or 'unexpected'}"
                outcome = _failed(action, reason)
            outcomes.append(outcome)
            self._say(action, outcome)
        self._remember_passed_over(plan, outcomes)
        return tuple(outcomes)

    def _remember_passed_over(self, plan: Plan, outcomes: List[Outcome]) -> None:
        """What was outdone in this pass; of a datum that failed, what was known before."""
        if self.memory.withheld:
            return
        known = dict(plan.passed_over)
        for outcome in outcomes:
            if outcome.state == "failed":
                known.pop(outcome.datum, None)
                if outcome.datum in self.memory.passed_over:
                    known[outcome.datum] = self.memory.passed_over[outcome.datum]
        if known != self.memory.passed_over:
            try:
                self._remember(self.memory._replace(passed_over=known))
            except ApplyError as error:
                self.log(str(error), event="failed")

    def _say(self, action: Action, outcome: Outcome) -> None:
        """One line per decision; none where the last pass came to the same and changed nothing either."""
        if outcome.state != "applied" and not _is_news(self.previous.get(outcome.datum), outcome):
            return
        if outcome.state == "applied":
            self._event("applied", outcome, action.reason)
        elif outcome.state in ("failed", "refused"):
            self._event(outcome.state, outcome, outcome.reason)
        if action.wrong and outcome.state in ("applied", "unchanged", "unknown"):
            self._event("doubtful", outcome, outcome.reason)
        if outcome.acknowledged == "yes":
            self._event("acknowledged", outcome, TOLD)
        elif outcome.acknowledged == "no":
            self._event("unacknowledged", outcome, outcome.reason)

    def _event(self, event: str, outcome: Outcome, reason: str) -> None:
        known = self.memory.instance_id
        self.log(
            f"{outcome.datum} {event}: {reason}{f' ({outcome.source})' if outcome.source else ''}",
            event=event,
            datum=outcome.datum,
            source=outcome.source,
            instance="" if known == applied.NO_INSTANCE else known,
        )

    def _one(self, action: Action) -> Outcome:
        # What changes things is imported where something changes: most passes change nothing.
        if isinstance(action, SetHostname):
            from csagent.apply import hostname

            if action.only_domain:
                return self._add_domain(action)
            hostname.set_hostname(self.system, action.name, action.domain)
            self._remember(self.memory._replace(hostname=action.name, domain=action.domain))
        elif isinstance(action, WriteKeys):
            from csagent.apply import ssh_keys

            account = accounts.find(self.system, action.user)
            keys = ssh_keys.write_keys(
                self.system, account, action.keys, action.previous, action.adopt, only_add=action.only_add
            )
            self._revoke_from_former(action)
            self._remember(self.memory._replace(ssh_keys=keys, ssh_user=action.user))
        elif isinstance(action, KeepUserData) and action.user_data is not None:
            from csagent.apply import user_data

            user_data.keep(self.system, self.memory.instance_id, action.user_data)
            self._remember(self.memory._replace(user_data=action.user_data.sha256))
        elif isinstance(action, SetPassword):
            from csagent.apply import password

            account = accounts.find(self.system, action.user)
            if not password.is_set(self.system, account, action.value):
                password.set_password(self.system, account, action.value)
            self.system.tree.sync(accounts.SHADOW)
            self._remember_password(action.value, action.outranked)
            return self._acknowledged(action, action.value, action.endpoints, "applied")
        elif isinstance(action, Acknowledge):
            if action.remember or action.outranked:
                self._remember_password(action.value, action.outranked)
            elif action.endpoints:
                self._remember(self.memory)  # as it is, but durably: the next line cannot be taken back
            return self._acknowledged(action, action.value, action.endpoints, "unchanged")
        elif isinstance(action, ConfigureNetwork):
            from csagent.apply.network import action as network

            return network.carry_out(self.system, action)
        elif isinstance(action, Leave):
            return Outcome(action.datum, action.state, action.reason, action.source, action.wrong)
        return Outcome(action.datum, "applied", action.reason, action.source, action.wrong)

    def _add_domain(self, action: SetHostname) -> Outcome:
        """What cannot be written is tried again, and fails nothing: the name itself was applied before."""
        from csagent.apply import hostname

        reason = action.reason
        try:
            state = (
                "applied"
                if hostname.add_domain(self.system, action.name, action.domain or "")
                else "unchanged"
            )
            self._remember(self.memory._replace(domain=action.domain))
        except ApplyError as error:
            state, reason = "unchanged", f"{reason}; {error}"
        return Outcome(action.datum, state, reason, action.source, action.wrong)

    def _revoke_from_former(self, action: WriteKeys) -> None:
        """The account has changed: what CloudStack may revoke must not live on in the old one's file."""
        if action.former_user is None:
            return
        from csagent.apply import ssh_keys

        try:
            former = accounts.find(self.system, action.former_user)
        except ApplyError:
            return  # the account is gone, and its access with it
        if ssh_keys.current(self.system, former):
            ssh_keys.write_keys(self.system, former, (), action.previous, action.adopt)

    def _remember_password(self, value: Secret, outranked: Tuple[Secret, ...]) -> None:
        changed = self.memory.with_password(value)
        for other in outranked:
            changed = changed.with_older(other)
        self._remember(changed)

    def _remember(self, changed: Memory) -> None:
        applied.save(self.system, changed)
        self.memory = changed

    def _acknowledged(
        self, action: Action, value: Secret, endpoints: Tuple[Endpoint, ...], state: str
    ) -> Outcome:
        if not endpoints:
            return Outcome(action.datum, state, action.reason, action.source, acknowledged="not needed")
        places = self.acknowledge(value, endpoints)
        self.reset_meanwhile = any(place.outcome == "changed" for place in places)
        bad = [place for place in places if place.outcome not in ("ok", "changed")]
        if not bad and any(place.outcome == "ok" for place in places):
            return Outcome(action.datum, state, action.reason, action.source, acknowledged="yes")
        told = "; ".join(f"{place.place}: {place.detail or place.outcome}" for place in bad or places)
        reason = f"{action.reason}; not acknowledged ({told or 'nobody answered'}): the next pass tries again"
        return Outcome(action.datum, state, reason, action.source, wrong=True, acknowledged="no")


def _failed(action: Action, reason: str) -> Outcome:
    from csagent.apply import failures

    return Outcome(action.datum, "failed", failures.explained(reason), action.source, wrong=True)


def _is_news(previous: Any, outcome: Outcome) -> bool:
    """Whether a datum's entry in the last status says anything else than this outcome."""
    if not isinstance(previous, dict):
        return True
    before = [previous.get(key) for key in ("state", "reason", "source", "acknowledged")]
    return before != [outcome.state, outcome.reason, outcome.source or None, outcome.acknowledged]
