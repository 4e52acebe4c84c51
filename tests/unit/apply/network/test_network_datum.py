"""The network as a datum of a pass, on trees: plan, apply, status, query, metrics, doctor, seal."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from support.network_nics import MAC, SECOND_MAC, link, network, raw_document
from support.samples import INSTANCE, make_tree

from csagent import agent
from csagent.apply.network import action, change, resolver
from csagent.cli.main import main
from csagent.model import Found, Observation, Observed
from csagent.plan import ConfigureNetwork
from csagent.settings import Settings
from csagent.sources import network_data
from csagent.sources.request import PassRequest
from csagent.system.seams import System

OURS = "etc/systemd/network/05-csagent-020100c40005.network"


class Guest:
    """A tree with one NIC, systemd-networkd enabled in it, and a drive beside it."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.drive, self.capsys = directory / "root", directory / "drive", capsys
        make_tree(self.root)
        nic = self.root / "sys/class/net/ens3"
        nic.mkdir(parents=True)
        (nic / "address").write_text(MAC + "\n")
        wants = self.root / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True)
        (wants / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")
        (self.drive / "cloudstack/metadata").mkdir(parents=True)
        (self.drive / "cloudstack/metadata/vm-id.txt").write_text(INSTANCE)
        (self.drive / "openstack/latest").mkdir(parents=True)
        (self.drive / "openstack/latest/meta_data.json").write_text("{}")

    def says(self, document: Any) -> None:
        """The drive's network_data.json."""
        (self.drive / "openstack/latest/network_data.json").write_text(json.dumps(document))

    def run(self, *words: str) -> Tuple[int, str]:
        """A command on the tree: exit code and what it printed."""
        code = main(["--root", str(self.root), *words])
        return code, self.capsys.readouterr().out

    def network(self, command: str, *words: str, code: int = 0) -> Dict[str, Any]:
        """The network's part of what plan or apply prints."""
        got, out = self.run(command, "--drive", str(self.drive), "--json", *words)
        assert got == code, out
        said = json.loads(out)
        if command == "apply":
            return dict(said["data"]["network"])
        return dict(next(one for one in said["actions"] if one["datum"] == "network"))


@pytest.fixture
def guest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Guest:
    """One whose drive gives its NIC an address."""
    made = Guest(tmp_path, capsys)
    made.says(raw_document([link(0, MAC)], [network(0, "10.7.0.21/24", "10.7.0.1")], ["10.7.0.2"]))
    return made


def test_plan_shows_the_files(guest: Guest) -> None:
    """The datum's entry has the diff, and the NICs as `network plan` has them; nothing is written."""
    planned = guest.network("plan")
    assert (planned["action"], planned["changes"], planned["wrong"]) == ("configure", True, False)
    assert planned["source"] == f"drive {guest.drive}"
    assert "+Address=10.7.0.21/24" in planned["diff"]
    (nic,) = planned["nics"]
    assert (nic["mac"], nic["do"], nic["owner"]) == (MAC, "configure", "systemd-networkd")
    assert not (guest.root / OURS).exists()
    assert "+Address=10.7.0.21/24" in guest.run("plan", "--drive", str(guest.drive))[1]


def test_apply_writes_once_and_status_tells(guest: Guest) -> None:
    """A state for the datum and for each NIC; the second pass changes nothing."""
    applied = guest.network("apply")
    assert (applied["state"], applied["wrong"]) == ("applied", False)
    (nic,) = applied["nics"]
    assert (nic["mac"], nic["interface"], nic["state"]) == (MAC, "ens3", "written")
    path = guest.root / OURS
    assert "Address=10.7.0.21/24\n" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    before = path.stat().st_ino
    guest.network("apply")
    assert path.stat().st_ino == before
    code, text = guest.run("status")
    assert code == 0 and "network: " in text and "ens3: written: " in text
    code, text = guest.run("query", "network")
    assert code == 0 and json.loads(text)["networks"][0]["ip_address"] == "10.7.0.21"


def test_metrics_have_a_state_per_nic(guest: Guest) -> None:
    """For whoever watches a thousand machines."""
    guest.network("apply")
    text = (guest.root / "run/csagent/csagent.prom").read_text()
    assert f'csagent_nic_state{{mac="{MAC}",interface="ens3",state="written"}} 1\n' in text
    assert 'csagent_datum_state{datum="network",state="applied"} 1\n' in text


def test_the_setting_turns_it_off(guest: Guest) -> None:
    """`network: false` leaves all alone, and says so."""
    (guest.root / "etc/csagent").mkdir()
    (guest.root / "etc/csagent/csagent.yaml").write_text("network: false\n")
    applied = guest.network("apply")
    assert (applied["state"], applied["reason"]) == ("off", "left alone: the setting network is false")
    assert not (guest.root / OURS).exists()


@pytest.mark.parametrize("said", [{}, raw_document([link(0, MAC)], []), raw_document([], [], ["10.7.0.2"])])
def test_a_document_without_addresses_is_absent(guest: Guest, said: Any) -> None:
    """What every network with a virtual router has: nothing is wrong, and nothing of ours is taken away."""
    guest.network("apply")
    guest.says(said)
    applied = guest.network("apply")
    assert (applied["state"], applied["wrong"]) == ("absent", False)
    assert (guest.root / OURS).exists()


def test_a_drive_without_the_document_is_absent(guest: Guest) -> None:
    """As old releases write it."""
    (guest.drive / "openstack/latest/network_data.json").unlink()
    applied = guest.network("apply")
    assert (applied["state"], applied["wrong"]) == ("absent", False)


def test_a_nic_that_is_not_here_is_told(guest: Guest) -> None:
    """Its medium came first; no file is written for it, and the others are applied."""
    guest.says(
        raw_document(
            [link(0, MAC), link(1, SECOND_MAC)],
            [network(0, "10.7.0.21/24", "10.7.0.1"), network(1, "10.8.0.21/24", None)],
        )
    )
    applied = guest.network("apply")
    assert f"{SECOND_MAC} is not on this machine (yet)" in applied["reason"]
    assert [nic["mac"] for nic in applied["nics"]] == [MAC]


def test_what_is_not_believed_is_told_and_the_rest_applied(guest: Guest) -> None:
    """Exit code 3: some data applied, some to be looked at."""
    guest.says(
        raw_document(
            [link(0, MAC)], [network(0, "127.0.0.1/8", None), network(0, "10.7.0.21/24", "10.7.0.1")]
        )
    )
    applied = guest.network("apply", code=3)
    assert (applied["state"], applied["wrong"]) == ("applied", True)
    assert "127.0.0.1" in applied["reason"]
    assert "Address=10.7.0.21/24\n" in (guest.root / OURS).read_text()


def test_a_nic_of_somebodys_is_left_with_the_files_name(guest: Guest) -> None:
    """doctor and status say whose file it is; nothing is wrong."""
    mine = guest.root / "etc/systemd/network/10-mine.network"
    mine.parent.mkdir(parents=True)
    mine.write_text("[Match]\nName=ens3\n[Network]\nAddress=10.9.0.1/24\n")
    applied = guest.network("apply")
    assert (applied["state"], applied["wrong"]) == ("off", False)
    (nic,) = applied["nics"]
    assert nic["state"] == "left" and "/etc/systemd/network/10-mine.network has Address=" in nic["reason"]
    assert not (guest.root / OURS).exists()
    findings = json.loads(guest.run("doctor", "--json")[1])["findings"]
    (told,) = [one for one in findings if one["area"] == "drive network"]
    assert told["state"] == "note" and "10-mine.network" in told["means"]
    assert told["advice"].endswith("csagent network apply --again")


def test_cloud_init_with_the_drive_has_the_network(guest: Guest) -> None:
    """It applies the document itself, once per instance."""
    (guest.root / "usr/bin").mkdir(parents=True)
    (guest.root / "usr/bin/cloud-init").write_text("")
    (guest.root / "etc/cloud/cloud.cfg.d").mkdir(parents=True)
    (guest.root / "etc/cloud/cloud.cfg").write_text("datasource_list: [ConfigDrive]\n")
    applied = guest.network("apply")
    assert applied["state"] == "off" and applied["reason"].startswith("left to cloud-init (ConfigDrive)")
    assert not (guest.root / OURS).exists()


def test_seal_takes_our_files_away(guest: Guest) -> None:
    """An instance has other NICs; name servers go from resolv.conf, the owner's lines stay."""
    guest.network("apply")
    (guest.root / "etc/machine-id").write_text("")
    conf = guest.root / "etc/resolv.conf"
    assert resolver.BEGIN in conf.read_text()
    conf.write_text(conf.read_text() + "options edns0\n")
    mine = guest.root / "etc/systemd/network/80-all.network"
    mine.write_text("[Match]\nName=e*\n[Network]\nDHCP=yes\n")
    code, out = guest.run("seal", "--yes", "--json")
    assert code == 0, out
    assert not (guest.root / OURS).exists() and mine.exists()
    assert conf.read_text() == "options edns0\n"


def test_a_clone_without_a_drive_loses_the_files_of_nics_that_are_gone(guest: Guest) -> None:
    """A template that was not sealed: its MAC addresses are another VM's. A known instance keeps all."""
    guest.network("apply")
    (guest.root / "sys/class/net/ens3/address").write_text(SECOND_MAC + "\n")
    (guest.root / "var/lib/csagent/network").mkdir(parents=True)
    (guest.root / "var/lib/csagent/network/applied.json").write_text("{}")
    observed = Observed(Found(), Observation(source_found=True, instance_id=INSTANCE))
    system = System.at(str(guest.root))
    assert agent._network(system, Settings(), observed, new=False) is None
    assert agent._network(system, Settings(), Observed(Found(), Observation()), new=True) is None
    removed = agent._network(system, Settings(), observed, new=True)
    assert isinstance(removed, ConfigureNetwork) and removed.changes
    assert "the machine has no NIC with this MAC address any more" in removed.reason
    assert action.carry_out(system, removed).state == "applied"
    assert not (guest.root / OURS).exists()
    assert agent._network(system, Settings(), observed, new=True) is None


def test_a_pass_says_how_long_its_nics_may_take(guest: Guest) -> None:
    """Each that is configured; one that is left costs nothing."""
    said = raw_document(
        [link(0, MAC), link(1, SECOND_MAC)],
        [network(0, "10.7.0.21/24", "10.7.0.1"), network(1, "10.8.0.21/24", None)],
    )
    observed = Observed(Found(), Observation(source_found=True, network=network_data.parse(said)[0]))
    told: List[float] = []
    request = PassRequest(System.at(str(guest.root)), Settings(), takes=told.append)
    for expected in ([change.LONGEST], [change.LONGEST]):
        agent._network(request.system, request.settings, observed, new=False, request=request)
        assert told == expected
        (guest.root / "etc/systemd/network").mkdir(parents=True, exist_ok=True)
        mine = guest.root / "etc/systemd/network/10-mine.network"
        mine.write_text("[Match]\nName=ens3\n[Network]\nAddress=10.9.0.1/24\n")
