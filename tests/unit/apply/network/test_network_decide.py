"""Which NICs are configured and which are left alone, and why."""

from __future__ import annotations

import json
from typing import Any, Dict, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.network_nics import (
    DHCP,
    MAC,
    SECOND_MAC,
    THIRD_MAC,
    link,
    machine,
    network,
    nic,
    parsed,
    raw_document,
    usual,
)

from csagent.apply.network import document, renderers
from csagent.apply.network.decide import decide, gone, source
from csagent.apply.network.document import NOTHING_SAID
from csagent.apply.network.machine import IFUPDOWN, NETWORKD, NETWORKMANAGER, PLAIN, Assigned, Hop, Owner
from csagent.apply.network.plan import NicPlan
from csagent.apply.network.renderers import ifupdown, networkd, networkmanager
from csagent.sources import network_data
from csagent.state.network import NetworkMemory, NicRecord

OURS = Owner(NETWORKD, ours=True, how=networkd.path(MAC))


def one(*args: Any, **more: Any) -> NicPlan:
    (decided,) = decide(*args, **more).nics
    return decided


def recorded(state: str = "applied", **files: str) -> NetworkMemory:
    said = usual()
    record = NicRecord(state, source(said, said.links[0]), "no answer", files, ("10.7.0.21/24",))
    return NetworkMemory({MAC: record}, said.digest)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lease": "10.1.1.42, by dhclient"}, "it has a DHCP lease: 10.1.1.42, by dhclient"),
        ({"part_of": "bond0"}, "it is a part of bond0"),
        ({"given": SECOND_MAC}, f"somebody has given it another MAC address, {SECOND_MAC}"),
        ({"twin": "eth7"}, "eth7 has the same MAC address"),
        (
            {"owner": Owner(NETWORKD, against="somebody configures it: /etc/x")},
            "somebody configures it: /etc/x",
        ),
        ({"owner": Owner()}, "nobody is in charge of it"),
        ({"owner": Owner("connman", against="connman is in charge of it")}, "connman is in charge of it"),
        ({"addresses": (Assigned("192.0.2.9/24"),)}, "it has an address that somebody gave it: 192.0.2.9/24"),
    ],
)
def test_a_nic_of_somebody_elses_is_left_alone(changes: Dict[str, Any], reason: str) -> None:
    """A lease, a bond, another's configuration or address: the reason says which."""
    decided = one(usual(), machine(nic(**changes)))
    assert (decided.do, decided.reason, decided.files, decided.wanted) == ("leave", reason, (), None)


@pytest.mark.parametrize(
    "address",
    [
        Assigned("fe80::1:ff:fec4:5/64", link_local=True),
        Assigned("fd00:7::9/64", permanent=False),
        Assigned("10.7.0.21/24"),
    ],
)
def test_an_address_that_nobody_set_by_hand_is_no_objection(address: Assigned) -> None:
    """The kernel's own, a router advertisement's, and the very one that the document gives."""
    assert one(usual(), machine(nic(addresses=(address,)))).do == "configure"


@pytest.mark.parametrize("said", [NOTHING_SAID, parsed(raw_document([link(0, MAC)], [], ["10.7.0.2"]))])
def test_a_document_without_addresses_says_nothing(said: document.Document) -> None:
    """`{}`, only links, only services: what csagent wrote before stays, too."""
    plan = decide(said, machine(nic(owner=OURS), written={MAC: {networkd.path(MAC): "x"}}))
    assert plan.nothing
    assert [decided.do for decided in plan.nics] == ["leave"]


def test_without_a_document_all_is_left() -> None:
    """No drive, or one that nobody can read: not even the file of a NIC that is gone is taken away."""
    plan = decide(None, machine(nic(), written={SECOND_MAC: {networkd.path(SECOND_MAC): "x"}}))
    assert plan.nothing and [decided.do for decided in plan.nics] == ["leave"]


def test_all_is_left_where_a_setting_says_so() -> None:
    """Each NIC has that reason."""
    plan = decide(usual(), machine(nic(), nic("ens4", SECOND_MAC)), left="the setting network is false")
    assert {decided.reason for decided in plan.nics} == {"the setting network is false"}


def test_a_nic_that_the_document_lacks_is_left() -> None:
    """A file of ours for it stays as well: its network may just be another's now."""
    plan = decide(usual(), machine(nic(), nic("ens4", SECOND_MAC, OURS)))
    assert [(decided.do, decided.reason) for decided in plan.nics[1:]] == [
        ("leave", "the document does not have it")
    ]


def test_a_nic_is_known_by_its_own_mac_address_or_by_the_one_it_was_given() -> None:
    """A bond gives its ports one MAC address: each is there by its own. What CloudStack names counts."""
    ports = [nic("ens3", MAC, part_of="bond0"), nic("ens4", SECOND_MAC, part_of="bond0", given=MAC)]
    links = [link(0, MAC), link(1, SECOND_MAC)]
    networks = [network(0, "10.7.0.21/24", "10.7.0.1"), network(1, "10.8.0.21/24", "10.8.0.1")]
    written = {mac: {networkd.path(mac): "fingerprint"} for mac in (MAC, SECOND_MAC)}
    plan = decide(parsed(raw_document(links, networks)), machine(*ports, written=written))
    assert [(one.mac, one.do, one.reason) for one in plan.nics] == [
        (MAC, "leave", "it is a part of bond0"),
        (SECOND_MAC, "leave", "it is a part of bond0"),
    ]
    assert plan.absent == ()
    (named,) = decide(usual(), machine(nic(mac=SECOND_MAC, given=MAC))).nics
    assert (named.mac, named.do) == (MAC, "configure")


def test_the_files_of_a_nic_that_is_gone_go() -> None:
    """Also under a document that says nothing; those of a NIC that the document has stay: it may come."""
    paths = (networkd.path(THIRD_MAC), networkmanager.path(THIRD_MAC))
    for said in (usual(), NOTHING_SAID):
        gone = decide(said, machine(nic(), written={THIRD_MAC: dict.fromkeys(paths, "x")})).nics[-1]
        assert (gone.mac, gone.interface, gone.do) == (THIRD_MAC, None, "remove")
        assert [(file.path, file.content) for file in gone.files] == [(path, None) for path in paths]
    coming = decide(usual(), machine(nic("ens4", SECOND_MAC), written={MAC: {networkd.path(MAC): "x"}}))
    assert coming.absent == (MAC,)
    assert [decided.do for decided in coming.nics] == ["leave"]


def test_the_block_of_a_nic_that_is_gone_goes_from_the_shared_file() -> None:
    """ifupdown's: the other NIC's stays; with the last one the file and its script go, the file first."""
    first = one(usual(), machine(nic(owner=Owner(IFUPDOWN))))
    text = next(str(file.content) for file in first.files if file.path == ifupdown.PATH)
    two = raw_document([link(1, SECOND_MAC)], [network(1, "172.16.31.9/21", None)])
    second = one(parsed(two), machine(nic("ens4", SECOND_MAC, Owner(IFUPDOWN)), interfaces=text))
    both = next(str(file.content) for file in second.files if file.path == ifupdown.PATH)
    assert "mapping ens3\n" in both and "mapping ens4\n" in both
    written = {SECOND_MAC: {ifupdown.PATH: "x"}}
    gone = decide(usual(), machine(nic(owner=Owner(IFUPDOWN)), interfaces=both, written=written)).nics[-1]
    assert {file.path: file.content for file in gone.files}[ifupdown.PATH] == text
    last = decide(NOTHING_SAID, machine(interfaces=text, written={MAC: {ifupdown.PATH: "x"}})).nics[-1]
    assert [(file.path, file.content) for file in last.files] == [
        (ifupdown.PATH, None),
        (ifupdown.SCRIPT, None),
    ]


def test_what_failed_is_not_tried_again_for_the_same_document() -> None:
    """Unless somebody says so, or the document says something else of the NIC."""
    there = machine(nic())
    left = one(usual(), there, recorded("failed"))
    assert (left.do, left.reason) == ("leave", "tried before with this document, and put back: no answer")
    assert one(usual(), there, recorded("failed"), again=True).do == "configure"
    assert one(usual("10.7.0.99/24"), there, recorded("failed")).do == "configure"


def test_what_the_owner_changed_stays_until_the_document_changes() -> None:
    """An edit of our file, or its removal, is a choice made inside the VM."""
    path = networkd.path(MAC)
    memory = recorded("applied", **{path: "as written"})
    for written in ({}, {MAC: {path: "edited"}}):
        left = one(usual(), machine(nic(owner=OURS), written=written), memory)
        assert left.do == "leave" and "owner has changed or removed" in left.reason
        assert one(usual("10.7.0.99/24"), machine(nic(owner=OURS), written=written), memory).do == "configure"
        assert one(usual(), machine(nic(owner=OURS), written=written), memory, again=True).do == "configure"
    same = machine(nic(owner=OURS), written={MAC: {path: "as written"}})
    assert one(usual(), same, memory).do == "configure"


def test_an_address_beside_ours_goes_only_when_ours_changes() -> None:
    """It was added by hand, and would vanish at the next reload: without a change there is none."""
    beside = nic(owner=OURS, addresses=(Assigned("10.7.0.21/24"), Assigned("192.0.2.9/24")))
    for said in (usual(), usual("10.7.0.99/24")):
        assert one(said, machine(beside), recorded("applied")).do == "configure"


def test_an_address_beside_ours_is_known_to_whoever_mends() -> None:
    """Where the document is the same: to mend a file would take it away. Not where somebody asks for that."""
    beside = machine(nic(owner=OURS, addresses=(Assigned("10.7.0.21/24"), Assigned("192.0.2.9/24"))))
    told = one(usual(), beside, recorded("applied"))
    assert told.beside == ("192.0.2.9/24",) and "192.0.2.9/24 is somebody's" in told.reason
    assert one(usual(), beside, recorded("applied"), again=True).beside == ()
    assert one(usual("10.7.0.99/24"), beside, recorded("applied")).beside == ()


def test_of_another_instance_only_files_for_nics_that_are_gone_go() -> None:
    """Those of a NIC that is there stay, and no NIC is configured or left by it."""
    written = {MAC: {networkd.path(MAC): "x"}, SECOND_MAC: {networkd.path(SECOND_MAC): "x"}}
    (decided,) = gone(machine(nic(), written=written)).nics
    assert (decided.do, decided.mac) == ("remove", SECOND_MAC)


def test_a_lease_on_a_nic_of_ours_is_an_old_one() -> None:
    """Our file has no DHCP: a lease file that names the address was left by what ran before."""
    assert one(usual(), machine(nic(owner=OURS, lease="10.7.0.21, by dhclient"))).do == "configure"


def test_a_lease_of_the_last_boot_is_waited_for() -> None:
    """A NIC that had one under this document is not taken before DHCP could answer: two minutes."""
    memory = NetworkMemory(document=usual().digest, leased=(MAC,))
    soon = one(usual(), machine(nic(), since_boot=5.0), memory)
    assert soon.do == "leave" and "DHCP may give it one again" in soon.reason
    assert one(usual(), machine(nic(), since_boot=500.0), memory).do == "configure"
    assert one(usual("10.7.0.99/24"), machine(nic(), since_boot=5.0), memory).do == "configure"


def two_nics(first: Optional[str] = "10.7.0.1", second: Optional[str] = "172.16.24.1") -> document.Document:
    networks = [network(0, "10.7.0.21/24", first), network(1, "172.16.31.9/21", second)]
    return parsed(raw_document([link(0, MAC), link(1, SECOND_MAC)], networks, ["10.7.0.2"]))


def orders(said: document.Document, *devices: Any) -> Dict[str, Any]:
    plan = decide(said, machine(*devices))
    return {
        str(one.interface): ([route.order for route in one.wanted.routes], bool(one.wanted.dns))
        for one in plan.nics
        if one.wanted
    }


def test_the_only_route_is_the_first_where_nobody_else_has_one() -> None:
    """eth0 has no gateway; a lease or a route of a NIC that is left alone keeps the first place."""
    said = two_nics(first=None)
    pair = (nic(), nic("ens4", SECOND_MAC))
    assert orders(said, *pair) == {"ens3": ([], False), "ens4": ([1], True)}
    leased = nic("ens8", THIRD_MAC, lease="10.1.1.42, by dhclient")
    assert orders(said, *pair, leased) == {"ens3": ([], False), "ens4": ([2], False)}
    routed = nic("ens8", THIRD_MAC, routes=(Hop(4, "192.0.2.1", 0),))
    assert orders(said, *pair, routed) == {"ens3": ([], False), "ens4": ([2], False)}


def test_the_name_servers_stay_with_somebody_elses_default_nic() -> None:
    """eth0 is configured by its owner, and so is its DNS."""
    owned = nic(owner=Owner(NETWORKD, against="somebody configures it"), routes=(Hop(4, "10.7.0.1", 0),))
    assert orders(two_nics(), owned, nic("ens4", SECOND_MAC)) == {"ens4": ([2], False)}


def test_without_any_route_the_lowest_number_has_the_name_servers() -> None:
    """They are neighbours then, or out of reach."""
    assert orders(two_nics(None, None), nic(), nic("ens4", SECOND_MAC)) == {
        "ens3": ([], True),
        "ens4": ([], False),
    }


def test_an_mtu_that_cannot_be_is_left_out() -> None:
    """IPv6 needs 1280, and a device has its own limit; the reason names it."""
    small = raw_document([link(0, MAC, 1000)], [network(0, "fd00:7::21/64", "fd00:7::1")])
    plan = decide(parsed(small), machine(nic()))
    assert plan.nics[0].wanted is not None and plan.nics[0].wanted.mtu is None
    assert plan.refused == ("eth0: mtu 1000: IPv6 needs 1280",)
    large = raw_document([link(0, MAC, 9000)], [network(0, "10.7.0.21/24", "10.7.0.1")])
    assert decide(parsed(large), machine(nic(max_mtu=2000))).refused == (
        "eth0: mtu 9000: ens3 takes 2000 at most",
    )
    fits = decide(parsed(large), machine(nic(max_mtu=65535))).nics[0].wanted
    assert fits is not None and fits.mtu == 9000


def test_two_gateways_of_one_family_are_the_first() -> None:
    """The other has a reason."""
    networks = [network(0, "10.7.0.21/24", "10.7.0.1"), network(0, "10.8.0.21/24", "10.8.0.1")]
    plan = decide(parsed(raw_document([link(0, MAC)], networks)), machine(nic()))
    assert plan.nics[0].wanted is not None
    assert plan.nics[0].wanted.addresses == ("10.7.0.21/24", "10.8.0.21/24")
    assert [route.via for route in plan.nics[0].wanted.routes] == ["10.7.0.1"]
    assert plan.refused == ("eth0: gateway 10.8.0.1: 10.7.0.1 is its gateway already",)


def test_name_servers_go_where_they_take_effect() -> None:
    """resolv.conf where nobody has it; where somebody has, the reason says who."""
    plain = one(usual(), machine(nic(), resolver=PLAIN, resolv_conf="search example\n"))
    assert plain.files[-1].path == "/etc/resolv.conf"
    assert "nameserver 10.7.0.2\n" in str(plain.files[-1].content)
    made = one(usual(), machine(nic(), resolver="dnsmasq.d"))
    assert [file.path for file in made.files] == [networkd.path(MAC)]
    assert "not its name servers: /etc/resolv.conf is made by dnsmasq.d" in made.reason
    for resolver in (NETWORKMANAGER, PLAIN):
        decided = one(usual(), machine(nic(owner=Owner(NETWORKMANAGER)), resolver=resolver))
        assert [file.path for file in decided.files] == [networkmanager.path(MAC)]
        assert "name servers" not in decided.reason


def test_files_for_the_system_that_had_the_nic_before_go() -> None:
    """The machine was moved from NetworkManager to systemd-networkd."""
    old = networkmanager.path(MAC)
    decided = one(usual(), machine(nic(), written={MAC: {old: "x"}}))
    assert [(file.path, file.content is None) for file in decided.files] == [
        (networkd.path(MAC), False),
        (old, True),
    ]


def test_every_nic_has_a_reason_of_one_line() -> None:
    """What CloudStack gives it, and what configures it now."""
    decided = one(usual(), machine(nic()))
    assert decided.reason == (
        "CloudStack gives it 10.7.0.21/24; "
        "now it is configured by DHCP by /run/systemd/network/10-netplan-all-en.network"
    )
    assert decided.owner == DHCP.manager


words = st.sampled_from(
    ["eth0", "eth1", MAC, SECOND_MAC, "10.7.0.21", "10.7.0.1", "255.255.255.0", "0.0.0.0", "::", "0", "64",
     "fd00:7::21", "fe80::1", "169.254.0.1", "ipv4", "ipv6", "dns", "phy", "127.0.0.1", "x\n[Match]\nName=*"]
)  # fmt: skip
entries = st.dictionaries(
    st.sampled_from(["ethernet_mac_address", "id", "mtu", "type", "link", "ip_address", "netmask", "gateway",
                     "address", "network"]),
    words | st.none() | st.integers(-1, 70000),
    max_size=8,
)  # fmt: skip


def with_routes(entry: Dict[str, Any]) -> st.SearchStrategy[Dict[str, Any]]:
    return st.lists(entries, max_size=2).map(lambda routes: {**entry, "routes": routes})


hostile = st.fixed_dictionaries(
    {
        "links": st.lists(entries, max_size=4),
        "networks": st.lists(entries.flatmap(with_routes), max_size=5),
        "services": st.lists(entries, max_size=3),
    }
)


@given(hostile, st.sampled_from([NETWORKD, NETWORKMANAGER, IFUPDOWN]))
def test_a_hostile_document_reaches_no_file(raw: Dict[str, Any], manager: str) -> None:
    """Whatever it says: one decision for each NIC, and only addresses, names and numbers in the files."""
    cleaned, reasons = network_data.parse(raw)
    there = machine(nic(owner=Owner(manager)), nic("ens4", SECOND_MAC, Owner(manager)))
    plan = decide(document.of(cleaned), there, refused=reasons)
    assert [decided.mac for decided in plan.nics] == [MAC, SECOND_MAC]
    for decided in plan.nics:
        for file in decided.files:
            assert "Name=*" not in str(file.content) and "127.0.0.1" not in str(file.content)
            renderers.fingerprint(decided.mac, file.path, str(file.content))
    json.dumps([decided.reason for decided in plan.nics])


junk = st.lists(
    st.none() | st.integers() | st.text(max_size=8) | entries.map(lambda entry: {**entry, "id": "eth9"}),
    max_size=4,
)


@given(junk, junk, junk, st.booleans(), st.sampled_from([NETWORKD, NETWORKMANAGER, IFUPDOWN]))
def test_what_is_sound_is_applied_beside_anything(
    links: Any, networks: Any, services: Any, last: bool, manager: str
) -> None:
    """Each other entry is taken or has a reason, before or behind the sound ones."""
    foreign = [one for one in links if not (isinstance(one, dict) and one.get("ethernet_mac_address") == MAC)]
    networks = [
        {**one, "link": "eth9"} if isinstance(one, dict) and one.get("link") == "eth0" else one
        for one in networks
    ]
    good = raw_document([link(0, MAC)], [network(0, "10.7.0.21/24", "10.7.0.1")], ["10.7.0.2"])
    odd = {"links": foreign, "networks": networks, "services": services}
    raw = {key: [*good[key], *odd[key]] if last else [*odd[key], *good[key]] for key in good}
    cleaned, reasons = network_data.parse(raw)
    assert cleaned is not None
    decided = decide(document.of(cleaned), machine(nic(owner=Owner(manager))), refused=reasons).nics[0]
    assert decided.wanted is not None and decided.wanted.addresses == ("10.7.0.21/24",)
    assert [route.via for route in decided.wanted.routes] == ["10.7.0.1"]
    assert "10.7.0.2" in decided.wanted.dns
    for key, taken in (("links", "id"), ("networks", "ip_address"), ("services", "address")):
        values = {one[taken] for one in cleaned[key]}
        for place, entry in enumerate(raw[key]):
            said = isinstance(entry, dict) and str(entry.get(taken)) in values
            assert said or any(reason.startswith(f"{key}[{place}]") for reason in reasons), (entry, reasons)
