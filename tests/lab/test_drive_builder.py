"""`csagent lab drive`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from csagent.errors import CsagentError, UsageError
from csagent.lab import drive as lab
from csagent.lab.cloud import Cloud
from csagent.model import Reading
from csagent.sources.drive import device
from csagent.system.seams import System


def run(*words: str) -> int:
    """The command, as the command line calls it."""
    parser = argparse.ArgumentParser()
    lab.add_arguments(parser)
    return lab.run(parser.parse_args(words))


def read(path: Path) -> Reading:
    """What csagent reads from it."""
    reading, place = device.read(device.open_place(System.at("/"), str(path), given=True))
    assert reading is not None, place
    return reading


def test_without_a_description_it_is_the_example_vm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The image is private, says what the lab's router says, and the next command is printed."""
    target = tmp_path / "drive.iso"
    assert run(str(target)) == 0
    assert target.stat().st_mode & 0o777 == 0o600
    assert f"csagent fetch --drive {target}" in capsys.readouterr().out
    reading = read(target)
    cloud = Cloud()
    assert (reading.instance_id, reading.metadata["local-hostname"]) == (cloud.instance_id, cloud.hostname)
    assert reading.ssh_keys == cloud.ssh_keys
    assert reading.password.value is not None
    assert reading.password.value.reveal().decode() == cloud.password
    assert reading.refusals == ()


@pytest.mark.parametrize("form", ["image", "tree"])
def test_a_description_becomes_a_drive(tmp_path: Path, form: str) -> None:
    """The file that the router takes, as an image or as a directory."""
    described = tmp_path / "cloud.json"
    described.write_text(
        json.dumps(
            {
                "hostname": "db-01",
                "password": None,
                "user_data_base64": "H4sIAAo=",
                "metadata": {"role": "Käse", "availability-zone": None},
            }
        )
    )
    target = tmp_path / "drive"
    where = [str(target)] if form == "image" else ["--tree", str(target)]
    assert run(*where, "--cloud", str(described)) == 0
    reading = read(target)
    assert reading.metadata["local-hostname"] == "db-01"
    assert reading.metadata["role"] == "Käse"
    assert "availability-zone" not in reading.metadata
    assert reading.password.state == "none"
    assert reading.user_data == b"\x1f\x8b\x08\0\n"
    if form == "tree":
        modes = {path.stat().st_mode & 0o777 for path in [target, *target.rglob("*")]}
        assert modes == {0o700, 0o600}


def test_an_image_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """An older file, though readable by all, is private afterwards, and no temporary file stays."""
    target = tmp_path / "drive.iso"
    target.write_text("old")
    target.chmod(0o644)
    run(str(target), "--label", "Ours")
    assert target.stat().st_mode & 0o777 == 0o600
    assert device.open_place(System.at("/"), str(target), given=True).label == "Ours"
    assert list(tmp_path.iterdir()) == [target]


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    """Neither or both targets, a directory with something in it, a bad label, a place that is not there."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("")
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"metadata": {"../x": "y"}}))
    for words in (
        [],
        [str(tmp_path / "a"), "--tree", str(tmp_path / "b")],
        ["--tree", str(tmp_path / "full")],
        [str(tmp_path / "a"), "--label", "x" * 33],
        [str(tmp_path / "a"), "--label", "ä"],
        [str(tmp_path / "a"), "--cloud", str(bad)],
    ):
        with pytest.raises(UsageError) as caught:
            run(*words)
        assert "\n" not in str(caught.value)
    for words in (
        [str(tmp_path / "no/a")],
        ["--tree", str(bad)],
        [str(tmp_path / "a"), "--cloud", "/nowhere"],
    ):
        with pytest.raises(CsagentError):
            run(*words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.json", "full"]
