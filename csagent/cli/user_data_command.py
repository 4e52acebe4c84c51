"""`csagent user-data check|plan|run`: words to functions."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional, Set, Tuple

from csagent.cli import user_data
from csagent.console import Console
from csagent.errors import EXIT_FAILED, EXIT_OK, EXIT_PARTIAL, CsagentError, UsageError
from csagent.user_data import reading, source, syntax
from csagent.user_data.plan import RUNS

if TYPE_CHECKING:
    import argparse

    from csagent.log import Log
    from csagent.settings import Settings
    from csagent.state.user_data_record import StepState
    from csagent.system.seams import System
    from csagent.user_data.plan import Step
    from csagent.user_data.source import Source

RAN_BEFORE = (
    "cloud-init has run this instance's user-data before, and nothing runs twice: "
    "csagent user-data run --again runs it here"
)
NONE = "there is no user-data here: no pass of csagent has kept any for this instance"


def run(parsed: argparse.Namespace, system: "System", settings: "Settings", log: "Log") -> int:
    """What `csagent user-data` does; the exit code.

    Raises:
        CsagentError: nothing was done.
    """
    commands = {"check": _check, "plan": _plan, "run": _run}
    return commands[parsed.user_data](parsed, system, settings, log)


def _check(parsed: argparse.Namespace, system: "System", settings: "Settings", _log: "Log") -> int:
    given = source.given(system, settings, parsed.file, parsed.metadata)
    facts = given.facts._replace(names_machine=False)  # that the metadata's name is set, is no news
    plan = syntax.check(system, reading.read(system, given.document.reveal(), facts, wanted=syntax.WANTED))
    _print(parsed, user_data.as_json(plan), lambda console: user_data.as_text(plan, console))
    return {RUNS: EXIT_OK, "partly": EXIT_PARTIAL}.get(plan.outcome, EXIT_FAILED)


def _plan(parsed: argparse.Namespace, system: "System", settings: "Settings", _log: "Log") -> int:
    from csagent.user_data import includes, runner

    chosen = _source(parsed, system, settings)
    if chosen is None:
        return _nothing(parsed, NONE)
    plan = syntax.check(system, includes.read_kept(system, chosen))
    record, changed = runner.record_of(system, chosen)
    _print(
        parsed,
        user_data.as_json(plan, record, changed),
        lambda console: user_data.as_text(plan, console, record, changed),
    )
    return EXIT_OK


def _run(parsed: argparse.Namespace, system: "System", settings: "Settings", log: "Log") -> int:
    from csagent.cli import console_lines
    from csagent.state import lock
    from csagent.state import user_data_record as records
    from csagent.system import console_device
    from csagent.system.process import keep_memory_private
    from csagent.user_data import includes, runner

    keep_memory_private()
    if system.live and not runner.is_root():
        raise CsagentError("user-data runs as root (or on a tree of yours: --root DIR)")
    # A pass that is keeping the copy has told all of the instance by then.
    with lock.hold(system, say=log.info):
        chosen = _source(parsed, system, settings)
    if chosen is None:
        return _nothing(parsed, NONE)
    reason = "" if chosen.by_hand else _not_ours(system, settings, chosen, again=parsed.again)
    if reason:
        runner.pass_over(system, chosen, reason)
        if log.in_journal:
            log.info(f"user_data left: {reason}", datum="user_data", instance=chosen.memory_id)
            return EXIT_OK
        return _nothing(parsed, reason)
    console = Console.of()
    quiet = parsed.json or parsed.quiet or log.in_journal

    told: Set[Tuple[int, str]] = set()

    def tell(step: "Step", state: "StepState") -> None:
        told.update((number, key) for number in step.parts for key in (step.key, *step.also))
        if not quiet:
            said = f": {state.reason}" if state.reason else ""
            text = f"{step.key}: {step.text}: {state.state}{said}"
            sys.stdout.write("\n".join(console.wrap(text)) + "\n")
            sys.stdout.flush()

    with records.locked(system, log.info):
        if not chosen.by_hand and _source(parsed, system, settings) is None:
            return _nothing(parsed, NONE)  # `csagent seal` has removed it while this run waited
        plan = includes.read_all(system, chosen)
        say = log.info if log.in_journal else log.debug
        ran = runner.Runner(system, chosen, syntax.check(system, plan), tell, say).run(
            parsed.stage, again=parsed.again
        )
    if parsed.stage is not None and system.live and (told or ran.failed or ran.changed):
        line = console_lines.user_data_line(parsed.stage, ran.status, told)
        console_device.write(console_lines.as_text([line]).encode())
    if parsed.json:
        _write_json(ran.status)
    elif not quiet:
        sys.stdout.write(user_data.ran_as_text(ran.status, console))
    return ran.exit_code


def _source(parsed: argparse.Namespace, system: "System", settings: "Settings") -> Optional["Source"]:
    if parsed.document is None:
        if parsed.metadata is not None:
            raise UsageError("--metadata goes with --document")
        return source.own(system, settings)
    return source.given(system, settings, parsed.document, parsed.metadata)


def _not_ours(system: "System", settings: "Settings", chosen: "Source", *, again: bool) -> str:
    """Why this instance's own document is not run here; "" where it is."""
    from csagent.other_agents import cloud_init, ownership
    from csagent.state import user_data_record as records

    if settings.user_data != "run":
        return f"user-data is not run: the setting user_data is {settings.user_data}"
    rival = cloud_init.cloud_init(system)
    reason = "" if rival is None else ownership.leaves_user_data(rival, settings)
    if reason or again or records.Record(system, chosen.folder).document:
        return reason
    return RAN_BEFORE if cloud_init.has_run_user_data(system, chosen.memory_id) else ""


def _nothing(parsed: argparse.Namespace, why: str) -> int:
    if parsed.json:
        _write_json({"schema": 1, "state": "ignored", "parts": [], "notes": [why]})
    elif not parsed.quiet:
        sys.stdout.write("\n".join(Console.of().wrap(why)) + "\n")
    return EXIT_OK


def _print(parsed: argparse.Namespace, document: Dict[str, Any], text: Any) -> None:
    if parsed.json:
        _write_json(document)
    elif not parsed.quiet:
        sys.stdout.write(text(Console.of()))


def _write_json(document: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
