"""What came from somebody else steers no terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from csagent.cli.main import guarded
from csagent.errors import CsagentError

STEERS = "web\x1b[2J\u202e\u009b01"


@pytest.mark.parametrize("terminal", [True, False])
def test_query_gives_a_script_every_byte_and_a_terminal_what_is_harmless(tree: Path, terminal: bool) -> None:
    (tree / "run/csagent").mkdir()
    (tree / "run/csagent/instance.json").write_text(json.dumps({"schema": 1, "hostname": STEERS}))
    ours, theirs = pty.openpty() if terminal else os.pipe()
    try:
        words = [sys.executable, "-m", "csagent", "--root", str(tree), "query", "hostname"]
        assert subprocess.run(words, stdout=theirs, timeout=600, check=False).returncode == 0
        said = os.read(ours, 1000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert said.startswith("web") and said.rstrip().endswith("01")
    assert [one in said for one in ("\x1b", "\u202e", "\u009b")] == [not terminal] * 3


def test_an_error_is_one_line_that_steers_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It may have a name in it that a router, a lease or a drive gave."""

    def fails() -> int:
        raise CsagentError(f"{STEERS}\r\nsecond line")

    assert guarded(fails) == 1
    said = capsys.readouterr().err
    assert said.startswith("csagent: web") and said.endswith("line\n") and said.count("\n") == 1
    assert [one for one in said[:-1] if not one.isprintable()] == []


@pytest.mark.parametrize("command", ["status", "discover", "doctor"])
def test_closed_standard_output_is_no_failure_of_its_own(tree: Path, command: str) -> None:
    """A job of cron's or of a shell's may begin without one: what was done counts, not who reads of it."""
    words = [sys.executable, "-m", "csagent", "--root", str(tree), command]
    heard = subprocess.run(words, capture_output=True, text=True, timeout=600, check=False)
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *words]
    closed = subprocess.run(shell, stderr=subprocess.PIPE, text=True, timeout=600, check=False)
    assert (closed.returncode, closed.stderr) == (heard.returncode, heard.stderr)


def test_what_a_locale_cannot_write_is_escaped(tree: Path) -> None:
    (tree / "run/csagent").mkdir()
    status = {"schema": 1, "instance_id": "\u6771\u4eac"}
    (tree / "run/csagent/status.json").write_text(json.dumps(status))
    surroundings = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    words = [sys.executable, "-m", "csagent", "--root", str(tree), "status"]
    done = subprocess.run(words, capture_output=True, env=surroundings, timeout=600, check=False)
    assert b"\\u6771\\u4eac" in done.stdout and b"bug" not in done.stderr
