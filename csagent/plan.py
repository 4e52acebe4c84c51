"""The nouns of what is to be done and what became of it: Action, Plan, Outcome, Report.

They are apart from `csagent.model` because the reading children need none of them.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from csagent.facts import dataclass, field
from csagent.model import Endpoint, Observed, Secret, UserData

DATA = ("hostname", "ssh_keys", "password", "user_data")
"""What a pass decides about, in the order in which it is done and shown."""


@dataclass(frozen=True)
class Action:
    """One thing to do, or to leave alone, and why. `changes` says whether it changes the machine.

    `wrong` marks what an operator should look at: a refusal that is not an expected one, or a value that was
    not read whole, which adds and takes nothing away.
    """

    datum: str  # one of DATA
    reason: str  # one line
    source: str = ""  # the place the value came from

    changes = False
    wrong = False


@dataclass(frozen=True)
class Leave(Action):
    """Nothing is done: unchanged, absent, unknown, off or refused."""

    state: str = "unchanged"
    wrong: bool = False


@dataclass(frozen=True)
class SetHostname(Action):
    """Make this the machine's name; `domain` completes it in /etc/hosts."""

    name: str = ""
    domain: Optional[str] = None
    wrong: bool = False

    changes = True


@dataclass(frozen=True)
class WriteKeys(Action):
    """Make these lines the ones we own in the user's authorized_keys. `previous` were ours until now.

    `adopt`: cloud-init writes them too; what it wrote of them becomes ours.
    """

    user: str = ""
    keys: Tuple[str, ...] = ()
    previous: Tuple[str, ...] = ()
    former_user: Optional[str] = None  # whose file loses our lines, because the account has changed
    adopt: bool = False
    wrong: bool = False

    changes = True


@dataclass(frozen=True)
class SetPassword(Action):
    """Set, verify, remember; then tell the endpoints that it is saved."""

    user: str = ""
    value: Secret = field(default_factory=lambda: Secret(b""))
    endpoints: Tuple[Endpoint, ...] = ()
    outranked: Tuple[Secret, ...] = ()  # to be known as older ones from now on

    changes = True


@dataclass(frozen=True)
class Acknowledge(Action):
    """The password was applied before: only tell the endpoints; `remember` where an older script set it."""

    value: Secret = field(default_factory=lambda: Secret(b""))
    endpoints: Tuple[Endpoint, ...] = ()
    outranked: Tuple[Secret, ...] = ()
    remember: bool = False


@dataclass(frozen=True)
class KeepUserData(Action):
    """Keep a copy of the user-data for what will run it."""

    user_data: Optional[UserData] = None
    wrong: bool = False

    changes = True


@dataclass(frozen=True)
class Plan:
    """Exactly one action for each datum.

    `passed_over` is what memory is to know, by datum, of the values that a better-trusted place outdid.
    """

    actions: Tuple[Action, ...] = ()
    passed_over: Mapping[str, Tuple[Any, ...]] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether carrying it out changes the machine."""
        return any(action.changes for action in self.actions)


# --- apply ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of one datum: applied, unchanged, absent, unknown, off, refused or failed."""

    datum: str
    state: str
    reason: str
    source: str = ""
    wrong: bool = False  # counts as a failure for the exit code
    acknowledged: Optional[str] = None  # password only: yes | no | not needed


@dataclass(frozen=True)
class Report:
    """What one pass saw, decided and did. `status` is the document that it left in /run/csagent."""

    observed: Observed
    outcomes: Tuple[Outcome, ...]
    started: float
    finished: float
    exit_code: int
    memory_id: str = ""  # under which things are remembered
    first: bool = False  # nothing had been applied for this instance before
    note: str = ""  # what was wrong with the memory
    status: Dict[str, Any] = field(default_factory=dict)
