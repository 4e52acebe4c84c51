"""Packages built by packaging's own scripts, for the tests of what is in them."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Iterator, List

import pytest

from support.debian_image import run


def build_with(script: Path, *words: Path) -> List[Path]:
    """Run one of packaging's scripts; the paths that it prints."""
    done = run([script, *words], 300, PYTHON=sys.executable)
    return [Path(line) for line in done.stdout.split("\n") if line]


@contextlib.contextmanager
def needs_index() -> Iterator[None]:
    """Skip what needs a package index where there is none; in CI that is a failure."""
    try:
        yield
    except RuntimeError as error:
        unreachable = "NewConnectionError" in str(error) or "Could not fetch URL" in str(error)
        if os.environ.get("CI") or not unreachable:
            raise
        pytest.skip("needs a package index, as ./dev test itself does the first time")
