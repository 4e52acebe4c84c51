"""What of a lease is kept in a support archive: enough to be parsed the same, and nothing else."""

import random
import time

import pytest
from support.captures import CHOSEN, scenarios

from csagent.discovery import interfaces
from csagent.discovery.finder import prepare
from csagent.discovery.leases.belief import statements
from csagent.discovery.leases.client import RawLeases
from csagent.doctor.bundle import leases
from csagent.model import Rejected
from csagent.system.seams import System

DHCLIENT = "/var/lib/dhcp/dhclient.leases"
PIECES = (b"\n", b"}", b"lease {", b'"', b"'", b"=", b"[x]\n", b"<lease>", b";", b"\r", b"\xff", b"\0")
PIECES += (b"ADDRESS=192.0.2.9\n", b"option routers 192.0.2.9;\n", b"\xe2\x80\x83", b" # x\n")


def damaged(content, chance):
    """A lease file as nobody writes it: cut, spliced, shuffled, with lines twice."""
    for _ in range(chance.randint(1, 4)):
        lines = content.split(b"\n")
        place, line = chance.randrange(len(content) + 1), chance.randrange(len(lines))
        kind = chance.randrange(6)
        if kind == 0:
            content = content[:place]
        elif kind == 1:
            content = content[:place] + chance.choice(PIECES) + content[place:]
        elif kind == 2:
            content = content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :]
        elif kind == 3:
            content = b"\n".join(chance.sample(lines, len(lines)))
        elif kind == 4:
            content = b"\n".join([*lines[:line], chance.choice(lines), *lines[line:]])
        else:
            content = b"\n".join([*lines[:line], *lines[line + 1 :]])
    return content


def about(statement, nics):
    """A statement; of one about a NIC that there is not, what kind it is."""
    known = statement.interface is None or statement.interface in [nic.name for nic in nics]
    another = isinstance(statement, Rejected) and statement.reason.startswith("it is about ")
    return statement if known and not another else (type(statement), statement.path)


@pytest.mark.parametrize("seed", range(4))
def test_kept_lease_says_what_the_damaged_one_said(seed):
    """Whatever is wrong with a lease file, what the finder makes of it does not change in the archive."""
    chance = random.Random(seed)
    pool = []
    for path in scenarios(CHOSEN):
        system = System.at(str(path))
        pool.append((prepare(system).leases, interfaces.nics(system)))
    changed = 0
    for _ in range(500):
        raw, nics = chance.choice(pool)
        files = {path: damaged(content, chance) for path, content in raw.files.items()}
        kept = {path: leases.kept(path, content) for path, content in files.items()}
        before, after = (
            list(statements(RawLeases(files=some, marks=raw.marks), nics)) for some in (files, kept)
        )
        assert [about(one, nics) for one in after] == [about(one, nics) for one in before], files
        changed += before != list(statements(RawLeases(raw.files, raw.unread, raw.marks), nics))
    assert changed > 100


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("  option routers 10.1.1.1; # EXAMPLE", "  option routers 10.1.1.1;"),
        ("  option routers 10.1.1.1; EXAMPLE", "# left out"),
        ('  option host-name "web-01";', '  option host-name "web-01";'),
        ('  option host-name "web-01 EXAMPLE EX.AMPLE";', '  option host-name "web-01 ? ?";'),
        ('  option domain-search "a.example.org", "b.example.org", "EXAMPLE";', None),
        ('  option unknown-252 "EXAMPLE";', "# left out"),
        ("  expire 5 2162/01/01 00:00:00;", "  expire 5 2162/01/01 00:00:00;"),
        ("DOMAINNAME=cs2cloud.internal EXAMPLE", "DOMAINNAME=cs2cloud.internal ?"),
        ("SERVERID='10.1.1.1'", "SERVERID='10.1.1.1'"),
        ("IPADDR='$(EXAMPLE)'", "IPADDR='?'"),
        ("ROUTER=EXAMPLE", "ROUTER=?"),
        ("  option routers EXAMPLE;", "  option routers ?;"),
        ("PROTO='dhcp'", "PROTO='dhcp'"),
        ("TYPE='EXAMPLE'", "TYPE='?'"),
        ("AWS_SECRET_ACCESS_KEY=EXAMPLE", "# left out"),
        ("# EXAMPLE", "# left out"),
        ("[wifi_EXAMPLE]", "[left-out]"),
        ("[dhcp4]", "[dhcp4]"),
        ("  <server-id>10.1.1.1</server-id>", "<server-id>10.1.1.1</server-id>"),
        ("  <auth>EXAMPLE</auth>", "# left out"),
        ("<EXAMPLE>", "# left out"),
        ("DHCP4.OPTION[3]:  ip_address = 10.1.1.42", "DHCP4.OPTION[3]:  ip_address = 10.1.1.42"),
        ("DHCP4.OPTION[3]:  wpad = EXAMPLE", "# left out"),
        ("10.1.1.1", "10.1.1.1"),
        ("48151623", "# left out"),
        ("root:$6$EXAMPLE:1::::::", "# left out"),
    ],
)
def test_a_line_is_written_anew_from_what_it_says(line, kept):
    """Known names with addresses, numbers and one name; of a search list the domains; nothing else."""
    kept = '  option domain-search "a.example.org","b.example.org","?";' if kept is None else kept
    assert leases.kept(DHCLIENT, line.encode()).decode().replace(", ", ",") == kept
    assert leases.kept(DHCLIENT, kept.encode()).decode() == kept  # and once more, nothing is lost


MESSAGE = bytes([2]) + bytes(15) + bytes([10, 1, 1, 42]) + bytes(24) + b"EXAMPLE-sname".ljust(64, b"\0")
MESSAGE += b"EXAMPLE-file".ljust(128, b"\0") + b"\x63\x82\x53\x63\x35\x01\x05\x36\x04\x0a\x01\x01\x01"
MESSAGE += b"\x0c\x0eweb-01 EXAMPLE" + b"\xfc\x0eEXAMPLE-option\xff EXAMPLE behind the end"


def test_a_dhcp_message_keeps_its_known_options_only():
    """dhcpcd's raw messages: other options, and the fields that carry none, are set to zero."""
    kept = leases.kept("/var/lib/dhcpcd/eth0.lease", MESSAGE)
    assert len(kept) == len(MESSAGE) and b"EXAMPLE" not in kept
    assert b"\x36\x04\x0a\x01\x01\x01" in kept and b"\x0c\x0eweb-01\0" in kept
    assert set(leases.kept("/var/lib/dhcpcd/eth1.lease", b"root:EXAMPLE:1::::::\n" * 20)) == {0}


def test_json_keeps_its_known_members_only():
    """networkctl's and cloud-init's: members and options that a lease has."""
    answer = (
        b'{"Index": 2, "Secret": "EXAMPLE", "Name": "eth0 EXAMPLE", "DHCPv4Client": {"Lease": {"Message": {'
        b'"options": [{"tag": 252, "data": "aabb"}, {"tag": 54, "data": "0a010101"},'
        b'{"tag": 15, "data": "612e622045"}]}}}}'
    )
    kept = leases.kept("networkctl --json=short status eth0", answer)
    assert b"EXAMPLE" not in kept and b"Secret" not in kept and b"aabb" not in kept
    assert b'"0a010101"' in kept and b'"612e620000"' in kept
    assert leases.kept("/var/tmp/cloud-init/eth0.lease.json", b"EXAMPLE") == b"# left out"


@pytest.mark.parametrize(
    "piece",
    [
        "a_b.c-",
        "x ",
        "'\"",
        '"\\" ',
        "[x]",
        "option routers ",
        "<a>",
        "DNS= ,",
        "DHCP4.OPTION[1]: ",
        ", ",
        "; #",
        "\t",
        "=",
        "9.",
        "\n",
        "DNS=\n",
    ],
)
def test_a_line_without_end_costs_no_more_than_its_length(piece):
    """256 KiB of what is looked for, in one line: no more than seconds of the processor."""
    content = (piece * (256 * 1024 // len(piece))).encode()
    started = time.process_time()
    for path in (DHCLIENT, "/var/lib/dhcpcd/x.lease", "/var/tmp/cloud-init/x.lease.json"):
        leases.kept(path, content)
    assert time.process_time() - started < 5.0
