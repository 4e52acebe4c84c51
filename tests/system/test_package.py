"""The Debian package: what is in it, what its settings file says, what installing and purging do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Iterator, Tuple

import pytest
from support.debian_image import Installed, run
from support.network_segment import Guest
from support.requirements import require

import csagent
from csagent import settings
from csagent.system.seams import System

SERVICES = ("csagent.service", "csagent-host-keys.service", "csagent-user-data.path")
OTHERS = (
    *("csagent-ready.target", "csagent-user-data.target"),
    *("csagent-user-data-early.service", "csagent-user-data.service"),
)
PACKAGING = Path(__file__).resolve().parents[2] / "packaging" / "debian"


@pytest.fixture
def guest(image: Installed, tmp_path: Path) -> Iterator[Guest]:
    """A Debian tree with the package installed."""
    machine = Guest(image, tmp_path / "guest")
    try:
        yield machine
    finally:
        machine.close()


def test_settings_file_shows_every_setting_at_its_default(tmp_path: Path) -> None:
    """As shipped it says nothing; with every line uncommented it says exactly the defaults."""
    shipped = (PACKAGING / "csagent.yaml").read_text()
    (tmp_path / "etc/csagent").mkdir(parents=True)
    target = tmp_path / "etc/csagent/csagent.yaml"
    target.write_text(shipped)
    assert settings.load(System.at(str(tmp_path))) == settings.Settings()

    said = re.findall(r"^#([a-z_]+: .*)$", shipped, re.MULTILINE)
    target.write_text("\n".join(said) + "\n")
    assert {line.split(":")[0] for line in said} == {one.name for one in settings.TABLE}
    assert settings.load(System.at(str(tmp_path))) == settings.Settings()


def test_package_version_is_the_programs() -> None:
    """debian/changelog and csagent.__version__ are raised together."""
    first = (PACKAGING / "changelog").read_text().splitlines()[0]
    assert first.startswith(f"csagent ({csagent.__version__}-")


def test_lintian_finds_nothing(deb: Path, libraries: Tuple[Path, Path]) -> None:
    """Debian's own checker has no error and no warning, for PyCdlib's package neither."""
    require(("lintian",), "checks the packages")
    for package in (deb, libraries[0]):
        done = subprocess.run(
            ["lintian", "--allow-root", "--fail-on", "error,warning", str(package)],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_same_source_gives_the_same_package(
    deb: Path, sdist_and_wheel: Tuple[Path, Path], tmp_path: Path
) -> None:
    """The release archive builds the package of the checkout, byte for byte, whenever and wherever."""
    run(["tar", "-xzf", sdist_and_wheel[0], "-C", tmp_path, "--strip-components=1"], 30)
    again = run([tmp_path / "packaging/build-deb", tmp_path / "again"], 120).stdout.strip()
    assert Path(again).read_bytes() == deb.read_bytes()


def test_pycdlib_for_debian_11_gives_way_to_debians_own(libraries: Tuple[Path, Path], tmp_path: Path) -> None:
    """Its version is below Debian 12's, of the same upstream release; the module is whole."""
    fields = run(["dpkg-deb", "--field", libraries[0], "Package", "Version", "Architecture"], 10).stdout
    assert fields.split()[1::2] == ["python3-pycdlib", "1.12.0-1~csagent1", "all"]
    run(["dpkg", "--compare-versions", "1.12.0-1~csagent1", "lt", "1.12.0+ds1-4"], 10)
    run(["dpkg-deb", "--extract", libraries[0], tmp_path], 10)
    program = "import sys; sys.path.insert(0, sys.argv[1]); import pycdlib; print(pycdlib.__file__)"
    modules = tmp_path / "usr/lib/python3/dist-packages"
    told = run([sys.executable, "-I", "-B", "-c", program, modules], 30).stdout
    assert told == f"{modules}/pycdlib/__init__.py\n"


@pytest.mark.netns
@pytest.mark.root
def test_installation_makes_the_account_and_enables_the_unit(guest: Guest) -> None:
    """The reading children's account has no home and no shell, the units are enabled, byte code is there.

    The target that others can wait for is there, and nothing starts it by itself.
    """
    account = guest.do("getent", "passwd", "csagent").strip().split(":")
    assert account[5:] == ["/nonexistent", "/usr/sbin/nologin"]
    assert guest.do("systemctl", "is-enabled", *SERVICES).split() == ["enabled"] * 3
    assert guest.do("csagent", "--version").strip() == f"csagent {csagent.__version__}"
    assert guest.run("systemctl", "is-enabled", *OTHERS).stdout.split() == ["static"] * len(OTHERS)
    guest.do("sh", "-c", "ls /usr/lib/python3/dist-packages/csagent/cli/__pycache__/main.*.pyc")
    assert guest.do("head", "-n1", "/usr/bin/csagent").strip() == "#!/usr/bin/python3 -I"
    done = guest.run("systemd-analyze", "verify", "--man=no", *SERVICES, *OTHERS)
    assert (done.returncode, done.stderr) == (0, "")
