"""A second NIC whose DHCP server is a rogue: dnsmasq, and behind it servers that say what CloudStack's say.

The default NIC is on the honest segment. The rogue offers a password, with or without CloudStack's header,
or all the data of another instance; in the last cases it also names itself the router, and is there first.

Not asserted is what the protocol cannot tell apart. Where DMI does not say who this VM is and the honest
router is silent, metadata of a rogue look like those of the only router; the same where the rogue has the
only default route, for then its NIC is the default one. There a signed password, too, is believed while no
router has metadata.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional

import pytest
from support.debian_image import Installed
from support.network_segment import FAKE_SYS, MAC, Guest, Segment
from support.replace_fields import replace
from support.vm_cloud import PASSWORD, describe, hash_verifies

from csagent.lab.router import LabRouter

pytestmark = [pytest.mark.netns, pytest.mark.root]

SERVER, ADDRESS = "10.2.2.2", "10.2.2.42"
ROGUE, ROGUES_ADDRESS = "10.9.9.2", "10.9.9.42"
ROGUES_MAC = MAC[:-2] + "06"
DATA = ("hostname", "ssh_keys", "password", "user_data")
NOBODYS = 9  # a port where no client looks
OUTCOMES = {"refused", "skipped", "foreign"}
ANOTHERS_DATA = "another instance's data"

HONEST = describe("web-01", 1)
OTHER = replace(
    describe("mallory", 6), password="marker-RoguePwEXAMPLE", user_data=b"#!/bin/sh\necho ROGUE-EXAMPLE\n"
)
ROGUES: Dict[str, Dict[str, Any]] = {
    "signed password": {"port": NOBODYS, "shape": "python3"},
    "unsigned password": {"port": NOBODYS, "shape": "socat"},
    ANOTHERS_DATA: {"port": 80, "shape": "python3"},
}


class Lab(NamedTuple):
    """A guest between two segments; there is DHCP on both, and nothing else yet."""

    guest: Guest
    honest: Segment
    rogue: Segment

    def configure(self, interface: str, metric: Optional[int] = None) -> None:
        """Run dhclient on a NIC, with files of its own as ifupdown gives it."""
        files = ["-pf", f"/run/dhclient.{interface}.pid", "-lf", f"/var/lib/dhcp/dhclient.{interface}.leases"]
        extra = ["-e", f"IF_METRIC={metric}"] if metric is not None else []
        self.guest.do("dhclient", "-1", *files, *extra, interface)

    def set_dmi(self, uuid: str) -> None:
        """What CloudStack has KVM tell its guest."""
        for name, value in (
            ("sys_vendor", "Apache Software Foundation"),
            ("product_name", "CloudStack KVM Hypervisor"),
            ("product_uuid", uuid),
        ):
            self.guest.write(f"/sys/class/dmi/id/{name}", value + "\n")

    def start_honest(self, password_port: int = 8080) -> LabRouter:
        """This VM's virtual router."""
        return self.honest.router(HONEST, SERVER, port=80, password_port=password_port)

    def start_rogue(self, kind: str) -> LabRouter:
        """The rogue's servers."""
        return self.rogue.router(OTHER, ROGUE, password_port=8080, **ROGUES[kind])


def _lab(image: Installed, directory: Path, rogues_gateway: Optional[str]) -> Iterator[Lab]:
    guest = Guest(image, directory / "guest")
    segments: List[Segment] = []
    try:
        for server, offer, gateway, nic, mac in (
            (SERVER, ADDRESS, SERVER, "eth0", MAC),
            (ROGUE, ROGUES_ADDRESS, rogues_gateway, "eth1", ROGUES_MAC),
        ):
            (directory / nic).mkdir()
            segments.append(Segment(directory / nic, guest, [server], nic, mac))
            segments[-1].dhcp(server, offer, gateway, "web-01", data_server=server)
        guest.do("sh", "-ec", FAKE_SYS)
        guest.write("/run/csagent-test-server", SERVER)
        yield Lab(guest, *segments)
    finally:
        for segment in segments:
            segment.close()
        guest.close()


@pytest.fixture
def lab(image: Installed, tmp_path: Path) -> Iterator[Lab]:
    """The rogue's DHCP server names no router; both NICs are configured."""
    for made in _lab(image, tmp_path, None):
        made.configure("eth0")
        made.configure("eth1")
        yield made


@pytest.fixture
def greedy(image: Installed, tmp_path: Path) -> Iterator[Lab]:
    """The rogue's DHCP server says that it is the router; no NIC is configured."""
    yield from _lab(image, tmp_path, ROGUE)


def states(status: Any) -> Dict[str, str]:
    """Each datum's state, but for the network, which no router has."""
    return {name: datum["state"] for name, datum in status["data"].items() if name != "network"}


def judged(lab: Lab) -> Dict[str, Any]:
    """The status of a pass in which the rogue has answered; a busy machine may have the honest one faster."""
    for _ in range(50):
        status = lab.guest.csagent("status")
        if not [one for one in status["places"] if ROGUE in one["place"] and one["outcome"] == "timeout"]:
            break
        lab.guest.csagent("apply")
    return dict(status)


def check_nothing_is_the_rogues(lab: Lab, rogue: LabRouter) -> None:
    """Nothing that the rogue says is anywhere, it was told nothing, and status names it and why."""
    assert lab.guest.do("hostname").strip() != OTHER.hostname
    assert not hash_verifies(str(OTHER.password), lab.guest.shadow())
    wanted = [
        OTHER.hostname,
        str(OTHER.password),
        "ROGUE-EXAMPLE",
        *(key.split()[1] for key in OTHER.ssh_keys),
    ]
    patterns = [word for text in wanted for word in ("-e", text)]
    places = ("/etc", "/home", "/root", "/run/csagent", "/tmp", "/var/lib")
    assert lab.guest.run("grep", "-rlF", *patterns, *places).stdout == ""
    assert rogue.acknowledged == []
    assert "saved_password" not in [request.what for request in rogue.requests]

    status = judged(lab)
    assert [datum for datum in status["data"].values() if ROGUE in (datum["source"] or "")] == []
    reported = {one["place"]: one for one in status["places"] if ROGUE in one["place"]}
    assert set(reported) == {f"router {ROGUE}", f"password server {ROGUE}:8080"}
    for place in reported.values():
        assert place["outcome"] in OUTCOMES, place
        assert place["detail"] and len(place["detail"].splitlines()) == 1, place


def check_everything_is_honest(lab: Lab, honest: LabRouter) -> None:
    """Hostname, keys and password are those of this VM's router, which knows."""
    assert lab.guest.do("hostname").strip() == HONEST.hostname
    assert lab.guest.read("/etc/hostname") == HONEST.hostname + "\n"
    lines = lab.guest.read("/root/.ssh/authorized_keys").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == list(HONEST.ssh_keys)
    assert hash_verifies(PASSWORD, lab.guest.shadow())
    assert honest.acknowledged == [ADDRESS]


def outcome_of(lab: Lab, place: str) -> str:
    """What status says of a place."""
    (one,) = [one for one in lab.guest.csagent("status")["places"] if one["place"] == place]
    return str(one["outcome"])


@pytest.mark.parametrize("kind", ROGUES)
def test_rogue_beside_the_honest_router_is_not_believed(lab: Lab, kind: str) -> None:
    """All data are the honest router's, also in the next pass, when only the rogue has a password."""
    honest, rogue = lab.start_honest(), lab.start_rogue(kind)
    status = lab.guest.csagent("apply")
    assert set(states(status).values()) == {"applied"}
    check_everything_is_honest(lab, honest)
    check_nothing_is_the_rogues(lab, rogue)
    assert outcome_of(lab, f"router {ROGUE}") == ("foreign" if kind == ANOTHERS_DATA else "refused")

    status = lab.guest.csagent("apply")
    assert "applied" not in states(status).values()
    check_everything_is_honest(lab, honest)
    check_nothing_is_the_rogues(lab, rogue)


@pytest.mark.parametrize("kind", ROGUES)
def test_password_of_a_rogue_does_not_stand_in_for_one_that_is_late(lab: Lab, kind: str) -> None:
    """While the honest password server is down, the rogue's is asked and not believed."""
    honest, rogue = lab.start_honest(password_port=NOBODYS), lab.start_rogue(kind)
    status = lab.guest.csagent("apply", "--wait", "0")
    assert states(status) == {**dict.fromkeys(DATA, "applied"), "password": "unknown"}
    assert outcome_of(lab, f"password server {ROGUE}:8080") == "foreign"
    check_nothing_is_the_rogues(lab, rogue)

    honest.stop()
    honest = lab.start_honest()
    status = lab.guest.csagent("apply")
    assert states(status)["password"] == "applied"
    check_everything_is_honest(lab, honest)
    check_nothing_is_the_rogues(lab, rogue)


@pytest.mark.parametrize("kind", ROGUES)
def test_rogue_while_the_honest_router_is_silent(lab: Lab, kind: str) -> None:
    """Nothing is applied and the exit code says so; once the honest router is up, all of it is its data.

    Another instance's data are refused by DMI, which says who this VM is; a password needs no DMI for that.
    """
    if kind == ANOTHERS_DATA:
        lab.set_dmi(HONEST.instance_id)
    rogue = lab.start_rogue(kind)
    watched = ("/etc/hostname", "/etc/hosts", "/etc/shadow", "/root")
    before = lab.guest.stamp(*watched)
    status = lab.guest.csagent("apply", "--wait", "2", code=4)
    assert status["source_found"] is False
    assert "applied" not in states(status).values()
    assert lab.guest.stamp(*watched) == before
    check_nothing_is_the_rogues(lab, rogue)
    assert outcome_of(lab, f"router {ROGUE}") == ("foreign" if kind == ANOTHERS_DATA else "refused")

    honest = lab.start_honest()
    status = lab.guest.csagent("apply")
    assert set(states(status).values()) == {"applied"}
    check_everything_is_honest(lab, honest)
    check_nothing_is_the_rogues(lab, rogue)


def test_greedy_rogue_that_is_first_but_has_the_worse_route(greedy: Lab) -> None:
    """Both leases name a router; without DMI the default route with the lower metric says which is ours."""
    greedy.configure("eth1", metric=200)
    greedy.configure("eth0", metric=100)
    honest, rogue = greedy.start_honest(), greedy.start_rogue(ANOTHERS_DATA)
    status = greedy.guest.csagent("apply")
    assert set(states(status).values()) == {"applied"}
    check_everything_is_honest(greedy, honest)
    check_nothing_is_the_rogues(greedy, rogue)


@pytest.fixture
def first(greedy: Lab) -> Lab:
    """The rogue was first and has the only default route; DMI says who this VM is."""
    greedy.set_dmi(HONEST.instance_id)
    greedy.configure("eth1")
    greedy.configure("eth0")
    (route,) = greedy.guest.do("ip", "route", "show", "default").splitlines()
    assert "eth1" in route
    return greedy


def test_greedy_rogue_with_the_default_route_against_dmi(first: Lab) -> None:
    """On the default NIC, too, another instance's data are refused; the honest router's are applied."""
    rogue = first.start_rogue(ANOTHERS_DATA)
    status = first.guest.csagent("apply", "--wait", "0", code=4)
    assert "applied" not in states(status).values()
    check_nothing_is_the_rogues(first, rogue)
    assert outcome_of(first, f"router {ROGUE}") == "foreign"

    first.start_honest()
    status = first.guest.csagent("apply", "--wait", "0")
    for datum in ("hostname", "ssh_keys", "user_data"):
        assert (status["data"][datum]["state"], status["data"][datum]["source"]) == (
            "applied",
            f"router {SERVER}",
        )
    check_nothing_is_the_rogues(first, rogue)


@pytest.mark.parametrize("kind", ROGUES)
def test_greedy_rogue_does_not_keep_us_from_the_honest_password(first: Lab, kind: str) -> None:
    """With metadata that DMI proves on the other NIC, the password is the one that is offered beside them."""
    honest, rogue = first.start_honest(), first.start_rogue(kind)
    status = first.guest.csagent("apply", "--wait", "0")
    assert set(states(status).values()) == {"applied"}, status["data"]
    check_everything_is_honest(first, honest)
    check_nothing_is_the_rogues(first, rogue)
