"""A directory's default access list gives csagent's files to nobody (acl(5))."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Optional

import pytest

from csagent.system.seams import System
from csagent.system.tree import Tree
from csagent.user_data.log_file import PATH as LOG
from csagent.user_data.log_file import LogFile

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
SOMEBODY, NOBODY = 4242, 0xFFFFFFFF
# linux/posix_acl_xattr.h: version 2; tag, permissions, number: owner, a user, group, mask, others.
ENTRIES = [(1, 7, NOBODY), (2, 7, SOMEBODY), (4, 5, NOBODY), (16, 7, NOBODY), (32, 5, NOBODY)]
LIST = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *one) for one in ENTRIES)


def with_default(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    try:
        os.setxattr(directory, DEFAULT, LIST)
    except OSError:
        pytest.skip("no access lists on this file system")


def access_list(path: Path) -> Optional[bytes]:
    try:
        return os.getxattr(path, ACCESS)
    except OSError:
        return None


@pytest.mark.parametrize("keep", [False, True])
def test_what_is_written_is_not_given_on(tree: Path, keep: bool) -> None:
    """/etc/shadow, 0640: its group's right to read would be the mask of the user in the list."""
    with_default(tree / "etc")
    box = Tree(str(tree))
    assert box.write("/etc/shadow", b"root:EXAMPLE:1::::::\n", 0o640, keep=keep)
    assert box.write("/etc/new", b"EXAMPLE\n", 0o644)
    for name in ("shadow", "new"):
        assert access_list(tree / "etc" / name) is None
    assert (tree / "etc/shadow").stat().st_mode & 0o777 == 0o640


def test_a_list_of_the_files_own_stays(tree: Path) -> None:
    """What its owner has given on, is given on after a change."""
    with_default(tree / "etc")
    os.setxattr(tree / "etc/hosts", ACCESS, LIST)
    assert Tree(str(tree)).change("/etc/hosts", lambda text: text + b"10.1.1.1 a\n", 0o644, 1 << 16)
    assert access_list(tree / "etc/hosts") == LIST


def test_a_document_writes_as_its_author_would(tree: Path) -> None:
    """write_files goes by the directory's list, as with cloud-init."""
    with_default(tree / "srv")
    assert Tree(str(tree)).write("/srv/page", b"EXAMPLE\n", 0o640, inherit=True)
    assert access_list(tree / "srv/page") is not None


def test_a_new_log_of_user_data_is_not_given_on(system: System, tree: Path) -> None:
    """One that was there before keeps what its owner gave."""
    path = tree / LOG.lstrip("/")
    with_default(path.parent)
    os.close(LogFile(system).descriptor)
    assert access_list(path) is None
    os.setxattr(path, ACCESS, LIST)
    os.close(LogFile(system).descriptor)
    assert struct.pack("<HHI", *ENTRIES[1]) in (access_list(path) or b"")
