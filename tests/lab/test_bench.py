"""`./dev bench` without its measuring: what it measures against starts, and tables and chart are made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict
from xml.dom import minidom

BENCH = Path(__file__).resolve().parents[1] / "bench"
AGENTS = ("none", "csagent", "csagent, no source", "cloud-init", "script")
AGENTS += tuple(f"{agent}, busy" for agent in ("none", "csagent", "cloud-init"))
FIGURES = {
    "cpu_s": 2.0, "after_lease_s": 1.0, "sshd_s": 9.5, "requests": 6, "rss_mib": 15.0, "pss_mib": 9.0,
    "login_s": 9.5, "up_s": 9.5, "running_s": 9.75, "state": "running",
}  # fmt: skip
RESULT: Dict[str, Any] = {
    "vm": {"runs": 3, "processor": "-accel tcg", "agents": dict.fromkeys(AGENTS, FIGURES)},
    "user_data": {
        "runs": 5,
        "documents": {
            "a script": {
                "csagent": {"wall_s": 0.5, "cpu_s": 0.4},
                "cloud-init": {"wall_s": 2.0, "cpu_s": 1.6},
                "x_wall": 0.25,
                "x_cpu": 0.25,
            }
        },
    },
}


def bench(script: str) -> str:
    """What a script prints that runs as bench.py does: its own directory is on the path, no other of ours."""
    head = f"import json, sys; sys.path.insert(0, {str(BENCH)!r}); result = json.load(sys.stdin)\n"
    done = subprocess.run(
        [sys.executable, "-c", head + script],
        input=json.dumps(RESULT),
        capture_output=True,
        text=True,
        cwd="/",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_router_and_machine_start() -> None:
    """In processes of their own."""
    script = "from world import Machine, Router\nrouter, machine = Router(), Machine()\nprint(router.port)\n"
    assert int(bench(script + "router.close(); machine.close()\n")) > 0


def test_user_data_is_in_table_and_chart() -> None:
    """A row and two bars for each document; the chart also without the part of the VM."""
    told = bench("import user_data; print('\\n'.join(user_data.table(result['user_data'])))")
    assert "| a script | 0.5 | 2.0 | 0.4 | 1.6 | 0.25 | 0.25 |" in told
    assert "at most: wall 0.25, CPU 0.25" in told
    for parts in (("vm", "user_data"), ("user_data",), ("vm",)):
        script = f"import chart; print(chart.svg({{part: result[part] for part in {parts}}}))"
        document = minidom.parseString(bench(script))
        bars = len(document.getElementsByTagName("rect")) - 1
        assert bars == ("user_data" in parts) * 2 + ("vm" in parts) * 14


def test_boots_table_compares_with_no_agent_at_all() -> None:
    """sshd, login prompt, target and the end of the boot, each with a source and without."""
    told = bench("import vm; print('\\n'.join(vm.table(result['vm'])))")
    for what in ("sshd", "login prompt", "multi-user.target", "`is-system-running` = running"):
        assert f"{what}, against no agent at all: +0.00 s; where nobody answers +0.00 s" in told
        assert f"takes all, {what}, csagent against no agent: +0.00 s" in told
    assert "| csagent, no source |" in told and "password: 1.0 times as long" in told


def test_tables_of_what_is_installed_and_of_a_starved_machine() -> None:
    """A row for each release and agent, and for each share."""
    counts = {"packages": 20, "mib": 50.5, "files": 3000}
    rows = {"csagent": counts}
    told = bench(f"import installs; print('\\n'.join(installs.table({{'12': {rows}}})))")
    assert "| Debian 12, csagent | 20 | 50.5 | 3000 |" in told
    row = {"needed_s": 0.4, "took_s": 19.0, "times": 0.95}
    told = bench(f"import starved; print('\\n'.join(starved.table({{'shares': {{'0.02': {row}}}}})))")
    assert "| 1/50 | 0.4 | 19.0 | 0.95 |" in told


def test_documents_of_the_comparison_run_whole(tmp_path: Path) -> None:
    """csagent reads each of the four, and refuses nothing of it."""
    script = (
        "import user_data, pathlib, subprocess\n"
        "for name, raw in user_data.documents().items():\n"
        f"    path = pathlib.Path({str(tmp_path)!r}) / 'document'\n"
        "    path.write_bytes(raw)\n"
        "    meta = path.with_name('metadata')\n"
        "    meta.write_text(user_data.METADATA)\n"
        "    words = [sys.executable, '-m', 'csagent', 'user-data', 'check', path, '--metadata', meta]\n"
        "    print(subprocess.run(words, stdout=subprocess.DEVNULL).returncode)\n"
    )
    assert bench(script).split() == ["0"] * 4
