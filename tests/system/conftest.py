"""Packages of this checkout, and an image with them in it, made once for all tests."""

from __future__ import annotations

from pathlib import Path
from typing import List, Tuple

import pytest
from support.built_packages import build_with, needs_index
from support.debian_image import REPOSITORY, Installed, installed, run
from support.debian_image import TOOLS as IMAGE_TOOLS
from support.requirements import require

TOOLS = (*IMAGE_TOOLS, "unshare", "nsenter", "ip", "mount", "dnsmasq")


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout, so that all packages are of one state of it."""
    directory = tmp_path_factory.mktemp("source")
    run([REPOSITORY / "packaging/source", directory], 60)
    return directory


@pytest.fixture(scope="session")
def all_debs(source: Path, tmp_path_factory: pytest.TempPathFactory) -> List[Path]:
    """The Debian packages of this checkout: csagent, csagent-lab and csagent-cloud-init-compat."""
    require(("dpkg-buildpackage", "dh", "dh_python3"), "builds the packages")
    return build_with(source / "packaging/build-deb", tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="session")
def debs(all_debs: List[Path]) -> Tuple[Path, Path]:
    """csagent's and csagent-lab's."""
    package, lab, _compat = all_debs
    return package, lab


@pytest.fixture(scope="session")
def compat_deb(all_debs: List[Path]) -> Path:
    """csagent-cloud-init-compat's."""
    return all_debs[2]


@pytest.fixture(scope="session")
def deb(debs: Tuple[Path, Path]) -> Path:
    """What a guest installs."""
    return debs[0]


@pytest.fixture(scope="session")
def image(deb: Path) -> Installed:
    """Debian 12 with the package of this checkout in it."""
    require(TOOLS, "runs a router and a guest in namespaces")
    return installed([deb])


@pytest.fixture(scope="session")
def sdist_and_wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, Path]:
    """What pip installs, of this checkout."""
    sdist, wheel = build_with(source / "packaging/build-python", tmp_path_factory.mktemp("python"))
    return sdist, wheel


@pytest.fixture(scope="session")
def all_rpms(
    source: Path, sdist_and_wheel: Tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> List[Path]:
    """csagent, csagent-cloud-init-compat and csagent-lab for EL 9, EL 10 and Fedora, then for EL 8."""
    require(("rpmbuild",), "builds the packages")
    return build_with(source / "packaging/build-rpm", tmp_path_factory.mktemp("rpm"), sdist_and_wheel[0])


@pytest.fixture(scope="session")
def rpms(all_rpms: List[Path]) -> Tuple[Path, Path]:
    """csagent's .rpm for EL 9, EL 10 and Fedora, and the one for EL 8."""
    return all_rpms[0], all_rpms[3]


@pytest.fixture(scope="session")
def compat_rpms(all_rpms: List[Path]) -> Tuple[Path, Path]:
    """csagent-cloud-init-compat's."""
    return all_rpms[1], all_rpms[4]


@pytest.fixture(scope="session")
def lab_rpms(all_rpms: List[Path]) -> Tuple[Path, Path]:
    """csagent-lab's."""
    return all_rpms[2], all_rpms[5]


@pytest.fixture(scope="session")
def libraries(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, Path]:
    """PyCdlib as .deb for Debian 11 and as .rpm for EL."""
    require(("rpmbuild", "dpkg-deb", "unzip"), "builds the packages")
    with needs_index():
        deb, rpm = build_with(source / "packaging/build-pycdlib", tmp_path_factory.mktemp("pycdlib"))
    return deb, rpm
