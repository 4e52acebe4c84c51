"""`csagent network apply` with the real managers of Debian 11 to 13, in containers with a real systemd."""

from __future__ import annotations

import contextlib
import json
import logging
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Sequence

import pytest
from support.network_nics import MAC, SECOND_MAC, THIRD_MAC, link, network, raw_document
from support.requirements import require
from support.side_by_side import Stories, told_of
from support.systemd_container import SUITES, TOOLS, Container, Network, layer, tree
from support.systemd_container import network as network_of
from support.tcp_sequence import TcpSequence, end

from csagent.doctor.checks import drive_network, renewal
from csagent.model import Lease

MANAGERS = ("systemd-networkd", "NetworkManager", "ifupdown")
DAEMONS = {
    "systemd-networkd": "systemd-network",
    "NetworkManager": "NetworkManager",
}  # as the kernel cuts them
DOCUMENT = "/run/network_data.json"
MONITOR = "/run/addresses.log"
# Who changes only what differs; networkd 247 and 252 take all addresses away and set them again within
# milliseconds, and NetworkManager 1.42 IPv6's, which it has asked for again within two seconds.
KEEPING = [("systemd-networkd", "trixie"), *(("NetworkManager", suite) for suite in SUITES)]
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
EDITED = {
    "ifupdown": "/etc/network/interfaces.d/csagent",
    **{manager: OURS[manager][0].format(MAC.replace(":", "")) for manager in DAEMONS},
}
ALL_FILES = ("find", "/etc", "/var/lib/csagent", "-type", "f", "-printf", "%p %T@ %i\n")
NETPLAN = "/etc/netplan/90-default.yaml"  # as in Debian's cloud images
ALL_NICS = "network: {version: 2, ethernets: {all-en: {match: {name: 'e*'}, dhcp4: true}}}\n"
KINDS = [f"{suite}-{manager}" for suite in SUITES for manager in MANAGERS]
everywhere = told_of(KINDS)


class Scene(NamedTuple):
    """A container that is not booted yet, who configures its NICs, and the network that it will be in."""

    suite: str
    manager: str
    box: Container
    net: Network
    directory: Path
    stack: contextlib.ExitStack


@pytest.fixture(scope="session")
def stories(
    deb: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stories]:
    """Each with a container of its own, in which this checkout's package lies."""
    require(TOOLS, "runs containers with a systemd of their own")
    package_layer = layer(deb, tmp_path_factory.mktemp("layer"))

    def tell(story: Any, kind: str, directory: Path) -> None:
        suite, _, manager = kind.partition("-")
        with contextlib.ExitStack() as stack:
            box = Container([package_layer, tree(suite)], directory / "box", manager)
            box.put("/etc/resolv.conf", "nameserver 192.0.2.99\n")
            box.put(*DHCP[manager])
            stack.callback(box.kill)
            story(Scene(suite, manager, box, stack.enter_context(network_of()), directory, stack))

    made = Stories(request.session.items, tell, lambda: tmp_path_factory.mktemp("scene"))
    yield made
    made.close()


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
    last = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < last, what
        time.sleep(0.1)


FIRST = {"mac": MAC, "four": "10.7.0.21/24", "via4": "10.7.0.1", "six": "fd00:7::21/64", "via6": "fd00:7::1"}


@everywhere
def test_a_nic_from_its_first_address_to_its_end(scene: Scene) -> None:
    """First time, again, changed, a wrong mode, a bad gateway, a second NIC, another default NIC, its end."""
    _suite, manager, box, net, *_ = scene
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

    other_six = {**FIRST, "six": "fd00:7::22/64"}
    stays_through(scene, "10.7.0.21", document(other_six))
    assert box.addresses("ens3") == ["10.7.0.21/24", "fd00:7::22/64"]

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

    other = apply(box, document(second, changed))  # CloudStack's numbers move when the default NIC is changed
    assert [nic["state"] for nic in other.values()] == ["applied", "applied"], other
    assert gateways(box) == [("10.8.0.1", "ens4", 100), ("10.7.0.1", "ens3", 2001)]

    box.do("ip", "link", "del", "ens4")
    assert apply(box, document(changed))[SECOND_MAC]["state"] == "removed"
    assert SECOND_MAC not in box.do("sh", "-c", "cat /etc/network/interfaces.d/* 2>/dev/null; ls /etc/*/*")
    assert box.addresses("ens3") == ["10.7.0.22/24", "fd00:7::21/64"]


def stays_through(scene: Scene, address: str, said: Dict[str, Any]) -> None:
    """A TCP connection to an address that stays lives on; with KEEPING the address is never away."""
    suite, manager, box, net, *_, stack = scene
    sequence = TcpSequence(net, "10.7.0.1", box, address)
    stack.callback(sequence.close)
    monitor = box.popen("sh", "-c", f"exec ip -o monitor address >{MONITOR}")
    stack.callback(end, monitor)
    until(lambda: sequence.seen()[0] and box.run("test", "-e", MONITOR).returncode == 0, "no connection")
    assert apply(box, said)[MAC]["state"] == "applied"
    count, _ = sequence.seen()
    until(lambda: sequence.seen()[0] > count or not sequence.lives(), "the connection is silent")
    assert sequence.lives(), "the connection to an address that stays was given up"
    logging.info("%s, %s: TCP was silent for %s s at most", suite, manager, sequence.seen()[1])
    if (manager, suite) in KEEPING:
        news = box.read(MONITOR)
        assert "fd00:7::22/64" in news
        assert not [line for line in news.split("\n") if "Deleted" in line and f" {address}/" in line], news


@everywhere
def test_what_belongs_to_somebody_else(scene: Scene) -> None:
    """A live lease, a file made by hand and an address given by hand: each is left, with its reason."""
    _suite, manager, box, net, *_ = scene
    by_hand, text, mode = BY_HAND[manager]
    box.put(by_hand, text, mode)
    if manager == "ifupdown":
        name, lines = DHCP["ifupdown"]
        box.put(name, lines.replace("allow-hotplug ens4\niface ens4 inet dhcp\n", ""))
    net.bridge("lan", "10.7.0.1/24")
    net.bridge("other", "10.8.0.1/24")
    net.dhcp("lan", "10.7.0.1", MAC, "10.7.0.21", scene.directory)
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
    advice_helps(scene, document(*nics))


def advice_helps(scene: Scene, said: Dict[str, Any]) -> None:
    """What doctor says of such an address gives CloudStack's; a lease is asked for anew by its own client."""
    box = scene.box
    (found,) = drive_network.left_alone("ens5", "it has an address that somebody gave it")
    box.do("sh", "-c", found.advice.partition("CloudStack's: ")[2].partition(", then: ")[0])
    assert found.advice.endswith(", then: csagent network apply --again")
    told = apply(box, said, "--again")
    assert told[THIRD_MAC]["state"] == "applied" and box.addresses("ens5") == ["10.8.0.31/24"], told
    (lease,) = [one for one in box.csagent("discover")["leases"] if one["interface"] == "ens3"]
    box.do("ip", "addr", "flush", "dev", "ens3")
    box.do("sh", "-c", renewal.command(Lease("ens3", lease["client"], "10.7.0.21", path=lease["path"])))
    until(lambda: box.addresses("ens3") == ["10.7.0.21/24"], "no lease")


@everywhere
def test_a_routed_nic_and_a_gateway_that_never_was(scene: Scene) -> None:
    """On-link gateways of /32 and /128; where nothing worked before, a silent gateway does not undo it."""
    box, net = scene.box, scene.net
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


@told_of([f"trixie-{manager}" for manager in DAEMONS])
def test_a_manager_that_hangs(scene: Scene) -> None:
    """It is stopped: the NIC is left, with that reason, and gets its address once the manager goes on."""
    box, net = scene.box, scene.net
    box.boot()
    net.bridge("lan", "10.7.0.1/24")
    net.plug(box, "lan", "ens3", MAC)
    said = document({"mac": MAC, "four": "10.7.0.21/24", "via4": "10.7.0.1"})
    box.write(DOCUMENT, json.dumps(said))
    plan = ("network", "plan", "--document", DOCUMENT)
    until(lambda: box.csagent(*plan)["nics"][0]["do"] == "configure", "nobody takes the NIC")
    box.do("pkill", "-STOP", "-x", DAEMONS[scene.manager])
    told = apply(box, said)[MAC]
    assert told["state"] == "left" and told["reason"].startswith(f"{scene.manager} does not "), told
    assert ": no end after" in told["reason"], told
    assert "csagent" not in written(box)
    box.do("pkill", "-CONT", "-x", DAEMONS[scene.manager])
    assert apply(box, said)[MAC]["state"] == "applied"
    assert box.addresses("ens3") == ["10.7.0.21/24"]


@everywhere
def test_cut_short_between_writing_and_confirming(scene: Scene) -> None:
    """Killed, and the gateway answers then: the new state. A power cut, and it is silent: the former one.

    And what the owner makes of the file while csagent waits for a gateway stays.
    """
    box, net = scene.box, scene.net
    box.boot()
    net.bridge("lan", "10.7.0.1/24", "fd00:7::1/64")
    net.plug(box, "lan", "ens3", MAC)
    good = {"mac": MAC, "four": "10.7.0.21/24", "via4": "10.7.0.1"}
    assert apply(box, document(good))[MAC]["state"] == "applied"

    changed = document({**good, "four": "10.7.0.22/24", "via4": "10.7.0.2"})
    running = begun(box, changed, "10.7.0.22")
    box.do("pkill", "-KILL", "-x", "csagent")
    running.communicate(timeout=300)
    assert (box.upper / PENDING).exists()
    net.address("lan", "10.7.0.2/24")
    assert apply(box, changed)[MAC]["state"] in ("applied", "unchanged")
    assert box.addresses("ens3") == ["10.7.0.22/24"]

    running = begun(box, document({**good, "four": "10.7.0.66/24", "via4": "10.7.0.77"}), "10.7.0.66")
    assert (box.upper / PENDING).exists()
    box.kill()
    running.communicate(timeout=300)

    box.boot()
    net.plug(box, "lan", "ens3", MAC)
    if scene.manager == "ifupdown":
        box.do("ifup", "ens3")
    box.write(DOCUMENT, json.dumps(changed))
    box.csagent("network", "apply", "--document", DOCUMENT)
    assert not (box.upper / PENDING).exists()
    assert box.addresses("ens3") == ["10.7.0.22/24"]
    assert gateways(box) == [("10.7.0.2", "ens3", 100)]
    assert "10.7.0.66" not in written(box)

    running = begun(box, document({**good, "four": "10.7.0.44/24", "via4": "10.7.0.78"}), "10.7.0.44")
    box.do("sed", "-i", "s/10.7.0.44/10.7.0.33/", EDITED[scene.manager])
    running.communicate(timeout=300)
    assert not (box.upper / PENDING).exists()
    assert "10.7.0.33" in box.read(EDITED[scene.manager])


def begun(box: Container, said: Dict[str, Any], address: str) -> "subprocess.Popen[bytes]":
    """csagent at work, when the address is written and its gateway has yet to answer."""
    box.write(DOCUMENT, json.dumps(said))
    running = box.popen("csagent", "network", "apply", "--document", DOCUMENT)
    until(lambda: address in written(box), "nothing was written")
    return running


@told_of([f"{suite}-systemd-networkd" for suite in SUITES])
def test_netplan_above_networkd(scene: Scene) -> None:
    """What netplan has made of its file loses against csagent's, also when it makes it anew."""
    box, net = scene.box, scene.net
    (box.upper / DHCP["systemd-networkd"][0].lstrip("/")).unlink()
    box.put(NETPLAN, ALL_NICS, 0o600)
    box.boot()
    net.bridge("lan", "10.7.0.1/24")
    net.plug(box, "lan", "ens3", MAC)
    assert "10-netplan-all-en.network" in box.do("ls", "/run/systemd/network")
    good = document({"mac": MAC, "four": "10.7.0.21/24", "via4": "10.7.0.1"})
    told = apply(box, good)[MAC]
    assert told["state"] == "applied", told
    assert "netplan" not in written(box)
    box.do("netplan", "generate")
    box.do("networkctl", "reload")
    assert apply(box, good)[MAC]["state"] == "unchanged"
    assert box.addresses("ens3") == ["10.7.0.21/24"]
    assert gateways(box) == [("10.7.0.1", "ens3", 100)]


def written(box: Container) -> str:
    """All that lies in files of csagent's in /etc."""
    places = ("systemd/network", "network", "NetworkManager/system-connections")
    found = [path for place in places for path in (box.upper / "etc" / place).rglob("*csagent*")]
    return "\n".join(path.read_text() for path in found)


@everywhere
def test_under_its_own_unit(scene: Scene) -> None:
    """csagent.service, confined as it is, does it; and a document that changes is applied on a reload."""
    box, net = scene.box, scene.net
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
