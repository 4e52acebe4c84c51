"""The nouns of what is to be done and what became of it: Action, Plan, Outcome, Report.

They are apart from `csagent.model` because the reading children need none of them.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Optional, Tuple, Union

from csagent.model import NOTHING, Endpoint, Observed, Secret, UserData

DATA = ("hostname", "ssh_keys", "password", "user_data", "network")
"""What a pass decides about, in the order in which it is done and shown."""

HOSTS = "/etc/hosts"
"""The part of a host name that a domain completes (`FinishHostname`)."""

OUR_MARK = "# csagent"
"""What csagent's line of it ends with."""


class Leave(NamedTuple):
    """Nothing is done: unchanged, absent, unknown, off or refused."""

    datum: str
    reason: str
    source: str = ""
    state: str = "unchanged"
    wrong: bool = False

    @property
    def changes(self) -> bool:
        return False


class SetHostname(NamedTuple):
    """Make this the machine's name; `domain` completes it in /etc/hosts."""

    datum: str
    reason: str
    source: str = ""
    name: str = ""
    domain: Optional[str] = None
    wrong: bool = False

    @property
    def changes(self) -> bool:
        return True


class FinishHostname(NamedTuple):
    """What failed beside the name in an earlier pass, or lacks a domain that has come since.

    `todo`: by part, what was found there then (`csagent.apply.hostname.finish`); where something else stands
    by now, its owner has been there, and it stays.
    """

    datum: str
    reason: str
    source: str = ""
    name: str = ""
    domain: Optional[str] = None
    todo: Mapping[str, str] = NOTHING
    wrong: bool = False

    @property
    def changes(self) -> bool:
        return True


class WriteKeys(NamedTuple):
    """Make these lines the ones we own in the user's authorized_keys. `previous` were ours until now.

    `adopt`: cloud-init writes them too; what it wrote of them becomes ours. `only_add`: it is in doubt
    whether the keys are all there are, so every line that stands as ours stays.
    """

    datum: str
    reason: str
    source: str = ""
    user: str = ""
    keys: Tuple[str, ...] = ()
    previous: Tuple[str, ...] = ()
    former_user: Optional[str] = None  # whose file loses our lines, because the account has changed
    adopt: bool = False
    only_add: bool = False
    wrong: bool = False

    @property
    def changes(self) -> bool:
        return True


class RevokeFormer(NamedTuple):
    """The keys are written; what failed is to take them from the accounts that had them before."""

    datum: str
    reason: str
    source: str = ""
    users: Tuple[str, ...] = ()
    keys: Tuple[str, ...] = ()
    adopt: bool = False
    wrong: bool = False

    @property
    def changes(self) -> bool:
        return True


class SetPassword(NamedTuple):
    """Set, verify, remember; then tell the endpoints that it is saved."""

    datum: str
    reason: str
    source: str = ""
    user: str = ""
    value: Secret = Secret(b"")
    endpoints: Tuple[Endpoint, ...] = ()
    outranked: Tuple[Secret, ...] = ()  # to be known as older ones from now on
    wrong: bool = False

    @property
    def changes(self) -> bool:
        return True


class Acknowledge(NamedTuple):
    """The password was applied before: only tell the endpoints; `remember` where an older script set it."""

    datum: str
    reason: str
    source: str = ""
    value: Secret = Secret(b"")
    endpoints: Tuple[Endpoint, ...] = ()
    remember: bool = False
    wrong: bool = False

    @property
    def changes(self) -> bool:
        return False


class KeepUserData(NamedTuple):
    """Keep a copy of the user-data for what will run it; `doubt`: why it is not surely whole, else ""."""

    datum: str
    reason: str
    source: str = ""
    user_data: Optional[UserData] = None
    doubt: str = ""
    wrong: bool = False

    @property
    def changes(self) -> bool:
        return True


class ConfigureNetwork(NamedTuple):
    """Make the NICs what the drive's document says.

    `network` is a csagent.apply.network.plan.NetworkPlan; `differs` says whether a file changes for it.
    """

    datum: str
    reason: str
    source: str = ""
    network: Any = None
    differs: bool = False
    wrong: bool = False

    @property
    def changes(self) -> bool:
        return self.differs


Action = Union[
    Leave,
    SetHostname,
    FinishHostname,
    WriteKeys,
    RevokeFormer,
    SetPassword,
    Acknowledge,
    KeepUserData,
    ConfigureNetwork,
]
"""One thing to do, or to leave alone.

Each has the `datum` (one of DATA) that it is about, a `reason` in one line, the `source` that the value came
from, whether it `changes` the machine, and whether it is `wrong`: something that an operator should look at,
as a refusal that is not an expected one, or a value that was not read whole, which takes nothing away.
"""


class Plan(NamedTuple):
    """Exactly one action for each datum.

    `passed_over` is what memory is to know, by datum, of the values that a better-trusted place outdid;
    `forgotten_by` the password servers that say that nothing is waiting: they have forgotten the newest;
    `run` the sha256 of the user-data that `csagent user-data run` is to be told of, "" for none.
    """

    actions: Tuple[Action, ...] = ()
    passed_over: Mapping[str, Tuple[str, ...]] = NOTHING
    forgotten_by: Tuple[Endpoint, ...] = ()
    run: str = ""

    @property
    def changes(self) -> bool:
        """Whether carrying it out changes the machine."""
        return any(action.changes for action in self.actions)


# --- apply ------------------------------------------------------------------------------------


class OtherOwner(NamedTuple):
    """What a cloud-init on this machine does about the same data; nothing, where there is none."""

    left_to: Mapping[str, str] = NOTHING  # datum -> why csagent leaves it alone
    writes_keys: bool = False  # CloudStack's keys, beside our block
    touched_keys: bool = False  # lines of its for keys of ours stand in the account's file
    takes_passwords: bool = False  # it may ask the password server before us
    runs_user_data: str = ""  # why it is cloud-init that runs user-data


class NicOutcome(NamedTuple):
    """What became of one NIC.

    `state` is applied, unchanged, unconfirmed (its gateway does not answer, and none did before), failed (the
    former state is back), left, removed, or written: its manager is not up, or there is none to tell.
    """

    mac: str
    interface: Optional[str]
    state: str
    reason: str

    @property
    def wrong(self) -> bool:
        """Whether an operator should look at it."""
        return self.state in ("failed", "unconfirmed")


class Outcome(NamedTuple):
    """What became of one datum: applied, unchanged, absent, unknown, off, refused or failed."""

    datum: str
    state: str
    reason: str
    source: str = ""
    wrong: bool = False  # counts as a failure for the exit code
    acknowledged: Optional[str] = None  # password only: yes | no | not needed
    nics: Tuple[NicOutcome, ...] = ()  # network only


class Report(NamedTuple):
    """What one pass saw, decided and did. `status` is the document that it left in /run/csagent."""

    observed: Observed
    outcomes: Tuple[Outcome, ...]
    started: float
    finished: float
    exit_code: int
    memory_id: str = ""  # under which things are remembered
    first: bool = False  # nothing had been applied for this instance before
    note: str = ""  # what was wrong with the memory
    status: Mapping[str, Any] = NOTHING
