"""Where sealing does not go: what is mounted from elsewhere, what it cannot look at, what another holds."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Callable, Dict, Iterator

import pytest
from support.guests_to_seal import DEBIAN, HASH, MAC, UNIT, look, paths, plant, seal, snapshot
from support.replace_fields import replace
from support.samples import make_key

from csagent.apply.authorized_keys import merge
from csagent.cli import seal as show
from csagent.cli.main import main
from csagent.console import Console
from csagent.errors import CsagentError
from csagent.seal import engine
from csagent.seal.context import Choice
from csagent.state import lock
from csagent.system import mounts
from csagent.system.mounts import Mounts
from csagent.system.seams import Clock

NOBODY = 65534
CLOSED = ("root", "home/alice", "var/lib/csagent", "etc/NetworkManager/system-connections", "etc/shadow")


@pytest.fixture
def bind(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a file or directory, and what is below it, one that the builder has bound into the tree."""
    bound: Dict[int, Path] = {}

    def number(_self: Mounts, descriptor: int) -> int:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        return 2 if any(one in (path, *path.parents) for one in bound.values()) else 1

    monkeypatch.setattr(Mounts, "of", number)
    monkeypatch.setattr(
        Mounts, "spared", lambda self, one: "bound here from outside" if self.of(one) == 2 else None
    )
    return lambda path: bound.update({len(bound): path})


def test_bound_file_is_neither_emptied_nor_removed(tmp_path: Path, bind: Callable[[Path], None]) -> None:
    """A log and a lease file of the builder's stay as they are, and are named; those beside them go."""
    files = {"var/log/sub/bound.log": "x", "var/log/sub/own.log": "x", "var/lib/dhcp/dhclient.leases": "x"}
    system = plant(tmp_path, {UNIT: "", **files})
    for name in ("var/log/sub/bound.log", "var/lib/dhcp/dhclient.leases"):
        bind(tmp_path / name)
    report = seal(system)
    assert report.exit_code == 0 and report.clean
    assert [(tmp_path / name).read_text() for name in files] == ["x", "", "x"]
    named = [one.path for one in report.warnings if "bound here" in one.text]
    assert named == ["/var/lib/dhcp/dhclient.leases", "/var/log/sub/bound.log"]


@pytest.mark.parametrize("name", ["var/log/syslog", "tmp/build/script.sh", "etc/shadow", "var/log"])
def test_mounted_between_look_and_deed_is_left_alone(
    tmp_path: Path, bind: Callable[[Path], None], name: str
) -> None:
    """What is mounted over while sealing runs makes its step fail, and is not written to."""
    system = plant(tmp_path, DEBIAN)
    found = [step.leftover for family in look(system).families for step in family.steps]
    bind(tmp_path / name)
    before = snapshot(tmp_path / name)
    below = [one for one in found if f"{one.path}/".startswith(f"/{name}/")]
    assert below
    for leftover in below:
        with pytest.raises(OSError) as error:
            leftover.act()
        assert error.value.errno == errno.EXDEV
    if (tmp_path / name).is_dir():
        assert snapshot(tmp_path / name) == before
    else:
        assert (tmp_path / name).read_text() == DEBIAN[name]


@pytest.mark.parametrize("place", ["home/eve", "home/eve/.ssh", "home/eve/.ssh/authorized_keys"])
def test_keys_in_a_home_of_others_stay(tmp_path: Path, bind: Callable[[Path], None], place: str) -> None:
    """A home that is bound from outside, or is on NFS, keeps every key; it is named as not looked at."""
    keys = "home/eve/.ssh/authorized_keys"
    system = plant(tmp_path, {UNIT: "", keys: merge(make_key(7) + "\n", [make_key(1)])})
    with (tmp_path / "etc/passwd").open("a") as stream:
        stream.write(f"eve:x:{os.getuid()}:{os.getgid()}::/home/eve:/bin/sh\n")
    (tmp_path / "home/eve/.ssh").chmod(0o700)
    text = (tmp_path / keys).read_text()
    assert f"/{keys}" in paths(look(system, Choice(all_keys=True)))
    leftovers = [
        step.leftover
        for family in look(system).families
        for step in family.steps
        if step.leftover.path == f"/{keys}"
    ]
    bind(tmp_path / place)
    for choice in (Choice(all_keys=True), Choice()):
        report = seal(system, choice)
        assert report.exit_code == 0 and (tmp_path / keys).read_text() == text
        assert f"/{place}" in [one.path for one in report.warnings if "bound here" in one.text]
        assert not any("of its owner" in one.text for one in report.warnings)
    with pytest.raises(CsagentError, match="mounted there"):
        leftovers[0].act()


def test_tree_in_memory_is_a_template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many build in a tmpfs: what the root itself lies on is looked at, whatever kind of mount it is."""
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    number = Mounts(str(tmp_path)).of(descriptor)
    os.close(descriptor)
    (tmp_path / "mountinfo").write_text(f"{number} 1 0:9 / {tmp_path.parent} rw - tmpfs tmpfs rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", str(tmp_path / "mountinfo"))
    system = plant(tmp_path / "tree", DEBIAN)
    assert "/var/log/syslog" in paths(look(system))


@pytest.fixture
def closed() -> Iterator[Path]:
    """A sealed tree with places that this process may not look at."""
    root = Path(tempfile.mkdtemp(prefix="csagent-seal-"))  # tmp_path is closed to nobody
    system = plant(
        root,
        {
            UNIT: "",
            "root/.bash_history": "",
            "etc/hostname": "localhost\n",
            "var/lib/csagent/x": "",
            "etc/NetworkManager/system-connections/a.nmconnection": "[ethernet]\n",
        },
    )
    assert seal(system).exit_code == 0 and look(system).exit_code == 0
    (root / "root/.bash_history").write_text("x")
    (root / "var/lib/csagent/x").write_text("x")
    (root / "etc/NetworkManager/system-connections/a.nmconnection").write_text(f"mac-address={MAC}\n")
    (root / "etc/shadow").write_text(f"root:{HASH}:1::::::\n")
    root.chmod(0o755)
    for name in CLOSED:
        (root / name).chmod(0)
    before = os.geteuid()
    try:
        if before == 0:
            os.seteuid(NOBODY)
        yield root
    finally:
        os.seteuid(before)
        for name in CLOSED:
            (root / name).chmod(0o700)
        shutil.rmtree(root)


def test_check_that_could_not_look_is_not_clean(closed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As somebody who may not look everywhere: each such place is named, and the code is 1, not 0."""
    root = str(closed)
    code = main(["--root", root, "seal", "--check", "--json"])
    text = capsys.readouterr().out
    assert code == 1 and '"clean": false' in text
    for name in CLOSED:
        assert f'"path": "/{name}",\n   "text": "could not be looked at: Permission denied"' in text
    assert main(["--root", root, "seal", "--check"]) == 1
    text = " ".join(capsys.readouterr().out.split())
    assert "Not known to be clean: nothing was found, 5 places could not be looked at." in text
    assert main(["--root", root, "seal", "--check", "-q"]) == 1
    assert f"csagent: {root}/etc/shadow: could not be looked at" in capsys.readouterr().err


def test_what_cannot_be_read_any_more_is_not_written(tmp_path: Path) -> None:
    """/etc/shadow that has become unreadable since the preview is left as it is, not replaced by nothing."""
    system = plant(tmp_path, DEBIAN)
    (found,) = [
        step.leftover
        for family in look(system).families
        for step in family.steps
        if step.leftover.path == "/etc/shadow"
    ]
    (tmp_path / "etc/shadow").unlink()
    (tmp_path / "etc/shadow").mkdir()
    with pytest.raises(OSError, match="not a regular file"):
        found.act()
    assert (tmp_path / "etc/shadow").is_dir()
    report = look(system)
    assert ("/etc/shadow", "could not be looked at: not a regular file") in [
        (one.path, one.text) for one in report.warnings
    ]
    assert report.exit_code == 1 and show.failures(system, report)
    report = seal(system)
    assert (report.exit_code, report.count(engine.FAILED), report.clean) == (3, 0, False)
    text = " ".join(show.as_text(system, report, Console(200)).split())
    assert "1 place could not be looked at: this may be no clean template." in text


class Hurried(Clock):
    """A clock of which every look costs a minute."""

    now_is = 0.0

    def monotonic(self) -> float:
        self.now_is += 60.0
        return self.now_is


def test_no_pass_runs_beside_sealing(tmp_path: Path) -> None:
    """The lock of a pass is held at every step, waited for, and leaves nothing behind on an image."""
    system = plant(tmp_path, DEBIAN)
    held = []

    def between(_step: engine.Step) -> None:
        with pytest.raises(CsagentError, match="another csagent"), lock.hold(hurried):
            pass
        held.append(True)

    hurried = replace(system, clock=Hurried())
    assert seal(system, between=between).exit_code == 0 and len(held) > 10
    assert not (tmp_path / "run/csagent").exists()
    plant(tmp_path, {"run/csagent/lock": "", "run/csagent/status.json": "{}", "tmp/x": "x"})
    with (tmp_path / "run/csagent/lock").open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(CsagentError, match="another csagent"):
            seal(hurried)
        assert (tmp_path / "tmp/x").exists()
    assert seal(system).exit_code == 0 and look(system).clean
    assert [one.name for one in (tmp_path / "run/csagent").iterdir()] == ["lock"]
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").symlink_to("/gone/run")
    assert seal(system).exit_code == 0
