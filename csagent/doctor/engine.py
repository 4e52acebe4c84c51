"""Run every check, in the order of the data's way into the machine; none takes another with it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Callable, Iterator, List, Optional, Tuple

from csagent.doctor import finding
from csagent.doctor.bundle.recorded import JUDGED_AGAIN, REPORT, Record, read
from csagent.doctor.checks import last_pass
from csagent.doctor.context import HANGS, NO_ACCOUNT, Situation, in_time
from csagent.doctor.finding import NOTE, WARNING, Finding
from csagent.doctor.seen import Seen
from csagent.errors import ApplyError, JailError, UsageError
from csagent.model import Found, Observed

if TYPE_CHECKING:
    from csagent.settings import Settings
    from csagent.sources.request import Options
    from csagent.system.accounts import Account
    from csagent.system.seams import System

Check = Callable[[Situation], Iterator[Finding]]
# Of a tree these are about the machine that it is on, whose network asks; systemctl takes a --root itself.
OF_THE_MACHINE = ("platform", "network", "leases", "router", "drives", "source", "disk", "clock", "units")
CHECK_SECONDS = 30.0  # for one check; each of its commands has a deadline of its own


@dataclass(frozen=True)
class Examined:
    """What was found out, and what it was found out from."""

    situation: Situation
    findings: Tuple[Finding, ...]
    no_source: bool
    recorded: Tuple[str, ...] = ()  # areas of an archive that are as they were found on the machine

    @property
    def exit_code(self) -> int:
        """0: no problem and no warning; 4: places were asked, and none had CloudStack's data; else 1."""
        return finding.exit_code(self.findings, self.no_source)

    @property
    def verdict(self) -> str:
        """The verdict in one line, for the end of the report."""
        return finding.verdict(self.findings, self.no_source)

    @property
    def first(self) -> Optional[Finding]:
        """What to deal with first."""
        return finding.first_thing(self.findings)


def checks() -> Tuple[Tuple[str, Check], ...]:
    """Area and check, in the order in which they run and are shown."""
    from csagent.doctor.checks import (
        accounts,
        drive_network,
        machine,
        network,
        others,
        places,
        sshd,
        units,
        user_data,
    )

    return (
        ("platform", network.platform),
        ("network", network.nics),
        ("leases", network.leases),
        ("router", places.routers),
        ("drives", places.drives),
        ("source", places.source),
        ("last pass", last_pass.last_pass),
        ("drive network", drive_network.nics),
        ("user-data", user_data.user_data),
        ("settings", last_pass.settings),
        ("account", accounts.account),
        ("sshd", sshd.sshd),
        ("other agents", others.others),
        ("units", units.units),
        ("disk", machine.disk),
        ("selinux", machine.selinux),
        ("clock", machine.clock),
    )


def examine(
    system: "System", settings: "Settings", settings_problem: str, options: "Options", *, wait: float
) -> Examined:
    """Look, ask, and judge. Nothing is changed and nothing is acknowledged.

    Args:
        system: the machine, a tree, or an unpacked archive, which contacts nobody.
        settings: those in force, or the defaults where they are wrong.
        settings_problem: why they are.
        options: places named on the command line.
        wait: seconds to wait for a source.

    Raises:
        UsageError: places are named for an archive.
    """
    if system.recorded and options.given:
        raise UsageError("--router and --drive: an archive is examined as it is, nobody is contacted")
    situation = gather(system, settings, settings_problem, options, wait)
    from csagent.doctor.checks import places

    findings: List[Finding] = []
    recorded: List[str] = []
    for area, check in checks():
        if system.recorded and _stands(situation, area):
            shown = _as_recorded(situation, area)
            recorded += [area] if shown and situation.record is not None else []
            findings += shown
        else:
            findings += run(area, check, situation)
    later = _of_a_later_doctor(situation)
    recorded += dict.fromkeys(one.area for one in later)
    return Examined(situation, (*findings, *later), places.no_source(situation), tuple(recorded))


def _stands(situation: Situation, area: str) -> bool:
    """Whether an area of an archive is shown as it was found: nothing in it could be judged again."""
    record = situation.record
    return area not in JUDGED_AGAIN if record is None else record.stands(area)


def _as_recorded(situation: Situation, area: str) -> List[Finding]:
    if situation.record is not None:
        return situation.record.of(area)
    return [Finding(area, NOTE, f"not seen: this archive has no {REPORT[1:]}")]


def _of_a_later_doctor(situation: Situation) -> List[Finding]:
    """Findings of areas that this doctor does not know."""
    known = [area for area, _probe in checks()]
    found = situation.record.findings if situation.record is not None else ()
    return [one for one in found if one.area not in known]


def run(area: str, check: Check, situation: Situation, patience: float = CHECK_SECONDS) -> List[Finding]:
    """What a check finds; where it fails or hangs, that, and what it had found until then."""
    said: List[Finding] = []

    def work() -> bool:
        for one in check(situation):
            said.append(one)
        return True

    means, advice = "the other probes are not concerned", "csagent doctor --bundle FILE, and report it"
    try:
        in_time(patience, work)
    except TimeoutError:
        saw = f"this probe did not end within {patience:g} s"
        said.append(Finding(area, WARNING, saw, means, HANGS))
    except Exception as error:
        # Not the text of the error: it may hold what was being worked on.
        said.append(Finding(area, WARNING, f"this probe failed ({type(error).__name__})", means, advice))
    return [_told(situation, one) for one in list(said)]


def _told(situation: Situation, one: Finding) -> Finding:
    """A finding with its advice for whoever reads it, who is outside of a tree. What hangs is the machine."""
    if situation.system.recorded or one.advice == HANGS or one.area in OF_THE_MACHINE:
        return one
    return replace(one, advice=situation.system.tree.advised(one.advice))


def gather(
    system: "System", settings: "Settings", settings_problem: str, options: "Options", wait: float
) -> Situation:
    """What the checks judge; each part that cannot be had is said, and costs no other.

    What starts children comes first: from then on a thread may be left behind (`in_time`).
    """
    status, status_problem = last_pass.load_status(system)
    found, found_problem = _discover(system, settings)
    record: Optional[Record] = None
    if system.recorded:
        record = read(system)
        seen = record.seen if record is not None else Seen(as_root=False)
    elif system.live or options.given:
        seen = _ask(system, settings, options, wait)
    else:
        seen = Seen(as_root=os.geteuid() == 0)
    if not system.live and not system.recorded:
        seen = seen._replace(tree=True)
    account, account_problem = _account(system, settings)
    return Situation(
        system=system,
        settings=settings,
        settings_problem=settings_problem,
        found=found,
        found_problem=found_problem,
        seen=seen,
        status=status,
        status_problem=status_problem,
        account=account,
        account_problem=account_problem,
        record=record,
    )


def _account(system: "System", settings: "Settings") -> Tuple[Optional["Account"], str]:
    from csagent.system import accounts

    user = settings.user
    try:
        return in_time(CHECK_SECONDS, lambda: accounts.find(system, user)), ""
    except ApplyError:
        return None, f"{NO_ACCOUNT}{user}"
    except TimeoutError:
        return None, f"the name service did not say within {CHECK_SECONDS:g} s who {user} is"
    except Exception as error:
        return None, f"who {user} is could not be found out ({type(error).__name__})"


def _discover(system: "System", settings: "Settings") -> Tuple[Found, str]:
    from csagent.sources import jobs

    try:
        return jobs.discover(system, settings), ""
    except JailError as error:
        return Found(), str(error)
    except Exception as error:
        return Found(), f"finding failed ({type(error).__name__})"


def _ask(system: "System", settings: "Settings", options: "Options", wait: float) -> Seen:
    """Ask the places, as a pass does, and keep nothing secret of what they say."""
    from csagent.doctor import reach
    from csagent.sources.observe import observe
    from csagent.sources.request import PassRequest

    as_root = os.geteuid() == 0
    try:
        observed = observe(PassRequest(system, settings, options, wait))
        seen = _summary(system, settings, observed)
        if not (system.live and as_root):
            return seen
        open_to_all = reach.open_to_all(system, observed, options)
        return seen._replace(open_to_all=open_to_all, root_only=reach.to_root_only(system, observed, options))
    except Exception as error:
        return Seen(problem=f"asking the places failed ({type(error).__name__})", as_root=as_root)


def _summary(system: "System", settings: "Settings", observed: Observed) -> Seen:
    from csagent import agent
    from csagent.doctor.checks.homes import key_mark, key_type

    observation = observed.observation
    keys = observation.ssh_keys
    applied = before = False
    marks: Optional[Tuple[str, ...]] = None
    with suppress(Exception):  # memory is for root, and damaged memory is for the next pass to tell
        known = in_time(CHECK_SECONDS, lambda: agent.recall(system, settings, observed))
        applied, before = bool(known.passwords), bool(known.ssh_keys)
        if not known.note and not known.withheld:
            marks = tuple(map(key_mark, {*(known.ssh_keys or ()), *keys}))
        keys = keys or known.ssh_keys or ()
    types = [key_type(key) for key in keys]
    return Seen(
        looked=True,
        places=observation.places,
        source_found=observation.source_found,
        instance_id=observation.instance_id,
        drives=observed.found.drives,
        password=observation.password.state,
        password_given=applied or observation.password.state == "offered",
        keys_given=before or bool(observation.ssh_keys),
        key_types=tuple(kind for kind in types if kind is not None),
        key_marks=marks,
        as_root=os.geteuid() == 0,
    )
