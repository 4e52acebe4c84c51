"""Real machines: what they need, and the two that every test here looks at."""

from __future__ import annotations

import pytest
from support.debian_image import TOOLS as IMAGE_TOOLS
from support.debian_image import Installed, build_package, installed
from support.requirements import require

TOOLS = (*IMAGE_TOOLS, "qemu-system-x86_64", "qemu-img", "genisoimage", "unshare", "nsenter", "ip", "timeout")


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Debian 12 with the package of this checkout in it."""
    require(TOOLS, "boots virtual machines")
    return installed([build_package(tmp_path_factory.mktemp("deb"))])
