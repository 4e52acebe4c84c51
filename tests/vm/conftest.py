"""Real machines: what they need, and the two that every test here looks at."""

from __future__ import annotations

from typing import Iterator

import pytest
from gate import require
from image import Installed, build_package, installed

TOOLS = (
    "mmdebstrap dpkg-buildpackage dh dh_python3 qemu-system-x86_64 qemu-img mke2fs genisoimage "
    "unshare nsenter ip timeout"
).split()


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """Debian 12 with the package of this checkout in it."""
    require(TOOLS, "boots virtual machines")
    yield installed(build_package(tmp_path_factory.mktemp("deb")))
