"""What the children have said, decoded and held against the rules once more: it may be an attacker's text."""

from __future__ import annotations

import re
from typing import Any, FrozenSet, NamedTuple, Optional, Tuple

from csagent import validation
from csagent.console import one_line
from csagent.discovery.networks import lies_within
from csagent.errors import JailError, ProbeError
from csagent.model import Candidate, Endpoint, Found, Place, Reading, Refusal
from csagent.sandbox import codec
from csagent.sandbox.child import DRIVE_JOB, ROUTER_JOB

ENDPOINTS_LIMIT = 32

_ROUTERS_PLACE = re.compile(r"(router|password server) [^\s]+\Z")


class RouterNews(NamedTuple):
    """What the router's child has said."""

    readings: Tuple[Reading, ...]
    places: Tuple[Place, ...]


class DriveNews(NamedTuple):
    """What a drive's child has said."""

    reading: Optional[Reading]
    place: Place


def found_news(document: Any) -> Found:
    """Decode what `jobs.start_router` says first, before it has heard from anybody.

    Raises:
        JailError: it breaks the form or a rule.
    """
    if not isinstance(document, dict) or set(document) != {"found"}:
        raise JailError(f"{ROUTER_JOB}: did not say first what it found")
    return codec.decode(Found, document["found"])


def router_news(document: Any, found: Found, connected: Optional[FrozenSet[Endpoint]] = None) -> RouterNews:
    """Decode the answer of `jobs.start_router`.

    The channel is what the job was, whatever the answer says, and each place is one of a router's. Of the
    network a router says nothing.

    Args:
        document: the answer.
        found: what was announced before anybody was asked.
        connected: whom the child's broker has connected to; None: it has none, where nothing can be taken
            from a child, and the candidates are all that is known.

    Raises:
        JailError: it breaks the form or a rule, or names a place or a password server that was not asked.
    """
    if not isinstance(document, dict) or set(document) != {"readings", "places"}:
        raise JailError(f"{ROUTER_JOB}: answered with a wrong document")
    readings = tuple(
        recheck(reading._replace(channel="router", network=None))
        for reading in decode_all(Reading, document["readings"])
    )
    places = decode_all(Place, document["places"])
    names = [reading.place for reading in readings] + [place.place for place in places]
    for reading in readings:
        said = (reading.password.place, *(refusal.place for refusal in reading.refusals))
        names += [name for name in said if name]
    if not all(map(_ROUTERS_PLACE.match, names)):
        raise JailError(f"{ROUTER_JOB}: named a place that is no router's")
    for reading in readings:
        for endpoint in reading.password.endpoints:
            if connected is not None and endpoint not in connected:
                raise JailError(f"{ROUTER_JOB}: named a password server that was not connected to")
            if not any(_may_be(endpoint, candidate) for candidate in found.candidates):
                raise JailError(f"{ROUTER_JOB}: named a password server that is no candidate's")
        if connected is not None and _address_of(reading.place) not in {one.address for one in connected}:
            raise JailError(f"{ROUTER_JOB}: read a router that was not connected to")
    return RouterNews(readings, places)


def _address_of(place: str) -> str:
    """The address in the name of a router's place."""
    return place.rpartition(" ")[2].partition(":")[0]


def _may_be(endpoint: Endpoint, candidate: Candidate) -> bool:
    """Whether it is a candidate in its second role; of a name, an address in its network may be."""
    if validation.address(candidate.address) is not None:
        return endpoint == candidate.password_endpoint()
    try:
        if candidate.within and not lies_within(endpoint.address, candidate.within):
            return False
    except ValueError:  # no network
        return False
    return endpoint == candidate.password_endpoint(endpoint.address)


def drive_news(document: Any, device: str, why: str) -> DriveNews:
    """Decode the answer of `jobs.start_drive`.

    The channel, the place and why it was read are what the job was, whatever the answer says.

    Args:
        document: the answer.
        device: what was to be read.
        why: how it was found.

    Raises:
        JailError: it breaks the form or a rule, or names a password server: a drive has none.
    """
    if not isinstance(document, dict) or set(document) != {"reading", "place"}:
        raise JailError(f"{DRIVE_JOB}: answered with a wrong document")
    name = one_line(f"drive {device}")
    place = codec.decode(Place, document["place"])._replace(place=name, why=why)
    if document["reading"] is None:
        return DriveNews(None, place)
    reading = codec.decode(Reading, document["reading"])._replace(channel="drive", place=name, interface=None)
    if reading.password.endpoints:
        raise JailError(f"{DRIVE_JOB}: named a password server")
    offer = reading.password._replace(place=name)
    refusals = tuple(refusal._replace(place=name) for refusal in reading.refusals)
    return DriveNews(recheck(reading._replace(password=offer, refusals=refusals)), place)


def decode_all(kind: Any, document: Any) -> Tuple[Any, ...]:
    """A JSON array of facts.

    Raises:
        JailError: it is not one.
    """
    if not isinstance(document, list) or len(document) > codec.ITEMS_LIMIT:
        raise JailError("the reading child answered with a wrong list")
    return tuple(codec.decode(kind, item) for item in document)


def recheck(reading: Reading) -> Reading:
    """The same reading, if it keeps the rules that a healthy child keeps.

    Its network is cleaned once more, as what a drive may have written there: it becomes files of root's.

    Raises:
        JailError: it does not.
    """
    if reading.network is not None:
        from csagent.sources import network_data

        network, reasons = network_data.parse(reading.network)
        more = tuple(Refusal("network", reading.place, f"network_data.json: {reason}") for reason in reasons)
        reading = reading._replace(network=network, refusals=reading.refusals + more)
    try:
        _check_values(reading)
    except ProbeError as error:
        raise JailError(f"the reading child broke a rule: {type(error).__name__}") from None
    _check_endpoints(reading)
    return reading


def _check_values(reading: Reading) -> None:
    offer = reading.password
    if reading.instance_id is not None and validation.instance_id(reading.instance_id) != reading.instance_id:
        raise JailError("the reading child answered with a wrong instance id")
    for good, what in (
        (reading.channel in ("router", "drive"), "channel"),
        (offer.state in ("offered", "none", "unknown"), "password state"),
        (
            reading.instance_id in (None, validation.instance_id(reading.instance_id or "i-0-0-VM")),
            "instance id",
        ),
        (validation.ssh_keys("\n".join(reading.ssh_keys).encode()) == (reading.ssh_keys, ()), "key"),
        (all(map(_is_key, reading.metadata)), "metadata key"),
        (offer.value is None or validation.password(offer.value.reveal()) == offer.value, "password"),
        (len(reading.user_data or b"") <= validation.USER_DATA_LIMIT * 4, "user-data"),
    ):
        if not good:
            raise JailError(f"the reading child answered with a wrong {what}")
    for key, value in reading.metadata.items():
        validation.metadata_value(value.encode("utf-8"), validation.value_limit(key))


def _is_key(name: str) -> bool:
    """A plain name, or one inside a directory: newer providers have some (field/cloudstack#2.8)."""
    return all(map(validation.metadata_key, name.split("/", 1)))


def _check_endpoints(reading: Reading) -> None:
    """Endpoints are where the acknowledgement will go: addresses and ports only, and few of them."""
    endpoints = reading.password.endpoints
    if len(endpoints) > ENDPOINTS_LIMIT:
        raise JailError("the reading child answered with too many endpoints")
    for endpoint in endpoints:
        addresses = (endpoint.address, endpoint.source or endpoint.address)
        if not all(map(validation.address, addresses)) or not 0 < endpoint.port < 65536:
            raise JailError("the reading child answered with a wrong endpoint")
