"""`csagent install-units` on trees: what it writes, what it refuses, what it takes away again."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest

from csagent.cli.main import main
from csagent.errors import CsagentError, UsageError
from csagent.install import units
from csagent.system.seams import Completed, NoCommands, System

SCRIPT = "/opt/csagent/bin/csagent"
UNITS = Path(__file__).resolve().parents[3] / "systemd"
CONFIG = UNITS.parent / "packaging/debian/csagent.yaml"


@pytest.fixture
def machine(tree: Path) -> Path:
    """A tree with systemd, and csagent in a virtual environment in /opt."""
    tree.chmod(0o755)
    (tree / "usr/lib/systemd/system").mkdir(parents=True)
    (tree / "usr/lib/systemd/systemd").touch()
    script = tree / SCRIPT.lstrip("/")
    script.parent.mkdir(parents=True)
    script.write_text("#!/opt/csagent/bin/python3\nimport sys\nfrom csagent.cli.main import entry\nentry()\n")
    return tree


def install(machine: Path, script: str = SCRIPT) -> Tuple[Dict[str, str], List[str]]:
    """Install into the tree; what was done with each thing, and what is left to do."""
    steps: Dict[str, str] = {}
    return steps, units.install(System.at(str(machine)), script, steps.__setitem__)


def files(machine: Path) -> Dict[str, str]:
    """Every file and link below /etc/systemd and /etc/csagent."""
    found = {}
    for top in ("etc/systemd", "etc/csagent"):
        for path in (machine / top).rglob("*"):
            if path.is_symlink() or path.is_file():
                found[str(path.relative_to(machine))] = (
                    os.readlink(path) if path.is_symlink() else path.read_text()
                )
    return found


def test_units_are_ours_but_for_the_command(machine: Path) -> None:
    """ExecStart= names interpreter and script, isolated; nothing else differs from the packages' units."""
    install(machine)
    for unit in UNITS.iterdir():
        written = (machine / "etc/systemd/system" / unit.name).read_text()
        mark, version, rest = written.split("\n", 2)
        assert mark + "\n" == units.MARK and version.startswith("# Of csagent ")
        assert rest.replace(f"/opt/csagent/bin/python3 -I {SCRIPT}", "/usr/bin/csagent") == unit.read_text()
    service = (machine / "etc/systemd/system/csagent.service").read_text()
    assert f"\nExecStart=/opt/csagent/bin/python3 -I {SCRIPT} daemon\n" in service
    console = (machine / "etc/systemd/system/csagent-console.service").read_text()
    assert f"exec timeout 300 /opt/csagent/bin/python3 -I {SCRIPT} status --console >/dev/console" in console
    assert (machine / "etc/csagent/csagent.yaml").read_bytes() == CONFIG.read_bytes()


def test_services_are_enabled_and_the_target_is_not(machine: Path) -> None:
    """By the links that `systemctl enable` would make, and by a preset for systems that disable the rest."""
    install(machine)
    links = {path: text for path, text in files(machine).items() if ".wants/" in path or ".requires/" in path}
    assert links == {
        f"etc/systemd/system/multi-user.target.wants/{name}": f"/etc/systemd/system/{name}"
        for name in (
            "csagent.service",
            "csagent-host-keys.service",
            "csagent-console.path",
            "csagent-user-data.path",
        )
    }
    preset = files(machine)["etc/systemd/system-preset/80-csagent.preset"].splitlines()
    assert [line for line in preset if not line.startswith("#")] == [
        "enable csagent.service",
        "enable csagent-host-keys.service",
        "enable csagent-console.path",
        "enable csagent-user-data.path",
    ]


def test_the_second_run_changes_nothing(machine: Path) -> None:
    """Not even a time stamp."""
    install(machine)
    service = machine / "etc/systemd/system/csagent.service"
    before, stamp = files(machine), service.stat().st_mtime_ns
    steps, _notes = install(machine)
    assert set(steps.values()) == {"unchanged", "enabled", "kept"}
    assert (files(machine), service.stat().st_mtime_ns) == (before, stamp)


def test_an_upgrade_keeps_what_the_administrator_chose(machine: Path) -> None:
    """The unit is rewritten for the new version; settings, and that it is disabled, stay."""
    install(machine)
    service = machine / "etc/systemd/system/csagent.service"
    service.write_text(service.read_text().replace("WatchdogSec=", "WatchdogSec=9"))
    link = machine / "etc/systemd/system/multi-user.target.wants/csagent.service"
    link.unlink()
    (machine / "etc/csagent/csagent.yaml").write_text("user: alice\n")
    steps, _notes = install(machine)
    assert (
        steps["/etc/systemd/system/csagent.service"] == "changed" and steps["csagent.service"] == "disabled"
    )
    assert not link.is_symlink() and (machine / "etc/csagent/csagent.yaml").read_text() == "user: alice\n"


def test_a_run_that_was_killed_is_finished_by_the_next(machine: Path) -> None:
    """Wherever it was killed, the services are enabled in the end: only a missing link means disabled."""
    install(machine)
    complete = files(machine)
    for killed in range(7):
        units.remove(System.at(str(machine)), lambda _what, _done: None)
        steps: List[str] = []

        def say(what: str, _done: str, killed: int = killed, steps: List[str] = steps) -> None:
            steps.append(what)
            if len(steps) > killed:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            units.install(System.at(str(machine)), SCRIPT, say)
        install(machine)
        assert files(machine) == complete, steps


def test_a_directory_that_is_a_link_to_nothing_is_named(machine: Path) -> None:
    """Not the part of its target that the kernel stumbles over."""
    (machine / "etc/systemd").symlink_to("/gone/tmp")
    with pytest.raises(CsagentError) as caught:
        install(machine)
    assert str(caught.value) == f"install-units: {machine}/etc/systemd is a link to nothing"
    (machine / "etc/systemd").unlink()
    (machine / "etc/systemd").write_text("")
    with pytest.raises(CsagentError, match=f"{machine}/etc/systemd/system: Not a directory"):
        install(machine)


def test_remove_takes_away_what_it_wrote_and_keeps_what_was_chosen(machine: Path) -> None:
    """Units, links and preset go; settings and memory stay; without ours there is nothing to do."""
    install(machine)
    (machine / "etc/systemd/system/other.service").write_text("[Unit]\n")
    removed: Dict[str, str] = {}
    notes = units.remove(System.at(str(machine)), removed.__setitem__)
    assert set(files(machine)) == {"etc/csagent/csagent.yaml", "etc/systemd/system/other.service"}
    assert set(removed.values()) == {"removed"} and "/var/lib/csagent" in notes[0]
    again = units.remove(System.at(str(machine)), removed.__setitem__)
    assert again == ["Nothing of install-units is here."]


def a_package(machine: Path) -> None:
    (machine / "usr/lib/systemd/system/csagent.service").write_text("[Service]\n")


def an_own_unit(machine: Path) -> None:
    (machine / "etc/systemd/system").mkdir(parents=True)
    (machine / "etc/systemd/system/csagent.service").write_text("[Service]\n")


def a_mask(machine: Path) -> None:
    (machine / "etc/systemd/system").mkdir(parents=True)
    (machine / "etc/systemd/system/csagent-host-keys.service").symlink_to("/dev/null")


def no_systemd(machine: Path) -> None:
    (machine / "usr/lib/systemd/systemd").unlink()


def no_script(machine: Path) -> None:
    (machine / SCRIPT.lstrip("/")).unlink()


def another_program(machine: Path) -> None:
    (machine / SCRIPT.lstrip("/")).write_text("#!/bin/sh\nexec csagent\n")


def writable_for_all(machine: Path) -> None:
    (machine / "opt/csagent").chmod(0o777)


def a_link_to_where_all_write(machine: Path) -> None:
    """bin/python3 -> /etc/alternatives/python3 -> /srv/python/bin/python3."""
    (machine / "srv/python/bin").mkdir(parents=True)
    (machine / "srv/python/bin/python3").touch()
    (machine / "srv/python").chmod(0o777)
    (machine / "etc/alternatives").mkdir(parents=True)
    (machine / "etc/alternatives/python3").symlink_to("/srv/python/bin/python3")
    (machine / "opt/csagent/bin/python3").symlink_to("../../../etc/alternatives/python3")


def a_linked_directory_where_all_write(machine: Path) -> None:
    """/opt/csagent -> ../srv/csagent."""
    (machine / "srv").mkdir()
    (machine / "opt/csagent").rename(machine / "srv/csagent")
    (machine / "opt/csagent").symlink_to("../srv/csagent")
    (machine / "srv").chmod(0o777)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (a_package, "from a package of the distribution: nothing was changed"),
        (an_own_unit, "is not of install-units"),
        (a_mask, "csagent-host-keys.service is not of install-units"),
        (no_systemd, "no systemd in"),
        (no_script, "name its script with --exec PATH"),
        (another_program, "is not csagent's console script"),
        (writable_for_all, "opt/csagent can be changed by others than root"),
        (a_link_to_where_all_write, "/srv/python can be changed by others than root"),
        (a_linked_directory_where_all_write, "/srv can be changed by others than root"),
    ],
)
def test_refuses(machine: Path, spoil: Callable[[Path], None], reason: str) -> None:
    """A package's units, an administrator's own, a mask, a program that others could change."""
    spoil(machine)
    before = files(machine)
    with pytest.raises(UsageError, match=reason):
        install(machine)
    assert files(machine) == before


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives directories to groups")
@pytest.mark.parametrize(
    ("directory", "group", "listed", "refused"),
    [
        ("opt/csagent", 0, "staff:x:50:", False),
        ("opt/csagent", 50, "staff:x:50:", True),
        ("usr/local/csagent", 50, "staff:x:50:", False),
        ("usr/local/csagent", 50, "ftp:x:50:", True),
        ("usr/local/csagent", 51, "staff:x:50:", True),
        ("usr/localities", 50, "staff:x:50:", True),
    ],
)
def test_a_group_that_may_write_is_refused(
    machine: Path, directory: str, group: int, listed: str, refused: bool
) -> None:
    """But for root's, and for Debian's staff in /usr/local, to whom that is given there."""
    (machine / "etc/group").write_text(f"root:x:0:\n{listed}\n")
    place = machine / directory
    place.mkdir(parents=True, exist_ok=True)
    (place / "csagent").write_text("#!/usr/bin/python3\nfrom csagent.cli.main import entry\nentry()\n")
    os.chown(place, 0, group)
    place.chmod(0o2775)
    if refused:
        with pytest.raises(UsageError, match=f"{directory} can be changed by others than root"):
            install(machine, f"/{directory}/csagent")
    else:
        install(machine, f"/{directory}/csagent")


def test_links_in_a_ring_are_refused(machine: Path) -> None:
    """Looking comes to an end."""
    (machine / "opt/one").symlink_to("two")
    (machine / "opt/two").symlink_to("one")
    with pytest.raises(UsageError, match="opt/one/csagent: Too many levels of symbolic links"):
        install(machine, "/opt/one/csagent")
    (machine / SCRIPT.lstrip("/")).write_text("#!/opt/one/python3\nfrom csagent.cli.main import entry\n")
    with pytest.raises(UsageError, match="opt/one/python3: Too many levels of symbolic links"):
        install(machine)


def test_a_long_first_line_is_understood(machine: Path) -> None:
    """pip writes a shell's first lines where the path of the interpreter is too long for the kernel."""
    python = "/opt/" + "long" * 40 + "/bin/python3"
    text = f"#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n' '''\nfrom csagent.cli.main import entry\n"
    (machine / SCRIPT.lstrip("/")).write_text(text)
    assert units.command_line(System.at(str(machine)), SCRIPT) == f"{python} -I {SCRIPT}"


def test_a_path_that_a_unit_cannot_name_is_refused(machine: Path) -> None:
    """Percent signs and spaces mean something to systemd."""
    odd = machine / "opt/cs agent%n"
    odd.mkdir()
    (odd / "csagent").write_text("#!/opt/csagent/bin/python3\nfrom csagent.cli.main import entry\n")
    with pytest.raises(UsageError, match="a unit cannot name this path"):
        install(machine, "/opt/cs agent%n/csagent")


def test_the_command_says_what_it_did_and_what_is_left(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Text for people, JSON for programs; the account is the builder's to make in a tree."""
    words = ["--root", str(machine), "install-units", "--exec", SCRIPT]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "written /etc/systemd/system/csagent.service" in said and "useradd --system" in said
    with open(machine / "etc/passwd", "a") as stream:
        stream.write("csagent:x:999:999::/nonexistent:/usr/sbin/nologin\n")
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1 and document["notes"] == []
    assert {"what": "account csagent", "done": "kept"} in document["steps"]
    assert main(["--root", str(machine), "install-units", "--remove", "-q"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
@pytest.mark.parametrize("where", ["lib", "lib/yaml.py", "pyvenv.cfg", "lib/csagent/daemon/loop.py"])
def test_a_module_of_somebody_elses_is_refused(machine: Path, where: str) -> None:
    """All that the unit's interpreter imports from is looked at, libraries and what says where they are."""
    for name in ("lib/yaml.py", "pyvenv.cfg", "lib/csagent/daemon/loop.py"):
        path = machine / "opt/csagent" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    class Python(NoCommands):
        def run(self, argv: Any, **_more: Any) -> Completed:
            paths = "/opt/csagent/pyvenv.cfg\n/opt/csagent/lib.zip\n/opt/csagent/lib\n"
            return Completed(0, paths.encode(), b"")

    system = System.at(str(machine))._replace(runner=Python())
    system.tree.live = True
    assert units.command_line(system, SCRIPT)
    os.chown(machine / "opt/csagent" / where, 1000, 1000)
    with pytest.raises(UsageError, match=f"/opt/csagent/{where} can be changed by others"):
        units.command_line(system, SCRIPT)


def test_a_persons_account_of_that_name_is_not_used(machine: Path) -> None:
    """It is kept, and install-units says who reads in its place."""
    with open(machine / "etc/passwd", "a") as stream:
        stream.write("csagent:x:1500:1500::/home/csagent:/bin/bash\n")
    steps, notes = install(machine)
    assert steps["account csagent"] == "kept"
    assert "is not used, it is a person's (user 1500, group 1500)" in notes[0] and "nobody" in notes[0]
