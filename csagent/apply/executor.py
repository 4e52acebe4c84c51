"""Carries out a plan: apply -> remember -> acknowledge, each action on its own."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, Callable, List, Mapping, Optional, Sequence, Tuple, Union

from csagent.errors import ApplyError, Interrupted
from csagent.model import Endpoint, Place, Secret
from csagent.plan import (
    HOSTS,
    Acknowledge,
    Action,
    ConfigureNetwork,
    FinishHostname,
    KeepUserData,
    Leave,
    Outcome,
    Plan,
    RevokeFormer,
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

ROOM = 4096  # bytes: names, fingerprints, servers; of a file system's usual block size
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
        same: every id that is shown to be this machine's now; remembered, so that memory can move along.
    """

    def __init__(
        self,
        system: "System",
        known: Memory,
        log: "Say",
        acknowledge: Acknowledger,
        cancel: Optional["CancelFd"] = None,
        previous: Optional[Mapping[str, Any]] = None,
        same: Sequence[str] = (),
    ) -> None:
        self.system = system
        self.acknowledge = acknowledge
        self.cancel = cancel
        self.previous = previous or {}
        self.memory = known
        self.log = log
        self.same = same
        self._has_room = False  # for all but keys
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
        self._remember_seen(plan, outcomes)
        return tuple(outcomes)

    def _remember_seen(self, plan: Plan, outcomes: List[Outcome]) -> None:
        """What was outdone in this pass; of a datum that failed, what was known before.

        And by what ids this machine is known, and who has forgotten the newest password.
        """
        if self.memory.withheld:
            return
        changed = self.memory
        known = dict(plan.passed_over)
        for outcome in outcomes:
            if outcome.state == "failed":
                known.pop(outcome.datum, None)
                if outcome.datum in self.memory.passed_over:
                    known[outcome.datum] = self.memory.passed_over[outcome.datum]
        if known != changed.passed_over:
            changed = changed._replace(passed_over=known)
        new = [one for one in self.same if one not in (*changed.known_as, changed.instance_id)]
        if new and not changed.is_new:
            changed = changed._replace(known_as=(*changed.known_as, *new)[-applied.IDS_KEPT :])
        if not all(changed.is_forgotten_by([one]) for one in plan.forgotten_by):
            changed = changed.with_forgotten_by(plan.forgotten_by)
        if changed != self.memory or (changed.moved_from and self.same):
            try:
                self._remember(changed)
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
        if isinstance(action, Leave):
            return Outcome(action.datum, action.state, action.reason, action.source, action.wrong)
        if isinstance(action, ConfigureNetwork):
            from csagent.apply.network import action as network

            return network.carry_out(self.system, action)  # it has a memory of its own
        if not isinstance(action, Acknowledge):
            self._reserve(action)
        if isinstance(action, SetHostname):
            return self._set_hostname(action)
        if isinstance(action, FinishHostname):
            return self._finish_hostname(action, action.todo, "unchanged")
        if isinstance(action, WriteKeys):
            return self._write_keys(action)
        if isinstance(action, RevokeFormer):
            return self._revoke_from_former(action, action.keys, adopt=action.adopt, state="unchanged")
        if isinstance(action, KeepUserData) and action.user_data is not None:
            from csagent.apply import keep_user_data

            keep_user_data.keep(self.system, self.memory.instance_id, action.user_data)
            sha256 = action.user_data.sha256
            self._remember(self.memory._replace(user_data=sha256, user_data_doubt=action.doubt))
        elif isinstance(action, SetPassword):
            from csagent.apply import password

            account = accounts.find(self.system, action.user)
            if not password.is_set(self.system, account, action.value):
                password.set_password(self.system, account, action.value)
            self.system.tree.sync(accounts.SHADOW)
            changed = self.memory.with_password(action.value, action.user)
            for other in action.outranked:
                changed = changed.with_older(other)
            self._remember(changed)
            return self._acknowledged(action, action.value, action.endpoints, "applied")
        elif isinstance(action, Acknowledge):
            if action.remember:
                self._remember(self.memory.with_scripts_password(action.value))
            elif action.endpoints:
                self._remember(self.memory)  # as it is, but durably: the next line cannot be taken back
            return self._acknowledged(action, action.value, action.endpoints, "unchanged")
        return Outcome(action.datum, "applied", action.reason, action.source, action.wrong)

    def _reserve(self, action: Action) -> None:
        """Before the first change: what cannot be remembered is not done.

        Else the owner's choice is undone at every pass. A set of keys takes more room than all else.
        """
        keys = action.keys if isinstance(action, WriteKeys) else None
        if keys is None and self._has_room:
            return
        memory = self.memory
        if isinstance(action, WriteKeys) and action.user != memory.ssh_user:
            # Whoever is stopped before memory names the account must not leave the keys with it for good.
            users = dict.fromkeys((*memory.former_users, action.user))
            memory = memory._replace(former_users=tuple(users))
        try:
            self.memory = applied.reserve(self.system, memory, ROOM, keys)
        except ApplyError as error:
            raise ApplyError(f"not changed: {error}") from None
        self._has_room = True

    def _set_hostname(self, action: SetHostname) -> Outcome:
        """The name in /etc/hostname is what counts; what comes after it is remembered is tried by itself."""
        from csagent.apply import hostname

        todo = hostname.set_hostname(self.system, action.name)
        self._remember(self.memory._replace(hostname=action.name, domain=None, hostname_todo=todo))
        return self._finish_hostname(action, todo, "applied")

    def _finish_hostname(
        self, action: Union[SetHostname, FinishHostname], todo: Mapping[str, str], state: str
    ) -> Outcome:
        """What is still to be done for the name, each part by itself; what fails is a warning."""
        from csagent.apply import hostname

        finished = hostname.finish(self.system, action.name, action.domain, todo)
        domain = self.memory.domain if HOSTS not in todo or HOSTS in finished.left else action.domain
        changed = self.memory._replace(hostname_todo=finished.left, domain=domain)
        if changed != self.memory:
            self._remember(changed)
        outcome = self._outcome(action, "applied" if finished.done else state, finished.problems)
        # A line without its domain is no failure: the name itself is resolved.
        only_domain = finished.left == {HOSTS: action.name}
        return outcome._replace(wrong=action.wrong) if only_domain else outcome

    def _write_keys(self, action: WriteKeys) -> Outcome:
        from csagent.apply import ssh_keys

        try:
            account = accounts.find(self.system, action.user)
            beside = ssh_keys.write_keys(
                self.system, account, action.keys, action.previous, action.adopt, only_add=action.only_add
            )
        except ApplyError:
            without = tuple(user for user in self.memory.former_users if user != action.user)
            if without != self.memory.former_users:
                self._remember(self.memory._replace(former_users=without))
            raise
        former = [*self.memory.former_users, *([action.former_user] if action.former_user else [])]
        users = tuple(dict.fromkeys(user for user in former if user != action.user))
        known = self.memory._replace(ssh_keys=action.keys, keys_beside=beside, ssh_user=action.user)
        self._remember(known._replace(former_users=users))
        return self._revoke_from_former(action, action.previous, adopt=action.adopt, state="applied")

    def _revoke_from_former(
        self, action: Union[WriteKeys, RevokeFormer], keys: Tuple[str, ...], *, adopt: bool, state: str
    ) -> Outcome:
        """The account has changed: what CloudStack may revoke must not live on in the old one's file."""
        users, problems = self.memory.former_users, []
        if users:
            from csagent.apply import ssh_keys

            left = []
            for user in users:
                try:
                    former = accounts.find(self.system, user)
                except ApplyError:
                    continue  # the account is gone, and its access with it
                try:
                    if ssh_keys.current(self.system, former):
                        account = accounts.find(self.system, self.memory.ssh_user or "")
                        # Two names of root's, say: what is in that file is the new account's.
                        if not ssh_keys.shares_home(self.system, former, account):
                            ssh_keys.write_keys(self.system, former, (), keys, adopt)
                except ApplyError as error:
                    left.append(user)
                    problems.append(f"the keys stay with {user}: {error}")
            if tuple(left) != users:
                self._remember(self.memory._replace(former_users=tuple(left)))
                state = "applied"
        return self._outcome(action, state, problems)

    @staticmethod
    def _outcome(action: Action, state: str, problems: Sequence[str]) -> Outcome:
        """What became of an action whose main effect stands."""
        if not problems:
            return Outcome(action.datum, state, action.reason, action.source, action.wrong)
        reason = f"{action.reason}; but {'; '.join(problems)}: the next pass tries again"
        return Outcome(action.datum, state, reason, action.source, wrong=True)

    def _remember(self, changed: Memory) -> None:
        self.memory = applied.save(self.system, changed)

    def _acknowledged(
        self, action: Action, value: Secret, endpoints: Tuple[Endpoint, ...], state: str
    ) -> Outcome:
        if not endpoints:
            return Outcome(action.datum, state, action.reason, action.source, acknowledged="not needed")
        places = self.acknowledge(value, endpoints)
        self.reset_meanwhile = any(place.outcome == "changed" for place in places)
        self._note_forgotten(endpoints, places)
        bad = [place for place in places if place.outcome not in ("ok", "changed")]
        if not bad and any(place.outcome == "ok" for place in places):
            return Outcome(action.datum, state, action.reason, action.source, acknowledged="yes")
        told = "; ".join(f"{place.place}: {place.detail or place.outcome}" for place in bad or places)
        reason = f"{action.reason}; not acknowledged ({told or 'nobody answered'}): the next pass tries again"
        return Outcome(action.datum, state, reason, action.source, wrong=True, acknowledged="no")

    def _note_forgotten(self, endpoints: Tuple[Endpoint, ...], places: Tuple[Place, ...]) -> None:
        """Whose confirmation came: where it offers that password again, that is a new reset."""
        told = [one for one, place in zip(endpoints, places) if place.outcome == "ok"]
        if not told or len(places) != len(endpoints):
            return
        try:
            self._remember(self.memory.with_forgotten_by(told))
        except ApplyError as error:
            self.log(str(error), event="failed")  # told it is; a later pass hears it again


def _failed(action: Action, reason: str) -> Outcome:
    from csagent.apply import failures

    return Outcome(action.datum, "failed", failures.explained(reason), action.source, wrong=True)


def _is_news(previous: Any, outcome: Outcome) -> bool:
    """Whether a datum's entry in the last status says anything else than this outcome."""
    if not isinstance(previous, dict):
        return True
    before = [previous.get(key) for key in ("state", "reason", "source", "acknowledged")]
    return before != [outcome.state, outcome.reason, outcome.source or None, outcome.acknowledged]
