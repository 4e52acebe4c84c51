"""The Debian package: what is in it, what its settings file says, what installing and purging do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Iterator

import pytest
from gate import require
from image import TOOLS, Installed, build_package
from segment import Guest

import csagent
from csagent import settings
from csagent.system import System

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
    assert {line.split(":")[0] for line in said} == set(settings.Settings.__dataclass_fields__)
    assert settings.load(System.at(str(tmp_path))) == settings.Settings()


def test_package_version_is_the_programs() -> None:
    """debian/changelog and csagent.__version__ are raised together."""
    first = (PACKAGING / "changelog").read_text().splitlines()[0]
    assert first.startswith(f"csagent ({csagent.__version__}-")


@pytest.mark.root
def test_lintian_finds_no_error(tmp_path: Path) -> None:
    """Debian's own checker has no complaint of the kind that gets a package rejected."""
    require(TOOLS, "builds the package")
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed")
    deb = build_package(tmp_path)
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error", str(deb)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.root
def test_same_source_gives_the_same_package(tmp_path: Path) -> None:
    """Two builds are equal byte for byte, whatever the time and the directory."""
    require(TOOLS, "builds the package")
    first, second = build_package(tmp_path / "a"), build_package(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.netns
@pytest.mark.root
def test_installation_makes_the_account_and_enables_the_unit(guest: Guest) -> None:
    """The reading children's account has no home and no shell, the unit is enabled, byte code is there.

    The target that others can wait for is there, and nothing starts it by itself.
    """
    account = guest.do("getent", "passwd", "csagent").strip().split(":")
    assert account[5:] == ["/nonexistent", "/usr/sbin/nologin"]
    assert guest.do("systemctl", "is-enabled", "csagent.service").strip() == "enabled"
    assert guest.do("csagent", "--version").strip() == f"csagent {csagent.__version__}"
    assert guest.run("systemctl", "is-enabled", "csagent-ready.target").stdout.strip() == "static"
    guest.do("sh", "-c", "ls /usr/lib/python3/dist-packages/csagent/__pycache__/cli.*.pyc")
    assert guest.do("head", "-n1", "/usr/bin/csagent").strip() == "#!/usr/bin/python3 -I"
    done = guest.run("systemd-analyze", "verify", "--man=no", "csagent.service", "csagent-ready.target")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.netns
@pytest.mark.root
def test_purge_removes_the_memory_and_removal_keeps_it(guest: Guest) -> None:
    """After `remove` what was applied is still known; `purge` forgets it, the settings file included."""
    guest.do("mkdir", "-p", "/var/lib/csagent/instances", "/run/csagent")
    guest.do("dpkg", "--remove", "csagent")
    guest.do("test", "-d", "/var/lib/csagent/instances", "-a", "-e", "/etc/csagent/csagent.yaml")
    guest.do("dpkg", "--purge", "csagent")
    assert guest.run("ls", "-d", "/var/lib/csagent", "/run/csagent", "/etc/csagent").stdout == ""
