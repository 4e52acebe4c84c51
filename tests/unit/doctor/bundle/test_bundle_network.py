"""Who has a NIC, from a support archive: the same as on the machine, and no word of its owner's beside it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, List, Tuple

import pytest
from support.network_nics import MAC, usual

from csagent.apply.network.decide import decide
from csagent.apply.network.machine import Device
from csagent.apply.network.survey import survey
from csagent.doctor.bundle import raw
from csagent.doctor.bundle.redaction import Words
from csagent.system.seams import System

RECORDED = Path(__file__).resolve().parents[3] / "fixtures" / "network-owners"
NAMES = sorted(path.name for path in RECORDED.iterdir() if path.is_dir())
PLANTED = "marker-EXAMPLE"


def put(tree: Path, path: str, text: str) -> None:
    target = tree / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def unpacked(tree: Path, directory: Path) -> Path:
    """The raw files of an archive of a tree, as tar writes them."""
    for member in raw._Collected(System.at(str(tree))).raw(("config-2",), Words()).members:
        target = directory / member.path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.mkdir(exist_ok=True) if member.directory else target.write_bytes(member.content)
    return directory


def devices(tree: Path) -> Tuple[Device, ...]:
    return survey(System.at(str(tree)), ()).devices


@pytest.mark.parametrize("name", NAMES)
def test_who_has_a_nic_replays(name: str, tmp_path: Path) -> None:
    """Manager, hindrance, addresses and routes are the machine's, and so is the plan for a document."""
    again = unpacked(RECORDED / name, tmp_path / "archive")
    assert devices(again) == devices(RECORDED / name)
    plans = [decide(usual(), survey(System.at(str(tree)), ())) for tree in (RECORDED / name, again)]
    assert [(nic.do, nic.reason) for nic in plans[0].nics] == [(nic.do, nic.reason) for nic in plans[1].nics]


@pytest.mark.parametrize(
    ("name", "path", "text", "kept"),
    [
        (
            "debian-13-systemd-networkd-static",
            "/etc/systemd/network/20-mine.network",
            f"# {PLANTED}\n[Match]\nName=ens3 {PLANTED}-long-name\n[Network]\nAddress=192.0.2.9/24\n"
            f"Domains={PLANTED}\nDNS={PLANTED}\n[WireGuard]\nPrivateKey={PLANTED}\n[{PLANTED}]\n",
            "Address=192.0.2.9/24",
        ),
        (
            "debian-13-NetworkManager-static",
            "/etc/NetworkManager/system-connections/mine.nmconnection",
            f"[connection]\nid={PLANTED}\ntype=ethernet\ninterface-name=ens3\n[802-1x]\npassword={PLANTED}\n"
            "[ipv4]\nmethod=manual\naddress1=192.0.2.9/24,192.0.2.1\n",
            "address1=192.0.2.9/24,192.0.2.1",
        ),
        (
            "debian-12-ifupdown-static",
            "/etc/network/interfaces.d/mine",
            f"iface ens4 inet static\n  address 192.0.2.9/24\n  wpa-psk {PLANTED}\n  up echo {PLANTED}\n"
            f"iface {PLANTED}-and-more inet dhcp\n",
            "address 192.0.2.9/24",
        ),
        (
            "debian-13-ifupdown-dhcp",
            "/etc/sysconfig/network-scripts/ifcfg-ens3",
            f"DEVICE=ens3\nIPADDR=192.0.2.9\nWPA_PSK={PLANTED}\nNAME={PLANTED}\n",
            "IPADDR=192.0.2.9",
        ),
    ],
)
def test_of_a_file_only_what_is_judged_by_is_kept(
    name: str, path: str, text: str, kept: str, tmp_path: Path
) -> None:
    """No password, no comment, no name that is not a NIC's."""
    tree = Path(shutil.copytree(RECORDED / name, tmp_path / "tree"))
    put(tree, path, text)
    again = unpacked(tree, tmp_path / "archive")
    assert kept in (again / path.lstrip("/")).read_text()
    whole = b"".join(one.read_bytes() for one in again.rglob("*") if one.is_file())
    assert PLANTED.encode() not in whole and PLANTED not in " ".join(os.listdir(again))
    assert devices(again) == devices(tree)


def test_the_profile_of_a_wireless_network_stays_at_home(tmp_path: Path) -> None:
    """Its name and its file's name are the network's, and it says nothing of a NIC."""
    tree = Path(shutil.copytree(RECORDED / "debian-13-NetworkManager-dhcp", tmp_path / "tree"))
    name = f"/etc/NetworkManager/system-connections/{PLANTED}.nmconnection"
    put(tree, name, f"[connection]\nid={PLANTED}\ntype=wifi\n[wifi-security]\npsk={PLANTED}\n")
    recorded = json.loads((tree / "recorded.json").read_text())
    for line, file in recorded["commands"].items():
        if line.startswith("nmcli"):
            row = f"wlan0:connected:{PLANTED}:x\n" if "DEVICE" in line else f"x:{name}:yes\n"
            (tree / file).write_text((tree / file).read_text() + row)
    again = unpacked(tree, tmp_path / "archive")
    paths: List[Any] = [one for one in again.rglob("*") if one.is_file()]
    assert not [one for one in paths if PLANTED in str(one.relative_to(again))]
    assert PLANTED.encode() not in b"".join(one.read_bytes() for one in paths)
    assert devices(again)[0].mac == MAC
