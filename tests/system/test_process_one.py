"""Containers whose process 1 waits for nobody: what csagent forks is gone all the same."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator, List

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

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        enter = ["nsenter", "--target", self._inside, "--pid", "--mount", "--"]
        return subprocess.Popen([*enter, *words])

    def end_a_child_of(self, daemon: "subprocess.Popen[bytes]") -> bool:
        """Kill the pass of a daemon; False where none is under way. nsenter forks the daemon."""
        for main in children(daemon.pid):
            for one in children(main):
                os.kill(one, signal.SIGKILL)
                return True
        return False

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
        self._holder.wait(600)


def children(pid: int) -> List[int]:
    """The processes that a process has forked."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def container() -> Iterator[Container]:
    made = Container()
    try:
        yield made
    finally:
        made.close()


def guest(base: Path) -> Path:
    root = base / "guest"
    (root / "etc/csagent").mkdir(parents=True)
    (root / "root").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/shadow").write_text("root:*:20000:0:99999:7:::\n")
    (root / "etc/csagent/csagent.yaml").write_text("poll: 0.1\n")
    return root


@pytest.fixture
def served() -> Iterator[LabRouter]:
    router = LabRouter(Cloud(hostname="web01"), address="127.0.0.1", port=0, password_port=0)
    router.start()
    try:
        yield router
    finally:
        router.stop()


def words(root: Path, served: LabRouter, *command: str) -> List[str]:
    router = ["--router", f"127.0.0.1:{served.port}", "--password-port", str(served.password_port)]
    return [sys.executable, "-m", "csagent", "--root", str(root), *command, *router]


@pytest.mark.parametrize("command", [("fetch", "-q"), ("apply", "-q")])
def test_no_zombie_after_a_pass(
    container: Container, served: LabRouter, tmp_path: Path, command: List[str]
) -> None:
    """Neither a reader nor its broker stays in the list of processes when a command has ended."""
    root = guest(tmp_path)
    for _ in range(3):
        done = container.run(*words(root, served, *command))
        assert (done.returncode, done.stderr) == (0, "")
        assert container.states() == ["S sleep"]


def test_a_pass_that_was_killed_leaves_nothing(
    container: Container, served: LabRouter, tmp_path: Path
) -> None:
    """Its readers and their brokers become the daemon's, which lets go of them; the next pass goes on."""
    root = guest(tmp_path)
    status = root / "run/csagent/status.json"
    daemon = container.start(*words(root, served, "daemon", "-q"))
    try:
        for _ in range(3):
            seen = status.read_bytes() if status.exists() else b""
            until(lambda seen=seen: status.exists() and status.read_bytes() != seen)  # type: ignore[misc]
            until(lambda: container.end_a_child_of(daemon))
        seen = status.read_bytes()
        until(lambda: status.read_bytes() != seen)
        until(lambda: not any(state.startswith("Z") for state in container.states()))
    finally:
        for main in children(daemon.pid):
            os.kill(main, signal.SIGTERM)
        daemon.wait(600)
    assert container.states() == ["S sleep"]


def until(what: Callable[[], Any]) -> None:
    """Wait for something that comes, however slow the machine is."""
    end = time.monotonic() + 120.0
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)
