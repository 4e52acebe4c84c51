"""`csagent network plan` on described machines and on trees: JSON, text, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import pytest
import yaml

from csagent.cli.main import main

SAMPLES = Path(__file__).resolve().parents[3] / "fixtures" / "network-data"
DOCUMENT = str(SAMPLES / "04-two-nics-two-defaults" / "network_data.json")
NONSENSE = str(SAMPLES / "21-nonsense" / "network_data.json")


@pytest.fixture
def described(tmp_path: Path) -> str:
    """The machine of 04, as YAML."""
    said = yaml.safe_load((SAMPLES / "04-two-nics-two-defaults" / "expected.yaml").read_text())
    path = tmp_path / "machine.yaml"
    path.write_text(yaml.safe_dump(said["machine"], sort_keys=False))
    return str(path)


def printed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Dict[str, Any]:
    assert main(["network", "plan", "--json", *words]) == code
    return json.loads(capsys.readouterr().out)


def test_json_of_a_described_machine(described: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The documented layout: every key, and a diff for each file."""
    said = printed(capsys, "--document", DOCUMENT, "--machine", described)
    first, second = said.pop("nics")
    assert said == {"schema": 1, "nothing": False, "absent": [], "refused": []}
    (file,) = first.pop("files")
    assert first == {
        "mac": "02:01:00:c4:00:05",
        "interface": "ens3",
        "do": "configure",
        "reason": "CloudStack gives it 10.7.0.21/24",
        "owner": "systemd-networkd",
        "addresses": ["10.7.0.21/24"],
        "routes": [{"to": "0.0.0.0/0", "via": "10.7.0.1", "onlink": False, "order": 1}],
        "dns": ["10.7.0.2", "172.16.24.2"],
        "mtu": None,
    }
    assert file["path"] == "/etc/systemd/network/05-csagent-020100c40005.network"
    assert "+Address=10.7.0.21/24\n" in file["diff"]
    assert second["routes"][0]["order"] == 2


@pytest.mark.parametrize("columns", ["40", "80"])
def test_text_fits_the_console(
    columns: str, described: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line is longer than the columns there are, whatever the document holds."""
    monkeypatch.setenv("COLUMNS", columns)
    for document in (DOCUMENT, NONSENSE):
        assert main(["network", "plan", "--document", document, "--machine", described]) == 0
        text = capsys.readouterr().out
        assert max(map(len, text.split("\n"))) <= int(columns)
        assert text.endswith("2 NICs would be changed.\n")


def test_a_tree_is_read_and_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its NICs, who is enabled in it, the files that are there: the diff is what would change."""
    net = tmp_path / "sys/class/net/ens3"
    net.mkdir(parents=True)
    (net / "address").write_text("02:01:00:c4:00:05\n")
    (net / "ifindex").write_text("2\n")
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")
    image = tmp_path / "etc/systemd/network/80-all.network"
    image.parent.mkdir()
    image.write_text("[Match]\nName=e*\n[Network]\nDHCP=yes\n")
    ours = image.parent / "05-csagent-020100c40005.network"
    before = printed(capsys, "--root", str(tmp_path), "--document", DOCUMENT)
    assert before["nics"][0]["owner"] == "systemd-networkd"
    assert before["nics"][0]["reason"].endswith("DHCP by /etc/systemd/network/80-all.network")
    assert before["absent"] == ["02:01:00:7e:00:11"]
    assert not ours.exists()
    ours.write_text("[Match]\nMACAddress=02:01:00:c4:00:05\n[Network]\nAddress=10.7.0.20/24\n")
    ours.chmod(0o600)
    file, servers = printed(capsys, "--root", str(tmp_path), "--document", DOCUMENT)["nics"][0]["files"]
    assert servers["path"] == "/etc/resolv.conf"
    for line in ("old mode 0600\n", "-Address=10.7.0.20/24\n", "+Address=10.7.0.21/24\n"):
        assert line in file["diff"]


def test_a_described_machine_has_the_files_of_a_tree(
    tmp_path: Path, described: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those for a NIC that it does not have are to go."""
    ours = tmp_path / "root/etc/systemd/network/05-csagent-0201001b002c.network"
    ours.parent.mkdir(parents=True)
    ours.write_text("[Match]\n")
    said = printed(capsys, "--root", str(tmp_path / "root"), "--document", DOCUMENT, "--machine", described)
    gone = said["nics"][-1]
    assert (gone["mac"], gone["interface"], gone["do"]) == ("02:01:00:1b:00:2c", None, "remove")
    assert gone["files"][0]["diff"].endswith("-[Match]\n")


def test_the_setting_leaves_all_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`network: false`."""
    net = tmp_path / "sys/class/net/ens3"
    net.mkdir(parents=True)
    (net / "address").write_text("02:01:00:c4:00:05\n")
    settings = tmp_path / "csagent.yaml"
    settings.write_text("network: false\n")
    words = ["--root", str(tmp_path), "--config", str(settings), "--document", DOCUMENT]
    (nic,) = printed(capsys, *words)["nics"]
    assert (nic["do"], nic["reason"]) == ("leave", "left alone: the setting network is false")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2]", "neither JSON nor YAML of NICs by their MAC addresses"),
        ("{}", "describes no NIC"),
        ("a: b: c", "line 1: neither JSON nor YAML"),
        ("a: &x 1\nb: *x", "YAML with an alias"),
        ('{"eth0": {"name": "ens3"}}', "'eth0' is not a MAC address"),
        ('{"02:01:00:c4:00:05": {}}', "name is not the name of a NIC"),
        ('{"02:01:00:c4:00:05": {"name": "ens3", "lease": 1}}', "lease is not an address"),
        ('{"02:01:00:c4:00:05": {"name": "ens3", "owner": "me"}}', "owner must be one of systemd-networkd"),
    ],
)
def test_a_machine_that_is_none_is_one_line(
    text: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the file and what is wrong; exit code 2."""
    path = tmp_path / "machine"
    path.write_text(text)
    assert main(["network", "plan", "--document", DOCUMENT, "--machine", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(path) in said and reason in said


@pytest.mark.parametrize("text", ["", "{}", " \n"])
def test_an_empty_document_says_nothing(
    text: str, tmp_path: Path, described: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty file as well as an empty object."""
    path = tmp_path / "network_data.json"
    path.write_text(text)
    said = printed(capsys, "--document", str(path), "--machine", described)
    assert said["nothing"] and {nic["do"] for nic in said["nics"]} == {"leave"}


@pytest.mark.parametrize("text", ["{", "\x00", "[" * 100000, '{"a": 1e999}'])
def test_a_document_that_is_no_json_is_one_line(
    text: str, tmp_path: Path, described: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, and no traceback."""
    path = tmp_path / "network_data.json"
    path.write_text(text)
    assert main(["network", "plan", "--document", str(path), "--machine", described]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "not JSON" in said
    assert main(["network", "plan", "--document", str(tmp_path / "none"), "--machine", described]) == 2


def test_the_drive_is_read_where_no_document_is_named(
    tmp_path: Path, described: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A directory laid out as the drive; without a drive the exit code is 4."""
    drive = tmp_path / "drive/openstack/latest"
    drive.mkdir(parents=True)
    (drive / "network_data.json").write_text(Path(DOCUMENT).read_text())
    words = ["--root", str(tmp_path), "--machine", described, "--wait", "0"]
    said = printed(capsys, *words, "--drive", str(tmp_path / "drive"))
    assert [nic["do"] for nic in said["nics"]] == ["configure", "configure"]
    assert main(["network", "plan", *words]) == 4
    assert "no config drive found" in capsys.readouterr().err
