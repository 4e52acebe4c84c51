"""Commands in a guest of which somebody knows how to get inside."""

from __future__ import annotations

import abc
import json
import subprocess
from typing import Any, List


class Inside(abc.ABC):
    """What a guest in namespaces and a container with a systemd have in common."""

    deadline = 600.0  # seconds that a command may take

    @abc.abstractmethod
    def _enter(self) -> List[str]:
        """The words before a command that is run inside."""

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run a command inside, and return whatever came of it."""
        return subprocess.run(
            [*self._enter(), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=self.deadline,
        )

    def do(self, *words: str) -> str:
        """Run a command inside that must succeed; return what it printed."""
        done = self.run(*words)
        assert done.returncode == 0, f"{' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def csagent(self, *words: str, code: int = 0) -> Any:
        """Run `csagent ... --json`, check its exit code, and return the document."""
        done = self.run("csagent", *words, "--json")
        told = f"csagent {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.returncode == code, told
        return json.loads(done.stdout)
