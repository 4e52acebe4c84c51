"""`csagent network apply` with the real managers of Debian 11 to 13, in containers with a real systemd."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence

import pytest
from support.network_nics import MAC, SECOND_MAC, THIRD_MAC, link, network, raw_document
from support.requirements import require
from support.systemd_container import SUITES, TOOLS, Container, layer, tree
from support.systemd_container import network as network_of

MANAGERS = ("systemd-networkd", "NetworkManager", "ifupdown")
DOCUMENT = "/run/network_data.json"
PENDING = "var/lib/csagent/network/pending.json"
DHCP = {
    "systemd-networkd": ("/etc/systemd/network/80-all.network", "[Match]\nName=e*\n[Network]\nDHCP=ipv4\n"),
    "ifupdown": (
        "/etc/network/interfaces",
        "source /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\n"
        "allow-hotplug ens3\niface ens3 inet dhcp\nallow-hotplug ens4\niface ens4 inet dhcp\n",
    ),
    "NetworkManager": ("/etc/network/interfaces", "auto lo\niface lo inet loopback\n"),
}
BY_HAND = {
    "systemd-networkd": (
        "/etc/systemd/network/20-mine.network",
        f"[Match]\nMACAddress={SECOND_MAC}\n[Network]\nAddress=10.8.0.9/24\n",
        0o644,
    ),
    "ifupdown": (
        "/etc/network/interfaces.d/mine",
        "allow-hotplug ens4\niface ens4 inet static\n    address 10.8.0.9/24\n",
        0o644,
    ),
    "NetworkManager": (
        "/etc/NetworkManager/system-connections/mine.nmconnection",
        "[connection]\nid=mine\nuuid=5f9b2b3e-8d5e-4d2c-9f5b-0c1f6a5e7d10\ntype=ethernet\n"
        f"[ethernet]\nmac-address={SECOND_MAC}\n[ipv4]\nmethod=manual\naddress1=10.8.0.9/24\n",
        0o600,
    ),
}
OURS = {
    "systemd-networkd": ("/etc/systemd/network/05-csagent-{}.network", "644", "600"),
    "NetworkManager": ("/etc/NetworkManager/system-connections/csagent-{}.nmconnection", "600", "644"),
    "ifupdown": ("/etc/network/csagent-logical", "755", "644"),
}
ALL_FILES = ("find", "/etc", "/var/lib/csagent", "-type", "f", "-printf", "%p %T@ %i\n")
Boxes = Callable[..., Any]


@pytest.fixture(scope="session")
def package_layer(deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the package of this checkout puts on the disk."""
    require(TOOLS, "runs containers with a systemd of their own")
    return layer(deb, tmp_path_factory.mktemp("layer"))


@pytest.fixture(params=[f"{suite}-{manager}" for suite in SUITES for manager in MANAGERS])
def kind(request: pytest.FixtureRequest) -> Sequence[str]:
    """A release of Debian, and who configures its NICs."""
    suite, _, manager = str(request.param).partition("-")
    return suite, manager


@pytest.fixture
def boxes(kind: Sequence[str], package_layer: Path, tmp_path: Path) -> Iterator[Boxes]:
    """Makes a container that is not booted yet, and the network that it will be in."""
    suite, manager = kind
    with contextlib.ExitStack() as stack:

        def make() -> Any:
            box = Container([package_layer, tree(suite)], tmp_path / "box", manager)
            box.put("/etc/resolv.conf", "nameserver 192.0.2.99\n")
            box.put(*DHCP[manager])
            stack.callback(box.kill)
            return box, stack.enter_context(network_of())

        yield make


def document(*nics: Dict[str, Any], dns: Sequence[str] = ("10.7.0.2",)) -> Dict[str, Any]:
    """NICs as {"mac", "four", "via4", "six", "via6"}, numbered in their order."""
    links, networks = [], []
    for number, nic in enumerate(nics):
        links.append(link(number, nic["mac"], nic.get("mtu", 1500)))
        for address, gateway in (("four", "via4"), ("six", "via6")):
            if address in nic:
                networks.append(network(number, nic[address], nic.get(gateway)))
    return raw_document(links, networks, dns)


def apply(box: Container, said: Dict[str, Any], *words: str, code: int = 0) -> Dict[str, Dict[str, str]]:
    """Apply a document; what became of each NIC, by its MAC address."""
    box.write(DOCUMENT, json.dumps(said))
    printed = box.csagent("network", "apply", "--document", DOCUMENT, *words, code=code)
    assert not (box.upper / PENDING).exists(), "a change is left open"
    return {nic["mac"]: nic for nic in printed["nics"]}


def gateways(box: Container, version: int = 4) -> List[Any]:
    return [(route["gateway"], route["dev"], route["metric"]) for route in box.routes(version)]


def until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


FIRST = {"mac": MAC, "four": "10.7.0.21/24", "via4": "10.7.0.1", "six": "fd00:7::21/64", "via6": "fd00:7::1"}


def test_a_nic_from_its_first_address_to_its_end(kind: Sequence[str], boxes: Boxes) -> None:
    """First time, again, changed, a wrong mode, a bad gateway put back, a second NIC, and its end."""
    _suite, manager = kind
    box, net = boxes()
    box.boot()
    net.bridge("lan", "10.7.0.1/24", "fd00:7::1/64")
    net.bridge("other", "10.8.0.1/24")
    net.plug(box, "lan", "ens3", MAC)

    told = apply(box, document(FIRST))[MAC]
    assert told["state"] == "applied", told
    assert box.addresses("ens3") == ["10.7.0.21/24", "fd00:7::21/64"]
    assert gateways(box) == [("10.7.0.1", "ens3", 100)]
    assert ("fd00:7::1", "ens3", 100) in gateways(box, 6)
    assert "nameserver 10.7.0.2" in box.read("/etc/resolv.conf")

    before = box.do(*ALL_FILES)
    assert apply(box, document(FIRST))[MAC]["state"] == "unchanged"
    assert box.do(*ALL_FILES) == before

    changed = {**FIRST, "four": "10.7.0.22/24"}
    assert apply(box, document(changed))[MAC]["state"] == "applied"
    assert box.addresses("ens3") == ["10.7.0.22/24", "fd00:7::21/64"]

    path, right, wrong = OURS[manager]
    path = path.format(MAC.replace(":", ""))
    box.do("chmod", wrong, path)
    assert apply(box, document(changed))[MAC]["state"] == "applied"
    assert box.do("stat", "-c", "%a", path).strip() == right

    bad = {**FIRST, "four": "10.7.0.23/24", "via4": "10.7.0.77"}
    failed = apply(box, document(bad), code=1)[MAC]
    assert failed["state"] == "failed" and "10.7.0.77 does not answer" in failed["reason"], failed
    assert box.addresses("ens3") == ["10.7.0.22/24", "fd00:7::21/64"]
    assert gateways(box) == [("10.7.0.1", "ens3", 100)]
    again = apply(box, document(bad), code=1)[MAC]
    assert again["state"] == "failed" and "tried before" in again["reason"], again

    net.plug(box, "other", "ens4", SECOND_MAC)
    second = {"mac": SECOND_MAC, "four": "10.8.0.21/24", "via4": "10.8.0.1"}
    both = apply(box, document(changed, second))
    assert both[SECOND_MAC]["state"] == "applied", both
    assert box.addresses("ens4") == ["10.8.0.21/24"]
    assert gateways(box) == [("10.7.0.1", "ens3", 100), ("10.8.0.1", "ens4", 2001)]

    box.do("ip", "link", "del", "ens4")
    assert apply(box, document(changed))[SECOND_MAC]["state"] == "removed"
    assert SECOND_MAC not in box.do("sh", "-c", "cat /etc/network/interfaces.d/* 2>/dev/null; ls /etc/*/*")
    assert box.addresses("ens3") == ["10.7.0.22/24", "fd00:7::21/64"]


def test_what_belongs_to_somebody_else(kind: Sequence[str], boxes: Boxes, tmp_path: Path) -> None:
    """A live lease, a file made by hand and an address given by hand: each is left, with its reason."""
    _suite, manager = kind
    box, net = boxes()
    by_hand, text, mode = BY_HAND[manager]
    box.put(by_hand, text, mode)
    if manager == "ifupdown":
        name, lines = DHCP["ifupdown"]
        box.put(name, lines.replace("allow-hotplug ens4\niface ens4 inet dhcp\n", ""))
    net.bridge("lan", "10.7.0.1/24")
    net.bridge("other", "10.8.0.1/24")
    net.dhcp("lan", "10.7.0.1", MAC, "10.7.0.21", tmp_path)
    box.boot()
    net.plug(box, "lan", "ens3", MAC)
    net.plug(box, "other", "ens4", SECOND_MAC)
    net.plug(box, "other", "ens5", THIRD_MAC)
    if manager == "ifupdown":
        box.do("ifup", "ens3", "ens4")
    until(lambda: box.addresses("ens3") and box.addresses("ens4"), "no lease, or no static address")
    until(lambda: box.csagent("discover")["leases"], "the lease is not seen")
    box.do("ip", "link", "set", "ens5", "up")
    box.do("ip", "addr", "add", "10.8.0.77/24", "dev", "ens5")

    nics = [
        {"mac": MAC, "four": "10.7.0.30/24", "via4": "10.7.0.1"},
        {"mac": SECOND_MAC, "four": "10.8.0.30/24", "via4": "10.8.0.1"},
        {"mac": THIRD_MAC, "four": "10.8.0.31/24", "via4": "10.8.0.1"},
    ]
    told = apply(box, document(*nics))
    assert {nic["state"] for nic in told.values()} == {"left"}, told
    assert "DHCP lease" in told[MAC]["reason"]
    assert by_hand in told[SECOND_MAC]["reason"]
    assert told[THIRD_MAC]["reason"], told
    assert box.addresses("ens3") == ["10.7.0.21/24"]
    assert box.addresses("ens4") == ["10.8.0.9/24"]
    assert box.addresses("ens5") == ["10.8.0.77/24"]
    assert "csagent" not in box.do(
        "sh", "-c", "ls /etc/systemd/network /etc/network /etc/network/interfaces.d"
    )


def test_a_routed_nic_and_a_gateway_that_never_was(kind: Sequence[str], boxes: Boxes) -> None:
    """On-link gateways of /32 and /128; where nothing worked before, a silent gateway does not undo it."""
    box, net = boxes()
    box.boot()
    net.bridge("lan", "169.254.0.1/16", "fe80::1/64")
    net.plug(box, "lan", "ens3", MAC)
    routed = {"four": "203.0.113.10/32", "via4": "169.254.0.1", "six": "2001:db8::10/128", "via6": "fe80::1"}
    told = apply(box, document({"mac": MAC, **routed}))[MAC]
    assert told["state"] == "applied", told
    assert box.addresses("ens3") == ["2001:db8::10/128", "203.0.113.10/32"]
    assert gateways(box) == [("169.254.0.1", "ens3", 100)]
    assert ("fe80::1", "ens3", 100) in gateways(box, 6)

    net.plug(box, "lan", "ens4", SECOND_MAC)
    second = {"mac": SECOND_MAC, "four": "10.9.0.21/24", "via4": "10.9.0.1"}
    told = apply(box, document({"mac": MAC, **routed}, second), code=3)[SECOND_MAC]
    assert told["state"] == "unconfirmed" and "10.9.0.1 does not answer" in told["reason"], told
    assert box.addresses("ens4") == ["10.9.0.21/24"]
    net.address("lan", "10.9.0.1/24")
    assert apply(box, document({"mac": MAC, **routed}, second))[SECOND_MAC]["state"] == "applied"


def test_a_power_cut_between_writing_and_confirming(kind: Sequence[str], boxes: Boxes) -> None:
    """The machine comes up with the former configuration: the new one's gateway is silent."""
    box, net = boxes()
    box.boot()
    net.bridge("lan", "10.7.0.1/24")
    net.plug(box, "lan", "ens3", MAC)
    good = {"mac": MAC, "four": "10.7.0.21/24", "via4": "10.7.0.1"}
    assert apply(box, document(good))[MAC]["state"] == "applied"

    box.write(DOCUMENT, json.dumps(document({**good, "four": "10.7.0.66/24", "via4": "10.7.0.77"})))
    running = box.popen("csagent", "network", "apply", "--document", DOCUMENT)
    until(lambda: "10.7.0.66" in written(box), "nothing was written")
    assert (box.upper / PENDING).exists()
    box.kill()
    running.communicate()

    box.boot()
    net.plug(box, "lan", "ens3", MAC)
    if kind[1] == "ifupdown":
        box.do("ifup", "ens3")
    box.write(DOCUMENT, json.dumps(document(good)))
    box.csagent("network", "apply", "--document", DOCUMENT)
    assert not (box.upper / PENDING).exists()
    assert box.addresses("ens3") == ["10.7.0.21/24"]
    assert gateways(box) == [("10.7.0.1", "ens3", 100)]
    assert "10.7.0.66" not in written(box)


def written(box: Container) -> str:
    """All that lies in files of csagent's in /etc."""
    places = ("systemd/network", "network", "NetworkManager/system-connections")
    found = [path for place in places for path in (box.upper / "etc" / place).rglob("*csagent*")]
    return "\n".join(path.read_text() for path in found)


def test_under_its_own_unit(kind: Sequence[str], boxes: Boxes) -> None:
    """csagent.service, confined as it is, does it; and a document that changes is applied on a reload."""
    box, net = boxes()
    drop_in = "[Service]\nExecStart=\nExecStart=/usr/bin/csagent daemon --drive /srv/drive\n"
    box.put("/etc/systemd/system/csagent.service.d/drive.conf", drop_in)
    box.put("/srv/drive/openstack/latest/meta_data.json", json.dumps({"uuid": "i-2-7-VM", "hostname": "vm"}))
    box.put("/srv/drive/cloudstack/metadata/vm-id.txt", "i-2-7-VM")
    place = "/srv/drive/openstack/latest/network_data.json"
    box.put(place, json.dumps(document({"mac": MAC, "four": "10.7.0.21/24", "via4": "10.7.0.1"})))
    box.boot()
    net.bridge("lan", "10.7.0.1/24")
    net.plug(box, "lan", "ens3", MAC)
    box.do("systemctl", "start", "csagent.service")
    status = box.csagent("status", "--wait", "60")["data"]["network"]
    assert status["state"] == "applied", (status, box.journal())
    assert [nic["state"] for nic in status["nics"]] == ["applied"]
    assert box.addresses("ens3") == ["10.7.0.21/24"]

    box.write(place, json.dumps(document({"mac": MAC, "four": "10.7.0.22/24", "via4": "10.7.0.1"})))
    box.do("systemctl", "reload", "csagent.service")
    until(lambda: box.addresses("ens3") == ["10.7.0.22/24"], box.journal())
    until(lambda: "10.7.0.22" in str(box.csagent("status")["data"]["network"]), box.journal())
    exposure = box.run("systemd-analyze", "security", "csagent.service").stdout
    assert "csagent.service: 2.5 OK" in exposure or "csagent.service: 2.4 OK" in exposure, exposure[-300:]
