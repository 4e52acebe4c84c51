"""Advice about a tree says so: run as it stands, it leaves the machine that the tree is on alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.guests_to_seal import look, plant

from csagent.cli import doctor
from csagent.doctor import engine
from csagent.settings import Settings
from csagent.sources.request import Options
from csagent.system.seams import System
from csagent.system.tree import Tree


@pytest.mark.parametrize(
    ("root", "text", "told"),
    [
        ("/", "rm -rf /etc/cloud", "rm -rf /etc/cloud"),
        ("{tree}", "", ""),
        ("{tree}", "rm -rf /etc/cloud", "by chroot '{tree}': rm -rf /etc/cloud"),
        ("{tree}", "pwconv; csagent apply", "by chroot '{tree}' (csagent itself with --root '{tree}'): "),
    ],
)
def test_it_names_the_tree(tmp_path: Path, root: str, text: str, told: str) -> None:
    """Quoted, as a shell wants it; csagent in there would judge the machine that the shell is on."""
    there = tmp_path / "an image"
    there.mkdir()
    said = Tree(root.format(tree=there)).advised(text)
    assert said.startswith(told.format(tree=there)) and said.endswith(text)


def test_doctor_and_seal_say_it_so(tree: Path) -> None:
    """Of a mounted image; what is about the machine is for the machine, an archive's for where it is of."""
    system = plant(tree, {"etc/cloud/cloud.cfg": "", "etc/hosts": "# manage_etc_hosts\n"})
    examined = engine.examine(system, Settings(), "", Options(), wait=0)
    findings = doctor.as_json(examined)["findings"]
    advice = {one["saw"].split()[0]: one["advice"] for one in findings}
    assert advice["/etc/cloud"] == f"by chroot {tree}: rm -rf /etc/cloud"
    of_the_machine = [one["advice"] for one in findings if one["area"] in engine.OF_THE_MACHINE]
    assert not any("chroot" in one for one in of_the_machine if one)
    told = [one.text for one in look(system).warnings if one.path == "/etc/cloud"]
    assert told == [f"left of cloud-init: nothing reads it any more: by chroot {tree}: rm -rf /etc/cloud"]
    (tree / "recorded.json").write_text('{"now": 1.0}')
    examined = engine.examine(System.at(str(tree)), Settings(), "", Options(), wait=0)
    assert not any("chroot" in (one["advice"] or "") for one in doctor.as_json(examined)["findings"])
