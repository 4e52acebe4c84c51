"""One bench and one dry run of each scenario for all the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
from harness import TRACER, Bench, Guest, Scenario, Trace


@pytest.fixture(scope="session")
def bench(tracing: Path) -> Bench:
    """The templates."""
    return Bench(tracing)


@pytest.fixture(scope="session")
def tracing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scratch directory; without ptrace these tests are impossible, which CI must hear of."""
    scratch = tmp_path_factory.mktemp("crash")
    words = [sys.executable, str(TRACER), "--log", str(scratch / "probe"), "--", "true"]
    probe = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    if probe.returncode != 0 or '"status": 0' not in (scratch / "probe").read_text():
        reason = f"ptrace or seccomp does not work here: {probe.stderr.strip()[-200:]}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return scratch


@pytest.fixture(scope="session")
def dry_run(bench: Bench) -> Callable[[Scenario], Trace]:
    """`dry_run(scenario)` is the trace of a pass that nobody disturbs."""
    known: Dict[str, Any] = {}

    def run(scenario: Scenario) -> Trace:
        if scenario.name not in known:
            root: Path = bench.fresh(scenario)
            with Guest(bench, scenario, root) as guest:
                known[scenario.name] = guest.trace()
                assert known[scenario.name].end["status"] == 0, known[scenario.name].output
                assert guest.unfinished() + guest.damage() + guest.litter() + guest.problems == []
            shutil.rmtree(root.parent)
        return known[scenario.name]

    return run
