"""Who is believed: a neighbour, a second network or a user of this VM has a password, beside the true router.

Everything is real but the cloud: dnsmasq, dhclient, chpasswd, and libc with the doors that machines have into
name look-ups. Attacks run with the router up, and with its password server down, by hand and by the daemon.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest
from support.debian_image import REPOSITORY, Installed, run
from support.network_segment import FAKE_SYS, MAC, Guest, Segment
from support.printed_lines import line_of
from support.replace_fields import replace
from support.vm_cloud import PASSWORD, describe, hash_verifies

from csagent.lab.password_replies import SHAPES
from csagent.lab.router import LabRouter

pytestmark = [pytest.mark.netns, pytest.mark.root]

SERVER, GATEWAY, ADDRESS = "10.2.2.2", "10.2.2.1", "10.2.2.42"
NEIGHBOUR = "10.2.2.66"  # on the VM's own network, and no DHCP server
ELSEWHERE, ELSEWHERE_ADDRESS = "10.9.9.2", "10.9.9.42"  # the second network, whose servers are hostile
BRIDGE = "172.17.0.1"  # of the VM itself
MALLORY = 1500
NOBODYS = 9  # a port where no client looks
OTHER_MAC = MAC[:-2] + "06"
VM = describe("web-01", 1)
EVIL = "marker-EvilPwEXAMPLE"
DAEMON_PASSES = 3
PASS_DEADLINE = 600.0  # seconds

# What a name service of nsswitch.conf (LLMNR, mDNS, WINS ...) comes to for who asks libc.
NSS_MODULE = r"""
#include <nss.h>
#include <netdb.h>
#include <string.h>
#include <stdint.h>
#include <arpa/inet.h>
enum nss_status _nss_evil_gethostbyname2_r(const char *name, int af, struct hostent *result,
                                           char *buffer, size_t length, int *error, int *herror) {
    char **list = (char **)(((uintptr_t)buffer + 15) & ~(uintptr_t)15);
    if (af != AF_INET || strncmp(name, "data-server", 11) || length < 128) return NSS_STATUS_NOTFOUND;
    char *address = (char *)(list + 4);
    inet_pton(AF_INET, ADDRESS, address);
    list[0] = address; list[1] = 0; list[2] = 0;
    result->h_name = (char *)name; result->h_aliases = list + 2;
    result->h_addrtype = AF_INET; result->h_length = 4; result->h_addr_list = list;
    return NSS_STATUS_SUCCESS;
}
enum nss_status _nss_evil_gethostbyname_r(const char *name, struct hostent *result, char *buffer,
                                          size_t length, int *error, int *herror) {
    return _nss_evil_gethostbyname2_r(name, AF_INET, result, buffer, length, error, herror);
}
"""

# A password server inside the VM, by whoever may listen there.
LISTENER = """
import socket, sys
listener = socket.create_server((sys.argv[1], 8080))
print("up", flush=True)
while True:
    connection, _ = listener.accept()
    connection.recv(4096)
    connection.sendall(bytes.fromhex(sys.argv[2]))
    connection.close()
"""


class Net:
    """A guest on a shared network with its router, and whoever else is there."""

    def __init__(self, guest: Guest, segment: Segment, directory: Path) -> None:
        self.guest, self.segment, self.directory = guest, segment, directory
        self.router: Optional[LabRouter] = None
        self.evil: List[LabRouter] = []

    def dhcp(self, **options: Any) -> None:
        self.segment.dhcp(SERVER, ADDRESS, GATEWAY, "web-01", **options)

    def configure(self, nic: str = "eth0") -> None:
        files = ["-pf", f"/run/dhclient.{nic}.pid", "-lf", f"/var/lib/dhcp/dhclient.{nic}.leases"]
        self.guest.do("dhclient", "-1", *files, nic)

    def start_router(self, password_port: int = 8080, **changes: Any) -> LabRouter:
        cloud = replace(VM, **{"password": None, **changes})
        self.router = self.segment.router(cloud, SERVER, port=80, password_port=password_port)
        return self.router

    def start_evil(self, segment: Segment, address: str, shape: str, port: int = NOBODYS) -> LabRouter:
        evil = segment.router(replace(VM, password=EVIL), address, port=port, password_port=8080, shape=shape)
        self.evil.append(evil)
        return evil

    def hold(self, state: str = "absent", looks: int = 2) -> None:
        """Nothing of the attacker's is taken: by hand, and by the daemon, which is asked to look again."""
        before = self.guest.shadow()
        for _ in range(looks):
            offer = self.guest.csagent("fetch", "--wait", "60")["password"]
            assert offer["state"] == {"absent": "none"}.get(state, state), offer
        status = self.guest.csagent("apply", "--wait", "60")
        assert status["data"]["password"]["state"] == state, status["data"]["password"]
        assert status["data"]["hostname"]["source"] == f"router {SERVER}"
        with self.guest.background("csagent", "daemon"):
            for _ in range(DAEMON_PASSES):
                before_it, end = status["finished"], time.monotonic() + PASS_DEADLINE
                while status["finished"] == before_it:
                    assert time.monotonic() < end, status
                    time.sleep(0.1)
                    status = json.loads(self.guest.read("/run/csagent/status.json"))
                self.guest.do("sh", "-c", "kill -HUP $(cat /run/background.pid)")
        assert self.guest.shadow() == before
        assert not hash_verifies(EVIL, self.guest.shadow())
        for evil in self.evil:
            assert evil.acknowledged == []
            assert "saved_password" not in [request.what for request in evil.requests]


@contextlib.contextmanager
def network(image: Installed, directory: Path, *addresses: str) -> Iterator[Net]:
    """A shared network on which these addresses are hostile; no server runs yet."""
    with (
        contextlib.closing(Guest(image, directory / "guest")) as guest,
        contextlib.closing(Segment(directory, guest, [SERVER, GATEWAY, *addresses])) as segment,
    ):
        guest.do("sh", "-ec", FAKE_SYS)
        yield Net(guest, segment, directory)


@pytest.fixture
def net(image: Installed, tmp_path: Path) -> Iterator[Net]:
    """A shared network with a hostile neighbour."""
    with network(image, tmp_path, NEIGHBOUR) as made:
        yield made


def set_dmi(guest: Guest) -> None:
    """What CloudStack has KVM tell its guest."""
    for name, value in (
        ("sys_vendor", "Apache Software Foundation"),
        ("product_name", "CloudStack KVM Hypervisor"),
        ("product_uuid", VM.instance_id),
    ):
        guest.write(f"/sys/class/dmi/id/{name}", value + "\n")


# --- a neighbour ------------------------------------------------------------------------------------


def by_hosts_file(net: Net) -> None:
    net.guest.do("sh", "-c", f"echo '{NEIGHBOUR} data-server data-server.' >> /etc/hosts")


def by_nsswitch(net: Net) -> None:
    """A name service that answers for the bare name, as LLMNR, mdns4 or wins do for a neighbour."""
    source, library = net.directory / "evil.c", net.directory / "libnss_evil.so.2"
    source.write_text(NSS_MODULE.replace("ADDRESS", f'"{NEIGHBOUR}"'))
    run(["gcc", "-shared", "-fPIC", "-o", library, source], 60)
    content = library.read_bytes().hex()
    place = "/usr/lib/x86_64-linux-gnu/libnss_evil.so.2"
    code = f"open({place!r}, 'wb').write(bytes.fromhex(input()))"
    subprocess.run(
        [*net.guest._enter(), "python3", "-c", code], input=content, text=True, check=True, timeout=300
    )
    net.guest.do("sed", "-i", "s/^hosts:.*/hosts: files evil dns/", "/etc/nsswitch.conf")
    told = net.guest.do("python3", "-c", "import socket; print(socket.gethostbyname('data-server'))")
    assert told.strip() == NEIGHBOUR, "libc would be led astray"


def by_wildcard(net: Net) -> None:
    """The network's own name server has an answer for every name below its domain."""


def by_search_domain(net: Net) -> None:
    net.guest.do("sh", "-c", "echo 'search evil.example cs2cloud.internal' >> /etc/resolv.conf")


DOORS: Dict[str, "tuple[Callable[[Net], None], Dict[str, Any]]"] = {
    "hosts file": (by_hosts_file, {}),
    "nsswitch": (by_nsswitch, {}),
    "wildcard": (by_wildcard, {"extra": [f"address=/cs2cloud.internal/{NEIGHBOUR}"]}),
    "every name": (by_search_domain, {"extra": [f"address=/#/{NEIGHBOUR}"]}),
}


def neighbours_place(net: Net) -> Dict[str, Any]:
    """What a pass says of the neighbour's server; one whose router was faster than the name asks no other."""
    for _ in range(50):
        for one in net.guest.csagent("status")["places"]:
            if one["place"] == f"password server {NEIGHBOUR}:8080":
                return dict(one)
        net.guest.csagent("apply", "--wait", "60")
    raise AssertionError("no pass has heard of the neighbour")


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("shape", ["python3", "headerless"])
def test_a_neighbour_behind_a_name(net: Net, door: str, shape: str) -> None:
    """The router is up and has no password; the neighbour has no port 80 and a password."""
    opens, options = DOORS[door]
    net.dhcp(**options)
    net.configure()
    opens(net)
    net.start_router()
    net.start_evil(net.segment, NEIGHBOUR, shape)
    net.hold()
    if door in ("wildcard", "every name"):
        place = neighbours_place(net)
        assert place["outcome"] in ("foreign", "skipped"), place
    elif door == "hosts file":
        assert net.evil[0].requests == [], "nobody asked it"


def test_a_neighbour_while_the_password_server_is_down(net: Net) -> None:
    """DMI is CloudStack's, the router's :8080 is closed: the password is unknown, not the neighbour's."""
    set_dmi(net.guest)
    net.dhcp(extra=[f"address=/#/{NEIGHBOUR}"])
    net.configure()
    net.start_router(password_port=NOBODYS)
    net.start_evil(net.segment, NEIGHBOUR, "python3")
    net.hold("unknown")


def test_a_neighbour_while_the_router_is_down(net: Net) -> None:
    """Nobody gives an instance id: a name is no evidence, signed or not."""
    net.dhcp(extra=[f"address=/#/{NEIGHBOUR}"])
    net.configure()
    net.start_evil(net.segment, NEIGHBOUR, "python3")
    before = net.guest.shadow()
    net.guest.csagent("apply", "--wait", "3", code=4)
    assert net.guest.shadow() == before and net.evil[0].acknowledged == []


# --- a second network -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named",
    [NEIGHBOUR, ELSEWHERE, "203.0.113.66"],
    ids=["the first network's neighbour", "its own machine", "wherever the first one's route leads"],
)
def test_the_name_servers_of_a_second_network(image: Installed, tmp_path: Path, named: str) -> None:
    """What they say of data-server. counts on their own NIC, in its own network, and for itself only."""
    far = "203.0.113.66"
    with network(image, tmp_path, NEIGHBOUR, far) as net:
        (tmp_path / "eth1").mkdir()
        second = Segment(tmp_path / "eth1", net.guest, [ELSEWHERE], "eth1", OTHER_MAC)
        with contextlib.closing(second):
            net.dhcp(data_server=SERVER)
            second.dhcp(
                ELSEWHERE, ELSEWHERE_ADDRESS, None, "web-01", data_server=named, name_server=ELSEWHERE
            )
            net.configure("eth0")
            net.configure("eth1")
            net.guest.do("ip", "route", "replace", "default", "via", GATEWAY, "dev", "eth0")
            net.guest.do("ip", "route", "replace", far, "dev", "eth0")
            for segment, address in ((net.segment, NEIGHBOUR), (net.segment, far), (second, ELSEWHERE)):
                net.start_evil(segment, address, "python3")
            net.start_router()
            net.hold()
            for evil in net.evil:
                if evil.address != ELSEWHERE:
                    assert evil.requests == [], f"{evil.address} was asked"


@pytest.mark.parametrize("password", [None, PASSWORD], ids=["nothing waits", "a password waits"])
@pytest.mark.parametrize(
    ("way", "first"),
    [("option 121", "eth0"), ("one subnet", "eth0"), ("one subnet", "eth1")],
    ids=["a route by option 121", "the same subnet", "the same subnet, the attacker's first"],
)
def test_a_second_network_with_the_same_addresses(
    image: Installed, tmp_path: Path, way: str, first: str, password: Optional[str]
) -> None:
    """A route or a subnet of the second NIC leads to an attacker at the router's own address: no connection
    leaves by another NIC than the candidate's, and the true router is heard."""
    with network(image, tmp_path) as net:
        (tmp_path / "eth1").mkdir()
        address = ELSEWHERE if way == "option 121" else SERVER
        second = Segment(
            tmp_path / "eth1", net.guest, list(dict.fromkeys((address, SERVER))), "eth1", OTHER_MAC
        )
        with contextlib.closing(second):
            net.dhcp(data_server=SERVER)
            if way == "option 121":
                route = f"dhcp-option=tag:interface-eth0-0,121,{SERVER}/32,{ELSEWHERE}"
                second.dhcp(
                    ELSEWHERE, ELSEWHERE_ADDRESS, None, "web-01", name_server=ELSEWHERE, extra=[route]
                )
            else:
                second.dhcp(SERVER, "10.2.2.43", None, "web-01", name_server=SERVER)
            for nic in ("eth0", "eth1") if first == "eth0" else ("eth1", "eth0"):
                net.configure(nic)
            net.guest.do("ip", "route", "replace", "default", "via", GATEWAY, "dev", "eth0")
            net.start_router(password=password)
            net.start_evil(second, SERVER, "python3")
            if password is None:
                net.hold()
                return
            status = net.guest.csagent("apply", "--wait", "3")
            assert status["data"]["password"]["acknowledged"] == "yes", status["data"]["password"]
            assert hash_verifies(password, net.guest.shadow())
            assert net.evil[0].acknowledged == []


# --- a user of the VM -------------------------------------------------------------------------------


@contextlib.contextmanager
def listening(guest: Guest, address: str) -> Iterator["subprocess.Popen[bytes]"]:
    """An ordinary user's password server on an address of the VM."""
    reply = SHAPES["python3"]("password", EVIL.encode()).hex()
    # nsenter --pid forks, and passes no signals on: the listener says who it is.
    script = 'echo $$ > /run/listener.pid; exec setpriv "$@"'
    words = [f"--reuid={MALLORY}", f"--regid={MALLORY}", "--clear-groups", "python3", "-c", LISTENER]
    command = [*guest._enter(), "sh", "-c", script, "sh", *words, address, reply]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert line_of(process) == b"up\n"
        yield process
    finally:
        guest.run("sh", "-c", "kill -KILL $(cat /run/listener.pid)")
        process.communicate(timeout=600)


def as_mallory(guest: Guest, script: str) -> None:
    guest.do("setpriv", f"--reuid={MALLORY}", f"--regid={MALLORY}", "--clear-groups", "sh", "-ec", script)


def bridge(guest: Guest) -> None:
    """A container's bridge, which has an address of this very machine."""
    guest.do("ip", "link", "add", "docker0", "type", "bridge")
    guest.do("ip", "addr", "add", f"{BRIDGE}/16", "dev", "docker0")
    guest.do("ip", "link", "set", "docker0", "up")


def static(guest: Guest) -> None:
    """No DHCP: no lease stands in the way of another one."""
    guest.do("ip", "link", "set", "eth0", "up")
    guest.do("ip", "addr", "add", f"{ADDRESS}/24", "dev", "eth0")
    guest.do("ip", "route", "add", "default", "via", GATEWAY)


LEASE = f'{{"interface": "eth0",\n "fixed-address": "{ADDRESS}",\n "routers": "{BRIDGE}"\n}}\n'
BLOCK = (
    f'lease {{\n interface "eth0";\n fixed-address {ADDRESS};\n'
    f" option dhcp-server-identifier {BRIDGE};\n option routers {BRIDGE};\n expire never;\n}}\n"
)


def json_in_var_tmp(guest: Guest) -> str:
    as_mallory(
        guest, f"mkdir -p /var/tmp/cloud-init; printf '%s' '{LEASE}' > /var/tmp/cloud-init/eth0.lease.json"
    )
    return "/var/tmp/cloud-init"


def json_in_roots_directory(guest: Guest) -> str:
    """As cloud-init leaves it: root's, and everybody may make files in it."""
    guest.do("install", "-d", "-m", "1777", "/var/tmp/cloud-init")
    as_mallory(guest, f"printf '%s' '{LEASE}' > /var/tmp/cloud-init/eth0.lease.json")
    return "/var/tmp/cloud-init/eth0.lease.json"


def open_directory(guest: Guest) -> str:
    guest.do("chmod", "0777", "/var/lib/dhcp")
    as_mallory(guest, f"printf '%s' '{BLOCK}' > /var/lib/dhcp/dhclient.eth0.leases")
    guest.do("chown", "0:0", "/var/lib/dhcp/dhclient.eth0.leases")
    return "/var/lib/dhcp"


def a_link(guest: Guest) -> str:
    as_mallory(guest, f"printf '%s' '{BLOCK}' > /tmp/lease")
    guest.do("ln", "-sfn", "/tmp/lease", "/var/lib/dhcp/dhclient.eth0.leases")
    return "/tmp/lease"


LEASES = {
    "JSON in /var/tmp": json_in_var_tmp,
    "JSON in root's directory": json_in_roots_directory,
    "a directory that all may write": open_directory,
    "a link": a_link,
}


@pytest.mark.parametrize("way", LEASES)
def test_a_users_lease(image: Installed, tmp_path: Path, way: str) -> None:
    """It is listed as rejected with who could have written it, and his listener is not asked."""
    with network(image, tmp_path) as net:
        guest = net.guest
        bridge(guest)
        static(guest)
        named = LEASES[way](guest)
        with listening(guest, BRIDGE):
            found = guest.csagent("discover")
            assert BRIDGE not in [one["address"] for one in found["candidates"]]
            (rejected,) = [one for one in found["rejected"] if one["reason"].startswith("not believed: ")]
            assert named in rejected["reason"]
            before = guest.shadow()
            guest.csagent("apply", "--wait", "8", code=4)
            assert guest.shadow() == before


@pytest.mark.parametrize("where", ["its bridge", "an address on lo", "the NIC's own"])
@pytest.mark.parametrize("up", [True, False], ids=["router up", "router down"])
def test_a_lease_that_names_this_machine(image: Installed, tmp_path: Path, where: str, up: bool) -> None:
    """A real lease, as root's client wrote it, whose router is the VM: no candidate, and nobody connects."""
    own = {"its bridge": BRIDGE, "an address on lo": "10.77.77.77", "the NIC's own": ADDRESS}[where]
    with network(image, tmp_path) as net:
        guest = net.guest
        bridge(guest)
        guest.do("ip", "addr", "add", "10.77.77.77/32", "dev", "lo")
        net.segment.dhcp(SERVER, ADDRESS, own, "web-01")
        net.configure()
        if up:
            net.start_router()
        with listening(guest, own):
            assert own not in [one["address"] for one in guest.csagent("discover")["candidates"]]
            if up:
                net.hold()
            else:
                guest.csagent("apply", "--wait", "8", code=4)
            assert not hash_verifies(EVIL, guest.shadow())


def test_what_cloud_init_left_is_read_where_only_root_could_have_written_it(net: Net) -> None:
    """udhcpc's JSON in root's directory of mode 1777, the file root's: its router is asked."""
    static(net.guest)
    net.guest.do("install", "-d", "-m", "1777", "/var/tmp/cloud-init")
    net.guest.write("/var/tmp/cloud-init/eth0.lease.json", LEASE.replace(BRIDGE, SERVER))
    net.start_router(password=PASSWORD)
    status = net.guest.csagent("apply", "--wait", "60")
    assert status["data"]["password"]["state"] == "applied"
    assert hash_verifies(PASSWORD, net.guest.shadow())


# --- the protocol lets every user ask ---------------------------------------------------------------

ASK = (
    "import socket; c = socket.create_connection(('10.2.2.2', 8080), 2);"
    "c.sendall(b'GET / HTTP/1.0\\r\\nDomU_Request: send_my_password\\r\\n\\r\\n'); print(c.recv(9) != b'')"
)


def test_any_user_may_ask_and_a_rule_keeps_him_from_it(net: Net) -> None:
    """doctor says so; with the shipped rule only csagent's user reaches the router's 8080, and still does."""
    net.dhcp()
    net.configure()
    net.start_router(password=PASSWORD)
    mallory = ["setpriv", f"--reuid={MALLORY}", f"--regid={MALLORY}", "--clear-groups", "python3", "-c", ASK]
    assert net.guest.do(*mallory).strip() == "True"
    told = [
        one
        for one in net.guest.csagent("doctor", "--wait", "60", code=1)["findings"]
        if "any user" in one["saw"]
    ]
    assert [one["state"] for one in told] == ["note"] and f"{SERVER}:8080" in told[0]["saw"]

    rule = (REPOSITORY / "packaging/nftables/csagent.nft").read_text()
    for _again in range(2):
        done = subprocess.run(
            ["nsenter", f"--target={net.guest.pid}", "--net", "nft", "-f", "-"],
            input=rule.replace('"csagent"', net.guest.do("id", "-u", "csagent").strip()).replace(
                "10.1.1.1", SERVER
            ),
            text=True,
            capture_output=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    assert net.guest.run(*mallory).returncode != 0
    assert net.guest.run("python3", "-c", ASK).returncode != 0, "root neither"
    told = [
        one
        for one in net.guest.csagent("doctor", "--wait", "60", code=1)["findings"]
        if "any user" in one["saw"]
    ]
    assert told == []
    status = net.guest.csagent("apply", "--wait", "60")
    assert status["data"]["password"]["state"] == "applied" and hash_verifies(PASSWORD, net.guest.shadow())


# --- and the networks that are right still work -----------------------------------------------------


def test_one_of_a_redundant_pair_is_down(image: Installed, tmp_path: Path) -> None:
    """The DHCP server is gone with its two ports; the gateway has the password, and no metadata yet."""
    with network(image, tmp_path) as net:
        net.dhcp()
        net.configure()
        gateway = net.segment.router(
            replace(VM, password=PASSWORD), GATEWAY, port=NOBODYS, password_port=8080, shape="python2"
        )
        status = net.guest.csagent("apply", "--wait", "3")
        assert status["data"]["password"]["state"] == "applied"
        assert hash_verifies(PASSWORD, net.guest.shadow()) and gateway.acknowledged == [ADDRESS]


def test_a_static_address_on_a_shared_network(net: Net) -> None:
    """No lease: the machine's own name server leads to the router, which gives the id and so the password."""
    net.dhcp(data_server=SERVER)
    static(net.guest)
    net.guest.write("/etc/resolv.conf", f"nameserver {SERVER}\nsearch cs2cloud.internal\n")
    net.start_router(password=PASSWORD)
    status = net.guest.csagent("apply", "--wait", "3")
    assert status["data"]["password"]["state"] == "applied" and hash_verifies(PASSWORD, net.guest.shadow())


def test_only_the_longer_name_is_known(net: Net) -> None:
    """data-server with the domain is tried after the bare name; udhcpc records neither server nor domain."""
    net.dhcp(extra=[f"host-record=data-server.cs2cloud.internal,{SERVER}"])
    net.guest.do("udhcpc", "-n", "-q", "-i", "eth0")
    net.start_router(password=PASSWORD)
    status = net.guest.csagent("apply", "--wait", "3")
    assert status["data"]["password"]["state"] == "applied" and hash_verifies(PASSWORD, net.guest.shadow())
