"""The Debian package through its life: upgraded, downgraded, removed, installed again, purged."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest
from support.debian_image import Installed, run
from support.network_segment import Guest

import csagent

OLD = "0.0.9"
LAB = "usr/lib/python3/dist-packages/csagent/lab"
MEMORY = "/var/lib/csagent/instances/3f0c9a52-7c1e-4a55-9f0e-6d1b2c3d4e5f.json"
SAMPLE = Path(__file__).resolve().parents[1] / "fixtures/memory/before-packages.json"
SETTINGS, DROP_IN = "/etc/csagent/csagent.yaml", "/etc/csagent/conf.d/site.yaml"
UNIT, NEW_UNIT = "csagent.service", "csagent-host-keys.service"

# The guest has no systemd that runs: what the maintainer scripts ask of it is written down.
SYSTEMCTL = """#!/bin/sh
echo "$*" >> /asked
case "$*" in
*is-enabled* | *preset*) SYSTEMD_OFFLINE=1 exec /usr/bin/systemctl "$@" ;;
esac
"""


@pytest.fixture(scope="session")
def older(debs: Tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of an earlier release: other settings file, a module and the lab more, a unit fewer."""
    directory = tmp_path_factory.mktemp("older")
    tree = directory / "tree"
    run(["dpkg-deb", "--raw-extract", debs[0], tree], 30)
    run(["dpkg-deb", "--extract", debs[1], tree], 30)
    shutil.rmtree(tree / "usr/share/doc/csagent-lab")
    (tree / "usr/share/man/man1/csagent-lab.1.gz").unlink()
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"^Version: .*$", f"Version: {OLD}-1", control.read_text(), flags=re.M))
    modules = tree / "usr/lib/python3/dist-packages/csagent"
    init = modules / "__init__.py"
    init.write_text(init.read_text().replace(csagent.__version__, OLD))
    (modules / "gone_since.py").write_text("")
    settings = tree / SETTINGS.lstrip("/")
    settings.write_text("# An older text.\n" + settings.read_text())
    (unit,) = tree.glob(f"**/system/{NEW_UNIT}")
    unit.unlink()
    for script in ("postinst", "prerm", "postrm"):
        path = tree / "DEBIAN" / script
        pieces = re.split(r"(?<=# End automatically added section\n)", path.read_text())
        path.write_text("".join(piece for piece in pieces if NEW_UNIT not in piece))
    package = directory / "older.deb"
    run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, package], 30)
    return package


class Machine:
    """A guest with a systemd that only listens, and all packages at hand."""

    def __init__(self, guest: Guest, newer: Path, lab: Path, older: Path) -> None:
        self.guest = guest
        self.root = Path(f"/proc/{guest.pid}/root")
        shutil.copy(newer, self.root / "newer.deb")
        shutil.copy(lab, self.root / "lab.deb")
        shutil.copy(older, self.root / "older.deb")
        stub = self.root / "usr/local/sbin/systemctl"
        stub.write_text(SYSTEMCTL)
        stub.chmod(0o755)
        guest.do("mkdir", "-p", "/run/systemd/system")

    def dpkg(self, *words: str) -> List[str]:
        """Run dpkg, which asks nobody; what it had asked of systemd."""
        asked = self.root / "asked"
        asked.write_text("")
        path = "PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        options = ["--force-confdef", "--force-confold", "--force-unsafe-io", "--force-downgrade"]
        self.guest.do("env", path, "DEBIAN_FRONTEND=noninteractive", "dpkg", *options, *words)
        lines = asked.read_text().splitlines()
        return [
            line for line in lines if not re.search("is-enabled|is-active|preset", line) and "csagent" in line
        ]

    def enabled(self, unit: str) -> str:
        """What systemctl says of a unit."""
        return self.guest.run("systemctl", "--root=/", "is-enabled", unit).stdout.strip()

    def text(self, path: str) -> str:
        """The text of a file."""
        return (self.root / path.lstrip("/")).read_text()

    def put(self, path: str, text: str) -> None:
        """Write a file as the machine's owner would."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def version(self) -> str:
        """What the program says it is."""
        return self.guest.do("csagent", "--version").split()[1]


@pytest.fixture
def machine(image: Installed, debs: Tuple[Path, Path], older: Path, tmp_path: Path) -> Iterator[Machine]:
    """A machine that has had the older package for a while."""
    guest = Guest(image, tmp_path / "guest")
    try:
        made = Machine(guest, *debs, older)
        made.dpkg("--purge", "csagent")
        made.dpkg("--install", "/older.deb")
        assert (made.version(), made.enabled(UNIT), made.enabled(NEW_UNIT)) == (OLD, "enabled", "")
        made.put(MEMORY, SAMPLE.read_text())
        yield made
    finally:
        guest.close()


@pytest.mark.netns
@pytest.mark.root
def test_upgrade_and_downgrade_keep_what_is_the_owners(machine: Machine) -> None:
    """Settings, drop-ins and memory stay, and whether the unit is enabled; the rest is the new version's."""
    machine.put(SETTINGS, "user: root\n")
    machine.put(DROP_IN, "wait: 20\n")
    asked = machine.dpkg("--install", "/newer.deb")
    # Restarted once, after its files are there, and never stopped before: the next pass follows at once.
    assert [line.split()[-2:] for line in asked] == [["restart", UNIT]]
    assert machine.version() == csagent.__version__
    assert (machine.text(SETTINGS), machine.text(DROP_IN)) == ("user: root\n", "wait: 20\n")
    assert "#user: root" in machine.text(SETTINGS + ".dpkg-dist")
    assert machine.text(MEMORY) == SAMPLE.read_text()
    assert (machine.enabled(UNIT), machine.enabled(NEW_UNIT)) == ("enabled", "enabled")
    assert machine.guest.run("sh", "-c", "find / -xdev -name 'gone_since*'").stdout == ""

    machine.guest.do("systemctl", "--root=/", "disable", UNIT)
    machine.dpkg("--install", "/older.deb")
    assert (machine.version(), machine.enabled(UNIT)) == (OLD, "disabled")
    assert (machine.text(SETTINGS), machine.text(MEMORY)) == ("user: root\n", SAMPLE.read_text())
    machine.dpkg("--install", "/newer.deb")
    assert (machine.version(), machine.enabled(UNIT)) == (csagent.__version__, "disabled")
    assert machine.guest.csagent("discover")["schema"] == 1


@pytest.mark.netns
@pytest.mark.root
def test_removal_keeps_and_purge_forgets(machine: Machine) -> None:
    """`remove` keeps settings and memory and stops the service; `purge` leaves only what the owner made."""
    machine.dpkg("--install", "/newer.deb")
    assert machine.text(SETTINGS).startswith("# Settings of csagent"), "untouched, it becomes the new one"
    machine.put(DROP_IN, "wait: 20\n")
    machine.guest.do("mkdir", "-p", "/run/csagent")
    machine.guest.do("systemctl", "--root=/", "disable", UNIT)
    machine.put("/root/document", "#cloud-config\nbootcmd: [echo x]\nruncmd: [echo EXAMPLE]\n")
    machine.guest.do("csagent", "user-data", "run", "--document", "/root/document")
    machine.put("/var/log/csagent-user-data.log.1.gz", "rotated")
    assert "EXAMPLE" in machine.text("/var/log/csagent-user-data.log")
    asked = machine.dpkg("--remove", "csagent")
    assert any(line.endswith(f"stop {UNIT}") for line in asked)
    assert machine.text(MEMORY) == SAMPLE.read_text() and machine.text(SETTINGS)
    assert not (machine.root / "usr/lib/python3/dist-packages/csagent").exists()

    machine.dpkg("--install", "/newer.deb")
    assert (machine.version(), machine.enabled(UNIT)) == (csagent.__version__, "disabled")
    assert machine.text(MEMORY) == SAMPLE.read_text()

    machine.dpkg("--purge", "csagent")
    left = machine.guest.do(
        "sh", "-c", "find / /run -xdev -path /proc -prune -o -name '*csagent*' -print"
    ).split()
    assert {path for path in left if "csagent-test" not in path} == {"/etc/csagent"}
    assert machine.guest.do("find", "/etc/csagent", "-type", "f").split() == [DROP_IN]
    # Its number must not pass to somebody else.
    assert machine.guest.do("getent", "passwd", "csagent")


@pytest.mark.netns
@pytest.mark.root
def test_the_lab_leaves_csagent_when_it_is_upgraded(machine: Machine) -> None:
    """Nothing of it is left, and its package brings it; both at once take over what the older csagent had."""
    assert (machine.root / LAB / "__init__.py").exists()
    machine.dpkg("--install", "/newer.deb")
    assert not (machine.root / LAB).exists()
    assert machine.guest.run("csagent", "lab").returncode == 2

    machine.dpkg("--install", "/older.deb")
    # Alone it would overwrite what is still csagent's.
    assert machine.guest.run("dpkg", "--install", "/lab.deb").returncode != 0
    machine.dpkg("--remove", "csagent-lab")
    assert machine.version() == OLD and (machine.root / LAB / "__init__.py").exists()

    apt = ("apt-get", "--quiet", "--yes", "--option=Dpkg::Options::=--force-unsafe-io")
    machine.guest.do("env", "DEBIAN_FRONTEND=noninteractive", *apt, "install", "/lab.deb", "/newer.deb")
    assert machine.version() == csagent.__version__
    assert machine.guest.do("csagent", "lab", "router", "--example")
    assert machine.text(MEMORY) == SAMPLE.read_text()

    machine.dpkg("--purge", "csagent-lab")
    assert not (machine.root / LAB).exists()
    machine.dpkg("--install", "/older.deb")
    assert (machine.root / LAB / "__init__.py").exists()
