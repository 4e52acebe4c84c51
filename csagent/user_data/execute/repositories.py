"""The key of a repository from a key server, and answers that packages will ask for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from csagent.model import Secret

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

SECONDS = 60.0


class FetchKey(NamedTuple):
    """Fetch a key with gpg, into a key ring of its own, and write it for apt."""

    key_id: str
    server: str
    path: str

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        import shutil
        import tempfile

        if not machine.system.live:
            machine.shown_commands.append(f"gpg --keyserver {self.server} --recv-keys {self.key_id}")
            return
        home = tempfile.mkdtemp(prefix="csagent-gpg-")
        try:
            gpg = ["gpg", "--batch", "--quiet", "--homedir", home]
            machine.command([*gpg, "--keyserver", self.server, "--recv-keys", self.key_id])
            ring = os.path.join(home, "key")
            machine.command([*gpg, "--output", ring, "--export", self.key_id])
            with open(ring, "rb") as stream:
                machine.write(self.path, stream.read(1 << 20), 0o644)
        except OSError as error:
            machine.fail(f"gpg has exported no key: {error.strerror}")
        finally:
            shutil.rmtree(home, ignore_errors=True)


class SetSelections(NamedTuple):
    """Answer questions of packages beforehand. They may be passwords: they go in on standard input."""

    text: Secret

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        if not machine.system.live:
            machine.shown_commands.append("debconf-set-selections")
            return
        words = ["debconf-set-selections"]
        done = machine.system.runner.run(words, stdin=self.text.reveal(), timeout=SECONDS)
        if done.code != 0:
            machine.fail("debconf-set-selections does not accept the answers", done.code)
