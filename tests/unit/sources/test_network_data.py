"""network_data.json, with the quirks of field/cloudstack#6.4."""

from __future__ import annotations

import ipaddress
import json
from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csagent.sources.network_data import parse


def example() -> Dict[str, Any]:
    """A document with everything in it (field/cloudstack#6.4)."""
    return json.loads("""{
      "links": [{"ethernet_mac_address": "02:01:00:AA:bb:cc", "id": "eth0", "mtu": 1450, "type": "phy"}],
      "networks": [
        {"id": "eth0", "ip_address": "10.7.0.21", "link": "eth0", "netmask": "255.255.255.0",
         "network_id": "b1f7c6e0-0d53-4d0c-8f3b-6f2a1c9d7e10", "type": "ipv4",
         "routes": [{"gateway": "10.7.0.1", "netmask": "0.0.0.0", "network": "0.0.0.0"}]},
        {"id": "eth0", "ip_address": "fd00:7::21", "link": "eth0", "netmask": "ffff:ffff:ffff:ffff::",
         "network_id": "b1f7c6e0-0d53-4d0c-8f3b-6f2a1c9d7e10", "type": "ipv6",
         "routes": [{"gateway": "fd00:7::1", "netmask": "0", "network": "::"}]}],
      "services": [{"address": "10.7.0.2", "type": "dns"}, {"address": "10.7.0.2", "type": "dns"}]}""")


@pytest.mark.parametrize("document", [None, {}, {"links": [], "networks": [], "services": []}])
def test_nothing_said_is_no_network(document: Any) -> None:
    """Absent and empty documents are usual, and no reason to complain."""
    assert parse(document) == (None, ())


def test_a_full_document_is_cleaned() -> None:
    """Both families, the IPv6 netmask "0", the address-style mask, repeated services."""
    network, reasons = parse(example())
    assert reasons == ()
    assert network is not None
    assert network["links"] == [
        {"id": "eth0", "type": "phy", "ethernet_mac_address": "02:01:00:aa:bb:cc", "mtu": 1450}
    ]
    four, six = network["networks"]
    assert (four["ip_address"], four["netmask"], four["prefix"]) == ("10.7.0.21", "255.255.255.0", 24)
    assert four["routes"] == [
        {"network": "0.0.0.0", "netmask": "0.0.0.0", "prefix": 0, "gateway": "10.7.0.1"}
    ]
    assert (six["prefix"], six["netmask"]) == (64, "ffff:ffff:ffff:ffff::")
    assert six["routes"] == [{"network": "::", "netmask": "::", "prefix": 0, "gateway": "fd00:7::1"}]
    assert network["services"] == [{"type": "dns", "address": "10.7.0.2"}]


def test_a_null_gateway_is_no_route() -> None:
    """CloudStack writes the default route of a network that has no gateway, with null."""
    document = example()
    document["networks"][0]["routes"][0]["gateway"] = None
    network, reasons = parse(document)
    assert network is not None and network["networks"][0]["routes"] == []
    assert reasons == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ip_address": "02:01:00:aa:bb:cc"}, "networks[0]: ip_address is not an address"),
        ({"ip_address": "fd00::1"}, "networks[0]: ip_address is not an IPv4 address"),
        ({"ip_address": None}, "networks[0]: ip_address is not an address"),
        ({"netmask": "255.0.255.0"}, "networks[0]: netmask is not a mask"),
        ({"netmask": "33"}, "networks[0]: netmask is not a mask"),
        ({"netmask": True}, "networks[0]: netmask is not a mask"),
        ({"type": "ipv4_dhcp"}, "networks[0]: type is neither ipv4 nor ipv6"),
        ({"type": ["ipv4"]}, "networks[0]: type is neither ipv4 nor ipv6"),
        ({"link": "eth7"}, "network eth0: its link is not among the links"),
        ({"id": "a b\n"}, "networks[0]: id is not a plain name"),
    ],
)
def test_a_wrong_network_is_left_out_with_a_reason(change: Dict[str, Any], reason: str) -> None:
    """One bad entry costs itself, not its neighbours."""
    document = example()
    document["networks"][0].update(change)
    network, reasons = parse(document)
    assert network is not None
    assert [entry["type"] for entry in network["networks"]] == ["ipv6"]
    assert reasons == (reason,)


@pytest.mark.parametrize(
    ("mtu", "kept"),
    [(1500, 1500), ("1500", 1500), (None, None), (67, None), (1e3, None), (True, None), ("x", None)],
)
def test_an_mtu_is_a_sensible_number(mtu: Any, kept: Any) -> None:
    """A wrong mtu costs the mtu, not the link."""
    document = example()
    document["links"][0]["mtu"] = mtu
    network, _reasons = parse(document)
    assert network is not None and network["links"][0]["mtu"] == kept


def test_a_link_without_a_mac_cannot_be_found() -> None:
    """Ids are CloudStack's own, so a link without a MAC address is worth nothing, nor are its networks."""
    document = example()
    document["links"][0]["ethernet_mac_address"] = "eth0"
    network, reasons = parse(document)
    assert network == {"links": [], "networks": [], "services": [{"type": "dns", "address": "10.7.0.2"}]}
    assert reasons[0] == "links[0]: ethernet_mac_address is not a MAC address"


def test_too_much_is_cut_with_a_reason() -> None:
    """Lists are read to a limit, and so are the reasons."""
    document = example()
    document["services"] = [{"address": "x", "type": "dns"}] * 70
    network, reasons = parse(document)
    assert network is not None and network["services"] == []
    assert reasons[0] == "services: 70 entries, only 64 are read"
    assert len(reasons) == 17 and reasons[-1].endswith("more entries were left out")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["eth0", "::", "0"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["links", "networks", "services", "routes", "id", "link", "type", "netmask", "gateway"]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_json_gives_a_network_or_reasons(document: Any) -> None:
    """Nothing makes it raise, and what comes out is plain JSON."""
    network, reasons = parse(document)
    assert network is None or set(network) == {"links", "networks", "services"}
    assert all(isinstance(reason, str) and "\n" not in reason for reason in reasons)
    json.dumps(network)


@given(st.integers(0, 128), st.sampled_from(["number", "text", "address"]))
def test_masks_in_every_spelling_have_their_length(prefix: int, spelling: str) -> None:
    """A number, a number as text, an address-style mask: the same length and canonical mask."""
    mask = ipaddress.IPv6Network(("::", prefix)).netmask
    document = example()
    document["networks"][1]["netmask"] = {"number": prefix, "text": str(prefix), "address": str(mask)}[
        spelling
    ]
    network, reasons = parse(document)
    assert reasons == () and network is not None
    assert network["networks"][1]["prefix"] == prefix
    assert ipaddress.ip_address(network["networks"][1]["netmask"]) == mask
