"""The Debian package: what is in it, what its settings file says, what installing and purging do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator, List, Set, Tuple

import pytest
from support.debian_image import REPOSITORY, Installed, run
from support.network_segment import Guest
from support.requirements import require

import csagent
from csagent import settings
from csagent.system.seams import System

SERVICES = ("csagent.service", "csagent-host-keys.service", "csagent-console.path", "csagent-user-data.path")
OTHERS = (
    *("csagent-first-pass.service", "csagent-ready.target", "csagent-user-data.target"),
    *("csagent-user-data-early.service", "csagent-user-data.service"),
    "csagent-user-data-after-boot.service",
    *("csagent-console.service", "csagent-weight.service"),
)
MODULES = "/usr/lib/python3/dist-packages/csagent"
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


def files(package: Path) -> Set[str]:
    """The paths of what is no directory in a package."""
    lines = run(["dpkg-deb", "--contents", package], 30).stdout.splitlines()
    return {line.split()[5][1:] for line in lines if not line.startswith("d")}


def test_the_lab_is_packaged_apart(debs: Tuple[Path, Path]) -> None:
    """csagent has every module but the lab's; csagent-lab has those and a page, and needs this csagent."""
    package, lab = (files(one) for one in debs)
    modules = {
        f"{MODULES}/{path.relative_to(REPOSITORY / 'csagent')}"
        for path in (REPOSITORY / "csagent").rglob("*.py")
        if path.parent.name != "data"
    }
    labs = {path for path in modules if path.startswith(f"{MODULES}/lab/")}
    assert {path for path in package if path.startswith(MODULES)} == {*modules - labs, f"{MODULES}/py.typed"}
    others = {path for path in lab if not path.startswith("/usr/share/doc/csagent-lab/")}
    assert others == {*labs, "/usr/share/man/man1/csagent-lab.1.gz"}
    version = run(["dpkg-deb", "--field", debs[0], "Version"], 10).stdout.strip()
    depends = run(["dpkg-deb", "--field", debs[1], "Depends"], 10).stdout
    assert f"csagent (= {version})" in depends.strip().split(", ")


def test_lintian_finds_nothing(all_debs: List[Path], libraries: Tuple[Path, Path]) -> None:
    """Debian's own checker has no error and no warning, for PyCdlib's package neither."""
    require(("lintian",), "checks the packages")
    for package in (*all_debs, libraries[0]):
        done = subprocess.run(
            ["lintian", "--allow-root", "--fail-on", "error,warning", str(package)],
            capture_output=True,
            text=True,
            timeout=600,
            env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_same_source_gives_the_same_packages(
    all_debs: List[Path], sdist_and_wheel: Tuple[Path, Path], tmp_path: Path
) -> None:
    """The release archive builds the packages of the checkout, byte for byte, whenever and wherever.

    It has the manual pages and the completion, so that nothing is needed but Debian's own tools.
    """
    run(["tar", "-xzf", sdist_and_wheel[0], "-C", tmp_path, "--strip-components=1"], 30)
    again = run(
        [tmp_path / "packaging/build-deb", tmp_path / "again"], 120, PYTHON="/bin/false"
    ).stdout.split()
    assert [Path(one).read_bytes() for one in again] == [one.read_bytes() for one in all_debs]


def test_a_checkout_without_the_tools_of_the_manual_says_so(source: Path, tmp_path: Path) -> None:
    """A package without its pages is not built."""
    done = subprocess.run(
        [source / "packaging/build-deb", tmp_path],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHON": "/bin/false"},
    )
    assert done.returncode == 1 and "no manual; pip install '.[package]'" in done.stderr
    assert list(tmp_path.iterdir()) == []


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
    assert guest.do("systemctl", "is-enabled", *SERVICES).split() == ["enabled"] * len(SERVICES)
    assert guest.do("csagent", "--version").strip() == f"csagent {csagent.__version__}"
    assert guest.run("systemctl", "is-enabled", *OTHERS).stdout.split() == ["static"] * len(OTHERS)
    guest.do("sh", "-c", "ls /usr/lib/python3/dist-packages/csagent/__pycache__/agent.*.pyc")
    assert guest.do("head", "-n1", "/usr/bin/csagent").strip() == "#!/usr/bin/python3 -I"
    done = guest.run("systemd-analyze", "verify", "--man=no", *SERVICES, *OTHERS)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.netns
@pytest.mark.root
def test_the_lab_comes_and_goes(guest: Guest, debs: Tuple[Path, Path]) -> None:
    """Without its package one line says how to get it; with it the command works; purged, nothing is left."""
    done = guest.run("csagent", "lab", "router", "--example")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("csagent: ") and "apt install ./csagent-lab_" in done.stderr
    assert done.stderr.count("\n") == 1
    before = guest.do("find", MODULES)

    shutil.copy(debs[1], f"/proc/{guest.pid}/root/lab.deb")
    guest.do("dpkg", "--install", "/lab.deb")
    assert "instance_id: " in guest.do("csagent", "lab", "router", "--example")
    guest.do("csagent", "lab", "drive", "/drive.iso")
    assert guest.csagent("fetch", "--drive", "/drive.iso")["instance_id"]
    guest.do("sh", "-c", f"ls {MODULES}/lab/vm/__pycache__/command.*.pyc")

    guest.do("dpkg", "--purge", "csagent-lab")
    assert guest.do("find", MODULES) == before
    assert (
        guest.run("sh", "-c", "find / -xdev -path /proc -prune -o -name 'csagent-lab*' -print").stdout == ""
    )
    assert guest.run("csagent", "lab").returncode == 2
