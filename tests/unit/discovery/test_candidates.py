"""The order in which addresses are asked."""

import pytest
from support.replace_fields import replace

from csagent.discovery.candidates import Resolver, candidates
from csagent.discovery.networks import lies_within
from csagent.model import Lease, Nic, Route

ETH0 = Nic("eth0", 2, None, ("10.1.1.42",), (24,))
ETH1 = Nic("eth1", 3, None, ("10.3.3.88",), (25,))
LEASE0 = Lease(
    "eth0",
    "systemd-networkd",
    "10.1.1.42",
    server_identifier="10.1.1.12",
    routers=("10.1.1.1",),
    domain_name="cs2cloud.internal",
    name_servers=("10.1.1.12", "198.51.100.53"),
    next_server="10.1.1.77",
)
LEASE1 = Lease("eth1", "systemd-networkd", "10.3.3.88", server_identifier="10.3.3.1", next_server="10.3.3.1")
ROUTE0 = Route("eth0", "10.1.1.1", 100)


def listed(*args):
    return [(one.interface, one.kind, one.address) for one in candidates(*args)]


def test_order_within_and_between_nics():
    """Identifier, next-server, data-server., router; the default NIC first, then by index."""
    eth2 = Nic("eth2", 4, None, ("10.4.4.4",))
    lease2 = Lease("eth2", "dhcpcd", "10.4.4.4", server_identifier="10.4.4.1")
    found = listed((ETH0, eth2, ETH1), (ROUTE0,), (lease2, LEASE0, LEASE1), "eth1")
    assert found == [
        ("eth1", "server-identifier", "10.3.3.1"),
        ("eth0", "server-identifier", "10.1.1.12"),
        ("eth0", "next-server", "10.1.1.77"),
        ("eth0", "data-server", "data-server."),
        ("eth0", "gateway", "10.1.1.1"),
        ("eth2", "server-identifier", "10.4.4.1"),
    ]


def test_provenance_and_source():
    """Each says why, where from, what to bind to, and the name what it may stand for and who is asked."""
    first, second, name, gateway, other = candidates((ETH0, ETH1), (ROUTE0,), (LEASE0, LEASE1), "eth0")
    assert first.why == "DHCP server of eth0 (systemd-networkd)"
    assert second.why == "next-server of eth0 (systemd-networkd)"
    assert gateway.why == "router of eth0 (systemd-networkd)"
    assert {one.source for one in (first, second, name, gateway)} == {"10.1.1.42"}
    assert all(one.default for one in (first, second, name, gateway))
    assert name.name_servers == ("10.1.1.12", "198.51.100.53")
    assert name.domain == "cs2cloud.internal"
    assert name.within == ("10.1.1.0/24", "10.1.1.12/32", "10.1.1.77/32", "10.1.1.1/32")
    assert [one.named for one in (first, second, name, gateway, other)] == [True, True, False, True, True]
    assert (other.source, other.default) == ("10.3.3.88", False)
    assert other.why == "DHCP server of eth1 (systemd-networkd), also its next-server"


def test_same_address_of_two_nics_is_two_candidates():
    """The address we ask from is part of the question, so folding is per NIC."""
    twin = Lease("eth1", "dhcpcd", "10.3.3.88", server_identifier="10.1.1.12")
    found = listed((ETH0, ETH1), (), (LEASE0, twin), "eth0")
    assert [one for one in found if one[2] == "10.1.1.12"] == [
        ("eth0", "server-identifier", "10.1.1.12"),
        ("eth1", "server-identifier", "10.1.1.12"),
    ]


RESOLVER = Resolver(("10.1.1.12",), "x.internal", "/etc/resolv.conf")


def test_static_guest():
    """Without a lease: the gateway, which nothing names but a route, from the NIC's first address."""
    (found,) = candidates((ETH0,), (ROUTE0, ROUTE0), (), "eth0")
    assert (found.kind, found.address, found.source) == ("gateway", "10.1.1.1", "10.1.1.42")
    assert found.why == "default route of eth0" and not found.named


def test_static_guest_with_two_addresses():
    """The router may know either of them; what nobody gave the NIC it does not know."""
    both = replace(ETH0, addresses=("169.254.7.7", "10.1.1.42", "10.1.1.43"), prefixes=(16, 24, 24))
    found = candidates((both,), (ROUTE0,), (), "eth0")
    assert [(one.address, one.source) for one in found] == [
        ("10.1.1.1", "10.1.1.42"),
        ("10.1.1.1", "10.1.1.43"),
    ]
    (leased,) = candidates((both,), (), (replace(LEASE1, interface="eth0", address="10.1.1.43"),), "eth0")
    assert leased.source == "10.1.1.43", "a lease says which it is"


def test_the_machines_name_servers_serve_its_only_nic():
    """Where no lease names servers, resolv.conf's are asked; an answer has to lie in the NIC's network."""
    bridge = Nic("docker0", 9, None, ("172.17.0.1",), (16,))
    name, _ = candidates((ETH0, bridge), (ROUTE0,), (), "eth0", RESOLVER)
    assert (name.kind, name.name_servers, name.domain) == ("data-server", ("10.1.1.12",), "x.internal")
    assert name.within == ("10.1.1.0/24",)
    assert name.why == "the name data-server., from the name servers of /etc/resolv.conf"
    bare = replace(LEASE0, name_servers=())
    assert [one.domain for one in candidates((ETH0,), (), (bare,), "eth0", RESOLVER) if one.domain] == [
        "cs2cloud.internal"
    ]


def test_the_machines_name_servers_speak_for_nobody_among_several():
    """With two NICs that count, nobody can tell whose network's servers stand in resolv.conf."""
    lease0 = replace(LEASE0, name_servers=())
    for leases in ((lease0, LEASE1), (LEASE1,), (LEASE0, LEASE1)):
        found = candidates((ETH0, ETH1), (ROUTE0,), leases, "eth0", RESOLVER)
        assert RESOLVER.path not in " ".join(one.why for one in found)


@pytest.mark.parametrize(
    ("address", "networks", "inside"),
    [
        ("10.1.1.7", ("10.1.1.0/24",), True),
        ("10.1.2.7", ("10.1.1.0/24",), False),
        ("10.1.2.7", ("10.1.1.0/24", "10.1.2.7/32"), True),
        ("10.3.3.130", ("10.3.3.0/25",), False),
        ("203.0.113.9", ("0.0.0.0/0",), True),
        ("10.1.1.7", (), False),
    ],
)
def test_an_address_lies_in_a_network(address, networks, inside):
    """By its prefix, however long."""
    assert lies_within(address, networks) is inside


def test_bridges_and_bare_nics_are_not_asked():
    """A container bridge, a NIC without an address and one with a link-local address give no candidate."""
    bridge = Nic("docker0", 9, None, ("172.17.0.1",))
    assert candidates((bridge, Nic("eth2", 4)), (), (), None) == ()
    assert candidates((Nic("eth0", 2, None, ("169.254.7.7",)),), (), (), "eth0") == ()


def test_own_address_is_not_asked():
    """A VM that is itself the router does not ask itself."""
    lease = Lease("eth0", "dhcpcd", "10.1.1.42", server_identifier="10.1.1.12", routers=("10.1.1.42",))
    assert "10.1.1.42" not in [one.address for one in candidates((ETH0,), (), (lease,), "eth0")]


def test_another_nics_address_is_not_asked():
    """A container bridge or a second NIC is this machine, too, whatever a lease says."""
    bridge = Nic("docker0", 9, None, ("172.17.0.1",))
    lease = replace(LEASE0, server_identifier="172.17.0.1", next_server="10.3.3.88", routers=("10.1.1.1",))
    found = [one.address for one in candidates((ETH0, ETH1, bridge), (), (lease,), "eth0")]
    assert found == ["data-server.", "10.1.1.1"]


def test_lease_of_a_tree_without_nics():
    """Where a tree names no NICs, its leases still give candidates."""
    assert listed((), (), (LEASE1,), "eth1")[0] == ("eth1", "server-identifier", "10.3.3.1")
