"""Who is in charge of a NIC, told from what real machines have said, and from files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest

from csagent.apply.network.kernel_state import LinkSeen
from csagent.apply.network.machine import IFUPDOWN, NETWORKD, NETWORKMANAGER, Owner
from csagent.apply.network.owners import networkd as networkd_owner
from csagent.apply.network.owners import networkmanager as networkmanager_owner
from csagent.apply.network.renderers import ifupdown, networkd, networkmanager
from csagent.apply.network.survey import survey
from csagent.system.seams import RecordedRunner, System

RECORDED = Path(__file__).resolve().parents[3] / "fixtures" / "network-owners"
MAC = "02:01:00:c4:00:05"
OWN = "DHCP by NetworkManager's own profile"

SAID: Dict[str, Tuple[Optional[str], Optional[str], str]] = {
    "debian-11-NetworkManager-dhcp": (NETWORKMANAGER, None, OWN),
    "debian-12-NetworkManager-dhcp": (NETWORKMANAGER, None, OWN),
    "debian-13-NetworkManager-dhcp": (NETWORKMANAGER, None, OWN),
    "debian-11-ifupdown-dhcp": (IFUPDOWN, None, "DHCP by /etc/network/interfaces"),
    "debian-12-ifupdown-dhcp": (IFUPDOWN, None, "DHCP by /etc/network/interfaces"),
    "debian-13-ifupdown-dhcp": (IFUPDOWN, None, "DHCP by /etc/network/interfaces"),
    "debian-11-systemd-networkd-dhcp": (NETWORKD, None, "DHCP by /etc/systemd/network/80-all.network"),
    "debian-12-systemd-networkd-dhcp": (NETWORKD, None, "DHCP by /etc/systemd/network/80-all.network"),
    "debian-13-systemd-networkd-dhcp": (NETWORKD, None, "DHCP by /etc/systemd/network/80-all.network"),
    "debian-12-systemd-networkd-netplan": (
        NETWORKD,
        None,
        "DHCP by /run/systemd/network/10-netplan-all-en.network",
    ),
    "debian-12-systemd-networkd-no-file": (NETWORKD, None, "no file configures it"),
    "debian-13-systemd-networkd-static": (
        NETWORKD,
        "somebody configures it: /etc/systemd/network/10-mine.network has Address=",
        "",
    ),
    "debian-12-systemd-networkd-bond": (
        NETWORKD,
        "somebody configures it: /etc/systemd/network/20-s.network has Bond=",
        "",
    ),
    "debian-13-NetworkManager-static": (
        NETWORKMANAGER,
        "somebody configures it: /etc/NetworkManager/system-connections/mine.nmconnection gives it a static"
        " address",
        "",
    ),
    "debian-12-NetworkManager-unmanaged": (NETWORKMANAGER, "NetworkManager is told to leave it alone", ""),
    "debian-12-NetworkManager-by-hand": (NETWORKMANAGER, "NetworkManager is told to leave it alone", ""),
    "debian-12-NetworkManager-and-networkd": (
        f"{NETWORKD} and {NETWORKMANAGER}",
        f"{NETWORKD} and {NETWORKMANAGER} both configure it: which of them shall, only you can say",
        "",
    ),
    "debian-12-ifupdown-static": (
        IFUPDOWN,
        "somebody configures it: /etc/network/interfaces has iface ens3 inet static",
        "",
    ),
    "debian-12-None-nobody": (
        None,
        "neither systemd-networkd, NetworkManager nor ifupdown configures it"
        " (systemd-networkd, NetworkManager masked)",
        "",
    ),
}


def owner_in(tree: Path, name: str = "ens3") -> Owner:
    machine = survey(System.at(str(tree)), ())
    return next(device.owner for device in machine.devices if device.name == name)


def test_every_recording_has_an_answer() -> None:
    """And every answer its recording."""
    assert {path.name for path in RECORDED.iterdir() if path.is_dir()} == set(SAID)


@pytest.mark.parametrize("name", sorted(SAID))
def test_a_recorded_machine_tells_who_has_its_nic(name: str) -> None:
    """The manager, what speaks against touching the NIC, and what configures it now."""
    owner = owner_in(RECORDED / name)
    manager, against, how = SAID[name]
    assert (owner.manager, owner.against, owner.starting, owner.ours) == (manager, against, False, False)
    if against is None:
        assert owner.how == how


@pytest.mark.parametrize("release", ["11", "12", "13"])
def test_a_second_nic_without_a_stanza_is_ifupdowns_to_take(release: str) -> None:
    """Nobody brings it up at boot: that takes a line of ours."""
    tree = RECORDED / f"debian-{release}-ifupdown-dhcp"
    assert owner_in(tree, "ens4") == Owner(IFUPDOWN, how="no file configures it")
    assert owner_in(tree, "ens3").raised


# --- files, on a copy of a recorded machine


@pytest.fixture
def copy(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The recorded machine that the test names, to be changed."""
    return Path(shutil.copytree(RECORDED / request.param, tmp_path / "tree"))


def put(tree: Path, path: str, text: str) -> None:
    target = tree / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def says(tree: Path, words: str, output: str) -> None:
    """What a command of the recording prints from now on."""
    recorded = json.loads((tree / "recorded.json").read_text())
    recorded["commands"][words] = "_commands/changed.txt"
    put(tree, "_commands/changed.txt", output)
    (tree / "recorded.json").write_text(json.dumps(recorded))


def networkd_file(tree: Path, path: str) -> None:
    says(tree, "networkctl --no-pager --lines=0 status ens3", f"● 2: ens3\n     Network File: {path}\n")


NETWORKD_13 = pytest.mark.parametrize("copy", ["debian-13-systemd-networkd-dhcp"], indirect=True)
NM_13 = pytest.mark.parametrize("copy", ["debian-13-NetworkManager-dhcp"], indirect=True)
IFUPDOWN_13 = pytest.mark.parametrize("copy", ["debian-13-ifupdown-dhcp"], indirect=True)


@NETWORKD_13
@pytest.mark.parametrize(
    ("text", "against"),
    [
        ("[Network]\nDHCP=ipv4\n", None),
        ("[Network]\nDHCP=yes\n[DHCPv4]\nRouteMetric=512\n", None),
        ("[Network]\nIPv6AcceptRA=yes\n", None),
        ("[Network]\nDHCP=yes\nAddress=\nAddress=192.0.2.9/24\n", "has Address="),
        ("[Network]\nDHCP=yes\n[Address]\nAddress=192.0.2.9/24\n", "has [Address]"),
        ("[Network]\nDHCP=yes\n[Route]\nGateway=192.0.2.1\n", "has [Route]"),
        ("[Network]\nVLAN=vlan7\nDHCP=yes\n", "has VLAN="),
        ("[Network]\nBridge=br0\n", "has Bridge="),
        ("[Network]\nDHCP=no\n", "asks for no DHCP"),
        ("[Link]\nUnmanaged=yes\n[Network]\nDHCP=yes\n", "tells systemd-networkd to leave it alone"),
        ("[Network]\nLinkLocalAddressing=no\n", "asks for no DHCP"),
        ("", "cannot be read"),
    ],
)
def test_a_file_with_dhcp_and_nothing_else_may_be_replaced(
    copy: Path, text: str, against: Optional[str]
) -> None:
    """Whatever its name and match: with anything static in it, it is somebody's."""
    put(copy, "/etc/systemd/network/80-all.network", text and f"[Match]\nName=ens3\n{text}")
    said = owner_in(copy).against
    assert said is None if against is None else said is not None and said.endswith(against)


@NETWORKD_13
def test_a_drop_in_counts(copy: Path) -> None:
    """It is read with its file."""
    put(copy, "/etc/systemd/network/80-all.network.d/mine.conf", "[Network]\nAddress=192.0.2.9/24\n")
    assert str(owner_in(copy).against).endswith("has Address=")


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ("MACAddress=02:01:00:7e:00:11", True),
        ("MACAddress=02:01:00:c4:00:05", False),
        ("PermanentMACAddress=02:01:00:c4:00:05", True),
        ("PermanentMACAddress=02-01-00-C4-00-05 02:01:00:00:00:09", True),
        ("PermanentMACAddress=02:01:00:7e:00:11", False),
    ],
)
def test_before_networkd_is_up_its_files_are_matched_as_it_does(
    tmp_path: Path, match: str, fits: bool
) -> None:
    """A NIC that was given another MAC address: one condition is for that, one for its own."""
    put(
        tmp_path,
        "/etc/systemd/network/20-mine.network",
        f"[Match]\n{match}\n[Network]\nAddress=10.9.0.9/24\n",
    )
    link = LinkSeen("ens3", 2, "02:01:00:7e:00:11", permanent=MAC)
    said = networkd_owner._from_files(System.at(str(tmp_path)), link)
    assert (said.against is not None and "20-mine.network has Address=" in said.against) is fits


@NETWORKD_13
def test_a_recorded_mac_address_that_was_given(copy: Path) -> None:
    """`ip -j addr` tells the hardware's beside the present one, where they differ."""
    recorded = json.loads((copy / "recorded.json").read_text())
    path = copy / recorded["commands"]["ip -j addr"]
    entries = json.loads(path.read_text())
    for entry in entries:
        if entry["ifname"] == "ens3":
            entry.update(address="02:01:00:7e:00:99", permaddr=MAC)
    path.write_text(json.dumps(entries))
    machine = survey(System.at(str(copy)), ())
    device = next(device for device in machine.devices if device.name == "ens3")
    assert (device.mac, device.given) == (MAC, "02:01:00:7e:00:99")


@NETWORKD_13
def test_our_file_is_ours(copy: Path) -> None:
    """By its name, wherever the NIC was before."""
    networkd_file(copy, networkd.path(MAC))
    assert owner_in(copy) == Owner(NETWORKD, ours=True, how=networkd.path(MAC))


@NETWORKD_13
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/systemd/network/10-cloud-init-ens3.network", "[Match]\nName=ens3\n[Network]\nDHCP=yes\n"),
        ("/etc/netplan/50-cloud-init.yaml", "network: {ethernets: {ens3: {dhcp4: true}}}"),
        (
            "/etc/netplan/50-cloud-init.yaml",
            "network: {ethernets: {x: {match: {macaddress: '02:01:00:C4:00:05'}}}}",
        ),
    ],
)
def test_what_cloud_init_wrote_for_the_nic_is_cloud_inits(copy: Path, path: str, text: str) -> None:
    """By name or MAC address."""
    put(copy, path, text)
    if path.endswith(".network"):
        networkd_file(copy, path)
    assert owner_in(copy).against == f"cloud-init configures it: {path}"


@NETWORKD_13
def test_a_netplan_file_of_cloud_inits_for_others_is_no_objection(copy: Path) -> None:
    """ens33 is not ens3."""
    put(copy, "/etc/netplan/50-cloud-init.yaml", "network: {ethernets: {ens33: {dhcp4: true}, xens3: {}}}")
    put(copy, "/run/systemd/network/10-netplan-ens33.network", "")
    assert owner_in(copy).against is None


@NETWORKD_13
def test_a_file_that_says_unmanaged_is_the_owners_word(copy: Path) -> None:
    """networkd runs, and is told to leave the NIC alone."""
    says(copy, "networkctl --no-pager --no-legend list", "  2 ens3 ether routable unmanaged\n")
    against = "/etc/systemd/network/80-all.network tells systemd-networkd to leave it alone"
    assert owner_in(copy).against == against


@NETWORKD_13
def test_a_daemon_that_does_not_answer_leaves_the_nic_alone(copy: Path) -> None:
    """It hangs, or its command fails: nobody can say whose the NIC is."""
    recorded = json.loads((copy / "recorded.json").read_text())
    del recorded["commands"]["networkctl --no-pager --no-legend list"]
    (copy / "recorded.json").write_text(json.dumps(recorded))
    assert str(owner_in(copy).against).startswith("systemd-networkd does not answer")


@NETWORKD_13
def test_a_daemon_that_does_not_say_by_which_file_leaves_the_nic_alone(copy: Path) -> None:
    """The list was printed, and the status hangs: the file may be anybody's."""
    recorded = json.loads((copy / "recorded.json").read_text())
    del recorded["commands"]["networkctl --no-pager --lines=0 status ens3"]
    (copy / "recorded.json").write_text(json.dumps(recorded))
    assert (
        owner_in(copy).against
        == "systemd-networkd does not say by which file it is configured: not installed"
    )


@NETWORKD_13
@pytest.mark.parametrize(("name", "before"), [("00-all", True), ("05-abc", True), ("05-d", False)])
def test_a_file_whose_name_comes_before_ours_would_win(copy: Path, name: str, before: bool) -> None:
    """Also one that asks for DHCP only: a file of ours would never count."""
    path = f"/etc/systemd/network/{name}.network"
    put(copy, path, "[Match]\nName=e*\n[Network]\nDHCP=yes\n")
    networkd_file(copy, path)
    against = f"somebody configures it: {path} comes before any file of csagent's"
    assert owner_in(copy).against == (against if before else None)


@NETWORKD_13
def test_before_networkd_has_settled_its_files_tell(copy: Path) -> None:
    """A NIC just plugged in is pending: the first file by name that matches it will count."""
    says(copy, "networkctl --no-pager --no-legend list", "  2 ens3 ether off pending\n")
    assert owner_in(copy).how == "DHCP by /etc/systemd/network/80-all.network"
    put(
        copy,
        "/usr/lib/systemd/network/20-mac.network",
        f"[Match]\nMACAddress={MAC.upper()}\n[Network]\nAddress=192.0.2.9/24\n",
    )
    assert str(owner_in(copy).against).startswith("somebody configures it: /usr/lib/systemd/network/20-mac")
    put(copy, "/run/systemd/network/10-no.network", "[Match]\nName=!ens* lo\n[Network]\nVLAN=x\n")
    put(copy, "/run/systemd/network/11-no.network", "[Match]\nType=wlan\n[Network]\nVLAN=x\n")
    put(copy, "/etc/systemd/network/20-mac.network", "")
    assert owner_in(copy).how == "DHCP by /etc/systemd/network/80-all.network"


def test_at_early_boot_what_is_enabled_counts(tmp_path: Path) -> None:
    """No daemon runs yet, or there is none to ask (a tree): the file is written for its start."""
    tree = Path(shutil.copytree(RECORDED / "debian-12-systemd-networkd-dhcp", tmp_path / "tree"))
    says(
        tree,
        "systemctl show --property=Id,LoadState,ActiveState,UnitFileState systemd-networkd.service"
        " NetworkManager.service networking.service systemd-resolved.service dhcpcd.service connman.service"
        " wickedd.service wicked.service",
        "Id=systemd-networkd.service\nLoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\n",
    )
    owner = owner_in(tree)
    assert (owner.manager, owner.starting) == (NETWORKD, True)
    assert owner.how == "DHCP by /etc/systemd/network/80-all.network"


@pytest.mark.parametrize("name", ["dhcpcd", "connman", "wicked"])
def test_a_manager_that_csagent_does_not_know_is_named(tmp_path: Path, name: str) -> None:
    """It is in charge of all NICs."""
    tree = Path(shutil.copytree(RECORDED / "debian-12-None-nobody", tmp_path / "tree"))
    command = next(
        line for line in json.loads((tree / "recorded.json").read_text())["commands"] if "systemctl" in line
    )
    says(tree, command, f"Id={name}.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\n")
    owner = owner_in(tree)
    assert (owner.manager, owner.against) == (
        name,
        f"{name} is in charge of it, for which csagent writes no files",
    )


# --- NetworkManager


def device(tree: Path, state: str, connection: str, uuid: str) -> None:
    says(tree, " ".join(networkmanager_owner.DEVICES), f"ens3:{state}:{connection}:{uuid}\n")


@NM_13
def test_our_profile_is_ours(copy: Path) -> None:
    """By its UUID, which is made of the MAC address."""
    device(copy, "connected", "csagent 02\\:01\\:00\\:c4\\:00\\:05", networkmanager.uuid(MAC))
    assert owner_in(copy) == Owner(NETWORKMANAGER, ours=True, how=networkmanager.path(MAC))


@NM_13
@pytest.mark.parametrize("answers", [True, False])
def test_a_profile_with_our_uuid_in_somebodys_file_is_somebodys(copy: Path, answers: bool) -> None:
    """A copy of ours under another name; and where NetworkManager does not say in which file it lies."""
    device(copy, "connected", "mine", networkmanager.uuid(MAC))
    path = "/etc/NetworkManager/system-connections/mine.nmconnection"
    words = " ".join(networkmanager_owner.PROFILES)
    recorded = json.loads((copy / "recorded.json").read_text())
    recorded["commands"].pop(words, None)
    if answers:
        recorded["commands"][words] = "_commands/profiles.txt"
        put(copy, "_commands/profiles.txt", f"{networkmanager.uuid(MAC)}:{path}:yes\n")
    (copy / "recorded.json").write_text(json.dumps(recorded))
    owner = owner_in(copy)
    assert not owner.ours
    assert owner.against == (
        f"somebody configures it: {path} has the UUID of csagent's profile"
        if answers
        else "NetworkManager does not say by which file it is configured: not installed"
    )


@NM_13
def test_what_networkmanager_found_configured_is_somebodys(copy: Path) -> None:
    """An address set by hand."""
    device(copy, "connected (externally)", "ens3", "6d1f1f6c-1f43-4d52-9d0a-0b8f1f1d0b11")
    assert owner_in(copy).against == "NetworkManager has found it configured by somebody else"


@NM_13
@pytest.mark.parametrize(
    ("text", "against"),
    [
        ("[ipv4]\nmethod=auto\n", None),
        ("[ipv4]\nmethod=auto\n[ipv6]\nmethod=disabled\n", None),
        ("[ipv4]\nmethod=disabled\n[ipv6]\nmethod=auto\n", None),
        ("[ipv4]\nmethod=manual\naddress1=192.0.2.9/24\n", "gives it a static address"),
        ("[ipv4]\nmethod=auto\naddress1=192.0.2.9/24\n", "gives it a static address"),
        ("[ipv4]\nmethod=shared\n", "asks for no DHCP"),
        ("[ipv4]\nmethod=disabled\n[ipv6]\nmethod=disabled\n", "asks for no DHCP"),
        (
            "[ipv4]\nmethod=auto\n[connection]\nautoconnect-priority=99\n",
            "has a higher priority than csagent's profile",
        ),
        ("[ipv4]\nmethod=auto\n[connection]\nautoconnect-priority=50\n", None),
        ("[ipv4]\nmethod=auto\n[802-3-ethernet]\nmac-address=02:01:00:C4:00:05\n", None),
        ("", "cannot be read"),
    ],
)
def test_a_profile_with_dhcp_and_nothing_else_may_be_replaced(
    copy: Path, text: str, against: Optional[str]
) -> None:
    """Also under /etc: ours has the higher priority, and it stays as it is."""
    uuid = "6d1f1f6c-1f43-4d52-9d0a-0b8f1f1d0b11"
    path = "/etc/NetworkManager/system-connections/office.nmconnection"
    device(copy, "connecting (getting IP configuration)", "office", uuid)
    says_profiles = " ".join(networkmanager_owner.PROFILES)
    recorded = json.loads((copy / "recorded.json").read_text())
    recorded["commands"][says_profiles] = "_commands/profiles.txt"
    (copy / "recorded.json").write_text(json.dumps(recorded))
    put(copy, "_commands/profiles.txt", f"{uuid}:{path}:yes\n")
    put(copy, path, text and f"[connection]\nid=office\nuuid={uuid}\n{text}")
    said = owner_in(copy).against
    assert said is None if against is None else said is not None and said.endswith(against)


@NM_13
@pytest.mark.parametrize(
    ("path", "text", "against"),
    [
        (
            "/etc/NetworkManager/system-connections/mine.nmconnection",
            "[connection]\ninterface-name=ens3\n[ipv4]\nmethod=manual\naddress1=192.0.2.9/24\n",
            "gives it a static address",
        ),
        (
            "/etc/sysconfig/network-scripts/ifcfg-ens3",
            "DEVICE=ens3\nBOOTPROTO=none\nIPADDR=192.0.2.9\n",
            "gives it a static address",
        ),
        ("/etc/sysconfig/network-scripts/ifcfg-ens3", 'DEVICE="ens3"\nBOOTPROTO="dhcp"\n', None),
        (
            "/etc/sysconfig/network-scripts/ifcfg-ens3",
            "DEVICE=ens3\nBOOTPROTO=dhcp\nNM_CONTROLLED=no\n",
            "tells NetworkManager to leave it alone",
        ),
        (
            "/etc/sysconfig/network-scripts/ifcfg-ens3",
            "DEVICE=ens3\nBOOTPROTO=dhcp\nTEAM_MASTER=team0\n",
            "makes it a part of team0",
        ),
        (
            "/etc/NetworkManager/system-connections/vlan7.nmconnection",
            "[connection]\ntype=vlan\n[vlan]\nid=7\nparent=ens3\n[ipv4]\nmethod=auto\n",
            "has a VLAN on it",
        ),
        (
            "/etc/sysconfig/network-scripts/ifcfg-ens3",
            "# Created by cloud-init automatically, do not edit.\nDEVICE=ens3\nBOOTPROTO=dhcp\n",
            "cloud-init configures it: /etc/sysconfig/network-scripts/ifcfg-ens3",
        ),
        (
            "/etc/NetworkManager/system-connections/other.nmconnection",
            "[connection]\ninterface-name=ens9\n[ipv4]\nmethod=manual\naddress1=192.0.2.9/24\n",
            None,
        ),
    ],
)
def test_a_profile_for_this_very_nic_counts_without_being_active(
    copy: Path, path: str, text: str, against: Optional[str]
) -> None:
    """Its owner may have put it off."""
    device(copy, "disconnected", "", "")
    put(copy, path, text)
    said = owner_in(copy).against
    assert said is None if against is None else said is not None and said.endswith(against)


# --- ifupdown


@IFUPDOWN_13
@pytest.mark.parametrize(
    ("text", "against"),
    [
        ("iface ens3 inet dhcp\niface ens3 inet6 auto\n", None),
        ("iface ens3 inet static\n  address 192.0.2.9/24\n", "has iface ens3 inet static"),
        ("iface ens3 inet dhcp\niface ens3 inet6 static\n", "has iface ens3 inet6 static"),
        ("iface ens3 inet manual\n", "has iface ens3 inet manual"),
        ("iface br0 inet dhcp\n  bridge_ports ens3 ens4\n", "makes it a part of br0"),
        ("mapping ens*\n  script /bin/x\n", "has mapping ens*"),
        ("iface ens3.7 inet static\n  address 192.0.2.9/24\n", "has the VLAN ens3.7 on it"),
        ("iface v7 inet static\n  vlan-raw-device ens3\n", "has the VLAN v7 on it"),
        ("iface ens33.7 inet static\n", None),
        ("iface csagent-ens3 inet dhcp\n", "has iface csagent-ens3, which is csagent's name"),
    ],
)
def test_a_stanza_with_dhcp_and_nothing_else_may_be_led_around(
    copy: Path, text: str, against: Optional[str]
) -> None:
    """The installer's stanza stays; a static one, a bridge, somebody's mapping leave the NIC alone."""
    put(copy, "/etc/network/interfaces", f"source /etc/network/interfaces.d/*\n{text}")
    said = owner_in(copy).against
    assert said is None if against is None else said is not None and said.endswith(against)


@IFUPDOWN_13
@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("source /etc/network/interfaces.d/*", True),
        ("source interfaces.d/*", True),
        ("source-directory /etc/network/interfaces.d", True),
        ("source /etc/network/interfaces.d/*.cfg", False),
        ("", False),
    ],
)
def test_a_file_of_ours_must_be_read(copy: Path, line: str, read: bool) -> None:
    """By /etc/network/interfaces, or one that it reads."""
    put(copy, "/etc/network/interfaces", f"{line}\niface ens3 inet dhcp\n")
    against = "/etc/network/interfaces does not source interfaces.d, so that no file is read"
    assert owner_in(copy).against == (None if read else against)


@IFUPDOWN_13
def test_our_mapping_is_ours_once_it_is_in_force(copy: Path) -> None:
    """ifup's own record says with which stanza the NIC was brought up."""
    put(
        copy,
        ifupdown.PATH,
        "# csagent 02:01:00:c4:00:05\nmapping ens3\n    script /etc/network/csagent-logical\n",
    )
    assert not owner_in(copy).ours
    put(copy, "/run/network/ifstate", "lo=lo\nens3=csagent-ens3\n")
    assert owner_in(copy) == Owner(IFUPDOWN, ours=True, raised=True, how=ifupdown.PATH)


@IFUPDOWN_13
def test_cloud_inits_stanza_is_cloud_inits(copy: Path) -> None:
    """interfaces.d/50-cloud-init."""
    put(copy, "/etc/network/interfaces", "source /etc/network/interfaces.d/*\n")
    put(copy, "/etc/network/interfaces.d/50-cloud-init", "auto ens3\niface ens3 inet dhcp\n")
    assert owner_in(copy).against == "cloud-init configures it: /etc/network/interfaces.d/50-cloud-init"


@IFUPDOWN_13
@pytest.mark.parametrize("path", ["/usr/share/ifupdown2", "/usr/libexec/ifupdown-ng"])
def test_another_ifupdown_has_no_mappings(copy: Path, path: str) -> None:
    """It is named, and its NICs are left."""
    put(copy, f"{path}/x", "")
    assert str(owner_in(copy).against).endswith("for which csagent writes no files")


def test_a_nic_in_a_bond_is_a_part_of_it(tmp_path: Path) -> None:
    """As the kernel says; and one with a twin has it named."""
    tree = Path(shutil.copytree(RECORDED / "debian-12-systemd-networkd-dhcp", tmp_path / "tree"))
    links = json.loads((tree / "_commands/00-ip.txt").read_text())
    next(link for link in links if link["ifname"] == "ens3")["master"] = "bond0"
    next(link for link in links if link["ifname"] == "ens4")["address"] = MAC
    (tree / "_commands/00-ip.txt").write_text(json.dumps(links))
    first, second = survey(System.at(str(tree)), ()).devices
    assert (first.part_of, first.twin, second.part_of, second.twin) == ("bond0", "ens4", None, "ens3")


@pytest.mark.parametrize("directory", ["etc", "run"])
@pytest.mark.parametrize("empty", [True, False])
def test_a_masked_manager_will_not_have_the_nic(tmp_path: Path, directory: str, empty: bool) -> None:
    """An empty unit file masks like a link to /dev/null, whatever is enabled beside it."""
    put(tmp_path, "/sys/class/net/ens3/address", MAC + "\n")
    put(tmp_path, "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service", "")
    assert owner_in(tmp_path).manager == NETWORKD
    unit = tmp_path / directory / "systemd/system/systemd-networkd.service"
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.touch() if empty else unit.symlink_to("/dev/null")
    assert str(owner_in(tmp_path).against).endswith("configures it (systemd-networkd masked)")


@pytest.mark.parametrize("kind", ["vlan", "bridge", "bond", "macvlan"])
def test_what_is_made_on_top_of_a_nic_is_none(tmp_path: Path, kind: str) -> None:
    """A VLAN or bridge with the NIC's own MAC address: the NIC is the one that counts."""
    tree = Path(shutil.copytree(RECORDED / "debian-12-systemd-networkd-dhcp", tmp_path / "tree"))
    put(tree, "/sys/class/net/ens4/uevent", f"DEVTYPE={kind}\nINTERFACE=ens4\n")
    assert [device.name for device in survey(System.at(str(tree)), ()).devices] == ["ens3"]


def test_the_daemons_are_asked_about_wanted_nics_only() -> None:
    """A machine may have hundreds."""
    machine = survey(System.at(str(RECORDED / "debian-12-systemd-networkd-dhcp")), (), wanted=[MAC])
    assert [device.owner.manager for device in machine.devices] == [NETWORKD, None]


@pytest.mark.parametrize("manager", ["NetworkManager", "systemd-networkd", "ifupdown"])
def test_what_is_asked_about_all_nics_is_asked_once(manager: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """nmcli takes as long as all else that a look at one NIC does."""
    asked: List[Tuple[str, ...]] = []
    known = RecordedRunner.run

    def run(self: RecordedRunner, argv: Sequence[str], **more: Any) -> Any:
        asked.append(tuple(argv))
        return known(self, argv, **more)

    monkeypatch.setattr(RecordedRunner, "run", run)
    machine = survey(System.at(str(RECORDED / f"debian-12-{manager}-dhcp")), ())
    assert len(machine.devices) >= 2
    assert len(asked) == len(set(asked)) and len(asked) >= 3
