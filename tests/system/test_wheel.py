"""Wheel and sdist: what is in them, that they can be made again, and that pip installs them as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Dict, List, Tuple

import pytest
from support.built_packages import build_with, needs_index
from support.debian_image import REPOSITORY, Installed, run
from support.network_segment import Guest

import csagent

VERSION = csagent.__version__
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
PLATFORMS = ("manylinux2014_x86_64", "manylinux_2_28_x86_64")
UNITS = (
    *("csagent.service", "csagent-host-keys.service"),
    *("csagent-first-pass.service", "csagent-weight.service", "csagent-ready.target"),
    *("csagent-console.path", "csagent-console.service"),
    *("csagent-user-data.path", "csagent-user-data-early.service", "csagent-user-data.service"),
    *("csagent-user-data-after-boot.service", "csagent-user-data.target"),
)
SHARED = (
    *("share/man/man1/csagent.1", "share/man/man1/csagent-lab.1"),
    *("share/man/man5/csagent.yaml.5", "share/man/man8/csagent.8"),
    *("share/bash-completion/completions/csagent", "share/zsh/site-functions/_csagent"),
    "share/fish/vendor_completions.d/csagent.fish",
)


def members(wheel: Path) -> Dict[str, bytes]:
    """The files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def needed(wheel: Path, version: str) -> List[str]:
    """The wheel's own requirements for a version of Python; pip takes the running one's for all others."""
    from pip._vendor.packaging.requirements import Requirement

    text = members(wheel)[f"csagent-{VERSION}.dist-info/METADATA"].decode()
    found = []
    for line in text.split("\n\n", 1)[0].splitlines():
        if line.startswith("Requires-Dist: "):
            one = Requirement(line.split(": ", 1)[1])
            if one.marker is None or one.marker.evaluate({"python_version": version, "extra": ""}):
                found.append(f"{one.name}{one.specifier}")
    assert len(found) == 4
    return found


def test_wheel_has_modules_units_settings_pages_and_completion(sdist_and_wheel: Tuple[Path, Path]) -> None:
    """csagent/data holds what install-units writes; the rest goes below the prefix that pip installs to."""
    found = members(sdist_and_wheel[1])
    for unit in UNITS:
        assert found[f"csagent/data/{unit}"] == (REPOSITORY / "systemd" / unit).read_bytes()
    settings = REPOSITORY / "packaging/debian/csagent.yaml"
    assert found["csagent/data/csagent.yaml"] == settings.read_bytes()
    shared = f"csagent-{VERSION}.data/data/"
    assert {name[len(shared) :] for name in found if name.startswith(shared)} == set(SHARED)
    assert b".TH" in found[f"{shared}share/man/man1/csagent.1"]
    assert not [name for name in found if name.startswith(("tests", "packaging", "setup"))]


def test_sdist_has_everything_that_the_repository_has(
    source: Path, sdist_and_wheel: Tuple[Path, Path]
) -> None:
    """But for what only CI and git read; so packages can be built and tests run from it."""
    with tarfile.open(sdist_and_wheel[0]) as archive:
        infos = archive.getmembers()
    there = {info.name.split("/", 1)[1] for info in infos if info.isfile()}
    here = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert {name for name in here - there if not name.startswith((".ci/", ".git"))} == set()
    assert {(info.uid, info.uname, info.mtime) for info in infos} == {(0, "", infos[0].mtime)}


def test_they_are_the_same_whoever_makes_them(
    source: Path, sdist_and_wheel: Tuple[Path, Path], tmp_path: Path
) -> None:
    """Made of the sdist, in another time zone and with another umask, both are equal byte for byte."""
    run(["tar", "-xzf", sdist_and_wheel[0], "-C", tmp_path, "--strip-components=1"], 30)
    previous = os.umask(0o077)
    try:
        again = build_with(tmp_path / "packaging/build-python", tmp_path / "out")
    finally:
        os.umask(previous)
    assert [one.read_bytes() for one in again] == [one.read_bytes() for one in sdist_and_wheel]


def test_pip_installs_it_without_a_compiler(sdist_and_wheel: Tuple[Path, Path], tmp_path: Path) -> None:
    """Into an empty environment; command, module, pages and units are then there."""
    environment = tmp_path / "opt"
    run([sys.executable, "-m", "venv", environment], 120)
    python = environment / "bin/python"
    with needs_index():
        run([python, "-m", "pip", "install", "--quiet", sdist_and_wheel[1]], 300, CC="/bin/false")
    assert run([environment / "bin/csagent", "--version"], 60).stdout == f"csagent {VERSION}\n"
    assert run([python, "-I", "-m", "csagent", "--version"], 60).stdout == f"csagent {VERSION}\n"
    assert [name for name in SHARED if not (environment / name).is_file()] == []
    program = "import netifaces, pycdlib, pyudev, yaml"
    run([python, "-I", "-c", program], 60)

    tree = tmp_path / "tree"
    (tree / "usr/lib/systemd").mkdir(parents=True)
    (tree / "usr/lib/systemd/systemd").touch()
    script = tree / "opt/csagent/bin/csagent"
    script.parent.mkdir(parents=True)
    installed = (environment / "bin/csagent").read_text()
    script.write_text(installed.replace(str(environment), "/opt/csagent"))
    tree.chmod(0o755)
    words = [f"--root={tree}", "install-units", "--exec", "/opt/csagent/bin/csagent"]
    run([environment / "bin/csagent", *words], 60)
    unit = (tree / "etc/systemd/system/csagent.service").read_text()
    assert "\nExecStart=/opt/csagent/bin/python" in unit and " -I /opt/csagent/bin/csagent daemon\n" in unit


@pytest.mark.netns
@pytest.mark.root
def test_install_units_on_a_machine(
    image: Installed, sdist_and_wheel: Tuple[Path, Path], tmp_path: Path
) -> None:
    """Where pip put csagent below /usr/local: account, units and settings are made once, and taken away."""
    guest = Guest(image, tmp_path / "guest")
    try:
        guest.do("dpkg", "--purge", "csagent")
        guest.do("userdel", "csagent")
        local = Path(f"/proc/{guest.pid}/root/usr/local")
        (modules,) = local.glob("lib/python3.*/dist-packages")
        with zipfile.ZipFile(sdist_and_wheel[1]) as archive:
            archive.extractall(modules)
        script = local / "bin/csagent"
        script.write_text("#!/usr/bin/python3\nfrom csagent.cli.main import entry\n\nentry()\n")
        script.chmod(0o755)
        command = ("/usr/local/bin/csagent", "install-units")

        document = json.loads(guest.do(*command, "--json"))
        assert {"what": "account csagent", "done": "made"} in document["steps"]
        account = guest.do("getent", "passwd", "csagent").strip().split(":")
        assert account[5:] == ["/nonexistent", "/usr/sbin/nologin"]
        assert guest.do("systemctl", "--root=/", "is-enabled", *UNITS[:2]) == "enabled\nenabled\n"
        assert guest.run("systemd-analyze", "verify", "--man=no", *UNITS).stderr == ""
        again = json.loads(guest.do(*command, "--json"))
        assert {step["done"] for step in again["steps"]} == {"unchanged", "enabled", "kept"}

        guest.do(*command, "--remove")
        left = guest.do("find", "/etc/systemd", "-name", "*csagent*").split()
        assert [path for path in left if "csagent-test" not in path] == []
        guest.do("test", "-e", "/etc/csagent/csagent.yaml")
        guest.do("getent", "passwd", "csagent")
    finally:
        guest.close()


def test_every_python_has_wheels_of_all_dependencies(
    sdist_and_wheel: Tuple[Path, Path], tmp_path: Path
) -> None:
    """pip finds no dependency that it would have to build, for Python 3.9 to 3.14."""
    started = {}
    for version in PYTHONS:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
        command += ["--python-version", version, "--only-binary=:all:", "--target", str(tmp_path / version)]
        command += [word for platform in PLATFORMS for word in ("--platform", platform)]
        command += ["--report", str(tmp_path / f"{version}.json"), *needed(sdist_and_wheel[1], version)]
        started[version] = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
    told = {version: process.communicate(timeout=300)[0] for version, process in started.items()}
    failed = {version: told[version] for version, process in started.items() if process.returncode}
    with needs_index():
        if failed:
            raise RuntimeError(str(failed))
    assert all((tmp_path / f"{version}.json").exists() for version in PYTHONS)
