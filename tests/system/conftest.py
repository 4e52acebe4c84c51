"""A virtual router and a guest in namespaces of their own; helpers are shared with tests/vm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Iterator

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))

from gate import require
from image import Installed, build_package, installed

TOOLS = "mmdebstrap dpkg-buildpackage dh dh_python3 mke2fs unshare nsenter ip mount dnsmasq".split()


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Debian 12 with the package of this checkout in it."""
    require(TOOLS, "runs a router and a guest in namespaces")
    yield installed(build_package(tmp_path_factory.mktemp("deb")))
