"""A piece of csagent's advice, the situation that it is for, and what running it is to come to."""

from __future__ import annotations

from typing import NamedTuple, Tuple

OWNER = "/etc/ssh/sshd_config.d/50-owner.conf"  # PermitRootLogin yes
SETTINGS = "/etc/csagent/csagent.yaml"
RELOAD = "systemctl try-reload-or-restart ssh || systemctl try-reload-or-restart sshd"
RESTART = "systemctl reset-failed csagent.service; systemctl restart csagent.service"
PASS, DATA = ("doctor/checks/last_pass.py",), ("doctor/checks/user_data.py",)  # who prints it
SAID, GREP = "csagent apply || true", (0, 1)  # grep(1), pgrep(1): 1 where there is nothing


class Case(NamedTuple):
    """A machine that is broken in one way, and the advice that csagent gives about it.

    `breaks`, `restored`: shell. `area` and `saw`: of doctor's finding; "" where another command prints it.
    `advice`: the whole of it; `*` stands for what differs from day to day. `commands`: those in it, one after
    the other; () where all of it is one. What begins with HAND is done in between, because words ask for it,
    and with CLOUD what is done in CloudStack (tests/system/test_advice_real.py). `given` is on the standard
    input of each. `shows`: what they print. `ends`: their exit codes. `helps`: whether csagent no longer
    complains afterwards.
    """

    by: Tuple[str, ...]  # the modules whose texts it is made of, below csagent/
    breaks: str
    area: str
    saw: str
    advice: str
    commands: Tuple[str, ...] = ()
    given: str = ""
    shows: str = ""
    ends: Tuple[int, ...] = (0,)
    helps: bool = True
    restored: str = "true"
    before: str = ""  # what is done in CloudStack before it is broken
    wait: int = 5  # seconds for a source; 0 where there is none


HAND, CLOUD = "by hand: ", "in CloudStack: "
TWICE = "EXAMPLE-Passw0rt-7\n" * 2
RESET_PASSWORD = "reset the password in CloudStack, then: csagent apply"
RESET_KEYS = "reset the VM's SSH key in CloudStack, then: csagent apply"
DONE = (CLOUD + "password", "csagent apply")


def look(
    by: Tuple[str, ...],
    advice: str,
    commands: Tuple[str, ...] = (),
    shows: str = "",
    ends: Tuple[int, ...] = (0,),
) -> Case:
    """Advice that is not waited for, since the machine is well."""
    return Case(by, "true", "", "", advice, commands, shows=shows, ends=ends, helps=False)
