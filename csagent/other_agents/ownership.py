"""Which datum csagent leaves to cloud-init, and what doctor says of everybody else. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Dict, Iterator, List, NamedTuple, Optional, Tuple

from csagent.plan import OtherOwner

if TYPE_CHECKING:
    from csagent.other_agents.cloud_init import CloudInit, Rivals
    from csagent.other_agents.cloud_init_leftovers import CloudInitLeftover
    from csagent.other_agents.guest_scripts import Agent, Script
    from csagent.settings import Settings

ALL = ("hostname", "ssh_keys", "password")
DROP_INS = "/etc/cloud/cloud.cfg.d"
# Not 90-csagent.cfg: that is the name of the packages' own example, which says more.
NO_KEYS = f"echo 'allow_public_ssh_keys: false' >> {DROP_INS}/91-no-cloudstack-keys.cfg"


def left_to(rival: "CloudInit", settings: "Settings") -> Dict[str, str]:
    """What csagent leaves to cloud-init: datum -> the reason, one line.

    Only where cloud-init certainly works with CloudStack's data: in doubt csagent does it, and two that
    set the same value are no harm.
    """
    if settings.cloud_init == "csagent" or not rival.takes_part:
        return {}
    if settings.cloud_init == "cloud-init":
        why = f"left to cloud-init ({rival.source}): the setting cloud_init says so"
        return dict.fromkeys(ALL, why)
    if rival.manages_hostname:
        why = f"left to cloud-init ({rival.source}), which sets it at every boot: see the setting cloud_init"
        return {"hostname": why}
    return {}


def other_owner(rival: Optional["CloudInit"], settings: "Settings") -> OtherOwner:
    """What a plan has to know of a cloud-init; None where there is none."""
    if rival is None:
        return OtherOwner()
    return OtherOwner(
        left_to(rival, settings),
        rival.writes_keys,
        rival.touched_keys,
        rival.takes_passwords,
        leaves_user_data(rival, settings),
    )


def leaves_user_data(rival: "CloudInit", settings: "Settings") -> str:
    """Why user-data is cloud-init's to run, one line; "" where it is csagent's. Never do both run it."""
    if settings.cloud_init == "csagent" or not rival.takes_part:
        return ""
    return f"cloud-init ({rival.source}) runs user-data here: see the setting cloud_init"


class OwnershipFinding(NamedTuple):
    """One finding for doctor. `state` is ok, note, warning or problem; `advice` is a command or a step."""

    state: str
    saw: str
    means: str = ""
    advice: str = ""


def judge(rivals: "Rivals", settings: "Settings") -> List[OwnershipFinding]:
    """Who owns what, why, and what to do about those who get in each other's way."""
    verdicts: List[OwnershipFinding] = []
    rival = rivals.cloud_init
    if rival is None:
        verdicts.append(OwnershipFinding("ok", "cloud-init is not installed"))
    else:
        verdicts += _cloud_init(rival, settings)
    verdicts += [_script(script) for script in rivals.scripts]
    if rivals.markers:
        verdicts.append(_markers(rivals.markers))
    verdicts += [_agent(agent) for agent in rivals.agents]
    return verdicts


def _cloud_init(rival: "CloudInit", settings: "Settings") -> Iterator[OwnershipFinding]:
    if not rival.enabled:
        yield OwnershipFinding(
            "ok", f"cloud-init is disabled: {rival.why}", "csagent sets all that it is to set"
        )
        return
    left = left_to(rival, settings)
    if not rival.takes_part:
        yield _elsewhere(rival, settings)
    else:
        saw = f"cloud-init is enabled, data source {rival.source} ({rival.said_by})"
        owners = [f"{datum}: {'cloud-init' if datum in left else 'csagent'}" for datum in _wanted(settings)]
        yield OwnershipFinding("ok", saw, f"{'; '.join(owners)} (setting cloud_init: {settings.cloud_init})")
    if "password" in left:
        yield from _all_left(rival)
        return
    if settings.password and rival.takes_passwords:
        yield OwnershipFinding(
            "warning",
            "cloud-init asks CloudStack's password server too, at every boot (with wget)",
            "whoever asks first gets the password; cloud-init acknowledges it before it is set, sets it on an"
            " instance's first boot only, and loses it on later ones",
            f"let csagent ask first: {_csagent_first(rival)}",
        )
    if settings.ssh_keys and rival.writes_keys:
        yield from _keys(rival, settings)


def _csagent_first(rival: "CloudInit") -> str:
    """The commands that make packaging/cloud-init/csagent-first.conf."""
    directory = f"/etc/systemd/system/{rival.stage}.d"
    lines = r"[Unit]\nWants=csagent-ready.target\nAfter=csagent-ready.target\n"
    return f"mkdir -p {directory} && printf '{lines}' > {directory}/csagent-first.conf"


def _wanted(settings: "Settings") -> Tuple[str, ...]:
    return tuple(datum for datum in ALL if getattr(settings, datum))


def _elsewhere(rival: "CloudInit", settings: "Settings") -> OwnershipFinding:
    if rival.answered:
        saw = f"cloud-init is enabled, its data source is {rival.source or 'none: it found no data'}"
    elif rival.sources:
        saw = f"cloud-init is enabled, and will try {rival.source} ({rival.said_by})"
    else:
        saw = "cloud-init is enabled; which data source it will use is not known"
    means = "csagent sets all that it is to set"
    if settings.cloud_init == "cloud-init":
        means += (
            ", though the setting cloud_init names cloud-init: it does not work with CloudStack's data here"
        )
    return OwnershipFinding("note", saw, means)


def _all_left(rival: "CloudInit") -> Iterator[OwnershipFinding]:
    """The setting leaves all to cloud-init: what CloudStack promises and cloud-init does not do then."""
    if "CloudStack" in rival.sources and not rival.wget:
        yield OwnershipFinding(
            "problem",
            "the password is left to cloud-init, which has no wget to fetch it with",
            "no password of CloudStack's is ever set",
            'install wget, or set "cloud_init: auto" in /etc/csagent/csagent.yaml',
        )
    once = [name for name in ("ssh", "set_passwords") if name not in rival.always]
    if once:
        yield OwnershipFinding(
            "warning",
            f"keys and password are left to cloud-init, which runs {' and '.join(once)} once per instance",
            "a key pair or password that is reset in CloudStack later is not applied",
            'set "cloud_init: auto" in /etc/csagent/csagent.yaml',
        )


def _keys(rival: "CloudInit", settings: "Settings") -> Iterator[OwnershipFinding]:
    other = rival.default_user
    if other is not None and other != settings.user:
        yield OwnershipFinding(
            "warning",
            f"cloud-init writes CloudStack's keys for {other}, csagent for {settings.user}",
            f"keys that CloudStack revokes later still let {other} in: cloud-init does not take them back",
            f'set "user: {other}" in /etc/csagent/csagent.yaml, or, in a template: {NO_KEYS}',
        )
    if settings.user == "root" and rival.disable_root:
        yield OwnershipFinding(
            "note",
            "cloud-init closes root to CloudStack's keys (disable_root), csagent gives root these keys",
            'csagent wins: it replaces the lines that only say "Please login as the user ..."',
            f'to keep root closed set "user: {other or "ACCOUNT"}" in /etc/csagent/csagent.yaml',
        )


def left_behind(leftover: "CloudInitLeftover") -> OwnershipFinding:
    """What doctor says of something that cloud-init has left."""
    state = "warning" if leftover.harm else "note"
    return OwnershipFinding(state, leftover.saw, leftover.means, leftover.on_an_instance)


def _script(script: "Script") -> OwnershipFinding:
    advice = "; ".join(script.remove)
    if not script.started_by:
        return OwnershipFinding(
            "note", f"{script.path} is left of the old guest scripts; nothing starts it", "", advice
        )
    return OwnershipFinding(
        "problem",
        f"{script.path} is still started ({script.started_by}): it sets {script.what}",
        "csagent does its work; where both do, the password is asked for twice and whoever is first takes it",
        advice,
    )


def _markers(paths: Tuple[str, ...]) -> OwnershipFinding:
    return OwnershipFinding(
        "note",
        f"an old guest script remembers its last password in {', '.join(paths)}",
        "csagent does not set that password again on its first pass; it is not needed after that",
        f"rm {' '.join(paths)}",
    )


def _agent(agent: "Agent") -> OwnershipFinding:
    if not agent.active:
        return OwnershipFinding("ok", f"{agent.name} is installed and does nothing that csagent does")
    return OwnershipFinding(
        "warning",
        f"{agent.name} sets {agent.what} too",
        "both do the same work; keys of one are not revoked by the other",
        f"disable its units: systemctl list-unit-files '{agent.name}*'",
    )
