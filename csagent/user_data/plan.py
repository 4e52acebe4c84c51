"""The nouns of user-data: what a document asks for, step by step, and what is wrong with it."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Tuple

EARLY = (
    "boothook",
    "bootcmd",
    "files",
    "growpart",
    "resize_rootfs",
    "disks",
    "file systems",
    "mounts",
    "hostname",
    "hosts",
    "certificates",
    "groups",
    "users",
    "ssh",
    "passwords",
    "resolv_conf",
    "keyboard",
    "locale",
    "timezone",
)
"""The places of the early stage, in their order: as soon as the document is there."""

FINAL = (
    "repositories",
    "ntp",
    "packages",
    "deferred files",
    "reboot",
    "scripts once",
    "scripts at each boot",
    "scripts of the instance",
    "scripts",
    "phone_home",
    "final_message",
    "power_state",
)
"""The places of the final stage, in their order: when the machine is up and has a network."""

SCRIPT_SLOTS = ("scripts", "scripts once", "scripts at each boot", "scripts of the instance")
SLOTS = {slot: number for number, slot in enumerate((*EARLY, *FINAL))}


class Include(NamedTuple):
    """A URL that a document includes; `once`: it is fetched once for an instance, not at each boot."""

    url: str
    once: bool

    @property
    def shown(self) -> str:
        """It as it may be shown: without a password, and without what stands behind a question mark."""
        scheme, colon, rest = self.url.partition("://")
        host, slash, path = rest.split("?", 1)[0].split("#", 1)[0].partition("/")
        return f"{scheme}{colon}{host.rpartition('@')[2]}{slash}{path}"[:200]


ERROR, WARNING = "error", "warning"
RUNS, REFUSED, IGNORED = "runs", "refused", "ignored"
INSTANCE, BOOT, MACHINE = "instance", "boot", "machine"


class Problem(NamedTuple):
    """Something wrong with a part. An error means that what it is about does not run; a warning that it does.

    The text never carries a secret. `line` counts from 1 in the part's own text; a template's is that of the
    template.
    """

    text: str
    line: Optional[int] = None
    key: str = ""
    severity: str = ERROR


class Step(NamedTuple):
    """One thing that is done, has its own outcome, and is done once."""

    id: str  # the same each time the same document is read
    slot: str  # one of SLOTS: when it is done
    key: str  # the cloud-config key that asks for it, or "script", "boothook"
    text: str  # for a person, in a line, no secret
    action: Any  # a class of csagent.user_data.execute
    parts: Tuple[int, ...] = ()  # the numbers of the parts that ask for it
    often: str = INSTANCE  # once per INSTANCE, at each BOOT, or once per MACHINE
    also: Tuple[str, ...] = ()  # further keys that it does what they say

    @property
    def stage(self) -> str:
        """`early` or `final`."""
        return "early" if SLOTS[self.slot] < len(EARLY) else "final"


class Part(NamedTuple):
    """One part of a document, in the order of the document."""

    name: str
    kind: str  # script | cloud-config | boothook | include | ...: csagent.sources.user_data_kind.KINDS
    template: bool = False
    outcome: str = RUNS  # runs | refused | ignored
    problems: Tuple[Problem, ...] = ()
    size: int = 0  # bytes
    keys: Tuple[str, ...] = ()  # of a cloud-config: those that are known here, in the order of the document

    @property
    def errors(self) -> Tuple[Problem, ...]:
        """What of it does not run, and why."""
        return tuple(problem for problem in self.problems if problem.severity == ERROR)

    @property
    def doomed(self) -> bool:
        """Whether nothing of it will work: it is refused, or it is a script that the kernel will not run."""
        return self.outcome != RUNS or any(not problem.key for problem in self.errors)


class Plan(NamedTuple):
    """A whole document: its parts, and the steps in the order in which they are done.

    `includes` are what other parts would come from, where they were not fetched.
    """

    kind: str
    parts: Tuple[Part, ...] = ()
    steps: Tuple[Step, ...] = ()
    includes: Tuple[Include, ...] = ()

    @property
    def outcome(self) -> str:
        """`runs` (all of it), `partly`, `nothing`, or `ignored`: it is not for us."""
        if self.parts and all(part.outcome == IGNORED for part in self.parts):
            return IGNORED
        if not any(part.errors for part in self.parts):
            return RUNS
        runs = any(not self.parts[number].doomed for step in self.steps for number in step.parts)
        return "partly" if runs or self.includes else "nothing"

    def steps_of(self, number: int) -> Tuple[Step, ...]:
        """The steps that are shown under one part: each stands under the last part that asks for it."""
        return tuple(step for step in self.steps if step.parts and step.parts[-1] == number)
