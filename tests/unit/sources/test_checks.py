"""What a router's child says, held against whom its broker has connected to."""

from __future__ import annotations

from typing import Any, Dict, FrozenSet, Optional

import pytest
from support.samples import INSTANCE

from csagent.errors import JailError
from csagent.model import Candidate, Endpoint, Found, PasswordOffer, Place, Reading, Refusal, Secret
from csagent.sandbox import codec
from csagent.sandbox.broker import Connected
from csagent.sources import checks

ROUTER = Candidate("10.1.1.1", "server-identifier", "DHCP server", "eth0", "10.1.1.5", named=True)
NAME = Candidate("data-server.", "data-server", "name", "eth0", "10.1.1.5", within=("10.1.1.0/24",))
FOUND = Found(candidates=(ROUTER, NAME))
ASKED = frozenset({ROUTER.metadata_endpoint(), ROUTER.password_endpoint()})


def document(*endpoints: Endpoint, place: str = "router 10.1.1.1", channel: str = "router") -> Dict[str, Any]:
    offer = PasswordOffer("offered", Secret(b"EXAMPLE"), "password server 10.1.1.1:8080", "", endpoints)
    reading = Reading(channel, place, INSTANCE, password=offer)
    return {
        "readings": [codec.encode(reading)],
        "places": [codec.encode(Place(place, "why", "ok"))],
    }


def test_a_router_that_was_asked() -> None:
    """Its password server may be told; the channel is what the job was."""
    news = checks.router_news(document(ROUTER.password_endpoint(), channel="drive"), FOUND, ASKED)
    assert news.readings[0].channel == "router" and news.places[0].outcome == "ok"


@pytest.mark.parametrize(
    ("endpoint", "connected"),
    [
        (ROUTER.password_endpoint("127.0.0.1"), ASKED),
        (ROUTER.password_endpoint("8.8.8.8"), ASKED),
        (ROUTER.metadata_endpoint(), ASKED),
        (NAME.password_endpoint("10.1.1.77"), ASKED),
        (ROUTER.password_endpoint(), frozenset({ROUTER.metadata_endpoint()})),
        (NAME.password_endpoint("8.8.8.8"), None),
        (NAME.password_endpoint("127.0.0.1"), None),
        (ROUTER.password_endpoint("10.1.1.77")._replace(source=None), None),
    ],
)
def test_nobody_else_is_told(endpoint: Endpoint, connected: Optional[FrozenSet[Endpoint]]) -> None:
    """Only where the broker has connected to, as a password server; without one its network."""
    with pytest.raises(JailError, match="password server"):
        checks.router_news(document(endpoint), FOUND, connected)


def test_without_a_broker_a_name_leads_into_its_network() -> None:
    """As the name servers of that NIC may say; a network that is none holds nobody."""
    inside = NAME.password_endpoint("10.1.1.77")
    assert checks.router_news(document(inside), FOUND).readings
    odd = Found(candidates=(NAME._replace(within=("10.1.1.0/99",)),))
    with pytest.raises(JailError, match="no candidate"):
        checks.router_news(document(inside), odd)


@pytest.mark.parametrize("place", ["drive /dev/sr0", "router 10.1.1.9", "router", "x", "router 10.1.1.1 b"])
def test_a_place_is_one_that_was_asked(place: str) -> None:
    """A router's child cannot speak for a drive, which would then pass for another instance's."""
    with pytest.raises(JailError):
        checks.router_news(document(place=place), FOUND, ASKED)


@pytest.mark.parametrize("where", ["password", "refusal"])
def test_what_it_says_of_a_password_or_a_refusal_is_of_a_routers(where: str) -> None:
    """Else what it gave would be told as a drive's."""
    answer = document()
    (reading,) = answer["readings"]
    if where == "password":
        reading["password"]["place"] = "drive /dev/sr0"
    else:
        reading["refusals"] = [codec.encode(Refusal("ssh_keys", "drive /dev/sr0", "marker"))]
    with pytest.raises(JailError, match="no router's"):
        checks.router_news(answer, FOUND, ASKED)


def test_whom_a_broker_has_connected_to() -> None:
    """None without a broker, then each endpoint once told; nonsense is an error, not a traceback."""
    told = Connected()
    try:
        assert told.endpoints() is None
        import os

        os.write(told.writing, b"null\n")
        assert told.endpoints() == frozenset()
        os.write(told.writing, b'["10.1.1.1", 80, null, "eth0"]\n')
        assert told.endpoints() == {Endpoint("10.1.1.1", 80, None, "eth0")}
        os.write(told.writing, b"[1")
    finally:
        told.forked()
        told.close()
    with pytest.raises(JailError, match="nonsense"):
        told.endpoints()


LINK = {"id": "eth0", "type": "phy", "ethernet_mac_address": "02:00:4c:9f:00:05", "mtu": 1500}
NETWORK = {
    **{"id": "n", "link": "eth0", "type": "ipv4", "network_id": None, "ip_address": "10.1.1.5"},
    **{"netmask": "255.255.255.0", "prefix": 24, "routes": []},
}
DNS = {"type": "dns", "address": "10.1.1.1"}
CLEAN = {"links": [LINK], "networks": [NETWORK], "services": [DNS]}


def of_a_drive(network: Any) -> checks.DriveNews:
    reading = Reading("drive", "drive /dev/sr0", INSTANCE, ssh_keys=(), network=network)
    answer = {
        "reading": codec.encode(reading),
        "place": codec.encode(Place("drive /dev/sr0", "label", "ok")),
    }
    return checks.drive_news(answer, "/dev/sr0", "label")


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({"services": [{"type": "dns", "address": "1.1.1.1; touch /root/marker"}]}, {"services": []}),
        ({"services": [{"type": "dns", "address": "1.1.1.1\n    up touch /root/marker"}]}, {"services": []}),
        ({"services": 7}, {"services": []}),
        ({"networks": [{**NETWORK, "ip_address": "10.1.1.5\n[Route]"}]}, {"networks": []}),
        ({"networks": [{**NETWORK, "prefix": 10**14}]}, {}),
        ({"networks": None}, {"networks": []}),
        ({"links": 5}, {"links": [], "networks": []}),
        ({"links": [{**LINK, "mtu": "x"}]}, {"links": [{**LINK, "mtu": None}]}),
    ],
)
def test_the_network_becomes_files_of_roots_and_is_cleaned_here_too(
    changes: Dict[str, Any], kept: Dict[str, Any]
) -> None:
    """A drive's child that was taken over writes no command into a file of ifupdown's; the rest is read."""
    reading = of_a_drive({**CLEAN, **changes}).reading
    assert reading is not None and reading.network == {**CLEAN, **kept}


def test_a_healthy_network_stays_as_it_is() -> None:
    reading = of_a_drive(CLEAN).reading
    assert reading is not None and (reading.network, reading.refusals) == (CLEAN, ())


def test_a_routers_child_has_no_word_on_the_network() -> None:
    """A virtual router gives none; a drive's would be put aside for it."""
    answer = document()
    answer["readings"][0]["network"] = CLEAN
    assert checks.router_news(answer, FOUND, ASKED).readings[0].network is None
