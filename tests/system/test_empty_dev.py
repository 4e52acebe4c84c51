"""A container or a chroot whose /dev has nothing in it, not even /dev/null."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.command_line import PATIENCE, Done, Guest, data, places
from support.requirements import require
from support.samples import CLOUD, PASSWORD, make_tree

from csagent.lab.router import LabRouter

EMPTY = 'mount -t tmpfs none /dev && [ -z "$(ls /dev)" ] && exec "$@"'


class Bare(Guest):
    """Its commands run where /dev is empty."""

    def look(self, *words: str, before: str = "", heard: int = subprocess.PIPE) -> Done:
        command = ["unshare", "--mount", "sh", "-c", before + EMPTY, "sh"]
        command += [sys.executable, "-m", "csagent", "--root", str(self.root), *words]
        done = subprocess.run(
            command, stdout=heard, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def machine(tmp_path: Path) -> Bare:
    require(("unshare", "mount"), "empties /dev in a mount namespace")
    return Bare(make_tree(tmp_path / "guest"))


def test_all_is_applied_and_acknowledged(machine: Bare) -> None:
    with LabRouter(CLOUD) as router:
        done = machine.look("apply", "--json", *places(router))
        assert (done.code, done.err) == (0, "")
        assert data(done) == dict.fromkeys(("hostname", "ssh_keys", "password", "user_data"), "applied")
        assert machine.password_is(PASSWORD) and done.json["data"]["password"]["acknowledged"]
        assert machine.text("etc/hostname") == "web01\n"
        assert len(machine.authorized().splitlines()) == len(CLOUD.ssh_keys) + 2
        found = machine.look("doctor", "--json", *places(router))
    assert found.json["places"][0]["outcome"] == "ok", found.out


@pytest.mark.parametrize(
    "closed", ["<&- ", ">&- ", "2>&- ", "<&- >&- 2>&- "], ids=["in", "out", "err", "all"]
)
def test_without_a_standard_descriptor(machine: Bare, closed: str) -> None:
    """What csagent opens does not take its place: what is said to it would be in a file of the machine's."""
    with LabRouter(CLOUD) as router:
        done = machine.look("apply", "--json", *places(router), before=f"exec {closed}; ")
    assert done.code == 0 and machine.password_is(PASSWORD)
    assert machine.text("etc/hostname") == "web01\n"


def test_nobody_listens(machine: Bare) -> None:
    """As in `csagent discover | true`: it ends without a word."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = machine.look("discover", "--json", heard=writing)
    finally:
        os.close(writing)
    assert (done.code, done.err) == (1, "")
