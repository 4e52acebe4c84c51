"""One guest's tree, a router on loopback, and passes over it whose outcome is told by `csagent status`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Sequence

from csagent.apply import libcrypt
from csagent.model import Secret
from support.samples import PASSWORD

REPOSITORY = Path(__file__).resolve().parents[2]
DATA = ("hostname", "ssh_keys", "password", "user_data")
ENVIRONMENT = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}
DEADLINE = 600.0  # seconds; on an idle machine a pass takes half of one
ENOUGH = ("--wait", "120")  # for a router that answers, and a child that is late to ask


class Pass(NamedTuple):
    """How `apply` ended, and what `status` says of it."""

    code: int
    output: str
    error: str
    status: Dict[str, Any]

    @property
    def states(self) -> Dict[str, str]:
        """The state of each datum; of the network only where a source says something of it."""
        states = {datum: str(entry["state"]) for datum, entry in self.status["data"].items()}
        return {datum: state for datum, state in states.items() if (datum, state) != ("network", "absent")}

    def reason(self, datum: str) -> str:
        return str(self.status["data"][datum]["reason"])

    def failed_alone(self, datum: str, words: str, state: str = "failed") -> None:
        """This datum has failed for a one-line reason with these words in it; all others were applied."""
        assert self.code == 3, self
        assert self.states == {**dict.fromkeys(DATA, "applied"), datum: state}, self
        self.says(datum, words)

    def says(self, datum: str, words: str) -> None:
        """The reason of a datum is one line that has these words in it, and `apply` has told it."""
        reason = self.reason(datum)
        assert re.search(words, reason) and "\n" not in reason and len(reason) < 600, self
        assert reason.removesuffix("...") in self.error, self  # status has 500 characters of it

    def is_well(self) -> None:
        """Nothing was wrong."""
        assert self.code == 0 and set(self.states.values()) <= {"applied", "unchanged", "absent"}, self


class Tree:
    """A guest's tree and its router. `prefix` is what to put before a command, to run it elsewhere."""

    def __init__(self, root: Path, router: Any, prefix: Sequence[str] = ()) -> None:
        self.root, self.router, self.prefix = root, router, prefix

    @property
    def places(self) -> List[str]:
        return [
            "--router",
            f"127.0.0.1:{self.router.port}",
            "--password-port",
            str(self.router.password_port),
        ]

    def command(self, *words: str) -> List[str]:
        return [*self.prefix, sys.executable, "-m", "csagent", "--root", str(self.root), *words]

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run one command to its end; it shows no traceback and no password."""
        done = subprocess.run(
            self.command(*words),
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=DEADLINE,
            check=False,
            cwd=REPOSITORY,
            env=ENVIRONMENT,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return done

    def apply(self, *words: str) -> Pass:
        """A pass, and what `csagent status --json` says afterwards."""
        done = self.run("apply", *self.places, *ENOUGH, *words)
        said = self.run("status", "--json")
        assert said.returncode == 0, said.stderr
        status = json.loads(said.stdout)
        assert status["exit_code"] == done.returncode, (status, done)
        return Pass(done.returncode, done.stdout, done.stderr, status)

    def settings(self, text: str) -> None:
        (self.root / "etc/csagent").mkdir(exist_ok=True)
        (self.root / "etc/csagent/csagent.yaml").write_text(text)

    def shadow(self, user: str = "root") -> str:
        """The password field of the first line of a user."""
        lines = (self.root / "etc/shadow").read_text().splitlines()
        return next(line.split(":")[1] for line in lines if line.startswith(user + ":"))

    def password_is(self, password: str = PASSWORD, user: str = "root") -> bool:
        return bool(libcrypt.matches(Secret(password.encode()), self.shadow(user)))

    def litter(self) -> List[Path]:
        """Temporary files that were left behind."""
        return [path for path in self.root.rglob("*csagent-new*")]
