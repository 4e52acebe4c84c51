"""Which of several leases is believed (field/dhcp-leases#rules), on small trees."""

import json
import os

import pytest

from csagent.discovery.finder import MAX_REJECTED, Evidence, look, prepare
from csagent.discovery.leases.belief import CLIENTS, believe, duration
from csagent.discovery.leases.client import FRESH, MAX_FILES, RETRIES, RawLeases, gather, read_lease_file
from csagent.model import Lease
from csagent.system.seams import Clock, NoCommands, System
from csagent.system.tree import READ_LIMIT, Tree

NOW = 1795234342
ETH0 = {
    "ifindex": 2,
    "ifname": "eth0",
    "address": "02:00:4c:9f:00:05",
    "addr_info": [{"family": "inet", "local": "10.1.1.42"}],
}
CONNECTION = "dd9e9c5d-1f97-4d0e-9d2f-0a1b2c3d4e5f"
KLIBC = "DEVICE='eth0'\nPROTO='dhcp'\nIPV4ADDR='10.1.1.42'\n"


def tree(root, files, links=(ETH0,), commands=None):
    """A recorded tree with these files, NICs and command outputs."""
    recorded = {"ip -j addr": json.dumps(list(links)), **(commands or {})}
    listed = {}
    for number, (command, output) in enumerate(recorded.items()):
        listed[command] = f"_commands/{number}"
        files = {**files, f"/_commands/{number}": output}
    files = {**files, "/recorded.json": json.dumps({"now": NOW, "commands": listed})}
    for path, content in files.items():
        file = root / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return System.at(str(root))


def discover(system):
    return look(system, prepare(system), ["config-2"])


def block(server, address="10.1.1.42", interface="eth0", expire="never"):
    return (
        f'lease {{\n  interface "{interface}";\n  fixed-address {address};\n'
        f"  option dhcp-server-identifier {server};\n  expire {expire};\n}}\n"
    )


def networkd(server, address="10.1.1.42"):
    return f"ADDRESS={address}\nSERVER_ADDRESS={server}\n"


def reasons(found):
    return " | ".join(rejected.reason for rejected in found.rejected)


def test_address_must_be_on_the_nic(tmp_path):
    """field/dhcp-leases#rule-1: an unexpired lease whose address the NIC does not have is stale."""
    found = discover(tree(tmp_path, {"/var/lib/dhcp/dhclient.leases": block("172.20.5.1", "172.20.5.119")}))
    assert found.leases == ()
    assert "172.20.5.119 is not on eth0 now, which has 10.1.1.42" in reasons(found)
    assert all(candidate.address != "172.20.5.1" for candidate in found.candidates)


def test_newest_statement_not_newest_valid_one(tmp_path):
    """field/dhcp-leases#rule-2: behind an expired last block there is no lease, though one looks valid."""
    content = block("10.1.1.1") + block("10.1.1.1", "10.1.1.43", expire="0 2020/01/05 00:00:00")
    found = discover(tree(tmp_path, {"/var/lib/dhcp/dhclient.leases": content}))
    assert found.leases == ()
    assert "10.1.1.43 is not on eth0" in reasons(found)


@pytest.mark.parametrize(("ago", "over"), [(-60, False), (240, False), (360, True), (40 * 86400, True)])
def test_the_address_outranks_the_clock(tmp_path, ago, over):
    """field/dhcp-leases#rule-3: a lease that is over by the clock is asked while the NIC has its address."""
    found = discover(
        tree(tmp_path, {"/var/lib/dhcp/dhclient.leases": block("10.1.1.1", expire=f"epoch {NOW - ago}")})
    )
    assert [lease.server_identifier for lease in found.leases] == ["10.1.1.1"]
    assert any(one.address == "10.1.1.1" for one in found.candidates)
    assert any("ago by this clock" in note for note in found.notes) == over


def test_a_lease_that_is_over_ranks_last(tmp_path):
    """One that holds wins, though its client is trusted less and records no server."""
    files = {
        "/run/dhclient.eth0.leases": "",
        "/var/lib/dhcp/dhclient.eth0.leases": block("10.1.1.66", expire=f"epoch {NOW - 9000}"),
        "/var/lib/dhcp/dhclient.leases": block("10.1.1.1").replace(
            "  option dhcp-server-identifier 10.1.1.1;\n", ""
        ),
    }
    found = discover(tree(tmp_path, files))
    assert [lease.server_identifier for lease in found.leases] == [None]
    assert "expired 2 hours ago" in reasons(found)
    assert all(candidate.address != "10.1.1.66" for candidate in found.candidates)


@pytest.mark.parametrize("ahead", [0, 40 * 86400, 400 * 86400])
@pytest.mark.parametrize(
    "beside",
    [
        {f"/var/lib/NetworkManager/internal-{CONNECTION}-eth0.lease": "ADDRESS=10.1.1.42\n"},
        {"/run/net-eth0.conf": KLIBC + "IPV4GATEWAY='10.1.1.66'\n"},
    ],
)
def test_a_file_without_server_and_end_is_not_believed_for_the_clock_s_sake(tmp_path, ahead, beside):
    """NetworkManager's own copy, or the initramfs', is never over: the file of this boot knows the server."""
    device = (
        f"[dhcp4]\ndhcp4.ip_address=10.1.1.42\ndhcp4.expiry={NOW + 86400 - ahead}\n"
        "dhcp4.dhcp_server_identifier=10.1.1.2\ndhcp4.routers=10.1.1.66\n"
    )
    found = discover(tree(tmp_path, {"/run/NetworkManager/devices/2": device, **beside}))
    assert [lease.server_identifier for lease in found.leases] == ["10.1.1.2"]
    assert found.candidates[0].address == "10.1.1.2"
    assert "does not record the server identifier; NetworkManager does" in reasons(found)


def test_such_a_file_holds_where_the_other_is_of_another_boot_or_address(tmp_path):
    """What lies below /var may be a former network's, and another address on the NIC another client's."""
    silent = {"/run/net-eth0.conf": KLIBC}
    over = {"/var/lib/dhcp/dhclient.leases": block("10.1.1.66", expire=f"epoch {NOW - 9000}")}
    assert discover(tree(tmp_path / "a", {**silent, **over})).leases[0].client == "klibc ipconfig"
    both = {**ETH0, "addr_info": [*ETH0["addr_info"], {"family": "inet", "local": "10.9.9.42"}]}
    over = {"/run/dhclient.eth0.leases": block("10.9.9.1", "10.9.9.42", expire=f"epoch {NOW - 9000}")}
    assert discover(tree(tmp_path / "b", {**silent, **over}, (both,))).leases[0].client == "klibc ipconfig"


def test_without_addresses_the_clock_counts(tmp_path):
    """In a tree that does not say which addresses its NICs have, nothing speaks for a lease that is over."""
    leases = [Lease("eth0", "dhclient", "10.1.1.42", "10.1.1.1", expires=NOW - 9000.0)]
    belief = believe(iter(leases), (), NOW, addresses_known=False)
    assert belief.leases == () and belief.rejected[0].reason.startswith("expired")


ONE_MOMENT = [(NOW + 4_000_000_000, False), (NOW + 1, False), (NOW, True), (NOW - 100, True), (None, False)]


def one_moment(ends, server="10.1.1.1", address="10.1.1.42"):
    """A file of dhclient's whose block is renewed, rebound and over at one moment."""
    moment = "never" if ends is None else f"epoch {ends}"
    times = f"{moment};\n  renew {moment};\n  rebind {moment}"
    return {"/var/lib/dhcp/dhclient.leases": block(server, address, expire=times)}


@pytest.mark.parametrize(("ends", "over"), ONE_MOMENT)
def test_a_lease_that_looks_given_up_is_asked_last_where_its_address_is(tmp_path, ends, over):
    """Who gives it up takes the address off the NIC: where it is, the clock or the server did it."""
    found = discover(tree(tmp_path / "alone", one_moment(ends)))
    assert [lease.server_identifier for lease in found.leases] == ["10.1.1.1"]
    assert found.candidates[0].address == "10.1.1.1"
    assert any("the address is there" in note for note in found.notes) is over
    beside = {"/run/dhclient.lease": block("10.1.1.2")}
    (lease,) = discover(tree(tmp_path / "beside", {**one_moment(ends), **beside})).leases
    assert lease.server_identifier == ("10.1.1.2" if over else "10.1.1.1")


@pytest.mark.parametrize(("ends", "over"), ONE_MOMENT)
def test_a_lease_that_was_given_up_ends_at_once_where_nothing_speaks_for_it(tmp_path, ends, over):
    """Without its address on the NIC it is stale; where addresses are not known, its moment counts."""
    files = one_moment(ends, address="10.1.1.43")
    found = discover(tree(tmp_path, files))
    assert found.leases == () and "10.1.1.43 is not on eth0" in reasons(found)
    expires = None if ends is None else float(ends)
    lease = Lease("eth0", "dhclient", "10.1.1.42", "10.1.1.1", expires=expires, given_up=True)
    belief = believe(iter([lease]), (), NOW, addresses_known=False)
    assert [one.reason for one in belief.rejected] == ["the lease of 10.1.1.42 was given up"] * over


def test_order_of_trust_and_conflict(tmp_path):
    """field/dhcp-leases#rule-4: /run and running daemons first; who names another server is reported."""
    files = {
        "/var/lib/dhcp/dhclient.eth0.leases": block("10.1.1.11"),
        "/run/systemd/netif/leases/2": networkd("10.1.1.12"),
        "/run/dhclient.lease": block("10.1.1.12"),
    }
    found = discover(tree(tmp_path, files))
    assert [(lease.client, lease.server_identifier) for lease in found.leases] == [
        ("systemd-networkd", "10.1.1.12")
    ]
    assert any("10.1.1.11" in note and "systemd-networkd says 10.1.1.12" in note for note in found.notes)
    assert "agrees with systemd-networkd" in reasons(found)


def test_interface_file_before_the_shared_one(tmp_path):
    """Of dhclient's files the one per interface is trusted before the shared one."""
    files = {
        "/var/lib/dhcp/dhclient.leases": block("10.1.1.11"),
        "/var/lib/dhcp/dhclient.eth0.leases": block("10.1.1.12"),
    }
    (lease,) = discover(tree(tmp_path, files)).leases
    assert lease.server_identifier == "10.1.1.12"


def test_identifier_beats_trust(tmp_path):
    """A trusted client that does not know the identifier yields to one that does."""
    files = {
        "/run/net-eth0.conf": "DEVICE='eth0'\nPROTO='dhcp'\nIPV4ADDR='10.1.1.42'\n",
        "/run/systemd/netif/leases/2": "ADDRESS=10.1.1.42\n",
        "/var/lib/dhcp/dhclient.leases": block("10.1.1.1"),
    }
    (lease,) = discover(tree(tmp_path, files)).leases
    assert (lease.client, lease.server_identifier) == ("dhclient", "10.1.1.1")


def test_client_that_records_nothing_still_gives_candidates(tmp_path):
    """field/dhcp-leases#rule-6: klibc's has no identifier, and says so; router and boot server are asked."""
    conf = (
        "DEVICE='eth0'\nPROTO='dhcp'\nIPV4ADDR='10.1.1.42'\nIPV4GATEWAY='10.1.1.1'\n"
        "ROOTSERVER='10.1.1.77'\nIPV4DNS0='10.1.1.1'\n"
    )
    found = discover(tree(tmp_path, {"/run/net-eth0.conf": conf}))
    assert [(one.kind, one.address) for one in found.candidates] == [
        ("next-server", "10.1.1.77"),
        ("data-server", "data-server."),
        ("gateway", "10.1.1.1"),
    ]
    assert any("does not record the DHCP server identifier" in note for note in found.notes)


def test_interfaces_that_are_gone_are_passed_over(tmp_path):
    """field/dhcp-leases#rule-7: leases of a NIC, or of an interface index, that no longer exists."""
    files = {
        "/var/lib/dhcp/dhclient.leases": block("10.1.1.1", interface="eth7"),
        "/run/systemd/netif/leases/9": networkd("10.1.1.1"),
        "/var/lib/dhcp/dhclient6.leases": block("10.1.1.1"),
    }
    found = discover(tree(tmp_path, files))
    assert found.leases == ()
    assert "there is no interface eth7" in reasons(found)
    assert "no interface has the index 9" in reasons(found)


def test_several_nics_in_one_file(tmp_path):
    """dhclient started by hand keeps the blocks of all NICs in one file; interface names may be prefixes."""
    eth1 = {"ifindex": 12, "ifname": "eth01", "addr_info": [{"family": "inet", "local": "10.3.3.88"}]}
    content = block("10.1.1.1") + block("10.3.3.1", "10.3.3.88", "eth01")
    found = discover(tree(tmp_path, {"/var/lib/dhcp/dhclient.leases": content}, (ETH0, eth1)))
    assert {lease.interface: lease.server_identifier for lease in found.leases} == {
        "eth0": "10.1.1.1",
        "eth01": "10.3.3.1",
    }


def test_index_is_a_number(tmp_path):
    """The lease file `11` is not that of interface 1, and `2` is not sorted behind it."""
    eth9 = {"ifindex": 11, "ifname": "eth9", "addr_info": [{"family": "inet", "local": "10.3.3.88"}]}
    files = {
        "/run/systemd/netif/leases/11": networkd("10.3.3.1", "10.3.3.88"),
        "/run/systemd/netif/leases/2": networkd("10.1.1.1"),
        "/run/systemd/netif/leases/.#2abc": networkd("9.9.9.9"),
    }
    found = discover(tree(tmp_path, files, (eth9, ETH0)))
    assert [(lease.interface, lease.server_identifier) for lease in found.leases] == [
        ("eth0", "10.1.1.1"),
        ("eth9", "10.3.3.1"),
    ]


def test_networkctl_where_there_is_no_lease_file(tmp_path):
    """systemd 262 has no lease files: its own answer is used for a NIC that it manages."""
    status = {
        "Addresses": [{"ConfigSource": "DHCPv4", "Address": [10, 1, 1, 42], "ConfigProvider": [10, 1, 1, 1]}]
    }
    commands = {"networkctl --json=short status eth0": json.dumps(status)}
    managed = discover(
        tree(tmp_path / "a", {"/run/systemd/netif/links/2": "ADMIN_STATE=configured\n"}, commands=commands)
    )
    assert managed.leases[0].server_identifier == "10.1.1.1"
    unmanaged = discover(
        tree(tmp_path / "b", {"/run/systemd/netif/links/2": "ADMIN_STATE=unmanaged\n"}, commands=commands)
    )
    assert unmanaged.leases == ()


def test_cloud_init_takes_its_first_address_off_again(tmp_path):
    """Its lease in /run counts while the NIC has no address, not once the NIC has another one."""
    bare = {**ETH0, "addr_info": []}
    files = {"/run/dhclient.lease": block("10.1.1.1", "10.1.1.99")}
    found = discover(tree(tmp_path / "a", files, (bare,)))
    assert found.leases[0].server_identifier == "10.1.1.1"
    assert any("took it off again" in note for note in found.notes)
    assert discover(tree(tmp_path / "b", files)).leases == ()
    elsewhere = {"/var/lib/dhcp/dhclient.leases": block("10.1.1.1", "10.1.1.99")}
    assert discover(tree(tmp_path / "c", elsewhere, (bare,))).leases == ()


def test_tree_without_addresses_takes_leases_as_written(tmp_path):
    """A mounted image does not say which addresses its NICs have: that is said, and expiry still counts."""
    (tmp_path / "var/lib/dhcp").mkdir(parents=True)
    (tmp_path / "var/lib/dhcp/dhclient.leases").write_text(
        block("10.1.1.1") + block("10.9.9.9", "10.9.9.8", "eth1", "0 2020/01/05 00:00:00")
    )
    found = discover(System.at(str(tmp_path)))
    assert [lease.server_identifier for lease in found.leases] == ["10.1.1.1"]
    assert any("does not say which addresses" in note for note in found.notes)


def test_static_guest_says_so(tmp_path):
    """Without any lease it is said that only the name servers and the router can be asked."""
    found = discover(tree(tmp_path, {}))
    assert found.leases == ()
    assert any("no DHCP lease holds on eth0" in note for note in found.notes)


def test_flood_of_blocks_is_bounded(tmp_path):
    """A file that names thousands of interfaces yields a bounded list of rejections."""
    content = "".join(block("10.1.1.1", interface=f"e{number}") for number in range(1500))
    assert len(discover(tree(tmp_path, {"/var/lib/dhcp/dhclient.leases": content})).rejected) == MAX_REJECTED


def test_impossible_interface_names_are_refused():
    """An interface name that the kernel would not allow is neither believed nor repeated."""
    leases = [Lease(name, "dhclient", "10.1.1.42") for name in ("eth0\x1b[2J", "a/b", "x" * 16, "")]
    belief = believe(iter(leases), (), NOW, addresses_known=False)
    assert belief.leases == ()
    assert {rejected.interface for rejected in belief.rejected} == {None}


@pytest.mark.parametrize(
    ("seconds", "shown"), [(1, "1 seconds"), (400, "7 minutes"), (9000, "2 hours"), (864000, "10 days")]
)
def test_durations_in_words(seconds, shown):
    """An age is given in its largest fitting unit."""
    assert duration(seconds) == shown


# --- reading while the client writes ----------------------------------------------------------


class LiveTree(Tree):
    """A scratch directory that passes for the running system."""

    def __init__(self, root):
        super().__init__(str(root))
        self.live = True


class Writer(Clock):
    """A clock whose waiting lets the DHCP client get on with its file."""

    def __init__(self, file, contents):
        self.file, self.contents, self.waits = file, list(contents), 0

    def sleep(self, seconds):
        self.waits += 1
        if self.contents:
            self.file.write_text(self.contents.pop(0))


def live(root, writer):
    return System(tree=LiveTree(root), clock=writer, runner=NoCommands())


def test_file_being_rewritten_is_read_again(tmp_path):
    """dhclient truncates its file at start: an empty and then duid-only file is waited for, briefly."""
    file = tmp_path / "var/lib/dhcp/dhclient.leases"
    file.parent.mkdir(parents=True)
    file.write_text("")
    writer = Writer(file, ['default-duid "x";\n', block("10.1.1.1")])
    raw = gather(live(tmp_path, writer), CLIENTS)
    assert b"10.1.1.1" in raw.files["/var/lib/dhcp/dhclient.leases"]
    assert writer.waits == 2


def test_waiting_for_a_file_has_an_end(tmp_path):
    """A file that stays empty is given up after three looks, and an old empty one is not waited for."""
    file = tmp_path / "var/lib/dhcp/dhclient.leases"
    file.parent.mkdir(parents=True)
    file.write_text("")
    writer = Writer(file, [])
    gather(live(tmp_path, writer), CLIENTS)
    assert writer.waits == RETRIES
    os.utime(file, (file.stat().st_mtime - 10 * FRESH,) * 2)
    writer = Writer(file, [])
    gather(live(tmp_path, writer), CLIENTS)
    assert writer.waits == 0


def test_a_tree_is_never_waited_for(tmp_path):
    """In a tree nobody writes: an empty file there is final."""
    system = tree(tmp_path, {"/var/lib/dhcp/dhclient.leases": ""})
    writer = Writer(tmp_path / "unused", [])
    gather(System(tree=system.tree, clock=writer, runner=system.runner, recorded=True), CLIENTS)
    assert writer.waits == 0


def looking(root, writer):
    """A live system whose NICs are the recorded ones, with a dhclient file in it."""
    recorded = tree(root, {})
    return System(tree=LiveTree(root), clock=writer, runner=recorded.runner, recorded=True)


def test_block_that_comes_after_the_address(tmp_path):
    """dhclient sets the address before it writes the block: yesterday's lease is looked at again."""
    file = tmp_path / "var/lib/dhcp/dhclient.leases"
    old = block("172.20.5.1", "172.20.5.119")
    tree(tmp_path, {"/var/lib/dhcp/dhclient.leases": old, "/run/dhclient.pid": "1\n"})
    writer = Writer(file, [old, old + block("10.1.1.1")])
    found = discover(looking(tmp_path, writer))
    assert [lease.server_identifier for lease in found.leases] == ["10.1.1.1"]
    assert writer.waits == 2


def test_dhclient_that_does_not_run_is_not_waited_for(tmp_path):
    """A static guest with an old lease file does not wait for a dhclient that is not there."""
    file = tmp_path / "var/lib/dhcp/dhclient.leases"
    tree(tmp_path, {"/var/lib/dhcp/dhclient.leases": block("172.20.5.1", "172.20.5.119")})
    writer = Writer(file, [])
    assert discover(looking(tmp_path, writer)).leases == ()
    assert writer.waits == 0


def test_large_files(tmp_path):
    """Of a dhclient file of 100 MB the newest end is read; any other client's is refused."""
    folder = tmp_path / "var/lib/dhcp"
    folder.mkdir(parents=True)
    with open(folder / "dhclient.leases", "wb") as file:
        file.write(block("10.1.1.11").encode())
        file.truncate(100 << 20)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + block("10.1.1.12").encode())
    content, _ = read_lease_file(System.at(str(tmp_path)), "/var/lib/dhcp/dhclient.leases")
    assert len(content) <= READ_LIMIT
    assert b"10.1.1.12" in content
    (tmp_path / "lease").write_bytes(b"x" * (READ_LIMIT + 1))
    with pytest.raises(OSError, match="too large"):
        read_lease_file(System.at(str(tmp_path)), "/lease")


def test_links_and_odd_files_are_not_followed(tmp_path):
    """A lease file that is a symlink in a directory of somebody else, or no file at all, is not read."""
    folder = tmp_path / "run/systemd/netif/leases"
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_text("ADDRESS=10.1.1.42\n")
    (folder / "2").symlink_to("/secret")
    os.mkfifo(folder / "3")
    raw = gather(System.at(str(tmp_path)), CLIENTS)
    assert raw.files == {}
    assert set(raw.unread) == {"/run/systemd/netif/leases/2", "/run/systemd/netif/leases/3"}


@pytest.mark.parametrize("where", ["/run/NetworkManager/devices", "/run/systemd/netif/links"])
@pytest.mark.parametrize("client", ["NetworkManager", "dhclient"])
def test_a_lease_beside_hundreds_of_interfaces(tmp_path, where, client):
    """Each veth has a file; the first NIC's counts first, and no client takes another's place."""
    files = {f"{where}/{1000 + number}": "[device]\nmanaged=false\n" for number in range(MAX_FILES + 10)}
    if client == "dhclient":
        files["/var/lib/dhcp/dhclient.eth0.leases"] = block("10.1.1.1")
    else:
        said = "dhcp4.ip_address=10.1.1.42\ndhcp4.dhcp_server_identifier=10.1.1.1\n"
        files["/run/NetworkManager/devices/2"] = f"[device]\nmanaged=true\n\n[dhcp4]\n{said}"
    found = discover(tree(tmp_path, files))
    assert [lease.server_identifier for lease in found.leases] == ["10.1.1.1"]
    (note,) = [note for note in found.notes if "could not be read" in note]
    assert f" files {where}/* could not be read: {MAX_FILES} are" in note


def test_unreadable_file_is_reported(tmp_path):
    """What could not be read is said, since it may hold the answer."""
    system = tree(tmp_path, {})
    raw = RawLeases(unread={"/var/lib/dhcpcd/eth0.lease": "Permission denied"})
    found = look(system, Evidence(leases=raw), ())
    assert any(
        "/var/lib/dhcpcd/eth0.lease could not be read: Permission denied" in note for note in found.notes
    )
