"""Lease parsers: whatever stands in a file, no error, and no address that the whole file does not name."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from csagent.discovery.leases import (
    cloud_init,
    dhclient,
    dhcpcd,
    networkd,
    networkmanager,
    text,
    wicked,
)
from csagent.discovery.leases.belief import CLIENTS
from csagent.discovery.leases.client import RawLeases
from csagent.model import Lease, Nic, Rejected
from csagent.system.seams import Completed, NoCommands
from csagent.system.tree import READ_LIMIT
from csagent.validation import ipv4

CAPTURES = Path(__file__).resolve().parents[3] / "fixtures" / "leases"
NICS = (
    Nic("eth0", 2, "02:00:4c:9f:00:05", ("10.1.1.42",)),
    Nic("eth1", 3, "02:00:6d:12:00:07", ("10.3.3.88",)),
)
UUID = "dd9e9c5d-1f9b-4f40-9d84-2f1e1c0f6a10"

PATHS = (
    "/run/systemd/netif/leases/2",
    "/run/systemd/netif/links/3",
    "/run/NetworkManager/devices/2",
    f"/var/lib/NetworkManager/internal-{UUID}-eth0.lease",
    f"/var/lib/NetworkManager/dhclient-{UUID}-eth0.lease",
    "/run/wicked/leaseinfo.eth0.dhcp.ipv4",
    "/var/lib/wicked/lease-eth0-dhcp-ipv4.xml",
    "/run/dhcp-server-ip.eth0",
    "/run/udhcpc-env/eth0.bound",
    "/var/lib/dhcpcd/eth0.lease",
    "/var/lib/dhcp/dhclient.leases",
    "/var/lib/dhcp/dhclient.eth0.leases",
    "/var/db/dhclient.leases.vtnet0",
    "/run/dhclient.lease",
    "/var/tmp/cloud-init/eth0.lease.json",
    "/run/net-eth0.conf",
    "/var/lib/connman/ethernet_02004c9f0005_cable/settings",
)

COMMANDS = (
    "networkctl --json=short status eth0",
    "nmcli -f DHCP4 device show eth0",
    "dhcpcd -U eth0",
)


class Answers(NoCommands):
    """A runner that gives one answer to every command it knows."""

    def __init__(self, answers):
        self.answers = answers

    def run(self, argv, *, stdin=b"", timeout=10.0, limit=READ_LIMIT):
        output = self.answers.get(" ".join(argv))
        return Completed(None if output is None else 0, output or b"", b"")


def say(files, commands=None, marks=()):
    """What all clients make of these files and command outputs."""
    raw = RawLeases(files=dict(files), marks=set(marks), runner=Answers(commands or {}))
    return [statement for client in CLIENTS for statement in client.statements(raw, NICS)]


def leases(*args, **kwargs):
    return [statement for statement in say(*args, **kwargs) if isinstance(statement, Lease)]


def asking(output, command):
    """Leases from a command's output, with the files that make each client ask."""
    files = {
        "/run/systemd/netif/links/2": b"ADMIN_STATE=configured\n",
        "/run/NetworkManager/devices/2": b"[device]\n",
    }
    return leases(files, {command: output}, {"/run/dhcpcd/pid"})


def addresses(lease):
    one = (lease.address, lease.server_identifier, lease.next_server)
    return {address for address in (*one, *lease.routers, *lease.name_servers) if address}


def assert_sound(statements):
    for statement in statements:
        assert isinstance(statement, (Lease, Rejected))
        if isinstance(statement, Rejected):
            assert statement.reason and "\n" not in statement.reason
            continue
        assert all(ipv4(address) == address for address in addresses(statement))
        assert statement.domain_name is None or text.domain(statement.domain_name)


LINES = st.lists(
    st.sampled_from(
        [
            b"lease {",
            b"}",
            b'  interface "eth0";',
            b"  fixed-address 10.1.1.42;",
            b"  option dhcp-server-identifier 10.1.1.12;",
            b"  expire never;",
            b"ADDRESS=10.1.1.42",
            b"SERVER_ADDRESS=10.1.1.12",
            b"[dhcp4]",
            b"dhcp4.ip_address=10.1.1.42",
            b"dhcp4.expiry=99999999999999999999",
            b"IPADDR='10.1.1.42/24'",
            b"SERVERID='10.1.1.12'",
            b"serverid=10.1.1.12",
            b"<address>10.1.1.42</address>",
            b"</lease>",
            b"",
            b"\xff\x00",
        ]
    )
).map(b"\n".join)


@given(
    content=st.one_of(
        st.binary(max_size=600),
        LINES,
        st.binary(max_size=400).map(lambda tail: b"\x02" * 236 + dhcpcd.MAGIC + tail),
    )
)
def test_any_bytes_in_any_file(content):
    """Random bytes, and lines of the formats shuffled, in every lease file raise nothing."""
    assert_sound(say({path: content for path in PATHS}))
    for client in CLIENTS:
        assert client.complete(content) in (True, False)


@given(content=st.one_of(st.binary(max_size=600), LINES))
def test_any_bytes_from_any_command(content):
    """The same from every command that is asked."""
    for command in COMMANDS:
        assert_sound(asking(content, command))


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8), st.just("DHCPv4")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                [
                    "Addresses",
                    "ConfigSource",
                    "ConfigProvider",
                    "Address",
                    "DNS",
                    "Routes",
                    "DHCPv4Client",
                    "Lease",
                    "Message",
                    "options",
                    "tag",
                    "data",
                    "siaddr",
                ]
            ),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=30,
)


@given(document=JSON)
def test_any_json_from_networkctl(document):
    """JSON of any shape under networkctl's own keys is survived."""
    import json

    assert_sound(asking(json.dumps(document).encode(), COMMANDS[0]))
    assert_sound(say({"/var/tmp/cloud-init/eth0.lease.json": json.dumps(document).encode()}))


def captured():
    """One capture of each file format: (guest path, content), the longest where there are several."""
    best = {}
    for scenario in sorted(CAPTURES.glob("*/*")):
        if not scenario.is_dir() or scenario.name.startswith("truncated"):
            continue
        for path in PATHS:
            file = scenario / path[1:]
            if file.is_file() and len(file.read_bytes()) > len(best.get(path, b"")):
                best[path] = file.read_bytes()
    return [pytest.param(path, content, id=path.rsplit("/", 1)[-1]) for path, content in sorted(best.items())]


def named_in(content):
    """The addresses that a text names as wholes."""
    return set(re.findall(rb"(?<![\d.])\d+\.\d+\.\d+\.\d+(?![\d.])", content))


@pytest.mark.parametrize(("path", "content"), captured())
def test_cut_files_name_no_other_address(path, content):
    """Cut at any byte, a file yields no address that the whole does not name: 10.1.1.12 cut is 10.1.1.1."""
    if path.startswith("/var/lib/dhcpcd"):
        allowed = {address.encode() for lease in leases({path: content}) for address in addresses(lease)}
    else:
        allowed = named_in(content)
    files = {"/run/dhcp-server-ip.eth0": b"10.1.1.12\n"} if "udhcpc-env" in path else {}
    allowed |= {address for file in files.values() for address in named_in(file)} | {b"10.1.1.42"}
    for end in range(len(content)):
        for lease in leases({**files, path: content[:end]}):
            assert {address.encode() for address in addresses(lease)} <= allowed, end


def command_captures():
    import json

    best = {}
    for recorded in sorted(CAPTURES.glob("*/*/recorded.json")):
        commands = json.loads(recorded.read_text())["commands"]
        for command in COMMANDS:
            if command in commands:
                content = (recorded.parent / commands[command]).read_bytes()
                if len(content) > len(best.get(command, b"")):
                    best[command] = content
    return [
        pytest.param(command, content, id=command.split()[0]) for command, content in sorted(best.items())
    ]


@pytest.mark.parametrize(("command", "content"), command_captures())
def test_cut_answers_name_no_other_address(command, content):
    """The same for the output of a command."""
    whole = {address for lease in asking(content, command) for address in addresses(lease)}
    assert whole
    step = 1 if len(content) < 4096 else 7
    for end in range(0, len(content), step):
        for lease in asking(content[:end], command):
            assert addresses(lease) <= whole, end


@settings(max_examples=60)
@given(junk=st.binary(max_size=40), place=st.integers(0, 400))
def test_bytes_pushed_into_a_dhcp_message(junk, place):
    """A raw DHCP message with foreign bytes in it: no exception, only unicast addresses."""
    content = (CAPTURES / "dhcpcd-10.1.0/tricky-bytes/var/lib/dhcpcd/eth0.lease").read_bytes()
    assert_sound([dhcpcd.message(content[:place] + junk + content[place:], "eth0", "x")])


BLOCK = b"""lease {
  interface "eth0";
  fixed-address 10.1.1.42;
%s
}
"""


@pytest.mark.parametrize(
    "line",
    [
        b'  option wpad "x; option dhcp-server-identifier 198.51.100.66;";',
        b'  filename "a"; option dhcp-server-identifier 198.51.100.66;',
        b"# option dhcp-server-identifier 198.51.100.66;",
        b"  option dhcp-server-identifier 198.51.100.66",
        b"  option dhcp-server-identifier 10.1.1.999;",
        b"  option dhcp-server-identifier 0.0.0.0;",
        b"  option dhcp-server-identifier 255.255.255.255;",
        b"  option dhcp-server-identifier 127.0.0.1;",
        b"  option dhcp-server-identifier 224.0.0.1;",
        b"  option dhcp-server-identifier 10.1.1.01;",
        b"  next-server 198.51.100.66;",
        b"  option dhcp-server-identifier-x 198.51.100.66;",
    ],
)
def test_dhclient_line_that_is_no_identifier(line):
    """Only a whole statement at the beginning of a line, with a unicast address, is the identifier."""
    (lease,) = leases({"/var/lib/dhcp/dhclient.leases": BLOCK % line})
    assert lease.server_identifier is None


def test_dhclient_last_whole_block_counts():
    """Of an interface the last block that ends counts; one that is cut, or cut and overtaken, does not."""
    old = BLOCK % b"  option dhcp-server-identifier 10.1.1.11;"
    new = BLOCK % b"  option dhcp-server-identifier 10.1.1.12;"
    for content, expected in (
        (old + new, "10.1.1.12"),
        (old + new[:-3], "10.1.1.11"),
        (old[:-9] + b"\n" + new, "10.1.1.12"),
    ):
        (lease,) = leases({"/var/lib/dhcp/dhclient.leases": content})
        assert lease.server_identifier == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("6 2026/11/21 04:17:24", 1795234644),
        ("5 2026/9/25 05:01:33", 1790312493),
        ("2 2162/12/28 10:37:11", 6090201431),
        ("4 1970/01/01 00:00:00", 0),
        ("2 2028/02/29 12:00:00", 1835438400),
        ("epoch 1797827860", 1797827860),
        ("never", None),
        ("7 yesterday", None),
        (None, None),
    ],
)
def test_dhclient_times(written, expected):
    """dhclient's times are UTC, padded or not, and have no last year."""
    assert dhclient.moment(written) == expected


def test_dhclient_lease_given_up():
    """A block whose times are all the same was appended by `dhclient -r` or `ifdown`, if that is past."""
    times = b"\n".join(b"  %s 6 2026/11/21 04:17:24;" % word for word in (b"renew", b"rebind", b"expire"))
    (statement,) = say({"/var/lib/dhcp/dhclient.leases": BLOCK % times})
    assert statement.given_up and statement.expires == 1795234644
    times = times.replace(b"expire 6", b"expire 0")
    assert not say({"/var/lib/dhcp/dhclient.leases": BLOCK % times})[0].given_up


def test_dhcpv6_leases_are_passed_over():
    """A DHCPv6 lease file, newer or not, says nothing about a virtual router."""
    assert (
        say({"/var/lib/dhcp/dhclient6.eth0.leases": BLOCK % b"", "/var/lib/dhcp/x.lease6": b"lease {"}) == []
    )


def test_redhat_file_names():
    """RHEL 6 and 7 name the NIC in the file name, dhclient-IF.leases and dhclient--IF.lease."""
    block = BLOCK.replace(b'  interface "eth0";\n', b"") % b"  option dhcp-server-identifier 10.1.1.1;"
    for name in ("dhclient-eth0.leases", "dhclient--eth0.lease"):
        (lease,) = leases({f"/var/lib/dhclient/{name}": block})
        assert (lease.interface, lease.server_identifier) == ("eth0", "10.1.1.1")


def test_value_said_twice_is_not_believed():
    """A key that a file says twice with different values may be text smuggled into another value."""
    content = b"ADDRESS=10.1.1.42\nSERVER_ADDRESS=10.1.1.1\nROOT_PATH=x\nSERVER_ADDRESS=198.51.100.66\n"
    (lease,) = leases({"/run/systemd/netif/leases/2": content})
    assert lease.server_identifier is None


def test_option_in_parts_and_in_the_file_field():
    """Option 54 is found where option 52 gives the file field away, and a wrong length makes it none."""
    head = bytearray(240)
    head[0], head[16:20], head[236:240] = 2, bytes([10, 1, 1, 42]), dhcpcd.MAGIC
    head[108:115] = b"\x36\x04\x0a\x01\x01\x0c\xff"
    overloaded = dhcpcd.message(bytes(head) + b"\x34\x01\x01\xff", "eth0", "x")
    assert isinstance(overloaded, Lease)
    assert overloaded.server_identifier == "10.1.1.12"
    long = dhcpcd.message(bytes(head) + b"\x36\x05\x0a\x01\x01\x0c\x01\xff", "eth0", "x")
    assert isinstance(long, Lease)
    assert long.server_identifier is None
    nak = dhcpcd.message(bytes(head) + b"\x35\x01\x06\xff", "eth0", "x")
    assert isinstance(nak, Rejected)


def test_boot_servers_are_never_identifiers():
    """siaddr under each of its names is next_server (field/dhcp-leases#rule-5)."""
    files = {
        "/run/systemd/netif/leases/2": b"ADDRESS=10.1.1.42\nNEXT_SERVER=10.1.1.77\n",
        "/run/NetworkManager/devices/2": b"[device]\nnext-server=10.1.1.77\n"
        b"[dhcp4]\ndhcp4.ip_address=10.1.1.42\n",
        "/run/wicked/leaseinfo.eth0.dhcp.ipv4": b"IPADDR='10.1.1.42/24'\nBOOTSERVERADDR='10.1.1.77'\n",
        "/run/net-eth0.conf": b"PROTO='dhcp'\nIPV4ADDR='10.1.1.42'\nROOTSERVER='10.1.1.77'\n",
    }
    found = leases(files)
    assert len(found) == 4
    assert {(lease.server_identifier, lease.next_server) for lease in found} == {(None, "10.1.1.77")}


@pytest.mark.parametrize(
    "content",
    [
        b"lease {\n" + b" " * READ_LIMIT + b";\n}\n",
        b"lease {\n" + b' "; ' * (READ_LIMIT // 4) + b"\n}\n",
        b"lease {\n  option " + b'\\"' * (READ_LIMIT // 2) + b";\n}\n",
        b"SERVER_ADDRESS='" + b"'\\''" * (READ_LIMIT // 4) + b"'\n",
        b"DNS=" + b"1.1.1.1 " * (READ_LIMIT // 8) + b"\n",
        b"<" + b"a" * READ_LIMIT + b">\n</lease>\n",
        b"[" * READ_LIMIT + b"\n",
        b"DHCP4.OPTION[1]:" + b" " * READ_LIMIT + b"\n",
    ],
)
def test_no_input_takes_long(content):
    """The largest file that is read, built against backtracking, is parsed by all clients within seconds."""
    start = time.process_time()
    assert_sound(say({path: content for path in PATHS}))
    for command in COMMANDS:
        assert_sound(asking(content, command))
    assert time.process_time() - start < 10


def test_udhcpc_without_a_hook_says_so():
    """A running udhcpc with the stock script is named as recording no identifier."""
    (statement,) = say({}, marks={"/run/udhcpc.eth0.pid"})
    assert statement == Rejected(
        "/run/udhcpc.eth0.pid", "udhcpc", "eth0", "udhcpc does not record the server identifier"
    )


def test_commands_are_asked_only_where_files_lack_the_answer():
    """networkctl is not run beside a lease file, nmcli not beside [dhcp4], dhcpcd not beside its lease."""
    wrong = {
        "networkctl --json=short status eth0": b'{"Addresses":[{"ConfigSource":"DHCPv4",'
        b'"Address":[10,1,1,42],"ConfigProvider":[9,9,9,9]}]}',
        "nmcli -f DHCP4 device show eth0": b"DHCP4.OPTION[1]: ip_address = 10.1.1.42\n",
        "dhcpcd -U eth0": b"ip_address=10.1.1.42\n",
    }
    message = (CAPTURES / "dhcpcd-10.1.0/tricky-bytes/var/lib/dhcpcd/eth0.lease").read_bytes()
    files = {
        "/run/systemd/netif/links/2": b"ADMIN_STATE=configured\n",
        "/run/systemd/netif/leases/2": b"ADDRESS=10.1.1.42\nSERVER_ADDRESS=10.1.1.1\n",
        "/run/NetworkManager/devices/2": b"[device]\n[dhcp4]\ndhcp4.ip_address=10.1.1.42\n",
        "/var/lib/dhcpcd/eth0.lease": message,
    }
    found = leases(files, wrong, {"/run/dhcpcd/pid"})
    assert [lease.path for lease in found] == [path for path in files if "links" not in path]
    assert len(leases({}, wrong)) == 0


def test_clients_have_names_of_their_own():
    """Each client is told apart by its name and its files."""
    assert len({client.NAME for client in CLIENTS}) == len(CLIENTS)
    for one in (cloud_init, networkd, networkmanager, wicked):
        assert all(pattern.startswith("/") for pattern in one.FILES)


def test_option_cut_short_is_left_out():
    """An option that promises more bytes than there are is none, so a cut domain name is no domain."""
    content = b"\0" * 236 + dhcpcd.MAGIC + b"\x36\x04\x0a\x01\x01\x0c" + b"\x0f\x11cs2cloud.int"
    assert dhcpcd.options(content) == {54: b"\x0a\x01\x01\x0c"}


def test_wicked_file_without_its_end():
    """wicked's XML counts only as a whole: what is missing may be what makes it no lease."""
    path = "/var/lib/wicked/lease-eth0-dhcp-ipv4.xml"
    content = (CAPTURES / "wicked-0.6.80/stale-early" / path[1:]).read_bytes()
    assert isinstance(say({path: content})[0], Lease)
    (statement,) = say({path: content.replace(b"</lease>", b"")})
    assert isinstance(statement, Rejected)
    (statement,) = say({path: content.replace(b"granted", b"released")})
    assert isinstance(statement, Rejected)


def test_router_option_of_zeros_is_none() -> None:
    """Another provider sends router 0.0.0.0 to non-default NICs (field/cloudstack#2.8, #edge-7)."""
    from csagent.discovery.leases import networkd

    text = b"ADDRESS=10.1.1.42\nROUTER=0.0.0.0\nSERVER_ADDRESS=10.1.1.1\n"
    lease = networkd.lease(text, "eth0", networkd.NAME, "/run/x")
    assert isinstance(lease, Lease) and lease.routers == ()
