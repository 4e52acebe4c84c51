"""One thing that doctor has found out, and what a list of them comes to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Dict, Iterable, List, Optional, Sequence

from csagent.errors import EXIT_FAILED, EXIT_NO_SOURCE, EXIT_OK

OK, NOTE, WARNING, PROBLEM = "ok", "note", "warning", "problem"
STATES = (OK, NOTE, WARNING, PROBLEM)
FIXED = "mend that, then: csagent apply"  # of a failure that no table knows


@dataclass(frozen=True)
class Finding:
    """What a probe saw, what that means, and what to do about it; nothing in it is secret.

    `state` is one of STATES: `problem`, something does not work; `warning`, it may not, or will not for long;
    `note`, worth knowing, or not seen; `ok`. `advice` is a command or a step, "" where nothing is to do.
    """

    area: str
    state: str
    saw: str
    means: str = ""
    advice: str = ""

    def as_plain(self) -> Dict[str, str]:
        """The finding as an object of `doctor --json`."""
        return asdict(self)


def worst(findings: Iterable[Finding]) -> str:
    """The worst state among them, `ok` where there are none."""
    return max((one.state for one in findings), key=STATES.index, default=OK)


def of_state(findings: Iterable[Finding], state: str) -> List[Finding]:
    """Those in one state."""
    return [one for one in findings if one.state == state]


# What a cause of this area may show as. With wrong settings the places are looked for by the defaults.
_SHOWS_AS = {
    "settings": ("network", "router", "drives", "source"),
    "disk": ("leases", "router", "source", "account", "units", "last pass"),
    "clock": ("leases", "router", "source", "account", "last pass"),
}
_TAKES_LEASES, _BEHIND_LEASES = ("disk", "clock"), ("router", "source")
_SAYS_HOW = ("account", "sshd", "selinux")  # looked at after the pass that failed of it


def first_thing(findings: Sequence[Finding]) -> Optional[Finding]:
    """What to deal with first: the first problem, else the first warning, or what is the cause of that.

    The order is that of the checks, the data's way into the machine: what comes first stops what comes after
    it. But the disk and the clock are looked at last, and a full disk shows as a host name that could not be
    written, a clock that is ahead as no lease and no router. And where the last pass says no more than that
    it failed, what the account or SELinux has says what to do.
    """
    wrong = [one for one in findings if one.state in (PROBLEM, WARNING) and one.advice]
    symptom = next((one for state in (PROBLEM, WARNING) for one in wrong if one.state == state), None)
    if symptom is None:
        return None
    causes = (
        one for one in wrong if symptom.area in _SHOWS_AS.get(one.area, ()) and _is_cause(one, symptom, wrong)
    )
    first = next(causes, symptom)
    how = (one for one in wrong if one.area in _SAYS_HOW and one.state == PROBLEM)
    return next(how, first) if first.advice == FIXED else first


def _is_cause(one: Finding, symptom: Finding, wrong: Sequence[Finding]) -> bool:
    """Whether that alone explains the symptom.

    A clock that only a lease speaks against does not where one holds, and whatever it says, it silences no
    router then: that one was asked. Nor does a disk on which no lease has room. One that the last pass speaks
    against is a finding of that area: being behind takes no lease away.
    """
    leaseless = any(other.area == "leases" for other in wrong)
    if one.area == "clock" and one.state != PROBLEM:
        return leaseless
    silences = one.area in _TAKES_LEASES and symptom.area in _BEHIND_LEASES
    return one.state == PROBLEM and (leaseless or not silences)


def exit_code(findings: Sequence[Finding], no_source: bool) -> int:
    """0: no problem and no warning; 4: nobody had CloudStack's data; else 1."""
    if no_source:
        return EXIT_NO_SOURCE
    return EXIT_FAILED if worst(findings) in (PROBLEM, WARNING) else EXIT_OK


def verdict(findings: Sequence[Finding], no_source: bool) -> str:
    """One line: is all well, and if not, how much is not."""
    counts = [(len(of_state(findings, state)), state) for state in (PROBLEM, WARNING)]
    said = " and ".join(f"{count} {state}{'s' * (count != 1)}" for count, state in counts if count)
    if no_source:
        return f"no CloudStack source was found; {said}" if said else "no CloudStack source was found"
    if said:
        return said
    unseen = len([one for one in of_state(findings, NOTE) if one.saw.startswith("not seen")])
    if unseen:
        return (
            f"nothing wrong in what could be seen; {unseen} {'check' if unseen == 1 else 'checks'} not made"
        )
    return "all is well"
