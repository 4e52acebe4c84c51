"""Carry a plan out, once: each step recorded as begun before it starts and as ended after.

A step that fails, or that was cut short, does not stop those behind it.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Callable, ContextManager, Dict, List, NamedTuple, Optional, Set, Tuple

from csagent.console import one_line
from csagent.errors import EXIT_FAILED, EXIT_OK, EXIT_PARTIAL, ApplyError, CsagentError, StepFailed
from csagent.log import nothing
from csagent.state import instances, lock
from csagent.state import user_data_mark as mark
from csagent.state import user_data_record as records
from csagent.state.user_data_record import DONE, FAILED, SHOWN, Record, StepState
from csagent.user_data import cut_short, status
from csagent.user_data import source as sources
from csagent.user_data.log_file import LogFile
from csagent.user_data.machine import Machine
from csagent.user_data.plan import BOOT, IGNORED, MACHINE, SCRIPT_SLOTS, Plan, Step

if TYPE_CHECKING:
    from csagent.log import Say
    from csagent.system.seams import System
    from csagent.user_data.source import Source

STAGES = ("early", "final")
LONG = ("boothook", "bootcmd", "disks", "packages", "ntp", *SCRIPT_SLOTS, "phone_home")
"""The places of steps that may take a while: what is running is published before they start."""

ACCOUNTS = ("users", "passwords")
"""The places of steps beside which no pass is."""

AT_ONCE = ("phone_home",)
"""The places of steps that SIGTERM breaks off: they wait for others, and nothing is half done."""

CHANGED = "the document has changed since it ran: csagent user-data run --again runs it"


class Ran(NamedTuple):
    """What one run has done. `status` is the layout of `csagent.user_data.status`."""

    status: Dict[str, Any]
    done: int
    failed: int
    changed: bool

    @property
    def exit_code(self) -> int:
        """0 done or nothing to do, 1 all of it failed, 3 some of it."""
        if not self.failed:
            return EXIT_OK
        return EXIT_PARTIAL if self.done else EXIT_FAILED


def due(plan: Plan, record: Record, stage: Optional[str], *, by_hand: bool, changed: bool) -> List[Step]:
    """The steps that have not run yet, in their order. Pure.

    Args:
        plan: of the document.
        record: what has run for this instance.
        stage: only this one; the final one takes what of the early one has not begun with it.
        by_hand: each run counts as a boot.
        changed: only what runs at each boot does.
    """
    found = []
    for step in plan.steps:
        known = record.steps.get(step.id)
        if stage == "early" and step.stage != "early":
            continue
        if step.often == BOOT:
            again = by_hand and (stage is None or step.stage == stage)
            if again or changed or known is None or known.boot != record.boot or not record.boot:
                found.append(step)
        elif changed or known is not None:
            continue
        else:
            found.append(step)
    return found


class Runner:
    """One run.

    Args:
        system: the machine, or a tree.
        source: the document, and for whom.
        plan: what it asks for.
        tell: takes each step with what became of it, for whoever looks on.
        log: takes one line a step, never what is in it.
    """

    def __init__(
        self,
        system: "System",
        source: "Source",
        plan: Plan,
        tell: Callable[[Step, StepState], None] = lambda step, state: None,
        log: "Say" = nothing,
    ) -> None:
        self._system = system
        self._source = source
        self._plan = plan
        self._tell = tell
        self._log = log
        self._record = Record(system, source.folder)
        self._once = Record(system, f"{records.FOLDER}/{records.MACHINE}")
        self._current = ""
        self._ended: Set[str] = set()

    def run(self, stage: Optional[str] = None, *, again: bool = False) -> Ran:
        """Carry out what is due. The lock of `csagent.state.user_data_record` is held by the caller.

        Raises:
            CsagentError: nothing was done: the record or the log cannot be written.
        """
        digest = self._source.sha256
        first = again or not self._record.document
        changed = not first and self._record.document != digest
        if first:
            self._record.start(digest)
        self._keep()
        self._record.compact()
        cut_short.clear_up(self._system, self._plan, self._record, self._log)
        if not again and not changed:
            self._take_over()
        self._ended = set() if first else self._ended_before(digest)
        steps = due(self._plan, self._record, stage, by_hand=self._source.by_hand, changed=changed)
        done, failed = 0, len([1 for part in self._plan.parts for _ in part.errors]) if first else 0
        if steps:
            log = LogFile(self._system)
            try:
                machine = self._machine(log)
                for step in steps:
                    held: ContextManager[None] = (
                        nullcontext() if step.slot in AT_ONCE else machine.stop.put_off()
                    )
                    with self._alone(step), held:
                        state = self._step(machine, step)
                    if step.parts or state.state == FAILED:
                        done += state.state in (DONE, SHOWN)
                        failed += state.state == FAILED
                    if machine.stop.asked or (step.slot in LONG and machine.is_going_down()):
                        self._publish(changed)
                        machine.stop.give_way()
            finally:
                log.close()
        self._ended.update(("early",) if stage == "early" else STAGES)
        document = self._publish(changed)
        return Ran(document, done, failed, changed)

    def _take_over(self) -> None:
        """What runs once a machine, and has run for another instance, is done for this one too."""
        for step in self._plan.steps:
            known = self._once.steps.get(step.id)
            if step.often == MACHINE and known is not None and step.id not in self._record.steps:
                reason = "it has run on this machine before, for another instance"
                self._record.end(step.id, StepState(DONE, reason=reason))

    def _ended_before(self, digest: str) -> Set[str]:
        """The stages of this document that have ended since the machine was started."""
        before = records.published(self._system) or {}
        stages = before.get("stages")
        if before.get("sha256") != digest or not isinstance(stages, dict):
            return set()
        return {stage for stage in STAGES if stages.get(stage) == "ended"}

    def _keep(self) -> None:
        try:
            sources.keep_metadata(self._system, self._source)
            if self._source.by_hand:
                instances.note_by_hand(self._system, self._source.folder)
        except OSError as error:
            shown = self._system.tree.shown(self._source.folder)
            raise ApplyError(f"cannot write below {shown}: {error.strerror}") from None

    def _machine(self, log: LogFile) -> Machine:
        facts = self._source.facts
        machine = Machine(self._system, self._source.folder, facts.instance_id, facts.metadata, log)
        machine.post = self._post
        return machine

    def _step(self, machine: Machine, step: Step) -> StepState:
        """Begin, carry out, end."""
        machine.warnings, machine.shown_commands = [], []
        ended: List[StepState] = []

        def end(state: Optional[StepState] = None) -> None:
            if not ended:
                ended.append(state or StepState(DONE))
                self._end(step, ended[0])

        machine.end = end
        self._begin(step)
        machine.log.write(f"csagent: {step.key}: {one_line(step.text)}\n")
        try:
            self._carry_out(machine, step)
            state = StepState(DONE if self._system.live or not machine.shown_commands else SHOWN)
            if state.state == SHOWN:
                state.reason = f"not run in a tree: {'; '.join(machine.shown_commands)}"
        except StepFailed as error:
            state = StepState(FAILED, exit=error.exit, reason=str(error), count=error.count)
        except CsagentError as error:
            state = StepState(FAILED, reason=str(error))
        except OSError as error:
            state = StepState(FAILED, reason=error.strerror or type(error).__name__)
        state.warnings = tuple(machine.warnings)
        if ended and state.state == FAILED:
            ended.clear()  # it was recorded as done before the machine should have gone, and did not go
        end(state)
        word = {DONE: "done", SHOWN: "shown"}.get(state.state, f"failed: {state.reason}")
        if state.state == FAILED:
            machine.log.write(f"csagent: {step.key}: {one_line(word)}\n")
        machine.log.follow()
        self._tell(step, state)
        fields = {"event": state.state, "datum": "user_data", "instance": self._source.facts.instance_id}
        self._log(f"user_data, {step.key} ({step.text}): {word}", **fields)
        return state

    def _alone(self, step: Step) -> ContextManager[None]:
        """No pass between an account's step and its look at the password; waited for before the step begins.

        However long that takes: a step that has begun is not begun again.
        """
        return lock.hold(self._system, say=self._log) if step.slot in ACCOUNTS else nullcontext()

    def _carry_out(self, machine: Machine, step: Step) -> None:
        if step.slot in ACCOUNTS:  # CloudStack's own password must not be locked away
            machine.keeps_password = self._has_cloudstacks_password()
        step.action.carry_out(machine)
        if step.slot == "hostname" and step.parts and not self._source.by_hand:
            mark.give_name(self._system, self._source.memory_id, machine.named)

    def _has_cloudstacks_password(self) -> str:
        """The account of the setting `user` where a pass has set CloudStack's password, or may have."""
        from csagent.state import applied

        if self._source.by_hand:
            return ""
        known = applied.load(self._system, self._source.memory_id)
        user = self._source.facts.user
        if not known.withheld and (not known.passwords or known.never_reached(user)):
            return ""
        return user

    def _begin(self, step: Step) -> None:
        self._current = step.id
        self._record.begin(step.id)
        if step.often == MACHINE:
            self._once.begin(step.id)
        if step.slot in LONG:
            self._publish(False)

    def _end(self, step: Step, state: StepState) -> None:
        self._current = ""
        if step.often == MACHINE:
            self._once.end(step.id, state)
        self._record.end(step.id, state)

    def _publish(self, changed: bool) -> Dict[str, Any]:
        document = status.as_json(self._plan, self._record, changed=changed, current=self._current)
        document["sha256"] = self._source.sha256
        document["stages"] = {stage: "ended" if stage in self._ended else "waiting" for stage in STAGES}
        if not self._source.by_hand or records.published(self._system) is None or self._by_hand_before():
            document["by_hand"] = self._source.by_hand
            records.publish(self._system, document)
        return document

    def _by_hand_before(self) -> bool:
        return bool((records.published(self._system) or {}).get("by_hand"))

    def _post(self, url: str, fields: Dict[str, str], tries: int) -> None:
        from csagent.user_data import fetch

        if not self._system.live:
            raise StepFailed("nothing is sent from a tree")
        fetch.post(self._system, url, fields, tries)


def pass_over(system: "System", source: "Source", reason: str) -> None:
    """Publish that this instance's document is not run here, and why: nobody waits for it any longer."""
    document = {
        "schema": 1,
        "state": IGNORED,
        "parts": [],
        "notes": [reason],
        "sha256": source.sha256,
        "stages": dict.fromkeys(STAGES, "ended"),
        "by_hand": False,
    }
    records.publish(system, document)


def record_of(system: "System", source: "Source") -> Tuple[Record, bool]:
    """What has run of a document, and whether the record is about an earlier one."""
    record = Record(system, source.folder)
    return record, bool(record.document) and record.document != source.sha256


def is_root() -> bool:
    """Whether scripts can be run as they want to be."""
    return os.geteuid() == 0
