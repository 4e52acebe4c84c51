"""From a DHCP lease to the acknowledgement: real dnsmasq, real clients, real chpasswd, no virtual machine."""

from __future__ import annotations

import http.server
import threading
import time
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple

import pytest
from support.debian_image import Installed
from support.network_segment import Guest, Segment
from support.samples import make_key
from support.vm_cloud import (
    NEXT_PASSWORD,
    PASSWORD,
    describe,
    hash_verifies,
    told_after_change,
)

from csagent.lab.router import LabRouter

pytestmark = [pytest.mark.netns, pytest.mark.root]

GUEST_ADDRESS = "10.2.2.42"
SERVER = "10.2.2.2"
GATEWAY = "10.2.2.1"
DHCLIENT = ("dhclient", "-1", "eth0")
CLIENTS = {
    "isc-dhclient": DHCLIENT,
    "dhcpcd": ("dhcpcd", "--ipv4only", "--noarp", "--oneshot", "eth0"),
    "udhcpc": ("udhcpc", "-n", "-q", "-i", "eth0"),
}
WATCHED = ("/etc/hostname", "/etc/hosts", "/etc/shadow", "/root/.ssh/authorized_keys")
PATIENCE = 600.0  # seconds; on an idle machine it is caught within one
OWNERS_KEY = make_key(77, "owner@laptop")


class Shared(NamedTuple):
    """A shared network: DHCP, metadata and passwords at SERVER; the gateway is somebody else's machine."""

    guest: Guest
    router: LabRouter
    segment: Segment


class _SomebodyElse(http.server.BaseHTTPRequestHandler):
    """The web page of a gateway that is no virtual router: it answers everything with 200."""

    def do_GET(self) -> None:
        body = b"<!DOCTYPE html><html><title>Log in</title></html>\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def shared(image: Installed, tmp_path: Path) -> Iterator[Shared]:
    """A guest on a shared network, not yet configured."""
    guest = Guest(image, tmp_path / "guest")
    try:
        segment = Segment(tmp_path, guest, [SERVER, GATEWAY])
        try:
            segment.dhcp(SERVER, GUEST_ADDRESS, GATEWAY, "web-01", data_server=SERVER)
            router = segment.router(describe("web-01", 1), SERVER, port=80, password_port=8080)
            gateway = segment.namespace.call(lambda: http.server.HTTPServer((GATEWAY, 80), _SomebodyElse))
            thread = threading.Thread(target=gateway.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            try:
                guest.write("/run/csagent-test-server", SERVER)
                yield Shared(guest, router, segment)
            finally:
                gateway.shutdown()
                thread.join(300)
                gateway.server_close()
        finally:
            segment.close()
    finally:
        guest.close()


def states(status: Any) -> "dict[str, str]":
    """Each datum's state."""
    return {name: datum["state"] for name, datum in status["data"].items()}


def key_lines(guest: Guest) -> List[str]:
    """The keys in root's authorized_keys, comments left out."""
    lines = guest.read("/root/.ssh/authorized_keys").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("client", ["isc-dhclient", "dhcpcd"])
def test_server_identifier_of_a_real_lease_leads_to_the_router(shared: Shared, client: str) -> None:
    """discover names the DHCP server, not the gateway; fetch reads it and acknowledges nothing."""
    guest, router, _ = shared
    guest.do(*CLIENTS[client])
    found = guest.csagent("discover")
    (lease,) = found["leases"]
    assert (lease["interface"], lease["address"]) == ("eth0", GUEST_ADDRESS)
    assert lease["server_identifier"] == SERVER
    assert lease["routers"] == [GATEWAY]
    assert found["candidates"][0]["address"] == SERVER
    assert router.requests == [], "discover contacts nobody"

    fetched = guest.csagent("fetch")
    assert fetched["instance_id"] == router.cloud.instance_id
    assert fetched["hostname"] == "web-01"
    assert fetched["ssh_keys"] == list(router.cloud.ssh_keys)
    assert (fetched["password"]["state"], fetched["password"]["value"]) == ("offered", "***")
    assert SERVER in fetched["provenance"]["hostname"]
    assert {request.source for request in router.requests} == {GUEST_ADDRESS}
    assert router.acknowledged == []


def test_client_without_server_identifier_finds_data_server(shared: Shared) -> None:
    """udhcpc records no server; the name data-server leads to it, the gateway's web page to nothing."""
    guest, router, _ = shared
    guest.do(*CLIENTS["udhcpc"])
    fetched = guest.csagent("fetch")
    assert fetched["instance_id"] == router.cloud.instance_id
    assert fetched["password"]["state"] == "offered"


def test_pass_sets_everything_and_tells_the_router_last(shared: Shared) -> None:
    """plan changes nothing; apply sets name, keys and password; the acknowledgement comes after them."""
    guest, router, _ = shared
    guest.do(*DHCLIENT)
    before = guest.stamp("/etc/hostname", "/etc/hosts", "/etc/shadow")
    plan = guest.csagent("plan")
    assert plan["changes"] is True
    assert guest.stamp("/etc/hostname", "/etc/hosts", "/etc/shadow") == before
    assert router.acknowledged == []

    status = guest.csagent("apply")
    assert status["exit_code"] == 0
    assert guest.do("hostname").strip() == "web-01"
    assert guest.read("/etc/hostname") == "web-01\n"
    assert "web-01.cs2cloud.internal" in guest.read("/etc/hosts").split()
    assert hash_verifies(PASSWORD, guest.shadow())
    assert key_lines(guest) == list(router.cloud.ssh_keys)
    modes = guest.stamp("/root/.ssh", "/root/.ssh/authorized_keys", "/var/lib/csagent", "/etc/shadow")
    assert [modes[path].split()[1] for path in modes] == ["700", "600", "700", "640"]
    assert router.acknowledged == [GUEST_ADDRESS]
    assert told_after_change(router), router.requests

    places = ("/etc", "/home", "/root", "/run", "/tmp", "/var")
    assert guest.run("grep", "-rlF", PASSWORD, *places).stdout == "", "the password is nowhere in clear"

    stamps, asked = guest.stamp(*WATCHED), len(router.requests)
    again = guest.csagent("apply")
    assert again["exit_code"] == 0
    assert "applied" not in states(again).values()
    assert guest.stamp(*WATCHED) == stamps, "a second pass changes nothing"
    assert len(router.requests) > asked
    assert router.acknowledged == [GUEST_ADDRESS]


def test_password_reset_changes_only_the_password(shared: Shared) -> None:
    """After a reset in CloudStack nothing but the shadow entry differs, and it is acknowledged."""
    guest, router, _ = shared
    guest.do(*DHCLIENT)
    guest.csagent("apply")
    others = guest.stamp(*[path for path in WATCHED if path != "/etc/shadow"])
    router.change(password=NEXT_PASSWORD)
    status = guest.csagent("apply")
    assert {name for name, state in states(status).items() if state == "applied"} == {"password"}
    assert hash_verifies(NEXT_PASSWORD, guest.shadow())
    assert not hash_verifies(PASSWORD, guest.shadow())
    assert guest.stamp(*others) == others
    assert router.acknowledged == [GUEST_ADDRESS] * 2


def test_key_reset_revokes_the_old_key_and_spares_the_owners(shared: Shared) -> None:
    """A reset key pair replaces CloudStack's keys; a line that the owner added stays as it is."""
    guest, router, _ = shared
    guest.do(*DHCLIENT)
    guest.csagent("apply")
    guest.do("sh", "-c", f"echo '{OWNERS_KEY}' >> /root/.ssh/authorized_keys")
    guest.do("hostname", "chosen-by-owner")
    shadow = guest.shadow()
    new_key = make_key(9, "new@web-01")
    router.change(ssh_keys=(new_key,))
    status = guest.csagent("apply")
    assert {name for name, state in states(status).items() if state == "applied"} == {"ssh_keys"}
    assert sorted(key_lines(guest)) == sorted([new_key, OWNERS_KEY])
    assert guest.shadow() == shadow
    assert guest.do("hostname").strip() == "chosen-by-owner"


def test_failed_chpasswd_is_reported_and_never_acknowledged(shared: Shared) -> None:
    """Where the password cannot be set the rest is applied, the exit code says so, the router waits."""
    guest, router, _ = shared
    guest.do(*DHCLIENT)
    guest.write("/etc/pam.d/chpasswd", "password required pam_deny.so\n")
    status = guest.csagent("apply", code=3)
    assert states(status)["password"] == "failed"
    assert states(status)["hostname"] == states(status)["ssh_keys"] == "applied"
    assert PASSWORD not in str(status)
    assert router.acknowledged == []
    assert router.waiting(GUEST_ADDRESS) == PASSWORD


def test_daemon_catches_a_late_lease_and_a_late_router(shared: Shared) -> None:
    """The daemon starts with no network at all; once there is one, and then a router, it acts."""
    guest, router, _ = shared
    router.stop()
    guest.write("/etc/csagent/csagent.yaml", "poll: 0\n")
    with guest.background("csagent", "daemon") as daemon:
        end = time.monotonic() + PATIENCE
        passes = "read pid </run/background.pid && cat /proc/$pid/task/$pid/children"
        while not guest.run("sh", "-c", passes).stdout.strip():
            assert time.monotonic() < end, "there is a pass that waits"
            time.sleep(0.2)
        guest.do(*DHCLIENT)
        time.sleep(2.5)
        assert daemon.poll() is None, "it is patient"
        end = time.monotonic() + PATIENCE
        shared.segment.namespace.call(router.start)
        while not router.acknowledged:
            assert time.monotonic() < end, "the router has been there for a while"
            time.sleep(0.05)
        assert hash_verifies(PASSWORD, guest.shadow())
    assert daemon.returncode == 0, "SIGTERM ends it in order"


def test_redundant_router_serves_the_password_on_the_gateway_only(image: Installed, tmp_path: Path) -> None:
    """Metadata at the router's own address, passwords on the virtual gateway address: both are found."""
    guest = Guest(image, tmp_path / "guest")
    try:
        segment = Segment(tmp_path, guest, ["10.1.1.2", "10.1.1.1"])
        try:
            segment.dhcp("10.1.1.2", "10.1.1.42", "10.1.1.1", "web-02")
            cloud = describe("web-02", 2)
            # Port 9 is nobody's: the password server of the first and the metadata of the second hide there.
            own = segment.router(cloud, "10.1.1.2", port=80, password_port=9)
            shared_address = segment.router(cloud, "10.1.1.1", port=9, password_port=8080)
            guest.do(*DHCLIENT)
            status = guest.csagent("apply")
            assert states(status)["password"] == "applied"
            assert hash_verifies(PASSWORD, guest.shadow())
            assert (own.acknowledged, shared_address.acknowledged) == ([], ["10.1.1.42"])
            assert "10.1.1.1" in status["data"]["password"]["source"]
            assert "10.1.1.2" in status["data"]["hostname"]["source"]
        finally:
            segment.close()
    finally:
        guest.close()


def test_network_without_cloudstack_is_a_clean_outcome(image: Installed, tmp_path: Path) -> None:
    """DHCP from somebody's own router: exit code 4, one line, within seconds, nothing changed."""
    guest = Guest(image, tmp_path / "guest")
    try:
        segment = Segment(tmp_path, guest, ["192.168.7.1"])
        try:
            segment.dhcp("192.168.7.1", "192.168.7.42", "192.168.7.1", "printer")
            guest.do(*DHCLIENT)
            before = guest.stamp("/etc/hostname", "/etc/hosts", "/etc/shadow")
            done = guest.run("csagent", "apply", "--wait", "2")
            assert done.returncode == 4
            assert len(done.stderr.strip().splitlines()) == 1
            assert "192.168.7.1" in done.stderr
            assert guest.stamp("/etc/hostname", "/etc/hosts", "/etc/shadow") == before
        finally:
            segment.close()
    finally:
        guest.close()
