"""network_data.json of the lab's drives: the forms of all releases, and what csagent makes of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest
import yaml

from csagent.errors import UsageError
from csagent.lab import cloud, drive
from csagent.lab.network_data import FORMS, describe
from csagent.sources import network_data

SAMPLES = Path(__file__).resolve().parents[2] / "fixtures" / "network-data"
BY_DRIVE: Dict[str, Any] = {
    "mac": "02:01:00:c4:00:05",
    "addresses": ["10.7.0.21/24", "fd00:7::21/64"],
    "gateways": ["10.7.0.1", "fd00:7::1"],
}
BY_ROUTER: Dict[str, Any] = {
    "mac": "02:01:00:7e:00:11",
    "dhcp": "VirtualRouter",
    "addresses": ["10.1.1.42/24"],
    "gateways": ["10.1.1.1"],
}


def written(form: str, *nics: Dict[str, Any]) -> Any:
    """What the file says; None where there is none."""
    said = {"form": form, "dns": ["10.7.0.2"], "nics": list(nics)}
    content = drive.files_for(cloud.describe({"network": said}, "cloud.yaml")).get(
        "openstack/latest/network_data.json"
    )
    return None if content is None else json.loads(content)


def test_masks_are_spelled_as_cloudstack_does() -> None:
    """Dotted for IPv4, the prefix length as text for IPv6; one route to everywhere."""
    four, six = written("later", BY_DRIVE)["networks"]
    assert (four["netmask"], four["routes"]) == (
        "255.255.255.0",
        [{"gateway": "10.7.0.1", "netmask": "0.0.0.0", "network": "0.0.0.0"}],
    )
    assert (six["netmask"], six["routes"]) == (
        "64",
        [{"gateway": "fd00:7::1", "netmask": "0", "network": "::"}],
    )


def test_the_forms_of_the_releases() -> None:
    """Nothing; per NIC; all NICs as soon as one is ConfigDrive's; no file in place of nothing."""
    assert written("4.19", BY_DRIVE, BY_ROUTER) == {}
    assert [one["id"] for one in written("4.20", BY_DRIVE, BY_ROUTER)["links"]] == ["eth0"]
    assert [one["id"] for one in written("later", BY_ROUTER, BY_DRIVE)["links"]] == ["eth0", "eth1"]
    assert [one["id"] for one in written("later", BY_ROUTER, BY_DRIVE)["networks"]] == [
        "eth0",
        "eth1",
        "eth1",
    ]
    assert [written(form, BY_ROUTER) for form in FORMS] == [{}, {}, {}, None]


def test_a_routed_nic_has_its_gateway_as_a_key() -> None:
    """IPv4 only; IPv6 has a route."""
    routed = {
        "mac": "02:01:00:c4:00:05",
        "dhcp": "routed",
        "addresses": ["203.0.113.10/32", "2001:db8::10/128"],
        "gateways": ["169.254.0.1", "fe80::1"],
    }
    four, six = written("later", routed)["networks"]
    assert (four["gateway"], four["netmask"], "routes" in four) == ("169.254.0.1", "255.255.255.255", False)
    assert six["routes"][0]["gateway"] == "fe80::1"


@pytest.mark.parametrize("form", FORMS)
def test_csagent_believes_all_of_it(form: str) -> None:
    """Each form, and the example of `csagent lab router --example` with its comment signs taken away."""
    cleaned, reasons = network_data.parse(written(form, BY_DRIVE, BY_ROUTER) or {})
    assert reasons == () and (cleaned is None) == (form == "4.19")
    lines = cloud.EXAMPLE.split("\n")
    start = lines.index("# network:")
    text = "\n".join(line[2:] for line in lines[start : lines.index("", start)])
    said = describe(yaml.safe_load(text)["network"], "example")
    assert said.file() is not None and said.nics[0].addresses == ("10.7.0.21/24",)


def test_the_samples_are_spelled_alike() -> None:
    """The keys of links and networks, in their order, are those of the test documents."""
    sample = json.loads((SAMPLES / "02-shared-dual-stack" / "network_data.json").read_text())
    made = written("later", BY_DRIVE)
    for part in ("links", "networks", "services"):
        assert [list(one) for one in made[part]][:1] == [list(one) for one in sample[part]][:1]
    assert list(made) == list(sample)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ([], "network: must be a mapping"),
        ({"from": "later"}, 'network: unknown key "from"'),
        ({"form": 4.2}, "numbers in quotes"),
        ({"form": "5"}, "form must be one of 4.19, 4.20, later, absent"),
        ({"dns": ["x"]}, 'network: dns: "x" is not an address'),
        ({"dns": "x"}, "network: dns: must be a list"),
        ({"nics": [{"mac": 1}]}, "mac must be a MAC address in quotes"),
        ({"nics": [{**BY_DRIVE, "dhcp": "me"}]}, "dhcp must be one of ConfigDrive"),
        ({"nics": [{**BY_DRIVE, "mtu": "x"}]}, "mtu must be a number"),
        ({"nics": [{**BY_DRIVE, "addresses": ["10.7.0.300/24"]}]}, '"10.7.0.300/24" is not an address'),
    ],
)
def test_what_cannot_be_is_one_line(said: Any, reason: str) -> None:
    """It names the place in the file."""
    with pytest.raises(UsageError, match=r"cloud\.yaml: network") as caught:
        cloud.describe({"network": said}, "cloud.yaml")
    assert reason in str(caught.value)
