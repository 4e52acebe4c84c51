"""Root writes through no link by which somebody else would choose where."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, Callable

import pytest

from csagent.system.tree import Tree

ALICE, BOB = 12345, 12346

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root writes where others make links")


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    """A root with /tmp, alice's home and root's /etc/secret."""
    for name in ("tmp", "etc/sub", "home/alice/releases/7", "home/bob"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tmp").chmod(0o1777)
    (tmp_path / "etc/secret").write_text("as it was")
    (tmp_path / "etc/secret").chmod(0o600)
    for name in ("home/alice", "home/alice/releases", "home/alice/releases/7"):
        os.chown(tmp_path / name, ALICE, ALICE)
    os.chown(tmp_path / "home/bob", BOB, BOB)
    return tmp_path


def link(guest: Path, path: str, target: str, owner: int = ALICE) -> None:
    (guest / path).symlink_to(target)
    os.lchown(guest / path, owner, owner)


WAYS = {
    "write": lambda tree, path: tree.write(path, b"new"),
    "change": lambda tree, path: tree.change(path, lambda _: b"new", 0o644, 100),
    "open": lambda tree, path: os.close(tree.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("tmp/x", "/etc/secret"),
        ("tmp/x", "/home/alice/mine"),
        ("home/alice/x", "/etc/secret"),
        ("home/alice/x", "../../etc/secret"),
        ("home/alice/x", "/home/bob/x"),
        ("home/bob/x", "/home/bob/y"),
        ("etc/sub/x", "../secret"),
    ],
)
def test_anothers_link(guest: Path, way: str, place: str, target: str) -> None:
    """In /tmp, out of their own home, into somebody else's, in a directory that is not theirs."""
    link(guest, place, target)
    with pytest.raises(OSError, match=f"a link of user {ALICE} on the way leads to what is not theirs"):
        WAYS[way](Tree(str(guest)), f"/{place}")
    assert (guest / "etc/secret").read_text() == "as it was"
    assert not (guest / "home/alice/mine").exists()


@pytest.mark.parametrize(
    "act",
    [
        lambda tree: tree.write("/home/alice/conf/secret", b"new"),
        lambda tree: tree.mkdir("/home/alice/conf/new", 0o755),
        lambda tree: tree.remove("/home/alice/conf/secret"),
    ],
    ids=["write", "mkdir", "remove"],
)
def test_a_link_above(guest: Path, act: Callable[[Tree], Any]) -> None:
    """One in the midst of a path counts as well."""
    link(guest, "home/alice/conf", "/etc")
    with pytest.raises(OSError, match="leads to what is not theirs"):
        act(Tree(str(guest)))
    assert sorted(path.name for path in (guest / "etc").iterdir()) == ["secret", "sub"]


def test_links_that_count(guest: Path) -> None:
    """Root's, wherever they lead; and an owner's within what is the owner's."""
    link(guest, "tmp/roots", "/etc/by-root", owner=0)
    link(guest, "home/alice/current", "releases/7")
    tree = Tree(str(guest))
    tree.write("/tmp/roots", b"new")
    tree.write("/home/alice/current/new", b"new")
    assert (guest / "etc/by-root").read_bytes() == b"new"
    assert (guest / "home/alice/releases/7/new").read_bytes() == b"new"


def test_a_link_that_is_not_followed_is_removed(guest: Path) -> None:
    """Whoever removes a name asks for nobody's target."""
    link(guest, "tmp/x", "/etc/secret")
    assert Tree(str(guest)).remove("/tmp/x")
    assert (guest / "etc/secret").exists()


def test_a_directory_that_is_swapped_for_a_link(guest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mode of a new directory is given to that directory, or to nothing."""
    secret = guest / "etc/secret"

    def swapped(name: str, mode: int, *, dir_fd: int) -> None:
        os.symlink(secret, name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", swapped)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        Tree(str(guest)).mkdir("/home/alice/new", 0o755)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
