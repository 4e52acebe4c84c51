"""`./dev` itself, with a virtual environment that only writes down what it is told."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def test_run_has_what_the_documents_examples_need(tmp_path: Path) -> None:
    """It stands for an installed csagent: it reads templates, and fetches what a document includes."""
    for name in ("dev", "pyproject.toml"):
        shutil.copy(TOP / name, tmp_path)
    bin_directory = tmp_path / ".venv/bin"
    bin_directory.mkdir(parents=True)
    for name in ("python", "csagent"):
        (bin_directory / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{tmp_path}/log\n')
        (bin_directory / name).chmod(0o755)
    subprocess.run([tmp_path / "dev", "run", "user-data", "check", "web.yaml"], check=True, timeout=300)
    install, run = (tmp_path / "log").read_text().splitlines()
    assert install.startswith("python -m pip install") and install.endswith(" -e .[user-data]")
    assert run == "csagent user-data check web.yaml"
