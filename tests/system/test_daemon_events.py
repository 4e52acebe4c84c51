"""The daemon with its poll turned off, in network namespaces: leases, routers and NICs that change."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Callable

import pytest
from support.debian_image import Installed, run
from support.network_segment import Guest, Segment
from support.replace_fields import replace
from support.vm_cloud import describe, make_drive

from csagent.daemon.watch import VOLUME_DESCRIPTOR

pytestmark = pytest.mark.root

LEASES = "/var/lib/dhcp/dhclient.leases"
DHCLIENT = ("dhclient", "-1", "-pf", "/run/dhclient.pid", "-lf", LEASES, "eth0")
PATIENCE = 600.0  # seconds, of which the pass needs a fraction on an idle machine


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until it holds."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def under_way(guest: Guest) -> bool:
    """Whether the daemon has a pass under way."""
    children = "read pid </run/background.pid && cat /proc/$pid/task/$pid/children"
    return bool(guest.do("sh", "-c", children).strip())


def rests(guest: Guest) -> bool:
    """Whether the daemon has run no pass for three seconds, and has none under way."""
    finished = lambda: guest.csagent("status").get("finished", 0.0)  # noqa: E731
    before = finished()
    if under_way(guest):
        return False
    time.sleep(3.0)
    return bool(finished() == before) and not under_way(guest)


def descriptor(image: Path) -> bytes:
    """The volume descriptor of an ISO."""
    return image.read_bytes()[VOLUME_DESCRIPTOR : VOLUME_DESCRIPTOR + 2048]


def test_what_changes_in_the_network_is_noticed(image: Installed, tmp_path: Path) -> None:
    """A first lease, another server and router after a failover, a NIC that comes and goes: one pass each."""
    guest = Guest(image, tmp_path / "guest")
    try:
        segment = Segment(tmp_path, guest, ["10.1.1.2", "10.1.1.3"])
        second = None
        try:
            cloud = describe("web-01", 1)
            guest.write("/etc/csagent/csagent.yaml", "poll: 0\n")
            segment.dhcp("10.1.1.2", "10.1.1.42", "10.1.1.2", "web-01")
            first = segment.router(cloud, "10.1.1.2", port=80, password_port=8080)
            finished = lambda: guest.csagent("status").get("finished", 0.0)  # noqa: E731
            with guest.background("csagent", "daemon") as daemon:
                time.sleep(1.5)
                guest.do(*DHCLIENT)
                until(lambda: first.acknowledged != [], "the first lease")
                until(lambda: guest.do("hostname").strip() == "web-01", "the first lease")

                first.stop()
                other = replace(cloud, hostname="web-02", password="EXAMPLE-of-the-backup")
                backup = segment.router(other, "10.1.1.3", port=80, password_port=8080)
                segment.end_dhcp(0)
                segment.dhcp("10.1.1.3", "10.1.1.42", "10.1.1.3", "web-02")
                until(lambda: rests(guest), "it comes to rest after the first lease")
                assert guest.do("hostname").strip() == "web-01", "nobody told it yet"
                guest.do("dhclient", "-x", "-pf", "/run/dhclient.pid", "-lf", LEASES, "eth0")
                guest.do(*DHCLIENT)
                until(lambda: guest.do("hostname").strip() == "web-02", "the failover")
                until(lambda: backup.acknowledged != [], "the password after the failover")

                until(lambda: rests(guest), "it comes to rest after the failover")
                before = finished()
                (tmp_path / "second").mkdir()
                second = Segment(tmp_path / "second", guest, ["10.9.9.2"], "eth1", "02:00:4c:9f:00:06")
                until(lambda: finished() > before, "a NIC was added")
                until(lambda: rests(guest), "it comes to rest after a NIC was added")
                before = finished()
                second.close()
                second = None
                until(lambda: finished() > before, "a NIC was removed")
                until(lambda: rests(guest), "it comes to rest")
                assert rests(guest), "nothing happens, and it does nothing"
                assert daemon.poll() is None
            assert daemon.returncode == 0
        finally:
            if second is not None:
                second.close()
            segment.close()
    finally:
        guest.close()


def drive_of_a_guest(guest: Guest, image: Path, settings: str) -> str:
    """The loop device of an image that the guest reads as its config drive."""
    device = subprocess.check_output(
        ["losetup", "--find", "--show", "-r", str(image)], text=True, timeout=300
    ).strip()
    guest.write("/etc/csagent/csagent.yaml", f"{settings}drive_devices: [{device}]\n")
    guest.do("mknod", device, "b", "7", device[len("/dev/loop") :])
    return device


def let_go(device: str) -> None:
    """Free the loop device, where there is one."""
    if device:
        subprocess.run(["losetup", "-d", device], capture_output=True, check=False, timeout=300)


def test_an_account_that_is_made_while_a_pass_waits_for_the_router(image: Installed, tmp_path: Path) -> None:
    """The drive's key and password are the account's at once, and not when the router has been waited for."""
    guest = Guest(image, tmp_path / "guest")
    device = ""
    try:
        drive = make_drive(tmp_path, describe("web-01", 1))
        device = drive_of_a_guest(guest, drive, "poll: 0\nuser: debian\n")
        state = lambda datum: guest.csagent("status")["data"][datum]["state"]  # noqa: E731
        with guest.background("csagent", "daemon", "--wait", str(6 * PATIENCE)) as daemon:
            guest.do("csagent", "status", "--wait", str(PATIENCE), "--first-pass")
            assert (state("ssh_keys"), state("password")) == ("failed", "failed")
            until(lambda: under_way(guest), "a pass waits for the router")
            guest.do("useradd", "another")
            guest.do("useradd", "--create-home", "debian")
            until(lambda: state("ssh_keys") == "applied", "keys of the new account")
            until(lambda: state("password") == "applied", "password of the new account")
            assert "ssh-ed25519" in guest.do("cat", "/home/debian/.ssh/authorized_keys")
            assert daemon.poll() is None
        assert daemon.returncode == 0
    finally:
        let_go(device)
        guest.close()


def test_a_drive_where_no_udev_runs(image: Installed, tmp_path: Path) -> None:
    """A config drive that comes, and one of the same size in its place: the slow look sees both."""
    guest = Guest(image, tmp_path / "guest")
    device = ""
    try:
        first = describe("web-01", 1)
        images = [make_drive(tmp_path / "one", first)]
        # What tells them apart is the moment in the volume descriptor, in whole seconds here.
        while len({descriptor(path) for path in images}) < 2:
            images[1:] = [make_drive(tmp_path / "two", replace(first, hostname="web-02"))]
        size = max(path.stat().st_size for path in images)
        for path in images:
            os.truncate(path, size)
        device = drive_of_a_guest(guest, images[0], "poll: 0\nsources: [drive]\n")
        run(["losetup", "-d", device], 10)
        with guest.background("csagent", "daemon", "--wait", "1") as daemon:
            guest.do("csagent", "status", "--wait", "50")
            until(lambda: rests(guest), "nothing of that pass is under way any more")
            for path, name in zip(images, ("web-01", "web-02")):
                run(["losetup", "-r", device, str(path)], 10)
                until(lambda name=name: guest.do("hostname").strip() == name, name)  # type: ignore[misc]
                run(["losetup", "-d", device], 10)  # it is not held open, so that this is not put off
                gone = subprocess.run(["losetup", device], capture_output=True, check=False, timeout=300)
                assert gone.returncode != 0
            assert daemon.poll() is None
        assert daemon.returncode == 0
    finally:
        let_go(device)
        guest.close()
