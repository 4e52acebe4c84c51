"""Containers whose process 1 waits for nobody: what csagent forks is gone all the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List

import pytest

from csagent.lab.cloud import Cloud
from csagent.lab.router import LabRouter

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("unshare") or not shutil.which("nsenter"),
        reason="needs root and namespaces",
    ),
]


class Container:
    """Processes of their own, the first of which is `sleep`."""

    def __init__(self) -> None:
        words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "sleep", "600"]
        self._holder = subprocess.Popen(words)
        self._inside = ""
        while not self._inside:
            assert self._holder.poll() is None
            self._inside = (
                Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().strip()
            )

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        enter = ["nsenter", "--target", self._inside, "--pid", "--mount", "--"]
        return subprocess.run([*enter, *words], capture_output=True, text=True, timeout=300, check=False)

    def states(self) -> List[str]:
        """State and name of each process in it but the one that looks."""
        look = (
            "import os\n"
            "for one in os.listdir('/proc'):\n"
            "    if one.isdigit() and int(one) != os.getpid():\n"
            "        name, rest = open(f'/proc/{one}/stat').read().split('(')[1].rsplit(')', 1)\n"
            "        print(rest.split()[0], name)\n"
        )
        return self.run(sys.executable, "-c", look).stdout.splitlines()

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()


@pytest.fixture
def container() -> Iterator[Container]:
    made = Container()
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("command", [("fetch", "-q"), ("apply", "-q")])
def test_no_zombie_after_a_pass(container: Container, tmp_path: Path, command: List[str]) -> None:
    """Neither a reader nor its broker stays in the list of processes when a command has ended."""
    cloud = Cloud(hostname="web01", password="EXAMPLE-pw")
    served = LabRouter(cloud, address="127.0.0.1", port=0, password_port=0)
    served.start()
    root = tmp_path / "guest"
    (root / "etc").mkdir(parents=True)
    (root / "root").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/shadow").write_text("root:*:20000:0:99999:7:::\n")
    try:
        words = [sys.executable, "-m", "csagent", "--root", str(root), *command]
        words += ["--router", f"127.0.0.1:{served.port}", "--password-port", str(served.password_port)]
        for _ in range(3):
            done = container.run(*words)
            assert (done.returncode, done.stderr) == (0, "")
            assert container.states() == ["S sleep"]
    finally:
        served.stop()
