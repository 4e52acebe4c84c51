"""Packages of this checkout, and an image with them in it, made once for all tests."""

from __future__ import annotations

from pathlib import Path
from typing import Tuple

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
def deb(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Debian package of this checkout."""
    require(("dpkg-buildpackage", "dh", "dh_python3"), "builds the package")
    (package,) = build_with(source / "packaging/build-deb", tmp_path_factory.mktemp("deb"))
    return package


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
def rpms(
    source: Path, sdist_and_wheel: Tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Tuple[Path, Path]:
    """The .rpm for EL 9, EL 10 and Fedora, and the one for EL 8."""
    require(("rpmbuild",), "builds the packages")
    current, el8 = build_with(
        source / "packaging/build-rpm", tmp_path_factory.mktemp("rpm"), sdist_and_wheel[0]
    )
    return current, el8


@pytest.fixture(scope="session")
def libraries(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuple[Path, Path]:
    """PyCdlib as .deb for Debian 11 and as .rpm for EL."""
    require(("rpmbuild", "dpkg-deb", "unzip"), "builds the packages")
    with needs_index():
        deb, rpm = build_with(source / "packaging/build-pycdlib", tmp_path_factory.mktemp("pycdlib"))
    return deb, rpm
