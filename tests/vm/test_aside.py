"""How tests of virtual machines run beside the others (`support.aside`)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict

import pytest

TESTS = Path(__file__).resolve().parents[1]
CONFTEST = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from support import aside

def pytest_configure(config):
    config.addinivalue_line("markers", "vm: apart")
    aside.configure(config)
"""
APART = """
import os, pathlib, time
import pytest

pytestmark = pytest.mark.vm
HERE = pathlib.Path(__file__).parent

def test_good():
    HERE.joinpath("pid").write_text(f"{os.getpid()} {os.getsid(0)} {os.getppid()}")

def test_bad():
    print("what it printed")
    assert "one" == "other"

@pytest.mark.skip(reason="not here")
def test_skipped():
    pass

@pytest.mark.parametrize("end", ["stays", "ends"])
def test_end(end):
    if end == "ends" and os.environ.get("CSAGENT_TEST_REPORTS"):
        os._exit(3)

def test_after_the_end():
    pass
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A few tests, one of them not apart."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_a.py").write_text(APART)
    (tmp_path / "test_b.py").write_text("def test_other():\n    pass\n")
    return tmp_path


def run(project: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment: Dict[str, str] = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    environment.pop("CSAGENT_TEST_REPORTS", None)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "-rs", "--rootdir", project, *words],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_results_of_a_process_aside_are_shown_as_its_own(project: Path) -> None:
    """Passed, failed with what was printed, skipped; last in order; what never came is a failure."""
    done = run(project)
    shown = re.findall(r"^(test_\S+) (PASSED|FAILED|SKIPPED)", done.stdout, re.MULTILINE)
    assert shown == [
        ("test_b.py::test_other", "PASSED"),
        ("test_a.py::test_good", "PASSED"),
        ("test_a.py::test_bad", "FAILED"),
        ("test_a.py::test_skipped", "SKIPPED"),
        ("test_a.py::test_end[stays]", "PASSED"),
        ("test_a.py::test_end[ends]", "FAILED"),
        ("test_a.py::test_after_the_end", "FAILED"),
    ], done.stdout
    assert done.returncode == 1
    assert "what it printed" in done.stdout and "not here" in done.stdout
    assert "the process aside did not come to this test" in done.stdout
    pid, session, _parent = map(int, (project / "pid").read_text().split())
    assert session == pid  # a session has its own part of the processors
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.parametrize(("words", "passed"), [("test_a.py", 4), ("-kgood or bad", 1)])
def test_alone_they_run_as_any_test(project: Path, words: str, passed: int) -> None:
    """With nothing else selected there is no process aside: the debugger and -s work."""
    done = run(project, words, "-s")
    assert f"{passed} passed" in done.stdout and "1 failed" in done.stdout, done.stdout
    _pid, session, parent = map(int, (project / "pid").read_text().split())
    assert (session, parent) == (os.getsid(0), os.getpid())
