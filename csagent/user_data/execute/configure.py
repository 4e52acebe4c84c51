"""Configuration files, and the commands that make the system read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Tuple

from csagent.model import Secret
from csagent.system.systemd import BOOTED

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

SECONDS = 60.0


class File(NamedTuple):
    """A file of root's, replaced as a whole; with empty content and `remove`, taken away."""

    path: str
    content: Secret
    mode: int = 0o644
    remove: bool = False


class Configure(NamedTuple):
    """Write files, run commands, and have running services read the files again, without waiting for them."""

    files: Tuple[File, ...]
    commands: Tuple[Tuple[str, ...], ...] = ()
    services: Tuple[str, ...] = ()

    def carry_out(self, machine: "Machine") -> None:
        """Raises: StepFailed."""
        for one in self.files:
            if one.remove:
                machine.remove(one.path)
            else:
                machine.write(one.path, one.content.reveal(), one.mode)
        for words in self.commands:
            machine.command(list(words))
        reload_services(machine, self.services)


def reload_services(machine: "Machine", services: Tuple[str, ...]) -> None:
    """Reload, or restart, those that run; one that does not run yet will read its files when it starts."""
    if not services or not machine.system.live or not machine.system.tree.exists(BOOTED):
        return
    for service in services:
        words = ["systemctl", "--no-block", "try-reload-or-restart", service]
        machine.system.runner.run(words, timeout=SECONDS)
