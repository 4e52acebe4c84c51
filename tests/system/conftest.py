"""A virtual router and a guest in namespaces of their own; helpers are shared with tests/vm."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vm"))

from gate import require
from image import TOOLS as IMAGE_TOOLS
from image import Installed, build_package, installed

TOOLS = (*IMAGE_TOOLS, "unshare", "nsenter", "ip", "mount", "dnsmasq")


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Debian 12 with the package of this checkout in it."""
    require(TOOLS, "runs a router and a guest in namespaces")
    return installed(build_package(tmp_path_factory.mktemp("deb")))
