"""`./dev` itself, with a virtual environment that only writes down what it is told."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def programs(directory: Path, log: Path, *names: str) -> None:
    """Stand-ins that write down how they are called."""
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{log}\n')
        (directory / name).chmod(0o755)


def checkout(directory: Path) -> Path:
    """`./dev` with such an environment; the log of it."""
    for name in ("dev", "pyproject.toml"):
        shutil.copy(TOP / name, directory)
    programs(directory / ".venv/bin", directory / "log", "python", "csagent")
    return directory / "log"


def test_package_says_so_before_the_minute_that_it_takes(tmp_path: Path) -> None:
    """Until the list of files at the end nothing else is said."""
    log = checkout(tmp_path)
    programs(tmp_path / "tools", log, *["dh", "dh_python3", "dpkg-buildpackage", "rpmbuild", "unzip"])
    builders = ["build-pycdlib", "build-deb", "build-python", "build-rpm"]
    programs(tmp_path / "packaging", log, *builders)
    path = f"{tmp_path}/tools:{os.environ['PATH']}"
    done = subprocess.run(
        [tmp_path / "dev", "package"],
        env={**os.environ, "PATH": path},
        stderr=subprocess.PIPE,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0 and "takes a minute" in done.stderr.splitlines()[-1], done.stderr
    assert {line.split()[0] for line in log.read_text().splitlines()} == {"python", *builders}


def test_run_has_what_the_documents_examples_need(tmp_path: Path) -> None:
    """It stands for an installed csagent: it reads templates, and fetches what a document includes."""
    log = checkout(tmp_path)
    subprocess.run([tmp_path / "dev", "run", "user-data", "check", "web.yaml"], check=True, timeout=300)
    install, run = log.read_text().splitlines()
    assert install.startswith("python -m pip install") and install.endswith(" -e .[user-data]")
    assert run == "csagent user-data check web.yaml"
