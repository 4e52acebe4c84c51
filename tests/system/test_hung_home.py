"""A home on a file server that has gone: who looks at the machine is not held up by it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import hung_mount
from support.command_line import PATIENCE, Done, Guest, places
from support.guests_to_seal import DEBIAN, plant
from support.samples import CLOUD, make_tree

from csagent.lab.router import LabRouter

HUNG = ("home/alice", "home/gone", "var/log/elsewhere")


class Machine(Guest):
    """Its directories `HUNG` never answer."""

    def look(self, *words: str) -> Done:
        command = [sys.executable, hung_mount.__file__, *(str(self.root / path) for path in HUNG), "--"]
        command += [sys.executable, "-m", "csagent", "--root", str(self.root), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    plant(tmp_path, DEBIAN)
    for path in HUNG:
        (tmp_path / path).mkdir(parents=True, exist_ok=True)
    return Machine(tmp_path)


@pytest.mark.parametrize("words", [("--check",), (), ("--yes",)], ids=["check", "preview", "seal"])
def test_sealing_leaves_it_alone_and_says_so(machine: Machine, words: "tuple[str, ...]") -> None:
    done = machine.look("seal", *words, "--json")
    told = {one["path"]: one["text"] for one in done.json["warnings"]}
    for path in HUNG:
        assert told[f"/{path}"] == "not looked at: fuse.silent, no disk of this machine"
    assert not any("could not be looked at" in text for text in told.values())
    found = {one["path"] for thing in done.json["things"] for one in thing["leftovers"]}
    assert "/root/.bash_history" in found and not any(one.startswith("/home/") for one in found)
    assert done.code == (1 if words == ("--check",) else 0)


def test_a_plan_names_the_home_and_has_the_rest(machine: Machine) -> None:
    settings = machine.root / "etc/csagent/csagent.yaml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("user: alice\n")
    with LabRouter(CLOUD) as router:
        done = machine.look("plan", "--json", *places(router))
    actions = {one["datum"]: one for one in done.json["actions"]}
    assert actions["hostname"]["action"] == "set"
    (why,) = actions["ssh_keys"]["diff"]
    assert "/home/alice/.ssh/authorized_keys" in why and why.startswith("! ")


def test_a_plan_names_a_home_that_is_missing(tmp_path: Path) -> None:
    make_tree(tmp_path)
    (tmp_path / "root").rename(tmp_path / "elsewhere")
    with LabRouter(CLOUD) as router:
        done = Guest(tmp_path).run("plan", "--json", *places(router))
    (keys,) = (one for one in done.json["actions"] if one["datum"] == "ssh_keys")
    (why,) = keys["diff"]
    assert why.startswith("! ") and why.endswith(
        f"the home directory {tmp_path}/root of root: No such file or directory"
    )


def test_doctor_names_it_and_ends(machine: Machine) -> None:
    settings = machine.root / "etc/csagent/csagent.yaml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text("user: alice\n")
    done = machine.look("doctor", "--json")
    (one,) = (one for one in done.json["findings"] if "/home/alice" in one["saw"] and one["advice"])
    assert (one["area"], one["state"]) == ("account", "problem")
    assert "no answer within 20 s" in one["saw"] and "see what hangs" in one["advice"]
    assert [one for one in done.json["findings"] if "did not end" in one["saw"]] == []
