"""The running machine: who would write again what is being removed, and how it ends without their doing so.

Stopping services in the usual way writes leases (`dhclient -r`), a seed, a record of the shutdown, and the
shell's history. `--poweroff` therefore ends the machine without the stop jobs of its units (systemctl(1),
`--force` given once): processes are killed and file systems unmounted, nothing else runs.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Iterator, Tuple

from csagent.errors import CsagentError
from csagent.system.systemd import BOOTED

if TYPE_CHECKING:
    from csagent.system.seams import System

INIT_ROOT = "/proc/1/root"  # proc(5): a link to the root of the first process; root alone may follow it
TIMEOUT = 60.0
# None of these lets anybody in or keeps the network up. auditd cannot be stopped on EL; its log is cut.
QUIET = (
    # The two start parts of user-data.
    *("csagent.service", "csagent-user-data.path", "csagent-user-data-after-boot.service"),
    *("syslog.socket", "rsyslog.service", "systemd-random-seed.service"),
)
SHELLS = frozenset(("bash", "zsh", "ksh", "mksh", "fish", "dash", "ash", "sh", "tcsh"))
# Asked to end they write once more: a record of it, leases, when a connection was last up.
WRITERS = frozenset(
    ("auditd", "NetworkManager", "dhclient", "dhcpcd", "connmand", "wickedd", "wickedd-dhcp4")
)
USER_DATA = (
    "user-data is running and writes its record again when it ends: seal once it has, or with --poweroff"
)
MACHINE_OFF = ["systemctl", "--force", "poweroff"]


def booted(system: "System") -> bool:
    """Whether systemd runs this machine, and this is its root: a chroot may have its /run and /proc."""
    if not (system.live and system.tree.exists(BOOTED)):
        return False
    try:
        return os.path.samestat(os.stat(system.tree.shown(INIT_ROOT)), os.stat(system.tree.shown("/")))
    except OSError:
        return False


def quieten(system: "System") -> Tuple[str, ...]:
    """Stop what would write again at once. What cannot be stopped is said, and sealing goes on."""
    if not booted(system):
        return ()
    from csagent.state import user_data_record

    notes = []
    for unit in QUIET:
        if system.runner.run(["systemctl", "--quiet", "is-active", unit], timeout=TIMEOUT).code != 0:
            continue
        done = system.runner.run(["systemctl", "stop", unit], timeout=TIMEOUT)
        notes.append(f"stopped {unit}" if done.code == 0 else f"{unit} could not be stopped, and writes on")

    if user_data_record.running(system):
        notes.append(USER_DATA)
    # The journal goes on in memory; systemd before 241 has no such option, and its files are removed anyway.
    if system.tree.exists("/var/log/journal"):
        system.runner.run(["journalctl", "--relinquish-var"], timeout=TIMEOUT)
    return tuple(notes)


def power_off(system: "System") -> None:
    """End the machine as it is now.

    Those that write when they are asked to end are killed first: shells their history when the terminal goes
    away, DHCP clients and auditd when systemd's last SIGTERM comes.

    Raises:
        CsagentError: systemd did not do it.
    """
    for ended in (signal.SIGHUP, signal.SIGTERM):  # our own terminal and session go with their shell
        signal.signal(ended, signal.SIG_IGN)
    for pid in doomed():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    os.sync()
    done = system.runner.run(MACHINE_OFF, timeout=TIMEOUT)
    if done.code != 0:
        raise CsagentError("systemctl did not power the machine off; switch it off, do not shut it down")


def doomed(proc: str = "/proc") -> Iterator[int]:
    """The shells that have a terminal, the one that this was typed into among them, and the `WRITERS`."""
    for name in os.listdir(proc):
        if not name.isdigit():
            continue
        try:
            with open(f"{proc}/{name}/stat", encoding="utf-8", errors="replace") as stream:
                before, _, after = stream.read().rpartition(")")
        except OSError:
            continue
        words = after.split()  # state, ppid, pgrp, session, tty_nr: proc(5)
        name_of = before.partition("(")[2]
        terminal = len(words) > 4 and words[4] not in ("0", "-1")
        if name_of in WRITERS or (name_of in SHELLS and terminal):
            yield int(name)
