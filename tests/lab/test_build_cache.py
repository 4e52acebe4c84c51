"""What the tests build once: two processes that build at the same time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import build_cache


def test_tree_that_is_being_made_is_not_taken_for_a_left_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A copy of an older tree has its time (cp -a), while another process begins to make something else."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def other(new: Path) -> Path:
        (new / "file").write_text("other")
        return new

    def copied(new: Path) -> Path:
        (new / "file").write_text("copied")
        os.utime(new, (1.0, 1.0))
        assert (build_cache.cached("other", "key", other) / "file").read_text() == "other"
        return new

    assert (build_cache.cached("copied", "key", copied) / "file").read_text() == "copied"
    assert not list(build_cache.cache_directory().glob("new-*"))


def test_what_a_killed_process_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour after it began; what is younger may be somebody's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    left, young = (build_cache.cache_directory() / name for name in ("new-left", "new-young"))
    for path in (left, young):
        (path / "made").mkdir(parents=True)
    os.utime(left, (1.0, 1.0))
    build_cache.cached("kind", "key", lambda new: new)
    assert not left.exists() and young.exists()
