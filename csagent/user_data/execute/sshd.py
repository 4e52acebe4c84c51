"""sshd: an option of its own, and that it reads it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, List

from csagent.system.files import lines_of
from csagent.system.systemd import BOOTED

if TYPE_CHECKING:
    from csagent.user_data.machine import Machine

CONFIG = "/etc/ssh/sshd_config"
DROP_IN = "/etc/ssh/sshd_config.d/50-cloud-init.conf"
"""cloud-init's name for it: sshd takes the first value that it reads, and others sort theirs around it."""
UNITS = ("ssh.service", "sshd.service")
SECONDS = 30.0
_INCLUDE = re.compile(r"^\s*Include\s+.*/etc/ssh/sshd_config\.d/\*\.conf", re.MULTILINE | re.IGNORECASE)


def set_option(machine: "Machine", name: str, value: str) -> None:
    """Set an option, in a file of its own where sshd_config includes such files. Raises: StepFailed."""
    main = machine.system.tree.read_text(CONFIG) or ""
    own = _INCLUDE.search(main) is not None
    path = DROP_IN if own else CONFIG
    if machine.change(path, lambda text: _with_option(text, name, value), 0o600):
        restart(machine)


def _with_option(text: str, name: str, value: str) -> str:
    """The text with every line of the option set, or with one more line where there is none."""
    lines: List[str] = []
    found, changed = False, False
    for line in lines_of(text):
        words = line.split(None, 1)
        if words and words[0].lower() == name.lower():
            found = True
            if words[1:] != [value]:
                line, changed = f"{name} {value}", True
        lines.append(line)
    if not found:
        lines.append(f"{name} {value}")
        changed = True
    return "".join(line + "\n" for line in lines) if changed else text


def restart(machine: "Machine") -> None:
    """Have a running sshd read its files again; one that does not run yet will read them then.

    Nothing is waited for: a job of the boot that has not begun may stand before it.
    """
    if not machine.system.live or not machine.system.tree.exists(BOOTED):
        return
    words = ["systemctl", "--no-block", "try-reload-or-restart", *UNITS]
    done = machine.system.runner.run(words, timeout=SECONDS)
    if done.code not in (0, 5):  # 5: one of the two is not there
        machine.warn("sshd could not be told to read its configuration again")
