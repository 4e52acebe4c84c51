"""What the checks judge: the machine (or tree, or archive), its settings, and what its places said."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, TypeVar

from csagent.doctor.seen import Seen
from csagent.model import Found

if TYPE_CHECKING:
    from csagent.doctor.bundle.recorded import Record
    from csagent.doctor.home import Home
    from csagent.settings import Settings
    from csagent.system.accounts import Account
    from csagent.system.seams import System

Value = TypeVar("Value")
DEADLINE = 5.0  # seconds for one command
COMMAND_LIMIT = 1 << 20
NO_ACCOUNT = "there is no account "  # before its name, where that is sure
HANGS = "see what hangs: dmesg | tail; cat /proc/mounts"


@dataclass(frozen=True)
class Situation:
    """What every check is given: the machine, its settings and what was read."""

    system: "System"
    settings: "Settings"
    settings_problem: str = ""
    found: Found = field(default_factory=Found)
    found_problem: str = ""
    seen: Seen = field(default_factory=Seen)
    status: Optional[Dict[str, Any]] = None
    status_problem: str = ""
    account: Optional["Account"] = None
    account_problem: str = ""
    record: Optional["Record"] = None  # of an archive: what was found on the machine itself

    @property
    def tree(self) -> bool:
        """Whether this is a mere tree of files, or the archive of one, and not of a running machine."""
        return self.seen.tree if self.system.recorded else not self.system.live

    @property
    def root(self) -> bool:
        """Whether what only root may read was read."""
        return self.seen.as_root if self.system.recorded else os.geteuid() == 0

    @cached_property
    def home(self) -> "Home":
        """The account's home; empty where there is no account."""
        from csagent.doctor import home

        return home.Home({}) if self.account is None else home.look(self.system, self.account)

    @property
    def password_matters(self) -> bool:
        """Whether somebody expects a password from CloudStack to work."""
        return self.settings.password and (self.seen.password_given or self._passed("password"))

    @property
    def keys_matter(self) -> bool:
        """Whether somebody expects keys from CloudStack to work."""
        return self.settings.ssh_keys and (self.seen.keys_given or self._passed("ssh_keys"))

    def _passed(self, datum: str) -> bool:
        entry = self.datum(datum)
        return entry.get("state") in ("applied", "unchanged") or entry.get("applied_at") is not None

    def datum(self, name: str) -> Dict[str, Any]:
        """What the last pass says about one datum; empty where it says nothing."""
        data = (self.status or {}).get("data")
        entry = data.get(name) if isinstance(data, dict) else None
        return entry if isinstance(entry, dict) else {}

    @property
    def user(self) -> str:
        """The account that gets password and keys."""
        return self.settings.user

    def ask(self, *words: str) -> Optional[str]:
        """What a command prints; None where it is not there, or printed nothing."""
        done = self.system.runner.run(words, timeout=DEADLINE, limit=COMMAND_LIMIT)
        return done.output.decode("utf-8", "replace") or None

    def shown(self, path: str) -> str:
        """The path as an operator finds it: on the machine itself where this is an archive of it."""
        return path if self.system.recorded else self.system.tree.shown(path)

    def read(self, path: str) -> Optional[str]:
        """A small text file; None where it cannot be read."""
        return self.system.tree.read_text(path)


def in_time(seconds: float, work: Callable[[], Value]) -> Value:
    """What `work` returns.

    It runs in a thread that is left behind where it hangs: a name service or a file server may never answer.

    Raises:
        TimeoutError: it has not ended by then.
        Exception: whatever it raises.
    """
    import threading

    results: List[Value] = []
    errors: List[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError
    return results[0]
