"""Whether this machine can run the tests that need root and the distribution's tools."""

from __future__ import annotations

import os
import shutil
from typing import Sequence

import pytest

SBIN = "/usr/sbin:/sbin"


def require(tools: Sequence[str], why: str) -> None:
    """Skip where root or a tool is missing; in CI that is a failure, since nobody reads its skips."""
    path = os.environ.get("PATH", "") + ":" + SBIN
    lacking = [] if os.geteuid() == 0 else ["root"]
    lacking += [tool for tool in tools if shutil.which(tool, path=path) is None]
    if not lacking:
        return
    reason = f"{why}: needs {', '.join(lacking)} (./dev test installs the tools when run as root)"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
