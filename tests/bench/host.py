"""The table of whole processes on this machine: `python`, its libraries, and csagent's commands."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from typing import Any, Callable, Dict, List, Optional

from measure import CSAGENT, PYTHON, Cost, Traced, own_peak, paired, run, traced
from world import Machine, Router, config_drive

BARE = "python3 -I -S -c pass"
PASS = "python3 -c pass"
REQUESTS = "python3 -c 'import requests'"
PYCDLIB = "python3 -c 'import pycdlib'"
YAML = "python3 -c 'import yaml'"
CHECK = "user-data check, 12 keys"

# The budget of a row: at most so many times the wall time of another one.
TARGETS = {
    "status": (2.5, PASS),
    "query hostname": (2.5, PASS),
    "apply, router, nothing changed": (1.5, REQUESTS),
    "apply, drive without a password, nothing changed": (1.2, PYCDLIB),
    "apply, drive with a password, nothing changed": (1.2, PYCDLIB),
    CHECK: (3.0, YAML),
}

DOCUMENT = """\
#cloud-config
hostname: web-01
manage_etc_hosts: true
timezone: UTC
groups: [app]
users:
  - default
  - {name: deploy, groups: [app], sudo: 'ALL=(ALL) NOPASSWD:ALL', shell: /bin/bash}
ssh_pwauth: false
package_update: true
packages: [nginx, curl]
write_files:
  - {path: /etc/app/config.yaml, content: 'listen: 8080', permissions: '0640'}
bootcmd: [echo boot]
runcmd:
  - systemctl enable --now nginx
final_message: up after $UPTIME seconds
"""


def host(runs: int) -> Dict[str, Any]:
    """Measure; rows by name, each with its figures."""
    router, machine, other, plain = Router(), Machine(), Machine(), Machine()
    scratch = tempfile.mkdtemp(prefix="csagent-bench-")
    document = os.path.join(scratch, "document.yaml")
    with open(document, "w", encoding="utf-8") as stream:
        stream.write(DOCUMENT)
    drive = config_drive(os.path.join(scratch, "drive.iso"))
    silent = config_drive(os.path.join(scratch, "silent.iso"), password=None)
    resets = iter(
        [config_drive(os.path.join(scratch, f"{one}.iso"), f"EXAMPLE-{one}") for one in range(runs + 1)]
    )

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

    def reset_of_drive() -> Cost:
        return run(words(other.root, "apply", *next(resets)))

    def later(machine: Machine, *arguments: str) -> Callable[[], Cost]:
        """A pass at a later boot, with nothing in /run."""

        def once() -> Cost:
            shutil.rmtree(os.path.join(machine.root, "run/csagent"), ignore_errors=True)
            return run(words(machine.root, *arguments))

        return once

    commands: Dict[str, List[str]] = {
        BARE: [PYTHON, "-I", "-S", "-c", "pass"],
        PASS: [PYTHON, "-c", "pass"],
        REQUESTS: [PYTHON, "-c", "import requests"],
        PYCDLIB: [PYTHON, "-c", "import pycdlib"],
        YAML: [PYTHON, "-c", "import yaml"],
        "apply, router, first boot": [],
        "apply, router, nothing changed": words(machine.root, "apply", *router.places),
        "apply, router, password reset": [],
        "apply, drive, first boot": [],
        "apply, drive without a password, nothing changed": words(plain.root, "apply", *silent),
        "apply, drive with a password, nothing changed": words(other.root, "apply", *drive),
        "apply, drive, password reset": [],
        "fetch, router": words(machine.root, "fetch", *router.places),
        "fetch, drive": words(other.root, "fetch", *drive),
        "status": words(machine.root, "status"),
        "query hostname": words(machine.root, "query", "hostname"),
        "discover": words(machine.root, "discover"),
        CHECK: words(machine.root, "user-data", "check", document),
    }
    special: Dict[str, Callable[[], Cost]] = {
        "apply, router, first boot": first_boot,
        "apply, router, nothing changed": later(machine, "apply", *router.places),
        "apply, router, password reset": reset,
        "apply, drive, first boot": first_boot_of_drive,
        "apply, drive without a password, nothing changed": later(plain, "apply", *silent),
        "apply, drive with a password, nothing changed": later(other, "apply", *drive),
        "apply, drive, password reset": reset_of_drive,
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
        first_boot_of_drive()  # the last drive had another password
        traces = {name: traced(command) for name, command in commands.items() if command}
        peaks = {
            name: own_peak(command[len(CSAGENT) :])
            for name, command in commands.items()
            if command[: len(CSAGENT)] == CSAGENT
        }
    finally:
        router.close()
        machine.close()
        other.close()
        plain.close()
        shutil.rmtree(scratch)
    rows = {name: _row(name, costs, traces.get(name), peaks.get(name)) for name in costs}
    return {"runs": runs, "python": sys.version.split()[0], "requests_of_a_reset": requests, "rows": rows}


def _row(name: str, costs: Dict[str, Cost], trace: Optional[Traced], peak: Optional[int]) -> Dict[str, Any]:
    cost = costs[name]
    row: Dict[str, Any] = {
        "wall_ms": round(cost.wall * 1000, 1),
        "cpu_ms": round(cost.cpu * 1000, 1),
        "memory_mib": round(cost.memory / 1024, 1),
        "x_pass": round(cost.wall / costs[PASS].wall, 2),
        "x_requests": round(cost.wall / costs[REQUESTS].wall, 2),
    }
    if peak is not None:
        row["own_mib"] = round(peak / 1024, 1)
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
        "x pass | x requests | wall ms | CPU ms | MiB | own MiB | files | calls | modules |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in result["rows"].items():
        figures = [row["x_pass"], row["x_requests"], row["wall_ms"], row["cpu_ms"], row["memory_mib"]]
        figures += [row.get(key, "") for key in ("own_mib", "files", "calls", "modules")]
        lines.append(f"| {name} | " + " | ".join(map(str, figures)) + " |")
    lines += [
        "",
        "MiB: of the largest process, own MiB: of the one that runs as root; files, calls: of all of them;",
        "modules: of the one itself. Nothing changed: a pass at a later boot.",
        "",
    ]
    lines += [f"{name}: {row['target']}" for name, row in result["rows"].items() if "target" in row]
    lines.append(
        f"requests of a password reset, its acknowledgement included: {result['requests_of_a_reset']}"
    )
    return lines
