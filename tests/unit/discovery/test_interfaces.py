"""NICs, default routes, and which NIC is the default one."""

import json
import socket
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csagent.discovery import interfaces, netlink
from csagent.model import Lease, Nic, Route
from csagent.system.seams import System

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def line(name="eth0", destination="00000000", gateway="0101010A", flags="0003", metric=0, mask="00000000"):
    return f"{name}\t{destination}\t{gateway}\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


def proc(tmp_path, *lines):
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/route").write_text(HEAD + "".join(lines))
    return interfaces.routes(System.at(str(tmp_path)))


def test_routes_by_metric(tmp_path):
    """Default routes with a gateway, lowest metric first; others are no default routes."""
    found = proc(
        tmp_path,
        line("eth1", gateway="0103030A", metric=1024),
        line("eth0", metric=100),
        line("eth0", destination="0001010A", gateway="00000000", flags="0001", mask="00FFFFFF"),
        line("eth0", destination="00000080", mask="00000080"),
    )
    assert found == (Route("eth0", "10.1.1.1", 100), Route("eth1", "10.3.3.1", 1024))


@pytest.mark.parametrize(
    "bad",
    [
        line("eth1", gateway="00000000", flags="0001"),  # connman: default dev eth1 scope link
        line("*", gateway="00000000", flags="0201"),  # a blackhole
        line("eth0", flags="0203"),
        line("eth0", flags="0002"),  # not up
        line("eth0", gateway="00000000", flags="0003"),
        line("eth0", gateway="zzz"),
        line("eth0", gateway="1FFFFFFFF"),
        "eth0\t00000000\n",
        "\n",
    ],
)
def test_lines_that_are_no_way_out(tmp_path, bad):
    """A default route without a gateway, a rejecting one, and nonsense are left out."""
    assert proc(tmp_path, bad) == ()


@given(text=st.text(max_size=300))
def test_any_route_table_text(text):
    """Any text in /proc/net/route gives routes or nothing."""
    for route in interfaces.parse_proc_route(HEAD + text):
        assert isinstance(route, Route)


ETH0, ETH1 = Nic("eth0", 2), Nic("eth1", 3)


def lease(name, *routers):
    return Lease(name, "dhclient", "10.1.1.42", routers=routers)


def test_default_by_lowest_metric():
    """The lowest metric decides, not the name or the index."""
    routes = (Route("eth1", "10.3.3.1", 100), Route("eth0", "10.1.1.1", 200))
    assert interfaces.default_interface(routes, (), (ETH0, ETH1)) == ("eth1", ())


def test_default_by_router_option():
    """Before there is a route, the lease with a router option is the default NIC's; no guess."""
    assert interfaces.default_interface((), (lease("eth0"), lease("eth1", "10.3.3.1")), (ETH0, ETH1)) == (
        "eth1",
        (),
    )


def test_default_that_is_a_guess():
    """Several leases with routers, or equal metrics: lowest index, and it is called a guess."""
    ens10, ens9 = Nic("ens10", 3), Nic("ens9", 2)
    name, notes = interfaces.default_interface(
        (), (lease("ens10", "10.3.3.1"), lease("ens9", "10.1.1.1")), (ens10, ens9)
    )
    assert name == "ens9"
    assert "guess" in notes[0]
    routes = (Route("ens10", "10.3.3.1", 0), Route("ens9", "10.1.1.1", 0))
    name, notes = interfaces.default_interface(routes, (), (ens10, ens9))
    assert name == "ens9"
    assert "guess" in notes[0]
    name, notes = interfaces.default_interface(routes, (lease("ens10", "10.3.3.1"),), (ens10, ens9))
    assert name == "ens10"
    assert notes


def test_default_without_a_hint():
    """The only NIC is the default one; of two without a route or a router, none is."""
    assert interfaces.default_interface((), (), (ETH0,)) == ("eth0", ())
    assert interfaces.default_interface((), (lease("eth0"),), (ETH0, ETH1)) == (None, ())
    assert interfaces.default_interface((), (), ()) == (None, ())


def recorded(tmp_path, output):
    (tmp_path / "addr.json").write_text(output)
    (tmp_path / "recorded.json").write_text(json.dumps({"now": 0, "commands": {"ip -j addr": "addr.json"}}))
    return System.at(str(tmp_path))


def test_recorded_nics(tmp_path):
    """`ip -j addr` of a recorded tree: loopback left out, label addresses are the NIC's own."""
    links_json = [
        {
            "ifindex": 1,
            "ifname": "lo",
            "flags": ["LOOPBACK"],
            "addr_info": [{"family": "inet", "local": "127.0.0.1"}],
        },
        {
            "ifindex": 7,
            "ifname": "eth0",
            "address": "02:00:4c:9f:00:05",
            "addr_info": [
                {"family": "inet6", "local": "fe80::1"},
                {"family": "inet", "local": "10.1.1.42", "label": "eth0"},
                {"family": "inet", "local": "10.1.1.43", "label": "eth0:1"},
            ],
        },
        {"ifindex": "x", "ifname": "odd"},
        "nonsense",
    ]
    system = recorded(tmp_path, json.dumps(links_json))
    assert interfaces.nics(system) == (Nic("eth0", 7, "02:00:4c:9f:00:05", ("10.1.1.42", "10.1.1.43")),)
    assert interfaces.addresses_known(system)


@pytest.mark.parametrize("output", ["", "{", "{}", "null", "[" * 100000])
def test_recorded_nonsense(tmp_path, output):
    """Broken output of `ip` gives no NICs."""
    assert interfaces.nics(recorded(tmp_path, output)) == ()


def test_names_of_an_unrecorded_tree(tmp_path):
    """Without a recording only the tree's own sys/class/net speaks, and of names alone."""
    for name, index in (("lo", "1"), ("eth1", "3"), ("eth0", "2"), ("odd", "x")):
        folder = tmp_path / "sys/class/net" / name
        folder.mkdir(parents=True)
        (folder / "ifindex").write_text(index + "\n")
    system = System.at(str(tmp_path))
    assert interfaces.nics(system) == (Nic("eth0", 2), Nic("eth1", 3))
    assert not interfaces.addresses_known(system)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="netlink is Linux's")
def test_live_nics_are_the_kernels():
    """On this machine both readers agree with the kernel's list of names, and with each other."""
    pytest.importorskip("netifaces")
    names = {name for _, name in socket.if_nameindex()} - {"lo"}
    found = interfaces.nics(System())
    assert {nic.name for nic in found} == names
    by_netlink = {nic.name: (nic.ifindex, set(nic.addresses)) for nic in netlink.nics()}
    assert {nic.name: (nic.ifindex, set(nic.addresses)) for nic in found} == by_netlink


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="netlink is Linux's")
def test_live_routes_by_netlink_and_proc_agree():
    """rtnetlink and /proc/net/route name the same default routes here."""
    with open("/proc/net/route") as file:
        assert set(netlink.routes()) >= set(interfaces.parse_proc_route(file.read()))


# --- rtnetlink messages -----------------------------------------------------------------------


def attribute(kind, content):
    size = 4 + len(content)
    return struct.pack("=HH", size, kind) + content + b"\0" * (-size % 4)


def route(*attributes, length=0, table=254, kind=1, flags=0):
    return struct.pack("=BBBBBBBBI", socket.AF_INET, length, 0, 0, table, 0, 0, kind, flags) + b"".join(
        attributes
    )


GATEWAY = attribute(netlink.RTA_GATEWAY, bytes([10, 1, 1, 1]))
OIF = attribute(netlink.RTA_OIF, struct.pack("=I", 2))
METRIC = attribute(netlink.RTA_PRIORITY, struct.pack("=I", 100))


def test_route_message():
    """A default route of the main table: interface, gateway, metric."""
    assert list(netlink.default_hops(route(OIF, GATEWAY, METRIC))) == [(2, "10.1.1.1", 100)]


@pytest.mark.parametrize(
    "message",
    [
        route(OIF, GATEWAY, length=24),
        route(OIF, GATEWAY, table=100),
        route(OIF, GATEWAY, attribute(netlink.RTA_TABLE, struct.pack("=I", 1000))),
        route(OIF, GATEWAY, kind=6),  # blackhole
        route(OIF),
        route(OIF, attribute(18, b"\x0a\0" + b"\xfe\x80" + b"\0" * 14)),  # by an IPv6 next hop, RFC 5549
        route(OIF, GATEWAY, flags=1),
    ],
)
def test_route_messages_that_are_no_way_out(message):
    """Other prefixes, policy tables, blackholes, no gateway, an IPv6 one, a dead link."""
    assert list(netlink.default_hops(message)) == []


def test_multipath_route():
    """Every live hop of a multipath default route counts."""
    hops = b""
    for index, last, flags in ((2, 1, 0), (3, 2, 0), (4, 3, 1)):
        inner = attribute(netlink.RTA_GATEWAY, bytes([10, 1, 1, last]))
        hops += struct.pack("=HBBi", 8 + len(inner), flags, 0, index) + inner
    message = route(METRIC, attribute(netlink.RTA_MULTIPATH, hops))
    assert list(netlink.default_hops(message)) == [(2, "10.1.1.1", 100), (3, "10.1.1.2", 100)]


@given(data=st.binary(max_size=200))
def test_any_netlink_bytes(data):
    """Cut or senseless messages end in ValueError at most, and never loop."""
    try:
        for _, body in netlink.messages(data):
            assert isinstance(body, bytes)
    except ValueError:
        pass
    assert isinstance(netlink.attributes(data), dict)
    list(netlink.default_hops(route(attribute(netlink.RTA_MULTIPATH, data))))
