"""What all tests share: keys that are keys, trees that look like a guest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import settings
from samples import make_key

from csagent.system import System

settings.register_profile("csagent", deadline=None)  # a loaded CI machine is slow, not wrong
settings.load_profile("csagent")


@pytest.fixture
def key() -> Callable[..., str]:
    """`key(1)` is a public key line."""
    return make_key


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A guest's tree: accounts root and alice, both owned by whoever runs the test."""
    uid, gid = os.getuid(), os.getgid()
    for directory in ("etc", "root", "home/alice", "var", "run"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text(
        f"root:x:{uid}:{gid}:root:/root:/bin/bash\nalice:x:{uid}:{gid}::/home/alice:/bin/sh\n"
    )
    (tmp_path / "etc/group").write_text(f"root:x:{gid}:\n")
    (tmp_path / "etc/shadow").write_text("root:*:19000:0:99999:7:::\nalice:!:19000:0:99999:7:::\n")
    (tmp_path / "etc/shadow").chmod(0o640)
    (tmp_path / "etc/hostname").write_text("debian\n")
    (tmp_path / "etc/hosts").write_text("127.0.0.1\tlocalhost\n127.0.1.1\tdebian\n::1\tlocalhost\n")
    return tmp_path


@pytest.fixture
def system(tree: Path) -> System:
    """The system below that tree."""
    return System.at(str(tree))
