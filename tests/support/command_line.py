"""csagent's command line on a scratch tree, and what it said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from csagent.apply import libcrypt
from csagent.lab import drive
from csagent.lab.cloud import Cloud
from csagent.model import Secret
from support.samples import CLOUD, PASSWORD

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENCE = 600.0  # seconds, for a command that on an idle machine takes one, or a few where it waits


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Guest:
    """A scratch tree and the command line that works on it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *words: str, columns: int = 80, env: Optional[Dict[str, str]] = None) -> Done:
        command = [sys.executable, "-m", "csagent", "--root", str(self.root), *words]
        environment = {**os.environ, "COLUMNS": str(columns), **(env or {})}
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=PATIENCE, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert PASSWORD not in done.stdout + done.stderr or "--show-secrets" in words
        return Done(done.returncode, done.stdout, done.stderr)

    def text(self, path: str) -> str:
        return (self.root / path).read_text()

    def authorized(self) -> str:
        return self.text("root/.ssh/authorized_keys")

    def password_is(self, password: str) -> bool:
        return bool(libcrypt.matches(Secret(password.encode()), self.text("etc/shadow").split(":")[1]))

    def state(self) -> Dict[str, Any]:
        paths = ("etc/hostname", "etc/hosts", "etc/shadow", "root/.ssh/authorized_keys")
        found = {path: (self.root / path).stat() for path in paths}
        return {path: (one.st_ino, one.st_mtime_ns, one.st_mode) for path, one in found.items()}


def places(router: Any) -> List[str]:
    """Where this router is; as it answers, the wait ends with its answer, however slow this machine is."""
    words = ["--router", f"127.0.0.1:{router.port}", "--password-port", str(router.password_port)]
    return [*words, "--wait", "120"]


def data(done: Done) -> Dict[str, str]:
    """The state of each datum; of the network only where a source says something of it."""
    states = {datum: entry["state"] for datum, entry in done.json["data"].items()}
    return {datum: state for datum, state in states.items() if (datum, state) != ("network", "absent")}


def make_drive(path: Path, cloud: Cloud = CLOUD, **changes: Any) -> Path:
    files = {**drive.files_for(cloud), **changes.pop("files", {})}
    for name in changes.pop("without", ()):
        files.pop(name)
    drive.build(str(path), files)
    return path
