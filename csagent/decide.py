"""What to do: a pure function of what CloudStack says, what was applied before, and the settings.

It is total: whatever the observation, each datum gets exactly one action with a reason. We act when the
source changes, not at every boot, so that a choice made inside the VM stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from csagent.model import Observation, PasswordOffer, Place, Refusal, channel
from csagent.plan import (
    HOSTS,
    Acknowledge,
    Action,
    FinishHostname,
    KeepUserData,
    Leave,
    OtherOwner,
    Plan,
    RevokeFormer,
    SetHostname,
    SetPassword,
    WriteKeys,
)

if TYPE_CHECKING:
    from csagent.settings import Settings
    from csagent.state.applied import Memory

_OLD_NEWS = (
    "{}: outdone before by a place that is trusted more and is silent now; {} stays until there is news"
)
TAKEN = "; cloud-init asks for it too and may have taken it: see csagent doctor"
NO_OTHER = OtherOwner()
OF_METADATA = ("hostname", "ssh_keys", "user_data")  # what a router has beside the password
PASSWORD_SERVER = "password server "  # how such a place is called
KEPT_FOR = "csagent user-data run carries it out"
NOT_RUN = "it is not run before it has come whole"
AGAIN = "what failed before is tried again: "
OVERRIDE = "csagent apply --force-password sets it all the same"


def decide(
    observation: Observation,
    memory: "Memory",
    settings: "Settings",
    *,
    force_password: bool = False,
    other: OtherOwner = NO_OTHER,
    network: Optional[Action] = None,
    named: str = "",
    proven: bool = False,
) -> Plan:
    """The plan of one pass.

    Args:
        observation: what was read, merged and checked.
        memory: what was applied for this instance id.
        settings: what the operator turned off, and the account that gets keys and password.
        force_password: set an offered password even if it was applied before.
        other: what a cloud-init on this machine does about the same data.
        network: what a drive's network configuration comes to on this machine's NICs
            (`csagent.apply.network.action`); None where no source has one.
        named: the name that this instance's user-data has given the machine.
        proven: DMI says that the memory is this machine's, and nobody has answered since it was started.
    """
    actions: Tuple[Action, ...] = (
        _hostname(observation, memory, settings, named),
        _ssh_keys(observation, memory, settings, other),
        _password(observation, memory, settings, force_password, other),
        _user_data(observation, memory, settings, other),
        _network(observation, settings, network),
    )
    actions = tuple(_unless_left(action, other) for action in actions)
    offer = observation.password
    return Plan(
        actions,
        _passed_over(observation, memory, actions),
        offer.endpoints if offer.state == "none" else (),
        _run(observation, memory, settings, other, proven=proven),
    )


def _run(
    observation: Observation, memory: "Memory", settings: "Settings", other: OtherOwner, *, proven: bool
) -> str:
    """The user-data that is to run; none of which it is not sure that it is whole.

    Where nobody answers it is the copy that is kept: what runs at every boot runs at this one too, and what a
    power cut has kept from running runs now.
    """
    data = observation.user_data
    if settings.user_data != "run" or other.runs_user_data:
        return ""
    if data is None:
        return (memory.whole_user_data or "") if proven and not observation.source_found else ""
    return "" if observation.doubts.get("user_data") else data.sha256


def _unless_left(action: Action, other: OtherOwner) -> Action:
    """The same action, or none where the datum is left to cloud-init."""
    reason = other.left_to.get(action.datum)
    if reason is None or (isinstance(action, Leave) and action.state == "off"):
        return action
    return Leave(action.datum, reason, action.source, state="off")


def _passed_over(
    observation: Observation, memory: "Memory", actions: Tuple[Action, ...]
) -> Dict[str, Tuple[str, ...]]:
    """By datum, the values that a better-trusted place outdoes: known from now on as no news."""
    best: Dict[str, Any] = {"hostname": observation.hostname, "ssh_keys": observation.ssh_keys}
    known: Dict[str, Tuple[str, ...]] = {}
    for action in actions:
        if action.datum not in best:
            continue
        if action.datum in observation.others:
            values = observation.others[action.datum]
            others = (value for value in values if value != best[action.datum])
            known[action.datum] = tuple(memory.as_passed_over(value) for value in others)
        elif not action.changes:
            known[action.datum] = memory.passed_over.get(action.datum, ())
    return {datum: values for datum, values in known.items() if values}


def _is_old_news(
    datum: str, value: Any, observation: Observation, memory: "Memory", settings: "Settings"
) -> bool:
    """Whether this value was outdone before by a better-trusted place, which now is silent.

    A drive may be stale (field/cloudstack#edge-65), and a router slower than the time that it is given beside
    a drive: what it said must not be undone for as long as it is on its way, nor while it is away. A *new*
    value is taken.
    """
    by = channel(observation.provenance.get(datum, ""))
    outdone = memory.passed_over.get(datum, ())
    return by != settings.sources[0] and bool(outdone) and memory.as_passed_over(value) in outdone


def _refusal(observation: Observation, datum: str) -> Optional[Refusal]:
    """The first of what was said about a datum and not believed, else of what nobody answered for."""
    about = [refusal for refusal in observation.refusals if refusal.datum == datum]
    return next((one for one in about if one.answered), about[0] if about else None)


def _nothing(observation: Observation, datum: str, absent: str) -> Action:
    refused = _refusal(observation, datum)
    if refused is not None:
        state = "refused" if refused.answered else "unknown"
        return Leave(datum, refused.reason, refused.place, state=state, wrong=True)
    silent = _silent(observation) if datum in OF_METADATA else None
    if silent is not None:
        return Leave(datum, silent.detail or "no answer in time", silent.place, state="unknown", wrong=True)
    return Leave(datum, absent, state="absent")


def _silent(observation: Observation) -> Optional[Place]:
    """The place that had no time to say anything, where a password server alone has answered."""
    asked = [place for place in observation.places if not place.place.startswith(PASSWORD_SERVER)]
    if not observation.source_found or any(place.believed for place in asked):
        return None
    return next((place for place in asked if place.outcome == "timeout"), None)


def _off(datum: str) -> Action:
    return Leave(datum, f"left alone: the setting {datum} is false", state="off")


def _hostname(observation: Observation, memory: "Memory", settings: "Settings", named: str) -> Action:
    if not settings.hostname:
        return _off("hostname")
    name = observation.hostname
    source = observation.provenance.get("hostname", "")
    if name is None:
        return _nothing(observation, "hostname", "no source gave a host name")
    doubt = observation.doubts.get("hostname")
    if named:
        return Leave("hostname", f"{named}: user-data has named this machine, and that stays", source)
    if name == memory.hostname:
        todo = memory.hostname_todo
        why = f"{AGAIN}{', '.join(todo)}"
        if observation.domain and memory.domain is None and "." not in name and HOSTS not in todo:
            why = f"the domain {observation.domain} has come since" + (f"; {why}" if todo else "")
            todo = {**todo, HOSTS: name}
        if todo:
            reason = _doubted(f"{name} was applied before; {why}", doubt)
            return FinishHostname(
                "hostname", reason, source, name, observation.domain, todo, wrong=bool(doubt)
            )
        reason = f"{name} was applied before; a name given inside the VM stays"
        return Leave("hostname", _doubted(reason, doubt), source, wrong=bool(doubt))
    if _is_old_news("hostname", name, observation, memory, settings):
        return Leave("hostname", _OLD_NEWS.format(name, memory.hostname), source)
    if doubt and memory.hostname is not None:
        reason = f"{name} is not surely whole ({doubt}): {memory.hostname} stays"
        return Leave("hostname", reason, source, state="refused", wrong=True)
    why = "first pass for this instance" if memory.hostname is None else f"it was {memory.hostname} before"
    reason = f"CloudStack says {name}; {why}"
    return SetHostname(
        "hostname", _doubted(reason, doubt), source, name, observation.domain, wrong=bool(doubt)
    )


def _doubted(reason: str, doubt: Optional[str]) -> str:
    """The reason, with why what was read is not surely whole."""
    return f"{reason}; not surely whole: {doubt}" if doubt else reason


def _ssh_keys(observation: Observation, memory: "Memory", settings: "Settings", other: OtherOwner) -> Action:
    if not settings.ssh_keys:
        return _off("ssh_keys")
    keys = observation.ssh_keys
    source = observation.provenance.get("ssh_keys", "")
    if not keys:
        kept = "; those given before stay" if memory.ssh_keys else ""
        return _nothing(observation, "ssh_keys", f"no source gave a key: nothing is revoked{kept}")
    known = memory.ssh_keys
    adopt = other.writes_keys
    doubt = observation.doubts.get("ssh_keys")
    if doubt:
        # What is missing may have been lost on the way: it may not cost anybody his access.
        keys = (*(known or ()), *(key for key in keys if key not in (known or ())))
        doubt = f"{doubt}; nothing is revoked"
    wrong = bool(doubt)
    settles = memory.keys_beside and not doubt
    if known == keys and memory.ssh_user == settings.user and not settles:
        if adopt and other.touched_keys:
            reason = f"cloud-init has written them beside or over ours: {_count(keys)} for {settings.user}"
            reason = _doubted(reason, doubt)
            return WriteKeys(
                "ssh_keys", reason, source, settings.user, keys, keys, None, True, wrong, wrong=wrong
            )
        reason = f"{_count(keys)} for {settings.user} written before, unchanged"
        if memory.former_users:
            users = memory.former_users
            reason = _doubted(f"{reason}; {AGAIN}to take them from {', '.join(users)}", doubt)
            return RevokeFormer("ssh_keys", reason, source, users, keys, adopt, wrong)
        return Leave("ssh_keys", _doubted(reason, doubt), source, wrong=wrong)
    if _is_old_news("ssh_keys", keys, observation, memory, settings):
        return Leave("ssh_keys", _OLD_NEWS.format("these keys", "what it said"), source)
    previous = known or ()
    former = None
    if known is None:
        reason = f"first pass for this instance: {_count(keys)} for {settings.user}"
    elif memory.ssh_user != settings.user:
        reason = f"the account is now {settings.user}, it was {memory.ssh_user}: {_count(keys)}"
        former = memory.ssh_user
    elif known == keys:
        reason = f"{_count(keys)} for {settings.user} are all there are: what else stands as ours goes"
    else:
        new = sum(key not in previous for key in keys)
        gone = sum(key not in keys for key in previous)
        reason = f"the key set changed: {new} new, {gone} revoked, for {settings.user}"
    reason = _doubted(reason, doubt)
    return WriteKeys(
        "ssh_keys", reason, source, settings.user, keys, previous, former, adopt, wrong, wrong=wrong
    )


def _count(keys: Tuple[str, ...]) -> str:
    return "1 key" if len(keys) == 1 else f"{len(keys)} keys"


def _password(
    observation: Observation,
    memory: "Memory",
    settings: "Settings",
    force: bool,
    other: OtherOwner,
) -> Action:
    if not settings.password:
        return _off("password")
    offer = observation.password if force else _offer_that_counts(observation, memory)
    source = offer.place
    if offer.state != "offered" or offer.value is None:
        if offer.state == "none":
            taken = TAKEN if other.takes_passwords else ""
            return _nothing(observation, "password", f"{offer.reason or 'no password is waiting'}{taken}")
        refused = _refusal(observation, "password")
        if refused is not None:
            return Leave("password", refused.reason, refused.place, state="refused", wrong=True)
        return Leave("password", offer.reason or "no password server answered", state="unknown")
    value, endpoints = offer.value, offer.endpoints
    # What is offered beside a password that is set is an older one from then on (field/cloudstack#edge-44).
    offers = (observation.password, *observation.outranked)
    others = tuple(one.value for one in offers if one.value is not None and one.value != value)
    if force:
        reason = "set because --force-password says so"
        return SetPassword("password", reason, source, settings.user, value, endpoints, others)
    age = _age(offer, memory)
    if age == "newest" and memory.never_reached(settings.user):
        users = ", ".join(memory.password_users)
        reason = f"the account is now {settings.user}, the newest password was set for {users}"
        return SetPassword("password", reason, source, settings.user, value, endpoints, others)
    if age == "newest" and memory.is_forgotten_by(endpoints):
        reason = "the newest password is offered again by a server that had forgotten it: a new reset"
        return SetPassword("password", reason, source, settings.user, value, endpoints, others)
    if age == "newest":
        told = "acknowledge again, do not set" if endpoints else "do not set"
        return Acknowledge("password", f"already applied: {told}", source, value, endpoints)
    if age == "older":
        reason = f"a stale copy: an older password than the one applied last; not set ({OVERRIDE})"
        return Leave("password", reason, source, state="refused")
    if age == "marked" and not memory.passwords:
        reason = "already applied by an older guest script (its MD5 marker says so): do not set"
        return Acknowledge("password", reason, source, value, endpoints, remember=True)
    reason = (
        "a password is offered that was not applied before"
        if memory.passwords
        else "first password offered to this instance"
    )
    if offer is not observation.password:
        reason = f"{reason}, and that of {observation.password.place} was"
    reason = f"{reason}: set for {settings.user}"
    return SetPassword("password", reason, source, settings.user, value, endpoints, others)


def _offer_that_counts(observation: Observation, memory: "Memory") -> PasswordOffer:
    """The best-trusted place's, unless what it offers is known: then another's that is news.

    Beside a stale copy a server may be waiting still to be told of the password that was applied last.
    """
    best, others = observation.password, observation.outranked
    if best.state != "offered" or not others or _age(best, memory) is None:
        return best
    new = next((one for one in others if _age(one, memory) is None), None)
    if new is not None or _age(best, memory) != "older":
        return new or best
    waiting = (one for one in others if one.endpoints and not memory.is_forgotten_by(one.endpoints))
    return next((one for one in waiting if _age(one, memory) == "newest"), best)


def _age(offer: PasswordOffer, memory: "Memory") -> Optional[str]:
    """`newest`, `older` or, of a drive's that was never applied, `marked` by an older script; else None.

    A drive offers its password for as long as it is attached; a router's is one that nobody has taken.
    """
    value = offer.value
    if value is None or (offer.endpoints and memory.is_by_script(value)):
        return None
    marked = not offer.endpoints and memory.set_by_script(value)
    return memory.age_of(value) or ("marked" if marked else None)


def _user_data(observation: Observation, memory: "Memory", settings: "Settings", other: OtherOwner) -> Action:
    if settings.user_data == "false":
        return _off("user_data")
    data = observation.user_data
    if data is None:
        return _nothing(observation, "user_data", "no source gave user-data")
    source = observation.provenance.get("user_data", "")
    what = f"{data.size} bytes, {data.kind}"
    doubt = observation.doubts.get("user_data", "")
    same = data.sha256 == memory.user_data
    whole = not doubt or (same and not memory.user_data_doubt)
    runs = other.runs_user_data or (
        "the setting user_data is keep: it is not run"
        if settings.user_data == "keep"
        else (KEPT_FOR if whole else NOT_RUN)
    )
    if same and not doubt and memory.user_data_doubt:
        return KeepUserData("user_data", f"{what}: it has come whole now; {runs}", source, data)
    if same:
        reason = _doubted(f"{what}: a copy is kept already; {runs}", doubt)
        return Leave("user_data", reason, source, wrong=bool(doubt))
    if doubt and memory.user_data is not None:
        reason = f"{what}, not surely whole ({doubt}): the copy that is kept stays"
        return Leave("user_data", reason, source, state="refused", wrong=True)
    reason = _doubted(f"{what}: keep a copy; {runs}", doubt)
    return KeepUserData("user_data", reason, source, data, doubt, wrong=bool(doubt))


def _network(observation: Observation, settings: "Settings", network: Optional[Action]) -> Action:
    if not settings.network:
        return _off("network")
    return network or _nothing(observation, "network", "no source says anything of the network")
