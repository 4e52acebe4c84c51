"""What a caller that polls twice a second notices, and what `csagent discover` shows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from csagent.cli.discover import as_json, as_text
from csagent.discovery.finder import watchmarks
from csagent.model import Candidate, Drive, Found, Lease, Nic, Platform, Rejected
from csagent.system.seams import System

REPOSITORY = Path(__file__).resolve().parents[3]


def put(root, path, content):
    file = root / path[1:]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


@pytest.fixture
def machine(tmp_path):
    """A tree with a lease, a route and a labelled drive."""
    put(tmp_path, "/var/lib/dhcp/dhclient.leases", "lease {\n")
    put(tmp_path, "/proc/net/route", "Iface\n")
    put(tmp_path, "/run/systemd/netif/leases/2", "ADDRESS=10.1.1.42\n")
    put(tmp_path, "/sys/class/net/eth0/ifindex", "2\n")
    (tmp_path / "dev/disk/by-label").mkdir(parents=True)
    (tmp_path / "dev/disk/by-label/CONFIG-2").symlink_to("../../sr0")
    return tmp_path


def marks(root):
    return watchmarks(System.at(str(root)), ["config-2"])


def test_nothing_happened(machine):
    """Two looks at the same machine are equal, hashable, and unmoved by other labels."""
    before = marks(machine)
    hash(before)
    (machine / "dev/disk/by-label/other").symlink_to("../../vda1")
    put(machine, "/etc/hostname", "web-01\n")
    assert marks(machine) == before


def relink(root):
    link = root / "dev/disk/by-label/CONFIG-2"
    link.unlink()
    link.symlink_to("../../sr1")


@pytest.mark.parametrize(
    "happening",
    [
        lambda root: put(root, "/var/lib/dhcp/dhclient.leases", "lease {\n}\n"),
        lambda root: put(root, "/var/lib/dhcpcd/eth0.lease", ""),
        lambda root: put(root, "/run/NetworkManager/devices/2", "[device]\n"),
        lambda root: (root / "run/systemd/netif/leases/2").unlink(),
        lambda root: put(root, "/proc/net/route", "Iface\neth0\n"),
        lambda root: put(root, "/sys/class/net/eth1/ifindex", "3\n"),
        lambda root: (root / "dev/disk/by-label/CONFIG-2").unlink(),
        relink,
    ],
    ids=["lease", "first-lease", "manager", "lease-gone", "route", "nic", "drive-gone", "drive-moved"],
)
def test_something_happened(machine, happening):
    """A lease, a route, a NIC or a labelled drive that comes, changes or goes is noticed."""
    before = marks(machine)
    happening(machine)
    assert marks(machine) != before


def test_import_stays_light():
    """The root parent imports the finder for the watchmarks: no parsing or network library comes along."""
    heavy = "netifaces pyudev requests pycdlib yaml email socket subprocess tempfile xml"
    heavy += " csagent.discovery.interfaces"
    code = (
        "import sys; from csagent.discovery import finder; from csagent.system.seams import System\n"
        "finder.watchmarks(System(), ['config-2'])\n"
        f"print([name for name in {heavy.split()} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=600
    )
    assert done.stdout == "[]\n"


FOUND = Found(
    nics=(Nic("eth0", 2, "02:00:4c:9f:00:05", ("10.1.1.42",)), Nic("eth1", 3)),
    default_interface="eth0",
    leases=(
        Lease(
            "eth0",
            "systemd-networkd",
            "10.1.1.42",
            server_identifier="10.1.1.1",
            routers=("10.1.1.1",),
            domain_name="cs2cloud.internal",
            path="/run/systemd/netif/leases/2",
        ),
    ),
    rejected=(Rejected("/var/lib/x\x1b[2J\n" + "y" * 200, "dhclient", "eth0", "stale"),),
    candidates=(
        Candidate("10.1.1.1", "server-identifier", "DHCP server of eth0 (systemd-networkd)", "eth0"),
    ),
    drives=(Drive("/dev/sr1", "config-2", "label in udev's database; CD drive, iso9660"),),
    platform=Platform("Apache Software Foundation", "CloudStack KVM Hypervisor", "0b5a2f5e", True),
    notes=("a sentence",),
)


@pytest.mark.parametrize("width", [80, 40, 24])
def test_text_fits_and_carries_no_control_characters(width):
    """Lines fit the console, long paths are folded, and escape sequences of a lease are not passed on."""
    shown = as_text(FOUND, width, False)
    assert max(len(line) for line in shown.split("\n")) <= width
    assert "\x1b" not in shown
    assert shown.endswith("\n")


def test_text_says_what_matters():
    """The default NIC, the server, the order, the drive and the verdict are all there."""
    shown = as_text(FOUND, 80, False)
    for part in (
        "eth0 (default)",
        "DHCP server 10.1.1.1",
        "1. 10.1.1.1",
        "/dev/sr1  config-2",
        "this is CloudStack",
    ):
        assert part in shown


def test_colour_only_where_asked():
    """Colour adds escape sequences of our own and nothing else."""
    coloured = as_text(FOUND, 80, True)
    plain = coloured.replace("\033[1m", "").replace("\033[2m", "").replace("\033[0m", "")
    assert plain == as_text(FOUND, 80, False)
    assert coloured != plain


def test_empty_machine_is_shown():
    """With nothing found each section says so."""
    shown = as_text(Found(), 80, False)
    for part in (
        "none found",
        "none that holds",
        "nobody: no address to ask from",
        "may or may not be CloudStack",
    ):
        assert part in shown


def test_json_layout():
    """The documented keys, as plain JSON."""
    document = json.loads(json.dumps(as_json(FOUND)))
    assert document["leases"][0]["server_identifier"] == "10.1.1.1"
    assert document["leases"][0]["routers"] == ["10.1.1.1"]
    assert document["drives"] == [{"device": "/dev/sr1", "label": "config-2", "why": FOUND.drives[0].why}]
    assert document["platform"]["cloudstack"] is True
    assert document["default_interface"] == "eth0"
    assert document["rejected"][0]["reason"] == "stale"
