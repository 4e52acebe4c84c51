"""`csagent network`: words to functions."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Tuple

from csagent.cli import network
from csagent.console import Console
from csagent.errors import EXIT_FAILED, EXIT_OK, EXIT_PARTIAL, SourceNotFound, UsageError
from csagent.system.files import read_named

if TYPE_CHECKING:
    import argparse

    from csagent.apply.network.document import Document
    from csagent.model import Lease, Observed
    from csagent.plan import NicOutcome
    from csagent.settings import Settings
    from csagent.system.seams import System

SIZE_LIMIT = 1 << 20


class Said(NamedTuple):
    """What a source says of the network, what of it is not believed, and the leases that hold."""

    document: Optional["Document"]
    refused: Tuple[str, ...] = ()
    leases: Tuple["Lease", ...] = ()


def plan(parsed: argparse.Namespace, system: "System", settings: "Settings") -> int:
    """What `csagent network plan` does; the exit code.

    Raises:
        CsagentError: there is no document, or no machine.
    """
    from csagent.apply.network import described
    from csagent.apply.network.decide import decide
    from csagent.apply.network.survey import survey, with_files
    from csagent.state import network as remembered

    there: Optional["System"] = system
    if parsed.machine is not None:
        machine = described.machine(read_named(parsed.machine, SIZE_LIMIT), parsed.machine)
        there = None if system.live else system
        if there is not None:
            machine = with_files(there, machine)
        said = _said(parsed, system, settings, discover=False)
        made = decide(said.document, machine, refused=said.refused)
    else:
        said = _said(parsed, system, settings)
        machine = survey(system, said.leases)
        left = left_alone(system, settings)
        made = decide(said.document, machine, remembered.load(system), left=left, refused=said.refused)
    if parsed.json:
        sys.stdout.write(json.dumps(network.as_json(there, made), indent=1) + "\n")
    elif not parsed.quiet:
        sys.stdout.write(network.as_text(there, made, Console.of()))
    return EXIT_OK


def apply(parsed: argparse.Namespace, system: "System", settings: "Settings") -> int:
    """What `csagent network apply` does; the exit code.

    Raises:
        CsagentError: there is no document, or nothing can be changed.
    """
    from csagent.apply.network import executor, recovery
    from csagent.apply.network.decide import decide
    from csagent.apply.network.survey import survey
    from csagent.log import Log
    from csagent.state import lock
    from csagent.state import network as remembered

    said = _said(parsed, system, settings)
    log = Log(0 if parsed.quiet else 1 + int(parsed.verbose or 0))
    with lock.hold(system, None):
        begun = recovery.recover(system, log.debug)
        machine = survey(system, said.leases)
        memory = remembered.load(system)
        left = left_alone(system, settings)
        made = decide(said.document, machine, memory, left=left, refused=said.refused, again=parsed.again)
        if recovery.waits(begun):
            outcomes: Tuple["NicOutcome", ...] = ()
        else:
            outcomes = executor.carry_out(system, made, memory)
    told = (*((begun,) if begun is not None else ()), *outcomes)
    if parsed.json:
        sys.stdout.write(json.dumps(network.outcomes_as_json(made, told), indent=1) + "\n")
    elif not parsed.quiet:
        sys.stdout.write(network.outcomes_as_text(made, told, Console.of()))
    return exit_code(outcomes)


def exit_code(outcomes: Tuple["NicOutcome", ...]) -> int:
    """0 done or nothing to do, 1 all that was to be done failed, 3 some of it did or is not confirmed."""
    if not any(outcome.wrong for outcome in outcomes):
        return EXIT_OK
    failed = all(outcome.state in ("failed", "left") for outcome in outcomes)
    return EXIT_FAILED if failed else EXIT_PARTIAL


def left_alone(system: "System", settings: "Settings") -> Optional[str]:
    """Why no NIC is touched at all; None where they are csagent's business."""
    from csagent.other_agents.network import left_to_cloud_init

    if not settings.network:
        return "left alone: the setting network is false"
    return left_to_cloud_init(system, settings)


def _said(
    parsed: argparse.Namespace, system: "System", settings: "Settings", *, discover: bool = True
) -> Said:
    if parsed.document is not None:
        return _given(parsed.document)._replace(leases=_leases(system, settings) if discover else ())
    from csagent.apply.network import action
    from csagent.sources.observe import observe
    from csagent.sources.request import Options, PassRequest

    options = Options(
        drive=None if parsed.drive is None else os.path.abspath(parsed.drive),
        source="drive" if parsed.drive is None else None,
    )
    wait = settings.wait if parsed.wait is None else parsed.wait
    observed = observe(PassRequest(system, settings, options, wait))
    document = action.said_by(observed.observation)
    if document is None and not observed.observation.source_found:
        raise SourceNotFound(_no_drive(observed))
    leases: Tuple["Lease", ...] = ()
    if discover:
        leases = observed.found.leases if observed.found.nics else _leases(system, settings)
    return Said(document, action.refused_of(observed.observation), leases)


def _leases(system: "System", settings: "Settings") -> Tuple["Lease", ...]:
    from csagent.sources import jobs

    return jobs.discover(system, settings).leases


def _no_drive(observed: "Observed") -> str:
    tried = [f"{one.place}: {one.detail or one.outcome}" for one in observed.observation.places]
    return f"no config drive found. Tried {'; '.join(tried[:6]) or 'nothing'}"


def _given(path: str) -> Said:
    """A document in a file of the operator's; an empty one says nothing.

    Raises:
        UsageError: it cannot be read, or is no JSON.
    """
    from csagent.apply.network import document
    from csagent.sources import network_data
    from csagent.system import json_limits

    raw = read_named(path, SIZE_LIMIT)
    try:
        parsed: Any = json_limits.loads(raw) if raw.strip() else {}
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not JSON ({error})") from None
    cleaned, reasons = network_data.parse(parsed)
    if cleaned is None and reasons:
        return Said(None, reasons)
    return Said(document.of(cleaned), reasons)
