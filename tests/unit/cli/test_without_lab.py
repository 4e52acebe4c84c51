"""csagent as a guest has it: without the package csagent-lab."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import csagent
from csagent.cli.parser import build_parser

ENTRY = "import sys; sys.path.insert(0, sys.argv.pop(1)); from csagent.cli.main import entry; entry()"
HOW = "apt install ./csagent-lab_*.deb, dnf install ./csagent-lab-*.rpm"


@pytest.fixture(params=["removed", "byte code left"])
def modules(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A directory with csagent in it, without the lab, or with what Python left of it."""
    home = Path(csagent.__file__).parent
    shutil.copytree(home, tmp_path / "csagent", ignore=shutil.ignore_patterns("lab", "__pycache__", "data"))
    if request.param != "removed":
        (tmp_path / "csagent/lab/__pycache__").mkdir(parents=True)
        (tmp_path / "csagent/lab/__pycache__/command.pyc").write_bytes(b"")
    return tmp_path


def run(modules: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """csagent with these words."""
    command = [sys.executable, "-I", "-B", "-c", ENTRY, str(modules), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("words", ["", "router --port 80", "--help", "-v drive x.iso", "vm -- x"])
def test_lab_says_how_to_get_it(modules: Path, words: str) -> None:
    """One line and exit code 2, whatever stands behind `lab`, and whatever before it."""
    for before in ((), ("--root", str(modules))):
        done = run(modules, *before, "lab", *words.split())
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert HOW in done.stderr


def test_everything_else_is_as_it_was(modules: Path, tmp_path: Path) -> None:
    """Also where the word lab is somebody's value; --help goes on naming the command."""
    done = run(modules, "--root", str(tmp_path), "query", "lab")
    assert done.returncode == 1 and "no pass has ended yet" in done.stderr
    done = run(modules, "--help")
    assert done.returncode == 0 and "\n    lab " in done.stdout


def test_an_error_in_the_lab_is_not_taken_for_its_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that the lab misses is named as what it is."""
    monkeypatch.delitem(sys.modules, "csagent.lab.command", raising=False)

    class Broken:
        def find_spec(self, name: str, *_more: object) -> None:
            if name == "csagent.lab.command":
                raise ModuleNotFoundError("No module named 'pycdlib'", name="pycdlib")

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ModuleNotFoundError, match="pycdlib"):
        build_parser()
