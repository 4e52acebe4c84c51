"""The table of whole processes on this machine: `python`, its libraries, and csagent's commands."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from typing import Any, Callable, Dict, List, Optional

from measure import CSAGENT, PYTHON, Cost, Traced, paired, run, traced
from world import Machine, Router, config_drive

BARE = "python3 -I -S -c pass"
PASS = "python3 -c pass"
REQUESTS = "python3 -c 'import requests'"
PYCDLIB = "python3 -c 'import pycdlib'"

# What DESIGN promises of a row: at most so many times the wall time of another one.
TARGETS = {
    "status": (2.5, PASS),
    "query hostname": (2.5, PASS),
    "apply, router, nothing changed": (1.5, REQUESTS),
    "apply, drive, nothing changed": (1.2, PYCDLIB),
}


def host(runs: int) -> Dict[str, Any]:
    """Measure; rows by name, each with its figures."""
    router, machine, other = Router(), Machine(), Machine()
    scratch = tempfile.mkdtemp(prefix="csagent-bench-")
    drive = config_drive(os.path.join(scratch, "drive.iso"))

    def words(root: str, *arguments: str) -> List[str]:
        return [*CSAGENT, "--root", root, *arguments]

    def first_boot() -> Cost:
        machine.renew()
        router.reset_password()
        return run(words(machine.root, "apply", *router.places))

    def reset() -> Cost:
        router.reset_password()
        return run(words(machine.root, "apply", *router.places))

    def first_boot_of_drive() -> Cost:
        other.renew()
        return run(words(other.root, "apply", *drive))

    commands: Dict[str, List[str]] = {
        BARE: [PYTHON, "-I", "-S", "-c", "pass"],
        PASS: [PYTHON, "-c", "pass"],
        REQUESTS: [PYTHON, "-c", "import requests"],
        PYCDLIB: [PYTHON, "-c", "import pycdlib"],
        "apply, router, first boot": [],
        "apply, router, nothing changed": words(machine.root, "apply", *router.places),
        "apply, router, password reset": [],
        "apply, drive, first boot": [],
        "apply, drive, nothing changed": words(other.root, "apply", *drive),
        "fetch, router": words(machine.root, "fetch", *router.places),
        "fetch, drive": words(other.root, "fetch", *drive),
        "status": words(machine.root, "status"),
        "query hostname": words(machine.root, "query", "hostname"),
        "discover": words(machine.root, "discover"),
    }
    special: Dict[str, Callable[[], Cost]] = {
        "apply, router, first boot": first_boot,
        "apply, router, password reset": reset,
        "apply, drive, first boot": first_boot_of_drive,
    }

    def plainly(command: List[str]) -> Callable[[], Cost]:
        return lambda: run(command)

    kinds = {name: special.get(name) or plainly(command) for name, command in commands.items()}
    try:
        costs = paired(kinds, runs)
        before = router.reset_password()
        run(words(machine.root, "apply", *router.places))
        requests = router.reset_password() - before
        run(words(machine.root, "apply", *router.places))
        traces = {name: traced(command) for name, command in commands.items() if command}
    finally:
        router.close()
        machine.close()
        other.close()
        shutil.rmtree(scratch)
    rows = {name: _row(name, costs, traces.get(name)) for name in costs}
    return {"runs": runs, "python": sys.version.split()[0], "requests_of_a_reset": requests, "rows": rows}


def _row(name: str, costs: Dict[str, Cost], trace: Optional[Traced]) -> Dict[str, Any]:
    cost = costs[name]
    row: Dict[str, Any] = {
        "wall_ms": round(cost.wall * 1000, 1),
        "cpu_ms": round(cost.cpu * 1000, 1),
        "memory_mib": round(cost.memory / 1024, 1),
        "x_pass": round(cost.wall / costs[PASS].wall, 2),
        "x_requests": round(cost.wall / costs[REQUESTS].wall, 2),
    }
    if trace is not None:
        row.update(trace._asdict())
    if name in TARGETS:
        limit, other = TARGETS[name]
        row["target"] = f"{cost.wall / costs[other].wall:.2f} of at most {limit} x {other}"
    return row


def table(result: Dict[str, Any]) -> List[str]:
    """Lines of Markdown."""
    lines = [
        f"| {result['runs']} runs, medians | "
        "x pass | x requests | wall ms | CPU ms | MiB | files | calls | modules |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in result["rows"].items():
        figures = [row["x_pass"], row["x_requests"], row["wall_ms"], row["cpu_ms"], row["memory_mib"]]
        figures += [row.get(key, "") for key in ("files", "calls", "modules")]
        lines.append(f"| {name} | " + " | ".join(map(str, figures)) + " |")
    lines.append("")
    lines += [f"{name}: {row['target']}" for name, row in result["rows"].items() if "target" in row]
    lines.append(
        f"requests of a password reset, its acknowledgement included: {result['requests_of_a_reset']}"
    )
    return lines
