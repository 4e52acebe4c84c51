"""Which mounts are a part of the template: partitions of the image are, what a builder binds in is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterator

import pytest

from csagent.system import mounts
from csagent.system.mounts import Mounts

TABLE = r"""
22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:20 / /tmp rw shared:3 - tmpfs tmpfs rw
30 22 7:0 / /mnt/my\040image rw - ext4 /dev/loop0p1 rw
31 30 7:1 / /mnt/my\040image/var rw - xfs /dev/loop0p2 rw
32 31 8:1 /var/cache/apt /mnt/my\040image/var/cache/apt rw - ext4 /dev/sda1 rw
33 30 0:20 / /mnt/my\040image/run rw - tmpfs tmpfs rw
34 30 0:50 / /mnt/my\040image/home rw - nfs4 server:/home rw
35 22 7:9 / /mnt/my\040images rw - ext4 /dev/loop9 rw
rubbish
"""
IMAGE = "/mnt/my image"


@pytest.fixture
def descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """An open directory, and the table above for the kernel's."""
    (tmp_path / "mountinfo").write_text(TABLE)
    monkeypatch.setattr(mounts, "MOUNTINFO", str(tmp_path / "mountinfo"))
    opened = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield opened
    os.close(opened)


@pytest.mark.parametrize(
    ("root", "mount", "word"),
    [
        (IMAGE, 30, None),
        (IMAGE, 31, None),
        (IMAGE, 32, "bound here from outside"),
        (IMAGE, 33, "tmpfs"),
        (IMAGE, 34, "nfs4"),
        (IMAGE, 99, None),
        ("/", 22, None),
        ("/", 23, "tmpfs"),
        ("/srv/chroot", 22, None),
    ],
)
def test_mounts_are_told_apart(
    descriptor: int, monkeypatch: pytest.MonkeyPatch, root: str, mount: int, word: "str | None"
) -> None:
    """By their kind, and by whether their device is mounted outside of the tree as well."""
    table = Mounts(root)
    monkeypatch.setattr(table, "_own", None)
    monkeypatch.setattr(table, "of", lambda _descriptor: mount)
    reason = table.spared(descriptor)
    assert reason is None if word is None else reason is not None and word in reason


def test_the_kernel_says_on_which_mount_a_file_lies(tmp_path: Path) -> None:
    """A directory is on its parent's mount here, and /proc is on another; without /proc the device tells."""
    table = Mounts("/")
    opened = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (tmp_path, tmp_path.parent, "/proc")]
    try:
        first, second, proc = (table.of(one) for one in opened)
        assert first == second != proc
        assert (table.spared(opened[2]) or "").startswith("proc")
    finally:
        for one in opened:
            os.close(one)


@pytest.mark.parametrize(("name", "kept_off"), [("home", True), ("var", False), ("homes", False)])
def test_what_a_server_answers_for_is_not_asked(
    descriptor: int, monkeypatch: pytest.MonkeyPatch, name: str, kept_off: bool
) -> None:
    """Where it is mounted, by the kernel's own name of the directory above; what is beside it is asked."""
    real = os.readlink
    monkeypatch.setattr(os, "readlink", lambda path: IMAGE if str(path).startswith("/proc") else real(path))
    table = Mounts(IMAGE)
    if kept_off:
        with pytest.raises(mounts.Elsewhere, match="nfs4, no disk of this machine"):
            table.keep_off(descriptor, name)
    else:
        table.keep_off(descriptor, name)
