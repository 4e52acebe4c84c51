"""/usr/bin/cloud-init of the package csagent-cloud-init-compat: `status` for what waits for cloud-init.

`leave-files` is for the package's unit: it waits as `status --wait` does, and writes the files by which
others see that cloud-init has finished.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any, Dict, List, Optional, Sequence

from csagent import __version__
from csagent.cli.main import end_with, guarded
from csagent.errors import CsagentError
from csagent.state import cloud_init_status
from csagent.system.seams import System

RUN = "/run/cloud-init"
STATUS, RESULT = f"{RUN}/status.json", f"{RUN}/result.json"
BOOT_FINISHED = "/var/lib/cloud/instance/boot-finished"
EPILOG = (
    "This is csagent-cloud-init-compat, not cloud-init: csagent does the work. csagent status says more, "
    "csagent seal makes a template clean."
)


def main(arguments: Optional[Sequence[str]] = None, system: Optional[System] = None) -> int:
    """Run one command; the exit code is cloud-init's."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(lambda: _run(words, system or System.at("/")))


def entry() -> None:
    """The script."""
    end_with(main)


def _run(words: List[str], system: System) -> int:
    parsed = _parser().parse_args(words)
    return leave_files(system) if parsed.command == "leave-files" else _status(parsed, system)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cloud-init", epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"csagent-cloud-init-compat {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    status = commands.add_parser("status", help="say whether csagent is done", epilog=EPILOG)
    status.add_argument(
        *("--format",),
        choices=("json", "tabular", "yaml"),
        default="tabular",
        help="how to print it (tabular)",
    )
    status.add_argument("-l", "--long", action="store_true", help="with the data source and the errors")
    status.add_argument(
        "-w", "--wait", action="store_true", help="wait until the pass and user-data are over"
    )
    commands.add_parser("leave-files", help="wait, then write boot-finished and result.json (as root)")
    return parser


def _status(parsed: argparse.Namespace, system: System) -> int:
    if parsed.wait:
        for status in cloud_init_status.looks(system):
            if parsed.format == "tabular" and not status.is_over:
                sys.stdout.write(".")
                sys.stdout.flush()
    else:
        status = cloud_init_status.look(system)
    report = cloud_init_status.report_json(status)
    if parsed.format == "json":
        text = json.dumps(report, indent=2, sort_keys=True) + "\n"
    elif parsed.format == "yaml":
        import yaml

        text = yaml.safe_dump(report, explicit_start=True, explicit_end=True, default_flow_style=False)
    else:
        text = ("\n" if parsed.wait else "") + as_text(report, long=parsed.long)
    sys.stdout.write(text)
    return status.exit_code


def as_text(report: Dict[str, Any], *, long: bool) -> str:
    """The tabular form."""
    lines = [f"status: {report['status']}"]
    if long:
        lines += [f"{key}: {report[key]}" for key in ("extended_status", "boot_status_code")]
        lines += [f"last_update: {report['last_update']}"] if report["last_update"] else []
        lines += [f"detail: {report['detail']}"]
        lines += _listed("errors:", report["errors"], " []")
        found = report["recoverable_errors"]
        lines += ["recoverable_errors:"] if found else ["recoverable_errors: {}"]
        for kind, texts in found.items():
            lines += _listed(f"{kind}:", texts, "")
    return "\n".join(lines) + "\n"


def _listed(title: str, texts: List[str], none: str) -> List[str]:
    return [title, *(f"\t- {text}" for text in texts)] if texts else [f"{title}{none}"]


def leave_files(system: System) -> int:
    """Write status.json now; when all is over, it again, result.json, and boot-finished last.

    Where csagent is disabled nothing is written: nothing has finished.

    Raises:
        CsagentError: one of them cannot be written, or what tells that all is over is damaged.
    """
    looks = cloud_init_status.looks(system)
    status = next(looks)
    try:
        _remove(system, BOOT_FINISHED)  # of an earlier boot
        _remove(system, RESULT)
        _write(system, STATUS, cloud_init_status.status_json(status))
        for now in looks:
            status = now
        if status.state == cloud_init_status.DISABLED:
            _remove(system, STATUS)
            return 0
        _write(system, STATUS, cloud_init_status.status_json(status))
        _write(system, RESULT, cloud_init_status.result_json(status))
        system.tree.mkdir(os.path.dirname(BOOT_FINISHED), 0o755)
        system.tree.write(BOOT_FINISHED, _finished(system).encode(), 0o644)
    except OSError as error:
        raise CsagentError(f"cannot write below {RUN} and {BOOT_FINISHED}: {error.strerror}") from None
    return 0


def _finished(system: System) -> str:
    """cloud-init's line: seconds since the start of the machine, the time, the version."""
    uptime = (system.tree.read_text("/proc/uptime", 64) or "?").split()[0]
    return f"{uptime} - {cloud_init_status.rfc_2822(system.clock.now())} - v. csagent {__version__}\n"


def _remove(system: System, path: str) -> None:
    try:
        system.tree.remove(path)
    except FileNotFoundError:
        pass  # nor is its directory there


def _write(system: System, path: str, document: Dict[str, Any]) -> None:
    system.tree.mkdir(RUN, 0o755, durable=False)
    text = json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"
    system.tree.write(path, text, 0o644, durable=False)
