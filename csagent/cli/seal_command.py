"""`csagent seal`: words to functions."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from csagent.cli import seal
from csagent.console import Console
from csagent.errors import EXIT_OK, UsageError
from csagent.seal import engine, running

if TYPE_CHECKING:
    import argparse

    from csagent.settings import Settings
    from csagent.system.seams import System


def run(parsed: argparse.Namespace, system: "System", settings: "Settings") -> int:
    """What `csagent seal` does; the exit code.

    Raises:
        CsagentError: nothing was done.
    """
    choice = engine.choice_of(parsed.keep, parsed.password, parsed.hostname, parsed.all_keys)
    if parsed.poweroff and not (parsed.yes and running.booted(system)):
        raise UsageError("--poweroff goes with --yes, on the running machine")
    if parsed.yes:
        engine.check_ground(system)
        report = engine.seal(system, settings, choice, notes=running.quieten(system))
    else:
        report = engine.look(system, settings, choice, "check" if parsed.check else "preview")
    if parsed.json:
        sys.stdout.write(json.dumps(seal.as_json(system, report), indent=1) + "\n")
    elif not parsed.quiet:
        text = seal.as_text(system, report, Console.of(), bool(parsed.verbose), parsed.poweroff)
        sys.stdout.write(text)
    else:
        for line in seal.failures(system, report):
            sys.stderr.write(f"csagent: {line}\n")
    if parsed.poweroff and report.exit_code == EXIT_OK:
        sys.stdout.flush()
        running.power_off(system)
    return report.exit_code
