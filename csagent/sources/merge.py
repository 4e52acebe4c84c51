"""From what each place gave to one observation: values merged per datum, each with where it came from.

Pure. One VM can have both channels, each with a part of the data (#4809), so the order of trust decides
for each datum, not for the whole. What another instance left behind is dropped as a whole
(field/cloudstack#edge-23, #edge-65).
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from csagent import validation
from csagent.errors import ProbeError
from csagent.model import Observation, PasswordOffer, Place, Platform, Reading, Refusal, UserData
from csagent.sources.refusals import OTHER, datum_of
from csagent.sources.user_data_kind import describe

HOSTNAME_KEY = "local-hostname"


def merge(
    readings: Sequence[Reading],
    places: Sequence[Place],
    platform: Platform,
    sources: Sequence[str],
) -> Observation:
    """One observation.

    Args:
        readings: what each place gave.
        places: every place that was looked at, with its outcome.
        platform: DMI, whose UUID settles whose data it is where it says CloudStack.
        sources: channels in the order of trust, from the settings.
    """
    ordered = sorted(
        (reading for reading in readings if reading.channel in sources),
        key=lambda reading: sources.index(reading.channel),
    )
    believed, foreign = _same_instance(ordered, platform)
    refusals: List[Refusal] = [
        refusal._replace(datum=_datum(refusal.datum)) for reading in believed for refusal in reading.refusals
    ]
    provenance: Dict[str, str] = {}
    names = _hostnames(believed, refusals)
    hostname = _best("hostname", names, provenance)
    keys = [(reading.place, reading.ssh_keys) for reading in believed if reading.ssh_keys]
    values: Dict[str, Sequence[Tuple[str, Any]]] = {"hostname": names, "ssh_keys": keys}
    ssh_keys = _best("ssh_keys", keys, provenance) or ()
    offer, outranked = _password(believed, provenance, refusals)
    user_data = _user_data(believed, provenance)
    doubts = _doubts(believed, provenance, refusals)
    network = _network(believed, provenance, refusals)
    return Observation(
        instance_id=_first(believed, "instance_id", provenance),
        hostname=hostname,
        metadata=_metadata(believed, provenance),
        ssh_keys=ssh_keys,
        password=offer,
        outranked=outranked,
        others={
            datum: tuple(value for _place, value in given[1:]) for datum, given in values.items() if given[1:]
        },
        user_data=user_data,
        drive_ids=_drive_ids(believed),
        doubts=doubts,
        network=network,
        provenance=provenance,
        places=_places(places, foreign),
        refusals=tuple(refusals),
        source_found=bool(believed),
        complete=all(reading.complete for reading in believed),
    )


def _doubts(
    readings: Sequence[Reading], provenance: Dict[str, str], refusals: List[Refusal]
) -> Dict[str, str]:
    """By datum, why the value that is taken may not be all; the most trusted place's word.

    A place that is trusted more than the one whose value is taken, and said something that was not believed,
    may have meant more. Where nobody gave a value the doubt is a refusal.
    """
    doubts: Dict[str, str] = {}
    passed: Set[str] = set()
    for reading in readings:
        for datum, reason in reading.doubts.items():
            if datum not in provenance:
                if not any(refusal.datum == datum for refusal in refusals):
                    refusals.append(Refusal(datum, reading.place, reason))
            elif provenance[datum] == reading.place:
                doubts.setdefault(datum, reason)
            elif datum not in passed:
                doubts.setdefault(datum, f"{reading.place}: {reason}")
        passed.update(datum for datum, place in provenance.items() if place == reading.place)
    return doubts


def _datum(name: str) -> str:
    """What a refusal is about: one of the data where it is a part of one, else what it was called."""
    datum = datum_of(name)
    return name if datum == OTHER else datum


def _same_instance(
    readings: Sequence[Reading], platform: Platform
) -> Tuple[List[Reading], Mapping[str, str]]:
    """Those that speak of this VM, and for the others the reason by place."""
    ids = {reading.place: reading.instance_id for reading in readings if reading.instance_id}
    comparable = {place: value for place, value in ids.items() if validation.is_uuid(value)}
    right: Optional[str] = None
    who = ""
    if platform.cloudstack and platform.uuid and validation.is_uuid(platform.uuid):
        right, who = platform.uuid.lower(), "this VM's DMI"
    else:
        # A drive is attached to this VM alone; an address is passed on to the next one (#3627).
        for reading in sorted(readings, key=lambda reading: reading.channel != "drive"):
            if reading.place in comparable:
                right, who = comparable[reading.place], reading.place
                break
    foreign = {
        place: f"it speaks of instance {value}, {who} says {right}"
        for place, value in comparable.items()
        if right is not None and not validation.same_uuid(value, right)
    }
    return [reading for reading in readings if reading.place not in foreign], foreign


def _places(places: Sequence[Place], foreign: Mapping[str, str]) -> Tuple[Place, ...]:
    return tuple(
        place._replace(outcome="foreign", detail=foreign[place.place]) if place.place in foreign else place
        for place in places
    )


def _drive_ids(readings: Sequence[Reading]) -> Tuple[str, ...]:
    """A drive is attached to one VM: whatever it calls that VM, it is this machine."""
    given = [
        text
        for reading in readings
        if reading.channel == "drive"
        for text in (reading.instance_id, reading.metadata.get("vm-id"))
        if text
    ]
    return tuple(dict.fromkeys(text.lower() if validation.is_uuid(text) else text for text in given))


def _first(readings: Sequence[Reading], name: str, provenance: Dict[str, str]) -> Any:
    for reading in readings:
        value = getattr(reading, name)
        if value:
            provenance[name] = reading.place
            return value
    return None


def _network(
    readings: Sequence[Reading], provenance: Dict[str, str], refusals: List[Refusal]
) -> Optional[Mapping[str, Any]]:
    """The first drive's document; another one's that says something else is not believed."""
    chosen: Optional[Mapping[str, Any]] = _first(readings, "network", provenance)
    for reading in readings:
        if reading.network and reading.network != chosen:
            reason = f"{reading.place} says something else than {provenance['network']}, which counts"
            refusals.append(Refusal("network", reading.place, reason))
    return chosen


def _best(datum: str, given: Sequence[Tuple[str, Any]], provenance: Dict[str, str]) -> Any:
    """The value of the place that is trusted most."""
    if not given:
        return None
    provenance[datum], value = given[0]
    return value


def _hostnames(readings: Sequence[Reading], refusals: List[Refusal]) -> List[Tuple[str, str]]:
    """Each place that gave a name, and the name."""
    names: List[Tuple[str, str]] = []
    for reading in readings:
        raw = reading.metadata.get(HOSTNAME_KEY)
        if not raw:
            continue
        try:
            names.append((reading.place, validation.hostname(raw)))
        except ProbeError as error:
            # A bad name behind a good one hurts nobody.
            if not names:
                refusals.append(Refusal("hostname", reading.place, str(error)))
    return names


def _metadata(readings: Sequence[Reading], provenance: Dict[str, str]) -> Mapping[str, str]:
    merged: Dict[str, str] = {}
    for reading in readings:
        for key, value in reading.metadata.items():
            if key not in merged:
                merged[key] = value
                provenance.setdefault("metadata", reading.place)
    return merged


def _password(
    readings: Sequence[Reading], provenance: Dict[str, str], refusals: List[Refusal]
) -> Tuple[PasswordOffer, Tuple[PasswordOffer, ...]]:
    """The first that offers one, and those of other values; else what the servers say, else the drive.

    Every server that offers the same one waits to be told, whoever is asked first (field/cloudstack#edge-39).
    """
    offers = [reading.password for reading in readings if reading.password.state == "offered"]
    if offers:
        chosen = offers[0]
        same = [one for offer in offers if offer.value == chosen.value for one in offer.endpoints]
        outranked = tuple(offer for offer in offers if offer.value not in (None, chosen.value))
        reason = f"another password than the one of {chosen.place}, which is asked first"
        refusals.extend(Refusal("other_password", offer.place, reason) for offer in outranked)
        provenance["password"] = chosen.place
        return chosen._replace(endpoints=tuple(dict.fromkeys(same))), outranked
    # A drive without one says nothing of what waits at a server, and cannot forget.
    told = sorted(readings, key=lambda one: (one.channel != "router", one.password.state != "none"))
    for reading in told:
        if reading.password.reason:
            return reading.password, ()
    return PasswordOffer(reason="no place that hands out passwords answered"), ()


def _user_data(readings: Sequence[Reading], provenance: Dict[str, str]) -> Optional[UserData]:
    raw = _first(readings, "user_data", provenance)
    return describe(raw) if raw else None
