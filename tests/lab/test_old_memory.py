"""Memories of earlier versions are read: else an upgrade would put back what owners have changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.replace_fields import replace
from support.samples import CLOUD, INSTANCE, PASSWORD

from csagent import agent
from csagent.lab.router import LabRouter
from csagent.model import Secret
from csagent.settings import Settings
from csagent.sources.request import Options, PassRequest
from csagent.state import applied
from csagent.system.seams import System

OLD = sorted((Path(__file__).resolve().parents[1] / "fixtures/memory").glob("*.json"))
KEYS = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB ops@example",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIC ops@example",
)


def remembered(tree: Path, path: Path) -> Path:
    """Put an old memory where csagent looks for it."""
    target = tree / f"var/lib/csagent/instances/{INSTANCE}.json"
    target.parent.mkdir(parents=True)
    target.write_bytes(path.read_bytes())
    return target


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_every_member_is_understood(path: Path, tree: Path, system: System) -> None:
    """Host name, keys, their account, user-data, and the password by its fingerprint."""
    remembered(tree, path)
    known = applied.load(system, INSTANCE)
    assert (known.note, known.withheld, known.hostname, known.ssh_user) == ("", "", "web01", "root")
    assert known.ssh_keys == KEYS
    assert (
        known.age_of(Secret(PASSWORD.encode())) == "newest" and known.age_of(Secret(b"EXAMPLE-other")) is None
    )
    assert known.user_data is not None and len(known.user_data) == 64


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_a_pass_after_the_upgrade_puts_nothing_back(path: Path, tree: Path, system: System) -> None:
    """CloudStack says what it said before: the owner's own host name and password stay."""
    target = remembered(tree, path)
    (tree / "etc/hostname").write_text("chosen\n")
    shadow = (tree / "etc/shadow").read_bytes()
    with LabRouter(replace(CLOUD, ssh_keys=KEYS)) as router:
        options = Options(router=(router.address, router.port), password_port=router.password_port)
        report = agent.run_pass(PassRequest(system, Settings(), options, 10.0))
        reasons = [(one.datum, one.state, one.reason) for one in report.outcomes]
        assert report.exit_code == 0, reasons
    assert {state for datum, state, _why in reasons if datum not in ("user_data", "network")} == {
        "unchanged"
    }, reasons
    assert (tree / "etc/shadow").read_bytes() == shadow, reasons
    assert (tree / "etc/hostname").read_text() == "chosen\n"
    assert json.loads(target.read_bytes())["schema"] >= 1
    assert applied.load(system, INSTANCE).age_of(Secret(PASSWORD.encode())) == "newest"
