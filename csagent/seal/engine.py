"""Look for what is left, and make it go: each step by itself, so that one that fails costs only itself."""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Callable, Iterator, List, Optional, Set, Tuple

from csagent.errors import EXIT_FAILED, EXIT_OK, EXIT_PARTIAL, CsagentError, ProbeError, UsageError
from csagent.seal import running
from csagent.seal.context import PASSWORDS, TEMPLATE_NAME, Choice, Leftover, Scene, Warning_
from csagent.seal.leftovers import NAMES, THINGS, Thing
from csagent.seal.warnings import warnings
from csagent.state import lock
from csagent.system.accounts import PASSWD

if TYPE_CHECKING:
    from csagent.settings import Settings
    from csagent.system.seams import System

FOUND, KEPT, DONE, FAILED = "found", "kept", "done", "failed"


@dataclass(frozen=True)
class Step:
    """A leftover, and what came of it: found (nothing done), kept, done or failed."""

    leftover: Leftover
    state: str
    reason: str = ""


@dataclass(frozen=True)
class Family:
    """A thing with its leftovers."""

    thing: Thing
    steps: Tuple[Step, ...]
    kept: bool

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(step.leftover.size for step in self.steps)


@dataclass(frozen=True)
class SealReport:
    """What was found, and where it was asked for, what was done."""

    mode: str  # preview | check | seal
    families: Tuple[Family, ...]
    warnings: Tuple[Warning_, ...] = ()
    notes: Tuple[str, ...] = ()
    unseen: int = 0  # how many places could not be looked at; `warnings` has them

    def count(self, *states: str) -> int:
        """How many steps are in one of the states."""
        return sum(step.state in states for family in self.families for step in family.steps)

    @property
    def clean(self) -> bool:
        """Whether nothing is left but what shall be kept, and everything could be looked at."""
        return self.count(FOUND, FAILED) == 0 and not self.unseen

    @property
    def exit_code(self) -> int:
        """0; 1 for a check that found something or could not look, or when all failed; 3 when some did."""
        if self.mode == "preview":
            return EXIT_OK
        if self.mode == "check":
            return EXIT_OK if self.clean else EXIT_FAILED
        if not self.count(FAILED) and not self.unseen:
            return EXIT_OK
        return EXIT_PARTIAL if self.count(DONE) else EXIT_FAILED


def choice_of(
    keep: Optional[List[str]], password: str, hostname: Optional[str], all_keys: bool = False
) -> Choice:
    """What was asked for, checked.

    Raises:
        UsageError: a name that means nothing.
    """
    from csagent import validation

    kept = frozenset(keep or ())
    unknown = sorted(kept - set(NAMES))
    if unknown:
        raise UsageError(f"--keep {unknown[0]}: one of {', '.join(NAMES)}")
    if password not in PASSWORDS:
        raise UsageError(f"--password {password}: one of {', '.join(PASSWORDS)}")
    if hostname is None or hostname == TEMPLATE_NAME:
        return Choice(password=password, keep=kept, all_keys=all_keys)
    try:
        name = validation.hostname(hostname)
    except ProbeError as error:
        raise UsageError(f"--hostname: {error}") from None
    return Choice(password, name, kept, all_keys)


def check_ground(system: "System") -> None:
    """Refuse what cannot be sealed, before anything is done.

    Raises:
        CsagentError: not root: much of a running machine cannot even be looked at.
        UsageError: the tree is no machine's root file system.
    """
    if system.live and os.geteuid() != 0:
        raise CsagentError("seal needs root (or a tree of yours to work on: --root DIR)")
    if system.recorded:
        raise UsageError(f"--root {system.tree.root} is a recording of a machine, no machine to be sealed")
    if not system.tree.exists(PASSWD):
        raise UsageError(f"{system.tree.shown(PASSWD)} is missing: that is no root file system")


def look(system: "System", settings: "Settings", choice: Choice, mode: str = "preview") -> SealReport:
    """What is left; changes nothing.

    Raises:
        CsagentError: see `check_ground`.
    """
    check_ground(system)
    scene, families = _find(system, settings, choice)
    return _report(mode, scene, families)


def seal(
    system: "System",
    settings: "Settings",
    choice: Choice,
    *,
    notes: Tuple[str, ...] = (),
    between: Callable[[Step], None] = lambda _step: None,
) -> SealReport:
    """Make it go, in the order of `THINGS`. Whoever stops it on the way may run it again.

    Args:
        system: the machine or the tree.
        settings: whose `user` gets its password.
        choice: as asked for.
        notes: what has been done to prepare it.
        between: told after each step.

    Raises:
        CsagentError: see `check_ground`; or another csagent is changing the machine and does not end.
    """
    check_ground(system)
    with _alone(system):
        scene, found = _find(system, settings, choice)
        families: List[Family] = []
        for family in found:
            steps: List[Step] = []
            for step in family.steps:
                steps.append(step if family.kept else _do(step.leftover))
                between(steps[-1])
            families.append(Family(family.thing, tuple(steps), family.kept))
            if steps and family.thing.name in ("csagent", "password"):
                os.sync()  # what lets in goes only when what went before is on the disk
        os.sync()
        return _report("seal", scene, tuple(families), notes)


@contextmanager
def _alone(system: "System") -> Iterator[None]:
    """Keep a pass from applying anew what is being removed, and user-data from beginning.

    On an image nothing is left of it.
    """
    from csagent.state import user_data_record

    made = not system.tree.exists(lock.RUN)
    booted = running.booted(system)
    with lock.hold(system), user_data_record.kept_off(system) if booted else nullcontext():
        try:
            yield
        finally:
            if made and not booted:
                _forget_lock(system)


def _forget_lock(system: "System") -> None:
    try:
        system.tree.remove(lock.LOCK)
        directory, name = system.tree.resolve(lock.RUN, follow=False)
    except OSError:  # where /run took none, the state directory was locked
        return
    try:
        os.rmdir(name, dir_fd=directory)
    except OSError:
        pass  # somebody has written there meanwhile
    finally:
        os.close(directory)


def _report(mode: str, scene: Scene, families: Tuple[Family, ...], notes: Tuple[str, ...] = ()) -> SealReport:
    told = tuple(warnings(scene))  # these, too, look at places
    return SealReport(mode, families, told, notes, len(scene.overlooked.unseen))


def _find(system: "System", settings: "Settings", choice: Choice) -> Tuple[Scene, Tuple[Family, ...]]:
    scene = Scene.of(system, settings, choice)
    claimed: Set[str] = set()
    families: List[Family] = []
    for thing in THINGS:
        kept = thing.name in choice.keep
        steps: List[Step] = []
        for leftover in thing.find(scene):
            if leftover.path not in claimed:
                claimed.add(leftover.path)
                steps.append(Step(leftover, KEPT if kept else FOUND))
        families.append(Family(thing, tuple(steps), kept))
    return scene, tuple(families)


def _do(leftover: Leftover) -> Step:
    try:
        leftover.act()
    except OSError as error:
        return Step(leftover, FAILED, error.strerror or type(error).__name__)
    except CsagentError as error:
        return Step(leftover, FAILED, str(error))
    return Step(leftover, DONE)
