"""Distributions without some of the libraries: EL 10 has no netifaces, EL 8's Python has no pyudev either."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Sequence, Tuple

import pytest
from support.samples import CLOUD

from csagent.lab import drive
from csagent.lab.router import LabRouter

# None in sys.modules: the import fails as that of a library that is not installed, also in forked children.
PROGRAM = """
import sys
sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(",")))
from csagent.cli.main import entry
entry()
"""


def without(libraries: str, tree: Path, *words: str) -> Tuple[int, Any, str]:
    """Run csagent without these libraries; its exit code, its JSON and its standard error."""
    command: Sequence[str] = [sys.executable, "-c", PROGRAM, libraries, "--root", str(tree), *words, "--json"]
    top = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=top, capture_output=True, text=True, timeout=600, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def test_a_pass_without_the_libraries_that_el_lacks(tree: Path) -> None:
    """Host name, keys and password are applied without netifaces, pyudev, pycdlib and PyYAML."""
    with LabRouter(CLOUD) as router:
        words = ["--router", f"127.0.0.1:{router.port}", "--password-port", str(router.password_port)]
        code, _status, told = without("netifaces,pyudev,pycdlib,yaml", tree, "apply", *words)
    assert (code, told) == (0, "")
    assert (tree / "etc/hostname").read_text() == "web01\n"
    assert "$" in (tree / "etc/shadow").read_text().splitlines()[0]
    assert "ssh-ed25519" in (tree / "root/.ssh/authorized_keys").read_text()


@pytest.mark.parametrize("libraries", ["netifaces", "netifaces,pyudev"])
def test_the_interfaces_are_found_without_netifaces(libraries: str) -> None:
    """`discover` on the running system lists the same interfaces and addresses with and without."""
    with_all, lacking = (without(names, Path("/"), "discover")[1] for names in ("nothing", libraries))
    assert lacking["nics"] and lacking["nics"] == with_all["nics"]


def test_a_drive_without_pycdlib_is_a_reason_and_no_crash(tree: Path, tmp_path: Path) -> None:
    """The place says what to install; the router beside it is used all the same."""
    image = tmp_path / "drive.iso"
    drive.build(str(image), drive.files_for(CLOUD))
    code, _nothing, told = without("pycdlib", tree, "fetch", "--drive", str(image))
    assert code == 4 and "pycdlib is not installed (python3-pycdlib, or pip install pycdlib)" in told
    with LabRouter(CLOUD) as router:
        words = ["--router", f"127.0.0.1:{router.port}", "--password-port", str(router.password_port)]
        code, fetched, _told = without("pycdlib", tree, "fetch", *words, "--drive", str(image))
    assert code == 0 and fetched["hostname"] == "web01"
    (place,) = (one for one in fetched["places"] if one["place"].startswith("drive "))
    assert place["outcome"] == "failed" and "pycdlib is not installed" in place["detail"]
