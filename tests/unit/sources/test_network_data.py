"""network_data.json, with the quirks of field/network-data#1.2, and the documents of the fixtures."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any, Dict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csagent.sources.network_data import parse

SAMPLES = Path(__file__).resolve().parents[2] / "fixtures" / "network-data"


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
        ({"ip_address": "02:01:00:aa:bb:cc"}, 'ip_address "02:01:00:aa:bb:cc" is not an address'),
        ({"ip_address": "fd00::1"}, 'ip_address "fd00::1" is not an IPv4 address'),
        ({"ip_address": None}, "ip_address is not an address"),
        (
            {"ip_address": "fe80::1%eth0", "type": "ipv6", "netmask": "64"},
            'ip_address "fe80::1%eth0" is not an address',
        ),
        ({"netmask": "255.0.255.0"}, 'netmask "255.0.255.0" is not a mask'),
        ({"netmask": "0.0.0.255"}, 'netmask "0.0.0.255" is not a mask'),
        ({"netmask": "33"}, 'netmask "33" is not a mask'),
        ({"netmask": True}, "netmask is not a mask"),
        ({"netmask": "0.0.0.0"}, "10.7.0.21 has a netmask that makes all addresses its neighbours"),
        ({"type": "ipv4_dhcp"}, "type is neither ipv4 nor ipv6"),
        ({"type": ["ipv4"]}, "type is neither ipv4 nor ipv6"),
        ({"link": "eth7"}, "its link is not among the links"),
        ({"id": "a b\n"}, r'id "a b\n" is not a plain name'),
        ({"link": "../../etc"}, 'link "../../etc" is not a plain name'),
        ({"ip_address": "0.0.0.0"}, "0.0.0.0 is no address"),
        ({"ip_address": "0.1.2.3"}, "0.1.2.3 is in 0.0.0.0/8, which is no network"),
        ({"ip_address": "127.0.0.1"}, "127.0.0.1 is a loopback address"),
        ({"ip_address": "224.0.0.5"}, "224.0.0.5 is a multicast address"),
        ({"ip_address": "255.255.255.255"}, "255.255.255.255 is the broadcast address"),
        (
            {"ip_address": "169.254.7.7"},
            "169.254.7.7 is a link-local address, which no network of CloudStack's gives",
        ),
        ({"ip_address": "10.7.0.0"}, "10.7.0.0 is the address of the network 10.7.0.0/24 itself"),
        ({"ip_address": "10.7.0.255"}, "10.7.0.255 is the broadcast address of 10.7.0.0/24"),
        ({"ip_address": "10.7.0.1"}, "10.7.0.1 is a gateway's own address"),
    ],
)
def test_a_wrong_network_is_left_out_with_a_reason(change: Dict[str, Any], reason: str) -> None:
    """One bad entry costs itself, not its neighbours."""
    document = example()
    document["networks"][0].update(change)
    network, reasons = parse(document)
    assert network is not None
    assert [entry["ip_address"] for entry in network["networks"]] == ["fd00:7::21"]
    label = "networks[0]" if reason.startswith("id ") else "networks[0] (eth0)"
    assert reasons == (f"{label}: {reason}",)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("::", "is no address"),
        ("::1", "is a loopback address"),
        ("ff02::1", "is a multicast address"),
        ("fe80::2", "is a link-local address, which no network of CloudStack's gives"),
        ("::ffff:10.7.0.21", "is an IPv4 address in IPv6's spelling"),
        ("fd00:7::1", "is a gateway's own address"),
    ],
)
def test_an_ipv6_address_that_no_nic_has_is_left_out(address: str, reason: str) -> None:
    """The IPv4 address beside it stays."""
    document = example()
    document["networks"][1]["ip_address"] = address
    network, reasons = parse(document)
    assert network is not None
    assert [entry["ip_address"] for entry in network["networks"]] == ["10.7.0.21"]
    assert len(reasons) == 1 and reasons[0].endswith(reason)


@pytest.mark.parametrize("mask", ["255.255.255.254", "31", 32])
def test_all_addresses_of_the_smallest_networks_are_a_nics(mask: Any) -> None:
    """A network of two addresses, or of one, has none for itself (RFC 3021)."""
    document = example()
    document["networks"][0].update(ip_address="10.7.0.20", netmask=mask)
    network, reasons = parse(document)
    assert network is not None and network["networks"][0]["ip_address"] == "10.7.0.20"
    assert reasons == ()


def test_the_gateway_may_be_a_key_of_the_network() -> None:
    """Routed networks say it so (apache/cloudstack#13758); the answer is the same as for a route."""
    usual = example()
    routed = example()
    routed["networks"][0]["gateway"] = routed["networks"][0].pop("routes")[0]["gateway"]
    assert parse(routed) == parse(usual)
    both = example()
    both["networks"][0]["gateway"] = "10.7.0.1"
    assert parse(both) == parse(usual)
    both["networks"][0]["gateway"] = "10.7.0.9"
    network, reasons = parse(both)
    assert network == parse(usual)[0]
    assert reasons == ("networks[0] (eth0): gateway 10.7.0.9: 10.7.0.1 is its gateway already",)


@pytest.mark.parametrize(
    ("gateway", "reason"),
    [
        ("127.0.0.1", "gateway 127.0.0.1 is a loopback address"),
        ("10.7.0.255", "gateway 10.7.0.255 is the broadcast address of 10.7.0.0/24"),
        ("10.7.0.1\nName=*", r'route: gateway "10.7.0.1\nName=*" is not an address'),
        ("fe80::1", 'route: gateway "fe80::1" is not an IPv4 address'),
    ],
)
def test_a_wrong_gateway_costs_the_route(gateway: str, reason: str) -> None:
    """The address is taken without one."""
    document = example()
    document["networks"][0]["routes"][0]["gateway"] = gateway
    network, reasons = parse(document)
    assert network is not None
    assert (network["networks"][0]["ip_address"], network["networks"][0]["routes"]) == ("10.7.0.21", [])
    assert reasons == (f"networks[0] (eth0): {reason}",)


def test_a_link_local_gateway_is_one() -> None:
    """Routed networks have 169.254.0.1 and fe80::1."""
    document = example()
    for network, gateway in zip(document["networks"], ("169.254.0.1", "fe80::1")):
        network["routes"][0]["gateway"] = gateway
    network, reasons = parse(document)
    assert network is not None and reasons == ()
    assert [one["routes"][0]["gateway"] for one in network["networks"]] == ["169.254.0.1", "fe80::1"]


def test_a_route_to_somewhere_is_not_cloudstacks() -> None:
    """It has a reason, and the default route behind it is taken."""
    document = example()
    document["networks"][0]["routes"].insert(
        0, {"gateway": "10.7.0.9", "netmask": "255.255.0.0", "network": "10.9.0.0"}
    )
    network, reasons = parse(document)
    assert network == parse(example())[0]
    assert reasons == ("networks[0] (eth0): route: 10.9.0.0/16: CloudStack gives default routes only",)


def test_of_two_links_with_one_mac_that_with_a_network_counts() -> None:
    """Wherever it stands; the other is named."""
    for place in (0, 1):
        document = example()
        other = {"ethernet_mac_address": "02-01-00-aa-bb-cc", "id": "eth7", "mtu": 1450, "type": "phy"}
        document["links"].insert(place, other)
        network, reasons = parse(document)
        assert network == parse(example())[0]
        assert reasons == (f"links[{place}] (eth7): its MAC address is that of eth0 already",)


def test_two_links_with_one_id_are_the_first() -> None:
    """Whose the networks of the second would be, nobody can tell."""
    document = example()
    document["links"].append({"ethernet_mac_address": "02:01:00:00:00:09", "id": "eth0", "type": "phy"})
    network, reasons = parse(document)
    assert network == parse(example())[0]
    assert reasons == ("links[1] (eth0): another link has this id already",)


@pytest.mark.parametrize("mac", ["ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "00:00:00:00:00:00"])
def test_a_mac_that_no_nic_has_is_refused(mac: str) -> None:
    """Groups and nothing are no NIC's."""
    document = example()
    document["links"][0]["ethernet_mac_address"] = mac
    network, reasons = parse(document)
    assert network is not None and network["links"] == []
    assert reasons[0] == f"links[0] (eth0): ethernet_mac_address {mac} is no NIC's"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.53", "127.0.0.53 is a loopback address"),
        ("0.0.0.0", "0.0.0.0 is no address"),
        ("fe80::53", "fe80::53 is a link-local address, which says nothing without a NIC"),
        ("nameserver.example", 'address "nameserver.example" is not an address'),
    ],
)
def test_a_name_server_that_is_none_is_left_out(address: str, reason: str) -> None:
    """Each for itself."""
    document = example()
    document["services"].append({"type": "dns", "address": address})
    network, reasons = parse(document)
    assert network == parse(example())[0]
    assert reasons == (f"services[2]: {reason}",)


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


@pytest.mark.parametrize("kind", ["bond", "vlan"])
def test_a_link_made_of_other_nics_is_not_cloudstacks(kind: str) -> None:
    """OpenStack's have the MAC address of a NIC, which has nothing of theirs."""
    document = example()
    document["links"][0]["type"] = kind
    network, reasons = parse(document)
    assert network is not None and document["links"][0]["id"] not in [one["id"] for one in network["links"]]
    assert any(f"type {kind}: it is made of other NICs" in reason for reason in reasons)


def test_a_link_without_a_mac_cannot_be_found() -> None:
    """Ids are CloudStack's own, so a link without a MAC address is worth nothing, nor are its networks."""
    document = example()
    document["links"][0]["ethernet_mac_address"] = "eth0"
    network, reasons = parse(document)
    assert network == {"links": [], "networks": [], "services": [{"type": "dns", "address": "10.7.0.2"}]}
    assert reasons[0] == 'links[0] (eth0): ethernet_mac_address "eth0" is not a MAC address'


def test_too_much_is_cut_with_a_reason() -> None:
    """Lists are read to a limit, and so are the reasons."""
    document = example()
    document["services"] = [{"address": "x", "type": "dns"}] * 70
    document["links"] += ["x"] * 60
    network, reasons = parse(document)
    assert network is not None and network["services"] == []
    assert "services: 70 entries, only 64 are read" in reasons
    assert len(reasons) == 65 and reasons[-1].endswith("more entries were left out")


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
    assert parse(network) == (network, ())


@pytest.mark.parametrize("name", sorted(path.name for path in SAMPLES.iterdir()))
def test_what_is_clean_is_clean(name: str) -> None:
    """What a child has cleaned is cleaned once more outside of it: a second time changes nothing."""
    for path in (SAMPLES / name).rglob("network_data.json"):
        network, _reasons = parse(json.loads(path.read_text()))
        assert parse(network) == (network, ())


@given(st.integers(1, 128), st.sampled_from(["number", "text", "address"]))
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
